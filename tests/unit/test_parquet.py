"""Blocks: what goes in comes out, by plain pyarrow too, and what is not what was sent is found."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from array import array
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_support import (
    NOW,
    STREAM,
    WRITER,
    Record,
    block_range,
    columns_of,
    in_millis,
    local_store,
    range_of,
    ranges_in,
    records_at,
    root_of,
)

from kcl_receiver.errors import BlockDamaged, ConfigError
from kcl_receiver.ids import block_id
from kcl_receiver.ranges import Position, Range
from kcl_receiver.store.blocks import arrays
from kcl_receiver.store.blocks import encode as parquet
from kcl_receiver.store.blocks.arrays import SCHEMA, check_columns
from kcl_receiver.store.blocks.checksums import RowChecksums
from kcl_receiver.store.blocks.encode import BlockRange, EncodedBlock, encode_block
from kcl_receiver.store.blocks.file import BlockFile, check_range, read_footer
from kcl_receiver.store.blocks.footers import FOOTER_KEY
from kcl_receiver.wire.columns import MAX_ARRIVAL, Columns, VarColumn, checksum

BLOCK = block_id(WRITER, 1)


def encode(*ranges: BlockRange, compression: str = "zstd") -> EncodedBlock:
    return encode_block(BLOCK, WRITER, STREAM, ranges, compression)


def opened(block: EncodedBlock) -> pa.NativeFile:
    return block.open_block(BLOCK)


def in_memory(payload: bytes) -> EncodedBlock:
    """Return bytes to be opened as a block."""
    return EncodedBlock(payload, (), 0)


def positions_of(block: EncodedBlock, one: Range) -> list[Position]:
    with BlockFile(block, BLOCK) as file:
        return file.positions(one)


def table_of(block: EncodedBlock) -> pa.Table:
    return pq.read_table(opened(block))


def rows_of(records: list[Record], shard: str) -> list[dict[str, object]]:
    return [
        {
            "shard_id": shard,
            "sequence_number": str(sequence),
            "sub_sequence_number": sub,
            "partition_key": key.decode(),
            "approximate_arrival_timestamp": None
            if arrival == -1
            else datetime.fromtimestamp(arrival // 1000, timezone.utc).replace(microsecond=arrival % 1000 * 1000),
            "data": data,
        }
        for sequence, sub, key, arrival, data in records
    ]


records_strategy = st.lists(
    st.tuples(
        st.integers(0, 10**129 - 1),
        st.integers(0, 2**63 - 1),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20).map(str.encode),
        st.one_of(st.just(-1), st.integers(0, 4_000_000_000_000)),
        st.binary(max_size=60),
    ),
    min_size=1,
    max_size=30,
).map(lambda records: sorted(records, key=lambda one: one[:2]))


@settings(deadline=None)
@given(
    batches=st.lists(
        st.tuples(st.sampled_from(["shardId-0", "shardId-1", "é"]), records_strategy), min_size=1, max_size=4
    ),
    compression=st.sampled_from(["zstd", "zstd:1", "zstd:22", "none", "snappy", "lz4"]),
)
def test_every_kind_of_record_comes_out_as_it_went_in(
    batches: list[tuple[str, list[Record]]], compression: str
) -> None:
    ranges = []
    for shard, records in batches:
        columns = columns_of(records)
        ranges.append(BlockRange(range_of(columns, shard=shard), columns))
    block = encode(*ranges, compression=compression)
    expected = sorted(batches, key=lambda one: (one[0], one[1][0][:2], one[1][-1][:2]))
    assert table_of(block).to_pylist() == [row for shard, records in expected for row in rows_of(records, shard)]
    footer = read_footer(block, BLOCK)
    assert footer.ranges == block.ranges
    assert footer.rows == block.rows == sum(len(records) for _, records in batches)
    read = list(ranges_in(block, BLOCK))
    assert [one for one, _ in read] == list(block.ranges)
    for one, rows in read:
        check_range(one, pa.Table.from_batches([rows]))
        positions = list(
            map(Position, map(int, rows["sequence_number"].to_pylist()), rows["sub_sequence_number"].to_pylist())
        )
        assert positions_of(block, one) == positions


@settings(deadline=None)
@given(records=records_strategy, data=st.data())
def test_the_checksum_of_arrow_rows_is_that_of_the_columns_whatever_they_are_a_slice_of(
    records: list[Record], data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(records) - 1))
    stop = data.draw(st.integers(start + 1, len(records)))
    columns = columns_of(records)
    table = table_of(encode(BlockRange(range_of(columns), columns)))
    expected = checksum(columns_of(records[start:stop]))
    assert checksum(columns.slice(start, stop)) == expected
    rows = table.combine_chunks().to_batches()[0]
    assert RowChecksums(rows).of(start, stop - start) == expected
    assert RowChecksums(rows.slice(start)).of(0, stop - start) == expected


def test_the_checksum_of_large_arrow_rows_is_that_of_the_columns() -> None:
    records = records_at(*range(1, 9), data=b"x" * 1000)
    columns = columns_of(records)
    rows = table_of(encode(BlockRange(range_of(columns), columns))).combine_chunks().to_batches()[0]
    assert RowChecksums(rows).of(0, 8) == checksum(columns)
    assert RowChecksums(rows).of(1, 6) == checksum(columns_of(records[1:7]))
    assert RowChecksums(rows).of(1, 6) != RowChecksums(rows).of(2, 6)


def test_the_columns_have_the_types_that_the_format_page_promises() -> None:
    table = table_of(encode(block_range(1, 2)))
    assert table.schema.remove_metadata() == SCHEMA
    assert [(field.name, str(field.type)) for field in table.schema] == [
        ("shard_id", "string"),
        ("sequence_number", "string"),
        ("sub_sequence_number", "int64"),
        ("partition_key", "string"),
        ("approximate_arrival_timestamp", "timestamp[us, tz=UTC]"),
        ("data", "binary"),
    ]


def test_the_statistics_of_arrival_times_are_in_the_unit_of_the_column() -> None:
    columns = columns_of([(1, 0, b"k", NOW + 7, b""), (2, 0, b"k", NOW + 9, b"")])
    block = encode(BlockRange(range_of(columns), columns))
    of_arrival = pq.read_metadata(pa.BufferReader(block.payload)).row_group(0).column(4)
    begin, end = (datetime.fromtimestamp(NOW // 1000, timezone.utc) + timedelta(milliseconds=at) for at in (7, 9))
    assert (of_arrival.statistics.min, of_arrival.statistics.max) == (begin, end)
    assert "timeUnit=microseconds" in str(of_arrival.statistics.logical_type)


def test_a_block_with_arrival_times_in_another_unit_is_damaged_and_the_message_names_the_column() -> None:
    message = (
        r"not those of a block: approximate_arrival_timestamp timestamp\[ms, tz=UTC\] null "
        r"in place of approximate_arrival_timestamp timestamp\[us, tz=UTC\] null"
    )
    with pytest.raises(BlockDamaged, match=message):
        read_footer(in_memory(in_millis(encode(block_range(1, 2)).payload)), BLOCK)


def test_an_arrival_time_that_is_no_whole_millisecond_is_found_and_its_neighbours_stay_good() -> None:
    block = encode(block_range(1, 2, shard="a"), block_range(3, 4, shard="b"))
    table = table_of(block)
    micros = table.column("approximate_arrival_timestamp").cast(pa.int64()).to_pylist()
    micros[2] += 1
    at = table.schema.get_field_index("approximate_arrival_timestamp")
    altered = table.set_column(at, SCHEMA.field(at), pa.array(micros, SCHEMA.field(at).type)).combine_chunks()
    good, bad = block.ranges
    check_range(good, altered.slice(0, 2))
    with pytest.raises(BlockDamaged, match="does not have the checksum"):
        check_range(bad, altered.slice(2, 2))
    checksums = RowChecksums(altered.to_batches()[0])
    assert [checksums.of(0, 2) == good.checksum, checksums.of(2, 2) == bad.checksum] == [True, False]


def test_rows_are_sorted_by_shard_and_position_and_each_range_knows_its_first_row() -> None:
    block = encode(
        block_range(300, 400, shard="b"),
        block_range(10**55, 10**55 + 1, 10**56, shard="a"),
        block_range(7, shard="b"),
        block_range(9, shard="a"),
    )
    table = table_of(block)
    assert list(zip(table["shard_id"].to_pylist(), map(int, table["sequence_number"].to_pylist()), strict=True)) == [
        ("a", 9),
        ("a", 10**55),
        ("a", 10**55 + 1),
        ("a", 10**56),
        ("b", 7),
        ("b", 300),
        ("b", 400),
    ]
    assert [(one.shard, one.first_row, one.count) for one in block.ranges] == [
        ("a", 0, 1),
        ("a", 1, 3),
        ("b", 4, 1),
        ("b", 5, 2),
    ]


def test_ranges_of_one_shard_that_overlap_stay_whole() -> None:
    block = encode(block_range(3, 4, 5), block_range(1, 2, 3, 4))
    assert [(one.first_row, one.first.sequence_number) for one in block.ranges] == [(0, 1), (4, 3)]
    assert table_of(block)["sequence_number"].to_pylist() == ["1", "2", "3", "4", "3", "4", "5"]


def test_many_small_shards_share_a_row_group_and_a_footer_that_stays_small() -> None:
    block = encode(*(block_range(*range(1, 21), shard=f"shardId-{number:012d}") for number in range(64)))
    metadata = pq.read_metadata(opened(block))
    assert metadata.num_row_groups == 1
    assert metadata.serialized_size < 64 * 500


def test_row_groups_are_cut_by_size_and_not_by_shard() -> None:
    ranges = [block_range(*range(1, 1001), shard=f"s{number}", data=bytes(2000)) for number in range(20)]
    metadata = pq.read_metadata(opened(encode(*ranges, compression="none")))
    sizes = [metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups)]
    assert len(sizes) == 5
    assert all(2**20 <= size < parquet.ROW_GROUP_BYTES * 1.2 for size in sizes)


def test_one_large_range_is_cut_into_row_groups_too_and_read_as_one() -> None:
    one = block_range(*range(1, 20_001), data=bytes(1500))
    block = encode(one, block_range(1, shard="z"))
    metadata = pq.read_metadata(opened(block))
    assert metadata.num_row_groups == 4
    (first, rows), (_, rest) = ranges_in(block, BLOCK)
    assert (rows.num_rows, rest.num_rows) == (20_000, 1)
    assert positions_of(block, block.ranges[1]) == [Position(1)]
    assert positions_of(block, first) == [Position(number) for number in range(1, 20_001)]


def test_a_last_row_group_is_never_a_crumb() -> None:
    crumb = [block_range(*range(1, 10), shard="a", data=bytes(10**6)), block_range(1, 2, shard="b")]
    assert parquet.row_group_cuts(crumb) == [0, 11]
    enough = [block_range(*range(1, 10), shard="a", data=bytes(10**6)), block_range(1, 2, shard="b", data=bytes(10**6))]
    assert parquet.row_group_cuts(enough) == [0, 9, 11]


def test_records_of_10_mib_and_of_nothing_are_stored() -> None:
    large = os.urandom(10 * 2**20)
    records = [(1, 0, b"", NOW, b""), (2, 0, b"k" * 256, NOW, large), (3, 0, b"", -1, b""), (4, 0, b"", NOW, large)]
    columns = columns_of(records)
    block = encode(BlockRange(range_of(columns), columns))
    assert table_of(block)["data"].to_pylist() == [b"", large, b"", large]


def test_buffers_of_every_kind_are_taken_without_being_copied_first() -> None:
    columns = columns_of(records_at(1, 2, 3))
    frame = bytearray(4) + b"".join(bytes(memoryview(buffer).cast("B")) for buffer in columns.buffers())
    views, at = [], 4
    for buffer in columns.buffers():
        size = memoryview(buffer).nbytes
        views.append(memoryview(frame)[at : at + size])
        at += size
    sub, arrival, *rest = views
    wrapped = Columns(
        3, VarColumn(rest[0], rest[3]), sub, VarColumn(rest[1], rest[4]), arrival, VarColumn(rest[2], rest[5])
    )
    block = encode(BlockRange(range_of(columns), wrapped))
    assert block.payload == encode(BlockRange(range_of(columns), columns)).payload


# What is not what was sent


def damaged(one: BlockRange, **changes: object) -> BlockRange:
    return BlockRange(one.range, replace(one.columns, **changes))  # type: ignore[arg-type]


GOOD = block_range(1, 2, 3)
TURNED = bytearray(GOOD.columns.data.values)
TURNED[3] ^= 1


@pytest.mark.parametrize(
    "bad",
    [
        damaged(GOOD, data=VarColumn(GOOD.columns.data.offsets, bytes(TURNED))),
        damaged(GOOD, data=VarColumn(array("i", [0, 7, 12, 18]), GOOD.columns.data.values)),
        damaged(GOOD, data=VarColumn(array("i", [0, 60, 12, 18]), GOOD.columns.data.values)),
        damaged(GOOD, data=VarColumn(array("i", [0, -5, 12, 18]), GOOD.columns.data.values)),
        damaged(GOOD, data=VarColumn(array("i", [0, 6, 12]), GOOD.columns.data.values)),
        damaged(GOOD, data=VarColumn(array("i", [1, 6, 12, 18]), GOOD.columns.data.values)),
        damaged(GOOD, data=VarColumn(GOOD.columns.data.offsets, GOOD.columns.data.values[:-1])),
        damaged(GOOD, key=VarColumn(GOOD.columns.key.offsets, b"\xff" + bytes(GOOD.columns.key.values)[1:])),
        damaged(GOOD, sub=array("q", [0, 0, 1])),
        damaged(GOOD, sub=array("q", [0, 0])),
        damaged(GOOD, sub=array("q", [0, 0, 0, 0])),
        damaged(GOOD, arrival=array("q", [*memoryview(GOOD.columns.arrival).cast("B").cast("q"), 0])),
        damaged(GOOD, data=VarColumn(GOOD.columns.data.offsets, bytes(GOOD.columns.data.values) + b"x")),
        damaged(GOOD, arrival=array("q", [0, 0, 0])),
        damaged(GOOD, count=2),
        BlockRange(replace(GOOD.range, count=2), GOOD.columns),
        BlockRange(replace(GOOD.range, checksum="0" * 32), GOOD.columns),
        BlockRange(replace(GOOD.range, first=Position(0)), GOOD.columns),
        BlockRange(replace(GOOD.range, last=Position(3, 1)), GOOD.columns),
        BlockRange(replace(GOOD.range, count=0), columns_of([])),
    ],
)
def test_records_that_are_not_those_of_the_checksum_are_never_stored(bad: BlockRange) -> None:
    with pytest.raises(BlockDamaged, match=r"shardId-000000000000 from \d+:0 to 3:\d"):
        encode(block_range(1, shard="other"), bad)


def test_keys_that_are_no_text_are_found_although_their_checksum_fits() -> None:
    columns = columns_of([(1, 0, b"\xff", NOW, b"")])
    with pytest.raises(BlockDamaged, match="UTF8"):
        encode(BlockRange(range_of(columns), columns))


def test_a_block_holds_at_least_one_range() -> None:
    with pytest.raises(ValueError, match="at least one range"):
        encode()


@pytest.mark.parametrize("bad", ["", "gzip", "zstd:", "zstd:0", "zstd:23", "zstd:x", "lz4:1", "ZSTD", "zstd:٣"])
def test_an_unknown_compression_is_refused(bad: str) -> None:
    with pytest.raises(ConfigError, match="compression"):
        encode(GOOD, compression=bad)


@pytest.mark.parametrize(
    ("text", "codec"),
    [("none", "UNCOMPRESSED"), ("zstd", "ZSTD"), ("zstd:3", "ZSTD"), ("snappy", "SNAPPY"), ("lz4", "LZ4")],
)
def test_the_compression_that_was_asked_for_is_used(text: str, codec: str) -> None:
    metadata = pq.read_metadata(opened(encode(GOOD, compression=text)))
    assert metadata.row_group(0).column(5).compression == codec


def ranges_of_data(data: list[bytes]) -> BlockRange:
    columns = columns_of([(100 + row, 0, b"key", NOW, one) for row, one in enumerate(data)])
    return BlockRange(range_of(columns), columns)


def codecs(block: EncodedBlock) -> set[tuple[str, str]]:
    group = pq.read_metadata(opened(block)).row_group(0)
    return {(group.column(at).path_in_schema, group.column(at).compression) for at in range(group.num_columns)}


@pytest.mark.parametrize("compression", ["zstd", "zstd:3", "snappy"])
def test_data_that_does_not_become_smaller_is_stored_as_it_is(compression: str) -> None:
    chance = ranges_of_data([os.urandom(1000) for _ in range(10)])
    stored = encode(chance, compression=compression)
    codec = compression.partition(":")[0].upper()
    assert codecs(stored) == {(name, "UNCOMPRESSED" if name == "data" else codec) for name in SCHEMA.names}
    assert table_of(stored)["data"].to_pylist() == [chance.columns.data.value(row) for row in range(10)]
    text = ranges_of_data([b'{"event": "page_view", "n": %d}' % row * 30 for row in range(10)])
    assert ("data", codec) in codecs(encode(text, compression=compression))
    assert ("data", codec) in codecs(encode(ranges_of_data([os.urandom(1000)]), compression=compression)), (
        "too little to tell"
    )


def test_whether_compression_pays_is_told_by_all_ranges_of_a_block() -> None:
    chance = ranges_of_data([os.urandom(50_000) for _ in range(10)])
    text = ranges_of_data([b"what repeats compresses " * 2000 for _ in range(10)])
    both = [
        BlockRange(replace(one.range, shard=f"shardId-{number}"), one.columns)
        for number, one in enumerate((chance, text))
    ]
    assert ("data", "ZSTD") in codecs(encode(*both))


# Footers


def with_footer(own: str | None, rows: int = 1, table: pa.Table | None = None) -> EncodedBlock:
    sink = pa.BufferOutputStream()
    if table is None:
        row = {"shard_id": "", "sequence_number": "", "sub_sequence_number": 0, "partition_key": "", "data": b""}
        table = pa.Table.from_pylist([row] * rows, schema=SCHEMA)
    with pq.ParquetWriter(sink, table.schema) as out:
        out.write_table(table)
        if own is not None:
            out.add_key_value_metadata({FOOTER_KEY: own})
    return in_memory(sink.getvalue())


@pytest.mark.parametrize(
    "own", [None, "", "[]", "{}", '{"version": 1}', '{"version": 2}', '{"version": 1, "stream": 1}']
)
def test_a_parquet_file_of_another_making_is_no_block(own: str | None) -> None:
    with pytest.raises(BlockDamaged, match="not a whole block"):
        read_footer(with_footer(own), BLOCK)


def test_a_footer_whose_ranges_do_not_span_the_rows_is_damaged() -> None:
    block = encode(block_range(1, 2), block_range(3, after=Position(2)))
    good = pq.read_metadata(opened(block)).metadata[b"kcl_receiver"].decode()
    assert len(read_footer(with_footer(good, rows=3), BLOCK).ranges) == 2
    with pytest.raises(BlockDamaged, match="4 rows, and its ranges 3"):
        read_footer(with_footer(good, rows=4), BLOCK)
    with pytest.raises(BlockDamaged, match="do not follow each other at row 2"):
        read_footer(with_footer(good.replace('"first_row":2', '"first_row":1'), rows=3), BLOCK)


def test_a_file_whose_columns_are_others_is_damaged() -> None:
    block = encode(block_range(1, 2))
    good = pq.read_metadata(opened(block)).metadata[b"kcl_receiver"].decode()
    assert read_footer(with_footer(good, table=table_of(block)), BLOCK).rows == 2
    with pytest.raises(BlockDamaged, match="its columns are not those of a block"):
        read_footer(with_footer(good, table=table_of(block).rename_columns(["a", "b", "c", "d", "e", "f"])), BLOCK)


@pytest.mark.parametrize("keep", [0, 3, 12, -1, -9])
def test_a_cut_file_is_damaged(keep: int) -> None:
    payload = bytes(memoryview(encode(GOOD).payload))
    with pytest.raises(BlockDamaged):
        read_footer(in_memory(payload[:keep]), BLOCK)


def test_a_turned_bit_anywhere_in_a_block_is_found_or_changes_nothing() -> None:
    payload = bytes(memoryview(encode(block_range(1, 2), block_range(1, shard="z"), compression="none").payload))
    whole = pq.read_table(pa.BufferReader(payload))
    for at in range(0, len(payload), 3):
        turned = bytearray(payload)
        turned[at] ^= 0x10
        try:
            rows = [row for _, batch in ranges_in(in_memory(bytes(turned)), BLOCK) for row in batch.to_pylist()]
        except BlockDamaged:
            continue
        assert rows == whole.to_pylist()


def test_rows_of_another_range_are_found() -> None:
    table = table_of(encode(block_range(1, 2), block_range(1, 2, shard="z")))
    one = encode(block_range(1, 2)).ranges[0]
    check_range(one, table.slice(0, 2))
    check_range(one, pa.concat_tables([table.slice(0, 1), table.slice(1, 1)]))
    with pytest.raises(BlockDamaged, match="1 records, not 2"):
        check_range(one, table.slice(0, 1))
    with pytest.raises(BlockDamaged, match="rows of other shards"):
        check_range(one, table.slice(1, 2))
    with pytest.raises(BlockDamaged, match="does not have the checksum"):
        check_range(replace(one, checksum="1" * 32), table.slice(0, 2))


# Plain readers


def test_a_folder_of_blocks_is_one_dataset_for_plain_pyarrow(tmp_path: object) -> None:
    store = local_store(str(tmp_path) + "/store")
    for number in (1, 2):
        block = block_id(WRITER, number)
        one = block_range(number * 10, number * 10 + 1)
        store.put_block(block, encode_block(block, WRITER, STREAM, [one], "zstd").payload)
    table = pq.read_table(root_of(store) / "blocks")
    assert table["sequence_number"].to_pylist() == ["10", "11", "20", "21"]
    filtered = ds.dataset(root_of(store) / "blocks").to_table(filter=ds.field("shard_id") == "none")
    assert filtered.num_rows == 0


def test_reading_the_ledger_side_does_not_need_the_processor_side() -> None:
    script = "import sys, kcl_receiver.store.blocks.encode, kcl_receiver.audit.verify; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"amazon_kclpy", "boto3", "click", "kcl_receiver.processor"} & set(run.stdout.split())


def test_ranges_are_returned_in_the_order_of_their_rows() -> None:
    ranges: list[Range] = list(encode(block_range(5, shard="b"), block_range(6, shard="a")).ranges)
    assert [one.shard for one in ranges] == ["a", "b"]


def _altered(column: str, at: int, content: bytes) -> Columns:
    """Return three records with some bytes of a buffer overwritten; `column` is a column, or `its offsets`."""
    columns = columns_of(records_at(100, 200, 300))
    name, _, offsets = column.partition(" ")
    whole = getattr(columns, name)
    if not isinstance(whole, VarColumn):
        buffer = bytearray(memoryview(whole).cast("B"))
        buffer[at : at + len(content)] = content
        return replace(columns, **{name: bytes(buffer)})
    part = "offsets" if offsets else "values"
    buffer = bytearray(memoryview(getattr(whole, part)).cast("B"))
    buffer[at : at + len(content)] = content
    return replace(columns, **{name: replace(whole, **{part: bytes(buffer)})})


@pytest.mark.parametrize(
    ("column", "at", "content"),
    [
        ("sequence offsets", 4, struct.pack("<i", -1)),
        ("key offsets", 8, struct.pack("<i", 2**31 - 1)),
        ("data offsets", 4, struct.pack("<i", -(2**31))),
        ("data offsets", 0, struct.pack("<i", 1)),
        ("data offsets", 12, struct.pack("<i", 1)),
        ("sequence values", 3, b"x"),
        ("sequence values", 3, b"0"),
        ("sequence values", 3, b"\xff"),
        ("sequence values", 3, "٣".encode()),
        ("key values", 0, b"\xff"),
        ("key values", 4, b"\xc3"),
        ("sub", 8, struct.pack("<q", -1)),
        ("arrival", 0, None),
        ("arrival", 8, struct.pack("<q", MAX_ARRIVAL + 1)),
        ("arrival", 16, struct.pack("<q", 2**63 - 1)),
        ("arrival", 0, struct.pack("<q", -(2**63))),
        ("arrival", 0, struct.pack("<q", -(2**56))),
    ],
)
@pytest.mark.parametrize("small_batch", [0, 1000])
def test_columns_that_could_not_be_stored_or_read_are_found_by_looking_at_them(
    column: str, at: int, content: bytes | None, small_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "SMALL_BATCH", small_batch)
    columns = _altered(column, at, content or b"")
    if content is None:
        check_columns(columns, checksum(columns))
        return
    try:
        true = checksum(columns)
    except OverflowError:  # lengths that no int32 holds have none
        true = "0" * 32
    with pytest.raises(ValueError, match=r"."):
        check_columns(columns, true)


def test_columns_with_another_checksum_are_found() -> None:
    columns = columns_of(records_at(1, 2))
    with pytest.raises(ValueError, match="their checksum is"):
        check_columns(columns, "x" * 1000)


@pytest.mark.parametrize("small_batch", [0, 1000])
@pytest.mark.parametrize(
    "sequences",
    [
        [b"1", b"1" + 129 * b"0", b"2" + 129 * b"0"],
        [b"1" + 129 * b"0", b"2" + 129 * b"0"],
        [b"", b"1", b"2"],
        [b"", b""],
        [b"01", b"12", b"23"],
        [b"12", b"03", b"23"],
        [b"1", b"02", b"103"],
        [b"1", b"2", b"/"],
    ],
)
def test_a_sequence_number_that_is_none_is_found(
    sequences: list[bytes], small_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "SMALL_BATCH", small_batch)
    columns = replace(columns_of(records_at(*range(len(sequences)))), sequence=VarColumn.of(sequences))
    with pytest.raises(ValueError, match="a sequence number is none"):
        check_columns(columns, checksum(columns))


@pytest.mark.parametrize("small_batch", [0, 1000])
@pytest.mark.parametrize("sequences", [[b"0", b"1", b"9"], [b"0", b"10", b"200"], [b"9" * 129], [b"12", b"20"]])
def test_what_is_a_sequence_number_passes(
    sequences: list[bytes], small_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "SMALL_BATCH", small_batch)
    columns = replace(columns_of(records_at(*range(len(sequences)))), sequence=VarColumn.of(sequences))
    check_columns(columns, checksum(columns))


def test_bytes_of_two_arrival_times_do_not_make_one_unknown() -> None:
    high, low = struct.unpack("<2q", bytes(4) + 8 * b"\xff" + bytes(4))
    for arrivals in ([high, low], [high, low, -1]):
        columns = columns_of([(number, 0, b"k", at, b"") for number, at in enumerate(arrivals)])
        table = table_of(encode(BlockRange(range_of(columns), columns)))
        stored = table["approximate_arrival_timestamp"].cast(pa.int64()).to_pylist()
        assert stored == [None if at == -1 else 1000 * at for at in arrivals]


def test_the_last_arrival_time_that_a_batch_takes_comes_back() -> None:
    columns = columns_of([(1, 0, b"k", MAX_ARRIVAL, b"")])
    check_columns(columns, checksum(columns))
    block = encode(BlockRange(range_of(columns), columns))
    check_range(block.ranges[0], table_of(block))


@pytest.mark.parametrize(
    "own",
    [
        b"[" * 100_000,
        b'{"version":1,"ranges":' + b"[" * 100_000,
        b'{"version":1,"block":"b","writer":"w","stream":{"arn":"a","created":Infinity},"ranges":[]}',
        b'{"version":1,"block":"b","writer":"w","stream":{"arn":"a","created":1},"ranges":[1]}',
        b'{"version":1,"block":"b","writer":"w","stream":[],"ranges":[]}',
        b"[]",
        b"\xff",
        b"",
    ],
    ids=lambda one: one[:24],
)
def test_a_footer_of_any_other_form_is_damage_by_name(own: bytes) -> None:
    table = table_of(encode(block_range(1, 2)))
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, store_schema=False) as out:
        out.write_table(table)
        out.add_key_value_metadata({FOOTER_KEY: own})
    with pytest.raises(BlockDamaged, match="it is not a whole block"):
        read_footer(in_memory(sink.getvalue()), BLOCK)
