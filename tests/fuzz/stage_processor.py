"""A processor on a stage: the real driver, line reader, codec, state machine and link, without processes and clock.

What it says to the daemon and to the generator is read here by code of its own, and held against what it was told: it
says that an action is done only for an action that came, asks for a checkpoint only where the generator reported
everything as stored, and once it is to leave it says nothing more.
"""

from __future__ import annotations

import json
import random
import select
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import msgspec

from fuzz.grammar import HEADER, frame
from fuzz.verdict import Broken, Tally, check
from kcl_receiver.errors import GeneratorUnavailable, ReceiverError
from kcl_receiver.processor import lines as lines_module
from kcl_receiver.processor.core import ProcessorCore
from kcl_receiver.processor.driver import Driver
from kcl_receiver.processor.link import GeneratorLink
from kcl_receiver.processor.runtime import poll_millis
from kcl_receiver.wire.frames import MAX_MESSAGE
from kcl_receiver.wire.messages import CODES, Admitted, Batch, Message, ShardEndConfirmed, Stored, Welcome

START = 1000.0
SEND_ROOM = 100_000
QUEUE_BYTES = 2**22
"""What may wait for the generator's socket: the batch under way, and small messages."""
LINE_BYTES = 100_000
"""Stands in for the gigabyte of the longest line."""
POLL_MILLIS = 2**31 - 1
"""select.poll takes no more."""

_TIME = [START]


@contextmanager
def installed() -> Iterator[None]:
    """Put the stage's bound where the receiver looks for the real one."""
    with patch.object(lines_module, "MAX_LINE_BYTES", LINE_BYTES):
        yield


class FakeSocket:
    """The few methods of a socket that `GeneratorLink` uses.

    Attributes:
        inbox: Pieces that the generator sent.
        sent: What the processor sent.
        room: Bytes that it takes before it blocks.
        absent: Nobody listens: it cannot be connected.
    """

    def __init__(self) -> None:
        self.inbox: deque[bytes] = deque()
        self.sent = bytearray()
        self.room = SEND_ROOM
        self.ended = False
        self.absent = False

    def sendmsg(self, pieces: list[memoryview]) -> int:
        if self.ended:
            raise BrokenPipeError(32, "Broken pipe")
        content = b"".join(pieces)[: self.room]
        if not content:
            raise BlockingIOError
        self.room -= len(content)
        self.sent += content
        return len(content)

    def recv_into(self, buffer: memoryview) -> int:
        check(len(buffer) > 0, "no place for the next byte")
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
        pass

    def close(self) -> None:
        self.ended = True

    def fileno(self) -> int:
        return 0


class StageRuntime:
    """`kcl_receiver.processor.runtime.Runtime`: what the driver would poll for is given by the stage."""

    def __init__(self, stage: ProcessorStage) -> None:
        self._stage = stage

    def clock(self) -> float:
        return _TIME[0]

    def say(self, line: bytes) -> None:
        self._stage.said(line)

    def connect(self) -> GeneratorLink:
        if self._stage.socket.absent:
            raise GeneratorUnavailable("nobody listens")
        return GeneratorLink(self._stage.socket)

    def start_generator(self, now: float) -> None:
        pass

    def watch(self, descriptor: int, events: int) -> None:
        pass

    def forget(self, descriptor: int) -> None:
        pass


class ProcessorStage:
    """See the module.

    Attributes:
        error: Why the process left, once it has by an error.
        left: It has left.
        batches: What it sent: the last position of each batch that ends its Kinesis record, by number.
        told: The highest number that it was told to be stored.
        done: Actions that it said were done.
        asked: Checkpoints that it asked for; None is the one that means the shard's end.
    """

    def __init__(self, tally: Tally) -> None:
        _TIME[0] = START
        self._tally = tally
        self.core = ProcessorCore("landing", "session", 7, 60.0, random.Random(1))
        self.driver = Driver(self.core, StageRuntime(self))
        self.socket = FakeSocket()
        self.left = False
        self.error: ReceiverError | None = None
        self.batches: dict[int, str | None] = {}
        self.told = -1
        self.confirmed = False
        self.done: list[str] = []
        self.asked: list[str | None] = []
        self.owed = False
        self._lines = bytearray()
        self.under_way: set[str] = set()
        self.unreadable = False
        self._answered = True
        self._read = 0
        self._told_from = 0
        self._claims = bytearray()

    @contextmanager
    def _guard(self, what: str) -> Iterator[None]:
        """An error of the receiver ends the process by its name; any other exception would be a traceback."""
        try:
            yield
        except Broken:
            raise
        except ReceiverError as error:
            self.left, self.error = True, error
        except Exception as error:
            raise Broken(f"{what}: {type(error).__name__}: {error}") from error
        if self.driver.exit is not None and not self.left:
            self.left, self.error = True, self.driver.exit.error
        self._look()

    def _look(self) -> None:
        link = self.driver.link
        if link is not None:
            waiting = sum(one.nbytes for one in link._out)
            check(waiting <= QUEUE_BYTES, f"{waiting} bytes wait for the generator's socket")
            check(len(link._reader.buffer()) <= MAX_MESSAGE + 8, "memory is taken for what no generator sends")
        lines = self.driver._lines
        check(self.left or lines._filled - lines._start <= LINE_BYTES, "a line is longer than its bound")
        deadline = self.core.deadline()
        if deadline is not None and not self.left:
            check(poll_millis(deadline - _TIME[0]) <= POLL_MILLIS, f"it would poll until {deadline}")

    # The daemon

    def daemon(self, content: bytes) -> None:
        """Bytes from the daemon, at most 64 KiB at a time, as a pipe gives them."""
        for start in range(0, len(content), 60_000):
            if self.left:
                return
            piece = content[start : start + 60_000]
            self._note(piece)
            with self._guard("a line"):
                rest = memoryview(piece)
                while rest and self.driver.exit is None:
                    place = self.driver.buffer()
                    taken = min(len(place), len(rest))
                    place[:taken] = rest[:taken]
                    rest = rest[taken:]
                    self.driver.received(taken, _TIME[0])
            check(self.left or not self.unreadable, f"it goes on after a line that nobody can read: {piece[:80]!r}")

    def _note(self, piece: bytes) -> None:
        """Find out what was said, by a reader of its own."""
        *whole, rest = bytes(self._lines + piece).split(b"\n")
        self._lines = bytearray(rest)
        for line in whole:
            if not line.strip():
                continue
            actions = _actions_of(line)
            if not actions:
                self.unreadable = True
            elif actions != {"checkpoint"}:
                self.under_way = actions
                self._answered = False

    def said(self, line: bytes) -> None:
        """The processor says something to the daemon."""
        check(not self.left, f"it says {line!r} after it has left")
        said = json.loads(line)
        check(line.endswith(b"\n") and line.count(b"\n") == 1, f"{line!r} is not one line")
        if said["action"] == "status":
            check(said["responseFor"] in self.under_way, f"{line!r} answers {self.under_way}")
            check(not self._answered, f"{line!r} comes twice")
            self._answered = True
            self.done.append(said["responseFor"])
            return
        check(said["action"] == "checkpoint", f"it says {line!r}")
        check(not self._answered, f"{line!r} is asked for while there is no action")
        check(not self.owed, "a checkpoint is asked for while another one is not answered")
        self.owed = True
        if said["sequenceNumber"] is None:
            check("shardEnded" in self.under_way and self.confirmed, "the shard's end is not confirmed")
            self.asked.append(None)
            return
        self._listen()
        position = f"{said['sequenceNumber']}:{said['subSequenceNumber']}"
        safe = {whole for number, whole in self.batches.items() if number <= self.told}
        check(position in safe, f"a checkpoint at {position}, and the generator said stored through {self.told}")
        self.asked.append(position)

    def action(self, action: str, **members: Any) -> None:  # noqa: ANN401
        """A line as the daemon writes it."""
        self.owed = False
        self.daemon(json.dumps({"action": action, **members}).encode() + b"\n")

    # The generator

    def _listen(self) -> None:
        """Note the batches that have been sent."""
        sent = self.socket.sent
        while len(sent) - self._read >= HEADER.size:
            _, _, code, length, payload = HEADER.unpack_from(sent, self._read)
            body = self._read + HEADER.size
            end = body + length + -length % 8 + payload
            if len(sent) < end:
                return
            if code == CODES[Batch]:
                fields = msgspec.msgpack.decode(bytes(sent[body : body + length]))
                self.batches[fields["number"]] = fields["whole"]
            self._read = end

    def heard(self) -> list[tuple[str, dict[str, Any]]]:
        """Return name and fields of all that was sent on this connection and not asked for before."""
        out = []
        names = {code: kind.__name__ for kind, code in CODES.items()}
        at = self._told_from
        sent = self.socket.sent
        while len(sent) - at >= HEADER.size:
            _, _, code, length, payload = HEADER.unpack_from(sent, at)
            end = at + HEADER.size + length + -length % 8 + payload
            if len(sent) < end:
                break
            out.append((names[code], msgspec.msgpack.decode(bytes(sent[at + 12 : at + 12 + length]))))
            at = end
        self._told_from = at
        return out

    def generator(self, content: bytes) -> None:
        """Bytes from the generator."""
        if not self.left and self.driver.link is not None and content:
            self._claims += content
            self._take_claims()
            self.socket.inbox.append(content)
            self._serve()

    def _take_claims(self) -> None:
        """Remember what the generator has said, in whatever pieces it said it."""
        while len(self._claims) >= HEADER.size:
            _, _, code, length, payload = HEADER.unpack_from(self._claims)
            end = HEADER.size + length + -length % 8 + payload
            if len(self._claims) < end:
                return
            body = bytes(self._claims[HEADER.size : HEADER.size + length])
            del self._claims[:end]
            if code == CODES[ShardEndConfirmed]:
                self.confirmed = True
            elif code == CODES[Stored]:
                try:
                    number = msgspec.msgpack.decode(body, type=Stored).number
                except (ValueError, msgspec.DecodeError, RecursionError):
                    continue
                self._listen()
                self.told = max(self.told, number)

    def message(self, message: Message) -> None:
        """A message as a generator should write it."""
        self.generator(frame(msgspec.msgpack.encode(message), b"", CODES[type(message)]))

    def welcome(self, number: int = 1, **changes: int) -> Welcome:
        """Return what opens a session."""
        usual = {
            "batch_bytes": 4000,
            "window_bytes": 16_000,
            "checkpoint_interval_millis": 0,
            "generator_timeout_millis": 60_000,
            "store_timeout_millis": 300_000,
            "drain_millis": 10_000,
            "note_millis": 0,
        }
        return Welcome(generator="writer", next_number=number, **{**usual, **changes})

    def answer_honestly(self) -> None:
        """What an honest generator that stores at once says to what has come."""
        for _ in range(100):
            heard = self.heard()
            if not heard or self.left:
                return
            for name, fields in heard:
                if name == "Hello":
                    self.message(self.welcome(fields["next_number"]))
                    self.message(Stored(fields["next_number"] - 1))
                elif name == "Batch":
                    self.message(Admitted(fields["number"]))
                    self.message(Stored(fields["number"]))
                elif name == "ShardEnd":
                    self.message(ShardEndConfirmed())
        raise Broken("the processor talks without end")

    def _serve(self) -> None:
        with self._guard("bytes of the generator"):
            self.driver.link_ready(select.POLLIN | (select.POLLOUT if self.socket.room else 0), _TIME[0])
        if self.driver.link is None and not self.left:
            self.reconnect()

    def hang_up(self) -> None:
        """The generator ends the connection."""
        if not self.left and self.driver.link is not None:
            self.socket.ended = True
            self._serve()

    def reconnect(self) -> None:
        """The next connection goes to a new socket."""
        self._listen()
        self.socket = FakeSocket()
        self._read = 0
        self._told_from = 0
        self._claims.clear()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        _TIME[0] += seconds
        if not self.left:
            with self._guard("tick"):
                self.driver.tick(_TIME[0])

    def finish(self, *allowed: type[ReceiverError]) -> None:
        """Judge how it ended."""
        self._tally.reached.update(f"{action} was done" for action in self.done)
        self._tally.reached["checkpoints"] += len(self.asked)
        if self.error is not None:
            self._tally.named(self.error, *allowed)


def _actions_of(line: bytes) -> set[str]:
    """Return the actions that a line names (two, where it says so twice), none if it is no line of the daemon."""
    try:
        said = json.loads(line.decode("utf-8", "replace"), object_pairs_hook=tuple, strict=False)
    except (ValueError, RecursionError):
        return set()
    if not isinstance(said, tuple):
        return set()
    return {value for name, value in said if name == "action" and isinstance(value, str)}
