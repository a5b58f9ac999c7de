"""Splitting, merging and the uniform change of a shard count: closes parents and opens their children.

A split or merge takes effect at one moment: the parents take no more records, the children take all from then on, and
their sequence numbers lie above everything in the parents.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from kcl_receiver.emulator.kinesis.errors import ServiceError, invalid
from kcl_receiver.emulator.kinesis.model import Model
from kcl_receiver.emulator.kinesis.shard import HASH_KEYS, Shard, name_shard
from kcl_receiver.emulator.kinesis.stream import Stream


def split(model: Model, now: int, stream: Stream, shard_id: str, new_start: int) -> None:
    """Split an open shard in two, the second of which begins at hash key `new_start`.

    Raises:
        ServiceError: ResourceNotFoundException, ResourceInUseException, InvalidArgumentException, or
            ValidationException for an on-demand stream.
    """
    _require_changeable(model, now, stream)
    shard = _open(model, stream, shard_id)
    if not shard.start + 1 < new_start < shard.end:
        raise invalid(
            f"NewStartingHashKey {new_start} used in SplitShard() on shard {shard.id} in stream {stream.name} under "
            f"account {model.account} is not both greater than one plus the shard's StartingHashKey {shard.start} "
            f"and less than the shard's EndingHashKey {shard.end}."
        )
    model.require_room(now, 1)
    _reshard(model, now, stream, [shard], [(shard.start, new_start - 1), (new_start, shard.end)])


def merge(model: Model, now: int, stream: Stream, shard_id: str, adjacent_id: str) -> None:
    """Merge two open shards; the hash range of the second begins where that of the first ends.

    Raises:
        ServiceError: ResourceNotFoundException, ResourceInUseException, InvalidArgumentException, or
            ValidationException for an on-demand stream.
    """
    _require_changeable(model, now, stream)
    shard, adjacent = _open(model, stream, shard_id), _open(model, stream, adjacent_id)
    if shard.end + 1 != adjacent.start:
        raise invalid(
            f"Shards {shard.id} and {adjacent.id} in stream {stream.name} under account {model.account} are not an "
            "adjacent pair of shards eligible for merging"
        )
    _reshard(model, now, stream, [shard, adjacent], [(shard.start, adjacent.end)])


def scale(model: Model, now: int, stream: Stream, target: int) -> int:
    """Bring the stream to `target` shards of even size by splits and merges; return how many it had.

    Raises:
        ServiceError: LimitExceededException beyond double or below half, InvalidArgumentException for no change,
            ResourceInUseException, or ValidationException for an on-demand stream.
    """
    _require_changeable(model, now, stream)
    current = len(stream.open_shards())
    if target == current:
        raise invalid(f"UpdateShardCount: the target {target} is the number of open shards already.")
    if target > 2 * current:
        raise ServiceError(
            "LimitExceededException",
            f"UpdateShardCount cannot scale up over double your current open shard count. Current open shard count: "
            f"{current} Target shard count: {target}",
        )
    if 2 * target < current:
        raise ServiceError(
            "LimitExceededException",
            f"UpdateShardCount cannot scale down below half your current open shard count. Current open shard count: "
            f"{current} Target shard count: {target}",
        )
    model.require_room(now, target - current)
    bounds = [HASH_KEYS * row // target for row in range(1, target)]
    for bound in bounds:
        shard = stream.shard_for(bound)
        if shard.start != bound:
            _reshard(model, now, stream, [shard], [(shard.start, bound - 1), (bound, shard.end)])
    wanted = set(bounds)
    while True:
        shards = stream.open_shards()
        pair = next(((low, high) for low, high in pairwise(shards) if high.start not in wanted), None)
        if pair is None:
            return current
        _reshard(model, now, stream, [*pair], [(pair[0].start, pair[1].end)])


def _require_changeable(model: Model, now: int, stream: Stream) -> None:
    model.require_active(stream, now)
    if stream.mode == "ON_DEMAND":
        raise ServiceError(
            "ValidationException",
            f"Request is invalid. Stream {stream.name} under account {model.account} is in On-Demand mode.",
        )


def _open(model: Model, stream: Stream, shard_id: str) -> Shard:
    shard = model.shard(stream, shard_id)
    if not shard.is_open:
        raise invalid(
            f"Shard {shard.id} in stream {stream.name} under account {model.account} has already been merged or split, "
            "and thus is not eligible for merging or splitting."
        )
    return shard


def _reshard(model: Model, now: int, stream: Stream, parents: list[Shard], ranges: list[tuple[int, int]]) -> None:
    epoch = model.next_epoch(now)
    opened: list[dict[str, Any]] = []
    for row, (start, end) in enumerate(ranges):
        raw: dict[str, Any] = {
            "number": stream.next_number + row,
            "start": str(start),
            "end": str(end),
            "created": now,
            "epoch": epoch,
            "parent": parents[0].id,
        }
        if len(parents) > 1:
            raw["adjacent"] = parents[1].id
        opened.append(raw)
    children = [name_shard(raw["number"]) for raw in opened]
    closed = [{"shard": one.id, "ending": str(one.ending_at(now)), "children": children} for one in parents]
    model.commit(
        {
            "event": "reshard",
            "stream": stream.name,
            "at": now,
            "until": model.until(now),
            "closed": closed,
            "opened": opened,
        }
    )
