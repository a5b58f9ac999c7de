"""What the generator's state machine asks its driver to do, and the values that the driver gives back.

Every effect but `Send`, `Close`, `PossiblyTrimmed` and `Stop` is answered by one event, whether it went well or not;
the state machine never asks for the same thing twice at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from kcl_receiver.errors import ReceiverError
from kcl_receiver.horizon import Late, ShardMark, Unread
from kcl_receiver.ranges import After, Position, Range
from kcl_receiver.wire.columns import Columns
from kcl_receiver.wire.messages import Message

if TYPE_CHECKING:
    from kcl_receiver.store.ledger.entries import Seen


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message to a processor, if it is still connected."""

    connection: int
    message: Message


@dataclass(frozen=True, slots=True)
class Close:
    """Hang up once all that was sent is delivered."""

    connection: int


class Measurement(NamedTuple):
    """What the stream said of itself; times in milliseconds.

    Attributes:
        date: The service's clock, cut off to a second, since the epoch; -1 if it did not say.
        before: This host's clock (CLOCK_BOOTTIME) before it was asked.
        after: The same when the answer was there.
        retention_hours: The stream's retention period.
        opened: Of the shards that were open when shards were listed last: when that was, by the service's clock, at the
            earliest; -1 if that is not known.
        awaited: Whether others wait for a line in this ledger, and take its writer for dead if none comes.
    """

    date: int
    before: int
    after: int
    retention_hours: int
    opened: Mapping[str, int] = MappingProxyType({})
    awaited: bool = False


@dataclass(frozen=True, slots=True)
class Measure:
    """Ask the stream for its clock, its retention and its open shards. Answered by `measured` or `measure_failed`."""


@dataclass(frozen=True, slots=True)
class PossiblyTrimmed:
    """Tell people that records of a shard may have been trimmed unread after a position. It has no answer."""

    shard: str
    after: After
    unread: Unread
    retention_hours: int


@dataclass(frozen=True, slots=True)
class LookUp:
    """Find out what the stream and the ledger know of a session's shard.

    Answered by `looked_up` or `look_up_failed`.
    """

    session: str
    shard: str
    after: After


@dataclass(frozen=True, slots=True)
class ShardFacts:
    """The answer to `LookUp`.

    Attributes:
        held: First and last range positions past `after` whose blocks are present now.
        known_to: See `MoreHeld`.
        more: See `MoreHeld`.
        parents: Shard ids of the parents (two after a merge).
        hash_range: Lowest and highest hash key, as decimal strings; None if the stream no longer lists the shard.
        measured: What the stream said of its clock and its retention.
        read_until: All that had arrived by then is known not to be past `after`; -1 if nothing is known.
        begins: Where `after` is AT_TIMESTAMP, that time; -1 if not known.
        seen: What was read of other writers' ledgers; None if there is none.
    """

    held: tuple[Range, ...]
    parents: tuple[str, ...]
    hash_range: tuple[str, str] | None
    measured: Measurement
    read_until: int = -1
    begins: int = -1
    known_to: Position | None = None
    more: object = None
    seen: Seen | None = None

    @property
    def retention_hours(self) -> int:
        """The stream's retention period."""
        return self.measured.retention_hours


@dataclass(frozen=True, slots=True)
class LookFurther:
    """Find out what else of a shard is held, as delivery advances; and whether what is delivered is of this stream.

    Answered by `looked_further` or `look_further_failed`. `more` is what the last answer gave; the state machine only
    hands it back.
    """

    session: str
    shard: str
    more: object


@dataclass(frozen=True, slots=True)
class MoreHeld:
    """The answer to `LookFurther`.

    Attributes:
        held: Ranges whose blocks are present now, all of them past what was answered before.
        known_to: What begins at this position or later may be held, and is not in `held`; None if `held` has all.
        more: What to ask with for that; None if there is none.
    """

    held: tuple[Range, ...]
    known_to: Position | None
    more: object


@dataclass(frozen=True, slots=True)
class ConfirmShardEnd:
    """Ask the stream whether the shard is closed. Answered by `shard_end_confirmed` or `shard_end_failed`."""

    session: str
    shard: str


@dataclass(frozen=True, slots=True)
class BlockPart:
    """One range of a block that is being made, with its records."""

    range: Range
    columns: Columns


@dataclass(frozen=True, slots=True)
class WriteBlock:
    """Encode a block and put it into the store. Answered by `block_written` or `block_failed`.

    The same number may come again after a failure, with the same parts.
    """

    number: int
    parts: tuple[BlockPart, ...]


@dataclass(frozen=True, slots=True)
class WrittenBlock:
    """The answer to `WriteBlock`: the block is durable, its ledger entry is not.

    Attributes:
        block: The block's id.
        ranges: Its ranges, with their first rows, in the order of the rows.
        rows: Number of records.
        size: Bytes of the stored block.
    """

    block: str
    ranges: tuple[Range, ...]
    rows: int
    size: int


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """Ledger entry: a session began."""

    session: str
    shard: str
    rank: int
    after: After
    facts: ShardFacts
    time: int


@dataclass(frozen=True, slots=True)
class BlockRecord:
    """Ledger entry: a block is stored."""

    number: int
    written: WrittenBlock


@dataclass(frozen=True, slots=True)
class ShardEndRecord:
    """Ledger entry: a shard is closed, and everything up to `last` is stored."""

    session: str
    shard: str
    last: After
    time: int


@dataclass(frozen=True, slots=True)
class MarksRecord:
    """Ledger entry: how far shards were read; see `kcl_receiver.store.ledger.entries.MarksTaken`."""

    time: int
    measured: int
    retention_hours: int
    offset: int
    marks: tuple[ShardMark, ...] = ()
    late: tuple[Late, ...] = ()
    sessions: tuple[str, ...] = ()


LedgerRecord = SessionRecord | BlockRecord | ShardEndRecord | MarksRecord


@dataclass(frozen=True, slots=True)
class Append:
    """Append entries to the ledger. Answered by `appended` or `append_failed`; then the same ones may come again.

    No entries: let the next ledger begin if this one is due to give way. No block is on its way then.
    """

    records: tuple[LedgerRecord, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """Leave: all is done (None), or cannot be done."""

    error: ReceiverError | None


Effect = Send | Close | LookUp | LookFurther | ConfirmShardEnd | Measure | PossiblyTrimmed | WriteBlock | Append | Stop
