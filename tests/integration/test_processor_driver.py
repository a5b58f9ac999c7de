"""The driver within the test's own process, where what cannot be had from outside can be put in."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from processor_process import Landing, initialize

from kcl_receiver.errors import ProtocolError
from kcl_receiver.processor.core import ProcessorCore
from kcl_receiver.processor.driver import Driver
from kcl_receiver.processor.spawn import Spawner


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
    error = Driver(core, daemon_in, daemon_out, str(landing.socket), Spawner("", "")).run()
    assert isinstance(error, ProtocolError)
    assert str(landing.socket) in error.message
    assert listener.accept().frame() is None, "something was said to it"
    for descriptor in (daemon_out, to_processor, daemon_in):
        os.close(descriptor)
    assert os.read(from_processor, 1000) == b"", "an action was reported done by a process that leaves"
    os.close(from_processor)
