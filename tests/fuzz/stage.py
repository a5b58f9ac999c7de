"""A generator on a stage: the real server, connections, state machine and workers, without socket, threads and clock.

Calls that would run in threads wait until the course of events answers them, in any order. The store keeps the rows of
blocks in memory, after the very check that a block passes before it is written.
"""

from __future__ import annotations

import logging
import os
import random
import struct
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pyarrow as pa

from fuzz.verdict import Broken, check
from kcl_receiver.errors import ReceiverError, StoreUnavailable, StreamUnavailable
from kcl_receiver.generator import generator_io as workers_module
from kcl_receiver.generator.connection import Connection
from kcl_receiver.generator.core import GeneratorCore
from kcl_receiver.generator.effects import (
    Append,
    ConfirmShardEnd,
    LookUp,
    Measurement,
    ShardFacts,
    WriteBlock,
    WrittenBlock,
)
from kcl_receiver.generator.generator_io import GeneratorIO
from kcl_receiver.generator.runtime import Pool
from kcl_receiver.generator.server import GeneratorServer
from kcl_receiver.generator.settings import GeneratorSettings
from kcl_receiver.ids import block_id
from kcl_receiver.ranges import Position, StreamIdentity
from kcl_receiver.store.blocks import encode as parquet
from kcl_receiver.store.blocks.file import read_footer
from kcl_receiver.store.ledger.entries import Tail, decode_ledger, encode_lines, first_prev
from kcl_receiver.wire import frames
from kcl_receiver.wire.frames import FrameReader
from kcl_receiver.wire.messages import CODES, Message, Refused, Status, Welcome

APPLICATION = "landing"
WRITER = "20261122T131501Z-7f3a9c01"
WALL_MILLIS = 1_795_353_301_000
"""Of the writer's day: on another one its ledger would be followed by the next."""
STREAM = StreamIdentity("arn:aws:kinesis:eu-west-1:123456789012:stream/orders", 1_790_000_000_000)
SHARDS = tuple(f"shardId-{number:012d}" for number in range(4))
START = 1000.0
PAYLOAD_BOUND = 2**20
"""Stands in for the 64 MiB of a payload, which would cost more than all the rest; `frames` has the real bound."""
HIGH_WATER = 64 * 1024
"""Bytes not taken by the peer at which asyncio's transport tells its protocol to pause."""
REPLY_BYTES = 32 * 1024
"""What one event may add to what a peer has not taken: more than any answer to it."""
STEPS = 3000
"""Events after which a course must have come to rest; seen: below 400."""

_UCRED = struct.Struct("3i")
_TIME = [START]


@contextmanager
def installed() -> Iterator[None]:
    """Put the stage's clock and bound where the receiver looks for the real ones, and silence its log."""
    bounds = dict.fromkeys(frames._PAYLOAD_BOUND, PAYLOAD_BOUND)
    with ExitStack() as stack:
        stack.enter_context(patch.object(workers_module, "wall_millis", lambda: WALL_MILLIS))
        stack.enter_context(patch.dict(frames._PAYLOAD_BOUND, bounds))
        log = logging.getLogger("kcl_receiver")
        level = log.level
        log.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            log.setLevel(level)


class Transport:
    """The few methods of a transport and its socket that `Connection` uses.

    Attributes:
        said: Messages that the peer has received.
        paused: The protocol asked not to be given more.
        closing: The protocol hung up.
        welcomed: The protocol sent Welcome.
    """

    def __init__(self, pid: int, *, reads: bool = True) -> None:
        self.pid = pid
        self.said: list[Message] = []
        self.paused = False
        self.closing = False
        self.reads = reads
        self.unread = 0
        self.welcomed = False
        self.protocol: Any = None
        self._held: list[bytes] = []
        self._told = False
        self._reader = FrameReader()

    def get_extra_info(self, _: str) -> Transport:
        return self

    def getsockopt(self, *_: int) -> bytes:
        return _UCRED.pack(self.pid, os.getuid(), 0)

    def setsockopt(self, *_: int) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closing

    def write(self, content: bytes) -> None:
        check(not self.closing, "something is sent to a connection that was hung up")
        self.welcomed |= content[3] == CODES[Welcome]
        self._held.append(content)
        self.unread += len(content)
        if self.reads:
            self.take()
        elif self.unread > HIGH_WATER and not self._told:
            self._told = True
            self.protocol.pause_writing()

    def take(self) -> None:
        """The peer reads all that was sent."""
        held, self._held, self.unread = self._held, [], 0
        for content in held:
            self._receive(memoryview(content))
        if self._told:
            self._told = False
            self.protocol.resume_writing()

    def _receive(self, rest: memoryview) -> None:
        while rest:
            place = self._reader.buffer()
            taken = min(len(place), len(rest))
            place[:taken] = rest[:taken]
            rest = rest[taken:]
            frame = self._reader.advance(taken)
            if frame is not None:
                self.said.append(frame.message)

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def close(self) -> None:
        self.closing = True

    abort = close


class Wire:
    """One connection to the staged generator, from its peer's side."""

    def __init__(self, stage: Stage, pid: int, *, reads: bool = True) -> None:
        self.stage = stage
        self.transport = Transport(pid, reads=reads)
        self.ended = False
        self.waiting: deque[bytes] = deque()
        self.connection: Connection = stage.server.accept()
        self.transport.protocol = self.connection
        with stage.guard("connection_made"):
            self.connection.connection_made(self.transport)  # type: ignore[arg-type]

    @property
    def heard(self) -> list[Message]:
        """What the generator said."""
        return self.transport.said

    @property
    def refused(self) -> Refused | None:
        """Why the generator hung up, if it said so."""
        last = self.heard[-1] if self.heard else None
        return last if isinstance(last, Refused) else None

    def feed(self, content: bytes) -> None:
        """Send bytes; what the generator does not want to read now waits."""
        if content:
            self.waiting.append(content)
        while self.waiting and not (self.transport.paused or self.transport.closing or self.ended):
            self._deliver(memoryview(self.waiting.popleft()))

    def _deliver(self, rest: memoryview) -> None:
        with self.stage.guard("bytes"):
            while rest and not (self.transport.closing or self.ended):
                if self.transport.paused:
                    self.waiting.appendleft(bytes(rest))
                    return
                place = memoryview(self.connection.get_buffer(-1))
                check(len(place) > 0, "no place for the next byte")
                taken = min(len(place), len(rest))
                place[:taken] = rest[:taken]
                rest = rest[taken:]
                self.connection.buffer_updated(taken)
        self.stage.check_memory()
        self.stage.after_event()

    def hang_up(self) -> None:
        """End the connection from the peer's side."""
        if not self.ended:
            with self.stage.guard("end"):
                if not self.transport.closing:
                    self.connection.eof_received()
            self.lost()

    def lost(self) -> None:
        """The transport tells that the connection is gone."""
        if not self.ended:
            self.ended = True
            self.transport.closing = True
            with self.stage.guard("connection_lost"):
                self.connection.connection_lost(None)


class _Call:
    """A call for a thread; `await` gives its result."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.call = call

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield self)


class _Timer:
    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def cancel(self) -> None:
        self._stage.timer = None


class _Happened:
    def set(self) -> None:
        pass

    def is_set(self) -> bool:
        return True

    async def wait(self) -> None:
        return


class StageRuntime:
    """`kcl_receiver.generator.runtime.Runtime`: what the server waits for is answered by the stage."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def clock(self) -> float:
        return _TIME[0]

    def later(self, seconds: float, call: Callable[[], None]) -> _Timer:
        self._stage.timer = call
        return _Timer(self._stage)

    def event(self) -> _Happened:
        return _Happened()

    def spawn(self, work: Coroutine[Any, Any, None], failed: Callable[[BaseException], None]) -> None:
        self._stage.step(work, None, None)

    async def sleep(self, seconds: float) -> None:
        """Time is advanced by the stage."""

    async def in_thread(self, pool: Pool, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        return await _Call(lambda: call(*args, **kwargs))


MEASURED = Measurement(1_790_000_000_000, 0, 0, 24)


class _HeldStore:
    """A store whose lock nobody takes away, and whose ledgers are never in pieces; nothing else is asked of it here."""

    objects = SimpleNamespace(most_appends=None)

    def hold(self) -> None:
        pass


class StageWorkers(GeneratorIO):
    """The real workers over a store in memory and a stream that is described by the stage."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(_HeldStore(), None, APPLICATION, "none", store_again=False)  # type: ignore[arg-type]
        self._stage = stage
        self.stream = STREAM

    def look_up(self, effect: LookUp) -> ShardFacts:
        if effect.shard not in SHARDS:
            raise StreamUnavailable(f"stream orders does not tell of {effect.shard}")
        found = self._carried.recent.beyond(effect.shard, effect.after).values()
        held = sorted((one for of_block in found for one in of_block), key=lambda one: (one.first, one.last))
        if isinstance(effect.after, Position):
            self._carried.recent.arrival_of(effect.shard, effect.after)
        return ShardFacts(tuple(held), (), ("0", "1"), MEASURED)

    def measure(self) -> Measurement:
        return MEASURED

    def confirm_shard_end(self, effect: ConfirmShardEnd) -> Measurement:
        if self._stage.open_shards:
            raise StreamUnavailable(f"KCL reported the end of {effect.shard}, and the stream says that it is open")
        return MEASURED

    def write_block(self, effect: WriteBlock) -> WrittenBlock:
        return self._stage.write(effect)

    def append(self, effect: Append, checkpoints: Mapping[str, Position]) -> bool:
        if self._stage.failing():
            raise StoreUnavailable("the ledger was made to fail")
        return super().append(effect, checkpoints)


class _Ledger:
    """Takes the place of the ledger's writer: the lines are kept, and read back at the end."""

    writer = WRITER

    def __init__(self) -> None:
        self.lines = bytearray()
        self.tail = Tail(0, first_prev(WRITER))
        self.appends = 0

    @property
    def size(self) -> int:
        return len(self.lines)

    def append(self, entries: Any) -> None:  # noqa: ANN401
        lines, self.tail = encode_lines(entries, self.tail.number + 1, self.tail.hash)
        self.lines += lines
        self.appends += 1

    def check(self) -> None:
        """See that all that was written can be read."""
        found = decode_ledger(WRITER, bytes(self.lines))
        if found.fault is not None or found.torn:
            raise Broken(f"the ledger that was written cannot be read: {found.fault}")


class Stage:
    """See the module.

    Attributes:
        stopped: Why the generator stopped, once it has.
        blocks: What is stored: shard, and the row's position, of each row of each block.
        open_shards: The stream says that shards are open.
        shard_was_named: A hostile peer has named the honest session's shard.
    """

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401
        _TIME[0] = START
        self.settings = GeneratorSettings(
            APPLICATION, block_max_bytes=16_384, window_bytes=4096, store_timeout=60.0, **settings
        )
        self.core = GeneratorCore(self.settings, START, random.Random(1))
        self.workers = StageWorkers(self)
        self.ledger = _Ledger()
        self.workers._ledger = self.ledger  # type: ignore[assignment]
        self.workers._rollover.made(WALL_MILLIS)
        self.timer: Callable[[], None] | None = None
        self.stopped: list[ReceiverError | None] = []
        self.server = GeneratorServer(
            self.core,
            self.workers,
            StageRuntime(self),
            Path("generator.sock"),
            self.settings.store_timeout,
            "file:///store",
            self.stopped.append,
        )
        self.wires: list[Wire] = []
        self.calls: list[tuple[Coroutine[Any, Any, None], _Call]] = []
        self.blocks: Counter[tuple[str, Position]] = Counter()
        self.open_shards = False
        self.fail_next = 0
        self.steps = 0
        self.real_parquet = False
        self.shard_was_named = False

    @contextmanager
    def guard(self, what: str) -> Iterator[None]:
        """Every exception but a Broken that leaves the receiver here would have ended the process or an event loop."""
        try:
            yield
        except Broken:
            raise
        except Exception as error:
            raise Broken(f"{what}: {type(error).__name__}: {error}") from error

    def connect(self, pid: int, *, reads: bool = True) -> Wire:
        """Return a new connection of a process."""
        wire = Wire(self, pid, reads=reads)
        self.wires.append(wire)
        return wire

    # Threads

    def step(self, work: Coroutine[Any, Any, None], value: Any, error: BaseException | None) -> None:  # noqa: ANN401
        """Let a coroutine run to its next call."""
        try:
            asked = work.throw(error) if error is not None else work.send(value)
        except StopIteration:
            return
        self.calls.append((work, asked))

    def failing(self) -> bool:
        """Return whether the next call of the store is to fail."""
        if self.fail_next:
            self.fail_next -= 1
            return True
        return False

    def answer(self, index: int) -> None:
        """Let one of the waiting calls happen, and give its answer."""
        if not self.calls:
            return
        self.count()
        work, asked = self.calls.pop(index % len(self.calls))
        with self.guard("a call of a thread"):
            try:
                value, error = asked.call(), None
            except ReceiverError as failure:
                value, error = None, failure
            self.step(work, value, error)
        self.after_event()

    def write(self, effect: WriteBlock) -> WrittenBlock:
        """What `GeneratorIO.write_block` does, into memory."""
        if self.failing():
            raise StoreUnavailable(f"block {effect.number} was made to fail")
        ranges = [parquet.BlockRange(part.range, part.columns) for part in effect.parts]
        if self.real_parquet:
            encoded = parquet.encode_block(block_id(WRITER, effect.number), WRITER, STREAM, ranges, "none")
            read_footer(encoded, block_id(WRITER, effect.number))
        names = pa.array([""], pa.string())
        row = 0
        placed = []
        for one in ranges:
            parquet._checked_batch(one, names, 0)
            placed.append(parquet.replace(one.range, first_row=row))
            row += one.columns.count
            for place in range(one.columns.count):
                self.blocks[one.range.shard, one.columns.position(place)] += 1
        return WrittenBlock(block_id(WRITER, effect.number), tuple(placed), row, 1)

    # Time, and what must hold whenever something has happened

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.count()
        _TIME[0] += seconds
        with self.guard("tick"):
            if self.timer is not None:
                self.timer()
        self.after_event()

    def after_event(self) -> None:
        """What asyncio does between two events: connections that were hung up are gone once all is sent."""
        for wire in self.wires:
            check(wire.refused is None or wire.transport.closing, "a connection was refused, and not hung up on")
            if wire.transport.closing and not wire.ended and not wire.transport.unread:
                wire.lost()
        self.wires = [wire for wire in self.wires if not wire.ended]

    def count(self) -> None:
        """Count an event: whatever comes, a course comes to rest."""
        self.steps += 1
        check(self.steps < STEPS, "the course does not come to rest")

    def check_memory(self) -> None:
        """See that what is held for connections is within its bound: a payload is only for an open session."""
        for wire in self.wires:
            if wire.ended:
                continue
            taken = len(memoryview(wire.connection._reader.buffer()).obj)  # type: ignore[arg-type]
            bound = frames.MAX_MESSAGE + 8 + (PAYLOAD_BOUND if wire.transport.welcomed else 0)
            check(taken <= bound, f"{taken} bytes are taken for what may not come")
            unread = wire.transport.unread
            check(unread <= HIGH_WATER + REPLY_BYTES, f"{unread} bytes wait for a peer that does not take them")

    def settle(self) -> None:
        """Hang up all hostile peers, mend the store, and let everything come to its end."""
        self.fail_next = 0
        self.open_shards = False
        for _ in range(400):
            while self.calls and not self.stopped:
                self.answer(0)
            due = self.core.deadline()
            if self.stopped or due is None or (not self.calls and due > _TIME[0] + 50):
                return
            self.advance(max(0.0, due - _TIME[0]))
        raise Broken("the generator does not come to rest")

    def status_is_json(self) -> None:
        """See that the status can be told whatever the sessions say of themselves."""
        wire = self.connect(1)
        wire.feed(b"KR\x01\x07\x01\0\0\0\0\0\0\0\x80" + bytes(7))
        check(wire.heard == [Status()], f"the status was asked for, and the answer is {wire.heard}")
        wire.hang_up()
