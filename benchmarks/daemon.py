"""The contestants under the real java MultiLangDaemon, with GetRecords answered from pages that were made once.

Each run has the daemon to itself: it is started, warmed up, measured for a window of time while it runs on, stopped in
good order, and checked. Contestants take turns within a repeat, another one first at every repeat.

    python -m benchmarks.daemon --short
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness.cells import Cell, Result, say
from benchmarks.harness.command import main
from benchmarks.harness.contest import own_directory
from benchmarks.harness.daemons import NOOP, NOOP_TUNED, PARQUET, RECEIVER, DaemonRun, Way, Window, cpu_of, start_pages
from benchmarks.harness.fetch import fetch
from benchmarks.harness.figures import Spread, number, ratios, size, table
from benchmarks.harness.reel import ReelSpec
from benchmarks.harness.workload import PAGE_RECORDS, shard_id

NAME = "daemon"
ABOUT = (
    "The real MultiLangDaemon reads pages that were made before (JSON events; CBOR is off, as on an emulator), one "
    "process a shard. Counted is a window after the warm-up: for kcl_receiver records that are stored and in the "
    "ledger, for the others records processed. CPU is in seconds per million records; page server and emulator are "
    "charged to nobody, but use the same cores. Peaks are from the start to the end of the window. Every result is "
    "checked after an orderly stop: what is there is a prefix of what was served, each record once and equal, and "
    "KCL's checkpoint is at its last record."
)

WAYS = (NOOP, RECEIVER, NOOP_TUNED, PARQUET)
SPARK = {200: 11 / 17.5, 1_000: 26.5 / 40}
"""CPU per record of the Kinesis receiver of Spark 3.3 against the plain no-op, by bytes of a record: both measured one
after the other on another machine of 2 cores, Spark storing nothing durably."""
NAMES = {200: "200 B", 1_000: "1 KB"}
CEILING_SECONDS = 3.0
OVERHEAD_SECONDS = 18.0
"""Start, stop and check of one run."""


def cells(form: str) -> list[Cell]:
    """Return the cells of a form."""
    if form == "short":
        return [_cell(200, 4, [[NOOP, RECEIVER]], warm=4.0, window=4.0)]
    if form == "chosen":
        # Some of them once: no goal is stated for these, and a run is a minute and a half.
        return [_cell(200, 4, [[NOOP, RECEIVER, NOOP_TUNED, PARQUET], [RECEIVER, NOOP]], warm=15.0)]
    matrix = [(200, 4), (1_000, 4), (200, 1), (200, 2), (1_000, 1), (1_000, 2)]
    return [_cell(bytes_, shards, [in_turn(repeat) for repeat in range(3)]) for bytes_, shards in matrix]


def in_turn(repeat: int) -> list[Way]:
    """Return the contestants of a repeat in their order: another one is the first."""
    first = repeat % len(WAYS)
    return [*WAYS[first:], *WAYS[:first]]


def _cell(bytes_: int, shards: int, turns: list[list[Way]], warm: float = 20.0, window: float = 60.0) -> Cell:
    runs = sum(len(turn) for turn in turns)
    return Cell(
        name=f"{NAMES[bytes_]}, {shards} shards",
        parameters={
            "size": bytes_,
            "shards": shards,
            "turns": [[way.name for way in turn] for turn in turns],
            "warm": warm,
            "window": window,
        },
        measure=partial(measure, bytes_, shards, turns, warm, window),
        seconds=(warm + window + OVERHEAD_SECONDS) * runs,
    )


def measure(
    bytes_: int, shards: int, turns: list[list[Way]], warm: float, window: float, directory: Path
) -> dict[str, Any]:
    """Run all contestants in their turns."""
    spec = ReelSpec(bytes_, PAGE_RECORDS, int(time.time() * 1000))
    with own_directory(directory) as own:
        alone = ceiling(own, shards, spec)
    say(f"  the page server alone: {number(alone['rate'])} records/s, {number(alone['cpu'])} s a million")
    runs: list[dict[str, Any]] = []
    for repeat, turn in enumerate(turns):
        for way in turn:
            with own_directory(directory) as own, DaemonRun(way, own, shards, spec) as run:
                run.pass_time(warm)
                seen = run.watch(window)
                run.finish()
            say(f"  {way.name}: {number(seen.rate)} records/s, {number(seen.cpu_per_million())} s a million")
            runs.append({"repeat": repeat, "way": way.name, "window": seen.to_json()})
    return {"runs": runs, "ceiling": alone, "size": bytes_}


def ceiling(directory: Path, shards: int, spec: ReelSpec) -> dict[str, float]:
    """Return what the page server alone can give to a client that drops everything."""
    process, url = start_pages(directory, "http://127.0.0.1:1", shards, spec, None)
    try:
        before = cpu_of(process.pid)
        fetched = fetch(url, [shard_id(number) for number in range(shards)], CEILING_SECONDS)
        used = cpu_of(process.pid) - before
    finally:
        process.kill()
    return {"rate": fetched.records / fetched.seconds, "cpu": used / fetched.records * 1e6}


def windows_of(result: Result, way: Way) -> dict[int, Window]:
    """Return the windows of one contestant by their repeats."""
    return {raw["repeat"]: Window.from_json(raw["window"]) for raw in result.figures["runs"] if raw["way"] == way.name}


def tables(results: Sequence[Result]) -> str:
    """Return a table of all runs, one of the ratios, and what the page server can do."""
    rows: list[list[str]] = []
    compared: list[list[str]] = []
    alone: list[list[str]] = []
    for result in results:
        for way in WAYS:
            windows = list(windows_of(result, way).values())
            if windows:
                rows.append([result.cell, way.name, *_row(windows)])
        compared += _ratios(result)
        figures = result.figures["ceiling"]
        alone.append([result.cell, number(figures["rate"]), number(figures["cpu"])])
    head = ["cell", "contestant", "records/s", "CPU together", "of the JVM", "of processors", "of generator"]
    head += ["cores used", "peak of the JVM", "of a processor", "of generator", "records under way at the end"]
    head += ["CPU of page server", "of emulator"]
    pairs = [
        "cell",
        "what against what",
        "records/s",
        "CPU per record",
        "peak of the JVM",
        "against Spark, CPU per record",
    ]
    return "\n".join(
        [
            table(head, rows),
            table(pairs, compared),
            table(["cell", "page server alone: records/s", "CPU"], alone),
        ]
    )


def _row(windows: Sequence[Window]) -> list[str]:
    def spread(*roles: str) -> str:
        return Spread.of([one.cpu_per_million(*roles) for one in windows]).show()

    generator = max(one.peak("generator") for one in windows)
    return [
        Spread.of([one.rate for one in windows]).show(),
        spread(),
        spread("JVM"),
        spread("processors"),
        spread("generator") if generator else "-",
        Spread.of([one.cpu() / one.seconds for one in windows]).show(),
        size(max(one.peak("JVM") for one in windows)),
        size(max(one.peak("processors") for one in windows)),
        size(generator) if generator else "-",
        f"{Spread.of([one.under_way for one in windows]).middle:,.0f}",
        spread("page server"),
        spread("emulator"),
    ]


def _ratios(result: Result) -> list[list[str]]:
    rows: list[list[str]] = []
    for ours, theirs in ((RECEIVER, NOOP), (NOOP_TUNED, NOOP), (RECEIVER, NOOP_TUNED), (RECEIVER, PARQUET)):
        mine, others = windows_of(result, ours), windows_of(result, theirs)
        both = sorted(mine.keys() & others.keys())
        if not both:
            continue
        pairs = [(mine[repeat], others[repeat]) for repeat in both]
        cpu = ratios([one.cpu_per_million() for one, _ in pairs], [other.cpu_per_million() for _, other in pairs])
        rate = ratios([one.rate for one, _ in pairs], [other.rate for _, other in pairs])
        peak = ratios([one.peak("JVM") for one, _ in pairs], [other.peak("JVM") for _, other in pairs])
        spark = "-"
        if (ours, theirs) == (RECEIVER, NOOP) and result.figures["size"] in SPARK:
            spark = against_spark(cpu, result.figures["size"]).show()
        rows.append([result.cell, f"{ours.name} / {theirs.name}", rate.show(), cpu.show(), peak.show(), spark])
    return rows


def against_spark(cpu: Spread, bytes_: int) -> Spread:
    """Return a ratio to the plain no-op as one to Spark's receiver, which was held against the no-op as well."""
    known = SPARK[bytes_]
    return Spread(cpu.least / known, cpu.middle / known, cpu.greatest / known)


if __name__ == "__main__":
    sys.exit(main([sys.modules[__name__]], __doc__ or ""))
