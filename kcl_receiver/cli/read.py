"""`kcl-receiver read`: the records, each once and in order within its shard, on stdout."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kcl_receiver.cli.options import ENDPOINT, access_of, properties_or_other_option, store_of, store_option
from kcl_receiver.cli.times import TIME
from kcl_receiver.config.properties import load
from kcl_receiver.errors import EXIT_INTERRUPTED, EXIT_OK, ConfigError
from kcl_receiver.ranges import Position, parse_position
from kcl_receiver.schema import DATA

if TYPE_CHECKING:
    from kcl_receiver.reading.blocks import Fallback
    from kcl_receiver.reading.query import HoleInShard
    from kcl_receiver.reading.reading import Reading

FORMATS = ("jsonl", "csv", "raw", "arrow")
SAVE_SECONDS = 1.0
"""A token file is written at most so often while records come without a pause."""
_ESCAPES = {r"\n": "\n", r"\t": "\t", r"\0": "\0", r"\r": "\r", r"\\": "\\"}


@click.command()
@store_option
@properties_or_other_option
@click.option(
    "--shard",
    "shards",
    multiple=True,
    metavar="ID",
    help="Read this shard, by its id or as `status` shows it; can be given again.",
)
@click.option(
    "--since", type=TIME, metavar="TIME", help="Begin with what arrived then: 2026-11-22T13:15:00Z, or an age as 12h."
)
@click.option("--until", type=TIME, metavar="TIME", help="End with what arrived before then.")
@click.option("--after", multiple=True, metavar="SHARD=POSITION", help="Begin a shard after SEQUENCE:SUB.")
@click.option("--follow", is_flag=True, help="Wait for what is stored later, until SIGINT or SIGTERM.")
@click.option("--token-file", metavar="FILE", help="Go on where the last call with this file ended.")
@click.option("--columns", metavar="NAMES", help="Columns to read, separated by commas; all if not given.")
@click.option(
    "--on-hole",
    type=click.Choice(["raise", "report"]),
    default="raise",
    show_default=True,
    help="Where records are missing: end with exit code 1, or say so on stderr and go on.",
)
@click.option(
    "--hole-timeout", type=click.FloatRange(0), metavar="SECONDS", help="With --follow: wait no longer at a hole."
)
@click.option("--fallback", type=click.Choice(["kinesis"]), help="Read what a lost block held from the stream instead.")
@click.option("--region", metavar="NAME", help="For --fallback: the AWS region, if it is not that of the ARN.")
@click.option(
    "--endpoint-url", type=ENDPOINT, metavar="URL", help="For --fallback: use this instead of the region's endpoints."
)
@click.option(
    "--stream", metavar="ARN@CREATED", help="The stream, if the store holds several of a name; else the newest."
)
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="jsonl", show_default=True, help="The form of the output."
)
@click.option(
    "--raw-separator", default=r"\n", show_default=True, metavar="TEXT", help="What follows each record in raw."
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="End after so many records.")
@click.option("--no-check", is_flag=True, help="Do not hold what is read against checksums and footers.")
def read(
    store: str | None,
    properties: str | None,
    shards: tuple[str, ...],
    since: int | None,
    until: int | None,
    after: tuple[str, ...],
    follow: bool,
    token_file: str | None,
    columns: str | None,
    on_hole: str,
    hole_timeout: float | None,
    fallback: str | None,
    region: str | None,
    endpoint_url: str | None,
    stream: str | None,
    form: str,
    raw_separator: str,
    limit: int | None,
    no_check: bool,
) -> int:
    """Read the records: each once, and in order within its shard.

    Records go to stdout, everything else to stderr. A receiver may be writing to the store. In jsonl and csv, data that
    is not UTF-8 is base64 in `data_base64`. A token file is written after the output was flushed; where it exists it
    says where to begin, and --since and --after are for the first call. docs/reading.md has more.

    Exit code 0; 1 at a hole, or if nobody reads the output any more; 2 wrong options, or a token of another store; 4 a
    block is missing or damaged, or the store; 5 AWS or the stream, with --fallback; 130 interrupted, without --follow.

    \b
    Examples:
      kcl-receiver read --store file:///data/landing --since 12h --format raw | wc -l
      kcl-receiver read --store file:///data/landing --follow --token-file place.json | ./consume
      kcl-receiver read --store file:///data/landing --columns shard_id,data --limit 10
    """
    from kcl_receiver.reading.api import open_reading  # noqa: PLC0415 - pyarrow: help has to do without it
    from kcl_receiver.reading.formats import whole_writes, writer_of  # noqa: PLC0415
    from kcl_receiver.reading.query import Query  # noqa: PLC0415

    if after and since is not None:
        raise click.UsageError("give either --since or --after")
    chosen = None if columns is None else [one.strip() for one in columns.split(",")]
    if form == "raw":
        if columns is not None:
            raise click.UsageError("--format raw is the data alone: leave out --columns")
        chosen = [DATA.name] if no_check else None
    token = _load(token_file)
    start = None
    if token is None:
        start = since if since is not None else dict(map(_position_after, after)) or None
    stop = threading.Event()
    out = whole_writes(sys.stdout.buffer)
    saver = _Saver(token_file)

    def wait(seconds: float) -> bool:
        saver.save(reading)
        return stop.wait(seconds)

    place = store_of(store, properties)
    query = Query(
        follow=follow,
        report=_report if on_hole == "report" else None,
        hole_timeout=hole_timeout,
        fallback=None if fallback is None else _fallback(properties, region, endpoint_url),
        check=not no_check,
        stop=stop,
        limit=limit,
        wait=wait,
    )
    reading = open_reading(
        place,
        query,
        shards=shards or None,
        start=start,
        end=until,
        columns=chosen,
        token=token,
        stream=stream,
    )
    with _Signals(stop):
        writer = writer_of(form, out, reading.schema, _separator(raw_separator))
        try:
            for batch in reading:
                saver.whole = False
                writer.write(batch.batch)
                if follow:
                    out.flush()
                if saver.is_due():
                    out.flush()
                    saver.whole = True
                    saver.save(reading)
                saver.whole = True
        finally:
            # After an error in the reading all that was written is good, and so is its token.
            if saver.whole:
                writer.close()
                out.flush()
                saver.save(reading)
            reading.close()
    return EXIT_INTERRUPTED if stop.is_set() and not follow else EXIT_OK


class _Saver:
    """Writes the token file: under another name first, then renamed, so that it is always whole.

    Attributes:
        whole: All that was read so far was written out.
    """

    def __init__(self, path: str | None) -> None:
        self._path = None if path is None else Path(path).absolute()
        self._saved: str | None = None
        self._time = time.monotonic()
        self.whole = True

    def is_due(self) -> bool:
        return self._path is not None and time.monotonic() - self._time >= SAVE_SECONDS

    def save(self, reading: Reading) -> None:
        if self._path is None or (text := reading.token) == self._saved:
            return
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise ConfigError(
                f"the token file {self._path} cannot be written: {error.strerror}", "choose another --token-file"
            ) from error
        self._saved, self._time = text, time.monotonic()


class _Signals:
    """The first SIGINT or SIGTERM ends the reading in good order, the second at once."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for one in (signal.SIGINT, signal.SIGTERM):
                self._before[one] = signal.signal(one, self._handle)

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _handle(self, *_: object) -> None:
        self._restore()
        self._stop.set()

    def _restore(self) -> None:
        for one, before in self._before.items():
            signal.signal(one, before)  # type: ignore[arg-type]
        self._before.clear()


def _load(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the token file {path} cannot be read: {error}", "name a file that this command made"
        ) from error


def _position_after(text: str) -> tuple[str, Position]:
    shard, equals, position = text.rpartition("=")
    if not equals or not shard:
        raise click.BadParameter(f"--after {text}: write SHARD=SEQUENCE:SUB")
    try:
        found = parse_position(position)
    except ValueError as error:
        raise click.BadParameter(f"--after {text}: {error}; write SHARD=SEQUENCE:SUB") from error
    return shard, Position(found.sequence_number, found.sub_sequence_number + 1)


def _separator(text: str) -> bytes:
    out, rest = "", text
    while rest:
        piece = rest[:2] if rest[:2] in _ESCAPES else rest[:1]
        out, rest = out + _ESCAPES.get(piece, piece), rest[len(piece) :]
    return out.encode()


def _report(hole: HoleInShard) -> None:
    click.echo(f"hole: {hole}", err=True)


def _fallback(properties: str | None, region: str | None, endpoint_url: str | None) -> Fallback:
    from kcl_receiver.recovery.fallback import KinesisFallback  # noqa: PLC0415 - boto3

    config = None if properties is None else load(properties)
    access = access_of(config, "kinesis", region, endpoint_url)
    return KinesisFallback(
        access.region,
        access.endpoint,
        by_arn=config is not None and config.stream_arn is not None,
        identity=access.identity,
    )
