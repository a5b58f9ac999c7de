"""The store's log: which writers there are, in an order that no clock decides.

Entries are numbered from 1. Each is an object of its own, created only if its number is free by somebody who has read
the one before. So of two who change something at once one is refused, reads what the other did, and tries the next
number. Each entry repeats all that holds, so that a start reads the newest alone, however old the store is; those
before it are kept for people. The rules:

    a writer is among the living before its ledger has a line, and until that has its last one
    a ledger that is neither of a living writer nor kept is needed by no session, unless `forgotten` says so
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from kcl_receiver.errors import SEE_REPAIR, LedgerDamaged, StoreUnavailable
from kcl_receiver.ids import check_writer_id
from kcl_receiver.ranges import Forgotten, StreamIdentity
from kcl_receiver.store.layout import log_path
from kcl_receiver.store.ledger.entries import (
    Living,
    StoreState,
    WriterStarted,
    decode_line,
    encode_lines,
    first_prev,
)
from kcl_receiver.store.store import Store

_NAME = "log"
_LOOKED_AT = 100
"""Entries behind the newest one."""


class Logged(NamedTuple):
    """An entry with its number and its hash; number 0 before there is any."""

    number: int
    hash: str
    state: StoreState


EMPTY = StoreState()
"""What holds where there is no log."""
LOST = Logged(0, first_prev(_NAME), EMPTY)
"""The newest entry where there is none."""


class StoreLog:
    """The log of one store. Any method may raise `StoreUnavailable`; after that the same call may follow.

    Args:
        store: The store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._newest = LOST

    @property
    def state(self) -> StoreState:
        """What held when the log was read last."""
        return self._newest.state

    def newest(self) -> Logged:
        """Return the newest entry.

        Raises:
            LedgerDamaged: It is not as it was written.
        """
        found = self._newest
        following = self._following(found) if found.number else self._listed()
        if following is None and found.number and not self._is_there(found):
            listed = self._listed()  # it was lost, and may have begun anew; an older one may be put back, too
            following = listed if listed is not None and listed.state.last >= found.state.last else None
        while following is not None:
            found, following = following, self._following(following)
        self._newest = found
        return found

    def _is_there(self, found: Logged) -> bool:
        with suppress(LedgerDamaged):  # what it said is known
            return self._read(found.number) == found
        return True

    def _listed(self) -> Logged | None:
        number = self._store.newest_log_number()
        return self._read(number) if number else None

    def _following(self, found: Logged) -> Logged | None:
        try:
            return self._read(found.number + 1)
        except LedgerDamaged:
            if self._store.newest_log_number() <= found.number + 1:
                raise
            return self._listed()  # the log has begun anew behind it

    def _read(self, number: int) -> Logged | None:
        line = self._store.log_entry(number)
        if line is None:
            return None
        try:
            own, state = decode_line(line.removesuffix(b"\n"), number)
            if not isinstance(state, StoreState):
                raise ValueError("it says nothing of the store's state")
            for writer in (*state.living, *filter(None, [state.last])):
                check_writer_id(writer)
        except ValueError as error:
            what = f"entry {number} of the log of the store {self._store.url} is not as it was written: {error}"
            raise LedgerDamaged(what, SEE_REPAIR) from error
        return Logged(number, own, state)

    def before_damage(self) -> StoreState:
        """Return what held by the newest entry that is as it was written; nothing if there is none of late."""
        newest = self._store.newest_log_number()
        for number in range(newest, max(0, newest - _LOOKED_AT), -1):
            with suppress(LedgerDamaged):
                if (found := self._read(number)) is not None:
                    return found.state
        return EMPTY

    def change(self, changed: Callable[[StoreState], StoreState]) -> StoreState:
        """Change what holds; return what holds now, all of it durable.

        Args:
            changed: Returns what is to hold, of what holds. Given that, it returns it again: an answer can be lost, and
                is not missed.

        Raises:
            LedgerDamaged: The newest entry is not as it was written.
        """
        while True:
            newest = self.newest()
            if newest.number:
                self._store.settle_log_entry(newest.number)  # its writer may have ended before it was durable
            state = changed(newest.state)
            if state == newest.state:
                return state
            line, _ = encode_lines([state], newest.number + 1, newest.hash)
            if not self._store.create_log_entry(newest.number + 1, line):  # whoever was first: it is read next
                self._require(newest.number + 1)

    def rebuild(self, rebuilt: Callable[[StoreState], StoreState]) -> None:
        """Begin anew behind a newest entry that is damaged.

        Args:
            rebuilt: Returns what holds, given what held by an entry that can be read.

        Raises:
            StoreUnavailable: It was not made, or nobody knows.
        """
        number = self._store.newest_log_number() + 1  # first: who changes the log meanwhile is not overwritten
        state = rebuilt(self.before_damage())
        line, tail = encode_lines([state], number, first_prev(_NAME))
        if not self._store.create_log_entry(number, line):
            self._require(number)
            raise StoreUnavailable(f"somebody else made entry {number} of the log of {self._store.url}", "try again")
        self._newest = Logged(number, tail.hash, state)

    def _require(self, number: int) -> None:
        if self._store.log_entry(number) is None:
            raise StoreUnavailable(
                f"{self._store.objects.shown(log_path(number))} can neither be made nor read",
                "is something else there under this name? Move it away",
            )


def began(
    state: StoreState,
    started: WriterStarted,
    closed: Iterable[str],
    stream: StreamIdentity,
    forgotten: Mapping[str, Forgotten],
    oldest: int = 0,
) -> StoreState:
    """Return what holds once a writer begins, and others are closed. Those stay needed until `settled` says otherwise.

    Args:
        state: What holds.
        started: The first line of its ledger.
        closed: The ledgers that are closed.
        stream: The stream.
        forgotten: See `StoreState`; it is added to what others have forgotten.
        oldest: What arrived before this is not in the stream any more, milliseconds since the epoch.

    Raises:
        Overtaken: A writer began meanwhile whose id is not smaller: ids are in the order in which writers begin.
    """
    if started.writer not in state.living and state.last >= started.writer:
        raise Overtaken(state.last)
    after = ended(state, started.writer, started.time, closed)
    living = {**after.living, started.writer: Living(started.host, started.pid, started.version, started.time)}
    return StoreState(
        by=started.writer,
        time=started.time,
        living=living,
        kept=after.kept,
        stream=stream,
        forgotten=_merged(state.forgotten if state.stream == stream else {}, forgotten, oldest),
        last=max(state.last, started.writer),
    )


class Overtaken(Exception):
    """Another writer has begun, and its id is not smaller.

    Attributes:
        last: That id.
    """

    def __init__(self, last: str) -> None:
        super().__init__(last)
        self.last = last


def ended(state: StoreState, by: str, time: int, closed: Iterable[str]) -> StoreState:
    """Return what holds once ledgers are closed.

    Args:
        state: What holds.
        by: Id of the writer that says so.
        time: Milliseconds since the epoch.
        closed: These ledgers.
    """
    gone = {*closed}
    living = {writer: one for writer, one in state.living.items() if writer not in gone}
    kept = tuple(sorted({*state.kept, *gone}))
    if living == state.living and kept == state.kept:
        return state
    return replace(state, by=by, time=time, living=living, kept=kept)


def is_behind(state: StoreState, writers: Sequence[str]) -> bool:
    """Return whether the log has lost its newest entries: a writer is in it before it has a ledger.

    Args:
        state: What it says.
        writers: Those that had a ledger before it was read, in order.
    """
    return bool(writers) and writers[-1] > state.last


def settled(
    state: StoreState,
    by: str,
    time: int,
    needed: Container[str],
    forgotten: Mapping[str, Forgotten],
    *,
    read: Container[str] | None = None,
    oldest: int = 0,
) -> StoreState:
    """Return what holds once of the closed ledgers that were read only some are needed by sessions to come.

    Args:
        state: What holds.
        by: Id of the writer that says so.
        time: Milliseconds since the epoch.
        needed: These.
        forgotten: What is in others than these; see `StoreState`.
        read: The closed ledgers that it has read; of others it knows nothing. None are all.
        oldest: What arrived before this is not in the stream any more, milliseconds since the epoch.
    """
    kept = tuple(writer for writer in state.kept if writer in needed or (read is not None and writer not in read))
    if kept == state.kept:
        return state
    return replace(state, by=by, time=time, kept=kept, forgotten=_merged(state.forgotten, forgotten, oldest))


def _merged(known: Mapping[str, Forgotten], more: Mapping[str, Forgotten], oldest: int) -> dict[str, Forgotten]:
    """Return what several have forgotten, without what is not in the stream any more."""
    out = {shard: one for shard, one in known.items() if not 0 <= one.newest < oldest}
    return {**out, **{shard: one.with_(known.get(shard, one)) for shard, one in more.items()}}
