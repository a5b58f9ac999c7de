from __future__ import annotations

import base64

import pytest
from emulator_support import HOUR, START, Client, shard_id
from hypothesis import given, settings
from hypothesis import strategies as st

from kcl_receiver.emulator.kinesis.shard import HASH_KEYS

HALF = HASH_KEYS // 2


@pytest.fixture
def client() -> Client:
    client = Client()
    client.stream()
    return client


def open_ranges(client: Client) -> list[tuple[int, int]]:
    shards = client.call("ListShards", StreamName="s", ShardFilter={"Type": "AT_LATEST"})["Shards"]
    ranges = [one["HashKeyRange"] for one in shards]
    return sorted((int(one["StartingHashKey"]), int(one["EndingHashKey"])) for one in ranges)


def assert_whole(ranges: list[tuple[int, int]]) -> None:
    edge = 0
    for start, end in ranges:
        assert start == edge
        assert end >= start
        edge = end + 1
    assert edge == HASH_KEYS


def test_after_a_split_puts_go_to_the_children_and_the_parent_ends(client: Client) -> None:
    _, before = client.put(b"parent", ExplicitHashKey="0")
    client.split(0, HALF)
    low, first = client.put(b"low", ExplicitHashKey=str(HALF - 1))
    high, second = client.put(b"high", ExplicitHashKey=str(HALF))
    assert (low, high) == (shard_id(1), shard_id(2))
    assert before < min(first, second)
    assert client.drain(0) == [b"parent"]
    assert client.read(1) == [b"low"]
    assert client.read(2) == [b"high"]


def test_the_last_page_of_a_closed_shard_has_no_iterator_and_names_the_children(client: Client) -> None:
    client.put(b"1")
    client.put(b"2")
    client.split(0, HALF)
    page = client.get(client.iterator(), Limit=1)
    assert "ChildShards" not in page
    page = client.get(page["NextShardIterator"], Limit=1)
    assert "NextShardIterator" not in page
    assert page["MillisBehindLatest"] == 0
    assert page["ChildShards"] == [
        {
            "ShardId": shard_id(1),
            "ParentShards": [shard_id(0)],
            "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": str(HALF - 1)},
        },
        {
            "ShardId": shard_id(2),
            "ParentShards": [shard_id(0)],
            "HashKeyRange": {"StartingHashKey": str(HALF), "EndingHashKey": str(HASH_KEYS - 1)},
        },
    ]


def test_the_newest_iterator_of_a_closed_shard_ends_at_once_with_the_children(client: Client) -> None:
    client.put()
    client.split(0, HALF)
    page = client.get(client.iterator(kind="LATEST"))
    assert page["Records"] == []
    assert "NextShardIterator" not in page
    assert [one["ShardId"] for one in page["ChildShards"]] == [shard_id(1), shard_id(2)]


def test_an_iterator_taken_before_the_split_reads_to_the_end(client: Client) -> None:
    iterator = client.get(client.iterator())["NextShardIterator"]
    client.put(b"late")
    client.split(0, HALF)
    page = client.get(iterator)
    assert [base64.b64decode(one["Data"]) for one in page["Records"]] == [b"late"]
    assert "NextShardIterator" not in page


def test_an_empty_page_on_the_way_does_not_end_a_closed_shard(client: Client) -> None:
    client.put(b"1")
    client.split(0, HALF)
    client.kinesis.configure(empty_pages=0.9)
    assert client.drain(0) == [b"1"]


def test_the_ending_number_of_a_closed_shard_is_above_its_records_and_below_its_children(client: Client) -> None:
    _, last = client.put()
    client.split(0, HALF)
    _, child = client.put()
    parent = client.call("DescribeStream", StreamName="s")["StreamDescription"]["Shards"][0]
    numbers = parent["SequenceNumberRange"]
    ending = int(numbers["EndingSequenceNumber"])
    assert int(numbers["StartingSequenceNumber"]) < last < ending < child
    assert client.read(0, "AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=str(ending)) == []


def test_a_merge_closes_both_and_opens_one_with_two_parents(client: Client) -> None:
    client.stream("t", shards=3)
    client.put(b"0", name="t", ExplicitHashKey="0")
    client.merge(0, 1, "t")
    child, _ = client.put(b"1", name="t", ExplicitHashKey="0")
    assert child == shard_id(3)
    described = client.call("DescribeStream", StreamName="t")["StreamDescription"]["Shards"][-1]
    assert (described["ParentShardId"], described["AdjacentParentShardId"]) == (shard_id(0), shard_id(1))
    assert client.drain(0, "t") == [b"0"]
    page = client.get(client.iterator(1, name="t"))
    assert [one["ParentShards"] for one in page["ChildShards"]] == [[shard_id(0), shard_id(1)]]


def test_what_cannot_be_split_or_merged_is_refused(client: Client) -> None:
    client.stream("t", shards=3)
    third = HASH_KEYS // 3

    def split(shard: int, at: int) -> dict[str, str]:
        return {"StreamName": "t", "ShardToSplit": shard_id(shard), "NewStartingHashKey": str(at)}

    def merge(shard: int, adjacent: int) -> dict[str, str]:
        return {
            "StreamName": "t",
            "ShardToMerge": shard_id(shard),
            "AdjacentShardToMerge": shard_id(adjacent),
        }

    for at in (0, 1, third - 1, third, HASH_KEYS - 1):
        client.refused("InvalidArgumentException", "SplitShard", **split(0, at))
    client.refused("InvalidArgumentException", "MergeShards", **merge(0, 2))
    client.refused("InvalidArgumentException", "MergeShards", **merge(0, 0))
    client.refused("InvalidArgumentException", "MergeShards", **merge(1, 0))  # the lower one comes first
    client.refused("ResourceNotFoundException", "SplitShard", **split(7, 5))
    client.split(0, 5, "t")
    for message in (
        client.refused("InvalidArgumentException", "SplitShard", **split(0, 6)),
        client.refused("InvalidArgumentException", "MergeShards", **merge(0, 1)),
    ):
        assert "has already been merged or split" in message


def test_the_shards_of_an_on_demand_stream_are_not_for_callers_to_change(client: Client) -> None:
    client.call("CreateStream", StreamName="t")
    name = {"StreamName": "t"}
    for operation, fields in (
        ("SplitShard", {"ShardToSplit": shard_id(0), "NewStartingHashKey": "5"}),
        ("MergeShards", {"ShardToMerge": shard_id(0), "AdjacentShardToMerge": shard_id(1)}),
        ("UpdateShardCount", {"TargetShardCount": 5, "ScalingType": "UNIFORM_SCALING"}),
    ):
        assert "is in On-Demand mode" in client.refused("ValidationException", operation, **name, **fields)
    assert len(client.shards("t")) == 4


@given(st.integers(1, 9), st.lists(st.integers(1, 30), max_size=4))
@settings(deadline=None, max_examples=40)
def test_scaling_leaves_even_shards_and_loses_no_record(shards: int, targets: list[int]) -> None:
    client = Client()
    client.stream(shards=shards)
    current, put = shards, 0
    for target in targets:
        client.put(b"%d" % put, f"k{put}")
        put += 1
        fields = {"StreamName": "s", "TargetShardCount": target, "ScalingType": "UNIFORM_SCALING"}
        if target == current:
            client.refused("InvalidArgumentException", "UpdateShardCount", **fields)
        elif target > 2 * current or 2 * target < current:
            client.refused("LimitExceededException", "UpdateShardCount", **fields)
        else:
            answer = client.call("UpdateShardCount", **fields)
            assert (answer["CurrentShardCount"], answer["TargetShardCount"]) == (current, target)
            current = target
            assert open_ranges(client) == [
                (HASH_KEYS * row // target, HASH_KEYS * (row + 1) // target - 1) for row in range(target)
            ]
    assert_whole(open_ranges(client))
    assert sum(int(one["records"]) for one in client.kinesis.shards("s")) == put


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2**64), st.integers(1, 2**32)), max_size=12))
@settings(deadline=None, max_examples=40)
def test_the_shards_open_at_any_moment_cover_every_hash_key_once(steps: list[tuple[bool, int, int]]) -> None:
    client = Client()
    client.stream(shards=2)
    moments = [START]
    lineage: dict[str, int] = {}
    for is_split, choice, at in steps:
        client.kinesis.advance(1)
        shards = client.call("ListShards", StreamName="s", ShardFilter={"Type": "AT_LATEST"})["Shards"]
        shards.sort(key=lambda one: int(one["HashKeyRange"]["StartingHashKey"]))
        one = shards[choice % len(shards)]
        if is_split:
            start, end = (int(one["HashKeyRange"][edge]) for edge in ("StartingHashKey", "EndingHashKey"))
            if at > 1 and start + at < end:
                client.split(int(one["ShardId"][-12:]), start + at)
        elif len(shards) > 1:
            low, high = shards[choice % (len(shards) - 1) :][:2]
            client.merge(int(low["ShardId"][-12:]), int(high["ShardId"][-12:]))
        moments.append(client.kinesis.now() / 1000)
    for moment in moments:
        shards = client.call("ListShards", StreamName="s", ShardFilter={"Type": "AT_TIMESTAMP", "Timestamp": moment})
        ranges = [one["HashKeyRange"] for one in shards["Shards"]]
        assert_whole(sorted((int(one["StartingHashKey"]), int(one["EndingHashKey"])) for one in ranges))
    for shard in client.call("ListShards", StreamName="s")["Shards"]:
        lineage[shard["ShardId"]] = int(shard["SequenceNumberRange"]["StartingSequenceNumber"])
        for parent in (shard.get("ParentShardId"), shard.get("AdjacentParentShardId")):
            if parent is not None:
                assert lineage[parent] < lineage[shard["ShardId"]]


def test_filters_choose_the_shards_that_kcl_builds_its_leases_from(client: Client) -> None:
    client.kinesis.advance(HOUR)
    client.split(0, HALF)
    client.kinesis.advance(HOUR)
    client.merge(1, 2)
    ids = [shard_id(row) for row in range(4)]
    assert client.shards() == ids
    assert client.shards(Type="AT_TRIM_HORIZON") == ids[:1]
    assert client.shards(Type="FROM_TRIM_HORIZON") == ids
    assert client.shards(Type="AT_LATEST") == ids[3:]
    assert client.shards(Type="AFTER_SHARD_ID", ShardId=ids[1]) == ids[2:]
    assert client.shards(Type="AT_TIMESTAMP", Timestamp=START + HOUR - 1) == ids[:1]
    assert client.shards(Type="AT_TIMESTAMP", Timestamp=START + HOUR) == ids[1:3]
    assert client.shards(Type="AT_TIMESTAMP", Timestamp=START + 2 * HOUR) == ids[3:]
    assert client.shards(Type="AT_TIMESTAMP", Timestamp=START - HOUR) == ids[:1]
    assert client.shards(Type="FROM_TIMESTAMP", Timestamp=START + HOUR + 1) == ids[1:]
    for wrong in ({"Type": "AT_TIMESTAMP"}, {"Type": "AT_TIMESTAMP", "Timestamp": START + 99 * HOUR}):
        client.refused("InvalidArgumentException", "ListShards", StreamName="s", ShardFilter=wrong)
    client.refused("InvalidArgumentException", "ListShards", StreamName="s", ShardFilter={"Type": "AFTER_SHARD_ID"})
    client.refused("ValidationException", "ListShards", StreamName="s", ShardFilter={"Type": "SOME"})


def test_a_closed_shard_is_gone_once_the_retention_has_passed_its_end(client: Client) -> None:
    client.put(b"old")
    client.kinesis.advance(HOUR)
    client.split(0, HALF)
    iterator = client.iterator()
    client.kinesis.configure(iterator_lifetime=1e9)
    client.kinesis.advance(24 * HOUR)
    assert client.shards() == [shard_id(row) for row in range(3)]
    assert client.drain(0) == []
    client.kinesis.advance(0.001)
    assert client.shards() == [shard_id(1), shard_id(2)]
    assert client.shards(Type="AT_TRIM_HORIZON") == [shard_id(1), shard_id(2)]
    client.refused("ResourceNotFoundException", "GetRecords", ShardIterator=iterator)
    child = client.call("DescribeStream", StreamName="s")["StreamDescription"]["Shards"][0]
    assert child["ParentShardId"] == shard_id(0)


def test_no_page_is_longer_than_the_service_makes_it(client: Client) -> None:
    client.stream("t", shards=1001)
    page = client.call("ListShards", StreamName="t", MaxResults=10_000)
    assert (len(page["Shards"]), "NextToken" in page) == (1000, True)
    described = client.call("DescribeStream", StreamName="t", Limit=10_000)["StreamDescription"]
    assert (len(described["Shards"]), described["HasMoreShards"]) == (100, True)
    for row in range(100):
        client.stream(f"u{row}")
    page = client.call("ListStreams", Limit=10_000)
    assert (len(page["StreamNames"]), page["HasMoreStreams"]) == (100, True)


def test_shards_are_listed_in_pages(client: Client) -> None:
    client.stream("t", shards=5)
    page = client.call("ListShards", StreamName="t", MaxResults=2)
    found = [one["ShardId"] for one in page["Shards"]]
    while "NextToken" in page:
        page = client.call("ListShards", NextToken=page["NextToken"], MaxResults=2)
        found += [one["ShardId"] for one in page["Shards"]]
    assert found == [shard_id(row) for row in range(5)]
    assert client.call("ListShards", StreamName="t", ExclusiveStartShardId=shard_id(3))["Shards"][0][
        "ShardId"
    ] == shard_id(4)


def test_a_token_of_a_page_is_good_for_five_minutes_and_for_its_own_stream(client: Client) -> None:
    client.stream("t", shards=5)
    token = client.call("ListShards", StreamName="t", MaxResults=2)["NextToken"]
    client.refused("InvalidArgumentException", "ListShards", NextToken=token, StreamName="t")
    client.refused("InvalidArgumentException", "ListShards", NextToken="nonsense")
    client.kinesis.advance(301)
    client.refused("ExpiredNextTokenException", "ListShards", NextToken=token)
    token = client.call("ListShards", StreamName="t", MaxResults=2)["NextToken"]
    client.call("DeleteStream", StreamName="t")
    client.refused("ResourceNotFoundException", "ListShards", NextToken=token)
    client.stream("t")
    client.refused("InvalidArgumentException", "ListShards", NextToken=token)
    fields = {"ExclusiveStartShardId": shard_id(0), "ShardFilter": {"Type": "AT_LATEST"}}
    client.refused("InvalidArgumentException", "ListShards", StreamName="s", **fields)
