"""What the generator's threads do, on a real store and with a stream that answers what a test says."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import cast

import pytest
from generator_harness import batch_message, columns_of, position
from places import Place
from store_support import ledgers_in

from kcl_receiver.aws import Shard
from kcl_receiver.errors import StreamReplaced
from kcl_receiver.generator import generator_io as workers_module
from kcl_receiver.generator import presence, rollover
from kcl_receiver.generator.effects import (
    Append,
    BlockPart,
    BlockRecord,
    LedgerRecord,
    LookFurther,
    LookUp,
    Measurement,
    SessionRecord,
    ShardEndRecord,
    WriteBlock,
)
from kcl_receiver.generator.generator_io import GeneratorIO
from kcl_receiver.generator.stream import StreamView, boot_millis
from kcl_receiver.ids import writer_id
from kcl_receiver.maintenance.compact import Options, compact
from kcl_receiver.ranges import SHARD_END, TRIM_HORIZON, After, Position, Range, StreamIdentity
from kcl_receiver.store.blocks.encode import BlockRange, encode_block
from kcl_receiver.store.json_codec import encode
from kcl_receiver.store.ledger.entries import BlockStored, Carried, MarksTaken, decode_ledger
from kcl_receiver.store.ledger.store_log import StoreLog
from kcl_receiver.store.ledger.transaction import Transaction
from kcl_receiver.store.store import Store

SHARD = "shardId-000000000000"


class QuietStream:
    """A stream that is always there."""

    retention_hours = 24

    def describe(self, _expected: StreamIdentity | None) -> StreamIdentity:
        return StreamIdentity("arn", 1)

    def shard(self, shard: str) -> Shard:
        return Shard(shard, 0, None, (), ("0", "1"))

    @property
    def measured(self) -> Measurement:
        return Measurement(-1, 0, 0, self.retention_hours)

    def check_position(self, _shard: str, _position: Position) -> None:
        """Every number is one of the stream's."""


class ClockedStream(QuietStream):
    """The same, and its clock is `ahead` of this host's by so many milliseconds."""

    ahead = 10_000_000

    @property
    def measured(self) -> Measurement:
        now = boot_millis()
        return Measurement(now + self.ahead, now, now, self.retention_hours)


class Wall:
    """The wall clock, and the ids of writers that begin by it."""

    def __init__(self, millis: int = 1_795_353_301_000) -> None:
        self.millis = millis
        self.writers: list[str] = []

    def new_writer(self, millis: int) -> str:
        self.writers.append(writer_id(millis, f"{len(self.writers):08x}"))
        return self.writers[-1]


@pytest.fixture(autouse=True)
def day_of_the_writers(monkeypatch: pytest.MonkeyPatch) -> None:
    """On another day than its writer's, a ledger is followed by the next."""
    monkeypatch.setattr("kcl_receiver.generator.generator_io.wall_millis", lambda: Wall().millis)


def workers(
    place: Place,
    wall: Wall | None = None,
    ledger_lines: int = 10_000,
    page: int = 5_000,
    stream: QuietStream | None = None,
) -> GeneratorIO:
    wall = wall or Wall()
    made = GeneratorIO(
        place(),
        cast(StreamView, stream or QuietStream()),
        "landing",
        "none",
        store_again=False,
        new_writer=wall.new_writer,
        ledger_lines=ledger_lines,
        page=page,
    )
    made.prepare()
    return made


def end(made: GeneratorIO) -> None:
    """What the end of its process does."""
    cast(Store, made._store)._held["lock"].release()


def ledgers(place: Place) -> tuple[list[str], list[str]]:
    """Return the writers that are living, by the store's log, and the others that have a ledger, a closed one."""
    read = {writer: decode_ledger(writer, content) for writer, content in ledgers_in(place())}
    living = sorted(StoreLog(place()).newest().state.living)
    assert [writer for writer, ledger in read.items() if not ledger.is_closed] == living
    return living, [writer for writer in read if writer not in living]


def kept(place: Place) -> list[str]:
    """Return the closed ledgers that the next start reads."""
    return list(StoreLog(place()).newest().state.kept)


def append(made: GeneratorIO, records: tuple[LedgerRecord, ...], checkpoints: dict[str, Position | str]) -> None:
    """Append as the state machine does while no other block is on its way."""
    if made.append(Append(records), checkpoints):
        made.append(Append(()), {})


def store(
    made: GeneratorIO, number: int, numbers: list[int], after: After, checkpoint: Position | str | None = None
) -> None:
    written = made.write_block(WriteBlock(number, (part(numbers, after),)))
    append(made, (BlockRecord(number, written),), {} if checkpoint is None else {SHARD: checkpoint})


def part(numbers: list[int], after: After, shard: str = SHARD, arrival: int | None = None) -> BlockPart:
    came = workers_module.wall_millis() if arrival is None else arrival
    columns = columns_of([position(one) for one in numbers], arrival=came)
    message = batch_message(columns, 1, after)
    last = position(numbers[-1])
    one = Range(
        shard=shard,
        session="s",
        after=after,
        first=position(numbers[0]),
        last=last,
        whole=last,
        count=columns.count,
        size=columns.size,
        arrival_first=message.arrival_first,
        arrival_last=message.arrival_last,
        checksum=message.checksum,
        delivered=message.arrival_last,
    )
    return BlockPart(one, columns)


def held(made: GeneratorIO, after: After) -> list[tuple[int, int]]:
    facts = made.look_up(LookUp("s2", SHARD, after))
    return [(one.first.sequence_number, one.last.sequence_number) for one in facts.held]


def test_a_lease_that_was_reset_finds_what_was_forgotten_in_the_ledger(place: Place) -> None:
    made = workers(place)
    store(made, 1, [1, 2], TRIM_HORIZON)
    store(made, 2, [3, 4], position(2))
    store(made, 3, [5, 6], position(4), checkpoint=position(4))
    assert made.ranges_in_memory == 2
    assert held(made, position(4)) == [(5, 6)]
    assert held(made, position(2)) == [(3, 4), (5, 6)]
    assert held(made, TRIM_HORIZON) == [(1, 2), (3, 4), (5, 6)]


def test_a_block_that_was_deleted_is_not_held(place: Place) -> None:
    made = workers(place)
    store(made, 1, [1, 2], TRIM_HORIZON)
    assert held(made, TRIM_HORIZON) == [(1, 2)]
    made._store.delete_blocks([block for block, _ in made._store.list_blocks()])
    assert held(made, TRIM_HORIZON) == []


# Blocks that maintenance has replaced


def compacted(made: GeneratorIO) -> None:
    (report,) = compact(made._store, Options(), 1_795_353_301_000 + 400 * 86_400_000)
    assert report.made == 1


def test_what_was_compacted_is_held(place: Place) -> None:
    made = workers(place)
    store(made, 1, [1, 2], TRIM_HORIZON)
    store(made, 2, [3, 4], position(2))
    compacted(made)
    assert len(list(made._store.list_blocks())) == 1
    assert held(made, TRIM_HORIZON) == [(1, 2), (3, 4)]
    assert held(made, position(2)) == [(3, 4)]


def test_what_was_compacted_is_held_after_a_restart_too(place: Place) -> None:
    made = workers(place)
    store(made, 1, [1, 2], TRIM_HORIZON)
    store(made, 2, [3, 4], position(2), checkpoint=position(2))
    compacted(made)
    end(made)
    again = workers(place, Wall(1_795_353_999_000))
    assert held(again, TRIM_HORIZON) == [(1, 2), (3, 4)]


def test_what_was_compacted_and_then_deleted_is_not_held(place: Place) -> None:
    made = workers(place)
    store(made, 1, [1, 2], TRIM_HORIZON)
    store(made, 2, [3, 4], position(2))
    compacted(made)
    made._store.delete_blocks([block for block, _ in made._store.list_blocks()])
    assert held(made, TRIM_HORIZON) == []


def test_of_a_block_that_was_recovered_in_part_that_part_is_held(place: Place) -> None:
    made = workers(place)
    written = made.write_block(WriteBlock(1, (part([1, 2], TRIM_HORIZON), part([3, 4], position(2)))))
    append(made, (BlockRecord(1, written),), {})
    whole = BlockStored(written.block, StreamIdentity("arn", 1), written.ranges, written.rows, written.size, 0)
    replaced = Transaction(made._store, written.block, "recover", 1)
    kept = part([3, 4], position(2))
    block = replaced.next_block_id()
    encoded = encode_block(block, replaced.writer, whole.stream, [BlockRange(kept.range, kept.columns)], "none")
    made._store.put_block(block, encoded.payload)
    replaced.add_block(BlockStored(block, whole.stream, encoded.ranges, encoded.rows, 1, 0), [whole])
    replaced.commit()
    made._store.delete_block(whole.block)
    assert held(made, TRIM_HORIZON) == [(3, 4)]


def test_a_block_that_is_replaced_again_while_it_is_looked_for_is_found(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = workers(place)
    store(made, 1, [1, 2], TRIM_HORIZON)
    store(made, 2, [3, 4], position(2))
    compacted(made)
    store(made, 3, [5, 6], position(4))
    store(made, 4, [7, 8], position(6))
    real, looks = presence._stand_ins, []

    def and_then_compacted(store: Store, blocks: list[str]) -> dict[str, tuple[str, ...]]:
        found = real(store, blocks)
        if not looks:
            (report,) = compact(made._store, Options(min_age_millis=0), 1_795_353_301_000 + 800 * 86_400_000)
            assert report.made == 1
        looks.append(found)
        return found

    monkeypatch.setattr(presence, "_stand_ins", and_then_compacted)
    assert held(made, TRIM_HORIZON) == [(1, 2), (3, 4), (5, 6), (7, 8)]
    assert len(looks) == 2


def test_what_maintenance_did_is_read_only_if_a_block_is_gone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    made = workers(place)
    store(made, 1, [1, 2], TRIM_HORIZON)
    monkeypatch.delattr(presence.Ledger, "changes")
    assert held(made, TRIM_HORIZON) == [(1, 2)]


# One ledger after the other


def test_a_long_ledger_is_closed_and_followed_by_another(place: Place) -> None:
    wall = Wall()
    made = workers(place, wall, ledger_lines=1)
    assert ledgers(place) == ([wall.writers[0]], [])
    store(made, 1, [1, 2], TRIM_HORIZON)
    assert ledgers(place) == ([wall.writers[1]], [wall.writers[0]])
    store(made, 2, [3, 4], position(2))
    assert ledgers(place) == ([wall.writers[2]], wall.writers[:2])
    assert held(made, position(2)) == [(3, 4)]


def test_what_was_stored_under_the_ledger_before_is_held_after_a_restart(place: Place) -> None:
    made = workers(place, ledger_lines=1)
    for number in range(1, 6):
        store(made, number, [2 * number - 1, 2 * number], position(2 * number - 2), checkpoint=position(2))
    assert len(ledgers(place)[1]) > 1
    end(made)
    again = workers(place, Wall(1_795_353_999_000))
    assert again.ranges_in_memory == 4  # what ends at the checkpoint keeps no ledger
    assert held(again, position(2)) == [(3, 4), (5, 6), (7, 8), (9, 10)]


@pytest.mark.parametrize("lines", [1, 10_000], ids=["in ledgers that are closed", "in the living one"])
def test_a_start_raises_the_times_of_all_sessions_that_a_late_clock_was_used_for(place: Place, lines: int) -> None:
    stream = ClockedStream()
    made = workers(place, ledger_lines=lines, stream=stream)
    now = boot_millis() + stream.ahead + 2000  # a Date is cut off to the second
    block = part([1, 2], TRIM_HORIZON)
    written = made.write_block(WriteBlock(1, (replace(block, range=replace(block.range, delivered=now)),)))
    append(made, (BlockRecord(1, written),), {})
    for shard in ("a", "b"):
        append(made, (ShardEndRecord(f"end of {shard}", shard, TRIM_HORIZON, now + 1),), {})
    end(made)
    stream.ahead += 30 * 3_600_000
    made = workers(place, Wall(1_795_353_999_000), stream=stream)
    entries = decode_ledger(made.writer, cast(bytes, made._store.ledger(made.writer))).entries
    (late,) = [one for one in entries if isinstance(one, MarksTaken) and one.late]
    assert late.sessions == ("end of a", "end of b", "s")
    assert late.late[0].by >= 30 * 3_600_000 - 1000


def test_a_new_ledger_notes_the_newest_arrival_in_those_before_it(place: Place) -> None:
    """The stream was asked for its clock before a pause of months, and was not asked again; the host's stood still."""
    made = workers(place, ledger_lines=1, stream=ClockedStream())
    arrived = boot_millis() + ClockedStream.ahead + 90 * 86_400_000
    arrived = max(arrived, workers_module.wall_millis() + 90 * 86_400_000)
    for number in (1, 2):
        written = made.write_block(WriteBlock(number, (part([number], TRIM_HORIZON, arrival=arrived + number),)))
        append(made, (BlockRecord(number, written),), {})
    entries = decode_ledger(made.writer, cast(bytes, made._store.ledger(made.writer))).entries
    (carried,) = [one for one in entries if isinstance(one, Carried)]
    assert carried.newest == arrived + 2


def test_what_was_forgotten_stays_so_after_a_restart_and_is_found_in_the_ledgers(place: Place) -> None:
    made = workers(place, ledger_lines=1)
    for number in range(1, 6):
        store(made, number, [2 * number - 1, 2 * number], position(2 * number - 2), checkpoint=position(2 * number))
    end(made)
    again = workers(place, Wall(1_795_353_999_000))
    assert again.ranges_in_memory < 5
    assert len(kept(place)) <= 2
    assert held(again, TRIM_HORIZON) == [(1, 2), (3, 4), (5, 6), (7, 8), (9, 10)]


def test_a_new_day_has_a_ledger_of_its_own_so_that_its_blocks_lie_in_a_directory_of_its_own(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    wall = Wall()
    monkeypatch.setattr("kcl_receiver.generator.generator_io.wall_millis", lambda: wall.millis)
    made = workers(place, wall)
    store(made, 1, [1, 2], TRIM_HORIZON)
    wall.millis += 86_400_000
    store(made, 2, [3, 4], position(2))  # its id was given before the day's first entry
    store(made, 3, [5, 6], position(4))
    days = [one.key.split("/")[1] for one in place().objects.list("blocks/")]
    assert days == ["2026-11-22", "2026-11-22", "2026-11-23"]


def test_a_ledger_that_is_due_goes_on_until_it_is_told_to_give_way(place: Place) -> None:
    wall = Wall()
    made = workers(place, wall, ledger_lines=1)
    slow = made.write_block(WriteBlock(100, (part([101, 102], TRIM_HORIZON),)))
    other = made.write_block(WriteBlock(1, (part([1, 2], TRIM_HORIZON, "shardId-other"),)))
    assert made.append(Append((BlockRecord(1, other),)), {})
    assert made.append(Append((BlockRecord(100, slow),)), {})
    assert len(wall.writers) == 1
    assert not made.append(Append(()), {})
    assert len(wall.writers) == 2
    assert not made.append(Append(()), {})
    assert len(wall.writers) == 2


# What the next start reads


def ledger_bytes(place: Place) -> int:
    return sum(one.size for one in place().objects.list("ledger/"))


def test_without_checkpoints_the_ledger_stays_in_proportion_to_what_it_records(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollover, "LEDGER_BYTES", 10_000)
    wall = Wall()
    made = workers(place, wall)
    shards = [f"shardId-{number:012d}" for number in range(8)]
    recorded = 0
    for number in range(1, 101):
        parts = (part([2 * number - 1, 2 * number], position(2 * number - 2), shard) for shard in shards)
        written = made.write_block(WriteBlock(number, tuple(parts)))
        record = BlockRecord(number, written)
        recorded += sum(len(encode(one)) for one in written.ranges)
        append(made, (record,), {})
    assert recorded > 20 * rollover.LEDGER_BYTES
    assert len(wall.writers) > 2
    assert ledger_bytes(place) < 4 * recorded
    assert held(made, position(150))[0] == (151, 152)


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    """A clock that the test sets; the records arrive when they are stored."""
    made = Wall()
    monkeypatch.setattr("kcl_receiver.generator.generator_io.wall_millis", lambda: made.millis)
    return made


DAY = 86_400_000


def next_day(made: GeneratorIO, wall: Wall, days: int = 1) -> None:
    """Let another shard store a block on another day, so that the ledger changes."""
    wall.millis += days * DAY
    number = 1000 * (wall.millis // DAY)
    written = made.write_block(WriteBlock(number, (part([number], TRIM_HORIZON, "shardId-other"),)))
    append(made, (BlockRecord(number, written),), {"shardId-other": position(number)})


def end_shard(made: GeneratorIO, last: After, *, known_to_kcl: bool) -> None:
    append(made, (ShardEndRecord("s", SHARD, last, -1),), {SHARD: SHARD_END} if known_to_kcl else {})


def test_a_shard_that_kcl_knows_to_be_ended_keeps_no_ledger_and_is_found_in_it(place: Place, wall: Wall) -> None:
    made = workers(place, wall)
    store(made, 1, [1, 2], TRIM_HORIZON)
    store(made, 2, [3, 4], position(2))
    end_shard(made, position(4), known_to_kcl=True)
    assert made.ranges_in_memory == 0
    next_day(made, wall)
    assert kept(place) == []
    assert held(made, position(2)) == [(3, 4)]
    end(made)
    again = workers(place, wall)
    assert held(again, TRIM_HORIZON) == [(1, 2), (3, 4)]


def test_the_ledger_of_a_shard_that_ended_and_may_begin_again_is_kept_until_it_would_have(
    place: Place, wall: Wall
) -> None:
    made = workers(place, wall)
    first = made.writer
    store(made, 1, [1, 2], TRIM_HORIZON)
    end_shard(made, position(2), known_to_kcl=False)
    end(made)  # killed before KCL took SHARD_END, or after it: nobody knows
    wall.millis += 60_000
    again = workers(place, wall)
    assert kept(place) == [first]
    next_day(again, wall)
    assert kept(place) == []


def test_the_ledger_of_a_shard_that_began_again_after_its_end_is_kept(place: Place, wall: Wall) -> None:
    made = workers(place, wall)
    first = made.writer
    store(made, 1, [1, 2], TRIM_HORIZON)
    end_shard(made, position(2), known_to_kcl=False)
    end(made)
    wall.millis += 60_000
    again = workers(place, wall)
    assert held(again, TRIM_HORIZON) == [(1, 2)]
    next_day(again, wall)
    assert kept(place) == [first]


def test_a_ledger_of_which_the_stream_holds_nothing_any_more_is_not_kept(place: Place, wall: Wall) -> None:
    made = workers(place, wall)
    first = made.writer
    store(made, 1, [1, 2], TRIM_HORIZON)
    store(made, 2, [3, 4], position(2))
    next_day(made, wall, 3)  # of retention it is one day, and two are spared
    assert kept(place) == [first]
    next_day(made, wall)
    assert kept(place) == []
    assert held(made, position(2)) == [(3, 4)]


def test_of_an_ended_shard_that_the_stream_cannot_hold_any_more_nothing_is_left(place: Place, wall: Wall) -> None:
    made = workers(place, wall)
    store(made, 1, [1, 2], TRIM_HORIZON)
    end_shard(made, position(2), known_to_kcl=True)
    next_day(made, wall)
    assert SHARD in StoreLog(place()).newest().state.forgotten
    next_day(made, wall, 4)
    next_day(made, wall)
    assert SHARD not in StoreLog(place()).newest().state.forgotten


def test_a_clock_that_is_set_back_over_midnight_ends_no_ledger(place: Place, wall: Wall) -> None:
    made = workers(place, wall)
    next_day(made, wall)
    begun = len(wall.writers)
    wall.millis -= DAY
    for number in range(1, 5):
        store(made, number, [2 * number - 1, 2 * number], position(2 * number - 2))
    assert len(wall.writers) == begun


# A lease that was set back does not hold up the others


def test_other_shards_are_stored_while_it_is_looked_up_what_a_shard_has_stored(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = workers(place)
    store(made, 1, [1, 2], TRIM_HORIZON)
    store(made, 2, [3, 4], position(2), checkpoint=position(4))
    real, stored = made._store.has_block, []

    def meanwhile(block: str) -> bool:
        if not stored:
            written = made.write_block(WriteBlock(9, (part([9], TRIM_HORIZON, "shardId-other"),)))
            other = threading.Thread(target=made.append, args=(Append((BlockRecord(9, written),)), {}), daemon=True)
            stored.append(other)
            other.start()
            other.join(30)
            assert not other.is_alive(), "storing waits for the look-up"
        return real(block)

    for after in (position(4), TRIM_HORIZON):  # known in memory, and from the ledgers
        stored.clear()
        monkeypatch.setattr(made._store, "has_block", meanwhile)
        held(made, after)
        monkeypatch.setattr(made._store, "has_block", real)
    assert held(made, TRIM_HORIZON) == [(1, 2), (3, 4)]


def test_a_lease_that_was_set_back_far_is_told_what_is_held_as_delivery_advances(place: Place) -> None:
    made = workers(place, page=2)
    for number in range(1, 6):
        store(made, number, [2 * number - 1, 2 * number], position(2 * number - 2), checkpoint=position(2 * number))
    facts = made.look_up(LookUp("s2", SHARD, position(0)))
    assert ([one.first for one in facts.held], facts.known_to) == ([position(1), position(3)], position(5))
    further = made.look_further(LookFurther("s2", SHARD, facts.more))
    assert ([one.first for one in further.held], further.known_to) == ([position(5), position(7)], position(9))
    last = made.look_further(LookFurther("s2", SHARD, further.more))
    assert ([one.first for one in last.held], last.known_to, last.more) == ([position(9)], None, None)


def test_the_stream_is_asked_again_when_the_first_records_after_a_starting_point_come(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = workers(place, page=1)
    store(made, 1, [1, 2], TRIM_HORIZON)
    store(made, 2, [3, 4], position(2), checkpoint=position(4))
    facts = made.look_up(LookUp("s2", SHARD, TRIM_HORIZON))
    assert facts.known_to is not None
    assert facts.known_to < position(1)
    confirmed = made.look_further(LookFurther("s2", SHARD, facts.more))
    assert ([one.first for one in (*facts.held, *confirmed.held)], confirmed.known_to) == ([position(1)], position(3))

    def replaced(_: QuietStream, _expected: StreamIdentity | None) -> StreamIdentity:
        raise StreamReplaced("it was made again")

    monkeypatch.setattr(QuietStream, "describe", replaced)
    with pytest.raises(StreamReplaced):
        made.look_further(LookFurther("s2", SHARD, facts.more))


def test_what_a_start_reads_does_not_grow_with_the_starts_before(place: Place, wall: Wall) -> None:
    made = workers(place, wall)
    for number in range(1, 21):
        store(made, number, [2 * number - 1, 2 * number], position(2 * number - 2))
    counts = []
    for last in range(40, 48, 2):
        end(made)
        wall.millis += 1000
        made = workers(place, wall)
        counts.append(len(kept(place)))
        facts = made.look_up(LookUp("s", SHARD, position(last)))
        append(made, (SessionRecord("s", SHARD, last, position(last), facts, -1),), {})
        store(made, last, [last + 1, last + 2], position(last))
    assert counts == [1, 1, 1, 1]
    assert held(made, position(40)) == [(41, 42), (43, 44), (45, 46), (47, 48)]


def test_starts_that_store_nothing_add_nothing_to_what_the_next_one_reads(place: Place, wall: Wall) -> None:
    made = workers(place, wall)
    store(made, 1, [1, 2], TRIM_HORIZON)
    first = made.writer
    for _ in range(5):
        end(made)  # again and again before a session begins: the daemon does not start
        wall.millis += 1000
        last, made = made.writer, workers(place, wall)
        assert kept(place) == sorted({first, last})
    assert held(made, TRIM_HORIZON) == [(1, 2)]
