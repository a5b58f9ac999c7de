"""The JSON 1.1 API of Kinesis in front of the model: one function an operation, and the table that names them.

Only this module and `request.py` know the API's field names. What the model does not have is refused by name, with what
to do instead: consumers with enhanced fan-out (KCL must poll), and CBOR.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from kcl_receiver.emulator.kinesis import listing, records, resharding
from kcl_receiver.emulator.kinesis.errors import ServiceError, constraint
from kcl_receiver.emulator.kinesis.model import Model
from kcl_receiver.emulator.kinesis.request import HASH_KEY, SEQUENCE_NUMBER, SHARD_ID, STREAM_NAME, Request
from kcl_receiver.emulator.kinesis.settings import DEFAULT_RECORD_LIMIT
from kcl_receiver.emulator.kinesis.stream import Stream

Body = dict[str, Any] | bytes | None
Operation = Callable[[Model, int, Request], Body]

TARGET = "Kinesis_20131202."
"""What X-Amz-Target of every Kinesis call begins with."""

MODES = ("PROVISIONED", "ON_DEMAND")
ITERATOR_TYPES = ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER", "TRIM_HORIZON", "LATEST", "AT_TIMESTAMP")
MAX_SHARDS = 10_000
MAX_PAGE_RECORDS = 10_000


def answer(model: Model, now: int, operation: str, body: bytes) -> tuple[int, bytes]:
    """Return HTTP status and body for one call."""
    try:
        if operation in _NO_FAN_OUT:
            raise ServiceError(
                "InvalidArgumentException",
                f"{operation}: this emulator has no enhanced fan-out. Set retrievalMode = POLLING in the properties.",
            )
        function = OPERATIONS.get(operation)
        if function is None:
            raise ServiceError("UnknownOperationException", f"This emulator does not know the operation {operation}.")
        result = function(model, now, Request.decode(body))
    except ServiceError as error:
        return error.status, error_body(error)
    if result is None:
        return 200, b""
    return 200, result if isinstance(result, bytes) else _json(result)


def error_body(error: ServiceError) -> bytes:
    """Return an error in the form of the JSON protocol."""
    return _json({"__type": error.name, "message": error.message})


def cbor_error_body(error: ServiceError) -> bytes:
    """Return an error in CBOR, so that a client that speaks CBOR can show it."""
    out = bytearray(b"\xa2")
    for text in ("__type", error.name, "message", error.message):
        raw = text.encode("utf-8")
        out += b"\x79" + len(raw).to_bytes(2, "big") + raw
    return bytes(out)


def no_cbor() -> ServiceError:
    """Return the error for a request in CBOR."""
    return ServiceError(
        "SerializationException",
        "This emulator speaks JSON, not CBOR: give java -Daws.cborEnabled=false, or set CBOR_ENABLED=false.",
    )


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def _stream(model: Model, now: int, request: Request) -> Stream:
    return model.find(now, request.optional_text("StreamName", STREAM_NAME), request.optional_text("StreamARN"))


def _create_stream(model: Model, now: int, request: Request) -> Body:
    name = request.text("StreamName", STREAM_NAME)
    count = request.integer("ShardCount", 1, MAX_SHARDS) if request.has("ShardCount") else None
    details = request.nested("StreamModeDetails")
    mode = "PROVISIONED" if details is None else details.choice("StreamMode", MODES)
    limit = request.optional_integer("MaxRecordSizeInKiB", 1024, 10240, DEFAULT_RECORD_LIMIT // 1024) * 1024
    model.create_stream(now, name, count, mode, limit, _tags(request))
    return None


def _delete_stream(model: Model, now: int, request: Request) -> Body:
    model.delete_stream(now, _stream(model, now, request))
    return None


def _describe_stream(model: Model, now: int, request: Request) -> Body:
    stream = _stream(model, now, request)
    limit = request.optional_integer("Limit", 1, 10_000, 100)
    after = request.optional_text("ExclusiveStartShardId", SHARD_ID)
    shards = [shard for shard in stream.shards.values() if after is None or shard.id > after]
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
        "ShardLimit": MAX_SHARDS,
        "OpenShardCount": used,
        "OnDemandStreamCount": on_demand,
        "OnDemandStreamCountLimit": 50,
    }


def _put_record(model: Model, now: int, request: Request) -> Body:
    entry = _entry(request)
    (result,) = records.put(model, now, _stream(model, now, request), [entry])
    if result.error is not None:
        raise result.error
    return {"ShardId": result.shard, "SequenceNumber": str(result.sequence)}


def _put_records(model: Model, now: int, request: Request) -> Body:
    raws = request.items("Records", 1, records.MAX_PUT_RECORDS)
    entries = [_entry(Request(raw, f"records.{row}.member.")) for row, raw in enumerate(raws, 1)]
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
    key = request.sized_text("PartitionKey", 1, 256)
    place = request.optional_text("ExplicitHashKey", HASH_KEY)
    return records.Entry(key, request.data("Data"), None if place is None else int(place))


def _get_shard_iterator(model: Model, now: int, request: Request) -> Body:
    kind = request.choice("ShardIteratorType", ITERATOR_TYPES)
    shard_id = request.text("ShardId", SHARD_ID)
    text = request.optional_text("StartingSequenceNumber", SEQUENCE_NUMBER)
    sequence = None if text is None else int(text)
    moment = request.moment("Timestamp")
    stream = _stream(model, now, request)
    token = records.iterator(model, now, stream, model.shard(stream, shard_id), kind, sequence, moment)
    return {"ShardIterator": token}


def _get_records(model: Model, now: int, request: Request) -> Body:
    limit = request.optional_integer("Limit", 1, MAX_PAGE_RECORDS, MAX_PAGE_RECORDS)
    return records.read(model, now, request.text("ShardIterator"), limit, request.optional_text("StreamARN"))


def _split_shard(model: Model, now: int, request: Request) -> Body:
    shard_id = request.text("ShardToSplit", SHARD_ID)
    start = int(request.text("NewStartingHashKey", HASH_KEY))
    resharding.split(model, now, _stream(model, now, request), shard_id, start)
    return None


def _merge_shards(model: Model, now: int, request: Request) -> Body:
    shard_id = request.text("ShardToMerge", SHARD_ID)
    adjacent_id = request.text("AdjacentShardToMerge", SHARD_ID)
    resharding.merge(model, now, _stream(model, now, request), shard_id, adjacent_id)
    return None


def _update_shard_count(model: Model, now: int, request: Request) -> Body:
    request.choice("ScalingType", ("UNIFORM_SCALING",))
    target = request.integer("TargetShardCount", 1, MAX_SHARDS)
    stream = _stream(model, now, request)
    before = resharding.scale(model, now, stream, target)
    return {
        "StreamName": stream.name,
        "StreamARN": stream.arn,
        "CurrentShardCount": before,
        "TargetShardCount": target,
    }


def _increase_retention(model: Model, now: int, request: Request) -> Body:
    hours = request.integer("RetentionPeriodHours", 1, 10**9)
    model.set_retention(now, _stream(model, now, request), hours, longer=True)
    return None


def _decrease_retention(model: Model, now: int, request: Request) -> Body:
    hours = request.integer("RetentionPeriodHours", 1, 10**9)
    model.set_retention(now, _stream(model, now, request), hours, longer=False)
    return None


def _update_stream_mode(model: Model, now: int, request: Request) -> Body:
    details = request.nested("StreamModeDetails")
    if details is None:
        raise constraint("null", "streamModeDetails", "Member must not be null")
    model.set_mode(now, _stream(model, now, request), details.choice("StreamMode", MODES))
    return None


def _tags(request: Request) -> dict[str, str]:
    return {str(key): str(value) for key, value in (request.mapping("Tags") or {}).items()}


def _add_tags(model: Model, now: int, request: Request) -> Body:
    stream = _stream(model, now, request)
    model.set_tags(stream, {**stream.tags, **_tags(request)})
    return None


def _remove_tags(model: Model, now: int, request: Request) -> Body:
    stream = _stream(model, now, request)
    gone = request.items("TagKeys", 1, 50)
    model.set_tags(stream, {key: value for key, value in stream.tags.items() if key not in gone})
    return None


def _list_tags(model: Model, now: int, request: Request) -> Body:
    stream = _stream(model, now, request)
    limit = request.optional_integer("Limit", 1, 50, 50)
    after = request.optional_text("ExclusiveStartTagKey")
    tags = [{"Key": key, "Value": value} for key, value in sorted(stream.tags.items()) if after is None or key > after]
    return {"Tags": tags[:limit], "HasMoreTags": len(tags) > limit}


def _list_shards(model: Model, now: int, request: Request) -> Body:
    return listing.list_shards(model, now, request)


def _list_streams(model: Model, now: int, request: Request) -> Body:
    return listing.list_streams(model, now, request)


_NO_FAN_OUT = frozenset(
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
