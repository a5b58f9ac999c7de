"""The other generators that write to the same store: what they have recorded, and which of them are dead.

Before a session is told what is stored of its shard, the ledgers that the store's log names are read on: those that
grow, and those that were closed since. So what the owner before had stored is known, and how much was read is recorded
with the session (`Seen`). Looks that were asked for while one was under way share the next one.

Whether a writer is dead is decided by its ledger alone: each has a line to write at least at every measurement of the
service's clock, so one that has not grown from a measurement here to the next, `LOOKS` times, is taken for dead and
closed. A look that failed does not count, and the clock only says when to look. One that was taken for dead and is not
finds its ledger closed: nothing that it reports is wrong, and it begins anew.

Where no other generator can write there are no neighbours, and nothing is looked at.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence

from kcl_receiver.errors import LedgerDamaged, StoreUnavailable
from kcl_receiver.store.ledger.entries import (
    BlockStored,
    Closed,
    Entry,
    Seen,
    StoreState,
    Tail,
    WriterLedger,
    decode_more,
    first_prev,
)
from kcl_receiver.store.ledger.store_log import EMPTY, StoreLog, ended
from kcl_receiver.store.ledger.takeover import close
from kcl_receiver.store.store import Store

log = logging.getLogger(__name__)

LOOKS = 3
"""Measurements in a row at which a ledger had not grown."""
PATIENCE = 5
"""Looks or starts in a row that one ledger made fail: then they go on without it. It costs doubles, and no record."""
APART_MS = 600_000
"""Measurements that follow sooner count as one: a record that shows the clock to be late has it measured at once."""


class Neighbours:
    """See the module. Threads may share it.

    Args:
        store: The store.
        log: Its log.
        heard: Takes what others have recorded; called in the order of each ledger's lines.
        alone: No other generator writes to the store.
    """

    def __init__(self, store: Store, log: StoreLog, heard: Callable[[Sequence[Entry]], None], *, alone: bool) -> None:
        self._alone = alone
        self._store = store
        self._heard = heard
        self._log = log
        self._state = self._seen = EMPTY
        self._growing: dict[str, Tail] = {}
        self._recorded: dict[str, set[str]] = {}  # the blocks that are named up to there
        self._read: set[str] = set()
        self._own: set[str] = set()
        self._still: dict[str, tuple[int, int]] = {}
        self._looked: int | None = None
        self._own_lines = 0
        self._failed: dict[str, int] = {}
        self._alone_since = ""
        self._begun = 0
        self._done = 0
        self._lock = threading.Lock()

    def took_over(self, state: StoreState, read: Mapping[str, WriterLedger], growing: Iterable[str]) -> None:
        """A start has read some ledgers that the log names, those that grow up to a line, and others to their end."""
        self._state = self._seen = state
        self._growing = {writer: read[writer].tail for writer in growing}
        self._recorded = {writer: _blocks(read[writer].entries) for writer in self._growing}
        self._read = {*read} - {*self._growing}

    def gives_up(self, writer: str) -> bool:
        """Note that a ledger could not be read, or closed; return whether to go on without that by now."""
        self._failed[writer] = self._failed.get(writer, 0) + 1
        return self._failed[writer] >= PATIENCE

    def begins(self, writer: str) -> None:
        """A writer of this generator is about to begin."""
        self._own.add(writer)

    def began(self, writer: str, state: StoreState) -> None:
        """The log says now that it has."""
        self._state = state
        self._alone_since = writer if {*state.living} <= self._own else ""

    def changed(self, state: StoreState) -> None:
        """This generator has changed the log, which says this now."""
        self._state = state

    @property
    def state(self) -> StoreState:
        """What the log said when it was read last."""
        return self._state

    @property
    def beside(self) -> list[str]:
        """The other writers that were living at the last look."""
        return [writer for writer in self._seen.living if writer not in self._own]

    def is_over(self, writer: str) -> bool:
        """Return whether the log, when it was read last, said that a writer which had begun is not living any more."""
        return writer <= self._state.last and writer not in self._state.living

    def has_read(self) -> set[str]:
        """Return the writers of which all is known here that is in closed ledgers."""
        return self._read | self._own

    def look(self) -> Seen | None:
        """Read what others have recorded since the last look; return how much was read, or None if there is nobody.

        Raises:
            StoreUnavailable: It cannot be read now.
        """
        if self._alone:
            return None
        asked_for = self._begun + 1
        with self._lock:
            if self._done < asked_for:
                self._begun += 1
                self._look()
                self._done = self._begun
            state = self._seen  # of this look: a line of the log that came since says nothing of what was read
            if state.last == self._alone_since:
                return None
            unread = {*state.living, *state.kept} - self._own - self._read
            known = {writer: self._growing[writer].number for writer in unread if writer in self._growing}
            return Seen(state.last, {writer: known.get(writer, 0) for writer in sorted(unread)})

    def _look(self) -> None:
        state = self._seen
        try:
            state = self._state = self._log.newest().state
        except LedgerDamaged as error:
            log.warning("%s; until then nobody new is seen", error.message)
        self._heard([state])
        named = {*state.living, *state.kept}
        for writer in sorted(named - self._own - self._read):
            try:
                self._read_on(writer, is_living=writer in state.living)
            except StoreUnavailable as error:
                if not self.gives_up(writer):
                    raise
                log.warning("%s; what is in it is not known here, and may be stored twice", error.message)
            else:
                self._failed.pop(writer, None)
        self._read &= named
        self._growing = {writer: tail for writer, tail in self._growing.items() if writer in named - self._read}
        self._recorded = {writer: blocks for writer, blocks in self._recorded.items() if writer in self._growing}
        self._seen = state

    def _read_on(self, writer: str, *, is_living: bool) -> None:
        tail = self._growing.get(writer) or Tail(0, first_prev(writer))
        lines = self._store.ledger_from(writer, tail.number + 1, at_end=is_living and writer in self._growing)
        entries, after, fault = decode_more(writer, lines, tail)
        if fault is not None:
            log.warning("%s; what follows is not known here, and may be stored twice", fault.message)
        self._heard(entries)
        self._growing[writer] = after
        self._recorded.setdefault(writer, set()).update(_blocks(entries))
        if _ends(entries) or not is_living:
            self._read.add(writer)

    def close_dead(self, by: str, time: int, now: int, lines: int) -> str:
        """Look whether ledgers have grown since the last time that this was asked, and close that of a dead writer.

        One at a time: the others are closed when this is asked again.

        Args:
            by: Id of the present writer here.
            time: Milliseconds since the epoch.
            now: A clock that is never set, milliseconds.
            lines: How many its ledger has: if it has not grown either, the store takes no lines, and nobody is dead.

        Returns:
            The writer whose ledger was closed; empty if there is none.

        Raises:
            StoreUnavailable: It cannot be told now.
        """
        if self._looked is not None and now - self._looked < APART_MS:
            return ""
        if lines == self._own_lines or self.look() is None:
            return ""
        self._looked, self._own_lines = now, lines
        with self._lock:
            still: dict[str, tuple[int, int]] = {}
            for writer in self.beside:
                number = self._growing[writer].number if writer in self._growing else -1
                known, times = self._still.get(writer, (-2, 0))
                still[writer] = number, times + 1 if known == number else 0
            self._still = still
            dead = [writer for writer, (_, times) in still.items() if times >= LOOKS]
        closed = next((writer for writer in dead if self._close(writer, by, time)), "")
        if closed:
            self._log.change(lambda state: ended(state, by, time, [closed]))
        return closed

    def _close(self, writer: str, by: str, time: int) -> bool:
        with self._lock:
            tail = self._growing.get(writer) or Tail(0, first_prev(writer))
            recorded = {*self._recorded.get(writer, ())}
        try:
            if not close(self._store, writer, by, time, tail, recorded):
                return False
        except (LedgerDamaged, StoreUnavailable) as error:
            log.warning("%s; it is not closed", error.message)
            return False
        log.warning("writer %s has recorded nothing for long: its ledger was closed", writer)
        return True


def _blocks(entries: Iterable[Entry]) -> set[str]:
    return {entry.block for entry in entries if isinstance(entry, BlockStored)}


def _ends(entries: Sequence[Entry]) -> bool:
    return bool(entries) and isinstance(entries[-1], Closed)
