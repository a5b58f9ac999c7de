"""What recover, repair, compact and expire record: maintenance ledgers.

A block is never changed. Where maintenance has another one to put in its place, or removes it, a ledger says so that is
written whole, in one step, and never appended to: the *transaction*. All blocks in it, old and new, are of one day, so
that everything about a block of that day is found in one directory, however old the store is. The order of things:

    1. the new blocks are durable
    2. the maintenance ledger is durable; just before, it is noted (`store.ledger.notes`)
    3. the old blocks are deleted

Whoever is killed between 1 and 2 leaves blocks that are in no ledger and whose records others hold; between 2 and 3,
blocks that nobody needs. A reader takes what the ledgers say, and so sees the old ones or the new ones.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from kcl_receiver import __version__
from kcl_receiver.errors import SEE_REPAIR, LedgerDamaged, StoreRefused
from kcl_receiver.ids import block_day, block_id, check_writer_id, day_of, writer_of
from kcl_receiver.ranges import Range
from kcl_receiver.store.ledger.entries import (
    Acknowledged,
    BlockStored,
    Expired,
    Tail,
    WriterStarted,
    decode_ledger,
    encode_lines,
    first_prev,
)
from kcl_receiver.store.ledger.notes import next_number, note, unfinished
from kcl_receiver.store.store import Store

RECOVER, REPAIR, COMPACT, EXPIRE = "recover", "repair", "compact", "expire"
ROLES = (RECOVER, REPAIR, COMPACT, EXPIRE)

_LIFECYCLE = "lifecycle-{:04d}.json"


@dataclass(slots=True)
class DayChanges:
    """What maintenance did to the blocks of one day.

    Attributes:
        day: The day, `YYYY-MM-DD`.
        blocks: The entry of each block that maintenance wrote or took in, by its id.
        replaced: By the id of each block that was replaced, the ids of those that stand in for it now; none of them
            was replaced in turn.
        expired: By the id of each block that was removed on purpose, the entry that says so.
        acknowledged: What is known to be gone of the ledgers of writers that began on this day.
        writers: The last line of each maintenance ledger.
        named: The writers whose last line another maintenance ledger names.
        faults: What is wrong with these ledgers. What comes before a fault is taken in.
    """

    day: str
    blocks: dict[str, BlockStored] = field(default_factory=dict)
    replaced: dict[str, tuple[str, ...]] = field(default_factory=dict)
    expired: dict[str, Expired] = field(default_factory=dict)
    acknowledged: list[Acknowledged] = field(default_factory=list)
    writers: dict[str, Tail] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    faults: list[LedgerDamaged] = field(default_factory=list)


def load_day(store: Store, day: str, *, ranges: bool = True) -> DayChanges:
    """Return what maintenance did to the blocks of a day.

    Args:
        store: The store.
        day: The day, `YYYY-MM-DD`.
        ranges: Keep the ranges of `DayChanges.blocks`; a day can have millions of them.

    Raises:
        StoreUnavailable: It cannot be read now.
    """
    out = _load_day(store, day, ranges)
    # A directory is not listed in one step: a ledger may be seen, and not the one that it names, if both are new.
    return _load_day(store, day, ranges) if out.faults else out


def _load_day(store: Store, day: str, ranges: bool) -> DayChanges:
    out = DayChanges(day)
    direct: dict[str, list[str]] = {}
    claims: list[tuple[str, str, Tail]] = []
    empty: list[str] = []
    for writer, content in store.maintenance_ledgers(day):
        ledger = decode_ledger(writer, content)
        out.writers[writer] = ledger.tail
        if ledger.fault is not None:
            out.faults.append(ledger.fault)
        elif not ledger.entries:
            empty.append(writer)
        elif ledger.torn:
            out.faults.append(_damaged(f"the maintenance ledger {writer} ends in the middle of a line"))
        for entry in ledger.entries:
            if isinstance(entry, WriterStarted):
                claims.extend((writer, other, tail) for other, tail in entry.tails.items())
            elif isinstance(entry, BlockStored):
                out.blocks[entry.block] = entry if ranges else replace(entry, ranges=())
                for old in entry.replaces:
                    direct.setdefault(old, []).append(entry.block)
            elif isinstance(entry, Expired):
                out.expired.update(dict.fromkeys(entry.blocks, entry))
            elif isinstance(entry, Acknowledged):
                out.acknowledged.append(entry)
    for writer in empty:
        if not is_acknowledged(out.acknowledged, writer, 1):
            out.faults.append(_damaged(f"the maintenance ledger {writer} is empty"))
    for writer, other, tail in claims:
        out.named.add(other)
        # Maintenance ledgers never grow, so the line that was seen is the last one.
        if out.writers.get(other) != tail and not is_acknowledged(out.acknowledged, other, tail.number):
            out.faults.append(_damaged(f"the maintenance ledger {other}, which {writer} saw, is not there as it was"))
    out.replaced = {old: tuple(_stand_ins(old, direct)) for old in direct}
    return out


def is_acknowledged(found: Iterable[Acknowledged], writer: str, line: int) -> bool:
    """Return whether a line of a ledger is among those that are known to be gone."""
    return any(one.writer == writer and one.line <= line for one in found)


def acknowledged(store: Store, writer: str, line: int) -> bool:
    """Return whether a line of a ledger is known to be gone.

    Raises:
        StoreUnavailable: It cannot be told now.
    """
    return is_acknowledged(load_day(store, day_of(writer), ranges=False).acknowledged, writer, line)


def expired_blocks(store: Store, day: str) -> frozenset[str] | None:
    """Return the blocks of a day that were removed on purpose; None if it cannot be told: a ledger is damaged.

    Costs a look at each maintenance ledger of the day, and reads those of `expire` alone.

    Raises:
        StoreUnavailable: It cannot be read now.
    """
    out: set[str] = set()
    for writer, line in store.maintenance_starts(day):
        started = decode_ledger(writer, line).entries
        if not started:
            return None
        if isinstance(started[0], WriterStarted) and started[0].role == EXPIRE:
            ledger = decode_ledger(writer, store.maintenance_ledger(writer) or b"")
            if ledger.fault is not None or ledger.torn:
                return None
            for entry in ledger.entries:
                if isinstance(entry, Expired):
                    out.update(entry.blocks)
    return frozenset(out)


def taken_in(store: Store, day: str) -> list[BlockStored]:
    """Return the entries of the blocks of a day that `repair` recorded, also of those that were replaced since.

    Costs a look at each maintenance ledger of the day, and reads those of `repair` alone, up to a fault.

    Raises:
        StoreUnavailable: It cannot be read now.
    """
    out: list[BlockStored] = []
    for writer, line in store.maintenance_starts(day):
        started = decode_ledger(writer, line).entries
        if started and isinstance(started[0], WriterStarted) and started[0].role == REPAIR:
            found = decode_ledger(writer, store.maintenance_ledger(writer) or b"").entries
            out += [entry for entry in found if isinstance(entry, BlockStored)]
    return out


def end_killed(store: Store, now_ms: int) -> None:
    """Let nothing come any more of what a run that was killed was about to record. Idempotent.

    The caller holds the maintenance, and calls this first. What the killed run has sent may arrive late. From here on
    its blocks may be deleted, because they are in no ledger: one that names them, and says that others are needless,
    would come after that. So a ledger that says nothing takes its place.

    Args:
        store: The store.
        now_ms: Milliseconds since the epoch.

    Raises:
        StoreUnavailable: It is not known to be so; try again.
        LedgerDamaged: The last note is none.
    """
    if (last := unfinished(store)) is None:
        return
    started = _started(last.writer, last.role, now_ms, {})
    with suppress(StoreRefused):  # it has come just now
        store.put_maintenance_ledger(last.writer, encode_lines([started], 1, first_prev(last.writer))[0])


def settle_day(store: Store, day: str) -> None:
    """Make the maintenance ledgers of a day durable, before anything irrevocable is done on their word.

    Maintenance that was killed may have left a ledger that can be seen, and that a loss of power would take away.

    Raises:
        StoreUnavailable: They are not known to be durable; try again.
    """
    for writer, content in store.maintenance_ledgers(day):
        store.put_maintenance_ledger(writer, content)


def delete_recorded(store: Store, day: str, blocks: Sequence[str]) -> None:
    """Delete blocks of a day because of what the ledgers say, whoever wrote them: the one place that does so.

    A transaction's own blocks go by `Transaction.retire`.

    Raises:
        StoreUnavailable: They are not known to be gone; try again.
    """
    if blocks:
        settle_day(store, day)
        store.delete_blocks(blocks)


def _stand_ins(old: str, direct: dict[str, list[str]]) -> list[str]:
    found: dict[str, None] = {}
    seen = {old}
    waiting = [*direct[old]]
    while waiting:
        block = waiting.pop(0)
        if block in seen:
            continue
        seen.add(block)
        if block in direct:
            waiting += direct[block]
        else:
            found[block] = None
    return list(found)


def _started(writer: str, role: str, now_ms: int, tails: dict[str, Tail]) -> WriterStarted:
    return WriterStarted(writer, socket.gethostname(), os.getpid(), now_ms, __version__, tails, role)


def _damaged(message: str) -> LedgerDamaged:
    return LedgerDamaged(message, SEE_REPAIR)


class Transaction:
    """One change to the blocks of one day. The caller holds the store's maintenance.

    Args:
        store: The store.
        first: Id of a block that it is about, usually the first one. New blocks get ids of the same time, so that they
            lie in the same directory and sort next to it.
        role: One of `ROLES`.
        now_ms: Milliseconds since the epoch.
        token: Eight hexadecimal digits that make the writer's id unique; random ones if not given.
        changes: What `load_day` returned, if nothing was changed since but by transactions that were given the same.

    Raises:
        LedgerDamaged: The day's maintenance ledgers are damaged; nothing is added to them before they are in order.
        StoreUnavailable: They cannot be read now.
    """

    def __init__(
        self,
        store: Store,
        first: str,
        role: str,
        now_ms: int,
        token: str | None = None,
        changes: DayChanges | None = None,
    ) -> None:
        if role not in ROLES:
            raise ValueError(f"not a maintenance role: {role!r}")
        self._store = store
        self._role = role
        self.day = block_day(first)
        self.changes = load_day(store, self.day) if changes is None else changes
        for fault in self.changes.faults:
            raise fault
        began = writer_of(first).rpartition("-")[0]
        self.writer = check_writer_id(f"{began}-{token if token is not None else secrets.token_hex(4)}")
        started = _started(self.writer, role, now_ms, self._unnamed())
        self._entries: list[WriterStarted | BlockStored | Expired | Acknowledged] = [started]
        self._numbers = 0
        self._held: set[Range] = set()
        self._old: dict[str, BlockStored] = {}
        self._expired: list[str] = []
        self._content: bytes | None = None
        self._note: int | None = None
        self._tail = Tail(0, "")

    def _unnamed(self) -> dict[str, Tail]:
        return {writer: tail for writer, tail in self.changes.writers.items() if writer not in self.changes.named}

    @property
    def empty(self) -> bool:
        """Whether nothing was added yet."""
        return len(self._entries) == 1

    def next_block_id(self) -> str:
        """Return the id for the next new block."""
        self._numbers += 1
        return block_id(self.writer, self._numbers)

    def add_block(self, entry: BlockStored, replaced: Sequence[BlockStored] = ()) -> None:
        """Take in the entry of a block that is durable.

        Args:
            entry: Its entry; `replaces` is set here.
            replaced: The entries of the blocks that it stands in for.

        Raises:
            ValueError: One of them is of another day, or the transaction was committed.
        """
        for one in (entry, *replaced):
            self._check(one.block)
        self._entries.append(replace(entry, replaces=tuple(one.block for one in replaced)))
        self._held.update(map(content_of, entry.ranges))
        self._old.update((one.block, one) for one in replaced)

    def add_expired(self, entry: Expired) -> None:
        """Take in that blocks are going to be removed.

        Raises:
            ValueError: One of them is of another day, or the transaction was committed.
        """
        for block in entry.blocks:
            self._check(block)
        self._entries.append(entry)
        self._expired.extend(entry.blocks)

    def add_acknowledged(self, entry: Acknowledged) -> None:
        """Take in that lines of a ledger are gone.

        Raises:
            ValueError: Its writer began on another day, or the transaction was committed.
        """
        self._check(block_id(entry.writer, 0))
        self._entries.append(entry)

    def _check(self, block: str) -> None:
        if block_day(block) != self.day:
            raise ValueError(f"block {block} is not of {self.day}")
        if self._content is not None:
            raise ValueError("the transaction was committed")

    def commit(self) -> None:
        """Make it durable, all at once. Repeatable.

        Raises:
            StoreUnavailable: It is not known to be; try again.
        """
        if self._content is None:
            self._content, self._tail = encode_lines(self._entries, 1, first_prev(self.writer))
        if self._note is None:
            self._note = next_number(self._store)
        self._note = note(self._store, self.writer, self._role, self._note)
        self._store.put_maintenance_ledger(self.writer, self._content)
        if self.writer not in self.changes.writers:
            self.changes.named.update(self._unnamed())
            self.changes.writers[self.writer] = self._tail

    def retire(self) -> list[str]:
        """Delete what was replaced or expired. Repeatable.

        A replaced block of which the new ones do not hold every range is left alone.

        Returns:
            The ids of the blocks that are gone.

        Raises:
            StoreUnavailable: One of them is not known to be gone; try again.
            ValueError: The transaction was not committed.
        """
        if self._content is None:
            raise ValueError("blocks go only after a durable entry that says what replaced them")
        gone = [block for block, entry in self._old.items() if holds_all(self._held, entry.ranges)] + self._expired
        self._store.delete_blocks(gone)
        return gone


def content_of(one: Range) -> Range:
    """Return a range without the row at which it begins: two that are equal then hold the same records."""
    return replace(one, first_row=-1)


def holds_all(held: set[Range], ranges: Iterable[Range]) -> bool:
    """Return whether ranges are all in a set of such that `content_of` made."""
    return all(content_of(one) in held for one in ranges)


def lifecycle(store: Store) -> int | None:
    """Return after how many days a rule outside of this program removes blocks, or None if none was declared.

    Raises:
        StoreUnavailable: It cannot be read now.
        LedgerDamaged: The declaration cannot be read.
    """
    days: int | None = None
    for number in range(1, 10_000):
        content = store.get_document(_LIFECYCLE.format(number))
        if content is None:
            break
        try:
            raw = json.loads(content)["days"]
            days = None if raw is None else int(raw)
        except (ValueError, LookupError, TypeError) as error:
            raise _damaged(f"{_LIFECYCLE.format(number)} of the store {store.url} cannot be read: {error!r}") from error
    return days


def declare_lifecycle(store: Store, days: int | None, now_ms: int) -> None:
    """Declare after how many days a rule outside of this program removes blocks; None takes the declaration back.

    Raises:
        ValueError: Not a number of days.
        StoreUnavailable: It is not known to be durable; try again.
    """
    if days is not None and days < 1:
        raise ValueError(f"not a number of days: {days}")
    mine = json.dumps({"days": days, "declared": now_ms}).encode() + b"\n"
    for number in range(1, 10_000):
        if store.put_document_if_absent(_LIFECYCLE.format(number), mine) == mine:
            return
    raise ValueError("the lifecycle was declared 10,000 times")
