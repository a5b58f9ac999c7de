"""A real generator process on a real store, and processors played by the test over the real socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pyarrow.parquet as pq
from generator_harness import batch_message, columns_of

from kcl_receiver.emulator.server import Emulator
from kcl_receiver.errors import ReceiverError
from kcl_receiver.generator.client import ask_status
from kcl_receiver.generator.stream import boot_millis
from kcl_receiver.ranges import After, Position
from kcl_receiver.wire.columns import Columns
from kcl_receiver.wire.frames import FrameReader, encode, encode_batch
from kcl_receiver.wire.messages import Admitted, Batch, Hello, Message, Stored, Welcome

STREAM = "landing"
APPLICATION = "landing"
PATIENCE = 60.0
SHARD = "shardId-000000000000"

M = TypeVar("M", bound=Message)


class GeneratorProcess:
    """The properties of one application, and its generator when it is started."""

    def __init__(self, base: Path, emulator: Emulator, store: Path | None = None, **settings: str) -> None:
        self.base = base
        self.emulator = emulator
        self.store = store or base / "store"
        self.socket = base / "run" / "generator.sock"
        self.properties = base / "landing.properties"
        self.process: subprocess.Popen[str] | None = None
        lines = {
            "executableName": "kcl-receiver-processor",
            "applicationName": APPLICATION,
            "streamName": STREAM,
            "regionName": "us-east-1",
            "kinesisEndpoint": emulator.url,
            "dynamoDBEndpoint": emulator.url,
            "initialPositionInStream": "TRIM_HORIZON",
            "AWSCredentialsProvider": "EnvironmentVariableCredentialsProvider",
            "receiver.store": self.store.as_uri(),
            "receiver.socket": str(self.socket),
            "receiver.blockIntervalMillis": "100",
            "shutdownGraceMillis": "5000",
            **{key.replace("_", "."): value for key, value in settings.items()},
        }
        self.properties.write_text("".join(f"{key} = {value}\n" for key, value in lines.items()))

    def start(self) -> None:
        """Start the generator, without waiting for it."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kcl_receiver.cli.main", "generator", "--properties", str(self.properties)],
            stdin=subprocess.DEVNULL,
            stderr=(self.base / "generator.log").open("a"),
            text=True,
            env={**os.environ, **self.emulator.environment},
        )

    def up(self) -> GeneratorProcess:
        """Start the generator and wait until it is ready."""
        self.start()
        self.wait("the generator is ready", lambda: self.status().get("prepared"))
        return self

    def status(self) -> dict[str, Any]:
        """Return its live state, {} while it does not answer."""
        try:
            return dict(msgspec.to_builtins(ask_status(self.socket)))
        except ReceiverError:
            return {}

    def wait(self, what: str, condition: Callable[[], Any]) -> None:
        """Wait until `condition` holds."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited in vain: {what}\n{self.log()}")
            time.sleep(0.02)

    def signal(self, number: int) -> None:
        """Send the generator a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for its end; return the exit code."""
        assert self.process is not None
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """End it as a crash does."""
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGKILL)
            self.ended()

    def log(self) -> str:
        """Return what it said."""
        path = self.base / "generator.log"
        return path.read_text() if path.exists() else ""

    def rows(self) -> list[tuple[str, int, int]]:
        """Return shard and position of every row of every block, sorted; read by plain pyarrow."""
        found = []
        for file in (self.store / "blocks").rglob("*.parquet"):
            table = pq.read_table(file)
            names = ("shard_id", "sequence_number", "sub_sequence_number")
            shards, numbers, subs = (table[name].to_pylist() for name in names)
            found += [(shard, int(number), sub) for shard, number, sub in zip(shards, numbers, subs, strict=True)]
        return sorted(found)


class Peer:
    """A processor as the test plays it."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(PATIENCE)
        self._socket.connect(str(path))
        self._reader = FrameReader()

    def send_bytes(self, content: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(content)

    def send(self, message: Message, columns: Columns | None = None) -> None:
        """Send one message."""
        if isinstance(message, Batch):
            assert columns is not None
            parts = encode_batch(message, columns)
        else:
            parts = encode(message)
        self.send_bytes(b"".join(memoryview(part).cast("B") for part in parts))

    def receive(self) -> Message | None:
        """Return the next message, or None when the generator hung up."""
        while True:
            try:
                received = self._socket.recv_into(self._reader.buffer())
            except ConnectionResetError:
                return None
            if received == 0:
                return None
            frame = self._reader.advance(received)
            if frame is not None:
                return frame.message

    def expect(self, kind: type[M]) -> M:
        """Return the next message, which must be of this kind."""
        message = self.receive()
        assert isinstance(message, kind), message
        return message

    def greet(
        self, session: str = "s1", rank: int = 1, after: After = "TRIM_HORIZON", shard: str = SHARD, number: int = 1
    ) -> Welcome:
        """Open a session."""
        self.send(hello(session, rank, after, shard, number))
        welcome = self.expect(Welcome)
        self.expect(Stored)
        return welcome

    def hand_over(self, numbers: Sequence[int], number: int = 1, after: After = "TRIM_HORIZON") -> None:
        """Send a batch of records with these sequence numbers and wait until it is admitted."""
        self.send(*batch(numbers, number, after))
        assert self.expect(Admitted).number == number

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def hello(
    session: str = "s1", rank: int = 1, after: After = "TRIM_HORIZON", shard: str = SHARD, number: int = 1
) -> Hello:
    """Return the first message of a processor."""
    return Hello(APPLICATION, shard, session, rank, os.getpid(), str(after), number)


def batch(
    numbers: Sequence[int], number: int = 1, after: After = "TRIM_HORIZON", data_bytes: int = 10
) -> tuple[Batch, Columns]:
    """Return a batch of plain records with these sequence numbers."""
    columns = columns_of([Position(one) for one in numbers], data_bytes)
    return batch_message(columns, number, after, Position(numbers[-1]), at=boot_millis()), columns


@contextmanager
def mounted(path: Path, options: str) -> Iterator[Path]:
    """Mount a small file system in memory; a root's file modes stop nobody, a full disk does."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)
