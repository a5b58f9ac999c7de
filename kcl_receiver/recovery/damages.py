"""What is to be brought back: found once, kept on disk, and read as often as it is needed.

Finding damage reads the store; showing it first and mending it then must not read it twice, and a store that lost a
third of a million blocks must fit. So the rule: totals are in memory, and everything else in a temporary file that goes
when this is closed.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from types import TracebackType

from kcl_receiver.audit.report import DAMAGED, MISSING, Damage
from kcl_receiver.ids import block_id, writer_of
from kcl_receiver.ranges import Range, StreamIdentity
from kcl_receiver.store.json_codec import decode, encode
from kcl_receiver.store.ledger.entries import BlockStored
from kcl_receiver.store.ledger.reading import Ledger
from kcl_receiver.store.store import Store


@dataclass(slots=True)
class Totals:
    """How much of one shard is lost until it is brought back.

    Attributes:
        ranges: Ranges that no good block holds.
        records: User records in them.
        size: Bytes of keys and data in them.
        arrival_first: When the first of them arrived, milliseconds since the epoch; -1 if not known.
        arrival_last: The same of the last.
    """

    ranges: int = 0
    records: int = 0
    size: int = 0
    arrival_first: int = -1
    arrival_last: int = -1

    def add(self, one: Range) -> None:
        """Count a range."""
        self.ranges += 1
        self.records += one.count
        self.size += one.size
        oldest, newest, _ = one.arrivals
        if oldest >= 0 and (self.arrival_first < 0 or oldest < self.arrival_first):
            self.arrival_first = oldest
        self.arrival_last = max(self.arrival_last, newest)


class Found:
    """Damaged and missing blocks.

    Attributes:
        missing: How many blocks are not there.
        damaged: How many are there and are not what was stored.
        shards: By stream and shard, what is lost.
    """

    def __init__(self) -> None:
        self.missing = 0
        self.damaged = 0
        self.shards: dict[tuple[StreamIdentity, str], Totals] = defaultdict(Totals)
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()

    def __enter__(self) -> Found:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the file."""
        self._file.close()

    def add(self, damage: Damage) -> None:
        """Take in a block; the earliest comes first."""
        self.missing += damage.why == MISSING
        self.damaged += damage.why == DAMAGED
        for one in damage.ranges_lost:
            self.shards[damage.entry.stream, one.shard].add(one)
        self._file.write(encode(damage) + b"\n")

    def __iter__(self) -> Iterator[Damage]:
        """Yield them in the order in which they came; one iteration at a time."""
        self._file.flush()
        self._file.seek(0)
        for line in self._file:
            yield decode(Damage, line)

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return self.missing + self.damaged

    @property
    def ranges(self) -> int:
        """How many ranges are lost."""
        return sum(one.ranges for one in self.shards.values())

    @property
    def records(self) -> int:
        """How many user records are in them."""
        return sum(one.records for one in self.shards.values())

    @property
    def size(self) -> int:
        """How many bytes of keys and data are in them."""
        return sum(one.size for one in self.shards.values())


def choose(damages: Iterable[Damage], shards: Collection[str] = (), blocks: Collection[str] = ()) -> Iterator[Damage]:
    """Yield the damages that somebody wants mended, with the ranges of no other shards.

    Args:
        damages: All of them.
        shards: Ids of shards; none means all.
        blocks: Ids of blocks; none means all.
    """
    for one in damages:
        if blocks and one.block not in blocks:
            continue
        if shards:
            lost = tuple(each for each in one.ranges_lost if each.shard in shards)
            if not any(each.shard in shards for each in one.entry.ranges):
                continue
            one = replace(one, ranges_lost=lost)  # noqa: PLW2901
        yield one


@dataclass(slots=True)
class Unknown:
    """What cannot be brought back because nobody knows what it was.

    Attributes:
        unreadable: Blocks that are in no ledger and whose footer cannot be read, with the reason.
        numbers: Blocks that may be missing: a writer without ledger numbers its blocks one by one, and these
            are not there.
        ledger_lost: There are blocks, and no ledger at all: blocks after a writer's last one would not be missed.
        ledger_faults: What is wrong with the ledger; what comes after a fault is not known.
    """

    unreadable: dict[str, str] = field(default_factory=dict)
    numbers: list[str] = field(default_factory=list)
    ledger_lost: bool = False
    ledger_faults: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.unreadable or self.numbers or self.ledger_lost or self.ledger_faults)


def find_unknown(store: Store) -> Unknown:
    """Return what cannot be known about a store's blocks any more. Memory holds the ids of all blocks.

    Raises:
        StoreUnavailable: The store cannot be read now.
    """
    out = Unknown()
    faults: dict[str, str] = {}
    ledger = Ledger(store, faults)
    known: set[str] = set()
    recorded = set(ledger.writers)
    for writer in ledger.writers:
        known.update(entry.block for entry in ledger.of(writer) if isinstance(entry, BlockStored))
    out.ledger_faults.extend(faults.values())
    for day in store.maintenance_days():
        changes = ledger.changes(day, ranges=False)
        recorded.update(changes.writers)
        known.update(changes.blocks)
        known.update(changes.replaced)
        known.update(changes.expired)
        out.ledger_faults.extend(fault.message for fault in changes.faults)
    present = list(store.list_blocks())
    out.ledger_lost = bool(present) and not recorded
    ledger.from_footers((one for one in present if one[0] not in known), out.unreadable)
    numbers: dict[str, list[int]] = defaultdict(list)
    for block in sorted({*known, *(block for block, _ in present)}):
        if writer_of(block) not in recorded:
            numbers[writer_of(block)].append(int(block.rpartition("-")[2]))
    for writer, there in numbers.items():
        missing = sorted(set(range(min(there), max(there))) - set(there))
        out.numbers.extend(block_id(writer, number) for number in missing)
    return out
