"""Tracks which batches of one session are stored.

Batches are admitted in the order of the stream and stored in any order. `stored_through` is the last batch before the
first one that is not stored. Nothing else may decide what is safe to checkpoint.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from kcl_receiver.ranges import Position


@dataclass(slots=True)
class _Entry:
    number: int
    last: Position
    size: int
    parts: int


class Tracker:
    """The batches of one session, numbered without gaps from `first_number`.

    A batch is stored once all of its parts are: it has several where records in its middle were held already.
    """

    def __init__(self, first_number: int) -> None:
        self._entries: deque[_Entry] = deque()
        self._next = first_number
        self._unstored_bytes = 0
        self._stored_position: Position | None = None

    @property
    def next_number(self) -> int:
        """Number of the batch to be admitted next."""
        return self._next

    @property
    def stored_through(self) -> int:
        """Number of the last batch such that it and every batch before it is stored."""
        return self._entries[0].number - 1 if self._entries else self._next - 1

    @property
    def stored_position(self) -> Position | None:
        """Last position of the batch that `stored_through` names, None before there is one."""
        return self._stored_position

    @property
    def unstored_bytes(self) -> int:
        """Bytes admitted and not stored: what the window limits. Stored behind a gap counts as stored."""
        return self._unstored_bytes

    def admit(self, number: int, last: Position, size: int, parts: int = 1) -> None:
        """Take note of the next batch, which ends at `last`; `parts` of 0 says that all of it is held already.

        Raises:
            ValueError: It is not the next one.
        """
        if number != self._next:
            raise ValueError(f"batch {number} admitted, {self._next} is next")
        self._next += 1
        self._entries.append(_Entry(number, last, size, parts))
        if parts:
            self._unstored_bytes += size
        self._drop_stored()

    def stored(self, number: int) -> None:
        """Take note that one part of a batch is stored, block and ledger entry.

        Raises:
            ValueError: No part of such a batch is waiting to be stored.
        """
        index = number - self._entries[0].number if self._entries else -1
        if not 0 <= index < len(self._entries) or self._entries[index].parts == 0:
            raise ValueError(f"batch {number} is not waiting to be stored")
        entry = self._entries[index]
        entry.parts -= 1
        if entry.parts == 0:
            self._unstored_bytes -= entry.size
            self._drop_stored()

    def _drop_stored(self) -> None:
        while self._entries and self._entries[0].parts == 0:
            self._stored_position = self._entries.popleft().last
