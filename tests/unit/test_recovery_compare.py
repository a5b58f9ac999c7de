"""One shard of the stream against the ranges that are stored of it: what lies between neighbours, and what is said."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recovery_support import BASE, SHARD, Put, aggregated, plain

from kcl_receiver.audit import compare
from kcl_receiver.audit import stream_audit as question
from kcl_receiver.audit.compare import Comparison
from kcl_receiver.audit.stream_audit import Answer, Differing, End, Hole, Kind, Known, LeftOut, Question, Settled
from kcl_receiver.emulator.kpl import MAGIC, UserRecord, aggregate
from kcl_receiver.kinesis.deaggregate import HashRange
from kcl_receiver.ranges import AT_TIMESTAMP, LATEST, TRIM_HORIZON, Position

LOW = HashRange(0, 2**127 - 1)


def at(place: int, sub: int = 0) -> Position:
    return Position(BASE + place, sub)


def known(first: int, last: int, records: int | None = None, subs: tuple[int, int] = (0, 0)) -> Known:
    return Known(at(first, subs[0]), at(last, subs[1]), last - first + 1 if records is None else records)


def ask(puts: Sequence[Put], ranges: Sequence[Known], end: End = End.TIP, **more: Any) -> Answer:  # noqa: ANN401
    comparison = Comparison(Question(SHARD, ranges, **{"begins": TRIM_HORIZON, **more}))
    for put in puts:
        comparison.record(put.record)
    return comparison.finish(end)


def found(answer: Answer) -> list[tuple[Kind, Position, Position, int]]:
    return [(one.kind, one.first, one.last, one.records) for one in answer.found]


def test_where_nothing_lies_between_neighbours_all_links_are_proven() -> None:
    answer = ask([plain(1), plain(2), plain(3), plain(4)], [known(1, 2), known(3, 3), known(4, 4)])
    assert (answer.links, answer.links_unasked, answer.ranges, answer.ranges_unasked) == (2, 0, 3, 0)
    assert (answer.kinesis_records, answer.records, answer.totals) == (4, 4, {})
    assert not answer.amiss
    assert answer.settles


def test_a_record_between_neighbours_is_skipped() -> None:
    answer = ask([*map(plain, range(1, 8))], [known(1, 2), known(5, 5), known(7, 7)])
    assert found(answer) == [(Kind.SKIPPED, at(3), at(4), 2), (Kind.SKIPPED, at(6), at(6), 1)]
    assert answer.totals == {Kind.SKIPPED: 3}
    assert answer.amiss


def test_arrival_times_of_what_was_skipped_are_told() -> None:
    (one,) = ask([*map(plain, range(1, 6))], [known(1, 1), known(5, 5)]).found
    assert (one.arrival_first, one.arrival_last) == (plain(2).arrival, plain(4).arrival)
    assert one.kinesis_records == 3


def test_user_records_in_the_middle_of_an_aggregate_are_skipped_one_by_one() -> None:
    ranges = [known(1, 2, 3, (0, 1)), known(2, 3, 2, (4, 0))]
    answer = ask([plain(1), aggregated(2, b"a", b"b", b"c", b"d", b"e"), plain(3)], ranges)
    assert found(answer) == [(Kind.SKIPPED, at(2, 2), at(2, 3), 2)]
    assert answer.ranges_differing == 0


def test_what_is_missing_at_both_ends_of_an_aggregate_is_judged_for_itself() -> None:
    answer = ask([aggregated(2, b"a", b"b", b"c")], [known(2, 2, 1, (1, 1))])
    assert found(answer) == [(Kind.SKIPPED, at(2), at(2), 1)]
    assert answer.totals == {Kind.SKIPPED: 1, Kind.LATER: 1}


def test_an_aggregate_in_two_ranges_is_whole() -> None:
    ranges = [known(1, 2, 3, (0, 1)), known(2, 2, 3, (2, 4))]
    answer = ask([plain(1), aggregated(2, b"a", b"b", b"c", b"d", b"e")], ranges)
    assert not answer.amiss
    assert (answer.ranges, answer.links) == (2, 1)


def test_an_aggregate_that_kcl_drops_is_not_skipped() -> None:
    foreign = aggregated(2, b"a", b"b", hash_key=2**127)
    answer = ask([plain(1), foreign, plain(3)], [known(1, 1), known(3, 3)], hash_range=LOW)
    assert not answer.amiss
    assert (answer.dropped, answer.dropped_records) == (1, 2)
    assert answer.left_out == [LeftOut(True, BASE + 2, 2, foreign.arrival)]
    assert answer.records == 2
    assert ask([plain(1), foreign, plain(3)], [known(1, 1), known(3, 3)]).totals == {Kind.SKIPPED: 2}


@pytest.mark.parametrize("stored", [2, 4])
def test_an_aggregate_that_kcl_drops_may_be_stored_or_not(stored: int) -> None:
    foreign = aggregated(2, b"a", b"b", hash_key=2**127)
    answer = ask([plain(1), foreign, plain(3)], [known(1, 3, stored)], hash_range=LOW)
    assert (answer.ranges, answer.ranges_differing) == (1, 0)
    assert (answer.dropped, answer.dropped_records) == ((1, 2) if stored == 2 else (0, 0))
    assert len(answer.left_out) == answer.dropped


@pytest.mark.parametrize("trimmed", [False, True])
def test_dropped_aggregates_count_once_in_ranges_that_overlap_and_in_ranges_that_are_not_compared(
    trimmed: bool,
) -> None:
    puts = [plain(1), aggregated(2, b"a", hash_key=2**127), plain(3), aggregated(4, b"b", hash_key=2**127), plain(5)]
    answer = ask(puts[trimmed:], [known(1, 3, 2), known(1, 5, 3)], hash_range=LOW)
    assert (answer.dropped, answer.dropped_records) == (2, 2)
    assert (answer.ranges, answer.ranges_unasked) == ((0, 2) if trimmed else (2, 0))


def test_an_aggregate_that_kcl_breaks_off_is_counted_with_the_records_that_it_does_not_deliver() -> None:
    whole = aggregate([UserRecord("k", data, place) for data, place in ((b"a", 1), (b"b", 777), (b"c", 2))])
    message = whole[len(MAGIC) : -16].replace(b"777", b"abc")
    record = plain(2, MAGIC + message + hashlib.md5(message).digest())
    for ranges in ([known(1, 1), known(2, 3, 2)], [known(1, 3, 3)]):
        answer = ask([plain(1), record, plain(3)], ranges)
        assert not answer.amiss
        assert (answer.broken, answer.broken_records, answer.dropped) == (1, 2, 0)
        assert answer.left_out == [LeftOut(False, BASE + 2, 2, record.arrival)]


def test_a_range_with_another_number_of_records_is_named() -> None:
    answer = ask([*map(plain, range(1, 5))], [known(1, 2), known(3, 4, 1)])
    assert answer.differing == [Differing(at(3), at(4), 1, 2)]
    assert answer.ranges_differing == 1
    assert answer.amiss


def test_what_comes_after_the_last_that_is_stored_is_not_stored_yet() -> None:
    answer = ask([*map(plain, range(1, 5))], [known(1, 2)])
    assert answer.totals == {Kind.LATER: 2}
    assert found(answer) == []
    assert not answer.amiss


def test_what_comes_after_the_last_that_is_stored_of_an_ended_shard_is_skipped() -> None:
    answer = ask([*map(plain, range(1, 5))], [known(1, 2)], End.SHARD_END, ended=True)
    assert found(answer) == [(Kind.SKIPPED, at(3), at(4), 2)]


@pytest.mark.parametrize(
    ("begins", "kind"),
    [
        (TRIM_HORIZON, Kind.SKIPPED),
        (AT_TIMESTAMP, Kind.EARLIER),
        (LATEST, Kind.EARLIER),
        (None, Kind.EARLIER),
        (at(1), Kind.SKIPPED),
        (at(2), Kind.EARLIER),
    ],
)
def test_what_comes_before_the_first_that_is_stored_depends_on_where_reading_began(begins: object, kind: Kind) -> None:
    answer = ask([plain(2), plain(3)], [known(3, 3)], begins=begins)
    assert answer.totals == {kind: 1}
    assert answer.amiss is (kind is Kind.SKIPPED)


def test_before_the_first_range_of_those_that_were_left_out_there_were_others() -> None:
    assert ask([plain(2), plain(3)], [known(3, 3)], begins=None, begun_before=True).totals == {Kind.SKIPPED: 1}


def test_of_a_shard_of_which_nothing_is_stored_nothing_is_stored_yet() -> None:
    assert ask([plain(1)], []).totals == {Kind.LATER: 1}
    assert ask([plain(1)], [], End.SHARD_END, ended=True).totals == {Kind.SKIPPED: 1}


def test_what_lies_in_a_gap_that_is_known_is_said_to_lie_in_it() -> None:
    gap = Hole("gap", at(2), at(4), at(6))
    answer = ask([*map(plain, range(1, 7))], [known(1, 2), known(6, 6)], holes=[gap])
    assert answer.totals == {Kind.IN_GAP: 3}
    assert answer.holes == [(gap, Settled.RECORDS)]


def test_a_gap_without_an_end_reaches_to_what_is_known_of_it() -> None:
    gap = Hole("gap", at(2), at(4), None)
    answer = ask([*map(plain, range(1, 7))], [known(1, 2)], holes=[gap])
    assert answer.totals == {Kind.IN_GAP: 2, Kind.LATER: 2}


TRIMMED = Hole("possibly trimmed", at(2), None, at(6))


def test_records_in_a_possibly_trimmed_link_were_skipped() -> None:
    answer = ask([*map(plain, range(1, 7))], [known(1, 2), known(6, 6)], holes=[TRIMMED])
    assert answer.totals == {Kind.SKIPPED: 3}
    assert answer.holes == [(TRIMMED, Settled.RECORDS)]
    assert not answer.settles


def test_a_possibly_trimmed_link_is_proven_if_the_stream_reaches_back_before_it() -> None:
    answer = ask([plain(2), plain(6)], [known(1, 2), known(6, 6)], holes=[TRIMMED])
    assert answer.holes == [(TRIMMED, Settled.NOTHING)]
    assert answer.settles
    assert (answer.links, answer.ranges_unasked) == (1, 1)


def test_a_possibly_trimmed_link_is_not_proven_if_the_stream_begins_after_it() -> None:
    answer = ask([plain(6)], [known(1, 2), known(6, 6)], holes=[TRIMMED])
    assert answer.holes == [(TRIMMED, Settled.TRIMMED)]
    assert not answer.settles
    assert (answer.links, answer.links_unasked, answer.ranges, answer.ranges_unasked) == (0, 1, 1, 1)


def test_a_late_start_after_which_nothing_came_is_proven_where_the_stream_reaches_back() -> None:
    late = Hole("possibly trimmed", at(2), None, None)
    assert ask([plain(2)], [known(1, 2)], holes=[late]).holes == [(late, Settled.NOTHING)]
    assert ask([], [known(1, 2)], holes=[late]).holes == [(late, Settled.TRIMMED)]


def test_of_a_shard_that_is_trimmed_nothing_can_be_asked() -> None:
    answer = ask([], [known(1, 2), known(6, 6)], End.GONE, holes=[TRIMMED])
    assert answer.holes == [(TRIMMED, Settled.TRIMMED)]
    assert (answer.links_unasked, answer.ranges_unasked, answer.links, answer.ranges) == (1, 2, 0, 0)
    assert not answer.amiss


def test_what_is_broken_off_says_nothing_of_what_was_not_reached() -> None:
    answer = ask([plain(1), plain(2)], [known(1, 2, 7), known(6, 6)], End.BROKEN_OFF, holes=[TRIMMED])
    assert answer.holes == [(TRIMMED, Settled.UNREAD)]
    assert (answer.links, answer.ranges, answer.ranges_differing) == (0, 0, 0)


def test_at_a_mere_tip_nothing_is_said_of_ranges_and_links_beyond_it() -> None:
    answer = ask([plain(1), plain(2)], [known(1, 3), known(5, 5)], End.TIP)
    assert (answer.links, answer.links_unasked, answer.ranges, answer.ranges_unasked) == (0, 1, 0, 2)


def test_a_range_of_which_the_end_is_not_in_the_stream_differs_at_the_end_of_the_shard() -> None:
    answer = ask([plain(1), plain(2)], [known(1, 3)], End.SHARD_END, ended=True)
    assert answer.differing == [Differing(at(1), at(3), 3, 2)]


def test_what_a_range_holds_and_no_block_is_lost_and_still_in_the_stream() -> None:
    lost = [((at(2), 0), (at(3), 1))]
    answer = ask([*map(plain, range(1, 6))], [known(1, 3), known(4, 5)], lost=lost)
    assert found(answer) == [(Kind.LOST, at(2), at(3), 2)]
    assert answer.amiss


@given(st.lists(st.integers(0, 3), min_size=2, max_size=25))
def test_each_of_many_holes_and_lost_stretches_is_told_from_the_others(kinds: list[int]) -> None:
    """Place by place: stored, lost, in a gap, or in a possibly trimmed link."""
    kinds = [0, *kinds, 0]
    places = range(1, len(kinds) + 1)
    ranges = [known(place, place) for place, kind in zip(places, kinds, strict=True) if kind < 2]
    lost = [((at(place), 0), (at(place), 1)) for place, kind in zip(places, kinds, strict=True) if kind == 1]
    words = {2: "gap", 3: "possibly trimmed"}
    holes = [
        Hole(words[kind], at(place - 1), None, at(place + 1))
        for place, kind in zip(places, kinds, strict=True)
        if kind in words
    ]
    answer = ask([*map(plain, places)], ranges, holes=holes[::-1], lost=lost)
    counts = {Kind.LOST: kinds.count(1), Kind.IN_GAP: kinds.count(2), Kind.SKIPPED: kinds.count(3)}
    assert answer.totals == {kind: count for kind, count in counts.items() if count}
    assert {settled for _, settled in answer.holes} <= {Settled.RECORDS}


def test_where_reading_was_interrupted_and_something_was_trimmed_nothing_is_said_of_the_link() -> None:
    comparison = Comparison(Question(SHARD, [known(1, 2), known(4, 4), known(6, 9), known(10, 10)], TRIM_HORIZON))
    for place in (1, 2, 4, 6):
        comparison.record(plain(place).record)
    comparison.resumed(BASE + 8)
    for place in (8, 9, 10):
        comparison.record(plain(place).record)
    answer = comparison.finish(End.TIP)
    assert (answer.links, answer.ranges, answer.ranges_unasked, answer.ranges_differing) == (3, 3, 1, 0)
    assert not answer.amiss


def test_a_link_that_was_interrupted_is_not_asked_and_one_before_it_stays_proven() -> None:
    passed, cut = Hole("possibly trimmed", at(1), None, at(2)), Hole("possibly trimmed", at(3), None, at(7))
    ranges = [known(1, 1), known(2, 3), known(7, 7)]
    comparison = Comparison(Question(SHARD, ranges, TRIM_HORIZON, holes=[passed, cut]))
    for place in (1, 2, 3):
        comparison.record(plain(place).record)
    comparison.resumed(BASE + 7)
    comparison.record(plain(7).record)
    answer = comparison.finish(End.TIP)
    assert answer.holes == [(passed, Settled.NOTHING), (cut, Settled.TRIMMED)]
    assert (answer.links, answer.links_unasked) == (1, 1)


def test_reading_ends_when_all_that_is_stored_of_an_open_shard_is_passed() -> None:
    comparison = Comparison(Question(SHARD, [known(1, 2)], holes=[Hole("gap", at(2), at(3), None)]))
    enough = []
    for place in range(1, 6):
        comparison.record(plain(place).record)
        enough.append(comparison.is_enough)
    assert enough == [False, False, False, True, True]


def test_a_shard_that_is_ended_is_read_to_its_end() -> None:
    comparison = Comparison(Question(SHARD, [known(1, 1)], ended=True))
    for place in range(1, 4):
        comparison.record(plain(place).record)
    assert not comparison.is_enough


def test_what_is_listed_is_bounded_and_all_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "LISTED", 3)
    ranges = [known(place, place, 2) for place in range(1, 21, 2)]
    answer = ask([*map(plain, range(1, 21))], ranges)
    assert question.LISTED > 3
    assert (len(answer.found), answer.totals) == (3, {Kind.SKIPPED: 9, Kind.LATER: 1})
    assert (len(answer.differing), answer.ranges_differing) == (3, 10)


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[Put], list[Known], set[Position], bool]:
    """Return a stream, ranges of it of which some overlap and some are left out, and what they hold."""
    subs = draw(st.lists(st.integers(0, 4), min_size=1, max_size=15))
    puts = [
        plain(place) if count == 0 else aggregated(place, *(b"%d" % sub for sub in range(count)))
        for place, count in enumerate(subs, 1)
    ]
    users = [at(place, sub) for place, count in enumerate(subs, 1) for sub in range(max(1, count))]
    ranges: list[Known] = []
    held: set[Position] = set()
    for _ in range(draw(st.integers(0, 6))):
        low = draw(st.integers(0, len(users) - 1))
        high = draw(st.integers(low, len(users) - 1))
        ranges.append(Known(users[low], users[high], high - low + 1))
        held.update(users[low : high + 1])
    return puts, sorted(ranges), held, draw(st.booleans())


@given(streams())
def test_exactly_what_no_range_holds_is_found(case: tuple[list[Put], list[Known], set[Position], bool]) -> None:
    puts, ranges, held, ended = case
    answer = ask(puts, ranges, End.SHARD_END if ended else End.TIP, ended=ended)
    users = [Position(put.sequence, sub) for put in puts for sub in range(len(put.users))]
    missing = [one for one in users if one not in held]
    last = max((one.last for one in ranges), default=None)
    later = 0 if ended else sum(last is None or one > last for one in missing)
    assert answer.totals.get(Kind.SKIPPED, 0) == len(missing) - later
    assert answer.totals.get(Kind.LATER, 0) == later
    assert sum(one.records for one in answer.found) == len(missing) - later
    assert answer.records == len(users)
    assert (answer.ranges, answer.ranges_differing, answer.ranges_unasked) == (len(ranges), 0, 0)
    assert {*(one.first for one in answer.found), *(one.last for one in answer.found)} <= {*missing}


@given(streams(), st.integers(0, 15))
def test_of_what_is_trimmed_nothing_is_said(
    case: tuple[list[Put], list[Known], set[Position], bool], trimmed: int
) -> None:
    puts, ranges, held, _ = case
    left = puts[trimmed:]
    answer = ask(left, ranges, End.SHARD_END if left else End.GONE, ended=True)
    users = [Position(put.sequence, sub) for put in left for sub in range(len(put.users))]
    assert answer.totals.get(Kind.SKIPPED, 0) == sum(one not in held for one in users)
    assert answer.ranges_differing == 0
    horizon = left[0].sequence if left else BASE + 100
    assert answer.ranges_unasked == sum(one.first.sequence_number < horizon for one in ranges)
    assert answer.ranges + answer.ranges_unasked == len(ranges)
