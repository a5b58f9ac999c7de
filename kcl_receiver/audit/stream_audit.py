"""What is asked of the stream about one shard, and what it answers.

Ranges alone cannot tell whether Kinesis holds a record between two of them that are neighbours in the store: a page
that KCL fails to hand over is skipped by it, and the link over it still looks whole. A record of the stream that is not
stored is one of these:

    skipped               in no range, and reading had passed it: nobody will bring it, unless it is read again
    in a gap              the same where `verify` itself names a gap
    lost                  a range holds it, and no readable block does; the stream still has it
    not stored yet        after the last that is stored, of a shard that was not read to its end
    before the beginning  before the first that is stored, and reading began at a time or at the newest record
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from kcl_receiver.kinesis.deaggregate import WHOLE, HashRange
from kcl_receiver.ranges import After, Position

LISTED = 1000
"""How many stretches, and how many ranges that differ, are kept of one shard; all are counted."""

Side = tuple[Position, int]
"""A place just before a position (0) or just after it (1), as `reader.coverage.Cut`."""


class Known(NamedTuple):
    """A range that the ledger records; whether its block is there does not matter here."""

    first: Position
    last: Position
    records: int


class Hole(NamedTuple):
    """A stretch that `verify` did not prove: strictly between two positions.

    Attributes:
        what: Its word: `gap` or `possibly trimmed`.
        after: The last position before it; None if there is none.
        through: The last position in it that KCL is known to have reached, or None.
        before: The first position after it; None if there is none.
    """

    what: str
    after: Position | None
    through: Position | None
    before: Position | None

    def holds(self, position: Position) -> bool:
        """Return whether a position lies in it. One without an end reaches to `through`."""
        if self.after is not None and position <= self.after:
            return False
        if self.before is not None:
            return position < self.before
        return self.through is not None and position <= self.through


class Kind(Enum):
    """Why a record of the stream is not stored."""

    SKIPPED = "skipped"
    IN_GAP = "in a gap"
    LOST = "lost"
    LATER = "not stored yet"
    EARLIER = "before the beginning"


@dataclass(slots=True)
class Found:
    """Neighbours in the stream that are not stored.

    Attributes:
        kind: Why.
        first: The first user record.
        last: The last.
        kinesis_records: Number of Kinesis records.
        records: Number of user records.
        arrival_first: When the first one arrived, milliseconds since the epoch; -1 if not known.
        arrival_last: The same of the last.
    """

    kind: Kind
    first: Position
    last: Position
    kinesis_records: int
    records: int
    arrival_first: int
    arrival_last: int


class Differing(NamedTuple):
    """A range of which the stream gives another number of user records than were stored."""

    first: Position
    last: Position
    stored: int
    in_stream: int


class LeftOut(NamedTuple):
    """An aggregate of which KCL does not deliver all user records.

    Attributes:
        dropped: KCL drops the whole aggregate, because a record is outside of the shard's hash range. Otherwise it
            stops at a malformed record, and delivers those before it.
        sequence: Sequence number of the aggregate.
        records: Number of user records that are not delivered.
        arrival: When it arrived, milliseconds since the epoch; -1 if not known.
    """

    dropped: bool
    sequence: int
    records: int
    arrival: int


class Settled(Enum):
    """What the stream says of a hole.

    Attributes:
        NOTHING: It reaches back before the hole, and holds nothing in it.
        RECORDS: It holds records there.
        TRIMMED: It begins after the hole's beginning, so that it cannot be asked any more.
        UNREAD: Reading did not get there.
    """

    NOTHING = "nothing lies there"
    RECORDS = "records lie there"
    TRIMMED = "can't be asked any more"
    UNREAD = "not asked"


class End(Enum):
    """Why reading of a shard ended.

    Attributes:
        SHARD_END: The shard is closed, and was read to its end.
        ENOUGH: All that is stored was passed.
        TIP: The newest record was reached.
        GONE: The stream does not have the shard any more: all of it is trimmed.
        BROKEN_OFF: Somebody stopped it.
    """

    SHARD_END = "shard end"
    ENOUGH = "past the last that is stored"
    TIP = "newest record"
    GONE = "trimmed"
    BROKEN_OFF = "broken off"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about one shard.

    Attributes:
        shard: Shard id.
        known: Its ranges, ordered by their first position.
        begins: What the first session began after; None if not known.
        begun_before: There are ranges before the first of `known` that are left out here.
        ended: The store says that the shard was read to its end.
        holes: What `verify` did not prove.
        lost: What no readable block holds, although ranges do, from side to side.
        hash_range: That of the shard.
    """

    shard: str
    known: Iterable[Known]
    begins: After | None = None
    begun_before: bool = False
    ended: bool = False
    holes: Sequence[Hole] = ()
    lost: Sequence[tuple[Side, Side]] = ()
    hash_range: HashRange = WHOLE


@dataclass(slots=True)
class Answer:
    """What the stream says about one shard.

    Attributes:
        shard: Shard id.
        end: Why reading ended.
        first: Sequence number of the first record that the stream gave; None if it gave none.
        last: The same of the last.
        kinesis_records: Records read.
        records: User records in them, as KCL delivers them.
        dropped: Aggregates of which KCL delivers nothing, because of the shard's hash range.
        dropped_records: User records in these.
        broken: Aggregates that KCL delivers only in part, because a record in them is malformed.
        broken_records: User records in these that are not delivered.
        left_out: Both kinds, the first `LISTED` of them.
        links: Pairs of neighbours that were asked about: the stream holds all from the first to the second.
        links_unasked: Pairs that can't be asked any more: the stream, or what was read of it, begins after the first.
        ranges: Ranges whose number of records was compared.
        ranges_unasked: Ranges of which the stream does not hold all any more, or of which not all was read.
        found: Stretches that are not stored, the first `LISTED` of them, without those that are LATER and EARLIER.
        totals: Of each kind, the number of user records.
        differing: Ranges of which the number of records differs, the first `LISTED` of them.
        ranges_differing: How many such ranges there are.
        holes: What the stream says of each hole.
    """

    shard: str
    end: End = End.BROKEN_OFF
    first: int | None = None
    last: int | None = None
    kinesis_records: int = 0
    records: int = 0
    dropped: int = 0
    dropped_records: int = 0
    broken: int = 0
    broken_records: int = 0
    left_out: list[LeftOut] = field(default_factory=list)
    links: int = 0
    links_unasked: int = 0
    ranges: int = 0
    ranges_unasked: int = 0
    found: list[Found] = field(default_factory=list)
    totals: dict[Kind, int] = field(default_factory=dict)
    differing: list[Differing] = field(default_factory=list)
    ranges_differing: int = 0
    holes: list[tuple[Hole, Settled]] = field(default_factory=list)

    @property
    def amiss(self) -> bool:
        """Whether the stream holds something that should be stored and is not."""
        return bool(self.ranges_differing) or any(
            self.totals.get(kind) for kind in (Kind.SKIPPED, Kind.IN_GAP, Kind.LOST)
        )

    @property
    def settles(self) -> bool:
        """Whether the stream proves what `verify` could not: it reached all holes, and nothing lies in them."""
        return not self.amiss and all(settled is Settled.NOTHING for _, settled in self.holes)
