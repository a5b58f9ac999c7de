"""No value of any option of any command ends in a traceback: an error names the thing, and a command that runs, runs.

What would go on for ever, or start java, is cut off at the last moment; all that looks at the options comes before.
"""

from __future__ import annotations

import signal
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from store_support import OTHER_WRITER, SHARD, begin, block_range, local_store, put, session_at

from kcl_receiver import aws as clients
from kcl_receiver.cli import emulator as emulator_command
from kcl_receiver.cli import run as run_command
from kcl_receiver.cli.main import COMMANDS, cli, run_cli
from kcl_receiver.emulator import demo
from kcl_receiver.emulator.server import Emulator
from kcl_receiver.errors import EnvironmentProblem
from kcl_receiver.generator import main as role
from kcl_receiver.store.store import Store

HOSTILE = [
    "",
    " ",
    "-1",
    "0",
    "1",
    "7",
    "1e308",
    "nan",
    "inf",
    "9" * 400,
    "999999999d",
    "٣d",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "2026-02-30",
    "a\0b",
    "a\nb\r\x1b[31m",
    "\udcff",
    "\ud800",
    "é" * 300,
    "x" * 100_000,
    "/dev/null",
    "/proc/self/mem",
    "/",
    ".",
    "file:///dev/null/x",
    "file:///%00",
    "file://[::1",
    "s3://bucket/prefix",
    "http://[::1",
    "http://127.0.0.1:99999",
    "http://a b/",
    "127.0.0.1",
    "arn:aws:kinesis:us-east-1:123456789012:stream/x",
    "arn:x@1",
    "arn:x@" + "9" * 400,
    "=",
    "0=",
    "0=" + "9" * 400,
    "shardId-0=1:" + "9" * 400,
    "data,,data",
    "999999999999TiB",
    "zstd:99",
    "zstd:٣",
    "%s%n{0}",
]
EXIT_CODES = {0, 1, 2, 3, 4, 5, 7, 8, 9}


def options() -> list[tuple[str, str]]:
    found = []
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        found += [(name, one.opts[-1]) for one in command.params if isinstance(one, click.Option) and not one.is_flag]
    return [one for one in found if one != ("generator", "--lock-fd")]  # not for people: a number that `spawn` gives


@pytest.fixture(scope="module")
def aws() -> Iterator[Emulator]:
    with Emulator(port=0) as running:
        running.client("kinesis").create_stream(StreamName="orders", ShardCount=1)
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = local_store(tmp_path / "store")
    made.claim("landing")
    ledger = begin(made, OTHER_WRITER)
    entries = [put(made, at, block_range(at, after=at - 1), writer=OTHER_WRITER) for at in (1, 2)]
    ledger.append([session_at(0), *entries])
    return made


@pytest.fixture
def properties(tmp_path: Path, aws: Emulator, store: Store) -> Path:
    file = tmp_path / "landing.properties"
    lines = {
        "applicationName": "landing",
        "streamName": "orders",
        "regionName": "us-east-1",
        "AwsCredentialsProvider": "DefaultCredentialsProvider",
        "executableName": f"{Path(sys.executable).parent}/kcl-receiver-processor --properties {file}",
        "kinesisEndpoint": aws.url,
        "dynamoDBEndpoint": aws.url,
        "initialPositionInStream": "TRIM_HORIZON",
        "retrievalMode": "POLLING",
        "metricsLevel": "NONE",
        "callProcessRecordsEvenForEmptyRecordList": "true",
        "shutdownGraceMillis": "30000",
        "receiver.store": store.url,
        "receiver.socket": str(tmp_path / "run" / "generator.sock"),
        "receiver.logDirectory": str(tmp_path / "logs"),
    }
    file.write_text("".join(f"{key} = {value}\n" for key, value in lines.items()))
    return file


@pytest.fixture(autouse=True)
def _cut_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, aws: Emulator) -> Iterator[None]:
    at_once = threading.Event()
    at_once.set()
    monkeypatch.setattr(emulator_command, "threading", types.SimpleNamespace(Event=lambda: at_once))
    monkeypatch.setattr(run_command, "Supervisor", lambda *_, **__: types.SimpleNamespace(run=lambda: 0))
    monkeypatch.setattr(role, "run_generator", lambda *_, **__: 0)

    def no_emulator(**_: object) -> None:
        raise EnvironmentProblem("the demo would begin here")

    monkeypatch.setattr(demo, "Emulator", no_emulator)
    monkeypatch.setattr(clients.client, "__defaults__", (1,))  # one try: some of moto's answers are its own failures
    for name in ("AWS_PROFILE", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in aws.environment.items():
        monkeypatch.setenv(name, value)
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)  # a path that is made is made here
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def command_line(name: str, option: str, value: str, store: Store, properties: Path, aws: Emulator) -> list[str]:
    """Return a command line that is good but for one value."""
    endpoint, arn = (
        ["--endpoint-url", aws.url],
        ["--stream-arn", "arn:aws:kinesis:us-east-1:123456789012:stream/orders"],
    )
    base = {
        "demo": ["--dir", "demo"],
        "emulator": ["--port", "0"],
        "read": ["--store", store.url, "--limit", "3"],
        "verify": ["--store", store.url, "--leases", "--against-stream", *endpoint, *arn],
        "recover": ["--store", store.url, *endpoint],
        "compact": ["--store", store.url, "--min-age", "0s", "--dry-run"],
        "expire": ["--store", store.url, "--before", "1d", "--dry-run"],
        "repair": ["--store", store.url, "--dry-run"],
        "check": ["--offline", "--properties", str(properties)],
        "command": ["--properties", str(properties)],
        "run": ["--properties", str(properties)],
        "generator": ["--properties", str(properties)],
        "status": ["--properties", str(properties)],
    }[name]
    if option == "--properties" or (name == "expire" and option == "--declare-lifecycle"):
        base = [one for one in base if one not in ("--store", store.url, "--before", "1d")]
        base += ["--store", store.url] if option == "--declare-lifecycle" else []
    if name == "compact" and option == "--day":
        base = base[:-1]
    return [name, *base, option, value]


@pytest.mark.parametrize(("name", "option"), options())
def test_no_value_ends_in_a_traceback(
    name: str,
    option: str,
    store: Store,
    properties: Path,
    aws: Emulator,
    capfd: pytest.CaptureFixture[str],
) -> None:
    # `run` checks all that `check` does each time, and moto takes its time with odd names
    slow = name == "run" or option in ("--application", "--region")
    for value in HOSTILE[::3] if slow else HOSTILE:
        line = command_line(name, option, value, store, properties, aws)
        try:
            code = run_cli(line)
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 0
        err = capfd.readouterr().err
        assert code in EXIT_CODES, (line, code, err)
        assert "Traceback" not in err, (line, err)
        if code in (2, 3):
            assert len(err) < 3000, (line, len(err))  # what is a page long is cut


def test_the_lines_are_good_but_for_the_value(
    store: Store, properties: Path, aws: Emulator, capfd: pytest.CaptureFixture[str]
) -> None:
    good = {
        "read": ("--shard", SHARD),
        "verify": ("--application", "orders"),
        "recover": ("--workers", "2"),
        "compact": ("--target-bytes", "1MiB"),
        "expire": ("--before", "2d"),
        "repair": ("--output", "json"),
        "command": ("--properties", str(properties)),
        "run": ("--properties", str(properties)),
        "generator": ("--properties", str(properties)),
        "emulator": ("--host", "127.0.0.1"),
    }
    for name, (option, value) in good.items():
        try:
            code = run_cli(command_line(name, option, value, store, properties, aws))
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 0
        assert code != 2, (name, capfd.readouterr().err)
