"""A lease that was set back by months: what is held is found in pages, whatever the order in which it was stored."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import NewPlace, Place, kept_ledger
from store_support import NOW, SHARD, STREAM, begin, block_range, plain_range, put

from kcl_receiver.errors import LedgerDamaged
from kcl_receiver.generator.lookback import LookBack
from kcl_receiver.ids import block_id, writer_id
from kcl_receiver.ranges import TRIM_HORIZON, After, Position
from kcl_receiver.store.ledger.entries import BlockStored
from kcl_receiver.store.ledger.writer import LedgerWriter
from kcl_receiver.store.store import Store

DAY = 86_400_000


def lake(store: Store, days: list[list[tuple[int, int]]], said: Callable[[int], int] | None = None) -> Store:
    """Fill a store with a ledger for each day; a block for each range, and another shard in each block.

    Args:
        store: It is empty.
        days: First and last position of the ranges of each.
        said: Gives the newest arrival that a day's ledger notes of those before it; it is not known without.
    """
    for number, spans in enumerate(days):
        writer = writer_id(NOW + number * DAY, f"{number:08x}")
        ledger = begin(store, writer, newest_before=-1 if said is None else said(number))
        for at, (first, last) in enumerate(spans, 1):
            both = (block_range(*{first: 0, last: 0}), block_range(first, shard="shardId-other"))
            ledger.append([put(store, at, *both, writer=writer)])
    return store


def pages(back: LookBack) -> list[list[tuple[int, int]]]:
    out = []
    while True:
        page = back.next_page()
        out.append([(one.first.sequence_number, one.last.sequence_number) for one in page.held])
        assert all(one.first <= (page.known_to or one.first) for one in page.held)
        if page.known_to is None:
            return out


def look_back(store: Store, after: After, page: int, oldest: int = 0) -> LookBack:
    return LookBack(store, STREAM, SHARD, after, oldest, page)


def test_pages_follow_each_other_in_the_order_of_the_stream(quick_place: Place) -> None:
    store = lake(quick_place(), [[(1, 2), (5, 6)], [(3, 4), (7, 8)], [(9, 10)]])
    assert pages(look_back(store, TRIM_HORIZON, 2)) == [[(1, 2), (3, 4)], [(5, 6), (7, 8)], [(9, 10)]]
    assert pages(look_back(store, Position(4), 2)) == [[(5, 6), (7, 8)], [(9, 10)]]
    assert pages(look_back(store, Position(10), 2)) == [[]]


@settings(max_examples=50)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 40), st.integers(0, 5)), max_size=6).map(
            lambda spans: [(first, first + more) for first, more in spans]
        ),
        min_size=1,
        max_size=5,
    ),
    st.integers(0, 40),
    st.integers(1, 7),
)
def test_all_pages_together_are_all_ranges_past_the_position_each_once(
    new_quick_place: NewPlace, days: list[list[tuple[int, int]]], after: int, page: int
) -> None:
    found = pages(look_back(lake(new_quick_place()(), days), Position(after), page))
    assert all(len(one) <= page for one in found)
    every = [span for one in found for span in one]
    assert every == sorted(span for day in days for span in day if span[1] > after)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 4)), min_size=1, max_size=15), st.integers(1, 4))
def test_what_begins_before_the_next_page_is_known(
    new_quick_place: NewPlace, spans: list[tuple[int, int]], page: int
) -> None:
    ranges = sorted((first, first + more) for first, more in spans)
    back = look_back(lake(new_quick_place()(), [ranges]), TRIM_HORIZON, page)
    known: set[tuple[int, int]] = set()
    while True:
        found = back.next_page()
        known |= {(one.first.sequence_number, one.last.sequence_number) for one in found.held}
        if found.known_to is None:
            break
        assert {one for one in ranges if Position(one[0]) < found.known_to} <= known
    assert known == set(ranges)


def test_a_later_page_reads_only_the_ledgers_that_reach_into_it(
    quick_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = lake(quick_place(), [[(10 * day + at, 10 * day + at) for at in range(4)] for day in range(1, 9)])
    reads: list[str] = []
    real = store.ledger
    monkeypatch.setattr(store, "ledger", lambda writer: (reads.append(writer), real(writer))[1])
    back = look_back(store, TRIM_HORIZON, 4)
    back.next_page()
    assert len(reads) == 8
    for _ in range(7):
        reads.clear()
        back.next_page()
        assert len(reads) <= 2


def test_ledgers_whose_records_the_stream_cannot_hold_any_more_are_left_out(
    quick_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the ledgers noted it when they began, by the service's clock; the host's was wrong by a year."""
    store = lake(quick_place(), [[(1, 2)], [(3, 4)], [(5, 6)], [(7, 8)]], said=lambda day: NOW + 365 * DAY + day * DAY)
    reads: list[str] = []
    real = store.ledger
    monkeypatch.setattr(store, "ledger", lambda writer: (reads.append(writer), real(writer))[1])
    assert pages(look_back(store, TRIM_HORIZON, 10, NOW + 367 * DAY)) == [[(3, 4), (5, 6), (7, 8)]]
    assert len(reads) == 3
    assert pages(look_back(store, TRIM_HORIZON, 10, NOW + 365 * DAY)) == [[(1, 2), (3, 4), (5, 6), (7, 8)]]
    assert pages(look_back(lake(quick_place("other"), [[(1, 2)], [(3, 4)]]), TRIM_HORIZON, 10, NOW + 365 * DAY)) == [
        [(1, 2), (3, 4)]
    ]


def test_the_arrival_of_the_position_is_known_with_the_first_page(quick_place: Place) -> None:
    store = lake(quick_place(), [[(1, 4)], [(5, 6)]])
    back = look_back(store, Position(3), 1)
    back.next_page()
    assert back.arrival is not None
    nowhere = look_back(store, Position(7), 1)
    nowhere.next_page()
    assert nowhere.arrival is None


def test_a_page_that_failed_is_the_same_when_it_is_asked_for_again(quick_place: Place) -> None:
    store = lake(quick_place(), [[(1, 2), (3, 4)], [(5, 6)]])
    back = look_back(store, TRIM_HORIZON, 2)
    back.next_page()
    (ledger,) = [name for name in store.writers() if name.endswith("1")]
    kept = kept_ledger(store, ledger)
    good = kept.read()
    kept.flip(len(good) // 2, 1)
    with pytest.raises(LedgerDamaged):
        back.next_page()
    kept.write(good)
    assert [(one.first.sequence_number) for one in back.next_page().held] == [5]


def peak_of_a_page(store: Store, days: int) -> int:
    """Return the bytes that the first page of a store of so many days took at most."""
    for day in range(days):
        writer = writer_id(NOW + day * DAY, f"{day:08x}")
        entries = [
            BlockStored(
                block_id(writer, at), STREAM, (plain_range(1000 * day + 2 * at, 1000 * day + 2 * at + 1),), 1, 1, NOW
            )
            for at in range(300)
        ]
        LedgerWriter(store, writer).append(entries)
    back = look_back(store, TRIM_HORIZON, 10)
    gc.collect()
    tracemalloc.start()
    try:
        back.next_page()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_memory_of_a_page_does_not_grow_with_the_ledgers(
    quick_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kcl_receiver.store.store.Store.has_block", lambda _store, _block: True)
    # Of so many days that what is kept of positions, up to a number of them, is full in both.
    assert peak_of_a_page(quick_place("many"), 30) < 1.5 * peak_of_a_page(quick_place("few"), 15)
