"""Objects in memory, with the manners of S3: for tests of what stands on a store, and for trying one without a disk.

Requests can be made to fail as they do over a network: before they took effect, after it, or long after whoever sent
them gave up. Nothing survives the process.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from kcl_receiver.store.bucket import PAGE, Bucket, BucketObjects
from kcl_receiver.store.objects import Stat

if TYPE_CHECKING:
    import pyarrow as pa


_T = TypeVar("_T")


class Fault(Enum):
    """How a request fails. All look alike to the caller, which sees a `TimeoutError`."""

    BEFORE = "it never took effect"
    AFTER = "it took effect"
    LATE = "it takes effect when `MemoryBucket.deliver_late` is called"


class MemoryBucket(Bucket):
    """A bucket in memory. Threads may share it.

    Args:
        name: Its name, which is a part of its URL.
        clock: Gives the time of changes, milliseconds since the epoch.

    Attributes:
        faults: Asked before each request, with its name and its first key; returns how it fails, or None.
    """

    def __init__(self, name: str = "memory", clock: Callable[[], int] = lambda: 0) -> None:
        self.url = f"memory://{name}"
        self.faults: Callable[[str, str], Fault | None] = lambda _request, _key: None
        self._clock = clock
        self._lock = threading.Lock()
        self._objects: dict[str, tuple[bytes, int]] = {}
        self._sorted: list[str] | None = []
        self._late: list[Callable[[], object]] = []

    def deliver_late(self) -> None:
        """Let the requests arrive that failed as `Fault.LATE`."""
        late, self._late = self._late, []
        for request in late:
            request()

    def put(self, key: str, content: bytes, *, if_absent: bool) -> bool:
        """See `Bucket.put`."""
        fault = self.faults("put", key)
        if fault is not Fault.LATE:
            return self._failing(fault, partial(self._put, key, content, if_absent))
        self._late.append(partial(self._put, key, content, if_absent))
        raise TimeoutError("made to fail")

    def _put(self, key: str, content: bytes, if_absent: bool) -> bool:
        with self._lock:
            if key not in self._objects:
                self._sorted = None
            elif if_absent:
                return False
            self._objects[key] = content, self._clock()
            return True

    def get(self, key: str) -> bytes | None:
        """See `Bucket.get`."""
        found = self._failing(self.faults("get", key), lambda: self._objects.get(key))
        return None if found is None else found[0]

    def open(self, key: str) -> pa.NativeFile:
        """See `Bucket.open`."""
        import pyarrow as pa  # noqa: PLC0415 - only readers need it

        content = self.get(key)
        if content is None:
            raise FileNotFoundError(key)
        return pa.BufferReader(content)

    def head(self, key: str) -> Stat | None:
        """See `Bucket.head`."""
        found = self._failing(self.faults("head", key), lambda: self._objects.get(key))
        return None if found is None else Stat(key, len(found[0]), found[1])

    def page(self, prefix: str, after: str, *, deep: bool) -> Sequence[Stat]:
        """See `Bucket.page`."""
        return self._failing(self.faults("page", prefix), lambda: self._page(prefix, after, deep))

    def _page(self, prefix: str, after: str, deep: bool) -> Sequence[Stat]:
        with self._lock:
            if self._sorted is None:
                self._sorted = sorted(self._objects)
            out: list[Stat] = []
            # "0" comes just behind "/": what is past a folder is past all that lies below it.
            place = after[:-1] + "0" if after.endswith("/") else after
            at = max(bisect_right(self._sorted, place), bisect_right(self._sorted, prefix[:-1]) if prefix else 0)
            while at < len(self._sorted) and len(out) < PAGE:
                key = self._sorted[at]
                at += 1
                if not key.startswith(prefix):
                    if key > prefix:
                        break
                    continue
                folder, slash, _ = key[len(prefix) :].partition("/")
                if deep or not slash:
                    content, modified = self._objects[key]
                    out.append(Stat(key, len(content), modified))
                elif not out or out[-1].key != f"{prefix}{folder}/":
                    out.append(Stat(f"{prefix}{folder}/", 0, 0))
            return out

    def remove(self, keys: Sequence[str]) -> None:
        """See `Bucket.remove`."""
        fault = self.faults("remove", keys[0])
        if fault is Fault.LATE:
            self._late.append(partial(self._remove, keys))
            raise TimeoutError("made to fail")
        self._failing(fault, partial(self._remove, keys))

    def _remove(self, keys: Sequence[str]) -> None:
        with self._lock:
            self._sorted = None
            for key in keys:
                self._objects.pop(key, None)

    def _failing(self, fault: Fault | None, request: Callable[[], _T]) -> _T:
        if fault is Fault.BEFORE:
            raise TimeoutError("made to fail")
        answer = request()
        if fault is not None:
            raise TimeoutError("made to fail")
        return answer


class MemoryObjects(BucketObjects):
    """Objects in a bucket in memory, a new one if none is given; several may share one."""

    def __init__(self, bucket: MemoryBucket | None = None) -> None:
        self.bucket = bucket or MemoryBucket()
        super().__init__(self.bucket)
