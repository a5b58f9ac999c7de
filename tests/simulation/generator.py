"""A generator process: the real server, workers, ledger and local store; only threads and socket are not real.

The server's coroutines are stepped by hand. A call that would run in a thread begins after a while, happens in one
step, and its answer comes after another while; so calls overlap and end in any order, and a fault can strike between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kcl_receiver.errors import ReceiverError, StoreUnavailable, StreamError
from kcl_receiver.generator.connection import Connection
from kcl_receiver.generator.core import GeneratorCore
from kcl_receiver.generator.effects import Append, Effect, LookFurther, LookUp, MoreHeld, Send, ShardFacts, WriteBlock
from kcl_receiver.generator.server import PREPARE_RETRY_SECONDS, GeneratorServer, _unexpected
from kcl_receiver.generator.settings import GeneratorSettings
from kcl_receiver.generator.stream import StreamView
from kcl_receiver.generator.workers import Workers
from kcl_receiver.ranges import Position
from kcl_receiver.store.base import BlockStore
from kcl_receiver.store.local import Directory
from kcl_receiver.store.names import block_at, writer_id
from kcl_receiver.store.objects import Stat
from kcl_receiver.wire.frames import Frame
from kcl_receiver.wire.messages import Admitted, Draining, Hello, Stored, Welcome
from simulation.link import Wire
from simulation.timeline import Process

if TYPE_CHECKING:
    from simulation.fleet import Host

APPLICATION = "landing"
ROOT = "/data/store"
_THREADS = {"store": 2, "ledger": 1, "ask": 4}


class WatchedLock:
    """The lock that storing needs: what takes long must not be done under it. Nothing is ever in its way here."""

    def __init__(self) -> None:
        self.held = False

    def __enter__(self) -> None:
        self.held = True

    def __exit__(self, *_: object) -> None:
        self.held = False


class FaultyDirectory(Directory):
    """A host's directory behind a line that fails: before the call, or after it was done."""

    host: Host
    storing: WatchedLock

    def list(self, prefix: str, *, deep: bool = True) -> Iterator[Stat]:
        self._is_read(prefix)
        return super().list(prefix, deep=deep)

    def get(self, key: str) -> bytes | None:
        self._is_read(key)
        return super().get(key)

    def stat(self, key: str) -> Stat | None:
        self._is_read(key)
        return super().stat(key)

    def _is_read(self, what: str) -> None:
        if self.storing.held:
            self.host.fleet.watch.expect("storing does not wait", f"{self.host.name} reads {what} under its lock")

    def _fault(self, name: str) -> None:
        until, after = self.host.store_fails
        now = self.host.fleet.timeline.now
        if now < until and (until - now > 20 or self.host.fleet.rng.random() < 0.7):
            raise StoreUnavailable(f"{name}: made to fail {'after' if after else 'before'} it was done")

    def create(self, key: str, content: Any) -> bool:  # noqa: ANN401
        if block_at(key) is None:
            return super().create(key, content)
        if not self.host.store_fails[1]:
            self._fault("put_block")
        created = super().create(key, content)
        if self.host.store_fails[1]:
            self._fault("put_block")
        return created

    def append(self, key: str, number: int, lines: bytes) -> None:
        if not self.host.store_fails[1]:
            self._fault("append_ledger")
        super().append(key, number, lines)
        if self.host.store_fails[1]:
            self._fault("append_ledger")


class _Call:
    """A call for a thread; `await` gives its result."""

    def __init__(self, executor: str, call: Callable[[], Any]) -> None:
        self.executor = executor
        self.call = call

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield self)


class _Prepared:
    """Stands in for the asyncio.Event."""

    def __init__(self) -> None:
        self.ready = False

    def set(self) -> None:
        self.ready = True

    def is_set(self) -> bool:
        return self.ready

    async def wait(self) -> None:
        while not self.ready:
            await _Call("wait", lambda: None)


class SimServer(GeneratorServer):
    """The real server; what it waits for is given by the timeline."""

    def __init__(self, process: SimGenerator, core: GeneratorCore, workers: Workers) -> None:
        self._process = process
        self._core = core
        self._workers = workers
        self._connections = {}
        self._next_connection = 1
        self._store = "file:///store"
        self._path = Path("generator.sock")
        self._unprepared = None
        self._started = process.host.boot_clock()
        self._timer = None
        self._prepared = _Prepared()  # type: ignore[assignment]
        self._storing, self._ledger, self._asking = "store", "ledger", "ask"  # type: ignore[assignment]
        self._busy = dict.fromkeys(_THREADS, 0)
        self._queues: dict[str, deque[tuple[Any, _Call]]] = {name: deque() for name in _THREADS}
        self._sessions: dict[int, str] = {}
        self._pause = PREPARE_RETRY_SECONDS[0]

    # Threads

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._step(work, None, None)

    def _step(self, work: Coroutine[Any, Any, None], value: Any, error: BaseException | None) -> None:  # noqa: ANN401
        try:
            asked = work.throw(error) if error is not None else work.send(value)
        except StopIteration:
            return
        except Exception as failure:  # noqa: BLE001 - what the server's _done does
            self._process.host.fleet.watch.unexpected(self._process, failure)
            self.stop(failure if isinstance(failure, ReceiverError) else _unexpected(failure))
            return
        if asked.executor == "wait":
            self._process.later(0.05, self._step, work, None, None)
        else:
            self._queues[asked.executor].append((work, asked))
            self._next(asked.executor)

    async def _in_thread(self, executor: Any, call: Callable[[], Any]) -> Any:  # noqa: ANN401
        return await _Call(executor, call)

    def _next(self, executor: str) -> None:
        if self._queues[executor] and self._busy[executor] < _THREADS[executor]:
            self._busy[executor] += 1
            work, asked = self._queues[executor].popleft()
            self._process.later(self._process.host.call_delay(executor), self._run, work, asked)

    def _run(self, work: Any, asked: _Call) -> None:  # noqa: ANN401
        value = error = None
        try:
            value = asked.call()
        except Exception as failure:  # noqa: BLE001 - goes to the coroutine, as a thread's would
            error = failure
        self._process.later(self._process.host.call_delay(asked.executor), self._answer, work, asked, value, error)

    def _answer(self, work: Any, asked: _Call, value: Any, error: Exception | None) -> None:  # noqa: ANN401
        self._busy[asked.executor] -= 1
        self._next(asked.executor)
        self._step(work, value, error)

    # Time

    def _arm(self) -> None:
        timeline = self._process.host.fleet.timeline
        timeline.cancel(self._timer)
        self._timer = None
        deadline = self._core.deadline()
        if deadline is not None and self._process.alive:
            delay = max(1e-4, deadline - self._process.host.boot_clock() + 1e-6)
            self._timer = self._process.later(delay, self._tick)

    async def prepare(self) -> None:
        """What `_prepare` does, with another sleep."""
        try:
            await self._in_thread(self._ledger, self._workers.prepare)
        except ReceiverError as error:
            waited = self._process.host.boot_clock() - self._started
            patient = isinstance(error, StreamError) or waited < self._process.settings.store_timeout
            if not (error.mends and patient):
                self.stop(error)
                return
            if not isinstance(error, StreamError | StoreUnavailable):
                self._process.host.fleet.watch.unexpected(self._process, error)
            self._process.later(self._pause, lambda: self._spawn(self.prepare()))
            self._pause = min(2 * self._pause, PREPARE_RETRY_SECONDS[1])
            return
        self._prepared.set()

    def stop(self, error: ReceiverError | None) -> None:
        self._process.stopped(error)

    # What the watch sees

    def _dispatch(self, connection: Connection, frame: Frame, now: float) -> list[Effect]:
        if isinstance(frame.message, Hello):
            self._sessions[connection.number] = frame.message.session
        return super()._dispatch(connection, frame, now)

    def _send(self, effect: Send) -> None:
        session = self._sessions.get(effect.connection, "")
        watch = self._process.host.fleet.watch
        if self._process.tracing:
            self._process.say(f"→ {session}: {effect.message}")
        if isinstance(effect.message, Welcome):
            watch.sessions[session].welcomed = True
        elif isinstance(effect.message, Draining):
            watch.sessions[session].drained = True
        elif isinstance(effect.message, Admitted):
            watch.admitted(self._process, session, effect.message.number)
        elif isinstance(effect.message, Stored):
            watch.reported(self._process, session, effect.message.number)
        super()._send(effect)

    async def _write_block(self, effect: WriteBlock) -> None:
        self._process.host.fleet.watch.cut(self._process, effect)
        await super()._write_block(effect)


class SimWorkers(Workers):
    """The real workers; the watch sees what they have done."""

    process: SimGenerator

    def look_up(self, effect: LookUp) -> ShardFacts:
        view = self.process.host.fleet.watch.sessions[effect.session]
        view.looked = self.process.host.fleet.timeline.now
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

    def append(self, effect: Append, checkpoints: Mapping[str, Position]) -> None:
        super().append(effect, checkpoints)
        self.process.host.fleet.watch.appended(self.process, effect)


class SimGenerator(Process):
    """See the module."""

    def __init__(self, host: Host, settings: GeneratorSettings) -> None:
        super().__init__(host, "generator")
        fleet = host.fleet
        self.writers: list[str] = []
        self.settings = settings
        directory = FaultyDirectory(ROOT, host.files, token=lambda: f"{fleet.rng.getrandbits(32):08x}")
        directory.host = host
        directory.storing = WatchedLock()
        store = BlockStore(directory)
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
        )
        workers.process = self
        workers._lock = directory.storing  # type: ignore[assignment]
        self.core = GeneratorCore(settings, host.boot_clock(), fleet.rng)
        self.server = SimServer(self, self.core, workers)
        self.wires: list[Wire] = []
        self.drained = False
        self.later(0.01, self._begin)

    @property
    def ready(self) -> bool:
        """Whether it has taken over what was there."""
        return self.server._prepared.is_set()

    def _new_writer(self, millis: int) -> str:
        self.writers.append(writer_id(millis, f"{self.host.fleet.rng.getrandbits(32):08x}"))
        return self.writers[-1]

    def _begin(self) -> None:
        self.server._spawn(self.server.prepare())
        self.server._arm()

    def accept(self, wire: Wire) -> Connection:
        connection = self.server._accept()
        connection.connection_made(wire.transport)  # type: ignore[arg-type]
        return connection

    def drain(self) -> None:
        self.drained = True
        self.server.drain()

    def stopped(self, error: ReceiverError | None) -> None:
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
