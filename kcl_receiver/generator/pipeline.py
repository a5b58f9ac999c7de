"""Blocks on their way: builder → being written → ledger → stored.

Three rules: no more than `max_in_flight` blocks are on their way, so that memory is bounded when the store is slow; a
block that was cut is repeated until it is stored, with the same number and parts; and ledger entries go out one append
at a time and in order, so that an append whose outcome is unknown is repeated before anything else is written. Entries
that wait meanwhile share the next append.

A ledger gives way to the next one while no block is on its way: from when it is due none is cut, and once the last one
is stored the next ledger begins. So a block is always recorded in the ledger whose id it bears.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from kcl_receiver.generator.builder import AdmittedPart, BlockBuilder
from kcl_receiver.generator.effects import Append, BlockRecord, Effect, LedgerRecord, WriteBlock
from kcl_receiver.generator.session import Session
from kcl_receiver.generator.settings import GeneratorSettings


@dataclass(frozen=True, slots=True)
class _InFlight:
    """A block that was cut and is not stored."""

    parts: tuple[AdmittedPart, ...]
    effect: WriteBlock


@dataclass(slots=True)
class Totals:
    """What was stored since the start: blocks, records, bytes of the stored blocks."""

    blocks: int = 0
    records: int = 0
    size: int = 0


class Pipeline:
    """See the module's docstring.

    Attributes:
        totals: What was stored.
    """

    def __init__(self, settings: GeneratorSettings) -> None:
        self._settings = settings
        self._builder = BlockBuilder()
        self._flush = False
        self._interval_began: float | None = None
        self._next_block = 1
        self._in_flight: dict[int, _InFlight] = {}
        self._entries: deque[LedgerRecord] = deque()
        self._appending: tuple[LedgerRecord, ...] | None = None
        self._ledger_is_due = False
        self.totals = Totals()

    # ------------------------------------------------------------------ building and cutting

    def make_room(self, size: int, now: float) -> tuple[bool, list[Effect]]:
        """Return whether the block being built takes so many bytes more, after cutting it if it must be and may be.

        An empty one takes a batch of any size.
        """
        if not self._builder or self._builder.size + size <= self._settings.block_max_bytes:
            return True, []
        return (True, self._cut(now)) if self._may_cut() else (False, [])

    def add(self, part: AdmittedPart, now: float) -> None:
        """Put one range into the block that is being built; `make_room` comes first, once for all of a batch."""
        self._builder.add(part, now)

    def drop(self, session: Session) -> None:
        """Take out whatever a session has in the block that is being built."""
        self._builder.drop(session)

    def flush(self, session: Session | None = None) -> None:
        """Cut as soon as possible, if the session (any, for None) has something in the block that is being built."""
        if bool(self._builder) if session is None else self._builder.size_of(session) > 0:
            self._flush = True

    def flush_half(self, session: Session) -> None:
        """Cut as soon as possible, if half of a session's window is in the block that is being built.

        So one half is stored while the other one fills. A window that is let run full leaves its processor idle from
        the cut until the block is stored.
        """
        if 2 * self._builder.size_of(session) >= self._settings.window_bytes:
            self._flush = True

    def cut_if_due(self, now: float) -> list[Effect]:
        """Cut by time, by size or for a flush."""
        if not self._builder:
            self._flush = False
        due = self.due()
        if due is None:
            return []
        full = self._builder.size >= self._settings.block_max_bytes
        return self._cut(min(now, due)) if self._flush or full or now >= due else []

    def due(self) -> float | None:
        """When the next block is to be cut by time, None if there is none or it may not be cut yet.

        While records flow, intervals follow each other without a gap, so that the number of blocks is that of the
        intervals, whatever the number of shards; after a pause they begin anew with the first batch.
        """
        opened = self._builder.opened_at
        if opened is None or not self._may_cut():
            return None
        interval = self._settings.block_interval
        began = self._interval_began
        return (opened if began is None or opened >= began + interval else began) + interval

    def _may_cut(self) -> bool:
        return len(self._in_flight) < self._settings.max_in_flight and not self._ledger_is_due

    def _cut(self, at: float) -> list[Effect]:
        self._flush = False
        self._interval_began = at
        parts = self._builder.cut()
        number = self._next_block
        self._next_block += 1
        for part in parts:
            part.session.in_flight += 1
        effect = WriteBlock(number, tuple(part.part for part in parts))
        self._in_flight[number] = _InFlight(parts, effect)
        return [effect]

    # ------------------------------------------------------------------ storing

    def write_again(self, number: int) -> list[Effect]:
        """Ask for the same block once more."""
        return [self._in_flight[number].effect]

    def record(self, record: LedgerRecord) -> None:
        """Put an entry into the queue for the ledger."""
        self._entries.append(record)

    def append_if_due(self) -> list[Effect]:
        """Append what waits, or let the next ledger begin, unless an append is under way."""
        if self._appending is not None:
            return []
        if self._ledger_is_due and not self._in_flight:
            self._appending = ()
        elif self._entries:
            self._appending = tuple(self._entries)
            self._entries.clear()
        else:
            return []
        return self.append_again()

    def append_again(self) -> list[Effect]:
        """Ask for the same append once more."""
        return [Append(self._appending or ())]

    def appended(self, *, ledger_is_due: bool) -> tuple[LedgerRecord, ...]:
        """Return the entries that are durable now, and take note of whether the next ledger is to begin."""
        records, self._appending = self._appending or (), None
        self._ledger_is_due = ledger_is_due
        return records

    def stored(self, record: BlockRecord) -> tuple[AdmittedPart, ...]:
        """Return the parts of a block that is stored now, and count it."""
        parts = self._in_flight.pop(record.number).parts
        self.totals.blocks += 1
        self.totals.records += record.written.rows
        self.totals.size += record.written.size
        for part in parts:
            part.session.in_flight -= 1
        return parts

    # ------------------------------------------------------------------ to look at

    @property
    def empty(self) -> bool:
        """Whether all that was ever taken is stored."""
        return not (self._builder or self._in_flight or self._entries) and self._appending is None

    @property
    def blocks_in_flight(self) -> int:
        """Number of blocks that were cut and are not stored."""
        return len(self._in_flight)

    @property
    def building_bytes(self) -> int:
        """Bytes of all columns in the block that is being built."""
        return self._builder.size

    @property
    def building_since(self) -> float | None:
        """When the first part of the block that is being built came, None while there is none."""
        return self._builder.opened_at
