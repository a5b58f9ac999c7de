"""What the ledger holds of each shard from its last checkpoint on: all that a session's start needs to know, mostly.

A generator runs for months and stores a range per shard and second. Sessions begin at checkpoints, and whatever ends
before a checkpoint that KCL has taken is of no use to them, so it is forgotten here; the ledger keeps it. Only a
session that begins further back (an operator has reset its lease) needs the ledger read again, and `reaches` tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kcl_receiver.ranges import After, Position, Range


class RecentRanges:
    """The ranges of one stream, each with the id of its block, by shard."""

    def __init__(self) -> None:
        self._ranges: dict[str, list[tuple[Range, str]]] = {}
        self._forgotten: dict[str, Position] = {}

    def __len__(self) -> int:
        return sum(map(len, self._ranges.values()))

    def add(self, block: str, ranges: Iterable[Range]) -> None:
        """Take in a block of the ledger."""
        for one in ranges:
            self._ranges.setdefault(one.shard, []).append((one, block))

    def ranges(self) -> tuple[tuple[Range, str], ...]:
        """Return all ranges that are kept, each with the id of its block."""
        return tuple(pair for shard in self._ranges.values() for pair in shard)

    @property
    def forgotten(self) -> dict[str, Position]:
        """By shard, the checkpoint before which ranges were dropped."""
        return dict(self._forgotten)

    def take(self, ranges: Iterable[tuple[Range, str]], forgotten: Mapping[str, Position]) -> None:
        """Take in what an earlier writer kept. What several of them kept is kept once."""
        for one, block in ranges:
            if (one, block) not in self._ranges.get(one.shard, []):
                self.add(block, [one])
        for shard, checkpoint in forgotten.items():
            self.forget(shard, checkpoint)
            self._forgotten[shard] = max(self._forgotten.get(shard, checkpoint), checkpoint)

    def forget(self, shard: str, checkpoint: Position) -> None:
        """Drop what ends before a checkpoint. The range that holds the checkpoint itself stays: it knows its age."""
        ranges = self._ranges.get(shard, [])
        kept = [(one, block) for one, block in ranges if one.last >= checkpoint]
        if len(kept) < len(ranges):
            self._ranges[shard] = kept
            self._forgotten[shard] = max(self._forgotten.get(shard, checkpoint), checkpoint)

    def reaches(self, shard: str, after: After) -> bool:
        """Return whether all is known here that a session needs that begins after this."""
        forgotten = self._forgotten.get(shard)
        return forgotten is None or (isinstance(after, Position) and after >= forgotten)

    def beyond(self, shard: str, after: After) -> dict[str, list[Range]]:
        """Return the ranges that reach past `after`, by the id of their block."""
        out: dict[str, list[Range]] = {}
        for one, block in self._ranges.get(shard, []):
            if not isinstance(after, Position) or one.last > after:
                out.setdefault(block, []).append(one)
        return out

    def arrival_of(self, shard: str, position: Position) -> int | None:
        """Return the latest last arrival time of the ranges that hold a position, milliseconds; None if none does."""
        arrivals = [one.arrival_last for one, _ in self._ranges.get(shard, []) if one.first <= position <= one.last]
        return max(arrivals, default=None)
