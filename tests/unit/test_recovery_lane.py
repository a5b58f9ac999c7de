"""The lane, driven through shards that are split into pages, trimmed and interrupted in every way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recovery_support import BASE, SHARD, FakeShard, Put, aggregated, plain, range_of, request_of, rows, users_of

from kcl_receiver.kinesis.rebuild import Outcome, Request, Reread
from kcl_receiver.kinesis.shard_reread import GAP_BYTES, PAGE_BYTES, TIP_PAGES, Action, Lane, Probe, Read, Seek


@dataclass
class Driver:
    """Does what the lane asks for on a shard in memory, and keeps what it asked for.

    Attributes:
        before: Called before each action; may change the shard or displace the lane.
        most: Records of a page at most, for each read in turn; 0 for an empty one. The last one stays.
    """

    shard: FakeShard
    lane: Lane = field(default_factory=lambda: Lane(SHARD))
    before: Callable[[Action], None] = lambda action: None
    most: list[int] = field(default_factory=lambda: [10_000])
    actions: list[Action] = field(default_factory=list)
    answers: list[Reread] = field(default_factory=list)
    given: list[Put] = field(default_factory=list)
    position: int = 0

    def ask(self, *requests: Request) -> None:
        for request in requests:
            self.lane.add(request)

    def run(self, steps: int = 10_000) -> list[Reread]:
        """Go on until nothing is left to do; fail if that takes too long."""
        for _ in range(steps):
            if not self.step():
                return self.answers
        raise AssertionError(f"no end: {self.actions[-5:]}")

    def step(self) -> bool:
        action = self.lane.next()
        self._take()
        if action is None:
            assert self.lane.is_idle
            return False
        self.actions.append(action)
        self.before(action)
        if isinstance(action, Seek):
            self.position = action.sequence + action.after
            self.lane.placed(action)
        elif isinstance(action, Read):
            self._read(action.limit)
        else:
            held = self.shard.held()
            self.lane.horizon(held[0].sequence if held else None)
        self._take()
        return True

    def _read(self, limit: int) -> None:
        assert 1 <= limit <= 10_000
        most = self.most.pop(0) if len(self.most) > 1 else self.most[0]
        left = [put for put in self.shard.held() if put.sequence >= self.position]
        given = left[: min(limit, most)]
        if given:
            self.position = given[-1].sequence + 1
        self.given.extend(given)
        rest = len(left) - len(given)
        self.lane.page([put.record for put in given], behind=rest, ended=self.shard.closed and not rest)

    def _take(self) -> None:
        self.answers.extend(self.lane.done)
        self.lane.done.clear()

    def of(self, kind: type[Action]) -> list[Action]:
        return [action for action in self.actions if isinstance(action, kind)]


def outcomes(answers: list[Reread]) -> list[Outcome]:
    return [answer.outcome for answer in answers]


def test_a_range_is_read_from_its_beginning_to_its_end_and_no_further() -> None:
    puts = [plain(place) for place in range(10)]
    driver = Driver(FakeShard(puts), most=[2])
    driver.ask(request_of(puts[3:7]))
    (answer,) = driver.run()
    assert (answer.outcome, rows(answer.columns)) == (Outcome.REBUILT, users_of(puts[3:7]))
    assert [type(action) for action in driver.actions] == [Seek, Read, Read]
    assert driver.actions[0] == Seek(BASE + 3, after=False)


def test_empty_pages_are_followed_and_are_no_end() -> None:
    puts = [plain(place) for place in range(4)]
    driver = Driver(FakeShard(puts), most=[0, 0, 0, 0, 1, 0, 0, 0, 0, 10])
    driver.ask(request_of(puts[1:3]))
    assert outcomes(driver.run()) == [Outcome.REBUILT]
    assert len(driver.of(Read)) == 10


def test_ranges_side_by_side_are_read_in_one_go() -> None:
    puts = [plain(place) for place in range(12)]
    driver = Driver(FakeShard(puts), most=[5])
    driver.ask(request_of(puts[4:8]), request_of(puts[:4]), request_of(puts[8:]))
    assert outcomes(driver.run()) == [Outcome.REBUILT] * 3
    assert [answer.request.range.first.sequence_number - BASE for answer in driver.answers] == [0, 4, 8]
    assert len(driver.of(Seek)) == 1


def test_overlapping_and_equal_ranges_get_the_same_records() -> None:
    puts = [plain(place) for place in range(6)]
    driver = Driver(FakeShard(puts), most=[1])
    spans = [(0, 4), (2, 6), (2, 3), (2, 3), (0, 6)]
    driver.ask(*(request_of(puts[start:stop]) for start, stop in spans))
    assert outcomes(driver.run()) == [Outcome.REBUILT] * 5
    assert len(driver.of(Seek)) == 1


def test_parts_of_one_aggregate_are_ranges_of_their_own() -> None:
    puts = [plain(0), aggregated(1, b"a", b"b", b"c", b"d"), plain(2)]
    users = users_of(puts)
    driver = Driver(FakeShard(puts), most=[1])
    driver.ask(*(Request(range_of(part)) for part in (users[:3], users[3:4], users[4:])))
    answers = driver.run()
    assert outcomes(answers) == [Outcome.REBUILT] * 3
    assert [rows(answer.columns) for answer in answers] == [users[:3], users[3:4], users[4:]]


def test_a_small_gap_is_read_past_and_a_large_one_is_not() -> None:
    size = 20_000
    small, large = GAP_BYTES // size // 2, 3 * GAP_BYTES // size
    puts = [plain(place, bytes(size)) for place in range(3 + small + large)]
    wanted = [puts[:1], puts[1 + small : 2 + small], puts[-1:]]
    driver = Driver(FakeShard(puts), most=[5])
    driver.ask(*map(request_of, wanted))
    assert outcomes(driver.run()) == [Outcome.REBUILT] * 3
    assert driver.of(Seek) == [Seek(puts[0].sequence, after=False), Seek(puts[-1].sequence, after=False)]
    assert len(driver.of(Read)) <= 2 + (small * size + GAP_BYTES) // (5 * size) + 3


def spread(puts: list[Put], millis: int) -> list[Put]:
    """Return the same records, so many milliseconds apart."""
    return [replace(put, arrival=1_790_000_000_000 + millis * place) for place, put in enumerate(puts)]


def bytes_read(driver: Driver) -> int:
    return sum(put.size for put in driver.given)


def test_a_gap_that_arrival_times_show_to_be_large_is_not_read_into() -> None:
    puts = spread([plain(place, bytes(20_000)) for place in range(200)], 100)
    driver = Driver(FakeShard(puts))
    driver.ask(request_of(puts[:40]), request_of(puts[150:]))
    assert outcomes(driver.run()) == [Outcome.REBUILT] * 2
    assert len(driver.of(Seek)) == 2
    assert bytes_read(driver) < 1.1 * 90 * 20_000


def test_small_ranges_with_small_gaps_are_read_in_large_pages() -> None:
    puts = spread([plain(place, bytes(1_000)) for place in range(3_000)], 10)
    driver = Driver(FakeShard(puts))
    driver.ask(*(request_of(puts[start : start + 10]) for start in range(0, 3_000, 100)))
    assert outcomes(driver.run()) == [Outcome.REBUILT] * 30
    assert len(driver.of(Seek)) == 1
    assert len(driver.of(Read)) <= 2 + 3_000_000 // PAGE_BYTES + 3


@pytest.mark.parametrize("known", [True, False])
def test_an_estimate_that_is_wrong_costs_no_more_than_a_gap(known: bool) -> None:
    size = 20_000
    puts = spread([plain(place, bytes(size)) for place in range(300)], 100)
    burst = [replace(put, arrival=puts[40].arrival if known else -1) for put in puts[40:290]]
    puts = [*puts[:40], *burst, *(replace(put, arrival=puts[41].arrival) for put in puts[290:])]
    driver = Driver(FakeShard(puts))
    driver.ask(request_of(puts[:40]), request_of(puts[290:]))
    assert outcomes(driver.run()) == [Outcome.REBUILT] * 2
    assert len(driver.of(Seek)) == 2
    assert bytes_read(driver) < 50 * size + 2.5 * GAP_BYTES


def test_a_request_that_comes_too_late_for_this_way_through_the_shard_is_read_in_another_one() -> None:
    puts = [plain(place) for place in range(9)]
    driver = Driver(FakeShard(puts), most=[2])
    driver.ask(request_of(puts[2:6]))
    driver.step()
    driver.step()
    driver.ask(request_of(puts[3:5]), request_of(puts[0:3]), request_of(puts[7:]))
    assert outcomes(driver.run()) == [Outcome.REBUILT] * 4
    assert [action.sequence - BASE for action in driver.of(Seek) if isinstance(action, Seek)] == [2, 0]


def test_an_expired_iterator_is_resumed_after_the_last_record_that_was_seen() -> None:
    puts = [plain(place) for place in range(6)]
    driver = Driver(FakeShard(puts), most=[2])
    driver.ask(request_of(puts))
    for _ in range(3):
        driver.step()
    driver.lane.displaced()
    assert outcomes(driver.run()) == [Outcome.REBUILT]
    assert driver.of(Seek) == [Seek(BASE, after=False), Seek(BASE + 3, after=True)]


def test_an_iterator_that_expires_between_two_ranges_is_not_resumed_but_the_next_one_is_sought() -> None:
    puts = [plain(place) for place in range(6)]
    driver = Driver(FakeShard(puts), most=[2])
    driver.ask(request_of(puts[:2]), request_of(puts[4:]))
    driver.step()
    driver.step()
    driver.lane.displaced()
    assert outcomes(driver.run()) == [Outcome.REBUILT] * 2
    assert driver.of(Seek)[1] == Seek(BASE + 4, after=False)


@pytest.mark.parametrize("closed", [True, False])
def test_a_range_whose_head_is_trimmed_is_called_so_with_what_is_left(closed: bool) -> None:
    puts = [plain(place) for place in range(6)]
    driver = Driver(FakeShard(puts, closed=closed, trimmed=BASE + 3))
    driver.ask(request_of(puts[1:5]))
    (answer,) = driver.run()
    assert (answer.outcome, rows(answer.columns)) == (Outcome.TRIMMED, users_of(puts[3:5]))
    assert [type(action) for action in driver.actions] == [Seek, Read, Probe]


@pytest.mark.parametrize("closed", [True, False])
def test_a_shard_of_which_nothing_is_left_has_all_its_ranges_trimmed(closed: bool) -> None:
    puts = [plain(place) for place in range(6)]
    driver = Driver(FakeShard(puts, closed=closed, trimmed=BASE + 100))
    driver.ask(request_of(puts[:2]), request_of(puts[2:4]), request_of(puts[4:]))
    assert outcomes(driver.run()) == [Outcome.TRIMMED] * 3
    assert len(driver.of(Probe)) == 1
    assert len(driver.of(Read)) == (1 if closed else TIP_PAGES)
    # What is known to be trimmed costs no call.
    driver.ask(request_of(puts[1:3]))
    assert outcomes(driver.run())[3:] == [Outcome.TRIMMED]
    assert len(driver.of(Probe)) == 1


def test_ranges_before_the_horizon_cost_no_calls_once_it_is_known() -> None:
    puts = [plain(place) for place in range(100)]
    driver = Driver(FakeShard(puts, trimmed=BASE + 90))
    driver.ask(*(request_of(puts[place : place + 5]) for place in range(0, 100, 5)))
    assert sorted(outcome.value for outcome in outcomes(driver.run())) == ["rebuilt"] * 2 + ["trimmed"] * 18
    assert len(driver.of(Seek)) <= 2


def test_what_was_trimmed_while_an_iterator_had_expired_is_called_trimmed() -> None:
    puts = [plain(place) for place in range(8)]
    driver = Driver(FakeShard(puts), most=[2])
    driver.ask(request_of(puts))
    for _ in range(2):
        driver.step()
    driver.shard.trimmed = BASE + 5
    driver.lane.displaced()
    (answer,) = driver.run()
    assert (answer.outcome, answer.found) == (Outcome.TRIMMED, 5)


def test_what_differs_while_the_stream_holds_both_ends_is_no_question_of_trimming() -> None:
    puts = [plain(place) for place in range(6)]
    driver = Driver(FakeShard([*puts[:2], plain(2, b"another"), *puts[3:]], trimmed=BASE))
    driver.ask(request_of(puts))
    assert outcomes(driver.run()) == [Outcome.CONTENT_DIFFERS]
    assert not driver.of(Probe)


@pytest.mark.parametrize("trimmed", [False, True])
def test_whether_what_is_missing_between_both_ends_was_trimmed_meanwhile_is_asked(trimmed: bool) -> None:
    """Retention can pass a range's first record after its page was read, and take those of the next page."""
    puts = [plain(place) for place in range(6)]
    driver = Driver(FakeShard(puts if trimmed else [*puts[:2], *puts[3:]], trimmed=BASE), most=[1])

    def before(action: Action) -> None:
        if trimmed and len(driver.of(Read)) == 2:
            driver.shard.trimmed = BASE + 3

    driver.before = before
    driver.ask(request_of(puts))
    assert outcomes(driver.run()) == [Outcome.TRIMMED if trimmed else Outcome.COUNT_DIFFERS]
    assert len(driver.of(Probe)) == 1


@pytest.mark.parametrize("held", [range(1, 6), range(5), range(7, 9), range(0)])
def test_an_end_that_is_not_there_though_nothing_is_trimmed_is_a_difference(held: range) -> None:
    # Nothing but a ledger that is wrong about the stream can make this.
    puts = [plain(place) for place in range(1, 7)]
    driver = Driver(FakeShard([plain(0, b"older"), *(plain(1 + place) for place in held)]))
    driver.ask(request_of(puts))
    assert outcomes(driver.run()) == [Outcome.COUNT_DIFFERS]
    assert len(driver.of(Probe)) == 1


def test_the_tip_is_reached_only_after_several_pages_that_say_so() -> None:
    puts = [plain(place) for place in range(3)]
    driver = Driver(FakeShard(puts[:1]))
    driver.ask(request_of(puts))
    late: list[Action] = []

    def before(action: Action) -> None:
        late.append(action)
        if len(late) == 1 + TIP_PAGES:  # one read less than it takes, then the rest is there
            driver.shard.puts = puts

    driver.before = before
    assert outcomes(driver.run()) == [Outcome.REBUILT]


def test_a_refused_sequence_number_is_unknown_and_the_others_go_on() -> None:
    puts = [plain(place) for place in range(6)]
    driver = Driver(FakeShard(puts))
    driver.ask(request_of(puts[:3]), request_of(puts[3:]))
    seek = driver.lane.next()
    assert isinstance(seek, Seek)
    driver.lane.unknown(seek)
    assert sorted(outcome.value for outcome in outcomes(driver.run())) == ["rebuilt", "unknown"]


def test_what_is_left_of_a_range_is_read_also_if_the_horizon_in_it_is_known_before() -> None:
    puts = [plain(place) for place in range(6)]
    driver = Driver(FakeShard(puts, trimmed=BASE + 3))
    driver.ask(request_of(puts[:2]))
    driver.run()
    driver.ask(request_of(puts[2:]))
    (_, answer) = driver.run()
    assert (answer.outcome, rows(answer.columns)) == (Outcome.TRIMMED, users_of(puts[3:]))


def test_records_that_come_again_are_taken_once() -> None:
    records = [plain(place).record for place in range(4)]
    lane = Lane(SHARD)
    lane.add(request_of([plain(place) for place in range(4)]))
    seek = lane.next()
    assert isinstance(seek, Seek)
    lane.placed(seek)
    lane.page(records[:3], behind=1, ended=False)
    lane.page(records[1:], behind=0, ended=False)
    assert outcomes(lane.done) == [Outcome.REBUILT]


def test_a_shard_that_is_gone_has_all_its_ranges_trimmed_with_what_was_read() -> None:
    puts = [plain(place) for place in range(6)]
    driver = Driver(FakeShard(puts), most=[2])
    driver.ask(request_of(puts[:4]), request_of(puts[4:]))
    driver.step()
    driver.step()
    driver.lane.shard_gone()
    answers = driver.run()
    assert outcomes(answers) == [Outcome.TRIMMED] * 2
    assert rows(answers[0].columns) == users_of(puts[:2])
    driver.ask(request_of(puts[:1]))
    assert outcomes(driver.run())[2:] == [Outcome.TRIMMED]
    assert len(driver.actions) == 2


def test_a_page_is_asked_for_by_what_is_missing() -> None:
    puts = [plain(place, bytes(50_000)) for place in range(100)]
    driver = Driver(FakeShard(puts))
    driver.ask(request_of(puts[:60]))
    assert outcomes(driver.run()) == [Outcome.REBUILT]
    limits = [action.limit for action in driver.of(Read) if isinstance(action, Read)]
    # First a few, whose size is not known yet; then pages of a mebibyte; last what is left, and a little more.
    assert limits[0] == 20
    assert all(limit * 50_000 <= PAGE_BYTES * 1.05 for limit in limits[1:])
    assert driver.position <= puts[65].sequence


def test_small_records_are_read_ten_thousand_at_a_time_at_most() -> None:
    puts = [plain(place, b"") for place in range(100)]
    request = request_of(puts)
    driver = Driver(FakeShard(puts), most=[50])
    driver.ask(request)
    driver.run()
    assert all(action.limit <= 10_000 for action in driver.of(Read) if isinstance(action, Read))


@st.composite
def cases(draw: st.DrawFn) -> tuple[Driver, list[Request]]:
    """Return a shard that is driven badly, and all requests, some of which come while it is read."""
    places = sorted(draw(st.sets(st.integers(0, 60), min_size=1, max_size=25)))
    puts: list[Put] = []
    for place in places:
        if draw(st.booleans()):
            puts.append(plain(place, bytes(draw(st.sampled_from([0, 10, GAP_BYTES // 3])))))
        else:
            puts.append(aggregated(place, *draw(st.lists(st.binary(max_size=3), min_size=1, max_size=3))))
    users = users_of(puts)
    requests = []
    for _ in range(draw(st.integers(1, 8))):
        start = draw(st.integers(0, len(users) - 1))
        stop = draw(st.integers(start + 1, min(len(users), start + 12)))
        requests.append(Request(range_of(users[start:stop])))
    driver = Driver(FakeShard(puts, closed=draw(st.booleans())))
    driver.most = [*draw(st.lists(st.integers(0, 4), max_size=20)), draw(st.integers(1, 9))]
    trims = draw(st.dictionaries(st.integers(0, 30), st.sampled_from(places), max_size=2))
    expiries = draw(st.sets(st.integers(0, 30), max_size=3))
    late = draw(st.lists(st.integers(0, 20), min_size=len(requests), max_size=len(requests)))
    count = 0

    def before(action: Action) -> None:
        nonlocal count
        if count in trims:
            driver.shard.trimmed = max(driver.shard.trimmed, BASE + trims[count])
        if count in expiries and isinstance(action, Read):
            driver.lane.displaced()
            driver.most.insert(0, 0)  # this page is not given
        for request, when in zip(requests, late, strict=True):
            if when == count and when:
                driver.lane.add(request)
        count += 1

    driver.before = before
    driver.ask(*(request for request, when in zip(requests, late, strict=True) if not when))
    return driver, requests


@settings(max_examples=400, deadline=None)
@given(cases())
def test_whatever_happens_each_request_gets_one_answer_and_the_right_one(
    case: tuple[Driver, list[Request]],
) -> None:
    driver, requests = case
    users = users_of(driver.shard.puts)
    driver.run()
    asked = [answer.request for answer in driver.answers]
    left = [request for request in requests if not any(request is one for one in asked)]
    # Those that would have come after the lane had nothing more to do.
    driver.before = lambda action: None
    driver.ask(*left)
    driver.run()
    assert sorted(map(id, (answer.request for answer in driver.answers))) == sorted(map(id, requests))
    for answer in driver.answers:
        one = answer.request.range
        expected = [user for user in users if one.first <= user[:2] <= one.last]
        if answer.outcome is Outcome.REBUILT:
            assert rows(answer.columns) == expected
        else:
            assert answer.outcome is Outcome.TRIMMED
            assert one.first.sequence_number < driver.shard.trimmed
            assert {*rows(answer.columns)} <= {*expected}
            still_there = [user for user in expected if user[0] >= driver.shard.trimmed]
            assert {*still_there} <= {*rows(answer.columns)}
