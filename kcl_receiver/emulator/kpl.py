"""Writes aggregated records in the format of the Kinesis Producer Library, with which producers pack user records.

The format is public (awslabs/amazon-kinesis-producer, aggregation-format.md): the magic number, a protobuf message, and
the MD5 of that message.

    AggregatedRecord   1 partition_key_table (string, repeated)   2 explicit_hash_key_table (string, repeated)
                       3 records (Record, repeated)
    Record             1 partition_key_index   2 explicit_hash_key_index (optional)   3 data   4 tags (not written here)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

MAGIC = b"\xf3\x89\x9a\xc2"
DIGEST_BYTES = 16


class UserRecord(NamedTuple):
    """One record of a producer; its hash key is MD5 of the key unless it has an explicit one."""

    key: str
    data: bytes
    hash_key: int | None = None

    def place(self) -> int:
        """Return the hash key that must lie in the range of the shard, or KCL drops the whole aggregate."""
        return place_of(self.key) if self.hash_key is None else self.hash_key


def place_of(key: str) -> int:
    """Return the hash key of a partition key: its MD5 as a number."""
    return int.from_bytes(hashlib.md5(key.encode("utf-8"), usedforsecurity=False).digest(), "big")


def aggregate(records: Iterable[UserRecord]) -> bytes:
    """Return the data of one Kinesis record that holds these user records, in order."""
    keys: dict[str, int] = {}
    hash_keys: dict[int, int] = {}
    body = bytearray()
    for record in records:
        inner = bytearray()
        _number(inner, 1, keys.setdefault(record.key, len(keys)))
        if record.hash_key is not None:
            _number(inner, 2, hash_keys.setdefault(record.hash_key, len(hash_keys)))
        _bytes(inner, 3, record.data)
        _bytes(body, 3, inner)
    head = bytearray()
    for key in keys:
        _bytes(head, 1, key.encode("utf-8"))
    for hash_key in hash_keys:
        _bytes(head, 2, str(hash_key).encode("ascii"))
    message = bytes(head + body)
    return MAGIC + message + hashlib.md5(message, usedforsecurity=False).digest()


def _varint(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _number(out: bytearray, field: int, value: int) -> None:
    _varint(out, field << 3)
    _varint(out, value)


def _bytes(out: bytearray, field: int, value: bytes | bytearray) -> None:
    _varint(out, field << 3 | 2)
    _varint(out, len(value))
    out += value
