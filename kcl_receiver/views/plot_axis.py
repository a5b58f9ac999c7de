"""The time axis of a picture: where a moment lies, and which moments get a label."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from datetime import datetime, timezone

_SECOND, _MINUTE, _HOUR, _DAY = 1000, 60_000, 3_600_000, 86_400_000
STEPS = (
    *(1, 2, 5, 10, 20, 50, 100, 200, 500),
    *(_SECOND * number for number in (1, 2, 5, 10, 15, 30)),
    *(_MINUTE * number for number in (1, 2, 5, 10, 15, 30)),
    *(_HOUR * number for number in (1, 2, 3, 6, 12)),
    *(_DAY * number for number in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)),
)
"""Milliseconds between two labels."""
LABELS = 9
"""Labels at most."""


class Axis:
    """Maps milliseconds since the epoch to pixels.

    Args:
        begin: The first moment.
        end: The last one; not before the first.
        left: Where the first one lies.
        right: Where the last one lies.
    """

    def __init__(self, begin: int, end: int, left: float, right: float) -> None:
        self.begin = begin
        self.end = end
        self._left = left
        self._scale = (right - left) / max(1, end - begin)

    def x(self, time: int) -> float:
        """Return where a moment lies."""
        return self._left + (time - self.begin) * self._scale

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Yield where the labels stand, and their text; the first one of each day says the day, too."""
        wanted = (self.end - self.begin) / LABELS
        step = STEPS[min(bisect_left(STEPS, wanted), len(STEPS) - 1)]
        day = None
        for time in range(-(-self.begin // step) * step, self.end + 1, step):
            at = datetime.fromtimestamp(time / 1000, timezone.utc)
            date = at.strftime("%Y-%m-%d")
            text = at.strftime("%H:%M" if step >= _MINUTE else "%H:%M:%S")
            if step < _SECOND:
                text += f".{time % 1000:03d}"
            yield self.x(time), date if step >= _DAY else text if date == day else f"{date} {text}"
            day = date


def moment(time: int) -> str:
    """Return a moment for people, in UTC; parts of a second only where there are any."""
    at = datetime.fromtimestamp(time / 1000, timezone.utc)
    return at.strftime("%Y-%m-%d %H:%M:%S") + (f".{time % 1000:03d}" if time % 1000 else "") + "Z"
