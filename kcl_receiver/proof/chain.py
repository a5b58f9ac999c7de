"""Which records of one shard come next: a state machine that follows the chain of ranges.

It is told of ranges in the order of the ledger, which is not that of the shard: blocks finish out of order, and a
session that began again delivers once more what another had delivered. It gives back parts of ranges in the order of
positions, each position once. The rule: nothing is given past a place of which it is not proven that everything before
it was given, unless that place was given up as a hole and said so.

What a range proves is said in `coverage`: one that follows a position covers everything from there, one that follows a
starting point no more than itself. So the *frontier*, before which all was given, moves only along ranges that meet it.
The first range of all may begin at a starting point. Everything else waits in a heap of packed references.

A hole is final once it is known that nothing can come to fill it. A checkpoint is made only when everything up to it
is in the ledger. So a session that began at a checkpoint past the frontier, or a shard that ended there, finds all
that will ever be there in what came before it. A range across whose link the shard was not read within the stream's
retention, as far as marks are known that were recorded before it, leaves a hole that is final from the start.
Otherwise someone else must say so: `finish` at the end of all that is known, `give_up` at the end of patience.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from kcl_receiver.horizon import HOUR_MS, START, Horizon, ShardMark, Times, begun, place
from kcl_receiver.proof.coverage import Cut, Span, SpanSet
from kcl_receiver.proof.packing import (
    AGAIN,
    AGAIN_TRIMMED,
    STARTS,
    TIMED,
    Ref,
    at_first,
    flags_at,
    flags_of,
    low_of,
    pack,
    pack_near,
    packed_low,
    unpack_ref,
)
from kcl_receiver.ranges import LATEST, After, Position, Range
from kcl_receiver.store.ledger.entries import SessionStarted

GAP = "gap"
POSSIBLY_TRIMMED = "possibly trimmed"
LATE = "late"

LOWEST = Cut(Position(-1, 0), 1)
"""Before all positions."""

WHY_SESSION = "a later session began past it"
WHY_ENDED = "the shard ended past it"
WHY_KNOWN = "nothing that fills it is in the ledger"
WHY_LIMIT = "nothing that fills it came in time"
WHY_TRIMMED = "not read within the stream's retention"
WHY_AGAIN = "an earlier session had begun to read, and this one began at another place"
WHY_LATE = "they were stored after later ones had been read"


class Part(NamedTuple):
    """The part of a range that comes next: its records in the span."""

    ref: Ref
    span: Span


class Hole(NamedTuple):
    """A stretch of which nothing was given, and that is passed now.

    Attributes:
        kind: `GAP`, `POSSIBLY_TRIMMED`, or `LATE`: there are records, and it is too late to give them in order.
        after: The last position before it that was given, or None if nothing was.
        through: The last position in it that is known to have been reached, or None.
        next: The range that comes after it, or None if none is known; of `LATE`, the range itself.
        why: How it is known.
        time: Before when its records had arrived, milliseconds since the epoch; None if that is not known.
    """

    kind: str
    after: Position | None
    through: Position | None
    next: Ref | None
    why: str
    time: int | None = None


class _Reached(NamedTuple):
    cut: Cut
    why: str
    time: int | None


class Chain:
    """See the module.

    Args:
        dropped: Called with the source of each range that was kept and is not needed any more.
        start: Where to begin: before the position to begin with, or after the last one that was read before.
        begun: Reading goes on after `start`: what follows is linked to it, or a hole.
        adopt: Begin with whatever range or session is known first, and call nothing before it a hole.
        times: What is known of the stream's retention, and of clocks that were late.
    """

    def __init__(
        self,
        dropped: Callable[[int], None],
        start: Cut = LOWEST,
        *,
        begun: bool = False,
        adopt: bool = False,
        times: Times | None = None,
    ) -> None:
        self._dropped = dropped
        self._adopt = adopt and not begun
        self._begun = begun
        self._frontier = start
        self._packed: bytes | None = None  # made of the frontier when it is asked for
        self._passed: list[Span] = []
        self._since = LOWEST
        self._heap: list[bytes] = []
        self._out: deque[Hole] = deque()
        self._reached: _Reached | None = None
        self._unread: Cut | None = None
        self._known = False
        self._times = times or Times()
        self._horizon = Horizon(self._times)
        self._first: SessionStarted | None = None
        self._starts: dict[str, int] = {}

    @property
    def frontier(self) -> Cut:
        """Everything before it was given, or given up."""
        return self._frontier

    @property
    def waiting(self) -> int:
        """Number of ranges that wait for what comes before them."""
        return len(self._heap)

    def add(self, source: int, index: int, one: Range, *, replaced: bool = False) -> bool:
        """Take in that a range is known. Return whether it is kept; otherwise all of it has been passed.

        Args:
            source: Number of its block, below 2**48.
            index: Its number in the block, below 2**32.
            one: The range.
            replaced: Its block was replaced: a range that is the same goes before it.
        """
        first, high = Cut(one.first, 0), Cut(one.last, 1)
        self._horizon.arrived(one.last, one.arrival_last)
        if first < self._frontier and not replaced:
            self._judge_late(source, index, Span(first, min(high, self._frontier)))
        if high <= self._frontier:
            self._begun = True
            return False
        flags, low = 0, first
        if not isinstance(one.after, Position):
            flags = STARTS | (0 if self._begun else self._judge_start(one))
        elif one.after < one.first:
            low = Cut(one.after, 1)
            if one.delivered >= 0:
                flags = TIMED
        packed = pack(low)
        ref = b"".join(
            (
                packed,
                b"\1" if replaced else b"\0",
                pack(high),
                source.to_bytes(6, "big"),
                index.to_bytes(4, "big"),
                bytes((flags,)),
                self._times.delivered(one.session, one.delivered).to_bytes(6, "big") if flags & TIMED else b"",
                pack_near(first, packed) if low.side else b"",
            )
        )
        heapq.heappush(self._heap, ref)
        return True

    def follow(self, one: Range) -> bool:
        """Take in a range if it is exactly what comes next, and return whether it is; if not, nothing was done.

        Nearly all ranges are. `add` and `next` would give all of such a range, and with this it is given.
        """
        frontier, after = self._frontier, one.after
        if self._heap or self._out or not self._begun or not isinstance(after, Position) or not frontier.side:
            return False
        if not after <= frontier.position < one.first:
            return False
        if self._reached is not None and frontier < self._reached.cut:
            return False
        if one.delivered >= 0 and not self._is_proven(after, self._times.delivered(one.session, one.delivered)):
            return False
        self._horizon.arrived(one.last, one.arrival_last)
        self._move(Cut(one.last, 1))
        return True

    def session(self, entry: SessionStarted) -> None:
        """Take in that a session began."""
        if isinstance(entry.after, Position):
            self._reach(_Reached(Cut(entry.after, 1), WHY_SESSION, entry.time))
        elif not self._begun:
            self._starts[entry.session] = entry.time
            if self._first is None:
                self._first = entry
                if not entry.parents and entry.hash_range is not None and entry.retention_hours:
                    until = begun(entry.after, entry.time, entry.retention_hours, entry.begins, None)
                    self._horizon.mark(START, until)

    def mark(self, one: ShardMark, time: int) -> None:
        """Take in what was recorded, at a time, of how far the shard was read."""
        if one.until >= 0:
            self._horizon.reading(place(one.position), one.until, self._times.delivered(one.session, time))

    def _is_doubtful(self, ref: bytes) -> bool:
        """Return whether what is known says that a link was not read in time.

        To be asked when all before the link was given: earlier, the marks that it rests on may not be known. Where
        reading begins within the ledger, what came before is not known, and nothing is said: `verify` proves it.
        """
        flags = flags_at(ref)
        if not ref[flags] & TIMED:
            return False
        after, at = low_of(ref).position, int.from_bytes(ref[flags + 1 : flags + 7], "big")
        if self._is_proven(after, at):
            return False
        self._horizon.settle()  # a reading may have been recorded before the range that it rests on
        return not self._horizon.is_good(after, at)

    def _is_proven(self, after: Position, at: int) -> bool:
        """Return whether nothing that is known says that a link from a position, delivered at `at`, was read late."""
        return self._horizon.is_good(after, at) or self._horizon.until(after) < 0

    def ended(self, last: After, time: int) -> None:
        """Take in that the shard was read to its end."""
        if isinstance(last, Position):
            self._reach(_Reached(Cut(last, 1), WHY_ENDED, time))

    def give_up(self) -> None:
        """Wait no longer for what comes before the first range that waits."""
        if self._heap:
            self._reach(_Reached(low_of(self._heap[0]), WHY_LIMIT, None))

    def finish(self) -> None:
        """Take in that everything recorded is known now."""
        self._known = True

    def next(self) -> Part | Hole | None:
        """Return what comes next, or None if it is not known yet."""
        while True:
            if self._out:
                return self._out.popleft()
            if self._heap and self._is_next(self._heap[0]):
                found = self._take(self._heap[0])
                if found is not None:
                    return found
            elif (hole := self._final_hole()) is not None:
                if hole.kind:
                    return hole
            else:
                return None

    def _is_next(self, ref: bytes) -> bool:
        if self._packed is None:
            self._packed = pack(self._frontier)
        return packed_low(ref) <= self._packed or (not self._begun and (self._adopt or flags_of(ref) & STARTS > 0))

    def _take(self, ref: bytes) -> Part | Hole | None:
        """Take the first range that waits; None if there is nothing to give of it."""
        _, high, where, flags, first = unpack_ref(ref)
        if not self._begun:
            low = low_of(ref)
            if low > self._frontier:
                if flags & (AGAIN | AGAIN_TRIMMED) and not self._adopt:
                    kind = GAP if flags & AGAIN else POSSIBLY_TRIMMED
                    self._out.append(Hole(kind, None, None, where, WHY_AGAIN))
                (self._move if self._adopt else self._jump)(low)
            self._begun = True
            self._starts.clear()
            if self._out:
                return self._out.popleft()
        heapq.heappop(self._heap)
        if self._frontier < first and (self._is_doubtful(ref) or self._holds_within(first)):
            # Whatever comes before the link is given, so that what may still fill it is in the heap: it goes first.
            heapq.heappush(self._heap, at_first(ref, first))
            self._unread = first
            return None
        if high <= self._frontier:
            self._dropped(where.source)
            return None
        part = Part(where, Span(self._frontier, high))
        self._move(high)
        return part

    def _holds_within(self, first: Cut) -> bool:
        """Return whether something that was stored begins within a link: then no link proves that nothing was there."""
        end, heap = pack(first), self._heap
        places = [0]
        while places:
            at = places.pop()
            if at < len(heap) and packed_low(heap[at]) < end:
                if self._frontier < unpack_ref(heap[at])[4] < first:
                    return True
                places += 2 * at + 1, 2 * at + 2  # a heap: nothing below one that begins later begins earlier
        return False

    def _final_hole(self) -> Hole | None:
        """Pass a hole if there is one and it is final. One without a kind is passed in silence."""
        reached, kind = self._reached, GAP
        low = low_of(self._heap[0]) if self._heap else None
        unread = low is not None and self._unread is not None and low <= self._unread
        if low is not None and (unread or self._known or (reached is not None and low <= reached.cut)):
            if unread:
                kind, why, time = POSSIBLY_TRIMMED, WHY_TRIMMED, None
            else:
                why, time = (WHY_KNOWN, None) if reached is None or low > reached.cut else (reached.why, reached.time)
            to, through = low, low.position if low.side else None
            where: Ref | None = unpack_ref(self._heap[0])[2]
        elif reached is not None and self._frontier < reached.cut:
            why, time = reached.why, reached.time
            to, through, where = reached.cut, reached.cut.position, None
        else:
            return None
        after = self._frontier.position if self._begun else None
        silent = self._adopt and not self._begun
        (self._move if silent else self._jump)(to)
        self._begun = True
        return Hole("" if silent else kind, after, through, where, why, time)

    def _reach(self, reached: _Reached) -> None:
        if reached.cut > self._frontier and (self._reached is None or reached.cut > self._reached.cut):
            self._reached = reached

    def _jump(self, to: Cut) -> None:
        """Move on without having given what lies between."""
        if self._since < self._frontier:
            self._passed.append(Span(self._since, self._frontier))
        self._since = to
        self._move(to)

    def _move(self, to: Cut) -> None:
        self._frontier = to
        self._packed = None

    def _judge_late(self, source: int, index: int, span: Span) -> None:
        given = SpanSet(self._passed)
        if self._since < self._frontier:
            given.add(Span(self._since, self._frontier))
        for part in given.missing(span):
            after = part.low.position if part.low.side else None
            through = part.high.position if part.high.side else None
            self._out.append(Hole(LATE, after, through, Ref(source, index), WHY_LATE))

    def _judge_start(self, one: Range) -> int:
        """Return what an earlier session shows that began at a starting point and stored nothing; see `coverage`."""
        earlier = self._first
        if earlier is None or earlier.session == one.session:
            return 0
        if one.after == LATEST:
            return AGAIN
        time = self._starts.get(one.session)
        if self._horizon.until(START) >= 0 and time is not None and self._horizon.is_good(START, time):
            return 0  # it was read to its tip meanwhile
        long_ago = time is not None and time - earlier.time > earlier.retention_hours * HOUR_MS
        return AGAIN_TRIMMED if earlier.retention_hours and long_ago else 0
