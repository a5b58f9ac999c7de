"""What a processor costs before the first record, and how much memory it has: it is paid once for every shard.

Start-up is from the start of the process to the answer to `initialize`, which is already waiting on its stdin, as
under the daemon. Idle is after the generator has opened the session. Loaded is the peak over lines of 10,000 records
of 200 bytes, the next one given when everything is stored, so that at most one batch is unstored.

    python -m benchmarks.start
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness.cells import Cell, Result
from benchmarks.harness.check import check
from benchmarks.harness.command import main
from benchmarks.harness.contest import Stage, iter_script, own_directory
from benchmarks.harness.contestants import Contestant, KclpyNoop, KclpyParquet, Receiver
from benchmarks.harness.figures import Spread, size, table
from benchmarks.harness.player import (
    EMPTY,
    LEASE_LOST,
    SHUTDOWN_REQUESTED,
    Peer,
    Player,
    Say,
    Script,
    Until,
    initialize,
)
from benchmarks.harness.workload import ShardLines, Workload, prepare

NAME = "start"
ABOUT = (
    "A processor's start-up, from the start of the process to its answer to initialize, and its memory: resident when "
    "idle (and the share of it that is its own, pages shared with others divided among them), and the peak with lines "
    "of 10,000 records of 200 B, at most one unstored."
)

CONTESTANTS: tuple[type[Contestant], ...] = (KclpyNoop, KclpyParquet, Receiver)
RECORDS_PER_LINE = 10_000
_SETTLE_SECONDS = 0.5
_PAUSE = 0.002


def cells(form: str) -> list[Cell]:
    """Return the cells of a form."""
    starts, lines = (5, 5) if form == "short" else (30, 50)
    parameters = {"starts": starts, "lines": lines}
    return [Cell("start and memory", parameters, partial(measure, starts, lines), starts * 0.5 + lines + 5)]


def measure(starts: int, lines: int, directory: Path) -> dict[str, Any]:
    """Start processors in turn, then look at the memory of one of each contestant."""
    prepared = prepare(Workload("200", "json", 1, lines * RECORDS_PER_LINE, RECORDS_PER_LINE))
    with own_directory(directory) as own:
        ready = _start_times(own, starts)
    memory: dict[str, dict[str, int]] = {}
    for contestant in CONTESTANTS:
        with own_directory(directory) as own:
            memory[contestant.name] = _memory(contestant(own, 1, {"receiver.checkpointIntervalMillis": "0"}), prepared)
    return {"ready": ready, "memory": memory}


def _start_times(directory: Path, starts: int) -> dict[str, list[float]]:
    """Start one processor after the other, contestants in turn; return the seconds of each."""
    made: list[Contestant] = []
    taken: dict[str, list[float]] = {contestant.name: [] for contestant in CONTESTANTS}
    try:
        for contestant in CONTESTANTS:
            own = directory / str(len(made))
            own.mkdir()
            made.append(contestant(own, 1))
            made[-1].prepare()
        for _ in range(starts):
            for one in made:
                peer = one.start_processor(0)
                player = Player([peer])
                player.run(_only(initialize(peer.shard)))
                taken[one.name].append(time.monotonic() - peer.process.started)
                player.run(_only(LEASE_LOST))
                player.close()
                peer.process.hang_up()
                peer.process.wait()
                one.peers.clear()
    finally:
        for one in made:
            one.kill()
    return taken


def _only(said: Say) -> Any:  # noqa: ANN401 - what Player.run takes
    return lambda _: iter_script([said])


def _memory(contestant: Contestant, prepared: Sequence[ShardLines]) -> dict[str, int]:
    def script(peer: Peer) -> Script:
        waits = isinstance(contestant, Receiver)
        for line in prepared[0].lines:
            yield Say("processRecords", line.content, line.last)
            while waits and peer.checkpoint < line.last:
                yield Until(time.monotonic() + _PAUSE)
                yield EMPTY
        yield SHUTDOWN_REQUESTED

    with Stage(contestant) as stage:
        time.sleep(_SETTLE_SECONDS)  # what a start leaves behind is freed by then; nothing can be awaited
        process = contestant.peers[0].process
        idle, own = process.memory("VmRSS"), process.memory("Pss")
        stage.start_clock()
        stage.run(script)
        stage.stop_clock()
        stage.let_go()
    check(contestant, prepared)
    return {"idle": idle, "idle_own": own, "peak": next(one.peak for one in stage.costs if one.role == "processor")}


def tables(results: Sequence[Result]) -> str:
    """Return one row a contestant."""
    rows = []
    for result in results:
        for contestant in CONTESTANTS:
            memory = result.figures["memory"][contestant.name]
            ready = Spread.of([seconds * 1e3 for seconds in result.figures["ready"][contestant.name]])
            rows.append(
                [
                    contestant.name,
                    ready.show(),
                    size(memory["idle"]),
                    size(memory["idle_own"]),
                    size(memory["peak"]),
                    str(result.parameters["starts"]),
                ]
            )
    return table(["processor", "start-up, ms", "idle", "of it its own share", "loaded, peak", "starts"], rows)


if __name__ == "__main__":
    sys.exit(main([sys.modules[__name__]], __doc__ or ""))
