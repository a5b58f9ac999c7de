"""De-aggregation against three others: KCL's own AggregatorUtil (recorded), aws_kinesis_agg, and a model of its rules.

deaggregated_by_kcl.jsonl holds what AggregatorUtil of KCL 3.1.3, with protobuf-java 4.27.5 on OpenJDK 17, gave for each
Kinesis record: `data` in hexadecimal; `hash_range`, or none for all hash keys; `records`, key and data of each in
hexadecimal, or "plain" where it passed the record on as it was.
"""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
from aws_kinesis_agg import aggregator, deaggregator
from hypothesis import given, settings
from hypothesis import strategies as st

from kcl_receiver.emulator.kpl import MAGIC, UserRecord, aggregate
from kcl_receiver.kinesis.deaggregate import WHOLE, HashRange, UserRecords, deaggregate, java_integer

RECORDED: list[dict[str, Any]] = [
    json.loads(line) for line in Path(__file__).with_name("deaggregated_by_kcl.jsonl").read_text().splitlines()
]
HALVES = (HashRange(0, 2**127 - 1), HashRange(2**127, 2**128 - 1))

USER_RECORDS = st.lists(
    st.builds(
        UserRecord,
        key=st.text(max_size=10),
        data=st.binary(max_size=50),
        hash_key=st.none() | st.integers(0, 2**128 - 1),
    ),
    max_size=12,
)


def signed(message: bytes) -> bytes:
    """Return a message as an aggregate, with a good digest."""
    return MAGIC + message + hashlib.md5(message, usedforsecurity=False).digest()


def is_plain(found: UserRecords, data: bytes) -> bool:
    return found == UserRecords((b"outer",), (data,))


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: case["name"])
def test_it_gives_what_kcl_gave(case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["data"])
    found = deaggregate(b"outer", data, HashRange.of(case.get("hash_range")))
    if case["records"] == "plain":
        assert is_plain(found, data)
    else:
        records = [[key.hex(), value.hex()] for key, value in zip(found.keys, found.data, strict=True)]
        assert records == case["records"]


@given(USER_RECORDS)
def test_what_aws_kinesis_agg_takes_apart_is_taken_apart_the_same(records: list[UserRecord]) -> None:
    # It looks at the first hash key of the table where a record has none, and does not know hash ranges.
    if any(one.hash_key is None for one in records) and any(one.hash_key is not None for one in records):
        records = [one._replace(hash_key=None) for one in records]
    data = aggregate(records)
    kinesis = {"SequenceNumber": "1", "PartitionKey": "outer", "ApproximateArrivalTimestamp": 0, "Data": data}
    theirs = [one["kinesis"] for one in deaggregator.iter_deaggregate_records([kinesis], data_format="Boto3")]
    ours = deaggregate(b"outer", data)
    if is_plain(ours, data):
        assert theirs[0]["data"] == data
        return
    decoded = [(one["partitionKey"].encode(), deaggregator.base64.b64decode(one["data"])) for one in theirs]
    assert list(zip(ours.keys, ours.data, strict=True)) == decoded
    assert [one["subSequenceNumber"] for one in theirs] == list(range(len(ours.keys)))


@given(st.lists(st.tuples(st.text(min_size=1, max_size=10), st.binary(max_size=50)), min_size=2, max_size=12))
def test_what_aws_kinesis_agg_aggregates_is_taken_apart(records: list[tuple[str, bytes]]) -> None:
    maker = aggregator.RecordAggregator()
    for key, data in records:
        maker.add_user_record(key, data, str(2**100))
    _, _, data = maker.clear_and_get().get_contents()
    found = deaggregate(b"outer", data)
    assert list(zip(found.keys, found.data, strict=True)) == [(key.encode(), value) for key, value in records]


@given(USER_RECORDS.filter(bool), st.sampled_from(HALVES))
def test_an_aggregate_is_dropped_whole_if_one_record_is_outside_of_the_range(
    records: list[UserRecord], hash_range: HashRange
) -> None:
    data = aggregate(records)
    found = deaggregate(b"outer", data, hash_range)
    inside = all(hash_range.first <= one.place() <= hash_range.last for one in records)
    assert found.dropped is not inside
    assert list(found.keys) == ([one.key.encode() for one in records] if inside else [])
    assert list(found.data) == ([one.data for one in records] if inside else [])
    known_nowhere = deaggregate(b"outer", data)
    assert (len(known_nowhere.keys), known_nowhere.dropped) == (len(records), False)


@given(st.binary(max_size=200), st.sampled_from([b"", MAGIC]))
def test_any_bytes_are_passed_on_as_they_are(data: bytes, head: bytes) -> None:
    assert is_plain(deaggregate(b"outer", head + data), head + data)


@given(USER_RECORDS.filter(bool), st.data())
def test_an_aggregate_that_is_cut_or_changed_is_passed_on_as_it_is(
    records: list[UserRecord], draw: st.DataObject
) -> None:
    data = aggregate(records)
    bit = draw.draw(st.integers(0, 8 * len(data) - 1))
    flipped = bytearray(data)
    flipped[bit // 8] ^= 1 << bit % 8
    for other in (bytes(flipped), data[: draw.draw(st.integers(0, len(data) - 1))], data + b"\0"):
        assert is_plain(deaggregate(b"outer", other), other)


@settings(max_examples=500)
@given(USER_RECORDS, st.binary(max_size=20), st.data())
def test_whatever_a_message_holds_there_are_records_or_it_is_passed_on(
    records: list[UserRecord], noise: bytes, draw: st.DataObject
) -> None:
    message = aggregate(records)[len(MAGIC) : -16]
    at = draw.draw(st.integers(0, len(message)))
    data = signed(message[:at] + noise + message[at + draw.draw(st.integers(0, 3)) :])
    found = deaggregate(b"outer", data, draw.draw(st.sampled_from([WHOLE, *HALVES])))
    if not is_plain(found, data):
        assert len(found.keys) == len(found.data)
        assert all(value in data for value in found.data)
        assert all(key.decode().encode() == key for key in found.keys)
        assert not found.dropped or not found.keys


def test_a_megabyte_of_anything_is_no_danger() -> None:
    size = 2**20
    deep = signed(b"\x2b" * size)  # groups within groups
    assert is_plain(deaggregate(b"outer", deep), deep)
    many = signed(b"\x0a\x00" * (size // 2))  # nothing but empty keys
    assert deaggregate(b"outer", many) == UserRecords([], [])
    noise = signed(random.Random(5).randbytes(size))
    assert is_plain(deaggregate(b"outer", noise), noise)
    digits = b"9" * size
    length = bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14])
    explicit = signed(b"\x0a\x01k" + b"\x12" + length + digits + b"\x1a\x07\x08\x00\x10\x00\x1a\x01a")
    assert deaggregate(b"outer", explicit).dropped


@pytest.mark.parametrize(
    "text", ["", "-", "+", "+-1", "1-", "1_0", " 1", "1 ", "1\n", "0x1", "1e3", "\u00b2", "\U0001d7db", "1\0"]
)
def test_what_is_no_number_to_java_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="not a number"):
        java_integer(text)


@given(st.integers(-(2**129), 2**129), st.integers(0, 50), st.sampled_from(["", "+"]))
def test_numbers_are_read_with_signs_and_zeros(number: int, zeros: int, plus: str) -> None:
    sign = "-" if number < 0 else plus
    assert java_integer(f"{sign}{'0' * zeros}{abs(number)}") == number


def test_a_range_that_is_not_known_is_all_hash_keys() -> None:
    assert HashRange.of(None) == WHOLE
    assert HashRange.of(("5", "340282366920938463463374607431768211455")) == (5, 2**128 - 1)
