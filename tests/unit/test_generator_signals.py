from __future__ import annotations

import asyncio
import signal
from typing import cast

import pytest

from kcl_receiver import stopping
from kcl_receiver.generator import main as role
from kcl_receiver.generator.server import GeneratorServer


class Calls:
    """Notes what the signals ask a server for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def drain(self) -> None:
        self.asked.append("drain")

    def stop(self, _error: object) -> None:
        self.asked.append("stop")


async def after(*numbers: signal.Signals) -> list[str]:
    calls, loop = Calls(), asyncio.get_running_loop()
    role._handle_signals(cast(GeneratorServer, calls))
    try:
        for number in numbers:
            signal.raise_signal(number)
            # The signal's byte is in the loop's pipe by now: one turn reads it, the next one calls the handler.
            for _ in range(4):
                await asyncio.sleep(0)
    finally:
        for number in stopping.STOP_SIGNALS:
            loop.remove_signal_handler(number)
    return calls.asked


def test_one_sigterm_that_comes_twice_drains_once() -> None:
    assert asyncio.run(after(signal.SIGTERM, signal.SIGTERM)) == ["drain"]


def test_a_sigterm_later_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "ONE_STOP_SECONDS", 0.0)
    assert asyncio.run(after(signal.SIGTERM, signal.SIGTERM)) == ["drain", "stop"]


def test_a_ctrl_c_after_a_sigterm_ends_it_at_once() -> None:
    assert asyncio.run(after(signal.SIGTERM, signal.SIGINT)) == ["drain", "stop"]


def test_a_closed_terminal_drains_and_never_hurries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "ONE_STOP_SECONDS", 0.0)
    assert asyncio.run(after(signal.SIGHUP, signal.SIGHUP)) == ["drain"]


def test_a_signal_that_was_ignored_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert asyncio.run(after(signal.SIGHUP)) == []
    finally:
        signal.signal(signal.SIGHUP, before)
