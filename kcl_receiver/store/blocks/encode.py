"""A block: the records of many shards as one Parquet file, with its ranges in the footer.

docs/format.md describes the form. Ranges are wrapped as Arrow arrays without copying a record, and no block leaves here
whose ranges do not have the checksum that the processor made: whatever happened to a record on the way is found before
it is stored, and not by its reader a year later.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from kcl_receiver.errors import BlockDamaged, ConfigError
from kcl_receiver.ranges import Range, StreamIdentity
from kcl_receiver.schema import ARRIVAL, COLUMNS, DATA, SHARD, SUB_SEQUENCE
from kcl_receiver.store.blocks.arrays import MILLIS, SCHEMA, arrivals_of, variable_values, wrap
from kcl_receiver.store.blocks.footers import footer_metadata
from kcl_receiver.wire.columns import Buffer, Columns, int32s

_WRITTEN = SCHEMA.set(0, pa.field(SHARD.name, pa.dictionary(pa.int32(), pa.string()), nullable=False)).set(
    COLUMNS.index(ARRIVAL), pa.field(ARRIVAL.name, MILLIS)
)
"""Whoever reads it gets `SCHEMA`: the shard as plain text, and arrival times in microseconds."""

ROW_GROUP_BYTES = 8 * 2**20
"""Records are cut into row groups of about this many bytes before compression."""
MIN_ROW_GROUP_BYTES = 2**20
"""A last row group of fewer bytes is joined to the one before."""

SAMPLE_BYTES = 256 * 2**10
"""Of a block's data, from the middle of each of its ranges: tells whether compression pays, for some 0.5 ms a block."""
LEAST_SAMPLE_BYTES = 2**12
"""Less than this tells nothing, and costs nothing either way."""
PAYS_BELOW = 0.95
"""Data that a sample of keeps more than this of its size is stored as it is: it costs the reader less as well."""
_SAMPLE_CODEC = "zstd"

_ROW_BYTES = 16
"""Bytes of a row's two columns of fixed width."""

_COMPRESSIONS = ("zstd", "snappy", "lz4", "none")
_ZSTD_LEVELS = range(1, 23)


@dataclass(frozen=True, slots=True)
class BlockRange:
    """A range and its records."""

    range: Range
    columns: Columns


@dataclass(frozen=True, slots=True)
class EncodedBlock:
    """A block in memory.

    Attributes:
        payload: The Parquet file; a `pyarrow.Buffer`, which any buffer's user takes.
        ranges: The ranges in the order of the rows, each with its `first_row`.
        rows: Number of rows.
    """

    payload: Buffer
    ranges: tuple[Range, ...]
    rows: int

    def open_block(self, _block_id: str) -> pa.NativeFile:
        """Open it for reading at any place, as a store opens a block."""
        return pa.BufferReader(pa.py_buffer(self.payload))


def parse_compression(text: str) -> tuple[str, int | None]:
    """Return codec and level of `zstd`, `zstd:<1 to 22>`, `snappy`, `lz4` or `none`.

    Raises:
        ConfigError: It is none of these.
    """
    codec, colon, level = text.partition(":")
    if codec not in _COMPRESSIONS or (colon and (codec != "zstd" or not level.isascii() or not level.isdigit())):
        raise ConfigError(f"unknown compression {text!r}", f"one of {', '.join(_COMPRESSIONS)}, or zstd:1 to zstd:22")
    if not colon:
        return codec, None
    if int(level) not in _ZSTD_LEVELS:
        raise ConfigError(f"unknown level of compression {text!r}", "zstd:1 to zstd:22")
    return codec, int(level)


def encode_block(
    block_id: str, writer: str, stream: StreamIdentity, ranges: Sequence[BlockRange], compression: str
) -> EncodedBlock:
    """Return a block that holds some ranges, sorted by shard and first position.

    Args:
        block_id: Its id.
        writer: Id of its writer.
        stream: The stream of all ranges.
        ranges: At least one; none is empty.
        compression: See `parse_compression`.

    Raises:
        BlockDamaged: The records of a range are not those that its checksum was made of, or do not fit the rest of it.
        ConfigError: The compression is unknown.
    """
    if not ranges:
        raise ValueError("a block holds at least one range")
    ordered = sorted(ranges, key=lambda one: (one.range.shard, one.range.first, one.range.last))
    shards = sorted({one.range.shard for one in ordered})
    shard_names = pa.array(shards, pa.string())
    numbers = {shard: number for number, shard in enumerate(shards)}
    placed: list[Range] = []
    batches: list[pa.RecordBatch] = []
    row = 0
    for one in ordered:
        batches.append(_checked_batch(one, shard_names, numbers[one.range.shard]))
        placed.append(replace(one.range.with_arrivals(arrivals_of(one.columns)), first_row=row))
        row += one.columns.count
    table = pa.Table.from_batches(batches)
    sink = pa.BufferOutputStream()
    with block_writer(sink, table.schema, compression, compress_data=_compresses(table[DATA.name], compression)) as out:
        for start, stop in zip(cuts := row_group_cuts(ordered), cuts[1:], strict=False):
            out.write_table(table.slice(start, stop - start), row_group_size=stop - start)
        out.add_key_value_metadata(footer_metadata(block_id, writer, stream, placed))
    return EncodedBlock(sink.getvalue(), tuple(placed), row)


def _compresses(data: pa.ChunkedArray, compression: str) -> bool:
    """Return whether a sample of the data becomes smaller: what is compressed already is stored as it is."""
    codec, _ = parse_compression(compression)
    if codec == "none":
        return False
    parts = [values for chunk in data.chunks if (values := variable_values(chunk)).nbytes]
    share = SAMPLE_BYTES // max(len(parts), 1)
    sample = b"".join(_middle(values, share) for values in parts)
    if len(sample) < LEAST_SAMPLE_BYTES:
        return True
    return len(pa.compress(sample, codec=_SAMPLE_CODEC, asbytes=True)) < PAYS_BELOW * len(sample)


def _middle(values: memoryview, size: int) -> memoryview:
    start = max(values.nbytes - size, 0) // 2
    return values[start : start + size]


def block_writer(sink: object, schema: pa.Schema, compression: str, *, compress_data: bool = True) -> pq.ParquetWriter:
    """Return what writes a block's rows to a file; see `encode_block`.

    Args:
        sink: The file.
        schema: That of the rows; arrival times can be milliseconds.
        compression: See `parse_compression`.
        compress_data: False leaves the data as it is.

    Raises:
        ConfigError: The compression is unknown.
    """
    codec, level = parse_compression(compression)
    compressed = [name for name in schema.names if compress_data or name != DATA.name]
    return pq.ParquetWriter(
        sink,
        schema,
        compression={name: codec if name in compressed else "none" for name in schema.names},
        compression_level=None if level is None else dict.fromkeys(compressed, level),
        use_dictionary=[SHARD.name],  # the others hardly repeat, and a dictionary is tried at a cost
        write_statistics=[SHARD.name, SUB_SEQUENCE.name, ARRIVAL.name],
        coerce_timestamps="us",  # by Parquet's encoder, which costs nothing
        store_schema=False,  # readers get plain types, not ours
    )


def row_group_cuts(ranges: Sequence[BlockRange]) -> list[int]:
    """Return the rows at which row groups begin, 0 first, and after the last the number of rows."""
    cuts = [0]
    row, gathered = 0, 0
    for one in ranges:
        columns = one.columns
        offsets = [
            memoryview(column.offsets).cast("B").cast("i") for column in (columns.sequence, columns.key, columns.data)
        ]
        bytes_before = partial(_bytes_before, offsets)
        total = bytes_before(columns.count)
        taken = 0  # bytes of this range that earlier row groups hold
        while gathered + total - taken >= ROW_GROUP_BYTES:
            cut = bisect_left(range(columns.count), taken + ROW_GROUP_BYTES - gathered, key=bytes_before)
            cuts.append(row + cut)
            taken, gathered = bytes_before(cut), 0
        gathered += total - taken
        row += columns.count
    if cuts[-1] == row:
        return cuts
    if gathered < MIN_ROW_GROUP_BYTES and len(cuts) > 1:
        cuts.pop()
    return [*cuts, row]


def _bytes_before(offsets: Sequence[memoryview], row: int) -> int:
    return sum(one[row] for one in offsets) + _ROW_BYTES * row


def rows_of(one: BlockRange) -> pa.Table:
    """Return a range's records as rows with the columns of a block.

    Raises:
        BlockDamaged: They are not what the range says.
    """
    return pa.Table.from_batches([_checked_batch(one, pa.array([one.range.shard]), 0)]).cast(SCHEMA)


def _checked_batch(one: BlockRange, shard_names: pa.Array, shard: int) -> pa.RecordBatch:
    """Return a range's records as Arrow arrays over the same memory.

    Raises:
        BlockDamaged: They are not what the range says.
    """
    where = f"shard {one.range.shard} from {one.range.first} to {one.range.last}"
    count = one.columns.count
    try:
        if count != one.range.count or count < 1:
            raise ValueError(f"{count} records, not {one.range.count}")
        arrays = wrap(one.columns, one.range.checksum).arrays
        shard_indices = pa.Array.from_buffers(pa.int32(), count, [None, pa.py_buffer(int32s((shard,)) * count)])
        shards = pa.DictionaryArray.from_arrays(shard_indices, shard_names)
        batch = pa.RecordBatch.from_arrays([shards, *arrays], schema=_WRITTEN)
        if (one.columns.position(0), one.columns.position(count - 1)) != (one.range.first, one.range.last):
            raise ValueError("they begin or end elsewhere")
    except (pa.ArrowException, ValueError) as error:
        raise BlockDamaged(
            f"the records of {where} are not those that its processor sent: {error}",
            "nothing was stored or checkpointed. Memory or program at fault: restart, and report it if it comes back",
        ) from error
    return batch
