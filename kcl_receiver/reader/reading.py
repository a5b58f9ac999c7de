"""Reads a store: walks the ledger, lets a chain per shard say what comes next, and fetches it.

What is kept in memory: the ledger that is being read, what maintenance did on a few days, a packed reference for each
range that waits for what comes before it, and the rows of one run of ranges. None of it grows with the store's age.

A source is a block from which ranges were taken in; it is kept until the last of them was handed out or passed, because
the place of the oldest one is where a reader that resumes has to begin.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa

from kcl_receiver.errors import HoleFound, ReceiverError, StreamReplaced, TokenRefused
from kcl_receiver.ranges import Position, Range, StreamIdentity
from kcl_receiver.reader import chain as chains
from kcl_receiver.reader import read_rows
from kcl_receiver.reader.chain import Chain, Ref
from kcl_receiver.reader.coverage import Cut, Span
from kcl_receiver.reader.plan import DayBegan, LedgerWalk, Place
from kcl_receiver.reader.read_blocks import Blocks, Fallback
from kcl_receiver.reader.token import Limit, Token
from kcl_receiver.store.base import BlockStore
from kcl_receiver.store.entries import BlockStored, Carried, Entry, SessionStarted, ShardEnded, iter_entries
from kcl_receiver.store.ledger import read_block_footer
from kcl_receiver.store.names import writer_of
from kcl_receiver.store.parquet import SCHEMA

log = logging.getLogger(__name__)

BATCH_ROWS = 65_536
BATCH_BYTES = 16 * 2**20
ENTRIES_KEPT = 16


@dataclass(frozen=True, slots=True)
class HoleInShard:
    """A stretch of a shard that a reader could not hand out.

    Attributes:
        shard: Shard id.
        kind: `gap`: nothing is stored; `possibly trimmed`: nothing was delivered, and records may have expired unread;
            `late`: there are records, but they were stored after later ones had been handed out.
        after: The last position before it that was handed out, or None.
        through: The last position in it that is known to have been reached, or None.
        before: The first record that comes after it, or None if none is known.
        why: How it is known.
    """

    shard: str
    kind: str
    after: Position | None
    through: Position | None
    before: Position | None
    why: str

    def __str__(self) -> str:
        named = (("after", self.after), ("through", self.through), ("before", self.before))
        words = " ".join(f"{word} {position}" for word, position in named if position is not None)
        return f"{self.shard}: {self.kind} {words}: {self.why}" if words else f"{self.shard}: {self.kind}: {self.why}"


@dataclass(slots=True)
class Stats:
    """What a reader did so far.

    Attributes:
        records: Records handed out.
        batches: Batches handed out.
        holes: Holes that were reported and passed.
        expired_ranges: Ranges passed because their block was removed on purpose.
        expired_records: Records of these.
        skipped_ranges: Ranges passed without reading because nothing of them was asked for.
    """

    records: int = 0
    batches: int = 0
    holes: int = 0
    expired_ranges: int = 0
    expired_records: int = 0
    skipped_ranges: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one shard, in the order of the stream.

    Attributes:
        shard: Shard id.
        batch: The records, with the columns that were asked for.
    """

    shard: str
    batch: pa.RecordBatch
    _token: Token

    @property
    def token(self) -> str:
        """A text that lets a later reader go on just after this batch."""
        return self._token.to_text()


@dataclass(frozen=True, slots=True)
class Query:
    """What is to be read, and how; see `kcl_receiver.read.read`."""

    shards: frozenset[str] | None = None
    start: Limit = None
    end: Limit = None
    columns: tuple[str, ...] = tuple(SCHEMA.names)
    follow: bool = False
    report: Callable[[HoleInShard], None] | None = None
    hole_timeout: float | None = None
    fallback: Fallback | None = None
    check: bool = True
    stop: threading.Event | None = None
    interval: float = 1.0
    limit: int | None = None
    batch_rows: int = BATCH_ROWS
    batch_bytes: int = BATCH_BYTES
    watch_stream: bool = False
    wait: Callable[[float], bool] | None = None
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], int] = lambda: int(time.time() * 1000)


@dataclass(slots=True)
class _Source:
    block: str
    place: Place
    waiting: int = 0


class _Item(NamedTuple):
    source: int
    range: Range
    span: Span


class Reading:
    """An iterator of batches; see the module and `kcl_receiver.read.read`.

    Attributes:
        schema: That of all batches.
        stats: What was done so far.
        stream: The stream that is read; None if the store holds none yet.
    """

    def __init__(self, store: BlockStore, stream: StreamIdentity | None, query: Query, token: Token | None) -> None:
        self.stream = stream
        self.stats = Stats()
        self.schema = pa.schema([SCHEMA.field(name) for name in query.columns])
        self._store = store
        self._query = query
        self._application = store.owner()
        self._start = query.start if token is None else token.start
        self._end = query.end if token is None or token.end is None else token.end
        self._positions: dict[str, Position] = {} if token is None else dict(token.positions)
        self._shards = query.shards if query.shards is not None or token is None else _frozen(token.shards)
        if token is not None:
            self._refuse_other(token)
        since = self._start if isinstance(self._start, int) else None
        self._times = read_rows.Times(since, self._end if isinstance(self._end, int) else None)
        self._walk = LedgerWalk(store, None if token is None else token.place, since)
        self._blocks = Blocks(store, check=query.check, fallback=query.fallback, now=query.now)
        self._stop = query.stop or threading.Event()
        self._wait = query.wait or self._stop.wait
        self._chains: dict[str, Chain] = {}
        self._sources: OrderedDict[int, _Source] = OrderedDict()
        self._numbers = 0
        self._entries: OrderedDict[str, BlockStored] = OrderedDict()
        self._in_time: set[str] = set()
        ends = self._end if isinstance(self._end, dict) else {}
        self._done = {
            shard for shard, last in ends.items() if self._positions.get(shard, chains.LOWEST.position) >= last
        }
        self._blocked: dict[str, tuple[Cut, float]] = {}
        self._left = query.limit
        self._batches = self._run()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return next(self._batches)

    @property
    def token(self) -> str:
        """A text that lets a later reader go on after all that was handed out or passed so far."""
        return self._token().to_text()

    @property
    def waiting(self) -> int:
        """Number of ranges that wait for what comes before them."""
        return sum(one.waiting for one in self._chains.values())

    def close(self) -> None:
        """End the reading, and close what is open."""
        self._batches.close()
        self._blocks.close()

    def to_arrow_reader(self) -> pa.RecordBatchReader:
        """Return the batches in the form that pandas, polars, duckdb and others take."""
        return pa.RecordBatchReader.from_batches(self.schema, (one.batch for one in self))

    def _token(self) -> Token:
        oldest = next(iter(self._sources.values()), None)
        place = self._walk.place if oldest is None else oldest.place
        shards = None if self._shards is None else tuple(sorted(self._shards))
        stream = self.stream or StreamIdentity("", 0)
        return Token(self._application, stream, dict(self._positions), place, shards, self._start, self._end)

    def _refuse_other(self, token: Token) -> None:
        if token.application != self._application:
            raise TokenRefused(
                f"the token is for the store of application {token.application!r}; {self._store.url} is that of "
                f"{self._application!r}",
                "give it the store that it came from",
            )
        if self.stream is not None and token.stream.arn and token.stream != self.stream:
            raise TokenRefused(
                f"the token is for stream {token.stream}, and {self.stream} was asked for",
                "read the other stream without it",
            )
        if token.shards is not None and self._shards is not None and not self._shards <= set(token.shards):
            more = ", ".join(sorted(self._shards - set(token.shards)))
            raise TokenRefused(f"the reader that made the token did not read {more}", "read these shards without it")
        if token.end != self._query.end and not (token.end is None or self._query.end is None):
            raise TokenRefused(
                "the reading that the token is of was to end elsewhere", "go on with the same end, or none"
            )
        if self._shards is not None:
            self._positions = {shard: one for shard, one in self._positions.items() if shard in self._shards}

    # The loop

    def _run(self) -> Generator[Batch, None, None]:
        try:
            while not self._stop.is_set():
                for place, entry in self._walk.poll():
                    yield from self._take(place, entry)
                    if self._is_over():
                        return
                if not self._query.follow:
                    for shard in sorted(self._chains):
                        self._chains[shard].finish()
                        yield from self._drain(shard)
                    return
                yield from self._lose_patience()
                if self._is_over() or self._wait(self._query.interval):
                    return
        finally:
            self._blocks.close()

    def _is_over(self) -> bool:
        end, shards = self._end, self._shards
        read = isinstance(end, dict) and shards is not None and shards <= self._done
        return self._left == 0 or read or self._stop.is_set()

    def _take(self, place: Place, entry: Entry | DayBegan) -> Iterator[Batch]:
        if isinstance(entry, DayBegan):
            for one in list(self._blocks.day(entry.day).changes.blocks.values()):
                if not one.replaces:  # maintenance found it in no ledger
                    yield from self._feed(place, one)
        elif isinstance(entry, SessionStarted | ShardEnded | BlockStored):
            if entry.stream != self.stream:
                self._judge_stream(entry.stream)
            elif isinstance(entry, BlockStored):
                yield from self._take_block(place, entry)
            elif self._wants(entry.shard):
                if isinstance(entry, SessionStarted):
                    self._chain(entry.shard).session(entry)
                else:
                    self._chain(entry.shard).ended(entry.last, entry.time)
                yield from self._drain(entry.shard)

    def _judge_stream(self, found: StreamIdentity) -> None:
        if self._query.watch_stream and (self.stream is None or found.created > self.stream.created):
            if self.stream is None:
                self.stream = found
                return
            raise StreamReplaced(
                f"the store goes on with stream {found}, and {self.stream} was read so far",
                "begin again without a token: it is another stream, with other records",
            )

    def _take_block(self, place: Place, entry: BlockStored) -> Iterator[Batch]:
        day = self._blocks.day_of(entry.block)
        replaced = entry.block in day.changes.replaced
        for block in day.changes.replaced.get(entry.block, ()):
            if block not in day.taken:
                day.taken.add(block)
                yield from self._feed(place, day.changes.blocks[block])
        yield from self._feed(place, entry, replaced=replaced)

    def _feed(self, place: Place, entry: BlockStored, *, replaced: bool = False) -> Iterator[Batch]:
        if entry.stream != self.stream:
            return
        self._numbers += 1
        number = self._numbers
        source = self._sources[number] = _Source(entry.block, place, waiting=1)  # until it was drained
        self._keep(entry)
        touched = set()
        for index, one in enumerate(entry.ranges):
            if self._wants(one.shard):
                source.waiting += self._chain(one.shard).add(number, index, one, replaced=replaced)
                touched.add(one.shard)
        for shard in sorted(touched):
            yield from self._drain(shard)
        self._release(number)

    def _wants(self, shard: str) -> bool:
        return (self._shards is None or shard in self._shards) and shard not in self._done

    def _chain(self, shard: str) -> Chain:
        if shard not in self._chains:
            position = self._positions.get(shard)
            if position is not None:
                self._chains[shard] = Chain(self._release, Cut(position, 1), begun=True)
            elif isinstance(self._start, dict) and shard in self._start:
                self._chains[shard] = Chain(self._release, Cut(self._start[shard], 0))
            else:
                self._chains[shard] = Chain(self._release, adopt=isinstance(self._start, int))
        return self._chains[shard]

    def _release(self, source: int) -> None:
        one = self._sources[source]
        one.waiting -= 1
        if not one.waiting:
            del self._sources[source]

    # What a chain says

    def _drain(self, shard: str) -> Iterator[Batch]:
        chain = self._chains[shard]
        run: list[_Item] = []
        rows = size = 0
        while shard not in self._done and (step := chain.next()) is not None:
            if isinstance(step, chains.Hole):
                yield from self._hand_out(shard, run)
                run, rows, size = [], 0, 0
                self._pass_hole(shard, step)
                continue
            one = self._range(step.ref)
            span = self._until(shard, step.span)
            if self._times.since is not None and one.arrival_last >= self._times.since:
                self._in_time.add(shard)
            skipped = self._times.leaves_out(one) or one.last < span.low.position or span.low >= span.high
            full = rows + one.count > self._query.batch_rows or size + one.size > self._query.batch_bytes
            if run and (skipped or full or self._sources[run[0].source].block != self._sources[step.ref.source].block):
                yield from self._hand_out(shard, run)
                run, rows, size = [], 0, 0
            if self._left == 0:
                return
            if skipped:
                self.stats.skipped_ranges += 1
                self._move(shard, span.high.position)
                self._release(step.ref.source)
            else:
                run.append(_Item(step.ref.source, one, span))
                rows, size = rows + one.count, size + one.size
        yield from self._hand_out(shard, run)

    def _until(self, shard: str, span: Span) -> Span:
        """Return a span up to the end that was asked for."""
        end = self._end
        last = end.get(shard) if isinstance(end, dict) else None
        if last is None or span.high < Cut(last, 1):
            return span
        self._done.add(shard)
        return Span(span.low, Cut(last, 1)) if span.low < Cut(last, 1) else Span(span.low, span.low)

    def _move(self, shard: str, position: Position) -> None:
        if position > self._positions.get(shard, chains.LOWEST.position):
            self._positions[shard] = position

    def _pass_hole(self, shard: str, hole: chains.Hole) -> None:
        following = None if hole.next is None else self._range(hole.next)
        since = self._times.since
        if since is not None and shard not in self._in_time:
            # Nothing that was asked for can be in it, if all of it, or all after it, arrived before.
            if hole.time is not None and hole.time < since:
                return
            if following is not None and 0 <= following.arrival_last < since:
                return
        before = None if following is None or hole.kind == chains.LATE else following.first
        found = HoleInShard(shard, hole.kind, hole.after, hole.through, before, hole.why)
        if self._query.report is None:
            raise HoleFound(
                str(found),
                "`kcl-receiver verify` says more; if a receiver is storing it just now, read again; to go on past it, "
                "have holes reported instead of raised",
            )
        self.stats.holes += 1
        self._query.report(found)
        if hole.kind == chains.GAP and hole.through is not None:
            self._move(shard, hole.through)

    def _lose_patience(self) -> Iterator[Batch]:
        """Give up the holes at which a shard has waited for longer than the limit."""
        if self._query.hole_timeout is None:
            return
        now = self._query.clock()
        for shard in sorted(self._chains):
            chain = self._chains[shard]
            frontier, since = self._blocked.get(shard, (chain.frontier, now))
            if not chain.waiting:
                self._blocked.pop(shard, None)
            elif frontier != chain.frontier:
                self._blocked[shard] = chain.frontier, now
            elif now - since >= self._query.hole_timeout:
                self._blocked.pop(shard, None)
                chain.give_up()
                yield from self._drain(shard)
            else:
                self._blocked[shard] = frontier, since

    # Rows

    def _hand_out(self, shard: str, run: list[_Item]) -> Iterator[Batch]:
        if not run:
            return
        query = self._query
        positions = any(
            not read_rows.is_whole(one.range, one.span)
            or one.range.count > (query.batch_rows if self._left is None else min(query.batch_rows, self._left))
            or one.range.size + 40 * one.range.count > query.batch_bytes
            for one in run
        )
        arrivals = any(not self._times.takes_all(one.range) for one in run)
        columns = read_rows.columns_to_read(
            query.columns, positions=positions or self._left is not None, arrivals=arrivals
        )
        if not columns:
            columns = read_rows.POSITION_COLUMNS[1:]  # the rows are to be counted
        entry = self._entry(self._sources[run[0].source].block)
        held: list[pa.Table] = []
        items = iter(run)
        failure: ReceiverError | None = None
        found = self._blocks.rows(entry, [item.range for item in run], columns)
        while (item := next(items, None)) is not None:
            try:
                one, table = next(found)
            except ReceiverError as error:
                failure = error  # what came before is good, and goes out first
                break
            if table is None:
                self.stats.expired_ranges += 1
                self.stats.expired_records += one.count
                table = pa.schema([SCHEMA.field(name) for name in columns]).empty_table()
            elif not read_rows.is_whole(one, item.span):
                table = read_rows.trim(table, item.span)
            if arrivals and not self._times.takes_all(one):
                table = self._times.select(table)
            while table.num_rows:
                room_rows = query.batch_rows - sum(one.num_rows for one in held)
                if self._left is not None:
                    room_rows = min(room_rows, self._left - sum(one.num_rows for one in held))
                room_bytes = query.batch_bytes - sum(one.nbytes for one in held)
                if held and (table.num_rows > room_rows or table.nbytes > room_bytes):
                    yield self._batch(shard, held)
                    held = []
                    if self._left == 0:
                        return
                    continue
                piece = next(read_rows.pieces(table, room_rows, room_bytes))
                if piece.num_rows == table.num_rows:
                    break
                table = table.slice(piece.num_rows)
                self._move(shard, read_rows.position_at(piece, piece.num_rows - 1))
                yield self._batch(shard, [piece])
                if self._left == 0:
                    return
            if table.num_rows:
                held.append(table)
            self._move(shard, item.span.high.position)
            self._release(item.source)
        if held:
            yield self._batch(shard, held)
        if failure is not None:
            raise failure

    def _batch(self, shard: str, tables: list[pa.Table]) -> Batch:
        batch = read_rows.to_batch(tables, self._query.columns)
        self.stats.records += batch.num_rows
        self.stats.batches += 1
        if self._left is not None:
            self._left -= batch.num_rows
        return Batch(shard, batch, self._token())

    # Entries

    def _keep(self, entry: BlockStored) -> None:
        self._entries[entry.block] = entry
        while len(self._entries) > ENTRIES_KEPT:
            self._entries.popitem(last=False)

    def _range(self, ref: Ref) -> Range:
        return self._entry(self._sources[ref.source].block).ranges[ref.at]

    def _entry(self, block: str) -> BlockStored:
        """Return the entry of a block that was taken in; only a few are kept."""
        if block not in self._entries:
            self._keep(self._find_entry(block))
        return self._entries[block]

    def _find_entry(self, block: str) -> BlockStored:
        made = self._blocks.day_of(block).changes.blocks.get(block)
        if made is not None:
            return made
        first = writer_of(block)
        for writer in self._store.writers():  # it is recorded by its own writer or by a later one
            if writer < first:
                continue
            for entry in iter_entries(writer, self._store.ledger(writer) or b""):
                if isinstance(entry, BlockStored) and entry.block == block:
                    return entry
        footer = read_block_footer(self._store, block)
        return BlockStored(block, footer.stream, footer.ranges, footer.rows, 0, 0)


def newest_stream(store: BlockStore) -> StreamIdentity | None:
    """Return the stream that was stored last, or None if there is none: the newest of the last ledger that names any.

    Raises:
        LedgerDamaged: A ledger is damaged.
        StoreUnavailable: The store cannot be read now.
    """
    for writer in reversed(store.writers()):
        found: set[StreamIdentity] = set()
        for entry in iter_entries(writer, store.ledger(writer) or b""):
            if isinstance(entry, SessionStarted | ShardEnded | BlockStored | Carried):
                found.add(entry.stream)
        if found:
            return max(found, key=lambda one: one.created)
    last = None
    for last, _ in store.list_blocks():  # noqa: B007 - no ledger: the last block says it
        pass
    return None if last is None else read_block_footer(store, last).stream


def _frozen(shards: Sequence[str] | None) -> frozenset[str] | None:
    return None if shards is None else frozenset(shards)
