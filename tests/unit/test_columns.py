from __future__ import annotations

import struct
from array import array

import pytest
import xxhash
from generator_harness import columns_of
from hypothesis import given
from hypothesis import strategies as st

from kcl_receiver.ranges import Position
from kcl_receiver.wire.columns import MAX_COLUMN_BYTES, Columns, VarColumn, checksum

Record = tuple[int, int, bytes, int, bytes]
"""Sequence number, sub-sequence number, key, arrival time, data."""

records = st.lists(
    st.tuples(
        st.integers(0, 10**129 - 1),
        st.integers(0, 2**63 - 1),
        st.text(max_size=20).map(str.encode),
        st.integers(-1, 2**62),
        st.binary(max_size=40),
    ),
    max_size=12,
)


def columns(rows: list[Record]) -> Columns:
    return Columns(
        count=len(rows),
        sequence=VarColumn.of([str(row[0]).encode() for row in rows]),
        sub=array("q", [row[1] for row in rows]),
        key=VarColumn.of([row[2] for row in rows]),
        arrival=array("q", [row[3] for row in rows]),
        data=VarColumn.of([row[4] for row in rows]),
    )


def rows_of(made: Columns) -> list[Record]:
    return [
        (*made.position(row), made.key.value(row), made.arrival_of(row), made.data.value(row))
        for row in range(made.count)
    ]


@given(records)
def test_columns_give_back_what_was_put_into_them(rows: list[Record]) -> None:
    assert rows_of(columns(rows)) == rows


@given(records, st.data())
def test_a_slice_is_the_columns_of_its_rows(rows: list[Record], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(rows)))
    stop = data.draw(st.integers(start, len(rows)))
    made = columns(rows).slice(start, stop)
    alone = columns(rows[start:stop])
    assert rows_of(made) == rows[start:stop]
    assert [bytes(one) for one in made.buffers()] == [bytes(one) for one in alone.buffers()]
    assert (made.count, made.size, made.memory) == (alone.count, alone.size, alone.memory)
    assert checksum(made) == checksum(alone)


@given(records, st.data())
def test_a_slice_of_a_slice_is_a_slice(rows: list[Record], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(rows)))
    made = columns(rows).slice(start, len(rows))
    stop = data.draw(st.integers(0, made.count))
    assert rows_of(made.slice(0, stop)) == rows[start : start + stop]


def test_the_checksum_is_made_over_lengths_and_bytes_of_the_five_columns_in_the_documented_order() -> None:
    rows: list[Record] = [(7, 0, b"a", 1000, b"xyz"), (12, 3, b"", -1, b"")]
    plain = b"".join(
        [
            struct.pack("<2i", 1, 2) + b"712",
            struct.pack("<2q", 0, 3),
            struct.pack("<2i", 1, 0) + b"a",
            struct.pack("<2q", 1000, -1),
            struct.pack("<2i", 3, 0) + b"xyz",
        ]
    )
    assert checksum(columns(rows)) == xxhash.xxh3_128_hexdigest(plain)
    assert len(checksum(columns([]))) == 32


@pytest.mark.parametrize(
    "other",
    [
        [(71, 0, b"a", 5, b"x"), (2, 0, b"b", 6, b"y")],  # a digit moved over to the neighbour
        [(7, 0, b"a", 5, b"x"), (12, 1, b"b", 6, b"y")],
        [(7, 0, b"ab", 5, b"x"), (12, 0, b"", 6, b"y")],
        [(7, 0, b"a", 6, b"x"), (12, 0, b"b", 5, b"y")],
        [(7, 0, b"a", 5, b"xy"), (12, 0, b"b", 6, b"")],
        [(7, 0, b"a", 5, b"y"), (12, 0, b"b", 6, b"x")],
        [(7, 0, b"a", 5, b"x")],
    ],
)
def test_any_other_records_have_another_checksum(other: list[Record]) -> None:
    rows: list[Record] = [(7, 0, b"a", 5, b"x"), (12, 0, b"b", 6, b"y")]
    assert checksum(columns(other)) != checksum(columns(rows))


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), min_size=1, max_size=12, unique=True), st.data())
def test_the_last_whole_position_is_the_last_that_ends_its_kinesis_record(
    places: list[tuple[int, int]], data: st.DataObject
) -> None:
    positions = [Position(*place) for place in sorted(places)]
    start = data.draw(st.integers(0, len(positions) - 1))
    stop = data.draw(st.integers(start, len(positions)))
    following = [*[one.sequence_number for one in positions[1:]], None]
    ends = [row for row in range(start, stop) if following[row] != positions[row].sequence_number]
    assert columns_of(positions).last_whole(start, stop) == (positions[ends[-1]] if ends else None)


def test_the_size_counts_keys_and_data_and_the_memory_counts_every_buffer() -> None:
    made = columns([(7, 0, b"abc", 5, b"12345"), (12, 0, b"", 6, b"6")])
    assert made.size == 3 + 5 + 1
    assert made.memory == 2 * 8 + 2 * 8 + 3 * (3 * 4) + len("712") + made.size
    assert made.bytes_between(0, 1) == len("7") + 3 + 5
    assert made.bytes_between(1, 2) == len("12") + 0 + 1
    assert made.bytes_between(1, 1) == 0


def test_values_longer_than_an_int32_can_count_are_refused() -> None:
    assert memoryview(VarColumn.joined([MAX_COLUMN_BYTES], b"").offsets).cast("i")[1] == MAX_COLUMN_BYTES
    with pytest.raises(OverflowError):
        VarColumn.joined([MAX_COLUMN_BYTES, 1], b"")


def test_a_column_of_values_end_to_end_is_the_column_of_the_values() -> None:
    assert VarColumn.joined([1, 0, 2], b"abc") == VarColumn.of([b"a", b"", b"bc"])


def test_a_position_whose_digits_are_not_digits_is_refused_and_not_guessed() -> None:
    made = Columns(
        1, VarColumn.of([b"12x"]), array("q", [0]), VarColumn.of([b""]), array("q", [0]), VarColumn.of([b""])
    )
    with pytest.raises(ValueError, match="not a Kinesis sequence number"):
        made.position(0)


def test_the_harness_makes_columns_with_the_positions_asked_for() -> None:
    places = [Position(9), Position(10, 0), Position(10, 1), Position(10**56)]
    made = columns_of(places)
    assert [made.position(row) for row in range(4)] == places
