from __future__ import annotations

from pathlib import Path

import pytest
from test_config import write

from kcl_receiver.config import load
from kcl_receiver.daemon.command import LOG_CONFIGURATION, daemon_command, refuse_latest
from kcl_receiver.errors import ConfigError

JAVA, JARS = Path("/jre/bin/java"), Path("/k/jars")


def test_the_command_is_complete_and_in_order(tmp_path: Path) -> None:
    file = write(tmp_path)
    assert daemon_command(load(file), JAVA, JARS) == [
        "/jre/bin/java",
        "-Dfile.encoding=UTF-8",
        "-XX:+ExitOnOutOfMemoryError",
        "-cp",
        "/k/jars/*",
        "software.amazon.kinesis.multilang.MultiLangDaemon",
        "--properties-file",
        str(file),
        "--log-configuration",
        str(LOG_CONFIGURATION),
    ]


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


@pytest.mark.parametrize("word", ["LATEST", None])
def test_latest_and_a_missing_position_are_refused_with_the_line_to_write(tmp_path: Path, word: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        refuse_latest(load(write(tmp_path, {"initialPositionInStream": word})), now_millis=1767225600_999)
    assert "initialPositionInStreamExtended = 1767225600 " in caught.value.hint
    assert "initialPositionInStream = TRIM_HORIZON" in caught.value.hint


def test_trim_horizon_and_a_timestamp_are_accepted(tmp_path: Path) -> None:
    refuse_latest(load(write(tmp_path, {"initialPositionInStream": "TRIM_HORIZON"})), 0)
    refuse_latest(load(write(tmp_path, {"initialPositionInStreamExtended": "1"})), 0)
