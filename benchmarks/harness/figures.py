"""Arithmetic and tables: the same for every benchmark, so that a figure means the same everywhere.

A figure of several repeats is shown as its median, with the least and the greatest beside it. A ratio is made within
one repeat, of runs that followed each other, and only then is its median taken: a machine that was slow for half an
hour does not change it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Spread:
    """The least, the median and the greatest of some repeats."""

    least: float
    middle: float
    greatest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of at least one value.

        Raises:
            ValueError: There is no value.
        """
        if not values:
            raise ValueError("a spread needs at least one value")
        return cls(min(values), median(values), max(values))

    def show(self, digits: int = 3) -> str:
        """Return `median (least to greatest)`, with so many significant digits; one value stands alone."""
        middle = number(self.middle, digits)
        if self.least == self.greatest:
            return middle
        return f"{middle} ({number(self.least, digits)} to {number(self.greatest, digits)})"


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Return ours / theirs, made repeat by repeat.

    Raises:
        ValueError: There are not as many of the one as of the other, or one of theirs is 0.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} repeats cannot be compared with {len(theirs)}")
    if not all(theirs):
        raise ValueError("a ratio to nothing has no value")
    return Spread.of([one / other for one, other in zip(ours, theirs, strict=True)])


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Return the value that `percent` of all do not exceed (nearest rank), None if there are too few to tell.

    Too few means that not even one value could lie beyond it: p99 needs 100 of them, and p99.9 needs 1,000.
    """
    if not values or len(values) * (100 - percent) < 100 - 1e-6:
        return None
    rank = math.ceil(len(values) * percent / 100 - 1e-9)
    return sorted(values)[max(rank, 1) - 1]


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with so many significant digits, whole ones with commas; `-` for None."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, places)
    return f"{rounded:,.{max(places, 0)}f}"


def size(count: float) -> str:
    """Return bytes as MiB."""
    return f"{number(count / 2**20)} MiB"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown.

    Raises:
        ValueError: A row has another number of cells than the head.
    """
    for row in rows:
        if len(row) != len(head):
            raise ValueError(f"a row of {len(row)} cells does not fit a head of {len(head)}: {row}")
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
