"""A generator process: the real server, workers, ledger and local store; only threads and socket are not real."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kcl_receiver.errors import ReceiverError, StoreUnavailable
from kcl_receiver.generator.connection import Connection
from kcl_receiver.generator.core import GeneratorCore
from kcl_receiver.generator.effects import Append, LookFurther, LookUp, MoreHeld, ShardFacts, WriteBlock
from kcl_receiver.generator.generator_io import GeneratorIO
from kcl_receiver.generator.server import GeneratorServer
from kcl_receiver.generator.settings import GeneratorSettings
from kcl_receiver.generator.stream import StreamView
from kcl_receiver.ids import writer_id
from kcl_receiver.ranges import Position
from kcl_receiver.store.layout import block_at, log_entry_at
from kcl_receiver.store.local import Directory
from kcl_receiver.store.objects import Objects
from kcl_receiver.store.store import Store
from kcl_receiver.wire.messages import Admitted, Draining, Message, Stored, Welcome
from simulation.link import Wire
from simulation.place import ROOT, BucketPlace
from simulation.runtime import SimRuntime
from simulation.timeline import Process

if TYPE_CHECKING:
    from simulation.fleet import Host

APPLICATION = "landing"


class WatchedLock:
    """The lock that storing needs. Nothing is ever in its way here; what takes long must not be done under it."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def __enter__(self) -> None:
        self._host.medium.reading = self._is_read

    def __exit__(self, *_: object) -> None:
        self._host.medium.reading = None

    def _is_read(self, what: object) -> None:
        self._host.fleet.watch.expect("storing does not wait", f"{self._host.name} reads {what} under its lock")


class FaultyDirectory(Directory):
    """A host's directory behind a line that fails: before the call, or after it was done."""

    host: Host

    def _fault(self, name: str) -> None:
        until, after = self.host.store_fails
        now = self.host.fleet.timeline.now
        if now < until and (until - now > 20 or self.host.fleet.rng.random() < 0.7):
            raise StoreUnavailable(f"{name}: made to fail {'after' if after else 'before'} it was done")

    def create(self, key: str, content: Any) -> bool:  # noqa: ANN401
        name = "put_block" if block_at(key) is not None else "create_log_entry" if log_entry_at(key) else ""
        if not name:
            return super().create(key, content)
        if not self.host.store_fails[1]:
            self._fault(name)
        created = super().create(key, content)
        if self.host.store_fails[1]:
            self._fault(name)
        return created

    def append(self, key: str, number: int, lines: bytes) -> None:
        if not self.host.store_fails[1]:
            self._fault("append_ledger")
        super().append(key, number, lines)
        if self.host.store_fails[1]:
            self._fault("append_ledger")


class SimWorkers(GeneratorIO):
    """The real workers; the watch sees what they have done."""

    process: SimGenerator

    def look_up(self, effect: LookUp) -> ShardFacts:
        view = self.process.host.fleet.watch.sessions[effect.session]
        view.looked = self.process.host.fleet.timeline.now
        self.process.host.fleet.watch.looks.setdefault((effect.session, self.process.pid), view.looked)
        facts = super().look_up(effect)
        self._check_bound(effect.shard, len(facts.held), max(self.process.host.fleet.page, self.ranges_in_memory))
        return facts

    def look_further(self, effect: LookFurther) -> MoreHeld:
        found = super().look_further(effect)
        self._check_bound(effect.shard, len(found.held), self.process.host.fleet.page)
        return found

    def _check_bound(self, shard: str, ranges: int, most: int) -> None:
        if ranges > most:
            self.process.host.fleet.watch.broken(
                "memory", f"{shard}: {ranges} ranges are taken in at once, {most} may be"
            )

    def write_block(self, effect: WriteBlock) -> Any:  # noqa: ANN401
        if self.process.tracing:
            ranges = [f"{one.range.shard[-2:]} {one.range.first} to {one.range.last}" for one in effect.parts]
            self.process.say(f"writes block {effect.number}: {', '.join(ranges)}")
        written = super().write_block(effect)
        self.process.host.fleet.watch.written(self.process, effect)
        return written

    def append(self, effect: Append, checkpoints: Mapping[str, Position]) -> bool:
        due = super().append(effect, checkpoints)
        self.process.host.fleet.watch.appended(self.process, effect)
        return due


class SimGenerator(Process):
    """See the module."""

    def __init__(self, host: Host, settings: GeneratorSettings) -> None:
        super().__init__(host, "generator")
        fleet = host.fleet
        self.writers: list[str] = []
        self.settings = settings
        store = Store(self._objects())
        workers = SimWorkers(
            store,
            StreamView(fleet.stream.client(), "simulated", None, APPLICATION),
            APPLICATION,
            "none",
            store_again=False,
            new_writer=self._new_writer,
            ledger_lines=fleet.ledger_lines,
            page=fleet.page,
            begins=-1 if host.begins is None else host.begins,
            lock=WatchedLock(host),
            own=host.own,
        )
        workers.process = self
        self.server = GeneratorServer(
            GeneratorCore(settings, host.boot_clock(), fleet.rng),
            workers,
            SimRuntime(self),
            Path("generator.sock"),
            settings.store_timeout,
            "file:///store",
            self._ended,
        )
        self.wires: list[Wire] = []
        self.drained = False
        self.later(0.01, self.server.begin)

    def _objects(self) -> Objects:
        host = self.host
        if isinstance(host.place, BucketPlace):
            return host.place.objects(str)
        directory = FaultyDirectory(ROOT, host.files, token=lambda: f"{host.fleet.rng.getrandbits(32):08x}")
        directory.host = host
        return directory

    @property
    def ready(self) -> bool:
        """Whether it has taken over what was there."""
        return self.server.prepared

    def _new_writer(self, millis: int) -> str:
        self.host.fleet.watch.disks[self.host.place.name].log.writers += 1
        self.writers.append(writer_id(millis, f"{self.host.fleet.rng.getrandbits(32):08x}"))
        self.host.fleet.watch.hosts_of[self.writers[-1]] = self.host.name, self.pid
        return self.writers[-1]

    def accept(self, wire: Wire) -> Connection:
        connection = self.server.accept()
        connection.connection_made(wire.transport)  # type: ignore[arg-type]
        return connection

    def said(self, wire: Wire, message: Message) -> None:
        """The generator sent something to a processor."""
        watch, session = self.host.fleet.watch, wire.processor.session
        if self.tracing:
            self.say(f"→ {session}: {message}")
        if isinstance(message, Welcome):
            watch.sessions[session].welcomed = True
        elif isinstance(message, Draining):
            watch.sessions[session].drained = True
        elif isinstance(message, Admitted):
            watch.admitted(self, session, message.number)
        elif isinstance(message, Stored):
            watch.reported(self, session, message.number)

    def drain(self) -> None:
        self.drained = True
        self.server.drain()

    def _ended(self, error: ReceiverError | None) -> None:
        if not self.alive:
            return
        if self.tracing:
            self.say(f"leaves: {error or 'all is stored'}")
        self.host.fleet.watch.generator_left(self, error)
        for wire in self.wires:
            wire.transport.close()
        self.host.generator_ended(self)

    def killed(self) -> None:
        self.alive = False
        for wire in self.wires:
            wire.hang_up_from_generator()
