"""What the ledger knows of how far shards were read: enough to say at a session's start whether it comes too late.

Fed with each entry that is durable, and carried from ledger to ledger. What is older than the retention is of no use to
any session that begins later, and is left out.
"""

from __future__ import annotations

from collections.abc import Iterable

from kcl_receiver.generator.effects import ShardFacts
from kcl_receiver.horizon import Horizon, ShardMark, Times, begun, place
from kcl_receiver.ranges import TRIM_HORIZON, After, Position
from kcl_receiver.store.ledger.entries import BlockStored, Entry, MarksTaken, SessionStarted

KEPT = 8
"""Marks of a shard."""


class KnownMarks:
    """The marks of one stream, by shard."""

    def __init__(self) -> None:
        self._times = Times()
        self._shards: dict[str, Horizon] = {}
        self._begun: set[str] = set()
        """Shards of which anything was ever taken in: none of their sessions to come is the first."""

    def __len__(self) -> int:
        return len(self._shards)

    def _of(self, shard: str) -> Horizon:
        self._begun.add(shard)
        found = self._shards.get(shard)
        if found is None:
            found = self._shards[shard] = Horizon(self._times, KEPT)
        return found

    def add(self, entry: Entry) -> None:
        """Take in an entry of the ledger."""
        if isinstance(entry, BlockStored):
            for one in entry.ranges:
                self._of(one.shard).arrived(one.last, one.arrival_last)
        elif isinstance(entry, MarksTaken):
            self._times.retention.see(entry.measured, entry.retention_hours)
            for mark in entry.marks:
                horizon = self._of(mark.shard)
                horizon.opened = max(horizon.opened, mark.opened)
                if mark.until >= 0:
                    horizon.reading(place(mark.position), mark.until, entry.time)
        elif isinstance(entry, SessionStarted):
            self._times.retention.see(entry.time, entry.retention_hours)
            # Kept, or a restart before the first checkpoint would seem to come too late. Of a child, `until` asks
            # again: what is known of its parents may come after this.
            until = -1 if entry.parents else self._first(entry.shard, entry.after, entry, entry.time)
            horizon = self._of(entry.shard)
            if until >= 0:
                horizon.mark(place(entry.after), until)

    def take(self, marks: Iterable[ShardMark]) -> None:
        """Take in what a writer before has carried over."""
        for mark in marks:
            horizon = self._of(mark.shard)
            horizon.opened = max(horizon.opened, mark.opened)
            if mark.until >= 0:
                horizon.mark(place(mark.position), mark.until)

    def settle(self) -> None:
        """Take in that all that writers before have recorded is known."""
        for horizon in self._shards.values():
            horizon.settle()

    def until(self, shard: str, after: After, facts: ShardFacts) -> int:
        """Return until when all that arrived is known not to be past a session's beginning; -1 if nothing is known."""
        horizon = self._shards.get(shard)
        found = -1 if horizon is None else horizon.until(place(after))
        return max(found, self._first(shard, after, facts, facts.measured.date))

    def _first(self, shard: str, after: After, facts: ShardFacts | SessionStarted, time: int) -> int:
        """Return until when all that arrived lies before the start of a shard's first session; -1 if it is none."""
        if isinstance(after, Position):
            return -1
        parents = [self._shards[parent].opened for parent in facts.parents if parent in self._shards]
        if not parents and (shard in self._begun or facts.hash_range is None):
            return -1
        opened = max(parents) if parents else None
        return begun(after, time, facts.retention_hours, facts.begins, opened)

    def carried(self, oldest: int) -> tuple[ShardMark, ...]:
        """Return what the next ledger is to carry, and forget the rest: all that is no use since an oldest time."""
        out = []
        for shard, horizon in list(self._shards.items()):
            marks = [(position, until) for position, until in horizon.marks() if until >= oldest]
            if not marks and horizon.opened < oldest:
                del self._shards[shard]
            for position, until in marks or [(Position(-1), -1)]:
                if marks or horizon.opened >= oldest:
                    after: After = position if position.sequence_number >= 0 else TRIM_HORIZON
                    out.append(ShardMark(shard, "", after, until, horizon.opened))
        return tuple(out)
