"""How long an action of the daemon waits for others before the process leaves.

There are two limits, and only one of them runs at a time: receiver.generatorTimeoutMillis while no generator answers,
receiver.storeTimeoutMillis while one is connected and neither stores nor admits anything new. A generator that comes
and goes starts neither of them anew.
"""

from __future__ import annotations


class Patience:
    """The two clocks; all times are the driver's seconds.

    Attributes:
        generator_timeout: Seconds to go on without a generator.
        store_timeout: Seconds to go on without progress.
    """

    def __init__(self, generator_timeout: float, store_timeout: float) -> None:
        self.generator_timeout = generator_timeout
        self.store_timeout = store_timeout
        self._began = 0.0
        self._progress = 0.0
        self._unanswered = 0.0
        self._away: float | None = 0.0

    def begin(self, now: float) -> None:
        """An action begins to wait."""
        self._began = self._progress = now

    def progress(self, now: float) -> None:
        """Something was stored or admitted that was not before."""
        self._progress = now

    def connected(self, now: float) -> None:
        """Somebody is there; the time without was not the store's."""
        if self._away is not None:
            self._progress += now - max(self._away, self._progress)
            self._away = None

    def disconnected(self, now: float, *, answered: bool) -> None:
        """Nobody is there; `answered` says whether the one who was there had said Welcome."""
        if self._away is None:
            self._away = now
        if answered:
            self._unanswered = now

    @property
    def limit(self) -> float:
        """When the action has waited too long, if nothing changes."""
        if self._away is not None:
            return max(self._unanswered, self._began) + self.generator_timeout
        return self._progress + self.store_timeout
