"""Takes what is still good out of a damaged block, and turns rows into columns and back.

The rule: nothing is taken from a damaged file but a range whose rows have the checksum that was recorded when it was
stored, whatever the file says of itself. Where rows lie is taken from the ledger's entry and not from the file. A file
whose end is gone gives nothing: Parquet keeps there where its pages lie.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kcl_receiver.errors import BlockDamaged, BlockMissing
from kcl_receiver.ranges import Range
from kcl_receiver.schema import CHECKED, COLUMNS, DATA
from kcl_receiver.store.arrays import SCHEMA, arrays_of, fixed_values, millis_of, variable_values
from kcl_receiver.store.base import BlockStore
from kcl_receiver.store.parquet import BlockRange, check_range
from kcl_receiver.store.reads import decoding
from kcl_receiver.store.row_groups import RowGroups
from kcl_receiver.wire.columns import Buffer, Columns, VarColumn


def salvage(store: BlockStore, block: str, ranges: Sequence[Range]) -> Iterator[tuple[Range, pa.Table]]:
    """Yield those of some ranges of a block that its file still holds, with their rows; a few row groups in memory.

    Args:
        store: The store.
        block: Id of the block, which need not be there.
        ranges: Some of its ranges as the ledger has them, each with its `first_row`.

    Raises:
        StoreUnavailable: The file cannot be read now.
    """
    try:
        with store.open_block(block) as file:
            rows = _Rows(file)
            for one in sorted(ranges, key=lambda one: one.first_row):
                table = rows.of(one)
                if table is not None:
                    yield one, table
    except (BlockMissing, BlockDamaged):
        return  # damaged: its footer is none, and nothing in it can be found


class _Rows:
    """The rows of a damaged file; each row group is read once, and a broken one breaks nothing but itself."""

    def __init__(self, file: pa.NativeFile) -> None:
        self._file = file
        self._groups = RowGroups(file)
        self._kept: dict[int, pa.Table | None] = {}

    def of(self, one: Range) -> pa.Table | None:
        """Return a range's rows if they are what they should be."""
        try:
            wanted = self._groups.of_rows(one.first_row, one.count)
        except BlockDamaged:
            return None
        self._kept = {group: table for group, table in self._kept.items() if group in wanted}
        whole: list[pa.Table] = []
        try:
            for group in wanted:
                table = self._group(group)
                if table is None:
                    return None
                whole.append(table)
                self._groups.check_size(pa.concat_tables(whole), [one])
            with decoding(self._file, "its rows are none"):
                rows = pa.concat_tables(whole).slice(one.first_row - self._groups.begins[wanted[0]], one.count)
                check_range(one, rows)
        except BlockDamaged:
            return None
        return rows

    def _group(self, group: int) -> pa.Table | None:
        if group not in self._kept:
            try:
                with decoding(self._file, "its rows cannot be read"):
                    self._kept[group] = self._groups.read([group], SCHEMA.names).cast(SCHEMA)
            except BlockDamaged:
                self._kept[group] = None
        return self._kept[group]


def compression_of(store: BlockStore, block: str) -> str | None:
    """Return the compression of a block as `encode_block` takes it; None if it cannot be told.

    A level is not in the file; zstd comes back with its default one.

    Raises:
        StoreUnavailable: The file cannot be read now.
    """
    try:
        with store.open_block(block) as file, decoding(file, "its footer cannot be read"):
            codec = pq.read_metadata(file).row_group(0).column(COLUMNS.index(DATA)).compression
    except (BlockMissing, BlockDamaged):
        return None
    return {"UNCOMPRESSED": "none", "ZSTD": "zstd", "SNAPPY": "snappy", "LZ4": "lz4", "LZ4_RAW": "lz4"}.get(str(codec))


def columns_of(rows: pa.Table) -> Columns:
    """Return rows that have the columns of a block as the columns that the processor had sent."""
    parts: dict[str, Any] = {
        column.part: (_fixed if column.is_fixed else _variable)(rows, column.name) for column in CHECKED
    }
    return Columns(rows.num_rows, **parts)


def rows_of(one: BlockRange) -> pa.Table:
    """Return a range's records as rows with the columns of a block.

    Raises:
        BlockDamaged: They are not what the range says.
    """
    arrays = arrays_of(one.columns)
    shards = pa.repeat(pa.scalar(one.range.shard), one.columns.count)
    rows = pa.Table.from_arrays([shards, *arrays], names=SCHEMA.names).cast(SCHEMA)
    check_range(one.range, rows)
    return rows


def _fixed(rows: pa.Table, name: str) -> Buffer:
    chunks = rows.column(name).chunks
    return b"".join(
        fixed_values(millis_of(chunk) if pa.types.is_timestamp(chunk.type) else chunk, 8) for chunk in chunks
    )


def _variable(rows: pa.Table, name: str) -> VarColumn:
    chunks = rows.column(name).cast(pa.binary()).chunks
    lengths = pa.concat_arrays([pc.binary_length(chunk) for chunk in chunks])
    return VarColumn.joined(lengths.to_pylist(), b"".join(map(variable_values, chunks)))
