from __future__ import annotations

import pytest
from emulator_support import HOUR, START, Client, shard_id

from kcl_receiver.emulator.kinesis.errors import ServiceError
from kcl_receiver.emulator.kinesis.shard import HASH_KEYS


@pytest.fixture
def client() -> Client:
    return Client()


def test_a_stream_is_described_with_all_that_identifies_it(client: Client) -> None:
    client.stream(shards=3)
    summary = client.call("DescribeStreamSummary", StreamName="s")["StreamDescriptionSummary"]
    assert summary["StreamName"] == "s"
    assert summary["StreamARN"] == "arn:aws:kinesis:us-east-1:000000000001:stream/s"
    assert summary["StreamStatus"] == "ACTIVE"
    assert summary["StreamCreationTimestamp"] == START
    assert summary["RetentionPeriodHours"] == 24
    assert summary["OpenShardCount"] == 3
    assert summary["ConsumerCount"] == 0
    assert summary["StreamModeDetails"] == {"StreamMode": "PROVISIONED"}


def test_the_first_shards_cover_every_hash_key_once(client: Client) -> None:
    client.stream(shards=7)
    shards = client.call("DescribeStream", StreamName="s")["StreamDescription"]["Shards"]
    ranges = [one["HashKeyRange"] for one in shards]
    edges = [0]
    for one in ranges:
        assert int(one["StartingHashKey"]) == edges[-1]
        edges.append(int(one["EndingHashKey"]) + 1)
    assert edges[-1] == HASH_KEYS
    assert [one["ShardId"] for one in shards] == [shard_id(row) for row in range(7)]


def test_a_stream_is_made_once(client: Client) -> None:
    client.stream()
    message = client.refused("ResourceInUseException", "CreateStream", StreamName="s", ShardCount=1)
    assert message == "Stream s under account 000000000001 already exists."


@pytest.mark.parametrize(
    "operation",
    ["DescribeStream", "DescribeStreamSummary", "ListShards", "DeleteStream", "ListTagsForStream"],
)
def test_a_stream_that_is_not_there_is_not_found(client: Client, operation: str) -> None:
    message = client.refused("ResourceNotFoundException", operation, StreamName="none")
    assert message == "Stream none under account 000000000001 not found."


def test_a_stream_is_found_by_its_arn_and_by_no_other(client: Client) -> None:
    client.stream()
    arn = client.call("DescribeStreamSummary", StreamName="s")["StreamDescriptionSummary"]["StreamARN"]
    for fields in ({"StreamARN": arn}, {"StreamARN": arn, "StreamName": "s"}):
        found = client.call("DescribeStreamSummary", **fields)["StreamDescriptionSummary"]
        assert found["StreamName"] == "s"
    other = arn.replace("000000000001", "000000000002")
    client.refused("ResourceNotFoundException", "DescribeStreamSummary", StreamARN=other)
    client.refused("InvalidArgumentException", "DescribeStreamSummary", StreamARN=arn, StreamName="t")
    client.refused("ValidationException", "DescribeStreamSummary", StreamARN="s")
    client.refused("InvalidArgumentException", "DescribeStreamSummary")


def test_a_stream_made_again_is_another_one(client: Client) -> None:
    client.stream()
    _, old = client.put()
    iterator = client.iterator()
    before = client.call("DescribeStreamSummary", StreamName="s")["StreamDescriptionSummary"]
    client.call("DeleteStream", StreamName="s")
    client.refused("ResourceNotFoundException", "GetRecords", ShardIterator=iterator)
    client.kinesis.advance(0.5)
    client.stream()
    after = client.call("DescribeStreamSummary", StreamName="s")["StreamDescriptionSummary"]
    assert after["StreamCreationTimestamp"] > before["StreamCreationTimestamp"]
    assert after["StreamARN"] == before["StreamARN"]
    assert client.read() == []
    client.refused("ResourceNotFoundException", "GetRecords", ShardIterator=iterator)
    _, new = client.put()
    assert new > old
    message = client.refused(
        "InvalidArgumentException",
        "GetShardIterator",
        StreamName="s",
        ShardId=shard_id(0),
        ShardIteratorType="AT_SEQUENCE_NUMBER",
        StartingSequenceNumber=str(old),
    )
    assert message.endswith("is invalid because it did not come from this stream.")


def test_streams_made_at_the_same_moment_differ_in_creation_time_and_numbers(client: Client) -> None:
    seen: set[tuple[float, int]] = set()
    for _ in range(3):
        client.stream()
        summary = client.call("DescribeStreamSummary", StreamName="s")["StreamDescriptionSummary"]
        seen.add((summary["StreamCreationTimestamp"], client.put()[1]))
        client.call("DeleteStream", StreamName="s")
    assert len({created for created, _ in seen}) == 3
    assert sorted(seen) == sorted(seen, key=lambda one: one[1])


def test_states_last_as_long_as_they_are_told_to(client: Client) -> None:
    client.kinesis.configure(transition=2)
    client.stream()

    def status() -> str:
        found = client.call("DescribeStreamSummary", StreamName="s")["StreamDescriptionSummary"]
        return str(found["StreamStatus"])

    assert status() == "CREATING"
    assert client.call("DescribeStream", StreamName="s")["StreamDescription"]["Shards"] == []
    client.refused("ResourceInUseException", "PutRecord", StreamName="s", Data="", PartitionKey="k")
    client.refused("ResourceInUseException", "ListShards", StreamName="s")
    client.kinesis.advance(2)
    assert status() == "ACTIVE"
    client.split(0, 2**64)
    assert status() == "UPDATING"
    client.put()
    assert len(client.shards()) == 3
    client.refused(
        "ResourceInUseException", "SplitShard", StreamName="s", ShardToSplit=shard_id(1), NewStartingHashKey="5"
    )
    client.kinesis.advance(2)
    client.call("DeleteStream", StreamName="s")
    assert status() == "DELETING"
    client.refused("ResourceInUseException", "CreateStream", StreamName="s", ShardCount=1)
    assert client.call("ListStreams")["StreamNames"] == ["s"]
    client.kinesis.advance(2)
    assert client.call("ListStreams")["StreamNames"] == []
    client.refused("ResourceNotFoundException", "DescribeStreamSummary", StreamName="s")
    client.stream()


def test_retention_is_changed_by_the_operation_for_its_direction(client: Client) -> None:
    client.stream()

    def hours() -> int:
        found = client.call("DescribeStreamSummary", StreamName="s")["StreamDescriptionSummary"]
        return int(found["RetentionPeriodHours"])

    client.call("IncreaseStreamRetentionPeriod", StreamName="s", RetentionPeriodHours=48)
    assert hours() == 48
    for operation, wrong in (("IncreaseStreamRetentionPeriod", 24), ("DecreaseStreamRetentionPeriod", 72)):
        client.refused("InvalidArgumentException", operation, StreamName="s", RetentionPeriodHours=wrong)
    for operation, wrong in (("IncreaseStreamRetentionPeriod", 9000), ("DecreaseStreamRetentionPeriod", 1)):
        client.refused("InvalidArgumentException", operation, StreamName="s", RetentionPeriodHours=wrong)
    client.call("DecreaseStreamRetentionPeriod", StreamName="s", RetentionPeriodHours=24)
    assert hours() == 24


def test_streams_are_listed_in_pages(client: Client) -> None:
    for name in ("b", "a", "c"):
        client.stream(name)
    page = client.call("ListStreams", Limit=2)
    assert (page["StreamNames"], page["HasMoreStreams"]) == (["a", "b"], True)
    rest = client.call("ListStreams", NextToken=page["NextToken"])
    assert (rest["StreamNames"], rest["HasMoreStreams"]) == (["c"], False)
    assert client.call("ListStreams", ExclusiveStartStreamName="b")["StreamNames"] == ["c"]
    client.refused("InvalidArgumentException", "ListStreams", NextToken="nonsense")


def test_tags_are_added_listed_and_removed(client: Client) -> None:
    client.call("CreateStream", StreamName="s", ShardCount=1, Tags={"a": "1"})
    client.call("AddTagsToStream", StreamName="s", Tags={"b": "2", "c": "3"})
    client.call("RemoveTagsFromStream", StreamName="s", TagKeys=["a"])
    found = client.call("ListTagsForStream", StreamName="s", Limit=1)
    assert found == {"Tags": [{"Key": "b", "Value": "2"}], "HasMoreTags": True}
    found = client.call("ListTagsForStream", StreamName="s", ExclusiveStartTagKey="b")
    assert found == {"Tags": [{"Key": "c", "Value": "3"}], "HasMoreTags": False}


@pytest.mark.parametrize("name", ["1", "shardId-1", "shard-1", "shardId-000000000001", "-1", "x-01"])
def test_a_shard_is_found_by_its_number_as_in_the_service(client: Client, name: str) -> None:
    client.stream(shards=2)
    fields = {"StreamName": "s", "ShardIteratorType": "TRIM_HORIZON"}
    token = client.call("GetShardIterator", **fields, ShardId=name)["ShardIterator"]
    client.put(b"one", ExplicitHashKey=str(HASH_KEYS - 1))
    assert len(client.get(token)["Records"]) == 1
    for wrong in ("2", "shardId-000000000002", "one", "1.0", "1e0", "shard", "9" * 100):
        client.refused("ResourceNotFoundException", "GetShardIterator", **fields, ShardId=wrong)


def test_tags_that_the_service_does_not_take_are_refused(client: Client) -> None:
    client.stream()
    client.call("AddTagsToStream", StreamName="s", Tags={f"é {row}_./=+-@": "" for row in range(50)})
    for tags in ({"a": "b!"}, {"a;": "b"}, {"a%": "b"}, {"a": "\t"}, {"a\n": "b"}, {"one": "too many"}):
        client.refused("InvalidArgumentException", "AddTagsToStream", StreamName="s", Tags=tags)
    client.refused("InvalidArgumentException", "CreateStream", StreamName="t", ShardCount=1, Tags={"a": "*"})
    client.refused("InvalidArgumentException", "RemoveTagsFromStream", StreamName="s", TagKeys=["a", "b:"])
    assert client.call("ListTagsForStream", StreamName="s", Limit=1)["Tags"][0]["Key"] == "é 0_./=+-@"
    assert client.call("ListStreams")["StreamNames"] == ["s"]


def test_an_on_demand_stream_has_four_shards_and_takes_no_shard_count(client: Client) -> None:
    on_demand, provisioned = {"StreamMode": "ON_DEMAND"}, {"StreamMode": "PROVISIONED"}
    client.call("CreateStream", StreamName="s", StreamModeDetails=on_demand)
    client.call("CreateStream", StreamName="t")
    assert client.call("DescribeLimits")["OnDemandStreamCount"] == 2
    assert len(client.shards()) == len(client.shards("t")) == 4
    client.refused("ValidationException", "CreateStream", StreamName="u", StreamModeDetails=provisioned)
    client.refused(
        "InvalidArgumentException", "CreateStream", StreamName="u", ShardCount=4, StreamModeDetails=on_demand
    )
    arn = client.call("DescribeStreamSummary", StreamName="s")["StreamDescriptionSummary"]["StreamARN"]
    client.call("UpdateStreamMode", StreamARN=arn, StreamModeDetails=provisioned)
    limits = client.call("DescribeLimits")
    assert (limits["OpenShardCount"], limits["OnDemandStreamCount"]) == (8, 1)


def test_there_are_no_more_shards_than_the_account_may_have(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kcl_receiver.emulator.kinesis.model.SHARD_LIMIT", 5)
    client.stream(shards=4)
    message = client.refused("LimitExceededException", "CreateStream", StreamName="t", ShardCount=2)
    assert "Current shard count for the account: 4. Limit: 5." in message
    fields = {"StreamName": "s", "TargetShardCount": 6, "ScalingType": "UNIFORM_SCALING"}
    client.refused("LimitExceededException", "UpdateShardCount", **fields)
    client.split(0, 2**64)
    split = {"StreamName": "s", "ShardToSplit": shard_id(1), "NewStartingHashKey": str(2**126 + 2**64)}
    assert "shard limit" in client.refused("LimitExceededException", "SplitShard", **split)


def test_a_long_description_comes_in_pages(client: Client) -> None:
    client.stream(shards=3)
    first = client.call("DescribeStream", StreamName="s", Limit=2)["StreamDescription"]
    assert first["HasMoreShards"]
    last = first["Shards"][-1]["ShardId"]
    rest = client.call("DescribeStream", StreamName="s", ExclusiveStartShardId=last)["StreamDescription"]
    assert [one["ShardId"] for one in first["Shards"] + rest["Shards"]] == [shard_id(row) for row in range(3)]
    assert not rest["HasMoreShards"]


def test_enhanced_fan_out_is_refused_with_what_to_do_instead(client: Client) -> None:
    for operation in ("RegisterStreamConsumer", "SubscribeToShard", "DescribeStreamConsumer"):
        assert "retrievalMode = POLLING" in client.refused("InvalidArgumentException", operation)
    client.refused("UnknownOperationException", "MakeCoffee")


def test_a_refused_call_leaves_no_trace(client: Client) -> None:
    client.stream()
    client.put()
    before = len(client.events)
    client.refused("ResourceInUseException", "CreateStream", StreamName="s", ShardCount=1)
    client.refused(
        "InvalidArgumentException", "PutRecord", StreamName="s", Data="", PartitionKey="k", ExplicitHashKey="9" * 39
    )
    client.refused(
        "InvalidArgumentException",
        "UpdateShardCount",
        StreamName="s",
        TargetShardCount=1,
        ScalingType="UNIFORM_SCALING",
    )
    client.get(client.iterator())
    assert len(client.events) == before


def test_the_clock_does_not_go_back(client: Client) -> None:
    with pytest.raises(ValueError, match="back"):
        client.kinesis.advance(-1)
    client.kinesis.advance(2 * HOUR)
    assert client.kinesis.now() == int((START + 2 * HOUR) * 1000)


def test_settings_that_do_not_exist_or_cannot_be_are_refused(client: Client) -> None:
    for changes in (
        {"empty_page": 0.5},
        {"empty_pages": 1.0},
        {"limits": 1},
        {"iterator_lifetime": -1},
        {"transition": True},
    ):
        with pytest.raises(ValueError, match=next(iter(changes))):
            client.kinesis.configure(**changes)


def test_trimming_an_unknown_stream_is_an_error(client: Client) -> None:
    with pytest.raises(ServiceError, match="not found"):
        client.kinesis.trim("none")
