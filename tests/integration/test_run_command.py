"""`kcl-receiver run` as a user starts it: real settings, the emulator, the real generator, and a java that reports."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import javaproperties
import pytest

from kcl_receiver.emulator.server import Emulator

PATIENCE = 60.0

FAKE_JAVA = f"""#!{sys.executable}
import json, os, signal, socket, sys
if sys.argv[-1] == "-version":
    sys.exit('openjdk version "21"' and os.write(2, b'openjdk version "21.0.1"') and 0)
channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
channel.connect(os.environ["FAKE_JAVA_REPORTS"])
signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGTERM}})
channel.send(json.dumps({{"pid": os.getpid(), "arguments": sys.argv[1:], "path": os.environ["PATH"]}}).encode())
signal.sigwait({{signal.SIGTERM}})
sys.exit(143)
"""


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        running.client("kinesis").create_stream(StreamName="orders", ShardCount=1)
        yield running


class Rig:
    def __init__(self, directory: Path, url: str) -> None:
        self.directory = directory
        self.java = directory / "java"
        self.java.write_text(FAKE_JAVA)
        self.java.chmod(0o755)
        self.reports = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.reports.bind(str(directory / "reports"))
        self.reports.settimeout(PATIENCE)
        self.processes: list[subprocess.Popen[str]] = []
        self.keys = {
            "applicationName": "landing",
            "streamName": "orders",
            "regionName": "us-east-1",
            "kinesisEndpoint": url,
            "dynamoDBEndpoint": url,
            "metricsLevel": "NONE",
            "AwsCredentialsProvider": "DefaultCredentialsProvider",
            "executableName": "kcl-receiver-processor --properties x.properties",
            "receiver.store": f"file://{directory}/store",
            "receiver.socket": "run/s",
            "receiver.logDirectory": "log",
            "initialPositionInStream": "TRIM_HORIZON",
            "retrievalMode": "POLLING",
            "callProcessRecordsEvenForEmptyRecordList": "true",
            "shutdownGraceMillis": "20000",
        }

    def run(self, **changes: str | None) -> subprocess.Popen[str]:
        keys = self.keys | {key.replace("_", "."): value for key, value in changes.items()}
        file = self.directory / "x.properties"
        file.write_text("".join(f"{key} = {value}\n" for key, value in keys.items() if value is not None))
        process = subprocess.Popen(
            [sys.executable, "-m", "kcl_receiver.cli.main", "run", "-p", str(file), "--java", str(self.java)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"FAKE_JAVA_REPORTS": str(self.directory / "reports")},
        )
        self.processes.append(process)
        return process

    def java_started(self) -> dict[str, Any]:
        return dict(json.loads(self.reports.recv(65536)))

    def stop(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        process.send_signal(signal.SIGTERM)
        return self.end(process)

    def end(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        out, err = process.communicate(timeout=PATIENCE)
        assert out == ""
        return process.returncode, err

    def effective(self) -> dict[str, str]:
        return dict(javaproperties.loads((self.directory / "run" / "daemon.properties").read_bytes()))


@pytest.fixture
def rig(emulator: Emulator) -> Iterator[Rig]:
    with tempfile.TemporaryDirectory(prefix="kr-") as directory:
        rig = Rig(Path(directory), emulator.url)
        yield rig
        for process in rig.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()
        rig.reports.close()


def test_it_starts_the_generator_and_then_java_on_its_own_properties_and_stops_both(rig: Rig) -> None:
    process = rig.run()
    started = rig.java_started()
    arguments = started["arguments"]
    assert arguments[arguments.index("--properties-file") + 1] == str(rig.directory / "run" / "daemon.properties")
    assert rig.effective()["executableName"] == f"kcl-receiver-processor --properties {rig.directory}/x.properties"
    assert rig.effective()["workerId"]
    assert started["path"].split(":")[0] == str(Path(sys.executable).parent)
    code, err = rig.stop(process)
    assert code == 0
    assert "first start: the first record comes in" in err
    assert "leaves" in (rig.directory / "log" / "generator.log").read_text()
    with pytest.raises(ProcessLookupError):
        os.kill(started["pid"], 0)


def test_latest_is_fixed_at_the_first_start_and_said(rig: Rig) -> None:
    seconds = []
    for _ in range(2):
        process = rig.run(initialPositionInStream="LATEST")
        rig.java_started()
        seconds.append(rig.effective()["initialPositionInStreamExtended"])
        assert "initialPositionInStream" not in rig.effective()
        code, err = rig.stop(process)
        assert code == 0
        assert "LATEST means from" in err
    assert seconds[0] == seconds[1]


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"initialPositionInStream": None}, 2, "initialPositionInStream: is missing"),
        ({"shutdownGraceMillis": None}, 2, "-> shutdownGraceMillis = 30000"),
        ({"receiver_windowBytes": "lots"}, 2, "-> receiver.windowBytes = 32MiB"),
        ({"receiver_store": "file:///proc/none"}, 4, "cannot be written"),
        ({"streamName": "nothing"}, 5, "none of this name"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(
    rig: Rig, changes: dict[str, str | None], code: int, said: str
) -> None:
    exited, err = rig.end(rig.run(**changes))
    assert exited == code
    assert said in err
    assert "started (pid" not in err
    assert not (rig.directory / "run").exists()


def test_an_aws_that_does_not_answer_yet_is_a_warning(rig: Rig) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        process = rig.run(kinesisEndpoint=url, dynamoDBEndpoint=url)
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if "(failing for" in line:
                break
    assert any("warning: stream: " in line for line in said)
    assert "StreamUnavailable: stream orders: " in said[-1], "what the generator waits for is told"
    code, err = rig.stop(process)
    assert "daemon started" not in "".join(said) + err, "java could do nothing yet"
    assert (code, "stopped before anything was read" in err) == (0, True)


def test_a_second_run_of_the_application_is_refused(rig: Rig) -> None:
    first = rig.run()
    rig.java_started()
    code, err = rig.end(rig.run())
    assert code == 3
    assert f"EnvironmentProblem: kcl-receiver run (pid {first.pid}) already runs this application" in err
    assert rig.stop(first)[0] == 0


@pytest.mark.parametrize("what", ["its files", "its directory"])
def test_java_starts_again_though_all_that_lies_beside_the_socket_was_removed(rig: Rig, what: str) -> None:
    process = rig.run()
    first = rig.java_started()
    before = rig.effective()
    run = rig.directory / "run"
    if what == "its directory":
        shutil.rmtree(run)
    else:
        for file in run.iterdir():
            file.unlink()
    os.kill(first["pid"], signal.SIGKILL)
    second = rig.java_started()
    assert second["pid"] != first["pid"]
    assert rig.effective() == before
    code, err = rig.stop(process)
    assert code == 0
    assert "generator exited" not in err


def test_warnings_of_the_check_keep_their_hints(rig: Rig) -> None:
    process = rig.run(metricsLevel=None)
    rig.java_started()
    code, err = rig.stop(process)
    assert code == 0
    assert "-> metricsLevel = NONE" in err


def test_every_line_begins_with_the_time_in_utc(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    before = datetime.now(timezone.utc)
    process = rig.run()
    rig.java_started()
    _, err = rig.stop(process)
    log = (rig.directory / "log" / "generator.log").read_text()
    after = datetime.now(timezone.utc)
    for line in [*err.splitlines(), *log.splitlines()]:
        stamp = re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ", line)
        assert stamp, line
        assert before <= datetime.fromisoformat(stamp[0].strip().replace("Z", "+00:00")) + timedelta(milliseconds=1)
        assert datetime.fromisoformat(stamp[0].strip().replace("Z", "+00:00")) <= after


def test_a_java_that_is_gone_is_told_with_the_reason_at_each_try(rig: Rig) -> None:
    process = rig.run()
    java = rig.java_started()
    rig.java.unlink()
    os.kill(java["pid"], signal.SIGKILL)
    assert process.stderr is not None
    for line in process.stderr:
        if "daemon exited unexpectedly (exit code 1)" in line:
            break
    assert "FileNotFoundError: [Errno 2] No such file or directory; restarting in" in line
    code, err = rig.stop(process)
    assert code == 0
    assert "stopped cleanly" not in err
