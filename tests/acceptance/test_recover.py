"""What the real daemon landed, lost and brought back: each record as it was put, whatever happened to the store."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from landing import STREAM, Landing

from kcl_receiver import open_store, records
from kcl_receiver.emulator.producer import digest_of
from kcl_receiver.errors import EXIT_AMISS, EXIT_OK
from kcl_receiver.ranges import Position

pytestmark = pytest.mark.daemon


def land(landing: Landing) -> None:
    """Land plain and aggregated records before, between and after a split and a merge."""
    run = landing.run()
    first, second = "shardId-000000000000", "shardId-000000000001"
    with landing.load():
        landing.wait("records are stored", lambda: landing.records_stored() > 300)
        shard = next(one for one in landing.kinesis.list_shards(StreamName=STREAM)["Shards"] if one["ShardId"] == first)
        middle = (int(shard["HashKeyRange"]["StartingHashKey"]) + int(shard["HashKeyRange"]["EndingHashKey"])) // 2
        landing.kinesis.split_shard(StreamName=STREAM, ShardToSplit=first, NewStartingHashKey=str(middle))
        landing.wait("the parent is at SHARD_END", lambda: landing.leases()[first].checkpoint == "SHARD_END")
        children = ["shardId-000000000002", "shardId-000000000003"]
        landing.wait(
            "both children are read",
            lambda: {*children} <= {one["shard"] for one in landing.status().get("shards", [])},
        )
        landing.kinesis.merge_shards(StreamName=STREAM, ShardToMerge=children[1], AdjacentShardToMerge=second)
        landing.wait(
            "the merged shard is read",
            lambda: "shardId-000000000004" in {one["shard"] for one in landing.status().get("shards", [])},
        )
        landing.put_more(600)
    landing.wait_landed()
    assert landing.stop(run) == EXIT_OK


def files(store: Path) -> list[Path]:
    return sorted((store / "blocks").rglob("*.parquet"))


Placed = dict[tuple[str, int, int], str]
"""The digest of each record, by shard, sequence number and sub-sequence number."""


def read_back(store: Path) -> Placed:
    """Return what is read: each record once, and in order within its shard."""
    got: Placed = {}
    last: dict[str, Position] = {}
    for one in records(open_store(store.as_uri())):
        assert one.position > last.get(one.shard, Position(-1)), "twice, or out of order"
        last[one.shard] = one.position
        sequence, sub = one.position
        got[one.shard, sequence, sub] = digest_of(one.partition_key, one.data)
    return got


def verify(landing: Landing, store: Path, *more: str) -> tuple[int, dict[str, Any]]:
    done = landing.cli("verify", "--store", store.as_uri(), "--output", "json", *more)
    return done.returncode, json.loads(done.stdout)


def recover(landing: Landing, store: Path, *more: str) -> Any:  # noqa: ANN401 - a finished process
    return landing.cli("recover", "--store", store.as_uri(), "--endpoint-url", landing.emulator.url, *more)


def copy_of(landing: Landing, name: str) -> Path:
    return Path(shutil.copytree(landing.store, landing.base / name))


def test_what_is_lost_and_damaged_comes_back_and_what_cannot_be_known_is_said(
    make_landing: Callable[..., Landing],
) -> None:
    landing = make_landing(shards=2, shutdownGraceMillis="8000")
    land(landing)
    assert len(files(landing.store)) >= 12
    put = {
        (one.shard, one.sequence_number, one.sub_sequence_number): one.digest for one in landing.producer.acknowledged
    }
    landed = read_back(landing.store)
    # KCL delivers an aggregate that it should drop while it cannot look its shard up; the producer has put it again.
    assert put.items() <= landed.items()
    _blocks_come_back(landing, copy_of(landing, "harmed"), landed)
    _ledger_is_lost(landing, copy_of(landing, "no-ledger"), landed)
    _ledger_and_blocks_are_lost(landing, copy_of(landing, "neither"))


def _blocks_come_back(landing: Landing, store: Path, landed: Placed) -> None:
    chance = random.Random(5)
    blocks = files(store)
    chance.shuffle(blocks)
    third = len(blocks) // 3
    deleted, flipped, cut = blocks[:third], blocks[third : third + 3], blocks[third + 3 : third + 5]
    for file in deleted:
        file.unlink()
    for file in flipped:
        content = bytearray(file.read_bytes())
        content[len(content) // 3] ^= 0xFF
        file.write_bytes(content)
    for file in cut:
        file.write_bytes(file.read_bytes()[: -chance.randint(1, 200)])

    code, report = verify(landing, store, "--deep")
    assert code == EXIT_AMISS
    assert report["blocks"]["missing"] == sorted(file.stem for file in deleted)
    assert [one["block"] for one in report["blocks"]["damaged"]] == sorted(file.stem for file in (*flipped, *cut))

    dry = recover(landing, store, "--dry-run", "--output", "json")
    assert dry.returncode == EXIT_AMISS, dry.stderr
    assert [one["block"] for one in json.loads(dry.stdout)["blocks"]] == sorted(
        file.stem for file in (*deleted, *flipped, *cut)
    )

    done = recover(landing, store, "--output", "json")
    assert done.returncode == EXIT_OK, done.stdout + done.stderr
    result = json.loads(done.stdout)["result"]
    assert result["blocks"] == third + 5
    assert (result["blocks_in_part"], result["files_removed"], result["not_restored"]) == (0, 5, [])

    code, report = verify(landing, store, "--deep")
    assert code == EXIT_OK, report
    assert report["proven"]
    assert report["blocks"]["missing"] == report["blocks"]["damaged"] == report["blocks"]["orphans"] == []
    assert read_back(store) == landed

    again = recover(landing, store)
    assert again.returncode == EXIT_OK
    assert "No block that is known is missing or damaged." in again.stdout


def _ledger_is_lost(landing: Landing, store: Path, landed: Placed) -> None:
    shutil.rmtree(store / "ledger")
    harmed = files(store)[2]
    content = bytearray(harmed.read_bytes())
    content[len(content) // 3] ^= 0xFF
    harmed.write_bytes(content)
    done = recover(landing, store)
    assert done.returncode == EXIT_AMISS, done.stdout + done.stderr
    assert "The ledger is lost" in done.stdout
    assert "1 is damaged" in done.stdout
    assert not harmed.exists()
    _, report = verify(landing, store, "--deep")
    assert report["blocks"]["missing"] == report["blocks"]["damaged"] == []
    assert all(not one["gaps"] and not one["lost"] for one in report["shards"])
    assert read_back(store) == landed


def _ledger_and_blocks_are_lost(landing: Landing, store: Path) -> None:
    shutil.rmtree(store / "ledger")
    blocks = files(store)
    blocks[3].unlink()
    blocks[6].write_bytes(blocks[6].read_bytes()[:-9])
    done = recover(landing, store)
    assert done.returncode == EXIT_AMISS, done.stdout + done.stderr
    assert f"block {blocks[3].stem} may be missing, by its number: which records it held is not known" in done.stdout
    assert f"block {blocks[6].stem}: which records it held is not known" in done.stdout
    assert "--against-stream" in done.stdout
    code, report = verify(landing, store, "--deep")
    assert code == EXIT_AMISS
    assert any(one["gaps"] for one in report["shards"])
