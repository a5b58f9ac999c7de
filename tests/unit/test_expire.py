"""What is old is removed, the ledger says so first, and nothing that is younger goes with it."""

from __future__ import annotations

import pytest
from maintenance_support import (
    DAY,
    HOUR,
    LATER,
    OTHER_WRITER,
    WRITER,
    counted,
    fill,
    part,
    present,
    read_all,
    run,
    usual,
)
from places import Place, kept_ledger
from store_support import NOW, begin, columns_of, put, range_of, session_at

from kcl_receiver.errors import LedgerDamaged
from kcl_receiver.generator.presence import present_ranges
from kcl_receiver.ids import writer_id
from kcl_receiver.maintenance.expire import Expiry
from kcl_receiver.store.blocks.encode import BlockRange
from kcl_receiver.store.ledger.entries import BlockStored
from kcl_receiver.store.ledger.transaction import Transaction, load_day
from kcl_receiver.store.store import Store


def expire(store: Store, before: int, now: int = LATER) -> int:
    store.hold_maintenance()
    return sum(day.blocks for day in Expiry(store, before, now).run(now))


def expired(store: Store, day: str = DAY) -> set[str]:
    return set(load_day(store, day).expired)


def test_a_block_goes_when_all_its_records_arrived_before(quick_place: Place) -> None:
    store = quick_place()
    entries = fill(store, usual(3))  # block n has records 5n + 1 to 5n + 5, which arrived that many ms after NOW
    assert expire(store, NOW + 10) == 1
    assert present(store) == {entries[1].block, entries[2].block}
    assert expire(store, NOW + 11) == 1
    assert present(store) == {entries[2].block}
    assert expired(store) == {entries[0].block, entries[1].block}
    (first, second) = sorted({one.before for one in load_day(store, DAY).expired.values()})
    assert (first, second) == (NOW + 10, NOW + 11)


def test_looking_changes_nothing(quick_place: Place) -> None:
    store = quick_place()
    fill(store, usual(3))
    (day,) = Expiry(store, NOW + 11).plan()
    assert (day.day, day.blocks, day.records, day.missing) == (DAY, 2, 20, 0)
    assert (day.arrival_first, day.arrival_last) == (NOW + 1, NOW + 10)
    assert day.size == sum(size for block, size in sorted(store.list_blocks())[:2])
    assert len(present(store)) == 3
    assert store.maintenance_days() == []


def test_a_second_time_there_is_nothing_to_do(quick_place: Place) -> None:
    store = quick_place()
    fill(store, usual(3))
    assert expire(store, NOW + 10) == 1
    ledgers = len(list(store.maintenance_ledgers(DAY)))
    assert expire(store, NOW + 10) == 0
    assert len(list(store.maintenance_ledgers(DAY))) == ledgers


def test_a_block_of_which_an_arrival_is_unknown_stays(quick_place: Place) -> None:
    store = quick_place()
    columns = columns_of([(1, 0, b"k", -1, b"d"), (2, 0, b"k", NOW, b"d")])
    fill(store, [[BlockRange(range_of(columns), columns)], [part(1, 1, 3)]])
    assert expire(store, NOW + HOUR) == 1
    assert len(present(store)) == 1


@pytest.mark.parametrize("count", [3, 300], ids=["few", "many"])
@pytest.mark.parametrize("between", [NOW, -1], ids=["younger", "unknown"])
def test_a_block_whose_ends_alone_are_old_stays(quick_place: Place, between: int, count: int) -> None:
    old = NOW - 100 * 24 * HOUR
    rows = [(n, 0, b"k", between if n == 2 else old + n, b"d") for n in range(1, count + 1)]
    columns = columns_of(rows)
    store = quick_place()
    (entry,) = fill(store, [[BlockRange(range_of(columns), columns)]])
    before = NOW - 90 * 24 * HOUR
    assert expire(store, before) == 0
    run(store)
    assert present(store) == {entry.block}
    if between == NOW:
        assert expire(store, NOW + 1) == 1


def test_a_compacted_block_keeps_when_all_its_records_arrived(quick_place: Place) -> None:
    store = quick_place()
    rows = [[(n, 0, b"k", NOW if n == 2 else NOW - 100 * 24 * HOUR, b"d") for n in range(f, f + 3)] for f in (1, 4)]
    ranges = [BlockRange(range_of(columns_of(each)), columns_of(each)) for each in rows]
    fill(store, [[one] for one in ranges])
    run(store)
    assert len(present(store)) == 1
    assert expire(store, NOW) == 0
    assert expire(store, NOW + 1) == 1


def test_with_a_compacted_block_go_those_that_it_replaced(quick_place: Place) -> None:
    store = quick_place()
    entries = fill(store, usual(3))
    run(store)
    (new,) = present(store)
    assert expire(store, NOW + 15) == 0
    assert expired(store) == set()
    assert expire(store, NOW + 16) == 1
    assert expired(store) == {new, *(one.block for one in entries)}
    assert counted(store) == []


def test_a_block_stays_as_long_as_one_that_it_replaced_had_younger_records(quick_place: Place) -> None:
    # A recovery brought back one range of two. If its block went, that range would count as lost.
    store = quick_place()
    (old,) = fill(store, [[part(0, 1, 5), part(1, 100, 5)]])
    transaction = Transaction(store, old.block, "recover", LATER)
    block = transaction.next_block_id()
    number = int(block.rpartition("-")[2])
    entry = put(store, number, part(0, 1, 5), writer=transaction.writer)
    transaction.add_block(entry, [old])
    transaction.commit()
    store.delete_block(old.block)
    assert expire(store, NOW + 50) == 0
    assert expire(store, NOW + 105) == 1
    assert expired(store) == {old.block, block}


def test_a_block_that_is_missing_already_is_expired_with_the_others_of_its_day(quick_place: Place) -> None:
    store = quick_place()
    entries = fill(store, usual(3))
    store.delete_block(entries[0].block)
    (day,) = Expiry(store, NOW + 11).plan()
    assert (day.blocks, day.missing) == (1, 1)
    expire(store, NOW + 11)
    assert expired(store) == {entries[0].block, entries[1].block}


def test_a_block_that_is_in_no_ledger_stays(quick_place: Place) -> None:
    store = quick_place()
    fill(store, usual(1))
    strange = put(store, 77, part(0, 1, 5))
    assert expire(store, NOW + HOUR) == 1
    assert present(store) == {strange.block}


def test_a_block_that_a_later_writer_took_in_goes(quick_place: Place) -> None:
    store = quick_place()
    fill(store, [[part(0, 1, 5)]])
    late = put(store, 77, part(1, 1, 5))
    begin(store, writer_id(NOW + 48 * HOUR, "00000003"))
    assert expire(store, NOW + HOUR, NOW + 100 * HOUR) == 2
    assert late.block in expired(store)


def test_days_that_can_hold_nothing_so_old_are_not_looked_at(
    quick_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = quick_place()
    fill(store, usual(1))
    fill(store, usual(1), writer_id(NOW + 72 * HOUR, "00000003"))  # late by more than the stream's retention of 24 h
    looked: list[str] = []
    real = store.maintenance_entries

    def listed(day: str) -> object:
        looked.append(day)
        return real(day)

    monkeypatch.setattr(store, "maintenance_entries", listed)
    assert sum(day.blocks for day in Expiry(store, NOW + 10, NOW + 80 * HOUR).plan()) == 1
    assert set(looked) == {DAY}


def test_a_day_that_is_still_to_come_is_looked_at_because_a_clock_was_wrong(quick_place: Place) -> None:
    store = quick_place()
    fill(store, usual(1), writer_id(NOW + 3650 * 24 * HOUR, "00000003"))
    assert [day.blocks for day in Expiry(store, NOW + 10, NOW + 80 * HOUR).plan()] == [1]
    assert expire(store, NOW - 10) == 0
    assert expire(store, NOW + 10, NOW + 80 * HOUR) == 1


def test_nothing_of_a_day_goes_while_its_ledger_is_damaged(quick_place: Place) -> None:
    store = quick_place()
    fill(store, usual(2))
    kept = kept_ledger(store, WRITER)
    kept.flip(len(kept.read()) // 2, 1)
    with pytest.raises(LedgerDamaged):
        expire(store, NOW + HOUR)
    assert len(present(store)) == 2


def test_what_was_expired_is_not_held_so_that_a_lease_that_is_reset_stores_it_again(quick_place: Place) -> None:
    store = quick_place()
    entries = fill(store, usual(2))
    run(store)
    ranges = {one.block: [each for each in one.ranges if each.shard.endswith("0")] for one in entries}
    assert len(present_ranges(store, ranges)) == 2
    expire(store, NOW + HOUR)
    assert present_ranges(store, ranges) == []


def test_an_expired_block_that_is_still_there_is_not_held(quick_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store = quick_place()
    entries = fill(store, usual(2))
    ranges = {one.block: [each for each in one.ranges if each.shard.endswith("0")] for one in entries}

    def killed(_blocks: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store, "delete_blocks", killed)
        with pytest.raises(KeyboardInterrupt):
            expire(store, NOW + 6)
    assert len(present(store)) == 2
    assert present_ranges(store, ranges) == ranges[entries[1].block]
    assert expire(store, NOW + 6) == 0  # it was expired already, and is only to be deleted
    assert Expiry(store, NOW + 6).finish() == 1
    assert present_ranges(store, ranges) == ranges[entries[1].block]


def test_what_is_held_is_not_read_from_a_damaged_ledger(quick_place: Place) -> None:
    store = quick_place()
    entries = fill(store, usual(2))
    ranges = {one.block: [each for each in one.ranges if each.shard.endswith("0")] for one in entries}
    expire(store, NOW + 6)
    ((writer, _),) = store.maintenance_ledgers(DAY)
    kept_ledger(store, writer).flip(-5, 1)
    assert present_ranges(store, ranges) == []


def test_the_rest_is_read_as_before(quick_place: Place) -> None:
    store = quick_place()
    fill(store, usual(4))
    before = read_all(store)
    expire(store, NOW + 11)
    after = read_all(store)
    assert after == {key: data for key, data in before.items() if key[3] > 10}


def test_the_longest_retention_that_a_session_named_is_known(quick_place: Place) -> None:
    store = quick_place()
    ledger = begin(store, OTHER_WRITER)
    entry: BlockStored = put(store, 1, part(0, 1, 5), writer=OTHER_WRITER)
    ledger.append([session_at(retention_hours=48), session_at(retention_hours=168), entry])
    expiry = Expiry(store, NOW)
    assert list(expiry.plan()) == []
    assert expiry.retention_hours == 168
