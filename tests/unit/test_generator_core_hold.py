"""What is wrong with one lease puts its shard on hold; the others are read on."""

from __future__ import annotations

import pytest
from generator_harness import Harness, Processor

from kcl_receiver.errors import BlockDamaged, LeaseRefused, LedgerDamaged, ReceiverError, StreamUnavailable
from kcl_receiver.ranges import Position
from kcl_receiver.wire.messages import Draining, Hold, Progress

REFUSED = LeaseRefused("shard-0: 5:0 is none of its numbers", "set it to another one")


def on_hold(h: Harness, error: ReceiverError = REFUSED) -> Processor:
    p = h.processor()
    p.hello()
    h.look_up(error)
    return p


@pytest.mark.parametrize("kind", [LeaseRefused, LedgerDamaged, BlockDamaged])
def test_a_lease_that_cannot_be_read_puts_its_shard_on_hold_and_no_other(kind: type[ReceiverError]) -> None:
    h = Harness()
    other = h.open("shard-1")
    p = on_hold(h, kind("why", "what next"))
    assert p.of(Hold) == [Hold(kind.__name__, "why", "what next")]
    assert p.refused is None
    assert (h.closed, h.stop) == ([], None)
    other.batch(5)
    h.cut()
    h.store()
    assert (other.admitted, other.stored, other.draining) == ([1], 1, False)


def test_the_status_tells_which_shard_is_on_hold_and_why() -> None:
    h = Harness()
    h.open("shard-1")
    on_hold(h)
    held, other = h.core.status(h.now).shards
    assert (held.shard, held.state, held.problem) == ("shard-0", "on hold", str(REFUSED))
    assert (other.state, other.problem) == ("open", None)


def test_nothing_is_taken_from_a_processor_that_does_not_keep_still() -> None:
    for speak in (lambda p: p.batch(10), lambda p: p.flush(), lambda p: p.shard_end()):
        h = Harness()
        p = on_hold(h)
        speak(p)
        assert p.refused is not None
        assert p.refused.error == "ProtocolError"
        assert h.asked == []


def test_what_a_lease_says_that_cannot_be_read_is_no_checkpoint_up_to_which_anything_is_forgotten() -> None:
    h = Harness()
    p = on_hold(h)
    h.core.progress(p.connection, Progress(0, "999999999:0"), h.now)
    assert h.core.checkpoints() == {}
    h.disconnect(p.connection)
    p.reconnect(1)
    h.look_up()
    h.core.progress(p.connection, Progress(0, "5:0"), h.now)
    assert h.core.checkpoints() == {"shard-0": Position(5)}


def test_a_draining_generator_tells_those_on_hold_and_waits_for_them() -> None:
    h = Harness()
    p = on_hold(h)
    h.drain()
    assert p.draining
    assert h.stop is None
    h.disconnect(p.connection)
    assert h.stop is not None
    assert h.stop.error is None


def test_a_session_that_is_put_on_hold_by_a_draining_generator_is_told_both() -> None:
    h = Harness()
    p = h.processor()
    p.hello()
    h.drain()
    h.look_up(REFUSED)
    assert [type(one) for one in p.heard] == [Hold, Draining]


def test_a_lease_that_is_lost_ends_the_hold() -> None:
    h = Harness()
    p = on_hold(h)
    p.leave()
    assert h.core.status(h.now).shards[0].state == "closed"


def test_a_session_on_hold_that_comes_back_is_looked_up_again() -> None:
    h = Harness()
    p = on_hold(h)
    h.disconnect(p.connection)
    assert h.asked == []
    p.reconnect(1)
    h.look_up()
    h.store()
    assert p.welcome is not None
    assert h.core.status(h.now).shards[0].problem is None


def test_a_younger_session_of_a_shard_on_hold_is_looked_up_on_its_own() -> None:
    h = Harness()
    p = on_hold(h)
    younger = h.open(session="younger", rank=2)
    assert younger.welcome is not None
    assert p.refused is not None
    assert p.refused.error == "Fenced"


def test_what_may_mend_is_asked_again_and_puts_nothing_on_hold() -> None:
    h = Harness()
    p = h.processor()
    p.hello()
    h.look_up(StreamUnavailable("throttled"))
    assert p.heard == []
    h.to_deadline()
    h.look_up(REFUSED)
    assert [type(one) for one in p.heard] == [Hold]
