from __future__ import annotations

import base64
import hashlib
import json
from itertools import pairwise

import pytest
from emulator_support import HOUR, START, Client, shard_id
from hypothesis import given, settings
from hypothesis import strategies as st

from kcl_receiver.emulator.kinesis.errors import ServiceError
from kcl_receiver.emulator.kinesis.shard import HASH_KEYS

MIB = 2**20


@pytest.fixture
def client() -> Client:
    client = Client()
    client.stream()
    return client


def hash_of(key: str) -> int:
    return int.from_bytes(hashlib.md5(key.encode()).digest(), "big")


@given(st.lists(st.tuples(st.text(min_size=1, max_size=64), st.binary(max_size=200)), min_size=1, max_size=20))
@settings(deadline=None)
def test_records_come_back_as_they_were_put_in_the_shard_of_their_key(records: list[tuple[str, bytes]]) -> None:
    client = Client()
    client.stream(shards=3)
    entries = [{"Data": base64.b64encode(data).decode(), "PartitionKey": key} for key, data in records]
    answer = client.call("PutRecords", StreamName="s", Records=entries)
    assert answer["FailedRecordCount"] == 0
    wanted: dict[str, list[tuple[str, str, str]]] = {shard_id(row): [] for row in range(3)}
    for entry, result in zip(entries, answer["Records"], strict=True):
        place = hash_of(entry["PartitionKey"])
        assert result["ShardId"] == shard_id(place * 3 // HASH_KEYS)
        wanted[result["ShardId"]].append((result["SequenceNumber"], entry["PartitionKey"], entry["Data"]))
    for row in range(3):
        page = client.get(client.iterator(row))
        found = [(one["SequenceNumber"], one["PartitionKey"], one["Data"]) for one in page["Records"]]
        assert found == wanted[shard_id(row)]
        numbers = [int(number) for number, _, _ in found]
        assert numbers == sorted(set(numbers))
        assert all(len(number) == 56 for number, _, _ in found)
        assert all(one["ApproximateArrivalTimestamp"] == START for one in page["Records"])


def test_sequence_numbers_are_sparse(client: Client) -> None:
    numbers = [client.put()[1] for _ in range(50)]
    gaps = {later - earlier for earlier, later in pairwise(numbers)}
    assert len(gaps) > 10


def test_an_explicit_hash_key_decides_the_shard(client: Client) -> None:
    client.stream("t", shards=2)
    for place, row in ((0, 0), (HASH_KEYS // 2 - 1, 0), (HASH_KEYS // 2, 1), (HASH_KEYS - 1, 1)):
        assert client.put(name="t", ExplicitHashKey=str(place))[0] == shard_id(row)
    for wrong in (str(HASH_KEYS), "9" * 39):
        client.refused(
            "InvalidArgumentException", "PutRecord", StreamName="t", Data="", PartitionKey="k", ExplicitHashKey=wrong
        )
    client.refused("ValidationException", "PutRecord", StreamName="t", Data="", PartitionKey="k", ExplicitHashKey="-1")


def test_each_iterator_type_begins_where_it_says(client: Client) -> None:
    _, first = client.put(b"1")
    client.kinesis.advance(10)
    _, second = client.put(b"2")
    client.kinesis.advance(10)
    client.put(b"3")
    assert client.read(kind="TRIM_HORIZON") == [b"1", b"2", b"3"]
    assert client.read(kind="LATEST") == []
    assert client.read(kind="AT_SEQUENCE_NUMBER", StartingSequenceNumber=str(second)) == [b"2", b"3"]
    assert client.read(kind="AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=str(second)) == [b"3"]
    assert client.read(kind="AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=str(first)) == [b"2", b"3"]
    assert client.read(kind="AT_TIMESTAMP", Timestamp=START + 10) == [b"2", b"3"]
    assert client.read(kind="AT_TIMESTAMP", Timestamp=START + 10.001) == [b"3"]
    assert client.read(kind="AT_TIMESTAMP", Timestamp=START - 99 * HOUR) == [b"1", b"2", b"3"]


def test_the_newest_iterator_sees_what_comes_after_it(client: Client) -> None:
    client.put(b"before")
    iterator = client.iterator(kind="LATEST")
    client.put(b"after")
    assert [base64.b64decode(one["Data"]) for one in client.get(iterator)["Records"]] == [b"after"]


def test_an_iterator_at_the_starting_number_of_a_shard_reads_all_of_it(client: Client) -> None:
    client.put(b"1")
    shard = client.call("DescribeStream", StreamName="s")["StreamDescription"]["Shards"][0]
    starting = shard["SequenceNumberRange"]["StartingSequenceNumber"]
    assert client.read(kind="AT_SEQUENCE_NUMBER", StartingSequenceNumber=starting) == [b"1"]


@pytest.mark.parametrize("kind", ["AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"])
def test_numbers_of_other_shards_and_streams_are_refused(client: Client, kind: str) -> None:
    client.stream("t", shards=2)
    _, other_stream = client.put(name="t", ExplicitHashKey="0")
    _, other_shard = client.put(name="t", ExplicitHashKey=str(HASH_KEYS - 1))
    fields = {"ShardIteratorType": kind, "ShardId": shard_id(0)}
    for stream, number in (("s", other_stream), ("t", other_shard), ("s", 0), ("s", 1), ("s", 10**56), ("s", 10**128)):
        message = client.refused(
            "InvalidArgumentException",
            "GetShardIterator",
            StreamName=stream,
            StartingSequenceNumber=str(number),
            **fields,
        )
        assert message == (
            f"StartingSequenceNumber {number} used in GetShardIterator on shard {shard_id(0)} in stream {stream} under "
            "account 000000000001 is invalid because it did not come from this stream."
        )


def test_an_iterator_without_what_its_type_needs_is_refused(client: Client) -> None:
    fields = {"StreamName": "s", "ShardId": shard_id(0)}
    for kind in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER", "AT_TIMESTAMP"):
        client.refused("InvalidArgumentException", "GetShardIterator", ShardIteratorType=kind, **fields)
    client.refused(
        "InvalidArgumentException", "GetShardIterator", ShardIteratorType="AT_TIMESTAMP", Timestamp=START + 5, **fields
    )
    client.refused(
        "ResourceNotFoundException",
        "GetShardIterator",
        StreamName="s",
        ShardId=shard_id(9),
        ShardIteratorType="LATEST",
    )


def test_pages_keep_to_the_limit_and_lead_on(client: Client) -> None:
    for row in range(5):
        client.put(b"%d" % row)
    client.kinesis.advance(7)
    page = client.get(client.iterator(), Limit=2)
    assert len(page["Records"]) == 2
    assert page["MillisBehindLatest"] == 7000
    page = client.get(page["NextShardIterator"], Limit=3)
    assert [base64.b64decode(one["Data"]) for one in page["Records"]] == [b"2", b"3", b"4"]
    assert page["MillisBehindLatest"] == 0
    page = client.get(page["NextShardIterator"], Limit=10_000)
    assert page["Records"] == []
    assert "ChildShards" not in page


def test_a_page_holds_at_most_10_mib_or_one_record(client: Client) -> None:
    client.put(bytes(10 * MIB - 1))
    client.put(bytes(6 * MIB))
    client.put(bytes(4 * MIB - 2))
    iterator, sizes = client.iterator(), []
    for _ in range(3):
        page = client.get(iterator)
        sizes.append(len(page["Records"]))
        iterator = page["NextShardIterator"]
    assert sizes == [1, 2, 0]


def test_a_record_has_at_most_10_mib_of_key_and_data(client: Client) -> None:
    client.put(bytes(10 * MIB - 1), "k")
    fields = {"StreamName": "s", "Data": base64.b64encode(bytes(10 * MIB - 1)).decode()}
    client.refused("ValidationException", "PutRecord", PartitionKey="kk", **fields)
    client.call("CreateStream", StreamName="t", ShardCount=1, MaxRecordSizeInKiB=1024)
    client.refused("ValidationException", "PutRecord", **{**fields, "StreamName": "t", "PartitionKey": "k"})


def test_a_request_of_more_than_10_mib_is_refused_whole(client: Client) -> None:
    entry = {"Data": base64.b64encode(bytes(6 * MIB)).decode(), "PartitionKey": "k"}
    client.refused("InvalidArgumentException", "PutRecords", StreamName="s", Records=[entry, entry])
    assert client.read() == []


def test_data_that_is_not_base64_is_refused(client: Client) -> None:
    for data in ("a", "日"):
        client.refused("SerializationException", "PutRecord", StreamName="s", Data=data, PartitionKey="k")


def test_an_iterator_in_quotes_is_good_and_a_changed_one_is_not(client: Client) -> None:
    client.put(b"x")
    iterator = client.iterator()
    assert client.get(f'"{iterator}"')["Records"] == client.get(iterator)["Records"]
    for wrong in (iterator[:-1], iterator[4:], f"'{iterator}'", '""'):
        client.refused("InvalidArgumentException", "GetRecords", ShardIterator=wrong)


def test_an_iterator_expires_after_five_minutes_or_as_told(client: Client) -> None:
    client.put()
    iterator = client.iterator()
    client.kinesis.advance(300)
    page = client.get(iterator)
    client.kinesis.advance(0.001)
    message = client.refused("ExpiredIteratorException", "GetRecords", ShardIterator=iterator)
    assert "tolerated delay of 300000 milliseconds" in message
    client.get(page["NextShardIterator"])
    client.kinesis.configure(iterator_lifetime=1)
    client.kinesis.advance(1)
    client.refused("ExpiredIteratorException", "GetRecords", ShardIterator=page["NextShardIterator"])


def test_an_iterator_that_was_changed_or_invented_is_refused(client: Client) -> None:
    token = client.iterator()
    other = Client(seed=1)
    other.stream()
    for wrong in (token[:-8] + "AAAAAAA=", "nonsense", "", base64.b64encode(b"x" * 40).decode(), other.iterator()):
        if wrong:
            client.refused("InvalidArgumentException", "GetRecords", ShardIterator=wrong)


def test_empty_pages_come_on_the_way_and_lose_nothing(client: Client) -> None:
    for row in range(30):
        client.put(b"%d" % row)

    def walk(driver: Client) -> tuple[list[bytes], list[int]]:
        iterator, found, sizes = driver.iterator(), [], []
        while len(found) < 30:
            page = driver.get(iterator, Limit=3)
            found += [base64.b64decode(one["Data"]) for one in page["Records"]]
            sizes.append(len(page["Records"]))
            iterator = page["NextShardIterator"]
            assert "ChildShards" not in page
        return found, sizes

    assert 0 not in walk(client)[1]
    client.kinesis.configure(empty_pages=0.5)
    found, sizes = walk(client)
    assert 0 in sizes
    assert found == [b"%d" % row for row in range(30)]


def test_the_same_seed_gives_the_same_numbers_and_empty_pages() -> None:
    def play(seed: int) -> list[object]:
        client = Client(seed)
        client.stream()
        client.kinesis.configure(empty_pages=0.5)
        numbers: list[object] = [client.put()[1] for _ in range(10)]
        iterator = client.iterator()
        return numbers + [len(client.get(iterator)["Records"]) for _ in range(10)]

    assert play(3) == play(3)
    assert play(3) != play(4)


def test_records_are_gone_after_the_retention(client: Client) -> None:
    _, first = client.put(b"old")
    client.kinesis.advance(23 * HOUR)
    client.put(b"young")
    client.kinesis.advance(HOUR)
    assert client.read() == [b"old", b"young"]
    client.kinesis.advance(0.001)
    assert client.read() == [b"young"]
    for kind in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"):
        assert client.read(kind=kind, StartingSequenceNumber=str(first)) == [b"young"]
    assert client.read(kind="AT_TIMESTAMP", Timestamp=START) == [b"young"]


def test_longer_retention_keeps_records_longer(client: Client) -> None:
    client.call("IncreaseStreamRetentionPeriod", StreamName="s", RetentionPeriodHours=48)
    client.put(b"1")
    client.kinesis.advance(47 * HOUR)
    assert client.read() == [b"1"]
    client.call("DecreaseStreamRetentionPeriod", StreamName="s", RetentionPeriodHours=24)
    assert client.read() == []


def test_records_can_be_trimmed_before_their_time(client: Client) -> None:
    numbers = [client.put(b"%d" % row)[1] for row in range(4)]
    assert client.kinesis.trim("s", shard_id(0), numbers[1]) == 2
    assert client.read() == [b"2", b"3"]
    assert client.read(kind="AT_SEQUENCE_NUMBER", StartingSequenceNumber=str(numbers[0])) == [b"2", b"3"]
    assert client.kinesis.trim("s") == 2
    assert client.read() == []
    (look,) = client.kinesis.shards("s")
    assert (look["records"], look["total"], look["last"]) == (0, 4, numbers[3])


def test_some_records_of_a_request_can_fail_alone(client: Client) -> None:
    client.kinesis.configure(put_failures=0.5)
    entries = [{"Data": base64.b64encode(b"%d" % row).decode(), "PartitionKey": "k"} for row in range(20)]
    answer = client.call("PutRecords", StreamName="s", Records=entries)
    failed = [row for row, one in enumerate(answer["Records"]) if "ErrorCode" in one]
    assert 0 < len(failed) < 20
    assert answer["FailedRecordCount"] == len(failed)
    assert client.read() == [b"%d" % row for row in range(20) if row not in failed]
    assert all("SequenceNumber" not in answer["Records"][row] for row in failed)
    client.put()


def test_with_limits_a_shard_takes_a_thousand_records_a_second(client: Client) -> None:
    client.stream("t", shards=2)
    client.kinesis.configure(limits=True)
    entries = [{"Data": "", "PartitionKey": "k", "ExplicitHashKey": "0"}] * 500
    for failed in (0, 0, 500):
        answer = client.call("PutRecords", StreamName="t", Records=entries)
        assert answer["FailedRecordCount"] == failed
    assert answer["Records"][0]["ErrorCode"] == "ProvisionedThroughputExceededException"
    assert shard_id(0) in answer["Records"][0]["ErrorMessage"]
    client.put(name="t", ExplicitHashKey=str(HASH_KEYS - 1))
    client.refused(
        "ProvisionedThroughputExceededException",
        "PutRecord",
        StreamName="t",
        Data="",
        PartitionKey="k",
        ExplicitHashKey="0",
    )
    client.kinesis.advance(0.1)
    assert client.call("PutRecords", StreamName="t", Records=entries)["FailedRecordCount"] == 400


def test_with_limits_a_shard_takes_a_mebibyte_a_second(client: Client) -> None:
    client.kinesis.configure(limits=True)
    client.put(bytes(MIB))
    client.refused("ProvisionedThroughputExceededException", "PutRecord", StreamName="s", Data="", PartitionKey="k")
    client.kinesis.advance(1)
    client.put()


def test_with_limits_a_shard_is_read_five_times_a_second(client: Client) -> None:
    client.kinesis.configure(limits=True)
    iterator = client.iterator()
    for _ in range(5):
        client.get(iterator)
    client.refused("ProvisionedThroughputExceededException", "GetRecords", ShardIterator=iterator)
    client.kinesis.advance(0.2)
    client.get(iterator)
    client.refused("ProvisionedThroughputExceededException", "GetRecords", ShardIterator=iterator)
    client.kinesis.advance(60)
    for _ in range(5):
        client.get(iterator)
    client.refused("ProvisionedThroughputExceededException", "GetRecords", ShardIterator=iterator)


def test_with_limits_a_large_page_must_be_paid_off_before_the_next(client: Client) -> None:
    client.put(bytes(10 * MIB - 1))
    client.kinesis.configure(limits=True)
    iterator = client.iterator()
    client.get(iterator)
    client.kinesis.advance(3.9)
    client.refused("ProvisionedThroughputExceededException", "GetRecords", ShardIterator=iterator)
    client.kinesis.advance(0.2)
    client.get(iterator)


def test_without_limits_nothing_is_refused(client: Client) -> None:
    iterator = client.iterator()
    for _ in range(20):
        client.get(iterator)
    for _ in range(3):
        client.put(bytes(MIB))


@given(st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_a_journal_gives_the_same_model_again(seed: int) -> None:
    client = Client(seed)
    client.stream(shards=2)
    for row in range(10):
        client.put(b"%d" % row, f"k{row}")
    client.split(0, 2**100)
    client.kinesis.advance(HOUR)
    for row in range(10):
        client.put(b"%d" % row, f"k{row}")
    client.kinesis.trim("s", shard_id(1))
    client.stream("gone")
    client.call("DeleteStream", StreamName="gone")
    client.call("AddTagsToStream", StreamName="s", Tags={"a": "b"})
    client.call("IncreaseStreamRetentionPeriod", StreamName="s", RetentionPeriodHours=30)
    again = Client(seed)
    for event in client.events:
        again.kinesis.replay(json.loads(json.dumps(event)))
    assert again.kinesis.shards("s") == client.kinesis.shards("s")
    assert again.kinesis.now() == client.kinesis.now()
    for row in range(4):
        token = client.iterator(row)
        assert again.get(token) == client.get(token)
    for operation in ("DescribeStream", "ListTagsForStream", "DescribeStreamSummary"):
        assert again.call(operation, StreamName="s") == client.call(operation, StreamName="s")
    older = max(int(one["last"]) for one in client.kinesis.shards("s"))
    again.split(1, HASH_KEYS - 5)
    assert again.put(ExplicitHashKey=str(HASH_KEYS - 1))[1] > older


def test_arrival_times_never_fall_though_the_clock_may() -> None:
    client = Client()
    client.kinesis.advance(0)
    client.stream()
    client.put(b"1")
    late = [{**event, "at": event["at"] + 5000} for event in client.events if event["event"] == "put"]
    client.kinesis.replay(late[0])
    client.put(b"3")
    times = [one["ApproximateArrivalTimestamp"] for one in client.get(client.iterator())["Records"]]
    assert times == [START, START + 5, START + 5]


def test_an_event_of_a_newer_version_is_refused() -> None:
    client = Client()
    client.stream()
    with pytest.raises(ValueError, match="unknown event"):
        client.kinesis.replay({"event": "teleport", "stream": "s"})


def test_a_journal_that_cannot_be_written_stops_the_change() -> None:
    client = Client()
    client.stream()

    def full(_: object) -> None:
        raise OSError("disk full")

    client.kinesis.model._journal = full
    with pytest.raises(OSError, match="full"):
        client.put()
    assert client.read() == []


def test_a_trim_of_a_shard_that_is_not_there_is_refused(client: Client) -> None:
    with pytest.raises(ServiceError, match="Could not find shard"):
        client.kinesis.trim("s", shard_id(5))
