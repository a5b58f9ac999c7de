"""Finds blocks of a day that nobody needs any more, because a run that was killed could not delete them.

Two kinds. A *leftover* was replaced or expired by a durable entry, and is still there. An *orphan* is a block that a
killed run made and did not come to record: its writer has no ledger. The rule: a block is named here only if it was
removed on purpose, or if each of its ranges is in a block that is recorded, present, not replaced, and was read in full
just now and found whole.

Where no lock says that the run has ended, an orphan may be one that a run is about to record. It is left alone while it
is young; and `delete_orphans` sees to it first that it is never recorded, however old it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from kcl_receiver.errors import BlockDamaged, BlockMissing
from kcl_receiver.ids import writer_of
from kcl_receiver.ranges import Range
from kcl_receiver.store.blocks.file import BlockFile
from kcl_receiver.store.ledger.entries import BlockStored
from kcl_receiver.store.ledger.reading import DayChanges, Ledger
from kcl_receiver.store.ledger.transaction import content_of, delete_recorded, holds_all, void
from kcl_receiver.store.store import Store

ORPHAN_MILLIS = 24 * 3_600_000
"""So long a block in no ledger is left to the run that made it, where no lock says that this has ended."""


class Leftovers:
    """The blocks of one day that may be deleted.

    Args:
        ledger: The ledgers; what is damaged in them does not stop it.
        changes: What maintenance did to the day's blocks; its own ledgers are whole.
        present: Id and size of the day's blocks that are there.
        now_ms: Milliseconds since the epoch.
    """

    def __init__(self, ledger: Ledger, changes: DayChanges, present: Mapping[str, int], now_ms: int) -> None:
        self._ledger = ledger
        self._now_ms = now_ms
        self._writers: dict[str, bool] = {}
        self._store = ledger.store
        self._changes = changes
        self._present = present

    def replaced(self) -> list[str]:
        """Return the blocks that were replaced or expired.

        Raises:
            StoreUnavailable: The store cannot be read now.
        """
        out = [block for block in self._present if block in self._changes.expired]
        by_stand_ins: dict[tuple[str, ...], set[str]] = {}
        for block in self._present:
            stand_ins = self._changes.replaced.get(block)
            if stand_ins is not None and block not in self._changes.expired:
                by_stand_ins.setdefault(stand_ins, set()).add(block)
        for stand_ins, blocks in by_stand_ins.items():
            held = self._held_by(stand_ins)
            ranges = {entry.block: entry.ranges for entry in self._ledger.find_all(blocks, self._changes)}
            for block in sorted(blocks - ranges.keys()):  # its line of the ledger was lost
                with suppress(BlockDamaged, BlockMissing):
                    ranges[block] = self._ledger.from_footer(block).ranges
            out += [block for block, each in ranges.items() if held and holds_all(held, each)]
        return out

    def orphans(self) -> list[str]:
        """Return the blocks that a killed run made, and whose ranges others hold.

        Raises:
            StoreUnavailable: The store cannot be read now.
        """
        found: dict[str, set[Range]] = {}
        for block in self._present:
            if block in self._changes.blocks or block in self._changes.expired or block in self._changes.replaced:
                continue
            if not self._has_ledger(writer_of(block)) and not self.is_young(block):
                # One that cannot be read may be a good one's last trace: `repair` and a person decide.
                with suppress(BlockDamaged, BlockMissing):
                    found[block] = set(map(content_of, self._ledger.from_footer(block).ranges))
        held = self._held_elsewhere(set().union(*found.values())) if found else set()
        return [block for block, ranges in found.items() if ranges <= held]

    def is_young(self, block: str) -> bool:
        """Return whether a run of maintenance may be at work that is about to record a block.

        Raises:
            StoreUnavailable: The store cannot be read now.
        """
        if self._store.objects.locks or self._has_ledger(writer_of(block)):
            return False
        changed = self._store.block_changed(block)
        return changed is not None and changed > self._now_ms - ORPHAN_MILLIS

    def _has_ledger(self, writer: str) -> bool:
        if writer not in self._writers:
            self._writers[writer] = self._ledger.has_ledger(writer, self._changes)
        return self._writers[writer]

    def _held_elsewhere(self, wanted: set[Range]) -> set[Range]:
        """Return which of some ranges are in good blocks that are recorded."""
        held: set[Range] = set()
        others = [block for block in self._present if self._counts(block)]
        for entry in self._ledger.find_all(others, self._changes):
            here = wanted.intersection(map(content_of, entry.ranges))
            if not here <= held and self._is_good(entry):
                held |= here
        return held

    def _held_by(self, blocks: Iterable[str]) -> set[Range]:
        """Return the ranges of blocks that are present, recorded and good."""
        held: set[Range] = set()
        for entry in self._ledger.find_all([one for one in blocks if self._counts(one)], self._changes):
            if self._is_good(entry):
                held.update(map(content_of, entry.ranges))
        return held

    def _counts(self, block: str) -> bool:
        changes = self._changes
        return block in self._present and block not in changes.replaced and block not in changes.expired

    def _is_good(self, entry: BlockStored) -> bool:
        try:
            with BlockFile(self._store, entry.block) as file:
                file.check_footer(entry.stream, entry.ranges)
                file.check_rows(entry.ranges)
        except (BlockDamaged, BlockMissing):
            return False
        return True


def delete_orphans(store: Store, changes: DayChanges, orphans: Sequence[str], role: str, now_ms: int) -> None:
    """Delete what `Leftovers.orphans` returned, once it is sure that no ledger will come to name it.

    Args:
        store: The store.
        changes: What `load_to_change` returned of their day.
        orphans: Their ids.
        role: Who deletes them, one of `ROLES`.
        now_ms: Milliseconds since the epoch.

    Raises:
        TransactionOvertaken: One of them is recorded now; nothing was deleted.
        LedgerDamaged: The day's maintenance ledgers are damaged.
        StoreUnavailable: They are not known to be gone; try again.
    """
    void(store, changes, map(writer_of, orphans), role, now_ms)
    delete_recorded(store, orphans)
