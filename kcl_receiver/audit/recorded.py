"""The ranges that a ledger records, by shard and in the order of the stream, whatever their number.

Ledgers are in the order in which blocks were stored: all shards mixed, and within a shard nearly sorted. So `RUN`
ranges at a time give one sorted run for each shard, written to one temporary file, and the runs of a shard are merged
while they are read. Memory holds one ledger, the ranges of a run, and one piece of each run.
"""

from __future__ import annotations

import heapq
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple

from kcl_receiver.audit.stream_audit import Known
from kcl_receiver.errors import BlockDamaged, BlockMissing
from kcl_receiver.ranges import Position, StreamIdentity
from kcl_receiver.store.ledger.entries import BlockStored, Entry, SessionStarted
from kcl_receiver.store.ledger.reading import Ledger
from kcl_receiver.store.store import Store

ShardKey = tuple[StreamIdentity, str]

RUN = 50_000
"""Ranges in memory at most, before they are written; some 20 MB."""
PIECE = 64
"""Ranges of a run that are read at once."""
DAY_MS = 86_400_000
SPARE_MS = 2 * DAY_MS
"""A ledger is left out if the next one began so long before the time that is asked for: clocks differ."""

_NARROW, _WIDE = 24, 56
"""Bytes of a sequence number: 56 digits, which is what Kinesis gives, fit into 24; 129 digits into 56."""
_SHORT = 8


class _Run(NamedTuple):
    offset: int
    rows: int
    width: int


class RecordedRanges:
    """All ranges of a store, in a temporary file that goes when this is closed.

    Attributes:
        first_sessions: Of each shard, the first session that is known.
        waiting: Ranges in memory.
    """

    def __init__(self) -> None:
        self.first_sessions: dict[ShardKey, SessionStarted] = {}
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._size = 0
        self._runs: dict[ShardKey, list[_Run]] = defaultdict(list)
        self._rows: dict[ShardKey, list[Known]] = defaultdict(list)
        self.waiting = 0

    def __enter__(self) -> RecordedRanges:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the file."""
        self._file.close()

    def add(self, entry: Entry) -> None:
        """Take an entry of the ledger."""
        if isinstance(entry, BlockStored):
            for one in entry.ranges:
                self._rows[entry.stream, one.shard].append(Known(one.first, one.last, one.count))
            self.waiting += len(entry.ranges)
            if self.waiting >= RUN:
                self.flush()
        elif isinstance(entry, SessionStarted):
            key = (entry.stream, entry.shard)
            known = self.first_sessions.get(key)
            if known is None or entry.time < known.time:
                self.first_sessions[key] = entry

    def flush(self) -> None:
        """Write what is in memory as one run for each shard."""
        for key, rows in self._rows.items():
            rows.sort()
            widest = max(max(row.last.sequence_number, row.first.sequence_number) for row in rows)
            width = _NARROW if widest < 256**_NARROW else _WIDE
            content = b"".join(_encode(row, width) for row in rows)
            self._file.write(content)
            self._runs[key].append(_Run(self._size, len(rows), width))
            self._size += len(content)
        self._file.flush()
        self._rows.clear()
        self.waiting = 0

    def shards(self) -> list[ShardKey]:
        """Return the shards of which there is a range or a session."""
        return sorted({*self._runs, *self._rows, *self.first_sessions})

    def ranges(self, stream: StreamIdentity, shard: str) -> Iterator[Known]:
        """Yield the ranges of a shard, ordered by their first position; the same one only once.

        Several threads may each read one shard.
        """
        last: Known | None = None
        for row in heapq.merge(*map(self._read, self._runs.get((stream, shard), ()))):
            if row != last:
                yield row
            last = row

    def _read(self, run: _Run) -> Iterator[Known]:
        length = _length(run.width)
        for row in range(0, run.rows, PIECE):
            count = min(PIECE, run.rows - row)
            content = os.pread(self._file.fileno(), count * length, run.offset + row * length)
            for at in range(count):
                yield _decode(content[at * length : (at + 1) * length], run.width)


def record(store: Store, since: int = 0, orphans: Iterable[str] = ()) -> RecordedRanges:
    """Return the ranges that a store's ledgers record; what a damaged ledger says before the damage counts.

    Args:
        store: The store; it is only read.
        since: Ledgers may be left out that say nothing of records which arrived then or later, in milliseconds.
        orphans: Blocks that are in no ledger: their footers count as well.

    Raises:
        StoreUnavailable: It cannot be read now.
    """
    out = RecordedRanges()
    # verify says what is damaged, and blocks that no good line names come as orphans
    ledger = Ledger(store, {})
    try:
        for entry in ledger.entries(since=since - SPARE_MS):
            out.add(entry)
        for block in orphans:
            with suppress(BlockMissing, BlockDamaged):  # what cannot be read is not stored
                out.add(ledger.from_footer(block))
        out.flush()
    except BaseException:
        out.close()
        raise
    return out


def _length(width: int) -> int:
    return 2 * (width + _SHORT) + _SHORT


def _encode(row: Known, width: int) -> bytes:
    return b"".join(
        (
            row.first.sequence_number.to_bytes(width, "big"),
            row.first.sub_sequence_number.to_bytes(_SHORT, "big"),
            row.last.sequence_number.to_bytes(width, "big"),
            row.last.sub_sequence_number.to_bytes(_SHORT, "big"),
            row.records.to_bytes(_SHORT, "big"),
        )
    )


def _decode(raw: bytes, width: int) -> Known:
    second = width + _SHORT
    return Known(
        Position(int.from_bytes(raw[:width], "big"), int.from_bytes(raw[width:second], "big")),
        Position(
            int.from_bytes(raw[second : second + width], "big"),
            int.from_bytes(raw[second + width : 2 * second], "big"),
        ),
        int.from_bytes(raw[2 * second :], "big"),
    )
