"""One shard: its place in the stream's hash range and family, and its records as they will be served.

A record is turned into the JSON of GetRecords once, when it is put. Reading a page is two searches by bisection and one
join of bytes, whatever the number of records.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kcl_receiver.emulator.kinesis.sequence import LAST_PLACE, Parts, compose

HASH_KEYS = 2**128
"""Number of hash keys: MD5 of a partition key, as an integer."""

PAGE_BYTES = 10 * 2**20
"""Data and keys that one GetRecords call returns at most, unless its first record alone is larger."""


def name_shard(number: int) -> str:
    """Return the id of a stream's shard of this number."""
    return f"shardId-{number:012d}"


class Page(NamedTuple):
    """What a read found.

    Attributes:
        records: JSON objects, ready to be joined.
        size: Bytes of data and keys in them.
        resume: Sequence number from which to read on (inclusive).
        waiting_since: Arrival time (ms) of the first record not returned, or None at the tip.
    """

    records: list[bytes]
    size: int
    resume: int
    waiting_since: int | None


@dataclass
class Shard:
    """One shard of a stream.

    Attributes:
        number: Its number in the stream; the shard id is made from it.
        start: First hash key of its range.
        end: Last hash key of its range, inclusive.
        created: Milliseconds since the epoch.
        epoch: The second that its sequence numbers carry.
        parent: Shard id that it was split or merged from.
        adjacent: Shard id of the other parent of a merge.
        children: Shard ids that came from it.
        closed: When it was closed, milliseconds, or None while it is open.
        ending: Its ending sequence number once it is closed; no record has it.
    """

    number: int
    start: int
    end: int
    created: int
    epoch: int
    parent: str | None = None
    adjacent: str | None = None
    children: list[str] = field(default_factory=list)
    closed: int | None = None
    ending: int | None = None

    last_place: int = 0
    last_sequence: int = 0
    last_arrival: int = 0
    total: int = 0
    _head: int = 0
    _sequences: list[int] = field(default_factory=list, repr=False)
    _wire: list[bytes] = field(default_factory=list, repr=False)
    _arrivals: array[int] = field(default_factory=lambda: array("q"), repr=False)
    _sizes: array[int] = field(default_factory=lambda: array("q", [0]), repr=False)

    def __post_init__(self) -> None:
        self.id = name_shard(self.number)
        self.starting = compose(Parts(self.epoch, self.number, 0, self.epoch, 0))
        self.last_sequence = max(self.last_sequence, self.starting)

    @property
    def is_open(self) -> bool:
        """Whether records can be put into it."""
        return self.closed is None

    @property
    def held(self) -> int:
        """Number of records that can still be read."""
        return len(self._sequences) - self._head

    @property
    def bytes_held(self) -> int:
        """Bytes of data and keys that can still be read."""
        return self._sizes[-1] - self._sizes[self._head]

    def covers(self, hash_key: int) -> bool:
        """Whether a hash key lies in its range."""
        return self.start <= hash_key <= self.end

    def next_sequence(self, step: int, noise: int, now: int) -> int:
        """Return the sequence number for a record put at `now` (ms), `step` places on."""
        return compose(Parts(self.epoch, self.number, self.last_place + step, now // 1000, noise))

    def append(self, sequence: int, place: int, arrival: int, wire: bytes, size: int) -> None:
        """Add a record: its number, the place in it, arrival time in ms, JSON, and bytes of data and key."""
        self._sequences.append(sequence)
        self._wire.append(wire)
        self._arrivals.append(arrival)
        self._sizes.append(self._sizes[-1] + size)
        self.last_place = place
        self.last_sequence = sequence
        self.last_arrival = arrival
        self.total += 1

    def close(self, now: int, ending: int, children: list[str]) -> None:
        """Take no more records."""
        self.closed = now
        self.ending = ending
        self.children = children

    def ending_at(self, now: int) -> int:
        """Return the ending sequence number for a shard closed at `now` (ms)."""
        return compose(Parts(self.epoch, self.number, LAST_PLACE, now // 1000, 0))

    def page(self, position: int, limit: int, size: int = PAGE_BYTES) -> Page:
        """Return records from `position` on: at most `limit`, and at most `size` bytes unless the first is larger."""
        first = bisect_left(self._sequences, position, lo=self._head)
        last = min(first + limit, len(self._sequences))
        if first < last:
            room = self._sizes[first] + size
            last = max(first + 1, min(last, bisect_left(self._sizes, room + 1, lo=first + 1, hi=last + 1) - 1))
        resume = self._sequences[last - 1] + 1 if last > first else position
        waiting = self._arrivals[last] if last < len(self._sequences) else None
        return Page(self._wire[first:last], self._sizes[last] - self._sizes[first], resume, waiting)

    def is_finished(self, position: int) -> bool:
        """Whether it is closed and holds nothing at `position` or after it."""
        return not self.is_open and bisect_left(self._sequences, position, lo=self._head) == len(self._sequences)

    def at_time(self, moment: int) -> int:
        """Return the position (inclusive) of the first record that arrived at `moment` (ms) or later."""
        row = bisect_left(self._arrivals, moment, lo=self._head)
        return self._sequences[row] if row < len(self._sequences) else self.last_sequence + 1

    def trim(self, before_arrival: int | None = None, through: int | None = None) -> int:
        """Drop records that arrived before a moment (ms), or up to a sequence number; return how many."""
        row = self._head
        if before_arrival is not None:
            row = max(row, bisect_left(self._arrivals, before_arrival, lo=self._head))
        if through is not None:
            row = max(row, bisect_left(self._sequences, through + 1, lo=self._head))
        dropped = row - self._head
        for old in range(self._head, row):
            self._wire[old] = b""
        self._head = row
        if self._head > 1024 and self._head * 2 > len(self._sequences):
            del self._sequences[: self._head], self._wire[: self._head]
            del self._arrivals[: self._head], self._sizes[: self._head]
            self._head = 0
        return dropped

    def describe(self) -> dict[str, Any]:
        """Return the `Shard` structure of the API."""
        numbers = {"StartingSequenceNumber": str(self.starting)}
        if self.ending is not None:
            numbers["EndingSequenceNumber"] = str(self.ending)
        out: dict[str, Any] = {
            "ShardId": self.id,
            "HashKeyRange": {"StartingHashKey": str(self.start), "EndingHashKey": str(self.end)},
            "SequenceNumberRange": numbers,
        }
        if self.parent is not None:
            out["ParentShardId"] = self.parent
        if self.adjacent is not None:
            out["AdjacentParentShardId"] = self.adjacent
        return out

    def describe_as_child(self) -> dict[str, Any]:
        """Return the `ChildShard` structure that GetRecords gives at the end of its parent."""
        return {
            "ShardId": self.id,
            "ParentShards": [parent for parent in (self.parent, self.adjacent) if parent is not None],
            "HashKeyRange": {"StartingHashKey": str(self.start), "EndingHashKey": str(self.end)},
        }
