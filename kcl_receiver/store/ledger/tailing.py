"""Walks through the ledgers of a store, one in memory at a time, and goes on where it stopped.

The rule: what a walk has not yielded is in a line at or after its place, whatever happened to the files meanwhile. Each
poll reads the store's log first, and the ledgers of the writers that are known by then, so that a ledger that has a
successor is read to its end. A line that was seen and is gone again was never durable.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kcl_receiver.errors import LedgerDamaged
from kcl_receiver.ids import day_of, writer_of
from kcl_receiver.store.ledger.entries import Entry, iter_entries
from kcl_receiver.store.ledger.notes import notes, written
from kcl_receiver.store.ledger.store_log import LOST, Logged, StoreLog, is_behind
from kcl_receiver.store.ledger.transaction import REPAIR, load_day
from kcl_receiver.store.ledger.writer import rebuild_from_footers, writers_since
from kcl_receiver.store.store import Store

DAY_MS = 86_400_000


class Place(NamedTuple):
    """A line of a writer's ledger, from 1; before it is all of the writers that sort before this one."""

    writer: str
    line: int


class DayBegan(NamedTuple):
    """Now is the time to take in what maintenance recorded of a day, `YYYY-MM-DD`.

    Without `note`, what follows is of this day or a later one; all of the days before was yielded. With the number of a
    note of `repair`, the day was there before, and more of it is recorded now.
    """

    day: str
    note: int = 0


class LedgerWalk:
    """See the module.

    Args:
        store: The store; it is only read.
        place: The line to begin with, or None to begin with the first.
        since: Leave out ledgers in which nothing can be that arrived at this time or later, milliseconds since the
            epoch. A day is left for clocks that differ.
        noted: Notes of maintenance that were seen before `place`.

    Attributes:
        place: The line that was yielded last, or the one after it.
        noted: The last note of maintenance of which all was taken in.
    """

    def __init__(self, store: Store, place: Place | None = None, since: int | None = None, noted: int = 0) -> None:
        self._store = store
        self._log = StoreLog(store)
        self._from = place
        self._since = since
        self._known: set[str] = set()
        self._open: set[str] = set()
        self._seen = ""
        self._behind = False
        self._listed = False
        self._lines: dict[str, int] = {}
        self._day = ""
        self._polled = False
        self.place = place
        self.noted = noted

    def poll(self) -> Iterator[tuple[Place, Entry | DayBegan]]:
        """Yield what is new, each with its place. A torn last line is left for a later poll.

        Raises:
            LedgerDamaged: A line is not as it was written.
            StoreUnavailable: The store cannot be read now; poll again.
        """
        yield from self._find_repairs()
        try:
            logged = self._log.newest()
        except LedgerDamaged:
            logged = LOST  # the ledgers say all that is read; `verify` says that the log is damaged
        days: list[str] = []
        if not self._polled or logged.hash != self._seen or not logged.number or self._behind:
            fresh = self._find_new(logged)
            self._open.update(fresh)
            days = self._find_days(fresh)
        if not self._polled and not self._listed:
            yield from self._from_footers(days)
        todo = sorted(self._open)
        if self._from is not None and not self._polled:
            self._lines[self._from.writer] = self._from.line - 1
        for writer in todo:
            yield from self._begin_days(days, day_of(writer))
            content = self._store.ledger(writer) or b""
            line = self._lines.get(writer, 0)
            for entry in iter_entries(writer, content, skip=line):
                line += 1
                self.place = Place(writer, line)
                yield self.place, entry
                self._lines[writer] = line
            self.place = Place(writer, line + 1)
        yield from self._begin_days(days, None)
        self._polled = True
        if logged.number and not self._behind:
            self._open &= {*logged.state.living}
        self._seen = logged.hash
        self._lines = {writer: line for writer, line in self._lines.items() if writer in todo}

    def _find_repairs(self) -> Iterator[tuple[Place, DayBegan]]:
        """Yield the days of which `repair` recorded more, unless the walk comes to all days yet."""
        if not self._polled and self._from is None:
            self.noted = written(self._store)
            return
        for one in list(notes(self._store, self.noted)):
            if one.role == REPAIR:
                day = day_of(one.writer)
                yield Place(_began_at(day), 1), DayBegan(day, one.number)
            self.noted = one.number

    def _find_new(self, logged: Logged) -> list[str]:
        names = self._store.writers()
        self._listed = bool(names)
        # The listing came after the log was read. It counts as lost if it does not know of them now, either.
        self._behind = (
            bool(logged.number) and is_behind(logged.state, names) and is_behind(self._log.newest().state, names)
        )
        if logged.number and not self._behind:
            # One that began later is left for the next poll: the ledger before it may get a line until it is read.
            names = sorted({*(one for one in names if one <= logged.state.last), *logged.state.living})
        fresh = [writer for writer in names if writer not in self._known]
        self._known.update(names)
        if self._polled:
            return fresh
        if self._from is not None:
            return [writer for writer in fresh if writer >= self._from.writer]
        if self._since is not None:
            return writers_since(self._store, fresh, self._since - DAY_MS)
        return fresh

    def _find_days(self, fresh: list[str]) -> list[str]:
        """Return the days with maintenance that are still to come, of all or from the first writer on."""
        first = day_of(self._from.writer) if self._from is not None else ""
        if self._since is not None and fresh:
            first = day_of(fresh[0])
        return [day for day in self._store.maintenance_days() if day > self._day and day >= first]

    def _begin_days(self, days: list[str], last: str | None) -> Iterator[tuple[Place, DayBegan]]:
        """Yield the days up to one, or all."""
        while days and (last is None or days[0] <= last):
            self._day = days.pop(0)
            yield Place(_began_at(self._day), 1), DayBegan(self._day)

    def _from_footers(self, days: list[str]) -> Iterator[tuple[Place, Entry]]:
        """The ledger was lost: the blocks themselves are what is left, but for those that `repair` has recorded."""
        recorded = {
            block
            for day in days
            for block, entry in load_day(self._store, day, ranges=False).blocks.items()
            if not entry.replaces
        }
        for block, size in self._store.list_blocks():
            for entry in rebuild_from_footers(self._store, [(block, size)], recorded):
                self.place = Place(writer_of(block), 1)
                yield self.place, entry


def _began_at(day: str) -> str:
    """Return an id that sorts before those of all writers of a day."""
    return f"{day.replace('-', '')}T000000Z-00000000"
