"""What verify finds, in the words that the program, the command and the picture share.

proven              one chain of links leads from where reading began to the last record
nothing stored      reading began, and no record is stored yet: there is nothing to prove
expired             the same, and all records of the shard were removed on purpose
possibly trimmed    the chain holds, but across one link the shard was not read within the stream's retention
gap                 the chain is broken: records may exist that no block holds
lost                the ledger names records, and no block that can be read holds them
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from kcl_receiver.proof.coverage import Gap, Span
from kcl_receiver.ranges import Position, Range, StreamIdentity
from kcl_receiver.store.ledger.entries import Acknowledged, BlockStored

PROVEN = "proven"
NOTHING = "nothing stored"
EXPIRED: Literal["expired"] = "expired"
POSSIBLY_TRIMMED: Literal["possibly trimmed"] = "possibly trimmed"
GAP: Literal["gap"] = "gap"
LOST: Literal["lost"] = "lost"

STORED: Literal["stored"] = "stored"
OVERLAP: Literal["overlap"] = "overlap"

MISSING: Literal["missing"] = "missing"
DAMAGED: Literal["damaged"] = "damaged"

StretchKind = Literal["stored", "overlap", "gap", "possibly trimmed", "lost", "expired"]


@dataclass(frozen=True, slots=True)
class Damage:
    """A block that should be there and whole, and is not.

    Attributes:
        block: Its id.
        entry: What the ledger says of it.
        why: It is not there, or it cannot be read or is another one.
        detail: The same in words for people.
        ranges_lost: Those of its ranges that no good block holds wholly. A range that two such blocks held is named
            with both, but with a replaced block only if it is named with no other.
    """

    block: str
    entry: BlockStored
    why: Literal["missing", "damaged"]
    detail: str
    ranges_lost: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of a shard's time, for pictures.

    Attributes:
        kind: What is in it: records that are stored, once or more often (`overlap`), or one of the other words.
        begin_ms: When its first record arrived at Kinesis, milliseconds since the epoch; of a gap, when the last record
            before it did. -1 if not known.
        end_ms: The same of its last record; of a gap, of the first record after it.
        records: How many records it holds, held or should hold; 0 of a gap.
    """

    kind: StretchKind
    begin_ms: int
    end_ms: int
    records: int


@dataclass(frozen=True, slots=True)
class Lost:
    """Records that the ledger names and that no readable block holds.

    Attributes:
        block: Id of the block that held them.
        span: From where to where.
        count: How many of them; None if other blocks hold some of the range's records.
        begin_ms: When the first record of their range arrived, milliseconds since the epoch; -1 if not known.
        end_ms: The same of the last.
    """

    block: str
    span: Span
    count: int | None
    begin_ms: int = field(default=-1, compare=False)
    end_ms: int = field(default=-1, compare=False)


@dataclass(frozen=True, slots=True)
class ExpiredStretch:
    """Records that were stored, and then removed on purpose.

    Attributes:
        first: Position of the first of them.
        last: The same of the last.
        records: How many; a record that several blocks held counts as often.
        begin_ms: When the first arrived, milliseconds since the epoch; -1 if not known.
        end_ms: The same of the last.
        before: The latest limit that was named: all had arrived before it, milliseconds since the epoch.
        since: When the first of them were removed; -1 if a lifecycle rule did it, of which only the limit is known.
    """

    first: Position
    last: Position
    records: int
    begin_ms: int
    end_ms: int
    before: int
    since: int


@dataclass(frozen=True, slots=True)
class ShardReport:
    """One shard.

    Attributes:
        stream: Its stream.
        shard: Its id.
        state: One of these words.
        records: Number of records that are stored, each counted once.
        duplicates: Records that blocks hold beyond that.
        blocks: Number of blocks that hold records of it.
        first: Position of the first record that is stored, or None if there is none.
        last: The same of the last.
        arrival_first: When the first one arrived at Kinesis, in milliseconds since the epoch; -1 if not known.
        arrival_last: The same of the last.
        ended: The shard was read to its end.
        gaps: See `Coverage`.
        possibly_trimmed: See `Coverage`.
        lost: What is lost.
        spans: Stretches in which one chain of links leads from the first to the last record.
        expired: What was removed on purpose.
        timeline: The same for a picture, at most some thousand stretches, in the order of their beginnings.
        uncounted_ranges: Ranges that overlap others in part, and whose rows were not looked at: by ledger alone.
        uncounted_records: Records of these: each is in `duplicates`, and may be one that no other range holds.
    """

    stream: StreamIdentity
    shard: str
    state: str
    records: int
    duplicates: int
    blocks: int
    first: Position | None
    last: Position | None
    arrival_first: int
    arrival_last: int
    ended: bool
    gaps: tuple[Gap, ...]
    possibly_trimmed: tuple[Gap, ...]
    lost: tuple[Lost, ...]
    spans: tuple[Span, ...] = ()
    expired: tuple[ExpiredStretch, ...] = ()
    timeline: tuple[Stretch, ...] = ()
    uncounted_ranges: int = 0
    uncounted_records: int = 0


@dataclass(slots=True)
class Report:
    """A whole store.

    Attributes:
        url: The store's URL.
        application: Whose store it is; None if its document is missing.
        deep: The checksum of every range was made again.
        shards: All shards of all streams.
        blocks: Number of blocks that are in the store; by ledger alone, that should be.
        missing: Ids of blocks that the ledger names and that are not there.
        damaged: Why each damaged block is so, by its id.
        orphans: Ids of whole blocks that are in no ledger. The next start, or `repair`, records them.
        leftovers: Path and size of files that are no part of the store.
        writers: Number of writers, those of maintenance not counted.
        ledger_faults: What is wrong with the ledger.
        acknowledged: What `repair` recorded as lost of the ledger: it takes nothing from the proof of
            what is left, but nobody knows of blocks or ends that only the lost lines named.
        ledger_lost: There are blocks, and no ledger.
        torn: Writers whose ledger ends in a torn line, which nobody relied on.
        ledger_only: No block was looked at, nor whether it is there.
        replaced_present: Ids of blocks that others stand in for, and that are still there.
        expired_present: Ids of blocks that were removed on purpose, and that are still there.
        expired_blocks: Number of blocks that were removed on purpose.
        replaced_blocks: Number of blocks that others stand in for.
    """

    url: str
    application: str | None = None
    deep: bool = False
    shards: list[ShardReport] = field(default_factory=list)
    blocks: int = 0
    missing: list[str] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)
    orphans: list[str] = field(default_factory=list)
    leftovers: list[tuple[str, int]] = field(default_factory=list)
    writers: int = 0
    ledger_faults: list[str] = field(default_factory=list)
    acknowledged: list[Acknowledged] = field(default_factory=list)
    ledger_lost: bool = False
    torn: list[str] = field(default_factory=list)
    ledger_only: bool = False
    replaced_present: list[str] = field(default_factory=list)
    expired_present: list[str] = field(default_factory=list)
    expired_blocks: int = 0
    replaced_blocks: int = 0

    @property
    def proven(self) -> bool:
        """Whether everything is: each shard, each block, the ledger. Orphans, leftovers and torn ends take nothing."""
        return self._whole and any(one.state != NOTHING for one in self.shards)

    @property
    def nothing_stored(self) -> bool:
        """Whether there is nothing to prove: no record was ever stored, and nothing is wrong with the ledger."""
        return self._whole and all(one.state == NOTHING for one in self.shards)

    @property
    def _whole(self) -> bool:
        return (
            all(one.state in (PROVEN, NOTHING, EXPIRED) for one in self.shards)
            and not self.missing
            and not self.damaged
            and not self.ledger_faults
            and not self.ledger_lost
        )
