"""Runs seeds, on all cores, and says what was done and what broke: `scripts/simulate --help`."""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import sys
import time
from collections import Counter
from functools import partial
from statistics import median

from simulation.buckets import SHARED
from simulation.faults import KINDS
from simulation.fleet import Fleet, Result, installed
from simulation.watch import STATES
from simulation.world import AWAITED, SEEN

LONG_FORM = 10_000
"""From so many seeds on, every kind of fault has to meet every state of a batch."""
LEAST_MET = 20
"""So often."""
CHUNK, CHUNKS = 5, 6
"""Seeds that a process is given at a time, and how often before another takes its place: no seed's memory is freed
before its process ends, because that takes a tenth of the time."""


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def run_seed(seed: int, *, awaited: bool = False, shared: bool = False) -> Result:
    """Run one seed; for use in another process too."""
    collects = gc.isenabled()
    gc.disable()
    try:
        with installed():
            return Fleet(seed, awaited=awaited, shared=shared).run()
    finally:
        if collects:
            gc.enable()


def trace_seed(seed: int, *, awaited: bool = False, shared: bool = False) -> Result:
    """Run one seed and print every step."""
    with installed():
        fleet = Fleet(seed, lambda line: _say(line), awaited=awaited, shared=shared)
        result = fleet.run()
    _say(_told(result))
    return result


def _told(result: Result) -> str:
    if result.broken is None:
        return f"seed {result.seed}: {result.records} records, {result.steps} steps, all invariants hold"
    how = " --shared" if result.shared else ""
    return f"seed {result.seed} breaks {result.broken}\n  replay it: scripts/simulate --seed {result.seed}{how} --trace"


def least_met(matrix: Counter[tuple[str, int]]) -> tuple[int, str]:
    """Return how often that kind of fault met that state of a batch which met the fewest, and their names."""
    kinds = [kind for kind in KINDS if kind not in SHARED]
    times, kind, level = min((matrix[kind, level], kind, level) for kind in kinds for level in range(1, 7))
    return times, f"{kind!r} while a batch was {STATES[level - 1]}"


def summary(results: list[Result], seconds: float) -> str:
    """Return the table of what was run."""
    faults, matrix, exits = _sum(results)
    lines = [f"{len(results)} seeds in {seconds:.0f} s", ""]
    for name, values in (
        ("hosts", [one.hosts for one in results]),
        ("shards", [one.shards for one in results]),
        ("records", [one.records for one in results]),
        ("steps", [one.steps for one in results]),
        ("faults", [sum(one.faults.values()) for one in results]),
        ("checkpoints", [one.checkpoints for one in results]),
        ("virtual seconds", [round(one.seconds) for one in results]),
    ):
        lines.append(f"  {name:18} median {median(values):8g}   least {min(values):8g}   most {max(values):8g}")
    reshards = sum(1 for one in results if one.faults["split"] or one.faults["merge"])
    lines += [f"  {reshards} seeds with a reshard", ""]
    lines.append(f"  {'fault':32}{'struck':>8}   while a batch was " + ", ".join(STATES))
    for kind in [kind for kind in KINDS if kind not in SHARED or faults[kind]]:
        met = "".join(f"{matrix[kind, level]:8}" for level in range(1, 7))
        lines.append(f"  {kind:32}{faults[kind]:8}   {met}")
    times, where = least_met(matrix)
    lines += [f"  least met: {where}, {times} times", ""]
    lines += [f"  {count:8}  {name}" for name, count in sorted(exits.items())]
    seen = sum((result.seen for result in results), Counter[str]())
    lines += ["", *(f"  {seen[name]:8}  {name}" for name in SEEN)]
    if AWAITED:
        lines += ["", "  awaited: played and judged with --awaited alone, because the receiver does not stand it yet"]
        awaited = sum((result.awaited for result in results), Counter[str]())
        lines += [f"  {name:32}{awaited[name] or '':8}   {why}" for name, why in AWAITED.items()]
    return "\n".join(lines)


def _sum(results: list[Result]) -> tuple[Counter[str], Counter[tuple[str, int]], Counter[str]]:
    faults: Counter[str] = Counter()
    matrix: Counter[tuple[str, int]] = Counter()
    exits: Counter[str] = Counter()
    for result in results:
        faults += result.faults
        matrix += result.matrix
        exits += result.exits
    return faults, matrix, exits


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=500, help="how many seeds to run (default: %(default)s)")
    parser.add_argument("--first", type=int, default=1, help="the first of them (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="run this one alone")
    parser.add_argument("--trace", action="store_true", help="with --seed: print every step")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: %(default)s)")
    parser.add_argument(
        "--awaited", action="store_true", help="play and judge also what the receiver is known not to stand yet"
    )
    parser.add_argument("--shared", action="store_true", help="all hosts of a seed store in one bucket")
    options = parser.parse_args()
    how = {"awaited": options.awaited, "shared": options.shared}
    if options.seed is not None:
        if options.trace:
            return 1 if trace_seed(options.seed, **how).broken else 0
        result = run_seed(options.seed, **how)
        _say(_told(result))
        return 1 if result.broken else 0
    began = time.monotonic()
    results: list[Result] = []
    seeds = range(options.first, options.first + options.seeds)
    with multiprocessing.Pool(options.jobs, initializer=gc.disable, maxtasksperchild=CHUNKS) as pool:
        for result in pool.imap_unordered(partial(run_seed, **how), seeds, chunksize=CHUNK):
            results.append(result)
            if result.broken is not None:
                _say(_told(result))
    _say(summary(results, time.monotonic() - began))
    broken = [result.seed for result in results if result.broken is not None]
    if broken:
        _say(f"\n{len(broken)} seeds broke an invariant: {sorted(broken)[:20]}")
        return 1
    times, where = least_met(_sum(results)[1])
    if len(results) >= LONG_FORM and times < LEAST_MET:
        _say(f"\nall invariants hold, and the seeds are too kind: {where} {times} times, not {LEAST_MET}")
        return 1
    _say("\nall invariants hold")
    return 0


if __name__ == "__main__":
    sys.exit(main())
