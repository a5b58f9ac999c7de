"""What operators do to the fleet: blocks that expire, leases set back, ledgers lost and put in order again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from store_support import local_store, root_of

from kcl_receiver.errors import StoreUnavailable
from kcl_receiver.ids import day_of
from kcl_receiver.maintenance.repair import repair
from kcl_receiver.ranges import TRIM_HORIZON, Position
from kcl_receiver.store.layout import ledger_path
from kcl_receiver.store.ledger.entries import BlockStored, ShardEnded, decode_ledger
from kcl_receiver.store.ledger.store_log import StoreLog
from simulation.generator import ROOT
from simulation.timeline import Process

if TYPE_CHECKING:
    from simulation.fleet import Fleet, Host

Strike = Callable[["Fleet", "Host", float], bool]

STOPPED_SECONDS = 6.0
"""So long the receiver is down for a repair."""


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
    if host.repair_due:
        return False
    store = local_store(ROOT, host.files)
    state = StoreLog(store).newest().state
    read = next((one.record.read for one in fleet.followers if one.host is host), {})
    for writer in store.writers():
        if writer in state.living or writer in state.kept or day_of(writer) >= day_of(state.last):
            continue
        entries = decode_ledger(writer, store.ledger(writer) or b"").entries
        if any(isinstance(entry, ShardEnded) for entry in entries):
            continue  # that a shard was read to its end stands nowhere else
        ranges = [one for entry in entries if isinstance(entry, BlockStored) for one in entry.ranges]
        if any(not read.get(one.shard) or read[one.shard][-1] < one.last for one in ranges):
            fleet.watch.ledger_lost(host, writer)
            host.files.lose(root_of(store) / ledger_path(writer))
            host.repair_due = True
            if fleet.tracing:
                fleet.trace(f"{host.name}: the ledger of {writer} is lost")
            fleet.timeline.at(fleet.timeline.now + fleet.more.uniform(3.0, 9.0), lambda: _stop_and_repair(host))
            return True
    return False


def _stop_and_repair(host: Host) -> None:
    if not host.repair_due:
        return
    timeline = host.fleet.timeline
    host.kill_all(STOPPED_SECONDS)
    timeline.at(timeline.now + 0.5, lambda: SimRepair(host) and None)
    timeline.at(timeline.now + 2 * STOPPED_SECONDS, lambda: _stop_and_repair(host))


class SimRepair(Process):
    """`repair --yes` on a host whose receiver is stopped."""

    def __init__(self, host: Host) -> None:
        super().__init__(host, "repair")
        self._ends = host.fleet.timeline.now + STOPPED_SECONDS - 1.0
        self._store = local_store(ROOT, host.files, token=lambda: f"{host.fleet.more.getrandbits(32):08x}")
        self.later(0.0, self._do)

    def _do(self) -> None:
        if self.host.fleet.timeline.now > self._ends or self.host.generator is not None:
            return
        try:
            report = repair(self._store, self.host.wall_millis(), apply=True)
        except StoreUnavailable:
            self.later(0.3, self._do)
            return
        finally:
            self.host.files.process_died()
        if self.tracing:
            self.say(f"repairs: {report.actions}")
        self.host.repair_due = False
        self.host.fleet.seen["ledgers repaired"] += 1


KINDS: dict[str, Strike] = {
    "blocks expire": _blocks_expire,
    "expire killed in a call": _expire_killed,
    "lease set back": _lease_set_back,
    "ledger of a past day lost": _ledger_lost,
}
