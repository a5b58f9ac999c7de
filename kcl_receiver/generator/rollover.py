"""When a ledger gives way to the next one, and how old what the next one carries over may be.

A ledger is of one day, and of bounded length, so that a start reads little. The rule for its length: what counts is
what came after its first lines, and that must be at least as much as they are. A ledger that is full of what it carries
over would otherwise be followed by the next with every line, each a copy of the last.
"""

from __future__ import annotations

from dataclasses import dataclass

LEDGER_LINES = 10_000
"""A ledger of so many lines is sealed, and a new one begun: it bounds what a start has to read."""
LEDGER_BYTES = 16 * 2**20
"""The same; with many shards a line is long, and who reads the ledger has one of them in memory."""
SLACK_MS = 2 * 86_400_000
"""What is older than the retention by more than this is gone from the stream, whatever this host's clock says."""

SETTLED_MS = 3_600_000
"""A shard that ended under an earlier writer, and that KCL has not begun again in this time, is done with."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much a ledger holds: lines, and their bytes."""

    lines: int = 0
    size: int = 0


def is_due(day: str, today: str, first: Extent, whole: Extent, most_lines: int = LEDGER_LINES) -> bool:
    """Return whether a writer's ledger gives way to the next one.

    Args:
        day: The day of the ledger, as 2026-11-22.
        today: The day of the wall clock. One that was set back does not end the ledger's day.
        first: What the first lines hold.
        whole: What all of it holds.
        most_lines: See `LEDGER_LINES`.
    """
    if today > day:
        return True
    return whole.lines - first.lines >= most_lines or whole.size - first.size >= max(LEDGER_BYTES, first.size)


def oldest_in_reach(now_ms: int, retention_hours: int) -> int:
    """Return the time before which no record is left in the stream, milliseconds since the epoch."""
    return now_ms - retention_hours * 3_600_000 - SLACK_MS
