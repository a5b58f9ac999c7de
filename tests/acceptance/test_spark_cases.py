"""The cases of Spark's KinesisStreamSuite with the real daemon, for plain records and for KPL aggregates alone.

docs/reliability.md says which of their tests has its counterpart here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from landing import STREAM, Landing, is_gone

from kcl_receiver.emulator.producer import Producer

pytestmark = pytest.mark.daemon

FORMS = {"plain": 0.0, "aggregated": 1.0}
"""Share of the user records that travel in aggregates."""


def shards(landing: Landing, *, open_: bool) -> list[str]:
    """Return the ids of the open shards, or of the closed ones."""
    found = landing.kinesis.list_shards(StreamName=STREAM)["Shards"]
    return sorted(
        one["ShardId"] for one in found if ("EndingSequenceNumber" not in one["SequenceNumberRange"]) == open_
    )


def subs(landing: Landing) -> set[int]:
    """Return all sub-sequence numbers in the blocks."""
    return {
        sub
        for file in (landing.store / "blocks").rglob("*.parquet")
        for sub in pq.read_table(file, columns=["sub_sequence_number"])["sub_sequence_number"].to_pylist()
    }


def ranges(landing: Landing) -> dict[str, list[dict[str, object]]]:
    """Return the ranges that the ledger names for each block."""
    # What follows the last end of a line is torn: its writer was killed, and nobody relied on it.
    ledgers = (landing.store / "ledger").rglob("*.jsonl")
    lines = [line for ledger in ledgers for line in ledger.read_text().split("\n")[:-1]]
    entries = [json.loads(line) for line in lines]
    return {entry["block"]: entry["ranges"] for entry in entries if entry["type"] == "block"}


def contents(landing: Landing) -> dict[Path, bytes]:
    """Return every block as it is on the disk."""
    return {file: file.read_bytes() for file in (landing.store / "blocks").rglob("*.parquet")}


@pytest.mark.parametrize("form", FORMS)
def test_all_is_there_once_after_a_split_a_merge_and_a_crash_with_more_than_ten_blocks(
    make_landing: Callable[..., Landing], form: str
) -> None:
    landing = make_landing(shards=1, receiver_blockIntervalMillis="200")
    landing.producer = Producer(landing.kinesis, STREAM, seed=11, aggregated=FORMS[form])

    # From 1 shard to 2 to 1; what is put before, between and after must all be there.
    run = landing.run()
    landing.producer.put(100)
    landing.wait_landed("the first records")
    (parent,) = shards(landing, open_=True)
    landing.kinesis.split_shard(StreamName=STREAM, ShardToSplit=parent, NewStartingHashKey=str(2**127))
    landing.producer.put(100)
    landing.wait_landed("the records after the split")
    low, high = shards(landing, open_=True)
    landing.kinesis.merge_shards(StreamName=STREAM, ShardToMerge=low, AdjacentShardToMerge=high)
    landing.producer.put(100)
    landing.wait_landed("the records after the merge")
    assert (shards(landing, open_=False), len(shards(landing, open_=True))) == ([parent, low, high], 1)
    assert {one: landing.leases()[one].checkpoint for one in (parent, low, high)} == dict.fromkeys(
        (parent, low, high), "SHARD_END"
    )

    # More than ten blocks, then the end of everything at once; the next start must change none of them.
    with landing.load():
        landing.wait("more than ten blocks", lambda: len(contents(landing)) > 10)
        victims = [*landing.named("kcl_receiver.cli.main"), *landing.daemons(), *landing.processors()]
        for one in victims:
            one.kill()
        run.wait()
        landing.wait("nobody is left", lambda: all(map(is_gone, victims)))
        blocks, before = contents(landing), ranges(landing)
        landing.run()
        landing.wait("records are stored again", lambda: landing.records_stored() > 100)
    landing.wait_landed("everything after the crash")
    assert {file: content for file, content in contents(landing).items() if file in blocks} == blocks
    assert {block: named for block, named in ranges(landing).items() if block in before} == before
    verdict = landing.judge()
    assert verdict.perfect, verdict
    assert (max(subs(landing)) > 0) == (form == "aggregated")
    landing.verify()
