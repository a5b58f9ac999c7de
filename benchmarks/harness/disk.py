"""What the disk does here: the limit of everything that stores, and the floor under every latency."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

PIECE_BYTES = 8 * 2**20


def sequential_write(directory: Path, total: int, sync_every: int) -> float:
    """Return bytes a second of writing random bytes to a file, fsynced after every `sync_every` and at the end."""
    piece = os.urandom(PIECE_BYTES)
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        began = time.monotonic()
        unsynced = 0
        for _ in range(max(total // PIECE_BYTES, 1)):
            file.write(piece)
            unsynced += PIECE_BYTES
            if unsynced >= sync_every:
                os.fsync(file.fileno())
                unsynced = 0
        os.fsync(file.fileno())
        seconds = time.monotonic() - began
    return max(total // PIECE_BYTES, 1) * PIECE_BYTES / seconds


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
