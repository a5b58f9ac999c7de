from __future__ import annotations

import re
import struct
import zipfile

import pytest

from kcl_receiver.config import credentials, kcl_keys
from kcl_receiver.config.credentials import UNUSABLE, Role, Way
from kcl_receiver.config.kcl_values import Kind, read
from kcl_receiver.daemon.jars import kclpy_jars

PACKAGE = "software/amazon/kinesis/multilang/config/"


def setters(class_name: str) -> set[str]:
    """Names of the properties with a setter, out of the constant pool of a class in KCL's own jar."""
    (jar,) = kclpy_jars().glob("amazon-kinesis-client-multilang-*.jar")
    with zipfile.ZipFile(jar) as archive:
        data = archive.read(PACKAGE + class_name + ".class")
    names = set()
    at, index, count = 10, 1, struct.unpack(">H", data[8:10])[0]
    widths = {7: 2, 8: 2, 16: 2, 19: 2, 20: 2, 15: 3, 3: 4, 4: 4, 9: 4, 10: 4, 11: 4, 12: 4, 17: 4, 18: 4, 5: 8, 6: 8}
    while index < count:
        tag = data[at]
        if tag == 1:
            length = struct.unpack(">H", data[at + 1 : at + 3])[0]
            names.add(data[at + 3 : at + 3 + length].decode("utf-8", "replace"))
            at += 3 + length
        else:
            at += 1 + widths[tag]
        index += 2 if tag in (5, 6) else 1
    found = {name[3:] for name in names if re.fullmatch(r"set[A-Z]\w*", name)}
    # java.beans.Introspector.decapitalize: DynamoDBEndpoint becomes dynamoDBEndpoint.
    return {name[0].lower() + name[1:] for name in found}


NO_KEYS = {"property", "delimiter", "regionForClient", "endpointForClient"}
"""Methods that the class calls or keeps for itself."""

OF_THE_DAEMON = {"executableName", "processingLanguage", "maxActiveThreads"}


def test_the_table_holds_every_setter_of_the_jar_and_nothing_else() -> None:
    known = {key for key in kcl_keys.DAEMON_KEYS if "." not in key}
    assert known == (setters("MultiLangDaemonConfiguration") - NO_KEYS) | OF_THE_DAEMON


def test_the_table_holds_the_keys_of_fan_out() -> None:
    known = {key.partition(".")[2] for key in kcl_keys.DAEMON_KEYS if key.startswith("fanoutConfig.")}
    assert known == setters("FanoutConfigBean")


def test_every_provider_of_the_table_is_in_a_jar() -> None:
    packages = ("software/amazon/awssdk/auth/credentials/", "software/amazon/kinesis/multilang/auth/")
    found = set()
    for pattern in ("auth-2*.jar", "amazon-kinesis-client-multilang-*.jar"):
        (jar,) = kclpy_jars().glob(pattern)
        with zipfile.ZipFile(jar) as archive:
            for package in packages:
                found |= {name[len(package) : -6] for name in archive.namelist() if name.startswith(package)}
    # KCL puts its own class in the place of the SDK's (AwsCredentialsProviderPropertyValueDecoder.getClass).
    named = {name.rpartition(".")[2] for name in credentials.NAMES} | UNUSABLE
    assert found | {"StsAssumeRoleCredentialsProvider"} >= named


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (Kind.INT, ["0", "-1", " 7 ", "+5", "2147483647"], ["", "1.5", "1s", "0x1", "1_000", "2147483648"]),
        (Kind.LONG, ["2147483648", "-9223372036854775808"], ["9223372036854775808", "1" * 5000]),
        (Kind.SECONDS, ["0", "1767225600"], ["", "1 ", "x", "9223372036854775807"]),
        (Kind.POOL, ["0", "-1", "8"], ["", "0 ", "2147483648"]),
        (Kind.NUMBER, ["0.5", ".5", "3", "-1.", "1e3", "0x1p3", " 2f"], ["", "half", "1,5", "NaN", "1e999"]),
        (Kind.SWITCH, ["true", "YES", "off", "0"], ["", "si", "2", "true ", " true"]),
        (
            Kind.DURATION,
            ["PT15M", "P2D", "pt1.5s", "P1DT2H", " PT1S "],
            ["", "P", "PT", "15m", "P1M", "-PT1S", "PT-1S"],
        ),
        (Kind.TAGS, ["a=b", "a=b,c=d", " a = b "], ["", "a", "a=b,c", "a=b=c", "a=", "=b", "a=b=", "a=b,"]),
        (Kind.LIST, ["Operation", "Operation, ShardId"], ["", "a_b", "a,,b", "'a'", "{a}"]),
        (Kind.POSITION, ["latest", "TRIM_HORIZON"], ["AT_TIMESTAMP", "LATEST "]),
        (Kind.RETRIEVAL, ["polling", "FANOUT", "default"], ["OR", "PULL", ""]),
        (Kind.METRICS, ["none", "SUMMARY", "detailed"], ["ALL", ""]),
        (Kind.BILLING, ["pay_per_request", "PROVISIONED"], ["FREE", "UNKNOWN_TO_SDK_VERSION"]),
        (Kind.VERSION, ["CLIENT_VERSION_CONFIG_3X", "client_version_config_compatible_with_2x"], ["3", ""]),
        (Kind.URL, ["http://h:1", "https://h/", "http://[::1]:4567"], ["h:1", "ftp://h", "http://", "http://h:70000"]),
        (Kind.REGION, ["eu-west-1"], ["", "eu-west-1 ", "EU West"]),
        (Kind.UNUSABLE, [], ["x"]),
        (Kind.TEXT, ["", "x"], [" x", "x "]),
    ],
)
def test_values_are_judged_as_the_daemon_reads_them(kind: Kind, good: list[str], bad: list[str]) -> None:
    for text in good:
        read(kind, text)
    for text in bad:
        with pytest.raises(ValueError, match=r"is not|a blank"):
            read(kind, text)


def test_the_credentials_key_is_one_in_any_case() -> None:
    assert credentials.canonical("AWSCredentialsProviderDynamoDB") == "awsCredentialsProviderDynamoDB"
    assert kcl_keys.find("AwsCredentialsProvider") is kcl_keys.DAEMON_KEYS["awsCredentialsProvider"]
    assert kcl_keys.find("applicationname") is None


def test_every_example_is_a_value_that_is_taken() -> None:
    for key, about in kcl_keys.DAEMON_KEYS.items():
        if about.example:
            assert kcl_keys.wrong(key, about.example) is None, key


ROLE = "arn:aws:iam::123456789012:role/reader"


@pytest.mark.parametrize("name", ["StsAssumeRoleCredentialsProvider", "KclStsAssumeRoleCredentialsProvider"])
@pytest.mark.parametrize("package", ["", "full"])
def test_a_role_is_read_in_every_spelling(name: str, package: str) -> None:
    packages = {"Sts": "software.amazon.awssdk.services.sts.auth.", "Kcl": "software.amazon.kinesis.multilang.auth."}
    full = (packages[name[:3]] if package else "") + name
    (plain,) = credentials.parse(f"{full}|{ROLE}|s1")
    assert (plain.way, plain.role) == (Way.ROLE, Role(ROLE, "s1"))
    (whole,) = credentials.parse(f" {full}|{ROLE}|s1|externalId=e1|endpoint=sts.eu-west-1.amazonaws.com^eu-west-1")
    assert whole.role == Role(ROLE, "s1", "e1", "https://sts.eu-west-1.amazonaws.com", "eu-west-1")
    (elsewhere,) = credentials.parse(f"{full}|{ROLE}|s1|endpointRegion=eu-west-3")
    assert elsewhere.role == Role(ROLE, "s1", region="eu-west-3")


@pytest.mark.parametrize(
    ("text", "reason", "instead"),
    [
        ("", "names no provider", "DefaultCredentialsProvider"),
        ("Foo", "knows no provider 'Foo'", "DefaultCredentialsProvider"),
        ("DefaultCredentialsProvider, Foo", "knows no provider 'Foo'", "DefaultCredentialsProvider"),
        ("ProfileCredentialProvider|p", "knows no provider", "ProfileCredentialsProvider|p"),
        ("ProfileCredentialsProvider|p|q", "one argument", "ProfileCredentialsProvider|p"),
        ("EnvironmentVariableCredentialsProvider|x", "no arguments", "EnvironmentVariableCredentialsProvider"),
        (
            "StaticCredentialsProvider|AKID|SECRET",
            "cannot make a StaticCredentialsProvider",
            "DefaultCredentialsProvider",
        ),
        (f"StsAssumeRoleCredentialsProvider|{ROLE}", "a name for the session", f"|{ROLE}|SESSION"),
        (f"StsAssumeRoleCredentialProvider|{ROLE}|s1|externalId=e1", "knows no", f"|{ROLE}|s1|externalId=e1"),
        (f"StsAssumeRoleCredentialsProvider|{ROLE}|s1|external=e", "KCL drops 'external=e'", f"|{ROLE}|s1"),
        (f"StsAssumeRoleCredentialsProvider|{ROLE}|s1|endpoint=x", "URL^REGION", f"|{ROLE}|s1"),
        (
            f"StsAssumeRoleCredentialsProvider|{ROLE}|s1|externalId=e1|endpoint=x",
            "URL^REGION",
            f"{ROLE}|s1|externalId=e1",
        ),
        ("StsAssumeRoleCredentialsProvider|reader|s1", "not the ARN of a role", "|s1"),
    ],
)
def test_what_kcl_would_leave_out_is_refused_and_the_rest_is_kept_in_the_hint(
    text: str, reason: str, instead: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        credentials.parse(text)
    assert credentials.instead(text).endswith(instead)
    assert credentials.parse(credentials.instead(text))
    assert "SECRET" not in credentials.shown(text)
