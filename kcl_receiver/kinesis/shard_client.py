"""Makes the calls for one shard that its lane decides on, within the limits, again where they fail.

Nothing is decided here but what an error of the service means.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from botocore.exceptions import ConnectionError as NoConnection
from botocore.parsers import ResponseParserError

from kcl_receiver import aws
from kcl_receiver.errors import StreamError, StreamGone, StreamUnavailable
from kcl_receiver.kinesis.rate_limit import Limits, Pace
from kcl_receiver.kinesis.rebuild import KinesisRecord
from kcl_receiver.kinesis.shard_reread import TIP_PAGES, Action, Course, Probe, Read, Seek, Start
from kcl_receiver.processor.backoff import Backoff
from kcl_receiver.ranges import StreamIdentity, parse_sequence_number
from kcl_receiver.wire.columns import UNKNOWN_ARRIVAL

WORKERS = 8
"""Threads that make calls; botocore keeps 10 connections."""
PATIENCE = 300.0
"""Seconds without one good answer for a shard after which it is given up."""
FIRST_PATIENCE = 30.0
"""The same for the first call of all: a wrong endpoint is found out before anybody waits long."""
PAUSES = (0.2, 10.0)
"""Seconds: the first and the longest pause after a failed call."""

PASSING = frozenset(
    {
        *("ProvisionedThroughputExceededException", "LimitExceededException", "KMSThrottlingException"),
        *("ThrottlingException", "Throttling", "RequestLimitExceeded", "TooManyRequestsException"),
        *("InternalFailure", "InternalFailureException", "InternalServerError", "ServiceUnavailable"),
        *("ServiceUnavailableException", "RequestTimeout", "RequestTimeoutException"),
    }
)
"""Errors of the service that pass by themselves; every other answer of HTTP status 500 and above does too."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True)
class Manner:
    """How calls are made, the same for every shard.

    Attributes:
        limits: What to ask of each shard.
        patience: Seconds without one good answer after which a shard is given up.
        clock: Seconds that rise.
        rng: Source of jitter.
    """

    limits: Limits
    patience: float
    clock: Callable[[], float]
    rng: random.Random

    def backoff(self) -> Backoff:
        """Return pauses for what fails."""
        return Backoff(PAUSES, self.rng)


class StreamLost(Exception):
    """The stream is gone, or another one, which is `replaced`; whoever makes calls turns it into another error."""

    def __init__(self, message: str, *, replaced: bool = False) -> None:
        super().__init__(message)
        self.replaced = replaced


class Stream:
    """One stream, and whether it is still the one that was asked for."""

    def __init__(self, kinesis: Any, identity: StreamIdentity, *, by_arn: bool) -> None:  # noqa: ANN401
        self.kinesis = kinesis
        self.identity = identity
        self.name = identity.arn.rpartition("/")[2]
        self.arn = identity.arn if by_arn else None
        self.named = {"StreamARN": self.arn} if by_arn else {"StreamName": self.name}

    def check(self) -> None:
        """Return if it is.

        Raises:
            StreamLost: It is not.
            StreamUnavailable: AWS does not tell.
        """
        try:
            summary = aws.describe_stream(self.kinesis, self.name, self.arn)
        except StreamGone as error:
            raise StreamLost(f"stream {self.name} was deleted") from error
        if summary.identity != self.identity:
            raise StreamLost(
                f"stream {self.name} was made again: it is {summary.identity}, and was {self.identity}", replaced=True
            )
        if summary.status == "DELETING":
            raise StreamLost(f"stream {self.name} is being deleted")

    def check_first(self, manner: Manner, stop: threading.Event) -> None:
        """Do what `check` does before the first call for a shard, again while AWS does not answer, up to a limit.

        Args:
            manner: How calls are made.
            stop: Set to return at once.

        Raises:
            StreamLost: It is not.
            StreamUnavailable: AWS does not tell, or not in time.
        """
        backoff = manner.backoff()
        until = manner.clock() + min(FIRST_PATIENCE, manner.patience)
        while not stop.is_set():
            try:
                self.check()
            except StreamUnavailable as error:
                if not is_passing(error.__cause__) or manner.clock() > until:
                    raise
                stop.wait(backoff.next())
            else:
                return


class ShardReader:
    """Makes the calls for one shard, one at a time.

    Attributes:
        bytes: Keys and data received.
        pages: GetRecords calls that were answered.
        failed: Calls that failed and are made again.
    """

    def __init__(self, stream: Stream, lane: Course, manner: Manner) -> None:
        self._stream = stream
        self._lane = lane
        self._manner = manner
        self._pace = Pace(manner.limits)
        self._backoff = manner.backoff()
        self._failing_since: float | None = None
        self._iterator = ""
        self._probe: str | None = None
        self._probe_idle = 0
        self.bytes = 0
        self.pages = 0
        self.failed = 0

    def step(self) -> float:
        """Make the next call if it may be made now; return when to come again.

        Raises:
            StreamLost: The stream is gone.
            StreamUnavailable: AWS does not allow it, or has not answered for longer than the patience.
        """
        action = self._lane.next()
        if action is None:
            return 0.0
        now = self._manner.clock()
        for_iterator = isinstance(action, (Seek, Start)) or (isinstance(action, Probe) and self._probe is None)
        wait = self._pace.iterator_wait(now) if for_iterator else self._pace.read_wait(now)
        if wait > 0:
            return now + wait
        try:
            if isinstance(action, Seek):
                kind = "AFTER_SEQUENCE_NUMBER" if action.after else "AT_SEQUENCE_NUMBER"
                self._iterator = self._get_iterator(kind, StartingSequenceNumber=str(action.sequence))
                self._lane.placed(action)
            elif isinstance(action, Start):
                self._iterator = self._start(action)
                self._lane.placed(action)
            elif isinstance(action, Read):
                self._read(action)
            else:
                self._look_up()
        except (ClientError, BotoCoreError, ResponseParserError) as error:
            return self._failed(action, error)
        return 0.0

    def _start(self, start: Start) -> str:
        if start.since is None:
            return self._get_iterator("TRIM_HORIZON")
        return self._get_iterator("AT_TIMESTAMP", Timestamp=_EPOCH + timedelta(milliseconds=start.since))

    def _get_iterator(self, kind: str, **more: str | datetime) -> str:
        self._pace.iterator_called()
        answer = self._stream.kinesis.get_shard_iterator(
            **self._stream.named, ShardId=self._lane.shard, ShardIteratorType=kind, **more
        )
        return str(answer["ShardIterator"])

    def _get_records(self, iterator: str, limit: int) -> tuple[list[KinesisRecord], int, str | None]:
        """Return a page: its records, MillisBehindLatest, and the iterator after it, None at the end of the shard."""
        self._pace.read_called()
        answer = self._stream.kinesis.get_records(
            ShardIterator=iterator, Limit=limit, **({"StreamARN": self._stream.arn} if self._stream.arn else {})
        )
        records = [kinesis_record(raw) for raw in answer["Records"]]
        size = sum(one.size for one in records)
        self._pace.received(size)
        self.pages += 1
        self.bytes += size
        # Only a page counts as a good answer: iterators may be given and not be taken.
        self._failing_since = None
        self._backoff.reset()
        # A page that says nothing of how far it is behind is taken for one that is.
        return records, int(answer.get("MillisBehindLatest", 1)), answer.get("NextShardIterator") or None

    def _read(self, action: Read) -> None:
        records, behind, following = self._get_records(self._iterator, action.limit)
        self._iterator = following or ""
        self._lane.page(records, behind=behind, ended=following is None)

    def _look_up(self) -> None:
        if self._probe is None:
            self._probe = self._get_iterator("TRIM_HORIZON")
            self._probe_idle = 0
            return
        records, behind, self._probe = self._get_records(self._probe, 1)
        self._probe_idle = self._probe_idle + 1 if not records and behind == 0 else 0
        if records or self._probe is None or self._probe_idle >= TIP_PAGES:
            self._probe = None
            self._lane.horizon(records[0].sequence if records else None)

    def _failed(self, action: Action, error: Exception) -> float:
        """Do what an error asks for; return when to come again."""
        code = error.response.get("Error", {}).get("Code", "") if isinstance(error, ClientError) else ""
        try:
            if code == "ResourceNotFoundException":
                self._stream.check()
                self._lane.shard_gone()
                return 0.0
            if code == "InvalidArgumentException" and isinstance(action, Seek):
                self._stream.check()
                self._lane.unknown(action)
                return 0.0
        except StreamUnavailable as unavailable:
            if not is_passing(unavailable.__cause__):
                raise
            return self._pause(unavailable)
        doing = f"{self._lane.shard} of stream {self._stream.name}"
        call = "kinesis:GetRecords" if isinstance(action, Read) else "kinesis:GetShardIterator"
        if code in ("ExpiredIteratorException", "InvalidArgumentException"):
            self._forget_iterator(action)  # a new one may be taken
        elif not is_passing(error):
            raise aws.stream_error(error, doing, call) from error
        return self._pause(aws.stream_error(error, doing, call))

    def _forget_iterator(self, action: Action) -> None:
        if isinstance(action, Probe):
            self._probe = None
        else:
            self._lane.displaced()

    def _pause(self, error: StreamError) -> float:
        """Return when to try again.

        Raises:
            StreamUnavailable: It has been tried for long enough.
        """
        now = self._manner.clock()
        if self._failing_since is None:
            self._failing_since = now
        if now - self._failing_since > self._manner.patience:
            raise error
        self.failed += 1
        return now + self._backoff.next()


def kinesis_record(raw: dict[str, Any]) -> KinesisRecord:
    """Return a record of GetRecords in boto3's form.

    Raises:
        ValueError: Its sequence number is none.
    """
    digits: str = raw["SequenceNumber"]
    arrival: datetime | None = raw.get("ApproximateArrivalTimestamp")
    return KinesisRecord(
        parse_sequence_number(digits),
        digits.encode("ascii"),
        UNKNOWN_ARRIVAL if arrival is None else milliseconds(arrival),
        # Half a surrogate pair is a question mark to Java.
        raw["PartitionKey"].encode("utf-8", "replace"),
        raw["Data"],
    )


def milliseconds(moment: datetime) -> int:
    """Return a time as whole milliseconds since the epoch, as Java's Instant.toEpochMilli does."""
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


def is_passing(error: BaseException | None) -> bool:
    """Tell whether one of botocore's errors passes by itself."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return error.response.get("Error", {}).get("Code", "") in PASSING or status >= 500
    return isinstance(error, (HTTPClientError, IncompleteReadError, NoConnection, ResponseParserError))
