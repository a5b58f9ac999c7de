"""`kcl-receiver status`: what it shows, and with what it exits."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import live_support
import pytest
from live_support import generator, lease, shard
from test_config import write

from kcl_receiver import aws
from kcl_receiver.cli.main import run_cli
from kcl_receiver.config.properties import load
from kcl_receiver.daemon import watch
from kcl_receiver.errors import (
    EXIT_AMISS,
    EXIT_ENVIRONMENT,
    EXIT_OK,
    EXIT_STORE,
    EXIT_STREAM,
    GeneratorUnavailable,
    ReceiverError,
    StoreUnavailable,
    StreamUnavailable,
)
from kcl_receiver.status.report import GeneratorState, LeaseState, Trouble, UnreadState
from kcl_receiver.store.layout import ledger_path, log_path
from kcl_receiver.store.ledger.entries import Living
from kcl_receiver.store.ledger.store_log import StoreLog
from kcl_receiver.store.store import Store, open_store

NOW = 1_000_000.0
DAEMON_ERROR = (
    "2026-11-28T14:13:20.630Z ERROR InitializeTask [] Caught exception: \n"
    "software.amazon.awssdk.services.kinesis.model.KinesisException: it speaks JSON, not CBOR\n"
)


class World:
    """What the command asks: a generator, a lease table, and how often."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.generator: GeneratorState | ReceiverError = generator(shard(0), shard(1))
        self.leases: list[LeaseState] | ReceiverError | None = [lease(0), lease(1)]
        self.asked = 0

    def ask(self, _socket: Path) -> GeneratorState:
        if isinstance(self.generator, ReceiverError):
            raise self.generator
        return self.generator

    def read(self, _dynamodb: object, _table: str) -> list[aws.Lease] | None:
        self.asked += 1
        if isinstance(self.leases, ReceiverError):
            raise self.leases
        if self.leases is None:
            return None
        return [
            aws.Lease(one.shard, one.checkpoint, one.sub_sequence_number, one.owner, one.counter) for one in self.leases
        ]

    def write_log(self, age: float) -> None:
        log = load(self.file).log_directory / "daemon.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(DAEMON_ERROR)
        os.utime(log, (NOW - age, NOW - age))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    settings = {
        "receiver.store": f"file://{tmp_path}/store",
        "receiver.logDirectory": str(tmp_path / "log"),
        "workerId": live_support.WORKER,
    }
    made = World(write(tmp_path, settings))
    monkeypatch.setattr(watch, "ask_status", made.ask)
    monkeypatch.setattr(aws, "client", lambda *_: object())
    monkeypatch.setattr(aws, "read_leases", made.read)
    monkeypatch.setattr(watch.time, "time", lambda: NOW)
    return made


Show = Callable[..., tuple[int, str, str]]


@pytest.fixture
def show(world: World, capsys: pytest.CaptureFixture[str]) -> Show:
    def shown(*more: str) -> tuple[int, str, str]:
        code = run_cli(["status", "-p", str(world.file), *more])
        told = capsys.readouterr()
        return code, told.out, told.err

    return shown


def test_a_receiver_that_reads_is_shown_shard_by_shard(show: Show) -> None:
    code, out, err = show()
    assert (code, err) == (EXIT_OK, "")
    assert out.splitlines()[0] == "landing: 200 records in 1 block stored (268.5 KiB), 0 being written"
    head, *rows = (re.split(r"  +", line) for line in out.splitlines()[1:])
    assert head == ["shard", "state", "owner", "records", "stored through", "checkpoint", "lag", "window"]
    position = "680286113794:2"
    assert rows[0] == ["shard 0", "reading", live_support.WORKER, "71", position, position, "0.0 s", "0 %"]
    assert len(rows) == 2


def test_a_silent_shard_is_shown_with_its_age_and_that_of_its_lag(world: World, show: Show) -> None:
    world.generator = generator(shard(0), shard(1, spoke_seconds=62.0, behind_seconds=62.0, behind_millis=4000))
    code, out, _ = show()
    assert code == EXIT_AMISS
    assert "silent for 62 s" in out
    assert "4.0 s, 62 s ago" in out
    assert "not being read: shardId-000000000001 (silent for 62 s)" in out
    assert "Hint: see docs/operations.md#nothing-is-being-read" in out


def test_a_shard_that_falls_silent_shows_it_before_it_counts(world: World, show: Show) -> None:
    world.generator = generator(shard(0, spoke_seconds=25.0))
    code, out, _ = show()
    assert code == EXIT_OK
    assert "silent for 25 s" in out


def test_a_start_is_shown_with_kcls_phase(world: World, show: Show) -> None:
    world.generator, world.leases = (
        generator(records_stored=0, uptime_seconds=9.0),
        [lease(0, checkpoint="TRIM_HORIZON")],
    )
    code, out, _ = show()
    assert code == EXIT_OK
    assert "phase: KCL has leases for this host and starts one processor per shard" in out
    assert "no processor yet" in out


def test_a_start_that_hangs_fails_with_the_daemons_last_error(world: World, show: Show) -> None:
    world.generator, world.leases = generator(records_stored=0), [lease(0, checkpoint="AT_TIMESTAMP")]
    world.write_log(age=5)
    code, out, _ = show()
    assert code == EXIT_AMISS
    assert "the daemon's last error: InitializeTask: KinesisException: it speaks JSON, not CBOR" in out


def test_a_log_that_is_older_than_the_generator_is_another_runs(world: World, show: Show) -> None:
    world.generator, world.leases = generator(records_stored=0, uptime_seconds=1000.0), [lease(0)]
    world.write_log(age=1001)
    assert "last error" not in show()[1]


@pytest.mark.parametrize(
    ("report", "leases", "code", "said"),
    [
        (GeneratorUnavailable("no generator answers", "is it running?"), [lease(0)], EXIT_ENVIRONMENT, "is it running"),
        (
            generator(shard(0), failing=Trouble.of(StoreUnavailable("disk full", "make room"), 7)),
            [lease(0)],
            EXIT_STORE,
            "StoreUnavailable: disk full (failing for 7 s)\nHint: make room",
        ),
        (generator(shard(0)), StreamUnavailable("throttled", "try again"), EXIT_STREAM, "throttled"),
        (generator(shard(0)), None, EXIT_STREAM, "the lease table is not there, and shards are read"),
    ],
)
def test_what_fails_decides_the_exit_code_and_the_rest_is_shown(
    world: World,
    show: Show,
    report: GeneratorState | ReceiverError,
    leases: list[LeaseState] | ReceiverError | None,
    code: int,
    said: str,
) -> None:
    world.generator, world.leases = report, leases
    exited, out, err = show()
    assert exited == code
    assert said in out + err
    assert "shard 0" in out


def test_json_holds_all_of_it_and_exits_alike(world: World, show: Show) -> None:
    world.generator = generator(shard(0, spoke_seconds=62.0), shard(1, spoke_seconds=62.0))
    code, out, err = show("--output", "json")
    told = json.loads(out)
    assert (code, err) == (EXIT_AMISS, "")
    assert told.keys() == {"generator", "leases", "shards", "phase", "reading", "problems", "writers"}
    assert told["shards"][0] == {
        "shard": "shardId-000000000000",
        "owner": live_support.WORKER,
        "condition": "silent",
        "seconds": 62.0,
    }
    assert told["reading"] is False
    assert told["problems"][0]["exit_code"] == EXIT_AMISS
    assert told["generator"]["shards"][0]["spoke_seconds"] == 62.0
    assert told["leases"][0]["owner"] == live_support.WORKER


def test_records_that_may_have_been_trimmed_are_named(world: World, show: Show) -> None:
    world.generator = generator(
        shard(0, possibly_trimmed=UnreadState(after="9:0", arrived_from=0, arrived_to=3_600_000)), shard(1)
    )
    said = "records that arrived between 1970-01-01 00:00:00Z and 1970-01-01 01:00:00Z may have been trimmed before"
    assert f"shardId-000000000000: {said}" in show()[1]


# The writers of the store


HOSTS = {"20260111T000000Z-00000001": ("host-a", 7), "20260111T000001Z-00000002": ("host-b", 8)}


def write_store(world: World, *writers: str) -> Store:
    store = open_store(load(world.file).store)
    living = {one: Living(*HOSTS[one], "0.1.0", round(1000 * NOW) - 7_200_000) for one in writers}
    StoreLog(store).change(lambda state: replace(state, living=living, last=max(writers)))
    return store


def rows_of(out: str) -> list[list[str]]:
    lines = out.splitlines()
    return [re.split(r"  +", line.strip()) for line in lines[lines.index("") + 1 :]]


def test_all_generators_that_write_to_the_store_are_shown_with_their_shards(world: World, show: Show) -> None:
    first, second = HOSTS
    store = write_store(world, first, second)
    world.leases = [lease(0), lease(1), lease(2, owner="host-b-0123456789ab"), lease(3, owner="host-b:1f-x")]
    store.append_ledger(first, 1, b"a line\n")
    path = Path(unquote(urlsplit(store.url).path)) / ledger_path(first)
    os.utime(path, (NOW - 4, NOW - 4))
    code, out, _ = show()
    assert code == EXIT_OK
    assert rows_of(out) == [
        ["writer", "host", "pid", "version", "began", "recorded", "shards"],
        [first, "host-a", "7", "0.1.0", "2 h 00 min ago", "4 s ago", "-"],
        [second, "host-b", "8", "0.1.0", "2 h 00 min ago", "-", "2, 3"],
    ]
    writers = json.loads(show("--output", "json")[1])["writers"]
    assert [(one["writer"], one["recorded_seconds"]) for one in writers] == [(first, 4.0), (second, None)]
    assert writers[1]["shards"] == [shard(2).shard, shard(3).shard]


def test_the_writers_are_shown_where_no_generator_answers(world: World, show: Show) -> None:
    first = next(iter(HOSTS))
    write_store(world, first)
    world.generator = GeneratorUnavailable("nobody listens")
    _, out, _ = show()
    assert rows_of(out)[1][:2] == [first, "host-a"]


def test_the_generator_that_answers_is_not_shown_a_second_time(world: World, show: Show) -> None:
    first = next(iter(HOSTS))
    write_store(world, first)
    world.generator = generator(shard(0), shard(1), pid=HOSTS[first][1])
    assert first not in show()[1]
    assert len(json.loads(show("--output", "json")[1])["writers"]) == 1


def test_a_store_that_cannot_say_who_writes_to_it_is_told(world: World, show: Show) -> None:
    write_store(world, *HOSTS).objects.replace(log_path(1), b"{}\n")
    code, out, _ = show()
    assert code == EXIT_STORE
    assert "who writes to the store is not known: LedgerDamaged: entry 1 of the log" in out


def test_a_store_that_hangs_holds_up_the_status_for_a_moment_only(
    world: World, show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()
    monkeypatch.setattr(watch, "STORE_SECONDS", 0.0)
    monkeypatch.setattr(watch, "living_writers", lambda *_: goes_on.wait() and [])
    code, out, _ = show()
    goes_on.set()
    assert code == EXIT_STORE
    assert "the store has not answered for 0 s" in out
    assert "shard 0" in out


# The look of `run`


def test_run_asks_aws_for_nothing_while_all_is_well(world: World) -> None:
    looking = watch.Watch(load(world.file))
    for _ in range(5):
        assert looking.look_sparingly().reading
    assert world.asked == 0


def test_a_client_that_is_given_is_used_whoever_the_settings_name(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aws, "client", lambda *_: pytest.fail("it was given one"))
    assert watch.Watch(load(world.file), object()).look().leases is not None


def test_run_asks_for_the_leases_where_they_can_say_more_and_not_each_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(watch.time, "monotonic", lambda: now)
    world.generator, world.leases = generator(records_stored=0, uptime_seconds=1e6), [lease(0, owner="other")]
    looking = watch.Watch(load(world.file))
    for now in range(0, 130, 5):  # noqa: B007 - the clock reads it
        live = looking.look_sparingly()
        assert live.problems == (), "others have all shards"
        assert live.phase == "every shard has ended, or is with another worker"
    assert world.asked == 3


def test_a_shard_that_another_host_has_taken_is_not_told_as_silent(world: World) -> None:
    moved = shard(0, connected=False, spoke_seconds=60.0)
    world.generator, world.leases = generator(moved, shard(1)), [lease(0, owner="other"), lease(1)]
    live = watch.Watch(load(world.file)).look_sparingly()
    assert world.asked == 1
    assert live.problems == ()
