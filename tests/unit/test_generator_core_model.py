"""Any order of events, against processors that behave and shards whose records are 1, 2, 3 and so on.

Generators stop and are killed as well, and others take their place and find what the ledger says. What must hold after
every event: what a processor may checkpoint is durable to the last record; nothing is stored twice; a batch is wholly
in one block; windows, builder and blocks on their way keep their bounds; and a tick at the deadline moves the deadline,
or the driver would spin. At the end everything is let succeed, and all that living processors delivered must be
reported.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import Any

from generator_harness import Harness, Processor, facts, measured, received
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kcl_receiver.errors import LedgerDamaged, StoreUnavailable, StreamGone, StreamUnavailable
from kcl_receiver.generator.builder import AdmittedPart
from kcl_receiver.generator.effects import (
    Append,
    BlockRecord,
    ConfirmShardEnd,
    LookFurther,
    LookUp,
    Measure,
    MoreHeld,
    WriteBlock,
)
from kcl_receiver.ranges import Position, Range
from kcl_receiver.wire.frames import ReceivedBatch
from kcl_receiver.wire.messages import Admitted, Draining, Refused, Stored, Welcome

SHARDS = ("shard-0", "shard-1")
BATCH = received(1, "TRIM_HORIZON", [100, 101]).columns.memory
WINDOW = 5 * BATCH
BLOCK = 2 * BATCH
IN_FLIGHT = 2

nearby = st.sampled_from([0, 1, 2])
"""Which of what waits is answered, or which processor acts."""
seldom = st.sampled_from([False] * 6 + [True])
"""Keeps what ends something from ending everything: most of a run is records on their way."""


@dataclass
class Client:
    """A processor that keeps what is not stored, sends one batch at a time, and sends again after reconnecting."""

    processor: Processor
    last: int
    kept: dict[int, ReceivedBatch] = field(default_factory=dict)
    to_send: int = 1
    awaiting: int | None = None
    open: bool = False
    draining: bool = False
    connected: bool = True
    ended: bool = False
    over: str = ""
    seen: int = 0
    safe: int = 0

    @property
    def next_number(self) -> int:
        return self.processor.next_number

    def hear(self) -> None:
        """Take what came since the last time."""
        heard = self.processor.heard
        for message in heard[self.seen :]:
            self.seen += 1
            if isinstance(message, Welcome):
                assert not self.open
                assert min(self.kept, default=self.next_number) <= message.next_number <= self.next_number
                self.open = True
                self.to_send = message.next_number
            elif isinstance(message, Refused):
                self.over = message.error
            elif isinstance(message, Admitted):
                assert message.number == self.awaiting
                self.awaiting = None
            elif isinstance(message, Draining):
                self.draining = True
                if self.awaiting is not None:
                    self.to_send = self.awaiting
                    self.awaiting = None
            elif isinstance(message, Stored):
                assert message.number < (self.awaiting or self.next_number)
                self.to_send = max(self.to_send, message.number + 1)
                for number in [one for one in self.kept if one <= message.number]:
                    self.safe = max(self.safe, self.kept.pop(number).last.sequence_number)

    def may_send(self) -> bool:
        return self.open and not (self.over or self.draining or self.ended) and self.awaiting is None


def batch_of(part: AdmittedPart) -> tuple[str, int]:
    return part.session.id, part.number


class Generator(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.h = Harness()
        self.idle = False
        self.clients: list[Client] = []
        self.rank = 0
        self.safe: dict[str, int] = defaultdict(int)
        self.stored: dict[str, Counter[int]] = defaultdict(Counter)
        self.ranges: dict[str, list[Range]] = defaultdict(list)
        self.entries_seen = 0
        self.block_of: dict[tuple[str, int], int] = {}

    @initialize(idle=st.booleans())
    def begin(self, idle: bool) -> None:
        self.idle = idle
        self.start()
        for shard in SHARDS:
            self.new_session(shard, 0, truly=True)
            self.look_up("well")
            self.append(well=True)

    def start(self) -> None:
        self.h = Harness(
            window_bytes=WINDOW,
            block_max_bytes=BLOCK,
            max_in_flight=IN_FLIGHT,
            store_timeout=20.0,
            drain=5.3,
            idle_exit=30.1 if self.idle else None,
        )

    # ------------------------------------------------------------------ processors

    def alive(self) -> bool:
        return self.h.stop is None

    def pick(self, clients: list[Client], which: int) -> Client | None:
        return clients[-1 - which % len(clients)] if clients else None

    @precondition(alive)
    @rule(shard=st.sampled_from(SHARDS), back=st.integers(0, 9), truly=st.sampled_from([False, False, True]))
    def new_session(self, shard: str, back: int, *, truly: bool) -> None:
        """The lease is here anew; its checkpoint may be older than what is stored."""
        if not truly:
            return
        self.rank += 1
        start = max(0, self.safe[shard] - back)
        processor = self.h.processor(shard, rank=self.rank, after=Position(start) if start else "TRIM_HORIZON")
        self.clients.append(Client(processor, start, safe=start))
        processor.hello()

    @precondition(alive)
    @rule(which=nearby, sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4))
    def deliver(self, which: int, sizes: list[int]) -> None:
        """KCL delivers, or what is kept is sent again, until something must wait."""
        client = self.pick([one for one in self.clients if one.may_send()], which)
        for records in sizes:
            if client is not None and client.may_send():
                self.send(client, records)

    def send(self, client: Client, records: int) -> None:
        if client.to_send < client.next_number:
            batch = client.kept[client.to_send]
        else:
            places = list(range(client.last + 1, client.last + 1 + records))
            batch = received(client.next_number, client.processor.delivered, places)
            client.kept[client.next_number] = batch
            client.last = places[-1]
            client.processor.next_number += 1
            client.processor.delivered = batch.last
        client.awaiting = client.to_send
        client.to_send += 1
        client.processor.give(batch)
        client.hear()

    @precondition(alive)
    @rule(which=nearby)
    def flush(self, which: int) -> None:
        client = self.pick([one for one in self.clients if one.may_send()], which)
        if client is not None:
            client.processor.flush()

    @precondition(alive)
    @rule(which=nearby, truly=seldom)
    def shard_end(self, which: int, *, truly: bool) -> None:
        client = self.pick([one for one in self.clients if one.may_send() and not one.kept], which)
        if client is not None and truly:
            client.ended = True
            client.processor.shard_end()

    @precondition(alive)
    @rule(which=nearby, truly=seldom)
    def vanish(self, which: int, *, truly: bool) -> None:
        client = self.pick([one for one in self.clients if one.connected], which)
        if client is not None and truly:
            client.connected = client.open = False
            client.processor.vanish()

    @precondition(alive)
    @rule(which=nearby, truly=seldom)
    def leave(self, which: int, *, truly: bool) -> None:
        client = self.pick([one for one in self.clients if one.connected and not one.over], which)
        if client is not None and truly:
            client.over = "left"
            client.processor.leave()

    @precondition(alive)
    @rule(which=nearby)
    def come_back(self, which: int) -> None:
        """An old process may come back as well as one that lives: then it must be refused."""
        client = self.pick([one for one in self.clients if not one.connected and one.over in ("", "Fenced")], which)
        if client is not None:
            self.reconnect(client)

    def reconnect(self, client: Client) -> None:
        client.connected, client.open, client.draining, client.awaiting, client.seen = True, False, False, None, 0
        client.processor.reconnect(min(client.kept, default=client.next_number))

    @precondition(alive)
    @rule(watch=st.booleans())
    def someone_else_connects(self, watch: bool) -> None:
        connection = self.h.connect()
        if watch:
            self.h.core.watched(connection)
            self.h.disconnect(connection)

    @rule(truly=seldom, unknown=st.booleans())
    def another_generator(self, *, truly: bool, unknown: bool) -> None:
        """The generator has stopped, or is killed; what it appended last may be durable although it never knew."""
        if self.alive() and not truly:
            return
        appends = self.h.waiting(Append)
        if appends and unknown:
            self.h.entries += appends[0].records
        self.what_may_be_checkpointed_is_durable_and_nothing_is_stored_twice()
        self.start()
        self.entries_seen = 0
        self.block_of.clear()
        for client in self.clients:
            client.connected = client.open = False
            client.processor.connection = client.seen = 0
            client.processor.harness = self.h
            self.h.processors[client.processor.session] = client.processor

    # ------------------------------------------------------------------ answers

    @precondition(lambda self: self.alive() and self.h.waiting(LookUp))
    @rule(outcome=st.sampled_from(["well"] * 6 + ["later", "never"]))
    def look_up(self, outcome: str) -> None:
        effect = self.h.waiting(LookUp)[0]
        if outcome == "well":
            after = effect.after if isinstance(effect.after, Position) else Position(0)
            held = sorted((one for one in self.ranges[effect.shard] if one.last > after), key=lambda one: one.first)
            self.h.look_up(replace(facts(*held[:2]), **_rest(held)))
            self.h.held[effect.session] = held  # all of it is durable, and may have been reported before
        else:
            self.h.look_up(StreamUnavailable("throttled") if outcome == "later" else StreamGone("deleted"))

    @precondition(lambda self: self.alive() and self.h.waiting(LookFurther))
    @rule(outcome=st.sampled_from(["well"] * 6 + ["later", "never"]))
    def look_further(self, outcome: str) -> None:
        if outcome == "well":
            held = self.h.waiting(LookFurther)[0].more
            assert isinstance(held, list)
            self.h.look_further(MoreHeld(tuple(held[:2]), **_rest(held)))
        else:
            self.h.look_further(StoreUnavailable("slow") if outcome == "later" else LedgerDamaged("altered"))

    @precondition(lambda self: self.alive() and self.h.waiting(WriteBlock))
    @rule(which=nearby, well=st.sampled_from([True, True, False]))
    def write(self, which: int, well: bool) -> None:
        waiting = self.h.waiting(WriteBlock)
        self.h.write(waiting[which % len(waiting)].number, None if well else StoreUnavailable("disk full"))

    @precondition(alive)
    @rule()
    def the_store_catches_up(self) -> None:
        self.h.store()

    @precondition(alive)
    @rule()
    def all_goes_well_for_a_while(self) -> None:
        while self.alive() and self.h.asked:
            self.answer_well()

    @precondition(lambda self: self.alive() and self.h.waiting(Append))
    @rule(well=st.sampled_from([True, True, False]))
    def append(self, well: bool) -> None:
        self.h.append(None if well else StoreUnavailable("disk full"))

    @precondition(lambda self: self.alive() and self.h.waiting(ConfirmShardEnd))
    @rule(outcome=st.sampled_from(["well", "later", "never"]))
    def confirm(self, outcome: str) -> None:
        errors = {"well": None, "later": StreamUnavailable("throttled"), "never": StreamGone("deleted")}
        self.h.confirm(errors[outcome])

    @precondition(lambda self: self.alive() and self.h.waiting(Measure))
    @rule(well=st.booleans())
    def measure(self, *, well: bool) -> None:
        self.h.measure(measured(self.h.now) if well else None)

    # ------------------------------------------------------------------ time

    @precondition(alive)
    @rule(seconds=st.sampled_from([0.0, 0.01, 0.3, 1.0, 4.7]))
    def time_passes(self, seconds: float) -> None:
        self.h.advance(seconds)

    @precondition(lambda self: self.alive() and self.h.core.deadline() is not None)
    @rule()
    def something_is_due(self) -> None:
        self.h.to_deadline()

    @precondition(alive)
    @rule(truly=seldom)
    def drain(self, *, truly: bool) -> None:
        if truly:
            self.h.drain()

    # ------------------------------------------------------------------ what must hold

    def building(self) -> list[AdmittedPart]:
        return self.h.core._pipeline._builder._parts

    def flying(self) -> dict[int, tuple[AdmittedPart, ...]]:
        return {number: block.parts for number, block in self.h.core._pipeline._in_flight.items()}

    @invariant()
    def connections_that_were_hung_up_are_gone(self) -> None:
        for connection in set(self.h.closed) & self.h.connections:
            for client in self.clients:
                if client.processor.connection == connection:
                    client.hear()
                    client.connected = client.open = False
            self.h.disconnect(connection)

    @invariant()
    def what_may_be_checkpointed_is_durable_and_nothing_is_stored_twice(self) -> None:
        for entry in self.h.entries[self.entries_seen :]:
            if isinstance(entry, BlockRecord):
                for told in entry.written.ranges:
                    self.ranges[told.shard].append(told)
                    rows = range(told.first.sequence_number, told.last.sequence_number + 1)
                    self.stored[told.shard].update(rows)
                    assert len(rows) == told.count
        self.entries_seen = len(self.h.entries)
        for client in self.clients:
            client.hear()
            shard = client.processor.shard
            self.safe[shard] = max(self.safe[shard], client.safe)
        for shard, through in self.safe.items():
            assert all(self.stored[shard][one] == 1 for one in range(1, through + 1))
        assert all(times == 1 for stored in self.stored.values() for times in stored.values())

    @invariant()
    def bounds_are_kept(self) -> None:
        building = self.building()
        flying = [part for parts in self.flying().values() for part in parts]
        size = sum(part.part.columns.memory for part in building)
        assert len(self.flying()) <= IN_FLIGHT
        assert self.h.core.status(self.h.now).building_bytes == size
        assert size <= BLOCK or len({batch_of(part) for part in building}) == 1
        for shard in SHARDS:
            parts = [part for part in [*building, *flying] if part.part.range.shard == shard]
            taken = sum(part.part.columns.memory for part in parts)
            assert taken <= WINDOW or len({batch_of(part) for part in parts}) == 1

    @invariant()
    def a_batch_is_wholly_in_one_block(self) -> None:
        for number, parts in self.flying().items():
            for part in parts:
                assert self.block_of.setdefault(batch_of(part), number) == number
        assert not {batch_of(part) for part in self.building()} & set(self.block_of)

    @invariant()
    def what_is_due_is_done_by_a_tick(self) -> None:
        due = self.h.core.deadline()
        if due is not None and due <= self.h.now:
            self.h.tick()
            after = self.h.core.deadline()
            assert after is None or after > self.h.now

    @invariant()
    def it_leaves_only_when_nothing_is_left_to_do(self) -> None:
        if self.h.stop is not None and self.h.stop.error is None:
            assert not self.building()
            assert not self.h.waiting(WriteBlock)
            assert not self.h.waiting(Append)

    def teardown(self) -> None:
        """Let everything succeed."""
        h = self.h
        if h.stop is not None or any(client.draining for client in self.clients):
            return
        h.core._settings = replace(h.settings, idle_exit=None)  # nobody leaves before all is done
        youngest = {client.processor.shard: client for client in self.clients}
        living = [client for client in youngest.values() if client.over == ""]
        for _ in range(500):
            self.connections_that_were_hung_up_are_gone()
            self.what_may_be_checkpointed_is_durable_and_nothing_is_stored_twice()
            self.bounds_are_kept()
            living = [client for client in living if client.over == ""]
            if not any(client.kept or (client.connected and not client.open) for client in living):
                return
            for client in living:
                if not client.connected:
                    self.reconnect(client)
                elif client.may_send() and client.to_send < client.next_number:
                    self.send(client, 1)
            while h.stop is None and h.asked:
                self.answer_well()
            if h.stop is None and h.core.deadline() is not None:
                h.to_deadline()
            if h.stop is not None:
                return
        raise AssertionError("not everything could be stored")

    def answer_well(self) -> None:
        if self.h.waiting(LookUp):
            self.what_may_be_checkpointed_is_durable_and_nothing_is_stored_twice()
            self.look_up("well")
        elif self.h.waiting(LookFurther):
            self.look_further("well")
        elif self.h.waiting(ConfirmShardEnd):
            self.h.confirm()
        elif self.h.waiting(Measure):
            self.h.measure(measured(self.h.now))
        else:
            self.h.store()


def _rest(held: list[Range]) -> dict[str, Any]:
    """Return what an answer says of the ranges that it leaves out: it holds two."""
    return {"known_to": held[2].first if held[2:] else None, "more": held[2:] or None}


TestGenerator = Generator.TestCase
TestGenerator.settings = settings(max_examples=250, stateful_step_count=80, deadline=None)
