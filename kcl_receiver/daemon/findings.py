"""What a check finds, and which exit code a list of findings makes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kcl_receiver.errors import (
    EXIT_AMISS,
    EXIT_ENVIRONMENT,
    EXIT_OK,
    EXIT_STORE,
    EXIT_STREAM,
    EXIT_USAGE,
)

OK, WARNING, ERROR = "ok", "warning", "error"

SETTINGS, MACHINE, STORE, STREAM, RECEIVER = "settings", "machine", "store", "stream", "receiver"
"""Areas, in the order in which they are looked at: what is wrong in one makes the next hard to judge. The last one is
the receiver that runs now, if one does."""

NO_LEASES = "no lease table yet"
"""Subject of the finding that this is the first start."""

LEASES_GONE = "the lease table is gone"
"""Subject of the finding that there was a lease table: KCL will start as slowly as the first time."""

_EXIT_CODES = {
    SETTINGS: EXIT_USAGE,
    MACHINE: EXIT_ENVIRONMENT,
    STORE: EXIT_STORE,
    STREAM: EXIT_STREAM,
    RECEIVER: EXIT_AMISS,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        area: One of the areas above.
        severity: `ok`, `warning` (works, and may surprise) or `error` (does not work, or breaks a promise).
        subject: The key or the thing.
        reason: What is the matter; for `ok`, what was found.
        instead: The line to write, or what to do; empty where nothing is to be done.
        mends: Whether an error may go away by itself, such as a network that is not up yet.
    """

    area: str
    severity: str
    subject: str
    reason: str
    instead: str = ""
    mends: bool = False


def exit_code(findings: Iterable[Finding]) -> int:
    """Return the exit code of the first area that has an error."""
    areas = {finding.area for finding in findings if finding.severity == ERROR}
    return next((code for area, code in _EXIT_CODES.items() if area in areas), EXIT_OK)
