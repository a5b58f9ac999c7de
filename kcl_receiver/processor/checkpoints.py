"""What was checkpointed, and when the next checkpoint may be asked for.

A checkpoint that failed in processRecords is left to a later moment; at the end of a shard and at shutdown no later
action comes, so it is tried again in place, with pauses that grow.
"""

from __future__ import annotations

import random

from kcl_receiver.processor.backoff import Backoff
from kcl_receiver.processor.effects import Checkpoint
from kcl_receiver.ranges import Position

RETRIED_LATER = frozenset({"ThrottlingException", "KinesisClientLibDependencyException"})
"""Checkpoint errors that mend by themselves; names of KCL's Java exceptions."""
LEASE_GONE = "ShutdownException"

RETRY_SECONDS = (0.2, 5.0)
"""First and longest pause before a checkpoint is tried again in place."""


class Checkpoints:
    """The checkpoints of one session.

    Attributes:
        interval: Least seconds between two checkpoints in processRecords, counted from the daemon's answer.
        taken: The last position that the daemon took, or where reading began; None before there is one.
        asked: The checkpoint that the daemon owes an answer for.
        retry_at: When the one that failed is tried again in place, None if none failed.
        failing_since: When the first of these failures came.
        last_error: Name of the last failure.
    """

    def __init__(self, interval: float, rng: random.Random) -> None:
        self.interval = interval
        self.taken: Position | None = None
        self.asked: Checkpoint | None = None
        self.retry_at: float | None = None
        self.failing_since = 0.0
        self.last_error = ""
        self._answered_at: float | None = None
        self._backoff = Backoff(RETRY_SECONDS, rng)

    def begin(self) -> None:
        """A new action has come: failures in the one before do not hold it up."""
        self.retry_at = None
        self._backoff.reset()

    def wanted(self, safe: Position | None) -> bool:
        """Return whether `safe` is higher than what was taken."""
        return safe is not None and (self.taken is None or safe > self.taken)

    @property
    def due_at(self) -> float:
        """When the interval is over."""
        return 0.0 if self._answered_at is None else self._answered_at + self.interval

    def ask(self, position: Position | None) -> Checkpoint:
        """Return the effect that asks for a checkpoint."""
        self.asked = Checkpoint(position)
        return self.asked

    def answered(self, now: float) -> Checkpoint | None:
        """The daemon answered; return what it had been asked for, None if that was nothing."""
        asked, self.asked = self.asked, None
        self._answered_at = now
        return asked

    def try_again(self, error: str, now: float) -> None:
        """It failed, and is to be tried again in place."""
        if self.retry_at is None:
            self.failing_since = now
        self.last_error = error
        self.retry_at = now + self._backoff.next()
