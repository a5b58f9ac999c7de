"""A processor process: the real driver, line codec and state machine, between the daemon's lines and the wire."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any

from kcl_receiver.errors import DaemonError
from kcl_receiver.processor.codec import CheckpointResult, decode_line
from kcl_receiver.processor.core import ProcessorCore
from kcl_receiver.processor.driver import Driver
from kcl_receiver.processor.effects import Effect, Exit, Transmit
from kcl_receiver.wire.messages import Batch
from simulation.generator import APPLICATION
from simulation.link import Wire, link_over
from simulation.timeline import Process

if TYPE_CHECKING:
    from simulation.daemon import Consumer
    from simulation.fleet import Host


class _NoPoll:
    """Events come from the timeline."""

    def register(self, *_: int) -> None:
        pass

    unregister = modify = register


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
        self._apply(self._core.connected(now), now)

    def _watch_link(self) -> None:
        pass


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
        driver, now = self.driver, self.host.boot_clock()
        try:
            said = decode_line(line)
        except DaemonError as error:
            driver._exit = Exit(error)
        else:
            if self.tracing:
                self.say(f"← {said.name if hasattr(said, 'name') else said}")
            if isinstance(said, CheckpointResult):
                driver._apply(self.core.checkpoint_result(said.error, now), now)
            else:
                driver._apply(self.core.action(said, now, int(now * 1e9)), now)
        self._turn()

    def input_closed(self) -> None:
        self.driver._apply(self.core.input_closed(), self.host.boot_clock())
        self._turn()

    def answer(self, line: bytes) -> None:
        self.consumer.daemon.later(0.001, self.consumer.heard, self, line)

    # The generator

    def readable(self, wire: Wire) -> None:
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
