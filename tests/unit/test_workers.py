"""What the generator's threads do, on a real store and with a stream that answers what a test says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import pytest
from generator_harness import batch_message, columns_of, position

from kcl_receiver.aws import Shard
from kcl_receiver.errors import StoreUnavailable
from kcl_receiver.generator import presence
from kcl_receiver.generator.effects import Append, BlockPart, BlockRecord, LookUp, WriteBlock
from kcl_receiver.generator.stream import StreamView
from kcl_receiver.generator.workers import Workers
from kcl_receiver.maintenance.compact import Options, compact
from kcl_receiver.ranges import TRIM_HORIZON, After, Position, Range, StreamIdentity
from kcl_receiver.store.base import BlockStore
from kcl_receiver.store.entries import BlockStored
from kcl_receiver.store.local import LocalStore
from kcl_receiver.store.maintenance import Transaction
from kcl_receiver.store.names import writer_id
from kcl_receiver.store.parquet import BlockRange, encode_block

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


class Wall:
    """The wall clock, and the ids of writers that begin by it."""

    def __init__(self, millis: int = 1_795_353_301_000) -> None:
        self.millis = millis
        self.writers: list[str] = []

    def new_writer(self, millis: int) -> str:
        self.writers.append(writer_id(millis, f"{len(self.writers):08x}"))
        return self.writers[-1]


@pytest.fixture(autouse=True)
def day_of_the_writers(monkeypatch: pytest.MonkeyPatch) -> None:
    """On another day than its writer's, a ledger is followed by the next."""
    monkeypatch.setattr("kcl_receiver.generator.workers.wall_millis", lambda: Wall().millis)


def workers(tmp_path: Path, wall: Wall | None = None, ledger_lines: int = 10_000) -> Workers:
    wall = wall or Wall()
    store = LocalStore(str(tmp_path / "store"))
    made = Workers(
        store,
        cast(StreamView, QuietStream()),
        "landing",
        wall.new_writer(wall.millis),
        "none",
        store_again=False,
        new_writer=wall.new_writer,
        ledger_lines=ledger_lines,
    )
    made.prepare()
    return made


def end(made: Workers) -> None:
    """What the end of its process does."""
    os.close(cast(LocalStore, made._store)._locks["lock"])


def ledgers(tmp_path: Path) -> tuple[list[str], list[str]]:
    """Return the writers whose ledger is open, and those whose ledger is sealed."""
    folder = tmp_path / "store" / "ledger"
    return sorted(one.stem for one in folder.glob("*.jsonl")), sorted(one.stem for one in folder.rglob("sealed/*/*"))


def store(made: Workers, number: int, numbers: list[int], after: After, checkpoint: Position | None = None) -> None:
    written = made.write_block(WriteBlock(number, (part(numbers, after),)))
    made.append(Append((BlockRecord(number, written),)), {} if checkpoint is None else {SHARD: checkpoint})


def part(numbers: list[int], after: After) -> BlockPart:
    columns = columns_of([position(one) for one in numbers])
    message = batch_message(columns, 1, after)
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
    return BlockPart(one, columns)


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


# Blocks that maintenance has replaced


def compacted(made: Workers) -> None:
    (report,) = compact(made._store, Options(), 1_795_353_301_000 + 400 * 86_400_000)
    assert report.made == 1


def test_what_was_compacted_is_held(tmp_path: Path) -> None:
    made = workers(tmp_path)
    store(made, 1, [1, 2], TRIM_HORIZON)
    store(made, 2, [3, 4], position(2))
    compacted(made)
    assert len(list(made._store.list_blocks())) == 1
    assert held(made, TRIM_HORIZON) == [(1, 2), (3, 4)]
    assert held(made, position(2)) == [(3, 4)]


def test_what_was_compacted_is_held_after_a_restart_too(tmp_path: Path) -> None:
    made = workers(tmp_path)
    store(made, 1, [1, 2], TRIM_HORIZON)
    store(made, 2, [3, 4], position(2), checkpoint=position(2))
    compacted(made)
    end(made)
    again = workers(tmp_path, Wall(1_795_353_999_000))
    assert held(again, TRIM_HORIZON) == [(1, 2), (3, 4)]


def test_what_was_compacted_and_then_deleted_is_not_held(tmp_path: Path) -> None:
    made = workers(tmp_path)
    store(made, 1, [1, 2], TRIM_HORIZON)
    store(made, 2, [3, 4], position(2))
    compacted(made)
    for block in (tmp_path / "store" / "blocks").rglob("*.parquet"):
        block.unlink()
    assert held(made, TRIM_HORIZON) == []


def test_of_a_block_that_was_recovered_in_part_that_part_is_held(tmp_path: Path) -> None:
    made = workers(tmp_path)
    written = made.write_block(WriteBlock(1, (part([1, 2], TRIM_HORIZON), part([3, 4], position(2)))))
    made.append(Append((BlockRecord(1, written),)), {})
    whole = BlockStored(written.block, StreamIdentity("arn", 1), written.ranges, written.rows, written.size, 0)
    replaced = Transaction(made._store, written.block, "recover", 1)
    kept = part([3, 4], position(2))
    block = replaced.next_block_id()
    encoded = encode_block(block, replaced.writer, whole.stream, [BlockRange(kept.range, kept.columns)], "none")
    made._store.put_block(block, encoded.payload)
    replaced.add_block(BlockStored(block, whole.stream, encoded.ranges, encoded.rows, 1, 0), [whole])
    replaced.commit()
    made._store.delete_block(whole.block)
    assert held(made, TRIM_HORIZON) == [(3, 4)]


def test_a_block_that_is_replaced_again_while_it_is_looked_for_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = workers(tmp_path)
    store(made, 1, [1, 2], TRIM_HORIZON)
    store(made, 2, [3, 4], position(2))
    compacted(made)
    store(made, 3, [5, 6], position(4))
    store(made, 4, [7, 8], position(6))
    real, looks = presence._stand_ins, []

    def and_then_compacted(store: BlockStore, blocks: list[str]) -> dict[str, tuple[str, ...]]:
        found = real(store, blocks)
        if not looks:
            (report,) = compact(made._store, Options(min_age_millis=0), 1_795_353_301_000 + 800 * 86_400_000)
            assert report.made == 1
        looks.append(found)
        return found

    monkeypatch.setattr(presence, "_stand_ins", and_then_compacted)
    assert held(made, TRIM_HORIZON) == [(1, 2), (3, 4), (5, 6), (7, 8)]
    assert len(looks) == 2


def test_what_maintenance_did_is_read_only_if_a_block_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = workers(tmp_path)
    store(made, 1, [1, 2], TRIM_HORIZON)
    monkeypatch.delattr(presence, "load_day")
    assert held(made, TRIM_HORIZON) == [(1, 2)]


# One ledger after the other


def test_a_long_ledger_is_followed_by_another_and_sealed(tmp_path: Path) -> None:
    wall = Wall()
    made = workers(tmp_path, wall, ledger_lines=3)
    store(made, 1, [1, 2], TRIM_HORIZON)
    assert ledgers(tmp_path) == ([wall.writers[0]], [])
    store(made, 2, [3, 4], position(2))
    assert ledgers(tmp_path) == ([wall.writers[1]], [wall.writers[0]])
    assert held(made, position(2)) == [(3, 4)]


def test_what_was_stored_under_the_ledger_before_is_held_after_a_restart(tmp_path: Path) -> None:
    made = workers(tmp_path, ledger_lines=3)
    for number in range(1, 6):
        store(made, number, [2 * number - 1, 2 * number], position(2 * number - 2), checkpoint=position(2))
    assert len(ledgers(tmp_path)[1]) > 1
    end(made)
    again = workers(tmp_path, Wall(1_795_353_999_000))
    assert again.ranges_in_memory == 5
    assert held(again, position(2)) == [(3, 4), (5, 6), (7, 8), (9, 10)]


def test_what_was_forgotten_stays_so_after_a_restart_and_is_found_in_the_sealed_ledgers(tmp_path: Path) -> None:
    made = workers(tmp_path, ledger_lines=3)
    for number in range(1, 6):
        store(made, number, [2 * number - 1, 2 * number], position(2 * number - 2), checkpoint=position(2 * number))
    end(made)
    again = workers(tmp_path, Wall(1_795_353_999_000))
    assert again.ranges_in_memory < 5
    assert held(again, TRIM_HORIZON) == [(1, 2), (3, 4), (5, 6), (7, 8), (9, 10)]


def test_a_new_day_has_a_ledger_of_its_own_so_that_its_blocks_lie_in_a_directory_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wall = Wall()
    monkeypatch.setattr("kcl_receiver.generator.workers.wall_millis", lambda: wall.millis)
    made = workers(tmp_path, wall)
    store(made, 1, [1, 2], TRIM_HORIZON)
    wall.millis += 86_400_000
    store(made, 2, [3, 4], position(2))  # its id was given before the day's first entry
    store(made, 3, [5, 6], position(4))
    days = [one.parent.name for one in sorted((tmp_path / "store" / "blocks").rglob("*.parquet"))]
    assert days == ["2026-11-22", "2026-11-22", "2026-11-23"]


def test_a_ledger_does_not_change_while_a_block_of_the_one_before_is_on_its_way(tmp_path: Path) -> None:
    wall = Wall()
    made = workers(tmp_path, wall, ledger_lines=3)
    slow = WriteBlock(100, (part([101, 102], TRIM_HORIZON),))
    written = made.write_block(slow)
    store(made, 1, [1, 2], TRIM_HORIZON)
    store(made, 2, [3, 4], position(2))
    store(made, 3, [5, 6], position(4))
    store(made, 4, [7, 8], position(6))
    assert len(wall.writers) == 2
    made.append(Append((BlockRecord(100, written),)), {})
    store(made, 5, [9, 10], position(8))
    assert len(wall.writers) == 3
