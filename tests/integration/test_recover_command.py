"""The command recover on a store in a directory and a stream of the emulator: what it says, and its exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from generator_process import STREAM
from recovery_support import columns_of, range_of
from store_support import begin, local_store, root_of, session_at
from test_recovery import Source

from kcl_receiver.audit.verify import verify_store
from kcl_receiver.cli.main import run_cli
from kcl_receiver.cli.recover import exit_code
from kcl_receiver.emulator.server import Emulator
from kcl_receiver.errors import (
    EXIT_AMISS,
    EXIT_DIFFERS,
    EXIT_INTERRUPTED,
    EXIT_LOST,
    EXIT_OK,
    EXIT_STORE,
    EXIT_STREAM,
    EXIT_USAGE,
)
from kcl_receiver.ids import block_id, writer_id
from kcl_receiver.kinesis.rebuild import Outcome
from kcl_receiver.ranges import After
from kcl_receiver.recovery.damages import Unknown
from kcl_receiver.recovery.restore import Summary
from kcl_receiver.store.blocks.encode import BlockRange, encode_block
from kcl_receiver.store.layout import block_path
from kcl_receiver.store.ledger.entries import BlockStored


class Lake:
    """What a receiver would have stored of the stream: a block for each 20 user records of every shard."""

    def __init__(self, root: Path, emulator: Emulator) -> None:
        self.emulator = emulator
        self.source = Source(emulator)
        self.source.put(120)
        self.store = local_store(root)
        self.store.claim("landing")
        now = time.time_ns() // 1_000_000
        writer = writer_id(now)
        ledger = begin(self.store, writer, time=now)
        stream = self.source.identity
        self.entries: list[BlockStored] = []
        shards = {shard: self.source.delivered(shard) for shard in self.source.shards()}
        ledger.append([session_at(shard=shard, stream=stream, time=now) for shard in shards])
        after: dict[str, After] = dict.fromkeys(shards, "TRIM_HORIZON")
        while any(shards.values()):
            parts = []
            for shard in [one for one in shards if shards[one]]:
                users, shards[shard] = shards[shard][:20], shards[shard][20:]
                one = replace(range_of(users, shard), after=after[shard], session="s1")
                after[shard] = one.last
                parts.append(BlockRange(one, columns_of(users)))
            block = block_id(writer, len(self.entries) + 1)
            encoded = encode_block(block, writer, stream, parts, "zstd")
            self.store.put_block(block, encoded.payload)
            size = memoryview(encoded.payload).nbytes
            self.entries.append(BlockStored(block, stream, encoded.ranges, encoded.rows, size, now))
        ledger.append(self.entries)
        assert verify_store(self.store).proven

    def delete(self, *numbers: int) -> None:
        for number in numbers:
            (root_of(self.store) / block_path(self.entries[number].block)).unlink()

    def arguments(self, *more: str) -> list[str]:
        return ["recover", "--store", self.store.url, "--endpoint-url", self.emulator.url, *more]

    def run(self, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the command in a process of its own, which is what lets go of the store's maintenance."""
        return subprocess.run(
            [sys.executable, "-m", "kcl_receiver.cli.main", *self.arguments(*more)],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={**os.environ, **self.emulator.environment, **environment},
        )

    def proven(self) -> bool:
        return verify_store(local_store(root_of(self.store)), deep=True).proven


@pytest.fixture
def lake(tmp_path: Path, emulator: Emulator) -> Lake:
    return Lake(tmp_path / "store", emulator)


def test_what_is_missing_is_shown_and_brought_back(lake: Lake) -> None:
    lake.delete(0, 2)
    before = sorted(lake.store.list_blocks())
    dry = lake.run("--dry-run")
    assert dry.returncode == EXIT_AMISS
    assert "2 blocks are missing, 0 are damaged." in dry.stdout
    assert f"block {lake.entries[2].block}: it is not there" in dry.stdout
    assert sorted(lake.store.list_blocks()) == before
    done = lake.run()
    assert done.returncode == EXIT_OK
    records = sum(entry.rows for entry in (lake.entries[0], lake.entries[2]))
    assert f"Restored  2 blocks, and 0 in part: {records} records" in done.stdout
    assert done.stderr == "", "no progress where there is no terminal"
    assert lake.proven()
    again = lake.run()
    assert again.returncode == EXIT_OK
    assert "No block that is known is missing or damaged." in again.stdout


def test_the_json_says_what_was_done(lake: Lake) -> None:
    lake.delete(1)
    done = lake.run("--output", "json")
    assert done.returncode == EXIT_OK
    said = json.loads(done.stdout)
    assert (said["version"], said["missing"], said["damaged"]) == (1, 1, 0)
    assert {one["shard"] for one in said["lost"]} == {one.shard for one in lake.entries[1].ranges}
    assert said["result"]["records"] == lake.entries[1].rows
    assert said["result"]["not_restored"] == []


def test_what_is_trimmed_is_named_by_range_with_a_code_of_its_own(lake: Lake) -> None:
    lake.delete(0, 1)
    lost = lake.entries[0].ranges[0]
    lake.emulator.kinesis.trim(STREAM, lost.shard, lost.first.sequence_number)
    done = lake.run()
    assert done.returncode == EXIT_LOST
    assert f"LOST  {lost.shard} from {lost.first} to {lost.last}, arrived 20" in done.stdout
    assert f"NOT restored  {lost.count} records in 1 range: lost: the stream has trimmed them" in done.stdout
    assert "Restored  1 block, and 1 in part" in done.stdout
    again = lake.run("--output", "json")
    assert again.returncode == EXIT_LOST
    (one,) = json.loads(again.stdout)["result"]["not_restored"]
    assert (one["outcome"], one["count"], one["block"]) == ("trimmed", lost.count, lake.entries[0].block)


@pytest.mark.parametrize(
    ("failed", "code"),
    [
        ({}, EXIT_OK),
        ({Outcome.COUNT_DIFFERS: 1}, EXIT_DIFFERS),
        ({Outcome.CONTENT_DIFFERS: 1}, EXIT_DIFFERS),
        ({Outcome.UNKNOWN: 1}, EXIT_DIFFERS),
        ({Outcome.GONE: 1, Outcome.UNKNOWN: 1}, EXIT_STREAM),
        ({Outcome.GONE: 1, Outcome.TRIMMED: 1}, EXIT_LOST),
    ],
)
def test_the_exit_code_is_that_of_the_worst(failed: dict[Outcome, int], code: int) -> None:
    assert exit_code(Summary(failed=failed), Unknown()) == code
    assert exit_code(Summary(failed=failed, stopped=True), Unknown()) == EXIT_INTERRUPTED
    assert exit_code(Summary(), Unknown(ledger_lost=True)) == EXIT_AMISS


def test_a_stream_that_is_gone_or_another_one_is_not_reachable(lake: Lake) -> None:
    lake.delete(1)
    lake.source.kinesis.delete_stream(StreamName=STREAM)
    gone = lake.run()
    assert gone.returncode == EXIT_STREAM
    assert f"stream {STREAM} was deleted" in gone.stdout
    lake.source.kinesis.create_stream(StreamName=STREAM, ShardCount=2)
    other = lake.run()
    assert other.returncode == EXIT_STREAM
    assert "was made again" in other.stdout


def test_without_credentials_it_is_said_and_the_store_is_left_as_it_is(
    lake: Lake, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [one for one in os.environ if one.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    lake.delete(1)
    before = sorted(lake.store.list_blocks())
    assert run_cli(["recover", "--store", lake.store.url, "--endpoint-url", "https://127.0.0.1:1"]) == EXIT_STREAM
    err = capsys.readouterr().err
    assert "Unable to locate credentials" in err
    assert "AWS_PROFILE" in err
    assert sorted(lake.store.list_blocks()) == before


def test_no_store_and_other_maintenance_are_said(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["recover", "--store", (tmp_path / "none").as_uri()]) == EXIT_STORE
    assert "there is no store at" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    lake.store.hold_maintenance()
    done = lake.run()
    assert done.returncode == EXIT_STORE
    assert "other maintenance works on the store" in done.stderr


def test_what_is_about_to_be_trimmed_is_listed(lake: Lake) -> None:
    assert run_cli(lake.arguments("--expiring-within", "48h")) == EXIT_OK
    lake.delete(1)
    assert run_cli(lake.arguments("--expiring-within", "1h")) == EXIT_OK
    said = lake.run("--expiring-within", "25h", "--output", "json")
    assert said.returncode == EXIT_AMISS
    assert len(json.loads(said.stdout)["expiring"]) == len(lake.entries[1].ranges)
    text = lake.run("--expiring-within", "25h")
    assert text.returncode == EXIT_AMISS
    assert "trimmed in 23 h" in text.stdout or "trimmed in 24 h" in text.stdout
    assert run_cli(lake.arguments("--expiring-within", "1h", "--dry-run")) == EXIT_USAGE


@pytest.fixture
def reading(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """An event that the first GetRecords sets."""
    seen = threading.Event()
    real = emulator.kinesis.call

    def call(operation: str, *more: Any) -> Any:  # noqa: ANN401
        if operation == "GetRecords":
            seen.set()
        return real(operation, *more)

    monkeypatch.setattr(emulator.kinesis, "call", call)
    return seen


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order_and_the_next_run_goes_on(
    lake: Lake, reading: threading.Event, number: signal.Signals
) -> None:
    lake.delete(0, len(lake.entries) - 1)
    reading.clear()
    slow = lake.arguments("--calls-per-second", "0.1")
    process = subprocess.Popen(
        [sys.executable, "-m", "kcl_receiver.cli.main", *slow],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **lake.emulator.environment},
    )
    assert reading.wait(60)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == EXIT_INTERRUPTED, out + err
    assert "Stopped before the end" in out
    assert "Once more ends it at once" in err
    assert not lake.proven()
    assert run_cli(lake.arguments()) == EXIT_OK
    assert lake.proven()
