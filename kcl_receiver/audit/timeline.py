"""What is in a shard's time, in a bounded number of stretches, for pictures.

Stretches of stored records that touch become one, and of too many the nearest do. What is amiss is never merged into
anything: it is laid over what is stored, and takes its place.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import pairwise

from kcl_receiver.audit.report import STORED, Stretch, StretchKind

RESOLUTION = 2000
"""At most so many stretches of each kind of stored records."""


class Stretches:
    """Stretches of time of one kind, taken in one at a time.

    Args:
        resolution: Keep at most four times as many on the way, and so many in the end.
    """

    def __init__(self, resolution: int = RESOLUTION) -> None:
        self._resolution = resolution
        # Three columns of 8 bytes: a list for each stretch is eight times as much, and there are many shards.
        self._begins, self._ends, self._records = array("q"), array("q"), array("q")

    def add(self, begin_ms: int, end_ms: int, records: int) -> None:
        """Take in records that arrived from `begin_ms` to `end_ms`; nothing if that is not known."""
        if begin_ms < 0 or end_ms < 0:
            return
        if begin_ms > end_ms:  # arrival times are approximate
            begin_ms, end_ms = end_ms, begin_ms
        begins, ends = self._begins, self._ends
        if begins and begins[-1] <= begin_ms <= ends[-1]:
            if end_ms > ends[-1]:
                ends[-1] = end_ms
            self._records[-1] += records
            return
        begins.append(begin_ms)
        ends.append(end_ms)
        self._records.append(records)
        if len(begins) > 4 * self._resolution:
            self._begins, self._ends, self._records = (
                array("q", column) for column in zip(*self._merged(), strict=True)
            )

    def get(self) -> list[tuple[int, int, int]]:
        """Return begin, end and records of each stretch, in order; they neither touch nor overlap."""
        return [(begin, end, records) for begin, end, records in self._merged()]

    def _merged(self) -> list[list[int]]:
        ordered = sorted(zip(self._begins, self._ends, self._records, strict=True))
        merged = _joined(ordered, [0] * len(ordered))
        surplus = len(merged) - self._resolution
        if surplus <= 0:
            return merged
        distances = [after[0] - before[1] for before, after in pairwise(merged)]
        nearest = sorted(range(len(distances)), key=distances.__getitem__)[:surplus]
        reach = [0] * len(merged)
        for at in nearest:
            reach[at + 1] = distances[at]
        return _joined(merged, reach)


def _joined(ordered: Sequence[Sequence[int]], reach: Iterable[int]) -> list[list[int]]:
    """Join each stretch to the one before if it begins no further from its end than its reach."""
    out: list[list[int]] = []
    last: list[int] = []
    for (begin, end, records), far in zip(ordered, reach, strict=True):
        if last and begin - last[1] <= far:
            if end > last[1]:
                last[1] = end
            last[2] += records
        else:
            last = [begin, end, records]
            out.append(last)
    return out


def draw(
    stored: Iterable[tuple[int, int, int]], others: Iterable[tuple[StretchKind, int, int, int]]
) -> tuple[Stretch, ...]:
    """Return a timeline: what is stored, less what is laid over it, and that; in the order of their beginnings.

    Args:
        stored: Begin, end and records of each stored stretch, in order.
        others: Kind, begin, end and records of everything else; one whose begin or end is not known is put where the
            other is.
    """
    over: list[Stretch] = []
    for kind, begin, end, records in others:
        known = [one for one in (begin, end) if one >= 0]
        if known:
            over.append(Stretch(kind, min(known), max(known), records))
    holes = _joined(
        [[one.begin_ms, one.end_ms, 0] for one in sorted(over, key=lambda one: one.begin_ms)], [0] * len(over)
    )
    out = list(over)
    at = 0
    for begin, end, records in stored:
        while at < len(holes) and holes[at][1] <= begin:
            at += 1
        out += _less(begin, end, records, holes, at)
    return tuple(sorted(out, key=lambda one: (one.begin_ms, one.end_ms, one.kind)))


def _less(begin: int, end: int, records: int, holes: list[list[int]], at: int) -> list[Stretch]:
    """Return what is left of a stored stretch beside the holes. Its records are shared out by time."""
    parts: list[tuple[int, int]] = []
    here = begin
    while at < len(holes) and holes[at][0] < end:
        if here <= holes[at][0]:
            parts.append((here, holes[at][0]))
        here = max(here, holes[at][1])
        at += 1
    if here < end or not parts:
        parts.append((min(here, end), end))
    whole = sum(stop - start for start, stop in parts)
    out = []
    left = records
    for number, (start, stop) in enumerate(parts, 1):
        share = left if number == len(parts) else records * (stop - start) // whole if whole else 0
        left -= share
        out.append(Stretch(STORED, start, stop, share))
    return out
