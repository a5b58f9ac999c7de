"""Where lost records are read again: one `RangeFetcher` for each stream that a store has had.

A block knows its stream by ARN and creation time, so that nothing has to be named: the region is in the ARN. Options
can say otherwise, for an emulator or a proxy.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from kcl_receiver import aws
from kcl_receiver.config.credentials import Access
from kcl_receiver.errors import StreamGone
from kcl_receiver.kinesis.range_fetcher import Progress, RangeFetcher, connect
from kcl_receiver.kinesis.rate_limit import Limits
from kcl_receiver.kinesis.shard_client import PATIENCE, WORKERS
from kcl_receiver.ranges import StreamIdentity
from kcl_receiver.recovery.restore import Source

KINESIS = Access("kinesis", None, None)


class Sources:
    """Makes a `Source` for each stream, once.

    Args:
        access: Where Kinesis is, and as whom it is asked; no region takes that of the stream's ARN.
        by_arn: Name streams by their ARN, as for those of another account.
        workers: See `RangeFetcher`.
        limits: See `RangeFetcher`.
        patience: See `RangeFetcher`.
        stop: See `RangeFetcher`.
        progress: See `RangeFetcher`. What each stream counts begins with 0.
    """

    def __init__(
        self,
        access: Access = KINESIS,
        *,
        by_arn: bool = False,
        workers: int = WORKERS,
        limits: Limits | None = None,
        patience: float = PATIENCE,
        stop: threading.Event | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self._access = access
        self._by_arn = by_arn
        self._workers = workers
        self._limits = limits
        self._patience = patience
        self._stop = stop
        self._progress = progress
        self._made: dict[StreamIdentity, Source] = {}

    def __call__(self, stream: StreamIdentity) -> Source:
        """Return where the records of a stream come from. A stream that is gone is found out by reading.

        Raises:
            ConfigError: There is no region.
            StreamUnavailable: AWS does not answer, or does not allow it.
        """
        if stream not in self._made:
            access = self._access_of(stream)
            rereader = RangeFetcher(
                connect(access),
                by_arn=self._by_arn,
                workers=self._workers,
                limits=self._limits,
                patience=self._patience,
                stop=self._stop,
                progress=self._progress,
            )
            patient = aws.client(access)
            name, arn = _named(stream, by_arn=self._by_arn)
            try:
                shards = {one.id: one.hash_range for one in aws.list_shards(patient, name, arn)}
            except StreamGone:
                shards = {}
            self._made[stream] = Source(rereader, shards)
        return self._made[stream]

    def retention_hours(self, stream: StreamIdentity) -> int | None:
        """Return for how long a stream keeps a record; None if it is gone, or another one has its name.

        Raises:
            ConfigError: There is no region.
            StreamUnavailable: AWS does not answer, or does not allow it.
        """
        client = aws.client(self._access_of(stream))
        try:
            summary = aws.describe_stream(client, *_named(stream, by_arn=self._by_arn))
        except StreamGone:
            return None
        return summary.retention_hours if summary.identity == stream else None

    def _access_of(self, stream: StreamIdentity) -> Access:
        return self._access._replace(region=self._access.region or stream.arn.split(":")[3] or None)


def _named(stream: StreamIdentity, *, by_arn: bool) -> tuple[str, str | None]:
    return stream.arn.rpartition("/")[2], stream.arn if by_arn else None
