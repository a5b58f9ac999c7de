"""`kcl-receiver compact`: merges small blocks into large ones."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from kcl_receiver.cli.options import output_option, properties_or_other_option, store_of, store_option
from kcl_receiver.cli.times import AGE, DAY
from kcl_receiver.config.properties import load
from kcl_receiver.config.values import parse_compression, parse_size
from kcl_receiver.errors import EXIT_AMISS, EXIT_INTERRUPTED, EXIT_OK, ConfigError
from kcl_receiver.store.store import open_store

if TYPE_CHECKING:
    from kcl_receiver.maintenance.compact import DayReport, Progress

OUTPUT_VERSION = 1
"""Version of the JSON that comes out. Members may be added; none changes its meaning."""

DEFAULT_TARGET = "128MiB"


@click.command()
@store_option
@properties_or_other_option
@click.option(
    "--target-bytes",
    metavar="SIZE",
    help=f"Blocks become about this large.  [default: receiver.compactTargetBytes, or {DEFAULT_TARGET}]",
)
@click.option(
    "--min-age",
    type=AGE,
    metavar="AGE",
    default="1h",
    show_default=True,
    help="Leave blocks alone that were stored less than this ago.",
)
@click.option("--compression", metavar="CODEC", help="As receiver.compression.  [default: that, or zstd]")
@click.option("--day", type=DAY, metavar="DAY", help="Only the blocks of this UTC day, as their directory is named.")
@click.option("--since", type=DAY, metavar="DAY", help="Only the blocks of this day and of later ones.")
@click.option("--before", type=DAY, metavar="DAY", help="Only the blocks of days before this one.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@click.option("--low-priority", is_flag=True, help="Leave the processor to all who want it, as `run` has it.")
@output_option
def compact(
    store: str | None,
    properties: str | None,
    target_bytes: str | None,
    min_age: int,
    compression: str | None,
    day: str | None,
    since: str | None,
    before: str | None,
    output: str,
    *,
    dry_run: bool,
    low_priority: bool,
) -> int:
    """Merge small blocks into large ones, with the same ranges and records.

    Neighbours of one day become one block of about the target size; every range is checked on the way, and the new
    block is read back before the ledger names it and the old ones go. The receiver may be running, and so may readers.
    Blocks that are damaged are named and left alone: recover them first. It may be stopped or killed at any time; the
    next run goes on and puts in order what is left over. It stops early when `recover`, `repair` or `expire` ask for
    the store, and leaves the rest of a day to other maintenance that works on the same blocks.

    Exit code 0; 1 if a block or ledger is damaged; 2 wrong options; 4 the store, also while other maintenance is at
    work; 130 interrupted, stopped early, or left something to other maintenance.

    \b
    Examples:
      kcl-receiver compact --store file:///data/landing --dry-run
      kcl-receiver compact --store file:///data/landing --target-bytes 256MiB --before 2026-11-01
      kcl-receiver compact --properties landing.properties --day 2026-11-22 --output json
    """
    from kcl_receiver.maintenance.compact import Options  # noqa: PLC0415 - pyarrow: help does without it
    from kcl_receiver.maintenance.compact import compact as compact_store  # noqa: PLC0415

    if day is not None and (since is not None or before is not None):
        raise click.UsageError("give either --day, or --since and --before")
    config = load(properties) if properties is not None else None
    known = config.compact_target_bytes if config is not None else None
    codec = "zstd"
    if compression is not None:
        codec = _compression(compression)
    elif config is not None:
        codec = config.compression + (f":{config.compression_level}" if config.compression_level else "")
    first = day or since or ""
    end = before or ""
    options = Options(
        target_bytes=_size(target_bytes) if target_bytes is not None else known or _size(DEFAULT_TARGET),
        min_age_millis=min_age,
        compression=codec,
        since=first,
        before=f"{datetime.strptime(first, '%Y-%m-%d') + timedelta(days=1):%Y-%m-%d}" if day else end,  # noqa: DTZ007
        dry_run=dry_run,
    )
    place = open_store(store_of(store, properties))
    place.require()  # before a lock makes a directory where a URL was mistyped
    if low_priority:
        os.nice(19)
    with _sigterm_interrupts():
        reports = []
        for report in compact_store(place, options, time.time_ns() // 1_000_000, _progress(output)):
            reports.append(report)
            if output == "text":
                _clear()
                click.echo(_line(report, dry_run=dry_run))
    if output == "json":
        click.echo(json.dumps(to_json(place.url, reports, dry_run=dry_run), indent=2))
    else:
        _end(reports, dry_run=dry_run)
    if any(report.damaged or report.faults for report in reports):
        return EXIT_AMISS
    # `run` looks at the last days alone once a run has come to the end of all.
    early = any(report.gave_way or report.overtaken for report in reports)
    return EXIT_INTERRUPTED if early else EXIT_OK


def to_json(url: str, reports: list[DayReport], *, dry_run: bool) -> dict[str, Any]:
    """Return what was done in the form that docs/format.md#what-compact-prints describes."""
    days = [
        {
            **dataclasses.asdict(report),
            "damaged": [{"block": block, "reason": reason} for block, reason in sorted(report.damaged.items())],
        }
        for report in reports
    ]
    return {"version": OUTPUT_VERSION, "store": url, "dry_run": dry_run, "days": days}


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise ConfigError(f"--target-bytes {text}: {error}", "write: --target-bytes 128MiB") from error


def _compression(text: str) -> str:
    try:
        parse_compression(text)
    except ValueError as error:
        raise ConfigError(f"--compression {text}: {error}", "write: --compression zstd") from error
    return text.lower()


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Make SIGTERM do what Ctrl-C does: what is not recorded yet is taken away again."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _progress(output: str) -> Any:  # noqa: ANN401 - a function, or one that does nothing
    if output != "text" or not sys.stderr.isatty():
        return lambda _: None

    def show(at: Progress) -> None:
        done = at.done * 100 // max(1, at.total)
        click.echo(f"\r{at.day}  {done:3d}%  {at.done / 2**20:,.1f} of {at.total / 2**20:,.1f} MiB", nl=False, err=True)

    return show


def _clear() -> None:
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", nl=False, err=True)


def _line(report: DayReport, *, dry_run: bool) -> str:
    words = [f"{report.day}  {report.blocks_before:,} -> {report.blocks_after:,} blocks"]
    before, after = report.size_before / 2**20, report.size_after / 2**20
    words.append(f"{before:,.1f} MiB" if dry_run else f"{before:,.1f} -> {after:,.1f} MiB")
    if report.leftovers or report.orphans:
        words.append(f"{report.leftovers + report.orphans:,} left over from a run that was cut short")
    lines = [", ".join(words)]
    lines += [f"  block {block} is damaged and was left alone: {why}" for block, why in sorted(report.damaged.items())]
    lines += [f"  {fault}" for fault in report.faults]
    if report.overtaken:
        lines.append("  other maintenance works on this day: the rest of it was left to that, or to the next run")
    return "\n".join(lines)


def _end(reports: list[DayReport], *, dry_run: bool) -> None:
    merged, made = sum(one.merged for one in reports), sum(one.made for one in reports)
    damaged = sum(len(one.damaged) for one in reports)
    if not merged and not reports:
        click.echo("Nothing to do: no small blocks that are old enough.")
        return
    verb = "would become" if dry_run else "became"
    click.echo(f"{merged:,} blocks {verb} {made:,}.")
    if any(one.gave_way for one in reports):
        click.echo("Stopped early: other maintenance asked for the store. Run it again to finish.")
    if any(one.overtaken for one in reports):
        click.echo("Not all was done: other maintenance works on the same blocks. Run it again to finish.")
    if damaged:
        click.echo(f"{damaged:,} damaged: see `kcl-receiver verify`, and recover them first.", err=True)
