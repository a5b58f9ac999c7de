"""The file operations that the local store is made of.

The local store reaches the file system through this port alone, so that a simulation can put a file system in its place
that loses what was not fsynced, and a test one that is full. Each method does one thing and raises `OSError`; what is
durable is decided by who calls them, in local.py.
"""

from __future__ import annotations

import errno
import fcntl
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from kcl_receiver.store.o_direct import DirectWriter
from kcl_receiver.wire.columns import Buffer


class Found(NamedTuple):
    """A name in a directory.

    Attributes:
        name: The name.
        is_dir: Whether it is a directory.
        size: Bytes; 0 for a directory.
        modified: When the file was changed last, seconds since the epoch; 0 for a directory.
    """

    name: str
    is_dir: bool
    size: int
    modified: float


class Files(ABC):
    """A file system, as far as the local store needs one. All methods raise `OSError`."""

    @abstractmethod
    def create(self, path: Path) -> int:
        """Make a file that must not exist yet, and open it for writing; return a handle."""

    @abstractmethod
    def open(self, path: Path) -> int:
        """Open a file that exists, for writing at its end; return a handle."""

    @abstractmethod
    def write(self, handle: int, content: Buffer) -> None:
        """Write all of the content at the end of the file. A part of it may be there after a failure."""

    @abstractmethod
    def fsync(self, handle: int) -> None:
        """Make the content of an open file durable."""

    @abstractmethod
    def truncate(self, handle: int, length: int) -> None:
        """Cut an open file to `length` bytes."""

    @abstractmethod
    def close(self, handle: int) -> None:
        """Close a handle."""

    @abstractmethod
    def fsync_dir(self, path: Path) -> None:
        """Make the names in a directory durable."""

    @abstractmethod
    def mkdir(self, path: Path) -> None:
        """Make a directory. `FileExistsError` if something of this name is there."""

    @abstractmethod
    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name, in one step. What had that name is replaced."""

    @abstractmethod
    def link(self, old: Path, new: Path) -> None:
        """Give a file a second name, in one step. `FileExistsError` if that name is taken."""

    @abstractmethod
    def unlink(self, path: Path) -> None:
        """Take a name away."""

    @abstractmethod
    def size(self, path: Path) -> int | None:
        """Return the size of a file in bytes, or None if nothing is there."""

    @abstractmethod
    def modified(self, path: Path) -> float:
        """Return when a file was changed last, in seconds since the epoch. `FileNotFoundError` if it is not there."""

    @abstractmethod
    def is_dir(self, path: Path) -> bool:
        """Return whether a directory is there."""

    @abstractmethod
    def listdir(self, path: Path) -> Iterator[Found]:
        """Yield what a directory holds, in no order. `FileNotFoundError` if it is not there."""

    @abstractmethod
    def read(self, path: Path) -> bytes:
        """Return the whole content of a file."""

    @abstractmethod
    def lock(self, path: Path) -> int:
        """Hold the lock of a file, which is made if need be; return a handle. The lock ends with it.

        `BlockingIOError` if another process, or another handle of this one, holds it.
        """

    def still_locks(self, handle: int, path: Path) -> bool:  # noqa: ARG002 - a file system without intruders needs none
        """Return whether a lock is still on the file that has the name, and not on one that was removed."""
        return True

    @abstractmethod
    def open_random(self, path: Path) -> pa.NativeFile:
        """Open a file for reading at any place."""


class OsFiles(Files):
    """The real file system. New files and directories get the rights that the umask leaves."""

    def __init__(self) -> None:
        self._direct = DirectWriter()

    def create(self, path: Path) -> int:
        """See `Files`."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o666)

    def open(self, path: Path) -> int:
        """See `Files`."""
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def write(self, handle: int, content: Buffer) -> None:
        """See `Files`."""
        self._direct.write(handle, memoryview(content).cast("B"))

    def fsync(self, handle: int) -> None:
        """See `Files`."""
        os.fsync(handle)

    def truncate(self, handle: int, length: int) -> None:
        """See `Files`."""
        os.ftruncate(handle, length)

    def close(self, handle: int) -> None:
        """See `Files`."""
        os.close(handle)

    def fsync_dir(self, path: Path) -> None:
        """See `Files`."""
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def mkdir(self, path: Path) -> None:
        """See `Files`."""
        path.mkdir()

    def rename(self, old: Path, new: Path) -> None:
        """See `Files`."""
        old.rename(new)

    def link(self, old: Path, new: Path) -> None:
        """See `Files`."""
        new.hardlink_to(old)

    def unlink(self, path: Path) -> None:
        """See `Files`."""
        path.unlink()

    def size(self, path: Path) -> int | None:
        """See `Files`."""
        try:
            return path.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def modified(self, path: Path) -> float:
        """See `Files`."""
        return path.stat().st_mtime

    def is_dir(self, path: Path) -> bool:
        """See `Files`."""
        return path.is_dir()

    def listdir(self, path: Path) -> Iterator[Found]:
        """See `Files`."""
        with os.scandir(path) as names:
            for entry in names:
                try:
                    is_dir = entry.is_dir()
                    found = None if is_dir else entry.stat()
                except FileNotFoundError:  # taken away since: a temporary file that got its name
                    continue
                yield Found(entry.name, is_dir, found.st_size if found else 0, found.st_mtime if found else 0.0)

    def read(self, path: Path) -> bytes:
        """See `Files`."""
        return path.read_bytes()

    def lock(self, path: Path) -> int:
        """See `Files`."""
        try:
            return self._lock(path, os.O_RDONLY)  # a file open for writing would forbid to remount the disk read-only
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            return self._lock(path, os.O_RDWR)  # NFS wants it

    def _lock(self, path: Path, mode: int) -> int:
        handle = os.open(path, mode | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(handle)
            raise
        return handle

    def still_locks(self, handle: int, path: Path) -> bool:
        """See `Files`."""
        try:
            return os.path.samestat(path.stat(), os.fstat(handle))
        except FileNotFoundError:
            return False

    def open_random(self, path: Path) -> pa.NativeFile:
        """See `Files`."""
        return pa.OSFile(str(path), "rb")
