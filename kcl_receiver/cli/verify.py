"""`kcl-receiver verify`: proves that nothing is missing, or says what is."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import click

from kcl_receiver.audit.verify import (
    EXPIRED,
    GAP,
    LOST,
    POSSIBLY_TRIMMED,
    ExpiredStretch,
    Report,
    ShardReport,
    verify_store,
)
from kcl_receiver.cli.external_checks import Others, others_options
from kcl_receiver.cli.options import output_option, properties_or_other_option, store_of, store_option
from kcl_receiver.cli.verify_answers import answers_to_json, answers_to_text
from kcl_receiver.cli.verify_picture import picture, width
from kcl_receiver.proof.coverage import Gap, Span
from kcl_receiver.ranges import Position
from kcl_receiver.store.store import open_store
from kcl_receiver.views.terminal import counted, utc_between

OUTPUT_VERSION = 1
"""Version of the JSON that comes out. Members may be added; none changes its meaning."""

LOST_SHOWN = 3
"""How much of a shard that is lost the text names by block; the JSON has all."""

ALWAYS = 5
"""Columns of the table that are never left out."""

SHOWN = 20
"""How many names of one kind the text shows; the JSON has all."""


@click.command()
@store_option
@properties_or_other_option
@output_option
@click.option("--deep", is_flag=True, help="Read all records, and make the checksum of every range again.")
@click.option("--ledger-only", is_flag=True, help="Look at no block: prove by the ledger alone what should be there.")
@others_options
def verify(
    store: str | None,
    properties: str | None,
    output: str,
    *,
    deep: bool,
    ledger_only: bool,
    **others: Any,  # noqa: ANN401
) -> int:
    """Prove from footers and ledger that nothing is missing.

    Each range of records names the position that it follows, so that what is proven needs neither Kinesis nor a running
    receiver. For each shard one of these words comes out:

    \b
      proven            all that KCL delivered is stored, without a break
      nothing stored    reading began, and no record is stored yet
      possibly trimmed  not read within the retention, so that records may have expired unread
      gap               there may be records that no block holds
      lost              the ledger names records that no readable block holds
      expired           all was stored without a break, and removed on purpose

    The store is only read, and the receiver may be running. Exit code 0 only if all is proven, 1 if anything is amiss,
    5 if AWS was asked and does not answer, 9 if nothing is stored yet, so that there is nothing to prove.

    Others can be asked, too: with --leases KCL's lease table, of which no checkpoint may be past what is stored; with
    --against-stream the stream itself, which shows what KCL skipped. Without a properties file, the stream and the
    application are those of the store. --plot draws a picture of it all.

    \b
    Examples:
      kcl-receiver verify --store file:///data/landing
      kcl-receiver verify --properties landing.properties --deep
      kcl-receiver verify --properties landing.properties --leases --against-stream --since 6h
      kcl-receiver verify --store file:///data/landing --plot landing.svg
      kcl-receiver verify --store file:///data/landing --output json | jq '.shards[] | select(.state != "proven")'
    """
    if deep and ledger_only:
        raise click.UsageError("--deep looks into all blocks and --ledger-only at none: give one of them")
    opened = open_store(store_of(store, properties))
    asked = Others.of(opened, properties, **others)
    asked.read_leases()
    report = verify_store(opened, deep=deep, ledger_only=ledger_only)
    if output == "text":
        click.echo(to_text(report, width()))
    asked.ask(report)
    if output == "json":
        click.echo(json.dumps({**to_json(report), **answers_to_json(asked, report)}, indent=2))
    elif answers := answers_to_text(asked, report):
        click.echo(f"\n{answers}")
    return asked.exit_code(report)


def to_json(report: Report) -> dict[str, Any]:
    """Return the report in the form that docs/format.md#what-verify-prints describes."""
    return {
        "version": OUTPUT_VERSION,
        "store": report.url,
        "application": report.application,
        "proven": report.proven,
        "nothing_stored": report.nothing_stored,
        "deep": report.deep,
        "ledger_only": report.ledger_only,
        "shards": [_shard_to_json(one) for one in report.shards],
        "blocks": {
            "present": report.blocks,
            "missing": report.missing,
            "damaged": [{"block": block, "reason": reason} for block, reason in sorted(report.damaged.items())],
            "orphans": report.orphans,
            "expired": report.expired_blocks,
            "expired_present": report.expired_present,
            "replaced": report.replaced_blocks,
            "replaced_present": report.replaced_present,
        },
        "ledger": {
            "writers": report.writers,
            "lost": report.ledger_lost,
            "acknowledged": [
                {"writer": one.writer, "line": one.line, "reason": one.reason} for one in report.acknowledged
            ],
            "faults": report.ledger_faults,
            "torn": report.torn,
        },
        "leftovers": [{"path": path, "size": size} for path, size in report.leftovers],
    }


def _shard_to_json(shard: ShardReport) -> dict[str, Any]:
    return {
        "stream": shard.stream.arn,
        "stream_created": shard.stream.created,
        "shard": shard.shard,
        "state": shard.state,
        "records": shard.records,
        "duplicates": shard.duplicates,
        "blocks": shard.blocks,
        "first": _position_or_none(shard.first),
        "last": _position_or_none(shard.last),
        "arrival_first": shard.arrival_first,
        "arrival_last": shard.arrival_last,
        "ended": shard.ended,
        "gaps": list(map(_gap_to_json, shard.gaps)),
        "possibly_trimmed": list(map(_gap_to_json, shard.possibly_trimmed)),
        "lost": [{"block": one.block, "count": one.count, **_span_to_json(one.span)} for one in shard.lost],
        "expired": list(map(_expired_to_json, shard.expired)),
        "spans": list(map(_span_to_json, shard.spans)),
        "uncounted": {"ranges": shard.uncounted_ranges, "records": shard.uncounted_records},
    }


def _expired_to_json(one: ExpiredStretch) -> dict[str, Any]:
    return {
        "first": str(one.first),
        "last": str(one.last),
        "records": one.records,
        "arrival_first": one.begin_ms,
        "arrival_last": one.end_ms,
        "before": one.before,
        "since": one.since,
    }


def _gap_to_json(gap: Gap) -> dict[str, Any]:
    out = {
        "after": _position_or_none(gap.after),
        "through": _position_or_none(gap.through),
        "before": _position_or_none(gap.before),
        "reason": gap.why,
        "arrival_after": gap.begin_ms,
        "arrival_before": gap.end_ms,
    }
    if gap.unread is not None:
        out["unread_from"], out["unread_to"] = gap.unread
    return out


def _span_to_json(span: Span) -> dict[str, Any]:
    return {
        "from": str(span.low.position),
        "from_included": span.low.side == 0,
        "to": str(span.high.position),
        "to_included": span.high.side == 1,
    }


def _position_or_none(position: Position | None) -> str | None:
    return None if position is None else str(position)


def to_text(report: Report, columns: int = 120) -> str:
    """Return the report for people: a picture and a table of the shards, what is amiss, and a verdict."""
    streams = sorted({one.stream for one in report.shards})
    lines = [f"Store        {report.url}", f"Application  {report.application or 'unknown: store.json is missing'}", ""]
    for stream in streams:
        lines.append(f"Stream {stream.arn}, made {_time(stream.created)}")
        shards = [one for one in report.shards if one.stream == stream]
        if bars := picture(shards, columns):
            lines += [*bars, ""]
        lines += [*_table(shards, columns), ""]
    amiss = [*_shards_amiss(report), *_blocks_amiss(report)]
    notes = _notes(report)
    for title, found in (("What is amiss:", amiss), ("Worth knowing:", notes)):
        if found:
            lines += [title, *(f"  {line}" for line in found), ""]
    return "\n".join([*lines, _verdict(report)])


def _table(shards: list[ShardReport], columns: int) -> list[str]:
    """Return the table; its last columns are left out, one by one, where it would be too wide."""
    head = ("SHARD", "STATE", "RECORDS", "BLOCKS", "TWICE", "FIRST ARRIVED", "LAST ARRIVED")
    rows = [
        (
            one.shard,
            one.state + (", ended" if one.ended else ""),
            f"{one.records:,}",
            f"{one.blocks:,}",
            f"{one.duplicates:,}",
            _time(one.arrival_first),
            _time(one.arrival_last),
        )
        for one in shards
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    while len(widths) > ALWAYS and sum(widths) + 2 * len(widths) > columns:
        widths.pop()
    return [
        "  "
        + "  ".join(
            row[at].rjust(width) if 2 <= at <= 4 else row[at].ljust(width) for at, width in enumerate(widths)
        ).rstrip()
        for row in (head, *rows)
    ]


def _shards_amiss(report: Report) -> list[str]:
    lost_lines = []
    lines = []
    for one in report.shards:
        for lost in one.lost[:LOST_SHOWN]:
            records = "some records" if lost.count is None else counted(lost.count, "record")
            lost_lines.append(f"{one.shard}: {LOST}: {records}, {_span(lost.span)}, of block {lost.block}")
        if more := one.lost[LOST_SHOWN:]:
            records = counted(sum(lost.count or 0 for lost in more), "record")
            stretches = counted(len(more), "stretch", "stretches")
            lost_lines.append(f"{one.shard}: {LOST}: {records} more, in {stretches}; --output json lists all")
        lines += _first([f"{one.shard}: {GAP}: {_gap(gap)}" for gap in one.gaps])
        lines += _first([f"{one.shard}: {POSSIBLY_TRIMMED}: {_gap(gap)}" for gap in one.possibly_trimmed])
    return [*lost_lines, *lines]


def _blocks_amiss(report: Report) -> list[str]:
    lines = [f"block {block} is missing" for block in report.missing]
    lines += [f"block {block} is damaged: {reason}" for block, reason in sorted(report.damaged.items())]
    lines = _first(lines)
    lines += _first([f"ledger: {fault}" for fault in report.ledger_faults])
    if report.ledger_lost:
        lines.append("ledger: lost; this is what the blocks that are left say, and no others are known")
    return lines


def _notes(report: Report) -> list[str]:
    lines = _first([_expired(one) for one in report.shards if one.expired])
    if uncounted := sum(one.uncounted_records for one in report.shards):
        ranges = counted(sum(one.uncounted_ranges for one in report.shards), "range")
        lines.append(
            f"of the records counted as stored twice, {uncounted:,} may be stored but once: {ranges} overlap others in "
            "part, and no block was looked at"
        )
    for blocks, why in (
        (report.replaced_present, "others stand in for are"),
        (report.expired_present, "were expired are"),
    ):
        if blocks:
            those = counted(len(blocks), "block")
            lines.append(f"{those} that {why} still there, from {blocks[0]} on; nobody reads them")
    lines += _first(
        [f"block {block} is in no ledger yet; the next start takes it in, or `repair`" for block in report.orphans]
    )
    lines += _first(
        [
            f"the ledger of writer {one.writer} is lost from line {one.line} on: {one.reason}"
            for one in report.acknowledged
        ]
    )
    lines += [f"the ledger of writer {writer} ends in a torn line, which nobody relied on" for writer in report.torn]
    lines += _first([f"{path} ({size:,} bytes) is no part of the store" for path, size in report.leftovers])
    return lines


def _expired(shard: ShardReport) -> str:
    records = sum(one.records for one in shard.expired)
    since = min((one.since for one in shard.expired if one.since >= 0), default=-1)
    before = _time(max(one.before for one in shard.expired))
    when = f"removed since {_time(since)}" if since >= 0 else "removed by the store's lifecycle rule"
    return f"{shard.shard}: {EXPIRED}: {records:,} records that had arrived before {before}, {when}"


def _first(lines: list[str]) -> list[str]:
    more = len(lines) - SHOWN
    return lines if more <= 0 else [*lines[:SHOWN], f"... and {more:,} more; --output json lists all"]


def _gap(gap: Gap) -> str:
    words = []
    if gap.after is not None:
        words.append(f"after {gap.after}")
    if gap.through is not None:
        words.append(f"through {gap.through}")
    if gap.before is not None:
        words.append(f"before {gap.before}")
    why = gap.why
    if gap.unread is not None:
        why += f": what arrived {utc_between(*gap.unread)} may have expired unread"
    return f"{' '.join(words)}: {why}" if words else why


def _span(span: Span) -> str:
    begin = f"{'after' if span.low.side else 'from'} {span.low.position}"
    return f"{begin} {'to' if span.high.side else 'before'} {span.high.position}"


def _verdict(report: Report) -> str:
    records = sum(one.records for one in report.shards)
    shards, blocks = len(report.shards), report.blocks
    held = f"{records:,} records of {counted(shards, 'shard')} in {counted(blocks, 'block')}"
    if report.nothing_stored:
        begun = f", {counted(shards, 'shard')} begun" if shards else ""
        return (
            f"Nothing is stored yet{begun}: there is nothing to prove. `kcl-receiver status` shows what is being read."
        )
    if report.proven and report.ledger_only:
        return f"Proven by the ledger alone, no block was looked at: all that KCL delivered was stored: {held}."
    if report.proven:
        return f"Proven: all that KCL delivered is stored: {held}."
    states = [one.state for one in report.shards]
    counts = [
        (sum(state == LOST for state in states), "shard with lost records", "shards with lost records"),
        (sum(state == GAP for state in states), "shard with a gap", "shards with gaps"),
        (sum(state == POSSIBLY_TRIMMED for state in states), "shard possibly trimmed", "shards possibly trimmed"),
        (len(report.missing), "block missing", "blocks missing"),
        (len(report.damaged), "block damaged", "blocks damaged"),
        (len(report.ledger_faults) + report.ledger_lost, "fault in the ledger", "faults in the ledger"),
    ]
    found = [f"{count:,} {one if count == 1 else many}" for count, one, many in counts if count]
    return f"NOT proven: {', '.join(found)}. There are {held}."


def _time(milliseconds: int) -> str:
    if milliseconds < 0:
        return "-"
    return datetime.fromtimestamp(milliseconds / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
