"""What KCL delivered is cut into batches within the limit, and no checkpoint can fall into the middle of a record."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kcl_receiver.processor.split import BYTES_PER_RECORD, Part, split
from kcl_receiver.ranges import TRIM_HORIZON, After, Position
from kcl_receiver.wire.columns import Columns, VarColumn

BIG = 49590338271490256608559692538361571095921575989136588898


def columns(*records: tuple[int, int, int]) -> Columns:
    """Return records of (sequence number, sub-sequence number, bytes of data)."""
    return Columns(
        count=len(records),
        sequence=VarColumn.of([str(sequence).encode() for sequence, _, _ in records]),
        sub=array("q", [sub for _, sub, _ in records]),
        key=VarColumn.of([b"key-%d" % sub for _, sub, _ in records]),
        arrival=array("q", [1000 + row for row in range(len(records))]),
        data=VarColumn.of([bytes([row % 256]) * size for row, (_, _, size) in enumerate(records)]),
    )


def positions(part: Columns) -> list[Position]:
    return [part.position(row) for row in range(part.count)]


def content(part: Columns) -> list[tuple[Position, bytes, int, bytes]]:
    return [
        (part.position(row), part.key.value(row), part.arrival_of(row), part.data.value(row))
        for row in range(part.count)
    ]


def cut(whole: Columns, limit: int, after: After = TRIM_HORIZON) -> list[Part]:
    return list(split(whole, after, limit))


aggregates = st.lists(
    st.lists(st.integers(0, 300), min_size=1, max_size=6),
    min_size=1,
    max_size=8,
).map(
    lambda sizes: columns(
        *((BIG + 10 * number, sub, size) for number, subs in enumerate(sizes) for sub, size in enumerate(subs))
    )
)


def test_what_fits_is_one_batch_and_is_not_copied() -> None:
    whole = columns((1, 0, 10), (2, 0, 10))
    assert cut(whole, whole.memory) == [Part(whole, TRIM_HORIZON, Position(1), Position(2), Position(2))]
    assert cut(whole, whole.memory)[0].columns is whole


def test_one_byte_too_many_makes_two_batches() -> None:
    whole = columns((1, 0, 10), (2, 0, 10))
    parts = cut(whole, whole.memory - 1)
    assert [positions(part.columns) for part in parts] == [[Position(1)], [Position(2)]]


def test_a_part_that_just_fits_the_limit_is_taken_whole() -> None:
    whole = columns((1, 0, 10), (2, 0, 10), (3, 0, 10))
    first, second = cut(whole, whole.slice(0, 2).memory)
    assert (positions(first.columns), positions(second.columns)) == ([Position(1), Position(2)], [Position(3)])


def test_a_record_larger_than_the_limit_goes_alone() -> None:
    whole = columns((1, 0, 5), (2, 0, 5000), (3, 0, 5), (4, 0, 5))
    parts = cut(whole, 200)
    assert [positions(part.columns) for part in parts] == [[Position(1)], [Position(2)], [Position(3), Position(4)]]


@pytest.mark.parametrize("limit", [0, 1, -5])
def test_a_limit_below_every_record_still_takes_one_at_a_time(limit: int) -> None:
    whole = columns((1, 0, 5), (2, 0, 5), (3, 0, 5))
    assert [part.columns.count for part in cut(whole, limit)] == [1, 1, 1]


def test_a_part_with_only_the_middle_of_an_aggregate_has_no_place_for_a_checkpoint() -> None:
    whole = columns((1, 0, 5), (2, 0, 5), (2, 1, 5), (2, 2, 5), (3, 0, 5))
    assert [part.whole for part in cut(whole, 1)] == [Position(1), None, None, Position(2, 2), Position(3)]


def test_a_part_that_ends_within_an_aggregate_is_whole_up_to_the_record_before() -> None:
    whole = columns((1, 0, 5), (2, 0, 5), (2, 1, 5), (2, 2, 5))
    one = whole.slice(0, 1).memory
    first, second = cut(whole, 2 * one + 20)
    assert (positions(first.columns), first.whole) == ([Position(1), Position(2)], Position(1))
    assert (second.last, second.whole) == (Position(2, 2), Position(2, 2))


@given(aggregates, st.integers(0, 1200))
@example(columns(*((BIG, sub, 50) for sub in range(6))), 200)
def test_the_parts_are_the_records_once_and_in_order(whole: Columns, limit: int) -> None:
    parts = cut(whole, limit)
    assert [row for part in parts for row in content(part.columns)] == content(whole)


@given(aggregates, st.integers(0, 1200))
def test_no_part_is_larger_than_the_limit_unless_it_is_one_record(whole: Columns, limit: int) -> None:
    for part in cut(whole, limit):
        assert part.columns.memory <= limit or part.columns.count == 1


@given(aggregates, st.integers(0, 1200))
def test_no_two_neighbours_would_have_fitted_together(whole: Columns, limit: int) -> None:
    parts = cut(whole, limit)
    start = 0
    for part in parts[:-1]:
        stop = start + part.columns.count
        assert whole.slice(start, stop + 1).memory > limit
        start = stop


@given(aggregates, st.integers(0, 1200), st.sampled_from([TRIM_HORIZON, Position(5, 3)]))
def test_each_part_follows_the_one_before(whole: Columns, limit: int, after: After) -> None:
    for part in cut(whole, limit, after):
        assert part.after == after
        assert (part.first, part.last) == (part.columns.position(0), part.columns.position(part.columns.count - 1))
        after = part.last
    assert after == whole.position(whole.count - 1)


@given(aggregates, st.integers(0, 1200))
def test_a_checkpoint_is_possible_only_where_a_kinesis_record_ends(whole: Columns, limit: int) -> None:
    ends = {here.sequence_number: here for here in positions(whole)}
    for part in cut(whole, limit):
        inside = [here for here in positions(part.columns) if ends[here.sequence_number] == here]
        assert part.whole == (inside[-1] if inside else None)


def test_the_estimate_of_a_record_is_what_the_columns_hold() -> None:
    one, two = columns((1, 0, 0)), columns((1, 0, 0), (1, 1, 0))
    assert two.memory - one.memory == BYTES_PER_RECORD + len(b"1") + len(b"key-1")
