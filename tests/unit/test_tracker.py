from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kcl_receiver.generator.tracker import Tracker
from kcl_receiver.ranges import Position


def tracker(*sizes: int, first: int = 1) -> Tracker:
    """Return a tracker with one batch of each size; batch n ends at position 10 n."""
    made = Tracker(first)
    for number, size in enumerate(sizes, first):
        made.admit(number, Position(10 * number), size)
    return made


def test_nothing_is_stored_before_the_first_batch_is() -> None:
    assert tracker().stored_through == 0
    assert tracker(5, 5).stored_through == 0
    assert tracker(5, 5).stored_position is None
    assert tracker(first=8).stored_through == 7


def test_batches_stored_in_order_are_reported_one_by_one() -> None:
    made = tracker(5, 5)
    made.stored(1)
    assert (made.stored_through, made.stored_position) == (1, Position(10))
    made.stored(2)
    assert (made.stored_through, made.stored_position) == (2, Position(20))


def test_a_batch_stored_behind_a_gap_is_reported_only_when_the_gap_closes() -> None:
    made = tracker(5, 5, 5)
    made.stored(3)
    made.stored(2)
    assert (made.stored_through, made.stored_position) == (0, None)
    made.stored(1)
    assert (made.stored_through, made.stored_position) == (3, Position(30))


def test_a_batch_is_stored_when_all_of_its_parts_are() -> None:
    made = tracker()
    made.admit(1, Position(10), 5, parts=2)
    made.stored(1)
    assert (made.stored_through, made.unstored_bytes) == (0, 5)
    made.stored(1)
    assert (made.stored_through, made.unstored_bytes) == (1, 0)


def test_a_batch_of_no_parts_is_stored_at_once_and_takes_nothing_of_the_window() -> None:
    made = tracker()
    made.admit(1, Position(10), 5, parts=0)
    assert (made.stored_through, made.stored_position, made.unstored_bytes) == (1, Position(10), 0)


def test_a_batch_of_no_parts_behind_one_that_is_not_stored_waits_for_it() -> None:
    made = tracker(7)
    made.admit(2, Position(20), 5, parts=0)
    assert (made.stored_through, made.unstored_bytes) == (0, 7)
    made.stored(1)
    assert (made.stored_through, made.stored_position, made.unstored_bytes) == (2, Position(20), 0)


def test_the_window_counts_what_is_not_stored_wherever_it_stands() -> None:
    made = tracker(1, 10, 100)
    assert made.unstored_bytes == 111
    made.stored(2)
    assert made.unstored_bytes == 101
    made.stored(1)
    assert made.unstored_bytes == 100


@pytest.mark.parametrize("number", [0, 1, 3, 4])
def test_a_batch_that_is_not_the_next_one_is_not_admitted(number: int) -> None:
    made = tracker(5)
    with pytest.raises(ValueError, match=f"batch {number} admitted, 2 is next"):
        made.admit(number, Position(50), 5)
    assert (made.next_number, made.unstored_bytes) == (2, 5)


@pytest.mark.parametrize("number", [-1, 0, 1, 2, 5])
def test_a_batch_that_does_not_wait_to_be_stored_cannot_be_stored(number: int) -> None:
    made = tracker(5, 5, 5, 5)
    made.stored(1)
    made.stored(2)
    made.stored(4)
    for wrong in (number, 4):
        with pytest.raises(ValueError, match=f"batch {wrong} is not waiting"):
            made.stored(wrong)
    assert (made.stored_through, made.unstored_bytes) == (2, 5)


def test_nothing_can_be_stored_where_nothing_waits() -> None:
    with pytest.raises(ValueError, match="batch 1 is not waiting"):
        tracker().stored(1)


@given(st.data(), st.lists(st.tuples(st.integers(0, 100), st.integers(0, 3)), max_size=12), st.integers(1, 50))
def test_in_whatever_order_parts_are_stored_the_report_is_the_contiguous_prefix(
    data: st.DataObject, batches: list[tuple[int, int]], first: int
) -> None:
    made = Tracker(first)
    left: dict[int, int] = {}
    sizes: dict[int, int] = {}

    def check() -> None:
        missing = [number for number, parts in left.items() if parts]
        assert made.stored_through == min(missing, default=made.next_number) - 1
        assert made.unstored_bytes == sum(sizes[number] for number in missing)
        through = made.stored_through
        assert made.stored_position == (Position(through * 10) if through >= first else None)

    waiting = list(enumerate(batches, first))
    while waiting or any(left.values()):
        storable = [number for number, parts in left.items() if parts]
        if waiting and (not storable or data.draw(st.booleans())):
            number, (size, parts) = waiting.pop(0)
            made.admit(number, Position(10 * number), size, parts)
            left[number], sizes[number] = parts, size
        else:
            number = data.draw(st.sampled_from(storable))
            made.stored(number)
            left[number] -= 1
        check()
