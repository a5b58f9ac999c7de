"""What is durable of one host's store's log, and what must be true of it at every moment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kcl_receiver.ranges import TRIM_HORIZON, Position, parse_position
from simulation.leases import order
from simulation.plain_json import loads

if TYPE_CHECKING:
    from simulation.fleet import Host
    from simulation.watch import Watch

ENTRIES_OF_A_WRITER = 3
"""So many entries there are at most for each: one when it begins, one when its ledger is not needed any more."""

LIVING = "the living are known"
CLOSED = "who has ended is closed"
NEEDED = "a start reads what is needed"
NUMBERED = "the log is whole"


@dataclass
class LogView:
    """See the module.

    Attributes:
        writers: How many were begun.
        state: What the newest entry says; empty before there is any, and while the log is lost.
    """

    writers: int = 0
    state: dict[str, Any] = field(default_factory=dict)
    _seen: int = 0
    _lost: int = -1
    _grown: set[str] = field(default_factory=set)
    _reach: dict[str, dict[str, Position]] = field(default_factory=lambda: defaultdict(dict))

    def recorded(self, writer: str, ranges: Iterable[Mapping[str, Any]]) -> None:
        """A ledger has a durable entry of a block with these ranges."""
        reach = self._reach[writer]
        for one in ranges:
            last = parse_position(one["last"])
            reach[one["shard"]] = max(last, reach.get(one["shard"], last))

    def grew(self, writer: str) -> None:
        """A ledger has durable lines that it did not have."""
        self._grown.add(writer)

    def ledger_lost(self, writer: str) -> None:
        """A ledger was taken away."""
        self._reach.pop(writer, None)
        self._grown.discard(writer)

    def lost(self, left: int) -> None:
        """The newest entry was damaged, or all were taken away, and so many are left: the next one begins anew."""
        self.state, self._seen, self._lost = {}, left, left

    def scan(self, watch: Watch, host: Host, entries: Mapping[str, bytes], ledgers: set[str], closed: set[str]) -> None:
        """Take in what is durable now: the entries by their name, the ledgers, and which of them are closed."""
        if len(entries) == self._seen and not self._grown:
            return
        changed = len(entries) != self._seen and self._read(watch, host, entries)
        if self._lost >= 0:
            return
        living = self.state.get("living", {})
        for writer in ledgers if changed else self._grown:
            if writer not in living and writer not in closed:
                watch.broken(CLOSED, f"{host.name}: {writer} is none of the living, and its ledger is not closed")
        self._grown.clear()
        if changed:
            if len(living) > 1 and not watch.fleet.on_bucket:  # there one that has ended may come to be named late
                watch.broken(LIVING, f"{host.name}: {', '.join(living)} are living, and one can be")
            self.check_needed(watch, host, watch.fleet.stream.shards)

    def _read(self, watch: Watch, host: Host, entries: Mapping[str, bytes]) -> bool:
        """Read the newest entry; return whether there is one that counts."""
        numbers = sorted(int(name.partition(".")[0]) for name in entries)
        if len(numbers) <= self._lost:
            return False
        self._lost = -1
        if len(numbers) < self._seen:
            watch.broken("what is durable stays", f"{host.name}: an entry of the log is gone that was durable")
        if numbers != list(range(1, len(numbers) + 1)):
            watch.broken(NUMBERED, f"{host.name}: its entries are {numbers}")
        if len(numbers) > ENTRIES_OF_A_WRITER * self.writers:
            watch.broken(NUMBERED, f"{host.name}: {len(numbers)} entries, and {self.writers} writers were begun")
        self._seen = len(numbers)
        newest = next(one for name, one in entries.items() if int(name.partition(".")[0]) == len(numbers))
        try:
            self.state = loads(newest)
        except ValueError:
            watch.broken(NUMBERED, f"{host.name}: its newest entry would not survive whole")
        return True

    def check_needed(self, watch: Watch, host: Host, shards: Iterable[str]) -> None:
        """What a session needs that begins at its checkpoint is in a ledger that a start reads, or it looks further."""
        if self._lost >= 0 or not self.state:
            return
        read = {*self.state.get("living", ()), *self.state.get("kept", ())}
        forgotten = self.state.get("forgotten", {})
        rows = watch.fleet.leases.rows
        for shard in shards:
            checkpoint = order(rows[shard].checkpoint if shard in rows else TRIM_HORIZON)
            if shard in forgotten and checkpoint < parse_position(forgotten[shard]["through"]):
                continue  # it looks through all ledgers
            for writer, reach in self._reach.items():
                last = reach.get(shard)
                if last is None or last <= checkpoint or writer in read or watch.trimmed(shard, last):
                    continue
                watch.broken(NEEDED, f"{host.name}: {writer} holds {shard} {last}, past {checkpoint}, and is not kept")
