"""What recover, repair, compact and expire record: maintenance ledgers.

A block is never changed. Where maintenance has another one to put in its place, or removes it, an entry of the
maintenance log says so that is written whole, in one step, and never appended to: the *transaction*. All blocks in it,
old and new, are of one day, so that everything about a block of that day is found with it, however old the store is.
The order of things:

    1. the new blocks are durable
    2. the entry is created (`store.ledger.maintenance_log`): the transaction is committed, and durable
    3. the old blocks are deleted

Whoever is killed between 1 and 2 leaves blocks that are in no ledger and whose records others hold; between 2 and 3,
blocks that nobody needs. A reader takes what the ledgers say, and so sees the old ones or the new ones.

Several runs may be at work at once, on any hosts. A transaction is planned by what the day's ledgers say, and committed
behind all entries that came since. If one of these is about the same blocks, it is *overtaken*: nothing is recorded,
and nothing of it can be recorded any more. Who deletes blocks of a run that has not recorded them sees to it first that
it never does (`void`).
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from kcl_receiver import __version__
from kcl_receiver.errors import SEE_RECOVER, SEE_REPAIR, BlockMissing, LedgerDamaged, StoreUnavailable
from kcl_receiver.ids import block_day, block_id, check_writer_id, day_of, writer_id, writer_of
from kcl_receiver.ranges import Range
from kcl_receiver.store.ledger.entries import (
    Acknowledged,
    BlockStored,
    Expired,
    Following,
    Tail,
    Voided,
    WriterStarted,
    decode_ledger,
    encode_lines,
    first_prev,
)
from kcl_receiver.store.ledger.maintenance_log import Recorded, decoded, newest_number
from kcl_receiver.store.store import Store

RECOVER, REPAIR, COMPACT, EXPIRE = "recover", "repair", "compact", "expire"
FOLLOW = "follow"
ROLES = (RECOVER, REPAIR, COMPACT, EXPIRE)

TRIES = 10
"""So often what was overtaken is planned again."""

_LIFECYCLE = "lifecycle-{:04d}.json"


class TransactionOvertaken(Exception):
    """Another run has recorded something about the same blocks since the day was loaded; nothing was recorded here.

    Nothing of the transaction can be recorded any more either, but by another `Transaction.commit`.
    """


@dataclass(slots=True)
class Since:
    """What others recorded of a day since it was loaded.

    Attributes:
        removed: Ids of the blocks that they replaced or expired.
        recorded: Ids of the blocks of which they made entries.
        acknowledged: Writers of whose ledgers they said that lines are gone.
        followed: A follower was announced.
    """

    removed: set[str] = field(default_factory=set)
    recorded: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    followed: bool = False


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
        voided: Writers of maintenance that can record nothing any more.
        writers: The last line of each maintenance ledger.
        numbers: The number of each in the maintenance log.
        named: The writers whose last line another maintenance ledger names.
        faults: What is wrong with these ledgers. What comes before a fault is taken in.
        seen: The number of the last entry of the maintenance log that `writers` and `voided` know, or -1: it was loaded
            to be looked at only. Transactions go on from there.
        since: What transactions have found that others recorded meanwhile; nothing else here knows of it.
    """

    day: str
    blocks: dict[str, BlockStored] = field(default_factory=dict)
    replaced: dict[str, tuple[str, ...]] = field(default_factory=dict)
    expired: dict[str, Expired] = field(default_factory=dict)
    acknowledged: list[Acknowledged] = field(default_factory=list)
    voided: set[str] = field(default_factory=set)
    writers: dict[str, Tail] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    faults: list[LedgerDamaged] = field(default_factory=list)
    seen: int = -1
    since: Since = field(default_factory=Since)

    def take(self, entry: Recorded) -> None:
        """Take in the next entry of the maintenance log, which another run has recorded."""
        self.seen = entry.number
        self.since.followed |= any(isinstance(one, Following) for one in entry.entries)
        if not entry.writer or day_of(entry.writer) != self.day or entry.writer in self.writers:
            return
        self.writers[entry.writer] = entry.ledger.tail
        self.numbers[entry.writer] = entry.number
        self.named.update(entry.ledger.named)
        for one in entry.entries:
            if isinstance(one, BlockStored):
                self.since.recorded.add(one.block)
                self.since.removed.update(one.replaces)
            elif isinstance(one, Expired):
                self.since.removed.update(one.blocks)
            elif isinstance(one, Acknowledged):
                self.since.acknowledged.add(one.writer)
            elif isinstance(one, Voided):
                self.voided.update(one.writers)


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


def load_to_change(store: Store, day: str, *, ranges: bool = True) -> DayChanges:
    """Return the same for transactions, which will go on from here.

    Raises:
        StoreUnavailable: It cannot be read now.
    """
    seen = newest_number(store)  # before the day is read: what comes later may be in it, and is judged again
    out = load_day(store, day, ranges=ranges)
    out.seen = seen
    return out


def take_new(store: Store, changes: DayChanges) -> None:
    """Take in what others have recorded since a day was loaded to be changed.

    Raises:
        LedgerDamaged: An entry is not as it was written.
        StoreUnavailable: The log cannot be read now.
    """
    while (content := store.maintenance_entry(changes.seen + 1)) is not None:
        changes.take(decoded(store, changes.seen + 1, content))


def _load_day(store: Store, day: str, ranges: bool) -> DayChanges:
    out = DayChanges(day)
    direct: dict[str, list[str]] = {}
    claims: list[tuple[str, str, Tail]] = []
    empty: list[str] = []
    for number, writer, content in store.maintenance_entries(day):
        ledger = decode_ledger(writer, content)
        out.writers[writer] = ledger.tail
        out.numbers[writer] = number
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
            elif isinstance(entry, Voided):
                out.voided.update(entry.writers)
    for writer in empty:
        if not is_acknowledged(out.acknowledged, writer, 1):
            what = (
                f"the maintenance ledger {writer}, entry {out.numbers[writer]} of the maintenance log, is lost or empty"
            )
            out.faults.append(_damaged(what))
    for writer, other, tail in claims:
        out.named.add(other)
        # Maintenance ledgers never grow: the line that was seen is the last one. Those without a line are told above.
        is_other = other not in empty and out.writers.get(other) != tail
        if is_other and not is_acknowledged(out.acknowledged, other, tail.number):
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
    for writer, number, line in store.maintenance_starts(day):
        started = decode_ledger(writer, line).entries
        if not started:
            return None
        if isinstance(started[0], WriterStarted) and started[0].role == EXPIRE:
            ledger = decode_ledger(writer, store.maintenance_entry(number) or b"")
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
    for writer, number, line in store.maintenance_starts(day):
        started = decode_ledger(writer, line).entries
        if started and isinstance(started[0], WriterStarted) and started[0].role == REPAIR:
            found = decode_ledger(writer, store.maintenance_entry(number) or b"").entries
            out += [entry for entry in found if isinstance(entry, BlockStored)]
    return out


def void(store: Store, changes: DayChanges, writers: Iterable[str], role: str, now_ms: int) -> None:
    """Let nothing be recorded any more by writers of maintenance that have recorded nothing yet. Idempotent.

    Their blocks, which no ledger names, may be deleted then: an entry that names them needs a number that is taken when
    this returns, or finds out that its writer is void. That holds however late a request of theirs arrives.

    Args:
        store: The store.
        changes: What `load_to_change` returned of the day of these writers.
        writers: Their ids.
        role: Who says so, one of `ROLES`.
        now_ms: Milliseconds since the epoch.

    Raises:
        TransactionOvertaken: One of them has recorded something meanwhile.
        LedgerDamaged: The day's maintenance ledgers are damaged.
        StoreUnavailable: It is not known to be so; try again.
    """
    left = tuple(sorted({*writers} - changes.voided))
    if left:
        transaction = Transaction(store, block_id(left[0], 0), role, now_ms, changes=changes)
        transaction.add_voided(Voided(now_ms, left))
        transaction.commit()
        changes.voided.update(left)


def fill(store: Store, number: int, now_ms: int) -> None:
    """Put an entry that says nothing in the place of one that was lost: followers get past its number then. Idempotent.

    Args:
        store: The store.
        number: The number. There are newer entries, and the day of the lost one says what is gone with it.
        now_ms: Milliseconds since the epoch.

    Raises:
        StoreUnavailable: It is not known to be there; try again.
    """
    store.create_maintenance_entry(number, *_about_no_block(REPAIR, now_ms))  # else another one is there by now


def announce(store: Store, follower: str, now_ms: int) -> None:
    """Let runs of `expire` that are at work see a follower that is written down, before it reads.

    Args:
        store: The store.
        follower: Its name.
        now_ms: Milliseconds since the epoch.

    Raises:
        StoreUnavailable: It is not known to be so; try again.
    """
    writer, content = _about_no_block(FOLLOW, now_ms, Following(now_ms, follower))
    while not store.create_maintenance_entry(newest_number(store) + 1, writer, content):
        pass  # another one was first


def works_elsewhere(store: Store, day: str) -> StoreUnavailable:
    """Return the error for a transaction that was overtaken `TRIES` times."""
    return StoreUnavailable(f"other maintenance works on {day} in the store {store.url}", "run it again a little later")


def delete_recorded(store: Store, blocks: Sequence[str]) -> None:
    """Delete blocks because of what the ledgers say, whoever wrote them: the one place that does so.

    A transaction's own blocks go by `Transaction.retire`.

    Raises:
        StoreUnavailable: They are not known to be gone; try again.
    """
    if blocks:
        # Maintenance that was killed may have left an entry that can be seen, and that a loss of power would take away:
        # the newest. This makes it durable; all others were so before the next one came.
        newest_number(store)
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


def _about_no_block(role: str, now_ms: int, *more: Following) -> tuple[str, bytes]:
    """Return writer and content of an entry of the log that is about no block."""
    started = _started(writer_id(now_ms, secrets.token_hex(4)), role, now_ms, {})
    return started.writer, encode_lines([started, *more], 1, first_prev(started.writer))[0]


def _damaged(message: str) -> LedgerDamaged:
    return LedgerDamaged(message, SEE_REPAIR)


class Transaction:
    """One change to the blocks of one day. Others may change them at the same time.

    Args:
        store: The store.
        first: Id of a block that it is about, usually the first one. New blocks get ids of the same time, so that they
            lie in the same directory and sort next to it.
        role: One of `ROLES`.
        now_ms: Milliseconds since the epoch.
        token: Eight hexadecimal digits that make the writer's id unique; random ones if not given.
        changes: What `load_to_change` returned of the day, by which it is planned; it is loaded now if not given.
            Transactions that were planned by the same do not overtake one another.

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
        self.changes = load_to_change(store, self.day) if changes is None else changes
        if self.changes.seen < 0:
            raise ValueError("the day was not loaded to be changed")
        for fault in self.changes.faults:
            raise fault
        began = writer_of(first).rpartition("-")[0]
        self.writer = check_writer_id(f"{began}-{token if token is not None else secrets.token_hex(4)}")
        self._started = _started(self.writer, role, now_ms, {})
        self._entries: list[BlockStored | Expired | Acknowledged | Voided] = []
        self._numbers = 0
        self._old: dict[str, BlockStored] = {}
        self._tail = Tail(0, "")
        self._is_sent = False
        self._is_committed = False

    def _unnamed(self) -> dict[str, Tail]:
        """Return the last lines that no other ledger of the day names yet; of one that was lost there is none."""
        changes = self.changes
        return {one: tail for one, tail in changes.writers.items() if tail.number and one not in changes.named}

    @property
    def empty(self) -> bool:
        """Whether nothing was added yet."""
        return not self._entries

    @property
    def new(self) -> list[BlockStored]:
        """The entries of the blocks that were added."""
        return [one for one in self._entries if isinstance(one, BlockStored)]

    @property
    def _expired(self) -> list[str]:
        return [block for one in self._entries if isinstance(one, Expired) for block in one.blocks]

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
        self._old.update((one.block, one) for one in replaced)

    def add_expired(self, entry: Expired) -> None:
        """Take in that blocks are going to be removed.

        Raises:
            ValueError: One of them is of another day, or the transaction was committed.
        """
        for block in entry.blocks:
            self._check(block)
        self._entries.append(entry)

    def add_acknowledged(self, entry: Acknowledged) -> None:
        """Take in that lines of a ledger are gone.

        Raises:
            ValueError: Its writer began on another day, or the transaction was committed.
        """
        self._check(block_id(entry.writer, 0))
        self._entries.append(entry)

    def add_voided(self, entry: Voided) -> None:
        """Take in that writers can record nothing any more; see `void`.

        Raises:
            ValueError: One of them began on another day, or the transaction was committed.
        """
        for writer in entry.writers:
            self._check(block_id(writer, 0))
        self._entries.append(entry)

    def _check(self, block: str) -> None:
        if block_day(block) != self.day:
            raise ValueError(f"block {block} is not of {self.day}")
        if self._is_sent:
            raise ValueError("the transaction was committed")

    def replan(self, changes: DayChanges, dropped: Iterable[str]) -> None:
        """Go on after `TransactionOvertaken` with what is left to be recorded.

        Args:
            changes: What `load_to_change` returns of the day now.
            dropped: Ids of new blocks that are not to be recorded.
        """
        left_out = {*dropped}
        self.changes = changes
        self._entries = [one for one in self._entries if not isinstance(one, BlockStored) or one.block not in left_out]
        replaced = {old for one in self.new for old in one.replaces}
        self._old = {block: entry for block, entry in self._old.items() if block in replaced}

    def commit(self) -> None:
        """Make it durable, all at once. Idempotent.

        Raises:
            TransactionOvertaken: Others have recorded something about the same blocks since the day was loaded.
            LedgerDamaged: What others have recorded since is not as it was written.
            StoreUnavailable: It is not known to be durable; try again.
        """
        store, changes = self._store, self.changes
        while not self._is_committed:
            take_new(store, changes)
            if self.writer in changes.writers:  # the answer was lost
                store.settle_maintenance_entry(changes.numbers[self.writer])
                self._end(changes.numbers[self.writer])
                return
            if self._is_overtaken():
                self._is_sent = False  # each number under which it was sent is another one's
                raise TransactionOvertaken(self.day)
            number = changes.seen + 1
            if changes.seen:
                store.settle_maintenance_entry(changes.seen)  # its writer may have ended before it was durable
            self._is_sent = True
            self._started = replace(self._started, tails=self._unnamed())
            content, self._tail = encode_lines([self._started, *self._entries], 1, first_prev(self.writer))
            if store.create_maintenance_entry(number, self.writer, content):
                self._end(number)
            elif store.maintenance_entry(number) is None:
                what = f"entry {number} of the maintenance log of the store {store.url} can neither be made nor read"
                raise StoreUnavailable(what, "is something else there under its name? Move it away")

    def _end(self, number: int) -> None:
        changes = self.changes
        changes.seen = max(changes.seen, number)
        changes.named.update(self._started.tails)
        changes.writers[self.writer] = self._tail
        changes.numbers[self.writer] = number
        self._is_committed = True

    def _is_overtaken(self) -> bool:
        since, changes = self.changes.since, self.changes
        new = {one.block for one in self.new}
        acknowledged = {one.writer for one in self._entries if isinstance(one, Acknowledged)}
        voided = {writer for one in self._entries if isinstance(one, Voided) for writer in one.writers}
        return (
            self.writer in changes.voided
            or not since.removed.isdisjoint({*new, *self._old, *self._expired})
            or not since.recorded.isdisjoint(new)
            or not since.acknowledged.isdisjoint(acknowledged)
            or not voided.isdisjoint(changes.writers)
            or (self._role == EXPIRE and since.followed)
        )

    def retire(self) -> list[str]:
        """Delete what was replaced or expired. Idempotent.

        A replaced block of which the new ones do not hold every range is left alone. If others have replaced or expired
        a new one since, nothing is deleted here: what is left over they or a next run delete.

        Returns:
            The ids of the blocks that are gone.

        Raises:
            BlockMissing: One of the new blocks is not there, and nothing says why; nothing was deleted.
            LedgerDamaged: What others have recorded since is not as it was written.
            StoreUnavailable: One of them is not known to be gone; try again.
            ValueError: The transaction was not committed.
        """
        if not self._is_committed:
            raise ValueError("blocks go only after a durable entry that says what replaced them")
        held: set[Range] = set()
        for one in self.new:
            held.update(map(content_of, one.ranges))
            if self._store.has_block(one.block):
                continue
            take_new(self._store, self.changes)
            if one.block in self.changes.since.removed:
                return []
            raise BlockMissing(
                f"block {one.block}, which was just made, is not in the store {self._store.url}: "
                f"the {len(self._old):,} blocks that it was to replace were not deleted",
                SEE_RECOVER,
            )
        gone = [block for block, entry in self._old.items() if holds_all(held, entry.ranges)] + self._expired
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
