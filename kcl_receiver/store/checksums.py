"""Checksums of ranges whose rows were read back, many ranges at a time.

A call of an Arrow kernel costs some microseconds however few rows it gets, and a range often has only a few. So lengths
and buffers are found once for all rows that were read together, and each range hashes slices of them. What is hashed is
defined by `kcl_receiver.wire.columns.checksum`.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from kcl_receiver.ranges import Range
from kcl_receiver.store.arrays import fixed_values
from kcl_receiver.wire.columns import UNKNOWN_ARRIVAL, int32s

_FEW_BYTES = 4096
"""Slices of a range with fewer bytes of data are put together first: that costs less than a call for each of them."""


class RowChecksums:
    """See the module.

    Args:
        rows: Rows with the columns of a block; the shard id may be left out, and is not looked at then.
    """

    def __init__(self, rows: pa.RecordBatch) -> None:
        arrival = rows.column("approximate_arrival_timestamp").view(pa.int64())
        if arrival.null_count:
            arrival = pc.fill_null(arrival, UNKNOWN_ARRIVAL)
        self._sequence = _Values(rows.column("sequence_number"))
        self._sub = fixed_values(rows.column("sub_sequence_number"), 8)
        self._key = _Values(rows.column("partition_key"))
        self._arrival = fixed_values(arrival, 8)
        self._data = _Values(rows.column("data"))
        self._shard = _Values(rows.column("shard_id")) if "shard_id" in rows.schema.names else None

    def fault(self, begin: int, one: Range) -> str:
        """Return how the rows from row `begin` on differ from those of a range; empty if they do not."""
        if self._shard is not None and not self._shard.are(begin, begin + one.count, one.shard.encode()):
            fault = "has rows of other shards"
        elif self.of(begin, one.count) != one.checksum:
            fault = f"does not have the checksum {one.checksum}"
        else:
            return ""
        return f"shard {one.shard} from {one.first} to {one.last} {fault}"

    def of(self, begin: int, count: int) -> str:
        """Return the checksum of the range whose rows are `count` rows from row `begin` on."""
        end = begin + count
        sequence, key, data = self._sequence, self._key, self._data
        fixed = slice(8 * begin, 8 * end)
        lengths = slice(4 * begin, 4 * end)
        parts = (
            sequence.lengths[lengths],
            sequence.values[sequence.offsets[begin] : sequence.offsets[end]],
            self._sub[fixed],
            key.lengths[lengths],
            key.values[key.offsets[begin] : key.offsets[end]],
            self._arrival[fixed],
            data.lengths[lengths],
            data.values[data.offsets[begin] : data.offsets[end]],
        )
        if len(parts[-1]) < _FEW_BYTES:
            return str(xxhash.xxh3_128_hexdigest(b"".join(parts)))
        digest = xxhash.xxh3_128()
        for part in parts:
            digest.update(part)
        return str(digest.hexdigest())


class _Values:
    """The buffers of an array of strings or bytes, which may be a slice of a larger one."""

    __slots__ = ("lengths", "offsets", "values")

    def __init__(self, array: pa.Array) -> None:
        _, offsets, values = array.buffers()
        self.lengths = fixed_values(pc.binary_length(array), 4)
        self.values = memoryview(b"" if values is None else values)
        self.offsets = memoryview(offsets).cast("B").cast("i")[array.offset :]

    def are(self, begin: int, end: int, value: bytes) -> bool:
        """Return whether each of some rows has this value."""
        count = end - begin
        lengths = bytes(self.lengths[4 * begin : 4 * end])
        values = bytes(self.values[self.offsets[begin] : self.offsets[end]])
        return lengths == int32s((len(value),)) * count and values == value * count
