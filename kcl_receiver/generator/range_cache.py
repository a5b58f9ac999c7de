"""What the ledger holds of each shard from its last checkpoint on: all that a session's start needs to know, mostly.

A generator runs for months and stores a range per shard and second. Sessions begin at checkpoints, and whatever ends
before a checkpoint that KCL has taken is of no use to them, so it is forgotten here; the ledger keeps it. So are the
ranges of a shard that was read to its end, and those older than the stream's retention, but for the last one of a
shard: it knows how long ago the shard was read. Only a session that begins further back (an operator has reset its
lease) needs the ledger read again, and `reaches` tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from kcl_receiver.ranges import After, Forgotten, Position, Range


class RangeCache:
    """The ranges of one stream, each with the id of its block, by shard."""

    def __init__(self) -> None:
        self._ranges: dict[str, list[tuple[Range, str]]] = {}
        self._forgotten: dict[str, Forgotten] = {}
        self._checkpoints: dict[str, Position] = {}

    def __len__(self) -> int:
        return sum(map(len, self._ranges.values()))

    def add(self, block: str, ranges: Iterable[Range]) -> None:
        """Take in a block of the ledger."""
        for one in ranges:
            self._ranges.setdefault(one.shard, []).append((one, block))

    def needed(self, oldest_ms: int) -> tuple[set[str], dict[str, Forgotten]]:
        """Return the blocks that sessions to come need, and what a cache of these alone has forgotten.

        Args:
            oldest_ms: What arrived before this time is not in the stream any more; milliseconds since the epoch.
        """
        blocks: set[str] = set()
        forgotten = dict(self._forgotten)
        for shard, ranges in self._ranges.items():
            checkpoint = self._checkpoints.get(shard)
            behind = []
            for one, block in ranges:
                if (checkpoint is not None and one.last <= checkpoint) or one.arrivals.all_before(oldest_ms):
                    behind.append(one)
                else:
                    blocks.add(block)
            if behind:
                _note(forgotten, shard, _of(behind))
        return blocks, forgotten

    @property
    def forgotten(self) -> dict[str, Forgotten]:
        """By shard, up to where ranges were dropped."""
        return dict(self._forgotten)

    @property
    def newest(self) -> int:
        """When the newest record arrived of all that was taken in, milliseconds since the epoch; -1 if not known."""
        kept = (one.arrivals.newest for ranges in self._ranges.values() for one, _ in ranges)
        return max((*kept, *(one.newest for one in self._forgotten.values())), default=-1)

    def take(self, forgotten: Mapping[str, Forgotten]) -> None:
        """Take in what writers before have forgotten."""
        for shard, dropped in forgotten.items():
            self.forget(shard, dropped.through)
            _note(self._forgotten, shard, dropped)

    def forget(self, shard: str, checkpoint: Position) -> None:
        """Drop what ends before a checkpoint. The range that holds the checkpoint itself stays: it knows its age."""
        self._checkpoints[shard] = max(checkpoint, self._checkpoints.get(shard, checkpoint))
        self._drop(shard, [one.last < checkpoint for one, _ in self._ranges.get(shard, [])], checkpoint)

    def end(self, shard: str) -> None:
        """Drop all of a shard: KCL has recorded that it was read to its end."""
        self._checkpoints.pop(shard, None)
        self._drop(shard, [True] * len(self._ranges.get(shard, [])))

    def forget_before(self, oldest_ms: int) -> None:
        """Drop what arrived before this time, milliseconds since the epoch: the stream does not hold it any more."""
        for shard, ranges in list(self._ranges.items()):
            last = max(one.last for one, _ in ranges)
            self._drop(shard, [one.last != last and one.arrivals.all_before(oldest_ms) for one, _ in ranges])
        for shard, dropped in list(self._forgotten.items()):
            if shard not in self._ranges and 0 <= dropped.newest < oldest_ms:
                del self._forgotten[shard]
                self._checkpoints.pop(shard, None)

    def _drop(self, shard: str, gone: list[bool], through: Position | None = None) -> None:
        if not any(gone):
            return
        pairs = list(zip(self._ranges.pop(shard), gone, strict=True))
        dropped = [one for (one, _), is_gone in pairs if is_gone]
        kept = [pair for pair, is_gone in pairs if not is_gone]
        if kept:
            self._ranges[shard] = kept
        _note(self._forgotten, shard, _of(dropped, through))

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


def _of(ranges: Sequence[Range], through: Position | None = None) -> Forgotten:
    """Return what is forgotten with some ranges of a shard, up to a checkpoint, or to the last of them."""
    newest = -1 if any(one.arrivals.unknown for one in ranges) else max(one.arrivals.newest for one in ranges)
    return Forgotten(through or max(one.last for one in ranges), newest)


def _note(forgotten: dict[str, Forgotten], shard: str, more: Forgotten) -> None:
    forgotten[shard] = more.with_(forgotten.get(shard, more))
