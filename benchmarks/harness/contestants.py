"""The contestants: how each is started, how it ends, and where its records lie afterwards.

All are told the same lines by the same player. What a contestant does besides is its own affair; a generator that
stores for all shards belongs to it, and its CPU counts.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.harness.landing import CREDENTIALS, write_properties
from benchmarks.harness.machine import ROOT
from benchmarks.harness.player import Peer
from benchmarks.harness.process import Process, ProcessFailed
from benchmarks.harness.workload import shard_id
from kcl_receiver.config.paths import SUPERVISED
from kcl_receiver.errors import ReceiverError
from kcl_receiver.generator.client import ask_status

PROGRAMS = ROOT / "benchmarks" / "contestants"
READY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Written:
    """What a contestant left on disk: its data files, and the bytes in them."""

    objects: int
    size: int


class Contestant:
    """One contestant of one run.

    Args:
        directory: Its own, and empty.
        shards: Number of processors.
        settings: Properties of the receiver that differ from the defaults; nothing to the others.

    Attributes:
        name: What tables call it.
        peers: Its processors, after `start`.
    """

    name = ""

    def __init__(self, directory: Path, shards: int, settings: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.shards = shards
        self.settings = dict(settings or {})
        self.peers: list[Peer] = []

    def prepare(self) -> None:
        """Start what must be there before the processors."""

    def command(self, number: int) -> list[str]:
        """Return the command of one processor."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Return variables of the processors."""
        return {}

    def start(self) -> list[Peer]:
        """Start all processors; they have not been spoken to."""
        self.prepare()
        for number in range(self.shards):
            self.start_processor(number)
        return self.peers

    def start_processor(self, number: int) -> Peer:
        """Start one processor."""
        log = self.directory / f"processor-{number}.log"
        process = Process("processor", self.command(number), log, self.environment(), spoken_with=True)
        peer = Peer(shard_id(number), process)
        self.peers.append(peer)
        return peer

    def others(self) -> list[Process]:
        """Return the processes besides the processors."""
        return []

    def await_open(self) -> None:
        """Return when every processor, initialized, is ready to take records without a wait that comes only once."""

    def processes(self) -> list[Process]:
        """Return all processes."""
        return [*(peer.process for peer in self.peers), *self.others()]

    def finish_others(self) -> None:
        """Ask what is besides the processors, which have ended, to end."""

    def written(self) -> Written:
        """Return what it left."""
        files = self.files()
        return Written(len(files), sum(path.stat().st_size for path in files))

    def files(self) -> list[Path]:
        """Return its Parquet files."""
        return []

    def kill(self) -> None:
        """End everything, whatever happened."""
        for process in self.processes():
            process.kill()


class KclpyNoop(Contestant):
    """kclpy looking at each record and dropping it."""

    name = "kclpy no-op"

    def command(self, number: int) -> list[str]:
        """See `Contestant`."""
        return [sys.executable, str(PROGRAMS / "kclpy_noop.py"), str(self._report(number))]

    def _report(self, number: int) -> Path:
        return self.directory / f"report-{number}.json"

    def reports(self) -> list[dict[str, Any]]:
        """Return what each processor said that it saw."""
        return [json.loads(self._report(number).read_text(encoding="utf-8")) for number in range(self.shards)]


class KclpyParquet(Contestant):
    """kclpy writing a Parquet file a shard and second, fsynced."""

    name = "kclpy Parquet per shard"

    def command(self, number: int) -> list[str]:
        """See `Contestant`."""
        del number  # they are alike, and each is told its shard
        return [sys.executable, str(PROGRAMS / "kclpy_parquet.py"), str(self.directory / "files")]

    def files(self) -> list[Path]:
        """See `Contestant`."""
        return sorted((self.directory / "files").rglob("*.parquet"))


@dataclass
class _GeneratorSide:
    properties: Path
    socket: Path
    process: Process = field(repr=False)


class Receiver(Contestant):
    """kcl_receiver: its generator and a processor a shard, with the settings of the README's properties file."""

    name = "kcl_receiver"

    _side: _GeneratorSide | None = None

    @property
    def side(self) -> _GeneratorSide:
        """The generator."""
        if self._side is None:
            raise ProcessFailed("the generator is not started")
        return self._side

    def prepare(self) -> None:
        """Start the generator and wait until it knows the stream and its store."""
        properties = write_properties(self.directory, self.shards, self.settings)
        socket = self.directory / "run" / "generator.sock"
        command = [sys.executable, "-m", "kcl_receiver.cli.main", "generator", "--properties", str(properties)]
        process = Process("generator", command, self.directory / "generator.log", CREDENTIALS)
        self._side = _GeneratorSide(properties, socket, process)
        self._await("the generator is ready", lambda: bool(self.status().get("prepared")))

    def command(self, number: int) -> list[str]:
        """See `Contestant`."""
        del number
        return [str(Path(sys.executable).parent / "kcl-receiver-processor"), "--properties", str(self.side.properties)]

    def environment(self) -> dict[str, str]:
        """See `Contestant`; the generator is looked after, so that no processor starts another."""
        return {SUPERVISED: "1"}

    def others(self) -> list[Process]:
        """See `Contestant`."""
        return [] if self._side is None else [self._side.process]

    def await_open(self) -> None:
        """Return when the generator has opened every session."""

        def opened() -> bool:
            states = [one["state"] for one in self.status().get("shards", [])]
            return states.count("open") == len(self.peers)

        self._await("every session is open", opened)

    def status(self) -> dict[str, Any]:
        """Return the generator's live state, {} while it does not answer."""
        try:
            return dict(msgspec.to_builtins(ask_status(self.side.socket)))
        except ReceiverError:
            return {}

    def finish_others(self) -> None:
        """Ask the generator to drain and leave."""
        self.side.process.note_peak()
        self.side.process.terminate()

    def files(self) -> list[Path]:
        """See `Contestant`."""
        return sorted((self.directory / "store" / "blocks").rglob("*.parquet"))

    def _await(self, what: str, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not holds():
            if time.monotonic() > deadline:
                raise ProcessFailed(f"waited in vain: {what}: {self.side.process.said()}")
            time.sleep(0.02)


class Drop(Contestant):
    """A reader that drops the bytes: the player's ceiling, and no contestant."""

    name = "reader that drops bytes"

    def command(self, number: int) -> list[str]:
        """See `Contestant`."""
        del number
        return [sys.executable, str(PROGRAMS / "drop.py")]


CONTESTANTS: tuple[type[Contestant], ...] = (KclpyNoop, KclpyParquet, Receiver)
"""In the order of the tables; runs begin with another one at every repeat."""
