from __future__ import annotations

from collections.abc import Iterable

from recovery_support import plain, request_of

from kcl_receiver.kinesis.plan import Plan, Work, cost
from kcl_receiver.kinesis.rebuild import Outcome, Request, Reread
from kcl_receiver.kinesis.shard_reread import Read

LARGE = 2**40


def request(place: int, shard: str = "a") -> Request:
    return request_of([plain(place, b"x" * 100)], shard)


def taken(plan: Plan, now: float = 0.0) -> Work:
    work = plan.take(now)
    assert isinstance(work, Work)
    return work


def read(plan: Plan, work: Work, places: Iterable[int]) -> list[Reread]:
    """Let a shard's lane find these records, and give it back."""
    seek = work.lane.next()
    work.lane.placed(seek)  # type: ignore[arg-type]
    assert isinstance(work.lane.next(), Read)
    work.lane.page([plain(place, b"x" * 100).record for place in places], behind=0, ended=True)
    return plan.release(work)


def test_the_shard_with_the_oldest_request_comes_first() -> None:
    plan = Plan(LARGE)
    plan.add(request(0, "a"))
    read(plan, taken(plan), [0])
    for one in (request(5, "b"), request(1, "a"), request(2, "c")):
        plan.add(one)
    assert [taken(plan).lane.shard for _ in range(3)] == ["b", "a", "c"]
    assert plan.take(0.0) == float("inf")


def test_a_shard_that_is_taken_is_nobody_elses_until_it_is_given_back() -> None:
    plan = Plan(LARGE)
    plan.add(request(0))
    work = taken(plan)
    assert plan.take(0.0) == float("inf")
    assert plan.release(work) == []
    assert taken(plan) is work


def test_a_shard_that_waits_holds_up_no_other_and_tells_for_how_long() -> None:
    plan = Plan(LARGE)
    plan.add(request(0, "a"))
    plan.add(request(0, "b"))
    first = taken(plan)
    first.ready_at = 7.0
    plan.release(first)
    second = taken(plan)
    assert second.lane.shard == "b"
    second.ready_at = 5.0
    plan.release(second)
    assert plan.take(4.0) == 1.0
    assert taken(plan, 5.0) is second


def test_requests_that_come_while_a_shard_is_taken_are_in_its_lane_the_next_time() -> None:
    plan = Plan(LARGE)
    plan.add(request(0))
    work = taken(plan)
    plan.add(request(1))
    assert [answer.outcome for answer in read(plan, work, [0])] == [Outcome.REBUILT]
    work = taken(plan)
    assert [answer.outcome for answer in read(plan, work, [1])] == [Outcome.REBUILT]
    assert plan.take(0.0) == float("inf")


def test_the_window_is_counted_from_the_oldest_request_without_an_answer() -> None:
    each = cost(request(0))
    plan = Plan(2 * each)
    old, quick, third = request(0, "old"), request(0, "quick"), request(1, "quick")
    plan.add(old)
    assert plan.has_room
    plan.add(quick)
    assert not plan.has_room
    slow = taken(plan)
    work = taken(plan)
    (answer,) = read(plan, work, [0])
    plan.answered(answer)
    # Whoever asked may hold that answer until the older one is there.
    assert not plan.has_room
    (late,) = read(plan, slow, [0])
    assert not plan.has_room
    plan.answered(late)
    assert plan.is_empty
    plan.add(third)
    assert plan.has_room


def test_a_request_larger_than_the_window_is_let_in_alone() -> None:
    plan = Plan(1)
    assert plan.has_room
    plan.add(request(0))
    assert not plan.has_room


def test_the_same_request_twice_gets_two_answers() -> None:
    plan = Plan(LARGE)
    one = request(0)
    plan.add(one)
    plan.add(one)
    answers = read(plan, taken(plan), [0])
    assert [answer.request for answer in answers] == [one, one]
    for answer in answers:
        plan.answered(answer)
    assert plan.is_empty


def test_what_is_abandoned_is_named_once_in_order_and_later_answers_to_it_are_dropped() -> None:
    plan = Plan(LARGE)
    requests = [request(0), request(3, "b"), request(1)]
    for one in requests:
        plan.add(one)
    work = taken(plan)
    left = plan.abandon()
    assert left == requests
    assert plan.abandon() == []
    assert plan.take(0.0) == float("inf")
    gone = [Reread(one, Outcome.GONE, None, 0) for one in left]
    plan.answered(gone[0])
    assert read(plan, work, [0, 1]) == []
    for answer in gone[1:]:
        plan.answered(answer)
    assert plan.is_empty
