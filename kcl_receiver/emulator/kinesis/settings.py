"""What can be switched on the Kinesis model, and how a token bucket keeps the service's limits."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

DEFAULT_RECORD_LIMIT = 10 * 2**20
"""Bytes of key and data that a record may have: the service's maximum. (It makes streams with 1 MiB unless asked.)"""


@dataclass
class Settings:
    """Switches of the model; all may be changed while it runs.

    Attributes:
        empty_pages: Share of GetRecords calls, 0 to below 1, that return no record although there are some.
        iterator_lifetime: Seconds after which a shard iterator expires.
        limits: Whether the service's limits per shard hold: reading 5 calls and 2 MB a second, writing 1,000 records
            or 1 MB a second.
        put_failures: Share of the records of PutRecords, 0 to below 1, that fail with InternalFailure.
        transition: Seconds that a stream is CREATING, UPDATING or DELETING.
    """

    empty_pages: float = 0.0
    iterator_lifetime: float = 300.0
    limits: bool = False
    put_failures: float = 0.0
    transition: float = 0.0

    def change(self, changes: dict[str, Any]) -> None:
        """Set some of the switches.

        Raises:
            ValueError: A name or a value is none of those that exist.
        """
        known = {field.name for field in fields(self)}
        for name, value in changes.items():
            if name not in known:
                raise ValueError(f"no such setting: {name!r}; there are {', '.join(sorted(known))}")
            wanted = bool if name == "limits" else float
            if isinstance(value, bool) != (wanted is bool) or not isinstance(value, (bool, int, float)):
                raise ValueError(f"{name} must be a {'boolean' if wanted is bool else 'number'}, not {value!r}")
            if name in ("empty_pages", "put_failures") and not 0 <= value < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, not {value!r}")
            if value < 0:
                raise ValueError(f"{name} must not be negative, but is {value!r}")
        for name, value in changes.items():
            setattr(self, name, value)


class Bucket:
    """A token bucket that may go into debt: what is allowed is allowed whole, and later calls wait for it to be paid.

    This is how the service describes its limit on reads: a call may return 10 MB, and calls within the next 5 s throw.

    Args:
        rate: Tokens a second, which is also the most that it holds.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._level = rate
        self._at: int | None = None

    def allows(self, now: int, need: float = 1.0) -> bool:
        """Whether the bucket holds at least `need` tokens at `now` (ms)."""
        if self._at is not None and now > self._at:
            self._level = min(self._rate, self._level + self._rate * (now - self._at) / 1000)
        self._at = now if self._at is None else max(self._at, now)
        return self._level >= need

    def take(self, tokens: float) -> None:
        """Take tokens, into debt if need be."""
        self._level -= tokens


class ShardLimits:
    """The limits of one shard, as the service documents them."""

    READS = 5
    READ_BYTES = 2 * 2**20
    WRITES = 1000
    WRITE_BYTES = 2**20

    def __init__(self) -> None:
        self.reads = Bucket(self.READS)
        self.read_bytes = Bucket(self.READ_BYTES)
        self.writes = Bucket(self.WRITES)
        self.write_bytes = Bucket(self.WRITE_BYTES)
