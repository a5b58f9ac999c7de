"""Drives the processor's state machine: stdin and stdout towards the daemon, the socket towards the generator.

What the generator says while it does not matter stays in the socket until the daemon's next action: with many shards on
a host, being woken for the answer to each batch would cost generator and processor more than the answer.
"""

from __future__ import annotations

import select

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
from kcl_receiver.processor.runtime import ENDED, READABLE, Runtime

LINGER_SECONDS = 1.0


class Driver:
    """Drives one processor until `exit` says that it leaves: the runtime calls it with all that happens.

    Args:
        core: The state machine.
        runtime: The daemon's pipe and the way to the generator.

    Attributes:
        exit: How the process must leave; None while it must not.
        link: The present connection to the generator.
    """

    def __init__(self, core: ProcessorCore, runtime: Runtime) -> None:
        self._core = core
        self._runtime = runtime
        self._lines = LineReader()
        self.link: GeneratorLink | None = None
        self.exit: Exit | None = None
        self._used = self._idle = False

    def deadline(self) -> float | None:
        """Return when `tick` has something to do next, or None."""
        return self._core.deadline()

    def tick(self, now: float) -> None:
        """Do what is due."""
        self._apply(self._core.tick(now), now)

    def close(self) -> None:
        """Hang up on the generator; what is queued for it is sent first, if it takes it soon."""
        if self.link is not None:
            self.link.close(LINGER_SECONDS)

    def buffer(self) -> memoryview:
        """Return where the daemon's next bytes belong; `received` tells how many came."""
        self._give_back()
        return self._lines.buffer()

    def received(self, count: int, now: float) -> None:
        """Bytes of the daemon are in the buffer; none mean that it has hung up."""
        if not count:
            self.input_closed(now)
            return
        try:
            lines = self._lines.advance(count)
        except DaemonError as error:
            self.exit = Exit(error)
            return
        for line in lines:
            if self.exit is not None:
                return
            self.take_line(line, self._runtime.clock())

    def input_closed(self, now: float) -> None:
        """The daemon hung up."""
        self._apply(self._core.input_closed(), now)

    def take_line(self, line: Line, now: float) -> None:
        """The daemon wrote a line."""
        if self.link is not None and not self._core.listens:
            self.link_ready(select.POLLIN, now)  # what has waited is older than this line
            if self.exit is not None:
                return
        try:
            said = decode_line(*line)
        except DaemonError as error:
            self.exit = Exit(error)
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

    def link_ready(self, happened: int, now: float) -> None:
        """Events of `select.poll` happened at the link."""
        link = self.link
        if link is None:
            return
        if happened & select.POLLOUT:
            try:
                link.send()
            except OSError:
                self._broken(link, now)
                return
        if happened & READABLE:
            still_open = self._listen(link, now)
            if not still_open and self.exit is None and self.link is link:
                self._lost(now)
                return
        self._watch_link()

    def _listen(self, link: GeneratorLink, now: float) -> bool:
        """Take what the generator said; return whether it is still there."""
        try:
            frames, still_open = link.receive()
        except ReceiverError as error:
            self.exit = Exit(error)
            return False
        for frame in frames:
            if self.exit is None and self.link is link:
                self._apply(self._core.message(frame.message, now), now)
        return still_open

    def _apply(self, effects: list[Effect], now: float) -> None:
        for effect in effects:
            if self.exit is not None:
                return
            if isinstance(effect, Transmit):
                link = self.link
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
                self.exit = effect
                return
        self._watch_link()

    def _say(self, line: bytes) -> None:
        try:
            self._runtime.say(line)
        except BrokenPipeError:
            self.exit = Exit(None)

    def _connect(self, now: float) -> None:
        try:
            self.link = self._runtime.connect()
        except GeneratorUnavailable:
            self._runtime.start_generator(now)
            self._apply(self._core.disconnected(now), now)
            return
        except ReceiverError as error:
            self.exit = Exit(error)
            return
        self._runtime.watch(self.link.fileno(), READABLE)
        self._apply(self._core.connected(now), now)

    def _broken(self, link: GeneratorLink, now: float) -> None:
        """Nothing can be sent any more; what the generator said last may be the reason, so it is heard first."""
        self._listen(link, now)
        if self.exit is None and self.link is link:
            self._lost(now)

    def _lost(self, now: float) -> None:
        link, self.link = self.link, None
        if link is not None:
            self._runtime.forget(link.fileno())
            link.close()
            self._apply(self._core.disconnected(now), now)

    def _watch_link(self) -> None:
        if self.link is not None:
            receives = READABLE if self._core.listens else ENDED
            sends = select.POLLOUT if self.link.wants_to_send else 0
            self._runtime.watch(self.link.fileno(), receives | sends)
