"""Where the ranges come from that a reading has taken in: their blocks, and the lines of the ledger that name them.

A source is a block from which ranges were taken in. It is kept until the last of them was handed out or passed, because
the line of the oldest one is where a reader that resumes has to begin. Of the ledger's entries only a few are kept; the
others are found again when they are needed, which is seldom: blocks finish nearly in order.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from kcl_receiver.ranges import Range, StreamIdentity
from kcl_receiver.reader.packing import Ref
from kcl_receiver.reader.plan import Place
from kcl_receiver.reader.read_blocks import Blocks
from kcl_receiver.store.base import BlockStore
from kcl_receiver.store.entries import BlockStored, Carried, SessionStarted, ShardEnded, decode_stream, iter_entries
from kcl_receiver.store.ledger import read_block_footer
from kcl_receiver.store.names import writer_of

ENTRIES_KEPT = 16
RANGES_KEPT = 20_000
MARKS = "marks"


@dataclass(slots=True)
class _Source:
    block: str
    place: Place
    needed: int = 1


class Sources:
    """See the module."""

    def __init__(self, store: BlockStore, blocks: Blocks) -> None:
        self._store = store
        self._blocks = blocks
        self._sources: OrderedDict[int, _Source] = OrderedDict()
        self._notes: dict[int, int] = {}
        self._entries: OrderedDict[str, BlockStored] = OrderedDict()
        self._kept = 0
        self._numbers = 0

    def __len__(self) -> int:
        return len(self._sources)

    def add(self, place: Place, entry: BlockStored, note: int = 0) -> int:
        """Take in a block, and return its number; it is needed once until `release`.

        Args:
            place: The line that names it.
            entry: Its entry.
            note: The number of the note of `repair` that led to it, if none of the lines from `oldest` on does.
        """
        self._numbers += 1
        self._sources[self._numbers] = _Source(entry.block, place)
        if note:
            self._notes[self._numbers] = note
        self._keep(entry)
        return self._numbers

    def need(self, number: int) -> None:
        """Count that it is needed once more."""
        self._sources[number].needed += 1

    def release(self, number: int) -> None:
        """Count that it is needed once less."""
        one = self._sources[number]
        one.needed -= 1
        if not one.needed:
            del self._sources[number]
            self._notes.pop(number, None)

    def oldest(self) -> Place | None:
        """Return the place of the first source that is still needed, or None; those that have a note do not count."""
        return next((one.place for number, one in self._sources.items() if number not in self._notes), None)

    def noted(self, all_of_them: int) -> int:
        """Return how many notes of `repair` led to nothing that is still needed, of those that were taken in."""
        return min((note - 1 for note in self._notes.values()), default=all_of_them)

    def block(self, number: int) -> str:
        """Return the id of a source's block."""
        return self._sources[number].block

    def entry(self, number: int) -> BlockStored:
        """Return the entry of a source's block."""
        block = self.block(number)
        if block not in self._entries:
            self._keep(self._find(block))
        return self._entries[block]

    def range(self, ref: Ref) -> Range:
        """Return a range that was taken in."""
        return self.entry(ref.source).ranges[ref.at]

    def _keep(self, entry: BlockStored) -> None:
        if entry.block not in self._entries:
            self._kept += len(entry.ranges)
        self._entries[entry.block] = entry
        while len(self._entries) > ENTRIES_KEPT or (len(self._entries) > 1 and self._kept > RANGES_KEPT):
            self._kept -= len(self._entries.popitem(last=False)[1].ranges)

    def _find(self, block: str) -> BlockStored:
        made = self._blocks.made(block)
        if made is not None:
            return made
        first = writer_of(block)
        for writer in self._store.writers():  # it is recorded by its own writer or by a later one
            if writer < first:
                continue
            for entry in iter_entries(writer, self._store.ledger(writer) or b""):
                if isinstance(entry, BlockStored) and entry.block == block:
                    return entry
        footer = read_block_footer(self._store, block)
        return BlockStored(block, footer.stream, footer.ranges, footer.rows, 0, 0)


def newest_stream(store: BlockStore) -> StreamIdentity | None:
    """Return the stream that was stored last, or None if there is none: the newest of the last ledger that names any.

    Raises:
        LedgerDamaged: A ledger is damaged.
        StoreUnavailable: The store cannot be read now.
    """
    for writer in reversed(store.writers()):
        content = store.ledger(writer) or b""
        found = _streams_of(content)
        if found is None:  # a line of another form: whether it is damaged is told the long way
            named = (SessionStarted, ShardEnded, BlockStored, Carried)
            found = {entry.stream for entry in iter_entries(writer, content) if isinstance(entry, named)}
        if found:
            return max(found, key=lambda one: one.created)
    last = None
    for last, _ in store.list_blocks():  # noqa: B007 - no ledger: the last block says it
        pass
    return None if last is None else read_block_footer(store, last).stream


def _streams_of(content: bytes) -> set[StreamIdentity] | None:
    """Return the streams that a ledger names, or None if one of its lines is not just as it should be.

    The lines are not held against their hashes: who reads the ledger does that.
    """
    found: set[StreamIdentity] = set()
    start = 0
    while (end := content.find(b"\n", start)) >= 0:
        known = decode_stream(content[start:end])
        if known is None:
            return None
        if known.stream is not None and known.type != MARKS:
            found.add(StreamIdentity(known.stream.arn, known.stream.created))
        start = end + 1
    return found
