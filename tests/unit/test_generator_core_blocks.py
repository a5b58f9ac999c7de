"""What is admitted, when a block is cut, what is in it, and when it is reported as stored."""

from __future__ import annotations

import msgspec
import pytest
from generator_harness import SERVICE_START, START, Harness, Processor, position, received

from kcl_receiver.errors import StoreUnavailable
from kcl_receiver.generator.effects import Append, WriteBlock
from kcl_receiver.ranges import Position
from kcl_receiver.wire.columns import checksum
from kcl_receiver.wire.messages import Admitted, Progress, Stored

BATCH = received(1, "TRIM_HORIZON", [5]).columns.memory
"""Bytes of a batch of one record with the harness's usual key and data."""


def at(*places: int) -> list[Position]:
    return [position(place) for place in places]


def writing(h: Harness) -> list[int]:
    """Return the numbers of the blocks that are being written."""
    return [block.number for block in h.waiting(WriteBlock)]


# ---------------------------------------------------------------------- rule 1: reported only when durable


def test_a_batch_is_reported_only_after_its_block_and_its_ledger_entry_are_durable() -> None:
    h = Harness()
    p = h.open()
    p.batch(5)
    assert (p.admitted, p.stored) == ([1], 0)
    h.cut()
    assert p.stored == 0
    h.write()
    assert p.stored == 0
    h.append()
    assert p.stored == 1


def test_a_ledger_entry_is_asked_for_only_after_its_block_is_durable() -> None:
    h = Harness()
    p = h.open()
    p.batch(5)
    h.cut()
    assert h.waiting(Append) == []
    block = h.write()
    (append,) = h.waiting(Append)
    (record,) = append.records
    assert record.number == block.number  # type: ignore[union-attr]


def test_blocks_that_finish_out_of_order_are_reported_as_a_contiguous_prefix() -> None:
    h = Harness()
    p = h.open()
    for place in (5, 6, 7):
        p.batch(place)
        h.cut()
    h.write(3)
    h.append()
    h.write(2)
    h.append()
    assert p.stored == 0
    h.write(1)
    h.append()
    assert p.stored == 3
    assert [message.number for message in p.of(Stored)] == [0, 3]


def test_each_session_is_told_of_its_own_batches_alone() -> None:
    h = Harness()
    p, q = h.open("shard-0"), h.open("shard-1")
    p.batch(5)
    q.batch(6)
    p.batch(7)
    h.cut()
    q.batch(8)
    h.cut()
    h.write(1)
    h.append()
    assert (p.stored, q.stored) == (2, 1)


def test_a_session_with_several_batches_in_a_block_is_told_once() -> None:
    h = Harness()
    p = h.open()
    for place in (5, 6, 7):
        p.batch(place)
    h.cut()
    h.store()
    assert p.of(Stored) == [Stored(0), Stored(3)]


def test_what_was_reported_is_not_reported_again() -> None:
    h = Harness()
    p = h.open()
    for place in (5, 6):
        p.batch(place)
        h.cut()
        h.store()
    p.batch(7)
    assert p.of(Stored) == [Stored(0), Stored(1), Stored(2)]


# ---------------------------------------------------------------------- cutting


def test_a_block_is_cut_when_its_first_batch_is_as_old_as_the_interval() -> None:
    h = Harness(block_interval=2.0)
    p = h.open()
    p.batch(5)
    h.advance(1.5)
    p.batch(6)
    assert h.core.deadline() == START + 2.0
    h.advance(0.4)
    assert writing(h) == []
    h.to_deadline()
    assert writing(h) == [1]
    h.store()
    assert h.block_rows() == [at(5, 6)]


def test_intervals_follow_each_other_while_records_flow_and_begin_anew_after_a_pause() -> None:
    """Blocks are as many as intervals, whether one shard delivers now and then or sixty-four all the time."""
    h = Harness(block_interval=2.0)
    p = h.open()
    p.batch(5)
    h.to_deadline()
    h.advance(0.75)
    p.batch(6)
    assert h.core.deadline() == START + 4.0
    h.to_deadline()
    assert writing(h) == [1, 2]
    h.advance(2.5)
    p.batch(7)
    assert h.core.deadline() == START + 8.5


def test_a_later_event_cuts_an_overdue_block_even_without_a_tick() -> None:
    h = Harness(block_interval=2.0)
    p = h.open()
    p.batch(5)
    h.now += 5
    p.batch(6)
    h.store()
    assert h.block_rows() == [at(5, 6)]


def test_a_block_is_cut_as_soon_as_it_is_full() -> None:
    h = Harness(block_max_bytes=2 * BATCH)
    p = h.open()
    p.batch(5)
    assert writing(h) == []
    p.batch(6)
    assert writing(h) == [1]


def test_a_batch_that_does_not_fit_is_wholly_in_the_next_block() -> None:
    h = Harness(block_max_bytes=2 * BATCH)
    p = h.open()
    p.batch(5)
    p.batch(6, 7, 8)
    assert writing(h) == [1, 2]
    h.store()
    assert h.block_rows() == [at(5), at(6, 7, 8)]


def test_a_batch_larger_than_a_block_has_a_block_of_its_own() -> None:
    h = Harness(block_max_bytes=BATCH)
    p = h.open()
    p.batch(5, 6, 7, 8)
    assert writing(h) == [1]
    h.store()
    assert h.block_rows() == [at(5, 6, 7, 8)]
    assert p.stored == 1


def test_no_block_is_cut_for_an_empty_interval() -> None:
    h = Harness()
    p = h.open()
    assert h.nothing_is_due
    for _ in range(5):
        h.cut()
    p.flush()
    assert h.asked == []
    p.batch(5)
    h.cut()
    h.store()
    for _ in range(5):
        h.cut()
    assert len(h.blocks) == 1


def test_a_flush_cuts_at_once() -> None:
    h = Harness()
    p = h.open()
    p.batch(5)
    p.flush()
    assert writing(h) == [1]
    assert h.nothing_is_due


def test_a_flush_of_a_session_that_has_nothing_in_the_block_does_not_cut() -> None:
    h = Harness()
    p, q = h.open("shard-0"), h.open("shard-1")
    p.batch(5)
    q.flush()
    assert writing(h) == []
    p.batch(6)
    assert writing(h) == []


def test_a_flush_is_used_up_by_its_cut() -> None:
    h = Harness()
    p = h.open()
    p.batch(5)
    p.flush()
    p.batch(6)
    assert writing(h) == [1]


def test_a_flush_ends_with_what_it_was_for() -> None:
    h = Harness(max_in_flight=1)
    p, q = h.open("shard-0"), h.open("shard-1")
    q.batch(5)
    q.flush()
    p.batch(6)
    p.flush()
    p.leave()
    h.store()
    q.batch(7)
    assert writing(h) == []


def test_a_flush_that_must_wait_for_its_turn_cuts_when_it_comes() -> None:
    h = Harness(max_in_flight=1)
    p = h.open()
    p.batch(5)
    p.flush()
    p.batch(6)
    p.flush()
    assert writing(h) == [1]
    h.write()
    h.append()
    assert writing(h) == [2]


def test_batches_of_all_shards_share_a_block_in_the_order_of_their_admission() -> None:
    h = Harness()
    p, q = h.open("shard-1"), h.open("shard-0")
    p.batch(5)
    q.batch(3, 4)
    p.batch(6)
    h.cut()
    (block,) = h.waiting(WriteBlock)
    assert [(part.range.shard, part.range.first.sequence_number) for part in block.parts] == [
        ("shard-1", 5),
        ("shard-0", 3),
        ("shard-1", 6),
    ]


def test_blocks_are_numbered_from_1_without_gaps() -> None:
    h = Harness()
    p = h.open()
    for place in (5, 6, 7):
        p.batch(place)
        p.flush()
    assert writing(h) == [1, 2, 3]


def test_the_range_says_what_the_batch_said() -> None:
    h = Harness()
    p = h.open(after=Position(3))
    sent = p.batch(5, (6, 0), (6, 1), whole=5)
    h.cut()
    (block,) = h.waiting(WriteBlock)
    (part,) = block.parts
    assert part.columns is sent.columns
    told = part.range
    assert (told.shard, told.session, told.after) == ("shard-0", p.session, Position(3))
    assert (told.first, told.last, told.whole) == (Position(5), Position(6, 1), Position(5))
    assert (told.count, told.size) == (3, sent.columns.size)
    assert (told.arrival_first, told.arrival_last) == (SERVICE_START - 995, SERVICE_START - 994)
    assert told.checksum == sent.message.checksum == checksum(part.columns)
    assert (told.first_row, told.delivered) == (-1, SERVICE_START)


# ---------------------------------------------------------------------- the window


def test_a_full_window_makes_the_next_batch_wait_until_enough_is_stored() -> None:
    h = Harness(window_bytes=2 * BATCH)
    p = h.open()
    p.batch(5)
    p.batch(6)
    p.batch(7)
    assert p.admitted == [1, 2]
    h.cut()
    h.write()
    assert p.admitted == [1, 2]
    h.append()
    assert p.admitted == [1, 2, 3]


def test_a_block_that_holds_half_a_window_is_cut_before_its_time() -> None:
    """Or its processor would stand still while the other half is stored, and pass one window in each interval."""
    h = Harness(window_bytes=4 * BATCH)
    p, q = h.open("shard-0"), h.open("shard-1")
    p.batch(5)
    q.batch(6)
    assert h.waiting(WriteBlock) == []
    p.batch(7)
    [block] = h.waiting(WriteBlock)
    assert [part.range.shard for part in block.parts] == ["shard-0", "shard-1", "shard-0"]
    q.batch(8)  # of this window, less than a half is in the next block
    assert len(h.waiting(WriteBlock)) == 1


def test_a_block_is_cut_before_its_time_if_a_batch_does_not_fit_beside_less_than_half_a_window() -> None:
    h = Harness(window_bytes=3 * BATCH)
    p = h.open()
    p.batch(5)
    assert h.waiting(WriteBlock) == []
    p.batch(6, 7, 8)
    assert p.admitted == [1]
    assert len(h.waiting(WriteBlock)) == 1


def test_a_window_is_filled_to_its_last_byte() -> None:
    for short in (0, 1):
        p = Harness(window_bytes=2 * BATCH - short).open()
        p.batch(5)
        p.batch(6)
        assert p.admitted == ([1] if short else [1, 2])


def test_a_batch_larger_than_the_window_is_admitted_alone() -> None:
    h = Harness(window_bytes=BATCH)
    p = h.open()
    p.batch(5, 6, 7)
    assert p.admitted == [1]
    p.batch(8)
    assert p.admitted == [1]
    h.cut()
    h.store()
    assert p.admitted == [1, 2]


def test_a_batch_larger_than_the_window_waits_until_the_window_is_empty() -> None:
    h = Harness(window_bytes=2 * BATCH)
    p = h.open()
    p.batch(5)
    h.cut()
    p.batch(6)
    h.cut()
    p.batch(7, 8, 9)
    h.write(1)
    h.append()
    assert p.admitted == [1, 2]
    h.write(2)
    h.append()
    assert p.admitted == [1, 2, 3]


def test_what_is_stored_behind_a_gap_frees_the_window() -> None:
    h = Harness(window_bytes=2 * BATCH)
    p = h.open()
    for place in (5, 6, 7):
        p.batch(place)
        h.cut()
    h.write(2)
    h.append()
    assert (p.stored, p.admitted) == (0, [1, 2, 3])


def test_a_window_is_of_one_shard() -> None:
    h = Harness(window_bytes=BATCH)
    p, q = h.open("shard-0"), h.open("shard-1")
    p.batch(5)
    p.batch(6)
    q.batch(7)
    assert (p.admitted, q.admitted) == ([1], [1])


def test_a_new_session_does_not_open_a_second_window_of_its_shard() -> None:
    h = Harness(window_bytes=BATCH)
    old = h.open(rank=1)
    old.batch(5)
    h.cut()
    young = h.processor(rank=2)
    young.hello()
    assert young.heard == []
    h.store()
    h.look_up()
    h.store()
    young.batch(5)
    assert young.admitted == [1]


# ---------------------------------------------------------------------- bounds when the store is slow


def slow(h: Harness, p: Processor, blocks: int) -> None:
    """Fill the store's hands."""
    for place in range(5, 5 + blocks):
        p.batch(place)
        p.flush()


def test_no_more_than_so_many_blocks_are_on_their_way() -> None:
    h = Harness(max_in_flight=2)
    p = h.open()
    slow(h, p, 2)
    p.batch(50)
    h.cut()
    assert writing(h) == [1, 2]
    assert h.nothing_is_due
    h.write()
    assert writing(h) == [2]
    h.append()
    assert writing(h) == [2, 3]


def test_a_ledger_gives_way_once_no_block_is_on_its_way() -> None:
    h = Harness()
    p = h.open()
    slow(h, p, 2)
    h.write()
    h.ledger_is_due = True
    h.append()
    p.batch(50)
    p.flush()
    assert (writing(h), h.waiting(Append)) == ([2], [])
    h.write()
    assert h.append().records
    assert h.waiting(Append) == [Append(())]
    h.append(StoreUnavailable("disk full"))
    h.advance(60)
    h.ledger_is_due = False
    assert h.append() == Append(())
    assert writing(h) == [3]


def test_a_full_builder_that_may_not_be_cut_makes_batches_wait() -> None:
    h = Harness(max_in_flight=1, block_max_bytes=2 * BATCH)
    p, q = h.open("shard-0"), h.open("shard-1")
    slow(h, p, 1)
    p.batch(6)
    q.batch(6)
    p.batch(7)
    q.batch(7)
    assert (p.admitted, q.admitted) == ([1, 2], [1])
    assert h.core.status(h.now).building_bytes == 2 * BATCH
    h.write()
    h.append()
    assert writing(h) == [2]
    assert (p.admitted, q.admitted) == ([1, 2, 3], [1, 2])


def test_batches_that_waited_for_the_builder_are_admitted_in_the_order_in_which_they_came() -> None:
    h = Harness(max_in_flight=1, block_max_bytes=BATCH)
    p, q, r = h.open("shard-0"), h.open("shard-1"), h.open("shard-2")
    slow(h, r, 1)
    r.batch(40)
    q.batch(50)
    p.batch(60)
    h.store()
    h.cut()
    h.store()
    assert h.block_rows() == [at(5), at(40), at(50), at(60)]


def test_a_large_batch_that_waits_for_the_builder_is_not_starved_by_small_ones() -> None:
    h = Harness(max_in_flight=1, block_max_bytes=3 * BATCH)
    p, q = h.open("shard-0"), h.open("shard-1")
    slow(h, p, 1)
    p.batch(6)
    p.batch(7, 8, 9)
    q.batch(6)
    q.batch(7)
    assert (p.admitted, q.admitted) == ([1, 2], [1, 2])
    q.batch(8)
    assert q.admitted == [1, 2]
    h.write()
    h.append()
    assert p.admitted == [1, 2, 3]


def test_a_batch_too_large_for_the_builder_is_admitted_to_an_empty_one_while_the_store_is_slow() -> None:
    h = Harness(max_in_flight=1, block_max_bytes=BATCH)
    p = h.open()
    slow(h, p, 1)
    p.batch(50, 51, 52)
    assert p.admitted == [1, 2]


@pytest.mark.parametrize("answers", ["write", "append"])
def test_a_block_is_on_its_way_until_its_ledger_entry_is_durable(answers: str) -> None:
    h = Harness(max_in_flight=1)
    p = h.open()
    slow(h, p, 1)
    p.batch(50)
    p.flush()
    h.write()
    if answers == "append":
        h.append()
    assert writing(h) == ([2] if answers == "append" else [])


def test_admission_says_nothing_of_storing() -> None:
    h = Harness()
    p = h.open()
    p.batch(5)
    assert p.heard[-1] == Admitted(1)


# ---------------------------------------------------------------------- the status


def test_the_status_shows_where_everything_is() -> None:
    h = Harness()
    p = h.open(after=Position(3))
    p.batch(5)
    h.cut()
    h.store()
    p.batch(6)
    p.flush()
    p.batch(7, 8)
    h.now += 0.25
    h.do(h.core.progress(p.connection, Progress(1234, "5:0"), h.now))
    h.now += 2
    status = msgspec.to_builtins(h.core.status(h.now))
    shard = status.pop("shards")
    building = p.sent[3].columns.memory
    assert status == {
        "application": "landing",
        "writer": "writer-1",
        "draining": False,
        "failing": None,
        "silent_after": 30.0,
        "blocks_stored": 1,
        "records_stored": 1,
        "bytes_stored": 1,
        "records_skipped": 0,
        "blocks_in_flight": 1,
        "building_bytes": building,
        "building_seconds": 2.25,
        "window_bytes": 32 * 1024 * 1024,
    }
    assert list(shard) == [
        {
            "shard": "shard-0",
            "session": p.session,
            "state": "open",
            "problem": None,
            "pid": 1,
            "connected": True,
            "spoke_seconds": 2.0,
            "records": 1,
            "delivered": "8:0",
            "stored_through": "5:0",
            "checkpoint": "5:0",
            "behind_millis": 1234,
            "behind_seconds": 2.0,
            "window_used": BATCH + building,
            "waiting": False,
            "shard_end": False,
            "read_until": -1,
            "possibly_trimmed": None,
            "possibly_trimmed_links": 0,
        }
    ]


def test_the_status_shows_who_waits_and_who_is_away() -> None:
    h = Harness(window_bytes=BATCH)
    p = h.open()
    p.batch(5)
    p.batch(6)
    assert h.core.status(h.now).shards[0].waiting
    p.vanish()
    (shard,) = h.core.status(h.now).shards
    assert not shard.waiting
    assert not shard.connected
    assert shard.behind_millis == 7


def test_the_status_of_a_session_that_has_got_nothing_yet_guesses_nothing() -> None:
    h = Harness()
    h.open()
    (shard,) = h.core.status(h.now).shards
    assert [shard.delivered, shard.stored_through, shard.checkpoint, shard.behind_seconds] == [None] * 4
    assert (shard.behind_millis, shard.records, shard.window_used) == (-1, 0, 0)


def test_the_status_shows_what_a_session_waits_for() -> None:
    h = Harness()
    old = h.open(rank=1)
    old.batch(5)
    h.cut()

    def state() -> str:
        return h.core.status(h.now).shards[0].state

    assert state() == "open"
    young = h.processor(rank=2)
    young.hello()
    assert state() == "waiting"
    h.store()
    assert state() == "looking"
    h.look_up()
    assert state() == "recording"
    h.store()
    assert state() == "open"
    young.leave()
    assert state() == "closed"


def test_everything_that_a_processor_says_shows_that_it_is_called() -> None:
    h = Harness()
    p = h.open()

    def silent() -> float:
        h.now += 1
        return h.core.status(h.now).shards[0].spoke_seconds

    assert silent() == 1
    h.do(h.core.progress(p.connection, Progress(0, None), h.now))
    assert silent() == 1
    p.batch(5)
    assert silent() == 1
    p.flush()
    assert silent() == 1
    h.store()
    assert silent() == 2  # what we say does not count
    p.vanish()
    assert silent() == 3


def test_progress_from_nobody_is_ignored() -> None:
    h = Harness()
    assert h.core.progress(99, Progress(1, None), h.now) == []
    assert h.core.progress(h.connect(), Progress(1, None), h.now) == []
