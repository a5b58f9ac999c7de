"""A host: `kcl-receiver run` with its own workerId, directories, store and socket, and all processes that belong to it.

What is in flight is asked right before a fault strikes, and counts only if it is proven to be so still at the strike:
because the block that is being filled can't have been cut yet, or because what the generator had got was in no block
when it was looked for afterwards.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from landing import PATIENCE, Cloud, Landing, is_gone

from faults.broken import Broken
from faults.disks import Disk
from kcl_receiver.config.paths import GENERATOR_LOCK
from kcl_receiver.daemon.lock import LOCK_NAME
from kcl_receiver.errors import EXIT_ENVIRONMENT

BLOCK_INTERVAL_MILLIS = 1500
"""Long enough that hardly a moment comes with nothing in flight, and short enough that recoveries are."""
GRACE_MILLIS = 6000
STORE_TIMEOUT_MILLIS = 10_000
"""Short, so that a store that is away for longer is met as well: generator and processors give up, and start again."""

LOOK_SECONDS = 0.1

SETTINGS = {
    # The 2 s of QUICK_SETTINGS are too short for a loaded machine, where workers would lose their leases all the time.
    "failoverTimeMillis": "5000",
    # KCL balances by throughput, which with so few shards is never even: it would move leases all the time, also those
    # whose processors are still being made, and then waits for gracefulLeaseHandoffTimeoutMillis (seen).
    # With these it looks once in minutes, and takes only leases without any throughput (balanceWorkerVariance of KCL
    # 3.1.3, where a dampening of 0 counts as unset).
    "varianceBalancingFrequency": "1000",
    "reBalanceThresholdPercentage": "10000",
    "dampeningPercentage": "1",
    "allowThroughputOvershoot": "false",
    "shutdownGraceMillis": str(GRACE_MILLIS),
    "receiver.blockIntervalMillis": str(BLOCK_INTERVAL_MILLIS),
    "receiver.checkpointIntervalMillis": "500",
    "receiver.storeTimeoutMillis": str(STORE_TIMEOUT_MILLIS),
}


@dataclass(frozen=True)
class InFlight:
    """What was admitted and not stored when a generator was asked.

    Attributes:
        batches: Of how many shards: so many batches at least.
        bytes: How much.
        until: Until then (monotonic clock) the block that is being filled can't have been cut, so that what is in it
            was not stored.
        delivered: Shard and position of the last record of each shard that the generator had got.
    """

    batches: int
    bytes: int
    until: float
    delivered: frozenset[tuple[str, int, int]] = frozenset()

    def still(self, moment: float, missing: Collection[tuple[str, int, int]] = ()) -> bool:
        """Return whether it was so at a later moment of the same clock, for certain.

        Args:
            moment: When.
            missing: Records that were in no block, as was seen after that moment: if one is among them that the
                generator had got, it was not stored at that moment either.
        """
        return moment < self.until or not self.delivered.isdisjoint(missing)


class Host(Landing):
    """See the module.

    Args:
        base: Its directory.
        cloud: The embedded AWS.
        worker: Its workerId.
        make_disk: Makes the file system on which its store lies.
        shards: Shards of the stream, which is made; None for all hosts but the first.
    """

    def __init__(
        self, base: Path, cloud: Cloud, *, worker: str, make_disk: Callable[[Path], Disk], shards: int | None
    ) -> None:
        base.mkdir(parents=True)
        self.worker = worker
        self.disk = make_disk(base / "disk")
        settings = {**SETTINGS, "workerId": worker}
        super().__init__(base, cloud, shards=shards, settings=settings, store=self.disk.path / "store")
        self._run: subprocess.Popen[bytes] | None = None

    # ------------------------------------------------------------------ processes

    def launch(self) -> None:
        """Start `run`."""
        self._run = self.run()

    def launch_again(self) -> None:
        """Start `run` as a service manager does: again and again while the one before leaves its lock."""
        deadline = time.monotonic() + 60
        while True:
            self._run = self.run()
            try:
                code = self._run.wait(1)
            except subprocess.TimeoutExpired:
                return
            if code != EXIT_ENVIRONMENT or time.monotonic() > deadline:
                raise Broken(f"{self.worker}: run does not start again (exit code {code})\n{self.tail('run.log')}")

    def supervisor(self) -> subprocess.Popen[bytes]:
        """Return `run`."""
        assert self._run is not None
        return self._run

    def check_running(self) -> None:
        """See that `run` is there.

        Raises:
            Broken: It ended without being asked.
        """
        if self._run is not None and (code := self._run.poll()) is not None:
            raise Broken(f"{self.worker}: run ended by itself (exit code {code})\n{self.tail('run.log')}")

    def everything(self) -> list[psutil.Process]:
        """Return all processes of this host, parents before their children."""
        return self.named("")

    def strike(self, victims: Iterable[psutil.Process]) -> None:
        """Kill -9 them all."""
        for one in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()

    def kill(self, victims: Iterable[psutil.Process]) -> None:
        """Kill -9 them all, and wait until they are gone."""
        victims = list(victims)
        self.strike(victims)
        self.bury(victims)

    def bury(self, victims: Iterable[psutil.Process]) -> None:
        """Wait until those that were killed are gone; from then on a missing `run` is none that ended by itself."""
        victims = list(victims)
        if self._run is not None and (self._run.pid in {one.pid for one in victims} or self._run.poll() == -9):
            self._run.wait()
            self._run = None
        self.wait(f"{self.worker}: whom we killed is gone", lambda: all(map(is_gone, victims)), 30)

    def freeze(self) -> list[psutil.Process]:
        """SIGSTOP all processes; return them."""
        stopped: dict[int, psutil.Process] = {}
        # Whoever starts a process while we go through them is stopped himself by the second look.
        while fresh := [one for one in self.everything() if one.pid not in stopped]:
            for one in fresh:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.suspend()
                stopped[one.pid] = one
        return list(stopped.values())

    def thaw(self, stopped: Iterable[psutil.Process]) -> None:
        """SIGCONT them."""
        for one in stopped:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.resume()

    # ------------------------------------------------------------------ looking

    def wait(self, what: str, condition: Callable[[], Any], patience: float = PATIENCE) -> Any:  # noqa: ANN401
        """Return the first true value of `condition`.

        Raises:
            Broken: There was none in time.
        """
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if value := condition():
                return value
            time.sleep(LOOK_SECONDS)
        raise Broken(f"{self.worker}: waited {patience:.0f} s in vain: {what}")

    def in_flight(self) -> InFlight | None:
        """Return what is admitted and not stored now, None if nothing is, or nothing can be proven."""
        asked = time.monotonic()
        status = self.status()
        if not status.get("building_bytes"):
            return None
        # It was asked after `asked`, so the block was begun no earlier than this; a millisecond for the rounding.
        begun = asked - status["building_seconds"] - 0.001
        waiting = [one["window_used"] for one in status["shards"] if one["window_used"]]
        until = begun + BLOCK_INTERVAL_MILLIS / 1000
        if not waiting:
            return None
        delivered = {_place(one) for one in status["shards"] if one["window_used"] and one["delivered"]}
        return InFlight(len(waiting), sum(waiting), until, frozenset(delivered))

    def sessions(self) -> set[str]:
        """Return the shards whose processors are connected, and have delivered something."""
        return {
            one["shard"]
            for one in self.status().get("shards", [])
            if one["state"] == "open" and one["connected"] and one["delivered"]
        }

    def tail(self, log: str, length: int = 3000) -> str:
        """Return the end of one of its logs."""
        path = self.base / log
        return path.read_text(errors="replace")[-length:] if path.exists() else f"(no {log})"

    # ------------------------------------------------------------------ the end

    def leftovers(self) -> list[str]:
        """Return what an orderly stop should not have left: processes, locks that are held, the socket."""
        found = [f"{self.worker}: process {one.pid} is left: {' '.join(_line(one))}" for one in _naming(self.base)]
        if self.socket.exists():
            found.append(f"{self.worker}: the socket {self.socket} is left")
        for name in (LOCK_NAME, GENERATOR_LOCK):
            if _is_locked(self.socket.parent / name):
                found.append(f"{self.worker}: the lock {name} is held")
        return found

    def clean_up(self, keep: Path | None = None) -> None:
        """Leave no process and no file system behind."""
        for one in self.everything():
            with contextlib.suppress(psutil.NoSuchProcess):
                one.resume()
        super().clean_up()
        self.disk.close(keep)


def _place(shard: dict[str, Any]) -> tuple[str, int, int]:
    """Return the last record that the generator had got of a shard, of which its status tells."""
    number, sub = shard["delivered"].split(":")
    return shard["shard"], int(number), int(sub)


def _line(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return ["?"]


def _naming(base: Path) -> list[psutil.Process]:
    """Return the processes that have anything to do with a directory: command line, working directory, open files."""
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            words = [*process.cmdline(), process.cwd(), *(one.path for one in process.open_files())]
        except psutil.Error:  # it has ended, or is another user's, who can't be of ours
            continue
        if any(str(base) in word for word in words):
            found.append(process)
    return found


def _is_locked(path: Path) -> bool:
    if not path.exists():
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
