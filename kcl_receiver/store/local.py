"""A block store in a local directory.

    store.json                         whose store it is, and of which format
    blocks/<day>/<block id>.parquet    the blocks
    ledger/<writer id>.jsonl           what a writer appends to
    ledger/sealed/<month>/<writer id>.jsonl   the same, of writers whose end another has named
    ledger/maintenance/<day>/<writer id>.jsonl   what maintenance did to the blocks of a day, a file for each time
    tmp/<name>.<token>.tmp             what is being written; never read
    ledger/damaged/...                 damaged ledgers that repair has set aside; never read
    lock                               empty; the generator that writes to the store holds its lock
    maintenance.lock                   the same for maintenance
    maintenance.asked                  empty; other maintenance waits for compaction to give way

The rule: a file is written under a temporary name, fsynced, renamed to its own name, and then the directory is fsynced,
and so is the parent of every directory that was made on the way. Only the ledger is appended to in place; a torn end
is cut off before anything follows it. After a failed fsync the kernel may drop what it could not write and say no more
about it, so a new try writes everything again and never relies on fsyncing the same pages twice.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from kcl_receiver.errors import SEE_RECOVER, BlockMissing, LedgerDamaged, ReceiverError, StoreRefused, StoreUnavailable
from kcl_receiver.store import names
from kcl_receiver.store.base import STORE_DOCUMENT, BlockStore
from kcl_receiver.store.files import Files, OsFiles
from kcl_receiver.store.reads import unavailable
from kcl_receiver.wire.columns import Buffer

if TYPE_CHECKING:
    import pyarrow as pa

TMP = "tmp"
TMP_SUFFIX = ".tmp"
LOCK = "lock"
DAMAGED = "damaged"
"""Where `repair` keeps damaged ledgers, below `ledger`. Nothing reads them."""
MAINTENANCE_LOCK = "maintenance.lock"
MAINTENANCE_ASKED = "maintenance.asked"
_START_BYTES = 4096


class _Tail(NamedTuple):
    """The end of a writer's ledger as far as it is known to be durable."""

    length: int
    lines: int


def _random_token() -> str:
    return secrets.token_hex(4)


class LocalStore(BlockStore):
    """See the module.

    Args:
        root: The store's directory, absolute. It is made, with its parents, when something is first written.
        files: The file system.
        token: Gives the random part of temporary names.
    """

    def __init__(self, root: str | Path, files: Files | None = None, token: Callable[[], str] = _random_token) -> None:
        self.root = Path(root)
        self.url = "file://" + quote(str(self.root))
        self._files = files if files is not None else OsFiles()
        self._token = token
        self._root_lock = threading.Lock()  # one thread at a time makes the root
        self._lock = threading.Lock()  # guards the four below
        self._failed: dict[Path, int] = {}
        self._locks: dict[str, int] = {}
        self._durable: set[Path] = set()
        self._unsynced: list[Path] = []
        self._tails: dict[str, _Tail] = {}

    def hold(self) -> None:
        """See `BlockStore.hold`."""
        hint = "one generator at a time: give each host, and each application, a directory of its own"
        if self._hold(LOCK, "another generator writes to", hint):
            self._clear_temporaries()

    def hold_maintenance(self, *, ask: bool = True) -> None:
        """See `BlockStore.hold_maintenance`."""
        hint = "compaction gives way within a minute or so: try again; wait for the end of recover, repair or expire"
        try:
            self._hold(MAINTENANCE_LOCK, "other maintenance works on", hint)
        except StoreUnavailable as error:
            if ask and isinstance(error.__cause__, BlockingIOError):
                path = self.root / MAINTENANCE_ASKED
                with self._trouble(f"{path} cannot be made"), suppress(FileExistsError):
                    self._files.close(self._files.create(path))
            raise

    def is_asked_for(self) -> bool:
        """See `BlockStore.is_asked_for`."""
        path = self.root / MAINTENANCE_ASKED
        with self._trouble(f"{path} cannot be removed"):
            if self._files.size(path) is None:
                return False
            self._files.unlink(path)
            return True

    def _clear_temporaries(self) -> None:
        """Remove the temporary files of generators: all of them have ended, and a loop of crashes would fill the disk.

        Those of maintenance, which may be at work, have ids that no generator's ledger has.
        """
        # What cannot be removed hurts nobody: it is among the leftovers, and `repair` says so.
        with suppress(StoreUnavailable):
            left = [name for name, *_ in self.temporaries()]
            generators = set(self.writers()) if left else set()
            for name in left:
                if name[: names.WRITER_LENGTH] in generators:
                    self.delete_temporary(name)

    def _hold(self, name: str, who: str, hint: str) -> bool:
        """Hold a lock; return whether it was not held before."""
        path = self.root / name
        held = self._locks.get(name)
        with self._trouble(f"{path} cannot be locked"):
            if held is not None and self._files.still_locks(held, path):
                return False
            self._make_dir(self.root)
            try:
                self._locks[name] = self._files.lock(path)
            except BlockingIOError as error:
                raise StoreUnavailable(f"{who} the store {self.url}: it holds the lock of {path}", hint) from error
            if held is None:
                return True
            self._files.close(held)  # its file was removed: it kept nobody out
        return False

    @contextmanager
    def without_generator(self) -> Iterator[bool]:
        """See `BlockStore.without_generator`."""
        path = self.root / LOCK
        with self._trouble(f"{path} cannot be locked"):
            try:
                handle = self._files.lock(path)
            except BlockingIOError:
                handle = None
        try:
            yield handle is not None
        finally:
            if handle is not None:
                self._files.close(handle)

    # Blocks

    def put_block(self, block_id: str, payload: Buffer) -> None:
        """See `BlockStore.put_block`."""
        path = self._block(block_id)
        with self._trouble(f"block {block_id} was not stored at {path}"):
            self._put_once(path, payload, f"block {block_id}")

    def has_block(self, block_id: str) -> bool:
        """See `BlockStore.has_block`."""
        path = self._block(block_id)
        with self._trouble(f"cannot tell whether block {block_id} is at {path}"):
            return self._files.size(path) is not None

    def read_block(self, block_id: str) -> bytes:
        """See `BlockStore.read_block`."""
        path = self._block(block_id)
        with self._trouble(f"block {block_id} cannot be read from {path}", missing=block_id):
            return self._read(path)

    def open_raw(self, block_id: str) -> pa.NativeFile:
        """See `BlockStore.open_raw`."""
        return self._files.open_random(self._block(block_id))

    def list_blocks(self) -> Iterator[tuple[str, int]]:
        """See `BlockStore.list_blocks`."""
        for day, name, size in self._below_blocks():
            block = name.removesuffix(names.BLOCK_SUFFIX)
            if names.is_block(day, name):
                yield block, size

    def blocks_of(self, writer: str) -> Iterator[tuple[str, int]]:
        """See `BlockStore.blocks_of`."""
        day = names.day_of(writer)
        for name, is_dir, size in self._listed(f"{names.BLOCKS}/{day}"):
            if name.startswith(f"{writer}-") and not is_dir and names.is_block(day, name):
                yield name.removesuffix(names.BLOCK_SUFFIX), size

    def settle_block(self, block_id: str) -> None:
        """See `BlockStore.settle_block`."""
        path = self._block(block_id)
        with self._trouble(f"block {block_id} at {path} is not known to be durable", missing=block_id):
            if self._files.size(path) is None:
                raise FileNotFoundError
            self._put_once(path, self._read(path) if path.parent in self._failed else None, f"block {block_id}")

    def delete_block(self, block_id: str) -> None:
        """See `BlockStore.delete_block`."""
        self.delete_blocks([block_id])

    def delete_blocks(self, block_ids: Iterable[str]) -> None:
        """See `BlockStore.delete_blocks`."""
        directories: dict[Path, str] = {}
        for block in block_ids:
            path = self._block(block)
            directories[path.parent] = block
            with self._trouble(f"block {block} at {path} was not deleted"):
                if self._files.size(path) is not None:
                    self._files.unlink(path)
        for directory, block in directories.items():
            with self._trouble(f"block {block} in {directory} is not known to be deleted for good"):
                if self._files.is_dir(directory):
                    self._files.fsync_dir(directory)

    # Ledger

    def append_ledger(self, writer: str, first_number: int, lines: bytes) -> None:
        """See `BlockStore.append_ledger`."""
        if first_number < 1 or not lines.endswith(b"\n"):
            raise ValueError("a ledger is appended to by whole lines, numbered from 1")
        path = self.root / names.ledger_path(writer)
        with self._trouble(f"the ledger {path} was not appended to"):
            tail = self._tails.get(writer)
            if tail is None or first_number != tail.lines + 1:
                tail = self._find_place(path, first_number, lines)
                if tail is None:  # the last try wrote them, and did not see them become durable
                    self.settle_ledger(writer, self._read(path))
                    return
            self._make_dir(path.parent)
            size = self._files.size(path)
            if (size or 0) < tail.length:
                raise LedgerDamaged(
                    f"the ledger {path} has {size or 0} bytes, and {tail.length} were durable",
                    "something else writes to this file: stop it, then let `kcl-receiver repair` look at it",
                )
            with self._opened(self._files.create(path) if size is None else self._files.open(path)) as handle:
                if size is not None and size > tail.length:
                    self._files.truncate(handle, tail.length)
                self._files.write(handle, lines)
                self._files.fsync(handle)
            if path not in self._durable:
                self._files.fsync_dir(path.parent)
            with self._lock:
                self._durable.add(path)
                self._tails[writer] = _Tail(tail.length + len(lines), tail.lines + lines.count(b"\n"))

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

    def open_ledgers(self) -> Iterator[tuple[str, bytes]]:
        """See `BlockStore.open_ledgers`."""
        for name, is_dir, _ in self._listed(names.LEDGER):
            if not is_dir and names.is_ledger(name):
                writer = name.removesuffix(names.LEDGER_SUFFIX)
                content = self._read_if_there(self.root / names.ledger_path(writer))
                if content is not None:  # else it was sealed since it was listed
                    yield writer, content

    def sealed_ledgers(self, since: str = "") -> Iterator[tuple[str, bytes]]:
        """See `BlockStore.sealed_ledgers`."""
        for month, name, _ in self._below_sealed(since):
            if names.is_sealed(month, name):
                writer = name.removesuffix(names.LEDGER_SUFFIX)
                content = self.sealed_ledger(writer)
                if content is not None:
                    yield writer, content

    def sealed_ledger(self, writer: str) -> bytes | None:
        """See `BlockStore.sealed_ledger`."""
        return self._read_if_there(self.root / names.sealed_path(writer))

    def seal_ledger(self, writer: str) -> None:
        """See `BlockStore.seal_ledger`."""
        path, sealed = self.root / names.ledger_path(writer), self.root / names.sealed_path(writer)
        with self._trouble(f"the ledger {path} was not sealed"):
            if self._files.size(path) is None:
                return
            self._make_dir(sealed.parent)
            if sealed.parent in self._failed and self._files.size(sealed) is not None:
                self._files.unlink(sealed)  # a name whose fsync failed may be dropped: it is made anew
            with suppress(FileExistsError):  # a writer was killed between this step and the last one
                self._files.link(path, sealed)
            self._make_name_durable(sealed)
            # Not before the new name is durable: which of two names survives a loss of power is the disk's choice.
            self._files.unlink(path)
            self._files.fsync_dir(path.parent)

    def settle_ledger(self, writer: str, content: bytes) -> None:
        """See `BlockStore.settle_ledger`."""
        path = self.root / names.ledger_path(writer)
        with self._trouble(f"the ledger {path} is not known to be durable"):
            self._write_anew(path, content)
            self._make_name_durable(path)

    def writers(self) -> list[str]:
        """See `BlockStore.writers`."""
        opened = [name for name, is_dir, _ in self._listed(names.LEDGER) if not is_dir and names.is_ledger(name)]
        sealed = [name for month, name, _ in self._below_sealed() if names.is_sealed(month, name)]
        return sorted({name.removesuffix(names.LEDGER_SUFFIX) for name in (*opened, *sealed)})

    def ledger(self, writer: str) -> bytes | None:
        """See `BlockStore.ledger`."""
        for path in (names.ledger_path(writer), names.sealed_path(writer)):
            content = self._read_if_there(self.root / path)
            if content is not None:
                return content
        return None

    def maintenance_days(self) -> list[str]:
        """See `BlockStore.maintenance_days`."""
        return [day for day, is_dir, _ in self._listed(f"{names.LEDGER}/{names.MAINTENANCE}") if is_dir]

    def maintenance_ledgers(self, day: str) -> Iterator[tuple[str, bytes]]:
        """See `BlockStore.maintenance_ledgers`."""
        for name, is_dir, _ in self._listed(f"{names.LEDGER}/{names.MAINTENANCE}/{day}"):
            if not is_dir and names.is_maintenance(day, name):
                writer = name.removesuffix(names.LEDGER_SUFFIX)
                content = self.maintenance_ledger(writer)
                if content is not None:
                    yield writer, content

    def maintenance_starts(self, day: str) -> Iterator[tuple[str, bytes]]:
        """See `BlockStore.maintenance_starts`."""
        for name, is_dir, _ in self._listed(f"{names.LEDGER}/{names.MAINTENANCE}/{day}"):
            if not is_dir and names.is_maintenance(day, name):
                writer = name.removesuffix(names.LEDGER_SUFFIX)
                path = self.root / names.maintenance_path(writer)
                with self._trouble(f"the ledger {path} cannot be read"), self._files.open_random(path) as file:
                    line = bytearray()
                    while b"\n" not in line and (piece := file.read(_START_BYTES)):
                        line += piece
                yield writer, bytes(line[: line.find(b"\n") + 1])

    def maintenance_ledger(self, writer: str) -> bytes | None:
        """See `BlockStore.maintenance_ledger`."""
        return self._read_if_there(self.root / names.maintenance_path(writer))

    def put_maintenance_ledger(self, writer: str, content: bytes) -> None:
        """See `BlockStore.put_maintenance_ledger`."""
        path = self.root / names.maintenance_path(writer)
        with self._trouble(f"the ledger {path} was not written"):
            self._put_once(path, content, f"the ledger {writer}")

    # Documents

    def put_document_if_absent(self, name: str, content: bytes) -> bytes:
        """See `BlockStore.put_document_if_absent`."""
        path = self.root / names.check_document_name(name)
        with self._trouble(f"{path} was not written"):
            self._make_dir(self.root)
            if self._files.size(path) is None:
                temporary = self._write_temporary(name, content)
                try:
                    with suppress(FileExistsError):  # another one was first: its content is the one that counts
                        self._files.link(temporary, path)
                finally:
                    self._discard(temporary)
            self._files.fsync_dir(self.root)  # also for one that another has made and not yet fsynced
            return self._read(path)

    def get_document(self, name: str) -> bytes | None:
        """See `BlockStore.get_document`."""
        path = self.root / names.check_document_name(name)
        with self._trouble(f"{path} cannot be read"):
            return None if self._files.size(path) is None else self._read(path)

    # The rest

    def list_leftovers(self) -> Iterator[tuple[str, int]]:
        """See `BlockStore.list_leftovers`."""
        for name, is_dir, size in self._listed(""):
            document = name == STORE_DOCUMENT or (name.endswith(".json") and not is_dir)
            if (
                name not in (names.BLOCKS, names.LEDGER, TMP, LOCK, MAINTENANCE_LOCK, MAINTENANCE_ASKED)
                and not document
            ):
                yield name, size
        for name, _, size in self._listed(TMP):
            yield f"{TMP}/{name}", size
        for name, is_dir, size in self._listed(names.LEDGER):
            if name not in (names.SEALED, names.MAINTENANCE, DAMAGED) and (is_dir or not names.is_ledger(name)):
                yield f"{names.LEDGER}/{name}", size
        for month, name, size in self._below_sealed():
            if not names.is_sealed(month, name):
                yield f"{names.LEDGER}/{names.SEALED}/{month}/{name}".removesuffix("/"), size
        for day, name, size in self._below(f"{names.LEDGER}/{names.MAINTENANCE}"):
            if not names.is_maintenance(day, name):
                yield f"{names.LEDGER}/{names.MAINTENANCE}/{day}/{name}".removesuffix("/"), size
        for day, name, size in self._below_blocks():
            if not names.is_block(day, name):
                yield f"{names.BLOCKS}/{day}/{name}" if name else f"{names.BLOCKS}/{day}", size

    def temporaries(self) -> Iterator[tuple[str, int, int]]:
        """See `BlockStore.temporaries`."""
        for name, is_dir, size in self._listed(TMP):
            if is_dir or not name.endswith(TMP_SUFFIX):
                continue
            with self._trouble(f"{self.root / TMP / name} cannot be read"):
                try:
                    modified = self._files.modified(self.root / TMP / name)
                except FileNotFoundError:  # it got its name since it was listed
                    continue
            yield name, size, int(modified * 1000)

    def delete_temporary(self, name: str) -> None:
        """See `BlockStore.delete_temporary`."""
        if "/" in name or not name.endswith(TMP_SUFFIX):
            raise ValueError(f"not a temporary file: {name!r}")
        path = self.root / TMP / name
        with self._trouble(f"{path} was not deleted"), suppress(FileNotFoundError):
            self._files.unlink(path)

    def set_aside_ledger(self, writer: str, good: bytes) -> str:
        """See `BlockStore.set_aside_ledger`."""
        places = (names.ledger_path(writer), names.sealed_path(writer), names.maintenance_path(writer))
        place = next((one for one in places if self._files.size(self.root / one) is not None), None)
        if place is None:
            raise StoreUnavailable(f"the ledger of {writer} is not in {self.url}", "was it put back just now?")
        path = self.root / place
        with self._trouble(f"the ledger {path} was not set aside"):
            content = self._read(path)
            # By its content: a ledger can be damaged more than once, and nothing of it is ever overwritten.
            kept = f"{names.LEDGER}/{DAMAGED}/{writer}.{hashlib.sha256(content).hexdigest()[:8]}{names.LEDGER_SUFFIX}"
            if content != good:
                self._make_dir((self.root / kept).parent)
                self._write_anew(self.root / kept, content)
                self._make_name_durable(self.root / kept)
                self._write_anew(path, good)
            self._make_name_durable(path)
        return kept

    def _below_sealed(self, since: str = "") -> Iterator[tuple[str, str, int]]:
        """Yield month, name and size of all among the sealed ledgers, the latest month first; see `_below_blocks`."""
        return self._below(f"{names.LEDGER}/{names.SEALED}", since, latest_first=True)

    def _below_blocks(self) -> Iterator[tuple[str, str, int]]:
        """Yield day, name and size of all in the days' directories; the name is empty for what is no directory."""
        return self._below(names.BLOCKS)

    def _below(self, folder: str, since: str = "", *, latest_first: bool = False) -> Iterator[tuple[str, str, int]]:
        for inner, is_inner, inner_size in sorted(self._listed(folder), reverse=latest_first):
            if inner < since:
                continue
            if not is_inner:
                yield inner, "", inner_size
                continue
            for name, is_dir, size in self._listed(f"{folder}/{inner}"):
                yield inner, name + "/" if is_dir else name, size

    def _read_if_there(self, path: Path) -> bytes | None:
        with self._trouble(f"the ledger {path} cannot be read"):
            try:
                return self._read(path)
            except FileNotFoundError:
                return None

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

    def _listed(self, folder: str) -> list[tuple[str, bool, int]]:
        path = self.root / folder
        with self._trouble(f"{path} cannot be listed"):
            try:
                return sorted(self._files.listdir(path))
            except FileNotFoundError as error:
                if self._files.is_dir(path):  # or all that is in it would be missing
                    raise OSError(f"it is there, and was not found: {error}") from error
                return []

    def _block(self, block_id: str) -> Path:
        return self.root / names.block_path(block_id)

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

    def _put_once(self, path: Path, content: Buffer | None, what: str) -> None:
        """Make a file that is never changed, unless it is there, and see that it is durable.

        Args:
            path: The file.
            content: None if it is there, and is not looked at.
            what: Names it.

        Raises:
            StoreRefused: It is there with another content.
        """
        failures = self._failed.get(path.parent, 0)
        there = self._files.size(path) is not None
        if there and content is not None and self._read(path) != memoryview(content).cast("B"):
            raise StoreRefused(
                f"{what} is at {path} already, with another content",
                "two writers have the same id? Move the file away, and keep it",
            )
        if content is not None and (not there or failures):
            # A name whose fsync failed may be dropped, and the next fsync would succeed: it is made anew, too.
            self._make_dir(path.parent)
            self._write_anew(path, content)
        self._make_name_durable(path)
        if self._failed.get(path.parent, 0) != failures:
            raise OSError("another fsync of its directory failed meanwhile, and may have been about this name")

    def _make_name_durable(self, path: Path) -> None:
        """Make the name of a file durable whose content is: it had to be, before it got this name."""
        self._make_dir(path.parent)
        try:
            self._files.fsync_dir(path.parent)
        except OSError:
            with self._lock:
                self._failed[path.parent] = self._failed.get(path.parent, 0) + 1
            raise

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
    def _trouble(self, what: str, missing: str | None = None) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            with self._lock:
                self._durable.clear()  # a directory is gone that was there: look again at all of them
            if missing is None:
                raise StoreUnavailable(f"{what}: {error.strerror}", "was a directory taken away?") from error
            raise BlockMissing(f"block {missing} is not in the store {self.url}", SEE_RECOVER) from error
        except ReceiverError:
            raise
        except Exception as error:
            raise unavailable(error, what) from error
