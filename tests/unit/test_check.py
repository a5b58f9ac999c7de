from __future__ import annotations

import json
from pathlib import Path

import pytest

from kcl_receiver.cli.main import run_cli
from kcl_receiver.config import properties as properties_file
from kcl_receiver.daemon.checks import check_settings, problem_findings, settings_findings
from kcl_receiver.daemon.findings import ERROR, MACHINE, OK, SETTINGS, STORE, STREAM, WARNING, Finding, exit_code

NOW = 1767225600_000
ROLE = "arn:aws:iam::123456789012:role/reader"
PROPERTIES = Path(__file__).parents[2] / "properties"


def good(file: Path) -> dict[str, str | None]:
    return {
        "applicationName": "landing",
        "streamName": "orders",
        "regionName": "eu-west-1",
        "AwsCredentialsProvider": "DefaultCredentialsProvider",
        "executableName": f"kcl-receiver-processor --properties {file}",
        "receiver.store": f"file://{file.parent}/store",
        "initialPositionInStream": "TRIM_HORIZON",
        "retrievalMode": "POLLING",
        "callProcessRecordsEvenForEmptyRecordList": "true",
        "shutdownGraceMillis": "20000",
    }


def write(directory: Path, changes: dict[str, str | None] | None = None) -> Path:
    file = directory / "landing.properties"
    merged = good(file) | (changes or {})
    file.write_text("".join(f"{key} = {value}\n" for key, value in merged.items() if value is not None))
    return file


def findings(directory: Path, changes: dict[str, str | None] | None = None) -> list[Finding]:
    file = write(directory, changes)
    config, problems = properties_file.inspect(file, properties_file.read(file))
    assert config is not None
    return settings_findings(config, problems, NOW)


def test_settings_that_keep_the_promises_have_no_findings(tmp_path: Path) -> None:
    assert findings(tmp_path) == []


BROKEN: list[tuple[dict[str, str | None], str, str, str]] = [
    (
        {"initialPositionInStream": None, "initialPositionInStreamExtended": "1767225601"},
        "initialPositionInStreamExtended",
        "lies 1 s in the future",
        "initialPositionInStreamExtended = 1767225600, ",
    ),
    (
        {"initialPositionInStream": None, "initialPositionInStreamExtended": "1767225600000"},
        "initialPositionInStreamExtended",
        "counts milliseconds",
        "initialPositionInStreamExtended = 1767225600",
    ),
    ({"initialPositionInStream": None}, "initialPositionInStream", "means LATEST", "= TRIM_HORIZON"),
    ({"retrievalMode": None}, "", "FANOUT", "retrievalMode = POLLING"),
    ({"retrievalMode": "DEFAULT"}, "", "FANOUT", "retrievalMode = POLLING"),
    ({"callProcessRecordsEvenForEmptyRecordList": None}, "", "idle shard", "EmptyRecordList = true"),
    ({"callProcessRecordsEvenForEmptyRecordList": "false"}, "", "idle shard", "EmptyRecordList = true"),
    ({"shutdownGraceMillis": None}, "", "without shutdown_requested", "shutdownGraceMillis = 30000"),
    ({"shutdownGraceMillis": "0"}, "", "without shutdown_requested", "shutdownGraceMillis = 30000"),
    ({"shutdownGraceMillis": "4999"}, "", "too short", "shutdownGraceMillis = 30000"),
    ({"gracefulLeaseHandoffTimeoutMillis": "4999"}, "", "time of a drain", "TimeoutMillis = 30000"),
    ({"timeoutInSeconds": "369"}, "", "longest wait", "timeoutInSeconds = 370"),
    ({"maxActiveThreads": "8"}, "", "deadlock", "maxActiveThreads = 0"),
    ({"skipShardSyncAtWorkerInitializationIfLeasesExist": "true"}, "", "hash ranges", "IfLeasesExist = false"),
    ({"AwsCredentialsProvider": None}, "AwsCredentialsProvider", "does not start", "DefaultCredentialsProvider"),
    (
        {"AwsCredentialsProvider": "DefaultAWSCredentialsProviderChain"},
        "",
        "knows no provider",
        "DefaultCredentialsProvider",
    ),
    (
        {"streamArn": "arn:aws:kinesis:us-east-1:123456789012:stream/orders"},
        "regionName",
        "not the region of streamArn",
        "regionName = us-east-1",
    ),
    ({"dynamoDBEndpoint": "http://127.0.0.1:1", "metricsLevel": "NONE"}, "kinesisEndpoint", "that of AWS", ":1"),
    ({"shutdownGraceMilis": "1000"}, "", "drops it", "leave it out"),
    ({"maxRecord": "1000"}, "", "drops it", "maxRecords = 1000"),
    ({"maxRecord": "1e3"}, "", "drops it", "maxRecords = 10000"),
    ({"pollingConfig.maxRecords": "1000"}, "", "a second name for maxRecords", "maxRecords = 1000"),
    ({"maxLeasesForWorker": "many"}, "", "not a whole number", "maxLeasesForWorker = 2147483647"),
    ({"maxLeasesForWorker": "2147483648"}, "", "fits 32 bits", "maxLeasesForWorker = 2147483647"),
    ({"parentShardPollIntervalMillis": "-1"}, "", "must be 0 or more", "parentShardPollIntervalMillis = 10000"),
    ({"maxRecords": "10001"}, "", "must be 10000 or less", "maxRecords = 10000"),
    ({"metricsLevel": ""}, "", "has no value", "metricsLevel = DETAILED"),
    ({"callProcessRecordsEvenForEmptyRecordList": "true "}, "", "take it for false", "EmptyRecordList = true"),
    ({"workerMetricsTags": "a="}, "", "leave out what it cannot read", "workerMetricsTags = key1=value1"),
    (
        {"AWSCREDENTIALSPROVIDER": "DefaultCredentialsProvider"},
        "AwsCredentialsProvider",
        "say the same thing to KCL",
        "leave one of them out",
    ),
    ({"indexed[0]": "x"}, "", "a part of something else", "leave it out"),
    ({"streamName": "orders "}, "", "a blank", "streamName = orders"),
    ({"retrievalMode": "POLLING "}, "", "a blank", "retrievalMode = POLLING"),
    ({"shardPrioritization": "x"}, "", "not settable", "leave it out"),
    ({"executableName": "sample_app.py"}, "", "no other program", "kcl-receiver-processor --properties"),
    ({"executableName": "kcl-receiver-processor"}, "", "does not say --properties", "landing.properties"),
    ({"executableName": "kcl-receiver-processor --properties /other"}, "", "another file", "landing.properties"),
    ({"executableName": "'/a b/kcl-receiver-processor' -p x"}, "", "quotes", "kcl-receiver-processor"),
    ({"executableName": "/a b/kcl-receiver-processor -p x"}, "", "space in it", "kcl-receiver-processor"),
    ({"receiver.socket": "/tmp/" + "x" * 103}, "", "108 bytes", "/landing/generator.sock"),
]


@pytest.mark.parametrize(("changes", "subject", "reason", "instead"), BROKEN)
def test_a_setting_that_breaks_a_promise_is_refused_with_reason_and_line(
    tmp_path: Path, changes: dict[str, str | None], subject: str, reason: str, instead: str
) -> None:
    (found,) = findings(tmp_path, changes)
    assert found.severity == ERROR
    assert found.subject == (subject or next(iter(changes)))
    assert reason in found.reason
    assert instead in found.instead
    assert exit_code([found]) == 2


SURPRISING: list[tuple[dict[str, str | None], str, str]] = [
    ({"workerId": "w"}, "workerId", "share this file"),
    ({"somethingElse": "x"}, "somethingElse", "does nothing"),
    ({"aws.secretKey": "x"}, "aws.secretKey", "looks like a secret"),
    (
        {"receiver.javaOptions": "-Daws.accessKeyId=AKIA -Daws.secretAccessKey=x"},
        "receiver.javaOptions",
        "looks like a secret",
    ),
    (
        {"AwsCredentialsProvider": "org.example.VaultProvider"},
        "AwsCredentialsProvider",
        "two identities: java signs as org.example.VaultProvider says; check, generator, status",
    ),
    ({"kinesisCredentialsProvider.class": "Mine"}, "kinesisCredentialsProvider.class", "two identities"),
    ({"isGracefulLeaseHandoffEnabled": "false"}, "isGracefulLeaseHandoffEnabled", "without a drain"),
    ({"cleanupLeasesUponShardCompletion": "false"}, "cleanupLeasesUponShardCompletion", "no effect"),
    ({"idleTimeBetweenReadsInMillis": "50"}, "idleTimeBetweenReadsInMillis", "200 ms at least"),
    ({"idleTimeBetweenReadsInMillis": "0"}, "idleTimeBetweenReadsInMillis", "unset"),
    ({"regionName": None}, "regionName", "environment"),
    ({"executableName": "kcl-receiver-processor -p landing.properties"}, "executableName", "working directory"),
    (
        {"kinesisEndpoint": "http://127.0.0.1:1", "dynamoDBEndpoint": "http://127.0.0.1:1"},
        "metricsLevel",
        "CloudWatch at AWS",
    ),
]


@pytest.mark.parametrize(("changes", "subject", "reason"), SURPRISING)
def test_a_setting_that_only_surprises_is_a_warning(
    tmp_path: Path, changes: dict[str, str | None], subject: str, reason: str
) -> None:
    found = [each for each in findings(tmp_path, changes) if each.subject == subject]
    assert [each.severity for each in found] == [WARNING]
    assert reason in found[0].reason
    assert exit_code(findings(tmp_path, changes)) == 0


def test_latest_is_accepted_with_a_note_that_only_run_may_start_it(tmp_path: Path) -> None:
    (found,) = findings(tmp_path, {"initialPositionInStream": "LATEST"})
    assert (found.severity, found.subject) == (OK, "initialPositionInStream")
    assert "only `run` may start it" in found.reason


def test_limits_are_inclusive(tmp_path: Path) -> None:
    limits: dict[str, str | None] = {
        "shutdownGraceMillis": "5000",
        "gracefulLeaseHandoffTimeoutMillis": "5000",
        "timeoutInSeconds": "370",
        "receiver.socket": "/tmp/" + "x" * 102,
    }
    assert findings(tmp_path, limits) == []


def test_a_long_block_interval_needs_no_longer_drain_because_a_drain_cuts_at_once(tmp_path: Path) -> None:
    assert findings(tmp_path, {"receiver.blockIntervalMillis": "60000"}) == []


def test_a_file_in_a_directory_with_a_space_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    found = findings(tmp_path / "a b")
    assert [each.severity for each in found] == [ERROR]
    assert "has a space or a quote in it" in found[0].reason


def test_the_module_form_of_the_processor_and_nested_keys_are_accepted(tmp_path: Path) -> None:
    file = tmp_path / "landing.properties"
    changes: dict[str, str | None] = {
        "executableName": f"/usr/bin/python3 -m kcl_receiver.processor.main --properties={file}",
        "fanoutConfig.consumerName": "me",
        "AWSCREDENTIALSPROVIDERDynamoDB": f"StsAssumeRoleCredentialsProvider|{ROLE}|s1, ProfileCredentialsProvider|p",
    }
    assert findings(tmp_path, changes) == []


def test_a_misspelt_nested_key_is_refused(tmp_path: Path) -> None:
    (found,) = findings(tmp_path, {"fanoutConfig.consumername": "me"})
    assert found.instead == "fanoutConfig.consumerName = me"


def test_the_sample_is_right_but_for_its_relative_path(monkeypatch: pytest.MonkeyPatch) -> None:
    config = properties_file.load(PROPERTIES / "sample.properties")
    assert [(each.severity, each.subject) for each in check_settings(config)] == [(WARNING, "executableName")]


def test_the_demo_is_right_but_for_its_relative_path() -> None:
    config = properties_file.load(PROPERTIES / "demo.properties")
    assert [(each.severity, each.subject) for each in check_settings(config)] == [(WARNING, "executableName")]


def test_the_sample_explains_every_key_of_ours_and_states_its_default() -> None:
    text = (PROPERTIES / "sample.properties").read_text()
    for key in properties_file.RECEIVER_KEYS:
        assert f"\n{key} = " in text or f"\n#{key} = " in text, key
    written = properties_file.load(PROPERTIES / "sample.properties")
    said = dict(line[1:].split(" = ", 1) for line in text.splitlines() if line.startswith("#receiver."))
    stated = {key: value for key, value in said.items() if key.rpartition(".")[2] not in _EXAMPLES}
    again, problems = properties_file.inspect(written.path, {**written.raw, **stated})
    assert again is not None
    assert problems == []
    for field in type(written).__dataclass_fields__:
        assert field == "raw" or getattr(again, field) == getattr(written, field), field


_EXAMPLES = ("socket", "java", "javaOptions", "jars", "logDirectory", "compactTargetBytes")


def test_problems_of_the_file_are_findings_too() -> None:
    (found,) = problem_findings([properties_file.Problem("streamName", None, "nothing says", "streamName = x")])
    assert found == Finding(SETTINGS, ERROR, "streamName", "is missing: nothing says", "streamName = x")


def test_the_exit_code_is_that_of_the_first_area_with_an_error() -> None:
    def bad(area: str) -> Finding:
        return Finding(area, ERROR, "x", "y")

    fine, odd = Finding(SETTINGS, OK, "x", "y"), Finding(SETTINGS, WARNING, "x", "y")
    assert exit_code([]) == exit_code([fine, odd]) == 0
    assert exit_code([bad(STREAM), bad(STORE), bad(MACHINE), bad(SETTINGS)]) == 2
    assert exit_code([bad(STREAM), bad(STORE), bad(MACHINE)]) == 3
    assert exit_code([bad(STREAM), bad(STORE), fine]) == 4
    assert exit_code([bad(STREAM)]) == 5


def test_json_output_holds_every_finding_on_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, {"maxActiveThreads": "3"})
    assert run_cli(["check", "-p", str(file), "--offline", "--output", "json"]) == 2
    found = json.loads(capsys.readouterr().out)["findings"]
    assert [each["subject"] for each in found if each["severity"] == "error"] == ["maxActiveThreads"]
    assert {each["area"] for each in found} == {"settings", "machine", "store"}


def test_text_output_gives_reason_and_line_without_colours_off_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, {"retrievalMode": None})
    assert run_cli(["check", "-p", str(file), "--offline"]) == 2
    out = capsys.readouterr().out
    assert "  error    retrievalMode: is not said: KCL then takes FANOUT" in out
    assert "           -> retrievalMode = POLLING\n" in out
    assert "\x1b[" not in out
    assert "\n1 error, " in out


def test_a_file_that_lacks_the_stream_is_not_looked_at_further(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, {"streamName": None})
    assert run_cli(["check", "-p", str(file)]) == 2
    out = capsys.readouterr().out
    assert "streamName: is missing" in out
    assert "machine" not in out
