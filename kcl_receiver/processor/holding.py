"""What a processor does whose shard's lease cannot be read: nothing, slowly.

It must not exit: the daemon would exit too and take every other shard with it, again and again. So it answers
processRecords after a pause and drops what came. Nothing of it is stored or checkpointed, and KCL delivers all of it
again to the next session. It answers at all because KCL moves a lease and shuts down only between two actions. A
shard's end is never answered, because KCL would then begin with the children.
"""

from __future__ import annotations

HOLD_SECONDS = 10.0
"""Between two answers: nothing is gained by reading on, and a lease that moves waits for one of them."""


class Holding:
    """Whether the shard is on hold, and until when an action waits; all times are the driver's seconds.

    Attributes:
        on: The generator has said so, in this session.
    """

    def __init__(self) -> None:
        self.on = False
        self._pause = HOLD_SECONDS

    def begin(self) -> None:
        """The generator says that the lease can't be read."""
        self.on = True
        self._pause = HOLD_SECONDS

    def hurry(self) -> None:
        """The generator drains: shutdown_requested waits for the answer."""
        self._pause = 0.0

    def until(self, action_since: float) -> float:
        """When processRecords is answered."""
        return action_since + self._pause
