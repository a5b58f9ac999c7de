"""What a hint proposes is what works: lines for the properties file, and commands with their options."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import javaproperties
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_check import BROKEN, NOW, PROPERTIES, SURPRISING, good

from kcl_receiver.cli.main import COMMANDS, cli
from kcl_receiver.config import properties as properties_file
from kcl_receiver.config.kcl_keys import DAEMON_KEYS
from kcl_receiver.config.kcl_values import Kind
from kcl_receiver.config.properties import RECEIVER_KEYS, load
from kcl_receiver.daemon.checks import settings_findings
from kcl_receiver.daemon.findings import ERROR, OK, Finding
from kcl_receiver.errors import ConfigError

PACKAGE = Path(__file__).parents[2] / "kcl_receiver"

HOSTILE = [
    *(
        "",
        " ",
        "x",
        "x y",
        "ü",
        "日本",
        "-1",
        "0",
        "1.5",
        "9" * 30,
        "9" * 5000,
        "true ",
        "DEFAULT ",
        "none",
        "TRUE",
        "a=b",
        "a=",
        "a,b",
    ),
    *("\x00", "a\x00b", "\n", "\\", "\\u12", "~", "/", "//", "file://", "file:///\x00", "file:///a#b", "http://[", "%"),
    *("s3://bucket/x", "'", '"', "$(id)", "x" * 300, "\ud800", "1" + "0" * 18, "1KiB", "0KiB", "zstd:99", "-Xmx1g '"),
    *(
        "LATEST",
        "AT_TIMESTAMP",
        "1767225600000",
        "253402300800",
        "PT0S",
        "-PT1S",
        "arn:aws:kinesis:x",
        "Foo|bar|SECRET",
    ),
    *("StsAssumeRoleCredentialsProvider|x", "ProfileCredentialsProvider|a|b", "DefaultCredentialsProvider,Foo"),
]


def judge(file: Path, raw: dict[str, str]) -> list[Finding]:
    """Return what `check` says of settings."""
    config, problems = properties_file.inspect(file, raw)
    if config is None:
        return [Finding("settings", ERROR, one.key, one.reason, one.instead) for one in problems]
    return settings_findings(config, problems, NOW)


def base(file: Path) -> dict[str, str]:
    return {key: value for key, value in good(file).items() if value is not None}


LINE = re.compile(r"[A-Za-z][\w.]* = .*", re.DOTALL)


def lines(finding: Finding) -> Iterator[tuple[str, str]]:
    """Yield the lines that a finding proposes: its alternatives are divided by `, or: `, and are lines or words."""
    for part in finding.instead.split(", or: "):
        if LINE.fullmatch(part):
            ((key, value),) = javaproperties.loads(part).items()
            yield key, value
        else:
            assert " = " not in part, f"neither a line nor words: {finding}"


PLACES = re.compile(r"\b(REGION|ACCOUNT|NAME|SESSION|FILE)\b")
"""What a line leaves to be filled in: such a one cannot be tried as it is."""


def try_hints(file: Path, raw: dict[str, str]) -> int:
    """Do what each hint says, and see that its finding is gone and no error has come; return how many were tried."""
    found = judge(file, raw)
    errors = {one.subject for one in found if one.severity == ERROR}
    tried = 0
    for finding in found:
        for key, value in lines(finding):
            if PLACES.search(value):
                continue
            after = {one: text for one, text in raw.items() if one not in (finding.subject, key)} | {key: value}
            again = judge(file, after)
            assert [one for one in again if one.subject in (finding.subject, key) and one.severity != OK] == [], finding
            assert {one.subject for one in again if one.severity == ERROR} <= errors - {finding.subject}, finding
            tried += 1
    return tried


@pytest.mark.parametrize("changes", [one[0] for one in (*BROKEN, *SURPRISING)])
def test_every_line_that_check_proposes_is_taken_by_check(tmp_path: Path, changes: dict[str, str | None]) -> None:
    file = tmp_path / "landing.properties"
    raw = {key: value for key, value in (good(file) | changes).items() if value is not None}
    try_hints(file, raw)


@pytest.mark.parametrize("directory", ["plain", "ünï", "a b", "#x", "%41", "back\\slash", "q'uote"])
def test_a_line_that_names_this_file_or_its_directory_can_be_pasted(tmp_path: Path, directory: str) -> None:
    file = tmp_path / directory / "landing.properties"
    for missing in ("executableName", "receiver.store"):
        raw = base(file)
        del raw[missing]
        if directory in ("a b", "q'uote") and missing == "receiver.store":
            del raw["executableName"]
        assert try_hints(file, raw) or directory in ("a b", "q'uote")


@pytest.mark.parametrize("key", sorted({*DAEMON_KEYS, *RECEIVER_KEYS, "AwsCredentialsProvider", "receiver.socet"}))
def test_a_refused_value_is_named_with_its_key_and_with_a_line_that_works(tmp_path: Path, key: str) -> None:
    file = tmp_path / "landing.properties"
    named = 0
    for text in HOSTILE if key not in ALIKE else HOSTILE[::6]:
        raw = base(file)
        raw = {one: value for one, value in raw.items() if one.lower() != key.lower()}
        raw.pop(BESIDE.get(key, ""), None)
        raw[key] = text
        for finding in judge(file, raw):
            if finding.subject == key and finding.severity == ERROR:
                assert finding.instead, finding
                named += 1
        try_hints(file, raw)
        see_error(file, raw, key, text)
    assert named


FIRST_OF_KIND = {about.kind: key for key, about in reversed(DAEMON_KEYS.items())}
PROMISED = {
    *("skipShardSyncAtWorkerInitializationIfLeasesExist", "callProcessRecordsEvenForEmptyRecordList", "retrievalMode"),
    *("maxActiveThreads", "shutdownGraceMillis", "gracefulLeaseHandoffTimeoutMillis", "timeoutInSeconds"),
}
"""Keys of which `check` refuses values that KCL takes."""
ALIKE = {key for key, about in DAEMON_KEYS.items() if about.kind is not Kind.TEXT} - {
    *FIRST_OF_KIND.values(),
    *PROMISED,
}
"""Keys whose values are judged as those of another one are: some values will do."""

BESIDE = {
    "initialPositionInStreamExtended": "initialPositionInStream",
    "kinesisClient.region": "regionName",
    "dynamoDbClient.region": "regionName",
    "cloudWatchClient.region": "regionName",
}
"""Keys that may not stand beside another one."""


def see_error(file: Path, raw: dict[str, str], key: str, text: str) -> None:
    """See that the error of `load` names key and value, and no secret."""
    file.write_text(javaproperties.dumps(raw, timestamp=False), encoding="latin-1")
    said = refused(file)
    if said:
        assert key in said
        assert "SECRET" not in said or "redentials" not in key
        if "|" not in text and len(text) < 200:
            assert text.strip() in said or "\x00" in text


def refused(file: Path) -> str:
    """Return the message with which a file is refused; empty if it is taken."""
    try:
        load(file)
    except ConfigError as error:
        return error.message
    return ""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(
    changes=st.dictionaries(
        st.sampled_from(sorted({*DAEMON_KEYS, *RECEIVER_KEYS, "AwsCredentialsProvider"})) | st.text(max_size=12),
        st.sampled_from(HOSTILE) | st.text(max_size=20),
        max_size=5,
    )
)
def test_no_value_of_any_key_ends_in_a_traceback(tmp_path: Path, changes: dict[str, str]) -> None:
    file = tmp_path / "landing.properties"
    file.write_text(javaproperties.dumps({**base(file), **changes}, timestamp=False), encoding="latin-1")
    said = refused(file)
    assert not said or str(file) in said
    if "cannot be read" not in said:
        judge(file, properties_file.read(file))


def test_the_files_that_are_shipped_have_hints_that_work() -> None:
    for name in ("sample", "demo"):
        file = PROPERTIES / f"{name}.properties"
        try_hints(file, properties_file.read(file))


# ---------------------------------------------------------------------------------------------- commands and options


@cache
def trees() -> tuple[tuple[Path, ast.Module], ...]:
    """Return every module of the package."""
    return tuple((file, ast.parse(file.read_text(encoding="utf-8"))) for file in PACKAGE.rglob("*.py"))


def strings() -> Iterator[tuple[Path, int, str]]:
    """Yield every text of the package that is shown to somebody: all strings but docstrings of no command."""
    for file, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = [one.value if isinstance(one, ast.Constant) else "{}" for one in node.values]
                yield file, node.lineno, "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield file, node.lineno, node.value


def options_of(command: click.Command) -> set[str]:
    return {name for one in command.params for name in (*one.opts, *one.secondary_opts)} | {"--help"}


OPTIONS = {
    name: options_of(command) for name in COMMANDS if (command := cli.get_command(click.Context(cli), name)) is not None
}

FOREIGN = re.compile(r"pip install|apt-get|--properties-file|--log-configuration|aws kinesis|--endpoint-url http")
"""Lines of other programs."""


def test_every_command_that_a_text_names_exists_and_has_the_options_that_go_with_it() -> None:
    named = 0
    for file, number, text in strings():
        for found in re.finditer(r"kcl-receiver ([a-z]+)((?: --[a-z-]+(?:[ =][^-` ]+)?)*)", text):
            if found[1] not in COMMANDS and f"`kcl-receiver {found[1]}" not in text:
                continue  # a sentence in which the name is followed by a verb
            named += 1
            assert found[1] in COMMANDS, (file, number, found[0])
            for option in re.findall(r"--[a-z][a-z-]*", found[2]):
                assert option in OPTIONS[found[1]], (file, number, found[0])
    assert named > 20


def test_every_option_that_a_hint_names_is_one_of_some_command() -> None:
    known = set().union(*OPTIONS.values()) | {"--version"}
    for file, number, text in strings():
        if FOREIGN.search(text) or "processor" in file.parts or file.name == "java.py":
            continue
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text):
            assert option in known, (file, number, option)


@pytest.mark.parametrize(("error", "command"), [("BlockMissing", "recover"), ("LedgerDamaged", "repair")])
def test_what_is_missing_or_damaged_is_told_with_the_command_that_helps(error: str, command: str) -> None:
    from kcl_receiver import errors

    raised = 0
    for file, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == error:
                raised += 1
                hint = node.args[1]
                text = getattr(errors, hint.id) if isinstance(hint, ast.Name) else ast.unparse(hint)
                assert f"`kcl-receiver {command}" in text, (file, node.lineno)
    assert raised
