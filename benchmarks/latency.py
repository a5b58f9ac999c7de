"""How long a record takes to be stored, and to be checkpointed, at 10, 50 and 90 percent of the highest rate.

The clock of a line starts when its first byte is written to the processor's stdin. "Stored" is seen from outside, by
the daemon's own protocol: with `receiver.checkpointIntervalMillis = 0` a processor asks for a checkpoint in the first
action after the generator has reported the line stored, and it is given an empty action every few milliseconds; so the
figure is too large by up to one such pause, and never too small. "Checkpoint" is the same with the default interval.

    python -m benchmarks.latency
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness.cells import Cell, Result, say
from benchmarks.harness.check import CheckFailed, check
from benchmarks.harness.command import main
from benchmarks.harness.contest import Stage, iter_script, own_directory, play
from benchmarks.harness.contestants import Receiver
from benchmarks.harness.disk import sync_seconds
from benchmarks.harness.figures import number, percentile, table
from benchmarks.harness.pace import Pace
from benchmarks.harness.player import SHUTDOWN_REQUESTED
from benchmarks.harness.workload import Workload, prepare

NAME = "latency"
ABOUT = (
    "Milliseconds from a line's first byte on the processor's stdin until it is stored and reported (too much by at "
    "most one pause between empty calls), and until it is checkpointed with the default interval; beside an fsync of a "
    "file of a block's size on the same disk, which does nothing else then. A percentile with too few lines to tell is "
    "left out. A rate at which lines are written late by more than an interval is not kept up with."
)

LOADS = (0.1, 0.5, 0.9)
INTERVAL = 0.2
"""Seconds between two lines of a shard: KCL reads no shard more often."""
MOST_RECORDS = 6_000_000
"""In memory at a time, with their lines: some 6 GB. A high rate is played for less time instead."""
PAUSE = 0.005
PERCENTILES = (50.0, 99.0, 99.9)
SYNCS = 100
BLOCK_INTERVAL = 1.0
"""Seconds; receiver.blockIntervalMillis by default."""


def cells(form: str) -> list[Cell]:
    """Return the cells of a form."""
    if form == "short":
        return [_cell("200", 2, 5.0, 5.0, (0.5,), 100_000)]
    made = [_cell("200", 2, 80.0, 15.0, LOADS, 1_000_000)]
    if form == "all":
        made += [_cell("1000", 2, 110.0, 20.0, LOADS, 500_000), _cell("200", 16, 60.0, 20.0, LOADS, 1_000_000)]
    return made


def _cell(size: str, shards: int, stored: float, checkpointed: float, loads: Sequence[float], records: int) -> Cell:
    parameters = {
        "size": size,
        "shards": shards,
        "stored_seconds": stored,
        "checkpointed_seconds": checkpointed,
        "loads": list(loads),
        "records_at_full_rate": records,
        "interval": INTERVAL,
        "pause": PAUSE,
    }
    return Cell(
        f"{size} B, {shards} shards",
        parameters,
        partial(measure, parameters),
        (stored + checkpointed + 10) * len(loads) + 20,
    )


def measure(parameters: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Find the highest rate, then play at each load."""
    size, shards = parameters["size"], parameters["shards"]
    full = Workload(size, "json", shards, parameters["records_at_full_rate"])
    rates = []
    for _ in range(3):
        with own_directory(directory) as own:
            rates.append(play(Receiver(own, shards), prepare(full)).rate)
    rate = median(rates)
    say(f"  at full rate: {number(rate)} records/s")
    loads = []
    for load in parameters["loads"]:
        figures: dict[str, Any] = {"load": load, "rate": rate * load}
        for what, seconds, settings in (
            ("stored", parameters["stored_seconds"], {"receiver.checkpointIntervalMillis": "0"}),
            ("checkpointed", parameters["checkpointed_seconds"], {}),
        ):
            figures[what] = _play(directory, parameters, rate * load, seconds, settings)
        figures["sync"] = sync_seconds(directory, max(int(figures["stored"]["block_bytes"]), 4096), SYNCS)
        loads.append(figures)
    return {"full_rate": rate, "loads": loads}


def _play(
    directory: Path, parameters: dict[str, Any], rate: float, seconds: float, settings: dict[str, str]
) -> dict[str, Any]:
    shards, interval = parameters["shards"], parameters["interval"]
    in_line = max(int(rate * interval / shards), 1)
    lines = max(int(min(seconds, MOST_RECORDS / rate) / interval), 1)
    prepared = prepare(Workload(parameters["size"], "json", shards, in_line * lines * shards, in_line))
    pace = Pace(prepared, interval, parameters["pause"])
    with own_directory(directory) as own:
        contestant = Receiver(own, shards, settings)
        with Stage(contestant, pace.on_checkpoint) as stage:
            stage.start_clock()
            pace.begin()
            stage.run(pace.script)
            blocks = contestant.written()
            stage.run(lambda _: iter_script([SHUTDOWN_REQUESTED]))
            stage.stop_clock()
            stage.let_go()
        check(contestant, prepared)
        if pace.uncovered:
            raise CheckFailed(f"{pace.uncovered} lines were not checkpointed in time")
    return {
        "lines": len(pace.latencies),
        "seconds": pace.latencies,
        "late": max(pace.late),
        "block_bytes": blocks.size / max(blocks.objects, 1),
    }


def tables(results: Sequence[Result]) -> str:
    """Return a table of percentiles in milliseconds."""
    rows: list[list[str]] = []
    for result in results:
        for load in result.figures["loads"]:
            at = f"{load['load']:.0%} ({number(load['rate'])}/s)"
            for name, key in (("stored", "stored"), ("checkpointed", "checkpointed")):
                found = load[key]
                late = found["late"] > result.parameters["interval"]
                rows.append(
                    [
                        result.cell,
                        at,
                        name,
                        *_milliseconds(found["seconds"]),
                        _beyond(found["seconds"], load["sync"]) if key == "stored" else "-",
                        f"{found['lines']:,}",
                        f"{number(found['late'] * 1e3)}{' (NOT KEPT UP WITH)' if late else ''}",
                    ]
                )
            rows.append([result.cell, at, "one fsync", *_milliseconds(load["sync"]), "-", f"{len(load['sync'])}", "-"])
    beyond = "p99 beyond block interval and one fsync"
    return table(["cell", "load", "what", "p50", "p99", "p99.9", beyond, "lines", "latest line late by"], rows)


def _milliseconds(seconds: Sequence[float]) -> list[str]:
    return [
        number(None if found is None else found * 1e3)
        for found in (percentile(seconds, percent) for percent in PERCENTILES)
    ]


def _beyond(seconds: Sequence[float], sync: Sequence[float]) -> str:
    found, one = percentile(seconds, 99.0), median(sync)  # the median, so that a slow fsync excuses nothing
    return "-" if found is None else f"{(found - BLOCK_INTERVAL - one) * 1e3:,.0f}"


if __name__ == "__main__":
    sys.exit(main([sys.modules[__name__]], __doc__ or ""))
