"""A client that fetches pages and drops them, so that the page server's own ceiling is known.

It looks only at the heads of frames and at the last bytes of a page, where the next iterator stands.
"""

from __future__ import annotations

import re
import socket
import struct
import time
from collections import deque
from typing import NamedTuple
from urllib.parse import urlsplit

from benchmarks.harness.http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PREFACE,
    SETTINGS,
    WIDE_WINDOW,
    WINDOW_UPDATE,
    frame,
    literal,
)

_RECEIVE_BYTES = 2**20
_TAIL_BYTES = 200
_NEXT = re.compile(rb'"NextShardIterator":"([^"]+)","MillisBehindLatest":(\d+)\}$')
_SERIAL = re.compile(rb":(\d+)$")


class Fetched(NamedTuple):
    """What a client got."""

    records: int
    size: int
    seconds: float


class PageClient:
    """One connection to a page server."""

    def __init__(self, url: str) -> None:
        where = urlsplit(url)
        self._socket = socket.create_connection((where.hostname or "", where.port or 0))
        settings = struct.pack(">HI", INITIAL_WINDOW_SIZE, WIDE_WINDOW)
        self._socket.sendall(PREFACE + frame(SETTINGS, 0, 0, settings))
        self._stream = -1
        self._granted = 0
        self._buffer = bytearray(_RECEIVE_BYTES)
        self._left = memoryview(b"")

    def __enter__(self) -> PageClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def call(self, operation: str, body: bytes, keep: int | None = None) -> tuple[bytes, int]:
        """Return the last `keep` bytes of an answer (all if None), and how many there were."""
        self._stream += 2
        block = literal(":method", "POST") + literal(":path", "/") + literal(":scheme", "http")
        block += literal("x-amz-target", f"Kinesis_20131202.{operation}")
        self._grant()
        self._socket.sendall(
            frame(HEADERS, END_HEADERS, self._stream, block) + frame(DATA, END_STREAM, self._stream, body)
        )
        parts: deque[bytes] = deque()
        kept = length = 0
        ends = False
        while not ends:
            ends, part, size = self._frame(keep)
            length += size
            self._granted -= size
            parts.append(part)
            kept += len(part)
            while keep is not None and kept - len(parts[0]) >= keep:
                kept -= len(parts.popleft())
        return b"".join(parts), length

    def _grant(self) -> None:
        """Widen the connection's window before it is used up."""
        if self._granted < WIDE_WINDOW // 2:
            self._granted += WIDE_WINDOW
            self._socket.sendall(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WIDE_WINDOW - 2**16)))

    def _frame(self, keep: int | None) -> tuple[bool, bytes, int]:
        """Read a frame: whether it ends the answer, the end of its payload, and its length if it is of the body."""
        high, low, kind, flags, stream = struct.unpack(">BHBBI", self._read(9, 9))
        size = (high << 16) + low
        payload = self._read(size, size if keep is None else keep)
        if kind != DATA or stream != self._stream:
            return False, b"", 0
        return bool(flags & END_STREAM), payload, size

    def _read(self, size: int, keep: int) -> bytes:
        """Read so many bytes, and return the last of them."""
        end = b""
        while size:
            if not self._left:
                received = self._socket.recv_into(self._buffer)
                if not received:
                    raise ConnectionResetError("the page server hung up")
                self._left = memoryview(self._buffer)[:received]
            piece, self._left = self._left[:size], self._left[size:]
            size -= len(piece)
            end = (end + bytes(piece[-keep:]))[-keep:] if keep else b""
        return end


def fetch(url: str, shards: list[str], seconds: float) -> Fetched:
    """Fetch pages of some shards in turn for so long."""
    records = size = 0
    with PageClient(url) as client:
        iterators = [shard.encode() + b":0" for shard in shards]
        began = time.monotonic()
        while (taken := time.monotonic() - began) < seconds:
            for number, iterator in enumerate(iterators):
                end, length = client.call("GetRecords", b'{"ShardIterator":"%b","Limit":10000}' % iterator, _TAIL_BYTES)
                found = _NEXT.search(end)
                if found is None:
                    raise ValueError(f"no page: {end!r}")
                records += _serial(found[1]) - _serial(iterator)
                size += length
                iterators[number] = found[1]
    return Fetched(records, size, taken)


def _serial(iterator: bytes) -> int:
    found = _SERIAL.search(iterator)
    return 0 if found is None else int(found[1])
