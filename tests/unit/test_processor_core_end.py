"""The three ways in which a shard is left: its end, a requested shutdown, a lost lease."""

from __future__ import annotations

import pytest
from processor_harness import (
    CHECKPOINT_INTERVAL,
    DRAIN,
    GENERATOR_TIMEOUT,
    SHARD,
    STORE_TIMEOUT,
    Processor,
    asked,
    connects,
    delivered,
    done,
    failure,
    numbers,
    started,
    taken,
    told,
)

from kcl_receiver.errors import DaemonError, GeneratorUnavailable, StoreUnavailable, StreamGone, StreamReplaced
from kcl_receiver.processor.codec import ShardEnded
from kcl_receiver.processor.effects import Done, Transmit
from kcl_receiver.ranges import Position
from kcl_receiver.wire.messages import Admitted, Flush, Leave, Progress, ShardEnd, ShardEndConfirmed, Stored

MENDING = ["ThrottlingException", "KinesisClientLibDependencyException"]

# ---------------------------------------------------------------------- the end of the shard


def ended(processor: Processor) -> None:
    """Bring the processor to where SHARD_END is asked for."""
    processor.shard_ended()
    processor.confirm_end()
    assert processor.checkpointing is not None


def test_shard_end_flushes_and_waits_until_everything_is_stored() -> None:
    processor = started()
    delivered(processor, 1)
    delivered(processor, 2)
    effects = processor.shard_ended()
    assert (len(told(effects, Flush)), told(effects, ShardEnd), asked(effects), done(effects)) == (1, [], [], [])
    effects = processor.store(1)
    assert (told(effects, Flush), told(effects, ShardEnd), asked(effects), done(effects)) == ([], [], [], [])


def test_shard_end_asks_the_generator_once_all_is_stored() -> None:
    processor = started()
    delivered(processor, 1)
    delivered(processor, 2)
    processor.shard_ended()
    effects = processor.store(2)
    assert (told(effects, ShardEnd), asked(effects), done(effects)) == ([ShardEnd("2:0")], [], [])
    assert processor.wait(10.0) == []
    assert processor.tick() == []


def test_shard_end_is_checkpointed_only_after_the_stream_confirmed_it() -> None:
    processor = started()
    delivered(processor, 1)
    processor.shard_ended()
    processor.store(1)
    effects = processor.confirm_end()
    assert (asked(effects), done(effects)) == ([None], [])
    assert done(processor.checkpoint_taken()) == ["shardEnded"]


def test_the_generator_is_told_that_kcl_has_taken_the_end_before_the_daemon_ends_the_process() -> None:
    processor = started()
    delivered(processor, 1)
    processor.shard_ended()
    processor.store(1)
    processor.confirm_end()
    effects = processor.checkpoint_taken()
    assert effects == [Transmit(Progress(0, "SHARD_END")), Done(ShardEnded())]


def test_an_empty_shard_ends_as_well() -> None:
    processor = started()
    effects = processor.shard_ended()
    assert (told(effects, Flush), told(effects, ShardEnd)) == ([], [ShardEnd("TRIM_HORIZON")])
    assert asked(processor.confirm_end()) == [None]
    assert done(processor.checkpoint_taken()) == ["shardEnded"]


def test_a_confirmation_before_everything_is_stored_does_not_end_the_shard() -> None:
    processor = started()
    delivered(processor, 1)
    processor.shard_ended()
    assert asked(processor.confirm_end()) == []
    assert asked(processor.store(1)) == [None]


def test_batches_left_from_a_draining_generator_are_sent_before_the_shard_ends() -> None:
    processor = started()
    processor.deliver(1)
    processor.drain()
    assert told(processor.shard_ended(), ShardEnd) == []
    processor.disconnect()
    effects = processor.open()
    assert (numbers(effects), told(effects, Flush)) == ([1], [])
    assert len(told(processor.admit(1), Flush)) == 1
    assert told(processor.store(1), ShardEnd) == [ShardEnd("1:0")]


def test_a_batch_left_on_its_way_is_admitted_flushed_and_stored_before_the_shard_ends() -> None:
    processor = started()
    delivered(processor, 1)
    processor.deliver(2)
    effects = [*processor.shard_ended(), *processor.store(1), *processor.wait(1.0)]
    assert (told(effects, Flush), told(effects, ShardEnd), asked(effects), done(effects)) == ([], [], [], [])
    effects = processor.admit(2)
    assert (len(told(effects, Flush)), told(effects, ShardEnd)) == (1, [])
    assert told(processor.store(2), ShardEnd) == [ShardEnd("2:0")]
    assert asked(processor.confirm_end()) == [None]
    assert done(processor.checkpoint_taken()) == ["shardEnded"]


def test_a_shard_does_not_end_while_the_batch_left_on_its_way_is_not_admitted() -> None:
    processor = started()
    processor.deliver(1)
    effects = [*processor.shard_ended(), *processor.wait(STORE_TIMEOUT)]
    assert (told(effects, ShardEnd), asked(effects), done(effects)) == ([], [], [])
    assert isinstance(failure(processor), StoreUnavailable)


def test_a_generator_that_comes_back_is_flushed_and_asked_again() -> None:
    processor = started()
    delivered(processor, 1)
    processor.shard_ended()
    processor.disconnect()
    processor.open()
    assert len(told(processor.admit(1), Flush)) == 1
    assert len(told(processor.store(1), ShardEnd)) == 1
    processor.disconnect()
    assert len(told(processor.open(2), ShardEnd)) == 1
    assert asked(processor.confirm_end()) == [None]


@pytest.mark.parametrize("error", MENDING)
def test_shard_end_is_tried_again_in_place_with_growing_pauses(error: str) -> None:
    processor = started()
    ended(processor)
    pauses = []
    for _ in range(6):
        assert (done(processor.checkpoint_failed(error)), processor.pending is not None) == ([], True)
        failed_at = processor.now
        while processor.checkpointing is None:
            due = processor.core.deadline()
            assert due is not None
            processor.now = due
            assert set(asked(processor.tick())) <= {None}
        pauses.append(processor.now - failed_at)
    assert all(0 < pause <= 5.0 for pause in pauses)
    assert pauses[3] > 2 * pauses[0]
    assert done(processor.checkpoint_taken()) == ["shardEnded"]


@pytest.mark.parametrize("error", MENDING)
def test_a_shard_end_that_cannot_be_checkpointed_in_time_ends_the_process(error: str) -> None:
    processor = started()
    ended(processor)
    since = processor.now
    while processor.exit is None:
        assert processor.now <= since + STORE_TIMEOUT
        if processor.checkpointing is not None:
            processor.checkpoint_failed(error)
        else:
            due = processor.core.deadline()
            assert due is not None
            processor.now = due
            assert done(processor.tick()) == []
    problem = failure(processor)
    assert isinstance(problem, DaemonError)
    assert error in problem.message
    assert SHARD in problem.message


def test_a_generator_that_left_after_its_confirmation_is_not_needed_for_the_checkpoint() -> None:
    processor = started()
    ended(processor)
    processor.disconnect()
    processor.checkpoint_failed("ThrottlingException")
    waited = 0.0
    while waited < 2 * GENERATOR_TIMEOUT:
        if processor.checkpointing is not None:
            processor.checkpoint_failed("ThrottlingException")
        processor.wait(1.0)
        waited += 1.0
    assert processor.exit is None
    processor.wait(10.0)
    assert done(processor.checkpoint_taken()) == ["shardEnded"]


def test_a_lease_lost_at_the_end_of_the_shard_is_the_next_owners_to_end() -> None:
    processor = started()
    ended(processor)
    assert done(processor.checkpoint_failed("ShutdownException")) == ["shardEnded"]
    assert processor.exit is None


@pytest.mark.parametrize("error", ["IllegalArgumentException", "InvalidStateException", "Other"])
def test_shard_end_refused_for_good_ends_the_process(error: str) -> None:
    processor = started()
    ended(processor)
    assert done(processor.checkpoint_failed(error)) == []
    assert isinstance(failure(processor), DaemonError)
    assert "SHARD_END" in failure(processor).message


@pytest.mark.parametrize("kind", [StreamGone, StreamReplaced])
def test_a_stream_that_is_gone_does_not_end_its_shards(kind: type[Exception]) -> None:
    processor = started()
    processor.shard_ended()
    effects = processor.refuse(kind.__name__, "the stream was deleted", "do this")
    assert (asked(effects), done(effects)) == ([], [])
    assert type(failure(processor)) is kind
    assert (failure(processor).message, failure(processor).hint) == ("the stream was deleted", "do this")


def test_without_a_confirmation_the_process_leaves_and_the_shard_is_not_ended() -> None:
    processor = started()
    processor.shard_ended()
    effects = processor.wait(STORE_TIMEOUT)
    assert (asked(effects), done(effects)) == ([], [])
    assert isinstance(failure(processor), StoreUnavailable)


@pytest.mark.parametrize("records", [(), (1,)])
def test_without_a_generator_the_process_leaves_and_the_shard_is_not_ended(records: tuple[int, ...]) -> None:
    processor = started()
    if records:
        delivered(processor, *records)
    processor.disconnect()
    processor.shard_ended()
    effects = processor.wait(GENERATOR_TIMEOUT)
    assert (asked(effects), done(effects)) == ([], [])
    assert isinstance(failure(processor), GeneratorUnavailable)


def test_the_store_may_take_its_time_in_the_middle_of_the_shards_end() -> None:
    processor = started()
    for number in (1, 2, 3):
        delivered(processor, number)
    processor.shard_ended()
    for number in (1, 2):
        processor.wait(STORE_TIMEOUT - 1)
        processor.store(number)
    assert processor.wait(STORE_TIMEOUT - 1) == []
    assert processor.exit is None
    processor.wait(1)
    assert isinstance(failure(processor), StoreUnavailable)


def test_a_shard_end_after_the_lease_was_lost_ends_the_process() -> None:
    processor = started()
    delivered(processor, 1)
    processor.store(1)
    processor.deliver()
    processor.checkpoint_failed("ShutdownException")
    effects = processor.shard_ended()
    assert (asked(effects), done(effects)) == ([], [])
    assert isinstance(failure(processor), DaemonError)


# ---------------------------------------------------------------------- shutdown requested


def test_shutdown_flushes_and_checkpoints_what_is_then_stored() -> None:
    processor = started()
    delivered(processor, 1)
    effects = processor.shutdown_requested()
    assert (len(told(effects, Flush)), done(effects)) == (1, [])
    assert asked(processor.store(1)) == [Position(1)]
    assert done(processor.checkpoint_taken()) == ["shutdownRequested"]


def test_shutdown_flushes_once_the_batch_left_on_its_way_is_admitted() -> None:
    processor = started()
    delivered(processor, 1)
    processor.deliver(2)
    effects = processor.shutdown_requested()
    assert (told(effects, Flush), asked(effects), done(effects)) == ([], [], [])
    assert asked(processor.store(1)) == []
    assert len(told(processor.admit(2), Flush)) == 1
    assert asked(processor.store(2)) == [Position(2)]
    assert done(processor.checkpoint_taken()) == ["shutdownRequested"]


def test_shutdown_with_a_batch_that_is_not_admitted_in_time_checkpoints_what_is_stored() -> None:
    processor = started()
    delivered(processor, 1)
    processor.deliver(2)
    processor.shutdown_requested()
    processor.store(1)
    effects = processor.wait(DRAIN)
    assert (asked(effects), done(effects)) == ([Position(1)], [])
    assert done(processor.checkpoint_taken()) == ["shutdownRequested"]


def test_shutdown_does_not_wait_for_the_checkpoint_interval() -> None:
    processor = started()
    taken(processor, 1)
    delivered(processor, 2)
    processor.store(2)
    assert asked(processor.shutdown_requested()) == [Position(2)]


def test_shutdown_waits_for_all_of_it_before_its_one_checkpoint() -> None:
    processor = started()
    delivered(processor, 1)
    delivered(processor, 2)
    processor.shutdown_requested()
    assert asked(processor.store(1)) == []
    assert asked(processor.store(2)) == [Position(2)]


@pytest.mark.parametrize("connected", [True, False])
def test_shutdown_with_nothing_to_store_is_done_at_once(connected: bool) -> None:
    processor = started()
    taken(processor, 1)
    if not connected:
        processor.disconnect()
    assert done(processor.shutdown_requested()) == ["shutdownRequested"]


def test_shutdown_waits_at_most_the_drain_time_and_checkpoints_what_is_stored() -> None:
    processor = started()
    delivered(processor, 1)
    delivered(processor, 2)
    processor.shutdown_requested()
    processor.store(1)
    effects = processor.wait(DRAIN - 0.1)
    assert (asked(effects), done(effects)) == ([], [])
    effects = processor.wait(0.1)
    assert (asked(effects), done(effects)) == ([Position(1)], [])
    assert done(processor.checkpoint_taken()) == ["shutdownRequested"]


def test_a_late_shutdown_with_nothing_stored_makes_no_checkpoint() -> None:
    processor = started()
    delivered(processor, 1)
    processor.shutdown_requested()
    effects = processor.wait(DRAIN)
    assert (asked(effects), done(effects)) == ([], ["shutdownRequested"])


def test_shutdown_with_the_generator_away_waits_for_it_and_no_longer() -> None:
    processor = started()
    delivered(processor, 1)
    processor.disconnect()
    assert done(processor.shutdown_requested()) == []
    assert connects(processor.wait(DRAIN - 0.1)) > 1
    assert done(processor.wait(0.1)) == ["shutdownRequested"]


def test_shutdown_with_a_generator_that_comes_back_sends_and_flushes() -> None:
    processor = started()
    delivered(processor, 1)
    processor.disconnect()
    processor.shutdown_requested()
    processor.wait(1.0)
    assert numbers(processor.open()) == [1]
    assert len(told(processor.admit(1), Flush)) == 1
    assert asked(processor.store(1)) == [Position(1)]


def test_shutdown_under_a_draining_generator_does_not_wait_for_what_it_will_not_take() -> None:
    processor = started()
    delivered(processor, 1)
    processor.deliver(2)
    processor.drain()
    assert done(processor.shutdown_requested()) == []
    assert asked(processor.store(1)) == [Position(1)]
    assert done(processor.checkpoint_taken()) == ["shutdownRequested"]


@pytest.mark.parametrize("error", MENDING)
def test_a_checkpoint_at_shutdown_is_tried_again_in_place(error: str) -> None:
    processor = started()
    delivered(processor, 1)
    processor.store(1)
    processor.shutdown_requested()
    assert done(processor.checkpoint_failed(error)) == []
    assert asked(processor.wait(1.0)) == [Position(1)]
    assert done(processor.checkpoint_taken()) == ["shutdownRequested"]


@pytest.mark.parametrize("error", MENDING)
def test_a_checkpoint_that_fails_until_the_drain_time_is_over_is_given_up(error: str) -> None:
    processor = started()
    delivered(processor, 1)
    processor.store(1)
    since = processor.now
    effects = processor.shutdown_requested()
    tries = 0
    while processor.pending is not None:
        tries += 1
        effects = processor.checkpoint_failed(error)
        while processor.pending is not None and processor.checkpointing is None:
            due = processor.core.deadline()
            assert due is not None
            assert due <= since + DRAIN
            processor.now = due
            effects = processor.tick()
    assert done(effects) == ["shutdownRequested"]
    assert processor.now == since + DRAIN, "time was left, or the limit passed"
    assert tries > 3
    assert processor.exit is None


def test_the_last_try_is_made_when_time_is_over_whatever_the_pause() -> None:
    processor = started()
    delivered(processor, 1)
    processor.store(1)
    processor.shutdown_requested()
    processor.now += DRAIN - 0.01
    processor.checkpoint_failed("ThrottlingException")
    assert asked(processor.wait(0.01)) == [Position(1)]


def test_a_lease_lost_during_shutdown_is_done_without_a_checkpoint() -> None:
    processor = started()
    delivered(processor, 1)
    processor.store(1)
    processor.shutdown_requested()
    effects = processor.checkpoint_failed("ShutdownException")
    assert (asked(effects), done(effects)) == ([], ["shutdownRequested"])


@pytest.mark.parametrize("error", ["IllegalArgumentException", "InvalidStateException", "Other"])
def test_a_checkpoint_refused_for_good_at_shutdown_ends_the_process(error: str) -> None:
    processor = started()
    delivered(processor, 1)
    processor.store(1)
    processor.shutdown_requested()
    assert done(processor.checkpoint_failed(error)) == []
    assert isinstance(failure(processor), DaemonError)


def given_up_at_shutdown() -> Processor:
    """Return a processor whose checkpoint was throttled for the whole drain time."""
    processor = started()
    delivered(processor, 1)
    processor.store(1)
    processor.shutdown_requested()
    while processor.pending is not None:
        processor.checkpoint_failed("ThrottlingException")
        processor.wait(5.0)
    return processor


def test_a_checkpoint_given_up_at_shutdown_does_not_hold_up_the_next_action() -> None:
    processor = given_up_at_shutdown()
    processor.wait(2 * STORE_TIMEOUT)
    processor.shard_ended()
    assert asked(processor.confirm_end()) == [None]
    processor.checkpoint_failed("ThrottlingException")
    assert asked(processor.wait(0.2)) == [None]


def test_a_second_shutdown_tries_the_checkpoint_again() -> None:
    processor = given_up_at_shutdown()
    assert asked(processor.shutdown_requested()) == [Position(1)]
    assert done(processor.checkpoint_failed("ThrottlingException")) == []
    assert asked(processor.wait(0.2)) == [Position(1)]


def test_what_is_not_stored_after_a_late_shutdown_is_flushed_by_the_next_action() -> None:
    processor = started()
    delivered(processor, 1)
    assert len(told(processor.shutdown_requested(), Flush)) == 1
    processor.wait(DRAIN)
    assert len(told(processor.shard_ended(), Flush)) == 1


# ---------------------------------------------------------------------- lease lost


@pytest.mark.parametrize("stored", [True, False])
def test_a_lost_lease_is_done_at_once_without_a_checkpoint(stored: bool) -> None:
    processor = started()
    delivered(processor, 1)
    if stored:
        processor.store(1)
    effects = processor.lease_lost()
    assert (done(effects), asked(effects), len(told(effects, Leave))) == (["leaseLost"], [], 1)


def test_what_is_not_stored_is_dropped_with_the_lease() -> None:
    processor = started()
    delivered(processor, 1, 2)
    assert processor.core.kept_bytes > 0
    processor.lease_lost()
    assert processor.core.kept_bytes == 0


def test_a_batch_left_on_its_way_is_dropped_with_the_lease() -> None:
    processor = started()
    delivered(processor, 1)
    processor.deliver(2)
    effects = processor.lease_lost()
    assert (done(effects), asked(effects), len(told(effects, Leave))) == (["leaseLost"], [], 1)
    assert processor.core.kept_bytes == 0
    assert processor.hear(Admitted(2)) == []


def test_after_the_lease_is_lost_nobody_is_looked_for() -> None:
    processor = started()
    delivered(processor, 1)
    processor.lease_lost()
    assert processor.disconnect() == []
    assert processor.core.deadline() is None
    assert processor.wait(1000.0) == []


def test_a_lease_lost_without_a_generator_is_done_and_stops_looking_for_one() -> None:
    processor = Processor()
    processor.initialize()
    processor.disconnect()
    assert done(processor.lease_lost()) == ["leaseLost"]
    assert processor.core.deadline() is None


def test_a_shutdown_exception_means_that_the_lease_is_lost() -> None:
    processor = started()
    delivered(processor, 1)
    processor.store(1)
    processor.deliver(2)
    effects = processor.checkpoint_failed("ShutdownException")
    assert (done(effects), len(told(effects, Leave))) == (["processRecords"], 1)
    processor.wait(2 * CHECKPOINT_INTERVAL)
    effects = processor.deliver(3, behind=77)
    assert (numbers(effects), asked(effects), done(effects)) == ([], [], ["processRecords"])
    effects = processor.lease_lost()
    assert (done(effects), told(effects, Leave)) == (["leaseLost"], [])


def test_what_was_on_its_way_when_the_lease_was_lost_changes_nothing() -> None:
    processor = started()
    delivered(processor, 1)
    processor.store(1)
    processor.deliver(2)
    processor.checkpoint_failed("ShutdownException")
    for message in (ShardEndConfirmed(), Stored(2)):
        assert processor.hear(message) == []
    assert processor.admit(2) == []
    assert processor.drain() == []
    assert processor.refuse("Fenced") == []
    assert processor.exit is None


def test_a_lease_lost_before_the_welcome_says_so_after_it() -> None:
    processor = started()
    delivered(processor, 1)
    delivered(processor, 2)
    processor.store(1)
    processor.disconnect()
    processor.deliver(3)
    processor.connect()
    processor.checkpoint_failed("ShutdownException")
    effects = processor.welcome(2)
    assert (len(told(effects, Leave)), numbers(effects)) == (1, [])
    assert processor.exit is None
