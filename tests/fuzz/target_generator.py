"""Target `generator`: hostile peers on several connections, and an honest session beside them.

The hostile ones say Hello, send batches, flush, end shards and leave: in any order, truly or with something wrong, cut
anywhere, from several connections at once, or plain bytes. Whatever they do, each of them is answered or refused by an
error that says why; the generator goes on; the honest session's records are stored once and reported; and all that is
written to blocks and ledger can be read.
"""

from __future__ import annotations

import functools
import operator
import random
from collections.abc import Iterator

import msgspec

from fuzz.grammar import HEADER, batch_of, columns_for, frame, hostile_batch, hostile_frame
from fuzz.source import Source
from fuzz.stage import APPLICATION, PAYLOAD_BOUND, SHARDS, START, Stage, Wire
from fuzz.verdict import Broken, Tally, check
from kcl_receiver import errors
from kcl_receiver.generator.session import State
from kcl_receiver.ranges import After, Position
from kcl_receiver.wire.messages import (
    CODES,
    PROTOCOL_VERSION,
    Admitted,
    Batch,
    Flush,
    Hello,
    Leave,
    Message,
    Progress,
    Refused,
    ShardEnd,
    StatusRequest,
    Stored,
    Welcome,
)

HONEST_PID = 100
HOSTILE_PIDS = (200, 201, 202)
HONEST_SHARD = SHARDS[3]
HONEST_BATCHES = 4
HOSTILE_SHARDS = (*SHARDS[:3], "shardId-000000000099")


def seeds() -> Iterator[bytes]:
    """Yield inputs to begin with: operations in order, with what they take from the source."""
    # Calm ones: a session that is opened, sends, is stored, comes back as a younger one, and ends.
    begin = [0, 0, 3] + 3 * [0, 0, 0]
    hello = [0, 16, 0, 0, 0]
    batch = [0, 16, 0, 0, 0, 0, 0, 0, 0, 0]
    long_batch = [0, 16, 2, 0, 0, 0, 1, 1, 1, 5, 0, 0, 0, 0]
    stored = [12, 1]
    reborn = [0, 14, 0, 0, 2, 16, 0, 0, 0]
    end = [0, 8, 0, 0]
    for batches in ([batch], [batch, batch, long_batch], [long_batch] * 3):
        first = begin + hello + functools.reduce(operator.iadd, batches, []) + stored
        yield bytes(first + end + stored)
        yield bytes(first + reborn + long_batch + batch + long_batch + stored + reborn + long_batch * 3 + stored)
        yield bytes([*first, 0, 7, 0, 0, *batch, 0, 10, 0, 0, *stored])
    # And some that begin well and go on anyhow, with much wrong or little.
    for number in range(9):
        anyhow = random.Random(number).randbytes(250)
        yield bytes([0, 0, number % 3, *begin[3:], *hello, *batch, *stored]) + anyhow
    for step in (1, 3, 7, 11, 37, 101, 151):
        yield bytes(step * number % 256 for number in range(300))


class Honest:
    """A processor as it should be; it breaks the input if it is not served as it should be."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.wire = stage.connect(HONEST_PID)
        self.sent = 0
        self.admitted = 0
        self.stored = 0
        self.welcome = False
        self._seen = 0
        self._after: After = "TRIM_HORIZON"
        self.positions: list[Position] = []
        hello = Hello(APPLICATION, HONEST_SHARD, "honest", int(START * 1e9) - 5, HONEST_PID, "TRIM_HORIZON", 1)
        self._send(hello)

    def _send(self, message: Message, payload: bytes = b"") -> None:
        body = frame_body(message)
        self.wire.feed(frame(body, payload, CODES[type(message)]))

    def listen(self) -> None:
        """Take what has come: only what was promised, in order."""
        heard = self.wire.heard
        for message in heard[self._seen :]:
            if isinstance(message, Welcome):
                self.welcome = True
            elif isinstance(message, Admitted):
                check(message.number == self.sent, "the honest session's batch is admitted out of order")
                self.admitted = message.number
            elif isinstance(message, Stored):
                check(message.number <= self.admitted, "the honest session hears of a batch that was never admitted")
                self.stored = message.number
                for position in self.positions[: 2 * self.stored]:
                    check(
                        self.stage.blocks[HONEST_SHARD, position] == 1,
                        "a record of the honest session is reported as stored, and is not, or twice",
                    )
            else:
                raise Broken(f"the honest session hears {message}")
        self._seen = len(heard)
        check(not self.wire.transport.closing, "the honest session is hung up on")

    def go_on(self) -> None:
        """Send the next batch if it may be sent."""
        self.listen()
        if not self.welcome or self.admitted < self.sent or self.sent == HONEST_BATCHES:
            return
        self.sent += 1
        positions = [Position(self.sent * 10), Position(self.sent * 10, 1)]
        columns = columns_for(positions, 600)
        message = batch_of(self.sent, self._after, positions, columns)
        self._after = positions[-1]
        self.positions += positions
        self._send(message, b"".join(columns))
        self._send(Flush())

    def finish(self) -> None:
        """All of it is stored in the end."""
        for _ in range(3 * HONEST_BATCHES):
            self.go_on()
            self.stage.settle()
        self.listen()
        check(self.stored == HONEST_BATCHES, f"of {HONEST_BATCHES} honest batches {self.stored} are stored in the end")


class Hostile:
    """A peer that knows the protocol, and keeps to it as far as the source says."""

    def __init__(self, stage: Stage, source: Source, number: int) -> None:
        self.stage = stage
        self.source = source
        self.pid = HOSTILE_PIDS[number]
        self.wire = stage.connect(self.pid, reads=not source.one_in(4))
        self.shard = source.pick(HOSTILE_SHARDS)
        self.session = f"hostile-{number}"
        self.rank = int(START * 1e9) - source.below(4)
        self.number = 1
        self.after: After = "TRIM_HORIZON"
        self.next_position = 1000
        self.rest = b""
        self.greeted = False

    def connect(self) -> Wire:
        """Connect again."""
        self.wire.transport.take()
        self.wire = self.stage.connect(self.pid, reads=not self.source.one_in(4))
        self.rest = b""
        self.greeted = False
        if self.source.one_in(3):  # the lease was taken again: a younger session, which reads from the beginning
            self.session += "."
            self.rank += 1
            self.number = 1
            self.after = "TRIM_HORIZON"
            self.next_position = 1000
        return self.wire

    def act(self) -> None:
        """Do the next thing."""
        source = self.source
        what = source.below(24)
        if what > 15:  # the next thing that makes sense
            what = 15 if self.greeted and not self.wire.heard else 2 if self.greeted else 0
        if what in (0, 1):
            self.greeted = True
            number = self.number if source.one_in(3) else 1
            hello = Hello(APPLICATION, self.shard, self.session, self.rank, self.pid, "TRIM_HORIZON", number)
            self._send(hostile_frame(source, hello))
        elif what in (2, 3, 4, 5, 6):
            self._send_batch()
        elif what == 7:
            self._send(hostile_frame(source, Flush()))
        elif what == 8:
            self._send(hostile_frame(source, ShardEnd(str(self.after))))
        elif what == 9:
            self._send(hostile_frame(source, Progress(5, None if self.after == "TRIM_HORIZON" else str(self.after))))
        elif what == 10:
            self._send(hostile_frame(source, Leave()))
        elif what == 11:
            # The same again and again, by a peer that may not read the answers.
            again = hostile_frame(source, StatusRequest() if source.one_in(2) else Progress(1, None))
            self._send(again * source.pick((1, 2, 3, 200)))
        elif what == 12:
            self._send(source.take(source.below(40)))
        elif what == 13 and source.one_in(2):
            # The most that a header can announce, and then nothing.
            self._send(HEADER.pack(b"KR", PROTOCOL_VERSION, CODES[Batch], 300, PAYLOAD_BOUND - source.below(2)))
        elif what == 13:
            kind = source.pick((Welcome, Admitted, Stored, Refused))
            self._send(frame(b"\x80", b"", CODES[kind]))
        elif what == 14:
            self.wire.hang_up()
        else:
            self.wire.transport.take()

    def _send_batch(self) -> None:
        source = self.source
        positions = []
        for _ in range(1 + source.below(3)):
            self.next_position += source.pick((1, 1, 7, 10**9))
            positions.append(Position(self.next_position, source.pick((0, 0, 0, 1))))
        message, columns = hostile_batch(source, self.number, self.after, positions)
        # As a peer does that takes itself for honest: the next batch follows this one, whatever becomes of it.
        self.number += not source.one_in(4)
        self.after = positions[-1]
        self._send(hostile_frame(source, message, b"".join(columns)))

    def _send(self, content: bytes) -> None:
        """Send what was left over and this; sometimes the end of it is kept for later, or never comes."""
        content = self.rest + content
        cut = len(content)
        if self.source.one_in(5):
            cut = self.source.below(len(content) + 1)
        self.rest = content[cut:]
        # Whoever knows the honest session's shard may take it, being of the same user: that is fencing, not harm.
        self.stage.shard_was_named |= HONEST_SHARD.encode() in content
        self.wire.feed(content[:cut])


def frame_body(message: Message) -> bytes:
    """Return a message in MessagePack."""
    return msgspec.msgpack.encode(message)


def run(data: bytes, tally: Tally) -> None:
    """Take one input."""
    source = Source(data)
    stage = Stage()
    stage.real_parquet = source.below(32) == 31
    eager = not source.one_in(3)
    source.rarely = source.pick((1, 4, 16, 64))
    honest = Honest(stage)
    peers = [Hostile(stage, source, number) for number in range(len(HOSTILE_PIDS))]
    wires = [peer.wire for peer in peers]
    while source and not (stage.stopped or stage.shard_was_named):
        stage.count()
        what = source.below(16)
        peer = peers[what % 3]
        if what < 9:
            if peer.wire.transport.closing or peer.wire.ended:
                wires.append(peer.connect())
            peer.act()
        elif what < 12:
            stage.answer(source.byte())
        elif what == 12:
            stage.advance(source.pick((0.1, 1.0, 1.0, 11.0)))
        elif what == 13:
            stage.fail_next = source.below(3)
            stage.open_shards = source.one_in(3)
        else:
            honest.go_on()
        while eager and stage.calls and not stage.stopped:
            stage.answer(0)
        if not stage.shard_was_named:
            honest.listen()
        _look(stage)
    _finish(stage, honest, wires, tally)


def _finish(stage: Stage, honest: Honest, wires: list[Wire], tally: Tally) -> None:
    stage.status_is_json()
    for wire in wires:
        wire.transport.take()
        tally.reached.update(f"hostile peers heard {type(one).__name__}" for one in wire.heard)
        if wire.refused is not None:
            kind = getattr(errors, wire.refused.error, None)
            check(isinstance(kind, type), f"{wire.refused.error} is not the name of an error")
            tally.said(wire.refused.error, wire.refused.message)
        wire.hang_up()
    if not stage.shard_was_named:
        honest.finish()
    _look(stage)
    stage.after_event()
    if stage.shard_was_named:
        return
    check(len(stage.wires) == 1, "a connection that is gone is still known")
    check(len(stage.server._connections) == 1, "the server still knows a connection that is gone")
    stage.ledger.check()
    tally.reached["records skipped, being held"] += stage.server.status().records_skipped


def _look(stage: Stage) -> None:
    if stage.stopped:
        raise Broken(f"the generator stops: {stage.stopped[0]}")
    for session in stage.core._roster.sessions.values():
        if session.state is State.OPEN:
            # One batch of any size is taken when nothing else of the session waits.
            used = session.tracker.unstored_bytes
            check(used <= stage.settings.window_bytes + PAYLOAD_BOUND, f"{used} bytes are in a window")
