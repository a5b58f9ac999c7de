"""What the ledger holds of one shard past a position, page by page in the order of the stream.

For a lease that was set back to before its last checkpoint: what a session needs then is forgotten in memory, and can
be months of ranges. The rule: memory holds two pages, one ledger, and two positions for each ledger that names the
shard. The first page reads all ledgers of the stream's retention; a later one only those that reach into it. Which ones
those are the ledgers say themselves, by the newest arrival before them: their ids have the time of a host, which may be
wrong.

No lock is needed: all that is recorded of the shard before its session began is durable, and ledgers only grow.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kcl_receiver.generator.presence import present_ranges
from kcl_receiver.ranges import After, Position, Range, StreamIdentity
from kcl_receiver.store.ledger.entries import BlockStored, Carried, WriterStarted
from kcl_receiver.store.ledger.reading import Ledger
from kcl_receiver.store.store import Store

PAGE = 5_000
"""Ranges; about 7 MB."""

_Key = tuple[Position, Position, str]
"""The order of pages: first and last position, and the block, so that what is recorded twice is no special case."""


class _Bounds(NamedTuple):
    """Where the shard begins and ends in a ledger."""

    first: _Key
    last: _Key


class HeldPage(NamedTuple):
    """The ranges of a page that are in the store now.

    Attributes:
        held: The ranges, sorted by first and last position.
        known_to: What begins at this position or later may be on a later page; None if this is the last one.
    """

    held: tuple[Range, ...]
    known_to: Position | None


class LookBack:
    """See the module. `next_page` is called by one thread at a time, and again after it failed.

    Args:
        store: The store; it is only read.
        stream: The stream.
        shard: Shard id.
        after: The session begins after this.
        oldest: The stream holds no record any more that arrived before this; milliseconds since the epoch.
        page: Ranges of a page.

    Attributes:
        arrival: Latest last arrival time of the ranges that hold `after`, milliseconds; None if none does. Known with
            the first page.
    """

    def __init__(
        self, store: Store, stream: StreamIdentity, shard: str, after: After, oldest: int, page: int = PAGE
    ) -> None:
        self.arrival: int | None = None
        self._store = store
        self._ledger = Ledger(store)
        self._stream = stream
        self._shard = shard
        self._after = after
        self._page = page
        self._passed: _Key | None = None
        self._oldest = oldest
        self._unread = self._ledger.writers[::-1]
        self._bounds: dict[str, _Bounds] = {}

    def next_page(self) -> HeldPage:
        """Return the next page. A damaged ledger makes it fail, since it could hold what is asked for.

        Raises:
            LedgerDamaged: An entry is missing or altered.
            StoreUnavailable: The store cannot be read now.
        """
        found: list[tuple[_Key, Range]] = []
        for writer, bounds in self._in_order():
            if bounds is not None and len(found) > self._page and bounds.first > found[-1][0]:
                break  # this one and all that follow begin past the page
            if bounds is None or self._passed is None or bounds.last > self._passed:
                found += self._past(writer)
                found = sorted(found, key=lambda one: one[0])[: self._page + 1]
        here, rest = found[: self._page], found[self._page :]
        by_block: dict[str, list[Range]] = {}
        for (_, _, block), one in here:
            by_block.setdefault(block, []).append(one)
        page = HeldPage(tuple(present_ranges(self._store, by_block)), rest[0][1].first if rest else None)
        self._passed = here[-1][0] if here else self._passed
        return page

    def _in_order(self) -> Iterator[tuple[str, _Bounds | None]]:
        """Yield the ledgers to look into by where the shard begins in them; first those of which that is not known."""
        known = sorted(self._bounds.items(), key=lambda one: one[1].first)
        while self._unread:
            yield self._unread[0], None
        yield from known

    def _past(self, writer: str) -> list[tuple[_Key, Range]]:
        """Return the ranges of the shard in a ledger that are past what was passed."""
        found: list[tuple[_Key, Range]] = []
        arrival, newest_before, oldest_beside = self.arrival, -1, ""
        for entry in self._ledger.of(writer):
            if isinstance(entry, WriterStarted):
                oldest_beside = entry.oldest_beside
            if isinstance(entry, Carried) and entry.stream == self._stream:
                newest_before = entry.newest
            if not isinstance(entry, BlockStored) or entry.stream != self._stream:
                continue
            for one in entry.ranges:
                if one.shard != self._shard:
                    continue
                if isinstance(self._after, Position):
                    if one.first <= self._after <= one.last:
                        arrival = max(one.arrival_last, -1 if arrival is None else arrival)
                    if one.last <= self._after:
                        continue
                found.append(((one.first, one.last, entry.block), one))
        self.arrival = arrival
        if self._unread and writer == self._unread[0]:
            ended = 0 <= newest_before < self._oldest
            self._unread = [one for one in self._unread[1:] if not ended or one >= oldest_beside]
            if found:
                self._bounds[writer] = _Bounds(min(key for key, _ in found), max(key for key, _ in found))
        return [one for one in found if self._passed is None or one[0] > self._passed]
