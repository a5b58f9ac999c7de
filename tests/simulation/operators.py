"""What operators do to the fleet: blocks that expire, leases set back, ledgers lost and put in order again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kcl_receiver.errors import StoreUnavailable
from kcl_receiver.ids import day_of, writer_of
from kcl_receiver.maintenance.repair import repair
from kcl_receiver.ranges import TRIM_HORIZON, Position
from kcl_receiver.store.layout import ledger_path, log_path
from kcl_receiver.store.ledger.entries import BlockStored, Entry, ShardEnded, decode_ledger
from kcl_receiver.store.ledger.store_log import StoreLog
from kcl_receiver.store.store import Store
from simulation.place import BucketPlace
from simulation.timeline import Process

if TYPE_CHECKING:
    from simulation.fleet import Fleet, Host

Strike = Callable[["Fleet", "Host", float], bool]

STOPPED_SECONDS = 6.0
"""So long the receiver is down for a repair."""


def _blocks_expire(fleet: Fleet, host: Host, _: float) -> bool:
    """`expire`, of what arrived some seconds ago: that some of it is not checkpointed yet is the operator's risk."""
    host = fleet.maintainer(host)
    host.expire_before = fleet.stream.millis() - int(fleet.more.uniform(1.0, 20.0) * 1000)
    return True


def _expire_killed(fleet: Fleet, host: Host, _: float) -> bool:
    """`expire` is killed on its way, and often the power goes then."""
    host = fleet.maintainer(host)
    host.expire_kill = fleet.more.choice(("/maintenance/", "/blocks/")), fleet.more.randint(0, 6)
    if fleet.more.random() < 0.6:
        fleet.timeline.at(fleet.timeline.now + fleet.more.uniform(4.0, 14.0), host.die)
    return _blocks_expire(fleet, host, 0.0)


def _lease_set_back(fleet: Fleet, host: Host, _: float) -> bool:
    """An operator writes a checkpoint into a lease that it had before, or that it is to begin anew."""
    shards = fleet.stream.shards
    rows = [row for row in fleet.leases.rows.values() if isinstance(row.checkpoint, Position) and row.owner is not None]
    if not rows:
        return False
    row = fleet.more.choice(rows)
    shard = shards[row.shard]
    lost = set(fleet.watch.lost(shard))  # none of them ever was a checkpoint
    whole = [
        one for one in shard.positions if one <= row.checkpoint and shard.last_sub[one[0]] == one[1] and one not in lost
    ]
    fleet.leases.set_back(row, fleet.more.choice((TRIM_HORIZON, whole[0], fleet.more.choice(whole))))
    return True


def set_back_after(host: Host) -> None:
    """`expire` was killed on this host: a lease of it is set back before anybody runs it again."""
    fleet = host.fleet
    worker = None if host.daemon is None else host.daemon.worker
    rows = [row for row in fleet.leases.rows.values() if row.owner == worker and isinstance(row.checkpoint, Position)]
    if worker is not None and rows:
        row = fleet.more.choice(rows)
        fleet.leases.set_back(row, TRIM_HORIZON)
        fleet.leases.give(row, worker)


def _ledger_lost(fleet: Fleet, host: Host, _: float) -> bool:
    """The file of a ledger of an earlier day is gone; the receiver is stopped for a repair.

    One of which nobody notices the loss before: a follower that has not read all of it waits where it ends.
    """
    if host.repair_due or isinstance(host.place, BucketPlace):
        return False
    store = host.place.look()
    state = StoreLog(store).newest().state
    read = next((one.record.read for one in fleet.followers if one.host is host), {})
    for writer in store.writers():
        if writer in state.living or writer in state.kept or day_of(writer) >= day_of(state.last):
            continue
        entries = _entries(store, writer)
        if any(isinstance(entry, ShardEnded) for entry in entries):
            continue  # that a shard was read to its end stands nowhere else
        ranges = [one for entry in entries if isinstance(entry, BlockStored) for one in entry.ranges]
        if any(not read.get(one.shard) or read[one.shard][-1] < one.last for one in ranges):
            fleet.watch.ledger_lost(host, writer)
            host.place.lose(ledger_path(writer))
            host.repair_due = True
            if fleet.tracing:
                fleet.trace(f"{host.name}: the ledger of {writer} is lost")
            fleet.timeline.at(fleet.timeline.now + fleet.more.uniform(3.0, 9.0), lambda: _stop_and_repair(host))
            return True
    return False


def _kept_ledger_lost(fleet: Fleet, host: Host, _: float) -> bool:
    """The file of a closed ledger is gone that the next start reads; the receiver is stopped at once for a repair."""
    if host.repair_due or host.successor is not None or isinstance(host.place, BucketPlace):
        return False
    store = host.place.look()
    state = StoreLog(store).newest().state
    there = [one for one in state.kept if store.ledger(one) is not None]  # one may have been lost before
    kept = [one for one in there if not any(isinstance(entry, ShardEnded) for entry in _entries(store, one))]
    if not kept or _merged_unrecorded(host, store):
        return False
    writer = fleet.more.choice(kept)
    host.kill_all(STOPPED_SECONDS)
    fleet.watch.ledger_lost(host, writer)
    host.place.lose(ledger_path(writer))
    if fleet.tracing:
        fleet.trace(f"{host.name}: the ledger of {writer} is lost, which is kept")
    _repair_soon(host)
    return True


def _merged_unrecorded(host: Host, store: Store) -> bool:
    """Whether maintenance has merged blocks and not said so yet: repair would take in all of them."""
    made = [block for block, _ in store.list_blocks() if writer_of(block) in host.maintainers]
    return not host.fleet.watch.scan(host).merged.issuperset(made)


def _entries(store: Store, writer: str) -> list[Entry]:
    return decode_ledger(writer, store.ledger(writer) or b"").entries


def _log_lost(fleet: Fleet, host: Host, _: float) -> bool:
    """All of the store's log is gone. A start gets over it, with a repair before it or without."""
    numbers = _stop_with_log(host)
    if isinstance(host.place, BucketPlace):
        host.place.bucket.forget(" log/")  # nobody deletes a log while a request is on its way
    for number in numbers:
        host.place.lose(log_path(number))
    if numbers:
        fleet.watch.log_lost(host, 0)
        fleet.seen["logs lost"] += 1
        if fleet.more.random() < 0.5:
            _repair_soon(host)
    return bool(numbers)


def _log_damaged(fleet: Fleet, host: Host, _: float) -> bool:
    """The newest entry of the store's log is not as it was written: no start gets over that without a repair."""
    # In a bucket repair cannot tell that no generator is at work, and leaves the log alone.
    numbers = [] if isinstance(host.place, BucketPlace) else _stop_with_log(host)
    if numbers:
        host.place.damage(log_path(numbers[-1]))
        fleet.watch.log_lost(host, len(numbers))
        fleet.seen["logs lost"] += 1
        _repair_soon(host)
    return bool(numbers)


def _stop_with_log(host: Host) -> list[int]:
    """Stop the receiver on a host; return the numbers of the log's entries, none if nothing is to be done to them."""
    newest = host.place.look().newest_log_number()
    if host.repair_due or host.successor is not None or not newest or host.fleet.shared:
        return []
    host.kill_all(host.fleet.more.choice((1.0, STOPPED_SECONDS)))
    host.fleet.watch.scan(host)
    return list(range(1, newest + 1))


def _repair_soon(host: Host) -> None:
    """The receiver is stopped; where it is started too early, it stops again."""
    host.repair_due = True
    timeline = host.fleet.timeline
    timeline.at(timeline.now + host.fleet.more.choice((0.5, 2.5)), lambda: SimRepair(host) and None)
    timeline.at(timeline.now + 2 * STOPPED_SECONDS, lambda: _stop_and_repair(host))


def _stop_and_repair(host: Host) -> None:
    if not host.repair_due:
        return
    host.kill_all(STOPPED_SECONDS)
    _repair_soon(host)


class SimRepair(Process):
    """`repair --yes` on a host whose receiver is stopped, or beside it."""

    def __init__(self, host: Host, *, beside: bool = False) -> None:
        super().__init__(host, "repair")
        self._beside = beside
        self._ends = host.fleet.timeline.now + STOPPED_SECONDS - 1.0
        self._store = Store(host.place.objects(lambda: f"{host.fleet.more.getrandbits(32):08x}"))
        self.later(0.0, self._do)

    def _do(self) -> None:
        if self.host.fleet.timeline.now > self._ends or (self.host.generator is not None and not self._beside):
            return
        maintenance = self.host.fleet.maintainer(self.host).maintenance
        if maintenance is not None and maintenance.is_at_work and not isinstance(self.host.place, BucketPlace):
            self.later(0.3, self._do)
            return
        try:
            report = repair(self._store, self.host.wall_millis(), apply=True)
        except StoreUnavailable:
            self.later(0.3, self._do)
            return
        finally:
            self.host.medium.process_died()
        if self.tracing:
            self.say(f"repairs: {report.actions}")
        if self._beside:
            return
        self.host.repair_due = False
        self.host.fleet.seen["ledgers repaired"] += 1


KINDS: dict[str, Strike] = {
    "blocks expire": _blocks_expire,
    "expire killed in a call": _expire_killed,
    "lease set back": _lease_set_back,
    "ledger of a past day lost": _ledger_lost,
    "ledger that is kept lost": _kept_ledger_lost,
    "log lost": _log_lost,
    "log damaged": _log_damaged,
}
