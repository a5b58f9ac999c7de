"""A plugin for pytest: every test begins at one moment of the wall clock, whenever it is run.

`wall_clock.c` is preloaded. The shift is set anew before each test, and what a test starts inherits it.
"""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path

import pytest

MOMENT = "TESTS_BEGIN_AT"
"""Environment variable: nanoseconds since the epoch at which each test begins."""
SHIFT = "WALL_CLOCK_SHIFT"
"""Environment variable: the nanoseconds that are added to the wall clock of a process that begins."""

_set = ctypes.CDLL(None).wall_clock_shift
_set.argtypes, _set.restype = [ctypes.c_longlong], None


def begin() -> None:
    """Let it be that moment now."""
    real = time.clock_gettime_ns(time.CLOCK_REALTIME) - int(os.environ[SHIFT])
    shift = int(os.environ[MOMENT]) - real
    os.environ[SHIFT] = str(shift)
    _set(shift)


begin()  # for what is imported, and for what lives longer than a test


def shares(item: pytest.Item) -> bool:
    """Return whether a test uses what its whole file does, as an emulator: that shall not see the clock go back."""
    by_name = item._fixtureinfo.name2fixturedefs  # type: ignore[attr-defined]
    definitions = [one for each in by_name.values() for one in each]
    return any(one.scope != "function" and not one.func.__module__.startswith("_pytest.") for one in definitions)


class Clock:
    """Sets the clock before each test."""

    def __init__(self) -> None:
        self._file: Path | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Begin at the moment again, before the first fixture of a test is made."""
        if item.path != self._file or not shares(item):
            begin()
        self._file = item.path


def pytest_configure(config: pytest.Config) -> None:
    """Called by pytest."""
    config.pluginmanager.register(Clock())
