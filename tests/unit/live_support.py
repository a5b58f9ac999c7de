"""Live states for tests: everything is well unless a test says otherwise."""

from __future__ import annotations

from typing import Any

from kcl_receiver.status.report import GeneratorState, LeaseState, ShardState

WORKER = "host-0123456789ab"


def shard_id(number: int) -> str:
    return f"shardId-{number:012d}"


def shard(shard: str | int = 0, **changes: object) -> ShardState:
    values: dict[str, Any] = {
        "shard": shard_id(shard) if isinstance(shard, int) else shard,
        "session": "1-a",
        "state": "open",
        "problem": None,
        "pid": 1,
        "connected": True,
        "spoke_seconds": 0.5,
        "records": 71,
        "delivered": "680286113794:2",
        "stored_through": "680286113794:2",
        "checkpoint": "680286113794:2",
        "behind_millis": 0,
        "behind_seconds": 0.5,
        "window_used": 0,
        "waiting": False,
        "shard_end": False,
        "read_until": -1,
        "possibly_trimmed": None,
    }
    return ShardState(**values | changes)


def generator(*shards: ShardState, **changes: object) -> GeneratorState:
    values: dict[str, Any] = {
        "application": "landing",
        "writer": "writer-1",
        "draining": False,
        "failing": None,
        "silent_after": 30.0,
        "blocks_stored": 1,
        "records_stored": 200,
        "bytes_stored": 274_944,
        "records_skipped": 0,
        "blocks_in_flight": 0,
        "building_bytes": 0,
        "building_seconds": 0.0,
        "window_bytes": 1000,
        "shards": shards,
        "store": "file:///store",
        "socket": "/run/generator.sock",
        "version": "1",
        "pid": 1,
        "uptime_seconds": 1000.0,
        "prepared": True,
        "ranges_in_memory": 0,
        "stream": None,
    }
    return GeneratorState(**values | changes)


def lease(shard: int = 0, owner: str | None = WORKER, checkpoint: str = "680286113794") -> LeaseState:
    return LeaseState(shard=shard_id(shard), checkpoint=checkpoint, sub_sequence_number=2, owner=owner, counter=7)
