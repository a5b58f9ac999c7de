"""A bucket with S3's manners, and a host's line to it, on which requests fail in every way that a network knows.

What the bucket shows is durable, is listed at once, and is never there in part. A request that its sender sees fail
never took effect, or took effect, or takes effect later: seconds to hours after its sender gave up or was killed, also
after the successor has begun, and between any two of its requests. A create that comes late succeeds if its key is
still free. It draws from a generator of random numbers of its own.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from kcl_receiver.ids import writer_of
from kcl_receiver.store.bucket import Bucket
from kcl_receiver.store.layout import block_at, ledger_path
from kcl_receiver.store.ledger.entries import ends_closed
from kcl_receiver.store.memory import MemoryBucket
from kcl_receiver.store.objects import Stat
from simulation.timeline import Killed

if TYPE_CHECKING:
    import pyarrow as pa

    from simulation.fleet import Fleet

_T = TypeVar("_T")

EVERY = 3
"""Every third seed is on a bucket."""
LATE_BY = (0.01, 1.0), (1.0, 10.0), (10.0, 60.0), (600.0, 4 * 3600.0)
"""Seconds by which requests come late."""
LATE_AFTER = 1, 2, 3, 5, 8, 13, 30
"""Or so many other requests."""
BEFORE, AFTER, LATE = "before", "after", "late"
WAYS = BEFORE, AFTER, LATE, LATE


def is_on_bucket(seed: int) -> bool:
    """Return whether the hosts of a seed store in buckets. No number is drawn: the other seeds stay what they are."""
    return seed % EVERY == 0


class SimBucket:
    """What a bucket holds, and which requests are still on their way.

    Attributes:
        objects: The objects.
        changes: How often they were changed.
        logs: The parts of each log, by the number of their first line.
        names: Keys of all other objects, by the first part of the key, and their content.
        came_late: The keys of objects that a late request made, and of blocks that were put when their ledger was
            closed: by a host that was taken for dead.
        away_until: Until when it answers nobody.
    """

    def __init__(self, fleet: Fleet, name: str) -> None:
        self.rng = random.Random(f"{fleet.seed} {name} bucket")
        self.objects = MemoryBucket(name, fleet.stream.millis)
        self.changes = 0
        self.held: dict[str, bytes] = {}
        self.came_late: set[str] = set()
        self.away_until = 0.0
        self._timeline = fleet.timeline
        self._fleet = fleet
        self._parts: dict[str, dict[int, bytes]] = defaultdict(dict)
        self._read: dict[str, bytes] = {}
        self._coming: list[list[object]] = []

    # What it holds, as the judge reads it

    def log(self, key: str) -> bytes:
        """Return a log: its parts in the order of their numbers, without a gap."""
        if key not in self._read:
            parts, whole = self._parts[key], self.held.get(key, b"")
            for number in sorted(parts):
                if number == whole.count(b"\n") + 1:
                    whole += parts[number]
            self._read[key] = whole
        return self._read[key]

    def logs(self) -> set[str]:
        """Return the keys of all logs."""
        whole = {key for key in self.held if key.endswith(".jsonl")}
        return whole | {key for key, parts in self._parts.items() if 1 in parts}

    # Requests that take effect

    def put(self, key: str, content: bytes, *, if_absent: bool) -> bool:
        done = self.objects.put(key, content, if_absent=if_absent)
        if done:
            self.changes += 1
            self._fleet.seen["ledgers merged"] += if_absent and key.startswith("ledger/2") and key.endswith(".jsonl")
            log, mark, number = key.rpartition("~")
            if mark:
                self._parts[log][int(number)] = content
            else:
                self.held[key] = content
            self._read.pop(log or key, None)
            # It slept while it was taken for dead, and may be killed before it is told.
            block = block_at(key)
            if block is not None and ends_closed(self.log(ledger_path(writer_of(block)))):
                self.came_late.add(key)
        return done

    def remove(self, keys: Sequence[str]) -> None:
        self.objects.remove(keys)
        self.changes += 1
        for key in keys:
            log, mark, number = key.rpartition("~")
            if mark:
                self._parts[log].pop(int(number), None)
            else:
                self.held.pop(key, None)
            self._read.pop(log or key, None)

    # Requests that come late

    def send(self, what: str, request: Callable[[], object], key: str = "") -> None:
        """Let a request take effect some time later."""
        rng = self.rng
        one: list[object] = [0, what, request, key]
        self._coming.append(one)
        if rng.random() < 0.5:
            one[0] = rng.choice(LATE_AFTER)
        else:
            self._timeline.at(self._timeline.now + rng.uniform(*rng.choice(LATE_BY)), lambda: self._arrive(one))

    def requested(self) -> None:
        """A request came; those that come so many others later may be due."""
        for one in [one for one in self._coming if one[0]]:
            one[0] -= 1  # type: ignore[operator]
            if not one[0]:
                self._arrive(one)

    def _arrive(self, one: list[object]) -> None:
        if one not in self._coming:
            return
        self._coming.remove(one)
        _, what, request, key = one
        if self._fleet.tracing:
            self._fleet.trace(f"{self.objects.url}: {what} comes late")
        if request() and key:  # type: ignore[operator]
            self._fleet.seen["requests came late"] += 1
            self.came_late.add(str(key))

    def arrive_all(self) -> None:
        """Let all that is still on its way arrive."""
        for one in list(self._coming):
            self._arrive(one)

    def forget(self, part: str) -> None:
        """Let requests on some keys never arrive."""
        self._coming = [one for one in self._coming if part not in str(one[1])]


class Line(Bucket):
    """A host's line to a bucket. Of what a disk does to its host it has the counterparts, by the same names.

    Attributes:
        fails: Until when requests time out, and whether after they took effect.
        full_until: Until when it is throttled.
        late_until: Until when what changes something often takes effect late.
        errors: Requests that change something and time out, how many; by the names that a disk's calls have.
        errors_part: Only on keys that contain this, written as paths of a disk.
        kill_after_error: The first change after one that timed out kills who makes it.
        reading: Told of every key that is looked at or read; None for nobody.
        weather: The share of requests that time out at any time.
    """

    def __init__(self, bucket: SimBucket, fleet: Fleet, *, weather: float = 0.0) -> None:
        self.url = bucket.objects.url
        self.full_until = self.late_until = 0.0
        self.fails = (0.0, False)
        self.errors: dict[str, int] = {}
        self.errors_part = ""
        self.kill_after_error = False
        self.reading: Callable[[Path], None] | None = None
        self.weather = weather
        self._kill: tuple[int, str, str] | None = None
        self._bucket = bucket
        self._fleet = fleet
        self._rng = bucket.rng

    # What strikes it

    def kill_in(self, part: str, calls: int, way: str = "") -> None:
        """Kill who makes a change on keys that contain this: a request takes the place of some calls of a disk."""
        self._kill = calls // 3, part, way

    def process_died(self) -> None:
        """What it has sent may still arrive."""
        self._kill = None

    def power_lost(self) -> None:
        """Nothing of the bucket is lost."""
        self.errors.clear()
        self._kill, self.kill_after_error = None, False

    def heal(self) -> None:
        self.full_until = self.late_until = self.weather = 0.0
        self.fails = (0.0, False)
        self.power_lost()

    def troubled_until(self) -> float:
        return max(self.full_until, self.late_until, self._bucket.away_until)

    # Requests

    def put(self, key: str, content: bytes, *, if_absent: bool) -> bool:
        put = partial(self._bucket.put, key, content, if_absent=if_absent)
        return self._change("put", key, put)

    def remove(self, keys: Sequence[str]) -> None:
        self._change("remove", keys[0], partial(self._bucket.remove, keys))

    def get(self, key: str) -> bytes | None:
        self._look("get", key)
        return self._bucket.objects.get(key)

    def open(self, key: str) -> pa.NativeFile:
        self._look("get", key)
        return self._bucket.objects.open(key)

    def head(self, key: str) -> Stat | None:
        self._look("head", key)
        return self._bucket.objects.head(key)

    def page(self, prefix: str, after: str, *, deep: bool) -> Sequence[Stat]:
        self._look("list", prefix)
        return self._bucket.objects.page(prefix, after, deep=deep)

    def _look(self, request: str, key: str) -> None:
        if self.reading is not None:
            self.reading(Path(key))
        self._begin(request, key)
        until, after = self.fails
        now = self._fleet.timeline.now
        if (now < until and not after and self._is_hit(until - now)) or self._rng.random() < self.weather:
            raise TimeoutError(f"{request} of {key}: made to fail")

    def _begin(self, request: str, key: str) -> None:
        self._bucket.requested()
        if self._fleet.timeline.now < self._bucket.away_until:
            raise TimeoutError(f"{request} of {key}: the bucket is away")

    def _is_hit(self, left: float) -> bool:
        return left > 20 or self._rng.random() < 0.7

    def _change(self, request: str, key: str, do: Callable[[], _T]) -> _T:
        self._begin(request, key)
        now, path = self._fleet.timeline.now, f"/store/{key}"
        if self._kill is not None and self._kill[1] in path:
            left, part, way = self._kill
            self._kill = (left - 1, part, way) if left else None
            if not left:
                self._fail(way or self._rng.choice(WAYS), request, key, do)
                raise Killed
        if now < self.full_until and request == "put":
            raise RuntimeError(f"{request} of {key}: reduce your request rate")
        way = self._way(now, path)
        if way:
            self._fail(way, request, key, do)
            raise TimeoutError(f"{request} of {key}: made to fail")
        return do()

    def _way(self, now: float, path: str) -> str:
        """Return how a request fails, or an empty text."""
        until, after = self.fails
        if self.errors and self.errors_part in path:
            call = next(iter(self.errors))
            self.errors[call] -= 1
            if not self.errors[call]:
                del self.errors[call]
            if self.kill_after_error:
                self.kill_after_error = False
                self.kill_in("", 0)
            return self._rng.choice(WAYS)
        if now < until and self._is_hit(until - now):
            return AFTER if after else self._rng.choice((BEFORE, BEFORE, LATE))
        if now < self.late_until and self._rng.random() < 0.4:
            return LATE
        return self._rng.choice(WAYS) if self._rng.random() < self.weather else ""

    def _fail(self, way: str, request: str, key: str, do: Callable[[], object]) -> None:
        if self._fleet.tracing:
            self._fleet.trace(f"{self.url}: {request} of {key} fails, its effect: {way}")
        if way == AFTER:
            do()
        elif way == LATE:
            self._bucket.send(f"{request} of {key}", do, key)
