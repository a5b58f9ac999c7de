"""A process of a contestant, and what it cost: CPU by wait4, and peak memory.

The CPU time of a process's whole life comes from wait4. What it had used when the clock was started (loading
libraries, mostly) is read from its CPU clock at that moment and shown apart: in a process that runs for weeks it
vanishes, and in a run of seconds it would drown the rest. Peak memory is VmHWM of /proc, read just before the process
is let go: ru_maxrss is useless here, since after a fork it begins with the memory of the benchmark itself, which holds
all the lines.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

END_SECONDS = 60.0
"""How long a process may take to end by itself."""


class ProcessFailed(Exception):
    """A process of a contestant did not do its part; the run has no figures."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one process used.

    Attributes:
        role: What the process is, `processor` or `generator`.
        cpu: Seconds of CPU from the start of the clock to its end.
        start_cpu: Seconds of CPU before the clock was started.
        peak: Most memory resident at a time, in bytes.
    """

    role: str
    cpu: float
    start_cpu: float
    peak: int

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)


class Process:
    """A started process.

    Args:
        role: See `Cost`.
        arguments: The command.
        log: File for its stderr; and for its stdout, if it is not spoken with.
        environment: Variables besides those of the benchmark.
        spoken_with: Give it pipes for stdin and stdout, as the daemon does. Their size is the system's default: Java
            leaves it so.
    """

    def __init__(
        self,
        role: str,
        arguments: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        *,
        spoken_with: bool = False,
    ) -> None:
        self.role = role
        self.log = log
        self.started = time.monotonic()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                list(arguments),
                stdin=subprocess.PIPE if spoken_with else subprocess.DEVNULL,
                stdout=subprocess.PIPE if spoken_with else output,
                stderr=output,
                env={**os.environ, **(environment or {})},
                bufsize=0,
            )
        self.pid = self._process.pid
        self._start_cpu = 0.0
        self._peak = 0
        self._cost: Cost | None = None

    @property
    def stdin(self) -> int:
        """Descriptor that writes to its stdin."""
        pipe = self._process.stdin
        if pipe is None:
            raise ValueError("this process is not spoken with")
        return pipe.fileno()

    @property
    def stdout(self) -> int:
        """Descriptor that reads from its stdout."""
        pipe = self._process.stdout
        if pipe is None:
            raise ValueError("this process is not spoken with")
        return pipe.fileno()

    def cpu(self) -> float:
        """Return the seconds of CPU that it has used so far, all threads, to the nanosecond."""
        return time.clock_gettime((~self.pid << 3) | 2)  # clock_getcpuclockid(3), of Linux: CPUCLOCK_SCHED

    def start_clock(self) -> None:
        """From here on its CPU time counts."""
        self._start_cpu = self.cpu()

    def memory(self, word: str) -> int:
        """Return `VmRSS` or `VmHWM` of /proc/PID/status, or `Pss` of smaps_rollup, in bytes."""
        file = "smaps_rollup" if word == "Pss" else "status"
        for line in Path(f"/proc/{self.pid}/{file}").read_text(encoding="utf-8").splitlines():
            if line.startswith(word + ":"):
                return int(line.split()[1]) * 1024
        raise ProcessFailed(f"{self.role} {self.pid} has no {word}: it ended; see {self.log}: {self.said()}")

    def note_peak(self) -> None:
        """Note its peak memory; to be called while it lives."""
        self._peak = max(self._peak, self.memory("VmHWM"))

    def hang_up(self) -> None:
        """Close the daemon's ends of its pipes."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def terminate(self) -> None:
        """Send SIGTERM."""
        if self._cost is None:
            os.kill(self.pid, signal.SIGTERM)

    def wait(self, allowed: Sequence[int] = (0,)) -> Cost:
        """Wait for its end and return what it cost.

        Raises:
            ProcessFailed: It does not end, or ends with another code than those allowed.
        """
        if self._cost is not None:
            return self._cost
        watch = os.pidfd_open(self.pid)
        try:
            ended = bool(select.select([watch], [], [], END_SECONDS)[0])
        finally:
            os.close(watch)
        if not ended:
            self.kill()
            raise ProcessFailed(f"{self.role} {self.pid} did not end in {END_SECONDS:g} s: {self.said()}")
        return self._reap(allowed)

    def kill(self) -> None:
        """End it now, whatever it does; harmless if it has ended."""
        self.hang_up()
        if self._cost is None:
            os.kill(self.pid, signal.SIGKILL)
            self._reap(None)

    def said(self) -> str:
        """Return the end of what it logged."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-2000:]

    def _reap(self, allowed: Sequence[int] | None) -> Cost:
        _, status, used = os.wait4(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        self._process.returncode = code  # Popen did not wait itself, and must not try to
        whole = used.ru_utime + used.ru_stime
        self._cost = Cost(self.role, max(whole - self._start_cpu, 0.0), self._start_cpu, self._peak)
        if allowed is not None and code not in allowed:
            raise ProcessFailed(f"{self.role} {self.pid} ended with {code}: {self.said()}")
        return self._cost
