"""What survives a restart of the emulator: two journals in a directory.

    emulator.json    account, region and seed, which ARNs, iterators and sequence numbers depend on
    kinesis.log      every event of the Kinesis model, one JSON object a line: all of its state, records included
    dynamodb.log     every request that changed DynamoDB, one JSON object a line, in the order in which moto did them
    lock             held while an emulator runs on the directory

A line is written before a Kinesis event takes effect, and after DynamoDB has done a request but before its answer is
sent; so whatever a client was told is kept if the process is killed. Lines are handed to the operating system and not
forced to the disk: this emulates a service, it does not guard data. S3, CloudWatch, STS and settings of the control
endpoint are not kept.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kcl_receiver.errors import EnvironmentProblem

VERSION = 1


class Journal:
    """An append-only file of JSON objects, one a line.

    Args:
        path: The file; made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self.lines = 0

    def replay(self) -> Iterator[dict[str, Any]]:
        """Yield every object; a last line that was cut off by a crash is removed.

        Raises:
            EnvironmentProblem: A line before the last is damaged.
        """
        good = self.lines = 0
        with self.path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                try:
                    found = json.loads(line)
                except ValueError as error:
                    raise EnvironmentProblem(
                        f"{self.path} is damaged at byte {good}: {error}",
                        "this directory cannot be used any more; start the emulator on a new one",
                    ) from error
                yield found
                good += len(line)
                self.lines += 1
        os.ftruncate(self._fd, good)

    def append(self, event: dict[str, Any]) -> None:
        """Write one object down."""
        line = json.dumps(event, separators=(",", ":")).encode("ascii") + b"\n"
        _write_all(self._fd, line)
        self.lines += 1

    def rewrite(self, events: Iterable[dict[str, Any]]) -> None:
        """Replace all that is in the file, in one step."""
        fresh = self.path.with_suffix(".new")
        lines = 0
        with fresh.open("wb") as file:
            for event in events:
                file.write(json.dumps(event, separators=(",", ":")).encode("ascii") + b"\n")
                lines += 1
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
        os.close(self._fd)
        self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        self.lines = lines

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


class Directory:
    """The directory of one emulator, locked while it is open.

    Args:
        path: The directory; made if it is not there.
        account: Account to write down if the directory is new.
        region: The same for the region.

    Raises:
        EnvironmentProblem: Another emulator runs on it, or it is of another version.
    """

    def __init__(self, path: Path, account: str, region: str) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise EnvironmentProblem(
                f"the emulator's directory {path} cannot be used: {error}", "name another one with --dir"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise EnvironmentProblem(
                f"another emulator runs on the directory {path}", "stop it, or name another directory with --dir"
            ) from error
        about = path / "emulator.json"
        if not about.exists():
            fresh = about.with_suffix(".new")
            fresh.write_text(json.dumps({"version": VERSION, "account": account, "region": region}), encoding="utf-8")
            fresh.replace(about)
        said = json.loads(about.read_text(encoding="utf-8"))
        if said["version"] != VERSION:
            os.close(self._lock)
            raise EnvironmentProblem(
                f"{about} is of version {said['version']}; this emulator writes version {VERSION}",
                "start it on a new directory",
            )
        self.account: str = said["account"]
        self.region: str = said["region"]
        self.kinesis = Journal(path / "kinesis.log")
        self.dynamodb = Journal(path / "dynamodb.log")

    def close(self) -> None:
        """Close the journals and let go of the lock."""
        self.kinesis.close()
        self.dynamodb.close()
        os.close(self._lock)


def drop_deleted_streams(journal: Journal) -> int:
    """Take the events of streams that no longer exist out of the journal of Kinesis; return how many.

    Done before a replay, and only if it makes the journal at least a tenth shorter. Records that were trimmed stay
    in it: a directory is for trials, not for years.
    """
    begins: dict[str, int] = {}
    lines_of: dict[str, int] = {}
    dropped = 0
    for line, event in enumerate(journal.replay()):
        name = event.get("stream")
        if name is None:
            continue
        if event["event"] == "create":
            begins[name] = line
            lines_of[name] = 0
        lines_of[name] += 1
        if event["event"] == "delete" and event["until"] <= event["at"]:
            dropped += lines_of[name]
            del begins[name]
    if dropped == 0 or dropped * 10 < journal.lines:
        return 0

    def kept() -> Iterator[dict[str, Any]]:
        for line, event in enumerate(journal.replay()):
            name = event.get("stream")
            if name is None or (name in begins and line >= begins[name]):
                yield event

    journal.rewrite(kept())
    return dropped


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
