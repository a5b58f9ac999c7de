"""What strikes a bucket alone: outages, requests that come late, and maintenance beside a receiver that is at work."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from simulation.bucket import LATE
from simulation.operators import SimRepair
from simulation.place import BucketPlace

if TYPE_CHECKING:
    from simulation.fleet import Fleet, Host

Strike = Callable[["Fleet", "Host", float], bool]


def _away(fleet: Fleet, host: Host, seconds: float) -> bool:
    """The bucket answers nobody."""
    if not isinstance(host.place, BucketPlace):
        return False
    host.place.bucket.away_until = fleet.timeline.now + seconds
    return True


def _requests_late(fleet: Fleet, host: Host, seconds: float) -> bool:
    """Of what a host sends, much takes effect long after the host gave it up."""
    if not isinstance(host.place, BucketPlace):
        return False
    host.place.medium.late_until = fleet.timeline.now + seconds
    return True


def _killed_and_late(fleet: Fleet, host: Host, _: float) -> bool:
    """Who makes a change is killed, and the change takes effect when another has begun."""
    if not isinstance(host.place, BucketPlace):
        return False
    rng = host.place.bucket.rng
    part = rng.choice(("", "/blocks/", "/ledger/2", "/ledger/2", "/log/", "/maintenance/"))
    host.host_dies = rng.random() < 0.2
    host.place.medium.kill_in(part, rng.choice((0, 3, 6, 15)), LATE)
    return True


def _repair_beside(fleet: Fleet, host: Host, _: float) -> bool:
    """`repair --yes` runs while the receiver is at work: what no generator is busy with is put in order."""
    if not isinstance(host.place, BucketPlace) or host.successor is not None:
        return False
    SimRepair(host, beside=True)
    return True


KINDS: dict[str, Strike] = {
    "bucket away": _away,
    "requests late": _requests_late,
    "killed, and its request is late": _killed_and_late,
    "repair beside the receiver": _repair_beside,
}


def planned(seed: int) -> tuple[random.Random, list[str]]:
    """Return which of these strike a seed that is on a bucket, and what draws the rest of them."""
    rng = random.Random(f"{seed} bucket faults")
    return rng, [rng.choice([*KINDS]) for _ in range(rng.choice((0, 1, 1, 2, 3)))]
