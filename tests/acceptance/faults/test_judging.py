"""The campaign's own checks can fail: a world in which all is well, and each way to break it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from store_support import NOW, OTHER_WRITER, WRITER, begin, block_range, local_store, put, records_at, session_at

from faults.judging import Judgement, check_end, check_verify, judge_now, read_all
from kcl_receiver.audit.verify import verify_store
from kcl_receiver.cli.verify import to_json
from kcl_receiver.emulator.producer import Acknowledged, digest_of
from kcl_receiver.ids import writer_id
from kcl_receiver.proof.coverage import Selected, span_of
from kcl_receiver.ranges import Position, Range

SHARD = "shardId-000000000000"
TABLE = "landing"
THIRD_WRITER = writer_id(NOW + 120_000, "00000003")


class LeaseTable:
    """As much of a boto3 client as the verdict asks for."""

    def __init__(self, **checkpoints: object) -> None:
        self.rows = [
            {"leaseKey": {"S": shard}, "checkpoint": {"S": str(checkpoint)}}
            for shard, checkpoint in checkpoints.items()
        ]

    def list_tables(self) -> dict[str, list[str]]:
        return {"TableNames": [TABLE]}

    def get_paginator(self, operation: str) -> LeaseTable:
        return self

    def paginate(self, **request: object) -> Iterator[dict[str, Any]]:
        yield {"Items": self.rows}


class World:
    """Two hosts that shared a shard: numbers 1 to 6 on one, and 7 to 9 on the other."""

    def __init__(self, base: Path) -> None:
        self.stores = [base / "host-1", base / "host-2"]
        first, second = (local_store(path) for path in self.stores)
        for store in (first, second):
            store.claim("landing")
        one = put(first, 1, block_range(1, 2, 3))
        two = put(first, 2, block_range(4, 5, 6, after=Position(3)))
        three = put(second, 1, block_range(7, 8, 9, after=Position(6), session="s2"), writer=OTHER_WRITER)
        begin(first, WRITER).append([session_at(), one, two])
        begin(second, OTHER_WRITER).append([session_at(6, session="s2"), three])
        self.blocks = [one.block, two.block, three.block]
        self.put = [
            Acknowledged(SHARD, number, sub, digest_of(key.decode(), data))
            for number, sub, key, _, data in records_at(*range(1, 10))
        ]

    def file(self, number: int) -> Path:
        """Return the file of a block."""
        (found,) = (
            path for store in self.stores for path in (store / "blocks").rglob(f"{self.blocks[number]}.parquet")
        )
        return found

    def judge(self, checkpoint: object = 9, *, ended: Collection[str] = (), forced: Collection[str] = ()) -> Judgement:
        table = LeaseTable(**{SHARD: checkpoint}) if checkpoint is not None else LeaseTable()
        return judge_now(self.put, self.stores, table, TABLE, ended=ended, forced=forced)

    def store_again(self, *numbers: int, data: bytes = b"data") -> None:
        """Let the second host store records that the first one has."""
        store = local_store(self.stores[1])
        entry = put(store, 9, block_range(*numbers, after=Position(3), session="s2", data=data), writer=THIRD_WRITER)
        begin(store, THIRD_WRITER).append([entry])


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_good_world_has_nothing_to_complain_of(world: World) -> None:
    judgement = world.judge()
    assert judgement.complaints() == []
    assert check_end(judgement) == []
    reading = read_all(world.put, world.stores)
    assert reading.complaints() == []
    assert reading.records == judgement.verdict.stored == 9


def test_a_block_that_is_gone_is_told_by_judge_end_and_reader(world: World) -> None:
    world.file(1).unlink()
    judgement = world.judge()
    assert [number for _, number, _ in judgement.lost] == [4, 5, 6]
    assert "3 records are checkpointed and in no block" in judgement.complaints()[0]
    reading = read_all(world.put, world.stores)
    assert [number for _, number, _ in reading.unread] == [4, 5, 6]
    assert any("block" in gap for gap in reading.gaps)


def test_what_is_not_stored_yet_is_no_loss_as_long_as_it_is_not_checkpointed(world: World) -> None:
    world.file(2).unlink()
    assert world.judge(6).complaints() == []
    assert [number for _, number, _ in world.judge(7).lost] == [7]
    assert any("in no block" in words for words in check_end(world.judge(6)))


def test_a_hole_before_a_checkpoint_is_a_loss_though_later_records_are_stored(world: World) -> None:
    # The last one stored is past the checkpoint, so that comparing with it alone would find nothing.
    world.file(1).unlink()
    judgement = world.judge(5)
    assert not judgement.beyond
    assert [number for _, number, _ in judgement.lost] == [4, 5]


def test_a_checkpoint_past_what_is_stored_is_told_though_nothing_that_was_put_is_missing(world: World) -> None:
    judgement = world.judge(10)
    assert [lease.checkpoint for lease in judgement.beyond] == [(10, 0)]
    assert "past what is stored" in judgement.complaints()[0]


def test_shard_end_asks_for_all_that_was_put_also_when_kcl_has_deleted_the_lease(world: World) -> None:
    assert world.judge("SHARD_END").complaints() == []
    world.file(2).unlink()
    assert len(world.judge("SHARD_END").lost) == 3
    assert len(world.judge(None, ended=[SHARD]).lost) == 3
    assert world.judge(None).lost == []


def test_the_end_asks_for_a_checkpoint_at_the_last_that_is_stored(world: World) -> None:
    assert check_end(world.judge(8)) == [f"{SHARD}: the checkpoint is (8, 0), and (9, 0) is stored"]
    assert check_end(world.judge("TRIM_HORIZON")) != []


def test_records_in_two_blocks_are_excused_only_where_a_lease_was_taken_by_force(world: World) -> None:
    world.store_again(5, 6)
    assert [number for _, number, _ in world.judge().doubled] == [5, 6]
    assert "stored twice" in world.judge().complaints()[0]
    forced = world.judge(forced=[SHARD])
    assert (forced.complaints(), forced.excused) == ([], 2)
    # The reader gets them once all the same.
    reading = read_all(world.put, world.stores)
    assert reading.complaints() == []
    assert reading.records == 9


def test_a_range_that_overlaps_another_hosts_in_part_is_read_in_part(world: World) -> None:
    world.store_again(6, 7)
    reading = read_all(world.put, world.stores)
    assert reading.complaints() == []
    assert reading.records == 9


def test_a_reader_who_takes_every_range_whole_reads_twice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def take_all(ranges: Iterable[tuple[Range, str]]) -> list[Selected]:
        return [Selected(one, block, (span_of(one),)) for one, block in ranges]

    world.store_again(5, 6)
    monkeypatch.setattr("faults.judging.select", take_all)
    reading = read_all(world.put, world.stores)
    assert [number for _, number, _ in reading.doubled] == [5, 6]
    assert "read twice" in reading.complaints()[0]


def test_a_record_with_other_content_is_told(world: World) -> None:
    world.put[3] = Acknowledged(SHARD, 4, 0, digest_of("key-4", b"something else"))
    assert world.judge().altered == [(SHARD, 4, 0)]
    assert "another content" in world.judge().complaints()[0]


def test_a_record_that_the_reader_gets_and_nobody_put_is_no_complaint(world: World) -> None:
    # A put whose answer was lost is in the stream and not on the list.
    del world.put[8]
    assert world.judge().complaints() == []
    assert read_all(world.put, world.stores).complaints() == []


def test_ranges_that_nothing_links_are_a_gap_though_every_record_that_was_put_is_there(tmp_path: Path) -> None:
    store = local_store(tmp_path)
    store.claim("landing")
    one = put(store, 1, block_range(1, 2))
    two = put(store, 2, block_range(8, 9, after=Position(5), session="s2"))
    begin(store, WRITER).append([session_at(), one, session_at(5, session="s2"), two])
    reading = read_all([], [tmp_path])
    assert len(reading.gaps) == 1
    assert "gap after 2" in reading.complaints()[0]


def test_verify_of_one_host_alone_takes_no_gap_and_of_two_hosts_nothing_lost(world: World) -> None:
    first, second = (to_json(verify_store(local_store(path))) for path in world.stores)
    assert check_verify(first, alone=True) == []
    assert check_verify(second, alone=True) == [f"verify: {SHARD} is gap"]
    assert check_verify(second, alone=False) == []
    world.file(2).unlink()
    complaints = check_verify(to_json(verify_store(local_store(world.stores[1]))), alone=False)
    assert complaints == [f"verify: block {world.blocks[2]} is missing", f"verify: {SHARD} is lost"]


def test_verify_of_a_host_whose_lease_moved_on_before_it_stored_anything_complains_only_where_it_is_alone(
    tmp_path: Path,
) -> None:
    store = local_store(tmp_path)
    store.claim("landing")
    begin(store, WRITER).append([session_at()])
    said = to_json(verify_store(local_store(tmp_path)))
    assert check_verify(said, alone=True) == [f"verify: {SHARD} is nothing stored"]
    assert check_verify(said, alone=False) == []


def test_verify_of_a_store_without_its_ledger_is_told(world: World) -> None:
    for file in (world.stores[0] / "ledger").rglob("*.jsonl"):
        file.unlink()
    assert "verify: the ledger is lost" in check_verify(to_json(verify_store(local_store(world.stores[0]))), alone=True)
