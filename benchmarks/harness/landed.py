"""Holds what a run on the real daemon left against what was served: a prefix of each shard, every record once.

A run ends by the clock, somewhere in the stream; so what must be there is all up to some record, without a hole, and
the checkpoint in KCL's lease table must be at its last record and not beyond. Files are read by plain pyarrow, one at a
time, and nothing of the receiver. All five values of every record are compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.harness.check import COLUMNS, CheckFailed, digest_of
from benchmarks.harness.reel import (
    CHANCE_AT,
    CHANCE_DIGITS,
    MARK_AT,
    MARK_DIGITS,
    ROUND_AT,
    ROW_AT,
    Reel,
    ReelSpec,
)


def check_files(reels: Sequence[Reel], files: Mapping[str, Sequence[Path]]) -> dict[str, int]:
    """Return how many records of each shard lie in files that belong to one shard each.

    Args:
        reels: What was served.
        files: The files of each shard.

    Raises:
        CheckFailed: A record is missing, altered, there twice, or was never served.
    """
    found: dict[str, int] = {}
    for reel in reels:
        expected = _Expected(reel)
        found[reel.shard] = _prefix(reel.shard, [expected.serials(_read(path)) for path in files.get(reel.shard, ())])
    return found


def check_blocks(reels: Sequence[Reel], blocks: Sequence[Path]) -> dict[str, int]:
    """Return how many records of each shard lie in blocks, which say for every row the shard that it is of.

    Raises:
        CheckFailed: See `check_files`.
    """
    expected = {reel.shard: _Expected(reel) for reel in reels}
    serials: dict[str, list[pa.Array]] = {reel.shard: [] for reel in reels}
    for path in blocks:
        rows = _read(path, "shard_id")
        shards = pc.cast(rows["shard_id"], pa.string())
        for shard in pc.unique(shards).to_pylist():
            if shard not in expected:
                raise CheckFailed(f"{path} has rows of {shard}, which was never served")
            serials[shard].append(expected[shard].serials(rows.filter(pc.equal(shards, shard))))
    return {shard: _prefix(shard, parts) for shard, parts in serials.items()}


def check_reports(
    reels: Sequence[Reel], reports: Mapping[str, Mapping[str, Any]], *, whole_pages: bool
) -> dict[str, int]:
    """Return how many records of each shard a no-op says that it saw.

    Args:
        reels: What was served.
        reports: What the no-op wrote for each shard.
        whole_pages: Every batch was a whole reel, so that it is known which records its digest is of.

    Raises:
        CheckFailed: Its digest is not that of the records that were served.
    """
    found = {reel.shard: int(reports[reel.shard]["records"]) for reel in reels}
    if whole_pages:
        for reel in reels:
            if reports[reel.shard]["digest"] != digest(reel, found[reel.shard]):
                raise CheckFailed(f"{reel.shard}: the records seen are not those that were served")
    return found


def check_checkpoints(reels: Sequence[Reel], found: Mapping[str, int], checkpoints: Mapping[str, str]) -> None:
    """Return if every shard is checkpointed at the last record that was found of it.

    Raises:
        CheckFailed: A checkpoint is elsewhere.
    """
    for reel in reels:
        last = reel.record(found[reel.shard] - 1).sequence_number if found[reel.shard] else "TRIM_HORIZON"
        if checkpoints.get(reel.shard) != last:
            raise CheckFailed(f"{reel.shard} is checkpointed at {checkpoints.get(reel.shard)}, and ends at {last}")


def digest(reel: Reel, records: int) -> str:
    """Return the digest that a no-op makes of batches that are whole reels."""
    rows = reel.spec.rows
    ends = (serial for first in range(0, records, rows) for serial in (first, min(first + rows, records) - 1))
    return digest_of((one.partition_key, one.sequence_number, 0, one.data) for one in map(reel.record, ends))


class _Expected:
    """The values of a reel as columns."""

    def __init__(self, reel: Reel) -> None:
        self._shard = reel.shard
        self._spec: ReelSpec = reel.spec
        self._prefix = reel.prefix
        self._chances = pa.array(reel.chances, pa.string())
        self._keys = pa.array(reel.keys, pa.string())
        self._heads = pa.array([event[:MARK_AT] for event in reel.events], pa.large_binary())
        self._tails = pa.array([event[MARK_AT + MARK_DIGITS :] for event in reel.events], pa.large_binary())

    def serials(self, rows: pa.Table) -> pa.Array:
        """Return the serial numbers of some rows, whose values are as they must be.

        Raises:
            CheckFailed: They are not.
        """
        sequences, subs, keys, arrivals, data = (rows[name].combine_chunks() for name in COLUMNS)
        sequences = pc.cast(sequences, pa.string())
        length = CHANCE_AT + CHANCE_DIGITS
        if not _all(pc.and_(pc.starts_with(sequences, self._prefix), pc.equal(pc.binary_length(sequences), length))):
            raise CheckFailed(f"{self._shard}: there are sequence numbers that were never served")
        rounds = pc.cast(pc.utf8_slice_codeunits(sequences, ROUND_AT, ROW_AT), pa.int64())
        places = pc.cast(pc.utf8_slice_codeunits(sequences, ROW_AT, CHANCE_AT), pa.int64())
        if not _all(pc.less(places, self._spec.rows)):
            raise CheckFailed(f"{self._shard}: there are sequence numbers that were never served")
        data = pc.cast(data, pa.large_binary())
        marks = pc.cast(pc.cast(pc.binary_slice(data, MARK_AT, MARK_AT + MARK_DIGITS), pa.large_string()), pa.int64())
        millis = pc.cast(pc.cast(arrivals, pa.timestamp("ms", tz="UTC")), pa.int64())
        arrived = pc.add(self._spec.first_arrival, pc.multiply(rounds, self._spec.round_millis))
        same = {
            "sequence_number": pc.equal(
                pc.utf8_slice_codeunits(sequences, CHANCE_AT, length), self._chances.take(places)
            ),
            "sub_sequence_number": pc.equal(pc.cast(subs, pa.int64()), 0),
            "partition_key": pc.equal(pc.cast(keys, pa.string()), self._keys.take(places)),
            "approximate_arrival_timestamp": pc.equal(millis, arrived),
            "data, before its mark": pc.equal(pc.binary_slice(data, 0, MARK_AT), self._heads.take(places)),
            "data, in its mark": pc.equal(marks, rounds),
            "data, after its mark": pc.equal(
                pc.binary_slice(data, MARK_AT + MARK_DIGITS, self._spec.size), self._tails.take(places)
            ),
            "the length of data": pc.equal(pc.binary_length(data), self._spec.size),
        }
        for name, equal in same.items():
            if not _all(equal):
                raise CheckFailed(f"{self._shard}: records differ in {name} from what was served")
        return pc.add(pc.multiply(rounds, self._spec.rows), places)


def _prefix(shard: str, parts: Iterable[pa.Array]) -> int:
    """Return how many serial numbers there are.

    Raises:
        CheckFailed: They are not 0, 1, 2 and so on, each once.
    """
    every = pa.chunked_array([*parts], pa.int64())
    count = len(every)
    if count == 0:
        return 0
    distinct = pc.count_distinct(every).as_py()
    if distinct != count:
        raise CheckFailed(f"{shard}: {count - distinct} of {count} records are stored more than once")
    last = pc.max(every).as_py()
    if last != count - 1:
        raise CheckFailed(f"{shard}: {last + 1 - count} records are missing before the last one that is stored")
    return count


def _all(which: Any) -> bool:  # noqa: ANN401 - an array of pyarrow
    """Tell whether all are true; a null is not."""
    return bool(pc.all(pc.fill_null(which, False)).as_py() in (True, None))


def _read(path: Path, *more: str) -> pa.Table:
    return pq.ParquetFile(path).read(columns=[*COLUMNS, *more])
