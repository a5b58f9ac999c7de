"""The ranges of a ledger by shard, in the order of the stream, from runs on disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import Place, kept_ledger
from store_support import (
    NOW,
    OTHER_WRITER,
    SHARD,
    STREAM,
    WRITER,
    begin,
    block_range,
    plain_range,
    put,
    session_at,
)

from kcl_receiver.audit import recorded
from kcl_receiver.audit.recorded import DAY_MS, RecordedRanges, record
from kcl_receiver.audit.stream_audit import Known
from kcl_receiver.ids import writer_id
from kcl_receiver.ranges import TRIM_HORIZON, Position
from kcl_receiver.store.ledger.entries import BlockStored
from kcl_receiver.store.ledger.reading import Ledger
from kcl_receiver.store.ledger.transaction import COMPACT, Transaction
from kcl_receiver.store.store import Store

OTHER_SHARD = "shardId-000000000001"


@pytest.fixture
def store(place: Place) -> Store:
    made = place()
    made.claim("landing")
    return made


def entry(*ranges: tuple[int, int]) -> BlockStored:
    return BlockStored("b", STREAM, tuple(plain_range(first, last) for first, last in ranges), 1, 1, NOW)


def ends(known: Iterator[Known]) -> list[tuple[int, int]]:
    return [(one.first.sequence_number, one.last.sequence_number) for one in known]


big = st.integers(0, 10**129 - 1)
positions = st.builds(Position, st.one_of(st.integers(0, 30), big), st.integers(0, 2**63 - 1))


@given(st.lists(st.lists(st.builds(Known, positions, positions, st.integers(0, 2**40)), max_size=200), max_size=5))
def test_runs_come_back_merged_with_every_number_as_it_was(runs: list[list[Known]]) -> None:
    with RecordedRanges() as ranges:
        for run in runs:
            made = tuple(replace(plain_range(1, 1), first=one.first, last=one.last, count=one.records) for one in run)
            ranges.add(BlockStored("b", STREAM, made, 1, 1, NOW))
            ranges.flush()
        assert list(ranges.ranges(STREAM, SHARD)) == sorted({one for run in runs for one in run})


def test_what_is_in_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "RUN", 4)
    with RecordedRanges() as ranges:
        for number in range(20, 0, -1):
            ranges.add(entry((number, number)))
            assert ranges.waiting < 4
        ranges.flush()
        assert ends(ranges.ranges(STREAM, SHARD)) == [(number, number) for number in range(1, 21)]


def test_each_shard_has_its_own_and_compacted_ranges_come_once(store: Store) -> None:
    ledger = begin(store, WRITER)
    one = put(store, 1, block_range(1, 2), block_range(7, shard=OTHER_SHARD))
    two = put(store, 2, block_range(5, 6, after=Position(2)))
    ledger.append([session_at(after=Position(1), time=NOW + 5), session_at(time=NOW), one, two])
    change = Transaction(store, one.block, COMPACT, NOW)
    merged = put(store, 1, block_range(1, 2), block_range(5, 6, after=Position(2)), writer=change.writer)
    change.add_block(merged, [one, two])
    change.commit()
    with record(store) as ranges:
        assert ends(ranges.ranges(STREAM, SHARD)) == [(1, 2), (5, 6)]
        assert ends(ranges.ranges(STREAM, OTHER_SHARD)) == [(7, 7)]
        assert ranges.shards() == [(STREAM, SHARD), (STREAM, OTHER_SHARD)]
        assert ranges.first_sessions[STREAM, SHARD].after == TRIM_HORIZON


def test_blocks_in_no_ledger_count_by_their_footers(store: Store) -> None:
    ledger = begin(store, WRITER)
    ledger.append([put(store, 1, block_range(1, 2))])
    orphan = put(store, 2, block_range(3, 4)).block
    with record(store, orphans=[orphan, orphan[:-1] + "9"]) as ranges:
        assert ends(ranges.ranges(STREAM, SHARD)) == [(1, 2), (3, 4)]


def test_what_a_damaged_ledger_says_before_the_damage_counts(store: Store) -> None:
    ledger = begin(store, WRITER)
    ledger.append([put(store, 1, block_range(1, 2))])
    ledger.append([put(store, 2, block_range(3, 4))])
    kept = kept_ledger(store, WRITER)
    kept.write(kept.read().replace(b'"first":"3:0"', b'"first":"2:0"'))
    with record(store) as ranges:
        assert ends(ranges.ranges(STREAM, SHARD)) == [(1, 2)]


def test_ledgers_that_ended_long_before_the_time_are_left_out(store: Store) -> None:
    old, young = writer_id(NOW - 3 * DAY_MS, "00000001"), writer_id(NOW - 2 * DAY_MS - 1000, "00000002")
    begin(store, old).append([put(store, 1, block_range(1, 2), writer=old)])
    ledger = begin(store, young, newest_before=NOW - 2 * DAY_MS - 1000)
    ledger.append([put(store, 1, block_range(3, 4), writer=young)])
    for since, expected in ((0, [(1, 2), (3, 4)]), (NOW, [(3, 4)])):
        with record(store, since) as ranges:
            assert ends(ranges.ranges(STREAM, SHARD)) == expected


def test_ledgers_of_a_host_that_stood_still_are_taken_in_by_the_clock_of_the_service(store: Store) -> None:
    begin(store, WRITER).append([put(store, 1, block_range(1, 2))])
    for number, writer in enumerate((OTHER_WRITER, writer_id(NOW + 120_000, "00000003")), 1):
        first = 10 * number
        ledger = begin(store, writer, newest_before=NOW + 30 * DAY_MS + number)
        ledger.append([put(store, 1, block_range(first, first + 1), writer=writer)])
    with record(store, NOW + 31 * DAY_MS) as ranges:
        assert ends(ranges.ranges(STREAM, SHARD)) == [(1, 2), (10, 11), (20, 21)]
    with record(store, NOW + 33 * DAY_MS) as ranges:
        assert ends(ranges.ranges(STREAM, SHARD)) == [(20, 21)]


def test_sessions_are_found_in_the_order_of_time(store: Store) -> None:
    begin(store, WRITER).append([session_at(session="a"), put(store, 1, block_range(1, 2))])
    begin(store, OTHER_WRITER).append(
        [session_at(Position(2), session="c", time=NOW + 9), session_at(Position(2), session="b", time=NOW + 7)]
    )
    kept = kept_ledger(store, OTHER_WRITER)
    kept.write(kept.read() + b'{"number":4,"prev":"","type":"session","torn')
    assert {key: [one.session for one in each] for key, each in Ledger(store).sessions().items()} == {
        (STREAM, SHARD): ["a", "b", "c"]
    }
