"""Framing: bytes to messages and back, bounded and checked, without I/O.

A frame is a header of 12 bytes, the message in MessagePack, and for some messages a payload:

    bytes 0-1   b"KR"
    byte  2     protocol version
    byte  3     code of the message
    bytes 4-7   length of the message, little-endian
    bytes 8-11  length of the payload, little-endian
    then        the message, padded with zeros to a multiple of 8, so that the columns are aligned; the payload

The lengths are checked against the bounds of the message's code before anything is allocated for them, and a payload is
taken only where one may come now: a peer that nobody knows yet costs no more than a message.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from kcl_receiver.errors import FrameError, ProtocolError, VersionMismatch
from kcl_receiver.ranges import After, Position, parse_after, parse_position
from kcl_receiver.wire.columns import Buffer, Columns, VarColumn
from kcl_receiver.wire.messages import CODES, PROTOCOL_VERSION, Batch, Message, Status

HEADER = struct.Struct("<2sBBII")
MAGIC = b"KR"

MAX_MESSAGE = 64 * 1024
"""No message comes near: the largest are a Refused with its hint, and a Hello."""
MAX_PAYLOAD = 64 * 1024 * 1024
"""A Kinesis record is at most 10 MiB; `BATCH_BYTES` and the columns' overhead leave ample room."""
BATCH_BYTES = 8 * 1024 * 1024
"""A batch whose columns hold more than this is split by the processor."""

NO_PAYLOADS: frozenset[type[Message]] = frozenset()
ALL_PAYLOADS: frozenset[type[Message]] = frozenset({Batch, Status})

_ENCODER = msgspec.msgpack.Encoder()
_TYPES = {code: kind for kind, code in CODES.items()}
_DECODERS = {code: msgspec.msgpack.Decoder(kind) for code, kind in _TYPES.items()}
_PAYLOAD_BOUND = {CODES[kind]: MAX_PAYLOAD for kind in ALL_PAYLOADS}


@dataclass(frozen=True, slots=True)
class Frame:
    """One message with its payload (empty for most)."""

    message: Message
    payload: memoryview


def encode(message: Message, payload: tuple[Buffer, ...] = ()) -> list[Buffer]:
    """Return the buffers of one frame, in order, to be sent by scatter and gather.

    Raises:
        FrameError: The message or its payload is larger than the other side would take.
    """
    body = _ENCODER.encode(message)
    code = CODES[type(message)]
    length = sum(memoryview(part).nbytes for part in payload)
    _check_lengths(code, len(body), length)
    return [
        HEADER.pack(MAGIC, PROTOCOL_VERSION, code, len(body), length) + body + bytes(-len(body) % 8),
        *payload,
    ]


def _check_lengths(code: int, message: int, payload: int) -> None:
    name = _TYPES[code].__name__
    if message > MAX_MESSAGE:
        raise FrameError(f"a {name} message of {message} bytes is beyond the bound of {MAX_MESSAGE}")
    bound = _PAYLOAD_BOUND.get(code, 0)
    if payload > bound:
        raise FrameError(f"a {name} message with a payload of {payload} bytes is beyond the bound of {bound}")


class FrameReader:
    """Puts frames together from whatever pieces the socket gives.

    `buffer()` is where the next bytes belong; after putting `n` bytes there call `advance(n)`, which returns a frame
    when one is complete. The payload is a view of the buffer that it was received into, and nothing is copied. The
    reader never asks for a byte beyond the frame it is in. After an error it must not be used again.

    Args:
        payloads: See below.
        allocate: Returns the place for so many bytes; what is in it does not matter.

    Attributes:
        payloads: The messages whose payload is taken now.
    """

    def __init__(
        self,
        payloads: frozenset[type[Message]] = ALL_PAYLOADS,
        allocate: Callable[[int], bytearray | memoryview] = bytearray,
    ) -> None:
        self.payloads = payloads
        self._allocate = allocate
        self._header = bytearray(HEADER.size)
        self._body: bytearray | memoryview | None = None
        self._filled = 0
        self._code = 0
        self._message_length = 0

    @property
    def within_frame(self) -> bool:
        """True if a frame has begun and is not complete: an end of file now is a broken connection."""
        return self._filled > 0 or self._body is not None

    def buffer(self) -> memoryview:
        """Return the non-empty, writable place for the next bytes."""
        target = self._header if self._body is None else self._body
        return memoryview(target)[self._filled :]

    def advance(self, received: int) -> Frame | None:
        """Take note of `received` bytes in the buffer.

        Returns:
            The frame that they complete, or None.

        Raises:
            FrameError: The bytes are not this protocol, or a length is beyond its bound.
            VersionMismatch: The other side speaks another version.
            ProtocolError: A message comes with a payload that is not taken now.
        """
        self._filled += received
        if self._body is None:
            if self._filled < HEADER.size:
                return None
            self._begin_body()
        if self._body is None or self._filled < len(self._body):
            return None
        return self._finish(self._body)

    def _begin_body(self) -> None:
        magic, version, code, message_length, payload_length = HEADER.unpack(self._header)
        if magic != MAGIC:
            raise FrameError(
                f"not a frame of kcl_receiver: it begins with {bytes(self._header[:4])!r}",
                "something else is connected to this socket; give the receiver a socket of its own (receiver.socket)",
            )
        if version != PROTOCOL_VERSION:
            raise VersionMismatch(
                f"the other side speaks version {version} of the protocol, this one speaks {PROTOCOL_VERSION}",
                "processor and generator must be of one release: restart the generator after an upgrade",
            )
        if code not in _TYPES:
            raise FrameError(f"unknown message code {code}")
        _check_lengths(code, message_length, payload_length)
        if payload_length and _TYPES[code] not in self.payloads:
            raise ProtocolError(f"a {_TYPES[code].__name__} with {payload_length} bytes of payload may not come now")
        self._code = code
        self._message_length = message_length
        self._body = self._allocate(message_length + -message_length % 8 + payload_length)
        self._filled = 0

    def _finish(self, body: bytearray | memoryview) -> Frame:
        view = memoryview(body)
        end = self._message_length
        start = end + -end % 8
        try:
            message = _DECODERS[self._code].decode(view[:end])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise FrameError(f"a {_TYPES[self._code].__name__} message that can't be decoded: {error}") from error
        if any(view[end:start]):
            raise FrameError("the padding of a frame is not zero")
        self._body = None
        self._filled = 0
        return Frame(message, view[start:])


@dataclass(frozen=True, slots=True)
class ReceivedBatch:
    """A batch whose message and columns were checked against each other."""

    message: Batch
    columns: Columns
    after: After
    first: Position
    last: Position
    whole: Position | None


def encode_batch(message: Batch, columns: Columns) -> list[Buffer]:
    """Return the buffers of a batch's frame."""
    return encode(message, columns.buffers())


def batch_lengths(columns: Columns) -> tuple[int, int, int, int, int, int, int, int]:
    """Return `Batch.lengths` of these columns."""
    sub, arrival, sequence, key, data, *values = (memoryview(part).nbytes for part in columns.buffers())
    return (sub, arrival, sequence, key, data, values[0], values[1], values[2])


def decode_batch(frame: Frame) -> ReceivedBatch:
    """Return the columns of a Batch frame as views of its payload.

    The offsets between the first and the last are not looked at here; whoever follows them checks them first
    (`store.blocks.arrays.check_columns` does, at memory speed). Both ends are compared with the message, because they
    become the ledger's range, and a contradiction found only in the store would stop the generator for all shards.

    Raises:
        FrameError: The lengths contradict the count or the payload.
        ProtocolError: The positions are malformed, out of order, or not those of the columns.
    """
    message = frame.message
    if not isinstance(message, Batch):
        raise ProtocolError(f"a Batch was expected, not {type(message).__name__}")
    count = message.count
    if count < 1:
        raise FrameError(f"batch {message.number} has {count} records")
    fixed = (8 * count, 8 * count, 4 * (count + 1), 4 * (count + 1), 4 * (count + 1))
    if message.lengths[:5] != fixed or min(message.lengths) < 0 or sum(message.lengths) != len(frame.payload):
        raise FrameError(f"batch {message.number}: the lengths of its columns contradict its {count} records")
    parts: list[memoryview] = []
    start = 0
    for length in message.lengths:
        parts.append(frame.payload[start : start + length])
        start += length
    sub, arrival, sequence_offsets, key_offsets, data_offsets, sequence, key, data = parts
    for name, offsets, values in (
        ("sequence", sequence_offsets, sequence),
        ("key", key_offsets, key),
        ("data", data_offsets, data),
    ):
        numbers = offsets.cast("i")
        if numbers[0] != 0 or numbers[count] != len(values):
            raise FrameError(f"batch {message.number}: the offsets of column {name} contradict its length")
    columns = Columns(
        count=count,
        sequence=VarColumn(sequence_offsets, sequence),
        sub=sub,
        key=VarColumn(key_offsets, key),
        arrival=arrival,
        data=VarColumn(data_offsets, data),
    )
    try:
        after = parse_after(message.after)
        first = parse_position(message.first)
        last = parse_position(message.last)
        whole = None if message.whole is None else parse_position(message.whole)
        ends = (columns.position(0), columns.position(count - 1))
    except ValueError as error:
        raise ProtocolError(f"batch {message.number}: {error}") from error
    if last < first or (isinstance(after, Position) and first <= after):
        raise ProtocolError(f"batch {message.number} runs from {first} to {last} after {after}: not in order")
    if (message.arrival_first, message.arrival_last) != (columns.arrival_of(0), columns.arrival_of(count - 1)):
        raise ProtocolError(f"batch {message.number} claims arrival times that are not those of its columns")
    if ends != (first, last):
        raise ProtocolError(
            f"batch {message.number} claims {first} to {last}, its columns run from {ends[0]} to {ends[1]}"
        )
    if whole is not None and not first <= whole <= last:
        raise ProtocolError(f"batch {message.number}: {whole} lies outside of it")
    return ReceivedBatch(message, columns, after, first, last, whole)
