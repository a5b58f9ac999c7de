"""Drives the supervision: processes, signals, the clock, and what is seen of the live state.

One thread decides, and sleeps until a child ends, a signal comes or something is due; another one looks at the live
state, which may take long. Children are started through `launch`, so that they die with it, and in sessions of their
own, so that Ctrl-C reaches them only through it.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from kcl_receiver.daemon import launch
from kcl_receiver.daemon.background import Background, Task
from kcl_receiver.daemon.lock import RunLock
from kcl_receiver.daemon.logs import LogFile
from kcl_receiver.daemon.silence import Silence
from kcl_receiver.daemon.supervision import Child, Effect, Leave, Send, Start, Supervision, Tell
from kcl_receiver.daemon.watcher import Watcher
from kcl_receiver.errors import EnvironmentProblem
from kcl_receiver.status.live import Live
from kcl_receiver.stopping import STOP_SIGNALS

PROBE_SECONDS = (0.1, 1.0)
"""Pause between two questions whether the generator is ready, at first and at most; there is no event to wait for."""

LOCK_SECONDS = 5.0
"""How often the lock is looked after."""

ROTATE_SECONDS = 60.0
"""How often the sizes of the logs are looked at."""

_DEATH_SIGNALS = {Child.GENERATOR: signal.SIGTERM, Child.DAEMON: signal.SIGKILL}
"""What a child gets when the supervisor dies. The generator drains: its processors die with java, and it stores what it
has. Java must be gone before the next one starts."""


@dataclass(frozen=True)
class Plan:
    """What to run.

    Attributes:
        commands: The command line of each child.
        environments: The environment of each child.
        logs: The log of each child.
        ready: Asks whether the generator is ready; must not take long.
        grace_seconds: How long the daemon may take to stop.
        task: What runs now and then beside them, or None.
        prepare: Called before each start of the daemon: writes its files anew. Raises EnvironmentProblem.
        look: Looks at the live state, and may take long; given where in its log the daemon's lines begin. Or None.
    """

    commands: Mapping[Child, Sequence[str]]
    environments: Mapping[Child, Mapping[str, str]]
    logs: Mapping[Child, LogFile]
    ready: Callable[[], bool]
    grace_seconds: float
    task: Task | None = None
    prepare: Callable[[], None] = lambda: None
    look: Callable[[int], Live] | None = None


class Supervisor:
    """Runs a plan until it is told to stop, or has to. Belongs to the main thread, because signals do.

    Args:
        plan: What to run.
        lock: The lock that the daemon inherits.
        tell: Called with each message for the user.
    """

    def __init__(self, plan: Plan, lock: RunLock, tell: Callable[[str], None]) -> None:
        self._plan = plan
        self._lock = lock
        self._tell = tell
        self._machine = Supervision(plan.grace_seconds, random.Random().random)  # noqa: S311 - jitter
        self._children: dict[Child, subprocess.Popen[bytes]] = {}
        self._signals: list[int] = []
        self._code: int | None = None
        self._rotate_at = self._lock_at = self._probe_at = 0.0
        self._probe_pause = PROBE_SECONDS[0]
        self._log_from = dict.fromkeys(Child, 0)
        self._silence = Silence()
        self._look_failure = ""
        look = plan.look
        self._watcher = None if look is None else Watcher(lambda: look(self._log_from[Child.DAEMON]))
        self._background = None if plan.task is None else Background(plan.task, tell, time.monotonic())

    def run(self) -> int:
        """Run until all is over; return the exit code. No child is left behind, whatever happens.

        Raises:
            EnvironmentProblem: A child cannot be started, or its log cannot be written.
        """
        with self._wakeup() as wakeup:
            try:
                self._do(self._machine.start(time.monotonic()))
                if self._watcher is not None:
                    self._watcher.start()
                while self._code is None:
                    self._wait(wakeup)
                    self._turn()
                return self._code
            finally:
                self._kill_all()

    def _turn(self) -> None:
        """Look at everything that can have happened."""
        while self._signals and self._code is None:
            self._do(self._machine.signalled(self._signals.pop(0), time.monotonic()))
        for child, code in self._reap():
            if child is Child.DAEMON:
                self._lock.note_daemon(None)
            self._do(self._machine.exited(child, code, time.monotonic(), self._last_words(child, code)))
        if time.monotonic() >= self._lock_at:
            with contextlib.suppress(EnvironmentProblem):  # told before the next start, which cannot do without
                self._look_after_lock()
        if self._is_starting() and time.monotonic() >= self._probe_at:
            self._probe()
        self._do(self._machine.tick(time.monotonic()))
        if self._watcher is not None and not self._machine.stopping:
            self._tell_look(self._watcher)
        if self._background is not None:
            if self._machine.stopping:
                self._background.stop()
            self._background.tick(time.monotonic())
        if time.monotonic() >= self._rotate_at:
            self._rotate_at = time.monotonic() + ROTATE_SECONDS
            self._rotate()

    def _tell_look(self, watcher: Watcher) -> None:
        try:
            live = watcher.taken()
        except Exception as error:  # noqa: BLE001 - who looks must not end what is looked at
            if (failure := f"{type(error).__name__}: {error}") != self._look_failure:
                self._look_failure = failure
                self._tell(f"internal error in the look at the live state (please report this): {failure}")
            return
        if live is not None:
            for message in self._silence.looked(live, time.monotonic()):
                self._tell(message)

    def _do(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Start):
                self._start(effect.child)
            elif isinstance(effect, Send):
                self._send(effect.child, effect.number)
            elif isinstance(effect, Tell):
                self._tell(effect.message)
            elif isinstance(effect, Leave):
                self._code = effect.code

    def _start(self, child: Child) -> None:
        command = [
            *(sys.executable, "-I", "-S", str(Path(launch.__file__))),
            *(str(os.getpid()), str(int(_DEATH_SIGNALS[child]))),
            *self._plan.commands[child],
        ]
        try:
            if child is Child.DAEMON:
                self._look_after_lock()
            if self._machine.stopping:
                # Another one has our lock: two daemons must not run.
                self._do(self._machine.not_started(child, "", time.monotonic()))
                return
            process = self._launch(child, command)
        except EnvironmentProblem as error:
            if self._machine.must_start(child):
                raise
            self._do(self._machine.not_started(child, error.message, time.monotonic()))
            return
        self._machine.started(child)
        self._children[child] = process
        if child is Child.GENERATOR:
            self._probe_at, self._probe_pause = 0.0, PROBE_SECONDS[0]
        else:
            self._lock.note_daemon(process.pid)
        self._tell(f"{child.value} started (pid {process.pid}); log: {self._plan.logs[child].path}")

    def _launch(self, child: Child, command: Sequence[str]) -> subprocess.Popen[bytes]:
        if child is Child.DAEMON:
            self._plan.prepare()  # its file may have been removed since the last start
        log_file = self._plan.logs[child]
        with log_file.open() as log:
            self._log_from[child] = log_file.size()
            try:
                return subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    pass_fds=self._lock.fds if child is Child.DAEMON else (),
                    env=dict(self._plan.environments[child]),
                )
            except OSError as error:
                raise EnvironmentProblem(
                    f"{child.value} cannot be started: {error}", "is memory or pids short?"
                ) from error

    def _look_after_lock(self) -> None:
        """See that the lock is still ours: now and then, and before each start of the daemon.

        Raises:
            EnvironmentProblem: It was removed, and cannot be made again.
        """
        self._lock_at = time.monotonic() + LOCK_SECONDS
        holder = self._lock.look_after()
        if holder is not None:
            self._do(self._machine.displaced(holder, time.monotonic()))

    def _last_words(self, child: Child, code: int) -> str:
        """Return what a child's log says of its end."""
        if code < 0:
            return ""  # killed by a signal, it had no time to say why; its last line would read like a reason
        log = self._plan.logs[child]
        return log.last_error(self._log_from[child]) if child is Child.DAEMON else log.last_line()

    def _probe(self) -> None:
        if self._plan.ready():
            self._do(self._machine.ready(time.monotonic()))
        self._probe_at = time.monotonic() + self._probe_pause
        self._probe_pause = min(PROBE_SECONDS[1], 1.2 * self._probe_pause)

    def _send(self, child: Child, number: int) -> None:
        process = self._children.get(child)
        if process is None:
            return
        # A child that has ended and is not reaped yet keeps its pid, so that this never reaches a stranger.
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(process.pid, number)
            else:
                os.kill(process.pid, number)

    def _reap(self) -> list[tuple[Child, int]]:
        """Collect every child that has ended; as process 1 of a container, the orphans that came to us as well."""
        ended: list[tuple[Child, int]] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ended
            if pid == 0:
                return ended
            if self._background is not None and self._background.reaped(pid, status, time.monotonic()):
                continue
            for child, process in list(self._children.items()):
                if process.pid == pid:
                    process.returncode = os.waitstatus_to_exitcode(status)
                    ended.append((child, process.returncode))
                    del self._children[child]

    def _is_starting(self) -> bool:
        return Child.GENERATOR in self._children and not self._machine.generator_ready and not self._machine.stopping

    def _rotate(self) -> None:
        logs = [*self._plan.logs.values(), *([self._plan.task.log] if self._plan.task else [])]
        for log in logs:
            try:
                log.rotate()
            except OSError as error:
                self._tell(f"{log.path} was not rotated: {error}")

    def _wait(self, wakeup: int) -> None:
        """Sleep until a signal comes (SIGCHLD is one) or something is due."""
        now = time.monotonic()
        due = [self._rotate_at, self._lock_at, self._machine.deadline() or self._rotate_at]
        if self._is_starting():
            due.append(self._probe_at)
        if self._background is not None:
            due.append(self._background.deadline() or self._rotate_at)
        watched = [wakeup] if self._watcher is None else [wakeup, self._watcher.fileno()]
        select.select(watched, [], [], max(0.0, min(due) - now))
        with contextlib.suppress(BlockingIOError):
            os.read(wakeup, 4096)

    @contextlib.contextmanager
    def _wakeup(self) -> Iterator[int]:
        """Take over signals: each one writes a byte into a pipe, so that none comes between looking and sleeping."""

        def received(number: int, _frame: FrameType | None) -> None:
            if number != signal.SIGCHLD:
                self._signals.append(number)

        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        before_fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        # What is ignored stays so: nohup ignores SIGHUP, a shell ignores SIGINT for what it starts with `&`.
        wanted = [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, received) for number in (*wanted, signal.SIGCHLD)}
        try:
            yield reader
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(before_fd)
            os.close(reader)
            os.close(writer)

    def _kill_all(self) -> None:
        """Leave nobody behind, also when an exception has ended the loop."""
        if self._watcher is not None:
            self._watcher.stop()
        if self._background is not None:
            self._background.kill()
        for child in list(self._children):
            self._send(child, signal.SIGKILL)
        for process in self._children.values():
            process.wait()
        self._children.clear()
