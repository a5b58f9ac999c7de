"""Drives a ProcessorCore as daemon and generator would, and holds every effect to the contract in every test.

Whatever a test does, these are checked as the effects come out: a checkpoint is asked for only while the daemon waits
for an action, one at a time, higher than the last one, where a Kinesis record ends, and not past what the generator
reported stored; an action is reported done once, the end of the shard only after SHARD_END was taken (or the lease is
gone), and records only when all but their last batch is admitted and that one is sent (or the generator drains, or
all is stored); nothing is sent without a connection, batches go out one at a time, in order, and are the same each
time; and after `tick` at the deadline there is something done or a later deadline.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence

from kcl_receiver.errors import ReceiverError
from kcl_receiver.processor.codec import (
    Action,
    Initialize,
    LeaseLost,
    ProcessRecords,
    ShardEnded,
    ShutdownRequested,
)
from kcl_receiver.processor.core import ProcessorCore
from kcl_receiver.processor.effects import Checkpoint, Connect, Done, Effect, Exit, Transmit
from kcl_receiver.ranges import TRIM_HORIZON, After, Position
from kcl_receiver.wire.columns import Columns, VarColumn
from kcl_receiver.wire.messages import (
    Admitted,
    Batch,
    Draining,
    Hello,
    Hold,
    Leave,
    Message,
    Progress,
    Refused,
    ShardEndConfirmed,
    Stored,
    Welcome,
)

START = 1000.0
"""The clock's first reading, in seconds."""
SHARD = "shardId-000000000000"

GENERATOR_TIMEOUT = 60.0
STORE_TIMEOUT = 300.0
CHECKPOINT_INTERVAL = 5.0
DRAIN = 10.0
WINDOW = 10_000

Place = int | tuple[int, int]
"""A position as tests write it: a sequence number, or one with its sub-sequence number."""


def position(place: Place) -> Position:
    return Position(place) if isinstance(place, int) else Position(*place)


def columns(places: Sequence[Place], data_bytes: int = 10) -> Columns:
    """Return one record for each place, with key, arrival time and data made from it."""
    positions = [position(place) for place in places]
    return Columns(
        count=len(positions),
        sequence=VarColumn.of([str(one.sequence_number).encode() for one in positions]),
        sub=array("q", [one.sub_sequence_number for one in positions]),
        key=VarColumn.of([f"key-{one}".encode() for one in positions]),
        arrival=array("q", [one.sequence_number % 10**12 for one in positions]),
        data=VarColumn.of([f"{one}".encode().ljust(data_bytes, b".") for one in positions]),
    )


def places(part: Columns) -> list[Position]:
    return [part.position(row) for row in range(part.count)]


def welcome(
    next_number: int = 1,
    *,
    batch_bytes: int = 8 * 1024 * 1024,
    window: int = WINDOW,
    generator_timeout: float = GENERATOR_TIMEOUT,
) -> Welcome:
    return Welcome(
        generator="writer-1",
        next_number=next_number,
        batch_bytes=batch_bytes,
        window_bytes=window,
        checkpoint_interval_millis=round(CHECKPOINT_INTERVAL * 1000),
        generator_timeout_millis=round(generator_timeout * 1000),
        store_timeout_millis=round(STORE_TIMEOUT * 1000),
        drain_millis=round(DRAIN * 1000),
        note_millis=0,
    )


class Processor:
    """A ProcessorCore between a daemon and a generator that do what the test says.

    Attributes:
        now: The clock.
        connecting: Whether the core waits to hear whether there is a connection.
        connected: Whether there is one, as the core was told.
        pending: The action that the daemon waits for.
        checkpointing: The checkpoint that the daemon owes an answer for.
        exit: How the process left, once it did.
        batches: Every batch that was sent, by its number.
    """

    def __init__(self, generator_timeout: float = GENERATOR_TIMEOUT, seed: int = 1) -> None:
        self.core = ProcessorCore("landing", "session-1", 4711, generator_timeout, random.Random(seed))
        self.now = START
        self.connecting = self.connected = False
        self.welcomed = False
        self.draining = self.on_hold = False
        self.pending: Action | None = None
        self.checkpointing: Checkpoint | None = None
        self.exit: Exit | None = None
        self.batches: dict[int, tuple[Batch, Columns]] = {}
        self.awaiting: int | None = None
        self.safe: Position | None = None
        self.checkpoint: Position | None = None
        self.shard_end_taken = False
        self.lease_gone = False
        self.left = False
        self.latest: Position | None = None
        self.sent = self.stored = 0

    # ------------------------------------------------------------------ the daemon

    def initialize(self, after: After | Place = TRIM_HORIZON) -> list[Effect]:
        start = after if isinstance(after, str) else position(after)
        if isinstance(start, Position):
            self.safe = self.checkpoint = start
        return self.action(Initialize(SHARD, start))

    def deliver(self, *records: Place, data_bytes: int = 10, behind: int = 0) -> list[Effect]:
        return self.action(ProcessRecords(columns(records, data_bytes) if records else None, behind))

    def lease_lost(self) -> list[Effect]:
        self.lease_gone = True
        return self.action(LeaseLost())

    def shard_ended(self) -> list[Effect]:
        return self.action(ShardEnded())

    def shutdown_requested(self) -> list[Effect]:
        return self.action(ShutdownRequested())

    def action(self, action: Action) -> list[Effect]:
        self.pending = action
        if isinstance(action, ProcessRecords) and action.columns is not None:
            last = action.columns.position(action.columns.count - 1)
            self.latest = max(self.latest or last, last)
        return self._check(self.core.action(action, self.now, rank=round(self.now * 1e9)))

    def checkpoint_taken(self) -> list[Effect]:
        asked = self._answered()
        if asked.position is None:
            self.shard_end_taken = True
        else:
            self.checkpoint = asked.position
        return self._check(self.core.checkpoint_result(None, self.now))

    def checkpoint_failed(self, error: str) -> list[Effect]:
        self._answered()
        self.lease_gone = self.lease_gone or error == "ShutdownException"
        return self._check(self.core.checkpoint_result(error, self.now))

    def _answered(self) -> Checkpoint:
        asked, self.checkpointing = self.checkpointing, None
        assert asked is not None, "no checkpoint was asked for"
        return asked

    def hang_up(self) -> list[Effect]:
        return self._check(self.core.input_closed())

    # ------------------------------------------------------------------ the generator

    def connect(self) -> list[Effect]:
        """Let the next attempt succeed, whenever it comes."""
        effects: list[Effect] = []
        while not self.connecting:
            due = self.core.deadline()
            assert due is not None, "nobody wants to connect"
            self.now = max(self.now, due)
            effects += self.tick()
        self.connecting, self.connected = False, True
        return [*effects, *self._check(self.core.connected(self.now))]

    def disconnect(self) -> list[Effect]:
        """The connection breaks, or could not be made."""
        self.connecting = self.connected = self.welcomed = self.draining = False
        self.awaiting = None
        self.sent = self.stored
        return self._check(self.core.disconnected(self.now))

    def hear(self, message: Message) -> list[Effect]:
        return self._check(self.core.message(message, self.now))

    def welcome(self, next_number: int = 1, **limits: float) -> list[Effect]:
        self.welcomed = True
        self.sent = next_number - 1
        return self.hear(welcome(next_number, **limits))  # type: ignore[arg-type]

    def open(self, next_number: int = 1, **limits: float) -> list[Effect]:
        return [*self.connect(), *self.welcome(next_number, **limits)]

    def admit(self, number: int) -> list[Effect]:
        if number == self.awaiting:
            self.awaiting = None
        return self.hear(Admitted(number))

    def store(self, number: int) -> list[Effect]:
        self.stored = max(self.stored, number)
        for one in range(1, number + 1):
            if one in self.batches and (whole := self.batches[one][0].whole) is not None:
                sequence, sub = whole.split(":")
                self.safe = max(self.safe or Position(0), Position(int(sequence), int(sub)))
        return self.hear(Stored(number))

    def drain(self) -> list[Effect]:
        self.draining = True
        self.awaiting = None
        return self.hear(Draining())

    def hold(self) -> list[Effect]:
        """The generator says that the lease can't be read: no checkpoint may follow, whatever is answered."""
        self.on_hold = True
        return self.hear(Hold("LeaseRefused", "why", "what next"))

    def confirm_end(self) -> list[Effect]:
        return self.hear(ShardEndConfirmed())

    def refuse(self, error: str, message: str = "why", hint: str = "what next") -> list[Effect]:
        return self.hear(Refused(error, message, hint))

    # ------------------------------------------------------------------ time

    def wait(self, seconds: float) -> list[Effect]:
        """Let time pass, with a tick at every deadline on the way; no attempt to connect succeeds meanwhile."""
        until = self.now + seconds
        effects: list[Effect] = []
        while (due := self.core.deadline()) is not None and due <= until:
            self.now = max(self.now, due)
            effects += self.tick()
            if self.connecting:
                effects += self.disconnect()
        self.now = until
        return effects

    def tick(self) -> list[Effect]:
        before = self.core.deadline()
        effects = self._check(self.core.tick(self.now))
        after = self.core.deadline()
        if before is not None and before <= self.now:
            assert effects or after is None or after > self.now, f"a busy loop: {before} became {after}"
        return effects

    # ------------------------------------------------------------------ the contract

    def _check(self, effects: list[Effect]) -> list[Effect]:
        for effect in effects:
            assert self.exit is None, f"{effect} after {self.exit}"
            if isinstance(effect, Checkpoint):
                self._check_checkpoint(effect)
            elif isinstance(effect, Done):
                self._check_done(effect)
            elif isinstance(effect, Exit):
                self.exit = effect
                assert self.core.deadline() is None, "time goes on after the exit"
            elif isinstance(effect, Transmit):
                self._check_message(effect)
            else:
                assert not self.connected, "a second connection"
                assert not self.connecting, "a second attempt before the first is over"
                self.connecting = True
        return effects

    def _check_checkpoint(self, asked: Checkpoint) -> None:
        assert self.pending is not None, "the daemon does not read now"
        assert self.checkpointing is None, "a second checkpoint before the answer to the first"
        assert not self.lease_gone, "a checkpoint without the lease"
        assert not self.on_hold, "a checkpoint of a shard that is on hold"
        if asked.position is None:
            assert isinstance(self.pending, ShardEnded), "the bare checkpoint outside of the shard's end"
        else:
            assert self.safe is not None, "a checkpoint before anything is stored"
            assert asked.position <= self.safe, f"checkpoint at {asked.position}, stored through {self.safe}"
            assert self.checkpoint is None or asked.position > self.checkpoint, "the checkpoint did not rise"
        self.checkpointing = asked

    def _check_done(self, done: Done) -> None:
        assert done.action is self.pending, f"{done.action.name} is done, {self.pending} was asked"
        assert self.checkpointing is None, "done before the answer to a checkpoint"
        if isinstance(done.action, ShardEnded):
            assert self.shard_end_taken or self.lease_gone, "the end of the shard without SHARD_END"
        if isinstance(done.action, ProcessRecords) and not (self.draining or self.lease_gone or self.on_hold):
            # One batch is on its way at a time, so if the last one is, or was, the others are admitted.
            assert self.latest is None or self._reached() >= self.latest, "records are done that are not on their way"
        self.pending = None

    def _reached(self) -> Position:
        """Return the last position that this generator was sent, or that is stored or was known from the start."""
        sent = self.batches.get(self.sent)
        reached = Position(0) if sent is None else sent[1].position(sent[1].count - 1)
        return max(reached, self.safe or reached)

    def _check_message(self, sent: Transmit) -> None:
        assert self.connected, f"{sent.message} without a connection"
        known = (Hello, Leave, Progress) if self.on_hold else Hello
        assert self.welcomed or isinstance(sent.message, known), f"{sent.message} before Welcome"
        assert not self.left, f"{sent.message} after Leave"
        self.left = isinstance(sent.message, Leave)
        if not isinstance(sent.message, Batch):
            return
        assert sent.columns is not None
        assert not self.draining, "a batch for a generator that admits nothing"
        assert self.awaiting is None, "a second batch before the first has its place"
        self.awaiting = self.sent = sent.message.number
        before = self.batches.setdefault(sent.message.number, (sent.message, sent.columns))
        assert before[0] == sent.message, "a batch was sent again, and it was another one"


# ---------------------------------------------------------------------- reading effects


def numbers(effects: list[Effect]) -> list[int]:
    """Return the numbers of the batches sent."""
    return [one.message.number for one in effects if isinstance(one, Transmit) and isinstance(one.message, Batch)]


def told(effects: list[Effect], kind: type[Message]) -> list[Message]:
    """Return the messages of one kind."""
    return [one.message for one in effects if isinstance(one, Transmit) and isinstance(one.message, kind)]


def done(effects: list[Effect]) -> list[str]:
    """Return the names of the actions reported as done."""
    return [one.action.name for one in effects if isinstance(one, Done)]


def asked(effects: list[Effect]) -> list[Position | None]:
    """Return the checkpoints asked for."""
    return [one.position for one in effects if isinstance(one, Checkpoint)]


def connects(effects: list[Effect]) -> int:
    """Return how often a connection was tried."""
    return sum(isinstance(one, Connect) for one in effects)


def failure(processor: Processor) -> ReceiverError:
    """Return the error that the process left with."""
    assert processor.exit is not None, "the process has not left"
    assert processor.exit.error is not None, "the process left in order"
    return processor.exit.error


# ---------------------------------------------------------------------- common beginnings


def started(after: After | Place = TRIM_HORIZON, **limits: float) -> Processor:
    """Return a processor with an open connection and no records."""
    processor = Processor()
    processor.initialize(after)
    processor.open(**limits)
    return processor


def delivered(processor: Processor, *records: Place, data_bytes: int = 10) -> list[int]:
    """Deliver records that the generator admits one batch after the other; return the batches' numbers."""
    effects = processor.deliver(*records, data_bytes=data_bytes)
    out = []
    while processor.awaiting is not None:
        out.append(processor.awaiting)
        effects += processor.admit(processor.awaiting)
    assert done(effects) == ["processRecords"]
    return out


def taken(processor: Processor, *records: Place) -> None:
    """Deliver records that are stored and checkpointed."""
    (number,) = delivered(processor, *records)
    processor.store(number)
    processor.wait(CHECKPOINT_INTERVAL)
    processor.deliver()
    processor.checkpoint_taken()
    assert processor.pending is None
    assert processor.checkpoint == position(records[-1])
