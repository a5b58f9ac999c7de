"""What of a batch is stored already: by ranges whose blocks are present, never by a mere highest number.

Blocks finish out of order, so that a crash can leave a hole before a stored range. A record is held only if a range
that contains its position is.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable

from kcl_receiver.ranges import Position

Span = tuple[Position, Position]
"""First and last position, both inclusive."""


class StoredSpans:
    """Spans of positions in one shard that are stored, merged where they overlap."""

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self._firsts: list[Position] = []
        self._lasts: list[Position] = []
        self.add(spans)

    def add(self, spans: Iterable[Span]) -> None:
        """Take in spans."""
        known = zip(self._firsts, self._lasts, strict=True)
        every = sorted([*known, *spans])
        self._firsts, self._lasts = [], []
        for first, last in every:
            if self._lasts and first <= self._lasts[-1]:
                self._lasts[-1] = max(self._lasts[-1], last)
            else:
                self._firsts.append(first)
                self._lasts.append(last)

    def __bool__(self) -> bool:
        return bool(self._firsts)

    def forget_through(self, position: Position) -> None:
        """Drop the spans that end at `position` or before: delivery has passed them."""
        passed = bisect_right(self._lasts, position)
        del self._firsts[:passed]
        del self._lasts[:passed]

    def touches(self, first: Position, last: Position) -> bool:
        """Return whether any span overlaps `first` to `last`."""
        index = bisect_left(self._lasts, first)
        return index < len(self._firsts) and self._firsts[index] <= last

    def missing(self, count: int, position: Callable[[int], Position]) -> list[tuple[int, int]]:
        """Return the rows that are not held, as (start, stop) pairs in order.

        Args:
            count: Number of rows.
            position: Gives a row's position; positions rise with the row.
        """
        out: list[tuple[int, int]] = []
        row = 0
        while row < count:
            here = position(row)
            index = bisect_left(self._lasts, here)
            if index == len(self._firsts):
                out.append((row, count))
                break
            if here < self._firsts[index]:
                stop = row + bisect_left(range(row, count), self._firsts[index], key=position)
                out.append((row, stop))
                row = stop
            else:
                row += bisect_right(range(row, count), self._lasts[index], key=position)
        return out
