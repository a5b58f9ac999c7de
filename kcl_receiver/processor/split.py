"""Cuts what KCL delivered into batches that fit the generator's limits.

A batch is stored wholly in one block or not at all; what is too large for that is split first, and each part is then a
batch of its own. A checkpoint is made only where a Kinesis record ends, so each batch knows the last such place in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kcl_receiver.ranges import After, Position
from kcl_receiver.wire.columns import Columns

BYTES_PER_RECORD = 28
"""What a record costs beside its values: two int64 and three int32 offsets."""


@dataclass(frozen=True, slots=True)
class Part:
    """One batch to be.

    Attributes:
        after: What its first record follows.
        whole: Last position in it that ends its Kinesis record, or None.
    """

    columns: Columns
    after: After
    first: Position
    last: Position
    whole: Position | None


def split(columns: Columns, after: After, limit: int) -> Iterator[Part]:
    """Yield the records as parts of at most `limit` bytes of columns, or of one record where that is larger."""
    if columns.memory <= limit:
        last = columns.position(columns.count - 1)
        yield Part(columns, after, columns.position(0), last, last)
        return
    start = 0
    while start < columns.count:
        stop = _stop(columns, start, limit)
        part = columns.slice(start, stop)
        last = columns.position(stop - 1)
        yield Part(part, after, columns.position(start), last, columns.last_whole(start, stop))
        after = last
        start = stop


def _stop(columns: Columns, start: int, limit: int) -> int:
    """Return the largest stop such that the rows from `start` fit the limit, and at least one row is taken."""
    low, high = start + 1, columns.count
    while low < high:
        middle = (low + high + 1) // 2
        if columns.bytes_between(start, middle) + BYTES_PER_RECORD * (middle - start) + 12 <= limit:
            low = middle
        else:
            high = middle - 1
    return low
