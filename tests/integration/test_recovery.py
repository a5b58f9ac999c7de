"""Reading lost ranges again from the emulated Kinesis: resharding, limits, expired iterators, trimming, other streams.

What was put is known to the test; only arrival times are taken from the stream, as the daemon does.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from generator_process import STREAM
from recovery_support import User, range_of, rows

from kcl_receiver import aws
from kcl_receiver.config.credentials import Access
from kcl_receiver.emulator.kpl import UserRecord, aggregate
from kcl_receiver.emulator.server import Emulator
from kcl_receiver.errors import StreamUnavailable
from kcl_receiver.kinesis.range_fetcher import Progress, RangeFetcher, connect
from kcl_receiver.kinesis.rate_limit import Limits
from kcl_receiver.kinesis.rebuild import Outcome, Request
from kcl_receiver.ranges import StreamIdentity

FAST = Limits(calls=500.0, bytes=1e9)
HOUR = 3600.0


class Source:
    """Puts records into the stream of the fixture, and knows what each shard holds of them."""

    def __init__(self, emulator: Emulator, seed: int = 1) -> None:
        self.emulator = emulator
        self.kinesis = emulator.client("kinesis")
        self.random = Random(seed)
        self.users: dict[str, dict[int, list[tuple[str, bytes]]]] = defaultdict(dict)
        self.count = 0
        self.identity: StreamIdentity = aws.describe_stream(self.kinesis, STREAM).identity

    def shards(self, *, open_: bool | None = None) -> dict[str, aws.Shard]:
        return {
            one.id: one for one in aws.list_shards(self.kinesis, STREAM) if open_ is None or (one.last is None) is open_
        }

    def put(self, count: int, size: int = 200) -> None:
        """Put Kinesis records, every other one an aggregate of several user records, some of which KCL drops."""
        entries: list[dict[str, Any]] = []
        users: list[list[tuple[str, bytes]]] = []
        shards = [*self.shards(open_=True).values()]
        for _ in range(count):
            shard = self.random.choice(shards)
            first, last = map(int, shard.hash_range)
            hash_key = self.random.randint(first, last)
            kind = self.random.random()
            if kind < 0.5:
                entry, holds = self._data(size), None
            else:
                holds = [
                    (f"ké-{self.random.randrange(20)}", self._data(size)) for _ in range(self.random.randint(1, 6))
                ]
                foreign = kind > 0.95
                place = (last + 1) % 2**128 if foreign else hash_key
                entry = aggregate(UserRecord(key, data, place) for key, data in holds)
                holds = [] if foreign else holds
            key = f"kéy-{self.count}"
            entries.append({"Data": entry, "PartitionKey": key, "ExplicitHashKey": str(hash_key)})
            users.append([(key, entry)] if holds is None else holds)
        for start in range(0, count, 500):
            answer = self.kinesis.put_records(StreamName=STREAM, Records=entries[start : start + 500])
            assert not answer["FailedRecordCount"]
            for result, holds in zip(answer["Records"], users[start : start + 500], strict=True):
                self.users[result["ShardId"]][int(result["SequenceNumber"])] = holds

    def _data(self, size: int) -> bytes:
        self.count += 1
        return b"%d:" % self.count + self.random.randbytes(self.random.randrange(size))

    def delivered(self, shard: str) -> list[User]:
        """Return what the daemon delivers of a shard."""
        found: list[User] = []
        iterator = self.kinesis.get_shard_iterator(StreamName=STREAM, ShardId=shard, ShardIteratorType="TRIM_HORIZON")[
            "ShardIterator"
        ]
        arrivals: dict[int, int] = {}
        while iterator:
            page = self.kinesis.get_records(ShardIterator=iterator)
            for one in page["Records"]:
                arrivals[int(one["SequenceNumber"])] = round(one["ApproximateArrivalTimestamp"].timestamp() * 1000)
            iterator = page.get("NextShardIterator") if page["Records"] or page["MillisBehindLatest"] else None
        for sequence in sorted(self.users[shard]):
            for sub, (key, data) in enumerate(self.users[shard][sequence]):
                found.append((sequence, sub, arrivals[sequence], key, data))
        return found

    def requests(self, lost: float = 1.0, most: int = 40) -> dict[int, tuple[Request, list[User]]]:
        """Return requests for ranges that follow each other, a part of them lost, with what they hold."""
        made = []
        for shard, described in self.shards().items():
            users = self.delivered(shard)
            while users:
                count = self.random.randint(1, most)
                made.append((Request(range_of(users[:count], shard), described.hash_range), users[:count]))
                users = users[count:]
        made.sort(key=lambda one: one[0].range.arrival_first)
        return dict(enumerate(one for one in made if self.random.random() < lost))


def rereader(emulator: Emulator, **more: Any) -> RangeFetcher:  # noqa: ANN401
    return RangeFetcher(connect(Access("kinesis", emulator.region, emulator.url)), **{"limits": FAST, **more})


def judge(rereader: RangeFetcher, source: Source, wanted: dict[int, tuple[Request, list[User]]]) -> dict[Outcome, int]:
    """Read everything that is wanted; return how often each outcome came. What is rebuilt must be what was put."""
    counts: dict[Outcome, int] = defaultdict(int)
    expected = {request.range: users for request, users in wanted.values()}
    for answer in rereader.reread(source.identity, (request for request, _ in wanted.values())):
        counts[answer.outcome] += 1
        users = expected.pop(answer.request.range)
        if answer.outcome is Outcome.REBUILT:
            assert rows(answer.columns) == users
        else:
            assert {*rows(answer.columns)} <= {*users}
    assert not expected
    return dict(counts)


@pytest.fixture
def source(emulator: Emulator) -> Iterator[Source]:
    return Source(emulator)


def reshard(source: Source) -> None:
    """Split one shard and merge one of its children with the other shard, with records before, between and after."""
    source.put(300)
    first, second = source.shards(open_=True).values()
    middle = (int(first.hash_range[0]) + int(first.hash_range[1])) // 2
    source.kinesis.split_shard(StreamName=STREAM, ShardToSplit=first.id, NewStartingHashKey=str(middle))
    source.put(300)
    children = [one for one in source.shards(open_=True).values() if one != second]
    upper = max(children, key=lambda one: int(one.hash_range[0]))
    source.kinesis.merge_shards(StreamName=STREAM, ShardToMerge=upper.id, AdjacentShardToMerge=second.id)
    source.put(300)


@pytest.mark.parametrize("lost", [1.0, 0.3])
def test_what_was_put_before_between_and_after_a_split_and_a_merge_is_rebuilt(
    emulator: Emulator, source: Source, lost: float
) -> None:
    reshard(source)
    emulator.kinesis.configure(empty_pages=0.5)
    wanted = source.requests(lost)
    assert judge(rereader(emulator), source, wanted) == {Outcome.REBUILT: len(wanted)}


def test_within_the_limits_of_the_service_nothing_is_throttled(emulator: Emulator, source: Source) -> None:
    source.put(400, size=20_000)
    wanted = source.requests()
    emulator.kinesis.configure(limits=True)
    seen: list[Progress] = []
    assert judge(rereader(emulator, limits=Limits(), progress=seen.append), source, wanted) == {
        Outcome.REBUILT: len(wanted)
    }
    assert seen[-1].bytes > 2 * 2_000_000
    assert seen[-1].failed == 0


def test_beside_somebody_else_who_reads_it_is_throttled_and_ends_nevertheless(
    emulator: Emulator, source: Source
) -> None:
    source.put(100)
    wanted = source.requests()
    emulator.kinesis.configure(limits=True)
    for _ in range(2):
        emulator.faults.fail("kinesis", "GetRecords", "ProvisionedThroughputExceededException", status=400)
        emulator.faults.fail("kinesis", "GetShardIterator", "KMSThrottlingException", status=400)
        emulator.faults.fail("kinesis", "DescribeStreamSummary", "LimitExceededException", status=400)
    emulator.faults.fail("kinesis", "GetRecords", "InternalFailure", status=500)
    seen: list[Progress] = []
    assert judge(rereader(emulator, limits=Limits(), progress=seen.append), source, wanted) == {
        Outcome.REBUILT: len(wanted)
    }
    assert seen[-1].failed >= 5


def test_iterators_that_expire_while_reading_are_replaced(emulator: Emulator, source: Source) -> None:
    source.put(600)
    wanted = source.requests()
    emulator.kinesis.configure(empty_pages=0.3)
    reading = threading.local()

    def grow_old(progress: Progress) -> None:
        reading.calls = getattr(reading, "calls", 0) + 1
        if reading.calls % 7 == 3:
            emulator.kinesis.advance(301)

    seen: list[Progress] = []

    def watch(progress: Progress) -> None:
        seen.append(progress)
        grow_old(progress)

    small = rereader(emulator, progress=watch, window=1, workers=2)
    assert judge(small, source, wanted) == {Outcome.REBUILT: len(wanted)}
    assert seen[-1].failed > 0


def test_what_is_trimmed_is_told_and_the_rest_is_rebuilt(emulator: Emulator, source: Source) -> None:
    reshard(source)
    wanted = source.requests()
    through: dict[str, int] = {}
    for shard, users in source.users.items():
        numbers = sorted(users)
        through[shard] = numbers[len(numbers) // 2]
        emulator.kinesis.trim(STREAM, shard, through[shard])
    trimmed = sum(one.range.first.sequence_number <= through[one.range.shard] for one, _ in wanted.values())
    assert judge(rereader(emulator), source, wanted) == {
        Outcome.TRIMMED: trimmed,
        Outcome.REBUILT: len(wanted) - trimmed,
    }


def test_after_the_retention_all_is_trimmed_whether_the_shard_is_still_listed_or_not(
    emulator: Emulator, source: Source
) -> None:
    reshard(source)
    wanted = source.requests()
    emulator.kinesis.advance(25 * HOUR)
    source.put(10)
    assert len(source.shards()) < len(source.users)
    assert judge(rereader(emulator), source, wanted) == {Outcome.TRIMMED: len(wanted)}


def test_a_stream_made_again_under_its_name_gives_nothing(emulator: Emulator, source: Source) -> None:
    source.put(50)
    wanted = [request for request, _ in source.requests().values()]
    before = source.identity
    source.kinesis.delete_stream(StreamName=STREAM)
    answers = list(rereader(emulator).reread(before, wanted))
    assert [answer.outcome for answer in answers] == [Outcome.GONE] * len(wanted)
    assert "deleted" in answers[0].detail
    source.kinesis.create_stream(StreamName=STREAM, ShardCount=2)
    source.put(50)
    answers = list(rereader(emulator).reread(before, wanted))
    assert [answer.outcome for answer in answers] == [Outcome.GONE] * len(wanted)
    assert "made again" in answers[0].detail


def test_a_number_of_another_shard_is_unknown(emulator: Emulator, source: Source) -> None:
    source.put(50)
    one, other = source.shards()
    users = source.delivered(one)
    answers = list(rereader(emulator).reread(source.identity, [Request(range_of(users, other))]))
    assert [answer.outcome for answer in answers] == [Outcome.UNKNOWN]


def test_a_service_that_is_away_is_waited_for_and_given_up(emulator: Emulator, source: Source) -> None:
    source.put(50)
    wanted = source.requests()
    identity = source.identity
    emulator.faults.set_down("kinesis")
    back = threading.Timer(1.0, lambda: emulator.faults.set_down())
    back.start()
    requests = [request for request, _ in wanted.values()]
    answers = list(rereader(emulator).reread(identity, requests))
    back.join()
    assert {answer.outcome for answer in answers} == {Outcome.REBUILT}
    emulator.faults.set_down("kinesis")
    with pytest.raises(StreamUnavailable):
        list(rereader(emulator, patience=0.5).reread(identity, requests))
