"""What the generator asks the stream: is it still the same one, what is a shard, and is it closed.

A stream deleted and made again under its old name has sequence numbers of its own, and the lease table does not know.
So every session's start, and every shard's end, is held against the stream itself. Two rules: only
DescribeStreamSummary says that the stream is gone or another one, which ends all reading; and whatever else is wrong
with one lease is a verdict on that lease alone. A shard that the stream no longer lists was closed and then trimmed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from kcl_receiver import aws
from kcl_receiver.errors import LeaseRefused, StreamGone, StreamReplaced, StreamUnavailable
from kcl_receiver.generator.effects import Measurement, ShardFacts
from kcl_receiver.ranges import After, Position, Range, StreamIdentity

LEASES_HINT = (
    "the lease table {table} was made for a stream that was deleted: stop, delete that table (or give the application "
    "a new name), and start again; the blocks of the old stream stay as they are"
)
LEASE_HINT = (
    "if the stream was made again: stop, delete the lease table {table} (or give the application a new name), and "
    "start again. If only this lease was edited: stop, set it to a position of the stream or delete its row, and start"
)


def boot_millis() -> int:
    """Return CLOCK_BOOTTIME in milliseconds."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


class StreamView:
    """One stream, as AWS shows it. Every method may be called by any thread, and blocks.

    Args:
        kinesis: A boto3 client.
        name: The stream's name.
        arn: Its ARN, if the properties file gives one.
        table: Name of the lease table, for hints.
    """

    def __init__(self, kinesis: Any, name: str, arn: str | None, table: str) -> None:  # noqa: ANN401 - no types
        self._kinesis = kinesis
        self._name = name
        self._arn = arn
        self._table = table
        self._lock = threading.Lock()
        self._shards: dict[str, aws.Shard] = {}
        self._opened: Mapping[str, int] = {}
        self._described = Measurement(-1, 0, 0, 0)

    @property
    def retention_hours(self) -> int:
        """The stream's retention period when it was described last; 0 before it was."""
        return self._described.retention_hours

    @property
    def measured(self) -> Measurement:
        """What the stream said of itself when it was described last, and its shards when they were listed last."""
        return self._described._replace(opened=self._opened)

    def measure(self, stream: StreamIdentity) -> Measurement:
        """Ask the stream for its clock, its retention and its open shards.

        Raises:
            StreamError: See `describe`.
        """
        self.describe(stream)
        with self._lock:
            self._refresh()
        return self.measured

    def describe(self, expected: StreamIdentity | None) -> StreamIdentity:
        """Return which stream has the name now.

        Args:
            expected: The stream that was read before, or None if none was.

        Raises:
            StreamGone: There is none, or it is being deleted.
            StreamReplaced: It is not the expected one.
            StreamUnavailable: AWS does not tell.
        """
        before = boot_millis()
        summary = aws.describe_stream(self._kinesis, self._name, self._arn)
        after = boot_millis()
        if summary.status == "DELETING":
            raise StreamGone(f"stream {self._name} is being deleted", "what was stored stays; nothing more will come")
        if expected is not None and summary.identity != expected:
            raise StreamReplaced(
                f"stream {self._name} was deleted and made again: it is {summary.identity}, and was {expected}",
                LEASES_HINT.format(table=self._table),
            )
        self._described = Measurement(summary.date, before, after, summary.retention_hours)
        return summary.identity

    def shard(self, shard: str) -> aws.Shard | None:
        """Return what the stream says of a shard, None if it has none: it was closed, and all of it trimmed.

        What was listed once is kept, since only a shard's end changes.

        Raises:
            StreamUnavailable: AWS does not tell.
        """
        with self._lock:
            if shard not in self._shards:
                self._refresh()
            found = self._shards.get(shard)
        if found is None:
            self._check_not_there(shard)
        return found

    def is_closed(self, shard: str) -> bool:
        """Return whether a shard takes no more records.

        Raises:
            StreamUnavailable: AWS does not tell.
        """
        with self._lock:
            self._refresh()
            found = self._shards.get(shard)
        if found is None:
            self._check_not_there(shard)
        return found is None or found.last is not None

    def _refresh(self) -> None:
        before = boot_millis()
        try:
            self._shards = {one.id: one for one in aws.list_shards(self._kinesis, self._name, self._arn)}
        except StreamGone as error:
            raise self._contradiction("ListShards", f"there is no stream {self._name}") from error
        seen = self._described
        at = before + seen.date - seen.after if seen.date >= 0 and seen.after <= before else -1
        self._opened = {one.id: at for one in self._shards.values() if one.last is None}

    def _check_not_there(self, shard: str) -> None:
        """Return if the service knows no such shard. A new one may be read before ListShards shows it everywhere.

        Raises:
            StreamUnavailable: The service knows it, or AWS does not tell.
        """
        if self._iterator(shard, ShardIteratorType="TRIM_HORIZON"):
            raise self._contradiction("ListShards", f"there is no {shard}")

    def _contradiction(self, call: str, said: str) -> StreamUnavailable:
        return StreamUnavailable(f"{call} says that {said}, and the service says otherwise elsewhere", "asked again")

    def check_position(self, shard: str, position: Position) -> None:
        """Check that a position can be one of this stream's: the service refuses a number that it never gave.

        Raises:
            LeaseRefused: It refused it.
            StreamUnavailable: AWS does not tell.
        """
        try:
            there = self._iterator(
                shard,
                ShardIteratorType="AT_SEQUENCE_NUMBER",
                StartingSequenceNumber=str(position.sequence_number),
            )
        except ClientError as error:
            raise LeaseRefused(
                f"{shard}: the lease's checkpoint {position} is not a sequence number of stream {self._name}",
                LEASE_HINT.format(table=self._table),
            ) from error
        if not there:
            with self._lock:
                self._shards.pop(shard, None)  # it was listed, and has expired since
            raise self._contradiction("GetShardIterator", f"there is no {shard}")

    def _iterator(self, shard: str, **start: str) -> bool:
        """Ask for an iterator; return whether the service knows the shard.

        Raises:
            ClientError: InvalidArgumentException: it refuses the start.
            StreamUnavailable: AWS does not tell.
        """
        named = {"StreamName": self._name} if self._arn is None else {"StreamARN": self._arn}
        try:
            self._kinesis.get_shard_iterator(**named, ShardId=shard, **start)
        except (ClientError, BotoCoreError) as error:
            code = error.response.get("Error", {}).get("Code") if isinstance(error, ClientError) else ""
            if code == "ResourceNotFoundException":
                return False
            if code == "InvalidArgumentException":
                raise
            raise aws.stream_error(error, f"{shard} of stream {self._name}", "kinesis:GetShardIterator") from error
        return True


def shard_facts(
    view: StreamView, stream: StreamIdentity, shard: str, after: After, held: tuple[Range, ...], *, known: bool
) -> ShardFacts:
    """Return what a session needs to know before its first batch; blocks while AWS is asked.

    Args:
        view: The stream.
        stream: The stream that this generator reads.
        shard: Shard id.
        after: Where the session begins.
        held: The shard's ranges past `after` whose blocks are present.
        known: A range that is recorded holds `after`.

    Raises:
        StreamGone: The stream is gone.
        StreamReplaced: It is another one.
        LeaseRefused: The checkpoint is none of this stream's.
        StreamUnavailable: AWS does not tell.
    """
    view.describe(stream)
    described = view.shard(shard)
    if described is None:
        return ShardFacts(held, (), None, view.measured)
    if isinstance(after, Position) and not known:
        view.check_position(shard, after)
    return ShardFacts(held, described.parents, described.hash_range, view.measured)


def confirm_shard_end(view: StreamView, stream: StreamIdentity, shard: str) -> Measurement:
    """Return what the stream says of itself if the shard is closed in this very one; blocks while AWS is asked.

    KCL also reports a shard's end when the stream was deleted, and SHARD_END in the lease table would then keep the
    next stream of that name from being read.

    Raises:
        StreamGone: The stream is gone.
        StreamReplaced: It is another one.
        StreamUnavailable: AWS does not tell, or tells that the shard is open: it may not have caught up yet.
    """
    view.describe(stream)
    if not view.is_closed(shard):
        raise StreamUnavailable(
            f"KCL reported the end of {shard}, and the stream says that it is open",
            "asked again for a while; SHARD_END is not checkpointed until the stream agrees",
        )
    return view.measured
