"""Ranges, blocks and stores for the tests of store and reader."""

from __future__ import annotations

import io
import secrets
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kcl_receiver.horizon import Late, ShardMark
from kcl_receiver.ids import block_id, writer_id
from kcl_receiver.ranges import TRIM_HORIZON, After, Position, Range, StreamIdentity
from kcl_receiver.store.blocks.encode import BlockRange, encode_block
from kcl_receiver.store.blocks.file import BlockFile, Opener
from kcl_receiver.store.blocks.footers import FOOTER_KEY
from kcl_receiver.store.files import Files
from kcl_receiver.store.ledger.entries import (
    BlockStored,
    Carried,
    MarksTaken,
    SessionStarted,
    ShardEnded,
    WriterStarted,
)
from kcl_receiver.store.ledger.store_log import EMPTY, StoreLog, began
from kcl_receiver.store.ledger.takeover import Takeover, take_over
from kcl_receiver.store.ledger.writer import LedgerWriter
from kcl_receiver.store.local import Directory
from kcl_receiver.store.store import Store
from kcl_receiver.wire.columns import Buffer, Columns, VarColumn, checksum

NOW = 1_795_353_301_000  # 2026-11-22T13:15:01Z
"""When what these tests store was stored. It has nothing to do with the day on which they run: what asks the clock is
given this time, by its argument or by `stop_the_clock`; what meets a real clock (the emulator's) takes its own."""
HOUR = 3_600_000
LATE = NOW + 26 * HOUR
"""Later than what a stream retains for 24 hours."""
WRITER = writer_id(NOW, "7f3a9c01")
OTHER_WRITER = writer_id(NOW + 60_000, "00000002")
STREAM = StreamIdentity("arn:aws:kinesis:eu-west-1:123456789012:stream/orders", 1_790_000_000_000)
SHARD = "shardId-000000000000"


def local_store(
    root: str | Path, files: Files | None = None, token: Callable[[], str] = lambda: secrets.token_hex(4)
) -> Store:
    """Return the store in a directory of a file system."""
    return Store(Directory(root, files, token))


def directory_of(store: Store) -> Directory:
    """Return the directory that a store is in."""
    directory = store.objects.objects
    assert isinstance(directory, Directory)
    return directory


def root_of(store: Store) -> Path:
    return directory_of(store).root


def files_of(store: Store) -> Files:
    return directory_of(store)._files


def stop_the_clock(monkeypatch: pytest.MonkeyPatch, now: int) -> None:
    """Let it be this time, in milliseconds since the epoch, for what this process asks of the wall clock."""
    monkeypatch.setattr(time, "time_ns", lambda: now * 1_000_000)
    monkeypatch.setattr(time, "time", lambda: now / 1000)


Record = tuple[int, int, bytes, int, bytes]
"""Sequence number, sub-sequence number, key, arrival time, data."""


def columns_of(records: Sequence[Record]) -> Columns:
    return Columns(
        count=len(records),
        sequence=VarColumn.of([str(one[0]).encode() for one in records]),
        sub=array("q", [one[1] for one in records]),
        key=VarColumn.of([one[2] for one in records]),
        arrival=array("q", [one[3] for one in records]),
        data=VarColumn.of([one[4] for one in records]),
    )


def records_at(*sequence_numbers: int, data: bytes = b"data") -> list[Record]:
    return [(number, 0, b"key-%d" % number, NOW + number % 1000, data + b"-%d" % number) for number in sequence_numbers]


def range_of(
    columns: Columns,
    *,
    shard: str = SHARD,
    after: After = TRIM_HORIZON,
    session: str = "s1",
    delivered: int | None = None,
) -> Range:
    last = columns.count - 1
    return Range(
        shard=shard,
        session=session,
        after=after,
        first=columns.position(0),
        last=columns.position(last),
        whole=columns.position(last),
        count=columns.count,
        size=columns.size,
        arrival_first=columns.arrival_of(0),
        arrival_last=columns.arrival_of(last),
        checksum=checksum(columns),
        delivered=max(columns.arrival_of(0), columns.arrival_of(last)) if delivered is None else delivered,
    )


def ranges_in(store: Opener, block: str) -> Iterator[tuple[Range, pa.RecordBatch]]:
    """Yield each range of a block, as its footer has it, with its rows, checked."""
    with BlockFile(store, block) as file:
        for one in file.footer.ranges:
            ((_, rows),) = file.rows([one])
            yield one, rows


def block_range(*sequence_numbers: int, data: bytes = b"data", **named: object) -> BlockRange:
    columns = columns_of(records_at(*sequence_numbers, data=data))
    return BlockRange(range_of(columns, **named), columns)  # type: ignore[arg-type]


def plain_range(
    first: int,
    last: int,
    after: After | int = TRIM_HORIZON,
    *,
    session: str = "s1",
    trimmed: bool = False,
    at: int = NOW,
    arrived: int = NOW,
) -> Range:
    """A range without records, for arithmetic; `trimmed` if it was delivered later than the retention."""
    follows = Position(after) if isinstance(after, int) else after
    begin, end = Position(first), Position(last)
    return Range(
        SHARD, session, follows, begin, end, end, 10, 100, arrived, arrived, "0" * 32, 0, LATE if trimmed else at
    )


def session_at(
    after: After | int = TRIM_HORIZON,
    *,
    session: str = "s1",
    shard: str = SHARD,
    time: int = NOW,
    trimmed: bool = False,
    parents: tuple[str, ...] = (),
    retention_hours: int = 24,
    stream: StreamIdentity = STREAM,
    begins: int = NOW,
) -> SessionStarted:
    """A session's start; `trimmed` if it came later than the retention."""
    follows = Position(after) if isinstance(after, int) else after
    at = time + LATE - NOW if trimmed else time
    hashes = ("0", str(2**128 - 1))
    return SessionStarted(session, shard, follows, 1, stream, parents, hashes, retention_hours, at, begins)


def end_at(last: After | int, *, session: str = "s1", shard: str = SHARD, time: int = NOW) -> ShardEnded:
    return ShardEnded(session, shard, STREAM, Position(last) if isinstance(last, int) else last, time)


def marks_at(
    *marks: ShardMark,
    time: int = NOW,
    hours: int = 24,
    late: Sequence[Late] = (),
    sessions: Sequence[str] = (),
    stream: StreamIdentity = STREAM,
) -> MarksTaken:
    """What is recorded of how far shards were read."""
    return MarksTaken(stream, time, time, hours, "boot", 0, tuple(marks), tuple(late), tuple(sessions))


def mark(position: After | int, until: int, *, shard: str = SHARD, session: str = "s1", opened: int = -1) -> ShardMark:
    return ShardMark(shard, session, Position(position) if isinstance(position, int) else position, until, opened)


def stored(
    store: Store, block: str, ranges: Sequence[BlockRange], stream: StreamIdentity = STREAM, time: int = NOW
) -> BlockStored:
    """Store a block under an id, by the writer that the id names; return its ledger entry."""
    encoded = encode_block(block, block.rpartition("-")[0], stream, ranges, "none")
    store.put_block(block, encoded.payload)
    size = memoryview(encoded.payload).nbytes
    return BlockStored(block, stream, encoded.ranges, encoded.rows, size, time)


def put(
    store: Store,
    number: int,
    *ranges: BlockRange,
    writer: str = WRITER,
    stream: StreamIdentity = STREAM,
    time: int = NOW,
) -> BlockStored:
    """Store a block and return its ledger entry, which is written nowhere yet."""
    return stored(store, block_id(writer, number), ranges, stream, time)


def ledgers_in(store: Store) -> list[tuple[str, bytes]]:
    """Return the generators' ledgers, each with its writer, in order."""
    return [(writer, store.ledger(writer) or b"") for writer in store.writers()]


def begin(store: Store, writer: str, *, time: int = NOW, newest_before: int = -1) -> LedgerWriter:
    """Begin a ledger as a generator does that carries over nothing; those before it are closed."""
    _, ledger = begin_killed(store, writer, time=time)
    ledger.append([WriterStarted(writer, "host", 1, time, "0"), Carried(STREAM, (), newest_before)])
    return ledger


def begin_killed(store: Store, writer: str, *, time: int = NOW) -> tuple[Takeover, LedgerWriter]:
    """Begin as a generator does that is killed before its ledger has a line."""
    log = StoreLog(store)
    taken = take_over(store, log)
    for ledger, last in taken.closing(store, writer, time):
        ledger.append(last)
    started = WriterStarted(writer, "host", 1, time, "0")
    known = taken.state.forgotten
    log.change(lambda state: began(taken.state if state == EMPTY else state, started, taken.ours, STREAM, known))
    return taken, LedgerWriter(store, writer)


def in_millis(block: Buffer) -> bytes:
    """Return a block with its arrival times in milliseconds, which no block has."""
    table = pq.read_table(pa.BufferReader(pa.py_buffer(block)))
    name, kind = "approximate_arrival_timestamp", pa.timestamp("ms", tz="UTC")
    at = table.schema.get_field_index(name)
    table = table.set_column(at, pa.field(name, kind), table.column(at).cast(kind))
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, table.schema.remove_metadata(), store_schema=False) as out:
        out.write_table(table.replace_schema_metadata())
        out.add_key_value_metadata({FOOTER_KEY: table.schema.metadata[FOOTER_KEY.encode()]})
    return sink.getvalue()
