from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from kcl_receiver.cli.emulator import emulator
from kcl_receiver.cli.main import run_cli
from kcl_receiver.emulator.server import Emulator
from kcl_receiver.errors import EXIT_ENVIRONMENT

RUN = [sys.executable, "-c", "from kcl_receiver.cli.emulator import emulator; emulator()"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_its_url_when_ready_and_stops_on_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    command = [*RUN, "--port", "0", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            with urllib.request.urlopen(f"{url}/_emulator/health") as response:
                assert json.load(response)["directory"] == str(tmp_path)
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0
    assert out == ""
    for line in (f"export AWS_ENDPOINT_URL={url}", "export AWS_ACCESS_KEY_ID=emulator", "AWS_DEFAULT_REGION=us-east-1"):
        assert line in err


def test_a_port_that_is_taken_is_said_on_stderr_with_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with Emulator() as running:
        assert run_cli(["emulator", "--port", str(running.port)]) == EXIT_ENVIRONMENT
    out, err = capsys.readouterr()
    assert "cannot listen" in err
    assert "Hint: name another port with --port; 0 takes one that is free" in err
    assert out == ""


def test_help_says_what_it_is_and_gives_examples() -> None:
    result = CliRunner().invoke(emulator, ["-h"])
    assert result.exit_code == 0
    assert "Examples:" in result.output
    assert "kcl-receiver emulator --port 0 --dir ./aws" in result.output
