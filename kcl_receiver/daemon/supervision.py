"""What a supervisor does, and when: a state machine without processes, signals or clocks.

Two children: the generator, and the java daemon. The rules:

1. The daemon is started only when the generator is ready (it answers, holds its store and has found the stream), so
   that no processor waits for one that cannot start.
2. There is never more than one of each: a child is started only after the last one has been reaped.
3. A child that ends, or that cannot be started, is started again after a pause that doubles, with jitter, up to a
   minute; after a healthy minute the next pause is short again. The one does not wait for the other: processors live
   through a generator's absence, and a generator lives through the daemon's. Only the very first start of a child must
   succeed: what fails then is a mistake in the settings rather than a bad moment.
4. The first signal stops: both get SIGTERM together. The daemon asks its processors to shut down, and the generator
   answers them at once and leaves when they have. Who is late is killed; nothing is lost by that, it is read again.
5. A second signal that is meant (`stopping.cuts_short`) kills both.
6. A generator that says that the settings are wrong, or that the stream is gone or another one, is not started again:
   it would say the same. All is stopped, and its exit code is ours.
7. Another supervisor that holds our lock makes us stop, as a signal would: two daemons must not share one workerId.

Events come in as method calls with the time in seconds, on any clock that does not go back; effects come out as a list.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from kcl_receiver.errors import (
    EXIT_AMISS,
    EXIT_ENVIRONMENT,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_STREAM,
    EXIT_USAGE,
)
from kcl_receiver.stopping import cuts_short


class Child(Enum):
    """The two children."""

    GENERATOR = "generator"
    DAEMON = "daemon"


@dataclass(frozen=True, slots=True)
class Start:
    """Start a child."""

    child: Child


@dataclass(frozen=True, slots=True)
class Send:
    """Send a signal to a child; SIGKILL goes to its whole process group."""

    child: Child
    number: int


@dataclass(frozen=True, slots=True)
class Tell:
    """Say something to the user."""

    message: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Exit with this code; both children have been reaped."""

    code: int


Effect = Start | Send | Tell | Leave

HEALTHY_SECONDS = 60.0
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0

KILL_MARGIN_SECONDS = 15.0
"""Time past the grace for the JVM to end, and for the generator after its last processor has left."""

TERMINATED = frozenset({0, 128 + signal.SIGTERM, -signal.SIGTERM})
"""How a daemon ends that was asked to: Java has 143 for it."""

HOPELESS = frozenset({EXIT_USAGE, EXIT_STREAM})
"""Exit codes with which a generator says that it would end again in the same way."""


@dataclass
class _Life:
    """One child over all its starts."""

    running: bool = False
    started_at: float = 0.0
    failures: int = 0
    restart_at: float | None = None
    killed: bool = False
    ever_started: bool = False


@dataclass
class Supervision:
    """The state of a supervisor.

    Args:
        grace_seconds: shutdownGraceMillis: how long the daemon may take to stop.
        jitter: Returns a number between 0 and 1; pauses are multiplied by something between a half and one.
    """

    grace_seconds: float
    jitter: Callable[[], float]
    lives: dict[Child, _Life] = field(default_factory=lambda: {child: _Life() for child in Child})
    generator_ready: bool = False
    stopping: bool = False
    stopped_at: float | None = None
    kill_at: float | None = None
    unclean: str = ""
    code: int = EXIT_OK

    def start(self, now: float) -> list[Effect]:
        """Begin: the generator goes first."""
        return self._start(Child.GENERATOR, now)

    def ready(self, now: float) -> list[Effect]:
        """Note that the generator is ready."""
        if self.generator_ready or self.stopping or not self.lives[Child.GENERATOR].running:
            return []
        self.generator_ready = True
        daemon = self.lives[Child.DAEMON]
        if daemon.running or (daemon.restart_at is not None and daemon.restart_at > now):
            return []
        return self._start(Child.DAEMON, now)

    def exited(self, child: Child, code: int, now: float, last_words: str = "") -> list[Effect]:
        """Note that a child has been reaped.

        Args:
            child: Which one.
            code: Its exit code; negative: the signal that ended it.
            now: The time.
            last_words: What its log says of why it ended, for the message.
        """
        life = self.lives[child]
        life.running = False
        if child is Child.GENERATOR:
            self.generator_ready = False
        if self.stopping:
            return self._after_exit(child, code, now)
        said = f"{child.value} exited unexpectedly ({describe(code)})" + (f": {last_words}" if last_words else "")
        if child is Child.GENERATOR and code in HOPELESS:
            self.code = code
            self.stopping = True
            # Killed and not drained: without a generator there is nobody who could store what a drain brings.
            told = Tell(f"{said}; it would fail again, so everything stops")
            return [told, *self._kill(Child.DAEMON), *self._leave_if_done()]
        return self._again_later(child, said, now)

    def must_start(self, child: Child) -> bool:
        """Tell whether a start that fails is an error: only the very first one of a child is."""
        return not self.lives[child].ever_started

    def started(self, child: Child) -> None:
        """Note that a start has succeeded."""
        self.lives[child].ever_started = True

    def not_started(self, child: Child, reason: str, now: float) -> list[Effect]:
        """Note that a child could not be started; `reason` says why."""
        self.lives[child].running = False
        if self.stopping:
            return self._leave_if_done()
        return self._again_later(child, f"{child.value} not started: {reason}", now)

    def _again_later(self, child: Child, said: str, now: float) -> list[Effect]:
        life = self.lives[child]
        life.failures = 1 if now - life.started_at >= HEALTHY_SECONDS else life.failures + 1
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(life.failures - 1, 10))
        pause *= 0.5 + self.jitter() / 2
        life.restart_at = now + pause
        return [Tell(f"{said}; restarting in {pause:.1f} s")]

    def displaced(self, reason: str, now: float) -> list[Effect]:
        """Note that another supervisor runs this application now: ours ends, as after a signal."""
        if self.stopping:
            return []
        self.code = EXIT_ENVIRONMENT
        self.stopped_at = now
        return [Tell(f"{reason}; stopping, because two daemons must not share one workerId"), *self._stop(now)]

    def signalled(self, number: int, now: float) -> list[Effect]:
        """Note that SIGTERM, SIGINT or SIGHUP has come."""
        if self.stopped_at is None and not self.stopping:
            self.stopped_at = now
            drain = Tell(f"stopping: draining for {self.grace_seconds:.0f} s at most; a second signal ends it at once")
            return [drain, *self._stop(now)]
        first = self.stopped_at
        if self.code == EXIT_INTERRUPTED or (first is not None and not cuts_short(number, now - first)):
            return []
        self.code = EXIT_INTERRUPTED
        told = Tell("ended at once: what is not stored will be read again")
        return [told, *self._kill(Child.DAEMON), *self._kill(Child.GENERATOR), *self._leave_if_done()]

    def tick(self, now: float) -> list[Effect]:
        """Do what is due."""
        effects: list[Effect] = []
        if self.stopping:
            if self.kill_at is not None and now >= self.kill_at:
                late = [child for child in Child if self.lives[child].running and not self.lives[child].killed]
                self.kill_at = None
                for child in late:
                    self.code = self.code or EXIT_AMISS
                    effects += [Tell(f"{child.value} did not end in time and is killed"), *self._kill(child)]
            return effects
        for child, life in self.lives.items():
            due = life.restart_at is not None and now >= life.restart_at
            if due and not life.running and (child is Child.GENERATOR or self.generator_ready):
                effects += self._start(child, now)
        return effects

    def deadline(self) -> float | None:
        """Return when `tick` has something to do next, or None."""
        if self.stopping:
            return self.kill_at
        due = [
            life.restart_at for child, life in self.lives.items() if child is Child.GENERATOR or self.generator_ready
        ]
        return min((at for at in due if at is not None), default=None)

    def _start(self, child: Child, now: float) -> list[Effect]:
        life = self.lives[child]
        life.running, life.killed = True, False
        life.started_at, life.restart_at = now, None
        return [Start(child)]

    def _stop(self, now: float) -> list[Effect]:
        self.stopping = True
        self.kill_at = now + self.grace_seconds + KILL_MARGIN_SECONDS
        if not self.lives[Child.DAEMON].running and self.lives[Child.DAEMON].ever_started:
            self.unclean = "the daemon was not running"
        sent: list[Effect] = [
            Send(child, signal.SIGTERM) for child in (Child.DAEMON, Child.GENERATOR) if self.lives[child].running
        ]
        return sent + self._leave_if_done()

    def _after_exit(self, child: Child, code: int, now: float) -> list[Effect]:
        effects: list[Effect] = []
        if child is Child.DAEMON and code not in TERMINATED:
            self.unclean = f"the daemon ended with {describe(code)}"
        elif child is Child.DAEMON and self.stopped_at is not None and now - self.stopped_at >= self.grace_seconds:
            self.unclean = f"the daemon used its whole grace time of {self.grace_seconds:.0f} s"
        if child is Child.DAEMON and self.lives[Child.GENERATOR].running:
            # Its last processors have just gone: it has what it will ever have, and needs time to store that.
            self.kill_at = max(self.kill_at or 0.0, now + KILL_MARGIN_SECONDS)
        if child is Child.GENERATOR:
            if code != EXIT_OK and self.code == EXIT_OK:
                self.code = code if code > 0 else EXIT_AMISS
                effects.append(Tell(f"generator exited with {describe(code)}: what is not stored will be read again"))
            if self.lives[Child.DAEMON].running and code != EXIT_OK:
                # Nobody is left who could store: the daemon's processors would wait for it in vain.
                effects += self._kill(Child.DAEMON)
        return effects + self._leave_if_done()

    def _kill(self, child: Child) -> list[Effect]:
        life = self.lives[child]
        if not life.running or life.killed:
            return []
        life.killed = True
        return [Send(child, signal.SIGKILL)]

    def _leave_if_done(self) -> list[Effect]:
        if any(life.running for life in self.lives.values()):
            return []
        return [*([Tell(self._last_words())] if self.code == EXIT_OK else []), Leave(self.code)]

    def _last_words(self) -> str:
        if not self.lives[Child.DAEMON].ever_started:
            return "stopped before anything was read"
        if not self.unclean:
            return "stopped cleanly; the next start resumes from the checkpoints"
        return (
            f"stopped, but {self.unclean}: what was stored since the last checkpoints is read again at the next start; "
            "nothing is lost"
        )


def describe(code: int) -> str:
    """Return an exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
