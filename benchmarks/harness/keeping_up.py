"""Whether readers keep up with what is written, from their lag looked at once a second; no clock and no process here.

Lag is in seconds of writing: 1 is as many records as are written in a second. It is the mean over all shards that are
written to, and what lies in a block in the making or in KCL's cache is part of it; so it is never 0, and only its
growing says that a machine does not keep up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

GROWTH = 0.01
"""Lag that grows by more than this part of the time judged is growing: 0.6 s in a minute."""
OVERLOADED = 5.0
"""Lag that is one of an overload, whether it grows or not."""
DRAINED = 2.0
"""Lag below which what a ramp left behind is worked off; a block interval and a read are 1.2 s."""


def lag(written: Sequence[float], counted: Sequence[int], active: int, rate: float) -> float:
    """Return the lag, for `rate` records a second written to each of `active` shards."""
    behind = sum(max(one - other, 0.0) for one, other in zip(written, counted, strict=True))
    return behind / (rate * active)


def growth(lags: Sequence[float]) -> float:
    """Return by how much the mean of the last third of some lags is above that of the first third.

    Raises:
        ValueError: There are fewer than three.
    """
    third = len(lags) // 3
    if third == 0:
        raise ValueError(f"{len(lags)} looks do not say whether a lag grows")
    return sum(lags[-third:]) / third - sum(lags[:third]) / third


@dataclass(frozen=True, slots=True)
class Judged:
    """What a number of shards at full rate did.

    Attributes:
        shards: So many.
        seconds: How long they were judged.
        growth: See `growth`.
        lag: The lag at the end.
        cores: CPU of each role, in cores.
        busy: Cores of the machine that were busy, whoever used them.
    """

    shards: int
    seconds: float
    growth: float
    lag: float
    cores: dict[str, float]
    busy: float

    @property
    def kept_up(self) -> bool:
        """Whether the lag did not grow, and was not that of an overload all the while."""
        return self.growth <= GROWTH * self.seconds and self.lag <= OVERLOADED

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)


class Ramp:
    """Says how many shards to write to next, until too many are.

    Args:
        first: To begin with.
        step: So many more at each step.
        most: And no more than these.
    """

    def __init__(self, first: int, step: int, most: int) -> None:
        self.shards = first
        self.kept_up = 0
        self._step = step
        self._most = most
        self.over = False

    def look(self, seen: float) -> None:
        """Take the lag at the end of a step, which had its time to be worked off, and go on."""
        if seen <= DRAINED:
            self.kept_up = self.shards
        if seen > DRAINED or self.shards >= self._most:
            self.over = True
        else:
            self.shards = min(self.shards + self._step, self._most)
