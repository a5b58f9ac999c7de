from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from aws_kinesis_agg.deaggregator import deaggregate_records

from kcl_receiver.emulator.clients import Boto3, every_shard
from kcl_receiver.emulator.kpl import MAGIC
from kcl_receiver.emulator.producer import Acknowledged, Producer, digest_of
from kcl_receiver.emulator.server import Emulator

STREAM = "s"


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        running.client("kinesis").create_stream(StreamName=STREAM, ShardCount=3)
        yield running


def user_records(kinesis: Boto3) -> list[Acknowledged]:
    """Read the stream as KCL does, by the published de-aggregation, and drop the aggregates that KCL drops."""
    found: list[Acknowledged] = []
    for shard in every_shard(kinesis, STREAM):
        keys = shard["HashKeyRange"]
        start, end = int(keys["StartingHashKey"]), int(keys["EndingHashKey"])
        token = kinesis.get_shard_iterator(
            StreamName=STREAM, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        while token:
            page = kinesis.get_records(ShardIterator=token)
            for record in page["Records"]:
                parts = list(unpack(record))
                aggregated = record["Data"].startswith(MAGIC)
                if not aggregated or all(start <= place <= end for _, _, place in parts):
                    number = int(record["SequenceNumber"])
                    for sub, (key, data, _) in enumerate(parts):
                        found.append(Acknowledged(shard["ShardId"], number, sub, digest_of(key, data)))
            token = page.get("NextShardIterator") if page["Records"] else None
    return found


def unpack(record: dict[str, Any]) -> Iterator[tuple[str, bytes, int]]:
    fields = dict.fromkeys(("eventID", "eventSource", "eventVersion", "eventName", "eventSourceARN", "awsRegion"), "")
    inner = {
        "data": base64.b64encode(record["Data"]),
        "partitionKey": record["PartitionKey"],
        "sequenceNumber": record["SequenceNumber"],
        "kinesisSchemaVersion": "1.0",
        "approximateArrivalTimestamp": 0,
    }
    for one in deaggregate_records([{**fields, "kinesis": inner}]):
        key, explicit = one["kinesis"]["partitionKey"], one["kinesis"].get("explicitHashKey")
        place = int(explicit) if explicit else int.from_bytes(hashlib.md5(key.encode()).digest(), "big")
        yield key, base64.b64decode(one["kinesis"]["data"]), place


def test_the_list_is_exactly_what_is_in_the_stream(emulator: Emulator) -> None:
    kinesis = emulator.client("kinesis")
    producer = Producer(kinesis, STREAM, seed=1)
    producer.put(1500)
    assert len(producer.acknowledged) == 1500
    assert Counter(producer.acknowledged) == Counter(user_records(kinesis))
    assert len({one.shard for one in producer.acknowledged}) == 3
    assert 300 < sum(one.sub_sequence_number > 0 for one in producer.acknowledged) < 1100


def test_failed_puts_are_put_again_and_listed_once(emulator: Emulator) -> None:
    emulator.kinesis.configure(put_failures=0.3)
    kinesis = emulator.client("kinesis")
    producer = Producer(kinesis, STREAM, seed=2, sleep=lambda _: None)
    producer.put(500)
    assert producer.retried > 50
    assert Counter(producer.acknowledged) == Counter(user_records(kinesis))


def test_aggregates_that_a_reshard_made_undeliverable_are_put_again(emulator: Emulator) -> None:
    kinesis = emulator.client("kinesis")
    producer = Producer(kinesis, STREAM, seed=3, aggregated=1.0, sleep=lambda _: None)
    producer.put(200)
    assert producer.misplaced == 0
    kinesis.update_shard_count(StreamName=STREAM, TargetShardCount=6, ScalingType="UNIFORM_SCALING")
    producer.put(200)
    assert producer.misplaced > 0
    kinesis.update_shard_count(StreamName=STREAM, TargetShardCount=4, ScalingType="UNIFORM_SCALING")
    producer.put(200)
    assert len(producer.acknowledged) == 600
    assert Counter(producer.acknowledged) == Counter(user_records(kinesis))


def test_a_producer_without_aggregates_puts_plain_records_of_the_size_asked_for(emulator: Emulator) -> None:
    kinesis = emulator.client("kinesis")
    producer = Producer(kinesis, STREAM, seed=4, aggregated=0.0)
    producer.put(700, size=9)
    assert {one.sub_sequence_number for one in producer.acknowledged} == {0}
    assert sum(int(shard["records"]) for shard in emulator.kinesis.shards(STREAM)) == 700


def test_large_records_are_spread_over_requests(emulator: Emulator) -> None:
    producer = Producer(emulator.client("kinesis"), STREAM, seed=5, aggregated=0.0)
    producer.put(5, size=3 * 2**20)
    assert len(producer.acknowledged) == 5


def test_a_producer_gives_up_after_its_tries(emulator: Emulator) -> None:
    emulator.kinesis.configure(put_failures=0.999)
    producer = Producer(emulator.client("kinesis"), STREAM, seed=6, sleep=lambda _: None)
    with pytest.raises(RuntimeError, match="failed 3 times"):
        producer.put(50, tries=3)


def test_the_same_seed_puts_the_same_records(emulator: Emulator) -> None:
    kinesis = emulator.client("kinesis")
    digests = []
    for _ in range(2):
        producer = Producer(kinesis, STREAM, seed=7)
        producer.put(100)
        digests.append([one.digest for one in producer.acknowledged])
    assert digests[0] == digests[1]
    key, data = "k", b"data"
    assert digest_of(key, data) == hashlib.sha256(bytes(7) + b"\x01" + b"k" + b"data").hexdigest()
    assert digest_of("kd", b"ata") != digest_of(key, data)
