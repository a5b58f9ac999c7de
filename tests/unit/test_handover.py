"""One ledger after the other: what a start reads, what it relies on, and what it hands on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ledger_index import LedgerIndex
from places import Place, kept_ledger
from store_support import NOW, OTHER_WRITER, WRITER, begin, block_range, put, session_at

from kcl_receiver.errors import LedgerDamaged
from kcl_receiver.ids import block_id, writer_id
from kcl_receiver.ranges import Position
from kcl_receiver.store.layout import ledger_path
from kcl_receiver.store.ledger.takeover import take_over
from kcl_receiver.store.objects import Checked, Stat
from kcl_receiver.store.store import Store

THIRD_WRITER = writer_id(NOW + 120_000, "00000003")


@pytest.fixture
def store(place: Place) -> Store:
    return place()


class Curious(Checked):
    """Fails when all sealed ledgers, or all blocks, are listed."""

    def list(self, prefix: str, *, deep: bool = True) -> Iterator[Stat]:
        assert not prefix.startswith("ledger/sealed/"), "sealed ledgers were listed"
        assert prefix.count("/") != 1 or prefix == "ledger/", "all blocks were listed"
        return super().list(prefix, deep=deep)


def test_the_first_writer_of_a_store_takes_nothing_over(store: Store) -> None:
    taken = take_over(store)
    assert (taken.tails, taken.carried, taken.blocks, taken.to_seal, taken.lost) == ({}, [], [], [], False)


def test_a_sealed_ledger_lies_in_the_month_in_which_its_writer_began(store: Store) -> None:
    begin(store, WRITER)
    begin(store, OTHER_WRITER)
    listed = [one.key for one in store.objects.list("ledger/")]
    assert listed == [ledger_path(OTHER_WRITER), f"ledger/sealed/2026-11/{WRITER}.jsonl"]


def test_a_start_reads_the_open_ledgers_and_those_that_they_name_and_no_others(store: Store) -> None:
    first = begin(store, WRITER)
    first.append([put(store, 1, block_range(1, 2))])
    begin(store, OTHER_WRITER).append(
        [put(store, 1, block_range(3, after=Position(2)), writer=OTHER_WRITER)]
    )
    taken = take_over(Store(Curious(store.objects)))
    assert list(taken.tails) == [OTHER_WRITER]
    assert [entry.block for entry in taken.blocks] == [block_id(OTHER_WRITER, 1)]
    assert len(LedgerIndex.load(store).blocks()) == 2


def test_a_block_of_the_ledger_before_that_nobody_recorded_is_adopted(store: Store) -> None:
    """It was on its way while the ledger changed."""
    begin(store, WRITER).append([put(store, 1, block_range(1, 2))])
    begin(store, OTHER_WRITER)
    late = put(store, 2, block_range(3, after=Position(2)))
    assert [entry.block for entry in take_over(Store(Curious(store.objects))).adopted] == [late.block]


def test_a_block_of_the_ledger_before_that_the_next_one_records_is_not_adopted(store: Store) -> None:
    begin(store, WRITER)
    late = put(store, 2, block_range(3))
    ledger = begin(store, OTHER_WRITER)
    ledger.append([late])
    assert take_over(store).adopted == []


def test_a_sealed_ledger_that_is_gone_or_shorter_is_found_at_the_next_start(store: Store) -> None:
    begin(store, WRITER).append([session_at()])
    begin(store, OTHER_WRITER)
    kept = kept_ledger(store, WRITER)
    lines = kept.read().splitlines(keepends=True)
    kept.write(b"".join(lines[:-1]))
    with pytest.raises(LedgerDamaged, match=f"line 3 of the ledger of writer {WRITER}"):
        take_over(store)
    kept.remove()
    with pytest.raises(LedgerDamaged, match=f"line 3 of the ledger of writer {WRITER}"):
        take_over(store)


def test_a_ledger_that_was_named_and_not_yet_sealed_is_sealed_by_the_next(store: Store) -> None:
    begin(store, WRITER)
    begin(store, OTHER_WRITER)
    taken = take_over(store)
    assert taken.to_seal == [WRITER, OTHER_WRITER]
    assert list(taken.tails) == [OTHER_WRITER]


@pytest.mark.parametrize("lines", [1, 2])
def test_what_a_writer_names_that_was_killed_within_its_first_lines_is_taken_over_by_the_next(
    store: Store, lines: int
) -> None:
    begin(store, WRITER)
    begin(store, OTHER_WRITER)
    # It was on its way while the ledger changed, and its generator was killed before it was recorded.
    entry = put(store, 1, block_range(1, 2))
    begin(store, THIRD_WRITER)
    kept = kept_ledger(store, THIRD_WRITER)
    kept.write(b"".join(kept.read().splitlines(keepends=True)[:lines]))
    taken = take_over(store)
    assert set(taken.tails) == {OTHER_WRITER, THIRD_WRITER}
    assert [one.block for one in taken.blocks] == [entry.block]
    assert len(taken.adopted) == (1 if lines == 1 else 0)


def test_where_open_ledgers_are_gone_everything_is_read(store: Store) -> None:
    begin(store, WRITER).append([put(store, 1, block_range(1, 2))])
    begin(store, OTHER_WRITER)
    kept_ledger(store, OTHER_WRITER).remove()
    taken = take_over(store)
    assert [entry.block for entry in taken.blocks] == [block_id(WRITER, 1)]
    assert not taken.lost


def test_where_the_whole_ledger_is_gone_all_blocks_are_adopted(store: Store) -> None:
    put(store, 1, block_range(1, 2))
    taken = take_over(store)
    assert taken.lost
    assert [entry.block for entry in taken.adopted] == [block_id(WRITER, 1)]
