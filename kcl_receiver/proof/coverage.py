"""What a range covers, stretches of positions, and which records of which range count. Arithmetic alone.

A range proves more than its own records. It holds all that KCL delivered from its first to its last record, and its
first record is the next one that KCL delivered after `after`. So a range that follows a position covers everything from
there on, and two ranges are linked if what they cover meets. A range that follows a starting point (TRIM_HORIZON,
AT_TIMESTAMP, LATEST) covers no more than itself: the word meant another place when another session began at it. Nor
does one across whose link the shard was not read within the stream's retention: records may have been trimmed there
before they were read. Which links these are is decided by the marks, in `kcl_receiver.horizon`.

All here is of one shard of one stream. Ranges of different streams are never put together.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from kcl_receiver.horizon import Unread
from kcl_receiver.ranges import Position, Range

NEAR = 256
"""So many spans of a shard, or twice as many, are kept to tell what overlaps: what a restart reads again is less."""


class Cut(NamedTuple):
    """A place between records: just before a position (`side` 0) or just after it (1)."""

    position: Position
    side: int


class Span(NamedTuple):
    """All positions between two cuts; `low` is below `high`."""

    low: Cut
    high: Cut

    def holds(self, position: Position) -> bool:
        """Return whether a position lies in the span."""
        return self.low <= (position, 0) and (position, 1) <= self.high


class SpanSet:
    """A set of positions, kept as spans that neither touch nor overlap, in order."""

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self._lows: list[Cut] = []
        self._highs: list[Cut] = []
        for span in spans:
            self.add(span)

    def add(self, span: Span) -> None:
        """Put a span in; spans that touch become one."""
        if not self._highs or self._highs[-1] < span.low:  # what comes in the order of the stream comes here
            self._lows.append(span.low)
            self._highs.append(span.high)
            return
        begin = bisect_left(self._highs, span.low)
        end = bisect_right(self._lows, span.high)
        if begin < end:
            span = Span(min(span.low, self._lows[begin]), max(span.high, self._highs[end - 1]))
        self._lows[begin:end] = [span.low]
        self._highs[begin:end] = [span.high]

    def missing(self, span: Span) -> list[Span]:
        """Return the parts of a span that are not in the set, in order."""
        if not self._highs or self._highs[-1] <= span.low:  # what comes in the order of the stream comes here
            return [span]
        parts = []
        low = span.low
        at = bisect_right(self._highs, low)
        while low < span.high:
            next_low = self._lows[at] if at < len(self._lows) else span.high
            if low < next_low:
                parts.append(Span(low, min(next_low, span.high)))
            if at == len(self._lows):
                break
            low = max(low, self._highs[at])
            at += 1
        return parts

    def common(self, span: Span) -> list[Span]:
        """Return the parts of a span that are in the set, in order."""
        parts = []
        at = bisect_right(self._highs, span.low)
        while at < len(self._lows) and self._lows[at] < span.high:
            parts.append(Span(max(span.low, self._lows[at]), min(span.high, self._highs[at])))
            at += 1
        return parts

    def holds(self, position: Position) -> bool:
        """Return whether a position is in the set."""
        return not self.missing(Span(Cut(position, 0), Cut(position, 1)))

    def spans(self) -> list[Span]:
        """Return the spans in order."""
        return list(map(Span, self._lows, self._highs))


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of which nothing is stored.

    Attributes:
        after: The last position before it that is covered, or None if nothing is.
        through: A position in it that KCL is known to have reached, the last one; None if there is no such knowledge.
        before: The first record stored after it, or None if there is none.
        why: How it is known.
        begin_ms: When the record at `after` arrived at Kinesis, milliseconds since the epoch; -1 if not known.
        end_ms: The same of the record at `before`.
        unread: Where records may have been trimmed unread, when these arrived.
    """

    after: Position | None
    through: Position | None
    before: Position | None
    why: str
    begin_ms: int = field(default=-1, compare=False)
    end_ms: int = field(default=-1, compare=False)
    unread: Unread | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Coverage:
    """What the ranges of one shard prove.

    Attributes:
        segments: Stretches in which all that KCL delivered is in the ranges. One, if all is proven.
        gaps: Stretches of which nothing is stored.
        possibly_trimmed: Stretches of which nothing was delivered, and where records may have been trimmed unread.
    """

    segments: tuple[Span, ...]
    gaps: tuple[Gap, ...]
    possibly_trimmed: tuple[Gap, ...]


def span_of(one: Range) -> Span:
    """Return the span from a range's first to its last record."""
    return _between(one.first, one.last)


def _between(first: Position, last: Position) -> Span:
    return Span(Cut(first, 0), Cut(last, 1))


class Segments:
    """Stretches in which one link leads to the next, each with its first record, the times of its ends, its records.

    A segment is four bounds and a number, however many ranges it was made of. It ends just after a record always, so
    that `highs` are positions: most ranges move the last of them, and a `Cut` for each would take longer than the rest.
    """

    def __init__(self) -> None:
        self.lows: list[Cut] = []
        self.highs: list[Position] = []
        self.firsts: list[Position] = []
        self.begins: list[int] = []
        self.ends: list[int] = []
        self.records: list[int] = []

    def add(self, low: tuple[Position, int], one: Range, *, counted: bool = True) -> None:
        """Put in a range, of which all is covered from `low` (a `Cut`) to its last record.

        Its records are not counted if it was put in before.
        """
        high = one.last
        records = one.count if counted else 0
        highs = self.highs
        # What comes in the order of the stream comes here. A cut at the last record of a segment touches it.
        if highs and self.lows[-1] <= low and low[0] <= highs[-1]:
            if high > highs[-1]:
                highs[-1], self.ends[-1] = high, one.arrival_last
            if one.first < self.firsts[-1]:
                self.firsts[-1], self.begins[-1] = one.first, one.arrival_first
            self.records[-1] += records
            return
        begin = bisect_left(highs, low[0])
        end = bisect_right(self.lows, (high, 1))
        here = slice(begin, end)
        firsts = zip(self.firsts[here], self.begins[here], strict=True)
        lasts = zip(self.highs[here], self.ends[here], strict=True)
        first, begin_ms = min([(one.first, one.arrival_first), *firsts])
        last, end_ms = max([(high, one.arrival_last), *lasts])
        self.records[here] = [records + sum(self.records[here])]
        self.lows[here] = [Cut(*min([low, *self.lows[here]]))]
        self.highs[here], self.firsts[here], self.begins[here], self.ends[here] = [last], [first], [begin_ms], [end_ms]

    def holds(self, position: Position) -> bool:
        """Return whether a position is covered."""
        at = bisect_left(self.highs, position)
        return at < len(self.lows) and self.lows[at] <= (position, 0)

    def spans(self) -> list[Span]:
        """Return the stretches in order."""
        return [Span(low, Cut(high, 1)) for low, high in zip(self.lows, self.highs, strict=True)]


def covered_from(one: Range) -> tuple[Position, int]:
    """Return the cut from which a range proves all to be stored: after the position that it follows, or its first."""
    if isinstance(one.after, Position) and one.after < one.first:
        return one.after, 1
    return one.first, 0


class Selected(NamedTuple):
    """A range, and which of its records count for a reader.

    `parts` is empty if all its records were in ranges before it, and the range's own span if none was.
    """

    range: Range
    block: str
    parts: tuple[Span, ...]

    @property
    def records(self) -> int | None:
        """How many of its records count; None where only the rows themselves can tell."""
        if not self.parts:
            return 0
        return self.range.count if self.parts == (span_of(self.range),) else None


def select(ranges: Iterable[tuple[Range, str]]) -> list[Selected]:
    """Return which records of which range count, so that each record counts once.

    A record counts where it comes first, in the order given. So a reader who takes ranges as they are stored is never
    told later that another one would have been the right one.
    """
    taken = SpanSet()
    selected = []
    for one, block in ranges:
        span = span_of(one)
        selected.append(Selected(one, block, tuple(taken.missing(span))))
        taken.add(span)
    return selected


class Taken:
    """What ranges have taken so far, in bounded memory: each is looked up among those that lie near the newest.

    What is taken begins and ends with a record, so it is kept as positions, and two stretches of it never touch.
    """

    def __init__(self, keep: int = NEAR) -> None:
        self._keep = keep
        self._firsts: list[Position] = []
        self._lasts: list[Position] = []
        self._floor: Position | None = None
        """Where the stretches end that were forgotten."""

    def take_next(self, first: Position, last: Position) -> bool:
        """Take a stretch if it lies past all that was taken before, as it does in the order of the stream.

        Returns:
            Whether it does. Then nothing took any part of it before; else nothing was done, and `take` is to be asked.
        """
        lasts = self._lasts
        if lasts and first <= lasts[-1]:  # what was forgotten lies before what is kept
            return False
        self._firsts.append(first)
        lasts.append(last)
        if len(lasts) > 2 * self._keep:
            self._forget()
        return True

    def take(self, first: Position, last: Position) -> list[Span] | None:
        """Return which parts of a stretch nothing took before, and take all of it; None if it reaches too far back."""
        if self._floor is not None and first <= self._floor:
            return None
        firsts, lasts = self._firsts, self._lasts
        here = slice(bisect_left(lasts, first), bisect_right(firsts, last))
        taken = SpanSet(map(_between, firsts[here], lasts[here]))
        parts = taken.missing(_between(first, last))
        firsts[here], lasts[here] = [min([first, *firsts[here]])], [max([last, *lasts[here]])]
        if len(lasts) > 2 * self._keep:
            self._forget()
        return parts

    def _forget(self) -> None:
        self._floor = self._lasts[self._keep - 1]
        del self._firsts[: self._keep], self._lasts[: self._keep]
