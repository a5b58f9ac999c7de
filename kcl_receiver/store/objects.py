"""The port of a store: named objects in one place, and nine verbs.

Everything that kcl_receiver keeps is an object under a key such as `blocks/2026-11-22/<id>.parquet`. What keys mean is
decided in one place above this port (`kcl_receiver.store.store`); an implementation only keeps bytes. "Durable" means:
it survives a loss of power of the machine, and is seen by every later call of every process.

Two kinds of objects exist. An ordinary object is created once, whole. A log grows by whole lines at its end and is read
as one object; an implementation may keep it as one growing file, or as one object per append.

An implementation may raise any exception to say that it is unavailable, and `FileNotFoundError` where the contract says
so. `Checked` turns all of them into the two answers that the rest of the program knows: not there, and unavailable.
After "unavailable" the outcome is unknown; retry the same call until it succeeds.
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from kcl_receiver.errors import ReceiverError, StoreUnavailable
from kcl_receiver.wire.columns import Buffer

if TYPE_CHECKING:
    import pyarrow as pa

    from kcl_receiver.store.blocks.stream import BlockStream


_T = TypeVar("_T")


class Stat(NamedTuple):
    """An object, or a folder of objects.

    Attributes:
        key: Its key. A folder's ends with "/".
        size: Bytes; 0 for a folder.
        modified: Time of the last change, milliseconds since the epoch; 0 for a folder.
    """

    key: str
    size: int
    modified: int


class Lock(Protocol):
    """A lock that is held until `release`, or until its process ends."""

    def holds(self) -> bool:
        """Return whether it still keeps others out."""

    def release(self) -> None:
        """Let others have it."""


class Objects(ABC):
    """Where objects live. Threads may share it.

    Attributes:
        url: The URL of the place.
        locks: Whether `lock` keeps other processes out.
        near: Whether a read waits for nobody else: then nothing is gained by waiting for several at once.
        most_appends: After how many appends a log gives way to the next one, where each is an object of its own and one
            more request to whoever reads it. None where a log is one object, however long it gets.
    """

    url: str
    locks = False
    near = False
    most_appends: int | None = None

    @abstractmethod
    def create(self, key: str, content: Buffer) -> bool:
        """Create an object if the key is free. It is durable when this returns True; it is never seen in part.

        Returns:
            False if the key is taken, whatever it holds. Of several callers at once, one gets True.
        """

    @abstractmethod
    def replace(self, key: str, content: Buffer) -> None:
        """Give an object, or a log, this content, in one step and durably. Nobody writes to it at the same time."""

    @abstractmethod
    def get(self, key: str) -> bytes | None:
        """Return the whole content of an object or a log; None if there is none."""

    def get_from(self, key: str, number: int, *, at_end: bool = False) -> bytes:  # noqa: ARG002 - nothing is saved here
        """Return the lines of a log from a number on; nothing if it is not there, or ends before that.

        A place that keeps one object for each append can do better than to read all of it.

        Args:
            key: The log.
            number: Number of the first of the lines, from 1.
            at_end: It ended just before that line when it was read last. Then a place may look for one append alone,
                and return nothing of a log that was merged since.
        """
        lines = (self.get(key) or b"").splitlines(keepends=True)
        return b"".join(lines[number - 1 :])

    @abstractmethod
    def open(self, key: str) -> pa.NativeFile:
        """Open an object for reading at any place.

        Raises:
            FileNotFoundError: It is not there. Reading from the file may raise this, too.
        """

    @abstractmethod
    def stat(self, key: str) -> Stat | None:
        """Return what is known of an object without reading it; None if there is none."""

    @abstractmethod
    def list(self, prefix: str, *, deep: bool = True) -> Iterator[Stat]:
        """Yield the objects whose keys begin with a prefix, in the order of their keys.

        What was durable before the call is listed; what changes meanwhile may be or not.

        Args:
            prefix: Empty for all.
            deep: If false, of the objects below a further "/" only their folder is listed, once.
        """

    def list_after(self, prefix: str, after: str) -> Iterator[Stat]:
        """Yield the same, of all below the prefix only what comes after a key.

        A place that lists in pages can do better than to list what comes before.
        """
        return (one for one in self.list(prefix) if one.key > after)

    @abstractmethod
    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects and logs for good. Keys that are not there are fine."""

    @abstractmethod
    def append(self, key: str, number: int, lines: bytes) -> None:
        """Append whole lines to a log, whose only writer this is. They are durable when this returns.

        Idempotent: lines that are there already, from the same number on, are the same append. After a failure the same
        call comes first, so that what is left of a torn append is never followed by other lines.

        Args:
            key: The log; the first append makes it.
            number: Number of the first of the lines, from 1.
            lines: One or more lines, each ended by a newline.

        Raises:
            LedgerDamaged: The log does not end just before that line, or holds other lines there.
        """

    @abstractmethod
    def settle(self, key: str) -> None:
        """Make an ordinary object durable that another process may have created without seeing it become so.

        Raises:
            FileNotFoundError: It is not there.
        """

    def settle_log(self, key: str, content: Buffer) -> None:
        """Make durable what was read of a log whose writer has ended, without a torn end. Idempotent.

        A place that shows nothing before it is durable has nothing to do here, and does nothing: a line that its dead
        writer sent can still arrive.

        Args:
            key: The log.
            content: Whole lines.
        """
        self.replace(key, content)

    def fence(self, key: str) -> None:  # noqa: B027 - where a log is one object, its lock keeps others out
        """Let nobody append to a log any more. What can be read of it stays. Idempotent.

        Raises:
            LedgerDamaged: Somebody has just appended to it; look again.
        """

    def merge(self, key: str, content: Buffer) -> None:  # noqa: B027 - most places have nothing to do
        """Let a log that has ended, and will never be appended to, be one object. Idempotent.

        Who appends to it all the same is refused, as before. A place that keeps a log as one object does nothing.

        Args:
            key: The log.
            content: All that it holds.
        """

    def replace_ended(self, key: str, content: Buffer) -> None:
        """Give a log that has ended this content; who appends to it all the same is refused, as before. Idempotent."""
        self.replace(key, content)

    def unmerged(self, prefix: str) -> Iterator[str]:  # noqa: ARG002 - most places have nothing to merge
        """Yield the logs whose keys begin with a prefix and that `merge` could make fewer objects of."""
        return iter(())

    def lock(self, name: str) -> Lock | None:  # noqa: ARG002 - most places have no locks
        """Take the lock of a name; None if another process has it. A place without locks gives it to everybody."""
        return _Open()

    def shown(self, key: str) -> str:
        """Return how messages name an object."""
        return f"{self.url}/{key}"


class _Open:
    """The lock of a place without locks."""

    def holds(self) -> bool:
        return True

    def release(self) -> None:
        pass


class Checked(Objects):
    """Another place's objects, whose methods raise nothing but what is written here.

    Every method may raise `StoreUnavailable`. `open` gives a file that raises nothing but that and `BlockMissing`.

    Args:
        objects: The place.
    """

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.url = objects.url
        self.locks = objects.locks
        self.near = objects.near
        self.most_appends = objects.most_appends

    def create(self, key: str, content: Buffer) -> bool:
        """See `Objects.create`."""
        with self._trying(key, "was not stored"):
            return self.objects.create(key, content)

    def replace(self, key: str, content: Buffer) -> None:
        """See `Objects.replace`."""
        with self._trying(key, "is not known to be durable"):
            self.objects.replace(key, content)

    def fence(self, key: str) -> None:
        """See `Objects.fence`.

        Raises:
            LedgerDamaged: See there.
        """
        with self._trying(key, "cannot be closed"):
            self.objects.fence(key)

    def replace_ended(self, key: str, content: Buffer) -> None:
        """See `Objects.replace_ended`."""
        with self._trying(key, "is not known to be durable"):
            self.objects.replace_ended(key, content)

    def get(self, key: str) -> bytes | None:
        """See `Objects.get`."""
        with self._trying(key, "cannot be read"):
            return self.objects.get(key)

    def get_from(self, key: str, number: int, *, at_end: bool = False) -> bytes:
        """See `Objects.get_from`."""
        with self._trying(key, "cannot be read"):
            return self.objects.get_from(key, number, at_end=at_end)

    def open(self, key: str) -> BlockStream:
        """See `Objects.open`.

        Raises:
            BlockMissing: It is not there.
        """
        from kcl_receiver.store.blocks.stream import open_block_file  # noqa: PLC0415 - pyarrow: `check` does without it

        return open_block_file(self.shown(key), lambda: self.objects.open(key), lambda: self.stat(key) is not None)

    def stat(self, key: str) -> Stat | None:
        """See `Objects.stat`."""
        with self._trying(key, "cannot be looked at"):
            return self.objects.stat(key)

    def list(self, prefix: str, *, deep: bool = True) -> Iterator[Stat]:
        """See `Objects.list`."""
        return self._each(prefix, lambda: self.objects.list(prefix, deep=deep))

    def list_after(self, prefix: str, after: str) -> Iterator[Stat]:
        """See `Objects.list_after`."""
        return self._each(prefix, lambda: self.objects.list_after(prefix, after))

    def unmerged(self, prefix: str) -> Iterator[str]:
        """See `Objects.unmerged`."""
        return self._each(prefix, lambda: self.objects.unmerged(prefix))

    def _each(self, prefix: str, listing: Callable[[], Iterable[_T]]) -> Iterator[_T]:
        with self._trying(prefix, "cannot be listed"):
            found = iter(listing())
        while True:
            with self._trying(prefix, "cannot be listed"):
                one = next(found, None)
            if one is None:
                return
            yield one

    def delete(self, keys: Iterable[str]) -> None:
        """See `Objects.delete`."""
        named = list(keys)
        if named:
            others = f" and {len(named) - 1} more" if len(named) > 1 else ""
            with self._trying(named[0], f"was not deleted{others}"):
                self.objects.delete(named)

    def append(self, key: str, number: int, lines: bytes) -> None:
        """See `Objects.append`.

        Raises:
            LedgerDamaged: See there.
        """
        with self._trying(key, "was not appended to"):
            self.objects.append(key, number, lines)

    def settle(self, key: str) -> None:
        """See `Objects.settle`.

        Raises:
            FileNotFoundError: It is not there.
        """
        with self._trying(key, "is not known to be durable", missing=FileNotFoundError):
            self.objects.settle(key)

    def settle_log(self, key: str, content: Buffer) -> None:
        """See `Objects.settle_log`."""
        with self._trying(key, "is not known to be durable"):
            self.objects.settle_log(key, content)

    def merge(self, key: str, content: Buffer) -> None:
        """See `Objects.merge`."""
        with self._trying(key, "was not merged"):
            self.objects.merge(key, content)

    def lock(self, name: str) -> Lock | None:
        """See `Objects.lock`."""
        with self._trying(name, "cannot be locked"):
            return self.objects.lock(name)

    def shown(self, key: str) -> str:
        """See `Objects.shown`."""
        return self.objects.shown(key)

    def _trying(self, key: str, what: str, missing: type[Exception] = ReceiverError) -> _Trying:
        return _Trying(self, key, what, missing)


class _Trying:
    """Turns what is raised within into the answers of `Checked`. Every call of a store passes here."""

    __slots__ = ("_key", "_missing", "_objects", "_what")

    def __init__(self, objects: Checked, key: str, what: str, missing: type[Exception]) -> None:
        self._objects, self._key, self._what, self._missing = objects, key, what, missing

    def __enter__(self) -> None:
        """Nothing is to be done."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, (ReceiverError, self._missing)):
            raise unavailable(error, f"{self._objects.shown(self._key)} {self._what}") from error


_HINTS = {
    errno.ENOSPC: "free room on this file system; until then nothing is lost, KCL waits",
    errno.EDQUOT: "raise the quota or free room; until then nothing is lost, KCL waits",
    errno.EROFS: "the file system is mounted read-only: see the kernel's log, then mount it writable again",
    errno.EACCES: "the user that runs kcl-receiver needs to read and write this directory and all below it",
    errno.EPERM: "the user that runs kcl-receiver needs to own this directory, on a file system that has hard links",
    errno.EOPNOTSUPP: "the store needs a file system that has hard links and fsync",
    errno.EIO: "the disk reports errors: see the kernel's log",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENOENT: "was a directory taken away?",
    errno.ENOTDIR: "something that is no directory is in the way",
    errno.ENAMETOOLONG: "choose a shorter path for receiver.store",
}


def hint_for(error: BaseException) -> str:
    """Return what to do about an error of a file system; empty where its number tells nothing."""
    return _HINTS.get(error.errno or 0, "") if isinstance(error, OSError) else ""


def unavailable(error: BaseException, what: str, hint: str = "") -> StoreUnavailable:
    """Return the error for something that a store could not do, whatever was raised.

    Args:
        error: What was raised.
        what: What was not done, to which thing.
        hint: What to do about it; if not given, what the error number tells.
    """
    reason = (error.strerror if isinstance(error, OSError) else "") or str(error)
    if not isinstance(error, OSError) or not reason:
        reason = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
    return StoreUnavailable(f"{what}: {reason}", hint or hint_for(error) or "see that the store can be reached")
