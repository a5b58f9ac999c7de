"""The emulator under the real java MultiLangDaemon, which is what it is for."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from kcl_receiver.daemon.java import find_java
from kcl_receiver.emulator.kcl import QUICK_SETTINGS, prepare_leases
from kcl_receiver.emulator.producer import Producer, digest_of
from kcl_receiver.emulator.server import Emulator

pytestmark = pytest.mark.daemon

APPLICATION = "emulated"
STREAM = "orders"
WORKER = "worker-1"
CHILD = Path(__file__).with_name("recording_child.py")
LIMIT = 120.0
"""Seconds that anything may take; most of it takes under ten."""


class Daemon:
    """The real daemon with a child that records.

    It is told of the emulator by properties and speaks JSON; or else by nothing but the environment that the emulator
    prints, and speaks CBOR.
    """

    def __init__(self, emulator: Emulator, directory: Path, by_environment: bool) -> None:
        self.record = directory / "record.jsonl"
        self.record.touch()
        self.log = directory / "java.log"
        properties = {
            **QUICK_SETTINGS,
            "executableName": f"{sys.executable} {CHILD} {self.record}",
            "streamName": STREAM,
            "applicationName": APPLICATION,
            "workerId": WORKER,
            "AWSCredentialsProvider": "EnvironmentVariableCredentialsProvider",
            "initialPositionInStream": "TRIM_HORIZON",
            "retrievalMode": "POLLING",
            "callProcessRecordsEvenForEmptyRecordList": "true",
            "shutdownGraceMillis": "10000",
        }
        if not by_environment:
            endpoints = {"kinesisEndpoint": emulator.url, "dynamoDBEndpoint": emulator.url}
            properties |= {"regionName": emulator.region, **endpoints}
        path = directory / "kcl.properties"
        path.write_text("".join(f"{key} = {value}\n" for key, value in properties.items()))
        spec = find_spec("amazon_kclpy")
        assert spec is not None
        assert spec.origin is not None
        jars = Path(spec.origin).parent / "jars"
        command = [str(find_java().path), "-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8"]
        command += [] if by_environment else ["-Daws.cborEnabled=false"]
        command += ["-cp", f"{jars}/*", "software.amazon.kinesis.multilang.MultiLangDaemon", "-p", str(path)]
        with self.log.open("wb") as log:
            environment = {**os.environ, **emulator.environment}
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)

    def events(self, what: str) -> list[dict[str, Any]]:
        lines = self.record.read_bytes().split(b"\n")[:-1]
        return [event for event in map(json.loads, lines) if event["what"] == what]

    def wait(self, what: str, until: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LIMIT
        while not until():
            tail = self.log.read_text(errors="replace")[-3000:]
            assert self.process.poll() is None, f"java ended while waiting for {what}: {tail}"
            assert time.monotonic() < deadline, f"waited {LIMIT:.0f} s for {what}: {tail}"
            time.sleep(0.1)

    def shards(self) -> set[str]:
        return {event["shard"] for event in self.events("initialize")}

    def seen(self) -> dict[tuple[str, int, int], str]:
        return {
            (event["shard"], int(event["sequence"]), event["sub"]): digest_of(
                event["key"], base64.b64decode(event["data"])
            )
            for event in self.events("record")
        }

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator(directory=tmp_path / "aws") as running:
        yield running


@pytest.fixture
def start(emulator: Emulator, tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    started: list[Daemon] = []

    def go(name: str, by_environment: bool = False) -> Daemon:
        directory = tmp_path / name
        directory.mkdir()
        started.append(Daemon(emulator, directory, by_environment))
        return started[-1]

    yield go
    for daemon in started:
        daemon.process.kill()
        daemon.process.wait()


def wanted(producer: Producer) -> dict[tuple[str, int, int], str]:
    return {(one.shard, one.sequence_number, one.sub_sequence_number): one.digest for one in producer.acknowledged}


def leases(emulator: Emulator) -> dict[str, dict[str, str]]:
    items = emulator.client("dynamodb").scan(TableName=APPLICATION, ConsistentRead=True)["Items"]
    return {item["leaseKey"]["S"]: {name: next(iter(value.values())) for name, value in item.items()} for item in items}


@pytest.mark.slow
def test_kcl_reads_every_record_through_a_split_and_a_merge_and_goes_on_after_a_restart(
    emulator: Emulator, start: Callable[..., Daemon]
) -> None:
    kinesis = emulator.client("kinesis")
    kinesis.create_stream(StreamName=STREAM, ShardCount=2)
    emulator.kinesis.configure(empty_pages=0.2, put_failures=0.05)
    first, second, low, high, merged = (f"shardId-{row:012d}" for row in range(5))
    assert prepare_leases(emulator.client("dynamodb"), kinesis, APPLICATION, STREAM, owner=WORKER) == [first, second]
    assert prepare_leases(emulator.client("dynamodb"), kinesis, APPLICATION, STREAM) == []
    producer = Producer(kinesis, STREAM, seed=1)
    producer.put(2000)

    daemon = start("one")
    daemon.wait("both shards", lambda: daemon.shards() == {first, second})
    producer.put(500)
    kinesis.split_shard(StreamName=STREAM, ShardToSplit=first, NewStartingHashKey=str(2**126))
    producer.put(1500)
    daemon.wait("the children", lambda: daemon.shards() == {first, second, low, high})
    kinesis.merge_shards(StreamName=STREAM, ShardToMerge=high, AdjacentShardToMerge=second)
    producer.put(1000)
    daemon.wait("the child of the merge", lambda: merged in daemon.shards())
    daemon.wait("every record", lambda: daemon.seen().keys() >= wanted(producer).keys())

    assert daemon.seen() == wanted(producer)
    assert [event["error"] for event in daemon.events("checkpoint") if event["error"]] == []
    assert {event["shard"] for event in daemon.events("shardEnded")} == {first, second, high}
    everything = [json.loads(line) for line in daemon.record.read_text().splitlines()]
    order = [(event["what"], event["shard"]) for event in everything if event["what"] in ("initialize", "shardEnded")]
    for child, parents in ((low, [first]), (high, [first]), (merged, [second, high])):
        for parent in parents:
            assert order.index(("shardEnded", parent)) < order.index(("initialize", child))

    def caught_up() -> bool:
        found = leases(emulator)
        last = {one.shard: str(one.sequence_number) for one in producer.acknowledged}
        ended = all(found[shard]["checkpoint"] == "SHARD_END" for shard in (first, second, high))
        return ended and all(found[shard]["checkpoint"] == last[shard] for shard in (low, merged))

    daemon.wait("the checkpoints", caught_up)
    daemon.stop()
    assert daemon.events("shutdownRequested")

    # The emulator's own restart comes on top of KCL's: leases and records must both still be there.
    emulator.stop()
    emulator.start()
    kinesis = emulator.client("kinesis")
    later = Producer(kinesis, STREAM, seed=2)
    later.put(500)
    daemon = start("two")
    daemon.wait("the new records", lambda: daemon.seen().keys() >= wanted(later).keys())
    assert daemon.seen() == wanted(later)
    assert daemon.shards() == {low, merged}


def test_kcl_needs_no_more_than_what_the_emulator_prints_and_makes_its_own_leases(
    emulator: Emulator, start: Callable[..., Daemon], monkeypatch: pytest.MonkeyPatch
) -> None:
    spoken: set[tuple[str, bool]] = set()
    answer = emulator.kinesis.call

    def call(operation: str, body: bytes, in_cbor: bool = False) -> tuple[int, bytes]:
        spoken.add((operation, in_cbor))
        return answer(operation, body, in_cbor)

    monkeypatch.setattr(emulator.kinesis, "call", call)
    kinesis = emulator.client("kinesis")
    kinesis.create_stream(StreamName=STREAM, ShardCount=3)
    producer = Producer(kinesis, STREAM, seed=3)
    producer.put(300)
    daemon = start("one", by_environment=True)
    daemon.wait("every record", lambda: daemon.seen().keys() >= wanted(producer).keys())
    assert {in_cbor for operation, in_cbor in spoken if operation == "GetRecords"} == {True}
    made = leases(emulator)
    assert sorted(made) == [f"shardId-{row:012d}" for row in range(3)]
    for lease in made.values():
        assert lease["leaseOwner"] == WORKER
        assert {"startingHashKey", "endingHashKey", "checkpointSubSequenceNumber"} <= lease.keys()
    tables = emulator.client("dynamodb").list_tables()["TableNames"]
    assert set(tables) == {APPLICATION, f"{APPLICATION}-CoordinatorState", f"{APPLICATION}-WorkerMetricStats"}


def test_kcl_goes_on_after_services_were_away_and_iterators_expired(
    emulator: Emulator, start: Callable[..., Daemon]
) -> None:
    kinesis = emulator.client("kinesis")
    kinesis.create_stream(StreamName=STREAM, ShardCount=1)
    prepare_leases(emulator.client("dynamodb"), kinesis, APPLICATION, STREAM, owner=WORKER)
    producer = Producer(kinesis, STREAM, seed=4)
    producer.put(200)
    daemon = start("one")
    daemon.wait("the first records", lambda: daemon.seen().keys() >= wanted(producer).keys())
    emulator.faults.fail("kinesis", "GetRecords", "InternalFailure", times=4)
    emulator.faults.fail("dynamodb", "UpdateItem", "ProvisionedThroughputExceededException", status=400, times=3)
    producer.put(200)
    emulator.kinesis.advance(400)
    producer.put(200)
    daemon.wait("the rest", lambda: daemon.seen().keys() >= wanted(producer).keys())
    assert daemon.seen() == wanted(producer)
    assert "ExpiredIteratorException" in daemon.log.read_text()
    daemon.wait("the faults to be used up", lambda: emulator.faults.to_json()["errors"] == [])


def test_kcl_reads_the_largest_records_and_pages(emulator: Emulator, start: Callable[..., Daemon]) -> None:
    kinesis = emulator.client("kinesis")
    kinesis.create_stream(StreamName=STREAM, ShardCount=1)
    prepare_leases(emulator.client("dynamodb"), kinesis, APPLICATION, STREAM, owner=WORKER)
    producer = Producer(kinesis, STREAM, seed=5, aggregated=0.0)
    producer.put(2, size=10 * 2**20 - 100)
    producer.put(30, size=500_000)
    producer.put(12_000, size=0)
    daemon = start("one")
    daemon.wait("every record", lambda: len(daemon.events("record")) >= len(producer.acknowledged))
    assert daemon.seen() == wanted(producer)
