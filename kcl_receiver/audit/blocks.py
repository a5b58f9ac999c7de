"""The blocks while a store is verified: which are there, and which of them are what the ledger says.

The listing is held for one day at a time, because a block's id tells its day. What is listed and was not asked for is
kept by its id alone, until it is known that no ledger names it.
"""

from __future__ import annotations

from kcl_receiver.errors import BlockDamaged
from kcl_receiver.ranges import Position, Range
from kcl_receiver.store.blocks.file import BlockFile
from kcl_receiver.store.ledger.entries import BlockStored
from kcl_receiver.store.store import Store

_DAY_DIGITS = 8
"""A block's id begins with its day, YYYYMMDD."""


class Listing:
    """The blocks that are there, asked for in about the order of time.

    Attributes:
        count: How many were listed up to now.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._blocks = store.list_blocks()
        self._next: tuple[str, int] | None = None
        self._begun = False
        self._day = ""
        self._today: dict[str, int] = {}
        self._before: dict[str, int] = {}
        self.count = 0

    def take(self, block: str) -> int | None:
        """Return the size of a block in bytes, or None if it is not there; it is not among the rest then.

        Raises:
            StoreUnavailable: It cannot be told now.
        """
        day = block[:_DAY_DIGITS]
        while day > self._day and self._read_day():
            pass
        found = (self._today if day == self._day else self._before).pop(block, None)
        if found is None and self._store.has_block(block):  # it is newer than the listing
            with self._store.open_block(block) as file:
                return int(file.size())
        return found

    def _read_day(self) -> bool:
        if not self._begun:  # not before the first ledger was read
            self._begun = True
            self._next = next(self._blocks, None)
        if self._next is None:
            return False
        self._before.update(self._today)
        self._today = {}
        self._day = self._next[0][:_DAY_DIGITS]
        while self._next is not None and self._next[0][:_DAY_DIGITS] == self._day:
            block, size = self._next
            self._today[block] = size
            self.count += 1
            self._next = next(self._blocks, None)
        return True

    def rest(self) -> dict[str, int]:
        """Return size by id of all that nobody asked for."""
        while self._read_day():
            pass
        self._before.update(self._today)
        return self._before


def check_block(store: Store, entry: BlockStored, line: bytes | None, size: int, *, deep: bool) -> None:
    """See that a block is what its ledger entry says.

    Args:
        store: The store.
        entry: What is expected.
        line: The line of the ledger that says so, if there is one.
        size: The size of the block in bytes.
        deep: Read all records, and make the checksum of every range again.

    Raises:
        BlockMissing: It is not there any more.
        BlockDamaged: It is not.
        StoreUnavailable: It cannot be read now.
    """
    if size != entry.size:
        raise BlockDamaged(f"it has {size} bytes, and {entry.size} were stored")
    with BlockFile(store, entry.block) as file:
        file.check_footer(entry.stream, entry.ranges, line)
        if deep:
            file.check_rows(entry.ranges)


def positions_of(store: Store, block: str, one: Range) -> list[Position]:
    """Return the positions of a range's records in a block.

    Raises:
        BlockMissing: The block is not there.
        BlockDamaged: It cannot be read as it should.
        StoreUnavailable: It cannot be read now.
    """
    with BlockFile(store, block) as file:
        return file.positions(one)
