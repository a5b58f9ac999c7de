from __future__ import annotations

from pathlib import Path

import pytest

from kcl_receiver.daemon.logs import KEPT, LogFile
from kcl_receiver.errors import EnvironmentProblem


def test_a_log_is_appended_to_and_its_directory_made(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a" / "b.log")
    for text in (b"one\n", b"two\n"):
        with log.open() as file:
            file.write(text)
    assert log.path.read_text() == "one\ntwo\n"


def test_a_log_that_cannot_be_written_is_an_environment_problem(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentProblem, match="cannot be written") as caught:
        LogFile(tmp_path / "file" / "x.log").open()
    assert "receiver.logDirectory" in caught.value.hint


def test_a_large_log_is_put_away_while_its_writer_goes_on(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "x.log", max_bytes=8)
    with log.open() as writer:
        for number in range(KEPT + 2):
            writer.write(b"line %d..\n" % number)
            assert log.rotate()
            assert log.path.stat().st_size == 0
        writer.write(b"after\n")
    assert log.path.read_text() == "after\n"
    older = [tmp_path / f"x.log.{number}" for number in range(1, KEPT + 1)]
    assert [path.read_text() for path in older] == [f"line {number}..\n" for number in (5, 4, 3, 2)]
    assert len(list(tmp_path.iterdir())) == KEPT + 1


def test_a_small_or_absent_log_is_left_alone(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "x.log", max_bytes=8)
    assert not log.rotate()
    log.path.write_text("1234567")
    assert not log.rotate()
    assert log.path.read_text() == "1234567"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", ""),
        ("one\ntwo\n\n", "two"),
        ("StoreRefused: not yours\nHint: take another\n", "StoreRefused: not yours"),
        ("java.lang.Error: no\n\tat a.b.C\n    at d\n", "java.lang.Error: no"),
        ("x" * 9000, "x" * 300),
    ],
)
def test_the_last_line_is_the_one_that_says_what_happened(tmp_path: Path, content: str, expected: str) -> None:
    (tmp_path / "x.log").write_text(content)
    assert LogFile(tmp_path / "x.log").last_line() == expected


def test_an_absent_log_has_no_last_line(tmp_path: Path) -> None:
    assert LogFile(tmp_path / "x.log").last_line() == ""
