"""The row groups of a block, read one at a time and in bounded memory, whatever the file claims.

A few bytes of Parquet can stand for gigabytes, and a block that was damaged or exchanged must not exhaust the memory of
the program that looks at it. The rule: no row group is decoded that claims to be larger than those written here can be,
and no more of them for a range than its bytes account for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from kcl_receiver.errors import BlockDamaged
from kcl_receiver.ranges import Range
from kcl_receiver.store.reads import DAMAGED_HINT, decoding

MAX_ROW_GROUP_BYTES = 64 * 2**20
"""Before compression. Row groups are cut at 8 MiB (`parquet.ROW_GROUP_BYTES`), and no record of Kinesis is over 10."""
SMALL_FILE_BYTES = 2**20
"""A file up to this size is read at once: reading it piece by piece costs more than the pieces that nobody wants."""
_ROW_BYTES = 512
"""A row's most beside keys and data: a shard id, a sequence number of 129 digits, numbers and offsets."""


class RowGroups:
    """See the module.

    Args:
        file: The block.
        what: What cannot be done if it is damaged, for messages.
        hint: What to do about damage.

    Attributes:
        begins: The row at which each row group begins, and last the number of rows.
        metadata: What its footer says.
        small: It was read at once.

    Raises:
        BlockDamaged: It is not a whole block.
        BlockMissing, StoreUnavailable: It cannot be read; see `reads`.
    """

    def __init__(self, file: pa.NativeFile, what: str = "its rows cannot be read", hint: str = DAMAGED_HINT) -> None:
        self._file = file
        self._what = what
        self._hint = hint
        with decoding(file, what, hint):
            size = file.size()
            self.small = size <= SMALL_FILE_BYTES
            self._parquet = pq.ParquetFile(pa.BufferReader(file.read_at(size, 0)) if self.small else file)
            self.metadata = self._parquet.metadata
            self.begins = [0]
            for group in range(self.metadata.num_row_groups):
                self.begins.append(self.begins[-1] + self.metadata.row_group(group).num_rows)

    @property
    def schema(self) -> pa.Schema:
        """The columns that it has."""
        return self._parquet.schema_arrow.remove_metadata()

    def of_rows(self, first: int, count: int) -> list[int]:
        """Return the row groups that hold some rows.

        Raises:
            BlockDamaged: There are no such rows.
        """
        end = first + count
        if first < 0 or end > self.begins[-1]:
            raise BlockDamaged(f"{self._what}: it has {self.begins[-1]} rows, and {end} were stored", self._hint)
        return [
            group
            for group, (begin, stop) in enumerate(zip(self.begins, self.begins[1:], strict=False))
            if begin < end and stop > first
        ]

    def read(self, groups: Sequence[int], columns: Sequence[str] | None = None, *, threads: bool = True) -> pa.Table:
        """Return the rows of row groups.

        Args:
            groups: Their numbers.
            columns: The columns to read; all if not given.
            threads: Decode columns at the same time, which takes more memory.

        Raises:
            BlockDamaged: They cannot be decoded, or claim to be too large.
            BlockMissing, StoreUnavailable: The file cannot be read; see `reads`.
        """
        with decoding(self._file, self._what, self._hint):
            for group in groups:
                claimed = self._claimed(group)
                if claimed > MAX_ROW_GROUP_BYTES:
                    raise BlockDamaged(
                        f"{self._what}: row group {group} claims to have {claimed:,} bytes, and none that is stored "
                        f"has over {MAX_ROW_GROUP_BYTES:,}",
                        self._hint,
                    )
            return self._parquet.read_row_groups(
                groups, columns=None if columns is None else list(columns), use_threads=threads
            )

    def check_size(self, rows: pa.Table, ranges: Iterable[Range]) -> None:
        """See that rows which were read for ranges are no more than these account for.

        Raises:
            BlockDamaged: They are.
        """
        most = sum(one.size + one.count * _ROW_BYTES for one in ranges) + 2 * MAX_ROW_GROUP_BYTES
        if rows.nbytes > most:
            raise BlockDamaged(f"{self._what}: they are larger than what was stored", self._hint)

    def _claimed(self, group: int) -> int:
        metadata = self.metadata.row_group(group)
        return sum(metadata.column(at).total_uncompressed_size for at in range(metadata.num_columns))
