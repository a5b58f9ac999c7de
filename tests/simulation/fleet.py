"""The fleet: hosts with their processes, the stream, the lease table, and a run from the first record to the last."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from kcl_receiver.audit import blocks as verify_blocks
from kcl_receiver.generator import generator_io as workers
from kcl_receiver.generator import server
from kcl_receiver.generator import stream as generator_stream
from kcl_receiver.generator.effects import WriteBlock
from kcl_receiver.generator.settings import GeneratorSettings
from kcl_receiver.maintenance import retired_blocks as leftovers
from kcl_receiver.reading import blocks as read_blocks
from kcl_receiver.store.blocks import file as store_blocks
from kcl_receiver.store.ledger import entries, store_log
from kcl_receiver.store.ledger import transaction as maintenance
from simulation import blocks, latest, world
from simulation.bucket import Line, SimBucket, is_on_bucket
from simulation.daemon import Daemon
from simulation.disk import SimFiles
from simulation.faults import Fault, plan
from simulation.follower import SimFollower
from simulation.generator import APPLICATION, SimGenerator
from simulation.leases import ASSIGN_EVERY, LeaseTable
from simulation.maintenance import ORPHAN_MILLIS, SimMaintenance
from simulation.operators import SimRepair, set_back_after
from simulation.own import OwnWriters
from simulation.place import BucketPlace, DiskPlace, Place
from simulation.stream import Stream
from simulation.timeline import CURRENT, Process, Timeline
from simulation.watch import Broken, DiskView, Watch

SETTLE_SECONDS = 400.0
"""After the last fault: until then all must be stored and checkpointed."""


MAX_STEPS = 600_000


class Host:
    """One machine: its disk, its clocks, its supervisor."""

    def __init__(self, fleet: Fleet, name: str, settings: GeneratorSettings) -> None:
        self.fleet = fleet
        self.name = name
        self.settings = settings
        self.files = SimFiles(fleet.rng, fleet.timeline)
        self.files.mkdir(Path("/data"))
        self.files.fsync_dir(Path("/"))
        self.place: Place = fleet.new_place(name, self.files)
        self.boot_base = -fleet.rng.uniform(10, 5000)
        self.wall_offset = 0
        self.generator: SimGenerator | None = None
        self.daemon: Daemon | None = None
        self.boots = 0
        self.machine_boots = 0
        self.maintenance: SimMaintenance | None = None
        self.maintainers: set[str] = set()
        self.lingering: list[Any] = []
        self.host_dies = False
        self.frozen_until = self.frames_cut_until = 0.0
        self.slow_until = self.disorder_until = 0.0
        self.throttled_until = self.refused_until = self.answers_lost_until = 0.0
        self.store_fails = (0.0, False)
        self.generator_away_until = 0.0
        self.process_frozen_until = 0.0
        self.repair_due = False
        self.was_paused = False
        self.successor: Host | None = None
        self.own = OwnWriters(self.files) if fleet.shared else None
        self.begins: int | None = None
        self.expire_before: int | None = None
        self.expire_kill: tuple[str, int] | None = None
        self.start()

    # Clocks

    def boot_clock(self) -> float:
        return self.fleet.timeline.now - self.boot_base

    def wall_millis(self) -> int:
        return self.fleet.stream.millis() + self.wall_offset

    def new_pid(self) -> int:
        self.fleet.pids += 1
        return self.fleet.pids

    def call_delay(self, executor: str) -> float:
        rng, now = self.fleet.rng, self.fleet.timeline.now
        if executor != "ask":
            if now < self.disorder_until:
                return rng.choice((0.001, 0.001, 1.5))
            if now < self.slow_until:
                return rng.random() * 3
        return rng.random() * 0.03

    def troubled_until(self) -> float:
        """Until when checkpoints or the store may be late for a fault's sake."""
        return max(
            self.throttled_until,
            self.refused_until,
            self.answers_lost_until,
            self.slow_until,
            self.disorder_until,
            self.frames_cut_until,
            self.store_fails[0],
            self.medium.troubled_until(),
            self.process_frozen_until,
        )

    @property
    def medium(self) -> SimFiles | Line:
        """What faults of its store strike."""
        return self.place.medium

    @property
    def thawed(self) -> float:
        """When it, or a process of it, was last stopped and went on."""
        return max(self.frozen_until, self.process_frozen_until)

    def table_delay(self) -> float:
        return self.fleet.rng.random() * 0.03

    # The supervisor

    def start(self) -> None:
        self._start_generator(self.boots)
        self._after(0.5, self._start_daemon)
        self._start_maintenance(self.boots)

    def _after(self, delay: float, call: Callable[[int], None]) -> None:
        timeline = self.fleet.timeline
        boots = self.boots
        timeline.at(timeline.now + delay, lambda: call(boots))

    def _start_generator(self, boots: int) -> None:
        if boots == self.boots and self.generator is None:
            if self.fleet.timeline.now < self.generator_away_until:
                self._after(0.5, self._start_generator)
                return
            CURRENT.host = self
            if self.fleet.theme == "latest":
                self.begins = latest.start_millis(self.fleet, self)
                if self.begins is None:
                    self._after(1.0, self._start_generator)
                    return
            self.generator = SimGenerator(self, self.settings)

    def _start_daemon(self, boots: int) -> None:
        if boots == self.boots and self.daemon is None:
            if self.fleet.asleep:
                self._after(self.fleet.asleep_until - self.fleet.timeline.now + 0.1, self._start_daemon)
                return
            if self.fleet.theme == "latest" and self.begins is None:
                self._after(1.0, self._start_daemon)
                return
            self.daemon = Daemon(self, self.begins)

    def _start_maintenance(self, boots: int) -> None:
        if (
            boots == self.boots
            and self.fleet.maintainer(self) is self
            and (self.fleet.compacts or self.fleet.theme == "expiry")
        ):
            self.maintenance = SimMaintenance(self)

    def generator_ended(self, generator: SimGenerator) -> None:
        if self.generator is generator:
            generator.alive = False
            self.generator = None
            self._process_died()
            self._after(self.fleet.rng.uniform(0.2, 2.0), self._start_generator)

    def daemon_ended(self, daemon: Daemon) -> None:
        if self.daemon is daemon:
            self.daemon = None
            self._after(self.fleet.rng.uniform(0.05, 2.0), self._start_daemon)

    def freeze(self, process: Process, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after a while."""
        process.frozen_until = self.fleet.timeline.now + seconds
        self.process_frozen_until = max(self.process_frozen_until, process.frozen_until)

    # Ends

    def _process_died(self) -> None:
        self.files.process_died()
        if self.medium is not self.files:
            self.medium.process_died()

    def struck(self, process: Process) -> None:
        """The countdown of the disk has ended in the middle of a call."""
        if self.host_dies:
            self.die()
        elif isinstance(process, SimRepair):
            process.alive = False
            self._process_died()
        elif process is self.maintenance:
            process.alive = False
            self._process_died()
            timeline, boots, pause = self.fleet.timeline, self.boots, 1.0
            if self.expire_before is not None:
                pause = self.fleet.more.choice((1.0, 12.0))
                set_back_after(self)
            timeline.at(timeline.now + pause, lambda: self._start_maintenance(boots))
        else:
            self.kill_generator()

    def kill_generator(self) -> None:
        generator = self.generator
        if generator is not None:
            if self.fleet.tracing:
                generator.say("is killed")
            generator.killed()
            self.generator_ended(generator)

    def kill_daemon(self, linger: float = 0.01) -> None:
        daemon = self.daemon
        if daemon is not None:
            if self.fleet.tracing:
                daemon.say("is killed")
            self.lingering += [child for child in self.processors() if linger > 1]
            daemon.killed(linger)
            self.daemon_ended(daemon)

    def processors(self) -> list[Any]:
        consumers = [] if self.daemon is None else self.daemon.consumers.values()
        return [one.child for one in consumers if one.child is not None and one.child.alive]

    def die(self) -> None:
        """The machine loses its power, and is started again after a while."""
        if self.successor is not None:
            return
        if self.fleet.tracing:
            self.fleet.trace(f"{self.name}: the machine dies")
        self._kill_all()
        self.files.power_lost()
        if self.medium is not self.files:
            self.medium.power_lost()
        self.host_dies = False
        self.frozen_until = 0.0
        self._after(self.fleet.rng.uniform(1.0, 12.0), self._boot)

    def _kill_all(self) -> None:
        for child in [*self.processors(), *(child for child in self.lingering if child.alive)]:
            child.killed()
        self.lingering.clear()
        if self.daemon is not None:
            self.daemon.killed()
            for consumer in self.daemon.consumers.values():
                if consumer.child is not None:
                    consumer.child.alive = False
        if self.generator is not None:
            self.generator.killed()
        if self.maintenance is not None:
            self.maintenance.alive = False
        self.daemon = self.generator = self.maintenance = None
        self._process_died()
        self.boots += 1

    def _boot(self, boots: int) -> None:
        if boots == self.boots:
            self.machine_boots += 1
            self.boot_base = self.fleet.timeline.now - self.fleet.rng.uniform(5, 50)
            self.start()

    def kill_all(self, down: float | None = None) -> None:
        """kill -9 of every process; the machine stays, and all is started again after a while."""
        if self.successor is not None:
            return
        self._kill_all()
        down = self.fleet.rng.uniform(0.2, 3.0) if down is None else down
        self._after(down, lambda boots: self.start() if boots == self.boots else None)

    def retire(self, successor: Host) -> None:
        """It never comes back; its disk stays readable."""
        self._kill_all()
        self.successor = successor

    def heal(self) -> None:
        """No fault from here on."""
        self.frames_cut_until = self.slow_until = self.disorder_until = 0.0
        self.throttled_until = self.refused_until = self.answers_lost_until = 0.0
        self.store_fails = (0.0, False)
        self.generator_away_until = 0.0
        self.medium.heal()


@dataclass
class Result:
    """What one seed came to."""

    seed: int
    broken: Broken | None = None
    shared: bool = False
    steps: int = 0
    records: int = 0
    hosts: int = 0
    shards: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    matrix: Counter[tuple[str, int]] = field(default_factory=Counter)
    exits: Counter[str] = field(default_factory=Counter)
    awaited: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    checkpoints: int = 0
    seconds: float = 0.0


class Fleet:
    """One run of one seed. Use it within `installed()`."""

    def __init__(
        self,
        seed: int,
        tracer: Callable[[str], None] | None = None,
        limit: int = MAX_STEPS,
        *,
        awaited: bool = False,
        shared: bool = False,
    ) -> None:
        self.seed = seed
        self._plays_awaited = awaited
        self.shared = shared
        self.rng = rng = random.Random(seed)
        self.more = random.Random(f"{seed} world")
        self.neighbours = random.Random(f"{seed} neighbours")
        self.theme = world.theme(seed, self.more)
        self.asleep_until = self.lapsed = self.paused = 0.0
        self.seen: Counter[str] = Counter()
        self.to_mend = 0  # damage that an operator has still to mend: nothing is judged before
        self.timeline = Timeline(limit, Broken("waits end", f"more than {limit} steps: something spins"))
        self.tracing = tracer is not None
        self._tracer = tracer
        self.pids = 100
        self.written: dict[tuple[int, int], WriteBlock] = {}
        self.stream = Stream(
            rng, self.timeline, rng.choice((1, 2, 3, 4, 4, 4, 5, 6)), world.epoch(self.more, self.theme)
        )
        self.stream.shards_expire = self.plays(world.PARENTS_EXPIRE)
        if self.theme == "lapses":
            self.stream.retention_hours = self.more.choice((24, 24, 25, 48))
        elif self.theme == "set back":
            self.stream.retention_hours = 365 * 24
        self.stream.arrivals_waver = self.theme == "expiry"
        self.on_bucket = shared or is_on_bucket(seed)
        self._bucket = SimBucket(self, "shared") if shared else None
        self.leases = LeaseTable(self)
        self.dynamo = latest.SimDynamo(self)
        self.hosts: list[Host] = []
        self.target = rng.choice((300, 1500, 2000, 2000, 2000, 2500, 4000))
        self.quiet = False
        self.ledger_lines = rng.choice((2, 6, 20, 10_000))
        self.page = (1, 3, 20, 5_000)[seed % 4]
        if self.theme in ("repair", "set back"):
            self.ledger_lines = self.more.choice((2, 4, 6))
        self.compacts = bool(seed % 2)
        interval = rng.choice((0.2, 0.6, 1.0, 3.0))
        quick = interval < 2  # what a shard may store a second is its window by the interval
        settings = GeneratorSettings(
            application=APPLICATION,
            block_interval=interval,
            block_max_bytes=rng.choice((2_000, 20_000, 100_000)),
            window_bytes=rng.choice((1_500, 6_000, 20_000, 40_000)) if quick else 40_000,
            checkpoint_interval=rng.choice((0.5, 1.0, 2.0)),
            generator_timeout=15.0,
            store_timeout=20.0,
            drain=6.0,
            max_in_flight=rng.choice((1, 2, 4, 4)),
        )
        hosts = rng.choice((1, 2, 2, 2, 3))
        for number in range(hosts if self._bucket is None else self._bucket.rng.choice((2, 2, 3, 3, 4))):
            self.hosts.append(Host(self, f"host{number}", settings))
        if self.theme == "latest":
            latest.put_before(self)
        self.watch = Watch(self)
        self.followers = (
            [SimFollower(host) for host in self.hosts]
            if self.theme in ("clocks", "expiry", "repair") or self.more.random() < 0.3 or shared
            else []
        )
        self.result = Result(seed, shared=shared, hosts=len(self.hosts))
        self.faults: list[Fault] = plan(self)
        self._waiting = [fault for fault in self.faults if fault.level]
        for fault in self.faults:
            if not fault.level:
                self.timeline.at(fault.at, lambda fault=fault: self.strike(fault))
        self.pending_strikes = len(self.faults)
        self.last_strike = 0.0
        self.timeline.at(0.0, self._assign)
        self.timeline.at(1.0, self._produce)
        self.end_of_production = 0.0

    def new_place(self, name: str, files: SimFiles) -> Place:
        """Return where a new host stores."""
        if not self.on_bucket:
            return DiskPlace(name, files)
        bucket = self._bucket or SimBucket(self, name)
        return BucketPlace(self, bucket, weather=bucket.rng.choice((0.0, 0.0, 0.002, 0.01)))

    def trace(self, text: str) -> None:
        if self._tracer is not None:
            self._tracer(f"{self.timeline.now:10.4f}  {text}")

    def maintainer(self, host: Host) -> Host:
        """Return the host on which the maintenance of a host's store runs; a shared one has one on each host."""
        while host.successor is not None:
            host = host.successor
        return host

    def plays(self, name: str) -> bool:
        """Whether something takes part that the receiver does not stand yet, if it is of that kind."""
        return self._plays_awaited or name not in world.AWAITED

    # ------------------------------------------------------------------ the run

    @property
    def asleep(self) -> bool:
        """Whether hours pass in which nobody reads."""
        return self.timeline.now < self.asleep_until

    @property
    def awake(self) -> float:
        """Seconds in which somebody could read."""
        return self.timeline.now - self.lapsed + max(0.0, self.asleep_until - self.timeline.now)

    def run(self) -> Result:
        """Run to the end; a broken invariant is in the result."""
        try:
            while not self.timeline.run(120.0 + self.lapsed, self._over) and self.awake < 120.0:
                pass
            if self.tracing:
                self.trace("---- no faults from here on")
            for host in self.hosts:
                host.heal()
                if isinstance(host.place, BucketPlace):
                    host.place.bucket.away_until = 0.0
            self.stream.unavailable_until = 0.0
            self.quiet = True
            deadline = self.timeline.now + SETTLE_SECONDS
            self._next_look = 0.0
            if not self.timeline.run(deadline, self._done):
                self.watch.broken("all is stored in bounded time", self._unfinished())
            for host in self.hosts:
                if isinstance(host.place, BucketPlace):
                    host.place.bucket.arrive_all()
            self.watch.final()
        except Broken as broken:
            self.result.broken = broken
        finally:
            for follower in self.followers:
                follower.close()
        result = self.result
        result.steps = self.timeline.steps
        result.records = self.stream.put_count
        result.shards = len(self.stream.shards)
        result.exits = self.watch.exits
        result.awaited = self.watch.awaited
        result.seen = self.seen
        result.checkpoints = self.watch.checkpoints
        result.seconds = self.awake
        return result

    def _over(self) -> bool:
        """Whether all records are put and all faults have struck and passed."""
        if not self.end_of_production or self.timeline.now < self.last_strike + 3:
            return False
        # A fault that waits for something that does not come any more is struck off.
        return not self.pending_strikes or self.awake > self.end_of_production + 15

    def _done(self) -> bool:
        if self.timeline.now < self._next_look:
            return False
        self._next_look = self.timeline.now + 0.5
        return self.watch.all_is_done() and not self.to_mend and not any(host.repair_due for host in self.hosts)

    def _unfinished(self) -> str:
        rows = self.leases.rows
        return "; ".join(
            f"{shard.id}: lease at {rows[shard.id].checkpoint if shard.id in rows else 'no lease'}, "
            f"last {shard.positions[-1] if shard.positions else None}{' closed' if shard.closed else ''}"
            for shard in self.stream.shards.values()
        )

    def _assign(self) -> None:
        if self.asleep:
            self.timeline.at(self.asleep_until + 0.05, self._assign)
            return
        self.leases.assign()
        for host in self.hosts:
            if host.daemon is not None:
                for consumer in host.daemon.consumers.values():
                    self.watch.waits(consumer)
        self.timeline.at(self.timeline.now + ASSIGN_EVERY, self._assign)

    def _produce(self) -> None:
        if self.asleep:
            self.timeline.at(self.asleep_until, self._produce)
            return
        rng = self.rng
        shards = self.stream.open_shards()
        for _ in range(rng.randint(1, 12)):
            self.stream.put(rng.choice(shards), rng.choice((1, 1, 1, 1, 2, 3, 8, 20)))
        if self.stream.put_count < self.target:
            self.timeline.at(self.timeline.now + rng.random() * 30 * 50 / self.target, self._produce)
        else:
            self.end_of_production = self.awake

    # ------------------------------------------------------------------ faults

    def reached(self, level: int) -> None:
        """A batch reached a state: faults that wait for that strike now."""
        for fault in self._waiting:
            if fault.level == level:
                fault.nth -= 1
                if fault.nth == 0:
                    self.timeline.at(self.timeline.now, lambda fault=fault: self.strike(fault))

    def replace(self, host: Host) -> None:
        """Let another host, whose store is empty, come in the place of one."""
        other = Host(self, f"host{len(self.hosts)}", host.settings)
        self.watch.disks.setdefault(other.place.name, DiskView())
        self.hosts.append(other)
        host.retire(other)

    def strike(self, fault: Fault) -> None:
        self.pending_strikes -= 1
        while fault.host.successor is not None:
            fault.host = fault.host.successor
        if self.awake > self.end_of_production + 15 and self.end_of_production:
            return
        states = [level for level in range(1, 7) if self.watch.levels[level] > 0]
        if self.tracing:
            self.trace(f"==== fault: {fault.kind}")
        struck = fault.strike(self)
        if not struck and fault.level:  # there was nothing to do it to: at the next batch that comes into this state
            fault.nth = 1
            self.pending_strikes += 1
        if struck:
            self.last_strike = max(self.timeline.now + fault.lasts, self.asleep_until)
            self.result.faults[fault.kind] += 1
            for level in states:
                self.result.matrix[fault.kind, level] += 1


def _token(size: int) -> str:
    return f"{CURRENT.host.fleet.more.getrandbits(8 * size):0{2 * size}x}"


@contextmanager
def installed() -> Iterator[None]:
    """Put virtual clocks and the stand-in for Parquet where the receiver looks for the real ones."""
    decode_line = lru_cache(20_000)(entries.decode_line)
    with ExitStack() as stack:
        stack.callback(blocks.whole.cache_clear)
        for where, name, value in (
            (server, "check_columns", blocks.check_columns),
            (workers, "wall_millis", lambda: CURRENT.host.wall_millis()),
            (workers, "boot_millis", lambda: int(CURRENT.host.boot_clock() * 1000)),
            (workers, "boot_id", lambda: f"{CURRENT.host.name} {CURRENT.host.machine_boots}"),
            (generator_stream, "boot_millis", lambda: int(CURRENT.host.boot_clock() * 1000)),
            (workers, "encode_block", blocks.encode_block),
            (workers, "os", SimpleNamespace(getpid=lambda: CURRENT.pid)),
            (workers, "socket", SimpleNamespace(gethostname=lambda: CURRENT.host.name)),
            (store_blocks, "BlockFile", blocks.SimBlockFile),
            (maintenance, "os", SimpleNamespace(getpid=lambda: CURRENT.pid)),
            (maintenance, "socket", SimpleNamespace(gethostname=lambda: CURRENT.host.name)),
            (maintenance, "secrets", SimpleNamespace(token_hex=_token)),
            (leftovers, "BlockFile", blocks.SimBlockFile),
            (leftovers, "ORPHAN_MILLIS", ORPHAN_MILLIS),
            # The same line is read by many: it is taken apart once.
            (entries, "decode_line", decode_line),
            (store_log, "decode_line", decode_line),
            (read_blocks, "BlockFile", blocks.SimBlockFile),
            (verify_blocks, "BlockFile", blocks.SimBlockFile),
        ):
            stack.enter_context(patch.object(where, name, value))
        log = logging.getLogger("kcl_receiver")
        level = log.level
        log.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            log.setLevel(level)
