"""A block: the records of many shards as one Parquet file, with its ranges in the footer.

docs/format.md describes the form. Ranges are wrapped as Arrow arrays without copying a record, and no block leaves here
whose ranges do not have the checksum that the processor made: whatever happened to a record on the way is found before
it is stored, and not by its reader a year later.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from kcl_receiver.errors import BlockDamaged, ConfigError
from kcl_receiver.ranges import Position, Range, StreamIdentity, parse_sequence_number
from kcl_receiver.schema import ARRIVAL, CHECKED, COLUMNS, DATA, POSITION, SHARD, SUB_SEQUENCE
from kcl_receiver.store.arrays import MILLIS, SCHEMA, arrivals_of, fixed_values, millis_of, variable_values, wrap
from kcl_receiver.store.base import FORMAT_VERSION
from kcl_receiver.store.json_codec import decode, encode, read_json
from kcl_receiver.store.reads import DAMAGED_HINT, decoding
from kcl_receiver.store.row_groups import RowGroups
from kcl_receiver.wire.columns import Buffer, Columns, int32s

FOOTER_KEY = "kcl_receiver"

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


@dataclass(frozen=True, slots=True)
class Footer:
    """What a block says of itself.

    Attributes:
        version: Version of the format.
        block: Its id.
        writer: Id of its writer.
        stream: The stream that all its records are of.
        ranges: Its ranges, in the order of its rows.
    """

    version: int
    block: str
    writer: str
    stream: StreamIdentity
    ranges: tuple[Range, ...]

    @property
    def rows(self) -> int:
        """Number of its rows."""
        return sum(one.count for one in self.ranges)


class _Versioned(msgspec.Struct):
    """All that footers of any version have in common."""

    version: Any


_VERSIONS = msgspec.json.Decoder(_Versioned)


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


def footer_metadata(block_id: str, writer: str, stream: StreamIdentity, ranges: Sequence[Range]) -> dict[str, bytes]:
    """Return what a block says of itself, as its footer's metadata."""
    return {FOOTER_KEY: encode(Footer(FORMAT_VERSION, block_id, writer, stream, tuple(ranges)))}


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


def read_footer(file: pa.NativeFile) -> Footer:
    """Return what a block says of itself.

    Raises:
        BlockDamaged: The file is not a whole block.
        BlockMissing, StoreUnavailable: It cannot be read; see `reads`.
    """
    with decoding(file, "it is not a whole block"):
        return footer_of(pq.read_metadata(file))


def footer_of(metadata: pq.FileMetaData) -> Footer:
    """Return what a block says of itself, by the metadata of its file; to be called where damage is expected.

    Raises:
        ValueError, LookupError: It is not that of a whole block.
    """
    own = (metadata.metadata or {}).get(FOOTER_KEY.encode())
    if own is None:
        raise ValueError(f"its footer has no {FOOTER_KEY}")
    version = read_json(_VERSIONS, own).version
    if version != FORMAT_VERSION:
        raise ValueError(f"its format is of version {version!r}; this program knows {FORMAT_VERSION}")
    if metadata.schema.to_arrow_schema().remove_metadata() != SCHEMA:
        raise ValueError(f"its columns are not those of a block: {_difference(metadata.schema.to_arrow_schema())}")
    footer = decode(Footer, own)
    row = 0
    for one in footer.ranges:
        if one.first_row != row or one.count < 1:
            raise ValueError(f"its ranges do not follow each other at row {row}")
        row += one.count
    if row != metadata.num_rows:
        raise ValueError(f"it has {metadata.num_rows} rows, and its ranges {row}")
    return footer


def _difference(schema: pa.Schema) -> str:
    found, expected = (
        [f"{one.name} {one.type}{' null' if one.nullable else ''}" for one in each] for each in (schema, SCHEMA)
    )
    extra, missing = (", ".join(sorted({*ours} - {*others})) for ours, others in ((found, expected), (expected, found)))
    return f"{extra or 'nothing'} in place of {missing or 'nothing'}" if extra or missing else "another order"


def read_ranges(file: pa.NativeFile, footer: Footer) -> Iterator[tuple[Range, pa.Table]]:
    """Yield each range of a block with its rows, one row group in memory at a time or as many as a range needs.

    Raises:
        BlockDamaged: The rows cannot be read.
        BlockMissing, StoreUnavailable: The file cannot be read; see `reads`.
    """
    groups = RowGroups(file)
    rest = groups.schema.empty_table()
    group = 0
    for one in footer.ranges:
        while rest.num_rows < one.count:
            rest = pa.concat_tables([rest, groups.read([group])])
            groups.check_size(rest, [one])
            group += 1
        yield one, rest.slice(0, one.count)
        rest = rest.slice(one.count)


def read_positions(file: pa.NativeFile, one: Range) -> list[Position]:
    """Return the positions of a range's records, in the order of its rows; reads two columns, of its row groups alone.

    Raises:
        BlockDamaged: The rows cannot be read.
        BlockMissing, StoreUnavailable: The file cannot be read; see `reads`.
    """
    groups = RowGroups(file)
    wanted = groups.of_rows(one.first_row, one.count)
    out: list[Position] = []
    for group in wanted:
        rows = groups.read([group], [column.name for column in POSITION])
        begin = groups.begins[group]
        low, high = max(one.first_row, begin), min(one.first_row + one.count, groups.begins[group + 1])
        with decoding(file, "its rows cannot be read"):
            columns = (column.to_pylist() for column in rows.slice(low - begin, high - low).columns)
            out += [Position(parse_sequence_number(sequence), sub) for sequence, sub in zip(*columns, strict=True)]
    return out


def check_range(expected: Range, rows: pa.Table) -> None:
    """See that the rows are those of a range.

    Raises:
        BlockDamaged: They are not.
    """
    where = f"shard {expected.shard} from {expected.first} to {expected.last}"
    if rows.num_rows != expected.count:
        raise BlockDamaged(f"{where} has {rows.num_rows} records, not {expected.count}", DAMAGED_HINT)
    if not pc.all(pc.equal(rows.column(SHARD.name), expected.shard)).as_py():
        raise BlockDamaged(f"{where} has rows of other shards", DAMAGED_HINT)
    if range_checksum(rows) != expected.checksum:
        raise BlockDamaged(f"{where} does not have the checksum {expected.checksum}", DAMAGED_HINT)


def range_checksum(table_slice: pa.Table | pa.RecordBatch) -> str:
    """Return the checksum of the rows of a table with the columns of a block.

    It is that of `kcl_receiver.wire.columns.checksum`, whatever the rows are a slice of.
    """
    digest = xxhash.xxh3_128()
    for one in CHECKED:
        column = table_slice.column(one.name)
        chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        if pa.types.is_integer(column.type):
            for chunk in chunks:
                digest.update(fixed_values(chunk, 8))
        elif pa.types.is_timestamp(column.type):
            for chunk in chunks:
                digest.update(fixed_values(millis_of(chunk), 8))
        else:
            for chunk in chunks:
                digest.update(fixed_values(pc.binary_length(chunk), 4))
            for chunk in chunks:
                digest.update(variable_values(chunk))
    return str(digest.hexdigest())


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
