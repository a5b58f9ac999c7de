"""The columns of a batch as Arrow arrays over the same memory and back, and the checks before anything is stored.

A generator of many shards gets hundreds of batches a second of a few hundred records each, and between two of them
other processes have its caches. Then a call of one of Arrow's kernels costs some 50 µs, whatever the number of records,
where a search in bytes costs 5 (docs/performance.md). So what mostly holds is seen in the bytes: numbers of one length,
sub-sequence numbers that are all 0, arrival times that are all known. Where it does not, the kernels tell.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from kcl_receiver.ranges import MAX_SEQUENCE_DIGITS, Arrivals
from kcl_receiver.schema import ARRIVAL, CHECKED, COLUMNS, Column
from kcl_receiver.wire.columns import (
    MAX_COLUMN_BYTES,
    UNKNOWN_ARRIVAL,
    Buffer,
    Columns,
    VarColumn,
    checksum,
    int32s,
    int64s,
)

_TYPES = {
    "string": pa.string(),
    "int64": pa.int64(),
    "binary": pa.binary(),
    "timestamp[us, tz=UTC]": pa.timestamp("us", tz="UTC"),
}
SCHEMA = pa.schema([pa.field(one.name, _TYPES[one.type], nullable=one.nullable) for one in COLUMNS])
"""What a reader gets of a block."""


@cache
def schema_of(columns: tuple[str, ...]) -> pa.Schema:
    """Return the schema of some of a block's columns."""
    return pa.schema([SCHEMA.field(name) for name in columns])


MILLIS = pa.timestamp("ms", tz="UTC")
"""Arrival times as Kinesis and a batch have them, and as the checksum is over them."""

SMALL_BATCH = 1000
"""Records. In larger ones a kernel over the offsets is cheaper than the offsets that they would have if alike."""

_FEW = 200
"""Records of which Python finds the least and the greatest sooner than Arrow begins to."""

_UNKNOWN = int64s((UNKNOWN_ARRIVAL,))
_ZERO = pc.MatchSubstringOptions("0")  # made once: for a small batch it costs more than its use


@dataclass(frozen=True, slots=True)
class WrappedColumns:
    """Columns and their arrays.

    Attributes:
        arrays: The columns of `schema.CHECKED`, in the types of a block but for arrival times, which are `MILLIS`.
        columns: The same with their lengths known.
        digits: Of each sequence number, where they are known to have as many; else 0.
    """

    arrays: list[pa.Array]
    columns: Columns
    digits: int


def check_columns(columns: Columns, expected: str) -> None:
    """See that records can be stored as they are, without touching one of them in Python.

    Raises:
        ValueError: Their offsets lie, their text is not UTF-8, a position is none, or they have another checksum.
    """
    try:
        wrapped = wrap(columns, expected)
        if not _are_sequence_numbers(wrapped):
            raise ValueError("a sequence number is none")
        none_within = bytes(columns.sub) == bytes(8 * columns.count)
        if not none_within and pc.min(wrapped.arrays[1]).as_py() < 0:
            raise ValueError("a sub-sequence number is below 0")
        arrival = bytes(columns.arrival)
        if arrival[6::8] != arrival[7::8] or arrival[7::8].strip(b"\x00\xff"):  # the upper two of its 8 bytes
            raise ValueError("an arrival time is none")
    except pa.ArrowException as error:
        raise ValueError(str(error)) from error


def _are_sequence_numbers(wrapped: WrappedColumns) -> bool:
    text = bytes(wrapped.columns.sequence.values)
    if not text.isdigit():
        return False
    if wrapped.digits:
        return wrapped.digits <= MAX_SEQUENCE_DIGITS and (wrapped.digits == 1 or b"0" not in text[:: wrapped.digits])
    lengths = pc.binary_length(wrapped.arrays[0])
    shortest, longest = pc.min_max(lengths).values()
    if shortest.as_py() < 1 or longest.as_py() > MAX_SEQUENCE_DIGITS:
        return False
    zero_first = pc.and_(pc.call_function("starts_with", [wrapped.arrays[0]], _ZERO), pc.not_equal(lengths, 1))
    return not pc.any(zero_first).as_py()


def wrap(columns: Columns, expected: str) -> WrappedColumns:
    """Return records as Arrow arrays over the same memory, checked in full.

    Raises:
        ValueError: They are malformed, or have another checksum.
        ArrowException: They are malformed.
    """
    count = columns.count
    arrays = arrays_of(columns)
    for array in arrays:
        array.validate(full=True)
    sequence, _, key, _, data = arrays
    digits = _length_of_each(columns.sequence, count)
    measured = replace(
        columns,
        sequence=_measured(columns.sequence, sequence, digits),
        key=_measured(columns.key, key, _length_of_each(columns.key, count)),
        data=_measured(columns.data, data, 0),  # hardly ever alike
    )
    if (made := checksum(measured)) != expected:
        raise ValueError(f"their checksum is {made}, not {expected:.40}")
    return WrappedColumns(arrays, measured, digits)


def arrays_of(columns: Columns) -> list[pa.Array]:
    """Return the columns of `schema.CHECKED` as Arrow arrays over the same memory; see `WrappedColumns.arrays`.

    Their content is not looked at.

    Raises:
        ValueError: Their buffers do not fit the number of records.
    """
    return [_array(column, columns.count, getattr(columns, column.part)) for column in CHECKED]


def _array(column: Column, count: int, values: VarColumn | Buffer) -> pa.Array:
    kind = _TYPES[column.type]
    if isinstance(values, VarColumn):
        return _variable_array(kind, count, values)
    if column is ARRIVAL:
        return _arrival_array(count, values)
    return pa.Array.from_buffers(kind, count, [None, _fixed_buffer(count, values)])


def arrivals_of(columns: Columns) -> Arrivals:
    """Return when records arrived: all of them, since arrival times need not rise."""
    if columns.count <= _FEW:
        times = memoryview(columns.arrival).cast("B").cast("q").tolist()
        known = [at for at in times if at != UNKNOWN_ARRIVAL] if UNKNOWN_ARRIVAL in times else times
        return Arrivals(min(known, default=-1), max(known, default=-1), len(times) - len(known))
    array = _arrival_array(columns.count, columns.arrival)
    oldest, newest = pc.min_max(array.view(pa.int64())).as_py().values()
    return Arrivals(-1 if oldest is None else oldest, -1 if newest is None else newest, array.null_count)


def columns_of(rows: pa.RecordBatch) -> Columns:
    """Return rows that have the columns of a block as the columns that the processor had sent."""
    parts: dict[str, Any] = {column.part: _part(rows.column(column.name)) for column in CHECKED}
    return Columns(rows.num_rows, **parts)


def _part(array: pa.Array) -> VarColumn | Buffer:
    if pa.types.is_timestamp(array.type):
        array = millis_of(array)
    if pa.types.is_integer(array.type):
        return fixed_values(array, 8)
    return VarColumn.joined(pc.binary_length(array).to_pylist(), variable_values(array))


def millis_of(arrival: pa.Array) -> pa.Array:
    """Return the arrival times of a block as int64 milliseconds, `UNKNOWN_ARRIVAL` for null.

    What is no whole millisecond was never stored: it stays microseconds, so that no checksum fits it.
    """
    try:
        millis = arrival.cast(MILLIS).view(pa.int64())
    except pa.ArrowInvalid:
        micros = arrival.view(pa.int64())
        millis = pc.divide(micros, 1000)
        millis = pc.if_else(pc.equal(pc.multiply(millis, 1000), micros), millis, micros)
    return pc.fill_null(millis, UNKNOWN_ARRIVAL) if millis.null_count else millis


def _length_of_each(column: VarColumn, count: int) -> int:
    """Return the length of all values, where a small batch shows that they are alike; else 0."""
    each, rest = divmod(memoryview(column.values).nbytes, count)
    if rest or not each or count > SMALL_BATCH:
        return 0
    return each if bytes(column.offsets) == _offsets_of_alike(each)[: 4 * (count + 1)] else 0


@lru_cache(maxsize=256)  # keys have up to 256 characters
def _offsets_of_alike(each: int) -> bytes:
    """Return the offsets of a small batch of values of one length: those of a smaller one begin as these do."""
    most = min(SMALL_BATCH, MAX_COLUMN_BYTES // each)
    return int32s(range(0, each * most + 1, each))


def _measured(column: VarColumn, values: pa.Array, each: int) -> VarColumn:
    """Return a column with its lengths; Arrow makes them of offsets that were checked, where they are not alike."""
    lengths = int32s((each,)) * len(values) if each else fixed_values(pc.binary_length(values), 4)
    return VarColumn(column.offsets, column.values, lengths)


def _arrival_array(count: int, arrival: Buffer) -> pa.Array:
    buffer = _fixed_buffer(count, arrival)
    known = None
    if _UNKNOWN in bytes(arrival):
        known = pc.not_equal(pa.Array.from_buffers(pa.int64(), count, [None, buffer]), UNKNOWN_ARRIVAL).buffers()[1]
    return pa.Array.from_buffers(MILLIS, count, [known, buffer])


def _fixed_buffer(count: int, values: Buffer) -> pa.Buffer:
    buffer = pa.py_buffer(values)
    if buffer.size != 8 * count:
        raise ValueError(f"a column of {buffer.size} bytes for {count} records of 8")
    return buffer


def _variable_array(kind: pa.DataType, count: int, column: VarColumn) -> pa.Array:
    offsets, values = pa.py_buffer(column.offsets), pa.py_buffer(column.values)
    if offsets.size != 4 * (count + 1):
        raise ValueError(f"a column of {offsets.size} bytes of offsets for {count} records")
    at = memoryview(offsets).cast("B").cast("i")
    if at[0] != 0 or at[count] != values.size:
        raise ValueError("a column whose offsets do not span its values")
    return pa.Array.from_buffers(kind, count, [None, offsets, values])


def fixed_values(chunk: pa.Array, width: int) -> memoryview:
    """Return the bytes of an array of values of one width, which may be a slice of a larger one."""
    if not len(chunk):
        return memoryview(b"")
    return memoryview(chunk.buffers()[1])[chunk.offset * width : (chunk.offset + len(chunk)) * width]


def variable_values(chunk: pa.Array) -> memoryview:
    """Return the bytes of an array of strings or bytes end to end; it may be a slice of a larger one."""
    _, offsets, values = chunk.buffers()
    if not len(chunk) or values is None:
        return memoryview(b"")
    at = memoryview(offsets).cast("B").cast("i")
    return memoryview(values)[at[chunk.offset] : at[chunk.offset + len(chunk)]]
