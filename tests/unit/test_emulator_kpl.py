from __future__ import annotations

import hashlib

import pytest
from aws_kinesis_agg import deaggregator
from hypothesis import given
from hypothesis import strategies as st

from kcl_receiver.emulator.kinesis.shard import HASH_KEYS
from kcl_receiver.emulator.kpl import UserRecord, aggregate, place_of

RECORDS = st.lists(
    st.builds(
        UserRecord,
        key=st.text(min_size=1, max_size=20),
        data=st.binary(max_size=300),
        hash_key=st.none() | st.integers(0, HASH_KEYS - 1),
    ),
    min_size=1,
    max_size=20,
)


@given(RECORDS)
def test_the_published_protobuf_reads_back_what_was_aggregated(records: list[UserRecord]) -> None:
    data = aggregate(records)
    magic, message, digest = data[:4], data[4:-16], data[-16:]
    assert magic == bytes.fromhex("f3899ac2")
    assert digest == hashlib.md5(message).digest()
    read = deaggregator.messages_pb2.AggregatedRecord()
    read.ParseFromString(message)
    assert [
        UserRecord(
            read.partition_key_table[one.partition_key_index],
            one.data,
            int(read.explicit_hash_key_table[one.explicit_hash_key_index])
            if one.HasField("explicit_hash_key_index")
            else None,
        )
        for one in read.records
    ] == records
    assert len(set(read.partition_key_table)) == len(read.partition_key_table)


@pytest.mark.parametrize("size", [0, 127, 128, 16_383, 16_384, 3_000_000])
def test_lengths_of_any_size_are_written_as_protobuf_writes_them(size: int) -> None:
    read = deaggregator.messages_pb2.AggregatedRecord()
    read.ParseFromString(aggregate([UserRecord("k", bytes(size)), UserRecord("k" * 200, b"x")])[4:-16])
    assert [len(one.data) for one in read.records] == [size, 1]
    assert read.records[1].partition_key_index == 1


def test_the_hash_key_of_a_partition_key_is_its_md5() -> None:
    assert place_of("") == 0xD41D8CD98F00B204E9800998ECF8427E
    assert UserRecord("", b"").place() == place_of("")
    assert UserRecord("", b"", 5).place() == 5
