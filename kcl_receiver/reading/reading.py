"""Reads a store: walks the ledger, lets a chain per shard say what comes next, and fetches it.

What is kept in memory: the ledgers that are being read, what maintenance did on a few days, a packed reference for each
range that waits for what comes before it, and the rows of a batch. None of it grows with the store's age.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator, Iterator, Sequence
from itertools import groupby

import pyarrow as pa

from kcl_receiver import horizon
from kcl_receiver.errors import HoleFound, StreamReplaced
from kcl_receiver.proof import chain as chains
from kcl_receiver.proof.chain import Chain
from kcl_receiver.proof.coverage import Cut, Span, span_of
from kcl_receiver.proof.links import see_times
from kcl_receiver.ranges import Position, Range, StreamIdentity
from kcl_receiver.reading import rows as read_rows
from kcl_receiver.reading.batcher import Batcher, Gathered, Item
from kcl_receiver.reading.blocks import Blocks
from kcl_receiver.reading.query import Batch, HoleInShard, Query, Stats
from kcl_receiver.reading.sources import Sources
from kcl_receiver.reading.token import Token
from kcl_receiver.schema import NAMES
from kcl_receiver.store.blocks.arrays import schema_of
from kcl_receiver.store.ledger.entries import BlockStored, Entry, MarksTaken, SessionStarted, ShardEnded
from kcl_receiver.store.ledger.place import Place
from kcl_receiver.store.ledger.tailing import DayBegan, LedgerWalk
from kcl_receiver.store.store import Store

log = logging.getLogger(__name__)


class Reading:
    """An iterator of batches; see the module and `kcl_receiver.read`.

    Attributes:
        schema: That of all batches.
        stats: What was done so far.
        stream: The stream that is read; None if the store holds none yet.
    """

    def __init__(self, store: Store, stream: StreamIdentity | None, query: Query, token: Token | None) -> None:
        self.stream = stream
        self.stats = Stats()
        self.schema = schema_of(query.columns)
        self._store = store
        self._query = query
        self._application = store.owner()
        self._start = query.start if token is None else token.start
        self._end = query.end if token is None or token.end is None else token.end
        self._positions: dict[str, Position] = {}
        self._shards = query.shards if query.shards is not None or token is None else _frozen(token.shards)
        if token is not None:
            token.require(self._application, store.url, stream, self._shards, query.end)
            asked = self._shards
            self._positions = {one: at for one, at in token.positions.items() if asked is None or one in asked}
        since = self._start if isinstance(self._start, int) else None
        self._times = read_rows.Times(since, self._end if isinstance(self._end, int) else None)
        self._batcher = Batcher(query, self._times)
        self._items: list[Item] = []
        self._columns = read_rows.columns_to_read(query.columns, positions=False, arrivals=False)
        self._walk = LedgerWalk(store, *((None, since) if token is None else (token.place, since, token.maintained)))
        self._blocks = Blocks(store, check=query.check, fallback=query.fallback, now=query.now)
        self._stop = query.stop or threading.Event()
        self._wait = query.wait or self._stop.wait
        self._chains: dict[str, Chain] = {}
        self._known = horizon.Times()
        self._sources = Sources(store, self._blocks)
        self._in_time: set[str] = set()
        ends = self._end if isinstance(self._end, dict) else {}
        self._done = {
            shard for shard, last in ends.items() if self._positions.get(shard, chains.LOWEST.position) >= last
        }
        self._blocked: dict[str, tuple[Cut, float]] = {}
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
        place = self._sources.oldest() or self._walk.place
        maintained = self._sources.maintained(self._walk.maintained)
        shards = None if self._shards is None else tuple(sorted(self._shards))
        stream = self.stream or StreamIdentity("", 0)
        return Token(
            self._application, stream, dict(self._positions), place, shards, self._start, self._end, maintained
        )

    # The loop

    def _run(self) -> Generator[Batch, None, None]:
        try:
            yield from self._read()
        except Exception:
            yield from self._flush()  # what came before is good, and goes out first
            raise
        else:
            yield from self._flush()
        finally:
            self._blocks.close()

    def _read(self) -> Iterator[Batch]:
        while not self._stop.is_set():
            if self._application is None:  # nobody had stored anything when reading began
                self._application = self._store.owner()
            for place, entry in self._walk.poll():
                yield from self._take(place, entry)
                if self._is_over():
                    return
            if not self._query.follow:
                for shard in sorted(self._chains):
                    self._chains[shard].finish()
                    yield from self._drain(shard)
                yield from self._hand_out()
                return
            yield from self._lose_patience()
            yield from self._hand_out()
            yield from self._flush()  # a batch that is not full does not wait for more
            if self._is_over() or self._wait(self._query.interval):
                return

    def _is_over(self) -> bool:
        end, shards = self._end, self._shards
        read = isinstance(end, dict) and shards is not None and shards <= self._done
        return self._batcher.left == 0 or read or self._stop.is_set()

    def _take(self, place: Place, entry: Entry | DayBegan) -> Iterator[Batch]:
        if isinstance(entry, DayBegan):
            yield from self._take_day(place, entry)
        elif isinstance(entry, MarksTaken):
            if entry.stream == self.stream:
                see_times(self._known, entry)
                for mark in entry.marks:
                    if self._wants(mark.shard):
                        self._chain(mark.shard).mark(mark, entry.time)
        elif isinstance(entry, SessionStarted | ShardEnded | BlockStored):
            if entry.stream != self.stream:
                self._judge_stream(entry.stream)
            elif isinstance(entry, BlockStored):
                yield from self._take_block(place, entry)
            elif self._wants(entry.shard):
                if isinstance(entry, SessionStarted):
                    self._known.retention.see(entry.time, entry.retention_hours)
                    self._chain(entry.shard).session(entry)
                else:
                    self._chain(entry.shard).ended(entry.last, entry.time)
                yield from self._drain(entry.shard)
                yield from self._hand_out()

    def _take_day(self, place: Place, began: DayBegan) -> Iterator[Batch]:
        """Take in blocks of a day that no line leads to: those that were in no ledger.

        Where lines are lost, also those that stand in for others: the lines of these may be among the lost ones.
        """
        day = self._blocks.day_again(began.day)
        lost = bool(day.changes.acknowledged)
        for block, one in list(day.changes.blocks.items()):
            wanted = (lost and block not in day.changes.replaced) if one.replaces else True
            if not wanted or block in day.taken:
                continue
            if (found := self._blocks.made(block)) is not None:
                day.taken.add(block)
                yield from self._feed(place, found, repaired=began.repaired)

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
                if (made := self._blocks.made(block)) is not None:
                    yield from self._feed(place, made)
        yield from self._feed(place, entry, replaced=replaced)

    def _feed(self, place: Place, entry: BlockStored, *, replaced: bool = False, repaired: int = 0) -> Iterator[Batch]:
        if entry.stream != self.stream:
            return
        number = self._sources.add(place, entry, repaired)  # it is needed until it was drained
        touched = set()
        simple = self._end is None and self._start is None
        for index, one in enumerate(entry.ranges):
            if not self._wants(one.shard):
                continue
            chain = self._chains.get(one.shard) or self._chain(one.shard)
            if chain.follow(one):
                self._sources.need(number)
                if simple:
                    self._items.append(Item(number, one, one.last))
                else:
                    self._plan(number, one, span_of(one))
                continue
            if chain.add(number, index, one, replaced=replaced):
                self._sources.need(number)
            touched.add(one.shard)
        for shard in sorted(touched):
            yield from self._drain(shard)
        yield from self._hand_out()
        self._sources.release(number)

    def _wants(self, shard: str) -> bool:
        return (self._shards is None or shard in self._shards) and shard not in self._done

    def _chain(self, shard: str) -> Chain:
        if shard not in self._chains:
            position = self._positions.get(shard)
            if position is not None:
                self._chains[shard] = Chain(self._sources.release, Cut(position, 1), begun=True, times=self._known)
            elif isinstance(self._start, dict) and shard in self._start:
                self._chains[shard] = Chain(self._sources.release, Cut(self._start[shard], 0), times=self._known)
            else:
                adopts = isinstance(self._start, int)
                self._chains[shard] = Chain(self._sources.release, adopt=adopts, times=self._known)
        return self._chains[shard]

    # What a chain says

    def _drain(self, shard: str) -> Iterator[Batch]:
        """Plan what comes next of a shard; what is of another block than what was planned before goes out first."""
        chain = self._chains[shard]
        while shard not in self._done and (step := chain.next()) is not None:
            if isinstance(step, chains.Hole):
                yield from self._hand_out()
                yield from self._flush()
                if self._batcher.left == 0:
                    return
                self._pass_hole(shard, step)
                continue
            source = step.ref.source
            if self._items and self._sources.block(self._items[0].source) != self._sources.block(source):
                yield from self._hand_out()
            if self._batcher.left == 0:
                return
            self._plan(source, self._sources.range(step.ref), step.span)

    def _plan(self, source: int, one: Range, span: Span) -> None:
        """Take in what comes next: the part of a range that lies in a span."""
        shard = one.shard
        span = self._until(shard, span)
        if self._times.since is not None and one.arrivals.newest >= self._times.since:
            self._in_time.add(shard)
        through = span.high.position
        if self._times.leaves_out(one) or one.last < span.low.position or span.low >= span.high:
            self._items.append(Item(source, one, through, left_out=True))
            return
        part = None if read_rows.is_whole(one, span) else span
        in_time = self._times.takes_all(one)
        self._items.append(Item(source, one, through, part is None and in_time, part, in_time))

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
        following = None if hole.next is None else self._sources.range(hole.next)
        since = self._times.since
        if since is not None and shard not in self._in_time:
            # Nothing that was asked for can be in it, if all of it, or all after it, arrived before.
            if hole.time is not None and hole.time < since:
                return
            if following is not None and following.arrivals.all_before(since):
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

    def _hand_out(self) -> Iterator[Batch]:
        """Read the rows of what is planned, all of one block, and hand out what is full."""
        planned, self._items = self._items, []
        for left_out, group in groupby(planned, key=lambda item: item.left_out):
            items = list(group)
            if left_out:
                self.stats.skipped_ranges += len(items)
                self._batcher.move(items)
            else:
                yield from self._rows_of(items)
                if self._batcher.left == 0:
                    return
        if self._batcher.is_crowded:
            yield from self._flush()

    def _rows_of(self, items: list[Item]) -> Iterator[Batch]:
        query = self._query
        columns = self._columns
        if columns != NAMES:
            positions = query.limit is not None or any(
                item.span is not None
                or item.range.count > query.batch_rows
                or item.range.size + 40 * item.range.count > query.batch_bytes
                for item in items
            )
            arrivals = not all(item.in_time for item in items)
            columns = read_rows.columns_to_read(columns, positions=positions, arrivals=arrivals)
        at = 0
        entry = self._sources.entry(items[0].source)
        for count, rows in self._blocks.rows(entry, [item.range for item in items], columns):
            some = items[at : at + count]
            at += count
            if rows is None:
                self.stats.expired_ranges += count
                self.stats.expired_records += sum(item.range.count for item in some)
                self._batcher.move(some)
                continue
            for ready in self._batcher.add(some, rows):
                yield from self._batches_of(ready)
            if self._batcher.left == 0:
                return

    def _flush(self) -> Iterator[Batch]:
        yield from self._batches_of(self._batcher.flush())

    def _batches_of(self, ready: Gathered) -> Iterator[Batch]:
        for shard, position in ready.positions.items():
            self._move(shard, position)
        for source in ready.sources:
            self._sources.release(source)
        if ready.rows is not None:
            self.stats.records += ready.rows.num_rows
            self.stats.batches += 1
            yield Batch(ready.shards, ready.rows, self._token())


def _frozen(shards: Sequence[str] | None) -> frozenset[str] | None:
    return None if shards is None else frozenset(shards)
