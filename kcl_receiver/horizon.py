"""Whether a shard was read before its stream trimmed it: what marks are, and what they prove. Arithmetic alone.

A stream trims what is older than its retention, and a reader who comes too late is not told: the next record follows as
if nothing had been between. So what links two ranges is proven only if the shard was read often enough:

    A mark (P, H) says: all that had arrived by H has a position of at most P.
    A link from `after`, delivered at U, is good if some mark with P <= `after` has H >= U - retention.

Then whatever was trimmed by U had arrived by H, so that its position is at most P, and nothing of it lies in the link.
A link without such a mark is possibly trimmed. Marks come from these:

    a record    all that arrived by its own arrival, less a margin, is not past it
    a reading   all that had arrived at some time, less how far the reader was behind then, had been delivered. It knows
                nothing of what was trimmed before it came, so it is a link itself: it counts only if a mark that counts
                makes it good
    a start     where the shard's reading began: see `begun`

Which writer recorded a mark, and when, does not matter: it stays true. One that another dominates (P no greater, H no
less) is of no use. All times are the service's, in milliseconds since the epoch. Nothing else may decide whether a link
is proven: the generator asks here for log and status, `verify` for its verdict.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from kcl_receiver.ranges import AT_TIMESTAMP, After, Position

MARGIN_MS = 60_000
"""By so much less does a mark say than was seen: arrival times within a shard need not rise, and clocks differ."""
HOUR_MS = 3_600_000
INTERVAL_MS = 900_000
LEAST_MS = 24 * HOUR_MS
"""The least retention that a stream can have (IncreaseStreamRetentionPeriod in the Kinesis API reference)."""
NEVER_SEEN = 1 << 62
"""Longer than any retention."""
KEPT = 256
"""Marks of a shard that are kept; of the older ones, every second is left out beyond that."""

START = Position(-1)
"""Stands for a starting point (TRIM_HORIZON and its like): before every position."""


def interval_ms(retention_hours: int) -> int:
    """Return how old a shard's newest recorded mark may become: 15 minutes, or 1% of the retention if that is less."""
    return min(INTERVAL_MS, retention_hours * HOUR_MS // 100)


def place(after: After) -> Position:
    """Return a position, or `START` for a starting point."""
    return after if isinstance(after, Position) else START


def begun(after: After, time: int, retention_hours: int, at: int, opened: int | None) -> int:
    """Return until when all that had arrived lies before the start of a shard's first session; -1 if that is not known.

    AT_TIMESTAMP asks for nothing older than that time. TRIM_HORIZON and LATEST ask for nothing that the stream does not
    retain when the session begins, nor for what it trims within the first moments. A child of shards that were read
    holds nothing from the time when they were open.

    Args:
        after: The starting point.
        time: When the session began.
        retention_hours: The retention then.
        at: The time of AT_TIMESTAMP, -1 if not known.
        opened: Of a child of shards that were read, the last time at which one of them is known to have been open, -1
            if there is none; None for any other shard.
    """
    known = at if after == AT_TIMESTAMP else -1
    if opened is not None:
        return max(known, opened)
    if after == AT_TIMESTAMP:
        return known
    return time - (retention_hours * HOUR_MS or LEAST_MS) + interval_ms(retention_hours or LEAST_MS // HOUR_MS)


@dataclass(frozen=True, slots=True)
class ShardMark:
    """How far a session has read a shard, as the ledger keeps it.

    Attributes:
        shard: Shard id.
        session: Id of the session that read.
        position: The last position that it delivered, or where it began.
        until: All that had arrived by then, and was there, is not past the position. Milliseconds since the epoch; -1
            if nothing is known.
        opened: When the stream said that the shard was open, the last time; -1 if it did not.
    """

    shard: str
    session: str
    position: After
    until: int
    opened: int = -1


class Retention:
    """What a stream's retention was seen to be, and when. What it was in between is the less of two neighbours.

    Of neighbours that say the same two are kept, and of those between them the least that one of them said, so that one
    that comes late, out of order, does not part them as if nothing had been there.
    """

    def __init__(self) -> None:
        self._times: list[int] = []
        self._lengths: list[int] = []
        self._before: list[int] = []
        """The least that was seen between the one kept before and this one."""
        self.least_ever = LEAST_MS
        """The least that was ever seen, in milliseconds; the least that a stream can have before anything was."""

    def see(self, time: int, hours: int) -> None:
        """Take in what was seen at a time; 0 hours are not known."""
        length = hours * HOUR_MS
        if length <= 0:
            return
        self.least_ever = min(self.least_ever, length) if self._times else length
        at = bisect_left(self._times, time)
        if at < len(self._times) and self._times[at] == time:
            self._lengths[at] = min(self._lengths[at], length)
            return
        before, after = self._lengths[max(0, at - 2) : at], self._lengths[at : at + 2]
        between = self._before[at] if before and after else NEVER_SEEN
        if before[-1:] == [length] == after[:1]:
            self._before[at] = min(between, length)
        elif before == [length, length]:  # the end moves behind what was left out, if anything was
            self._times[at - 1] = time
            self._before[at - 1] = min(self._before[at - 1], between, length)
        elif after == [length, length]:
            self._times[at] = time
            self._before[at + 1] = min(self._before[at + 1], between, length)
        else:
            self._times.insert(at, time)
            self._lengths.insert(at, length)
            self._before.insert(at, between)

    def least(self, begin: int, end: int) -> int:
        """Return the least that it can have been from one time to another, in milliseconds."""
        first = max(0, bisect_right(self._times, begin) - 1)
        past = bisect_left(self._times, end) + 1
        return min((*self._lengths[first:past], *self._before[first + 1 : past]), default=self.least_ever)


class Late(NamedTuple):
    """A clock was late: by so much are the times from `since` to before `until` to be raised that sessions had from it.

    Measured only afterwards, when the offset to the service's clock is found to have risen: a machine that was paused
    does not notice.
    """

    since: int
    until: int
    by: int


class Times:
    """What is known of the times of one stream: its retention, and the sessions whose clock was late.

    Attributes:
        retention: See `Retention`.
        raised: The most by which any time was raised.
        complete: All that is recorded is known.
    """

    def __init__(self) -> None:
        self.retention = Retention()
        self.raised = 0
        self.complete = False
        self._late: dict[str, list[Late]] = {}

    def add_late(self, session: str, late: Late) -> None:
        """Take in that a session's clock was late."""
        known = self._late.setdefault(session, [])
        if late not in known:
            known.append(late)
            self.raised = max(self.raised, late.by)

    def delivered(self, session: str, at: int) -> int:
        """Return when something was delivered at the latest, of which a session says that it was at this time."""
        if self._late:
            return at + max((one.by for one in self._late.get(session, ()) if one.since <= at < one.until), default=0)
        return at


class Marks:
    """Marks of one shard of which none dominates another, in order; both parts of a mark rise.

    Args:
        limit: So many are kept; None keeps all. To forget one proves less, and never more.

    Attributes:
        thinned: Some were forgotten.
    """

    def __init__(self, limit: int | None = KEPT) -> None:
        self._limit = limit
        self._positions: list[Position] = []
        self._untils: list[int] = []
        self.thinned = False

    def __len__(self) -> int:
        return len(self._untils)

    def __iter__(self) -> Iterator[tuple[Position, int]]:
        return iter(zip(self._positions, self._untils, strict=True))

    def add(self, position: Position, until: int) -> None:
        """Take in a mark."""
        positions, untils = self._positions, self._untils
        if not untils or (position > positions[-1] and until > untils[-1]):  # what comes in the stream's order
            positions.append(position)
            untils.append(until)
        else:
            at = bisect_right(positions, position)
            if at and untils[at - 1] >= until:
                return
            begin = at - 1 if at and positions[at - 1] == position else at
            end = bisect_right(untils, until, begin)
            positions[begin:end] = [position]
            untils[begin:end] = [until]
        if self._limit is not None and len(untils) > self._limit:
            self.thinned = True
            del positions[1 : self._limit // 2 : 2], untils[1 : self._limit // 2 : 2]

    def until(self, position: Position) -> int:
        """Return the latest time by which all that had arrived is not past a position; -1 if none is known."""
        positions = self._positions
        if not positions:
            return -1
        if position >= positions[-1]:  # what comes in the stream's order
            return self._untils[-1]
        at = bisect_right(positions, position)
        return self._untils[at - 1] if at else -1


class _Run:
    """Readings of one place that hang together: if the first one is good, all are; if not, none is."""

    __slots__ = ("last", "position", "since", "until")

    def __init__(self, position: Position, since: int, until: int) -> None:
        self.position = position
        self.since = self.last = since
        self.until = until


class Unread(NamedTuple):
    """What of a link may never have been read: what arrived between these times; -1 where that is not known."""

    begin: int
    end: int


class Horizon:
    """The marks of one shard, taken in in any order, and the links that they are to prove.

    A link that no mark makes good yet may be made so by one that comes later: `settle` says when all have come.

    Args:
        times: What is known of the stream.
        limit: See `Marks`.
        places: Positions of which the best mark of all is to be known, whatever is forgotten: where a first look, which
            forgot some, left links that are not good.

    Attributes:
        opened: The last time at which the shard is known to have been open; -1 if none is.
        need: The longest time for which a link that is good had to rely on the retention.
    """

    def __init__(self, times: Times, limit: int | None = KEPT, places: Iterable[Position] = ()) -> None:
        self._times = times
        self._marks = Marks(limit)
        self._places = sorted(set(places))
        self._best = Marks(None)
        self._runs: list[_Run] = []
        self.opened = -1
        self.need = 0

    @property
    def thinned(self) -> bool:
        """Whether marks were forgotten: what is not good now may be so if all of them are looked at once more."""
        return self._marks.thinned

    def arrived(self, position: Position, arrival: int) -> None:
        """Take in a record that was delivered, by its arrival; -1 if that is not known."""
        if arrival >= 0:
            if arrival > self.opened:
                self.opened = arrival
            self.mark(position, arrival - MARGIN_MS)

    def mark(self, position: Position, until: int) -> None:
        """Take in a mark that counts."""
        self._marks.add(position, until)
        if self._places:
            at = bisect_left(self._places, position)
            if at < len(self._places):
                self._best.add(self._places[at], until)

    def reading(self, position: Position, until: int, at: int) -> bool:
        """Take in that at `at` all was delivered that arrived by `until` and was there; return whether it counts."""
        if self.is_good(position, at):
            self.mark(position, until)
            return True
        last = self._runs[-1] if self._runs else None
        if last is not None and last.position == position and at >= last.last and self._reaches(last.until, at):
            last.last, last.until = at, max(last.until, until)
        else:
            self._runs.append(_Run(position, at, until))
        return False

    def marks(self) -> list[tuple[Position, int]]:
        """Return the marks that are kept."""
        return list(self._marks)

    def until(self, position: Position) -> int:
        """Return until when all that had arrived is known not to be past a position; -1 if nothing is known."""
        until = self._marks.until(position)
        return max(until, self._best.until(position)) if self._places else until

    def is_good(self, position: Position, at: int) -> bool:
        """Return whether a link from a position, delivered at `at` (-1: not known), is proven by what is known now."""
        return self._reaches(self.until(position), at)

    def _reaches(self, until: int, at: int) -> bool:
        if until < 0 or at < 0:
            return False
        needed = at - until
        retention = self._times.retention
        if needed > retention.least_ever and needed > retention.least(until, at):
            return False
        if needed > self.need:
            self.need = needed
        return True

    def unread(self, position: Position, at: int) -> Unread:
        """Return what may never have been read of a link that is not good."""
        until = self.until(position)
        return Unread(until, -1 if at < 0 else at - self._times.retention.least(until, at))

    def asked(self) -> list[Position]:
        """Return the positions of the readings that do not count yet."""
        return [run.position for run in self._runs]

    def settle(self) -> list[tuple[Position, int]]:
        """Take in that all has come, and count the readings that are good; return place and time of those that are not.

        A reading can rest on another one that was made no later: if it rests on a later one, then also on what that
        one rests on. So they are looked at in the order of time.
        """
        left = []
        for run in sorted(self._runs, key=lambda one: one.since):
            if self.is_good(run.position, run.since):
                self.mark(run.position, run.until)
            else:
                left.append(run)
        self._runs = left
        return [(run.position, at) for run in left for at in sorted({run.since, run.last})]
