"""What `recover` says: what is missing, how far it is, and what came of it, for people or as JSON.

What is lost is said on stdout, range by range and as soon as it is known; progress goes to stderr, and only to a
terminal.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

from kcl_receiver.errors import ReceiverError
from kcl_receiver.kinesis.range_fetcher import Progress
from kcl_receiver.kinesis.rebuild import Outcome
from kcl_receiver.recovery.damages import Found, Unknown
from kcl_receiver.recovery.restore import Events, NotRestored, Summary
from kcl_receiver.recovery.warning import Expiring
from kcl_receiver.times import shown_time
from kcl_receiver.views.terminal import counted, human_bytes, human_lag

OUTPUT_VERSION = 1
"""Version of the JSON that comes out. Members may be added; none changes its meaning."""

SHOWN = 20
"""How many names of one kind the text shows; the JSON has all."""

_EVERY = 0.2
"""Seconds between two drawings of the progress."""

_WORDS = {
    Outcome.TRIMMED: "lost: the stream has trimmed them",
    Outcome.GONE: "not reachable: the stream is gone, or another one",
    Outcome.COUNT_DIFFERS: "the stream gives another number of records than were stored",
    Outcome.CONTENT_DIFFERS: "the stream gives other records than were stored",
    Outcome.UNKNOWN: "the stream does not know the sequence number",
}


class View(Events):
    """Says it; `output` is `text` or `json`."""

    def __init__(self, url: str, output: str) -> None:
        self._text = output == "text"
        self._draws = self._text and sys.stderr.isatty()
        self._json: dict[str, Any] = {"version": OUTPUT_VERSION, "store": url}
        self._not_restored: list[dict[str, Any]] = []
        self._expiring: list[dict[str, Any]] = []
        self._began = self._drawn = 0.0
        self._of = (0, 0)
        self._last = Progress()
        if self._text:
            click.echo(f"Store  {url}")

    # ------------------------------------------------------------------ before

    def looking(self) -> None:
        """The store is being read."""
        if self._draws:
            click.echo("Looking at every block …", nl=False, err=True)

    def found(self, found: Found, unknown: Unknown) -> None:
        """Say what is missing and damaged."""
        self._json.update(
            {
                "missing": found.missing,
                "damaged": found.damaged,
                "lost": [
                    {
                        "stream": stream.arn,
                        "stream_created": stream.created,
                        "shard": shard,
                        "ranges": one.ranges,
                        "records": one.records,
                        "size": one.size,
                        "arrival_first": one.arrival_first,
                        "arrival_last": one.arrival_last,
                    }
                    for (stream, shard), one in sorted(found.shards.items())
                ],
                "unknown": {
                    "unreadable": [{"block": b, "reason": reason} for b, reason in sorted(unknown.unreadable.items())],
                    "numbers": unknown.numbers,
                    "ledger_lost": unknown.ledger_lost,
                    "ledger_faults": unknown.ledger_faults,
                },
            }
        )
        if not self._text:
            return
        self._clear()
        if not found.blocks:
            click.echo("No block that is known is missing or damaged.")
        else:
            missing, damaged = counted(found.missing, "block is", "blocks are"), counted(found.damaged, "is", "are")
            click.echo(f"{missing} missing, {damaged} damaged.")
            for (_, shard), one in sorted(found.shards.items()):
                click.echo(
                    f"  {shard}  {one.records:,} records in {one.ranges:,} ranges, {human_bytes(one.size)}, arrived "
                    f"{shown_time(one.arrival_first)} to {shown_time(one.arrival_last)}"
                )
            if not found.ranges:
                click.echo("  Other blocks hold all of their records.")
        self._say_unknown(unknown)

    def _say_unknown(self, unknown: Unknown) -> None:
        lines = [
            f"block {block}: which records it held is not known: it is in no ledger, and {reason}"
            for block, reason in sorted(unknown.unreadable.items())
        ]
        lines += [
            f"block {block} may be missing, by its number: which records it held is not known"
            for block in unknown.numbers
        ]
        shown = lines[:SHOWN] + ([f"and {len(lines) - SHOWN:,} more"] if len(lines) > SHOWN else [])
        shown += unknown.ledger_faults[:SHOWN]
        if unknown.ledger_lost:
            shown.append(
                "The ledger is lost: blocks that are gone beside it cannot be known, but for what follows them."
            )
            shown.append("`kcl-receiver repair` makes it anew from the footers of the blocks that are there.")
        if shown:
            click.echo("What cannot be known:")
            for line in shown:
                click.echo(f"  {line}")
            click.echo(
                "  `kcl-receiver verify` shows the gaps; with --against-stream the stream says what lies in them."
            )

    def dry_run(self, found: Found) -> None:
        """Say which blocks it is, and end."""
        if not self._text:
            self._json["blocks"] = [
                {"block": one.block, "why": one.why, "detail": one.detail, "ranges_lost": len(one.ranges_lost)}
                for one in found
            ]
            self._print()
            return
        for number, one in enumerate(found):
            if number == SHOWN:
                click.echo(f"  and {found.blocks - SHOWN:,} more blocks")
                break
            click.echo(f"  block {one.block}: {one.detail}")
        click.echo("Nothing was changed." if found.blocks else "Nothing to do.")

    # ------------------------------------------------------------------ meanwhile

    def begin(self, found: Found) -> None:
        """The work begins."""
        self._of = (found.ranges, found.records)
        self._began = time.monotonic()

    def progress(self, progress: Progress) -> None:
        """Draw how far it is; called by any thread, one at a time."""
        self._last = progress
        now = time.monotonic()
        if not self._draws or now - self._drawn < _EVERY:
            return
        self._drawn = now
        ranges, records = self._of
        seconds = max(now - self._began, 0.001)
        done = min(1.0, progress.ranges / max(1, ranges))
        left = human_lag(round(seconds * (1 - done) / done * 1000)) if done else "-"
        bar = "#" * round(20 * done)
        click.echo(
            f"\r[{bar:<20}] {100 * done:3.0f}%  {progress.records:,} of {records:,} records, "
            f"{human_bytes(progress.bytes)}, {human_bytes(progress.bytes / seconds)}/s, {left} left\x1b[K",
            nl=False,
            err=True,
        )

    def not_restored(self, one: NotRestored) -> None:
        """See `Events`."""
        where = one.range
        if not self._text:
            self._not_restored.append(
                {
                    "block": one.block,
                    "stream": one.stream.arn,
                    "stream_created": one.stream.created,
                    "shard": where.shard,
                    "first": str(where.first),
                    "last": str(where.last),
                    "count": where.count,
                    "arrival_first": where.arrival_first,
                    "arrival_last": where.arrival_last,
                    "outcome": one.outcome.value,
                    "detail": one.detail,
                }
            )
            return
        self._clear()
        word = "LOST" if one.outcome is Outcome.TRIMMED else one.outcome.value.upper()
        click.echo(
            f"{word}  {where.shard} from {where.first} to {where.last}, arrived {shown_time(where.arrival_first)} to "
            f"{shown_time(where.arrival_last)}, {where.count:,} records of block {one.block}: {one.detail}"
        )

    # ------------------------------------------------------------------ after

    def end(self, summary: Summary, unknown: Unknown, error: ReceiverError | None) -> None:
        """Say what came of it."""
        self._json["result"] = {
            "stopped": summary.stopped,
            "error": None if error is None else error.message,
            "blocks": summary.blocks,
            "blocks_in_part": summary.partly,
            "new_blocks": summary.made,
            "ranges_from_stream": summary.restored,
            "ranges_from_files": summary.salvaged,
            "records": summary.records,
            "size": summary.size,
            "files_removed": summary.removed,
            "held_elsewhere": summary.elsewhere,
            "not_restored": self._not_restored,
        }
        if not self._text:
            self._print()
            return
        self._clear()
        seconds = time.monotonic() - self._began
        if summary.made or summary.failed:
            click.echo(
                f"Restored  {counted(summary.blocks, 'block')}, and {summary.partly:,} in part: "
                f"{counted(summary.records, 'record')}, "
                f"{human_bytes(summary.size)}, in {human_lag(round(seconds * 1000))}"
            )
            click.echo(
                f"          {counted(summary.restored, 'range')} from the stream, "
                f"{summary.salvaged:,} from damaged files, of which {counted(summary.removed, 'was', 'were')} removed"
            )
        for outcome, ranges in summary.failed.items():
            click.echo(
                f"NOT restored  {counted(summary.failed_records[outcome], 'record')} in {counted(ranges, 'range')}: "
                f"{_WORDS[outcome]}"
            )
        if summary.elsewhere:
            click.echo(f"{summary.elsewhere:,} ranges were not restored that other blocks hold.")
        if summary.stopped:
            click.echo(
                "Stopped before the end. What is listed above is durable; run it again, and it goes on from there."
            )
        elif not summary.failed:
            click.echo("Something is not known: see above." if unknown else "Everything that is known is there.")

    def expiring(self, one: Expiring, now_ms: int) -> None:
        """Say which range is about to be trimmed."""
        where = one.range
        if not self._text:
            self._expiring.append(
                {
                    "block": one.block,
                    "stream": one.stream.arn,
                    "shard": where.shard,
                    "first": str(where.first),
                    "last": str(where.last),
                    "count": where.count,
                    "arrival_first": where.arrival_first,
                    "arrival_last": where.arrival_last,
                    "trimmed_at": one.trimmed_at,
                }
            )
            return
        self._clear()
        if one.trimmed_at == 0:
            when = "the stream is gone, or another one"
        elif one.trimmed_at is None:
            when = "when it will be trimmed is not known"
        elif one.trimmed_at <= now_ms:
            when = f"TRIMMED since {shown_time(one.trimmed_at)}"
        else:
            when = f"trimmed in {human_lag(one.trimmed_at - now_ms)}, at {shown_time(one.trimmed_at)}"
        click.echo(
            f"{when}: {where.shard} from {where.first} to {where.last}, {where.count:,} records of block {one.block}"
        )

    def expired(self, count: int, unknown: Unknown) -> None:
        """Say how many those were."""
        if not self._text:
            self._json["expiring"] = self._expiring
            self._print()
            return
        self._clear()
        if count:
            click.echo(
                f"{count:,} lost ranges are about to be trimmed, or are already: run `kcl-receiver recover` now."
            )
        else:
            click.echo("No lost range that is known is about to be trimmed.")
        self._say_unknown(unknown)

    def _clear(self) -> None:
        if self._draws:
            click.echo("\r\x1b[K", nl=False, err=True)

    def _print(self) -> None:
        click.echo(json.dumps(self._json, indent=2))
