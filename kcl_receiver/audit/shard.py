"""One shard while a store is verified: what its ranges prove, and how many records count, taken in one at a time.

The rule: what is kept of a range that is as it should be is a merged stretch, and never the range. Only ranges of which
something is amiss are kept themselves, until all others were seen: those that no good block may hold, and those that
reach so far back that it is not known any more what lay there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from kcl_receiver.audit.report import (
    EXPIRED,
    GAP,
    LOST,
    NOTHING,
    OVERLAP,
    POSSIBLY_TRIMMED,
    PROVEN,
    ExpiredStretch,
    Lost,
    ShardReport,
    StretchKind,
)
from kcl_receiver.audit.timeline import Stretches, draw
from kcl_receiver.horizon import Times, place
from kcl_receiver.proof.coverage import Coverage, Gap, Segments, Span, SpanSet, Taken, covered_from, span_of
from kcl_receiver.proof.links import Cover
from kcl_receiver.ranges import Position, Range, StreamIdentity
from kcl_receiver.store.ledger.entries import SessionStarted, ShardEnded


class Wanted(NamedTuple):
    """A range of a block that is not there or not whole, and that others may hold.

    `replaced` says that the block need not be there, and only its range be held.
    """

    range: Range
    block: str
    replaced: bool


@dataclass(slots=True)
class _Removed:
    """What was removed under one limit."""

    segments: Segments
    since: int


class Shard:
    """See the module.

    Args:
        stream: Its stream.
        shard: Its id.
        times: See `Cover`.

    Attributes:
        times: See above.
        cover: What all its ranges prove, those of blocks that are gone included.
        parents: Ids of its parents.
        ended: The entry that says that it was read to its end.
        records: Number of records that good blocks hold, each counted once.
        stored: The same, counted as often as they are stored.
        blocks: Number of good blocks.
        wanted: Ranges that good blocks may hold or not.
        deferred: Ranges of good blocks, and the block, that are not in `records` yet: `recount` is to say.
        uncounted: See `ShardReport.uncounted_ranges` and `ShardReport.uncounted_records`.
    """

    def __init__(self, stream: StreamIdentity, shard: str, times: Times) -> None:
        self.stream = stream
        self.shard = shard
        self.times = times
        self.cover = Cover(times)
        self.parents: set[str] = set()
        self.ended: ShardEnded | None = None
        self.records = 0
        self.stored = 0
        self.blocks = 0
        self.wanted: list[Wanted] = []
        self.deferred: list[tuple[Range, str]] = []
        self.uncounted = (0, 0)
        self._last_block = ""
        self._first: tuple[Position, int] | None = None
        self._last: tuple[Position, int] | None = None
        self._taken = Taken()
        self._removed: dict[int, _Removed] = {}
        self._once = Stretches()
        self._twice = Stretches()
        self._held = SpanSet()
        self._again = SpanSet()

    # What comes first

    def add_session(self, one: SessionStarted) -> None:
        """Take in a session."""
        self.cover.add_session(one)
        self.parents.update(one.parents)

    def add_end(self, one: ShardEnded) -> None:
        """Take in that it was read to its end; several sessions may have been, and the furthest one tells."""
        if self.ended is None or place(one.last) >= place(self.ended.last):
            self.ended = one
        self.cover.add_end(one)

    def add_good(self, one: Range, block: str) -> list[Span]:
        """Take in a range of a good block.

        Returns:
            Which parts of it nothing held before, if it is a part only; then `count` is to be told how many records
            these are. Else nothing.
        """
        self.cover.add_range(one)
        self.stored += one.count
        if block != self._last_block:  # the ranges of a block come one behind another
            self._last_block = block
            self.blocks += 1
        if self._first is None or one.first < self._first[0]:
            self._first = one.first, one.arrival_first
        if self._last is None or one.last > self._last[0]:
            self._last = one.last, one.arrival_last
        if self._taken.take_next(one.first, one.last):
            self.count(one, one.count)
            return []
        parts = self._taken.take(one.first, one.last)
        if parts is None:
            self.deferred.append((one, block))
        elif parts == [span_of(one)]:
            self.count(one, one.count)
        elif parts:
            return parts
        else:
            self.count(one, 0)
        return []

    def count(self, one: Range, records: int) -> None:
        """Take in how many records of a range count."""
        self.records += records
        if records == one.count:
            self._once.add(one.arrival_first, one.arrival_last, records)
        else:
            self._twice.add(one.arrival_first, one.arrival_last, one.count)

    def leave_uncounted(self, one: Range) -> None:
        """Take in that it is not known how many records of a range count."""
        self.uncounted = self.uncounted[0] + 1, self.uncounted[1] + one.count
        self.count(one, 0)

    def add_bad(self, one: Range, block: str, *, replaced: bool) -> None:
        """Take in a range that other blocks may hold or not."""
        self.cover.add_range(one)
        self.wanted.append(Wanted(one, block, replaced))

    def add_held(self, one: Range) -> None:
        """Take in a range of a replaced block that is known to be held by another one."""
        self.cover.add_range(one)

    def add_expired(self, one: Range, before: int, since: int) -> None:
        """Take in a range that was removed on purpose."""
        self.cover.add_range(one)
        removed = self._removed.get(before)
        if removed is None:
            removed = self._removed[before] = _Removed(Segments(), since)
        elif 0 <= since < removed.since:
            removed.since = since
        removed.segments.add(covered_from(one), one)

    # What comes when all was seen once

    @property
    def settled(self) -> bool:
        """Whether nothing is left to be looked for among all ranges."""
        return not self.wanted and not self.deferred and not self.cover.asked()

    def look_for(self) -> None:
        """Begin to look for what is wanted, and for what lies where deferred ranges lie."""
        self.cover.look_again()
        self._wanted_spans = SpanSet(span_of(one.range) for one in self.wanted)
        self._deferred_spans = SpanSet(span_of(one) for one, _ in self.deferred)
        self._deferred_keys = {(one.first, one.last, block) for one, block in self.deferred}

    def see_good(self, one: Range, block: str) -> None:
        """Take in a range of a good block for the second time."""
        span = span_of(one)
        for part in self._wanted_spans.common(span):
            self._held.add(part)
        if self.deferred and (one.first, one.last, block) not in self._deferred_keys:
            for part in self._deferred_spans.common(span):
                self._again.add(part)

    def see_expired(self, one: Range) -> None:
        """Take in a range that was removed on purpose for the second time."""
        for part in self._wanted_spans.common(span_of(one)):
            self._held.add(part)

    def recount(self) -> Iterator[tuple[Range, str, list[Span]]]:
        """Count the deferred ranges, and yield each of which only parts count, as `add_good` does."""
        for one, block in self.deferred:
            span = span_of(one)
            parts = self._again.missing(span)
            self._again.add(span)
            if not parts or parts == [span]:
                self.count(one, one.count if parts else 0)
            else:
                yield one, block, parts

    def is_held(self, one: Range) -> bool:
        """Return whether good blocks hold all of a range that was wanted."""
        return not self._held.missing(span_of(one))

    # The end

    def lost(self) -> tuple[Lost, ...]:
        """Return what is lost, each record named once."""
        held = SpanSet(self._held.spans())
        out: list[Lost] = []
        for one, block, _ in sorted(
            self.wanted, key=lambda one: (one.replaced, one.range.first, one.range.last, one.block)
        ):
            span = span_of(one)
            parts = held.missing(span)
            whole = one.count if parts == [span] else None
            out.extend(Lost(block, part, whole, one.arrival_first, one.arrival_last) for part in parts)
            held.add(span)
        return tuple(sorted(out, key=lambda one: (one.span, one.block)))

    def expired(self) -> tuple[ExpiredStretch, ...]:
        """Return what was removed on purpose, in the order of the stream."""
        out = []
        for before, removed in self._removed.items():
            found = removed.segments
            for at, (first, high) in enumerate(zip(found.firsts, found.highs, strict=True)):
                times = found.begins[at], found.ends[at], before, removed.since
                out.append(ExpiredStretch(first, high, found.records[at], *times))
        return tuple(sorted(out, key=lambda one: (one.first, one.last, one.before)))

    def report(self, child: str | None, opened: int | None = None) -> ShardReport:
        """Return what is found.

        Args:
            child: Id of a shard whose parent this one is, or None if there is none.
            opened: See `kcl_receiver.horizon.begun`.
        """
        coverage = self.cover.coverage(None if self.ended is None else self.ended.last, opened)
        gaps = coverage.gaps
        if self.ended is None and child is not None:
            gaps = (*gaps, _end_not_recorded(coverage, child, -1 if self._last is None else self._last[1]))
        lost, expired = self.lost(), self.expired()
        state: str = PROVEN
        if not self.stored:
            # A shard that was read to its end, and had no record, is proven.
            state = EXPIRED if expired else PROVEN if self.ended is not None else NOTHING
        for found, word in ((coverage.possibly_trimmed, POSSIBLY_TRIMMED), (gaps, GAP), (lost, LOST)):  # the worst last
            state = word if found else state
        return ShardReport(
            stream=self.stream,
            shard=self.shard,
            state=state,
            records=self.records,
            duplicates=self.stored - self.records,
            blocks=self.blocks,
            first=None if self._first is None else self._first[0],
            last=None if self._last is None else self._last[0],
            arrival_first=-1 if self._first is None else self._first[1],
            arrival_last=-1 if self._last is None else self._last[1],
            ended=self.ended is not None,
            gaps=gaps,
            possibly_trimmed=coverage.possibly_trimmed,
            lost=lost,
            spans=coverage.segments,
            expired=expired,
            timeline=draw(self._once.get(), self._over(gaps, coverage.possibly_trimmed, lost, expired)),
            uncounted_ranges=self.uncounted[0],
            uncounted_records=self.uncounted[1],
        )

    def _over(
        self, gaps: Iterable[Gap], trimmed: Iterable[Gap], lost: Iterable[Lost], expired: Iterable[ExpiredStretch]
    ) -> Iterator[tuple[StretchKind, int, int, int]]:
        for begin, end, records in self._twice.get():
            yield OVERLAP, begin, end, records
        for one in expired:
            yield EXPIRED, one.begin_ms, one.end_ms, one.records
        gone = Stretches()
        for missed in lost:
            gone.add(missed.begin_ms, missed.end_ms, missed.count or 0)
        for begin, end, records in gone.get():
            yield LOST, begin, end, records
        for gap in gaps:
            yield GAP, gap.begin_ms, gap.end_ms, 0
        for gap in trimmed:
            yield POSSIBLY_TRIMMED, gap.begin_ms, gap.end_ms, 0


def _end_not_recorded(coverage: Coverage, child: str, last_ms: int) -> Gap:
    """KCL begins a child only after its parents' end was checkpointed, which is done only once it is recorded here."""
    last = coverage.segments[-1].high.position if coverage.segments else None
    return Gap(last, None, None, f"its child {child} was read, and its own end is not recorded", last_ms)
