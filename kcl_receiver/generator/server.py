"""Drives the generator's state machine: connections, calls in threads, the clock.

Everything of the state machine happens in one thread; the threads of the runtime only store, append and ask. What the
server needs of the process around it comes through its runtime, so the simulation drives the same server.
"""

from __future__ import annotations

import logging
import os
import resource
from collections.abc import Callable, Coroutine
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec

from kcl_receiver import __version__
from kcl_receiver.errors import (
    STOPPING,
    EnvironmentProblem,
    InternalError,
    ProtocolError,
    ReceiverError,
    StreamError,
    WireError,
)
from kcl_receiver.generator.connection import Connection
from kcl_receiver.generator.core import GeneratorCore
from kcl_receiver.generator.effects import (
    Append,
    Close,
    ConfirmShardEnd,
    Effect,
    LookFurther,
    LookUp,
    Measure,
    PossiblyTrimmed,
    Send,
    Stop,
    WriteBlock,
)
from kcl_receiver.generator.generator_io import GeneratorIO
from kcl_receiver.generator.runtime import Pool, Runtime, Timer
from kcl_receiver.status.report import GeneratorState, StreamState, Trouble
from kcl_receiver.store.blocks.arrays import check_columns
from kcl_receiver.wire.frames import Frame, ReceivedBatch, decode_batch
from kcl_receiver.wire.messages import (
    Batch,
    Flush,
    Hello,
    Leave,
    Message,
    Progress,
    Refused,
    ShardEnd,
    Status,
    StatusRequest,
)

log = logging.getLogger("kcl_receiver.generator")

PREPARE_RETRY_SECONDS = (0.2, 5.0)
SPARE_DESCRIPTORS = 128
"""Kept for the store, for AWS and for the rest: connections never take the last ones."""


def most_connections() -> int:
    """Return how many connections are served at a time: what this process may open (RLIMIT_NOFILE), less the spare."""
    return max(SPARE_DESCRIPTORS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_DESCRIPTORS)


class GeneratorServer:
    """Serves processors until it is told to stop, or must. `begin` comes first, `close` last.

    Args:
        core: The state machine.
        workers: What takes time.
        runtime: Clock, timers and threads.
        path: Where the generator listens, for the status.
        store_timeout: Seconds for which a store that fails at the start is tried again.
        store: URL of the store, for the status.
        ended: Called once: with None when all is done in good order, or with the reason why it can't go on.
    """

    def __init__(
        self,
        core: GeneratorCore,
        workers: GeneratorIO,
        runtime: Runtime,
        path: Path,
        store_timeout: float,
        store: str,
        ended: Callable[[ReceiverError | None], None],
    ) -> None:
        self._core = core
        self._workers = workers
        self._runtime = runtime
        self._path = path
        self._store_timeout = store_timeout
        self._store = store
        self._ended = ended
        self._has_ended = False
        self._unprepared: ReceiverError | None = None
        self._started = runtime.clock()
        self._connections: dict[int, Connection] = {}
        self._next_connection = 1
        self._prepared = runtime.event()
        self._timer: Timer | None = None
        self._keeps_house = False

    @property
    def prepared(self) -> bool:
        """Whether the store is held, the ledger begun and the stream found."""
        return self._prepared.is_set()

    def begin(self) -> None:
        """Begin to serve; what processors ask for waits until the store is ready."""
        self._spawn(self._prepare())
        self._arm()

    def drain(self) -> None:
        """Begin to stop in good order."""
        log.info("draining: what was admitted is stored, nothing more is admitted")
        self._apply(self._core.drain(self._runtime.clock()))

    def stop(self, error: ReceiverError | None) -> None:
        """Stop now."""
        if not self._has_ended:
            self._has_ended = True
            self._ended(error)

    def failed(self, error: BaseException) -> None:
        """Stop at an exception that nothing expects: the state machine may be in the middle of a change."""
        log.error(STOPPING, exc_info=error)
        self.stop(error if isinstance(error, ReceiverError) else InternalError.of(error))

    def close(self) -> None:
        """Let go of timer and connections."""
        self._disarm()
        for connection in list(self._connections.values()):
            connection.close()

    # ------------------------------------------------------------------ the connections

    def accept(self) -> Connection:
        """Return the generator's end of a new connection."""
        connection = Connection(self._next_connection, self)
        self._next_connection += 1
        return connection

    def opened(self, connection: Connection) -> None:
        """A process of this user connected."""
        if len(self._connections) >= most_connections():
            error = EnvironmentProblem(
                f"{len(self._connections)} connections are open, and no more are served",
                "see who connects to the generator's socket, or raise its limit of open files (ulimit -n)",
            )
            log.warning("pid %d is hung up on: %s", connection.pid, error)
            connection.send(Refused(type(error).__name__, error.message, error.hint))
            connection.close()
            return
        self._connections[connection.number] = connection
        self._apply(self._core.connected(connection.number, connection.pid, self._runtime.clock()))

    def closed(self, connection: Connection) -> None:
        """The connection is gone."""
        self._connections.pop(connection.number, None)
        self._apply(self._core.disconnected(connection.number, self._runtime.clock()))

    def broken(self, connection: Connection, error: WireError) -> None:
        """What came can't be used."""
        self._apply(self._core.failed(connection.number, error, self._runtime.clock()))

    def received(self, connection: Connection, frame: Frame) -> None:
        """A frame came."""
        try:
            effects = self._dispatch(connection, frame, self._runtime.clock())
        except ReceiverError as error:
            effects = self._core.failed(connection.number, error, self._runtime.clock())
        self._apply(effects)

    def _dispatch(self, connection: Connection, frame: Frame, now: float) -> list[Effect]:
        core = self._core
        number = connection.number
        message: Message = frame.message
        if isinstance(message, Batch):
            return core.batch(number, _checked(decode_batch(frame)), now)
        if isinstance(message, Hello):
            return core.hello(number, message, now)
        if isinstance(message, Flush):
            return core.flush(number, now)
        if isinstance(message, Progress):
            return core.progress(number, message, now)
        if isinstance(message, ShardEnd):
            return core.shard_end(number, message.last, now)
        if isinstance(message, Leave):
            return core.leave(number, now)
        if isinstance(message, StatusRequest):
            core.watched(number)
            connection.send(Status(), (msgspec.json.encode(self.status()),))
            return []
        raise ProtocolError(f"{type(message).__name__} is not for a generator")

    def status(self) -> GeneratorState:
        """Return the live state."""
        now = self._runtime.clock()
        stream = self._workers.stream
        core = self._core.status(now)
        if core.failing is None and self._unprepared is not None:
            core = msgspec.structs.replace(core, failing=Trouble.of(self._unprepared, now - self._started))
        return GeneratorState(
            **msgspec.structs.asdict(core),
            store=self._store,
            socket=str(self._path),
            version=__version__,
            pid=os.getpid(),
            uptime_seconds=round(now - self._started, 3),
            prepared=self.prepared,
            ranges_in_memory=self._workers.ranges_in_memory,
            stream=None if stream is None else StreamState(arn=stream.arn, created=stream.created),
        )

    # ------------------------------------------------------------------ effects

    def _apply(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                self._send(effect)
            elif isinstance(effect, Close):
                if (connection := self._connections.get(effect.connection)) is not None:
                    connection.close()
            elif isinstance(effect, WriteBlock):
                self._spawn(self._write_block(effect))
            elif isinstance(effect, Append):
                self._spawn(self._append(effect))
            elif isinstance(effect, LookUp):
                self._spawn(self._look_up(effect))
            elif isinstance(effect, LookFurther):
                self._spawn(self._look_further(effect))
            elif isinstance(effect, ConfirmShardEnd):
                self._spawn(self._confirm_shard_end(effect))
            elif isinstance(effect, Measure):
                self._spawn(self._measure())
            elif isinstance(effect, PossiblyTrimmed):
                log.error("%s", _possibly_trimmed(effect))
            elif isinstance(effect, Stop):
                self.stop(effect.error)
        self._arm()

    def _send(self, effect: Send) -> None:
        connection = self._connections.get(effect.connection)
        if connection is None:
            return
        if isinstance(effect.message, Refused):
            log.warning("pid %d is refused: %s: %s", connection.pid, effect.message.error, effect.message.message)
        connection.send(effect.message)

    def _arm(self) -> None:
        self._disarm()
        deadline = self._core.deadline()
        if deadline is not None and not self._has_ended:
            self._timer = self._runtime.later(max(0.0, deadline - self._runtime.clock()), self._tick)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = None
        self._apply(self._core.tick(self._runtime.clock()))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._runtime.spawn(work, self.failed)

    async def _prepare(self) -> None:
        pause, longest = PREPARE_RETRY_SECONDS
        while True:
            try:
                stream = await self._runtime.in_thread(Pool.LEDGER, self._workers.prepare)
            except ReceiverError as error:
                # AWS away is waited for without limit: there is nothing that a new start would do better.
                patient = isinstance(error, StreamError) or self._runtime.clock() - self._started < self._store_timeout
                if not (error.mends and patient):
                    self.stop(error)
                    return
                self._unprepared = error
                log.warning("not ready, trying again: %s", error)
                await self._runtime.sleep(pause)
                pause = min(2 * pause, longest)
            else:
                self._unprepared = None
                log.info("writer %s is ready: stream %s, store %s", self._workers.writer, stream, self._store)
                self._prepared.set()
                self._apply(self._core.began(self._workers.writer, self._workers.measured, self._runtime.clock()))
                self._keep_house()
                return

    async def _look_up(self, effect: LookUp) -> None:
        await self._prepared.wait()
        try:
            facts = await self._runtime.in_thread(Pool.ASK, self._workers.look_up, effect)
        except ReceiverError as error:
            if error.mends:
                log.warning("session %s of %s can't begin yet: %s", effect.session, effect.shard, error)
            else:
                log.error("session %s of %s can't begin: %s", effect.session, effect.shard, error)
            self._apply(self._core.look_up_failed(effect.session, error, self._runtime.clock()))
            return
        log.info("session %s of %s begins after %s", effect.session, effect.shard, effect.after)
        self._apply(self._core.looked_up(effect.session, facts, self._runtime.clock()))

    async def _look_further(self, effect: LookFurther) -> None:
        try:
            found = await self._runtime.in_thread(Pool.ASK, self._workers.look_further, effect)
        except ReceiverError as error:
            log.warning("what of %s is stored already can't be told: %s", effect.shard, error)
            self._apply(self._core.look_further_failed(effect.session, error, self._runtime.clock()))
            return
        self._apply(self._core.looked_further(effect.session, found, self._runtime.clock()))

    async def _measure(self) -> None:
        try:
            seen = await self._runtime.in_thread(Pool.ASK, self._workers.measure)
        except ReceiverError as error:
            log.warning("the stream does not tell its clock and its retention now; it is asked again: %s", error)
            self._apply(self._core.measure_failed(self._runtime.clock()))
            return
        self._apply(self._core.measured(seen, self._runtime.clock()))
        self._keep_house(measured=True)

    async def _confirm_shard_end(self, effect: ConfirmShardEnd) -> None:
        try:
            seen = await self._runtime.in_thread(Pool.ASK, self._workers.confirm_shard_end, effect)
        except ReceiverError as error:
            log.warning("the end of %s is not confirmed: %s", effect.shard, error)
            self._apply(self._core.shard_end_failed(effect.session, error, self._runtime.clock()))
            return
        log.info("%s is closed and stored to its end", effect.shard)
        self._apply(self._core.shard_end_confirmed(effect.session, seen, self._runtime.clock()))

    async def _write_block(self, effect: WriteBlock) -> None:
        try:
            written = await self._runtime.in_thread(Pool.STORE, self._workers.write_block, effect)
        except ReceiverError as error:
            log.warning("block %d is not stored: %s", effect.number, error)
            self._apply(self._core.block_failed(effect.number, error, self._runtime.clock()))
            return
        self._apply(self._core.block_written(effect.number, written, self._runtime.clock()))

    async def _append(self, effect: Append) -> None:
        checkpoints = self._core.checkpoints()
        try:
            due = await self._runtime.in_thread(Pool.LEDGER, self._workers.append, effect, checkpoints)
        except ReceiverError as error:
            log.warning("the ledger is not written: %s", error)
            self._apply(self._core.append_failed(error, self._runtime.clock()))
            return
        self._apply(self._core.appended(self._runtime.clock(), ledger_is_due=due))
        if not effect.records:  # the next ledger has begun
            self._keep_house()

    def _keep_house(self, *, measured: bool = False) -> None:
        """Let be done what nobody waits for, unless it is being done."""
        if self._workers.has_housework and not self._keeps_house:
            self._keeps_house = True
            self._spawn(self._do_housework(measured=measured))

    async def _do_housework(self, *, measured: bool) -> None:
        await self._runtime.in_thread(Pool.HOUSE, self._workers.keep_house, measured=measured)
        self._keeps_house = False


def _checked(batch: ReceivedBatch) -> ReceivedBatch:
    """Return a batch that can be stored as it is: what is found wrong here costs one processor, and later all of them.

    Raises:
        ProtocolError: It cannot.
    """
    try:
        check_columns(batch.columns, batch.message.checksum)
    except ValueError as error:
        raise ProtocolError(f"batch {batch.message.number} can't be stored: {error}") from error
    return batch


def _possibly_trimmed(effect: PossiblyTrimmed) -> str:
    begin, end = (("an unknown time" if at < 0 else f"{_utc(at)}") for at in effect.unread)
    return (
        f"{effect.shard}: what follows {effect.after} was not read within the stream's retention of "
        f"{effect.retention_hours} h: records that arrived between {begin} and {end} may have been trimmed before they "
        "were read; `kcl-receiver verify` shows the place"
    )


def _utc(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000, timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
