"""A store, a ledger or a stream that fails: nothing is reported, nothing is dropped, and there is a limit."""

from __future__ import annotations

import pytest
from generator_harness import START, Harness

from kcl_receiver.errors import BlockDamaged, ReceiverError, StoreRefused, StoreUnavailable, StreamUnavailable
from kcl_receiver.generator.effects import Append, BlockRecord, ConfirmShardEnd, LookUp, SessionRecord, WriteBlock
from kcl_receiver.ranges import Position

AWAY = StoreUnavailable("disk full", "make room")
DAMAGED = BlockDamaged("checksum")


def failing(h: Harness) -> str | None:
    trouble = h.core.status(h.now).failing
    return None if trouble is None else f"{trouble.error}: {trouble.message}\nHint: {trouble.hint}"


def test_a_block_that_was_not_written_is_written_again_with_the_same_number_and_parts() -> None:
    h = Harness()
    p = h.open()
    p.batch(5)
    h.cut()
    first = h.write(error=AWAY)
    p.batch(6)
    assert h.waiting(WriteBlock) == []
    h.to_deadline()
    (again,) = h.waiting(WriteBlock)
    assert again is first
    assert p.stored == 0
    h.store()
    assert p.stored == 1


def test_a_block_that_cannot_be_written_for_long_stops_the_generator_at_the_limit_and_not_before() -> None:
    h = Harness(store_timeout=30.0)
    p = h.open()
    p.batch(5)
    h.cut()
    began = h.now
    while h.stop is None:
        h.write(error=AWAY)
        if h.stop is None:
            assert h.now < began + 30.0
            h.to_deadline()
    assert h.stop.error is AWAY
    assert h.now == began + 30.0
    assert p.stored == 0


def test_a_store_that_comes_back_has_the_whole_limit_before_it_again() -> None:
    h = Harness(store_timeout=30.0)
    p = h.open()
    for place in (5, 6):
        p.batch(place)
        h.cut()
        h.write(error=AWAY)
        h.advance(29.0)
        h.write(error=AWAY)
        h.to_deadline()
        h.store()
    assert h.stop is None
    assert p.stored == 2


def test_while_the_store_is_away_windows_fill_and_nothing_is_dropped() -> None:
    h = Harness(window_bytes=1)
    p = h.open()
    p.batch(5)
    h.cut()
    p.batch(6)
    for _ in range(5):
        h.write(error=AWAY)
        h.to_deadline()
    assert (p.admitted, p.stored) == ([1], 0)
    h.store()
    h.cut()
    h.store()
    assert h.block_rows() == [[Position(5)], [Position(6)]]


def test_a_block_that_waits_to_be_written_again_does_not_hold_up_the_others() -> None:
    h = Harness()
    p, q = h.open("shard-0"), h.open("shard-1")
    p.batch(5)
    h.cut()
    q.batch(6)
    h.cut()
    h.write(1, error=AWAY)
    h.write(2)
    h.append()
    assert (p.stored, q.stored) == (0, 1)


def test_what_succeeds_elsewhere_does_not_cancel_what_is_to_be_tried_again() -> None:
    h = Harness()
    p, q = h.open("shard-0"), h.open("shard-1")
    for one in (p, q):
        one.batch(5)
        one.flush()
    h.write(1, error=AWAY)
    h.write(2)
    h.append()
    assert failing(h) == str(AWAY)
    h.to_deadline()
    assert [block.number for block in h.waiting(WriteBlock)] == [1]
    h.store()
    for one in (p, q):
        one.shard_end()
    h.confirm(StreamUnavailable("throttled"))
    h.confirm()
    h.to_deadline()
    assert [effect.shard for effect in h.waiting(ConfirmShardEnd)] == ["shard-0"]
    for shard in ("shard-2", "shard-3"):
        h.processor(shard).hello()
    h.look_up(StreamUnavailable("throttled"))
    h.look_up()
    h.to_deadline()
    assert [effect.shard for effect in h.waiting(LookUp)] == ["shard-2"]


@pytest.mark.parametrize("error", [DAMAGED, StoreRefused("another application")])
def test_an_error_that_does_not_mend_stops_at_once(error: ReceiverError) -> None:
    h = Harness()
    p = h.open()
    p.batch(5)
    h.cut()
    h.write(error=error)
    assert h.stop is not None
    assert h.stop.error is error
    assert h.nothing_is_due


def test_after_the_stop_nothing_more_is_asked() -> None:
    h = Harness()
    p, q = h.open("shard-0"), h.open("shard-1")
    p.batch(5)
    h.cut()
    q.batch(6)
    h.cut()
    q.batch(7)
    h.cut()
    h.write(3, error=AWAY)
    h.write(1, error=DAMAGED)
    h.write(2, error=DAMAGED)  # the harness refuses whatever is asked after Stop
    assert h.nothing_is_due
    h.advance(60)
    q.batch(8)
    q.flush()
    q.leave()
    h.drain()
    h.disconnect(p.connection)
    h.disconnect(q.connection)
    assert h.nothing_is_due


def test_a_ledger_that_was_not_written_gets_the_very_same_entries_before_any_other() -> None:
    h = Harness()
    p = h.open()
    p.batch(5)
    h.cut()
    h.write()
    first = h.append(error=AWAY)
    p.batch(6)
    p.flush()
    h.write()
    assert h.waiting(Append) == []
    h.to_deadline()
    (again,) = h.waiting(Append)
    # The very same object: the driver made bytes of it, and the outcome of the first try is unknown.
    assert again.records is first.records
    assert p.stored == 0
    h.append()
    assert p.stored == 1
    (after,) = h.waiting(Append)
    assert [record.number for record in after.records if isinstance(record, BlockRecord)] == [2]


def test_entries_that_wait_share_the_next_append() -> None:
    h = Harness()
    p, q = h.open("shard-0"), h.open("shard-1")
    p.batch(5)
    h.cut()
    h.write()
    for place in (6, 7):
        q.batch(place)
        h.cut()
    h.processor("shard-2").hello()
    h.write(3)
    h.look_up()
    h.write(2)
    assert len(h.waiting(Append)) == 1
    h.append()
    assert (p.stored, q.stored) == (1, 0)
    (append,) = h.waiting(Append)
    assert [type(record) for record in append.records] == [BlockRecord, SessionRecord, BlockRecord]
    h.append()
    assert q.stored == 2
    assert h.block_entries() == [1, 3, 2]
    assert h.waiting(Append) == []


@pytest.mark.parametrize("mends", [True, False])
def test_a_ledger_that_cannot_be_written_stops_the_generator(mends: bool) -> None:
    h = Harness(store_timeout=30.0)
    p = h.open()
    p.batch(5)
    h.cut()
    h.write()
    began = h.now
    error = AWAY if mends else StoreRefused("another application")
    while h.stop is None:
        h.append(error=error)
        if h.stop is None:
            h.to_deadline()
    assert h.stop.error is error
    assert h.now == began + (30.0 if mends else 0.0)
    assert p.stored == 0


def test_the_status_says_what_fails_until_it_mends() -> None:
    h = Harness()
    p = h.open()
    p.batch(5)
    h.cut()
    h.write(error=AWAY)
    assert failing(h) == "StoreUnavailable: disk full\nHint: make room"
    h.to_deadline()
    h.write()
    assert failing(h) is None
    h.append(error=AWAY)
    assert failing(h) == str(AWAY)
    began = h.now
    while h.now < began + 1:
        h.to_deadline()
        h.append(error=AWAY)
    trouble = h.core.status(h.now).failing
    assert trouble is not None
    assert trouble.seconds == pytest.approx(h.now - began, abs=0.001)
    h.to_deadline()
    h.append()
    assert failing(h) is None


def test_blocks_of_a_session_that_left_are_tried_again_like_any_other() -> None:
    h = Harness()
    p = h.open()
    p.batch(5)
    h.cut()
    h.write(error=AWAY)
    p.leave()
    h.disconnect(p.connection)
    h.to_deadline()
    h.store()
    assert h.block_entries() == [1]
    assert h.now < START + 60
