"""Looks at the machine, the store, the stream and the leases, and says what is wrong. Changes nothing.

`stale_leases` is the one judgement in here that is not a plain look, and it is pure.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kcl_receiver import aws
from kcl_receiver.aws import Lease, Shard
from kcl_receiver.config.properties import ReceiverConfig
from kcl_receiver.daemon import start
from kcl_receiver.daemon.executable import find_executable
from kcl_receiver.daemon.findings import (
    ERROR,
    LEASES_GONE,
    MACHINE,
    NO_LEASES,
    OK,
    RECEIVER,
    STORE,
    STREAM,
    WARNING,
    Finding,
)
from kcl_receiver.daemon.jars import find_jars
from kcl_receiver.daemon.java import find_java
from kcl_receiver.daemon.tuning import tune
from kcl_receiver.daemon.watch import Watch
from kcl_receiver.errors import ReceiverError
from kcl_receiver.generator.client import ask_status
from kcl_receiver.store.objects import hint_for
from kcl_receiver.store.store import open_store

ATTEMPTS = 2
"""Tries of a call: somebody is waiting for the answer."""

ROOM_IN_BLOCKS = 8
"""Free room below this many blocks is said: the store would be full within seconds to minutes."""


def probe_machine(config: ReceiverConfig, java: str | None = None) -> Iterator[Finding]:
    """Yield whether Java, the jars and the processor's program are there, and the socket's directory is ours."""
    try:
        found = find_java(java, config.java)
        yield Finding(MACHINE, OK, "java", f"{found.path}, version {found.version}, by {found.found_by}")
        yield Finding(MACHINE, OK, "launch", tune(config, found).reason)
    except ReceiverError as error:
        yield Finding(MACHINE, ERROR, "java", error.message, error.hint)
    try:
        yield Finding(MACHINE, OK, "jars", str(find_jars(config.jars, deep=True)))
    except ReceiverError as error:
        yield Finding(MACHINE, ERROR, "jars", error.message, error.hint)
    yield from find_executable(config)
    yield from probe_socket_directory(config.socket.parent)
    yield from probe_log_directory(config.log_directory)


def probe_log_directory(directory: Path) -> Iterator[Finding]:
    """Yield whether `run` can write its logs."""
    there = _nearest_existing(directory)
    try:
        _try_to_write(there)
    except OSError as error:
        reason = f"{directory}: {there} cannot be written: {error.strerror}"
        hint = f"{hint_for(error) or 'see what is there'}; or name another directory: receiver.logDirectory"
        yield Finding(MACHINE, ERROR, "logs", reason, hint)
    else:
        yield Finding(MACHINE, OK, "logs", f"{directory}{'' if there == directory else ' will be made'}")


def probe_socket_directory(directory: Path) -> Iterator[Finding]:
    """Yield whether the socket's directory belongs to this user alone, or can be made."""
    there = _nearest_existing(directory)
    if there != directory:
        if os.access(there, os.W_OK | os.X_OK):
            yield Finding(MACHINE, OK, "socket", f"{directory} will be made")
        else:
            yield Finding(
                MACHINE, ERROR, "socket", f"{directory} cannot be made: no right to write to {there}", _SOCKET
            )
        return
    about = directory.stat()
    if about.st_uid != os.getuid() or about.st_mode & 0o022:
        reason = f"{directory} belongs to another user, or others may write to it"
        yield Finding(MACHINE, ERROR, "socket", reason, _SOCKET)
    else:
        yield Finding(MACHINE, OK, "socket", str(directory))


_SOCKET = "name a path in a directory that belongs to this user alone: receiver.socket"


def probe_store(config: ReceiverConfig) -> Iterator[Finding]:
    """Yield whether blocks can be written, and whether the store is this application's."""
    directory = config.store_directory
    there = _nearest_existing(directory)
    try:
        _try_to_write(there)
    except OSError as error:
        hint = f"{hint_for(error) or 'see what is there'}; or name another place: receiver.store"
        yield Finding(STORE, ERROR, "store", f"{there} cannot be written: {error.strerror}", hint)
        return
    free = shutil.disk_usage(there).free
    if free < ROOM_IN_BLOCKS * config.block_max_bytes:
        yield Finding(STORE, WARNING, "store", f"only {free >> 20} MiB are free in {there}", "make room")
    try:
        owner = open_store(config.store).owner()
    except ReceiverError as error:
        yield Finding(STORE, ERROR, "store", error.message, error.hint)
        return
    if owner is not None and owner != config.application_name:
        yield Finding(
            STORE,
            ERROR,
            "store",
            f"{config.store} belongs to application {owner!r}, not to {config.application_name!r}",
            "give each application a store of its own: change receiver.store or applicationName",
        )
    else:
        yield Finding(STORE, OK, "store", f"{config.store}, {'new' if owner is None else 'of this application'}")


def probe_stream(config: ReceiverConfig) -> Iterator[Finding]:
    """Yield whether stream and lease table can be read, whether they belong together, and where LATEST begins."""
    try:
        kinesis = aws.client(config.access("kinesis"), ATTEMPTS)
        dynamodb = aws.client(config.access("dynamodb"), ATTEMPTS)
        summary = aws.describe_stream(kinesis, config.stream_name, config.stream_arn)
        shards = list(aws.list_shards(kinesis, config.stream_name, config.stream_arn))
        severity = OK if summary.status in ("ACTIVE", "UPDATING") else ERROR
        said = f"{summary.identity.arn} is {summary.status}: {summary.open_shards} open shards of {len(shards)}"
        yield Finding(STREAM, severity, "stream", f"{said}, retention {summary.retention_hours} h")
    except ReceiverError as error:
        yield Finding(STREAM, ERROR, "stream", error.message, error.hint, error.mends)
        return
    yield from probe_leases(dynamodb, config, shards)


def probe_leases(dynamodb: Any, config: ReceiverConfig, shards: list[Shard]) -> Iterator[Finding]:  # noqa: ANN401
    """Yield whether KCL's lease table can be read, whether it is of this stream, and where LATEST begins."""
    table = config.table_name
    try:
        leases = aws.read_leases(dynamodb, table)
    except ReceiverError as error:
        yield Finding(STREAM, ERROR, "leases", error.message, error.hint, error.mends)
        return
    if leases is None:
        yield _no_table(config)
    else:
        stale = list(stale_leases(leases, shards, kcl_tables(config)))
        yield from stale or [Finding(STREAM, OK, "leases", f"table {table}: {len(leases)} leases")]
    if config.initial_position.kind == "LATEST":
        yield from probe_start(dynamodb, config, leases or [])


def probe_start(dynamodb: Any, config: ReceiverConfig, leases: Sequence[Lease]) -> Iterator[Finding]:  # noqa: ANN401
    """Yield from when on LATEST reads."""
    table = start.table_of(config)
    try:
        pinned = start.pinned(dynamodb, table)
    except ReceiverError as error:
        yield Finding(STREAM, ERROR, "start", error.message, error.hint, error.mends)
        return
    unknown = start.undecided(leases, pinned, config)
    if unknown is not None:
        yield Finding(STREAM, ERROR, "start", unknown.message, unknown.hint)
    elif pinned is None:
        time = "a time before all records, since shards were read before" if leases else "the time of the first start"
        yield Finding(STREAM, OK, "start", f"LATEST: `run` makes table {table} with {time}")
    else:
        yield Finding(STREAM, OK, "start", f"LATEST: from {start.said(pinned)} on, by table {table}")


def _no_table(config: ReceiverConfig) -> Finding:
    """Return what a lease table that is not there means: a first start, or that it was deleted."""
    table = config.table_name
    try:
        running = any(one.state != "closed" for one in ask_status(config.socket).shards)
    except ReceiverError:
        running = False
    if running:
        reason = f"there is no table {table}, and the receiver runs: nothing can be checkpointed, and leases are lost"
        way_out = "stop the receiver and start it again: KCL then makes the table; what is stored is not stored twice"
        return Finding(STREAM, ERROR, LEASES_GONE, reason, way_out)
    try:
        stored = next(open_store(config.store).list_blocks(), None) is not None
    except ReceiverError:
        stored = False  # the store's own finding says why
    if not stored:
        return Finding(STREAM, OK, NO_LEASES, f"{table}; KCL makes it at the first start")
    reason = (
        f"there is no table {table}, though {config.store} holds blocks: it was deleted, or tableName or "
        "applicationName was changed. KCL makes it anew and reads from the starting point; what is stored is not "
        "stored twice, and what lies before the starting point is not read; TRIM_HORIZON reads all there is"
    )
    return Finding(STREAM, WARNING, LEASES_GONE, reason, "initialPositionInStream = TRIM_HORIZON")


def probe_running(config: ReceiverConfig) -> Iterator[Finding]:
    """Yield what is wrong with the receiver that runs now; nothing if none does."""
    live = Watch(config).look()
    if live.generator is None:
        return
    # What the lease table says is told with the stream.
    problems = [one for one in live.problems if one.key not in ("table", "leases")]
    for problem in problems:
        yield Finding(RECEIVER, ERROR, "running", problem.text, problem.hint)
    if not problems:
        yield Finding(RECEIVER, OK, "running", f"pid {live.generator.pid}: {live.phase}")


def stale_leases(leases: Iterable[Lease], shards: Iterable[Shard], tables: Sequence[str]) -> Iterator[Finding]:
    """Yield each lease that cannot be of this stream: the table is older than the stream, which was made again.

    A checkpoint lies between its shard's first and last sequence number, and only a closed shard ends. KCL would
    start at a number that means nothing to the stream, or never read a shard that it believes to be finished.
    """
    by_id = {shard.id: shard for shard in shards}
    table = tables[0]
    way_out = (
        f"if the stream was made again: stop all workers, delete the tables {', '.join(tables)}, and start "
        "again; the blocks of the old stream stay as they are"
    )
    for lease in leases:
        shard = by_id.get(lease.shard)
        reason = ""
        if shard is None:
            if lease.checkpoint != "SHARD_END":
                reason = f"{lease.shard} is not finished, and the stream has no such shard: what it held was trimmed"
        elif lease.checkpoint == "SHARD_END":
            if shard.last is None:
                reason = f"{lease.shard} is finished by its lease, and open in the stream: it would never be read"
        elif lease.checkpoint == "LATEST":
            yield Finding(
                STREAM,
                ERROR,
                "leases",
                f"{lease.shard} was begun with LATEST and has no checkpoint: it would begin at the newest record again",
                f"stop all workers and delete this row of the table {table}; it is then made with the position of now",
            )
        elif lease.checkpoint.isdecimal():
            number = int(lease.checkpoint)
            if number < shard.first or (shard.last is not None and number > shard.last):
                reason = f"{lease.shard}'s checkpoint {lease.checkpoint} lies outside of the shard's sequence numbers"
        if reason:
            yield Finding(STREAM, WARNING if shard is None else ERROR, "leases", reason, way_out)


def kcl_tables(config: ReceiverConfig) -> tuple[str, str, str]:
    """Return the names of KCL's tables: leases, workers, coordinator. Only the first follows tableName."""
    application = config.application_name
    return (
        config.table_name,
        config.raw.get("workerMetricsTableName") or f"{application}-WorkerMetricStats",
        config.raw.get("coordinatorStateTableName") or f"{application}-CoordinatorState",
    )


def _nearest_existing(path: Path) -> Path:
    for parent in (path, *path.parents):
        # A name that is too long, or below a directory that may not be entered, is told where it is written to.
        with contextlib.suppress(OSError):
            if parent.exists():
                return parent
    return path


def _try_to_write(directory: Path) -> None:
    """Write something that has no name into a directory, and make it durable.

    Raises:
        OSError: It cannot be done.
    """
    with tempfile.TemporaryFile(dir=directory) as file:
        file.write(b"x")
        os.fsync(file.fileno())
