"""Makes one block out of the ranges of several: what compaction is made of.

Each range stays a range, with its records, count and checksum, and only its place in the block is another. The rule: no
range is carried whose rows do not have its checksum, and what was written is read back and checked once more before
anybody relies on it.

Memory: the new block as it is stored, the records of one *slab* (`SLAB_BYTES`, or one range if that is larger), and a
few row groups, however many blocks go in and however well their records were compressed. A slab is a run of ranges in
the order of the new block; for each slab, the row groups that hold its ranges are read. With many shards every old
block is so read once for each slab, and with few of them about once.
"""

from __future__ import annotations

import io
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq

from kcl_receiver.errors import BlockDamaged, BlockMissing
from kcl_receiver.ids import writer_of
from kcl_receiver.ranges import Range, StreamIdentity
from kcl_receiver.schema import VARIABLE
from kcl_receiver.store.blocks.arrays import SCHEMA
from kcl_receiver.store.blocks.encode import (
    MIN_ROW_GROUP_BYTES,
    ROW_GROUP_BYTES,
    EncodedBlock,
    block_writer,
)
from kcl_receiver.store.blocks.file import BlockFile
from kcl_receiver.store.blocks.footers import footer_metadata
from kcl_receiver.store.ledger.transaction import content_of
from kcl_receiver.store.store import Store

SLAB_BYTES = 128 * 2**20
"""Bytes of records, as they are in memory, that are read at a time."""

_ROW_BYTES = 16
_SEQUENCE_BYTES = 56
"""A sequence number's usual length; see docs/emulator.md."""


@dataclass(frozen=True, slots=True)
class Source:
    """A block whose ranges go into a new one.

    Attributes:
        block: Its id.
        ranges: Its ranges as the ledger has them.
    """

    block: str
    ranges: tuple[Range, ...]


def merge_blocks(
    store: Store,
    sources: Sequence[Source],
    block_id: str,
    stream: StreamIdentity,
    compression: str,
    damaged: dict[str, str],
    slab_bytes: int = SLAB_BYTES,
) -> EncodedBlock | None:
    """Return a block that holds all ranges of some blocks, sorted by shard and first position.

    A range that is in two of them is carried once.

    Args:
        store: Where the blocks are.
        sources: The blocks, all of one stream.
        block_id: The id of the new block.
        stream: The stream.
        compression: See `parse_compression`.
        damaged: Takes the id of each block that cannot be read or does not hold what the ledger says, with the reason.
        slab_bytes: See the module.

    Returns:
        The block, or None if a block was damaged; then all of them were looked at, and `damaged` names every one.

    Raises:
        StoreUnavailable: A block cannot be read now.
        ConfigError: The compression is unknown.
        BlockDamaged: What was written is not what was read: memory or library at fault. Nothing is to be stored.
    """
    placed = _placed(sources)
    sink = io.BytesIO()  # pyarrow's own grows by doubling
    with block_writer(sink, SCHEMA, compression) as out:
        groups = _RowGroups(out)
        for slab in _slabs(placed, slab_bytes):
            for rows in _read_slab(store, sources, slab, damaged):
                groups.add(rows)
            if damaged:
                break
        groups.end()
        row, ranges = 0, []
        for one, _ in placed:
            ranges.append(replace(one, first_row=row))
            row += one.count
        out.add_key_value_metadata(footer_metadata(block_id, writer_of(block_id), stream, ranges))
    if damaged:
        _find_others(store, sources, damaged)
        return None
    encoded = EncodedBlock(sink.getvalue(), tuple(ranges), row)
    with BlockFile(encoded, block_id) as file:
        file.check_footer(stream, encoded.ranges)
        file.check_rows(encoded.ranges)
    return encoded


def _placed(sources: Sequence[Source]) -> list[tuple[Range, int]]:
    """Return all ranges in the order of the new block, each with the number of its block; equal ones once."""
    every: dict[Range, tuple[Range, int]] = {}
    for number, source in enumerate(sources):
        for one in source.ranges:
            every.setdefault(content_of(one), (one, number))
    return sorted(every.values(), key=lambda pair: (pair[0].shard, pair[0].first, pair[0].last, pair[1]))


def _slabs(placed: Sequence[tuple[Range, int]], slab_bytes: int) -> Iterator[list[tuple[Range, int]]]:
    slab: list[tuple[Range, int]] = []
    gathered = 0
    for one, number in placed:
        size = one.size + one.count * (_ROW_BYTES + _SEQUENCE_BYTES)
        if slab and gathered + size > slab_bytes:
            yield slab
            slab, gathered = [], 0
        slab.append((one, number))
        gathered += size
    if slab:
        yield slab


def _read_slab(
    store: Store, sources: Sequence[Source], slab: Sequence[tuple[Range, int]], damaged: dict[str, str]
) -> list[pa.RecordBatch]:
    """Return the rows of each range of a slab, checked; of a block that is damaged, not all of them."""
    wanted: dict[int, list[int]] = {}
    for place, (_, number) in enumerate(slab):
        wanted.setdefault(number, []).append(place)
    found: list[pa.RecordBatch | None] = [None] * len(slab)
    for number, places in sorted(wanted.items()):
        block, left = sources[number].block, iter(places)
        try:
            with BlockFile(store, block, frugal=True) as file:
                for count, rows in file.rows([slab[place][0] for place in places]):
                    row = 0
                    for place in islice(left, count):
                        found[place] = rows.slice(row, slab[place][0].count)
                        row += slab[place][0].count
        except (BlockDamaged, BlockMissing) as error:
            damaged[block] = error.message
    return [rows for rows in found if rows is not None]


def _find_others(store: Store, sources: Sequence[Source], damaged: dict[str, str]) -> None:
    for source in sources:
        if source.block not in damaged:
            for slab in _slabs([(one, 0) for one in source.ranges], SLAB_BYTES):
                _read_slab(store, [source], slab, damaged)


class _RowGroups:
    """Writes rows as they come in row groups of the size that `encode_block` gives them."""

    def __init__(self, out: pq.ParquetWriter) -> None:
        self._out = out
        self._waiting: list[pa.RecordBatch] = []
        self._bytes = 0

    def add(self, rows: pa.RecordBatch) -> None:
        self._waiting.append(rows)
        self._bytes += _bytes_before(rows, rows.num_rows)
        if self._bytes >= ROW_GROUP_BYTES + MIN_ROW_GROUP_BYTES:
            self._write()

    def end(self) -> None:
        if self._waiting:
            self._write()
            self._put(self._waiting[0])
            self._waiting = []

    def _write(self) -> None:
        """Write row groups, and keep what is left in one piece: enough for a row group of its own."""
        (rest,) = pa.Table.from_batches(self._waiting).combine_chunks().to_batches()
        total = _bytes_before(rest, rest.num_rows)
        while total >= ROW_GROUP_BYTES + MIN_ROW_GROUP_BYTES:
            cut = bisect_left(range(rest.num_rows), ROW_GROUP_BYTES, key=partial(_bytes_before, rest))
            before = _bytes_before(rest, cut)
            if total - before < MIN_ROW_GROUP_BYTES:
                break
            self._put(rest.slice(0, cut))
            rest, total = rest.slice(cut), total - before
        self._waiting, self._bytes = [rest], total

    def _put(self, rows: pa.RecordBatch) -> None:
        self._out.write_table(pa.Table.from_batches([rows]), row_group_size=rows.num_rows)


def _bytes_before(rows: pa.RecordBatch, row: int) -> int:
    total = _ROW_BYTES * row
    for one in VARIABLE:
        column = rows.column(one.name)
        if len(column):
            at = memoryview(column.buffers()[1]).cast("B").cast("i")
            total += at[column.offset + row] - at[column.offset]
    return total
