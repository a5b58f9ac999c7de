"""For how long each shard was left unread, in truth: what the proof is held against. In the service's milliseconds."""

from __future__ import annotations

from dataclasses import dataclass

from kcl_receiver.horizon import interval_ms
from kcl_receiver.ranges import Position
from simulation.stream import Shard, Stream

LAPSE_MS = 60_000
"""Who asks less often has stopped reading."""


@dataclass
class _Reads:
    """Of one shard.

    Attributes:
        reach: All that had arrived by then was read.
        longest: The longest that anything was left unread.
        called: When the last delivery came.
        began: When reading went on after the last lapse.
        before: What `reach` was before it.
        calls: Deliveries since, empty ones too.
    """

    reach: int
    longest: int
    called: int
    began: int
    before: int
    calls: int = 0


class Unread:
    """See the module."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._first: dict[str, int] = {}
        self._reads: dict[str, _Reads] = {}

    def began(self, shard: Shard) -> None:
        """A session began."""
        self._first.setdefault(shard.id, self._stream.millis())

    def delivered(self, shard: Shard, last: Position | None) -> None:
        """A delivery came, after which a session has got all through a position."""
        now = self._stream.millis()
        one = self._reads.get(shard.id)
        if one is None:
            parents = [self._reads[parent].reach for parent in shard.parents if parent in self._reads]
            reach = max(parents, default=self._first[shard.id])
            one = self._reads[shard.id] = _Reads(reach, 0, now, now, reach)
        before = one.reach
        one.calls += 1
        if now - one.called > LAPSE_MS:
            # Of a stretch shorter than marks are apart the ledger may know nothing: two lapses are one then.
            if one.called - one.began >= interval_ms(self._stream.retention_hours):
                one.before = before
            before = one.before
            one.began, one.calls = now, 0
        one.longest = max(one.longest, now - before)
        one.called = now
        if not shard.positions or (last is not None and last >= shard.positions[-1]):
            one.reach = now
        elif last is not None:
            # Who lags behind has read up to the arrival of the last record: what comes next may be as old.
            one.reach = max(one.reach, self._stream.arrival[shard.id, last] or 0)

    def calls_since_lapse(self, shard: Shard) -> int:
        """Return how many deliveries, empty ones too, there were since the shard was left unread for a while."""
        return self._reads[shard.id].calls if shard.id in self._reads else 0

    def longest(self, shard: Shard) -> int:
        """Return for how long at most anything of a shard, or of one that it was made of, was not read.

        Of a child that was made meanwhile nobody knows how old it is.
        """
        parents = [self.longest(self._stream.shards[parent]) for parent in shard.parents]
        return max(self._reads[shard.id].longest if shard.id in self._reads else 0, *parents, 0)
