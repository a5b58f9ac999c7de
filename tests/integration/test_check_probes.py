"""`check` against a machine, a store and an AWS that are really there, or really not."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import live_support
import pytest
from store_support import local_store
from unwritable import REASON, unwritable

from kcl_receiver import aws
from kcl_receiver.cli.main import run_cli
from kcl_receiver.config.credentials import Access
from kcl_receiver.config.properties import load
from kcl_receiver.daemon import probes, watch
from kcl_receiver.emulator.server import Emulator
from kcl_receiver.store.store import open_store


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)


def write(directory: Path, url: str, name: str, changes: dict[str, str] | None = None) -> Path:
    file = directory / "x.properties"
    keys = {
        "applicationName": name,
        "streamName": name,
        "regionName": "us-east-1",
        "kinesisEndpoint": url,
        "dynamoDBEndpoint": url,
        "metricsLevel": "NONE",
        "AwsCredentialsProvider": "DefaultCredentialsProvider",
        "executableName": f"kcl-receiver-processor --properties {file}",
        "receiver.store": f"file://{directory}/store",
        "receiver.socket": f"{directory}/run/s",
        "initialPositionInStream": "TRIM_HORIZON",
        "retrievalMode": "POLLING",
        "callProcessRecordsEvenForEmptyRecordList": "true",
        "shutdownGraceMillis": "20000",
    } | (changes or {})
    file.write_text("".join(f"{key} = {value}\n" for key, value in keys.items()))
    return file


def check(file: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, dict[str, Any]]]:
    code = run_cli(["check", "-p", str(file), "--output", "json", *more])
    found = json.loads(capsys.readouterr().out)["findings"]
    return code, {each["subject"]: each for each in found}


@pytest.fixture
def stream(emulator: Emulator, request: pytest.FixtureRequest) -> str:
    name = request.node.name.partition("[")[0][:100]
    emulator.client("kinesis").create_stream(StreamName=name, ShardCount=2)
    return str(name)


def make_lease(emulator: Emulator, table: str, shard: str, checkpoint: str) -> None:
    dynamodb = emulator.client("dynamodb")
    dynamodb.create_table(
        TableName=table,
        KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    item = {"leaseKey": {"S": shard}, "checkpoint": {"S": checkpoint}, "leaseCounter": {"N": "3"}}
    dynamodb.put_item(TableName=table, Item=item)


def test_all_is_well_before_the_first_start(
    emulator: Emulator, stream: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = check(write(tmp_path, emulator.url, stream), capsys)
    assert code == 0
    assert "2 open shards of 2, retention 24 h" in found["stream"]["reason"]
    assert stream in found["no lease table yet"]["reason"]
    assert not (tmp_path / "store").exists(), "check changes nothing"
    assert not (tmp_path / "run").exists(), "check changes nothing"


def store_one_block(tmp_path: Path, application: str) -> None:
    store = local_store(tmp_path / "store")
    store.claim(application)
    store.put_block("20261122T143057Z-feb90044-000000000001", b"rows")


def test_a_lease_table_that_is_gone_is_no_first_start(
    emulator: Emulator, stream: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, emulator.url, stream)
    store_one_block(tmp_path, load(file).application_name)
    code, found = check(file, capsys)
    assert code == 0
    gone = found["the lease table is gone"]
    assert gone["severity"] == "warning"
    assert f"there is no table {stream}, though file://{tmp_path}/store holds blocks: it was deleted" in gone["reason"]
    assert "no lease table yet" not in found


def test_a_lease_table_that_is_gone_under_a_running_receiver_exits_with_5(
    emulator: Emulator, stream: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, emulator.url, stream)
    monkeypatch.setattr(probes, "ask_status", lambda _: live_support.generator(live_support.shard(0)))
    code, found = check(file, capsys)
    assert code == 5
    assert "and the receiver runs" in found["the lease table is gone"]["reason"]
    assert found["the lease table is gone"]["instead"].startswith("stop the receiver and start it again")


def test_a_receiver_that_runs_and_reads_nothing_exits_with_1(
    emulator: Emulator, stream: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = next(aws.list_shards(emulator.client("kinesis"), stream)).first
    make_lease(emulator, stream, "shardId-000000000000", str(first))
    file = write(tmp_path, emulator.url, stream)
    for spoke, code, severity, said in ((0.5, 0, "ok", "pid 1: reading"), (99.0, 1, "error", "nothing is being read")):
        running = live_support.generator(live_support.shard(0, spoke_seconds=spoke))
        monkeypatch.setattr(watch, "ask_status", lambda _, answer=running: answer)
        exited, found = check(file, capsys)
        assert exited == code
        assert (found["running"]["area"], found["running"]["severity"]) == ("receiver", severity)
        assert found["running"]["reason"].startswith(said)


def test_a_stream_that_is_not_there_exits_with_5(
    emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = check(write(tmp_path, emulator.url, "nothing"), capsys)
    assert code == 5
    assert "none of this name" in found["stream"]["reason"]
    assert not found["stream"]["mends"]


def test_an_endpoint_that_nobody_serves_exits_with_5_and_may_mend(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        code, found = check(write(tmp_path, f"http://127.0.0.1:{held.getsockname()[1]}", "x"), capsys)
    assert code == 5
    assert "Could not connect" in found["stream"]["reason"]
    assert found["stream"]["mends"]


def test_offline_asks_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = check(write(tmp_path, "http://127.0.0.1:1", "x"), capsys, "--offline")
    assert code == 0
    assert "stream" not in found


def test_a_lease_table_of_an_older_stream_exits_with_5(
    emulator: Emulator, stream: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_lease(emulator, stream, "shardId-000000000000", "49" + "0" * 54)
    code, found = check(write(tmp_path, emulator.url, stream), capsys)
    assert code == 5
    assert "outside of the shard's sequence numbers" in found["leases"]["reason"]
    assert f"{stream}-CoordinatorState" in found["leases"]["instead"]


def test_a_lease_table_of_this_stream_is_fine(
    emulator: Emulator, stream: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = next(aws.list_shards(emulator.client("kinesis"), stream)).first
    make_lease(emulator, stream, "shardId-000000000000", str(first))
    code, found = check(write(tmp_path, emulator.url, stream), capsys)
    assert code == 0
    assert "1 leases" in found["leases"]["reason"]


def test_missing_credentials_are_told_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    kinesis = aws.client(Access("kinesis", "us-east-1", "https://127.0.0.1:1"))
    with pytest.raises(aws.StreamUnavailable, match="Unable to locate credentials") as caught:
        aws.describe_stream(kinesis, "x")
    assert "AWS_PROFILE" in caught.value.hint


def test_a_missing_program_and_java_exit_with_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, "http://127.0.0.1:1", "x")
    text = file.read_text().replace("= kcl-receiver-processor", "= /nowhere/kcl-receiver-processor")
    file.write_text(text)
    code, found = check(file, capsys, "--offline", "--java", "/nowhere/java")
    assert code == 3
    assert found["java"]["severity"] == "error"
    assert "is not there" in found["executableName"]["reason"]


def test_a_program_that_may_not_be_run_exits_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = tmp_path / "kcl-receiver-processor"
    program.touch(0o644)
    file = write(tmp_path, "http://127.0.0.1:1", "x", {"executableName": f"{program} -p {tmp_path}/x.properties"})
    code, found = check(file, capsys, "--offline")
    assert code == 3
    assert found["executableName"]["instead"] == f"chmod +x {program}"


def test_a_socket_directory_of_others_exits_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o777)
    code, found = check(write(tmp_path, "http://127.0.0.1:1", "x"), capsys, "--offline")
    assert code == 3
    assert "others may write to it" in found["socket"]["reason"]


def test_a_store_of_another_application_exits_with_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_store(f"file://{tmp_path}/store").claim("somebody-else")
    code, found = check(write(tmp_path, "http://127.0.0.1:1", "x"), capsys, "--offline")
    assert code == 4
    assert "belongs to application 'somebody-else'" in found["store"]["reason"]


def test_a_store_that_is_no_directory_exits_with_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "store").touch()
    code, found = check(write(tmp_path, "http://127.0.0.1:1", "x"), capsys, "--offline")
    assert code == 4
    assert "cannot be written" in found["store"]["reason"]


def test_a_store_without_the_right_to_write_exits_with_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with unwritable(tmp_path / "store"):
        code, found = check(write(tmp_path, "http://127.0.0.1:1", "x"), capsys, "--offline")
    assert code == 4
    assert re.search(REASON, found["store"]["reason"])
    assert re.search("mount it writable|needs to read and write", found["store"]["instead"])


def test_a_log_directory_without_the_right_to_write_exits_with_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, "http://127.0.0.1:1", "x", {"receiver.logDirectory": f"{tmp_path}/logs/of/x"})
    code, found = check(file, capsys, "--offline")
    assert code == 0
    assert found["logs"]["reason"] == f"{tmp_path}/logs/of/x will be made"
    with unwritable(tmp_path / "logs"):
        code, found = check(file, capsys, "--offline")
    assert code == 3
    assert re.search(REASON, found["logs"]["reason"])
    assert "receiver.logDirectory" in found["logs"]["instead"]
    (tmp_path / "file").touch()
    code, found = check(
        write(tmp_path, "http://127.0.0.1:1", "x", {"receiver.logDirectory": "file/x"}), capsys, "--offline"
    )
    assert code == 3


def test_a_user_without_an_entry_in_passwd_and_without_a_home_gets_findings_and_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr("os.getuid", lambda: 987_654)
    file = write(tmp_path, "http://127.0.0.1:1", "x", {"receiver.socket": "/tmp/kcl-receiver-987654/x/generator.sock"})
    code, found = check(file, capsys, "--offline")
    assert code == 0
    assert found["logs"]["reason"] == "/tmp/kcl-receiver-987654/x/log will be made"
    code, found = check(file, capsys)
    assert code == 5, "boto3 looks for files below the home, too"


def test_it_says_how_java_would_be_launched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, "http://127.0.0.1:1", "x")
    _, found = check(file, capsys, "--offline")
    assert found["launch"]["reason"].startswith(("tuned: -XX:", "plain: Java "))
    file.write_text(file.read_text() + "receiver.javaLaunch = plain\n")
    _, found = check(file, capsys, "--offline")
    assert found["launch"]["reason"] == "plain: receiver.javaLaunch = plain"
