"""`RangeFetcher` on a service in memory: several shards at once, and everything that ends a reading."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from recovery_support import (
    BASE,
    STREAM,
    FakeKinesis,
    FakeShard,
    Put,
    aggregated,
    altered,
    error,
    plain,
    request_of,
    rows,
    users_of,
)

from kcl_receiver.errors import StreamUnavailable
from kcl_receiver.kinesis.plan import cost
from kcl_receiver.kinesis.range_fetcher import Progress, RangeFetcher
from kcl_receiver.kinesis.rate_limit import Limits
from kcl_receiver.kinesis.rebuild import Outcome, Request, Reread
from kcl_receiver.ranges import StreamIdentity

UNLIMITED = Limits(calls=1e9, bytes=1e15)
WAIT = 30.0
"""Seconds after which a test fails."""


def shard(number: int) -> str:
    return f"shardId-{number:012d}"


def stream(shards: int, records: int = 40) -> dict[str, FakeShard]:
    return {
        shard(number): FakeShard(
            [
                plain(place, b"%d" % number) if place % 3 else aggregated(place, b"a%d" % number, b"b", b"c")
                for place in range(records)
            ]
        )
        for number in range(shards)
    }


def requests_by_block(shards: dict[str, FakeShard], size: int = 4) -> list[Request]:
    """Return the requests for everything, as a store has it: block after block, each with a range of every shard."""
    length = max(len(one.puts) for one in shards.values())
    return [
        request_of(one.puts[start : start + size], name, block=f"block-{start:06d}")
        for start in range(0, length, size)
        for name, one in shards.items()
    ]


def reader(kinesis: FakeKinesis, **more: Any) -> RangeFetcher:  # noqa: ANN401
    return RangeFetcher(kinesis, **{"limits": UNLIMITED, **more})


def of(request: Request, shards: dict[str, FakeShard]) -> list[Put]:
    one = request.range
    return [put for put in shards[one.shard].puts if one.first <= (put.sequence, 99) and (put.sequence, 0) <= one.last]


def read_once_all_is_asked(kinesis: FakeKinesis, requests: list[Request]) -> Iterator[Request]:
    """Give the requests, and let the threads read nothing before the last is taken: what comes late is read again."""
    taken = threading.Event()

    def wait(call: str, arguments: dict[str, Any]) -> None:
        if call == "iterator":
            assert taken.wait(WAIT)

    kinesis.errors = wait
    yield from requests
    taken.set()


def no_threads_left() -> bool:
    return not any(thread.name.startswith("reread-") for thread in threading.enumerate())


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_every_request_of_every_shard_is_answered_once(workers: int) -> None:
    shards = stream(5)
    kinesis = FakeKinesis(shards, page=7, empty=lambda number: number % 3 == 0)
    requests = requests_by_block(shards)
    seen: list[Progress] = []
    source = read_once_all_is_asked(kinesis, requests)
    answers = list(reader(kinesis, workers=workers, progress=seen.append).reread(STREAM, source))
    assert {answer.outcome for answer in answers} == {Outcome.REBUILT}
    assert sorted(map(repr, (answer.request for answer in answers))) == sorted(map(repr, requests))
    for answer in answers:
        assert rows(answer.columns) == users_of(of(answer.request, shards))
    assert seen[-1].ranges == len(requests)
    assert seen[-1].records == sum(request.range.count for request in requests)
    assert seen[-1].pages == kinesis.names().count("records")
    assert seen[-1].bytes == sum(put.size for one in shards.values() for put in one.puts)
    assert no_threads_left()


def test_one_shard_is_read_in_one_go_however_many_blocks_there_are() -> None:
    shards = stream(2)
    kinesis = FakeKinesis(shards)
    list(reader(kinesis).reread(STREAM, read_once_all_is_asked(kinesis, requests_by_block(shards))))
    assert kinesis.names().count("iterator") == 2


def test_nothing_to_read_is_nothing() -> None:
    kinesis = FakeKinesis({})
    assert list(reader(kinesis).reread(STREAM, [])) == []
    assert kinesis.names() == ["describe"]


def test_requests_are_taken_only_as_there_is_room() -> None:
    shards = stream(3)
    requests = requests_by_block(shards)
    window = sum(map(cost, requests[:6]))
    taken: list[Request] = []

    def source() -> Iterator[Request]:
        for request in requests:
            taken.append(request)
            yield request

    answered: list[Request] = []
    for answer in reader(FakeKinesis(shards), window=window).reread(STREAM, source()):
        answered.append(answer.request)
        open_from = next(place for place, one in enumerate(requests) if one not in answered[:-1])
        # One more than fits, since it is known to be too much only when it is there.
        assert sum(map(cost, taken[open_from:])) < window + max(map(cost, requests))
    assert len(answered) == len(requests)


@pytest.mark.parametrize(
    "identity", [StreamIdentity(STREAM.arn, STREAM.created + 1), StreamIdentity(STREAM.arn + "2", STREAM.created)]
)
def test_of_another_stream_nothing_is_read(identity: StreamIdentity) -> None:
    shards = stream(2)
    kinesis = FakeKinesis(shards, identity=identity)
    requests = requests_by_block(shards)
    answers = list(reader(kinesis, window=cost(requests[0])).reread(STREAM, iter(requests)))
    assert [answer.outcome for answer in answers] == [Outcome.GONE] * len(requests)
    assert [answer.request for answer in answers] == requests
    assert "made again" in answers[0].detail
    assert set(kinesis.names()) == {"describe"}


def test_a_stream_that_is_deleted_while_it_is_read_leaves_what_was_rebuilt() -> None:
    shards = stream(3)
    kinesis = FakeKinesis(shards, page=2)
    requests = requests_by_block(shards)
    calls = 0

    def fail(call: str, arguments: dict[str, Any]) -> None:
        nonlocal calls
        calls += call == "records"
        if calls > 12:
            raise error("ResourceNotFoundException")

    kinesis.errors = fail
    answers = list(reader(kinesis).reread(STREAM, requests))
    assert len(answers) == len(requests)
    assert {answer.outcome for answer in answers} == {Outcome.REBUILT, Outcome.GONE}
    assert no_threads_left()


def test_a_shard_that_is_trimmed_away_holds_up_no_other() -> None:
    shards = stream(2)
    requests = requests_by_block(shards)
    del shards[shard(0)]
    answers = list(reader(FakeKinesis(shards)).reread(STREAM, requests))
    assert {(answer.request.range.shard, answer.outcome) for answer in answers} == {
        (shard(0), Outcome.TRIMMED),
        (shard(1), Outcome.REBUILT),
    }


def test_an_error_that_does_not_pass_ends_the_reading_with_its_reason() -> None:
    shards = stream(2)
    kinesis = FakeKinesis(shards)

    def fail(call: str, arguments: dict[str, Any]) -> None:
        if call == "records" and arguments["ShardIterator"].startswith(shard(1)):
            raise error("AccessDeniedException")

    kinesis.errors = fail
    answers: list[Reread] = []
    with pytest.raises(StreamUnavailable, match="AccessDenied"):
        answers.extend(reader(kinesis).reread(STREAM, requests_by_block(shards)))
    assert no_threads_left()


@pytest.mark.parametrize("code", ["AccessDeniedException", "LimitExceededException"])
def test_a_stream_that_cannot_be_asked_about_is_told(code: str) -> None:
    def fail(call: str, arguments: dict[str, Any]) -> None:
        raise error(code)

    kinesis = FakeKinesis({}, errors=fail)
    with pytest.raises(StreamUnavailable, match=code):
        list(reader(kinesis, patience=0.0).reread(STREAM, []))


def test_a_first_question_that_is_throttled_is_asked_again() -> None:
    shards = stream(1)
    left = [error("LimitExceededException")]

    def fail(call: str, arguments: dict[str, Any]) -> None:
        if call == "describe" and left:
            raise left.pop()

    answers = list(reader(FakeKinesis(shards, errors=fail)).reread(STREAM, requests_by_block(shards)))
    assert {answer.outcome for answer in answers} == {Outcome.REBUILT}


def test_it_stops_when_it_is_told_to_while_calls_fail_and_when_they_do_not_return() -> None:
    shards = stream(2)
    stop, called, let_go = threading.Event(), threading.Event(), threading.Event()

    def hang(call: str, arguments: dict[str, Any]) -> None:
        if call == "records" and arguments["ShardIterator"].startswith(shard(1)):
            called.set()
            let_go.wait(WAIT)
        elif call == "records":
            raise error("ProvisionedThroughputExceededException")

    answers: list[Reread] = []
    reading = reader(FakeKinesis(shards, errors=hang), stop=stop).reread(STREAM, requests_by_block(shards))
    thread = threading.Thread(target=lambda: answers.extend(reading))
    thread.start()
    assert called.wait(WAIT)
    stop.set()
    thread.join(WAIT)
    assert not thread.is_alive()
    assert answers == []
    let_go.set()
    for left in threading.enumerate():
        if left.name.startswith("reread-"):
            left.join(WAIT)


def test_what_was_asked_for_can_be_asked_for_again_after_a_stop() -> None:
    shards = stream(2)
    requests = requests_by_block(shards)
    stop = threading.Event()
    first: list[Reread] = []
    for answer in reader(FakeKinesis(shards), stop=stop).reread(STREAM, requests):
        first.append(answer)
        if len(first) == 3:
            stop.set()
    assert len(first) == 3
    rest = [one for one in requests if one not in [answer.request for answer in first]]
    second = list(reader(FakeKinesis(shards)).reread(STREAM, rest))
    assert {answer.outcome for answer in (*first, *second)} == {Outcome.REBUILT}
    assert len(first) + len(second) == len(requests)


def test_whoever_stops_iterating_ends_the_threads() -> None:
    shards = stream(2)
    reading = reader(FakeKinesis(shards)).reread(STREAM, requests_by_block(shards))
    next(reading)
    assert not no_threads_left()
    reading.close()  # type: ignore[attr-defined]
    assert no_threads_left()


def test_an_error_of_whoever_gives_requests_or_looks_on_is_theirs() -> None:
    shards = stream(1)

    def source() -> Iterator[Request]:
        yield requests_by_block(shards)[0]
        raise RuntimeError("the ledger")

    with pytest.raises(RuntimeError, match="the ledger"):
        list(reader(FakeKinesis(shards)).reread(STREAM, source()))

    def look(progress: Progress) -> None:
        raise RuntimeError("the bar")

    with pytest.raises(RuntimeError, match="the bar"):
        list(reader(FakeKinesis(shards), progress=look).reread(STREAM, requests_by_block(shards)))
    assert no_threads_left()


def test_what_differs_is_told_beside_what_does_not() -> None:
    shards = stream(1)
    requests = requests_by_block(shards)
    requests[2] = Request(altered(requests[2].range, checksum="0" * 32))
    requests[4] = Request(altered(requests[4].range, count=1))
    answers = {id(a.request): a for a in reader(FakeKinesis(shards)).reread(STREAM, requests)}
    found = sorted(answers.values(), key=lambda answer: answer.request.range.first)
    expected = [Outcome.REBUILT] * len(requests)
    expected[2], expected[4] = Outcome.CONTENT_DIFFERS, Outcome.COUNT_DIFFERS
    assert [answer.outcome for answer in found] == expected
    assert found[4].found == sum(len(put.users) for put in of(requests[4], shards))


def test_a_horizon_that_passes_while_reading_leaves_the_rest() -> None:
    shards = stream(1)
    requests = requests_by_block(shards)
    shards[shard(0)].trimmed = BASE + 10
    answers = list(reader(FakeKinesis(shards)).reread(STREAM, requests))
    outcomes = [a.outcome for a in sorted(answers, key=lambda answer: answer.request.range.first)]
    assert outcomes == [Outcome.TRIMMED] * 3 + [Outcome.REBUILT] * 7
