"""What failed and is to be tried again: when, and until when.

Full jitter over an exponential ceiling (AWS Architecture Blog, "Exponential Backoff And Jitter"), because many hosts
share one store and one stream.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from kcl_receiver.errors import ReceiverError
from kcl_receiver.generator.effects import Effect
from kcl_receiver.status.report import Trouble

FIRST_CEILING = 0.1
"""Seconds; doubles with every failure."""
LAST_CEILING = 30.0
LEAST_PAUSE = 0.05


@dataclass(slots=True)
class _Failing:
    since: float
    error: ReceiverError
    failures: int = 0


@dataclass(frozen=True, slots=True)
class _Retry:
    name: str
    at: float
    action: Callable[[], list[Effect]]


class Retries:
    """Backoff for any number of kinds of work, each known by a name.

    Args:
        limit: Seconds after the first failure of a kind of work at which it is tried a last time.
        rng: Source of jitter.
    """

    def __init__(self, limit: float, rng: random.Random) -> None:
        self._limit = limit
        self._rng = rng
        self._failing: dict[str, _Failing] = {}
        self._retries: list[_Retry] = []

    def failed(self, name: str, error: ReceiverError, action: Callable[[], list[Effect]], now: float) -> bool:
        """Plan to try again; return False if that is of no use: the error does not mend, or the limit has passed."""
        failing = self._failing.setdefault(name, _Failing(now, error))
        failing.error = error
        last = failing.since + self._limit
        if not error.mends or now >= last:
            return False
        ceiling = min(LAST_CEILING, FIRST_CEILING * 2.0 ** min(failing.failures, 20))
        failing.failures += 1
        again = min(last, now + self._rng.uniform(LEAST_PAUSE, ceiling))
        self._retries.append(_Retry(name, again, action))
        return True

    def mended(self, name: str) -> None:
        """This kind of work succeeded, or nobody wants it done any more."""
        if self._failing.pop(name, None) is not None:
            self._retries = [retry for retry in self._retries if retry.name != name]

    def due(self, now: float) -> list[Effect]:
        """Return the effects of what is to be tried again by now."""
        due = [retry for retry in self._retries if retry.at <= now]
        self._retries = [retry for retry in self._retries if retry.at > now]
        return [effect for retry in due for effect in retry.action()]

    def deadline(self) -> float | None:
        """When something is to be tried again, None if nothing is."""
        return min((retry.at for retry in self._retries), default=None)

    def trouble(self, now: float) -> Trouble | None:
        """Return the newest error of what fails now, and for how long it has; None if nothing does."""
        newest = max(self._failing.values(), key=lambda one: one.since, default=None)
        return None if newest is None else Trouble.of(newest.error, now - newest.since)
