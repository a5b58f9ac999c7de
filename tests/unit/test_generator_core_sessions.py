"""Opening a session: who is let in, what must be known first, and which batches may not come."""

from __future__ import annotations

import pytest
from generator_harness import SERVICE_START, START, Harness, facts

from kcl_receiver.errors import FrameError, StreamGone, StreamReplaced, StreamUnavailable
from kcl_receiver.generator.effects import LookUp, SessionRecord, Stop
from kcl_receiver.generator.session_registry import HELLO_SECONDS
from kcl_receiver.ranges import Position
from kcl_receiver.wire.frames import encode
from kcl_receiver.wire.messages import Admitted, Draining, Stored, Welcome

# ---------------------------------------------------------------------- opening


def test_a_session_is_welcome_only_after_its_start_is_in_the_ledger() -> None:
    h = Harness()
    p = h.processor(after=Position(17, 3))
    p.hello()
    assert h.look_up() == LookUp("shard-0.1", "shard-0", Position(17, 3))
    assert p.heard == []
    h.append()
    assert p.welcome is not None
    (entry,) = h.entries
    assert entry == SessionRecord("shard-0.1", "shard-0", 1, Position(17, 3), facts(), SERVICE_START)


def test_welcome_says_the_settings_in_force() -> None:
    h = Harness(
        checkpoint_interval=2.5,
        generator_timeout=7.0,
        store_timeout=8.0,
        drain=9.0,
        window_bytes=500,
        block_max_bytes=400,
    )
    p = h.open(number=4)
    assert p.welcome == Welcome("writer-1", 4, 400, 500, 2500, 7000, 8000, 9000, 0)
    assert Harness(window_bytes=300, block_max_bytes=400).open().welcome.batch_bytes == 300  # type: ignore[union-attr]
    assert Harness().open().welcome.batch_bytes == 8 * 1024 * 1024  # type: ignore[union-attr]


def test_a_session_that_begins_with_a_later_batch_is_told_that_those_before_are_stored() -> None:
    p = Harness().open(number=4)
    assert [message for message in p.heard if not isinstance(message, Welcome)] == [Stored(3)]


@pytest.mark.parametrize("act", ["batch", "flush", "shard_end"])
@pytest.mark.parametrize("answers", [0, 1])
def test_a_message_before_the_session_is_open_is_refused(act: str, answers: int) -> None:
    h = Harness()
    p = h.processor()
    p.hello()
    if answers:
        h.look_up()
    p.batch(5) if act == "batch" else getattr(p, act)()
    assert p.refused is not None
    assert p.refused.error == "ProtocolError"
    assert h.closed == [p.connection]


@pytest.mark.parametrize("act", ["batch", "flush", "shard_end"])
def test_a_message_before_hello_is_refused(act: str) -> None:
    h = Harness()
    p = h.processor()
    p.batch(5) if act == "batch" else getattr(p, act)()
    assert p.refused is not None
    assert p.refused.error == "ProtocolError"
    assert h.closed == [p.connection]
    assert h.asked == []


def test_a_second_hello_on_one_connection_is_refused() -> None:
    h = Harness()
    p = h.open()
    p.hello()
    assert p.refused is not None
    assert "second Hello" in p.refused.message
    assert h.closed == [p.connection]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"application": "other"}, "serves application 'landing', not 'other'"),
        ({"pid": 2}, "claims pid 2, its peer has pid 1"),
        ({"rank": round(START * 1e9) + 1}, "lies in the future"),
        ({"next_number": 0}, "numbered from 1"),
        ({"after": "latest"}, "not a Kinesis sequence number"),
        ({"after": "1:x"}, "not a sub-sequence number"),
        ({"shard": ""}, "1 to 128 letters"),
        ({"shard": "s" * 129}, "1 to 128 letters"),
        ({"shard": "shard/0"}, "1 to 128 letters"),
        ({"session": ""}, "1 to 128 letters"),
        ({"session": "a b\n"}, "1 to 128 letters"),
    ],
)
def test_a_hello_that_cannot_be_true_is_refused_and_leaves_nothing_behind(
    changes: dict[str, str | int], says: str
) -> None:
    h = Harness()
    p = h.processor()
    p.hello(**changes)
    assert p.refused is not None
    assert says in p.refused.message
    assert h.closed == [p.connection]
    assert h.asked == []
    assert h.core.status(h.now).shards == ()


def test_a_rank_of_this_very_moment_is_taken() -> None:
    h = Harness()
    assert h.open(rank=round(START * 1e9)).refused is None


def test_after_a_refusal_nothing_more_is_taken_or_said_on_the_connection() -> None:
    h = Harness()
    p = h.processor()
    p.hello(application="other")
    said = list(p.heard)
    p.hello()
    p.batch(5)
    p.flush()
    p.leave()
    h.do(h.core.failed(p.connection, FrameError("garbage"), h.now))
    h.advance(10 * HELLO_SECONDS)
    assert p.heard == said
    assert h.closed == [p.connection]
    assert h.asked == []


def test_bytes_that_cannot_be_used_are_answered_with_the_reason() -> None:
    h = Harness()
    p = h.open()
    h.do(h.core.failed(p.connection, FrameError("garbage", "a hint"), h.now))
    assert p.refused is not None
    assert (p.refused.error, p.refused.message, p.refused.hint) == ("FrameError", "garbage", "a hint")
    assert h.closed == [p.connection]


def test_a_refusal_fits_a_frame_whatever_it_quotes() -> None:
    h = Harness()
    p = h.processor()
    p.hello(application="\U000e0001" * 15_000)
    q = h.open()
    h.do(h.core.failed(q.connection, FrameError("not utf-8: \udcff", "\u65e5" * 60_000), h.now))
    for refused in (p.refused, q.refused):
        assert refused is not None
        assert encode(refused)
    assert "not utf-8: ?" in q.heard[-1].message  # type: ignore[attr-defined]


def test_each_connection_has_its_own_time_to_say_hello() -> None:
    h = Harness()
    first = h.connect()
    h.now += 3
    second = h.connect()
    h.to_deadline()
    assert h.closed == [first]
    h.to_deadline()
    assert h.closed == [first, second]
    assert h.now == START + 3 + HELLO_SECONDS


def test_a_connection_that_does_not_say_hello_is_closed_in_time() -> None:
    h = Harness()
    p = h.processor()
    assert h.core.deadline() == START + HELLO_SECONDS
    h.advance(HELLO_SECONDS - 0.01)
    assert h.closed == []
    h.to_deadline()
    assert h.closed == [p.connection]
    assert h.nothing_is_due


def test_a_connection_that_asks_for_the_status_need_not_say_hello() -> None:
    h = Harness()
    h.core.watched(h.connect())
    assert h.nothing_is_due
    h.advance(10 * HELLO_SECONDS)
    assert h.closed == []


# ---------------------------------------------------------------------- the look-up


def test_a_look_up_that_fails_is_tried_again_until_it_answers() -> None:
    h = Harness()
    p = h.processor()
    p.hello()
    h.look_up(StreamUnavailable("throttled"))
    assert h.asked == []
    failing = h.core.status(h.now).failing
    assert failing is not None
    assert (failing.error, failing.message) == ("StreamUnavailable", "throttled")
    h.to_deadline()
    h.look_up()
    h.store()
    assert p.welcome is not None
    assert h.core.status(h.now).failing is None


@pytest.mark.parametrize("mends", [True, False])
def test_a_look_up_that_cannot_succeed_turns_its_processor_away_with_the_reason(mends: bool) -> None:
    h = Harness(store_timeout=5.0)
    other = h.open("shard-1")
    p = h.processor()
    p.hello()
    if mends:
        while p.refused is None:
            h.look_up(StreamUnavailable("throttled"))
            if p.refused is None:
                h.to_deadline()
        assert h.now == START + 5.0
    else:
        h.look_up(StreamGone("deleted"))
    assert p.refused is not None
    assert p.refused.error == ("StreamUnavailable" if mends else "StreamGone")
    assert h.closed == [p.connection]
    assert h.core.status(h.now).failing is None
    if mends:
        assert h.stop is None
        other.batch(5)
        assert other.admitted == [1]


@pytest.mark.parametrize("error", [StreamGone("deleted"), StreamReplaced("another one")])
def test_a_lost_stream_ends_the_generator_once_what_was_admitted_is_stored(error: StreamGone | StreamReplaced) -> None:
    h = Harness()
    other = h.open("shard-1")
    other.batch(5)
    p = h.processor()
    p.hello()
    h.look_up(error)
    assert other.of(Draining) == [Draining()]
    assert h.stop is None
    h.store()
    assert other.stored == 1
    assert h.stop == Stop(error)


def test_a_session_that_was_turned_away_may_come_back_and_is_looked_up_again() -> None:
    h = Harness(store_timeout=0.0)
    p = h.processor()
    p.hello()
    h.look_up(StreamUnavailable("throttled"))
    assert p.refused is not None
    h.disconnect(p.connection)
    assert h.asked == []
    p.reconnect()
    h.look_up()
    h.store()
    assert p.welcome is not None


def test_an_older_session_is_still_refused_after_the_younger_was_turned_away() -> None:
    h = Harness()
    old = h.open(rank=1)
    young = h.processor(rank=2)
    young.hello()
    h.look_up(StreamGone("deleted"))
    old.reconnect()
    assert old.refused is not None
    assert old.refused.error == "Fenced"


def test_the_answer_for_a_session_that_was_fenced_meanwhile_changes_nothing() -> None:
    h = Harness()
    old, young = h.processor(rank=1), h.processor(rank=2)
    old.hello()
    young.hello()
    assert h.look_up().session == old.session
    h.look_up()
    h.store()
    assert h.session_entries() == [young.session]
    assert young.welcome is not None


def test_a_look_up_of_a_fenced_session_is_not_tried_again_and_not_shown_as_failing() -> None:
    h = Harness()
    old = h.processor(rank=1)
    old.hello()
    h.look_up(StreamUnavailable("throttled"))
    h.open(rank=2)
    assert h.core.status(h.now).failing is None
    h.advance(60)
    assert h.waiting(LookUp) == []


def test_a_late_failure_of_a_fenced_sessions_look_up_changes_nothing() -> None:
    h = Harness()
    h.processor(rank=1).hello()
    h.processor(rank=2).hello()
    h.look_up(StreamUnavailable("throttled"))
    assert h.core.status(h.now).failing is None
    h.look_up()
    assert h.nothing_is_due


def test_a_processor_that_vanished_before_its_session_began_costs_nothing_until_it_returns() -> None:
    h = Harness()
    old = h.open(rank=1)
    old.batch(5)
    h.cut()
    young = h.processor(rank=2)
    young.hello()
    young.vanish()
    h.store()
    assert h.waiting(LookUp) == []
    young.reconnect()
    h.look_up()
    h.store()
    assert young.welcome is not None


def test_a_session_whose_processor_returns_during_its_look_up_is_looked_up_once() -> None:
    h = Harness()
    p = h.processor()
    p.hello()
    p.vanish()
    p.reconnect()
    h.look_up()
    h.store()
    assert len(p.of(Welcome)) == 1
    assert h.session_entries() == [p.session]


# ---------------------------------------------------------------------- batches that may not come


@pytest.mark.parametrize("number", [3, 100])
def test_a_gap_in_the_numbers_is_refused(number: int) -> None:
    h = Harness()
    p = h.open()
    p.batch(5)
    p.next_number = number
    p.batch(6)
    assert p.refused is not None
    assert f"batch {number} came, 2 is next" in p.refused.message


@pytest.mark.parametrize("after", [Position(4), Position(5, 1), "TRIM_HORIZON"])
def test_a_batch_that_does_not_follow_the_last_delivered_position_is_refused(after: Position | str) -> None:
    h = Harness()
    p = h.open()
    p.batch(5)
    p.delivered = after
    p.batch(6)
    assert p.refused is not None
    assert f"it follows {after}, 5:0 was before it" in p.refused.message
    h.cut()
    h.store()
    assert h.block_rows() == [[Position(5)]]


@pytest.mark.parametrize("after", [Position(2), "LATEST"])
def test_a_sessions_first_batch_that_does_not_follow_its_beginning_is_refused(after: Position | str) -> None:
    h = Harness()
    p = h.open(after=Position(3))
    p.delivered = after
    p.batch(5)
    assert p.refused is not None
    assert f"it follows {after}, 3:0 was before it" in p.refused.message


def test_a_batch_before_the_beginning_of_its_session_is_refused() -> None:
    h = Harness()
    p = h.open(after=Position(8), number=2)
    p.delivered = Position(3)
    p.batch(8)
    assert p.refused is not None
    assert "begins at 8:0, reading after 8:0" in p.refused.message


def test_a_second_batch_while_one_waits_is_refused() -> None:
    h = Harness(window_bytes=10)
    p = h.open()
    p.batch(5)
    p.batch(6)
    p.batch(7)
    assert p.refused is not None
    assert "came while another one waits" in p.refused.message


def test_a_processor_that_was_refused_loses_nothing_of_what_was_admitted() -> None:
    h = Harness()
    p = h.open()
    p.batch(5)
    p.next_number = 9
    p.batch(6)
    h.cut()
    h.store()
    assert h.block_rows() == [[Position(5)]]
    assert p.of(Admitted) == [Admitted(1)]
    assert p.of(Draining) == []
