"""Draining, leaving when nobody is there, and when the next thing is due."""

from __future__ import annotations

import pytest
from generator_harness import START, Harness

from kcl_receiver.errors import StoreUnavailable
from kcl_receiver.generator.effects import WriteBlock
from kcl_receiver.generator.session_registry import HELLO_SECONDS
from kcl_receiver.ranges import Position
from kcl_receiver.wire.messages import Draining, ShardEndConfirmed, Stored, Welcome

AWKWARD = (0.1, 0.3, 1.1, 12345.678901, 4_000_000.3)
"""Times for which (t + d) - t is not d in binary floating point, for one d or another."""

# ---------------------------------------------------------------------- draining


def test_processors_are_told_at_once_that_the_generator_drains() -> None:
    h = Harness()
    p, q = h.open("shard-0"), h.open("shard-1")
    h.drain()
    assert p.draining
    assert q.draining


def test_a_processor_that_waits_for_the_window_is_told_and_its_batch_is_not_stored() -> None:
    h = Harness(window_bytes=10)
    p = h.open()
    p.batch(5)
    p.batch(6)
    h.drain()
    assert p.draining
    h.store()
    assert p.admitted == [1]
    assert h.block_rows() == [[Position(5)]]


def test_a_new_batch_while_draining_is_answered_with_draining() -> None:
    h = Harness()
    p = h.open()
    h.drain()
    p.batch(5)
    assert p.of(Draining) == [Draining(), Draining()]
    assert p.admitted == []


def test_what_is_admitted_is_cut_at_once_stored_and_reported() -> None:
    h = Harness()
    p = h.open()
    p.batch(5)
    h.drain()
    assert len(h.waiting(WriteBlock)) == 1
    h.store()
    assert p.stored == 1
    assert h.stop is None


def test_what_may_not_be_cut_yet_is_cut_when_it_may() -> None:
    h = Harness(max_in_flight=1)
    p = h.open()
    for place in (5, 6):
        p.batch(place)
        p.flush()
    h.drain()
    assert len(h.waiting(WriteBlock)) == 1
    h.store()
    assert p.stored == 2
    assert len(h.blocks) == 2


def test_a_batch_that_was_admitted_before_is_admitted_again_while_draining() -> None:
    h = Harness()
    p = h.open()
    sent = p.batch(5)
    h.drain()
    p.vanish()
    p.reconnect(next_number=1)
    p.give(sent)
    assert p.admitted == [1]


def test_a_drained_generator_stops_when_the_last_processor_is_gone() -> None:
    h = Harness()
    p, q = h.open("shard-0"), h.open("shard-1")
    p.batch(5)
    h.drain()
    h.store()
    h.disconnect(p.connection)
    assert h.stop is None
    h.disconnect(q.connection)
    assert h.stop is not None
    assert h.stop.error is None


def test_a_drained_generator_does_not_stop_before_all_is_stored() -> None:
    h = Harness()
    p = h.open()
    p.batch(5)
    h.drain()
    h.disconnect(p.connection)
    h.advance(h.settings.drain)
    assert h.stop is None
    h.write()
    assert h.stop is None
    h.append()
    assert h.stop is not None
    assert h.stop.error is None


def test_a_drained_generator_does_not_stop_while_the_ledger_is_being_written() -> None:
    h = Harness()
    p = h.processor()
    p.hello()
    h.look_up()
    h.disconnect(p.connection)
    h.drain()
    assert h.stop is None
    h.append()
    assert h.stop is not None


@pytest.mark.parametrize("began", AWKWARD)
def test_a_drained_generator_waits_for_processors_only_so_long(began: float) -> None:
    h = Harness(drain=7.3)
    h.now += began
    h.open()
    h.drain()
    due = h.core.deadline()
    assert due == START + began + 7.3
    h.advance(7.2)
    assert h.stop is None
    h.to_deadline()
    assert h.now == due
    assert h.stop is not None
    assert h.stop.error is None


def test_a_drained_generator_with_nobody_stops_at_once() -> None:
    h = Harness()
    h.drain()
    assert h.stop is not None


def test_one_who_only_watches_does_not_hold_up_the_stop() -> None:
    h = Harness()
    h.core.watched(h.connect())
    h.drain()
    assert h.stop is not None


def test_a_processor_that_asks_for_the_status_is_still_a_processor() -> None:
    h = Harness()
    p = h.open()
    h.core.watched(p.connection)
    h.drain()
    assert h.stop is None


def test_one_who_watched_and_then_says_hello_is_a_processor() -> None:
    h = Harness(idle_exit=5.0)
    p = h.processor()
    h.core.watched(p.connection)
    p.hello()
    h.look_up()
    h.store()
    h.advance(100)
    assert h.stop is None
    h.drain()
    assert h.stop is None


def test_a_second_drain_changes_nothing() -> None:
    h = Harness(drain=7.0)
    p = h.open()
    h.drain()
    h.advance(5.0)
    h.drain()
    assert p.of(Draining) == [Draining()]
    assert h.core.deadline() == START + 7.0


def test_a_session_that_opens_while_draining_is_welcome_and_told() -> None:
    h = Harness()
    h.open("shard-1")
    h.drain()
    p = h.open()
    assert [type(message) for message in p.heard] == [Welcome, Stored, Draining]


def test_a_session_that_is_not_open_yet_is_told_after_its_welcome() -> None:
    h = Harness()
    p = h.processor()
    p.hello()
    h.drain()
    assert p.heard == []
    h.look_up()
    h.store()
    assert [type(message) for message in p.heard] == [Welcome, Stored, Draining]


def test_the_end_of_a_shard_is_still_confirmed_while_draining() -> None:
    h = Harness()
    p = h.open()
    p.batch(5)
    h.drain()
    h.store()
    p.shard_end()
    h.confirm()
    h.append()
    assert p.of(ShardEndConfirmed) == [ShardEndConfirmed()]


def test_a_store_that_fails_while_draining_has_its_whole_limit() -> None:
    h = Harness(store_timeout=60.0, drain=5.0)
    p = h.open()
    p.batch(5)
    h.drain()
    h.disconnect(p.connection)
    while h.stop is None:
        h.write(error=StoreUnavailable("disk full"))
        if h.stop is None:
            h.to_deadline()
    assert h.stop.error is not None
    assert h.now == START + 60.0


# ---------------------------------------------------------------------- leaving when nobody is there


@pytest.mark.parametrize("wait", [7.3, 0.7, 60.1])
@pytest.mark.parametrize("began", AWKWARD)
def test_a_generator_that_nobody_uses_leaves_after_its_time(began: float, wait: float) -> None:
    h = Harness(idle_exit=wait)
    p = h.open()
    h.now += began
    h.disconnect(p.connection)
    due = h.core.deadline()
    assert due == START + began + wait
    h.advance(wait * 0.9)
    assert h.stop is None
    h.to_deadline()
    assert h.now == due
    assert h.stop is not None
    assert h.stop.error is None


def test_a_generator_that_nobody_ever_used_leaves_after_its_time() -> None:
    h = Harness(idle_exit=5.0)
    assert h.core.deadline() == START + 5.0
    h.to_deadline()
    assert h.stop is not None


def test_without_idle_exit_it_stays_for_ever() -> None:
    h = Harness()
    assert h.nothing_is_due
    h.advance(1e6)
    assert h.stop is None


def test_a_processor_that_is_connected_keeps_it_there() -> None:
    h = Harness(idle_exit=5.0)
    h.advance(4.9)
    h.open()
    h.advance(100)
    assert h.stop is None
    assert h.nothing_is_due


def test_the_time_begins_again_when_the_last_processor_goes() -> None:
    h = Harness(idle_exit=5.0)
    p, q = h.open("shard-0"), h.open("shard-1")
    h.now += 3
    h.disconnect(p.connection)
    h.now += 3
    h.disconnect(q.connection)
    assert h.core.deadline() == START + 11.0


def test_it_does_not_leave_before_all_is_stored_and_the_time_begins_then() -> None:
    h = Harness(idle_exit=5.0)
    p = h.open()
    p.batch(5)
    h.disconnect(p.connection)
    h.cut()
    h.advance(100)
    assert h.stop is None
    h.store()
    assert h.core.deadline() == START + 106.0
    h.to_deadline()
    assert h.stop is not None


@pytest.mark.parametrize("tick", [True, False])
def test_watching_the_status_neither_keeps_it_there_nor_begins_its_time_again(tick: bool) -> None:
    h = Harness(idle_exit=5.0)
    h.now += 4
    watcher = h.connect()
    if tick:
        h.tick()
    h.core.watched(watcher)
    assert h.core.deadline() == START + 5.0
    h.to_deadline()
    assert h.stop is not None


def test_it_does_not_leave_under_the_feet_of_one_who_has_not_said_hello_yet() -> None:
    h = Harness(idle_exit=5.0)
    h.now += 4.9
    p = h.processor()
    h.advance(0.2)
    assert h.stop is None
    p.hello()
    h.look_up()
    h.store()
    assert p.welcome is not None


# ---------------------------------------------------------------------- what is due


@pytest.mark.parametrize("began", AWKWARD)
def test_every_deadline_is_met_by_a_tick_at_that_very_time(began: float) -> None:
    h = Harness(block_interval=0.7)
    h.now += began
    silent = h.connect()
    p = h.open()
    p.batch(5)
    h.to_deadline()
    assert len(h.waiting(WriteBlock)) == 1
    assert h.core.deadline() == START + began + HELLO_SECONDS
    h.to_deadline()
    assert h.closed == [silent]
    assert h.nothing_is_due


def test_the_earliest_of_what_is_due_is_the_deadline() -> None:
    h = Harness()
    p = h.open()
    silent = h.connect()
    h.now += 9.5
    p.batch(5)
    assert h.core.deadline() == START + HELLO_SECONDS
    h.to_deadline()
    assert h.closed == [silent]
    assert h.core.deadline() == START + 10.5


def test_a_tick_at_any_other_time_is_harmless() -> None:
    h = Harness()
    p = h.open()
    p.batch(5)
    for _ in range(5):
        h.tick()
    assert h.asked == []
    assert p.admitted == [1]
