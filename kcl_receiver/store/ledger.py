"""The ledger: written by one writer, loaded from all, and rebuilt from the blocks' footers where it is lost.

The ledger is the only ground on which a record is not stored again, and on which a lost block is known. So an entry is
durable before anyone is told of it, and an index is loaded from lines that are durable.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType

from kcl_receiver.errors import SEE_REPAIR, BlockDamaged, BlockMissing, LedgerDamaged
from kcl_receiver.ranges import Range, StreamIdentity
from kcl_receiver.store.base import BlockStore
from kcl_receiver.store.blocks import read_footer
from kcl_receiver.store.entries import (
    HASH_BYTES,
    Acknowledged,
    BlockStored,
    Carried,
    Entry,
    Expired,
    MarksTaken,
    SessionStarted,
    ShardEnded,
    Tail,
    WriterLedger,
    WriterStarted,
    decode_ledger,
    encode_lines,
    first_prev,
    iter_entries,
)
from kcl_receiver.store.maintenance import DayChanges, is_acknowledged, load_day
from kcl_receiver.store.names import block_id, check_writer_id, writer_id

__all__ = [
    "BlockStored",
    "Entry",
    "LedgerIndex",
    "LedgerWriter",
    "SessionStarted",
    "ShardEnded",
    "Tail",
    "WriterStarted",
    "block_id",
    "has_line",
    "lost_tail",
    "rebuild_from_footers",
    "writer_id",
    "writers_since",
]

_Shard = tuple[StreamIdentity, str]


class LedgerWriter:
    """Appends entries to one writer's ledger.

    Args:
        store: The store.
        writer: Id of the writer, which nobody else uses.
    """

    def __init__(self, store: BlockStore, writer: str) -> None:
        self.writer = check_writer_id(writer)
        self._store = store
        self._tail = Tail(0, first_prev(writer))
        self._pending: tuple[bytes, Tail] | None = None
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes that were appended."""
        return self._size

    @property
    def tail(self) -> Tail:
        """The last line that is known to be durable."""
        return self._tail

    def append(self, entries: Sequence[Entry]) -> None:
        """Append entries; all are durable when this returns.

        Raises:
            StoreUnavailable: They were not written, or it is not known whether they were. The same entries must come
                next, until this returns.
            LedgerDamaged: Something else has changed this writer's ledger.
            ValueError: After a failure, other entries came.
        """
        if not entries:
            return
        lines = encode_lines(entries, self._tail.number + 1, self._tail.hash)
        if self._pending is not None and lines != self._pending:
            raise ValueError("after a failure the same entries must be appended again first")
        self._pending = lines
        self._store.append_ledger(self.writer, self._tail.number + 1, lines[0])
        self._tail, self._pending = lines[1], None
        self._size += len(lines[0])


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
        self._claims: list[tuple[str, str, Tail]] = []
        self._hashes: dict[str, bytes] = {}
        self._blocks: dict[str, BlockStored] = {}
        self._ranges: dict[_Shard, list[tuple[Range, str]]] = {}
        self._unsorted: set[_Shard] = set()
        self._sessions: dict[_Shard, list[SessionStarted]] = {}
        self._ends: dict[_Shard, ShardEnded] = {}

    @classmethod
    def load(cls, store: BlockStore) -> LedgerIndex:
        """Return the index of a store's whole ledger, and of the blocks that are in no ledger. Nothing is written.

        What it costs grows with the age of the store; a generator starts from `take_over` instead.

        Raises:
            LedgerDamaged: An entry is missing or altered.
            StoreUnavailable: The store cannot be read now.
        """
        index = cls()
        for writer, content in store.read_ledger():
            if (fault := index.add_ledger(decode_ledger(writer, content))) is not None:
                raise fault
        for day in store.maintenance_days():
            changes = load_day(store, day)
            for fault in changes.faults:
                raise fault
            index.add_maintenance(changes)
        for fault in index.lost_tails():
            raise fault
        index.adopt(store)
        return index

    def add_ledger(self, ledger: WriterLedger) -> LedgerDamaged | None:
        """Take in the good lines of one writer's ledger; return what is wrong with the next one, if anything is."""
        self.writers[ledger.writer] = ledger.tail
        self._hashes[ledger.writer] = ledger.hashes
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

    def lost_tails(self) -> list[LedgerDamaged]:
        """Return what later writers saw of others and what is not there any more. Asked once, when all is taken in."""
        faults = [
            lost_tail(witness, writer, seen)
            for witness, writer, seen in self._claims
            if not has_line(self._hashes.get(writer, b""), seen)
            and not is_acknowledged(self.acknowledged, writer, seen.number)
        ]
        self._hashes.clear()  # they were kept for this alone
        return faults

    def adopt(self, store: BlockStore) -> None:
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
        if isinstance(entry, WriterStarted):
            self._claims.extend((entry.writer, writer, tail) for writer, tail in entry.tails.items())
        elif isinstance(entry, SessionStarted):
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

    def unnamed_tails(self) -> dict[str, Tail]:
        """Return the last line of each writer of which no other has named that line yet."""
        named: dict[str, int] = {}
        for _, writer, tail in self._claims:
            named[writer] = max(named.get(writer, 0), tail.number)
        return {writer: tail for writer, tail in self.writers.items() if tail.number > named.get(writer, 0)}

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


def writers_since(store: BlockStore, writers: Sequence[str], since: int) -> list[str]:
    """Return those of some writers in whose ledgers something can be that arrived at a time or later, in order.

    A ledger's first lines note the newest arrival in the ledgers before it. The time in its id, which is its host's,
    does not count: the host may have stood still.

    Args:
        store: The store.
        writers: All its writers, in order.
        since: Milliseconds since the epoch, less what is to be spared for clocks that differ.

    Raises:
        StoreUnavailable: The store cannot be read now.
    """
    out: list[str] = []
    for writer in reversed(writers):
        out.append(writer)
        with suppress(LedgerDamaged):  # then it notes nothing
            entries = iter_entries(writer, store.ledger(writer) or b"")
            newest_before = next((one.newest for one in entries if isinstance(one, Carried)), -1)
            if 0 <= newest_before < since:
                break
    return out[::-1]


def has_line(hashes: bytes, seen: Tail) -> bool:
    """Return whether a ledger holds a line, by the hashes of its lines, `HASH_BYTES` each."""
    return hashes[(seen.number - 1) * HASH_BYTES : seen.number * HASH_BYTES].hex() == seen.hash


def lost_tail(witness: str, writer: str, seen: Tail) -> LedgerDamaged:
    """Return the error for a line that another writer saw and that is not there any more."""
    return LedgerDamaged(
        f"line {seen.number} of the ledger of writer {writer}, which {witness} saw, is not there",
        SEE_REPAIR,
    )


def rebuild_from_footers(
    store: BlockStore,
    blocks: Iterable[tuple[str, int]],
    known: Container[str] = frozenset(),
    unreadable: dict[str, str] | None = None,
) -> list[BlockStored]:
    """Return the ledger's entry of each of some blocks, made from its footer.

    Args:
        store: The store.
        blocks: Id and size in bytes of each.
        known: Ids of blocks to leave out.
        unreadable: Takes the id of each block whose footer is not one, with the reason.

    Raises:
        BlockDamaged: A footer is not one, and `unreadable` was not given.
        StoreUnavailable: The store cannot be read now.
    """
    entries = []
    for block, size in blocks:
        if block in known:
            continue
        try:
            footer = read_footer(store, block)
        except BlockMissing:
            continue  # taken away since it was listed
        except BlockDamaged as error:
            if unreadable is None:
                raise
            unreadable[block] = error.message
            continue
        entries.append(BlockStored(block, footer.stream, footer.ranges, footer.rows, size, time=0))
    return entries
