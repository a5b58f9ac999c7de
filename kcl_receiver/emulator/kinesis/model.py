"""The state of Kinesis: which streams and shards there are, and every change that can happen to them.

Theory of operation. The model has no clock, no lock and no I/O: each call is given the time in milliseconds. A call
that changes something first checks everything and decides everything (ids, sequence numbers, hash ranges), writes that
down as one event, hands the event to the journal, and then applies it; `apply` is the only way in which state changes.
So a journal of events, applied to an empty model, gives back the same model, and a refused call leaves no trace.

    create     a stream and its first shards            delete     the stream
    reshard    parents closed, children opened          put        records, with their numbers and times
    retention  hours                                     tags       all of them
    trim       up to a sequence number                   mode       PROVISIONED or ON_DEMAND

Records are the business of `records.py`, changes of shards of `resharding.py`.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

from kcl_receiver.emulator.kinesis.errors import ServiceError, invalid, shard_not_found, stream_not_found
from kcl_receiver.emulator.kinesis.iterators import IteratorSeal
from kcl_receiver.emulator.kinesis.sequence import place_in
from kcl_receiver.emulator.kinesis.settings import DEFAULT_RECORD_LIMIT, Settings, ShardLimits
from kcl_receiver.emulator.kinesis.shard import HASH_KEYS, Shard, name_shard
from kcl_receiver.emulator.kinesis.stream import Stream

Event = dict[str, Any]

MIN_RETENTION = 24
MAX_RETENTION = 8760
ON_DEMAND_SHARDS = 4
SHARD_LIMIT = 10_000
"""Open shards of all streams together."""
TAG_LIMIT = 50
_TAG = re.compile(r"[\w ./=+@-]*")
_SHARD_ID = re.compile(r"(?:[^-]*-)?([0-9]{1,12})(?:-.*)?")


class Model:
    """All streams of one account in one region.

    Args:
        account: Twelve digits.
        region: Name of the region.
        seed: Decides sequence numbers and switched-on misbehaviour; the same calls with the same seed give the same.
        journal: Called with each event before it is applied.
    """

    def __init__(
        self,
        account: str = "000000000001",
        region: str = "us-east-1",
        seed: int = 0,
        journal: Callable[[Event], None] | None = None,
    ) -> None:
        self.account = account
        self.region = region
        self.streams: dict[str, Stream] = {}
        self.settings = Settings()
        self.random = Random(seed)  # noqa: S311 - decides tests, keeps no secrets
        self.seal = IteratorSeal(f"iterators of {account} under seed {seed}".encode())
        self._journal = journal
        self._limits: dict[tuple[str, int, str], ShardLimits] = {}
        self._last_epoch = 0
        self._last_created: dict[str, int] = {}

    def arn(self, name: str) -> str:
        """Return the ARN of a stream of this name."""
        return f"arn:aws:kinesis:{self.region}:{self.account}:stream/{name}"

    def find(self, now: int, name: str | None, arn: str | None = None) -> Stream:
        """Return a stream by name, ARN or both, with everything removed from it that is over at `now`.

        Raises:
            ServiceError: ResourceNotFoundException, or InvalidArgumentException if neither is given or they differ.
        """
        named = _name_in(arn) if arn is not None else name
        if named is None:
            raise invalid("Either StreamName or StreamARN must be specified.")
        if name is not None and named != name:
            raise invalid(f"StreamARN {arn} is not the ARN of the stream {name}.")
        stream = self.streams.get(named)
        if stream is not None and stream.is_gone(now):
            self.commit({"event": "delete", "stream": named, "at": now, "until": 0})
            stream = None
        if stream is None or (arn is not None and stream.arn != arn):
            raise stream_not_found(named, self.account)
        stream.expire(now)
        return stream

    def shard(self, stream: Stream, shard_id: str) -> Shard:
        """Return a shard of a stream. As in the service its number is enough, with any word before it: `0`, `shard-0`.

        Raises:
            ServiceError: ResourceNotFoundException.
        """
        number = _SHARD_ID.fullmatch(shard_id)
        found = shard_id if number is None else name_shard(int(number[1]))
        shard = stream.shards.get(found)
        if shard is None:
            raise shard_not_found(found, stream.name, self.account)
        return shard

    def live(self, now: int) -> list[Stream]:
        """Return all streams that exist at `now`, by name."""
        return sorted(
            (stream for stream in self.streams.values() if not stream.is_gone(now)), key=lambda stream: stream.name
        )

    def limits(self, stream: Stream, shard: Shard) -> ShardLimits:
        """Return the token buckets of a shard."""
        return self._limits.setdefault((stream.name, stream.created, shard.id), ShardLimits())

    def until(self, now: int) -> int:
        """Return when a transition that begins now (ms) is over."""
        return now + int(self.settings.transition * 1000)

    def require_active(self, stream: Stream, now: int) -> None:
        """Refuse what can only be done to a stream at rest.

        Raises:
            ServiceError: ResourceInUseException.
        """
        status = stream.status_at(now)
        if status != "ACTIVE":
            raise ServiceError(
                "ResourceInUseException",
                f"Stream {stream.name} under account {self.account} not ACTIVE, instead in state {status}",
            )

    def require_room(self, now: int, more: int) -> None:
        """Refuse more shards than an account may have.

        Raises:
            ServiceError: LimitExceededException.
        """
        used = sum(len(stream.open_shards()) for stream in self.live(now))
        if used + more > SHARD_LIMIT:
            raise ServiceError(
                "LimitExceededException",
                f"This request would exceed the shard limit for the account {self.account} in {self.region}. Current "
                f"shard count for the account: {used}. Limit: {SHARD_LIMIT}. Number of additional shards that would "
                f"have resulted from this request: {more}.",
            )

    def next_epoch(self, now: int) -> int:
        """Return the second that the sequence numbers of a new shard carry: never one that was used before."""
        return max(now // 1000, self._last_epoch + 1)

    def create_stream(
        self,
        now: int,
        name: str,
        shard_count: int | None,
        mode: str = "PROVISIONED",
        record_limit: int = DEFAULT_RECORD_LIMIT,
        tags: dict[str, str] | None = None,
    ) -> None:
        """Make a stream whose shards divide the hash keys evenly.

        Raises:
            ServiceError: ResourceInUseException, LimitExceededException, InvalidArgumentException or
                ValidationException.
        """
        existing = self.streams.get(name)
        if existing is not None and not existing.is_gone(now):
            raise ServiceError("ResourceInUseException", f"Stream {name} under account {self.account} already exists.")
        if mode == "PROVISIONED" and shard_count is None:
            raise ServiceError("ValidationException", "ShardCount must not be null or empty for a provisioned stream.")
        if mode == "ON_DEMAND" and shard_count is not None:
            raise invalid("ShardCount is not expected when StreamMode=ON_DEMAND.")
        count = ON_DEMAND_SHARDS if shard_count is None else shard_count
        self.require_room(now, count)
        _check_tags(name, self.account, tags or {})
        created = max(now, self._last_created.get(name, 0) + 1)
        epoch = self.next_epoch(now)
        bounds = [HASH_KEYS * row // count for row in range(count + 1)]
        self.commit(
            {
                "event": "create",
                "stream": name,
                "at": created,
                "until": self.until(now),
                "mode": mode,
                "record_limit": record_limit,
                "tags": tags or {},
                "shards": [
                    {
                        "number": row,
                        "start": str(bounds[row]),
                        "end": str(bounds[row + 1] - 1),
                        "created": created,
                        "epoch": epoch,
                    }
                    for row in range(count)
                ],
            }
        )

    def delete_stream(self, now: int, stream: Stream) -> None:
        """Delete a stream and all that is in it."""
        self.commit({"event": "delete", "stream": stream.name, "at": now, "until": self.until(now)})

    def set_retention(self, now: int, stream: Stream, hours: int, longer: bool) -> None:
        """Change for how many hours records are kept.

        Raises:
            ServiceError: InvalidArgumentException, or ResourceInUseException.
        """
        self.require_active(stream, now)
        for bound, word, low in ((MIN_RETENTION, "Minimum", True), (MAX_RETENTION, "Maximum", False)):
            if hours < bound if low else hours > bound:
                raise invalid(
                    f"{word} allowed retention period is {bound} hours. Requested retention period ({hours} hours) is "
                    f"too {'short' if low else 'long'}."
                )
        if hours < stream.retention if longer else hours > stream.retention:
            raise invalid(
                f"Requested retention period ({hours} hours) for stream {stream.name} can not be "
                f"{'shorter' if longer else 'longer'} than existing retention period ({stream.retention} hours). Use "
                f"{'Decrease' if longer else 'Increase'}RetentionPeriod API."
            )
        self.commit({"event": "retention", "stream": stream.name, "hours": hours})

    def add_tags(self, stream: Stream, tags: dict[str, str]) -> None:
        """Add tags to a stream, or change them.

        Raises:
            ServiceError: InvalidArgumentException: characters that a tag cannot have, or too many tags.
        """
        tags = {**stream.tags, **tags}
        _check_tags(stream.name, self.account, tags)
        self.commit({"event": "tags", "stream": stream.name, "tags": tags})

    def remove_tags(self, stream: Stream, keys: list[str]) -> None:
        """Remove tags from a stream; it need not have them.

        Raises:
            ServiceError: InvalidArgumentException: characters that a tag cannot have.
        """
        _check_tags(stream.name, self.account, dict.fromkeys(keys, ""))
        left = {key: value for key, value in stream.tags.items() if key not in keys}
        self.commit({"event": "tags", "stream": stream.name, "tags": left})

    def set_mode(self, now: int, stream: Stream, mode: str) -> None:
        """Make a stream PROVISIONED or ON_DEMAND.

        Raises:
            ServiceError: ResourceInUseException.
        """
        self.require_active(stream, now)
        self.commit({"event": "mode", "stream": stream.name, "mode": mode})

    def trim(self, now: int, name: str, shard_id: str | None = None, through: int | None = None) -> int:
        """Drop records before their time, as if the retention had passed them; return how many.

        Args:
            now: Milliseconds since the epoch.
            name: The stream.
            shard_id: One shard, or all of them.
            through: Last sequence number to go, or all that there are.
        """
        stream = self.find(now, name)
        shards = [self.shard(stream, shard_id)] if shard_id is not None else list(stream.shards.values())
        held = sum(shard.held for shard in shards)
        for shard in shards:
            last = shard.last_sequence if through is None else through
            self.commit({"event": "trim", "stream": name, "shard": shard.id, "through": str(last)})
        return held - sum(shard.held for shard in shards)

    def commit(self, event: Event) -> None:
        """Write an event down, then apply it."""
        if self._journal is not None:
            self._journal(event)
        self.apply(event)

    def apply(self, event: Event) -> None:
        """Change the state as an event says.

        Raises:
            ValueError: There is no such event; the journal is of a newer version.
        """
        kind = event["event"]
        if kind == "create":
            self._create(event)
            return
        stream = self.streams[event["stream"]]
        if kind == "put":
            for shard_id, number, key, data in event["records"]:
                store(stream.shards[shard_id], int(number), event["at"], key, data)
        elif kind == "reshard":
            stream.reshard(event)
            self._last_epoch = max([self._last_epoch, *(raw["epoch"] for raw in event["opened"])])
        elif kind == "delete":
            if event["until"] > event["at"]:
                stream.be_busy("DELETING", event["until"])
            else:
                del self.streams[stream.name]
        elif kind == "trim":
            stream.shards[event["shard"]].trim(through=int(event["through"]))
        elif kind == "retention":
            stream.retention = event["hours"]
        elif kind == "tags":
            stream.tags = dict(event["tags"])
        elif kind == "mode":
            stream.mode = event["mode"]
        else:
            raise ValueError(f"unknown event {kind!r} in the journal of the Kinesis model")

    def _create(self, event: Event) -> None:
        name = event["stream"]
        stream = Stream(name, self.arn(name), event["at"], MIN_RETENTION, event["mode"], event["record_limit"])
        stream.tags = dict(event["tags"])
        stream.add_shards(event["shards"])
        stream.be_busy("CREATING", event["until"])
        self.streams[name] = stream
        self._last_created[name] = stream.created
        self._last_epoch = max([self._last_epoch, *(raw["epoch"] for raw in event["shards"])])


def store(shard: Shard, number: int, arrival: int, key: str, data: str) -> None:
    """Put one record into a shard as the JSON in which GetRecords will give it.

    Args:
        shard: Where it goes.
        number: Its sequence number.
        arrival: Its approximate arrival time, ms.
        key: Its partition key.
        data: Its data in base64.
    """
    wire = (
        f'{{"SequenceNumber":"{number}","ApproximateArrivalTimestamp":{arrival // 1000}.{arrival % 1000:03d},'
        f'"Data":"{data}","PartitionKey":{json.dumps(key)}}}'
    ).encode("ascii")
    padding = data.count("=", -2) if data else 0
    size = len(data) // 4 * 3 - padding + len(key.encode("utf-8"))
    shard.append(number, place_in(number), arrival, wire, size)


def _check_tags(stream: str, account: str, tags: dict[str, str]) -> None:
    if not all(_TAG.fullmatch(text) for text in (*tags, *tags.values())):
        raise invalid(
            "Some tags contain invalid characters. Valid characters: "
            "Unicode letters, digits, white space, _ . / = + - % @."  # and refuses %, all the same
        )
    if len(tags) > TAG_LIMIT:
        raise invalid(
            f"Failed to add tags to stream {stream} under account {account} because a given stream cannot have more "
            f"than {TAG_LIMIT} tags associated with it."
        )


def _name_in(arn: str) -> str:
    head, _, name = arn.partition(":stream/")
    if not head.startswith("arn:") or not name:
        raise invalid(f"StreamARN {arn} is not the ARN of a stream.")
    return name.split("/", 1)[0]


def encoded(data: bytes) -> str:
    """Return data in the base64 of the JSON API."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")
