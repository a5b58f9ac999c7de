"""Puts the rows of ranges together into batches of bounded size, and knows what each batch lets a token leave out.

A batch spans ranges, shards and blocks. The rule: a shard's position moves past a range, and the block of the range is
let go, only with the batch that holds the last of its rows. So whatever ends a reading, its token leaves out what was
handed out and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa

from kcl_receiver.proof.coverage import Span
from kcl_receiver.ranges import Position, Range
from kcl_receiver.reading import rows as read_rows
from kcl_receiver.reading.query import Query

MOST_RANGES = 65_536
"""The most ranges that wait with a batch, those of which nothing was asked for included."""
SOLID_BYTES = 2**20
"""Rows that come in a piece of this size go out as they are: copying them costs more than one more batch."""


class Item(NamedTuple):
    """A range that comes next.

    Attributes:
        source: Number of its block; see `Sources`.
        range: The range.
        through: The position through which its shard was read, once it was handed out.
        plain: All its records are handed out.
        span: The part of it that comes next; None if that is all of it.
        in_time: All its records arrived in the time that was asked for.
        left_out: Nothing of it was asked for.
    """

    source: int
    range: Range
    through: Position
    plain: bool = True
    span: Span | None = None
    in_time: bool = True
    left_out: bool = False


@dataclass(slots=True)
class Gathered:
    """What goes out together.

    Attributes:
        rows: The rows; None if there are none.
        shards: The shards that they are of, in the order in which these come.
        positions: By shard, the position through which it was read with them.
        sources: Numbers of the sources that are needed once less.
    """

    rows: pa.RecordBatch | None = None
    shards: tuple[str, ...] = ()
    positions: dict[str, Position] = field(default_factory=dict)
    sources: list[int] = field(default_factory=list)


class Batcher:
    """See the module.

    Args:
        query: What was asked for.
        times: Arrival times that were asked for.

    Attributes:
        rows: Number of rows that wait to go out.
        left: Number of rows that may still go out, or None.
    """

    def __init__(self, query: Query, times: read_rows.Times) -> None:
        self.rows = 0
        self.left = query.limit
        self._query = query
        self._times = times
        self._size = 0
        self._pieces: list[pa.RecordBatch] = []
        self._shards: dict[str, None] = {}
        self._next = Gathered()

    @property
    def most(self) -> int:
        """The most rows that a batch can have now."""
        return self._query.batch_rows if self.left is None else min(self._query.batch_rows, self.left)

    @property
    def is_crowded(self) -> bool:
        """Whether as many ranges wait as may."""
        return len(self._next.sources) >= MOST_RANGES

    def move(self, items: Sequence[Item]) -> None:
        """Take in that all of some ranges that was asked for is with what waits to go out."""
        self._next.positions.update([(item.range.shard, item.through) for item in items])
        self._next.sources += [item.source for item in items]

    def add(self, items: Sequence[Item], rows: pa.RecordBatch) -> Iterator[Gathered]:
        """Take in the rows of ranges that lie end to end, and yield what is full.

        Args:
            items: The ranges.
            rows: All their rows, with the columns that `rows.columns_to_read` names.
        """
        if not self._query.by_shard and all(item.plain for item in items):
            yield from self._put(items, rows)
            return
        begin = 0
        for group in self._groups(items):
            count = sum(item.range.count for item in group)
            piece = rows.slice(begin, count)
            begin += count
            if not group[0].plain:
                piece = self._asked_for(group[0], piece)
            yield from self._put(group, piece)
            if self.left == 0:
                return

    def flush(self) -> Gathered:
        """Return what waits, full or not."""
        ready, self._next = self._next, Gathered()
        if self.rows:
            ready.rows = pa.concat_batches(self._pieces) if len(self._pieces) > 1 else self._pieces[0]
            ready.shards = tuple(self._shards)
            if self.left is not None:
                self.left -= self.rows
        self._pieces, self._shards = [], {}
        self.rows = self._size = 0
        return ready

    def _groups(self, items: Sequence[Item]) -> Iterator[Sequence[Item]]:
        """Yield runs of ranges of which all is handed out, and each other range alone."""
        by_shard = self._query.by_shard
        begin = 0
        for at, item in enumerate(items):
            if at == begin:
                continue
            other_shard = by_shard and item.range.shard != items[begin].range.shard
            if other_shard or not item.plain or not items[begin].plain:
                yield items[begin:at]
                begin = at
        yield items[begin:]

    def _asked_for(self, item: Item, rows: pa.RecordBatch) -> pa.RecordBatch:
        if item.span is not None:
            rows = read_rows.trim(rows, item.span)
        return rows if item.in_time else self._times.select(rows)

    def _put(self, items: Sequence[Item], rows: pa.RecordBatch) -> Iterator[Gathered]:
        if not rows.num_rows:
            self.move(items)
            return
        size = rows.get_total_buffer_size()  # is never less than `nbytes`, and costs much less to ask for
        if size > self._query.batch_bytes - self._size or size >= SOLID_BYTES:
            size = rows.nbytes
        too_large = rows.num_rows > self.most or size > self._query.batch_bytes
        if too_large and len(items) > 1:
            half = len(items) // 2
            count = sum(item.range.count for item in items[:half])
            yield from self._put(items[:half], rows.slice(0, count))
            if self.left != 0:
                yield from self._put(items[half:], rows.slice(count))
            return
        if self.rows and (too_large or not self._has_room(items[0].range.shard, rows.num_rows, size)):
            yield self.flush()
            if self.left != 0:
                yield from self._put(items, rows)  # less may be left, and fit no more
            return
        if too_large:
            yield from self._cut(items[0], rows)
        else:
            self._hold(items, rows, size)
            self.move(items)
        if self.rows and (size >= SOLID_BYTES or self.rows >= self.most):
            yield self.flush()

    def _has_room(self, shard: str, rows: int, size: int) -> bool:
        if size >= SOLID_BYTES or (self._query.by_shard and shard not in self._shards):
            return False
        return self.rows + rows <= self.most and self._size + size <= self._query.batch_bytes

    def _cut(self, item: Item, rows: pa.RecordBatch) -> Iterator[Gathered]:
        """Yield a range that is too large for a batch in pieces; the last one waits."""
        while True:
            piece = next(read_rows.pieces(rows, self.most, self._query.batch_bytes))
            self._hold([item], piece, piece.nbytes)
            if piece.num_rows == rows.num_rows:
                self.move([item])
                return
            self._next.positions[item.range.shard] = read_rows.position_at(piece, piece.num_rows - 1)
            yield self.flush()
            if self.left == 0:
                return
            rows = rows.slice(piece.num_rows)

    def _hold(self, items: Sequence[Item], rows: pa.RecordBatch, size: int) -> None:
        columns = self._query.columns
        if tuple(rows.schema.names) != columns:
            rows = rows.select(list(columns))
        self._pieces.append(rows)
        self.rows += rows.num_rows
        self._size += size
        self._shards.update([(item.range.shard, None) for item in items])
