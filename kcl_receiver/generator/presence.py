"""Tells which ranges are in the store now, also where maintenance has put other blocks in the place of theirs.

A range is skipped only if it is there now, and stays. So where a block is gone, those that stand in for it are looked
at, and their footers tell which of its ranges they hold: what a recovery could not bring back, and what was expired on
purpose, is not there, and is stored again if the stream delivers it again. The same is true of an expired block that is
still there: `expire` was killed, or is just about to delete it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kcl_receiver.errors import BlockDamaged, BlockMissing
from kcl_receiver.ids import block_day
from kcl_receiver.ranges import Range
from kcl_receiver.store.ledger.reading import Ledger
from kcl_receiver.store.ledger.transaction import content_of, expired_blocks
from kcl_receiver.store.store import Store

_TRIES = 3
"""A stand-in can be replaced in turn between two looks, but hardly twice: each time takes maintenance many seconds."""


def present_ranges(store: Store, ranges: Mapping[str, Sequence[Range]]) -> list[Range]:
    """Return the ranges that are in the store now, sorted by first and last position.

    Costs a look for each block and for each maintenance ledger of its day; what maintenance did to a day is read only
    if a block of that day is gone.

    Args:
        store: The store.
        ranges: Ranges of one shard, by the id of the block that the ledger names.

    Raises:
        StoreUnavailable: It cannot be told now.
    """
    out: list[Range] = []
    gone: list[str] = []
    expired = _Expired(store)
    for block, of_block in ranges.items():
        if not store.has_block(block):
            gone.append(block)
        elif block not in expired:
            out += of_block
    for left in reversed(range(_TRIES)):
        if not gone:
            break
        # Read after the looks: a block goes only when the ledger that says so is durable.
        stand_ins = _stand_ins(store, gone)
        held: dict[str, frozenset[Range] | None] = {}
        again = []
        for block in gone:
            of_block = ranges[block]
            for one in stand_ins[block]:
                if one not in held:
                    held[one] = frozenset() if one in expired else _ranges_of(store, one, of_block[0].shard)
            footers = [held[one] for one in stand_ins[block]]
            if None in footers and left:
                again.append(block)
            else:
                out += [one for one in of_block if any(found and content_of(one) in found for found in footers)]
        gone = again
    return sorted(out, key=lambda one: (one.first, one.last))


class _Expired:
    """The blocks that were removed on purpose, asked for by the day; where that cannot be told, all of them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._days: dict[str, frozenset[str] | None] = {}

    def __contains__(self, block: str) -> bool:
        day = block_day(block)
        if day not in self._days:
            self._days[day] = expired_blocks(self._store, day)
        found = self._days[day]
        return found is None or block in found


def _stand_ins(store: Store, blocks: Sequence[str]) -> dict[str, tuple[str, ...]]:
    ledger = Ledger(store)
    days = {day: ledger.changes(day, ranges=False).replaced for day in sorted(set(map(block_day, blocks)))}
    return {block: days[block_day(block)].get(block, ()) for block in blocks}


def _ranges_of(store: Store, block: str, shard: str) -> frozenset[Range] | None:
    """Return the ranges of a shard in a block, or None if it is not there."""
    try:
        entry = Ledger(store).from_footer(block)
    except BlockMissing:
        return None
    except BlockDamaged:
        return frozenset()  # its records have to be stored again
    return frozenset(content_of(one) for one in entry.ranges if one.shard == shard)
