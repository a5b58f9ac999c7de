"""Judges a run from outside: the producer's own list against the Parquet files and the lease table.

It uses plain pyarrow and boto3, and nothing of generator, tracker, ledger or reader: a fault there must not be able to
hide itself here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from kcl_receiver.emulator.producer import Acknowledged, digest_of

_Place = tuple[str, int, int]
"""Shard, sequence number, sub-sequence number."""


@dataclass(frozen=True, slots=True)
class LeaseVerdict:
    """One lease against what is stored.

    `stored` is the last position in the blocks, None if the shard has none; `checkpoint` is a position or KCL's word.
    """

    shard: str
    checkpoint: tuple[int, int] | str
    stored: tuple[int, int] | None
    last_put: tuple[int, int] | None

    @property
    def beyond(self) -> bool:
        """The checkpoint is past what is stored: the one thing that must never be."""
        if isinstance(self.checkpoint, tuple):
            return self.stored is None or self.checkpoint > self.stored
        return self.checkpoint == "SHARD_END" and self.stored != self.last_put

    @property
    def exact(self) -> bool:
        """The checkpoint is at the end of what is stored."""
        if isinstance(self.checkpoint, tuple):
            return self.checkpoint == self.stored
        return not self.beyond and (self.checkpoint == "SHARD_END" or self.stored is None)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found.

    Attributes:
        put: User records that the producer was told to be in the stream.
        stored: User records in the blocks, each counted once.
        missing: Put and in no block.
        doubles: Further copies of records in the blocks.
        altered: In a block with another key or other data than was put.
        unlisted: In a block and not on the producer's list: puts whose answer was lost.
        blocks: Number of Parquet files.
        leases: Each lease.
    """

    put: int
    stored: int
    missing: list[_Place]
    doubles: list[_Place]
    altered: list[_Place]
    unlisted: int
    blocks: int
    leases: list[LeaseVerdict] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Nothing lost, nothing altered, no checkpoint past what is stored."""
        return not (self.missing or self.altered or any(lease.beyond for lease in self.leases))

    @property
    def perfect(self) -> bool:
        """Sound, no record twice in the blocks, and every checkpoint at the end of what is stored."""
        return self.sound and not self.doubles and all(lease.exact for lease in self.leases)


def judge(
    acknowledged: Iterable[Acknowledged],
    store: Path | Sequence[Path],
    dynamodb: Any,  # noqa: ANN401
    table: str,
) -> Verdict:
    """Compare the producer's list with the blocks and the leases.

    Args:
        acknowledged: The producer's list.
        store: The store's directory; or those of all hosts that share the application, which are judged as one.
        dynamodb: A boto3 client.
        table: Name of the lease table.
    """
    # The leases first: beside a running receiver a checkpoint may rise, but never to what was not stored before it.
    checkpoints = list(_checkpoints(dynamodb, table))
    put = {(one.shard, one.sequence_number, one.sub_sequence_number): one.digest for one in list(acknowledged)}
    found: Counter[_Place] = Counter()
    altered: list[_Place] = []
    stores = [store] if isinstance(store, Path) else store
    files = sorted(file for one in stores for file in (one / "blocks").rglob("*.parquet"))
    for file in files:
        for place, digest in _records(file):
            found[place] += 1
            if place in put and put[place] != digest:
                altered.append(place)
    stored = _last_positions(found)
    last_put = _last_positions(put)
    return Verdict(
        put=len(put),
        stored=len(found),
        missing=sorted(put.keys() - found.keys()),
        doubles=sorted(place for place, count in found.items() for _ in range(count - 1)),
        altered=altered,
        unlisted=len(found.keys() - put.keys()),
        blocks=len(files),
        leases=[
            LeaseVerdict(shard, checkpoint, stored.get(shard), last_put.get(shard)) for shard, checkpoint in checkpoints
        ],
    )


def _records(file: Path) -> Iterable[tuple[_Place, str]]:
    columns = ["shard_id", "sequence_number", "sub_sequence_number", "partition_key", "data"]
    with pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(columns=columns):
            for shard, sequence, sub, key, data in zip(
                *(batch.column(name).to_pylist() for name in columns), strict=True
            ):
                yield (shard, int(sequence), sub), digest_of(key, data)


def _last_positions(places: Iterable[_Place]) -> dict[str, tuple[int, int]]:
    last: dict[str, tuple[int, int]] = {}
    for shard, sequence, sub in places:
        last[shard] = max(last.get(shard, (sequence, sub)), (sequence, sub))
    return last


def _checkpoints(dynamodb: Any, table: str) -> Iterable[tuple[str, tuple[int, int] | str]]:  # noqa: ANN401
    if table not in dynamodb.list_tables()["TableNames"]:
        return
    for page in dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True):
        for row in page["Items"]:
            text = row["checkpoint"]["S"]
            sub = int(row.get("checkpointSubSequenceNumber", {}).get("N", "0"))
            yield row["leaseKey"]["S"], (int(text), sub) if text.isdigit() else text
