"""What the ranges of one shard prove, taken in one at a time: `Cover`. Arithmetic alone: no store, no clock.

What a range covers is said in `coverage`, and which links are proven in `kcl_receiver.horizon`. Links of which that is
not known yet are kept until all has come, for a mark that comes later may make them good.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from kcl_receiver.horizon import KEPT, START, Horizon, ShardMark, Times, Unread, begun, place
from kcl_receiver.proof.coverage import Coverage, Cut, Gap, Segments, Span, SpanSet, covered_from
from kcl_receiver.ranges import AT_TIMESTAMP, LATEST, After, Position, Range
from kcl_receiver.store.ledger.entries import MarksTaken, SessionStarted, ShardEnded

MANY = 1024
"""So many checkpoints of a shard are kept before those are left out that are covered."""
WHY_UNREAD = "not read within the stream's retention"


class Cover:
    """What the ranges of one shard prove, taken in one at a time, in memory that grows with the breaks alone.

    Args:
        times: What is known of the stream's retention, and of clocks that were late.
        kept: See `Marks`.

    Attributes:
        horizon: The marks.
    """

    def __init__(self, times: Times, kept: int = KEPT) -> None:
        self._times = times
        self._kept = kept
        self.horizon = Horizon(times, kept)
        self._second: Horizon | None = None
        self._segments = Segments()
        self._doubted: list[tuple[Range, int]] = []
        self._tails: list[tuple[Position, int]] = []
        self._ended_late = False
        self._reached: set[Position] = set()
        self._starts: list[SessionStarted] = []
        self._first: Position | None = None
        self._openers: set[tuple[str, int]] = set()

    def add_session(self, one: SessionStarted) -> None:
        """Take in a session."""
        self._times.retention.see(one.time, one.retention_hours)
        if isinstance(one.after, Position):
            self._reach(one.after)
            self._end_at(one.after, one.time)
        else:
            self._starts.append(one)
            self._tails.append((START, one.time))

    def add_mark(self, one: ShardMark, time: int) -> None:
        """Take in what was recorded, at a time, of how far the shard was read."""
        self.horizon.opened = max(self.horizon.opened, one.opened)
        if one.until >= 0:
            self.horizon.reading(place(one.position), one.until, self._times.delivered(one.session, time))

    def add_range(self, one: Range) -> None:
        """Take in a range."""
        if self._first is None or one.first <= self._first:
            self._open(one)
        low = covered_from(one)
        if low[1]:  # it follows a position
            at = one.delivered if one.delivered < 0 else self._times.delivered(one.session, one.delivered)
            if not self.horizon.is_good(low[0], at):
                self._doubted.append((one, at))
                low = one.first, 0
        self._segments.add(low, one)
        self.horizon.arrived(one.last, one.arrival_last)

    def _open(self, one: Range) -> None:
        """Take in a range that no other one lies before."""
        if one.first != self._first:
            self._first, self._openers = one.first, set()
        if not isinstance(one.after, Position):
            self._openers.add((one.session, one.delivered))

    def add_end(self, one: ShardEnded) -> None:
        """Take in that the shard was read to its end."""
        tails = len(self._tails)
        self._end_at(place(one.last), self._times.delivered(one.session, one.time))
        self._ended_late |= len(self._tails) > tails

    def _end_at(self, position: Position, at: int) -> None:
        """Something was read from a position on, and it is not known yet whether anything came."""
        if not self.horizon.is_good(position, at):
            self._tails.append((position, at))

    def _reach(self, position: Position) -> None:
        self._reached.add(position)
        if len(self._reached) > MANY:
            self._reached = {one for one in self._reached if not self._segments.holds(one)}

    @property
    def doubts(self) -> bool:
        """Whether something that a session says of its own time was not good when it came."""
        return bool(self._doubted or self._ended_late or self.horizon.asked())

    # A second look, where marks were left out

    def look_again(self) -> None:
        """Begin to take in all marks and ranges once more: what was left out may make links good."""
        self._second = Horizon(self._times, self._kept, self.asked())

    def see_mark(self, one: ShardMark, time: int) -> None:
        """Take in a mark for the second time."""
        if self._second is not None and one.until >= 0:
            self._second.reading(place(one.position), one.until, self._times.delivered(one.session, time))

    def see_range(self, one: Range) -> None:
        """Take in a range for the second time."""
        if self._second is not None:
            self._second.arrived(one.last, one.arrival_last)

    def seen(self) -> None:
        """Take in that all was taken in for the second time."""
        if self._second is not None:
            self._second.opened = self.horizon.opened
            self.horizon, self._second = self._second, None

    def asked(self) -> list[Position]:
        """Return the positions of links that are not good by the marks that were kept, and may be so by all of them.

        Empty if none were left out.
        """
        if not self.horizon.thinned:
            return []
        links = [place(one.after) for one, at in self._doubted if not self.horizon.is_good(place(one.after), at)]
        return [one for one in (*links, *self.horizon.asked()) if one != START]

    def _opening_sessions(self) -> set[str]:
        """Return the sessions that delivered the first record of all after a starting point."""
        return {session for session, _ in self._openers}

    def _first_starts(self) -> list[SessionStarted]:
        """Return the starts in the order of time, up to that of the session whose record is the first of all."""
        openers = self._opening_sessions()
        found = sorted(self._starts, key=lambda one: (one.time, one.session))
        last = next((at for at, one in enumerate(found) if one.session in openers), len(found))
        return found[: last + 1]

    def begun(self, opened: int | None) -> int:
        """Return until when all that had arrived lies before the shard's start; -1 if that is not known.

        Args:
            opened: See `kcl_receiver.horizon.begun`.
        """
        starts = self._first_starts()
        if not starts or (starts[0].hash_range is None and opened is None):
            return -1  # the stream did not list it any more when it was read for the first time
        # The properties may have been changed before anything came: what any of these asked for counts.
        return min(_begun(one, opened) for one in starts)

    def coverage(self, ended: After | None = None, opened: int | None = None) -> Coverage:
        """Return what is proven, once all has come.

        Args:
            ended: The last position of the shard if it was read to its end.
            opened: See `kcl_receiver.horizon.begun`.
        """
        found, horizon = self._segments, self.horizon
        starts = self._first_starts()
        if starts:
            horizon.mark(START, self.begun(opened))
        self._tails += horizon.settle()
        doubtful: set[tuple[Position, Position]] = set()
        unread_before: dict[Position, Unread] = {}
        for one, at in self._doubted:
            after = place(one.after)
            if horizon.is_good(after, at):
                found.add(covered_from(one), one, counted=False)
            else:
                doubtful.add((after, one.first))
                unread_before[one.first] = horizon.unread(after, at)
        unread = SpanSet(Span(Cut(after, 1), Cut(first, 0)) for after, first in doubtful)
        known = [*self._reached, *(after for after, _ in doubtful), ended]
        reached = sorted(one for one in known if isinstance(one, Position) and not found.holds(one))
        segments = found.spans()
        gaps: list[Gap] = []
        trimmed: list[Gap] = []
        for at, (before, behind) in enumerate(zip([None, *segments], [*segments, None], strict=True)):
            hole = _hole(before, behind, reached, found.firsts[at] if behind is not None else None)
            if hole is None:
                continue
            begin_ms = found.ends[at - 1] if before is not None else -1
            end_ms = found.begins[at] if behind is not None else -1
            if before is not None and behind is not None and not unread.missing(Span(before.high, behind.low)):
                when = unread_before.get(found.firsts[at])
                trimmed.append(Gap(hole.after, None, hole.before, WHY_UNREAD, begin_ms, end_ms, when))
            else:
                gaps.append(replace(hole, begin_ms=begin_ms, end_ms=end_ms))
        trimmed += self._unread_tails()
        if segments:
            begin = segments[0].low.position
            # By what is known of clocks now: they may have been found late only after these were taken in.
            delivered = [at if at < 0 else self._times.delivered(session, at) for session, at in self._openers]
            if self._first == begin and starts and starts[-1].session in self._opening_sessions():
                _judge_first_start(begin, found.begins[0], delivered, starts, opened, horizon, gaps, trimmed)
        return Coverage(tuple(segments), tuple(gaps), tuple(trimmed))

    def _unread_tails(self) -> Iterator[Gap]:
        """Yield where the shard was read on behind the last that is stored, too late for what may have been there."""
        found, horizon = self._segments, self.horizon
        late: dict[Position, int] = {}
        for position, at in self._tails:
            end = position
            if found.highs:
                end = found.highs[-1]
                if position != START and not found.lows[-1] <= (position, 0) < (end, 1):
                    continue  # what comes behind it has a link of its own, or it lies in a gap
            elif position != START:
                continue
            if not horizon.is_good(end, at):
                late[end] = min(at, late.get(end, at))
        for end, at in sorted(late.items()):
            after, end_ms = (None, -1) if end == START else (end, found.ends[-1])
            yield Gap(after, None, None, WHY_UNREAD, end_ms, unread=horizon.unread(end, at))


def cover(
    ranges: Iterable[Range],
    sessions: Iterable[SessionStarted] = (),
    ended: ShardEnded | None = None,
    marks: Iterable[MarksTaken] = (),
    opened: int | None = None,
) -> Coverage:
    """Return what a shard's ranges prove.

    A session that began at a checkpoint shows that the shard had been read up to there, and so does the shard's end:
    both must be covered, or the end of what was stored is lost.

    Args:
        ranges: All ranges of the shard, in any order.
        sessions: All sessions of the shard, in any order.
        ended: The entry that says that it was read to its end.
        marks: What is recorded of how far the stream's shards were read.
        opened: See `kcl_receiver.horizon.begun`.
    """
    every, begun_by, taken = list(ranges), list(sessions), list(marks)
    times = Times()
    seen = [(entry.measured, entry.retention_hours) for entry in taken]
    for time, hours in sorted([*seen, *((session.time, session.retention_hours) for session in begun_by)]):
        times.retention.see(time, hours)
    for entry in taken:
        see_times(times, entry)
    found = Cover(times)
    for session in begun_by:
        found.add_session(session)
    shards = {one.shard for one in every} | {session.shard for session in begun_by}
    for entry in taken:
        for mark in entry.marks:
            if mark.shard in shards:
                found.add_mark(mark, entry.time)
    for one in every:
        found.add_range(one)
    if ended is not None:
        found.add_end(ended)
    return found.coverage(None if ended is None else ended.last, opened)


def see_times(times: Times, taken: MarksTaken) -> None:
    """Take in what an entry says of a stream's retention, and of clocks that were late."""
    times.retention.see(taken.measured, taken.retention_hours)
    for late in taken.late:
        for session in taken.sessions:
            times.add_late(session, late)


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
        why = "the first range follows a position, and nothing up to it is stored"
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


def _begun(one: SessionStarted, opened: int | None) -> int:
    return begun(one.after, one.time, one.retention_hours, one.begins, opened)


def _judge_first_start(
    begin: Position,
    begin_ms: int,
    delivered: Sequence[int],
    starts: Sequence[SessionStarted],
    opened: int | None,
    horizon: Horizon,
    gaps: list[Gap],
    trimmed: list[Gap],
) -> None:
    """Judge the link from the starting point to the first record.

    An earlier session may have begun to read at another place than the one whose records are the first: LATEST is a
    later place each time, and so is a time later than what was asked for before. Else it is a link as any other.

    Args:
        begin: The first record.
        begin_ms: When it arrived.
        delivered: When it was delivered after a starting point.
        starts: See `Cover._first_starts`; the last of them is the one that delivered it.
        opened: See `kcl_receiver.horizon.begun`.
        horizon: The marks.
        gaps: Takes a gap.
        trimmed: Takes a stretch that may have been trimmed unread.
    """
    *earlier, first = starts
    if first.after == LATEST:
        skipped = earlier
    elif first.after == AT_TIMESTAMP:
        skipped = [one for one in earlier if _asked_from(one, opened) < first.begins]
    else:
        skipped = []
    if skipped:
        at = "LATEST" if first.after == LATEST else "a later time"
        why = f"an earlier session had begun to read, and this one began at {at}"
        gaps.insert(0, Gap(None, None, begin, why, skipped[0].time, begin_ms))
    elif not any(horizon.is_good(START, at) for at in delivered):
        unread = horizon.unread(START, max(delivered))
        trimmed.insert(0, Gap(None, None, begin, WHY_UNREAD, starts[0].time, begin_ms, unread))


def _asked_from(one: SessionStarted, opened: int | None) -> int:
    """Return since when what arrived was asked for by a session that began at a starting point."""
    return one.time if one.after == LATEST else _begun(one, opened)
