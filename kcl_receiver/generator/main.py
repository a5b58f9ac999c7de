"""The generator as a process: from a properties file to an exit code."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import signal

from kcl_receiver import aws
from kcl_receiver.config.properties import ReceiverConfig
from kcl_receiver.errors import EXIT_INTERRUPTED, EXIT_OK, STOPPING, InternalError, ReceiverError
from kcl_receiver.generator.core import GeneratorCore
from kcl_receiver.generator.generator_io import GeneratorIO
from kcl_receiver.generator.listening import Listening
from kcl_receiver.generator.lock import GeneratorLock
from kcl_receiver.generator.runtime import AsyncioRuntime, boot_clock, report_bugs
from kcl_receiver.generator.server import GeneratorServer
from kcl_receiver.generator.settings import GeneratorSettings
from kcl_receiver.generator.stream import StreamView
from kcl_receiver.memory import keep_freed
from kcl_receiver.status.report import silent_after
from kcl_receiver.stopping import STOP_SIGNALS, cuts_short
from kcl_receiver.store.buffers import share_the_pool
from kcl_receiver.store.store import open_store

log = logging.getLogger("kcl_receiver.generator")

DRAIN_MARGIN_SECONDS = 2.0
"""Left over of the time that KCL grants, for the checkpoint and the daemon's own shutdown."""

KEPT_BYTES = 64 * 2**20
"""Of freed memory: about a block."""

KCL_IDLE_MILLIS = 1500
"""KCL's default of idleTimeBetweenReadsInMillis."""
FANOUT_SECONDS = 300.0
"""So long does a subscription last, in which the service sends without being asked: what comes may be as old."""


def drain_seconds(config: ReceiverConfig) -> float:
    """Return how long shutdown_requested may take: SIGTERM and an orderly move of a lease can't be told apart."""
    granted = config.graceful_lease_handoff_timeout_millis
    if config.shutdown_grace_millis:
        granted = min(granted, config.shutdown_grace_millis)
    return max(granted / 1000 - DRAIN_MARGIN_SECONDS, granted / 2000)


def idle_millis(config: ReceiverConfig) -> int:
    """Return how long KCL waits between two reads of a shard."""
    text = config.raw.get("idleTimeBetweenReadsInMillis", "").strip()
    # KCL takes 0 for unset.
    return int(text) if text.isdecimal() and int(text) > 0 else KCL_IDLE_MILLIS


def settings_of(config: ReceiverConfig, *, leave_when_idle: bool) -> GeneratorSettings:
    """Return what the state machine needs to know of the properties."""
    return GeneratorSettings(
        application=config.application_name,
        block_interval=config.block_interval_millis / 1000,
        block_max_bytes=config.block_max_bytes,
        window_bytes=config.window_bytes,
        checkpoint_interval=config.checkpoint_interval_millis / 1000,
        generator_timeout=config.generator_timeout_millis / 1000,
        store_timeout=config.store_timeout_millis / 1000,
        drain=drain_seconds(config),
        idle_exit=config.idle_exit_millis / 1000 if leave_when_idle else None,
        silent_after=silent_after(idle_millis(config)),
        note_apart=0.0 if config.retrieval_mode == "POLLING" else FANOUT_SECONDS,
    )


def run_generator(
    config: ReceiverConfig, *, inherited_lock: int | None, leave_when_idle: bool, begins_at: int | None = None
) -> int:
    """Run the generator of a properties file; return the exit code.

    Args:
        config: The properties.
        inherited_lock: Descriptor of the lock, where a processor took it and handed it on.
        leave_when_idle: Leave when no processor has been connected for receiver.idleExitMillis and all is stored.
        begins_at: The time that `run` has turned LATEST into, milliseconds since the epoch.

    Raises:
        ReceiverError: It can't start, or can't go on.
    """
    keep_freed(KEPT_BYTES, arenas=1)
    share_the_pool()
    lock = GeneratorLock(config.socket, inherited_lock)
    try:
        return asyncio.run(_serve(config, lock, begins_at, leave_when_idle=leave_when_idle))
    except (ReceiverError, OSError):
        raise
    except Exception as error:
        log.exception(STOPPING)
        raise InternalError.of(error) from error
    finally:
        lock.release()


async def _serve(config: ReceiverConfig, lock: GeneratorLock, begins_at: int | None, *, leave_when_idle: bool) -> int:
    begins = config.initial_position.timestamp_millis if begins_at is None else begins_at
    core = GeneratorCore(
        settings_of(config, leave_when_idle=leave_when_idle),
        boot_clock(),
        random.Random(),  # noqa: S311 - jitter
    )
    compression = config.compression
    if config.compression_level is not None:
        compression = f"{compression}:{config.compression_level}"
    kinesis = aws.client(config.access("kinesis"))
    workers = GeneratorIO(
        open_store(config.store),
        StreamView(kinesis, config.stream_name, config.stream_arn, config.table_name),
        config.application_name,
        compression,
        store_again=config.store_again,
        begins=-1 if begins is None else begins,
        own=lock,
    )
    gc.collect()
    gc.freeze()  # what was imported stays: there is no use in looking at it again and again
    runtime = AsyncioRuntime()
    ended: asyncio.Future[ReceiverError | None] = asyncio.get_running_loop().create_future()

    def end(error: ReceiverError | None) -> None:
        if not ended.done():  # it is, where the loop was cancelled
            ended.set_result(error)

    server = GeneratorServer(
        core,
        workers,
        runtime,
        config.socket,
        config.store_timeout_millis / 1000,
        config.store,
        end,
    )
    listening = Listening(config.socket, server.accept, lock.look_after, server.stop)
    interrupted = _handle_signals(server)
    log.info("generator of %s listens at %s", config.application_name, config.socket)
    error = await _run(server, runtime, listening, ended)
    if interrupted:
        log.warning("interrupted: what was not stored will be read again")
        return EXIT_INTERRUPTED
    if error is not None:
        raise error
    log.info("generator of %s has stored everything and leaves", config.application_name)
    return EXIT_OK


async def _run(
    server: GeneratorServer,
    runtime: AsyncioRuntime,
    listening: Listening,
    ended: asyncio.Future[ReceiverError | None],
) -> ReceiverError | None:
    """Serve until the server has ended; return why it can't go on, or None."""
    report_bugs(server.failed)
    await listening.open()
    server.begin()
    runtime.spawn(listening.watch(), server.failed)
    try:
        return await ended
    finally:
        listening.close()
        server.close()
        await runtime.close()
        listening.remove()


def _handle_signals(server: GeneratorServer) -> list[ReceiverError]:
    """Let the first signal drain and a second one that is meant end; the list is not empty once that has happened."""
    interrupted: list[ReceiverError] = []
    loop = asyncio.get_running_loop()
    first_at: list[float] = []

    def received(number: int) -> None:
        if not first_at:
            first_at.append(loop.time())
            server.drain()
        elif cuts_short(number, loop.time() - first_at[0]):
            interrupted.append(ReceiverError("stopped by a second signal"))
            server.stop(interrupted[0])

    for number in STOP_SIGNALS:
        # What is ignored stays so: nohup ignores SIGHUP, a shell ignores SIGINT for what it starts with `&`.
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, received, number)
    return interrupted
