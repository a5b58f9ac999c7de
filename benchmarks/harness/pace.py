"""Plays lines at a given rate instead of as fast as they are taken, as KCL does at a steady stream.

Lines of a shard come at a fixed interval, the shards one after the other within it. Between two lines the processor
gets empty calls: it can ask for a checkpoint only while it handles an action, and so the moment at which everything up
to a line is stored and reported is seen from outside, to within one such pause.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.harness.player import EMPTY, Peer, Say, Script, Until
from benchmarks.harness.workload import Position, ShardLines

SETTLE_SECONDS = 30.0
"""How long the last checkpoint may take to come."""


@dataclass
class Pace:
    """Lines at a fixed interval, and what became of them.

    Args:
        prepared: The lines.
        interval: Seconds between two lines of a shard.
        pause: Seconds between two empty calls while something is not checkpointed; None makes no such calls.

    Attributes:
        latencies: Seconds from the moment at which the first byte of a line was written to the moment at which a
            checkpoint was asked for that covers it.
        late: Seconds by which each line was written later than its time, since the one before was not answered.
    """

    prepared: Sequence[ShardLines]
    interval: float
    pause: float | None
    latencies: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    _waiting: dict[str, deque[tuple[Position, float]]] = field(default_factory=dict)
    _began: float = 0.0

    def begin(self) -> None:
        """The first line is due now."""
        self._began = time.monotonic()
        self._waiting = {one.shard: deque() for one in self.prepared}

    def script(self, peer: Peer) -> Script:
        """Return what one processor is told: its lines, each at its time, and then empty calls until all is covered."""
        number = next(at for at, one in enumerate(self.prepared) if one.shard == peer.shard)
        waiting = self._waiting[peer.shard]
        due = self._began + self.interval * number / len(self.prepared)
        for line in self.prepared[number].lines:
            yield from self._until(due, waiting)
            now = time.monotonic()
            self.late.append(max(now - due, 0.0))
            waiting.append((line.last, now))
            yield Say("processRecords", line.content, line.last)
            due += self.interval
        yield from self._until(due, waiting)
        if self.pause is not None:
            end = time.monotonic() + SETTLE_SECONDS
            while waiting and time.monotonic() < end:
                yield Until(time.monotonic() + self.pause)
                yield EMPTY

    def _until(self, due: float, waiting: deque[tuple[Position, float]]) -> Script:
        while (now := time.monotonic()) < due:
            if self.pause is None or not waiting:
                yield Until(due)
            else:
                yield Until(min(due, now + self.pause))
                if time.monotonic() < due and waiting:
                    yield EMPTY

    def on_checkpoint(self, peer: Peer, position: Position, now: float) -> None:
        """Take down how long every line took that this checkpoint covers."""
        waiting = self._waiting.get(peer.shard)
        while waiting and waiting[0][0] <= position:
            self.latencies.append(now - waiting.popleft()[1])

    @property
    def uncovered(self) -> int:
        """Lines that no checkpoint has covered yet."""
        return sum(map(len, self._waiting.values()))
