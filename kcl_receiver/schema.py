"""The six columns of a record: their names, types and orders, each written once and here.

Blocks, readers, checksums and the frames between processor and generator take them from here, and docs/format.md is
tested against it. The rule: nothing else lists columns. This module needs no Arrow, because processors do without it.
"""

from __future__ import annotations

from typing import NamedTuple


class Column(NamedTuple):
    """One column of a block.

    Attributes:
        name: Its name in Parquet, and for readers.
        type: Arrow's name of its type there.
        part: Its attribute of `kcl_receiver.wire.columns.Columns`; empty for the shard, which a batch has only one of.
        nullable: Whether it can be null.
    """

    name: str
    type: str
    part: str
    nullable: bool = False

    @property
    def is_fixed(self) -> bool:
        """Whether each value takes 8 bytes; else values differ in length."""
        return self.type not in {"string", "binary"}


SHARD = Column("shard_id", "string", "")
SEQUENCE = Column("sequence_number", "string", "sequence")
SUB_SEQUENCE = Column("sub_sequence_number", "int64", "sub")
KEY = Column("partition_key", "string", "key")
ARRIVAL = Column("approximate_arrival_timestamp", "timestamp[us, tz=UTC]", "arrival", nullable=True)
"""Whole milliseconds, as Kinesis gives them. Engines such as Spark keep statistics in microseconds and lose rows by
coarser ones."""
DATA = Column("data", "binary", "data")

COLUMNS = (SHARD, SEQUENCE, SUB_SEQUENCE, KEY, ARRIVAL, DATA)
"""In the order of a block."""
NAMES = tuple(column.name for column in COLUMNS)

CHECKED = (SEQUENCE, SUB_SEQUENCE, KEY, ARRIVAL, DATA)
"""What a range's checksum is over, in its order."""
CHECKED_NAMES = tuple(column.name for column in CHECKED)

FIXED = tuple(column for column in CHECKED if column.is_fixed)
VARIABLE = tuple(column for column in CHECKED if not column.is_fixed)
"""A frame carries the columns of fixed width, then the offsets of the others, then their values."""

POSITION = (SEQUENCE, SUB_SEQUENCE)
"""What makes a record's position."""
POSITION_NAMES = tuple(column.name for column in POSITION)
