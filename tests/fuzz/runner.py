"""Fuzzes the wire and the files, and tells what was done and what broke: `scripts/fuzz --help`."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fuzz.targets import SHARES

KINDS_SHOWN = 12
LEAST_COVERAGE = 20
"""Fewer edges at the start than this: the receiver's code is not instrumented, and nothing guides."""
_COVERAGE = re.compile(r"^#(\d+)\s+(\w+)\s+cov: (\d+) ft: (\d+)(?: corp: (\d+))?", re.MULTILINE)


@dataclass
class Outcome:
    """What came of one target."""

    target: str
    work: Path
    seconds: float
    exit_code: int
    counts: dict[str, Any]
    log: str
    guided: bool
    coverage: list[tuple[int, str, int, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for number, what, cov, features, corpus in _COVERAGE.findall(self.log):
            self.coverage.append((int(number), what, int(cov), int(features), int(corpus or 0)))

    @property
    def at_start(self) -> tuple[int, int, int]:
        """Edges, features and inputs in the corpus once what it begins with is taken."""
        return next(((one[2], one[3], one[4]) for one in self.coverage if one[1] == "INITED"), (0, 0, 0))

    @property
    def at_end(self) -> tuple[int, int, int]:
        """The same at the end."""
        return (self.coverage[-1][2], self.coverage[-1][3], self.coverage[-1][4]) if self.coverage else (0, 0, 0)

    @property
    def saved(self) -> Path | None:
        """The input that broke something."""
        found = [one for one in self.work.iterdir() if one.name.partition("-")[0] in ("crash", "timeout", "oom")]
        return found[0] if found else None

    @property
    def failure(self) -> str:
        """What broke, empty if nothing did."""
        if self.saved is not None and self.saved.name.startswith("timeout"):
            return "a hang: one input took more than ten seconds"
        if self.saved is not None and self.saved.name.startswith("oom"):
            return "memory beyond the bound"
        if self.counts.get("failure"):
            return str(self.counts["failure"])
        if self.exit_code:
            return f"the process ended with {self.exit_code}: {self.log[-300:]}"
        start, end = self.at_start, self.at_end
        if self.guided and (start[0] < LEAST_COVERAGE or (end[1] <= start[1] and self.counts["inputs"] >= 20_000)):
            return f"nothing guides the fuzzer: {start[0]} edges at the start, {end[0]} at the end"
        return ""


def fuzz(target: str, runs: int, seed: int, work: Path, *, plain: bool = False, mutant: str = "") -> Outcome:
    """Run one target in a process of its own."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    command = [sys.executable, "-m", "fuzz.child", "--target", target, "--runs", str(runs), "--seed", str(seed)]
    command += ["--work", str(work), *(["--plain"] if plain else []), *(["--mutant", mutant] if mutant else [])]
    began = time.monotonic()
    with (work / "log").open("w") as log:
        done = subprocess.run(
            command, stdout=log, stderr=log, check=False, stdin=subprocess.DEVNULL, env=_environment()
        )
    counts_file = work / "counts.json"
    counts = json.loads(counts_file.read_text()) if counts_file.exists() else {"inputs": 0, "failure": ""}
    log_text = (work / "log").read_text(errors="replace")
    return Outcome(target, work, time.monotonic() - began, done.returncode, counts, log_text, not plain)


def _environment() -> dict[str, str]:
    """Return the environment in which a child finds what is here."""
    tests = Path(__file__).parents[1]
    return {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": f"{tests}{os.pathsep}{tests / 'unit'}"}


def told(outcome: Outcome) -> str:
    """Return the report on one target."""
    counts = outcome.counts
    start, end = outcome.at_start, outcome.at_end
    inputs = counts["inputs"]
    lines = [
        f"{outcome.target}: {inputs:,} inputs in {outcome.seconds:.0f} s",
        f"  longest input {counts.get('longest', 0) * 1000:.0f} ms, "
        f"peak memory {counts.get('peak_bytes', 0) / 2**20:.0f} MiB",
    ]
    if outcome.guided:
        lines.insert(
            1,
            f"  coverage {start[0]} -> {end[0]} edges, {start[1]} -> {end[1]} features; "
            f"corpus {start[2]} -> {end[2]} inputs",
        )
    reached = sorted(counts.get("reached", {}).items(), key=lambda one: -one[1])
    lines += [f"  {count:>12,}  {what}" for what, count in reached]
    errors = sorted(counts.get("errors", {}).items(), key=lambda one: -one[1])
    lines.append(f"  {sum(count for _, count in errors):>12,}  named errors of {len(errors)} kinds, most often:")
    lines += [f"  {count:>12,}  {kind}" for kind, count in errors[:KINDS_SHOWN]]
    if outcome.failure:
        lines.append(f"  BROKEN: {outcome.failure}")
        if outcome.saved is not None:
            lines.append(
                f"  replay it: scripts/fuzz --target {outcome.target} --replay {shlex.quote(str(outcome.saved))}"
            )
        lines.append(f"  the whole log: {outcome.work}/log")
    return "\n".join(lines)


def say(text: str) -> None:
    """Print at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def replay(target: str, path: Path) -> int:
    """Run one saved input."""
    with tempfile.TemporaryDirectory() as work:
        command = [sys.executable, "-m", "fuzz.child", "--target", target, "--work", work, "--replay", str(path)]
        done = subprocess.run(command, check=False, env=_environment())
    say("nothing breaks" if done.returncode == 0 else f"{target} breaks on {path}")
    return 1 if done.returncode else 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="inputs in all (default: %(default)s)")
    parser.add_argument("--target", choices=sorted(SHARES), help="this target alone")
    parser.add_argument("--seed", type=int, default=1, help="of the fuzzer's choices (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: %(default)s)")
    parser.add_argument("--work", type=Path, help="where corpus, logs and inputs that break something go")
    parser.add_argument("--plain", action="store_true", help="without guidance by coverage, and without atheris")
    parser.add_argument("--mutants", action="store_true", help="show which deliberate bugs are found")
    parser.add_argument("--only", default="", help="with --mutants: bugs whose name holds this")
    parser.add_argument("--replay", type=Path, help="with --target: run one saved input")
    options = parser.parse_args()
    if options.replay is not None:
        if options.target is None:
            parser.error("--replay needs --target")
        return replay(options.target, options.replay)
    if not options.plain and find_spec("atheris") is None:
        say("scripts/fuzz needs atheris, which has wheels for Linux on x86-64 (CPython 3.10 and later): pip install")
        say("'.[fuzz]'. Without it: scripts/fuzz --plain, which is not guided by coverage.")
        return 3
    work = options.work or Path(tempfile.mkdtemp(prefix="kcl-receiver-fuzz-"))
    if options.mutants:
        from fuzz.mutants import show

        return show(work, options.jobs, options.only, plain=options.plain)
    shares = {options.target: 100} if options.target else SHARES
    total = sum(shares.values())
    # Those that take longest begin first.
    order = sorted(shares, key=lambda name: name not in ("generator", "files"))
    began = time.monotonic()

    def one(name: str) -> Outcome:
        runs = max(1000, options.inputs * shares[name] // total)
        return fuzz(name, runs, options.seed, work / name, plain=options.plain)

    outcomes = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for outcome in pool.map(one, order):
            say(told(outcome) + "\n")
            outcomes.append(outcome)
    broken = [outcome.target for outcome in outcomes if outcome.failure]
    inputs = sum(outcome.counts["inputs"] for outcome in outcomes)
    say(f"{inputs:,} inputs in {time.monotonic() - began:.0f} s, everything in {work}")
    say(f"broken: {', '.join(broken)}" if broken else "nothing broke")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
