"""What a generator keeps in memory of the ledger: enough for every session's start, and no more."""

from __future__ import annotations

from generator_harness import position
from hypothesis import given
from hypothesis import strategies as st

from kcl_receiver.generator.range_cache import RangeCache
from kcl_receiver.ranges import TRIM_HORIZON, Position, Range

SHARD = "shardId-000000000000"


def spanning(first: int, last: int, arrival: int = -1) -> Range:
    return Range(
        shard=SHARD,
        session="s",
        after=TRIM_HORIZON,
        first=position(first),
        last=position(last),
        whole=position(last),
        count=last - first + 1,
        size=0,
        arrival_first=arrival,
        arrival_last=arrival,
        checksum="0" * 32,
    )


def recent(*ranges: Range) -> RangeCache:
    out = RangeCache()
    for number, one in enumerate(ranges):
        out.add(f"block-{number}", [one])
    return out


def test_the_ranges_past_a_position_are_given_by_block() -> None:
    ranges = recent(spanning(1, 5), spanning(6, 9), spanning(10, 12))
    assert ranges.beyond(SHARD, position(6)) == {"block-1": [spanning(6, 9)], "block-2": [spanning(10, 12)]}


def test_all_ranges_are_past_a_starting_point() -> None:
    ranges = RangeCache()
    ranges.add("block", [spanning(6, 9), spanning(1, 5)])
    assert ranges.beyond(SHARD, TRIM_HORIZON) == {"block": [spanning(6, 9), spanning(1, 5)]}


def test_what_ends_before_the_checkpoint_is_forgotten_and_the_range_that_holds_it_stays() -> None:
    ranges = recent(spanning(1, 5), spanning(6, 9, arrival=77), spanning(10, 12))
    ranges.forget(SHARD, position(9))
    assert len(ranges) == 2
    assert ranges.arrival_of(SHARD, position(9)) == 77
    assert ranges.beyond(SHARD, position(9)) == {"block-2": [spanning(10, 12)]}


def test_the_arrival_of_a_position_is_the_latest_of_the_ranges_that_hold_it() -> None:
    ranges = recent(spanning(1, 5, arrival=50), spanning(7, 9, arrival=70), spanning(3, 5, arrival=40))
    asked = [position(0), position(1), position(3), position(5), position((5, 1)), position(9)]
    assert [ranges.arrival_of(SHARD, one) for one in asked] == [None, 50, 50, 50, None, 70]
    assert ranges.arrival_of("another shard", position(3)) is None


def test_a_session_that_begins_before_what_was_forgotten_needs_the_ledger() -> None:
    ranges = recent(spanning(1, 5), spanning(6, 9))
    assert ranges.reaches(SHARD, TRIM_HORIZON)
    ranges.forget(SHARD, position(9))
    assert not ranges.reaches(SHARD, TRIM_HORIZON)
    assert not ranges.reaches(SHARD, position(8))
    assert ranges.reaches(SHARD, position(9))
    assert ranges.reaches("another shard", TRIM_HORIZON)


def test_forgetting_nothing_costs_no_reach() -> None:
    ranges = recent(spanning(6, 9))
    ranges.forget(SHARD, position(6))
    assert ranges.reaches(SHARD, TRIM_HORIZON)


@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(0, 9)), max_size=12),
    st.lists(st.integers(1, 60), max_size=4),
    st.integers(1, 60),
)
def test_forgetting_never_changes_the_answer_that_it_still_gives(
    spans: list[tuple[int, int]], checkpoints: list[int], after: int
) -> None:
    every = recent(*(spanning(first, first + more, arrival=first) for first, more in spans))
    some = recent(*(spanning(first, first + more, arrival=first) for first, more in spans))
    for checkpoint in checkpoints:
        some.forget(SHARD, position(checkpoint))
    if some.reaches(SHARD, Position(after)):
        assert some.beyond(SHARD, Position(after)) == every.beyond(SHARD, Position(after))
        assert some.arrival_of(SHARD, Position(after)) == every.arrival_of(SHARD, Position(after))


def test_of_a_shard_that_ended_nothing_is_kept_and_the_ledger_is_asked_if_it_begins_again() -> None:
    ranges = recent(spanning(1, 5, arrival=50), spanning(6, 9, arrival=60))
    ranges.end(SHARD)
    assert len(ranges) == 0
    assert not ranges.reaches(SHARD, position(5))
    assert ranges.reaches(SHARD, position(9))
    ranges.forget_before(60)
    assert not ranges.reaches(SHARD, position(5))
    ranges.forget_before(61)
    assert ranges.forgotten == {}


def test_what_arrived_too_long_ago_is_forgotten_but_for_the_last_range_of_the_shard() -> None:
    ranges = recent(spanning(1, 5, arrival=50), spanning(6, 9, arrival=60), spanning(10, 12, arrival=70))
    ranges.forget_before(61)
    assert ranges.beyond(SHARD, TRIM_HORIZON) == {"block-2": [spanning(10, 12, arrival=70)]}
    ranges.forget_before(10**9)
    assert ranges.arrival_of(SHARD, position(12)) == 70
    assert not ranges.reaches(SHARD, position(8))
    assert ranges.reaches(SHARD, position(9))
    assert ranges.forgotten[SHARD].newest == 60


def test_what_arrived_at_an_unknown_time_is_kept() -> None:
    ranges = recent(spanning(1, 5), spanning(6, 9, arrival=60))
    ranges.forget_before(10**9)
    assert len(ranges) == 2
    ranges.end(SHARD)
    ranges.forget_before(10**9)
    assert not ranges.reaches(SHARD, TRIM_HORIZON)


def test_what_an_earlier_writer_forgot_stays_forgotten() -> None:
    ranges = recent(spanning(1, 5, arrival=50), spanning(6, 9, arrival=60))
    ranges.end(SHARD)
    later = recent(spanning(6, 9, arrival=60))
    later.take(ranges.forgotten)
    assert later.forgotten == ranges.forgotten
    assert not later.reaches(SHARD, position(5))
