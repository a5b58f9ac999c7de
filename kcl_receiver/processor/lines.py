"""Puts the daemon's lines together from large reads."""

from __future__ import annotations

from kcl_receiver.errors import DaemonError

MAX_LINE_BYTES = 2**30
"""Ten times the longest line seen. The daemon writes a line as one Java string, which cannot be much longer either."""


class LineReader:
    """Takes bytes as they come, gives whole lines without their line feed.

    A line may hold 10 MB of KPL aggregates, taken apart into 350,000 records: about 80 MB of JSON. It is searched for
    its end once, piece by piece, and is handed on without a copy.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, piece: bytes) -> list[bytearray]:
        """Return the lines that `piece` completes.

        Raises:
            DaemonError: A line is longer than `MAX_LINE_BYTES`.
        """
        lines: list[bytearray] = []
        start = 0
        while (end := piece.find(b"\n", start)) >= 0:
            line = self._buffer
            line += memoryview(piece)[start:end]
            self._buffer = bytearray()
            if line and not line.isspace():
                lines.append(line)
            start = end + 1
        self._buffer += memoryview(piece)[start:]
        if len(self._buffer) > MAX_LINE_BYTES:
            raise DaemonError(f"the MultiLangDaemon began a line of more than {MAX_LINE_BYTES} bytes")
        return lines
