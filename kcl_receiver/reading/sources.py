"""Where the ranges come from that a reading has taken in: their blocks, and the lines of the ledger that name them.

A source is a block from which ranges were taken in. It is kept until the last of them was handed out or passed, because
the line of the oldest one is where a reader that resumes has to begin. Of the ledger's entries only a few are kept; the
others are found again when they are needed, which is seldom: blocks finish nearly in order.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from kcl_receiver.proof.packing import Ref
from kcl_receiver.ranges import Range
from kcl_receiver.reading.blocks import Blocks
from kcl_receiver.store.ledger.entries import BlockStored
from kcl_receiver.store.ledger.place import Place
from kcl_receiver.store.ledger.reading import Ledger
from kcl_receiver.store.store import Store

ENTRIES_KEPT = 16
RANGES_KEPT = 20_000


@dataclass(slots=True)
class _Source:
    block: str
    place: Place
    needed: int = 1


class Sources:
    """See the module."""

    def __init__(self, store: Store, blocks: Blocks) -> None:
        self._store = store
        self._blocks = blocks
        self._sources: OrderedDict[int, _Source] = OrderedDict()
        self._repaired: dict[int, int] = {}
        self._entries: OrderedDict[str, BlockStored] = OrderedDict()
        self._kept = 0
        self._numbers = 0

    def __len__(self) -> int:
        return len(self._sources)

    def add(self, place: Place, entry: BlockStored, repaired: int = 0) -> int:
        """Take in a block, and return its number; it is needed once until `release`.

        Args:
            place: The line that names it.
            entry: Its entry.
            repaired: The entry of `repair` in the maintenance log that led to it, if no line from `oldest` on does.
        """
        self._numbers += 1
        self._sources[self._numbers] = _Source(entry.block, place)
        if repaired:
            self._repaired[self._numbers] = repaired
        self._keep(entry)
        return self._numbers

    def need(self, number: int) -> None:
        """Count that it is needed once more."""
        self._sources[number].needed += 1

    def release(self, number: int) -> None:
        """Count that it is needed once less."""
        one = self._sources[number]
        one.needed -= 1
        if not one.needed:
            del self._sources[number]
            self._repaired.pop(number, None)

    def oldest(self) -> Place | None:
        """Return the place of the first source that is still needed, or None. What `repair` recorded does not count."""
        return next((one.place for number, one in self._sources.items() if number not in self._repaired), None)

    def maintained(self, all_of_them: int) -> int:
        """Return the last entry of the maintenance log up to which all was taken in and nothing is needed any more."""
        return min((number - 1 for number in self._repaired.values()), default=all_of_them)

    def block(self, number: int) -> str:
        """Return the id of a source's block."""
        return self._sources[number].block

    def entry(self, number: int) -> BlockStored:
        """Return the entry of a source's block."""
        block = self.block(number)
        if block not in self._entries:
            self._keep(self._find(block))
        return self._entries[block]

    def range(self, ref: Ref) -> Range:
        """Return a range that was taken in."""
        return self.entry(ref.source).ranges[ref.at]

    def _keep(self, entry: BlockStored) -> None:
        if entry.block not in self._entries:
            self._kept += len(entry.ranges)
        self._entries[entry.block] = entry
        while len(self._entries) > ENTRIES_KEPT or (len(self._entries) > 1 and self._kept > RANGES_KEPT):
            self._kept -= len(self._entries.popitem(last=False)[1].ranges)

    def _find(self, block: str) -> BlockStored:
        ledger = Ledger(self._store)
        return self._blocks.made(block) or ledger.find(block) or ledger.from_footer(block)
