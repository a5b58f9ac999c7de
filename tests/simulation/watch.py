"""The invariants. They read the simulated disk, the lease table and what goes over pipes and sockets, never the state
of a tracker, a generator or a processor.

A record counts as stored when its block and the block's ledger entry would both be there after a loss of power.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from ledger_index import LedgerIndex

from kcl_receiver import errors
from kcl_receiver.errors import BlockDamaged, ReceiverError
from kcl_receiver.generator.effects import Append, BlockRecord, WriteBlock
from kcl_receiver.ids import writer_of
from kcl_receiver.proof.chain import GAP, LATE
from kcl_receiver.proof.coverage import select
from kcl_receiver.ranges import After, Position, Range, parse_position
from kcl_receiver.wire.columns import Columns
from kcl_receiver.wire.messages import Batch
from simulation import blocks
from simulation.follower import MISSES_NOTHING, REPAIRED, STORED_AGAIN, Record, read_whole
from simulation.generator import SimGenerator
from simulation.judge import judge
from simulation.leases import SHARD_END, Checkpoint, order
from simulation.log import LogView
from simulation.plain_json import loads
from simulation.processor import SimProcessor
from simulation.stream import IDENTITY, Shard
from simulation.timeline import Process
from simulation.unread import Unread

if TYPE_CHECKING:
    from simulation.daemon import Consumer
    from simulation.fleet import Fleet, Host

STATES = ("admitted", "in a block", "stored", "in the ledger", "reported", "checkpointed")
ADMITTED, IN_BLOCK, STORED, IN_LEDGER, REPORTED, CHECKPOINTED = range(1, 7)

UNWELCOMED = 300.0
"""receiver.storeTimeoutMillis in seconds, as a processor takes it that was never told."""
SLACK = 5.0
"""Virtual seconds by which an action may take longer than its limits say: the way there and back, and pauses."""


class Broken(BaseException):
    """An invariant does not hold."""

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(f"{invariant}: {what}")
        self.invariant = invariant
        self.what = what

    def __reduce__(self) -> tuple[type[Broken], tuple[str, str]]:
        return Broken, (self.invariant, self.what)


@dataclass
class SessionView:
    """One session as seen on the daemon's pipe and on the wire."""

    id: str
    shard: Shard
    start: After
    host: str
    age: int = 0
    welcomed: bool = False
    looked: float = 0.0
    drained: bool = False
    progress: float = 0.0
    admitted_by: dict[int, int] = field(default_factory=dict)
    reported: int = 0
    delivered: list[Position] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    firsts: list[Position] = field(default_factory=list)
    lasts: list[Position] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)


@dataclass
class DiskView:
    """What of one host's store would survive.

    Some of its attributes: `held` has the blocks that were seen to be there while their ledger was, `came_late` those
    that came when their ledger was closed, and that `repair` has recorded, `twice` the records in these, which may have
    been stored again before.
    """

    changes: int = -1
    waiting: dict[str, list[tuple[str, list[blocks.Row]]]] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    whole: dict[str, tuple[bytes, list[tuple[Range, list[blocks.Row]]]]] = field(default_factory=dict)
    ledger: set[str] = field(default_factory=set)
    ends: set[str] = field(default_factory=set)
    lines: dict[str, int] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    log: LogView = field(default_factory=LogView)
    maintenance: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)
    merged: set[str] = field(default_factory=set)
    replaced_by: dict[str, str] = field(default_factory=dict)
    came_late: set[str] = field(default_factory=set)
    twice: set[tuple[str, Position]] = field(default_factory=set)
    stored_by: dict[tuple[str, Position], tuple[str, float]] = field(default_factory=dict)
    replaced: dict[str, set[str]] = field(default_factory=dict)
    expired: dict[str, int] = field(default_factory=dict)
    expired_at: dict[tuple[str, Position], float] = field(default_factory=dict)
    records: set[tuple[str, Position]] = field(default_factory=set)


class Watch:
    """See the module."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.sessions: dict[str, SessionView] = {}
        self.by_shard: dict[str, list[SessionView]] = defaultdict(list)
        self.levels: Counter[int] = Counter()
        self.disks: dict[str, DiskView] = {host.place.name: DiskView() for host in fleet.hosts}
        self.stored: set[tuple[str, Position]] = set()
        self.pointer: dict[str, int] = {}
        self.window: dict[tuple[int, str], dict[tuple[str, int], int]] = {}
        self.cut_there: set[tuple[int, str, int]] = set()
        self.exits: Counter[str] = Counter()
        self.awaited: Counter[str] = Counter()
        self.checkpoints = self.ages = 0
        self.hosts_of: dict[str, tuple[str, int]] = {}
        self.looks: dict[tuple[str, int], float] = {}
        self.unread = Unread(fleet.stream)

    def broken(self, invariant: str, what: str) -> NoReturn:
        raise Broken(invariant, what)

    def expect(self, invariant: str, what: str) -> None:
        """As `broken`; of what is awaited, it is only counted how often it does not hold yet."""
        if not self.fleet.plays(invariant):
            self.awaited[invariant] += 1
            return
        self.broken(invariant, what)

    # ------------------------------------------------------------------ what is seen

    def session_began(self, child: SimProcessor, shard: Shard, checkpoint: Checkpoint) -> None:
        view = SessionView(child.session, shard, checkpoint, child.host.name)
        self.sessions[child.session] = view
        self.by_shard[shard.id].append(view)
        self.unread.began(shard)
        self.scan(child.host)
        self.disks[child.host.place.name].log.check_needed(self, child.host, [shard.id])

    def line_read(self, child: SimProcessor) -> None:
        """A processor has read a line. By the first one it is ordered: it may be stopped with that in its pipe."""
        view = self.sessions[child.session]
        if not view.age:
            self.ages += 1
            view.age = self.ages

    def delivered(self, child: SimProcessor, positions: list[Position]) -> None:
        view = self.sessions[child.session]
        seen = view.delivered
        last = seen[-1] if seen else None
        seen += [one for one in positions if last is None or one > last]
        self.unread.delivered(view.shard, seen[-1] if seen else None)

    def sent(self, child: SimProcessor, batch: Batch) -> None:
        view = self.sessions[child.session]
        if batch.number <= len(view.batches):
            if view.batches[batch.number - 1] != batch:
                self.broken("batches whole", f"{view.id}: batch {batch.number} was sent again, and it was another one")
            return
        if batch.number != len(view.batches) + 1:
            self.broken("batches whole", f"{view.id}: batch {batch.number} was sent after {len(view.batches)}")
        view.batches.append(batch)
        view.firsts.append(parse_position(batch.first))
        view.lasts.append(parse_position(batch.last))
        view.levels.append(0)

    def _advance(self, view: SessionView, number: int, level: int) -> None:
        before = view.levels[number - 1]
        if before >= level:
            return
        view.levels[number - 1] = level
        if before:
            self.levels[before] -= 1
        self.levels[level] += 1
        self.fleet.reached(level)

    def admitted(self, generator: SimGenerator, session: str, number: int) -> None:
        view = self.sessions[session]
        batch = view.batches[number - 1]
        view.progress = self.fleet.timeline.now
        view.admitted_by[number] = generator.pid
        self._advance(view, number, ADMITTED)
        window = self.window.setdefault((generator.pid, view.shard.id), {})
        if any(other != session for other, _ in window):
            # What the session before had in the block that was being built is dropped when it ends.
            for key in [key for key in window if key[0] != session and (generator.pid, *key) not in self.cut_there]:
                del window[key]
        disk = self.scan(generator.host)
        low = bisect_left(view.delivered, view.firsts[number - 1])
        high = bisect_right(view.delivered, view.lasts[number - 1])
        if all(self._was_held(disk, view, one) for one in view.delivered[low:high]):
            return
        window[session, number] = sum(batch.lengths)
        if len(window) > 1 and sum(window.values()) > generator.settings.window_bytes:
            self.broken("memory", f"{view.shard.id}: {sum(window.values())} bytes admitted and not stored")

    def _was_held(self, disk: DiskView, view: SessionView, position: Position) -> bool:
        """Whether a record is stored: what was removed on purpose since its session looked was there when it looked."""
        key = view.shard.id, position
        return key in disk.records or disk.expired_at.get(key, -1.0) >= view.looked

    def cut(self, generator: SimGenerator, effect: WriteBlock) -> None:
        for view, number in self._parts(effect, IN_BLOCK):
            self.cut_there.add((generator.pid, view.id, number))

    def written(self, generator: SimGenerator, effect: WriteBlock) -> None:
        self._parts(effect, STORED)
        generator.host.fleet.written[generator.pid, effect.number] = effect

    def appended(self, generator: SimGenerator, effect: Append) -> None:
        for record in effect.records:
            if isinstance(record, BlockRecord):
                block = generator.host.fleet.written.pop((generator.pid, record.number), None)
                if block is not None:
                    for view, number in self._parts(block, IN_LEDGER):
                        self.window.get((generator.pid, view.shard.id), {}).pop((view.id, number), None)

    def _parts(self, effect: WriteBlock, level: int) -> list[tuple[SessionView, int]]:
        out = []
        for part in effect.parts:
            view = self.sessions[part.range.session]
            number = bisect_right(view.firsts, part.range.first)
            if number:
                self._advance(view, number, level)
                out.append((view, number))
        return out

    def reported(self, generator: SimGenerator, session: str, number: int) -> None:
        view = self.sessions[session]
        if number > len(view.batches):
            self.broken("reported", f"{session}: stored through {number}, {len(view.batches)} were sent")
        if not number or view.levels[number - 1] >= REPORTED:
            return
        view.progress = self.fleet.timeline.now
        disk = self.scan(generator.host)
        last = view.lasts[number - 1]
        reach = bisect_right(view.delivered, last)
        for position in view.delivered[view.reported : reach]:
            if not self._was_held(disk, view, position):
                self.broken("reported", f"{view.shard.id} {position}: reported as stored, and would not survive")
        view.reported = max(view.reported, reach)
        for one in range(number, 0, -1):
            if view.levels[one - 1] >= REPORTED:
                break
            self._advance(view, one, REPORTED)

    def checkpointed(self, shard_id: str, checkpoint: Checkpoint, session: str) -> None:
        self.checkpoints += 1
        shard = self.fleet.stream.shards[shard_id]
        reach = order(checkpoint)
        for missing in self._unstored(shard):
            if missing > reach:
                break
            delivered = self.sessions[session].delivered
            at = bisect_left(delivered, missing)
            # What was trimmed before this session came to it cannot be stored by anybody.
            if not self._trimmed(shard, missing) or (at < len(delivered) and delivered[at] == missing):
                self.broken("no loss", f"{shard_id}: checkpoint at {checkpoint}, and {missing} is not stored")
        if checkpoint == SHARD_END:
            if not shard.closed:
                self.broken("shard end", f"{shard_id} is open, and its lease says SHARD_END")
            if not any(shard_id in disk.ends for disk in self.disks.values()):
                self.broken("shard end", f"{shard_id}: its lease says SHARD_END, and no ledger does")
        elif isinstance(checkpoint, Position) and (
            shard.last_sub.get(checkpoint.sequence_number) != checkpoint.sub_sequence_number
        ):
            self.broken("only whole records", f"{shard_id}: checkpoint at {checkpoint}, inside of a Kinesis record")
        for view in self.by_shard[shard_id]:
            for number in range(bisect_right(view.lasts, reach), 0, -1):
                if view.levels[number - 1] == CHECKPOINTED:
                    break
                if view.levels[number - 1]:
                    self._advance(view, number, CHECKPOINTED)

    def _unstored(self, shard: Shard) -> Iterator[Position]:
        """Yield the records that are not stored on any host, in order."""
        for host in self.fleet.hosts:
            self.scan(host)
        pointer = self.pointer.get(shard.id, shard.before_start)
        while pointer < len(shard.positions) and (shard.id, shard.positions[pointer]) in self.stored:
            pointer += 1
        self.pointer[shard.id] = pointer
        for at in range(pointer, len(shard.positions)):
            if (shard.id, shard.positions[at]) not in self.stored:
                yield shard.positions[at]

    def _trimmed(self, shard: Shard, position: Position) -> bool:
        kept = self.fleet.stream.retained_from(shard)
        return kept == len(shard.positions) or position < shard.positions[kept]

    def trimmed(self, shard: str, position: Position) -> bool:
        """Whether the stream holds nothing any more up to a position."""
        return self._trimmed(self.fleet.stream.shards[shard], position)

    def lost(self, shard: Shard) -> list[Position]:
        """Return the records that were trimmed, and that nobody has stored."""
        return [one for one in self._unstored(shard) if self._trimmed(shard, one)]

    def expired(self, shard: Shard) -> set[Position]:
        """Return the records that were removed on purpose, and are in no block any more."""
        disks = self.disks.values()
        gone = {position for disk in disks for of, position in disk.expired_at if of == shard.id}
        return {one for one in gone if not any((shard.id, one) in disk.records for disk in disks)}

    def was_begun(self, shard: Shard, position: Position) -> bool:
        """Whether reading had begun at or before a record, and the ledger says so."""
        views = self.by_shard[shard.id]
        return any(view.welcomed and view.delivered and view.delivered[0] <= position for view in views)

    def answered(self, consumer: Consumer, action: str) -> None:
        self.waits(consumer)
        if action == "shutdownRequested":
            self._shut_down(consumer)
        elif action == "processRecords":
            self._processed(consumer)

    def _processed(self, consumer: Consumer) -> None:
        """KCL goes on only when all but the last batch has its place in the window, and that one is on its way."""
        child = consumer.child
        if child is None or not consumer.held:
            return
        view = self.sessions[child.session]
        if view.drained or not view.delivered:
            return
        if not view.lasts or view.lasts[-1] < view.delivered[-1]:
            self.broken("back-pressure", f"{view.shard.id}: {view.delivered[-1]} counts as processed, and was not sent")
        if 0 in view.levels[:-1]:
            self.broken("back-pressure", f"{view.shard.id}: KCL may go on, and two batches are not admitted")

    def waits(self, consumer: Consumer) -> None:
        """An action ends in time, if nothing is stored or admitted meanwhile."""
        if consumer.pending is None or consumer.child is None or not consumer.child.alive:
            return
        settings, now = consumer.daemon.host.settings, self.fleet.timeline.now
        since = max(consumer.pending_since, self.sessions[consumer.child.session].progress, consumer.daemon.host.thawed)
        # A processor learns the store's limit from its first Welcome; until then it has one of its own.
        welcomed = self.sessions[consumer.child.session].welcomed
        limit = settings.generator_timeout + (settings.store_timeout if welcomed else UNWELCOMED) + SLACK
        if consumer.pending == "shutdownRequested":
            since, limit = max(consumer.pending_since, consumer.daemon.host.thawed), settings.drain + SLACK / 2
        if now - since > limit and now >= consumer.daemon.host.thawed:
            self.broken("waits end", f"{consumer.shard.id}: {consumer.pending} takes {now - since:.0f} s")

    def _shut_down(self, consumer: Consumer) -> None:
        """An orderly end leaves nothing to be stored again, if nothing stood in its way."""
        child, host, now = consumer.child, consumer.daemon.host, self.fleet.timeline.now
        if child is None or not consumer.held or host.generator is None or now < host.troubled_until():
            return
        view = self.sessions[child.session]
        undisturbed = child.wire is not None and not child.wire.broken and child.wire.generator is host.generator
        if not undisturbed or now - consumer.pending_since >= host.settings.drain - 0.1:
            return
        row = self.fleet.leases.rows[view.shard.id]
        if consumer.daemon.worker not in (row.owner, row.was_owner):
            return  # the daemon does not know yet that it was taken away, or set back
        reach = order(row.checkpoint)
        for number, batch in enumerate(view.batches, 1):
            level = view.levels[number - 1]
            # What a generator had admitted that is dead now is new to the next one, which may be draining.
            if level == 0 or (level < REPORTED and view.admitted_by[number] != host.generator.pid):
                break
            if batch.whole is not None and parse_position(batch.whole) > reach:
                self.broken("orderly end", f"{view.shard.id}: left at {reach}, and {batch.whole} was admitted")

    def processor_left(self, process: SimProcessor, error: ReceiverError | None) -> None:
        name = type(error).__name__ if error is not None else "in order"
        self.exits[f"processor: {name}"] += 1
        expected = (errors.GeneratorUnavailable, errors.StoreUnavailable, errors.Fenced, errors.StreamUnavailable)
        invalid = isinstance(error, errors.DaemonError) and (
            "InvalidStateException" in error.message or "SHARD_END could not" in error.message
        )
        mine = self.sessions[process.session]
        younger = [one for one in self.by_shard[mine.shard.id] if one.host == mine.host and one.age > mine.age]
        if isinstance(error, errors.Fenced) and not younger:
            self.broken("the younger one stays", f"{process.host.name} {process.name} was fenced by an older one")
        if error is not None and not isinstance(error, expected) and not invalid:
            self.broken("no one is misunderstood", f"{process.host.name} {process.name} left: {error}")

    def generator_left(self, process: SimGenerator, error: ReceiverError | None) -> None:
        name = type(error).__name__ if error is not None else "in order"
        self.exits[f"generator: {name}"] += 1
        if process.host.repair_due and isinstance(error, errors.LedgerDamaged):
            return  # it is right: it starts once that is repaired
        damaged = self.fleet.seen["logs damaged beside writers"] and isinstance(error, errors.LedgerDamaged)
        if damaged and "of the log of" in str(error):
            return  # the same, beside others that go on
        if self.fleet.shared and name == "WriterFenced":
            if not process.host.was_paused:
                self.broken("nobody is taken for dead who lives", f"{process.host.name}: {error}")
            return  # a neighbour took it for dead, and closed its ledger: the next one begins anew
        if error is None and not process.drained:
            self.broken("no one is misunderstood", f"{process.host.name}: the generator left unasked")
        if error is not None and not isinstance(error, errors.StoreUnavailable | errors.StreamUnavailable):
            self.broken("no one is misunderstood", f"{process.host.name}: the generator left: {error}")

    def unexpected(self, process: Process, error: BaseException) -> None:
        raise Broken("no one is misunderstood", f"{process.host.name} {process.name}: {error!r}") from error

    # ------------------------------------------------------------------ the disks

    def scan(self, host: Host) -> DiskView:
        """Take in what became durable since the last look."""
        view = self.disks[host.place.name]
        if view.changes == host.place.changes:
            return view
        view.changes = host.place.changes
        held = host.place.held()
        for name, content in held.maintenance.items():
            self._scan_maintenance(host, view, name, content)
        for name, content in held.ledgers.items():
            self._scan_ledger(host, view, name, content)
        named = {name.partition(".")[0] for name in held.ledgers if view.lines.get(name)}
        view.log.scan(self, host, held.log, named, view.closed)
        present = held.blocks.keys()
        new = [name for name in held.blocks if name not in view.seen]
        kept = len(held.blocks) - len(new)
        for name in new:
            kept += self._scan_block(host, view, name, held.blocks[name])
        if not view.lines.keys() <= held.ledgers.keys():
            self.broken("what is durable stays", f"{host.name}: a ledger is gone that was durable")
        for name in view.seen - present if kept != len(view.seen) else ():
            self._gone(host, view, name.partition(".")[0], present)
        for block in view.ledger - view.held:
            if f"{block}.parquet" not in view.seen and block not in view.replaced and block not in view.expired:
                self.broken("the block comes first", f"{host.name}: {block} is in the ledger, and would not survive")
        view.held |= view.ledger
        for block in [block for block in view.waiting if block in view.ledger]:
            del view.waiting[block]
            for one, rows in view.whole[block][1]:
                shard = one.shard
                if block in view.came_late:
                    view.twice.update((shard, row[0]) for row in rows)
                for position, _, _ in rows:
                    if (shard, position) in view.records:
                        self._expire_what_seems_so(host, view)
                    self._check_twice(host, view, block, one, position)
                    view.records.add((shard, position))
                    self.stored.add((shard, position))
        return view

    def _check_twice(self, host: Host, view: DiskView, block: str, one: Range, position: Position) -> None:
        """A record is stored once.

        Where hosts share a store, two of them may each store it: but not one whose session has looked since the other's
        line was there.
        """
        record, name, pid = (one.shard, position), "", 0
        if self.fleet.shared:
            name, pid = self.hosts_of.get(writer_of(block), ("", 0))
        if record not in view.records or record in view.twice:
            view.stored_by[record] = name, self.fleet.timeline.now
            return
        by, at = view.stored_by[record]
        looked = self.looks.get((one.session, pid), 0.0)
        if by == name or looked > at:
            self.broken("not stored twice", f"{host.name}: {one.shard} {position} is in two blocks")

    def stores(self) -> list[Host]:
        """Return one host for each store."""
        return list({host.place.name: host for host in self.fleet.hosts}.values())

    def ledger_lost(self, host: Host, writer: str) -> None:
        """The file of a ledger was taken away; its blocks are there."""
        self.scan(host)
        view = self.disks[host.place.name]
        view.lines.pop(f"{writer}.jsonl")
        view.closed.discard(writer)
        view.log.ledger_lost(writer)

    def log_lost(self, host: Host, left: int) -> None:
        """The newest entry of the store's log was damaged, or all were taken away, and so many are left."""
        self.disks[host.place.name].log.lost(left)

    def _scan_maintenance(self, host: Host, view: DiskView, name: str, content: bytes) -> None:
        if name in view.maintenance:
            return
        view.maintenance.add(name)
        try:
            entries = [loads(line) for line in content.splitlines()]
        except ValueError:
            self.broken("blocks are seen whole", f"{host.name}: the maintenance ledger {name} is torn")
        for entry in entries:
            if entry["type"] == "block" and not entry.get("replaces"):
                view.ledger.add(entry["block"])  # it was in no ledger, and was taken in
                if host.place.came_late(entry["block"]):
                    view.came_late.add(entry["block"])
            elif entry["type"] == "block":
                view.waiting.pop(entry["block"], None)
                view.merged.add(entry["block"])
                for old in entry["replaces"]:
                    if view.replaced_by.setdefault(old, name) != name:
                        self.broken("not stored twice", f"{host.name}: two runs of maintenance replaced {old}")
                    view.replaced.setdefault(old, set()).add(entry["block"])
            elif entry["type"] == "expired":
                for block in entry["blocks"]:
                    self._expired(host, view, block, entry["before"])

    def _expire_what_seems_so(self, host: Host, view: DiskView) -> None:
        """Take in entries that are there and not durable: `expire` was killed at the fsync, and others go by them."""
        for content in host.place.maintenance_seen():
            entries = [loads(line) for line in content.splitlines() if b'"type":"expired"' in line]
            for block, before in ((block, entry["before"]) for entry in entries for block in entry["blocks"]):
                self._expired(host, view, block, before)

    def _expired(self, host: Host, view: DiskView, block: str, before: int) -> None:
        """An entry says that a block was removed on purpose."""
        if block in view.expired:
            return
        view.expired[block] = before
        view.waiting.pop(block, None)
        for one, rows in view.whole[block][1] if block in view.whole else ():
            for position, _, _ in rows:
                key = one.shard, position
                arrival = self.fleet.stream.arrival[key]
                if arrival is None or arrival >= before:
                    self.broken(
                        "nothing young expires", f"{host.name}: {block} holds {key}, which arrived at {arrival}"
                    )
                view.records.discard(key)
                view.expired_at[key] = self.fleet.timeline.now

    def _gone(self, host: Host, view: DiskView, block: str, present: Set[str]) -> None:
        """A block that was durable may go, if another one is durably in its place and holds all that it held.

        Or if it was removed on purpose, and that is durable. Or if no durable ledger ever named it, because a
        compaction was killed before it did, or overtaken, and blocks that are durably recorded and not replaced hold
        all of it that was not removed on purpose.
        """
        view.held.discard(block)
        if block in view.expired:
            view.seen.discard(f"{block}.parquet")
            return
        old = view.whole[block][1]
        made = set().union(*view.replaced.values())
        others = view.replaced.get(block, set())
        if block not in view.ledger and block not in made:
            others = (view.ledger | made) - view.replaced.keys() - view.expired.keys()
            held = {*view.expired_at}
        else:
            held = set()
        held.update(row for other in others for row in self._rows_of(view, other, present))
        if not {(one.shard, row[0]) for one, rows in old for row in rows} <= held:
            self.broken("what is durable stays", f"{host.name}: {block} is gone, and what it held is in no other block")
        view.seen.discard(f"{block}.parquet")

    def _rows_of(self, view: DiskView, block: str, present: Set[str]) -> Iterator[tuple[str, Position]]:
        if f"{block}.parquet" in present and block in view.whole:
            yield from ((one.shard, row[0]) for one, rows in view.whole[block][1] for row in rows)
        for newer in view.replaced.get(block, ()):
            yield from self._rows_of(view, newer, present)

    def _scan_ledger(self, host: Host, view: DiskView, name: str, content: bytes) -> None:
        start = view.lines.get(name, 0)
        end = content.rfind(b"\n") + 1
        if end < start:
            self.broken("what is durable stays", f"{host.name}: lines of the ledger {name} are gone that were durable")
        if end == start:
            return
        view.lines[name] = end
        writer = name.partition(".")[0]
        for line in content[start:end].splitlines():
            if writer in view.closed:
                self.broken("what is closed stays closed", f"{host.name}: {writer} is closed, and got another line")
            if b'"type":"block"' in line or b'"type":"shard_end"' in line:
                try:
                    entry = loads(line)
                except ValueError:
                    view.lines[name] = start  # torn; it will be cut off
                    return
                if entry["type"] == "block":
                    view.ledger.add(entry["block"])
                    view.log.recorded(writer, entry["ranges"])
                else:
                    view.ends.add(entry["shard"])
            elif b'"type":"closed"' in line:
                view.closed.add(writer)
        view.log.grew(writer)

    def _scan_block(self, host: Host, view: DiskView, name: str, content: bytes) -> bool:
        """Take in a block that was not seen before; return whether it is whole."""
        if name.partition(".")[0] in view.whole:  # it was deleted, and a late request has made it again
            view.seen.add(name)
            return True
        try:
            ranges = blocks.read_ranges(content)
        except BlockDamaged:
            return False
        view.seen.add(name)
        block = name.partition(".")[0]
        found = [(one.shard, self._check_range(host, one, columns)) for one, columns in ranges]
        here = {(shard, row[0]) for shard, rows in found for row in rows}
        here.update((shard, row[0]) for other in view.waiting.values() for shard, rows in other for row in rows)
        for one, _ in ranges:
            self._check_batch(host, one, here)
        view.waiting[block] = found
        view.whole[block] = content, [(one, rows) for (one, _), (_, rows) in zip(ranges, found, strict=True)]
        return True

    def _check_range(self, host: Host, one: Range, columns: Columns) -> list[blocks.Row]:
        """A range is what its session was given, no more, no less, and linked to what came before."""
        rows = blocks.rows(columns)
        view = self.sessions[one.session]
        low = bisect_left(view.delivered, one.first)
        high = bisect_right(view.delivered, one.last)
        if [row[0] for row in rows] != view.delivered[low:high] or view.shard.id != one.shard:
            self.broken("batches whole", f"{one.shard} {one.first} to {one.last}: its rows are not what was delivered")
        if one.after != (view.delivered[low - 1] if low else view.start):
            self.broken("known ranges", f"{one.shard} {one.first}: after {one.after}, which is not what was before it")
        for position, key, data in rows:
            if self.fleet.stream.content[one.shard, position] != (key, data):
                self.broken("batches whole", f"{one.shard} {position}: another record was put")
        last_sub = view.shard.last_sub
        whole = [row[0] for row in rows if last_sub[row[0].sequence_number] == row[0].sub_sequence_number]
        if one.whole != (whole[-1] if whole else None):
            self.broken("only whole records", f"{one.shard} {one.first} to {one.last}: whole is said to be {one.whole}")
        return rows

    def _check_batch(self, host: Host, one: Range, here: set[Any]) -> None:
        """All of a batch is in the block that has a part of it, in others that wait for their ledger, or is stored."""
        disk = self.disks[host.place.name]
        view = self.sessions[one.session]
        number = bisect_right(view.firsts, one.first)
        if not number or one.last > view.lasts[number - 1]:
            self.broken("batches whole", f"{one.shard} {one.first} to {one.last} is of no batch of {one.session}")
        low = bisect_left(view.delivered, view.firsts[number - 1])
        high = bisect_right(view.delivered, view.lasts[number - 1])
        for position in view.delivered[low:high]:
            key = one.shard, position
            if key not in here and key not in disk.records and key not in disk.expired_at:
                self.broken("batches whole", f"{one.shard} {position} is not in the block that holds its batch")

    # ------------------------------------------------------------------ the end

    def all_is_done(self) -> bool:
        """Whether everything is stored and checkpointed."""
        rows = self.fleet.leases.rows
        for shard in self.fleet.stream.shards.values():
            row = rows.get(shard.id)
            if row is None:
                if self.fleet.stream.expired(shard):
                    continue  # it came and went while nobody looked
                return False
            if shard.closed:
                if row.checkpoint != SHARD_END:
                    return False
            elif self._retains_some(shard) and row.checkpoint != shard.positions[-1]:
                return False
        return True

    def _retains_some(self, shard: Shard) -> bool:
        return self.fleet.stream.retained_from(shard) < len(shard.positions)

    def final(self) -> None:
        """Everything is stored, once for a reader, and proven by links."""
        for host in self.fleet.hosts:
            self._expire_what_seems_so(host, self.scan(host))
        for shard in self.fleet.stream.shards.values():
            for missing in self._unstored(shard):
                if not self._trimmed(shard, missing):
                    self.broken("nothing lost at the end", f"{shard.id} {missing} is in no block")
        together: dict[str, list[tuple[Range, str]]] = defaultdict(list)
        rows: dict[tuple[str, str, Position], list[Position]] = {}
        unrecorded: set[str] = set()
        for host in self.stores():
            try:
                index = LedgerIndex.load(host.place.look())
            except ReceiverError as error:
                self.broken("the ledger is whole", f"{host.name}: {error}")
            # What came when its ledger was closed was never reported stored: its records came again.
            late = {one.block for one in index.adopted if self._is_too_late(host, one.block)}
            # And no reader gets what no ledger names yet: a host may be stopped between a block and its line.
            unrecorded |= {f"{host.place.name}/{entry.block}" for entry in index.adopted}
            users = [one for one in self.fleet.hosts if one.place.name == host.place.name and one.successor is None]
            if users and all(one.generator is not None and one.generator.ready for one in users):
                may_record = {writer for one in users if one.generator is not None for writer in one.generator.writers}
                may_record.update(*(one.maintainers for one in users))
                for entry in index.adopted:
                    if entry.block in late or writer_of(entry.block) in may_record:
                        continue
                    # Its host was replaced by one that knows nothing of it: a neighbour closes it in an hour.
                    name, _ = self.hosts_of.get(writer_of(entry.block), ("", 0))
                    gone = self.fleet.shared and any(one.name == name and one.successor for one in self.fleet.hosts)
                    if not gone or writer_of(entry.block) in self.disks[host.place.name].closed:
                        self.broken("known ranges", f"{host.name}: {entry.block} is in no ledger")
            if index.unreadable:
                self.broken("blocks are seen whole", f"{host.name}: {index.unreadable}")
            for shard in self.fleet.stream.shards:
                ranges = index.ranges(IDENTITY, shard)
                together[shard] += [
                    (one, f"{host.place.name}/{block}")
                    for one, block in ranges
                    if block not in index.replaced and block not in index.expired and block not in late
                ]
            self._read_blocks(host, index, rows)
        for shard in self.fleet.stream.shards.values():
            self._once(shard, together[shard.id], rows)
        judge(self)
        self._judge_readers({key: positions for key, positions in rows.items() if key[0] not in unrecorded})

    def _is_too_late(self, host: Host, block: str) -> bool:
        return host.place.came_late(block) and writer_of(block) in self.disks[host.place.name].closed

    def held_late(self, shard: Shard) -> set[Position]:
        """Return the records that are in blocks alone that no ledger knows, because they came too late."""
        found: set[Position] = set()
        for host in self.fleet.hosts:
            view = self.disks[host.place.name]
            for block, ranges in view.waiting.items():
                if self._is_too_late(host, block):
                    found.update(row[0] for of, rows in ranges if of == shard.id for row in rows)
        return {one for one in found if (shard.id, one) not in self.stored}

    def _judge_readers(self, rows: dict[tuple[str, str, Position], list[Position]]) -> None:
        stored: dict[str, dict[str, set[Position]]] = defaultdict(lambda: defaultdict(set))
        for (place, shard, _), positions in rows.items():
            name = place.partition("/")[0]
            disk = self.disks[name]
            # What a killed compaction made, and no ledger knows, may hold what was removed on purpose since.
            stored[name][shard].update(
                one for one in positions if (shard, one) in disk.records or (shard, one) not in disk.expired_at
            )
        for follower in self.fleet.followers:
            name = follower.host.place.name
            try:
                follower.finish()
                # What is stored later in a hole that was reported before is passed for good.
                theme = self.fleet.theme
                told = (LATE, GAP) if theme in ("repair", "expiry", "set back") else (LATE,)
                if self.fleet.shared and theme not in ("repair", "expiry", "set back"):
                    told = ()  # what comes late was read in the wrong order
                again = self.disks[name].expired_at
                certain = {
                    shard: {one for one in held if (shard, one) not in again} for shard, held in stored[name].items()
                }
                follower.record.judge(certain, REPAIRED if theme == "repair" else MISSES_NOTHING, told)
                follower.record.judge(stored[name], STORED_AGAIN, told)
                whole = Record(self.expect, f"who reads all of {name}'s store")
                read_whole(follower.store, whole)
                whole.judge(certain)
                whole.judge(stored[name], STORED_AGAIN)
            except ReceiverError as error:
                self.broken(MISSES_NOTHING, f"{name}: {error}")

    def _read_blocks(
        self, host: Host, index: LedgerIndex, rows: dict[tuple[str, str, Position], list[Position]]
    ) -> None:
        store = host.place.look()
        for block, _ in store.list_blocks():
            if block not in index.blocks():
                self.broken("known ranges", f"{host.name}: {block} is in no ledger")
            if block in index.expired:
                continue
            content = store.read_block(block)
            whole = self.disks[host.place.name].whole.get(block)
            if whole is None:  # it was seen, and is not durable yet
                found = [(one, blocks.rows(columns)) for one, columns in blocks.read_ranges(content)]
            elif content == whole[0]:
                found = whole[1]
            else:
                self.broken("what is durable stays", f"{host.name}: {block} holds something else than was stored")
            for one, there in found:
                rows[f"{host.place.name}/{block}", one.shard, one.first] = [row[0] for row in there]

    def _once(self, shard: Shard, ranges: list[tuple[Range, str]], rows: dict[Any, list[Position]]) -> None:
        read: list[Position] = []
        for chosen in select(ranges):
            here = rows.get((chosen.block, shard.id, chosen.range.first), [])
            if not here:
                self.broken("what is durable stays", f"{shard.id}: {chosen.block} is recorded, and not there")
            taken = [one for one in here if any(part.holds(one) for part in chosen.parts)]
            if chosen.records is not None and chosen.records != len(taken):
                self.broken("once per record", f"{shard.id} {chosen.range.first}: {len(taken)}, {chosen.records} said")
            read += taken
        read.sort()
        gone = {*self.lost(shard)}
        # What a killed compaction made, and no ledger knows, may still hold what was removed on purpose since.
        gone |= self.expired(shard).difference(read)
        put = shard.positions[shard.before_start :]
        expected = [one for one in put if one not in gone] if gone else put
        if read != expected:
            self.broken("once per record", f"{shard.id}: {len(read)} records read, {len(expected)} stored")
