from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kcl_receiver.daemon.lock import RunLock
from kcl_receiver.errors import EXIT_ENVIRONMENT, EnvironmentProblem
from kcl_receiver.generator.lock import GeneratorLock

PROPERTIES = Path("/x/landing.properties")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "run"


@contextmanager
def heir(lock: RunLock) -> Iterator[int]:
    """A process that has inherited the lock, as java does."""
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], pass_fds=lock.fds)
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_a_second_lock_is_refused_with_the_pid_of_the_first(directory: Path) -> None:
    lock = RunLock(directory, PROPERTIES)
    with pytest.raises(EnvironmentProblem, match=f"pid {os.getpid()}.*already runs.*landing.properties") as caught:
        RunLock(directory, PROPERTIES)
    assert caught.value.exit_code == EXIT_ENVIRONMENT
    assert f"kill {os.getpid()}" in caught.value.hint
    lock.release()


def test_a_released_lock_can_be_taken_again(directory: Path) -> None:
    RunLock(directory, PROPERTIES).release()
    RunLock(directory, PROPERTIES).release()


def test_an_orphaned_java_keeps_the_lock_and_is_named(directory: Path) -> None:
    lock = RunLock(directory, PROPERTIES)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with heir(lock) as pid:
        lock.note_daemon(pid)
        said = json.loads(lock.path.read_text()) | {"supervisor": gone.pid}
        lock.path.write_text(json.dumps(said))
        lock.release()
        with pytest.raises(EnvironmentProblem, match=rf"a java daemon \(pid {pid}\) of an earlier") as caught:
            RunLock(directory, PROPERTIES)
        assert f"kill {pid}" in caught.value.hint
    RunLock(directory, PROPERTIES).release()


def test_a_lock_that_says_nothing_is_refused_all_the_same(directory: Path) -> None:
    lock = RunLock(directory, PROPERTIES)
    lock.path.write_text("")
    with pytest.raises(EnvironmentProblem, match="another process holds"):
        RunLock(directory, PROPERTIES)
    lock.release()


def test_a_daemon_that_has_ended_is_not_noted_any_more(directory: Path) -> None:
    lock = RunLock(directory, PROPERTIES)
    lock.note_daemon(123456)
    lock.note_daemon(None)
    assert json.loads(lock.path.read_text()) == {"supervisor": os.getpid(), "properties": str(PROPERTIES)}
    lock.release()


def test_the_lock_is_not_inherited_by_chance(directory: Path) -> None:
    lock = RunLock(directory, PROPERTIES)
    assert not any(map(os.get_inheritable, lock.fds))
    lock.release()


def test_a_directory_of_others_is_refused(directory: Path) -> None:
    directory.mkdir()
    directory.chmod(0o777)
    with pytest.raises(EnvironmentProblem, match="cannot be opened"):
        RunLock(directory, PROPERTIES)


# What is removed under it


def test_a_second_lock_is_refused_though_the_file_of_the_first_was_removed(directory: Path) -> None:
    lock = RunLock(directory, PROPERTIES)
    lock.path.unlink()
    with pytest.raises(EnvironmentProblem, match="another process holds"):
        RunLock(directory, PROPERTIES)
    assert not lock.path.exists(), "who is kept out touches nothing"
    lock.release()


def test_a_lock_whose_file_was_removed_is_taken_again_and_told_as_before(directory: Path) -> None:
    lock = RunLock(directory, PROPERTIES)
    lock.note_daemon(7)
    lock.path.unlink()
    assert lock.look_after() is None
    assert json.loads(lock.path.read_text()) == {"supervisor": os.getpid(), "properties": str(PROPERTIES), "daemon": 7}
    with pytest.raises(EnvironmentProblem, match=f"pid {os.getpid()}.*already runs"):
        RunLock(directory, PROPERTIES)
    assert lock.look_after() is None
    lock.release()


def test_a_lock_whose_directory_was_removed_is_taken_again(directory: Path) -> None:
    lock = RunLock(directory, PROPERTIES)
    lock.path.unlink()
    directory.rmdir()
    assert lock.look_after() is None
    assert directory.stat().st_mode & 0o777 == 0o700
    with pytest.raises(EnvironmentProblem, match="already runs"):
        RunLock(directory, PROPERTIES)
    lock.release()
    RunLock(directory, PROPERTIES).release()


def test_a_lock_that_another_one_has_taken_meanwhile_is_told_with_its_holder(directory: Path) -> None:
    lock = RunLock(directory, PROPERTIES)
    lock.path.unlink()
    directory.rmdir()
    other = RunLock(directory, PROPERTIES)
    assert lock.look_after() == f"kcl-receiver run (pid {os.getpid()}) already runs this application, with {PROPERTIES}"
    other.release()
    assert lock.look_after() is None
    lock.release()


def test_a_lock_that_cannot_be_made_again_is_an_error_and_may_be_tried_again(directory: Path) -> None:
    lock = RunLock(directory, PROPERTIES)
    lock.path.unlink()
    directory.rmdir()
    directory.write_text("in the way")
    with pytest.raises(EnvironmentProblem, match="cannot be opened"):
        lock.look_after()
    directory.unlink()
    assert lock.look_after() is None
    lock.release()


def test_a_generator_that_a_plain_java_launch_has_left_does_not_keep_a_supervisor_out(directory: Path) -> None:
    generator = GeneratorLock(directory / "generator.sock")
    lock = RunLock(directory, PROPERTIES)
    with pytest.raises(EnvironmentProblem, match="already runs"):
        RunLock(directory, PROPERTIES)
    lock.release()
    generator.release()
