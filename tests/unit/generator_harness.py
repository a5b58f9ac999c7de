"""Drives a GeneratorCore with a clock that stands still, and answers its effects when a test says so.

Every effect is checked against the contract as it comes out, in every test: nothing is asked twice at a time, nothing
is sent to a connection that is gone, and `Stored` never names a batch with a record that is not durable, which means
that its block was written and that the block's ledger entry was appended (or that it was held before).
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import msgspec

from kcl_receiver.errors import ReceiverError
from kcl_receiver.generator.core import GeneratorCore
from kcl_receiver.generator.effects import (
    Append,
    BlockRecord,
    Close,
    ConfirmShardEnd,
    Effect,
    LookFurther,
    LookUp,
    Measure,
    Measurement,
    MoreHeld,
    PossiblyTrimmed,
    Send,
    SessionRecord,
    ShardEndRecord,
    ShardFacts,
    Stop,
    WriteBlock,
    WrittenBlock,
)
from kcl_receiver.generator.settings import GeneratorSettings
from kcl_receiver.ranges import After, Position, Range
from kcl_receiver.wire.columns import Columns, VarColumn, checksum
from kcl_receiver.wire.frames import Frame, FrameReader, ReceivedBatch, batch_lengths, decode_batch, encode_batch
from kcl_receiver.wire.messages import Admitted, Batch, Draining, Hello, Message, Refused, Stored, Welcome

APPLICATION = "landing"
UNMEASURED = Measurement(-1, 0, 0, 0)
START = 1000.0
"""The clock's first reading, in seconds."""
SERVICE_START = round(START * 1000) + 1000
"""What the service's clock shows then at the latest, in milliseconds: the same clock, cut off to a second."""

Place = int | tuple[int, int]
"""A position as tests write it: a sequence number, or one with its sub-sequence number."""

Asked = LookUp | LookFurther | ConfirmShardEnd | Measure | WriteBlock | Append
A = TypeVar("A", bound=LookUp | LookFurther | ConfirmShardEnd | Measure | WriteBlock | Append)


def position(place: Place) -> Position:
    return Position(place) if isinstance(place, int) else Position(*place)


def columns_of(positions: Sequence[Position], data_bytes: int = 10, arrival: int | None = None) -> Columns:
    """Return one record for each position, with key, data, and arrival time (unless it is given) made from it."""
    came = SERVICE_START - 1000
    arrivals = [came + one.sequence_number % 1000 if arrival is None else arrival for one in positions]
    return Columns(
        count=len(positions),
        sequence=VarColumn.of([str(one.sequence_number).encode() for one in positions]),
        sub=memoryview(b"".join(one.sub_sequence_number.to_bytes(8, "little", signed=True) for one in positions)),
        key=VarColumn.of([f"key-{one}".encode() for one in positions]),
        arrival=memoryview(b"".join(one.to_bytes(8, "little") for one in arrivals)),
        data=VarColumn.of([f"{one}".encode().ljust(data_bytes, b".")[:data_bytes] for one in positions]),
    )


def batch_message(
    columns: Columns,
    number: int = 1,
    after: After = "TRIM_HORIZON",
    whole: Position | None = None,
    at: int = round(START * 1000),
) -> Batch:
    """Return the message that describes these columns truly."""
    last = columns.count - 1
    return Batch(
        number=number,
        after=str(after),
        first=str(columns.position(0)),
        last=str(columns.position(last)),
        whole=None if whole is None else str(whole),
        count=columns.count,
        arrival_first=columns.arrival_of(0),
        arrival_last=columns.arrival_of(last),
        behind=7,
        at=at,
        checksum=checksum(columns),
        lengths=batch_lengths(columns),
    )


def over_the_wire(message: Batch, columns: Columns) -> Frame:
    """Return the frame as the other side receives it."""
    reader = FrameReader()
    for part in encode_batch(message, columns):
        rest = memoryview(part).cast("B")
        while rest:
            place = reader.buffer()
            taken = min(len(place), len(rest))
            place[:taken] = rest[:taken]
            rest = rest[taken:]
            frame = reader.advance(taken)
            if frame is not None:
                assert not rest
                return frame
    raise AssertionError("the frame is not complete")


def received(
    number: int, after: After, places: Sequence[Place], *, whole: Place | None = -1, data_bytes: int = 10
) -> ReceivedBatch:
    """Return a batch as it comes from the socket; without `whole` its last record ends its Kinesis record."""
    positions = [position(place) for place in places]
    end = positions[-1] if whole == -1 else None if whole is None else position(whole)
    columns = columns_of(positions, data_bytes)
    return decode_batch(over_the_wire(batch_message(columns, number, after, end), columns))


def held_range(shard: str, first: Place, last: Place) -> Range:
    """Return a range that the ledger might know of an earlier generator; only its ends matter."""
    return Range(
        shard=shard,
        session="earlier",
        after="TRIM_HORIZON",
        first=position(first),
        last=position(last),
        whole=position(last),
        count=1,
        size=1,
        arrival_first=-1,
        arrival_last=-1,
        checksum="0" * 32,
        first_row=0,
    )


def measured(at: float = START, *, hours: int = 24, opened: Mapping[str, int] | None = None) -> Measurement:
    """Return what a stream says whose clock shows the same as this one."""
    return Measurement(int(at * 1000), int(at * 1000), int(at * 1000), hours, opened or {})


def facts(*held: Range, read_until: int = round(START * 1000), at: float = START, hours: int = 24) -> ShardFacts:
    return ShardFacts(held, ("parent",), ("0", "10"), measured(at, hours=hours), read_until)


def written(block: WriteBlock) -> WrittenBlock:
    """Return what a store answers."""
    ranges = tuple(replace(part.range, first_row=0) for part in block.parts)
    return WrittenBlock(f"block-{block.number}", ranges, sum(one.count for one in ranges), 1)


def rows_of(block: WriteBlock) -> list[Position]:
    """Return the positions of all records of a block."""
    return [part.columns.position(row) for part in block.parts for row in range(part.columns.count)]


@dataclass
class Processor:
    """One session as a processor would hold it: numbers its batches and follows its own deliveries."""

    harness: Harness
    shard: str
    session: str
    rank: int
    after: After
    connection: int
    next_number: int = 1
    delivered: After = ""
    sent: dict[int, ReceivedBatch] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.delivered = self.delivered or self.after

    def hello(self, **changes: str | int) -> None:
        """Say Hello on the connection that `self.connection` names."""
        truth = Hello(APPLICATION, self.shard, self.session, self.rank, 1, str(self.after), self.next_number)
        said = msgspec.structs.replace(truth, **changes)
        self.harness.do(self.harness.core.hello(self.connection, said, self.harness.now))

    def reconnect(self, next_number: int | None = None) -> None:
        """Come back on another connection, with the first batch not known to be stored."""
        number = max(self.stored + 1, 1) if next_number is None else next_number
        self.connection = self.harness.connect()
        self.hello(next_number=number)

    def batch(self, *places: Place, whole: Place | None = -1, data_bytes: int = 10) -> ReceivedBatch:
        """Deliver the next batch."""
        batch = received(self.next_number, self.delivered, places, whole=whole, data_bytes=data_bytes)
        self.next_number += 1
        self.delivered = batch.last
        self.give(batch)
        return batch

    def arrived(self, number: int, arrival: float) -> None:
        """Deliver now, as the next batch, a record that arrived at a time of the service's clock, in seconds."""
        columns = columns_of([position(number)], arrival=round(arrival * 1000))
        at = round(self.harness.now * 1000)
        message = batch_message(columns, self.next_number, self.delivered, position(number), at)
        self.next_number += 1
        self.delivered = position(number)
        self.give(decode_batch(over_the_wire(message, columns)))

    def give(self, batch: ReceivedBatch) -> None:
        """Send a batch as it is."""
        self.sent[batch.message.number] = batch
        self.harness.do(self.harness.core.batch(self.connection, batch, self.harness.now))

    def flush(self) -> None:
        self.harness.do(self.harness.core.flush(self.connection, self.harness.now))

    def shard_end(self, last: After | None = None) -> None:
        end = str(self.delivered if last is None else last)
        self.harness.do(self.harness.core.shard_end(self.connection, end, self.harness.now))

    def leave(self) -> None:
        self.harness.do(self.harness.core.leave(self.connection, self.harness.now))

    def vanish(self) -> None:
        """The connection breaks."""
        self.harness.disconnect(self.connection)

    # What was heard

    @property
    def heard(self) -> list[Message]:
        return self.harness.sent[self.connection]

    def of(self, kind: type[Message]) -> list[Any]:
        return [message for message in self.heard if isinstance(message, kind)]

    @property
    def admitted(self) -> list[int]:
        return [message.number for message in self.of(Admitted)]

    @property
    def stored(self) -> int:
        """The last report, -1 before there is one."""
        return max((message.number for message in self.of(Stored)), default=-1)

    @property
    def welcome(self) -> Welcome | None:
        return next(iter(self.of(Welcome)), None)

    @property
    def draining(self) -> bool:
        return bool(self.of(Draining))

    @property
    def refused(self) -> Refused | None:
        return next(iter(self.of(Refused)), None)


class Harness:
    """The driver's place: the clock, the connections, and what was asked and not answered yet."""

    def __init__(self, seen: Measurement = UNMEASURED, **changes: Any) -> None:  # noqa: ANN401 - any setting
        self.settings = replace(GeneratorSettings(APPLICATION), **changes)
        self.now = START
        self.core = GeneratorCore(self.settings, self.now, random.Random(1))
        self.sent: dict[int, list[Message]] = defaultdict(list)
        self.connections: set[int] = set()
        self.closed: list[int] = []
        self.asked: list[Asked] = []
        self.told: list[PossiblyTrimmed] = []
        self.blocks: list[WriteBlock] = []
        self.entries: list[Any] = []
        self.stop: Stop | None = None
        self.processors: dict[str, Processor] = {}
        self.durable: dict[str, set[Position]] = defaultdict(set)
        self.ledger_is_due = False
        self.held: dict[str, list[Range]] = defaultdict(list)
        self._blocks_by_number: dict[int, WriteBlock] = {}
        self._last_connection = 0
        self.do(self.core.began("writer-1", seen, self.now))

    # Effects

    def do(self, effects: list[Effect]) -> None:
        for effect in effects:
            assert self.stop is None or isinstance(effect, Send | Close), f"{effect} comes after {self.stop}"
            if isinstance(effect, Send):
                assert effect.connection in self.connections, f"{effect} goes to a connection that is gone"
                assert effect.connection not in self.closed, f"{effect} goes to a connection that was hung up"
                if isinstance(effect.message, Stored):
                    self._check_stored(effect.connection, effect.message.number)
                self.sent[effect.connection].append(effect.message)
            elif isinstance(effect, Close):
                assert effect.connection not in self.closed, f"{effect} comes twice"
                self.closed.append(effect.connection)
            elif isinstance(effect, Stop):
                self.stop = effect
            elif isinstance(effect, PossiblyTrimmed):
                self.told.append(effect)
            else:
                self._ask(effect)

    def _ask(self, effect: Asked) -> None:
        if isinstance(effect, Append):
            assert effect.records or self.ledger_is_due
        if isinstance(effect, WriteBlock):
            assert effect.parts
            known = self._blocks_by_number.setdefault(effect.number, effect)
            assert known is effect, "the same number comes with other parts"
        for other in self.asked:
            if type(other) is type(effect):
                assert not isinstance(other, Append), "two appends at a time"
                assert getattr(other, "number", other) != getattr(effect, "number", effect), f"{effect} is asked twice"
        self.asked.append(effect)

    def _check_stored(self, connection: int, number: int) -> None:
        processor = next(one for one in self.processors.values() if one.connection == connection)
        for sent in processor.sent.values():
            if sent.message.number <= number:
                for row in range(sent.columns.count):
                    here = sent.columns.position(row)
                    held = any(one.first <= here <= one.last for one in self.held[processor.session])
                    assert held or here in self.durable[processor.shard], f"{here} was reported and is not durable"

    def take(self, kind: type[A]) -> A:
        """Return the oldest effect of this kind that waits for its answer, and wait for it no longer."""
        effect = next(one for one in self.asked if isinstance(one, kind))
        self.asked.remove(effect)
        return effect

    def waiting(self, kind: type[A]) -> list[A]:
        return [one for one in self.asked if isinstance(one, kind)]

    # Answers

    def look_up(self, answer: ShardFacts | ReceiverError | None = None) -> LookUp:
        effect = self.take(LookUp)
        if isinstance(answer, ReceiverError):
            self.do(self.core.look_up_failed(effect.session, answer, self.now))
        else:
            given = answer or facts()
            self.held[effect.session] = list(given.held)
            self.do(self.core.looked_up(effect.session, given, self.now))
        return effect

    def look_further(self, answer: MoreHeld | ReceiverError) -> LookFurther:
        effect = self.take(LookFurther)
        if isinstance(answer, ReceiverError):
            self.do(self.core.look_further_failed(effect.session, answer, self.now))
        else:
            self.held[effect.session] += answer.held
            self.do(self.core.looked_further(effect.session, answer, self.now))
        return effect

    def confirm(self, error: ReceiverError | None = None, seen: Measurement | None = None) -> ConfirmShardEnd:
        effect = self.take(ConfirmShardEnd)
        if error is None:
            self.do(self.core.shard_end_confirmed(effect.session, seen or measured(self.now), self.now))
        else:
            self.do(self.core.shard_end_failed(effect.session, error, self.now))
        return effect

    def measure(self, answer: Measurement | None = None) -> Measure:
        """Answer what the stream is asked of itself; None: it does not answer."""
        effect = self.take(Measure)
        self.do(self.core.measure_failed(self.now) if answer is None else self.core.measured(answer, self.now))
        return effect

    def write(self, number: int | None = None, error: ReceiverError | None = None) -> WriteBlock:
        """Answer a WriteBlock: the oldest, or the one of this number."""
        effect = next(one for one in self.waiting(WriteBlock) if number in (None, one.number))
        self.asked.remove(effect)
        if error is None:
            self.blocks.append(effect)
            self.do(self.core.block_written(effect.number, written(effect), self.now))
        else:
            self.do(self.core.block_failed(effect.number, error, self.now))
        return effect

    def append(self, error: ReceiverError | None = None) -> Append:
        effect = self.take(Append)
        if error is None:
            self.entries += effect.records
            for record in effect.records:
                if isinstance(record, BlockRecord):
                    self._now_durable(record)
            self.do(self.core.appended(self.now, ledger_is_due=self.ledger_is_due))
        else:
            self.do(self.core.append_failed(error, self.now))
        return effect

    def _now_durable(self, record: BlockRecord) -> None:
        assert any(one.number == record.number for one in self.blocks), "an entry for a block that was not written"
        for part in self._blocks_by_number[record.number].parts:
            self.durable[part.range.shard] |= {part.columns.position(row) for row in range(part.columns.count)}

    def store(self) -> None:
        """Answer writes and appends until nothing is asked of the store any more."""
        while self.stop is None:
            if self.waiting(WriteBlock):
                self.write()
            elif self.waiting(Append):
                self.append()
            else:
                return

    def block_rows(self) -> list[list[Position]]:
        """Return the positions in each block that was written, in the order of writing."""
        return [rows_of(block) for block in self.blocks]

    def block_entries(self) -> list[int]:
        return [entry.number for entry in self.entries if isinstance(entry, BlockRecord)]

    def session_entries(self) -> list[str]:
        return [entry.session for entry in self.entries if isinstance(entry, SessionRecord)]

    def shard_end_entries(self) -> list[ShardEndRecord]:
        return [entry for entry in self.entries if isinstance(entry, ShardEndRecord)]

    # Connections and time

    def connect(self, pid: int = 1) -> int:
        self._last_connection += 1
        self.connections.add(self._last_connection)
        self.do(self.core.connected(self._last_connection, pid, self.now))
        return self._last_connection

    def disconnect(self, connection: int) -> None:
        self.connections.discard(connection)
        self.do(self.core.disconnected(connection, self.now))

    def processor(
        self, shard: str = "shard-0", session: str = "", rank: int = 1, after: After = "TRIM_HORIZON", number: int = 1
    ) -> Processor:
        """Return a processor that is connected and has not said Hello."""
        name = session or f"{shard}.{rank}"
        made = Processor(self, shard, name, rank, after, self.connect(), number)
        self.processors[name] = made
        return made

    def open(
        self,
        shard: str = "shard-0",
        session: str = "",
        rank: int = 1,
        after: After = "TRIM_HORIZON",
        number: int = 1,
        known: ShardFacts | None = None,
    ) -> Processor:
        """Return a processor whose session is open."""
        made = self.processor(shard, session, rank, after, number)
        made.hello()
        self.look_up(known)
        self.store()
        assert made.welcome is not None
        return made

    def advance(self, seconds: float) -> None:
        """Let time pass, then tick once."""
        self.now += seconds
        self.tick()

    @property
    def nothing_is_due(self) -> bool:
        """Whether nothing is to be done at any time, but to ask the stream for its clock now and then."""
        return self.core.deadline() in (None, self.core._marks.due())

    def tick(self) -> None:
        self.do(self.core.tick(self.now))

    def cut(self) -> None:
        """Let the block interval pass."""
        self.advance(self.settings.block_interval)

    def to_deadline(self) -> None:
        """Let time pass until something is due, and tick."""
        due = self.core.deadline()
        assert due is not None
        self.now = max(self.now, due)
        self.tick()

    def drain(self) -> None:
        self.do(self.core.drain(self.now))
