"""Target `status`: what `kcl-receiver status` makes of an answer that is not the generator's.

It returns an object, or raises an error of the wire or one that says that nobody answers.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

from fuzz.grammar import hostile_frame
from fuzz.source import Source
from fuzz.verdict import Tally, check
from kcl_receiver.errors import GeneratorUnavailable, ReceiverError, WireError
from kcl_receiver.generator import client
from kcl_receiver.status.report import GeneratorState
from kcl_receiver.wire.messages import Message, Refused, Status, Stored

ANSWERS = (
    b'{"application":"a","writer":"w","draining":false,"failing":null,"silent_after":30,"blocks_stored":0,"records_stored":0,'
    b'"bytes_stored":0,"records_skipped":0,"blocks_in_flight":0,"building_bytes":0,"building_seconds":0.5,"window_bytes":1,'
    b'"shards":[],"store":"file:///s","socket":"/s","version":"1","pid":1,"uptime_seconds":1,"prepared":true,'
    b'"ranges_in_memory":0,"stream":{"arn":"a","created":1}}',
    b"{}",
    b'{"shards": []}',
    b"",
    b"[]",
    b"null",
    b"{",
    b"\xff",
    b'"\\ud800"',
    b"[" * 3000,
    b'{"a":' * 3000,
    b"9" * 5000,
    b"NaN",
    b"\xef\xbb\xbf{}",
)


class _Socket:
    """An answer in pieces."""

    answer = b""
    piece = 1 << 30

    def __init__(self, *_: int) -> None:
        self._rest = self.answer

    def __enter__(self) -> _Socket:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def settimeout(self, _: float) -> None:
        pass

    def connect(self, _: str) -> None:
        pass

    def sendall(self, _: bytes) -> None:
        pass

    def recv_into(self, buffer: memoryview) -> int:
        taken = min(len(buffer), len(self._rest), self.piece)
        buffer[:taken] = self._rest[:taken]
        self._rest = self._rest[taken:]
        return taken


@contextmanager
def installed() -> Iterator[None]:
    """Put the answer where the command looks for a socket."""
    with patch.object(client, "socket", SimpleNamespace(**{**vars(socket), "socket": _Socket})):
        yield


def seeds() -> Iterator[bytes]:
    """Yield inputs to begin with."""
    for number in range(len(ANSWERS)):
        yield bytes([0, number, 0, 0])
    yield bytes(range(60))


def run(data: bytes, tally: Tally) -> None:
    """Take one input."""
    source = Source(data)
    kind = source.below(4)
    _Socket.piece = 1 << 30
    if kind == 3:
        _Socket.answer = source.rest()
    else:
        payload = source.pick(ANSWERS)
        if kind:
            payload = source.damaged(payload)
        message: Message = Status() if not source.one_in(6) else source.pick((Stored(1), Refused("Fenced", "x", "")))
        _Socket.answer = hostile_frame(source, message, payload if isinstance(message, Status) else b"")
        _Socket.piece = source.pick((1 << 30, 1 << 30, 1000, 13))
    try:
        answer = client.ask_status(Path("generator.sock"))
    except ReceiverError as error:
        tally.named(error, WireError, GeneratorUnavailable)
    else:
        tally.reached["told"] += 1
        check(isinstance(answer, GeneratorState), f"the status is {type(answer).__name__}")
