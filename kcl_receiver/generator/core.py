"""The generator without I/O: every decision of what is admitted, cut, stored and reported.

Events come in as method calls with the time; effects go out as a list (see `effects`). Two rules hold throughout:

1. `Stored` is sent for a batch only after its block and its block's ledger entry are durable, and every batch before
   it in its session is stored as well.
2. What was admitted and cut is stored, whatever becomes of its session; what was admitted and not cut is dropped when
   its session loses its lease or is fenced, because nobody will checkpoint it.

Theory of operation. A batch passes through these hands:

    pending (its session's one place to wait) → builder → in flight (being written) → ledger queue → stored
    └──────── here ────────┘                    └─────────────────── pipeline ───────────────────┘

The window of a shard counts from the builder on. Blocks are cut by time, by size or on a flush, but no more than
`max_in_flight` are on their way: when the store is slow the builder fills, then batches stay pending, then processors
wait, and KCL stands still. Who may speak for a shard is decided by the `session_registry`; what a session may say, and
what of its batches is stored already, by the `session`. Every event changes the state and then calls `_settle`, which
does all that the new state allows: so nothing depends on which event came last.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable

from kcl_receiver.errors import LeaseRefused, ProtocolError, ReceiverError, StoreError, StreamGone, StreamReplaced
from kcl_receiver.generator.builder import AdmittedPart
from kcl_receiver.generator.effects import (
    BlockRecord,
    ConfirmShardEnd,
    Effect,
    LedgerRecord,
    LookFurther,
    LookUp,
    MarksRecord,
    Measure,
    Measurement,
    MoreHeld,
    Send,
    SessionRecord,
    ShardEndRecord,
    ShardFacts,
    Stop,
    WrittenBlock,
)
from kcl_receiver.generator.marks import ShardMarks
from kcl_receiver.generator.pipeline import Pipeline
from kcl_receiver.generator.retries import Retries
from kcl_receiver.generator.session import Session, State
from kcl_receiver.generator.session_registry import SessionRegistry, clipped
from kcl_receiver.generator.settings import GeneratorSettings
from kcl_receiver.generator.status import status
from kcl_receiver.ranges import SHARD_END, Position, parse_after, parse_position
from kcl_receiver.status.report import CoreState
from kcl_receiver.wire.frames import ReceivedBatch
from kcl_receiver.wire.messages import Admitted, Draining, Hello, Hold, Message, Progress, ShardEndConfirmed, Stored


class GeneratorCore:
    """The state machine; see the module's docstring.

    Args:
        settings: Limits and intervals.
        now: The driver's clock in seconds; CLOCK_BOOTTIME, because ranks are compared with it.
        rng: Source of jitter.
    """

    def __init__(self, settings: GeneratorSettings, now: float, rng: random.Random) -> None:
        self._settings = settings
        self._writer = ""
        self._roster = SessionRegistry(settings.application)
        self._pending: deque[Session] = deque()
        self._pipeline = Pipeline(settings)
        self._retries = Retries(settings.store_timeout, rng)
        self._marks = ShardMarks()
        self._skipped = 0
        self._idle_since: float | None = now
        self._drain_since: float | None = None
        self._lost: StreamGone | StreamReplaced | None = None
        self._stopped = False

    def began(self, writer: str, seen: Measurement, now: float) -> list[Effect]:
        """Store, ledger and stream are ready.

        Args:
            writer: Id of the first ledger's writer, by which this generator is known.
            seen: What the stream says of itself.
            now: See the class.
        """
        self._writer = writer
        self._marks.began(seen, now)
        return self._settle(now)

    # ------------------------------------------------------------------ connections

    def connected(self, connection: int, pid: int, now: float) -> list[Effect]:
        """A process of this user connected; `pid` is what the kernel says of it."""
        self._roster.connected(connection, pid, now)
        return []

    def disconnected(self, connection: int, now: float) -> list[Effect]:
        """The connection is gone. Its session stays: what was admitted is stored, and the processor may return."""
        session = self._roster.session_on(connection)
        self._roster.disconnected(connection)
        if session is not None:
            self._record_marks([session], now)  # it may never come back
        return self._settle(now)

    def failed(self, connection: int, error: ReceiverError, now: float) -> list[Effect]:
        """What came over the connection can't be used: say why and hang up."""
        return [*self._roster.refuse(connection, error), *self._settle(now)]

    def watched(self, connection: int) -> None:
        """The connection asks for the status; it need not say Hello."""
        self._roster.watched(connection)

    def hello(self, connection: int, hello: Hello, now: float) -> list[Effect]:
        """A processor opens its session, or resumes it."""
        try:
            session = self._roster.admit(connection, hello, now)
        except ReceiverError as error:
            return self.failed(connection, error, now)
        session.heard(now)
        effects, older = self._roster.join(connection, session)
        if older is not None:
            self._close_session(older, now)
        if session.state is State.OPEN:
            effects += self._welcome(session)
        if session.state is State.ON_HOLD:
            session.state = State.WAITING  # it came back: what was wrong may have been put right meanwhile
        return [*effects, *self._settle(now)]

    def leave(self, connection: int, now: float) -> list[Effect]:
        """The lease is lost: drop what is not cut."""
        session = self._roster.session_on(connection)
        if session is None:
            return self.failed(connection, ProtocolError("a session was left before it was opened"), now)
        effects = self._roster.hang_up(connection)
        self._close_session(session, now)
        return [*effects, *self._settle(now)]

    def _close_session(self, session: Session, now: float) -> None:
        self._record_marks([session], now)
        session.state = State.CLOSED
        self._pipeline.drop(session)
        for work in (_looking_up, _looking_further, _confirming):
            self._retries.mended(work(session))

    def _saw(self, seen: Measurement, now: float) -> None:
        """Let the ledger know if times were too early."""
        self._record(self._marks.saw(seen, now))

    def _record_marks(
        self, sessions: Iterable[Session], now: float, *, ended: bool = False, late: bool = False
    ) -> None:
        """Let the ledger know how far sessions have read; nothing is done for those of which there is no news."""
        is_open = [one for one in sessions if one.state is State.OPEN]
        self._record(self._marks.take(is_open, now, ended=ended, late=late))

    def _record(self, marks: MarksRecord | None) -> None:
        if marks is not None:
            self._pipeline.record(marks)

    def _welcome(self, session: Session) -> list[Effect]:
        session.reported = session.tracker.stored_through
        effects = self._send(session, self._settings.welcome(self._writer, session.tracker.next_number))
        effects += self._send(session, Stored(session.reported))
        if self._drain_since is not None:
            effects += self._send(session, Draining())
        if session.shard_end_recorded:
            effects += self._send(session, ShardEndConfirmed())
        return effects

    def _send(self, session: Session, message: Message) -> list[Effect]:
        return [] if session.connection is None else [Send(session.connection, message)]

    # ------------------------------------------------------------------ messages of an open session

    def batch(self, connection: int, batch: ReceivedBatch, now: float) -> list[Effect]:
        """A batch came; it is answered by Admitted once it has its place, or by Draining."""
        try:
            session = self._roster.open_session_on(connection)
            if batch.message.number < session.tracker.next_number:
                return [*self._send(session, Admitted(batch.message.number)), *self._settle(now)]
            session.check_next(batch)
            if batch.message.at > now * 1000:
                raise ProtocolError(f"{session.shard}: batch {batch.message.number} was delivered in the future")
        except ReceiverError as error:
            return self.failed(connection, error, now)
        session.lags(batch.message.behind, now)
        if self._drain_since is not None:
            return [*self._send(session, Draining()), *self._settle(now)]
        session.pending = batch
        self._pending.append(session)
        return self._settle(now)

    def flush(self, connection: int, now: float) -> list[Effect]:
        """The session waits for what it sent: cut now."""
        try:
            session = self._roster.open_session_on(connection)
        except ReceiverError as error:
            return self.failed(connection, error, now)
        session.heard(now)
        self._pipeline.flush(session)
        return self._settle(now)

    def progress(self, connection: int, said: Progress, now: float) -> list[Effect]:
        """How far the processor is: for `status`, for what need not be kept in memory, and for the ledger's marks."""
        session = self._roster.session_on(connection)
        if session is None:
            return []
        if said.checkpoint == SHARD_END and session.shard_end_recorded:
            session.shard_end_taken = True
            return []
        try:
            session.checkpoint = None if said.checkpoint is None else parse_position(said.checkpoint)
            through = None if said.through is None else parse_after(said.through)
        except ValueError as error:
            return self._roster.refuse(connection, ProtocolError(f"{session.shard}: {error}"))
        session.lags(said.behind, now)
        if through is None or session.state is not State.OPEN or said.behind < 0 or said.noted > now * 1000:
            return []
        told = self._marks.reading(session, through, said.noted, said.behind, now)
        if told:
            self._record_marks([session], now, late=True)  # as long as nothing comes, nothing else says so
        return [*told, *self._settle(now)]

    def shard_end(self, connection: int, last: str, now: float) -> list[Effect]:
        """All of the shard is stored, says its processor: ask the stream, then write it down."""
        try:
            session = self._roster.open_session_on(connection)
            session.heard(now)
            end = session.check_end(last)
        except ReceiverError as error:
            return self.failed(connection, error, now)
        if session.shard_end is not None:
            # It asks again because it came back: the stream is asked already, or has answered.
            confirmed = self._send(session, ShardEndConfirmed()) if session.shard_end_recorded else []
            return [*confirmed, *self._settle(now)]
        session.shard_end = end
        return [ConfirmShardEnd(session.id, session.shard), *self._settle(now)]

    # ------------------------------------------------------------------ answers of the driver

    def looked_up(self, session_id: str, facts: ShardFacts, now: float) -> list[Effect]:
        """Stream and ledger were asked about the session's shard."""
        session = self._roster.sessions.get(session_id)
        if session is not None and session.state is State.LOOKING:
            self._retries.mended(_looking_up(session))
            kept = session.begin(facts)
            session.state = State.RECORDING
            self._saw(facts.measured, now)
            rank, time = session.hello.rank, self._marks.said(session, now)
            self._pipeline.record(SessionRecord(session.id, session.shard, rank, session.after, kept, time))
            return [*self._marks.begun(session, facts, now), *self._settle(now)]
        return self._settle(now)

    def look_up_failed(self, session_id: str, error: ReceiverError, now: float) -> list[Effect]:
        """Asking failed; what does not mend is told to the processor.

        What is wrong with one lease, or with what the ledger says of it, holds that shard alone: the others are read.
        """
        session = self._roster.sessions.get(session_id)
        if session is None or session.state is not State.LOOKING:
            return self._settle(now)
        work = _looking_up(session)
        if self._retries.failed(work, error, lambda: [LookUp(session.id, session.shard, session.after)], now):
            return self._settle(now)
        self._retries.mended(work)
        if isinstance(error, LeaseRefused | StoreError) and not error.mends:
            session.state = State.ON_HOLD
            session.problem = error
            hold = Hold(type(error).__name__, clipped(error.message), clipped(error.hint))
            effects = self._send(session, hold)
            if self._drain_since is not None:
                effects += self._send(session, Draining())
            return [*effects, *self._settle(now)]
        # It stays known, so that an older one is still refused; and it may come back.
        session.state = State.WAITING
        return [*self._turn_away(session, error, now), *self._settle(now)]

    def looked_further(self, session_id: str, answer: MoreHeld, now: float) -> list[Effect]:
        """The ledger was asked what else of the session's shard is held."""
        session = self._roster.sessions.get(session_id)
        if session is not None and session.state is State.OPEN:
            self._retries.mended(_looking_further(session))
            session.look_on(answer)
        return self._settle(now)

    def look_further_failed(self, session_id: str, error: ReceiverError, now: float) -> list[Effect]:
        """The ledger did not answer."""
        session = self._roster.sessions.get(session_id)
        if session is None or session.state is not State.OPEN:
            return self._settle(now)
        work = _looking_further(session)
        if self._retries.failed(work, error, lambda: [LookFurther(session.id, session.shard, session.more)], now):
            return self._settle(now)
        self._retries.mended(work)
        session.looking_further = False
        return [*self._turn_away(session, error, now), *self._settle(now)]

    def shard_end_confirmed(self, session_id: str, seen: Measurement, now: float) -> list[Effect]:
        """The stream says that the shard is closed, and what its clock shows: nothing else of the shard will."""
        session = self._roster.sessions.get(session_id)
        if session is not None and session.state is State.OPEN and session.shard_end is not None:
            self._retries.mended(_confirming(session))
            self._saw(seen, now)
            self._record_marks([session], now, ended=True)
            end = ShardEndRecord(session.id, session.shard, session.shard_end, self._marks.said(session, now))
            self._pipeline.record(end)
        return self._settle(now)

    def shard_end_failed(self, session_id: str, error: ReceiverError, now: float) -> list[Effect]:
        """The stream did not answer, or says otherwise."""
        session = self._roster.sessions.get(session_id)
        if session is None or session.state is not State.OPEN:
            return self._settle(now)
        work = _confirming(session)
        if self._retries.failed(work, error, lambda: [ConfirmShardEnd(session.id, session.shard)], now):
            return self._settle(now)
        self._retries.mended(work)
        session.shard_end = None
        return [*self._turn_away(session, error, now), *self._settle(now)]

    def _turn_away(self, session: Session, error: ReceiverError, now: float) -> list[Effect]:
        effects = [] if session.connection is None else self._roster.refuse(session.connection, error)
        if isinstance(error, StreamGone | StreamReplaced) and self._lost is None:
            # What is lost for one shard is lost for all, and no new start can mend it: store what was read, and say so.
            self._lost = error
            effects += self.drain(now)
        return effects

    def measured(self, seen: Measurement, now: float) -> list[Effect]:
        """The stream told its clock and its retention: write down how far the shards are read."""
        self._record(self._marks.measured(seen, self._open_sessions(), now))
        return self._settle(now)

    def measure_failed(self, now: float) -> list[Effect]:
        """The stream did not answer: it is asked again, and how far the shards are read is written down anyway."""
        self._record(self._marks.failed(self._open_sessions(), now))
        return self._settle(now)

    def _open_sessions(self) -> list[Session]:
        return [session for session in self._roster.current.values() if session.state is State.OPEN]

    def block_written(self, number: int, written: WrittenBlock, now: float) -> list[Effect]:
        """The block is durable; its ledger entry comes next, and only then is anything reported."""
        self._retries.mended(_writing(number))
        self._pipeline.record(BlockRecord(number, written))
        return self._settle(now)

    def block_failed(self, number: int, error: ReceiverError, now: float) -> list[Effect]:
        """The block may or may not be there: the same write is tried again."""
        if self._retries.failed(_writing(number), error, lambda: self._pipeline.write_again(number), now):
            return self._settle(now)
        return self._stop(error)

    def appended(self, now: float, *, ledger_is_due: bool) -> list[Effect]:
        """The entries asked for last are durable, and the next ledger is to begin or not; see `Append`."""
        self._retries.mended(_APPENDING)
        effects: list[Effect] = []
        for record in self._pipeline.appended(ledger_is_due=ledger_is_due):
            effects += self._recorded(record)
        return [*effects, *self._settle(now)]

    def append_failed(self, error: ReceiverError, now: float) -> list[Effect]:
        """The entries may or may not be there: the same append is tried again before any other."""
        if self._retries.failed(_APPENDING, error, self._pipeline.append_again, now):
            return self._settle(now)
        return self._stop(error)

    def _recorded(self, record: LedgerRecord) -> list[Effect]:
        if isinstance(record, BlockRecord):
            return self._block_stored(record)
        if isinstance(record, MarksRecord):
            return []
        session = self._roster.sessions.get(record.session)
        if session is None or session.state is State.CLOSED:
            return []
        if isinstance(record, SessionRecord):
            session.state = State.OPEN
            return self._welcome(session)
        session.shard_end_recorded = True
        return self._send(session, ShardEndConfirmed())

    def _block_stored(self, record: BlockRecord) -> list[Effect]:
        touched: dict[str, Session] = {}
        for part in self._pipeline.stored(record):
            part.session.tracker.stored(part.number)
            self._marks.stored(part.session, part.part.range.arrival_last)
            part.session.records += part.part.range.count
            touched[part.session.id] = part.session
        return [effect for session in touched.values() for effect in self._report(session)]

    def _report(self, session: Session) -> list[Effect]:
        through = session.tracker.stored_through
        if through <= session.reported:
            return []
        session.reported = through
        return self._send(session, Stored(through))

    # ------------------------------------------------------------------ time

    def drain(self, now: float) -> list[Effect]:
        """Stop in good order: admit nothing more, store what was admitted, wait for the processors, leave."""
        if self._drain_since is not None:
            return []
        self._drain_since = now
        self._pipeline.flush()
        self._record_marks(self._roster.sessions.values(), now)
        effects: list[Effect] = []
        for session in self._roster.sessions.values():
            session.pending = None
            if session.state in (State.OPEN, State.ON_HOLD):
                effects += self._send(session, Draining())
        return [*effects, *self._settle(now)]

    def tick(self, now: float) -> list[Effect]:
        """Do what is due; to be called at `deadline`, and harmless at any other time."""
        if self._stopped:
            return []
        return [*self._retries.due(now), *self._roster.hang_up_silent(now), *self._settle(now)]

    def deadline(self) -> float | None:
        """When `tick` is next needed, in the driver's seconds; None if nothing is due at any time."""
        if self._stopped:
            return None
        times = (
            self._retries.deadline(),
            self._pipeline.due(),
            self._roster.hello_due(),
            self._idle_exit_at(),
            self._drained_at(),
            self._measure_at(),
        )
        return min((time for time in times if time is not None), default=None)

    def _measure_at(self) -> float | None:
        """When the stream is asked for its clock next: while sessions are open or others wait, and before the end."""
        due = self._marks.due()
        wanted = self._roster.serving or self._marks.awaited
        return due if due is not None and self._drain_since is None and wanted else None

    def _idle_exit_at(self) -> float | None:
        idle_exit = self._settings.idle_exit
        if idle_exit is None or self._idle_since is None or self._roster.processors:
            return None
        return self._idle_since + idle_exit

    def _drained_at(self) -> float | None:
        if self._drain_since is None or not self._pipeline.empty:
            return None
        return self._drain_since + (0.0 if self._lost else self._settings.drain)

    # ------------------------------------------------------------------ the engine

    def _settle(self, now: float) -> list[Effect]:
        """Do everything that the present state allows; every event ends here."""
        if self._stopped:
            return []
        effects: list[Effect] = []
        self._roster.forget_closed()
        for session in self._roster.to_look_up():
            session.state = State.LOOKING
            effects.append(LookUp(session.id, session.shard, session.after))
        effects += self._admit_pending(now)
        effects += self._pipeline.cut_if_due(now)
        effects += self._pipeline.append_if_due()
        if self._measure_at() is not None and self._marks.asks(now):
            effects.append(Measure())
        return [*effects, *self._leave_if_done(now)]

    def _admit_pending(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        waiting, self._pending = self._pending, deque()
        for session in waiting:
            batch = session.pending
            if batch is None:
                continue
            if not session.knows(batch):
                if not session.looking_further:
                    session.looking_further = True
                    effects.append(LookFurther(session.id, session.shard, session.more))
                self._pending.append(session)
                continue
            size = batch.columns.memory
            taken = session.tracker.unstored_bytes
            fits = not taken or taken + size <= self._settings.window_bytes
            if not fits:
                # What fills the window can only leave it by being stored: more time in the block would only cost time.
                self._pipeline.flush(session)
            room, cut = self._pipeline.make_room(size, now) if fits else (False, [])
            effects += cut
            if room:
                session.pending = None
                effects += self._admit(session, batch, now)
                self._pipeline.flush_half(session)
            else:
                self._pending.append(session)
        return effects

    def _admit(self, session: Session, batch: ReceivedBatch, now: float) -> list[Effect]:
        delivered, told = self._marks.delivered(session, batch)
        try:
            parts = session.parts(batch, delivered)
        except ReceiverError as error:
            return self._turn_away(session, error, now)
        number = batch.message.number
        session.delivered = batch.last
        session.tracker.admit(number, batch.last, batch.columns.memory, len(parts))
        self._skipped += batch.columns.count - sum(part.range.count for part in parts)
        for part in parts:
            self._pipeline.add(AdmittedPart(session, number, part), now)
        return [*told, *self._send(session, Admitted(number)), *self._report(session)]

    def _leave_if_done(self, now: float) -> list[Effect]:
        if self._roster.serving or not self._pipeline.empty:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        drained_at = self._drained_at()
        if drained_at is not None and (now >= drained_at or not self._roster.processors):
            return self._stop(self._lost)
        leave_at = self._idle_exit_at()
        return self._stop(None) if leave_at is not None and now >= leave_at else []

    def _stop(self, error: ReceiverError | None) -> list[Effect]:
        if self._stopped:
            return []
        self._stopped = True
        return [Stop(error)]

    # ------------------------------------------------------------------ to look at

    def checkpoints(self) -> dict[str, Position | str]:
        """Return the last checkpoint of each shard that KCL is known to have taken: a position, or SHARD_END.

        What a lease says that could not be looked up is not one: it may have been edited, and be past everything.
        """
        sessions = (session for session in self._roster.current.values() if session.facts is not None)
        known = ((session.shard, session.last_checkpoint) for session in sessions)
        return {shard: checkpoint for shard, checkpoint in known if checkpoint is not None}

    def status(self, now: float) -> CoreState:
        """Return the live state."""
        return status(
            self._settings,
            self._writer,
            self._roster,
            self._pipeline,
            failing=self._retries.trouble(now),
            skipped=self._skipped,
            draining=self._drain_since is not None,
            now=now,
        )


# The names by which retries are known.

_APPENDING = "ledger"


def _writing(number: int) -> str:
    return f"block {number}"


def _looking_up(session: Session) -> str:
    return f"look-up {session.id}"


def _looking_further(session: Session) -> str:
    return f"look further {session.id}"


def _confirming(session: Session) -> str:
    return f"shard end {session.id}"
