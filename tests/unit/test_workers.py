"""What the generator's threads do, on a real store and with a stream that answers what a test says."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from generator_harness import batch_message, columns_of, position

from kcl_receiver.aws import Shard
from kcl_receiver.errors import StoreUnavailable
from kcl_receiver.generator.effects import Append, BlockPart, BlockRecord, LookUp, WriteBlock
from kcl_receiver.generator.stream import StreamView
from kcl_receiver.generator.workers import Workers
from kcl_receiver.ranges import TRIM_HORIZON, After, Position, Range, StreamIdentity
from kcl_receiver.store.local import LocalStore
from kcl_receiver.store.names import writer_id

SHARD = "shardId-000000000000"


class QuietStream:
    """A stream that is always there."""

    retention_hours = 24

    def describe(self, _expected: StreamIdentity | None) -> StreamIdentity:
        return StreamIdentity("arn", 1)

    def shard(self, shard: str) -> Shard:
        return Shard(shard, 0, None, (), ("0", "1"))

    def check_position(self, _shard: str, _position: Position) -> None:
        """Every number is one of the stream's."""


def workers(tmp_path: Path) -> Workers:
    made = Workers(
        LocalStore(str(tmp_path / "store")),
        cast(StreamView, QuietStream()),
        "landing",
        writer_id(0),
        "none",
        store_again=False,
    )
    made.prepare()
    return made


def store(made: Workers, number: int, numbers: list[int], after: After, checkpoint: Position | None = None) -> None:
    columns = columns_of([position(one) for one in numbers])
    message = batch_message(columns, number, after)
    last = position(numbers[-1])
    one = Range(
        shard=SHARD,
        session="s",
        after=after,
        first=position(numbers[0]),
        last=last,
        whole=last,
        count=columns.count,
        size=columns.size,
        arrival_first=message.arrival_first,
        arrival_last=message.arrival_last,
        checksum=message.checksum,
    )
    written = made.write_block(WriteBlock(number, (BlockPart(one, columns),)))
    made.append(Append((BlockRecord(number, written),)), {} if checkpoint is None else {SHARD: checkpoint})


def held(made: Workers, after: After) -> list[tuple[int, int]]:
    facts = made.look_up(LookUp("s2", SHARD, after))
    return [(one.first.sequence_number, one.last.sequence_number) for one in facts.held]


def test_a_lease_that_was_reset_finds_what_was_forgotten_in_the_ledger(tmp_path: Path) -> None:
    made = workers(tmp_path)
    store(made, 1, [1, 2], TRIM_HORIZON)
    store(made, 2, [3, 4], position(2))
    store(made, 3, [5, 6], position(4), checkpoint=position(4))
    assert made.ranges_in_memory == 2
    assert held(made, position(4)) == [(5, 6)]
    assert held(made, position(2)) == [(3, 4), (5, 6)]
    assert held(made, TRIM_HORIZON) == [(1, 2), (3, 4), (5, 6)]


def test_a_second_generator_does_not_write_to_the_same_store(tmp_path: Path) -> None:
    first = workers(tmp_path)
    with pytest.raises(StoreUnavailable, match="another generator writes to the store"):
        workers(tmp_path)
    assert first.stream is not None


def test_a_block_that_was_deleted_is_not_held(tmp_path: Path) -> None:
    made = workers(tmp_path)
    store(made, 1, [1, 2], TRIM_HORIZON)
    assert held(made, TRIM_HORIZON) == [(1, 2)]
    for block in (tmp_path / "store" / "blocks").rglob("*.parquet"):
        block.unlink()
    assert held(made, TRIM_HORIZON) == []
