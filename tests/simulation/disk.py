"""A host's disk: what POSIX promises is kept, everything else is the seed's choice.

When the host dies, each name that was made or taken away since the last fsync of its directory is kept or not, each for
itself; of each file, what was written since its last fsync is kept up to some byte, as zeros from some page on, or not
at all. After a failed fsync the pages count as clean: a second fsync succeeds and saves nothing of them. They can be
read, by whatever process, until they leave the kernel's memory or the machine loses its power.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
from fake_files import FakeFiles, Node

from kcl_receiver.store.files import Found
from simulation.timeline import Killed

CHANGING = frozenset({"create", "write", "fsync", "truncate", "fsync_dir", "mkdir", "rename", "link", "unlink"})
_NEEDS_ROOM = frozenset({"create", "write", "mkdir"})


class SimFiles(FakeFiles):
    """One host's file system.

    Attributes:
        full_until: Until when the disk is full.
        errors: Calls that fail with EIO, how often each.
        errors_part: Only on paths that contain this.
        kill_after_error: The first call that changes something after one that failed with EIO kills who makes it.
        reading: Told of every path that is looked at or read; None for nobody.
    """

    def __init__(self, rng: random.Random, clock: object) -> None:
        super().__init__()
        self.rng = rng
        self._timeline = clock
        self.full_until = 0.0
        self.errors: dict[str, int] = {}
        self.errors_part = ""
        self._kill: tuple[int, str] | None = None
        self.kill_after_error = False
        self.reading: Callable[[Path], None] | None = None
        self.changes = 0
        self._dropped: dict[Node, list[tuple[int, int]]] = {}  # stretches whose write-back failed
        self._folders: dict[str, Node] = {}

    def kill_in(self, part: str, calls: int) -> None:
        """Kill who makes a changing call on paths that contain this: so many of them from now."""
        self._kill = calls, part

    def heal(self) -> None:
        """No fault from here on."""
        self.full_until = 0.0
        self.errors.clear()
        self._kill, self.kill_after_error = None, False

    def troubled_until(self) -> float:
        """Until when what is stored may be late for a fault's sake."""
        return self.full_until

    def _step(self, call: str, path: Path) -> None:
        if call not in CHANGING:
            return
        self.changes += 1
        if self._kill is not None and self._kill[1] in str(path):
            left, part = self._kill
            self._kill = (left - 1, part) if left else None
            if not left:
                raise Killed
        if self._timeline.now < self.full_until and call in _NEEDS_ROOM and "/store" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        if self.errors.get(call) and self.errors_part in str(path):
            self.errors[call] -= 1
            if self.kill_after_error:
                self.kill_after_error, self._kill = False, (0, "")
            raise OSError(errno.EIO, "Input/output error", str(path))

    def _find(self, path: Path) -> Node | None:
        # Directories never move or go here, so where one was it is.
        folder, _, name = str(path).rpartition("/")
        if not folder:
            return (self.root.names or {}).get(name) if name else self.root
        parent = self._folders.get(folder)
        if parent is None:
            parent = super()._find(path.parent)
            if parent is None or parent.names is None:
                return None
            self._folders[folder] = parent
        return (parent.names or {}).get(name)

    def size(self, path: Path) -> int | None:
        if self.reading is not None:
            self.reading(path)
        return super().size(path)

    def listdir(self, path: Path) -> Iterator[Found]:
        if self.reading is not None:
            self.reading(path)
        return super().listdir(path)

    def read(self, path: Path) -> bytes:
        if self.reading is not None:
            self.reading(path)
        return super().read(path)

    def open_random(self, path: Path) -> pa.NativeFile:
        if self.reading is not None:
            self.reading(path)
        return super().open_random(path)

    def write(self, handle: int, content: object) -> None:
        node, path = self._open[handle]
        whole = bytes(memoryview(content).cast("B"))
        try:
            self._step("write", path)
        except BaseException:
            node.content += whole[: self.rng.randrange(len(whole) + 1)]
            raise
        node.content += whole

    def fsync(self, handle: int) -> None:
        node, path = self._open[handle]
        try:
            self._step("fsync", path)
        except OSError:
            self._dropped.setdefault(node, []).append((len(node.durable), len(node.content)))
            raise
        durable = bytearray(node.content)
        for start, stop in self._dropped.get(node, ()):
            stop = min(stop, len(durable))
            if start < stop:
                durable[start:stop] = bytes(stop - start)
        node.durable = bytes(durable)

    def truncate(self, handle: int, length: int) -> None:
        super().truncate(handle, length)
        node, _ = self._open[handle]
        if node in self._dropped:
            self._dropped[node] = [(start, min(stop, length)) for start, stop in self._dropped[node] if start < length]

    def lose(self, path: Path) -> None:
        """A file is gone for good, by nobody's call."""
        parent = self._find(path.parent)
        if parent is not None and parent.names is not None:
            parent.names.pop(path.name, None)
            parent.durable_names.pop(path.name, None)
            self.changes += 1

    def damage(self, path: Path) -> None:
        """A byte of a file is another one for good, by nobody's call."""
        parent = self._find(path.parent)
        assert parent is not None
        assert parent.names is not None
        node = parent.durable_names[path.name] = parent.names[path.name]
        node.content[self.rng.randrange(len(node.content) - 1)] ^= 1
        node.durable = bytes(node.content)
        self.changes += 1

    def process_died(self) -> None:
        """Its handles are gone; what it wrote stays in the kernel's memory.

        Pages whose write-back failed stay there as well, or leave it: then whoever comes next reads what is on the
        disk.
        """
        self._open.clear()
        if self._dropped and self.rng.random() < 0.5:
            for node, stretches in self._dropped.items():
                for start, end in stretches:
                    stop = min(end, len(node.content))
                    if start < stop:
                        node.content[start:stop] = bytes(stop - start)
            self._dropped.clear()
        self._kill = None

    def power_lost(self) -> None:
        """The host died: from here on is what the disk kept."""
        self._open.clear()
        self._folders.clear()
        self.errors.clear()
        self._kill, self.kill_after_error = None, False
        everything = self.rng.choice((True, False, None))
        self.root = self._kept(self.root, everything)
        self._dropped.clear()

    def _kept(self, node: Node, everything: bool | None) -> Node:
        if node.names is None:
            content = self._kept_content(node, everything)
            return Node(bytearray(content), content)
        names: dict[str, Node] = {}
        for name in [*node.durable_names, *(name for name in node.names if name not in node.durable_names)]:
            before, after = node.durable_names.get(name), node.names.get(name)
            if before is not after and (self.rng.random() < 0.5 if everything is None else everything):
                before = after
            if before is not None:
                names[name] = self._kept(before, everything)
        return Node(names=names, durable_names=dict(names))

    def _kept_content(self, node: Node, everything: bool | None) -> bytes:
        content = bytes(node.content)
        if content == node.durable or everything is False:
            return node.durable
        if everything or node in self._dropped:
            return node.durable if node in self._dropped else content
        same = 0
        while same < min(len(content), len(node.durable)) and content[same] == node.durable[same]:
            same += 1
        if same < len(node.durable):  # it was cut, and written anew
            return node.durable if self.rng.random() < 0.5 else content[: self.rng.randint(same, len(content))]
        kept = content[: self.rng.randint(same, len(content))]
        if self.rng.random() < 0.25:  # the length was kept, and the last page was not
            zeros = self.rng.randint(0, len(kept) - same)
            kept = kept[: len(kept) - zeros] + bytes(zeros)
        return kept
