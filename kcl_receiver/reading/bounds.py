"""What people type as the bounds of a reading and as the names of shards, and what it means.

The rule: what could mean two things is refused, and what names nothing that there is, too. A reading that begins at the
wrong place, or reads a shard that does not exist, looks like one that found nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from numbers import Integral, Real

from kcl_receiver.errors import ConfigError
from kcl_receiver.ids import check_block_id
from kcl_receiver.ranges import Position, StreamIdentity, parse_position
from kcl_receiver.store.ledger.entries import BlockStored, Entry, SessionStarted, ShardEnded
from kcl_receiver.store.ledger.reading import Ledger
from kcl_receiver.store.store import Store
from kcl_receiver.times import millis_of, time_millis

Bound = datetime | timedelta | int | Position | str | Mapping[str, Position | str] | None
"""Where to begin or end: a time, a position by shard, or one position where one shard is read. A time is a datetime
with a zone, a timedelta or an age such as `12h`, both counted back from now, ISO 8601, or milliseconds since the epoch.
"""

_SURE_FROM, _SURE_TO = 10**11, 10**14
"""Milliseconds since the epoch of 1973 and of 5138. Seconds of our time are below, microseconds are beyond."""

_DIGITS_OF_TIME = range(8, 20)
"""Digits of a day such as 20261122, up to those of nanoseconds since the epoch; sequence numbers of Kinesis have 56."""

SHARDS_NAMED = 20
"""How many shards an error lists."""


def parse_bound(
    name: str, bound: Bound, shards: frozenset[str] | None, now_ms: int
) -> int | dict[str, Position] | None:
    """Return a time in milliseconds since the epoch, or a position by shard; None is no bound.

    Args:
        name: What it is called in errors.
        bound: What was given.
        shards: Ids of the shards that are read; None is all of them.
        now_ms: Milliseconds since the epoch.

    Raises:
        ConfigError: It is neither, or it could mean two things.
    """
    try:
        if bound is None:
            return None
        if isinstance(bound, datetime):
            return millis_of(bound)
        if isinstance(bound, timedelta):
            return _ago(bound, now_ms)
        if isinstance(bound, Real):
            return _millis(bound)
        if isinstance(bound, Mapping):
            return {shard: _position(one) for shard, one in bound.items()}
        if isinstance(bound, str) and bound.isdecimal() and len(bound) in _DIGITS_OF_TIME:
            raise ValueError(f"{bound} may be a time without a unit, or a sequence number: write {bound}:0 for that")
        if isinstance(bound, str) and not bound.partition(":")[0].isdecimal():
            return time_millis(bound, now_ms)
        only = _position(bound)
    except (ValueError, TypeError, OverflowError) as error:
        raise ConfigError(
            f"{name} is not a time and not a position: {error}",
            "a time: a datetime with a zone, 2026-11-22T13:15:00Z, or an age such as 12h; "
            "a position: SEQUENCE:SUB, or a dictionary of them by shard",
        ) from error
    if shards is None or len(shards) != 1:
        raise ConfigError(
            f"{name} is a position, and positions are counted in each shard anew",
            f"name one shard, or give a dictionary: {name}={{'shardId-000000000000': 'SEQUENCE:SUB'}}",
        )
    return dict.fromkeys(shards, only)


def shard_id(text: str) -> str:
    """Return the id of a shard: `3` and `shard 3`, as `status` shows it, are shardId-000000000003."""
    number = text.removeprefix("shard ")
    return f"shardId-{int(number):012d}" if number.isascii() and number.isdecimal() and len(number) <= 12 else text


def check_shards(store: Store, ids: Iterable[str], stream: StreamIdentity | None = None) -> None:
    """See that something is stored of each shard, or that its reading began.

    The ledgers are read from the newest back until all of them were seen.

    Args:
        store: The store.
        ids: Ids of shards.
        stream: Their stream; None is all that the store holds.

    Raises:
        ConfigError: There is no such shard in the store.
        StoreUnavailable: The store cannot be read now.
    """
    unseen, known = set(ids), set[str]()
    if not unseen:
        return
    faults: dict[str, str] = {}
    for entry in Ledger(store, faults).entries(newest_first=True):
        names = _shards_of(entry, stream)
        known |= names
        unseen -= names
        if not unseen or faults:
            return  # what a damaged ledger named is not known
    if faults or not known:
        return  # there is no ledger: the footers will tell
    listed = sorted(known)
    more = f" and {len(listed) - SHARDS_NAMED:,} more" if len(listed) > SHARDS_NAMED else ""
    raise ConfigError(
        f"nothing is stored of {', '.join(sorted(unseen))[:200]}",
        f"the shards in the store are: {', '.join(listed[:SHARDS_NAMED])}{more}",
    )


def check_blocks(store: Store, blocks: Iterable[str]) -> None:
    """See that each block is in the store, or in a ledger.

    Raises:
        ConfigError: One is in neither, or is no id of a block.
        StoreUnavailable: The store cannot be read now.
    """
    for block in blocks:
        try:
            check_block_id(block)
        except ValueError as error:
            raise ConfigError(
                str(error), "`kcl-receiver verify` lists the ids of missing and damaged blocks"
            ) from error
        faults: dict[str, str] = {}
        if not store.has_block(block) and Ledger(store, faults).find(block) is None and not faults:
            raise ConfigError(
                f"block {block} is not in {store.url}, and no ledger names it",
                "`kcl-receiver verify` lists the ids of missing and damaged blocks",
            )


def _shards_of(entry: Entry, stream: StreamIdentity | None) -> set[str]:
    if isinstance(entry, SessionStarted | ShardEnded | BlockStored) and stream in (None, entry.stream):
        if isinstance(entry, BlockStored):
            return {one.shard for one in entry.ranges}
        return {entry.shard}
    return set()


def _ago(age: timedelta, now_ms: int) -> int:
    if age < timedelta(0):
        raise ValueError(f"{age} is still to come: a timedelta is counted back from now")
    millis = now_ms - age // timedelta(milliseconds=1)
    if millis < 0:
        raise ValueError(f"{age} ago lies before 1970")
    return millis


def _millis(number: Real) -> int:
    if isinstance(number, bool) or not isinstance(number, Integral):
        raise ValueError(f"{number!r} has no unit: write datetime.fromtimestamp({number!r}, timezone.utc)")
    if not _SURE_FROM <= int(number) < _SURE_TO:
        raise ValueError(
            f"{int(number)} would be milliseconds since the epoch, in a year without streams; if it is seconds, "
            f"write datetime.fromtimestamp({int(number)}, timezone.utc)"
        )
    return int(number)


def _position(one: object) -> Position:
    if isinstance(one, Position):
        return one
    if not isinstance(one, str):
        raise TypeError(f"{one!r}")
    return parse_position(one)
