"""Objects in a bucket: each is one object, and a log is one object for each append.

An object store has no appending. Lines appended from number n on become the object `<log>~<n>`, created only if absent,
so that of two writers with one id one is refused, and so that a retry after a lost answer finds its own bytes. Read
together, in the order of their numbers and without a gap, they are the log. What was read so far may be kept as one
object at the log's own key; objects with numbers below what that holds do not count any more.

Whatever a bucket shows is durable. It has no locks: what several writers need instead is decided above.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from kcl_receiver.errors import LedgerDamaged
from kcl_receiver.store.layout import may_grow
from kcl_receiver.store.objects import Objects, Stat
from kcl_receiver.wire.columns import Buffer

if TYPE_CHECKING:
    import pyarrow as pa

PAGE = 1_000
"""Keys that S3 lists, and deletes, in one request at most."""
_MARK = "~"


class Bucket(ABC):
    """The requests of an object store, one each. They may fail with any exception, and take effect all the same.

    Attributes:
        url: The URL of the place; keys are below it.
    """

    url: str

    @abstractmethod
    def put(self, key: str, content: bytes, *, if_absent: bool) -> bool:
        """Store an object; return False if it was to be created and the key is taken."""

    @abstractmethod
    def get(self, key: str) -> bytes | None:
        """Return an object's content, or None."""

    @abstractmethod
    def open(self, key: str) -> pa.NativeFile:
        """Open an object for reading at any place. `FileNotFoundError` if it is not there."""

    @abstractmethod
    def head(self, key: str) -> Stat | None:
        """Return what is known of an object, or None."""

    @abstractmethod
    def page(self, prefix: str, after: str, *, deep: bool) -> Sequence[Stat]:
        """Return the next `PAGE` objects past a key, in the order of keys; fewer if these are the last.

        Args:
            prefix: What their keys begin with.
            after: They are past this key; empty for the first page.
            deep: If false, what lies below a further "/" is given as one folder, whose key ends with "/".
        """

    @abstractmethod
    def remove(self, keys: Sequence[str]) -> None:
        """Remove up to `PAGE` objects. Those that are not there are fine."""


class BucketObjects(Objects):
    """See the module.

    Args:
        bucket: The bucket.
    """

    def __init__(self, bucket: Bucket) -> None:
        self.url = bucket.url
        self._bucket = bucket
        self._lock = threading.Lock()
        self._next: dict[str, int] = {}  # number of the next line of logs that were appended to here

    def create(self, key: str, content: Buffer) -> bool:
        """See `Objects.create`."""
        return self._bucket.put(key, bytes(content), if_absent=True)

    def replace(self, key: str, content: Buffer) -> None:
        """See `Objects.replace`."""
        self._bucket.put(key, bytes(content), if_absent=False)
        with self._lock:
            self._next.pop(key, None)
        # A part whose first line is in the content does not count any more; the others would follow it.
        if may_grow(key):
            self._remove([one.key for one in self._parts(key)])

    def get(self, key: str) -> bytes | None:
        """See `Objects.get`."""
        whole = self._bucket.get(key)
        if not may_grow(key):
            return whole
        pieces = [] if whole is None else [whole]
        number = 1 if whole is None else whole.count(b"\n") + 1
        for part in self._parts(key):
            if _number(part.key) != number:
                continue
            piece = self._bucket.get(part.key)
            if piece is None:
                break  # it was removed since it was listed, and what follows with it
            pieces.append(piece)
            number += piece.count(b"\n")
        return b"".join(pieces) if pieces else None

    def get_from(self, key: str, number: int) -> bytes:
        """See `Objects.get_from`. One request more than there are appends; all of them for the first line."""
        if number == 1:
            return self.get(key) or b""
        pieces = []
        while (piece := self._bucket.get(_part(key, number))) is not None:
            pieces.append(piece)
            number += piece.count(b"\n")
        return b"".join(pieces)

    def open(self, key: str) -> pa.NativeFile:
        """See `Objects.open`."""
        return self._bucket.open(key)

    def stat(self, key: str) -> Stat | None:
        """See `Objects.stat`."""
        found = self._bucket.head(key)
        if found is not None or not may_grow(key):
            return found
        return next(_folded(self._parts(key)), None)

    def list(self, prefix: str, *, deep: bool = True) -> Iterator[Stat]:
        """See `Objects.list`."""
        return _folded(self._listed(prefix, deep=deep))

    def _listed(self, prefix: str, *, deep: bool) -> Iterator[Stat]:
        after = ""
        while True:
            page = self._bucket.page(prefix, after, deep=deep)
            yield from page
            if len(page) < PAGE:
                return
            after = page[-1].key

    def _parts(self, key: str) -> Iterator[Stat]:
        return self._listed(key + _MARK, deep=True)

    def delete(self, keys: Iterable[str]) -> None:
        """See `Objects.delete`."""
        named = tuple(keys)
        # The first part first: without it the log is not there, however far the removal comes.
        parts = [part.key for key in named if may_grow(key) for part in self._parts(key)]
        self._remove([*named, *parts])
        with self._lock:
            for key in named:
                self._next.pop(key, None)

    def _remove(self, keys: Iterable[str]) -> None:
        left = iter(keys)
        while some := tuple(islice(left, PAGE)):
            self._bucket.remove(some)

    def append(self, key: str, number: int, lines: bytes) -> None:
        """See `Objects.append`."""
        if not may_grow(key):
            raise ValueError(f"not the key of a log: {key}")
        upcoming = self._next.get(key)
        if upcoming is None:
            upcoming = (self.get(key) or b"").count(b"\n") + 1
        if number > upcoming:
            raise LedgerDamaged(
                f"line {number} cannot be appended to the ledger {self.shown(key)}: line {upcoming} is not in it",
                "was an object removed? Restart the receiver, and let `kcl-receiver repair` look at it",
            )
        if number == upcoming and self._bucket.put(_part(key, number), lines, if_absent=True):
            upcoming += lines.count(b"\n")
        elif not self._holds(key, number, lines):
            raise LedgerDamaged(
                f"line {number} of the ledger {self.shown(key)} is another one than the one to be written",
                "two writers have the same id? Restart the receiver, and let `kcl-receiver repair` look at it",
            )
        with self._lock:
            self._next[key] = max(upcoming, number + lines.count(b"\n"))

    def _holds(self, key: str, number: int, lines: bytes) -> bool:
        """Return whether a log holds these lines from a number on."""
        there = (self.get(key) or b"").splitlines(keepends=True)
        return b"".join(there[number - 1 :]).startswith(lines)

    def settle(self, key: str) -> None:
        """See `Objects.settle`."""
        if self._bucket.head(key) is None:
            raise FileNotFoundError(key)

    def settle_log(self, key: str, content: Buffer) -> None:
        """See `Objects.settle_log`. Does nothing: a log written anew could arrive late, over lines that came since."""


def _part(key: str, number: int) -> str:
    return f"{key}{_MARK}{number:012d}"


def _number(part: str) -> int:
    return int(part.rpartition(_MARK)[2])


def _folded(listed: Iterable[Stat]) -> Iterator[Stat]:
    """Yield what was listed, with the parts of a log as one. A log without its first part is not there."""
    log: Stat | None = None
    for one in listed:
        key, mark, number = one.key.rpartition(_MARK)
        if not mark or not number.isdecimal():
            if log is not None:
                yield log
            log = one
        elif log is not None and log.key == key:
            log = Stat(key, log.size + one.size, max(log.modified, one.modified))
        elif int(number) == 1:
            if log is not None:
                yield log
            log = Stat(key, one.size, one.modified)
    if log is not None:
        yield log
