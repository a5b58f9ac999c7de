"""Many small blocks become few large ones, and every reader finds what it found before."""

from __future__ import annotations

import dataclasses

import pytest
from maintenance_support import (
    DAY,
    HOUR,
    LATER,
    OTHER_WRITER,
    SMALL,
    STREAM,
    WRITER,
    counted,
    fill,
    part,
    present,
    read_all,
    replaced_by,
    run,
    usual,
)
from places import Place, kept_block
from store_support import NOW, begin, put

from kcl_receiver.audit.verify import verify_store
from kcl_receiver.errors import StoreUnavailable
from kcl_receiver.ids import writer_id
from kcl_receiver.maintenance import compact as module
from kcl_receiver.maintenance.compact import Options, _Fact, compact, plan
from kcl_receiver.ranges import StreamIdentity
from kcl_receiver.store.blocks.file import read_footer
from kcl_receiver.store.ledger.entries import BlockStored, Expired
from kcl_receiver.store.ledger.reading import Ledger
from kcl_receiver.store.ledger.transaction import COMPACT, EXPIRE, Transaction, content_of
from kcl_receiver.store.store import Store


def test_small_blocks_become_one_with_the_same_ranges_and_records(quick_place: Place) -> None:
    store = quick_place()
    entries = fill(store, usual())
    before = read_all(store)
    (report,) = run(store)
    (block,) = present(store)
    assert read_all(store) == before
    assert (report.day, report.blocks_before, report.blocks_after, report.merged, report.made) == (DAY, 6, 1, 6, 1)
    assert report.size_after == dict(store.list_blocks())[block]
    footer = read_footer(store, block)
    assert set(map(content_of, footer.ranges)) == {content_of(one) for entry in entries for one in entry.ranges}
    assert list(footer.ranges) == sorted(footer.ranges, key=lambda one: (one.shard, one.first))
    assert all(replaced_by(store, entry.block) == (block,) for entry in entries)
    assert block.startswith(WRITER[:16])


def test_nothing_is_changed_by_a_dry_run_and_it_says_what_would_be(quick_place: Place) -> None:
    store = quick_place()
    fill(store, usual())
    blocks = present(store)
    (report,) = run(store, dataclasses.replace(SMALL, dry_run=True))
    assert present(store) == blocks
    assert store.maintenance_days() == []
    assert (report.blocks_before, report.blocks_after, report.merged, report.made) == (6, 1, 6, 1)
    run(store)  # a dry run holds nothing


def test_verify_finds_all_proven_afterwards_too(quick_place: Place) -> None:
    store = quick_place()
    fill(store, [[part(0, 1 + 5 * number, 5)] for number in range(8)])
    store.claim("landing")
    before = verify_store(store, deep=True)
    run(store)
    after = verify_store(store, deep=True)
    assert len(present(store)) == 1
    assert (after.proven, after.missing, after.damaged, after.orphans) == (before.proven, [], {}, [])
    assert sum(one.records for one in after.shards) == sum(one.records for one in before.shards) == 40


def test_only_one_at_a_time_changes_blocks(locking_place: Place) -> None:
    first, second = locking_place(), locking_place()
    fill(first, usual())
    run(first)
    with pytest.raises(StoreUnavailable, match="maintenance"):
        run(second)


def test_young_blocks_are_left_alone(quick_place: Place) -> None:
    store = quick_place()
    fill(store, usual())
    assert run(store, now=NOW + HOUR - 1) == []
    assert len(run(store, now=NOW + HOUR)) == 1


def test_blocks_of_two_streams_are_never_put_together(quick_place: Place) -> None:
    store = quick_place()
    fill(store, usual(2))
    fill(store, usual(2), OTHER_WRITER, StreamIdentity(STREAM.arn, STREAM.created + 1))
    before = read_all(store)
    run(store)
    assert len(present(store)) == 2
    assert {read_footer(store, block).stream for block in present(store)} == {
        STREAM,
        StreamIdentity(STREAM.arn, STREAM.created + 1),
    }
    assert read_all(store) == before


def test_blocks_of_two_days_are_never_put_together(quick_place: Place) -> None:
    store = quick_place()
    fill(store, usual(2))
    fill(store, usual(2), writer_id(NOW + 24 * HOUR, "00000009"))
    reports = run(store, now=NOW + 48 * HOUR)
    assert [report.blocks_after for report in reports] == [1, 1]
    assert len(present(store)) == 2


@pytest.mark.parametrize(
    ("since", "before", "days"),
    [("", "", 2), ("2026-11-23", "", 1), ("", "2026-11-23", 1), ("2026-11-24", "", 0), ("", "2026-11-22", 0)],
)
def test_only_the_days_that_were_asked_for_are_changed(quick_place: Place, since: str, before: str, days: int) -> None:
    store = quick_place()
    fill(store, usual(2))
    fill(store, usual(2), writer_id(NOW + 24 * HOUR, "00000009"))
    asked = dataclasses.replace(SMALL, since=since, before=before)
    assert len(run(store, asked, now=NOW + 48 * HOUR)) == days


def test_the_same_range_in_two_blocks_is_carried_once(quick_place: Place) -> None:
    store = quick_place()
    fill(store, [[part(0, 1, 5)], [part(0, 1, 5), part(0, 6, 5)]])
    run(store)
    (block,) = present(store)
    assert [len(found) for found in read_all(store).values()] == [1] * 10
    assert len(read_footer(store, block).ranges) == 2


def test_ranges_that_overlap_and_are_not_the_same_are_both_carried(quick_place: Place) -> None:
    store = quick_place()
    fill(store, [[part(0, 1, 5)], [part(0, 1, 4)], [part(0, 1, 5, session="s2")]])
    before = read_all(store)
    run(store)
    (block,) = present(store)
    assert len(read_footer(store, block).ranges) == 3
    assert read_all(store) == before


def test_a_second_run_has_nothing_to_do(quick_place: Place) -> None:
    store = quick_place()
    fill(store, usual(40))
    run(store, Options(target_bytes=20_000))
    ledgers = list(store.maintenance_ledgers(DAY))
    for hours in range(3, 8):
        now = NOW + hours * HOUR
        if not run(store, Options(target_bytes=20_000), now):
            break
    else:
        pytest.fail("it never comes to an end")
    assert len(list(store.maintenance_ledgers(DAY))) <= len(ledgers) + 2


def test_what_was_merged_is_merged_again_with_what_came_since_and_the_old_still_leads_there(quick_place: Place) -> None:
    store = quick_place()
    (oldest, *_) = fill(store, usual(3))
    run(store)
    fill(store, [[part(shard, 100 + 5 * number, 5) for shard in range(2)] for number in range(4)], OTHER_WRITER)
    before = read_all(store)
    run(store, now=LATER + HOUR)
    (block,) = present(store)
    assert replaced_by(store, oldest.block) == (block,)
    assert read_all(store) == before


# Damage


def last_of_rows(content: bytes) -> int:
    """Return where the last byte of a block's pages is: not every byte of a footer means something."""
    return len(content) - 9 - int.from_bytes(content[-8:-4], "little")


def damage(store: Store, block: str) -> None:
    kept = kept_block(store, block)
    kept.flip(last_of_rows(kept.read()), 0xFF)


def rename(store: Store, old: str, new: str) -> None:
    kept_block(store, new).write(store.read_block(old))


@pytest.mark.parametrize("slab_bytes", [1, 128 * 2**20])
def test_a_damaged_block_is_named_and_left_alone_and_the_others_are_merged(
    quick_place: Place, slab_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module.merge_blocks
    monkeypatch.setattr(module, "merge_blocks", lambda *arguments: real(*arguments, slab_bytes))
    store = quick_place()
    entries = fill(store, usual())
    damage(store, entries[1].block)
    damage(store, entries[4].block)
    (report,) = run(store)
    assert set(report.damaged) == {entries[1].block, entries[4].block}
    assert len(present(store)) == 3
    assert {entries[1].block, entries[4].block} < present(store)
    assert replaced_by(store, entries[1].block) == ()
    assert all(len(replaced_by(store, entries[n].block)) == 1 for n in (0, 2, 3, 5))


def test_a_block_under_the_name_of_another_is_damaged(quick_place: Place) -> None:
    store = quick_place()
    entries = fill(store, usual(3))
    rename(store, entries[0].block, entries[1].block)
    (report,) = run(store)
    assert set(report.damaged) == {entries[1].block}


def test_what_only_an_expired_block_holds_is_not_deleted_with_it(quick_place: Place) -> None:
    store = quick_place()
    old = fill(store, usual(2))
    compaction = Transaction(store, old[0].block, COMPACT, LATER)
    block = compaction.next_block_id()
    new = put(store, int(block[-12:]), *(one for each in usual(2) for one in each), writer=compaction.writer)
    compaction.add_block(new, old)
    compaction.commit()  # killed before it deleted the old ones
    expiry = Transaction(store, old[0].block, EXPIRE, LATER)
    expiry.add_expired(Expired(LATER, NOW, (new.block,)))
    expiry.commit()
    run(store)
    assert present(store) == {one.block for one in old}


def test_one_good_block_among_damaged_ones_is_left_alone(quick_place: Place) -> None:
    store = quick_place()
    entries = fill(store, usual(2))
    damage(store, entries[0].block)
    (report,) = run(store)
    assert report.made == 0
    assert present(store) == {one.block for one in entries}
    assert store.maintenance_days() == []


def test_a_block_that_is_in_no_ledger_is_left_to_the_generator(quick_place: Place) -> None:
    store = quick_place()
    entries = fill(store, usual(3))
    strange = put(store, 99, part(1, 500, 5))
    run(store)
    assert len(present(store)) == 2
    assert strange.block in present(store)
    assert not {one.block for one in entries} & present(store)


# What goes together


def fact(number: int, weight: int) -> _Fact:
    return _Fact(f"{number:04d}", weight, weight, 1)


def weights(groups: list[list[_Fact]]) -> list[list[int]]:
    return [[one.weight for one in group] for group in groups]


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ([], []),
        ([10], []),
        ([10, 10], [[10, 10]]),
        ([50, 99, 50, 10], []),
        ([49, 49, 49, 49], [[49, 49], [49, 49]]),
        ([49, 49, 49], [[49, 49]]),
        ([10] * 25, [[10] * 10, [10] * 10, [10] * 5]),
        ([40, 1, 1, 1], [[1, 1, 1]]),
        ([1, 1, 40, 1], [[1, 1, 1]]),
        ([40, 19], []),
        ([40, 20], [[40, 20]]),
        ([40, 10, 4], []),
        ([40, 10, 5], [[10, 5]]),
        ([40, 10, 5, 5], [[40, 10, 5, 5]]),
        ([49, 60, 49], [[49, 49]]),
    ],
)
def test_what_is_worth_the_work(sizes: list[int], groups: list[list[int]]) -> None:
    assert weights(plan([fact(*one) for one in enumerate(sizes)], 100)) == groups


def test_a_record_is_written_again_as_often_as_its_block_can_grow_by_half() -> None:
    sizes: list[int] = []
    written = 0
    for _ in range(1000):
        sizes.append(1)
        for group in weights(plan([fact(*one) for one in enumerate(sizes)], 1000)):
            for size in group:
                sizes.remove(size)
            sizes.append(sum(group))
            written += sum(group)
    assert written <= 1000 * 15  # log(500) to the base 1.5
    assert len(sizes) <= 15


def test_many_ranges_make_a_block_large_whatever_its_bytes(quick_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RANGES", 8)
    store = quick_place()
    fill(store, usual(12))  # two ranges each
    run(store, Options(target_bytes=10_000_000))
    assert [len(read_footer(store, block).ranges) for block in sorted(present(store))] == [8, 8, 8]
    assert run(store, Options(target_bytes=10_000_000), LATER + 2 * HOUR) == []


def test_a_transaction_ends_after_some_groups(quick_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GROUPS_AT_ONCE", 2)
    store = quick_place()
    entries = fill(store, usual(20))
    before = read_all(store)
    target = 4 * entries[0].size
    (report,) = run(store, Options(target_bytes=target + 100))
    assert report.made == 5
    assert len(list(store.maintenance_ledgers(DAY))) == 3
    assert read_all(store) == before
    assert len(counted(store)) == 5


# Giving way


def test_compaction_ends_when_other_maintenance_asks_for_the_store(
    locking_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GROUPS_AT_ONCE", 1)
    fill(locking_place(), usual(6))
    before = read_all(locking_place())
    asked: list[object] = []

    def ask(at: object) -> None:
        if not asked:
            with pytest.raises(StoreUnavailable, match="other maintenance"):
                locking_place().hold_maintenance()
        asked.append(at)

    two_each = Options(target_bytes=5_000)
    (report,) = compact(locking_place(), two_each, LATER, ask)
    assert (report.gave_way, report.made, len(asked)) == (True, 1, 1)
    locking_place.end_processes()  # its process ends
    other = locking_place()
    other.hold_maintenance()
    with pytest.raises(StoreUnavailable, match="other maintenance"):
        list(compact(locking_place(), two_each, LATER))  # it does not ask: what others hold goes first
    assert not other.is_asked_for()
    locking_place.end_processes()
    (report,) = compact(locking_place(), two_each, LATER)
    assert (report.gave_way, report.made) == (False, 2)
    assert read_all(locking_place()) == before
    assert list(locking_place().list_leftovers()) == []


def test_compaction_does_not_give_way_to_what_asked_before_it_began(locking_place: Place) -> None:
    store = locking_place()
    fill(store, usual(6))
    store.hold_maintenance()
    with pytest.raises(StoreUnavailable):
        locking_place().hold_maintenance()
    locking_place.end_processes()
    (report,) = run(locking_place())
    assert not report.gave_way


def test_a_start_without_the_log_records_nothing_again(quick_place: Place) -> None:
    store = quick_place()
    fill(store, usual())
    run(store)
    run(store, now=LATER + HOUR)
    before = read_all(store)
    store.objects.delete([one.key for one in store.objects.list("log/")])
    begin(store, OTHER_WRITER)
    assert not [one for one in Ledger(store).of(OTHER_WRITER) if isinstance(one, BlockStored)]
    assert read_all(store) == before
