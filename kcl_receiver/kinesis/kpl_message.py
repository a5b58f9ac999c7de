"""Reads the protobuf message of a KPL aggregate, and refuses what protobuf-java refuses.

KCL parses aggregates by protobuf-java 4.27.5, and passes on as plain data what that refuses. So what counts here is not
what the format says but what that parser takes, unknown and repeated fields, groups and odd numbers included: another
answer would give other records. The bytes come from anybody who may write to the stream. Nothing here recurses, and
nothing is larger than the message.

    AggregatedRecord   1 partition_key_table (string, repeated)   2 explicit_hash_key_table (string, repeated)
                       3 records (Record, repeated)
    Record             1 partition_key_index (uint64, required)   2 explicit_hash_key_index (uint64)
                       3 data (bytes, required)                   4 tags (Tag, repeated)
    Tag                1 key (string, required)                   2 value (string)

(amazon-kinesis-client/src/main/proto/messages.proto, of syntax proto2: text may be any bytes.)
"""

from __future__ import annotations

from typing import NamedTuple

_VARINT, _FIXED64, _BYTES, _GROUP, _GROUP_END, _FIXED32 = range(6)
"""Wire types; 6 and 7 do not exist."""

_FIRST, _SECOND, _THIRD, _FOURTH = (number << 3 | _BYTES for number in (1, 2, 3, 4))
"""Tags of fields that are strings, bytes or messages."""
_FIRST_NUMBER, _SECOND_NUMBER = 1 << 3 | _VARINT, 2 << 3 | _VARINT

_MAX_VARINT_BYTES = 10
_MAX_DEPTH = 100
"""CodedInputStream's recursion limit: messages and groups within each other."""


class NotAMessage(ValueError):
    """protobuf-java would throw InvalidProtocolBufferException."""


class Packed(NamedTuple):
    """A Record: two indexes of 64 bits without a sign, the second None if there is none, and the data."""

    key_index: int
    hash_key_index: int | None
    data: bytes


class Aggregated(NamedTuple):
    """An AggregatedRecord: its two tables and its records."""

    keys: list[bytes]
    hash_keys: list[bytes]
    records: list[Packed]


def parse(message: bytes) -> Aggregated:
    """Return what a message says.

    Raises:
        NotAMessage: It is none, or a required field is missing.
    """
    keys: list[bytes] = []
    hash_keys: list[bytes] = []
    records: list[Packed] = []
    at, end = 0, len(message)
    while at < end:
        tag, at = _tag(message, at, end)
        if tag == _THIRD:
            start, at = _span(message, at, end)
            records.append(_record(message, start, at))
        elif tag == _FIRST:
            start, at = _span(message, at, end)
            keys.append(message[start:at])
        elif tag == _SECOND:
            start, at = _span(message, at, end)
            hash_keys.append(message[start:at])
        else:
            at = _skip(message, tag, at, end, depth=0)
    return Aggregated(keys, hash_keys, records)


def _record(message: bytes, at: int, end: int) -> Packed:
    key_index: int | None = None
    hash_key_index: int | None = None
    data: bytes | None = None
    while at < end:
        tag, at = _tag(message, at, end)
        if tag == _FIRST_NUMBER:
            key_index, at = _varint(message, at, end)
        elif tag == _SECOND_NUMBER:
            hash_key_index, at = _varint(message, at, end)
        elif tag == _THIRD:
            start, at = _span(message, at, end)
            data = message[start:at]
        elif tag == _FOURTH:
            start, at = _span(message, at, end)
            _check_tag_message(message, start, at)
        else:
            at = _skip(message, tag, at, end, depth=1)
    if key_index is None or data is None:
        raise NotAMessage("a record without partition key index or data")
    return Packed(key_index, hash_key_index, data)


def _check_tag_message(message: bytes, at: int, end: int) -> None:
    has_key = False
    while at < end:
        tag, at = _tag(message, at, end)
        if tag in (_FIRST, _SECOND):
            has_key = has_key or tag == _FIRST
            _, at = _span(message, at, end)
        else:
            at = _skip(message, tag, at, end, depth=2)
    if not has_key:
        raise NotAMessage("a tag without key")


def _skip(message: bytes, tag: int, at: int, end: int, depth: int) -> int:
    """Return where the next field begins; `depth` is the number of messages around this one."""
    groups: list[int] = []
    while True:
        kind, field = tag & 7, tag >> 3
        if kind == _VARINT:
            _, at = _varint(message, at, end)
        elif kind == _BYTES:
            _, at = _span(message, at, end)
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
            if at > end:
                raise NotAMessage("it ends within a number")
        elif kind == _GROUP:
            if depth + len(groups) >= _MAX_DEPTH:
                raise NotAMessage("groups too deep in each other")
            groups.append(field)
        elif kind != _GROUP_END or not groups or groups.pop() != field:
            raise NotAMessage(f"a field of wire type {kind}")
        if not groups:
            return at
        tag, at = _tag(message, at, end)


def _tag(message: bytes, at: int, end: int) -> tuple[int, int]:
    """Return a field's tag, of which 32 bits count, and where its value begins."""
    tag, at = _varint(message, at, end)
    tag &= 0xFFFFFFFF
    if tag < 8:
        raise NotAMessage("a field without number")
    return tag, at


def _span(message: bytes, at: int, end: int) -> tuple[int, int]:
    """Return where the bytes begin and end whose length stands at `at`."""
    size, at = _varint(message, at, end)
    size &= 0xFFFFFFFF
    # A length from 2^31 on is a negative one to Java; either is too long.
    if size > end - at:
        raise NotAMessage("a length beyond its end")
    return at, at + size


def _varint(message: bytes, at: int, end: int) -> tuple[int, int]:
    """Return a number of 64 bits and where the next thing begins."""
    if at < end and (value := message[at]) < 0x80:
        return value, at + 1
    value = 0
    for place in range(_MAX_VARINT_BYTES):
        if at >= end:
            raise NotAMessage("it ends within a number")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise NotAMessage("a number of more than 10 bytes")
