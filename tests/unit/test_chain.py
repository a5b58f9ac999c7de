"""The chain of a shard's ranges: what comes next, what waits, and which hole is final."""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_support import HOUR, NOW, mark, plain_range, session_at
from store_support import LATE as LONG_AFTER

from kcl_receiver.proof.chain import GAP, LATE, POSSIBLY_TRIMMED, Chain, Hole, Part
from kcl_receiver.proof.coverage import Cut, Span, SpanSet, span_of
from kcl_receiver.proof.links import cover
from kcl_receiver.proof.packing import Ref
from kcl_receiver.ranges import LATEST, TRIM_HORIZON, Position, Range
from kcl_receiver.store.ledger.entries import SessionStarted


class Reader:
    """Drives a chain, and checks at each step what must always hold.

    Args:
        follows: Ranges that come next are followed, as a reading does; otherwise all of them go through the heap.
        named: What `Chain` takes.
    """

    def __init__(self, *, follows: bool = False, **named: object) -> None:
        self.follows = follows
        self.dropped: list[int] = []
        self.chain = Chain(self.dropped.append, **named)  # type: ignore[arg-type]
        self.ranges: list[Range] = []
        self.kept: set[int] = set()
        self.parts: list[Part] = []
        self.holes: list[Hole] = []

    def add(self, *ranges: Range, replaced: bool = False) -> list[object]:
        for one in ranges:
            self.ranges.append(one)
            before = self.chain.frontier
            if self.follows and self.chain.follow(one):
                self.parts.append(Part(Ref(len(self.ranges) - 1, 7), Span(before, self.chain.frontier)))
                self.kept.add(len(self.ranges) - 1)
                continue
            if self.chain.add(len(self.ranges) - 1, 7, one, replaced=replaced):
                self.kept.add(len(self.ranges) - 1)
        return self.drain()

    def session(self, entry: SessionStarted) -> list[object]:
        self.chain.session(entry)
        return self.drain()

    def drain(self) -> list[object]:
        found: list[object] = []
        while (step := self.chain.next()) is not None:
            if isinstance(step, Part):
                assert step.ref.at == 7
                assert step.span.low < step.span.high
                if self.parts:
                    assert self.parts[-1].span.high <= step.span.low, "in order, and once"
                self.parts.append(step)
                found.append(step.ref.source)
            else:
                self.holes.append(step)
                found.append((step.kind, *(None if one is None else one[0] for one in (step.after, step.through))))
        assert len(self.kept) == self.chain.waiting + len(self.dropped) + len(self.parts)
        given = SpanSet(one.span for one in self.parts)
        late = {hole.next.source for hole in self.holes if hole.kind == LATE and hole.next is not None}
        for source in set(self.dropped) - late:
            one = self.ranges[source]
            assert not given.missing(Span(Cut(one.first, 0), Cut(one.last, 1))), "passed, and neither given nor told"
        return found


def test_ranges_come_in_the_order_of_the_chain_whatever_the_order_of_the_blocks() -> None:
    reader = Reader()
    assert reader.add(plain_range(21, 30, 20)) == []
    assert reader.add(plain_range(11, 20, 10)) == []
    assert reader.add(plain_range(1, 10)) == [2, 1, 0]


def test_an_overlap_is_trimmed() -> None:
    reader = Reader()
    reader.add(plain_range(1, 10), plain_range(6, 14, 5))
    assert [one.span for one in reader.parts][1] == Span(Cut(Position(10), 1), Cut(Position(14), 1))
    assert reader.add(plain_range(3, 14, 2)) == []
    assert reader.add(plain_range(12, 13, 11)) == []
    assert reader.holes == []


def test_a_hole_is_waited_at_until_a_session_began_past_it() -> None:
    reader = Reader()
    assert reader.add(plain_range(1, 10), plain_range(21, 30, 20)) == [0]
    assert reader.session(session_at(10)) == []
    assert reader.session(session_at(20)) == [(GAP, 10, 20), 1]
    assert reader.holes[0].next == Ref(1, 7)
    assert reader.holes[0].time == NOW


@pytest.mark.parametrize("known", [True, False], ids=["marks known", "no mark known"])
def test_what_is_stored_within_a_link_goes_before_what_the_link_leads_to(known: bool) -> None:
    reader = Reader()
    reader.add(replace(plain_range(1, 10), arrival_last=NOW if known else -1))
    assert reader.add(plain_range(21, 30, 20)) == []  # of what was in between, a crash took all there was
    assert reader.session(session_at(10)) == []
    late = replace(plain_range(41, 50, 10), delivered=NOW + 24 * HOUR + 120_000 if known else -1)
    assert reader.add(late) == [(POSSIBLY_TRIMMED, 10, 20), 1, (POSSIBLY_TRIMMED, 30, None), 2]
    assert reader.add(plain_range(35, 36, 34)) == [(LATE, None, 36)]


def test_a_link_is_judged_when_all_before_it_is_known_whatever_the_order_of_the_blocks() -> None:
    late = NOW + 30 * HOUR
    ranges = [replace(plain_range(1, 10), arrival_last=NOW)]  # and then nothing was read for 30 hours
    ranges += [plain_range(41, 50, 10, at=late, arrived=late), plain_range(51, 60, 50, at=late, arrived=late)]
    for order in itertools.permutations(ranges):
        reader = Reader()
        reader.add(*order)
        assert [hole.kind for hole in reader.holes] == [POSSIBLY_TRIMMED]
        assert reader.holes[0].after == Position(10)
        assert len(reader.parts) == 3


def test_a_shard_that_was_read_to_its_tip_meanwhile_begins_again_without_a_hole() -> None:
    reader = Reader()
    reader.session(session_at(time=NOW))
    for at in range(NOW, NOW + 30 * HOUR, HOUR // 6):
        reader.chain.mark(mark(TRIM_HORIZON, at - 1000), at)
    reader.session(session_at(time=NOW + 30 * HOUR, session="s2"))
    later = plain_range(1, 10, session="s2", at=NOW + 30 * HOUR, arrived=NOW + 30 * HOUR)
    assert reader.add(later) == [0]
    assert reader.holes == []


def test_what_is_delivered_again_is_linked_as_before() -> None:
    reader = Reader()
    assert reader.add(plain_range(31, 35, 20), plain_range(31, 33, 20), plain_range(11, 20, 10)) == []
    assert reader.add(plain_range(1, 10)) == [3, 2, 1, 0]
    assert reader.holes == []


def test_a_session_past_all_that_is_stored_shows_a_hole_with_nothing_after_it() -> None:
    reader = Reader()
    reader.add(plain_range(1, 10))
    assert reader.session(session_at(15)) == [(GAP, 10, 15)]
    assert reader.holes[0].next is None
    assert reader.add(plain_range(16, 20, 15)) == [1]


def test_the_end_of_the_shard_makes_a_hole_final() -> None:
    reader = Reader()
    reader.add(plain_range(1, 10), plain_range(21, 30, 20))
    reader.chain.ended(Position(40), NOW)
    assert reader.drain() == [(GAP, 10, 20), 1, (GAP, 30, 40)]


def test_what_began_again_at_a_starting_point_waits_for_what_may_lie_between() -> None:
    reader = Reader()
    reader.add(plain_range(1, 10))
    assert reader.add(plain_range(31, 40, session="s2")) == []
    assert reader.add(plain_range(11, 20, 10)) == [2]
    reader.chain.finish()
    assert reader.drain() == [(GAP, 20, None), 1]


def test_a_limit_passes_the_hole_before_the_first_that_waits_and_no_other() -> None:
    reader = Reader()
    reader.add(plain_range(1, 10), plain_range(21, 30, 20), plain_range(41, 50, 40))
    reader.chain.give_up()
    assert reader.drain() == [(GAP, 10, 20), 1]


def test_a_link_older_than_the_retention_is_a_hole_of_its_own_kind() -> None:
    reader = Reader()
    reader.add(plain_range(1, 10))
    assert reader.add(plain_range(21, 30, 10, trimmed=True)) == [(POSSIBLY_TRIMMED, 10, None), 1]
    read_meanwhile = Reader()
    read_meanwhile.add(plain_range(1, 10))
    read_meanwhile.chain.mark(mark(10, NOW + 20 * HOUR), NOW + 20 * HOUR)
    assert read_meanwhile.add(plain_range(21, 30, 10, trimmed=True)) == [1]
    begun_within = Reader()
    assert begun_within.session(session_at(10, session="s2", trimmed=True)) == [(GAP, None, 10)]
    assert begun_within.add(plain_range(21, 30, 10, trimmed=True)) == [0]


def test_reading_that_began_at_a_checkpoint_shows_that_all_before_it_is_missing() -> None:
    reader = Reader()
    assert reader.session(session_at(50)) == [(GAP, None, 50)]
    assert reader.add(plain_range(51, 60, 50)) == [0]


def test_an_earlier_session_that_stored_nothing_before_one_at_latest_is_a_hole() -> None:
    reader = Reader()
    reader.session(session_at(LATEST))
    reader.session(session_at(LATEST, session="s2"))
    assert reader.add(plain_range(51, 60, LATEST, session="s2")) == [(GAP, None, None), 0]
    same = Reader()
    same.session(session_at(LATEST))
    assert same.add(plain_range(51, 60, LATEST)) == [0]


def test_what_comes_after_later_ones_were_given_is_called_late() -> None:
    reader = Reader()
    reader.add(plain_range(11, 20))
    assert reader.add(plain_range(1, 15)) == [(LATE, None, None)]
    reader.session(session_at(30))
    assert reader.add(plain_range(21, 25, 20)) == [(LATE, None, 25)]


def test_a_start_is_exact_and_nothing_before_it_is_a_hole() -> None:
    reader = Reader(start=Cut(Position(15), 0))
    reader.add(plain_range(1, 10), plain_range(11, 20, 10))
    assert [one.span for one in reader.parts] == [Span(Cut(Position(15), 0), Cut(Position(20), 1))]
    first = Reader(start=Cut(Position(5), 0))
    assert first.add(plain_range(11, 20)) == [0]


def test_who_goes_on_after_a_position_gets_what_follows_it_and_no_late_block() -> None:
    reader = Reader(start=Cut(Position(15), 1), begun=True)
    assert reader.add(plain_range(1, 10)) == []
    assert reader.add(plain_range(31, 40, 30)) == []
    assert reader.add(plain_range(11, 30, 10)) == [2, 1]
    assert reader.parts[0].span.low == Cut(Position(15), 1)


def test_who_begins_anywhere_calls_nothing_before_it_a_hole() -> None:
    reader = Reader(adopt=True)
    assert reader.add(plain_range(51, 60, 50)) == [0]
    assert reader.add(plain_range(41, 50, 40)) == []
    by_session = Reader(adopt=True)
    assert by_session.session(session_at(50)) == []
    assert by_session.add(plain_range(61, 70, 60), plain_range(51, 60, 50)) == [1, 0]


def test_of_two_equal_ranges_the_one_that_is_held_comes_before_the_replaced_one() -> None:
    reader = Reader()
    reader.add(plain_range(11, 20, 10), replaced=True)
    reader.add(plain_range(11, 20, 10))
    assert reader.add(plain_range(1, 10)) == [2, 1]
    assert reader.dropped == [0]


def test_a_range_that_waits_costs_about_a_hundred_bytes() -> None:
    reader = Reader()
    base = 49_650_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000_000
    for number in range(1, 101):
        one = plain_range(1, 2, 1)
        first, last = Position(base + 10 * number, 0), Position(base + 10 * number + 9, 0)
        reader.chain.add(number, 3, replace(one, first=first, last=last, after=Position(base + 10 * number - 1)))
    assert reader.chain.waiting == 100
    heap = reader.chain._heap
    assert (sys.getsizeof(heap) + sum(map(sys.getsizeof, heap))) / 100 < 140


@given(st.lists(st.tuples(st.integers(0, 10**128), st.integers(0, 2**63 - 1), st.integers(0, 1)), min_size=2))
def test_packed_cuts_sort_as_cuts_do(raw: list[tuple[int, int, int]]) -> None:
    from kcl_receiver.proof.packing import pack, unpack

    cuts = [Cut(Position(sequence, sub), side) for sequence, sub, side in raw]
    assert sorted(cuts) == sorted(cuts, key=pack)
    assert all(unpack(pack(one), 0)[0] == one for one in cuts)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Range | SessionStarted], list[Range]]:
    """A shard as a receiver lands it: sessions that overlap, blocks that finish out of order, some of them lost."""
    events: list[tuple[float, Range | SessionStarted]] = []
    everything: list[Range] = []
    reached = checkpoint = 0
    clock = 0.0
    for number in range(draw(st.integers(1, 4))):
        name = f"s{number}"
        begin = draw(st.integers(0, checkpoint)) if number else 0
        after = Position(begin) if begin else "TRIM_HORIZON"
        events.append((clock, session_at(begin or "TRIM_HORIZON", session=name)))
        at = begin
        for _ in range(draw(st.integers(0, 5))):
            last = at + draw(st.integers(1, 4))
            one = replace(plain_range(at + 1, last, session=name), after=after, count=last - at)
            after, at = Position(last), last
            clock += 1
            if draw(st.integers(0, 9)) == 0:
                continue  # lost, with its line of the ledger
            everything.append(one)
            events.append((clock + draw(st.floats(0, 3)), one))
        reached = max(reached, at)
        clock += 4  # what is in the ledger before the checkpoint is made
        checkpoint = max(checkpoint, draw(st.integers(0, at)))
    return [one for _, one in sorted(events, key=lambda one: one[0])], everything


@settings(deadline=None, max_examples=400)
@given(histories(), st.data())
def test_every_record_comes_once_and_in_order_and_the_holes_are_the_gaps_that_the_ranges_leave(
    history: tuple[list[Range | SessionStarted], list[Range]], data: st.DataObject
) -> None:
    events, everything = history
    reader = Reader()
    stop = data.draw(st.integers(0, len(events)))
    at_stop: tuple[Cut, int] = (reader.chain.frontier, 0)
    for number, event in enumerate(events):
        if number == stop:
            at_stop = reader.chain.frontier, len(reader.parts)
        _play(reader, event)
    reader.chain.finish()
    reader.drain()
    assert reader.chain.waiting == 0
    _is_complete(reader, reader.parts, everything)
    gaps = cover(everything, [one for one in events if isinstance(one, SessionStarted)]).gaps
    holes = [one for one in reader.holes if one.kind == GAP]
    if not any(one.kind == LATE for one in reader.holes):
        assert bool(gaps) == bool(holes)
        assert all(any(_meets(hole, gap.after, gap.before) for hole in holes) for gap in gaps)
    if at_stop[1]:  # another one goes on where this one stood, and is shown all lines again
        second = Reader(start=at_stop[0], begun=True)
        for event in events:
            _play(second, event)
        second.chain.finish()
        second.drain()
        assert all(one.span.low >= at_stop[0] for one in second.parts)
        second.holes += reader.holes
        _is_complete(second, [*reader.parts[: at_stop[1]], *second.parts], everything)


@settings(deadline=None, max_examples=400)
@given(histories(), st.data())
def test_what_is_followed_is_what_the_heap_would_give(
    history: tuple[list[Range | SessionStarted], list[Range]], data: st.DataObject
) -> None:
    """Some ranges were delivered later than the retention, and some arrived at a time that nobody knows."""
    readers = Reader(follows=True), Reader()
    for event in history[0]:
        if isinstance(event, Range):
            late, unknown = data.draw(st.sampled_from([(False, False), (True, False), (False, True)]))
            event = replace(
                event, delivered=LONG_AFTER if late else event.delivered, arrival_last=-1 if unknown else NOW
            )
        replaced = data.draw(st.integers(0, 9)) == 0
        for reader in readers:
            if isinstance(event, Range):
                reader.add(event, replaced=replaced)
            else:
                reader.session(event)
        assert readers[0].chain.frontier == readers[1].chain.frontier
    for reader in readers:
        reader.chain.finish()
        reader.drain()
    assert readers[0].parts == readers[1].parts
    assert readers[0].holes == readers[1].holes


def test_what_comes_next_needs_no_heap_and_what_does_not_come_next_is_left_alone() -> None:
    chain = Chain(lambda _: None)
    assert not chain.follow(plain_range(1, 3)), "nothing is known of what comes before it"
    assert chain.add(0, 0, plain_range(1, 3))
    assert chain.next() is not None
    assert chain.follow(plain_range(4, 6, 3))
    for other in (plain_range(8, 9, 7), plain_range(6, 9, 5), plain_range(7, 9), plain_range(5, 6, 4)):
        assert not chain.follow(other)
    assert not chain.follow(plain_range(7, 9, 6, trimmed=True))
    assert chain.frontier == Cut(Position(6), 1)
    assert chain.add(1, 0, plain_range(10, 12, 9))
    assert not chain.follow(plain_range(7, 9, 6)), "something waits"


def _is_complete(reader: Reader, parts: list[Part], everything: list[Range]) -> None:
    given_out = SpanSet(one.span for one in parts)
    late = SpanSet(
        span_of(reader.ranges[one.next.source]) for one in reader.holes if one.kind == LATE and one.next is not None
    )
    for one in everything:
        assert all(not late.missing(part) for part in given_out.missing(span_of(one))), "given, or called late"


def _play(reader: Reader, event: Range | SessionStarted) -> None:
    if isinstance(event, Range):
        reader.add(event)
    else:
        reader.session(event)


def _meets(hole: Hole, after: Position | None, before: Position | None) -> bool:
    return (hole.after is None or before is None or hole.after < before) and (
        after is None or hole.through is None or hole.through > after
    )


@pytest.mark.parametrize("kept", [True, False])
def test_what_is_not_needed_any_more_is_given_back(kept: bool) -> None:
    reader = Reader()
    reader.add(plain_range(5, 8, 4), plain_range(5, 6, 4))
    reader.add(plain_range(1, 6 if kept else 9))
    assert len(reader.dropped) == (1 if kept else 2)
