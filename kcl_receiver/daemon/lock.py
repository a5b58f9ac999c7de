"""One daemon per host and application: the lock that a supervisor holds and java inherits.

The kernel keeps a flock as long as any process has the open file. Java inherits it, so that as long as a java lives
that has lost its supervisor, no second one starts under the same workerId; its processors do not get it (Java closes
what it does not know in its children).

There are two locks: the file, and the directory that it lies in. That of the directory keeps systemd-tmpfiles out, and
keeps a second supervisor out where only the file was removed. `look_after` takes again what was removed.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from kcl_receiver.config.paths import private_directory
from kcl_receiver.errors import EnvironmentProblem
from kcl_receiver.locks import HeldPath

LOCK_NAME = "run.lock"


class RunLock:
    """Held from the making of the object until `release`, and by whoever inherits `fds`.

    Args:
        directory: The socket's directory, which is made if it is not there.
        properties: The file that is run; told to whoever finds the lock taken.

    Raises:
        EnvironmentProblem: Another supervisor, or a java that it left, holds it; or the directory cannot be used.
    """

    def __init__(self, directory: Path, properties: Path) -> None:
        self.path = directory / LOCK_NAME
        self._said: dict[str, int | str] = {"supervisor": os.getpid(), "properties": str(properties)}
        try:
            self._directory, self._file = self._take()
        except OSError as error:
            raise self._refused(error) from error
        self._say()

    @property
    def fds(self) -> tuple[int, int]:
        """The descriptors that java inherits."""
        return self._directory.fd, self._file.fd

    def look_after(self) -> str | None:
        """Take the lock again if its file or its directory was removed, or replaced.

        Returns:
            Who has it now, if another one has: ours keeps nobody out any more.

        Raises:
            EnvironmentProblem: It cannot be made now.
        """
        try:
            if self._directory.lost():
                before = (self._directory, self._file)
                self._directory, self._file = self._take()
                for one in before:
                    one.release()
            elif self._file.lost():
                self._file.take_again()
            else:
                return None
        except BlockingIOError:
            return self._holder()[0]
        except OSError as error:
            raise self._refused(error) from error
        self._say()
        return None

    def note_daemon(self, pid: int | None) -> None:
        """Write down which java inherited the lock."""
        self._said = {key: value for key, value in self._said.items() if key != "daemon"}
        if pid is not None:
            self._said["daemon"] = pid
        self._say()

    def release(self) -> None:
        """Give our hold back."""
        self._file.release()
        self._directory.release()

    def _take(self) -> tuple[HeldPath, HeldPath]:
        private_directory(str(self.path.parent))
        # The directory first: who is kept out by it must not touch the file, which its holder may have to make anew.
        directory = self._take_directory()
        try:
            return directory, HeldPath(self.path)
        except OSError:
            directory.release()
            raise

    def _take_directory(self) -> HeldPath:
        try:
            return HeldPath(self.path.parent, directory=True)
        except OSError:
            # Perhaps only the generator of a plain java launch has it, which shares it and keeps nobody out; or it is a
            # file system where a directory has no lock of one's own.
            return HeldPath(self.path.parent, directory=True, shared=True)

    def _refused(self, error: OSError) -> EnvironmentProblem:
        if isinstance(error, BlockingIOError):
            return EnvironmentProblem(*self._holder())
        return EnvironmentProblem(
            f"{self.path} cannot be opened: {error.strerror or error}",
            "receiver.socket = PATH in a directory that belongs to this user alone",
        )

    def _say(self) -> None:
        # A courtesy to whoever finds the lock taken: a full disk must not end a supervisor for it.
        with contextlib.suppress(OSError):
            os.ftruncate(self._file.fd, 0)
            os.pwrite(self._file.fd, json.dumps(self._said).encode() + b"\n", 0)

    def _holder(self) -> tuple[str, str]:
        try:
            said = json.loads(self.path.read_bytes()[:65536])
            supervisor, daemon = int(said["supervisor"]), said.get("daemon")
            properties = said["properties"]
        except (OSError, ValueError, KeyError, TypeError):
            return f"another process holds {self.path}", f"fuser {self.path} {self.path.parent} says which"
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
