"""The files into which the children of a supervisor write.

A child writes into its file directly and not through the supervisor, so that a stopped supervisor never blocks it. The
file is cut by copying it away and emptying it, which is safe because children append: what is written between the copy
and the cut is lost, as with logrotate's copytruncate. These are logs, not records.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import IO

from kcl_receiver.errors import EnvironmentProblem

MAX_BYTES = 16 * 1024 * 1024
KEPT = 4
TAIL_BYTES = 4096


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
        if not self.path.exists() or self.path.stat().st_size < self._max_bytes:
            return False
        for number in range(KEPT - 1, 0, -1):
            older = self._older(number)
            if older.exists():
                older.replace(self._older(number + 1))
        shutil.copyfile(self.path, self._older(1))
        os.truncate(self.path, 0)
        return True

    def last_line(self) -> str:
        """Return the last line that says something, for a message; empty if there is none."""
        if not self.path.exists():
            return ""
        with self.path.open("rb") as file:
            file.seek(max(0, self.path.stat().st_size - TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
        # Without hints, and without the frames of a traceback or of a Java stack, which are indented.
        said = [line for line in lines if line.strip() and not line.startswith(("Hint: ", " ", "\t"))]
        return said[-1][:300] if said else ""

    def _older(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")
