"""Decides how the lost ranges of one shard are read again; it makes no call itself.

The driver asks `next` what to do, does it, and tells what came of it. Reading goes forward from range to range: on
through the records in between while that costs less than a call for a new iterator, else by such a call. An empty page
is no end. The ends are: a record past the range, the end of a closed shard, and the tip of an open one.

A range is called trimmed only if the stream itself said so: before a range that is not complete is given up, the first
record that the shard still holds is looked up (`Probe`). The ranges are known to have been in the stream once, so what
lies before that record was trimmed.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Protocol

from kcl_receiver.kinesis.rebuild import KinesisRecord, Rebuilding, Request, Reread

MAX_PAGE_RECORDS = 10_000
"""The service's own limit of a page."""
PAGE_BYTES = 2**20
"""A page is asked for by a number of records that makes about so many bytes: half of what a shard gives in a second."""
GAP_BYTES = 400_000
"""Bytes that are read past rather than asking for a new iterator: what a shard gives in the fifth of a second that such
a call costs at 5 calls a second. How many lie in a gap is estimated by arrival times and what was seen of the shard; an
estimate that is wrong is found out after so many, and costs twice what it must at most. Measured on the emulator with
a third of all ranges lost, 30 kB each: 3.7 times as fast as a call for each."""
FIRST_PAGE_RECORDS = 20
"""Until the size of the shard's Kinesis records is seen: user records do not tell that of aggregates."""
LEAST_BYTES = 64 * 1024
"""No page is asked for less: the remains of a range would cost a call of their own."""
TIP_PAGES = 3
"""Pages without records and with MillisBehindLatest 0, one behind another, that mean the tip of an open shard."""

_NOTHING_LEFT = 10**130
"""Beyond every sequence number."""


@dataclass(frozen=True, slots=True)
class Seek:
    """Get an iterator. `after` tells AFTER_SEQUENCE_NUMBER from AT_SEQUENCE_NUMBER. Then call `placed`."""

    sequence: int
    after: bool


@dataclass(frozen=True, slots=True)
class Read:
    """Get the next page, of at most `limit` records. Then call `page`."""

    limit: int


@dataclass(frozen=True, slots=True)
class Probe:
    """Look up the first record that the shard still holds. Then call `horizon`."""


@dataclass(frozen=True, slots=True)
class Start:
    """Get an iterator at the first record that the shard holds, or at the first one that arrived at `since` or later.

    `since` is in milliseconds since the epoch. Then call `placed`.
    """

    since: int | None


Action = Seek | Start | Read | Probe


class Course(Protocol):
    """What decides which calls are made for one shard; `ShardReader` makes them, and tells what came of them."""

    @property
    def shard(self) -> str:
        """Shard id."""

    def next(self) -> Action | None:
        """Return what to do, None if there is nothing to do."""

    def placed(self, seek: Seek | Start) -> None:
        """There is an iterator for what `next` asked for."""

    def displaced(self) -> None:
        """The iterator cannot be used any more: it expired."""

    def page(self, records: Sequence[KinesisRecord], *, behind: int, ended: bool) -> None:
        """Take a page; see `Lane.page`."""

    def horizon(self, sequence: int | None) -> None:
        """Take the answer to a `Probe`."""

    def unknown(self, seek: Seek) -> None:
        """The service says that the sequence number of a seek is none of this shard."""

    def shard_gone(self) -> None:
        """The stream does not have the shard any more: it was closed, and all in it is trimmed."""


class Lane:
    """The requests of one shard.

    Attributes:
        shard: Shard id.
        done: Answers that nobody has taken yet.
    """

    def __init__(self, shard: str) -> None:
        self.shard = shard
        self.done: list[Reread] = []
        self._pending: list[Rebuilding] = []
        self._unsure: list[Rebuilding] = []
        self._placed = False
        self._floor = 0
        self._horizon = -1
        self._gap = 0
        self._passed = 0
        self._arrivals = (-1, -1)
        self._idle_pages = 0
        self._record_bytes: float | None = None

    def add(self, request: Request) -> None:
        """Take a request."""
        insort(self._pending, Rebuilding(request), key=attrgetter("first", "last"))

    @property
    def is_idle(self) -> bool:
        """Whether nothing is asked for."""
        return not (self._pending or self._unsure)

    def next(self) -> Action | None:
        """Return what to do, None if there is nothing to do."""
        if self._unsure:
            return Probe()
        self._drop_trimmed()
        if not self._pending:
            return None
        if any(one.begun for one in self._pending):
            return Read(self._limit()) if self._placed else Seek(self._floor - 1, after=True)
        ahead = next((one for one in self._pending if one.first >= self._floor), None)
        if self._placed and ahead is not None and self._gap < GAP_BYTES:
            distance = self._distance(self._arrivals[1], ahead)
            if distance is None or distance < GAP_BYTES:
                return Read(self._limit())
        return Seek(self._pending[0].first, after=False)

    def placed(self, seek: Seek | Start) -> None:
        """There is an iterator for what `next` asked for."""
        self._placed = True
        self._gap = self._idle_pages = 0
        if isinstance(seek, Seek) and not seek.after:
            self._floor = seek.sequence
            self._passed = 0
            self._arrivals = (-1, -1)

    def displaced(self) -> None:
        """The iterator cannot be used any more: it expired."""
        self._placed = False
        for one in self._pending:
            one.broken = one.broken or one.begun

    def page(self, records: Sequence[KinesisRecord], *, behind: int, ended: bool) -> None:
        """Take a page.

        Args:
            records: Its records, in order.
            behind: MillisBehindLatest.
            ended: There is no iterator after it: the end of a closed shard.
        """
        if records:
            self._record_bytes = sum(one.size for one in records) / len(records)
        for record in records:
            if record.sequence >= self._floor:
                self._feed(record)
        self._idle_pages = self._idle_pages + 1 if not records and behind == 0 else 0
        if ended or self._idle_pages >= TIP_PAGES:
            self._placed = False
            for one in [one for one in self._pending if one.begun or one.first >= self._floor]:
                self._finish(one)

    def horizon(self, sequence: int | None) -> None:
        """The first record that the shard holds has this sequence number; None if it holds none."""
        self._horizon = max(self._horizon, _NOTHING_LEFT if sequence is None else sequence)
        unsure, self._unsure = self._unsure, []
        self.done.extend(one.trimmed() if one.first < self._horizon else one.differs() for one in unsure)

    def unknown(self, seek: Seek) -> None:
        """The service says that the sequence number of a seek is none of this shard."""
        waiting, self._pending = self._pending, []
        for one in waiting:
            if one.first == seek.sequence or (seek.after and one.begun):
                self.done.append(one.unknown())
            else:
                self._pending.append(one)

    def shard_gone(self) -> None:
        """The stream does not have the shard any more: it was closed, and all in it is trimmed."""
        self.done.extend(one.trimmed() for one in (*self._unsure, *self._pending))
        self._unsure, self._pending, self._placed = [], [], False
        self._horizon = _NOTHING_LEFT

    def _feed(self, record: KinesisRecord) -> None:
        needed = False
        finished: list[Rebuilding] = []
        for one in self._pending:
            if one.first > record.sequence:
                break
            if not one.begun and one.first < self._floor:
                continue  # it came too late for this way through the shard
            one.begun = needed = True
            if record.sequence <= one.last:
                one.add(record)
            if record.sequence >= one.last:
                finished.append(one)
        for one in finished:
            self._finish(one)
        self._floor = record.sequence + 1
        self._gap = 0 if needed else self._gap + record.size
        self._passed += record.size
        self._arrivals = (record.arrival if self._arrivals[0] < 0 else self._arrivals[0], record.arrival)

    def _finish(self, one: Rebuilding) -> None:
        self._pending.remove(one)
        answer = one.rebuilt() or (one.differs() if one.is_complete else None)
        if answer is None:
            self._unsure.append(one)
        else:
            self.done.append(answer)

    def _drop_trimmed(self) -> None:
        if not self._pending or self._pending[0].first >= self._horizon:
            return
        waiting, self._pending = self._pending, []
        for one in waiting:
            if one.last < self._horizon and not one.begun:
                self.done.append(one.trimmed())
            else:
                self._pending.append(one)

    def _distance(self, since: int, one: Rebuilding) -> float | None:
        """Return about how many bytes arrived between a moment and the beginning of a range; None if nobody knows."""
        first, last = self._arrivals
        if last <= first or min(first, since, one.request.range.arrival_first) < 0:
            return None
        return max(0, one.request.range.arrival_first - since) * self._passed / (last - first)

    def _limit(self) -> int:
        """Return how many Kinesis records to ask for: what is missing, with the gaps that will be read past."""
        if self._record_bytes is None:
            return FIRST_PAGE_RECORDS
        begun = [one for one in self._pending if one.begun]
        wanted = 1.1 * sum(one.missing_bytes for one in begun)
        since = max((one.request.range.arrival_last for one in begun), default=self._arrivals[1])
        for one in self._pending:
            if wanted >= PAGE_BYTES:
                break
            if one.begun or one.first < self._floor:
                continue
            distance = 0.0 if one.first == self._floor else self._distance(since, one)
            if distance is None:
                wanted += GAP_BYTES
                break
            if distance >= GAP_BYTES:
                break
            wanted += 1.1 * (distance + one.missing_bytes)
            since = max(since, one.request.range.arrival_last)
        wanted = min(max(wanted, LEAST_BYTES), PAGE_BYTES)
        return max(1, min(MAX_PAGE_RECORDS, round(wanted / max(self._record_bytes, 1.0))))
