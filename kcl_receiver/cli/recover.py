"""`kcl-receiver recover`: brings back missing and damaged blocks, as far as file or stream still hold them."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from kcl_receiver.cli.options import (
    ENDPOINT,
    access_of,
    output_option,
    properties_or_other_option,
    store_of,
    store_option,
)
from kcl_receiver.cli.times import AGE
from kcl_receiver.config.properties import ReceiverConfig, load
from kcl_receiver.config.values import parse_compression
from kcl_receiver.errors import (
    EXIT_AMISS,
    EXIT_DIFFERS,
    EXIT_INTERRUPTED,
    EXIT_LOST,
    EXIT_OK,
    EXIT_STREAM,
    ConfigError,
    ReceiverError,
    StoreUnavailable,
)
from kcl_receiver.store.store import open_store

if TYPE_CHECKING:
    from types import FrameType

    from kcl_receiver.cli.recover_view import View
    from kcl_receiver.recovery.damages import Found, Unknown
    from kcl_receiver.recovery.restore import Summary
    from kcl_receiver.recovery.sources import Sources
    from kcl_receiver.store.store import Store


@click.command()
@store_option
@properties_or_other_option
@click.option("--dry-run", is_flag=True, help="Show what is missing and damaged, and change nothing.")
@click.option(
    "--expiring-within",
    type=AGE,
    metavar="AGE",
    help="List only what is lost and what the stream trims within this time, such as 24h; change nothing.",
)
@click.option(
    "--shard",
    "shards",
    multiple=True,
    metavar="ID",
    help="Only the ranges of this shard, by its id or as `status` shows it; repeatable.",
)
@click.option("--block", "blocks", multiple=True, metavar="ID", help="Only this block; repeatable.")
@click.option("--quick", is_flag=True, help="Look at footers alone: finds no damage within a block.")
@click.option("--workers", type=click.IntRange(1, 64), default=8, show_default=True, help="Calls at the same time.")
@click.option(
    "--calls-per-second",
    type=click.FloatRange(0.1, 5.0),
    default=5.0,
    show_default=True,
    help="GetRecords calls for each shard; 5 is all that a shard gives. Less leaves room for the receiver.",
)
@click.option(
    "--bytes-per-second",
    type=click.IntRange(10_000, 2_000_000),
    default=2_000_000,
    show_default=True,
    help="Bytes of each shard; 2,000,000 is all that it gives.",
)
@click.option("--compression", metavar="CODEC", help="As receiver.compression.  [default: that of the other blocks]")
@click.option("--region", metavar="NAME", help="The AWS region, if it is not that of the stream's ARN.")
@click.option("--endpoint-url", type=ENDPOINT, metavar="URL", help="Use this instead of the region's endpoint.")
@click.option("--by-arn", is_flag=True, help="Name the stream by its ARN: it is another account's.")
@output_option
def recover(
    store: str | None,
    properties: str | None,
    expiring_within: int | None,
    shards: tuple[str, ...],
    blocks: tuple[str, ...],
    workers: int,
    calls_per_second: float,
    bytes_per_second: int,
    compression: str | None,
    region: str | None,
    endpoint_url: str | None,
    output: str,
    *,
    dry_run: bool,
    quick: bool,
    by_arn: bool,
) -> int:
    """Bring back missing and damaged blocks: from their files, and from the stream.

    What a damaged file still holds is taken from it, the rest is read again from Kinesis. Every range is proven by
    count and checksum. A new block takes the place of the old one; a damaged file goes only when the new block holds
    all of it. What cannot be had is named, range by range. The receiver may be running. Ctrl-C ends it in order: what
    is complete is kept, and the next run goes on. A second one ends it at once, with nothing lost.

    Exit code 0 if all is there again, or nothing was missing; 1 if it is not known what was lost, or with --dry-run and
    --expiring-within if there is anything; 2 wrong options; 4 the store, also while other maintenance is at work;
    5 AWS does not answer, or the stream is gone or another one; 7 records are lost: the stream has trimmed them; 8 the
    stream gives others than were stored; 130 interrupted.

    \b
    Examples:
      kcl-receiver recover --store file:///data/landing --dry-run
      kcl-receiver recover --store file:///data/landing
      kcl-receiver recover --properties landing.properties --calls-per-second 2 --bytes-per-second 1000000
      kcl-receiver recover --store file:///data/landing --expiring-within 24h
    """
    from kcl_receiver.audit.verify import damage  # noqa: PLC0415
    from kcl_receiver.cli.recover_view import View  # noqa: PLC0415 - pyarrow and boto3: help does without them
    from kcl_receiver.kinesis.rate_limit import Limits  # noqa: PLC0415
    from kcl_receiver.reading.bounds import check_blocks, check_shards, shard_id  # noqa: PLC0415
    from kcl_receiver.recovery.damages import Found, choose, find_unknown  # noqa: PLC0415
    from kcl_receiver.recovery.sources import Sources  # noqa: PLC0415

    if expiring_within is not None and dry_run:
        raise click.UsageError("give either --dry-run or --expiring-within: both change nothing")
    config = load(properties) if properties is not None else None
    place = open_store(store_of(store, properties))
    codec = _compression(compression, config)
    view = View(place.url, output)
    stop = threading.Event()
    with Found() as found:
        sources = Sources(
            access_of(config, "kinesis", region, endpoint_url),
            by_arn=by_arn or (config is not None and config.stream_arn is not None),
            workers=workers,
            limits=Limits(calls_per_second, float(bytes_per_second)),
            stop=stop,
            progress=view.progress,
        )
        reads_only = dry_run or expiring_within is not None
        if not reads_only:
            place.require()  # before a lock makes a directory where a URL was mistyped
            place.hold_maintenance()
        shards = tuple(map(shard_id, shards))
        check_shards(place, shards)
        check_blocks(place, blocks)
        view.looking()
        for one in choose(damage(place, deep=not quick), shards, blocks):
            found.add(one)
        unknown = find_unknown(place)
        if expiring_within is not None:
            return _warn(view, place, found, unknown, sources, expiring_within)
        view.found(found, unknown)
        if dry_run:
            view.dry_run(found)
            return EXIT_AMISS if found.blocks or unknown else EXIT_OK
        return _restore(view, place, found, unknown, sources, shards, codec, stop)


def _restore(
    view: View,
    place: Store,
    found: Found,
    unknown: Unknown,
    sources: Sources,
    shards: tuple[str, ...],
    codec: str | None,
    stop: threading.Event,
) -> int:
    from kcl_receiver.recovery.restore import Restorer  # noqa: PLC0415

    restorer = Restorer(place, sources, _now, shards=shards, compression=codec, stop=stop, events=view)
    view.begin(found)
    try:
        with _interruptible(stop):
            restorer.run(found)
    except ReceiverError as error:
        restorer.summary.stopped = True
        view.end(restorer.summary, unknown, error)
        if isinstance(error, StoreUnavailable):
            hint = f"{error.hint}; then run `kcl-receiver recover` again: it goes on from there"
            raise StoreUnavailable(error.message, hint) from error
        raise
    view.end(restorer.summary, unknown, None)
    return exit_code(restorer.summary, unknown)


def exit_code(summary: Summary, unknown: Unknown) -> int:
    """Return the exit code for what was done; of several the first in the order of the help."""
    from kcl_receiver.kinesis.rebuild import Outcome  # noqa: PLC0415

    if summary.stopped:
        return EXIT_INTERRUPTED
    if Outcome.TRIMMED in summary.failed:
        return EXIT_LOST
    if Outcome.GONE in summary.failed:
        return EXIT_STREAM
    if summary.failed:
        return EXIT_DIFFERS
    return EXIT_AMISS if unknown else EXIT_OK


def _warn(view: View, place: Store, found: Found, unknown: Unknown, sources: Sources, within_ms: int) -> int:
    from kcl_receiver.recovery.warning import expiring  # noqa: PLC0415

    now = _now()
    count = 0
    for one in expiring(place, found, sources.retention_hours, now + within_ms):
        count += 1
        view.expiring(one, now)
    view.expired(count, unknown)
    return EXIT_AMISS if count or unknown else EXIT_OK


def _now() -> int:
    return time.time_ns() // 1_000_000


def _compression(text: str | None, config: ReceiverConfig | None) -> str | None:
    if text is None:
        if config is None:
            return None
        return config.compression + (f":{config.compression_level}" if config.compression_level else "")
    try:
        parse_compression(text)
    except ValueError as error:
        raise ConfigError(f"--compression {text}: {error}", "write: --compression zstd") from error
    return text.lower()


@contextmanager
def _interruptible(stop: threading.Event) -> Iterator[None]:
    """Let the first SIGINT or SIGTERM set an event; the second one kills, as it does without this."""
    signals = (signal.SIGINT, signal.SIGTERM)

    def handle(_number: int, _frame: FrameType | None) -> None:
        click.echo("\nStopping: what is complete is being recorded. Once more ends it at once.", err=True)
        stop.set()
        for one in signals:
            signal.signal(one, signal.SIG_DFL)

    before = {one: signal.signal(one, handle) for one in signals}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
