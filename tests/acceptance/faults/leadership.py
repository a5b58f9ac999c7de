"""Lets the lock of a dead leader expire at once, as if its 2 minutes had passed.

KCL 3 has one leader, who alone hands out leases that nobody has, such as those of new shards. He holds a lock in the
table of the coordinator's state; when his daemon dies without giving it back (also when it ends because of a dead
child), everybody has to wait until it has not been renewed for 2 minutes, and so has the same worker when it is back
(DynamoDBLockBasedLeaderDecider of KCL 3.1.3; seen: a split right after a kill -9 of java took 120 s until its children
were read, and nothing was lost by it). Rounds would take minutes; so the lock is removed when its holder is dead.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from typing import Any

import psutil
from botocore.exceptions import BotoCoreError, ClientError
from landing import is_gone

from faults.hosts import Host
from kcl_receiver.daemon.lock import LOCK_NAME

LOOK_SECONDS = 0.2
LATE_SECONDS = 1.5
"""From then on a new daemon of the same workerId may hold the lock itself."""


class Leadership:
    """Watches the daemons of some hosts until it is stopped.

    Args:
        dynamodb: boto3 client.
        table: Name of the lease table, after which that of the coordinator's state is called.
        hosts: The hosts.
    """

    def __init__(self, dynamodb: Any, table: str, hosts: Sequence[Host]) -> None:  # noqa: ANN401 - boto3
        self._dynamodb = dynamodb
        self._table = f"{table}-CoordinatorState"
        self._hosts = hosts
        self._daemons: dict[str, psutil.Process] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, name="leadership", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def abandon(self) -> None:
        """End, whatever happened."""
        self._stop.set()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            for host in self._hosts:
                daemon = self._daemons.get(host.worker)
                if daemon is None:
                    if (found := _daemon_of(host)) is not None:
                        self._daemons[host.worker] = found
                elif is_gone(daemon):
                    del self._daemons[host.worker]
                    self._remove(host.worker)

    def _remove(self, worker: str) -> None:
        """Remove the lock if it is this worker's; give up when a new daemon may hold it."""
        deadline = time.monotonic() + LATE_SECONDS
        while time.monotonic() < deadline and not self._stop.is_set():
            try:
                self._dynamodb.delete_item(
                    TableName=self._table,
                    Key={"key": {"S": "Leader"}},
                    ConditionExpression="ownerName = :worker",
                    ExpressionAttributeValues={":worker": {"S": worker}},
                )
            except ClientError as error:
                if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                    return  # another one leads, or nobody
            except BotoCoreError:
                pass  # AWS is away
            else:
                return
            time.sleep(LOOK_SECONDS)


def _daemon_of(host: Host) -> psutil.Process | None:
    """Return a host's daemon as its supervisor has written it down, None if it has none now."""
    try:
        said = json.loads((host.socket.parent / LOCK_NAME).read_text())
        process = psutil.Process(said["daemon"])
    except (OSError, ValueError, KeyError, psutil.NoSuchProcess):
        return None
    return None if is_gone(process) else process
