"""What happens to the world that the fleet lives in: hours without a reader, clocks that are set.

Time really passes on the timeline while nobody reads: the service's clock, and with it retention, knows no short cut.
To keep it cheap, all that would be busy meanwhile (java, the leader, maintenance) is asleep on all hosts at once.

A seed has at most one *theme*, which brings faults of its own kind. It draws from a generator of random numbers of its
own, so that what else happens to a seed stays what it is.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from kcl_receiver.ranges import TRIM_HORIZON, Position
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


def epoch(rng: random.Random) -> int:
    """Return the service's clock at virtual time 0: often so that a day, or a month, ends on the way."""
    midnight = rng.choice((0, 0, EPOCH_MS - EPOCH_MS % DAY_MS + DAY_MS, MONTH_END_MS))
    return midnight - int(rng.uniform(2, 40) * 1000) if midnight else EPOCH_MS


PARENTS_EXPIRE = "parents expire"
AWAITED: dict[str, str] = {
    "a reader gets each record once": "ledgers are read in the order of their ids, which a clock or chance decides",
    "a reader misses nothing": "the same",
    "storing does not wait": "a session's start looks at blocks, and reads old ledgers, under the lock of storing",
    "expire killed in a call": "it deletes on the word of an entry that is not known to be durable",
    "read within the horizon": "only a session's first link is judged, and by the age of the last record",
}
"""What is not played yet, or not judged, because the receiver is known not to stand it; why."""


# ---------------------------------------------------------------------- hours without a reader


def _fall_asleep(fleet: Fleet) -> float:
    """Let hours pass, in which records are put and shards change; return when they are over."""
    rng, now = fleet.more, fleet.timeline.now
    retention = fleet.stream.retention_hours
    hours = rng.choice((0.4 * retention, 0.7 * retention, 1.02 * retention, 1.1 * retention, 2.1 * retention, 24 * 30))
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
    wakes = _fall_asleep(fleet)
    for one in fleet.hosts:
        assert one.daemon is not None
        one.freeze(one.daemon, wakes - fleet.timeline.now)
        _iterators_expire(fleet, one)
    return True


def _hosts_stopped(fleet: Fleet, host: Host, _: float) -> bool:
    """Every machine is suspended: its clocks go on."""
    if fleet.asleep:
        return False
    wakes = _fall_asleep(fleet)
    for one in fleet.hosts:
        one.frozen_until = wakes
        _iterators_expire(fleet, one)
    return True


def _guests_paused(fleet: Fleet, host: Host, _: float) -> bool:
    """Every machine is a guest, and is paused: it takes no notice, and none of its clocks does."""
    if not _hosts_stopped(fleet, host, 0.0):
        return False
    for one in fleet.hosts:
        fleet.timeline.at(fleet.asleep_until, _lost_time(one, fleet.asleep_until - fleet.timeline.now))
    return True


def _lost_time(host: Host, seconds: float) -> Callable[[], None]:
    boots = host.boots

    def lose() -> None:
        if host.boots == boots:
            host.boot_base += seconds
            host.wall_offset -= int(seconds * 1000)

    return lose


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


# ---------------------------------------------------------------------- what operators do


def _blocks_expire(fleet: Fleet, host: Host, _: float) -> bool:
    """`expire`, of what arrived some seconds ago: that some of it is not checkpointed yet is the operator's risk."""
    host.expire_before = fleet.stream.millis() - int(fleet.more.uniform(1.0, 20.0) * 1000)
    return True


def _expire_killed(fleet: Fleet, host: Host, _: float) -> bool:
    """`expire` is killed on its way, and often the power goes then."""
    host.expire_kill = fleet.more.choice(("/ledger/maintenance", "/blocks/")), fleet.more.randint(0, 6)
    if fleet.more.random() < 0.6:
        fleet.timeline.at(fleet.timeline.now + fleet.more.uniform(4.0, 14.0), host.die)
    return _blocks_expire(fleet, host, 0.0)


def _lease_set_back(fleet: Fleet, host: Host, _: float) -> bool:
    """An operator writes an earlier checkpoint into a lease, or that it is to begin anew."""
    shards = fleet.stream.shards
    rows = [row for row in fleet.leases.rows.values() if isinstance(row.checkpoint, Position) and row.owner is not None]
    if not rows:
        return False
    row = fleet.more.choice(rows)
    shard = shards[row.shard]
    whole = [one for one in shard.positions if one <= row.checkpoint and shard.last_sub[one[0]] == one[1]]
    fleet.leases.set_back(row, fleet.more.choice((TRIM_HORIZON, whole[0], fleet.more.choice(whole))))
    return True


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
OPERATORS: dict[str, Strike] = {
    "blocks expire": _blocks_expire,
    "expire killed in a call": _expire_killed,
    "lease set back": _lease_set_back,
}
KINDS: dict[str, Strike] = {**LAPSES, **CLOCKS, **OPERATORS}
THEMES: dict[str, tuple[str, ...]] = {
    "lapses": tuple(LAPSES),
    "clocks": tuple(CLOCKS),
    "expiry": ("blocks expire", "blocks expire", "expire killed in a call", "lease set back"),
    "set back": ("all down for hours", "java stopped for hours", "lease set back", "lease set back"),
}
SEEN = ("records trimmed unread", "sessions of an expired shard", "blocks expired")
"""What has to happen in many seeds, beside the faults."""
"""Which faults a theme brings."""


def theme(seed: int, rng: random.Random) -> str:
    """Return the theme of a seed, or an empty text."""
    del seed
    return rng.choice(("", "", "", "", "", *THEMES))
