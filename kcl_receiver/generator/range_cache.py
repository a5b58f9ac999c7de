"""What the ledger holds of each shard from its last checkpoint on: all that a session's start needs to know, mostly.

A generator runs for months and stores a range per shard and second. Sessions begin at checkpoints, and whatever ends
before a checkpoint that KCL has taken is of no use to them, so it is forgotten here; the ledger keeps it. So are the
ranges of a shard that was read to its end, and those older than the stream's retention, but for the last one of a
shard: it knows how long ago the shard was read. Only a session that begins further back (an operator has reset its
lease) needs the ledger read again, and `reaches` tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kcl_receiver.ranges import After, Forgotten, Position, Range


class RangeCache:
    """The ranges of one stream, each with the id of its block, by shard."""

    def __init__(self) -> None:
        self._ranges: dict[str, list[tuple[Range, str]]] = {}
        self._forgotten: dict[str, Forgotten] = {}

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
    def forgotten(self) -> dict[str, Forgotten]:
        """By shard, up to where ranges were dropped."""
        return dict(self._forgotten)

    @property
    def newest(self) -> int:
        """When the newest record arrived of all that was taken in, milliseconds since the epoch; -1 if not known."""
        kept = (one.arrivals.newest for ranges in self._ranges.values() for one, _ in ranges)
        return max((*kept, *(one.newest for one in self._forgotten.values())), default=-1)

    def take(self, ranges: Iterable[tuple[Range, str]], forgotten: Mapping[str, Forgotten]) -> None:
        """Take in what an earlier writer kept. What several of them kept is kept once."""
        known: dict[str, set[tuple[Range, str]]] = {}
        for one, block in ranges:
            if one.shard not in known:
                known[one.shard] = set(self._ranges.get(one.shard, ()))
            if (one, block) not in known[one.shard]:
                known[one.shard].add((one, block))
                self.add(block, [one])
        for shard, dropped in forgotten.items():
            self.forget(shard, dropped.through)
            self._note(shard, dropped)

    def forget(self, shard: str, checkpoint: Position) -> None:
        """Drop what ends before a checkpoint. The range that holds the checkpoint itself stays: it knows its age."""
        self._drop(shard, [one.last < checkpoint for one, _ in self._ranges.get(shard, [])], checkpoint)

    def end(self, shard: str) -> None:
        """Drop all of a shard: KCL has recorded that it was read to its end."""
        self._drop(shard, [True] * len(self._ranges.get(shard, [])))

    def forget_before(self, oldest_ms: int) -> None:
        """Drop what arrived before this time, milliseconds since the epoch: the stream does not hold it any more."""
        for shard, ranges in list(self._ranges.items()):
            last = max(one.last for one, _ in ranges)
            self._drop(shard, [one.last != last and one.arrivals.all_before(oldest_ms) for one, _ in ranges])
        for shard, dropped in list(self._forgotten.items()):
            if shard not in self._ranges and 0 <= dropped.newest < oldest_ms:
                del self._forgotten[shard]

    def _drop(self, shard: str, gone: list[bool], through: Position | None = None) -> None:
        if not any(gone):
            return
        pairs = list(zip(self._ranges.pop(shard), gone, strict=True))
        dropped = [one for (one, _), is_gone in pairs if is_gone]
        kept = [pair for pair, is_gone in pairs if not is_gone]
        if kept:
            self._ranges[shard] = kept
        newest = -1 if any(one.arrivals.unknown for one in dropped) else max(one.arrivals.newest for one in dropped)
        self._note(shard, Forgotten(through or max(one.last for one in dropped), newest))

    def _note(self, shard: str, dropped: Forgotten) -> None:
        known = self._forgotten.get(shard, dropped)
        newest = -1 if -1 in (known.newest, dropped.newest) else max(known.newest, dropped.newest)
        self._forgotten[shard] = Forgotten(max(known.through, dropped.through), newest)

    def reaches(self, shard: str, after: After) -> bool:
        """Return whether all is known here that a session needs that begins after this."""
        forgotten = self._forgotten.get(shard)
        return forgotten is None or (isinstance(after, Position) and after >= forgotten.through)

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
