"""When a ledger gives way to the next one, and how old what sessions still need may be.

A ledger is of one day, and of bounded length, so that a start reads little. The rule for its length: what counts is
what came after its first lines, and that must be at least as much as they are. A ledger that is full of the marks that
it repeats would otherwise be followed by the next with every line, each a copy of the last.

The id of a ledger tells when it begins, and readers take the order of the ids for the order of the ledgers. So each
begins later than all before it, at least by its id: no clock that is set back puts a ledger where readers have passed.
"""

from __future__ import annotations

from dataclasses import dataclass

from kcl_receiver.ids import began_at, day_at

LEDGER_LINES = 10_000
"""A ledger of so many lines is closed, and a new one begun: it bounds what a start has to read."""
LEDGER_BYTES = 16 * 2**20
"""The same; with many shards a line is long, and who reads the ledger has one of them in memory.

How many appends are too many, the place says: see `Objects.most_appends`.
"""
_DAY_MS = 86_400_000
SLACK_MS = 2 * _DAY_MS
"""Spared, so that no record is taken for gone that the stream still holds: arrival times need not rise."""

SETTLED_MS = 3_600_000
"""A shard that ended under an earlier writer, and that KCL has not begun again in this time, is done with."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much a ledger holds: lines, their bytes, and in how many appends they came."""

    lines: int = 0
    size: int = 0
    appends: int = 0


def begins_at(now_ms: int, newest_ms: int | None, *, day_is_over: bool = False) -> int:
    """Return when the next ledger begins, by its id; milliseconds since the epoch.

    Args:
        now_ms: Wall clock, milliseconds since the epoch.
        newest_ms: When the newest of all ledgers of the store began, by its id; None if there is none.
        day_is_over: It follows because a day is over. While the clock is behind the ids, their days pass all the same:
            a day's blocks lie in one directory, and maintenance takes a day at a time.
    """
    if newest_ms is None or now_ms >= newest_ms + 1000:  # an id holds whole seconds
        return now_ms
    return newest_ms - newest_ms % _DAY_MS + _DAY_MS if day_is_over else newest_ms + 1000


def is_due(
    day: str,
    today: str,
    first: Extent,
    whole: Extent,
    most_lines: int = LEDGER_LINES,
    most_appends: int | None = None,
) -> bool:
    """Return whether a writer's ledger gives way to the next one.

    Args:
        day: The day of the wall clock when the ledger began, as 2026-11-22.
        today: The same of now. A clock that was set back ends no day.
        first: What the first lines hold.
        whole: What all of it holds.
        most_lines: See `LEDGER_LINES`.
        most_appends: See `Objects.most_appends`.
    """
    if today > day or whole.lines - first.lines >= most_lines:
        return True
    added = whole.size - first.size
    is_in_pieces = most_appends is not None and whole.appends - first.appends >= most_appends
    return added >= first.size and (added >= LEDGER_BYTES or is_in_pieces)


class Rollover:
    """Decides when the ledger of a generator gives way to the next one.

    Args:
        most_lines: See `LEDGER_LINES`.
        most_appends: See `Objects.most_appends`.
    """

    def __init__(self, most_lines: int = LEDGER_LINES, most_appends: int | None = None) -> None:
        self._most_lines = most_lines
        self._most_appends = most_appends
        self._day = ""
        self._first = Extent()

    def made(self, now_ms: int) -> None:
        """The first lines of a ledger are made: it is of this day, whenever they become durable."""
        self._day = day_at(now_ms)

    def began(self, first: Extent) -> None:
        """They are durable, and the ledger holds so much."""
        self._first = first

    def next_at(self, writer: str, whole: Extent, now_ms: int) -> int | None:
        """Return when the next ledger begins, by its id, if it does now; milliseconds since the epoch.

        Args:
            writer: Id of the ledger.
            whole: What it holds.
            now_ms: Wall clock, milliseconds since the epoch.
        """
        today = day_at(now_ms)
        if not is_due(self._day, today, self._first, whole, self._most_lines, self._most_appends):
            return None
        return begins_at(now_ms, began_at(writer), day_is_over=today > self._day)


def oldest_in_reach(newest_ms: int, retention_hours: int) -> int:
    """Return the time before which no record is left in the stream, milliseconds since the epoch; 0 if not known.

    Args:
        newest_ms: When the newest record that is stored arrived; -1 if not known. The service's clock has passed that;
            what this host's clock says has no part in it.
        retention_hours: The stream's retention.
    """
    return max(0, newest_ms - retention_hours * 3_600_000 - SLACK_MS)
