"""Puts records into a stream and keeps its own list of what was acknowledged: the other side of every proof.

The list knows only what Kinesis answered and what was put: shard, sequence number, sub-sequence number, and a digest of
key and data. It uses nothing of the receiver, so that a verdict may compare the two. A put whose answer was lost may be
in the stream without being on the list.

Aggregates are made for one target shard, as the Kinesis Producer Library makes them. KCL drops an aggregate whole if
one of its records lies outside the hash range of the shard in which it is found; so when an aggregate lands in another
shard (the target was split or merged meanwhile) and does not fit there, it counts as not put and is put again, which is
what the library does too.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from kcl_receiver.emulator.clients import Boto3, every_shard
from kcl_receiver.emulator.kpl import UserRecord, aggregate, place_of

MAX_REQUEST_RECORDS = 500
MAX_REQUEST_BYTES = 5 * 2**20
_AGGREGATE_MEAN = 10
_RETRY = frozenset({"ProvisionedThroughputExceededException", "InternalFailure", "ServiceUnavailableException"})

SIZES: tuple[tuple[int, int, float], ...] = (
    (0, 1, 0.02),
    (1, 100, 0.38),
    (100, 1_000, 0.5),
    (1_000, 10_000, 0.09),
    (10_000, 100_000, 0.01),
)
"""The mix of sizes of data: from, to (exclusive), share."""


@dataclass(frozen=True)
class Acknowledged:
    """One user record that Kinesis has acknowledged."""

    shard: str
    sequence_number: int
    sub_sequence_number: int
    digest: str


def digest_of(key: str, data: bytes) -> str:
    """Return a record's digest: SHA-256 in hexadecimal of the key's length (8 bytes, big-endian), key and data."""
    raw = key.encode("utf-8")
    return hashlib.sha256(len(raw).to_bytes(8, "big") + raw + data).hexdigest()


@dataclass(frozen=True)
class _Parcel:
    """One Kinesis record about to be put. `target` is the shard of an aggregate, "" for a plain record."""

    records: tuple[UserRecord, ...]
    data: bytes
    key: str
    hash_key: int | None
    target: str

    @property
    def size(self) -> int:
        return len(self.data) + len(self.key.encode("utf-8"))


@dataclass(frozen=True)
class _Range:
    shard: str
    start: int
    end: int


class Producer:
    """Puts user records, some plain and some aggregated, and remembers which were acknowledged.

    Args:
        client: boto3 client for Kinesis.
        stream: Name of the stream.
        seed: Decides keys, sizes and what is aggregated.
        aggregated: Share of user records that travel in aggregates.
        sleep: Called with seconds between tries.

    Attributes:
        acknowledged: What Kinesis has acknowledged, in the order of the answers.
        retried: Puts that failed and were tried again.
        misplaced: Aggregates that landed in a shard where KCL will drop them, and were put again.
    """

    def __init__(
        self,
        client: Boto3,
        stream: str,
        seed: int = 0,
        *,
        aggregated: float = 0.5,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._stream = stream
        self._random = Random(seed)  # noqa: S311 - decides test data
        self._aggregated = aggregated
        self._sleep = sleep
        self._count = 0
        self._ranges: list[_Range] = []
        self.acknowledged: list[Acknowledged] = []
        self.retried = 0
        self.misplaced = 0

    def put(self, count: int, *, size: int | None = None, tries: int = 50) -> None:
        """Put `count` user records and return when all are acknowledged.

        Args:
            count: Number of user records.
            size: Bytes of data of each, or None for the mix of `SIZES`.
            tries: How often a record is put before this gives up.

        Raises:
            RuntimeError: Some records were not acknowledged after so many tries.
        """
        waiting = list(self._parcels(count, size))
        for attempt in range(tries):
            if attempt:
                self.retried += len(waiting)
                self._sleep(min(0.05 * 2**attempt, 1.0) * self._random.random())
            waiting = [parcel for batch in _requests(waiting) for parcel in self._send(batch)]
            if not waiting:
                return
        raise RuntimeError(f"{len(waiting)} puts to {self._stream} failed {tries} times")

    def refresh(self) -> None:
        """Ask for the open shards; done by itself when an aggregate lands elsewhere."""
        found = [_range(shard) for shard in every_shard(self._client, self._stream, "AT_LATEST")]
        self._ranges = sorted(found, key=lambda one: one.start)

    def _parcels(self, count: int, size: int | None) -> Iterator[_Parcel]:
        share = self._aggregated
        chance = share / (share + _AGGREGATE_MEAN * (1 - share))
        left = count
        while left:
            if left > 1 and self._random.random() < chance:
                many = min(left, self._random.randint(2, 2 * _AGGREGATE_MEAN - 2))
                yield self._aggregate_of(many, size)
                left -= many
            else:
                key = self._key()
                data = self._data(size)
                yield _Parcel((UserRecord(key, data),), data, key, None, "")
                left -= 1

    def _key(self) -> str:
        self._count += 1
        return f"key-{self._random.randrange(10**6):06d}-{self._count}"

    def _data(self, size: int | None) -> bytes:
        if size is None:
            low, high, _ = self._random.choices(SIZES, weights=[share for _, _, share in SIZES])[0]
            size = self._random.randrange(low, high)
        return self._random.randbytes(size)

    def _aggregate_of(self, many: int, size: int | None) -> _Parcel:
        """Make an aggregate for a shard picked at random, in one of three ways to have all its records in there."""
        if not self._ranges:
            self.refresh()
        target = self._random.choice(self._ranges)
        style = self._random.randrange(3)
        if style == 0:
            # Keys whose hashes lie in the range.
            keys = [self._key_in(target) for _ in range(many)]
            records = [UserRecord(key, self._data(size)) for key in keys]
        elif style == 1:
            # One key for all.
            key = self._key_in(target)
            records = [UserRecord(key, self._data(size)) for _ in range(many)]
        else:
            # Any keys, placed by explicit hash keys.
            records = [
                UserRecord(self._key(), self._data(size), self._random.randint(target.start, target.end))
                for _ in range(many)
            ]
        return _Parcel(tuple(records), aggregate(records), "a", records[0].place(), target.shard)

    def _key_in(self, target: _Range) -> str:
        while True:
            key = self._key()
            if target.start <= place_of(key) <= target.end:
                return key

    def _send(self, batch: list[_Parcel]) -> list[_Parcel]:
        """Put a batch and return what has to be put again."""
        entries: list[dict[str, Any]] = []
        for parcel in batch:
            entry: dict[str, Any] = {"Data": parcel.data, "PartitionKey": parcel.key}
            if parcel.hash_key is not None:
                entry["ExplicitHashKey"] = str(parcel.hash_key)
            entries.append(entry)
        answer = self._client.put_records(StreamName=self._stream, Records=entries)
        again: list[_Parcel] = []
        for parcel, result in zip(batch, answer["Records"], strict=True):
            code = result.get("ErrorCode")
            if code is not None:
                if code not in _RETRY:
                    raise RuntimeError(f"a put to {self._stream} was refused: {code}: {result.get('ErrorMessage')}")
                again.append(parcel)
            elif not self._fits(parcel, result["ShardId"]):
                self.misplaced += 1
                again.append(self._again(parcel))
            else:
                self._acknowledge(parcel, result["ShardId"], int(result["SequenceNumber"]))
        return again

    def _fits(self, parcel: _Parcel, shard: str) -> bool:
        """Whether KCL will hand out the records of a parcel that landed in `shard`."""
        if parcel.target in ("", shard):
            return True
        if not any(one.shard == shard for one in self._ranges):
            self.refresh()
        landed = next((one for one in self._ranges if one.shard == shard), None)
        if landed is None:
            landed = self._describe(shard)
        return all(landed.start <= record.place() <= landed.end for record in parcel.records)

    def _describe(self, shard_id: str) -> _Range:
        """Return the range of a shard that was closed again before it could be looked at."""
        for shard in every_shard(self._client, self._stream):
            if shard["ShardId"] == shard_id:
                return _range(shard)
        raise RuntimeError(f"{shard_id} took a put and is not in the list of shards of {self._stream}")

    def _again(self, parcel: _Parcel) -> _Parcel:
        """Return the same records for one of today's shards, placed by explicit hash keys that all lie in it."""
        place = parcel.records[0].place()
        target = next(one for one in self._ranges if one.start <= place <= one.end)
        records = tuple(
            record if target.start <= record.place() <= target.end else record._replace(hash_key=place)
            for record in parcel.records
        )
        return _Parcel(records, aggregate(records), parcel.key, place, target.shard)

    def _acknowledge(self, parcel: _Parcel, shard: str, sequence: int) -> None:
        self.acknowledged.extend(
            Acknowledged(shard, sequence, sub, digest_of(record.key, record.data))
            for sub, record in enumerate(parcel.records)
        )


def _range(shard: dict[str, Any]) -> _Range:
    keys = shard["HashKeyRange"]
    return _Range(shard["ShardId"], int(keys["StartingHashKey"]), int(keys["EndingHashKey"]))


def _requests(parcels: list[_Parcel]) -> Iterator[list[_Parcel]]:
    batch: list[_Parcel] = []
    size = 0
    for parcel in parcels:
        if batch and (len(batch) == MAX_REQUEST_RECORDS or size + parcel.size > MAX_REQUEST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(parcel)
        size += parcel.size
    if batch:
        yield batch
