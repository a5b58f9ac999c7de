"""What the generator's server needs of the process around it: the time, timers, coroutines and threads.

The server reaches the event loop and its threads through this port alone. So a simulation can run the very same server
on a timeline of its own, and all that overlaps in a process happens there in an order that a seed decides.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from functools import partial
from typing import Any, ParamSpec, Protocol, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Pool(Enum):
    """Threads for one kind of call."""

    STORE = "store"
    LEDGER = "ledger"
    ASK = "ask"
    HOUSE = "house"


STORE_THREADS = 2
"""Encoding holds no lock and an fsync waits: with two, one block is encoded while the last is synced."""
THREADS = {Pool.STORE: STORE_THREADS, Pool.LEDGER: 1, Pool.ASK: 4, Pool.HOUSE: 1}
"""How many calls of a kind run at once. Those of the ledger never overlap: its order is theirs.

Nobody waits for what is done in the house.
"""


class Timer(Protocol):
    """A call that is planned."""

    def cancel(self) -> None:
        """Drop the call if it was not made yet."""


class Event(Protocol):
    """Something that happens once, and that coroutines wait for."""

    def set(self) -> object:
        """Let those go on that wait."""

    def is_set(self) -> bool:
        """Return whether it has happened."""

    async def wait(self) -> object:
        """Return once it has happened."""


class Runtime(Protocol):
    """The port. All but the calls for threads happens in one thread."""

    def clock(self) -> float:
        """Return the seconds of a clock that never goes back and does not stop in suspend."""

    def later(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Plan a call; a time that has passed means as soon as possible."""

    def event(self) -> Event:
        """Return a new event that has not happened."""

    def spawn(self, work: Coroutine[Any, Any, None], failed: Callable[[BaseException], None]) -> None:
        """Run a coroutine; `failed` is given the exception that ends it, if one does."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    async def in_thread(self, pool: Pool, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Make a call that blocks in a thread of a pool; return what it returns, raise what it raises."""


def boot_clock() -> float:
    """Return CLOCK_BOOTTIME in seconds; the ranks of sessions are of the same clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class AsyncioRuntime:
    """The port on asyncio's running loop, with threads.

    `close` belongs at the end: it cancels the coroutines; calls in threads are not waited for.
    """

    def __init__(self) -> None:
        self._pools = {pool: ThreadPoolExecutor(count, pool.value) for pool, count in THREADS.items()}
        self._tasks: set[asyncio.Task[None]] = set()

    def clock(self) -> float:
        """See `Runtime`."""
        return boot_clock()

    def later(self, seconds: float, call: Callable[[], None]) -> Timer:
        """See `Runtime`."""
        return asyncio.get_running_loop().call_later(max(0.0, seconds), call)

    def event(self) -> Event:
        """See `Runtime`."""
        return asyncio.Event()

    def spawn(self, work: Coroutine[Any, Any, None], failed: Callable[[BaseException], None]) -> None:
        """See `Runtime`."""

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                failed(error)

        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(done)

    async def sleep(self, seconds: float) -> None:
        """See `Runtime`."""
        await asyncio.sleep(seconds)

    async def in_thread(self, pool: Pool, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """See `Runtime`."""
        return await asyncio.get_running_loop().run_in_executor(self._pools[pool], partial(call, *args, **kwargs))

    async def close(self) -> None:
        """Cancel what runs, and let the threads go."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for executor in self._pools.values():
            executor.shutdown(wait=False, cancel_futures=True)


def report_bugs(failed: Callable[[BaseException], None]) -> None:
    """Give `failed` every exception that leaves a callback of the running loop: a timer's, or a connection's.

    Without this, asyncio logs it and continues, with a state machine that was left in the middle of a change. An
    `OSError` comes from the system, such as no descriptor for one more connection: asyncio deals with it.
    """
    loop = asyncio.get_running_loop()

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, Exception) and not isinstance(error, OSError):
            failed(error)
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(handle)
