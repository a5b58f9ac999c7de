"""Holds for all tests, however busy the machine is and however they were started.

Hypothesis judges what is true, and not how long it takes.
"""

from __future__ import annotations

import signal

from hypothesis import settings

settings.register_profile("without-deadline", settings(), deadline=None)
settings.load_profile("without-deadline")

# A signal that is ignored stays so in every process that a test starts, and the receiver respects that: nohup ignores
# SIGHUP, and a shell SIGINT for what it starts with `&`. Tests that send these need them to arrive.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
