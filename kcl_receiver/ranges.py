"""Positions in a shard, and the ranges that every block carries.

A position is a pair of integers and is compared as one: sequence numbers are decimal strings of up to 129 digits, of
different lengths within one shard, so that comparing them as text orders them wrongly.

A range says which records of one shard lie in a block, and which position it follows (`after`). `after` is what the
daemon delivered before, never what was stored before: two ranges are linked only if one follows the end of the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

MAX_SEQUENCE_DIGITS = 129
"""Length limit of a sequence number in the Kinesis API reference: the pattern is 0|([1-9]\\d{0,128})."""

_SEQUENCE = re.compile(r"(?:0|[1-9][0-9]{0,128})\Z")
_SUB_SEQUENCE = re.compile(r"(?:0|[1-9][0-9]{0,18})\Z")
_USUAL_LENGTH = MAX_SEQUENCE_DIGITS + len(":0")
"""Nearly all positions are of plain records; a ledger has millions of them, and a regular expression takes its time."""
_MAX_SUB_SEQUENCE = 2**63 - 1
"""A Java long, and what a column of int64 holds."""

TRIM_HORIZON = "TRIM_HORIZON"
AT_TIMESTAMP = "AT_TIMESTAMP"
LATEST = "LATEST"
STARTING_POINTS = frozenset({TRIM_HORIZON, AT_TIMESTAMP, LATEST})
"""Words that KCL keeps in a lease instead of a sequence number until its first checkpoint."""
SHARD_END = "SHARD_END"
"""The word that KCL keeps in a lease once its shard was read to its end."""


class Position(NamedTuple):
    """A record's place in its shard; compares as two integers.

    The sub-sequence number orders the user records of one KPL-aggregated Kinesis record; a plain record has 0.
    """

    sequence_number: int
    sub_sequence_number: int = 0

    def __str__(self) -> str:
        return f"{self.sequence_number}:{self.sub_sequence_number}"


def parse_sequence_number(text: str) -> int:
    """Return a sequence number as an integer.

    Raises:
        ValueError: It is not a decimal number of 1 to 129 digits without leading zeros.
    """
    if _SEQUENCE.match(text) is None:
        shown = text if len(text) <= 140 else text[:137] + "..."
        raise ValueError(f"not a Kinesis sequence number (1 to {MAX_SEQUENCE_DIGITS} digits): {shown!r}")
    return int(text)


_made: Callable[[tuple[int, int]], Position] = partial(tuple.__new__, Position)
"""Makes a position in half the time."""


def parse_position(text: str) -> Position:
    """Return the position that `str(position)` wrote: `sequence:sub`, or `sequence` alone for sub 0.

    Raises:
        ValueError: The text is not of that form.
    """
    sequence, colon, sub = text.partition(":")
    usual = sub == "0" and text.isascii() and len(text) <= _USUAL_LENGTH and sequence[:1] != "0"
    if usual and sequence.encode().isdigit():  # text takes several times as long to tell whether it is of digits
        return _made((int(sequence), 0))
    if not colon:
        return Position(parse_sequence_number(sequence))
    if _SUB_SEQUENCE.match(sub) is None or int(sub) > _MAX_SUB_SEQUENCE:
        raise ValueError(f"not a sub-sequence number: {sub[:40]!r}")
    return Position(parse_sequence_number(sequence), int(sub))


After = Position | str
"""What a range follows: a position, or one of `STARTING_POINTS`."""


def parse_after(text: str) -> After:
    """Return a position or a starting point from its text.

    Raises:
        ValueError: The text is neither.
    """
    return text if text in STARTING_POINTS else parse_position(text)


class StreamIdentity(NamedTuple):
    """One stream and no other: a stream made again under its old name has another creation time.

    `created` is the StreamCreationTimestamp of DescribeStreamSummary in milliseconds since the epoch.
    """

    arn: str
    created: int

    def __str__(self) -> str:
        return f"{self.arn}@{self.created}"


class Arrivals(NamedTuple):
    """When the records of a range arrived. Within a shard arrival times need not rise.

    `oldest` and `newest` are milliseconds since the epoch, -1 if no arrival is known; `unknown` counts the records
    without one.
    """

    oldest: int
    newest: int
    unknown: int = 0

    def all_before(self, time: int) -> bool:
        """Return whether all records are known to have arrived before a time."""
        return not self.unknown and 0 <= self.newest < time


@dataclass(frozen=True, slots=True)
class Range:
    """The records of one shard from `first` to `last`, both inclusive, as they lie in one block.

    Attributes:
        shard: Shard id.
        session: Id of the processor's session that delivered them.
        after: The position or starting point that the first record followed when it was delivered.
        first: Position of the first record.
        last: Position of the last record.
        whole: Position of the last record in the range that ends its Kinesis record, or None where the range holds
            only the middle of one KPL aggregate. A checkpoint is made nowhere else.
        count: Number of user records.
        size: Bytes of keys and data.
        arrival_first: Approximate arrival time of the first record, milliseconds since the epoch; -1 if unknown. It
            says nothing of the records in between: see `arrivals`.
        arrival_last: The same of the last record.
        checksum: See `kcl_receiver.wire.columns.checksum`; 32 hexadecimal digits.
        first_row: Row of the block at which the range begins; -1 before the block is built.
        delivered: When KCL delivered it at the latest, by the service's clock, milliseconds since the epoch; -1 if not
            known. It tells whether something may have been trimmed that lies between `after` and `first`: see
            `kcl_receiver.horizon`.
        out_of_order: When its records arrived, where the two ends do not tell: one in between is older or younger than
            both, or of unknown arrival. Set when the block is built. Nothing but `arrivals` reads it.
    """

    shard: str
    session: str
    after: After
    first: Position
    last: Position
    whole: Position | None
    count: int
    size: int
    arrival_first: int
    arrival_last: int
    checksum: str
    first_row: int = -1
    delivered: int = -1
    out_of_order: Arrivals | None = None

    @property
    def arrivals(self) -> Arrivals:
        """When its records arrived: the one answer to whether they are old enough, or arrived in some time."""
        return self.out_of_order or self._arrivals_of_ends()

    def _arrivals_of_ends(self) -> Arrivals:
        first, last = self.arrival_first, self.arrival_last
        if self.count > 1 and first >= 0 and last >= 0:  # nearly all
            return Arrivals(first, last) if first < last else Arrivals(last, first)
        ends = (first, last)[: self.count]
        known = [at for at in ends if at >= 0]
        return Arrivals(min(known, default=-1), max(known, default=-1), len(ends) - len(known))

    def with_arrivals(self, found: Arrivals) -> Range:
        """Return the range with what is known of all its records."""
        told = None if found == self._arrivals_of_ends() else found
        return self if told == self.out_of_order else replace(self, out_of_order=told)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What is left out of the ranges of a shard that are kept in memory, or in the ledgers that a start reads.

    Attributes:
        through: A session that begins before this position needs what is left out.
        newest: When the newest record of it arrived, milliseconds since the epoch; -1 if not known.
    """

    through: Position
    newest: int

    def with_(self, other: Forgotten) -> Forgotten:
        """Return what is left out if this is, and something else of the shard, too."""
        newest = -1 if -1 in (self.newest, other.newest) else max(self.newest, other.newest)
        return Forgotten(max(self.through, other.through), newest)
