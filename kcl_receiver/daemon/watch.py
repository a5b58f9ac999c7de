"""Takes one look at all that is known of the live state: the generator, the lease table, and the daemon's log."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from kcl_receiver import aws
from kcl_receiver.config.properties import ReceiverConfig
from kcl_receiver.daemon.daemon_properties import is_own_worker
from kcl_receiver.daemon.logs import LogFile
from kcl_receiver.daemon.startup_estimate import longest_start_seconds
from kcl_receiver.errors import ReceiverError
from kcl_receiver.generator.client import ask_status
from kcl_receiver.status.live import LOST, Live, look
from kcl_receiver.status.report import GeneratorState, LeaseState, WriterState
from kcl_receiver.status.writers import STORE_SECONDS, living_writers, within
from kcl_receiver.store.store import open_store

ATTEMPTS = 2
"""Tries of a call to AWS: somebody waits for the answer."""

EAGER_SECONDS = 10.0
"""Between two questions for the leases while KCL starts, or while something seems not to be read."""

LEASES_SECONDS = 60.0
"""The same later on: where nothing is read on this host for good, because others have all shards, this goes on."""

Leases = Sequence[LeaseState] | ReceiverError | None
"""Rows; none if the table was not asked for; or why it cannot be read; None if there is no table."""


class Watch:
    """Looks again and again; keeps its client of DynamoDB, which takes long to make.

    Args:
        config: The settings.
        dynamodb: A boto3 client to use instead of one that is made by the settings.
    """

    def __init__(self, config: ReceiverConfig, dynamodb: Any = None) -> None:  # noqa: ANN401
        self._config = config
        self._start_seconds = longest_start_seconds(config)
        self._dynamodb = dynamodb
        self._leases_at: float | None = None
        self._leases: Leases = ()

    def look(self, log_from: int = 0, *, writers: bool = False) -> Live:
        """Return the live state; what cannot be asked is told as a problem.

        Args:
            log_from: Where in daemon.log the present daemon's lines begin.
            writers: Look also in the store, which generators write to it.
        """
        leases = self._read_leases()
        found = self._read_writers(leases) if writers else None
        return self._judged(ask_generator(self._config), leases, log_from, found)

    def look_sparingly(self, log_from: int = 0) -> Live:
        """Return the same, and ask AWS for the leases only where they can say what is the matter, and not each time."""
        generator = ask_generator(self._config)
        live = self._judged(generator, (), log_from)
        if live.reading and not live.problems:
            self._leases = ()
            return live
        starting = live.generator is not None and live.generator.uptime_seconds < self._start_seconds
        # What was silent may be another host's by now: only the leases tell.
        eager = starting or any(one.condition in LOST for one in live.shards)
        pause = EAGER_SECONDS if eager else LEASES_SECONDS
        now = time.monotonic()
        if self._leases_at is None or now >= self._leases_at + pause:
            self._leases_at, self._leases = now, self._read_leases()
        return self._judged(generator, self._leases, log_from)

    def _judged(
        self,
        generator: GeneratorState | ReceiverError,
        leases: Leases,
        log_from: int,
        writers: list[WriterState] | ReceiverError | None = None,
    ) -> Live:
        def judged(said: str) -> Live:
            return look(
                generator,
                leases,
                ours=lambda owner: is_own_worker(self._config, owner),
                start_seconds=self._start_seconds,
                said=said,
                writers=writers,
            )

        live = judged("")
        # The log is read only where it can say why.
        return judged(daemon_error(self._config, generator, log_from)) if live.unread else live

    def _read_writers(self, leases: Leases) -> list[WriterState] | ReceiverError:
        rows = () if leases is None or isinstance(leases, ReceiverError) else leases
        owners = {one.shard: one.owner for one in rows if not one.ended}
        now = round(1000 * time.time())
        return within(STORE_SECONDS, lambda: living_writers(open_store(self._config.store), now, owners))

    def _read_leases(self) -> Leases:
        config = self._config
        try:
            if self._dynamodb is None:
                self._dynamodb = aws.client(config.access("dynamodb"), ATTEMPTS)
            found = aws.read_leases(self._dynamodb, config.table_name)
        except ReceiverError as error:
            return error
        return None if found is None else [_lease(one) for one in found]


def _lease(found: aws.Lease) -> LeaseState:
    return LeaseState(
        shard=found.shard,
        checkpoint=found.checkpoint,
        sub_sequence_number=found.sub_sequence_number,
        owner=found.owner,
        counter=found.counter,
    )


def ask_generator(config: ReceiverConfig) -> GeneratorState | ReceiverError:
    """Return what the generator reports of itself, or why it does not."""
    try:
        return ask_status(config.socket)
    except ReceiverError as error:
        return error


def daemon_error(config: ReceiverConfig, generator: GeneratorState | ReceiverError, log_from: int = 0) -> str:
    """Return the last error in the daemon's log; empty if there is none, or if the log is of an earlier time."""
    log = daemon_log(config)
    if isinstance(generator, GeneratorState):
        written = log.written()
        # Under a plain java launch the log is another one, and this is left over.
        if written is None or time.time() - written > generator.uptime_seconds:
            return ""
    return log.last_error(log_from)


def daemon_log(config: ReceiverConfig) -> LogFile:
    """Return the log into which `run` lets the daemon write."""
    return LogFile(config.log_directory / "daemon.log")
