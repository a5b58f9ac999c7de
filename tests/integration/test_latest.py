"""LATEST begins at one moment for all hosts of an application: an item beside the leases, made once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from test_check_probes import check, make_lease, write

from kcl_receiver import aws
from kcl_receiver.cli import run
from kcl_receiver.cli.main import run_cli
from kcl_receiver.config.paths import SUPERVISED
from kcl_receiver.config.properties import ReceiverConfig, load
from kcl_receiver.daemon import start
from kcl_receiver.emulator.clients import Boto3
from kcl_receiver.emulator.server import Emulator
from kcl_receiver.errors import EXIT_OK, EXIT_STREAM, EXIT_USAGE, ConfigError, StreamUnavailable

NOW = 1767225600_999


@pytest.fixture(scope="module")
def served() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


@pytest.fixture
def emulator(served: Emulator, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    return served


@pytest.fixture
def dynamodb(emulator: Emulator) -> Boto3:
    return emulator.client("dynamodb")


@pytest.fixture
def file(emulator: Emulator, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A properties file with LATEST, of an application and a stream of its own."""
    name = request.node.name.partition("[")[0][:100]
    emulator.client("kinesis").create_stream(StreamName=name, ShardCount=1)
    return write(tmp_path, emulator.url, name, {"initialPositionInStream": "LATEST"})


@pytest.fixture
def config(file: Path) -> ReceiverConfig:
    return load(file)


def test_every_later_start_reads_from_the_first_one_on(dynamodb: Boto3, config: ReceiverConfig) -> None:
    assert start.pinned(dynamodb, start.table_of(config)) is None
    assert start.pin(dynamodb, config, NOW) == 1767225600_000
    assert start.pin(dynamodb, config, NOW + 3_600_000) == 1767225600_000
    assert start.pin(dynamodb, config, NOW - 3_600_000) == 1767225600_000
    assert start.pinned(dynamodb, start.table_of(config)) == 1767225600_000


def test_of_hosts_that_start_at_once_one_says_the_time(emulator: Emulator, config: ReceiverConfig) -> None:
    def begin(number: int) -> int:
        return start.pin(emulator.client("dynamodb"), config, NOW + number * 60_000)

    with ThreadPoolExecutor(8) as hosts:
        pins = set(hosts.map(begin, range(8)))
    assert len(pins) == 1
    assert (pins.pop() - NOW // 1000 * 1000) % 60_000 == 0


def test_an_item_that_is_there_is_kept(dynamodb: Boto3, config: ReceiverConfig) -> None:
    table = start.table_of(config)
    aws.make_table(dynamodb, table, "key")
    aws.make_table(dynamodb, table, "key")
    first, second = ({"key": {"S": "start"}, "fromMillis": {"N": number}} for number in ("1000", "2000"))
    assert aws.put_item_if_absent(dynamodb, table, "key", first) == first
    assert aws.put_item_if_absent(dynamodb, table, "key", second) == first


def test_a_host_whose_clock_is_ahead_begins_at_the_services_time(dynamodb: Boto3, config: ReceiverConfig) -> None:
    before = int(time.time()) * 1000
    pinned = start.pin(dynamodb, config, before + 3_600_000)
    assert before <= pinned <= int(time.time() * 1000)


def test_no_time_is_made_up_for_leases_that_have_begun_at_one(
    emulator: Emulator, dynamodb: Boto3, file: Path, config: ReceiverConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    make_lease(emulator, config.table_name, "shardId-000000000000", "AT_TIMESTAMP")
    with pytest.raises(ConfigError, match="would leave out all that came since") as caught:
        start.pin(dynamodb, config, NOW)
    assert "initialPositionInStreamExtended = " in caught.value.hint
    assert start.table_of(config) not in dynamodb.list_tables()["TableNames"]
    code, found = check(file, capsys)
    assert code == EXIT_STREAM
    assert "would leave out all that came since" in found["start"]["reason"]


def test_where_shards_were_read_before_those_without_a_lease_are_read_from_their_beginning(
    emulator: Emulator, dynamodb: Boto3, file: Path, config: ReceiverConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    make_lease(emulator, config.table_name, "shardId-000000000000", "TRIM_HORIZON")
    _, found = check(file, capsys)
    assert "with a time before all records" in found["start"]["reason"]
    assert start.pin(dynamodb, config, NOW) == 1767225600_000 - 365 * 86_400_000


def test_a_host_that_begins_while_another_one_makes_the_leases_takes_the_time_of_that_one(
    emulator: Emulator, dynamodb: Boto3, config: ReceiverConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_leases = aws.read_leases

    def after_the_other(client: Boto3, table: str) -> list[aws.Lease] | None:
        monkeypatch.setattr(aws, "read_leases", read_leases)
        start.pin(dynamodb, config, NOW)
        make_lease(emulator, table, "shardId-000000000000", "AT_TIMESTAMP")
        return read_leases(client, table)

    monkeypatch.setattr(aws, "read_leases", after_the_other)
    assert start.pin(dynamodb, config, NOW + 60_000) == 1767225600_000


def test_a_damaged_item_is_refused_and_not_replaced_by_now(dynamodb: Boto3, config: ReceiverConfig) -> None:
    start.pin(dynamodb, config, NOW)
    for attributes in ({}, {"fromMillis": {"S": "x"}}, {"fromMillis": {"N": "-1"}}, {"fromMillis": {"N": "0.5"}}):
        dynamodb.put_item(TableName=start.table_of(config), Item={"key": {"S": "start"}, **attributes})
        with pytest.raises(ConfigError, match="does not say a time"):
            start.pin(dynamodb, config, NOW + 60_000)


def test_a_service_that_is_away_is_told_as_such(emulator: Emulator, dynamodb: Boto3, config: ReceiverConfig) -> None:
    emulator.faults.set_down("dynamodb")
    try:
        with pytest.raises(StreamUnavailable, match=start.table_of(config)):
            start.pin(emulator.client("dynamodb"), config, NOW)
    finally:
        emulator.faults.clear()


def test_run_waits_for_a_service_that_is_away_and_begins_at_the_time_of_its_start(
    emulator: Emulator, config: ReceiverConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def tell(message: str) -> None:
        said.append(message)
        emulator.faults.clear()

    monkeypatch.setattr(run, "tell", tell)
    monkeypatch.setattr(run, "MOST_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(run.time, "time", lambda: NOW / 1000)
    emulator.faults.set_down("dynamodb")
    assert run._pinned(config) == 1767225600_000
    waiting, begun = said
    assert waiting.startswith("waiting to learn from when on LATEST reads: ")
    assert "from 2026-01-01 00:00:00 UTC on" in begun


def test_check_accepts_latest_and_says_who_may_start_it_and_from_when(
    dynamodb: Boto3, file: Path, config: ReceiverConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = check(file, capsys)
    assert code == EXIT_OK
    assert found["initialPositionInStream"]["severity"] == "ok"
    assert "only `run` may start it" in found["initialPositionInStream"]["reason"]
    assert start.table_of(config) in found["start"]["reason"]
    assert start.table_of(config) not in dynamodb.list_tables()["TableNames"], "check changes nothing"
    start.pin(dynamodb, config, NOW)
    _, found = check(file, capsys)
    assert "from 2026-01-01 00:00:00 UTC on" in found["start"]["reason"]


def test_a_generator_without_run_refuses_latest_with_the_line_to_write(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kcl_receiver.generator.main.run_generator", lambda *_, **__: EXIT_OK)
    monkeypatch.delenv(SUPERVISED, raising=False)
    assert run_cli(["generator", "--properties", str(file)]) == EXIT_USAGE
    assert "initialPositionInStreamExtended = " in capsys.readouterr().err
    monkeypatch.setenv(SUPERVISED, "1")
    with pytest.raises(SystemExit) as left:
        run_cli(["generator", "--properties", str(file)])
    assert left.value.code == EXIT_OK
