"""The generator without I/O: every decision of what is admitted, cut, stored and reported.

Events come in as method calls with the time; effects go out as a list (see `effects`). Two rules hold throughout:

1. `Stored` is sent for a batch only after its block and its block's ledger entry are durable, and every batch before
   it in its session is stored as well.
2. What was admitted and cut is stored, whatever becomes of its session; what was admitted and not cut is dropped when
   its session loses its lease or is fenced, because nobody will checkpoint it.

Theory of operation. A batch passes through these hands:

    pending (its session's one place to wait) → builder → in flight (being written) → ledger queue → stored

The window of a shard counts from the builder on. Blocks are cut by time, by size or on a flush, but no more than
`max_in_flight` are on their way: when the store is slow the builder fills, then batches stay pending, then processors
wait, and KCL stands still. Ledger entries go out one append at a time and in order, so that an append whose outcome is
unknown can be repeated before anything else is written; entries that wait meanwhile share the next append.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from typing import Any

from kcl_receiver.errors import Fenced, ProtocolError, ReceiverError
from kcl_receiver.generator.builder import AdmittedPart, BlockBuilder
from kcl_receiver.generator.effects import (
    Append,
    BlockRecord,
    Close,
    ConfirmShardEnd,
    Effect,
    LedgerRecord,
    LookUp,
    Send,
    SessionRecord,
    ShardEndRecord,
    ShardFacts,
    Stop,
    WriteBlock,
    WrittenBlock,
)
from kcl_receiver.generator.held import Held
from kcl_receiver.generator.retries import Retries
from kcl_receiver.generator.session import Session, State
from kcl_receiver.generator.settings import GeneratorSettings
from kcl_receiver.generator.tracker import Tracker
from kcl_receiver.ranges import parse_after
from kcl_receiver.wire.frames import BATCH_BYTES, ReceivedBatch
from kcl_receiver.wire.messages import (
    Admitted,
    Draining,
    Hello,
    Message,
    Refused,
    ShardEndConfirmed,
    Stored,
    Welcome,
)

HELLO_SECONDS = 10.0
"""A connection that has not said Hello by then is closed."""


@dataclass(slots=True)
class _InFlight:
    """A block that was cut and is not stored."""

    parts: tuple[AdmittedPart, ...]
    effect: WriteBlock
    written: WrittenBlock | None = None


@dataclass(slots=True)
class _Counters:
    blocks: int = 0
    rows: int = 0
    bytes: int = 0
    skipped: int = 0


@dataclass(slots=True)
class _Connection:
    """Attributes: `closing` says that it was told to hang up: nothing more is sent on it, or taken from it."""

    pid: int
    since: float
    session: str | None = None
    status_only: bool = False
    closing: bool = False

    @property
    def hello_due(self) -> float | None:
        """When it must have said Hello, None if it has or need not."""
        spoken = self.session is not None or self.status_only or self.closing
        return None if spoken else self.since + HELLO_SECONDS


class GeneratorCore:
    """The state machine; see the module's docstring.

    Args:
        settings: Limits and intervals.
        now: The driver's clock in seconds; CLOCK_BOOTTIME, because ranks are compared with it.
        rng: Source of jitter.
    """

    def __init__(self, settings: GeneratorSettings, now: float, rng: random.Random) -> None:
        self._settings = settings
        self._connections: dict[int, _Connection] = {}
        self._sessions: dict[str, Session] = {}
        self._current: dict[str, Session] = {}
        self._pending: deque[Session] = deque()
        self._builder = BlockBuilder()
        self._flush = False
        self._next_block = 1
        self._in_flight: dict[int, _InFlight] = {}
        self._ledger: deque[LedgerRecord] = deque()
        self._appending: tuple[LedgerRecord, ...] = ()
        self._retries = Retries(settings.store_timeout, rng)
        self._counters = _Counters()
        self._idle_since: float | None = now
        self._drain_since: float | None = None
        self._stopped = False

    # ------------------------------------------------------------------ connections

    def connected(self, connection: int, pid: int, now: float) -> list[Effect]:
        """A process of this user connected; `pid` is what the kernel says of it."""
        self._connections[connection] = _Connection(pid, now)
        return []

    def disconnected(self, connection: int, now: float) -> list[Effect]:
        """The connection is gone. Its session stays: what was admitted is stored, and the processor may return."""
        gone = self._connections.pop(connection, None)
        session = self._sessions.get(gone.session) if gone is not None and gone.session is not None else None
        if session is not None and session.connection == connection:
            session.connection = None
            session.pending = None
        return self._settle(now)

    def failed(self, connection: int, error: ReceiverError, now: float) -> list[Effect]:
        """What came over the connection can't be used: say why and hang up."""
        return [*self._refuse(connection, error), *self._settle(now)]

    def hello(self, connection: int, hello: Hello, now: float) -> list[Effect]:
        """A processor opens its session, or resumes it."""
        try:
            session = self._open(connection, hello, now)
        except ReceiverError as error:
            return self.failed(connection, error, now)
        effects: list[Effect] = []
        if session.connection is not None:
            effects += self._hang_up(session.connection)
        session.connection = connection
        session.pending = None
        self._connections[connection].session = session.id
        self._connections[connection].status_only = False
        current = self._current.get(session.shard)
        if current is not None and current is not session:
            effects += self._fence(current, session)
        self._current[session.shard] = session
        if session.state is State.OPEN:
            effects += self._welcome(session)
        return [*effects, *self._settle(now)]

    def _open(self, connection: int, hello: Hello, now: float) -> Session:
        link = self._connections[connection]
        if link.session is not None or link.closing:
            raise ProtocolError(f"a second Hello on one connection, for {hello.shard}")
        if hello.application != self._settings.application:
            raise ProtocolError(
                f"this generator serves application {self._settings.application!r}, not {hello.application!r}",
                "give each application a socket of its own (receiver.socket)",
            )
        if hello.pid != link.pid:
            raise ProtocolError(f"{hello.shard}: the session claims pid {hello.pid}, its peer has pid {link.pid}")
        if hello.rank > now * 1e9:
            raise ProtocolError(f"{hello.shard}: the session's rank {hello.rank} lies in the future")
        if hello.next_number < 1:
            raise ProtocolError(f"{hello.shard}: batches are numbered from 1, not from {hello.next_number}")
        try:
            after = parse_after(hello.after)
        except ValueError as error:
            raise ProtocolError(f"{hello.shard}: {error}") from error
        current = self._current.get(hello.shard)
        if current is not None and (hello.rank, hello.session) < current.seniority:
            raise Fenced(
                f"{hello.shard}: a younger session of this shard is open (pid {current.hello.pid})",
                "this process held the lease before and lost it; it stops, and nothing is lost",
            )
        known = self._sessions.get(hello.session)
        if known is None:
            known = Session(hello, after, None, Tracker(hello.next_number), reported=hello.next_number - 1)
            self._sessions[hello.session] = known
        elif (known.shard, known.hello.rank) != (hello.shard, hello.rank):
            raise ProtocolError(f"{hello.shard}: session {hello.session} came before with another shard or rank")
        elif known.state is State.CLOSED:
            raise Fenced(f"{hello.shard}: this session was closed before", "it lost its lease; nothing is lost")
        elif not known.hello.next_number <= hello.next_number <= known.tracker.next_number:
            raise ProtocolError(
                f"{hello.shard}: batch {hello.next_number} is announced, one from {known.hello.next_number} to "
                f"{known.tracker.next_number} was expected"
            )
        return known

    def _fence(self, old: Session, young: Session) -> list[Effect]:
        effects: list[Effect] = []
        if old.connection is not None:
            effects = self._refuse(
                old.connection,
                Fenced(
                    f"{old.shard}: a younger session of this shard has come (pid {young.hello.pid})",
                    "this process lost its lease without being told; it stops, and nothing is lost",
                ),
            )
        self._close_session(old)
        return effects

    def _close_session(self, session: Session) -> None:
        session.state = State.CLOSED
        session.pending = None
        session.connection = None
        self._builder.drop(session.id)
        self._retries.mended("look-up " + session.id)
        self._retries.mended("shard end " + session.id)

    def _refuse(self, connection: int, error: ReceiverError) -> list[Effect]:
        link = self._connections.get(connection)
        if link is None or link.closing:
            return []
        refused = Refused(type(error).__name__, error.message, error.hint)
        return [Send(connection, refused), *self._hang_up(connection)]

    def _hang_up(self, connection: int) -> list[Effect]:
        link = self._connections[connection]
        session = self._sessions.get(link.session) if link.session is not None else None
        if session is not None:
            session.connection = None
            session.pending = None
        link.session = None
        link.closing = True
        return [Close(connection)]

    def _welcome(self, session: Session) -> list[Effect]:
        settings = self._settings
        session.reported = session.tracker.stored_through
        effects = self._send(
            session,
            Welcome(
                generator=settings.writer,
                next_number=session.tracker.next_number,
                batch_bytes=min(BATCH_BYTES, settings.window_bytes, settings.block_max_bytes),
                window_bytes=settings.window_bytes,
                checkpoint_interval_millis=round(settings.checkpoint_interval * 1000),
                generator_timeout_millis=round(settings.generator_timeout * 1000),
                store_timeout_millis=round(settings.store_timeout * 1000),
                drain_millis=round(settings.drain * 1000),
            ),
        )
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
            session = self._session_of(connection)
            if batch.message.number < session.tracker.next_number:
                return [*self._send(session, Admitted(batch.message.number)), *self._settle(now)]
            if session.pending is not None:
                raise ProtocolError(f"{session.shard}: batch {batch.message.number} came while another one waits")
            session.check_next(batch)
        except ReceiverError as error:
            return self.failed(connection, error, now)
        session.behind = batch.message.behind
        if self._drain_since is not None:
            return [*self._send(session, Draining()), *self._settle(now)]
        session.pending = batch
        self._pending.append(session)
        return self._settle(now)

    def flush(self, connection: int, now: float) -> list[Effect]:
        """The session waits for what it sent: cut now."""
        try:
            session = self._session_of(connection)
        except ReceiverError as error:
            return self.failed(connection, error, now)
        if self._builder.holds(session.id):
            self._flush = True
        return self._settle(now)

    def progress(self, connection: int, behind: int, checkpoint: str | None) -> list[Effect]:
        """For `status` alone."""
        link = self._connections.get(connection)
        session = self._sessions.get(link.session) if link is not None and link.session is not None else None
        if session is not None:
            session.behind = behind
            session.checkpoint = checkpoint
        return []

    def shard_end(self, connection: int, last: str, now: float) -> list[Effect]:
        """All of the shard is stored, says its processor: ask the stream, then write it down."""
        try:
            session = self._session_of(connection)
            end = session.check_end(last)
        except ReceiverError as error:
            return self.failed(connection, error, now)
        if session.shard_end is not None:
            # It asks again because it came back: the stream is asked already, or has answered.
            confirmed = self._send(session, ShardEndConfirmed()) if session.shard_end_recorded else []
            return [*confirmed, *self._settle(now)]
        session.shard_end = end
        return [ConfirmShardEnd(session.id, session.shard), *self._settle(now)]

    def leave(self, connection: int, now: float) -> list[Effect]:
        """The lease is lost: drop what is not cut."""
        link = self._connections.get(connection)
        session = self._sessions.get(link.session) if link is not None and link.session is not None else None
        if session is None:
            return self.failed(connection, ProtocolError("a session was left before it was opened"), now)
        effects = self._hang_up(connection)
        self._close_session(session)
        return [*effects, *self._settle(now)]

    def _session_of(self, connection: int) -> Session:
        link = self._connections.get(connection)
        session = self._sessions.get(link.session) if link is not None and link.session is not None else None
        if session is None or session.state is not State.OPEN:
            raise ProtocolError("a message came before the session was open")
        return session

    # ------------------------------------------------------------------ answers of the driver

    def looked_up(self, session_id: str, facts: ShardFacts, now: float) -> list[Effect]:
        """Stream and ledger were asked about the session's shard."""
        self._retries.mended("look-up " + session_id)
        session = self._sessions.get(session_id)
        if session is not None and session.state is State.LOOKING:
            session.facts = facts
            session.held = Held((held.first, held.last) for held in facts.held)
            session.state = State.RECORDING
            self._ledger.append(SessionRecord(session.id, session.shard, session.hello.rank, session.after, facts))
        return self._settle(now)

    def look_up_failed(self, session_id: str, error: ReceiverError, now: float) -> list[Effect]:
        """Asking failed; what does not mend is told to the processor."""
        session = self._sessions.get(session_id)
        if session is None or session.state is not State.LOOKING:
            return self._settle(now)
        if self._retries.failed("look-up " + session_id, error, lambda: self._look_up(session), now):
            return self._settle(now)
        self._retries.mended("look-up " + session_id)
        return [*self._turn_away(session, error), *self._settle(now)]

    def shard_end_confirmed(self, session_id: str, now: float) -> list[Effect]:
        """The stream says that the shard is closed."""
        self._retries.mended("shard end " + session_id)
        session = self._sessions.get(session_id)
        if session is not None and session.state is State.OPEN and session.shard_end is not None:
            self._ledger.append(ShardEndRecord(session.id, session.shard, session.shard_end))
        return self._settle(now)

    def shard_end_failed(self, session_id: str, error: ReceiverError, now: float) -> list[Effect]:
        """The stream did not answer, or says otherwise."""
        session = self._sessions.get(session_id)
        if session is None or session.state is not State.OPEN:
            return self._settle(now)
        again: list[Effect] = [ConfirmShardEnd(session.id, session.shard)]
        if self._retries.failed("shard end " + session_id, error, lambda: again, now):
            return self._settle(now)
        self._retries.mended("shard end " + session_id)
        session.shard_end = None
        return [*self._turn_away(session, error), *self._settle(now)]

    def _turn_away(self, session: Session, error: ReceiverError) -> list[Effect]:
        """Refuse its processor. The session stays known: an older one is still refused, and it may come back."""
        if session.state is State.LOOKING:
            session.state = State.WAITING
        return [] if session.connection is None else self._refuse(session.connection, error)

    def block_written(self, number: int, written: WrittenBlock, now: float) -> list[Effect]:
        """The block is durable; its ledger entry comes next, and only then is anything reported."""
        self._retries.mended(f"block {number}")
        self._in_flight[number].written = written
        self._ledger.append(BlockRecord(number, written))
        return self._settle(now)

    def block_failed(self, number: int, error: ReceiverError, now: float) -> list[Effect]:
        """The block may or may not be there: the same write is tried again."""
        block = self._in_flight[number]
        if self._retries.failed(f"block {number}", error, lambda: [block.effect], now):
            return self._settle(now)
        return self._stop(error)

    def appended(self, now: float) -> list[Effect]:
        """The entries asked for last are durable."""
        self._retries.mended("ledger")
        effects: list[Effect] = []
        for record in self._appending:
            effects += self._recorded(record)
        self._appending = ()
        return [*effects, *self._settle(now)]

    def append_failed(self, error: ReceiverError, now: float) -> list[Effect]:
        """The entries may or may not be there: the same append is tried again before any other."""
        if self._retries.failed("ledger", error, lambda: [Append(self._appending)], now):
            return self._settle(now)
        return self._stop(error)

    def _recorded(self, record: LedgerRecord) -> list[Effect]:
        if isinstance(record, BlockRecord):
            return self._block_stored(record)
        session = self._sessions.get(record.session)
        if session is None or session.state is State.CLOSED:
            return []
        if isinstance(record, SessionRecord):
            session.state = State.OPEN
            return self._welcome(session)
        session.shard_end_recorded = True
        return self._send(session, ShardEndConfirmed())

    def _block_stored(self, record: BlockRecord) -> list[Effect]:
        block = self._in_flight.pop(record.number)
        self._counters.blocks += 1
        self._counters.rows += record.written.rows
        self._counters.bytes += record.written.size
        touched: dict[str, Session] = {}
        for part in block.parts:
            session = self._sessions[part.session]
            session.tracker.stored(part.number)
            session.in_flight -= 1
            session.records += part.part.range.count
            touched[session.id] = session
        effects: list[Effect] = []
        for session in touched.values():
            effects += self._report(session)
        return effects

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
        self._flush = bool(self._builder)
        effects: list[Effect] = []
        for session in self._sessions.values():
            session.pending = None
            if session.state is State.OPEN:
                effects += self._send(session, Draining())
        return [*effects, *self._settle(now)]

    def tick(self, now: float) -> list[Effect]:
        """Do what is due; to be called at `deadline`, and harmless at any other time."""
        if self._stopped:
            return []
        effects = self._retries.due(now)
        for number, link in self._connections.items():
            if link.hello_due is not None and now >= link.hello_due:
                effects += self._hang_up(number)
        return [*effects, *self._settle(now)]

    def deadline(self) -> float | None:
        """When `tick` is next needed, in the driver's seconds; None if nothing is due at any time."""
        if self._stopped:
            return None
        again = self._retries.deadline()
        times = [] if again is None else [again]
        if self._builder.opened_at is not None and self._may_cut():
            times.append(self._builder.opened_at + self._settings.block_interval)
        times += [link.hello_due for link in self._connections.values() if link.hello_due is not None]
        if (leave_at := self._idle_exit_at()) is not None:
            times.append(leave_at)
        if self._drain_since is not None and self._all_stored():
            times.append(self._drain_since + self._settings.drain)
        return min(times, default=None)

    def watched(self, connection: int) -> None:
        """The connection asks for the status; it need not say Hello."""
        link = self._connections[connection]
        link.status_only = link.session is None

    # ------------------------------------------------------------------ the engine

    def _settle(self, now: float) -> list[Effect]:
        """Do everything that the present state allows; every event ends here."""
        effects: list[Effect] = []
        if self._stopped:
            return effects
        self._forget_closed()
        for session in list(self._current.values()):
            wanted = session.state is State.WAITING and session.connection is not None
            if wanted and not self._older_in_flight(session):
                session.state = State.LOOKING
                effects += self._look_up(session)
        effects += self._admit_pending(now)
        effects += self._cut_if_due(now)
        if self._ledger and not self._appending:
            self._appending = tuple(self._ledger)
            self._ledger.clear()
            effects.append(Append(self._appending))
        return [*effects, *self._leave_if_done(now)]

    def _look_up(self, session: Session) -> list[Effect]:
        if session.state is not State.LOOKING:
            return []
        return [LookUp(session.id, session.shard, session.after)]

    def _older_in_flight(self, session: Session) -> bool:
        return any(
            other.shard == session.shard and other is not session and other.in_flight
            for other in self._sessions.values()
        )

    def _forget_closed(self) -> None:
        gone = [one.id for one in self._sessions.values() if one.state is State.CLOSED and not one.in_flight]
        for session_id in gone:
            session = self._sessions[session_id]
            if self._current.get(session.shard) is not session:
                # The current one stays: its rank is what an older process is refused by.
                del self._sessions[session_id]

    def _admit_pending(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        waiting, self._pending = self._pending, deque()
        for session in waiting:
            if session.pending is None or session.state is not State.OPEN:
                continue
            batch = session.pending
            size = batch.columns.memory
            taken = session.tracker.unstored_bytes
            if taken and taken + size > self._settings.window_bytes:
                self._pending.append(session)
                continue
            if self._builder and self._builder.size + size > self._settings.block_max_bytes:
                if not self._may_cut():
                    self._pending.append(session)
                    continue
                effects += self._cut()
            session.pending = None
            try:
                effects += self._admit(session, batch, now)
            except ReceiverError as error:
                effects += self._turn_away(session, error)
        return effects

    def _admit(self, session: Session, batch: ReceivedBatch, now: float) -> list[Effect]:
        parts = session.parts(batch)
        session.delivered = batch.last
        session.tracker.admit(batch.message.number, batch.last, batch.columns.memory, len(parts))
        self._counters.skipped += batch.columns.count - sum(part.range.count for part in parts)
        for part in parts:
            self._builder.add(AdmittedPart(session.id, batch.message.number, part), now)
        return [*self._send(session, Admitted(batch.message.number)), *self._report(session)]

    def _may_cut(self) -> bool:
        return len(self._in_flight) < self._settings.max_in_flight

    def _cut_if_due(self, now: float) -> list[Effect]:
        opened = self._builder.opened_at
        if opened is None:
            self._flush = False
            return []
        due = (
            self._flush
            or now >= opened + self._settings.block_interval
            or self._builder.size >= self._settings.block_max_bytes
        )
        return self._cut() if due and self._may_cut() else []

    def _cut(self) -> list[Effect]:
        self._flush = False
        parts = self._builder.cut()
        number = self._next_block
        self._next_block += 1
        for part in parts:
            self._sessions[part.session].in_flight += 1
        effect = WriteBlock(number, tuple(part.part for part in parts))
        self._in_flight[number] = _InFlight(parts, effect)
        return [effect]

    def _all_stored(self) -> bool:
        return not (self._builder or self._in_flight or self._ledger or self._appending)

    def _leave_if_done(self, now: float) -> list[Effect]:
        served = any(link.session is not None for link in self._connections.values())
        if served or not self._all_stored():
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        if self._drain_since is not None and self._all_stored():
            waited = now >= self._drain_since + self._settings.drain
            return self._stop(None) if waited or not self._processors() else []
        leave_at = self._idle_exit_at()
        return self._stop(None) if leave_at is not None and now >= leave_at else []

    def _processors(self) -> bool:
        """Return whether anyone is connected who may be a processor, or may become one."""
        return any(not link.status_only for link in self._connections.values())

    def _idle_exit_at(self) -> float | None:
        idle_exit = self._settings.idle_exit
        if idle_exit is None or self._idle_since is None or self._processors():
            return None
        return self._idle_since + idle_exit

    def _stop(self, error: ReceiverError | None) -> list[Effect]:
        if self._stopped:
            return []
        self._stopped = True
        return [Stop(error)]

    # ------------------------------------------------------------------ to look at

    def status(self, now: float) -> dict[str, Any]:
        """Return the live state as plain values; positions as text, times in seconds, sizes in bytes."""
        failing = self._retries.error()
        return {
            "application": self._settings.application,
            "writer": self._settings.writer,
            "draining": self._drain_since is not None,
            "failing": None if failing is None else str(failing),
            "blocks_stored": self._counters.blocks,
            "records_stored": self._counters.rows,
            "bytes_stored": self._counters.bytes,
            "records_skipped": self._counters.skipped,
            "blocks_in_flight": len(self._in_flight),
            "building_bytes": self._builder.size,
            "building_seconds": 0.0 if self._builder.opened_at is None else round(now - self._builder.opened_at, 3),
            "window_bytes": self._settings.window_bytes,
            "shards": [self._shard_status(one) for _, one in sorted(self._current.items())],
        }

    def _shard_status(self, session: Session) -> dict[str, Any]:
        stored = session.tracker.stored_position
        return {
            "shard": session.shard,
            "session": session.id,
            "state": session.state.value,
            "pid": session.hello.pid,
            "connected": session.connection is not None,
            "records": session.records,
            "delivered": None if session.delivered is None else str(session.delivered),
            "stored_through": None if stored is None else str(stored),
            "checkpoint": session.checkpoint,
            "behind_millis": session.behind,
            "window_used": session.tracker.unstored_bytes,
            "waiting": session.pending is not None,
            "shard_end": session.shard_end_recorded,
        }
