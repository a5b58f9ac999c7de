"""Java and Python act as one: as the properties file says, service by service, with the real daemon."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from landing import Landing

from kcl_receiver.emulator.server import Emulator
from kcl_receiver.errors import EXIT_OK

pytestmark = pytest.mark.daemon

Make = Callable[..., Landing]

ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "AKIAENVIRONMENT", "AWS_SECRET_ACCESS_KEY": "x"}
"""Keys that nothing may sign with but what the file gives no other."""


def roles(emulator: Emulator, directory: Path) -> tuple[dict[str, str], dict[str, str], str, str]:
    def role(name: str, more: str) -> str:
        arn = f"arn:aws:iam::{emulator.account}:role/{name}"
        return f"StsAssumeRoleCredentialsProvider|{arn}|{name}-1{more}|endpoint={emulator.url}^us-east-1"

    keys = {
        "AWSCredentialsProvider": role("stream", "|externalId=e1"),
        "AwsCredentialsProviderDynamoDB": role("leases", ""),
    }
    prefix = f"arn:aws:sts::{emulator.account}:assumed-role/"
    return keys, {}, f"{prefix}stream/stream-1", f"{prefix}leases/leases-1"


def profiles(_: Emulator, directory: Path) -> tuple[dict[str, str], dict[str, str], str, str]:
    (directory / "aws-config").write_text(
        "[profile stream]\naws_access_key_id = AKIASTREAM\naws_secret_access_key = x\n"
        "[profile leases]\naws_access_key_id = AKIALEASES\naws_secret_access_key = x\n"
    )
    keys = {
        "AWSCredentialsProvider": "ProfileCredentialsProvider|stream",
        "AwsCredentialsProviderDynamoDB": "ProfileCredentialsProvider|leases",
    }
    environment = {
        "AWS_CONFIG_FILE": str(directory / "aws-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(directory / "none"),
    }
    return keys, environment, "AKIASTREAM", "AKIALEASES"


@pytest.mark.parametrize("way", [roles, pytest.param(profiles, marks=pytest.mark.slow)])
def test_java_and_python_sign_as_the_same_for_every_service(
    make_landing: Make,
    emulator: Emulator,
    tmp_path: Path,
    way: Callable[[Emulator, Path], tuple[dict[str, str], dict[str, str], str, str]],
) -> None:
    keys, environment, stream, leases = way(emulator, tmp_path)
    landing = make_landing(shards=1, **keys)
    landing.producer.put(100)
    emulator.signers.clear()
    environment = {**ENVIRONMENT, **environment}
    command = [sys.executable, "-m", "kcl_receiver.cli.main", "run", "--properties", str(landing.properties)]
    run = landing.start(command, "run.log", **environment)
    landing.wait("everything is stored", lambda: landing.records_stored() >= 100)
    first = emulator.signers.counts()
    assert landing.cli("status", "--properties", str(landing.properties), **environment).returncode == EXIT_OK
    verify = ["verify", "--properties", str(landing.properties)]
    asked = landing.cli(*verify, "--leases", "--against-stream", **environment)
    assert asked.returncode == EXIT_OK, asked.stdout + asked.stderr
    lost = next(landing.store.rglob("*.parquet"))
    lost.unlink()
    recovered = landing.cli("recover", "--properties", str(landing.properties), **environment)
    assert recovered.returncode == EXIT_OK, recovered.stdout + recovered.stderr
    assert landing.stop(run) == EXIT_OK

    # GetRecords and lease renewals are java's, the rest before verify and recover is Python's.
    assert {"GetRecords", "DescribeStreamSummary"} <= first["kinesis"].keys()
    assert {"UpdateItem", "Scan"} <= emulator.signers.counts()["dynamodb"].keys()
    assert signed(emulator, "kinesis") == {stream}
    assert signed(emulator, "dynamodb") == {leases}
    if way is roles:
        assert emulator.signers.keys("sts", "AssumeRole") == {"emulator"}
        assert len(emulator.signers.keys("kinesis")) > 2, "each process asks STS for itself"


def signed(emulator: Emulator, service: str) -> set[str]:
    """Return who signed what the test did not: ARNs where STS handed the keys out."""
    found = set()
    for key in emulator.signers.keys(service):
        if key.startswith("ASIA"):
            sts = emulator.client("sts", aws_access_key_id=key, aws_secret_access_key="x")
            found.add(str(sts.get_caller_identity()["Arn"]))
        else:
            found.add(key)
    return found
