"""The files into which the children of a supervisor write.

A child writes into its file directly and not through the supervisor, so that a stopped supervisor never blocks it. The
file is cut by copying it away and emptying it, which is safe because children append: what is written between the copy
and the cut is lost, as with logrotate's copytruncate. These are logs, not records.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from kcl_receiver.errors import EnvironmentProblem

MAX_BYTES = 16 * 1024 * 1024
KEPT = 4
TAIL_BYTES = 4096
ERROR_TAIL_BYTES = 1024 * 1024
"""A Java stack has some 4 KiB, and the first processor's word may stand before many of them."""
SHOWN = 300
"""Characters of a log's line that a message quotes."""

_ENTRY = re.compile(r"\d{4}-\d\d-\d\dT[\d:.,]+\S* +([A-Z]+) +(\S+) \[[^\]]*\] ?(.*)")
"""A line as `logback.xml` writes it: level, logger, message."""

_PROCESSOR = re.compile(r"\[kcl-receiver-processor: (.*)\] for shard (\S+)")
_SHARD = re.compile(r"Failed to get status message for \w+ action for shard (\S+)")
_NOISE = ("Encountered an error during shutdown",)
"""Said at every stop that takes the whole grace time; never the reason."""


class LogFile:
    """One child's log.

    Args:
        path: The file; older ones are beside it with .1 (the newest) to .4 at the end of their names.
        max_bytes: Size at which it is put away.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self._max_bytes = max_bytes

    def open(self) -> IO[bytes]:
        """Return the file, open for appending, to be handed to a child.

        Raises:
            EnvironmentProblem: It cannot be opened.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return self.path.open("ab", buffering=0)
        except OSError as error:
            raise EnvironmentProblem(
                f"{self.path} cannot be written: {error.strerror}", "receiver.logDirectory = DIRECTORY of this user"
            ) from error

    def rotate(self) -> bool:
        """Put the content away if there is too much of it; return whether there was.

        Raises:
            OSError: The disk is full, for instance; the log then stays as it is.
        """
        if self.size() < self._max_bytes:
            return False
        copy = self.path.with_name(f"{self.path.name}.new")
        try:
            # First the copy, which needs room: on a full disk the older ones must not be pushed away for nothing.
            shutil.copyfile(self.path, copy)
        except OSError:
            with contextlib.suppress(OSError):  # the first error is the one that is told
                copy.unlink(missing_ok=True)
            raise
        for number in range(KEPT - 1, 0, -1):
            older = self._older(number)
            if older.exists():
                older.replace(self._older(number + 1))
        copy.replace(self._older(1))
        os.truncate(self.path, 0)
        return True

    def size(self) -> int:
        """Return its size in bytes, 0 if it is not there."""
        about = self._about()
        return 0 if about is None else about.st_size

    def written(self) -> float | None:
        """Return when it was last written to, in seconds since the epoch; None if it is not there."""
        about = self._about()
        return None if about is None else about.st_mtime

    def _about(self) -> os.stat_result | None:
        try:
            return self.path.stat()
        except OSError:
            return None  # not there, or not for us: it says nothing either way

    def last_line(self) -> str:
        """Return the last line that says something, for a message; empty if there is none."""
        # Without hints, and without the frames of a traceback or of a Java stack, which are indented.
        lines = self._tail(TAIL_BYTES, 0)
        said = [line for line in lines if line.strip() and not line.startswith(("Hint: ", " ", "\t"))]
        return said[-1][:SHOWN] if said else ""

    def last_error(self, since: int = 0) -> str:
        """Return what a daemon's log says of why it does not work, on one line; empty if it says nothing of it.

        Args:
            since: Where the present daemon's lines begin: what an earlier one said is no reason.
        """
        return java_error(self._tail(ERROR_TAIL_BYTES, since))[:SHOWN]

    def _tail(self, most: int, since: int) -> list[str]:
        try:
            with self.path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                # A log that was put away meanwhile is shorter than it was.
                file.seek(max(0, size - most, since if since <= size else 0))
                return file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return []  # a log that can't be read makes a message shorter, and must not end a supervisor

    def _older(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


def java_error(lines: Sequence[str]) -> str:
    """Return the error among a daemon's lines that tells most of why it does not work.

    First what ended the JVM itself, then what a processor said before it left, then the first processor that was lost,
    with its shard, and else the newest error. Of a stack of exceptions it is the innermost one that says something.
    """
    found: list[tuple[int, str]] = []
    for level, logger, message, rest in _entries(lines):
        if level is None:
            found += [(-1, line) for line in rest]
        elif level == "ERROR" and not message.startswith(_NOISE):
            processor = _PROCESSOR.search(message)
            shard = _SHARD.search(message)
            cause = _cause(rest)
            if processor is not None:
                found.append((3, f"{processor[1]} (the processor of {processor[2]})"))
            elif shard is not None:
                found.append((2, f"the processor of {shard[1]} was lost: {cause or message}"))
            else:
                said = message.strip().rstrip(".:")
                if cause and said == "Caught exception":
                    said = ""
                found.append((0, f"{logger}: " + ": ".join(filter(None, (said, cause)))))
        found += [(4, line) for line in rest if line.startswith("Terminating due to ")]
    if not found:
        return ""
    most = max(rank for rank, _ in found)
    those = [text for rank, text in found if rank == most]
    # Of the processors that were lost, the first one is the reason; others follow it.
    return those[0] if most in (2, 3) else those[-1]


def _entries(lines: Sequence[str]) -> Iterator[tuple[str | None, str, str, list[str]]]:
    """Yield level, logger, message and following lines; without a level what stands before any entry, or alone."""
    level: str | None = None
    logger = message = ""
    rest: list[str] = []
    for line in lines:
        entry = _ENTRY.fullmatch(line)
        if entry is None:
            if line.strip() and not line.startswith((" ", "\t")):
                rest.append(line)
            continue
        yield level, logger, message, rest
        level, logger, message = entry.groups()
        rest = []
    yield level, logger, message, rest


def _cause(rest: Sequence[str]) -> str:
    """Return the innermost exception that has a message, without the packages of its class."""
    found = [line.removeprefix("Caused by: ") for line in rest]
    said = [line for line in found if not line.endswith((": null", "Exception", "Error"))] or found
    if not said:
        return ""
    # Without the packages of the class, and without what AWS's SDK adds to every message.
    return re.sub(r"^(?:[a-z_]\w*\.)+(?=[A-Z])| \(Service: .*| \(SDK Attempt .*", "", said[-1])
