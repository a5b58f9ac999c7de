"""When the delivery at hand was read from the stream at the earliest: as far as a processor can tell.

KCL reads ahead, and what it hands over may have waited in it for as long as java stood still. But it reads ahead by a
few deliveries only. So times of deliveries are noted now and then, and each was read after the note before the last.
"""

from __future__ import annotations

CALLS = 32
"""Deliveries between two notes."""
AHEAD = 8
"""KCL reads no more deliveries ahead: its queue holds 3 by default, and no key of the properties changes that."""


class Notes:
    """The last note, in milliseconds of CLOCK_BOOTTIME.

    Attributes:
        apart: Least time between two. With fan-out the service sends events for up to five minutes without being asked
            again, and those wait in the connection.
    """

    def __init__(self) -> None:
        self.apart = 0
        self._left = 1
        self._last: int | None = None

    def call(self, now: int) -> int | None:
        """Count a delivery; return the note before the last if this one is noted, and there is one."""
        self._left -= 1
        if self._left > 0 or (self._last is not None and now - self._last < self.apart):
            return None
        before, self._last = self._last, now
        self._left = AHEAD if before is None else CALLS
        return before
