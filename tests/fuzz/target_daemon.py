"""Target `daemon`: a processor with an honest generator, and a daemon whose lines say anything.

A line that is not the daemon's, or that comes at the wrong time, ends the process by an error that says so; no action
is reported done that did not come, and none is after a line that could not be read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from fuzz.source import Source
from fuzz.stage_processor import ProcessorStage, installed
from fuzz.verdict import Tally
from kcl_receiver.errors import DaemonError, FrameError, ProtocolError, StoreUnavailable

__all__ = ["installed", "run", "seeds"]

RECORD: dict[str, Any] = {
    "action": "record",
    "data": "YWJj",
    "partitionKey": "key",
    "sequenceNumber": "5",
    "subSequenceNumber": 0,
    "approximateArrivalTimestamp": 5,
}
HOSTILE_LINES = (
    b"",
    b"\0\n",
    b"null\n",
    b"[]\n",
    b'{"action":null}\n',
    b'{"action":"leaseLost","more":' + b"[" * 3000 + b"]" * 3000 + b"}\n",
    b"[" * 5000 + b"\n",
    b'{"a":' * 2000 + b"\n",
    b'{"action":"initialize","shardId":"a\xff","sequenceNumber":"1"}\n',
    b'{"action":"initialize","shardId":"a\\ud800","sequenceNumber":"1"}\n',
    b'{"action":"processRecords","records":[],"millisBehindLatest":' + b"9" * 400 + b"}\n",
    b'{"action":"processRecords","records":[],"millisBehindLatest":1e400}\n',
    b'{"action":"processRecords","records":[],"millisBehindLatest":-1}\n',
    b'{"action":"shardEnded","action":"leaseLost"}\n',
    b"\xef\xbb\xbf{}\n",
    b"   \r\n",
)


def seeds() -> Iterator[bytes]:
    """Yield inputs to begin with."""
    yield bytes([0, 0] * 30)
    for step in (1, 3, 7, 11, 37, 101, 151, 200):
        yield bytes(step * number % 256 for number in range(250))
    for number in range(len(HOSTILE_LINES)):
        yield bytes([0, 14, number, 0])


def run(data: bytes, tally: Tally) -> None:
    """Take one input."""
    source = Source(data)
    stage = ProcessorStage(tally)
    if not source.one_in(8):
        stage.action("initialize", shardId="shardId-000000000000", sequenceNumber="TRIM_HORIZON", subSequenceNumber=0)
    position = 1
    while source and not stage.left:
        what = source.below(16)
        if what < 7:
            if stage.owed:
                stage.action("checkpoint", error=None)
            else:
                position = _records(stage, source, position)
        elif what < 10:
            line = _line(stage, source, position)
            if source.one_in(4):
                line = source.damaged(line)
            cut = len(line) if not source.one_in(4) else source.below(len(line) + 1)
            _say(stage, line[:cut])
            _say(stage, line[cut:])
        elif what < 13:
            stage.advance(source.pick((0.01, 1.0, 5.0)))
        elif what == 13:
            _say(stage, source.take(source.below(60)))
        elif what == 14:
            _say(stage, source.pick(HOSTILE_LINES) if not source.one_in(8) else b"x" * 120_000)
        else:
            _say(stage, b"\n")
        stage.answer_honestly()
    stage.finish(DaemonError, FrameError, ProtocolError, StoreUnavailable)


def _say(stage: ProcessorStage, content: bytes) -> None:
    """Say something that may be no line of the daemon."""
    stage.owed = False
    stage.daemon(content)


def _records(stage: ProcessorStage, source: Source, position: int) -> int:
    records = []
    for _ in range(source.below(4)):
        position += 1 + source.below(3)
        records.append({**RECORD, "sequenceNumber": str(position)})
    stage.action("processRecords", records=records, millisBehindLatest=5)
    return position


def _line(stage: ProcessorStage, source: Source, position: int) -> bytes:
    """Return a line with something wrong in its members."""
    records = [{**RECORD, "sequenceNumber": str(position + 1 + row)} for row in range(source.below(3))]
    said: dict[str, Any] = source.pick(
        (
            {"action": "processRecords", "records": records, "millisBehindLatest": 5},
            {"action": "processRecords", "records": records, "millisBehindLatest": 5},
            {"action": "initialize", "shardId": "shard", "sequenceNumber": "5", "subSequenceNumber": 0},
            {"action": "checkpoint", "error": None},
            {"action": "leaseLost"},
            {"action": "shardEnded"},
            {"action": "shutdownRequested"},
        )
    )
    for _ in range(1 + source.below(2)):
        inner = records[source.below(len(records))] if records and source.one_in(2) else said
        name = source.pick(sorted(inner))
        if source.one_in(6):
            del inner[name]
            if not inner:
                break
        else:
            inner[name] = source.changed(inner[name])
    try:
        return json.dumps(said, ensure_ascii=source.one_in(2)).encode("utf-8", "surrogatepass") + b"\n"
    except RecursionError:  # nesting is written by hand
        return b'{"action":"leaseLost","more":' + b"[" * 3000 + b"]" * 3000 + b"}\n"
