from __future__ import annotations

import re
import struct
import zipfile

import pytest

from kcl_receiver import kcl_keys
from kcl_receiver.daemon.checks import PROVIDERS
from kcl_receiver.daemon.jars import kclpy_jars
from kcl_receiver.kcl_keys import Kind, acceptable

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
    assert set(kcl_keys.DAEMON_KEYS) == (setters("MultiLangDaemonConfiguration") - NO_KEYS) | OF_THE_DAEMON


def test_the_table_holds_the_keys_of_fan_out() -> None:
    assert set(kcl_keys.FANOUT_KEYS) == setters("FanoutConfigBean")


def test_every_provider_of_the_table_is_in_a_jar() -> None:
    packages = ("software/amazon/awssdk/auth/credentials/", "software/amazon/kinesis/multilang/auth/")
    found = set()
    for pattern in ("auth-2*.jar", "amazon-kinesis-client-multilang-*.jar"):
        (jar,) = kclpy_jars().glob(pattern)
        with zipfile.ZipFile(jar) as archive:
            for package in packages:
                found |= {name[len(package) : -6] for name in archive.namelist() if name.startswith(package)}
    # KCL puts its own class in the place of the SDK's (AwsCredentialsProviderPropertyValueDecoder.getClass).
    assert found | {"StsAssumeRoleCredentialsProvider"} >= PROVIDERS


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (Kind.WHOLE, ["0", "-1", " 7 ", "+5"], ["", "1.5", "1s", "0x1", "1_000"]),
        (Kind.NUMBER, ["0.5", ".5", "3", "-1."], ["", "half", "1,5"]),
        (Kind.SWITCH, ["true", "YES", "off", "0"], ["", "si", "2"]),
        (Kind.DURATION, ["PT15M", "P2D", "pt1.5s", "P1DT2H"], ["", "P", "PT", "15m", "P1M"]),
        (Kind.TAGS, ["a=b", "a=b,c=d"], ["a", "a=b,c", "a=b=c"]),
        (Kind.POSITION, ["latest", "TRIM_HORIZON"], ["AT_TIMESTAMP", "LATEST "]),
        (Kind.RETRIEVAL, ["polling", "FANOUT", "default"], ["OR", "PULL"]),
        (Kind.METRICS, ["none", "SUMMARY", "detailed"], ["ALL"]),
        (Kind.BILLING, ["pay_per_request", "PROVISIONED"], ["FREE"]),
        (Kind.VERSION, ["CLIENT_VERSION_CONFIG_3X", "client_version_config_compatible_with_2x"], ["3"]),
        (Kind.URL, ["http://h:1", "https://h/"], ["h:1", "ftp://h", "http://"]),
        (Kind.UNUSABLE, [], ["x"]),
        (Kind.TEXT, ["", "x"], []),
    ],
)
def test_values_are_judged_as_the_daemon_reads_them(kind: Kind, good: list[str], bad: list[str]) -> None:
    assert [value for value in good if not acceptable(kind, value)] == []
    assert [value for value in bad if acceptable(kind, value)] == []


def test_the_credentials_key_is_one_in_any_case() -> None:
    assert kcl_keys.canonical("AWSCredentialsProviderDynamoDB") == "awsCredentialsProviderDynamoDB"
    assert kcl_keys.kind_of("AwsCredentialsProvider") is Kind.TEXT
    assert kcl_keys.kind_of("applicationname") is None
