"""A block that is read: the only place that knows where the rows of a range are in its file.

Rules:

- A block is damaged only if bytes of it were read and are not what was stored. A store that does not give them is
  unavailable, and a file that is gone is missing; see `stream`.
- No row group is decoded that claims to be larger than those written here can be, and no more of them for a range than
  its bytes account for. A few bytes of Parquet can stand for gigabytes, and a damaged block must not exhaust memory.
- One row group is held at a time. Rows that are handed out do not keep alive much more memory than they fill, so that a
  batch with a few rows of each of many blocks does not keep all of these blocks.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from kcl_receiver.errors import BlockDamaged, BlockMissing
from kcl_receiver.ranges import Position, Range, StreamIdentity, parse_sequence_number
from kcl_receiver.schema import COLUMNS, DATA, NAMES, POSITION_NAMES
from kcl_receiver.store.blocks.arrays import schema_of
from kcl_receiver.store.blocks.checksums import RowChecksums
from kcl_receiver.store.blocks.footers import Footer, footer_of, has_places, has_text_of
from kcl_receiver.store.blocks.stream import DAMAGED_HINT, decoding

MAX_ROW_GROUP_BYTES = 64 * 2**20
"""Before compression. Row groups are cut at 8 MiB (`encode.ROW_GROUP_BYTES`), and no record of Kinesis is over 10."""
SMALL_FILE_BYTES = 2**20
"""A file up to this size is read at once for its rows: single reads cost more than the bytes that nobody wants."""
_ROW_BYTES = 512
"""A row's most beside keys and data: a shard id, a sequence number of 129 digits, numbers and offsets."""

_COMPRESSIONS = {"UNCOMPRESSED": "none", "ZSTD": "zstd", "SNAPPY": "snappy", "LZ4": "lz4", "LZ4_RAW": "lz4"}


class Opener(Protocol):
    """What has blocks: a store, or a block in memory."""

    def open_block(self, block_id: str, /) -> pa.NativeFile:
        """Open a block for reading at any place."""


class RangeDamaged(BlockDamaged):
    """Of a block that can be read, one range is not what was stored."""


class BlockFile:
    """An open block; see the module. All but the constructor and `close` raise as `rows` does.

    Nothing but what is asked for is read: the footer alone, or the row groups of some ranges.

    Args:
        store: What has the block.
        block: Its id.
        what: What cannot be done if it is damaged, for messages.
        hint: What to do about damage.
        frugal: Spend time to hold less memory: decode in one thread, and keep rows apart from all others.

    Raises:
        BlockMissing: It is not there.
        StoreUnavailable: It cannot be read now.
    """

    def __init__(
        self, store: Opener, block: str, what: str = "", hint: str = DAMAGED_HINT, *, frugal: bool = False
    ) -> None:
        self._block = block
        self._what = what
        self._hint = hint
        self._threads = not frugal
        self._least_kept = 0.9 if frugal else 0.5
        self._file = store.open_block(block)
        self._parquet: pq.ParquetFile | None = None
        self._begins: list[int] = []
        self._footer: Footer | None = None
        self._group: tuple[int, tuple[str, ...], pa.RecordBatch | BlockDamaged] | None = None

    def __enter__(self) -> BlockFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._group = self._parquet = None
        self._file.close()

    # What it says of itself

    @property
    def footer(self) -> Footer:
        """What the block says of itself.

        Raises:
            BlockDamaged: It is not a whole block, or another one than its name says.
        """
        if self._footer is None:
            with self._decoding("it is not a whole block"):
                self._footer = footer_of(self._opened())
        if self._footer.block != self._block:
            raise BlockDamaged(
                f"the file of block {self._block} holds block {self._footer.block}", "was a file renamed? Put it back"
            )
        return self._footer

    @property
    def compression(self) -> str | None:
        """Its compression as `encode_block` takes it, without a level, which is not in the file; None if unknown."""
        self._decode(0, (DATA.name,))  # a damaged column is named here, and ends the process below
        with self._decoding("its footer cannot be read"):
            column = self._opened().metadata.row_group(0).column(COLUMNS.index(DATA))
        return _COMPRESSIONS.get(str(column.compression))

    def check_footer(self, stream: StreamIdentity, ranges: Sequence[Range], line: bytes | None = None) -> None:
        """See that the footer says what the ledger says.

        Args:
            stream: The stream of the block.
            ranges: All its ranges.
            line: The line of the ledger, if there is one. It holds the ranges as the same text as the footer, and so
                most footers need not be taken apart.

        Raises:
            BlockDamaged: It does not, or is none.
        """
        if line is not None:
            with suppress(BlockDamaged), self._decoding("it is not a whole block"):
                if has_text_of(self._opened(), self._block, stream, ranges, line):
                    return
        if self.footer.ranges != tuple(ranges) or self.footer.stream != stream:
            raise BlockDamaged("its footer does not say what the ledger says")

    def check_places(self, ranges: Sequence[Range]) -> None:
        """See that the footer says of the rows what the ledger says. Costs less than `check_footer` without a line.

        Raises:
            BlockDamaged: It does not, or is none.
        """
        if has_places(self._opened_for_rows(), self._block, ranges):
            return
        if self.footer.ranges != tuple(ranges):
            raise BlockDamaged(f"the footer of block {self._block} does not say what the ledger says", self._hint)

    # Its rows

    def rows(
        self, ranges: Sequence[Range], columns: tuple[str, ...] = NAMES, *, check: bool = True
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield the rows of the first ranges, then of those that follow, each time with the number of ranges.

        Ranges that lie end to end in one row group come together.

        Args:
            ranges: Ranges as they are in the block.
            columns: Names of columns, in the order of a block.
            check: Make the checksum of each range; `schema.CHECKED` must be among the columns.

        Raises:
            RangeDamaged: The next range is not what was stored. All before it were handed out.
            BlockDamaged: The rows cannot be decoded, are not there, or are more than was stored.
            BlockMissing: The file is not there any more.
            StoreUnavailable: The file cannot be read now.
        """
        at = 0
        while at < len(ranges):
            count, rows = self._run(ranges, at, columns)
            if check:
                yield from self._checked(rows, ranges[at : at + count])
            else:
                yield count, rows
            del rows
            at += count

    def check_rows(self, ranges: Sequence[Range]) -> None:
        """See that the rows of ranges are what was stored, by making all their checksums.

        Raises:
            BlockDamaged: They are not.
        """
        deque(self.rows(ranges), maxlen=0)  # a loop would hold rows while the next ones are decoded

    def positions(self, one: Range) -> list[Position]:
        """Return the positions of a range's records, in the order of its rows; reads the two columns of them alone."""
        ((_, rows),) = self.rows([one], POSITION_NAMES, check=False)
        with self._decoding("its rows cannot be read"):
            columns = (column.to_pylist() for column in rows.columns)
            return [Position(parse_sequence_number(sequence), sub) for sequence, sub in zip(*columns, strict=True)]

    def salvage(self, ranges: Sequence[Range]) -> Iterator[tuple[Range, pa.RecordBatch]]:
        """Yield those of some ranges that are still what was stored, with their rows, in the order of the rows.

        Where rows lie is taken from the ranges and not from the file. A row group that cannot be decoded costs its own
        ranges alone; a file whose end is gone gives nothing, since Parquet keeps there where its pages lie.
        """
        try:
            self._opened_for_rows()
        except BlockDamaged:
            return
        for one in sorted(ranges, key=lambda one: one.first_row):
            try:
                ((_, rows),) = self.rows([one])
            except BlockDamaged:
                continue
            yield one, rows

    def _checked(self, rows: pa.RecordBatch, ranges: Sequence[Range]) -> Iterator[tuple[int, pa.RecordBatch]]:
        checksums = RowChecksums(rows)
        row = 0
        for number, one in enumerate(ranges):
            fault = checksums.fault(row, one)
            if fault:
                if number:
                    yield number, rows.slice(0, row)
                raise RangeDamaged(fault, self._hint)
            row += one.count
        yield len(ranges), rows

    def _run(self, ranges: Sequence[Range], at: int, columns: tuple[str, ...]) -> tuple[int, pa.RecordBatch]:
        """Return the rows of a range, and of those after it that lie end to end with it in one row group."""
        one = ranges[at]
        groups = self._groups_of(one)
        if len(groups) > 1:
            return 1, self._joined(one, groups, columns)
        begin, end = self._begins[groups[0] : groups[0] + 2]
        row, after = one.first_row + one.count, at + 1
        while after < len(ranges) and ranges[after].first_row == row and row + ranges[after].count <= end:
            row += ranges[after].count
            after += 1
        whole = self._decoded(groups[0], columns)
        rows = whole
        if row - one.first_row < whole.num_rows:
            rows = whole.slice(one.first_row - begin, row - one.first_row)
            if rows.nbytes < self._least_kept * whole.nbytes:
                rows = _copied(rows)
        if row == end:
            self._group = None  # nothing of it is left: the memory is used again for the next one
        return after - at, rows

    def _joined(self, one: Range, groups: Sequence[int], columns: tuple[str, ...]) -> pa.RecordBatch:
        """Return the rows of a range that lies in several row groups."""
        most = one.size + one.count * _ROW_BYTES + 2 * MAX_ROW_GROUP_BYTES
        pieces: list[pa.RecordBatch] = []
        for group in groups:
            begin, end = self._begins[group : group + 2]
            low, high = max(one.first_row, begin), min(one.first_row + one.count, end)
            pieces.append(self._decoded(group, columns).slice(low - begin, high - low))
            if sum(piece.nbytes for piece in pieces) > most:
                raise self._damaged("they are larger than what was stored")
        return pa.concat_batches(pieces)

    def _groups_of(self, one: Range) -> range:
        """Return the row groups that hold a range."""
        self._opened_for_rows()
        end = one.first_row + one.count
        if one.first_row < 0 or one.count < 1 or end > self._begins[-1]:
            raise self._damaged(f"it has {self._begins[-1]} rows, and {end} were stored")
        return range(bisect_right(self._begins, one.first_row) - 1, bisect_left(self._begins, end))

    def _decoded(self, group: int, columns: tuple[str, ...]) -> pa.RecordBatch:
        """Return the rows of a row group; the last one is kept, and that it is damaged is, too."""
        if self._group is None or self._group[:2] != (group, columns):
            self._group = None  # one row group at a time
            try:
                self._group = group, columns, self._decode(group, columns)
            except BlockDamaged as error:
                self._group = group, columns, error
        found = self._group[2]
        if isinstance(found, BlockDamaged):
            raise found
        return found

    def _decode(self, group: int, columns: tuple[str, ...]) -> pa.RecordBatch:
        with self._decoding("its rows cannot be read"):
            parquet = self._opened_for_rows()
            metadata = parquet.metadata.row_group(group)
            # Not of its columns: pyarrow takes them apart where no error of theirs is caught, and the process ends.
            claimed = metadata.total_byte_size
            if claimed > MAX_ROW_GROUP_BYTES:
                raise self._damaged(
                    f"row group {group} claims to have {claimed:,} bytes, and none that is stored has over "
                    f"{MAX_ROW_GROUP_BYTES:,}"
                )
            wanted = None if columns == NAMES else list(columns)
            table = parquet.read_row_groups([group], columns=wanted, use_threads=self._threads)
            rows = batch_of(table, columns)
            if rows.num_rows != metadata.num_rows:
                raise ValueError(f"row group {group} has {rows.num_rows} rows")
        return rows

    # Its file

    def _opened(self) -> pq.ParquetFile:
        """Return the file, opened for its footer at least; to be called in `_decoding`."""
        if self._parquet is None:
            self._parquet = pq.ParquetFile(self._file)
        return self._parquet

    def _opened_for_rows(self) -> pq.ParquetFile:
        if not self._begins:
            with self._decoding("its rows cannot be read"):
                size, source = self._file.size(), self._file
                if size <= SMALL_FILE_BYTES:
                    source, self._threads = pa.BufferReader(source.read_at(size, 0)), False
                known = None if self._parquet is None else self._parquet.metadata
                self._parquet = pq.ParquetFile(source, metadata=known)
                begins = [0]
                for group in range(self._parquet.metadata.num_row_groups):
                    begins.append(begins[-1] + self._parquet.metadata.row_group(group).num_rows)
                self._begins = begins
        return self._parquet

    def _decoding(self, what: str) -> AbstractContextManager[None]:
        return decoding(self._file, self._what or what, self._hint)

    def _damaged(self, why: str) -> BlockDamaged:
        return BlockDamaged(f"{self._what or 'its rows cannot be read'}: {why}", self._hint)


def read_footer(store: Opener, block: str) -> Footer:
    """Return what a block says of itself.

    Raises:
        BlockMissing: It is not there.
        BlockDamaged: It is not a whole block, or another one than its name says.
        StoreUnavailable: It cannot be read now.
    """
    with BlockFile(store, block) as file:
        return file.footer


def salvage(store: Opener, block: str, ranges: Sequence[Range]) -> Iterator[tuple[Range, pa.RecordBatch]]:
    """Yield what `BlockFile.salvage` gives, and nothing of a block that is not there.

    Raises:
        StoreUnavailable: The file cannot be read now.
    """
    with suppress(BlockMissing), BlockFile(store, block, frugal=True) as file:
        yield from file.salvage(ranges)


def compression_of(store: Opener, block: str) -> str | None:
    """Return `BlockFile.compression`; None of a block that is damaged or not there.

    Raises:
        StoreUnavailable: The file cannot be read now.
    """
    with suppress(BlockMissing, BlockDamaged), BlockFile(store, block) as file:
        return file.compression
    return None


def check_range(expected: Range, rows: pa.Table) -> None:
    """See that rows with the columns of a block are those of a range.

    Raises:
        BlockDamaged: They are not.
    """
    if rows.num_rows != expected.count:
        where = f"shard {expected.shard} from {expected.first} to {expected.last}"
        raise BlockDamaged(f"{where} has {rows.num_rows} records, not {expected.count}", DAMAGED_HINT)
    fault = RowChecksums(batch_of(rows, NAMES)).fault(0, expected)
    if fault:
        raise BlockDamaged(fault, DAMAGED_HINT)


def batch_of(table: pa.Table, columns: tuple[str, ...]) -> pa.RecordBatch:
    """Return some of a block's columns as one batch, without copying what is in one piece.

    Raises:
        ValueError, LookupError: The table has no such columns, or of other types.
    """
    schema = schema_of(columns)
    if not table.schema.equals(schema):
        table = table.select(list(columns))
    if not table.schema.equals(schema):
        raise ValueError("its columns are not those of a block")
    batches = table.replace_schema_metadata(None).to_batches()
    if len(batches) == 1:
        return batches[0]
    return pa.concat_batches(batches) if batches else pa.RecordBatch.from_pylist([], schema=schema)


def _copied(rows: pa.RecordBatch) -> pa.RecordBatch:
    # One array alone would come back as it is.
    columns = [pa.concat_arrays([column, column.slice(0, 0)]) for column in rows.columns]
    return pa.RecordBatch.from_arrays(columns, schema=rows.schema)
