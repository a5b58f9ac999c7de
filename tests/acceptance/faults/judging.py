"""What must hold, in words for each thing that does not: an empty list is good.

The verdict is that of `kcl_receiver.emulator.verdict`, which knows the producer's list, the Parquet files and the
lease table, and nothing of the receiver. A verdict may be asked for at any moment, also right after everything was
killed: what lies before a checkpoint must be in the blocks already. The reader's part (`read_all`) goes by ranges and
ledger, and is itself judged by the producer's list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger_index import LedgerIndex

from kcl_receiver.audit.report import GAP, NOTHING, PROVEN
from kcl_receiver.emulator.producer import Acknowledged
from kcl_receiver.emulator.verdict import LeaseVerdict, Verdict, judge
from kcl_receiver.errors import BlockDamaged, BlockMissing
from kcl_receiver.proof.coverage import select, span_of
from kcl_receiver.proof.links import cover
from kcl_receiver.store.blocks.file import BlockFile
from kcl_receiver.store.store import open_store

SHOWN = 3
"""So many examples are told of each thing that is wrong."""

_Place = tuple[str, int, int]


@dataclass(frozen=True)
class Judgement:
    """A verdict and what it means.

    Attributes:
        verdict: What was found.
        lost: Records before a checkpoint, or of an ended shard, that are in no block.
        beyond: Leases whose checkpoint is past the last that is stored.
        altered: Records whose content is not what was put.
        doubled: Copies beyond the first in the blocks, where no lease was taken by force.
        excused: The same where one was: that is allowed.
    """

    verdict: Verdict
    lost: list[_Place]
    beyond: list[LeaseVerdict]
    altered: list[_Place]
    doubled: list[_Place]
    excused: int

    def complaints(self) -> list[str]:
        """Return what is wrong."""
        found = [
            *_told("checkpointed and in no block", self.lost),
            *_told("in a block with another content than was put", self.altered),
            *_told("stored twice, though no lease was taken by force", self.doubled),
        ]
        found += [f"{one.shard}: the checkpoint {one.checkpoint} is past what is stored" for one in self.beyond]
        return found


def _told(what: str, places: Sequence[_Place]) -> list[str]:
    examples = ", ".join(f"{shard} {number}:{sub}" for shard, number, sub in places[:SHOWN])
    return [f"{len(places)} records are {what}, for example {examples}"] if places else []


def judge_now(
    acknowledged: Iterable[Acknowledged],
    stores: Sequence[Path],
    dynamodb: Any,  # noqa: ANN401 - boto3
    table: str,
    *,
    ended: Collection[str],
    forced: Collection[str],
) -> Judgement:
    """Judge a run that goes on.

    Args:
        acknowledged: The producer's list.
        stores: The directories of all hosts' stores.
        dynamodb: A boto3 client.
        table: Name of the lease table.
        ended: Shards that are known to be at SHARD_END, whose lease KCL may have deleted since.
        forced: Shards that were taken from an owner who may have been writing: doubles in blocks are allowed there.
    """
    verdict = judge(acknowledged, stores, dynamodb, table)
    checkpoints = {one.shard: one.checkpoint for one in verdict.leases}

    def is_checkpointed(place: _Place) -> bool:
        shard, number, sub = place
        checkpoint = checkpoints.get(shard)
        if shard in ended or checkpoint == "SHARD_END":
            return True
        return isinstance(checkpoint, tuple) and (number, sub) <= checkpoint

    return Judgement(
        verdict=verdict,
        lost=[place for place in verdict.missing if is_checkpointed(place)],
        # At SHARD_END all must be stored, which `lost` says; the verdict's own rule takes a record whose
        # acknowledgement was lost on its way, and which is stored, for one that was never put.
        beyond=[one for one in verdict.leases if isinstance(one.checkpoint, tuple) and one.beyond],
        altered=verdict.altered,
        doubled=[place for place in verdict.doubles if place[0] not in forced],
        excused=sum(1 for place in verdict.doubles if place[0] in forced),
    )


def check_end(judgement: Judgement) -> list[str]:
    """Return what is wrong when nothing is put any more and all had time to land."""
    found = judgement.complaints()
    found += _told("in no block", judgement.verdict.missing)
    for lease in judgement.verdict.leases:
        at_end = lease.checkpoint == "SHARD_END" or lease.checkpoint == lease.stored
        if not at_end and lease.stored is not None:
            found.append(f"{lease.shard}: the checkpoint is {lease.checkpoint}, and {lease.stored} is stored")
    return found


@dataclass(frozen=True)
class Reading:
    """What a reader of all stores together gets.

    Attributes:
        records: Number of records that he gets, each as often as he gets it.
        doubled: Copies beyond the first.
        unread: Records that were put and that he does not get.
        gaps: Where the blocks and ranges of all hosts together do not prove that everything is there, in words.
    """

    records: int
    doubled: list[_Place]
    unread: list[_Place]
    gaps: list[str]

    def complaints(self) -> list[str]:
        """Return what is wrong."""
        return [
            *_told("read twice", self.doubled),
            *_told("not read", self.unread),
            *self.gaps,
        ]


def read_all(acknowledged: Iterable[Acknowledged], stores: Sequence[Path]) -> Reading:
    """Read all stores as one, by their ledgers and ranges, and compare with the producer's list."""
    opened = [open_store(one.as_uri()) for one in stores]
    indexes = [LedgerIndex.load(store) for store in opened]
    got: Counter[_Place] = Counter()
    gaps: list[str] = []
    shards = sorted({(stream, shard) for one in indexes for stream in one.streams() for shard in one.shards(stream)})
    for stream, shard in shards:
        found = [
            (one, f"{number} {block}")
            for number, index in enumerate(indexes)
            for one, block in index.ranges(stream, shard)
        ]
        for chosen in select(found):
            if not chosen.parts:
                continue
            number, block = chosen.block.split(" ", 1)
            try:
                with BlockFile(opened[int(number)], block) as file:
                    positions = file.positions(chosen.range)
            except (BlockMissing, BlockDamaged) as error:
                gaps.append(f"{shard}: {error.message}")
                continue
            whole = chosen.parts == (span_of(chosen.range),)
            for position in positions:
                if whole or any(part.holds(position) for part in chosen.parts):
                    got[shard, position.sequence_number, position.sub_sequence_number] += 1
        sessions = [session for index in indexes for session in index.sessions(stream, shard)]
        ends = [end for index in indexes if (end := index.shard_ended(stream, shard)) is not None]
        marks = [entry for index in indexes for entry in index.marks if entry.stream == stream]
        coverage = cover([one for one, _ in found], sessions, ends[0] if ends else None, marks)
        gaps += [f"{shard}: a gap after {gap.after}: {gap.why}" for gap in (*coverage.gaps, *coverage.possibly_trimmed)]
        if len(coverage.segments) > 1 and not coverage.gaps:
            gaps.append(f"{shard}: {len(coverage.segments)} segments that nothing links")
    put = {(one.shard, one.sequence_number, one.sub_sequence_number) for one in acknowledged}
    return Reading(
        records=sum(got.values()),
        doubled=sorted(place for place, count in got.items() for _ in range(count - 1)),
        unread=sorted(put - got.keys()),
        gaps=gaps,
    )


def check_verify(said: dict[str, Any], *, alone: bool) -> list[str]:
    """Return what is wrong in what `kcl-receiver verify --output json` says of one host's store.

    Args:
        said: The JSON.
        alone: This host stored everything. Otherwise gaps are where the other hosts' parts are, and a shard whose lease
            moved on at once has nothing here: whether the others fill that is `read_all`'s business, and here only what
            was stored must be whole.
    """
    found = [f"verify: block {block} is missing" for block in said["blocks"]["missing"]]
    found += [f"verify: block {one['block']} is damaged: {one['reason']}" for one in said["blocks"]["damaged"]]
    found += [f"verify: ledger: {fault}" for fault in said["ledger"]["faults"]]
    if said["ledger"]["lost"]:
        found.append("verify: the ledger is lost")
    allowed = {PROVEN} if alone else {PROVEN, GAP, NOTHING}
    found += [
        f"verify: {shard['shard']} is {shard['state']}" for shard in said["shards"] if shard["state"] not in allowed
    ]
    return found
