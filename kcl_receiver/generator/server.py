"""Drives the generator's state machine: the socket, threads for what takes time, the clock.

Everything of the state machine happens in the event loop's thread; the threads only store, append and ask.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import stat
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from kcl_receiver import __version__
from kcl_receiver.errors import EnvironmentProblem, ProtocolError, ReceiverError, StoreError, StreamError, WireError
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
from kcl_receiver.generator.workers import Workers
from kcl_receiver.paths import private_directory
from kcl_receiver.report import GeneratorState, StreamState, Trouble
from kcl_receiver.store.arrays import check_columns
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

STORE_THREADS = 2
"""Encoding holds no lock and an fsync waits: with two, one block is encoded while the last is synced."""
QUESTION_THREADS = 4
SOCKET_CHECK_SECONDS = 1.0
PREPARE_RETRY_SECONDS = (0.2, 5.0)
BACKLOG = 1024
ACCEPTED_AT_ONCE = 32
"""asyncio accepts so many before the first of them can be hung up on; a few such turns fit the spare descriptors."""
SPARE_DESCRIPTORS = 128
"""Kept for the store, for AWS and for the rest: connections never take the last ones."""

_T = TypeVar("_T")


def most_connections() -> int:
    """Return how many connections are served at a time: what this process may open (RLIMIT_NOFILE), less the spare."""
    return max(SPARE_DESCRIPTORS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_DESCRIPTORS)


def boot_clock() -> float:
    """Return CLOCK_BOOTTIME in seconds; the ranks of sessions are of the same clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class GeneratorServer:
    """Serves processors until it is told to stop, or must.

    Args:
        core: The state machine.
        workers: What takes time.
        path: Where to listen.
        store_timeout: Seconds for which a store that fails at the start is tried again.
        store: URL of the store, for the status.
        look_after: Called every second: sees that the lock is still ours, and raises EnvironmentProblem if it is not.
    """

    def __init__(
        self,
        core: GeneratorCore,
        workers: Workers,
        path: Path,
        store_timeout: float,
        store: str,
        look_after: Callable[[], None] = lambda: None,
    ) -> None:
        self._core = core
        self._workers = workers
        self._path = path
        self._store_timeout = store_timeout
        self._store = store
        self._look_after = look_after
        self._unprepared: ReceiverError | None = None
        self._started = boot_clock()
        self._connections: dict[int, Connection] = {}
        self._next_connection = 1
        self._storing = ThreadPoolExecutor(STORE_THREADS, "store")
        self._ledger = ThreadPoolExecutor(1, "ledger")
        self._asking = ThreadPoolExecutor(QUESTION_THREADS, "ask")
        self._tasks: set[asyncio.Task[None]] = set()
        self._prepared = asyncio.Event()
        self._listening: asyncio.Server | None = None
        self._inode = 0
        self._timer: asyncio.TimerHandle | None = None
        self._finished: asyncio.Future[ReceiverError | None] | None = None

    async def run(self) -> ReceiverError | None:
        """Serve; return None when all is done in good order, or the reason why it can't go on."""
        loop = asyncio.get_running_loop()
        self._finished = loop.create_future()
        await self._listen()
        self._spawn(self._prepare())
        self._spawn(self._watch_socket())
        self._arm()
        try:
            return await self._finished
        finally:
            await self._shut()

    def drain(self) -> None:
        """Begin to stop in good order."""
        log.info("draining: what was admitted is stored, nothing more is admitted")
        self._apply(self._core.drain(boot_clock()))

    def stop(self, error: ReceiverError | None) -> None:
        """Stop now."""
        if self._finished is not None and not self._finished.done():
            self._finished.set_result(error)

    # ------------------------------------------------------------------ the socket

    async def _listen(self) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # The lock is held: a socket file that is here is left over.
            private_directory(str(self._path.parent))
            self._path.unlink(missing_ok=True)
            listener.bind(str(self._path))
            self._path.chmod(0o600)
            self._inode = self._path.stat().st_ino
        except OSError as error:
            listener.close()
            raise EnvironmentProblem(
                f"{self._path} can't be listened on: {error.strerror or error}",
                "receiver.socket needs a directory of its own that this user can write, and at most 107 bytes",
            ) from error
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_unix_server(self._accept, sock=listener, backlog=ACCEPTED_AT_ONCE)
        listener.listen(BACKLOG)  # whoever connects without waiting, as processors do, must find room in the queue

    def _accept(self) -> Connection:
        connection = Connection(self._next_connection, self)
        self._next_connection += 1
        return connection

    async def _watch_socket(self) -> None:
        """See that lock and socket are where processors and other generators look for them."""
        while True:
            await asyncio.sleep(SOCKET_CHECK_SECONDS)
            try:
                self._look_after()
            except EnvironmentProblem as error:
                # Another one has our lock, because ours was removed: what we have not stored is read again.
                log.error("the generator stops: %s", error)
                self.stop(error)
                return
            try:
                there = self._path.lstat()
                if stat.S_ISSOCK(there.st_mode) and there.st_ino == self._inode:
                    continue
            except FileNotFoundError:
                pass
            except OSError:
                continue  # it cannot be told at this moment
            log.warning("the socket %s was removed by somebody; listening again", self._path)
            if self._listening is not None:
                self._listening.close()
            try:
                await self._listen()
            except EnvironmentProblem as error:
                log.warning("%s; tried again in a second: whoever is connected is served", error)  # a full disk

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
        self._apply(self._core.connected(connection.number, connection.pid, boot_clock()))

    def closed(self, connection: Connection) -> None:
        """The connection is gone."""
        self._connections.pop(connection.number, None)
        self._apply(self._core.disconnected(connection.number, boot_clock()))

    def broken(self, connection: Connection, error: WireError) -> None:
        """What came can't be used."""
        self._apply(self._core.failed(connection.number, error, boot_clock()))

    def received(self, connection: Connection, frame: Frame) -> None:
        """A frame came."""
        try:
            effects = self._dispatch(connection, frame, boot_clock())
        except ReceiverError as error:
            effects = self._core.failed(connection.number, error, boot_clock())
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
        now = boot_clock()
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
            prepared=self._prepared.is_set(),
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
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._core.deadline()
        if deadline is not None and self._finished is not None and not self._finished.done():
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, deadline - boot_clock()), self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._apply(self._core.tick(boot_clock()))

    def _spawn(self, work: Any) -> None:  # noqa: ANN401 - a coroutine of any kind
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the generator stops: this should not have happened", exc_info=error)
            self.stop(error if isinstance(error, ReceiverError) else _unexpected(error))

    async def _in_thread(self, executor: Executor, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(executor, call)

    async def _prepare(self) -> None:
        pause, longest = PREPARE_RETRY_SECONDS
        while True:
            try:
                stream = await self._in_thread(self._ledger, self._workers.prepare)
            except ReceiverError as error:
                # AWS away is waited for without limit: there is nothing that a new start would do better.
                patient = isinstance(error, StreamError) or boot_clock() - self._started < self._store_timeout
                if not (error.mends and patient):
                    self.stop(error)
                    return
                self._unprepared = error
                log.warning("not ready, trying again: %s", error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, longest)
            else:
                self._unprepared = None
                self._core.began(self._workers.writer)
                log.info("writer %s is ready: stream %s, store %s", self._workers.writer, stream, self._store)
                self._prepared.set()
                return

    async def _look_up(self, effect: LookUp) -> None:
        await self._prepared.wait()
        try:
            facts = await self._in_thread(self._asking, lambda: self._workers.look_up(effect))
        except ReceiverError as error:
            if error.mends:
                log.warning("session %s of %s can't begin yet: %s", effect.session, effect.shard, error)
            else:
                log.error("session %s of %s can't begin: %s", effect.session, effect.shard, error)
            self._apply(self._core.look_up_failed(effect.session, error, boot_clock()))
            return
        log.info("session %s of %s begins after %s", effect.session, effect.shard, effect.after)
        self._apply(self._core.looked_up(effect.session, facts, boot_clock()))

    async def _look_further(self, effect: LookFurther) -> None:
        try:
            found = await self._in_thread(self._asking, lambda: self._workers.look_further(effect))
        except ReceiverError as error:
            log.warning("what of %s is stored already can't be told: %s", effect.shard, error)
            self._apply(self._core.look_further_failed(effect.session, error, boot_clock()))
            return
        self._apply(self._core.looked_further(effect.session, found, boot_clock()))

    async def _measure(self) -> None:
        try:
            seen = await self._in_thread(self._asking, self._workers.measure)
        except ReceiverError as error:
            log.warning("the stream does not tell its clock and its retention now; it is asked again: %s", error)
            self._apply(self._core.measure_failed(boot_clock()))
            return
        self._apply(self._core.measured(seen, boot_clock()))

    async def _confirm_shard_end(self, effect: ConfirmShardEnd) -> None:
        try:
            seen = await self._in_thread(self._asking, lambda: self._workers.confirm_shard_end(effect))
        except ReceiverError as error:
            log.warning("the end of %s is not confirmed: %s", effect.shard, error)
            self._apply(self._core.shard_end_failed(effect.session, error, boot_clock()))
            return
        log.info("%s is closed and stored to its end", effect.shard)
        self._apply(self._core.shard_end_confirmed(effect.session, seen, boot_clock()))

    async def _write_block(self, effect: WriteBlock) -> None:
        try:
            written = await self._in_thread(self._storing, lambda: self._workers.write_block(effect))
        except ReceiverError as error:
            log.warning("block %d is not stored: %s", effect.number, error)
            self._apply(self._core.block_failed(effect.number, error, boot_clock()))
            return
        self._apply(self._core.block_written(effect.number, written, boot_clock()))

    async def _append(self, effect: Append) -> None:
        checkpoints = self._core.checkpoints()
        try:
            await self._in_thread(self._ledger, lambda: self._workers.append(effect, checkpoints))
        except ReceiverError as error:
            log.warning("the ledger is not written: %s", error)
            self._apply(self._core.append_failed(error, boot_clock()))
            return
        self._apply(self._core.appended(boot_clock()))

    async def _shut(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._listening is not None:
            self._listening.close()
        for connection in list(self._connections.values()):
            connection.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._path.unlink(missing_ok=True)
        for executor in (self._storing, self._ledger, self._asking):
            executor.shutdown(wait=False, cancel_futures=True)


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


def _unexpected(error: BaseException) -> ReceiverError:
    return StoreError(
        f"{type(error).__name__}: {error}",
        "this is a fault of kcl_receiver: please report it with the generator's log; nothing is lost",
    )
