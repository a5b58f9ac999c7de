"""A thread that looks at the live state now and then, for the supervisor: what it asks may not answer for long."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable

from kcl_receiver.status.live import Live

LOOK_SECONDS = 5.0
"""Between two looks. A look asks the generator over its socket; AWS is asked only where something seems wrong."""


class Watcher:
    """Keeps the newest look until it is taken.

    Args:
        look: Looks; raises nothing that is expected, but tells what cannot be asked as a problem.
    """

    def __init__(self, look: Callable[[], Live]) -> None:
        self._look = look
        self._stopped = threading.Event()
        self._newest: Live | None = None
        self._failure: Exception | None = None
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def fileno(self) -> int:
        """Return a descriptor that is readable when there is a look to take."""
        return self._reader

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more. A look that waits for an answer is not waited for: the thread ends with the process."""
        if not self._stopped.is_set():
            self._stopped.set()
            os.close(self._reader)

    def taken(self) -> Live | None:
        """Return the newest look if it was not taken before.

        Raises:
            Exception: What a look raised: a fault of this program. It is tried again.
        """
        with contextlib.suppress(BlockingIOError):
            os.read(self._reader, 4096)
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        newest, self._newest = self._newest, None
        return newest

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                try:
                    self._newest = self._look()
                except Exception as error:  # noqa: BLE001 - told in the main thread
                    self._failure = error
                with contextlib.suppress(BlockingIOError, BrokenPipeError):
                    os.write(self._writer, b".")
                self._stopped.wait(LOOK_SECONDS)
        finally:
            os.close(self._writer)
