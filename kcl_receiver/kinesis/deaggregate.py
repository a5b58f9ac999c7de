"""Takes KPL aggregates apart as KCL does, so that what is read again is what the daemon delivered.

The rules are those of KCL 3.1.3 (AggregatorUtil.deaggregate, called by ProcessTask with the shard's hash range), its
odd ones included. They decide how many records there are, and which sub-sequence numbers they have:

- An aggregate is what begins with the magic number, is longer than magic number and MD5 together, and whose MD5 and
  protobuf message are good. All else is plain data, and passed on as it is.
- A record outside of the shard's hash range drops the whole aggregate, also the records before it. (A producer that
  does not know of a reshard puts it again.) Where KCL does not know the shard, only numbers that are no hash keys do.
- A record whose index points out of its table, or whose explicit hash key is not a number, ends the aggregate: the
  records before it stay. Indexes are cut to 32 bits, so that 2^32 is 0.
- An aggregate in an aggregate is data. One without records gives none.
- A partition key that is not UTF-8 is read as Java reads it: with U+FFFD in place of what is wrong.

Everything here is a pure function; whatever the bytes are, it returns records.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from kcl_receiver.kinesis.kpl_message import Aggregated, NotAMessage, parse

MAGIC = b"\xf3\x89\x9a\xc2"
DIGEST_BYTES = 16


class HashRange(NamedTuple):
    """The hash keys of a shard, from first to last, both inclusive."""

    first: int
    last: int

    @classmethod
    def of(cls, pair: tuple[str, str] | None) -> HashRange:
        """Return the range of two decimal strings, as ListShards and the ledger have them; None is not known.

        Raises:
            ValueError: They are no numbers.
        """
        return WHOLE if pair is None else cls(int(pair[0]), int(pair[1]))


WHOLE = HashRange(0, 2**128 - 1)
"""All hash keys: what KCL takes where it does not know the shard."""


class UserRecords(NamedTuple):
    """What KCL delivers of one Kinesis record, in order; the sub-sequence number of each is its index.

    Attributes:
        keys: Partition keys in UTF-8.
        data: The data of each.
        dropped: It is an aggregate, and KCL delivers nothing of it, because a record is outside of the hash range.
        left_out: Number of user records of the aggregate that KCL does not deliver: all of them if it is dropped,
            otherwise those from the first malformed one on.
    """

    keys: Sequence[bytes]
    data: Sequence[bytes]
    dropped: bool = False
    left_out: int = 0


def deaggregate(key: bytes, data: bytes, hash_range: HashRange = WHOLE) -> UserRecords:
    """Return the user records of one Kinesis record.

    Args:
        key: Its partition key in UTF-8.
        data: Its data.
        hash_range: That of its shard, or `WHOLE` where KCL did not know the shard.
    """
    if not data.startswith(MAGIC):
        return UserRecords((key,), (data,))
    aggregated = _message(data)
    if aggregated is None:
        return UserRecords((key,), (data,))
    return _user_records(aggregated, hash_range)


def _message(data: bytes) -> Aggregated | None:
    """Return the message of what has the magic number, or None if it is plain data nevertheless."""
    if len(data) <= len(MAGIC) + DIGEST_BYTES:
        return None
    message = data[len(MAGIC) : -DIGEST_BYTES]
    if _md5(message) != data[-DIGEST_BYTES:]:
        return None
    try:
        return parse(message)
    except NotAMessage:
        return None


def _user_records(aggregated: Aggregated, hash_range: HashRange) -> UserRecords:
    keys: list[bytes] = []
    data: list[bytes] = []
    places = _Places(aggregated, hash_range)
    for key_index, hash_key_index, value in aggregated.records:
        try:
            key, inside = places.of(key_index, hash_key_index)
        except (IndexError, ValueError):
            break
        if not inside:
            return UserRecords((), (), dropped=True, left_out=len(aggregated.records))
        keys.append(key)
        data.append(value)
    return UserRecords(keys, data, left_out=len(aggregated.records) - len(keys))


class _Places:
    """Keys of records and whether they lie in the hash range; each entry of a table is looked at once."""

    def __init__(self, aggregated: Aggregated, hash_range: HashRange) -> None:
        self._aggregated = aggregated
        self._range = hash_range
        self._keys: dict[int, bytes] = {}
        self._inside: dict[int, bool] = {}
        self._explicit: dict[int, bool] = {}

    def of(self, key_index: int, hash_key_index: int | None) -> tuple[bytes, bool]:
        """Return a record's key, and whether it lies in the range.

        Raises:
            IndexError: A table has no such entry.
            ValueError: The explicit hash key is not a number.
        """
        key = self._keys.get(key_index)
        if key is None:
            key = self._keys[key_index] = java_text(_entry(self._aggregated.keys, key_index)).encode()
        if hash_key_index is None:
            inside = self._inside.get(key_index)
            if inside is None:
                place = int.from_bytes(_md5(key), "big")
                inside = self._inside[key_index] = self._range.first <= place <= self._range.last
        else:
            inside = self._explicit.get(hash_key_index)
            if inside is None:
                place = java_integer(java_text(_entry(self._aggregated.hash_keys, hash_key_index)))
                inside = self._explicit[hash_key_index] = self._range.first <= place <= self._range.last
        return key, inside


def _entry(table: Sequence[bytes], index: int) -> bytes:
    """Return an entry of a table by an index that Java has cast to int.

    Raises:
        IndexError: There is none; negative indexes count from nowhere in Java.
    """
    low = index & 0xFFFFFFFF
    if low >= 2**31:
        raise IndexError(index)
    return table[low]


_SURROGATE = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]?")
"""UTF-8 of half a surrogate pair: one U+FFFD to Java, several to Python."""


def java_text(raw: bytes) -> str:
    """Return bytes as `new String(bytes, UTF_8)` reads them (OpenJDK 17 to 25)."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return _SURROGATE.sub(b"\xef\xbf\xbd", raw).decode(errors="replace")


_INTEGER = re.compile(r"([+-]?)(\d+)\Z")
_TOO_LONG = 2**128
"""Stands for every number of more digits than a hash key has, so that nobody can make us compute one of a megabyte."""


def java_integer(text: str) -> int:
    """Return a number as `new BigInteger(text)` reads it; one that is no hash key can come as any that is none.

    Raises:
        ValueError: It is not a number: Java throws NumberFormatException.
    """
    found = _INTEGER.match(text)
    # Character.digit(char) knows the digits of every script, but only those that are one char of UTF-16.
    if found is None or max(text) > "\uffff":
        raise ValueError("not a number")
    sign, digits = found.groups()
    if not digits.isascii():
        digits = "".join(str(unicodedata.decimal(digit)) for digit in digits)
    digits = digits.lstrip("0") or "0"
    value = int(digits) if len(digits) <= len(str(_TOO_LONG)) else _TOO_LONG
    return -value if sign == "-" else value


def _md5(value: bytes) -> bytes:
    return hashlib.md5(value, usedforsecurity=False).digest()
