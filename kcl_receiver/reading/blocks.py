"""Gets the rows of ranges, wherever they lie now: in their block, in what replaced it, or in the stream.

Only the row groups of the ranges asked for are read, and of them only the columns asked for. Ranges that lie end to end
come together. The rule: a range's rows come from one block, whole and checked, or not at all. Blocks can be replaced
between the moment that they were looked up and the moment that they are opened; then what maintenance wrote about their
day is read again, and says where the rows are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Protocol

import pyarrow as pa

from kcl_receiver.errors import BlockDamaged, BlockMissing
from kcl_receiver.ids import block_day
from kcl_receiver.ranges import Range
from kcl_receiver.schema import CHECKED_NAMES
from kcl_receiver.store.blocks.file import BlockFile, RangeDamaged, batch_of, check_range
from kcl_receiver.store.ledger.entries import BlockStored
from kcl_receiver.store.ledger.reading import DayChanges, Ledger
from kcl_receiver.store.ledger.transaction import content_of, lifecycle
from kcl_receiver.store.store import Store

DAYS_KEPT = 3
FILES_KEPT = 4
DAY_MS = 86_400_000
HINT = "`kcl-receiver recover` reads it again from Kinesis while the stream retains it; or read with a fallback"


class Fallback(Protocol):
    """Where the records of a block come from that is missing or damaged."""

    def ranges(self, entry: BlockStored, ranges: Sequence[Range]) -> Iterator[tuple[Range, pa.Table]]:
        """Yield ranges of a block with their rows, all columns of a block, in any order.

        A range that cannot be had is left out, or an error says why.
        """


@dataclass(slots=True)
class Day:
    """What maintenance did to a day's blocks, without their ranges, and which of its blocks the reader took in."""

    changes: DayChanges
    taken: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Open:
    """An open block, and whether its footer was held against the ledger."""

    file: BlockFile
    compared: bool = False


class Blocks:
    """See the module.

    Args:
        store: The store; it is only read.
        check: Make the checksum of each range of which all is read, and hold the others against the block's footer.
        fallback: Where records come from whose block is missing or damaged, or None.
        now: Milliseconds since the epoch.
    """

    def __init__(self, store: Store, *, check: bool, fallback: Fallback | None, now: Callable[[], int]) -> None:
        self._store = store
        self._ledger = Ledger(store)
        self._check = check
        self._fallback = fallback
        self._now = now
        self._days: OrderedDict[str, Day] = OrderedDict()
        self._files: OrderedDict[str, _Open] = OrderedDict()
        self._index: tuple[str, dict[Range, Range]] | None = None
        self._made: OrderedDict[str, BlockStored] = OrderedDict()

    def day_of(self, block: str) -> Day:
        """Return what maintenance did on the day of a block, as it was last read.

        Raises:
            LedgerDamaged: A maintenance ledger is damaged.
            StoreUnavailable: It cannot be read now.
        """
        return self.day(block_day(block))

    def day(self, day: str) -> Day:
        """Return what maintenance did to the blocks of a day, as it was last read; see `day_of`."""
        if day not in self._days:
            changes = self._ledger.changes(day, ranges=False)
            for fault in changes.faults:
                raise fault
            self._days[day] = Day(changes)
            while len(self._days) > DAYS_KEPT:
                self._days.popitem(last=False)
        self._days.move_to_end(day)
        return self._days[day]

    def day_again(self, day: str) -> Day:
        """Return the same as it is now."""
        before = self._days.pop(day, None)
        found = self.day(day)
        if before is not None:
            found.taken |= before.taken
        return found

    def made(self, block: str) -> BlockStored | None:
        """Return the entry of a block that maintenance made or took in, with its ranges; None if it is none.

        A day that was compacted has as many ranges as before, so those of a few blocks are kept and no more.

        Raises:
            StoreUnavailable: It cannot be read now.
        """
        if block not in self.day_of(block).changes.blocks:
            return None
        if block not in self._made:
            self._made[block] = self._ledger.made(block)
            while len(self._made) > FILES_KEPT:
                self._made.popitem(last=False)
        self._made.move_to_end(block)
        return self._made[block]

    def rows(
        self, entry: BlockStored, ranges: Sequence[Range], columns: tuple[str, ...]
    ) -> Iterator[tuple[int, pa.RecordBatch | None]]:
        """Yield the rows of ranges of a block, in the order given and as many ranges at a time as lie end to end.

        Each time with the number of these ranges; None in the place of the rows says that they expired.

        Raises:
            BlockMissing: The block is not there, nothing stands in for it, and there is no fallback that has it.
            BlockDamaged: The same for one that is not what was stored.
            StoreUnavailable: It cannot be read now.
        """
        done = 0
        while done < len(ranges):
            changes = self.day_of(entry.block).changes
            if entry.block in changes.expired and entry.block not in changes.replaced:
                yield len(ranges) - done, None
                return
            places = self._places(changes, entry, ranges[done:])
            try:
                for block, there in places:
                    if block in changes.expired:
                        done += len(there)
                        yield len(there), None
                        continue
                    for count, rows in self._read(block, self.made(block) or entry, there, columns):
                        done += count
                        yield count, rows
            except (BlockMissing, BlockDamaged) as error:
                before = self._places(changes, entry, ranges[done:])
                self._forget(entry.block, places)
                changes = self.day_of(entry.block).changes
                if self._places(changes, entry, ranges[done:]) != before or entry.block in changes.expired:
                    continue  # maintenance was here just now
                if isinstance(error, BlockMissing) and self._outlived(ranges[done:]):
                    yield len(ranges) - done, None
                    return
                # Where one range is not what was stored, the others may be.
                lost = ranges[done : done + 1] if isinstance(error, RangeDamaged) else ranges[done:]
                for rows in self._elsewhere(entry, lost, columns, error):
                    done += 1
                    yield 1, rows

    def close(self) -> None:
        """Close what is open."""
        while self._files:
            self._files.popitem()[1].file.close()

    def _places(
        self, changes: DayChanges, entry: BlockStored, ranges: Sequence[Range]
    ) -> list[tuple[str, Sequence[Range]]]:
        """Return the blocks that should hold ranges now, each with ranges that follow each other, as they are there."""
        if entry.block not in changes.replaced:
            return [(entry.block, ranges)]
        places: list[tuple[str, Sequence[Range]]] = []
        for block, group in groupby((self._find(changes, entry, one) for one in ranges), key=lambda one: one[0]):
            places.append((block, [one for _, one in group]))
        return places

    def _find(self, changes: DayChanges, entry: BlockStored, one: Range) -> tuple[str, Range]:
        for block in changes.replaced.get(entry.block, ()):
            there = self._in_block(block).get(content_of(one))
            if there is not None:
                return block, there
        return entry.block, one

    def _in_block(self, block: str) -> dict[Range, Range]:
        if self._index is None or self._index[0] != block:
            entry = self.made(block)
            self._index = block, {} if entry is None else {content_of(one): one for one in entry.ranges}
        return self._index[1]

    def _read(
        self, block: str, entry: BlockStored, ranges: Sequence[Range], columns: tuple[str, ...]
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        opened = self._open(block)
        full = set(columns).issuperset(CHECKED_NAMES)
        if self._check and not full and not opened.compared:
            opened.file.check_places(entry.ranges)
            opened.compared = True
        try:
            yield from opened.file.rows(ranges, columns, check=self._check and full)
        except RangeDamaged as error:
            raise RangeDamaged(f"in block {block}, the records are not those that were stored", HINT) from error

    def _open(self, block: str) -> _Open:
        if block not in self._files:
            while len(self._files) >= FILES_KEPT:
                self._files.popitem(last=False)[1].file.close()
            self._files[block] = _Open(BlockFile(self._store, block, f"block {block} cannot be read", HINT))
        self._files.move_to_end(block)
        return self._files[block]

    def _forget(self, block: str, places: Sequence[tuple[str, Sequence[Range]]]) -> None:
        self._days.pop(block_day(block), None)
        self._made.clear()
        self._index = None
        for one, _ in places:
            if one in self._files:
                self._files.pop(one).file.close()

    def _outlived(self, ranges: Iterable[Range]) -> bool:
        """Return whether a rule outside of this program has removed the block by now."""
        days = lifecycle(self._store)
        if days is None:
            return False
        before = self._now() - days * DAY_MS
        return all(one.arrivals.all_before(before) for one in ranges)

    def _elsewhere(
        self, entry: BlockStored, ranges: Sequence[Range], columns: tuple[str, ...], error: BlockMissing | BlockDamaged
    ) -> Iterator[pa.RecordBatch]:
        found: dict[Range, pa.Table] = {}
        if self._fallback is not None:
            for one, table in self._fallback.ranges(entry, tuple(ranges)):
                check_range(one, table)
                found[content_of(one)] = table
        for number, one in enumerate(ranges):
            table = found.pop(content_of(one), None)
            if table is None:
                kind = BlockMissing if isinstance(error, BlockMissing) else BlockDamaged
                raise kind(f"{error.message}: {describe(ranges[number:])}", error.hint or HINT) from error
            yield batch_of(table, columns)


def describe(ranges: Sequence[Range], most: int = 3) -> str:
    """Return ranges as text for a message."""
    shown = [f"{one.count} records of {one.shard} from {one.first} to {one.last}" for one in ranges[:most]]
    more = len(ranges) - len(shown)
    return ", ".join(shown) + (f", and {more} more ranges" if more else "")
