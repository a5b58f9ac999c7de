"""A file system in memory that is full, breaks or loses its power where a test wants it to.

It keeps what POSIX promises and no more: the content of a file is durable after fsync of the file, a name after fsync
of its directory. What else survives a loss of power is the test's choice, because it is the disk's.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from kcl_receiver.store.files import Files, Found
from kcl_receiver.wire.columns import Buffer


class PowerLoss(BaseException):
    """The machine stops here. No handler of ordinary errors may see it."""


@dataclass(eq=False)  # a node is itself, whatever it holds
class Node:
    content: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    names: dict[str, Node] | None = None
    durable_names: dict[str, Node] = field(default_factory=dict)


class FakeFiles(Files):
    """`fail(call, errno)` makes one coming call fail; `stop_at` counts down changing calls to a loss of power."""

    def __init__(self) -> None:
        self.root = Node(names={})
        self.calls: list[tuple[str, str]] = []
        self.stop_at: int | None = None
        self.fail_at: int | None = None
        self.fail_errno = errno.ENOSPC
        self._failures: list[tuple[str, str, int]] = []
        self._open: dict[int, tuple[Node, Path]] = {}
        self._next = 3

    def fail(self, call: str, code: int, part: str = "") -> None:
        """Let the next `call` on a path that contains `part` fail."""
        self._failures.append((call, part, code))

    def lose_power(self, *, names_survive: bool = False, contents_survive: bool = False) -> FakeFiles:
        """Return the file system as it is found after the machine is started again."""
        after = FakeFiles()
        after.root = self._survivor(self.root, names_survive, contents_survive)
        return after

    def killed(self) -> FakeFiles:
        """Let the process end here: its locks are free, all else can be seen, and what was not fsynced may yet go."""
        self.stop_at = None
        self._open.clear()
        return self

    def _survivor(self, node: Node, names_survive: bool, contents_survive: bool) -> Node:
        if node.names is None:
            content = bytes(node.content) if contents_survive else node.durable
            return Node(bytearray(content), content)
        kept = node.names if names_survive else node.durable_names
        names = {name: self._survivor(one, names_survive, contents_survive) for name, one in kept.items()}
        return Node(names=names, durable_names=dict(names))

    def _step(self, call: str, path: Path) -> None:
        self.calls.append((call, str(path)))
        for failure in self._failures:
            if failure[0] == call and failure[1] in str(path):
                self._failures.remove(failure)
                raise OSError(failure[2], f"{call} was made to fail", str(path))
        if self.stop_at is not None:
            if self.stop_at == 0:
                raise PowerLoss
            self.stop_at -= 1
        if self.fail_at is not None:
            self.fail_at -= 1
            if self.fail_at == -1:
                raise OSError(self.fail_errno, f"{call} was made to fail", str(path))

    def _find(self, path: Path) -> Node | None:
        node = self.root
        for part in path.parts[1:]:
            if node.names is None or part not in node.names:
                return None
            node = node.names[part]
        return node

    def _get(self, path: Path) -> Node:
        node = self._find(path)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
        return node

    def _names(self, path: Path) -> dict[str, Node]:
        node = self._get(path)
        if node.names is None:
            raise NotADirectoryError(errno.ENOTDIR, "Not a directory", str(path))
        return node.names

    def _handle(self, node: Node, path: Path) -> int:
        self._next += 1
        self._open[self._next] = node, path
        return self._next

    @property
    def open_handles(self) -> int:
        return len(self._open)

    def create(self, path: Path) -> int:
        self._step("create", path)
        names = self._names(path.parent)
        if path.name in names:
            raise FileExistsError(errno.EEXIST, "File exists", str(path))
        names[path.name] = Node()
        return self._handle(names[path.name], path)

    def open(self, path: Path) -> int:
        self._step("open", path)
        return self._handle(self._get(path), path)

    def write(self, handle: int, content: Buffer) -> None:
        node, path = self._open[handle]
        whole = bytes(memoryview(content).cast("B"))
        try:
            self._step("write", path)
        except BaseException:
            node.content += whole[: len(whole) // 2]  # as a full disk does, and a loss of power
            raise
        node.content += whole

    def fsync(self, handle: int) -> None:
        node, path = self._open[handle]
        self._step("fsync", path)
        node.durable = bytes(node.content)

    def truncate(self, handle: int, length: int) -> None:
        node, path = self._open[handle]
        self._step("truncate", path)
        del node.content[length:]

    def close(self, handle: int) -> None:
        del self._open[handle]

    def fsync_dir(self, path: Path) -> None:
        self._step("fsync_dir", path)
        node = self._get(path)
        assert node.names is not None
        node.durable_names = dict(node.names)

    def mkdir(self, path: Path) -> None:
        self._step("mkdir", path)
        names = self._names(path.parent)
        if path.name in names:
            raise FileExistsError(errno.EEXIST, "File exists", str(path))
        names[path.name] = Node(names={})

    def rename(self, old: Path, new: Path) -> None:
        self._step("rename", new)
        node = self._get(old)
        self._names(new.parent)[new.name] = node
        del self._names(old.parent)[old.name]

    def link(self, old: Path, new: Path) -> None:
        self._step("link", new)
        names = self._names(new.parent)
        if new.name in names:
            raise FileExistsError(errno.EEXIST, "File exists", str(new))
        names[new.name] = self._get(old)

    def unlink(self, path: Path) -> None:
        self._step("unlink", path)
        self._get(path)
        del self._names(path.parent)[path.name]

    def size(self, path: Path) -> int | None:
        node = self._find(path)
        return None if node is None else len(node.content)

    def modified(self, path: Path) -> float:
        self._get(path)
        return 0.0

    def is_dir(self, path: Path) -> bool:
        node = self._find(path)
        return node is not None and node.names is not None

    def listdir(self, path: Path) -> Iterator[Found]:
        for name, node in list(self._names(path).items()):
            yield Found(name, node.names is not None, len(node.content), 0.0)

    def read(self, path: Path) -> bytes:
        return bytes(self._get(path).content)

    def lock(self, path: Path) -> int:
        names = self._names(path.parent)
        node = names.setdefault(path.name, Node())
        if any(held is node for held, _ in self._open.values()):
            raise BlockingIOError(errno.EWOULDBLOCK, "Resource temporarily unavailable", str(path))
        return self._handle(node, path)

    def open_random(self, path: Path) -> pa.NativeFile:
        return pa.BufferReader(self.read(path))
