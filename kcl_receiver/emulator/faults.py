"""Misbehaviour that can be switched on for whole services: down, hanging, or failing single operations."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

EVERYTHING = "*"


@dataclass
class Failure:
    """An error that an operation answers with, so many times.

    Attributes:
        service: `kinesis`, `dynamodb`, `s3`, ... or `*`.
        operation: Name in the API, for S3 the HTTP method; or `*`.
        error: The service's name of the error.
        message: Its words.
        status: HTTP status.
        times: How often; it is gone after that.
        after: Whether the operation is done first, so that only its answer is lost.
    """

    service: str
    operation: str
    error: str = "InternalFailure"
    message: str = "switched on by the emulator's faults"
    status: int = 500
    times: int = 1
    after: bool = False


class Faults:
    """The faults that are on; may be changed from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._down: frozenset[str] = frozenset()
        self._hang: frozenset[str] = frozenset()
        self._failures: list[Failure] = []
        self.on_change: Callable[[], None] = lambda: None

    def set_down(self, *services: str) -> None:
        """Answer 503 to all requests for these services (`*` for all; none to end it)."""
        with self._lock:
            self._down = frozenset(services)
        self.on_change()

    def set_hang(self, *services: str) -> None:
        """Answer nothing to requests for these services (`*` for all) until this is called without them."""
        with self._lock:
            self._hang = frozenset(services)
        self.on_change()

    def fail(
        self,
        service: str,
        operation: str,
        error: str = "InternalFailure",
        *,
        message: str = "switched on by the emulator's faults",
        status: int = 500,
        times: int = 1,
        after: bool = False,
    ) -> None:
        """Let an operation fail `times` times; see `Failure`."""
        with self._lock:
            self._failures.append(Failure(service, operation, error, message, status, times, after))

    def clear(self) -> None:
        """End all faults."""
        with self._lock:
            self._down = self._hang = frozenset()
            self._failures = []
        self.on_change()

    def is_down(self, service: str) -> bool:
        """Whether requests for a service are answered with 503."""
        return bool(self._down & {service, EVERYTHING})

    def hangs(self, service: str) -> bool:
        """Whether requests for a service are not answered."""
        return bool(self._hang & {service, EVERYTHING})

    def take(self, service: str, operation: str) -> Failure | None:
        """Return the failure that is due for an operation, and count it."""
        with self._lock:
            for failure in self._failures:
                if failure.service in (service, EVERYTHING) and failure.operation in (operation, EVERYTHING):
                    failure.times -= 1
                    if failure.times <= 0:
                        self._failures.remove(failure)
                    return failure
        return None

    def to_json(self) -> dict[str, Any]:
        """Return the faults that are on, in the form of the control endpoint."""
        with self._lock:
            return {
                "down": sorted(self._down),
                "hang": sorted(self._hang),
                "errors": [vars(failure).copy() for failure in self._failures],
            }

    def change(self, raw: dict[str, Any]) -> None:
        """Switch faults from the form of the control endpoint; what is not named stays.

        Raises:
            ValueError: It asks for something that does not exist.
        """
        unknown = raw.keys() - {"down", "hang", "errors"}
        if unknown:
            raise ValueError(f"no such fault: {', '.join(sorted(unknown))}; there are down, hang and errors")
        down = _services(raw["down"]) if "down" in raw else None
        hang = _services(raw["hang"]) if "hang" in raw else None
        failures = [_failure(one) for one in raw["errors"]] if "errors" in raw else None
        with self._lock:
            self._down = self._down if down is None else down
            self._hang = self._hang if hang is None else hang
            self._failures = self._failures if failures is None else failures
        self.on_change()


def _services(raw: object) -> frozenset[str]:
    if isinstance(raw, bool):
        return frozenset({EVERYTHING}) if raw else frozenset()
    if isinstance(raw, str):
        return frozenset({raw})
    if isinstance(raw, list) and all(isinstance(one, str) for one in raw):
        return frozenset(raw)
    raise ValueError(f"name services as true, false, a name or a list of names, not {raw!r}")


def _failure(raw: object) -> Failure:
    if not isinstance(raw, dict):
        raise ValueError(f"an entry of errors must be an object, not {raw!r}")
    try:
        return Failure(**raw)
    except TypeError as error:
        raise ValueError(f"an entry of errors needs service and operation: {error}") from error
