"""A shard's worth of records as they were put, stored and are given again: what recovery is tested against.

Nothing here uses what it tests: records are what the test made up, ranges are made by the processor's own decoder from
the line that the daemon would have written.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from botocore.exceptions import ClientError

from kcl_receiver.emulator.kpl import UserRecord, aggregate
from kcl_receiver.kinesis.rebuild import KinesisRecord, Request
from kcl_receiver.processor.codec import ProcessRecords, decode_line
from kcl_receiver.ranges import Range, StreamIdentity
from kcl_receiver.wire.columns import Columns, checksum

SHARD = "shardId-000000000000"
STREAM = StreamIdentity("arn:aws:kinesis:eu-west-1:123456789012:stream/orders", 1_790_000_000_000)
BASE = 49_680_465_533_117_816_008_257_158_351_896_135_725_711_444_270_613_790_722


@dataclass(frozen=True)
class Put:
    """One Kinesis record: what was put, and the user records that the daemon makes of it."""

    sequence: int
    arrival: int
    key: str
    data: bytes
    users: tuple[tuple[str, bytes], ...]

    @property
    def record(self) -> KinesisRecord:
        return KinesisRecord(self.sequence, str(self.sequence).encode(), self.arrival, self.key.encode(), self.data)

    @property
    def size(self) -> int:
        return len(self.key.encode()) + len(self.data)

    def boto(self) -> dict[str, Any]:
        arrival = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=self.arrival)
        return {
            "SequenceNumber": str(self.sequence),
            "ApproximateArrivalTimestamp": arrival,
            "Data": self.data,
            "PartitionKey": self.key,
        }


def plain(place: int, data: bytes = b"data", key: str = "kéy") -> Put:
    """Return a plain record."""
    return Put(BASE + place, 1_790_000_000_000 + place, key, data, ((key, data),))


def aggregated(place: int, *data: bytes, key: str = "user-kéy", hash_key: int | None = None) -> Put:
    """Return a KPL aggregate."""
    packed = aggregate([UserRecord(key, one, hash_key) for one in data])
    return Put(BASE + place, 1_790_000_000_000 + place, "a", packed, tuple((key, one) for one in data))


User = tuple[int, int, int, str, bytes]
"""Sequence number, sub-sequence number, arrival, key, data."""


def users_of(puts: Iterable[Put]) -> list[User]:
    """Return the user records as the daemon delivers them."""
    return [(put.sequence, sub, put.arrival, key, data) for put in puts for sub, (key, data) in enumerate(put.users)]


def columns_of(users: Sequence[User]) -> Columns:
    """Return records as the processor's decoder makes columns of the daemon's line."""
    records = [
        {
            "action": "record",
            "sequenceNumber": str(sequence),
            "subSequenceNumber": sub,
            "approximateArrivalTimestamp": None if arrival < 0 else arrival,
            "partitionKey": key,
            "data": base64.b64encode(data).decode(),
        }
        for sequence, sub, arrival, key, data in users
    ]
    action = decode_line(json.dumps({"action": "processRecords", "records": records}).encode())
    assert isinstance(action, ProcessRecords)
    assert action.columns is not None
    return action.columns


def range_of(users: Sequence[User], shard: str = SHARD) -> Range:
    """Return the range that was recorded when these records were stored."""
    columns = columns_of(users)
    return Range(
        shard=shard,
        session="s",
        after="TRIM_HORIZON",
        first=columns.position(0),
        last=columns.position(columns.count - 1),
        whole=None,
        count=columns.count,
        size=columns.size,
        arrival_first=columns.arrival_of(0),
        arrival_last=columns.arrival_of(columns.count - 1),
        delivered=columns.arrival_of(columns.count - 1),
        checksum=checksum(columns),
    )


def request_of(puts: Iterable[Put], shard: str = SHARD, **more: Any) -> Request:  # noqa: ANN401
    """Return the request for all user records of some Kinesis records."""
    return Request(range_of(users_of(puts), shard), **more)


def rows(columns: Columns | None) -> list[User]:
    """Return columns as user records again."""
    if columns is None:
        return []
    found = []
    for row in range(columns.count):
        sequence, sub = columns.position(row)
        key, data = columns.key.value(row).decode(), columns.data.value(row)
        found.append((sequence, sub, columns.arrival_of(row), key, data))
    return found


def error(code: str, status: int = 400) -> ClientError:
    """Return an error of the service."""
    answer: Any = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "operation")


@dataclass
class FakeShard:
    """What the service holds of a shard."""

    puts: list[Put]
    closed: bool = False
    trimmed: int = 0

    def held(self) -> list[Put]:
        return [put for put in self.puts if put.sequence >= self.trimmed]


@dataclass
class FakeKinesis:
    """The three calls that recovery makes, on records in memory, with errors at will.

    Attributes:
        page: Most records of a page, whatever is asked for.
        empty: Called with the number of each page; true gives an empty page instead.
        boast: Empty pages say that they are at the tip, wherever they are.
        errors: Called with the name of each call and its arguments; may raise.
        calls: All calls made, each with its arguments.
    """

    shards: dict[str, FakeShard]
    identity: StreamIdentity = STREAM
    status: str = "ACTIVE"
    page: int = 10_000
    empty: Callable[[int], bool] = lambda number: False
    boast: bool = False
    errors: Callable[[str, dict[str, Any]], None] = lambda call, arguments: None
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    pages: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def _called(self, call: str, arguments: dict[str, Any]) -> None:
        with self.lock:
            self.calls.append((call, arguments))
        self.errors(call, arguments)

    def names(self) -> list[str]:
        return [call for call, _ in self.calls]

    def describe_stream_summary(self, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401
        self._called("describe", arguments)
        created = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=self.identity.created)
        return {
            "StreamDescriptionSummary": {
                "StreamARN": self.identity.arn,
                "StreamCreationTimestamp": created,
                "StreamStatus": self.status,
                "OpenShardCount": 1,
                "RetentionPeriodHours": 24,
            }
        }

    def get_shard_iterator(self, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401
        self._called("iterator", arguments)
        if arguments["ShardId"] not in self.shards:
            raise error("ResourceNotFoundException")
        position = {
            "TRIM_HORIZON": lambda: 0,
            "AT_SEQUENCE_NUMBER": lambda: int(arguments["StartingSequenceNumber"]),
            "AFTER_SEQUENCE_NUMBER": lambda: int(arguments["StartingSequenceNumber"]) + 1,
        }[arguments["ShardIteratorType"]]()
        return {"ShardIterator": f"{arguments['ShardId']} {position}"}

    def get_records(self, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401
        self._called("records", arguments)
        with self.lock:
            self.pages += 1
            number = self.pages
        name, position = arguments["ShardIterator"].split(" ")
        if name not in self.shards:
            raise error("ResourceNotFoundException")
        shard = self.shards[name]
        left = [put for put in shard.held() if put.sequence >= int(position)]
        is_empty = self.empty(number)
        given = [] if is_empty else left[: min(self.page, arguments["Limit"])]
        following = given[-1].sequence + 1 if given else int(position)
        answer: dict[str, Any] = {
            "Records": [put.boto() for put in given],
            "MillisBehindLatest": 0 if len(given) == len(left) or (is_empty and self.boast) else 5,
        }
        if not (shard.closed and len(given) == len(left)):
            answer["NextShardIterator"] = f"{name} {following}"
        return answer


def altered(one: Range, **changes: Any) -> Range:  # noqa: ANN401
    """Return a range that says something else."""
    return replace(one, **changes)
