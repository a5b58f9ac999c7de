"""The shards of a stream, and how they are changed: the wide ones are split and the narrow ones are merged."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from kcl_receiver.emulator.clients import every_shard


class Shards:
    """See the module.

    Args:
        kinesis: boto3 client.
        stream: Name of the stream.
    """

    def __init__(self, kinesis: Any, stream: str) -> None:  # noqa: ANN401 - boto3
        self._kinesis = kinesis
        self._stream = stream

    def open(self) -> list[dict[str, Any]]:
        """Return the open shards in the order of their hash keys, as ListShards tells of them."""
        found = every_shard(self._kinesis, self._stream, "AT_LATEST")
        return sorted(found, key=lambda one: int(one["HashKeyRange"]["StartingHashKey"]))

    def widest(self) -> list[dict[str, Any]]:
        """Return the wider half of the open shards, as ListShards tells of them."""
        found = sorted(self.open(), key=lambda one: -_width(one))
        return found[: (len(found) + 1) // 2]

    def neighbours(self) -> list[tuple[str, str]]:
        """Return the narrower half of the pairs of open shards that can be merged."""
        pairs = sorted(pairwise(self.open()), key=lambda pair: _width(pair[0]) + _width(pair[1]))
        return [(low["ShardId"], high["ShardId"]) for low, high in pairs[: (len(pairs) + 1) // 2]]

    def split(self, shard: dict[str, Any]) -> None:
        """Split a shard in its middle."""
        keys = shard["HashKeyRange"]
        middle = (int(keys["StartingHashKey"]) + int(keys["EndingHashKey"])) // 2
        self._kinesis.split_shard(
            StreamName=self._stream, ShardToSplit=shard["ShardId"], NewStartingHashKey=str(middle)
        )

    def merge(self, low: str, high: str) -> None:
        """Merge two neighbours."""
        self._kinesis.merge_shards(StreamName=self._stream, ShardToMerge=low, AdjacentShardToMerge=high)

    def active(self) -> bool:
        """Return whether no change is under way."""
        summary = self._kinesis.describe_stream_summary(StreamName=self._stream)["StreamDescriptionSummary"]
        return bool(summary["StreamStatus"] == "ACTIVE")


def _width(shard: dict[str, Any]) -> int:
    keys = shard["HashKeyRange"]
    return int(keys["EndingHashKey"]) - int(keys["StartingHashKey"])
