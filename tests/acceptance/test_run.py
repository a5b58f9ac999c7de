"""`kcl-receiver run` with the real daemon: stop and start, kills, resharding, an idle shard."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable

import pytest
from landing import APPLICATION, PATIENCE, STREAM, Landing, is_gone

from kcl_receiver.emulator.kcl import prepare_leases
from kcl_receiver.errors import EXIT_AMISS, EXIT_ENVIRONMENT, EXIT_INTERRUPTED, EXIT_OK, EXIT_STREAM

pytestmark = pytest.mark.daemon

Make = Callable[..., Landing]


def test_a_stop_by_sigterm_and_a_new_start_resume_from_the_checkpoint_and_lose_nothing(make_landing: Make) -> None:
    landing = make_landing()
    with landing.load():
        run = landing.run()
        landing.wait("records are stored under load", lambda: landing.records_stored() > 200)
        assert landing.stop(run) == EXIT_OK
        stopped_at = landing.judge()
        assert not stopped_at.doubles
        # Everything that was stored is checkpointed: the next start reads none of it again.
        assert all(lease.exact for lease in stopped_at.leases), stopped_at
        landing.put_more(400)
        run = landing.run()
        landing.wait("records are stored again", lambda: landing.records_stored() > 200)
    landing.wait_landed()
    assert landing.status()["records_skipped"] == 0
    assert landing.stop(run) == EXIT_OK
    verdict = landing.judge()
    assert verdict.perfect, verdict
    landing.verify()


def test_an_idle_shards_last_block_is_checkpointed_without_new_data(make_landing: Make) -> None:
    landing = make_landing(shards=1)
    landing.producer.put(200)
    landing.run()
    landing.wait_landed("the last block is checkpointed while nothing new comes")
    assert landing.judge().perfect


@pytest.mark.parametrize("victim", ["generator", "processor", "daemon"])
def test_kill_9_under_load_loses_nothing_and_doubles_nothing(make_landing: Make, victim: str) -> None:
    # A daemon whose child died leaves, but only after the whole grace time.
    landing = make_landing(shutdownGraceMillis="8000")
    run = landing.run()
    with landing.load():
        landing.wait("records are stored under load", lambda: landing.records_stored() > 200)
        found = {"generator": landing.generators, "processor": landing.processors, "daemon": landing.daemons}[victim]()
        found[0].kill()
        landing.wait("the victim is gone", lambda: is_gone(found[0]))
        landing.put_more(400)
        landing.wait(
            "another one is there", lambda: landing.generators() and landing.processors() and landing.daemons()
        )
        landing.wait("sessions are open again", lambda: landing.status().get("shards"))
    landing.wait_landed()
    assert landing.stop(run) == EXIT_OK
    verdict = landing.judge()
    assert verdict.perfect, verdict
    landing.verify()


def test_kill_9_of_everything_at_once_loses_nothing_and_doubles_nothing(make_landing: Make) -> None:
    landing = make_landing()
    run = landing.run()
    with landing.load():
        landing.wait("records are stored under load", lambda: landing.records_stored() > 200)
        victims = [*landing.named("kcl_receiver.cli.main"), *landing.daemons(), *landing.processors()]
        for one in victims:
            one.kill()
        run.wait()
        landing.wait("nobody is left", lambda: all(map(is_gone, victims)))
        landing.put_more(400)
        run = landing.run()
        landing.wait("records are stored again", lambda: landing.records_stored() > 200)
    landing.wait_landed()
    assert landing.stop(run) == EXIT_OK
    verdict = landing.judge()
    assert verdict.perfect, verdict
    landing.verify()


def test_a_split_and_a_merge_under_load_are_followed_and_children_begin_after_their_parents_are_stored(
    make_landing: Make,
) -> None:
    landing = make_landing(shards=2)
    run = landing.run()
    first, second = "shardId-000000000000", "shardId-000000000001"
    with landing.load():
        landing.wait("records are stored under load", lambda: landing.records_stored() > 200)
        shard = next(one for one in landing.kinesis.list_shards(StreamName=STREAM)["Shards"] if one["ShardId"] == first)
        middle = (int(shard["HashKeyRange"]["StartingHashKey"]) + int(shard["HashKeyRange"]["EndingHashKey"])) // 2
        landing.kinesis.split_shard(StreamName=STREAM, ShardToSplit=first, NewStartingHashKey=str(middle))
        landing.wait("the parent is at SHARD_END", lambda: landing.leases()[first].checkpoint == "SHARD_END")
        children = ["shardId-000000000002", "shardId-000000000003"]
        landing.wait(
            "both children are read",
            lambda: {*children} <= {one["shard"] for one in landing.status().get("shards", [])},
        )
        landing.kinesis.merge_shards(StreamName=STREAM, ShardToMerge=children[1], AdjacentShardToMerge=second)
        landing.wait(
            "the merged shard is read",
            lambda: "shardId-000000000004" in {one["shard"] for one in landing.status().get("shards", [])},
        )
        landing.put_more(400)
    landing.wait_landed()
    assert landing.stop(run) == EXIT_OK
    verdict = landing.judge()
    assert verdict.perfect, verdict
    _children_began_after_their_parents_ended(landing)
    landing.verify()


def _children_began_after_their_parents_ended(landing: Landing) -> None:
    """Look at the order of the ledger's lines: a parent's end is durable before a child's session begins."""
    import json

    (ledger,) = (landing.store / "ledger").rglob("*.jsonl")
    ended: set[str] = set()
    begun: set[str] = set()
    for line in ledger.read_text().splitlines():
        entry = json.loads(line)
        if entry["type"] == "shard_end":
            ended.add(entry["shard"])
        elif entry["type"] == "session":
            assert set(entry["parents"]) <= ended, entry
            begun.add(entry["shard"])
    assert begun == {f"shardId-{number:012d}" for number in range(5)}
    assert ended == {f"shardId-{number:012d}" for number in (0, 1, 3)}


def test_a_second_supervisor_of_the_same_application_is_refused(make_landing: Make) -> None:
    landing = make_landing(shards=1)
    run = landing.run()
    landing.wait("a session is open", lambda: landing.status().get("shards"))
    second = landing.cli("run", "--properties", str(landing.properties))
    assert second.returncode == EXIT_ENVIRONMENT
    assert str(run.pid) in second.stderr
    assert len(landing.daemons()) == 1
    assert landing.stop(run) == EXIT_OK


def test_a_second_signal_gives_up_at_once_and_loses_nothing(make_landing: Make) -> None:
    landing = make_landing(shards=1, receiver_blockIntervalMillis="600000")
    landing.producer.put(100)
    run = landing.run()
    landing.wait(
        "the records are admitted", lambda: any(one["window_used"] for one in landing.status().get("shards", []))
    )
    for one in landing.generators():
        # Frozen, it cannot drain: the first signal has to wait.
        one.suspend()
    run.send_signal(signal.SIGINT)
    landing.wait("the stop has begun", lambda: "top" in (landing.base / "run.log").read_text())
    run.send_signal(signal.SIGINT)
    assert run.wait(30) == EXIT_INTERRUPTED
    landing.wait("nobody is left", lambda: not (landing.generators() or landing.daemons() or landing.processors()))
    assert not any(lease.beyond for lease in landing.judge().leases)
    landing.write_properties({})
    landing.run()
    landing.wait_landed()


def test_shard_end_is_not_written_when_the_stream_is_deleted_under_a_running_application(make_landing: Make) -> None:
    landing = make_landing(shards=1)
    landing.producer.put(100)
    run = landing.run()
    landing.wait_landed()
    landing.kinesis.delete_stream(StreamName=STREAM)
    assert run.wait(PATIENCE) == EXIT_STREAM
    assert "StreamGone" in (landing.base / "run.log").read_text()
    assert [lease.checkpoint for lease in landing.leases().values()] != ["SHARD_END"]


def test_a_stream_made_again_under_its_old_name_is_not_read_from_the_old_ones_leases(make_landing: Make) -> None:
    landing = make_landing(shards=1)
    landing.producer.put(100)
    run = landing.run()
    landing.wait_landed()
    assert landing.stop(run) == EXIT_OK
    before = landing.leases()
    landing.kinesis.delete_stream(StreamName=STREAM)
    landing.emulator.kinesis.advance(60)
    landing.kinesis.create_stream(StreamName=STREAM, ShardCount=1)
    landing.kinesis.put_record(StreamName=STREAM, PartitionKey="new", Data=b"new")
    run = landing.run()
    assert run.wait(PATIENCE) == EXIT_STREAM
    assert "if the stream was made again" in (landing.base / "run.log").read_text()
    assert landing.leases()["shardId-000000000000"].checkpoint == before["shardId-000000000000"].checkpoint
    # What the message says to do: without the old lease table the new stream is read from its beginning.
    for table in landing.dynamodb.list_tables()["TableNames"]:
        landing.dynamodb.delete_table(TableName=table)
    prepare_leases(landing.dynamodb, landing.kinesis, APPLICATION, STREAM)
    landing.run()
    landing.wait("the new stream's record is stored", lambda: landing.judge().stored == 101)


def test_a_parent_that_expired_while_everything_was_down_is_ended_and_the_other_shards_are_read(
    make_landing: Make,
) -> None:
    landing = make_landing(shards=2)
    parent = "shardId-000000000000"
    landing.producer.put(200)
    run = landing.run()
    landing.wait_landed()
    assert landing.stop(run) == EXIT_OK
    landing.kinesis.split_shard(StreamName=STREAM, ShardToSplit=parent, NewStartingHashKey=str(2**126))
    # KCL finds children whose parents it has not ended after some five minutes; these rows are what it then makes.
    for child in ("shardId-000000000002", "shardId-000000000003"):
        row = {"leaseKey": {"S": child}, "checkpoint": {"S": "TRIM_HORIZON"}, "parentShardId": {"SS": [parent]}}
        numbers = {name: {"N": "0"} for name in ("leaseCounter", "ownerSwitchesSinceCheckpoint")}
        sub = {"checkpointSubSequenceNumber": {"N": "0"}}
        landing.dynamodb.put_item(TableName=APPLICATION, Item={**row, **numbers, **sub})
    landing.producer.put(100)
    landing.emulator.kinesis.advance(49 * 3600)  # of 24 hours of retention: the parent is listed no more
    assert parent not in {one["ShardId"] for one in landing.kinesis.list_shards(StreamName=STREAM)["Shards"]}
    landing.producer.put(300)
    run = landing.run()
    landing.wait("what is still there is stored", lambda: landing.judge().stored == 500)
    assert landing.stop(run) == EXIT_OK
    assert "StreamReplaced" not in landing.log()
    assert "next start in" not in (landing.base / "run.log").read_text()
    # Ended, so that its children are read; KCL deletes the lease of a shard that the service does not know.
    lease = landing.leases().get(parent)
    assert lease is None or lease.checkpoint == "SHARD_END"
    result = landing.cli("verify", "--store", landing.store.as_uri(), "--output", "json")
    assert result.returncode == EXIT_AMISS, result.stdout + result.stderr
    found = {one["shard"]: one for one in json.loads(result.stdout)["shards"]}
    assert (found[parent]["state"], found[parent]["ended"]) == ("possibly trimmed", True)


def test_what_a_child_prints_does_not_reach_the_protocol(make_landing: Make) -> None:
    landing = make_landing(shards=1)
    wrapper = landing.base / "printing-processor"
    python = subprocess.list2cmdline([str(landing.base / "printing.py")])
    (landing.base / "printing.py").write_text(
        "import sys, threading, time\n"
        "def chatter():\n"
        "    while True:\n"
        '        print(\'{"action":"status","responseFor":"processRecords"}\', flush=True)\n'
        "        time.sleep(0.05)\n"
        "from kcl_receiver.processor import main\n"
        "take_over = main._take_over_stdio\n"
        "def and_chatter():\n"
        "    out = take_over()\n"
        "    threading.Thread(target=chatter, daemon=True).start()\n"
        "    return out\n"
        "main._take_over_stdio = and_chatter\n"
        "main.main()\n"
    )
    import sys

    wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} {python} "$@"\n')
    wrapper.chmod(0o755)
    landing.write_properties({"executableName": f"{wrapper} --properties {landing.properties}"})
    landing.producer.put(100)
    landing.plain_java()
    landing.wait_landed()
    landing.producer.put(100)
    landing.wait_landed()
    assert landing.judge().perfect
