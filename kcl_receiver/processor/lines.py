"""Puts the daemon's lines together from large reads."""

from __future__ import annotations

from typing import NamedTuple

from kcl_receiver.errors import DaemonError

MAX_LINE_BYTES = 2**30
"""Ten times the longest line seen. The daemon writes a line as one Java string, which cannot be much longer either."""
FIRST_BYTES = 2**20
"""What the buffer begins with; memory is taken only for what was read into it."""
KEPT_BYTES = 2**24
"""A larger buffer is given back as soon as it is empty. 10 MB of data fit, all that Kinesis gives at a time."""


class Line(NamedTuple):
    """A line without its line feed, where it lies: the bytes of `buffer` from `start` to before `end`."""

    buffer: bytearray
    start: int
    end: int


class LineReader:
    """Takes bytes as they come, gives whole lines without their line feed.

    `buffer()` is where the next bytes belong; after reading `n` bytes into it call `advance(n)`. A line may hold 10 MB
    of KPL aggregates, taken apart into 350,000 records: about 80 MB of JSON. It is read into its place, searched for
    its end once, piece by piece, and handed on where it lies: nothing is copied unless the buffer must grow.
    """

    def __init__(self) -> None:
        self._buffer = bytearray(FIRST_BYTES)
        self._start = 0  # of the line that is not complete
        self._filled = 0

    def buffer(self) -> memoryview:
        """Return the non-empty, writable place for the next bytes; lines that were given before become void."""
        rest = self._filled - self._start
        if not rest:
            self._start = self._filled = 0
            if len(self._buffer) > KEPT_BYTES:
                self.release()
        elif self._filled == len(self._buffer) or self._start:
            grown = bytearray(2 * len(self._buffer)) if self._filled == len(self._buffer) else self._buffer
            memoryview(grown)[:rest] = memoryview(self._buffer)[self._start : self._filled]
            self._buffer, self._start, self._filled = grown, 0, rest
        return memoryview(self._buffer)[self._filled :]

    def release(self) -> None:
        """Give the buffer back if it has grown and no line is begun; the lines that were given stay valid."""
        if self._start == self._filled and len(self._buffer) > FIRST_BYTES:
            self._buffer = bytearray(FIRST_BYTES)
            self._start = self._filled = 0

    def advance(self, received: int) -> list[Line]:
        """Take note of `received` bytes in the buffer; return the lines that they complete.

        The lines hold until `buffer` is called next.

        Raises:
            DaemonError: A line is longer than `MAX_LINE_BYTES`.
        """
        lines: list[Line] = []
        at = self._filled
        self._filled += received
        while (end := self._buffer.find(b"\n", at, self._filled)) >= 0:
            line = Line(self._buffer, self._start, end)
            if not _is_blank(line):
                lines.append(line)
            self._start = at = end + 1
        if self._filled - self._start > MAX_LINE_BYTES:
            raise DaemonError(f"the MultiLangDaemon began a line of more than {MAX_LINE_BYTES} bytes")
        return lines


def _is_blank(line: Line) -> bool:
    buffer, start, end = line
    return start == end or (buffer[start] <= 32 and bytes(memoryview(buffer)[start:end]).isspace())
