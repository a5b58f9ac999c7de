"""The embedded AWS as a process of its own, which can be killed and started again where it was."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from faults.broken import Broken
from kcl_receiver.emulator.server import ACCESS_KEY, REGION, SECRET_KEY

START_SECONDS = 60.0


class CloudProcess:
    """`kcl-receiver emulator --dir`, on the same port at every start.

    Args:
        directory: Where it keeps its state and its log.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True)
        self.port = 0
        self._process: subprocess.Popen[str] | None = None
        self.start()

    @property
    def url(self) -> str:
        """The endpoint for every service."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables with which clients reach it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
        }

    def client(self, service: str) -> Any:  # noqa: ANN401 - boto3
        """Return a boto3 client that gives up soon, because this AWS goes away on purpose."""
        import boto3
        from botocore.config import Config

        session = boto3.session.Session(ACCESS_KEY, SECRET_KEY, region_name=REGION)
        patience = Config(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 1})
        return session.client(service, endpoint_url=self.url, config=patience)

    def start(self) -> None:
        """Start it, and return once it answers."""
        command = [sys.executable, "-m", "kcl_receiver.cli.main", "emulator", "--port", str(self.port)]
        with (self.directory / "emulator.log").open("ab") as log:
            process = subprocess.Popen(
                [*command, "--dir", str(self.directory / "state")],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self._process = process
        assert process.stdout is not None
        said = process.stdout.readline()
        if not said.startswith("http://"):
            raise Broken(f"the emulator did not start; see {self.directory / 'emulator.log'}")
        self.port = int(said.rsplit(":", 1)[1])

    def kill(self) -> None:
        """Kill it as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None

    def set_faults(self, **faults: object) -> None:
        """Switch faults, in the form of the control endpoint: docs/emulator.md."""
        self._post("faults", faults)

    def configure(self, **settings: object) -> None:
        """Change settings of Kinesis, in the form of the control endpoint."""
        self._post("settings", settings)

    def _post(self, what: str, body: dict[str, object]) -> None:
        request = urllib.request.Request(f"{self.url}/_emulator/{what}", json.dumps(body).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=START_SECONDS) as answer:
            answer.read()

    def wait_answering(self) -> None:
        """Wait until it answers; it does, after `start`."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/_emulator/health", timeout=START_SECONDS):
                    return
            except OSError as error:
                if time.monotonic() > deadline:
                    raise Broken(f"the emulator does not answer: {error}") from error
                time.sleep(0.05)
