"""Where a host stores, and what of it would survive: a directory on its own disk, or a bucket."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fake_files import FakeFiles, Node
from store_support import local_store

from kcl_receiver.store.bucket import BucketObjects
from kcl_receiver.store.layout import block_path
from kcl_receiver.store.ledger.entries import begun_by
from kcl_receiver.store.local import Directory
from kcl_receiver.store.memory import MemoryBucket
from kcl_receiver.store.objects import Objects
from kcl_receiver.store.store import Store
from simulation.bucket import Line, SimBucket
from simulation.disk import SimFiles

if TYPE_CHECKING:
    from simulation.fleet import Fleet

ROOT = "/data/store"
Token = Callable[[], str]


@dataclass
class Held:
    """What would survive, by the names of the files."""

    blocks: dict[str, bytes] = field(default_factory=dict)
    ledgers: dict[str, bytes] = field(default_factory=dict)
    maintenance: dict[str, bytes] = field(default_factory=dict)
    log: dict[str, bytes] = field(default_factory=dict)


class DiskPlace:
    """A directory of a host.

    Attributes:
        name: The host's.
        medium: What faults strike.
    """

    def __init__(self, name: str, files: SimFiles) -> None:
        self.name = name
        self.medium: SimFiles = files

    @property
    def changes(self) -> int:
        return self.medium.changes

    def objects(self, token: Token) -> Objects:
        """Return the place for a process of the host."""
        return Directory(ROOT, self.medium, token)

    def far_objects(self) -> Objects:
        """Return the place for a reader, on whatever host."""
        return Directory(ROOT, self.medium)

    def look(self) -> Store:
        """Return the store for who judges it: no fault is in the way."""
        return local_store(ROOT, self.medium)

    def came_late(self, block: str) -> bool:
        """Return whether a block came when its writer had given it up."""
        del block
        return False

    def lose(self, key: str) -> None:
        """An object is gone for good, by nobody's call."""
        self.medium.lose(Path(ROOT) / key)

    def damage(self, key: str) -> None:
        """A byte of an object is another one for good, by nobody's call."""
        self.medium.damage(Path(ROOT) / key)

    def held(self) -> Held:
        """Return what would survive a loss of power now."""
        store = _durable(_durable(self.medium.root, "data"), "store")
        months = dict(_names(_durable(store, "ledger")))
        months.pop("maintenance", None)  # what leads to entries of the maintenance log
        months.pop("damaged", None)
        out = Held(maintenance=_contents(_durable(store, "maintenance")), log=_contents(_durable(store, "log")))
        for month in months.values():
            out.ledgers |= {name: node.durable for name, node in _names(month).items()}
        out.blocks = _contents(_durable(store, "blocks"))
        return out

    def maintenance_seen(self) -> Iterator[bytes]:
        """Yield the maintenance ledgers that can be read, durable or not."""
        for thousand in _visible(self.medium.root, "data", "store", "maintenance").values():
            for node in (thousand.names or {}).values():
                yield bytes(node.content)


class BucketPlace:
    """A bucket, and a host's line to it.

    Attributes:
        name: The bucket's.
        medium: What faults strike: the line.
        most_appends: After how many appends a ledger gives way to the next one.
    """

    def __init__(self, fleet: Fleet, bucket: SimBucket, *, weather: float) -> None:
        self.name = bucket.objects.url.rpartition("/")[2]
        self.bucket = bucket
        self.medium = Line(bucket, fleet, weather=weather)
        self.most_appends = random.Random(f"{fleet.seed} {self.name} appends").choice((2, 4, 12, 256))
        self._fleet = fleet

    @property
    def changes(self) -> int:
        return self.bucket.changes

    def objects(self, token: Token) -> Objects:
        """See `DiskPlace.objects`."""
        del token
        return BucketObjects(self.medium, self.most_appends)

    def far_objects(self) -> Objects:
        """See `DiskPlace.far_objects`."""
        return BucketObjects(Line(self.bucket, self._fleet), self.most_appends)

    def look(self) -> Store:
        """See `DiskPlace.look`."""
        return Store(BucketObjects(self.bucket.objects))

    def came_late(self, block: str) -> bool:
        """See `DiskPlace.came_late`."""
        return block_path(block) in self.bucket.came_late

    def lose(self, key: str) -> None:
        """See `DiskPlace.lose`."""
        self.bucket.remove([key])

    def damage(self, key: str) -> None:
        """See `DiskPlace.damage`."""
        content = bytearray(self.bucket.held[key])
        content[self.bucket.rng.randrange(len(content) - 1)] ^= 1
        self.bucket.put(key, bytes(content), if_absent=False)

    def held(self) -> Held:
        """See `DiskPlace.held`: all that is there."""
        out = Held()
        for key, content in self.bucket.held.items():
            first, _, _ = key.partition("/")
            name = key.rpartition("/")[2]
            if first == "blocks":
                out.blocks[name] = content
            elif first == "log":
                out.log[name] = content
            elif first == "maintenance":
                out.maintenance[name] = content
        for key in self.bucket.logs():
            if not key.startswith(("maintenance/", "ledger/damaged/")):
                out.ledgers[key.rpartition("/")[2]] = self.bucket.log(key)
        return out

    def maintenance_seen(self) -> Iterator[bytes]:
        """See `DiskPlace.maintenance_seen`."""
        yield from self.held().maintenance.values()


Place = DiskPlace | BucketPlace


def together(places: list[Place]) -> Store:
    """Return a store that holds what those of several places do. The files of one lie over those of another."""
    disks = [one.medium.root for one in places if isinstance(one, DiskPlace)]
    if disks:
        files = FakeFiles()
        files.root = _merged(disks)
        return _with_all_entries(local_store(ROOT, files), places)
    bucket = MemoryBucket("together")
    for place in places:
        for one in place.look().objects.list(""):
            content = place.look().objects.get(one.key)
            assert content is not None
            bucket.put(one.key, content, if_absent=False)
    return _with_all_entries(Store(BucketObjects(bucket)), places)


def _with_all_entries(store: Store, places: list[Place]) -> Store:
    """Put the entries of all maintenance logs one behind another: each log begins with the number 1."""
    listed = [one.key for prefix in ("maintenance/", "ledger/maintenance/") for one in store.objects.list(prefix)]
    store.objects.delete(listed)
    number = 0
    for look in [place.look() for place in places]:
        for content in filter(None, map(look.maintenance_entry, look.maintenance_numbers())):
            number += 1
            store.create_maintenance_entry(number, begun_by(content) or "", content)
    return store


def _merged(nodes: list[Node]) -> Node:
    directories = [node for node in nodes if node.names is not None]
    if not directories:
        return nodes[0]
    found: dict[str, list[Node]] = {}
    for node in directories:
        for name, below in (node.names or {}).items():
            found.setdefault(name, []).append(below)
    return Node(names={name: _merged(below) for name, below in found.items()})


def _contents(node: Node | None) -> dict[str, bytes]:
    """Return the durable files one level below a directory."""
    return {name: one.durable for below in _names(node).values() for name, one in _names(below).items()}


def _names(node: Node | None) -> dict[str, Node]:
    return {} if node is None or node.names is None else node.durable_names


def _visible(node: Node, *names: str) -> dict[str, Node]:
    for name in names:
        if node.names is None or name not in node.names:
            return {}
        node = node.names[name]
    return node.names or {}


def _durable(node: Node | None, name: str) -> Node | None:
    return _names(node).get(name)
