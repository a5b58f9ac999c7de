"""A supervisor, real processes and real signals; the generator and java are small scripts that report over a socket."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kcl_receiver.daemon.lock import RunLock

HERE = Path(__file__).parent
PATIENCE = 30.0


class Rig:
    """One supervisor and what its children report."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.reports = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.reports.bind(str(directory / "reports"))
        self.reports.settimeout(PATIENCE)
        self.started: list[subprocess.Popen[str]] = []
        self.pidfds: dict[int, int] = {}

    def start(
        self, generator: str = "", daemon: str = "", grace: float = 20.0, task: str | None = None, pause: float = 0.0
    ) -> subprocess.Popen[str]:
        commands = [
            json.dumps(
                [
                    *(sys.executable, str(HERE / "fake_child.py"), role, str(self.directory / "reports")),
                    *(str(self.directory / "run" / "generator.sock"), *behaviours.split()),
                ]
            )
            for role, behaviours in (("generator", generator), ("daemon", daemon), ("compaction", task))
            if behaviours is not None
        ]
        more = [str(pause)] if task is not None else []
        process = subprocess.Popen(
            [sys.executable, str(HERE / "supervised.py"), str(self.directory), str(grace), *commands, *more],
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def expect(self, role: str, event: str) -> dict[str, Any]:
        report = dict(json.loads(self.reports.recv(65536)))
        for pid in (report["pid"], report.get("child")):
            if pid and pid not in self.pidfds:
                try:
                    # A handle and no number: a pid can be another process's by the time the test ends.
                    self.pidfds[pid] = os.pidfd_open(pid)
                except ProcessLookupError:
                    continue
        assert (report["role"], report["event"]) == (role, event)
        return report

    def up(self) -> tuple[int, int]:
        return int(self.expect("generator", "started")["pid"]), int(self.expect("daemon", "started")["pid"])

    def end(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        _, err = process.communicate(timeout=PATIENCE)
        return process.returncode, err

    def assert_gone(self) -> None:
        for pid in self.pidfds:
            self.await_end(pid)

    def await_end(self, pid: int) -> None:
        assert select.select([self.pidfds[pid]], [], [], PATIENCE)[0], f"{pid} still lives"

    def close(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait()
            assert process.stderr is not None
            process.stderr.close()
        for descriptor in self.pidfds.values():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            os.close(descriptor)
        self.reports.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    # Not pytest's directory: a socket's path has to be short.
    with tempfile.TemporaryDirectory(prefix="kr-") as directory:
        rig = Rig(Path(directory))
        yield rig
        rig.close()


def test_the_first_sigterm_drains_both_and_exits_with_0(rig: Rig) -> None:
    process = rig.start()
    rig.up()
    process.send_signal(signal.SIGTERM)
    reported = {rig.reports.recv(65536) for _ in range(2)}
    assert {json.loads(each)["event"] for each in reported} == {"SIGTERM"}
    assert {json.loads(each)["role"] for each in reported} == {"generator", "daemon"}
    code, err = rig.end(process)
    assert code == 0
    assert "stopping: draining for 20 s at most" in err
    rig.assert_gone()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_is_ignored_when_it_starts_stays_ignored(rig: Rig, number: int) -> None:
    before = signal.signal(number, signal.SIG_IGN)  # as under nohup, or with `&` in a script
    process = rig.start()
    signal.signal(number, before)
    _, daemon = rig.up()
    process.send_signal(number)
    os.kill(daemon, signal.SIGKILL)
    rig.expect("daemon", "started")  # it would end it otherwise, and start no other
    process.send_signal(signal.SIGTERM)
    assert rig.end(process)[0] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_and_a_closed_terminal_drain_as_well(rig: Rig, number: signal.Signals) -> None:
    process = rig.start()
    rig.up()
    process.send_signal(number)
    assert rig.end(process)[0] == 0
    rig.assert_gone()


def test_the_second_signal_kills_both_and_what_java_has_started(rig: Rig) -> None:
    process = rig.start(generator="deaf", daemon="deaf parent")
    rig.up()
    process.send_signal(signal.SIGTERM)
    rig.reports.recv(65536)
    rig.reports.recv(65536)
    process.send_signal(signal.SIGINT)
    code, err = rig.end(process)
    assert code == 130
    assert "ended at once" in err
    rig.assert_gone()


def test_a_java_that_does_not_end_in_time_is_killed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    process = rig.start(daemon="deaf parent", grace=-14.5)
    rig.up()
    process.send_signal(signal.SIGTERM)
    code, err = rig.end(process)
    assert code == 1
    assert "daemon did not end in time and is killed" in err
    rig.assert_gone()


def test_a_java_that_crashes_is_started_again_after_a_pause(rig: Rig) -> None:
    process = rig.start(daemon="crash-once")
    rig.expect("generator", "started")
    first, second = rig.expect("daemon", "started")["pid"], rig.expect("daemon", "started")["pid"]
    assert first != second
    process.send_signal(signal.SIGTERM)
    code, err = rig.end(process)
    assert code == 0
    assert "daemon exited unexpectedly (exit code 1): daemon fails; restarting in" in err
    rig.assert_gone()


def test_a_killed_generator_is_started_again_and_java_lives_on(rig: Rig) -> None:
    process = rig.start()
    generator, _ = rig.up()
    os.kill(generator, signal.SIGKILL)
    assert rig.expect("generator", "started")["pid"] != generator
    process.send_signal(signal.SIGTERM)
    code, err = rig.end(process)
    assert code == 0
    assert "generator exited unexpectedly (SIGKILL)" in err
    assert err.count("daemon started") == 1
    rig.assert_gone()


def test_wrong_settings_end_all_with_the_generators_code(rig: Rig) -> None:
    process = rig.start(generator="exit=2")
    rig.expect("generator", "started")
    code, err = rig.end(process)
    assert code == 2
    assert "generator fails; it would fail again, so everything stops" in err


def test_an_error_of_the_supervisor_itself_leaves_nobody_behind(rig: Rig) -> None:
    (rig.directory / "log" / "daemon.log").mkdir(parents=True)
    process = rig.start(generator="deaf")
    rig.expect("generator", "started")
    code, err = rig.end(process)
    assert code == 3
    assert "daemon.log cannot be written: Is a directory" in err
    rig.assert_gone()


def test_kill_9_of_the_supervisor_kills_java_and_drains_the_generator(rig: Rig) -> None:
    process = rig.start(daemon="deaf")
    _, daemon = rig.up()
    process.kill()
    rig.expect("generator", "SIGTERM")
    rig.await_end(daemon)
    rig.assert_gone()


def test_a_second_supervisor_is_refused_and_told_who_holds_the_lock(rig: Rig) -> None:
    process = rig.start()
    rig.up()
    second = rig.start()
    code, err = rig.end(second)
    assert code == 3
    assert f"kcl-receiver run (pid {process.pid}) already runs this application" in err
    assert f"kill {process.pid}" in err
    process.send_signal(signal.SIGTERM)
    assert rig.end(process)[0] == 0


def test_the_next_supervisor_starts_as_soon_as_the_first_has_ended(rig: Rig) -> None:
    for _ in range(2):
        process = rig.start()
        rig.up()
        process.send_signal(signal.SIGTERM)
        for _ in range(2):
            rig.reports.recv(65536)
        assert rig.end(process)[0] == 0


def test_children_have_sessions_of_their_own_and_java_alone_inherits_the_lock(rig: Rig) -> None:
    process = rig.start()
    generator, daemon = rig.expect("generator", "started"), rig.expect("daemon", "started")
    assert len({generator["session"], daemon["session"], os.getsid(process.pid)}) == 3
    lock = str((rig.directory / "run" / "run.lock").resolve())
    assert lock in daemon["open"]
    assert lock not in generator["open"]
    assert os.devnull in daemon["open"]
    assert daemon["path"].split(":")[0] == str(Path(sys.executable).parent)
    process.send_signal(signal.SIGTERM)
    assert rig.end(process)[0] == 0


def test_each_child_has_a_log_of_its_own(rig: Rig) -> None:
    process = rig.start()
    rig.up()
    process.send_signal(signal.SIGTERM)
    rig.end(process)
    for name in ("generator", "daemon"):
        assert (rig.directory / "log" / f"{name}.log").read_text() == f"{name} says hello\n{name} fails\n"


def test_a_closed_stderr_does_not_cut_the_drain_short(rig: Rig) -> None:
    process = rig.start()
    rig.up()
    assert process.stderr is not None
    process.stderr.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    rig.assert_gone()


def test_two_sigterms_at_once_are_one_stop(rig: Rig) -> None:
    process = rig.start(generator="deaf", daemon="deaf", grace=-14.0)
    rig.up()
    process.send_signal(signal.SIGTERM)
    rig.reports.recv(65536)
    process.send_signal(signal.SIGTERM)
    code, err = rig.end(process)
    assert code == 1, "killed because its time was over, and not because of the second signal"
    assert "did not end in time and is killed" in err
    assert "ended at once" not in err


def said(process: subprocess.Popen[str], words: str) -> str:
    """Read what a supervisor says up to the line with these words."""
    assert process.stderr is not None
    lines = ""
    for line in process.stderr:
        lines += line
        if words in line:
            return lines
    raise AssertionError(f"it never said {words!r}: {lines}")


@pytest.mark.parametrize("victim", ["generator", "daemon"])
def test_a_child_that_cannot_be_started_again_for_a_while_ends_nothing_else(rig: Rig, victim: str) -> None:
    process = rig.start()
    pids = dict(zip(("generator", "daemon"), rig.up(), strict=True))
    log = rig.directory / "log" / f"{victim}.log"
    log.unlink()
    log.mkdir()
    os.kill(pids[victim], signal.SIGKILL)
    assert f"{log} cannot be written: Is a directory; restarting in" in said(process, f"{victim} not started")
    log.rmdir()
    assert rig.expect(victim, "started")["pid"] != pids[victim]
    process.send_signal(signal.SIGTERM)
    code, err = rig.end(process)
    assert code == 0
    assert "stopped cleanly" in err
    rig.assert_gone()


def test_a_lock_file_that_is_removed_lets_no_second_supervisor_in(rig: Rig) -> None:
    process = rig.start()
    _, daemon = rig.up()
    lock = rig.directory / "run" / "run.lock"
    lock.unlink()
    assert rig.end(rig.start())[0] == 3
    os.kill(daemon, signal.SIGKILL)
    rig.expect("daemon", "started")
    assert json.loads(lock.read_text())["supervisor"] == process.pid, "made anew before the daemon's start"
    process.send_signal(signal.SIGTERM)
    assert rig.end(process)[0] == 0


def test_a_supervisor_whose_lock_another_one_has_starts_no_daemon_and_stops(rig: Rig) -> None:
    process = rig.start()
    _, daemon = rig.up()
    shutil.rmtree(rig.directory / "run")
    other = RunLock(rig.directory / "run", Path("/x/other.properties"))
    os.kill(daemon, signal.SIGKILL)
    code, err = rig.end(process)
    assert code == 3
    assert (
        f"kcl-receiver run (pid {os.getpid()}) already runs this application, with /x/other.properties; stopping" in err
    )
    assert err.count("daemon started") == 1
    rig.assert_gone()
    other.release()


def test_a_supervisor_whose_lock_another_one_has_stops_though_its_daemon_lives(rig: Rig) -> None:
    process = rig.start()
    rig.up()
    shutil.rmtree(rig.directory / "run")
    other = RunLock(rig.directory / "run", Path("/x/other.properties"))
    code, err = rig.end(process)
    assert code == 3
    assert "two daemons must not share one workerId" in err
    rig.assert_gone()
    other.release()


def test_a_fault_in_the_look_at_the_live_state_is_told_and_ends_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOK_FAILS", "1")
    process = rig.start()
    rig.up()
    said(process, "internal error in the look at the live state (please report this): KeyError: 'leaseKey'")
    process.send_signal(signal.SIGTERM)
    code, err = rig.end(process)
    assert code == 0
    assert "internal error" not in err, "once is enough"


# The task beside them


def all_started(rig: Rig) -> dict[str, int]:
    """Return the pids of the first three children that report, which come in any order."""
    out = {}
    while len(out) < 3:
        report = json.loads(rig.reports.recv(65536))
        out[report["role"]] = int(report["pid"])
        rig.pidfds[report["pid"]] = os.pidfd_open(report["pid"])
    return out


def test_the_task_is_asked_to_end_at_the_first_signal_and_all_goes_well(rig: Rig) -> None:
    process = rig.start(task="")
    all_started(rig)
    process.send_signal(signal.SIGTERM)
    reported = [json.loads(rig.reports.recv(65536)) for _ in range(3)]
    assert {each["role"] for each in reported} == {"generator", "daemon", "compaction"}
    code, err = rig.end(process)
    assert code == 0
    assert "compaction" not in err
    rig.assert_gone()


def test_a_task_that_does_not_end_is_not_waited_for(rig: Rig) -> None:
    process = rig.start(task="deaf parent")
    all_started(rig)
    process.send_signal(signal.SIGTERM)
    assert rig.end(process)[0] == 0
    rig.assert_gone()


def test_a_task_that_fails_is_told_and_run_again_and_harms_nobody(rig: Rig) -> None:
    process = rig.start(task="crash-once")
    reports = [json.loads(rig.reports.recv(65536)) for _ in range(4)]  # each once, and the task again
    assert sorted(each["role"] for each in reports) == ["compaction", "compaction", "daemon", "generator"]
    process.send_signal(signal.SIGTERM)
    code, err = rig.end(process)
    assert code == 0
    assert "compaction ended with exit code 1: compaction fails; next run in 0 s, and the receiver goes on" in err
    assert err.count("generator started") == err.count("daemon started") == 1


def test_a_task_that_cannot_be_started_harms_nobody(rig: Rig) -> None:
    (rig.directory / "log" / "compact.log").mkdir(parents=True)
    process = rig.start(task="", pause=1000)
    rig.up()
    process.send_signal(signal.SIGTERM)
    code, err = rig.end(process)
    assert code == 0
    assert "compaction cannot be started" in err


def test_kill_9_of_the_supervisor_kills_the_task(rig: Rig) -> None:
    process = rig.start(task="deaf")
    pids = all_started(rig)
    process.kill()
    rig.await_end(pids["compaction"])
