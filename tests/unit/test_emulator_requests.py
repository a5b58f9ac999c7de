"""Every request gets an answer that the service could give: what is odd, wrong or unknown is refused by name."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from botocore.loaders import Loader
from emulator_support import START, Client, shard_id
from hypothesis import given, settings
from hypothesis import strategies as st

from kcl_receiver.emulator.kinesis.api import FIELDS, OPERATIONS, SHAPES
from kcl_receiver.emulator.kinesis.errors import ServiceError
from kcl_receiver.emulator.kinesis.shapes import Shapes

DESCRIPTION = Loader().load_service_model("kinesis", "service-2")
ERRORS = {name for name, shape in DESCRIPTION["shapes"].items() if shape.get("exception")} | {
    "SerializationException",
    "UnknownOperationException",
    "ValidationException",
}
"""Names of all errors that the service may give."""


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.mark.parametrize(
    ("operation", "fields", "words"),
    [
        ("CreateStream", {"ShardCount": 1}, "Value null at 'streamName'"),
        ("CreateStream", {"StreamName": "a b", "ShardCount": 1}, "'a b' at 'streamName'"),
        ("CreateStream", {"StreamName": "a\n", "ShardCount": 1}, "regular expression pattern: [a-zA-Z0-9_.-]+"),
        ("CreateStream", {"StreamName": "s" * 129, "ShardCount": 1}, "less than or equal to 128"),
        ("CreateStream", {"StreamName": "s", "ShardCount": 0}, "greater than or equal to 1"),
        ("CreateStream", {"StreamName": "s", "Tags": {}}, "greater than or equal to 1"),
        ("CreateStream", {"StreamName": "s", "Tags": {"": "x"}}, "Map keys must satisfy constraint: [Member must"),
        ("AddTagsToStream", {"StreamName": "s", "Tags": {"a": "x" * 257}}, "Map value must satisfy constraint"),
        ("AddTagsToStream", {"StreamName": "s"}, "Value null at 'tags'"),
        ("RemoveTagsFromStream", {"StreamName": "s", "TagKeys": ["a", ""]}, "'[a, ]' at 'tagKeys'"),
        ("DescribeStream", {"StreamARN": "s"}, "'s' at 'streamARN'"),
        ("GetRecords", {}, "'shardIterator'"),
        ("GetRecords", {"ShardIterator": "x", "Limit": 10_001}, "less than or equal to 10000"),
        ("GetRecords", {"ShardIterator": "x", "Limit": -(10**30)}, "greater than or equal to 1"),
        ("PutRecords", {"StreamName": "s", "Records": []}, "greater than or equal to 1"),
        ("PutRecords", {"StreamName": "s", "Records": [{"Data": "", "PartitionKey": "k"}] * 501}, "equal to 500"),
        ("PutRecords", {"StreamName": "s", "Records": [{"Data": ""}]}, "'records.1.member.partitionKey'"),
        ("PutRecord", {"StreamName": "s", "Data": "", "PartitionKey": ""}, "greater than or equal to 1"),
        ("PutRecord", {"StreamName": "s", "Data": "", "PartitionKey": "k" * 257}, "less than or equal to 256"),
        ("PutRecord", {"StreamName": "s", "PartitionKey": "k"}, "'data'"),
        (
            "PutRecord",
            {"StreamName": "s", "Data": "", "PartitionKey": "k", "ExplicitHashKey": "٣"},
            "'explicitHashKey'",
        ),
        ("UpdateStreamMode", {"StreamModeDetails": {"StreamMode": "ON_DEMAND"}}, "'streamARN'"),
        ("ListShards", {"StreamName": "s", "ShardFilter": {}}, "'shardFilter.type'"),
        (
            "GetShardIterator",
            {"StreamName": "s", "ShardId": "x", "ShardIteratorType": "SOON"},
            "AT_SEQUENCE_NUMBER, AFTER_SEQUENCE_NUMBER, TRIM_HORIZON, LATEST, AT_TIMESTAMP",
        ),
    ],
)
def test_what_breaks_a_rule_is_named_as_the_service_names_it(
    client: Client, operation: str, fields: dict[str, object], words: str
) -> None:
    message = client.refused("ValidationException", operation, **fields)
    assert message.startswith("1 validation error detected: Value ")
    assert "failed to satisfy constraint: " in message
    assert words in message


def test_all_broken_rules_are_named_up_to_ten(client: Client) -> None:
    message = client.refused("ValidationException", "PutRecord", StreamName="", PartitionKey="k")
    assert message.startswith("3 validation errors detected: Value '' at 'streamName'")
    assert message.endswith("; Value null at 'data' failed to satisfy constraint: Member must not be null")
    message = client.refused("ValidationException", "PutRecords", StreamName="s", Records=[{}] * 600)
    assert message.startswith("10 validation errors detected: ")
    assert len(message) < 5000


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 2000,
        b'{"Tags":' + b'{"a":' * 5000,
        b"\xff",
        b'{"StreamName": "\\ud800", "ShardCount": 1}',
        b'{"StreamName": 5}',
        b'{"StreamName": {}}',
        b'{"StreamName": "s", "ShardCount": true}',
        b'{"StreamName": "s", "ShardCount": "1"}',
        b'{"StreamName": "s", "StreamModeDetails": "ON_DEMAND"}',
        b'{"StreamName": "s", "Tags": []}',
        b'{"StreamName": "s", "Tags": {"a": 1}}',
    ],
)
def test_a_body_of_the_wrong_form_is_a_serialization_error(client: Client, body: bytes) -> None:
    status, answer = client.kinesis.call("CreateStream", body)
    assert status == 400
    assert json.loads(answer)["__type"] == "SerializationException"


@pytest.mark.parametrize("entry", [1, "x", None, [], True])
def test_records_that_are_no_structures_are_a_serialization_error(client: Client, entry: object) -> None:
    client.stream()
    client.refused("SerializationException", "PutRecords", StreamName="s", Records=[entry])


@pytest.mark.parametrize(
    "data", ["a", "日", "YQ=", "YQ==\n", "Y Q=", "YR==", "=YQ=", "YQ==YQ==", "YQ-_", 1, None, True]
)
def test_only_base64_is_data(client: Client, data: object) -> None:
    client.stream()
    wanted = "ValidationException" if data is None else "SerializationException"
    client.refused(wanted, "PutRecord", StreamName="s", Data=data, PartitionKey="k")
    client.refused(wanted, "PutRecords", StreamName="s", Records=[{"Data": data, "PartitionKey": "k"}])
    assert client.kinesis.shards("s")[0]["records"] == 0


@pytest.mark.parametrize("moment", [1e308, 10**300, START + 1])
def test_a_time_that_lies_ahead_is_refused_however_far(client: Client, moment: float) -> None:
    client.stream()
    fields = {"StreamName": "s", "ShardId": shard_id(0), "ShardIteratorType": "AT_TIMESTAMP", "Timestamp": moment}
    assert "cannot be greater than" in client.refused("InvalidArgumentException", "GetShardIterator", **fields)
    assert client.read(kind="AT_TIMESTAMP", Timestamp=-1e308) == []


@pytest.mark.parametrize("kind", ["LATEST", "TRIM_HORIZON"])
def test_a_sequence_number_beside_a_type_that_has_none_is_refused(client: Client, kind: str) -> None:
    client.stream()
    _, number = client.put()
    fields = {"StreamName": "s", "ShardId": shard_id(0), "ShardIteratorType": kind}
    message = client.refused(
        "InvalidArgumentException", "GetShardIterator", **fields, StartingSequenceNumber=str(number)
    )
    assert message.endswith(f"Request specified {kind} and also a StartingSequenceNumber.")
    fields["ShardIteratorType"] = "AFTER_SEQUENCE_NUMBER"
    message = client.refused("InvalidArgumentException", "GetShardIterator", **fields)
    assert message.endswith("Request specified AFTER_SEQUENCE_NUMBER and no StartingSequenceNumber.")


def test_a_number_for_ordering_must_be_one_of_a_record(client: Client) -> None:
    client.stream()
    _, number = client.put()
    _, later = client.put(SequenceNumberForOrdering=str(number))
    assert later > number
    client.split(0, 5)
    ended = client.call("DescribeStream", StreamName="s")["StreamDescription"]["Shards"][0]
    ending = ended["SequenceNumberRange"]["EndingSequenceNumber"]
    for wrong in ("0", ending, "9" * 56, str(number + (1 << 36)), str(number | 1 << 143)):
        # The third says that it was put a second from now; the last has a place that no record reaches.
        fields = {"StreamName": "s", "Data": "", "PartitionKey": "k", "SequenceNumberForOrdering": wrong}
        message = client.refused("InvalidArgumentException", "PutRecord", **fields)
        assert message.startswith(f"ExclusiveMinimumSequenceNumber {wrong} used in PutRecord on stream s")
    client.refused("ValidationException", "PutRecord", **{**fields, "SequenceNumberForOrdering": "-1"})


@pytest.mark.parametrize(
    "token", ["x", "日", base64.b64encode(b"[[1],2,3,[4]]").decode(), base64.b64encode(b"[" * 3000).decode()]
)
def test_an_invented_token_is_refused(client: Client, token: str) -> None:
    for operation in ("ListShards", "ListStreams"):
        assert client.refused("InvalidArgumentException", operation, NextToken=token) == "Invalid NextToken."


def test_a_token_stands_alone_and_a_creation_time_is_heeded(client: Client) -> None:
    client.stream(shards=3)
    token = client.call("ListShards", StreamName="s", MaxResults=1)["NextToken"]
    for beside in ({"StreamName": "s"}, {"ExclusiveStartShardId": shard_id(0)}, {"StreamCreationTimestamp": START}):
        client.refused("InvalidArgumentException", "ListShards", NextToken=token, **beside)
    assert len(client.call("ListShards", StreamName="s", StreamCreationTimestamp=START)["Shards"]) == 3
    client.refused("ResourceNotFoundException", "ListShards", StreamName="s", StreamCreationTimestamp=START - 60)


def test_what_the_service_has_and_the_emulator_has_not_is_refused_by_name(client: Client) -> None:
    client.stream()
    assert "does not have TagResource" in client.refused("InvalidArgumentException", "TagResource", Nonsense=1)
    put = {"StreamName": "s", "Data": "", "PartitionKey": "k"}
    client.call("PutRecord", **put, Nonsense=[{}])
    client.refused("UnknownOperationException", "PutRecordz", **put)
    fewer = Shapes(FIELDS - {"PartitionKey"})
    assert fewer.read("ListStreams", {"Limit": 1}) == {"Limit": 1}
    with pytest.raises(ServiceError, match="InvalidArgumentException: This emulator does not have partitionKey"):
        fewer.read("PutRecord", put)
    with pytest.raises(ServiceError, match=r"does not have records\.1\.member\.partitionKey"):
        fewer.read("PutRecords", {"Records": [put]})


def test_every_operation_of_the_emulator_is_one_of_the_service() -> None:
    assert OPERATIONS.keys() <= SHAPES.operations


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """Return a request that is nearly right: its members are those of the operation, most of them with fit values."""
    operation = draw(st.sampled_from(sorted(SHAPES.operations)))
    shape = DESCRIPTION["operations"][operation].get("input", {}).get("shape")
    return operation, {} if shape is None else draw(structure(shape))


def structure(name: str) -> st.SearchStrategy[dict[str, Any]]:
    shape = DESCRIPTION["shapes"][name]
    members = {one: member_of(one, member["shape"]) for one, member in shape["members"].items()}
    required = {one: members.pop(one) for one in shape.get("required", ())}
    return st.fixed_dictionaries(required, optional=members)


def member_of(name: str, shape_name: str) -> st.SearchStrategy[Any]:
    shape = DESCRIPTION["shapes"][shape_name]
    by_name = {
        "StreamName": ["s", "t", "new"],
        "StreamARN": ["arn:aws:kinesis:us-east-1:000000000001:stream/s"],
        "ShardIterator": [PLACE.iterator()],
        "NextToken": [PLACE.call("ListShards", StreamName="t", MaxResults=1)["NextToken"]],
        "Data": ["", "eA=="],
    }
    fit: st.SearchStrategy[Any]
    if name in by_name:
        fit = st.sampled_from(by_name[name])
    elif shape_name == "ShardId":
        fit = st.sampled_from([shard_id(row) for row in range(5)])
    elif shape_name == "SequenceNumber":
        fit = st.sampled_from([str(shard["last"]) for shard in PLACE.kinesis.shards("t")])
    elif "enum" in shape:
        fit = st.sampled_from(shape["enum"])
    elif shape["type"] == "structure":
        fit = structure(shape_name)
    elif shape["type"] == "list":
        fit = st.lists(member_of("", shape["member"]["shape"]), max_size=3)
    elif shape["type"] == "map":
        fit = st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)
    elif shape["type"] in ("integer", "long"):
        fit = st.integers(-1, 50)
    elif shape["type"] == "timestamp":
        fit = st.floats(START - 10, START + 10)
    else:
        fit = st.text(max_size=5) | st.integers(0, 2**128).map(str)
    return st.one_of([fit] * 9 + [ANYTHING])


PLACE = Client()
PLACE.stream("s")
PLACE.stream("t", shards=3)


@settings(max_examples=300, deadline=None)
@given(requests())
def test_no_request_makes_the_emulator_fail(request: tuple[str, dict[str, Any]]) -> None:
    client = Client()
    client.stream("s")
    client.stream("t", shards=3)
    operation, fields = request
    status, body = client.kinesis.call(operation, json.dumps(fields).encode())
    if status != 200:
        assert status == 400
        assert json.loads(body)["__type"] in ERRORS


@settings(deadline=None)
@given(st.sampled_from(sorted(OPERATIONS)), st.binary(max_size=50) | ANYTHING.map(lambda one: json.dumps(one).encode()))
def test_no_body_makes_the_emulator_fail(operation: str, body: bytes) -> None:
    status, answer = Client().kinesis.call(operation, body)
    assert status in (200, 400)
    if status == 400:
        assert json.loads(answer)["__type"] in ERRORS
