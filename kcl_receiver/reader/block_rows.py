"""An open block whose ranges are read: their rows, as many ranges at a time as lie end to end in one row group.

The rule: rows do not keep alive much more memory than they fill, so that a batch with a few rows of each of many blocks
does not keep all of these blocks.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from kcl_receiver.errors import BlockDamaged
from kcl_receiver.ranges import Range
from kcl_receiver.schema import NAMES
from kcl_receiver.store.arrays import SCHEMA
from kcl_receiver.store.base import FORMAT_VERSION, BlockStore
from kcl_receiver.store.entries import BlockStored
from kcl_receiver.store.json_codec import decode_wire
from kcl_receiver.store.parquet import FOOTER_KEY, Footer, footer_of
from kcl_receiver.store.reads import decoding
from kcl_receiver.store.row_groups import RowGroups

HINT = "`kcl-receiver recover` reads it again from Kinesis while the stream retains it; or read with a fallback"


class BlockRows:
    """See the module.

    Args:
        store: The store that has the block.
        block: Its id.

    Attributes:
        compared: Its footer was held against the ledger.

    Raises:
        BlockDamaged: It is not a whole block.
        BlockMissing, StoreUnavailable: It cannot be read; see `reads`.
    """

    def __init__(self, store: BlockStore, block: str) -> None:
        self._block = block
        self._what = f"block {block} cannot be read"
        self._file = store.open_block(block)
        try:
            self._groups = RowGroups(self._file, self._what, HINT)
        except BaseException:
            self._file.close()
            raise
        self._last: tuple[int, tuple[str, ...], pa.RecordBatch] | None = None
        self.compared = False

    def compare(self, entry: BlockStored) -> None:
        """See that the footer says of the rows what the ledger says.

        Raises:
            BlockDamaged: It does not.
        """
        if not self._is_as_recorded(entry):
            with decoding(self._file, self._what, HINT):
                footer = footer_of(self._groups.metadata)
            if footer.block != self._block or footer.ranges != entry.ranges:
                raise BlockDamaged(f"the footer of block {self._block} does not say what the ledger says", HINT)
        self.compared = True

    def _is_as_recorded(self, entry: BlockStored) -> bool:
        """Return whether the footer surely says the same, without a look at its positions. False says nothing."""
        try:
            said = decode_wire(Footer, (self._groups.metadata.metadata or {}).get(FOOTER_KEY.encode(), b""))
        except ValueError:
            return False
        return (
            (said.version, said.block) == (FORMAT_VERSION, self._block)
            and len(said.ranges) == len(entry.ranges)
            and all(map(_has_same_rows, said.ranges, entry.ranges))
            and self._groups.schema == SCHEMA
        )

    def runs(self, ranges: Sequence[Range], columns: tuple[str, ...]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield the rows of the first ranges, then of those that follow, each time with the number of ranges.

        Args:
            ranges: Ranges as they are in the block.
            columns: Names of columns, in the order of a block.

        Raises:
            BlockDamaged: The rows cannot be read.
            BlockMissing, StoreUnavailable: The file cannot be read; see `reads`.
        """
        at = 0
        while at < len(ranges):
            one = ranges[at]
            self._groups.of_rows(one.first_row, one.count)
            begins = self._groups.begins
            group = bisect_right(begins, one.first_row) - 1
            row, end = one.first_row + one.count, begins[group + 1]
            if row > end:
                yield 1, self._joined(one, columns)
                at += 1
                continue
            count = 1
            for following in ranges[at + 1 :]:
                if following.first_row != row or row + following.count > end:
                    break
                row += following.count
                count += 1
            rows = self._slice(group, columns, one.first_row, row)
            if row == end:
                self._last = None  # nothing of it is left: the memory is used again for the next one
            yield count, rows
            del rows
            at += count

    def _slice(self, group: int, columns: tuple[str, ...], low: int, high: int) -> pa.RecordBatch:
        begin = self._groups.begins[group]
        whole = self._group(group, columns)
        if high - low == whole.num_rows:
            return whole
        rows = whole.slice(low - begin, high - low)
        return rows if 2 * rows.nbytes >= whole.nbytes else _copied(rows)

    def _joined(self, one: Range, columns: tuple[str, ...]) -> pa.RecordBatch:
        """Return the rows of a range that lies in several row groups."""
        pieces: list[pa.RecordBatch] = []
        for group in self._groups.of_rows(one.first_row, one.count):
            begin, end = self._groups.begins[group : group + 2]
            low, high = max(one.first_row, begin), min(one.first_row + one.count, end)
            pieces.append(self._group(group, columns).slice(low - begin, high - low))
            if len(pieces) > 1:
                self._groups.check_size(pa.Table.from_batches(pieces), [one])
        return pa.concat_batches(pieces)

    def _group(self, group: int, columns: tuple[str, ...]) -> pa.RecordBatch:
        if self._last is not None and self._last[:2] == (group, columns):
            return self._last[2]
        self._last = None  # one row group at a time
        with decoding(self._file, self._what, HINT):
            schema = schema_of(columns)
            wanted = None if schema is SCHEMA else columns
            table = self._groups.read([group], wanted, threads=not self._groups.small)
            if not table.schema.equals(schema):
                table = table.select(list(columns))
            if not table.schema.equals(schema):
                raise ValueError("its columns are not those of a block")
            rows = record_batch(table).replace_schema_metadata(None)
            if rows.num_rows != self._groups.begins[group + 1] - self._groups.begins[group]:
                raise ValueError(f"row group {group} has {rows.num_rows} rows")
            self._last = group, columns, rows
        return rows

    def close(self) -> None:
        """Close the file."""
        self._last = None
        self._file.close()


def _has_same_rows(said: Any, one: Range) -> bool:  # noqa: ANN401 - a range's wire form
    """Return whether a range is said to have the same rows at the same place: its checksum is over their positions."""
    return bool(
        said.checksum == one.checksum
        and said.shard == one.shard
        and said.first_row == one.first_row
        and said.count == one.count
        and said.size == one.size
    )


def record_batch(table: pa.Table) -> pa.RecordBatch:
    """Return a table as one batch, without copying what is in one piece."""
    batches = table.to_batches()
    if len(batches) == 1:
        return batches[0]
    return pa.concat_batches(batches) if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def schema_of(columns: tuple[str, ...]) -> pa.Schema:
    """Return the schema of some of a block's columns."""
    return SCHEMA if columns == NAMES else pa.schema([SCHEMA.field(name) for name in columns])


def _copied(rows: pa.RecordBatch) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.concat_arrays([column]) for column in rows.columns], schema=rows.schema)
