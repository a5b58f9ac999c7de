from __future__ import annotations

import pytest

from kcl_receiver.aws import Lease, Shard
from kcl_receiver.daemon.findings import ERROR, WARNING
from kcl_receiver.daemon.probes import stale_leases

OPEN = Shard("shard-open", 1000, None, (), (0, 1))
TABLES = ("leases", "app-WorkerMetricStats", "app-CoordinatorState")
CLOSED = Shard("shard-closed", 1000, 2000, (), (0, 1))


def lease(shard: str, checkpoint: str) -> Lease:
    return Lease(shard, checkpoint, 0, None, 0)


@pytest.mark.parametrize(
    ("shard", "checkpoint"),
    [
        ("shard-open", "1000"),
        ("shard-open", "9" * 56),
        ("shard-open", "TRIM_HORIZON"),
        ("shard-open", "AT_TIMESTAMP"),
        ("shard-closed", "1000"),
        ("shard-closed", "2000"),
        ("shard-closed", "SHARD_END"),
        ("shard-trimmed", "SHARD_END"),
    ],
)
def test_leases_of_the_stream_are_fine(shard: str, checkpoint: str) -> None:
    assert list(stale_leases([lease(shard, checkpoint)], [OPEN, CLOSED], TABLES)) == []


@pytest.mark.parametrize(
    ("shard", "checkpoint", "severity", "reason"),
    [
        ("shard-open", "999", ERROR, "lies outside of the shard's sequence numbers"),
        ("shard-closed", "2001", ERROR, "lies outside of the shard's sequence numbers"),
        ("shard-open", "SHARD_END", ERROR, "would never be read"),
        ("shard-open", "LATEST", ERROR, "would begin at the newest record again"),
        ("shard-other", "1500", WARNING, "the stream has no such shard"),
    ],
)
def test_a_lease_that_cannot_be_of_this_stream_is_found(
    shard: str, checkpoint: str, severity: str, reason: str
) -> None:
    (found,) = stale_leases([lease(shard, checkpoint)], [OPEN, CLOSED], TABLES)
    assert found.severity == severity
    assert reason in found.reason
    assert shard in found.reason
    assert "table" in found.instead
    assert "leases" in found.instead
