"""What verify should find, worked out the plain way: everything in memory, every row of every good block read.

`cover` is as it was before it took in ranges one at a time; what is good, wanted and held is told from the index.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from kcl_receiver.errors import BlockDamaged, BlockMissing
from kcl_receiver.ranges import LATEST, After, Position, Range, StreamIdentity
from kcl_receiver.reader.coverage import Coverage, Cut, Gap, Span, SpanSet, span_of
from kcl_receiver.store.base import BlockStore
from kcl_receiver.store.entries import SessionStarted, decode_ledger
from kcl_receiver.store.ledger import LedgerIndex, read_block_footer
from kcl_receiver.store.maintenance import load_day
from kcl_receiver.store.parquet import read_positions

HOUR_MS = 3_600_000


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
        nothing_follows = not firsts or firsts[-1] <= late_start
        if covered.holds(late_start) and (nothing_follows or ended == late_start):
            last = late_start if nothing_follows else segments[-1].high.position
            trimmed.append(Gap(last, None, None, "reading resumed later than the stream's retention"))
    if not segments and ended is not None and late:
        trimmed.append(Gap(None, None, None, "reading resumed later than the stream's retention"))
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


def _covered_by(one: Range) -> Span:
    if isinstance(one.after, Position) and one.after < one.first:
        return Span(Cut(one.after, 1), Cut(one.last, 1))
    return span_of(one)


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


def naive_verify(store: BlockStore) -> Naive:
    index = LedgerIndex()
    for writer, content in sorted(store.read_ledger()):
        index.add_ledger(decode_ledger(writer, content))
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
            if sizes[block] != entry.size or read_block_footer(store, block).ranges != entry.ranges:
                raise BlockDamaged(block)
            found = {one: read_positions(store.open_block(block), one) for one in entry.ranges}
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
            found = cover([one for one, _ in everything], index.sessions(stream, shard), end.last if end else None)
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
