"""What a block says of itself in its footer, and whether that is what the ledger says.

A ledger line and a footer hold the ranges of a block as the same JSON text, so most footers need not be taken apart.
The rule: a comparison by text is only ever a short cut. What is not the same to the byte is compared the long way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from kcl_receiver.ids import writer_of
from kcl_receiver.ranges import Range, StreamIdentity
from kcl_receiver.store.blocks.arrays import SCHEMA
from kcl_receiver.store.json_codec import decode, decode_wire, encode, read_json
from kcl_receiver.store.store import FORMAT_VERSION

FOOTER_KEY = "kcl_receiver"

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
    """

    version: int
    block: str
    writer: str
    stream: StreamIdentity
    ranges: tuple[Range, ...]

    @property
    def rows(self) -> int:
        """Number of its rows."""
        return sum(one.count for one in self.ranges)


class _Versioned(msgspec.Struct):
    """All that footers of any version have in common."""

    version: Any


_VERSIONS = msgspec.json.Decoder(_Versioned)


def footer_metadata(block_id: str, writer: str, stream: StreamIdentity, ranges: Sequence[Range]) -> dict[str, bytes]:
    """Return what a block says of itself, as its footer's metadata."""
    return {FOOTER_KEY: encode(Footer(FORMAT_VERSION, block_id, writer, stream, tuple(ranges)))}


def footer_of(parquet: pq.ParquetFile) -> Footer:
    """Return what a block says of itself; to be called where damage is expected.

    Raises:
        ValueError, LookupError: It is not a whole block.
    """
    own = _own_text(parquet)
    if not own:
        raise ValueError(f"its footer has no {FOOTER_KEY}")
    version = read_json(_VERSIONS, own).version
    if version != FORMAT_VERSION:
        raise ValueError(f"its format is of version {version!r}; this program knows {FORMAT_VERSION}")
    if not _has_columns(parquet):
        raise ValueError(f"its columns are not those of a block: {_difference(parquet.schema_arrow)}")
    footer = decode(Footer, own)
    rows = _rows_of(footer.ranges)
    if rows != parquet.metadata.num_rows:
        raise ValueError(f"it has {parquet.metadata.num_rows} rows, and its ranges {rows}")
    return footer


def has_text_of(
    parquet: pq.ParquetFile, block: str, stream: StreamIdentity, ranges: Sequence[Range], line: bytes
) -> bool:
    """Return whether a footer surely says what a line of the ledger says. False says nothing: look closer.

    Raises:
        ValueError: The ranges do not follow each other.
    """
    begin, end = line.find(_RANGES), line.rfind(_AFTER_RANGES)
    without_ranges = footer_metadata(block, writer_of(block), stream, ())[FOOTER_KEY]
    expected = without_ranges.removesuffix(_NO_RANGES) + line[begin : end + 1] + b"}"
    return bool(
        0 < begin < end
        and _own_text(parquet) == expected
        and parquet.metadata.num_rows == _rows_of(ranges)
        and _has_columns(parquet)
    )


def has_places(parquet: pq.ParquetFile, block: str, ranges: Sequence[Range]) -> bool:
    """Return whether a footer surely says that the rows of ranges are where these say. False says nothing.

    Its positions are not looked at.
    """
    try:
        said = decode_wire(Footer, _own_text(parquet))
    except ValueError:
        return False
    return (
        (said.version, said.block, len(said.ranges)) == (FORMAT_VERSION, block, len(ranges))
        and all(map(_has_same_rows, said.ranges, ranges))
        and _has_columns(parquet)
    )


def _has_same_rows(said: Any, one: Range) -> bool:  # noqa: ANN401 - a range's wire form
    """Return whether a range is said to have the same rows at the same place: its checksum is over their positions."""
    return bool(
        said.checksum == one.checksum
        and said.shard == one.shard
        and said.first_row == one.first_row
        and said.count == one.count
        and said.size == one.size
    )


def _own_text(parquet: pq.ParquetFile) -> bytes:
    own: bytes = (parquet.metadata.metadata or {}).get(FOOTER_KEY.encode(), b"")
    return own


def _has_columns(parquet: pq.ParquetFile) -> bool:
    # Not `metadata.schema`: the two then refer to each other, and stay in memory until cycles are looked for.
    return bool(parquet.schema_arrow.remove_metadata() == SCHEMA)


def _difference(schema: pa.Schema) -> str:
    found, expected = (
        [f"{one.name} {one.type}{' null' if one.nullable else ''}" for one in each] for each in (schema, SCHEMA)
    )
    extra, missing = (", ".join(sorted({*ours} - {*others})) for ours, others in ((found, expected), (expected, found)))
    return f"{extra or 'nothing'} in place of {missing or 'nothing'}" if extra or missing else "another order"


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
