"""The cases of Spark's KinesisReceiverSuite and KinesisCheckpointerSuite, each for plain and for aggregated records.

docs/reliability.md says which of their tests has its counterpart here. `processor_harness` holds every effect to the
contract besides: no checkpoint past what was reported stored, or within an aggregate, or twice at one position.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from aggregation import Form, forms
from processor_harness import (
    CHECKPOINT_INTERVAL,
    DRAIN,
    SHARD,
    STORE_TIMEOUT,
    Processor,
    asked,
    delivered,
    done,
    failure,
    numbers,
    places,
    started,
    taken,
    told,
)

from kcl_receiver.errors import DaemonError, ReceiverError, StoreUnavailable
from kcl_receiver.processor.codec import CheckpointResult, Initialize, ShutdownRequested, decode_line, encode_checkpoint
from kcl_receiver.processor.effects import Effect, Exit
from kcl_receiver.ranges import Position
from kcl_receiver.wire.messages import Flush, Leave, ShardEnd

# ---------------------------------------------------------------------- KinesisReceiverSuite: processing records


@forms
def test_what_is_delivered_goes_on_whole_and_is_checkpointed_once_it_is_stored(form: Form) -> None:
    processor = started()
    delivered(processor, *form.records(7, 8))
    message, columns = processor.batches[1]
    assert places(columns) == form.positions(7, 8)
    assert (message.arrival_first, message.arrival_last) == (7, 8)  # the harness makes them of sequence numbers
    assert asked(processor.wait(2 * CHECKPOINT_INTERVAL)) == []
    processor.store(1)
    assert asked(processor.deliver()) == [form.end(8)]
    assert done(processor.checkpoint_taken()) == ["processRecords"]


@forms
def test_a_delivery_beyond_the_limit_is_cut_and_checkpointed_only_where_a_kinesis_record_ends(form: Form) -> None:
    processor = started(batch_bytes=1)
    sent = delivered(processor, *form.records(7, 8))
    assert [places(processor.batches[number][1]) for number in sent] == [[one] for one in form.positions(7, 8)]
    checkpoints = []
    for number in sent:
        processor.store(number)
        processor.wait(CHECKPOINT_INTERVAL)
        for position in asked(processor.deliver()):
            checkpoints.append((number, position))
            processor.checkpoint_taken()
    assert checkpoints == [(form.subs, form.end(7)), (2 * form.subs, form.end(8))]


@forms
def test_a_generator_that_stops_is_sent_nothing_and_nothing_is_checkpointed(form: Form) -> None:
    processor = started()
    processor.drain()
    effects = processor.deliver(*form.records(7))
    assert (numbers(effects), asked(effects), done(effects)) == ([], [], ["processRecords"])
    processor.wait(2 * CHECKPOINT_INTERVAL)
    assert asked(processor.deliver()) == []
    assert asked(processor.shutdown_requested()) == []


@forms
def test_a_store_that_takes_nothing_moves_no_checkpoint_and_ends_the_process(form: Form) -> None:
    processor = started()
    taken(processor, *form.records(6))
    delivered(processor, *form.records(7))
    # The window is full: the first of these is not admitted, so the second waits, and nothing is stored any more.
    processor.deliver(*form.records(8))
    effects = [*processor.deliver(*form.records(9)), *processor.wait(STORE_TIMEOUT)]
    assert (asked(effects), done(effects)) == ([], [])
    assert isinstance(failure(processor), StoreUnavailable)
    assert failure(processor).exit_code != 0
    assert processor.checkpoint == form.end(6)


# ---------------------------------------------------------------------- KinesisReceiverSuite: the ends of a shard


@forms
@pytest.mark.parametrize("stored", [True, False], ids=["stored", "not stored"])
def test_a_lost_lease_is_not_checkpointed(form: Form, stored: bool) -> None:
    processor = started()
    (number,) = delivered(processor, *form.records(7))
    if stored:
        processor.store(number)
    effects = [*processor.lease_lost(), *processor.wait(2 * CHECKPOINT_INTERVAL)]
    assert (asked(effects), done(effects), len(told(effects, Leave))) == ([], ["leaseLost"], 1)


@forms
def test_the_end_of_a_shard_is_checkpointed_once_all_of_it_is_stored(form: Form) -> None:
    processor = started(batch_bytes=1)
    sent = delivered(processor, *form.records(7, 8))
    assert asked(processor.shard_ended()) == []
    for number in sent[:-1]:
        assert asked(processor.store(number)) == []
    effects = processor.store(sent[-1])
    assert (told(effects, ShardEnd), asked(effects)) == ([ShardEnd(str(form.end(8)))], [])
    assert asked(processor.confirm_end()) == [None]
    assert done(processor.checkpoint_taken()) == ["shardEnded"]


@forms
def test_a_requested_shutdown_checkpoints_what_is_stored_and_never_the_bare_form(form: Form) -> None:
    processor = started()
    delivered(processor, *form.records(7))
    effects = processor.shutdown_requested()
    assert (len(told(effects, Flush)), asked(effects), done(effects)) == (1, [], [])
    # The bare form would name the last record delivered; the harness allows it at the end of a shard alone.
    assert asked(processor.store(1)) == [form.end(7)]
    assert done(processor.checkpoint_taken()) == ["shutdownRequested"]


@forms
def test_a_shutdown_while_an_aggregate_is_stored_in_part_checkpoints_the_record_before_it(form: Form) -> None:
    processor = started(batch_bytes=1)
    sent = delivered(processor, *form.records(7, 8, 9))
    processor.shutdown_requested()
    processor.store(sent[form.subs])  # the first user record of 8
    effects = processor.wait(DRAIN)
    assert asked(effects) == [form.end(8) if form.subs == 1 else form.end(7)]
    assert done(processor.checkpoint_taken()) == ["shutdownRequested"]


@pytest.mark.parametrize("leave", [Processor.shard_ended, Processor.shutdown_requested], ids=lambda one: one.__name__)
def test_without_a_shard_nothing_is_ended_and_nothing_checkpointed(leave: Callable[[Processor], list[Effect]]) -> None:
    with pytest.raises(DaemonError):
        decode_line(b'{"action":"initialize","shardId":null,"sequenceNumber":"7","subSequenceNumber":0}')
    processor = Processor()
    effects = leave(processor)
    assert (asked(effects), done(effects)) == ([], [])
    assert isinstance(failure(processor), DaemonError)


@forms
@pytest.mark.parametrize("connected", [True, False], ids=["connected", "away"])
def test_after_a_lost_lease_no_action_waits_for_what_was_dropped(form: Form, connected: bool) -> None:
    processor = started()
    delivered(processor, *form.records(7))
    delivered(processor, *form.records(8))
    processor.store(1)
    assert asked(processor.deliver()) == [form.end(7)]
    processor.checkpoint_failed("ShutdownException")
    if not connected:
        processor.disconnect()
    assert processor.core.kept_bytes == 0
    effects = [*processor.deliver(*form.records(9)), *processor.shutdown_requested(), *processor.lease_lost()]
    assert done(effects) == ["processRecords", "shutdownRequested", "leaseLost"]
    assert (asked(effects), numbers(effects)) == ([], [])


# ---------------------------------------------------------------------- KinesisReceiverSuite: trying again


def _in_process_records(processor: Processor) -> list[Effect]:
    return processor.deliver()


def _at_the_end(processor: Processor) -> list[Effect]:
    processor.shard_ended()
    return processor.confirm_end()


ACTIONS = {
    "processRecords": _in_process_records,
    "shutdownRequested": Processor.shutdown_requested,
    "shardEnded": _at_the_end,
}
actions = pytest.mark.parametrize("action", sorted(ACTIONS))


def checkpointing(form: Form, action: str) -> tuple[Processor, Position | None]:
    """Return a processor that has just asked for a checkpoint in this action, and for which."""
    processor = started()
    delivered(processor, *form.records(7, 8))
    processor.store(1)
    expected = None if action == "shardEnded" else form.end(8)
    assert asked(ACTIONS[action](processor)) == [expected]
    return processor, expected


def tried_again(processor: Processor, action: str) -> list[Position | None]:
    """Return what is asked for next, in the same action or (in processRecords) in a later one of its kind."""
    effects = processor.wait(CHECKPOINT_INTERVAL)
    if action == "processRecords":
        effects += processor.deliver()
    return asked(effects)


@forms
@actions
def test_a_checkpoint_that_succeeds_is_asked_for_once(form: Form, action: str) -> None:
    processor, _ = checkpointing(form, action)
    assert done(processor.checkpoint_taken()) == [action]
    assert asked(processor.wait(2 * CHECKPOINT_INTERVAL)) == []
    if action != "shardEnded":
        assert asked(processor.deliver()) == []


@forms
@actions
@pytest.mark.parametrize("error", ["ThrottlingException", "KinesisClientLibDependencyException"])
def test_a_checkpoint_that_failed_for_a_while_is_asked_for_again_at_the_same_place(
    form: Form, action: str, error: str
) -> None:
    processor, expected = checkpointing(form, action)
    # In processRecords the action is done all the same, because a later one comes; elsewhere it is not.
    assert done(processor.checkpoint_failed(error)) == (["processRecords"] if action == "processRecords" else [])
    assert tried_again(processor, action) == [expected]
    assert done(processor.checkpoint_taken()) == [action]


@forms
@actions
def test_after_a_shutdown_exception_no_checkpoint_is_asked_for_again(form: Form, action: str) -> None:
    processor, _ = checkpointing(form, action)
    effects = processor.checkpoint_failed("ShutdownException")
    assert (done(effects), len(told(effects, Leave))) == ([action], 1)
    assert asked([*processor.wait(2 * CHECKPOINT_INTERVAL), *processor.deliver(*form.records(9))]) == []
    assert processor.exit is None


@forms
@actions
@pytest.mark.parametrize("error", ["InvalidStateException", "IllegalArgumentException", "RuntimeException"])
def test_after_any_other_error_the_process_leaves_and_no_checkpoint_is_asked_for_again(
    form: Form, action: str, error: str
) -> None:
    processor, _ = checkpointing(form, action)
    assert done(processor.checkpoint_failed(error)) == []
    problem = failure(processor)
    assert isinstance(problem, DaemonError)
    assert problem.exit_code != 0
    assert error in problem.message
    assert asked(processor.wait(2 * CHECKPOINT_INTERVAL)) == []


def until_given_up(processor: Processor) -> tuple[list[Effect], int]:
    """Fail every try, the last one with an error of its own; return the last effects and the number of tries."""
    effects: list[Effect] = []
    tries = 0
    while processor.exit is None and processor.pending is not None:
        if processor.checkpointing is not None:
            tries += 1
            effects = processor.checkpoint_failed("ThrottlingException")
        else:
            due = processor.core.deadline()
            assert due is not None
            processor.now = max(processor.now, due)
            effects = processor.tick()
    return effects, tries


@forms
def test_a_shutdown_whose_tries_are_used_up_is_done_without_its_checkpoint(form: Form) -> None:
    processor = started()
    taken(processor, *form.records(6))
    delivered(processor, *form.records(7))
    processor.store(2)
    processor.shutdown_requested()
    effects, tries = until_given_up(processor)
    assert tries > 1
    # The next owner reads again from the old checkpoint: that costs time and loses nothing.
    assert (done(effects), processor.checkpoint) == (["shutdownRequested"], form.end(6))


@forms
def test_a_shard_end_whose_tries_are_used_up_ends_the_process_and_names_the_last_error(form: Form) -> None:
    processor, _ = checkpointing(form, "shardEnded")
    effects, tries = until_given_up(processor)
    assert tries > 1
    assert done(effects) == []
    problem: ReceiverError = failure(processor)
    assert "ThrottlingException" in problem.message
    assert SHARD in problem.message
    assert not processor.shard_end_taken


@forms
def test_tries_in_process_records_are_never_used_up_and_go_to_the_newest_place(form: Form) -> None:
    processor, _ = checkpointing(form, "processRecords")
    for number in range(9, 29):
        processor.checkpoint_failed("ThrottlingException")
        delivered(processor, *form.records(number))
        processor.store(number - 7)
        assert tried_again(processor, "processRecords") == [form.end(number)]
    assert done(processor.checkpoint_taken()) == ["processRecords"]


# ---------------------------------------------------------------------- KinesisCheckpointerSuite


@forms
def test_one_place_is_not_checkpointed_twice(form: Form) -> None:
    processor = started()
    taken(processor, *form.records(7))
    for _ in range(3):
        processor.wait(2 * CHECKPOINT_INTERVAL)
        assert asked(processor.deliver()) == []
    # KCL reads a page again: what is stored and checkpointed is not new.
    assert asked(processor.deliver(*form.records(7))) == []
    assert asked(processor.shutdown_requested()) == []


@forms
def test_a_place_that_rose_is_checkpointed(form: Form) -> None:
    processor = started()
    for number, sequence in enumerate((9, 10, 10**20, 10**56), start=1):  # as text, 10 and what follows is below 9
        delivered(processor, *form.records(sequence))
        processor.store(number)
        processor.wait(CHECKPOINT_INTERVAL)
        assert asked(processor.deliver()) == [form.end(sequence)]
        processor.checkpoint_taken()


@forms
def test_a_place_that_rose_by_its_sub_sequence_number_alone_is_checkpointed(form: Form) -> None:
    # An application before us made its checkpoint within an aggregate (or, of a plain record, before the next one).
    begin = Position(7, 0) if form.subs > 1 else Position(6, 0)
    processor = started(after=begin)
    delivered(processor, *form.records(7))
    assert places(processor.batches[1][1]) == [one for one in form.positions(7) if one > begin]
    processor.store(1)
    assert asked(processor.deliver()) == [form.end(7)]


@forms
def test_a_checkpoint_is_made_when_the_interval_is_over_and_not_before(form: Form) -> None:
    processor = started()
    taken(processor, *form.records(7))
    delivered(processor, *form.records(8))
    processor.store(2)
    processor.wait(CHECKPOINT_INTERVAL / 2)
    assert asked(processor.deliver()) == []
    processor.wait(CHECKPOINT_INTERVAL / 2)
    assert asked(processor.deliver()) == [form.end(8)]


@forms
def test_leaving_checkpoints_a_last_time_before_the_interval_is_over(form: Form) -> None:
    processor = started()
    taken(processor, *form.records(7))
    delivered(processor, *form.records(8))
    processor.store(2)
    assert asked(processor.shutdown_requested()) == [form.end(8)]
    assert done(processor.checkpoint_taken()) == ["shutdownRequested"]


@forms
def test_the_last_checkpoint_waits_for_the_one_that_is_under_way(form: Form) -> None:
    processor = started()
    delivered(processor, *form.records(7))
    delivered(processor, *form.records(8))
    processor.store(1)
    assert asked(processor.deliver()) == [form.end(7)]
    # More is stored, and time passes, while the daemon makes the checkpoint: it gets no second one, and no answer.
    effects = [*processor.store(2), *processor.wait(2 * CHECKPOINT_INTERVAL)]
    assert (asked(effects), done(effects)) == ([], [])
    assert done(processor.checkpoint_taken()) == ["processRecords"]
    assert asked(processor.shutdown_requested()) == [form.end(8)]
    assert done(processor.checkpoint_taken()) == ["shutdownRequested"]


@forms
def test_a_shutdown_that_comes_while_a_checkpoint_is_under_way_ends_the_process(form: Form) -> None:
    # The daemon never does this: it waits for the answer to one action before it gives the next.
    processor = started()
    delivered(processor, *form.records(7))
    processor.store(1)
    assert asked(processor.deliver()) == [form.end(7)]
    effects = processor.core.action(ShutdownRequested(), processor.now)
    assert (asked(effects), done(effects), [type(one) for one in effects]) == ([], [], [Exit])


# ---------------------------------------------------------------------- what goes over the pipe


@forms
def test_a_checkpoint_and_a_start_at_it_name_the_end_of_the_kinesis_record_on_the_pipe(form: Form) -> None:
    asked_for = json.loads(encode_checkpoint(form.end(7)))
    assert (asked_for["sequenceNumber"], asked_for["subSequenceNumber"]) == ("7", form.subs - 1)
    answer = decode_line(json.dumps({**asked_for, "error": "ThrottlingException"}).encode())
    assert answer == CheckpointResult("ThrottlingException")
    start = decode_line(json.dumps({**asked_for, "action": "initialize", "shardId": SHARD}).encode())
    assert start == Initialize(SHARD, form.end(7))
