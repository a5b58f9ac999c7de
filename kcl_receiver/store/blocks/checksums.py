"""Checksums of ranges whose rows were read back, many ranges at a time.

A call of an Arrow kernel costs some microseconds however few rows it gets, and a range often has only a few. So lengths
and buffers are found once for all rows that were read together, and each range hashes slices of them. What is hashed is
defined by `kcl_receiver.wire.columns.checksum`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from kcl_receiver.ranges import Range
from kcl_receiver.schema import CHECKED, SHARD
from kcl_receiver.store.blocks.arrays import fixed_values, millis_of
from kcl_receiver.wire.columns import int32s

_FEW_BYTES = 4096
"""Slices of a range with fewer bytes of data are put together first: that costs less than a call for each of them."""

_Part = tuple[memoryview, int, memoryview | None]
"""A buffer, the bytes that each row has of it, and, where that differs, where each row begins in it."""


class RowChecksums:
    """See the module.

    Args:
        rows: Rows with the columns of a block; the shard id may be left out, and is not looked at then.
    """

    def __init__(self, rows: pa.RecordBatch) -> None:
        self._parts = [part for column in CHECKED for part in _parts(rows.column(column.name))]
        self._shard = list(_parts(rows.column(SHARD.name))) if SHARD.name in rows.schema.names else None

    def fault(self, begin: int, one: Range) -> str:
        """Return how the rows from row `begin` on differ from those of a range; empty if they do not."""
        if self._shard is not None and not _are(self._shard, begin, one.count, one.shard.encode()):
            fault = "has rows of other shards"
        elif self.of(begin, one.count) != one.checksum:
            fault = f"does not have the checksum {one.checksum}"
        else:
            return ""
        return f"shard {one.shard} from {one.first} to {one.last} {fault}"

    def of(self, begin: int, count: int) -> str:
        """Return the checksum of the range whose rows are `count` rows from row `begin` on."""
        parts = _slices(self._parts, begin, count)
        if len(parts[-1]) < _FEW_BYTES:
            return str(xxhash.xxh3_128_hexdigest(b"".join(parts)))
        digest = xxhash.xxh3_128()
        for part in parts:
            digest.update(part)
        return str(digest.hexdigest())


def _slices(parts: Sequence[_Part], begin: int, count: int) -> list[memoryview]:
    end = begin + count
    return [
        buffer[width * begin : width * end] if offsets is None else buffer[offsets[begin] : offsets[end]]
        for buffer, width, offsets in parts
    ]


def _are(parts: Sequence[_Part], begin: int, count: int, value: bytes) -> bool:
    """Return whether each of some rows of a column of strings has this value."""
    lengths, values = _slices(parts, begin, count)
    return bytes(lengths) == int32s((len(value),)) * count and bytes(values) == value * count


def _parts(array: pa.Array) -> Iterator[_Part]:
    """Yield the buffers of an array that are hashed; it may be a slice of a larger one."""
    if pa.types.is_timestamp(array.type):
        array = millis_of(array)
    if pa.types.is_integer(array.type):
        yield fixed_values(array, 8), 8, None
        return
    _, offsets, values = array.buffers()
    yield fixed_values(pc.binary_length(array), 4), 4, None
    yield memoryview(b"" if values is None else values), 0, memoryview(offsets).cast("B").cast("i")[array.offset :]
