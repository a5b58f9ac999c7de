"""Ledgers that several writers append to at once: the order in which a walk yields their lines, and how it resumes."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from places import kept_ledger
from store_support import NOW, SHARD, STREAM, session_at

from kcl_receiver.errors import LedgerDamaged
from kcl_receiver.ids import block_id, day_of, writer_id
from kcl_receiver.store.ledger.entries import (
    Acknowledged,
    BlockStored,
    Closed,
    Entry,
    Expired,
    Living,
    Seen,
    SessionStarted,
    StoreState,
    WriterStarted,
    decode_ledger,
)
from kcl_receiver.store.ledger.merging import merge_left_over
from kcl_receiver.store.ledger.place import Place
from kcl_receiver.store.ledger.store_log import StoreLog
from kcl_receiver.store.ledger.tailing import DayBegan, LedgerWalk
from kcl_receiver.store.ledger.transaction import Transaction
from kcl_receiver.store.ledger.writer import LedgerWriter
from kcl_receiver.store.memory import MemoryObjects
from kcl_receiver.store.store import Store

Line = tuple[str, int]
"""Writer and number."""
SIX_HOURS = 6 * 3_600_000


@dataclass
class Host:
    """A host of the fleet: `writer` is None before it has begun, and once it has died."""

    name: str
    writer: LedgerWriter | None = None
    was_alone: bool = False
    steps: Iterator[None] = field(default_factory=lambda: iter(()))
    blocks: int = 0


class Fleet:
    """Hosts that store into one place, step by step: what they do takes several steps, and those of others lie between.

    Attributes:
        entries: All lines of all ledgers.
    """

    def __init__(self, hosts: int, rng: random.Random) -> None:
        self.store = Store(MemoryObjects())
        self.rng = rng
        self.entries: dict[Line, Entry] = {}
        self.hosts = [Host(f"host-{number}") for number in range(hosts)]
        self._log = StoreLog(self.store)
        self._begun = itertools.count()

    @property
    def state(self) -> StoreState:
        return self._log.newest().state

    def lines(self, writer: str) -> int:
        return (self.store.ledger(writer) or b"").count(b"\n")

    def append(self, ledger: LedgerWriter, *entries: Entry) -> None:
        ledger.append(entries)
        first = ledger.tail.number - len(entries) + 1
        self.entries |= {(ledger.writer, number): entry for number, entry in enumerate(entries, first)}

    def step(self) -> None:
        """Let one host do something."""
        host = self.rng.choice(self.hosts)
        if next(host.steps, host) is None:
            return
        chance = self.rng.random()
        if host.writer is None or chance < 0.1:
            host.steps = self.begin(host)
        elif chance < 0.4:
            host.steps = self.session(host)
        elif chance < 0.45:
            self.die(host)
        elif chance < 0.5 and host.blocks:
            self.expire(block_id(host.writer.writer, host.blocks))
        elif chance < 0.6:
            merge_left_over(self.store)
        else:
            self.block(host)

    def begin(self, host: Host) -> Iterator[None]:
        """Begin a ledger, and close the one before."""
        closed = {writer for writer, one in self.state.living.items() if one.host == host.name}
        for writer in closed:
            self.close(writer, writer if host.writer is not None else f"by {host.name}")
            yield
        host.writer, host.blocks = None, 0
        self.change(closed, host)
        yield
        if host.writer is not None:
            host.was_alone = len(self.state.living) == 1
            beside = tuple(writer for writer in self.state.living if writer != host.writer.writer)
            self.append(host.writer, WriterStarted(host.writer.writer, host.name, 1, NOW, "0", beside=beside))

    def change(self, closed: set[str], host: Host | None = None) -> None:
        def changed(state: StoreState) -> StoreState:
            living = {writer: one for writer, one in state.living.items() if writer not in closed}
            last = state.last
            if host is not None:
                last = max(began, writer_id(NOW + SIX_HOURS * number // 4, f"{number:08x}"))
                living[last] = Living(host.name, 1, "0", NOW)
                host.writer = LedgerWriter(self.store, last)
            for other in self.hosts:
                other.was_alone &= host is None or other is host
            return StoreState(by=last, living=living, kept=tuple(sorted({*state.kept, *closed})), last=last)

        number, began = next(self._begun), ""
        self._log.change(changed)

    def close(self, writer: str, by: str) -> None:
        ledger = decode_ledger(writer, self.store.ledger(writer) or b"")
        if not ledger.is_closed:
            self.append(LedgerWriter(self.store, writer, ledger.tail), Closed(NOW, by))

    def session(self, host: Host) -> Iterator[None]:
        """Look at what others have, one after the other, and begin a session."""
        ledger = host.writer
        assert ledger is not None
        state, lines = self.state, dict[str, int]()
        for writer in sorted(state.living, key=lambda _: self.rng.random()):
            yield
            if writer != ledger.writer:
                lines[writer] = self.lines(writer)
        seen = None if host.was_alone else Seen(state.last, lines)
        self.append(ledger, SessionStarted("s", SHARD, "TRIM_HORIZON", 1, STREAM, (), None, 24, NOW, seen=seen))

    def block(self, host: Host) -> None:
        assert host.writer is not None
        made = []
        for _ in range(self.rng.choice((1, 1, 3))):
            host.blocks += 1
            made.append(BlockStored(block_id(host.writer.writer, host.blocks), STREAM, (), 0, 0, NOW))
        self.append(host.writer, *made)

    def die(self, host: Host) -> None:
        """End without a word; later another host closes the ledger."""
        assert host.writer is not None
        writer, host.writer = host.writer.writer, None
        if self.rng.random() < 0.5:
            host.steps = self.closed_by_another(writer)

    def closed_by_another(self, writer: str) -> Iterator[None]:
        for _ in range(4):
            yield
        self.close(writer, "a neighbour")
        yield
        self.change({writer})

    def expire(self, block: str) -> None:
        change = Transaction(self.store, block, "expire", NOW)
        change.add_expired(Expired(NOW, NOW, (block,)))
        change.commit()


def settled(seed: int, steps: int, do: Callable[[Fleet], None] = lambda _: None) -> Fleet:
    """Return a fleet that has done something."""
    rng = random.Random(seed)
    fleet = Fleet(rng.randint(2, 3), rng)
    for _ in range(steps):
        fleet.step()
        do(fleet)
    return fleet


class Order:
    """Takes lines in as they are yielded, and holds them against what must come before each."""

    def __init__(self, fleet: Fleet, passed: dict[str, int] | None = None) -> None:
        self.fleet = fleet
        self.read = dict(passed or {})
        self.found: list[Line] = []

    def take(self, entry: Entry, writer: str) -> None:
        number = self.read.get(writer, 0) + 1
        assert self.fleet.entries[writer, number] == entry, "the lines of a ledger come in their order, and once"
        self.read[writer] = number
        self.found.append((writer, number))
        if isinstance(entry, SessionStarted):
            seen = entry.seen or Seen(writer)  # all before it were closed
            for other, line in self.fleet.entries:
                if other > seen.last or other == writer:
                    continue
                if line <= seen.lines.get(other, line):
                    assert line <= self.read.get(other, 0), f"{other} {line} was seen by {writer} {number}"


def positions(place: Place, lines: dict[str, int]) -> dict[str, int]:
    """Return how many lines of each ledger lie before a place, of all lines that there are."""
    return {writer: place.lines.get(writer, count if writer <= place.last else 0) for writer, count in lines.items()}


def by_text(place: Place | None) -> Place | None:
    """Return a place as a token gives it back."""
    return None if place is None else Place.from_json(json.loads(json.dumps(place.to_json())))


@pytest.mark.parametrize("seed", range(150))
def test_whenever_it_polls_each_line_comes_once_and_after_what_was_seen_before_it(seed: int) -> None:
    """The hosts store between any two lines, and the walk begins anew at its place anywhere."""
    rng = random.Random(seed)
    fleet = Fleet(rng.randint(2, 3), rng)
    walk, order = LedgerWalk(fleet.store), Order(fleet)
    for _ in range(rng.randint(1, 12)):
        for _ in range(rng.randint(0, 25)):
            fleet.step()
        for _, entry in walk.poll():
            after = walk.after
            if not isinstance(entry, DayBegan):
                order.take(entry, walk.writer)
            if rng.random() < 0.5:
                fleet.step()
            if rng.random() < 0.05:
                walk = LedgerWalk(fleet.store, by_text(walk.place if isinstance(entry, DayBegan) else after))
                break
        else:
            if rng.random() < 0.2:
                walk = LedgerWalk(fleet.store, by_text(walk.place))
    for _, entry in walk.poll():
        if not isinstance(entry, DayBegan):
            order.take(entry, walk.writer)
    assert sorted(order.found) == sorted(fleet.entries)
    assert list(walk.poll()) == []
    assert walk.place is None or {*walk.place.lines} == {*fleet.state.living}


@pytest.mark.parametrize("seed", range(25))
def test_a_place_at_any_line_leaves_out_what_came_before_and_nothing_else(seed: int) -> None:
    fleet = settled(seed, 90)
    lines = {writer: fleet.lines(writer) for writer in {*fleet.state.living, *fleet.store.writers()}}
    walk, order = LedgerWalk(fleet.store), Order(fleet)
    places: list[tuple[Place, dict[str, int]]] = []
    for place, entry in walk.poll():
        places.append((place, dict(order.read)))
        if not isinstance(entry, DayBegan):
            order.take(entry, walk.writer)
            places.append((walk.after, dict(order.read)))
    assert walk.place is not None
    places.append((walk.place, dict(order.read)))
    for place, read in places:
        passed = positions(place, lines)
        assert {writer: count for writer, count in passed.items() if count} == read
        following, rest = LedgerWalk(fleet.store, by_text(place)), Order(fleet, passed)
        for _, entry in following.poll():
            if not isinstance(entry, DayBegan):
                rest.take(entry, following.writer)
        assert {writer: count for writer, count in rest.read.items() if count} == order.read


@pytest.mark.parametrize("seed", range(25))
def test_what_maintenance_did_on_a_day_comes_before_the_ledgers_of_that_day(seed: int) -> None:
    fleet = settled(seed, 90)
    began: set[str] = set()
    walk = LedgerWalk(fleet.store)
    for _, entry in walk.poll():
        if isinstance(entry, DayBegan):
            began.add(entry.day)
        else:
            assert day_of(walk.writer) in began or day_of(walk.writer) not in fleet.store.maintenance_days()
    assert began == {*fleet.store.maintenance_days()}


def test_the_order_of_ids_is_not_always_the_order_that_comes() -> None:
    """Else the tests above would say nothing of what sessions had seen."""
    fleets = [settled(seed, 90) for seed in range(25)]
    walks = [LedgerWalk(fleet.store) for fleet in fleets]
    writers = [[walk.writer for _, _ in walk.poll()] for walk in walks]
    assert sum(list(one) != sorted(one) for one in writers) > 12


# One case each


class Pair(Fleet):
    """Two hosts that have begun; the ledger of the first one sorts first."""

    def __init__(self) -> None:
        super().__init__(2, random.Random(0))
        for host in self.hosts:
            list(self.begin(host))
        self.first, self.second = (host.writer for host in self.hosts if host.writer is not None)

    def begin_next(self) -> LedgerWriter:
        """Let the first host go on in its next ledger."""
        list(self.begin(self.hosts[0]))
        assert self.hosts[0].writer is not None
        return self.hosts[0].writer

    def add(self, ledger: LedgerWriter, *sessions: str, seen: Seen | None = None) -> None:
        for session in sessions:
            self.append(ledger, SessionStarted(session, SHARD, "LATEST", 1, STREAM, (), None, 24, NOW, seen=seen))

    def seen(self, **lines: int) -> Seen:
        return Seen(self.state.last, {getattr(self, name).writer: line for name, line in lines.items()})


def acknowledge(store: Store, writer: str, line: int) -> None:
    """Record that lines are lost, as `repair` does."""
    change = Transaction(store, block_id(writer, 1), "repair", NOW)
    change.add_acknowledged(Acknowledged(NOW, writer, line, "gone"))
    change.commit()


def sessions(walk: LedgerWalk) -> Iterator[str]:
    return (entry.session for _, entry in walk.poll() if isinstance(entry, SessionStarted))


def test_a_thousand_writers_that_each_saw_the_next_are_read_from_the_last_to_the_first() -> None:
    store = Store(MemoryObjects())
    writers = [writer_id(NOW + 1000 * number, f"{number:08x}") for number in range(1000)]
    living = {writer: Living("host", 1, "0", NOW) for writer in writers}
    StoreLog(store).change(lambda _: StoreState(living=living, last=writers[-1]))
    for number, writer in enumerate(writers):
        saw = {one: int(one > writer) for one in writers[: number + 2]}
        seen = None if writer == writers[-1] else Seen(writers[number + 1], saw)
        LedgerWriter(store, writer).append(
            [SessionStarted(str(number), SHARD, "LATEST", 1, STREAM, (), None, 24, NOW, seen=seen)]
        )
    assert list(sessions(LedgerWalk(store))) == [str(number) for number in reversed(range(1000))]


def test_a_session_waits_for_what_it_had_seen_of_a_ledger_that_sorts_behind_its_own() -> None:
    pair = Pair()
    pair.add(pair.second, "before", "seen")
    pair.add(pair.first, "after", seen=pair.seen(second=3))
    pair.add(pair.first, "then")
    pair.add(pair.second, "unseen")
    assert list(sessions(LedgerWalk(pair.store))) == ["before", "seen", "after", "then", "unseen"]


def test_a_ledger_that_has_grown_since_it_was_read_is_read_again() -> None:
    pair = Pair()
    found = sessions(LedgerWalk(pair.store))
    pair.add(pair.first, "one")
    pair.add(pair.second, "two")
    assert next(found) == "one"
    pair.add(pair.first, "three")
    pair.add(pair.second, "four", seen=pair.seen(first=3))
    assert list(found) == ["two", "three", "four"]


def test_a_writer_that_began_after_the_log_was_read_is_read_as_far_as_a_session_had_seen_it() -> None:
    pair = Pair()
    walk = LedgerWalk(pair.store)
    found = sessions(walk)
    pair.add(pair.first, "one")
    assert next(found) == "one"
    third = pair.begin_next()
    pair.add(third, "three", "unseen")
    pair.add(pair.second, "two", seen=Seen(third.writer, {third.writer: 2}))
    assert list(found) == ["three", "two"]
    assert walk.place is not None
    assert walk.place.lines == {pair.first.writer: 3, pair.second.writer: 2, third.writer: 2}
    assert list(sessions(walk)) == ["unseen"]
    assert walk.place.lines == {pair.second.writer: 2, third.writer: 3}


def test_a_writer_that_began_after_the_log_was_read_may_go_on_though_a_line_of_it_is_lost() -> None:
    pair = Pair()
    walk = LedgerWalk(pair.store)
    found = sessions(walk)
    pair.add(pair.first, "one")
    assert next(found) == "one"
    third = pair.begin_next()
    pair.add(pair.second, "two", seen=Seen(third.writer, {third.writer: 2}))
    acknowledge(pair.store, third.writer, 2)
    assert list(found) == ["two"]
    pair.add(third, "later")
    assert list(sessions(walk)) == ["later"]


def test_a_ledger_that_was_closed_when_a_session_began_is_read_to_its_end_before() -> None:
    pair = Pair()
    found = sessions(LedgerWalk(pair.store))
    pair.add(pair.first, "one")
    assert next(found) == "one"
    pair.add(pair.first, "last")
    list(pair.begin(pair.hosts[0]))
    pair.add(pair.second, "two", seen=Seen(pair.state.last, {pair.state.last: 1}))
    assert list(found) == ["last", "two"]


def test_a_line_that_a_session_had_seen_is_missed_unless_its_loss_is_known() -> None:
    pair = Pair()
    pair.add(pair.second, "one", "two")
    pair.add(pair.first, "after", seen=pair.seen(second=3))
    kept = kept_ledger(pair.store, pair.second.writer)
    kept.write(b"".join(kept.read().splitlines(keepends=True)[:2]))
    found = sessions(LedgerWalk(pair.store))
    assert next(found) == "one"
    with pytest.raises(LedgerDamaged, match=f"line 3 of the ledger of writer {pair.second.writer}, which"):
        next(found)
    acknowledge(pair.store, pair.second.writer, 3)
    assert list(sessions(LedgerWalk(pair.store))) == ["one", "after"]


def test_a_line_is_missed_of_a_ledger_that_was_closed_too() -> None:
    pair = Pair()
    list(pair.begin(pair.hosts[0]))
    pair.add(pair.second, "after", seen=pair.seen(first=4))
    with pytest.raises(LedgerDamaged, match="line 3 of"):
        list(sessions(LedgerWalk(pair.store)))


def test_a_ledger_that_a_session_took_for_closed_and_that_is_not_is_damaged() -> None:
    pair = Pair()
    pair.add(pair.first, "after", seen=pair.seen())
    with pytest.raises(LedgerDamaged, match=f"line 2 of the ledger of writer {pair.second.writer}"):
        list(sessions(LedgerWalk(pair.store)))


def test_sessions_that_had_seen_each_other_are_damage() -> None:
    pair = Pair()
    pair.add(pair.first, "one", seen=pair.seen(second=2))
    pair.add(pair.second, "two", seen=pair.seen(first=2))
    with pytest.raises(LedgerDamaged, match="say of each other"):
        list(sessions(LedgerWalk(pair.store)))


def test_a_place_keeps_the_ledgers_that_may_grow_and_no_others() -> None:
    pair = Pair()
    for _ in range(20):
        list(pair.begin(pair.hosts[0]))
    first = pair.hosts[0].writer
    assert first is not None
    walk = LedgerWalk(pair.store)
    list(walk.poll())
    assert walk.place == Place(first.writer, {pair.second.writer: 1, first.writer: 1}, day_of(first.writer))
    assert LedgerWalk(pair.store, walk.place).place == walk.place


def test_without_a_log_a_place_keeps_the_ledgers_that_are_not_closed() -> None:
    pair = Pair()
    pair.add(pair.second, "seen")
    pair.add(pair.first, "after", seen=pair.seen(second=2))
    for _ in range(3):
        list(pair.begin(pair.hosts[0]))
    first = pair.hosts[0].writer
    assert first is not None
    pair.store.objects.delete([one.key for one in pair.store.objects.list("log/")])
    walk = LedgerWalk(pair.store)
    assert list(sessions(walk)) == ["seen", "after"]
    assert walk.place is not None
    assert walk.place.lines == {pair.second.writer: 2, first.writer: 1}
    pair.add(first, "more")
    assert list(sessions(walk)) == ["more"]


def test_sessions_that_had_seen_nothing_are_written_as_ever() -> None:
    """A directory has one generator at a time, and its ledgers are to stay what they are."""
    pair = Pair()
    pair.append(pair.first, session_at())
    assert b"seen" not in (pair.store.ledger(pair.first.writer) or b"")
