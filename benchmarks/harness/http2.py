"""HTTP/2 without TLS, as KCL's client speaks it to an emulator: as much of it as a server of large bodies needs.

A general server copies every body into frames of 16 KiB, at a cost that would be seen in the figures. Here a frame is a
header of 9 bytes and a view of the body, and the kernel gathers them. No I/O: `receive` takes bytes and gives requests,
`take` gives what to send. The rules are RFC 9113's; what this server has no use for (priorities, push) it skips.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hpack import Decoder

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 3, 4, 5
DEFAULT_WINDOW = 65_535
FRAME_BYTES = 16_384
WIDE_WINDOW = 2**30
STREAMS = 100
"""Requests at a time on one connection."""
BURST = 32
"""Frames of one response before it is another one's turn."""


class BrokenPeer(Exception):
    """The other side does not speak HTTP/2."""


@dataclass
class Request:
    """A request of which everything has come."""

    stream: int
    headers: dict[str, str]
    body: bytes


@dataclass
class _Arriving:
    block: bytearray = field(default_factory=bytearray)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    ends: bool = False


@dataclass
class _Leaving:
    parts: deque[memoryview]
    window: int


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame."""
    return head(len(payload), kind, flags, stream) + payload


def head(length: int, kind: int, flags: int, stream: int) -> bytes:
    """Return the 9 bytes before a frame's payload."""
    return struct.pack(">BHBBI", length >> 16, length & 0xFFFF, kind, flags, stream)


def literal(name: str, value: str) -> bytes:
    """Return a header in HPACK, without index and without Huffman's code: short enough, and costs nothing.

    Raises:
        ValueError: It is too long for one byte of length.
    """
    if max(len(name), len(value)) > 126:  # RFC 7541, 5.1
        raise ValueError(f"{name}: too long")
    return b"\0" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()


def split_frames(buffer: bytearray) -> Iterator[tuple[int, int, int, bytes]]:
    """Take all whole frames from a buffer: kind, flags, stream, payload."""
    at = 0
    try:
        while len(buffer) >= at + 9:
            high, low, kind, flags, stream = struct.unpack_from(">BHBBI", buffer, at)
            end = at + 9 + (high << 16) + low
            if len(buffer) < end:
                break
            payload = bytes(memoryview(buffer)[at + 9 : end])
            at = end
            yield kind, flags, stream & 0x7FFFFFFF, payload
    finally:
        del buffer[:at]


class Connection:
    """The server's side of one connection."""

    def __init__(self) -> None:
        self._decoder = Decoder()
        self._buffer = bytearray()
        self._greeted = False
        self._arriving: dict[int, _Arriving] = {}
        self._leaving: dict[int, _Leaving] = {}
        self._window = DEFAULT_WINDOW
        self._stream_window = DEFAULT_WINDOW
        self._frame_bytes = FRAME_BYTES
        settings = struct.pack(">HIHI", MAX_CONCURRENT_STREAMS, STREAMS, INITIAL_WINDOW_SIZE, WIDE_WINDOW)
        widened = struct.pack(">I", WIDE_WINDOW)
        self._control = bytearray(frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, widened))

    def receive(self, received: bytes) -> list[Request]:
        """Take what came, and return the requests that are complete with it.

        Raises:
            BrokenPeer: It is not HTTP/2.
        """
        self._buffer += received
        if not self._greeted:
            if not PREFACE.startswith(self._buffer[: len(PREFACE)]):
                raise BrokenPeer(f"expected the preface of HTTP/2, not {bytes(self._buffer[:40])!r}")
            if len(self._buffer) < len(PREFACE):
                return []
            del self._buffer[: len(PREFACE)]
            self._greeted = True
        requests: list[Request] = []
        for kind, flags, stream, payload in split_frames(self._buffer):
            request = self._frame(kind, flags, stream, payload)
            if request is not None:
                requests.append(request)
        return requests

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> Request | None:
        if kind in (HEADERS, CONTINUATION):
            return self._headers(kind, flags, stream, payload)
        if kind == DATA:
            arriving = self._arriving[stream]
            arriving.body += _unpadded(flags, payload)
            return self._finish(stream) if flags & END_STREAM else None
        if kind == SETTINGS and not flags & ACK:
            self._settings(payload)
        elif kind == WINDOW_UPDATE:
            (more,) = struct.unpack(">I", payload)
            if stream == 0:
                self._window += more
            elif stream in self._leaving:
                self._leaving[stream].window += more
        elif kind == PING and not flags & ACK:
            self._control += frame(PING, ACK, 0, payload)
        elif kind == RST_STREAM:
            self._arriving.pop(stream, None)
            self._leaving.pop(stream, None)
        return None

    def _headers(self, kind: int, flags: int, stream: int, payload: bytes) -> Request | None:
        arriving = self._arriving.setdefault(stream, _Arriving())
        if kind == HEADERS:
            payload = _unpadded(flags, payload)
            arriving.block += payload[5:] if flags & PRIORITY else payload
            arriving.ends = bool(flags & END_STREAM)
        else:
            arriving.block += payload
        if not flags & END_HEADERS:
            return None
        for name, value in self._decoder.decode(bytes(arriving.block)):
            arriving.headers[str(name).lower()] = str(value)
        return self._finish(stream) if arriving.ends else None

    def _finish(self, stream: int) -> Request:
        arriving = self._arriving.pop(stream)
        return Request(stream, arriving.headers, bytes(arriving.body))

    def _settings(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", payload):
            if name == INITIAL_WINDOW_SIZE:
                for leaving in self._leaving.values():
                    leaving.window += value - self._stream_window
                self._stream_window = value
            elif name == MAX_FRAME_SIZE:
                self._frame_bytes = value
        self._control += frame(SETTINGS, ACK, 0)

    def respond(self, stream: int, status: int, kind: str, parts: Sequence[bytes | memoryview], number: int) -> None:
        """Answer a request; the parts of the body are sent from where they are.

        Args:
            stream: That of the request.
            status: Of HTTP.
            kind: Content type.
            parts: The body.
            number: Makes the request id.
        """
        views = deque(memoryview(part) for part in parts if len(part))
        length = sum(len(view) for view in views)
        block = literal(":status", str(status)) + literal("content-type", kind)
        block += literal("content-length", str(length)) + literal("x-amzn-requestid", f"page-{number:012d}")
        self._control += frame(HEADERS, END_HEADERS, stream, block)
        self._leaving[stream] = _Leaving(views, self._stream_window)

    def unsent(self) -> Iterator[memoryview]:
        """Return the parts of all responses that `take` has not given yet."""
        for leaving in self._leaving.values():
            yield from leaving.parts

    def take(self, most: int) -> list[bytes | memoryview]:
        """Return pieces to send now, up to about so many bytes; none if the windows or the work are used up."""
        pieces: list[bytes | memoryview] = []
        if self._control:
            pieces.append(bytes(self._control))
            self._control.clear()
        moved = True
        while moved and most > 0:
            moved = False
            for stream in list(self._leaving):
                for _ in range(BURST):
                    sent = self._frame_of(stream, pieces)
                    if sent is None:
                        break
                    most -= sent
                    moved = True
        return pieces

    def _frame_of(self, stream: int, pieces: list[bytes | memoryview]) -> int | None:
        """Add the next frame of a response; return its bytes, or None if it has none, or may not send them."""
        leaving = self._leaving.get(stream)
        if leaving is None:
            return None
        room = min(self._frame_bytes, self._window, leaving.window)
        if leaving.parts and room <= 0:
            return None
        views: list[memoryview] = []
        length = 0
        while leaving.parts and length < room:
            view = leaving.parts[0]
            if len(view) <= room - length:
                leaving.parts.popleft()
            else:
                leaving.parts[0] = view[room - length :]
                view = view[: room - length]
            views.append(view)
            length += len(view)
        self._window -= length
        leaving.window -= length
        pieces.append(head(length, DATA, 0 if leaving.parts else END_STREAM, stream))
        pieces += views
        if not leaving.parts:
            del self._leaving[stream]
        return length


def _unpadded(flags: int, payload: bytes) -> bytes:
    return payload[1 : len(payload) - payload[0]] if flags & PADDED else payload
