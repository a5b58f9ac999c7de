"""Writing past the page cache (O_DIRECT of open(2)), so that the kernel copies nothing and keeps nothing.

A block is written once, fsynced at once, and read by somebody else later. By way of the page cache each of its pages is
taken, filled and written back, which costs several times the processor time (the benchmark `ceiling` has both ways) and
memory that other programs have a use for. A file system that cannot do it is written to the ordinary way.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections import deque

ALIGNMENT = 4096
"""Of addresses, lengths and places in the file: what any disk with sectors of 512 or 4,096 bytes takes."""
LEAST_BYTES = 256 * 1024
"""Below it was no faster: an fsync takes longer than the copy."""
PIECE_BYTES = 4 * 2**20
"""Copied and written at a time. With 1 MiB a disk that takes 1.8 GB/s took 1.4, with 20 MiB no more than with this."""


def write_all(handle: int, content: memoryview) -> None:
    """Write bytes at the end of an open file the ordinary way: through the page cache."""
    while content:
        content = content[os.write(handle, content) :]


class DirectWriter:
    """Writes the larger part of large contents past the page cache; threads may share it."""

    def __init__(self) -> None:
        self._free: deque[mmap.mmap] = deque()

    def write(self, handle: int, content: memoryview) -> None:
        """Write at the end of an open file: what can be written directly, and the rest the ordinary way.

        Args:
            handle: Open for writing at its end (O_APPEND).
            content: Bytes.

        Raises:
            OSError: They cannot be written; what came before is in the file.
        """
        write_all(handle, content[self._directly(handle, content) :])

    def _directly(self, handle: int, content: memoryview) -> int:
        """Write directly what can be; return how many bytes that was."""
        if content.nbytes < LEAST_BYTES or os.fstat(handle).st_size % ALIGNMENT:
            return 0
        flags = fcntl.fcntl(handle, fcntl.F_GETFL)
        try:
            fcntl.fcntl(handle, fcntl.F_SETFL, flags | os.O_DIRECT)
        except OSError:
            return 0  # this file system has no such thing
        try:
            piece = self._free.pop()
        except IndexError:
            piece = mmap.mmap(-1, PIECE_BYTES)
        try:
            return _write(handle, content, piece)
        finally:
            self._free.append(piece)
            fcntl.fcntl(handle, fcntl.F_SETFL, flags)


def _write(handle: int, content: memoryview, piece: mmap.mmap) -> int:
    whole = content.nbytes - content.nbytes % ALIGNMENT
    written = 0
    with memoryview(piece) as place:
        while written < whole:
            size = min(place.nbytes, whole - written)
            place[:size] = content[written : written + size]
            try:
                taken = os.write(handle, place[:size])
            except OSError:
                break  # another alignment is wanted, or worse: the ordinary way does it, or meets the same error
            written += taken
            if taken % ALIGNMENT:
                break
    return written
