"""Whatever is compacted and expired, in any order: a reader finds every record that was not expired."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_index import LedgerIndex
from maintenance_support import Found, counted, fill, part, present, read_all, run
from places import NewPlace
from store_support import NOW

from kcl_receiver.generator.presence import present_ranges
from kcl_receiver.ids import writer_id
from kcl_receiver.maintenance import compact as module
from kcl_receiver.maintenance.compact import Options
from kcl_receiver.maintenance.expire import Expiry
from kcl_receiver.ranges import Range
from kcl_receiver.store.store import Store

HOUR = 3_600_000

PART = st.tuples(st.integers(0, 2), st.integers(1, 30), st.integers(1, 6))
"""Shard, first sequence number, count: they overlap, and some are the same."""
BLOCKS = st.lists(st.lists(PART, min_size=1, max_size=4), min_size=1, max_size=6)
STEP = st.one_of(
    st.tuples(st.just("store"), BLOCKS, st.integers(0, 1)),
    st.tuples(st.just("compact"), st.integers(3_000, 40_000), st.integers(1, 8)),
    st.tuples(st.just("expire"), st.integers(1, 40), st.just(0)),
)


def once(found: Found) -> dict[tuple[str, str, str, int, int], set[bytes]]:
    """An identical range in two blocks is carried once: how often a record is found may fall, and never to 0."""
    return {key: set(data) for key, data in found.items()}


class Model:
    """A store and what is done to it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.writers = self.day = 0

    def put(self, blocks: list[list[tuple[int, int, int]]], day: int) -> None:
        self.writers += 1
        self.day = max(self.day, day)  # writers begin in the order of their ids
        writer = writer_id(NOW + self.day * 24 * HOUR + self.writers * 1000, f"{self.writers:08x}")
        fill(self.store, [[part(*one) for one in dict.fromkeys(block)] for block in blocks], writer)

    def compact(self, target: int, groups: int, now: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "GROUPS_AT_ONCE", groups)
            patch.setattr(module, "MAX_RANGES", 12)
            run(self.store, Options(target_bytes=target, compression="none"), now)

    def expire(self, limit: int, now: int) -> None:
        self.store.hold_maintenance()
        list(Expiry(self.store, NOW + limit).run(now))


@settings(max_examples=30, deadline=None)
@given(BLOCKS, st.lists(STEP, min_size=1, max_size=6))
def test_a_reader_finds_what_it_found_before(
    new_quick_place: NewPlace, first: list[list[tuple[int, int, int]]], steps: list[tuple[str, object, int]]
) -> None:
    model = Model(new_quick_place()())
    model.put(first, 0)
    now = NOW + 100 * HOUR
    for kind, what, number in steps:
        now += 2 * HOUR
        before = read_all(model.store)
        if kind == "store":
            model.put(what, number)  # type: ignore[arg-type]
            after = read_all(model.store)
            assert all(len(after[key]) >= len(data) for key, data in before.items())
        elif kind == "compact":
            model.compact(what, number, now)  # type: ignore[arg-type]
            after = read_all(model.store)
            assert once(after) == once(before)
            assert all(len(after[key]) <= len(data) for key, data in before.items())
        else:
            model.expire(what, now)  # type: ignore[arg-type]
            after = read_all(model.store)
            assert all(after[key] == before[key] for key in before if key[3] >= int(what))  # type: ignore[call-overload]
            assert after.keys() <= before.keys()
        assert present(model.store) == set(counted(model.store))
        assert_generator_holds_what_is_there(model.store)


def assert_generator_holds_what_is_there(store: Store) -> None:
    """Whatever a generator's ledger ever named is held if, and only if, a block that is there has this very range."""
    index = LedgerIndex.load(store)
    there = set()
    named: dict[str, list[Range]] = {}
    for block, entry in index.blocks().items():
        ranges = [one for one in entry.ranges if one.shard.endswith("0")]
        if store.has_block(block):
            there.update((one.first, one.last, one.checksum, one.session, one.after) for one in ranges)
        if ranges:
            named[block] = ranges
    held = {(one.first, one.last, one.checksum, one.session, one.after) for one in present_ranges(store, named)}
    assert held == there
