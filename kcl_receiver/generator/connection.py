"""One connection on the generator's side: an asyncio protocol that receives frames into their own buffers."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from typing import Protocol, cast

from kcl_receiver.errors import FrameError, WireError
from kcl_receiver.store.buffers import uncleared
from kcl_receiver.wire.columns import Buffer
from kcl_receiver.wire.frames import NO_PAYLOADS, Frame, FrameReader, encode
from kcl_receiver.wire.messages import Batch, Message, Welcome

_UCRED = struct.Struct("3i")
_SOCKET_BUFFER = 1024 * 1024


class Listener(Protocol):
    """What a connection tells: the server."""

    def opened(self, connection: Connection) -> None:
        """A process of this user connected."""

    def received(self, connection: Connection, frame: Frame) -> None:
        """A frame came."""

    def broken(self, connection: Connection, error: WireError) -> None:
        """What came can't be used; nothing more is read."""

    def closed(self, connection: Connection) -> None:
        """The connection is gone."""


class Connection(asyncio.BufferedProtocol):
    """Receives frames, and sends them.

    Two rules keep its memory small whoever the peer is: payloads are taken only once its session was welcomed, and a
    peer that does not take its answers is not read from.

    Attributes:
        number: Known by it to the state machine.
        pid: Process id of the peer, as the kernel tells it.
    """

    def __init__(self, number: int, listener: Listener) -> None:
        self.number = number
        self.pid = 0
        self._listener = listener
        self._reader = FrameReader(NO_PAYLOADS, uncleared)
        self._transport: asyncio.Transport | None = None
        self._known = False
        self._dead = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Check who connects: the socket is for its own user alone."""
        self._transport = cast(asyncio.Transport, transport)
        peer = cast(socket.socket, transport.get_extra_info("socket"))
        pid, uid, _ = _UCRED.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        if uid != os.getuid():
            self._dead = True
            self._transport.abort()
            return
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER)
        self.pid = pid
        self._known = True
        self._listener.opened(self)

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - the frame knows its size
        """Return where the next bytes belong."""
        # asyncio asks for a buffer and takes a memoryview; its annotation says bytearray.
        return cast(bytearray, self._reader.buffer())

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes came."""
        if self._dead:
            return
        try:
            frame = self._reader.advance(nbytes)
        except WireError as error:
            self._break(error)
            return
        if frame is not None:
            self._listener.received(self, frame)

    def pause_writing(self) -> None:
        """The peer does not take its answers: listen no more until it has."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The peer has taken them."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def eof_received(self) -> bool:
        """The peer will send nothing more."""
        if self._reader.within_frame and not self._dead:
            self._break(FrameError("the connection ended within a frame"))
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - lost is lost
        """The connection is gone."""
        if self._known:
            self._listener.closed(self)

    def _break(self, error: WireError) -> None:
        self._dead = True
        self._reader = FrameReader(NO_PAYLOADS)
        self._listener.broken(self, error)

    def send(self, message: Message, payload: tuple[Buffer, ...] = ()) -> None:
        """Send one message; a peer that is gone does not matter here, `connection_lost` tells."""
        if self._transport is not None and not self._transport.is_closing():
            if isinstance(message, Welcome):
                self._reader.payloads = frozenset({Batch})
            # Not writelines: that of Python 3.12 and 3.13 sends without ever calling `pause_writing`.
            self._transport.write(b"".join(encode(message, payload)))

    def close(self) -> None:
        """Hang up once everything sent is taken."""
        self._dead = True
        if self._transport is not None:
            self._transport.close()
