"""Bugs in what starts and supervises."""

from __future__ import annotations

from mutants import Mutant

MUTANTS = [
    Mutant(
        "signals that nohup ignores stop the supervisor",
        "kcl_receiver/daemon/supervisor.py",
        "[number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]",
        "list(STOP_SIGNALS)",
        ("tests/integration/test_supervisor.py::test_a_signal_that_is_ignored_when_it_starts_stays_ignored",),
    ),
]
