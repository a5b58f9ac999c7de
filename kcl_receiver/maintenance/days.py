"""Finds what the ledgers say of one day's blocks, without reading the ledgers of other days.

A block is recorded by its own writer, or by one of the next; whatever maintenance did to it is in the day's own
directory. The rule: one ledger is in memory at a time, however many there are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import groupby

from kcl_receiver.errors import LedgerDamaged
from kcl_receiver.store.base import BlockStore
from kcl_receiver.store.entries import BlockStored, Entry, iter_entries
from kcl_receiver.store.maintenance import DayChanges
from kcl_receiver.store.names import block_day, day_of, writer_of


class Days:
    """The days of a store.

    Args:
        store: The store.

    Attributes:
        faults: What is wrong with the ledgers that were read. What comes before a fault is taken in.

    Raises:
        StoreUnavailable: The ledgers cannot be listed now.
    """

    def __init__(self, store: BlockStore) -> None:
        self.faults: dict[str, str] = {}
        self._store = store
        self._writers = store.writers()

    def present(self, since: str = "", before: str = "") -> Iterator[tuple[str, dict[str, int]]]:
        """Yield each day with id and size of the blocks that are there, the earliest day first.

        Raises:
            StoreUnavailable: They cannot be listed now.
        """
        for day, blocks in groupby(self._store.list_blocks(), key=lambda one: block_day(one[0])):
            if since <= day and (not before or day < before):
                yield day, dict(blocks)

    def days_of_writers(self) -> list[str]:
        """Return the days on which writers began."""
        return sorted({day_of(writer) for writer in self._writers})

    def is_recorded(self, writer: str, changes: DayChanges) -> bool:
        """Return whether a writer has a ledger at all. A generator has one before its first block."""
        return writer in self._writers or writer in changes.writers or self._store.ledger(writer) is not None

    def entries_of(self, blocks: Collection[str], changes: DayChanges) -> Iterator[BlockStored]:
        """Yield the entry of each of some blocks of one day, as far as there is one, in no order.

        Raises:
            StoreUnavailable: A ledger cannot be read now.
        """
        left = set(blocks)
        for entry in self._recorded(changes, left):
            if isinstance(entry, BlockStored) and entry.block in left:
                left.discard(entry.block)
                yield entry

    def entries(self, day: str, changes: DayChanges, present: Collection[str] = ()) -> Iterator[Entry]:
        """Yield all entries of the ledgers of one day, those of maintenance included; a block can come twice.

        Args:
            day: The day. Blocks of other days come, too.
            changes: What `load_day` returned.
            present: Blocks of this day that are there: they are looked for in later ledgers if need be.

        Raises:
            StoreUnavailable: A ledger cannot be read now.
        """
        left = set(present)
        own = [writer for writer in self._writers if day_of(writer) == day]
        after = [writer for writer in self._writers if day_of(writer) > day][:1]
        for writer, content in self._store.maintenance_ledgers(day):
            yield from self._seen(left, self._entries(writer, content))
        for writer in (*own, *after):
            yield from self._seen(left, self._entries_of_writer(writer))
        if left:
            yield from self.entries_of(left, changes)

    def _seen(self, left: set[str], entries: Iterator[Entry]) -> Iterator[Entry]:
        for entry in entries:
            if isinstance(entry, BlockStored):
                left.discard(entry.block)
            yield entry

    def _recorded(self, changes: DayChanges, left: set[str]) -> Iterator[Entry]:
        if not left.isdisjoint(changes.blocks):
            for writer, content in self._store.maintenance_ledgers(changes.day):
                yield from self._entries(writer, content)
        own = sorted({writer_of(block) for block in left})
        for writer in own:
            yield from self._entries_of_writer(writer)
        if left:
            first = min(map(writer_of, left))
            for writer in self._writers:
                if writer > first and writer not in own and left:
                    yield from self._entries_of_writer(writer)

    def _entries_of_writer(self, writer: str) -> Iterator[Entry]:
        content = self._store.ledger(writer)
        return iter(()) if content is None else self._entries(writer, content)

    def _entries(self, writer: str, content: bytes) -> Iterator[Entry]:
        try:
            yield from iter_entries(writer, content)
        except LedgerDamaged as error:
            self.faults[writer] = error.message
