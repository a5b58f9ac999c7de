"""An open block: what is read of it, what is checked, and what a damaged one still gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from maintenance_support import fake_store, fill, part
from store_support import STREAM, WRITER, block_range

from kcl_receiver import read
from kcl_receiver.errors import BlockDamaged
from kcl_receiver.ids import block_id
from kcl_receiver.ranges import Position
from kcl_receiver.store.blocks import encode as parquet
from kcl_receiver.store.blocks.encode import BlockRange, EncodedBlock, encode_block
from kcl_receiver.store.blocks.file import SMALL_FILE_BYTES, BlockFile, RangeDamaged, salvage
from kcl_receiver.store.layout import block_path

BLOCK = block_id(WRITER, 1)


def encode(*ranges: BlockRange) -> EncodedBlock:
    return encode_block(BLOCK, WRITER, STREAM, ranges, "none")


class Counted:
    """A block whose reads are counted."""

    def __init__(self, block: EncodedBlock) -> None:
        self._file = block.open_block(BLOCK)
        self.bytes = 0
        self.closed = False
        self.mode = "rb"

    def open_block(self, _block: str) -> pa.NativeFile:
        return pa.PythonFile(self)

    def read(self, size: int = -1) -> bytes:
        piece = bytes(self._file.read(size))
        self.bytes += len(piece)
        return piece

    def seek(self, at: int, whence: int = 0) -> int:
        return int(self._file.seek(at, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The row groups that were decoded."""
    groups: list[int] = []
    real = pq.ParquetFile.read_row_groups

    def counted(file: pq.ParquetFile, wanted: list[int], **named: object) -> pa.Table:
        groups.extend(wanted)
        return real(file, wanted, **named)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", counted)
    return groups


def test_the_footer_is_read_without_the_rows() -> None:
    counted = Counted(encode(part(0, 1, 90, data=bytes(8000))))
    with BlockFile(counted, BLOCK) as file:
        assert len(file.footer.ranges) == 1
        assert counted.bytes < SMALL_FILE_BYTES / 4
        assert len(file.positions(file.footer.ranges[0])) == 90
    assert counted.closed


def test_ranges_that_lie_end_to_end_come_together_and_each_row_group_is_decoded_once(
    monkeypatch: pytest.MonkeyPatch, decoded: list[int]
) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 40_000)
    monkeypatch.setattr(parquet, "MIN_ROW_GROUP_BYTES", 1)
    block = encode(*(part(shard, 1, 10, data=bytes(1000)) for shard in range(12)))
    with BlockFile(block, BLOCK) as file:
        runs = [(count, rows.num_rows) for count, rows in file.rows(block.ranges)]
        assert sum(count for count, _ in runs) == 12
        assert sum(rows for _, rows in runs) == 120
        assert len(runs) < 12
        assert decoded == sorted(set(decoded))
        assert len(decoded) > 2
        decoded.clear()
        ((_, rows),) = file.rows([block.ranges[5]], ("partition_key",), check=False)
        assert (rows.schema.names, rows.num_rows) == (["partition_key"], 10)
        assert len(decoded) <= 2


def test_what_comes_before_a_damaged_range_is_handed_out() -> None:
    block = encode(block_range(1, 2), block_range(3, 4, after=Position(2)), block_range(5, after=Position(4)))
    first, second, third = block.ranges
    with BlockFile(block, BLOCK) as file:
        rows = file.rows([first, replace(second, checksum="0" * 32), third])
        assert next(rows)[1]["sequence_number"].to_pylist() == ["1", "2"]
        with pytest.raises(RangeDamaged, match="from 3:0 to 4:0 does not have the checksum 0000"):
            next(rows)


def test_a_reader_is_not_given_the_rows_of_one_shard_as_those_of_another() -> None:
    store = fake_store()
    (entry,) = fill(store, [[part(0, 1, 5), part(1, 1, 5)]])
    path = block_path(entry.block)
    content = store.read_block(entry.block)
    dictionary = content.index(b"shardId-000000000001")  # the checksum is not over it
    assert dictionary < content.index(b"kcl_receiver")
    altered = content[:dictionary] + b"shardId-000000000007" + content[dictionary + 20 :]
    store.objects.delete([path])
    store.objects.create(path, altered)
    with pytest.raises(BlockDamaged, match="not those that were stored"):
        list(read(store))


def test_of_a_broken_row_group_nothing_is_tried_twice(monkeypatch: pytest.MonkeyPatch, decoded: list[int]) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 40_000)
    monkeypatch.setattr(parquet, "MIN_ROW_GROUP_BYTES", 1)
    block = encode(*(part(shard, 1, 4, data=bytes(1000)) for shard in range(30)))
    content = bytearray(memoryview(block.payload))
    place = pq.read_metadata(block.open_block(BLOCK)).row_group(1).column(5).data_page_offset
    content[place : place + 8] = bytes(8)  # the header of a page
    found = [one for one, _ in salvage(EncodedBlock(bytes(content), (), 0), BLOCK, block.ranges)]
    assert 15 < len(found) < 30
    assert decoded.count(1) == 1
