"""What the generator concludes from what AWS says of a stream and its shards."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from botocore.exceptions import ClientError

from kcl_receiver.errors import LeaseRefused, StreamGone, StreamReplaced, StreamUnavailable
from kcl_receiver.generator.stream import StreamView, confirm_shard_end, shard_facts
from kcl_receiver.ranges import TRIM_HORIZON, After, Position, StreamIdentity

CREATED = datetime(2026, 1, 1, tzinfo=timezone.utc)
STREAM = StreamIdentity("arn", round(CREATED.timestamp() * 1000))
SHARD = "shardId-000000000000"


class Kinesis:
    """A service with one shard: what ListShards lists, and what GetShardIterator knows, may differ for a while."""

    def __init__(self) -> None:
        self.created = CREATED
        self.described = self.known = True
        self.listed: bool | None = True
        self.open = True
        self.lowest = 100

    def describe_stream_summary(self, **_: Any) -> dict[str, Any]:  # noqa: ANN401
        if not self.described:
            raise refusal("ResourceNotFoundException")
        summary = {
            "StreamARN": "arn",
            "StreamStatus": "ACTIVE",
            "StreamCreationTimestamp": self.created,
            "OpenShardCount": 1,
            "RetentionPeriodHours": 24,
        }
        return {"StreamDescriptionSummary": summary}

    def list_shards(self, **_: Any) -> dict[str, Any]:  # noqa: ANN401
        numbers = {"StartingSequenceNumber": "100"} | ({} if self.open else {"EndingSequenceNumber": "200"})
        hashes = {"StartingHashKey": "0", "EndingHashKey": "9"}
        shard = {"ShardId": SHARD, "SequenceNumberRange": numbers, "HashKeyRange": hashes}
        if self.listed is None:
            raise refusal("ResourceNotFoundException")
        return {"Shards": [shard] if self.listed else []}

    def get_shard_iterator(self, **asked: Any) -> dict[str, Any]:  # noqa: ANN401
        if not self.known:
            raise refusal("ResourceNotFoundException")
        if int(asked.get("StartingSequenceNumber", self.lowest)) < self.lowest:
            raise refusal("InvalidArgumentException")
        return {"ShardIterator": "there"}


def refusal(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": ""}}, "call")


def view_of(kinesis: Kinesis) -> StreamView:
    return StreamView(kinesis, "orders", None, "orders-leases")


def facts(kinesis: Kinesis, after: After = TRIM_HORIZON, view: StreamView | None = None) -> Any:  # noqa: ANN401
    view = view or view_of(kinesis)
    return shard_facts(view, STREAM, SHARD, after, (), known=False)


@pytest.mark.parametrize("after", [TRIM_HORIZON, Position(5), Position(150)])
def test_a_shard_that_is_not_listed_was_closed_and_trimmed_and_its_end_is_confirmed(after: After) -> None:
    kinesis = Kinesis()
    kinesis.listed = kinesis.known = False
    found = facts(kinesis, after)
    assert found.hash_range is None
    confirm_shard_end(view_of(kinesis), STREAM, SHARD)


def test_a_shard_that_is_not_listed_yet_is_asked_for_again() -> None:
    kinesis = Kinesis()
    kinesis.listed = False
    with pytest.raises(StreamUnavailable):
        facts(kinesis)
    with pytest.raises(StreamUnavailable):
        confirm_shard_end(view_of(kinesis), STREAM, SHARD)
    kinesis.listed = True
    assert facts(kinesis).hash_range is not None


def test_a_checkpoint_that_the_service_refuses_is_a_verdict_on_that_lease() -> None:
    with pytest.raises(LeaseRefused, match="50:0 is not a sequence number of stream orders") as caught:
        facts(Kinesis(), Position(50))
    assert "orders-leases" in caught.value.hint
    assert not caught.value.mends
    assert facts(Kinesis(), Position(150)).hash_range is not None


def test_a_shard_that_expired_since_it_was_listed_is_looked_up_anew() -> None:
    kinesis = Kinesis()
    view = view_of(kinesis)
    assert facts(kinesis, Position(150), view).hash_range is not None
    kinesis.listed = kinesis.known = False
    with pytest.raises(StreamUnavailable):
        facts(kinesis, Position(150), view)
    assert facts(kinesis, Position(150), view).hash_range is None


def test_only_the_description_tells_that_the_stream_is_gone_or_another_one() -> None:
    kinesis = Kinesis()
    kinesis.listed = None  # ListShards knows no such stream
    for ask in (lambda: facts(kinesis), lambda: confirm_shard_end(view_of(kinesis), STREAM, SHARD)):
        with pytest.raises(StreamUnavailable):
            ask()
    kinesis.created = datetime(2026, 1, 2, tzinfo=timezone.utc)
    with pytest.raises(StreamReplaced):
        facts(kinesis)
    kinesis.described = False
    with pytest.raises(StreamGone):
        facts(kinesis)
