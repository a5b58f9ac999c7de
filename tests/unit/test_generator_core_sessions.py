"""Opening, resuming, fencing and leaving: who may send, and what becomes of what was sent."""

from __future__ import annotations

import pytest
from generator_harness import START, Harness, facts, held_range

from kcl_receiver.errors import FrameError, StreamGone, StreamUnavailable
from kcl_receiver.generator.effects import Append, LookUp, SessionRecord, WriteBlock
from kcl_receiver.generator.roster import HELLO_SECONDS
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
    assert entry == SessionRecord("shard-0.1", "shard-0", 1, Position(17, 3), facts())


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
    assert p.welcome == Welcome("writer-1", 4, 400, 500, 2500, 7000, 8000, 9000)
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
    assert h.core.status(h.now)["shards"] == []


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
    assert h.core.deadline() is None


def test_a_connection_that_asks_for_the_status_need_not_say_hello() -> None:
    h = Harness()
    h.core.watched(h.connect())
    assert h.core.deadline() is None
    h.advance(10 * HELLO_SECONDS)
    assert h.closed == []


# ---------------------------------------------------------------------- the look-up


def test_a_look_up_that_fails_is_tried_again_until_it_answers() -> None:
    h = Harness()
    p = h.processor()
    p.hello()
    h.look_up(StreamUnavailable("throttled"))
    assert h.asked == []
    assert h.core.status(h.now)["failing"] == "StreamUnavailable: throttled"
    h.to_deadline()
    h.look_up()
    h.store()
    assert p.welcome is not None
    assert h.core.status(h.now)["failing"] is None


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
    assert h.stop is None
    assert h.core.status(h.now)["failing"] is None
    other.batch(5)
    assert other.admitted == [1]


def test_a_session_that_was_turned_away_may_come_back_and_is_looked_up_again() -> None:
    h = Harness()
    p = h.processor()
    p.hello()
    h.look_up(StreamGone("deleted"))
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
    assert h.core.status(h.now)["failing"] is None
    h.advance(60)
    assert h.waiting(LookUp) == []


def test_a_late_failure_of_a_fenced_sessions_look_up_changes_nothing() -> None:
    h = Harness()
    h.processor(rank=1).hello()
    h.processor(rank=2).hello()
    h.look_up(StreamUnavailable("throttled"))
    assert h.core.status(h.now)["failing"] is None
    h.look_up()
    assert h.core.deadline() is None


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
    assert h.core.deadline() is None
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
    assert h.core.status(h.now)["records_stored"] == 1


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
