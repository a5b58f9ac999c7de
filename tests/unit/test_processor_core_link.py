"""The generator comes and goes: what is sent again, how long is waited, and what is not put up with."""

from __future__ import annotations

from itertools import pairwise

import pytest
from processor_harness import (
    CHECKPOINT_INTERVAL,
    DRAIN,
    GENERATOR_TIMEOUT,
    STORE_TIMEOUT,
    WINDOW,
    Processor,
    asked,
    connects,
    delivered,
    done,
    failure,
    numbers,
    places,
    started,
    told,
)

from kcl_receiver import errors
from kcl_receiver.errors import Fenced, GeneratorUnavailable, ProtocolError, ReceiverError, StoreUnavailable
from kcl_receiver.ranges import Position
from kcl_receiver.wire.messages import (
    Admitted,
    Draining,
    Hello,
    Message,
    Progress,
    Refused,
    ShardEndConfirmed,
    Status,
    Stored,
)

# ---------------------------------------------------------------------- when the generator is listened to


def test_between_actions_the_generator_is_listened_to_only_while_a_session_opens_or_something_is_left_to_send() -> None:
    processor = Processor()
    processor.initialize()
    assert not processor.core.listens, "there is no connection"
    processor.connect()
    assert processor.core.listens, "Welcome says what to send"
    processor.welcome()
    assert not processor.core.listens
    delivered(processor, 1)
    delivered(processor, 2)
    assert not processor.core.listens
    processor.disconnect()
    processor.connect()
    processor.welcome(1)
    assert processor.core.listens, "batch 2 is sent when batch 1 is admitted"
    processor.admit(1)
    assert not processor.core.listens, "the answer to the last batch can wait"


def test_within_an_action_the_generator_is_listened_to() -> None:
    processor = started()
    delivered(processor, 1)
    processor.shutdown_requested()
    assert processor.core.listens, "what is stored now can be checkpointed now"
    processor.store(1)
    processor.checkpoint_taken()
    assert not processor.core.listens


# ---------------------------------------------------------------------- away and back


def test_what_is_not_stored_is_sent_again_in_order_to_a_new_generator() -> None:
    processor = started()
    for number in (1, 2, 3):
        delivered(processor, number)
    processor.store(1)
    processor.disconnect()
    processor.connect()
    assert numbers(processor.welcome(2)) == [2]
    assert numbers(processor.admit(2)) == [3]
    assert numbers(processor.admit(3)) == []


def test_a_session_keeps_its_rank_its_id_and_its_start_when_it_comes_back() -> None:
    processor = Processor()
    processor.initialize(5)
    (first,) = told(processor.connect(), Hello)
    processor.welcome()
    delivered(processor, 6)
    delivered(processor, 7)
    processor.store(1)
    processor.disconnect()
    processor.wait(30.0)
    (second,) = told(processor.connect(), Hello)
    assert isinstance(first, Hello)
    assert isinstance(second, Hello)
    assert (second.rank, second.session, second.after) == (first.rank, first.session, first.after)
    assert (first.next_number, second.next_number) == (1, 2)


def test_with_everything_stored_the_next_batch_is_announced() -> None:
    processor = started()
    delivered(processor, 1)
    processor.store(1)
    processor.disconnect()
    (hello,) = told(processor.connect(), Hello)
    assert isinstance(hello, Hello)
    assert hello.next_number == 2


def test_the_same_generator_is_not_sent_again_what_it_has() -> None:
    processor = started()
    for number in (1, 2, 3):
        delivered(processor, number)
    processor.disconnect()
    processor.deliver(4)
    processor.wait(0.1)
    processor.connect()
    effects = processor.welcome(4)
    assert (numbers(effects), done(effects)) == ([4], ["processRecords"])
    processor.admit(4)
    assert processor.store(3) == []
    assert processor.core.kept_bytes == processor.batches[4][1].memory


def test_a_batch_that_was_on_its_way_when_the_link_broke_is_sent_again() -> None:
    processor = started()
    processor.deliver(1)
    processor.disconnect()
    assert done(processor.deliver(2)) == []
    processor.connect()
    effects = processor.welcome(1)
    assert (numbers(effects), done(effects)) == ([1], [])
    effects = processor.admit(1)
    assert (numbers(effects), done(effects)) == ([2], ["processRecords"])


def test_a_batch_whose_admission_got_lost_is_admitted_by_the_welcome() -> None:
    processor = started()
    processor.deliver(1)
    processor.deliver(2)
    processor.disconnect()
    processor.connect()
    effects = processor.welcome(2)
    assert (numbers(effects), done(effects)) == ([2], ["processRecords"])


@pytest.mark.parametrize("greeting", [False, True])
def test_a_call_without_news_waits_for_the_link_if_a_batch_was_left_on_its_way(greeting: bool) -> None:
    processor = started()
    processor.deliver(1)
    processor.disconnect()
    processor.wait(0.1)
    if greeting:
        processor.connect()
    assert done(processor.deliver()) == []
    if not greeting:
        processor.connect()
    assert done(processor.welcome(1)) == ["processRecords"]


def test_a_report_after_the_welcome_says_what_was_stored_meanwhile() -> None:
    processor = started()
    for number in (1, 2):
        delivered(processor, number)
    processor.disconnect()
    processor.open(3)
    processor.store(2)
    assert asked(processor.deliver()) == [Position(2)]


def test_attempts_to_connect_grow_apart_up_to_two_seconds() -> None:
    processor = Processor(generator_timeout=1000.0)
    processor.initialize()
    processor.disconnect()
    times = []
    while len(times) < 12:
        due = processor.core.deadline()
        assert due is not None
        processor.now = due
        if connects(processor.tick()):
            times.append(processor.now)
            processor.disconnect()
    pauses = [second - first for first, second in pairwise(times)]
    assert pauses[0] < 0.11
    assert all(0.9 < pause <= 2.0 for pause in pauses[-4:])


def test_processors_do_not_come_all_at_once() -> None:
    attempts = set()
    for seed in range(10):
        processor = Processor(seed=seed)
        processor.initialize()
        processor.disconnect()
        attempts.add(processor.core.deadline())
    assert len(attempts) == 10


def test_a_link_that_was_open_is_tried_again_quickly() -> None:
    processor = Processor()
    processor.initialize()
    processor.disconnect()
    processor.wait(30.0)
    processor.open()
    processor.disconnect()
    due = processor.core.deadline()
    assert due is not None
    assert due - processor.now <= 0.05


def test_checkpoints_go_on_while_the_generator_is_away() -> None:
    processor = started()
    delivered(processor, 1)
    processor.store(1)
    processor.disconnect()
    assert asked(processor.deliver(2)) == [Position(1)]


def test_an_empty_call_waits_while_batches_are_nowhere_but_here() -> None:
    processor = started()
    delivered(processor, 1)
    processor.disconnect()
    assert done(processor.deliver()) == []
    processor.wait(0.1)
    processor.connect()
    assert done(processor.welcome(2)) == ["processRecords"]


# ---------------------------------------------------------------------- draining


def test_a_draining_generator_sends_a_waiting_processor_home_with_its_batch() -> None:
    processor = started()
    delivered(processor, 1)
    processor.deliver(2)
    processor.deliver(3)
    assert done(processor.drain()) == ["processRecords"]
    processor.disconnect()
    processor.wait(0.1)
    assert numbers(processor.open(1)) == [1]
    assert numbers(processor.admit(1)) == [2]
    assert numbers(processor.admit(2)) == [3]


def test_a_processor_that_waits_with_a_full_window_is_sent_home_at_once() -> None:
    processor = started()
    delivered(processor, 1, data_bytes=WINDOW - 200)
    processor.deliver(2, data_bytes=WINDOW)
    assert done(processor.deliver(3, data_bytes=WINDOW)) == []
    assert processor.core.kept_bytes > 2 * WINDOW
    assert done(processor.drain()) == ["processRecords"]


@pytest.mark.parametrize("stored", [False, True])
def test_it_is_sent_home_as_well_if_what_it_left_behind_was_admitted_meanwhile(stored: bool) -> None:
    processor = started(batch_bytes=1)
    delivered(processor, 1, data_bytes=WINDOW // 2)
    processor.deliver(2, data_bytes=WINDOW // 3)
    processor.deliver(3, 4, 5, data_bytes=WINDOW // 3)
    processor.admit(2)
    if stored:
        processor.store(1)
        processor.checkpoint_taken()
    assert done(processor.drain()) == ["processRecords"]


def test_a_draining_generator_is_not_waited_for_with_the_batch_that_it_did_not_take() -> None:
    processor = started()
    delivered(processor, 1, data_bytes=WINDOW - 200)
    processor.deliver(2, data_bytes=WINDOW)
    assert processor.drain() == []
    assert done(processor.deliver()) == ["processRecords"]
    assert done(processor.deliver(3, data_bytes=WINDOW)) == ["processRecords"]
    assert done(processor.deliver(4)) == []


def test_a_draining_generator_is_not_sent_anything_and_little_is_kept_for_the_next() -> None:
    processor = started()
    delivered(processor, 1, data_bytes=WINDOW - 200)
    processor.deliver(2, data_bytes=WINDOW)
    processor.deliver(3, data_bytes=WINDOW)
    processor.drain()
    effects = processor.deliver(4)
    assert (numbers(effects), done(effects)) == ([], [])
    assert asked(processor.store(1)) == [Position(1)]
    assert done(processor.checkpoint_taken()) == []
    processor.disconnect()
    processor.open(2)
    assert done(processor.admit(2)) == []
    assert done(processor.store(2)) == []
    effects = processor.admit(3)
    assert (numbers(effects), done(effects)) == ([4], [])
    assert done(processor.store(3)) == ["processRecords"]


def test_a_small_batch_for_a_draining_generator_is_kept_and_reported_done() -> None:
    processor = started()
    processor.drain()
    for number in (1, 2, 3):
        effects = processor.deliver(number)
        assert (numbers(effects), done(effects)) == ([], ["processRecords"])
    processor.disconnect()
    effects = processor.open(1)
    for number in (1, 2, 3):
        assert numbers(effects) == [number]
        effects = processor.admit(number)


def test_what_a_draining_generator_stores_is_checkpointed() -> None:
    processor = started()
    delivered(processor, 1)
    processor.drain()
    processor.store(1)
    assert asked(processor.deliver()) == [Position(1)]


def test_a_batch_that_crosses_the_word_of_draining_is_answered_by_it_again() -> None:
    processor = started()
    delivered(processor, 1)
    processor.deliver(2)
    processor.deliver(3)
    processor.drain()
    assert processor.drain() == []
    assert processor.exit is None


# ---------------------------------------------------------------------- how long


@pytest.mark.parametrize("records", [(1,), ()])
def test_without_a_generator_the_process_leaves_after_its_limit(records: tuple[int, ...]) -> None:
    processor = started()
    delivered(processor, 9)
    processor.disconnect()
    processor.deliver(10, *(one + 10 for one in records))
    assert done(processor.wait(GENERATOR_TIMEOUT - 0.1)) == []
    assert processor.exit is None
    assert done(processor.wait(0.1)) == []
    problem = failure(processor)
    assert isinstance(problem, GeneratorUnavailable)
    assert problem.exit_code != 0


def test_a_process_that_leaves_does_not_connect_any_more() -> None:
    processor = Processor(generator_timeout=7.0)
    processor.initialize()
    processor.disconnect()
    processor.deliver(1)
    processor.now += 7.0
    effects = processor.tick()
    assert connects(effects) == 0
    assert isinstance(failure(processor), GeneratorUnavailable)


def test_a_generator_that_never_came_is_waited_for_as_the_properties_file_says() -> None:
    processor = Processor(generator_timeout=7.0)
    processor.initialize()
    processor.disconnect()
    processor.deliver(1)
    processor.wait(6.9)
    assert processor.exit is None
    processor.wait(0.1)
    assert isinstance(failure(processor), GeneratorUnavailable)


def test_the_generator_has_the_last_word_on_the_limit() -> None:
    processor = started(generator_timeout=20.0)
    processor.disconnect()
    processor.deliver(1)
    processor.wait(19.9)
    assert processor.exit is None
    processor.wait(0.1)
    assert isinstance(failure(processor), GeneratorUnavailable)


def test_without_an_action_nobody_is_kept_waiting_and_nothing_ends() -> None:
    processor = started()
    delivered(processor, 1)
    processor.disconnect()
    processor.wait(10 * GENERATOR_TIMEOUT)
    assert processor.exit is None


def test_a_generator_that_answers_but_never_welcomes_does_not_stop_the_clock() -> None:
    processor = started()
    processor.disconnect()
    processor.deliver(1)
    since = processor.now
    while processor.exit is None:
        due = processor.core.deadline()
        assert due is not None
        processor.now = due
        processor.tick()
        if processor.connecting:
            processor.connect()
            processor.disconnect()
    assert isinstance(failure(processor), GeneratorUnavailable)
    assert processor.now == since + GENERATOR_TIMEOUT


def test_a_full_window_is_waited_for_as_long_as_the_store_may_fail() -> None:
    processor = started()
    processor.deliver(1)
    processor.deliver(2)
    processor.wait(STORE_TIMEOUT - 0.1)
    assert processor.exit is None
    processor.wait(0.1)
    problem = failure(processor)
    assert isinstance(problem, StoreUnavailable)
    assert problem.exit_code != 0


@pytest.mark.parametrize("progress", ["stored", "admitted"])
def test_progress_of_the_store_starts_the_limit_anew(progress: str) -> None:
    processor = started(batch_bytes=1)
    delivered(processor, 1)
    processor.deliver(2, 3, 4)
    processor.wait(STORE_TIMEOUT - 1)
    if progress == "stored":
        processor.store(1)
        processor.checkpoint_taken()
    else:
        processor.admit(2)
    assert done(processor.wait(STORE_TIMEOUT - 1)) == []
    assert processor.exit is None
    processor.wait(1)
    assert isinstance(failure(processor), StoreUnavailable)


def test_the_time_between_two_actions_does_not_count() -> None:
    processor = started()
    processor.deliver(1)
    processor.wait(10 * STORE_TIMEOUT)
    processor.deliver(2)
    processor.wait(STORE_TIMEOUT - 0.1)
    assert processor.exit is None
    processor.wait(0.1)
    assert isinstance(failure(processor), StoreUnavailable)


def test_the_time_without_a_generator_before_an_action_does_not_count_either_way() -> None:
    processor = started(batch_bytes=1)
    processor.disconnect()
    processor.wait(100.0)
    processor.deliver(1, 2)
    processor.open()
    processor.wait(STORE_TIMEOUT - 0.1)
    assert processor.exit is None
    processor.wait(0.2)
    assert isinstance(failure(processor), StoreUnavailable)


def test_a_repeated_report_is_no_progress() -> None:
    processor = started()
    delivered(processor, 1)
    processor.store(1)
    processor.deliver()
    processor.checkpoint_taken()
    processor.deliver(2)
    processor.deliver(3)
    processor.wait(STORE_TIMEOUT - 1)
    processor.store(1)
    processor.wait(1)
    assert isinstance(failure(processor), StoreUnavailable)


def test_time_without_a_generator_does_not_count_against_the_store() -> None:
    processor = started(generator_timeout=10 * STORE_TIMEOUT)
    processor.deliver(1)
    processor.deliver(2)
    processor.wait(100.0)
    processor.disconnect()
    processor.wait(2 * STORE_TIMEOUT)
    processor.connect()
    back = processor.now
    processor.wait(50.0)
    processor.welcome(1, generator_timeout=10 * STORE_TIMEOUT)
    assert processor.exit is None
    processor.wait(back + STORE_TIMEOUT - 100.1 - processor.now)
    assert processor.exit is None
    processor.wait(0.1)
    assert isinstance(failure(processor), StoreUnavailable)


def test_a_generator_that_comes_back_again_and_again_and_stores_nothing_is_no_progress() -> None:
    processor = started()
    delivered(processor, 1)
    processor.deliver(2)
    processor.deliver(3)
    for _ in range(round(STORE_TIMEOUT / 10) - 2):
        processor.wait(10.0)
        processor.disconnect()
        processor.open(1)
        processor.admit(1)
    assert processor.exit is None
    processor.wait(20.0)
    assert isinstance(failure(processor), StoreUnavailable)


# ---------------------------------------------------------------------- what is not put up with


@pytest.mark.parametrize(
    "name", ["Fenced", "StreamGone", "StreamReplaced", "StoreRefused", "VersionMismatch", "ProtocolError", "FrameError"]
)
@pytest.mark.parametrize("when", ["at hello", "later"])
def test_a_refusal_ends_the_process_with_the_error_that_it_names(name: str, when: str) -> None:
    processor = Processor()
    processor.initialize()
    processor.connect()
    if when == "later":
        processor.welcome()
        processor.deliver(1)
        processor.deliver(2)
    assert done(processor.refuse(name, "what happened", "what to do")) == []
    problem = failure(processor)
    assert type(problem) is getattr(errors, name)
    assert (problem.message, problem.hint) == ("what happened", "what to do")
    assert problem.exit_code != 0


@pytest.mark.parametrize("name", ["SomethingNew", "EXIT_OK", "annotations", "ClassVar", "__doc__", ""])
def test_a_refusal_by_an_unknown_name_still_says_why(name: str) -> None:
    processor = started()
    processor.refuse(name, "what happened", "what to do")
    problem = failure(processor)
    assert isinstance(problem, ProtocolError)
    assert "what happened" in problem.message
    assert problem.hint == "what to do"


def test_a_younger_session_of_the_shard_ends_this_one() -> None:
    processor = started()
    delivered(processor, 1)
    processor.refuse("Fenced")
    assert isinstance(failure(processor), Fenced)


@pytest.mark.parametrize(
    "message", [Stored(0), Admitted(1), Draining(), ShardEndConfirmed(), Progress(0, None), Status()]
)
def test_nothing_may_come_before_the_welcome(message: Message) -> None:
    processor = Processor()
    processor.initialize()
    processor.connect()
    processor.hear(message)
    assert isinstance(failure(processor), ProtocolError)


@pytest.mark.parametrize("number", [0, 1, 3, 4])
def test_an_admission_of_another_batch_ends_the_process(number: int) -> None:
    processor = started()
    delivered(processor, 1)
    processor.deliver(2)
    processor.admit(number)
    assert isinstance(failure(processor), ProtocolError)


@pytest.mark.parametrize("state", ["waiting", "draining", "resent"])
def test_a_report_of_a_batch_that_was_not_admitted_ends_the_process(state: str) -> None:
    processor = started()
    delivered(processor, 1)
    processor.deliver(2)
    if state == "draining":
        processor.drain()
    if state == "resent":
        processor.admit(2)
        processor.disconnect()
        processor.open(1)
        processor.admit(1)
    processor.hear(Stored(2))
    assert isinstance(failure(processor), ProtocolError)


def test_a_report_of_a_batch_that_does_not_exist_ends_the_process() -> None:
    processor = started()
    processor.hear(Stored(1))
    assert isinstance(failure(processor), ProtocolError)


@pytest.mark.parametrize("number", [0, 2, 5])
def test_a_welcome_to_a_batch_that_cannot_be_next_ends_the_process(number: int) -> None:
    processor = started()
    for one in (1, 2, 3):
        delivered(processor, one)
    processor.store(2)
    processor.disconnect()
    processor.connect()
    processor.welcome(number)
    assert isinstance(failure(processor), ProtocolError)


def test_a_second_welcome_ends_the_process() -> None:
    processor = started()
    processor.welcome()
    assert isinstance(failure(processor), ProtocolError)


@pytest.mark.parametrize("message", [Progress(0, None), Status(), Hello("a", "s", "x", 1, 1, "5", 1)])
def test_a_message_that_is_not_for_a_processor_ends_the_process(message: Message) -> None:
    processor = started()
    processor.hear(message)
    assert isinstance(failure(processor), ReceiverError)


def test_an_error_ends_the_process_and_no_action_is_reported_done() -> None:
    processor = started()
    processor.deliver(1)
    processor.deliver(2)
    assert done(processor.hear(Stored(9))) == []
    assert processor.core.deadline() is None
    assert processor.core.tick(processor.now + 1000.0) == []
    assert processor.core.disconnected(processor.now) == []
    assert processor.core.deadline() is None


def test_a_shutdown_is_bounded_by_the_drain_time_of_the_welcome() -> None:
    processor = started()
    delivered(processor, 1)
    processor.shutdown_requested()
    assert processor.core.deadline() == processor.now + DRAIN


def test_the_window_and_the_interval_are_those_of_the_welcome() -> None:
    processor = started(batch_bytes=300)
    delivered(processor, *range(1, 20))
    assert max(part.memory for _, part in processor.batches.values()) <= 300
    assert [one for _, part in processor.batches.values() for one in places(part)] == [
        Position(one) for one in range(1, 20)
    ]
    processor.store(1)
    processor.deliver()
    processor.checkpoint_taken()
    processor.store(2)
    processor.deliver(*range(20, 40))
    assert processor.core.deadline() == processor.now + CHECKPOINT_INTERVAL


@pytest.mark.parametrize("number", [2, 3])
def test_a_welcome_past_a_batch_that_was_never_sent_ends_the_process(number: int) -> None:
    processor = Processor()
    processor.initialize()
    processor.connect()
    processor.deliver(1, 2)
    processor.welcome(number)
    assert isinstance(failure(processor), ProtocolError)


@pytest.mark.parametrize("name", ["FrameError", "NoSuchError", ""])
def test_a_refusal_without_words_still_says_what_happened(name: str) -> None:
    processor = started()
    processor.hear(Refused(name, " ", ""))
    assert "gave no reason" in failure(processor).message
