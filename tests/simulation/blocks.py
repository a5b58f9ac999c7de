"""Stands in for the Parquet form, which is no part of recovery: the same checks and footer, without its cost.

A block is a line of JSON (the footer) and the buffers of its ranges. What `encode_block` refuses is refused here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from kcl_receiver.errors import BlockDamaged
from kcl_receiver.ranges import Position, Range, StreamIdentity
from kcl_receiver.store.arrays import arrivals_of
from kcl_receiver.store.entries import BlockStored
from kcl_receiver.store.json_codec import decode, encode
from kcl_receiver.store.parquet import BlockRange, EncodedBlock, Footer
from kcl_receiver.wire import columns as wire_columns
from kcl_receiver.wire.columns import Columns, VarColumn

MAGIC = b"SIM1"

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
        "ranges": [json.loads(encode(one)) for one in placed],
        "lengths": lengths,
    }
    head = json.dumps(footer).encode()
    payload = MAGIC + len(head).to_bytes(4, "little") + head + b"".join(buffers) + MAGIC
    return EncodedBlock(payload, tuple(placed), row)


def check_columns(columns: Columns, expected: str) -> None:
    """See that records are those that their processor sent."""
    if wire_columns.checksum(columns) != expected:
        raise ValueError("they do not fit their checksum")


def _head(content: bytes) -> tuple[dict[str, Any], int]:
    if not (content.startswith(MAGIC) and content.endswith(MAGIC) and len(content) > 12):
        raise BlockDamaged("the file is not a whole block")
    end = 8 + int.from_bytes(content[4:8], "little")
    try:
        head = json.loads(content[8:end])
    except ValueError as error:
        raise BlockDamaged("the file is not a whole block") from error
    if end + sum(map(sum, head["lengths"])) + 4 != len(content):
        raise BlockDamaged("the file is not a whole block")
    return head, end


def read_footer(file: Any) -> Footer:  # noqa: ANN401 - a pyarrow file
    head, _ = _head(file.read())
    ranges = tuple(decode(Range, json.dumps(one).encode()) for one in head["ranges"])
    stream = StreamIdentity(head["stream"][0], head["stream"][1])
    return Footer(1, head["block"], head["writer"], stream, ranges)


def footer_equals(file: Any, entry: BlockStored, line: bytes) -> bool:  # noqa: ANN401
    """The short cut is left out."""
    del file, entry, line
    return False


def read_positions(file: Any, one: Range) -> list[Position]:  # noqa: ANN401
    """Return the positions of a range's records.

    Raises:
        BlockDamaged: The block does not hold it.
    """
    for there, columns in read_ranges(file.read()):
        if there == one:
            return [row[0] for row in rows(columns)]
    raise BlockDamaged("the range is not in the block")


def check_block(file: Any, ranges: Sequence[Range]) -> None:  # noqa: ANN401
    """See that a block holds some ranges, whole.

    Raises:
        BlockDamaged: It does not.
    """
    there = dict(read_ranges(file.read()))
    for one in ranges:
        if one not in there or wire_columns.checksum(there[one]) != one.checksum:
            raise BlockDamaged("a range is not in it as it was stored")


def read_ranges(content: bytes) -> Iterator[tuple[Range, Columns]]:
    """Yield each range of a block with its records.

    Raises:
        BlockDamaged: It is not a whole block.
    """
    head, at = _head(content)
    for raw, lengths in zip(head["ranges"], head["lengths"], strict=True):
        parts = []
        for length in lengths:
            parts.append(content[at : at + length])
            at += length
        sub, arrival, sequence_offsets, key_offsets, data_offsets, sequence, key, data = parts
        one = decode(Range, json.dumps(raw).encode())
        yield (
            one,
            Columns(
                one.count,
                VarColumn(sequence_offsets, sequence),
                sub,
                VarColumn(key_offsets, key),
                arrival,
                VarColumn(data_offsets, data),
            ),
        )


def rows(columns: Columns) -> list[Row]:
    """Return what columns hold, without the package's own decoding."""
    sub = memoryview(columns.sub).cast("B").cast("q")
    positions = [Position(int(one), number) for one, number in zip(_values(columns.sequence), sub, strict=True)]
    return list(zip(positions, _values(columns.key), _values(columns.data), strict=True))


def _values(column: VarColumn) -> list[bytes]:
    offsets, data = memoryview(column.offsets).cast("B").cast("i"), bytes(memoryview(column.values).cast("B"))
    return [data[start:stop] for start, stop in pairwise(offsets)]
