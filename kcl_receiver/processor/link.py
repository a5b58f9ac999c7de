"""The processor's end of the socket: connects, sends frames without blocking, receives them."""

from __future__ import annotations

import os
import socket
import struct
from collections import deque
from collections.abc import Iterator
from typing import Protocol

from kcl_receiver.errors import GeneratorUnavailable, ProtocolError
from kcl_receiver.processor.effects import Transmit
from kcl_receiver.wire.frames import NO_PAYLOADS, Frame, FrameReader, encode, encode_batch
from kcl_receiver.wire.messages import Batch

_UCRED = struct.Struct("3i")
_BUFFERS_A_CALL = 64
_SOCKET_BUFFER = 1024 * 1024
ANSWERS_BYTES = 4096
"""Read at a time: some hundred answers, and an error in one or two."""


class Socket(Protocol):
    """What a link needs of its socket; it is connected, and does not block."""

    def fileno(self) -> int:
        """See `socket.socket`."""

    def sendmsg(self, buffers: list[memoryview], /) -> int:
        """See `socket.socket`."""

    def recv_into(self, buffer: memoryview, /) -> int:
        """See `socket.socket`."""

    def settimeout(self, value: float, /) -> None:
        """See `socket.socket`."""

    def close(self) -> None:
        """See `socket.socket`."""


class GeneratorLink:
    """One connection to the generator, non-blocking.

    Args:
        connected: Its socket; the link closes it.
    """

    def __init__(self, connected: Socket) -> None:
        self._reader = FrameReader(NO_PAYLOADS)
        self._answers = memoryview(bytearray(ANSWERS_BYTES))
        self._out: deque[memoryview] = deque()
        self._socket = connected

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._socket.fileno()

    @property
    def wants_to_send(self) -> bool:
        """True while something waits for the socket to take it."""
        return bool(self._out)

    def transmit(self, effect: Transmit) -> None:
        """Queue one message and send what the socket takes now.

        Raises:
            OSError: The connection is broken.
        """
        if isinstance(effect.message, Batch) and effect.columns is not None:
            parts = encode_batch(effect.message, effect.columns)
        else:
            parts = encode(effect.message)
        self._out.extend(view for part in parts if (view := memoryview(part).cast("B")).nbytes)
        self.send()

    def send(self) -> None:
        """Send what the socket takes now.

        Raises:
            OSError: The connection is broken.
        """
        while self._out:
            pieces = [self._out[index] for index in range(min(len(self._out), _BUFFERS_A_CALL))]
            try:
                sent = self._socket.sendmsg(pieces)
            except BlockingIOError:
                return
            while sent:
                if sent >= self._out[0].nbytes:
                    sent -= self._out.popleft().nbytes
                else:
                    self._out[0] = self._out[0][sent:]
                    sent = 0

    def receive(self) -> tuple[list[Frame], bool]:
        """Return the frames that have come, and whether the connection is still open.

        Raises:
            WireError: What came is not this protocol.
        """
        frames: list[Frame] = []
        while True:
            try:
                received = self._socket.recv_into(self._answers)
            except BlockingIOError:
                return frames, True
            except OSError:
                return frames, False
            if received == 0:
                return frames, False
            frames += self._take(self._answers[:received])
            if received < len(self._answers):
                return frames, True  # that was all; whether more comes, poll tells

    def _take(self, answers: memoryview) -> Iterator[Frame]:
        while answers:
            place = self._reader.buffer()
            size = min(len(place), len(answers))
            place[:size] = answers[:size]
            answers = answers[size:]
            if (frame := self._reader.advance(size)) is not None:
                yield frame

    def close(self, linger: float = 0.0) -> None:
        """Hang up; first wait up to `linger` seconds for what is queued to be taken."""
        if self._out and linger:
            self._socket.settimeout(linger)
            try:
                self.send()
            except OSError:
                # The other side is gone, and with it the one who would have read this.
                self._out.clear()
        self._socket.close()


def connect(path: str) -> GeneratorLink:
    """Return a connection to the generator that listens at a path.

    Raises:
        GeneratorUnavailable: Nobody listens at `path`.
        ProtocolError: The listener belongs to another user.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
        made.connect(path)
        _, uid, _ = _UCRED.unpack(made.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    except OSError as error:
        made.close()
        raise GeneratorUnavailable(f"no generator answers at {path}: {error.strerror}") from error
    if uid != os.getuid():
        made.close()
        raise ProtocolError(f"the process that listens at {path} belongs to user {uid}, not to {os.getuid()}")
    return GeneratorLink(made)
