"""What happens to the world that the fleet lives in: hours without a reader, clocks that are set; and the themes.

Time really passes on the timeline while nobody reads: the service's clock, and with it retention, knows no short cut.
To keep it cheap, all that would be busy meanwhile (java, the leader, maintenance) is asleep on all hosts at once.

A seed has at most one *theme*, which brings faults of its own kind. It draws from a generator of random numbers of its
own, so that what else happens to a seed stays what it is.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from simulation import latest, operators
from simulation.timeline import EPOCH_MS

if TYPE_CHECKING:
    from simulation.fleet import Fleet, Host

Strike = Callable[["Fleet", "Host", float], bool]

HOUR = 3600.0
DAY_MS = 86_400_000
MONTH_END_MS = 1_790_812_800_000
"""2026-10-01T00:00:00Z, the first end of a month after `EPOCH_MS`."""
ITERATOR_SECONDS = 300.0
"""An iterator is good for so long."""


def epoch(rng: random.Random, theme: str) -> int:
    """Return the service's clock at virtual time 0: often so that a day, or a month, ends on the way."""
    midnights = EPOCH_MS - EPOCH_MS % DAY_MS + DAY_MS, MONTH_END_MS
    midnight = rng.choice((0, 0, *midnights) if theme != "repair" else midnights)
    return midnight - int(rng.uniform(2, 40) * 1000) if midnight else EPOCH_MS


PARENTS_EXPIRE = "parents expire"
AWAITED: dict[str, str] = {
    "what expired and was stored again is read": "a reader passes what expired, and then takes the same for read",
}
"""What is not played yet, or not judged, because the receiver is known not to stand it; why."""


# ---------------------------------------------------------------------- hours without a reader


def _fall_asleep(fleet: Fleet, *, idle: bool = False) -> float:
    """Let hours pass, in which records are put and shards change; return when they are over.

    With `idle` the generators live on, and note every quarter of an hour how far was read: a month takes long to run.
    """
    retention = fleet.stream.retention_hours
    month = 24 * 30 if not idle else 2.1 * retention
    choices = (0.4 * retention, 0.7 * retention, 1.02 * retention, 1.1 * retention, 2.1 * retention, month)
    return fall_asleep(fleet, fleet.more.choice(choices))


def fall_asleep(fleet: Fleet, hours: float) -> float:
    """Let so many hours pass; see `_fall_asleep`."""
    rng, now = fleet.more, fleet.timeline.now
    wakes = now + hours * HOUR
    fleet.asleep_until = wakes
    fleet.lapsed += wakes - now
    moments = [now + rng.uniform(0.5, 600.0) for _ in range(rng.randint(0, 3))]
    moments += [rng.uniform(now, wakes) for _ in range(rng.randint(0, 2))]
    moments += [wakes - rng.uniform(0.1, 600.0) for _ in range(rng.randint(0, 3))]
    for at in moments:
        fleet.timeline.at(at, lambda: _put_some(fleet))
    if rng.random() < 0.5:
        fleet.timeline.at(now + rng.uniform(0.1, 60.0), lambda: _reshard(fleet))
    return wakes


def _put_some(fleet: Fleet) -> None:
    shards = fleet.stream.open_shards()
    for shard in fleet.more.sample(shards, fleet.more.randint(1, min(2, len(shards)))):
        for _ in range(fleet.more.randint(1, 6)):
            fleet.stream.put(shard, fleet.more.choice((1, 1, 3)))


def _reshard(fleet: Fleet) -> None:
    shards = fleet.stream.open_shards()
    if len(shards) > 1 and fleet.more.random() < 0.5:
        fleet.stream.merge(*fleet.more.sample(shards, 2))
    elif len(shards) < 9:
        fleet.stream.split(fleet.more.choice(shards))


def _java_stopped(fleet: Fleet, host: Host, _: float) -> bool:
    """SIGSTOP of every daemon; generators and processors live on."""
    if fleet.asleep or any(one.daemon is None for one in fleet.hosts):
        return False
    stop_java(fleet, _fall_asleep(fleet, idle=True))
    return True


def stop_java(fleet: Fleet, wakes: float) -> None:
    """Stop every daemon until a time."""
    for one in fleet.hosts:
        assert one.daemon is not None
        one.freeze(one.daemon, wakes - fleet.timeline.now)
        _iterators_expire(fleet, one)


def _hosts_stopped(fleet: Fleet, host: Host, _: float) -> bool:
    """Every machine is suspended: its clocks go on."""
    if fleet.asleep:
        return False
    wakes = _fall_asleep(fleet)
    for one in fleet.hosts:
        one.frozen_until, one.was_paused = wakes, True
        _iterators_expire(fleet, one)
    return True


def _guests_paused(fleet: Fleet, host: Host, _: float) -> bool:
    """Every machine is a guest, and is paused: it takes no notice, and none of its clocks does."""
    if not _hosts_stopped(fleet, host, 0.0):
        return False
    fleet.paused += fleet.asleep_until - fleet.timeline.now
    seconds = fleet.asleep_until - fleet.timeline.now
    for one in fleet.hosts:  # at once: nothing on it runs until it goes on, and then no clock shows the time between
        one.boot_base += seconds
        one.wall_offset -= int(seconds * 1000)
    return True


def _all_down(fleet: Fleet, host: Host, _: float) -> bool:
    if fleet.asleep:
        return False
    wakes = _fall_asleep(fleet)
    for one in fleet.hosts:
        one.kill_all(wakes - fleet.timeline.now + fleet.more.uniform(0.0, 5.0))
    return True


def _iterators_expire(fleet: Fleet, host: Host) -> None:
    if fleet.asleep_until - fleet.timeline.now > ITERATOR_SECONDS and host.daemon is not None:
        for consumer in host.daemon.consumers.values():
            consumer.expire = consumer.fetcher is not None


# ---------------------------------------------------------------------- clocks


def _set_clock(low: float, high: float) -> Strike:
    def strike(fleet: Fleet, host: Host, _: float) -> bool:
        host.wall_offset += int(fleet.more.uniform(low, high) * 1000)
        return True

    return strike


LAPSES: dict[str, Strike] = {
    "java stopped for hours": _java_stopped,
    "hosts suspended for hours": _hosts_stopped,
    "guests paused for hours": _guests_paused,
    "all down for hours": _all_down,
}
CLOCKS: dict[str, Strike] = {
    "clock set back by seconds": _set_clock(-90.0, -0.5),
    "clock set forward by seconds": _set_clock(0.5, 90.0),
    "clock set back by days": _set_clock(-40 * 86_400.0, -86_400.0),
    "clock set forward by days": _set_clock(86_400.0, 40 * 86_400.0),
}
RESTART = "generator restarted"
KINDS: dict[str, Strike] = {**LAPSES, **CLOCKS, **operators.KINDS, **latest.KINDS}
THEMES: dict[str, tuple[str, ...]] = {
    "lapses": tuple(LAPSES),
    "clocks": tuple(CLOCKS),
    "expiry": ("blocks expire", "blocks expire", "expire killed in a call", "lease set back"),
    "latest": tuple(latest.KINDS),
    "repair": ("ledger of a past day lost", "ledger that is kept lost"),
    "log": ("log lost", "log damaged", RESTART),
    "set back": ("all down for hours", "hosts suspended for hours", "lease set back", "lease set back", RESTART),
}
SEEN = (
    "records trimmed unread",
    "sessions of an expired shard",
    "blocks expired",
    "ledgers repaired",
    "logs lost",
    "requests came late",
    "ledgers merged",
)
"""What has to happen in many seeds, beside the faults."""
"""Which faults a theme brings."""


def theme(seed: int, rng: random.Random) -> str:
    """Return the theme of a seed, or an empty text."""
    del seed
    return rng.choice(("", "", "", "", "", *THEMES))
