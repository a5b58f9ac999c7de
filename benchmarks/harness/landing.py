"""An AWS to ask, and the properties of a receiver: what kcl_receiver needs besides its own processes.

The generator asks Kinesis what the stream and its shards are, when a session begins and when a shard ends, and never
while records flow. The emulator that answers is a process of its own, and its CPU is nobody's.
"""

from __future__ import annotations

import atexit
import functools
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import boto3

from benchmarks.harness.process import ProcessFailed

APPLICATION = "benchmark"
REGION = "us-east-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "emulator", "AWS_SECRET_ACCESS_KEY": "emulator"}


class Landing:
    """The emulated AWS, with one stream for each number of shards that was asked for."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kcl_receiver.cli.main", "emulator", "--port", "0"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        output = self._process.stdout
        self.url = output.readline().strip() if output is not None else ""
        if not self.url:
            raise ProcessFailed("the emulator did not start; see what `kcl-receiver emulator` says")
        self._streams: set[str] = set()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def stream(self, shards: int) -> str:
        """Return the name of a stream with so many shards, made if need be."""
        name = f"benchmark-{shards}"
        if name not in self._streams:
            kinesis = boto3.client(
                "kinesis",
                region_name=REGION,
                endpoint_url=self.url,
                aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
                aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            )
            kinesis.create_stream(StreamName=name, ShardCount=shards)
            kinesis.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
            self._streams.add(name)
        return name

    def close(self) -> None:
        """Stop it."""
        self._process.terminate()
        self._process.wait(30)
        if self._process.stdout is not None:
            self._process.stdout.close()


@functools.cache
def landing() -> Landing:
    """Return the one emulator of this process; it is stopped when the process ends."""
    made = Landing()
    atexit.register(made.close)
    return made


def write_properties(directory: Path, shards: int, settings: Mapping[str, str]) -> Path:
    """Write the properties file of a receiver whose store, socket and logs lie in `directory`; return its path.

    Args:
        directory: It is there, and short enough for a socket.
        shards: Number of shards of the stream.
        settings: What differs from a file of the README; by default nothing, so that the defaults are measured.
    """
    aws = landing()
    path = directory / "benchmark.properties"
    lines = {
        "applicationName": APPLICATION,
        "streamName": aws.stream(shards),
        "regionName": REGION,
        "kinesisEndpoint": aws.url,
        "dynamoDBEndpoint": aws.url,
        "AwsCredentialsProvider": "DefaultCredentialsProvider",
        "executableName": f"kcl-receiver-processor --properties {path}",
        "initialPositionInStream": "TRIM_HORIZON",
        "retrievalMode": "POLLING",
        "callProcessRecordsEvenForEmptyRecordList": "true",
        "shutdownGraceMillis": "30000",
        "receiver.store": (directory / "store").as_uri(),
        "receiver.socket": str(directory / "run" / "generator.sock"),
        "receiver.logDirectory": str(directory / "logs"),
        **settings,
    }
    path.write_text("".join(f"{key} = {value}\n" for key, value in lines.items()), encoding="utf-8")
    return path
