"""Batches: what they span, how large they are, and that each one's token is exact."""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import NewPlace, Place
from store_support import NOW, columns_of, range_of, session_at
from test_read import OTHER_SHARD, SHARD, Lake, Stream, count, numbers, numbers_of, run_of

from kcl_receiver import Batch, HoleInShard, read, records
from kcl_receiver.errors import BlockDamaged, BlockMissing, HoleFound
from kcl_receiver.ranges import Position
from kcl_receiver.reading import batcher
from kcl_receiver.reading import reading as reading_module
from kcl_receiver.reading.api import open_reading
from kcl_receiver.reading.batcher import SOLID_BYTES
from kcl_receiver.reading.query import Query
from kcl_receiver.store.blocks.encode import BlockRange
from kcl_receiver.store.ledger.entries import BlockStored

Found = dict[str, list[int]]


@pytest.fixture
def lake(place: Place) -> Lake:
    return Lake(place())


def found_in(batches: Iterable[Batch]) -> Found:
    """Return the sequence numbers of each shard, in the order in which they came."""
    found: Found = defaultdict(list)
    for batch in batches:
        columns = (batch.batch.column(name).to_pylist() for name in ("shard_id", "sequence_number"))
        for shard, number in zip(*columns, strict=True):
            found[shard].append(int(number))
    return dict(found)


def joined(one: Found, other: Found) -> Found:
    return {shard: one.get(shard, []) + other.get(shard, []) for shard in {*one, *other}}


def two_shards(lake: Lake, blocks: int = 4) -> None:
    for first in range(1, 10 * blocks, 10):
        after = first - 1 or None
        lake.block(run_of(first, first + 9, after), run_of(first, first + 9, after, shard=OTHER_SHARD))


def test_a_batch_spans_blocks_and_shards(lake: Lake) -> None:
    two_shards(lake)
    (batch,) = read(lake.store)
    assert found_in([batch]) == {SHARD: count(1, 40), OTHER_SHARD: count(1, 40)}
    assert (batch.shards, batch.shard) == ((SHARD, OTHER_SHARD), None)
    assert numbers(read(lake.store, token=batch.token)) == []
    (alone,) = read(lake.store, shards=[OTHER_SHARD])
    assert (alone.shards, alone.shard, alone.batch.num_rows) == ((OTHER_SHARD,), OTHER_SHARD, 40)
    (data,) = read(lake.store, columns=["data"])
    assert data.batch.num_rows == 80
    assert [one.shard for one in records(lake.store)][:12] == [SHARD] * 10 + [OTHER_SHARD] * 2


def test_by_shard_gives_batches_of_one_shard(lake: Lake) -> None:
    two_shards(lake)
    batches = list(read(lake.store, by_shard=True))
    assert [one.shard for one in batches] == [SHARD, OTHER_SHARD] * 4
    assert found_in(batches) == {SHARD: count(1, 40), OTHER_SHARD: count(1, 40)}
    assert all(set(one.batch.column("shard_id").to_pylist()) == {one.shard} for one in batches)
    (alone,) = read(lake.store, by_shard=True, shards=[SHARD])
    assert numbers_of(alone) == count(1, 40), "without another shard between, it spans blocks"
    large = read(lake.store, by_shard=True, batch_rows=4, columns=["data"])
    assert [one.batch.num_rows for one in large] == [4, 4, 2] * 8


def test_a_batch_is_as_large_as_it_may_be_without_cutting_what_fits(lake: Lake) -> None:
    two_shards(lake)
    assert [one.batch.num_rows for one in read(lake.store, batch_rows=79)] == [60, 20]
    assert [one.batch.num_rows for one in read(lake.store, batch_rows=40)] == [40, 40]
    assert [one.batch.num_rows for one in read(lake.store, batch_rows=19)] == [10] * 8
    assert [one.batch.num_rows for one in read(lake.store, batch_rows=7)] == [7, 3] * 8
    (whole,) = read(lake.store)
    half = whole.batch.nbytes // 2
    sizes = [one.batch.nbytes for one in read(lake.store, batch_bytes=half)]
    assert max(sizes) <= half
    assert len(sizes) in (2, 3)


def test_rows_that_come_in_a_large_piece_go_out_as_they_are(lake: Lake) -> None:
    rows = {number: [(number, 0, b"k", NOW, b"x" * SOLID_BYTES)] for number in (2, 3)}
    large = {number: columns_of(one) for number, one in rows.items()}
    lake.block(run_of(1, 1))
    for number, columns in large.items():
        lake.block(BlockRange(range_of(columns, after=Position(number - 1)), columns))
    for number in (4, 5):
        lake.block(run_of(number, number, number - 1))
    assert [numbers_of(one) for one in read(lake.store)] == [[1], [2], [3], [4, 5]]


def test_a_few_rows_of_a_large_block_do_not_keep_all_of_it(lake: Lake) -> None:
    noise = random.Random(1).randbytes(2000)
    mine = columns_of([(at, 0, b"k", NOW, noise) for at in range(1, 11)])
    others = columns_of([(at, 0, b"k", NOW, noise) for at in range(1, 400)])
    lake.block(BlockRange(range_of(mine), mine), BlockRange(range_of(others, shard=OTHER_SHARD), others))
    (batch,) = read(lake.store, shards=[SHARD])
    assert batch.batch.num_rows == 10
    assert batch.batch.get_total_buffer_size() < 3 * batch.batch.nbytes


def test_a_follower_hands_out_what_there_is_before_it_waits(lake: Lake) -> None:
    seen: list[list[int]] = []
    steps = itertools.count(1)

    def wait(_: float) -> bool:
        step = next(steps)
        assert sum(map(len, seen)) == 6 * (step - 1), "nothing is held back"
        if step == 4:
            return True
        first = 6 * step - 5
        lake.block(run_of(first, first + 2, first - 1 or None))
        lake.block(run_of(first + 3, first + 5, first + 2))
        return False

    seen += map(numbers_of, open_reading(lake.store, Query(follow=True, wait=wait)))
    assert seen == [count(1, 6), count(7, 12), count(13, 18)]


def test_what_is_passed_without_a_record_does_not_gather(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher, "MOST_RANGES", 5)
    lake.block(run_of(1, 1))
    for number in range(2, 30):
        lake.block(run_of(number, number, number - 1))
    reading = read(lake.store, end=NOW + 2)
    (batch,) = itertools.islice(reading, 1)
    assert numbers_of(batch) == [1]
    assert reading.stats.skipped_ranges == 4
    assert list(reading) == []
    assert reading.stats.skipped_ranges == 28


def test_a_limit_is_reached_before_a_hole_is(lake: Lake) -> None:
    lake.block(run_of(1, 3))
    lake.block(run_of(7, 9, 6))
    (batch,) = read(lake.store, limit=3)
    assert numbers_of(batch) == count(1, 3)
    with pytest.raises(HoleFound):
        list(read(lake.store, token=batch.token))


def test_what_came_before_an_error_goes_out_first(lake: Lake) -> None:
    two_shards(lake)
    lake.kept(3).remove()
    reading = read(lake.store)
    assert found_in([next(reading)]) == {SHARD: count(1, 20), OTHER_SHARD: count(1, 20)}
    with pytest.raises(BlockMissing):
        next(reading)
    assert f'"{SHARD}":"20:0"' in reading.token
    assert f'"{OTHER_SHARD}":"20:0"' in reading.token


def test_a_token_leaves_out_nothing_that_an_interrupted_reading_held(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_shards(lake)
    reading = read(lake.store, batch_rows=25)
    first = next(reading)

    def interrupted(*_: object) -> Iterator[None]:
        raise KeyboardInterrupt

    monkeypatch.setattr(reading_module.Blocks, "rows", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(reading)
    monkeypatch.undo()
    rest = found_in(read(lake.store, token=reading.token))
    assert joined(found_in([first]), rest) == {SHARD: count(1, 40), OTHER_SHARD: count(1, 40)}


def test_of_a_block_with_one_damaged_range_the_others_are_read_from_the_block(lake: Lake) -> None:
    lake.block(run_of(1, 3), run_of(4, 6, 3), run_of(7, 9, 6), run_of(1, 3, shard=OTHER_SHARD))
    content = bytearray(lake.kept(1).read())
    content[content.index(b"data-5")] = 88
    lake.kept(1).write(content)
    stream = Stream()
    (batch,) = read(lake.store, fallback=stream)
    assert found_in([batch]) == {SHARD: count(1, 9), OTHER_SHARD: count(1, 3)}
    assert stream.asked == [(lake.blocks[0].block, [4])]
    with pytest.raises(BlockDamaged, match=rf"3 records of {SHARD} from 4:0 to 6:0\n"):
        list(read(lake.store))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32))
def test_reading_on_from_any_token_gives_the_rest(new_place: NewPlace, seed: int) -> None:
    """Several shards, overlaps, blocks out of order, holes, lost blocks; batches of any size, by shard or not."""
    rng = random.Random(seed)
    lake = Lake(new_place()())
    shards = [f"shardId-00000000000{at}" for at in range(rng.randint(1, 4))]
    last = dict.fromkeys(shards, 0)
    entries: list[BlockStored] = []
    for shard in shards:
        lake.add(session_at(shard=shard))
    for _ in range(rng.randint(2, 8)):
        ranges = []
        for shard in rng.sample(shards, rng.randint(1, len(shards))):
            for _ in range(rng.randint(1, 2)):
                back = rng.randint(0, min(last[shard], 3)) if rng.random() < 0.3 else 0
                gap = rng.randint(1, 3) if last[shard] and rng.random() < 0.1 else 0
                first = last[shard] - back + gap + 1
                ranges.append(run_of(first, first + rng.randint(back, back + 5), first - 1 or None, shard=shard))
                last[shard] = max(last[shard], ranges[-1].range.last.sequence_number)
        entries.append(lake.stored(*ranges))
    while entries:
        lake.add(entries.pop(rng.randrange(min(2, len(entries)))))
    if rng.random() < 0.3:
        lake.kept(rng.randint(1, len(lake.blocks))).remove()
    if rng.random() < 0.3 and len(lake.blocks) > 2 and lake.kept(1).is_there and lake.kept(2).is_there:
        lake.replace([1, 2])
    bounds = {
        "batch_rows": rng.choice([1, 2, 5, 17, 1000]),
        "batch_bytes": rng.choice([300, 2000, 2**24]),
        "by_shard": rng.random() < 0.3,
    }
    holes: list[HoleInShard] = []
    named = {"on_hole": holes.append, "fallback": Stream()}
    everything = found_in(read(lake.store, **named))  # type: ignore[arg-type]
    assert all(one == sorted(set(one)) for one in everything.values())
    seen: Found = {}
    reading = read(lake.store, **bounds, **named)  # type: ignore[arg-type]
    for batch in reading:
        assert 0 < batch.batch.num_rows <= bounds["batch_rows"]
        assert batch.batch.num_rows == 1 or batch.batch.nbytes <= bounds["batch_bytes"]
        assert set(batch.shards) == set(batch.batch.column("shard_id").to_pylist())
        assert len(batch.shards) == 1 or not bounds["by_shard"]
        assert reading.token == batch.token
        seen = joined(seen, found_in([batch]))
        rest = found_in(read(lake.store, token=batch.token, **named))  # type: ignore[arg-type]
        assert joined(seen, rest) == everything
    assert seen == everything
