"""One application on the emulator: stream, properties, the real daemon, a producer, and the verdict from outside."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec
import psutil

from kcl_receiver import aws
from kcl_receiver.emulator.kcl import QUICK_SETTINGS, prepare_leases
from kcl_receiver.emulator.producer import Producer
from kcl_receiver.emulator.verdict import Verdict, judge
from kcl_receiver.errors import ReceiverError
from kcl_receiver.generator.client import ask_status

STREAM = "landing"
APPLICATION = "landing"
PATIENCE = 120.0
"""Seconds after which a wait fails; no test expects to come near it."""


def is_gone(process: psutil.Process) -> bool:
    """Return whether a process has ended; one whose parent has not asked yet has."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Cloud(Protocol):
    """What is needed of an embedded AWS: one in this process, or one in a process of its own."""

    @property
    def url(self) -> str:
        """The endpoint for every service."""

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables with which clients reach it."""

    def client(self, service: str) -> Any:  # noqa: ANN401 - boto3
        """Return a boto3 client."""


class Landing:
    """Everything of one test, below one directory.

    Args:
        base: The directory.
        emulator: The embedded AWS.
        shards: Shards of the stream, which is made; None where another one has made stream and leases.
        settings: Further lines of the properties file.
        store: The store's directory, `base/store` unless given.
    """

    def __init__(
        self,
        base: Path,
        emulator: Cloud,
        *,
        shards: int | None,
        settings: dict[str, str] | None = None,
        store: Path | None = None,
    ) -> None:
        self.base = base
        self.emulator = emulator
        self.kinesis = emulator.client("kinesis")
        self.dynamodb = emulator.client("dynamodb")
        if shards is not None:
            self.kinesis.create_stream(StreamName=STREAM, ShardCount=shards)
        self.store = store or base / "store"
        self.socket = base / "run" / "generator.sock"
        self.logs = base / "logs"
        self.properties = base / "landing.properties"
        self.write_properties(settings or {})
        if shards is not None:
            prepare_leases(self.dynamodb, self.kinesis, APPLICATION, STREAM)
        self.producer = Producer(self.kinesis, STREAM, seed=7)
        self.processes: list[subprocess.Popen[bytes]] = []

    def write_properties(self, settings: dict[str, str]) -> None:
        """Write the properties file anew."""
        lines = {
            "executableName": f"{Path(sys.executable).parent}/kcl-receiver-processor --properties {self.properties}",
            "applicationName": APPLICATION,
            "streamName": STREAM,
            "regionName": "us-east-1",
            "AWSCredentialsProvider": "EnvironmentVariableCredentialsProvider",
            "kinesisEndpoint": self.emulator.url,
            "dynamoDBEndpoint": self.emulator.url,
            "initialPositionInStream": "TRIM_HORIZON",
            "retrievalMode": "POLLING",
            "callProcessRecordsEvenForEmptyRecordList": "true",
            "shutdownGraceMillis": "20000",
            "receiver.store": self.store.as_uri(),
            "receiver.socket": str(self.socket),
            "receiver.logDirectory": str(self.logs),
            "receiver.checkpointIntervalMillis": "1000",
            "receiver.blockIntervalMillis": "500",
            **QUICK_SETTINGS,
            **settings,
        }
        text = "".join(f"{key} = {value}\n" for key, value in lines.items())
        self.properties.write_text(text, encoding="latin-1")

    # ------------------------------------------------------------------ processes

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment of a user of this emulator."""
        return {**os.environ, **self.emulator.environment, **more}

    def start(self, command: list[str], log: str, **more: str) -> subprocess.Popen[bytes]:
        """Start a command with its output in a file."""
        with (self.base / log).open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment(**more),
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def run(self) -> subprocess.Popen[bytes]:
        """Start `kcl-receiver run`."""
        command = [sys.executable, "-m", "kcl_receiver.cli.main", "run", "--properties", str(self.properties)]
        return self.start(command, "run.log")

    def cli(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command of kcl-receiver to its end."""
        return subprocess.run(
            [sys.executable, "-m", "kcl_receiver.cli.main", *arguments],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            env=self.environment(**more),
        )

    def plain_java(self, **more: str) -> subprocess.Popen[bytes]:
        """Start the printed command, with nothing else running."""
        printed = self.cli("command", "--properties", str(self.properties))
        assert printed.returncode == 0, printed.stderr
        return self.start(shlex.split(printed.stdout), "java.log", **more)

    def stop(self, process: subprocess.Popen[bytes], signal_number: int = signal.SIGTERM) -> int:
        """Stop a process as a user would; return its exit code."""
        process.send_signal(signal_number)
        return process.wait(PATIENCE)

    def processors(self) -> list[psutil.Process]:
        """Return the processors that run now."""
        return self.named("kcl-receiver-processor")

    def generators(self) -> list[psutil.Process]:
        """Return the generators that run now."""
        return self.named("kcl_receiver.cli.main", "generator")

    def daemons(self) -> list[psutil.Process]:
        """Return the java daemons that run now."""
        return self.named("MultiLangDaemon")

    def named(self, part: str, word: str | None = None) -> list[psutil.Process]:
        """Return the processes of this test whose command line holds `part`, and `word` as a word."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                line = process.cmdline()
                mine = any(str(self.base) in one for one in line) and (word is None or word in line)
                if mine and any(part in one for one in line) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def clean_up(self) -> None:
        """Leave no process behind."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
        for _ in range(50):
            left = [*self.processors(), *self.generators(), *self.daemons(), *self.named("kcl_receiver.cli.main")]
            if not left:
                break
            for one in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            psutil.wait_procs(left, timeout=5)
        for process in self.processes:
            process.wait(PATIENCE)

    # ------------------------------------------------------------------ waiting and looking

    def wait(self, what: str, condition: Callable[[], Any], patience: float = PATIENCE) -> Any:  # noqa: ANN401
        """Return the first true value of `condition`; fail with the logs if there is none in time."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if value := condition():
                return value
            time.sleep(0.1)
        raise AssertionError(f"waited {patience:.0f} s in vain: {what}\n{self.log_tails()}")

    def log_tails(self) -> str:
        """Return the ends of all logs."""
        files = [*self.base.glob("*.log"), *self.logs.rglob("*.log"), *self.base.glob("run/*.out")]
        return "\n".join(f"--- {file}\n{file.read_text(errors='replace')[-3000:]}" for file in files)

    def log(self) -> str:
        """Return all logs."""
        files = [*self.base.glob("*.log"), *self.logs.rglob("*.log"), *self.base.glob("run/*.out")]
        return "\n".join(file.read_text(errors="replace") for file in files)

    def status(self) -> dict[str, Any]:
        """Return the generator's live state, {} if there is none."""
        try:
            return dict(msgspec.to_builtins(ask_status(self.socket)))
        except ReceiverError:
            return {}

    def records_stored(self) -> int:
        """Return the number of records that the present generator has stored."""
        return int(self.status().get("records_stored", 0))

    def leases(self) -> dict[str, aws.Lease]:
        """Return the lease table."""
        return {lease.shard: lease for lease in aws.read_leases(self.dynamodb, APPLICATION) or []}

    def judge(self) -> Verdict:
        """Return the verdict from outside."""
        return judge(self.producer.acknowledged, self.store, self.dynamodb, APPLICATION)

    def wait_landed(self, what: str = "everything stored and checkpointed") -> None:
        """Wait until everything that was put is in the blocks and every lease is at its shard's end."""
        self.wait(what, lambda: self.judge_quietly())

    def judge_quietly(self) -> bool:
        """Return whether the verdict is that all is there and checkpointed."""
        verdict = self.judge()
        return verdict.sound and verdict.stored >= verdict.put and all(lease.exact for lease in verdict.leases)

    @contextlib.contextmanager
    def load(self, batch: int = 40, pause: float = 0.05) -> Iterator[None]:
        """Put records all the while, in a thread."""
        stop = threading.Event()
        failures: list[Exception] = []

        def put() -> None:
            try:
                while not stop.wait(pause):
                    self.producer.put(batch)
            except Exception as error:  # noqa: BLE001 - told below, in the main thread
                failures.append(error)

        thread = threading.Thread(target=put, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        assert not failures, failures[0]

    def put_more(self, count: int) -> None:
        """Wait until so many more records were put by the load."""
        goal = len(self.producer.acknowledged) + count
        self.wait(f"{count} more records put", lambda: len(self.producer.acknowledged) >= goal)

    def verify(self) -> dict[str, Any]:
        """Return what `kcl-receiver verify` says; it must be all proven."""
        result = self.cli("verify", "--store", self.store.as_uri(), "--output", "json")
        assert result.returncode == 0, result.stdout + result.stderr
        return dict(json.loads(result.stdout))
