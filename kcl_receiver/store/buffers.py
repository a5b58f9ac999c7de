"""Memory that batches are received into and blocks are encoded in, taken from one pool."""

from __future__ import annotations

import pyarrow as pa


def share_the_pool() -> None:
    """Have Arrow take its memory from the C library as Python does, so that either uses what the other freed."""
    pa.set_memory_pool(pa.system_memory_pool())


def uncleared(size: int) -> memoryview:
    """Return so many writable bytes that nobody has cleared, as `bytearray` does before anything is put there."""
    return memoryview(pa.allocate_buffer(size)).cast("B")
