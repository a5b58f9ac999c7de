"""Objects in a bucket: each is one object, and a log is one object for each append.

An object store has no appending. Lines appended from number n on become the object `<log>~<n>`, a part, created only if
absent, so that of two writers with one id one is refused, and so that a retry after a lost answer finds its own bytes.
Read together, in the order of their numbers and without a gap, they are the log.

A log that has ended can be merged into one object at the log's own key. The rules:

    once there is an object at the log's own key, parts with numbers below what it holds do not count any more
    it is made before parts are removed; so a part that was read is what it was if that object is not there afterwards
    the last two parts are never removed: who slept since before the end finds the key at which it appends taken

So a merge can be killed anywhere, and be done by two at once. What arrives late at the key of a part that was removed
counts for nothing.

Whatever a bucket shows is durable. It has no locks: what several writers need instead is decided above.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from kcl_receiver.errors import SEE_REPAIR, LedgerDamaged
from kcl_receiver.store.layout import may_grow
from kcl_receiver.store.objects import Objects, Stat
from kcl_receiver.wire.columns import Buffer

if TYPE_CHECKING:
    import pyarrow as pa

PAGE = 1_000
"""Keys that S3 lists, and deletes, in one request at most."""
MOST_APPENDS = 256
"""Each is a request for whoever reads a log that was not merged yet."""
KEPT_PARTS = 2
"""The last part, and the one before it: a writer that never got the answer to an append tries that once more."""
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
        most_appends: See `Objects`.
    """

    def __init__(self, bucket: Bucket, most_appends: int = MOST_APPENDS) -> None:
        self.url = bucket.url
        self.most_appends = most_appends
        self._bucket = bucket
        self._lock = threading.Lock()
        self._next: dict[str, int] = {}  # number of the next line of logs that were appended to here

    def create(self, key: str, content: Buffer) -> bool:
        """See `Objects.create`."""
        return self._bucket.put(key, bytes(content), if_absent=True)

    def replace(self, key: str, content: Buffer) -> None:
        """See `Objects.replace`. No part is kept: see `replace_ended` where somebody could still append."""
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
        if whole is None:
            parts = self._following(key, 1)
            whole = self._bucket.get(key)
            if whole is None:
                return parts or None
            # It was merged meanwhile: some parts may have been gone, and others be none of its own.
        return whole + self._following(key, _lines(whole) + 1)

    def get_from(self, key: str, number: int, *, at_end: bool = False) -> bytes:
        """See `Objects.get_from`. Two requests more than there are appends, with `at_end` one if there are none."""
        if number == 1 and not at_end:
            return self.get(key) or b""
        first, found = number, self._following(key, number)
        if not found:
            if at_end:
                return b""
            # The line is in the middle of an append, or not there, or was merged.
            first = max((at for part in self._parts(key) if (at := _number(part.key)) <= number), default=number)
            found = self._following(key, first)
        if self._bucket.head(key) is not None:
            first, found = 1, self.get(key) or b""
        return b"".join(found.splitlines(keepends=True)[number - first :])

    def _following(self, key: str, number: int) -> bytes:
        """Return what the parts hold from a number on, without a gap."""
        pieces: list[bytes] = []
        while (piece := self._bucket.get(_part(key, number))) is not None:
            pieces.append(piece)
            if not (lines := _lines(piece)):
                break  # it is damaged, or keeps the key taken
            number += lines
        return b"".join(pieces)

    def open(self, key: str) -> pa.NativeFile:
        """See `Objects.open`."""
        return self._bucket.open(key)

    def stat(self, key: str) -> Stat | None:
        """See `Objects.stat`."""
        found = self._bucket.head(key)
        if found is not None or not may_grow(key):
            return found
        found = next(_folded(self._parts(key)), None)
        return self._bucket.head(key) if found is None else found  # it may have been merged meanwhile

    def list(self, prefix: str, *, deep: bool = True) -> Iterator[Stat]:
        """See `Objects.list`."""
        return _folded(self._listed(prefix, deep=deep))

    def list_after(self, prefix: str, after: str) -> Iterator[Stat]:
        """See `Objects.list_after`. Costs nothing for what comes before."""
        return _folded(self._listed(prefix, deep=True, after=f"{after}{_MARK}{_MARK}" if may_grow(after) else after))

    def _listed(self, prefix: str, *, deep: bool, after: str = "") -> Iterator[Stat]:
        while True:
            page = self._bucket.page(prefix, after, deep=deep)
            yield from page
            if len(page) < PAGE:
                return
            after = page[-1].key

    def _parts(self, key: str) -> Iterator[Stat]:
        listed = self._listed(key + _MARK, deep=True)
        return (one for one in listed if _is_number(one.key.rpartition(_MARK)[2]))  # else it is somebody else's

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
        is_first = upcoming is None
        if upcoming is None:
            upcoming = self._end(key) + 1
        if number > upcoming:
            raise LedgerDamaged(
                f"line {number} cannot be appended to the ledger {self.shown(key)}: line {upcoming} is not in it",
                "was an object removed? Restart the receiver, and let `kcl-receiver repair` look at it",
            )
        done = number == upcoming and self._bucket.put(_part(key, number), lines, if_absent=True)
        if done and is_first and self._bucket.head(key) is not None:
            # It was read a while ago, and may have been ended and merged since: then this counts for nothing.
            done = self._holds(key, number, lines)
        if done:
            upcoming += _lines(lines)
        elif not self._holds(key, number, lines):
            raise LedgerDamaged(
                f"line {number} of the ledger {self.shown(key)} is another one than the one to be written",
                "two writers have the same id? Restart the receiver, and let `kcl-receiver repair` look at it",
            )
        with self._lock:
            self._next[key] = max(upcoming, number + _lines(lines))

    def _end(self, key: str) -> int:
        """Return how many lines a log has: a listing and the last part, or the object that it was merged into."""
        last = 0
        for part in self._parts(key):
            last = _number(part.key)
        piece = self._bucket.get(_part(key, last)) if last else b""
        if piece is None or self._bucket.head(key) is not None:
            return _lines(self.get(key) or b"")
        return max(0, last - 1) + _lines(piece)

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

    def fence(self, key: str) -> None:
        """See `Objects.fence`. An object without any line is put where the next append would go."""
        end = _part(key, self._end(key) + 1)
        if not self._bucket.put(end, b"", if_absent=True) and self._bucket.get(end) != b"":
            raise LedgerDamaged(f"the ledger {self.shown(key)} has just grown", SEE_REPAIR)

    def merge(self, key: str, content: Buffer) -> None:
        """See `Objects.merge`."""
        parts = [part.key for part in self._parts(key)]
        if len(parts) <= KEPT_PARTS:
            return
        merged = bytes(content)
        if self._bucket.put(key, merged, if_absent=True) or self._bucket.get(key) == merged:
            self._remove(parts[:-KEPT_PARTS])

    def replace_ended(self, key: str, content: Buffer) -> None:
        """See `Objects.replace_ended`. Where somebody could still append, an object without any line is put."""
        full = [part.key for part in self._parts(key) if part.size]
        last = self._bucket.get(full[-1]) if full else None
        self._bucket.put(key, bytes(content), if_absent=False)
        self._remove(full[:-KEPT_PARTS])
        if last is not None:  # where it does not end with its closing line; before that part is emptied
            self._bucket.put(_part(key, _number(full[-1]) + _lines(last)), b"", if_absent=True)
        for part in full[-KEPT_PARTS:]:
            if _number(part) > _lines(bytes(content)):
                self._bucket.put(part, b"", if_absent=False)
        with self._lock:
            self._next.pop(key, None)

    def unmerged(self, prefix: str) -> Iterator[str]:
        """See `Objects.unmerged`."""
        log, parts = "", 0
        for one in self._listed(prefix, deep=True):
            key, mark, _ = one.key.rpartition(_MARK)
            if mark and not one.size:
                continue  # see `replace_ended`
            parts = parts + 1 if mark and key == log else 1
            log = key if mark else ""
            if mark and parts == KEPT_PARTS + 1:
                yield log


def _part(key: str, number: int) -> str:
    return f"{key}{_MARK}{number:012d}"


def _is_number(text: str) -> bool:
    return len(text) == 12 and text.isascii() and text.isdecimal()


def _number(part: str) -> int:
    return int(part.rpartition(_MARK)[2])


def _lines(content: bytes) -> int:
    return content.count(b"\n")


def _folded(listed: Iterable[Stat]) -> Iterator[Stat]:
    """Yield what was listed, with the parts of a log as one. A log without its first part is not there.

    One that was merged is there, and its parts add nothing to its size: they are in it.
    """
    log: Stat | None = None
    is_merged = False
    for one in listed:
        key, mark, number = one.key.rpartition(_MARK)
        if not mark or not number.isdecimal():
            if log is not None:
                yield log
            log, is_merged = one, True
        elif log is not None and log.key == key:
            if not is_merged:
                log = Stat(key, log.size + one.size, max(log.modified, one.modified))
        elif int(number) == 1:
            if log is not None:
                yield log
            log, is_merged = Stat(key, one.size, one.modified), False
    if log is not None:
        yield log
