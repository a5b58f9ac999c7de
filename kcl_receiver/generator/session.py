"""One processor's hold on one shard, as the generator sees it.

WAITING ──► LOOKING ──► RECORDING ──► OPEN ──► CLOSED
   │           │            │          │          ▲
   │           └─► ON HOLD  │          │          │
   └───────────┴─────┴──────┴──────────┴──────────┘   fenced by a younger session, or the lease was lost

WAITING    blocks with batches of an older session of the shard are being stored: only then is known what is held; or
           its processor is away
LOOKING    stream and ledger are being asked about the shard
RECORDING  the session's start is being written to the ledger
OPEN       batches are taken
ON HOLD    its lease asks for what cannot be read: its processor keeps still, and nothing is taken
CLOSED     nothing is taken any more; kept until its last block is stored
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace

from kcl_receiver.errors import ProtocolError, ReceiverError
from kcl_receiver.generator.effects import BlockPart, MoreHeld, ShardFacts
from kcl_receiver.generator.stored_spans import StoredSpans
from kcl_receiver.generator.tracker import Tracker
from kcl_receiver.horizon import Unread
from kcl_receiver.ranges import SHARD_END, After, Position, Range, parse_after
from kcl_receiver.wire.columns import Columns, checksum
from kcl_receiver.wire.frames import ReceivedBatch
from kcl_receiver.wire.messages import Hello


class State(enum.Enum):
    """See the module's docstring."""

    WAITING = "waiting"
    LOOKING = "looking"
    RECORDING = "recording"
    OPEN = "open"
    ON_HOLD = "on hold"
    CLOSED = "closed"


@dataclass(slots=True)
class Session:
    """State of one session.

    Attributes:
        hello: What the processor said first.
        after: Where its reading began.
        connection: Number of its connection, None while it is away.
        tracker: Its batches.
        delivered: Last position received in this generator, None before the first batch.
        pending: A batch that waits for its place in the window; never more than one.
        in_flight: Number of its parts in blocks that were cut and are not stored.
        reported: Number of the batch through which it was last told to be stored.
        problem: Why it is on hold, None if it is not.
        known_to: What begins at this position or later may be held as well; None if `held` has all.
        more: What to ask with for that.
        looking_further: That is being asked.
        spoke: When its processor last said anything.
        behind: millisBehindLatest, -1 if not known, and when that was said.
        reading: What its last reading says: all that had arrived by a time is not past a position; see `marks`.
        marked: The latest time that is recorded so.
        opened: When the stream said that the shard was open, as recorded last.
        unread: The last position after which something may have been trimmed unread, and what.
        unread_links: Number of such positions.
    """

    hello: Hello
    after: After
    connection: int | None
    tracker: Tracker
    state: State = State.WAITING
    facts: ShardFacts | None = None
    held: StoredSpans = field(default_factory=StoredSpans)
    delivered: Position | None = None
    pending: ReceivedBatch | None = None
    in_flight: int = 0
    reported: int = 0
    shard_end: After | None = None
    shard_end_recorded: bool = False
    spoke: float = 0.0
    shard_end_taken: bool = False
    behind: int = -1
    behind_at: float | None = None
    checkpoint: Position | None = None
    records: int = 0
    reading: tuple[After, int] | None = None
    marked: int = -1
    opened: int = -1
    unread: tuple[After, Unread] | None = None
    unread_links: int = 0
    problem: ReceiverError | None = None
    known_to: Position | None = None
    more: object = None
    looking_further: bool = False

    @property
    def id(self) -> str:
        """The session's id."""
        return self.hello.session

    @property
    def shard(self) -> str:
        """The shard's id."""
        return self.hello.shard

    @property
    def last_checkpoint(self) -> Position | str | None:
        """The last checkpoint that KCL is known to have taken: a position, or SHARD_END."""
        return SHARD_END if self.shard_end_taken else self.checkpoint

    @property
    def seniority(self) -> tuple[int, str]:
        """Younger sessions compare greater."""
        return (self.hello.rank, self.hello.session)

    def lose_connection(self) -> None:
        """Its connection is gone, and with it a batch that waited: it will be sent again."""
        self.connection = None
        self.pending = None

    def heard(self, now: float) -> None:
        """Its processor said something."""
        self.spoke = now

    def lags(self, behind: int, now: float) -> None:
        """Note millisBehindLatest and when it was said: it says nothing about later."""
        self.spoke = now
        self.behind = behind
        self.behind_at = None if behind < 0 else now

    def begin(self, facts: ShardFacts) -> ShardFacts:
        """Stream and ledger have answered. What is held is kept in `held` alone; return the rest."""
        self.problem = None
        self.facts = replace(facts, held=(), more=None)
        self.held = StoredSpans()
        self.look_on(facts)
        return self.facts

    def look_on(self, answer: ShardFacts | MoreHeld) -> None:
        """Take in what is held."""
        self.held.add((one.first, one.last) for one in answer.held)
        self.known_to, self.more = answer.known_to, answer.more
        self.looking_further = False

    def knows(self, batch: ReceivedBatch) -> bool:
        """Return whether it is known what of a batch is held."""
        return self.known_to is None or batch.last < self.known_to

    def check_next(self, batch: ReceivedBatch) -> None:
        """Check that a batch follows what this session delivered before.

        Raises:
            ProtocolError: It does not.
        """
        number = batch.message.number
        if self.pending is not None:
            raise ProtocolError(f"{self.shard}: batch {number} came while another one waits")
        if self.shard_end is not None:
            raise ProtocolError(f"{self.shard}: batch {number} came after the shard's end")
        expected = self.tracker.next_number
        if number != expected:
            raise ProtocolError(f"{self.shard}: batch {number} came, {expected} is next")
        before = self.after if number == 1 else self.delivered
        if before is not None and batch.after != before:
            raise ProtocolError(
                f"{self.shard}: batch {number} says that it follows {batch.after}, {before} was before it"
            )
        if self.delivered is None and isinstance(self.after, Position) and batch.first <= self.after:
            raise ProtocolError(f"{self.shard}: batch {number} begins at {batch.first}, reading after {self.after}")

    def check_end(self, last: str) -> After:
        """Return where the shard ends.

        Raises:
            ProtocolError: Not everything is stored, or delivery ended elsewhere.
        """
        if self.tracker.stored_through != self.tracker.next_number - 1 or self.pending is not None:
            raise ProtocolError(f"{self.shard}: shard end is asked for before everything is stored")
        try:
            end = parse_after(last)
        except ValueError as error:
            raise ProtocolError(f"{self.shard}: {error}") from error
        if self.delivered is not None and end != self.delivered:
            raise ProtocolError(f"{self.shard} ends at {end}, {self.delivered} was delivered last")
        return end

    def parts(self, batch: ReceivedBatch, delivered: int) -> list[BlockPart]:
        """Return what of a batch is not held yet, as ranges with their records; mostly that is all of it.

        Args:
            batch: The batch.
            delivered: See `Range.delivered`.

        Raises:
            ProtocolError: A batch that is held in part is damaged: its parts must not get checksums that hide it.
        """
        if isinstance(batch.after, Position):
            self.held.forget_through(batch.after)
        columns = batch.columns
        if not self.held.touches(batch.first, batch.last):
            one = self._range(batch, columns, batch.after, batch.whole, batch.message.checksum, delivered)
            return [BlockPart(one, columns)]
        try:
            if checksum(columns) != batch.message.checksum:
                raise ProtocolError(f"{self.shard}: batch {batch.message.number} does not fit its checksum")
            return self._missing_parts(batch, columns, delivered)
        except (OverflowError, ValueError) as error:
            raise ProtocolError(f"{self.shard}: batch {batch.message.number} is malformed: {error}") from error

    def _missing_parts(self, batch: ReceivedBatch, columns: Columns, delivered: int) -> list[BlockPart]:
        out: list[BlockPart] = []
        for start, stop in self.held.missing(columns.count, columns.position):
            after = batch.after if start == 0 else columns.position(start - 1)
            part = columns.slice(start, stop)
            whole = batch.whole if stop == columns.count else columns.last_whole(start, stop)
            if whole is not None and whole < part.position(0):
                whole = None
            out.append(BlockPart(self._range(batch, part, after, whole, checksum(part), delivered), part))
        return out

    def _range(
        self,
        batch: ReceivedBatch,
        columns: Columns,
        after: After,
        whole: Position | None,
        digest: str,
        delivered: int,
    ) -> Range:
        entire = columns is batch.columns
        return Range(
            shard=self.shard,
            session=self.id,
            after=after,
            first=batch.first if entire else columns.position(0),
            last=batch.last if entire else columns.position(columns.count - 1),
            whole=whole,
            count=columns.count,
            size=columns.size,
            arrival_first=batch.message.arrival_first if entire else columns.arrival_of(0),
            arrival_last=batch.message.arrival_last if entire else columns.arrival_of(columns.count - 1),
            checksum=digest,
            delivered=delivered,
        )
