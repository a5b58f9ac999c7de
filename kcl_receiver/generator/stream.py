"""What the generator asks the stream: is it still the same one, what is a shard, and is it closed.

A stream deleted and made again under its old name has sequence numbers of its own, and the lease table does not know.
So every session's start, and every shard's end, is held against the stream itself. Two rules: only
DescribeStreamSummary says that the stream is gone or another one, which ends all reading; and whatever else is wrong
with one lease is a verdict on that lease alone. A shard that the stream no longer lists was closed and then trimmed.
"""

from __future__ import annotations

import threading
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from kcl_receiver import aws
from kcl_receiver.errors import LeaseRefused, StreamGone, StreamReplaced, StreamUnavailable
from kcl_receiver.generator.effects import ShardFacts
from kcl_receiver.ranges import After, Position, Range, StreamIdentity

LEASES_HINT = (
    "the lease table {table} was made for a stream that was deleted: stop, delete that table (or give the application "
    "a new name), and start again; the blocks of the old stream stay as they are"
)
LEASE_HINT = (
    "if the stream was made again: stop, delete the lease table {table} (or give the application a new name), and "
    "start again. If only this lease was edited: stop, set it to a position of the stream or delete its row, and start"
)


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
        self.retention_hours = 0

    def describe(self, expected: StreamIdentity | None) -> StreamIdentity:
        """Return which stream has the name now.

        Args:
            expected: The stream that was read before, or None if none was.

        Raises:
            StreamGone: There is none, or it is being deleted.
            StreamReplaced: It is not the expected one.
            StreamUnavailable: AWS does not tell.
        """
        summary = aws.describe_stream(self._kinesis, self._name, self._arn)
        if summary.status == "DELETING":
            raise StreamGone(f"stream {self._name} is being deleted", "what was stored stays; nothing more will come")
        if expected is not None and summary.identity != expected:
            raise StreamReplaced(
                f"stream {self._name} was deleted and made again: it is {summary.identity}, and was {expected}",
                LEASES_HINT.format(table=self._table),
            )
        self.retention_hours = summary.retention_hours
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
        try:
            self._shards = {one.id: one for one in aws.list_shards(self._kinesis, self._name, self._arn)}
        except StreamGone as error:
            raise self._contradiction("ListShards", f"there is no stream {self._name}") from error

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
    view: StreamView,
    arrival: int | None,
    held: tuple[Range, ...],
    stream: StreamIdentity,
    shard: str,
    after: After,
    now_ms: int,
) -> ShardFacts:
    """Return what a session needs to know before its first batch; blocks while AWS is asked.

    Args:
        view: The stream.
        arrival: Arrival time of the last stored record up to `after`, -1 if unknown; None if no range holds `after`.
        held: The shard's ranges past `after` whose blocks are present.
        stream: The stream that this generator reads.
        shard: Shard id.
        after: Where the session begins.
        now_ms: Wall clock, milliseconds since the epoch.

    Raises:
        StreamGone: The stream is gone.
        StreamReplaced: It is another one.
        LeaseRefused: The checkpoint is none of this stream's.
        StreamUnavailable: AWS does not tell.
    """
    view.describe(stream)
    described = view.shard(shard)
    if described is None:
        return ShardFacts(held, (), None, view.retention_hours, possibly_trimmed=True)
    if isinstance(after, Position) and arrival is None:
        view.check_position(shard, after)
    retention_ms = view.retention_hours * 3_600_000
    return ShardFacts(
        held=held,
        parents=described.parents,
        hash_range=described.hash_range,
        retention_hours=view.retention_hours,
        possibly_trimmed=arrival is not None and 0 <= arrival < now_ms - retention_ms,
    )


def confirm_shard_end(view: StreamView, stream: StreamIdentity, shard: str) -> None:
    """Return if the shard is closed in this very stream; blocks while AWS is asked.

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
