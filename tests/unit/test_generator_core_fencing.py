"""Resuming, fencing and leaving: who may still send, and what becomes of what was sent."""

from __future__ import annotations

import pytest
from generator_harness import Harness, facts, held_range

from kcl_receiver.generator.effects import Append, LookUp, WriteBlock
from kcl_receiver.ranges import Position
from kcl_receiver.wire.messages import Stored

# ---------------------------------------------------------------------- resuming


def test_the_same_session_may_come_back_and_keeps_its_place() -> None:
    h = Harness()
    p = h.open()
    p.batch(5)
    p.batch(6)
    p.vanish()
    h.cut()
    h.store()
    p.reconnect(next_number=1)
    assert p.refused is None
    assert p.welcome is not None
    assert p.welcome.next_number == 3
    assert p.heard == [p.welcome, Stored(2)]
    assert h.waiting(LookUp) == []
    p.batch(7)
    assert p.admitted == [3]


def test_what_was_admitted_of_a_vanished_processor_is_stored() -> None:
    h = Harness()
    p = h.open()
    p.batch(5)
    p.vanish()
    h.cut()
    h.store()
    assert h.block_rows() == [[Position(5)]]


def test_a_batch_sent_again_after_reconnecting_is_admitted_again_and_stored_once() -> None:
    h = Harness()
    p = h.open()
    sent = p.batch(5)
    p.vanish()
    p.reconnect()
    p.give(sent)
    assert p.admitted == [1]
    h.cut()
    h.store()
    assert h.block_rows() == [[Position(5)]]
    assert p.stored == 1


def test_a_batch_that_waited_when_its_connection_broke_is_not_admitted_until_it_is_sent_again() -> None:
    h = Harness(window_bytes=10)
    p = h.open()
    p.batch(5)
    waiting = p.batch(6)
    h.cut()
    p.vanish()
    h.store()
    assert h.block_rows() == [[Position(5)]]
    p.reconnect(next_number=2)
    welcome = p.welcome
    assert welcome is not None
    assert welcome.next_number == 2
    p.give(waiting)
    h.cut()
    h.store()
    assert h.block_rows() == [[Position(5)], [Position(6)]]
    assert p.stored == 2


def test_a_batch_that_waited_and_was_sent_again_is_stored_once() -> None:
    h = Harness(window_bytes=10)
    p = h.open()
    p.batch(5)
    waiting = p.batch(6)
    p.vanish()
    p.reconnect(next_number=1)
    p.give(waiting)
    assert p.admitted == []
    h.cut()
    h.store()
    assert p.admitted == [2]
    h.cut()
    h.store()
    assert h.block_rows() == [[Position(5)], [Position(6)]]


def test_a_session_on_a_new_connection_replaces_its_old_one() -> None:
    h = Harness()
    p = h.open()
    before = p.connection
    p.reconnect()
    assert h.closed == [before]
    h.disconnect(before)
    p.batch(5)
    assert p.admitted == [1]


def test_a_session_may_come_back_only_as_what_it_was() -> None:
    h = Harness()
    p = h.open()
    for changes in ({"rank": 2}, {"shard": "shard-9"}):
        p.connection = h.connect()
        p.hello(**changes)
        assert p.refused is not None
        assert "came before with another shard or rank" in p.refused.message


@pytest.mark.parametrize("number", [1, 3, 6, 7])
def test_a_session_comes_back_with_a_batch_that_is_neither_lost_nor_stored_long_ago(number: int) -> None:
    h = Harness()
    p = h.open(number=3)
    p.batch(5)
    p.batch(6)
    p.batch(7)
    p.reconnect(next_number=number)
    if number in (3, 6):
        assert p.welcome is not None
        assert p.welcome.next_number == 6
    else:
        assert p.refused is not None
        assert f"batch {number} is announced" in p.refused.message


def test_reports_that_were_missed_while_away_are_in_the_first_words_on_return() -> None:
    h = Harness()
    p = h.open()
    p.batch(5)
    p.batch(6)
    p.vanish()
    h.cut()
    h.store()
    p.reconnect(next_number=1)
    assert p.stored == 2


# ---------------------------------------------------------------------- fencing


def test_a_younger_session_fences_the_older_and_says_why() -> None:
    h = Harness()
    old = h.open(rank=1)
    young = h.open(rank=2)
    assert old.refused is not None
    assert old.refused.error == "Fenced"
    assert "younger session" in old.refused.message
    assert h.closed == [old.connection]
    young.batch(5)
    assert young.admitted == [1]


def test_an_older_session_that_comes_last_is_refused_and_the_younger_goes_on() -> None:
    h = Harness()
    young = h.open(rank=2)
    old = h.processor(rank=1)
    old.hello()
    assert old.refused is not None
    assert old.refused.error == "Fenced"
    assert h.closed == [old.connection]
    assert h.waiting(LookUp) == []
    young.batch(5)
    assert young.admitted == [1]


def test_an_old_session_that_reconnects_last_is_still_the_older_one() -> None:
    h = Harness()
    old = h.open(rank=1)
    old.vanish()
    h.open(rank=2)
    old.reconnect()
    assert old.refused is not None
    assert old.refused.error == "Fenced"


def test_ranks_that_are_equal_are_decided_the_same_way_whoever_comes_first() -> None:
    for first, second in (("a", "b"), ("b", "a")):
        h = Harness()
        h.open(session=first)
        other = h.processor(session=second)
        other.hello()
        assert (other.refused is None) == (second == "b")


def test_fencing_is_of_one_shard_and_leaves_the_others_alone() -> None:
    h = Harness()
    other = h.open("shard-1", rank=1)
    other.batch(5)
    h.open("shard-0", rank=2)
    h.cut()
    h.store()
    assert other.stored == 1


def test_batches_of_a_fenced_session_that_were_not_cut_are_dropped() -> None:
    h = Harness()
    old = h.open(rank=1)
    other = h.open("shard-1")
    old.batch(5)
    other.batch(6)
    h.open(rank=2)
    h.cut()
    h.store()
    assert h.block_rows() == [[Position(6)]]


def test_no_block_is_cut_for_what_was_dropped() -> None:
    h = Harness()
    old = h.open(rank=1)
    old.batch(5)
    h.open(rank=2)
    assert h.nothing_is_due
    h.cut()
    assert h.waiting(WriteBlock) == []


def test_a_batch_of_a_fenced_session_that_waits_is_never_admitted() -> None:
    h = Harness(window_bytes=10)
    old = h.open(rank=1)
    old.batch(5)
    old.batch(6)
    h.cut()
    young = h.processor(rank=2)
    young.hello()
    h.store()
    h.look_up()
    h.store()
    h.cut()
    h.store()
    assert h.block_rows() == [[Position(5)]]


def test_blocks_in_flight_of_a_fenced_session_are_stored_and_counted() -> None:
    h = Harness()
    old = h.open(rank=1)
    old.batch(5)
    h.cut()
    h.processor(rank=2).hello()
    h.store()
    assert h.block_rows() == [[Position(5)]]
    assert h.block_entries() == [1]
    assert h.core.status(h.now).records_stored == 1


def test_a_new_session_is_looked_up_only_when_blocks_of_the_older_are_stored_with_their_entries() -> None:
    h = Harness()
    old = h.open(rank=1)
    old.batch(5)
    h.cut()
    old.batch(6)
    h.cut()
    young = h.processor(rank=2)
    young.hello()
    assert h.waiting(LookUp) == []
    h.write(2)
    h.append()
    assert h.waiting(LookUp) == []
    h.write(1)
    assert h.waiting(LookUp) == []
    h.append()
    h.look_up(facts(held_range("shard-0", 5, 6)))
    h.store()
    young.batch(5, 6, 7)
    h.cut()
    h.store()
    assert h.block_rows() == [[Position(6)], [Position(5)], [Position(7)]]


def test_a_new_session_does_not_wait_for_blocks_of_other_shards() -> None:
    h = Harness()
    other = h.open("shard-1")
    other.batch(5)
    h.cut()
    h.processor().hello()
    assert len(h.waiting(LookUp)) == 1


def test_a_session_that_is_fenced_while_its_start_is_being_recorded_is_not_opened() -> None:
    h = Harness()
    old = h.processor(rank=1)
    old.hello()
    h.look_up()
    young = h.processor(rank=2)
    young.hello()
    h.append()
    assert old.welcome is None
    h.look_up()
    h.store()
    assert young.welcome is not None


def test_a_fenced_session_is_forgotten_when_its_blocks_are_stored_and_not_before() -> None:
    h = Harness()
    old = h.open(rank=1)
    old.batch(5)
    h.cut()
    h.processor(rank=2).hello()
    assert set(h.core._roster.sessions) == {"shard-0.1", "shard-0.2"}
    h.store()
    assert set(h.core._roster.sessions) == {"shard-0.2"}


def test_three_sessions_of_one_shard_leave_the_youngest() -> None:
    h = Harness()
    first, third, second = h.open(rank=1), h.open(rank=3), h.processor(rank=2)
    second.hello()
    assert [one.refused is None for one in (first, second, third)] == [False, False, True]


# ---------------------------------------------------------------------- leaving


def test_leaving_drops_what_is_not_cut_and_hangs_up() -> None:
    h = Harness()
    p = h.open()
    other = h.open("shard-1")
    p.batch(5)
    other.batch(6)
    p.leave()
    assert h.closed == [p.connection]
    assert p.refused is None
    h.cut()
    h.store()
    assert h.block_rows() == [[Position(6)]]


def test_leaving_stores_what_is_cut() -> None:
    h = Harness()
    p = h.open()
    p.batch(5)
    h.cut()
    p.leave()
    h.store()
    assert h.block_rows() == [[Position(5)]]
    assert h.block_entries() == [1]


def test_leaving_before_the_session_is_open_is_no_error_and_ends_it() -> None:
    for answers in range(2):
        h = Harness()
        p = h.processor()
        p.hello()
        if answers:
            h.look_up()
        p.leave()
        assert p.refused is None
        assert h.closed == [p.connection]
        if not answers:
            h.look_up()
        assert len(h.waiting(Append)) == answers
        h.store()
        assert p.heard == []


def test_a_session_that_left_may_not_come_back() -> None:
    h = Harness()
    p = h.open()
    p.leave()
    h.disconnect(p.connection)
    p.reconnect()
    assert p.refused is not None
    assert p.refused.error == "Fenced"
    assert "closed before" in p.refused.message


def test_a_session_older_than_one_that_left_is_refused() -> None:
    h = Harness()
    h.open(rank=2).leave()
    old = h.processor(rank=1)
    old.hello()
    assert old.refused is not None
    assert old.refused.error == "Fenced"


def test_a_shard_may_be_had_again_after_leaving() -> None:
    h = Harness()
    h.open(rank=1).leave()
    again = h.open(rank=2)
    again.batch(5)
    assert again.admitted == [1]
