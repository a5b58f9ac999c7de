"""The driver within the test's own process, where what cannot be had from outside can be put in."""

from __future__ import annotations

import json
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processor_process import PATIENCE, Connection, Landing, checkpoint, initialize, record, records, status

from kcl_receiver.errors import Fenced, ProtocolError, ReceiverError
from kcl_receiver.processor.core import ProcessorCore
from kcl_receiver.processor.driver import Driver
from kcl_receiver.processor.runtime import PollRuntime
from kcl_receiver.processor.spawn import Spawner
from kcl_receiver.wire.messages import Batch, Refused, Stored


@pytest.fixture
def landing(tmp_path: Path) -> Iterator[Landing]:
    made = Landing(tmp_path)
    yield made
    made.close()


def test_a_socket_of_another_user_is_not_spoken_with(landing: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = landing.listen()
    daemon_in, to_processor = os.pipe()
    from_processor, daemon_out = os.pipe()
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    os.write(to_processor, json.dumps(initialize()).encode() + b"\n")
    core = ProcessorCore("landing", "session-1", os.getpid(), 60.0, random.Random(1))
    runtime = PollRuntime(daemon_in, daemon_out, str(landing.socket), Spawner("", ""))
    error = runtime.run(Driver(core, runtime))
    assert isinstance(error, ProtocolError)
    assert str(landing.socket) in error.message
    assert listener.accept().frame() is None, "something was said to it"
    for descriptor in (daemon_out, to_processor, daemon_in):
        os.close(descriptor)
    assert os.read(from_processor, 1000) == b"", "an action was reported done by a process that leaves"
    os.close(from_processor)


class NotedPoll:
    """select.poll, and all that it found."""

    def __init__(self, poll: Any) -> None:  # noqa: ANN401 - the type has no name
        self._poll = poll
        self.register, self.modify, self.unregister = poll.register, poll.modify, poll.unregister
        self.found: list[dict[int, int]] = []

    def poll(self, millis: float | None) -> list[tuple[int, int]]:
        events: list[tuple[int, int]] = self._poll.poll(millis)
        self.found.append(dict(events))
        return events


class RunningDriver:
    """A driver in a thread of its own, whose session is open; the test is its daemon and its generator."""

    def __init__(self, landing: Landing) -> None:
        listener = landing.listen()
        daemon_in, to_processor = os.pipe()
        from_processor, daemon_out = os.pipe()
        core = ProcessorCore("landing", "session-1", os.getpid(), 60.0, random.Random(1))
        runtime = PollRuntime(daemon_in, daemon_out, str(landing.socket), Spawner("", ""))
        self.driver = Driver(core, runtime)
        self.poll = NotedPoll(runtime._poll)
        runtime._poll = self.poll  # type: ignore[assignment]
        self.left: list[ReceiverError | None] = []
        self._thread = threading.Thread(target=lambda: self.left.append(runtime.run(self.driver)))
        self._to = os.fdopen(to_processor, "wb", buffering=0)
        self._from = os.fdopen(from_processor, "rb")
        self._its_own = daemon_in, daemon_out
        self._thread.start()
        assert self.does(initialize()) == status("initialize")
        self.generator: Connection = listener.open()

    def does(self, message: dict[str, Any]) -> Any:  # noqa: ANN401 - whatever the line holds
        """Write a line as the daemon does, and return the answer."""
        self._to.write(json.dumps(message).encode() + b"\n")
        return json.loads(self._from.readline())

    def join(self) -> None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def close(self) -> None:
        self._to.close()
        self.join()
        self._from.close()
        for descriptor in self._its_own:
            os.close(descriptor)


@pytest.fixture
def running(landing: Landing) -> Iterator[RunningDriver]:
    made = RunningDriver(landing)
    yield made
    made.close()


def test_answers_to_a_batch_wake_no_processor_and_are_heard_before_the_next_action(running: RunningDriver) -> None:
    assert running.does(records(record(1))) == status("processRecords")
    running.generator.receive(Batch)
    link = running.driver.link
    assert link is not None
    before = len(running.poll.found)
    running.generator.admit(1)
    running.generator.send(Stored(1))
    assert running.does(records()) == checkpoint(1)
    assert running.does(checkpoint(1, answer=True)) == status("processRecords")
    woken_by = running.poll.found[before:]
    assert len(woken_by) >= 2  # for the two lines
    assert not any(link.fileno() in events for events in woken_by)


def test_a_generator_that_hangs_up_is_heard_between_two_actions(running: RunningDriver) -> None:
    assert running.does(records(record(1))) == status("processRecords")
    running.generator.receive(Batch)
    running.generator.send(Refused("Fenced", "a younger session has come", ""))
    running.generator.close()
    running.join()
    (error,) = running.left
    assert isinstance(error, Fenced)
