"""The watch over the lease table, and moves of leases as KCL's leader makes them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from faults.broken import Broken
from faults.leases import History, Place, Row, Watch, read_rows
from kcl_receiver.emulator.kcl import prepare_leases
from kcl_receiver.emulator.server import Emulator

SHARD = "shardId-000000000000"


def row(checkpoint: Place | str, owner: str | None = "host-1") -> dict[str, Row]:
    return {SHARD: Row(SHARD, checkpoint, owner, None)}


def test_a_checkpoint_that_goes_back_is_told() -> None:
    history = History()
    for checkpoint in ("TRIM_HORIZON", (5, 0), (5, 1), (7, 0)):
        history.see(row(checkpoint))
    assert history.fallen == []
    history.see(row((6, 3)))
    assert "went back from (7, 0) to (6, 3)" in history.fallen[0]


@pytest.mark.parametrize("later", [(9, 0), "TRIM_HORIZON"])
def test_a_shard_that_ended_and_is_read_again_is_told(later: Place | str) -> None:
    history = History()
    history.see(row((5, 0)))
    history.see(row("SHARD_END"))
    history.see(row(later))
    assert len(history.fallen) == 1


def test_a_sequence_number_with_more_digits_is_no_step_back() -> None:
    history = History()
    history.see(row((9, 0)))
    history.see(row((10, 0)))
    assert history.fallen == []


def test_a_lease_that_kcl_deleted_after_its_end_stays_ended() -> None:
    history = History()
    history.see(row("SHARD_END"))
    history.see({})
    assert history.ended == {SHARD}


def test_a_new_owner_means_force_unless_an_orderly_move_was_asked_for() -> None:
    history = History()
    history.orderly.add((SHARD, "host-2"))
    history.see(row((5, 0)))
    history.see(row((6, 0), "host-2"))
    assert history.forced == set()
    history.orderly.add((SHARD, "host-1"))
    history.see(row((6, 0), "host-1"))
    assert history.forced == set()
    # Asked for once, and done once: this one nobody asked for.
    history.see(row((6, 0), "host-2"))
    assert history.forced == {SHARD}
    assert history.moves == 3


def test_the_first_owner_of_a_lease_takes_it_from_nobody() -> None:
    history = History()
    history.see(row("TRIM_HORIZON", None))
    history.see(row("TRIM_HORIZON", "host-1"))
    assert history.forced == set()


@pytest.fixture
def watch() -> Iterator[Watch]:
    with Emulator(port=0) as emulator:
        kinesis, dynamodb = emulator.client("kinesis"), emulator.client("dynamodb")
        kinesis.create_stream(StreamName="s", ShardCount=1)
        prepare_leases(dynamodb, kinesis, "app", "s", owner="host-1")
        yield Watch(dynamodb, "app")


def test_leases_move_as_kcls_leader_moves_them_and_only_from_their_owner(watch: Watch) -> None:
    before = watch.look()[SHARD]
    assert (before.owner, before.checkpoint_owner) == ("host-1", None)
    assert not watch.move_orderly(SHARD, "somebody", "host-2")
    assert watch.move_orderly(SHARD, "host-1", "host-2")
    moving = watch.look()[SHARD]
    assert (moving.owner, moving.checkpoint_owner) == ("host-2", "host-1")
    assert watch.forced == set()
    assert not watch.move_orderly(SHARD, "host-2", "host-3"), "it is being moved already"
    assert not watch.move_forced(SHARD, "host-1", "host-3")
    assert watch.move_forced(SHARD, "host-2", "host-3")
    taken = watch.look()[SHARD]
    assert (taken.owner, taken.checkpoint_owner) == ("host-3", None)
    assert watch.forced == {SHARD}
    item = watch._dynamodb.get_item(TableName="app", Key={"leaseKey": {"S": SHARD}})["Item"]
    assert item["leaseCounter"]["N"] == "1"


def test_a_goal_is_reached_by_checkpoints_and_by_ends(watch: Watch) -> None:
    goal = {SHARD: (5, 1)}

    def checkpoint(text: str, sub: int) -> bool:
        watch._dynamodb.update_item(
            TableName="app",
            Key={"leaseKey": {"S": SHARD}},
            UpdateExpression="SET checkpoint = :c, checkpointSubSequenceNumber = :s",
            ExpressionAttributeValues={":c": {"S": text}, ":s": {"N": str(sub)}},
        )
        watch.look()
        return watch.reached(goal)

    assert not watch.reached(goal)
    assert not checkpoint("TRIM_HORIZON", 0)
    assert not checkpoint("5", 0)
    assert checkpoint("5", 1)
    assert checkpoint("SHARD_END", 0)
    assert read_rows(watch._dynamodb, "app")[SHARD].ended
    watch.check()
    assert not watch.reached({SHARD: (5, 1), "shardId-000000000001": (1, 0)})
    checkpoint("6", 0)
    with pytest.raises(Broken, match="went back"):
        watch.check()
