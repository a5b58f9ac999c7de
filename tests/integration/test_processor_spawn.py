"""Without a supervisor the first processor starts the generator, and the generator holds nothing of it."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from processor_process import PATIENCE, Landing, initialize, record, records, status

from kcl_receiver.config.paths import GENERATOR_LOCK, SUPERVISED
from kcl_receiver.errors import EXIT_ENVIRONMENT
from kcl_receiver.processor.main import generator_log
from kcl_receiver.processor.spawn import OUTPUT_NAME, PAUSE_SECONDS, Spawner

STUB = """#!{python}
import json, os, signal, sys
known = {{}}
for number in os.listdir("/proc/self/fd"):
    try:
        known[int(number)] = os.readlink("/proc/self/fd/" + number)
    except FileNotFoundError:
        pass
print("this goes to the generator's own file", flush=True)
about = {{"pid": os.getpid(), "session": os.getsid(0), "directory": os.getcwd()}}
about.update(arguments=sys.argv[1:], fds=known)
path = os.path.join({made!r}, str(os.getpid()))
with open(path + ".new", "w") as file:
    json.dump(about, file)
os.rename(path + ".new", path)
signal.pause()
"""

PROCESSOR = "import sys; sys.executable = {stub!r}; from kcl_receiver.processor.main import main; main()"
ONE_START = """
import sys
from kcl_receiver.processor.runtime import boot_clock
from kcl_receiver.processor.spawn import Spawner
sys.executable = sys.argv[1]
spawner = Spawner(sys.argv[2], sys.argv[3])
sys.stdin.readline()
print(spawner.start(boot_clock()), flush=True)
sys.stdin.readline()
"""


class Stubs:
    """A program in the place of the generator, which says what it was given and stays."""

    def __init__(self, base: Path) -> None:
        self.made = base / "made"
        self.made.mkdir()
        self.path = base / "stub"
        self.path.write_text(STUB.format(python=sys.executable, made=str(self.made)))
        self.path.chmod(self.path.stat().st_mode | stat.S_IXUSR)

    def running(self) -> list[int]:
        return [int(one.name) for one in self.made.iterdir() if one.name.isdigit()]

    def wait(self) -> dict[str, object]:
        """Return what the first stub says of itself."""
        until = time.monotonic() + PATIENCE
        while not self.running():
            assert time.monotonic() < until, "no generator was started"
            time.sleep(0.01)
        found: dict[str, object] = json.loads((self.made / str(self.running()[0])).read_text())
        return found

    def kill(self) -> None:
        for pid in self.running():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            (self.made / str(pid)).unlink()


@pytest.fixture
def stubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubs]:
    monkeypatch.delenv(SUPERVISED, raising=False)
    made = Stubs(tmp_path)
    yield made
    made.kill()


@pytest.fixture
def landing(tmp_path: Path) -> Iterator[Landing]:
    made = Landing(tmp_path)
    yield made
    made.close()


@pytest.fixture
def spawner(landing: Landing, stubs: Stubs, monkeypatch: pytest.MonkeyPatch) -> Spawner:
    monkeypatch.setattr(sys, "executable", str(stubs.path))
    return Spawner(str(landing.properties), str(landing.socket))


def test_the_generator_is_started_with_the_same_properties_and_the_lock(
    spawner: Spawner, stubs: Stubs, landing: Landing
) -> None:
    assert spawner.start(100.0)
    arguments = stubs.wait()["arguments"]
    assert isinstance(arguments, list)
    assert arguments[:5] == ["-m", "kcl_receiver.cli.main", "generator", "--properties", str(landing.properties)]
    assert arguments[5] == "--lock-fd"
    assert int(arguments[6]) > 2
    assert arguments[7:] == ["--leave-when-idle"]


def test_the_generator_is_in_a_session_of_its_own_and_away_from_the_working_directory(
    spawner: Spawner, stubs: Stubs
) -> None:
    spawner.start(100.0)
    about = stubs.wait()
    assert about["session"] == about["pid"]
    assert about["directory"] == "/"


def test_the_generator_holds_no_descriptor_of_the_processor(spawner: Spawner, stubs: Stubs, landing: Landing) -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    own = os.dup(0)
    os.dup2(writing, 0)
    try:
        spawner.start(100.0)
        about = stubs.wait()
    finally:
        os.dup2(own, 0)
        os.close(own)
        os.close(writing)
    ready, _, _ = select.select([reading], [], [], PATIENCE)
    assert ready
    assert os.read(reading, 1) == b""
    os.close(reading)
    output = str(landing.socket.parent / OUTPUT_NAME)
    lock = str(landing.socket.parent / GENERATOR_LOCK)
    held = about["fds"]
    assert isinstance(held, dict)
    known = {int(number): place for number, place in held.items() if not place.startswith("/proc/")}
    assert {number: known.pop(number) for number in (0, 1, 2)} == {0: "/dev/null", 1: output, 2: output}
    assert list(known.values()) == [lock]


def test_what_the_generator_prints_goes_to_a_file_of_this_user_alone(
    spawner: Spawner, stubs: Stubs, landing: Landing
) -> None:
    spawner.start(100.0)
    stubs.wait()
    output = landing.socket.parent / OUTPUT_NAME
    assert output.read_text() == "this goes to the generator's own file\n"
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert stat.S_IMODE((landing.socket.parent / GENERATOR_LOCK).stat().st_mode) == 0o600
    assert stat.S_IMODE(landing.socket.parent.stat().st_mode) == 0o700


def test_while_a_generator_lives_no_other_is_started(spawner: Spawner, stubs: Stubs, landing: Landing) -> None:
    assert spawner.start(100.0)
    stubs.wait()
    assert not Spawner(str(landing.properties), str(landing.socket)).start(100.0)
    assert not spawner.start(100.0 + 2 * PAUSE_SECONDS)
    assert len(stubs.running()) == 1


def test_a_generator_that_died_is_started_again_after_a_pause(spawner: Spawner, stubs: Stubs, landing: Landing) -> None:
    assert spawner.start(100.0)
    pid = stubs.wait()["pid"]
    assert isinstance(pid, int)
    stubs.kill()
    with (landing.socket.parent / GENERATOR_LOCK).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
    assert not spawner.start(100.0 + PAUSE_SECONDS - 0.1)
    assert stubs.running() == []
    assert spawner.start(100.0 + PAUSE_SECONDS)
    assert stubs.wait()["pid"] != pid


def test_a_dead_generator_is_not_left_as_a_zombie(spawner: Spawner, stubs: Stubs) -> None:
    spawner.start(100.0)
    pid = stubs.wait()["pid"]
    assert isinstance(pid, int)
    stubs.kill()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    spawner.start(100.0)
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def test_under_a_supervisor_nothing_is_started(
    spawner: Spawner, stubs: Stubs, landing: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SUPERVISED, "1")
    assert not spawner.start(100.0)
    assert not landing.socket.parent.exists()


def test_of_many_processors_exactly_one_starts_the_generator(stubs: Stubs, landing: Landing) -> None:
    command = [sys.executable, "-c", ONE_START, str(stubs.path), str(landing.properties), str(landing.socket)]
    racing = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) for _ in range(6)
    ]
    try:
        for one in racing:
            assert one.stdin is not None
            one.stdin.write("go\n")
        said = [one.stdout.readline().strip() for one in racing if one.stdout is not None]
    finally:
        for one in racing:
            one.communicate("done\n", timeout=PATIENCE)
    assert sorted(said) == ["False"] * 5 + ["True"]
    stubs.wait()
    assert len(stubs.running()) == 1


def test_a_processor_that_started_the_generator_can_be_killed_and_its_pipes_close(
    landing: Landing, stubs: Stubs
) -> None:
    landing.write(**{"receiver.generatorTimeoutMillis": "600000"})
    processor = landing.processor(
        command=[sys.executable, "-c", PROCESSOR.format(stub=str(stubs.path))], supervised=False
    )
    processor.say(initialize())
    assert processor.hear() == status("initialize")
    stubs.wait()
    processor.signal(signal.SIGKILL)
    assert processor.leave() == (-signal.SIGKILL, b"", "")
    (pid,) = stubs.running()
    os.kill(pid, 0)


def test_the_generator_finds_properties_that_were_named_by_a_relative_path(
    landing: Landing, stubs: Stubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = landing.properties.parent
    monkeypatch.chdir(base.parent)
    landing.properties = Path(base.name) / "landing.properties"
    processor = landing.processor(
        command=[sys.executable, "-c", PROCESSOR.format(stub=str(stubs.path))], supervised=False
    )
    processor.say(initialize())
    processor.hear()
    arguments = stubs.wait()["arguments"]
    assert isinstance(arguments, list)
    assert arguments[4] == str(base / "landing.properties")


def test_a_processor_under_a_supervisor_starts_none(landing: Landing, stubs: Stubs) -> None:
    landing.write(**{"receiver.generatorTimeoutMillis": "200"})
    processor = landing.processor(command=[sys.executable, "-c", PROCESSOR.format(stub=str(stubs.path))])
    processor.say(initialize())
    processor.hear()
    processor.say(records(record(1)))
    assert processor.leave()[0] == EXIT_ENVIRONMENT
    assert not (landing.socket.parent / GENERATOR_LOCK).exists()


def test_a_directory_that_others_could_write_to_is_complained_of_once(landing: Landing, stubs: Stubs) -> None:
    landing.write(**{"receiver.generatorTimeoutMillis": "500"})
    landing.socket.parent.mkdir()
    landing.socket.parent.chmod(0o777)
    processor = landing.processor(
        command=[sys.executable, "-c", PROCESSOR.format(stub=str(stubs.path))], supervised=False
    )
    processor.say(initialize())
    processor.hear()
    processor.say(records(record(1)))
    code, _, err = processor.leave()
    assert code == EXIT_ENVIRONMENT
    complaint, last = err.splitlines()
    assert str(landing.socket.parent) in complaint
    assert "GeneratorUnavailable" in last


def test_a_generator_that_cannot_read_its_properties_says_so_where_the_processor_points_to(
    landing: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SUPERVISED, raising=False)
    landing.write(**{"receiver.generatorTimeoutMillis": "500", "receiver.windowBytes": "lots"})
    processor = landing.processor(supervised=False)
    processor.say(initialize())
    processor.hear()
    processor.say(records(record(1)))
    code, _, err = processor.leave()
    assert code == EXIT_ENVIRONMENT
    log = landing.socket.parent / OUTPUT_NAME
    assert f"see why in {log}" in err
    until = time.monotonic() + PATIENCE
    while f"ConfigError: {landing.properties}: " not in log.read_text():
        assert time.monotonic() < until, "the generator left no word"
        time.sleep(0.05)


def test_under_a_supervisor_a_processor_points_to_its_log(landing: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    assert generator_log("/run/x/generator.sock") == "/run/x/generator.out"
    monkeypatch.setenv(SUPERVISED, "/var/log/x/generator.log")
    assert generator_log("/run/x/generator.sock") == "/var/log/x/generator.log"
