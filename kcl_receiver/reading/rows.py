"""Cuts rows out of those of a range: by position, by time, and into pieces of bounded size."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from kcl_receiver.proof.coverage import Cut, Span, span_of
from kcl_receiver.ranges import Position, Range
from kcl_receiver.schema import ARRIVAL, NAMES, POSITION_NAMES


class Times(NamedTuple):
    """Arrival times that were asked for: from `since` on, before `until`; milliseconds since the epoch, or None."""

    since: int | None = None
    until: int | None = None

    def leaves_out(self, one: Range) -> bool:
        """Return whether no record of a range is one that was asked for; one of unknown arrival never is."""
        if self.since is None and self.until is None:
            return False
        oldest, newest, _ = one.arrivals
        return (self.since is not None and newest < self.since) or (self.until is not None and oldest >= self.until)

    def takes_all(self, one: Range) -> bool:
        """Return whether all records of a range are such as were asked for."""
        if self.since is None and self.until is None:
            return True
        oldest, newest, unknown = one.arrivals
        return (
            not unknown and (self.since is None or oldest >= self.since) and (self.until is None or newest < self.until)
        )

    def select(self, table: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows that arrived in time; those of which it is not known are left out."""
        arrived = table.column(ARRIVAL.name).cast(pa.int64())
        keep = pc.is_valid(arrived)
        if self.since is not None:
            keep = pc.and_(keep, pc.greater_equal(arrived, 1000 * self.since))
        if self.until is not None:
            keep = pc.and_(keep, pc.less(arrived, 1000 * self.until))
        return table.filter(keep)


def is_whole(one: Range, span: Span) -> bool:
    """Return whether all records of a range lie in a span."""
    whole = span_of(one)
    return span.low <= whole.low and whole.high <= span.high


def trim(table: pa.RecordBatch, span: Span) -> pa.RecordBatch:
    """Return the rows that lie in a span; they are sorted by position."""
    begin = bisect_left(range(table.num_rows), span.low, key=lambda row: Cut(position_at(table, row), 0))
    end = bisect_left(range(table.num_rows), span.high, key=lambda row: Cut(position_at(table, row), 0))
    return table.slice(begin, end - begin)


def position_at(table: pa.RecordBatch, row: int) -> Position:
    """Return the position of a row of a table that has the two columns of it."""
    sequence, sub = (table.column(name)[row].as_py() for name in POSITION_NAMES)
    return Position(int(sequence), sub)


def pieces(table: pa.RecordBatch, most_rows: int, most_bytes: int) -> Iterator[pa.RecordBatch]:
    """Yield a table in pieces of at most so many rows and bytes; a single row is never cut."""
    for begin in range(0, table.num_rows, most_rows):
        yield from _halves(table.slice(begin, most_rows), most_bytes)


def _halves(table: pa.RecordBatch, most_bytes: int) -> Iterator[pa.RecordBatch]:
    if table.num_rows < 2 or table.nbytes <= most_bytes:
        yield table
    else:
        half = table.num_rows // 2
        yield from _halves(table.slice(0, half), most_bytes)
        yield from _halves(table.slice(half), most_bytes)


def columns_to_read(columns: tuple[str, ...], *, positions: bool, arrivals: bool) -> tuple[str, ...]:
    """Return the columns to read for those that were asked for, in the order of a block."""
    wanted = {*columns, *(POSITION_NAMES if positions else ()), *((ARRIVAL.name,) if arrivals else ())}
    return tuple(name for name in NAMES if name in wanted)
