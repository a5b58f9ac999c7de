"""How far the shards of this host are read: what people are told at once, and what the ledger is to keep.

Two rules. Marks are recorded a minute before 15 of them, or 1% of the retention, are over, with a new measurement of
the service's clock; and a session's last mark is recorded when it ends. What a mark is, and what it proves, is decided
in `kcl_receiver.horizon` alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from kcl_receiver.generator.clock import ServiceClock
from kcl_receiver.generator.effects import Effect, MarksRecord, Measurement, PossiblyTrimmed, ShardFacts
from kcl_receiver.generator.session import Session
from kcl_receiver.horizon import MARGIN_MS, Horizon, Late, ShardMark, Times, interval_ms, place
from kcl_receiver.ranges import After
from kcl_receiver.wire.frames import ReceivedBatch

KEPT = 8
"""Marks of a shard: a link follows what was delivered just before, mostly."""
AGAIN_SECONDS = 30.0
"""After a measurement that failed, or that was not due yet."""


class ShardMarks:
    """See the module. `now` is the driver's clock in seconds: CLOCK_BOOTTIME."""

    def __init__(self) -> None:
        self._clock = ServiceClock()
        self._awaited = False
        self._times = Times()
        self._horizons: dict[str, Horizon] = {}
        self._seen: Measurement | None = None
        self._opened: dict[str, int] = {}
        self._active: dict[str, int] = {}
        self._next: float | None = None
        self._recorded = float("-inf")
        self._hastened = float("-inf")
        self._asking = self._again = False

    # ------------------------------------------------------------------ the service's clock

    def began(self, seen: Measurement, now: float) -> None:
        """The generator begins, with what it has measured: who is awaited measures also before the first session."""
        if seen.awaited:
            self._awaited = True
            self.saw(seen, now)

    def due(self) -> float | None:
        """When the stream is to be asked next; None while it is being asked, or before anything was measured."""
        return None if self._asking else self._next

    @property
    def awaited(self) -> bool:
        """See `Measurement`: what was measured last says so."""
        return self._awaited

    def asks(self, now: float) -> bool:
        """Return whether the stream is to be asked now; then `measured` or `failed` follows."""
        due = self.due()
        if due is None or now < due:
            return False
        self._asking, self._again = True, False
        return True

    def measured(self, seen: Measurement, sessions: Iterable[Session], now: float) -> MarksRecord | None:
        """The stream has answered: return what is to be recorded of all sessions."""
        self._asking, self._awaited = False, seen.awaited
        record = self.saw(seen, now)
        self._next = now if self._again else now + _until_next(seen)
        marks = self.take(sessions, now)
        if record is None and marks is None and seen.awaited:
            return self._record(now, (), (), ())
        if record is None or marks is None:
            return record or marks
        return self._record(now, marks.marks, record.late, record.sessions)

    def failed(self, sessions: Iterable[Session], now: float) -> MarksRecord | None:
        """The stream has not answered: return what is to be recorded all the same of all sessions."""
        self._asking = False
        self._next = now + AGAIN_SECONDS
        marks = self.take(sessions, now)
        is_due = self._awaited and self._seen is not None and now >= self._recorded + _until_next(self._seen)
        return self._record(now, (), (), ()) if marks is None and is_due else marks

    def saw(self, seen: Measurement, now: float) -> MarksRecord | None:
        """Take in what the stream says of itself; return what is to be recorded of times that were too early."""
        late = tuple(self._clock.measured(seen, _millis(now)))
        self._seen = seen
        self._times.retention.see(self.time(now), seen.retention_hours)
        for shard, at in seen.opened.items():
            self._opened[shard] = max(self._opened.get(shard, -1), at)
        if self._next is None:
            self._next = now + _until_next(seen)
        sessions = tuple(sorted(self._active))
        # Of what was said since the question was asked the answer knows nothing.
        self._active = {session: at for session, at in self._active.items() if at >= seen.before}
        return self._record(now, (), late, sessions) if late and sessions else None

    def time(self, now: float) -> int:
        """Return the service's clock at the latest, milliseconds since the epoch; -1 if it is not known."""
        return self._clock.latest(_millis(now))

    def said(self, session: Session, now: float) -> int:
        """Return the same, for what is recorded of a session with this time: it is raised if the clock was late."""
        self._active[session.id] = _millis(now)
        return self.time(now)

    # ------------------------------------------------------------------ what is read

    def begun(self, session: Session, facts: ShardFacts, now: float) -> list[Effect]:
        """A session was looked up: take in what is known of its beginning, and tell if it may come too late."""
        if facts.read_until >= 0:
            self._of(session.shard).mark(place(session.after), facts.read_until)
        return self._judge(session, session.after, self.time(now))

    def delivered(self, session: Session, batch: ReceivedBatch) -> tuple[int, list[Effect]]:
        """A batch is admitted: return when it was delivered at the latest, and what to tell."""
        message = batch.message
        known = self._clock.latest(message.at)
        at = self._clock.latest(message.at, message.arrival_last)
        if known >= 0 and at - known > MARGIN_MS:
            self._hasten(message.at / 1000)
        effects = self._judge(session, batch.after, at)
        self._of(session.shard).arrived(batch.last, message.arrival_last)
        self._active[session.id] = message.at
        return at, effects

    def _hasten(self, now: float) -> None:
        """Ask the stream at once: a record is later than the clock, which stood still, and for longer than it shows."""
        if self._next is not None and now - self._hastened >= AGAIN_SECONDS:
            self._next, self._hastened = min(self._next, now), now
            self._again = self._asking  # the answer that is waited for may be older than what the record shows

    def reading(self, session: Session, through: After, noted: int, behind: int, now: float) -> list[Effect]:
        """A processor says through where it has read, and that it read the last of it after a time that it noted.

        Args:
            session: Its session.
            through: The last position that the daemon delivered, or where reading began.
            noted: Milliseconds of CLOCK_BOOTTIME.
            behind: How far behind it was then, in milliseconds.
            now: See the class.
        """
        read = self._clock.earliest(noted)
        if read < 0:
            return []
        until, at = read - behind - MARGIN_MS, self.time(now)
        session.reading = (through, until)
        effects = self._judge(session, through, at)
        if not effects:
            horizon = self._of(session.shard)
            if horizon.is_good(place(through), at):
                horizon.mark(place(through), until)
        return effects

    def stored(self, session: Session, arrival: int) -> None:
        """A range is recorded: it is as good a mark as any, up to the arrival of its last record."""
        session.marked = max(session.marked, arrival - MARGIN_MS)

    def take(
        self, sessions: Iterable[Session], now: float, *, ended: bool = False, late: bool = False
    ) -> MarksRecord | None:
        """Return what is to be recorded of some sessions, None if there is nothing new.

        Args:
            sessions: The sessions.
            now: See the class.
            ended: The shard was read to its end: its children begin where it was last known to be open.
            late: What was read last came too late: it is no mark that counts, and to be known for just that.
        """
        found = (self._mark_of(session, now, ended=ended, late=late) for session in sessions)
        marks = [mark for mark in found if mark is not None]
        return self._record(now, tuple(marks), (), ()) if marks else None

    def _mark_of(self, session: Session, now: float, *, ended: bool, late: bool) -> ShardMark | None:
        position, until = session.reading or (session.delivered or session.after, -1)
        opened = self._opened.get(session.shard, -1)
        if until <= session.marked and not late:
            until = -1
        # The arrival of the last record says as much, while records come.
        least = 0 if ended or self._seen is None else interval_ms(self._seen.retention_hours)
        if opened <= max(session.opened, session.marked + MARGIN_MS) + least:
            opened = -1
        if until < 0 and opened < 0:
            return None
        session.marked = max(session.marked, until)
        session.opened = max(session.opened, opened)
        self._active[session.id] = _millis(now)
        return ShardMark(session.shard, session.id, position, until, opened)

    def _record(
        self, now: float, marks: tuple[ShardMark, ...], late: tuple[Late, ...], sessions: tuple[str, ...]
    ) -> MarksRecord | None:
        seen = self._seen
        if seen is None or self._clock.offset is None:
            return None
        since, offset = self._clock.unsure()
        self._recorded = now
        return MarksRecord(self.time(now), since + offset, seen.retention_hours, offset, marks, late, sessions)

    def _judge(self, session: Session, after: After, at: int) -> list[Effect]:
        """Tell of a link that is not good, once."""
        horizon = self._of(session.shard)
        if at < 0 or horizon.is_good(place(after), at) or (session.unread is not None and session.unread[0] == after):
            return []
        unread = horizon.unread(place(after), at)
        session.unread = (after, unread)
        session.unread_links += 1
        hours = 0 if self._seen is None else self._seen.retention_hours
        return [PossiblyTrimmed(session.shard, after, unread, hours)]

    def _of(self, shard: str) -> Horizon:
        found = self._horizons.get(shard)
        if found is None:
            found = self._horizons[shard] = Horizon(self._times, KEPT)
        return found


def _until_next(seen: Measurement) -> float:
    """Return after how many seconds to ask again: so long before a mark is too old that the answer has time to come."""
    return max(AGAIN_SECONDS, (interval_ms(seen.retention_hours) - MARGIN_MS) / 1000)


def _millis(now: float) -> int:
    return int(now * 1000)
