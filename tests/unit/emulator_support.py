"""Drives the Kinesis model as a client would, without a server and with a clock of the test's own."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from kcl_receiver.emulator.kinesis.errors import ServiceError
from kcl_receiver.emulator.kinesis.model import Event
from kcl_receiver.emulator.kinesis.service import Kinesis

START = 1_700_000_000.0
HOUR = 3600.0


class Client:
    """The JSON API of a model, as Python calls; the clock stands still unless it is advanced."""

    def __init__(self, seed: int = 0) -> None:
        self.events: list[Event] = []
        self.kinesis = Kinesis(seed=seed, journal=self.events.append, clock=lambda: START)

    def call(self, operation: str, **fields: object) -> dict[str, Any]:
        status, body = self.kinesis.call(operation, json.dumps(fields).encode())
        answer: dict[str, Any] = json.loads(body or b"{}")
        if status != 200:
            word = "Message" if answer["__type"] == "SerializationException" else "message"
            raise ServiceError(answer["__type"], answer[word], status)
        return answer

    def refused(self, name: str, operation: str, **fields: object) -> str:
        """Make a call that must be refused with this error, and return its words."""
        with pytest.raises(ServiceError) as raised:
            self.call(operation, **fields)
        assert raised.value.name == name
        return raised.value.message

    def stream(self, name: str = "s", shards: int = 1) -> None:
        self.call("CreateStream", StreamName=name, ShardCount=shards)

    def put(self, data: bytes = b"x", key: str = "k", name: str = "s", **more: object) -> tuple[str, int]:
        fields = {"StreamName": name, "Data": base64.b64encode(data).decode(), "PartitionKey": key, **more}
        answer = self.call("PutRecord", **fields)
        return answer["ShardId"], int(answer["SequenceNumber"])

    def iterator(self, shard: int = 0, kind: str = "TRIM_HORIZON", name: str = "s", **more: object) -> str:
        answer = self.call("GetShardIterator", StreamName=name, ShardId=shard_id(shard), ShardIteratorType=kind, **more)
        token: str = answer["ShardIterator"]
        return token

    def get(self, iterator: str, **more: object) -> dict[str, Any]:
        return self.call("GetRecords", ShardIterator=iterator, **more)

    def read(self, shard: int = 0, kind: str = "TRIM_HORIZON", name: str = "s", **more: object) -> list[bytes]:
        """Return the data of one page."""
        return [base64.b64decode(one["Data"]) for one in self.get(self.iterator(shard, kind, name, **more))["Records"]]

    def drain(self, shard: int = 0, name: str = "s") -> list[bytes]:
        """Return the data of all pages of a closed shard."""
        found: list[bytes] = []
        iterator: str | None = self.iterator(shard, name=name)
        while iterator is not None:
            page = self.get(iterator)
            found.extend(base64.b64decode(one["Data"]) for one in page["Records"])
            iterator = page.get("NextShardIterator")
        return found

    def shards(self, name: str = "s", **filter_: object) -> list[str]:
        fields: dict[str, Any] = {"StreamName": name}
        if filter_:
            fields["ShardFilter"] = filter_
        return [one["ShardId"] for one in self.call("ListShards", **fields)["Shards"]]

    def split(self, shard: int, at: int, name: str = "s") -> None:
        self.call("SplitShard", StreamName=name, ShardToSplit=shard_id(shard), NewStartingHashKey=str(at))

    def merge(self, shard: int, adjacent: int, name: str = "s") -> None:
        self.call("MergeShards", StreamName=name, ShardToMerge=shard_id(shard), AdjacentShardToMerge=shard_id(adjacent))


def shard_id(number: int) -> str:
    return f"shardId-{number:012d}"
