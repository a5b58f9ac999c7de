"""Finds what is lost of ledgers: lines that are not as they were written, ends, and lines that others saw.

What is known to be lost already, by an `Acknowledged` entry, is left out.
"""

from __future__ import annotations

from typing import NamedTuple

from kcl_receiver.errors import LedgerDamaged
from kcl_receiver.store.ledger.entries import SessionStarted, StoreState, Tail, decode_ledger
from kcl_receiver.store.ledger.store_log import StoreLog, is_behind
from kcl_receiver.store.ledger.transaction import DayChanges, acknowledged, is_acknowledged
from kcl_receiver.store.ledger.writer import unclosed, unseen
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
    writers, state = ledgers_named(store)
    found: list[Loss] = []
    there: dict[str, int] = {}
    saw: dict[str, tuple[int, str]] = {}
    for writer in sorted({*writers, *(() if state is None else state.living)}):
        ledger = decode_ledger(writer, store.ledger(writer) or b"")
        line = ledger.tail.number + 1
        there[writer] = ledger.tail.number
        for entry in ledger.entries:
            if isinstance(entry, SessionStarted) and entry.seen is not None:
                for other, number in entry.seen.lines.items():
                    saw[other] = max(saw.get(other, (0, "")), (number, writer))
        if ledger.fault is not None:
            found.append(Loss(writer, line, ledger.fault.message))
        elif state is not None and not ledger.is_closed and not acknowledged(store, writer, line):
            fault = unclosed(store, writer, line - 1, is_living=writer in state.living)
            found += [] if fault is None else [Loss(writer, line, fault.message)]
    known = {one.writer for one in found}
    for writer, (number, witness) in sorted(saw.items()):
        if writer in known or there.get(writer, 0) >= number:
            continue
        line = decode_ledger(writer, store.ledger(writer) or b"").tail.number + 1  # it may have grown since
        if line <= number and not acknowledged(store, writer, line):
            found.append(Loss(writer, line, unseen(writer, line, witness).message))
    return found


def ledgers_named(store: Store) -> tuple[list[str], StoreState | None]:
    """Return the ids of all writers of which there is, or should be, a ledger; and what the store's log says.

    That is None if the log is lost, damaged, or older than the ledgers. A ledger of no living writer is closed by then.

    Raises:
        StoreUnavailable: The store cannot be read now.
    """
    writers = store.writers()  # before the log: whoever is not among the living then has ended
    try:
        newest = StoreLog(store).newest()
    except LedgerDamaged:
        return writers, None
    state = newest.state
    if not newest.number or is_behind(state, writers):
        return writers, None
    return sorted({*writers, *state.kept}), state


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
            gone = "its end is not there" if content else "it is not there"
            reason = gone if ledger.fault is None else ledger.fault.message
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


def at_work(store: Store) -> dict[str, str] | None:
    """Return the writers whose blocks a generator that is at work may be about to record, and on which host each is.

    None: those of any writer, because the log is lost.

    Raises:
        StoreUnavailable: The ledgers cannot be read now.
    """
    _, state = ledgers_named(store)
    return None if state is None else {writer: one.host for writer, one in state.living.items()}


def _not_there(witness: str, writer: str, good: int, seen: Tail) -> Loss:
    # If other lines are there, which of them are right cannot be told.
    return Loss(writer, min(good + 1, seen.number), f"line {seen.number} of it, which {witness} saw, is not there")
