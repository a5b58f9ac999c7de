"""One lost range, from the Kinesis records that hold it to its columns, and the judgement on them.

A range is rebuilt if its records have the count and the checksum that were recorded when it was stored; nothing less is
called so. What is kept in memory for a range is never more than the range itself says that it holds: what goes beyond
is counted and thrown away, because it cannot be the range any more.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from enum import Enum
from itertools import chain, repeat
from typing import NamedTuple

from kcl_receiver.kinesis.deaggregate import WHOLE, HashRange, UserRecords, deaggregate
from kcl_receiver.ranges import Range
from kcl_receiver.wire.columns import Columns, VarColumn, checksum


class KinesisRecord(NamedTuple):
    """One record as GetRecords gives it.

    Attributes:
        sequence: Its sequence number.
        digits: The same as ASCII text.
        arrival: Approximate arrival time, milliseconds since the epoch; -1 if there is none.
        key: Partition key in UTF-8.
        data: Its data.
    """

    sequence: int
    digits: bytes
    arrival: int
    key: bytes
    data: bytes

    @property
    def size(self) -> int:
        """Bytes that the service counts."""
        return len(self.key) + len(self.data)


@dataclass(frozen=True, slots=True)
class Request:
    """A range that is to be read again.

    Attributes:
        range: What the ledger or a footer says of it.
        hash_range: That of its shard as two decimal strings (`aws.Shard.hash_range`, or the ledger's session); None if
            nobody knows it any more.
        block: The block that held it; for the caller alone.
    """

    range: Range
    hash_range: tuple[str, str] | None = None
    block: str = ""


class Outcome(Enum):
    """What became of a request.

    Attributes:
        REBUILT: The same records, proven by count and checksum.
        COUNT_DIFFERS: The stream gives another number of records than were stored: two deliveries of one place differ.
        CONTENT_DIFFERS: As many records as were stored, and another checksum.
        TRIMMED: The stream does not hold all of it any more.
        UNKNOWN: The stream says that it never gave this sequence number in this shard.
        GONE: The stream was deleted, or made again.
    """

    REBUILT = "rebuilt"
    COUNT_DIFFERS = "count differs"
    CONTENT_DIFFERS = "content differs"
    TRIMMED = "trimmed"
    UNKNOWN = "unknown"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Reread:
    """The answer to a request.

    Attributes:
        request: The request.
        outcome: What became of it.
        columns: The records if it is rebuilt; what is still there of it if it is trimmed; else None.
        found: Number of user records that the stream gave in the range.
        detail: A sentence for people; empty if it is rebuilt as a matter of course.
    """

    request: Request
    outcome: Outcome
    columns: Columns | None
    found: int
    detail: str = ""


class _Piece(NamedTuple):
    """User records of one Kinesis record that lie in the range; `first_sub` is the number of the first of them."""

    digits: bytes
    arrival: int
    first_sub: int
    keys: tuple[bytes, ...]
    data: tuple[bytes, ...]


class _Delivery:
    """What one delivery of the range would have been; kept while it can still be the one that was stored."""

    def __init__(self, expected: Range) -> None:
        self._expected = expected
        self._pieces: list[_Piece] = []
        self.count = 0
        self.size = 0

    def copy(self) -> _Delivery:
        """Return another one with the same records so far."""
        other = _Delivery(self._expected)
        other._pieces, other.count, other.size = self._pieces.copy(), self.count, self.size
        return other

    @property
    def is_kept(self) -> bool:
        """Whether its records are here, all of them."""
        return self.count <= self._expected.count and self.size <= self._expected.size

    def add(self, piece: _Piece) -> None:
        """Take further records."""
        if not piece.keys:
            return
        self.count += len(piece.keys)
        self.size += sum(map(len, piece.keys)) + sum(map(len, piece.data))
        if self.is_kept:
            self._pieces.append(piece)
        else:
            self._pieces.clear()

    def columns(self) -> Columns:
        """Return the records as the processor would have sent them."""
        pieces = self._pieces
        counts = [len(one.keys) for one in pieces]
        return Columns(
            count=self.count,
            sequence=VarColumn.of([*chain.from_iterable(map(repeat, (one.digits for one in pieces), counts))]),
            sub=array("q", chain.from_iterable(range(one.first_sub, one.first_sub + len(one.keys)) for one in pieces)),
            key=VarColumn.of([*chain.from_iterable(one.keys for one in pieces)]),
            arrival=array("q", chain.from_iterable(map(repeat, (one.arrival for one in pieces), counts))),
            data=VarColumn.of([*chain.from_iterable(one.data for one in pieces)]),
        )


class Rebuilding:
    """Collects the records of one range.

    Attributes:
        request: What is asked for.
        first: Sequence number at which the range begins.
        last: Sequence number at which it ends.
        begun: Reading has reached it from before it or at its beginning, so that nothing of it was passed over.
        broken: Reading was interrupted within it, so that records may have been trimmed in between.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.first = request.range.first.sequence_number
        self.last = request.range.last.sequence_number
        self.begun = False
        self.broken = False
        self._hash_range = HashRange.of(request.hash_range)
        self._delivery = _Delivery(request.range)
        self._undropped: _Delivery | None = None
        self._saw_first = False
        self._saw_last = False

    @property
    def missing_bytes(self) -> int:
        """Bytes of keys and data that are still to come, as far as can be told."""
        return max(0, self.request.range.size - self._delivery.size)

    @property
    def is_complete(self) -> bool:
        """Whether both ends were seen in one go, and enough in between: wrong records are not for want of trimmed ones.

        Fewer records can be what is left when retention passed the first one between two pages: only the stream's
        horizon tells.
        """
        enough = self._delivery.count >= self.request.range.count
        return self._saw_first and self._saw_last and enough and not self.broken

    def add(self, record: KinesisRecord) -> None:
        """Take what a Kinesis record within the two ends holds of the range."""
        self._saw_first = self._saw_first or record.sequence == self.first
        self._saw_last = self._saw_last or record.sequence == self.last
        users = deaggregate(record.key, record.data, self._hash_range)
        if users.dropped and self._hash_range != WHOLE:
            # KCL delivers it after all if it could not look the shard up; then all of the batch came so.
            if self._undropped is None:
                self._undropped = self._delivery.copy()
            self._undropped.add(self._piece(record, deaggregate(record.key, record.data)))
            return
        piece = self._piece(record, users)
        self._delivery.add(piece)
        if self._undropped is not None:
            self._undropped.add(piece)

    def _piece(self, record: KinesisRecord, users: UserRecords) -> _Piece:
        first, last = self.request.range.first, self.request.range.last
        start = first.sub_sequence_number if record.sequence == self.first else 0
        stop = last.sub_sequence_number + 1 if record.sequence == self.last else len(users.keys)
        return _Piece(
            record.digits, record.arrival, start, tuple(users.keys[start:stop]), tuple(users.data[start:stop])
        )

    def rebuilt(self) -> Reread | None:
        """Return the range if what was collected is it, else None."""
        for delivery in (self._delivery, self._undropped):
            if delivery is None or not delivery.is_kept or delivery.count != self.request.range.count:
                continue
            columns = delivery.columns()
            if checksum(columns) == self.request.range.checksum:
                detail = (
                    "" if delivery is self._delivery else "stored while KCL could not look up the shard's hash range"
                )
                return Reread(self.request, Outcome.REBUILT, columns, columns.count, detail)
        return None

    def differs(self) -> Reread:
        """Return the answer for a range that the stream holds, and whose records are not those that were stored."""
        expected, found = self.request.range.count, self._delivery.count
        if found == expected:
            detail = f"the stream gives {found} records as stored, but their checksum is another one"
            return Reread(self.request, Outcome.CONTENT_DIFFERS, None, found, detail)
        detail = (
            f"two deliveries of the same place differ: {expected} records were stored, the stream now gives {found}"
        )
        if self._undropped is not None:
            detail += f" ({self._undropped.count} with the aggregates that KCL drops for the shard's hash range)"
        return Reread(self.request, Outcome.COUNT_DIFFERS, None, found, detail)

    def trimmed(self) -> Reread:
        """Return the answer for a range that the stream does not hold any more, with what is left of it."""
        expected, found = self.request.range.count, self._delivery.count
        left = self._delivery.columns() if found and self._delivery.is_kept else None
        detail = f"the stream has trimmed it: {found} of {expected} records are still there"
        return Reread(self.request, Outcome.TRIMMED, left, found, detail)

    def unknown(self) -> Reread:
        """Return the answer for a range whose sequence number the stream does not know."""
        detail = f"the stream says that {self.first} is no sequence number of {self.request.range.shard}"
        return Reread(self.request, Outcome.UNKNOWN, None, 0, detail)
