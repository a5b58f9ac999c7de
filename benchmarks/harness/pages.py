"""The page server: a process that answers GetRecords with prepared bytes, and hands all else to the emulator.

    python -m benchmarks.harness.pages '{"emulator": "http://127.0.0.1:PORT", "counters": "FILE", "shards": 4, ...}'

It writes its address to stdout, and ends at SIGTERM. GetRecords returns what a reel has (see `reel`), at most 10,000
records or 10 MiB, and nothing is serialised for it. Without a rate there is always more. With one, records are written
to the first so many shards, as many as whoever measures says, and a shard has what was written to it by now, and says
how many milliseconds its reader is behind. The service's limit of 2 MiB a second and shard is not kept: what is
measured is the reader. A file shared with whoever measures has the number of shards that are written to, and what was
written and served of each.
"""

from __future__ import annotations

import json
import mmap
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from benchmarks.harness.http2 import Connection, Request
from benchmarks.harness.reel import Reel, ReelSpec

TARGET = "Kinesis_20131202."
JSON = "application/x-amz-json-1.1"
SEND_BYTES = 2 * 2**20
"""Bytes of frames put together at a time."""
PIECES = 512
"""Pieces of one sendmsg; Linux takes 1,024 (IOV_MAX)."""
MOST_RECORDS = 10_000
MICRO = 1_000_000
_HEADER = struct.Struct("=q")
_COUNTER = struct.Struct("=qqd")


class Served(NamedTuple):
    """What is noted of one shard: how many of its records were served, were written, and when that was (monotonic)."""

    through: int
    written: float
    at: float


class Counters:
    """The shared file: how many shards are written to, and a row for each shard."""

    def __init__(self, path: Path, shards: int) -> None:
        size = _HEADER.size + _COUNTER.size * shards
        with path.open("a+b") as file:
            file.truncate(size)
            self._map = mmap.mmap(file.fileno(), size)
        self.shards = shards

    @property
    def active(self) -> int:
        """So many shards are written to, from the first on; it matters where there is a rate."""
        return int(_HEADER.unpack_from(self._map)[0])

    @active.setter
    def active(self, shards: int) -> None:
        _HEADER.pack_into(self._map, 0, shards)

    def read(self, shard: int) -> Served:
        """Return what is noted of a shard."""
        through, written, at = _COUNTER.unpack_from(self._map, _HEADER.size + shard * _COUNTER.size)
        return Served(through, written / MICRO, at)

    def write(self, shard: int, served: Served) -> None:
        """Note it."""
        row = served.through, round(served.written * MICRO), served.at
        _COUNTER.pack_into(self._map, _HEADER.size + shard * _COUNTER.size, *row)

    def all(self) -> list[Served]:
        """Return what is noted of every shard."""
        return [self.read(shard) for shard in range(self.shards)]

    def written(self, rate: float, now: float) -> list[float]:
        """Return how many records each shard has by now, with so many a second."""
        active = self.active
        return [
            one.written + (now - one.at) * rate if one.at and shard < active else one.written
            for shard, one in enumerate(self.all())
        ]


class Refused(Exception):
    """A call that cannot be answered; the client is told with status 400."""


class Shards:
    """Answers GetShardIterator and GetRecords.

    Args:
        reels: One a shard.
        counters: Where served records are noted.
        rate: Records written to each shard a second, None if all are there from the beginning.
        clock: Seconds, as `time.monotonic` gives them.
    """

    def __init__(
        self,
        reels: Sequence[Reel],
        counters: Counters,
        rate: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reels = {reel.shard: (number, reel) for number, reel in enumerate(reels)}
        self._counters = counters
        self._rate = rate
        self._clock = clock
        self._on: set[int] = set()

    def iterator(self, call: dict[str, Any]) -> bytes:
        """Answer GetShardIterator.

        Raises:
            Refused: There is no such shard, position or type.
        """
        shard, kind = call["ShardId"], call["ShardIteratorType"]
        if shard not in self._reels:
            raise Refused(f"no such shard: {shard}")
        if kind in ("TRIM_HORIZON", "AT_TIMESTAMP"):
            serial = 0
        elif kind in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"):
            try:
                serial = self._reels[shard][1].serial(call["StartingSequenceNumber"])
            except ValueError as error:
                raise Refused(str(error)) from error
            serial += kind.startswith("AFTER")
        else:
            raise Refused(f"no iterator of type {kind} here")
        return b'{"ShardIterator":"%b:%d"}' % (shard.encode(), serial)

    def records(self, call: dict[str, Any], is_sent: Callable[[Reel], bool]) -> list[bytes | memoryview]:
        """Return the parts of the answer to GetRecords.

        Args:
            call: The request.
            is_sent: Tells whether no byte of a reel is still on its way out.

        Raises:
            Refused: It is no iterator of ours.
            RuntimeError: The bytes of the page before are still being sent, and would be altered.
        """
        shard, _, at = call["ShardIterator"].partition(":")
        if shard not in self._reels or not at.isdecimal():
            raise Refused(f"no such iterator: {call['ShardIterator']}")
        number, reel = self._reels[shard]
        serial = int(at)
        noted = self._counters.read(number)
        now = self._clock()
        most = min(call.get("Limit", MOST_RECORDS), MOST_RECORDS)
        written, behind = 0.0, 0
        if self._rate is not None:
            written = noted.written
            if number < self._counters.active and number in self._on:
                written += (now - noted.at) * self._rate
            # What is written begins and ends with a call, of which there are five a second.
            (self._on.add if number < self._counters.active else self._on.discard)(number)
            most = min(most, int(written) - serial)
            behind = max(int((int(written) - serial - max(most, 0)) / self._rate * 1000), 0)
        if most > 0 and reel.turns(serial) and not is_sent(reel):
            raise RuntimeError(f"{shard} was asked for again before its page before had left")
        page, count = reel.page(serial, most)
        self._counters.write(number, Served(max(noted.through, serial + count), written, now))
        after = b'],"NextShardIterator":"%b:%d","MillisBehindLatest":%d}' % (shard.encode(), serial + count, behind)
        return [b'{"Records":[', page, after]


@dataclass
class _Client:
    socket: socket.socket
    connection: Connection = field(default_factory=Connection)
    pieces: list[bytes | memoryview] = field(default_factory=list)

    def holds(self, reel: Reel) -> bool:
        """Tell whether bytes of a reel are still to be sent to this client."""
        return any(reel.owns(piece) for piece in chain(self.pieces, self.connection.unsent()))


class Server:
    """Serves on one port, in one thread; an error of its own ends it, so that no figure comes from half a server."""

    def __init__(self, shards: Shards, emulator: str) -> None:
        self._shards = shards
        self._emulator = urlsplit(emulator)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._number = 0
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def serve(self) -> None:
        """Serve for ever."""
        while True:
            for key, events in self._selector.select():
                client: _Client | None = key.data
                if client is None:
                    self._accept()
                    continue
                try:
                    if events & selectors.EVENT_READ:
                        self._read(client)
                    self._write(client)
                except ConnectionError:
                    self._selector.unregister(client.socket)
                    client.socket.close()

    def _accept(self) -> None:
        accepted, _ = self._listener.accept()
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(accepted, selectors.EVENT_READ, _Client(accepted))

    def _read(self, client: _Client) -> None:
        try:
            received = client.socket.recv(65_536)
        except BlockingIOError:
            return
        if not received:
            raise ConnectionResetError("the client hung up")
        for request in client.connection.receive(received):
            self._answer(client, request)

    def _answer(self, client: _Client, request: Request) -> None:
        self._number += 1
        target = request.headers.get("x-amz-target", "")
        status, kind = 200, JSON
        parts: Sequence[bytes | memoryview]
        try:
            if target == TARGET + "GetRecords":
                parts = self._shards.records(json.loads(request.body), self._is_sent)
            elif target == TARGET + "GetShardIterator":
                parts = [self._shards.iterator(json.loads(request.body))]
            else:
                status, kind, body = self._forward(request)
                parts = [body]
        except Refused as error:
            status, parts = 400, [json.dumps({"__type": "InvalidArgumentException", "message": str(error)}).encode()]
        client.connection.respond(request.stream, status, kind, parts, self._number)

    def _is_sent(self, reel: Reel) -> bool:
        clients = (key.data for key in self._selector.get_map().values() if key.data is not None)
        return not any(client.holds(reel) for client in clients)

    def _forward(self, request: Request) -> tuple[int, str, bytes]:
        """Ask the emulator; these calls are so few that all may wait for it."""
        link = HTTPConnection(self._emulator.hostname or "", self._emulator.port, timeout=30)
        try:
            headers = {
                name: value for name, value in request.headers.items() if name.startswith(("x-amz", "content-t"))
            }
            link.request("POST", "/", request.body, headers)
            answer = link.getresponse()
            return answer.status, answer.getheader("content-type", JSON), answer.read()
        finally:
            link.close()

    def _write(self, client: _Client) -> None:
        """Send until all is sent, the socket is full, or the windows are used up."""
        while True:
            if not client.pieces:
                client.pieces = client.connection.take(SEND_BYTES)
                if not client.pieces:
                    break
            try:
                sent = client.socket.sendmsg(client.pieces[:PIECES])
            except BlockingIOError:
                break
            client.pieces = _rest(client.pieces, sent)
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.pieces else 0)
        if self._selector.get_key(client.socket).events != wanted:
            self._selector.modify(client.socket, wanted, client)


def _rest(pieces: list[bytes | memoryview], sent: int) -> list[bytes | memoryview]:
    for at, piece in enumerate(pieces):
        if sent < len(piece):
            return [memoryview(piece)[sent:], *pieces[at + 1 :]]
        sent -= len(piece)
    return []


def _stop(*_: object) -> None:
    raise SystemExit(0)


def main() -> None:
    """Serve what the first argument says."""
    signal.signal(signal.SIGTERM, _stop)
    asked = json.loads(sys.argv[1])
    spec = ReelSpec(**asked["reel"])
    reels = [Reel(spec, number) for number in range(asked["shards"])]
    counters = Counters(Path(asked["counters"]), asked["shards"])
    server = Server(Shards(reels, counters, asked["rate"]), asked["emulator"])
    sys.stdout.write(server.url + "\n")
    sys.stdout.flush()
    server.serve()


if __name__ == "__main__":
    main()
