"""What the disk does here: the limit of everything that stores, and the floor under every latency."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from kcl_receiver.store.o_direct import write_all

PIECE_BYTES = 8 * 2**20

Write = Callable[[int, memoryview], None]


class Written(NamedTuple):
    """How fast a file was written and fsynced: bytes a second, and seconds of this process's CPU per 10^9 bytes."""

    rate: float
    cpu: float


def sequential_write(directory: Path, total: int, sync_every: int, *, write: Write = write_all) -> Written:
    """Write random bytes to a file, fsynced after every `sync_every` bytes and at the end.

    Args:
        directory: Where.
        total: Bytes.
        sync_every: Bytes.
        write: Appends to the file of a descriptor; by default through the page cache, as any program does.
    """
    piece = memoryview(os.urandom(PIECE_BYTES))
    pieces = max(total // PIECE_BYTES, 1)
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        handle = file.fileno()
        began, cpu = time.monotonic(), time.process_time()
        unsynced = 0
        for _ in range(pieces):
            write(handle, piece)
            unsynced += PIECE_BYTES
            if unsynced >= sync_every:
                os.fsync(handle)
                unsynced = 0
        os.fsync(handle)
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    return Written(pieces * PIECE_BYTES / seconds, cpu / (pieces * PIECE_BYTES) * 1e9)


def sync_seconds(directory: Path, size: int, times: int) -> list[float]:
    """Return how long each of so many fsyncs takes, of a new file of `size` random bytes; writing it is not counted."""
    content = os.urandom(size)
    taken: list[float] = []
    for _ in range(times):
        with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
            file.write(content)
            began = time.monotonic()
            os.fsync(file.fileno())
            taken.append(time.monotonic() - began)
    return taken
