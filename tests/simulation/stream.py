"""The stream: shards, records with their sub-sequence numbers, sparse sequence numbers, split and merge, retention.

The service has a clock of its own, which is the timeline's: a record's arrival is taken from it, and by it records are
trimmed and closed shards expire. What KCL would print of a record is made once, when it is put.
"""

from __future__ import annotations

import base64
import random
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from kcl_receiver.ranges import AT_TIMESTAMP, Position, StreamIdentity
from simulation.timeline import EPOCH_MS, Timeline

ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/simulated"
CREATED = EPOCH_MS - 86_400_000
IDENTITY = StreamIdentity(ARN, CREATED)
RETENTION_HOURS = 24 * 7
HOUR_MS = 3_600_000


@dataclass
class Shard:
    """One shard; `records` are Kinesis records as lists of user records, each as the daemon prints it.

    Attributes:
        arrivals: When each Kinesis record arrived, by the service's clock.
        begins: For each Kinesis record, the number of user records before it.
        trimmed: So many Kinesis records are trimmed.
        closed_at: When it was closed, by the service's clock.
        before_start: So many user records came before the time from which reading begins, and are not asked for.
    """

    id: str
    parents: tuple[str, ...] = ()
    sequences: list[int] = field(default_factory=list)
    records: list[list[tuple[Position, str]]] = field(default_factory=list)
    positions: list[Position] = field(default_factory=list)
    last_sub: dict[int, int] = field(default_factory=dict)
    children: tuple[str, ...] = ()
    closed: bool = False
    start: int = 0
    arrivals: list[int] = field(default_factory=list)
    begins: list[int] = field(default_factory=list)
    trimmed: int = 0
    closed_at: int = 0
    before_start: int = 0


class Stream:
    """See the module."""

    def __init__(self, rng: random.Random, timeline: Timeline, shards: int, epoch: int = EPOCH_MS) -> None:
        self._rng = rng
        self._timeline = timeline
        self._epoch = epoch
        self.retention_hours = RETENTION_HOURS
        self.shards_expire = True
        # Just below a power of ten, so that numbers grow by a digit on the way: text would order them wrongly.
        self._sequence = 10 ** rng.randint(4, 56) - rng.randint(1, 3000)
        self.shards: dict[str, Shard] = {}
        self.put_count = 0
        self.content: dict[tuple[str, Position], tuple[bytes, bytes]] = {}
        self.arrival: dict[tuple[str, Position], int | None] = {}
        self.arrivals_waver = False
        self.unavailable_until = 0.0
        for _ in range(shards):
            self._open(())

    def _open(self, parents: tuple[str, ...]) -> Shard:
        shard = Shard(f"shardId-{len(self.shards):012d}", parents, start=self._next_sequence())
        self.shards[shard.id] = shard
        return shard

    def _next_sequence(self) -> int:
        self._sequence += self._rng.randint(1, 9)
        return self._sequence

    def open_shards(self) -> list[Shard]:
        return [shard for shard in self.shards.values() if not shard.closed]

    # Time

    def millis(self) -> int:
        """The service's clock."""
        return self._epoch + int(self._timeline.now * 1000)

    def trim(self, shard: Shard) -> int:
        """Return how many Kinesis records of a shard are trimmed; what is trimmed never comes back."""
        horizon = self.millis() - self.retention_hours * HOUR_MS
        if shard.trimmed < len(shard.arrivals) and shard.arrivals[shard.trimmed] < horizon:
            shard.trimmed = bisect_left(shard.arrivals, horizon, lo=shard.trimmed)
        return shard.trimmed

    def retained_from(self, shard: Shard) -> int:
        """Return the index of the first user record that the stream still has."""
        trimmed = self.trim(shard)
        return shard.begins[trimmed] if trimmed < len(shard.begins) else len(shard.positions)

    def expired(self, shard: Shard) -> bool:
        """Whether a closed shard is so old that the service does not list it any more."""
        old = shard.closed and shard.closed_at + self.retention_hours * HOUR_MS < self.millis()
        return old and self.shards_expire

    def listed(self) -> list[Shard]:
        """What ListShards gives."""
        return [shard for shard in self.shards.values() if not self.expired(shard)]

    def put(self, shard: Shard, count: int, ago: int = 0) -> None:
        """Put one Kinesis record, some milliseconds ago; with more than one user record it is an aggregate."""
        sequence = self._next_sequence()
        now = self.millis() - ago
        arrival: int | None = now
        if self.arrivals_waver and self._rng.random() < 0.03:
            arrival = None if self._rng.random() < 0.1 else now + self._rng.randint(-2_000, 20_000)
        out = []
        for sub in range(count):
            self.put_count += 1
            key, data = f"k{self.put_count % 97}é" if sub == 1 else "k", b"%d:%d" % (self.put_count, sequence % 977)
            position = Position(sequence, sub)
            said = "null" if arrival is None else arrival
            out.append(
                (
                    position,
                    f'{{"sequenceNumber":"{sequence}","subSequenceNumber":{sub},"partitionKey":"{key}","data":"'
                    f'{base64.b64encode(data).decode()}","approximateArrivalTimestamp":{said}}}',
                )
            )
            self.arrival[shard.id, position] = arrival
            shard.positions.append(position)
            self.content[shard.id, position] = (key.encode(), data)
        shard.sequences.append(sequence)
        shard.arrivals.append(now)
        shard.begins.append(len(shard.positions) - count)
        shard.records.append(out)
        shard.last_sub[sequence] = count - 1

    def split(self, shard: Shard) -> None:
        self._close(shard)
        shard.children = (self._open((shard.id,)).id, self._open((shard.id,)).id)

    def merge(self, one: Shard, other: Shard) -> None:
        self._close(one, other)
        one.children = other.children = (self._open((one.id, other.id)).id,)

    def _close(self, *shards: Shard) -> None:
        for shard in shards:
            shard.closed = True
            shard.closed_at = self.millis()
        self._next_sequence()

    # What the receiver asks, in the words of boto3.

    def client(self) -> SimpleNamespace:
        return SimpleNamespace(
            describe_stream_summary=self._describe, list_shards=self._list, get_shard_iterator=self._iterator
        )

    def _answer(self, operation: str) -> None:
        if self._timeline.now < self.unavailable_until:
            raise ClientError({"Error": {"Code": "LimitExceededException", "Message": "Rate exceeded"}}, operation)

    def _describe(self, **_: Any) -> dict[str, Any]:  # noqa: ANN401
        self._answer("DescribeStreamSummary")
        summary = {
            "StreamARN": ARN,
            "StreamCreationTimestamp": datetime.fromtimestamp(CREATED / 1000, timezone.utc),
            "StreamStatus": "ACTIVE",
            "OpenShardCount": len(self.open_shards()),
            "RetentionPeriodHours": self.retention_hours,
        }
        return {"StreamDescriptionSummary": summary, **self.metadata()}

    def metadata(self) -> dict[str, Any]:
        """What boto3 adds of the answer's headers: the service's clock, in whole seconds."""
        return {"ResponseMetadata": {"HTTPHeaders": {"date": formatdate(self.millis() // 1000, usegmt=True)}}}

    def _list(self, **_: Any) -> dict[str, Any]:  # noqa: ANN401
        self._answer("ListShards")
        out = []
        for shard in self.listed():
            numbers = {"StartingSequenceNumber": str(shard.start)}
            if shard.closed:
                numbers["EndingSequenceNumber"] = str(self._sequence)
            raw: dict[str, Any] = {
                "ShardId": shard.id,
                "SequenceNumberRange": numbers,
                "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": "1"},
            }
            if shard.parents:
                raw["ParentShardId"] = shard.parents[0]
            if len(shard.parents) > 1:
                raw["AdjacentParentShardId"] = shard.parents[1]
            out.append(raw)
        return {"Shards": out, **self.metadata()}

    def _iterator(self, **asked: Any) -> dict[str, Any]:  # noqa: ANN401
        self._answer("GetShardIterator")
        shard = self.shards[asked["ShardId"]]
        if self.expired(shard):
            error = {"Code": "ResourceNotFoundException", "Message": f"Shard {shard.id} does not exist"}
            raise ClientError({"Error": error}, "GetShardIterator")
        return {"ShardIterator": "some", **self.metadata()}


class Page(NamedTuple):
    """What one GetRecords gave.

    Attributes:
        before: Where the fetcher stood before it, to go back there.
        records: Kinesis records.
        behind: millisBehindLatest.
        at_end: The shard is closed, and this was its last page.
    """

    before: tuple[int, int | None]
    records: list[list[tuple[Position, str]]]
    behind: int
    at_end: bool


class Fetcher:
    """KinesisDataFetcher: where the next page begins.

    It starts AT the checkpoint's sequence number (what is not past the checkpoint is filtered later), and after an
    iterator has expired it resumes AFTER the last sequence number that it knows, at first the checkpoint's: the rest
    of an aggregate would then never be delivered. What is trimmed is passed without a word. A shard that has expired
    is at its end.
    """

    def __init__(self, stream: Stream, shard: Shard, checkpoint: Position | str, start_millis: int | None) -> None:
        self._stream = stream
        self._shard = shard
        self._known: int | None = None
        self._first = 0
        if isinstance(checkpoint, Position):
            self._known = checkpoint.sequence_number
            self._first = bisect_left(shard.sequences, self._known)
        elif checkpoint == AT_TIMESTAMP and start_millis is not None:
            self._first = bisect_left(shard.arrivals, start_millis)
        self._index = self._first

    def page(self, limit: int) -> Page:
        before = self._index, self._known
        self._index = max(self._index, self._stream.trim(self._shard))
        records = self._shard.records[self._index : self._index + limit]
        self._index += len(records)
        if records:
            self._known = records[-1][0][0].sequence_number
        # Whose page ends behind the newest record is as far behind as the next one is old.
        waits = self._index < len(self._shard.arrivals)
        behind = self._stream.millis() - self._shard.arrivals[self._index] if waits else 0
        return Page(before, records, behind, self._shard.closed and not waits)

    def empty(self) -> Page:
        """A page on which nothing is, although there may be more."""
        page = self.page(0)
        return page._replace(at_end=False)

    def expire(self) -> None:
        self._index = self._first if self._known is None else bisect_right(self._shard.sequences, self._known)

    def read_again(self, page: Page) -> None:
        """The publisher was restarted: a page comes once more."""
        self._index, self._known = page.before
