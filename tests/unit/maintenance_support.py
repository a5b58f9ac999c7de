"""Stores with many small blocks, and what a reader that believes the ledgers finds in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fake_files import FakeFiles
from ledger_index import LedgerIndex
from store_support import (
    NOW,
    OTHER_WRITER,
    STREAM,
    WRITER,
    Record,
    begin,
    columns_of,
    local_store,
    put,
    range_of,
    ranges_in,
    session_at,
)

from kcl_receiver.ids import block_day
from kcl_receiver.maintenance.compact import DayReport, Options, compact
from kcl_receiver.ranges import TRIM_HORIZON, After, Position, StreamIdentity
from kcl_receiver.store.blocks.encode import BlockRange
from kcl_receiver.store.blocks.file import read_footer
from kcl_receiver.store.ledger.entries import BlockStored
from kcl_receiver.store.ledger.transaction import load_day
from kcl_receiver.store.store import Store

HOUR = 3_600_000
DAY = "2026-11-22"
ROOT = Path("/data/store")
LATER = NOW + 2 * HOUR
SMALL = Options(target_bytes=64 * 1024)
TWO_EACH = Options(target_bytes=5_000)
"""Makes a block of each two."""

__all__ = ["OTHER_WRITER", "STREAM", "WRITER"]


def fake_store(files: FakeFiles | None = None) -> Store:
    return local_store(ROOT, files or empty_files())


def empty_files() -> FakeFiles:
    files = FakeFiles()
    files.mkdir(Path("/data"))
    files.fsync_dir(Path("/"))
    return files


def shard_name(number: int) -> str:
    return f"shardId-{number:012d}"


def records_of(shard: int, first: int, count: int, data: bytes = b"data") -> list[Record]:
    return [(n, 0, b"key-%d-%d" % (shard, n), NOW + n, data + b"-%d" % n) for n in range(first, first + count)]


def part(shard: int, first: int, count: int, *, session: str = "s1", data: bytes = b"data") -> BlockRange:
    columns = columns_of(records_of(shard, first, count, data))
    after: After = Position(first - 1) if first > 1 else TRIM_HORIZON
    return BlockRange(range_of(columns, shard=shard_name(shard), after=after, session=session), columns)


def fill(
    store: Store, blocks: Sequence[Sequence[BlockRange]], writer: str = WRITER, stream: StreamIdentity = STREAM
) -> list[BlockStored]:
    """Store blocks and record them, as one generator does."""
    ledger = begin(store, writer)
    entries = [put(store, number, *ranges, writer=writer, stream=stream) for number, ranges in enumerate(blocks, 1)]
    ledger.append([session_at(stream=stream), *entries])
    return entries


def usual(count: int = 6) -> list[list[BlockRange]]:
    """Blocks of two shards."""
    return [[part(shard, 1 + 5 * number, 5) for shard in range(2)] for number in range(count)]


def run(store: Store, options: Options = SMALL, now: int = LATER) -> list[DayReport]:
    return list(compact(store, options, now))


Found = dict[tuple[str, str, str, int, int], list[bytes]]


def counted(store: Store) -> list[str]:
    """Return the blocks that count: recorded, neither replaced nor expired."""
    index = LedgerIndex.load(store)
    others = {*index.replaced, *index.expired, *(one.block for one in index.adopted)}
    return [one for one in index.blocks() if one not in others]


def read_all(store: Store) -> Found:
    """Return each record that a reader who believes the ledgers finds, checked, as often as it finds it."""
    out: Found = {}
    index = LedgerIndex.load(store)
    for block in counted(store):
        footer = read_footer(store, block)
        assert footer.ranges == index.blocks()[block].ranges
        for one, rows in ranges_in(store, block):
            table = rows.to_pydict()
            for number, sub, data in zip(
                table["sequence_number"], table["sub_sequence_number"], table["data"], strict=True
            ):
                key = (str(footer.stream), one.shard, one.session, int(number), sub)
                out.setdefault(key, []).append(data)
    return out


def replaced_by(store: Store, block: str) -> tuple[str, ...]:
    return load_day(store, block_day(block)).replaced.get(block, ())


def present(store: Store) -> set[str]:
    return {block for block, _ in store.list_blocks()}
