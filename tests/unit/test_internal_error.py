"""A bug ends its process with a class and an exit code of its own, and its traceback is logged once."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn, cast

import pytest

from kcl_receiver.config.properties import ReceiverConfig
from kcl_receiver.errors import EXIT_INTERNAL, InternalError, ReceiverError, StoreRefused, StreamUnavailable
from kcl_receiver.generator import main as role
from kcl_receiver.generator.core import GeneratorCore
from kcl_receiver.generator.effects import Effect
from kcl_receiver.generator.generator_io import GeneratorIO
from kcl_receiver.generator.listening import Listening
from kcl_receiver.generator.runtime import AsyncioRuntime, boot_clock
from kcl_receiver.generator.server import GeneratorServer
from kcl_receiver.generator.settings import GeneratorSettings
from kcl_receiver.processor import main as processor

SAID = "internal error, stopping (please report this)"


class Bug(Exception):
    """An exception that nothing expects."""


def stumble(*_: object, **__: object) -> NoReturn:
    raise Bug("a\nbug")


class Hands:
    """GeneratorIO that only prepare."""

    stream = None
    ranges_in_memory = 0

    def __init__(self, prepare: Callable[[], object]) -> None:
        self.prepare = prepare


def refused() -> NoReturn:
    raise StoreRefused("of another one")


def away() -> NoReturn:
    """The generator waits for AWS without limit."""
    raise StreamUnavailable("no answer")


def served(
    path: Path,
    workers: Hands,
    core: GeneratorCore | None = None,
    act: Callable[[GeneratorServer], object] = lambda _: None,
) -> ReceiverError | None:
    """Return how a generator that listens at a path ends; `act` is called in its loop once it listens."""

    async def serve() -> ReceiverError | None:
        runtime = AsyncioRuntime()
        ended: asyncio.Future[ReceiverError | None] = asyncio.get_running_loop().create_future()
        made = core or GeneratorCore(GeneratorSettings("landing"), boot_clock(), random.Random(1))
        server = GeneratorServer(
            made, cast(GeneratorIO, workers), runtime, path, 60.0, "file:///store", ended.set_result
        )
        listening = Listening(path, server.accept, lambda: None, server.stop)
        runtime.later(0.0, lambda: act(server))
        return await role._run(server, runtime, listening, ended)

    return asyncio.run(serve())


def assert_internal(error: ReceiverError | None, caplog: pytest.LogCaptureFixture) -> None:
    assert isinstance(error, InternalError)
    assert (error.exit_code, error.message) == (EXIT_INTERNAL, f"{SAID}: Bug: a bug")
    with_traceback = [record for record in caplog.records if record.exc_info]
    assert [record.getMessage() for record in with_traceback] == [SAID]


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "generator.sock"


def test_a_bug_in_a_thread_ends_the_generator(socket_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert_internal(served(socket_path, Hands(stumble)), caplog)
    assert not socket_path.exists()


def test_an_error_that_is_expected_keeps_its_class(socket_path: Path) -> None:
    assert isinstance(served(socket_path, Hands(refused)), StoreRefused)


class Stumbling(GeneratorCore):
    """Whoever takes no notice of its bug sees the generator end in good order."""

    stop: Callable[[None], None]

    def _stumble(self) -> NoReturn:
        asyncio.get_running_loop().call_soon(self.stop, None)
        stumble()


class StumblesAtConnections(Stumbling):
    def connected(self, connection: int, pid: int, now: float) -> list[Effect]:
        self._stumble()


class StumblesAtTimers(Stumbling):
    def deadline(self) -> float | None:
        return 0.0

    def tick(self, now: float) -> list[Effect]:
        self._stumble()


def test_a_bug_at_a_connection_ends_the_generator(socket_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    core = StumblesAtConnections(GeneratorSettings("landing"), boot_clock(), random.Random(1))
    with socket.socket(socket.AF_UNIX) as peer:

        def act(server: GeneratorServer) -> None:
            core.stop = server.stop
            peer.connect(str(socket_path))

        assert_internal(served(socket_path, Hands(away), core, act), caplog)


def test_a_bug_at_a_timer_ends_the_generator(socket_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    core = StumblesAtTimers(GeneratorSettings("landing"), boot_clock(), random.Random(1))

    def act(server: GeneratorServer) -> None:
        core.stop = server.stop

    assert_internal(served(socket_path, Hands(away), core, act), caplog)


def test_the_systems_error_at_a_connection_is_asyncios_to_deal_with(
    socket_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def act(server: GeneratorServer) -> None:
        said = {"message": "socket.accept() out of system resource", "exception": OSError(24, "Too many open files")}
        asyncio.get_running_loop().call_exception_handler(said)
        server.stop(None)

    assert served(socket_path, Hands(away), act=act) is None
    assert "out of system resource" in caplog.text


def test_the_first_bug_is_the_reason_and_a_second_one_is_logged_as_well(
    socket_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def act(server: GeneratorServer) -> None:
        server.failed(Bug("a bug"))
        server.failed(KeyError("another one"))

    error = served(socket_path, Hands(away), act=act)
    assert error is not None
    assert error.message == f"{SAID}: Bug: a bug"
    assert [type(record.exc_info[1]) for record in caplog.records if record.exc_info] == [Bug, KeyError]


def test_a_bug_while_the_generator_starts_is_one_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(role, "_serve", stumble)
    config = cast(ReceiverConfig, SimpleNamespace(socket=tmp_path / "run" / "generator.sock"))
    with pytest.raises(InternalError) as raised:
        role.run_generator(config, inherited_lock=None, leave_when_idle=False)
    assert_internal(raised.value, caplog)


def test_a_bug_of_a_processor_is_told_once_with_its_traceback_and_has_an_exit_code_of_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(processor, "_run", stumble)
    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setattr(sys, "argv", ["kcl-receiver-processor", "--properties", "landing.properties"])
    processor.main()
    said = capsys.readouterr().err
    assert codes == [EXIT_INTERNAL]
    assert said.count("Traceback (most recent call last)") == 1
    assert said.splitlines()[-1].startswith(f"kcl-receiver-processor: InternalError: {SAID}: Bug: a bug Hint: ")
