"""What a store's ledgers say, all in memory: the plain form of what the product reads one ledger at a time."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from kcl_receiver.errors import LedgerDamaged
from kcl_receiver.ranges import Range, StreamIdentity
from kcl_receiver.store.ledger.entries import (
    Acknowledged,
    BlockStored,
    Entry,
    Expired,
    MarksTaken,
    SessionStarted,
    ShardEnded,
    Tail,
    WriterLedger,
    decode_ledger,
)
from kcl_receiver.store.ledger.losses import ledgers_named, losses
from kcl_receiver.store.ledger.transaction import DayChanges, load_day
from kcl_receiver.store.ledger.writer import rebuild_from_footers
from kcl_receiver.store.store import Store

_Shard = tuple[StreamIdentity, str]


class LedgerIndex:
    """What is stored, by stream and shard.

    Attributes:
        writers: The last line of each writer's ledger.
        torn: Bytes of the torn last line of each writer that has one. Nobody was told of that line.
        adopted: Blocks that are in the store and in no ledger: the ledger was lost, or the writer was killed between
            block and ledger. They are in the index.
        unreadable: Blocks that are in the store and in no ledger, and whose footer cannot be read, with the reason.
        lost: There are blocks, and no ledger at all.
        replaced: Which blocks stand in for one, as maintenance recorded it.
        expired: Blocks that were removed on purpose.
        acknowledged: What is known to be gone of the ledgers.
        marks: What is recorded of how far shards were read.
    """

    def __init__(self) -> None:
        self.replaced: dict[str, tuple[str, ...]] = {}
        self.expired: dict[str, Expired] = {}
        self.acknowledged: list[Acknowledged] = []
        self.marks: list[MarksTaken] = []
        self.writers: dict[str, Tail] = {}
        self.torn: dict[str, int] = {}
        self.adopted: list[BlockStored] = []
        self.unreadable: dict[str, str] = {}
        self.lost = False
        self._blocks: dict[str, BlockStored] = {}
        self._ranges: dict[_Shard, list[tuple[Range, str]]] = {}
        self._unsorted: set[_Shard] = set()
        self._sessions: dict[_Shard, list[SessionStarted]] = {}
        self._ends: dict[_Shard, ShardEnded] = {}

    @classmethod
    def load(cls, store: Store) -> LedgerIndex:
        """Return the index of a store's whole ledger, and of the blocks that are in no ledger. Nothing is written.

        What it costs grows with the age of the store; a generator starts from `take_over` instead.

        Raises:
            LedgerDamaged: An entry is missing or altered.
            StoreUnavailable: The store cannot be read now.
        """
        index = cls()
        for writer in store.writers():
            if (fault := index.add_ledger(decode_ledger(writer, store.ledger(writer) or b""))) is not None:
                raise fault
        for day in store.maintenance_days():
            changes = load_day(store, day)
            for fault in changes.faults:
                raise fault
            index.add_maintenance(changes)
        _, state = ledgers_named(store)
        for one in losses(store):
            if one.writer in index.writers or state is None or one.writer not in state.living:
                raise LedgerDamaged(one.reason)
        index.adopt(store)
        return index

    def add_ledger(self, ledger: WriterLedger) -> LedgerDamaged | None:
        """Take in the good lines of one writer's ledger; return what is wrong with the next one, if anything is."""
        self.writers[ledger.writer] = ledger.tail
        if ledger.torn:
            self.torn[ledger.writer] = ledger.torn
        for entry in ledger.entries:
            self.add(entry)
        return ledger.fault

    def add_maintenance(self, changes: DayChanges) -> None:
        """Take in what maintenance did to the blocks of a day."""
        for entry in changes.blocks.values():
            self.add(entry)
        self.replaced |= changes.replaced
        self.expired |= changes.expired
        self.acknowledged += changes.acknowledged

    def adopt(self, store: Store) -> None:
        """Take in the blocks that are in the store and in no ledger.

        Raises:
            StoreUnavailable: The store cannot be read now.
        """
        self.lost = not self.writers
        self.adopted = rebuild_from_footers(store, store.list_blocks(), self._blocks, self.unreadable)
        for entry in self.adopted:
            self.add(entry)
        self.lost = self.lost and bool(self.adopted or self.unreadable)

    def add(self, entry: Entry) -> None:
        """Take in an entry. The same block again changes nothing."""
        if isinstance(entry, SessionStarted):
            self._sessions.setdefault((entry.stream, entry.shard), []).append(entry)
        elif isinstance(entry, MarksTaken):
            self.marks.append(entry)
        elif isinstance(entry, ShardEnded):
            self._ends[entry.stream, entry.shard] = entry
        elif isinstance(entry, BlockStored) and entry.block not in self._blocks:
            self._blocks[entry.block] = entry
            for one in entry.ranges:
                key = entry.stream, one.shard
                self._ranges.setdefault(key, []).append((one, entry.block))
                self._unsorted.add(key)

    def blocks(self) -> Mapping[str, BlockStored]:
        """Return all blocks by their id."""
        return MappingProxyType(self._blocks)

    def streams(self) -> set[StreamIdentity]:
        """Return all streams of which something is recorded."""
        return {stream for stream, _ in self._shards()}

    def shards(self, stream: StreamIdentity) -> list[str]:
        """Return the ids of all shards of a stream of which something is recorded, sorted."""
        return sorted(shard for of, shard in self._shards() if of == stream)

    def _shards(self) -> set[_Shard]:
        return {*self._ranges, *self._sessions, *self._ends}

    def ranges(self, stream: StreamIdentity, shard: str) -> list[tuple[Range, str]]:
        """Return a shard's ranges, each with the id of its block, sorted by first and last position."""
        key = stream, shard
        found = self._ranges.get(key, [])
        if key in self._unsorted:
            found.sort(key=lambda one: (one[0].first, one[0].last, one[1]))
            self._unsorted.discard(key)
        return list(found)

    def sessions(self, stream: StreamIdentity, shard: str) -> list[SessionStarted]:
        """Return a shard's sessions, the earliest first."""
        return sorted(self._sessions.get((stream, shard), []), key=lambda one: one.time)

    def shard_ended(self, stream: StreamIdentity, shard: str) -> ShardEnded | None:
        """Return the entry that says that a shard was read to its end, or None."""
        return self._ends.get((stream, shard))
