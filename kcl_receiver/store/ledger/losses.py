"""Finds what is lost of ledgers: lines that are not as they were written, and lines that others saw and that are gone.

What is known to be lost already, by an `Acknowledged` entry, is left out.
"""

from __future__ import annotations

from typing import NamedTuple

from kcl_receiver.store.ledger.entries import Tail, decode_ledger
from kcl_receiver.store.ledger.transaction import DayChanges, acknowledged, is_acknowledged
from kcl_receiver.store.store import Store


class Loss(NamedTuple):
    """Of a writer's ledger, this line and all after it are lost."""

    writer: str
    line: int
    reason: str


def losses(store: Store) -> list[Loss]:
    """Return what is lost of the ledgers of generators.

    Raises:
        StoreUnavailable: A ledger cannot be read now.
    """
    found: dict[str, Loss] = {}
    claims: list[tuple[str, str, Tail]] = []
    tails: dict[str, Tail] = {}
    for writer in store.writers():
        content = store.ledger(writer)
        if content is None:
            continue
        ledger = decode_ledger(writer, content)
        if ledger.fault is not None:
            found[writer] = Loss(writer, ledger.tail.number + 1, ledger.fault.message)
        claims += ((writer, *seen) for seen in ledger.named.items())
        tails[writer] = ledger.tail
    for witness, writer, seen in claims:
        if writer in found or tails.get(writer) == seen:
            continue
        ledger = decode_ledger(writer, store.ledger(writer) or b"")
        if not ledger.has(seen) and not acknowledged(store, writer, seen.number):
            found[writer] = _not_there(witness, writer, ledger.tail.number, seen)
    return list(found.values())


def losses_of_day(store: Store, changes: DayChanges) -> list[Loss]:
    """Return what is lost of the maintenance ledgers about a day's blocks.

    Raises:
        StoreUnavailable: A ledger cannot be read now.
    """
    if not changes.faults:
        return []
    out: dict[str, Loss] = {}
    damaged: dict[str, Loss] = {}
    for witness, content in store.maintenance_ledgers(changes.day):
        ledger = decode_ledger(witness, content)
        for writer, seen in ledger.named.items():
            there = changes.writers.get(writer)
            if there != seen and not is_acknowledged(changes.acknowledged, writer, seen.number):
                out[writer] = _not_there(witness, writer, 0 if there is None else there.number, seen)
        if ledger.fault is not None or ledger.torn or not ledger.entries:
            reason = "its end is not there" if ledger.fault is None else ledger.fault.message
            damaged[witness] = Loss(witness, ledger.tail.number + 1, reason)
    return list((out | damaged).values())


def good_lines(store: Store, one: Loss) -> bytes | None:
    """Return the lines of a ledger before a loss; None if it ends there, and so is only too short.

    Raises:
        StoreUnavailable: It cannot be read now.
    """
    content = store.ledger(one.writer)
    if content is None:
        content = store.maintenance_ledger(one.writer) or b""
    good = b"".join(content.splitlines(keepends=True)[: one.line - 1])
    return None if good == content else good


def at_work(store: Store) -> set[str] | None:
    """Return the writers whose blocks a generator that is at work may be about to record, as `take_over` would.

    None: it is just starting, and may record those of any writer.

    Raises:
        StoreUnavailable: The ledgers cannot be read now.
    """
    opened = dict(store.open_ledgers())
    named = (decode_ledger(writer, content).named for writer, content in opened.items())
    return {*opened}.union(*named) if opened else None


def _not_there(witness: str, writer: str, good: int, seen: Tail) -> Loss:
    # If other lines are there, which of them are right cannot be told.
    return Loss(writer, min(good + 1, seen.number), f"line {seen.number} of it, which {witness} saw, is not there")
