"""`kcl-receiver verify`: proves that nothing is missing, or says what is."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import click

from kcl_receiver.cli.options import output_option, properties_or_other_option, store_of, store_option
from kcl_receiver.cli.verify_answers import answers_to_json, answers_to_text
from kcl_receiver.cli.verify_others import Others, others_options
from kcl_receiver.ranges import Position
from kcl_receiver.reader.coverage import Gap, Span
from kcl_receiver.reader.verify import GAP, LOST, POSSIBLY_TRIMMED, Report, ShardReport, verify_store
from kcl_receiver.store.base import open_store

OUTPUT_VERSION = 1
"""Version of the JSON that comes out. Members may be added; none changes its meaning."""

SHOWN = 20
"""How many names of one kind the text shows; the JSON has all."""


@click.command()
@store_option
@properties_or_other_option
@output_option
@click.option("--deep", is_flag=True, help="Read all records, and make the checksum of every range again.")
@others_options
def verify(store: str | None, properties: str | None, output: str, *, deep: bool, **others: Any) -> int:  # noqa: ANN401
    """Prove from footers and ledger that nothing is missing.

    Each range of records names the position that it follows, so that what is proven needs neither Kinesis nor a running
    receiver. For each shard one of these words comes out:

    \b
      proven            all that KCL delivered is stored, without a break
      possibly trimmed  reading resumed so late that records may have expired unread
      gap               there may be records that no block holds
      lost              the ledger names records that no readable block holds

    The store is only read, and the receiver may be running. Exit code 0 only if all is proven, 1 if anything is amiss,
    5 if AWS was asked and does not answer.

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
    opened = open_store(store_of(store, properties))
    asked = Others.of(opened, properties, **others)
    asked.read_leases()
    report = verify_store(opened, deep=deep)
    if output == "text":
        click.echo(to_text(report))
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
        "deep": report.deep,
        "shards": [_shard_to_json(one) for one in report.shards],
        "blocks": {
            "present": report.blocks,
            "missing": report.missing,
            "damaged": [{"block": block, "reason": reason} for block, reason in sorted(report.damaged.items())],
            "orphans": report.orphans,
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
        "leftovers": [{"path": path, "bytes": size} for path, size in report.leftovers],
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
        "from": _position_or_none(shard.first),
        "to": _position_or_none(shard.last),
        "arrival_from": shard.arrival_first,
        "arrival_to": shard.arrival_last,
        "ended": shard.ended,
        "gaps": list(map(_gap_to_json, shard.gaps)),
        "possibly_trimmed": list(map(_gap_to_json, shard.possibly_trimmed)),
        "lost": [{"block": one.block, "count": one.count, **_span_to_json(one.span)} for one in shard.lost],
    }


def _gap_to_json(gap: Gap) -> dict[str, Any]:
    return {
        "after": _position_or_none(gap.after),
        "through": _position_or_none(gap.through),
        "before": _position_or_none(gap.before),
        "reason": gap.why,
    }


def _span_to_json(span: Span) -> dict[str, Any]:
    return {
        "from": str(span.low.position),
        "from_included": span.low.side == 0,
        "to": str(span.high.position),
        "to_included": span.high.side == 1,
    }


def _position_or_none(position: Position | None) -> str | None:
    return None if position is None else str(position)


def to_text(report: Report) -> str:
    """Return the report for people: a table of the shards, what is amiss, and a verdict."""
    streams = sorted({one.stream for one in report.shards})
    lines = [f"Store        {report.url}", f"Application  {report.application or 'unknown: store.json is missing'}", ""]
    for stream in streams:
        lines.append(f"Stream {stream.arn}, made {_time(stream.created)}")
        lines += _table([one for one in report.shards if one.stream == stream])
        lines.append("")
    amiss = [*_shards_amiss(report), *_blocks_amiss(report)]
    notes = _notes(report)
    for title, found in (("What is amiss:", amiss), ("Worth knowing:", notes)):
        if found:
            lines += [title, *(f"  {line}" for line in found), ""]
    return "\n".join([*lines, _verdict(report)])


def _table(shards: list[ShardReport]) -> list[str]:
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
    return [
        "  "
        + "  ".join(cell.rjust(width) if 2 <= at <= 4 else cell.ljust(width) for at, (cell, width) in pairs).rstrip()
        for pairs in (list(enumerate(zip(row, widths, strict=True))) for row in (head, *rows))
    ]


def _shards_amiss(report: Report) -> list[str]:
    lines = []
    for one in report.shards:
        for lost in one.lost:
            records = "some records" if lost.count is None else f"{lost.count:,} records"
            lines.append(f"{one.shard}: {LOST}: {records}, {_span(lost.span)}, of block {lost.block}")
        lines += [f"{one.shard}: {GAP}: {_gap(gap)}" for gap in one.gaps]
        lines += [f"{one.shard}: {POSSIBLY_TRIMMED}: {_gap(gap)}" for gap in one.possibly_trimmed]
    return lines


def _blocks_amiss(report: Report) -> list[str]:
    lines = [f"block {block} is missing" for block in report.missing]
    lines += [f"block {block} is damaged: {reason}" for block, reason in sorted(report.damaged.items())]
    lines = _first(lines)
    lines += _first([f"ledger: {fault}" for fault in report.ledger_faults])
    if report.ledger_lost:
        lines.append("ledger: lost; this is what the blocks that are left say, and no others are known")
    return lines


def _notes(report: Report) -> list[str]:
    lines = _first([f"block {block} is in no ledger yet; the next generator takes it in" for block in report.orphans])
    lines += _first(
        [
            f"the ledger of writer {one.writer} is lost from line {one.line} on: {one.reason}"
            for one in report.acknowledged
        ]
    )
    lines += [f"the ledger of writer {writer} ends in a torn line, which nobody relied on" for writer in report.torn]
    lines += _first([f"{path} ({size:,} bytes) is no part of the store" for path, size in report.leftovers])
    return lines


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
    return f"{' '.join(words)}: {gap.why}" if words else gap.why


def _span(span: Span) -> str:
    begin = f"{'after' if span.low.side else 'from'} {span.low.position}"
    return f"{begin} {'to' if span.high.side else 'before'} {span.high.position}"


def _counted(count: int, thing: str) -> str:
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def _verdict(report: Report) -> str:
    records = sum(one.records for one in report.shards)
    shards, blocks = len(report.shards), report.blocks
    held = f"{records:,} records of {_counted(shards, 'shard')} in {_counted(blocks, 'block')}"
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
