"""The picture that `verify` draws in a terminal: for each shard a bar over time, in which what is amiss is seen first.

Every sign has a form of its own, so that nothing depends on colour; what is amiss takes a sign's place however short it
is, beside whatever else lies in the same stretch of time.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from datetime import datetime, timezone

from kcl_receiver.audit.report import (
    EXPIRED,
    GAP,
    LOST,
    OVERLAP,
    POSSIBLY_TRIMMED,
    STORED,
    ShardReport,
    Stretch,
)

BAR = 60
"""Signs of a bar, at most."""
MIN_BAR = 10
PLAIN_WIDTH = 120
"""Columns where nobody tells, as in a file."""

IDLE = "idle"
_SIGNS = {
    IDLE: ("─", "-", "nothing delivered"),
    EXPIRED: ("░", ":", "expired"),
    STORED: ("█", "#", "stored"),
    OVERLAP: ("▓", "=", "stored twice"),
    POSSIBLY_TRIMMED: ("?", "?", "possibly trimmed"),
    GAP: ("·", ".", "gap"),
    LOST: ("X", "X", "lost"),
}
"""Sign, the same in ASCII, and its meaning; what comes later is drawn over what comes before."""


def width() -> int:
    """Return how many columns there are to write in."""
    return shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns if sys.stdout.isatty() else PLAIN_WIDTH


def picture(shards: Sequence[ShardReport], columns: int, *, plain: bool | None = None) -> list[str]:
    """Return lines with a bar for each shard over the time of all of them; none if no times are known.

    Args:
        shards: The shards of one stream.
        columns: How wide a line may be.
        plain: Use ASCII alone; if not given, where stdout cannot take anything else.
    """
    times = [at for one in shards for stretch in one.timeline for at in (stretch.begin_ms, stretch.end_ms)]
    if not times:
        return []
    begin, end = min(times), max(times)
    names = max(len(one.shard) for one in shards)
    size = max(MIN_BAR, min(BAR, columns - names - 4))
    drawn = {one.shard: _bar(one.timeline, begin, end, size) for one in shards}
    ascii_only = _is_plain() if plain is None else plain
    left, right = _time(begin), _time(end)
    if len(left) + len(right) + 2 > size:
        left, right = left[:10], right[:10] if size > 2 * 10 else ""
    room = " " * max(1, size - len(left) - len(right))
    lines = [f"  {'':{names}}  {left}{room}{right}"]
    for shard, cells in drawn.items():
        bar = "".join(" " if cell is None else _SIGNS[cell][ascii_only] for cell in cells)
        lines.append(f"  {shard:{names}}  {bar}".rstrip())
    used = {cell for cells in drawn.values() for cell in cells}
    legend = [f"{signs[ascii_only]} {signs[2]}" for kind, signs in _SIGNS.items() if kind in used and kind != STORED]
    if legend:
        sign = _SIGNS[STORED]
        lines.append(f"  {'':{names}}  " + "  ".join([f"{sign[ascii_only]} {sign[2]}", *legend]))
    return lines


def _bar(timeline: Sequence[Stretch], begin: int, end: int, size: int) -> list[str | None]:
    """Return the kind that each cell shows."""
    cells: list[str | None] = [None] * size
    ranks = list(_SIGNS)
    unit = max(1, end - begin) / size

    def fill(kind: str, low: float, high: float) -> None:
        first = min(size - 1, int((low - begin) / unit))
        for at in range(first, max(first + 1, min(size, round((high - begin) / unit)))):
            here = cells[at]
            if here is None or ranks.index(here) < ranks.index(kind):
                cells[at] = kind

    if timeline:
        fill(IDLE, min(one.begin_ms for one in timeline), max(one.end_ms for one in timeline))
    for one in timeline:
        fill(one.kind, one.begin_ms, one.end_ms)
    return cells


def _is_plain() -> bool:
    try:
        "".join(sign for sign, _, _ in _SIGNS.values()).encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return True
    return False


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
