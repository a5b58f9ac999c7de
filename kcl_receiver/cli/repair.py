"""`kcl-receiver repair`: puts in order what is safe to put in order."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from kcl_receiver.cli.options import output_option, properties_or_other_option, store_of, store_option
from kcl_receiver.errors import EXIT_AMISS, EXIT_OK
from kcl_receiver.store.store import open_store

if TYPE_CHECKING:
    from kcl_receiver.maintenance.repair import Report

OUTPUT_VERSION = 1
"""Version of the JSON that comes out. Members may be added; none changes its meaning."""

SHOWN = 20
"""How many things of one kind the text shows; the JSON has all."""


@click.command()
@store_option
@properties_or_other_option
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@click.option("--yes", is_flag=True, help="Do it without asking.")
@output_option
def repair(store: str | None, properties: str | None, output: str, *, dry_run: bool, yes: bool) -> int:
    """Put in order what is safe to put in order.

    Blocks that are in no ledger are recorded from their footers, also if all of the ledger is gone. What was replaced
    or removed on purpose, and is still there, is deleted, and so are files that nobody writes any more. A damaged
    ledger is kept under another name; its good lines stay, and what is lost of it is recorded as lost. A
    log of the store that is lost or damaged begins anew. No block is deleted unless others, read just now, hold all of
    its ranges, or an entry says that it was removed on purpose.

    It shows first what it would do, and asks. Without a terminal it does nothing unless --yes is given. The receiver
    may be running: what is its own is left alone. It may be killed at any time, and run again.

    Exit code 0 if all is in order now; 1 if something is left to do, or cannot be put in order here: it is named with
    the command that can; 2 wrong options; 4 the store, also while other maintenance is at work.

    \b
    Examples:
      kcl-receiver repair --store file:///data/landing --dry-run
      kcl-receiver repair --store file:///data/landing
      kcl-receiver repair --properties landing.properties --yes --output json
    """
    from kcl_receiver.maintenance.repair import repair as repair_store  # noqa: PLC0415 - pyarrow: help does without it

    place = open_store(store_of(store, properties))
    report: Report | None = None
    if not yes or dry_run:
        report = repair_store(place, _now(), apply=False)
        if not dry_run and report.actions and sys.stdin.isatty() and sys.stdout.isatty() and output == "text":
            click.echo(to_text(report))
            yes = click.confirm("Do this?")
    if yes and not dry_run:
        report = repair_store(place, _now(), apply=True)
    if report is None:
        raise AssertionError("neither shown nor done")
    click.echo(json.dumps(to_json(report), indent=2) if output == "json" else to_text(report))
    if report.actions and not report.done and not dry_run and output == "text":
        click.echo("Nothing was changed: give --yes to do this.", err=True)
    return EXIT_OK if report.in_order else EXIT_AMISS


def _now() -> int:
    return time.time_ns() // 1_000_000


def to_json(report: Report) -> dict[str, Any]:
    """Return the report in the form that docs/format.md#what-repair-prints describes."""
    return {
        "version": OUTPUT_VERSION,
        "store": report.url,
        "done": report.done,
        "in_order": report.in_order,
        "actions": [one._asdict() for one in report.actions],
        "left": [one._asdict() for one in report.left],
    }


def to_text(report: Report) -> str:
    """Return the report for people."""
    lines = []
    counts = Counter(one.kind for one in report.actions)
    for kind, count in counts.items():
        lines.append(f"{'Done' if report.done else 'To do'}: {kind} ({count:,})")
        found = [f"  {one.thing}: {one.reason}" for one in report.actions if one.kind == kind]
        lines += found[:SHOWN]
        if count > SHOWN:
            lines.append(f"  ... and {count - SHOWN:,} more; --output json lists all")
    for title, amiss in (("Left, and amiss:", True), ("Left alone:", False)):
        left = [one for one in report.left if one.amiss is amiss]
        if left:
            lines.append(title)
            lines += [f"  {one.thing}: {one.reason}" + (f". {one.hint}" if one.hint else "") for one in left[:SHOWN]]
            if len(left) > SHOWN:
                lines.append(f"  ... and {len(left) - SHOWN:,} more; --output json lists all")
    if not report.actions and not report.left:
        return "Nothing to do: the store is in order. Whether records are missing, `kcl-receiver verify` says."
    return "\n".join(lines)
