"""Stands in for the Parquet form, which is no part of recovery: the same checks and footer, without its cost.

A block is a line of JSON (the footer) and the buffers of its ranges. What `encode_block` refuses is refused here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any, cast

import msgspec
import pyarrow as pa

from kcl_receiver.errors import BlockDamaged
from kcl_receiver.ranges import Position, Range, StreamIdentity
from kcl_receiver.store.blocks.arrays import arrivals_of, schema_of
from kcl_receiver.store.blocks.encode import BlockRange, EncodedBlock
from kcl_receiver.store.blocks.footers import Footer
from kcl_receiver.store.json_codec import codec_of, decode, read_json
from kcl_receiver.store.store import Store
from kcl_receiver.wire import columns as wire_columns
from kcl_receiver.wire.columns import Columns, VarColumn

MAGIC = b"SIM1"
_DUMP = cast("Any", codec_of(Range).dump)

Row = tuple[Position, bytes, bytes]
"""Position, key, data."""


def encode_block(
    block_id: str, writer: str, stream: StreamIdentity, ranges: Sequence[BlockRange], compression: str
) -> EncodedBlock:
    placed: list[Range] = []
    buffers: list[bytes] = []
    lengths: list[list[int]] = []
    row = 0
    for one in sorted(ranges, key=lambda one: (one.range.shard, one.range.first, one.range.last)):
        if wire_columns.checksum(one.columns) != one.range.checksum or one.columns.count != one.range.count:
            raise BlockDamaged(f"block {block_id}: a range does not fit its checksum")
        placed.append(replace(one.range.with_arrivals(arrivals_of(one.columns)), first_row=row))
        row += one.columns.count
        parts = [bytes(memoryview(part).cast("B")) for part in one.columns.buffers()]
        lengths.append([len(part) for part in parts])
        buffers += parts
    footer = {
        "block": block_id,
        "writer": writer,
        "stream": list(stream),
        "ranges": [msgspec.to_builtins(_DUMP(one)) for one in placed],
        "lengths": lengths,
    }
    head = json.dumps(footer).encode()
    payload = MAGIC + len(head).to_bytes(4, "little") + head + b"".join(buffers) + MAGIC
    return EncodedBlock(payload, tuple(placed), row)


def check_columns(columns: Columns, expected: str) -> None:
    """See that records are those that their processor sent."""
    if wire_columns.checksum(columns) != expected:
        raise ValueError("they do not fit their checksum")


class _Head(msgspec.Struct):
    """The footer's line."""

    block: str
    writer: str
    stream: tuple[str, int]
    ranges: list[msgspec.Raw]
    lengths: list[list[int]]


_DECODER = msgspec.json.Decoder(_Head)


def _head(content: bytes) -> tuple[_Head, int]:
    if not (content.startswith(MAGIC) and content.endswith(MAGIC) and len(content) > 12):
        raise BlockDamaged("the file is not a whole block")
    end = 8 + int.from_bytes(content[4:8], "little")
    try:
        head = read_json(_DECODER, content[8:end])
    except ValueError as error:
        raise BlockDamaged("the file is not a whole block") from error
    if end + sum(map(sum, head.lengths)) + 4 != len(content):
        raise BlockDamaged("the file is not a whole block")
    return head, end


@dataclass(eq=False)
class _Whole:
    """A whole block, taken apart.

    Attributes:
        block: Its id.
        writer: Its writer's.
        stream: Its stream's name and when that was created.
        parts: Its ranges, each with its records.
        ranges: Its ranges alone.
        rows: How many records it has.
    """

    block: str
    writer: str
    stream: StreamIdentity
    parts: tuple[tuple[Range, Columns], ...]
    ranges: tuple[Range, ...]
    rows: int
    _tables: dict[tuple[str, ...], pa.RecordBatch] = field(default_factory=dict)

    def table(self, columns: tuple[str, ...]) -> pa.RecordBatch:
        """Return the shards and positions of all rows."""
        if columns not in self._tables:
            places = [(one.shard, position) for one, held in self.parts for position in _positions(held)]
            values = {
                "shard_id": [shard for shard, _ in places],
                "sequence_number": [str(position.sequence_number) for _, position in places],
                "sub_sequence_number": [position.sub_sequence_number for _, position in places],
            }
            schema = schema_of(columns)
            arrays = [pa.array(values[name], schema.field(name).type) for name in columns]
            self._tables[columns] = pa.RecordBatch.from_arrays(arrays, schema=schema)
        return self._tables[columns]


@lru_cache(1000)
def whole(content: bytes) -> _Whole:
    """Take a block apart. Watch, readers and judge see the same bytes again and again: they are taken apart once.

    Raises:
        BlockDamaged: It is not a whole block.
    """
    head, at = _head(content)
    parts: list[tuple[Range, Columns]] = []
    for raw, lengths in zip(head.ranges, head.lengths, strict=True):
        buffers = []
        for length in lengths:
            buffers.append(content[at : at + length])
            at += length
        sub, arrival, sequence_offsets, key_offsets, data_offsets, sequence, key, data = buffers
        one = decode(Range, bytes(raw))
        columns = Columns(
            one.count,
            VarColumn(sequence_offsets, sequence),
            sub,
            VarColumn(key_offsets, key),
            arrival,
            VarColumn(data_offsets, data),
        )
        parts.append((one, columns))
    ranges = tuple(one for one, _ in parts)
    rows = sum(one.count for one in ranges)
    return _Whole(head.block, head.writer, StreamIdentity(*head.stream), tuple(parts), ranges, rows)


class SimBlockFile:
    """An open block of this form, where one of Parquet is expected; see `kcl_receiver.store.blocks.file.BlockFile`.

    Attributes:
        footer: What it says of itself.
    """

    def __init__(self, store: Store, block: str, *_: object, **__: object) -> None:
        self._whole = whole(store.read_block(block))
        if self._whole.block != block:
            raise BlockDamaged(f"the file of block {block} holds block {self._whole.block}")
        self.footer = Footer(1, block, self._whole.writer, self._whole.stream, self._whole.ranges)

    def __enter__(self) -> SimBlockFile:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""

    def close(self) -> None:
        """Nothing is open."""

    def check_footer(self, stream: StreamIdentity, ranges: Sequence[Range], line: bytes | None = None) -> None:
        """See that the footer says what the ledger says."""
        del line
        if (self.footer.stream, self.footer.ranges) != (stream, tuple(ranges)):
            raise BlockDamaged("its footer does not say what the ledger says")

    def check_places(self, ranges: Sequence[Range]) -> None:
        """See that the footer says of the rows what the ledger says."""
        self.check_footer(self.footer.stream, ranges)

    def check_rows(self, ranges: Sequence[Range]) -> None:
        """See that the ranges are in it as they were stored."""
        there = dict(self._whole.parts)
        for one in ranges:
            if one not in there or wire_columns.checksum(there[one]) != one.checksum:
                raise BlockDamaged("a range is not in it as it was stored")

    def positions(self, one: Range) -> list[Position]:
        """Return the positions of a range's records."""
        for there, columns in self._whole.parts:
            if there == one:
                return _positions(columns)
        raise BlockDamaged("the range is not in the block")

    def rows(
        self, ranges: Sequence[Range], columns: tuple[str, ...], *, check: bool = True
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield the shards and positions of all ranges, one range at a time."""
        del check
        table = self._whole.table(columns)
        for one in ranges:
            if one.first_row < 0 or one.first_row + one.count > self._whole.rows:
                raise BlockDamaged("it has fewer rows")
            yield 1, table.slice(one.first_row, one.count)


def read_ranges(content: bytes) -> tuple[tuple[Range, Columns], ...]:
    """Return each range of a block with its records.

    Raises:
        BlockDamaged: It is not a whole block.
    """
    return whole(content).parts


def rows(columns: Columns) -> list[Row]:
    """Return what columns hold, without the package's own decoding."""
    return list(zip(_positions(columns), _values(columns.key), _values(columns.data), strict=True))


def _positions(columns: Columns) -> list[Position]:
    sub = memoryview(columns.sub).cast("B").cast("q")
    return list(map(Position, map(int, _values(columns.sequence)), sub))


def _values(column: VarColumn) -> list[bytes]:
    offsets, data = memoryview(column.offsets).cast("B").cast("i"), bytes(memoryview(column.values).cast("B"))
    return [data[start:stop] for start, stop in pairwise(offsets)]
