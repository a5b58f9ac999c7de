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
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from kcl_receiver.ranges import LATEST, After, Position, Range
from kcl_receiver.store.entries import SessionStarted

HOUR_MS = 3_600_000

MANY = 1024
"""So many checkpoints of a shard are kept before those are left out that are covered."""
NEAR = 256
"""So many spans of a shard, or twice as many, are kept to tell what overlaps: what a restart reads again is less."""

_RESUMED_LATE = "reading resumed later than the stream's retention"


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

    def forget(self, count: int) -> Cut:
        """Take out the lowest spans, and return where the last of them ended."""
        end = self._highs[count - 1]
        del self._lows[:count], self._highs[:count]
        return end

    def __len__(self) -> int:
        """Return the number of spans."""
        return len(self._lows)

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
    """

    after: Position | None
    through: Position | None
    before: Position | None
    why: str
    begin_ms: int = field(default=-1, compare=False)
    end_ms: int = field(default=-1, compare=False)


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


class Segments:
    """Stretches in which one link leads to the next, each with its first record, the times of its ends, its records.

    A segment is four bounds and a number, however many ranges it was made of.
    """

    def __init__(self) -> None:
        self.lows: list[Cut] = []
        self.highs: list[Cut] = []
        self.firsts: list[Position] = []
        self.begins: list[int] = []
        self.ends: list[int] = []
        self.records: list[int] = []

    def add(self, span: Span, one: Range) -> None:
        """Put in what a range covers."""
        low, high = span
        if self.highs and self.lows[-1] <= low <= self.highs[-1]:  # what comes in the order of the stream comes here
            if high > self.highs[-1]:
                self.highs[-1], self.ends[-1] = high, one.arrival_last
            if one.first < self.firsts[-1]:
                self.firsts[-1], self.begins[-1] = one.first, one.arrival_first
            self.records[-1] += one.count
            return
        begin = bisect_left(self.highs, low)
        end = bisect_right(self.lows, high)
        here = slice(begin, end)
        firsts = zip(self.firsts[here], self.begins[here], strict=True)
        lasts = zip(self.highs[here], self.ends[here], strict=True)
        first, begin_ms = min([(one.first, one.arrival_first), *firsts])
        last, end_ms = max([(high, one.arrival_last), *lasts])
        self.records[here] = [one.count + sum(self.records[here])]
        self.lows[here] = [min(low, self.lows[begin]) if begin < end else low]
        self.highs[here], self.firsts[here], self.begins[here], self.ends[here] = [last], [first], [begin_ms], [end_ms]

    def holds(self, position: Position) -> bool:
        """Return whether a position is covered."""
        at = bisect_left(self.highs, (position, 1))
        return at < len(self.lows) and self.lows[at] <= (position, 0)

    def spans(self) -> list[Span]:
        """Return the stretches in order."""
        return list(map(Span, self.lows, self.highs))


class Cover:
    """What the ranges of one shard prove, taken in one at a time, in memory that grows with the breaks alone.

    Args:
        late: Session and `after` of each session that was late, as far as they are known before.

    Attributes:
        late: The same of all that came.
        unsettled: A session was late of which ranges came before itself. The result may be wrong: take in all anew, and
            give `late` at the beginning.
    """

    def __init__(self, late: Iterable[tuple[str, After]] = ()) -> None:
        self.late = set(late)
        self.unsettled = False
        self._segments = Segments()
        self._sessions: set[str] = set()
        self._doubtful: set[tuple[Position, Position]] = set()
        self._reached: set[Position] = set()
        self._starts: list[SessionStarted] = []
        self._first: Position | None = None
        self._openers: set[str] = set()
        self._last_first: Position | None = None

    def add_session(self, one: SessionStarted) -> None:
        """Take in a session."""
        if not isinstance(one.after, Position):
            self._starts.append(one)
        else:
            self._reach(one.after)
        key = one.session, one.after
        if one.possibly_trimmed and key not in self.late:
            self.unsettled = self.unsettled or one.session in self._sessions
            self.late.add(key)

    def add_range(self, one: Range) -> None:
        """Take in a range."""
        first, after = one.first, one.after
        self._sessions.add(one.session)
        if self._first is None or first < self._first:
            self._first, self._openers = first, {one.session}
        elif first == self._first:
            self._openers.add(one.session)
        if self._last_first is None or first > self._last_first:
            self._last_first = first
        if isinstance(after, Position) and (one.possibly_trimmed or (self.late and (one.session, after) in self.late)):
            self._doubtful.add((after, first))
            self._segments.add(span_of(one), one)
        else:
            self._segments.add(covered_by(one), one)

    def _reach(self, position: Position) -> None:
        self._reached.add(position)
        if len(self._reached) > MANY:
            self._reached = {one for one in self._reached if not self._segments.holds(one)}

    def coverage(self, ended: After | None = None) -> Coverage:
        """Return what is proven.

        Args:
            ended: The last position of the shard if it was read to its end.
        """
        found = self._segments
        unread = SpanSet(Span(Cut(after, 1), Cut(first, 0)) for after, first in self._doubtful if after < first)
        known = [*self._reached, *(after for after, _ in self._doubtful), ended]
        reached = sorted(one for one in known if isinstance(one, Position) and not found.holds(one))
        segments = found.spans()
        gaps: list[Gap] = []
        trimmed: list[Gap] = []
        for at, (before, after) in enumerate(zip([None, *segments], [*segments, None], strict=True)):
            hole = _hole(before, after, reached, found.firsts[at] if after is not None else None)
            if hole is None:
                continue
            begin_ms = found.ends[at - 1] if before is not None else -1
            end_ms = found.begins[at] if after is not None else -1
            if before is not None and after is not None and not unread.missing(Span(before.high, after.low)):
                trimmed.append(Gap(hole.after, None, hole.before, _RESUMED_LATE, begin_ms, end_ms))
            else:
                gaps.append(replace(hole, begin_ms=begin_ms, end_ms=end_ms))
        for late_start in sorted({one for _, one in self.late if isinstance(one, Position)}):
            nothing_follows = self._last_first is None or self._last_first <= late_start
            # Ended where it began: what was stored past its beginning was all that the stream ever gave.
            if found.holds(late_start) and (nothing_follows or ended == late_start):
                last = late_start if nothing_follows else segments[-1].high.position
                trimmed.append(Gap(last, None, None, _RESUMED_LATE, found.ends[-1]))
        if not segments and ended is not None and self.late:
            trimmed.append(Gap(None, None, None, _RESUMED_LATE))
        if segments:
            begin = segments[0].low.position
            openers = self._openers if self._first == begin else set()
            _judge_first_start(begin, found.begins[0], openers, self._starts, gaps, trimmed)
        return Coverage(tuple(segments), tuple(gaps), tuple(trimmed))


def cover(ranges: Iterable[Range], sessions: Iterable[SessionStarted] = (), ended: After | None = None) -> Coverage:
    """Return what a shard's ranges prove.

    A session that began at a checkpoint shows that the shard had been read up to there, and so does the shard's end:
    both must be covered, or the end of what was stored is lost.

    Args:
        ranges: All ranges of the shard, in any order.
        sessions: All sessions of the shard, in any order.
        ended: The last position of the shard if it was read to its end.
    """
    found = Cover()
    for session in sessions:
        found.add_session(session)
    for one in ranges:
        found.add_range(one)
    return found.coverage(ended)


def covered_by(one: Range) -> Span:
    """Return all that a range proves to be stored: from the position that it follows, or else from its first record."""
    if isinstance(one.after, Position) and one.after < one.first:
        return Span(Cut(one.after, 1), Cut(one.last, 1))
    return span_of(one)


def _hole(before: Span | None, after: Span | None, reached: Sequence[Position], first: Position | None) -> Gap | None:
    """Return the gap between two segments, or at either end, if there is one; `first` is the first of `after`."""
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
        before=first,
        why=why,
    )


def _judge_first_start(
    begin: Position,
    begin_ms: int,
    openers: Container[str],
    sessions: Sequence[SessionStarted],
    gaps: list[Gap],
    trimmed: list[Gap],
) -> None:
    """Add what an earlier session shows that began at a starting point and stored nothing.

    It had begun to read at another place than the session whose records are the first: LATEST is a later place each
    time, and with the others, if it was longer ago than the stream's retention, its first records may be trimmed now.
    """
    starts = sorted(sessions, key=lambda one: one.time)
    first = next((one for one in starts if one.session in openers), None)
    if first is None or starts[0] is first:
        return
    earlier = starts[0]
    if first.after == LATEST:
        why = "an earlier session had begun to read, and this one began at LATEST"
        gaps.insert(0, Gap(None, None, begin, why, earlier.time, begin_ms))
    elif first.retention_hours and first.time - earlier.time > first.retention_hours * HOUR_MS:
        why = "reading had begun longer ago than the stream's retention, and then began again"
        trimmed.insert(0, Gap(None, None, begin, why, earlier.time, begin_ms))


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
    """What ranges have taken so far, in bounded memory: each is looked up among those that lie near the newest."""

    def __init__(self, keep: int = NEAR) -> None:
        self._keep = keep
        self._near = SpanSet()
        self._floor: Cut | None = None
        """Where the spans end that were forgotten."""

    def take(self, span: Span) -> list[Span] | None:
        """Return which parts of a span nothing took before, and take all of it; None if it reaches too far back."""
        if self._floor is not None and span.low < self._floor:
            return None
        parts = self._near.missing(span)
        self._near.add(span)
        if len(self._near) > 2 * self._keep:
            self._floor = self._near.forget(self._keep)
        return parts
