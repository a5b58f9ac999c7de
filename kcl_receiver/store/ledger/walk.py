"""The whole ledger while a store is verified: entry by entry, one ledger in memory at a time, each block once.

Days come one behind another, and of each what maintenance wrote comes first: there are the blocks that stand in for
those that the generators' ledgers name. What is wrong with a ledger is noted, and what comes before that is used.

Lines are judged together, and so their order does not matter; but hosts may be storing meanwhile, and a session can be
read that had seen more of another ledger than was read before. So that is read in the end.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import NamedTuple

from kcl_receiver.errors import LedgerDamaged
from kcl_receiver.ids import block_day, day_of, writer_of
from kcl_receiver.store.ledger.entries import (
    Acknowledged,
    BlockStored,
    Closed,
    MarksTaken,
    Seen,
    SessionStarted,
    ShardEnded,
    iter_lines,
)
from kcl_receiver.store.ledger.losses import ledgers_named
from kcl_receiver.store.ledger.maintenance_log import lost, lost_numbers, no_marker, unmarked
from kcl_receiver.store.ledger.transaction import DayChanges, acknowledged, is_acknowledged, load_day
from kcl_receiver.store.ledger.writer import unclosed, unseen
from kcl_receiver.store.store import Store

LOG_IS_LOST = "the store's log cannot be read: it is not known which writers have ended"


class Line(NamedTuple):
    """An entry, its line, and the ledger that it is in: `day` is empty unless that is a maintenance ledger."""

    entry: BlockStored | SessionStarted | ShardEnded | MarksTaken
    line: bytes
    writer: str
    day: str


class Ledgers:
    """See the module.

    Attributes:
        writers: Ids of the generators' ledgers, in order.
        torn: Ids of those that end in a torn line.
        faults: What is wrong, found by the first `walk`.
        acknowledged: What is known to be gone, as `repair` recorded it; found by the first `walk`, too.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.writers, self._state = ledgers_named(store)
        self.torn: list[str] = []
        self.faults: list[str] = []
        self.acknowledged: list[Acknowledged] = []
        self._maintained = set(store.maintenance_days())
        self._changes: dict[str, DayChanges] = {}
        self._judged: set[str] = set()
        self._read: dict[str, set[str]] = {}
        self._foreign: set[str] = set()
        self._own: tuple[str, set[str]] = ("", set())
        self._ends: dict[str, int | None] = {}
        self._named = {*self.writers}
        self._led_to: set[int] = set()
        self._damaged: set[str] = set()
        self._walked = False
        self._lines: dict[str, int] = {}
        self._growing: set[str] = set()
        self._saw: dict[str, tuple[int, str]] = {}
        self._behind: set[str] = set()
        self._last = ""

    def changes(self, block: str) -> DayChanges:
        """Return what maintenance did to the blocks of the day of a block; their ranges are left out.

        Raises:
            StoreUnavailable: It cannot be read now.
        """
        return self._of(block_day(block))

    def _of(self, day: str) -> DayChanges:
        found = self._changes.get(day)
        if found is None:
            found = load_day(self._store, day, ranges=False) if day in self._maintained else DayChanges(day)
            self._changes = {day: found}  # days come one behind another
            if day not in self._judged:
                self._judged.add(day)
                self.faults += [fault.message for fault in found.faults]
                self.acknowledged += found.acknowledged
        return found

    def look_again(self, block: str) -> DayChanges:
        """Return the same as it is now: maintenance may be at work, too.

        Raises:
            StoreUnavailable: It cannot be read now.
        """
        day = block_day(block)
        self._changes.pop(day, None)
        self._maintained.add(day)
        return self.changes(block)

    def walk(self) -> Iterator[Line]:
        """Yield the entries about blocks, sessions, ends and marks; each block once.

        Raises:
            StoreUnavailable: The store cannot be read now.
        """
        for each in (self._foreign, self._read, self._lines, self._growing, self._saw, self._behind):
            each.clear()
        self._last = self.writers[-1] if self.writers else ""
        by_day: dict[str, list[str]] = {day: [] for day in self._maintained}
        for writer in self.writers:
            by_day.setdefault(day_of(writer), []).append(writer)
        for day in sorted(by_day):
            if day in self._maintained:
                yield from self._maintenance(day)
            for writer in by_day[day]:
                yield from self._generator(writer)
        yield from self._catch_up()
        self._walked = True
        for day in sorted(self._maintained):  # what was written to a day while another one was read
            yield from self._maintenance(day)

    def _maintenance(self, day: str) -> Iterator[Line]:
        self._of(day)
        read = self._read.setdefault(day, set())
        later: dict[str, set[str]] = {}
        for number, writer, content in self._store.maintenance_entries(day):
            self._led_to.add(number)
            if writer in read:
                continue
            read.add(writer)
            for one in _blocks(writer, content):
                if not self._is_first(one.entry.block, writer):
                    continue
                if one.entry.block in self.changes(one.entry.block).replaced:
                    later.setdefault(writer, set()).add(one.entry.block)
                else:
                    yield Line(one.entry, one.line, writer, day)
        if not later:
            return
        for writer, content in self._store.maintenance_ledgers(day):
            blocks = later.get(writer, set())
            for one in _blocks(writer, content) if blocks else ():
                if one.entry.block in blocks:
                    yield Line(one.entry, one.line, writer, day)

    def _generator(self, writer: str) -> Iterator[Line]:
        """Yield what was not yielded yet of a ledger."""
        content = self._store.ledger(writer) or b""
        before = self._lines.get(writer, 0)
        number, is_closed = 0, False
        try:
            for entry, _, line in iter_lines(writer, content):
                number += 1
                is_closed = isinstance(entry, Closed)
                if number > before and isinstance(entry, BlockStored | SessionStarted | ShardEnded | MarksTaken):
                    yield Line(entry, line, writer, "")
                    if isinstance(entry, SessionStarted) and entry.seen is not None:
                        self._see(entry.seen, writer)
        except LedgerDamaged as fault:
            is_closed = True  # what comes after is not known
            if not self._walked and writer not in self._damaged:
                self._damaged.add(writer)
                self.faults.append(fault.message)
        self._lines[writer] = number
        (self._growing.discard if is_closed else self._growing.add)(writer)
        self._behind.discard(writer)
        if not self._walked:
            if writer in self._named:
                self._ends[writer] = None if is_closed else number
            if content and not content.endswith(b"\n") and writer not in self.torn:
                self.torn.append(writer)

    def _see(self, seen: Seen, witness: str) -> None:
        """Take in what a session had seen of other ledgers; those that were read before may have grown."""
        for writer, line in seen.lines.items():
            if line > self._saw.get(writer, (0, ""))[0]:
                self._saw[writer] = line, witness
        self._behind.update(
            one for one in self._growing if one <= seen.last and one not in seen.lines and one != witness
        )
        self._last = max(self._last, seen.last)

    def _catch_up(self) -> Iterator[Line]:
        """Yield what sessions had seen and what came into the ledgers after they were read."""
        listed, missed = self.writers[-1:], set[str]()
        while True:
            short = {writer for writer, (line, _) in self._saw.items() if self._lines.get(writer, 0) < line} - missed
            if self._last > max(listed, default="") or not short.issubset(self._lines):
                listed = [self._last]
                found = (writer for writer in self._store.writers() if writer <= self._last)
                short.update(writer for writer in found if writer not in self._lines)
            todo = short | self._behind
            if not todo:
                return
            for writer in sorted(todo):
                yield from self._generator(writer)
                line, witness = self._saw.get(writer, (0, ""))
                number = self._lines[writer] + 1
                if number <= line:
                    missed.add(writer)
                    if not self._walked and writer not in self._damaged:
                        self._miss(writer, number, witness)

    def _miss(self, writer: str, line: int, witness: str) -> None:
        if not acknowledged(self._store, writer, line):
            self.faults.append(unseen(writer, line, witness).message)

    def _is_first(self, block: str, writer: str) -> bool:
        """Return whether no ledger but this one of maintenance has an entry of a block.

        What is torn or damaged in its writer's ledger is no entry.
        """
        own = writer_of(block)
        if own == writer:
            return True
        if block in self._foreign:
            return False
        self._foreign.add(block)
        if self._own[0] != own:
            self._own = own, {one.entry.block for one in _blocks(own, self._store.ledger(own) or b"")}
        return block not in self._own[1]

    def lost_ends(self) -> list[str]:
        """Return what is wrong with the ends of ledgers: asked after the first `walk`.

        Raises:
            StoreUnavailable: The store cannot be read now.
        """
        if self._state is None:
            return [LOG_IS_LOST] if self.writers else []
        ends = {**dict.fromkeys(self._state.living, 0), **self._ends}
        out: list[str] = []
        for writer, number in ends.items():
            if number is None or is_acknowledged(self.acknowledged, writer, number + 1):
                continue
            fault = unclosed(self._store, writer, number, is_living=writer in self._state.living)
            out += [] if fault is None else [fault.message]
        return out

    def lost_entries(self) -> list[str]:
        """Return what is wrong with the maintenance log beyond the ledgers of the days: asked after the first `walk`.

        Raises:
            StoreUnavailable: The store cannot be read now.
        """
        out = [lost(self._store, number).message for number in lost_numbers(self._store) if number not in self._led_to]
        return out + [no_marker(number, writer) for number, writer in unmarked(self._store, self._led_to).items()]

    def entries(self, writer: str, day: str, blocks: Container[str]) -> dict[str, BlockStored]:
        """Return the entries of some blocks by their id, from the ledger that `Line.writer` and `Line.day` named.

        Raises:
            StoreUnavailable: The store cannot be read now.
        """
        if day:
            content = next((content for one, content in self._store.maintenance_ledgers(day) if one == writer), b"")
        else:
            content = self._store.ledger(writer) or b""
        return {one.entry.block: one.entry for one in _blocks(writer, content) if one.entry.block in blocks}


class _Block(NamedTuple):
    entry: BlockStored
    line: bytes


def _blocks(writer: str, content: bytes) -> Iterator[_Block]:
    """Yield the blocks that a ledger names before its first fault, which is told elsewhere."""
    try:
        for entry, _, line in iter_lines(writer, content):
            if isinstance(entry, BlockStored):
                yield _Block(entry, line)
    except LedgerDamaged:
        return
