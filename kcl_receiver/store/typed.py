"""Block lines of a ledger, and footers of blocks, decoded by their type: both are mostly ranges.

It is several times as quick as taking a dictionary apart, and stricter. So it is only ever a short cut: what it does
not take is decoded the long way, which says what is wrong with it.
"""

from __future__ import annotations

import re

import msgspec

from kcl_receiver.ranges import STARTING_POINTS, After, Arrivals, Position, Range, parse_position

_POSITION = re.compile(r"(0|[1-9][0-9]{0,128}):(0|[1-9][0-9]{0,17})\Z")
"""What `ranges.parse_position` takes, but for texts that are nearly never there and are left to it."""


class ArrivalsLine(msgspec.Struct, gc=False):
    """When the records of a range arrived; see `Arrivals`."""

    oldest: int
    newest: int
    unknown: int


class RangeLine(msgspec.Struct, gc=False):
    """A range as footers and ledger keep it; see `Range`."""

    shard: str
    session: str
    after: str
    first: str = msgspec.field(name="from")
    last: str = msgspec.field(name="to")
    whole: str | None
    count: int
    size: int = msgspec.field(name="bytes")
    arrival_first: int = msgspec.field(name="arrival_from")
    arrival_last: int = msgspec.field(name="arrival_to")
    delivered: int
    checksum: str
    first_row: int
    arrivals: ArrivalsLine | None = None


class StreamLine(msgspec.Struct, gc=False):
    """A stream; see `StreamIdentity`."""

    arn: str
    created: int


class BlockLine(msgspec.Struct, tag_field="type", tag="block"):
    """A line that says that a block is durable; see `BlockStored`."""

    n: int
    prev: str
    block: str
    stream: StreamLine
    ranges: list[RangeLine]
    rows: int
    size: int
    time: int
    replaces: tuple[str, ...] = ()


class FooterLine(msgspec.Struct):
    """What a block says of itself in its footer; see `parquet.Footer`."""

    version: int
    block: str
    writer: str
    stream: StreamLine
    ranges: list[RangeLine]


class StreamOnly(msgspec.Struct):
    """The stream of a line that names one, and nothing else of it."""

    type: str
    stream: StreamLine | None = None


_MOST_ENDS = 4096
_ends: dict[str, Position] = {}
"""Where ranges end, by its text: a range that follows another one names that place, and long numbers cost the most."""

_DECODER = msgspec.json.Decoder(BlockLine)
_FOOTERS = msgspec.json.Decoder(FooterLine)
_STREAMS = msgspec.json.Decoder(StreamOnly)


def decode_block_line(line: bytes) -> BlockLine | None:
    """Return what a line says of a block, or None if it is no such line or not just as it should be."""
    try:
        return _DECODER.decode(line)
    except (ValueError, RecursionError, msgspec.DecodeError):
        return None


def decode_footer(text: bytes) -> FooterLine | None:
    """Return what a block's footer says, or None if it is not just as it should be."""
    try:
        return _FOOTERS.decode(text)
    except (ValueError, RecursionError, msgspec.DecodeError):
        return None


def decode_stream(line: bytes) -> StreamOnly | None:
    """Return the type and the stream of a ledger's line, or None if it is not just as it should be."""
    try:
        return _STREAMS.decode(line)
    except (ValueError, RecursionError, msgspec.DecodeError):
        return None


def range_of(raw: RangeLine) -> Range:
    """Return a range.

    Raises:
        ValueError: A position is none.
    """
    whole, arrivals = raw.whole, raw.arrivals
    after: After = raw.after
    if after not in STARTING_POINTS:
        after = _ends.pop(raw.after, None) or _position(raw.after)
    last = _position(raw.last)
    if len(_ends) >= _MOST_ENDS:
        _ends.clear()
    _ends[raw.last] = last
    return Range(
        raw.shard,
        raw.session,
        after,
        _position(raw.first),
        last,
        None if whole is None else last if whole == raw.last else _position(whole),
        raw.count,
        raw.size,
        raw.arrival_first,
        raw.arrival_last,
        raw.checksum,
        raw.first_row,
        raw.delivered,
        None if arrivals is None else Arrivals(arrivals.oldest, arrivals.newest, arrivals.unknown),
    )


def _position(text: str) -> Position:
    found = _POSITION.match(text)
    if found is None:
        return parse_position(text)
    sequence, sub = found.groups()
    return Position(int(sequence), int(sub))


def has_same_rows(raw: RangeLine, one: Range) -> bool:
    """Return whether a range is said to have the same rows at the same place: its checksum is over their positions."""
    return (
        raw.checksum == one.checksum
        and raw.shard == one.shard
        and raw.first_row == one.first_row
        and raw.count == one.count
        and raw.size == one.size
    )
