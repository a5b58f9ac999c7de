"""Virtual time: one queue of events, and the processes that they belong to.

Nothing here waits. An event of a process that is dead is dropped, one of a process that is stopped (SIGSTOP, or a
paused virtual machine) happens when it goes on, in the same order.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

EPOCH_MS = 1_790_000_000_000
"""Wall clock at virtual time 0; some day in 2026."""

CURRENT = SimpleNamespace(host=None, pid=0)
"""Whose code runs now: the receiver's calls for the clock, the pid and the host's name are answered by it."""


class Killed(BaseException):
    """The process, or its machine, ends in the middle of what it does. No handler of ordinary errors may see it."""


class Timeline:
    """The event queue; beyond `limit` steps it raises `too_many`."""

    def __init__(self, limit: int, too_many: BaseException) -> None:
        self.limit = limit
        self.too_many = too_many
        self.now = 0.0
        self.steps = 0
        self._heap: list[list[Any]] = []
        self._count = 0

    def at(self, when: float, call: Callable[..., None], *args: Any) -> list[Any]:  # noqa: ANN401
        """Plan a call; the event can be given to `cancel`."""
        self._count += 1
        event = [when if when > self.now else self.now, self._count, call, args]
        heapq.heappush(self._heap, event)
        return event

    def cancel(self, event: list[Any] | None) -> None:
        if event is not None:
            event[2] = None

    def run(self, until: float, done: Callable[[], bool] = lambda: False) -> bool:
        """Let events happen until a time, or until `done` says so; return whether it did."""
        heap = self._heap
        limit = self.limit
        while heap and heap[0][0] <= until:
            when, _, call, args = heapq.heappop(heap)
            if call is None:
                continue
            self.now = when
            self.steps += 1
            if self.steps > limit:
                raise self.too_many
            call(*args)
            if done():
                return True
        self.now = until
        return False


class Process:
    """Something with a pid on a host, or the daemon's threads."""

    def __init__(self, host: Any, name: str) -> None:  # noqa: ANN401 - the host knows all kinds of processes
        self.host = host
        self.name = name
        self.pid = host.new_pid()
        self.alive = True
        self.frozen_until = 0.0
        self._timeline: Timeline = host.fleet.timeline

    def later(self, delay: float, call: Callable[..., None], *args: Any) -> list[Any]:  # noqa: ANN401
        timeline = self._timeline
        return timeline.at(timeline.now + delay, self._fire, call, args)

    def _fire(self, call: Callable[..., None], args: tuple[Any, ...]) -> None:
        if not self.alive:
            return
        timeline, host = self._timeline, self.host
        if timeline.now < self.frozen_until or timeline.now < host.frozen_until:
            timeline.at(max(self.frozen_until, host.frozen_until), self._fire, call, args)
            return
        CURRENT.host, CURRENT.pid = host, self.pid
        try:
            call(*args)
        except Killed:
            self.host.struck(self)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a bug
            self.host.fleet.watch.unexpected(self, error)

    def say(self, text: str) -> None:
        """Put a line into the trace; call it only if `tracing`."""
        self.host.fleet.trace(f"{self.host.name} {self.name}: {text}")

    @property
    def tracing(self) -> bool:
        return self.host.fleet.tracing
