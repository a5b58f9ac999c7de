"""Putting records and reading them: PutRecord, PutRecords, GetShardIterator, GetRecords."""

from __future__ import annotations

import hashlib
import json
from typing import Any, NamedTuple

from kcl_receiver.emulator.kinesis.errors import ServiceError, invalid
from kcl_receiver.emulator.kinesis.iterators import Iterator
from kcl_receiver.emulator.kinesis.model import Model, encoded
from kcl_receiver.emulator.kinesis.sequence import LAST_PLACE, decompose
from kcl_receiver.emulator.kinesis.shard import HASH_KEYS, Shard
from kcl_receiver.emulator.kinesis.stream import Stream

MAX_PUT_BYTES = 10 * 2**20
"""Keys and data of one PutRecords request."""

MAX_STEP = 12
"""Sequence numbers are sparse: a place is up to this much above the one before it."""


class Entry(NamedTuple):
    """One record to put; `hash_key` is the explicit hash key, if it has one."""

    key: str
    data: bytes
    hash_key: int | None = None

    @property
    def size(self) -> int:
        """Bytes that the service counts."""
        return len(self.key.encode("utf-8")) + len(self.data)

    def place(self) -> int:
        """Return the hash key that decides the shard."""
        if self.hash_key is not None:
            return self.hash_key
        return int.from_bytes(hashlib.md5(self.key.encode("utf-8"), usedforsecurity=False).digest(), "big")


class Put(NamedTuple):
    """What became of one record: a sequence number in a shard, or an error."""

    shard: str
    sequence: int
    error: ServiceError | None = None


def put(model: Model, now: int, stream: Stream, entries: list[Entry], failures: float = 0.0) -> list[Put]:
    """Put records; each takes its own fate, in order.

    Args:
        model: The model.
        now: Milliseconds since the epoch.
        stream: Where they go.
        entries: The records.
        failures: Share of them that fail for no reason of theirs.

    Raises:
        ServiceError: The whole request is refused: ResourceInUseException, InvalidArgumentException.
    """
    if stream.status_at(now) in ("CREATING", "DELETING"):
        model.require_active(stream, now)
    for entry in entries:
        if entry.size > stream.record_limit:
            raise ServiceError(
                "ValidationException",
                f"1 validation error detected: the record's data and partition key are {entry.size} bytes, more than "
                f"the stream's maximum record size of {stream.record_limit} bytes",
            )
        if entry.hash_key is not None and not 0 <= entry.hash_key < HASH_KEYS:
            raise invalid(
                "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was "
                f"{entry.hash_key}"
            )
    results: list[Put] = []
    rows: list[list[str]] = []
    steps: dict[str, int] = {}
    shards = stream.open_shards()
    arrival = max([now, *(shard.last_arrival for shard in shards)])
    for entry in entries:
        place = entry.place()
        shard = shards[0] if len(shards) == 1 else next(shard for shard in shards if shard.covers(place))
        error = _refusal(model, now, stream, shard, entry, failures)
        if error is not None:
            results.append(Put(shard.id, 0, error))
            continue
        ahead = steps.get(shard.id, 0) + 1 + int(model.random.random() * MAX_STEP)
        steps[shard.id] = ahead
        sequence = shard.next_sequence(ahead, int(model.random.random() * 256), arrival)
        rows.append([shard.id, str(sequence), entry.key, encoded(entry.data)])
        results.append(Put(shard.id, sequence))
    if rows:
        model.commit({"event": "put", "stream": stream.name, "at": arrival, "records": rows})
    return results


def _refusal(
    model: Model, now: int, stream: Stream, shard: Shard, entry: Entry, failures: float
) -> ServiceError | None:
    if failures and model.random.random() < failures:
        return ServiceError("InternalFailure", "Internal service failure.", 500)
    if model.settings.limits:
        limits = model.limits(stream, shard)
        if not (limits.writes.allows(now) and limits.write_bytes.allows(now)):
            return exceeded(model, stream, shard)
        limits.writes.take(1)
        limits.write_bytes.take(entry.size)
    return None


def exceeded(model: Model, stream: Stream, shard: Shard) -> ServiceError:
    """Return the service's answer to too much at once."""
    return ServiceError(
        "ProvisionedThroughputExceededException",
        f"Rate exceeded for shard {shard.id} in stream {stream.name} under account {model.account}.",
    )


class Start(NamedTuple):
    """Where an iterator shall begin: its type, and a sequence number or a time (ms) if the request has one."""

    kind: str
    sequence: int | None = None
    moment: int | None = None


def check_ordering(model: Model, now: int, stream: Stream, after: int) -> None:
    """Refuse a SequenceNumberForOrdering that no record has had yet. All others are lower than the next one anyway.

    Raises:
        ServiceError: InvalidArgumentException.
    """
    parts = decompose(after)
    if parts is None or parts.place == LAST_PLACE or parts.second * 1000 > now:
        raise invalid(
            f"ExclusiveMinimumSequenceNumber {after} used in PutRecord on stream {stream.name} under account "
            f"{model.account} is invalid."
        )


def iterator(model: Model, now: int, stream: Stream, shard: Shard, start: Start) -> str:
    """Return the token of a new shard iterator.

    Raises:
        ServiceError: InvalidArgumentException: a sequence number that is missing, not of this shard, or beside a type
            that has none; a time that is missing or lies ahead.
    """
    position = _position(model, now, stream, shard, start)
    return model.seal.seal(Iterator(stream.name, stream.created, shard.id, position, now))


def _position(model: Model, now: int, stream: Stream, shard: Shard, start: Start) -> int:
    kind, sequence, moment = start
    if kind == "AT_TIMESTAMP":
        if moment is None:
            raise invalid(
                "Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. "
                "Current request has no timestamp parameter."
            )
        if moment > now:
            raise invalid(
                "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. "
                f"timestampInMillis: {moment}, currentTimestampInMillis: {now}"
            )
        return shard.at_time(moment)
    by_number = kind in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER")
    if by_number != (sequence is not None):
        raise invalid(
            "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or "
            "(2) TRIM_HORIZON or LATEST and no StartingSequenceNumber. "
            f"Request specified {kind} and {'no' if by_number else 'also a'} StartingSequenceNumber."
        )
    if sequence is None:
        return 0 if kind == "TRIM_HORIZON" else shard.last_sequence + 1
    parts = decompose(sequence)
    of_shard = parts is not None and parts.epoch == shard.epoch and parts.shard == shard.number
    if not of_shard or parts is None or (parts.place == LAST_PLACE and sequence != shard.ending):
        raise invalid(
            f"StartingSequenceNumber {sequence} used in GetShardIterator on shard {shard.id} in stream "
            f"{stream.name} under account {model.account} is invalid because it did not come from this stream."
        )
    return sequence + 1 if kind == "AFTER_SEQUENCE_NUMBER" else sequence


def read(model: Model, now: int, token: str, limit: int, arn: str | None = None) -> bytes:
    """Return one page of GetRecords, as JSON.

    Raises:
        ServiceError: ExpiredIteratorException, InvalidArgumentException, ResourceNotFoundException, or
            ProvisionedThroughputExceededException.
    """
    found = model.seal.open(token)
    stream = model.find(now, found.stream, arn)
    lifetime = int(model.settings.iterator_lifetime * 1000)
    if stream.created != found.created:
        raise ServiceError(
            "ResourceNotFoundException",
            f"Shard {found.shard} in stream {found.stream} under account {model.account} does not exist: the stream "
            "of this iterator was deleted.",
        )
    if now - found.issued > lifetime:
        raise ServiceError(
            "ExpiredIteratorException",
            f"Iterator expired. The iterator was created at time {found.issued} while right now it is {now} which is "
            f"further in the future than the tolerated delay of {lifetime} milliseconds.",
        )
    shard = model.shard(stream, found.shard)
    limits = model.limits(stream, shard) if model.settings.limits else None
    if limits is not None and not (limits.reads.allows(now) and limits.read_bytes.allows(now)):
        raise exceeded(model, stream, shard)
    page = shard.page(found.position, limit)
    if page.records and model.settings.empty_pages and model.random.random() < model.settings.empty_pages:
        page = shard.page(found.position, 0)
    if limits is not None:
        limits.reads.take(1)
        limits.read_bytes.take(page.size)
    behind = 0 if page.waiting_since is None else max(0, now - page.waiting_since)
    head = b'{"MillisBehindLatest":%d,"Records":[%s]' % (behind, b",".join(page.records))
    if shard.is_finished(page.resume):
        return head + b',"ChildShards":' + _children(stream, shard) + b"}"
    following = Iterator(found.stream, found.created, found.shard, page.resume, now, found.serial + 1)
    return head + b',"NextShardIterator":"%s"}' % model.seal.seal(following).encode("ascii")


def _children(stream: Stream, shard: Shard) -> bytes:
    found: list[dict[str, Any]] = [
        stream.shards[child].describe_as_child() for child in shard.children if child in stream.shards
    ]
    return json.dumps(found, separators=(",", ":")).encode("ascii")
