"""Makes the lines that a daemon would write, before any clock runs, and keeps what they hold to compare with.

Every record is distinct. A line is one page of GetRecords: at most 10,000 Kinesis records or 10 MiB of data, taken
apart by KCL where they are KPL aggregates. What is compared with later comes from the values that the lines are made
of, and not from reading the lines again.
"""

from __future__ import annotations

import random
from binascii import b2a_base64
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.harness.events import aggregated_event, event_maker

PAGE_RECORDS = 10_000
PAGE_BYTES = 10 * 2**20
AGGREGATE_RECORDS = 1_750
"""User records of 20 bytes in one aggregate: KPL fills it up to 50 KB (AggregationMaxSize), at 29 bytes each."""
AGGREGATES_PER_PAGE = 200

SIZES = {"20-aggregated": 20, "200": 200, "1000": 1_000, "10000": 10_000, "mixed": 2_320}
"""Name and mean bytes of a record's data."""
MIXED = ((200, 60), (1_000, 30), (10_000, 9), (100_000, 1))
"""Bytes, and how many in a hundred."""
PAYLOADS = ("json", "random")

FIRST_SEQUENCE = 49590338271490256608559692538361571095921575989136588898
FIRST_ARRIVAL = 1_795_353_301_000

SCHEMA = pa.schema(
    [
        ("sequence_number", pa.string()),
        ("sub_sequence_number", pa.int64()),
        ("partition_key", pa.string()),
        ("arrival", pa.int64()),
        ("data", pa.large_binary()),
    ]
)
"""The form in which what was sent and what was stored are compared."""

Position = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Workload:
    """What is played.

    Attributes:
        size: A key of `SIZES`.
        payload: `json` (events of moderate entropy) or `random` (bytes that nothing compresses).
        shards: Number of shards, each with a processor.
        records: User records of all shards together.
        line_records: User records in a line, None for whole pages.
        seed: Decides every byte.
    """

    size: str
    payload: str
    shards: int
    records: int
    line_records: int | None = None
    seed: int = 6

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Line:
    """One processRecords line with its line feed, and the position of its last record."""

    content: bytes
    count: int
    last: Position


@dataclass(frozen=True, slots=True)
class ShardLines:
    """All lines of one shard, and the records that they hold, one record batch a line."""

    shard: str
    lines: list[Line]
    pages: list[pa.RecordBatch]

    @property
    def records(self) -> int:
        """Number of user records."""
        return sum(line.count for line in self.lines)

    @property
    def data_bytes(self) -> int:
        """Bytes of the records' data."""
        return sum(int(pc.sum(pc.binary_length(page["data"])).as_py()) for page in self.pages)

    def expected(self) -> pa.Table:
        """Return what must be stored of this shard."""
        return pa.Table.from_batches(self.pages, SCHEMA)


def shard_id(number: int) -> str:
    """Return a shard's id."""
    return f"shardId-{number:012d}"


def prepare(workload: Workload) -> list[ShardLines]:
    """Return the lines of every shard.

    Raises:
        ValueError: There is no such size or payload, or a shard would have no record.
    """
    if workload.size not in SIZES or workload.payload not in PAYLOADS:
        raise ValueError(f"no such workload: {workload}")
    if workload.records < workload.shards:
        raise ValueError(f"{workload.records} records do not reach {workload.shards} shards")
    return [_shard(workload, number) for number in range(workload.shards)]


def _shard(workload: Workload, number: int) -> ShardLines:
    shard = shard_id(number)
    lines: list[Line] = []
    pages: list[pa.RecordBatch] = []
    for page in _pages(workload, number):
        pages.append(page)
        lines.append(_line(page))
    return ShardLines(shard, lines, pages)


def _pages(workload: Workload, number: int) -> Iterator[pa.RecordBatch]:
    rng = random.Random(f"{workload.seed}-{number}")
    share, more = divmod(workload.records, workload.shards)
    left = share + (number < more)
    serial = number * (share + 1)
    sequence, arrival = FIRST_SEQUENCE + (number << 16), FIRST_ARRIVAL
    aggregated = workload.size == "20-aggregated"
    make = event_maker(workload.payload, rng)
    while left:
        sizes = _sizes(workload, rng, left)
        count = len(sizes)
        if aggregated:
            if workload.payload == "json":
                data = [aggregated_event(one) for one in range(serial, serial + count)]
            else:
                data = [rng.randbytes(20) for _ in sizes]
        else:
            data = [make(serial + row, bytes_) for row, bytes_ in enumerate(sizes)]
        per_record = AGGREGATE_RECORDS if aggregated else 1
        groups = -(-count // per_record)
        steps = rng.randbytes(groups * 10)
        sequences: list[str] = []
        arrivals: list[int] = []
        for group in range(groups):
            # A real number rises by some multiple of 2 ** 80, and its low digits look like chance.
            step = int.from_bytes(steps[group * 10 : group * 10 + 2], "little") + 1
            sequence = ((sequence >> 80) + step << 80) + int.from_bytes(
                steps[group * 10 + 2 : group * 10 + 10], "little"
            )
            arrival += 1
            rows = min(per_record, count - group * per_record)
            sequences += [str(sequence)] * rows
            arrivals += [arrival] * rows
        yield pa.record_batch(
            [
                pa.array(sequences, pa.string()),
                pa.array([row % per_record for row in range(count)], pa.int64()),
                pa.array([f"device-{rng.randrange(100_000):06d}" for _ in range(count)], pa.string()),
                pa.array(arrivals, pa.int64()),
                pa.array(data, pa.large_binary()),
            ],
            schema=SCHEMA,
        )
        serial += count
        left -= count


def _sizes(workload: Workload, rng: random.Random, left: int) -> list[int]:
    """Return the bytes of each record of the next page."""
    if workload.size == "20-aggregated":
        return [20] * min(left, workload.line_records or AGGREGATE_RECORDS * AGGREGATES_PER_PAGE)
    most = min(left, workload.line_records or PAGE_RECORDS)
    if workload.size != "mixed":
        each = SIZES[workload.size]
        return [each] * min(most, max(PAGE_BYTES // each, 1))
    drawn = rng.choices([bytes_ for bytes_, _ in MIXED], [weight for _, weight in MIXED], k=most)
    sizes: list[int] = []
    total = 0
    for one in drawn:
        total += one
        if sizes and total > PAGE_BYTES:
            break
        sizes.append(one)
    return sizes


def _line(page: pa.RecordBatch) -> Line:
    """Return the line as Jackson writes a ProcessRecordsMessage of KCL 3.1.3: these keys, in this order."""
    sequences, subs, keys, arrivals, data = (column.to_pylist() for column in page.columns)
    records = [
        b'{"data":"%b","partitionKey":"%b","sequenceNumber":"%b","approximateArrivalTimestamp":%d,'
        b'"subSequenceNumber":%d,"action":"record"}'
        % (b2a_base64(value, newline=False), key.encode(), sequence.encode(), arrival, sub)
        for sequence, sub, key, arrival, value in zip(sequences, subs, keys, arrivals, data, strict=True)
    ]
    content = b'{"action":"processRecords","records":[' + b",".join(records) + b'],"millisBehindLatest":0}\n'
    return Line(content, page.num_rows, (int(sequences[-1]), subs[-1]))
