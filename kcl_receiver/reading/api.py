"""The functions that a program calls: `read` and `records` give what is stored, `verify` proves that it is all there.

    from kcl_receiver import read

    for batch in read("file:///data/landing", columns=["data"]):
        print(batch.shards, batch.batch.num_rows)

A reading gives every record once, and in order within its shard. Overlaps, which a restart or a stolen lease leaves in
the blocks, are removed by the ranges that the ledger keeps. The rule: a record is handed out only after all records of
its shard before it, and a place where records are missing is never passed in silence. docs/reading.md has more.

Programs import these functions from `kcl_receiver`. What they do not offer, such as another clock, goes to
`open_reading` in a `Query`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from os import PathLike
from typing import Literal

from kcl_receiver.audit.report import Report
from kcl_receiver.audit.verify import verify_store
from kcl_receiver.errors import ConfigError, TokenRefused
from kcl_receiver.ranges import Position, StreamIdentity
from kcl_receiver.reading.blocks import Fallback
from kcl_receiver.reading.bounds import Bound, check_shards, parse_bound, shard_id
from kcl_receiver.reading.query import BATCH_BYTES, BATCH_ROWS, HoleInShard, Query
from kcl_receiver.reading.reading import Reading
from kcl_receiver.reading.token import Token
from kcl_receiver.schema import ARRIVAL, NAMES
from kcl_receiver.store.ledger.reading import Ledger
from kcl_receiver.store.store import Store, open_store
from kcl_receiver.times import EPOCH, shown_time

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Record:
    """One record.

    Attributes:
        shard: Shard id.
        position: Its sequence number and sub-sequence number.
        partition_key: Its partition key.
        arrived: When it arrived at Kinesis, or None if Kinesis gave no time.
        data: Its data.
    """

    shard: str
    position: Position
    partition_key: str
    arrived: datetime | None
    data: bytes


def read(
    store: Store | str | PathLike[str],
    *,
    shards: Iterable[str] | str | None = None,
    start: Bound = None,
    end: Bound = None,
    columns: Iterable[str] | str | None = None,
    follow: bool = False,
    token: str | None = None,
    on_hole: Literal["raise", "report"] | Callable[[HoleInShard], None] = "raise",
    hole_timeout: float | None = None,
    fallback: Fallback | None = None,
    check: bool = True,
    stop: threading.Event | None = None,
    stream: StreamIdentity | str | None = None,
    limit: int | None = None,
    by_shard: bool = False,
    interval: float = 1.0,
    batch_rows: int = BATCH_ROWS,
    batch_bytes: int = BATCH_BYTES,
) -> Reading:
    """Return an iterator of batches: every record once, in order within its shard.

    Args:
        store: What `open_store` returns or takes. It is only read; a receiver may be writing to it.
        shards: Ids of the shards to read, or the numbers that `status` shows, or a single one; all if not given.
        start: Begin with this position, or with what arrived at this time; see `Bound`.
        end: End with this position, included, or with what arrived before this time.
        columns: Names of the columns to read, in the order in which they are to come, or a single one; all if not
            given.
        follow: Wait for what is stored later, until `stop` is set.
        token: What a batch or a reading gave as its token: go on just after it, with the same shards or some of them,
            and to the same end.
        on_hole: `raise`; or `report`, which logs a warning and goes on; or a function that is called and may raise.
        hole_timeout: Seconds after which a follower passes a hole that something might still fill; never if not given.
        fallback: Where the records of a missing or damaged block come from.
        check: See that what is read is what was stored: all of a range's columns are held against its checksum, fewer
            against the footer of its block.
        stop: Ends the reading soon after it is set.
        stream: The stream, if the store holds several: an identity or its text, `arn@created`. The newest if not given.
        limit: Number of records after which to end.
        by_shard: Give batches of one shard each. They are smaller, and take longer to read.
        interval: Seconds between two looks for what is new.
        batch_rows: The most records of a batch.
        batch_bytes: The most bytes of a batch, as Arrow holds them; a single record may have more.

    Raises:
        ConfigError: An argument makes no sense, or names a shard of which nothing is stored.
        TokenRefused: The token is for another store, stream or version.
        StoreRefused: There is no store, or it is of a format that this version does not know.
        HoleFound: While reading: records are missing, or may be, and `on_hole` is `raise`.
        BlockMissing: While reading: a block is gone, and no fallback has its records.
        BlockDamaged: While reading: a block is not what was stored, and no fallback has its records.
        LedgerDamaged: While reading: the ledger is not what was written.
        StoreUnavailable: The store cannot be read now; read again with the last token.
        StreamReplaced: While following: the store goes on with a newer stream, and none was asked for.
    """
    query = Query(
        follow=follow,
        report=_report(on_hole),
        hole_timeout=hole_timeout,
        fallback=fallback,
        check=check,
        stop=stop,
        interval=interval,
        limit=limit,
        by_shard=by_shard,
        batch_rows=batch_rows,
        batch_bytes=batch_bytes,
    )
    return open_reading(store, query, shards=shards, start=start, end=end, columns=columns, token=token, stream=stream)


def open_reading(
    store: Store | str | PathLike[str],
    query: Query,
    *,
    shards: Iterable[str] | str | None = None,
    start: Bound = None,
    end: Bound = None,
    columns: Iterable[str] | str | None = None,
    token: str | None = None,
    stream: StreamIdentity | str | None = None,
) -> Reading:
    """Return a reading by a query, and by words of `read` that get their meaning only here.

    Args:
        store: See `read`, as for all that follows.
        query: How to read. Its shards, bounds, columns and stream are taken from the other arguments.
        shards: Which shards to read.
        start: Where to begin.
        end: Where to end.
        columns: Which columns to read.
        token: What to go on after.
        stream: Which stream to read.

    Raises:
        ReceiverError: See `read`.
    """
    now = query.now()
    place = open_store(store)
    asked = None if shards is None else frozenset([shards] if isinstance(shards, str) else shards)
    chosen = NAMES if columns is None else tuple([columns] if isinstance(columns, str) else columns)
    if not chosen:
        raise ConfigError("no column was asked for", f"columns are: {', '.join(NAMES)}")
    if unknown := [name for name in chosen if name not in NAMES]:
        raise ConfigError(
            f"there is no column {', '.join(map(repr, unknown))[:200]}", f"columns are: {', '.join(NAMES)}"
        )
    if asked is not None and not asked:
        raise ConfigError("no shard was asked for", "leave `shards` out to read all")
    if query.limit is not None and query.limit < 1:
        raise ConfigError(f"a limit of {query.limit} records", "give a number above 0")
    for name, most in (("batch_rows", query.batch_rows), ("batch_bytes", query.batch_bytes)):
        if most < 1:
            raise ConfigError(f"{name} is {most}", "give a number above 0")
    from_token = None if token is None else Token.from_text(token)
    if from_token is not None and start is not None:
        raise ConfigError("both a start and a token were given", "a token says where to begin")
    if query.hole_timeout is not None and not query.hole_timeout >= 0:
        raise ConfigError(f"a hole timeout of {query.hole_timeout} s", "give seconds: 0 or more")
    if not query.follow:
        place.require()
    chosen_stream = _stream(place, stream, from_token, follow=query.follow)
    bounds = [parse_bound(name, one, asked, now) for name, one in (("start", start), ("end", end))]
    asked = None if asked is None else frozenset(map(shard_id, asked))
    begin, last = ({shard_id(each): at for each, at in one.items()} if isinstance(one, dict) else one for one in bounds)
    for name, one in (("start", begin), ("end", last)):
        if asked is not None and (others := sorted(set(_shards(one)) - asked)):
            raise ConfigError(
                f"{name} names {', '.join(others)[:200]}, which is not read", "name it in `shards` as well"
            )
    # A token that names its shards knows them, and refuses others by itself.
    if chosen_stream is not None and (from_token is None or from_token.shards is None):
        check_shards(place, {*(asked or ()), *_shards(begin), *_shards(last)}, chosen_stream)
    if isinstance(begin, int) and begin > now and not query.follow:
        raise ConfigError(f"start is {shown_time(begin)}, which is still to come", "nothing has arrived since then")
    query = replace(
        query,
        shards=asked,
        start=begin,
        end=last,
        columns=chosen,
        watch_stream=query.follow and stream is None,
    )
    return Reading(place, chosen_stream, query, from_token)


def records(
    store: Store | str | PathLike[str],
    *,
    shards: Iterable[str] | str | None = None,
    start: Bound = None,
    end: Bound = None,
    follow: bool = False,
    token: str | None = None,
    on_hole: Literal["raise", "report"] | Callable[[HoleInShard], None] = "raise",
    hole_timeout: float | None = None,
    fallback: Fallback | None = None,
    check: bool = True,
    stop: threading.Event | None = None,
    stream: StreamIdentity | str | None = None,
    limit: int | None = None,
    interval: float = 1.0,
    batch_rows: int = BATCH_ROWS,
    batch_bytes: int = BATCH_BYTES,
) -> Iterator[Record]:
    """Yield records one by one; takes what `read` takes, without `columns`.

    Raises:
        ReceiverError: See `read`.
    """
    reading = read(
        store,
        shards=shards,
        start=start,
        end=end,
        follow=follow,
        token=token,
        on_hole=on_hole,
        hole_timeout=hole_timeout,
        fallback=fallback,
        check=check,
        stop=stop,
        stream=stream,
        limit=limit,
        interval=interval,
        batch_rows=batch_rows,
        batch_bytes=batch_bytes,
    )
    for batch in reading:
        columns = (
            (column.cast("int64") if name == ARRIVAL.name else column).to_pylist()
            for name, column in zip(NAMES, batch.batch.columns, strict=True)
        )
        for shard, sequence, sub, key, micros, data in zip(*columns, strict=True):
            time = None if micros is None else EPOCH + timedelta(microseconds=micros)
            yield Record(shard, Position(int(sequence), sub), key, time, data)


def verify(store: Store | str | PathLike[str], *, deep: bool = False, ledger_only: bool = False) -> Report:
    """Return what a store's ledger and blocks prove, and what is missing of them.

    Args:
        store: What `open_store` returns or takes. It is only read; a receiver may be writing to it.
        deep: Read all records, and make the checksum of every range again.
        ledger_only: Take every block that the ledger names for present and good, without a look.

    Raises:
        ConfigError: Both `deep` and `ledger_only` were asked for.
        StoreRefused: There is no store, or it is of a format that this version does not know.
        StoreUnavailable: The store cannot be read now.
    """
    if deep and ledger_only:
        raise ConfigError("`deep` looks into all blocks and `ledger_only` at none", "give one of them")
    return verify_store(open_store(store), deep=deep, ledger_only=ledger_only)


def _stream(
    store: Store, stream: StreamIdentity | str | None, token: Token | None, *, follow: bool
) -> StreamIdentity | None:
    if isinstance(stream, str):
        arn, _, created = stream.rpartition("@")
        if not arn or not created.isdecimal():
            raise ConfigError(f"{stream!r} is not a stream", "write: ARN@CREATED, as `kcl-receiver verify` shows both")
        stream = StreamIdentity(arn, int(created))
    if stream is not None:
        return stream
    newest = Ledger(store).newest_stream()
    if token is None or not token.stream.arn:
        return newest
    if newest is not None and newest != token.stream and newest.created > token.stream.created and not follow:
        raise TokenRefused(
            f"the token is for stream {token.stream}, and the store goes on with {newest}",
            f"to read the rest of the old one give stream={str(token.stream)!r}; begin the new one without a token",
        )
    return token.stream


def _shards(bound: int | dict[str, Position] | None) -> Iterable[str]:
    return bound if isinstance(bound, dict) else ()


def _report(
    on_hole: Literal["raise", "report"] | Callable[[HoleInShard], None],
) -> Callable[[HoleInShard], None] | None:
    if callable(on_hole):
        return on_hole
    if on_hole == "raise":
        return None
    if on_hole == "report":
        return lambda hole: log.warning("%s", hole)
    raise ConfigError(f"on_hole is {on_hole!r}", "raise, report, or a function")
