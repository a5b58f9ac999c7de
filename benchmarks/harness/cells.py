"""Cells: the pieces that a benchmark is made of, each kept as a JSON file, so that hours of them can be resumed.

A cell that is there is not measured again if its parameters, and every file of the product and of the benchmarks, are
as they were; else its file is of no use and is made anew. Only a cell whose results passed their checks leaves a file.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Protocol

from benchmarks.harness.machine import describe, fingerprint

FORMS = ("short", "chosen", "all")
"""Some minutes for CI; the cells that the goals are stated for; the whole matrix over hours."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One piece of a benchmark.

    Attributes:
        name: Unique within its benchmark.
        parameters: All that its figures depend on, as JSON.
        measure: Measures it; is given a directory to write to, and returns JSON.
        seconds: A rough guess of how long that takes, to be told before.
    """

    name: str
    parameters: dict[str, Any]
    measure: Callable[[Path], dict[str, Any]] = field(repr=False)
    seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Result:
    """What a cell gave, with everything that a reader needs to judge it."""

    cell: str
    form: str
    parameters: dict[str, Any]
    machine: dict[str, Any]
    fingerprint: str
    seconds: float
    figures: dict[str, Any]


class CodeChanged(Exception):
    """What was measured is neither the code that was nor the code that is."""


class Benchmark(Protocol):
    """What a module of a benchmark has."""

    NAME: str
    """Its command: `python -m benchmarks.NAME`."""
    ABOUT: str
    """A sentence for its help and above its tables."""

    def cells(self, form: str) -> list[Cell]:
        """Return the cells of a form."""

    def tables(self, results: Sequence[Result]) -> str:
        """Return Markdown for the results of its cells."""


class ResultsDirectory:
    """The JSON files of one directory, one folder a benchmark."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def find(self, benchmark: str, cell: Cell) -> Result | None:
        """Return the result of exactly this cell with exactly this code, if it is there."""
        path = self._file(benchmark, cell.name)
        if not path.exists():
            return None
        result = read_result(path)
        asked = json.loads(json.dumps(cell.parameters))
        return result if (result.parameters, result.fingerprint) == (asked, fingerprint(benchmark)) else None

    def measure(self, benchmark: str, form: str, cell: Cell, directory: Path) -> Result:
        """Measure a cell, keep its result, and return it."""
        machine = describe(directory)
        code = fingerprint(benchmark)
        began = time.monotonic()
        figures = cell.measure(directory)
        if fingerprint(benchmark) != code:
            raise CodeChanged(f"{benchmark}: the code was changed while {cell.name} was measured; nothing is kept")
        result = Result(cell.name, form, cell.parameters, machine, code, time.monotonic() - began, figures)
        path = self._file(benchmark, cell.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        names = Result.__dataclass_fields__
        part.write_text(json.dumps({name: getattr(result, name) for name in names}, indent=1), encoding="utf-8")
        part.replace(path)
        return result

    def _file(self, benchmark: str, cell: str) -> Path:
        return self.path / benchmark / (re.sub(r"[^A-Za-z0-9.]+", "-", cell).strip("-") + ".json")


def read_result(path: Path) -> Result:
    """Return the result that a file holds.

    Raises:
        ValueError: It is no result.
    """
    try:
        return Result(**json.loads(path.read_text(encoding="utf-8")))
    except TypeError as error:
        raise ValueError(f"{path} is not the result of a cell: {error}; remove it") from error


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure, and where."""

    form: str
    results: Path
    directory: Path
    only: str = "*"
    again: bool = False
    measure: bool = True
    until: float | None = None
    """No cell is begun after this moment of `time.monotonic`."""


def collect(benchmark: Benchmark, plan: Plan) -> tuple[list[Result], list[str]]:
    """Return the results of a benchmark's cells, measured now where they are not there, and the names of those left."""
    kept = ResultsDirectory(plan.results)
    found: list[Result] = []
    left: list[str] = []
    for cell in benchmark.cells(plan.form):
        if not fnmatch(cell.name, plan.only):
            continue
        result = None if plan.again else kept.find(benchmark.NAME, cell)
        if result is None:
            if not plan.measure or (plan.until is not None and time.monotonic() + cell.seconds > plan.until):
                left.append(cell.name)
                continue
            say(f"{benchmark.NAME}: {cell.name}: about {cell.seconds:.0f} s…")
            result = kept.measure(benchmark.NAME, plan.form, cell, plan.directory)
        found.append(result)
    return found, left


def say(text: str) -> None:
    """Write a line for whoever waits; tables alone go to stdout."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


RESULTS = Path(__file__).parents[1] / "results"
"""Where results are kept if nothing else is said: beside the benchmarks, and not in git."""
