"""Puts in order what is safe to put in order: what runs that were killed left behind, and a ledger that was lost.

    orphan      a block in no ledger: taken into a maintenance ledger, or deleted if it is known to be held elsewhere
    leftover    a block that was replaced or expired and is still there: deleted
    temporary   a file that nobody writes any more: deleted
    marker      of an entry of the maintenance log: made anew, where it was lost
    damage      lines of a ledger that are not as they were written, or gone: the damaged file is kept under another
                name, what its blocks say is recorded anew, and the rest is acknowledged to be lost
    lost entry  of the maintenance log: one that says nothing takes its number, once its day says what is gone
    log         where the store's log is lost or damaged, it begins anew: all ledgers are needed at the next start

The rule: nothing is deleted but temporary files, blocks that a durable entry says were removed on purpose, and blocks
each of whose ranges is in a block that is recorded, present, not replaced, and was read in full just now. Entries are
durable before anything is deleted on their word. Whatever belongs to a generator that is at work is left alone: its
last blocks are stored before their ledger lines, and its ledger has no end yet. So are young blocks of maintenance that
may be at work on another host; what others record meanwhile makes it look at the day again. It may be killed at any
point.

Where no lock tells whether a generator is at work, the log begins anew beside those that are: those that have a ledger
are named again, and one that is about to begin sees that it is not, and begins once more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from kcl_receiver.errors import BlockDamaged, BlockMissing
from kcl_receiver.ids import block_day, block_id, day_of, writer_of
from kcl_receiver.maintenance.retired_blocks import Leftovers, delete_orphans
from kcl_receiver.ranges import Range
from kcl_receiver.store.ledger.entries import Acknowledged, BlockStored
from kcl_receiver.store.ledger.losses import Loss, at_work, good_lines, ledgers_named, losses, losses_of_day
from kcl_receiver.store.ledger.maintenance_log import lost_numbers, no_marker, unmarked
from kcl_receiver.store.ledger.reading import DayChanges, Ledger
from kcl_receiver.store.ledger.store_log import StoreLog
from kcl_receiver.store.ledger.takeover import rebuilt
from kcl_receiver.store.ledger.transaction import (
    REPAIR,
    TRIES,
    Transaction,
    TransactionOvertaken,
    content_of,
    delete_recorded,
    fill,
    is_acknowledged,
    works_elsewhere,
)
from kcl_receiver.store.store import Store

TAKE_IN = "take in"
DELETE = "delete"
SET_ASIDE = "set aside"
ACKNOWLEDGE = "acknowledge"
BEGIN_ANEW = "begin anew"

_LOG = "the store's log"
_T = TypeVar("_T")

TEMPORARY_MILLIS = 3_600_000
"""A temporary file that was not changed for so long is not being written: a block is written in seconds."""


class Action(NamedTuple):
    """Something that is done. `kind` is one of the five words, `thing` a block, a writer or a path."""

    kind: str
    thing: str
    reason: str


class Left(NamedTuple):
    """Something that is left alone, and what to do about it. `amiss` if nothing that runs will put it in order."""

    thing: str
    reason: str
    hint: str
    amiss: bool = True


@dataclass(slots=True)
class Report:
    """What was found.

    Attributes:
        url: The store.
        done: The actions were taken; else they would be.
        actions: In the order in which they are taken.
        left: What cannot or must not be put in order here.
    """

    url: str
    done: bool
    actions: list[Action] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)

    @property
    def in_order(self) -> bool:
        """Whether nothing is amiss any more."""
        return (self.done or not self.actions) and not any(one.amiss for one in self.left)


def repair(store: Store, now_ms: int, *, apply: bool) -> Report:
    """Find what can be put in order, and do it if it is to be applied. Repeatable, also after it was killed.

    Memory: the ranges of a day, and one ledger.

    Args:
        store: The store.
        now_ms: Milliseconds since the epoch.
        apply: Do it; else nothing is changed.

    Raises:
        StoreRefused: There is no store, or it is of a format that this version does not know.
        StoreUnavailable: The store cannot be read or written now, or other maintenance is at work. What was done is
            done, and a next run goes on.
    """
    store.require()
    if apply:
        store.hold_maintenance()
    with store.without_generator() as alone:
        if apply:
            return _Repair(store, now_ms, Report(store.url, apply), alone=alone).run()
    return _Repair(store, now_ms, Report(store.url, apply), alone=alone).run()  # one that starts need not wait


class _Repair:
    def __init__(self, store: Store, now_ms: int, report: Report, *, alone: bool) -> None:
        self._store = store
        self._now_ms = now_ms
        self._report = report
        self._alone = alone
        self._ledger = Ledger(store, {})
        self._busy: dict[str, str] = {}
        self._starting = False
        self._lost: list[int] = []
        self._gone: dict[str, list[BlockStored]] = {}

    def run(self) -> Report:
        if not self._alone:
            busy = at_work(self._store)
            self._busy, self._starting = busy or {}, busy is None
        self._find_log()
        self._find_markers()
        damages: dict[str, list[Loss]] = {}
        for one in self._within_reach(losses(self._store)):
            damages.setdefault(day_of(one.writer), []).append(one)
        more = {*damages, *self._store.maintenance_days()}
        for day, present in self._store.blocks_by_day():
            more.discard(day)
            self._day(day, present, damages.get(day, []))
        for day in sorted(more):
            self._day(day, {}, damages.get(day, []))
        self._find_lost_entries()
        self._temporaries()
        return self._report

    def _act(self, kind: str, thing: str, reason: str) -> bool:
        """Note an action; return whether it is to be taken."""
        self._report.actions.append(Action(kind, thing, reason))
        return self._report.done

    # Ledgers

    def _find_log(self) -> None:
        writers, state = ledgers_named(self._store)
        if state is not None or not writers:
            return
        reason = "it is lost, or its last entries are, or are not as they were written"
        if not self._alone and self._store.objects.locks:
            self._report.left.append(Left(_LOG, reason, "stop the receiver, then run this again"))
        elif self._act(BEGIN_ANEW, _LOG, f"{reason}: the next start reads all {len(writers):,} ledgers"):
            StoreLog(self._store).rebuild(lambda known: rebuilt(self._store, known))

    def _find_markers(self) -> None:
        self._lost = lost_numbers(self._store)
        for number, writer in unmarked(self._store).items():
            thing = f"entry {number} of the maintenance log"
            if not writer:
                hint = "put the file back from a backup; if there is none, what it says is lost"
                self._report.left.append(Left(thing, no_marker(number, writer), hint))
            elif self._act(TAKE_IN, thing, f"no marker leads to it from {day_of(writer)}, whose blocks it is about"):
                self._store.mark_maintenance(number, writer)

    def _find_lost_entries(self) -> None:
        """Let followers get past entries that are lost, now that the days say what is gone with them."""
        for number in self._lost:
            reason = "it is lost: one that says nothing takes its number"
            if self._act(ACKNOWLEDGE, f"entry {number} of the maintenance log", reason):
                fill(self._store, number, self._now_ms)

    def _within_reach(self, found: list[Loss]) -> list[Loss]:
        """Leave out what a generator that is at work still writes."""
        out: list[Loss] = []
        for one in found:
            if not self._starting and one.writer not in self._busy:
                out.append(one)
                continue
            # Where no lock tells who is at work, the next start of that host says that this writer has ended.
            where = f" of {self._busy[one.writer]}" if one.writer in self._busy else ""
            how = "stop" if self._store.objects.locks else "restart"
            hint = f"{how} the receiver{where}, then run this again; or put the file back from a backup"
            self._report.left.append(Left(f"ledger of {one.writer}", one.reason, hint))
        return out

    def _set_aside(self, one: Loss) -> None:
        """Put the good lines of a damaged ledger in its place; one that is only too short stays as it is."""
        good = good_lines(self._store, one)
        if good is not None and self._act(SET_ASIDE, one.writer, "its good lines stay, and all of it is kept"):
            self._store.set_aside_ledger(one.writer, good)

    # Blocks

    def _day(self, day: str, present: dict[str, int], damages: list[Loss]) -> None:
        adopted: set[str] = set()

        def find_and_record(present: dict[str, int]) -> list[Loss]:
            nonlocal adopted
            changes = self._changes_of(day)
            found = [*damages, *losses_of_day(self._store, changes)]
            changes.faults.clear()  # each of them is acknowledged now
            lost = [one for one in found if not is_acknowledged(changes.acknowledged, one.writer, one.line)]
            for one in lost:
                self._act(ACKNOWLEDGE, one.writer, f"from line {one.line} on its ledger is lost: {one.reason}")
            self._gone.clear()
            entries = self._adopted(changes, present)
            adopted = {one.block for one in entries}
            self._record(changes, lost, entries)
            return found

        for one in self._again_if_overtaken(day, present, find_and_record):
            self._set_aside(one)
        self._again_if_overtaken(day, present, lambda present: self._delete(day, present, adopted))

    def _again_if_overtaken(self, day: str, present: dict[str, int], step: Callable[[dict[str, int]], _T]) -> _T:
        """Take a step about the blocks of a day; look at all of them again if other maintenance was first."""
        actions, left = len(self._report.actions), len(self._report.left)
        for _ in range(TRIES):
            try:
                return step(present)
            except TransactionOvertaken:
                del self._report.actions[actions:], self._report.left[left:]
                present = self._store.blocks_of_day(day)
        raise works_elsewhere(self._store, day)

    def _changes_of(self, day: str) -> DayChanges:
        return self._ledger.to_change(day) if self._report.done else self._ledger.changes(day)

    def _adopted(self, changes: DayChanges, present: Mapping[str, int]) -> list[BlockStored]:
        """Return the entries of the blocks that are to be taken in."""
        known = {one.block for one in self._ledger.find_all(present, changes)}
        known.update(changes.replaced, changes.expired)
        orphans = {block: size for block, size in present.items() if block not in known}
        leftovers = Leftovers(self._ledger, changes, present, self._now_ms)
        if orphans and not self._alone:  # a generator may have begun since, and recorded since what is listed here
            busy = at_work(self._store)
            self._busy, self._starting = {**self._busy, **(busy or {})}, self._starting or busy is None
        for block in list(orphans):
            if leftovers.is_young(block):
                del orphans[block]
                reason = "it is in no ledger, and less than a day old: other maintenance may be about to record it"
                self._report.left.append(Left(block, reason, "", amiss=False))
            elif self._starting or writer_of(block) in self._busy:
                del orphans[block]
                self._report.left.append(Left(block, "a generator is at work, and may record it", "", amiss=False))
        if not orphans:
            return []
        needless = set(leftovers.orphans())
        unreadable: dict[str, str] = {}
        wanted = ((block, size) for block, size in orphans.items() if block not in needless)
        found = self._ledger.from_footers(wanted, unreadable=unreadable)
        for block, why in unreadable.items():
            hint = "nothing else knows its ranges: put it back from a backup, or move the file away and keep it"
            self._report.left.append(Left(block, f"it is in no ledger, and damaged: {why}", hint))
        if found:
            self._find_gone(found, changes, present)
        return found

    def _find_gone(self, found: list[BlockStored], changes: DayChanges, present: Mapping[str, int]) -> None:
        """Find recorded blocks that are not there, and each of whose ranges is in one of those that are taken in.

        Such a one was made by maintenance, whose ledger was lost after the old ones had been deleted.
        """
        places: dict[Range, set[str]] = {}
        for entry in found:
            for one in entry.ranges:
                places.setdefault(content_of(one), set()).add(entry.block)
        for gone in self._ledger.of_day(changes.day):
            if not isinstance(gone, BlockStored) or gone.block in present or block_day(gone.block) != changes.day:
                continue
            if gone.block in changes.replaced or gone.block in changes.expired:
                continue
            for block in set.intersection(*(places.get(content_of(one), set()) for one in gone.ranges)):
                self._gone.setdefault(block, []).append(gone)

    def _record(self, changes: DayChanges, lost: list[Loss], adopted: list[BlockStored]) -> None:
        """Make one ledger of all that is to be recorded about a day."""
        for entry in adopted:
            reason = f"it is in no ledger; {sum(one.count for one in entry.ranges):,} records"
            if (gone := self._gone.get(entry.block)) is not None:
                reason += f"; it holds all that {len(gone):,} blocks held that are gone"
            self._act(TAKE_IN, entry.block, reason)
        known = {one.writer for one in lost} | {one.writer for one in changes.acknowledged} | changes.voided
        named = {one.block for one in adopted} | (changes.replaced.keys() if self._alone else set())
        for writer in sorted({*map(writer_of, named)} - known):
            if not self._ledger.has_ledger(writer, changes):  # a generator has a ledger before its first block
                reason = "its blocks are there, or were compacted, and its ledger is not there"
                lost.append(Loss(writer, 1, reason))
                self._act(ACKNOWLEDGE, writer, f"{reason}: only what the blocks say that are left is known")
        if not (lost or adopted) or not self._report.done:
            return
        first = min([one.block for one in adopted] or [block_id(one.writer, 0) for one in lost])
        transaction = Transaction(self._store, first, REPAIR, self._now_ms, changes=changes)
        for one in lost:
            transaction.add_acknowledged(Acknowledged(self._now_ms, *one))
        for entry in adopted:
            self._store.settle_block(entry.block)
            transaction.add_block(entry, self._gone.get(entry.block, []))
        transaction.commit()

    def _delete(self, day: str, present: Mapping[str, int], adopted: set[str]) -> None:
        if not present:
            return
        changes = self._changes_of(day)
        changes.faults.clear()  # as above
        if any(stand_in not in present for stand_ins in changes.replaced.values() for stand_in in stand_ins):
            present = self._store.blocks_of_day(day)  # compaction may have made it since that was listed
        found = Leftovers(self._ledger, changes, present, self._now_ms)
        replaced = found.replaced()
        orphans = [] if self._starting else found.orphans()
        orphans = [block for block in orphans if block not in adopted and writer_of(block) not in self._busy]
        self._leave({*changes.replaced} & {*present} - {*replaced}, changes)
        for block in replaced:
            removed = block in changes.expired
            reason = "it was removed on purpose" if removed else "others stand in for it, and are whole"
            self._act(DELETE, block, reason)
        for block in orphans:
            self._act(DELETE, block, "it is in no ledger, and others hold all of its ranges")
        if self._report.done:
            delete_orphans(self._store, changes, orphans, REPAIR, self._now_ms)
            delete_recorded(self._store, replaced)

    def _leave(self, blocks: set[str], changes: DayChanges) -> None:
        """Name the blocks that were replaced, and of which it cannot be proven that others hold all."""
        ranges = {entry.block for entry in self._ledger.find_all(blocks, changes)}
        for block in sorted(blocks):
            if block not in ranges and not self._is_readable(block):
                reason = "it was replaced, is damaged, and its line of the ledger is lost: what it held is not known"
                hint = "no reader needs it: once `kcl-receiver verify` says proven, move it away"
                self._report.left.append(Left(block, reason, hint, amiss=False))
                continue
            reason = "it was replaced, and what stands in for it is not whole or does not hold all of it"
            self._report.left.append(Left(block, reason, "run `kcl-receiver recover`, then this again"))

    def _is_readable(self, block: str) -> bool:
        try:
            self._ledger.from_footer(block)
        except (BlockDamaged, BlockMissing):
            return False
        return True

    # The rest

    def _temporaries(self) -> None:
        for name, size, changed in self._store.temporaries():
            mine = self._starting or any(name.startswith(writer) for writer in self._busy)
            if mine or changed > self._now_ms - TEMPORARY_MILLIS:
                continue
            if self._act(DELETE, f"tmp/{name}", f"nobody writes it any more; {size:,} bytes"):
                self._store.delete_temporary(name)
