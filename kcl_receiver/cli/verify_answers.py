"""What leases and stream said to `verify`, as text and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from kcl_receiver.audit.leases import BEHIND, BEYOND, CLEANED_UP, ENDED, LeaseReport
from kcl_receiver.audit.report import Report
from kcl_receiver.audit.stream_audit import LISTED, Answer, End, Found, Hole, Kind, LeftOut, Settled
from kcl_receiver.cli.external_checks import Others, StreamAnswers
from kcl_receiver.ranges import Position
from kcl_receiver.views.terminal import counted, human_lag, short_position

SHOWN = 20
"""How many lines of one kind the text shows; the JSON has more."""


def answers_to_json(others: Others, report: Report) -> dict[str, Any]:
    """Return the members `leases` and `against_stream` of docs/format.md#what-verify-prints, if they were asked for."""
    out: dict[str, Any] = {}
    if others.leases is not None:
        out["leases"] = {"table": others.table, "leases": list(map(_lease_to_json, others.leases))}
    if others.stream is not None:
        said = others.stream
        out["against_stream"] = {
            "stream": said.stream.arn,
            "stream_created": said.stream.created,
            "since": others.since,
            "complete": not said.stopped,
            "settled": others.settled(report),
            "shards": [_answer_to_json(answer) for _, answer in sorted(said.answers.items())],
            "unknown_shards": said.elsewhere,
            "shards_of_older_streams": said.older,
        }
    return out


def _lease_to_json(lease: LeaseReport) -> dict[str, Any]:
    return {
        "shard": lease.shard,
        "state": lease.state,
        "amiss": lease.amiss,
        "checkpoint": lease.checkpoint,
        "owner": lease.owner,
        "stored_through": _text_or_none(lease.stored_through),
        "behind_records": None if lease.behind is None else lease.behind.records,
        "behind_millis": None if lease.behind is None else lease.behind.milliseconds,
        "detail": lease.detail,
    }


def _answer_to_json(answer: Answer) -> dict[str, Any]:
    return {
        "shard": answer.shard,
        "read_to": answer.end.value,
        "first": None if answer.first is None else str(answer.first),
        "last": None if answer.last is None else str(answer.last),
        "kinesis_records": answer.kinesis_records,
        "records": answer.records,
        "dropped_aggregates": answer.dropped,
        "dropped_records": answer.dropped_records,
        "broken_aggregates": answer.broken,
        "broken_records": answer.broken_records,
        "left_out": [
            {
                "what": "dropped" if one.dropped else "broken",
                "sequence_number": str(one.sequence),
                "records": one.records,
                "arrival": one.arrival,
            }
            for one in answer.left_out
        ],
        "links": answer.links,
        "links_trimmed": answer.links_unasked,
        "ranges": answer.ranges,
        "ranges_trimmed": answer.ranges_unasked,
        **{kind.value.replace(" ", "_"): answer.totals.get(kind, 0) for kind in Kind},
        "found": [
            {
                "what": one.kind.value,
                "first": str(one.first),
                "last": str(one.last),
                "kinesis_records": one.kinesis_records,
                "records": one.records,
                "arrival_first": one.arrival_first,
                "arrival_last": one.arrival_last,
            }
            for one in answer.found
        ],
        "ranges_differing": answer.ranges_differing,
        "differing": [
            {"first": str(one.first), "last": str(one.last), "stored": one.stored, "in_stream": one.in_stream}
            for one in answer.differing
        ],
        "holes": [
            {
                "what": hole.what,
                "after": _text_or_none(hole.after),
                "before": _text_or_none(hole.before),
                "answer": settled.value,
            }
            for hole, settled in answer.holes
        ],
    }


def answers_to_text(others: Others, report: Report) -> str:
    """Return what was asked for, for people; empty if nothing was."""
    parts = []
    if others.leases is not None:
        parts.append(_leases_to_text(others.table, others.leases))
    if others.stream is not None:
        parts.append(_stream_to_text(others.stream, settled=not report.proven and others.settled(report)))
    return "\n\n".join(parts)


def _leases_to_text(table: str, leases: list[LeaseReport]) -> str:
    rows = [
        (
            one.shard,
            one.state,
            short_position(one.checkpoint),
            short_position(_text_or_none(one.stored_through)),
            _behind(one),
            one.owner or "-",
        )
        for one in leases
    ]
    lines = [f"Leases of table {table}"]
    lines += _columns(("SHARD", "STATE", "CHECKPOINT", "STORED THROUGH", "BEHIND BY", "OWNER"), rows)
    amiss = [one for one in leases if one.amiss]
    if amiss:
        lines += ["", "What is amiss:", *_first([f"  {_lease(one)}" for one in amiss])]
    free = [one for one in leases if one.owner is None and not one.amiss and one.state not in (ENDED, CLEANED_UP)]
    if free:
        names = ", ".join(one.shard for one in free[:SHOWN]) + (", ..." if len(free) > SHOWN else "")
        lines += ["", f"No worker has the lease of {counted(len(free), 'shard')}, so nothing is read of: {names}"]
    beyond = sum(one.state == BEYOND for one in leases)
    if beyond:
        things = "checkpoint is" if beyond == 1 else "checkpoints are"
        verdict = (
            f"PROMISE BROKEN: {beyond:,} {things} beyond what is stored: KCL will not deliver again what lies between."
        )
    elif amiss:
        verdict = f"Leases NOT proven: {counted(len(amiss), 'lease')} of {len(leases):,} amiss."
    elif not leases:
        verdict = "Leases NOT proven: the table holds no lease, so no shard is read."
    else:
        verdict = f"Leases proven: of {counted(len(leases), 'checkpoint')}, none is past what is stored."
    return "\n".join([*lines, "", verdict])


def _behind(lease: LeaseReport) -> str:
    if lease.state != BEHIND or lease.behind is None:
        return "-"
    records = counted(lease.behind.records, "record")
    return records if lease.behind.milliseconds < 0 else f"{records}, {human_lag(lease.behind.milliseconds)}"


def _lease(lease: LeaseReport) -> str:
    words = [f"{lease.shard}: {lease.state.upper() if lease.state == BEYOND else lease.state}"]
    if lease.checkpoint is not None:
        words.append(f"checkpoint {lease.checkpoint}")
    words.append(f"stored through {_text_or_none(lease.stored_through) or 'nothing'}")
    if lease.checkpoint is not None:
        words.append(f"lease of worker {lease.owner}" if lease.owner else "lease of nobody")
    return ", ".join(words) + (f"; {lease.detail}" if lease.detail else "")


def _stream_to_text(said: StreamAnswers, *, settled: bool) -> str:
    answers = [answer for _, answer in sorted(said.answers.items())]
    rows = [
        (
            one.shard,
            one.end.value,
            f"{one.records:,}",
            f"{one.links:,}",
            f"{one.links_unasked:,}",
            *(f"{one.totals.get(kind, 0):,}" for kind in (Kind.SKIPPED, Kind.IN_GAP, Kind.LOST, Kind.LATER)),
        )
        for one in answers
    ]
    head = ("SHARD", "READ TO", "RECORDS", "LINKS", "TRIMMED LINKS", "SKIPPED", "IN GAPS", "LOST", "NOT YET")
    lines = [f"Asked stream {said.stream.arn}", *_columns(head, rows)]
    amiss = [line for one in answers for line in _amiss(one)]
    if amiss:
        lines += ["", "What is amiss:", *(f"  {line}" for line in amiss)]
    notes = [line for one in answers for line in _notes(one)]
    notes += [f"{shard} is in the stream, and this store knows nothing of it" for shard in _first(said.elsewhere)]
    if said.older:
        notes.append(f"{counted(said.older, 'shard')} of a stream that is gone can't be asked about")
    if notes:
        lines += ["", "Worth knowing:", *(f"  {line}" for line in notes)]
    return "\n".join([*lines, "", _verdict(answers, settled=settled)])


def _amiss(answer: Answer) -> list[str]:
    lines = _first([f"{answer.shard}: {_found(one)}" for one in answer.found])
    if len(answer.found) >= LISTED:
        lines.append(f"{answer.shard}: only the first {LISTED:,} stretches are kept; all are counted")
    lines += _first(
        [
            f"{answer.shard}: two deliveries differ: {one.stored:,} records are stored from {one.first} to {one.last}, "
            f"the stream gives {one.in_stream:,}"
            for one in answer.differing
        ]
    )
    if answer.end is End.BROKEN_OFF:
        lines.append(f"{answer.shard}: not asked to the end; after {answer.last or 'the beginning'} nothing is known")
    return lines


def _found(found: Found) -> str:
    what = {
        Kind.SKIPPED: "skipped: in the stream and not stored",
        Kind.IN_GAP: "in a gap: in the stream and not stored",
        Kind.LOST: "lost, and still in the stream",
    }[found.kind]
    where = f"from {found.first} to {found.last}" if found.first != found.last else f"{found.first}"
    when = "" if found.arrival_first < 0 else f", arrived {_time(found.arrival_first)}"
    if 0 <= found.arrival_first < found.arrival_last:
        when += f" to {_time(found.arrival_last)}"
    return f"{what}: {counted(found.records, 'record')}, {where}{when}"


def _notes(answer: Answer) -> list[str]:
    lines = []
    for hole, settled in answer.holes:
        if settled is Settled.NOTHING:
            lines.append(
                f"{answer.shard}: {_hole(hole)}: proven now: the stream reaches back before it, and nothing lies there"
            )
        elif settled is not Settled.RECORDS:
            lines.append(f"{answer.shard}: {_hole(hole)}: {settled.value}")
    lines = _first(lines)
    if answer.end is End.GONE:
        lines.append(f"{answer.shard}: the stream does not hold it any more: it can't be asked about")
    elif answer.links_unasked or answer.ranges_unasked:
        start = "which gave nothing" if answer.first is None else f"which begins at {answer.first}"
        links, ranges = counted(answer.links_unasked, "link"), counted(answer.ranges_unasked, "range")
        lines.append(f"{answer.shard}: {links} and {ranges} can't be asked of the stream, {start}")
    if answer.totals.get(Kind.EARLIER):
        earlier = counted(answer.totals[Kind.EARLIER], "record")
        lines.append(f"{answer.shard}: {earlier} before the first that is stored, where reading did not begin")
    lines += _first([f"{answer.shard}: {_left_out(one)}" for one in answer.left_out])
    return lines


def _left_out(one: LeftOut) -> str:
    records = counted(one.records, "user record")
    when = "" if one.arrival < 0 else f", arrived {_time(one.arrival)}"
    if one.dropped:
        return (
            f"KCL drops the aggregate {one.sequence} with {records}{when}: one is outside of the shard's hash range; "
            "the KPL puts such records again, other producers have to"
        )
    return f"KCL does not deliver the last {records} of the aggregate {one.sequence}{when}: the first is malformed"


def _hole(hole: Hole) -> str:
    words = [hole.what]
    if hole.after is not None:
        words.append(f"after {hole.after}")
    if hole.before is not None:
        words.append(f"before {hole.before}")
    return " ".join(words)


def _verdict(answers: list[Answer], *, settled: bool) -> str:
    counts = [
        (sum(one.totals.get(kind, 0) for one in answers), words)
        for kind, words in (
            (Kind.SKIPPED, "skipped"),
            (Kind.IN_GAP, "in gaps"),
            (Kind.LOST, "lost and still in the stream"),
        )
    ]
    found = [f"{counted(count, 'record')} {words}" for count, words in counts if count]
    differing = sum(one.ranges_differing for one in answers)
    if differing:
        found.append(f"{counted(differing, 'range')} of which two deliveries differ")
    broken = sum(one.end is End.BROKEN_OFF for one in answers)
    if broken:
        found.append(f"{counted(broken, 'shard')} not asked to the end")
    if found:
        return f"NOT proven by the stream: {', '.join(found)}."
    links, trimmed = sum(one.links for one in answers), sum(one.links_unasked for one in answers)
    reach = f"; {counted(trimmed, 'link')} can't be asked any more" if trimmed else ""
    also = " That proves what the store alone could not." if settled else ""
    what = "nothing lies between neighbours"
    if left_out := sum(one.dropped_records + one.broken_records for one in answers):
        aggregates = counted(sum(one.dropped + one.broken for one in answers), "aggregate")
        what = f"all that KCL delivers is stored, but not {counted(left_out, 'user record')} of {aggregates}"
        what += " that KCL does not deliver"
    return f"Proven by the stream: {what}: {counted(links, 'link')} asked{reach}.{also}"


def _columns(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return aligned lines; what is a number in every row stands on the right."""
    columns = list(zip(head, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [bool(rows) and all(cell.replace(",", "").isdecimal() for cell in column[1:]) for column in columns]
    return [
        "  "
        + "  ".join(
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in (head, *rows)
    ]


def _first(lines: list[str]) -> list[str]:
    more = len(lines) - SHOWN
    return lines if more <= 0 else [*lines[:SHOWN], f"... and {more:,} more; --output json lists them"]


def _text_or_none(position: Position | None) -> str | None:
    return None if position is None else str(position)


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
