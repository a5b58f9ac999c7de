"""What the ranges of one shard prove, and which of their records count. Arithmetic alone: no store, no clock.

A range proves more than its own records. It holds all that KCL delivered from its first to its last record, and its
first record is the next one that KCL delivered after `after`. So a range that follows a position covers everything from
there on, and two ranges are linked if what they cover meets. A range that follows a starting point (TRIM_HORIZON,
AT_TIMESTAMP, LATEST) covers no more than itself: the word meant another place when another session began at it. Nor
does one whose link was older than the stream's retention, where records may have been trimmed before they were read.

All here is of one shard of one stream. Ranges of different streams are never put together.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kcl_receiver.ranges import LATEST, After, Position, Range
from kcl_receiver.store.entries import SessionStarted

HOUR_MS = 3_600_000


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
        begin = bisect_left(self._highs, span.low)
        end = bisect_right(self._lows, span.high)
        if begin < end:
            span = Span(min(span.low, self._lows[begin]), max(span.high, self._highs[end - 1]))
        self._lows[begin:end] = [span.low]
        self._highs[begin:end] = [span.high]

    def missing(self, span: Span) -> list[Span]:
        """Return the parts of a span that are not in the set, in order."""
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
    """

    after: Position | None
    through: Position | None
    before: Position | None
    why: str


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
    return Span(Cut(one.first, 0), Cut(one.last, 1))


def cover(ranges: Sequence[Range], sessions: Sequence[SessionStarted] = (), ended: After | None = None) -> Coverage:
    """Return what a shard's ranges prove.

    A session that began at a checkpoint shows that the shard had been read up to there, and so does the shard's end:
    both must be covered, or the end of what was stored is lost.

    Args:
        ranges: All ranges of the shard, in any order.
        sessions: All sessions of the shard, in any order.
        ended: The last position of the shard if it was read to its end.
    """
    late = {(one.session, one.after) for one in sessions if one.possibly_trimmed}
    linked: list[Range] = []
    doubtful: list[Range] = []
    for one in ranges:
        old = one.possibly_trimmed or (one.session, one.after) in late
        (doubtful if old and isinstance(one.after, Position) else linked).append(one)
    covered = SpanSet([*map(_covered_by, linked), *map(span_of, doubtful)])
    unread = SpanSet(
        Span(Cut(one.after, 1), Cut(one.first, 0))
        for one in doubtful
        if isinstance(one.after, Position) and one.after < one.first
    )
    known = [*(one.after for one in sessions), *(one.after for one in doubtful), ended]
    reached = sorted(one for one in known if isinstance(one, Position) and not covered.holds(one))
    firsts = sorted(one.first for one in ranges)
    segments = covered.spans()
    gaps: list[Gap] = []
    trimmed: list[Gap] = []
    for before, after in zip([None, *segments], [*segments, None], strict=True):
        hole = _hole(before, after, reached, firsts)
        if hole is None:
            continue
        if before is not None and after is not None and not unread.missing(Span(before.high, after.low)):
            trimmed.append(Gap(hole.after, None, hole.before, "reading resumed later than the stream's retention"))
        else:
            gaps.append(hole)
    for late_start in sorted({one for _, one in late if isinstance(one, Position)}):
        if covered.holds(late_start) and (not firsts or firsts[-1] <= late_start):
            trimmed.append(Gap(late_start, None, None, "reading resumed later than the stream's retention"))
    _judge_first_start(segments, ranges, sessions, gaps, trimmed)
    return Coverage(tuple(segments), tuple(gaps), tuple(trimmed))


def _covered_by(one: Range) -> Span:
    """Return all that a range proves to be stored: from the position that it follows, or else from its first record."""
    if isinstance(one.after, Position) and one.after < one.first:
        return Span(Cut(one.after, 1), Cut(one.last, 1))
    return span_of(one)


def _hole(
    before: Span | None, after: Span | None, reached: Sequence[Position], firsts: Sequence[Position]
) -> Gap | None:
    """Return the gap between two segments, or at either end, if there is one."""
    inside = [
        one
        for one in reached
        if (before is None or before.high <= (one, 0)) and (after is None or (one, 1) <= after.low)
    ]
    follows_position = after is not None and after.low.side == 1
    if after is not None and follows_position:
        inside.append(after.low.position)
    if not inside and (before is None or after is None):
        return None
    if before is None:
        why = "reading began at a checkpoint, and nothing up to it is stored"
    elif after is None:
        why = "a later session began, or the shard ended, past the last that is stored"
    elif inside:
        why = "reading resumed at a checkpoint past what is stored"
    else:
        why = "reading began again at a starting point, and did not meet what is stored"
    return Gap(
        after=None if before is None else before.high.position,
        through=max(inside, default=None),
        before=None if after is None else firsts[bisect_right(firsts, after.low.position) - (after.low.side == 0)],
        why=why,
    )


def _judge_first_start(
    segments: Sequence[Span],
    ranges: Sequence[Range],
    sessions: Sequence[SessionStarted],
    gaps: list[Gap],
    trimmed: list[Gap],
) -> None:
    """Add what an earlier session shows that began at a starting point and stored nothing.

    It had begun to read at another place than the session whose records are the first: LATEST is a later place each
    time, and with the others, if it was longer ago than the stream's retention, its first records may be trimmed now.
    """
    if not segments:
        return
    openers = {one.session for one in ranges if one.first == segments[0].low.position}
    starts = sorted((one for one in sessions if not isinstance(one.after, Position)), key=lambda one: one.time)
    first = next((one for one in starts if one.session in openers), None)
    if first is None or starts[0] is first:
        return
    earlier = starts[0]
    begin = segments[0].low.position
    if first.after == LATEST:
        gaps.insert(0, Gap(None, None, begin, "an earlier session had begun to read, and this one began at LATEST"))
    elif first.retention_hours and first.time - earlier.time > first.retention_hours * HOUR_MS:
        why = "reading had begun longer ago than the stream's retention, and then began again"
        trimmed.insert(0, Gap(None, None, begin, why))


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
