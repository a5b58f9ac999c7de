"""How many shards at their full write rate one machine keeps up with, on the real java MultiLangDaemon.

One daemon with a process a shard. A ramp writes to more and more of the shards until their lag grows; then as many as
the ramp found are judged for some time, and fewer if those were too many, or more if they were not.

    python -m benchmarks.capacity --only '*kcl_receiver*'
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
from benchmarks.harness.daemons import NOOP, PARQUET, RECEIVER, ROLES, DaemonRun, Way
from benchmarks.harness.figures import number, table
from benchmarks.harness.keeping_up import DRAINED, Judged, Ramp, growth, lag
from benchmarks.harness.machine import busy_seconds
from benchmarks.harness.reel import ReelSpec

NAME = "capacity"
ABOUT = (
    "Shards at their full write rate (1,000 records of 1,000 bytes a second each, written by the clock; KCL reads each "
    "every 200 ms, five times a second) with which one machine keeps up: their lag, to processed or for kcl_receiver "
    "to stored, does not grow by more than 1% of the time judged. One real daemon and a process a shard, page server "
    "and emulator on the same cores. The shards that are not written to are read too, and cost that. Every result is "
    "checked after an orderly stop, as in `daemon`."
)

WAYS = (NOOP, PARQUET, RECEIVER)
SIZE = 1_000
RATE = 1_000.0
SETTLE_SECONDS = 90.0
"""At most: mostly some ten seconds."""
PATIENCE = 3
"""So many times the length of a step is a lag given to be worked off, before it counts as one that stays."""
ROWS = 2_000
"""Of a reel: two seconds of a shard."""


def cells(form: str) -> list[Cell]:
    """Return the cells of a form."""
    if form == "short":
        return [_cell([NOOP, RECEIVER], most=4, first=4, step=4, step_seconds=2.0, judged=3.0, tries=1, repeats=1)]
    if form == "chosen":
        return [_cell(WAYS, most=104, first=16, step=8, step_seconds=4.0, judged=60.0, tries=2, repeats=1)]
    return [_cell(WAYS, most=128, first=16, step=4, step_seconds=6.0, judged=60.0, tries=6, repeats=3)]


def _cell(
    ways: Sequence[Way], most: int, first: int, step: int, step_seconds: float, judged: float, tries: int, repeats: int
) -> Cell:
    plan = {
        "most": most,
        "first": first,
        "step": step,
        "step_seconds": step_seconds,
        "judged": judged,
        "tries": tries,
        "repeats": repeats,
    }
    # A start is slower with more processes; before a try, what the one before left behind is worked off.
    each = 15 + most * 0.5 + ((most - first) / step + 1) * step_seconds + judged * tries * 1.25
    return Cell(
        name=f"1 KB, up to {most} shards",
        parameters={"ways": [way.name for way in ways], "rate": RATE, "size": SIZE, **plan},
        measure=partial(measure, ways, plan),
        seconds=each * len(ways) * repeats,
    )


def measure(ways: Sequence[Way], plan: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Find the capacity of each contestant."""
    runs: list[dict[str, Any]] = []
    for repeat in range(plan["repeats"]):
        for way in ways:
            spec = ReelSpec(SIZE, ROWS, int(time.time() * 1000), int(ROWS / RATE * 1000))
            with own_directory(directory) as own, DaemonRun(way, own, plan["most"], spec, RATE) as run:
                judged = find(run, plan)
                run.finish()
            for one in judged:
                said = "keeps up with" if one.kept_up else "does not keep up with"
                say(f"  {way.name}: {said} {one.shards} shards: lag {number(one.lag)} s, growth {number(one.growth)} s")
            runs.append({"repeat": repeat, "way": way.name, "judged": [one.to_json() for one in judged]})
    return {"runs": runs}


def find(run: DaemonRun, plan: dict[str, Any]) -> list[Judged]:
    """Return what was judged: as many shards as the ramp found, then fewer or more, as often as the plan says."""
    ramp = Ramp(plan["first"], plan["step"], plan["most"])
    # The JVM is cold, and every shard has been read for the first time: what is late by that is worked off before.
    run.counters.active = ramp.shards
    _drain(run, SETTLE_SECONDS)
    while not ramp.over:
        run.counters.active = ramp.shards
        run.pass_time(plan["step_seconds"])
        _drain(run, (PATIENCE - 1) * plan["step_seconds"])
        ramp.look(_lag(run))
    shards = max(ramp.kept_up, plan["step"])
    judged: list[Judged] = []
    for _ in range(plan["tries"]):
        run.counters.active = shards
        _drain(run, plan["judged"])
        judged.append(judge(run, shards, plan["judged"]))
        shards += plan["step"] // 2 if judged[-1].kept_up else -plan["step"] // 2
        if not plan["step"] <= shards <= plan["most"] or any(one.shards == shards for one in judged):
            break
    return judged


def judge(run: DaemonRun, shards: int, seconds: float) -> Judged:
    """Watch so many shards for so long."""
    lags: list[float] = []
    processors = run.processors()
    busy = busy_seconds()
    begin = run.sample()
    while time.monotonic() < begin.time + seconds:
        lags.append(_lag(run))
        run.pass_time(1.0)
    end = run.sample()
    run.check_processors(processors)
    taken = end.time - begin.time
    return Judged(
        shards=shards,
        seconds=taken,
        growth=growth(lags),
        lag=lags[-1],
        cores={role: (end.cpu[role] - begin.cpu[role]) / taken for role in ROLES},
        busy=(busy_seconds() - busy) / taken,
    )


def _drain(run: DaemonRun, longest: float) -> None:
    """Wait until what a ramp left behind is worked off; if it takes too long, what follows shows it."""
    until = time.monotonic() + longest
    while _lag(run) > DRAINED and time.monotonic() < until:
        run.pass_time(1.0)


def _lag(run: DaemonRun) -> float:
    written = run.counters.written(RATE, time.monotonic())
    return lag(written, run.counts(), run.counters.active, RATE)


def capacity_of(judged: Sequence[Judged]) -> int:
    """Return the greatest number of shards that was kept up with, 0 if none was."""
    return max((one.shards for one in judged if one.kept_up), default=0)


def tables(results: Sequence[Result]) -> str:
    """Return a table of what was judged, and one of the ratios."""
    rows: list[list[str]] = []
    compared: list[list[str]] = []
    for result in results:
        found: dict[tuple[int, str], int] = {}
        for raw in result.figures["runs"]:
            judged = [Judged(**one) for one in raw["judged"]]
            found[raw["repeat"], raw["way"]] = capacity_of(judged)
            most = max(one.shards for one in judged)
            rows += [[raw["way"], *_row(one, most)] for one in judged]
        compared += _ratios(found)
    head = ["contestant", "shards", "kept up", "lag at the end", "its growth", "seconds"]
    head += [f"cores: {role}" for role in ROLES] + ["cores busy in all"]
    return table(head, rows) + "\n" + table(["repeat", "what against what", "shards", "ratio"], compared)


def _row(one: Judged, most: int) -> list[str]:
    verdict = "yes" if one.kept_up else "no"
    if one.kept_up and one.shards == most:
        verdict = "yes, and no more were tried"
    return [
        str(one.shards),
        verdict,
        f"{number(one.lag)} s",
        f"{number(one.growth)} s",
        f"{one.seconds:.0f}",
        *(number(one.cores[role]) for role in ROLES),
        number(one.busy),
    ]


def _ratios(found: dict[tuple[int, str], int]) -> list[list[str]]:
    rows: list[list[str]] = []
    for (repeat, way), ours in found.items():
        for other in (NOOP, PARQUET):
            theirs = found.get((repeat, other.name))
            if way == RECEIVER.name and theirs is not None:
                ratio = number(ours / theirs) if theirs else "-"
                rows.append([str(repeat + 1), f"{way} / {other.name}", f"{ours} / {theirs}", ratio])
    return rows


if __name__ == "__main__":
    sys.exit(main([sys.modules[__name__]], __doc__ or ""))
