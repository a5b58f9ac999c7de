"""Puts each bug of the list into a copy of the project and runs the tests that must notice it, and those alone.

Without the bugs all these tests pass; with each bug, every test that it names fails. Text that is not found once means
that the code has changed since: adapt the bug. A test that hangs with a bug has not noticed it.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from xml.etree import ElementTree as ET

import mutants
from mutants import Mutant

ROOT = Path(__file__).parents[2]
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "results", "demo-data", "build", "dist")
PATIENCE = 180.0
"""Seconds after which the tests of one bug are ended; so many for each ten tests where all are run."""


def all_mutants() -> list[Mutant]:
    """Return the list."""
    rooms = [one.name for one in pkgutil.iter_modules(mutants.__path__) if one.name.startswith("of_")]
    return [one for room in sorted(rooms) for one in importlib.import_module(f"mutants.{room}").MUTANTS]


def changed(text: str, mutant: Mutant) -> str:
    """Return a file's text with the bug in it.

    Raises:
        ValueError: The old text is not there exactly once.
    """
    if (times := text.count(mutant.old)) != 1:
        raise ValueError(f"{mutant.bug}: {mutant.file} holds {mutant.old!r} {times} times: adapt the bug")
    return text.replace(mutant.old, mutant.new)


class Copy:
    """A copy of the project in which one bug at a time is put.

    Args:
        origin: The project.
        place: A directory that is not there yet.
    """

    def __init__(self, origin: Path, place: Path) -> None:
        self.place = place
        shutil.copytree(origin, place, ignore=LEFT_OUT, symlinks=True)

    def passing(self, tests: Iterable[str], *, first: bool = False) -> dict[str, bool]:
        """Run tests; return for each whether it passed: of a parametrized one, all its cases.

        Args:
            tests: Their names.
            first: End after the first case that fails.

        Raises:
            RuntimeError: A test was not run: there is none of this name, its file cannot be imported, it was skipped,
                or it did not end.
        """
        tests = list(dict.fromkeys(tests))
        report = self.place / "report.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-m",
            "",
            "-o",
            "junit_family=xunit1",
        ]
        # Whatever is imported here or in a process of a test comes from the copy, not from where it is installed.
        space = {**os.environ, "PYTHONPATH": str(self.place), "PYTHONDONTWRITEBYTECODE": "1"}
        patience = PATIENCE * (1 + len(tests) // 10)
        with tempfile.TemporaryDirectory() as base:
            try:
                ran = subprocess.run(
                    [*command, *(["-x"] if first else []), f"--basetemp={base}/tests", f"--junit-xml={report}", *tests],
                    cwd=self.place,
                    env=space,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=patience,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                more = f" and {len(tests) - 1} more" if len(tests) > 1 else ""
                raise RuntimeError(f"{tests[0]}{more}: not at an end after {patience:.0f} s") from error
        if ran.returncode not in (0, 1):
            said = f"{ran.stdout[-2000:]}{ran.stderr[-2000:]}"
            raise RuntimeError(f"{', '.join(tests)}: pytest ended with {ran.returncode}:\n{said}")
        results = _read(report)
        found = {}
        for test in tests:
            cases = [how for name, how in results if name == test or name.startswith(f"{test}[")]
            if not cases or "skipped" in cases:
                raise RuntimeError(f"{test}: {'skipped' if cases else 'there is no such test'}")
            found[test] = set(cases) == {"passed"}
        return found

    def survivors(self, mutant: Mutant) -> list[str]:
        """Put a bug in, run its tests, and take it out again; return the tests that passed nevertheless."""
        file = self.place / mutant.file
        text = file.read_text(encoding="utf-8")
        file.write_text(changed(text, mutant), encoding="utf-8")
        try:
            return [test for test, passed in self.passing(mutant.tests, first=len(mutant.tests) == 1).items() if passed]
        finally:
            file.write_text(text, encoding="utf-8")


def _read(report: Path) -> list[tuple[str, str]]:
    """Return the tests of a report as pytest names them, and how each ended."""
    found = []
    for case in ET.parse(report).iter("testcase"):
        path = case.get("file", "")
        inner = case.get("classname", "").removeprefix(path.removesuffix(".py").replace("/", ".")).strip(".")
        name = "::".join([path, *inner.split("."), case.get("name", "")] if inner else [path, case.get("name", "")])
        how = next((one.tag for one in case if one.tag in ("failure", "error", "skipped")), "passed")
        found.append((name, how))
    return found


@dataclass(frozen=True)
class Verdict:
    """What came of one bug: `problem` is empty if every test that it names failed."""

    mutant: Mutant
    problem: str
    seconds: float


def unsound(chosen: Sequence[Mutant], copies: Sequence[Copy]) -> list[str]:
    """Return the tests that fail without any bug."""
    tests = list(dict.fromkeys(test for mutant in chosen for test in mutant.tests))
    shares = [share for number in range(len(copies)) if (share := tests[number :: len(copies)])]
    with ThreadPoolExecutor(len(copies)) as pool:
        found = pool.map(lambda copy, share: copy.passing(share), copies, shares)
        return [test for each in found for test, passed in each.items() if not passed]


def judge(chosen: Sequence[Mutant], copies: Sequence[Copy]) -> Iterable[Verdict]:
    """Try bugs, as many at a time as there are copies; yield what came of each, in the order of the list."""
    free: SimpleQueue[Copy] = SimpleQueue()
    for copy in copies:
        free.put(copy)

    def one(mutant: Mutant) -> Verdict:
        copy = free.get()
        began = time.monotonic()
        try:
            survivors = copy.survivors(mutant)
            problem = f"passes nevertheless: {', '.join(survivors)}" if survivors else ""
        except (ValueError, RuntimeError, OSError) as error:
            problem = str(error)
        finally:
            free.put(copy)
        return Verdict(mutant, problem, time.monotonic() - began)

    with ThreadPoolExecutor(len(copies)) as pool:
        yield from pool.map(one, chosen)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/mutants tests", description=__doc__)
    parser.add_argument("--only", default="", help="bugs whose words or file hold this")
    parser.add_argument("--jobs", type=int, default=2, help="at a time (default: %(default)s)")
    options = parser.parse_args()
    chosen = [one for one in all_mutants() if options.only in one.bug or options.only in one.file]
    if not chosen:
        parser.error(f"no bug holds {options.only!r}")
    with tempfile.TemporaryDirectory(prefix="mutants-") as base:
        copies = [Copy(ROOT, Path(base) / f"copy-{number}") for number in range(min(options.jobs, len(chosen)))]
        if failing := unsound(chosen, copies):
            _say(f"without any bug these fail: {', '.join(failing)}")
            return 1
        missed = 0
        for verdict in judge(chosen, copies):
            missed += bool(verdict.problem)
            said = f"NOT CAUGHT: {verdict.problem}" if verdict.problem else f"caught  ({verdict.seconds:.0f} s)"
            _say(f"{verdict.mutant.bug:84} {said}")
    _say(f"\n{len(chosen) - missed} of {len(chosen)} caught by the tests they name")
    return 1 if missed else 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
