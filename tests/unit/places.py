"""The places on which every test of what stands on a store runs, and what such tests do to single objects by hand.

The rule: a test of store, ledger, reading or maintenance takes the fixture `place` (or one of its kin in
`conftest`) and touches what is stored by the verbs of `Objects` alone. A test of a file system's own manners (fsync,
power, permissions, links) uses a directory, in a file whose name says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from fake_files import FakeFiles

from kcl_receiver.ids import day_of
from kcl_receiver.store.layout import block_path, ledger_path, maintenance_path, marker_path
from kcl_receiver.store.local import Directory
from kcl_receiver.store.memory import MemoryBucket, MemoryObjects
from kcl_receiver.store.objects import Checked, Lock, Objects
from kcl_receiver.store.store import Store
from kcl_receiver.wire.columns import Buffer


class Place:
    """Gives stores. Who asks for the same name again gets the same store, as another process has it.

    Args:
        objects: Gives another object for the place of a name.
    """

    def __init__(self, objects: Callable[[str], Objects]) -> None:
        self._objects = objects
        self._made: list[Store] = []

    def __call__(self, name: str = "store") -> Store:
        self._made.append(Store(self._objects(name)))
        return self._made[-1]

    def end_processes(self) -> None:
        """End all that were given a store: their locks are free."""
        for store in self._made:
            end_process(store)


def end_process(store: Store) -> None:
    """End the process that has this store: its locks are free."""
    for lock in store._held.values():
        lock.release()
    store._held.clear()


NewPlace = Callable[[], Place]


class LockingMemory(MemoryObjects):
    """A place with the manners of S3, and with locks, as somebody's own may have them."""

    locks = True

    def __init__(self, bucket: MemoryBucket, taken: dict[str, Lock]) -> None:
        super().__init__(bucket)
        self._taken = taken

    def lock(self, name: str) -> Lock | None:
        if name in self._taken:
            return None
        self._taken[name] = _Lock(self._taken, name)
        return self._taken[name]


@dataclass(eq=False)
class _Lock:
    taken: dict[str, Lock]
    name: str

    def holds(self) -> bool:
        return self.taken.get(self.name) is self

    def release(self) -> None:
        if self.holds():
            del self.taken[self.name]


def directory(temporary: pytest.TempPathFactory) -> Place:
    """Return a place on the disk."""
    root = temporary.mktemp("place")
    return Place(lambda name: Directory(root / name))


def fake_directory(_: object = None) -> Place:
    """Return a directory of a file system in memory, for the tests that store much."""
    files = FakeFiles()
    files.mkdir(Path("/data"))
    return Place(lambda name: Directory(Path("/data") / name, files))


def memory(_: object = None) -> Place:
    """Return a place in memory, with the manners of S3: no locks, no appending, pages of 1,000 keys."""
    buckets: dict[str, MemoryBucket] = {}
    return Place(lambda name: MemoryObjects(buckets.setdefault(name, MemoryBucket(name))))


def memory_with_locks(_: object = None) -> Place:
    """Return the same, with locks."""
    buckets: dict[str, MemoryBucket] = {}
    taken: dict[str, dict[str, Lock]] = {}
    return Place(lambda name: LockingMemory(buckets.setdefault(name, MemoryBucket(name)), taken.setdefault(name, {})))


# By hand


@dataclass(frozen=True)
class Kept:
    """An object of a store that a test looks at, or changes behind everybody's back."""

    store: Store
    key: str

    @property
    def is_there(self) -> bool:
        return self.store.objects.stat(self.key) is not None

    def read(self) -> bytes:
        content = self.store.objects.get(self.key)
        assert content is not None, f"{self.key} is not there"
        return content

    def write(self, content: Buffer) -> None:
        self.store.objects.replace(self.key, content)

    def flip(self, at: int, bits: int) -> None:
        """Change some bits of one byte."""
        content = bytearray(self.read())
        content[at] ^= bits
        self.write(content)

    def remove(self) -> None:
        assert self.is_there, f"{self.key} is not there"
        self.store.objects.delete([self.key])


def kept_block(store: Store, block: str) -> Kept:
    return Kept(store, block_path(block))


def kept_ledger(store: Store, writer: str) -> Kept:
    """Return a writer's ledger, where it is: a generator's or of maintenance."""
    kept = Kept(store, ledger_path(writer))
    return kept if kept.is_there or store.maintenance_ledger(writer) is None else kept_entry(store, writer)


def kept_entry(store: Store, writer: str) -> Kept:
    """Return the entry of the maintenance log in which a writer recorded something."""
    return Kept(store, maintenance_path(number_of(store, writer)))


def kept_marker(store: Store, writer: str) -> Kept:
    """Return what leads to that entry from its day."""
    return Kept(store, marker_path(number_of(store, writer), writer))


def number_of(store: Store, writer: str) -> int:
    """Return the number of that entry."""
    (number,) = (number for one, number, _ in store.maintenance_starts(day_of(writer)) if one == writer)
    return number


class Watched(Checked):
    """Another place, that remembers which verbs changed it, and what."""

    def __init__(self, objects: Objects) -> None:
        super().__init__(objects)
        self.changes: list[tuple[str, str]] = []

    @contextmanager
    def change(self, verb: str, key: str) -> Iterator[None]:
        """A change is made in here."""
        self.changes.append((verb, key))
        yield

    def create(self, key: str, content: Buffer) -> bool:
        with self.change("create", key):
            return super().create(key, content)

    def replace(self, key: str, content: Buffer) -> None:
        with self.change("replace", key):
            super().replace(key, content)

    def replace_ended(self, key: str, content: Buffer) -> None:
        with self.change("replace_ended", key):
            super().replace_ended(key, content)

    def settle_log(self, key: str, content: Buffer) -> None:
        with self.change("settle_log", key):
            super().settle_log(key, content)

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            with self.change("delete", key):
                super().delete([key])

    def append(self, key: str, number: int, lines: bytes) -> None:
        with self.change("append", key):
            super().append(key, number, lines)

    def settle(self, key: str) -> None:
        with self.change("settle", key):
            super().settle(key)


class KilledHere(BaseException):
    """The process ends, as by kill -9: no handler of ordinary errors may see it."""


class Mortal(Watched):
    """Another place, whose process is killed before one of its changes takes effect: the one of this number, from 0.

    Nothing that a handler does on the way out takes effect either.
    """

    def __init__(self, objects: Objects, at: int) -> None:
        super().__init__(objects)
        self._at = at

    @contextmanager
    def change(self, verb: str, key: str) -> Iterator[None]:
        if len(self.changes) == self._at:
            raise KilledHere
        with super().change(verb, key):
            yield
