"""Holds for all tests, however busy the machine is and however they were started.

Hypothesis judges what is true, and not how long it takes.
"""

from __future__ import annotations

import signal
from itertools import cycle
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("without-deadline", settings(), deadline=None)
settings.load_profile("without-deadline")

# A signal that is ignored stays so in every process that a test starts, and the receiver respects that: nohup ignores
# SIGHUP, and a shell SIGINT for what it starts with `&`. Tests that send these need them to arrive.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """A process that dies ends the run, and the test that killed it is named: else the next one gets it."""
    if getattr(config.option, "maxworkerrestart", "") is None:
        config.option.maxworkerrestart = "0"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:  # noqa: ANN401 - xdist may not be installed
    """Several processes, as `scripts/test` starts them: a file is run by one, and those with the daemon by two."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        """Tests of the daemon wait for KCL most of the time, while the rest needs the processors."""

        def __init__(self) -> None:
            super().__init__(config, log)
            self._lines = cycle(["acceptance, 1", "acceptance, 2"])
            self._line_of: dict[str, str] = {}

        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            if not file.startswith("tests/acceptance/"):
                return file
            if nodeid not in self._line_of:
                self._line_of[nodeid] = next(self._lines)
            return self._line_of[nodeid]

    return Scheduling()


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End with one line that says how many passed and how many did not."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(config, "workerinput") or config.option.collectonly:
        return
    passed, failed, skipped = (
        sum(len(reporter.stats.get(kind, ())) for kind in kinds)
        for kinds in (("passed",), ("failed", "error"), ("skipped",))
    )
    reporter.write_line(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
