"""The part of CBOR (RFC 8949) that AWS clients speak, among them KCL's java unless it is told not to.

Times are the one thing that AWS does in a way of its own: tag 1 with milliseconds, where the standard has seconds.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

MAX_DEPTH = 32
_BREAK = object()
_FLOATS = {25: ">e", 26: ">f", 27: ">d"}
_SIMPLE = {20: False, 21: True, 22: None, 23: None}
_INDEFINITE = 31
_TIME = 1


class Moment(NamedTuple):
    """A time, milliseconds since the epoch."""

    milliseconds: int


def decode(data: bytes) -> Any:  # noqa: ANN401 - whatever it holds
    """Return what CBOR holds; a time as a number of seconds, as it would be in JSON.

    Raises:
        ValueError: It is not CBOR, or nested beyond MAX_DEPTH.
    """
    decoder = _Decoder(data)
    try:
        value = decoder.value(0)
    except (IndexError, struct.error):
        raise ValueError("the data ends too early") from None
    if decoder.position != len(data):
        raise ValueError(f"there is more data behind byte {decoder.position}")
    return value


class _Decoder:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def _take(self, size: int) -> bytes:
        taken = self._data[self.position : self.position + size]
        if len(taken) < size:
            raise IndexError
        self.position += size
        return taken

    def value(self, depth: int, may_break: bool = False) -> Any:  # noqa: ANN401 - whatever it holds
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
        head = self._take(1)[0]
        kind, info = head >> 5, head & 31
        if kind == 7:
            return self._simple(info, may_break)
        if 28 <= info < _INDEFINITE or (info == _INDEFINITE and kind in (0, 1, 6)):
            raise ValueError(f"no value begins with {head:#x}")
        size = None if info == _INDEFINITE else info
        if info in (24, 25, 26, 27):
            size = int.from_bytes(self._take(1 << (info - 24)), "big")
        if kind in (2, 3):
            return self._string(kind, size)
        if kind == 4:
            return self._items(size, depth)
        if kind == 5:
            return self._map(size, depth)
        number = size or 0  # never None here: only strings, lists and maps may be of indefinite length
        if kind == 6:
            tagged = self.value(depth + 1)
            is_time = number == _TIME and isinstance(tagged, (int, float)) and not isinstance(tagged, bool)
            return tagged / 1000 if is_time else tagged
        return number if kind == 0 else -1 - number

    def _simple(self, info: int, may_break: bool) -> Any:  # noqa: ANN401 - whatever it holds
        if info in _SIMPLE:
            return _SIMPLE[info]
        if info in _FLOATS:
            return struct.unpack(_FLOATS[info], self._take(1 << (info - 24)))[0]
        if info == _INDEFINITE and may_break:
            return _BREAK
        raise ValueError(f"no value begins with {0xE0 | info:#x}")

    def _string(self, kind: int, size: int | None) -> bytes | str:
        if size is None:
            parts: list[Any] = []
            while self._data[self.position] != 0xFF:
                head = self._data[self.position]
                if head >> 5 != kind or head & 31 == _INDEFINITE:
                    raise ValueError("a string in parts has a part that is none")
                parts.append(self.value(MAX_DEPTH))
            self.position += 1
            return b"".join(parts) if kind == 2 else "".join(parts)
        raw = self._take(size)
        return raw if kind == 2 else raw.decode("utf-8")

    def _items(self, size: int | None, depth: int) -> list[Any]:
        found: list[Any] = []
        while size is None or len(found) < size:
            one = self.value(depth + 1, size is None)
            if one is _BREAK:
                break
            found.append(one)
        return found

    def _map(self, size: int | None, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        row = 0
        while size is None or row < size:
            key = self.value(depth + 1, size is None)
            if key is _BREAK:
                break
            if not isinstance(key, str):
                raise ValueError("the key of a map is no text")
            found[key] = self.value(depth + 1)
            row += 1
        return found


def encode(value: Any) -> bytes:  # noqa: ANN401 - whatever it holds
    """Return the CBOR of text, bytes, numbers, booleans, None, `Moment`, and lists and dictionaries of them."""
    out = bytearray()
    _encode(out, value)
    return bytes(out)


def _encode(out: bytearray, value: Any) -> None:  # noqa: ANN401 - whatever it holds
    if isinstance(value, str):
        raw = value.encode("utf-8")
        _head(out, 3, len(raw))
        out += raw
    elif isinstance(value, bytes):
        _head(out, 2, len(value))
        out += value
    elif isinstance(value, dict):
        _head(out, 5, len(value))
        for key, one in value.items():
            _encode(out, key)
            _encode(out, one)
    elif isinstance(value, Moment):
        _head(out, 6, _TIME)
        _encode(out, value.milliseconds)
    elif isinstance(value, list):
        _head(out, 4, len(value))
        for one in value:
            _encode(out, one)
    elif value is None or isinstance(value, bool):
        out.append(0xF6 if value is None else 0xF5 if value else 0xF4)
    elif isinstance(value, int):
        _head(out, 0 if value >= 0 else 1, value if value >= 0 else -1 - value)
    elif isinstance(value, float):
        out += b"\xfb" + struct.pack(">d", value)
    else:
        raise TypeError(f"{type(value).__name__} cannot be written as CBOR")


def _head(out: bytearray, kind: int, size: int) -> None:
    if size < 24:
        out.append(kind << 5 | size)
        return
    for info, limit in ((24, 8), (25, 16), (26, 32), (27, 64)):
        if size < 1 << limit:
            out.append(kind << 5 | info)
            out += size.to_bytes(limit // 8, "big")
            return
    raise ValueError(f"{size} is too large for CBOR")
