"""The lease table, and the leader that assigns leases.

Written after KCL 3.1.3: DynamoDBLeaseRefresher (every write is conditional on the counter), DynamoDBLeaseRenewer (a
checkpoint whose condition fails loses the lease; a renewal that finds its own write does not), LeaseAssignmentManager
(expired leases are given to others; balancing hands over in good order, or takes).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kcl_receiver.ranges import TRIM_HORIZON, Position

if TYPE_CHECKING:
    from simulation.daemon import Daemon
    from simulation.fleet import Fleet

SHARD_END = "SHARD_END"
FAILOVER = 6.0
"""Seconds without renewal after which a lease is given to another worker."""
HANDOFF = 12.0
"""gracefulLeaseHandoffTimeoutMillis in seconds."""
ASSIGN_EVERY = 2.0

Checkpoint = Position | str

_LOW = {"AT_TIMESTAMP": (-3, 0), TRIM_HORIZON: (-2, 0), "LATEST": (-1, 0), SHARD_END: (10**200, 0)}


def order(checkpoint: Checkpoint) -> tuple[int, int]:
    """ExtendedSequenceNumber.compareTo."""
    return _LOW[checkpoint] if isinstance(checkpoint, str) else checkpoint


@dataclass
class Lease:
    """A row. `was_owner` is `checkpointOwner`: it may still checkpoint until the hand-over is done."""

    shard: str
    checkpoint: Checkpoint = TRIM_HORIZON
    owner: str | None = None
    counter: int = 0
    was_owner: str | None = None
    handoff_since: float = 0.0
    changed_at: float = -1e9


class LeaseTable:
    """See the module."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.rows: dict[str, Lease] = {}

    def create(self, shard: str, checkpoint: Checkpoint = TRIM_HORIZON) -> None:
        if shard not in self.rows:
            self.rows[shard] = Lease(shard, checkpoint)

    def write(
        self, worker: str, shard: str, counter: int, checkpoint: Checkpoint | None = None, session: str = ""
    ) -> bool:
        """A conditional write; with the checkpoint of a session, or a mere renewal. The counter rises."""
        row = self.rows[shard]
        if row.counter != counter or worker not in (row.owner, row.was_owner):
            return False
        row.counter += 1
        row.changed_at = self.fleet.timeline.now
        if checkpoint is not None:
            before, row.checkpoint = row.checkpoint, checkpoint
            if self.fleet.tracing:
                self.fleet.trace(f"lease table: {shard} {before} → {checkpoint} by {worker}")
            self.fleet.watch.checkpointed(shard, checkpoint, session)
        return True

    def give(self, row: Lease, owner: str | None) -> None:
        """Assign a lease, whoever has it."""
        if self.fleet.tracing:
            self.fleet.trace(f"lease table: {row.shard} is given from {row.owner} to {owner}")
        row.owner = owner
        row.was_owner = None
        row.counter += 1
        row.changed_at = self.fleet.timeline.now

    def hand_over(self, row: Lease, owner: str) -> None:
        """Ask the owner to shut down first."""
        if self.fleet.tracing:
            self.fleet.trace(f"lease table: {row.shard} is to be handed over from {row.owner} to {owner}")
        row.was_owner, row.owner = row.owner, owner
        row.handoff_since = self.fleet.timeline.now

    def set_back(self, row: Lease, checkpoint: Checkpoint) -> None:
        """Written by hand; whoever holds the lease finds that it has changed."""
        if self.fleet.tracing:
            self.fleet.trace(f"lease table: {row.shard} is set back from {row.checkpoint} to {checkpoint}")
        row.checkpoint = checkpoint
        self.give(row, None)

    # The leader

    def assign(self) -> None:
        self._sync()
        now = self.fleet.timeline.now
        workers = [host.daemon for host in self.fleet.hosts if host.daemon is not None and host.daemon.takes_leases]
        for row in self.rows.values():
            if row.checkpoint == SHARD_END or not workers:
                continue
            if row.was_owner is not None:
                if now - row.handoff_since > HANDOFF:
                    self.give(row, row.owner)
            elif row.owner is None or now - row.changed_at > FAILOVER:
                self.give(row, min(workers, key=self._load).worker)
        self._balance(workers)

    def _sync(self) -> None:
        """PeriodicShardSyncManager: a shard whose parents have expired gets its lease without them."""
        stream = self.fleet.stream
        for shard in stream.shards.values() if self.rows else ():
            if shard.id not in self.rows and not stream.expired(shard):
                parents = [stream.shards[parent] for parent in shard.parents]
                if all(stream.expired(one) or one.id in self.rows for one in parents) and any(
                    map(stream.expired, parents)
                ):
                    self.create(shard.id)

    def _load(self, daemon: Daemon) -> int:
        return sum(row.owner == daemon.worker for row in self.rows.values() if row.checkpoint != SHARD_END)

    def _balance(self, workers: list[Daemon]) -> None:
        if len(workers) < 2 or self.fleet.rng.random() > 0.3:
            return
        most, least = max(workers, key=self._load), min(workers, key=self._load)
        if self._load(most) - self._load(least) < 2:
            return
        self.move(most.worker, least.worker, forced=self.fleet.rng.random() < 0.2)

    def move(self, worker: str, to: str, *, forced: bool) -> bool:
        """Move one lease; return whether there was one to move."""
        for row in self.rows.values():
            if row.owner == worker and row.was_owner is None and row.checkpoint != SHARD_END:
                if forced:
                    self.give(row, to)
                else:
                    self.hand_over(row, to)
                return True
        return False
