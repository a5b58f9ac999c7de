"""One generator per socket: whoever holds the lock beside it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from kcl_receiver.errors import EnvironmentProblem
from kcl_receiver.paths import GENERATOR_LOCK, private_directory


class GeneratorLock:
    """Holds the lock until the process ends, or until `release`.

    Args:
        socket: Path of the socket; the lock lies beside it.
        inherited: Descriptor of the lock, if a processor took it and handed it on.

    Raises:
        EnvironmentProblem: Another generator holds it, or the directory cannot be used.
    """

    def __init__(self, socket: Path, inherited: int | None = None) -> None:
        self._path = socket.parent / GENERATOR_LOCK
        try:
            private_directory(str(socket.parent))
            self._fd = inherited if inherited is not None else os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            os.set_inheritable(self._fd, False)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = self._path.read_text(encoding="ascii", errors="replace").strip() or "unknown"
            os.close(self._fd)
            raise EnvironmentProblem(
                f"another generator (pid {holder}) serves {socket}",
                "one generator serves all shards of a host and application; stop that one first",
            ) from error
        except OSError as error:
            raise EnvironmentProblem(
                f"{self._path} can't be locked: {error.strerror or error}",
                "receiver.socket must lie in a directory that belongs to this user alone",
            ) from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give the lock back."""
        os.close(self._fd)
