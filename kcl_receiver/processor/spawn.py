"""Starts the generator where no supervisor does: under a plain java launch, one per host and application.

Who gets the lock starts it and hands the lock on, so that of many processors exactly one does. The generator gets a
session of its own, descriptors of its own, and nothing of the processor's: the daemon waits for end of file on a dead
child's stdout and stderr, and whoever held them would hold up the daemon.
"""

from __future__ import annotations

import fcntl
import os
import sys

from kcl_receiver.config.paths import GENERATOR_LOCK, SUPERVISED, private_directory

OUTPUT_NAME = "generator.out"
PAUSE_SECONDS = 5.0
"""Least time between two starts by one processor."""


class Spawner:
    """Starts the generator of one properties file when nobody else has."""

    def __init__(self, properties: str, socket_path: str) -> None:
        self._properties = properties
        self._directory = os.path.dirname(socket_path)
        self._not_before = 0.0
        self._pid: int | None = None

    def start(self, now: float) -> bool:
        """Start the generator, if no process holds its lock and none was started just now.

        Returns:
            Whether it was started.

        Raises:
            OSError: The directory or the lock cannot be made.
        """
        self._reap()
        if os.environ.get(SUPERVISED) or now < self._not_before:
            return False
        private_directory(self._directory)
        lock = os.open(os.path.join(self._directory, GENERATOR_LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            self._not_before = now + PAUSE_SECONDS
            self._pid = self._launch(lock)
        finally:
            os.close(lock)
        return True

    def _launch(self, lock: int) -> int:
        import subprocess  # noqa: PLC0415 - costs 8 ms, and only the first processor of a host comes here

        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        output = os.open(os.path.join(self._directory, OUTPUT_NAME), flags, 0o600)
        try:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "kcl_receiver.cli.main",
                    "generator",
                    "--properties",
                    self._properties,
                    "--lock-fd",
                    str(lock),
                    "--leave-when-idle",
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                close_fds=True,
                pass_fds=(lock,),
                start_new_session=True,
                cwd="/",
            )
        finally:
            os.close(output)
        process.returncode = 0  # it outlives this process on purpose; `_reap` looks after it while both live
        return process.pid

    def _reap(self) -> None:
        if self._pid is not None and os.waitpid(self._pid, os.WNOHANG)[0]:
            self._pid = None
