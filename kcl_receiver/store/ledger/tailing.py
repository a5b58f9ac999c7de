"""Walks through the ledgers of a store in an order that keeps what depends on what, and goes on where it stopped.

The rule: what a walk has not yielded is in a line at or after its place, whatever happened to the files meanwhile. Each
poll reads the store's log first, and the ledgers of the writers that are known by then, so that a ledger that has a
successor is read to its end. A line that was seen and is gone again was never durable.

Several ledgers can grow at once. They are gone through in the order of their ids, and the lines of each in theirs; but
where a session's line says what had been read before it (`Seen`), all of that comes first, and so the order is one in
which things can have happened. One ledger at a time is in memory, and those of which a part was read ahead, or that
wait for others.

A ledger that grows is read on from where it ended. Where each append is an object of its own, a poll with nothing new
costs a request for each of them, and one for the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kcl_receiver.errors import SEE_REPAIR, LedgerDamaged
from kcl_receiver.ids import day_of, writer_of
from kcl_receiver.store.ledger.entries import (
    Entry,
    Seen,
    SessionStarted,
    Tail,
    ends_closed,
    first_prev,
    iter_more,
    tail_after,
)
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
        tail: That line, if all that come here are as they were written.
    """

    def __init__(self, writer: str, lines: bytes, tail: Tail, skip: int = 0) -> None:
        self.closed = ends_closed(lines)
        self.tail = tail_after(lines, tail)
        self._entries = iter_more(writer, lines, tail, skip)
        self._next: Entry | None = None

    def peek(self) -> Entry | None:
        """Return the next one, None at the end."""
        if self._next is None:
            self._next = next(self._entries, None)
        return self._next

    def pop(self) -> None:
        """Leave the next one behind."""
        self._next = None


class _Reading:
    """A ledger that is being read.

    Attributes:
        writer: Whose it is.
        through: The number of the last line that is wanted; None for all that there are.
        witness: Whose session had seen what is wanted: then it must be there. Empty if nobody had.
        seen: What the session of its next line had seen.
        before: The ledgers that come before that line, the last one first; None if they were not looked for yet.
        again: It was shorter, and has been read anew.
    """

    def __init__(self, writer: str, through: int | None = None, witness: str = "") -> None:
        self.writer = writer
        self.through = through
        self.witness = witness
        self.seen: Seen | None = None
        self.before: list[str] | None = None
        self.again = False


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
        self._through = began.last
        self._reached: dict[str, Tail] = {}  # the last lines of ledgers that were read to their end, and may grow
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
                yield from self._read(writer)
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
        # All up to here are known. If the log is lost, ids need not have come in their order.
        names = self._store.writers(min(self._through, logged.state.last) if logged.number else "")
        self._listed = bool(names) or (not self._polled and self._store.has_writers())
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
            listed = self._store.writers(self._through)
            self._through = seen.last
            unknown.update(one for one in listed if one <= seen.last and one not in self._known)
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

    def _read(self, writer: str) -> Iterator[tuple[Place, Entry | DayBegan]]:
        """Yield what is new in a ledger, and before a session's line what that had seen of others.

        Of these, sessions may have seen more, and so on: each that waits for others lies below them on a stack.
        """
        stack = [_Reading(writer)]
        while stack:
            here = stack[-1]
            if here.before:
                other = here.before.pop()
                if other in self._open:  # else it is done meanwhile
                    yield from self._visit(other)
                    stack.append(self._seen_by(here, other))
                continue
            rest, entry = self._next(here)
            if entry is None:
                if self._ends_here(here, rest):
                    stack.pop()
            elif here.before is None and isinstance(entry, SessionStarted) and entry.seen is not None:
                self._waiting.add(here.writer)
                here.seen, here.before = entry.seen, self._before(entry.seen, here.writer)
            else:
                self._waiting.discard(here.writer)
                self.place, self.writer = self._here(), here.writer
                yield self.place, entry
                rest.pop()
                here.before = None
                self._lines[here.writer] += 1

    def _next(self, here: _Reading) -> tuple[_Rest, Entry | None]:
        """Return what is left of a ledger, and its next line; None if that is not there, or not wanted."""
        line = self._lines[here.writer]
        rest = self._rests.get(here.writer)
        if here.through is not None and line >= here.through:
            return rest or _Rest(here.writer, b"", Tail(line, "")), None
        if rest is None:
            rest = self._rests[here.writer] = self._rest(here.writer, line, again=here.again)
        return rest, rest.peek()

    def _rest(self, writer: str, line: int, *, again: bool) -> _Rest:
        """Read what comes after a line of a ledger."""
        reached = self._reached.get(writer)
        if not again and reached is not None and reached.number == line and self._only_grows(writer):
            return _Rest(writer, self._store.ledger_from(writer, line + 1, at_end=True), reached)
        if not line:
            return _Rest(writer, self._store.ledger(writer) or b"", Tail(0, first_prev(writer)))
        # That line once more: what follows holds its hash, and it may be the one that ends the ledger.
        return _Rest(writer, self._store.ledger_from(writer, line), Tail(line - 1, ""), line)

    def _only_grows(self, writer: str) -> bool:
        """Return whether what was read of a ledger stays, and no more can have become of it than further appends."""
        if self._store.objects.most_appends is None or not self._logged.number or self._behind:
            return False
        return writer in self._logged.state.living

    def _ends_here(self, here: _Reading, rest: _Rest) -> bool:
        """A ledger is read as far as is wanted, or as it goes: return whether it need not be read once more."""
        writer, line = here.writer, self._lines[here.writer]
        if here.through is not None and line >= here.through:
            return True
        if self._is_done(writer, rest):
            self._open.discard(writer)
            self._ends[writer] = self._lines.pop(writer)
            self._reached.pop(writer, None)
            del self._rests[writer]
        elif rest.tail.number == line and not rest.closed:
            self._reached[writer] = rest.tail
        if not here.witness or (rest.closed and here.through is None):
            return True
        if here.again or writer not in self._open:
            self._miss(writer, line + 1, here.witness)
            return True
        here.again = True  # it may have grown since it was read
        del self._rests[writer]
        return False

    def _before(self, seen: Seen, witness: str) -> list[str]:
        """Return the ledgers of which a session had seen what may not have been yielded yet, the last one first."""
        self._find_named(seen)
        for writer, line in seen.lines.items():
            if self._ends.get(writer, line) < line:
                self._miss(writer, self._ends[writer] + 1, witness)
        return sorted((one for one in self._open if one <= seen.last and one != witness), reverse=True)

    def _seen_by(self, here: _Reading, writer: str) -> _Reading:
        """Return how another ledger is read before the next line of one.

        Raises:
            LedgerDamaged: The other one waits for this one.
        """
        through = here.seen.lines.get(writer) if here.seen is not None else None
        if writer in self._waiting and (through is None or self._lines[writer] < through):
            what = f"the ledgers of writers {here.writer} and {writer} say of each other that they saw what follows"
            raise LedgerDamaged(what, SEE_REPAIR)
        return _Reading(writer, through, here.writer)

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
