"""The MultiLangDaemon's line protocol: one JSON object a line, decoded into columns without an object kept per record.

The daemon writes one action and waits for its status; while it waits it takes checkpoints, one at a time, and answers
each. It encodes lines in the charset that `-Dfile.encoding` names, which `kcl-receiver command` sets to UTF-8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from operator import lt
from typing import Annotated, Generic, TypeVar, cast

import msgspec
from pybase64 import b64decode

from kcl_receiver.errors import DaemonError
from kcl_receiver.ranges import After, Position, parse_after, parse_sequence_number
from kcl_receiver.wire.columns import MAX_ARRIVAL, UNKNOWN_ARRIVAL, Columns, VarColumn, int64s

_Long = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""A Java long that is never negative; the columns hold int64."""

_Arrival = Annotated[int, msgspec.Meta(ge=0, le=MAX_ARRIVAL)]


_Behind = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""A Java long, and what a message holds."""


class _AnyRecord(msgspec.Struct, gc=False, rename="camel"):
    """All of a record but its data."""

    sequence_number: str
    partition_key: str
    sub_sequence_number: _Long | None = None
    approximate_arrival_timestamp: _Arrival | None = None


class _Record(_AnyRecord):
    data: bytes | None = None


class _LargeRecord(_AnyRecord):
    """With the data as it stands in the line, in base64."""

    data: str | None = None


_Some = TypeVar("_Some", _Record, _LargeRecord)


class _Initialize(msgspec.Struct, tag_field="action", tag="initialize", rename="camel"):
    shard_id: str
    sequence_number: str | None = None
    sub_sequence_number: _Long | None = None


class _ProcessRecords(msgspec.Struct, Generic[_Some], tag_field="action", tag="processRecords", rename="camel"):
    records: list[_Some]
    millis_behind_latest: _Behind | None = None


class _Checkpoint(msgspec.Struct, tag_field="action", tag="checkpoint", rename="camel"):
    error: str | None = None


class _LeaseLost(msgspec.Struct, tag_field="action", tag="leaseLost"):
    pass


class _ShardEnded(msgspec.Struct, tag_field="action", tag="shardEnded"):
    pass


class _ShutdownRequested(msgspec.Struct, tag_field="action", tag="shutdownRequested"):
    pass


_DECODER = msgspec.json.Decoder(
    _ProcessRecords[_Record] | _Checkpoint | _Initialize | _LeaseLost | _ShardEnded | _ShutdownRequested
)
_LARGE_DECODER = msgspec.json.Decoder(_ProcessRecords[_LargeRecord])

LARGE_RECORD_BYTES = 1200
"""Of the line, for each record at its begin. From here on, decoding base64 by pybase64 saves more than a call for each
record costs: half of the decoder's time with records of 10 KB, a fifth with 1 KB (docs/performance.md)."""
CUT_OUT_BYTES = 4000
"""As above. From here on, it costs less to find where data ends than to have msgspec read it, which is half of the time
that is left with records of 10 KB."""
_LOOKED_AT_BYTES = 64 * 1024
_DATA = b'"data":"'
"""Not within a string: a quote in there is escaped."""
_STRICTLY = True  # given by place: by name it would cost 0.15 µs a record


@dataclass(frozen=True, slots=True)
class Initialize:
    """The lease of this shard is held now; reading begins after `after`."""

    shard: str
    after: After
    name = "initialize"


@dataclass(frozen=True, slots=True)
class ProcessRecords:
    """Records in the order of the stream; None for an empty list. `behind` is -1 where KCL does not know."""

    columns: Columns | None
    behind: int
    name = "processRecords"


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """Another worker holds the lease."""

    name = "leaseLost"


@dataclass(frozen=True, slots=True)
class ShardEnded:
    """KCL saw the end of the shard."""

    name = "shardEnded"


@dataclass(frozen=True, slots=True)
class ShutdownRequested:
    """The daemon stops, or the lease is moved in good order."""

    name = "shutdownRequested"


Action = Initialize | ProcessRecords | LeaseLost | ShardEnded | ShutdownRequested


@dataclass(frozen=True, slots=True)
class CheckpointResult:
    """The daemon's answer to a checkpoint: the name of a Java exception, or None."""

    error: str | None


def decode_line(buffer: bytes | bytearray, start: int = 0, end: int | None = None) -> Action | CheckpointResult:
    """Return what one line says, which is the bytes of the buffer from `start` to before `end`.

    Raises:
        DaemonError: It is not a line of the MultiLangDaemon, or its records are out of order.
    """
    line = memoryview(buffer)[start:end]
    if len(line) > LARGE_RECORD_BYTES and (delivery := _large_records(buffer, start, line)) is not None:
        return delivery
    try:
        message = _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        begin = bytes(line[:80])
        raise DaemonError(f"a line from the MultiLangDaemon can't be decoded ({error}): {begin!r}…") from error
    try:
        if isinstance(message, _ProcessRecords):
            return _delivery(message, [record.data or b"" for record in message.records])
        if isinstance(message, _Checkpoint):
            return CheckpointResult(message.error)
        if isinstance(message, _Initialize):
            return Initialize(message.shard_id, _starting_point(message))
    except (ValueError, OverflowError) as error:
        raise DaemonError(f"a line from the MultiLangDaemon can't be used: {error}") from error
    if isinstance(message, _LeaseLost):
        return LeaseLost()
    return ShardEnded() if isinstance(message, _ShardEnded) else ShutdownRequested()


def _large_records(buffer: bytes | bytearray, start: int, line: memoryview) -> ProcessRecords | None:
    """Return what a line of large records says; None if it is none, or wrong: then the way of all lines says how."""
    begin = bytes(line[:_LOOKED_AT_BYTES])
    records = begin.count(b'"sequenceNumber"')
    if len(begin) <= LARGE_RECORD_BYTES * records:
        return None
    try:
        if len(begin) > CUT_OUT_BYTES * records and (delivery := _cut_out(buffer, start, line)) is not None:
            return delivery
        message = _LARGE_DECODER.decode(line)
        data: list[bytes] = []
        for record in message.records:
            data.append(b64decode(record.data or "", None, _STRICTLY))
            record.data = None  # its memory is what the next ones are decoded into
        return _delivery(message, data)
    except (ValueError, OverflowError, RecursionError, msgspec.DecodeError):
        return None


def _cut_out(buffer: bytes | bytearray, start: int, line: memoryview) -> ProcessRecords | None:
    """Return what a line says by decoding its data, and its rest without them; None if data is not where it is sought.

    Raises:
        ValueError, OverflowError, RecursionError, msgspec.DecodeError: It is no line of records.
    """
    find, index = buffer.find, buffer.index
    at, end = 0, len(line)
    rest: list[memoryview] = []
    data: list[bytes] = []
    while (found := find(_DATA, start + at, start + end)) >= 0:
        first = found - start + len(_DATA)
        last = index(b'"', start + first, start + end) - start
        rest.append(line[at:first])
        data.append(b64decode(line[first:last], None, _STRICTLY))
        at = last
    rest.append(line[at:])
    message = _LARGE_DECODER.decode(b"".join(rest))
    # one of them for each record, and from there: else they might belong to another
    if len(message.records) != len(data) or any(record.data != "" for record in message.records):
        return None
    return _delivery(message, data)


def _delivery(message: _ProcessRecords[_Some], data: Sequence[bytes]) -> ProcessRecords:
    behind = message.millis_behind_latest
    columns = _columns(message.records, data) if message.records else None
    return ProcessRecords(columns, -1 if behind is None else behind)


def _starting_point(message: _Initialize) -> After:
    if message.sequence_number is None:
        raise ValueError(f"initialize of {message.shard_id} names no sequence number to start at")
    after = parse_after(message.sequence_number)
    return Position(after.sequence_number, message.sub_sequence_number or 0) if isinstance(after, Position) else after


def _columns(records: Sequence[_AnyRecord], data: Sequence[bytes]) -> Columns:
    """Return the columns of decoded records: each step goes over one attribute of all of them in C.

    Measured with 10,000 records of 200 bytes: `str.isdigit` takes ten times as long as that of bytes, and filling an
    `array` two to three times as long as `struct.pack` (docs/performance.md).
    """
    count = len(records)
    sequences = [record.sequence_number for record in records]
    subs = _known([record.sub_sequence_number for record in records], 0)
    lengths = list(map(len, sequences))
    digits = "".join(sequences).encode()
    if not digits.isdigit():
        raise ValueError("a sequence number is not a decimal number")
    _check_order(sequences, lengths, subs)
    arrivals = _known([record.approximate_arrival_timestamp for record in records], UNKNOWN_ARRIVAL)
    return Columns(
        count=count,
        sequence=VarColumn.joined(lengths, digits),
        sub=bytes(8 * count) if subs.count(0) == count else int64s(subs),
        key=_key_column([record.partition_key for record in records]),
        arrival=int64s(arrivals),
        data=VarColumn.of(data),
    )


def _known(numbers: list[int | None], instead: int) -> list[int]:
    if None in numbers:
        return [instead if number is None else number for number in numbers]
    return cast("list[int]", numbers)


def _key_column(keys: list[str]) -> VarColumn:
    text = "".join(keys)
    if text.isascii():
        return VarColumn.joined(list(map(len, keys)), text.encode())
    return VarColumn.of([key.encode() for key in keys])


def _check_order(sequences: list[str], lengths: list[int], subs: list[int]) -> None:
    """Check that positions rise.

    Numbers without leading zeros and of one length order as text does; only where that does not show the order, they
    are made integers.
    """
    if lengths.count(lengths[0]) == len(lengths) and all(map(lt, sequences, islice(sequences, 1, None))):
        parse_sequence_number(sequences[0])
        return
    before: Position | None = None
    for sequence, sub in zip(sequences, subs, strict=True):
        here = Position(parse_sequence_number(sequence), sub)
        if before is not None and here <= before:
            raise ValueError(f"records are out of order: {here} after {before}")
        before = here


def encode_status(action: Action) -> bytes:
    """Return the line that says that an action is done."""
    return b'{"action":"status","responseFor":"' + action.name.encode() + b'"}\n'


def encode_checkpoint(position: Position | None) -> bytes:
    """Return the line that asks for a checkpoint; None asks for the furthest one, at shard end for SHARD_END."""
    if position is None:
        return b'{"action":"checkpoint","sequenceNumber":null,"subSequenceNumber":null}\n'
    sequence, sub = position
    return f'{{"action":"checkpoint","sequenceNumber":"{sequence}","subSequenceNumber":{sub}}}\n'.encode()
