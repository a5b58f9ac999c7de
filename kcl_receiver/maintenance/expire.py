"""Removes blocks all of whose records arrived before a time, and says so in the ledger.

The rule: the entry that names a block is durable before the block is deleted, so that what is gone on purpose is never
taken for lost. A block whose records' arrival is not known stays. With a block go the entries of all those that it once
replaced, or their ranges would be looked for in vain; so it stays as long as one of them has a younger record. What a
follower that the store knows by name has not confirmed stays, too.

Ledgers are never removed: that something was stored, and when it was removed, stays known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from kcl_receiver.errors import LedgerDamaged
from kcl_receiver.ids import block_day, day_at
from kcl_receiver.store.ledger.entries import BlockStored, Expired, SessionStarted
from kcl_receiver.store.ledger.followers import passed
from kcl_receiver.store.ledger.place import Passed
from kcl_receiver.store.ledger.reading import DayChanges, Ledger
from kcl_receiver.store.ledger.transaction import (
    EXPIRE,
    TRIES,
    Transaction,
    TransactionOvertaken,
    delete_recorded,
    works_elsewhere,
)
from kcl_receiver.store.store import Store

_UNKNOWN = 2**63 - 1
"""Stands for the arrival of records of which it is not known: they never are before a time."""
_BLOCKS_A_LINE = 1_000
_HOUR_MILLIS = 3_600_000
_MAX_RETENTION_HOURS = 8_760
"""The longest retention that Kinesis has: 365 days."""


@dataclass(frozen=True, slots=True)
class DayExpiry:
    """What is to be removed of a day, or was.

    Attributes:
        day: The day.
        blocks: How many blocks go.
        size: Their bytes.
        records: Their records, each block's counted.
        arrival_first, arrival_last: When the first and the last of them arrived, milliseconds; -1 if not known.
        missing: How many blocks are old enough, and are not there any more although no entry removed or replaced them.
    """

    day: str
    blocks: int
    size: int
    records: int
    arrival_first: int
    arrival_last: int
    missing: int


@dataclass(slots=True)
class _Block:
    newest: int
    oldest: int
    records: int


class _Found(NamedTuple):
    """What goes of a day, by what maintenance did to it: the blocks that are there, and all."""

    day: DayExpiry
    changes: DayChanges
    there: list[str]
    old: list[str]


class Expiry:
    """Removes what arrived before a time.

    Memory: some numbers for each block of a day.

    Args:
        store: The store. Unless all is only looked at, the caller holds its maintenance.
        before_ms: The time, milliseconds since the epoch.
        now_ms: The wall clock; without it the days are looked at as well that can hold nothing so old.

    Attributes:
        retention_hours: The longest retention of the stream that the ledgers looked at name; 0 if they name none.
        held: How many blocks that are old enough stay for a follower that has not confirmed them, by its name.
    """

    def __init__(self, store: Store, before_ms: int, now_ms: int = 0) -> None:
        self.retention_hours = 0
        self.held: Counter[str] = Counter()
        self._store = store
        self._before_ms = before_ms
        self._now_ms = now_ms
        self._ledger = Ledger(store, {})

    def plan(self) -> Iterator[DayExpiry]:
        """Yield what is to be removed, the earliest day first. Nothing is changed.

        Raises:
            LedgerDamaged: A ledger cannot be read to its end.
            StoreUnavailable: The store cannot be read now.
        """
        self.held.clear()
        for day, present in self._days_in_question():
            found = self._look(day, present, to_change=False)
            if found is not None:
                yield found.day

    def run(self, now_ms: int) -> Iterator[DayExpiry]:
        """Remove what `plan` shows; yield each day when it is done. Repeatable: a next run goes on.

        Args:
            now_ms: Milliseconds since the epoch.

        Raises:
            LedgerDamaged: A ledger cannot be read to its end.
            StoreUnavailable: The store cannot be read or written now, or other maintenance changes a day all the time.
        """
        self.held.clear()
        for day, present in self._days_in_question():
            found = self._look(day, present, to_change=True)
            for _ in range(TRIES):
                if found is None:
                    break
                with suppress(TransactionOvertaken):
                    self._remove(found, now_ms)
                    yield found.day
                    break
                found = self._look(day, self._store.blocks_of_day(day), to_change=True)
            else:
                raise works_elsewhere(self._store, day)

    def _remove(self, found: _Found, now_ms: int) -> None:
        old = found.old
        transaction = Transaction(self._store, old[0], EXPIRE, now_ms, changes=found.changes)
        for start in range(0, len(old), _BLOCKS_A_LINE):
            names = tuple(old[start : start + _BLOCKS_A_LINE])
            transaction.add_expired(Expired(now_ms, self._before_ms, names))
        transaction.commit()
        self._store.delete_blocks(found.there)  # those that are missing already are named, too

    def finish(self) -> int:
        """Delete what a killed run had removed by its entry and could not delete; return how many blocks.

        Raises:
            StoreUnavailable: The store cannot be read or written now.
        """
        gone = 0
        for day, present in self._days_in_question():
            expired = self._ledger.changes(day, ranges=False).expired
            left = [block for block in present if block in expired]
            delete_recorded(self._store, left)
            gone += len(left)
        return gone

    def _look(self, day: str, present: dict[str, int], *, to_change: bool) -> _Found | None:
        """Return what goes of a day; None if nothing does."""
        changes = (self._ledger.to_change if to_change else self._ledger.changes)(day, ranges=False)
        # After the day was loaded: who is not among them yet announces itself behind what is known of the log.
        blocks = self._blocks(day, changes, passed(self._store))
        old = self._old(blocks, changes)
        if any(block not in present and block not in changes.replaced for block in old):
            present = self._store.blocks_of_day(day)  # other maintenance may have made it since that was listed
        there = [block for block in old if block in present]
        if not there:
            return None
        return _Found(
            DayExpiry(
                day,
                len(there),
                sum(present[block] for block in there),
                sum(blocks[block].records for block in there),
                min(blocks[block].oldest for block in there),
                max(blocks[block].newest for block in there),
                sum(block not in present and block not in changes.replaced for block in old),
            ),
            changes,
            there,
            old,
        )

    def _days_in_question(self) -> Iterator[tuple[str, dict[str, int]]]:
        """Yield each day of which a block can hold a record that arrived before the time, with the blocks there.

        A record is stored within the stream's retention after it arrived, and a block is of the day on which its writer
        began, at most a day before it was stored. A day that is still to come tells nothing: a clock was wrong, and the
        ids of writers have stayed ahead of it since.
        """
        to_come = day_at(self._now_ms + 24 * _HOUR_MILLIS)
        for day, present in self._store.blocks_by_day():
            hours = self.retention_hours or _MAX_RETENTION_HOURS
            if day < day_at(self._before_ms + hours * _HOUR_MILLIS + 24 * _HOUR_MILLIS) or day > to_come:
                yield day, present

    def _blocks(self, day: str, changes: DayChanges, followers: Mapping[str, Passed]) -> dict[str, _Block]:
        """Return all blocks of a day that are recorded and not expired yet.

        One that a follower has not taken in counts as young. What replaced another one is recorded after it.
        """
        out: dict[str, _Block] = {}
        waiting: dict[str, set[str]] = {}
        self._ledger.faults.clear()
        for entry, recording in self._ledger.of_day_placed(day):
            if isinstance(entry, SessionStarted):
                self.retention_hours = max(self.retention_hours, entry.retention_hours)
            elif (
                isinstance(entry, BlockStored) and block_day(entry.block) == day and entry.block not in changes.expired
            ):
                arrivals = [one.arrivals for one in entry.ranges]
                known = bool(arrivals) and not any(one.unknown for one in arrivals)
                newest = max(one.newest for one in arrivals) if known else _UNKNOWN
                oldest = min(one.oldest for one in arrivals) if known else -1
                out[entry.block] = _Block(newest, oldest, entry.rows)
                wait = {name for name, by in followers.items() if not recording.is_passed(by)}
                waiting[entry.block] = wait & waiting.get(entry.block, wait)
        for block, names in waiting.items():
            if names and out[block].newest < self._before_ms and block not in changes.replaced:
                self.held.update(names)
                out[block].newest = _UNKNOWN
        for fault in (*(fault.message for fault in changes.faults), *self._ledger.faults.values()):
            raise LedgerDamaged(fault, "nothing of this day is removed before `kcl-receiver repair` has seen to it")
        return out

    def _old(self, blocks: dict[str, _Block], changes: DayChanges) -> list[str]:
        """Return the blocks that go, those among them that were replaced included, in the order of their ids."""
        newest = {block: one.newest for block, one in blocks.items()}
        for block, stand_ins in changes.replaced.items():
            for stand_in in stand_ins:
                if block in blocks and stand_in in newest:
                    newest[stand_in] = max(newest[stand_in], blocks[block].newest)
        old = {block for block, at in newest.items() if at < self._before_ms}
        gone = {block for block in old if block not in changes.replaced}
        # A replaced block goes with the last of those that stand in for it, and not before.
        over = gone | changes.expired.keys()
        gone |= {block for block in old if block in changes.replaced and over.issuperset(changes.replaced[block])}
        return sorted(gone)
