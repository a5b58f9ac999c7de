"""A small block that stands for gigabytes is damaged, and is not decoded to find that out."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from maintenance_support import part
from store_support import (
    NOW,
    SHARD,
    STREAM,
    WRITER,
    begin,
    block_range,
    columns_of,
    local_store,
    put,
    range_of,
    ranges_in,
    session_at,
)

from kcl_receiver.audit.verify import verify_store
from kcl_receiver.cli.main import run_cli
from kcl_receiver.errors import EXIT_AMISS, EXIT_STORE, BlockDamaged
from kcl_receiver.ids import block_id
from kcl_receiver.ranges import Position, Range
from kcl_receiver.store.blocks import file as blocks
from kcl_receiver.store.blocks.arrays import SCHEMA
from kcl_receiver.store.blocks.encode import (
    ROW_GROUP_BYTES,
    BlockRange,
    encode_block,
)
from kcl_receiver.store.blocks.file import BlockFile, read_footer, salvage
from kcl_receiver.store.blocks.footers import footer_metadata
from kcl_receiver.store.ledger.entries import BlockStored
from kcl_receiver.store.store import Store

MIB = 2**20


def put_bomb(store: Store, number: int, after: int, megabytes: int, rows_a_group: int) -> BlockStored:
    """Store a block of a few kilobytes that has a megabyte in each row, and a range that says nothing of it."""
    block = block_id(WRITER, number)
    said = range_of(columns_of([(after + at, 0, b"k", NOW, b"d") for at in range(1, megabytes + 1)]))
    said = replace(said, after=Position(after), first_row=0)
    one = bytes(MIB)
    table = pa.table(
        {
            "shard_id": [SHARD] * megabytes,
            "sequence_number": [str(after + at) for at in range(1, megabytes + 1)],
            "sub_sequence_number": [0] * megabytes,
            "partition_key": ["k"] * megabytes,
            "approximate_arrival_timestamp": [NOW] * megabytes,
            "data": [one] * megabytes,
        },
        schema=SCHEMA,
    )
    sink = io.BytesIO()
    # From a dictionary, one page of one value would do; so it is off, as in blocks.
    with pq.ParquetWriter(sink, SCHEMA, compression="zstd", use_dictionary=False, store_schema=False) as out:
        out.write_table(table, row_group_size=rows_a_group)
        out.add_key_value_metadata(footer_metadata(block, WRITER, STREAM, [said]))
    payload = sink.getvalue()
    assert len(payload) < megabytes * MIB / 500
    store.put_block(block, payload)
    return BlockStored(block, STREAM, (said,), said.count, len(payload), NOW)


@pytest.fixture(params=[1000, 5], ids=["one row group", "many row groups"])
def bombed(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    store = local_store(tmp_path / "store")
    store.claim("landing")
    ledger = begin(store, WRITER)
    entries = [put(store, 1, block_range(1, 2)), put_bomb(store, 2, 2, 160, request.param)]
    entries += [put(store, 3, block_range(163, 164, after=Position(162)))]
    ledger.append([session_at(), *entries])
    return store


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many bytes each call decoded."""
    sizes: list[int] = []
    real = pq.ParquetFile.read_row_groups

    def counted(file: pq.ParquetFile, *args: object, **named: object) -> pa.Table:
        table = real(file, *args, **named)
        sizes.append(table.nbytes)
        return table

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", counted)
    yield sizes
    assert sum(sizes) < 150 * MIB  # what is allowed beyond the range, and not all


@pytest.mark.parametrize(
    ("command", "code"),
    [("verify --deep", EXIT_AMISS), ("read", EXIT_STORE), ("compact --min-age 0s", EXIT_AMISS)],
)
def test_a_block_that_stands_for_more_than_was_stored_is_damaged(
    bombed: Store, decoded: list[int], capsys: pytest.CaptureFixture[str], command: str, code: int
) -> None:
    name, *options = command.split()
    assert run_cli([name, "--store", bombed.url, *options]) == code
    captured = capsys.readouterr()
    assert (
        "claims to have" in captured.out + captured.err or "larger than what was stored" in captured.out + captured.err
    )
    assert block_id(WRITER, 2) in captured.out + captured.err
    assert decoded


def test_nothing_is_salvaged_of_it(bombed: Store, decoded: list[int]) -> None:
    (block,) = verify_store(bombed, deep=True).damaged
    decoded.clear()
    ranges = read_footer(bombed, block).ranges
    assert list(salvage(bombed, block, ranges)) == []


def test_what_is_written_is_far_from_the_limit() -> None:
    assert blocks.MAX_ROW_GROUP_BYTES >= 2 * (ROW_GROUP_BYTES + MIB + 10 * MIB)
    large = columns_of([(at, 0, b"k", NOW, bytes([at % 251]) * (10 * MIB)) for at in range(1, 4)])
    small = part(1, 1, 50)
    encoded = encode_block(block_id(WRITER, 1), WRITER, STREAM, [BlockRange(range_of(large), large), small], "zstd")
    found = [(one.count, rows.num_rows) for one, rows in ranges_in(encoded, block_id(WRITER, 1))]
    assert found == [(3, 3), (50, 50)]


def test_rows_that_are_not_there_are_damage_also_where_positions_alone_are_read() -> None:
    one = block_range(1, 2)
    encoded = encode_block(block_id(WRITER, 1), WRITER, STREAM, [one], "none")
    for first, count in ((0, 3), (2, 1), (-1, 1)):
        asked: Range = replace(one.range, first_row=first, count=count)
        with BlockFile(encoded, block_id(WRITER, 1)) as file, pytest.raises(BlockDamaged, match="2 rows"):
            file.positions(asked)
