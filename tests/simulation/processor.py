"""A processor process: the real driver, line codec and state machine, between the daemon's lines and the wire."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any

from kcl_receiver.errors import GeneratorUnavailable
from kcl_receiver.processor.codec import Action
from kcl_receiver.processor.core import ProcessorCore
from kcl_receiver.processor.driver import Driver
from kcl_receiver.processor.effects import Effect, Transmit
from kcl_receiver.processor.lines import Line
from kcl_receiver.processor.link import GeneratorLink
from kcl_receiver.wire.messages import Batch, Message
from simulation.generator import APPLICATION
from simulation.link import Wire
from simulation.timeline import Process

if TYPE_CHECKING:
    from simulation.daemon import Consumer
    from simulation.fleet import Host


class SimCore(ProcessorCore):
    """The real state machine; the watch sees what it sends, also where the connection breaks before that."""

    process: SimProcessor

    def action(self, action: Action, now: float, rank: int = 0) -> list[Effect]:
        return self._seen(super().action(action, now, rank))

    def checkpoint_result(self, error: str | None, now: float) -> list[Effect]:
        return self._seen(super().checkpoint_result(error, now))

    def input_closed(self) -> list[Effect]:
        return self._seen(super().input_closed())

    def connected(self, now: float) -> list[Effect]:
        return self._seen(super().connected(now))

    def disconnected(self, now: float) -> list[Effect]:
        return self._seen(super().disconnected(now))

    def message(self, message: Message, now: float) -> list[Effect]:
        return self._seen(super().message(message, now))

    def tick(self, now: float) -> list[Effect]:
        return self._seen(super().tick(now))

    def _seen(self, effects: list[Effect]) -> list[Effect]:
        for effect in effects:
            if isinstance(effect, Transmit):
                if self.process.tracing:
                    self.process.say(f"→ {effect.message}")
                if isinstance(effect.message, Batch):
                    self.process.host.fleet.watch.sent(self.process, effect.message)
        return effects


class SimRuntime:
    """`kcl_receiver.processor.runtime.Runtime` for one simulated process.

    Attributes:
        wire: The connection whose link is watched.
        wanted: The events that it is watched for.
    """

    def __init__(self, process: SimProcessor) -> None:
        self._process = process
        self.wire: Wire | None = None
        self.wanted = 0

    def clock(self) -> float:
        boot_clock: float = self._process.host.boot_clock()
        return boot_clock

    def say(self, line: bytes) -> None:
        self._process.answer(line)

    def connect(self) -> GeneratorLink:
        generator = self._process.host.generator
        if generator is None or not generator.alive:
            raise GeneratorUnavailable("nobody listens")
        self.wire = self._process.wire = Wire(self._process, generator)
        return GeneratorLink(self.wire.socket)

    def start_generator(self, now: float) -> None:
        """The host does."""

    def watch(self, _: int, events: int) -> None:
        self.wanted = events

    def forget(self, _: int) -> None:
        self.wire, self.wanted = None, 0


class SimProcessor(Process):
    """See the module.

    Attributes:
        session: Its session's id.
        wire: Its last connection.
    """

    def __init__(self, host: Host, consumer: Consumer) -> None:
        super().__init__(host, f"processor {consumer.shard.id[-2:]}")
        self.consumer = consumer
        self.session = f"{self.pid}-{host.fleet.rng.getrandbits(64):016x}"
        core = SimCore(APPLICATION, self.session, self.pid, host.settings.generator_timeout, host.fleet.rng)
        core.process = self
        self.runtime = SimRuntime(self)
        self.driver = Driver(core, self.runtime)
        self.wire: Wire | None = None
        self._timer: list[Any] | None = None

    # The daemon

    def line(self, line: bytes) -> None:
        """The daemon wrote a line."""
        if self.tracing:
            self.say(f"← {line[:80].decode()}")
        self.host.fleet.watch.line_read(self)
        self.driver.take_line(Line(bytearray(line), 0, len(line)), self.host.boot_clock())
        self._turn()

    def input_closed(self) -> None:
        self.driver.input_closed(self.host.boot_clock())
        self._turn()

    def answer(self, line: bytes) -> None:
        self.consumer.daemon.later(0.001, self.consumer.heard, self, line)

    # The generator

    def readable(self, wire: Wire) -> None:
        if wire.socket.ended or self.runtime.wanted & select.POLLIN:
            self._serve(wire, select.POLLIN)

    def writable(self, wire: Wire) -> None:
        self._serve(wire, select.POLLOUT)

    def _serve(self, wire: Wire, happened: int) -> None:
        if self.runtime.wire is wire:
            self.driver.link_ready(happened, self.host.boot_clock())
            self._turn()

    # Time

    def _tick(self) -> None:
        self.driver.tick(self.host.boot_clock())
        self._turn()

    def _turn(self) -> None:
        timeline = self.host.fleet.timeline
        timeline.cancel(self._timer)
        self._timer = None
        exit_ = self.driver.exit
        if exit_ is not None:
            self.driver.close()
            self.alive = False
            if self.tracing:
                self.say(f"leaves: {exit_.error or 'in order'}")
            self.host.fleet.watch.processor_left(self, exit_.error)
            self.consumer.child_ended(self)
            return
        deadline = self.driver.deadline()
        if deadline is not None:
            self._timer = self.later(max(1e-4, deadline - self.host.boot_clock() + 1e-6), self._tick)

    def killed(self) -> None:
        """Died without a word."""
        self.alive = False
        if self.wire is not None:
            self.wire.hang_up_from_processor()
