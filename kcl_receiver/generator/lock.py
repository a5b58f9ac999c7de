"""One generator per socket: whoever holds the lock beside it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from kcl_receiver.config.paths import GENERATOR_LOCK, GENERATOR_WRITERS, SUPERVISED, private_directory
from kcl_receiver.errors import EnvironmentProblem
from kcl_receiver.ids import check_writer_id
from kcl_receiver.locks import HeldPath
from kcl_receiver.store.objects import unavailable


class GeneratorLock:
    """Holds the lock until the process ends, or until `release`.

    The directory is locked as well, where no supervisor does that: it keeps systemd-tmpfiles out.

    Args:
        socket: Path of the socket; the lock lies beside it.
        inherited: Descriptor of the lock, if a processor took it and handed it on.

    Raises:
        EnvironmentProblem: Another generator holds it, or the directory cannot be used.
    """

    def __init__(self, socket: Path, inherited: int | None = None) -> None:
        self._path = socket.parent / GENERATOR_LOCK
        self._writers = socket.parent / GENERATOR_WRITERS
        self._socket = socket
        self._directory: HeldPath | None = None
        try:
            private_directory(str(socket.parent))
            self._file = HeldPath(self._path, inherited=inherited)
            if self._file.lost():
                self._file.take_again()
        except OSError as error:
            if inherited is not None:
                os.close(inherited)
            raise self._refused(error) from error
        self._hold_directory()
        self._say()

    def look_after(self) -> None:
        """Take the lock again if its file was removed, or replaced. What cannot be made now is tried the next time.

        Raises:
            EnvironmentProblem: Another generator has it now.
        """
        self._hold_directory()
        if not self._file.lost():
            return
        try:
            private_directory(str(self._path.parent))
            self._file.take_again()
        except BlockingIOError as error:
            raise self._refused(error) from error
        except OSError:
            return  # a full disk, for one: nobody else can make it either, and whoever is connected is served
        self._hold_directory()
        self._say()

    def read(self) -> list[str]:
        """Return the ids that `note` was given last; none if that is not known any more."""
        try:
            return [check_writer_id(one) for one in self._writers.read_text(encoding="ascii").split()]
        except (OSError, ValueError):
            return []

    def note(self, writers: Iterable[str]) -> None:
        """Keep the ids of the writers of this host that may have a ledger to be closed by the next one.

        Raises:
            StoreUnavailable: They cannot be kept now.
        """
        made = self._writers.with_suffix(".tmp")
        try:
            with made.open("w", encoding="ascii") as file:
                file.write("".join(f"{one}\n" for one in writers))
                file.flush()
                os.fsync(file.fileno())
            made.replace(self._writers)
        except OSError as error:
            raise unavailable(error, f"{self._writers} cannot be written") from error

    def release(self) -> None:
        """Give the lock back."""
        self._file.release()
        if self._directory is not None:
            self._directory.release()

    def _hold_directory(self) -> None:
        if os.environ.get(SUPERVISED) or (self._directory is not None and not self._directory.lost()):
            return
        if self._directory is not None:
            self._directory.release()
            self._directory = None
        # A supervisor that was started meanwhile has it, which does as well; or it is gone, and is made below.
        with contextlib.suppress(OSError):
            self._directory = HeldPath(self._path.parent, directory=True, shared=True)

    def _say(self) -> None:
        # A courtesy to whoever finds the lock taken: a full disk must not end a generator for it.
        with contextlib.suppress(OSError):
            os.ftruncate(self._file.fd, 0)
            os.pwrite(self._file.fd, f"{os.getpid()}\n".encode(), 0)

    def _refused(self, error: OSError) -> EnvironmentProblem:
        if not isinstance(error, BlockingIOError):
            return EnvironmentProblem(
                f"{self._path} can't be locked: {error.strerror or error}",
                "receiver.socket must lie in a directory that belongs to this user alone",
            )
        try:
            holder = self._path.read_text(encoding="ascii", errors="replace").strip() or "unknown"
        except OSError:
            holder = "unknown"
        return EnvironmentProblem(
            f"another generator (pid {holder}) serves {self._socket}",
            "one generator serves all shards of a host and application; stop that one first",
        )
