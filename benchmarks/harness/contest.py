"""One run of one contestant: start, initialize, clock, lines, drain, clock, end, check.

The clock runs from the first line of records to the answer to the last shard's shutdownRequested, by which time every
contestant has checkpointed its last record: those that store have it durable and reported then. The checks come after
the clock, and a run that does not pass them has no figures.
"""

from __future__ import annotations

import contextlib
import gc
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness.check import check
from benchmarks.harness.contestants import Contestant
from benchmarks.harness.player import (
    LEASE_LOST,
    SHUTDOWN_REQUESTED,
    OnCheckpoint,
    Peer,
    Player,
    PlayFailed,
    Say,
    Script,
    initialize,
)
from benchmarks.harness.process import Cost
from benchmarks.harness.workload import ShardLines


@dataclass(frozen=True, slots=True)
class Run:
    """The figures of one run that passed its checks.

    Attributes:
        contestant: Its name.
        records: Records played, and found again.
        seconds: By the wall clock.
        player_cpu: Seconds of CPU of the player itself, which no contestant is charged with.
        costs: What each process used.
        objects: Data files written.
        size: Bytes in them.
        checkpoints: How many were taken, all shards together.
    """

    contestant: str
    records: int
    seconds: float
    player_cpu: float
    costs: tuple[Cost, ...]
    objects: int
    size: int
    checkpoints: int

    @property
    def rate(self) -> float:
        """Records a second."""
        return self.records / self.seconds

    def cpu_per_million(self, role: str | None = None) -> float:
        """Return seconds of CPU a million records, of one role or of all."""
        used = sum(cost.cpu for cost in self.costs if role in (None, cost.role))
        return used / self.records * 1e6

    def start_cpu(self) -> float:
        """Return seconds of CPU before the clock was started, all processes together."""
        return sum(cost.start_cpu for cost in self.costs)

    def peak(self, role: str) -> int:
        """Return the peak memory of the largest process of a role, 0 if there is none."""
        return max((cost.peak for cost in self.costs if cost.role == role), default=0)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "contestant": self.contestant,
            "records": self.records,
            "seconds": self.seconds,
            "player_cpu": self.player_cpu,
            "costs": [cost.to_json() for cost in self.costs],
            "objects": self.objects,
            "size": self.size,
            "checkpoints": self.checkpoints,
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Run:
        """Return what `to_json` gave."""
        return cls(**{**raw, "costs": tuple(Cost(**cost) for cost in raw["costs"])})


@contextlib.contextmanager
def own_directory(parent: Path) -> Iterator[Path]:
    """Make a directory for one run, and remove it with all that was stored."""
    path = Path(tempfile.mkdtemp(prefix="run-", dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@dataclass
class Stage:
    """A contestant that was started, with the player in front of it; to be used as a context.

    Attributes:
        seconds: Wall clock, after `ended`.
        player_cpu: The player's CPU over the same time.
        costs: What each process used, after `let_go`.
    """

    contestant: Contestant
    on_checkpoint: OnCheckpoint | None = None
    seconds: float = 0.0
    player_cpu: float = 0.0
    costs: tuple[Cost, ...] = ()
    _player: Player | None = field(default=None, repr=False)
    _began: tuple[float, float] = (0.0, 0.0)

    def __enter__(self) -> Stage:
        try:
            peers = self.contestant.start()
            self._player = Player(peers, self.on_checkpoint)
            self.run(lambda peer: iter_script([initialize(peer.shard)]))
            self.contestant.await_open()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        gc.enable()
        self.contestant.kill()
        if self._player is not None:
            self._player.close()

    def run(self, script_of: Callable[[Peer], Script]) -> None:
        """Run a script for every processor; see `Player.run`."""
        if self._player is None:
            raise PlayFailed("the stage is not set")
        self._player.run(script_of)

    def start_clock(self) -> None:
        """From here on time and CPU count. The garbage collector does not look at the lines while they are played."""
        gc.collect()
        gc.disable()
        for process in self.contestant.processes():
            process.start_clock()
        self._began = time.monotonic(), time.process_time()

    def stop_clock(self) -> None:
        """All is stored and reported."""
        self.seconds = time.monotonic() - self._began[0]
        self.player_cpu = time.process_time() - self._began[1]
        gc.enable()

    def let_go(self) -> None:
        """End all processes as the daemon does, and take down what they used."""
        for peer in self.contestant.peers:
            peer.process.note_peak()
        self.run(lambda _: iter_script([LEASE_LOST]))
        for peer in self.contestant.peers:
            peer.process.hang_up()
        costs = [peer.process.wait() for peer in self.contestant.peers]
        self.contestant.finish_others()
        costs += [process.wait() for process in self.contestant.others()]
        self.costs = tuple(costs)

    def figures(self, records: int) -> Run:
        """Return the figures of a run that was checked."""
        written = self.contestant.written()
        return Run(
            contestant=self.contestant.name,
            records=records,
            seconds=self.seconds,
            player_cpu=self.player_cpu,
            costs=self.costs,
            objects=written.objects,
            size=written.size,
            checkpoints=sum(peer.checkpoints for peer in self.contestant.peers),
        )


def iter_script(steps: Sequence[Say]) -> Script:
    """Return a script of these steps, one after the other."""
    yield from steps


def play(
    contestant: Contestant,
    prepared: Sequence[ShardLines],
    *,
    judge: Sequence[ShardLines] | None = None,
) -> Run:
    """Play all lines as fast as they are taken, check the result, and return the figures.

    Args:
        contestant: Not started yet.
        prepared: The lines.
        judge: What must be stored, if that is not what the lines hold: for tests of the check itself.

    Raises:
        PlayFailed: A processor did not play its part.
        ProcessFailed: A process did not end well.
        CheckFailed: What was stored is not what was played.
    """
    lines = {one.shard: one.lines for one in prepared}

    def script(peer: Peer) -> Script:
        for line in lines[peer.shard]:
            yield Say("processRecords", line.content, line.last)
        yield SHUTDOWN_REQUESTED

    with Stage(contestant) as stage:
        stage.start_clock()
        try:
            stage.run(script)
        finally:
            stage.stop_clock()
        stage.let_go()
    expected = prepared if judge is None else judge
    check(contestant, expected)
    return stage.figures(sum(one.records for one in prepared))
