"""The block being built: batches of all shards, in the order of their admission.

A batch is in one block or in none; what a session has here can be taken out again until the block is cut.
"""

from __future__ import annotations

from dataclasses import dataclass

from kcl_receiver.generator.effects import BlockPart
from kcl_receiver.generator.session import Session


@dataclass(frozen=True, slots=True)
class AdmittedPart:
    """One range of an admitted batch."""

    session: Session
    number: int
    part: BlockPart


class BlockBuilder:
    """Collects parts until they are taken.

    Attributes:
        opened_at: When the first part of the block came, in the driver's seconds; None while it is empty.
    """

    def __init__(self) -> None:
        self._parts: list[AdmittedPart] = []
        self._size = 0
        self._sizes: dict[str, int] = {}
        self.opened_at: float | None = None

    def __bool__(self) -> bool:
        return bool(self._parts)

    @property
    def size(self) -> int:
        """Bytes of all columns."""
        return self._size

    def add(self, part: AdmittedPart, now: float) -> None:
        """Put one more range into the block."""
        if self.opened_at is None:
            self.opened_at = now
        self._parts.append(part)
        size = part.part.columns.memory
        self._size += size
        self._sizes[part.session.id] = self._sizes.get(part.session.id, 0) + size

    def size_of(self, session: Session) -> int:
        """Return the bytes of all columns that this session has in the block."""
        return self._sizes.get(session.id, 0)

    def drop(self, session: Session) -> None:
        """Take out whatever this session has in the block."""
        kept = [part for part in self._parts if part.session is not session]
        self._parts = kept
        self._size -= self._sizes.pop(session.id, 0)
        if not kept:
            self.opened_at = None

    def cut(self) -> tuple[AdmittedPart, ...]:
        """Return the parts and begin an empty block."""
        parts = tuple(self._parts)
        self._parts = []
        self._size = 0
        self._sizes = {}
        self.opened_at = None
        return parts
