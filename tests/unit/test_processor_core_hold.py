"""A shard whose lease cannot be read: its processor keeps still and lives, so that the other shards are read on."""

from __future__ import annotations

import pytest
from processor_harness import STORE_TIMEOUT, Processor, connects, done, failure, told

from kcl_receiver.errors import LeaseRefused, ProtocolError
from kcl_receiver.processor.holding import HOLD_SECONDS
from kcl_receiver.wire.messages import Hello, Leave, Progress


def on_hold(after: int = 5) -> Processor:
    p = Processor()
    p.initialize(after)
    p.connect()
    p.hold()
    return p


def test_records_are_answered_after_a_pause_and_neither_sent_nor_checkpointed() -> None:
    p = on_hold()
    for first in range(10, 40, 2):
        assert done(p.deliver(first, first + 1)) == []
        assert done(p.wait(HOLD_SECONDS - 0.1)) == []
        assert done(p.wait(0.1)) == ["processRecords"]
    assert p.batches == {}
    assert p.exit is None
    assert p.core.kept_bytes == 0


def test_the_generator_learns_that_kcl_calls_although_the_shard_is_on_hold() -> None:
    p = on_hold()
    assert told(p.deliver(10, behind=7), Progress) == [Progress(7, "5:0")]


def test_what_waited_when_the_word_came_is_answered_after_the_pause() -> None:
    p = Processor()
    p.initialize(5)
    p.deliver(10)
    p.connect()
    assert done(p.hold()) == []
    assert done(p.wait(HOLD_SECONDS)) == ["processRecords"]
    assert p.batches == {}


def test_the_shards_end_is_never_answered_and_the_process_stays() -> None:
    p = on_hold()
    assert done(p.shard_ended()) == []
    assert done(p.wait(100 * STORE_TIMEOUT)) == []
    assert p.exit is None
    assert p.hang_up()
    assert p.exit is not None
    assert p.exit.error is None


def test_a_requested_shutdown_is_answered_at_once_without_a_checkpoint() -> None:
    assert done(on_hold().shutdown_requested()) == ["shutdownRequested"]


def test_a_draining_generator_lets_the_shutdown_come_at_once() -> None:
    p = on_hold()
    p.deliver(10)
    assert done(p.drain()) == ["processRecords"]
    assert done(p.deliver(11)) == ["processRecords"]
    assert done(p.shutdown_requested()) == ["shutdownRequested"]


def test_the_generator_is_told_when_the_lease_is_lost() -> None:
    p = on_hold()
    effects = p.lease_lost()
    assert told(effects, Leave) == [Leave()]
    assert done(effects) == ["leaseLost"]


def test_a_hold_that_comes_after_the_lease_was_lost_is_left() -> None:
    p = Processor()
    p.initialize(5)
    p.connect()
    p.lease_lost()
    assert told(p.hold(), Leave) == [Leave()]


def test_it_comes_back_to_a_new_generator_as_it_first_came_and_is_put_on_hold_again() -> None:
    p = on_hold()
    p.deliver(10)
    p.wait(HOLD_SECONDS)
    p.disconnect()
    p.deliver(11)
    assert done(p.wait(HOLD_SECONDS)) == ["processRecords"]
    assert p.exit is None
    (again,) = told(p.connect(), Hello)
    assert isinstance(again, Hello)
    assert (again.after, again.next_number) == ("5:0", 1)
    p.hold()
    assert done(p.lease_lost()) == ["leaseLost"]
    assert connects(p.wait(60)) == 0


def test_a_generator_that_can_read_the_lease_after_all_makes_the_process_leave_for_what_was_dropped() -> None:
    p = on_hold()
    p.deliver(10)
    p.wait(HOLD_SECONDS)
    p.disconnect()
    p.connect()
    p.welcome()
    assert isinstance(failure(p), LeaseRefused)


def test_a_hold_without_hello_breaks_the_protocol() -> None:
    p = Processor()
    p.initialize(5)
    p.open()
    p.hold()
    assert isinstance(failure(p), ProtocolError)


@pytest.mark.parametrize("stored", [False, True])
def test_a_session_may_be_put_on_hold_by_a_later_generator(stored: bool) -> None:
    p = Processor()
    p.initialize(5)
    p.open()
    p.deliver(10)
    p.admit(1)
    if stored:
        p.store(1)
    p.disconnect()
    p.connect()
    p.hold()
    p.deliver(11)
    assert done(p.wait(HOLD_SECONDS)) == ["processRecords"]
    assert p.exit is None
