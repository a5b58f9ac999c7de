"""What this machine can do at most: the limit beside which every other figure is to be read.

Disk, one copy over a Unix socket, Parquet encoding alone, decoding alone (the processor's, and kclpy's), and the player
against a reader that drops the bytes, which shows that the player is not what limits `lines`.

    python -m benchmarks.ceiling
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from amazon_kclpy import dispatch

from benchmarks.harness.cells import Cell, Result
from benchmarks.harness.command import main
from benchmarks.harness.contest import own_directory, play
from benchmarks.harness.contestants import Drop
from benchmarks.harness.disk import Written, sequential_write
from benchmarks.harness.figures import Spread, number, table
from benchmarks.harness.workload import ShardLines, Workload, prepare
from benchmarks.lines import NAMES, PAYLOAD_NAMES
from kcl_receiver.memory import keep_freed
from kcl_receiver.processor.codec import ProcessRecords, decode_line
from kcl_receiver.processor.main import KEPT_BYTES
from kcl_receiver.ranges import TRIM_HORIZON, Range, StreamIdentity
from kcl_receiver.store.blocks.arrays import check_columns
from kcl_receiver.store.blocks.encode import BlockRange, encode_block
from kcl_receiver.store.o_direct import DirectWriter
from kcl_receiver.wire.columns import Columns, checksum

NAME = "ceiling"
ABOUT = (
    "What the parts reach alone, one process and one thread each: nothing that is made of them can be faster. MB are "
    "10^6 bytes of records' data; CPU is in seconds per million records."
)

BLOCK_BYTES = 64 * 2**20
"""The receiver's default for the largest block."""
COMPRESSIONS = ("zstd", "lz4", "none")
_SOCKET_PIECE = 2**20


def cells(form: str) -> list[Cell]:
    """Return the cells of a form."""
    share, repeats = (0.1, 1) if form == "short" else (1.0, 3)
    kinds = [("200", "json"), ("1000", "json"), ("10000", "json"), ("10000", "random")]
    if form == "all":
        kinds += [
            ("20-aggregated", "json"),
            ("200", "random"),
            ("1000", "random"),
            ("mixed", "json"),
            ("mixed", "random"),
        ]
    total = int(2**30 * share)
    made = [
        Cell(
            "disk and socket",
            {"bytes": total, "repeats": repeats},
            partial(_measure_bytes, total, repeats),
            40 * share,
        )
    ]
    records = {"20-aggregated": 350_000, "200": 300_000, "1000": 100_000, "10000": 20_000, "mixed": 40_000}
    for kind, payload in kinds:
        workload = Workload(kind, payload, 1, int(records[kind] * (0.3 if form == "short" else 1.0)))
        made.append(
            Cell(
                f"{NAMES[kind]}, {PAYLOAD_NAMES[payload]}",
                {"workload": workload.to_json(), "repeats": repeats},
                partial(_measure_records, workload, repeats),
                4 if form == "short" else 15,
            )
        )
    return made


def _measure_bytes(total: int, repeats: int, directory: Path) -> dict[str, Any]:
    past_the_cache = DirectWriter().write
    works: dict[str, Callable[[], Written]] = {
        "disk": lambda: sequential_write(directory, total, total),
        "disk, a sync every block": lambda: sequential_write(directory, total, BLOCK_BYTES),
        "the same past the page cache": lambda: sequential_write(directory, total, BLOCK_BYTES, write=past_the_cache),
        "socket": lambda: _through_socket(total),
    }
    taken: dict[str, list[Written]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            taken[name].append(work())
    return {"bytes": {name: [one._asdict() for one in rows] for name, rows in taken.items()}}


def _through_socket(total: int) -> Written:
    """Send bytes through one Unix socket, by one thread and received by another into one buffer."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    piece = bytes(_SOCKET_PIECE)

    def send() -> None:
        for _ in range(total // _SOCKET_PIECE):
            left.sendall(piece)
        left.close()

    sender = threading.Thread(target=send)
    buffer = bytearray(_SOCKET_PIECE)
    received = 0
    began, cpu = time.monotonic(), time.process_time()
    sender.start()
    while length := right.recv_into(buffer):
        received += length
    sender.join()
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    right.close()
    return Written(received / seconds, cpu / received * 1e9)


def _measure_records(workload: Workload, repeats: int, directory: Path) -> dict[str, Any]:
    keep_freed(KEPT_BYTES, arenas=1)
    shard = prepare(workload)[0]
    contents = [line.content for line in shard.lines]
    columns = _decode(contents)
    if sum(one.count for one in columns) != shard.records:
        raise ValueError("the processor's codec did not find all records")
    ranges = [_range(shard, one) for one in columns]
    figures: dict[str, Any] = {
        "records": shard.records,
        "data": shard.data_bytes,
        "lines": sum(map(len, contents)),
        "decode": _repeated(repeats, lambda: _decode(contents)),
        "kclpy": _repeated(repeats, lambda: _decode_with_kclpy(contents)),
        "checksum": _repeated(repeats, lambda: [checksum(one) for one in columns]),
        "check": _repeated(repeats, lambda: _check(ranges)),
        "copy": _repeated(repeats, lambda: [b"".join(one.buffers()) for one in columns]),
        "player": [],
    }
    for compression in COMPRESSIONS:
        stored = sum(_encode(ranges, compression))
        figures[f"encode {compression}"] = _repeated(repeats, partial(_encode, ranges, compression))
        figures[f"stored {compression}"] = stored
    for _ in range(repeats):
        with own_directory(directory) as own:
            run = play(Drop(own, 1), [shard])
        figures["player"].append({"wall": run.seconds, "cpu": run.player_cpu})
    return figures


def _repeated(repeats: int, work: Callable[[], object]) -> list[dict[str, float]]:
    taken = []
    for _ in range(repeats):
        began, cpu = time.monotonic(), time.process_time()
        work()
        taken.append({"wall": time.monotonic() - began, "cpu": time.process_time() - cpu})
    return taken


def _decode(contents: Sequence[bytes]) -> list[Columns]:
    """Return the columns of all lines, by the processor's own codec."""
    found = []
    for content in contents:
        action = decode_line(content)
        if isinstance(action, ProcessRecords) and action.columns is not None:
            found.append(action.columns)
    return found


def _check(ranges: Sequence[BlockRange]) -> None:
    """Check batches as the generator does when they come."""
    for one in ranges:
        check_columns(one.columns, one.range.checksum)


def _decode_with_kclpy(contents: Sequence[bytes]) -> None:
    """Decode as kclpy does, and look at each record; the text that it reads from stdin is made here too."""
    for content in contents:
        for record in json.loads(content.decode(), object_hook=dispatch.message_decode).records:
            _ = record.partition_key
            _ = record.sequence_number
            _ = record.binary_data


def _range(shard: ShardLines, columns: Columns) -> BlockRange:
    last = columns.position(columns.count - 1)
    return BlockRange(
        Range(
            shard=shard.shard,
            session="1-0",
            after=TRIM_HORIZON,
            first=columns.position(0),
            last=last,
            whole=last,
            count=columns.count,
            size=columns.size,
            arrival_first=columns.arrival_of(0),
            arrival_last=columns.arrival_of(columns.count - 1),
            checksum=checksum(columns),
        ),
        columns,
    )


def _encode(ranges: Sequence[BlockRange], compression: str) -> list[int]:
    """Encode all ranges as blocks of the default size, checksums checked as in the generator; return their bytes."""
    stream = StreamIdentity("arn:aws:kinesis:us-east-1:000000000001:stream/benchmark", 1)
    return [
        memoryview(encode_block("block", "writer", stream, block, compression).payload).nbytes
        for block in _blocks(ranges)
    ]


def _blocks(ranges: Sequence[BlockRange]) -> Iterator[list[BlockRange]]:
    block: list[BlockRange] = []
    gathered = 0
    for one in ranges:
        block.append(one)
        gathered += one.columns.memory
        if gathered >= BLOCK_BYTES:
            yield block
            block, gathered = [], 0
    if block:
        yield block


def tables(results: Sequence[Result]) -> str:
    """Return a table of bytes, and one of records."""
    bytes_rows: list[list[str]] = []
    rows: list[list[str]] = []
    for result in results:
        figures = result.figures
        if "bytes" in figures:
            for name, taken in figures["bytes"].items():
                rate = Spread.of([one["rate"] / 1e6 for one in taken])
                cpu = Spread.of([one["cpu"] for one in taken])
                bytes_rows.append([name, rate.show(), cpu.show()])
            continue
        works = {
            "decoding, kclpy": "kclpy",
            "decoding, the processor's": "decode",
            "checksum": "checksum",
            "the generator's check of a batch": "check",
            "one copy of the columns": "copy",
            **{f"Parquet, {one}": f"encode {one}" for one in COMPRESSIONS},
            "the player": "player",
        }
        for name, key in works.items():
            walls = [one["wall"] for one in figures[key]]
            rows.append(
                [
                    result.cell,
                    name,
                    Spread.of([figures["records"] / wall for wall in walls]).show(),
                    Spread.of([figures["data"] / wall / 1e6 for wall in walls]).show(),
                    Spread.of([one["cpu"] / figures["records"] * 1e6 for one in figures[key]]).show(),
                    number(figures[f"stored {key[7:]}"] / figures["data"], 2) if key.startswith("encode") else "-",
                ]
            )
    text = table(["bytes", "MB/s", "CPU, s per GB"], bytes_rows) if bytes_rows else ""
    head = ["cell", "work", "records/s", "MB/s", "CPU", "stored / data"]
    return text + ("\n" if text and rows else "") + (table(head, rows) if rows else "")


if __name__ == "__main__":
    sys.exit(main([sys.modules[__name__]], __doc__ or ""))
