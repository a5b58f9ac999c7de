"""What the generator knows from its ledgers: which of them are still needed, and what the next one repeats.

A start reads only the ledgers that the store's log names. A ledger is needed as long as it holds a range past the last
checkpoint of a shard, or a shard's last one; what of it is needed otherwise is short, and repeated in the first lines
of the next ledger: marks of how far shards were read, and the last measurement of the service's clock with the sessions
that used it.

Nothing here waits or tells the time: what the store holds comes as a `Takeover` and as entries that are durable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from kcl_receiver.generator.clock import ServiceClock
from kcl_receiver.generator.effects import Measurement
from kcl_receiver.generator.known import KnownMarks
from kcl_receiver.generator.range_cache import RangeCache
from kcl_receiver.generator.rollover import SETTLED_MS, oldest_in_reach
from kcl_receiver.horizon import HOUR_MS, MARGIN_MS, Late
from kcl_receiver.ids import writer_of
from kcl_receiver.ranges import SHARD_END, Forgotten, Position, StreamIdentity
from kcl_receiver.store.ledger.entries import (
    Acknowledged,
    BlockStored,
    Carried,
    Closed,
    Entry,
    Expired,
    Following,
    MarksTaken,
    SessionStarted,
    ShardEnded,
    StoreState,
    Voided,
    WriterStarted,
)

if TYPE_CHECKING:
    from kcl_receiver.store.ledger.takeover import Takeover


class Needs(NamedTuple):
    """What sessions to come need.

    Attributes:
        ledgers: The ledgers in which there is something of it.
        forgotten: What is in others than these.
        oldest: What arrived before this is not in the stream any more, milliseconds since the epoch.
    """

    ledgers: set[str]
    forgotten: dict[str, Forgotten]
    oldest: int


class CarriedOver:
    """See the module. Times are milliseconds since the epoch.

    Attributes:
        recent: Ranges from the last checkpoints on.
        marks: How far shards were read.
    """

    def __init__(self) -> None:
        self.recent = RangeCache()
        self.marks = KnownMarks()
        self._ended: dict[str, int] = {}  # when that was read
        self._clock: MarksTaken | None = None
        self._active: dict[str, int] = {}

    @classmethod
    def of(cls, taken: Takeover, stream: StreamIdentity, clock: MarksTaken | None, now: int) -> CarriedOver:
        """Return what a new writer knows.

        Args:
            taken: What the writers before have left.
            stream: The stream; what is of another one is passed over.
            clock: See `first_clock`.
            now: When `taken` was read, by the wall clock.
        """
        made = cls()
        made.recent = _recent_of(taken, stream)
        made.marks = _marks_of(taken, stream)
        made._ended = {one.shard: now for one in taken.ended if one.stream == stream}
        made._clock = clock
        return made

    def session_begins(self, shard: str) -> None:
        """KCL has begun a shard: if an earlier writer recorded its end, that was not the last of it."""
        self._ended.pop(shard, None)

    def measured(self, taken: MarksTaken) -> None:
        """The clock was measured, and marks were taken: the next ledger begins with this measurement."""
        self._clock = replace(taken, marks=(), late=(), sessions=())
        self._active = {session: at for session, at in self._active.items() if at >= taken.measured}

    def add(self, entries: Iterable[Entry], stream: StreamIdentity | None) -> None:
        """Take in entries that are durable."""
        for entry in entries:
            for session, at in _times_of(entry):
                self._active[session] = max(at, self._active.get(session, -1))
            if isinstance(entry, BlockStored):
                self.recent.add(entry.block, entry.ranges)
            if not isinstance(entry, MarksTaken) or entry.stream == stream:
                self.marks.add(entry)

    def heard(self, entries: Iterable[Entry], stream: StreamIdentity, now: int) -> None:
        """Take in what others have recorded, all up to now by the wall clock."""
        for entry in entries:
            if (
                isinstance(entry, WriterStarted | Closed | Expired | Acknowledged | Voided | Following)
                or entry.stream != stream
            ):
                continue
            if isinstance(entry, StoreState):
                self.recent.take(entry.forgotten)
            elif isinstance(entry, Carried):
                self.marks.take(entry.marks)
            elif isinstance(entry, BlockStored):
                self.recent.add(entry.block, entry.ranges)
            elif isinstance(entry, SessionStarted):
                if isinstance(entry.after, Position):
                    self.recent.forget(entry.shard, entry.after)
                self._ended.pop(entry.shard, None)
            elif isinstance(entry, ShardEnded):
                self._ended[entry.shard] = now
            else:
                self.checkpointed(entry.checkpoints)
                self.checkpointed(dict.fromkeys(entry.ended, SHARD_END))
            self.marks.add(entry)
        self.marks.settle()

    def checkpointed(self, checkpoints: Mapping[str, Position | str]) -> None:
        """Forget what ends before the last checkpoint of its shard, a position or SHARD_END."""
        for shard, checkpoint in checkpoints.items():
            if isinstance(checkpoint, Position):
                self.recent.forget(shard, checkpoint)
            else:
                self.recent.end(shard)

    def needs(self, retention_hours: int) -> Needs:
        """Return what sessions to come need.

        What a shard that ended holds is needed until it is known that KCL does not begin it again.
        """
        oldest = oldest_in_reach(self.recent.newest, retention_hours)
        blocks, forgotten = self.recent.needed(oldest)
        return Needs({writer_of(block) for block in blocks}, forgotten, oldest)

    def first_entries(self, started: WriterStarted, stream: StreamIdentity, retention_hours: int) -> list[Entry]:
        """Return the first lines of a ledger that begins now, and forget what no session can need any more.

        Args:
            started: Its first one.
            stream: The stream.
            retention_hours: Its retention.
        """
        for shard, at in list(self._ended.items()):
            if started.time - at >= SETTLED_MS:
                self.recent.end(shard)
                del self._ended[shard]
        clock = [] if self._clock is None else [self._since_measured(self._clock)]
        oldest = (started.time if self._clock is None else self._clock.time) - retention_hours * HOUR_MS
        self.recent.forget_before(oldest_in_reach(self.recent.newest, retention_hours))
        # After a pause the last measurement may be as old as the pause, and so may the host's clock.
        newest = max(started.time, self.recent.newest, -1 if self._clock is None else self._clock.time)
        marks = self.marks.carried(oldest)
        carried = Carried(stream, marks, newest)
        self._clock = None if self._clock is None else replace(self._clock, late=(), sessions=())
        return [started, *clock, carried]

    def _since_measured(self, clock: MarksTaken) -> MarksTaken:
        """Return what a new ledger begins with: whoever starts next does not read the ledgers before it."""
        if clock.late:
            return clock
        return replace(clock, sessions=tuple(sorted(one for one, at in self._active.items() if at >= clock.measured)))


def first_clock(taken: Takeover, stream: StreamIdentity, seen: Measurement, boot: str, now: int) -> MarksTaken | None:
    """Return what is measured at a start; times that the writer before had after its last measurement are raised by it.

    Args:
        taken: What the writers before have left.
        stream: The stream.
        seen: The measurement.
        boot: What tells this boot of the host from another.
        now: CLOCK_BOOTTIME, milliseconds.
    """
    clock = ServiceClock()
    clock.measured(seen, now)
    if clock.offset is None:
        return None
    time = clock.latest(now)
    new = MarksTaken(stream, time, clock.latest(seen.before), seen.retention_hours, boot, clock.offset)
    told = (BlockStored, SessionStarted, ShardEnded, MarksTaken)
    ended = [entry for entry in taken.of_this_host() if isinstance(entry, told)]
    last = max(
        (one for one in ended if isinstance(one, MarksTaken) and one.stream == stream),
        key=lambda one: one.time,
        default=None,
    )
    if last is None:
        return new
    # Of another boot nothing is known but that it was before now.
    by = new.offset - last.offset if new.boot and new.boot == last.boot else time - last.measured
    if by <= MARGIN_MS:
        return new
    said = (one for entry in ended if entry.stream == stream for one in _times_of(entry))
    sessions = {session for session, at in said if at >= last.measured}
    late = (Late(last.measured, time + 1, by),) if sessions else ()
    return replace(new, late=late, sessions=tuple(sorted(sessions)))


def _times_of(entry: Entry) -> Iterator[tuple[str, int]]:
    """Yield each session of which an entry says when something was delivered to it, and when, milliseconds."""
    if isinstance(entry, BlockStored):
        yield from ((one.session, one.delivered) for one in entry.ranges)
    elif isinstance(entry, SessionStarted | ShardEnded):
        yield entry.session, entry.time
    elif isinstance(entry, MarksTaken):
        yield from ((mark.session, entry.time) for mark in entry.marks)
        yield from ((session, entry.time) for session in entry.sessions)


def _marks_of(taken: Takeover, stream: StreamIdentity) -> KnownMarks:
    marks = KnownMarks()
    for carried in taken.carried:
        if carried.stream == stream:
            marks.take(carried.marks)
    entries: tuple[SessionStarted | BlockStored | MarksTaken, ...] = (*taken.begun, *taken.blocks, *taken.read)
    for entry in entries:
        if entry.stream == stream:
            marks.add(entry)
    marks.settle()
    return marks


def _recent_of(taken: Takeover, stream: StreamIdentity) -> RangeCache:
    recent = RangeCache()
    for entry in taken.blocks:
        if entry.stream == stream:
            recent.add(entry.block, entry.ranges)
    if taken.state.stream == stream:
        recent.take(taken.state.forgotten)
    for session in taken.begun:
        if session.stream == stream and isinstance(session.after, Position):
            recent.forget(session.shard, session.after)
    for marks in taken.read:
        for shard, checkpoint in marks.checkpoints.items() if marks.stream == stream else ():
            recent.forget(shard, checkpoint)
    return recent
