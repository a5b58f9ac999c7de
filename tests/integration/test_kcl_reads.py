"""The table of KCL's keys against KCL's own jars: some thousand values, read by both."""

from __future__ import annotations

import json
import math
import random
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import javaproperties
import pytest

from kcl_receiver.config import kcl_values
from kcl_receiver.config import properties as properties_file
from kcl_receiver.config.credentials import NAMES
from kcl_receiver.config.kcl_keys import DAEMON_KEYS, wrong
from kcl_receiver.config.kcl_values import CHOICES, KclDies, Kind, as_kcl
from kcl_receiver.daemon.checks import settings_findings
from kcl_receiver.daemon.findings import ERROR
from kcl_receiver.daemon.jars import kclpy_jars
from kcl_receiver.daemon.java import find_java

pytestmark = pytest.mark.slow

SEED = 20261128
FILES = 2500
PROGRAM = Path(__file__).with_name("KclReads.java")

BASE = {
    "applicationName": "app",
    "streamName": "orders",
    "regionName": "eu-west-1",
    "executableName": "kcl-receiver-processor",
    "AwsCredentialsProvider": "AnonymousCredentialsProvider",
}

ROLE = "arn:aws:iam::123456789012:role/reader"

POOLS: dict[Kind, list[str]] = {
    Kind.TEXT: ["x", "a b", "ü", "日本", "x ", " x", "-", "0"],
    Kind.INT: ["2147483647", "2147483648", "-2147483648", "-2147483649", "4294967296", "007", "+5", "1e3", "1.0", "5s"],
    Kind.LONG: ["9223372036854775807", "9223372036854775808", "-9223372036854775808", "007", "+5", "1L", "0x10"],
    Kind.SECONDS: ["1767225600", "1767225600000", "1 ", "-1", "9223372036854775", "9223372036854776", "1e9"],
    Kind.POOL: ["0", "-1", "8", "0 ", "+0", "2147483648"],
    Kind.NUMBER: ["0.5", ".5", "5.", "1e3", "1e999", "-1e999", "1e-999", "NaN", "Infinity", "0x1p3", "1f", "1d", "1,5"],
    Kind.SWITCH: [
        "true",
        "TRUE",
        "yes",
        "y",
        "on",
        "1",
        "false",
        "no",
        "n",
        "off",
        "0",
        "true ",
        "t",
        "10",
        "tru\u0435",
    ],
    Kind.DURATION: [
        *("PT15M", "P1D", "-PT5M", "PT-5M", "PT0S", "P", "PT", "P1DT", "pt1.5s", "P1M", "PT1,5S", "PT1.S"),
        *("P106751991167300D", "P106751991167301D", "PT9223372036854775808S", "PT-0.5S", "PT1H-1M", " PT1S "),
    ],
    Kind.TAGS: ["a=b", "a=b,c=d", "a=", "=b", "a=b=", "a==b", "a", ",", "a=b,", " a = b , c=d ", "a=b,c"],
    Kind.LIST: ["Operation", "Operation,ShardId", "a_b", "a b", " a , b ", ",", "a,,b", "ü", "a-b", "a.b", "日本"],
    Kind.REGION: ["eu-west-1", "us-gov-west-1", "nowhere", "EU", "eu-west-1 ", "a b", "eu/west"],
    Kind.URL: [
        *("http://h:1", "https://h/", "h:1", "h", "http://", "http://a b", "http://[::1]:1", "http://h:99999"),
        *("https://vpce-1.kinesis.eu-west-1.vpce.amazonaws.com", "http://a_b:1", "http://h:1 ", "HTTP://h:1"),
    ],
    Kind.CREDENTIALS: [name for name in sorted(NAMES) if "Sts" not in name]
    + [f"{name}|{ROLE}|session" for name in sorted(NAMES) if "Sts" in name]
    + [f"StsAssumeRoleCredentialsProvider|{ROLE}|s1|externalId=e1|endpointRegion=eu-west-3", "Foo", ",", "Foo|x"]
    + [f"StsAssumeRoleCredentialsProvider|{ROLE}|s1|endpoint=h:1^eu-west-3", "StaticCredentialsProvider|a|b"]
    + ["ProfileCredentialsProvider|p", "ProfileCredentialsProvider |p", "ProfileCredentialsProvider|p|q"]
    + [f"StsAssumeRoleCredentialsProvider|{ROLE}", "ProcessCredentialsProvider|x", "DefaultCredentialsProvider, Foo"]
    + ["EnvironmentVariableCredentialsProvider|x", "org.example.Missing, AnonymousCredentialsProvider"],
    Kind.UNUSABLE: ["x"],
    **{kind: [*sorted(words), *(word.lower() for word in words), "x"] for kind, words in CHOICES.items()},
}
POOLS[Kind.POSITION] += ["AT_TIMESTAMP"]
POOLS[Kind.BILLING] += ["UNKNOWN_TO_SDK_VERSION"]
PIECES = [
    "0",
    "1",
    "9",
    "-",
    "+",
    ".",
    ",",
    " ",
    "\t",
    "=",
    "_",
    "e",
    "T",
    "P",
    "s",
    "\u0661",
    "\u00a0",
    "ß",
    "İ",
    "\x00",
    "\x1f",
]

EXACT = frozenset(Kind) - {Kind.TEXT, Kind.NESTED, Kind.LIST, Kind.REGION, Kind.URL, Kind.CREDENTIALS}
"""Kinds of which `as_kcl` says what KCL reads for every text, also for one that is refused."""

HOSTILE_KEYS = ["a[b", "a(b", "a]b", "a[0]", "a.b", ".", "x.", "a[b].c", "secret[x", "metricsEnabledDimensions.x"]
HOSTILE_KEYS += ["applicationName.x", "applicationName[0]", "retrievalMode.x", "workerMetricsTags[0]", "class.x"]

NO_GETTER = {"executableName", "processingLanguage", "streamArn", "workerId", "applicationName", "streamName"}


def texts(rng: random.Random, kind: Kind) -> Iterator[str]:
    """Yield values of a kind without end: known traps, and these with something cut, doubled or put in."""
    pool = POOLS[kind]
    yield from pool
    yield from ("", " ", "\t1", "null")
    while True:
        text = rng.choice(pool)
        at = rng.randrange(len(text) + 1)
        change = rng.randrange(4)
        if change == 0:
            text = text[:at] + text[at + 1 :]
        elif change == 1:
            text = text + rng.choice((" ", "\t", "\n", "\x00", ",", "="))
        elif change == 2:
            text = str(rng.choice((-1, 0, 1)) * 2 ** rng.randrange(70) + rng.choice((-1, 0, 1)))
        else:
            text = text[:at] + rng.choice(PIECES) + text[at:]
        yield text


def cases() -> list[dict[str, str]]:
    """Return the keys that each file has beside the needed ones: one that is refused, or many that are taken."""
    rng = random.Random(SEED)
    keys = [key for key, about in DAEMON_KEYS.items() if about.kind in POOLS and key not in NO_GETTER]
    sources = {key: texts(rng, DAEMON_KEYS[key].kind) for key in keys}
    alone: list[dict[str, str]] = []
    taken: dict[str, list[str]] = {key: [] for key in keys}
    for number in range(FILES):
        key = keys[number % len(keys)]
        text = next(sources[key])
        if dies(key, text) or DAEMON_KEYS[key].kind not in EXACT or key.startswith("initialPosition"):
            alone.append({key: text})
        else:
            taken[key].append(text)
    together: list[dict[str, str]] = []
    while any(taken.values()):
        together.append({key: left.pop() for key, left in taken.items() if left})
    return [*alone, *together, *({key: "1"} for key in HOSTILE_KEYS)]


def dies(key: str, text: str) -> bool:
    try:
        value = as_kcl(DAEMON_KEYS[key].kind, text)
    except KclDies:
        return True
    return key == "maxRecords" and value > 10_000


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[dict[str, str], dict[str, Any]]]:
    """What the jars make of every file, all in one JVM."""
    java = find_java().path
    modules = subprocess.run([java, "--list-modules"], capture_output=True, text=True, check=False, timeout=60).stdout
    if "jdk.compiler" not in modules:
        pytest.skip("this Java cannot run a source file: apt-get install openjdk-17-jdk-headless")
    with tempfile.TemporaryDirectory(dir=tmp_path_factory.getbasetemp()) as directory:
        made = cases()
        for number, keys in enumerate(made):
            base = {key: value for key, value in BASE.items() if key.lower() not in {one.lower() for one in keys}}
            if any(key.endswith("Client.region") for key in keys):
                base.pop("regionName", None)
            content = javaproperties.dumps({**base, **keys}, timestamp=False)
            (Path(directory) / f"{number:05d}").write_text(content, encoding="latin-1")
        ran = subprocess.run(
            [java, "-Daws.region=eu-west-1", "-Dfile.encoding=UTF-8", "-cp", f"{kclpy_jars()}/*", PROGRAM, directory],
            capture_output=True,
            encoding="utf-8",
            check=True,
            timeout=900,
        )
    return list(zip(made, map(json.loads, ran.stdout.splitlines()), strict=True))


def known(keys: dict[str, str]) -> dict[str, str]:
    return {key: text for key, text in keys.items() if key in DAEMON_KEYS}


def same(value: Any, read: Any) -> bool:  # noqa: ANN401 - of any kind
    if isinstance(value, float) and not math.isfinite(value):
        return isinstance(read, str) and (read == "NaN" if math.isnan(value) else float(read) == value)
    if isinstance(value, tuple):
        return list(value) == read
    if isinstance(value, list):
        return isinstance(read, list) and [list(one) if isinstance(one, tuple) else one for one in value] == read
    return bool(value == read) and isinstance(value, bool) is isinstance(read, bool)


CLIENTS = {"kinesisClient": "kinesis", "dynamoDbClient": "dynamodb", "cloudWatchClient": "cloudwatch"}


def read_by_jar(reads: dict[str, Any], key: str) -> Any:  # noqa: ANN401 - of any kind
    if key == "regionName":
        return reads["kinesis region"]
    if key in ("kinesisEndpoint", "dynamoDBEndpoint"):
        return reads[f"{key[:-8].lower()} endpoint"]
    client, dot, name = key.partition(".")
    if dot and client in CLIENTS:
        return reads[f"{CLIENTS[client]} {'region' if name == 'region' else 'endpoint'}"]
    return reads[key]


def test_what_the_table_says_of_a_value_is_what_the_jars_make_of_it(
    answers: list[tuple[dict[str, str], dict[str, Any]]],
) -> None:
    faults = []
    judged = 0
    for keys, answer in answers:
        for key, text in known(keys).items():
            kind = DAEMON_KEYS[key].kind
            if kind not in EXACT:
                continue
            judged += 1
            dead = dies(key, text)
            if dead != ("dies" in answer):
                faults.append((key, text, "dies" if dead else "lives", answer.get("dies")))
            elif not dead and not same(as_kcl(kind, text), read_by_jar(answer["reads"], key)):
                faults.append((key, text, as_kcl(kind, text), read_by_jar(answer["reads"], key)))
    assert judged > FILES // 2
    assert not faults, "\n".join(map(repr, faults[:40]))


def test_what_is_taken_is_read_by_the_jars_as_it_is_written(
    answers: list[tuple[dict[str, str], dict[str, Any]]],
) -> None:
    faults = []
    taken = 0
    for keys, answer in answers:
        for key, text in known(keys).items():
            kind = DAEMON_KEYS[key].kind
            if wrong(key, text) is not None:
                continue
            taken += 1
            if "dies" in answer:
                faults.append((key, text, answer["dies"]))
            elif kind is not Kind.CREDENTIALS:
                read = read_by_jar(answer["reads"], key)
                said = kcl_values.read(kind, text)
                if text and not (same(said, read) or (kind is Kind.LIST and sorted(said) == sorted(read))):
                    faults.append((key, text, said, read))
    assert taken > FILES // 10
    assert not faults, "\n".join(map(repr, faults[:40]))


def test_no_value_is_refused_that_the_jars_take_as_it_is_written(
    answers: list[tuple[dict[str, str], dict[str, Any]]],
) -> None:
    """For every kind that is known exactly, a refused value is one that KCL reads otherwise, or one out of bounds."""
    faults = []
    refused = 0
    for keys, answer in answers:
        for key, text in known(keys).items():
            about = DAEMON_KEYS[key]
            if about.kind not in EXACT or wrong(key, text) is None:
                continue
            refused += 1
            plain = text.strip()
            if "dies" in answer or plain != text or not plain:
                continue
            read = read_by_jar(answer["reads"], key)
            meant = about.kind in (Kind.INT, Kind.LONG) and re.fullmatch(r"[+-]?\d+", plain) and int(plain) == read
            bounded = (
                isinstance(read, str)
                or (about.least is not None and read < about.least)
                or (about.most is not None and read > about.most)
            )
            if meant and not bounded:
                faults.append((key, text, read))
    assert refused > FILES // 10
    assert not faults, "\n".join(map(repr, faults[:40]))


def test_credentials_that_are_taken_are_made_by_the_jars_to_the_last_one(
    answers: list[tuple[dict[str, str], dict[str, Any]]],
) -> None:
    service = {"": "kinesis", "DynamoDB": "dynamodb", "CloudWatch": "cloudwatch"}
    judged = 0
    for keys, answer in answers:
        for key, text in known(keys).items():
            if DAEMON_KEYS[key].kind is not Kind.CREDENTIALS or wrong(key, text) is not None or "." in text:
                continue
            judged += 1
            made = answer["reads"][f"{service[key.removeprefix('awsCredentialsProvider')]} credentials"]
            names = [
                one.partition("|")[0].strip().removeprefix("Kcl").replace("TokenFile", "Token")
                for one in text.split(",")
            ]
            assert [name for name in names if name.removesuffix("Provider") not in made] == [], (text, made)
            assert ("profileName=p" in made) is ("|p" in text)
    assert judged > 10


def test_a_key_that_ends_the_daemon_is_refused(answers: list[tuple[dict[str, str], dict[str, Any]]]) -> None:
    dead = {key for keys, answer in answers if "dies" in answer for key in keys if key in HOSTILE_KEYS}
    assert {"a[b", "metricsEnabledDimensions.x"} <= dead
    for key in HOSTILE_KEYS:
        file = Path("/landing.properties")
        config, problems = properties_file.inspect(file, {**BASE, "receiver.store": "file:///s", key: "1"})
        assert config is not None
        found = [one.severity for one in settings_findings(config, problems) if one.subject == key]
        assert found, key
        assert ERROR in found or key not in dead, key
