"""Target `frames`: raw bytes in pieces to the reader of frames, and batches behind it.

Whatever comes is a frame, or an error of the wire; the reader never asks for more memory than the protocol's bounds,
and what it took for a batch can be read to its last record.
"""

from __future__ import annotations

from collections.abc import Iterator

from fuzz.grammar import hostile_batch, hostile_frame
from fuzz.source import Source
from fuzz.verdict import Tally, check
from kcl_receiver.errors import FrameError, VersionMismatch, WireError
from kcl_receiver.ranges import Position
from kcl_receiver.wire import frames
from kcl_receiver.wire.frames import MAX_MESSAGE, MAX_PAYLOAD, Frame, FrameReader, encode
from kcl_receiver.wire.messages import (
    Admitted,
    Batch,
    Flush,
    Hello,
    Message,
    Progress,
    Refused,
    ShardEnd,
    Status,
    Stored,
    Welcome,
)

MEMORY = MAX_MESSAGE + 8 + MAX_PAYLOAD
PIECES = (1, 2, 3, 11, 12, 13, 64, 1 << 30)

EXAMPLES: tuple[Message, ...] = (
    Hello("landing", "shardId-000000000000", "session", 1, 1, "TRIM_HORIZON", 1),
    Flush(),
    Progress(-1, None),
    ShardEnd("5:1"),
    Welcome("writer", 1, 1, 1, 1, 1, 1, 1, 0),
    Admitted(1),
    Stored(1),
    Refused("FrameError", "message", "hint"),
    Status(),
)


def seeds() -> Iterator[bytes]:
    """Yield inputs to begin with."""
    for message in EXAMPLES:
        yield b"\x00\x07" + b"".join(bytes(memoryview(one)) for one in encode(message))
    yield b"\x00\x07GET / HTTP/1.1\r\n\r\n"
    for number in range(16):
        yield bytes([1, number]) + bytes(range(number, 255, 7)) * 2


def run(data: bytes, tally: Tally) -> None:
    """Take one input."""
    source = Source(data)
    written = source.byte() % 2
    step = source.pick(PIECES)
    stream = source.rest() if not written else b"".join(_frames(source))
    _read(stream, step, tally)


def _frames(source: Source) -> Iterator[bytes]:
    for number in range(1, 9):
        if not source:
            return
        if source.one_in(2):
            yield hostile_frame(source, source.pick(EXAMPLES))
        else:
            positions = [Position(number * 100 + row) for row in range(1 + source.below(4))]
            message, columns = hostile_batch(source, number, "TRIM_HORIZON", positions)
            yield hostile_frame(source, message, b"".join(columns))


def _read(stream: bytes, step: int, tally: Tally) -> None:
    reader = FrameReader()
    rest = memoryview(stream)
    begun = 0
    while rest:
        place = reader.buffer()
        check(len(place) > 0, "the reader has no place for the next byte")
        check(memoryview(place).obj is None or len(place) <= MEMORY, "the reader asks for more than the bounds")
        taken = min(len(place), len(rest), step)
        place[:taken] = rest[:taken]
        rest = rest[taken:]
        begun += taken
        try:
            frame = reader.advance(taken)
            check((frame is None) == reader.within_frame, "a frame that is complete is not within a frame")
            if frame is not None:
                begun = 0
                _use(frame)
                tally.reached["whole frames"] += 1
        except (FrameError, VersionMismatch) as error:
            tally.named(error, FrameError, VersionMismatch)
            return
        except WireError as error:  # what one batch is refused for does not touch the frames after it
            tally.named(error, WireError)
    check(reader.within_frame == (begun > 0), "the reader has lost count")


def _use(frame: Frame) -> None:
    again = encode(frame.message, (frame.payload,))
    check(len(memoryview(again[0]).cast("B")) % 8 == 4, "a header and a message that do not end at a multiple of 8")
    if not isinstance(frame.message, Batch):
        return
    batch = frames.decode_batch(frame)
    columns = batch.columns
    check(columns.position(0) == batch.first and columns.position(columns.count - 1) == batch.last, "the ends differ")
    check(columns.memory == len(frame.payload), "the columns are not the payload")
