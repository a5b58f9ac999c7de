"""The calls for one shard on virtual time: what each error of the service leads to."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError, NoCredentialsError, ReadTimeoutError
from botocore.parsers import ResponseParserError
from recovery_support import BASE, SHARD, STREAM, FakeKinesis, FakeShard, Put, error, plain, request_of, rows, users_of

from kcl_receiver.errors import StreamUnavailable
from kcl_receiver.kinesis.rate_limit import Limits
from kcl_receiver.kinesis.rebuild import Outcome
from kcl_receiver.kinesis.shard_client import (
    PASSING,
    PAUSES,
    Manner,
    ShardReader,
    Stream,
    StreamLost,
    kinesis_record,
    milliseconds,
)
from kcl_receiver.kinesis.shard_reread import Lane
from kcl_receiver.ranges import StreamIdentity

PATIENCE = 100.0
PUTS = [plain(place) for place in range(6)]


class Theatre:
    """A reader of one shard, and a clock that goes where the reader wants to wait."""

    def __init__(self, kinesis: FakeKinesis | None = None, *, by_arn: bool = False, puts: Sequence[Put] = PUTS) -> None:
        self.kinesis = kinesis or FakeKinesis({SHARD: FakeShard(PUTS)}, page=2)
        self.now = 1000.0
        self.lane = Lane(SHARD)
        manner = Manner(Limits(), PATIENCE, lambda: self.now, random.Random(3))
        self.reader = ShardReader(Stream(self.kinesis, STREAM, by_arn=by_arn), self.lane, manner)
        self.lane.add(request_of(puts))

    def run(self) -> list[Outcome]:
        for _ in range(1000):
            if self.lane.is_idle:
                return [answer.outcome for answer in self.lane.done]
            ready = self.reader.step()
            self.now = max(self.now, ready)
        raise AssertionError(f"no end: {self.kinesis.calls[-5:]}")

    def fail(self, call: str, *errors: Exception | None) -> None:
        """Let the next calls of a kind raise these."""
        left = iter(errors)

        def raise_next(name: str, arguments: dict[str, Any]) -> None:
            if name == call and (raised := next(left, None)) is not None:
                raise raised

        self.kinesis.errors = raise_next


def test_a_range_is_read_page_by_page_without_error() -> None:
    theatre = Theatre()
    assert theatre.run() == [Outcome.REBUILT]
    assert theatre.kinesis.names() == ["iterator", "records", "records", "records"]
    assert rows(theatre.lane.done[0].columns) == users_of(PUTS)
    first = theatre.kinesis.calls[0][1]
    assert first == {
        "StreamName": "orders",
        "ShardId": SHARD,
        "ShardIteratorType": "AT_SEQUENCE_NUMBER",
        "StartingSequenceNumber": str(BASE),
    }
    assert (theatre.reader.pages, theatre.reader.bytes, theatre.reader.failed) == (3, sum(p.size for p in PUTS), 0)


def test_two_megabytes_a_second_are_not_exceeded() -> None:
    large = [plain(place, bytes(500_000)) for place in range(30)]
    theatre = Theatre(FakeKinesis({SHARD: FakeShard(large)}, page=2), puts=large)
    assert theatre.run() == [Outcome.REBUILT]
    # 15 MB, less the 2 MB of the first second and the last page, which nobody waits for.
    assert theatre.now - 1000.0 == pytest.approx((15 - 2 - 1) / 2, rel=0.01)


def test_five_calls_a_second_are_not_exceeded() -> None:
    theatre = Theatre(FakeKinesis({SHARD: FakeShard(PUTS)}, page=1))
    theatre.run()
    assert theatre.now - 1000.0 == pytest.approx(0.2 * (len(PUTS) - 1))


@pytest.mark.parametrize("call", ["iterator", "records"])
@pytest.mark.parametrize(
    "raised",
    [
        *map(error, sorted(PASSING)),
        error("Anything", 500),
        error("Anything", 503),
        EndpointConnectionError(endpoint_url="http://x"),
        ReadTimeoutError(endpoint_url="http://x"),
        ResponseParserError("half an answer"),
    ],
    ids=repr,
)
def test_what_passes_by_itself_is_waited_for_with_growing_pauses(call: str, raised: Exception) -> None:
    theatre = Theatre()
    tried: list[float] = []

    def throttle(name: str, arguments: dict[str, Any]) -> None:
        if name == call:
            tried.append(theatre.now)
            if len(tried) < 4:
                raise raised

    theatre.kinesis.errors = throttle
    assert theatre.run() == [Outcome.REBUILT]
    assert theatre.reader.failed == 3
    for number, (before, after) in enumerate(pairwise(tried[:4])):
        longest = PAUSES[0] * 2**number
        assert longest / 2 <= after - before <= max(longest, 0.2) + 1e-6


@pytest.mark.parametrize("call", ["iterator", "records"])
def test_after_its_patience_it_gives_up_with_the_service_s_own_words(call: str) -> None:
    theatre = Theatre()
    theatre.fail(call, *[error("ProvisionedThroughputExceededException")] * 1000)
    with pytest.raises(StreamUnavailable, match=r"shardId-000000000000 of stream orders: Provisioned"):
        theatre.run()
    assert PATIENCE < theatre.now - 1000.0 < PATIENCE + 2 * PAUSES[1]


def test_one_good_page_begins_the_patience_anew() -> None:
    theatre = Theatre()
    throttled = [error("LimitExceededException")] * 14  # about 100 s of pauses
    theatre.fail("records", *throttled, None, *throttled, None, *throttled, None)
    assert theatre.run() == [Outcome.REBUILT]
    assert theatre.now - 1000.0 > 2 * PATIENCE


@pytest.mark.parametrize("code", ["AccessDeniedException", "KMSAccessDeniedException", "ValidationException"])
@pytest.mark.parametrize("call", ["iterator", "records"])
def test_what_does_not_pass_is_told_at_once(call: str, code: str) -> None:
    theatre = Theatre()
    theatre.fail(call, error(code))
    with pytest.raises(StreamUnavailable, match=code) as caught:
        theatre.run()
    assert theatre.kinesis.names().count(call) == 1
    if "AccessDenied" in code:
        assert f"kinesis:Get{'Records' if call == 'records' else 'ShardIterator'}" in caught.value.hint


def test_missing_credentials_are_told_at_once() -> None:
    theatre = Theatre()
    theatre.fail("iterator", NoCredentialsError())
    with pytest.raises(StreamUnavailable, match="credentials"):
        theatre.run()


def test_an_expired_iterator_is_replaced_by_one_after_the_last_record() -> None:
    theatre = Theatre()
    theatre.fail("records", None, error("ExpiredIteratorException"), None)
    assert theatre.run() == [Outcome.REBUILT]
    kinds = [arguments["ShardIteratorType"] for call, arguments in theatre.kinesis.calls if call == "iterator"]
    assert kinds == ["AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"]
    assert theatre.kinesis.calls[-3][1]["StartingSequenceNumber"] == str(BASE + 1)


def test_iterators_that_always_expire_are_no_endless_loop() -> None:
    theatre = Theatre()
    theatre.fail("records", *[error("ExpiredIteratorException")] * 1000)
    with pytest.raises(StreamUnavailable, match="ExpiredIterator"):
        theatre.run()


def test_an_iterator_that_is_refused_is_replaced() -> None:
    theatre = Theatre()
    theatre.fail("records", None, error("InvalidArgumentException"), None)
    assert theatre.run() == [Outcome.REBUILT]


def test_a_sequence_number_that_the_stream_refuses_is_unknown() -> None:
    theatre = Theatre()
    theatre.fail("iterator", error("InvalidArgumentException"))
    assert theatre.run() == [Outcome.UNKNOWN]
    assert theatre.kinesis.names() == ["iterator", "describe"]


def test_a_shard_that_the_stream_does_not_have_any_more_is_trimmed() -> None:
    theatre = Theatre(FakeKinesis({}))
    assert theatre.run() == [Outcome.TRIMMED]
    assert theatre.kinesis.names() == ["iterator", "describe"]


@pytest.mark.parametrize("code", ["ResourceNotFoundException", "InvalidArgumentException"])
def test_what_a_stream_refuses_that_was_made_again_is_no_question_of_ranges(code: str) -> None:
    theatre = Theatre()
    theatre.kinesis.identity = StreamIdentity(STREAM.arn, STREAM.created + 1)
    theatre.fail("iterator", error(code))
    with pytest.raises(StreamLost, match="made again"):
        theatre.run()


def test_a_stream_that_is_gone_is_told() -> None:
    theatre = Theatre()

    def gone(name: str, arguments: dict[str, Any]) -> None:
        raise error("ResourceNotFoundException")

    theatre.kinesis.errors = gone
    with pytest.raises(StreamLost, match="deleted"):
        theatre.run()


def test_a_stream_that_is_being_deleted_is_lost() -> None:
    theatre = Theatre(FakeKinesis({}, status="DELETING"))
    with pytest.raises(StreamLost, match="being deleted"):
        theatre.run()


def test_a_question_about_the_stream_that_is_throttled_is_asked_again() -> None:
    theatre = Theatre(FakeKinesis({}))
    theatre.fail("describe", error("LimitExceededException"), None)
    assert theatre.run() == [Outcome.TRIMMED]
    assert theatre.kinesis.names() == ["iterator", "describe", "iterator", "describe"]


def test_a_question_about_the_stream_that_is_not_allowed_is_told() -> None:
    theatre = Theatre(FakeKinesis({}))
    theatre.fail("describe", error("AccessDeniedException"))
    with pytest.raises(StreamUnavailable, match="AccessDenied"):
        theatre.run()


FAULTS_OF_A_PROBE: dict[str, list[Exception | None]] = {
    "none": [],
    "expired": [None, error("ExpiredIteratorException")],
    "throttled": [None, error("ProvisionedThroughputExceededException"), error("InternalFailure", 500)],
    "refused": [None, error("InvalidArgumentException")],
}


@pytest.mark.parametrize("errors", FAULTS_OF_A_PROBE.values(), ids=FAULTS_OF_A_PROBE)
@pytest.mark.parametrize("empty", [0, 5])
def test_the_first_record_of_a_shard_is_looked_up_through_errors_and_empty_pages(
    errors: list[Exception | None], empty: int
) -> None:
    kinesis = FakeKinesis({SHARD: FakeShard(PUTS, trimmed=BASE + 4)})
    kinesis.empty = lambda number: 1 < number < 2 + empty
    theatre = Theatre(kinesis)
    theatre.fail("records", *errors)
    assert theatre.run() == [Outcome.TRIMMED]
    assert rows(theatre.lane.done[0].columns) == users_of(PUTS[4:])
    kinds = [arguments["ShardIteratorType"] for call, arguments in theatre.kinesis.calls if call == "iterator"]
    assert kinds[:2] == ["AT_SEQUENCE_NUMBER", "TRIM_HORIZON"]


def test_an_expired_iterator_of_a_look_up_is_replaced_and_not_used_again() -> None:
    theatre = Theatre(FakeKinesis({SHARD: FakeShard(PUTS, trimmed=BASE + 4)}))
    expired: set[int] = set()

    def expire(call: str, arguments: dict[str, Any]) -> None:
        given = theatre.kinesis.names().count("iterator")
        if call == "records" and arguments["ShardIterator"].endswith(" 0") and (given == 2 or expired):
            expired.add(given)
            if given == 2:
                raise error("ExpiredIteratorException")

    theatre.kinesis.errors = expire
    assert theatre.run() == [Outcome.TRIMMED]
    assert theatre.reader.failed == 1


@pytest.mark.parametrize("boast", [False, True])
def test_empty_pages_of_a_look_up_are_no_end_of_it(boast: bool) -> None:
    kinesis = FakeKinesis({SHARD: FakeShard([plain(0, b"older"), *PUTS[2:]])}, boast=boast)
    kinesis.empty = lambda number: 1 < number < (4 if boast else 9)
    theatre = Theatre(kinesis, puts=PUTS[1:])
    # The stream holds what is older: nothing is trimmed, and so the two deliveries differ.
    assert theatre.run() == [Outcome.COUNT_DIFFERS]


@pytest.mark.parametrize("closed", [True, False])
def test_a_shard_that_holds_nothing_is_trimmed(closed: bool) -> None:
    theatre = Theatre(FakeKinesis({SHARD: FakeShard(PUTS, closed=closed, trimmed=BASE + 100)}))
    assert theatre.run() == [Outcome.TRIMMED]


def test_a_stream_of_another_account_is_named_by_its_arn() -> None:
    theatre = Theatre(by_arn=True)
    assert theatre.run() == [Outcome.REBUILT]
    assert all(arguments["StreamARN"] == STREAM.arn for _, arguments in theatre.kinesis.calls)
    assert not any("StreamName" in arguments for _, arguments in theatre.kinesis.calls)


def test_a_page_that_does_not_say_how_far_behind_it_is_is_no_tip() -> None:
    kinesis = FakeKinesis({SHARD: FakeShard(PUTS)})
    kinesis.empty = lambda number: number < 9
    real = kinesis.get_records

    def silent(**arguments: object) -> dict[str, Any]:
        answer = real(**arguments)
        del answer["MillisBehindLatest"]
        return answer

    kinesis.get_records = silent  # type: ignore[method-assign]
    assert Theatre(kinesis).run() == [Outcome.REBUILT]


@pytest.mark.parametrize("millis", [0, 1, 999, 1_795_353_301_123, 4_102_444_800_001])
def test_arrival_times_are_whole_milliseconds(millis: int) -> None:
    # As botocore makes them: of a float of seconds.
    assert milliseconds(datetime.fromtimestamp(millis / 1000, timezone.utc)) == millis
    assert milliseconds(datetime.fromtimestamp(millis / 1000, timezone(timedelta(hours=5, minutes=30)))) == millis


def test_a_record_is_taken_as_boto3_gives_it() -> None:
    raw = {**plain(3, b"d", "kéy").boto(), "EncryptionType": "KMS"}
    assert kinesis_record(raw) == plain(3, b"d", "kéy").record
    del raw["ApproximateArrivalTimestamp"]
    assert kinesis_record(raw).arrival == -1
    assert kinesis_record({**raw, "PartitionKey": "a\ud800b"}).key == b"a?b"
    with pytest.raises(ValueError, match="sequence number"):
        kinesis_record({**raw, "SequenceNumber": "x"})
