"""The maintenance log: what recover, repair, compact and expire recorded, in an order that no clock decides.

Entries are numbered from 1. Each is one maintenance ledger, and is created only if its number is free, by a run that
has read all entries before it: creating it is the commit. So of two runs that record something at once one is refused,
reads what the other did, and tries the next number if it may; see `store.ledger.transaction`. The rules:

    the newest entry is made durable before the next one is created, and before anything is done or kept on its word
    the marker that leads to an entry from its day is durable before the entry is created
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import NamedTuple

from kcl_receiver.errors import SEE_REPAIR, LedgerDamaged
from kcl_receiver.ids import day_of
from kcl_receiver.store.ledger.entries import Entry, WriterLedger, WriterStarted, begun_by, decode_ledger
from kcl_receiver.store.store import Store


class Recorded(NamedTuple):
    """An entry of the log.

    Attributes:
        number: Its number.
        writer: Whose ledger it is; empty if `repair` could keep no line of it.
        role: The maintenance command; empty, too, then.
        ledger: What it says.
    """

    number: int
    writer: str
    role: str
    ledger: WriterLedger

    @property
    def entries(self) -> list[Entry]:
        """What its lines say."""
        return self.ledger.entries


def newest_number(store: Store) -> int:
    """Return the number of the newest entry, 0 if there is none. It is durable then.

    What is taken in and is gone after a loss of power would never be seen again: its number is given away once more.

    Raises:
        StoreUnavailable: It cannot be told now, or made durable.
    """
    number = store.newest_maintenance_number()
    if number:
        store.settle_maintenance_entry(number)
    return number


def next_numbers(store: Store, seen: int) -> int:
    """Return the same for who has seen an entry, or 0 for none, a short while ago: two looks, and one for each new one.

    Raises:
        LedgerDamaged: The next entry was lost. That more than one was lost is found by who looks in a listing.
        StoreUnavailable: It cannot be told now, or made durable.
    """
    number = seen
    while store.has_maintenance_entry(number + 1):
        number += 1
    if store.has_maintenance_entry(number + 2) and not store.has_maintenance_entry(number + 1):
        raise lost(store, number + 1)
    if number > seen:
        store.settle_maintenance_entry(number)
    return number


def recorded(store: Store, seen: int, newest: int) -> Iterator[Recorded]:
    """Yield the entries behind one and up to another, one in memory at a time.

    Raises:
        LedgerDamaged: An entry is not as it was written, or one was lost.
        StoreUnavailable: They cannot be read now.
    """
    for number in range(seen + 1, newest + 1):
        content = store.maintenance_entry(number)
        if content is None:
            raise lost(store, number)
        yield decoded(store, number, content)


def decoded(store: Store, number: int, content: bytes) -> Recorded:
    """Return what an entry says.

    Raises:
        LedgerDamaged: It is not as it was written.
    """
    writer = begun_by(content) or ""
    ledger = decode_ledger(writer, content)
    if content and (not writer or ledger.fault is not None or ledger.torn):
        reason = "its end is not there" if ledger.fault is None else ledger.fault.message
        what = f"entry {number} of the maintenance log of the store {store.url} is not as it was written: {reason}"
        raise LedgerDamaged(what, SEE_REPAIR)
    started = ledger.entries[0] if ledger.entries else None
    return Recorded(number, writer, started.role if isinstance(started, WriterStarted) else "", ledger)


def lost(store: Store, number: int) -> LedgerDamaged:
    """Return the error for an entry that is not there, although there are newer ones."""
    what = f"entry {number} of the maintenance log of the store {store.url} is lost: there are newer ones"
    return LedgerDamaged(what, SEE_REPAIR)


def lost_numbers(store: Store) -> list[int]:
    """Return the numbers of the entries that were lost, as far as newer ones tell. One listing of all.

    Raises:
        StoreUnavailable: It cannot be told now.
    """
    there = store.maintenance_numbers()
    return sorted(set(range(1, there[-1])).difference(there)) if there else []


def unmarked(store: Store, led_to: Container[int] = ()) -> dict[int, str]:
    """Return the entries to which no marker leads from their day, so that a reader of that day misses them.

    Args:
        store: The store.
        led_to: Numbers to which markers have led already. All others are read, their first lines alone.

    Returns:
        The writer of each by its number; empty if its first line is damaged.

    Raises:
        StoreUnavailable: It cannot be told now.
    """
    out: dict[int, str] = {}
    markers: dict[str, list[tuple[int, str]]] = {}

    def of(day: str) -> list[tuple[int, str]]:
        if day not in markers:
            markers[day] = store.maintenance_markers(day)
        return markers[day]

    for number in store.maintenance_numbers():
        if number in led_to:
            continue
        writer = begun_by(store.maintenance_start(number) or b"") or ""
        if writer:
            is_marked = (number, writer) in of(day_of(writer))
        else:  # of whichever day it is: that counts it among its damaged ones
            is_marked = any(number == one for day in store.maintenance_days() for one, _ in of(day))
        if not is_marked:
            out[number] = writer
    return out


def no_marker(number: int, writer: str) -> str:
    """Return what is said of an entry that `unmarked` found."""
    if not writer:
        return f"entry {number} of the maintenance log is not as it was written, and no marker says of which day it is"
    return f"entry {number} of the maintenance log is about blocks of {day_of(writer)}, and the marker there is lost"
