"""Holds what a contestant stored, or saw, against what was played: all there, once, equal.

Files are read by plain pyarrow, and nothing of the receiver. A contestant that stores nothing reports how many records
it saw and a digest of the first and last one of every batch: so a record that is missing or comes twice is found,
while one altered in the middle of a batch is not; for it to cost nothing for each record, it cannot be more.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.harness.contestants import Contestant, Drop, KclpyNoop, KclpyParquet, Receiver
from benchmarks.harness.workload import SCHEMA, ShardLines

SHOWN = 3
"""So many faults of a shard are named."""


COLUMNS = ("sequence_number", "sub_sequence_number", "partition_key", "approximate_arrival_timestamp", "data")
"""Columns of both kinds of files, in the order of `SCHEMA`."""


class CheckFailed(Exception):
    """What was stored is not what was played; the run has no figures."""


def check(contestant: Contestant, expected: Sequence[ShardLines]) -> None:
    """Return if a contestant that has ended did what it should.

    Raises:
        CheckFailed: A record is missing, altered, or there twice; or its checkpoint is not at its last record.
    """
    for peer, shard in zip(contestant.peers, expected, strict=True):
        if not isinstance(contestant, Drop) and peer.checkpoint != shard.lines[-1].last:
            raise CheckFailed(f"{shard.shard} is checkpointed at {peer.checkpoint}, and ends at {shard.lines[-1].last}")
    if isinstance(contestant, KclpyNoop):
        for shard, report in zip(expected, contestant.reports(), strict=True):
            if report["records"] != shard.records:
                raise CheckFailed(f"{shard.shard}: {report['records']} records were seen of {shard.records}")
            if report["digest"] != digest(shard):
                raise CheckFailed(f"{shard.shard}: the records seen are not those that were played")
    elif isinstance(contestant, KclpyParquet):
        for shard in expected:
            compare(shard, _rows(sorted((contestant.directory / "files" / shard.shard).glob("*.parquet"))))
    elif isinstance(contestant, Receiver):
        files = contestant.files()
        rows, shards = _rows(files), _shards(files)
        for shard in expected:
            compare(shard, rows.filter(pc.equal(shards, shard.shard)))
        if len(rows) != sum(shard.records for shard in expected):
            raise CheckFailed(f"{len(rows)} rows are stored, and the shards that were played do not account for all")


def digest(shard: ShardLines) -> str:
    """Return the digest that a no-op makes of these lines."""
    ends = (page.slice(at, 1).to_pylist()[0] for page in shard.pages for at in (0, page.num_rows - 1))
    names = ("partition_key", "sequence_number", "sub_sequence_number", "data")
    return digest_of(tuple(one[name] for name in names) for one in ends)


def digest_of(records: Iterable[tuple[str, str, int, bytes]]) -> str:
    """Return the digest that a no-op makes of key, sequence number, sub-sequence number and data of some records."""
    made = hashlib.sha256()
    for key, sequence, sub, data in records:
        for part in (key, sequence, str(sub)):
            made.update(part.encode() + b"\0")
        made.update(data)
    return made.hexdigest()


def compare(shard: ShardLines, stored: pa.Table) -> None:
    """Return if these rows are the records of a shard, in whatever order.

    Raises:
        CheckFailed: They are not.
    """
    expected = shard.expected()
    # The numbers of a workload all have one length, so that text sorts as numbers do.
    order = pc.sort_indices(stored, [("sequence_number", "ascending"), ("sub_sequence_number", "ascending")])
    stored = stored.take(order)
    if stored.equals(expected):
        return
    wanted, found = _positions(expected), _positions(stored)
    missing = [one for one in wanted if one not in found]
    twice = [one for one, count in found.items() if count > 1]
    foreign = [one for one in found if one not in wanted]
    if wanted != found:
        raise CheckFailed(
            f"{shard.shard}: of {expected.num_rows} records {len(missing)} are missing {missing[:SHOWN]}, "
            f"{len(twice)} are stored more than once {twice[:SHOWN]}, {len(foreign)} were never played"
        )
    for name in SCHEMA.names:
        differ = pc.indices_nonzero(pc.not_equal(stored[name], expected[name]))
        if len(differ):
            at = differ[0].as_py()
            raise CheckFailed(
                f"{shard.shard}: {len(differ)} records differ in {name}, the first at {list(wanted)[at]}: "
                f"{stored[name][at]} is stored, and {expected[name][at]} was played"
            )
    raise CheckFailed(f"{shard.shard}: the records stored are not those that were played")


def _positions(table: pa.Table) -> Counter[tuple[str, int]]:
    names = ("sequence_number", "sub_sequence_number")
    return Counter(zip(*(table[name].to_pylist() for name in names), strict=True))


def _rows(files: Sequence[Path]) -> pa.Table:
    """Return the rows of some files, one file after the other, in the form of `SCHEMA`."""
    # Data is cast file by file: together it may be more than 32-bit offsets reach.
    tables = [pq.ParquetFile(file).read(columns=COLUMNS) for file in files]
    return pa.concat_tables([SCHEMA.empty_table(), *(_in_form(table) for table in tables)])


def _in_form(table: pa.Table) -> pa.Table:
    columns = [pc.cast(_in_millis(table[name]), kind) for name, kind in zip(COLUMNS, SCHEMA.types, strict=True)]
    return pa.table(columns, schema=SCHEMA)


def _in_millis(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    return pc.cast(column, pa.timestamp("ms", kind.tz)) if pa.types.is_timestamp(kind) else column


def _shards(files: Sequence[Path]) -> pa.ChunkedArray:
    """Return the shard of every row that `_rows` gives."""
    found = [pc.cast(pq.ParquetFile(file).read(columns=["shard_id"])["shard_id"], pa.string()) for file in files]
    return pa.chunked_array([chunk for one in found for chunk in one.chunks], pa.string())
