"""The same total rate over 1 to 256 shards, and over block intervals of 200 ms to 60 s: CPU, memory, objects, reports.

python -m benchmarks.scale --only '*shards*'
BENCHMARK_MOST_SHARDS=64 python -m benchmarks.scale --all    # on a machine that 256 processors are too much for
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.harness.cells import Cell, Result
from benchmarks.harness.check import check
from benchmarks.harness.command import main
from benchmarks.harness.contest import Stage, iter_script, own_directory
from benchmarks.harness.contestants import Contestant, KclpyParquet, Receiver
from benchmarks.harness.figures import number, size, table
from benchmarks.harness.pace import Pace
from benchmarks.harness.player import SHUTDOWN_REQUESTED
from benchmarks.harness.workload import Workload, prepare

NAME = "scale"
ABOUT = (
    "The same total rate over more shards, and with longer blocks. Objects and reports are counted while records flow; "
    "what the end flushes is not. A report tells a processor that its shard is stored up to a block: one for each "
    "shard of a block. Memory is that of all processes together, pages that they share counted once."
)

MOST_SHARDS = int(os.environ.get("BENCHMARK_MOST_SHARDS", "256"))
SHARDS = (1, 4, 16, 64, 256)
INTERVALS = (200, 1_000, 5_000, 60_000)
RATE = 20_000
"""Records of 200 bytes a second, all shards together."""
LINE_INTERVAL = 1.0
"""Seconds between two lines of a shard: KCL's default between two reads."""
BASE_SHARDS = 4
"""What the objects of more shards are compared with."""
FOOTER_KEY = b"kcl_receiver"


def cells(form: str) -> list[Cell]:
    """Return the cells of a form."""
    if form == "short":
        return [_cell(Receiver, shards, 1_000, 5.0) for shards in (4, 16)]
    if form == "chosen":
        return [_cell(Receiver, shards, 1_000, 30.0) for shards in (4, 64) if shards <= MOST_SHARDS]
    kinds: tuple[type[Contestant], ...] = (Receiver, KclpyParquet)
    made = [_cell(kind, shards, 1_000, 60.0) for shards in SHARDS if shards <= MOST_SHARDS for kind in kinds]
    return made + [_cell(Receiver, 4, one, max(60.0, one * 3e-3)) for one in INTERVALS if one != 1_000]


def _cell(contestant: type[Contestant], shards: int, interval_millis: int, seconds: float) -> Cell:
    parameters = {
        "contestant": contestant.name,
        "shards": shards,
        "block_interval_millis": interval_millis,
        "seconds": seconds,
        "rate": RATE,
    }
    return Cell(
        f"{contestant.name}, {shards} shards, blocks of {interval_millis:,} ms",
        parameters,
        partial(measure, contestant, parameters),
        seconds + 10 + shards * 0.3,
    )


def measure(kind: type[Contestant], parameters: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Play at the rate for some seconds, look at memory and blocks, then let all be stored, and check it."""
    shards = parameters["shards"]
    in_line = max(int(parameters["rate"] * LINE_INTERVAL / shards), 1)
    lines = max(int(parameters["seconds"] / LINE_INTERVAL), 1)
    prepared = prepare(Workload("200", "json", shards, in_line * lines * shards, in_line))
    # No empty calls: with a line every second, processors have moments enough to checkpoint in.
    pace = Pace(prepared, LINE_INTERVAL, None)
    with own_directory(directory) as own:
        settings = {"receiver.blockIntervalMillis": str(parameters["block_interval_millis"])}
        contestant = kind(own, shards, settings)
        with Stage(contestant) as stage:
            stage.start_clock()
            pace.begin()
            stage.run(pace.script)
            files = contestant.files()
            reports = sum(map(_shards_in, files))
            checkpoints = sum(peer.checkpoints for peer in contestant.peers)
            memory = sum(process.memory("Pss") for process in contestant.processes())
            stage.run(lambda _: iter_script([SHUTDOWN_REQUESTED]))
            stage.stop_clock()
            stage.let_go()
        check(contestant, prepared)
        run = stage.figures(in_line * lines * shards)
    return {
        "run": run.to_json(),
        "minutes": lines * LINE_INTERVAL / 60,
        "objects": len(files),
        "reports": reports,
        "checkpoints": checkpoints,
        "memory": memory,
        "late": max(pace.late),
        "cpu_processors": run.cpu_per_million("processor"),
        "cpu_generator": run.cpu_per_million("generator"),
        "peak_processor": run.peak("processor"),
        "peak_generator": run.peak("generator"),
    }


def _shards_in(file: Path) -> int:
    """Return how many shards a file has records of."""
    metadata = pq.read_metadata(file).metadata or {}
    if FOOTER_KEY not in metadata:
        return 1
    return len({one["shard"] for one in json.loads(metadata[FOOTER_KEY])["ranges"]})


def tables(results: Sequence[Result]) -> str:
    """Return one row a cell."""
    rows = []
    base = {
        (one.parameters["contestant"], one.parameters["block_interval_millis"]): one.figures["objects"]
        / one.figures["minutes"]
        for one in results
        if one.parameters["shards"] == BASE_SHARDS
    }
    for result in results:
        found = result.figures
        four = base.get((result.parameters["contestant"], result.parameters["block_interval_millis"]))
        minutes = found["minutes"]
        late = found["late"] > LINE_INTERVAL
        rows.append(
            [
                result.cell,
                number(found["cpu_processors"]),
                number(found["cpu_generator"]) if found["cpu_generator"] else "-",
                size(found["memory"]),
                size(found["peak_processor"]),
                size(found["peak_generator"]) if found["peak_generator"] else "-",
                number(found["objects"] / minutes),
                number(found["objects"] / minutes / four) if four else "-",
                number(found["reports"] / minutes),
                number(found["checkpoints"] / minutes),
                f"{found['late'] * 1e3:,.0f} ms{' (NOT KEPT UP WITH)' if late else ''}",
            ]
        )
    head = ["cell", "CPU of processors", "of generator", "memory of all", "peak of a processor", "of the generator"]
    head += ["objects/min", f"against {BASE_SHARDS} shards", "reports/min", "checkpoints/min", "latest line late by"]
    return table(head, rows)


if __name__ == "__main__":
    sys.exit(main([sys.modules[__name__]], __doc__ or ""))
