"""The generator's runtime on the timeline: coroutines are stepped by hand, calls for threads overlap as a seed says.

A call that would run in a thread begins after a while, happens in one step, and its answer comes after another while;
so calls end in any order, and a fault can strike between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any

from kcl_receiver.generator.effects import WriteBlock
from kcl_receiver.generator.runtime import THREADS, Pool

if TYPE_CHECKING:
    from simulation.generator import SimGenerator

WAIT_SECONDS = 0.05
"""After so long a coroutine looks again whether what it waits for has happened."""
Failed = Callable[[BaseException], None]


class _Wait:
    """What a coroutine waits for: some seconds, or a call in a thread of a pool. `await` gives the call's result."""

    def __init__(self, seconds: float = 0.0, pool: Pool | None = None, call: Callable[[], Any] | None = None) -> None:
        self.seconds = seconds
        self.pool = pool
        self.call = call

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield self)


class _Work:
    """A coroutine, and whom to tell of the exception that ends it."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], failed: Failed) -> None:
        self.coroutine = coroutine
        self.failed = failed


class _Timer:
    def __init__(self, process: SimGenerator, seconds: float, call: Callable[[], None]) -> None:
        self._timeline = process.host.fleet.timeline
        self._event = process.later(seconds, call)

    def cancel(self) -> None:
        self._timeline.cancel(self._event)


class _Event:
    def __init__(self) -> None:
        self._happened = False

    def set(self) -> None:
        self._happened = True

    def is_set(self) -> bool:
        return self._happened

    async def wait(self) -> None:
        while not self._happened:
            await _Wait(WAIT_SECONDS)


class SimRuntime:
    """`kcl_receiver.generator.runtime.Runtime` for one simulated process."""

    def __init__(self, process: SimGenerator) -> None:
        self._process = process
        self._busy = dict.fromkeys(THREADS, 0)
        self._queues: dict[Pool, deque[tuple[_Work, Callable[[], Any]]]] = {pool: deque() for pool in THREADS}

    def clock(self) -> float:
        boot_clock: float = self._process.host.boot_clock()
        return boot_clock

    def later(self, seconds: float, call: Callable[[], None]) -> _Timer:
        return _Timer(self._process, max(1e-4, seconds + 1e-6), call)

    def event(self) -> _Event:
        return _Event()

    def spawn(self, work: Coroutine[Any, Any, None], failed: Failed) -> None:
        self._step(_Work(work, failed), None, None)

    async def sleep(self, seconds: float) -> None:
        await _Wait(seconds)

    async def in_thread(self, pool: Pool, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        for one in args:
            if isinstance(one, WriteBlock):
                self._process.host.fleet.watch.cut(self._process, one)
        return await _Wait(pool=pool, call=lambda: call(*args, **kwargs))

    def _step(self, work: _Work, value: Any, error: BaseException | None) -> None:  # noqa: ANN401
        coroutine = work.coroutine
        try:
            asked = coroutine.throw(error) if error is not None else coroutine.send(value)
        except StopIteration:
            return
        except Exception as failure:  # noqa: BLE001 - as a task ends
            self._process.host.fleet.watch.unexpected(self._process, failure)
            work.failed(failure)
            return
        if asked.pool is None:
            self._process.later(asked.seconds, self._step, work, None, None)
        else:
            self._queues[asked.pool].append((work, asked.call))
            self._next(asked.pool)

    def _next(self, pool: Pool) -> None:
        if self._queues[pool] and self._busy[pool] < THREADS[pool]:
            self._busy[pool] += 1
            work, call = self._queues[pool].popleft()
            self._process.later(self._process.host.call_delay(pool.value), self._run, pool, work, call)

    def _run(self, pool: Pool, work: _Work, call: Callable[[], Any]) -> None:
        value = error = None
        try:
            value = call()
        except Exception as failure:  # noqa: BLE001 - goes to the coroutine, as a thread's would
            error = failure
        self._process.later(self._process.host.call_delay(pool.value), self._answer, pool, work, value, error)

    def _answer(self, pool: Pool, work: _Work, value: Any, error: Exception | None) -> None:  # noqa: ANN401
        self._busy[pool] -= 1
        self._next(pool)
        self._step(work, value, error)
