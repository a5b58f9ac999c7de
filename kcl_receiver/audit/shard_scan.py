"""Reads one shard from its beginning on, each record once; it makes no call itself.

The driver asks `next` what to do, does it, and tells what came of it, as with `shard_reread.Lane`. An empty page is no
end. Where an iterator has expired, reading goes on AT the last record and not after it: if that record comes again,
nothing was trimmed in between; if it does not, the comparison is told so.
"""

from __future__ import annotations

from collections.abc import Sequence

from kcl_receiver.audit.compare import Comparison
from kcl_receiver.audit.stream_audit import Answer, End, Question
from kcl_receiver.kinesis.rebuild import KinesisRecord
from kcl_receiver.kinesis.shard_reread import MAX_PAGE_RECORDS, PAGE_BYTES, TIP_PAGES, Action, Read, Seek, Start

FIRST_PAGE_RECORDS = 100
"""Until the size of the shard's records is seen."""


class Walk:
    """One shard's way from its beginning to where enough is known.

    Args:
        question: What is asked.
        since: Begin at the first record that arrived then or later, in milliseconds since the epoch; None begins at the
            first one that the shard still holds.

    Attributes:
        answer: There when reading has ended, else None.
        behind: MillisBehindLatest of the last page; -1 before the first.
    """

    def __init__(self, question: Question, since: int | None) -> None:
        self.shard = question.shard
        self.answer: Answer | None = None
        self.behind = -1
        self._comparison = Comparison(question)
        self._since = since
        self._placed = False
        self._last: int | None = None
        self._repeats = False
        self._idle_pages = 0
        self._record_bytes: float | None = None

    def next(self) -> Action | None:
        """Return what to do, None if reading has ended."""
        if self.answer is not None:
            return None
        if not self._placed:
            return Start(self._since) if self._last is None else Seek(self._last, after=False)
        if self._record_bytes is None:
            return Read(FIRST_PAGE_RECORDS)
        return Read(max(1, min(MAX_PAGE_RECORDS, round(PAGE_BYTES / max(self._record_bytes, 1.0)))))

    def placed(self, seek: Seek | Start) -> None:
        """There is an iterator for what `next` asked for."""
        self._placed = True
        self._idle_pages = 0
        self._repeats = isinstance(seek, Seek)

    def displaced(self) -> None:
        """The iterator cannot be used any more: it expired."""
        self._placed = False

    def page(self, records: Sequence[KinesisRecord], *, behind: int, ended: bool) -> None:
        """Take a page.

        Args:
            records: Its records, in order.
            behind: MillisBehindLatest.
            ended: There is no iterator after it: the end of a closed shard.
        """
        self.behind = behind
        if records:
            self._record_bytes = sum(one.size for one in records) / len(records)
        for record in records:
            self._take(record)
        self._idle_pages = self._idle_pages + 1 if not records and behind == 0 else 0
        if ended:
            self._finish(End.SHARD_END)
        elif self._comparison.is_enough:
            self._finish(End.ENOUGH)
        elif self._idle_pages >= TIP_PAGES:
            self._finish(End.TIP)

    def horizon(self, sequence: int | None) -> None:
        """Nothing is looked up here."""

    def unknown(self, seek: Seek) -> None:  # noqa: ARG002 - what every course must take
        """The stream does not know the number of a record that it gave before: nothing more can be asked."""
        self._finish(End.BROKEN_OFF)

    def shard_gone(self) -> None:
        """The stream does not have the shard any more."""
        self._finish(End.GONE if self._last is None else End.BROKEN_OFF)

    def break_off(self) -> None:
        """Somebody stopped it."""
        self._finish(End.BROKEN_OFF)

    def _take(self, record: KinesisRecord) -> None:
        if self._repeats and self._last is not None and record.sequence > self._last:
            self._comparison.resumed(record.sequence)
        self._repeats = False
        if self._last is None or record.sequence > self._last:
            self._last = record.sequence
            self._comparison.record(record)

    def _finish(self, end: End) -> None:
        if self.answer is None:
            self.answer = self._comparison.finish(end)
