"""The table of shards that `status` and `demo` show: the generator's state beside the lease table's checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import click

from kcl_receiver.aws import Lease

COLUMNS = ("shard", "owner", "records", "stored through", "checkpoint", "lag", "window")
_RIGHT = frozenset({"records", "lag", "window"})
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


def shard_rows(generator: dict[str, Any] | None, leases: Iterable[Lease]) -> list[dict[str, str]]:
    """Return one row a shard, as text."""
    live = {one["shard"]: one for one in (generator or {}).get("shards", [])}
    held = {one.shard: one for one in leases}
    window = (generator or {}).get("window_bytes", 0)
    rows = []
    for shard in sorted(live.keys() | held.keys()):
        state, lease = live.get(shard), held.get(shard)
        rows.append(
            {
                "shard": short_shard(shard),
                "owner": "-" if lease is None or lease.owner is None else lease.owner[:24],
                "records": "-" if state is None else f"{state['records']:,}",
                "stored through": "-" if state is None else short_position(state["stored_through"]),
                "checkpoint": "-" if lease is None else short_position(checkpoint_text(lease)),
                "lag": "-" if state is None else human_lag(state["behind_millis"]),
                "window": "-" if state is None or not window else f"{100 * state['window_used'] / window:.0f} %",
            }
        )
    return rows


def checkpoint_text(lease: Lease) -> str:
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


def summary(generator: dict[str, Any]) -> str:
    """Return one line on the generator as a whole."""
    blocks = generator["blocks_stored"]
    parts = [
        f"{generator['records_stored']:,} records in {blocks:,} block{'' if blocks == 1 else 's'} stored "
        f"({human_bytes(generator['bytes_stored'])})",
        f"{generator['blocks_in_flight']} being written",
    ]
    if generator["records_skipped"]:
        parts.append(f"{generator['records_skipped']:,} skipped, as they were stored before")
    if generator["draining"]:
        parts.append("draining")
    return ", ".join(parts)
