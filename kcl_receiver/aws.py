"""Clients of Kinesis and DynamoDB, and what their errors mean here.

Imported by the generator, `check`, `status`, `verify` and recovery; never by a processor.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
)

from kcl_receiver.config.aws_credentials import is_anonymous, session_of
from kcl_receiver.config.credentials import EMULATOR_KEYS, Access, is_emulator
from kcl_receiver.errors import ConfigError, StreamError, StreamGone, StreamUnavailable
from kcl_receiver.ranges import StreamIdentity

CONNECT_SECONDS = 5
READ_SECONDS = 30
ATTEMPTS = 5
"""Tries of one call, the first included; botocore's standard mode waits 2^n seconds at most in between."""


class Shard(NamedTuple):
    """A shard as ListShards gives it; `last` is None while it is open."""

    id: str
    first: int
    last: int | None
    parents: tuple[str, ...]
    hash_range: tuple[str, str]


class Lease(NamedTuple):
    """A row of KCL's lease table. `checkpoint` is a sequence number or one of KCL's words, such as SHARD_END."""

    shard: str
    checkpoint: str
    sub_sequence_number: int
    owner: str | None
    counter: int


class StreamSummary(NamedTuple):
    """What DescribeStreamSummary says; `date` is the service's clock, milliseconds in whole seconds, -1 if unknown."""

    identity: StreamIdentity
    status: str
    open_shards: int
    retention_hours: int
    date: int = -1


def client(access: Access, attempts: int = ATTEMPTS) -> Any:  # noqa: ANN401 - boto3 has no types
    """Return a boto3 client that retries by itself and never waits for ever.

    With an identity, which every properties file has, it acts as the daemon does. Without one, as whoever boto3 finds;
    and an endpoint that is plain http, and so an emulator's, gets made-up credentials where there are none, so that
    nobody needs an account to try things.

    Raises:
        ConfigError: There is no region, the endpoint is not a URL, or there is no profile of the name.
    """
    service, region, endpoint, identity = access
    made_up: dict[str, str] = {}
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": attempts},
    )
    try:
        if identity is None:
            session = boto3.session.Session(region_name=region)
        else:
            session = boto3.session.Session(botocore_session=session_of(identity), region_name=region)
            if is_anonymous(identity):
                config = config.merge(Config(signature_version=UNSIGNED))
        if is_emulator(endpoint):
            if identity is None and session.get_credentials() is None:
                made_up = {
                    "aws_access_key_id": EMULATOR_KEYS.access_key,
                    "aws_secret_access_key": EMULATOR_KEYS.secret_key,
                }
            region = session.region_name or "us-east-1"
        return session.client(service, region_name=region, endpoint_url=endpoint, config=config, **made_up)
    except (NoRegionError, ValueError) as error:
        raise ConfigError(f"no client for {service}: {error}", "write: regionName = eu-west-1") from error
    except BotoCoreError as error:
        raise ConfigError(
            f"no client for {service}: {error}", "see AwsCredentialsProvider, ~/.aws/config and the environment's AWS_…"
        ) from error


def describe_stream(kinesis: Any, name: str, arn: str | None = None) -> StreamSummary:  # noqa: ANN401
    """Return what the stream is now.

    Raises:
        StreamGone: There is no such stream.
        StreamUnavailable: AWS cannot be reached, or does not allow it.
    """
    try:
        answer = kinesis.describe_stream_summary(**_named(name, arn))
    except (ClientError, BotoCoreError) as error:
        raise stream_error(error, f"stream {name}", "kinesis:DescribeStreamSummary") from error
    summary = answer["StreamDescriptionSummary"]
    created = round(summary["StreamCreationTimestamp"].timestamp() * 1000)
    return StreamSummary(
        StreamIdentity(summary["StreamARN"], created),
        summary["StreamStatus"],
        summary["OpenShardCount"],
        summary["RetentionPeriodHours"],
        _date(answer) or -1,
    )


def list_shards(kinesis: Any, name: str, arn: str | None = None) -> Iterator[Shard]:  # noqa: ANN401
    """Yield every shard that the stream still has, open and closed.

    Raises:
        StreamGone: There is no such stream.
        StreamUnavailable: AWS cannot be reached, or does not allow it.
    """
    request: dict[str, Any] = _named(name, arn)
    while True:
        try:
            page = kinesis.list_shards(**request)
        except (ClientError, BotoCoreError) as error:
            raise stream_error(error, f"shards of stream {name}", "kinesis:ListShards") from error
        for raw in page["Shards"]:
            numbers = raw["SequenceNumberRange"]
            last = numbers.get("EndingSequenceNumber")
            parents = (raw.get("ParentShardId"), raw.get("AdjacentParentShardId"))
            yield Shard(
                raw["ShardId"],
                int(numbers["StartingSequenceNumber"]),
                None if last is None else int(last),
                tuple(filter(None, parents)),
                (raw["HashKeyRange"]["StartingHashKey"], raw["HashKeyRange"]["EndingHashKey"]),
            )
        if not page.get("NextToken"):
            return
        request = {"NextToken": page["NextToken"]}


def read_leases(dynamodb: Any, table: str) -> list[Lease] | None:  # noqa: ANN401
    """Return the rows of KCL's lease table in the order of their shards, or None if there is no such table.

    Raises:
        StreamUnavailable: AWS cannot be reached, or does not allow it.
    """
    leases: list[Lease] = []
    request: dict[str, Any] = {"TableName": table, "ConsistentRead": True}
    while True:
        try:
            page = dynamodb.scan(**request)
        except ClientError as error:
            if error.response["Error"]["Code"] == "ResourceNotFoundException":
                return None
            raise stream_error(error, f"lease table {table}", "dynamodb:Scan") from error
        except BotoCoreError as error:
            raise stream_error(error, f"lease table {table}", "dynamodb:Scan") from error
        for row in page["Items"]:
            # KCL keeps other rows in other tables; a row without a checkpoint is a lease that is being made.
            if "checkpoint" in row:
                leases.append(
                    Lease(
                        shard=row["leaseKey"]["S"],
                        checkpoint=row["checkpoint"]["S"],
                        sub_sequence_number=int(row.get("checkpointSubSequenceNumber", {}).get("N", "0")),
                        owner=row.get("leaseOwner", {}).get("S"),
                        counter=int(row.get("leaseCounter", {}).get("N", "0")),
                    )
                )
        if "LastEvaluatedKey" not in page:
            return sorted(leases)
        request["ExclusiveStartKey"] = page["LastEvaluatedKey"]


def read_item(dynamodb: Any, table: str, key: str, value: str) -> tuple[dict[str, Any] | None, int | None]:  # noqa: ANN401
    """Return an item, or None if it or its table is not there; and the service's time in milliseconds, if it says it.

    Raises:
        StreamUnavailable: AWS cannot be reached, or does not allow it.
    """
    try:
        answer = dynamodb.get_item(TableName=table, Key={key: {"S": value}}, ConsistentRead=True)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise stream_error(error, f"table {table}", "dynamodb:GetItem") from error
        answer = error.response
    except BotoCoreError as error:
        raise stream_error(error, f"table {table}", "dynamodb:GetItem") from error
    return answer.get("Item"), _date(answer)


def make_table(dynamodb: Any, table: str, key: str) -> None:  # noqa: ANN401
    """Make a table that is paid by the request, unless it is there, and wait until it can be used.

    Raises:
        StreamUnavailable: AWS cannot be reached, does not allow it, or takes too long.
    """
    action = "dynamodb:CreateTable"
    try:
        with contextlib.suppress(dynamodb.exceptions.ResourceInUseException):
            dynamodb.create_table(
                TableName=table,
                KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
                BillingMode="PAY_PER_REQUEST",
            )
        action = "dynamodb:DescribeTable"
        dynamodb.get_waiter("table_exists").wait(TableName=table, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    except (ClientError, BotoCoreError) as error:
        raise stream_error(error, f"table {table}", action) from error


def put_item_if_absent(dynamodb: Any, table: str, key: str, item: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    """Put an item unless there is one of its key, and return the one that is there then.

    Raises:
        StreamUnavailable: AWS cannot be reached, or does not allow it.
    """
    try:
        dynamodb.put_item(
            TableName=table,
            Item=item,
            ConditionExpression="attribute_not_exists(#key)",
            ExpressionAttributeNames={"#key": key},
        )
    except dynamodb.exceptions.ConditionalCheckFailedException:
        pass  # another host was first; or this one, whose answer was lost
    except (ClientError, BotoCoreError) as error:
        raise stream_error(error, f"table {table}", "dynamodb:PutItem") from error
    found, _ = read_item(dynamodb, table, key, item[key]["S"])
    if found is None:
        raise StreamUnavailable(f"table {table}: item {item[key]['S']} was removed just now", "start again")
    return found


def _date(answer: dict[str, Any]) -> int | None:
    """Return the service's time out of a response, in milliseconds since the epoch; it counts seconds."""
    said = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    try:
        return round(parsedate_to_datetime(said).timestamp() * 1000)
    except (ValueError, TypeError):
        return None


def stream_error(error: Exception, thing: str, action: str) -> StreamError:
    """Return the error of this package for one of botocore's.

    Args:
        error: What botocore raised.
        thing: What the call was about, such as `stream orders`.
        action: The IAM action that the call needs.
    """
    if isinstance(error, ClientError):
        code = error.response.get("Error", {}).get("Code", "")
        if code == "ResourceNotFoundException":
            return StreamGone(f"{thing}: there is none of this name", "is the name right, and the region?")
        said = f"{thing}: {code}: {error.response.get('Error', {}).get('Message', '')}".rstrip(": ")
        if "AccessDenied" in code or "UnauthorizedOperation" in code:
            return StreamUnavailable(
                said, f"the credentials in use need {action} on it; see docs/operations.md#permissions"
            )
        if "Token" in code or "Signature" in code or "Credential" in code or "Unrecognized" in code:
            return StreamUnavailable(said, "the credentials in use are not valid, or have expired; is the clock right?")
        return StreamUnavailable(said, "try again; if it stays, it is the service's or the endpoint's trouble")
    if isinstance(error, (NoCredentialsError, PartialCredentialsError)):
        return StreamUnavailable(
            f"{thing}: {error}", "give this process a role, or AWS_PROFILE, or AWS_ACCESS_KEY_ID and its secret"
        )
    if isinstance(error, CredentialRetrievalError):
        return StreamUnavailable(
            f"{thing}: {error}", "see AwsCredentialsProvider in the properties file, and the role's trust policy"
        )
    return StreamUnavailable(
        f"{thing}: {error}", "is the region right, and the network? kinesisEndpoint, if it is set?"
    )


def _named(name: str, arn: str | None) -> dict[str, Any]:
    return {"StreamName": name} if arn is None else {"StreamARN": arn}
