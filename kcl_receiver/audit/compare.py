"""Compares one shard of the stream, record by record, with the ranges that the ledger records of it. No calls here.

Both come in the order of the stream, and neither is kept: memory holds the ranges that the record at hand lies in, and
what was found. Nothing is said of what the stream has trimmed: of links that begin before the first record that it
still holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from kcl_receiver.audit.stream_audit import (
    LISTED,
    Answer,
    Differing,
    End,
    Found,
    Hole,
    Kind,
    Known,
    LeftOut,
    Question,
    Settled,
)
from kcl_receiver.kinesis.deaggregate import deaggregate
from kcl_receiver.kinesis.rebuild import KinesisRecord
from kcl_receiver.ranges import TRIM_HORIZON, Position


@dataclass(slots=True)
class _Open:
    """A range that reading has begun, or that begins next.

    `whole` tells whether the stream held all of it when reading reached it. `delivered` counts what KCL delivers now,
    `undropped` what it delivers where it cannot look the shard up; `dropped` are the aggregates that make the
    difference.
    """

    known: Known
    whole: bool
    delivered: int = 0
    undropped: int = 0
    dropped: list[LeftOut] = field(default_factory=list)


class Comparison:
    """One shard, from the first record that is read to the last.

    Args:
        question: What is asked.
    """

    def __init__(self, question: Question) -> None:
        self.answer = Answer(question.shard)
        self._asked = question
        self._known: Iterator[Known] = iter(question.known)
        self._next: Known | None = next(self._known, None)
        self._open: list[_Open] = []
        self._reached: Position | None = None
        """The last position that any range holds, of those that begin before the record at hand."""
        self._from: int | None = None
        """The stream is known to hold everything from this sequence number on, up to the record at hand."""
        self._is_whole = False
        """The shard was read to its end."""
        self._current: Found | None = None
        self._in_holes = [0] * len(question.holes)
        self._holes_ahead = sorted(
            ((hole, at) for at, hole in enumerate(question.holes)), key=lambda one: one[0].after or _BEFORE_ALL
        )
        self._lost_ahead = sorted(question.lost, reverse=True)
        """Those that were not passed yet; the last one is the next."""
        self._settled: dict[int, Settled] = {}
        """What is certain of holes that were passed before reading was interrupted."""

    @property
    def is_enough(self) -> bool:
        """Whether nothing can come any more that matters: all that is stored is passed, and the shard is open."""
        last = self.answer.last
        if self._asked.ended or self._next is not None or last is None:
            return False
        beyond = [self._reached, *(one.through for one in self._asked.holes)]
        return all(one is None or one.sequence_number < last for one in beyond)

    def resumed(self, sequence: int) -> None:
        """Reading goes on at this record, and what lies between it and the last one may have been trimmed."""
        for at in range(len(self._in_holes)):
            if at not in self._settled and self._settle(at, End.BROKEN_OFF) is Settled.NOTHING:
                self._settled[at] = Settled.NOTHING
        for one in self._open:
            one.whole = False
        self._current = None
        self._from = sequence

    def record(self, record: KinesisRecord) -> None:
        """Take the next record of the shard."""
        sequence = record.sequence
        answer = self.answer
        if answer.first is None:
            answer.first = sequence
        if self._from is None:
            self._from = sequence
        answer.last = sequence
        users = deaggregate(record.key, record.data, self._asked.hash_range)
        count = len(users.keys)
        undropped = len(deaggregate(record.key, record.data).keys) if users.dropped else count
        answer.kinesis_records += 1
        answer.records += count
        self._advance(sequence)
        uncovered = self._cover(sequence, count, undropped)
        if users.left_out:
            left_out = LeftOut(users.dropped, sequence, users.left_out, record.arrival)
            if users.dropped and self._open:  # the range's own count tells whether KCL dropped it
                self._open[0].dropped.append(left_out)
            else:
                self._count_left_out(left_out)
        if uncovered:
            for first, last in _runs(uncovered):
                self._missing(record, Position(sequence, first), Position(sequence, last), last - first + 1)
        elif self._is_lost(sequence, count):
            self._add(Kind.LOST, record, Position(sequence, 0), Position(sequence, count - 1), count)
        elif count:
            self._current = None

    def finish(self, end: End) -> Answer:
        """Take the end, and return the answer."""
        answer = self.answer
        answer.end = end
        self._is_whole = end is End.SHARD_END
        if end in (End.SHARD_END, End.TIP, End.GONE):
            # Nothing more will come: what is left of the ranges lies behind us, or is trimmed.
            while self._next is not None:
                self._pull()
        # Only the end of a closed shard is certain: at a mere tip, more of a range may follow.
        through = None if end is End.SHARD_END else -1 if answer.last is None else answer.last
        self._close_open(judge=end is not End.BROKEN_OFF, through=through)
        answer.left_out.sort(key=lambda one: one.sequence)  # those in ranges came when their range was closed
        answer.holes = [
            (hole, self._settled.get(at) or self._settle(at, end)) for at, hole in enumerate(self._asked.holes)
        ]
        return answer

    def _advance(self, sequence: int) -> None:
        """Leave those ranges open that begin at or before a record and do not end before it."""
        while self._next is not None and self._next.first.sequence_number <= sequence:
            self._pull()
            if len(self._open) > 1:
                self._close_open(judge=True, before=sequence)
        if self._open:
            self._close_open(judge=True, before=sequence)

    def _pull(self) -> None:
        known = self._next
        if known is None:
            return
        self._next = next(self._known, None)
        if self._reached is not None and known.first > self._reached:
            was_read = self._is_whole or known.first.sequence_number <= (self.answer.last or 0)
            if was_read and self._is_held(self._reached):
                self.answer.links += 1
            else:
                self.answer.links_unasked += 1
        self._open.append(_Open(known, self._is_held(known.first)))
        self._reached = known.last if self._reached is None else max(self._reached, known.last)

    def _is_held(self, position: Position) -> bool:
        """Return whether the stream holds everything from a position to the record at hand."""
        return self._from is not None and self._from <= position.sequence_number

    def _close_open(self, *, judge: bool, before: int | None = None, through: int | None = None) -> None:
        """Take ranges out that are passed, and compare their counts.

        Args:
            judge: Compare; else they count as trimmed.
            before: Only those that end before this sequence number.
            through: Only those that do not end after this one are compared, if it is given.
        """
        left: list[_Open] = []
        for one in self._open:
            known = one.known
            if before is not None and known.last.sequence_number >= before:
                left.append(one)
                continue
            judged = judge and one.whole and (through is None or known.last.sequence_number <= through)
            if not judged or known.records != one.undropped or one.delivered == one.undropped:
                for left_out in one.dropped:
                    self._count_left_out(left_out)
            if not judged:
                self.answer.ranges_unasked += 1
                continue
            self.answer.ranges += 1
            if known.records not in (one.delivered, one.undropped):
                self.answer.ranges_differing += 1
                if len(self.answer.differing) < LISTED:
                    self.answer.differing.append(Differing(known.first, known.last, known.records, one.delivered))
        self._open = left

    def _count_left_out(self, one: LeftOut) -> None:
        answer = self.answer
        if one.dropped:
            answer.dropped += 1
            answer.dropped_records += one.records
        else:
            answer.broken += 1
            answer.broken_records += one.records
        if len(answer.left_out) < LISTED:
            answer.left_out.append(one)

    def _cover(self, sequence: int, count: int, undropped: int) -> Sequence[int]:
        """Count a record for the ranges that it lies in; return which of its user records lie in none."""
        uncovered: Sequence[int] = range(count)
        for one in self._open:
            first, last, _ = one.known
            low = first.sub_sequence_number if first.sequence_number == sequence else 0
            high = last.sub_sequence_number + 1 if last.sequence_number == sequence else max(count, undropped)
            one.delivered += max(0, min(high, count) - low)
            one.undropped += max(0, min(high, undropped) - low)
            uncovered = () if low == 0 and high >= count else [sub for sub in uncovered if not low <= sub < high]
        return uncovered

    def _missing(self, record: KinesisRecord, first: Position, last: Position, count: int) -> None:
        kind = self._kind(first)
        passed = 0
        for hole, at in self._holes_ahead:
            passed += _is_passed(hole, first)
            if hole.after is not None and hole.after >= last:
                break
            if hole.holds(first) or hole.holds(last):
                self._in_holes[at] += count
                if hole.what == "gap":
                    kind = Kind.IN_GAP
        if passed:
            self._holes_ahead = [one for one in self._holes_ahead if not _is_passed(one[0], first)]
        self._add(kind, record, first, last, count)

    def _kind(self, position: Position) -> Kind:
        if self._reached is not None or self._asked.begun_before:
            is_between = self._next is not None or (self._reached is not None and self._reached > position)
            return Kind.SKIPPED if is_between or self._asked.ended else Kind.LATER
        if self._next is None and not self._asked.ended:
            return Kind.LATER
        begins = self._asked.begins
        if begins == TRIM_HORIZON or (isinstance(begins, Position) and position > begins):
            return Kind.SKIPPED
        return Kind.EARLIER

    def _is_lost(self, sequence: int, count: int) -> bool:
        if not self._lost_ahead or not count:
            return False
        low, high = (Position(sequence, 0), 0), (Position(sequence, count - 1), 1)
        while self._lost_ahead and self._lost_ahead[-1][1] <= low:
            self._lost_ahead.pop()
        return bool(self._lost_ahead) and self._lost_ahead[-1][0] < high

    def _add(self, kind: Kind, record: KinesisRecord, first: Position, last: Position, count: int) -> None:
        self.answer.totals[kind] = self.answer.totals.get(kind, 0) + count
        current = self._current
        if current is not None and current.kind is kind:
            current.kinesis_records += current.last.sequence_number != record.sequence
            current.last, current.arrival_last = last, record.arrival
            current.records += count
            return
        self._current = Found(kind, first, last, 1, count, record.arrival, record.arrival)
        if kind not in (Kind.LATER, Kind.EARLIER) and len(self.answer.found) < LISTED:
            self.answer.found.append(self._current)

    def _settle(self, at: int, end: End) -> Settled:
        hole, last = self._asked.holes[at], self.answer.last
        if self._in_holes[at]:
            return Settled.RECORDS
        if end is End.GONE:
            return Settled.TRIMMED
        if last is not None and (hole.after is None or not self._is_held(hole.after)):
            return Settled.TRIMMED
        if last is None:
            return Settled.UNREAD if end is End.BROKEN_OFF else Settled.TRIMMED
        goal = hole.before or hole.through
        if end is End.SHARD_END or (goal is None and end is not End.BROKEN_OFF):
            return Settled.NOTHING
        return Settled.NOTHING if goal is not None and goal.sequence_number <= last else Settled.UNREAD


_BEFORE_ALL = Position(-1)


def _is_passed(hole: Hole, position: Position) -> bool:
    """Return whether a hole ends before a position."""
    end = hole.before if hole.before is not None else hole.through
    return end is not None and end < position


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and the last of each run of neighbours in numbers that rise."""
    first = last = numbers[0]
    for number in numbers[1:]:
        if number != last + 1:
            yield first, last
            first = number
        last = number
    yield first, last
