"""How long KCL takes to its first record, so that nobody takes the wait for a fault."""

from __future__ import annotations

from kcl_receiver.config import kcl_keys
from kcl_receiver.config.properties import ReceiverConfig

START_SECONDS = 10
"""The JVM, its connections and the processes: seen to take 5 to 10 s together."""


def first_start_seconds(config: ReceiverConfig) -> tuple[int, int]:
    """Return the least and the most that a start on an empty lease table takes.

    KCL 3.1 waits 1 to 30 s for another worker to make the leases (Scheduler.shouldInitiateLeaseSync), sleeps for
    shardSyncIntervalMillis after it has made them itself (ShardSyncTask.call), and hands them out once in
    leaseAssignmentIntervalMillis, which is twice failoverTimeMillis (LeaseAssignmentManager).
    """
    sync = _millis(config, "shardSyncIntervalMillis", 60_000)
    assignment = _millis(config, "leaseAssignmentIntervalMillis", 2 * config.failover_time_millis)
    return (1000 + sync) // 1000 + START_SECONDS // 2, (30_000 + sync + assignment) // 1000 + START_SECONDS


def later_start_seconds(config: ReceiverConfig) -> tuple[int, int]:
    """Return the same for a start that finds its leases: at once if they are its own, else at the next hand-out."""
    assignment = _millis(config, "leaseAssignmentIntervalMillis", 2 * config.failover_time_millis)
    return START_SECONDS // 2, assignment // 1000 + START_SECONDS


def longest_start_seconds(config: ReceiverConfig) -> float:
    """Return the longest that any start takes, unless KCL's leader was killed just before."""
    return float(max(first_start_seconds(config)[1], later_start_seconds(config)[1]))


def patience(config: ReceiverConfig, first: bool) -> str:
    """Return a sentence that says how long the start takes, and why."""
    if not first:
        least, most = later_start_seconds(config)
        return f"the first record comes in {least} to {most} s: KCL has to find its leases"
    least, most = first_start_seconds(config)
    return (
        f"first start: the first record comes in {least} to {most} s, because KCL waits a random 1 to 30 s for another "
        "worker to make the lease table, then makes it, waits for shardSyncIntervalMillis, and hands the leases out"
    )


def _millis(config: ReceiverConfig, key: str, default: int) -> int:
    millis: int | None = kcl_keys.value(config.raw, key)
    return default if millis is None else millis
