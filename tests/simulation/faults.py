"""The faults, and when they strike: at a time, or when a batch comes into a certain state for the n-th time."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulation import buckets, world

if TYPE_CHECKING:
    from simulation.fleet import Fleet, Host

Strike = Callable[["Fleet", "Host", float], bool]
"""Does it to a host, for some seconds; returns whether there was something to do it to."""


def _processor_killed(fleet: Fleet, host: Host, _: float) -> bool:
    children = host.processors()
    if not children:
        return False
    child = fleet.rng.choice(children)
    child.killed()
    child.consumer.child_ended(child)
    return True


def _generator_killed(fleet: Fleet, host: Host, _: float) -> bool:
    host.kill_generator()
    return True


def _generator_killed_in_a_call(fleet: Fleet, host: Host, _: float) -> bool:
    """Now and then where a block gets its name; then the machine may die before anybody has made that durable."""
    host.host_dies = False
    part = fleet.rng.choice(("", "/blocks"))
    host.medium.kill_in(part, fleet.rng.randint(0, 3 if part else 12))
    if fleet.rng.random() < 0.4:
        fleet.timeline.at(fleet.timeline.now + fleet.rng.uniform(2.0, 9.0), host.die)
    return True


def _ledger_torn(fleet: Fleet, host: Host, _: float) -> bool:
    host.host_dies = fleet.rng.random() < 0.5
    host.medium.kill_in("/ledger/", fleet.rng.randint(0, 4))
    return True


def _host_died(fleet: Fleet, host: Host, _: float) -> bool:
    host.die()
    return True


def _host_died_in_a_call(fleet: Fleet, host: Host, _: float) -> bool:
    host.host_dies = True
    host.medium.kill_in("", fleet.rng.randint(0, 12))
    return True


def _daemon_killed(fleet: Fleet, host: Host, _: float) -> bool:
    host.kill_daemon()
    return True


def _daemon_killed_and_children_linger(fleet: Fleet, host: Host, _: float) -> bool:
    """Somebody else holds the pipe: they don't read end of file yet, and the next ones are there already."""
    host.kill_daemon(linger=12.0)
    if fleet.rng.random() < 0.7:
        fleet.timeline.at(fleet.timeline.now + fleet.rng.uniform(0.0, 8.0), host.kill_generator)
    return True


def _all_killed(fleet: Fleet, host: Host, _: float) -> bool:
    host.kill_all()
    return True


def _daemon_restarted(fleet: Fleet, host: Host, _: float) -> bool:
    if host.daemon is None:
        return False
    host.daemon.stop()
    return True


def _all_restarted(fleet: Fleet, host: Host, _: float) -> bool:
    """What the supervisor does at SIGTERM: both at once."""
    if host.daemon is None or host.generator is None:
        return False
    host.daemon.later(0.0, host.daemon.stop)
    host.generator.later(fleet.rng.random() * 0.1, host.generator.drain)
    return True


def _daemon_restarted_without_store(fleet: Fleet, host: Host, _: float) -> bool:
    host.store_fails = (fleet.timeline.now + 40, False)
    if host.daemon is not None:
        host.daemon.later(fleet.rng.uniform(0.5, 5.0), host.daemon.stop)
    return True


def _generator_away(fleet: Fleet, host: Host, seconds: float) -> bool:
    """It is killed, and cannot start again for a while."""
    host.generator_away_until = fleet.timeline.now + 3 * seconds
    host.kill_generator()
    return True


def _generator_restarted(fleet: Fleet, host: Host, _: float) -> bool:
    if host.generator is None:
        return False
    host.generator.later(0.0, host.generator.drain)
    return True


def _connection_lost(fleet: Fleet, host: Host, _: float) -> bool:
    wires = [child.wire for child in host.processors() if child.wire is not None and not child.wire.broken]
    if not wires:
        return False
    for wire in wires if fleet.rng.random() < 0.3 else [fleet.rng.choice(wires)]:
        wire.cut()
    return True


def _frames_cut(fleet: Fleet, host: Host, seconds: float) -> bool:
    host.frames_cut_until = fleet.timeline.now + seconds
    return True


def _store_slow(fleet: Fleet, host: Host, seconds: float) -> bool:
    host.slow_until = fleet.timeline.now + seconds
    return True


def _store_out_of_order(fleet: Fleet, host: Host, seconds: float) -> bool:
    host.disorder_until = fleet.timeline.now + seconds
    return True


def _store_fails(fleet: Fleet, host: Host, seconds: float) -> bool:
    host.store_fails = (fleet.timeline.now + seconds, False)
    return True


def _store_fails_after(fleet: Fleet, host: Host, seconds: float) -> bool:
    host.store_fails = (fleet.timeline.now + seconds, True)
    return True


def _disk_full(fleet: Fleet, host: Host, seconds: float) -> bool:
    host.medium.full_until = fleet.timeline.now + seconds
    return True


def _disk_errors(fleet: Fleet, host: Host, _: float) -> bool:
    host.medium.errors_part = ""
    for call in ("fsync", "fsync_dir", "rename", "write"):
        if fleet.rng.random() < 0.5:
            host.medium.errors[call] = fleet.rng.randint(1, 3)
    return True


def _ledger_fails_at_the_start(fleet: Fleet, host: Host, _: float) -> bool:
    """The first append of a new generator is not durable at the first try; then the machine may die."""
    host.medium.errors = {fleet.rng.choice(("fsync", "fsync", "fsync", "fsync_dir", "write")): 1}
    host.medium.errors_part = "/ledger"
    if fleet.rng.random() < 0.5:
        host.kill_generator()
    else:  # it dies between the next line and its fsync
        host.medium.errors = {"fsync": 1}
        host.host_dies = False
        host.medium.kill_in("/ledger/", 1)
    if fleet.rng.random() < 0.7:
        fleet.timeline.at(fleet.timeline.now + fleet.rng.uniform(2.0, 9.0), host.die)
    return True


def _host_died_at_the_start(fleet: Fleet, host: Host, _: float) -> bool:
    """A new generator puts in order what a killed one left; the power goes in the middle of that."""
    host.kill_generator()
    host.host_dies = True
    host.medium.kill_in(fleet.rng.choice(("/ledger", "/store")), fleet.rng.randint(0, 8))
    return True


def _killed_at_the_log(fleet: Fleet, host: Host, _: float) -> bool:
    """A ledger gives way to the next one, or a generator begins, and is killed around the entry that says so."""
    if fleet.rng.random() < 0.4:
        host.kill_generator()
    host.host_dies = fleet.rng.random() < 0.3
    host.medium.kill_in(fleet.rng.choice(("/log/", "/log/", "/ledger/")), fleet.rng.randint(0, 3))
    if fleet.rng.random() < 0.4:
        fleet.timeline.at(fleet.timeline.now + fleet.rng.uniform(2.0, 9.0), host.die)
    return True


def _log_fails(fleet: Fleet, host: Host, _: float) -> bool:
    """An entry of the log is not made, or it is not known whether it was; then the generator may be killed."""
    host.host_dies = fleet.rng.random() < 0.3
    host.medium.errors = {fleet.rng.choice(("link", "fsync_dir", "fsync_dir")): fleet.rng.randint(1, 3)}
    host.medium.errors_part = "/log/"
    host.medium.kill_after_error = fleet.rng.random() < 0.5
    if fleet.rng.random() < 0.4:
        host.kill_generator()
    return True


def _fsync_fails_then_killed(fleet: Fleet, host: Host, _: float) -> bool:
    """What could not be written back is still read by the next generator; then the machine may die."""
    host.host_dies = False
    host.medium.errors, host.medium.errors_part = {"fsync": 1}, fleet.rng.choice(("/ledger/", "/ledger/", ""))
    host.medium.kill_after_error = True
    if fleet.rng.random() < 0.7:
        fleet.timeline.at(fleet.timeline.now + fleet.rng.uniform(4.0, 12.0), host.die)
    return True


def _killed_out_of_order(fleet: Fleet, host: Host, seconds: float) -> bool:
    """The generator dies while a later block is stored and an earlier one is not."""
    host.disorder_until = fleet.timeline.now + 5
    fleet.timeline.at(fleet.timeline.now + fleet.rng.uniform(1.0, 4.5), host.kill_generator)
    return True


def _throttled(fleet: Fleet, host: Host, seconds: float) -> bool:
    host.throttled_until = fleet.timeline.now + seconds
    return True


def _refused(fleet: Fleet, host: Host, seconds: float) -> bool:
    host.refused_until = fleet.timeline.now + seconds
    return True


def _answers_lost(fleet: Fleet, host: Host, seconds: float) -> bool:
    host.answers_lost_until = fleet.timeline.now + seconds
    return True


def _moved(fleet: Fleet, host: Host, *, forced: bool) -> bool:
    others = [one for one in fleet.hosts if one is not host and one.daemon is not None]
    if not others or host.daemon is None:
        return False
    to = fleet.rng.choice(others).daemon
    assert to is not None
    return fleet.leases.move(host.daemon.worker, to.worker, forced=forced)


def _lease_stolen(fleet: Fleet, host: Host, _: float) -> bool:
    return _moved(fleet, host, forced=True)


def _lease_handed_over(fleet: Fleet, host: Host, _: float) -> bool:
    return _moved(fleet, host, forced=False)


def _host_stopped(fleet: Fleet, host: Host, seconds: float) -> bool:
    host.frozen_until = max(host.frozen_until, fleet.timeline.now + 4 + 2 * seconds)
    return True


def _generator_stopped(fleet: Fleet, host: Host, seconds: float) -> bool:
    """SIGSTOP: its connections stay, and nobody answers."""
    if host.generator is None:
        return False
    host.freeze(host.generator, 2 * seconds)
    return True


def _processor_stopped(fleet: Fleet, host: Host, seconds: float) -> bool:
    children = host.processors()
    if not children:
        return False
    host.freeze(fleet.rng.choice(children), 2 * seconds)
    return True


def _split(fleet: Fleet, host: Host, _: float) -> bool:
    shards = fleet.stream.open_shards()
    if len(shards) > 8:
        return False
    fleet.stream.split(fleet.rng.choice(shards))
    return True


def _merge(fleet: Fleet, host: Host, _: float) -> bool:
    shards = fleet.stream.open_shards()
    if len(shards) < 2:
        return False
    fleet.stream.merge(*fleet.rng.sample(shards, 2))
    return True


def _clock_jumps(fleet: Fleet, host: Host, _: float) -> bool:
    host.wall_offset = fleet.rng.randint(-3_600_000, 3_600_000)
    return True


def _consumers(host: Host) -> list:
    return [] if host.daemon is None else [one for one in host.daemon.consumers.values() if one.fetcher is not None]


def _iterator_expires(fleet: Fleet, host: Host, _: float) -> bool:
    for consumer in _consumers(host):
        consumer.expire = True
    return bool(_consumers(host))


def _page_read_again(fleet: Fleet, host: Host, _: float) -> bool:
    for consumer in _consumers(host):
        consumer.again = True
    return bool(_consumers(host))


def _stream_unavailable(fleet: Fleet, host: Host, seconds: float) -> bool:
    fleet.stream.unavailable_until = fleet.timeline.now + seconds
    return True


KINDS: dict[str, Strike] = {
    "processor killed": _processor_killed,
    "generator killed": _generator_killed,
    "generator killed in a call": _generator_killed_in_a_call,
    "host died": _host_died,
    "host died in a call": _host_died_in_a_call,
    "ledger torn": _ledger_torn,
    "daemon killed": _daemon_killed,
    "daemon killed, children linger": _daemon_killed_and_children_linger,
    "all killed": _all_killed,
    "daemon restarted": _daemon_restarted,
    "daemon restarted, store away": _daemon_restarted_without_store,
    "generator away": _generator_away,
    "all restarted": _all_restarted,
    "generator restarted": _generator_restarted,
    "connection lost": _connection_lost,
    "frames cut and late": _frames_cut,
    "store slow": _store_slow,
    "store out of order": _store_out_of_order,
    "store fails": _store_fails,
    "store fails after storing": _store_fails_after,
    "disk full": _disk_full,
    "disk errors": _disk_errors,
    "ledger fails at the start": _ledger_fails_at_the_start,
    "host died at the start": _host_died_at_the_start,
    "killed at the log": _killed_at_the_log,
    "log fails": _log_fails,
    "fsync fails, then killed": _fsync_fails_then_killed,
    "killed with blocks out of order": _killed_out_of_order,
    "checkpoints throttled": _throttled,
    "checkpoints refused": _refused,
    "checkpoint answers lost": _answers_lost,
    "lease stolen": _lease_stolen,
    "lease handed over": _lease_handed_over,
    "host stopped": _host_stopped,
    "generator stopped": _generator_stopped,
    "processor stopped": _processor_stopped,
    "clock jumps": _clock_jumps,
    "iterator expires": _iterator_expires,
    "page read again": _page_read_again,
    "stream unavailable": _stream_unavailable,
    "split": _split,
    "merge": _merge,
    **world.KINDS,
    **buckets.KINDS,
    **buckets.SHARED,
}
RESHARDS = ("split", "merge")
_OTHERS = [kind for kind in KINDS if kind not in (*RESHARDS, *world.KINDS, *buckets.KINDS, *buckets.SHARED)]


@dataclass
class Fault:
    """`level` and `nth`: strikes when the n-th batch comes into that state; without a level, at a time."""

    kind: str
    host: Host
    at: float = 0.0
    level: int = 0
    nth: int = 0
    lasts: float = 0.0

    def strike(self, fleet: Fleet) -> bool:
        return KINDS[self.kind](fleet, self.host, self.lasts)


def plan(fleet: Fleet) -> list[Fault]:
    """Return the faults of a run: about three, every third a reshard; most of them strike in a state of a batch.

    Those of its theme, and of a bucket, come on top.
    """
    rng, more = fleet.rng, fleet.more
    faults = []
    for _ in range(rng.choice((1, 2, 3, 3, 4, 5, 7))):
        kind = rng.choice(RESHARDS) if rng.random() < 0.3 else rng.choice(_OTHERS)
        faults.append(_fault(fleet, kind, rng))
    kinds = [kind for kind in world.THEMES.get(fleet.theme, ()) if fleet.plays(kind)]
    if kinds:
        for _ in range(more.choice((1, 1, 2, 2, 3))):
            fault = _fault(fleet, more.choice(kinds), more)
            if fleet.theme == "latest" and more.random() < 0.7:  # before the first checkpoint
                fault.level, fault.at = 0, more.uniform(1.0, 8.0)
            faults.append(fault)
    if fleet.on_bucket:
        of_buckets, chosen = buckets.planned(fleet.seed)
        faults += [_fault(fleet, kind, of_buckets) for kind in chosen]
    if fleet.shared:
        faults += [_fault(fleet, kind, fleet.neighbours) for kind in buckets.planned_of_shared(fleet)]
    return faults


def _fault(fleet: Fleet, kind: str, rng: random.Random) -> Fault:
    lasts = rng.choice((0.5, 2.0, 5.0, 5.0, 12.0)) if rng.random() < 0.9 else 70.0
    fault = Fault(kind, rng.choice(fleet.hosts), lasts=lasts)
    if rng.random() < 0.65:
        fault.level = rng.randint(1, 6)
        fault.nth = rng.randint(1, 60)
    else:
        fault.at = rng.uniform(3.0, 30.0)
    return fault
