"""What strikes a bucket alone: outages, requests that come late, and maintenance beside a receiver that is at work."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from kcl_receiver.errors import LedgerDamaged
from kcl_receiver.store.layout import log_path
from kcl_receiver.store.ledger.store_log import StoreLog
from simulation import world
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


def _log_damaged(fleet: Fleet, host: Host, _: float) -> bool:
    """The newest entry of the store's log is not as it was written; `repair --yes` mends that beside those at work."""
    if not isinstance(host.place, BucketPlace) or host.successor is not None:
        return False
    newest = host.place.look().newest_log_number()
    if not newest:
        return False
    host.place.damage(log_path(newest))
    fleet.watch.log_lost(host, newest)
    fleet.seen["logs damaged beside writers"] += 1
    fleet.to_mend += 1
    wait = fleet.more.choice((0.0, 2.0, 20.0))
    fleet.timeline.at(fleet.timeline.now + wait, lambda: _mend(host))
    return True


def _mend(host: Host) -> None:
    """Repair until the log can be read, however often the bucket is away."""
    while host.successor is not None:
        host = host.successor
    try:
        StoreLog(host.place.look()).newest()
    except LedgerDamaged:
        SimRepair(host, beside=True)
        host.fleet.timeline.at(host.fleet.timeline.now + 5.0, lambda: _mend(host))
    else:
        host.fleet.to_mend -= 1


KINDS: dict[str, Strike] = {
    "bucket away": _away,
    "requests late": _requests_late,
    "killed, and its request is late": _killed_and_late,
    "repair beside the receiver": _repair_beside,
    "log damaged beside writers": _log_damaged,
}


def _paused_beside_others(fleet: Fleet, host: Host, _: float) -> bool:
    """A host is paused for hours, its neighbours measure on, and take it for dead: it finds its ledger closed.

    Nothing is delivered meanwhile on any host, to keep it cheap. The others may wake first, and take its leases.
    """
    awake = [one.daemon is not None and one.generator is not None and one.generator.ready for one in fleet.hosts]
    if fleet.asleep or host.successor is not None or len(awake) < 2 or not all(awake):
        return False
    wakes = world.fall_asleep(fleet, fleet.neighbours.uniform(1.2, 3.0))
    world.stop_java(fleet, wakes)
    host.was_paused = True
    host.frozen_until = wakes + fleet.neighbours.choice((0.0, 0.0, fleet.neighbours.uniform(0.5, 30.0)))
    return True


SHARED: dict[str, Strike] = {"host paused for hours beside others": _paused_beside_others}
"""What strikes a bucket that hosts share, and no other."""


def planned_of_shared(fleet: Fleet) -> list[str]:
    """Return which of these strike a seed whose hosts share a bucket: mostly none, for the time that it takes."""
    return [fleet.neighbours.choice([*SHARED])] if fleet.neighbours.random() < 0.25 else []


def planned(seed: int) -> tuple[random.Random, list[str]]:
    """Return which of these strike a seed that is on a bucket, and what draws the rest of them."""
    rng = random.Random(f"{seed} bucket faults")
    often = [kind for kind in KINDS if KINDS[kind] is not _log_damaged]
    chosen = [rng.choice(often) for _ in range(rng.choice((0, 1, 1, 2, 3)))]
    # Drawn apart, so that the other seeds stay what they are.
    if random.Random(f"{seed} bad objects").random() < 0.15:
        chosen.append("log damaged beside writers")
    return rng, chosen
