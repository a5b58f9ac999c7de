"""What verify should find, worked out the plain way: everything in memory, every row of every good block read.

`cover` is as it was before it took in ranges one at a time; what is good, wanted and held is told from the index.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from ledger_index import LedgerIndex
from store_support import ledgers_in

from kcl_receiver.errors import BlockDamaged, BlockMissing
from kcl_receiver.proof.coverage import Coverage, Cut, Gap, Span, SpanSet, span_of
from kcl_receiver.ranges import LATEST, After, Position, Range, StreamIdentity
from kcl_receiver.store.blocks.file import BlockFile, read_footer
from kcl_receiver.store.ledger.entries import MarksTaken, SessionStarted, ShardEnded, decode_ledger
from kcl_receiver.store.ledger.transaction import load_day
from kcl_receiver.store.store import Store

HOUR_MS = 3_600_000


def cover(
    ranges: Sequence[Range],
    sessions: Sequence[SessionStarted] = (),
    ended: ShardEnded | None = None,
    marks: Sequence[MarksTaken] = (),
    opened: int | None = None,
    others: Sequence[SessionStarted] = (),
    ends: Sequence[ShardEnded] = (),
) -> Coverage:
    """Return what a shard's ranges prove.

    A session that began at a checkpoint shows that the shard had been read up to there, and so does the shard's end:
    both must be covered, or the end of what was stored is lost. `others` are sessions of other shards of the stream:
    they have seen its retention. `ends` are those that were written before, where a shard was read to its end again.
    """
    times = NaiveTimes(ranges, sessions, marks, opened, others)
    linked: list[Range] = []
    doubtful: list[Range] = []
    for one in ranges:
        is_link = isinstance(one.after, Position) and one.after < one.first
        (doubtful if is_link and not times.is_good(one.after, times.delivered(one)) else linked).append(one)
    covered = SpanSet([*map(_covered_by, linked), *map(span_of, doubtful)])
    unread = SpanSet(Span(Cut(one.after, 1), Cut(one.first, 0)) for one in doubtful if isinstance(one.after, Position))
    known = [*(one.after for one in sessions), *(one.after for one in doubtful), ended.last if ended else None]
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
            trimmed.append(Gap(hole.after, None, hole.before, UNREAD))
        else:
            gaps.append(hole)
    tails = [*((one.after, one.time) for one in sessions), *times.not_good]
    for one in {*ends, *([ended] if ended else ())}:
        tails.append((one.last, times.raised(one.session, one.time)))
    end = segments[-1].high.position if segments else None
    for after, at in tails:
        if isinstance(after, Position) and (end is None or not segments[-1].holds(after)):
            continue
        if not times.is_good("TRIM_HORIZON" if end is None else end, at):
            trimmed.append(Gap(end, None, None, UNREAD))
            break
    _judge_first_start(segments, ranges, sessions, opened, times, gaps, trimmed)
    return Coverage(tuple(segments), tuple(gaps), tuple(trimmed))


class NaiveTimes:
    """Which links of a shard were read in time, by the rules as they are written down: all marks of all, until no more
    of them count."""

    def __init__(
        self,
        ranges: Sequence[Range],
        sessions: Sequence[SessionStarted],
        taken: Sequence[MarksTaken],
        opened: int | None,
        others: Sequence[SessionStarted],
    ) -> None:
        shards = {one.shard for one in (*ranges, *sessions)}
        self._late = [(session, late) for one in taken for session in one.sessions for late in one.late]
        self._retention = sorted(
            {
                *((one.measured, one.retention_hours * HOUR_MS) for one in taken if one.retention_hours),
                *((one.time, one.retention_hours * HOUR_MS) for one in (*sessions, *others) if one.retention_hours),
            }
        )
        self._marks = [(one.last, one.arrival_last - 60_000) for one in ranges if one.arrival_last >= 0]
        if (start := self.start(_starts(sessions, ranges), opened)) >= 0:
            self._marks.append((BEFORE, start))
        waiting = [
            (one.position, one.until, self.raised(one.session, entry.time))
            for entry in taken
            for one in entry.marks
            if one.shard in shards and one.until >= 0
        ]
        while True:
            good = [one for one in waiting if self.is_good(one[0], one[2])]
            if not good:
                break
            self._marks += [(_place(position), until) for position, until, _ in good]
            waiting = [one for one in waiting if one not in good]
        self.not_good = [(position, at) for position, _, at in waiting]

    @staticmethod
    def start(starts: Sequence[SessionStarted], opened: int | None) -> int:
        """Return until when all that had arrived lies before what any of them asked for."""
        if not starts or (opened is None and starts[0].hash_range is None):
            return -1
        return min(NaiveTimes.asked(one, opened) for one in starts)

    @staticmethod
    def asked(one: SessionStarted, opened: int | None) -> int:
        hours = one.retention_hours or 24
        said = one.begins if one.after == "AT_TIMESTAMP" else -1
        if opened is not None:
            return max(said, opened)
        if one.after == "AT_TIMESTAMP":
            return said
        return one.time - hours * HOUR_MS + min(hours * HOUR_MS // 100, 15 * 60_000)

    def raised(self, session: str, at: int) -> int:
        by = [late.by for one, late in self._late if one == session and late.since <= at < late.until]
        return at + max(by, default=0)

    def delivered(self, one: Range) -> int:
        return -1 if one.delivered < 0 else self.raised(one.session, one.delivered)

    def is_good(self, after: After, at: int) -> bool:
        return at >= 0 and any(
            position <= _place(after) and until >= 0 and at - until <= self._least(until, at)
            for position, until in self._marks
        )

    def _least(self, begin: int, end: int) -> int:
        if not self._retention:
            return 24 * HOUR_MS
        before = [time for time, _ in self._retention if time <= begin]
        behind = [time for time, _ in self._retention if time >= end]
        low = max(before, default=self._retention[0][0])
        high = min(behind, default=self._retention[-1][0])
        return min(hours for time, hours in self._retention if min(low, high) <= time <= max(low, high))


BEFORE = Position(-1)
UNREAD = "not read within the stream's retention"


def _place(after: After) -> Position:
    return after if isinstance(after, Position) else BEFORE


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
        before=None if after is None else firsts[bisect_right(firsts, after.low.position) - (after.low.side == 0)],
        why=why,
    )


def _starts(sessions: Sequence[SessionStarted], ranges: Sequence[Range]) -> list[SessionStarted]:
    """Return those that began at a starting point, up to the one that delivered the first record of all."""
    least = min((one.first for one in ranges), default=None)
    openers = {one.session for one in ranges if one.first == least and not isinstance(one.after, Position)}
    starts: list[SessionStarted] = []
    for one in sorted(sessions, key=lambda one: (one.time, one.session)):
        if not isinstance(one.after, Position):
            starts.append(one)
            if one.session in openers:
                break
    return starts


def _judge_first_start(
    segments: Sequence[Span],
    ranges: Sequence[Range],
    sessions: Sequence[SessionStarted],
    opened: int | None,
    times: NaiveTimes,
    gaps: list[Gap],
    trimmed: list[Gap],
) -> None:
    """Judge the link from the starting point to the first record."""
    first_ranges = [
        one
        for one in ranges
        if segments and one.first == segments[0].low.position and not isinstance(one.after, Position)
    ]
    starts = _starts(sessions, ranges)
    if not starts or starts[-1].session not in {one.session for one in first_ranges}:
        return
    first, begin = starts[-1], segments[0].low.position
    skipped = False
    for one in starts[:-1]:
        since = one.time if one.after == LATEST else times.asked(one, opened)
        skipped |= first.after == LATEST or (first.after == "AT_TIMESTAMP" and since < first.begins)
    if skipped:
        at = "LATEST" if first.after == LATEST else "a later time"
        gaps.insert(0, Gap(None, None, begin, f"an earlier session had begun to read, and this one began at {at}"))
    elif not any(times.is_good(one.after, times.delivered(one)) for one in first_ranges):
        trimmed.insert(0, Gap(None, None, begin, UNREAD))


def _opened(index: LedgerIndex, stream: StreamIdentity, parents: set[str], taken: Sequence[MarksTaken]) -> int | None:
    known = []
    for parent in parents & set(index.shards(stream)):
        ranges = [one for one, _ in index.ranges(stream, parent)]
        known += [one.arrival_last for one in ranges]
        known += [one.opened for entry in taken for one in entry.marks if one.shard == parent]
        grandparents = {one for start in index.sessions(stream, parent) for one in start.parents}
        starts = _starts(index.sessions(stream, parent), ranges)
        known.append(NaiveTimes.start(starts, _opened(index, stream, grandparents, taken)))
    return max(known, default=None)


class NaiveShard(NamedTuple):
    state: str
    records: int
    duplicates: int
    blocks: int
    gaps: list[Gap]
    possibly_trimmed: list[Gap]
    lost: list[Span]


class Naive(NamedTuple):
    shards: dict[tuple[StreamIdentity, str], NaiveShard]
    missing: list[str]
    damaged: list[str]
    orphans: list[str]
    damage: dict[str, tuple[Range, ...]]


def naive_verify(store: Store) -> Naive:
    index = LedgerIndex()
    taken: list[MarksTaken] = []
    ends: list[ShardEnded] = []
    for writer, content in sorted(ledgers_in(store)):
        ledger = decode_ledger(writer, content)
        index.add_ledger(ledger)
        taken += [entry for entry in ledger.entries if isinstance(entry, MarksTaken)]
        ends += [entry for entry in ledger.entries if isinstance(entry, ShardEnded)]
    for day in store.maintenance_days():
        index.add_maintenance(load_day(store, day))
    sizes = dict(store.list_blocks())
    index.adopt(store)
    gone = index.replaced.keys() | index.expired.keys()
    missing, damaged = [], [block for block in index.unreadable if block not in gone]
    rows: dict[tuple[StreamIdentity, str], set[Position]] = {}
    held: dict[tuple[StreamIdentity, str], SpanSet] = {}
    for block, entry in index.blocks().items():
        if block in index.replaced:
            continue
        if block in index.expired:
            for one in entry.ranges:
                held.setdefault((entry.stream, one.shard), SpanSet()).add(span_of(one))
            continue
        try:
            if block not in sizes:
                raise BlockMissing(block)
            if sizes[block] != entry.size or read_footer(store, block).ranges != entry.ranges:
                raise BlockDamaged(block)
            with BlockFile(store, block) as file:
                found = {one: file.positions(one) for one in entry.ranges}
        except BlockMissing:
            missing.append(block)
        except BlockDamaged:
            damaged.append(block)
        else:
            for one, positions in found.items():
                rows.setdefault((entry.stream, one.shard), set()).update(positions)
                held.setdefault((entry.stream, one.shard), SpanSet()).add(span_of(one))
    bad = {*missing, *damaged}
    shards = {}
    for stream in index.streams():
        for shard in index.shards(stream):
            key = stream, shard
            everything = index.ranges(stream, shard)
            good = [(one, b) for one, b in everything if b not in bad | gone]
            end = index.shard_ended(stream, shard)
            every_range = [one for one, _ in everything]
            parents = {parent for one in index.sessions(stream, shard) for parent in one.parents}
            of = [one for one in taken if one.stream == stream]
            others = [one for other in index.shards(stream) for one in index.sessions(stream, other)]
            opened = _opened(index, stream, parents, of)
            ended = [one for one in ends if (one.stream, one.shard) == key]
            found = cover(every_range, index.sessions(stream, shard), end, of, opened, others, ended)
            gaps = list(found.gaps)
            children = [
                child
                for child in index.shards(stream)
                if any(shard in one.parents for one in index.sessions(stream, child))
            ]
            if end is None and children:
                last = found.segments[-1].high.position if found.segments else None
                gaps.append(Gap(last, None, None, f"its child {children[0]} was read, and its own end is not recorded"))
            lost = SpanSet()
            for one, block in everything:
                if block in bad or block in index.replaced:
                    for part in held.get(key, SpanSet()).missing(span_of(one)):
                        lost.add(part)
            once = len(rows.get(key, ()))
            expired = [one for one, block in everything if block in index.expired]
            nothing = "proven" if end is not None else "nothing stored"
            state = "proven" if good else "expired" if expired else nothing
            for something, word in (
                (found.possibly_trimmed, "possibly trimmed"),
                (gaps, "gap"),
                (lost.spans(), "lost"),
            ):
                state = word if something else state
            shards[key] = NaiveShard(
                state,
                once,
                sum(one.count for one, _ in good) - once,
                len({block for _, block in good}),
                gaps,
                list(found.possibly_trimmed),
                lost.spans(),
            )
    damage = {
        block: tuple(
            one
            for one in index.blocks()[block].ranges
            if held.get((index.blocks()[block].stream, one.shard), SpanSet()).missing(span_of(one))
        )
        for block in sorted(bad)
        if block in index.blocks()
    }
    return Naive(
        shards,
        sorted(missing),
        sorted(damaged),
        sorted(one.block for one in index.adopted if one.block not in gone),
        damage,
    )
