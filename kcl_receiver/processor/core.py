"""The processor without I/O: what is sent, what is checkpointed, and when an action of the daemon is done.

Events come in as method calls with the time; effects go out as a list. The rules:

1. A checkpoint is made only at a position through which everything is stored, as the generator reported it, and only
   where a Kinesis record ends.
2. What is not stored is kept, and sent again in order when the generator is back, under the session's first rank.
3. `shardEnded` is answered only after SHARD_END was checkpointed, which needs everything stored and the stream's word
   that the shard is closed. Whatever cannot be put right ends the process: the daemon must never be told that an
   action is done when it is not.

Theory of operation. The daemon gives one action at a time and takes checkpoints only while it waits for that action's
status, so every action is a state that `_settle` looks at after every event:

    processRecords     done when every batch but the last is admitted, and that one is on its way: KCL fetches the next
                       records meanwhile (or the generator drains); and what was before fits the window: the generator
                       counts what is stored behind a gap no more, but we keep it until the gap is closed
    shutdownRequested  flush; done when what was admitted is stored and checkpointed, or when its time is over
    shardEnded         flush; when all is stored ask for confirmation; when that is here checkpoint; then done
    leaseLost          tell the generator; done

The link to the generator is AWAY, GREETING (Hello is sent), OPEN, DRAINING (nothing more is admitted) or ON_HOLD
(this shard's lease can't be read, see `holding`).
"""

from __future__ import annotations

import enum
import random

from kcl_receiver import errors
from kcl_receiver.errors import (
    DaemonError,
    GeneratorUnavailable,
    LeaseRefused,
    ProtocolError,
    ReceiverError,
    StoreUnavailable,
)
from kcl_receiver.processor.backoff import Backoff
from kcl_receiver.processor.checkpoints import LEASE_GONE, RETRIED_LATER, Checkpoints
from kcl_receiver.processor.codec import (
    Action,
    Initialize,
    LeaseLost,
    ProcessRecords,
    ShardEnded,
    ShutdownRequested,
)
from kcl_receiver.processor.deadlines import Patience
from kcl_receiver.processor.effects import Connect, Done, Effect, Exit, Transmit
from kcl_receiver.processor.holding import Holding
from kcl_receiver.processor.notes import Notes
from kcl_receiver.processor.outbox import Outbox
from kcl_receiver.ranges import SHARD_END, TRIM_HORIZON, After
from kcl_receiver.wire.frames import BATCH_BYTES
from kcl_receiver.wire.messages import (
    Admitted,
    Draining,
    Flush,
    Hello,
    Hold,
    Leave,
    Message,
    Progress,
    Refused,
    ShardEnd,
    ShardEndConfirmed,
    Stored,
    Welcome,
)

HEARTBEAT_SECONDS = 5.0
"""A processor that is called tells the generator so at least this often; see `status.report.SILENT_SECONDS`."""

RECONNECT_SECONDS = (0.05, 2.0)
"""First and longest pause between two attempts to reach the generator."""


class Link(enum.Enum):
    """See the module's docstring."""

    AWAY = "away"
    GREETING = "greeting"
    OPEN = "open"
    DRAINING = "draining"
    ON_HOLD = "on hold"


class ProcessorCore:
    """The state machine; see the module's docstring.

    Args:
        application: The application's name.
        session: Id of this session.
        pid: This process's id.
        generator_timeout: Seconds without a generator after which to leave, until the generator says otherwise.
        rng: Source of jitter.
        generator_log: Where the generator says why it does not answer, in words.
    """

    def __init__(
        self,
        application: str,
        session: str,
        pid: int,
        generator_timeout: float,
        rng: random.Random,
        generator_log: str = "the generator's log",
    ) -> None:
        self._application = application
        self._session = session
        self._pid = pid
        self._generator_log = generator_log
        self._rank = 0
        self._shard = ""
        self._start: After = TRIM_HORIZON
        self._kept = Outbox(self._start)
        self._link = Link.AWAY
        self._reconnect = Backoff(RECONNECT_SECONDS, rng)
        self._connect_at: float | None = None
        self._action: Action | None = None
        self._action_since = 0.0
        self._delivery_bytes = 0
        self._flushed = False
        self._end_asked = False
        self._end_confirmed = False
        self._last_try = False
        self._lease_gone = False
        self._holding = Holding()
        self._told: tuple[int, str | None] | None = None
        self._told_at = 0.0
        self._behind = -1
        self._notes = Notes()
        self._noted: int | None = None
        self._exited = False
        # Until the generator's Welcome says what the properties file does.
        self._batch_bytes = BATCH_BYTES
        self._window_bytes = 32 * 1024 * 1024
        self._drain = 10.0
        self._checkpoints = Checkpoints(5.0, rng)
        self._patience = Patience(generator_timeout, 300.0)

    @property
    def kept_bytes(self) -> int:
        """Bytes of the batches that are not stored: at most the window, a batch, and a delivery (two after a drain)."""
        return self._kept.bytes

    # ------------------------------------------------------------------ the daemon

    def action(self, action: Action, now: float, rank: int = 0) -> list[Effect]:
        """The daemon wants something done; `rank` is CLOCK_BOOTTIME in nanoseconds and is used by `initialize`."""
        if self._action is not None:
            return self._exit(DaemonError(f"{action.name} came while {self._action.name} was not done"))
        if isinstance(action, Initialize) == bool(self._shard):
            return self._exit(DaemonError(f"{action.name} came {'twice' if self._shard else 'before initialize'}"))
        self._action = action
        self._action_since = now
        self._patience.begin(now)
        self._checkpoints.begin()
        try:
            effects = self._begin(action, now, rank)
        except ReceiverError as error:
            return self._exit(error)
        return [*effects, *self._settle(now)]

    def _begin(self, action: Action, now: float, rank: int) -> list[Effect]:
        if isinstance(action, Initialize):
            self._shard = action.shard
            self._start = action.after
            self._rank = rank
            self._kept = Outbox(action.after)
            self._checkpoints.taken = self._kept.safe
            return [Connect()]
        if isinstance(action, ProcessRecords):
            self._behind = action.behind
            at = int(now * 1000)
            self._noted = self._notes.call(at)
            # A generator that drains does not take what the delivery before left on its way either.
            before = self._kept.bytes - self._kept.left_behind
            if action.columns is not None and not self._lease_gone and not self._holding.on:
                self._kept.take(action.columns, self._batch_bytes, action.behind, at)
            self._delivery_bytes = self._kept.bytes - before
            return self._tell_progress(now)
        if isinstance(action, LeaseLost):
            return self._give_up_lease()
        if isinstance(action, ShardEnded) and self._lease_gone:
            raise DaemonError(f"{self._shard}: shardEnded came after the daemon had said that the lease was gone")
        self._flushed = self._last_try = False
        return []

    def _tell_progress(self, now: float) -> list[Effect]:
        """Say what is new; and now and then that we are called at all: silence must mean that we are not."""
        taken = self._checkpoints.taken
        news = (self._behind, None if taken is None else str(taken))
        heard = self._open or self._link is Link.ON_HOLD
        noted = None if self._behind < 0 or self._holding.on or not self._open else self._noted
        due = self._told != news or now >= self._told_at + HEARTBEAT_SECONDS or noted is not None
        if not heard or self._lease_gone or not due:
            return []
        self._told, self._told_at = news, now
        return [Transmit(Progress(*news) if noted is None else Progress(*news, str(self._kept.delivered), noted))]

    def _give_up_lease(self) -> list[Effect]:
        if self._lease_gone:
            return []
        self._lease_gone = True
        self._kept.drop()
        self._connect_at = None
        return [Transmit(Leave())] if self._open or self._link is Link.ON_HOLD else []

    def checkpoint_result(self, error: str | None, now: float) -> list[Effect]:
        """The daemon answered a checkpoint; `error` is the simple name of a Java exception."""
        asked = self._checkpoints.answered(now)
        if asked is None:
            return self._exit(DaemonError("the daemon answered a checkpoint that nobody asked for"))
        effects: list[Effect] = []
        if error is None:
            if asked.position is None:
                # Said before the daemon is answered: it closes stdin then, and this process ends.
                told = [Transmit(Progress(self._behind, SHARD_END))] if self._open else []
                return [*told, *self._finish(), *self._settle(now)]
            self._checkpoints.taken = asked.position
        elif error in RETRIED_LATER:
            if not isinstance(self._action, ProcessRecords):
                self._last_try = now >= self._give_up_at()
                self._checkpoints.try_again(error, now)
        elif error == LEASE_GONE:
            effects = self._give_up_lease()
            if isinstance(self._action, ShardEnded):
                effects += self._finish()
        else:
            return self._exit(
                DaemonError(
                    f"{self._shard}: the daemon refused a checkpoint at {asked.position or 'SHARD_END'} with {error}",
                    "the process leaves, so that KCL reads again from the last checkpoint; nothing is lost",
                )
            )
        return [*effects, *self._settle(now)]

    def input_closed(self) -> list[Effect]:
        """The daemon hung up: there is nobody left to checkpoint with."""
        return self._exit(None)

    # ------------------------------------------------------------------ the generator

    @property
    def _open(self) -> bool:
        return self._link in (Link.OPEN, Link.DRAINING)

    @property
    def listens(self) -> bool:
        """Whether anything that the generator says can matter now; if not, it can wait for the daemon's next action.

        What is checkpointed and answered is decided within actions. Between them a session is opened, and what is
        left of a delivery is sent; and when the generator hangs up there is somebody to look for.
        """
        return self._action is not None or self._link is Link.GREETING or not self._kept.all_sent

    def connected(self, now: float) -> list[Effect]:
        """The socket is connected."""
        self._link = Link.GREETING
        self._patience.connected(now)
        self._flushed = self._end_asked = False
        self._told = None
        hello = Hello(
            application=self._application,
            shard=self._shard,
            session=self._session,
            rank=self._rank,
            pid=self._pid,
            after=str(self._start),
            next_number=self._kept.first,
        )
        return [Transmit(hello), *self._settle(now)]

    def disconnected(self, now: float) -> list[Effect]:
        """There is no connection: it could not be made, or it broke."""
        self._patience.disconnected(now, answered=self._open or self._link is Link.ON_HOLD)
        self._link = Link.AWAY
        if not self._lease_gone and not self._exited:
            self._connect_at = now + self._reconnect.next()
        return self._settle(now)

    def message(self, message: Message, now: float) -> list[Effect]:
        """The generator says something."""
        if self._lease_gone:
            return self._hear_without_lease(message)
        try:
            self._hear(message, now)
        except ReceiverError as error:
            return self._exit(error)
        return self._settle(now)

    def _hear_without_lease(self, message: Message) -> list[Effect]:
        """Whatever was on its way when the lease was lost is void; a session that opens only now is left."""
        if isinstance(message, Welcome | Hold) and self._link is Link.GREETING:
            self._link = Link.OPEN
            return [Transmit(Leave())]
        return []

    def _hear(self, message: Message, now: float) -> None:
        if isinstance(message, Refused):
            raise _refusal(message)
        if isinstance(message, Welcome):
            self._welcomed(message)
            return
        if isinstance(message, Hold):
            self._put_on_hold()
            return
        if isinstance(message, Draining) and self._link is Link.ON_HOLD:
            self._holding.hurry()
            return
        if not self._open:
            raise ProtocolError(f"the generator sent {type(message).__name__} before Welcome")
        if isinstance(message, Stored):
            if self._kept.stored(message.number):
                self._patience.progress(now)
        elif isinstance(message, Admitted):
            if self._kept.admitted(message.number):
                self._patience.progress(now)
        elif isinstance(message, Draining):
            self._link = Link.DRAINING
        elif isinstance(message, ShardEndConfirmed):
            self._end_confirmed = True
        else:
            raise ProtocolError(f"the generator sent {type(message).__name__}, which is not for a processor")

    def _put_on_hold(self) -> None:
        if self._link is not Link.GREETING:
            raise ProtocolError("the generator sent Hold, and no Hello was before it")
        self._link = Link.ON_HOLD
        self._reconnect.reset()
        self._holding.begin()

    def _welcomed(self, welcome: Welcome) -> None:
        if self._link is not Link.GREETING:
            raise ProtocolError("the generator sent Welcome, and no Hello was before it")
        if self._holding.on:
            raise LeaseRefused(
                f"{self._shard}: its lease could not be read, and now it can",
                "the process leaves, so that KCL reads again from the last checkpoint; nothing is lost",
            )
        self._kept.resume(welcome.next_number)
        self._link = Link.OPEN
        self._reconnect.reset()
        self._batch_bytes = welcome.batch_bytes
        self._window_bytes = welcome.window_bytes
        self._drain = welcome.drain_millis / 1000
        self._notes.apart = welcome.note_millis
        self._checkpoints.interval = welcome.checkpoint_interval_millis / 1000
        self._patience.generator_timeout = welcome.generator_timeout_millis / 1000
        self._patience.store_timeout = welcome.store_timeout_millis / 1000

    # ------------------------------------------------------------------ time

    def tick(self, now: float) -> list[Effect]:
        """Do what is due; to be called at `deadline`, and harmless at any other time."""
        effects = self._settle(now)
        if self._connect_at is not None and now >= self._connect_at:
            self._connect_at = None
            effects.append(Connect())
        return effects

    def deadline(self) -> float | None:
        """When `tick` is next needed, None if nothing is due at any time."""
        times = [self._connect_at]
        if self._action is not None and self._checkpoints.asked is None:
            if self._holding.on:
                times.append(self._on_hold_until())
            else:
                times += [self._checkpoints.retry_at, self._give_up_at()]
                if isinstance(self._action, ProcessRecords) and self._checkpoint_wanted():
                    times.append(self._checkpoints.due_at)
        return min((time for time in times if time is not None), default=None)

    def _give_up_at(self) -> float:
        if isinstance(self._action, ShutdownRequested):
            return self._action_since + self._drain
        if self._checkpoints.retry_at is not None:
            return self._checkpoints.failing_since + self._patience.store_timeout
        return self._patience.limit

    # ------------------------------------------------------------------ the engine

    def _settle(self, now: float) -> list[Effect]:
        """Do everything that the present state allows; every event ends here."""
        if self._exited:
            return []
        effects = self._send_next()
        if self._action is None or self._checkpoints.asked is not None:
            return effects
        if isinstance(self._action, Initialize | LeaseLost):
            return [*effects, *self._finish()]
        if self._holding.on and not self._lease_gone:
            until = self._on_hold_until()
            return [*effects, *(self._finish() if until is not None and now >= until else [])]
        if isinstance(self._action, ProcessRecords):
            return [*effects, *self._settle_records(now)]
        if isinstance(self._action, ShardEnded):
            return [*effects, *self._settle_shard_end(now)]
        return [*effects, *self._settle_shutdown(now)]

    def _send_next(self) -> list[Effect]:
        """Send the next batch; one at a time, since the generator answers each when it has its place."""
        kept = self._kept.send() if self._link is Link.OPEN else None
        return [] if kept is None else [Transmit(kept.message, kept.columns)]

    def _on_hold_until(self) -> float | None:
        """When the action is answered if the shard's lease can't be read; None: never."""
        if isinstance(self._action, ShardEnded):
            return None
        return self._holding.until(self._action_since) if isinstance(self._action, ProcessRecords) else 0.0

    def _settle_records(self, now: float) -> list[Effect]:
        if self._checkpoint_wanted() and now >= self._checkpoints.due_at:
            return [self._checkpoints.ask(self._kept.safe)]
        before_last = self._kept.bytes - self._kept.left_behind
        if not self._kept or (self._open and self._kept.all_sent and before_last <= self._window_bytes):
            return self._finish()
        if self._link is Link.DRAINING and self._kept.bytes - self._delivery_bytes <= self._window_bytes:
            # Whoever waits for the window goes home with this delivery unsent; the next one may have to wait.
            return self._finish()
        return self._give_up_if_late(now)

    def _settle_shutdown(self, now: float) -> list[Effect]:
        effects = self._flush()
        stored = not self._kept or (self._link is Link.DRAINING and self._kept.admitted_is_stored)
        late = now >= self._give_up_at()
        if not (stored or late):
            return effects
        if not self._checkpoint_wanted() or self._last_try:
            return [*effects, *self._finish()]
        retry_at = self._checkpoints.retry_at
        if retry_at is not None and now < retry_at and not late:
            return effects
        # When time is over this is the last chance to save the next owner from reading again what is stored.
        return [*effects, self._checkpoints.ask(self._kept.safe)]

    def _settle_shard_end(self, now: float) -> list[Effect]:
        effects = self._flush()
        if self._kept:
            return [*effects, *self._give_up_if_late(now)]
        if not self._end_confirmed:
            if self._open and not self._end_asked:
                self._end_asked = True
                effects.append(Transmit(ShardEnd(str(self._kept.delivered))))
            return [*effects, *self._give_up_if_late(now)]
        retry_at = self._checkpoints.retry_at
        if retry_at is not None and now < retry_at:
            return [*effects, *self._give_up_if_late(now)]
        return [*effects, self._checkpoints.ask(None)]

    def _flush(self) -> list[Effect]:
        if self._flushed or not self._kept or self._link is not Link.OPEN or not self._kept.all_admitted:
            return []
        self._flushed = True
        return [Transmit(Flush())]

    def _checkpoint_wanted(self) -> bool:
        return not self._lease_gone and self._checkpoints.wanted(self._kept.safe)

    def _finish(self) -> list[Effect]:
        action, self._action = self._action, None
        return [] if action is None else [Done(action)]

    def _give_up_if_late(self, now: float) -> list[Effect]:
        if now < self._give_up_at():
            return []
        action = self._action.name if self._action is not None else "nothing"
        if self._checkpoints.retry_at is not None:
            return self._exit(
                DaemonError(
                    f"{self._shard}: SHARD_END could not be checkpointed for {self._patience.store_timeout:g} s, "
                    f"at last for {self._checkpoints.last_error}",
                    "see what DynamoDB says of the lease table in the daemon's log; KCL ends the shard again later",
                )
            )
        if self._link is Link.AWAY:
            return self._exit(
                GeneratorUnavailable(
                    f"{self._shard}: no generator answered for {self._patience.generator_timeout:g} s during {action}",
                    f"see why in {self._generator_log}; KCL reads again from the last checkpoint",
                )
            )
        return self._exit(
            StoreUnavailable(
                f"{self._shard}: nothing was stored for {self._patience.store_timeout:g} s during {action}",
                f"see what the store says in {self._generator_log}; KCL reads again from the last checkpoint",
            )
        )

    def _exit(self, error: ReceiverError | None) -> list[Effect]:
        self._exited = True
        self._action = None
        self._connect_at = None
        return [Exit(error)]


def _refusal(message: Refused) -> ReceiverError:
    """Return the error that the generator named, or a ProtocolError around an unknown name."""
    kind = getattr(errors, message.error, None)
    reason = message.message.strip() or "the generator refused this session and gave no reason"
    if isinstance(kind, type) and issubclass(kind, ReceiverError):
        return kind(reason, message.hint)
    return ProtocolError(f"{message.error}: {reason}", message.hint)
