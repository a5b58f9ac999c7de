"""A processor process: the real driver, line codec and state machine, between the daemon's lines and the wire."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any

from kcl_receiver.processor.core import ProcessorCore
from kcl_receiver.processor.driver import Driver
from kcl_receiver.processor.effects import Effect, Transmit
from kcl_receiver.processor.lines import Line
from kcl_receiver.wire.messages import Batch
from simulation.generator import APPLICATION
from simulation.link import Wire, link_over
from simulation.timeline import Process

if TYPE_CHECKING:
    from simulation.daemon import Consumer
    from simulation.fleet import Host


class _NoPoll:
    """Events come from the timeline; `wanted` are those that the link's socket is watched for."""

    def __init__(self) -> None:
        self.wanted = 0

    def register(self, _: int, events: int) -> None:
        self.wanted = events

    modify = register

    def unregister(self, _: int) -> None:
        self.wanted = 0


class SimDriver(Driver):
    """The real driver; what it would poll for is given by the timeline."""

    def __init__(self, core: ProcessorCore, process: SimProcessor) -> None:
        self._core = core
        self._process = process
        self._link = None
        self._spawner = None
        self._exit = None
        self._complained = ""
        self._socket_path = ""
        self._poll = _NoPoll()  # type: ignore[assignment]
        self._used = self._idle = False

    def watches(self, event: int) -> bool:
        """Whether the link's socket is watched for an event."""
        return bool(self._poll.wanted & event)  # type: ignore[attr-defined]

    def _apply(self, effects: list[Effect], now: float) -> None:
        for effect in effects:
            if isinstance(effect, Transmit):
                if self._process.tracing:
                    self._process.say(f"→ {effect.message}")
                if isinstance(effect.message, Batch):
                    self._process.host.fleet.watch.sent(self._process, effect.message)
        super()._apply(effects, now)

    def _say(self, line: bytes) -> None:
        self._process.answer(line)

    def _connect(self, now: float) -> None:
        generator = self._process.host.generator
        if generator is None or not generator.alive:
            self._apply(self._core.disconnected(now), now)
            return
        wire = Wire(self._process, generator)
        self._process.wire = wire
        self._link = link_over(wire)
        self._poll.register(0, select.POLLIN)
        self._apply(self._core.connected(now), now)


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
        core = ProcessorCore(APPLICATION, self.session, self.pid, host.settings.generator_timeout, host.fleet.rng)
        self.core = core
        self.driver = SimDriver(core, self)
        self.wire: Wire | None = None
        self._timer: list[Any] | None = None

    # The daemon

    def line(self, line: bytes) -> None:
        """The daemon wrote a line."""
        if self.tracing:
            self.say(f"← {line[:80].decode()}")
        self.driver._take_line(Line(bytearray(line), 0, len(line)), self.host.boot_clock())
        self._turn()

    def input_closed(self) -> None:
        self.driver._apply(self.core.input_closed(), self.host.boot_clock())
        self._turn()

    def answer(self, line: bytes) -> None:
        self.consumer.daemon.later(0.001, self.consumer.heard, self, line)

    # The generator

    def readable(self, wire: Wire) -> None:
        if wire.socket.ended or self.driver.watches(select.POLLIN):
            self._serve(wire, select.POLLIN)

    def writable(self, wire: Wire) -> None:
        self._serve(wire, select.POLLOUT)

    def _serve(self, wire: Wire, happened: int) -> None:
        link = self.driver._link
        if link is not None and link._socket is wire.socket:
            self.driver._serve_link(happened, self.host.boot_clock())
            self._turn()

    # Time

    def _tick(self) -> None:
        now = self.host.boot_clock()
        self.driver._apply(self.core.tick(now), now)
        self._turn()

    def _turn(self) -> None:
        timeline = self.host.fleet.timeline
        timeline.cancel(self._timer)
        self._timer = None
        exit_ = self.driver._exit
        if exit_ is not None:
            if self.driver._link is not None:
                self.driver._link.close(1.0)
            self.alive = False
            if self.tracing:
                self.say(f"leaves: {exit_.error or 'in order'}")
            self.host.fleet.watch.processor_left(self, exit_.error)
            self.consumer.child_ended(self)
            return
        deadline = self.core.deadline()
        if deadline is not None:
            self._timer = self.later(max(1e-4, deadline - self.host.boot_clock() + 1e-6), self._tick)

    def killed(self) -> None:
        """Died without a word."""
        self.alive = False
        if self.wire is not None:
            self.wire.hang_up_from_processor()
