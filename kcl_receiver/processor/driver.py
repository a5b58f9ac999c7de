"""Drives the processor's state machine: stdin and stdout towards the daemon, the socket towards the generator.

What the generator says while it does not matter stays in the socket until the daemon's next action: with many shards on
a host, being woken for the answer to each batch would cost generator and processor more than the answer.
"""

from __future__ import annotations

import os
import select
import time

from kcl_receiver.errors import DaemonError, GeneratorUnavailable, ReceiverError
from kcl_receiver.memory import give_back
from kcl_receiver.processor.codec import (
    CheckpointResult,
    ProcessRecords,
    decode_line,
    encode_checkpoint,
    encode_status,
)
from kcl_receiver.processor.core import ProcessorCore
from kcl_receiver.processor.effects import Checkpoint, Connect, Done, Effect, Exit, Transmit
from kcl_receiver.processor.lines import Line, LineReader
from kcl_receiver.processor.link import GeneratorLink
from kcl_receiver.processor.spawn import Spawner

LINGER_SECONDS = 1.0
MAX_POLL_MILLIS = 2**31 - 1
"""select.poll takes no more; a deadline beyond it is looked at again then."""
_ENDED = select.POLLHUP | select.POLLERR
"""Reported whether it was asked for or not."""
_READABLE = select.POLLIN | _ENDED


def boot_clock() -> float:
    """Return CLOCK_BOOTTIME in seconds: it never jumps, goes on in suspend, and is one for all processes of a host."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def poll_millis(seconds: float) -> float:
    """Return how long to poll, in milliseconds, so that no more than some seconds pass."""
    return min(max(0.0, seconds * 1000), MAX_POLL_MILLIS)


class Driver:
    """Runs one processor until it leaves.

    Args:
        core: The state machine.
        daemon_in: Descriptor of the daemon's lines.
        daemon_out: Descriptor for the lines to the daemon.
        socket_path: Where the generator listens.
        spawner: Starts the generator where nobody else does.
    """

    def __init__(
        self, core: ProcessorCore, daemon_in: int, daemon_out: int, socket_path: str, spawner: Spawner
    ) -> None:
        self._core = core
        self._in = daemon_in
        self._out = daemon_out
        self._socket_path = socket_path
        self._spawner = spawner
        self._lines = LineReader()
        self._link: GeneratorLink | None = None
        self._poll = select.poll()
        self._poll.register(daemon_in, _READABLE)
        self._exit: Exit | None = None
        self._complained = ""
        self._used = self._idle = False

    def run(self) -> ReceiverError | None:
        """Return when the daemon hangs up (None), or when the process must leave (the error)."""
        try:
            while self._exit is None:
                self._turn()
        finally:
            if self._link is not None:
                self._link.close(LINGER_SECONDS)
        return self._exit.error

    def _turn(self) -> None:
        deadline = self._core.deadline()
        events = dict(self._poll.poll(None if deadline is None else poll_millis(deadline - boot_clock())))
        now = boot_clock()
        if self._link is not None and (happened := events.get(self._link.fileno())):
            self._serve_link(happened, now)
        if self._exit is None and self._in in events:
            self._read_daemon(now)
        if self._exit is None and not events:
            self._apply(self._core.tick(now), now)

    def _read_daemon(self, now: float) -> None:
        self._give_back()
        received = os.readv(self._in, [self._lines.buffer()])
        if not received:
            self._apply(self._core.input_closed(), now)
            return
        try:
            lines = self._lines.advance(received)
        except DaemonError as error:
            self._exit = Exit(error)
            return
        for line in lines:
            if self._exit is not None:
                return
            self._take_line(line, boot_clock())

    def _take_line(self, line: Line, now: float) -> None:
        """The daemon wrote a line."""
        if self._link is not None and not self._core.listens:
            self._serve_link(select.POLLIN, now)  # what has waited is older than this line
            if self._exit is not None:
                return
        try:
            said = decode_line(*line)
        except DaemonError as error:
            self._exit = Exit(error)
            return
        if isinstance(said, CheckpointResult):
            self._apply(self._core.checkpoint_result(said.error, now), now)
            return
        self._apply(self._core.action(said, now, int(now * 1e9)), now)
        if isinstance(said, ProcessRecords):
            self._used |= said.columns is not None
            self._idle = said.columns is None and not self._core.kept_bytes

    def _give_back(self) -> None:
        """Give memory back when the shard delivers nothing and all of it is stored: shards are many.

        Called before the next line is read, because the last one lies in the line reader's buffer.
        """
        if self._idle and self._used:
            self._used = False
            self._lines.release()
            give_back()

    def _serve_link(self, happened: int, now: float) -> None:
        link = self._link
        if link is None:
            return
        if happened & select.POLLOUT:
            try:
                link.send()
            except OSError:
                self._broken(link, now)
                return
        if happened & _READABLE:
            still_open = self._listen(link, now)
            if not still_open and self._exit is None and self._link is link:
                self._lost(now)
                return
        self._watch_link()

    def _listen(self, link: GeneratorLink, now: float) -> bool:
        """Take what the generator said; return whether it is still there."""
        try:
            frames, still_open = link.receive()
        except ReceiverError as error:
            self._exit = Exit(error)
            return False
        for frame in frames:
            if self._exit is None and self._link is link:
                self._apply(self._core.message(frame.message, now), now)
        return still_open

    def _apply(self, effects: list[Effect], now: float) -> None:
        for effect in effects:
            if self._exit is not None:
                return
            if isinstance(effect, Transmit):
                link = self._link
                if link is not None:
                    try:
                        link.transmit(effect)
                    except OSError:
                        self._broken(link, now)
            elif isinstance(effect, Done):
                self._say(encode_status(effect.action))
            elif isinstance(effect, Checkpoint):
                self._say(encode_checkpoint(effect.position))
            elif isinstance(effect, Connect):
                self._connect(now)
            else:
                self._exit = effect
                return
        self._watch_link()

    def _say(self, line: bytes) -> None:
        view = memoryview(line)
        while view:
            try:
                view = view[os.write(self._out, view) :]
            except BrokenPipeError:
                self._exit = Exit(None)
                return

    def _connect(self, now: float) -> None:
        try:
            self._link = GeneratorLink(self._socket_path)
        except GeneratorUnavailable:
            self._start_generator(now)
            self._apply(self._core.disconnected(now), now)
            return
        except ReceiverError as error:
            self._exit = Exit(error)
            return
        self._poll.register(self._link.fileno(), _READABLE)
        self._apply(self._core.connected(now), now)

    def _start_generator(self, now: float) -> None:
        try:
            self._spawner.start(now)
        except OSError as error:
            # Not the end yet: a generator may be started by hand. The state machine's limit decides.
            complaint = f"kcl-receiver-processor: the generator can't be started: {error}\n"
            if complaint != self._complained:
                self._complained = complaint
                os.write(2, complaint.encode("utf-8", "backslashreplace"))

    def _broken(self, link: GeneratorLink, now: float) -> None:
        """Nothing can be sent any more; what the generator said last may be the reason, so it is heard first."""
        self._listen(link, now)
        if self._exit is None and self._link is link:
            self._lost(now)

    def _lost(self, now: float) -> None:
        link, self._link = self._link, None
        if link is not None:
            self._poll.unregister(link.fileno())
            link.close()
            self._apply(self._core.disconnected(now), now)

    def _watch_link(self) -> None:
        if self._link is not None:
            receives = _READABLE if self._core.listens else _ENDED
            sends = select.POLLOUT if self._link.wants_to_send else 0
            self._poll.modify(self._link.fileno(), receives | sends)
