"""One stream: its shards and its settings, and the changes that can be made to them.

A change is an event: a JSON object that holds everything that was decided (numbers, times, ids), so that applying the
same events to an empty model gives the same model. `Model` decides and commits; nothing here reads a clock or rolls
dice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kcl_receiver.emulator.kinesis.shard import Shard

HOUR = 3_600_000
"""Milliseconds of an hour: retention is counted in hours."""


@dataclass
class Stream:
    """One stream.

    Attributes:
        name: Its name.
        arn: Its Amazon resource name.
        created: Milliseconds since the epoch.
        retention: Hours for which records are kept.
        mode: PROVISIONED or ON_DEMAND.
        record_limit: Largest record (key and data) in bytes.
        shards: All that still hold records or are open, by id, oldest first.
        next_number: Number of the next shard.
        status: CREATING, UPDATING, DELETING or ACTIVE, as long as `busy_until` (ms) lies ahead; ACTIVE after that.
    """

    name: str
    arn: str
    created: int
    retention: int
    mode: str
    record_limit: int
    shards: dict[str, Shard] = field(default_factory=dict)
    next_number: int = 0
    tags: dict[str, str] = field(default_factory=dict)
    status: str = "ACTIVE"
    busy_until: int = 0

    def status_at(self, now: int) -> str:
        """Return the status at `now` (ms)."""
        return self.status if now < self.busy_until else "ACTIVE"

    def is_gone(self, now: int) -> bool:
        """Whether it was deleted and its time as DELETING is over."""
        return self.status == "DELETING" and now >= self.busy_until

    def open_shards(self) -> list[Shard]:
        """Return the open shards in the order of their hash ranges."""
        return sorted((shard for shard in self.shards.values() if shard.is_open), key=lambda shard: shard.start)

    def shard_for(self, hash_key: int) -> Shard:
        """Return the open shard that takes a hash key."""
        return next(shard for shard in self.shards.values() if shard.is_open and shard.covers(hash_key))

    def horizon(self, now: int) -> int:
        """Return the trim horizon in ms: nothing of the stream is older."""
        return max(self.created, now - self.retention * HOUR)

    def expire(self, now: int) -> None:
        """Drop what the retention no longer covers: records, and shards that were closed before it."""
        horizon = now - self.retention * HOUR
        for shard in list(self.shards.values()):
            shard.trim(before_arrival=horizon)
            if shard.closed is not None and shard.closed < horizon:
                del self.shards[shard.id]

    def add_shards(self, raws: list[dict[str, Any]]) -> None:
        """Add shards from their form in an event."""
        for raw in raws:
            shard = Shard(
                number=raw["number"],
                start=int(raw["start"]),
                end=int(raw["end"]),
                created=raw["created"],
                epoch=raw["epoch"],
                parent=raw.get("parent"),
                adjacent=raw.get("adjacent"),
            )
            self.shards[shard.id] = shard
            self.next_number = max(self.next_number, shard.number + 1)

    def reshard(self, event: dict[str, Any]) -> None:
        """Close parents and open their children, as the event says."""
        self.add_shards(event["opened"])
        for closed in event["closed"]:
            self.shards[closed["shard"]].close(event["at"], int(closed["ending"]), closed["children"])
        self.be_busy("UPDATING", event["until"])

    def be_busy(self, status: str, until: int) -> None:
        """Show a status until a moment (ms)."""
        self.status, self.busy_until = status, until

    def describe(self, now: int) -> dict[str, Any]:
        """Return what DescribeStream and DescribeStreamSummary have in common."""
        return {
            "StreamName": self.name,
            "StreamARN": self.arn,
            "StreamStatus": self.status_at(now),
            "StreamModeDetails": {"StreamMode": self.mode},
            "RetentionPeriodHours": self.retention,
            "StreamCreationTimestamp": self.created / 1000,
            "EnhancedMonitoring": [{"ShardLevelMetrics": []}],
            "EncryptionType": "NONE",
            "MaxRecordSizeInKiB": self.record_limit // 1024,
        }
