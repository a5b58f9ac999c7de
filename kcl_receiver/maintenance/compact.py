"""Merges the small blocks of a day into large ones.

A group of neighbours in time becomes one block of about the target size, with the same ranges, counts and checksums.
The rule: a block is deleted only when a durable entry says which block holds its ranges, and that one was read back and
checked. So a reader sees the old blocks or the new one, whoever is killed when; what is left over is put in order by
the next run, which proves first that nobody needs it.

Another run may work on the same day, from whatever host. Who records something about a block first has it: the other
one drops what it made of that block, and leaves the rest of the day to a next run.

What is worth the work: only blocks below half of the target are taken, and a group is at least half as large again as
its largest block. So a record is written again at most as often as its block can grow by half until it has half of the
target: a logarithm, however often this runs.

Closed ledgers that are still in pieces, because who closed them was killed, are merged before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from kcl_receiver.errors import LedgerDamaged, StoreError
from kcl_receiver.maintenance.retired_blocks import Leftovers, delete_orphans
from kcl_receiver.ranges import StreamIdentity
from kcl_receiver.store.blocks.merge import Source, merge_blocks
from kcl_receiver.store.ledger.entries import BlockStored
from kcl_receiver.store.ledger.merging import merge_left_over
from kcl_receiver.store.ledger.reading import Ledger
from kcl_receiver.store.ledger.transaction import (
    COMPACT,
    Transaction,
    TransactionOvertaken,
    delete_recorded,
    take_new,
)
from kcl_receiver.store.store import Store

MIB = 2**20
TARGET_BYTES = 128 * MIB
"""Large enough that a scan is not made of opening files, small enough to be moved as one piece."""
MIN_AGE_MILLIS = 3_600_000
MAX_RANGES = 10_000
"""A block of so many ranges is large whatever its bytes: its footer has some 5 MB then, and who opens it reads that."""

GROUPS_AT_ONCE = 8
RANGES_AT_ONCE = 2 * MAX_RANGES
"""A transaction ends with the group that reaches one of them: they bound what a kill makes void, room and memory."""


@dataclass(frozen=True, slots=True)
class Options:
    """What to compact.

    Attributes:
        target_bytes: Blocks become about this large.
        min_age_millis: Leave blocks alone that were stored less than this ago.
        compression: See `parse_compression`.
        since: The first day, `YYYY-MM-DD`; empty: from the beginning.
        before: The day after the last one; empty: to the end.
        dry_run: Change nothing.
    """

    target_bytes: int = TARGET_BYTES
    min_age_millis: int = MIN_AGE_MILLIS
    compression: str = "zstd"
    since: str = ""
    before: str = ""
    dry_run: bool = False


@dataclass(slots=True)
class DayReport:
    """What was done to a day's blocks, or with `dry_run` would be.

    Attributes:
        day: The day.
        blocks_before, size_before: What was there.
        blocks_after: How many are there now.
        size_after: Their bytes; with `dry_run`, size_before less what is deleted as a leftover, the most it can be.
        merged: How many blocks were merged.
        made: Into how many.
        leftovers: Blocks deleted that an earlier run had replaced or expired, and could not delete any more.
        orphans: Blocks deleted that an earlier run had made, and did not come to use.
        damaged: Blocks that cannot be read, with the reason; left alone.
        faults: What is wrong with the day's ledgers.
        gave_way: It ended here because other maintenance has asked for the store; a next run goes on.
        overtaken: The rest of the day was left to other maintenance, which works on it; a next run goes on.
    """

    day: str
    blocks_before: int
    size_before: int
    blocks_after: int = 0
    size_after: int = 0
    merged: int = 0
    made: int = 0
    leftovers: int = 0
    orphans: int = 0
    damaged: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    gave_way: bool = False
    overtaken: bool = False

    @property
    def changed(self) -> bool:
        """Whether anything was done."""
        return bool(self.made or self.leftovers or self.orphans)


class Progress(NamedTuple):
    """Where a run is: bytes of old blocks of a day, merged and to be merged."""

    day: str
    done: int
    total: int


class _Fact(NamedTuple):
    """A block that may be merged. `weight` is its size, or more if it has many ranges."""

    block: str
    size: int
    weight: int
    ranges: int


def compact(
    store: Store, options: Options, now_ms: int, tell: Callable[[Progress], None] = lambda _: None
) -> Iterator[DayReport]:
    """Compact a store, day by day; yield a report of each day that was changed or has something wrong.

    Memory: see `kcl_receiver.store.blocks.merge`, and the ranges of one transaction and of one ledger.

    Args:
        store: The store.
        options: What to do.
        now_ms: Milliseconds since the epoch.
        tell: Is told after each group.

    Raises:
        StoreUnavailable: The store cannot be read or written now, or other maintenance is at work. What was reported is
            done, and a next run goes on.
        ConfigError: The compression is unknown.
    """
    if not options.dry_run:
        store.hold_maintenance(ask=False)
        store.is_asked_for()  # whoever asked before is served
        with suppress(LedgerDamaged):  # the log: then it is not known which ledgers have ended
            merge_left_over(store)
    ledger = Ledger(store, {})
    for day, present in store.blocks_by_day(options.since, options.before):
        if any(2 * size < options.target_bytes for size in present.values()):
            report = _Day(ledger, options, now_ms, tell, day, present).run()
            if report.changed or report.damaged or report.faults or report.gave_way or report.overtaken:
                yield report
            if report.gave_way:
                return


class _Day:
    def __init__(
        self,
        ledger: Ledger,
        options: Options,
        now_ms: int,
        tell: Callable[[Progress], None],
        day: str,
        present: dict[str, int],
    ) -> None:
        self._ledger = ledger
        self._store = ledger.store
        self._options = options
        self._now_ms = now_ms
        self._tell = tell
        self._present = present
        self._changes = (ledger.changes if options.dry_run else ledger.to_change)(day, ranges=False)
        self._report = DayReport(day, len(present), sum(present.values()))
        self._done = self._total = 0

    def run(self) -> DayReport:
        report = self._report
        report.faults = [fault.message for fault in self._changes.faults]
        if not report.faults:
            self._ledger.faults.clear()
            try:
                self._put_in_order()
                self._merge_all()
            except TransactionOvertaken:
                report.overtaken = True
            report.faults = list(self._ledger.faults.values())
        report.blocks_after, report.size_after = len(self._present), sum(self._present.values())
        if self._options.dry_run:
            report.blocks_after -= report.merged - report.made
        return report

    def _put_in_order(self) -> None:
        found = Leftovers(self._ledger, self._changes, self._present, self._now_ms)
        replaced = found.replaced()
        if not self._options.dry_run:
            delete_recorded(self._store, replaced)
        self._forget(replaced)
        self._report.leftovers += len(replaced)
        orphans = found.orphans()
        if not self._options.dry_run:
            delete_orphans(self._store, self._changes, orphans, COMPACT, self._now_ms)
        self._forget(orphans)
        self._report.orphans += len(orphans)

    def _forget(self, blocks: Iterable[str]) -> None:
        for block in blocks:
            del self._present[block]

    def _merge_all(self) -> None:
        groups = [group for facts in self._facts().values() for group in plan(facts, self._options.target_bytes)]
        self._total = sum(one.size for group in groups for one in group)
        while groups:
            now: list[list[_Fact]] = []
            ranges = 0
            while groups and len(now) < GROUPS_AT_ONCE and ranges < RANGES_AT_ONCE:
                now.append(groups.pop(0))
                ranges += sum(one.ranges for one in now[-1])
            if self._options.dry_run:
                self._report.made += len(now)
                self._report.merged += sum(map(len, now))
            else:
                self._replace(now)
                if self._store.is_asked_for():
                    self._report.gave_way = True
                    return

    def _facts(self) -> dict[StreamIdentity, list[_Fact]]:
        """Return the blocks that may be merged, by stream, in the order of time."""
        target = self._options.target_bytes
        small = {
            block
            for block, size in self._present.items()
            if 2 * size < target and block not in self._changes.replaced and block not in self._changes.expired
        }
        facts: dict[StreamIdentity, list[_Fact]] = {}
        if len(small) < 2:
            return facts
        for entry in self._ledger.find_all(small, self._changes):
            if _stored_at(entry) <= self._now_ms - self._options.min_age_millis:
                size, ranges = self._present[entry.block], len(entry.ranges)
                weight = max(size, ranges * target // MAX_RANGES)
                facts.setdefault(entry.stream, []).append(_Fact(entry.block, size, weight, ranges))
        return {stream: sorted(found) for stream, found in facts.items()}

    def _replace(self, groups: Sequence[Sequence[_Fact]]) -> None:
        """Put new blocks in the place of groups of old ones, all at once."""
        first = groups[0][0].block
        transaction = Transaction(self._store, first, COMPACT, self._now_ms, changes=self._changes)
        made: dict[str, int] = {}
        try:
            for group in groups:
                self._put_merged(transaction, [one.block for one in group], made)
                self._done += sum(one.size for one in group)
                self._tell(Progress(self._report.day, self._done, self._total))
        except BaseException:
            # Nothing names them yet. After `commit` was begun nobody may do this: it may have become durable.
            self._drop(made)
            raise
        if transaction.empty:
            return
        try:
            transaction.commit()
        except TransactionOvertaken:
            self._drop(made)
            raise
        self._present.update(made)
        self._report.made += len(made)
        for block in transaction.retire():
            self._present.pop(block, None)
            self._report.merged += 1

    def _drop(self, made: Iterable[str]) -> None:
        """Delete new blocks that are not recorded, and cannot be any more; `repair` may have taken one in."""
        with suppress(StoreError):
            self._store.delete_blocks([block for block in made if block not in self._changes.since.recorded])

    def _put_merged(self, transaction: Transaction, blocks: list[str], made: dict[str, int]) -> None:
        """Make a group's new block durable and known to the transaction, unless too little of the group is good."""
        entries = sorted(self._ledger.find_all(blocks, self._changes), key=lambda one: one.block)
        while len(entries) > 1:
            damaged: dict[str, str] = {}
            block, stream = transaction.next_block_id(), entries[0].stream
            sources = [Source(one.block, one.ranges) for one in entries]
            encoded = merge_blocks(self._store, sources, block, stream, self._options.compression, damaged)
            if encoded is not None:
                made[block] = size = memoryview(encoded.payload).nbytes
                self._store.put_block(block, encoded.payload)
                entry = BlockStored(block, stream, encoded.ranges, encoded.rows, size, self._now_ms)
                transaction.add_block(entry, entries)
                return
            take_new(self._store, self._changes)
            if not self._changes.since.removed.isdisjoint(damaged):  # others have put another one in its place
                raise TransactionOvertaken(self._report.day)
            self._report.damaged.update(damaged)
            entries = [one for one in entries if one.block not in damaged]


def plan(facts: Sequence[_Fact], target: int) -> list[list[_Fact]]:
    """Return groups of blocks to be merged, each of about the target's weight at most, neighbours in time.

    Args:
        facts: The blocks of one stream and day, in the order of time.
        target: In bytes.
    """
    groups: list[list[_Fact]] = []
    group: list[_Fact] = []
    weight = 0
    for fact in facts:
        if 2 * fact.weight >= target:
            continue
        if weight + fact.weight > target:
            groups.append(group)
            group, weight = [], 0
        group.append(fact)
        weight += fact.weight
    groups.append(group)
    return [found for found in map(_worthwhile, groups) if len(found) > 1]


def _worthwhile(group: list[_Fact]) -> list[_Fact]:
    """Leave out, one by one, what is more than twice as large as all the others together."""
    while len(group) > 1:
        largest = max(group, key=lambda one: one.weight)
        if 3 * largest.weight <= 2 * sum(one.weight for one in group):
            break
        group = [one for one in group if one is not largest]
    return group


def _stored_at(entry: BlockStored) -> int:
    """Return when a block was stored; its last record's arrival if the entry was made from the footer."""
    return entry.time or max((one.arrivals.newest for one in entry.ranges), default=0)
