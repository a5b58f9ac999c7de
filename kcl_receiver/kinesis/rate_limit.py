"""Keeps the calls for one shard within the limits of the service; the time is given in.

Limits of the service per shard, from its API reference: 5 GetRecords calls and 2 MB a second, 5 GetShardIterator calls
a second. A call may return 10 MB, and is then paid off by waiting. All who read the shard share them, also a receiver
that runs meanwhile; so throttling happens nevertheless, and is answered by pauses (`kcl_receiver.processor.backoff`).
"""

from __future__ import annotations

from dataclasses import dataclass

_ROUNDING = 1e-6
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much to ask of one shard.

    Attributes:
        calls: GetRecords calls a second, and as many GetShardIterator calls.
        bytes: Bytes a second that GetRecords returns.
    """

    calls: float = 5.0
    bytes: float = 2_000_000.0


class Bucket:
    """A token bucket that may go into debt: what is taken is taken, and the next one waits until it is paid.

    Args:
        rate: Tokens a second.
        room: Tokens that it holds at most, and at the beginning.
    """

    def __init__(self, rate: float, room: float) -> None:
        self._rate = rate
        self._room = room
        self._level = room
        self._at = float("-inf")

    def wait(self, now: float, need: float) -> float:
        """Return in how many seconds it holds `need` tokens, which is not more than it has room for; 0 if it does."""
        if now > self._at:
            self._level = min(self._room, self._level + (now - self._at) * self._rate)
            self._at = now
        wait = (need - self._level) / self._rate
        # A wait that is nothing but rounding might not move the caller's clock at all.
        return wait if wait > _ROUNDING else 0.0

    def take(self, tokens: float) -> None:
        """Take tokens, into debt if need be."""
        self._level -= tokens


class Pace:
    """When the next call for a shard may be made; all times are the caller's seconds."""

    def __init__(self, limits: Limits) -> None:
        # Calls are spread evenly: five at once, and five a moment later, would be ten within one second.
        self._iterators = Bucket(limits.calls, 1.0)
        self._reads = Bucket(limits.calls, 1.0)
        self._bytes = Bucket(limits.bytes, limits.bytes)

    def iterator_wait(self, now: float) -> float:
        """Return the seconds until GetShardIterator may be called."""
        return self._iterators.wait(now, 1.0)

    def read_wait(self, now: float) -> float:
        """Return the seconds until GetRecords may be called."""
        return max(self._reads.wait(now, 1.0), self._bytes.wait(now, 0.0))

    def iterator_called(self) -> None:
        """GetShardIterator was called, with whatever end."""
        self._iterators.take(1.0)

    def read_called(self) -> None:
        """GetRecords was called, with whatever end."""
        self._reads.take(1.0)

    def received(self, size: int) -> None:
        """GetRecords returned so many bytes of keys and data."""
        self._bytes.take(size)
