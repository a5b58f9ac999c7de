"""Objects in a local directory: each is a file, and a log is one file that grows.

The rule: a file is written under a temporary name, fsynced, linked or renamed to its own name, and then the directory
is fsynced, and so is the parent of every directory that was made on the way. Only a log is appended to in place; a torn
end is cut off before anything follows it. After a failed fsync the kernel may drop what it could not write and say no
more about it, so a new try writes everything again and never relies on fsyncing the same pages twice.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from kcl_receiver.errors import LedgerDamaged
from kcl_receiver.store.files import Files, Found, OsFiles
from kcl_receiver.store.objects import Objects, Stat
from kcl_receiver.store.store import TMP, TMP_SUFFIX
from kcl_receiver.wire.columns import Buffer

if TYPE_CHECKING:
    import pyarrow as pa


class _Tail(NamedTuple):
    """The end of a log as far as it is known to be durable."""

    length: int
    lines: int


class _FileLock:
    """A lock on a file of the directory."""

    def __init__(self, files: Files, handle: int, path: Path) -> None:
        self._files, self._handle, self._path = files, handle, path

    def holds(self) -> bool:
        """Return whether the file is still the one that has the name."""
        return self._files.still_locks(self._handle, self._path)

    def release(self) -> None:
        """Close it."""
        self._files.close(self._handle)


def _random_token() -> str:
    return secrets.token_hex(4)


class Directory(Objects):
    """See the module.

    Args:
        root: The directory, absolute. It is made, with its parents, when something is first written.
        files: The file system.
        token: Gives the random part of temporary names.
    """

    locks = True
    near = True

    def __init__(self, root: str | Path, files: Files | None = None, token: Callable[[], str] = _random_token) -> None:
        self.root = Path(root)
        self.url = "file://" + quote(str(self.root))
        # The same keys are asked for again and again, and a path keeps what it has worked out of itself.
        self._path = lru_cache(1024)(self.root.joinpath)
        self._files = files if files is not None else OsFiles()
        self._token = token
        self._root_lock = threading.Lock()  # one thread at a time makes the root
        self._lock = threading.Lock()  # guards the four below
        self._failed: dict[Path, int] = {}
        self._durable: set[Path] = set()
        self._unsynced: list[Path] = []
        self._tails: dict[str, _Tail] = {}

    def shown(self, key: str) -> str:
        """See `Objects.shown`."""
        return str(self._path(key))

    def lock(self, name: str) -> _FileLock | None:
        """See `Objects.lock`."""
        with self._watching():
            self._make_dir(self.root)
            path = self.root / name
            try:
                return _FileLock(self._files, self._files.lock(path), path)
            except BlockingIOError:
                return None

    # Ordinary objects

    def create(self, key: str, content: Buffer) -> bool:
        """See `Objects.create`."""
        path = self._path(key)
        if self._files.size(path) is not None:
            return False
        with self._watching(), self._making_durable(path):
            self._make_dir(path.parent)
            temporary = self._write_temporary(path.name, content)
            try:
                self._files.link(temporary, path)
            except FileExistsError:  # another one was first
                return False
            finally:
                self._discard(temporary)
        return True

    def replace(self, key: str, content: Buffer) -> None:
        """See `Objects.replace`."""
        path = self._path(key)
        with self._watching(), self._making_durable(path):
            self._make_dir(path.parent)
            self._write_anew(path, content)
        with self._lock:
            self._tails.pop(key, None)

    def settle(self, key: str) -> None:
        """See `Objects.settle`."""
        path = self._path(key)
        if self._files.size(path) is None:
            raise FileNotFoundError(key)
        with self._watching(), self._making_durable(path):
            # A name whose fsync failed may be dropped, and the next fsync would succeed: it is made anew.
            if self._failed.get(path.parent):
                self._write_anew(path, self._read(path))

    def get(self, key: str) -> bytes | None:
        """See `Objects.get`."""
        try:
            return self._read(self._path(key))
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None

    def open(self, key: str) -> pa.NativeFile:
        """See `Objects.open`."""
        return self._files.open_random(self._path(key))

    def stat(self, key: str) -> Stat | None:
        """See `Objects.stat`."""
        size = self._files.size(self._path(key))
        if size is None:
            return None
        try:
            return Stat(key, size, int(self._files.modified(self._path(key)) * 1000))
        except FileNotFoundError:
            return None

    def list(self, prefix: str, *, deep: bool = True) -> Iterator[Stat]:
        """See `Objects.list`."""
        folder, slash, name = prefix.rpartition("/")
        return self._below(folder + slash, name, deep=deep)

    def _below(self, folder: str, begin: str = "", *, deep: bool = True) -> Iterator[Stat]:
        found = [one for one in self._listed(folder) if one.name.startswith(begin)]
        for one in sorted(found, key=lambda one: one.name + "/" if one.is_dir else one.name):
            key = folder + one.name
            if not one.is_dir:
                yield Stat(key, one.size, int(one.modified * 1000))
            elif deep:
                yield from self._below(key + "/")
            else:
                yield Stat(key + "/", 0, 0)

    def delete(self, keys: Iterable[str]) -> None:
        """See `Objects.delete`."""
        directories: dict[Path, None] = {}
        for key in keys:
            path = self._path(key)
            directories[path.parent] = None
            with suppress(FileNotFoundError):
                self._files.unlink(path)
        for directory in directories:
            if self._files.is_dir(directory):
                self._files.fsync_dir(directory)

    # Logs

    def append(self, key: str, number: int, lines: bytes) -> None:
        """See `Objects.append`."""
        path = self._path(key)
        with self._watching():
            tail = self._tails.get(key)
            if tail is None or number != tail.lines + 1:
                tail = self._find_place(path, number, lines)
                if tail is None:  # the last try wrote them, and did not see them become durable
                    self.replace(key, self._read(path))
                    return
            self._make_dir(path.parent)
            size = self._files.size(path)
            if (size or 0) < tail.length:
                raise LedgerDamaged(
                    f"the ledger {path} has {size or 0} bytes, and {tail.length} were durable",
                    "something else writes to this file: stop it, then let `kcl-receiver repair` look at it",
                )
            if (size or 0) > tail.length:
                self._find_place(path, number, lines)  # a torn end of its own is cut off, and no line of another
            with self._opened(self._files.create(path) if size is None else self._files.open(path)) as handle:
                if size is not None and size > tail.length:
                    self._files.truncate(handle, tail.length)
                self._files.write(handle, lines)
                self._files.fsync(handle)
            if path not in self._durable:
                self._files.fsync_dir(path.parent)
            with self._lock:
                self._durable.add(path)
                self._tails[key] = _Tail(tail.length + len(lines), tail.lines + lines.count(b"\n"))

    def _find_place(self, path: Path, first_number: int, lines: bytes) -> _Tail | None:
        """Return what lies before line `first_number`, or None if the lines are there already.

        Raises:
            LedgerDamaged: There are fewer lines before it, or others in its place.
        """
        there = b"" if self._files.size(path) is None else self._read(path)
        offset = 0
        for number in range(1, first_number):
            offset = there.find(b"\n", offset) + 1
            if offset == 0:
                raise LedgerDamaged(
                    f"line {first_number} cannot be appended to the ledger {path}: line {number} is not in it",
                    "was the file replaced? Restart the receiver, and let `kcl-receiver repair` look at it",
                )
        if there[offset:].startswith(lines):
            return None
        whole = there[offset : there.rfind(b"\n") + 1]  # without a torn end, which is cut off whatever it was
        if not lines.startswith(whole):
            raise LedgerDamaged(
                f"line {first_number} of the ledger {path} is another one than the one to be written",
                "two writers have the same id? Restart the receiver, and let `kcl-receiver repair` look at it",
            )
        return _Tail(offset, first_number - 1)

    def _read(self, path: Path) -> bytes:
        """Return the whole content of a file.

        Less than it has is no shorter file, and "not found" of one that is there no missing one: the read failed.
        """
        before = self._files.size(path)
        try:
            content = self._files.read(path)
        except FileNotFoundError as error:
            if self._files.size(path) is None:
                raise
            raise OSError(f"it is there, and was not found: {error}") from error
        if before is not None and len(content) < before and len(content) < (self._files.size(path) or 0):
            raise OSError(f"{len(content)} bytes came, and it has {before}")
        return content

    def _listed(self, folder: str) -> Iterable[Found]:
        path = self._path(folder)
        try:
            return tuple(self._files.listdir(path))
        except FileNotFoundError as error:
            if self._files.is_dir(path):  # or all that is in it would be missing
                raise OSError(f"it is there, and was not found: {error}") from error
            return ()
        except NotADirectoryError:
            return ()

    def _write_temporary(self, name: str, content: Buffer) -> Path:
        """Write a durable file under a temporary name; leave nothing behind on failure."""
        self._make_dir(self.root / TMP)
        temporary = self.root / TMP / f"{name}.{self._token()}{TMP_SUFFIX}"
        with self._opened(self._files.create(temporary)) as handle:
            try:
                self._files.write(handle, content)
                self._files.fsync(handle)
            except BaseException:
                self._discard(temporary)
                raise
        return temporary

    def _write_anew(self, path: Path, content: Buffer) -> None:
        """Put a file whose content is durable at a path; its name is not yet."""
        temporary = self._write_temporary(path.name, content)
        try:
            self._files.rename(temporary, path)
        except BaseException:
            self._discard(temporary)
            raise

    @contextmanager
    def _making_durable(self, path: Path) -> Iterator[None]:
        """Make the name of a file durable that gets it in here, and whose content is durable before.

        Raises:
            OSError: It is not known to be.
        """
        failures = self._failed.get(path.parent, 0)
        yield
        try:
            self._files.fsync_dir(path.parent)
        except OSError:
            with self._lock:
                self._failed[path.parent] = self._failed.get(path.parent, 0) + 1
            raise
        if self._failed.get(path.parent, 0) != failures:
            raise OSError("another fsync of its directory failed meanwhile, and may have been about this name")

    def _discard(self, temporary: Path) -> None:
        with suppress(OSError):  # what happened before is what is reported; `list_leftovers` shows the file
            self._files.unlink(temporary)

    def _make_dir(self, path: Path) -> None:
        """See that a directory of the store is there, and that it is durable.

        One that is there already may have been made by a process that was killed before it could fsync the parent, so
        the parent is fsynced once for each directory that this object comes to use.
        """
        with self._lock:
            if path in self._durable:
                return
        if path == self.root:
            with self._root_lock:
                self._make_root()
        else:
            self._make_dir(path.parent)
            if not self._files.is_dir(path):
                with suppress(FileExistsError):  # another thread or process made it just now
                    self._files.mkdir(path)
            self._files.fsync_dir(path.parent)
        with self._lock:
            self._durable.add(path)

    def _make_root(self) -> None:
        missing = []
        path = self.root
        while not self._files.is_dir(path):
            missing.append(path)
            path = path.parent
        with self._lock:
            self._unsynced.extend(path.parent for path in missing)
        for path in reversed(missing):
            with suppress(FileExistsError):
                self._files.mkdir(path)
        for parent in list(self._unsynced):
            self._files.fsync_dir(parent)
            self._unsynced.remove(parent)
        # The parent of a directory that someone else made may be closed to us, and is theirs to care for.
        with suppress(PermissionError):
            self._files.fsync_dir(self.root.parent)

    @contextmanager
    def _opened(self, handle: int) -> Iterator[int]:
        try:
            yield handle
        except BaseException:
            with suppress(OSError):  # the first error is the one that tells
                self._files.close(handle)
            raise
        self._files.close(handle)

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Look at all directories again once one is gone that was there."""
        try:
            yield
        except FileNotFoundError:
            with self._lock:
                self._durable.clear()
            raise
