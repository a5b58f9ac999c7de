"""The records of one shard without end, as GetRecords writes them: made once, and from then on only patched in place.

A reel holds some thousand records, all distinct, serialised before any clock runs. When its last one was served, the
next round begins: the same bytes, but for the digits of the round in every sequence number and in the data, and the
arrival time. All records have one length, so that a digit is one column of the reel, and only digits that differ from
the round before are written. So every record of a run has its own sequence number and its own data, at the cost of a
few bytes each; what is repeated lies megabytes apart, and no compression of a block's column reaches so far back.
"""

from __future__ import annotations

import random
from binascii import b2a_base64
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from benchmarks.harness.events import event_maker
from benchmarks.harness.workload import PAGE_BYTES, PAGE_RECORDS, shard_id

PREFIX_DIGITS, ROUND_DIGITS, ROW_DIGITS, CHANCE_DIGITS = 22, 7, 5, 22
"""A sequence number has 56 digits, as those of Kinesis have; its low digits look like chance, as theirs do."""
ROUND_AT = PREFIX_DIGITS
ROW_AT = ROUND_AT + ROUND_DIGITS
CHANCE_AT = ROW_AT + ROW_DIGITS

MARK_AT, MARK_DIGITS = 15, 9
"""Where an event's data says its round: digits of its event_id, at a multiple of 3 as base64 wants it."""

KEY_CHARACTERS = 13
_ARRIVAL_CHARACTERS = 16

_BEFORE_SEQUENCE = b'{"SequenceNumber":"'
_BEFORE_ARRIVAL = b'","ApproximateArrivalTimestamp":'
_BEFORE_DATA = b',"Data":"'
_BEFORE_KEY = b'","PartitionKey":"'
_END = b'"},'


class Record(NamedTuple):
    """One record as it must come out."""

    sequence_number: str
    partition_key: str
    arrival: int
    data: bytes


@dataclass(frozen=True, slots=True)
class ReelSpec:
    """What the records of a run are.

    Attributes:
        size: Bytes of a record's data.
        rows: Records of a reel; the next round begins after so many.
        first_arrival: Arrival time of the first round, in milliseconds since the epoch.
        round_millis: How much later the next round arrived.
        seed: Decides the rest of every byte.
    """

    size: int
    rows: int
    first_arrival: int
    round_millis: int = 1
    seed: int = 6

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)

    @property
    def page_records(self) -> int:
        """Most records of a page: GetRecords returns at most 10,000 of them, or 10 MiB."""
        return min(PAGE_RECORDS, PAGE_BYTES // (self.size + KEY_CHARACTERS))


class Reel:
    """The records of one shard; a record's serial number counts from 0.

    Args:
        spec: What they are.
        number: The shard's number.

    Raises:
        ValueError: A row's number would need more digits.
    """

    def __init__(self, spec: ReelSpec, number: int) -> None:
        if not 0 < spec.rows < 10**ROW_DIGITS:
            raise ValueError(f"a reel has 1 to {10**ROW_DIGITS - 1} rows, not {spec.rows}")
        self.spec = spec
        self.shard = shard_id(number)
        rng = random.Random(f"{spec.seed}-{number}")
        make = event_maker("json", rng)
        self.prefix = f"{4959033827149025660855 + number:0{PREFIX_DIGITS}d}"
        self.chances = [f"{rng.randrange(10**CHANCE_DIGITS):0{CHANCE_DIGITS}d}" for _ in range(spec.rows)]
        self.keys = [f"device-{rng.randrange(10**6):06d}" for _ in range(spec.rows)]
        self.events = [make(row, spec.size) for row in range(spec.rows)]
        self._bytes = bytearray(b"".join(self._row(row) for row in range(spec.rows)))
        self._view = memoryview(self._bytes)
        self._stride = len(self._bytes) // spec.rows
        self._said = {offset: b"" for offset, _ in self._marks(0)}
        self._turn_to(0)

    def _row(self, row: int) -> bytes:
        sequence = f"{self.prefix}{0:0{ROUND_DIGITS}d}{row:0{ROW_DIGITS}d}{self.chances[row]}"
        parts = (
            _BEFORE_SEQUENCE,
            sequence.encode(),
            _BEFORE_ARRIVAL,
            bytes(_ARRIVAL_CHARACTERS),
            _BEFORE_DATA,
            b2a_base64(self.events[row], newline=False),
            _BEFORE_KEY,
            self.keys[row].encode(),
            _END,
        )
        return b"".join(parts)

    def _marks(self, round_: int) -> list[tuple[int, bytes]]:
        """Return what all records of a round have in common: its place in a row, and its characters."""
        sequence_at = len(_BEFORE_SEQUENCE)
        arrival_at = sequence_at + CHANCE_AT + CHANCE_DIGITS + len(_BEFORE_ARRIVAL)
        data_at = arrival_at + _ARRIVAL_CHARACTERS + len(_BEFORE_DATA)
        millis = str(self.arrival(round_))
        return [
            (sequence_at + ROUND_AT, f"{round_:0{ROUND_DIGITS}d}".encode()),
            (arrival_at, f"{millis[0]}.{millis[1:]}E9".encode()),
            (data_at + MARK_AT // 3 * 4, b2a_base64(mark(round_), newline=False)),
        ]

    def _turn_to(self, round_: int) -> None:
        for offset, characters in self._marks(round_):
            said = self._said[offset]
            for place, character in enumerate(characters):
                if said[place : place + 1] != characters[place : place + 1]:
                    self._bytes[offset + place :: self._stride] = bytes((character,)) * self.spec.rows
            self._said[offset] = characters
        self.round = round_

    def arrival(self, round_: int) -> int:
        """Return when the records of a round arrived, in milliseconds since the epoch."""
        return self.spec.first_arrival + round_ * self.spec.round_millis

    def turns(self, serial: int) -> bool:
        """Tell whether a page from this serial number on changes the bytes of the pages given before."""
        return serial // self.spec.rows != self.round

    def owns(self, piece: bytes | memoryview) -> bool:
        """Tell whether a piece of bytes lies in this reel, and not in a copy."""
        return isinstance(piece, memoryview) and piece.obj is self._bytes

    def page(self, serial: int, most: int) -> tuple[memoryview, int]:
        """Return the records from a serial number on, separated by commas, and how many they are.

        At most as many as a page may have, and none of the next round. The bytes hold until the round is another.
        """
        round_, row = divmod(serial, self.spec.rows)
        count = max(min(most, self.spec.page_records, self.spec.rows - row), 0)
        if count == 0:
            return self._view[:0], 0
        if self.turns(serial):
            self._turn_to(round_)
        return self._view[row * self._stride : (row + count) * self._stride - 1], count

    def record(self, serial: int) -> Record:
        """Return what the record of a serial number holds; made from its values, not from the served bytes."""
        round_, row = divmod(serial, self.spec.rows)
        event = self.events[row]
        return Record(
            sequence_number=f"{self.prefix}{round_:0{ROUND_DIGITS}d}{row:0{ROW_DIGITS}d}{self.chances[row]}",
            partition_key=self.keys[row],
            arrival=self.arrival(round_),
            data=event[:MARK_AT] + mark(round_) + event[MARK_AT + MARK_DIGITS :],
        )

    def serial(self, sequence_number: str) -> int:
        """Return the serial number of a record.

        Raises:
            ValueError: It is no record of this shard.
        """
        found = serial_of(sequence_number, self.spec.rows)
        if self.record(found).sequence_number != sequence_number:
            raise ValueError(f"{self.shard} has no record {sequence_number}")
        return found


def mark(round_: int) -> bytes:
    """Return the digits that an event's data has of its round."""
    return f"{round_:0{MARK_DIGITS}d}".encode()


def serial_of(sequence_number: str, rows: int) -> int:
    """Return the serial number that stands in a sequence number.

    Raises:
        ValueError: No reel of so many rows has it.
    """
    round_, row = sequence_number[ROUND_AT:ROW_AT], sequence_number[ROW_AT:CHANCE_AT]
    if not (round_.isdecimal() and row.isdecimal() and int(row) < rows):
        raise ValueError(f"no record has the sequence number {sequence_number}")
    return int(round_) * rows + int(row)
