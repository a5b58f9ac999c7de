"""Gets the rows of ranges, wherever they lie now: in their block, in what replaced it, or in the stream.

Only the row groups of the ranges asked for are read, and of them only the columns asked for. The rule: a range's rows
come from one block, whole, or not at all. Blocks can be replaced between the moment that they were looked up and the
moment that they are opened; then what maintenance wrote about their day is read again, and says where the rows are.
"""

from __future__ import annotations

import json
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Protocol

import pyarrow as pa

from kcl_receiver.errors import BlockDamaged, BlockMissing, StoreUnavailable
from kcl_receiver.ranges import Range
from kcl_receiver.store.base import BlockStore
from kcl_receiver.store.entries import BlockStored, entry_from_json
from kcl_receiver.store.ledger import read_block_footer
from kcl_receiver.store.maintenance import DayChanges, content_of, lifecycle, load_day
from kcl_receiver.store.names import block_day
from kcl_receiver.store.parquet import SCHEMA, check_range, range_checksum
from kcl_receiver.store.reads import decoding
from kcl_receiver.store.row_groups import RowGroups

DAYS_KEPT = 3
FILES_KEPT = 4
DAY_MS = 86_400_000
CHECKED_COLUMNS = frozenset(SCHEMA.names) - {"shard_id"}
"""The columns that a range's checksum is over."""

_HINT = "`kcl-receiver recover` reads it again from Kinesis while the stream retains it; or read with a fallback"


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


class _File:
    """An open block and the row group that was read last."""

    def __init__(self, store: BlockStore, block: str) -> None:
        self._block = block
        self._file = store.open_block(block)
        try:
            self._groups = RowGroups(self._file, f"block {block} cannot be read", _HINT)
        except BaseException:
            self._file.close()
            raise
        self._last: tuple[int, tuple[str, ...], pa.Table] | None = None
        self.compared = False

    def rows(self, one: Range, columns: tuple[str, ...]) -> pa.Table:
        """Return the rows of a range.

        Raises:
            BlockDamaged: They cannot be read.
        """
        pieces: list[pa.Table] = []
        for group in self._groups.of_rows(one.first_row, one.count):
            begin, end = self._groups.begins[group : group + 2]
            low, high = max(one.first_row, begin), min(one.first_row + one.count, end)
            pieces.append(self._group(group, columns).slice(low - begin, high - low))
            if len(pieces) > 1:
                self._groups.check_size(pa.concat_tables(pieces), [one])
        return pieces[0] if len(pieces) == 1 else pa.concat_tables(pieces)

    def _group(self, group: int, columns: tuple[str, ...]) -> pa.Table:
        if self._last is not None and self._last[:2] == (group, columns):
            return self._last[2]
        self._last = None  # one row group at a time
        with decoding(self._file, f"block {self._block} cannot be read", _HINT):
            table = self._groups.read([group], columns).select(list(columns))
            self._last = group, columns, table.cast(pa.schema([SCHEMA.field(name) for name in columns]))
        return self._last[2]

    def close(self) -> None:
        self._last = None
        self._file.close()


class Blocks:
    """See the module.

    Args:
        store: The store; it is only read.
        check: Make the checksum of each range of which all is read, and hold the others against the block's footer.
        fallback: Where records come from whose block is missing or damaged, or None.
        now: Milliseconds since the epoch.
    """

    def __init__(self, store: BlockStore, *, check: bool, fallback: Fallback | None, now: Callable[[], int]) -> None:
        self._store = store
        self._check = check
        self._fallback = fallback
        self._now = now
        self._days: OrderedDict[str, Day] = OrderedDict()
        self._files: OrderedDict[str, _File] = OrderedDict()
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
            changes = load_day(self._store, day, ranges=False)
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
            self._made[block] = self._find_made(block)
            while len(self._made) > FILES_KEPT:
                self._made.popitem(last=False)
        self._made.move_to_end(block)
        return self._made[block]

    def _find_made(self, block: str) -> BlockStored:
        # The day was loaded, and so each line was held against the hash of the one before.
        named = f'"block":"{block}"'.encode()
        for _, content in self._store.maintenance_ledgers(block_day(block)):
            at = content.find(named)
            while at >= 0:
                line = content[content.rfind(b"\n", 0, at) + 1 : content.find(b"\n", at)]
                entry = entry_from_json(json.loads(line))
                if isinstance(entry, BlockStored) and entry.block == block:
                    return entry
                at = content.find(named, at + 1)
        raise StoreUnavailable(f"the maintenance ledger that names block {block} is not there any more", "read again")

    def rows(
        self, entry: BlockStored, ranges: Sequence[Range], columns: tuple[str, ...]
    ) -> Iterator[tuple[Range, pa.Table | None]]:
        """Yield ranges of a block in the order given, each with its rows, or None if the block was expired.

        Raises:
            BlockMissing: The block is not there, nothing stands in for it, and there is no fallback that has it.
            BlockDamaged: The same for one that is not what was stored.
            StoreUnavailable: It cannot be read now.
        """
        waiting = deque(ranges)
        while waiting:
            changes = self.day_of(entry.block).changes
            if entry.block in changes.expired and entry.block not in changes.replaced:
                yield from ((one, None) for one in waiting)
                return
            places = [self._find(changes, entry, one) for one in waiting]
            try:
                for block, group in groupby(zip(tuple(waiting), places, strict=True), key=lambda one: one[1][0]):
                    for one, (_, there) in group:
                        if block in changes.expired:
                            table = None
                        else:
                            table = self._read(block, self.made(block) or entry, there, columns)
                        waiting.popleft()
                        yield one, table
            except (BlockMissing, BlockDamaged) as error:
                self._forget(entry.block, places)
                changes = self.day_of(entry.block).changes
                moved = [self._find(changes, entry, one) for one in waiting]
                if moved != places[len(places) - len(waiting) :] or entry.block in changes.expired:
                    continue  # maintenance was here just now
                if isinstance(error, BlockMissing) and self._outlived(waiting):
                    yield from ((one, None) for one in waiting)
                    return
                yield from self._elsewhere(entry, tuple(waiting), columns, error)
                return

    def close(self) -> None:
        """Close what is open."""
        while self._files:
            self._files.popitem()[1].close()

    def _find(self, changes: DayChanges, entry: BlockStored, one: Range) -> tuple[str, Range]:
        """Return the block that should hold a range now, and the range as it is there."""
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

    def _read(self, block: str, entry: BlockStored, one: Range, columns: tuple[str, ...]) -> pa.Table:
        file = self._open(block)
        full = set(columns) >= CHECKED_COLUMNS
        if self._check and not full and not file.compared:
            if read_block_footer(self._store, block).ranges != entry.ranges:
                raise BlockDamaged(f"the footer of block {block} does not say what the ledger says", _HINT)
            file.compared = True
        table = file.rows(one, columns)
        if self._check and full and range_checksum(table) != one.checksum:
            raise BlockDamaged(
                f"in block {block}, the records have another checksum than those that were stored", _HINT
            )
        return table

    def _open(self, block: str) -> _File:
        if block not in self._files:
            while len(self._files) >= FILES_KEPT:
                self._files.popitem(last=False)[1].close()
            self._files[block] = _File(self._store, block)
        self._files.move_to_end(block)
        return self._files[block]

    def _forget(self, block: str, places: Sequence[tuple[str, Range]]) -> None:
        self._days.pop(block_day(block), None)
        self._made.clear()
        self._index = None
        for one, _ in places:
            if one in self._files:
                self._files.pop(one).close()

    def _outlived(self, ranges: Iterable[Range]) -> bool:
        """Return whether a rule outside of this program has removed the block by now."""
        days = lifecycle(self._store)
        if days is None:
            return False
        before = self._now() - days * DAY_MS
        return all(one.arrivals.all_before(before) for one in ranges)

    def _elsewhere(
        self, entry: BlockStored, ranges: Sequence[Range], columns: tuple[str, ...], error: BlockMissing | BlockDamaged
    ) -> Iterator[tuple[Range, pa.Table]]:
        found: dict[Range, pa.Table] = {}
        if self._fallback is not None:
            for one, table in self._fallback.ranges(entry, tuple(ranges)):
                check_range(one, table)
                found[content_of(one)] = table
        for number, one in enumerate(ranges):
            table = found.pop(content_of(one), None)
            if table is None:
                raise type(error)(f"{error.message}: {describe(ranges[number:])}", error.hint or _HINT) from error
            yield one, table.select(list(columns)).cast(pa.schema([SCHEMA.field(name) for name in columns]))


def describe(ranges: Sequence[Range], most: int = 3) -> str:
    """Return ranges as text for a message."""
    shown = [f"{one.count} records of {one.shard} from {one.first} to {one.last}" for one in ranges[:most]]
    more = len(ranges) - len(shown)
    return ", ".join(shown) + (f", and {more} more ranges" if more else "")
