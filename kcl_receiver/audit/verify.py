"""Proves from ledger and footers that all that KCL delivered is stored, or says what is not.

Nothing is changed, and the receiver and maintenance may be running: a ledger is read before it is asked whether the
blocks that it names are there, and of a block that is gone it is asked once more what maintenance did to it.

Memory does not grow with the store. One ledger is read at a time, blocks are listed by the day, and of the ranges only
merged stretches are kept. If something is amiss, or ranges reach back far over others, the ledgers are read a second
time, to see who holds what; then those ranges alone are kept, and what grows is what is amiss.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from kcl_receiver.audit.blocks import Listing, check_block, positions_of
from kcl_receiver.audit.report import (
    DAMAGED,
    EXPIRED,
    GAP,
    LOST,
    MISSING,
    NOTHING,
    POSSIBLY_TRIMMED,
    PROVEN,
    Damage,
    ExpiredStretch,
    Lost,
    Report,
    ShardReport,
    Stretch,
)
from kcl_receiver.audit.shard import Shard
from kcl_receiver.errors import BlockDamaged, BlockMissing
from kcl_receiver.horizon import ShardMark, Times
from kcl_receiver.ids import writer_of
from kcl_receiver.proof.coverage import Span
from kcl_receiver.proof.links import see_times
from kcl_receiver.ranges import Range, StreamIdentity
from kcl_receiver.store.ledger.entries import BlockStored, MarksTaken, SessionStarted
from kcl_receiver.store.ledger.reading import DayChanges, Ledger
from kcl_receiver.store.ledger.transaction import content_of, lifecycle
from kcl_receiver.store.ledger.walk import Ledgers, Line
from kcl_receiver.store.store import Store

__all__ = [
    "DAMAGED",
    "EXPIRED",
    "GAP",
    "LOST",
    "MISSING",
    "NOTHING",
    "POSSIBLY_TRIMMED",
    "PROVEN",
    "Damage",
    "ExpiredStretch",
    "Lost",
    "Report",
    "ShardReport",
    "Stretch",
    "damage",
    "verify_store",
]

DAY_MS = 86_400_000

LOOKING = 2
"""Threads that look at blocks while ledgers are read, where a look waits for a store or decodes rows.

None look at the footers of a store that is near. Such a look is short and lets others run a dozen times, and each time
the thread that takes in ranges takes its turn: that takes more processor time than all the rest of the looks.
"""
AHEAD = 32
"""So many blocks are looked at, or were, and wait to be taken in."""

_NO_LEDGER = "", ""
"""Where the entry of a block is that no ledger names: in its footer."""

_REPLACED_IN_PART = "it was replaced, and no block in its place holds all of its ranges"

_Key = tuple[StreamIdentity, str]
_EveryTime = dict[StreamIdentity, Times]


def verify_store(store: Store, *, deep: bool = False, ledger_only: bool = False, now_ms: int | None = None) -> Report:
    """Return what a store's ledger and blocks prove.

    Args:
        store: The store; it is only read.
        deep: Read all records, and make the checksum of every range again.
        ledger_only: Take every block that the ledger names for present and good, without a look.
        now_ms: Milliseconds since the epoch, for a declared lifecycle; the clock's if not given.

    Raises:
        StoreRefused: There is no store, or it is of a format that this version does not know.
        StoreUnavailable: The store cannot be read now.
    """
    found = _verify(store, deep=deep, ledger_only=ledger_only, now_ms=now_ms)
    report = found.report
    parents: dict[_Key, str] = {}
    for (stream, shard), one in sorted(found.shards.items(), reverse=True):
        parents.update(((stream, parent), shard) for parent in one.parents)
    opened = _opened(found.shards)
    report.shards = [one.report(parents.get(key), opened.get(key)) for key, one in sorted(found.shards.items())]
    if not ledger_only:
        report.leftovers = sorted(store.list_leftovers())
    return report


def _opened(shards: Mapping[_Key, Shard]) -> dict[_Key, int]:
    """Return for each shard whose parents were read when one of them is last known to have been open; -1 if none is.

    One of which that is not known was made after its own parents were open, or where reading began. Parents have lower
    ids than their children.
    """
    opened: dict[_Key, int] = {}
    for key, shard in sorted(shards.items()):
        parents = [(shard.stream, one) for one in shard.parents if (shard.stream, one) in shards]
        if parents:
            known = ((shards[one].cover, opened.get(one)) for one in parents)
            opened[key] = max(max(cover.horizon.opened, cover.begun(of)) for cover, of in known)
    return opened


def damage(store: Store, *, deep: bool = False, now_ms: int | None = None) -> Iterator[Damage]:
    """Yield each block that should be there and whole and is not, in the order of the ids, which is that of time.

    A block that was replaced is among them only if what stands in its place does not hold all of its ranges.

    Args:
        store: The store; it is only read.
        deep: Read all records, and make the checksum of every range again.
        now_ms: Milliseconds since the epoch, for a declared lifecycle; the clock's if not given.

    Raises:
        StoreRefused: There is no store, or it is of a format that this version does not know.
        StoreUnavailable: The store cannot be read now.
    """
    found = _verify(store, deep=deep, ledger_only=False, now_ms=now_ms)
    named: set[tuple[StreamIdentity, Range]] = set()
    replaced: dict[str, set[Range]] = {}  # what was looked for; the rest of such a block is known to be held
    for (stream, _), shard in found.shards.items():
        for one, block, was_replaced in shard.wanted:
            if was_replaced:
                replaced.setdefault(block, set()).add(one)
            elif not shard.is_held(one):
                named.add((stream, content_of(one)))
    blocks = sorted({*found.where, *replaced})
    places = {**found.where_replaced, **found.where}
    at, entries = _NO_LEDGER, dict[str, BlockStored]()
    for block in blocks:
        if places[block] != at:
            at = places[block]
            entries = found.ledgers.entries(*at, set(blocks)) if at != _NO_LEDGER else {}
        if at == _NO_LEDGER:
            entries = {one.block: one for one in Ledger(store).from_footers([(block, 0)], {})}
        entry = entries.get(block)
        if entry is None:
            continue  # its ledger was taken away since
        lost = tuple(one for one in entry.ranges if not found.shards[entry.stream, one.shard].is_held(one))
        if block in found.where:
            reason = found.report.damaged.get(block)
            why = MISSING if reason is None else DAMAGED
            yield Damage(block, entry, why, reason or "it is not there", lost)
        elif lost := tuple(
            one for one in lost if one in replaced[block] and (entry.stream, content_of(one)) not in named
        ):
            yield Damage(block, entry, MISSING, _REPLACED_IN_PART, lost)


@dataclass(slots=True)
class _Found:
    """What one run has found.

    Attributes:
        report: All but what is said of each shard.
        shards: All shards of all streams.
        ledgers: The ledgers.
        where: For each block that is missing or damaged and in a ledger, which ledger that is.
        where_replaced: The same for replaced blocks of which a range is not known to be held.
    """

    report: Report
    ledgers: Ledgers
    shards: dict[_Key, Shard] = field(default_factory=dict)
    where: dict[str, tuple[str, str]] = field(default_factory=dict)
    where_replaced: dict[str, tuple[str, str]] = field(default_factory=dict)


class _AgainError(Exception):
    """What was taken for granted turned out to be wrong: begin anew, and know it."""


def _verify(store: Store, *, deep: bool, ledger_only: bool, now_ms: int | None) -> _Found:
    known: dict[str, str] = {}
    times: _EveryTime = {}
    now = int(time.time() * 1000) if now_ms is None else now_ms
    with _seldom_collected():
        while True:
            run = _Run(store, known, times, deep=deep, ledger_only=ledger_only, now_ms=now)
            try:
                run.first()
                run.second()
            except _AgainError:
                continue
            return run.found


@contextmanager
def _seldom_collected() -> Iterator[None]:
    """Let Python look for cycles less often: a ledger is millions of tuples and no cycle.

    Not never, because a footer that is taken apart by pyarrow is one.
    """
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], 5_000), max(before[1], 50), max(before[2], 50))
    try:
        yield
    finally:
        gc.set_threshold(*before)


class _Run:
    """One run over a store.

    Args:
        store: The store.
        known: Blocks that were found damaged while their records were counted, with the reason; more are put in.
        times: What is known of each stream's retention and clocks; more is put in.
        deep: See `verify_store`.
        ledger_only: See `verify_store`.
        now_ms: Milliseconds since the epoch.
    """

    def __init__(
        self,
        store: Store,
        known: dict[str, str],
        times: _EveryTime,
        *,
        deep: bool,
        ledger_only: bool,
        now_ms: int,
    ) -> None:
        self._store = store
        self._known = known
        self._times = times
        self._deep = deep
        self._ledger_only = ledger_only
        self._report = Report(store.url, deep=deep, ledger_only=ledger_only)
        self._report.application = store.owner()
        days = None if ledger_only else lifecycle(store)
        self._limit = -1 if days is None else now_ms - days * DAY_MS
        self._ledgers = Ledgers(store)
        # Listed only now: a block is there before its line is.
        self._listing = None if ledger_only else Listing(store)
        self._orphans: list[tuple[str, int]] = []
        self._expired_by_rule: set[str] = set()
        self._missing: set[str] = set()
        self._held_day = ""
        self._held: set[int] = set()
        self.found = _Found(self._report, self._ledgers)

    # The first time

    def first(self) -> None:
        """Take in the whole ledger, and look at the blocks."""
        report, ledgers = self._report, self._ledgers
        if self._ledger_only or (self._store.objects.near and not self._deep):
            for line in ledgers.walk():
                self._line(line, None)()
        else:
            self._walk_ahead()
        report.writers, report.torn = len(ledgers.writers), ledgers.torn
        report.ledger_faults = [*ledgers.faults, *ledgers.lost_ends(), *ledgers.lost_entries()]
        report.acknowledged = list(ledgers.acknowledged)
        if self._listing is not None:
            self._adopt(self._listing)
            report.blocks = self._listing.count
        if report.application is None and not report.blocks and not ledgers.writers:
            self._store.require()
        report.missing = sorted(self._missing)
        for blocks in (report.replaced_present, report.expired_present):
            blocks.sort()
        if any(map(_was_hasty, self.found.shards.values())):
            for times in self._times.values():
                times.complete = True
            raise _AgainError

    def _walk_ahead(self) -> None:
        with ThreadPoolExecutor(LOOKING) as pool:
            waiting: deque[Callable[[], None]] = deque()
            try:
                for one in self._ledgers.walk():
                    waiting.append(self._line(one, pool))
                    if len(waiting) > AHEAD:
                        waiting.popleft()()
                while waiting:
                    waiting.popleft()()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _shard(self, stream: StreamIdentity, shard: str) -> Shard:
        key = stream, shard
        found = self.found.shards.get(key)
        if found is None:
            found = self.found.shards[key] = Shard(stream, shard, self._times_of(stream))
        return found

    def _times_of(self, stream: StreamIdentity) -> Times:
        return self._times.setdefault(stream, Times())

    def _marks(self, entry: MarksTaken) -> None:
        see_times(self._times_of(entry.stream), entry)
        for mark in entry.marks:
            self._shard(entry.stream, mark.shard).cover.add_mark(mark, entry.time)

    def _line(self, one: Line, pool: ThreadPoolExecutor | None) -> Callable[[], None]:
        """Begin to look at what a line names, if there are threads for that, and return what takes it in."""
        entry = one.entry
        if isinstance(entry, BlockStored):
            return self._block(entry, one.line, (one.writer, one.day), pool)
        if isinstance(entry, MarksTaken):
            return partial(self._marks, entry)
        shard = self._shard(entry.stream, entry.shard)
        return partial(shard.add_session, entry) if isinstance(entry, SessionStarted) else partial(shard.add_end, entry)

    def _block(
        self, entry: BlockStored, line: bytes, where: tuple[str, str], pool: ThreadPoolExecutor | None
    ) -> Callable[[], None]:
        block = entry.block
        changes = self._ledgers.changes(block)
        size = -1 if self._listing is None else self._listing.take(block)
        if size is None and block not in changes.replaced and block not in changes.expired:
            changes = self._ledgers.look_again(block)
        if block in changes.expired:
            return partial(self._expired, entry, changes, there=size is not None)
        if block in changes.replaced:
            return partial(self._replaced, entry, where, there=size is not None)
        if size is None:
            return partial(self._gone, entry, where)
        if self._listing is None:
            return partial(self._good, entry, where[1])
        if block in self._known:
            return partial(self._damaged, entry, where, self._known[block])
        look = partial(check_block, self._store, entry, line, size, deep=self._deep)
        return partial(self._looked, entry, where, look if pool is None else pool.submit(look).result)

    def _looked(self, entry: BlockStored, where: tuple[str, str], look: Callable[[], None]) -> None:
        try:
            look()
        except BlockMissing:
            self._gone(entry, where)
        except BlockDamaged as error:
            self._damaged(entry, where, error.message)
        else:
            self._good(entry, where[1])

    def _damaged(self, entry: BlockStored, where: tuple[str, str], why: str) -> None:
        self._report.damaged[entry.block] = why
        self._bad(entry, where)

    def _good(self, entry: BlockStored, maintenance: str = "") -> None:
        if self._listing is None:
            self._report.blocks += 1
        if maintenance:
            if maintenance != self._held_day:
                self._held_day, self._held = maintenance, set()
            self._held.update(_mark(entry.stream, one) for one in entry.ranges)
        for one in entry.ranges:
            shard = self._shard(entry.stream, one.shard)
            parts = shard.add_good(one, entry.block)
            if parts:
                self._count(shard, one, entry.block, parts)

    def _count(self, shard: Shard, one: Range, block: str, parts: list[Span]) -> None:
        """Count the records of a range that overlaps others in part: only its rows can tell."""
        if self._listing is None:
            shard.leave_uncounted(one)
            return
        try:
            positions = positions_of(self._store, block, one)
        except (BlockDamaged, BlockMissing) as error:
            self._known[block] = error.message
            raise _AgainError from error
        shard.count(one, sum(any(part.holds(position) for part in parts) for position in positions))

    def _gone(self, entry: BlockStored, where: tuple[str, str]) -> None:
        if entry.ranges and all(one.arrivals.all_before(self._limit) for one in entry.ranges):
            self._expired_by_rule.add(entry.block)
            self._report.expired_blocks += 1
            for one in entry.ranges:
                self._shard(entry.stream, one.shard).add_expired(one, self._limit, -1)
            return
        self._missing.add(entry.block)
        self._bad(entry, where)

    def _bad(self, entry: BlockStored, where: tuple[str, str]) -> None:
        self.found.where[entry.block] = where
        for one in entry.ranges:
            self._shard(entry.stream, one.shard).add_bad(one, entry.block, replaced=False)

    def _replaced(self, entry: BlockStored, where: tuple[str, str], *, there: bool) -> None:
        self._report.replaced_blocks += 1
        if there and self._listing is not None:
            self._report.replaced_present.append(entry.block)
        for one in entry.ranges:
            shard = self._shard(entry.stream, one.shard)
            if _mark(entry.stream, one) in self._held:
                shard.add_held(one)
            else:
                shard.add_bad(one, entry.block, replaced=True)
                self.found.where_replaced[entry.block] = where

    def _expired(self, entry: BlockStored, changes: DayChanges, *, there: bool) -> None:
        self._report.expired_blocks += 1
        if there and self._listing is not None:
            self._report.expired_present.append(entry.block)
        said = changes.expired[entry.block]
        for one in entry.ranges:
            self._shard(entry.stream, one.shard).add_expired(one, said.before, said.time)

    def _adopt(self, listing: Listing) -> None:
        """Take in the blocks that no ledger names."""
        report = self._report
        orphans: list[str] = []
        for block, size in sorted(listing.rest().items()):
            changes = self._ledgers.changes(block)
            gone = block in changes.replaced or block in changes.expired
            unreadable: dict[str, str] = {}
            for entry in Ledger(self._store).from_footers([(block, size)], unreadable):
                self._orphans.append((block, size))
                if block in changes.expired:
                    self._expired(entry, changes, there=True)
                elif block in changes.replaced:
                    self._replaced(entry, _NO_LEDGER, there=True)
                elif self._deep_look(entry):
                    orphans.append(block)
                    self._good(entry)
            if not gone:
                report.damaged.update(unreadable)
        report.ledger_lost = not self._ledgers.writers and bool(listing.rest())
        report.orphans = self._still_orphans(orphans)

    def _deep_look(self, entry: BlockStored) -> bool:
        try:
            if entry.block in self._known:
                raise BlockDamaged(self._known[entry.block])
            check_block(self._store, entry, None, entry.size, deep=self._deep)
        except BlockMissing:
            return False
        except BlockDamaged as error:
            self._report.damaged[entry.block] = error.message
            self._bad(entry, _NO_LEDGER)  # its footer says what it held, and nothing else does
            return False
        return True

    def _still_orphans(self, orphans: list[str]) -> list[str]:
        """Leave out the blocks whose writer was alive, and has written them into its ledger since."""
        found = set(orphans)
        for writer in sorted({writer_of(block) for block in orphans}):
            found.difference_update(self._ledgers.entries(writer, "", found))
        return sorted(found)

    # The second time

    def second(self) -> None:
        """See who holds what is wanted, and count what could not be counted; nothing if there is neither."""
        shards = self.found.shards
        if all(shard.settled for shard in shards.values()):
            return
        for shard in shards.values():
            shard.look_for()
        for entry in self._once_more():
            if isinstance(entry, MarksTaken):
                for mark in entry.marks:
                    shards[entry.stream, mark.shard].cover.see_mark(mark, entry.time)
                continue
            for one in entry.ranges:
                shards[entry.stream, one.shard].cover.see_range(one)
            changes = self._ledgers.changes(entry.block)
            if entry.block in changes.expired or entry.block in self._expired_by_rule:
                for one in entry.ranges:
                    shards[entry.stream, one.shard].see_expired(one)
            elif entry.block not in changes.replaced and entry.block not in self.found.where:
                for one in entry.ranges:
                    shards[entry.stream, one.shard].see_good(one, entry.block)
        for shard in shards.values():
            shard.cover.seen()
            for one, block, parts in shard.recount():
                self._count(shard, one, block, parts)

    def _once_more(self) -> Iterator[BlockStored | MarksTaken]:
        for entry, _, _, _ in self._ledgers.walk():
            of: Iterable[Range | ShardMark] = ()
            if isinstance(entry, BlockStored | MarksTaken):
                of = entry.ranges if isinstance(entry, BlockStored) else entry.marks
                if all((entry.stream, one.shard) in self.found.shards for one in of):
                    yield entry
        for block, size in self._orphans:
            yield from Ledger(self._store).from_footers([(block, size)], {})


def _was_hasty(shard: Shard) -> bool:
    """Return whether a link was judged before all was known that speaks against it."""
    times, cover = shard.times, shard.cover
    if times.complete:
        return False
    needed = cover.horizon.need
    return (needed > 0 and needed + times.raised > times.retention.least_ever) or (times.raised > 0 and cover.doubts)


def _mark(stream: StreamIdentity, one: Range) -> int:
    """Return a number of 64 bits that stands for the content of a range."""
    return hash((stream, one.shard, one.session, one.after, one.first, one.last, one.count, one.checksum))
