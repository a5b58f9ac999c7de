"""A shard's time in a bounded number of stretches, and the bars that are drawn of it."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_support import NOW, SHARD, STREAM

from kcl_receiver.audit.report import (
    EXPIRED,
    GAP,
    LOST,
    OVERLAP,
    POSSIBLY_TRIMMED,
    STORED,
    ShardReport,
    Stretch,
)
from kcl_receiver.audit.timeline import Stretches, draw
from kcl_receiver.cli import verify_picture
from kcl_receiver.cli.verify_picture import picture

times = st.tuples(st.integers(0, 1000), st.integers(0, 30), st.integers(1, 9))


def test_stretches_that_touch_become_one() -> None:
    found = Stretches()
    for begin, end in ((10, 20), (20, 30), (40, 50), (45, 47)):
        found.add(begin, end, 1)
    assert found.get() == [(10, 30, 2), (40, 50, 2)]


def test_an_unknown_time_is_left_out_and_a_wrong_one_turned_round() -> None:
    found = Stretches()
    found.add(-1, 5, 1)
    found.add(5, -1, 1)
    found.add(9, 7, 1)
    assert found.get() == [(7, 9, 1)]


def test_of_too_many_the_nearest_are_joined() -> None:
    found = Stretches(3)
    for begin in (0, 10, 11, 50, 52, 90):
        found.add(begin, begin, 1)
    assert found.get() == [(0, 11, 3), (50, 52, 2), (90, 90, 1)]


@given(st.lists(times, max_size=200), st.integers(1, 8))
def test_stretches_are_bounded_lose_no_record_and_do_not_overlap(added: list, resolution: int) -> None:  # type: ignore[type-arg]
    found = Stretches(resolution)
    for begin, length, records in added:
        found.add(begin, begin + length, records)
    kept = found.get()
    assert len(kept) <= resolution
    assert sum(records for _, _, records in kept) == sum(records for _, _, records in added)
    assert all(before[1] < after[0] for before, after in pairwise(kept))
    for begin, length, _ in added:
        assert any(low <= begin and begin + length <= high for low, high, _ in kept)


def test_what_is_amiss_is_laid_over_what_is_stored_and_shares_its_records() -> None:
    timeline = draw([(0, 100, 10)], [(GAP, 40, 60, 0), (LOST, 90, 100, 3)])
    assert timeline == (
        Stretch(STORED, 0, 40, 5),
        Stretch(GAP, 40, 60, 0),
        Stretch(STORED, 60, 90, 5),
        Stretch(LOST, 90, 100, 3),
    )


def test_a_gap_of_which_one_end_is_known_is_put_there() -> None:
    assert draw([(0, 10, 1)], [(GAP, 10, -1, 0)])[-1] == Stretch(GAP, 10, 10, 0)
    assert draw([], [(GAP, -1, -1, 0)]) == ()


@given(st.lists(times, max_size=50), st.lists(times, max_size=20))
def test_no_gap_is_merged_and_no_record_lost(added: list, gaps: list) -> None:  # type: ignore[type-arg]
    stored = Stretches()
    for begin, length, records in added:
        stored.add(begin, begin + length, records)
    timeline = draw(stored.get(), [(GAP, begin, begin + length, 0) for begin, length, _ in gaps])
    assert sum(one.kind == GAP for one in timeline) == len(gaps)
    assert sum(one.records for one in timeline) == sum(records for _, _, records in added)
    assert list(timeline) == sorted(timeline, key=lambda one: one.begin_ms)
    for one in timeline:
        for begin, length, _ in gaps:
            if one.kind == STORED and one.begin_ms < one.end_ms:
                assert one.end_ms <= begin or begin + length <= one.begin_ms


def shard(name: str, *stretches: Stretch) -> ShardReport:
    return ShardReport(STREAM, name, "proven", 1, 0, 1, None, None, NOW, NOW, False, (), (), (), timeline=stretches)


def bars(lines: list[str]) -> list[str]:
    return [line.split("  ", 2)[2] for line in lines[1:-1]]


def test_a_bar_shows_each_kind_by_a_sign_of_its_own() -> None:
    kinds = (EXPIRED, STORED, OVERLAP, GAP, POSSIBLY_TRIMMED, LOST)
    one = shard(SHARD, *(Stretch(kind, NOW + at * 10_000, NOW + (at + 1) * 10_000, 1) for at, kind in enumerate(kinds)))
    lines = picture([one], 100, plain=False)
    assert bars(lines) == ["░" * 10 + "█" * 10 + "▓" * 10 + "·" * 10 + "?" * 10 + "X" * 10]
    assert bars(picture([one], 100, plain=True)) == [":" * 10 + "#" * 10 + "=" * 10 + "." * 10 + "?" * 10 + "X" * 10]
    for word in ("expired", "stored", "stored twice", "gap", "possibly trimmed", "lost"):
        assert word in lines[-1]


def test_the_shortest_gap_or_loss_has_a_sign_of_its_own() -> None:
    rest = Stretch(STORED, NOW, NOW + 86_400_000, 9)
    for kind, sign in ((GAP, "·"), (LOST, "X")):
        [bar] = bars(
            picture([shard(SHARD, rest, Stretch(kind, NOW + 43_000_000, NOW + 43_000_001, 1))], 100, plain=False)
        )
        assert bar.count(sign) == 1
        assert bar.count("█") == len(bar) - 1


def test_where_nothing_was_delivered_a_line_is_drawn_and_beyond_the_shard_nothing() -> None:
    short = shard(SHARD, Stretch(STORED, NOW, NOW + 100, 1), Stretch(STORED, NOW + 25_000, NOW + 25_100, 1))
    long = shard("shardId-000000000001", Stretch(STORED, NOW, NOW + 60_000, 1))
    first, second = bars(picture([short, long], 100, plain=False))
    assert first == "█" + "─" * 24 + "█"
    assert second == "█" * 60


@pytest.mark.parametrize("columns", [40, 80, 120, 300])
def test_no_line_of_the_picture_is_wider_than_the_terminal(columns: int) -> None:
    made = random.Random(columns)
    shards = [
        shard(
            f"shardId-{at:012d}", *(Stretch(STORED, NOW + b, NOW + b + 999, 1) for b in made.sample(range(10**6), 20))
        )
        for at in range(64)
    ]
    lines = picture(shards, columns, plain=False)
    assert len(lines) == 66
    assert max(map(len, lines[:-1])) <= columns
    assert max(map(len, bars(lines))) <= verify_picture.BAR


def test_without_times_there_is_no_picture() -> None:
    assert picture([shard(SHARD)], 80) == []
