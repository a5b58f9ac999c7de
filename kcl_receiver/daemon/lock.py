"""One daemon per host and application: the lock that a supervisor holds and java inherits.

The kernel keeps a flock as long as any process has the open file. Java inherits it, so that as long as a java lives
that has lost its supervisor, no second one starts under the same workerId; its processors do not get it (Java closes
what it does not know in its children).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from pathlib import Path

from kcl_receiver.errors import EnvironmentProblem
from kcl_receiver.paths import private_directory

LOCK_NAME = "run.lock"


class RunLock:
    """Held from the making of the object until `release`, and by whoever inherits `fd`.

    Args:
        directory: The socket's directory, which is made if it is not there.
        properties: The file that is run; told to whoever finds the lock taken.

    Raises:
        EnvironmentProblem: Another supervisor, or a java that it left, holds it; or the directory cannot be used.
    """

    def __init__(self, directory: Path, properties: Path) -> None:
        self.path = directory / LOCK_NAME
        try:
            private_directory(str(directory))
            self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise EnvironmentProblem(
                f"{self.path} cannot be opened: {error.strerror or error}",
                "receiver.socket = PATH in a directory that belongs to this user alone",
            ) from error
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message, hint = self._holder()
            os.close(self.fd)
            raise EnvironmentProblem(message, hint) from error
        self._said = {"supervisor": os.getpid(), "properties": str(properties)}
        self._say()

    def note_daemon(self, pid: int | None) -> None:
        """Write down which java inherited the lock."""
        self._said = {key: value for key, value in self._said.items() if key != "daemon"}
        if pid is not None:
            self._said["daemon"] = pid
        self._say()

    def release(self) -> None:
        """Give our hold back."""
        os.close(self.fd)

    def _say(self) -> None:
        # A courtesy to whoever finds the lock taken: a full disk must not end a supervisor for it.
        with contextlib.suppress(OSError):
            os.ftruncate(self.fd, 0)
            os.pwrite(self.fd, json.dumps(self._said).encode() + b"\n", 0)

    def _holder(self) -> tuple[str, str]:
        try:
            said = json.loads(os.pread(self.fd, 65536, 0))
            supervisor, daemon = int(said["supervisor"]), said.get("daemon")
            properties = said["properties"]
        except (ValueError, KeyError, TypeError):
            return f"another process holds {self.path}", f"fuser {self.path} says which"
        if _alive(supervisor):
            return (
                f"kcl-receiver run (pid {supervisor}) already runs this application, with {properties}",
                f"stop it first: kill {supervisor}; or give this one another applicationName and receiver.store",
            )
        return (
            f"a java daemon (pid {daemon}) of an earlier kcl-receiver run still lives, with {properties}",
            f"two daemons with one workerId take each other's leases for ever; wait for its end, or: kill {daemon}",
        )


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
