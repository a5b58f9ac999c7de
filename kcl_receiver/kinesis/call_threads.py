"""The threads that make the calls for shards, while somebody takes the answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

POLL = 0.2
"""Seconds within which the caller's stop event is seen."""
_LEAVE = 2.0
"""Seconds that threads get to end their calls when the caller leaves."""


@contextmanager
def call_threads(count: int, name: str, work: Callable[[], None], leave: Callable[[], None]) -> Iterator[None]:
    """Run threads while the context lasts.

    Args:
        count: How many.
        name: What their names begin with.
        work: What each of them does.
        leave: Tells them that it is time to leave; they are waited for, but not for long.
    """
    threads = [threading.Thread(target=work, name=f"{name}-{number}", daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        leave()
        until = time.monotonic() + _LEAVE
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
