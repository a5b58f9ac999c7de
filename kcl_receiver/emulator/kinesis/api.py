"""The API of Kinesis in front of the model: one function an operation, and the table that names them.

Only this module and `listing.py` know the API's field names; `shapes.py` has held every request against the service's
own description before it comes here. What the model does not have is refused by name, with what to do instead.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec

from kcl_receiver.emulator.kinesis import cbor, listing, records, resharding
from kcl_receiver.emulator.kinesis.errors import ServiceError, invalid
from kcl_receiver.emulator.kinesis.model import SHARD_LIMIT, Model
from kcl_receiver.emulator.kinesis.settings import DEFAULT_RECORD_LIMIT
from kcl_receiver.emulator.kinesis.shapes import Shapes, serialization
from kcl_receiver.emulator.kinesis.stream import Stream

Body = dict[str, Any] | bytes | None
Request = dict[str, Any]
"""The fields of a request, as `Shapes.read` gives them."""
Operation = Callable[[Model, int, Request], Body]

TARGET = "Kinesis_20131202."
"""What X-Amz-Target of every Kinesis call begins with."""

MAX_PAGE_RECORDS = 10_000

FIELDS = frozenset(
    {
        *("AdjacentShardToMerge", "Data", "EnforceConsumerDeletion", "ExclusiveStartShardId"),
        *("ExclusiveStartStreamName", "ExclusiveStartTagKey", "ExplicitHashKey", "Limit", "MaxRecordSizeInKiB"),
        *("MaxResults", "NewStartingHashKey", "NextToken", "PartitionKey", "Records", "RetentionPeriodHours"),
        *("ScalingType", "SequenceNumberForOrdering", "ShardCount", "ShardFilter", "ShardId", "ShardIterator"),
        *("ShardIteratorType", "ShardToMerge", "ShardToSplit", "StartingSequenceNumber", "StreamARN"),
        *("StreamCreationTimestamp", "StreamMode", "StreamModeDetails", "StreamName", "TagKeys", "Tags"),
        *("TargetShardCount", "Timestamp", "Type"),
    }
)
"""Every member of a request that is heeded here. (There are no consumers whose deletion could be enforced.)"""

SHAPES = Shapes(FIELDS)


def answer(model: Model, now: int, operation: str, body: bytes, in_cbor: bool = False) -> tuple[int, bytes]:
    """Return HTTP status and body for one call, in JSON or in CBOR as the request."""
    try:
        function = _find(operation)
        result = function(model, now, SHAPES.read(operation, _decode_cbor(body) if in_cbor else _decode(body)))
    except ServiceError as error:
        return error.status, error_body(error, in_cbor)
    if result is None:
        return 200, b""
    if in_cbor:
        fields: dict[str, Any] = msgspec.json.decode(result) if isinstance(result, bytes) else result
        return 200, cbor.encode(SHAPES.typed(operation, fields))
    return 200, result if isinstance(result, bytes) else _json(result)


def _find(operation: str) -> Operation:
    if operation not in SHAPES.operations:
        raise ServiceError("UnknownOperationException", f"Kinesis has no operation {operation}.")
    function = OPERATIONS.get(operation)
    if function is None:
        instead = " Set retrievalMode = POLLING in the properties." if operation in _FAN_OUT else ""
        raise invalid(f"This emulator does not have {operation}.{instead}")
    return function


def _decode(body: bytes) -> object:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise serialization(f"the body is not JSON: {error}") from None


def _decode_cbor(body: bytes) -> object:
    try:
        return cbor.decode(body)
    except ValueError as error:
        raise serialization(f"the body is not CBOR: {error}") from None


def error_body(error: ServiceError, in_cbor: bool = False) -> bytes:
    """Return an error in the form of the JSON protocol, or of the CBOR protocol."""
    # The service's deserializer writes the word in another way than all that comes after it.
    word = "Message" if error.name == "SerializationException" else "message"
    body = {"__type": error.name, word: error.message}
    return cbor.encode(body) if in_cbor else _json(body)


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def _stream(model: Model, now: int, request: Request) -> Stream:
    return model.find(now, request.get("StreamName"), request.get("StreamARN"))


def _create_stream(model: Model, now: int, request: Request) -> Body:
    count = request.get("ShardCount")
    # Without either the service makes an on-demand stream.
    default = {"StreamMode": "ON_DEMAND" if count is None else "PROVISIONED"}
    mode = request.get("StreamModeDetails", default)["StreamMode"]
    limit = request.get("MaxRecordSizeInKiB", DEFAULT_RECORD_LIMIT // 1024) * 1024
    model.create_stream(now, request["StreamName"], count, mode, limit, request.get("Tags"))
    return None


def _delete_stream(model: Model, now: int, request: Request) -> Body:
    model.delete_stream(now, _stream(model, now, request))
    return None


def _describe_stream(model: Model, now: int, request: Request) -> Body:
    stream = _stream(model, now, request)
    limit = min(request.get("Limit", 100), 100)
    after = request.get("ExclusiveStartShardId")
    shards = [shard for shard in stream.shards.values() if after is None or shard.id > after]
    if stream.status_at(now) == "CREATING":
        shards = []  # the service shows them once they can be used
    description = stream.describe(now)
    del description["MaxRecordSizeInKiB"]
    description["Shards"] = [shard.describe() for shard in shards[:limit]]
    description["HasMoreShards"] = len(shards) > limit
    return {"StreamDescription": description}


def _describe_stream_summary(model: Model, now: int, request: Request) -> Body:
    stream = _stream(model, now, request)
    summary = stream.describe(now)
    summary["OpenShardCount"] = len(stream.open_shards())
    summary["ConsumerCount"] = 0
    return {"StreamDescriptionSummary": summary}


def _describe_limits(model: Model, now: int, request: Request) -> Body:  # noqa: ARG001 - has no fields
    used = sum(len(stream.open_shards()) for stream in model.live(now))
    on_demand = sum(stream.mode == "ON_DEMAND" for stream in model.live(now))
    return {
        "ShardLimit": SHARD_LIMIT,
        "OpenShardCount": used,
        "OnDemandStreamCount": on_demand,
        "OnDemandStreamCountLimit": 50,
    }


def _put_record(model: Model, now: int, request: Request) -> Body:
    after = request.get("SequenceNumberForOrdering")
    stream = _stream(model, now, request)
    if after is not None:
        records.check_ordering(model, now, stream, int(after))
    (result,) = records.put(model, now, stream, [_entry(request)])
    if result.error is not None:
        raise result.error
    return {"ShardId": result.shard, "SequenceNumber": str(result.sequence)}


def _put_records(model: Model, now: int, request: Request) -> Body:
    entries = [_entry(one) for one in request["Records"]]
    size = sum(entry.size for entry in entries)
    if size > records.MAX_PUT_BYTES:
        raise ServiceError(
            "InvalidArgumentException",
            f"Records size exceeds {records.MAX_PUT_BYTES // 2**20} MB: {size} bytes of data and partition keys",
        )
    stream = _stream(model, now, request)
    results = records.put(model, now, stream, entries, model.settings.put_failures)
    rows: list[dict[str, Any]] = []
    for result in results:
        if result.error is None:
            rows.append({"SequenceNumber": str(result.sequence), "ShardId": result.shard})
        else:
            rows.append({"ErrorCode": result.error.name, "ErrorMessage": result.error.message})
    return {"FailedRecordCount": sum(result.error is not None for result in results), "Records": rows}


def _entry(request: Request) -> records.Entry:
    place = request.get("ExplicitHashKey")
    return records.Entry(request["PartitionKey"], request["Data"], None if place is None else int(place))


def _get_shard_iterator(model: Model, now: int, request: Request) -> Body:
    text = request.get("StartingSequenceNumber")
    stream = _stream(model, now, request)
    shard = model.shard(stream, request["ShardId"])
    start = records.Start(request["ShardIteratorType"], None if text is None else int(text), request.get("Timestamp"))
    return {"ShardIterator": records.iterator(model, now, stream, shard, start)}


def _get_records(model: Model, now: int, request: Request) -> Body:
    limit = request.get("Limit", MAX_PAGE_RECORDS)
    return records.read(model, now, request["ShardIterator"], limit, request.get("StreamARN"))


def _split_shard(model: Model, now: int, request: Request) -> Body:
    start = int(request["NewStartingHashKey"])
    resharding.split(model, now, _stream(model, now, request), request["ShardToSplit"], start)
    return None


def _merge_shards(model: Model, now: int, request: Request) -> Body:
    stream = _stream(model, now, request)
    resharding.merge(model, now, stream, request["ShardToMerge"], request["AdjacentShardToMerge"])
    return None


def _update_shard_count(model: Model, now: int, request: Request) -> Body:
    target = request["TargetShardCount"]
    stream = _stream(model, now, request)
    before = resharding.scale(model, now, stream, target)
    return {
        "StreamName": stream.name,
        "StreamARN": stream.arn,
        "CurrentShardCount": before,
        "TargetShardCount": target,
    }


def _increase_retention(model: Model, now: int, request: Request) -> Body:
    hours = request["RetentionPeriodHours"]
    model.set_retention(now, _stream(model, now, request), hours, longer=True)
    return None


def _decrease_retention(model: Model, now: int, request: Request) -> Body:
    hours = request["RetentionPeriodHours"]
    model.set_retention(now, _stream(model, now, request), hours, longer=False)
    return None


def _update_stream_mode(model: Model, now: int, request: Request) -> Body:
    model.set_mode(now, _stream(model, now, request), request["StreamModeDetails"]["StreamMode"])
    return None


def _add_tags(model: Model, now: int, request: Request) -> Body:
    model.add_tags(_stream(model, now, request), request["Tags"])
    return None


def _remove_tags(model: Model, now: int, request: Request) -> Body:
    model.remove_tags(_stream(model, now, request), request["TagKeys"])
    return None


def _list_tags(model: Model, now: int, request: Request) -> Body:
    stream = _stream(model, now, request)
    limit = request.get("Limit", 50)
    after = request.get("ExclusiveStartTagKey")
    tags = [{"Key": key, "Value": value} for key, value in sorted(stream.tags.items()) if after is None or key > after]
    return {"Tags": tags[:limit], "HasMoreTags": len(tags) > limit}


def _list_shards(model: Model, now: int, request: Request) -> Body:
    return listing.list_shards(model, now, request)


def _list_streams(model: Model, now: int, request: Request) -> Body:
    return listing.list_streams(model, now, request)


_FAN_OUT = frozenset(
    {
        "RegisterStreamConsumer",
        "DeregisterStreamConsumer",
        "DescribeStreamConsumer",
        "ListStreamConsumers",
        "SubscribeToShard",
    }
)

OPERATIONS: dict[str, Operation] = {
    "AddTagsToStream": _add_tags,
    "CreateStream": _create_stream,
    "DecreaseStreamRetentionPeriod": _decrease_retention,
    "DeleteStream": _delete_stream,
    "DescribeLimits": _describe_limits,
    "DescribeStream": _describe_stream,
    "DescribeStreamSummary": _describe_stream_summary,
    "GetRecords": _get_records,
    "GetShardIterator": _get_shard_iterator,
    "IncreaseStreamRetentionPeriod": _increase_retention,
    "ListShards": _list_shards,
    "ListStreams": _list_streams,
    "ListTagsForStream": _list_tags,
    "MergeShards": _merge_shards,
    "PutRecord": _put_record,
    "PutRecords": _put_records,
    "RemoveTagsFromStream": _remove_tags,
    "SplitShard": _split_shard,
    "UpdateShardCount": _update_shard_count,
    "UpdateStreamMode": _update_stream_mode,
}
"""Every operation that the model has."""
