"""What the ledgers of a store say. Every walk through them that is not a generator's start is here.

A block is recorded in its writer's ledger, or by `repair`; what maintenance did to it is in the ledgers of its day.
The rule: one ledger is in memory at a time, however many there are, and what comes before damage in it counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from kcl_receiver.errors import LedgerDamaged, StoreUnavailable
from kcl_receiver.ids import block_day, day_of, writer_of
from kcl_receiver.ranges import StreamIdentity
from kcl_receiver.store.blocks.file import read_footer
from kcl_receiver.store.ledger.entries import (
    Acknowledged,
    BlockStored,
    Carried,
    Closed,
    Entry,
    Expired,
    Following,
    MarksTaken,
    SessionStarted,
    ShardEnded,
    StoreState,
    Tail,
    Voided,
    WriterStarted,
    decode_entry,
    decode_stream,
    iter_entries,
)
from kcl_receiver.store.ledger.place import Passed
from kcl_receiver.store.ledger.transaction import DayChanges, load_day, load_to_change
from kcl_receiver.store.ledger.writer import entry_of_footer, oldest_beside, rebuild_from_footers, writers_since
from kcl_receiver.store.store import Store

__all__ = [
    "Acknowledged",
    "BlockStored",
    "Carried",
    "Closed",
    "DayChanges",
    "Entry",
    "Expired",
    "Following",
    "Ledger",
    "MarksTaken",
    "SessionStarted",
    "ShardEnded",
    "StoreState",
    "Tail",
    "Voided",
    "WriterStarted",
]

_MARKS = "marks"


class Recording(NamedTuple):
    """Where an entry is recorded.

    Attributes:
        writer: Whose ledger that is.
        line: Its line there, if that is a generator's.
        maintenance: The number of the entry in the maintenance log else; 0 in a generator's.
    """

    writer: str
    line: int
    maintenance: int

    def is_passed(self, by: Passed) -> bool:
        """Return whether a follower has taken it in."""
        return by.maintenance >= self.maintenance if self.maintenance else by.has_line(self.writer, self.line)


class Ledger:
    """The ledgers of a store; see the module. Any method may raise `StoreUnavailable`.

    Args:
        store: The store; it is only read.
        faults: Takes what is wrong with a ledger, by the id of its writer, after what comes before that was yielded;
            if not given, it is raised.

    Attributes:
        store: The store.
        faults: See above; empty if faults are raised.
    """

    def __init__(self, store: Store, faults: dict[str, str] | None = None) -> None:
        self.store = store
        self.faults = {} if faults is None else faults
        self._raises = faults is None
        self._writers: list[str] | None = None

    @property
    def writers(self) -> list[str]:
        """Ids of the writers that had a ledger when this was first asked for, in order; maintenance has its own."""
        # No cached_property: until Python 3.12 the listing of one store would keep those of all others waiting.
        if self._writers is None:
            self._writers = self.store.writers()
        return self._writers

    def of(self, writer: str) -> Iterator[Entry]:
        """Yield the entries of a writer's ledger; a torn last line, or a ledger that is not there, is none.

        Raises:
            LedgerDamaged: A line is not as it was written.
        """
        return self._good(writer, self.store.ledger(writer) or b"")

    def maintenance_of(self, day: str) -> Iterator[Entry]:
        """Yield the entries of all maintenance ledgers about the blocks of a day.

        Raises:
            LedgerDamaged: A line is not as it was written.
        """
        for writer, content in self.store.maintenance_ledgers(day):
            yield from self._good(writer, content)

    def _good(self, writer: str, content: bytes) -> Iterator[Entry]:
        try:
            yield from iter_entries(writer, content)
        except LedgerDamaged as fault:
            if self._raises:
                raise
            self.faults[writer] = fault.message

    def entries(self, *, since: int | None = None, newest_first: bool = False) -> Iterator[Entry]:
        """Yield the entries of all ledgers, those of maintenance last. A block may come several times.

        Args:
            since: Leave out ledgers in which nothing can be that arrived then or later, milliseconds since the epoch;
                see `writers_since`.
            newest_first: The newest ledger comes first.

        Raises:
            LedgerDamaged: A line is not as it was written.
        """
        writers = self.writers if since is None else writers_since(self.store, self.writers, since)
        for writer in reversed(writers) if newest_first else writers:
            yield from self.of(writer)
        first = day_of(writers[0]) if writers else ""
        days = [day for day in self.store.maintenance_days() if day >= first or since is None]
        for day in reversed(days) if newest_first else days:
            yield from self.maintenance_of(day)

    def changes(self, day: str, *, ranges: bool = True) -> DayChanges:
        """Return what maintenance did to the blocks of a day; see `load_day`."""
        return load_day(self.store, day, ranges=ranges)

    def to_change(self, day: str, *, ranges: bool = True) -> DayChanges:
        """Return the same for transactions; see `load_to_change`."""
        return load_to_change(self.store, day, ranges=ranges)

    # Blocks

    def find(self, block: str) -> BlockStored | None:
        """Return the entry of a block, or None if no ledger names it.

        Raises:
            LedgerDamaged: A line is not as it was written.
        """
        for entries in (self.of(writer_of(block)), self.maintenance_of(block_day(block))):
            for entry in entries:
                if isinstance(entry, BlockStored) and entry.block == block:
                    return entry
        return None

    def made(self, block: str) -> BlockStored:
        """Return the entry of a block that a maintenance ledger names, as `changes` said without damage.

        Raises:
            StoreUnavailable: That ledger is not there any more.
        """
        # Each line was held against the hash of the one before when the day was loaded.
        named = f'"block":"{block}"'.encode()
        for _, content in self.store.maintenance_ledgers(block_day(block)):
            at = content.find(named)
            while at >= 0:
                line = content[content.rfind(b"\n", 0, at) + 1 : content.find(b"\n", at)]
                entry = decode_entry(line)
                if isinstance(entry, BlockStored) and entry.block == block:
                    return entry
                at = content.find(named, at + 1)
        raise StoreUnavailable(f"the maintenance ledger that names block {block} is not there any more", "read again")

    def find_all(self, blocks: Collection[str], changes: DayChanges) -> Iterator[BlockStored]:
        """Yield the entry of each of some blocks of one day, as far as there is one, in no order.

        Args:
            blocks: Their ids.
            changes: What maintenance did to the blocks of that day.

        Raises:
            LedgerDamaged: A line is not as it was written.
        """
        left = set(blocks)
        made = self.maintenance_of(changes.day) if not left.isdisjoint(changes.blocks) else ()
        for entries in (made, *map(self.of, sorted({writer_of(block) for block in left}))):
            for entry in entries:
                if isinstance(entry, BlockStored) and entry.block in left:
                    left.discard(entry.block)
                    yield entry

    def of_day(self, day: str) -> Iterator[Entry]:
        """Yield all entries of the ledgers of one day, those of maintenance first; a block can come twice.

        Raises:
            LedgerDamaged: A line is not as it was written.
        """
        for entry, _ in self.of_day_placed(day):
            yield entry

    def of_day_placed(self, day: str) -> Iterator[tuple[Entry, Recording]]:
        """Yield the same, each with where it is recorded.

        Raises:
            LedgerDamaged: A line is not as it was written.
        """
        for number, writer, content in self.store.maintenance_entries(day):
            for entry in self._good(writer, content):
                yield entry, Recording(writer, 0, number)
        for writer in self.writers:
            if day_of(writer) == day:
                for line, entry in enumerate(self.of(writer), 1):
                    yield entry, Recording(writer, line, 0)

    def has_ledger(self, writer: str, changes: DayChanges) -> bool:
        """Return whether a writer has a ledger at all. A generator has one before its first block."""
        return writer in self.writers or writer in changes.writers or self.store.ledger(writer) is not None

    def from_footer(self, block: str, size: int = 0) -> BlockStored:
        """Return the entry of a block, made from its footer.

        Raises:
            BlockMissing: It is not there.
            BlockDamaged: Its footer is none.
        """
        return entry_of_footer(self.store, block, size)

    def from_footers(
        self, blocks: Iterable[tuple[str, int]], unreadable: dict[str, str] | None = None
    ) -> list[BlockStored]:
        """Return the entry of each of some blocks, made from its footer; see `rebuild_from_footers`."""
        return rebuild_from_footers(self.store, blocks, unreadable=unreadable)

    # Sessions and streams

    def sessions(self) -> dict[tuple[StreamIdentity, str], list[SessionStarted]]:
        """Return the sessions of each shard in the order of time, without decoding what else the ledgers say.

        Lines that are damaged are left out.
        """
        found: dict[tuple[StreamIdentity, str], list[SessionStarted]] = defaultdict(list)
        for writer in self.writers:
            for line in (self.store.ledger(writer) or b"").split(b"\n"):
                if b'"type":"session"' not in line[:80]:
                    continue
                try:
                    one = decode_entry(line)
                except ValueError:
                    continue
                if isinstance(one, SessionStarted):
                    found[one.stream, one.shard].append(one)
        for each in found.values():
            each.sort(key=lambda one: one.time)
        return dict(found)

    def newest_stream(self) -> StreamIdentity | None:
        """Return the stream that was stored last, or None: the newest of the last ledgers that name any.

        Raises:
            LedgerDamaged: A ledger is damaged.
        """
        newest: set[StreamIdentity] = set()
        first: str | None = None
        for writer in reversed(self.writers):
            content = self.store.ledger(writer) or b""
            found = _streams_of(content)
            if found is None:  # a line of another form: whether it is damaged is told the long way
                named = (SessionStarted, ShardEnded, BlockStored, Carried)
                found = {entry.stream for entry in self._good(writer, content) if isinstance(entry, named)}
            newest |= found
            if newest and first is None:
                first = oldest_beside(writer, content)
            if first is not None and writer <= first:
                break
        if newest:
            return max(newest, key=lambda one: one.created)
        last = None
        for last, _ in self.store.list_blocks():  # noqa: B007 - no ledger: the last block says it
            pass
        return None if last is None else read_footer(self.store, last).stream


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
        if known.stream is not None and known.type != _MARKS:
            found.add(StreamIdentity(known.stream.arn, known.stream.created))
        start = end + 1
    return found
