"""Maintenance beside the receiver: a process that merges blocks, or removes old ones, and is killed like every other.

The transaction, `expire` and the local store are the real ones; which blocks are merged is left to chance, and they are
of the stand-in's form. Where hosts share a store, each has such a process, and they work at once: each takes a step at
a time on its way from a plan to deletion. It draws from a generator of random numbers of its own, so that the faults of
a seed stay what they are.
"""

from __future__ import annotations

import random
from itertools import groupby
from typing import TYPE_CHECKING, Any

from ledger_index import LedgerIndex

from kcl_receiver.errors import BlockDamaged, BlockMissing, LedgerDamaged, StoreUnavailable
from kcl_receiver.ids import block_day
from kcl_receiver.maintenance.expire import Expiry
from kcl_receiver.maintenance.retired_blocks import Leftovers, delete_orphans
from kcl_receiver.store.blocks.encode import BlockRange
from kcl_receiver.store.ledger.entries import BlockStored
from kcl_receiver.store.ledger.merging import merge_left_over
from kcl_receiver.store.ledger.reading import Ledger
from kcl_receiver.store.ledger.transaction import (
    COMPACT,
    DayChanges,
    Transaction,
    TransactionOvertaken,
    delete_recorded,
    load_to_change,
)
from kcl_receiver.store.store import Store
from simulation import blocks
from simulation.place import BucketPlace
from simulation.timeline import Process

if TYPE_CHECKING:
    from simulation.fleet import Host


ORPHAN_MILLIS = 1_000
"""So young a block in no ledger is left alone in a bucket: less than some runs take, so that they are overtaken."""
TIDY = 0.3
"""So often a run deletes what others have left, and does not merge."""


class SimMaintenance(Process):
    """See the module. It goes on until there are no faults any more."""

    def __init__(self, host: Host) -> None:
        super().__init__(host, "maintenance")
        self.rng = random.Random(f"{host.fleet.seed} {host.name} {self.pid}")
        self.store = Store(host.place.objects(self._token))
        self.is_at_work = False
        self._pause(self._begin)

    def _token(self) -> str:
        return f"{self.rng.getrandbits(32):08x}"

    def _pause(self, call: Any, *args: Any) -> None:  # noqa: ANN401 - what comes next
        self.is_at_work = call != self._begin  # it holds the lock of maintenance, which its process would hold
        pauses = (0.01, 0.2, 2.0) if self.is_at_work else (0.5, 3.0, 8.0)
        asleep = max(0.0, self.host.fleet.asleep_until - self.host.fleet.timeline.now)
        self.later(asleep + self.rng.choice(pauses), self._do, call, *args)

    def _do(self, call: Any, *args: Any) -> None:  # noqa: ANN401
        """Do the next step; the same again if the store does not do it now."""
        try:
            call(*args)
        except StoreUnavailable:
            self._pause(call, *args)
        except (LedgerDamaged, BlockMissing, BlockDamaged):
            # What a killed generator left is not in order yet, or it was never durable: begin anew.
            self._pause(self._begin)

    def _begin(self) -> None:
        if self.host.fleet.quiet:
            return
        if isinstance(self.host.place, BucketPlace):
            merge_left_over(self.store)
        if self.host.expire_before is not None:
            self._pause(self._expire, self.host.expire_before)
            return
        if not self.host.fleet.compacts:
            self._pause(self._begin)
            return
        if self.host.fleet.on_bucket and self.rng.random() < TIDY:
            self._find_retired()
            return
        index = LedgerIndex.load(self.store)
        # The real one leaves alone what is younger than an hour: by then a line of the ledger is durable. It goes by
        # ledgers alone: what was in one that is lost is in none until it is repaired.
        durable = self.host.fleet.watch.scan(self.host).ledger - {entry.block for entry in index.adopted}
        there = [
            entry
            for block, entry in sorted(index.blocks().items())
            if block in durable and block not in index.replaced and self.store.has_block(block)
        ]
        days = [list(group) for _, group in groupby(there, key=lambda one: block_day(one.block))]
        days = [group for group in days if len(group) > 1]
        if not days:
            self._pause(self._begin)
            return
        day = self.rng.choice(days)
        start = self.rng.randrange(len(day) - 1)
        chosen = day[start : start + self.rng.randint(2, 4)]
        transaction = Transaction(self.store, chosen[0].block, COMPACT, self.host.wall_millis(), self._token())
        self.host.maintainers.add(transaction.writer)
        block = transaction.next_block_id()
        parts: dict[Any, BlockRange] = {}
        for entry in chosen:
            for one, columns in blocks.read_ranges(self.store.read_block(entry.block)):
                parts[one.shard, one.session, one.first, one.last] = BlockRange(one, columns)
        encoded = blocks.encode_block(block, transaction.writer, chosen[0].stream, list(parts.values()), "none")
        if self.tracing:
            self.say(f"merges {', '.join(one.block[-12:] for one in chosen)} into {block}")
        new = BlockStored(
            block, chosen[0].stream, encoded.ranges, encoded.rows, len(encoded.payload), self.host.wall_millis()
        )
        self._pause(self._put, transaction, encoded.payload, new, chosen)

    def _put(self, transaction: Transaction, payload: bytes, new: BlockStored, old: list[BlockStored]) -> None:
        self.store.put_block(new.block, payload)
        transaction.add_block(new, old)
        self._pause(self._commit, transaction)

    def _commit(self, transaction: Transaction) -> None:
        try:
            transaction.commit()
        except TransactionOvertaken:
            self.host.fleet.seen["transactions overtaken"] += 1
            self._pause(self._drop, transaction)
            return
        self._pause(self._retire, transaction)

    def _find_retired(self) -> None:
        """What compaction begins a day with: what was replaced, or made and not recorded, and is not needed."""
        days = list(self.store.blocks_by_day())
        if not days:
            self._pause(self._begin)
            return
        day, present = self.rng.choice(days)
        changes = load_to_change(self.store, day)
        if changes.faults:
            raise changes.faults[0]
        found = Leftovers(Ledger(self.store, {}), changes, present, self.host.wall_millis())
        self._pause(self._delete_retired, changes, found.replaced(), found.orphans())

    def _delete_retired(self, changes: DayChanges, replaced: list[str], orphans: list[str]) -> None:
        delete_recorded(self.store, replaced)
        try:
            delete_orphans(self.store, changes, orphans, COMPACT, self.host.wall_millis())
            self.host.fleet.seen["orphans deleted"] += len(orphans)
        except TransactionOvertaken:
            self.host.fleet.seen["transactions overtaken"] += 1
        self._pause(self._begin)

    def _drop(self, transaction: Transaction) -> None:
        taken_in = transaction.changes.since.recorded
        self.store.delete_blocks([one.block for one in transaction.new if one.block not in taken_in])
        self._pause(self._begin)

    def _retire(self, transaction: Transaction) -> None:
        transaction.retire()
        self._pause(self._begin)

    def _expire(self, before_ms: int) -> None:
        """What `expire` does; its entries and what it deletes can be cut off anywhere."""
        if self.host.expire_kill is not None:
            self.host.medium.kill_in(*self.host.expire_kill)
            self.host.host_dies, self.host.expire_kill = False, None
        expiry = Expiry(self.store, before_ms)
        expiry.finish()
        done = list(expiry.run(self.host.wall_millis()))
        if self.tracing:
            self.say(f"expired what arrived before {before_ms}: {sum(one.blocks for one in done)} blocks")
        self.host.fleet.seen["blocks expired"] += sum(one.blocks for one in done)
        self.host.expire_before = None
        self._pause(self._begin)
