"""What the generator's state machine asks for and what takes time: storing, the ledger, questions to AWS.

Everything here blocks and runs in threads. Two rules: a block's ledger entry is appended only after the block is
durable (the state machine sees to the order), and a call that failed is repeated with the very same bytes, because
nobody knows whether it took effect.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Mapping

from kcl_receiver import __version__
from kcl_receiver.errors import StoreUnavailable
from kcl_receiver.generator.effects import (
    Append,
    BlockRecord,
    ConfirmShardEnd,
    LedgerRecord,
    LookUp,
    SessionRecord,
    ShardFacts,
    WriteBlock,
    WrittenBlock,
)
from kcl_receiver.generator.recent import RecentRanges
from kcl_receiver.generator.stream import StreamView, confirm_shard_end, shard_facts
from kcl_receiver.ranges import Position, StreamIdentity
from kcl_receiver.store.base import BlockStore
from kcl_receiver.store.ledger import (
    BlockStored,
    Entry,
    LedgerIndex,
    LedgerWriter,
    SessionStarted,
    ShardEnded,
    block_id,
    first_entries,
)
from kcl_receiver.store.parquet import BlockRange, EncodedBlock, encode_block


def wall_millis() -> int:
    """Return the wall clock in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class Workers:
    """The generator's hands: one method for each effect that takes time. `prepare` comes first.

    `write_block` and `look_up` may run in several threads at once, `append` in one.

    Args:
        store: Where blocks and ledger go.
        view: The stream.
        application: Owner of the store.
        writer: This generator's writer id.
        compression: See `encode_block`.
        store_again: Store again what the ledger says is stored.
    """

    def __init__(
        self,
        store: BlockStore,
        view: StreamView,
        application: str,
        writer: str,
        compression: str,
        *,
        store_again: bool,
    ) -> None:
        self._store = store
        self._view = view
        self._application = application
        self._writer_id = writer
        self._compression = compression
        self._store_again = store_again
        self._lock = threading.Lock()
        self._recent = RecentRanges()
        self._ledger = LedgerWriter(store, writer)
        self._first: list[Entry] = []
        self._appending: tuple[tuple[LedgerRecord, ...], list[Entry]] | None = None
        self._encoded: dict[int, EncodedBlock] = {}
        self.stream: StreamIdentity | None = None

    def prepare(self) -> StreamIdentity:
        """Claim the store, load the ledger, find the stream. Repeatable after an error that mends.

        Raises:
            StoreError: The store or its ledger can't be used.
            StreamError: The stream can't be read.
        """
        self._store.claim(self._application)
        self._store.hold()
        index = None if self._first else LedgerIndex.load(self._store)
        self.stream = self._view.describe(self.stream)
        if index is not None:
            self._recent = _ranges_of(index, self.stream)
            self._first = list(
                first_entries(
                    index,
                    self._writer_id,
                    host=socket.gethostname(),
                    pid=os.getpid(),
                    time=wall_millis(),
                    version=__version__,
                )
            )
        self._ledger.append(self._first)
        return self.stream

    def _identity(self) -> StreamIdentity:
        if self.stream is None:
            raise StoreUnavailable("the generator is not ready yet")
        return self.stream

    def look_up(self, effect: LookUp) -> ShardFacts:
        """Ask stream and ledger about a session's shard.

        Raises:
            StreamError: The stream is gone or another one, or AWS does not tell.
            StoreUnavailable: The store does not tell which blocks are there.
        """
        stream = self._identity()
        with self._lock:
            recent = self._recent
            if not recent.reaches(effect.shard, effect.after):
                # The lease was reset to before the last checkpoint: what was forgotten is in the ledger.
                recent = _ranges_of(LedgerIndex.load(self._store, settle=False), stream)
            held = [] if self._store_again else recent.held(effect.shard, effect.after, self._store.has_block)
            arrival = recent.arrival_of(effect.shard, effect.after) if isinstance(effect.after, Position) else None
        return shard_facts(self._view, arrival, tuple(held), stream, effect.shard, effect.after, wall_millis())

    @property
    def ranges_in_memory(self) -> int:
        """Number of ranges kept for the start of sessions."""
        return len(self._recent)

    def confirm_shard_end(self, effect: ConfirmShardEnd) -> None:
        """Return if the stream says that the shard is closed.

        Raises:
            StreamError: It does not.
        """
        confirm_shard_end(self._view, self._identity(), effect.shard)

    def write_block(self, effect: WriteBlock) -> WrittenBlock:
        """Encode a block, checking every range's checksum, and make it durable.

        Raises:
            BlockDamaged: The records are not those that the processor sent.
            StoreUnavailable: It was not stored, or nobody knows; to be repeated.
        """
        block = block_id(self._writer_id, effect.number)
        encoded = self._encoded.get(effect.number)
        if encoded is None:
            ranges = [BlockRange(part.range, part.columns) for part in effect.parts]
            encoded = encode_block(block, self._writer_id, self._identity(), ranges, self._compression)
            self._encoded[effect.number] = encoded
        self._store.put_block(block, encoded.payload)
        del self._encoded[effect.number]
        return WrittenBlock(block, encoded.ranges, encoded.rows, memoryview(encoded.payload).nbytes)

    def append(self, effect: Append, checkpoints: Mapping[str, Position]) -> None:
        """Make ledger entries durable, then known to `look_up`.

        Args:
            effect: The entries.
            checkpoints: The last checkpoint of each shard that KCL has taken: what ends before it is kept in memory no
                longer.

        Raises:
            StoreUnavailable: They were not stored, or nobody knows; the same effect is to be repeated.
        """
        if self._appending is None or self._appending[0] is not effect.records:
            # Made once: an entry holds the time, and what is repeated must be the same to the byte.
            self._appending = (effect.records, [self._entry(record) for record in effect.records])
        entries = self._appending[1]
        self._ledger.append(entries)
        with self._lock:
            for entry in entries:
                if isinstance(entry, BlockStored):
                    self._recent.add(entry.block, entry.ranges)
            for shard, checkpoint in checkpoints.items():
                self._recent.forget(shard, checkpoint)
        self._appending = None

    def _entry(self, record: LedgerRecord) -> Entry:
        stream = self._identity()
        now = wall_millis()
        if isinstance(record, BlockRecord):
            written = record.written
            return BlockStored(written.block, stream, written.ranges, written.rows, written.size, now)
        if isinstance(record, SessionRecord):
            facts = record.facts
            return SessionStarted(
                session=record.session,
                shard=record.shard,
                after=record.after,
                rank=record.rank,
                stream=stream,
                parents=facts.parents,
                hash_range=facts.hash_range,
                retention_hours=facts.retention_hours,
                time=now,
                possibly_trimmed=facts.possibly_trimmed,
            )
        return ShardEnded(record.session, record.shard, stream, record.last, now)


def _ranges_of(index: LedgerIndex, stream: StreamIdentity) -> RecentRanges:
    recent = RecentRanges()
    for entry in index.blocks().values():
        if entry.stream == stream:
            recent.add(entry.block, entry.ranges)
    return recent
