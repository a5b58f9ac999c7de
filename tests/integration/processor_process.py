"""A real kcl-receiver-processor process; the test plays the daemon on its pipes and the generator on its socket."""

from __future__ import annotations

import base64
import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, TypeVar

from kcl_receiver.config.paths import SUPERVISED
from kcl_receiver.wire.columns import Columns
from kcl_receiver.wire.frames import Frame, FrameReader, decode_batch, encode
from kcl_receiver.wire.messages import Admitted, Batch, Hello, Message, Stored, Welcome

COMMAND = str(Path(sys.executable).parent / "kcl-receiver-processor")
PATIENCE = 60.0
"""Seconds after which a test fails instead of hanging; nothing is timed."""
SHARD = "shardId-000000000000"
FIRST = 49590338271490256608559692538361571095921575989136588898

M = TypeVar("M", bound=Message)


def record(number: int, data: bytes = b"data", key: str = "key", sub: int = 0) -> dict[str, Any]:
    return {
        "data": base64.b64encode(data).decode(),
        "partitionKey": key,
        "sequenceNumber": str(FIRST + number),
        "approximateArrivalTimestamp": 1_700_000_000_000 + number,
        "subSequenceNumber": sub,
        "action": "record",
    }


def initialize(sequence: str = "TRIM_HORIZON") -> dict[str, Any]:
    return {"action": "initialize", "shardId": SHARD, "sequenceNumber": sequence, "subSequenceNumber": 0}


def records(*given: dict[str, Any]) -> dict[str, Any]:
    return {"action": "processRecords", "records": list(given), "millisBehindLatest": 0}


def status(action: str) -> dict[str, Any]:
    return {"action": "status", "responseFor": action}


def with_path(directory: Path) -> str:
    """Return a PYTHONPATH that begins with a directory."""
    return os.pathsep.join([str(directory), *filter(None, [os.environ.get("PYTHONPATH")])])


def checkpoint(number: int | None, error: str | None = None, *, answer: bool = False) -> dict[str, Any]:
    """Return what a processor asks for, or the daemon's answer to it."""
    asked = {
        "action": "checkpoint",
        "sequenceNumber": None if number is None else str(FIRST + number),
        "subSequenceNumber": None if number is None else 0,
    }
    return {**asked, "error": error} if answer else asked


class ProcessorProcess:
    """The process, with the daemon's end of its pipes."""

    def __init__(
        self, properties: Path, *, command: list[str] | None = None, supervised: bool = True, **environment: str
    ) -> None:
        variables = {**os.environ, **environment}
        variables.pop(SUPERVISED, None)
        if supervised:
            variables[SUPERVISED] = "1"
        self.process = subprocess.Popen(
            [*(command or [COMMAND]), "--properties", str(properties)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=variables,
            # A test run in the background ignores SIGINT, and its children would for no merit of theirs.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._in, self._out, self._err = self.process.stdin, self.process.stdout, self.process.stderr
        self._read = bytearray()

    def write(self, content: bytes) -> None:
        self._in.write(content)
        self._in.flush()

    def say(self, message: dict[str, Any]) -> None:
        """Write one line as the daemon does."""
        self.write(json.dumps(message, ensure_ascii=False).encode("utf-8") + b"\n")

    def hear(self) -> Any:  # noqa: ANN401 - whatever the line holds
        """Return the next line of the process as the daemon reads it: any other than JSON is an error."""
        return json.loads(self.line())

    def line(self) -> bytes:
        while b"\n" not in self._read:
            ready, _, _ = select.select([self._out], [], [], PATIENCE)
            assert ready, "no line came"
            piece = os.read(self._out.fileno(), 65536)
            assert piece, f"the process hung up: {self.stderr()}"
            self._read += piece
        line, _, rest = self._read.partition(b"\n")
        self._read = bytearray(rest)
        return bytes(line)

    def is_silent(self) -> bool:
        """Return whether nothing has been written that was not heard."""
        return not self._read and not select.select([self._out], [], [], 0)[0]

    def is_asleep(self) -> bool:
        """Return whether the process waits for something; while it sends it never does."""
        about = Path(f"/proc/{self.process.pid}/stat").read_text()
        return about.rpartition(")")[2].split()[0] == "S"

    def hang_up(self) -> None:
        self._in.close()

    def leave(self) -> tuple[int, bytes, str]:
        """Return the exit code, what was written and not heard, and all of stderr; the process must leave itself."""
        code = self.process.wait(PATIENCE)
        rest = bytes(self._read) + self._out.read()
        return code, rest, self.stderr()

    def stderr(self) -> str:
        return self._err.read().decode("utf-8", "replace")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        for pipe in (self._in, self._out, self._err):
            try:
                pipe.close()
            except BrokenPipeError:
                # A line that the process never read.
                continue


class Connection:
    """The generator's end of one connection."""

    def __init__(self, accepted: socket.socket) -> None:
        accepted.settimeout(PATIENCE)
        self.socket = accepted
        self._reader = FrameReader()

    def frame(self) -> Frame | None:
        """Return the next frame, None if the processor hung up."""
        while True:
            received = self.socket.recv_into(self._reader.buffer())
            if not received:
                return None
            frame = self._reader.advance(received)
            if frame is not None:
                return frame

    def receive(self, kind: type[M]) -> M:
        """Return the next message of a kind; `Progress` and the like are passed over."""
        while (frame := self.frame()) is not None:
            if isinstance(frame.message, kind):
                return frame.message
        raise AssertionError(f"the processor hung up before {kind.__name__}")

    def batch(self) -> Columns:
        """Return the columns of the next batch."""
        while (frame := self.frame()) is not None:
            if isinstance(frame.message, Batch):
                return decode_batch(frame).columns
        raise AssertionError("the processor hung up before a batch")

    def send(self, *messages: Message) -> None:
        self.socket.sendall(b"".join(bytes(part) for message in messages for part in encode(message)))

    def welcome(self, next_number: int = 1, *, drain_millis: int = 10_000) -> None:
        self.send(
            Welcome("writer", next_number, 8 * 1024 * 1024, 32 * 1024 * 1024, 0, 60_000, 60_000, drain_millis, 0),
            Stored(next_number - 1),
        )

    def admit(self, number: int) -> None:
        self.send(Admitted(number))

    def close(self) -> None:
        self.socket.close()


class Listener:
    """A generator's socket."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.unlink(missing_ok=True)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen(16)
        self.socket.settimeout(PATIENCE)
        self._accepted: list[Connection] = []

    def accept(self) -> Connection:
        connection = Connection(self.socket.accept()[0])
        self._accepted.append(connection)
        return connection

    def open(self) -> Connection:
        """Return a connection whose session is welcome."""
        connection = self.accept()
        connection.welcome(connection.receive(Hello).next_number)
        return connection

    def close(self) -> None:
        for connection in self._accepted:
            connection.close()
        self.socket.close()


class Landing:
    """One application: a properties file, the socket that it names, and the processes of a test."""

    def __init__(self, base: Path) -> None:
        self.socket = base / "run" / "generator.sock"
        self.properties = base / "landing.properties"
        self.write()
        self._made: list[ProcessorProcess | Listener] = []

    def write(self, **settings: str) -> None:
        lines = {"applicationName": "landing", "receiver.socket": str(self.socket), **settings}
        self.properties.write_text("".join(f"{key} = {value}\n" for key, value in lines.items()))

    def processor(self, **options: Any) -> ProcessorProcess:  # noqa: ANN401 - those of ProcessorProcess
        made = ProcessorProcess(self.properties, **options)
        self._made.append(made)
        return made

    def listen(self) -> Listener:
        made = Listener(self.socket)
        self._made.append(made)
        return made

    def close(self) -> None:
        for one in self._made:
            one.close()
