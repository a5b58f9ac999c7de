"""Warns of lost ranges that the stream is about to trim: the last moment at which they can be brought back.

A range can be read again until its oldest record is older than the stream's retention. An arrival time that is not
known is taken for one that is over soon: a warning too many costs a look, one too few costs records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from kcl_receiver.audit.report import Damage
from kcl_receiver.horizon import HOUR_MS
from kcl_receiver.ranges import Range, StreamIdentity
from kcl_receiver.store.blocks.file import salvage
from kcl_receiver.store.store import Store


class Expiring(NamedTuple):
    """A lost range, and when the stream trims its oldest record.

    `trimmed_at` is in milliseconds since the epoch; None if the arrival time is not known; 0 if the stream is gone, or
    is another one.
    """

    block: str
    stream: StreamIdentity
    range: Range
    trimmed_at: int | None


def expiring(
    store: Store,
    damages: Iterable[Damage],
    retention_hours: Callable[[StreamIdentity], int | None],
    before_ms: int,
) -> Iterator[Expiring]:
    """Yield the lost ranges that the stream trims before a time, or has trimmed already.

    A range that is still whole in its damaged file is left out: it does not need the stream.

    Args:
        store: The store.
        damages: What is damaged.
        retention_hours: Returns a stream's retention, or None if the stream is gone.
        before_ms: Milliseconds since the epoch.

    Raises:
        StreamUnavailable: AWS does not answer, or does not allow it.
        StoreUnavailable: The store cannot be read now.
    """
    known: dict[StreamIdentity, int | None] = {}
    for damage in damages:
        stream = damage.entry.stream
        if not damage.ranges_lost:
            continue
        if stream not in known:
            known[stream] = retention_hours(stream)
        in_file = {one for one, _ in salvage(store, damage.block, damage.ranges_lost)}
        for one in damage.ranges_lost:
            at = _trimmed_at(one, known[stream])
            if one not in in_file and (at is None or at < before_ms):
                yield Expiring(damage.block, stream, one, at)


def _trimmed_at(one: Range, retention_hours: int | None) -> int | None:
    if retention_hours is None:
        return 0
    arrivals = one.arrivals
    return None if arrivals.unknown else arrivals.oldest + retention_hours * HOUR_MS
