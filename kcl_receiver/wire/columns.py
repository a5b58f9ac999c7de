"""The records of one batch as columns: what travels over the socket and what a checksum is made over.

A batch is never a list of objects outside the processor's decoder. Its columns are raw little-endian buffers in the
layout of Apache Arrow's variable-size binary arrays, so that the generator wraps them without touching a record.

    sequence   offsets int32[n + 1], ASCII digits
    sub        int64[n]
    key        offsets int32[n + 1], UTF-8
    arrival    int64[n], milliseconds since the epoch, at most MAX_ARRIVAL; -1 where Kinesis gave none
    data       offsets int32[n + 1], bytes
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import attrgetter, sub
from typing import Any, cast

import xxhash

from kcl_receiver.ranges import Position, parse_sequence_number
from kcl_receiver.schema import CHECKED, FIXED, VARIABLE

if sys.byteorder != "little":  # pragma: no cover - no such machine runs the KCL today
    raise ImportError("kcl_receiver keeps columns in little-endian order and needs a little-endian machine")

Buffer = bytes | bytearray | memoryview | array  # type: ignore[type-arg]

MAX_COLUMN_BYTES = 2**31 - 1
"""Offsets are int32, as in Arrow's binary type."""

UNKNOWN_ARRIVAL = -1
MAX_ARRIVAL = 2**48 - 1
"""In the year 10889. Blocks keep microseconds, and 64 bits do not hold those of every 64-bit millisecond."""

_checked = cast("Any", attrgetter(*(column.part for column in CHECKED)))
_buffers = cast(
    "Any",
    attrgetter(
        *(column.part for column in FIXED),
        *(f"{column.part}.offsets" for column in VARIABLE),
        *(f"{column.part}.values" for column in VARIABLE),
    ),
)


def int32s(numbers: Sequence[int]) -> bytes:
    """Return numbers as int32 each.

    Raises:
        OverflowError: One of them does not fit.
    """
    return _packed(numbers, "i")


def int64s(numbers: Sequence[int]) -> bytes:
    """Return numbers as int64 each.

    Raises:
        OverflowError: One of them does not fit.
    """
    return _packed(numbers, "q")


def _packed(numbers: Sequence[int], kind: str) -> bytes:
    # `struct` takes a third of the time that filling an `array` does.
    try:
        return struct.pack(f"<{len(numbers)}{kind}", *numbers)
    except struct.error as error:
        raise OverflowError(str(error)) from error


@dataclass(frozen=True, slots=True)
class VarColumn:
    """Values of differing length: `offsets` is int32[n + 1] and begins with 0, `values` their bytes end to end.

    Who makes a column knows the lengths, and the checksum wants them: they are kept, as int32[n], where they are known.
    """

    offsets: Buffer
    values: Buffer
    known_lengths: Buffer | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, values: Sequence[bytes]) -> VarColumn:
        """Return the column that holds `values`.

        Raises:
            OverflowError: They are longer than `MAX_COLUMN_BYTES` together.
        """
        return cls.joined(list(map(len, values)), b"".join(values))

    @classmethod
    def joined(cls, lengths: Sequence[int], values: Buffer) -> VarColumn:
        """Return the column of values that are end to end already.

        Raises:
            OverflowError: They are longer than `MAX_COLUMN_BYTES` together.
        """
        count = len(lengths)
        each = lengths[0] if count else 0
        alike = each > 0 and lengths.count(each) == count  # positions mostly are, and keys and data often
        ends: Sequence[int] = range(0, each * count + 1, each) if alike else list(accumulate(lengths, initial=0))
        if ends[-1] > MAX_COLUMN_BYTES:
            raise OverflowError(f"a column of {ends[-1]} bytes; {MAX_COLUMN_BYTES} are the most")
        return cls(int32s(ends), values, int32s((each,)) * count if alike else int32s(lengths))

    def lengths(self) -> Buffer:
        """Return int32[n]: the length of each value in bytes."""
        if self.known_lengths is not None:
            return self.known_lengths
        offsets = memoryview(self.offsets).cast("B").cast("i").tolist()
        return int32s(list(map(sub, offsets[1:], offsets)))

    def value(self, row: int) -> bytes:
        """Return the bytes of one value."""
        offsets = memoryview(self.offsets).cast("B").cast("i")
        return bytes(memoryview(self.values)[offsets[row] : offsets[row + 1]])

    def bytes_between(self, start: int, stop: int) -> int:
        """Return the bytes of the values in rows `start` to `stop` (exclusive)."""
        offsets = memoryview(self.offsets).cast("B").cast("i")
        return offsets[stop] - offsets[start]

    def slice(self, start: int, stop: int) -> VarColumn:
        """Return rows `start` to `stop` (exclusive), with offsets that begin with 0 again."""
        offsets = memoryview(self.offsets).cast("B").cast("i")[start : stop + 1].tolist()
        base = offsets[0]
        lengths = memoryview(self.lengths()).cast("B")[start * 4 : stop * 4]
        rebased = int32s([offset - base for offset in offsets])
        return VarColumn(rebased, memoryview(self.values)[base : offsets[-1]], lengths)


@dataclass(frozen=True, slots=True)
class Columns:
    """The five columns of `count` records."""

    count: int
    sequence: VarColumn
    sub: Buffer
    key: VarColumn
    arrival: Buffer
    data: VarColumn

    def position(self, row: int) -> Position:
        """Return the position of one record."""
        sub = memoryview(self.sub).cast("B").cast("q")[row]
        return Position(parse_sequence_number(self.sequence.value(row).decode("ascii")), sub)

    def arrival_of(self, row: int) -> int:
        """Return one record's arrival time in milliseconds, or -1."""
        return int(memoryview(self.arrival).cast("B").cast("q")[row])

    def slice(self, start: int, stop: int) -> Columns:
        """Return rows `start` to `stop` (exclusive)."""
        return Columns(
            count=stop - start,
            sequence=self.sequence.slice(start, stop),
            sub=memoryview(self.sub).cast("B")[start * 8 : stop * 8],
            key=self.key.slice(start, stop),
            arrival=memoryview(self.arrival).cast("B")[start * 8 : stop * 8],
            data=self.data.slice(start, stop),
        )

    def last_whole(self, start: int, stop: int) -> Position | None:
        """Return the last position in rows `start` to `stop` (exclusive) that ends its Kinesis record.

        The end of the columns is the end of a Kinesis record: KCL takes an aggregate apart after reading, and hands
        over all of it at once (ProcessTask.deaggregateAnyKplRecords).
        """
        for row in range(stop - 1, start - 1, -1):
            here = self.position(row)
            if row + 1 == self.count or self.position(row + 1).sequence_number != here.sequence_number:
                return here
        return None

    def bytes_between(self, start: int, stop: int) -> int:
        """Return the bytes of all values in rows `start` to `stop` (exclusive)."""
        return sum(column.bytes_between(start, stop) for column in (self.sequence, self.key, self.data))

    @property
    def size(self) -> int:
        """Bytes of keys and data: what `Range.size` counts."""
        return _nbytes(self.key.values) + _nbytes(self.data.values)

    @property
    def memory(self) -> int:
        """Bytes that all buffers hold: what the window counts."""
        return sum(map(_nbytes, self.buffers()))

    def buffers(self) -> tuple[Buffer, ...]:
        """Return the eight buffers in the order in which a frame carries them; see `schema.VARIABLE`."""
        return cast("tuple[Buffer, ...]", _buffers(self))


def checksum(columns: Columns) -> str:
    """Return the checksum of a range that holds exactly these records: XXH3-128 as 32 hexadecimal digits.

    Hashed are, in this order: the lengths of the sequence numbers (int32 each) and their digits, the sub-sequence
    numbers (int64 each), the lengths of the keys and their bytes, the arrival times (int64 each), the lengths of the
    data and its bytes; all numbers little-endian. Lengths and not offsets, so that a slice of a larger array and a
    range of its own give the same result.
    """
    digest = xxhash.xxh3_128()
    for column in _checked(columns):
        if isinstance(column, VarColumn):
            digest.update(column.lengths())
            digest.update(column.values)
        else:
            digest.update(column)
    return digest.hexdigest()


def _nbytes(buffer: Buffer) -> int:
    return memoryview(buffer).nbytes
