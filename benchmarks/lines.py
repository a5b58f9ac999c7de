"""Plays the daemon's part for some processors: kclpy dropping all, kclpy writing Parquet per shard, and kcl_receiver.

Lines are prepared before the clock starts, and are the same for all. Contestants take turns within a repeat, another
one first at every repeat; each run is checked before its figures count.

    python -m benchmarks.lines --only '*2 shards*'
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness.cells import Cell, Result, say
from benchmarks.harness.command import main
from benchmarks.harness.contest import Run, own_directory, play
from benchmarks.harness.contestants import CONTESTANTS, Contestant, KclpyNoop, KclpyParquet, Receiver
from benchmarks.harness.disk import sequential_write
from benchmarks.harness.figures import Spread, number, ratios, size, table
from benchmarks.harness.workload import PAYLOADS, Workload, prepare
from kcl_receiver.store.o_direct import DirectWriter, write_all

NAME = "lines"
ABOUT = (
    "The daemon's part is played without Java, from lines prepared before the clock starts, in lock step over pipes; "
    "the clock stops when every record is stored, reported and checkpointed. CPU is in seconds per million records, "
    "from the first line to the end of the process; what was used before (loading libraries) is shown as start. Every "
    "result is checked: all records there, once, equal."
)

RECORDS = {"20-aggregated": 4_200_000, "200": 6_000_000, "1000": 2_400_000, "10000": 300_000, "mixed": 800_000}
"""So many that a run takes some ten seconds on two cores: what a process needs once must not be all that is seen."""
SHORT_SHARE = 0.1
DISK_BYTES = 2**30
BLOCK_BYTES = 64 * 2**20
"""Payloads that do not compress are held against the disk: so much is written in each repeat, fsynced every block."""
NAMES = {"20-aggregated": "20 B aggregated", "200": "200 B", "1000": "1 KB", "10000": "10 KB", "mixed": "mixed"}
PAYLOAD_NAMES = {"json": "JSON events", "random": "random bytes"}


def cells(form: str) -> list[Cell]:
    """Return the cells of a form."""
    chosen = [("200", "json", 2), ("1000", "json", 2), ("10000", "json", 2), ("10000", "random", 2)]
    if form == "short":
        return [_cell(*which, repeats=1, share=SHORT_SHARE) for which in chosen]
    if form == "chosen":
        return [_cell(*which) for which in chosen]
    matrix = [(one, payload, shards) for shards in (2, 1, 4, 16) for one in RECORDS for payload in PAYLOADS]
    return [_cell(*which) for which in matrix]


def _cell(which: str, payload: str, shards: int, repeats: int = 3, share: float = 1.0) -> Cell:
    workload = Workload(which, payload, shards, int(RECORDS[which] * share))
    return Cell(
        name=f"{NAMES[which]}, {PAYLOAD_NAMES[payload]}, {shards} shards",
        parameters={"workload": workload.to_json(), "repeats": repeats},
        measure=partial(measure, workload, repeats),
        seconds=(40 + 45 * repeats) * share + 6,
    )


def measure(workload: Workload, repeats: int, directory: Path) -> dict[str, Any]:
    """Play a workload to all contestants so many times."""
    prepared = prepare(workload)
    runs: list[dict[str, Any]] = []
    disk: list[float] = []
    data = sum(one.data_bytes for one in prepared)
    for repeat in range(repeats):
        if workload.payload == "random":
            ways = (write_all, DirectWriter().write)  # as any program writes, and as the receiver does
            total = min(data, DISK_BYTES)
            disk.append(max(sequential_write(directory, total, BLOCK_BYTES, write=way).rate for way in ways))
        for contestant in in_turn(repeat):
            with own_directory(directory) as own:
                run = play(contestant(own, workload.shards), prepared)
            say(f"  {run.contestant}: {number(run.rate)} records/s, {number(run.cpu_per_million())} s a million")
            runs.append({"repeat": repeat, **run.to_json()})
    return {"runs": runs, "bytes": data, "disk": disk}


def in_turn(repeat: int) -> list[type[Contestant]]:
    """Return the contestants of a repeat in their order: another one is the first, and has the coldest machine."""
    first = repeat % len(CONTESTANTS)
    return [*CONTESTANTS[first:], *CONTESTANTS[:first]]


def runs_of(result: Result, contestant: type[Contestant]) -> list[Run]:
    """Return the runs of one contestant, in the order of the repeats."""
    found = [raw for raw in result.figures["runs"] if raw["contestant"] == contestant.name]
    ordered = sorted(found, key=lambda raw: raw["repeat"])
    return [Run.from_json({key: value for key, value in raw.items() if key != "repeat"}) for raw in ordered]


def tables(results: Sequence[Result]) -> str:
    """Return a table of all runs, and one of the ratios."""
    rows: list[list[str]] = []
    compared: list[list[str]] = []
    for result in results:
        for contestant in CONTESTANTS:
            rows.append([result.cell, contestant.name, *_row(result, runs_of(result, contestant))])
        compared += _ratios(result)
    head = ["cell", "contestant", "records/s", "CPU", "of processors", "of generator", "start", "peak of a processor"]
    more = ["peak of the generator", "objects", "stored", "player's CPU"]
    return (
        table([*head, *more], rows)
        + "\n"
        + table(["cell", "kcl_receiver against", "CPU per record", "records/s"], compared)
    )


def _row(result: Result, runs: Sequence[Run]) -> list[str]:
    generator = max(run.peak("generator") for run in runs)
    has_generator = generator > 0
    stored = Spread.of([run.size for run in runs]).middle
    return [
        Spread.of([run.rate for run in runs]).show(),
        Spread.of([run.cpu_per_million() for run in runs]).show(),
        Spread.of([run.cpu_per_million("processor") for run in runs]).show() if has_generator else "all",
        Spread.of([run.cpu_per_million("generator") for run in runs]).show() if has_generator else "-",
        f"{number(Spread.of([run.start_cpu() for run in runs]).middle)} s",
        size(max(run.peak("processor") for run in runs)),
        size(generator) if has_generator else "-",
        f"{Spread.of([run.objects for run in runs]).middle:,.0f}",
        f"{size(stored)}, {number(stored / result.figures['bytes'], 2)} of the data" if stored else "-",
        Spread.of([run.player_cpu / run.records * 1e6 for run in runs]).show(),
    ]


def _ratios(result: Result) -> list[list[str]]:
    ours = runs_of(result, Receiver)
    rows = []
    for contestant in (KclpyNoop, KclpyParquet):
        theirs = runs_of(result, contestant)
        cpu = ratios([run.cpu_per_million() for run in ours], [run.cpu_per_million() for run in theirs])
        rate = ratios([run.rate for run in ours], [run.rate for run in theirs])
        rows.append([result.cell, contestant.name, cpu.show(), rate.show()])
    if result.figures["disk"]:
        stored = ratios([run.size / run.seconds for run in ours], result.figures["disk"])
        rows.append(
            [result.cell, "the disk alone, the faster of two ways to write: bytes stored a second", "-", stored.show()]
        )
    return rows


if __name__ == "__main__":
    sys.exit(main([sys.modules[__name__]], __doc__ or ""))
