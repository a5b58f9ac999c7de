"""The batches of one session that are not stored, as far as its processor knows.

They are numbered as they are delivered, sent one at a time in that order, and forgotten when the generator reports them
stored, in that order as well. `safe` moves with the reports alone: nothing else may decide what is checkpointed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass

from kcl_receiver.errors import ProtocolError
from kcl_receiver.processor.split import Part, split
from kcl_receiver.ranges import After, Position
from kcl_receiver.wire.columns import Columns, checksum
from kcl_receiver.wire.frames import batch_lengths
from kcl_receiver.wire.messages import Batch


@dataclass(frozen=True, slots=True)
class Kept:
    """One batch; `whole` is the last position in it that ends its Kinesis record, or None."""

    message: Batch
    columns: Columns
    whole: Position | None


class Outbox:
    """The queue of batches from delivery to stored; see the module's docstring.

    Args:
        start: Where reading began.

    Attributes:
        delivered: What the next record will follow: the last position delivered, or where reading began.
        safe: Last position that ends a Kinesis record and through which everything is stored; None before there is one.
        bytes: Bytes that the columns of all kept batches hold.
        next_number: Number of the next batch to be delivered.
        awaiting: Number of the batch that was sent and is not admitted, or None.
    """

    def __init__(self, start: After) -> None:
        self.delivered = start
        self.safe = start if isinstance(start, Position) else None
        self.bytes = 0
        self.next_number = 1
        self.awaiting: int | None = None
        self._batches: deque[Kept] = deque()
        self._to_send = 1
        self._ever_sent = 0
        self._ever_admitted = 0

    def __bool__(self) -> bool:
        return bool(self._batches)

    @property
    def first(self) -> int:
        """Number of the first batch that is kept, or of the next one."""
        return self._batches[0].message.number if self._batches else self.next_number

    @property
    def all_sent(self) -> bool:
        """True if the present generator has admitted all that is kept, or is being sent the last of it."""
        return self._to_send >= self.next_number

    @property
    def all_admitted(self) -> bool:
        """True if the present generator has admitted all that is kept."""
        return self.awaiting is None and self.all_sent

    @property
    def left_behind(self) -> int:
        """Bytes of the last batch if it is not admitted: it may have been left so by the delivery that brought it."""
        return 0 if self.all_admitted or not self._batches else self._batches[-1].columns.memory

    @property
    def admitted_is_stored(self) -> bool:
        """True if nothing is kept but what the present generator has not admitted."""
        return self.first >= (self.awaiting or self._to_send)

    def take(self, columns: Columns, limit: int, behind: int, at: int) -> None:
        """Number the records that were delivered at a time as batches of at most `limit` bytes, and keep them.

        KCL may read a page again when it restarts its fetcher; what this session has got already is on its way.
        """
        if isinstance(self.delivered, Position):
            known = bisect_right(range(columns.count), self.delivered, key=columns.position)
            if known == columns.count:
                return
            columns = columns.slice(known, columns.count) if known else columns
        for part in split(columns, self.delivered, limit):
            self._keep(part, behind, at)

    def _keep(self, part: Part, behind: int, at: int) -> None:
        columns = part.columns
        message = Batch(
            number=self.next_number,
            after=str(part.after),
            first=str(part.first),
            last=str(part.last),
            whole=None if part.whole is None else str(part.whole),
            count=columns.count,
            arrival_first=columns.arrival_of(0),
            arrival_last=columns.arrival_of(columns.count - 1),
            behind=behind,
            at=at,
            checksum=checksum(columns),
            lengths=batch_lengths(columns),
        )
        self._batches.append(Kept(message, columns, part.whole))
        self.bytes += columns.memory
        self.next_number += 1
        self.delivered = part.last

    def resume(self, number: int) -> None:
        """The generator has got every batch before `number`.

        Raises:
            ProtocolError: It names a batch that cannot be next: one before it was never sent to anybody.
        """
        last = max(self.first, self._ever_sent + 1)
        if not self.first <= number <= last:
            raise ProtocolError(f"Welcome from batch {number} on; {self.first} to {last} could be next")
        self.awaiting = None
        self._to_send = number

    def send(self) -> Kept | None:
        """Return the next batch to be sent, None if one is on its way or there is none."""
        if self.awaiting is not None or self._to_send >= self.next_number:
            return None
        self.awaiting = self._to_send
        self._ever_sent = max(self._ever_sent, self.awaiting)
        self._to_send += 1
        return self._batches[self.awaiting - self.first]

    def admitted(self, number: int) -> bool:
        """The batch has its place in the window; return whether it is the first time that it got one.

        Raises:
            ProtocolError: Another batch was sent.
        """
        if number != self.awaiting:
            raise ProtocolError(f"batch {number} was admitted, {self.awaiting} was sent")
        self.awaiting = None
        new = number > self._ever_admitted
        self._ever_admitted = max(self._ever_admitted, number)
        return new

    def stored(self, number: int) -> bool:
        """Everything through this batch is stored; return whether that is news.

        Raises:
            ProtocolError: The batch was not admitted.
        """
        if number >= (self.awaiting or self._to_send):
            raise ProtocolError(f"batch {number} was reported as stored and was never admitted")
        news = self.first <= number
        while self._batches and self._batches[0].message.number <= number:
            kept = self._batches.popleft()
            self.bytes -= kept.columns.memory
            self.safe = kept.whole or self.safe
        return news

    def drop(self) -> None:
        """Forget all of it: the lease is lost."""
        self._batches.clear()
        self.bytes = 0
        self._to_send = self.next_number
        self.awaiting = None
