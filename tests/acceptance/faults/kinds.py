"""Every kind of fault: what strikes, what goes on meanwhile, and how it ends.

A kind is a generator function in three parts. Up to the first `yield` it chooses and prepares, without doing anything.
When it is resumed, it strikes, as quickly as it can, and yields again at once: what was in flight before has to be in
flight still. What follows brings the world back: a fault that lasts ends, whoever must be started again is started.
It returns a few words on what it did. Whatever is random is decided by the round's own generator.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from random import Random
from typing import TYPE_CHECKING, TypeAlias

import psutil

from faults.broken import Broken, NotNow
from faults.disks import is_full, is_locked
from faults.hosts import STORE_TIMEOUT_MILLIS, Host

if TYPE_CHECKING:
    from faults.theatre import Theatre

Act: TypeAlias = Generator[None, None, str]
"""One fault under way."""
Kind: TypeAlias = Callable[["Theatre", Host, Random], Act]

ROOM_BYTES = 32 * 2**20
"""More than comes in between."""
FAULT_SECONDS = 60.0
"""Within this a fault must have the effect that it is meant to have."""


def _victims(found: list[psutil.Process], rng: Random) -> list[psutil.Process]:
    if not found:
        raise Broken("there is nobody to kill, though all sessions were open")
    return [rng.choice(found)]


def kill_generator(theatre: Theatre, host: Host, rng: Random) -> Act:
    """Kill -9 of the generator."""
    victims = _victims(host.generators(), rng)
    yield
    host.strike(victims)
    yield
    host.bury(victims)
    return ""


def kill_processor(theatre: Theatre, host: Host, rng: Random) -> Act:
    """Kill -9 of one processor: the daemon follows it."""
    victims = _victims(host.processors(), rng)
    yield
    host.strike(victims)
    yield
    host.bury(victims)
    return ""


def kill_java(theatre: Theatre, host: Host, rng: Random) -> Act:
    """Kill -9 of the MultiLangDaemon."""
    victims = _victims(host.daemons(), rng)
    yield
    host.strike(victims)
    yield
    host.bury(victims)
    return ""


def kill_supervisor(theatre: Theatre, host: Host, rng: Random) -> Act:
    """Kill -9 of `run` alone, which is started again by whoever looks after it."""
    victims = [psutil.Process(host.supervisor().pid)]
    yield
    host.strike(victims)
    yield
    host.bury(victims)
    host.launch_again()
    return ""


def kill_everything(theatre: Theatre, host: Host, rng: Random) -> Act:
    """Kill -9 of all processes of a host at once."""
    victims = host.everything()
    rng.shuffle(victims)
    yield
    host.strike(victims)
    yield
    host.bury(victims)
    # Whoever was started in between is killed as well: nothing of the old life goes on.
    host.kill(host.everything())
    host.launch_again()
    return f"{len(victims)} processes"


def storm(theatre: Theatre, host: Host, rng: Random) -> Act:
    """Kill -9 again and again, each time of somebody else, while the host tries to come back."""
    victims = host.everything()
    yield
    host.strike(victims)
    yield
    host.bury(victims)
    host.launch_again()
    killed = []
    for _ in range(rng.randint(3, 6)):
        time.sleep(rng.uniform(0.2, 6))
        groups = {"generator": host.generators(), "processor": host.processors(), "java": host.daemons()}
        kind = rng.choice([kind for kind, found in groups.items() if found] + ["all"])
        killed.append(kind)
        if kind == "all":
            host.kill(host.everything())
            host.kill(host.everything())
            host.launch_again()
        else:
            host.kill([rng.choice(groups[kind])])
    return f"then {', '.join(killed)}"


def _hold(rng: Random) -> float:
    """Return for how long a store is away: mostly for less than its limit, now and then for longer."""
    limit = STORE_TIMEOUT_MILLIS / 1000
    return rng.uniform(limit + 1, limit + 4) if rng.random() < 0.25 else rng.uniform(2, 5)


def _wait_failing(host: Host, is_it: Callable[[str], bool]) -> None:
    host.wait(
        f"{host.worker}: the generator meets the fault",
        lambda: is_it((host.status().get("failing") or {"message": ""})["message"]),
        FAULT_SECONDS,
    )


def disk_full(theatre: Theatre, host: Host, rng: Random) -> Act:
    """The store's disk is full, or all but full, then free."""
    hold = _hold(rng)
    # A little room may take a block and not its ledger entry, or a part of either.
    leave = rng.choice([0, rng.randrange(1, 40) * 4096])
    (generator,) = host.generators()
    # Most of it goes before the strike, which is to be quick.
    host.disk.fill(generator.pid, leave + ROOM_BYTES)
    yield
    host.disk.fill(generator.pid, leave)
    yield
    _wait_failing(host, is_full)
    time.sleep(hold)
    host.disk.free()
    return f"full but for {leave // 1024} KiB for {hold:.0f} s"


def store_unwritable(theatre: Theatre, host: Host, rng: Random) -> Act:
    """The store's directory refuses to be written to, then takes it."""
    hold = _hold(rng)
    yield
    host.disk.lock()
    yield
    _wait_failing(host, is_locked)
    time.sleep(hold)
    host.disk.unlock()
    return f"unwritable for {hold:.0f} s"


def aws_away(theatre: Theatre, host: Host, rng: Random) -> Act:
    """The emulator is killed, and started again with what it had."""
    away = rng.uniform(1, 8)
    yield
    theatre.cloud.kill()
    yield
    time.sleep(away)
    theatre.cloud.start()
    return f"away for {away:.0f} s"


def _error(operation: str, error: str, *, status: int = 400, after: bool = False) -> dict[str, object]:
    service = "dynamodb" if operation == "UpdateItem" else "kinesis"
    return {
        "service": service,
        "operation": operation,
        "error": error,
        "status": status,
        "after": after,
        "times": 1_000_000,
    }


_TROUBLES: dict[str, dict[str, object]] = {
    "all is down": {"down": True},
    "kinesis is down": {"down": "kinesis"},
    "dynamodb is down": {"down": "dynamodb"},
    "all hangs": {"hang": True},
    "kinesis hangs": {"hang": "kinesis"},
    "dynamodb hangs": {"hang": "dynamodb"},
    "checkpoints are throttled": {"errors": [_error("UpdateItem", "ProvisionedThroughputExceededException")]},
    "checkpoints are done and their answers lost": {
        "errors": [_error("UpdateItem", "InternalServerError", status=500, after=True)]
    },
    "reading is throttled": {"errors": [_error("GetRecords", "ProvisionedThroughputExceededException")]},
    "iterators expire, pages are empty": {},
}
"""What AWS does short of going away. For the lease table every write is an UpdateItem, checkpoints among them."""


def aws_failing(theatre: Theatre, host: Host, rng: Random) -> Act:
    """AWS is down, hangs, throttles, loses answers or lets iterators expire."""
    seconds = rng.uniform(1, 8)
    trouble = rng.choice(list(_TROUBLES))
    yield
    if faults := _TROUBLES[trouble]:
        theatre.cloud.set_faults(**faults)
    else:
        theatre.cloud.configure(iterator_lifetime=0.05, empty_pages=0.5)
    yield
    time.sleep(seconds)
    theatre.cloud.set_faults(down=False, hang=False, errors=[])
    theatre.cloud.configure(iterator_lifetime=300, empty_pages=0)
    return f"{trouble} for {seconds:.0f} s"


def socket_deleted(theatre: Theatre, host: Host, rng: Random) -> Act:
    """The socket file is deleted; in half of the rounds java is killed as well, so that new processors look for it."""
    victims = _victims(host.daemons(), rng) if rng.random() < 0.5 else []
    yield
    host.socket.unlink()
    host.strike(victims)
    yield
    host.bury(victims)
    host.wait("the generator listens again", host.socket.exists, FAULT_SECONDS)
    return "and java killed" if victims else ""


def split(theatre: Theatre, host: Host, rng: Random) -> Act:
    """A shard is split under load."""
    shard = rng.choice(theatre.shards.widest())
    yield
    theatre.shards.split(shard)
    yield
    theatre.wait_active()
    return str(shard["ShardId"])


def merge(theatre: Theatre, host: Host, rng: Random) -> Act:
    """Two shards are merged under load."""
    pair = rng.choice(theatre.shards.neighbours())
    yield
    theatre.shards.merge(*pair)
    yield
    theatre.wait_active()
    return f"{pair[0]} and {pair[1]}"


def reshard_while_down(theatre: Theatre, host: Host, rng: Random) -> Act:
    """All hosts are killed; a shard is split and two are merged; then all is started again."""
    victims = [one for every in theatre.hosts for one in every.everything()]
    yield
    host.strike(victims)
    yield
    for every in theatre.hosts:
        every.kill(every.everything())
    shard = rng.choice(theatre.shards.widest())
    theatre.shards.split(shard)
    theatre.wait_active()
    theatre.load_goes_on()
    pair = rng.choice(theatre.shards.neighbours())
    theatre.shards.merge(*pair)
    theatre.wait_active()
    theatre.load_goes_on()
    for every in theatre.hosts:
        every.launch_again()
    return f"{shard['ShardId']} split, {pair[0]} and {pair[1]} merged"


# Kinds that need a second host


def zombie(theatre: Theatre, host: Host, rng: Random) -> Act:
    """SIGSTOP of a host until its leases are another's and that one has stored, then SIGCONT."""
    other = theatre.other(host)
    leases = sorted(theatre.leases_of(host))
    yield
    stopped = host.freeze()
    yield
    frozen_at = time.monotonic()
    # KCL's leader takes expired leases by itself if it is the other host. A leader that is frozen keeps its lock for
    # minutes; then the leases are moved as a new leader would.
    by_hand = 0
    while left := [shard for shard in theatre.leases_of(host) if shard in leases]:
        if time.monotonic() - frozen_at > theatre.takeover_seconds:
            by_hand += sum(theatre.watch.move_forced(shard, host.worker, other.worker) for shard in left)
        time.sleep(0.2)
    theatre.wait_read(leases)
    theatre.wait_checkpointed(theatre.goal_now())
    host.thaw(stopped)
    return f"{len(leases)} leases, {by_hand} moved by hand, frozen for {time.monotonic() - frozen_at:.0f} s"


def _move(theatre: Theatre, host: Host, rng: Random, move: Callable[[str, str, str], bool]) -> Act:
    other = theatre.other(host)
    leases = sorted(theatre.leases_of(host))
    chosen = rng.sample(leases, rng.randint(1, len(leases)))
    yield
    moved = [shard for shard in chosen if move(shard, host.worker, other.worker)]
    if not moved:
        raise NotNow(f"KCL has moved {chosen} from {host.worker} by itself")
    yield
    theatre.wait_read(moved)
    return f"{len(moved)} from {host.worker} to {other.worker}"


def orderly_move(theatre: Theatre, host: Host, rng: Random) -> Act:
    """Leases are handed over in good order."""
    return (yield from _move(theatre, host, rng, theatre.watch.move_orderly))


def stolen(theatre: Theatre, host: Host, rng: Random) -> Act:
    """Leases are taken by force from a host that goes on."""
    return (yield from _move(theatre, host, rng, theatre.watch.move_forced))


ALONE: dict[str, Kind] = {
    "generator": kill_generator,
    "processor": kill_processor,
    "java": kill_java,
    "supervisor": kill_supervisor,
    "everything": kill_everything,
    "storm": storm,
    "full": disk_full,
    "unwritable": store_unwritable,
    "aws": aws_away,
    "aws-failing": aws_failing,
    "socket": socket_deleted,
    "split": split,
    "merge": merge,
    "reshard-down": reshard_while_down,
}
"""Kinds that one host is enough for."""

TOGETHER: dict[str, Kind] = {"zombie": zombie, "orderly": orderly_move, "stolen": stolen}
"""Kinds that need two hosts."""

KINDS: dict[str, Kind] = {**ALONE, **TOGETHER}

WITHOUT_AWS = frozenset({"aws", "aws-failing"})
"""Kinds after whose strike the lease table can't be asked."""
SUDDEN = frozenset({"generator", "everything", "storm", "unwritable", "zombie"})
"""Kinds whose strike takes no time to speak of, and after which nothing more is stored for a while."""
LASTING = frozenset({"storm", "full", "unwritable", "aws", "aws-failing", "reshard-down", "zombie"})
"""Kinds that last until they are ended: their recovery is counted from that end, that of all others from the strike."""
