"""As whom this package asks AWS: as the properties file says, for each service, whatever the environment holds."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_check_probes import check, write

from kcl_receiver import aws
from kcl_receiver.config.properties import load
from kcl_receiver.emulator.server import Emulator
from kcl_receiver.errors import ConfigError, StreamUnavailable

READER = "arn:aws:iam::000000000001:role/reader"
LEASES = "arn:aws:iam::000000000001:role/leases"
STREAM = "identity"


@pytest.fixture(scope="module")
def served() -> Iterator[Emulator]:
    with Emulator() as running:
        running.client("kinesis").create_stream(StreamName=STREAM, ShardCount=1)
        yield running


@pytest.fixture
def emulator(served: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """The embedded AWS, an environment with keys of its own, and two profiles."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    (tmp_path / "config").write_text(
        "[default]\naws_access_key_id = AKIADEFAULT\naws_secret_access_key = x\n"
        "[profile stream]\naws_access_key_id = AKIASTREAM\naws_secret_access_key = x\n"
        "[profile leases]\naws_access_key_id = AKIALEASES\naws_secret_access_key = x\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    served.signers.clear()
    return served


def ask(emulator: Emulator, file: Path) -> tuple[set[str], set[str]]:
    """Ask both services once; return who signed for each: access key ids, or ARNs where STS handed them out."""
    config = load(file)
    aws.describe_stream(aws.client(config.access("kinesis"), 1), STREAM)
    aws.read_leases(aws.client(config.access("dynamodb"), 1), "none")
    return who(emulator, "kinesis"), who(emulator, "dynamodb")


def who(emulator: Emulator, service: str) -> set[str]:
    return {arn_of(emulator, key) if key.startswith("ASIA") else key for key in emulator.signers.keys(service)}


def arn_of(emulator: Emulator, key: str) -> str:
    sts = emulator.client("sts", aws_access_key_id=key, aws_secret_access_key="x")
    return str(sts.get_caller_identity()["Arn"])


def assumed(emulator: Emulator, role: str, session: str) -> str:
    return f"arn:aws:sts::{emulator.account}:assumed-role/{role}/{session}"


def owned(emulator: Emulator, arn: str) -> str:
    """Return the ARN in the account of this emulator: each in a process has the next one."""
    return arn.replace("000000000001", emulator.account)


def role(emulator: Emulator, arn: str, session: str, more: str = "") -> str:
    return f"StsAssumeRoleCredentialsProvider|{owned(emulator, arn)}|{session}|endpoint={emulator.url}^us-east-1{more}"


def test_a_role_for_each_service(emulator: Emulator, tmp_path: Path) -> None:
    keys = {
        "AwsCredentialsProvider": role(emulator, READER, "s1", "|externalId=e1"),
        "AwsCredentialsProviderDynamoDB": role(emulator, LEASES, "s2"),
    }
    assert ask(emulator, write(tmp_path, emulator.url, STREAM, keys)) == (
        {assumed(emulator, "reader", "s1")},
        {assumed(emulator, "leases", "s2")},
    )
    # Java's STS client asks the default chain, in which the system properties that an emulator is given come first.
    assert emulator.signers.keys("sts", "AssumeRole") == {"emulator"}


@pytest.mark.parametrize(
    ("keys", "kinesis", "dynamodb"),
    [
        ({"AwsCredentialsProvider": "EnvironmentVariableCredentialsProvider"}, "AKIAENVIRONMENT", "AKIAENVIRONMENT"),
        ({"AwsCredentialsProvider": "ProfileCredentialsProvider|stream"}, "AKIASTREAM", "AKIASTREAM"),
        ({"AwsCredentialsProvider": "ProfileCredentialsProvider"}, "AKIADEFAULT", "AKIADEFAULT"),
        (
            {
                "AwsCredentialsProvider": "ProfileCredentialsProvider|stream",
                "awscredentialsproviderDynamoDB": "ProfileCredentialsProvider|leases",
            },
            "AKIASTREAM",
            "AKIALEASES",
        ),
        ({"AwsCredentialsProvider": "DefaultCredentialsProvider"}, "emulator", "emulator"),
        (
            {
                "AwsCredentialsProvider": "SystemPropertyCredentialsProvider, EnvironmentVariableCredentialsProvider",
                "receiver.javaOptions": "-Daws.accessKeyId=AKIASYSTEM -Daws.secretAccessKey=x",
            },
            "AKIASYSTEM",
            "AKIASYSTEM",
        ),
        (
            {
                "AwsCredentialsProvider": "AnonymousCredentialsProvider",
                "AwsCredentialsProviderDynamoDB": "WebIdentityTokenFileCredentialsProvider, ProfileCredentialsProvider",
            },
            "unsigned",
            "AKIADEFAULT",
        ),
    ],
)
def test_each_way_to_credentials_is_the_one_of_the_file(
    emulator: Emulator, tmp_path: Path, keys: dict[str, str], kinesis: str, dynamodb: str
) -> None:
    assert ask(emulator, write(tmp_path, emulator.url, STREAM, keys)) == ({kinesis}, {dynamodb})


def test_a_web_identity_is_taken_from_the_environment(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("token")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", owned(emulator, READER))
    monkeypatch.setenv("AWS_ROLE_SESSION_NAME", "web")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", emulator.url)
    keys = {"AwsCredentialsProvider": "WebIdentityTokenFileCredentialsProvider"}
    mine = {assumed(emulator, "reader", "web")}
    assert ask(emulator, write(tmp_path, emulator.url, STREAM, keys)) == (mine, mine)


def test_the_next_provider_is_asked_where_a_role_is_refused(emulator: Emulator, tmp_path: Path) -> None:
    refused = f"StsAssumeRoleCredentialsProvider|{READER}|s1|endpoint=http://127.0.0.1:1^us-east-1"
    file = write(tmp_path, emulator.url, STREAM, {"AwsCredentialsProvider": f"{refused}, ProfileCredentialsProvider"})
    assert ask(emulator, file) == ({"AKIADEFAULT"}, {"AKIADEFAULT"})


def test_a_role_that_is_refused_is_told_by_its_name(emulator: Emulator, tmp_path: Path) -> None:
    refused = f"StsAssumeRoleCredentialsProvider|{READER}|s1|endpoint=http://127.0.0.1:1^us-east-1"
    file = write(tmp_path, emulator.url, STREAM, {"AwsCredentialsProvider": refused})
    with pytest.raises(StreamUnavailable, match="role/reader") as caught:
        ask(emulator, file)
    assert "AwsCredentialsProvider" in caught.value.hint


def test_a_profile_that_is_not_there_is_told_by_its_name(emulator: Emulator, tmp_path: Path) -> None:
    file = write(tmp_path, emulator.url, STREAM, {"AwsCredentialsProvider": "ProfileCredentialsProvider|gone"})
    with pytest.raises(ConfigError, match="gone"):
        ask(emulator, file)


def test_credentials_of_a_role_are_renewed_while_the_process_runs(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, emulator.url, STREAM, {"AwsCredentialsProvider": role(emulator, READER, "s1")})
    kinesis = aws.client(load(file).access("kinesis"), 1)
    aws.describe_stream(kinesis, STREAM)
    aws.describe_stream(kinesis, STREAM)
    first = emulator.signers.keys("kinesis")
    assert len(first) == 1
    later = dt.datetime.now(dt.timezone.utc) + dt.timedelta(hours=1)
    monkeypatch.setattr(kinesis._request_signer._credentials, "_time_fetcher", lambda: later)
    aws.describe_stream(kinesis, STREAM)
    assert len(emulator.signers.keys("kinesis")) == 2
    assert who(emulator, "kinesis") == {assumed(emulator, "reader", "s1")}


def test_check_asks_as_the_file_says(emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = {
        "AwsCredentialsProvider": "ProfileCredentialsProvider|stream",
        "AwsCredentialsProviderDynamoDB": "ProfileCredentialsProvider|leases",
    }
    code, _ = check(write(tmp_path, emulator.url, STREAM, keys), capsys)
    assert code == 0
    assert (who(emulator, "kinesis"), who(emulator, "dynamodb")) == ({"AKIASTREAM"}, {"AKIALEASES"})


def test_what_cannot_be_taken_over_is_a_warning_that_names_both_identities(
    emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = {"AwsCredentialsProvider": "org.example.VaultProvider|secret"}
    code, found = check(write(tmp_path, emulator.url, STREAM, keys), capsys, "--offline")
    assert code == 0
    reason = found["AwsCredentialsProvider"]["reason"]
    assert "java signs as org.example.VaultProvider" in reason or "looks like a secret" in reason
    assert "secret" not in reason.replace("a secret", "")


def test_region_and_endpoint_may_be_those_of_one_client(emulator: Emulator, tmp_path: Path) -> None:
    keys = {"kinesisEndpoint": "", "dynamoDBEndpoint": "", "regionName": ""}
    file = write(tmp_path, emulator.url, STREAM, keys)
    lines = [line for line in file.read_text().splitlines() if line.partition(" ")[0] not in keys]
    more = [f"{client}.endpointOverride = {emulator.url}" for client in ("kinesisClient", "dynamoDbClient")]
    more += ["kinesisClient.region = eu-west-3", "dynamoDbClient.region = us-east-1"]
    file.write_text("\n".join([*lines, *more]) + "\n")
    config = load(file)
    assert config.access("kinesis")[1:3] == ("eu-west-3", emulator.url)
    assert config.access("dynamodb")[1:3] == ("us-east-1", emulator.url)
    assert config.uses_emulator
