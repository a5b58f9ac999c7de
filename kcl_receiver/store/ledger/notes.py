"""Notes of what maintenance is about to record, in an order that no clock decides.

What maintenance does can be of any day, and a reader that goes on where it stopped would have to look at all of them.
So each maintenance ledger is noted under the next free number just before it is written. A reader keeps the number of
the last note that it has seen.

The rule: one maintenance run is at work at a time, and writes the ledger of a note before it makes the next note. So
where the ledger of a note is not there, it is still to come if the note is the last one, and never comes if it is not.
A run sees to the latter before it does anything, by `end_killed`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

from kcl_receiver.errors import SEE_REPAIR, LedgerDamaged
from kcl_receiver.ids import check_writer_id
from kcl_receiver.store.store import Store

_NOTE = "maintenance-{:09d}.json"


class Note(NamedTuple):
    """The maintenance ledger of a writer, with its role; numbers begin with 1."""

    number: int
    writer: str
    role: str


def note(store: Store, writer: str, role: str, number: int) -> int:
    """Note a maintenance ledger that is about to be written; return the number. The caller holds the maintenance.

    Args:
        store: The store.
        writer: Id of the ledger's writer.
        role: Its role.
        number: What `next_number` returned before the first call; the same if the call is made again.

    Raises:
        StoreUnavailable: It is not known to be noted; call again.
    """
    mine = json.dumps({"writer": writer, "role": role}).encode() + b"\n"
    return next(one for one in count(number) if store.put_document_if_absent(_NOTE.format(one), mine) == mine)


def next_number(store: Store) -> int:
    """Return the number after that of the last note.

    Raises:
        StoreUnavailable: It cannot be told now.
    """
    above = 1
    while store.get_document(_NOTE.format(above)) is not None:
        above *= 2
    there = above // 2
    while above - there > 1:
        middle = (there + above) // 2
        if store.get_document(_NOTE.format(middle)) is None:
            above = middle
        else:
            there = middle
    return above


def unfinished(store: Store) -> Note | None:
    """Return the note whose ledger is still to come, or None.

    Raises:
        StoreUnavailable: It cannot be told now.
        LedgerDamaged: The last note is none.
    """
    last = _read(store, next_number(store) - 1)
    return None if last is None or store.has_maintenance_ledger(last.writer) else last


def written(store: Store) -> int:
    """Return how many notes there are whose ledgers are not still to come.

    Raises:
        StoreUnavailable: It cannot be told now.
        LedgerDamaged: The last one is none.
    """
    last = _read(store, next_number(store) - 1)
    if last is None:
        return 0
    return last.number if store.has_maintenance_ledger(last.writer) else last.number - 1


def notes(store: Store, seen: int = 0) -> Iterator[Note]:
    """Yield the notes of ledgers that are there, but for the first `seen`; it ends before one that is still to come.

    Raises:
        StoreUnavailable: They cannot be read now.
        LedgerDamaged: A note is none.
    """
    following = _read(store, seen + 1)
    while following is not None:
        one, there = following, store.has_maintenance_ledger(following.writer)
        following = _read(store, one.number + 1)
        if not there and following is not None:
            # It was written between the two looks, or never.
            there = store.has_maintenance_ledger(one.writer)
        if there:
            yield one


def _read(store: Store, number: int) -> Note | None:
    content = store.get_document(_NOTE.format(number))
    if content is None:
        return None
    try:
        raw = json.loads(content)
        return Note(number, check_writer_id(raw["writer"]), str(raw["role"]))
    except (ValueError, LookupError, TypeError) as error:
        raise LedgerDamaged(
            f"{_NOTE.format(number)} of the store {store.url} cannot be read: {error!r}",
            SEE_REPAIR,
        ) from error
