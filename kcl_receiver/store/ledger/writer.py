"""A ledger: written by one writer, and rebuilt from the blocks' footers where it is lost.

The ledger is the only ground on which a record is not stored again, and on which a lost block is known. So an entry is
durable before anyone is told of it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from contextlib import suppress

from kcl_receiver.errors import SEE_REPAIR, BlockDamaged, BlockMissing, LedgerDamaged, WriterFenced
from kcl_receiver.ids import check_writer_id
from kcl_receiver.store.blocks.file import read_footer
from kcl_receiver.store.ledger.entries import (
    BlockStored,
    Carried,
    Closed,
    Entry,
    Tail,
    WriterStarted,
    decode_ledger,
    encode_lines,
    first_prev,
    iter_entries,
)
from kcl_receiver.store.store import Store


class LedgerWriter:
    """Appends entries to one writer's ledger.

    Args:
        store: The store.
        writer: Id of the writer, which nobody else uses.
        tail: The last line of one that has ended, to go on behind it.
    """

    def __init__(self, store: Store, writer: str, tail: Tail | None = None) -> None:
        self.writer = check_writer_id(writer)
        self._store = store
        self._tail = Tail(0, first_prev(writer)) if tail is None else tail
        self._pending: tuple[bytes, Tail] | None = None
        self._size = 0
        self._appends = 0

    @property
    def appends(self) -> int:
        """How many appends were made."""
        return self._appends

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
            WriterFenced: Another writer has closed this ledger.
            LedgerDamaged: Something else has changed this writer's ledger.
            ValueError: After a failure, other entries came.
        """
        if not entries:
            return
        lines = encode_lines(entries, self._tail.number + 1, self._tail.hash)
        if self._pending is not None and lines != self._pending:
            raise ValueError("after a failure the same entries must be appended again first")
        self._pending = lines
        try:
            self._store.append_ledger(self.writer, self._tail.number + 1, lines[0])
        except LedgerDamaged:
            found = decode_ledger(self.writer, self._store.ledger(self.writer) or b"")
            last = found.entries[-1] if found.entries else None
            if found.fault is not None or not isinstance(last, Closed):
                raise
            raise fenced(
                f"the ledger of writer {self.writer} was closed by {last.by}, which took it for dead"
            ) from None
        self._tail, self._pending = lines[1], None
        self._size += len(lines[0])
        self._appends += 1


def fenced(message: str) -> WriterFenced:
    """Return the error of a writer that others have ended."""
    hint = "nothing is lost: what was not reported stored is read again. Was this host cut off for long?"
    return WriterFenced(message, hint)


def writers_since(store: Store, writers: Sequence[str], since: int) -> list[str]:
    """Return those of some writers in whose ledgers something can be that arrived at a time or later, in order.

    A ledger's first lines note the newest arrival in those that were closed before it; others may have grown since. The
    time in its id, which is its host's, does not count: the host may have stood still.

    Args:
        store: The store.
        writers: All its writers, in order.
        since: Milliseconds since the epoch, less what is to be spared for clocks that differ.

    Raises:
        StoreUnavailable: The store cannot be read now.
    """
    for writer in reversed(writers):
        with suppress(LedgerDamaged):  # then it notes nothing
            content = store.ledger(writer) or b""
            entries = iter_entries(writer, content)
            newest_before = next((one.newest for one in entries if isinstance(one, Carried)), -1)
            if 0 <= newest_before < since and (first := oldest_beside(writer, content)):
                return [one for one in writers if one >= first]
    return [*writers]


def oldest_beside(writer: str, content: bytes) -> str:
    """Return the first writer whose ledger may have grown since a generator's began; empty if that is not known.

    Args:
        writer: Its id.
        content: Its ledger.
    """
    with suppress(LedgerDamaged):
        first = next(iter_entries(writer, content), None)
        if isinstance(first, WriterStarted):
            return first.oldest_beside
    return ""


def unclosed(store: Store, writer: str, lines: int, *, is_living: bool) -> LedgerDamaged | None:
    """Return what is wrong with a ledger whose last line does not close it; None if it is still being written.

    Args:
        store: The store.
        writer: Id of its writer.
        lines: Number of the lines that are there.
        is_living: The store's log calls the writer living. Its ledger was there before its first block.

    Raises:
        StoreUnavailable: The store cannot be read now.
    """
    if not is_living:
        left = f"its end is not there: {lines:,} lines are left" if lines else "nothing of it is there"
        return LedgerDamaged(f"the ledger of writer {writer} was closed, and {left}", SEE_REPAIR)
    if lines or next(iter(store.blocks_of(writer)), None) is None or store.ledger(writer) is not None:
        return None
    return LedgerDamaged(f"the ledger of writer {writer} is not there, and its blocks are", SEE_REPAIR)


def unseen(writer: str, line: int, witness: str) -> LedgerDamaged:
    """Return what is wrong with a ledger in which a line is not there that another writer saw."""
    return LedgerDamaged(f"line {line} of the ledger of writer {writer}, which {witness} saw, is not there", SEE_REPAIR)


def rebuild_from_footers(
    store: Store,
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
            entries.append(entry_of_footer(store, block, size))
        except BlockMissing:
            continue  # taken away since it was listed
        except BlockDamaged as error:
            if unreadable is None:
                raise
            unreadable[block] = error.message
    return entries


def entry_of_footer(store: Store, block: str, size: int) -> BlockStored:
    """Return the ledger's entry of a block, made from its footer.

    Args:
        store: The store.
        block: Its id.
        size: Its size in bytes.

    Raises:
        BlockMissing: It is not there.
        BlockDamaged: Its footer is none.
        StoreUnavailable: It cannot be read now.
    """
    footer = read_footer(store, block)
    return BlockStored(block, footer.stream, footer.ranges, footer.rows, size, time=0)
