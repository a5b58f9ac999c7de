"""Whether a block's footer says the same as the ledger, by their bytes.

A ledger line and a footer hold the ranges of a block as the same JSON text, so that most footers need not be taken
apart. It is only ever a short cut: whatever is not the same to the byte is compared the long way.
"""

from __future__ import annotations

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from kcl_receiver.store.arrays import SCHEMA
from kcl_receiver.store.base import FORMAT_VERSION
from kcl_receiver.store.entries import BlockStored
from kcl_receiver.store.names import writer_of
from kcl_receiver.store.parquet import FOOTER_KEY

_RANGES = b'"ranges":['
_AFTER_RANGES = b'],"rows":'


def footer_equals(file: pa.NativeFile, entry: BlockStored, line: bytes) -> bool:
    """Return whether a block's footer surely says what its ledger line says. False says nothing: look closer.

    Args:
        file: The block.
        entry: What the line says.
        line: The line of the ledger.
    """
    begin, end = line.find(_RANGES), line.rfind(_AFTER_RANGES)
    row = 0
    for one in entry.ranges:
        if one.first_row != row or one.count < 1:
            return False
        row += one.count
    if not 0 < begin < end:
        return False
    head = {
        "version": FORMAT_VERSION,
        "block": entry.block,
        "writer": writer_of(entry.block),
        "stream": entry.stream._asdict(),
    }
    expected = msgspec.json.encode(head)[:-1] + b"," + line[begin : end + 1] + b"}"
    try:
        # Not `metadata.schema`: the two then refer to each other, and stay in memory until cycles are looked for.
        parquet = pq.ParquetFile(file)
        metadata = parquet.metadata
        return bool(
            (metadata.metadata or {}).get(FOOTER_KEY.encode()) == expected
            and metadata.num_rows == row
            and parquet.schema_arrow.remove_metadata() == SCHEMA
        )
    except (pa.ArrowException, OSError):
        return False
