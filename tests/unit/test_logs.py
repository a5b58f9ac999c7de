from __future__ import annotations

import errno
import shutil
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


def test_a_full_disk_leaves_all_logs_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = LogFile(tmp_path / "x.log", max_bytes=8)
    contents = {f"x.log.{number}": f"older {number}" for number in range(1, KEPT + 1)} | {"x.log": "a large log"}
    for name, content in contents.items():
        (tmp_path / name).write_text(content)

    def full(source: Path, target: Path) -> None:
        target.write_bytes(b"a part")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    for _ in range(KEPT):
        with pytest.raises(OSError, match="No space left"):
            log.rotate()
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == contents


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


def java_log(*lines: str) -> str:
    return "\n".join(lines) + "\n"


AT = "2026-11-28T14:13:20.630Z"
INFO = f"{AT} INFO  Scheduler [] Initial state: all is well"
REFUSED = (
    f"{AT} ERROR InitializeTask [] Caught exception: ",
    "software.amazon.awssdk.services.kinesis.model.InvalidArgumentException: The timestampInMillis parameter cannot be "
    "greater than the currentTimestampInMillis. (Service: Kinesis, Status Code: 400, Request ID: 1)",
    "\tat software.amazon.awssdk.services.kinesis.model.InvalidArgumentException$BuilderImpl.build(I.java:151)",
)
NO_CREDENTIALS = (
    f"{AT} ERROR Scheduler [] Caught exception when initializing LeaseCoordinator",
    "java.lang.RuntimeException: software.amazon.awssdk.core.exception.SdkClientException: Unable to load credentials",
    "\tat software.amazon.kinesis.coordinator.Scheduler.initialize(Scheduler.java:1)",
    "Caused by: software.amazon.awssdk.core.exception.SdkClientException: Unable to load credentials from the chain",
    "\t... 11 common frames omitted",
    INFO,
)
LOST = (
    f"{AT} ERROR MultiLangProtocol [] Failed to get status message for processRecords action for shard shardId-7",
    "java.util.concurrent.ExecutionException: java.lang.RuntimeException: Reached end of STDIN of child process",
    "\tat java.base/java.util.concurrent.FutureTask.report(FutureTask.java:122)",
    "Caused by: java.lang.RuntimeException: Reached end of STDIN of child process for shard shardId-7",
    f"{AT} ERROR MultiLangShardRecordProcessor [] Encountered an error while trying to process records",
    "java.lang.RuntimeException: Child process failed to process records",
)
SAID = (
    f"{AT} ERROR DrainChildSTDERRTask [] Received error line from subprocess "
    "[kcl-receiver-processor: StoreUnavailable: shardId-7: nothing was stored for 300 s] for shard shardId-7"
)
SHUTDOWN = (
    f"{AT} ERROR MultiLangDaemon [] Encountered an error during shutdown.",
    "java.util.concurrent.TimeoutException: null",
    "\tat java.base/java.util.concurrent.CompletableFuture.timedGet(CompletableFuture.java:1960)",
)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((), ""),
        ((INFO,), ""),
        (SHUTDOWN, ""),
        (
            (INFO, *REFUSED, INFO),
            "InitializeTask: InvalidArgumentException: The timestampInMillis parameter cannot be greater than the "
            "currentTimestampInMillis.",
        ),
        (
            NO_CREDENTIALS,
            "Scheduler: Caught exception when initializing LeaseCoordinator: SdkClientException: Unable to load "
            "credentials from the chain",
        ),
        (
            (*REFUSED, *LOST, *SHUTDOWN),
            "the processor of shardId-7 was lost: RuntimeException: Reached end of STDIN of child process for shard "
            "shardId-7",
        ),
        (
            (SAID, *LOST, SAID.replace("shardId-7", "shardId-8"), *SHUTDOWN),
            "StoreUnavailable: shardId-7: nothing was stored for 300 s (the processor of shardId-7)",
        ),
        (
            (SAID, "Terminating due to java.lang.OutOfMemoryError: Java heap space"),
            "Terminating due to java.lang.OutOfMemoryError: Java heap space",
        ),
        (("Unable to find property file: /tmp/x",), "Unable to find property file: /tmp/x"),
        ((f"{AT} ERROR Worker [shardId-1] no exception here.",), "Worker: no exception here"),
    ],
)
def test_the_daemons_last_error_is_the_one_that_says_why(tmp_path: Path, lines: tuple[str, ...], expected: str) -> None:
    log = LogFile(tmp_path / "daemon.log")
    log.path.write_text(java_log(*lines))
    assert log.last_error() == expected


def test_what_an_earlier_daemon_said_is_no_reason(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "daemon.log")
    log.path.write_text(java_log(*REFUSED))
    since = log.size()
    assert log.last_error(since) == ""
    with log.open() as file:
        file.write(java_log(INFO, *LOST).encode())
    assert log.last_error(since).startswith("the processor of shardId-7 was lost")
    log.path.write_text(java_log(*REFUSED))  # put away meanwhile: what is there is new
    assert log.last_error(10**9).startswith("InitializeTask: InvalidArgumentException")


def test_a_log_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "daemon.log")
    assert (log.last_error(), log.size(), log.written()) == ("", 0, None)


def test_a_log_that_cannot_be_read_says_nothing_and_ends_nothing(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "daemon.log")
    log.path.mkdir()
    assert (log.last_error(), log.last_line()) == ("", "")
