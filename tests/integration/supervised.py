"""Runs a supervisor over fake children: `supervised.py DIRECTORY GRACE GENERATOR DAEMON [TASK PAUSE]`, as JSON."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

from kcl_receiver.cli.run import tell
from kcl_receiver.daemon.background import Task
from kcl_receiver.daemon.daemon_properties import daemon_environment
from kcl_receiver.daemon.lock import RunLock
from kcl_receiver.daemon.logs import LogFile
from kcl_receiver.daemon.supervision import Child
from kcl_receiver.daemon.supervisor import Plan, Supervisor
from kcl_receiver.errors import ReceiverError
from kcl_receiver.status.live import Live


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def fail(_log_from: int) -> Live:
    raise KeyError("leaseKey")


def main() -> int:
    directory = Path(sys.argv[1])
    commands = dict(zip(Child, map(json.loads, sys.argv[3:5]), strict=True))
    task = None
    if len(sys.argv) > 5:
        command = json.loads(sys.argv[5])
        log = LogFile(directory / "log" / "compact.log")
        task = Task(
            "compaction", lambda done: [*command, f"done-{done}"], daemon_environment(), log, 0, float(sys.argv[6])
        )
    plan = Plan(
        commands=commands,
        environments=dict.fromkeys(Child, daemon_environment()),
        logs={child: LogFile(directory / "log" / f"{child.value}.log") for child in Child},
        ready=lambda: answers(directory / "run" / "generator.sock"),
        grace_seconds=float(sys.argv[2]),
        task=task,
        look=fail if os.environ.get("LOOK_FAILS") else None,
    )
    try:
        return Supervisor(plan, RunLock(directory / "run", directory / "x.properties"), tell).run()
    except ReceiverError as error:
        tell(str(error))
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
