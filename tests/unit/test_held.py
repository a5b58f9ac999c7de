from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from kcl_receiver.generator.stored_spans import Span, StoredSpans
from kcl_receiver.ranges import Position

positions = st.builds(Position, st.integers(0, 15), st.integers(0, 2))
spans = st.tuples(positions, positions).map(lambda ends: (min(ends), max(ends)))
many = st.lists(spans, max_size=6)
rows_of_a_batch = st.lists(positions, max_size=25, unique=True).map(sorted)


def missing(held: StoredSpans, rows: list[Position]) -> list[tuple[int, int]]:
    return held.missing(len(rows), rows.__getitem__)


def in_any(spans: list[Span], position: Position) -> bool:
    return any(first <= position <= last for first, last in spans)


def any_between(spans: list[Span], before: Position, behind: Position) -> bool:
    return any(before < first and last < behind for first, last in spans)


def at(*sequences: int) -> list[Position]:
    return [Position(one) for one in sequences]


def span(first: int, last: int) -> Span:
    return Position(first), Position(last)


def test_nothing_is_held_where_no_span_is() -> None:
    assert not StoredSpans()
    assert missing(StoredSpans(), at(1, 2, 3)) == [(0, 3)]
    assert not StoredSpans().touches(Position(0), Position(9))


def test_the_hole_between_two_spans_is_missing() -> None:
    held = StoredSpans([span(1, 3), span(7, 9)])
    assert missing(held, at(1, 2, 3, 5, 6, 7, 8)) == [(3, 5)]


def test_both_ends_of_a_span_are_held() -> None:
    held = StoredSpans([span(3, 5)])
    assert missing(held, at(2, 3, 5, 6)) == [(0, 1), (3, 4)]


def test_a_span_ends_within_an_aggregate_at_its_sub_sequence_number() -> None:
    held = StoredSpans([(Position(5, 1), Position(5, 2))])
    assert missing(held, [Position(5, sub) for sub in range(5)]) == [(0, 1), (3, 5)]


def test_neighbouring_spans_are_not_joined_over_the_hole_between_them() -> None:
    held = StoredSpans([(Position(1), Position(2)), (Position(2, 2), Position(3))])
    assert missing(held, [Position(2), Position(2, 1), Position(2, 2)]) == [(1, 2)]


def test_overlapping_spans_in_any_order_are_one() -> None:
    held = StoredSpans([span(5, 9), span(1, 6), span(2, 3)])
    assert missing(held, at(0, 1, 4, 7, 9, 10)) == [(0, 1), (5, 6)]


def test_a_span_that_ends_before_another_begins_does_not_touch_what_lies_between() -> None:
    held = StoredSpans([span(1, 3), span(7, 9)])
    assert not held.touches(Position(4), Position(6))
    assert held.touches(Position(3), Position(4))
    assert held.touches(Position(6), Position(7))
    assert held.touches(Position(2), Position(2))
    assert held.touches(Position(0), Position(20))
    assert not held.touches(Position(10), Position(20))


def test_what_delivery_has_passed_is_forgotten_and_the_rest_is_not() -> None:
    held = StoredSpans([span(1, 3), span(5, 9)])
    held.forget_through(Position(3))
    assert not held.touches(Position(1), Position(3))
    held.forget_through(Position(8))
    assert missing(held, at(9, 10)) == [(1, 2)]
    held.forget_through(Position(9))
    assert not held


@given(many, rows_of_a_batch)
def test_exactly_the_rows_outside_of_every_span_are_missing(spans: list[Span], rows: list[Position]) -> None:
    found = missing(StoredSpans(spans), rows)
    expected = [row for row, position in enumerate(rows) if not in_any(spans, position)]
    assert [row for start, stop in found for row in range(start, stop)] == expected
    assert all(start < stop for start, stop in found)
    # Runs are as long as they can be: only a span without any row in it parts two of them.
    assert all(
        stop < start or any_between(spans, rows[stop - 1], rows[start]) for (_, stop), (start, _) in pairwise(found)
    )


@given(many, spans)
def test_a_span_is_touched_exactly_where_it_has_a_position_in_common(spans: list[Span], asked: Span) -> None:
    expected = any(first <= asked[1] and asked[0] <= last for first, last in spans)
    assert StoredSpans(spans).touches(*asked) == expected


@given(many, positions, rows_of_a_batch)
def test_forgetting_changes_nothing_beyond_what_was_passed(
    spans: list[Span], passed: Position, rows: list[Position]
) -> None:
    held = StoredSpans(spans)
    held.forget_through(passed)
    later = [position for position in rows if position > passed]
    assert missing(held, later) == missing(StoredSpans(spans), later)
    assert bool(held) == any(last > passed for _, last in spans)
