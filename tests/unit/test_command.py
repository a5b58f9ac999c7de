from __future__ import annotations

import shlex
import zipfile
from pathlib import Path

import pytest
from test_config import write
from test_java import fake

from kcl_receiver.cli.main import run_cli
from kcl_receiver.config.properties import load
from kcl_receiver.daemon.command import JAXB, LOG_CONFIGURATION, daemon_command, refuse_latest
from kcl_receiver.daemon.tuning import heap_options
from kcl_receiver.errors import ConfigError

JAVA, JARS = Path("/jre/bin/java"), Path("/k/jars")


def test_the_command_is_complete_and_in_order(tmp_path: Path) -> None:
    file = write(tmp_path)
    assert daemon_command(load(file), JAVA, JARS) == [
        "/jre/bin/java",
        "-Dfile.encoding=UTF-8",
        "-XX:+ExitOnOutOfMemoryError",
        "-cp",
        f"/k/jars/*:{JAXB}",
        "software.amazon.kinesis.multilang.MultiLangDaemon",
        "--properties-file",
        str(file),
        "--log-configuration",
        str(LOG_CONFIGURATION),
    ]


@pytest.mark.parametrize(
    ("variable", "value", "off"),
    [
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:4567", True),
        ("AWS_ENDPOINT_URL_KINESIS", "http://127.0.0.1:4567", True),
        ("AWS_ENDPOINT_URL", "https://vpce-1.kinesis.eu-west-1.vpce.amazonaws.com", False),
        ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:4567", False),
    ],
)
def test_cbor_is_off_for_an_emulator_that_only_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, off: bool
) -> None:
    monkeypatch.setenv(variable, value)
    command = daemon_command(load(write(tmp_path)), JAVA, JARS)
    assert ("-Daws.cborEnabled=false" in command) is off
    assert "-Daws.accessKeyId=emulator" not in command, "whose credentials these are, the environment says as well"


def test_the_class_that_kcl_needs_for_a_bad_aggregate_is_there_for_java_8_and_later() -> None:
    with zipfile.ZipFile(JAXB) as jar:
        files = {name for name in jar.namelist() if not name.endswith("/")}
        assert files == {"javax/xml/bind/DatatypeConverter.class"}
        content = jar.read(files.pop())
    assert (content[:4].hex(), int.from_bytes(content[6:8], "big")) == ("cafebabe", 52)
    assert b"printBase64Binary" in content


def test_paths_are_absolute_so_that_a_service_manager_can_use_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load(write(tmp_path))
    monkeypatch.chdir(tmp_path)
    command = daemon_command(config, JAVA, JARS, Path("other.properties"), Path("log.xml"))
    assert command[-3] == str(tmp_path / "other.properties")
    assert command[-1] == str(tmp_path / "log.xml")


@pytest.mark.parametrize(
    ("endpoint", "off"),
    [("http://127.0.0.1:4567", True), ("https://vpce-1.kinesis.eu-west-1.vpce.amazonaws.com", False)],
)
def test_cbor_is_off_and_credentials_made_up_for_an_emulator_only(tmp_path: Path, endpoint: str, off: bool) -> None:
    command = daemon_command(load(write(tmp_path, {"kinesisEndpoint": endpoint})), JAVA, JARS)
    assert ("-Daws.cborEnabled=false" in command) is off
    assert ("-Daws.accessKeyId=emulator" in command) is off


def test_own_java_options_come_after_ours_so_that_they_win(tmp_path: Path) -> None:
    command = daemon_command(load(write(tmp_path, {"receiver.javaOptions": "-Xmx1g -Dfile.encoding=x"})), JAVA, JARS)
    assert command.index("-Dfile.encoding=x") > command.index("-Dfile.encoding=UTF-8")
    assert command.index("-Xmx1g") < command.index("-cp")


def test_the_tuning_comes_before_the_users_own_options(tmp_path: Path) -> None:
    config = load(write(tmp_path, {"receiver.javaOptions": "-Xmx1g"}))
    command = daemon_command(config, JAVA, JARS, tuning=["-XX:NewSize=9m"])
    assert command.index("-XX:NewSize=9m") < command.index("-Xmx1g") < command.index("-cp")


@pytest.mark.parametrize("word", ["LATEST", None])
def test_latest_and_a_missing_position_are_refused_with_the_line_to_write(tmp_path: Path, word: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        refuse_latest(load(write(tmp_path, {"initialPositionInStream": word})), now_millis=1767225600_999)
    assert "initialPositionInStreamExtended = 1767225600 " in caught.value.hint
    assert "initialPositionInStream = TRIM_HORIZON" in caught.value.hint


def test_trim_horizon_and_a_timestamp_are_accepted(tmp_path: Path) -> None:
    refuse_latest(load(write(tmp_path, {"initialPositionInStream": "TRIM_HORIZON"})), 0)
    refuse_latest(load(write(tmp_path, {"initialPositionInStreamExtended": "1"})), 0)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run_cli(["command", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_printed_line_is_one_that_a_shell_takes_apart_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a b").mkdir()
    file = write(tmp_path / "a b", {"initialPositionInStream": "TRIM_HORIZON"})
    code, out, _ = printed(capsys, "-p", str(file))
    assert code == 0
    assert out.count("\n") == 1
    words = shlex.split(out)
    assert words[words.index("--properties-file") + 1] == str(file)
    assert words[words.index("-cp") + 1].endswith(f"/jars/*:{JAXB}")


def test_the_command_refuses_latest_and_prints_no_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, {"initialPositionInStream": "LATEST"})
    code, out, err = printed(capsys, "-p", str(file))
    assert (code, out) == (2, "")
    assert "Hint: write: initialPositionInStreamExtended = " in err


def test_the_printed_launch_is_tuned_unless_the_plain_one_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    java = tmp_path / "java"
    java.write_text(
        "#!/bin/sh\necho 'openjdk version \"17\"' >&2\necho ' size_t MaxHeapSize = 1073741824 {x} {ergonomic}'\n"
    )
    java.chmod(0o755)
    keys: dict[str, str | None] = {"initialPositionInStream": "TRIM_HORIZON", "receiver.java": str(java)}
    tuned = printed(capsys, "-p", str(write(tmp_path, keys)))[1]
    plain = printed(capsys, "-p", str(write(tmp_path, keys | {"receiver.javaLaunch": "plain"})))[1]
    options = " ".join(heap_options(1 << 30)) + " "
    assert options in tuned
    assert tuned.replace(options, "") == plain


def test_settings_that_break_a_promise_are_told_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, {"initialPositionInStream": "TRIM_HORIZON"})
    code, out, err = printed(capsys, "-p", str(file))
    assert code == 0
    assert out
    assert "warning: shutdownGraceMillis: is not set" in err
    assert "warning: executableName: landing.properties is looked for in the daemon's working directory" in err


def test_java_and_log_configuration_can_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, {"initialPositionInStream": "TRIM_HORIZON"})
    java = fake(tmp_path / "jre" / "java", "21")
    (tmp_path / "log.xml").touch()
    code, out, _ = printed(capsys, "-p", str(file), "--java", str(java), "--log-configuration", f"{tmp_path}/log.xml")
    assert code == 0
    assert shlex.split(out)[0] == str(java)
    assert out.endswith(f"{tmp_path}/log.xml\n")


def test_a_log_configuration_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, {"initialPositionInStream": "TRIM_HORIZON"})
    code, out, err = printed(capsys, "-p", str(file), "--log-configuration", "none.xml")
    assert (code, out) == (2, "")
    assert "there is no such file" in err
