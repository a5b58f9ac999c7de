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

    processRecords     done when every batch is admitted (or the generator drains and what is unsent fits the window)
    shutdownRequested  flush; done when what was admitted is stored and checkpointed, or when its time is over
    shardEnded         flush; when all is stored ask for confirmation; when that is here checkpoint; then done
    leaseLost          tell the generator; done

The link to the generator is AWAY, GREETING (Hello is sent), OPEN or DRAINING (nothing more is admitted).
"""

from __future__ import annotations

import enum
import random
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass

from kcl_receiver import errors
from kcl_receiver.errors import DaemonError, GeneratorUnavailable, ProtocolError, ReceiverError, StoreUnavailable
from kcl_receiver.processor.codec import (
    Action,
    Initialize,
    LeaseLost,
    ProcessRecords,
    ShardEnded,
    ShutdownRequested,
)
from kcl_receiver.processor.split import Part, split
from kcl_receiver.ranges import After, Position
from kcl_receiver.wire.columns import Columns, checksum
from kcl_receiver.wire.frames import BATCH_BYTES, batch_lengths
from kcl_receiver.wire.messages import (
    Admitted,
    Batch,
    Draining,
    Flush,
    Hello,
    Leave,
    Message,
    Progress,
    Refused,
    ShardEnd,
    ShardEndConfirmed,
    Stored,
    Welcome,
)

RETRIED_LATER = frozenset({"ThrottlingException", "KinesisClientLibDependencyException"})
"""Checkpoint errors that mend by themselves; names of KCL's Java exceptions."""
LEASE_GONE = "ShutdownException"

RECONNECT_SECONDS = (0.05, 2.0)
"""First and longest pause between two attempts to reach the generator."""
CHECKPOINT_RETRY_SECONDS = (0.2, 5.0)
"""The same for a checkpoint that failed where no later action will come."""


@dataclass(frozen=True, slots=True)
class Connect:
    """Try to reach the generator; answered by `connected` or `disconnected`."""


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send a message, with its columns if it is a batch."""

    message: Message
    columns: Columns | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Ask the daemon for a checkpoint; None is the bare one. Answered by `checkpoint_result`."""

    position: Position | None


@dataclass(frozen=True, slots=True)
class Done:
    """Tell the daemon that the action is done."""

    action: Action


@dataclass(frozen=True, slots=True)
class Exit:
    """Leave the process: in order (None), or with an error."""

    error: ReceiverError | None


Effect = Connect | Transmit | Checkpoint | Done | Exit


class Link(enum.Enum):
    """See the module's docstring."""

    AWAY = "away"
    GREETING = "greeting"
    OPEN = "open"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class _Kept:
    """A batch that is not stored yet, as far as the processor knows."""

    message: Batch
    columns: Columns
    whole: Position | None


class _Backoff:
    """Pauses that double between two bounds, with jitter."""

    def __init__(self, bounds: tuple[float, float], rng: random.Random) -> None:
        self._bounds = bounds
        self._rng = rng
        self._pause = bounds[0]

    def reset(self) -> None:
        self._pause = self._bounds[0]

    def next(self) -> float:
        pause = self._pause
        self._pause = min(pause * 2, self._bounds[1])
        return pause * self._rng.uniform(0.5, 1.0)


class ProcessorCore:
    """The state machine; see the module's docstring.

    Args:
        application: The application's name.
        session: Id of this session.
        pid: This process's id.
        generator_timeout: Seconds without a generator after which to leave, until the generator says otherwise.
        rng: Source of jitter.
    """

    def __init__(self, application: str, session: str, pid: int, generator_timeout: float, rng: random.Random) -> None:
        self._application = application
        self._session = session
        self._pid = pid
        self._rank = 0
        self._shard = ""
        self._start: After = ""
        self._delivered: After = ""
        self._kept: deque[_Kept] = deque()
        self._kept_bytes = 0
        self._next_number = 1
        self._to_send = 1
        self._awaiting: int | None = None
        self._link = Link.AWAY
        self._greeted = False
        self._reconnect = _Backoff(RECONNECT_SECONDS, rng)
        self._connect_at: float | None = None
        self._away_since = 0.0
        self._progress_at = 0.0
        self._action: Action | None = None
        self._action_since = 0.0
        self._flushed = False
        self._end_asked = False
        self._end_confirmed = False
        self._safe: Position | None = None
        self._checkpointed: Position | None = None
        self._checkpointed_at: float | None = None
        self._checkpointing: Checkpoint | None = None
        self._checkpoint_retry = _Backoff(CHECKPOINT_RETRY_SECONDS, rng)
        self._checkpoint_at: float | None = None
        self._last_try = False
        self._lease_gone = False
        self._told: tuple[int, str | None] | None = None
        self._behind = -1
        self._exited = False
        # Until the generator's Welcome says what the properties file does.
        self._batch_bytes = BATCH_BYTES
        self._window_bytes = 32 * 1024 * 1024
        self._checkpoint_interval = 5.0
        self._generator_timeout = generator_timeout
        self._store_timeout = 300.0
        self._drain = 10.0

    # ------------------------------------------------------------------ the daemon

    def action(self, action: Action, now: float, rank: int = 0) -> list[Effect]:
        """The daemon wants something done; `rank` is CLOCK_BOOTTIME in nanoseconds and is used by `initialize`."""
        if self._action is not None:
            return self._exit(DaemonError(f"{action.name} came while {self._action.name} was not done"))
        if isinstance(action, Initialize) == bool(self._shard):
            return self._exit(DaemonError(f"{action.name} came {'twice' if self._shard else 'before initialize'}"))
        self._action = action
        self._action_since = self._progress_at = now
        self._checkpoint_at = None
        self._checkpoint_retry.reset()
        try:
            effects = self._begin(action, now, rank)
        except ReceiverError as error:
            return self._exit(error)
        return [*effects, *self._settle(now)]

    def _begin(self, action: Action, now: float, rank: int) -> list[Effect]:
        if isinstance(action, Initialize):
            self._shard = action.shard
            self._start = self._delivered = action.after
            self._rank = rank
            self._away_since = now
            if isinstance(action.after, Position):
                self._checkpointed = self._safe = action.after
            return [Connect()]
        if isinstance(action, ProcessRecords):
            self._behind = action.behind
            if action.columns is not None and not self._lease_gone:
                self._take(action.columns)
            return self._tell_progress()
        if isinstance(action, LeaseLost):
            return self._give_up_lease()
        if isinstance(action, ShardEnded) and self._lease_gone:
            raise DaemonError(f"{self._shard}: shardEnded came after the daemon had said that the lease was gone")
        self._flushed = self._last_try = False
        return []

    def _take(self, columns: Columns) -> None:
        """Number the delivered records as batches, and keep them until they are stored."""
        if isinstance(self._delivered, Position):
            # KCL may read a page again when it restarts its fetcher; what this session has got already is on its way.
            known = bisect_right(range(columns.count), self._delivered, key=columns.position)
            if known == columns.count:
                return
            columns = columns.slice(known, columns.count) if known else columns
        for part in split(columns, self._delivered, self._batch_bytes):
            self._keep(part)

    def _keep(self, part: Part) -> None:
        columns = part.columns
        message = Batch(
            number=self._next_number,
            after=str(part.after),
            first=str(part.first),
            last=str(part.last),
            whole=None if part.whole is None else str(part.whole),
            count=columns.count,
            arrival_first=columns.arrival_of(0),
            arrival_last=columns.arrival_of(columns.count - 1),
            behind=self._behind,
            checksum=checksum(columns),
            lengths=batch_lengths(columns),
        )
        self._kept.append(_Kept(message, columns, part.whole))
        self._kept_bytes += columns.memory
        self._next_number += 1
        self._delivered = part.last

    def _tell_progress(self) -> list[Effect]:
        checkpoint = None if self._checkpointed is None else str(self._checkpointed)
        if self._link is Link.AWAY or self._link is Link.GREETING or self._told == (self._behind, checkpoint):
            return []
        self._told = (self._behind, checkpoint)
        return [Transmit(Progress(self._behind, checkpoint))]

    def _give_up_lease(self) -> list[Effect]:
        self._lease_gone = True
        self._kept.clear()
        self._kept_bytes = 0
        self._to_send = self._next_number
        self._awaiting = None
        self._connect_at = None
        return [Transmit(Leave())] if self._link in (Link.OPEN, Link.DRAINING) else []

    def checkpoint_result(self, error: str | None, now: float) -> list[Effect]:
        """The daemon answered a checkpoint; `error` is the simple name of a Java exception."""
        asked, self._checkpointing = self._checkpointing, None
        if asked is None:
            return self._exit(DaemonError("the daemon answered a checkpoint that nobody asked for"))
        self._checkpointed_at = now
        effects: list[Effect] = []
        if error is None:
            self._checkpointed = asked.position or self._checkpointed
            self._checkpoint_retry.reset()
            if asked.position is None:
                return [*self._finish(), *self._settle(now)]
        elif error in RETRIED_LATER:
            if not isinstance(self._action, ProcessRecords):
                # No later action will come to try again in.
                self._last_try = now >= self._give_up_at()
                self._checkpoint_at = now + self._checkpoint_retry.next()
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

    def connected(self, now: float) -> list[Effect]:
        """The socket is connected."""
        self._link = Link.GREETING
        self._awaiting = None
        self._flushed = self._end_asked = False
        self._told = None
        first = self._kept[0].message.number if self._kept else self._next_number
        hello = Hello(
            application=self._application,
            shard=self._shard,
            session=self._session,
            rank=self._rank,
            pid=self._pid,
            after=str(self._start),
            next_number=first,
        )
        return [Transmit(hello), *self._settle(now)]

    def disconnected(self, now: float) -> list[Effect]:
        """There is no connection: it could not be made, or it broke."""
        if self._link in (Link.OPEN, Link.DRAINING):
            self._away_since = now
            self._reconnect.reset()
        elif self._link is Link.GREETING and not self._greeted:
            self._away_since = min(self._away_since, now)
        self._link = Link.AWAY
        self._awaiting = None
        if not self._lease_gone:
            self._connect_at = now + self._reconnect.next()
        return self._settle(now)

    def message(self, message: Message, now: float) -> list[Effect]:
        """The generator says something."""
        try:
            self._hear(message, now)
        except ReceiverError as error:
            return self._exit(error)
        return self._settle(now)

    def _hear(self, message: Message, now: float) -> None:
        if isinstance(message, Refused):
            raise _refusal(message)
        if isinstance(message, Welcome):
            self._welcomed(message, now)
            return
        if self._link not in (Link.OPEN, Link.DRAINING):
            raise ProtocolError(f"the generator sent {type(message).__name__} before Welcome")
        if isinstance(message, Stored):
            self._stored(message.number, now)
        elif isinstance(message, Admitted):
            if message.number != self._awaiting:
                raise ProtocolError(f"batch {message.number} was admitted, {self._awaiting} was sent")
            self._awaiting = None
            self._progress_at = now
        elif isinstance(message, Draining):
            self._link = Link.DRAINING
            if self._awaiting is not None:
                self._to_send = self._awaiting
                self._awaiting = None
        elif isinstance(message, ShardEndConfirmed):
            self._end_confirmed = True
            self._progress_at = now
        else:
            raise ProtocolError(f"the generator sent {type(message).__name__}, which is not for a processor")

    def _welcomed(self, welcome: Welcome, now: float) -> None:
        first = self._kept[0].message.number if self._kept else self._next_number
        if self._link is not Link.GREETING or not first <= welcome.next_number <= self._next_number:
            raise ProtocolError(f"Welcome from batch {welcome.next_number} on, which was not expected")
        self._link = Link.OPEN
        self._greeted = True
        self._reconnect.reset()
        self._to_send = welcome.next_number
        self._progress_at = now
        self._batch_bytes = welcome.batch_bytes
        self._window_bytes = welcome.window_bytes
        self._checkpoint_interval = welcome.checkpoint_interval_millis / 1000
        self._generator_timeout = welcome.generator_timeout_millis / 1000
        self._store_timeout = welcome.store_timeout_millis / 1000
        self._drain = welcome.drain_millis / 1000

    def _stored(self, number: int, now: float) -> None:
        if number >= self._next_number or number >= (self._awaiting or self._next_number):
            raise ProtocolError(f"batch {number} was reported as stored and was never admitted")
        while self._kept and self._kept[0].message.number <= number:
            kept = self._kept.popleft()
            self._kept_bytes -= kept.columns.memory
            self._safe = kept.whole or self._safe
            self._progress_at = now
        self._to_send = max(self._to_send, number + 1)

    # ------------------------------------------------------------------ time

    def tick(self, now: float) -> list[Effect]:
        """Do what is due; to be called at `deadline`, and harmless at any other time."""
        effects: list[Effect] = []
        if self._connect_at is not None and now >= self._connect_at:
            self._connect_at = None
            effects.append(Connect())
        return [*effects, *self._settle(now)]

    def deadline(self) -> float | None:
        """When `tick` is next needed, None if nothing is due at any time."""
        times = [self._connect_at]
        if self._action is not None and self._checkpointing is None:
            times += [self._checkpoint_at, self._give_up_at()]
            if isinstance(self._action, ProcessRecords) and self._checkpoint_wanted():
                times.append((self._checkpointed_at or 0.0) + self._checkpoint_interval)
        return min((time for time in times if time is not None), default=None)

    def _give_up_at(self) -> float:
        if isinstance(self._action, ShutdownRequested):
            return self._action_since + self._drain
        if self._link is Link.AWAY:
            return max(self._away_since, self._action_since) + self._generator_timeout
        return self._progress_at + self._store_timeout

    # ------------------------------------------------------------------ the engine

    def _settle(self, now: float) -> list[Effect]:
        """Do everything that the present state allows; every event ends here."""
        if self._exited:
            return []
        effects = self._send_next()
        if self._action is None or self._checkpointing is not None:
            return effects
        if isinstance(self._action, Initialize | LeaseLost):
            return [*effects, *self._finish()]
        if isinstance(self._action, ProcessRecords):
            return [*effects, *self._settle_records(now)]
        if isinstance(self._action, ShardEnded):
            return [*effects, *self._settle_shard_end(now)]
        return [*effects, *self._settle_shutdown(now)]

    def _send_next(self) -> list[Effect]:
        """Send the next batch; one at a time, since the generator answers each when it has its place."""
        if self._link is not Link.OPEN or self._awaiting is not None or self._to_send >= self._next_number:
            return []
        kept = self._kept[self._to_send - self._kept[0].message.number]
        self._awaiting = self._to_send
        self._to_send += 1
        return [Transmit(kept.message, kept.columns)]

    def _all_admitted(self) -> bool:
        return (
            self._awaiting is None and self._to_send >= self._next_number and self._link in (Link.OPEN, Link.DRAINING)
        )

    def _settle_records(self, now: float) -> list[Effect]:
        due = self._checkpointed_at is None or now >= self._checkpointed_at + self._checkpoint_interval
        if self._checkpoint_wanted() and due:
            return self._checkpoint(self._safe)
        nothing_unsent = self._all_admitted() or not self._kept or self._lease_gone
        if nothing_unsent or (self._link is Link.DRAINING and self._kept_bytes <= self._window_bytes):
            return self._finish()
        return self._give_up_if_late(now)

    def _settle_shutdown(self, now: float) -> list[Effect]:
        effects = self._flush()
        sent = self._to_send if self._link is Link.DRAINING else self._next_number
        stored = not self._kept or self._kept[0].message.number >= sent
        late = now >= self._give_up_at()
        if not (stored or late):
            return effects
        if not self._checkpoint_wanted() or self._last_try:
            return [*effects, *self._finish()]
        if self._checkpoint_at is not None and now < self._checkpoint_at and not late:
            return effects
        # When time is over this is the last chance to save the next owner from reading again what is stored.
        self._checkpoint_at = None
        return [*effects, *self._checkpoint(self._safe)]

    def _settle_shard_end(self, now: float) -> list[Effect]:
        effects = self._flush()
        if self._kept:
            return [*effects, *self._give_up_if_late(now)]
        if not self._end_confirmed:
            if self._link in (Link.OPEN, Link.DRAINING) and not self._end_asked:
                self._end_asked = True
                effects.append(Transmit(ShardEnd(str(self._delivered))))
            return [*effects, *self._give_up_if_late(now)]
        if self._checkpoint_at is not None and now < self._checkpoint_at:
            return [*effects, *self._give_up_if_late(now)]
        self._checkpoint_at = None
        return [*effects, *self._checkpoint(None)]

    def _flush(self) -> list[Effect]:
        if self._flushed or not self._kept or self._link is not Link.OPEN or not self._all_admitted():
            return []
        self._flushed = True
        return [Transmit(Flush())]

    def _checkpoint_wanted(self) -> bool:
        if self._lease_gone or self._safe is None:
            return False
        return self._checkpointed is None or self._safe > self._checkpointed

    def _checkpoint(self, position: Position | None) -> list[Effect]:
        self._checkpointing = Checkpoint(position)
        return [self._checkpointing]

    def _finish(self) -> list[Effect]:
        action, self._action = self._action, None
        self._checkpoint_at = None
        return [] if action is None else [Done(action)]

    def _give_up_if_late(self, now: float) -> list[Effect]:
        if now < self._give_up_at():
            return []
        action = self._action.name if self._action is not None else "nothing"
        if self._link is Link.AWAY:
            return self._exit(
                GeneratorUnavailable(
                    f"{self._shard}: no generator answered for {self._generator_timeout:g} s during {action}",
                    "see why it is away in the generator's log; KCL reads again from the last checkpoint",
                )
            )
        return self._exit(
            StoreUnavailable(
                f"{self._shard}: nothing was stored for {self._store_timeout:g} s during {action}",
                "see what the store says in the generator's log; KCL reads again from the last checkpoint",
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
    if isinstance(kind, type) and issubclass(kind, ReceiverError):
        return kind(message.message, message.hint)
    return ProtocolError(f"{message.error}: {message.message}", message.hint)
