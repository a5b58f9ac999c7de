"""A run on the real java MultiLangDaemon: page server, emulator, daemon with its processors, and the generator.

Kinesis is the page server (see `pages`), DynamoDB is the emulator, whose leases are made beforehand and owned by this
worker, so that the daemon begins at once. What each process used between two moments is read from its CPU clock while
it runs on: so loading libraries, the JVM's warming up and the drain at the end are left out.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import boto3

from benchmarks.harness.contestants import PROGRAMS, Receiver
from benchmarks.harness.landed import check_blocks, check_checkpoints, check_files, check_reports
from benchmarks.harness.landing import CREDENTIALS, REGION, landing, write_properties
from benchmarks.harness.machine import ROOT
from benchmarks.harness.pages import Counters
from benchmarks.harness.process import Process, ProcessFailed
from benchmarks.harness.reel import Reel, ReelSpec, serial_of
from benchmarks.harness.workload import shard_id
from kcl_receiver.aws import read_leases
from kcl_receiver.config.paths import SUPERVISED
from kcl_receiver.config.properties import load
from kcl_receiver.daemon.command import EMULATOR_OPTIONS, MAIN_CLASS, daemon_command
from kcl_receiver.daemon.jars import find_jars
from kcl_receiver.daemon.java import find_java
from kcl_receiver.daemon.tuning import tune
from kcl_receiver.emulator.kcl import prepare_leases

WORKER = "benchmark"
FEW_SHARDS = 16
READY_SECONDS = 120.0
"""How long the daemon may take until every shard has its first records."""
ENDED_BY_SIGTERM = 143

DAEMON_SETTINGS = {
    "workerId": WORKER,
    "maxRecords": "10000",
    # The least: 0 is taken as unset, which is 1,500 ms.
    "idleTimeBetweenReadsInMillis": "200",
    "metricsLevel": "NONE",
    # What only makes a start slow; see kcl_receiver/emulator/kcl.py.
    "shardSyncIntervalMillis": "100",
    "parentShardPollIntervalMillis": "200",
    "schedulerInitializationBackoffTimeMillis": "200",
}
MANY_SHARDS = {"failoverTimeMillis": "30000"}
"""Where dozens of processes start at once on two cores, leases are not renewed within the default of 10 s; each that is
lost starts its process anew, which makes it worse (seen with 64 shards). It makes a stop slower."""
ROLES = ("JVM", "processors", "generator", "page server", "emulator")
CHARGED = ("JVM", "processors", "generator")
"""Roles that a contestant is charged with."""

_runs = count(1)
_COUNT = struct.Struct("=q")


@dataclass(frozen=True, slots=True)
class Way:
    """A contestant on the daemon.

    Attributes:
        name: What tables call it.
        processor: `noop` or `parquet` (see `contestants/counted.py`), or `receiver`.
        tuned: Whether java gets the launch of `kcl-receiver run`, or that of kclpy's own helper: no option at all.
    """

    name: str
    processor: str
    tuned: bool


NOOP = Way("kclpy no-op, plain launch", "noop", tuned=False)
NOOP_TUNED = Way("kclpy no-op, tuned launch", "noop", tuned=True)
PARQUET = Way("kclpy Parquet per shard, plain launch", "parquet", tuned=False)
RECEIVER = Way("kcl_receiver", "receiver", tuned=True)


@dataclass(frozen=True, slots=True)
class Sample:
    """What is seen at one moment.

    Attributes:
        time: `time.monotonic`.
        records: Records of all shards that were processed, or for the receiver stored and in its ledger.
        served: Records that the page server has given out.
        cpu: Seconds of CPU of each role so far.
        peak: Most memory of the largest process of each role, in bytes.
    """

    time: float
    records: int
    served: int
    cpu: dict[str, float]
    peak: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Window:
    """The time between two samples of one run."""

    begin: Sample
    end: Sample

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Window:
        """Return what `to_json` gave."""
        return cls(Sample(**raw["begin"]), Sample(**raw["end"]))

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {"begin": self.begin.to_json(), "end": self.end.to_json()}

    @property
    def seconds(self) -> float:
        """Length."""
        return self.end.time - self.begin.time

    @property
    def records(self) -> int:
        """Records of all shards within it."""
        return self.end.records - self.begin.records

    @property
    def rate(self) -> float:
        """Records a second."""
        return self.records / self.seconds

    def cpu(self, *roles: str) -> float:
        """Return the seconds of CPU that some roles used, all that are charged if none is named."""
        return sum(self.end.cpu.get(role, 0.0) - self.begin.cpu.get(role, 0.0) for role in roles or CHARGED)

    def cpu_per_million(self, *roles: str) -> float:
        """Return the same for a million records."""
        return self.cpu(*roles) / self.records * 1e6

    def peak(self, role: str) -> int:
        """Return the most memory of the largest process of a role since its start, in bytes."""
        return self.end.peak.get(role, 0)

    @property
    def under_way(self) -> int:
        """Records served and not processed or stored at its end: in KCL's cache, in pipes, in blocks in the making."""
        return self.end.served - self.end.records


class DaemonRun:
    """One run of one contestant; to be used as a context.

    Args:
        way: The contestant.
        directory: Its own, and empty.
        shards: Number of shards.
        spec: The records.
        rate: Records written to each shard a second, None if there are always more.
    """

    def __init__(self, way: Way, directory: Path, shards: int, spec: ReelSpec, rate: float | None = None) -> None:
        self.way = way
        self.directory = directory
        self.shards = shards
        self._spec = spec
        self._rate = rate
        self._application = f"benchmark-{os.getpid()}-{next(_runs)}"
        self._receiver = Receiver(directory, shards, {"applicationName": self._application})
        self.counters = Counters(directory / "served", shards)
        self._pages: Process | None = None
        self._java: Process | None = None

    def __enter__(self) -> DaemonRun:
        try:
            self._start()
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()

    def _kill(self) -> None:
        for process in (self._java, *self._receiver.others(), self._pages):
            if process is not None:
                process.kill()

    @property
    def java(self) -> Process:
        """The daemon."""
        if self._java is None:
            raise ProcessFailed("the daemon is not started")
        return self._java

    @property
    def pages(self) -> Process:
        """The page server."""
        if self._pages is None:
            raise ProcessFailed("the page server is not started")
        return self._pages

    def _start(self) -> None:
        self._pages, url = start_pages(self.directory, landing().url, self.shards, self._spec, self._rate)
        if self.way.processor == "receiver":
            self._receiver.prepare()
            properties = self._receiver.side.properties
        else:
            properties = write_properties(self.directory, self.shards, self._receiver.settings)
        stream = landing().stream(self.shards)
        prepare_leases(_client("dynamodb"), _client("kinesis"), self._application, stream, owner=WORKER)
        daemon_properties = self._write_daemon_properties(properties, url)
        command = self._command(properties, daemon_properties)
        self._java = Process("JVM", command, self.directory / "java.log", {**CREDENTIALS, SUPERVISED: "1"})
        if self._rate is None:
            self._await("every shard has its first records", lambda: all(self.counts()))
        else:
            self._await("every shard is read", lambda: all(one.at for one in self.counters.all()))

    def _write_daemon_properties(self, properties: Path, url: str) -> Path:
        """Write what java reads: the receiver asks the emulator what the stream is, and the daemon the page server."""
        lines = dict(line.split(" = ", 1) for line in properties.read_text(encoding="utf-8").splitlines())
        lines |= {**DAEMON_SETTINGS, "kinesisEndpoint": url, "executableName": self._executable(properties)}
        if self.shards > FEW_SHARDS:
            lines |= MANY_SHARDS
        path = self.directory / "daemon.properties"
        path.write_text("".join(f"{key} = {value}\n" for key, value in lines.items()), encoding="utf-8")
        return path

    def _executable(self, properties: Path) -> str:
        if self.way.processor == "receiver":
            return f"{Path(sys.executable).parent / 'kcl-receiver-processor'} --properties {properties}"
        return f"{sys.executable} {PROGRAMS / 'counted.py'} {self.way.processor} {self.directory}"

    def _command(self, properties: Path, daemon_properties: Path) -> list[str]:
        config = load(properties)
        java, jars = find_java(), find_jars()
        if self.way.tuned:
            return daemon_command(config, java.path, jars, daemon_properties, tuning=tune(config, java).options)
        # As amazon_kclpy_helper.py prints it, besides what the emulator needs.
        plain = [str(java.path), *EMULATOR_OPTIONS, "-cp", f"{jars}/*", MAIN_CLASS]
        return [*plain, "--properties-file", str(daemon_properties)]

    def _await(self, what: str, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not holds():
            self.check_alive()
            if time.monotonic() > deadline:
                raise ProcessFailed(f"{self.way.name}: waited in vain: {what}: {self.java.said()}")
            time.sleep(0.1)

    def check_alive(self) -> None:
        """Return if daemon and page server still run.

        Raises:
            ProcessFailed: One of them does not.
        """
        for process in (self.java, self.pages):
            if _has_ended(process.pid):
                raise ProcessFailed(f"{self.way.name}: the {process.role} ended: {process.said()}")

    # ------------------------------------------------------------------ looking

    def counts(self) -> list[int]:
        """Return the records of each shard that were processed, or for the receiver stored."""
        shards = [shard_id(number) for number in range(self.shards)]
        if self.way.processor == "receiver":
            said = {one["shard"]: one["stored_through"] for one in self._receiver.status().get("shards", [])}
            return [_count_through(said.get(shard), self._spec.rows) for shard in shards]
        return [_read_count(self.directory / "counts" / shard) for shard in shards]

    def sample(self) -> Sample:
        """Return what is seen now."""
        processes = {"JVM": [self.java.pid], "processors": children(self.java.pid), "page server": [self.pages.pid]}
        processes["emulator"] = [landing().pid]
        processes["generator"] = [process.pid for process in self._receiver.others()]
        return Sample(
            time=time.monotonic(),
            records=sum(self.counts()),
            served=sum(one.through for one in self.counters.all()),
            cpu={role: sum(cpu_of(pid) for pid in pids) for role, pids in processes.items()},
            peak={role: max((peak_of(pid) for pid in pids), default=0) for role, pids in processes.items()},
        )

    def watch(self, seconds: float) -> Window:
        """Return what happens in the next so many seconds.

        Raises:
            ProcessFailed: A process ended, or a processor was started again.
        """
        before = self.processors()
        began = self.sample()
        self.pass_time(seconds)
        window = Window(began, self.sample())
        self.check_processors(before)
        return window

    def processors(self) -> list[int]:
        """Return the ids of the processors that run now."""
        return children(self.java.pid)

    def check_processors(self, before: list[int]) -> None:
        """Return if the processors are still those, one a shard.

        Raises:
            ProcessFailed: One ended or was started again, as when its lease is lost.
        """
        now = self.processors()
        if now != before or len(now) != self.shards:
            raise ProcessFailed(f"{self.way.name}: processors were {before}, and are {now}: {self.java.said()}")

    def pass_time(self, seconds: float) -> None:
        """Let so many seconds pass.

        Raises:
            ProcessFailed: A process ended.
        """
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 1.0))
            self.check_alive()

    # ------------------------------------------------------------------ the end

    def finish(self) -> None:
        """Stop in good order, and check what is there.

        Raises:
            ProcessFailed: A process did not end well.
            CheckFailed: What is there is not what was served.
        """
        self.java.terminate()
        self.java.wait((0, ENDED_BY_SIGTERM))
        if self.way.processor == "receiver":
            self._receiver.finish_others()
            for process in self._receiver.others():
                process.wait()
        self.pages.terminate()
        self.pages.wait()
        reels = [Reel(self._spec, number) for number in range(self.shards)]
        leases = read_leases(_client("dynamodb"), self._application) or []
        check_checkpoints(reels, self._found(reels), {lease.shard: lease.checkpoint for lease in leases})

    def _found(self, reels: list[Reel]) -> dict[str, int]:
        if self.way.processor == "receiver":
            return check_blocks(reels, self._receiver.files())
        if self.way.processor == "parquet":
            folder = self.directory / "files"
            return check_files(reels, {reel.shard: sorted((folder / reel.shard).glob("*.parquet")) for reel in reels})
        paths = {reel.shard: self.directory / "reports" / f"{reel.shard}.json" for reel in reels}
        reports = {shard: json.loads(path.read_text(encoding="utf-8")) for shard, path in paths.items()}
        whole = self._rate is None and self._spec.rows == self._spec.page_records
        return check_reports(reels, reports, whole_pages=whole)


def start_pages(directory: Path, emulator: str, shards: int, spec: ReelSpec, rate: float | None) -> tuple[Process, str]:
    """Start a page server; return it and its address.

    Raises:
        ProcessFailed: It did not start.
    """
    asked = {
        "emulator": emulator,
        "counters": str(directory / "served"),
        "shards": shards,
        "rate": rate,
        "reel": spec.to_json(),
    }
    command = [sys.executable, "-m", "benchmarks.harness.pages", json.dumps(asked)]
    process = Process("page server", command, directory / "pages.log", {"PYTHONPATH": str(ROOT)}, spoken_with=True)
    said = b""
    while not said.endswith(b"\n"):
        piece = os.read(process.stdout, 1024)
        if not piece:
            process.kill()
            raise ProcessFailed(f"the page server did not start: {process.said()}")
        said += piece
    return process, said.decode().strip()


def children(pid: int) -> list[int]:
    """Return the processes that a process started, whichever of its threads did."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has just ended
            found += [int(one) for one in path.read_text(encoding="ascii").split()]
    return sorted(found)


def cpu_of(pid: int) -> float:
    """Return the seconds of CPU that a process has used so far, all threads; 0 if it has ended."""
    try:
        return time.clock_gettime((~pid << 3) | 2)  # see `Process.cpu`
    except OSError:
        return 0.0


def peak_of(pid: int) -> int:
    """Return VmHWM of a process in bytes; 0 if it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _client(service: str) -> Any:  # noqa: ANN401 - boto3
    return boto3.client(
        service,
        region_name=REGION,
        endpoint_url=landing().url,
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
    )


def _read_count(path: Path) -> int:
    try:
        return int(_COUNT.unpack(path.read_bytes())[0])
    except FileNotFoundError:
        return 0


def _count_through(position: str | None, rows: int) -> int:
    """Return the number of records up to a position, as the generator's status writes it."""
    return 0 if position is None else serial_of(position.partition(":")[0], rows) + 1
