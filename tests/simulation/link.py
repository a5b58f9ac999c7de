"""The socket between processor and generator: bytes that arrive late and in pieces, and connections that break."""

from __future__ import annotations

import errno
import os
import struct
from collections import deque
from typing import TYPE_CHECKING

from kcl_receiver.generator.connection import Connection
from kcl_receiver.wire.frames import FrameReader

if TYPE_CHECKING:
    from simulation.generator import SimGenerator
    from simulation.processor import SimProcessor

SEND_BUFFER = 6000
"""Bytes on their way from a processor at which its socket takes no more: small, so that batches go in pieces."""
_UCRED = struct.Struct("3i")


class Wire:
    """One connection: a socket at the processor (`ProcessorEnd`), a transport at the generator (`GeneratorEnd`)."""

    def __init__(self, processor: SimProcessor, generator: SimGenerator) -> None:
        self.processor = processor
        self.generator = generator
        self.fleet = processor.host.fleet
        self.rng = self.fleet.rng
        self.socket = ProcessorEnd(self)
        self.transport = GeneratorEnd(self)
        self.connection: Connection | None = None
        self.broken = False
        self.in_flight = 0
        self._ready_at = [0.0, 0.0]
        self._lost_at_generator = False
        generator.wires.append(self)
        generator.later(self._delay(0), self._accept)

    def _delay(self, direction: int) -> float:
        """Delay of the next piece; pieces of one direction stay in order."""
        now = self.fleet.timeline.now
        latency = self.rng.random() * (0.4 if now < self.processor.host.frames_cut_until else 0.004)
        self._ready_at[direction] = max(self._ready_at[direction], now + latency)
        return self._ready_at[direction] - now

    def _accept(self) -> None:
        if not self.broken:
            self.connection = self.generator.accept(self)

    def _pieces(self, content: bytes) -> list[bytes]:
        if self.fleet.timeline.now >= self.processor.host.frames_cut_until:
            return [content]
        out = []
        while content:
            size = self.rng.choice((1, 11, 12, 13, 100, 1000, 10_000))
            out.append(content[:size])
            content = content[size:]
        return out

    def to_generator(self, content: bytes) -> None:
        for piece in self._pieces(content):
            self.in_flight += len(piece)
            self.generator.later(self._delay(0), self._feed_generator, piece)

    def _feed_generator(self, piece: bytes) -> None:
        connection = self.connection
        if self.broken or connection is None or self._lost_at_generator:
            return
        full = self.in_flight >= SEND_BUFFER
        self.in_flight -= len(piece)
        rest = memoryview(piece)
        while rest:
            place = memoryview(connection.get_buffer(-1))
            taken = min(len(place), len(rest))
            place[:taken] = rest[:taken]
            rest = rest[taken:]
            connection.buffer_updated(taken)
        if full and self.in_flight < SEND_BUFFER:
            self.processor.later(0.0001, self.processor.writable, self)

    def to_processor(self, content: bytes) -> None:
        for piece in self._pieces(content):
            self.processor.later(self._delay(1), self._feed_processor, piece)

    def _feed_processor(self, piece: bytes) -> None:
        if not self.broken:
            self.socket.inbox.append(piece)
            self.processor.readable(self)

    def hang_up_from_processor(self) -> None:
        """What was sent still arrives, then the end."""
        self.generator.later(self._delay(0), self._end_at_generator)

    def _end_at_generator(self) -> None:
        if self.connection is not None and not self._lost_at_generator:
            self._lost_at_generator = True
            self.connection.eof_received()
            self.connection.connection_lost(None)

    def hang_up_from_generator(self) -> None:
        self.processor.later(self._delay(1), self._end_at_processor)
        if self.generator.alive:
            self.generator.later(0.0, self._end_at_generator)

    def _end_at_processor(self) -> None:
        if not self.socket.ended:
            self.socket.ended = True
            self.processor.readable(self)

    def cut(self) -> None:
        """Both ends lose it, each in its own time; what was on its way is gone."""
        self.broken = True
        self.generator.later(self.rng.random() * 0.5, self._end_at_generator)
        self.processor.later(self.rng.random() * 0.5, self._end_at_processor)


class ProcessorEnd:
    """The few methods of a socket that `GeneratorLink` uses."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.inbox: deque[bytes] = deque()
        self.ended = False
        self._blocking = False

    def sendmsg(self, pieces: list[memoryview]) -> int:
        if self.ended or self.wire.broken or not self.wire.generator.alive:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        room = 10**9 if self._blocking else SEND_BUFFER - self.wire.in_flight
        if room <= 0:
            raise BlockingIOError
        content = b"".join(pieces)[:room]
        self.wire.to_generator(content)
        return len(content)

    def recv_into(self, buffer: memoryview) -> int:
        if not self.inbox:
            if self.ended:
                return 0
            raise BlockingIOError
        taken = 0
        while self.inbox and taken < len(buffer):  # as a stream does: what came in two pieces is one read
            piece = self.inbox.popleft()
            now = min(len(piece), len(buffer) - taken)
            buffer[taken : taken + now] = piece[:now]
            taken += now
            if now < len(piece):
                self.inbox.appendleft(piece[now:])
        return taken

    def settimeout(self, _: float) -> None:
        self._blocking = True

    def close(self) -> None:
        self.wire.hang_up_from_processor()

    def fileno(self) -> int:
        return 0


class GeneratorEnd:
    """The few methods of a transport that `Connection` uses; it is also the socket that the transport tells of."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self._closing = False
        self._reader = FrameReader()

    def get_extra_info(self, _: str) -> GeneratorEnd:
        return self

    def getsockopt(self, *_: int) -> bytes:
        return _UCRED.pack(self.wire.processor.pid, os.getuid(), 0)

    def setsockopt(self, *_: int) -> None:
        pass

    def is_closing(self) -> bool:
        return self._closing

    def write(self, content: bytes) -> None:
        rest = memoryview(content)
        while rest:
            place = self._reader.buffer()
            taken = min(len(place), len(rest))
            place[:taken] = rest[:taken]
            rest = rest[taken:]
            frame = self._reader.advance(taken)
            if frame is not None:
                self.wire.generator.said(self.wire, frame.message)
        if not self.wire.broken:
            self.wire.to_processor(content)

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self.wire.hang_up_from_generator()

    abort = close
