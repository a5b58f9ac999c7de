"""A connection on the generator's side, whoever the peer is: what it costs, and that it is told why."""

from __future__ import annotations

import os
import struct

import pytest

from kcl_receiver.errors import ProtocolError, WireError
from kcl_receiver.generator.connection import Connection
from kcl_receiver.wire.frames import HEADER, MAGIC, MAX_MESSAGE, MAX_PAYLOAD, Frame, encode
from kcl_receiver.wire.messages import CODES, PROTOCOL_VERSION, Batch, Message, Status, StatusRequest, Welcome

WELCOME = Welcome("writer", 1, 1, 1, 1, 1, 1, 1, 0)
LARGEST = HEADER.pack(MAGIC, PROTOCOL_VERSION, CODES[Batch], MAX_MESSAGE, MAX_PAYLOAD)


class Transport:
    """A transport, and the socket that it tells of."""

    def __init__(self) -> None:
        self.reading = True
        self.closing = False

    def get_extra_info(self, _: str) -> Transport:
        return self

    def getsockopt(self, *_: int) -> bytes:
        return struct.pack("3i", 42, os.getuid(), 0)

    def setsockopt(self, *_: int) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closing

    def write(self, content: bytes) -> None:
        """Nobody looks at it."""

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closing = True


class Listener:
    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.error: WireError | None = None

    def opened(self, connection: Connection) -> None:
        pass

    def received(self, connection: Connection, frame: Frame) -> None:
        self.messages.append(frame.message)

    def broken(self, connection: Connection, error: WireError) -> None:
        self.error = error

    def closed(self, connection: Connection) -> None:
        pass


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def transport() -> Transport:
    return Transport()


@pytest.fixture
def connection(listener: Listener, transport: Transport) -> Connection:
    made = Connection(1, listener)
    made.connection_made(transport)  # type: ignore[arg-type]
    return made


def feed(connection: Connection, content: bytes) -> None:
    while content:
        place = memoryview(connection.get_buffer(-1))
        taken = min(len(place), len(content))
        place[:taken] = content[:taken]
        content = content[taken:]
        connection.buffer_updated(taken)


def test_whoever_was_not_welcomed_costs_no_more_than_a_message(connection: Connection, listener: Listener) -> None:
    feed(connection, LARGEST)
    assert isinstance(listener.error, ProtocolError)
    assert len(connection.get_buffer(-1)) == HEADER.size


def test_a_batch_is_taken_once_its_session_was_welcomed(connection: Connection, listener: Listener) -> None:
    connection.send(WELCOME)
    feed(connection, LARGEST)
    assert listener.error is None
    assert len(connection.get_buffer(-1)) == MAX_MESSAGE + MAX_PAYLOAD


def test_a_status_is_for_nobody_here(connection: Connection, listener: Listener) -> None:
    connection.send(WELCOME)
    feed(connection, HEADER.pack(MAGIC, PROTOCOL_VERSION, CODES[Status], 10, 1))
    assert isinstance(listener.error, ProtocolError)


def test_a_peer_that_does_not_take_its_answers_is_not_read_from_until_it_has(
    connection: Connection, transport: Transport, listener: Listener
) -> None:
    connection.pause_writing()
    assert not transport.reading
    connection.resume_writing()
    assert transport.reading
    feed(connection, b"".join(bytes(memoryview(part)) for part in encode(StatusRequest())))
    assert listener.messages == [StatusRequest()]


def test_a_connection_that_was_hung_up_is_neither_paused_nor_resumed(
    connection: Connection, transport: Transport
) -> None:
    connection.close()
    transport.reading = "as it was"  # type: ignore[assignment]
    connection.pause_writing()
    connection.resume_writing()
    assert transport.reading == "as it was"
