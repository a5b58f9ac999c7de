"""Several generators on one bucket: what each knows of the others, in what order they begin, and who closes whom."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import cast

import pytest
from places import kept_ledger
from test_workers import ClockedStream, QuietStream, part, position

from kcl_receiver.config.paths import GENERATOR_WRITERS
from kcl_receiver.errors import StoreUnavailable, WriterFenced
from kcl_receiver.generator.effects import (
    Append,
    BlockRecord,
    LedgerRecord,
    LookUp,
    MarksRecord,
    Measurement,
    SessionRecord,
    ShardEndRecord,
    WriteBlock,
)
from kcl_receiver.generator.generator_io import GeneratorIO
from kcl_receiver.generator.lock import GeneratorLock
from kcl_receiver.generator.stream import StreamView
from kcl_receiver.ids import block_id, writer_id
from kcl_receiver.ranges import SHARD_END, TRIM_HORIZON, After, Position, StreamIdentity
from kcl_receiver.store.bucket import MOST_APPENDS, BucketObjects
from kcl_receiver.store.ledger.entries import (
    BlockStored,
    Closed,
    MarksTaken,
    Seen,
    SessionStarted,
    StoreState,
    WriterStarted,
    decode_ledger,
)
from kcl_receiver.store.ledger.neighbours import APART_MS, LOOKS, PATIENCE
from kcl_receiver.store.ledger.store_log import StoreLog, settled
from kcl_receiver.store.memory import Fault, MemoryBucket, MemoryObjects
from kcl_receiver.store.store import Store

NOW = 1_795_353_301_000
SHARD = "shardId-000000000000"


@pytest.fixture(autouse=True)
def clock_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kcl_receiver.generator.generator_io.wall_millis", lambda: NOW)


@pytest.fixture(autouse=True)
def clock_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two measurements are far enough apart."""
    clock = count(APART_MS, APART_MS)
    monkeypatch.setattr("kcl_receiver.generator.generator_io.boot_millis", lambda: next(clock))


class Measured(QuietStream):
    """A stream that tells its clock."""

    def measure(self, _expected: StreamIdentity) -> Measurement:
        return self.measured


class Kept:
    """What lies beside a host's lock."""

    def __init__(self) -> None:
        self.writers: list[str] = []

    def read(self) -> list[str]:
        return self.writers

    def note(self, writers: Iterable[str]) -> None:
        self.writers = list(writers)


class Fleet:
    """Hosts on one bucket. The tokens of ids fall, so that only the rule of their order brings them into it."""

    def __init__(self) -> None:
        self.bucket = MemoryBucket()
        self.store = Store(MemoryObjects(self.bucket))
        self._tokens = count(0xFFFFFFFF, -1)
        self._blocks = count(1)
        self.most_appends = MOST_APPENDS

    def start(self, host: Kept | None = None, stream: QuietStream | None = None, **settings: int) -> GeneratorIO:
        made = self.made(host, stream, **settings)
        made.prepare()
        return made

    def made(self, host: Kept | None = None, stream: QuietStream | None = None, **settings: int) -> GeneratorIO:
        return GeneratorIO(
            Store(BucketObjects(self.bucket, self.most_appends)),
            cast(StreamView, stream or Measured()),
            "landing",
            "none",
            store_again=False,
            new_writer=lambda at: writer_id(at, f"{next(self._tokens):08x}"),
            own=host or Kept(),
            **settings,  # type: ignore[arg-type]
        )

    def entries(self, writer: str) -> list[object]:
        found = decode_ledger(writer, self.store.ledger(writer) or b"")
        assert found.fault is None
        return list(found.entries)

    def is_closed(self, writer: str) -> bool:
        return isinstance(self.entries(writer)[-1], Closed)

    def living(self) -> list[str]:
        return sorted(StoreLog(self.store).newest().state.living)

    def kept(self) -> list[str]:
        return list(StoreLog(self.store).newest().state.kept)

    def put(self, made: GeneratorIO, numbers: list[int], after: After, shard: str = SHARD) -> BlockRecord:
        number = next(self._blocks)
        return BlockRecord(number, made.write_block(WriteBlock(number, (part(numbers, after, shard),))))

    def store_block(self, made: GeneratorIO, numbers: list[int], after: After, shard: str = SHARD) -> None:
        append(made, self.put(made, numbers, after, shard))


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


def append(made: GeneratorIO, record: LedgerRecord, checkpoints: dict[str, Position | str] | None = None) -> None:
    if made.append(Append((record,)), checkpoints or {}):
        made.append(Append(()), {})


def held(made: GeneratorIO, after: After, shard: str = SHARD) -> list[tuple[int, int]]:
    facts = made.look_up(LookUp("s2", shard, after))
    return [(one.first.sequence_number, one.last.sequence_number) for one in facts.held]


def began(made: GeneratorIO, after: After) -> SessionStarted:
    """Look up a session, record it, and return its line."""
    facts = made.look_up(LookUp("s2", SHARD, after))
    append(made, SessionRecord("s2", SHARD, 1, after, facts, -1))
    (line,) = (one for one in Fleet.entries(fleet_of(made), made.writer) if isinstance(one, SessionStarted))
    return line


def fleet_of(made: GeneratorIO) -> Fleet:
    out = Fleet()
    out.store = made._store
    return out


def measures(*made: GeneratorIO) -> None:
    for one in made:
        append(one, MarksRecord(NOW, NOW, 24, 0, ()))
        one.measure()
        one.keep_house(measured=True)


# What others have stored


def test_a_session_is_told_what_its_neighbour_has_stored_up_to_then(fleet: Fleet) -> None:
    here, there = fleet.start(), fleet.start()
    fleet.store_block(there, [1, 2], TRIM_HORIZON)
    assert held(here, TRIM_HORIZON) == [(1, 2)]
    fleet.store_block(there, [3, 4], position(2))
    assert held(here, TRIM_HORIZON) == [(1, 2), (3, 4)]
    assert held(here, position(2)) == [(3, 4)]
    assert here.ranges_in_memory == 2  # each was taken in once


def test_what_was_recorded_in_a_ledger_that_came_and_went_between_two_looks_is_known(fleet: Fleet) -> None:
    here, there = fleet.start(), fleet.start(ledger_lines=1)
    for first, after in ((1, TRIM_HORIZON), (3, position(2)), (5, position(4))):
        fleet.store_block(there, [first, first + 1], after)
    assert len(fleet.store.writers()) > 4
    assert held(here, TRIM_HORIZON) == [(1, 2), (3, 4), (5, 6)]


def test_what_a_neighbour_has_forgotten_is_looked_for_in_the_ledgers(fleet: Fleet) -> None:
    here, there = fleet.start(), fleet.start(ledger_lines=1)
    append(there, fleet.put(there, [1, 2], TRIM_HORIZON), {SHARD: position(2)})
    append(there, fleet.put(there, [3, 4], position(2)), {SHARD: position(4)})
    assert fleet.kept() == [] or fleet.kept()[0] > fleet.store.writers()[1]
    assert held(here, TRIM_HORIZON) == [(1, 2), (3, 4)]


def test_what_a_neighbour_says_of_checkpoints_lets_ranges_go(fleet: Fleet) -> None:
    here, there = fleet.start(), fleet.start()
    fleet.store_block(there, [1, 2], TRIM_HORIZON)
    fleet.store_block(there, [3, 4], position(2))
    fleet.store_block(there, [1, 2], TRIM_HORIZON, "shardId-000000000001")
    assert len(held(here, TRIM_HORIZON)) == 2
    assert here.ranges_in_memory == 3
    told: dict[str, Position | str] = {SHARD: position(3), "shardId-000000000001": SHARD_END}
    append(there, MarksRecord(NOW, NOW, 24, 0, ()), told)
    (line,) = (one for one in fleet.entries(there.writer) if isinstance(one, MarksTaken))
    assert (line.checkpoints, line.ended) == ({SHARD: position(3)}, ("shardId-000000000001",))
    assert held(here, position(3)) == [(3, 4)]
    assert here.ranges_in_memory == 1


def test_looks_that_are_asked_for_during_one_share_the_next(fleet: Fleet) -> None:
    here, there = fleet.start(), fleet.start()
    arrived, go_on = threading.Semaphore(0), threading.Event()
    looks: list[str] = []

    class Door:
        """The lock; says so when somebody comes to it."""

        def __init__(self) -> None:
            self._lock = threading.Lock()

        def __enter__(self) -> None:
            arrived.release()
            self._lock.acquire()

        def __exit__(self, *_: object) -> None:
            self._lock.release()

    def slow(request: str, key: str) -> None:
        if there.writer in key:
            looks.append(key)
            arrived.release()
            go_on.wait()

    here._neighbours.look()
    here._neighbours._lock = Door()  # type: ignore[assignment]
    fleet.bucket.faults = slow
    threads = [threading.Thread(target=here._neighbours.look) for _ in range(6)]
    threads[0].start()
    arrived.acquire()
    arrived.acquire()
    for one in threads[1:]:
        one.start()
        arrived.acquire()
    go_on.set()
    for one in threads:
        one.join()
    assert len(looks) == 2  # one request each


def test_a_look_asks_for_no_more_than_what_is_new(fleet: Fleet) -> None:
    here, there = fleet.start(), fleet.start()
    for number in range(20):
        fleet.store_block(there, [number + 1], position(number))
    here._neighbours.look()
    requests: list[str] = []
    fleet.bucket.faults = lambda request, key: requests.append(f"{request} {key}")
    here._neighbours.look()
    # The log's next entry, whether its newest is still there, the ledger's next line.
    assert [one.partition(" ")[0] for one in requests] == ["get"] * 3
    fleet.store_block(there, [30], position(20))
    requests.clear()
    here._neighbours.look()
    assert len(requests) == 5  # the line, what follows it, and whether it was merged meanwhile


# What was seen


def test_who_is_alone_has_seen_nobody(fleet: Fleet) -> None:
    assert began(fleet.start(), TRIM_HORIZON).seen is None


def test_a_session_records_how_much_of_each_neighbour_was_read(fleet: Fleet) -> None:
    here, there = fleet.start(), fleet.start()
    fleet.store_block(there, [1, 2], TRIM_HORIZON)
    lines = len(fleet.entries(there.writer))
    assert began(here, TRIM_HORIZON).seen == Seen(there.writer, {there.writer: lines})


def test_a_neighbour_that_has_ended_was_seen_as_a_whole(fleet: Fleet) -> None:
    host = Kept()
    here, first = fleet.start(), fleet.start(host)
    fleet.store_block(first, [1, 2], TRIM_HORIZON)
    then = fleet.start(host)
    assert fleet.is_closed(first.writer)
    seen = began(here, TRIM_HORIZON).seen
    assert seen is not None
    assert (seen.last, [*seen.lines]) == (then.writer, [then.writer])


def test_a_first_line_names_who_was_writing_beside_it(fleet: Fleet) -> None:
    here, there = fleet.start(), fleet.start()
    first, second = (cast(WriterStarted, fleet.entries(one.writer)[0]) for one in (here, there))
    assert (first.beside, second.beside) == ((), (here.writer,))


# Who begins and who has ended


def test_ids_are_in_the_order_in_which_writers_begin(fleet: Fleet) -> None:
    writers = [fleet.start().writer for _ in range(4)]
    assert writers == sorted(writers)
    assert fleet.living() == writers


def test_one_that_another_overtakes_takes_a_greater_id(fleet: Fleet) -> None:
    others: list[GeneratorIO] = []

    def overtake(request: str, key: str) -> None:
        if request == "put" and key.startswith("log/") and not others:
            fleet.bucket.faults = lambda _request, _key: None
            others.append(fleet.start())

    fleet.bucket.faults = overtake
    here = fleet.start()
    assert here.writer > others[0].writer
    assert fleet.living() == [others[0].writer, here.writer]
    first = cast(WriterStarted, fleet.entries(here.writer)[0])
    assert (first.writer, first.beside) == (here.writer, (others[0].writer,))


def test_a_start_closes_the_ledgers_of_its_host_alone(fleet: Fleet) -> None:
    host = Kept()
    there, before = fleet.start(), fleet.start(host)
    fleet.store_block(before, [1, 2], TRIM_HORIZON)
    lost = fleet.put(before, [3, 4], position(2))
    now = fleet.start(host)
    assert fleet.living() == [there.writer, now.writer]
    assert fleet.is_closed(before.writer)
    assert not fleet.is_closed(there.writer)
    blocks = [one.block for one in fleet.entries(before.writer) if isinstance(one, BlockStored)]
    assert blocks == [block_id(before.writer, 1), lost.written.block]
    assert held(now, TRIM_HORIZON) == [(1, 2), (3, 4)]
    assert host.writers == [before.writer, now.writer]


def test_a_line_of_the_dead_that_arrives_while_its_ledger_is_closed_is_taken_in(fleet: Fleet) -> None:
    host = Kept()
    before = fleet.start(host)
    record = fleet.put(before, [1, 2], TRIM_HORIZON)
    fleet.bucket.faults = lambda request, key: Fault.LATE if request == "put" and "/ledger/" in f"/{key}" else None
    with pytest.raises(StoreUnavailable):
        before.append(Append((record,)), {})
    closing: list[str] = []

    def arrives_first(request: str, key: str) -> None:
        if request == "put" and before.writer in key:
            closing.append(key)
            if len(closing) == 1:
                fleet.bucket.faults = lambda _request, _key: None
                fleet.bucket.deliver_late()
                fleet.bucket.faults = arrives_first

    fleet.bucket.faults = arrives_first
    now = GeneratorIO(
        Store(MemoryObjects(fleet.bucket)),
        cast(StreamView, QuietStream()),
        "landing",
        "none",
        store_again=False,
        own=host,
    )
    with pytest.raises(StoreUnavailable, match="it is read again"):
        now.prepare()
    now.prepare()
    assert len(closing) == 2
    entries = fleet.entries(before.writer)
    assert isinstance(entries[-1], Closed)
    assert [one.block for one in entries if isinstance(one, BlockStored)] == [record.written.block]
    assert held(now, TRIM_HORIZON) == [(1, 2)]


def test_a_ledger_of_others_is_not_let_go_before_it_was_read(fleet: Fleet) -> None:
    here, there = fleet.start(), fleet.start(ledger_lines=1)
    fleet.store_block(there, [1, 2], TRIM_HORIZON)
    (closed,) = fleet.kept()
    append(here, MarksRecord(NOW, NOW, 24, 0, ()))
    assert fleet.kept() == [closed]  # here nothing is known of it
    here._neighbours.look()
    append(here, MarksRecord(NOW, NOW, 24, 0, ()), {SHARD: position(1)})
    assert fleet.kept() == [closed]  # its range is past the checkpoint
    here._carried.recent.forget(SHARD, position(2))
    append(here, MarksRecord(NOW, NOW, 24, 0, ()))
    assert fleet.kept() == []
    assert StoreLog(fleet.store).newest().state.forgotten[SHARD].through == position(2)


def test_what_others_have_forgotten_stays_in_the_log(fleet: Fleet) -> None:
    here, there = fleet.start(), fleet.start(ledger_lines=1)
    append(there, fleet.put(there, [1, 2], TRIM_HORIZON, "shardId-000000000007"), {"shardId-000000000007": position(2)})
    known = StoreLog(fleet.store).newest().state.forgotten
    assert [*known] == ["shardId-000000000007"]
    StoreLog(fleet.store).change(lambda state: settled(state, here.writer, NOW, (), {}, read={*state.kept}))
    assert StoreLog(fleet.store).newest().state.forgotten == known


# The dead


def test_a_writer_whose_ledger_has_not_grown_for_three_measurements_is_closed_with_what_it_could_not_record(
    fleet: Fleet,
) -> None:
    here, dead, other = fleet.start(), fleet.start(), fleet.start()
    lost = fleet.put(dead, [1, 2], TRIM_HORIZON)
    for _ in range(LOOKS):
        measures(here, other)
        assert dead.writer in fleet.living()
    measures(here, other)
    assert fleet.living() == [here.writer, other.writer]
    entries = fleet.entries(dead.writer)
    assert isinstance(entries[-1], Closed)
    assert [one.block for one in entries if isinstance(one, BlockStored)] == [lost.written.block]
    assert held(here, TRIM_HORIZON) == [(1, 2)]


def test_measurements_that_follow_at_once_count_as_one(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    here, quiet = fleet.start(), fleet.start()
    monkeypatch.setattr("kcl_receiver.generator.generator_io.boot_millis", lambda: APART_MS)
    for _ in range(3 * LOOKS):
        measures(here)
    assert quiet.writer in fleet.living()


def test_looks_that_fail_count_for_nothing(fleet: Fleet) -> None:
    here, quiet = fleet.start(), fleet.start()
    measures(here)
    fleet.bucket.faults = lambda request, key: Fault.BEFORE if quiet.writer in key else None
    for _ in range(LOOKS):
        append(here, MarksRecord(NOW, NOW, 24, 0, ()))
        here.keep_house(measured=True)
    fleet.bucket.faults = lambda _request, _key: None
    for _ in range(LOOKS - 1):
        measures(here)
    assert quiet.writer in fleet.living()
    measures(here)
    assert quiet.writer not in fleet.living()


def test_one_that_was_taken_for_dead_reports_nothing_and_ends(fleet: Fleet) -> None:
    host = Kept()
    here, slow = fleet.start(), fleet.start(host)
    record = fleet.put(slow, [1, 2], TRIM_HORIZON)
    for _ in range(LOOKS + 1):
        measures(here)
    with pytest.raises(WriterFenced, match=here.writer):
        slow.append(Append((record,)), {})
    again = fleet.start(host)
    assert held(again, TRIM_HORIZON) == [(1, 2)]
    assert fleet.living() == [here.writer, again.writer]


def test_a_writer_that_began_and_never_had_a_line_is_closed_too(fleet: Fleet) -> None:
    here = fleet.start()
    fleet.bucket.faults = lambda request, key: Fault.BEFORE if request == "put" and key.startswith("ledger/") else None
    with pytest.raises(StoreUnavailable):
        fleet.start()
    fleet.bucket.faults = lambda _request, _key: None
    (dead,) = (one for one in fleet.living() if one != here.writer)
    for _ in range(LOOKS + 1):
        measures(here)
    assert fleet.living() == [here.writer]
    assert [type(one) for one in fleet.entries(dead)] == [Closed]


def test_what_a_look_has_seen_is_what_it_has_read_though_the_log_has_gone_on_meanwhile(fleet: Fleet) -> None:
    here, there = fleet.start(ledger_lines=3), fleet.start()
    while not here.append(Append((MarksRecord(NOW, NOW, 24, 0, ()),)), {}):
        pass
    rolling: list[threading.Thread] = []
    begun = threading.Event()
    real = here._neighbours.began

    def began_now(writer: str, state: StoreState) -> None:
        real(writer, state)
        begun.set()

    def another_begins_and_then_here(request: str, key: str) -> None:
        if there.writer in key and not rolling:
            rolling.append(threading.Thread(target=here.append, args=(Append(()), {})))
            fleet.start()
            rolling[0].start()
            begun.wait()

    here._neighbours.began = began_now  # type: ignore[method-assign]
    fleet.bucket.faults = another_begins_and_then_here
    seen = here._neighbours.look()
    rolling[0].join()
    assert seen == Seen(there.writer, {there.writer: 2})


def test_a_ledger_that_is_read_while_another_one_is_let_go_stays(fleet: Fleet) -> None:
    here, there = fleet.start(), fleet.start(ledger_lines=1)
    other = "shardId-000000000007"
    append(there, fleet.put(there, [1, 2], TRIM_HORIZON, other))
    held(here, TRIM_HORIZON, other)
    fleet.store_block(there, [1, 2], TRIM_HORIZON)
    looks: list[str] = []

    def somebody_looks(request: str, key: str) -> None:
        if request == "head" and key.startswith("log/") and not looks:
            looks.append(key)
            one = threading.Thread(target=here._neighbours.look)
            one.start()
            one.join()

    fleet.bucket.faults = somebody_looks
    append(here, MarksRecord(NOW, NOW, 24, 0, ()), {other: position(2)})
    fleet.bucket.faults = lambda _request, _key: None
    assert looks
    assert held(fleet.start(), TRIM_HORIZON) == [(1, 2)]


def test_a_ledger_that_alone_cannot_be_read_does_not_keep_sessions_from_beginning_for_ever(fleet: Fleet) -> None:
    here, bad, good = (fleet.start() for _ in range(3))
    fleet.store_block(good, [1, 2], TRIM_HORIZON)
    fleet.bucket.faults = lambda request, key: Fault.BEFORE if request == "get" and bad.writer in key else None
    for _ in range(PATIENCE - 1):
        with pytest.raises(StoreUnavailable):
            here._neighbours.look()
    assert here._neighbours.look() == Seen(good.writer, {bad.writer: 0, good.writer: 3})
    assert held(here, TRIM_HORIZON) == [(1, 2)]


def test_a_start_goes_on_although_the_ledger_of_a_neighbour_is_damaged(fleet: Fleet) -> None:
    bad, good = fleet.start(), fleet.start()
    fleet.store_block(good, [1, 2], TRIM_HORIZON)
    kept = kept_ledger(fleet.store, bad.writer)
    kept.write(kept.read().replace(b'"version"', b'"versiom"'))
    assert held(fleet.start(), TRIM_HORIZON) == [(1, 2)]


def test_a_start_holds_no_range_that_is_behind_a_checkpoint_of_a_neighbour(fleet: Fleet) -> None:
    there = fleet.start()
    for number in range(1, 6):
        fleet.store_block(there, [number], position(number - 1))
    append(there, MarksRecord(NOW, NOW, 24, 0, ()), {SHARD: position(5)})
    assert fleet.start().ranges_in_memory == 1


def test_nobody_is_dead_while_the_store_takes_no_lines(fleet: Fleet) -> None:
    here, there = fleet.start(), fleet.start()
    measures(here, there)
    for _ in range(2 * LOOKS):
        here.keep_house(measured=True)  # and no line of its own gets through
    assert there.writer in fleet.living()


# Times


def test_the_times_of_a_neighbours_sessions_are_its_own_affair(fleet: Fleet) -> None:
    host = Kept()
    there = fleet.start(host)
    append(there, MarksRecord(NOW, NOW, 24, 0, ()))
    began(there, TRIM_HORIZON)
    # By the clock of these two the session's times were too early, and one of them is on its host.
    for where, raised in ((Kept(), 0), (host, 1)):
        late = fleet.start(where, ClockedStream())
        marks = [one for one in fleet.entries(late.writer) if isinstance(one, MarksTaken)]
        assert len([one for one in marks if one.late]) == raised


def test_a_shard_end_that_a_neighbour_recorded_is_not_done_with_at_once(fleet: Fleet) -> None:
    here, there = fleet.start(), fleet.start()
    fleet.store_block(there, [1, 2], TRIM_HORIZON)
    append(there, ShardEndRecord("s", SHARD, position(2), NOW))
    assert held(here, TRIM_HORIZON) == [(1, 2)]


# Beside the lock


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[GeneratorLock]:
    tmp_path.chmod(0o700)
    made = GeneratorLock(tmp_path / "generator.sock")
    yield made
    made.release()


def test_the_writers_of_a_host_lie_beside_its_lock(lock: GeneratorLock, tmp_path: Path) -> None:
    assert lock.read() == []
    writers = [writer_id(NOW, "00000001"), writer_id(NOW, "00000002")]
    lock.note(writers)
    assert lock.read() == writers
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(GENERATOR_WRITERS)] == [GENERATOR_WRITERS]


def test_writers_that_cannot_be_read_are_not_known_and_those_that_cannot_be_kept_are_told(
    lock: GeneratorLock, tmp_path: Path
) -> None:
    (tmp_path / GENERATOR_WRITERS).write_bytes(b"\xff../x\n")
    assert lock.read() == []
    (tmp_path / GENERATOR_WRITERS).unlink()
    (tmp_path / GENERATOR_WRITERS).mkdir()
    with pytest.raises(StoreUnavailable, match=GENERATOR_WRITERS):
        lock.note([writer_id(NOW, "00000001")])
