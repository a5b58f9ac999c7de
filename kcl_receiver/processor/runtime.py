"""What the processor's driver needs of the process around it: the daemon's pipe, and connections to the generator.

The driver reaches both through this port alone, and is told what happens and when. So a simulation can run the very
same driver on a timeline of its own.
"""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING, Protocol

from kcl_receiver.errors import ReceiverError
from kcl_receiver.processor.link import GeneratorLink, connect
from kcl_receiver.processor.spawn import Spawner

if TYPE_CHECKING:
    from kcl_receiver.processor.driver import Driver

MAX_POLL_MILLIS = 2**31 - 1
"""select.poll takes no more; a deadline beyond it is looked at again then."""
ENDED = select.POLLHUP | select.POLLERR
"""Reported whether it was asked for or not."""
READABLE = select.POLLIN | ENDED


class Runtime(Protocol):
    """The port. Descriptors and events are those of `select.poll`."""

    def clock(self) -> float:
        """Return the seconds of a clock that never goes back and does not stop in suspend."""

    def say(self, line: bytes) -> None:
        """Write a line to the daemon.

        Raises:
            BrokenPipeError: It has hung up.
        """

    def connect(self) -> GeneratorLink:
        """Return a new connection to the generator; see `link.connect`."""

    def start_generator(self, now: float) -> None:
        """No generator answers: start one where nobody else does."""

    def watch(self, descriptor: int, events: int) -> None:
        """Call `Driver.link_ready` when one of these events happens at a link, instead of those named before."""

    def forget(self, descriptor: int) -> None:
        """Watch a link no more; its descriptor is still open."""


def boot_clock() -> float:
    """Return CLOCK_BOOTTIME in seconds: it never jumps, goes on in suspend, and is one for all processes of a host."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def poll_millis(seconds: float) -> float:
    """Return how long to poll, in milliseconds, so that no more than some seconds pass."""
    return min(max(0.0, seconds * 1000), MAX_POLL_MILLIS)


class PollRuntime:
    """The port on pipes, a socket and `select.poll`.

    Args:
        daemon_in: Descriptor of the daemon's lines.
        daemon_out: Descriptor for the lines to the daemon.
        socket_path: Where the generator listens.
        spawner: Starts the generator where nobody else does.
    """

    def __init__(self, daemon_in: int, daemon_out: int, socket_path: str, spawner: Spawner) -> None:
        self._in = daemon_in
        self._out = daemon_out
        self._socket_path = socket_path
        self._spawner = spawner
        self._poll = select.poll()
        self._poll.register(daemon_in, READABLE)
        self._watched: int | None = None
        self._complained = ""

    def run(self, driver: Driver) -> ReceiverError | None:
        """Return when the daemon hangs up (None), or when the process must leave (the error)."""
        try:
            while driver.exit is None:
                self._turn(driver)
        finally:
            driver.close()
        return driver.exit.error

    def _turn(self, driver: Driver) -> None:
        deadline = driver.deadline()
        events = dict(self._poll.poll(None if deadline is None else poll_millis(deadline - boot_clock())))
        now = boot_clock()
        if self._watched is not None and (happened := events.get(self._watched)):
            driver.link_ready(happened, now)
        if driver.exit is None and self._in in events:
            driver.received(os.readv(self._in, [driver.buffer()]), now)
        if driver.exit is None and not events:
            driver.tick(now)

    def clock(self) -> float:
        """See `Runtime`."""
        return boot_clock()

    def say(self, line: bytes) -> None:
        """See `Runtime`."""
        view = memoryview(line)
        while view:
            view = view[os.write(self._out, view) :]

    def connect(self) -> GeneratorLink:
        """See `Runtime`."""
        return connect(self._socket_path)

    def start_generator(self, now: float) -> None:
        """See `Runtime`."""
        try:
            self._spawner.start(now)
        except OSError as error:
            # Not the end yet: a generator may be started by hand. The state machine's limit decides.
            complaint = f"kcl-receiver-processor: the generator can't be started: {error}\n"
            if complaint != self._complained:
                self._complained = complaint
                os.write(2, complaint.encode("utf-8", "backslashreplace"))

    def watch(self, descriptor: int, events: int) -> None:
        """See `Runtime`."""
        self._watched = descriptor
        self._poll.register(descriptor, events)

    def forget(self, descriptor: int) -> None:
        """See `Runtime`."""
        self._watched = None
        self._poll.unregister(descriptor)
