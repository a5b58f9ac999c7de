"""Compaction beside what it is at least: reading the same files by pyarrow, joining the tables, writing one file.

python -m benchmarks.compact [--blocks 600] [--shards 4] [--records 250] [--size 200] [--runs 3]

Both write the same compression and end with an fsync. The plain one sorts nothing, checks no checksum, keeps no range,
reads nothing back, deletes nothing and has no ledger: the ratio is the price of these. Both are measured in turns, in
processor time too, because the machine may have others on it. The store is made anew for each turn.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from kcl_receiver.ids import block_id, writer_id
from kcl_receiver.maintenance.compact import Options, compact
from kcl_receiver.ranges import TRIM_HORIZON, After, Position, Range, StreamIdentity
from kcl_receiver.store.blocks.encode import BlockRange, encode_block
from kcl_receiver.store.ledger.entries import BlockStored, WriterStarted
from kcl_receiver.store.ledger.writer import LedgerWriter
from kcl_receiver.store.store import Store, open_store
from kcl_receiver.wire.columns import Columns, VarColumn, checksum

NOW = 1_795_353_301_000
STREAM = StreamIdentity("arn:aws:kinesis:eu-west-1:123456789012:stream/orders", NOW - 10**9)
HOUR = 3_600_000


def fill(directory: Path, blocks: int, shards: int, records: int, size: int) -> Store:
    """Return a store with blocks of so many records each, spread over shards, as a generator leaves them."""
    random = Random(7)
    store, writer = open_store(directory), writer_id(NOW, "0000000b")
    ledger = LedgerWriter(store, writer)
    ledger.append([WriterStarted(writer, "host", 1, NOW, "0")])
    words = [random.randbytes(6).hex().encode() for _ in range(500)]
    each = max(1, records // shards)
    entries = []
    for number in range(1, blocks + 1):
        ranges = []
        for shard in range(shards):
            begin = 49_680_462_671_843_004_055_984_086_799_830_589_213_401_647_521_395 * 10 + number * each
            data = [b" ".join(random.choices(words, k=size // 13 + 1))[:size] for _ in range(each)]
            columns = Columns(
                count=each,
                sequence=VarColumn.of([b"%d" % (begin + one) for one in range(each)]),
                sub=array("q", bytes(8 * each)),
                key=VarColumn.of([b"customer-%d" % random.randrange(10_000) for _ in range(each)]),
                arrival=array("q", [NOW + number * 1000] * each),
                data=VarColumn.of(data),
            )
            ranges.append(BlockRange(_range(f"shardId-{shard:012d}", columns, number), columns))
        block = block_id(writer, number)
        encoded = encode_block(block, writer, STREAM, ranges, "zstd")
        path = Path(unquote(urlsplit(store.url).path)) / "blocks" / "2026-11-22" / f"{block}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded.payload)  # durable or not does not matter here
        length = memoryview(encoded.payload).nbytes
        entries.append(BlockStored(block, STREAM, encoded.ranges, encoded.rows, length, NOW))
    for start in range(0, len(entries), 1000):
        ledger.append(entries[start : start + 1000])
    return store


def _range(shard: str, columns: Columns, number: int) -> Range:
    first, last = columns.position(0), columns.position(columns.count - 1)
    after: After = Position(first.sequence_number - 1) if number > 1 else TRIM_HORIZON
    made = checksum(columns)
    arrival = columns.arrival_of(0)
    return Range(shard, "s", after, first, last, last, columns.count, columns.size, arrival, arrival, made)


def plain(store: Store) -> None:
    """Read, join, write, fsync."""
    files = sorted((Path(unquote(urlsplit(store.url).path)) / "blocks").rglob("*.parquet"))
    table = pa.concat_tables([pq.read_table(file, use_threads=False) for file in files])
    target = Path(unquote(urlsplit(store.url).path)) / "plain.parquet"
    pq.write_table(table, target, compression="zstd", use_dictionary=["shard_id"], row_group_size=_rows_a_group(table))
    handle = os.open(target, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def _rows_a_group(table: pa.Table) -> int:
    return max(1, int(table.num_rows * 8 * 2**20 / max(1, table.nbytes)))


def compacted(store: Store) -> None:
    """Compact it all."""
    reports = list(compact(store, Options(), NOW + 48 * HOUR))
    if sum(report.merged for report in reports) == 0:
        raise SystemExit("nothing was compacted: more blocks")


def measured(work: Callable[[Store], None], arguments: argparse.Namespace) -> tuple[float, float]:
    """Return wall and processor time of a piece of work on a fresh store, in seconds."""
    with tempfile.TemporaryDirectory(prefix="kr-") as directory:
        store = fill(Path(directory), arguments.blocks, arguments.shards, arguments.records, arguments.size)
        os.sync()
        wall, cpu = time.perf_counter(), time.process_time()
        work(store)
        return time.perf_counter() - wall, time.process_time() - cpu


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, value in (("blocks", 600), ("shards", 4), ("records", 250), ("size", 200), ("runs", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="kr-") as directory:
        store = fill(Path(directory), options.blocks, options.shards, options.records, options.size)
        stored = sum(size for _, size in store.list_blocks())
    rows = options.blocks * options.shards * max(1, options.records // options.shards)
    print(f"{options.blocks:,} blocks, {stored / 2**20:.1f} MiB, {rows:,} records, {options.shards} shards")
    turns = [(measured(plain, options), measured(compacted, options)) for _ in range(options.runs)]
    for name, which in (("pyarrow alone", 0), ("compact", 1)):
        wall, cpu = (statistics.median(turn[which][kind] for turn in turns) for kind in (0, 1))
        speed = f"{stored / 2**20 / wall:8.1f} MiB/s {rows / wall:12,.0f} records/s"
        print(f"{name:14} {wall:7.2f} s wall {cpu:7.2f} s processor {speed}")
    ratios = [(ours[0] / theirs[0], ours[1] / theirs[1]) for theirs, ours in turns]
    wall, cpu = (statistics.median(one[kind] for one in ratios) for kind in (0, 1))
    print(f"compact takes {wall:.2f} times the wall time and {cpu:.2f} times the processor time of pyarrow alone")
    print(f"peak memory of all {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
