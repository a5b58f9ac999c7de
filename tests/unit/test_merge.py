"""A merged block has the form of any other block, and is made in bounded memory."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from maintenance_support import STREAM, WRITER, fill, part
from places import Place
from store_support import block_range, ranges_in

from kcl_receiver.errors import BlockDamaged
from kcl_receiver.ids import block_id
from kcl_receiver.store.blocks import merge
from kcl_receiver.store.blocks.arrays import SCHEMA
from kcl_receiver.store.blocks.encode import MIN_ROW_GROUP_BYTES, BlockRange, encode_block
from kcl_receiver.store.blocks.merge import Source, merge_blocks
from kcl_receiver.store.store import Store

NEW = block_id(WRITER, 500)


def merged(
    store: Store, blocks: list[list[BlockRange]], slab_bytes: int = merge.SLAB_BYTES, compression: str = "none"
) -> bytes:
    sources = [Source(entry.block, entry.ranges) for entry in fill(store, blocks)]
    damaged: dict[str, str] = {}
    encoded = merge_blocks(store, sources, NEW, STREAM, compression, damaged, slab_bytes)
    assert encoded is not None
    assert damaged == {}
    assert tuple(one for one, _ in ranges_in(encoded, NEW)) == encoded.ranges
    return bytes(encoded.payload)


def row_groups(payload: bytes) -> list[int]:
    metadata = pq.read_metadata(pa.BufferReader(payload))
    return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]


def large(shard: int, first: int, count: int, size: int) -> BlockRange:
    return part(shard, first, count, data=b"x" * size)


SHAPES = [
    [[part(shard, 1 + 5 * n, 5) for shard in range(3)] for n in range(4)],
    [[large(shard, 1 + 40 * n, 40, 20_000) for shard in range(3)] for n in range(10)],
    [[large(0, 1 + 2 * n, 2, 3_000_000)] for n in range(4)],
    [[large(0, 1, 1, 9 * 2**20)], [large(0, 2, 1, 10)], [large(0, 3, 1, 9 * 2**20)]],
    [[large(0, 1, 2000, 9_000)], [large(0, 3000, 2, 10)]],
]


@pytest.mark.parametrize("slab_bytes", [1, 2_000_000, merge.SLAB_BYTES])
@pytest.mark.parametrize("shape", range(len(SHAPES)))
def test_it_is_the_block_that_a_generator_would_have_made(quick_place: Place, shape: int, slab_bytes: int) -> None:
    blocks = SHAPES[shape]
    payload = merged(quick_place(), blocks, slab_bytes)
    direct = encode_block(NEW, WRITER, STREAM, [one for block in blocks for one in block], "none")
    ours, theirs = (pq.ParquetFile(pa.BufferReader(pa.py_buffer(one))) for one in (payload, direct.payload))
    assert ours.schema_arrow.equals(theirs.schema_arrow)
    assert ours.schema_arrow.remove_metadata() == SCHEMA
    assert ours.read().equals(theirs.read())
    assert ours.metadata.metadata == theirs.metadata.metadata
    groups = [ours.metadata.row_group(n).total_byte_size for n in range(ours.num_row_groups)]
    assert len(groups) == 1 or min(groups) >= MIN_ROW_GROUP_BYTES * 0.98
    assert row_groups(payload) == row_groups(bytes(direct.payload))


def test_slabs_hold_no_more_than_they_may_or_one_range() -> None:
    ranges = [(block_range(*range(first, first + 10)).range, 0) for first in range(1, 400, 10)]
    for most in (1, 3_000, 50_000):
        slabs = list(merge._slabs(ranges, most))
        assert [one for slab in slabs for one in slab] == ranges
        for slab in slabs:
            assert len(slab) == 1 or sum(one.size + one.count * 72 for one, _ in slab) <= most


@pytest.mark.parametrize("slab_bytes", [600_000, 6_500_000])
def test_a_slab_holds_on_to_no_rows_but_its_own(quick_place: Place, slab_bytes: int) -> None:
    # With many shards, a slab takes a little of every block: it must not keep the whole of each in memory.
    store = quick_place()
    entries = fill(store, [[large(shard, 1 + 10 * n, 10, 10_000) for shard in range(20)] for n in range(5)])
    sources = [Source(entry.block, entry.ranges) for entry in entries]
    slab = next(merge._slabs(merge._placed(sources), slab_bytes))
    rows = merge._read_slab(store, sources, slab, {})
    wanted = sum(one.nbytes for one in rows)
    held = {
        buffer.address: buffer.size for one in rows for column in one.columns for buffer in column.buffers() if buffer
    }
    assert wanted > slab_bytes / 2
    assert sum(held.values()) < 1.2 * wanted


def test_only_the_row_groups_of_a_slab_are_read(quick_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = pq.ParquetFile.read_row_groups

    def noted(file: pq.ParquetFile, *args: object, **named: object) -> pa.Table:
        table = real(file, *args, **named)
        sizes.append(table.nbytes)
        return table

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", noted)
    big = [large(0, 1 + 100 * n, 100, 30_000) for n in range(10)]  # 30 MB in one block
    merged(quick_place(), [big, [part(1, 1, 5)]], slab_bytes=3_500_000)
    assert len(sizes) > 9
    assert sum(sizes) < 8 * 30_000_000  # one or two row groups of 8 MB for each of 10 slabs, then all of the new block


def test_what_was_written_is_read_back_before_it_is_given_out(
    quick_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = merge._RowGroups.add

    def altered(self: merge._RowGroups, rows: pa.RecordBatch) -> None:
        real(self, rows.set_column(2, rows.schema.field(2), pa.array([7] * rows.num_rows, pa.int64())))

    monkeypatch.setattr(merge._RowGroups, "add", altered)
    with pytest.raises(BlockDamaged):
        merged(quick_place(), [[part(0, 1, 5)], [part(0, 6, 5)]])


@pytest.mark.parametrize("compression", ["zstd", "zstd:9", "snappy", "lz4"])
def test_the_compression_is_the_one_that_was_asked_for(quick_place: Place, compression: str) -> None:
    payload = merged(quick_place(), [[part(0, 1, 50)], [part(0, 51, 50)]], compression=compression)
    column = pq.read_metadata(pa.BufferReader(payload)).row_group(0).column(5)
    assert column.compression.lower().startswith(compression.partition(":")[0])


def test_the_page_says_how_much_memory_it_takes() -> None:
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    assert f"the records of {merge.SLAB_BYTES // 2**20} MiB" in page
