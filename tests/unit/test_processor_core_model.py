"""A processor between a model of KCL and a model of the generator, with faults in any order.

The model of KCL delivers in order (and again, when its fetcher starts anew), drops what is not past its checkpoint, and
refuses a checkpoint that goes back or past what was delivered, as ShardRecordProcessorCheckpointer and ProcessTask do.
The model of the generator stores batches in any order, loses what is not stored when it dies, and knows a session that
comes back. What is durable is known to the models alone, and each checkpoint is held against that.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from processor_harness import Processor, columns, places

from kcl_receiver.errors import DaemonError, GeneratorUnavailable, StoreUnavailable
from kcl_receiver.processor.codec import ProcessRecords, ShardEnded, ShutdownRequested
from kcl_receiver.processor.effects import Effect, Transmit
from kcl_receiver.ranges import Position
from kcl_receiver.wire.columns import Columns
from kcl_receiver.wire.messages import Batch, Hello, ShardEnd, ShardEndConfirmed

WINDOW = 600
SETTLED_IN = 400
"""Steps within which any action ends once no more faults come; far more than any needs."""


class Generator:
    """One generator process: what it admitted, and what of that is stored."""

    def __init__(self) -> None:
        self.first = 0
        self.admitted: dict[int, Columns] = {}
        self.unstored: list[int] = []
        self.draining = False
        self.reported = 0

    @property
    def next(self) -> int:
        return self.first + len(self.admitted)

    @property
    def through(self) -> int:
        return min(self.unstored, default=self.next) - 1

    def has_room(self, size: int) -> bool:
        used = sum(self.admitted[number].memory for number in self.unstored)
        return not used or used + size <= WINDOW


class ProcessorMachine(RuleBasedStateMachine):
    """See the module's docstring."""

    def __init__(self) -> None:
        super().__init__()
        self.processor = Processor()
        self.generator = Generator()
        self.durable: set[Position] = set()
        self.delivered: set[Position] = set()
        self.largest_delivery = self.largest_batch = 0
        self.end_asked = False
        self.over = False
        self.drained = False
        self.limited = False
        self.checked: object = None

    # ------------------------------------------------------------------ the beginning

    @initialize(
        sizes=st.lists(st.integers(1, 3), min_size=8, max_size=20),
        digits=st.integers(0, 20),
        start=st.booleans(),
        batch_bytes=st.sampled_from([1, 200, 10_000]),
        data_bytes=st.sampled_from([1, 40, 300]),
    )
    def begin(self, sizes: list[int], digits: int, start: bool, batch_bytes: int, data_bytes: int) -> None:
        # Numbers that cross from one count of digits to the next, as they may within one shard.
        base = 10**digits - 5
        self.stream = [
            [Position(max(1, base) + number, sub) for sub in range(size)] for number, size in enumerate(sizes)
        ]
        self.whole = {record[-1] for record in self.stream}
        self.batch_bytes, self.data_bytes = batch_bytes, data_bytes
        self.read = 0
        self.see(self.processor.initialize(tuple(self.stream[0][-1]) if start else "TRIM_HORIZON"))
        if start:
            self.read = 1
            self.delivered, self.durable = set(self.stream[0]), set(self.stream[0])
        assert self.processor.pending is None

    @precondition(lambda self: not self.alive)
    @rule()
    def start_anew(self) -> None:
        """KCL reads again from the checkpoint, with a new process."""
        taken = self.processor.checkpoint
        self.processor, self.generator = Processor(), Generator()
        self.end_asked = self.over = self.drained = self.limited = False
        self.delivered = {place for place in self.delivered if taken is not None and place <= taken}
        self.read = sum(taken is not None and record[-1] <= taken for record in self.stream)
        self.see(self.processor.initialize("TRIM_HORIZON" if taken is None else tuple(taken)))

    # ------------------------------------------------------------------ what comes out

    def see(self, effects: list[Effect]) -> None:
        for effect in effects:
            if not isinstance(effect, Transmit):
                continue
            if isinstance(effect.message, Hello):
                self.generator.first = self.generator.first or effect.message.next_number
                assert effect.message.next_number <= self.generator.next
            elif isinstance(effect.message, Batch):
                assert effect.message.number == self.generator.next
                before = self.generator.admitted.get(effect.message.number - 1)
                if before is not None:
                    assert effect.message.after == str(places(before)[-1])
            elif isinstance(effect.message, ShardEnd):
                assert self.generator.through == self.generator.next - 1
                self.end_asked = True

    @property
    def alive(self) -> bool:
        return self.processor.exit is None

    # ------------------------------------------------------------------ KCL

    @precondition(lambda self: self.alive and self.processor.pending is None and not self.over)
    @rule(count=st.integers(0, 4))
    def deliver(self, count: int) -> None:
        page = [place for record in self.stream[self.read : self.read + count] for place in record]
        self.read = min(self.read + count, len(self.stream))
        taken = self.processor.checkpoint
        page = [place for place in page if taken is None or place > taken]
        delivery = columns([tuple(place) for place in page], self.data_bytes) if page else None
        self.delivered |= set(page)
        if delivery is not None:
            # Each batch that it is divided into has three more offsets of its own.
            self.largest_delivery = max(self.largest_delivery, delivery.memory + 12 * delivery.count)
            record = max(delivery.slice(row, row + 1).memory for row in range(delivery.count))
            limit = max(record, self.batch_bytes) if self.limited else delivery.memory
            self.largest_batch = max(self.largest_batch, min(limit, delivery.memory))
        self.see(self.processor.action(ProcessRecords(delivery, 0)))

    @precondition(lambda self: self.alive and self.processor.pending is None and not self.over)
    @rule(back=st.integers(1, 5))
    def fetch_anew(self, back: int) -> None:
        self.read = max(0, self.read - back)

    @precondition(lambda self: self.alive and self.processor.checkpointing is not None)
    @rule(error=st.sampled_from([None] * 6 + ["ThrottlingException", "KinesisClientLibDependencyException"]))
    def answer_checkpoint(self, error: str | None) -> None:
        if error is None:
            self.see(self.processor.checkpoint_taken())
        else:
            self.see(self.processor.checkpoint_failed(error))

    @precondition(lambda self: self.alive and self.processor.checkpointing is not None)
    @rule()
    def lose_the_lease_at_a_checkpoint(self) -> None:
        self.see(self.processor.checkpoint_failed("ShutdownException"))

    @precondition(lambda self: self.alive and self.processor.pending is None and not self.over)
    @rule(how=st.sampled_from(["shutdown", "end", "lost"]))
    def leave_the_shard(self, how: str) -> None:
        self.over = True
        if how == "lost":
            self.see(self.processor.lease_lost())
            assert self.processor.pending is None
        elif how == "shutdown":
            self.see(self.processor.shutdown_requested())
        elif not self.processor.lease_gone:
            self.see(self.processor.shard_ended())

    # ------------------------------------------------------------------ the generator

    @precondition(lambda self: self.alive and self.processor.connecting)
    @rule()
    def accept(self) -> None:
        self.end_asked = False
        self.see(self.processor.connect())

    @precondition(lambda self: self.alive and self.processor.connecting)
    @rule()
    def not_there(self) -> None:
        self.see(self.processor.disconnect())

    @precondition(lambda self: self.alive and self.processor.connected and not self.processor.welcomed)
    @rule()
    def welcome(self) -> None:
        generator = self.generator
        through = generator.through
        self.limited = True
        self.see(self.processor.welcome(generator.next, batch_bytes=self.batch_bytes, window=WINDOW))
        if self.alive:
            generator.reported = through
            self.see(self.processor.store(through))
        if self.alive and generator.draining:
            self.see(self.processor.drain())

    @precondition(lambda self: self.alive and self.can_admit())
    @rule()
    def admit(self) -> None:
        number = self.processor.awaiting
        assert number is not None
        self.generator.admitted[number] = self.processor.batches[number][1]
        self.generator.unstored.append(number)
        self.see(self.processor.admit(number))

    def can_admit(self) -> bool:
        number = self.processor.awaiting
        if number is None or self.processor.left or self.generator.draining:
            return False
        return self.generator.has_room(self.processor.batches[number][1].memory)

    @precondition(lambda self: self.generator.unstored)
    @rule(data=st.data())
    def store_any(self, data: st.DataObject) -> None:
        self.store(data.draw(st.sampled_from(self.generator.unstored)))

    def store(self, number: int) -> None:
        self.generator.unstored.remove(number)
        self.durable |= set(places(self.generator.admitted[number]))

    @precondition(lambda self: self.can_report())
    @rule()
    def report(self) -> None:
        self.generator.reported = self.generator.through
        self.see(self.processor.store(self.generator.reported))

    def can_report(self) -> bool:
        return self.alive and self.processor.welcomed and self.generator.through > self.generator.reported

    @precondition(lambda self: self.alive and self.processor.welcomed and not self.generator.draining)
    @rule()
    def drain(self) -> None:
        self.generator.draining = self.drained = True
        self.see(self.processor.drain())

    @precondition(lambda self: self.alive and self.processor.welcomed and self.end_asked)
    @rule()
    def confirm_end(self) -> None:
        self.end_asked = False
        self.see(self.processor.hear(ShardEndConfirmed()))

    @precondition(lambda self: self.alive and self.processor.connected)
    @rule(late=st.booleans())
    def break_the_link(self, late: bool) -> None:
        if late and self.can_admit():
            # It was admitted, and the word of it is lost.
            number = self.processor.awaiting
            assert number is not None
            self.generator.admitted[number] = self.processor.batches[number][1]
            self.generator.unstored.append(number)
        self.see(self.processor.disconnect())

    @precondition(lambda self: self.alive)
    @rule()
    def kill_the_generator(self) -> None:
        self.generator = Generator()
        if self.processor.connected:
            self.see(self.processor.disconnect())

    # ------------------------------------------------------------------ time

    @precondition(lambda self: self.alive)
    @rule(seconds=st.sampled_from([0.01, 0.3, 2.0, 6.0, 25.0]))
    def wait(self, seconds: float) -> None:
        connected = self.processor.connected
        self.see(self.processor.wait(seconds))
        assert self.processor.connected == connected

    # ------------------------------------------------------------------ what holds throughout

    @invariant()
    def a_checkpoint_is_not_past_what_is_durable(self) -> None:
        asked = self.processor.checkpointing
        if asked is None or asked is self.checked:
            return
        self.checked = asked
        if asked.position is None:
            assert self.delivered <= self.durable, "the shard is ended and not all of it is stored"
            return
        assert asked.position in self.whole, "a checkpoint in the middle of a Kinesis record"
        assert asked.position in self.delivered
        assert {place for place in self.delivered if place <= asked.position} <= self.durable

    @invariant()
    def what_is_kept_is_bounded(self) -> None:
        # What the window holds, the batch left on its way, and the delivery that waits for it. Another delivery goes
        # home unsent from a generator that drains, and the next one is here before it has to wait.
        deliveries = 2 if self.drained else 1
        bound = max(WINDOW, self.largest_batch) + self.largest_batch + deliveries * self.largest_delivery
        assert self.processor.core.kept_bytes <= bound

    @invariant()
    def the_process_leaves_only_for_a_reason(self) -> None:
        if self.processor.exit is not None:
            assert isinstance(self.processor.exit.error, GeneratorUnavailable | StoreUnavailable | DaemonError)
            if isinstance(self.processor.exit.error, DaemonError):
                assert isinstance(self.processor.pending, ShardEnded)

    # ------------------------------------------------------------------ the end of the faults

    def teardown(self) -> None:
        if not hasattr(self, "stream"):
            return
        self.settle()
        if self.over or not self.alive or self.processor.lease_gone:
            return
        for _ in range(30):
            if not self.processor.core.kept_bytes and self.processor.checkpoint == max(self.delivered, default=None):
                return
            if self.generator.draining:
                self.kill_the_generator()
            self.see(self.processor.deliver())
            self.settle()
            self.see(self.processor.wait(1.0))
        raise AssertionError(f"stored {self.processor.safe}, checkpointed {self.processor.checkpoint}")

    def settle(self) -> None:
        """Let everybody do what they should, until the daemon has its answer."""
        steps = 0
        while self.alive and (self.processor.pending is not None or self.generator.unstored or self.moves()):
            steps += 1
            assert steps < SETTLED_IN, f"{self.processor.pending} never ends"
            self.step()
            self.a_checkpoint_is_not_past_what_is_durable()

    def moves(self) -> bool:
        """Whether the generator has something to say while the daemon waits for nothing."""
        return self.can_admit() or self.can_report()

    def step(self) -> None:
        processor, generator = self.processor, self.generator
        if processor.checkpointing is not None:
            self.see(processor.checkpoint_taken())
        elif generator.unstored:
            self.store(generator.unstored[-1])
        elif generator.draining:
            self.kill_the_generator()
        elif processor.connecting:
            self.accept()
        elif processor.connected and not processor.welcomed:
            self.welcome()
        elif self.can_admit():
            self.admit()
        elif self.can_report():
            self.report()
        elif processor.welcomed and self.end_asked:
            self.confirm_end()
        else:
            due = processor.core.deadline()
            assert due is not None, f"nobody moves while {processor.pending} waits"
            processor.now = max(processor.now, due)
            self.see(processor.tick())
            if isinstance(processor.pending, ShutdownRequested):
                return
            assert self.alive or not processor.welcomed, f"{processor.exit} with everybody there"


ProcessorMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
test_any_order_of_events = ProcessorMachine.TestCase
