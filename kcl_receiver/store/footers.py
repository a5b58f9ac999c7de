"""What a block says of itself in its footer, and whether that is what the ledger says.

A ledger line and a footer hold the ranges of a block as the same JSON text, so most footers need not be taken apart.
The rule: a comparison by text is only ever a short cut. What is not the same to the byte is compared the long way.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from kcl_receiver.ranges import Range, StreamIdentity
from kcl_receiver.store.base import FORMAT_VERSION
from kcl_receiver.store.names import writer_of
from kcl_receiver.store.parquet import FOOTER_KEY, SCHEMA, footer_metadata
from kcl_receiver.store.typed import decode_footer, has_same_rows, range_of

_RANGES = b'"ranges":['
_AFTER_RANGES = b'],"rows":'
_NO_RANGES = b'"ranges":[]}'


@dataclass(frozen=True, slots=True)
class Footer:
    """What a block says of itself.

    Attributes:
        version: Version of the format.
        block: Its id.
        writer: Id of its writer.
        stream: The stream that all its records are of.
        ranges: Its ranges, in the order of its rows.
        rows: Number of its rows.
    """

    version: int
    block: str
    writer: str
    stream: StreamIdentity
    ranges: tuple[Range, ...]
    rows: int


def footer_of(parquet: pq.ParquetFile) -> Footer:
    """Return what a block says of itself; to be called where damage is expected.

    Raises:
        ValueError, LookupError: It is not a whole block.
    """
    own = _own_text(parquet)
    if not own:
        raise ValueError(f"its footer has no {FOOTER_KEY}")
    typed = decode_footer(own)
    raw: Any = json.loads(own) if typed is None else {"version": typed.version}
    version = raw["version"] if isinstance(raw, dict) else None
    if version != FORMAT_VERSION:
        raise ValueError(f"its format is of version {version!r}; this program knows {FORMAT_VERSION}")
    if not _has_columns(parquet):
        raise ValueError("its columns are not those of a block")
    if typed is not None:
        stream = StreamIdentity(typed.stream.arn, typed.stream.created)
        block, writer, ranges = typed.block, typed.writer, tuple(map(range_of, typed.ranges))
    else:
        try:
            stream = StreamIdentity(str(raw["stream"]["arn"]), int(raw["stream"]["created"]))
            block, writer, ranges = str(raw["block"]), str(raw["writer"]), tuple(map(Range.from_json, raw["ranges"]))
        except (TypeError, AttributeError) as error:  # JSON of another form
            raise ValueError(str(error)) from error
    rows = _rows_of(ranges)
    if rows != parquet.metadata.num_rows:
        raise ValueError(f"it has {parquet.metadata.num_rows} rows, and its ranges {rows}")
    return Footer(FORMAT_VERSION, block, writer, stream, ranges, rows)


def has_text_of(
    parquet: pq.ParquetFile, block: str, stream: StreamIdentity, ranges: Sequence[Range], line: bytes
) -> bool:
    """Return whether a footer surely says what a line of the ledger says. False says nothing: look closer.

    Raises:
        ValueError: The ranges do not follow each other.
    """
    begin, end = line.find(_RANGES), line.rfind(_AFTER_RANGES)
    without_ranges = footer_metadata(block, writer_of(block), stream, ())[FOOTER_KEY].encode()
    expected = without_ranges.removesuffix(_NO_RANGES) + line[begin : end + 1] + b"}"
    return bool(
        0 < begin < end
        and _own_text(parquet) == expected
        and parquet.metadata.num_rows == _rows_of(ranges)
        and _has_columns(parquet)
    )


def has_places(parquet: pq.ParquetFile, block: str, ranges: Sequence[Range]) -> bool:
    """Return whether a footer surely says that the rows of ranges are where these say. False says nothing."""
    said = decode_footer(_own_text(parquet))
    return (
        said is not None
        and (said.version, said.block, len(said.ranges)) == (FORMAT_VERSION, block, len(ranges))
        and all(map(has_same_rows, said.ranges, ranges))
        and _has_columns(parquet)
    )


def _own_text(parquet: pq.ParquetFile) -> bytes:
    own: bytes = (parquet.metadata.metadata or {}).get(FOOTER_KEY.encode(), b"")
    return own


def _has_columns(parquet: pq.ParquetFile) -> bool:
    # Not `metadata.schema`: the two then refer to each other, and stay in memory until cycles are looked for.
    return bool(parquet.schema_arrow.remove_metadata() == SCHEMA)


def _rows_of(ranges: Sequence[Range]) -> int:
    """Return the rows of a block's ranges together.

    Raises:
        ValueError: They do not follow each other.
    """
    row = 0
    for one in ranges:
        if one.first_row != row or one.count < 1:
            raise ValueError(f"its ranges do not follow each other at row {row}")
        row += one.count
    return row
