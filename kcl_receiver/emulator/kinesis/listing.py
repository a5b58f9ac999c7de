"""ListShards and ListStreams: filters and pages.

The filters are what KCL builds its leases with. At the moment of a split the parent is over and the children begin, so
that the shards open at any one time always cover every hash key exactly once; KCL checks that.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from kcl_receiver.emulator.kinesis.errors import ServiceError, invalid
from kcl_receiver.emulator.kinesis.model import Model
from kcl_receiver.emulator.kinesis.request import SHARD_ID, STREAM_NAME, Request
from kcl_receiver.emulator.kinesis.shard import Shard
from kcl_receiver.emulator.kinesis.stream import Stream

FILTERS = (
    "AFTER_SHARD_ID",
    "AT_TRIM_HORIZON",
    "FROM_TRIM_HORIZON",
    "AT_LATEST",
    "AT_TIMESTAMP",
    "FROM_TIMESTAMP",
)
TOKEN_LIFETIME = 300_000
"""Milliseconds after which a NextToken expires."""


def list_shards(model: Model, now: int, request: Request) -> dict[str, Any]:
    """Return one page of the shards that the filter lets through.

    Raises:
        ServiceError: As the service words it; ExpiredNextTokenException among them.
    """
    limit = request.optional_integer("MaxResults", 1, 10_000, 1000)
    token = request.optional_text("NextToken")
    if token is not None:
        if request.has("StreamName") or request.has("StreamARN") or request.has("ShardFilter"):
            raise invalid("NextToken and StreamName cannot be provided together.")
        name, created, issued, ids = _open_token(token)
        if now - issued > TOKEN_LIFETIME:
            raise ServiceError("ExpiredNextTokenException", "The NextToken has expired: it is good for 300 seconds.")
        stream = model.find(now, name)
        if stream.created != created:
            raise invalid("The NextToken is of a stream that was deleted.")
        shards = [stream.shards[shard_id] for shard_id in ids if shard_id in stream.shards]
    else:
        stream = model.find(now, request.optional_text("StreamName", STREAM_NAME), request.optional_text("StreamARN"))
        if stream.status_at(now) in ("CREATING", "DELETING"):
            model.require_active(stream, now)
        shards = _filtered(stream, now, request)
    out: dict[str, Any] = {"Shards": [shard.describe() for shard in shards[:limit]]}
    if len(shards) > limit:
        rest = [shard.id for shard in shards[limit:]]
        out["NextToken"] = _token([stream.name, stream.created, now, rest])
    return out


def _filtered(stream: Stream, now: int, request: Request) -> list[Shard]:
    shards = list(stream.shards.values())
    exclusive = request.optional_text("ExclusiveStartShardId", SHARD_ID)
    if exclusive is not None:
        if request.has("ShardFilter"):
            raise invalid("ExclusiveStartShardId and ShardFilter cannot be provided together.")
        return [shard for shard in shards if shard.id > exclusive]
    wanted = request.nested("ShardFilter")
    if wanted is None:
        return shards
    kind = wanted.choice("Type", FILTERS)
    if kind == "AFTER_SHARD_ID":
        after = wanted.text("ShardId", SHARD_ID)
        return [shard for shard in shards if shard.id > after]
    if kind == "AT_LATEST":
        return [shard for shard in shards if shard.is_open]
    moment = stream.horizon(now)
    if kind.endswith("TIMESTAMP"):
        given = wanted.moment("Timestamp")
        if given is None:
            raise invalid(f"Timestamp must be specified for a ShardFilter of type {kind}.")
        if given > now:
            raise invalid(f"The Timestamp of a ShardFilter cannot lie in the future: {given} is after {now}.")
        moment = max(moment, given)
    if kind.startswith("FROM"):
        return [shard for shard in shards if shard.closed is None or shard.closed >= moment]
    return [shard for shard in shards if shard.created <= moment and (shard.closed is None or shard.closed > moment)]


def list_streams(model: Model, now: int, request: Request) -> dict[str, Any]:
    """Return one page of the streams, by name."""
    limit = request.optional_integer("Limit", 1, 10_000, 100)
    after = request.optional_text("ExclusiveStartStreamName", STREAM_NAME)
    token = request.optional_text("NextToken")
    if token is not None:
        after = str(_open_token(token, 1)[0])
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


def _open_token(token: str, length: int = 4) -> list[Any]:
    try:
        fields = json.loads(base64.b64decode(token, validate=True))
    except (binascii.Error, ValueError):
        fields = None
    if not isinstance(fields, list) or len(fields) != length:
        raise invalid("Invalid NextToken.")
    return fields
