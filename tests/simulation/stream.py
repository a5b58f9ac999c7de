"""The stream: shards, records with their sub-sequence numbers, sparse sequence numbers, split and merge.

What KCL would print of a record is made once, when it is put.
"""

from __future__ import annotations

import base64
import random
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import ClientError

from kcl_receiver.ranges import Position, StreamIdentity
from simulation.timeline import EPOCH_MS, Timeline

ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/simulated"
CREATED = EPOCH_MS - 86_400_000
IDENTITY = StreamIdentity(ARN, CREATED)
RETENTION_HOURS = 24 * 7


@dataclass
class Shard:
    """One shard; `records` are Kinesis records as lists of user records, each as the daemon prints it."""

    id: str
    parents: tuple[str, ...] = ()
    sequences: list[int] = field(default_factory=list)
    records: list[list[tuple[Position, str]]] = field(default_factory=list)
    positions: list[Position] = field(default_factory=list)
    last_sub: dict[int, int] = field(default_factory=dict)
    children: tuple[str, ...] = ()
    closed: bool = False
    start: int = 0


class Stream:
    """See the module."""

    def __init__(self, rng: random.Random, timeline: Timeline, shards: int) -> None:
        self._rng = rng
        self._timeline = timeline
        # Just below a power of ten, so that numbers grow by a digit on the way: text would order them wrongly.
        self._sequence = 10 ** rng.randint(4, 56) - rng.randint(1, 3000)
        self.shards: dict[str, Shard] = {}
        self.put_count = 0
        self.content: dict[tuple[str, Position], tuple[bytes, bytes]] = {}
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

    def put(self, shard: Shard, count: int) -> None:
        """Put one Kinesis record; with more than one user record it is an aggregate."""
        sequence = self._next_sequence()
        arrival = EPOCH_MS + int(self._timeline.now * 1000)
        out = []
        for sub in range(count):
            self.put_count += 1
            key, data = f"k{self.put_count % 97}é" if sub == 1 else "k", b"%d:%d" % (self.put_count, sequence % 977)
            position = Position(sequence, sub)
            out.append(
                (
                    position,
                    f'{{"sequenceNumber":"{sequence}","subSequenceNumber":{sub},"partitionKey":"{key}","data":"'
                    f'{base64.b64encode(data).decode()}","approximateArrivalTimestamp":{arrival}}}',
                )
            )
            shard.positions.append(position)
            self.content[shard.id, position] = (key.encode(), data)
        shard.sequences.append(sequence)
        shard.records.append(out)
        shard.last_sub[sequence] = count - 1

    def split(self, shard: Shard) -> None:
        shard.closed = True
        self._next_sequence()
        shard.children = (self._open((shard.id,)).id, self._open((shard.id,)).id)

    def merge(self, one: Shard, other: Shard) -> None:
        one.closed = other.closed = True
        self._next_sequence()
        one.children = other.children = (self._open((one.id, other.id)).id,)

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
            "RetentionPeriodHours": RETENTION_HOURS,
        }
        return {"StreamDescriptionSummary": summary}

    def _list(self, **_: Any) -> dict[str, Any]:  # noqa: ANN401
        self._answer("ListShards")
        out = []
        for shard in self.shards.values():
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
        return {"Shards": out}

    def _iterator(self, **_: Any) -> dict[str, Any]:  # noqa: ANN401
        self._answer("GetShardIterator")
        return {"ShardIterator": "some"}


class Fetcher:
    """KinesisDataFetcher: where the next page begins.

    It starts AT the checkpoint's sequence number (what is not past the checkpoint is filtered later), and after an
    iterator has expired it resumes AFTER the last sequence number that it knows, at first the checkpoint's: the rest
    of an aggregate would then never be delivered.
    """

    def __init__(self, shard: Shard, checkpoint: Position | str) -> None:
        self._shard = shard
        self._known: int | None = None
        self.index = 0
        if isinstance(checkpoint, Position):
            self._known = checkpoint.sequence_number
            self.index = bisect_left(shard.sequences, self._known)
        self.before = self.index

    def page(self, limit: int) -> list[list[tuple[Position, str]]]:
        self.before = self.index
        page = self._shard.records[self.index : self.index + limit]
        self.index += len(page)
        if page:
            self._known = page[-1][0][0].sequence_number
        return page

    def expire(self) -> None:
        self.index = 0 if self._known is None else bisect_right(self._shard.sequences, self._known)

    def read_again(self) -> None:
        """The publisher was restarted: the last page comes once more."""
        self.index = self.before

    @property
    def at_end(self) -> bool:
        return self._shard.closed and self.index >= len(self._shard.records)
