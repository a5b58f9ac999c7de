"""Walks through the ledgers of a store in an order that keeps what depends on what, and goes on where it stopped.

The rule: what a walk has not yielded is in a line at or after its place, whatever happened to the files meanwhile. Each
poll reads the store's log first, and the ledgers of the writers that are known by then, so that a ledger that has a
successor is read to its end. A line that was seen and is gone again was never durable.

Several ledgers can grow at once. They are gone through in the order of their ids, and the lines of each in theirs; but
where a session's line says what had been read before it (`Seen`), all of that comes first, and so the order is one in
which things can have happened. One ledger at a time is in memory, and those of which a part was read ahead, or that
wait for others.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import NamedTuple

from kcl_receiver.errors import SEE_REPAIR, LedgerDamaged
from kcl_receiver.ids import day_of, writer_of
from kcl_receiver.store.ledger.entries import Entry, Seen, SessionStarted, ends_closed, iter_entries
from kcl_receiver.store.ledger.maintenance_log import newest_number, next_numbers, recorded
from kcl_receiver.store.ledger.place import Place
from kcl_receiver.store.ledger.store_log import LOST, Logged, StoreLog, is_behind
from kcl_receiver.store.ledger.transaction import REPAIR, acknowledged, load_day
from kcl_receiver.store.ledger.writer import rebuild_from_footers, unseen, writers_since
from kcl_receiver.store.store import Store

DAY_MS = 86_400_000
_NOWHERE = Place("", {}, "")


class DayBegan(NamedTuple):
    """Now is the time to take in what maintenance recorded of a day, `YYYY-MM-DD`.

    Without `repaired`, the ledgers that began on this day come after it; those of the days before may still grow. With
    the number of an entry of `repair`, the day was there before, and more of it is recorded now.
    """

    day: str
    repaired: int = 0


class _Rest:
    """The lines of a ledger that were not yielded yet, as they were when it was read.

    Attributes:
        closed: The last of all its lines says that no other follows.
    """

    def __init__(self, writer: str, content: bytes, skip: int) -> None:
        self.closed = ends_closed(content)
        self._entries = iter_entries(writer, content, skip)
        self._next: Entry | None = None

    def peek(self) -> Entry | None:
        """Return the next one, None at the end."""
        if self._next is None:
            self._next = next(self._entries, None)
        return self._next

    def pop(self) -> None:
        """Leave the next one behind."""
        self._next = None


class LedgerWalk:
    """See the module.

    Args:
        store: The store; it is only read.
        place: Where to begin, or None to begin with the first line of all.
        since: Leave out ledgers in which nothing can be that arrived at this time or later, milliseconds since the
            epoch. A day is left for clocks that differ.
        maintained: The last entry of the maintenance log that was seen before `place`; -1: of days before that, what
            `repair` recorded since is not asked for.

    Attributes:
        place: Where a walk begins that yields once more what came last, and all after it; behind all once a poll ends.
        writer: Whose line came last.
        maintained: The last entry of the maintenance log of which all was taken in.
    """

    def __init__(self, store: Store, place: Place | None = None, since: int | None = None, maintained: int = 0) -> None:
        self._store = store
        self._log = StoreLog(store)
        self._logged = LOST
        self._from = place
        self._since = since
        self._seen = ""
        self._behind = False
        self._listed = False
        self._day = ""
        self._days: list[str] = []
        self._polled = False
        began = place or _NOWHERE
        self._passed = began.last
        self._last = began.last
        self._last_day = day_of(began.last) if began.last else ""
        self._lines = dict(began.lines)
        self._open = {*began.lines}
        self._known = {*began.lines}
        self._through = ""
        self._ends: dict[str, int] = {}
        self._rests: dict[str, _Rest] = {}
        self._waiting: set[str] = set()
        self.writer = ""
        self.place = place
        self.maintained = maintained

    @property
    def after(self) -> Place:
        """The place behind the line that was just yielded, whatever else comes of it."""
        return (self.place or _NOWHERE).past(self.writer)

    def poll(self) -> Iterator[tuple[Place, Entry | DayBegan]]:
        """Yield what is new, each with the place before it. A torn last line is left for a later poll.

        Raises:
            LedgerDamaged: A line is not as it was written, or one that another writer saw is not there.
            StoreUnavailable: The store cannot be read now; poll again.
        """
        self._rests, self._waiting, self._days = {}, set(), []
        yield from self._find_repairs()
        try:
            logged = self._log.newest()
        except LedgerDamaged:
            logged = LOST  # the ledgers say all that is read; `verify` says that the log is damaged
        self._logged = logged
        if not self._polled or logged.hash != self._seen or not logged.number or self._behind:
            fresh = self._find_new(logged)
            self._open.update(fresh)
            # Where a clock was set back, an id comes before others that were read.
            self._lines |= {writer: 0 for writer in fresh if writer <= self._last}
            self._days = self._find_days(fresh)
        if not self._polled and not self._listed:
            yield from self._from_footers()
        for writer in sorted(self._open):
            if writer in self._open:  # else another one had seen its end
                yield from self._visit(writer)
                yield from self._read(writer, None)
        yield from self._begin_days(None)
        self._polled = True
        self._seen = logged.hash
        if self._last:
            self.place = self._here()

    def _find_repairs(self) -> Iterator[tuple[Place, DayBegan]]:
        """Yield the days of which `repair` recorded more, unless the walk comes to all days yet."""
        if self.maintained < 0:
            return
        if not self._polled and self._from is None:
            self.maintained = newest_number(self._store)
            return
        newest = next_numbers(self._store, self.maintained) if self._polled else newest_number(self._store)
        for one in recorded(self._store, self.maintained, newest):
            if one.role == REPAIR:
                yield self._here(), DayBegan(day_of(one.writer), one.number)
            self.maintained = one.number

    # Which ledgers there are

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
            self._through = max(self._through, logged.state.last)
        fresh = [one for one in names if one not in self._known and (self._polled or one > self._passed)]
        if not self._polled and self._from is None and self._since is not None and fresh:
            wanted = writers_since(self._store, fresh, self._since - DAY_MS)
            self._pass(max((writer for writer in fresh if writer < wanted[0]), default=""))
            fresh = wanted
        self._known.update(names)
        self._through = max([self._through, *names[-1:]])
        return fresh

    def _pass(self, writer: str) -> None:
        """Leave out all ledgers up to one."""
        if writer > self._last:
            self._passed = self._last = writer
            self._last_day = day_of(writer)

    def _find_named(self, seen: Seen) -> None:
        """Take in the ledgers that a session had seen, and that began after the log was read."""
        unknown = {writer for writer in seen.lines if writer not in self._known and writer > self._passed}
        if seen.last > self._through:
            self._through = seen.last
            unknown.update(one for one in self._store.writers() if one <= seen.last and one not in self._known)
        self._known |= unknown
        self._open |= unknown

    def _is_done(self, writer: str, rest: _Rest) -> bool:
        """Return whether nothing can follow in a ledger that was read to its end."""
        if not self._logged.number or self._behind:
            return rest.closed
        return writer <= self._logged.state.last and writer not in self._logged.state.living

    # Days

    def _find_days(self, fresh: list[str]) -> list[str]:
        """Return the days with maintenance that are still to come, of all or from the first writer on."""
        first = self._from.day if self._from is not None else ""
        if self._since is not None and self._from is None and fresh:
            first = day_of(fresh[0])
        return [day for day in self._store.maintenance_days() if day > self._day and day >= first]

    def _begin_days(self, last: str | None) -> Iterator[tuple[Place, DayBegan]]:
        """Yield the days up to one, or all."""
        while self._days and (last is None or self._days[0] <= last):
            self._day = self._days.pop(0)
            self.place = self._here()._replace(day=self._day)
            yield self.place, DayBegan(self._day)

    # Lines

    def _here(self) -> Place:
        return Place(self._last, dict(self._lines), self._last_day)

    def _visit(self, writer: str) -> Iterator[tuple[Place, DayBegan]]:
        """Begin with a ledger. Those that sort before it were begun with, or are done."""
        day = day_of(writer)
        yield from self._begin_days(day)
        self._lines.setdefault(writer, 0)
        if writer > self._last:
            self._last, self._last_day = writer, day

    def _read(self, writer: str, through: int | None) -> Generator[tuple[Place, Entry | DayBegan], None, bool]:
        """Yield the next lines of a ledger.

        Args:
            writer: Whose it is.
            through: The number of the last one; None yields all.

        Returns:
            Whether that line was there; if all were yielded, whether the last one closes the ledger.
        """
        line = self._lines[writer]
        if through is not None and line >= through:
            return True
        rest = self._rests.get(writer)
        if rest is None:
            rest = self._rests[writer] = _Rest(writer, self._store.ledger(writer) or b"", line)
        while (entry := rest.peek()) is not None:
            if isinstance(entry, SessionStarted) and entry.seen is not None:
                self._waiting.add(writer)
                yield from self._read_seen(writer, entry.seen)
                self._waiting.remove(writer)
            self.place, self.writer = self._here(), writer
            yield self.place, entry
            rest.pop()
            line += 1
            self._lines[writer] = line
            if line == through:
                return True
        if self._is_done(writer, rest):
            self._open.discard(writer)
            self._ends[writer] = self._lines.pop(writer)
            del self._rests[writer]
        return rest.closed and through is None

    def _read_seen(self, witness: str, seen: Seen) -> Iterator[tuple[Place, Entry | DayBegan]]:
        """Yield what a session had seen and what was not yielded yet."""
        self._find_named(seen)
        for writer, line in seen.lines.items():
            if self._ends.get(writer, line) < line:
                self._miss(writer, self._ends[writer] + 1, witness)
        for writer in sorted(one for one in self._open if one <= seen.last and one != witness):
            if writer not in self._open:
                continue  # done meanwhile
            yield from self._visit(writer)
            through = seen.lines.get(writer)
            if writer in self._waiting and (through is None or self._lines[writer] < through):
                what = f"the ledgers of writers {witness} and {writer} say of each other that they saw what follows"
                raise LedgerDamaged(what, SEE_REPAIR)
            is_there = yield from self._read(writer, through)
            if not is_there and writer in self._open:  # it may have grown since it was read
                del self._rests[writer]
                is_there = yield from self._read(writer, through)
            if not is_there:
                self._miss(writer, self._lines.get(writer, self._ends.get(writer, 0)) + 1, witness)

    def _miss(self, writer: str, line: int, witness: str) -> None:
        """A line is not there that was seen: that may be known."""
        if not acknowledged(self._store, writer, line):
            raise unseen(writer, line, witness)

    def _from_footers(self) -> Iterator[tuple[Place, Entry]]:
        """The ledger was lost: the blocks themselves are what is left, but for those that `repair` has recorded."""
        recorded = {
            block
            for day in self._days
            for block, entry in load_day(self._store, day, ranges=False).blocks.items()
            if not entry.replaces
        }
        for block, size in self._store.list_blocks():
            for entry in rebuild_from_footers(self._store, [(block, size)], recorded):
                writer = self.writer = writer_of(block)
                self.place = Place(writer, {writer: 0}, day_of(writer))
                yield self.place, entry
