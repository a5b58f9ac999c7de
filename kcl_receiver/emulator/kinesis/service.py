"""The Kinesis model with a clock and a lock: what the server, the control endpoint and tests talk to.

All access goes through one lock, so that tests may reach in from another thread while the server answers requests.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from kcl_receiver.emulator.kinesis import api
from kcl_receiver.emulator.kinesis.model import Event, Model

Answer = tuple[int, bytes]

END_OF_TIME = 253_402_300_800 - 86_400
"""Seconds since the epoch: the last day of the year 9999, beyond which no date can be written."""


class Kinesis:
    """Kinesis for one account and region; safe to use from any thread.

    Args:
        account: Twelve digits.
        region: Name of the region.
        seed: Decides sequence numbers and switched-on misbehaviour.
        journal: Called with each event that changes the state, before it takes effect.
        clock: Returns seconds since the epoch; the model's time is this plus what it was advanced by.
    """

    def __init__(
        self,
        account: str = "000000000001",
        region: str = "us-east-1",
        seed: int = 0,
        journal: Callable[[Event], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.lock = threading.RLock()
        self.model = Model(account, region, seed, journal)
        self._journal = journal
        self._clock = clock
        self._ahead = 0
        self._latest = 0

    def now(self) -> int:
        """Return the model's time in milliseconds since the epoch; it never goes back."""
        with self.lock:
            self._latest = max(self._latest, int(self._clock() * 1000) + self._ahead)
            return self._latest

    def advance(self, seconds: float) -> None:
        """Move the model's clock ahead: what is due by then (retention, expiry) happens at the next call.

        Raises:
            ValueError: The clock cannot go back, nor beyond the year 9999.
        """
        if seconds < 0:
            raise ValueError(f"the clock cannot be moved back by {-seconds} s")
        with self.lock:
            if not seconds <= END_OF_TIME - self.now() / 1000:
                raise ValueError(f"the clock cannot be moved beyond the year 9999, as {seconds} s would")
            event = {"event": "advance", "milliseconds": int(seconds * 1000)}
            if self._journal is not None:
                self._journal(event)
            self.replay(event)

    def replay(self, event: Event) -> None:
        """Apply an event that a journal kept, without writing it down again."""
        with self.lock:
            if event["event"] == "advance":
                self._ahead += event["milliseconds"]
            else:
                self.model.apply(event)

    def configure(self, **changes: float | bool) -> None:
        """Change settings of `Settings`: empty_pages, iterator_lifetime, limits, put_failures, transition.

        Raises:
            ValueError: There is no such setting, or the value cannot be.
        """
        with self.lock:
            self.model.settings.change(changes)

    def trim(self, stream: str, shard: str | None = None, through: int | None = None) -> int:
        """Drop records of a stream, or of one of its shards, up to a sequence number or all; return how many.

        Raises:
            ServiceError: There is no such stream or shard.
        """
        with self.lock:
            return self.model.trim(self.now(), stream, shard, through)

    def shards(self, stream: str) -> list[dict[str, Any]]:
        """Return a look at each shard of a stream, open or closed.

        Each holds `id`, `open`, `records` and `bytes` that can be read, `total` records ever put, `last` sequence
        number (an integer; the starting number of a shard without records), `parent`, `adjacent`, `children`.

        Raises:
            ServiceError: There is no such stream.
        """
        with self.lock:
            return [
                {
                    "id": shard.id,
                    "open": shard.is_open,
                    "records": shard.held,
                    "bytes": shard.bytes_held,
                    "total": shard.total,
                    "last": shard.last_sequence,
                    "parent": shard.parent,
                    "adjacent": shard.adjacent,
                    "children": list(shard.children),
                }
                for shard in self.model.find(self.now(), stream).shards.values()
            ]

    def streams(self) -> list[str]:
        """Return the names of all streams."""
        with self.lock:
            return [stream.name for stream in self.model.live(self.now())]

    def call(self, operation: str, body: bytes, in_cbor: bool = False) -> Answer:
        """Answer one request in JSON or in CBOR: HTTP status and body. Never raises what a caller could cause."""
        with self.lock:
            return api.answer(self.model, self.now(), operation, body, in_cbor)
