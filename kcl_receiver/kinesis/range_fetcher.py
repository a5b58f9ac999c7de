"""Reads lost ranges again from Kinesis: `RangeFetcher`, which makes the calls that `plan` and `shard_reread` decide on.

Several threads share the work. Each takes a shard, makes one call for it, and gives it back; so a shard that has to
wait for its limits holds up nobody. Whoever iterates takes requests in and hands answers out, and so bounds the memory:

    window           requests taken and not answered, `plan.cost` of each
  + workers x 60 MB  a page of 10 MB at worst, its text and what is made of it (estimate); `Lane` asks for 1 MiB
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from kcl_receiver import aws
from kcl_receiver.config.credentials import Access
from kcl_receiver.kinesis.call_threads import POLL, call_threads
from kcl_receiver.kinesis.plan import Plan, Work
from kcl_receiver.kinesis.rate_limit import Limits
from kcl_receiver.kinesis.rebuild import Outcome, Request, Reread
from kcl_receiver.kinesis.shard_client import PATIENCE, WORKERS, Manner, ShardReader, Stream, StreamLost
from kcl_receiver.kinesis.shard_reread import Lane
from kcl_receiver.ranges import StreamIdentity

WINDOW = 128 * 2**20


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a reading is.

    Attributes:
        ranges: Requests that have their answer.
        records: User records of those that are rebuilt.
        bytes: Keys and data received, gaps included.
        pages: GetRecords calls that were answered.
        failed: Calls that the service throttled or failed, and that were made again.
    """

    ranges: int = 0
    records: int = 0
    bytes: int = 0
    pages: int = 0
    failed: int = 0


def connect(access: Access) -> Any:  # noqa: ANN401 - boto3 has no types
    """Return a client for `RangeFetcher`, which does the pauses and the second tries itself.

    Raises:
        ConfigError: There is no region, or the endpoint is not a URL.
    """
    return aws.client(access, attempts=1)


class RangeFetcher:
    """Reads ranges again from the stream that they came from.

    Args:
        kinesis: What `connect` returns.
        by_arn: Name the stream by its ARN and not by its name, as for a stream of another account.
        workers: Threads; at most one call of each is under way.
        window: Bytes of requests under way; see `plan.cost`.
        limits: What to ask of each shard: less than the service's limits if a receiver is reading it, too.
        patience: Seconds without one good answer after which reading is given up.
        stop: Ends every iteration soon after it is set; what has no answer by then gets none.
        progress: Called after each call by one thread at a time; must be quick.
        clock: Seconds that rise.
        rng: Source of jitter.
    """

    def __init__(
        self,
        kinesis: Any,  # noqa: ANN401 - boto3 has no types
        *,
        by_arn: bool = False,
        workers: int = WORKERS,
        window: int = WINDOW,
        limits: Limits | None = None,
        patience: float = PATIENCE,
        stop: threading.Event | None = None,
        progress: Callable[[Progress], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self.kinesis = kinesis
        self.by_arn = by_arn
        self.workers = workers
        self.window = window
        self.manner = Manner(
            limits=limits or Limits(),
            patience=patience,
            clock=clock,
            rng=rng or random.Random(),  # noqa: S311 - spreads calls, keeps no secrets
        )
        self.stop = stop or threading.Event()
        self.progress = progress or (lambda _: None)

    def reread(self, stream: StreamIdentity, requests: Iterable[Request]) -> Iterator[Reread]:
        """Yield the answer to each request, as they come; of one shard mostly in the order of the stream.

        Requests are taken one by one as there is room. Those of one block had best be neighbours, and blocks in the
        order of time: what is asked for together is read in one go. Closing the iterator ends the reading.

        Raises:
            StreamUnavailable: AWS does not answer, does not allow it, or has throttled for longer than the patience.
        """
        return _Run(self, stream).answers(iter(requests))


class _Run:
    """One iteration: the threads, and what they share under one lock."""

    def __init__(self, rereader: RangeFetcher, stream: StreamIdentity) -> None:
        self._own = rereader
        self._stream = Stream(rereader.kinesis, stream, by_arn=rereader.by_arn)
        self._plan = Plan(rereader.window)
        self._readers: dict[str, ShardReader] = {}
        self._changed = threading.Condition()
        self._answers: deque[Reread] = deque()
        self._lost: str | None = None
        self._error: BaseException | None = None
        self._closing = False
        self._ranges = self._records = 0

    def answers(self, requests: Iterator[Request]) -> Iterator[Reread]:
        """Take requests in and hand answers out until there are no more, or the stop event is set."""
        try:
            self._stream.check_first(self._own.manner, self._own.stop)
        except StreamLost as error:
            self._lose(str(error))
        with call_threads(self._own.workers if self._lost is None else 0, "reread", self._work, self._leave):
            yield from self._hand_out(requests)

    def _leave(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def _hand_out(self, requests: Iterator[Request]) -> Iterator[Reread]:
        more = True
        while not self._own.stop.is_set():
            while more and self._plan.has_room:
                request = next(requests, None)
                if request is None:
                    more = False
                else:
                    self._take_in(request)
            with self._changed:
                if self._answers:
                    answer = self._answers.popleft()
                elif self._error is not None:
                    raise self._error
                elif self._plan.is_empty:
                    return
                else:
                    self._changed.wait(POLL)
                    continue
            yield answer
            with self._changed:
                self._plan.answered(answer)

    def _take_in(self, request: Request) -> None:
        with self._changed:
            self._plan.add(request)
            if self._lost is not None:
                self._lose(self._lost)
            self._changed.notify()

    def _lose(self, why: str) -> None:
        """Answer everything that has no answer yet: the stream is gone."""
        self._lost = why
        self._answers.extend(Reread(one, Outcome.GONE, None, 0, why) for one in self._plan.abandon())

    def _work(self) -> None:
        try:
            while (work := self._next_work()) is not None:
                lost: str | None = None
                try:
                    work.ready_at = self._reader(work.lane).step()
                except StreamLost as error:
                    lost = str(error)
                with self._changed:
                    self._answers.extend(self._count(self._plan.release(work)))
                    if lost is not None:
                        self._lose(lost)
                    self._own.progress(self._progress())
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that iterates
            with self._changed:
                self._error, self._closing = error, True
                self._changed.notify_all()

    def _next_work(self) -> Work | None:
        """Return a shard to make a call for, once there is one; None when it is time to leave."""
        with self._changed:
            while not self._closing:
                taken = self._plan.take(self._own.manner.clock())
                if isinstance(taken, Work):
                    return taken
                self._changed.wait(None if taken == float("inf") else taken)
            return None

    def _reader(self, lane: Lane) -> ShardReader:
        with self._changed:
            if lane.shard not in self._readers:
                self._readers[lane.shard] = ShardReader(self._stream, lane, self._own.manner)
            return self._readers[lane.shard]

    def _count(self, answers: list[Reread]) -> list[Reread]:
        self._ranges += len(answers)
        self._records += sum(one.found for one in answers if one.outcome is Outcome.REBUILT)
        return answers

    def _progress(self) -> Progress:
        each = self._readers.values()
        return Progress(
            ranges=self._ranges,
            records=self._records,
            bytes=sum(one.bytes for one in each),
            pages=sum(one.pages for one in each),
            failed=sum(one.failed for one in each),
        )
