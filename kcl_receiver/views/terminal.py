"""The table of shards that `status` and `demo` show: the generator's state beside the lease table's checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

import click

from kcl_receiver.aws import Lease
from kcl_receiver.status.live import NOTED_SECONDS, SHOWN, Condition, Live, ShardLive, for_people
from kcl_receiver.status.report import GeneratorState, LeaseState, ShardState, WriterState

WRITER_COLUMNS = ("writer", "host", "pid", "version", "began", "recorded", "shards")
COLUMNS = ("shard", "state", "owner", "records", "stored through", "checkpoint", "lag", "window")
_RIGHT = frozenset({"records", "lag", "window", "pid"})
_TAIL_DIGITS = 12


def counted(count: int, thing: str, things: str = "") -> str:
    """Return a number of things in words: `1 block`, `2 blocks`."""
    return f"{count:,} {thing if count == 1 else things or thing + 's'}"


def short_position(text: str | None) -> str:
    """Return the end of a position, which is what changes: sequence numbers have 56 digits."""
    if text is None:
        return "-"
    sequence, _, sub = text.partition(":")
    if not sequence.isdigit():
        return text
    shown = sequence if len(sequence) <= _TAIL_DIGITS else "…" + sequence[-_TAIL_DIGITS:]
    return f"{shown}:{sub}" if sub not in ("", "0") else shown


def short_shard(shard: str) -> str:
    """Return `shard 3` for shardId-000000000003."""
    number = shard.removeprefix("shardId-")
    return f"shard {int(number)}" if number.isdigit() else shard


def human_bytes(count: float) -> str:
    """Return a size for people: 1.5 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def human_lag(millis: int) -> str:
    """Return millisBehindLatest for people; -1 is not known."""
    if millis < 0:
        return "-"
    seconds = millis / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"


def shard_rows(live: Live) -> list[dict[str, str]]:
    """Return one row a shard, as text."""
    generator = live.generator
    states = {} if generator is None else {one.shard: one for one in generator.shards}
    leases = {one.shard: one for one in live.leases or ()}
    rows = []
    for one in live.shards:
        state, lease = states.get(one.shard), leases.get(one.shard)
        row = {
            "shard": short_shard(one.shard),
            "state": _condition(one, state),
            "owner": "-" if one.owner is None else one.owner[:24],
            "checkpoint": "-" if lease is None else short_position(checkpoint_text(lease)),
        }
        if generator is not None and state is not None:
            row |= {
                "records": f"{state.records:,}",
                "stored through": short_position(state.stored_through),
                "lag": _lag(state),
                "window": f"{100 * state.window_used / (generator.window_bytes or 1):.0f} %",
            }
        rows.append(dict.fromkeys(COLUMNS, "-") | row)
    return rows


def writer_rows(live: Live) -> list[dict[str, str]]:
    """Return one row for each generator that writes to the store, as text; none if that is the one here alone."""
    here = None if live.generator is None else live.generator.pid
    if not live.writers or ([one.pid for one in live.writers] == [here]):
        return []
    return [
        {
            "writer": one.writer,
            "host": one.host,
            "pid": str(one.pid),
            "version": one.version,
            "began": f"{for_people(one.began_seconds)} ago",
            "recorded": "-" if one.recorded_seconds is None else f"{for_people(one.recorded_seconds)} ago",
            "shards": _shards_of(one),
        }
        for one in live.writers
    ]


def _shards_of(writer: WriterState) -> str:
    names = [short_shard(one).removeprefix("shard ") for one in writer.shards[:SHOWN]]
    more = len(writer.shards) - len(names)
    return ", ".join([*names, *([f"{more} more"] if more else [])]) or "-"


def _condition(one: ShardLive, state: ShardState | None) -> str:
    if one.seconds is not None:
        return f"{one.condition.value} for {for_people(one.seconds)}"
    if one.condition is Condition.READING and state is not None and state.spoke_seconds >= NOTED_SECONDS:
        return f"silent for {for_people(state.spoke_seconds)}"
    return one.condition.value


def _lag(state: ShardState) -> str:
    said = human_lag(state.behind_millis)
    if state.behind_seconds is None or state.behind_seconds < NOTED_SECONDS:
        return said
    return f"{said}, {for_people(state.behind_seconds)} ago"


def checkpoint_text(lease: Lease | LeaseState) -> str:
    """Return a lease's checkpoint as a position's text, or KCL's word."""
    if lease.checkpoint.isdigit():
        return f"{lease.checkpoint}:{lease.sub_sequence_number}"
    return lease.checkpoint


def table(rows: Sequence[dict[str, str]], columns: Sequence[str] = COLUMNS) -> list[str]:
    """Return aligned lines, the head first."""
    widths = {name: max([len(name), *(len(row[name]) for row in rows)]) for name in columns}

    def line(values: dict[str, str]) -> str:
        cells = (
            values[name].rjust(widths[name]) if name in _RIGHT else values[name].ljust(widths[name]) for name in columns
        )
        return "  ".join(cells).rstrip()

    return [click.style(line({name: name for name in columns}), bold=True), *map(line, rows)]


def summary(generator: GeneratorState) -> str:
    """Return one line on the generator as a whole."""
    parts = [
        f"{generator.records_stored:,} records in {counted(generator.blocks_stored, 'block')} stored "
        f"({human_bytes(generator.bytes_stored)})",
        f"{generator.blocks_in_flight} being written",
    ]
    if generator.records_skipped:
        parts.append(f"{generator.records_skipped:,} skipped, as they were stored before")
    if generator.draining:
        parts.append("draining")
    return ", ".join(parts)


def problem_lines(live: Live) -> list[str]:
    """Return what is wrong, each with what to do about it; then what may have been lost before."""
    lines = []
    for problem in live.problems:
        lines.append(click.style(problem.text, fg="red"))
        if problem.hint:
            lines.append(f"Hint: {problem.hint}")
    for one in () if live.generator is None else live.generator.shards:
        if one.possibly_trimmed is not None:
            begin, end = one.possibly_trimmed.arrived_from, one.possibly_trimmed.arrived_to
            said = (
                f"{one.shard}: records that arrived {utc_between(begin, end)} may have been trimmed before they were "
                "read: see `kcl-receiver verify`"
            )
            lines.append(click.style(said, fg="yellow"))
    return lines


def utc_between(begin: int, end: int) -> str:
    """Return a span of time for people, in milliseconds since the epoch, -1 where it is not known."""
    times = [f"{datetime.fromtimestamp(at / 1000, timezone.utc):%Y-%m-%d %H:%M:%SZ}" for at in (begin, end) if at >= 0]
    if begin < 0:
        return f"until {times[0]}" if times else "at a time that is not known"
    return f"between {times[0]} and {times[1]}" if end >= 0 else f"after {times[0]}"
