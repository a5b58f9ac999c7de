"""One ledger after the other: what a start reads, what it relies on, and what it hands on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from ledger_index import LedgerIndex
from places import Place, kept_ledger
from store_support import NOW, OTHER_WRITER, WRITER, begin, begin_killed, block_range, put, session_at

from kcl_receiver.errors import LedgerDamaged
from kcl_receiver.ids import block_id, writer_id
from kcl_receiver.ranges import Position
from kcl_receiver.store.layout import ledger_path
from kcl_receiver.store.ledger.entries import Closed, decode_ledger
from kcl_receiver.store.ledger.store_log import EMPTY, StoreLog, settled
from kcl_receiver.store.ledger.takeover import Takeover, take_over
from kcl_receiver.store.ledger.transaction import COMPACT, REPAIR, Transaction
from kcl_receiver.store.objects import Checked, Stat
from kcl_receiver.store.store import Store

THIRD_WRITER = writer_id(NOW + 120_000, "00000003")


@pytest.fixture
def store(place: Place) -> Store:
    return place()


class Curious(Checked):
    """Fails when a folder of ledgers, or all blocks, are listed."""

    def list(self, prefix: str, *, deep: bool = True) -> Iterator[Stat]:
        assert not prefix.startswith("ledger/2"), "ledgers were listed"
        assert prefix.count("/") != 1 or prefix == "log/", "all blocks were listed"
        return super().list(prefix, deep=deep)


def settle(store: Store, *needed: str) -> None:
    """Let no other closed ledgers be needed than these."""
    StoreLog(store).change(lambda state: settled(state, WRITER, NOW, needed, {}))


def closed(store: Store, writer: str) -> bool:
    return decode_ledger(writer, store.ledger(writer) or b"").is_closed


def close_all(store: Store, taken: Takeover) -> None:
    for ledger, last in taken.closing(store, THIRD_WRITER, NOW):
        ledger.append(last)


def test_the_first_writer_of_a_store_takes_nothing_over(store: Store) -> None:
    taken = take_over(store)
    assert (taken.state, taken.ledgers, taken.blocks, taken.to_close) == (EMPTY, {}, [], [])


def test_a_ledger_lies_in_the_month_in_which_its_writer_began(store: Store) -> None:
    begin(store, WRITER)
    begin(store, OTHER_WRITER)
    listed = [one.key for one in store.objects.list("ledger/")]
    assert listed == [f"ledger/2026-11/{writer}.jsonl" for writer in (WRITER, OTHER_WRITER)]
    assert listed == [ledger_path(WRITER), ledger_path(OTHER_WRITER)]


def test_whoever_begins_closes_the_ledger_before_and_the_log_says_so(store: Store) -> None:
    begin(store, WRITER)
    assert not closed(store, WRITER)
    begin(store, OTHER_WRITER)
    assert closed(store, WRITER)
    state = StoreLog(store).newest().state
    assert ([*state.living], state.kept, state.last) == ([OTHER_WRITER], (WRITER,), OTHER_WRITER)


def test_a_start_reads_the_ledgers_that_the_log_names_and_no_others(store: Store) -> None:
    begin(store, WRITER).append([put(store, 1, block_range(1, 2))])
    begin(store, OTHER_WRITER).append([put(store, 1, block_range(3, after=Position(2)), writer=OTHER_WRITER)])
    assert [*take_over(Store(Curious(store.objects))).ledgers] == [WRITER, OTHER_WRITER]
    settle(store)
    taken = take_over(Store(Curious(store.objects)))
    assert [*taken.ledgers] == taken.to_close == [OTHER_WRITER]
    assert [entry.block for entry in taken.blocks] == [block_id(OTHER_WRITER, 1)]
    assert len(LedgerIndex.load(store).blocks()) == 2


def test_a_block_that_a_killed_writer_could_not_record_is_recorded_in_its_own_ledger(store: Store) -> None:
    begin(store, WRITER).append([put(store, 1, block_range(1, 2))])
    late = put(store, 2, block_range(3, after=Position(2)))
    taken = take_over(Store(Curious(store.objects)))
    assert taken.adopted == {WRITER: [replace(late, time=0)]}
    assert late.block in {entry.block for entry in taken.blocks}
    close_all(store, taken)
    *_, recorded, last = decode_ledger(WRITER, store.ledger(WRITER) or b"").entries
    assert (recorded, last) == (replace(late, time=0), Closed(NOW, THIRD_WRITER))


def test_a_kept_ledger_that_is_gone_or_shorter_is_found_at_the_next_start(store: Store) -> None:
    begin(store, WRITER).append([session_at()])
    begin(store, OTHER_WRITER)
    kept = kept_ledger(store, WRITER)
    kept.write(b"".join(kept.read().splitlines(keepends=True)[:-1]))
    with pytest.raises(LedgerDamaged, match=f"writer {WRITER} was closed, and its end is not there: 3 lines"):
        take_over(store)
    kept.remove()
    with pytest.raises(LedgerDamaged, match=f"writer {WRITER} was closed, and nothing of it is there"):
        take_over(store)


def test_a_start_that_is_killed_is_followed_by_another_at_whatever_step(store: Store) -> None:
    begin(store, WRITER).append([put(store, 1, block_range(1, 2))])
    close_all(store, take_over(store))  # killed before the log says so
    assert (take_over(store).to_close, len(take_over(store).blocks)) == ([], 1)
    begin_killed(store, OTHER_WRITER)  # killed before its ledger has a line
    taken = take_over(store)
    assert (taken.to_close, len(taken.blocks)) == ([OTHER_WRITER], 1)
    begin(store, THIRD_WRITER)
    state = StoreLog(store).newest().state
    assert ([*state.living], state.kept) == ([THIRD_WRITER], (WRITER, OTHER_WRITER))
    assert closed(store, OTHER_WRITER)
    assert LedgerIndex.load(store).writers[OTHER_WRITER].number == 1


def test_where_the_log_is_gone_everything_is_read(store: Store) -> None:
    begin(store, WRITER).append([put(store, 1, block_range(1, 2))])
    begin(store, OTHER_WRITER).append([put(store, 1, block_range(3), writer=OTHER_WRITER)])
    lose_log(store)
    taken = take_over(store)
    assert ([*taken.state.living], taken.state.kept) == ([OTHER_WRITER], (WRITER,))
    assert sorted(entry.block for entry in taken.blocks) == [block_id(WRITER, 1), block_id(OTHER_WRITER, 1)]


def test_where_log_and_ledgers_are_gone_all_blocks_are_taken_over(store: Store) -> None:
    one = put(store, 1, block_range(1, 2))
    taken = take_over(store)
    assert (taken.adopted, [entry.block for entry in taken.blocks]) == ({}, [one.block])


def test_where_the_log_is_gone_blocks_that_no_ledger_names_are_held_and_left_to_repair(store: Store) -> None:
    ledger = begin(store, WRITER)
    early = put(store, 1, block_range(1, 2))
    ledger.append([early])
    begin(store, OTHER_WRITER)
    late = put(store, 2, block_range(9, 10))
    merge = Transaction(store, early.block, COMPACT, NOW)
    merged = put(store, 1, block_range(1, 2), writer=merge.writer)
    merge.add_block(merged, [early])
    merge.commit()
    lose_log(store)
    taken = take_over(store)
    assert sorted(taken.ledgers) == [WRITER, OTHER_WRITER]
    assert {entry.block for entry in taken.blocks} == {early.block, merged.block, late.block}
    assert taken.adopted == {OTHER_WRITER: []}


def test_a_block_that_repair_has_taken_in_is_held_and_not_adopted(store: Store) -> None:
    begin(store, WRITER)
    late = put(store, 2, block_range(3))
    repair = Transaction(store, late.block, REPAIR, NOW)
    repair.add_block(late, [])
    repair.commit()
    taken = take_over(store)
    assert taken.adopted == {WRITER: []}
    assert [entry.block for entry in taken.blocks] == [late.block]


def lose_log(store: Store) -> None:
    store.objects.delete([entry.key for entry in store.objects.list("log/")])


def test_a_writer_that_goes_on_after_its_ledger_was_closed_changes_nothing_in_it(place: Place) -> None:
    """It stood still between the look at its lock and the line, and the lock's file had been removed."""
    late = begin(place(), WRITER)
    store = place()
    on_its_way = put(store, 1, block_range(1, 2))
    begin(store, OTHER_WRITER)
    before = store.ledger(WRITER)
    with pytest.raises(LedgerDamaged):
        late.append([session_at()])
    assert store.ledger(WRITER) == before
    assert on_its_way.block in {entry.block for entry in take_over(place()).blocks}
