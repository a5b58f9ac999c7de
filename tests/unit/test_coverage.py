"""What ranges prove: links, gaps, what may have been trimmed, and which records count."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_support import HOUR, LATE, NOW, end_at, plain_range, session_at

from kcl_receiver.horizon import MARGIN_MS, Unread
from kcl_receiver.proof.coverage import Coverage, Cut, Gap, Span, SpanSet, select, span_of
from kcl_receiver.proof.links import cover
from kcl_receiver.ranges import AT_TIMESTAMP, LATEST, TRIM_HORIZON, After, Position, Range
from kcl_receiver.store.ledger.entries import SessionStarted


def segments(coverage: Coverage) -> list[tuple[int, int]]:
    return [(one.low.position.sequence_number, one.high.position.sequence_number) for one in coverage.segments]


def holes(gaps: tuple[Gap, ...]) -> list[tuple[int | None, int | None, int | None]]:
    def number(position: Position | None) -> int | None:
        return None if position is None else position.sequence_number

    return [(number(one.after), number(one.through), number(one.before)) for one in gaps]


def assert_proven(coverage: Coverage) -> None:
    assert (len(coverage.segments), coverage.gaps, coverage.possibly_trimmed) == (1, (), ())


# Links


@pytest.mark.parametrize("start", [TRIM_HORIZON, AT_TIMESTAMP, LATEST])
def test_a_chain_from_a_starting_point_is_proven(start: str) -> None:
    chain = [plain_range(1, 5, start), plain_range(90, 95, 5), plain_range(96, 200, 95)]
    coverage = cover(chain, [session_at(start)])
    assert_proven(coverage)
    assert segments(coverage) == [(1, 200)]


def test_the_order_in_which_ranges_are_given_changes_nothing() -> None:
    chain = [plain_range(1, 5), plain_range(9, 10, 5), plain_range(12, 15, 11), plain_range(3, 9, session="s2")]
    expected = cover(chain)
    for seed in range(20):
        shuffled = list(chain)
        random.Random(seed).shuffle(shuffled)
        assert cover(shuffled) == expected


def test_a_range_that_follows_a_position_which_nobody_stored_shows_a_gap() -> None:
    coverage = cover([plain_range(1, 5), plain_range(9, 10, 7)])
    assert holes(coverage.gaps) == [(5, 7, 9)]
    assert "past what is stored" in coverage.gaps[0].why
    assert len(coverage.segments) == 2


def test_sequence_numbers_that_are_near_prove_nothing() -> None:
    assert holes(cover([plain_range(1, 5), plain_range(6, 10, AT_TIMESTAMP)]).gaps) == [(5, None, 6)]


def test_a_session_that_resumes_inside_a_stored_range_is_linked() -> None:
    assert_proven(cover([plain_range(1, 10), plain_range(6, 20, 5, session="s2")], [session_at(), session_at(5)]))
    assert_proven(cover([plain_range(1, 10), plain_range(11, 20, 10)], [session_at(), session_at(10)]))


def test_a_second_start_at_a_starting_point_is_linked_only_by_overlapping() -> None:
    again = "began again at a starting point"
    for start in (TRIM_HORIZON, AT_TIMESTAMP, LATEST):
        apart = cover([plain_range(1, 10), plain_range(12, 20, start, session="s2")])
        assert holes(apart.gaps) == [(10, None, 12)]
        assert again in apart.gaps[0].why
        assert_proven(cover([plain_range(1, 10), plain_range(10, 20, start, session="s2")]))
        assert_proven(cover([plain_range(5, 10), plain_range(1, 20, start, session="s2")]))


def test_what_was_stored_already_need_not_be_stored_again_to_link() -> None:
    """The second session was given 1 to 10 again, which was skipped: its first range follows what it was given."""
    assert_proven(cover([plain_range(1, 10), plain_range(11, 15, 10, session="s2")], [session_at(), session_at()]))


def test_sub_sequence_numbers_are_part_of_the_link() -> None:
    def sub(first: tuple[int, int], last: tuple[int, int], after: After) -> Range:
        begin, end = Position(*first), Position(*last)
        return Range("s", "s1", after, begin, end, None, 3, 1, NOW, NOW, "", delivered=NOW)

    first = sub((1, 0), (2, 4), TRIM_HORIZON)
    assert_proven(cover([first, sub((2, 5), (2, 9), Position(2, 4))]))
    gap = cover([first, sub((2, 7), (2, 9), Position(2, 6))]).gaps[0]
    assert (gap.after, gap.through, gap.before) == (Position(2, 4), Position(2, 6), Position(2, 7))


def test_numbers_of_different_lengths_are_in_the_order_of_integers() -> None:
    assert_proven(cover([plain_range(9, 99), plain_range(100, 10**55, 99), plain_range(10**56, 10**128, 10**55)]))


@pytest.mark.parametrize("trimmed", [False, True])
@pytest.mark.parametrize("after", [5, 7, 30])
def test_a_range_that_says_it_follows_what_it_holds_proves_no_more_than_itself(after: int, trimmed: bool) -> None:
    odd = plain_range(5, 9, after, trimmed=trimmed)
    coverage = cover([plain_range(1, 3), odd, plain_range(20, 21, 15)])
    assert segments(coverage) == [(1, 3), (5, 9), (15, 21)]
    assert [(hole[0], hole[2]) for hole in holes(coverage.gaps)][:2] == [(3, 5), (9, 20)]


# Gaps at the ends


def test_a_shard_that_begins_at_a_checkpoint_with_nothing_before_it_is_not_proven() -> None:
    coverage = cover([plain_range(9, 10, 7)], [session_at(7)])
    assert holes(coverage.gaps) == [(None, 7, 9)]
    assert "nothing up to it is stored" in coverage.gaps[0].why
    assert holes(cover([plain_range(9, 10, 7)]).gaps) == [(None, 7, 9)]


def test_a_checkpoint_past_all_that_is_stored_shows_that_the_end_was_lost() -> None:
    coverage = cover([plain_range(1, 10)], [session_at(), session_at(20, session="s2")])
    assert holes(coverage.gaps) == [(10, 20, None)]


def test_the_end_of_a_shard_past_all_that_is_stored_shows_that_the_end_was_lost() -> None:
    assert holes(cover([plain_range(1, 10)], [session_at()], end_at(12)).gaps) == [(10, 12, None)]
    assert cover([plain_range(1, 10)], [session_at()], end_at(10)).gaps == ()


def test_a_checkpoint_where_nothing_at_all_is_stored_is_a_gap() -> None:
    assert holes(cover([], [session_at(), session_at(20)]).gaps) == [(None, 20, None)]
    assert holes(cover([], [session_at()], end_at(4)).gaps) == [(None, 4, None)]


def test_an_empty_shard_is_proven() -> None:
    assert cover([], [session_at()], end_at(TRIM_HORIZON)) == Coverage((), (), ())


def test_checkpoints_inside_a_gap_are_named_in_it_and_make_no_other() -> None:
    sessions = [session_at(), session_at(12), session_at(15), session_at(3)]
    assert holes(cover([plain_range(1, 10), plain_range(18, 20, 17)], sessions).gaps) == [(10, 17, 18)]
    assert holes(cover([plain_range(1, 10), plain_range(18, 20, TRIM_HORIZON)], sessions).gaps) == [(10, 15, 18)]


# Trimmed


def test_a_link_older_than_the_retention_is_possibly_trimmed_and_no_gap() -> None:
    coverage = cover([plain_range(1, 10), plain_range(50, 60, 10, session="s2", trimmed=True)])
    assert coverage.gaps == ()
    assert holes(coverage.possibly_trimmed) == [(10, None, 50)]
    assert len(coverage.segments) == 2


def test_any_link_of_a_session_may_be_possibly_trimmed_and_is_so_alone() -> None:
    sessions = [session_at(), session_at(10, session="s2")]
    ranges = [
        plain_range(1, 10),
        plain_range(20, 30, 10, session="s2"),
        plain_range(50, 60, 30, session="s2", trimmed=True),
        plain_range(61, 70, 60, session="s2"),
    ]
    coverage = cover(ranges, sessions)
    assert coverage.gaps == ()
    assert holes(coverage.possibly_trimmed) == [(30, None, 50)]
    assert coverage.possibly_trimmed[0].unread == Unread(NOW - MARGIN_MS, LATE - 24 * HOUR)


def test_a_late_session_that_has_delivered_nothing_yet_is_possibly_trimmed_at_its_end() -> None:
    sessions = [session_at(), session_at(10, session="s2", trimmed=True)]
    assert holes(cover([plain_range(1, 10)], sessions).possibly_trimmed) == [(10, None, None)]
    past_what_is_stored = cover([plain_range(1, 8)], sessions)
    assert holes(past_what_is_stored.gaps) == [(8, 10, None)]
    assert past_what_is_stored.possibly_trimmed == ()


def test_what_a_late_session_may_have_missed_lies_behind_all_that_is_stored() -> None:
    sessions = [session_at(), session_at(10, session="s2", trimmed=True)]
    stored = [plain_range(1, 10), plain_range(12, 13, 10)]
    assert holes(cover(stored, sessions).possibly_trimmed) == [(13, None, None)]
    assert cover(stored, [session_at(), session_at(10, session="s2")]).possibly_trimmed == ()


def test_a_shard_that_ended_later_than_the_retention_is_possibly_trimmed_past_all_that_is_stored() -> None:
    sessions = [session_at(), session_at(10, session="s2")]
    stored = [plain_range(1, 10), plain_range(12, 13, 10)]
    assert holes(cover(stored, sessions, end_at(13, time=LATE)).possibly_trimmed) == [(13, None, None)]
    assert holes(cover(stored, sessions, end_at(10, time=LATE)).possibly_trimmed) == [(13, None, None)]
    assert cover(stored, sessions, end_at(13)).possibly_trimmed == ()


def test_a_shard_that_ended_unread_is_possibly_trimmed_if_it_ended_late() -> None:
    ended = end_at(TRIM_HORIZON, time=LATE)
    assert holes(cover([], [session_at()], ended).possibly_trimmed) == [(None, None, None)]
    assert cover([], [session_at()], end_at(TRIM_HORIZON)).possibly_trimmed == ()
    assert cover([], [session_at(trimmed=True)], ended).possibly_trimmed == ()  # all that was retained then


def test_a_late_link_that_another_range_covers_is_proven() -> None:
    late = plain_range(50, 60, 10, session="s2", trimmed=True)
    assert_proven(cover([plain_range(1, 10), late, plain_range(11, 55, 10)]))
    assert_proven(cover([plain_range(1, 50), late]))


def test_a_late_link_from_a_position_that_is_not_stored_is_a_gap() -> None:
    coverage = cover([plain_range(1, 10), plain_range(50, 60, 20, trimmed=True)])
    assert holes(coverage.gaps) == [(10, 20, 50)]
    assert coverage.possibly_trimmed == ()
    assert holes(cover([plain_range(50, 60, 20, trimmed=True)]).gaps) == [(None, 20, 50)]


# A start that stored nothing


def test_beginning_at_latest_twice_loses_what_came_between() -> None:
    sessions = [session_at(LATEST), session_at(LATEST, session="s2", time=NOW + 1)]
    coverage = cover([plain_range(5, 9, LATEST, session="s2")], sessions)
    assert holes(coverage.gaps) == [(None, None, 5)]
    assert_proven(cover([plain_range(5, 9, LATEST, session="s1")], sessions))
    from_the_horizon = [session_at(TRIM_HORIZON), session_at(LATEST, session="s2", time=NOW + 1)]
    assert holes(cover([plain_range(5, 9, LATEST, session="s2")], from_the_horizon).gaps) == [(None, None, 5)]
    earlier = [session_at(LATEST), session_at(TRIM_HORIZON, session="s2", time=NOW + 1)]
    assert_proven(cover([plain_range(5, 9, TRIM_HORIZON, session="s2")], earlier))


@pytest.mark.parametrize(
    ("minutes", "retention", "proven"), [(10, 24, True), (20, 24, False), (10, 0, True), (20, 0, False)]
)
def test_beginning_again_later_than_what_was_retained_at_first_is_possibly_trimmed(
    minutes: int, retention: int, proven: bool
) -> None:
    later = NOW + minutes * 60_000
    sessions = [session_at(retention_hours=retention), session_at(session="s2", time=later)]
    coverage = cover([plain_range(5, 9, session="s2", at=later)], sessions)
    assert coverage.gaps == ()
    assert (holes(coverage.possibly_trimmed) == []) is proven


def first_start(*, at: int, begins: int | None = None, word: str = TRIM_HORIZON) -> SessionStarted:
    """A session that stored nothing; hours from now."""
    time, since = NOW + at * HOUR, -1 if begins is None else NOW + begins * HOUR
    return session_at(AT_TIMESTAMP if begins is not None else word, session="s1", time=time, begins=since)


def second_start(*, at: int, begins: int | None = None) -> SessionStarted:
    return replace(first_start(at=at, begins=begins), session="s2")


@pytest.mark.parametrize(
    ("first", "second", "asks_for_more"),
    [
        (first_start(at=101, begins=100), second_start(at=110, begins=50), True),
        (first_start(at=101, begins=100), second_start(at=110), True),
        (first_start(at=101, begins=100), second_start(at=110, begins=100), False),
        (first_start(at=110, word=LATEST), second_start(at=110, begins=50), True),
        (first_start(at=109, begins=100), second_start(at=111), False),
    ],
)
def test_a_start_that_asks_for_more_than_one_before_which_stored_nothing_is_judged_by_what_it_asks_for(
    first: SessionStarted, second: SessionStarted, asks_for_more: bool
) -> None:
    one = plain_range(50, 51, second.after, session="s2", at=NOW + 111 * HOUR, arrived=NOW + 105 * HOUR)
    coverage = cover([one], [first, second])
    assert coverage.gaps == ()
    assert holes(coverage.possibly_trimmed) == ([(None, None, 50)] if asks_for_more else [])


@pytest.mark.parametrize(
    ("first", "begins", "proven"),
    [
        (first_start(at=101), 102, False),  # all that was retained was asked for, and then only what came since
        (first_start(at=101), 76, True),
        (first_start(at=101, word=LATEST), 102, False),
        (first_start(at=101, word=LATEST), 100, True),
        (first_start(at=101, begins=90), 91, False),
        (first_start(at=101, begins=90), 90, True),
    ],
)
def test_a_start_at_a_later_time_than_was_asked_for_skips_what_came_between(
    first: SessionStarted, begins: int, proven: bool
) -> None:
    second = second_start(at=103, begins=begins)
    one = plain_range(50, 51, AT_TIMESTAMP, session="s2", at=NOW + begins * HOUR + 1, arrived=NOW + 102 * HOUR)
    assert holes(cover([one], [first, second]).gaps) == ([] if proven else [(None, None, 50)])


def test_a_start_after_the_first_record_is_stored_changes_nothing_of_where_reading_began() -> None:
    first = session_at()
    again = second_start(at=40, begins=-100)
    later = plain_range(60, 61, AT_TIMESTAMP, session="s2", at=again.time, arrived=again.time)
    assert cover([plain_range(50, 51), later], [first, again]).possibly_trimmed == ()
    late = plain_range(50, 51, trimmed=True)
    assert holes(cover([late, later], [first, again]).possibly_trimmed) == [(None, None, 50)]


def test_of_one_session_that_delivered_the_first_record_twice_the_time_that_is_good_counts() -> None:
    ranges = [plain_range(50, 51), plain_range(50, 51, at=NOW + 20 * 60_000)]
    assert_proven(cover(ranges, [session_at()]))
    assert_proven(cover(ranges[::-1], [session_at()]))


# Which records count


def parts(selected: tuple[Span, ...]) -> list[str]:
    return [
        f"{'(' if one.low.side else '['}{one.low.position.sequence_number},{one.high.position.sequence_number}"
        f"{']' if one.high.side else ')'}"
        for one in selected
    ]


def test_a_record_counts_where_it_comes_first() -> None:
    ranges = [plain_range(5, 10), plain_range(1, 7), plain_range(6, 20), plain_range(2, 9), plain_range(30, 30)]
    selected = select((one, f"b{number}") for number, one in enumerate(ranges))
    assert [parts(one.parts) for one in selected] == [["[5,10]"], ["[1,5)"], ["(10,20]"], [], ["[30,30]"]]
    assert [one.records for one in selected] == [10, None, None, 0, 10]
    assert [one.block for one in selected] == ["b0", "b1", "b2", "b3", "b4"]


def test_a_range_around_others_counts_on_both_sides_and_between() -> None:
    ranges = [plain_range(5, 6), plain_range(8, 9), plain_range(1, 20)]
    assert parts(select((one, "b") for one in ranges)[-1].parts) == ["[1,5)", "(6,8)", "(9,20]"]


intervals = st.lists(
    st.tuples(st.integers(0, 25), st.integers(0, 8)).map(lambda one: (one[0], one[0] + one[1])), max_size=12
)


@given(intervals)
def test_every_record_counts_exactly_once(bounds: list[tuple[int, int]]) -> None:
    ranges = [plain_range(first, last) for first, last in bounds]
    counted: dict[int, int] = {}
    for one in select((one, "b") for one in ranges):
        for number in range(one.range.first.sequence_number, one.range.last.sequence_number + 1):
            if any(part.holds(Position(number)) for part in one.parts):
                counted[number] = counted.get(number, 0) + 1
    everything = {number for first, last in bounds for number in range(first, last + 1)}
    assert counted == dict.fromkeys(everything, 1)


@given(intervals, st.tuples(st.integers(0, 25), st.integers(0, 8)))
def test_a_set_of_spans_holds_what_was_put_in_and_misses_the_rest(
    bounds: list[tuple[int, int]], asked: tuple[int, int]
) -> None:
    spans = SpanSet(span_of(plain_range(first, last)) for first, last in bounds)
    inside = {number for first, last in bounds for number in range(first, last + 1)}
    assert {number for number in range(40) if spans.holds(Position(number))} == inside
    kept = spans.spans()
    assert all(one.high < two.low for one, two in pairwise(kept))
    first, last = asked[0], sum(asked)
    missing = spans.missing(Span(Cut(Position(first), 0), Cut(Position(last), 1)))
    missed = {number for number in range(40) if any(one.holds(Position(number)) for one in missing)}
    assert missed == set(range(first, last + 1)) - inside


@given(st.data())
def test_whatever_is_lost_from_a_delivery_is_never_called_proven(data: st.DataObject) -> None:
    """One shard is delivered by sessions that resume where they like; then any ranges are lost."""
    numbers = sorted(data.draw(st.sets(st.integers(0, 200), min_size=2, max_size=30)))
    ranges: list[Range] = []
    sessions = []
    reached = 0  # how many records were delivered at most so far
    for session in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, reached))
        after: After = Position(numbers[at - 1]) if at else TRIM_HORIZON
        sessions.append(session_at(after, session=f"s{session}", time=NOW + session))
        for _ in range(data.draw(st.integers(0, 4))):
            length = data.draw(st.integers(1, 8))
            if at >= len(numbers):
                break
            batch = numbers[at : at + length]
            ranges.append(plain_range(batch[0], batch[-1], after, session=f"s{session}"))
            at += len(batch)
            after = Position(batch[-1])
        reached = max(reached, at)
    whole = cover(ranges, sessions)
    assert whole.gaps == whole.possibly_trimmed == ()
    kept = [one for one in ranges if data.draw(st.booleans())]
    coverage = cover(kept, sessions, end_at(numbers[reached - 1] if reached else TRIM_HORIZON))
    held = SpanSet(map(span_of, kept))
    missing = [number for number in numbers[:reached] if not held.holds(Position(number))]
    assert bool(coverage.gaps) is bool(missing)
    assert coverage.possibly_trimmed == ()
