"""Target `link`: a processor with an honest daemon, and a generator that says anything.

It goes on or leaves by an error of the wire, never by another exception; it asks for no checkpoint that the generator
did not report, and for nothing without end.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from fuzz.grammar import HEADER, hostile_frame
from fuzz.source import Source
from fuzz.stage_processor import ProcessorStage, installed
from fuzz.verdict import Tally
from kcl_receiver.errors import ReceiverError
from kcl_receiver.wire.frames import MAX_PAYLOAD
from kcl_receiver.wire.messages import (
    CODES,
    PROTOCOL_VERSION,
    Admitted,
    Batch,
    Draining,
    Flush,
    Hold,
    Message,
    Refused,
    ShardEndConfirmed,
    Status,
    Stored,
)

__all__ = ["installed", "run", "seeds"]


def seeds() -> Iterator[bytes]:
    """Yield inputs to begin with."""
    yield bytes([9, 0] * 40)
    for step in (1, 3, 7, 11, 37, 101, 151, 200):
        yield bytes(step * number % 256 for number in range(250))


def run(data: bytes, tally: Tally) -> None:
    """Take one input."""
    source = Source(data)
    stage = ProcessorStage(tally)
    source.rarely = source.pick((1, 4, 16, 64))
    stage.socket.absent = source.one_in(16)
    stage.action("initialize", shardId="shardId-000000000000", sequenceNumber="TRIM_HORIZON", subSequenceNumber=0)
    position = 1
    sent = 0
    while source and not stage.left:
        what = source.below(16)
        if what < 4:
            position, sent = _daemon(stage, source, position, sent)
        elif what < 7:
            stage.answer_honestly()
        elif what < 13:
            message = _message(stage, source, sent)
            made = hostile_frame(source, message)
            cut = len(made) if not source.one_in(6) else source.below(len(made) + 1)
            stage.generator(made[:cut])
            stage.generator(made[cut:])
        elif what == 13 and source.one_in(3):
            # The most that a header can announce, and then nothing.
            kind = source.pick((Status, Batch))
            stage.generator(HEADER.pack(b"KR", PROTOCOL_VERSION, CODES[kind], 10, MAX_PAYLOAD))
        elif what == 13:
            stage.generator(source.take(source.below(40)))
        elif what == 14:
            stage.advance(source.pick((0.01, 0.1, 2.0, 30.0)))
        elif source.one_in(2):
            stage.hang_up()
        else:
            stage.socket.room = source.pick((0, 5, 100_000))
    stage.finish(ReceiverError)


def _daemon(stage: ProcessorStage, source: Source, position: int, sent: int) -> tuple[int, int]:
    """The daemon goes on if it may: it answers a checkpoint, or has the next action when the last one is done."""
    if stage.owed:
        stage.action("checkpoint", error=source.pick((None, None, "ThrottlingException", "ShutdownException")))
        return position, sent
    if not stage._answered:
        return position, sent
    action = source.pick(("processRecords",) * 12 + ("shardEnded", "shutdownRequested", "leaseLost", "processRecords"))
    if action != "processRecords":
        stage.action(action)
        return position, sent
    records = []
    for _ in range(source.below(4)):
        position += 1 + source.below(3)
        records.append(
            {
                "action": "record",
                "data": "YWJj" * source.pick((0, 1, 700)),
                "partitionKey": "key",
                "sequenceNumber": str(position // 2),
                "subSequenceNumber": position % 2,
                "approximateArrivalTimestamp": 5,
            }
        )
    stage.action(action, records=records, millisBehindLatest=5)
    return position, sent + len(records)


def _message(stage: ProcessorStage, source: Source, sent: int) -> Message:
    """Return what a generator might say now."""
    number = source.below(sent + 2)
    kind = source.below(9)
    if kind < 2:
        welcome = stage.welcome(max(1, number))
        if source.one_in(2):
            name = source.pick(sorted(set(welcome.__struct_fields__) - {"generator"}))
            welcome = msgspec.structs.replace(welcome, **{name: source.integer() % 2**63 - source.below(2)})
        return welcome
    if kind < 7:
        return (Admitted(number), Stored(number), Stored(source.integer() % 2**63), Draining(), ShardEndConfirmed())[
            kind - 2
        ]
    if kind == 7:
        return Refused(source.pick(("FrameError", "Fenced", "Exception", "annotations", "")), "message", "hint")
    return source.pick((Status(), Flush(), Hold("LeaseRefused", "message", "hint")))
