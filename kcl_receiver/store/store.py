"""A block store: what lies where among a place's objects, and in which order things are done with them.

    store.json                                    whose store it is, and of which format
    blocks/<day>/<block id>.parquet               the blocks
    log/<thousand>/<number>.json                  which writers there are: the store's log
    ledger/<month>/<writer id>.jsonl              what a writer that began in that month appends to
    maintenance/<thousand>/<number>.jsonl         what maintenance did, an object for each time: the maintenance log
    ledger/maintenance/<day>/<number>-<writer>    empty; which entries of that log are about the blocks of a day
    ledger/damaged/...                            damaged ledgers that repair has set aside; never read
    followers/<name>.<number>.json                how far one has come that follows the store under this name
    tmp/<name>.<token>.tmp                        what a directory's process is writing; never read
    maintenance.asked                             empty; other maintenance waits for compaction to give way

Blocks are written once and never changed; each writer appends to a ledger of its own; a few small documents are made
once. "Durable" means: it survives a loss of power of the machine. After `StoreUnavailable` the outcome is unknown;
retry the same call until it succeeds.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import groupby
from os import PathLike, fspath
from typing import TYPE_CHECKING, final
from urllib.parse import quote, unquote, urlsplit

from kcl_receiver import ids
from kcl_receiver.errors import SEE_RECOVER, BlockMissing, ConfigError, StoreRefused, StoreUnavailable
from kcl_receiver.store import layout
from kcl_receiver.store.ledger.entries import begun_by
from kcl_receiver.store.objects import Checked, Lock, Objects, Stat
from kcl_receiver.wire.columns import Buffer

if TYPE_CHECKING:
    from kcl_receiver.store.blocks.stream import BlockStream

FORMAT_VERSION = 1
"""Version of the layout, the footer and the ledger, as docs/format.md describes them."""

STORE_DOCUMENT = "store.json"
TMP = "tmp"
TMP_SUFFIX = ".tmp"
LOCK = "lock"
MAINTENANCE_LOCK = "maintenance.lock"
MAINTENANCE_ASKED = "maintenance.asked"
DAMAGED = "damaged"
"""Where `repair` keeps damaged ledgers, below `ledger`. Nothing reads them."""


@final
class Store:
    """Where blocks and their ledger live.

    `put_block` may be called by several threads at once. One writer's `append_ledger` calls come one at a time. Every
    method may raise `StoreUnavailable`.

    Args:
        objects: The place.

    Attributes:
        url: The URL that `open_store` takes.
        objects: The place; its methods raise what `Checked` says.
    """

    def __init__(self, objects: Objects) -> None:
        self.objects = Checked(objects)
        self.url = objects.url
        self._held: dict[str, Lock] = {}

    # Whose it is

    def claim(self, application: str) -> None:
        """Make the store this application's, or see that it is so already. Idempotent.

        Raises:
            StoreRefused: It belongs to another application, or is of a format that this version does not know.
        """
        mine = {"format": FORMAT_VERSION, "application": application}
        found = self.put_document_if_absent(STORE_DOCUMENT, json.dumps(mine).encode() + b"\n")
        owner = read_owner(self.url, found)
        if owner != application:
            raise StoreRefused(
                f"the store {self.url} belongs to application {owner!r}, not to {application!r}",
                "give each application a store of its own: change receiver.store or applicationName",
            )

    def owner(self) -> str | None:
        """Return the application that the store belongs to, or None if nobody has claimed it.

        Raises:
            StoreRefused: It is of a format that this version does not know.
        """
        found = self.get_document(STORE_DOCUMENT)
        return None if found is None else read_owner(self.url, found)

    def require(self) -> None:
        """See that there is a store, before anything is said of what is in it.

        Raises:
            StoreRefused: There is none here, or it is of a format that this version does not know.
        """
        if self.owner() is None and not self.writers() and next(iter(self.list_blocks()), None) is None:
            raise StoreRefused(
                f"there is no store at {self.url}", "is the URL right? `run` makes a store when it starts"
            )

    def hold(self) -> None:
        """Be the only generator that writes to this store, until this process ends. Call it again to see that it holds.

        A killed writer's remains are put in order by the next one, which must know that it has ended. What killed
        generators left of blocks and ledgers that they could not finish is removed.

        Raises:
            StoreUnavailable: Another one holds it, or it cannot be told.
        """
        hint = "one generator at a time: give each host, and each application, a directory of its own"
        if self._hold(LOCK, "another generator writes to", hint):
            self._clear_temporaries()

    def hold_maintenance(self, *, ask: bool = True) -> None:
        """Be the only one that recovers, repairs, compacts or expires here, until this process ends.

        The generator is not shut out: it never changes what is stored, and maintenance never touches its ledger.

        Args:
            ask: If another one holds it, ask it to give way; see `is_asked_for`. Compaction, which can wait, does not.

        Raises:
            StoreUnavailable: Another one holds it, or it cannot be told.
        """
        hint = "compaction gives way within a minute or so: try again; wait for the end of recover, repair or expire"
        try:
            self._hold(MAINTENANCE_LOCK, "other maintenance works on", hint)
        except _HeldElsewhere:
            if ask:
                self.objects.create(MAINTENANCE_ASKED, b"")
            raise

    def is_asked_for(self) -> bool:
        """Return whether other maintenance has asked for the store since this was asked last.

        Compaction can take hours, and what `recover` is to bring back may be trimmed meanwhile.
        """
        if self.objects.stat(MAINTENANCE_ASKED) is None:
            return False
        self.objects.delete([MAINTENANCE_ASKED])
        return True

    @contextmanager
    def without_generator(self) -> Iterator[bool]:
        """Keep generators from beginning to write here, as long as the context lasts; give whether none does.

        False: one is at work, and goes on; or it cannot be told, and one must be reckoned with.
        """
        lock = self.objects.lock(LOCK) if self.objects.locks else None
        try:
            yield lock is not None
        finally:
            if lock is not None:
                lock.release()

    def _hold(self, name: str, who: str, hint: str) -> bool:
        """Hold a lock; return whether it was not held before."""
        held = self._held.get(name)
        if held is not None and held.holds():
            return False
        lock = self.objects.lock(name)
        if lock is None:
            raise _HeldElsewhere(f"{who} the store {self.url}: it holds the lock {self.objects.shown(name)}", hint)
        self._held[name] = lock
        if held is not None:
            held.release()  # it kept nobody out any more
        return held is None

    def _clear_temporaries(self) -> None:
        """Remove the temporary files of generators: all of them have ended, and a loop of crashes would fill the disk.

        Those of maintenance, which may be at work, have ids that no generator's ledger has.
        """
        # What cannot be removed hurts nobody: it is among the leftovers, and `repair` says so.
        with suppress(StoreUnavailable):
            left = [name for name, *_ in self.temporaries()]
            generators = set(self.writers()) if left else set()
            for name in left:
                if name[: ids.WRITER_LENGTH] in generators:
                    self.delete_temporary(name)

    # Blocks

    def put_block(self, block_id: str, payload: Buffer) -> None:
        """Store a block. It is there, and durable, when this returns; before, it is seen whole or not at all.

        The same id with the same content again is fine: it is then made durable. A block is never overwritten. After a
        failure it may be there, and be seen by `has_block`, without being durable yet.

        Raises:
            StoreRefused: Another content is there under this id.
        """
        self._put_once(layout.block_path(block_id), payload, f"block {block_id}")

    def has_block(self, block_id: str) -> bool:
        """Return whether a block is there now. One look, no reading."""
        return self.objects.stat(layout.block_path(block_id)) is not None

    def read_block(self, block_id: str) -> bytes:
        """Return the whole content of a block.

        Raises:
            BlockMissing: It is not there.
        """
        content = self.objects.get(layout.block_path(block_id))
        if content is None:
            raise self._missing(block_id)
        return content

    def open_block(self, block_id: str) -> BlockStream:
        """Open a block for reading at any place, as Parquet readers do. The caller closes it.

        Raises:
            BlockMissing: It is not there. Reading may raise this, too.
        """
        return self.objects.open(layout.block_path(block_id))

    def list_blocks(self) -> Iterator[tuple[str, int]]:
        """Yield the id and the size in bytes of each block that is there, in the order of their ids."""
        return self._blocks(f"{layout.BLOCKS}/")

    def blocks_by_day(self, since: str = "", before: str = "") -> Iterator[tuple[str, dict[str, int]]]:
        """Yield each day with id and size of its blocks that are there, the earliest day first.

        Args:
            since: The first day, `YYYY-MM-DD`; empty is the first there is.
            before: The day after the last one; empty is none.
        """
        for day, blocks in groupby(self.list_blocks(), key=lambda one: ids.block_day(one[0])):
            if since <= day and (not before or day < before):
                yield day, dict(blocks)

    def blocks_of(self, writer: str) -> Iterator[tuple[str, int]]:
        """Yield the id and the size in bytes of each block of one writer that is there, in the order of their ids."""
        return self._blocks(f"{layout.BLOCKS}/{ids.day_of(writer)}/{writer}-")

    def _blocks(self, prefix: str) -> Iterator[tuple[str, int]]:
        for one in self.objects.list(prefix):
            block = layout.block_at(one.key)
            if block is not None:
                yield block, one.size

    def settle_block(self, block_id: str) -> None:
        """Make a block durable that another writer left behind: it may have ended before it could. Idempotent.

        Raises:
            BlockMissing: It is not there.
        """
        try:
            self.objects.settle(layout.block_path(block_id))
        except FileNotFoundError as error:
            raise self._missing(block_id) from error

    def blocks_of_day(self, day: str) -> dict[str, int]:
        """Return id and size of each block of a day that is there."""
        return dict(self._blocks(f"{layout.BLOCKS}/{day}/"))

    def block_changed(self, block_id: str) -> int | None:
        """Return when a block was stored, milliseconds since the epoch by the place's clock; None if it is gone."""
        found = self.objects.stat(layout.block_path(block_id))
        return None if found is None else found.modified

    def delete_block(self, block_id: str) -> None:
        """Remove a block for good; it is gone, and that is durable, when this returns. Idempotent.

        A durable entry that says what replaced the block, or that it was expired, comes first.
        """
        self.delete_blocks([block_id])

    def delete_blocks(self, block_ids: Iterable[str]) -> None:
        """Remove blocks for good, as `delete_block` does; quicker than one by one."""
        self.objects.delete(map(layout.block_path, block_ids))

    def _missing(self, block_id: str) -> BlockMissing:
        return BlockMissing(f"block {block_id} is not in the store {self.url}", SEE_RECOVER)

    def _put_once(self, key: str, content: Buffer, what: str) -> None:
        if self.objects.create(key, content):
            return
        found = self.objects.get(key)
        if found is None or memoryview(found) != memoryview(content).cast("B"):
            raise StoreRefused(
                f"{what} is at {self.objects.shown(key)} already, with another content",
                "two writers have the same id? Move the file away, and keep it",
            )
        with suppress(FileNotFoundError):
            self.objects.settle(key)
            return
        raise StoreUnavailable(f"{self.objects.shown(key)} was there, and is not any more", "was it moved just now?")

    # Ledger

    def append_ledger(self, writer: str, first_number: int, lines: bytes) -> None:
        """Append whole lines to a writer's ledger; they are durable when this returns. See `Objects.append`.

        Args:
            writer: Id of the writer, which nobody else uses.
            first_number: Number of the first of the lines: a line's number is its place in the ledger, from 1.
            lines: One or more lines, each ended by a newline.

        Raises:
            LedgerDamaged: The ledger does not end just before `first_number`, or holds other lines there.
        """
        if first_number < 1 or not lines.endswith(b"\n"):
            raise ValueError("a ledger is appended to by whole lines, numbered from 1")
        self.objects.append(layout.ledger_path(writer), first_number, lines)

    def settle_ledger(self, writer: str, content: bytes) -> None:
        """Make durable what was read of the ledger of a writer that has ended, without a torn last line. Idempotent.

        A writer that was killed may have left lines that can be read and are not durable. Whoever is going to rely
        on such lines, by not storing again what they name, calls this first. A directory writes the content anew: if
        the killed writer's own fsync had failed, another one would succeed and prove nothing.
        """
        self.objects.settle_log(layout.ledger_path(writer), content)

    def writers(self, after: str = "") -> list[str]:
        """Return the ids of all writers that have a ledger, in order. Maintenance has its own.

        Args:
            after: Only those with a greater id than this writer's: a listing of what is new costs no more as the store
                gets older.
        """
        return sorted(self._writers(after))

    def has_writers(self) -> bool:
        """Return whether any writer has a ledger."""
        return next(self._writers(""), None) is not None

    def _writers(self, after: str) -> Iterator[str]:
        behind = layout.ledger_path(after) if after else ""
        for month in self._folders(f"{layout.LEDGER}/"):
            folder = f"{layout.LEDGER}/{month}/"
            if not month[:1].isdigit() or folder < behind[: len(folder)]:
                continue
            listed = self.objects.list_after(folder, behind) if behind.startswith(folder) else self.objects.list(folder)
            for one in listed:
                if (writer := layout.ledger_at(one.key)) is not None and writer > after:
                    yield writer

    def ledger(self, writer: str) -> bytes | None:
        """Return the content of a writer's ledger, or None if there is none.

        It can end in a torn line: of a writer that was killed, or that is writing right now.
        """
        return self.objects.get(layout.ledger_path(writer))

    def ledger_modified(self, writer: str) -> int | None:
        """Return when a writer's ledger grew last, milliseconds since the epoch; None if it has none. One look."""
        found = self.objects.stat(layout.ledger_path(writer))
        return None if found is None else found.modified

    def ledger_from(self, writer: str, number: int, *, at_end: bool = False) -> bytes:
        """Return the lines of a writer's ledger from a number on, 1 being the first; nothing if there are none yet.

        Args:
            writer: Id of the writer.
            number: Number of the first of the lines.
            at_end: See `Objects.get_from`: the ledger ended just before that line when it was read last, and may still
                grow.
        """
        return self.objects.get_from(layout.ledger_path(writer), number, at_end=at_end)

    def fence_ledger(self, writer: str) -> None:
        """Let a writer that has ended find the key taken under which it would append next. See `Objects.fence`.

        Raises:
            LedgerDamaged: It has just appended something.
        """
        self.objects.fence(layout.ledger_path(writer))

    def merge_ledger(self, writer: str, content: bytes) -> None:
        """Let a ledger that is closed, and will never be appended to, be one object. See `Objects.merge`.

        Args:
            writer: Id of the writer.
            content: All of its ledger.
        """
        self.objects.merge(layout.ledger_path(writer), content)

    def unmerged_ledgers(self) -> Iterator[str]:
        """Yield the ids of the writers whose ledgers `merge_ledger` could make fewer objects of."""
        for month in self._folders(f"{layout.LEDGER}/"):
            if month[:1].isdigit():
                for key in self.objects.unmerged(f"{layout.LEDGER}/{month}/"):
                    if (writer := layout.ledger_at(key)) is not None:
                        yield writer

    def set_aside_ledger(self, writer: str, good: bytes) -> str:
        """Put the good lines of a damaged ledger in its place, and keep all of it under another name. Idempotent.

        Its writer has ended, and what the damaged lines held is recorded elsewhere, durably.

        Args:
            writer: Id of the writer, a generator's or of maintenance.
            good: The lines before the damage.

        Returns:
            Where the damaged one is kept, below the store.
        """
        numbers = [number for number, *_ in self._entries_of(ids.day_of(writer), self.maintenance_entry, writer)]
        for key in (layout.ledger_path(writer), *map(layout.maintenance_path, numbers)):
            content = self.objects.get(key)
            if content is None:
                continue
            # By its content: a ledger can be damaged more than once, and nothing of it is ever overwritten.
            digest = hashlib.sha256(content).hexdigest()[:8]
            kept = f"{layout.LEDGER}/{DAMAGED}/{writer}.{digest}{layout.LEDGER_SUFFIX}"
            if content != good:
                self._put_once(kept, content, f"the damaged ledger {writer}")
            # Where a lock says that its writer has ended, the next start may still close it.
            (self.objects.replace if self.objects.locks else self.objects.replace_ended)(key, good)
            return kept
        raise StoreUnavailable(f"the ledger of {writer} is not in {self.url}", "was it put back just now?")

    # Log

    def log_entry(self, number: int) -> bytes | None:
        """Return an entry of the store's log, or None if there is none of that number."""
        return self.objects.get(layout.log_path(number))

    def newest_log_number(self) -> int:
        """Return the number of the newest entry of the store's log, 0 if there is none. Two listings.

        A folder without an entry costs one more: who made it was killed, or it is somebody else's.
        """
        return self._newest(layout.LOG, layout.log_entry_at)

    def _newest(self, log: str, number_at: Callable[[str], int | None]) -> int:
        for folder in reversed(self._folders(f"{log}/")):
            listed = self.objects.list(f"{log}/{folder}/", deep=False)
            if found := max((number_at(one.key) or 0 for one in listed), default=0):
                return found
        return 0

    def create_log_entry(self, number: int, line: bytes) -> bool:
        """Create an entry of the store's log, durable, unless there is one of that number; return whether it did."""
        return self.objects.create(layout.log_path(number), line)

    def settle_log_entry(self, number: int) -> None:
        """Make an entry of the store's log durable that another writer left behind. Idempotent."""
        with suppress(FileNotFoundError):
            self.objects.settle(layout.log_path(number))

    # Maintenance

    def maintenance_days(self) -> list[str]:
        """Return the days, `YYYY-MM-DD`, about whose blocks there may be maintenance ledgers, in order."""
        return self._folders(f"{layout.LEDGER}/{layout.MAINTENANCE}/")

    def maintenance_ledgers(self, day: str) -> Iterator[tuple[str, bytes]]:
        """Yield id and content of each maintenance ledger about the blocks of a day, in the order of the log.

        Those of which it cannot be told whether they are about the day come last: an entry that was lost is empty, and
        one whose first line is damaged is as it is.
        """
        for _, writer, content in self.maintenance_entries(day):
            yield writer, content

    def maintenance_entries(self, day: str) -> Iterator[tuple[int, str, bytes]]:
        """Yield the same, each with its number in the log."""
        return self._entries_of(day, self.maintenance_entry)

    def maintenance_starts(self, day: str) -> Iterator[tuple[str, int, bytes]]:
        """Yield id, number and first line of each maintenance ledger about the blocks of a day, in the same order."""
        for number, writer, line in self._entries_of(day, self.maintenance_start):
            yield writer, number, line

    def maintenance_ledger(self, writer: str) -> bytes | None:
        """Return the content of a maintenance ledger, or None if there is none."""
        found = self._entries_of(ids.day_of(writer), self.maintenance_entry, writer)
        return next((content for *_, content in found), None)

    def maintenance_markers(self, day: str) -> list[tuple[int, str]]:
        """Return number and writer of each entry of the maintenance log that may be about the blocks of a day."""
        listed = self.objects.list(f"{layout.LEDGER}/{layout.MAINTENANCE}/{day}/", deep=False)
        return [marker for one in listed if (marker := layout.marker_at(one.key)) is not None]

    def _entries_of(
        self, day: str, read: Callable[[int], bytes | None], of: str | None = None
    ) -> Iterator[tuple[int, str, bytes]]:
        """Yield number, writer and what `read` returns of the entries that are about the blocks of a day.

        A marker counts if the entry of its number is of its writer. If that is of another one, the other was first. If
        there is none, it is to come, or its writer was killed; but where the log goes on behind it, it was lost.

        Args:
            day: The day.
            read: Returns of an entry its first line at least, or None.
            of: Only what is of this writer.
        """
        newest = -1
        known: set[str] = set()
        unknown: dict[str, tuple[int, bytes]] = {}
        for number, writer in self.maintenance_markers(day):
            if writer in known or (of is not None and writer != of):
                continue
            content = read(number)
            if content is None:
                newest = self.newest_maintenance_number() if newest < 0 else newest
                if number > newest:
                    continue
                content = read(number)  # it may have come between the two looks
            by = None if content is None else begun_by(content)
            if by == writer:
                known.add(writer)
                yield number, writer, content or b""
            elif by is None:
                unknown[writer] = number, content or b""
        for writer, (number, content) in unknown.items():
            if writer not in known:
                yield number, writer, content

    def maintenance_entry(self, number: int) -> bytes | None:
        """Return an entry of the maintenance log, or None if there is none of that number."""
        return self.objects.get(layout.maintenance_path(number))

    def has_maintenance_entry(self, number: int) -> bool:
        """Return whether there is an entry of that number in the maintenance log. One look, no reading."""
        return self.objects.stat(layout.maintenance_path(number)) is not None

    def maintenance_start(self, number: int) -> bytes | None:
        """Return the first line of an entry of the maintenance log, or None if there is none of that number."""
        line = bytearray()
        try:
            with self.objects.open(layout.maintenance_path(number)) as file:
                while b"\n" not in line and (piece := file.read(_START_BYTES)):
                    line += piece
        except BlockMissing:
            return None
        return bytes(line[: line.find(b"\n") + 1])

    def newest_maintenance_number(self) -> int:
        """Return the number of the newest entry of the maintenance log, 0 if there is none. Two listings."""
        return self._newest(layout.MAINTENANCE, layout.maintenance_at)

    def maintenance_numbers(self) -> list[int]:
        """Return the numbers of all entries of the maintenance log, in order."""
        listed = (layout.maintenance_at(one.key) for one in self.objects.list(f"{layout.MAINTENANCE}/"))
        return [number for number in listed if number is not None]

    def create_maintenance_entry(self, number: int, writer: str, content: bytes) -> bool:
        """Create an entry of the maintenance log unless there is one of that number; return whether it did.

        It is durable then, and so is the marker that leads to it from its day, which comes first.
        """
        self.mark_maintenance(number, writer)
        return self.objects.create(layout.maintenance_path(number), content)

    def mark_maintenance(self, number: int, writer: str) -> None:
        """Make the marker that leads from a day to an entry of the maintenance log; it is durable then. Idempotent."""
        self._put_once(layout.marker_path(number, writer), b"", f"the marker of entry {number}")

    def settle_maintenance_entry(self, number: int) -> None:
        """Make an entry of the maintenance log durable that another writer left behind. Idempotent."""
        with suppress(FileNotFoundError):
            self.objects.settle(layout.maintenance_path(number))

    def _folders(self, prefix: str) -> list[str]:
        listed = self.objects.list(prefix, deep=False)
        return [one.key.removeprefix(prefix)[:-1] for one in listed if one.key.endswith("/")]

    # Followers

    def followers(self) -> list[tuple[str, int]]:
        """Return name and number of what is written down of followers, in order; of each name the last one counts."""
        listed = self.objects.list(f"{layout.FOLLOWERS}/", deep=False)
        return sorted(found for one in listed if (found := layout.follower_at(one.key)) is not None)

    def follower(self, name: str, number: int) -> bytes | None:
        """Return what is written down of a follower under a number, or None if there is nothing."""
        return self.objects.get(layout.follower_path(name, number))

    def put_follower(self, name: str, number: int, content: bytes) -> None:
        """Write down a follower under a number, or anew; it is durable when this returns. It alone does so."""
        self.objects.replace(layout.follower_path(name, number), content)

    def delete_follower(self, name: str, numbers: Iterable[int]) -> None:
        """Forget what was written down of a follower under some numbers. Idempotent."""
        self.objects.delete([layout.follower_path(name, number) for number in numbers])

    # Documents

    def put_document_if_absent(self, name: str, content: bytes) -> bytes:
        """Make a small document unless there is one. Return what is there now, whole and durable. Idempotent.

        Of several callers at once, on one host or many, all get the content of one of them.
        """
        key = layout.check_document_name(name)
        if self.objects.create(key, content):
            return content
        with suppress(FileNotFoundError):
            self.objects.settle(key)  # another may have made it, and not seen it become durable
            found = self.objects.get(key)
            if found is not None:
                return found
        raise StoreUnavailable(f"{self.objects.shown(key)} was there, and is not any more", "was it moved just now?")

    def get_document(self, name: str) -> bytes | None:
        """Return a document's content, or None if there is none."""
        return self.objects.get(layout.check_document_name(name))

    # What is no part of it

    def list_leftovers(self) -> Iterator[tuple[str, int]]:
        """Yield path and size of what is in the store and is no part of it: temporary files of killed writers, strays.

        They hurt nobody but take room. A writer that is writing right now has a temporary file too.
        """
        for one in self.objects.list(""):
            if not _is_part(one):
                yield one.key, one.size

    def temporaries(self) -> Iterator[tuple[str, int, int]]:
        """Yield name, size and time of the last change, in milliseconds since the epoch, of each temporary file."""
        for one in self.objects.list(f"{TMP}/", deep=False):
            if one.key.endswith(TMP_SUFFIX):
                yield one.key.removeprefix(f"{TMP}/"), one.size, one.modified

    def delete_temporary(self, name: str) -> None:
        """Remove a temporary file that nobody writes. Idempotent."""
        if "/" in name or not name.endswith(TMP_SUFFIX):
            raise ValueError(f"not a temporary file: {name!r}")
        self.objects.delete([f"{TMP}/{name}"])


_START_BYTES = 4096


class _HeldElsewhere(StoreUnavailable):
    """Another process holds a lock."""


def _is_part(one: Stat) -> bool:
    """Return whether an object is one of those that the module's table names."""
    key = one.key
    if "/" not in key:
        return key.endswith(".json") or key in (LOCK, MAINTENANCE_LOCK, MAINTENANCE_ASKED)
    if layout.log_entry_at(key) or layout.maintenance_at(key) or layout.marker_at(key) or layout.follower_at(key):
        return True
    kept = key.startswith(f"{layout.LEDGER}/{DAMAGED}/")
    return kept or layout.ledger_at(key) is not None or layout.block_at(key) is not None


def read_owner(url: str, document: bytes) -> str:
    """Return the application that a store's document names.

    Raises:
        StoreRefused: The document cannot be read, or is of another format version.
    """
    try:
        raw = json.loads(document)
        version, application = raw["format"], raw["application"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreRefused(
            f"{STORE_DOCUMENT} of the store {url} is not what this program writes: {error!r}",
            "is this directory a store of kcl_receiver? If it is, put the file back from a backup",
        ) from error
    if version != FORMAT_VERSION or not isinstance(application, str):
        raise StoreRefused(
            f"the store {url} has format version {version!r}; this program knows version {FORMAT_VERSION}",
            "use the version of kcl-receiver that made it, or a newer one",
        )
    return application


def place_url(place: str | PathLike[str]) -> str:
    """Return the URL of a store that is named by its URL or by the path of its directory.

    Raises:
        ConfigError: It is neither.
    """
    text = fspath(place)
    if not isinstance(text, str):
        raise ConfigError(f"{place!r} is not the place of a store", "give a URL, a path or a store")
    if "://" in text or text.startswith("file:"):
        return text
    try:
        if not text or "\0" in text:
            raise ValueError(text)
        return "file://" + quote(os.path.abspath(text))  # noqa: PTH100 - keeps links
    except ValueError as error:
        raise ConfigError(
            f"{text!r} is not the place of a store", "write file:///absolute/path, or a directory's path"
        ) from error


def open_store(place: Store | str | PathLike[str]) -> Store:
    """Return the store at a place. Nothing is created, read or written yet.

    Args:
        place: `file:///absolute/path`, the path of a directory, or a store, which is returned as it is.

    Raises:
        ConfigError: The URL is of a kind that this version does not know, or its path is not absolute.
    """
    from kcl_receiver.store.local import Directory  # noqa: PLC0415 - it brings pyarrow, which `check` does without

    if isinstance(place, Store):
        return place
    url = place_url(place)
    try:
        parts = urlsplit(url)
        path = unquote(parts.path, errors="strict")
    except ValueError as error:  # a bracket without its other half, or a path that is not UTF-8
        raise ConfigError(f"store {url!r} is not a URL: {error}", "write file:///absolute/path") from error
    if parts.scheme == "s3":
        raise ConfigError(
            f"store {url!r}: s3:// is not in this version", "use a directory: receiver.store = file:///absolute/path"
        )
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or parts.query or parts.fragment:
        raise ConfigError(f"store {url!r} is not a URL of a store", "write file:///absolute/path")
    if not path.startswith("/") or "\0" in path or path.strip("/") == "":
        raise ConfigError(
            f"store {url!r} does not name a directory by its absolute path", "three slashes: file:///data/store"
        )
    return Store(Directory(path))
