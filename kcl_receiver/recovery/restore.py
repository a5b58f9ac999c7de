"""Brings back missing and damaged blocks: from what is left of their files, and from the stream.

A damaged block is never touched. What can be had of it is put into a new block under a new id, and a maintenance ledger
says what the new one stands in for; only then does a damaged file go, and only if the new block holds all of it. The
rule: nothing is stored but ranges that have the count and the checksum that were recorded when they were stored first.

Another run may bring back the same blocks, or put others in their place. Then what that one holds by now is dropped
here, and the rest is recorded.

Killed between a new block and its ledger, it leaves a block that nobody names and whose records the next run brings
back again; between ledger and deletion, a damaged file that nobody needs. Both are put in order by compact and repair.

Memory: the window of `RangeFetcher`, twice `PART_BYTES`, and for each damaged block under way what its file is read by,
row group by row group.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from kcl_receiver.audit.report import DAMAGED, Damage
from kcl_receiver.errors import ReceiverError
from kcl_receiver.ids import block_day, writer_of
from kcl_receiver.kinesis.range_fetcher import RangeFetcher
from kcl_receiver.kinesis.rebuild import Outcome, Request, Reread
from kcl_receiver.ranges import Range, StreamIdentity
from kcl_receiver.store.blocks.arrays import columns_of
from kcl_receiver.store.blocks.encode import BlockRange, encode_block
from kcl_receiver.store.blocks.file import compression_of, salvage
from kcl_receiver.store.ledger.entries import BlockStored
from kcl_receiver.store.ledger.reading import DayChanges, Ledger
from kcl_receiver.store.ledger.transaction import (
    RECOVER,
    TRIES,
    Transaction,
    TransactionOvertaken,
    content_of,
    holds_all,
    works_elsewhere,
)
from kcl_receiver.store.store import Store

BLOCKS_AT_ONCE = 32
BYTES_AT_ONCE = 64 * 2**20
"""A transaction is committed once it has so many new blocks or bytes: what a kill throws away at most."""
SECONDS_AT_ONCE = 15.0
"""The same for time, where the stream gives little."""
PART_BYTES = 128 * 2**20
"""Records of one old block beyond which a new block is made of what is there, and another one of the rest."""


class Source(NamedTuple):
    """Where the records of one stream come from.

    Attributes:
        rereader: Reads them.
        hash_ranges: The hash range of each shard that the stream still lists, by its id.
    """

    rereader: RangeFetcher
    hash_ranges: Mapping[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class NotRestored:
    """A range that was not brought back, although no good block holds it.

    Attributes:
        block: The block that held it.
        stream: Its stream.
        range: The range.
        outcome: Why; never `Outcome.REBUILT`.
        detail: What differs, or what is left of it.
    """

    block: str
    stream: StreamIdentity
    range: Range
    outcome: Outcome
    detail: str


@dataclass(slots=True)
class Summary:
    """What was done.

    Attributes:
        blocks: Old blocks of which everything is held again.
        partly: Old blocks of which something is.
        made: New blocks.
        restored: Ranges that came from the stream.
        salvaged: Ranges that came from damaged files.
        records: User records of both.
        size: Bytes of their keys and data.
        removed: Damaged files that were deleted.
        failed: How many ranges that no good block holds were not brought back, by the reason.
        failed_records: The user records in them, by the reason.
        elsewhere: Ranges that were not brought back, and that other blocks hold.
        stopped: It was asked to stop before all was done.
    """

    blocks: int = 0
    partly: int = 0
    made: int = 0
    restored: int = 0
    salvaged: int = 0
    records: int = 0
    size: int = 0
    removed: int = 0
    failed: dict[Outcome, int] = field(default_factory=dict)
    failed_records: dict[Outcome, int] = field(default_factory=dict)
    elsewhere: int = 0
    stopped: bool = False


class Events:
    """What `Restorer` tells while it works; each does nothing unless it is overridden."""

    def not_restored(self, one: NotRestored) -> None:
        """A range is not brought back."""

    def committed(self, summary: Summary) -> None:
        """What the summary counts is durable, and stays whatever happens."""


@dataclass(eq=False, slots=True)
class _Pending:
    """One old block: what is still to come of it, and what is there and not stored yet."""

    damage: Damage
    lost: frozenset[Range]
    salvaged: list[Range]
    asked: set[Range] = field(default_factory=set)
    ready: list[BlockRange] = field(default_factory=list)
    from_file: int = 0
    size: int = 0
    stored: int = 0
    failed: int = 0


class _Made(NamedTuple):
    """What a new block adds to a summary."""

    salvaged: int
    restored: int
    records: int
    size: int


class _Open:
    """A transaction that is not committed, and what it holds."""

    def __init__(self, transaction: Transaction, now: float) -> None:
        self.transaction = transaction
        self.since = now
        self.blocks = 0
        self.bytes = 0
        self.unfinished: set[str] = set()
        self.files: set[str] = set()
        self.made: dict[str, _Made] = {}


class Restorer:
    """See the module. The caller holds the store's maintenance.

    Args:
        store: The store.
        source: Returns where the records of a stream come from.
        now_ms: Returns the time in milliseconds since the epoch.
        shards: Ids of the shards whose ranges are brought back; none means all.
        compression: See `store.parquet.parse_compression`; None takes that of the store's other blocks.
        stop: Set to end soon; what is finished is committed. It is the `RangeFetcher`'s, too.
        events: Is told what happens.
        clock: Seconds that rise.
    """

    def __init__(
        self,
        store: Store,
        source: Callable[[StreamIdentity], Source],
        now_ms: Callable[[], int],
        *,
        shards: Collection[str] = (),
        compression: str | None = None,
        stop: threading.Event | None = None,
        events: Events | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._source = source
        self._now_ms = now_ms
        self._shards = shards
        self._compression = compression
        self._stop = stop or threading.Event()
        self._events = events or Events()
        self._clock = clock
        self._changes: dict[str, DayChanges] = {}
        self._open: dict[str, _Open] = {}
        self._pending: dict[str, _Pending] = {}
        self.summary = Summary()

    def run(self, damages: Iterable[Damage]) -> Summary:
        """Bring back what can be.

        Args:
            damages: The blocks, the earliest first.

        Raises:
            StreamUnavailable: AWS does not answer, does not allow it, or has throttled for too long.
            StoreUnavailable: The store cannot be read or written now.
            LedgerDamaged: The maintenance ledgers of a day are damaged.

        Whatever was finished before an error is committed, unless the error is about that.
        """
        try:
            for stream, blocks in groupby(damages, key=lambda one: one.entry.stream):
                self._restore(stream, blocks)
                if self._stop.is_set():
                    break
        except ReceiverError:
            self._commit_all()
            raise
        self._commit_all()
        self.summary.stopped = self._stop.is_set()
        return self.summary

    def _restore(self, stream: StreamIdentity, damages: Iterable[Damage]) -> None:
        source = self._source(stream)
        for answer in source.rereader.reread(stream, self._requests(damages, source.hash_ranges)):
            self._take(answer)
        self._pending.clear()  # stopped: what is not complete is not stored

    def _requests(self, damages: Iterable[Damage], hash_ranges: Mapping[str, tuple[str, str]]) -> Iterator[Request]:
        """Yield what is to be read from the stream. It runs in the thread that takes the answers."""
        for damage in damages:
            if self._stop.is_set():
                return
            pending = self._begin(damage)
            self._pending[damage.block] = pending
            if not pending.asked:
                self._finish(pending)
                continue
            for one in sorted(pending.asked, key=lambda one: (one.shard, one.first, one.last)):
                yield Request(one, hash_ranges.get(one.shard), damage.block)

    def _begin(self, damage: Damage) -> _Pending:
        """Return what is wanted of a block, and which of it its file still holds."""
        entry = damage.entry
        lost = frozenset(damage.ranges_lost)
        # Of a block that has a stand-in already, the rest alone is wanted; else all of it, or it could never go.
        replaced = damage.block in self._day(damage.block).replaced
        wanted = [
            one
            for one in entry.ranges
            if (one in lost or not replaced) and (not self._shards or one.shard in self._shards)
        ]
        salvaged = [one for one, _ in salvage(self._store, damage.block, wanted)]
        if self._compression is None and damage.why == DAMAGED:
            self._compression = compression_of(self._store, damage.block)
        return _Pending(damage, lost, salvaged, set(wanted).difference(salvaged))

    def _take(self, answer: Reread) -> None:
        one = answer.request.range
        pending = self._pending[answer.request.block]
        pending.asked.discard(one)
        if answer.outcome is Outcome.REBUILT and answer.columns is not None:
            self._collect(pending, BlockRange(one, answer.columns))
        else:
            self._give_up(pending, one, answer.outcome, answer.detail)
        if not pending.asked:
            self._finish(pending)

    def _give_up(self, pending: _Pending, one: Range, outcome: Outcome, detail: str) -> None:
        if one not in pending.lost:
            self.summary.elsewhere += 1
            return
        pending.failed += 1
        self.summary.failed[outcome] = self.summary.failed.get(outcome, 0) + 1
        self.summary.failed_records[outcome] = self.summary.failed_records.get(outcome, 0) + one.count
        self._events.not_restored(NotRestored(pending.damage.block, pending.damage.entry.stream, one, outcome, detail))

    def _collect(self, pending: _Pending, one: BlockRange) -> None:
        pending.ready.append(one)
        pending.size += one.columns.memory
        if pending.size >= PART_BYTES:
            self._store_ready(pending)

    def _finish(self, pending: _Pending) -> None:
        """All of a block that the stream gives is there: add what its file gives, and store it."""
        damage = pending.damage
        left = set(map(content_of, pending.salvaged))
        for one, rows in salvage(self._store, damage.block, pending.salvaged):
            left.discard(content_of(one))
            pending.from_file += 1
            self._collect(pending, BlockRange(one, columns_of(rows)))
        for one in pending.salvaged:
            if content_of(one) in left:
                self._give_up(pending, one, Outcome.CONTENT_DIFFERS, "its file held it a moment ago, and does not now")
        self._store_ready(pending)
        self._pending.pop(damage.block, None)
        for opened in self._open.values():
            opened.unfinished.discard(damage.block)
        if pending.stored:
            self.summary.blocks += not pending.failed
            self.summary.partly += bool(pending.failed)
        self._commit_if_due()

    def _store_ready(self, pending: _Pending) -> None:
        """Make a new block of what is there, durable but in no ledger yet."""
        if not pending.ready:
            return
        entry = pending.damage.entry
        opened = self._transaction(pending.damage.block)
        block = opened.transaction.next_block_id()
        encoded = encode_block(block, writer_of(block), entry.stream, pending.ready, self._compression_now())
        size = memoryview(encoded.payload).nbytes
        self._store.put_block(block, encoded.payload)
        new = BlockStored(block, entry.stream, encoded.ranges, encoded.rows, size, self._now_ms())
        opened.transaction.add_block(new, [entry])
        opened.blocks += 1
        opened.bytes += size
        opened.unfinished.add(entry.block)  # its other parts go into the same transaction
        if pending.damage.why == DAMAGED:
            opened.files.add(entry.block)
        restored, bytes_ = len(pending.ready) - pending.from_file, sum(one.range.size for one in pending.ready)
        opened.made[block] = _Made(pending.from_file, restored, encoded.rows, bytes_)
        self._count(opened.made[block], 1)
        pending.stored += len(pending.ready)
        pending.ready, pending.from_file, pending.size = [], 0, 0

    def _compression_now(self) -> str:
        if self._compression is None:
            for number, (block, _) in enumerate(self._store.list_blocks()):
                self._compression = compression_of(self._store, block)
                if self._compression is not None or number == BLOCKS_AT_ONCE:
                    break
        if self._compression is None:
            self._compression = "zstd"
        return self._compression

    def _day(self, block: str) -> DayChanges:
        day = block_day(block)
        if day not in self._changes:
            for old in [one for one in self._changes if one < day and one not in self._open][:-1]:
                del self._changes[old]
            self._changes[day] = Ledger(self._store).to_change(day, ranges=False)
        return self._changes[day]

    def _transaction(self, block: str) -> _Open:
        day = block_day(block)
        if day not in self._open:
            transaction = Transaction(self._store, block, RECOVER, self._now_ms(), changes=self._day(block))
            self._open[day] = _Open(transaction, self._clock())
        return self._open[day]

    def _commit_if_due(self) -> None:
        now = self._clock()
        for day, opened in list(self._open.items()):
            due = (
                opened.blocks >= BLOCKS_AT_ONCE
                or opened.bytes >= BYTES_AT_ONCE
                or now - opened.since >= SECONDS_AT_ONCE
            )
            if due and not opened.unfinished:
                self._commit(day)

    def _commit_all(self) -> None:
        for day in list(self._open):
            self._commit(day)

    def _commit(self, day: str) -> None:
        opened = self._open.pop(day)
        for _ in range(TRIES):
            if opened.transaction.empty:
                return
            try:
                opened.transaction.commit()
                break
            except TransactionOvertaken:
                self._drop(day, opened)
        else:
            raise works_elsewhere(self._store, day)
        self.summary.removed += len(opened.files.intersection(opened.transaction.retire()))
        self._events.committed(self.summary)

    def _drop(self, day: str, opened: _Open) -> None:
        """Others have recorded something about the same blocks: drop what they hold by now, or have expired."""
        ledger = Ledger(self._store)
        changes = self._changes[day] = ledger.to_change(day, ranges=False)
        dropped: list[str] = []
        for new in opened.transaction.new:
            held: set[Range] = set()
            for old in new.replaces:
                for entry in ledger.find_all(changes.replaced.get(old, ()), changes):
                    held.update(map(content_of, entry.ranges if self._store.has_block(entry.block) else ()))
            if changes.expired.keys() & set(new.replaces) or holds_all(held, new.ranges):
                dropped.append(new.block)
                self._count(opened.made[new.block], -1)
                self.summary.elsewhere += len(new.ranges)
        opened.transaction.replan(changes, dropped)
        # None of them can be recorded any more, but for one that `repair` has taken in.
        self._store.delete_blocks([block for block in dropped if block not in changes.blocks])

    def _count(self, made: _Made, sign: int) -> None:
        self.summary.made += sign
        self.summary.salvaged += sign * made.salvaged
        self.summary.restored += sign * made.restored
        self.summary.records += sign * made.records
        self.summary.size += sign * made.size
