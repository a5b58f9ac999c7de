"""What a host says of itself: what is in flight, and what it left behind."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.disks import PlainDisk
from faults.hosts import BLOCK_INTERVAL_MILLIS, Host, InFlight
from kcl_receiver.config.paths import GENERATOR_LOCK

INTERVAL = BLOCK_INTERVAL_MILLIS / 1000


class NoCloud:
    """An AWS that nobody asks."""

    url = "http://127.0.0.1:1"
    environment: dict[str, str] = {}  # noqa: RUF012 - a stand-in

    def client(self, service: str) -> None:
        return None


@pytest.fixture
def host(tmp_path: Path) -> Host:
    found = Host(tmp_path / "host-1", NoCloud(), worker="host-1", make_disk=PlainDisk, shards=None)
    found.socket.parent.mkdir()
    return found


@pytest.fixture
def says(host: Host, monkeypatch: pytest.MonkeyPatch) -> Callable[..., InFlight | None]:
    """Return what is in flight when a generator says this."""

    def say(**status: object) -> InFlight | None:
        monkeypatch.setattr(host, "status", lambda: status)
        return host.in_flight()

    return say


def test_what_is_in_the_block_that_is_being_filled_is_in_flight_until_that_can_be_cut(
    says: Callable[..., InFlight | None],
) -> None:
    shards = [
        {"shard": "a", "window_used": 700, "delivered": "12:3"},
        {"shard": "b", "window_used": 0, "delivered": "15:0"},
        {"shard": "c", "window_used": 300, "delivered": None},
    ]
    before = time.monotonic()
    found = says(building_bytes=900, building_seconds=1.0, shards=shards)
    after = time.monotonic()
    assert found is not None
    assert (found.batches, found.bytes) == (2, 1000)
    assert found.still(before + INTERVAL - 1.01)
    assert not found.still(after + INTERVAL - 1.0)
    # Later than that it is proven by what is in no block after the strike.
    assert found.still(after + 99, [("a", 12, 3)])
    assert not found.still(after + 99, [("a", 12, 2), ("a", 12, 4), ("b", 15, 0), ("c", 12, 3)])


def test_nothing_is_proven_to_be_in_flight_by_a_block_that_is_on_its_way_or_by_no_answer(
    says: Callable[..., InFlight | None],
) -> None:
    shards = [{"shard": "a", "window_used": 700, "delivered": "12:3"}]
    assert says(building_bytes=0, building_seconds=0.0, blocks_in_flight=1, shards=shards) is None
    assert says() is None


def test_a_process_a_lock_and_a_socket_that_are_left_are_told(host: Host) -> None:
    assert host.leftovers() == []
    ready = "import sys; print(1, flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", ready]
    with subprocess.Popen(command, cwd=host.base, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        lock = host.socket.parent / GENERATOR_LOCK
        host.socket.touch()
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            said = "\n".join(host.leftovers())
        process.communicate()
    assert f"process {process.pid} is left" in said
    assert f"the lock {GENERATOR_LOCK} is held" in said
    assert "the socket" in said


def test_a_process_that_only_has_a_file_open_is_found(host: Host) -> None:
    ready = "import sys; f = open(sys.stdin.readline().strip(), 'w'); print(1, flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", ready], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{host.base / 'a log'}\n".encode())
        process.stdin.flush()
        process.stdout.readline()
        said = host.leftovers()
        process.communicate()
    assert len(said) == 1


def test_a_frozen_host_is_stopped_as_a_whole_and_goes_on(host: Host) -> None:
    tick = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", tick, str(host.base)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    try:
        host.wait("both are there", lambda: len(host.everything()) == 2, 30)
        stopped = host.freeze()
        assert {one.pid for one in stopped} == {one.pid for one in processes}
        host.wait("they are stopped", lambda: all(one.status() == "stopped" for one in stopped), 30)
        host.thaw(stopped)
        for one in processes:
            assert one.stdin is not None
            assert one.stdout is not None
            one.stdin.write("alive\n")
            one.stdin.flush()
            assert one.stdout.readline() == "alive\n"
    finally:
        host.kill(host.everything())
        for one in processes:
            one.communicate()
