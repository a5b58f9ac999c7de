"""How this process asks the C library for memory: what was freed is kept for the next batch.

By default glibc gives a large piece of memory back to the kernel as soon as it is freed, and the kernel clears every
page of the next one: for records of 10 KB that was a quarter of a processor's time (docs/performance.md). A C library
without `mallopt` is left as it is.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
"""Names and numbers of malloc.h; see mallopt(3)."""

MMAP_THRESHOLD = 32 * 2**20
"""Larger pieces are mapped and unmapped by themselves. mallopt(3): HEAP_MAX_SIZE / 2 is the most that glibc takes."""
_TOP_PAD = 2**20


def keep_freed(most: int, arenas: int) -> None:
    """Keep up to `most` bytes that were freed, in at most so many of glibc's arenas."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD)
        libc.mallopt(_M_TRIM_THRESHOLD, most)
        libc.mallopt(_M_TOP_PAD, _TOP_PAD)
        libc.mallopt(_M_ARENA_MAX, arenas)


def give_back() -> None:
    """Give what is free back to the kernel: for a process that will not need it soon."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
