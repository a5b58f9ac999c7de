"""processRecords: what is sent, when it is done, and when a checkpoint is made in it."""

from __future__ import annotations

import pytest
from processor_harness import (
    CHECKPOINT_INTERVAL,
    SHARD,
    START,
    Processor,
    asked,
    columns,
    connects,
    delivered,
    done,
    failure,
    numbers,
    places,
    started,
    taken,
    told,
)

from kcl_receiver.errors import DaemonError
from kcl_receiver.processor.codec import ProcessRecords
from kcl_receiver.processor.core import HEARTBEAT_SECONDS
from kcl_receiver.processor.effects import Exit
from kcl_receiver.ranges import TRIM_HORIZON, Position
from kcl_receiver.wire.columns import checksum
from kcl_receiver.wire.messages import Hello, Progress

# ---------------------------------------------------------------------- the first steps


def test_initialize_is_done_at_once_and_the_generator_is_looked_for() -> None:
    effects = Processor().initialize()
    assert (done(effects), connects(effects)) == (["initialize"], 1)


def test_hello_says_who_comes_and_where_reading_began() -> None:
    processor = Processor()
    processor.initialize((7, 3))
    (hello,) = told(processor.connect(), Hello)
    assert hello == Hello("landing", SHARD, "session-1", round(START * 1e9), 4711, "7:3", 1)


def test_an_empty_list_is_done_at_once_even_without_a_generator() -> None:
    processor = Processor()
    processor.initialize()
    assert done(processor.deliver()) == ["processRecords"]


def test_a_batch_waits_for_the_welcome() -> None:
    processor = Processor()
    processor.initialize()
    assert numbers(processor.deliver(1, 2)) == []
    assert numbers(processor.connect()) == []
    assert numbers(processor.welcome()) == [1]


# ---------------------------------------------------------------------- admission


def test_success_is_reported_when_all_but_the_last_batch_is_admitted_and_not_before() -> None:
    processor = started(batch_bytes=1)
    assert done(processor.deliver(1, 2, 3)) == []
    assert done(processor.wait(1.0)) == []
    assert done(processor.admit(1)) == []
    assert done(processor.wait(1.0)) == []
    assert done(processor.admit(2)) == ["processRecords"]


def test_a_delivery_of_one_batch_is_done_as_soon_as_it_is_on_its_way() -> None:
    processor = started()
    effects = processor.deliver(1, 2)
    assert (numbers(effects), done(effects)) == ([1], ["processRecords"])


def test_the_next_delivery_waits_for_the_batch_that_was_left_on_its_way() -> None:
    processor = started()
    processor.deliver(1)
    effects = [*processor.deliver(2), *processor.wait(1.0)]
    assert (numbers(effects), done(effects)) == ([], [])
    effects = processor.admit(1)
    assert (numbers(effects), done(effects)) == ([2], ["processRecords"])


@pytest.mark.parametrize("known", [(), (1, 2)])
def test_a_call_without_news_does_not_wait_for_the_batch_that_is_on_its_way(known: tuple[int, ...]) -> None:
    processor = started()
    processor.deliver(1, 2)
    effects = processor.deliver(*known)
    assert (numbers(effects), done(effects)) == ([], ["processRecords"])
    assert numbers(processor.admit(1)) == []


def test_a_batch_that_is_admitted_between_two_calls_does_not_hold_up_the_next() -> None:
    processor = started()
    processor.deliver(1)
    assert done(processor.admit(1)) == []
    effects = processor.deliver(2)
    assert (numbers(effects), done(effects)) == ([2], ["processRecords"])


def test_success_does_not_wait_for_the_store() -> None:
    processor = started()
    for number in range(1, 6):
        assert done(processor.deliver(number)) == ["processRecords"]
        assert asked(processor.admit(number)) == []


def test_what_is_stored_behind_a_gap_is_kept_and_counts_against_the_window() -> None:
    # The generator admits more than the window, since it has stored all but the first batch.
    size = columns([1]).memory
    processor = started(window=2 * size)
    for number in (1, 2):
        assert done(processor.deliver(number)) == ["processRecords"]
        processor.admit(number)
    assert done(processor.deliver(3)) == ["processRecords"]
    assert done(processor.admit(3)) == []
    effects = processor.deliver(4)
    assert (numbers(effects), done(effects), done(processor.wait(1.0))) == ([4], [], [])
    assert asked(processor.store(3)) == [Position(3)]
    assert done(processor.checkpoint_taken()) == ["processRecords"]
    assert processor.core.kept_bytes == size


def test_a_large_delivery_is_sent_in_parts_one_at_a_time() -> None:
    processor = started(batch_bytes=1)
    assert numbers(processor.deliver(1, 2, 3)) == [1]
    effects = processor.admit(1)
    assert (numbers(effects), done(effects)) == ([2], [])
    effects = processor.admit(2)
    assert (numbers(effects), done(effects)) == ([3], ["processRecords"])
    assert numbers(processor.admit(3)) == []


def test_a_batch_says_what_is_in_it() -> None:
    processor = started()
    processor.deliver(11, (12, 0), (12, 1), behind=250)
    message, columns = processor.batches[1]
    assert places(columns) == [Position(11), Position(12, 0), Position(12, 1)]
    assert (message.after, message.first, message.last, message.whole) == (TRIM_HORIZON, "11:0", "12:1", "12:1")
    assert (message.count, message.behind, message.arrival_first, message.arrival_last) == (3, 250, 11, 12)
    assert message.checksum == checksum(columns)


def test_each_batch_follows_what_was_delivered_before_it_and_not_what_was_stored() -> None:
    processor = started(after=5, batch_bytes=1)
    delivered(processor, 6, 7)
    delivered(processor, 9)
    assert [processor.batches[number][0].after for number in (1, 2, 3)] == ["5:0", "6:0", "7:0"]


def test_lag_and_checkpoint_are_told_when_they_change() -> None:
    processor = started()
    assert told(processor.deliver(behind=500), Progress) == [Progress(500, None)]
    assert told(processor.deliver(behind=500), Progress) == []
    taken(processor, 1)
    assert told(processor.deliver(behind=0), Progress) == [Progress(0, "1:0")]


def test_a_processor_that_is_called_says_so_now_and_then_though_nothing_changes() -> None:
    processor = started()
    processor.deliver(behind=0)
    processor.now += HEARTBEAT_SECONDS - 0.1
    assert told(processor.deliver(behind=0), Progress) == []
    processor.now += 0.1
    assert told(processor.deliver(behind=0), Progress) == [Progress(0, None)]
    assert told(processor.deliver(behind=0), Progress) == []


def test_the_checkpoint_that_reading_began_at_is_told() -> None:
    assert told(started(after=5).deliver(behind=500), Progress) == [Progress(500, "5:0")]


def test_lag_and_checkpoint_are_told_again_to_a_generator_that_came_back() -> None:
    processor = started()
    processor.deliver(behind=500)
    processor.disconnect()
    processor.open()
    assert told(processor.deliver(behind=500), Progress) == [Progress(500, None)]


# ---------------------------------------------------------------------- checkpoints


def test_the_first_checkpoint_is_made_as_soon_as_something_is_stored() -> None:
    processor = started()
    delivered(processor, 1, 2)
    processor.store(1)
    assert asked(processor.deliver(3)) == [Position(2)]


def test_nothing_is_checkpointed_before_it_is_reported_stored() -> None:
    processor = started()
    delivered(processor, 1, 2)
    processor.wait(100 * CHECKPOINT_INTERVAL)
    assert asked(processor.deliver(3)) == []


def test_a_report_that_comes_between_two_actions_waits_for_the_next_one() -> None:
    processor = started()
    delivered(processor, 1)
    assert processor.store(1) == []
    assert processor.wait(100.0) == []
    assert asked(processor.deliver()) == [Position(1)]


def test_an_action_is_not_done_before_the_daemon_answered_the_checkpoint() -> None:
    processor = started()
    delivered(processor, 1)
    processor.store(1)
    effects = processor.deliver(2)
    assert (asked(effects), done(effects)) == ([Position(1)], [])
    assert done(processor.admit(2)) == []
    assert done(processor.checkpoint_taken()) == ["processRecords"]


def test_the_batch_goes_to_the_generator_while_the_daemon_makes_the_checkpoint() -> None:
    processor = started()
    delivered(processor, 1)
    processor.store(1)
    assert numbers(processor.deliver(2)) == [2]


def test_a_checkpoint_is_made_again_only_after_the_interval() -> None:
    processor = started()
    taken(processor, 1)
    delivered(processor, 2)
    processor.store(2)
    processor.wait(CHECKPOINT_INTERVAL - 0.1)
    assert asked(processor.deliver()) == []
    processor.wait(0.1)
    assert asked(processor.deliver()) == [Position(2)]


def test_the_interval_is_counted_from_the_daemons_answer() -> None:
    processor = started()
    delivered(processor, 1)
    processor.store(1)
    processor.deliver(2)
    processor.admit(2)
    processor.store(2)
    processor.wait(CHECKPOINT_INTERVAL)
    processor.checkpoint_taken()
    assert asked(processor.deliver()) == []


def test_a_checkpoint_is_made_only_when_the_number_rose() -> None:
    processor = started()
    taken(processor, 1)
    for _ in range(3):
        processor.wait(2 * CHECKPOINT_INTERVAL)
        effects = processor.deliver()
        assert (asked(effects), done(effects)) == ([], ["processRecords"])


def test_a_start_at_a_checkpoint_is_not_checkpointed_again() -> None:
    processor = started(after=5)
    processor.wait(2 * CHECKPOINT_INTERVAL)
    assert asked(processor.deliver()) == []
    assert asked(processor.deliver(6)) == []


def test_an_empty_call_checkpoints_the_last_block_of_an_idle_shard() -> None:
    processor = started()
    taken(processor, 1)
    delivered(processor, 2)
    processor.wait(CHECKPOINT_INTERVAL)
    processor.store(2)
    assert asked(processor.deliver()) == [Position(2)]
    assert done(processor.checkpoint_taken()) == ["processRecords"]


def test_a_checkpoint_covers_all_that_is_stored_in_one_go() -> None:
    processor = started()
    for number in (1, 2, 3):
        delivered(processor, number)
    processor.store(2)
    assert asked(processor.deliver()) == [Position(2)]


def test_what_is_stored_while_the_window_is_full_is_checkpointed_meanwhile() -> None:
    processor = started()
    taken(processor, 1)
    delivered(processor, 2)
    processor.deliver(3)
    processor.deliver(4)
    processor.store(2)
    assert asked(processor.wait(CHECKPOINT_INTERVAL - 0.1)) == []
    assert asked(processor.wait(0.1)) == [Position(2)]
    assert done(processor.checkpoint_taken()) == []
    assert done(processor.admit(3)) == ["processRecords"]


def test_stored_in_the_middle_of_an_aggregate_is_checkpointed_at_the_record_before() -> None:
    processor = started(batch_bytes=1)
    delivered(processor, 1, (2, 0), (2, 1), 3)
    processor.store(3 - 1)
    assert asked(processor.deliver()) == [Position(1)]
    processor.checkpoint_taken()
    processor.store(3)
    processor.wait(CHECKPOINT_INTERVAL)
    assert asked(processor.deliver()) == [Position(2, 1)]


def test_an_aggregate_is_checkpointed_at_its_last_sub_sequence_number() -> None:
    processor = started()
    delivered(processor, (2, 0), (2, 1), (2, 2))
    processor.store(1)
    assert asked(processor.deliver()) == [Position(2, 2)]


# ---------------------------------------------------------------------- refused checkpoints


@pytest.mark.parametrize("error", ["ThrottlingException", "KinesisClientLibDependencyException"])
def test_a_checkpoint_error_that_mends_waits_for_a_later_action(error: str) -> None:
    processor = started()
    delivered(processor, 1)
    processor.store(1)
    processor.deliver()
    assert done(processor.checkpoint_failed(error)) == ["processRecords"]
    assert asked(processor.deliver()) == []
    processor.wait(CHECKPOINT_INTERVAL)
    assert asked(processor.deliver()) == [Position(1)]


def test_a_later_checkpoint_takes_the_place_of_one_that_failed() -> None:
    processor = started()
    delivered(processor, 1)
    processor.store(1)
    processor.deliver(2)
    processor.admit(2)
    processor.checkpoint_failed("ThrottlingException")
    processor.store(2)
    processor.wait(CHECKPOINT_INTERVAL)
    assert asked(processor.deliver()) == [Position(2)]


def test_a_failed_checkpoint_is_tried_again_while_the_window_is_full() -> None:
    processor = started()
    delivered(processor, 1)
    processor.deliver(2)
    processor.store(1)
    processor.deliver(3)
    assert done(processor.checkpoint_failed("ThrottlingException")) == []
    assert asked(processor.wait(CHECKPOINT_INTERVAL - 0.1)) == []
    assert asked(processor.wait(0.1)) == [Position(1)]


@pytest.mark.parametrize(
    "error", ["IllegalArgumentException", "InvalidStateException", "NullPointerException", "SomethingNew", ""]
)
def test_a_checkpoint_refused_for_good_ends_the_process(error: str) -> None:
    processor = started()
    delivered(processor, 1)
    processor.store(1)
    processor.deliver()
    assert done(processor.checkpoint_failed(error)) == []
    problem = failure(processor)
    assert isinstance(problem, DaemonError)
    assert problem.exit_code != 0
    assert SHARD in problem.message
    assert error in problem.message


# ---------------------------------------------------------------------- delivered again


def test_records_that_kcl_delivers_again_are_not_sent_again() -> None:
    processor = started()
    delivered(processor, 1, 2, 3)
    delivered(processor, 2, 3, 4, 5)
    assert places(processor.batches[2][1]) == [Position(4), Position(5)]
    assert processor.batches[2][0].after == "3:0"


def test_a_delivery_of_nothing_new_is_done_at_once() -> None:
    processor = started()
    delivered(processor, 1, 2)
    effects = processor.deliver(1, 2)
    assert (numbers(effects), done(effects)) == ([], ["processRecords"])


def test_an_aggregate_that_is_delivered_again_is_cut_at_what_is_known() -> None:
    processor = started(after=(4, 1))
    delivered(processor, (4, 0), (4, 1), (4, 2), 5)
    assert places(processor.batches[1][1]) == [Position(4, 2), Position(5)]


def test_numbers_of_different_lengths_are_cut_as_numbers() -> None:
    processor = started()
    delivered(processor, 9, 99)
    delivered(processor, 9, 99, 100, 10**56)
    assert places(processor.batches[2][1]) == [Position(100), Position(10**56)]


# ---------------------------------------------------------------------- the daemon's own rules


def test_a_second_action_before_the_first_is_done_ends_the_process() -> None:
    processor = started()
    processor.deliver(1)
    processor.deliver(2)
    (effect,) = processor.core.action(ProcessRecords(None, 0), processor.now)
    assert isinstance(effect, Exit)
    assert isinstance(effect.error, DaemonError)
    assert processor.core.tick(processor.now) == []
    assert processor.core.deadline() is None


def test_records_before_initialize_end_the_process() -> None:
    processor = Processor()
    processor.deliver(1)
    assert isinstance(failure(processor), DaemonError)


def test_a_second_initialize_ends_the_process() -> None:
    processor = started()
    processor.initialize()
    assert isinstance(failure(processor), DaemonError)


def test_an_answer_to_no_checkpoint_ends_the_process() -> None:
    processor = started()
    processor._check(processor.core.checkpoint_result(None, processor.now))
    assert isinstance(failure(processor), DaemonError)


@pytest.mark.parametrize("state", ["idle", "waiting for the generator", "waiting for the window", "at a checkpoint"])
def test_the_end_of_the_daemons_lines_ends_the_process_at_once_and_in_order(state: str) -> None:
    processor = Processor()
    processor.initialize()
    if state != "waiting for the generator":
        processor.open()
    if state == "at a checkpoint":
        delivered(processor, 1)
        processor.store(1)
    if state != "idle":
        processor.deliver(2)
    if state == "waiting for the window":
        processor.deliver(3)
    assert done(processor.hang_up()) == []
    assert processor.exit is not None
    assert processor.exit.error is None
