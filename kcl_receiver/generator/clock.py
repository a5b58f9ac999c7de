"""The service's clock as this host knows it: an offset to CLOCK_BOOTTIME, measured now and then.

Retention is counted by the service's clock, and this host's may differ from it by any amount. So times are taken from
CLOCK_BOOTTIME, which never jumps, and an offset from the `Date` of an answer. A virtual machine that is paused does not
notice, and then the offset rises. Hence two rules: what is said to have been read *by* a time uses an offset that was
measured before, and what is said to have been delivered *at the latest* at a time one that is measured after. The
latter is not known when it is written down, so that it is raised later, if it has to be.
"""

from __future__ import annotations

from collections import deque

from kcl_receiver.generator.effects import Measurement
from kcl_receiver.horizon import MARGIN_MS, Late

KEPT = 64
"""Measurements that are kept: a time is older than the oldest of them only if reading stood still for hours."""
DATE_MS = 1000
"""A `Date` is cut off to the second."""


class ServiceClock:
    """See the module. All times are milliseconds; those of this host are of CLOCK_BOOTTIME."""

    def __init__(self) -> None:
        self._lows: deque[tuple[int, int]] = deque(maxlen=KEPT)
        self._used: list[tuple[int, int]] = []
        self.offset: int | None = None
        """The greatest that the offset can be, as far as is known; None before the first measurement."""

    def measured(self, seen: Measurement, boot: int) -> list[Late]:
        """Take in a measurement at a time of this host; return by how much what `latest` said before was too early."""
        if seen.date < 0:
            return []
        self._lows.append((seen.after, seen.date - seen.after))
        high = seen.date + DATE_MS - seen.before
        ends = [*self._used[1:], *((boot, offset) for _, offset in self._used[-1:])]
        spans = list(zip(self._used, ends, strict=True))
        late = [
            Late(since + offset, end + max(offset + 1, later), high - offset)
            for (since, offset), (end, later) in spans
            if high - offset > MARGIN_MS
        ]
        # What was said since the question was asked stays unsure: of a pause after it the answer knows nothing.
        kept = [(max(since, seen.before), offset) for (since, offset), (end, _) in spans if end > seen.before]
        self.offset = high
        self._used = [*kept, (boot, high)]
        return late

    def unsure(self) -> tuple[int, int]:
        """Return from when on, and with what offset at the least, `latest` said what no measurement has confirmed."""
        return self._used[0][0], min(offset for _, offset in self._used)

    def latest(self, boot: int, arrival: int = -1) -> int:
        """Return the latest that the service's clock can have shown at a time of this host; -1 if that is not known.

        A record that had arrived by then moves the clock forward at once, if it has to.
        """
        if self.offset is None:
            return -1
        if arrival > boot + self.offset:
            self.offset = arrival - boot
            self._used.append((boot, self.offset))
            if len(self._used) > KEPT:  # the stream has not answered for long: what came first is raised by more
                self._used[:2] = [(self._used[0][0], min(self._used[0][1], self._used[1][1]))]
        return boot + self.offset

    def earliest(self, boot: int) -> int:
        """Return the earliest that the service's clock can have shown at a time of this host; -1 if it is not known.

        Measured before: within one millisecond of this host's clock there may be a pause of any length.
        """
        return next((boot + low for measured, low in reversed(self._lows) if measured < boot), -1)
