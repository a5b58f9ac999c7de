"""`kcl-receiver expire`: removes what is old, and says so in the ledger."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import TYPE_CHECKING

import click

from kcl_receiver.cli.options import output_option, properties_or_other_option, require_yes, store_of, store_option
from kcl_receiver.cli.times import TIME
from kcl_receiver.errors import EXIT_OK
from kcl_receiver.store.store import open_store
from kcl_receiver.times import shown_time

if TYPE_CHECKING:
    from kcl_receiver.maintenance.expire import DayExpiry
    from kcl_receiver.store.store import Store

OUTPUT_VERSION = 1
"""Version of the JSON that comes out. Members may be added; none changes its meaning."""


@click.command()
@store_option
@properties_or_other_option
@click.option(
    "--before", type=TIME, metavar="TIME", help="Remove what arrived before: ISO 8601, or an age such as 30d."
)
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--declare-lifecycle",
    metavar="DAYS",
    type=click.IntRange(0, 36_500),
    help="Say that a rule outside of this program removes blocks after so many days; 0: none does any more.",
)
@output_option
def expire(
    store: str | None,
    properties: str | None,
    before: int | None,
    declare_lifecycle: int | None,
    output: str,
    *,
    dry_run: bool,
    yes: bool,
) -> int:
    """Remove blocks all of whose records arrived before a time.

    The ledger says what was removed before it is, so that `verify` calls it expired and not lost. Blocks that hold one
    younger record stay, and so do those of which Kinesis gave no arrival time, and those that a follower with a name
    has not confirmed. The receiver may be running. What is going to be removed is shown first; without a terminal,
    --yes is needed.

    With --declare-lifecycle nothing is removed: it only says that a bucket's rule, or a job of your own, does so.

    Exit code 0; 2 wrong options, or nobody said yes; 4 the store, also while other maintenance is at work; 130
    interrupted.

    \b
    Examples:
      kcl-receiver expire --store file:///data/landing --before 90d --dry-run
      kcl-receiver expire --properties landing.properties --before 2026-01-01T00:00:00Z --yes
      kcl-receiver expire --store file:///data/landing --declare-lifecycle 365
    """
    if (before is None) == (declare_lifecycle is None):
        raise click.UsageError("give either --before TIME or --declare-lifecycle DAYS")
    place = open_store(store_of(store, properties))
    now = time.time_ns() // 1_000_000
    if before is None:
        return _declare(place, declare_lifecycle or None, now)
    from kcl_receiver.maintenance.expire import Expiry  # noqa: PLC0415 - pyarrow: help does without it

    limit = before
    if limit > now:
        raise click.BadParameter(f"{shown_time(limit)} is still to come", param_hint="--before")
    place.require()  # before a lock makes a directory where a URL was mistyped
    text = output == "text"
    if not dry_run:
        place.hold_maintenance()
    expiry = Expiry(place, limit, now)
    planned = list(expiry.plan())
    if text:
        for day in planned:
            click.echo(_line(day))
        blocks, size = sum(day.blocks for day in planned), sum(day.size for day in planned)
        click.echo(f"{blocks:,} blocks, {size / 2**20:,.1f} MiB: all that arrived before {shown_time(limit)}.")
        for name, held in sorted(expiry.held.items()):
            click.echo(f"{held:,} more stay: follower {name} has not confirmed them; see `kcl-receiver followers`.")
    held_now = dict(expiry.held)
    if expiry.retention_hours and limit > now - expiry.retention_hours * 3_600_000:
        click.echo(
            f"Warning: the stream keeps records for {expiry.retention_hours} hours, so some of these are in it still. "
            "A lease that is reset to before them makes KCL deliver them again, and they are stored again.",
            err=True,
        )
    done = planned
    finished = 0
    if not dry_run:
        if planned and not yes:
            require_yes(
                "Remove them for good?", "nothing was removed", "--yes to remove them, or --dry-run to look only"
            )
        finished = expiry.finish()
        done = list(expiry.run(now))
        if text:
            click.echo("Removed." if done or finished else "Nothing to do.")
    if not text:
        days = [dataclasses.asdict(day) for day in done]
        raw = {"version": OUTPUT_VERSION, "store": place.url, "dry_run": dry_run, "before": limit, "days": days}
        click.echo(json.dumps({**raw, "leftovers": finished, "held": held_now}, indent=2))
    return EXIT_OK


def _declare(store: Store, days: int | None, now_ms: int) -> int:
    from kcl_receiver.store.ledger.transaction import declare_lifecycle, lifecycle  # noqa: PLC0415 - as above

    if lifecycle(store) != days:
        declare_lifecycle(store, days, now_ms)
    click.echo(
        "Declared: nothing but this program removes blocks."
        if days is None
        else f"Declared: blocks are removed after {days:,} days. `kcl-receiver verify` calls what is gone then expired."
    )
    return EXIT_OK


def _line(day: DayExpiry) -> str:
    missing = f"; {day.missing:,} more are missing, and expired with them" if day.missing else ""
    return (
        f"{day.day}  {day.blocks:,} blocks, {day.size / 2**20:,.1f} MiB, {day.records:,} records, arrived "
        f"{shown_time(day.arrival_first)} to {shown_time(day.arrival_last)}{missing}"
    )
