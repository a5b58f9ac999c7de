"""CBOR as AWS clients speak it, and the API of the Kinesis model in it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from emulator_support import START, Client, shard_id
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kcl_receiver.emulator.kinesis.api import OPERATIONS
from kcl_receiver.emulator.kinesis.cbor import MAX_DEPTH, Moment, decode, encode

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


@pytest.mark.parametrize(
    ("hexadecimal", "value"),
    [  # from appendix A of RFC 8949
        ("00", 0),
        ("17", 23),
        ("1818", 24),
        ("1903e8", 1000),
        ("1bffffffffffffffff", 2**64 - 1),
        ("20", -1),
        ("3bffffffffffffffff", -(2**64)),
        ("f93c00", 1.0),
        ("fa47c35000", 100000.0),
        ("fb3ff199999999999a", 1.1),
        ("f97c00", math.inf),
        ("f4", False),
        ("f5", True),
        ("f6", None),
        ("f7", None),
        ("c11a514b67b0", 1363896.24),
        ("d74401020304", b"\x01\x02\x03\x04"),
        ("4401020304", b"\x01\x02\x03\x04"),
        ("62c3bc", "ü"),
        ("8301820203820405", [1, [2, 3], [4, 5]]),
        ("a26161016162820203", {"a": 1, "b": [2, 3]}),
        ("5f42010243030405ff", b"\x01\x02\x03\x04\x05"),
        ("7f657374726561646d696e67ff", "streaming"),
        ("9f018202039f0405ffff", [1, [2, 3], [4, 5]]),
        ("bf61610161629f0203ffff", {"a": 1, "b": [2, 3]}),
        ("9fff", []),
    ],
)
def test_what_others_write_is_read(hexadecimal: str, value: object) -> None:
    found = decode(bytes.fromhex(hexadecimal))
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("hexadecimal", "why"),
    [
        ("", "ends too early"),
        ("18", "ends too early"),
        ("9f01", "ends too early"),
        ("4401", "ends too early"),
        ("5f", "ends too early"),
        ("9bffffffffffffffff", "ends too early"),
        ("0000", "more data behind byte 1"),
        ("ff", "no value begins with 0xff"),
        ("82ff01", "no value begins with 0xff"),
        ("1c", "no value begins with 0x1c"),
        ("1f", "no value begins with 0x1f"),
        ("f8ff", "no value begins with 0xf8"),
        ("a10000", "key of a map"),
        ("5f6161ff", "has a part that is none"),
        ("62ffff", "invalid start byte"),
        ("81" * (MAX_DEPTH + 2) + "00", "levels deep"),
        ("c1" * 5000 + "00", "levels deep"),
    ],
)
def test_what_is_no_cbor_is_refused(hexadecimal: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        decode(bytes.fromhex(hexadecimal))


@given(VALUES)
@example([0, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32, -(2**64), "x" * 70_000])
def test_what_is_written_is_read_again(value: object) -> None:
    assert decode(encode(value)) == value


def test_a_time_is_written_as_the_milliseconds_that_aws_writes() -> None:
    assert encode(Moment(1_700_000_000_123)) == bytes.fromhex("c1" + "1b0000018bcfe5687b")
    assert decode(encode(Moment(1_700_000_000_123))) == 1_700_000_000.123


@settings(deadline=None)
@given(st.sampled_from(sorted(OPERATIONS)), st.binary(max_size=60) | VALUES.map(encode))
def test_no_body_makes_the_emulator_fail(operation: str, body: bytes) -> None:
    status, answer = Client().kinesis.call(operation, body, in_cbor=True)
    assert status in (200, 400)
    if status == 400:
        assert decode(answer)["__type"].endswith("Exception")


class BinaryClient(Client):
    """The API in CBOR, as Python calls."""

    def call(self, operation: str, **fields: object) -> dict[str, Any]:
        status, body = self.kinesis.call(operation, encode(fields), in_cbor=True)
        assert status == 200, body
        answer: dict[str, Any] = decode(body) if body else {}
        return answer


def test_cbor_says_what_json_says() -> None:
    client, plain = BinaryClient(), Client()
    for one in (client, plain):
        one.stream(shards=2)
    data = bytes(range(256))
    number = client.call("PutRecord", StreamName="s", Data=data, PartitionKey="é")["SequenceNumber"]
    assert plain.put(data, "é") == (shard_id(int(client.kinesis.shards("s")[1]["records"])), int(number))
    shard = next(one["id"] for one in client.kinesis.shards("s") if one["records"])
    fields = {"StreamName": "s", "ShardId": shard, "ShardIteratorType": "AT_TIMESTAMP", "Timestamp": Moment(0)}
    page = client.get(client.call("GetShardIterator", **fields)["ShardIterator"])
    assert page["Records"] == [
        {"SequenceNumber": number, "ApproximateArrivalTimestamp": START, "Data": data, "PartitionKey": "é"}
    ]
    for operation, same in (
        ("DescribeStream", {"StreamName": "s"}),
        ("DescribeStreamSummary", {"StreamName": "s"}),
        ("ListShards", {"StreamName": "s"}),
        ("ListStreams", {}),
        ("DescribeLimits", {}),
    ):
        assert client.call(operation, **same) == plain.call(operation, **same)


def test_an_error_comes_in_cbor_too() -> None:
    kinesis = Client().kinesis
    assert decode(kinesis.call("DescribeStream", encode({"StreamName": "s"}), in_cbor=True)[1]) == {
        "__type": "ResourceNotFoundException",
        "message": "Stream s under account 000000000001 not found.",
    }
    status, body = kinesis.call("DescribeStream", json.dumps({"StreamName": "s"}).encode(), in_cbor=True)
    assert (status, decode(body)["__type"]) == (400, "SerializationException")
