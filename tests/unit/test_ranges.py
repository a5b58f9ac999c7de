from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kcl_receiver.ranges import (
    STARTING_POINTS,
    Arrivals,
    Position,
    Range,
    StreamIdentity,
    parse_after,
    parse_position,
    parse_sequence_number,
)
from kcl_receiver.store.json_codec import decode, encode
from kcl_receiver.store.ledger.entries import BlockStored

LONGEST = "9" * 129
BLOCK = "20261122T131501Z-7f3a9c01-000000000042"

sequences = st.integers(min_value=0, max_value=10**129 - 1)
subs = st.integers(min_value=0, max_value=2**63 - 1)
positions = st.builds(Position, sequences, subs)
ranges = st.builds(
    Range,
    shard=st.text(),
    session=st.text(),
    after=st.one_of(positions, st.sampled_from(sorted(STARTING_POINTS))),
    first=positions,
    last=positions,
    whole=st.none() | positions,
    count=st.integers(1, 10**6),
    size=st.integers(0, 10**9),
    arrival_first=st.integers(-1, 2**60),
    arrival_last=st.integers(-1, 2**60),
    checksum=st.text("0123456789abcdef", min_size=32, max_size=32),
    first_row=st.integers(-1, 10**9),
    delivered=st.integers(-1, 2**60),
    out_of_order=st.none() | st.builds(Arrivals, st.integers(-1, 2**60), st.integers(-1, 2**60), st.integers(0, 99)),
)


def a_range(**changes: object) -> dict[str, object]:
    one = Range("shard", "session", "LATEST", Position(1), Position(2), None, 2, 9, 5, 6, "0" * 32)
    return {**json.loads(encode(one)), **changes}


def test_positions_of_differing_length_compare_as_numbers_and_not_as_text() -> None:
    assert Position(9) < Position(10)
    assert parse_position("9") < parse_position("10")
    assert parse_position("99999:9") < parse_position("100000:0")
    assert parse_position("5:9") < parse_position("5:10")


def test_a_sequence_number_of_129_digits_is_kept_exactly() -> None:
    assert parse_sequence_number(LONGEST) == 10**129 - 1
    assert str(parse_position(LONGEST)) == LONGEST + ":0"


@pytest.mark.parametrize(
    "text",
    ["", "1" + LONGEST, "01", "-1", "+1", " 1", "1 ", "1\n", "1.0", "1e3", "٣", "0x1", "SHARD_END", "1_000"],
)
def test_what_kinesis_would_not_write_is_no_sequence_number(text: str) -> None:
    with pytest.raises(ValueError, match="not a Kinesis sequence number"):
        parse_sequence_number(text)


def test_an_endless_sequence_number_is_not_printed_in_full() -> None:
    with pytest.raises(ValueError, match="not a Kinesis") as caught:
        parse_sequence_number("1" * 100_000)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("text", ["5:-1", "5:01", "5:x", "5: 1", "5:1:1", "5:", ":1", "5:1\n", f"5:{2**63}"])
def test_what_is_no_sub_sequence_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        parse_position(text)


@pytest.mark.parametrize(
    "sequence",
    [
        "",
        "00",
        "01",
        "-1",
        "+1",
        " 1",
        "1 ",
        "1_0",
        "1\n",
        "x",
        "0x1",
        "1.0",
        "\u00b2",
        "\u0663",
        "1\u0663",
        "\ud800",
        "1" * 130,
    ],
)
def test_what_is_no_sequence_number_is_none_before_a_sub_sequence_number_either(sequence: str) -> None:
    for sub in ("0", "1"):  # the first one is nearly all of a ledger's, and is read in a quicker way
        with pytest.raises(ValueError, match="not a Kinesis sequence number"):
            parse_position(f"{sequence}:{sub}")


def test_the_largest_sub_sequence_number_is_that_of_an_int64() -> None:
    assert parse_position(f"5:{2**63 - 1}") == Position(5, 2**63 - 1)


def test_a_range_has_no_row_before_its_block_is_built() -> None:
    assert Range("shard", "session", "LATEST", Position(1), Position(2), None, 2, 9, 5, 6, "0" * 32).first_row == -1


def test_a_position_without_a_sub_sequence_number_means_sub_0() -> None:
    assert parse_position("17") == Position(17, 0)


@given(positions)
def test_a_position_reads_back_from_its_text(position: Position) -> None:
    assert parse_position(str(position)) == position
    assert parse_after(str(position)) == position


@pytest.mark.parametrize("word", sorted(STARTING_POINTS))
def test_a_starting_point_is_kept_as_the_word_that_it_is(word: str) -> None:
    assert parse_after(word) == word


@pytest.mark.parametrize("text", ["", "latest", "SHARD_END", "AT_SEQUENCE_NUMBER", "TRIM_HORIZON "])
def test_another_word_is_no_starting_point(text: str) -> None:
    with pytest.raises(ValueError, match="not a Kinesis"):
        parse_after(text)


@given(ranges)
def test_a_range_reads_back_from_its_json(one: Range) -> None:
    assert decode(Range, encode(one)) == one


@given(st.lists(ranges, max_size=6))
def test_however_many_ranges_a_block_has_they_read_back_from_its_entry(of_a_block: list[Range]) -> None:
    entry = BlockStored(BLOCK, StreamIdentity("arn", 1), tuple(of_a_block), 1, 1, 1)
    assert decode(BlockStored, encode(entry)) == entry


@pytest.mark.parametrize(
    ("count", "first", "last", "told"),
    [
        (2, 5, 6, Arrivals(5, 6)),
        (2, 6, 5, Arrivals(5, 6)),
        (3, 5, 5, Arrivals(5, 5)),
        (2, 0, 0, Arrivals(0, 0)),
        (1, 5, 6, Arrivals(5, 5)),
        (2, -1, 6, Arrivals(6, 6, 1)),
        (2, 5, -1, Arrivals(5, 5, 1)),
        (2, -1, -1, Arrivals(-1, -1, 2)),
        (1, -1, -1, Arrivals(-1, -1, 1)),
    ],
)
def test_the_ends_of_a_range_tell_when_its_records_arrived(count: int, first: int, last: int, told: Arrivals) -> None:
    one = decode(Range, json.dumps(a_range(count=count, arrival_first=first, arrival_last=last)).encode())
    assert one.arrivals == told
    assert one.with_arrivals(told).out_of_order is None
    older = Arrivals(-1, -1, 3)
    assert one.with_arrivals(older).arrivals == older
    assert one.with_arrivals(older).with_arrivals(told) == one


@pytest.mark.parametrize("field", sorted(a_range()))
def test_a_range_with_a_missing_field_is_no_range(field: str) -> None:
    raw = a_range()
    del raw[field]
    with pytest.raises(ValueError, match=field):
        decode(Range, json.dumps(raw).encode())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("after", 5),
        ("after", None),
        ("after", ["LATEST"]),
        ("first", 5),
        ("first", "x"),
        ("last", None),
        ("whole", 5),
        ("count", "many"),
        ("count", None),
        ("size", 1.5),
        ("size", "9"),
        ("shard", 7),
        ("out_of_order", [1, 2, 3]),
        ("out_of_order", {"oldest": 1, "newest": 2}),
    ],
)
def test_a_range_with_a_field_of_another_type_is_no_range(field: str, value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each says it in its own words
        decode(Range, json.dumps(a_range(**{field: value})).encode())


def test_a_stream_is_told_from_its_successor_of_the_same_name() -> None:
    assert StreamIdentity("arn:stream", 1) != StreamIdentity("arn:stream", 2)
    assert str(StreamIdentity("arn:stream", 1)) != str(StreamIdentity("arn:stream", 2))
