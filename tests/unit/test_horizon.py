"""Marks, and which links they prove, held against a shard of which everything is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kcl_receiver.horizon import (
    HOUR_MS,
    MARGIN_MS,
    START,
    Horizon,
    Late,
    Marks,
    Retention,
    Times,
    Unread,
    begun,
    interval_ms,
    place,
)
from kcl_receiver.ranges import AT_TIMESTAMP, LATEST, TRIM_HORIZON, Position

DAY = 24 * HOUR_MS
T = 100 * DAY
"""Some moment."""
MINUTE = 60_000


def at(number: int) -> Position:
    return Position(number)


def horizon(hours: int = 24, limit: int | None = None) -> Horizon:
    times = Times()
    times.retention.see(0, hours)
    return Horizon(times, limit)


# What makes a link good


def test_a_link_is_good_if_all_that_was_trimmed_is_not_past_what_it_follows() -> None:
    found = horizon()
    found.arrived(at(5), T)
    assert found.is_good(at(5), T - MARGIN_MS + DAY)
    assert not found.is_good(at(5), T - MARGIN_MS + DAY + 1)
    assert found.unread(at(5), T + 2 * DAY) == Unread(T - MARGIN_MS, T + DAY)
    assert not found.is_good(at(4), T), "nothing is known of a place before the mark"


def test_a_record_of_unknown_arrival_and_a_delivery_of_unknown_time_prove_nothing() -> None:
    found = horizon()
    found.arrived(at(5), -1)
    assert not found.is_good(at(5), T)
    found.arrived(at(5), T)
    assert not found.is_good(at(5), -1)


def test_a_shard_that_was_read_to_its_tip_is_good_however_old_its_last_record_is() -> None:
    found = horizon()
    found.arrived(at(5), T)
    for hours in range(1, 200):
        assert found.reading(at(5), T + hours * HOUR_MS, T + hours * HOUR_MS + MINUTE)
    assert found.is_good(at(5), T + 220 * HOUR_MS)


def test_a_reading_after_too_long_a_pause_does_not_count_nor_does_any_that_follows_it() -> None:
    found = horizon()
    found.arrived(at(5), T)
    for hours in range(30, 200):
        assert not found.reading(at(5), T + hours * HOUR_MS, T + hours * HOUR_MS + MINUTE)
    assert not found.is_good(at(5), T + 200 * HOUR_MS)
    assert found.settle() == [(at(5), T + 30 * HOUR_MS + MINUTE), (at(5), T + 199 * HOUR_MS + MINUTE)]
    found.arrived(at(9), T + 200 * HOUR_MS)
    assert found.is_good(at(9), T + 210 * HOUR_MS), "the next record is a new beginning"


def test_a_mark_that_comes_last_makes_all_good_that_rests_on_it() -> None:
    found = horizon()
    for hours in (20, 40, 60):
        assert not found.reading(at(5), T + hours * HOUR_MS, T + hours * HOUR_MS + MINUTE)
    found.arrived(at(5), T)
    assert found.settle() == []
    assert found.is_good(at(5), T + 80 * HOUR_MS)


def test_who_recorded_a_mark_does_not_matter_and_a_greater_position_says_less() -> None:
    found = horizon()
    found.arrived(at(9), T)
    found.arrived(at(5), T - HOUR_MS)
    assert found.until(at(7)) == T - HOUR_MS - MARGIN_MS
    assert found.until(at(9)) == T - MARGIN_MS
    assert found.until(at(4)) == -1


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30))), st.integers(-1, 31))
def test_marks_say_what_all_of_them_say_together(marks: list[tuple[int, int]], asked: int) -> None:
    kept, few = Marks(None), Marks(4)
    for position, until in marks:
        kept.add(at(position), until)
        few.add(at(position), until)
    most = max((until for position, until in marks if position <= asked), default=-1)
    assert kept.until(at(asked)) == most
    assert few.until(at(asked)) <= most
    assert len(few) <= 4
    untils = [until for _, until in kept]
    assert untils == sorted(set(untils))
    assert few.thinned or list(few) == list(kept)


def test_what_was_forgotten_is_found_where_it_is_asked_for() -> None:
    times = Times()
    times.retention.see(0, 24)
    first = Horizon(times, limit=4)
    for number in range(100):
        first.arrived(at(number), T + number * HOUR_MS)
    assert first.thinned
    lost = next(number for number in range(3, 97) if first.until(at(number)) < T + number * HOUR_MS - MARGIN_MS)
    again = Horizon(times, limit=4, places=[at(lost)])
    for number in range(100):
        again.arrived(at(number), T + number * HOUR_MS)
    assert again.until(at(lost)) == T + lost * HOUR_MS - MARGIN_MS


# Retention


def test_the_retention_between_two_looks_is_the_less_of_both() -> None:
    found = Retention()
    assert found.least(0, T) == DAY, "no stream has less"
    found.see(T, 48)
    found.see(T + HOUR_MS, 24)
    found.see(T + 2 * HOUR_MS, 48)
    found.see(T + 3 * HOUR_MS, 48)
    found.see(T + 4 * HOUR_MS, 48)
    assert found.least(T + 2 * HOUR_MS, T + 9 * HOUR_MS) == 2 * DAY
    assert found.least(T + HOUR_MS + 1, T + HOUR_MS + 2) == DAY
    assert found.least(T - HOUR_MS, T) == 2 * DAY
    assert found.least(T - HOUR_MS, T + 1) == DAY
    assert found.least_ever == DAY


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from([24, 48, 72])), unique_by=lambda one: one[0]),
    st.integers(0, 30),
    st.integers(0, 9),
)
@example(
    [(0, 24), (2, 24), (4, 24), (1, 48), (3, 48)], 1, 1
)  # what was left out at 2 is of one and the other neighbour
@example([(0, 24), (2, 24), (1, 48), (4, 24), (3, 48)], 1, 1)
@example([(3, 24), (4, 24), (2, 24), (1, 48)], 1, 1)
def test_looks_that_say_the_same_are_kept_as_two(looks: list[tuple[int, int]], begin: int, length: int) -> None:
    found, in_order = Retention(), Retention()
    for time, hours in looks:
        found.see(time, hours)
    for time, hours in sorted(looks):
        in_order.see(time, hours)
    end = begin + length
    before = max((time for time, _ in looks if time <= begin), default=-1)
    behind = min((time for time, _ in looks if time >= end), default=99)
    seen = [hours for time, hours in looks if before <= time <= behind]
    assert in_order.least(begin, end) == (min(seen) * HOUR_MS if seen else DAY)
    assert found.least(begin, end) <= in_order.least(begin, end)


def test_a_link_that_held_for_longer_than_a_retention_that_was_lowered_is_not_good() -> None:
    found = horizon(48)
    found._times.retention.see(T + 30 * HOUR_MS, 24)
    found._times.retention.see(T + 31 * HOUR_MS, 48)
    found.arrived(at(5), T)
    assert not found.is_good(at(5), T + 32 * HOUR_MS)
    assert found.is_good(at(5), T + 20 * HOUR_MS)
    found.arrived(at(6), T + 32 * HOUR_MS)
    assert found.is_good(at(6), T + 75 * HOUR_MS)


# Clocks that were late


def test_times_of_a_session_are_raised_where_its_clock_was_late_and_nowhere_else() -> None:
    times = Times()
    times.add_late("s1", Late(T, T + MINUTE, 2 * DAY))
    assert times.delivered("s1", T - 1) == T - 1
    assert times.delivered("s1", T) == T + 2 * DAY
    assert times.delivered("s1", T + MINUTE) == T + MINUTE
    assert times.delivered("s2", T) == T
    assert times.raised == 2 * DAY


# Where reading begins


@pytest.mark.parametrize("word", [TRIM_HORIZON, LATEST])
def test_a_first_session_asks_for_what_is_retained_but_for_what_expires_at_once(word: str) -> None:
    until = begun(word, T, 24, -1, None)
    assert until == T - DAY + interval_ms(24)
    found = horizon()
    found.mark(START, until)
    assert found.is_good(place(word), T + 10 * MINUTE)
    assert not found.is_good(place(word), T + 15 * MINUTE)


def test_a_first_session_at_a_time_asks_for_nothing_older() -> None:
    assert begun(AT_TIMESTAMP, T, 24, T - HOUR_MS, None) == T - HOUR_MS
    assert begun(AT_TIMESTAMP, T, 24, -1, None) == -1


def test_a_child_begins_where_its_parents_are_last_known_to_have_been_open() -> None:
    assert begun(TRIM_HORIZON, T, 24, -1, T - 3 * HOUR_MS) == T - 3 * HOUR_MS
    assert begun(TRIM_HORIZON, T, 24, -1, -1) == -1
    assert begun(AT_TIMESTAMP, T, 24, T - HOUR_MS, T - 3 * HOUR_MS) == T - HOUR_MS


def test_an_interval_is_15_minutes_or_a_hundredth_of_the_retention() -> None:
    assert interval_ms(24) == 864_000
    assert interval_ms(48) == 900_000


# All of it, held against one who knows


@dataclass
class World:
    """A shard, its stream, and a reader; times in minutes, positions are the numbers of records."""

    now: int = 10_000
    hours: int = 24
    arrivals: list[int] = field(default_factory=list)
    trimmed: int = 0
    times: Times = field(default_factory=Times)
    cursor: int = 0
    delivered: int = -1
    queue: list[tuple[int, list[int], int]] = field(default_factory=list)
    noted: list[int] = field(default_factory=list)
    links: list[tuple[int, int, int, bool]] = field(default_factory=list)
    taken: list[tuple[str, int, int, int]] = field(default_factory=list)
    last_read: int = 10_000

    def pass_time(self, minutes: int) -> None:
        self.now += minutes
        self.look()

    def look(self) -> None:
        """Trim, and let the receiver see the retention."""
        self.times.retention.see(self.now * MINUTE, self.hours)
        horizon_at = self.now - self.hours * 60
        self.trimmed = max(self.trimmed, sum(one < horizon_at for one in self.arrivals))

    def put(self) -> None:
        self.arrivals.append(self.now)

    def fetch(self, limit: int) -> None:
        """KCL reads a page."""
        self.cursor = max(self.cursor, self.trimmed)
        page = list(range(self.cursor, min(self.cursor + limit, len(self.arrivals))))
        self.cursor += len(page)
        behind = self.now - self.arrivals[self.cursor] if self.cursor < len(self.arrivals) else 0
        self.queue.append((self.now, page, behind))

    def deliver(self) -> None:
        """KCL hands a page over, which may have waited."""
        if not self.queue:
            return
        read_at, page, behind = self.queue.pop(0)
        if page:
            lost = page[0] - self.delivered > 1
            self.links.append((self.delivered, page[0], self.now, lost))
            self.delivered = page[-1]
            self.taken.append(("arrived", self.delivered, self.arrivals[self.delivered], 0))
        # What a note may say at most: the page was read after it.
        self.taken.append(("reading", self.delivered, read_at - behind - 1, self.now))
        self.noted.append(read_at)

    def restart(self) -> None:
        """KCL begins again after what was delivered."""
        self.queue.clear()
        self.cursor = self.delivered + 1


steps = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.sampled_from([1, 5, 30, 600, 1300, 1430, 1445, 1500, 3000])),
        st.tuples(st.just("put"), st.just(0)),
        st.tuples(st.just("fetch"), st.integers(0, 4)),
        st.tuples(st.just("deliver"), st.just(0)),
        st.tuples(st.just("read"), st.integers(1, 9)),
        st.tuples(st.just("restart"), st.just(0)),
        st.tuples(st.just("retention"), st.sampled_from([24, 48, 72])),
    ),
    max_size=40,
)


def play(plan: list[tuple[str, int]]) -> World:
    world = World()
    world.put()
    world.look()
    world.fetch(1)
    world.deliver()
    for what, amount in plan:
        if what == "pass":
            world.pass_time(amount)
        elif what == "put":
            world.put()
        elif what == "fetch" and len(world.queue) < 3:
            world.fetch(amount)
        elif what == "deliver":
            world.deliver()
        elif what == "read":
            world.fetch(amount)
            while world.queue:
                world.deliver()
        elif what == "restart":
            world.restart()
        elif what == "retention":
            world.hours = amount
            world.look()
    return world


@settings(max_examples=600)
@given(steps, st.randoms(use_true_random=False), st.sampled_from([None, 4]))
def test_no_link_across_which_something_was_trimmed_unread_is_ever_good(
    plan: list[tuple[str, int]], order: object, limit: int | None
) -> None:
    world = play(plan)
    found = Horizon(world.times, limit)
    order.shuffle(world.taken)  # type: ignore[attr-defined]
    for what, position, until, time in world.taken:
        if what == "arrived":
            found.arrived(at(position), until * MINUTE)
        else:
            found.reading(at(position), until * MINUTE, time * MINUTE)
    found.settle()
    for after, _, time, lost in world.links[1:]:
        assert not (lost and found.is_good(at(after), time * MINUTE)), (after, time)


@settings(max_examples=600)
@given(steps)
def test_a_link_is_good_if_the_shard_was_read_to_its_tip_often_enough(plan: list[tuple[str, int]]) -> None:
    """Every page is handed over at once; then nothing is in doubt but after a pause as long as the retention."""
    world = play([one if one[0] != "fetch" else ("read", max(1, one[1])) for one in plan if one[0] != "retention"])
    found = Horizon(world.times)
    reads = sorted(world.noted)
    for what, position, until, time in world.taken:
        if what == "arrived":
            found.arrived(at(position), until * MINUTE)
        else:
            found.reading(at(position), until * MINUTE, time * MINUTE)
    found.settle()
    pauses = [(one, other) for one, other in pairwise(reads) if other - one > 1430]
    for after, _, time, _ in world.links[1:]:
        behind = any(one <= time and other >= world.arrivals[after] for one, other in pauses)
        lagging = time - world.arrivals[after] > 1430 and any(
            world.arrivals[number] < time - 1430 for number in range(after + 1, len(world.arrivals))
        )
        assert found.is_good(at(after), time * MINUTE) or behind or lagging
