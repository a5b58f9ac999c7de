"""Through boto3, as any user of Kinesis sees it: each operation's request and answer fit the service's own model."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from kcl_receiver.emulator.clients import Boto3, every_shard
from kcl_receiver.emulator.server import Emulator

SHARD = "shardId-000000000000"


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


@pytest.fixture
def kinesis(emulator: Emulator) -> Boto3:
    return emulator.client("kinesis", config=Config(retries={"total_max_attempts": 1}))


@pytest.fixture
def stream(kinesis: Boto3, request: pytest.FixtureRequest) -> str:
    name = request.node.name.replace("[", "-").replace("]", "-")[:100]
    kinesis.create_stream(StreamName=name, ShardCount=1)
    return name


def iterator(kinesis: Boto3, stream: str, shard: str = SHARD, kind: str = "TRIM_HORIZON", **more: object) -> str:
    answer = kinesis.get_shard_iterator(StreamName=stream, ShardId=shard, ShardIteratorType=kind, **more)
    token: str = answer["ShardIterator"]
    return token


def code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def test_a_record_goes_in_and_comes_out(kinesis: Boto3, stream: str) -> None:
    data = bytes(range(256))
    put = kinesis.put_record(StreamName=stream, Data=data, PartitionKey="kéy-日-\x00-\U0001f600")
    page = kinesis.get_records(ShardIterator=iterator(kinesis, stream))
    (record,) = page["Records"]
    assert record["Data"] == data
    assert record["PartitionKey"] == "kéy-日-\x00-\U0001f600"
    assert record["SequenceNumber"] == put["SequenceNumber"]
    assert isinstance(record["ApproximateArrivalTimestamp"], dt.datetime)
    assert page["MillisBehindLatest"] == 0


def test_a_record_of_ten_mebibytes_goes_in_and_comes_out(kinesis: Boto3, stream: str) -> None:
    data = bytes(10 * 2**20 - 1)
    kinesis.put_record(StreamName=stream, Data=data, PartitionKey="k")
    (record,) = kinesis.get_records(ShardIterator=iterator(kinesis, stream))["Records"]
    assert record["Data"] == data


def test_ten_thousand_records_come_in_one_page(kinesis: Boto3, stream: str) -> None:
    records = [{"Data": b"x" * 20, "PartitionKey": "k"}] * 500
    for _ in range(21):
        kinesis.put_records(StreamName=stream, Records=records)
    page = kinesis.get_records(ShardIterator=iterator(kinesis, stream))
    assert len(page["Records"]) == 10_000
    assert len(kinesis.get_records(ShardIterator=page["NextShardIterator"])["Records"]) == 500


def test_a_stream_lives_and_dies(kinesis: Boto3, emulator: Emulator) -> None:
    kinesis.create_stream(StreamName="life", ShardCount=2)
    kinesis.get_waiter("stream_exists").wait(StreamName="life")
    summary = kinesis.describe_stream_summary(StreamName="life")["StreamDescriptionSummary"]
    assert summary["OpenShardCount"] == 2
    assert isinstance(summary["StreamCreationTimestamp"], dt.datetime)
    assert emulator.account in summary["StreamARN"]
    assert "life" in kinesis.list_streams()["StreamNames"]
    with pytest.raises(kinesis.exceptions.ResourceInUseException):
        kinesis.create_stream(StreamName="life", ShardCount=2)
    kinesis.delete_stream(StreamARN=summary["StreamARN"])
    kinesis.get_waiter("stream_not_exists").wait(StreamName="life")
    with pytest.raises(kinesis.exceptions.ResourceNotFoundException):
        kinesis.describe_stream(StreamName="life")


def test_shards_are_split_merged_scaled_and_listed(kinesis: Boto3, stream: str) -> None:
    kinesis.split_shard(StreamName=stream, ShardToSplit=SHARD, NewStartingHashKey=str(2**127))
    page = kinesis.list_shards(StreamName=stream, MaxResults=2)
    shards = page["Shards"] + kinesis.list_shards(NextToken=page["NextToken"])["Shards"]
    assert shards == list(every_shard(kinesis, stream))
    assert [shard.get("ParentShardId") for shard in shards] == [None, SHARD, SHARD]
    page = kinesis.get_records(ShardIterator=iterator(kinesis, stream))
    assert "NextShardIterator" not in page
    assert [child["ShardId"] for child in page["ChildShards"]] == [shard["ShardId"] for shard in shards[1:]]
    kinesis.merge_shards(
        StreamName=stream, ShardToMerge=shards[1]["ShardId"], AdjacentShardToMerge=shards[2]["ShardId"]
    )
    answer = kinesis.update_shard_count(StreamName=stream, TargetShardCount=2, ScalingType="UNIFORM_SCALING")
    assert (answer["CurrentShardCount"], answer["TargetShardCount"]) == (1, 2)
    latest = kinesis.list_shards(StreamName=stream, ShardFilter={"Type": "AT_LATEST"})["Shards"]
    assert len(latest) == 2
    moment = dt.datetime.now(tz=dt.timezone.utc) - dt.timedelta(hours=1)
    first = kinesis.list_shards(StreamName=stream, ShardFilter={"Type": "AT_TIMESTAMP", "Timestamp": moment})
    assert [shard["ShardId"] for shard in first["Shards"]] == [SHARD]
    assert kinesis.get_paginator("describe_stream").paginate(StreamName=stream).build_full_result()


def test_retention_tags_and_mode_are_changed(kinesis: Boto3, stream: str) -> None:
    kinesis.increase_stream_retention_period(StreamName=stream, RetentionPeriodHours=72)
    kinesis.decrease_stream_retention_period(StreamName=stream, RetentionPeriodHours=48)
    kinesis.add_tags_to_stream(StreamName=stream, Tags={"a": "1", "b": "2"})
    kinesis.remove_tags_from_stream(StreamName=stream, TagKeys=["a"])
    assert kinesis.list_tags_for_stream(StreamName=stream)["Tags"] == [{"Key": "b", "Value": "2"}]
    summary = kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]
    assert summary["RetentionPeriodHours"] == 48
    kinesis.update_stream_mode(StreamARN=summary["StreamARN"], StreamModeDetails={"StreamMode": "ON_DEMAND"})
    assert kinesis.describe_limits()["OnDemandStreamCount"] == 1


def test_an_iterator_at_a_time_takes_a_datetime(kinesis: Boto3, stream: str) -> None:
    kinesis.put_record(StreamName=stream, Data=b"x", PartitionKey="k")
    (record,) = kinesis.get_records(ShardIterator=iterator(kinesis, stream))["Records"]
    at = iterator(kinesis, stream, kind="AT_TIMESTAMP", Timestamp=record["ApproximateArrivalTimestamp"])
    assert len(kinesis.get_records(ShardIterator=at)["Records"]) == 1


def test_refusals_reach_the_client_by_name(kinesis: Boto3, stream: str, emulator: Emulator) -> None:
    with pytest.raises(ClientError) as error:
        kinesis.get_records(ShardIterator="nonsense")
    assert code(error) == "InvalidArgumentException"
    with pytest.raises(ClientError) as error:
        kinesis.get_records(ShardIterator="nonsense", Limit=10_001)
    assert code(error) == "ValidationException"
    with pytest.raises(kinesis.exceptions.InvalidArgumentException, match="did not come from this stream"):
        iterator(kinesis, stream, kind="AT_SEQUENCE_NUMBER", StartingSequenceNumber="4957")
    old = iterator(kinesis, stream)
    emulator.kinesis.advance(301)
    with pytest.raises(kinesis.exceptions.ExpiredIteratorException):
        kinesis.get_records(ShardIterator=old)
    with pytest.raises(kinesis.exceptions.LimitExceededException):
        kinesis.update_shard_count(StreamName=stream, TargetShardCount=9, ScalingType="UNIFORM_SCALING")
    with pytest.raises(kinesis.exceptions.InvalidArgumentException, match="retrievalMode = POLLING"):
        kinesis.register_stream_consumer(StreamARN="arn:aws:kinesis:us-east-1:1:stream/s", ConsumerName="c")


def test_limits_reach_the_client_as_throttling(kinesis: Boto3, stream: str, emulator: Emulator) -> None:
    emulator.kinesis.configure(limits=True)
    try:
        kinesis.put_record(StreamName=stream, Data=bytes(3 * 2**20), PartitionKey="k")
        with pytest.raises(kinesis.exceptions.ProvisionedThroughputExceededException):
            kinesis.put_record(StreamName=stream, Data=b"", PartitionKey="k")
        answer = kinesis.put_records(StreamName=stream, Records=[{"Data": b"", "PartitionKey": "k"}])
        assert answer["FailedRecordCount"] == 1
        assert answer["Records"][0]["ErrorCode"] == "ProvisionedThroughputExceededException"
    finally:
        emulator.kinesis.configure(limits=False)


def test_the_other_services_answer_on_the_same_port(emulator: Emulator) -> None:
    assert emulator.client("sts").get_caller_identity()["Account"] == emulator.account
    s3 = emulator.client("s3")
    s3.create_bucket(Bucket="some-bucket")
    s3.put_object(Bucket="some-bucket", Key="a/é 日.txt", Body=b"x" * 3_000_000, Metadata={"who": "me"})
    assert s3.get_object(Bucket="some-bucket", Key="a/é 日.txt")["Body"].read() == b"x" * 3_000_000
    head = s3.head_object(Bucket="some-bucket", Key="a/é 日.txt")
    assert (head["ContentLength"], head["Metadata"]) == (3_000_000, {"who": "me"})
    assert [one["Key"] for one in s3.list_objects_v2(Bucket="some-bucket")["Contents"]] == ["a/é 日.txt"]
    s3.delete_object(Bucket="some-bucket", Key="a/é 日.txt")
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket="some-bucket", Key="a/é 日.txt")
    cloudwatch = emulator.client("cloudwatch")
    cloudwatch.put_metric_data(Namespace="n", MetricData=[{"MetricName": "m", "Value": 1.0}])
    assert cloudwatch.list_metrics(Namespace="n")["Metrics"][0]["MetricName"] == "m"
    dynamodb = emulator.client("dynamodb")
    dynamodb.create_table(
        TableName="t",
        KeySchema=[{"AttributeName": "k", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "k", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    dynamodb.put_item(TableName="t", Item={"k": {"S": "1"}}, ConditionExpression="attribute_not_exists(k)")
    with pytest.raises(dynamodb.exceptions.ConditionalCheckFailedException):
        dynamodb.put_item(TableName="t", Item={"k": {"S": "1"}}, ConditionExpression="attribute_not_exists(k)")
