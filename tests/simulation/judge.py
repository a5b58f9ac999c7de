"""The verdict at the end: what the real `verify` says of all stores together, held against what truly happened.

The judge knows everything: which records are stored, which were trimmed before anybody stored them, and when each
shard was read. The hosts' local stores are laid over one another, as if all of them had written to one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kcl_receiver.audit.verify import POSSIBLY_TRIMMED, PROVEN, Report, ShardReport, verify_store
from kcl_receiver.errors import ReceiverError
from kcl_receiver.horizon import interval_ms
from kcl_receiver.proof.coverage import Span
from kcl_receiver.store.ledger.entries import StoreState
from kcl_receiver.store.ledger.store_log import StoreLog
from kcl_receiver.store.ledger.takeover import rebuilt
from kcl_receiver.store.store import Store
from simulation import place
from simulation.stream import IDENTITY, Shard

if TYPE_CHECKING:
    from simulation.fleet import Host
    from simulation.watch import Watch

TOLD = 80
"""Deliveries."""
HORIZON = "read within the horizon"
AGAIN = "reading began again at a starting point, and did not meet what is stored"


def together(hosts: Sequence[Host]) -> Store:
    """Return a store that holds what those of several hosts do: its log says all that theirs say."""
    places = list({host.place.name: host.place for host in hosts}.values())
    if len(places) < len(hosts):
        return places[0].look()  # they share it
    logs = [(one.look(), StoreLog(one.look()).newest()) for one in places]
    # One that was lost begins anew at the next start, which may not have come.
    states = [newest.state if newest.number else rebuilt(store) for store, newest in logs]
    store = place.together(places)
    store.objects.delete([one.key for one in store.objects.list("log/")])
    living = {writer: one for state in states for writer, one in state.living.items()}
    kept = tuple(writer for state in states for writer in state.kept)
    last = max((state.last for state in states), default="")
    StoreLog(store).rebuild(lambda _: StoreState(living=living, kept=kept, last=last))
    return store


def judge(watch: Watch) -> None:
    """Hold what `verify` says against what is true; called when all is stored."""
    fleet = watch.fleet
    try:
        report = verify_store(together(fleet.hosts), now_ms=fleet.stream.millis())
    except ReceiverError as error:
        watch.broken("the ledger is whole", f"verify: {error}")
    _judge_store(watch, report)
    found = {one.shard: one for one in report.shards if one.stream == IDENTITY}
    for shard in fleet.stream.shards.values():
        _judge_shard(watch, shard, found.get(shard.id))


def _judge_store(watch: Watch, report: Report) -> None:
    for what, bad in (
        ("missing", report.missing),
        ("damaged", report.damaged),
        ("faults of ledgers", report.ledger_faults),
    ):
        if bad:
            watch.broken("the ledger is whole", f"verify names {what}: {bad}")


def _judge_shard(watch: Watch, shard: Shard, found: ShardReport | None) -> None:
    lost = watch.lost(shard)
    watch.fleet.seen["records trimmed unread"] += len(lost)
    expired = len(watch.expired(shard))
    stored = len(shard.positions) - shard.before_start - len(lost) - expired
    late = watch.held_late(shard)
    if found is None:
        if stored:
            watch.broken("provable coverage", f"{shard.id}: verify does not know it")
        return
    # A guest that is paused learns of it late: what came since its clock was last measured may be later by all of it.
    fleet = watch.fleet
    unread = max(watch.unread.longest(shard), int(fleet.paused * 1000))
    for gap in found.gaps:
        # Of a gap it is true if a record lies in it that a crash took, and that was trimmed before it was read again;
        # where no checkpoint was made yet, reading began again at what was retained, which may hide where that was.
        true = any((gap.after or one) <= one <= (gap.before or one) for one in lost)
        if not true and (gap.why != AGAIN or unread < _doubtful(watch)):
            watch.broken("provable coverage", f"{shard.id}: {gap}")
    if found.lost:
        watch.broken("provable coverage", f"{shard.id}: {found.lost}")
    if not stored <= found.records <= stored + expired + len(late):
        watch.broken("once per record", f"{shard.id}: verify counts {found.records} records, {stored} are stored")
    for position in lost:
        if any(Span.holds(span, position) for span in found.spans) and position not in late:
            watch.expect(HORIZON, f"{shard.id}: {position} was trimmed unread, and is in a stretch called proven")
            return
    # Where nothing has come since, a few readings tell.
    told = (
        found.ended
        or watch.unread.calls_since_lapse(shard) > TOLD
        or (found.last is not None and lost and lost[-1] < found.last)
    )
    if lost and found.state == PROVEN and watch.was_begun(shard, lost[-1]) and told:
        watch.expect(HORIZON, f"{shard.id} is called proven, and {lost[-1]} was trimmed unread")
    # TRIM_HORIZON asks for what is retained when the first session begins, of which some is about to expire. A machine
    # that lost its power may have stood still before, and what it had delivered may be later by all of that time.
    soon = interval_ms(fleet.stream.retention_hours)
    stood = int(fleet.lapsed * 1000) if any(host.machine_boots for host in fleet.hosts) else 0
    # A pause that a record has shown is in the times already, and a start that follows raises them by it once more.
    known = unread + max(stood, int(fleet.paused * 1000))
    late = [one for one in found.possibly_trimmed if known < (_doubtful(watch) if one.after is not None else soon)]
    # What a ledger said that was lost is not known any more, and where reading began may be among it.
    if found.state == POSSIBLY_TRIMMED and late and not lost and fleet.theme != "repair":
        hours = unread / 3_600_000
        watch.expect(HORIZON, f"{shard.id} is called possibly trimmed, and was left unread for {hours:.1f} h: {found}")


def _doubtful(watch: Watch) -> float:
    """From so many milliseconds without reading on, a shard may be called possibly trimmed."""
    return 0.9 * watch.fleet.stream.retention_hours * 3_600_000
