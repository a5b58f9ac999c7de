"""The command line that all benchmarks share: `python -m benchmarks.NAME`, and `scripts/benchmark` for all of them."""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness.cells import RESULTS, Benchmark, CodeChanged, Plan, Result, collect, say
from benchmarks.harness.check import CheckFailed
from benchmarks.harness.machine import check_installed, in_words
from benchmarks.harness.player import PlayFailed
from benchmarks.harness.process import ProcessFailed

FORM_WORDS = {
    "short": "Short form: small and few runs, to see that all works; its figures are not for quoting",
    "chosen": "Chosen form: the cells that the goals are stated for",
    "all": "Whole matrix",
}
BEGIN, END = "<!-- tables: begin -->\n", "<!-- tables: end -->\n"


def main(benchmarks: Sequence[Benchmark], about: str, minutes: float | None = None) -> int:
    """Measure what the arguments ask for, print the tables, and return the exit code.

    Args:
        benchmarks: One, or all of them in their order.
        about: What `--help` begins with.
        minutes: Time that the chosen form has; None for as long as it takes.
    """
    parser = argparse.ArgumentParser(description=about)
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--short", action="store_const", const="short", dest="form", help="five minutes, for CI")
    forms.add_argument("--all", action="store_const", const="all", dest="form", help="the whole matrix, over hours")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="cells whose name fits: '*200 B*'")
    parser.add_argument("--again", action="store_true", help="measure cells again that are there")
    parser.add_argument("--tables", action="store_true", help="measure nothing; print what is there")
    parser.add_argument("--list", action="store_true", help="print the names of the cells and end")
    parser.add_argument("--minutes", type=float, default=minutes, help="begin no cell that would end later")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results are kept (%(default)s)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables between the marks of this page")
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path(tempfile.gettempdir()),
        help="where contestants write; the disk that is measured (%(default)s)",
    )
    given = parser.parse_args()
    plan = Plan(
        form=given.form or "chosen",
        results=given.results / (given.form or "chosen"),
        directory=given.directory,
        only=given.only,
        again=given.again,
        measure=not given.tables,
        until=None if given.minutes is None else time.monotonic() + given.minutes * 60,
    )
    if given.list:
        for benchmark in benchmarks:
            for cell in benchmark.cells(plan.form):
                say(f"{benchmark.NAME}: {cell.name} (about {cell.seconds:.0f} s)")
        return 0
    parts: list[str] = []
    missing = 0
    try:
        if plan.measure:
            check_installed()
        for benchmark in benchmarks:
            results, left = collect(benchmark, plan)
            missing += len(left)
            parts.append(_section(benchmark, results, left))
    except (CheckFailed, CodeChanged, PlayFailed, ProcessFailed) as error:
        # The cells before are kept; no table is printed that would look like the result of all.
        say(f"{type(error).__name__}: {error}")
        return 1
    text = "\n".join(parts)
    sys.stdout.write(text)
    if given.write is not None:
        write_between_marks(given.write, text)
    if missing:
        say(f"{missing} cells are left; the same command goes on with them")
    return 0


def _section(benchmark: Benchmark, results: Sequence[Result], left: Sequence[str]) -> str:
    text = f"### {benchmark.NAME}\n\n{benchmark.ABOUT}\n\n"
    if results:
        # One line for each machine and code that any of the cells was measured with.
        for words in dict.fromkeys(_words(one) for one in results):
            same = [one.machine for one in results if _words(one) == words]
            dates = sorted(machine["date"] for machine in same)
            days = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
            load = max(machine["load_before"] for machine in same)
            text += f"*{words}. {days}; load before a cell: at most {load:.1f}.*\n\n"
        text += benchmark.tables(results)
    if left:
        text += ("\n" if results else "") + "Not measured: " + "; ".join(left) + ".\n"
    return text


def _words(result: Result) -> str:
    return f"{FORM_WORDS[result.form]}. {in_words(result.machine)}"


def write_between_marks(page: Path, text: str) -> None:
    """Put the tables into a page, in the place of those that are there.

    Raises:
        ValueError: The page has not the two marks, once each.
    """
    content = page.read_text(encoding="utf-8")
    if content.count(BEGIN) != 1 or content.count(END) != 1:
        raise ValueError(f"{page} needs the marks {BEGIN.strip()} and {END.strip()}, once each")
    marked = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    page.write_text(marked.sub(lambda _: BEGIN + "\n" + text + "\n" + END, content), encoding="utf-8")
