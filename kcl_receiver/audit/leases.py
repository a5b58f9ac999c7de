"""Compares the checkpoints of KCL's lease table with what is stored: the promise that none is ever past it.

The leases must be read before the store is: a running receiver goes on storing and checkpointing, and then whatever a
lease said is in what is read later. `judge` is arithmetic alone; `look_back` reads the ledger from its end, as far as
is needed to tell how far a checkpoint is behind.

    beyond what is stored   promise 1 is broken, or the rest is in a store that is not this one
    with another host       the same, and the lease is another host's, whose store has the rest; not proven here
    no position stored      the lease has a position, and this store knows nothing of the shard
    gap before it           the checkpoint is stored, and something before it is not
    no lease                the shard was not read to its end, and nobody is going to read it
    read by nobody          no worker has the lease, and none ever stored or checkpointed anything of the shard
    behind, at what is stored, shard end, not begun, ended    all is well
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kcl_receiver.audit.report import ShardReport
from kcl_receiver.ranges import SHARD_END, STARTING_POINTS, Position, StreamIdentity, parse_sequence_number
from kcl_receiver.store.ledger.entries import BlockStored, WriterStarted
from kcl_receiver.store.ledger.reading import Ledger
from kcl_receiver.store.store import Store

if TYPE_CHECKING:
    from kcl_receiver.aws import Lease

BEYOND = "beyond what is stored"
ELSEWHERE = "with another host"
UNKNOWN = "no position stored"
GAP_BEFORE = "gap before it"
NO_LEASE = "no lease"
BEHIND = "behind"
AT = "at what is stored"
ENDED = "shard end"
NOT_BEGUN = "not begun"
UNREAD = "read by nobody"
CLEANED_UP = "ended, and its lease is gone"

WORDS = (BEYOND, ELSEWHERE, UNKNOWN, GAP_BEFORE, NO_LEASE, UNREAD, BEHIND, AT, ENDED, NOT_BEGUN, CLEANED_UP)
AMISS = frozenset({BEYOND, ELSEWHERE, UNKNOWN, GAP_BEFORE, NO_LEASE, UNREAD})
"""The words that take something from the proof."""


@dataclass(frozen=True, slots=True)
class Behind:
    """How far a checkpoint is behind what is stored.

    Attributes:
        records: User records stored after it; one that was stored twice counts twice.
        milliseconds: Between the arrival of the last record up to the checkpoint and of the last that is stored; -1 if
            not known.
    """

    records: int
    milliseconds: int


@dataclass(frozen=True, slots=True)
class LeaseReport:
    """One lease, or a shard of the store that has none.

    Attributes:
        shard: Shard id.
        state: One of `WORDS`.
        checkpoint: The checkpoint as `sequence:sub`, or KCL's word; None without a lease.
        owner: The worker that has the lease, or None.
        stored_through: The last position up to the checkpoint that is stored, or the last of all if the checkpoint is
            no position; None if nothing is.
        behind: How far it is behind; None if that was not looked up, or there is nothing to look up.
        detail: A sentence for people, where the word does not say all.
    """

    shard: str
    state: str
    checkpoint: str | None
    owner: str | None
    stored_through: Position | None
    behind: Behind | None = None
    detail: str = ""

    @property
    def amiss(self) -> bool:
        """Whether it takes something from the proof."""
        return self.state in AMISS


@dataclass(slots=True)
class LookBack:
    """What the end of the ledger says.

    Attributes:
        hosts: Names of the hosts that wrote it.
        behind: By shard, how far its checkpoint is behind.
    """

    hosts: set[str] = field(default_factory=set)
    behind: dict[str, Behind] = field(default_factory=dict)


def checkpoint_of(lease: Lease) -> Position | None:
    """Return a lease's checkpoint as a position, None if it is one of KCL's words.

    Raises:
        ValueError: It is neither.
    """
    if lease.checkpoint == SHARD_END or lease.checkpoint in STARTING_POINTS:
        return None
    return Position(parse_sequence_number(lease.checkpoint), lease.sub_sequence_number)


def judge(leases: Iterable[Lease], shards: Iterable[ShardReport], seen: LookBack | None = None) -> list[LeaseReport]:
    """Compare leases with what is stored, in the order of the shards.

    Args:
        leases: The rows of the lease table, read before the store was.
        shards: What `verify` found of the shards of that stream.
        seen: What the end of the ledger says.

    Raises:
        ValueError: A checkpoint is neither a position nor one of KCL's words.
    """
    seen = seen or LookBack()
    stored = {one.shard: one for one in shards}
    found = []
    for lease in leases:
        shard = stored.pop(lease.shard, None)
        found.append(_unknown(lease, seen) if shard is None else _compare(lease, shard, seen))
    found += [_without(shard) for shard in stored.values()]
    return sorted(found, key=lambda one: one.shard)


def is_of(owner: str | None, hosts: Iterable[str]) -> bool:
    """Tell whether a worker runs on one of these hosts, by its name.

    `run` names it HOST-xxxxxxxxxxxx, KCL itself HOST:uuid, with or without the host's domain. A worker without a name
    is taken for one of ours, so that nothing is excused by it.
    """
    if owner is None:
        return True
    return any(re.match(re.escape(host) + r"(\.[\w.-]+)?(:.*|-[0-9a-f]{12})?\Z", owner) for host in hosts)


def _compare(lease: Lease, shard: ShardReport, seen: LookBack) -> LeaseReport:
    position = checkpoint_of(lease)
    last = shard.spans[-1].high.position if shard.spans else None
    if lease.checkpoint == SHARD_END:
        if not shard.ended:
            detail = "its end is checkpointed, and the ledger does not record that it was reached"
            return _report(lease, _past(lease, seen), last, detail)
        return _report(lease, GAP_BEFORE if shard.gaps else ENDED, last)
    if position is None:
        if last is None:
            return _not_begun(lease)
        return _report(lease, BEHIND, last, "nothing is checkpointed yet", Behind(shard.records, -1))
    through = max((one.high.position for one in shard.spans if one.high.position <= position), default=None)
    if not any(one.holds(position) for one in shard.spans):
        return _report(lease, _past(lease, seen), through, _excuse(lease, seen))
    if any(one.after is None or one.after < position for one in shard.gaps):
        return _report(lease, GAP_BEFORE, position)
    if position == last:
        detail = "its end is stored, and not checkpointed yet" if shard.ended else ""
        return _report(lease, BEHIND if shard.ended else AT, position, detail)
    return _report(lease, BEHIND, last, "", seen.behind.get(lease.shard))


def _past(lease: Lease, seen: LookBack) -> str:
    return BEYOND if is_of(lease.owner, seen.hosts) or not seen.hosts else ELSEWHERE


def _excuse(lease: Lease, seen: LookBack) -> str:
    if _past(lease, seen) == ELSEWHERE:
        return "what lies between should be in that host's store; this one does not prove it"
    return "" if lease.owner is not None else "nobody has the lease now: if another host had it, see that host's store"


def _unknown(lease: Lease, seen: LookBack) -> LeaseReport:
    if lease.checkpoint in STARTING_POINTS:
        return _not_begun(lease)
    checkpoint_of(lease)
    if _past(lease, seen) == ELSEWHERE:
        return _report(lease, ELSEWHERE, None, "this store knows nothing of the shard, and does not prove it")
    return _report(lease, UNKNOWN, None, "this store knows nothing of the shard")


def _not_begun(lease: Lease) -> LeaseReport:
    if lease.owner is not None:
        return _report(lease, NOT_BEGUN, None)
    return _report(lease, UNREAD, None, "nothing of the shard was ever checkpointed; is a receiver running?")


def _without(shard: ShardReport) -> LeaseReport:
    last = shard.spans[-1].high.position if shard.spans else None
    state = CLEANED_UP if shard.ended else NO_LEASE
    detail = "" if shard.ended else "it was not read to its end, and has no lease"
    return LeaseReport(shard.shard, state, None, None, last, None, detail)


def _report(
    lease: Lease, state: str, through: Position | None, detail: str = "", behind: Behind | None = None
) -> LeaseReport:
    position = checkpoint_of(lease)
    shown = lease.checkpoint if position is None else str(position)
    return LeaseReport(lease.shard, state, shown, lease.owner, through, behind, detail)


def look_back(store: Store, stream: StreamIdentity, checkpoints: Mapping[str, Position]) -> LookBack:
    """Read the ledger from its end, until it is known what was stored after each checkpoint.

    Raises:
        StoreUnavailable: It cannot be read now.
    """
    out = LookBack()
    left = dict(checkpoints)
    records = dict.fromkeys(checkpoints, 0)
    arrivals: dict[str, tuple[Position, int]] = {}
    reached: dict[str, tuple[Position, int]] = {}
    ledger = Ledger(store, {})  # verify has said so; this is no proof, but a measure
    oldest: dict[str, str] = {}  # of a shard that was met, the ledgers before this one hold nothing past its checkpoint
    for writer in reversed(ledger.writers):
        left = {shard: one for shard, one in left.items() if writer >= oldest.get(shard, "")}
        if not left:
            break
        met: set[str] = set()
        first = ""  # where it may have grown beside others, they come before
        for entry in ledger.of(writer):
            if isinstance(entry, WriterStarted):
                out.hosts.add(entry.host)
                first = entry.oldest_beside
            if not isinstance(entry, BlockStored) or entry.stream != stream:
                continue
            for one in entry.ranges:
                checkpoint = left.get(one.shard)
                if checkpoint is None:
                    continue
                if one.first > checkpoint:
                    records[one.shard] += one.count
                else:
                    met.add(one.shard)
                    _keep_latest(reached, one.shard, (min(one.last, checkpoint), one.arrival_last))
                _keep_latest(arrivals, one.shard, (one.last, one.arrival_last))
        met -= oldest.keys()
        if met:
            oldest.update(dict.fromkeys(met, first))
    for shard, count in records.items():
        last, at = arrivals.get(shard, (None, -1))[1], reached.get(shard, (None, -1))[1]
        out.behind[shard] = Behind(count, max(0, last - at) if min(last, at) >= 0 else -1)
    return out


def _keep_latest(known: dict[str, tuple[Position, int]], shard: str, one: tuple[Position, int]) -> None:
    if shard not in known or known[shard] < one:
        known[shard] = one
