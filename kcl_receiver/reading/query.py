"""What a reading is asked for, and what it gives."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from kcl_receiver.ranges import Position
from kcl_receiver.reading.blocks import Fallback
from kcl_receiver.reading.token import Limit, Token
from kcl_receiver.schema import NAMES

BATCH_ROWS = 65_536
BATCH_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class HoleInShard:
    """A stretch of a shard that a reader could not hand out.

    Attributes:
        shard: Shard id.
        kind: `gap`: nothing is stored; `possibly trimmed`: nothing was delivered, and records may have expired unread;
            `late`: there are records, but they were stored after later ones had been handed out.
        after: The last position before it that was handed out, or None.
        through: The last position in it that is known to have been reached, or None.
        before: The first record that comes after it, or None if none is known.
        why: How it is known.
    """

    shard: str
    kind: str
    after: Position | None
    through: Position | None
    before: Position | None
    why: str

    def __str__(self) -> str:
        named = (("after", self.after), ("through", self.through), ("before", self.before))
        words = " ".join(f"{word} {position}" for word, position in named if position is not None)
        return f"{self.shard}: {self.kind} {words}: {self.why}" if words else f"{self.shard}: {self.kind}: {self.why}"


@dataclass(slots=True)
class Stats:
    """What a reader did so far.

    Attributes:
        records: Records handed out.
        batches: Batches handed out.
        holes: Holes that were reported and passed.
        expired_ranges: Ranges passed because their block was removed on purpose.
        expired_records: Records of these.
        skipped_ranges: Ranges passed without reading because nothing of them was asked for.
    """

    records: int = 0
    batches: int = 0
    holes: int = 0
    expired_ranges: int = 0
    expired_records: int = 0
    skipped_ranges: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one shard or of several, those of each shard in the order of the stream.

    Attributes:
        shards: Ids of their shards, in the order in which these come; the column `shard_id` says which record is of
            which. With `by_shard` it is a single one.
        batch: The records, with the columns that were asked for.
    """

    shards: tuple[str, ...]
    batch: pa.RecordBatch
    _token: Token

    @property
    def shard(self) -> str | None:
        """Id of the shard that all the records are of, or None if they are of several."""
        return self.shards[0] if len(self.shards) == 1 else None

    @property
    def token(self) -> str:
        """A text that lets a later reader go on just after this batch."""
        return self._token.to_text()


def wall_clock() -> int:
    """Return the time in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Query:
    """What is to be read, and how; see `read`, and `open_reading` for what is beyond it."""

    shards: frozenset[str] | None = None
    start: Limit = None
    end: Limit = None
    columns: tuple[str, ...] = NAMES
    follow: bool = False
    report: Callable[[HoleInShard], None] | None = None
    hole_timeout: float | None = None
    fallback: Fallback | None = None
    check: bool = True
    stop: threading.Event | None = None
    interval: float = 1.0
    limit: int | None = None
    by_shard: bool = False
    batch_rows: int = BATCH_ROWS
    batch_bytes: int = BATCH_BYTES
    watch_stream: bool = False
    wait: Callable[[float], bool] | None = None
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], int] = wall_clock
