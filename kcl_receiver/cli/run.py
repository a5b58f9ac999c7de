"""`kcl-receiver run`: lands a stream until it is told to stop."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import click

from kcl_receiver.cli.check import examine, show
from kcl_receiver.cli.options import properties_option
from kcl_receiver.config.paths import SUPERVISED
from kcl_receiver.config.properties import ReceiverConfig
from kcl_receiver.daemon.background import Task
from kcl_receiver.daemon.command import daemon_command
from kcl_receiver.daemon.daemon_properties import daemon_environment, overrides, store_token, write_effective
from kcl_receiver.daemon.findings import ERROR, LEASES_GONE, NO_LEASES, OK, WARNING, Finding, exit_code
from kcl_receiver.daemon.jars import find_jars
from kcl_receiver.daemon.java import find_java
from kcl_receiver.daemon.lock import RunLock
from kcl_receiver.daemon.logs import LogFile
from kcl_receiver.daemon.startup_estimate import patience
from kcl_receiver.daemon.supervision import Child
from kcl_receiver.daemon.supervisor import Plan, Supervisor
from kcl_receiver.daemon.tuning import tune
from kcl_receiver.daemon.watch import Watch
from kcl_receiver.errors import ConfigError, ReceiverError, StreamError
from kcl_receiver.generator.client import ask_status
from kcl_receiver.times import log_time

MOST_PAUSE_SECONDS = 30.0
"""Between two tries to learn from when on LATEST reads."""

READY_SECONDS = 1.0
"""For the generator's answer whether it is ready: a supervisor that waits is deaf to signals."""


@click.command()
@properties_option
@click.option("--java", metavar="PATH", help="The java executable, instead of the one that would be found.")
@click.option("--log-configuration", metavar="FILE", help="A logback file, instead of the one of this package.")
@click.pass_context
def run(ctx: click.Context, properties: str, java: str | None, log_configuration: str | None) -> None:
    """Land a stream: supervise the generator and the java daemon.

    Checks everything first, then runs until SIGTERM, SIGINT (Ctrl-C) or SIGHUP. The first one drains within
    shutdownGraceMillis: what was read is stored and checkpointed. A second Ctrl-C, or a SIGTERM a second later, ends
    all at once; what is not stored is then read again at the next start. Children that exit are started again.

    Says when shards begin to be read, when the first record is stored, and, for as long as it lasts, that nothing is
    being read, with the reason.

    Only one runs per host and application. The logs are generator.log and daemon.log in receiver.logDirectory. With
    receiver.compactTargetBytes, small blocks are merged beside it, every ten minutes; that log is compact.log.

    \b
    Examples:
      kcl-receiver run --properties landing.properties
      kcl-receiver run --properties landing.properties --java /opt/jre/bin/java
    """
    logback = None if log_configuration is None else Path(log_configuration)
    if logback is not None and not logback.is_file():
        raise ConfigError(f"--log-configuration {logback}: there is no such file", "name a logback configuration")
    config, findings = examine(properties, java, offline=False)
    findings = [finding for finding in findings if not _mended_by_run(config, finding)]
    refused = [finding for finding in findings if finding.severity == ERROR and not finding.mends]
    if config is None or refused:
        show([finding for finding in findings if finding.severity != OK], err=True)
        ctx.exit(exit_code(refused))
    for finding in findings:
        if finding.severity != OK:
            hint = f"\n-> {finding.instead}" if finding.instead else ""
            tell(f"{WARNING}: {finding.subject}: {finding.reason}{hint}")
    ctx.exit(_run(config, java, logback, findings))


def _run(config: ReceiverConfig, java: str | None, logback: Path | None, findings: list[Finding]) -> int:
    lock = RunLock(config.socket.parent, config.path)
    try:
        pinned = _pinned(config)
        changed = overrides(config, pinned, _token(config))
        effective = write_effective(config, changed, config.socket.parent)
        found = find_java(java, config.java)
        tuning = tune(config, found).options
        daemon = daemon_command(config, found.path, find_jars(config.jars), effective, logback, tuning)
        tell(patience(config, first=any(finding.subject in (NO_LEASES, LEASES_GONE) for finding in findings)))
        logs = {child: LogFile(config.log_directory / f"{child.value}.log") for child in Child}
        plan = Plan(
            commands={Child.GENERATOR: generator_command(config, pinned), Child.DAEMON: daemon},
            # PYTHONSAFEPATH: the working directory must not shadow modules of the generator.
            environments={
                Child.GENERATOR: {**os.environ, "PYTHONSAFEPATH": "1", SUPERVISED: "1"},
                Child.DAEMON: daemon_environment(str(logs[Child.GENERATOR].path)),
            },
            logs=logs,
            ready=lambda: _ready(config),
            grace_seconds=(config.shutdown_grace_millis or 0) / 1000,
            task=compaction(config) if config.compact_target_bytes is not None else None,
            prepare=lambda: _prepare(config, changed, effective),
            look=Watch(config).look_sparingly,
        )
        return Supervisor(plan, lock, tell).run()
    finally:
        lock.release()


def _ready(config: ReceiverConfig) -> bool:
    try:
        return ask_status(config.socket, READY_SECONDS).prepared
    except ReceiverError:
        return False  # not yet: what it waits for is told by the look at the live state


def _prepare(config: ReceiverConfig, changed: Mapping[str, str | None], effective: Path) -> None:
    write_effective(config, changed, effective.parent)


def generator_command(config: ReceiverConfig, begins_at: int | None = None) -> list[str]:
    """Return the command line of the generator, run by the same Python as this.

    Args:
        config: The user's settings.
        begins_at: The time that LATEST was turned into, milliseconds since the epoch, or None.
    """
    command = [sys.executable, "-m", "kcl_receiver.cli.main", "generator", "--properties", str(config.path)]
    return command if begins_at is None else [*command, "--begins-at", str(begins_at)]


def compaction(config: ReceiverConfig) -> Task:
    """Return the task that merges small blocks: all that there are at first, then those of the last days."""

    def command(succeeded: int) -> list[str]:
        base = [sys.executable, "-m", "kcl_receiver.cli.main", "compact", "--low-priority"]
        # A block is of the day on which its writer began, and is old enough an hour after it was stored.
        since = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 2 * 86_400))
        return [*base, "--properties", str(config.path), *(["--since", since] if succeeded else [])]

    log = LogFile(config.log_directory / "compact.log")
    return Task("compaction", command, {**os.environ, "PYTHONSAFEPATH": "1"}, log)


def tell(message: str) -> None:
    """Print a message on stderr with the time; its further lines, such as hints, are set in below it."""
    stamp = log_time(time.time())
    text = message.replace("\n", "\n" + " " * (len(stamp) + 1))
    # Whoever read our stderr may have left: `run 2>&1 | tee log` and Ctrl-C, for one. That must not end the drain.
    with contextlib.suppress(OSError):
        click.echo(f"{stamp} {text}", err=True)


def _token(config: ReceiverConfig) -> str:
    from kcl_receiver.store.store import open_store  # noqa: PLC0415 - pyarrow: help does without it

    store = open_store(config.store)
    store.claim(config.application_name)
    return store_token(store)


def _pinned(config: ReceiverConfig) -> int | None:
    """Turn LATEST into the time of the first start, and say so."""
    if config.initial_position.kind != "LATEST":
        return None
    from kcl_receiver import aws  # noqa: PLC0415 - boto3: help does without it
    from kcl_receiver.daemon import start  # noqa: PLC0415

    asked_at = int(time.time() * 1000)
    dynamodb = aws.client(config.access("dynamodb"))
    pause, said = 1.0, ""
    while True:
        try:
            pinned = start.pin(dynamodb, config, asked_at)
            break
        except StreamError as error:
            if not error.mends:
                raise
            if error.message != said:
                tell(f"waiting to learn from when on LATEST reads: {error.message}\n-> {error.hint}")
            said, pause = error.message, min(pause * 2, MOST_PAUSE_SECONDS)
        time.sleep(pause)
    tell(
        f"LATEST means from {start.said(pinned)} on, the time of the first start, which is kept in table "
        f"{start.table_of(config)} for all hosts"
    )
    return pinned


def _mended_by_run(config: ReceiverConfig | None, finding: Finding) -> bool:
    """Tell whether a finding is about what `run` puts right by itself."""
    return config is not None and finding.subject == "executableName" and finding.severity == WARNING
