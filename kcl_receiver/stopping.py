"""Which signals stop, and which of them cut a stop short: one rule for `run` and for the generator.

The first signal drains. A later one ends everything at once, but only if somebody means it:

- Service managers signal every process of a service, some send SIGHUP right after SIGTERM, and a terminal that is
  closed sends SIGHUP, and so does its shell. Signals within `ONE_STOP_SECONDS` of the first are therefore one stop.
- SIGINT is a person's: a second Ctrl-C is meant, however soon it comes.
- SIGHUP says that a terminal is gone, never that there is no time left.
"""

from __future__ import annotations

import signal

ONE_STOP_SECONDS = 1.0

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def cuts_short(number: int, seconds: float) -> bool:
    """Tell whether a signal that comes while everything stops ends it at once.

    Args:
        number: The signal.
        seconds: How long ago the first one came.
    """
    if number == signal.SIGHUP:
        return False
    return number == signal.SIGINT or seconds >= ONE_STOP_SECONDS
