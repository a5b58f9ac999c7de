"""A plugin for pytest: every test begins at one moment of the wall clock, whenever it is run.

`wall_clock.c` is preloaded. The shift is set anew before each test, and what a test starts inherits it.
"""

from __future__ import annotations

import ctypes
import os
import time

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


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Begin at the moment again, before the first fixture of a test is made."""
    begin()
