"""Asks the stream what lies between the ranges of a store: `StreamAuditor`, the threads around `Walk` and `Comparison`.

Each shard is read once, from its beginning on, several at a time and each within its limits. Asking about each link by
an iterator of its own would be a fifth of a second for each; reading costs a second for 1 MB.

The limits are half of what a shard gives: somebody else reads it, too, the receiver above all, and it needs no more
than the other half to keep up, because a shard takes in no more than 1 MB a second.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from kcl_receiver.audit.shard_scan import Walk
from kcl_receiver.audit.stream_audit import Answer, Question
from kcl_receiver.errors import StreamGone, StreamReplaced
from kcl_receiver.kinesis.call_threads import POLL, call_threads
from kcl_receiver.kinesis.rate_limit import Limits
from kcl_receiver.kinesis.shard_client import PATIENCE, WORKERS, Manner, ShardReader, Stream, StreamLost
from kcl_receiver.ranges import StreamIdentity

HALF = Limits(calls=2.5, bytes=1_000_000.0)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is.

    Attributes:
        shards: Shards that have their answer.
        of: Shards that are asked.
        bytes: Keys and data received.
        pages: GetRecords calls that were answered.
        failed: Calls that the service throttled or failed, and that were made again.
        behind: Milliseconds that the shard that is furthest behind has still to read; -1 if not known yet.
    """

    shards: int = 0
    of: int = 0
    bytes: int = 0
    pages: int = 0
    failed: int = 0
    behind: int = -1


class StreamAuditor:
    """Compares shards of a stream with what is known of them.

    Args:
        kinesis: What `range_fetcher.connect` returns.
        by_arn: Name the stream by its ARN and not by its name, as for a stream of another account.
        since: Ask about what arrived then or later, in milliseconds since the epoch; None asks about all there is.
        workers: Threads; at most one call of each is under way.
        limits: What to ask of each shard.
        patience: Seconds without one good answer after which asking is given up.
        stop: Ends every shard soon after it is set; what was found so far is answered.
        progress: Called after each call by one thread at a time; must be quick.
        clock: Seconds that rise.
        rng: Source of jitter.
    """

    def __init__(
        self,
        kinesis: Any,  # noqa: ANN401 - boto3 has no types
        *,
        by_arn: bool = False,
        since: int | None = None,
        workers: int = WORKERS,
        limits: Limits = HALF,
        patience: float = PATIENCE,
        stop: threading.Event | None = None,
        progress: Callable[[Progress], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self.kinesis = kinesis
        self.by_arn = by_arn
        self.since = since
        self.workers = workers
        self.manner = Manner(
            limits=limits,
            patience=patience,
            clock=clock,
            rng=rng or random.Random(),  # noqa: S311 - spreads calls, keeps no secrets
        )
        self.stop = stop or threading.Event()
        self.progress = progress or (lambda _: None)

    def ask(self, stream: StreamIdentity, questions: Iterable[Question]) -> Iterator[Answer]:
        """Yield the answer to each question, as they come. Closing the iterator ends the asking.

        Raises:
            StreamGone: The stream was deleted.
            StreamReplaced: Another stream has its name.
            StreamUnavailable: AWS does not answer, does not allow it, or has throttled for longer than the patience.
        """
        return _Run(self, stream).answers(list(questions))


@dataclass(eq=False, slots=True)
class _Work:
    """One shard: `ready_at` is when its next call may be made, `busy` that a thread has it."""

    walk: Walk
    reader: ShardReader
    ready_at: float = float("-inf")
    busy: bool = False


class _Run:
    """One asking: the threads, and what they share under one lock."""

    def __init__(self, auditor: StreamAuditor, identity: StreamIdentity) -> None:
        self._own = auditor
        self._stream = Stream(auditor.kinesis, identity, by_arn=auditor.by_arn)
        self._changed = threading.Condition()
        self._all: list[_Work] = []
        self._left: list[_Work] = []
        self._answers: list[Answer] = []
        self._error: BaseException | None = None
        self._closing = False

    def answers(self, questions: list[Question]) -> Iterator[Answer]:
        """Hand the answers out until there are no more."""
        try:
            self._stream.check_first(self._own.manner, self._own.stop)
        except StreamLost as error:
            raise _lost(error) from error
        for question in questions:
            walk = Walk(question, self._own.since)
            self._all.append(_Work(walk, ShardReader(self._stream, walk, self._own.manner)))
        self._left = list(self._all)
        with call_threads(min(self._own.workers, len(self._all)), "against", self._work, self._leave):
            yield from self._hand_out(len(questions))

    def _leave(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def _hand_out(self, missing: int) -> Iterator[Answer]:
        while missing:
            with self._changed:
                if self._own.stop.is_set():
                    self._break_off()
                if not self._answers:
                    if self._error is not None:
                        raise self._error
                    self._changed.wait(POLL)
                    continue
                answer = self._answers.pop(0)
            missing -= 1
            yield answer

    def _break_off(self) -> None:
        """End every shard that no thread has now; those that one has, it ends itself."""
        for work in [one for one in self._left if not one.busy]:
            work.walk.break_off()
            self._release(work)

    def _work(self) -> None:
        try:
            while (work := self._next_work()) is not None:
                work.ready_at = work.reader.step()
                with self._changed:
                    work.busy = False
                    self._release(work)
                    self._own.progress(self._progress())
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that iterates
            with self._changed:
                self._error = _lost(error) if isinstance(error, StreamLost) else error
                self._closing = True
                self._changed.notify_all()

    def _release(self, work: _Work) -> None:
        if work.walk.answer is not None:
            self._left.remove(work)
            self._answers.append(work.walk.answer)

    def _next_work(self) -> _Work | None:
        """Return a shard to make a call for, once there is one; None when it is time to leave."""
        with self._changed:
            while not self._closing and self._left and not self._own.stop.is_set():
                now = self._own.manner.clock()
                free = [one for one in self._left if not one.busy]
                first = min(free, key=lambda one: one.ready_at, default=None)
                if first is not None and first.ready_at <= now:
                    first.busy = True
                    return first
                self._changed.wait(POLL if first is None else min(POLL, first.ready_at - now))
            return None

    def _progress(self) -> Progress:
        return Progress(
            shards=len(self._all) - len(self._left),
            of=len(self._all),
            bytes=sum(one.reader.bytes for one in self._all),
            pages=sum(one.reader.pages for one in self._all),
            failed=sum(one.reader.failed for one in self._all),
            behind=max((one.walk.behind for one in self._left), default=0),
        )


def _lost(error: StreamLost) -> StreamGone | StreamReplaced:
    """Return the error that a caller understands."""
    kind = StreamReplaced if error.replaced else StreamGone
    return kind(str(error), "what is stored of it can't be asked about any more; verify without --against-stream")
