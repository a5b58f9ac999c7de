"""A store and the stream that its blocks came from, and damage of every kind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from ledger_index import LedgerIndex
from places import Kept, kept_block
from recovery_support import (
    BASE,
    STREAM,
    FakeKinesis,
    FakeShard,
    Put,
    aggregated,
    columns_of,
    plain,
    range_of,
    users_of,
)
from store_support import NOW, WRITER, begin, put, session_at

from kcl_receiver.audit.verify import Report, damage, verify_store
from kcl_receiver.kinesis.range_fetcher import RangeFetcher
from kcl_receiver.kinesis.rate_limit import Limits
from kcl_receiver.proof.coverage import select
from kcl_receiver.ranges import Position, Range, StreamIdentity
from kcl_receiver.recovery.restore import Events, NotRestored, Restorer, Source, Summary
from kcl_receiver.store.blocks.encode import BlockRange
from kcl_receiver.store.ledger.entries import BlockStored
from kcl_receiver.store.ledger.writer import LedgerWriter
from kcl_receiver.store.store import Store

SHARDS = ("shardId-000000000000", "shardId-000000000001")
FAST = Limits(calls=10_000.0, bytes=1e9)
RANGE = 5
"""Kinesis records of a range."""


def puts_of(shard: int, count: int) -> list[Put]:
    """Return plain records and aggregates in turn, with data that takes room in a file."""
    made = []
    for number in range(count):
        place = 10_000 * shard + 7 * number
        data = bytes([(number * 37 + shard + step * step) % 251 for step in range(300)])
        made.append(aggregated(place, data, data[::-1], b"") if number % 3 == 1 else plain(place, data))
    return made


@dataclass
class Told(Events):
    """Remembers what it is told; `committing` is called after each commit."""

    lost: list[NotRestored] = field(default_factory=list)
    commits: int = 0
    committing: Callable[[], None] = lambda: None

    def not_restored(self, one: NotRestored) -> None:
        self.lost.append(one)

    def committed(self, summary: Summary) -> None:
        self.commits += 1
        self.committing()


class Lake:
    """Blocks of two ranges of each of two shards, in the order of the stream."""

    def __init__(self, store: Store, blocks: int = 6) -> None:
        self.store = store
        self.store.claim("landing")
        self.puts = {shard: puts_of(number, 2 * RANGE * blocks) for number, shard in enumerate(SHARDS)}
        self.kinesis = FakeKinesis({shard: FakeShard(puts) for shard, puts in self.puts.items()})
        self.ledger: LedgerWriter = begin(self.store, WRITER)
        self.ledger.append([session_at(shard=shard, stream=STREAM) for shard in SHARDS])
        self.entries: list[BlockStored] = []
        self.told = Told()
        self.stop = threading.Event()
        after: dict[str, Position | str] = dict.fromkeys(SHARDS, "TRIM_HORIZON")
        for number in range(1, blocks + 1):
            ranges = []
            for shard in SHARDS:
                for half in (0, 1):
                    start = (2 * (number - 1) + half) * RANGE
                    users = users_of(self.puts[shard][start : start + RANGE])
                    one = replace(range_of(users, shard), after=after[shard], session="s1")
                    one = replace(one, whole=one.last)
                    after[shard] = one.last
                    ranges.append(BlockRange(one, columns_of(users)))
            self.entries.append(self.put(number, ranges))
        self.ledger.append(self.entries)

    def put(self, number: int, ranges: Sequence[BlockRange]) -> BlockStored:
        return put(self.store, number, *ranges, stream=STREAM)

    def kept(self, number: int) -> Kept:
        return kept_block(self.store, self.entries[number].block)

    def delete(self, *numbers: int) -> None:
        for number in numbers:
            self.kept(number).remove()

    def flip(self, number: int, one: int) -> None:
        """Change a byte of the data of a range, by where its bytes lie in the file."""
        kept = self.kept(number)
        content = kept.read()
        wanted = self.entries[number].ranges[one]
        put = next(put for put in self.puts[wanted.shard] if put.sequence == wanted.first.sequence_number)
        place = content.find(put.users[0][1][:8])
        assert place > 0
        kept.flip(place, 0x55)

    def truncate(self, number: int) -> None:
        self.kept(number).write(self.kept(number).read()[:-20])

    def alter(self, number: int) -> None:
        """Let a file say something else that is as long: it holds all of its records."""
        content = self.kept(number).read()
        assert b'"session":"s1"' in content
        self.kept(number).write(content.replace(b'"session":"s1"', b'"session":"s9"', 1))

    def source(self, stream: StreamIdentity) -> Source:
        return Source(RangeFetcher(self.kinesis, limits=FAST, workers=2, stop=self.stop, patience=0.5), {})

    def restorer(self, **more: Any) -> Restorer:  # noqa: ANN401
        return Restorer(
            self.store,
            more.pop("source", self.source),
            lambda: NOW + 5000,
            **{"stop": self.stop, "events": self.told, **more},
        )

    def recover(self, **more: Any) -> Summary:  # noqa: ANN401
        self.store.hold_maintenance()
        return self.restorer(**more).run(damage(self.store, deep=True))

    def verify(self) -> Report:
        return verify_store(self.store, deep=True)

    def blocks(self) -> list[str]:
        return [block for block, _ in self.store.list_blocks()]

    def rows(self) -> dict[str, list[tuple[int, int, str, bytes]]]:
        """Return the records that count, read by Parquet alone; ranges are taken from the index."""
        index = LedgerIndex.load(self.store)
        present = set(self.blocks()).difference(one.block for one in damage(self.store, deep=True))
        found: dict[str, list[tuple[int, int, str, bytes]]] = {}
        for shard in SHARDS:
            ranges = [
                (one, block)
                for one, block in index.ranges(STREAM, shard)
                if block in present and block not in index.replaced
            ]
            found[shard] = [row for one in select(ranges) if one.parts for row in self._rows_of(one.range, one.block)]
        return found

    def _rows_of(self, one: Range, block: str) -> Iterator[tuple[int, int, str, bytes]]:
        table = pq.read_table(pa.BufferReader(self.store.read_block(block))).slice(one.first_row, one.count)
        for row in table.to_pylist():
            yield int(row["sequence_number"]), row["sub_sequence_number"], row["partition_key"], row["data"]

    def expected(self) -> dict[str, list[tuple[int, int, str, bytes]]]:
        return {
            shard: [(sequence, sub, key, data) for sequence, sub, _, key, data in users_of(puts)]
            for shard, puts in self.puts.items()
        }

    def trim(self, shard: str, through: Put) -> None:
        self.kinesis.shards[shard].trimmed = through.sequence + 1


def ranges_of(lost: Iterable[NotRestored]) -> set[tuple[str, Position]]:
    return {(one.range.shard, one.range.first) for one in lost}


__all__ = ["BASE", "SHARDS", "Lake", "Told", "ranges_of"]
