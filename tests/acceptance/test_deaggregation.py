"""What the real daemon delivers of every kind of Kinesis record, against what recovery makes of the same records."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from landing import STREAM, Landing

from kcl_receiver import aws
from kcl_receiver.config.credentials import Access
from kcl_receiver.emulator.kpl import MAGIC, UserRecord, aggregate
from kcl_receiver.kinesis.deaggregate import HashRange, deaggregate
from kcl_receiver.kinesis.range_fetcher import RangeFetcher, connect
from kcl_receiver.kinesis.rate_limit import Limits
from kcl_receiver.kinesis.rebuild import Outcome, Request
from kcl_receiver.kinesis.shard_client import kinesis_record
from kcl_receiver.ranges import Range, StreamIdentity
from kcl_receiver.store.blocks.encode import BlockRange, encode_block
from kcl_receiver.store.json_codec import decode

pytestmark = pytest.mark.daemon

RECORDED = Path(__file__).parents[1] / "unit" / "deaggregated_by_kcl.jsonl"
END = b"the last record of its shard"

Row = tuple[int, int, str, int, bytes]
"""Sequence number, sub-sequence number, key, arrival time, data."""


def signed(message: bytes) -> bytes:
    """Return a message as an aggregate, with a good digest."""
    return MAGIC + message + hashlib.md5(message).digest()


def records_of_every_kind(shard: aws.Shard, seed: int) -> Iterator[bytes]:
    """Yield plain records, good aggregates, and everything that can be wrong with one."""
    chance = random.Random(seed)
    first, last = map(int, shard.hash_range)
    for number in range(300):
        good = [UserRecord(f"kéy-{sub}-日", chance.randbytes(sub * 9), chance.randint(first, last)) for sub in range(4)]
        foreign = UserRecord("foreign", b"x", (last + 1) % 2**128)
        whole = aggregate(good)
        yield b"plain %d" % number
        yield whole
        yield aggregate([*good, foreign])  # dropped whole
        yield aggregate([foreign, *good])
        yield whole[:-1] + bytes([whole[-1] ^ 1])  # bad digest
        yield whole[: chance.randrange(len(whole))]
        yield signed(whole[4:-16] + b"\x1a\x05\x08\x63\x1a\x01x")  # a last record with a bad table index
        yield signed(b"\x1a\x05\x08\x63\x1a\x01x" + whole[4:-16])  # a first one
        yield signed(b"\x0a\x01k")  # empty
        yield aggregate([UserRecord("nested", whole, first)])
        message = bytearray(whole[4:-16])
        for _ in range(chance.randint(1, 3)):
            message[chance.randrange(len(message))] = chance.randrange(256)
        yield signed(bytes(message))
    for line in RECORDED.read_text().splitlines():
        yield bytes.fromhex(json.loads(line)["data"])
    yield END


def put_every_kind(landing: Landing) -> None:
    """Put them into every open shard, in pages where the good and the bad lie side by side."""
    for number, shard in enumerate(aws.list_shards(landing.kinesis, STREAM)):
        if shard.last is None:
            entries = [
                {"Data": data, "PartitionKey": f"outer-{place}", "ExplicitHashKey": shard.hash_range[0]}
                for place, data in enumerate(records_of_every_kind(shard, number))
            ]
            for start in range(0, len(entries), 500):
                answer = landing.kinesis.put_records(StreamName=STREAM, Records=entries[start : start + 500])
                assert not answer["FailedRecordCount"]


def by_recovery(landing: Landing, shard: aws.Shard) -> list[Row]:
    """Return what recovery makes of a shard's records."""
    iterator = landing.kinesis.get_shard_iterator(
        StreamName=STREAM, ShardId=shard.id, ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    rows: list[Row] = []
    while iterator:
        page = landing.kinesis.get_records(ShardIterator=iterator)
        for record in map(kinesis_record, page["Records"]):
            users = deaggregate(record.key, record.data, HashRange.of(shard.hash_range))
            rows.extend(
                (record.sequence, sub, key.decode(), record.arrival, data)
                for sub, (key, data) in enumerate(zip(users.keys, users.data, strict=True))
            )
        iterator = page.get("NextShardIterator") if page["Records"] or page["MillisBehindLatest"] else None
    return rows


def files(landing: Landing) -> list[Path]:
    return sorted((landing.store / "blocks").rglob("*.parquet"))


def by_the_daemon(landing: Landing, shard: str) -> list[Row]:
    """Return what the daemon delivered of a shard: what is in the blocks."""
    rows: list[Row] = []
    for file in files(landing):
        table = pq.read_table(file)
        table = table.filter(pc.equal(table["shard_id"], shard))
        rows.extend(
            zip(
                map(int, table["sequence_number"].to_pylist()),
                table["sub_sequence_number"].to_pylist(),
                table["partition_key"].to_pylist(),
                table["approximate_arrival_timestamp"].cast(pa.timestamp("ms", tz="UTC")).cast(pa.int64()).to_pylist(),
                table["data"].to_pylist(),
                strict=True,
            )
        )
    return sorted(rows)


def landed(landing: Landing, shards: list[aws.Shard]) -> bool:
    """Whether the last record of each shard is in the blocks."""
    ends = {shard.id for shard in shards if any(row[4] == END for row in by_the_daemon(landing, shard.id))}
    return len(ends) == len(shards)


def footer(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(pq.read_metadata(file).metadata[b"kcl_receiver"])
    return content


def test_recovery_makes_of_every_kind_of_record_what_the_daemon_delivered_and_rebuilds_every_block(
    make_landing: Callable[..., Landing],
) -> None:
    landing = make_landing(shards=2, shutdownGraceMillis="8000")
    run = landing.run()
    put_every_kind(landing)
    first = next(iter(aws.list_shards(landing.kinesis, STREAM)))
    middle = str(int(first.hash_range[1]) // 3)
    landing.kinesis.split_shard(StreamName=STREAM, ShardToSplit=first.id, NewStartingHashKey=middle)
    put_every_kind(landing)
    shards = [*aws.list_shards(landing.kinesis, STREAM)]
    assert len(shards) == 4
    landing.wait("the end of every shard", lambda: landed(landing, shards))
    assert landing.stop(run) == 0

    for shard in shards:
        delivered = by_the_daemon(landing, shard.id)
        assert delivered == by_recovery(landing, shard)
        assert {row[1] for row in delivered} == {0, 1, 2, 3}
    landing.verify()

    # Every block, were it lost, comes back as the same file.
    hash_ranges = {shard.id: shard.hash_range for shard in shards}
    rereader = RangeFetcher(
        connect(Access("kinesis", "us-east-1", landing.emulator.url)), limits=Limits(calls=200.0, bytes=1e9)
    )
    for file in files(landing):
        content = footer(file)
        stream = StreamIdentity(content["stream"]["arn"], content["stream"]["created"])
        ranges = [decode(Range, json.dumps(raw).encode()) for raw in content["ranges"]]
        rebuilt = []
        for answer in rereader.reread(
            stream, (Request(one, hash_ranges[one.shard], content["block"]) for one in ranges)
        ):
            assert answer.outcome is Outcome.REBUILT, answer.detail
            assert answer.columns is not None
            rebuilt.append(BlockRange(answer.request.range, answer.columns))
        block = encode_block(content["block"], content["writer"], stream, rebuilt, "zstd")
        assert bytes(block.payload) == file.read_bytes()
