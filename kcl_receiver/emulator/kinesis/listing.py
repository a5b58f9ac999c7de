"""ListShards and ListStreams: filters and pages.

The filters are what KCL builds its leases with. At the moment of a split the parent is over and the children begin, so
that the shards open at any one time always cover every hash key exactly once; KCL checks that.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, TypeVar

import msgspec

from kcl_receiver.emulator.kinesis.errors import ServiceError, invalid, stream_not_found
from kcl_receiver.emulator.kinesis.model import Model
from kcl_receiver.emulator.kinesis.shard import Shard
from kcl_receiver.emulator.kinesis.stream import Stream

T = TypeVar("T")

TOKEN_LIFETIME = 300_000
"""Milliseconds after which a NextToken expires."""


def list_shards(model: Model, now: int, request: dict[str, Any]) -> dict[str, Any]:
    """Return one page of the shards that the filter lets through.

    Raises:
        ServiceError: As the service words it; ExpiredNextTokenException among them.
    """
    limit = min(request.get("MaxResults", 1000), 1000)
    token = request.get("NextToken")
    if token is not None:
        beside = request.keys() & {
            "StreamName",
            "StreamARN",
            "StreamCreationTimestamp",
            "ShardFilter",
            "ExclusiveStartShardId",
        }
        if beside:
            raise invalid(f"NextToken and {min(beside)} cannot be provided together.")
        name, created, issued, ids = _open_token(token, tuple[str, int, int, list[str]])
        if now - issued > TOKEN_LIFETIME:
            raise ServiceError("ExpiredNextTokenException", "The NextToken has expired: it is good for 300 seconds.")
        stream = model.find(now, name)
        if stream.created != created:
            raise invalid("The NextToken is of a stream that was deleted.")
        shards = [stream.shards[shard_id] for shard_id in ids if shard_id in stream.shards]
    elif not request.keys() & {"StreamName", "StreamARN"}:
        raise invalid("Either NextToken or StreamName should be provided.")
    else:
        stream = model.find(now, request.get("StreamName"), request.get("StreamARN"))
        moment = request.get("StreamCreationTimestamp")
        if moment is not None and moment // 1000 != stream.created // 1000:
            raise stream_not_found(stream.name, model.account)
        if stream.status_at(now) in ("CREATING", "DELETING"):
            model.require_active(stream, now)
        shards = _filtered(stream, now, request)
    out: dict[str, Any] = {"Shards": [shard.describe() for shard in shards[:limit]]}
    if len(shards) > limit:
        rest = [shard.id for shard in shards[limit:]]
        out["NextToken"] = _token([stream.name, stream.created, now, rest])
    return out


def _filtered(stream: Stream, now: int, request: dict[str, Any]) -> list[Shard]:
    shards = list(stream.shards.values())
    exclusive = request.get("ExclusiveStartShardId")
    if exclusive is not None:
        if "ShardFilter" in request:
            raise invalid("ExclusiveStartShardId and ShardFilter cannot be provided together.")
        return [shard for shard in shards if shard.id > exclusive]
    wanted = request.get("ShardFilter")
    if wanted is None:
        return shards
    kind = wanted["Type"]
    if kind == "AFTER_SHARD_ID":
        after = wanted.get("ShardId")
        if after is None:
            raise invalid("ShardId must be specified for a ShardFilter of type AFTER_SHARD_ID.")
        return [shard for shard in shards if shard.id > after]
    if kind == "AT_LATEST":
        return [shard for shard in shards if shard.is_open]
    moment = stream.horizon(now)
    if kind.endswith("TIMESTAMP"):
        given = wanted.get("Timestamp")
        if given is None:
            raise invalid(f"Timestamp must be specified for a ShardFilter of type {kind}.")
        if given > now:
            raise invalid(f"The Timestamp of a ShardFilter cannot lie in the future: {given} is after {now}.")
        moment = max(moment, given)
    if kind.startswith("FROM"):
        return [shard for shard in shards if shard.closed is None or shard.closed >= moment]
    return [shard for shard in shards if shard.created <= moment and (shard.closed is None or shard.closed > moment)]


def list_streams(model: Model, now: int, request: dict[str, Any]) -> dict[str, Any]:
    """Return one page of the streams, by name."""
    limit = min(request.get("Limit", 100), 100)
    after = request.get("ExclusiveStartStreamName")
    token = request.get("NextToken")
    if token is not None:
        (after,) = _open_token(token, tuple[str])
    streams = [stream for stream in model.live(now) if after is None or stream.name > after]
    page = streams[:limit]
    out: dict[str, Any] = {
        "StreamNames": [stream.name for stream in page],
        "StreamSummaries": [
            {
                "StreamName": stream.name,
                "StreamARN": stream.arn,
                "StreamStatus": stream.status_at(now),
                "StreamModeDetails": {"StreamMode": stream.mode},
                "StreamCreationTimestamp": stream.created / 1000,
            }
            for stream in page
        ],
        "HasMoreStreams": len(streams) > limit,
    }
    if len(streams) > limit:
        out["NextToken"] = _token([page[-1].name])
    return out


def _token(fields: list[Any]) -> str:
    return base64.b64encode(json.dumps(fields).encode("utf-8")).decode("ascii")


def _open_token(token: str, fields: type[T]) -> T:
    try:
        return msgspec.json.decode(base64.b64decode(token, validate=True), type=fields)
    except (binascii.Error, ValueError, msgspec.DecodeError, RecursionError):
        raise invalid("Invalid NextToken.") from None
