"""Pauses between attempts."""

from __future__ import annotations

import random


class Backoff:
    """Pauses that double between two bounds, with jitter.

    Args:
        bounds: The first and the longest pause, in seconds.
        rng: Source of jitter: a pause is shortened by up to half, so that many processors do not come at once.
    """

    def __init__(self, bounds: tuple[float, float], rng: random.Random) -> None:
        self._bounds = bounds
        self._rng = rng
        self._pause = bounds[0]

    def reset(self) -> None:
        """Begin with the shortest pause again."""
        self._pause = self._bounds[0]

    def next(self) -> float:
        """Return the next pause in seconds."""
        pause = self._pause
        self._pause = min(pause * 2, self._bounds[1])
        return pause * self._rng.uniform(0.5, 1.0)
