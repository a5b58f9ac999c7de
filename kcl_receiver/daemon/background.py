"""A command that runs now and then beside the receiver, and never harms it.

One at a time, the next one a fixed pause after the end of the last. A failure is told and tried again; it ends nothing
else. At a stop it gets SIGTERM at once, and nobody waits for it: what is left at the end is killed, which the command
must bear. It dies with the supervisor, like the other children.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kcl_receiver.daemon import launch
from kcl_receiver.daemon.logs import LogFile
from kcl_receiver.daemon.supervision import describe
from kcl_receiver.errors import EnvironmentProblem


@dataclass(frozen=True)
class Task:
    """What to run now and then.

    Attributes:
        name: What messages call it.
        command: Returns the command line of a run; it is given the number of runs before it that ended well.
        environment: The environment.
        log: Where its output goes.
        first_seconds: Pause before the first run.
        pause_seconds: Pause before each later one.
    """

    name: str
    command: Callable[[int], Sequence[str]]
    environment: Mapping[str, str]
    log: LogFile
    first_seconds: float = 60.0
    pause_seconds: float = 600.0


class Background:
    """The state of one task.

    Args:
        task: The task.
        tell: Called with each message for the user.
        now: The time in seconds, on a clock that does not go back.
    """

    def __init__(self, task: Task, tell: Callable[[str], None], now: float) -> None:
        self._task = task
        self._tell = tell
        self._process: subprocess.Popen[bytes] | None = None
        self._due: float | None = now + task.first_seconds
        self._succeeded = 0
        self._stopped = False

    def deadline(self) -> float | None:
        """Return when `tick` has something to do next, or None."""
        return self._due

    def tick(self, now: float) -> None:
        """Start a run if one is due."""
        if self._due is None or now < self._due:
            return
        command = [
            *(sys.executable, "-I", "-S", str(Path(launch.__file__))),
            *(str(os.getpid()), str(int(signal.SIGKILL))),
            *self._task.command(self._succeeded),
        ]
        try:
            with self._task.log.open() as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    env=dict(self._task.environment),
                )
        except (OSError, EnvironmentProblem) as error:
            self._tell(f"{self._task.name} cannot be started: {error}; the receiver goes on without it")
            self._due = now + self._task.pause_seconds
        else:
            self._due = None

    def reaped(self, pid: int, status: int, now: float) -> bool:
        """Note that a process was reaped; return whether it was this one."""
        if self._process is None or self._process.pid != pid:
            return False
        code = self._process.returncode = os.waitstatus_to_exitcode(status)
        self._process = None
        if self._stopped:
            return True
        self._due = now + self._task.pause_seconds
        if code == 0:
            self._succeeded += 1
        else:
            words = self._task.log.last_line() if code > 0 else ""
            said = f"{self._task.name} ended with {describe(code)}" + (f": {words}" if words else "")
            self._tell(f"{said}; next run in {self._task.pause_seconds:.0f} s, and the receiver goes on without it")
        return True

    def stop(self) -> None:
        """Start no more, and ask a run to end. Repeatable; it is asked once."""
        if not self._stopped:
            self._stopped = True
            self._due = None
            if self._process is not None:
                # Ended or not, it is not reaped yet, so that its pid is nobody else's.
                os.kill(self._process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Leave nobody behind."""
        self._due = None
        self._stopped = True
        if self._process is not None:
            with suppress(ProcessLookupError):  # it may not have come to lead a group yet
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()
            self._process.wait()
            self._process = None
