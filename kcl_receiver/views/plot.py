"""Draws what a store holds over time as one SVG, written by hand: one row for each shard, children below their parents.

Rules of the picture: a kind of stretch is told by its colour and by a pattern or shape as well, and what is amiss is
never narrower than can be seen, however short it was. Colours are those of Okabe and Ito, which people who are colour
blind tell apart. All text that comes from outside is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from kcl_receiver.audit.report import (
    EXPIRED,
    GAP,
    LOST,
    OVERLAP,
    POSSIBLY_TRIMMED,
    STORED,
    Report,
    ShardReport,
    Stretch,
)
from kcl_receiver.ranges import StreamIdentity
from kcl_receiver.store.ledger.entries import SessionStarted
from kcl_receiver.views.plot_axis import Axis, moment

WIDTH = 1280
LABELS = 170
NOTES = 230
LEFT, RIGHT = LABELS, WIDTH - NOTES

ORDER = (EXPIRED, STORED, OVERLAP, POSSIBLY_TRIMMED, GAP, LOST)
"""What is drawn later lies on top."""
MIN_WIDTH = {EXPIRED: 1.0, STORED: 1.5, OVERLAP: 3.0, POSSIBLY_TRIMMED: 6.0, GAP: 6.0, LOST: 6.0}
"""Pixels."""
AMISS = frozenset({POSSIBLY_TRIMMED, GAP, LOST})
NEAR = 0.75
"""Stretches of one kind closer than so many pixels are drawn as one: nobody could tell them apart."""

MEANINGS = {
    STORED: "stored",
    OVERLAP: "stored more than once",
    GAP: "gap: may be in no block",
    POSSIBLY_TRIMMED: "possibly trimmed unread",
    LOST: "lost: no readable block",
    EXPIRED: "expired on purpose",
}

_STYLE = """
text { font-family: "DejaVu Sans", Verdana, Arial, sans-serif; fill: #24292f; }
.title { font-size: 20px; font-weight: bold; }
.sub { font-size: 12.5px; fill: #57606a; }
.legend { font-size: 12px; }
.axis { font-size: 11px; fill: #57606a; }
.note { fill: #57606a; }
.bad { fill: #a33b00; font-weight: bold; }
.grid { stroke: #d8dee4; stroke-width: 1; }
.line { stroke: #8c959f; stroke-width: 1.2; fill: none; }
.tick { fill: #24292f; }
.stored { fill: #0072b2; }
.overlap { fill: url(#overlap); }
.gap { fill: url(#gap); stroke: #a33b00; stroke-width: 1; }
.trimmed { fill: url(#trimmed); stroke: #8a5f00; stroke-width: 1; }
.lost { fill: url(#lost); stroke: #000; stroke-width: 1; }
.expired { fill: url(#expired); stroke: #8c959f; stroke-width: 0.6; }
"""

_PATTERNS = """
<pattern id="overlap" width="6" height="6" patternUnits="userSpaceOnUse"><rect width="6" height="6" fill="#0072b2"/>
<path d="M-1 7L7 -1M-1 1L1 -1M5 7L7 5" stroke="#a6dcff" stroke-width="2"/></pattern>
<pattern id="gap" width="6" height="6" patternUnits="userSpaceOnUse"><rect width="6" height="6" fill="#fff1e8"/>
<path d="M-1 -1L7 7M5 -1L7 1M-1 5L1 7" stroke="#d55e00" stroke-width="2.2"/></pattern>
<pattern id="trimmed" width="6" height="6" patternUnits="userSpaceOnUse"><rect width="6" height="6" fill="#f6c343"/>
<circle cx="3" cy="3" r="1.5" fill="#6b4a00"/></pattern>
<pattern id="lost" width="8" height="8" patternUnits="userSpaceOnUse"><rect width="8" height="8" fill="#111"/>
<path d="M1.5 1.5L6.5 6.5M6.5 1.5L1.5 6.5" stroke="#fff" stroke-width="1.4"/></pattern>
<pattern id="expired" width="4" height="4" patternUnits="userSpaceOnUse"><rect width="4" height="4" fill="#f3f4f6"/>
<path d="M0 1H4" stroke="#a8b0b8" stroke-width="1"/></pattern>
"""

_CLASS: dict[str, str] = {POSSIBLY_TRIMMED: "trimmed"}
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Row:
    """One shard of the picture.

    Attributes:
        report: What was found of it.
        sessions: When its sessions began, milliseconds since the epoch.
        parents: Its parents, as far as they have rows.
        depth: Number of generations above it.
    """

    report: ShardReport
    sessions: tuple[int, ...] = ()
    parents: tuple[str, ...] = ()
    depth: int = 0


def draw(report: Report, sessions: Mapping[tuple[StreamIdentity, str], Sequence[SessionStarted]]) -> str:
    """Return the picture of a store.

    Args:
        report: What was found of it.
        sessions: The sessions of each shard, which tell of restarts and of parents.
    """
    streams = sorted({one.stream for one in report.shards})
    rows = {stream: rows_of([one for one in report.shards if one.stream == stream], sessions) for stream in streams}
    return _Picture(report, rows).svg()


def rows_of(
    shards: Sequence[ShardReport], sessions: Mapping[tuple[StreamIdentity, str], Sequence[SessionStarted]]
) -> list[Row]:
    """Return the rows of one stream: each child stands below all of its parents, else they are in the order of ids."""
    by_id = {one.shard: one for one in shards}
    begun = {one.shard: sessions.get((one.stream, one.shard), ()) for one in shards}
    parents = {
        shard: tuple(sorted({parent for one in each for parent in one.parents if parent in by_id and parent != shard}))
        for shard, each in begun.items()
    }
    placed: dict[str, Row] = {}
    places: dict[str, int] = {}
    waiting = sorted(by_id)
    while waiting:
        # Ids that name each other as parents are nonsense; the first of them is taken as it is.
        ready = [one for one in waiting if all(parent in placed for parent in parents[one])] or waiting[:1]
        # Children come at once, those of the parent that was placed last before the others.
        shard = max(
            ready, key=lambda one: max((places[parent] for parent in parents[one] if parent in places), default=-1)
        )
        places[shard] = len(places)
        depth = max((placed[parent].depth + 1 for parent in parents[shard] if parent in placed), default=0)
        times = tuple(sorted({one.time for one in begun[shard]}))
        placed[shard] = Row(by_id[shard], times, parents[shard], depth)
        waiting.remove(shard)
    return list(placed.values())


class _Picture:
    def __init__(self, report: Report, rows: Mapping[StreamIdentity, Sequence[Row]]) -> None:
        self._report = report
        self._rows = rows
        every = [row for each in rows.values() for row in each]
        self._step = 36 if len(every) <= 10 else 26 if len(every) <= 28 else 18
        self._bar = round(self._step * 0.56)
        self._font = 13 if self._step > 20 else 11
        times = [
            time
            for row in every
            for time in (*(time for one in row.report.timeline for time in (one.begin_ms, one.end_ms)), *row.sessions)
            if time >= 0
        ]
        self._axis = Axis(min(times, default=0), max(times, default=0), LEFT + 12, RIGHT - 12)
        self._has_sessions = any(row.sessions for row in every)

    def svg(self) -> str:
        """Return the whole picture."""
        body: list[str] = []
        y = 126.0
        for stream, rows in self._rows.items():
            if len(self._rows) > 1:
                body.append(_text(24, y - 8, "sub", f"Stream {stream.arn}, made {moment(stream.created)}"))
                y += 12
            body.append(_text(RIGHT + 8, y - 6, "axis", "records"))
            body += self._grid(y, y + len(rows) * self._step)
            places = {row.report.shard: y + at * self._step for at, row in enumerate(rows)}
            for row in rows:
                body += self._lineage(row, places)
            for row in rows:
                body += self._row(row, places[row.report.shard])
            y += len(rows) * self._step + 40
        if not self._rows:
            body.append(_text(LEFT, y + 20, "sub", "no shard has been read yet"))
            y += 40
        height = round(y)
        return "\n".join(
            [
                '<?xml version="1.0" encoding="UTF-8"?>',
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
                f'viewBox="0 0 {WIDTH} {height}" role="img">',
                f"<title>{_plain(self._title())}</title>",
                f"<style>{_STYLE}</style>",
                f"<defs>{_PATTERNS}</defs>",
                f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
                *self._head(),
                *body,
                "</svg>",
                "",
            ]
        )

    def _title(self) -> str:
        return f"What is stored in {self._report.url}"

    def _head(self) -> Iterator[str]:
        report = self._report
        records = sum(one.records for one in report.shards)
        verdict = "proven: all that KCL delivered is stored" if report.proven else "NOT proven"
        span = f"arrived {moment(self._axis.begin)} to {moment(self._axis.end)}" if self._axis.end else "no records"
        said = f"{_counted(records, 'record')} in {_counted(report.blocks, 'block')}, {span}"
        yield _text(24, 34, "title", _short(self._title(), 96))
        application = f"application {report.application}; " if report.application else ""
        yield _text(24, 56, "sub", _short(f"{application}{said}", 150))
        yield _text(24, 74, "sub" if report.proven else "sub bad", verdict)
        yield _text(WIDTH - 12, 74, "sub", "times are UTC; white: nothing arrived", anchor="end")
        x = 24.0
        there = {one.kind for shard in report.shards for one in shard.timeline}
        for kind in (STORED, OVERLAP, GAP, POSSIBLY_TRIMMED, LOST, EXPIRED):
            fade = "" if kind in there else ' opacity="0.45"'
            yield (
                f'<g{fade}><rect class="{_CLASS.get(kind, kind)}" x="{x:g}" y="87" width="22" height="12"/>'
                f"{_text(x + 28, 97, 'legend', MEANINGS[kind])}</g>"
            )
            x += 46 + 6.6 * len(MEANINGS[kind])
        if self._has_sessions:
            yield _triangle(x + 6, 98, 5) + _text(x + 16, 97, "legend", "a session began")

    def _grid(self, top: float, bottom: float) -> Iterator[str]:
        for at, label in self._axis.ticks():
            yield f'<path class="grid" d="M{at:.1f} {top - 2:g}V{bottom + 4:g}"/>'
            yield _text(at, bottom + 18, "axis", label, anchor="middle")

    def _lineage(self, row: Row, places: Mapping[str, float]) -> Iterator[str]:
        """Draw from the end of each parent to the beginning of a child."""
        begin = self._edges(row)[0]
        for parent in row.parents:
            end = self._end_of.get(parent)
            if begin is None or end is None:
                continue
            y1 = places[parent] + self._step / 2
            y2 = places[row.report.shard] + self._step / 2
            half = (y1 + y2) / 2
            yield (
                f'<path class="line" d="M{end:.1f} {y1:.1f}C{end:.1f} {half:.1f} {begin:.1f} {half:.1f} '
                f'{begin:.1f} {y2:.1f}"/>'
            )

    @property
    def _end_of(self) -> dict[str, float | None]:
        return {row.report.shard: self._edges(row)[1] for rows in self._rows.values() for row in rows}

    def _edges(self, row: Row) -> tuple[float | None, float | None]:
        times = [time for one in row.report.timeline for time in (one.begin_ms, one.end_ms) if time >= 0]
        times = times or list(row.sessions)
        return (self._axis.x(min(times)), self._axis.x(max(times))) if times else (None, None)

    def _row(self, row: Row, y: float) -> Iterator[str]:
        report = row.report
        top = y + (self._step - self._bar) / 2
        middle = y + self._step / 2 + self._font * 0.36
        indent = 10 * min(row.depth, 6)
        name = report.shard.removeprefix("shardId-").lstrip("0") or "0"
        label = f"shard {name}" if name.isdecimal() else _short(report.shard, 22)
        arrow = "↳ " if row.parents else ""
        tip = f"{report.shard}: {report.state}" + (f"; child of {', '.join(row.parents)}" if row.parents else "")
        yield f"<g>{_tip(tip)}{_text(24 + indent, middle, '', arrow + label, size=self._font)}</g>"
        yield f'<path class="grid" d="M{LEFT} {y + self._step:g}H{RIGHT}"/>'
        for kind in ORDER:
            for stretch, count in self._merged(one for one in report.timeline if one.kind == kind):
                yield self._stretch(stretch, count, top)
        low = top + self._bar
        for time in self._apart(row.sessions):
            yield f"<g>{_tip(f'a session began {moment(time)}')}{_triangle(self._axis.x(time), low + 5, 4.5)}</g>"
        note = f"{report.records:,}" + (", ended" if report.ended else "")
        yield _text(RIGHT + 8, middle, "note", note, size=self._font - 1)
        if report.state in AMISS:
            yield _text(WIDTH - 12, middle, "bad", report.state, size=self._font - 2, anchor="end")

    def _merged(self, stretches: Iterable[Stretch]) -> Iterator[tuple[Stretch, int]]:
        """Yield stretches of one kind; those that nobody could tell apart as one, with their number."""
        last: Stretch | None = None
        count = 0
        for one in sorted(stretches, key=lambda one: max(one.begin_ms, one.end_ms if one.begin_ms < 0 else 0)):
            if last is not None and self._ends(one)[0] - self._ends(last)[1] < NEAR:
                begins = [time for time in (last.begin_ms, one.begin_ms) if time >= 0]
                last = Stretch(
                    last.kind, min(begins, default=-1), max(last.end_ms, one.end_ms), last.records + one.records
                )
                count += 1
                continue
            if last is not None:
                yield last, count
            last, count = one, 1
        if last is not None:
            yield last, count

    def _ends(self, one: Stretch) -> tuple[float, float]:
        """Return from where to where a stretch is drawn; one without a beginning ends where it ends, and so on."""
        least = MIN_WIDTH[one.kind]
        if one.begin_ms < 0 and one.end_ms < 0:
            return LEFT, LEFT + least
        begin = self._axis.x(one.begin_ms if one.begin_ms >= 0 else one.end_ms)
        end = self._axis.x(one.end_ms if one.end_ms >= 0 else one.begin_ms)
        if end - begin >= least:
            return begin, end
        if one.begin_ms < 0:
            return end - least, end
        if one.end_ms < 0:
            return begin, begin + least
        middle = (begin + end) / 2
        return middle - least / 2, middle + least / 2

    def _stretch(self, one: Stretch, count: int, top: float) -> str:
        left, right = self._ends(one)
        more = 3 if one.kind in AMISS else 0
        begin, end = (moment(time) if time >= 0 else "?" for time in (one.begin_ms, one.end_ms))
        about = MEANINGS[one.kind] if count == 1 else f"{count:,} times: {MEANINGS[one.kind]}"
        records = f", {_counted(one.records, 'record')}" if one.records else ""
        return (
            f'<rect class="{_CLASS.get(one.kind, one.kind)}" x="{left:.1f}" y="{top - more:.1f}" '
            f'width="{right - left:.1f}" height="{self._bar + 2 * more}">{_tip(f"{about}{records}, {begin} to {end}")}'
            "</rect>"
        )

    def _apart(self, times: Sequence[int]) -> Iterator[int]:
        """Yield times that are at least some pixels apart."""
        last = float("-inf")
        for time in times:
            if self._axis.x(time) - last >= 4:
                last = self._axis.x(time)
                yield time


def _text(x: float, y: float, kind: str, text: str, *, size: float | None = None, anchor: str = "") -> str:
    more = (f' class="{kind}"' if kind else "") + (f' font-size="{size:g}px"' if size is not None else "")
    more += f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{more}>{_plain(text)}</text>'


def _triangle(x: float, y: float, size: float) -> str:
    return f'<path class="tick" d="M{x:.1f} {y - size:.1f}l{size * 0.7:.1f} {size:.1f}h{-size * 1.4:.1f}z"/>'


def _tip(text: str) -> str:
    return f"<title>{_plain(text)}</title>"


def _plain(text: str) -> str:
    """Return a text as XML may hold it."""
    return escape(_NO_XML.sub("\ufffd", text))


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _counted(count: int, thing: str) -> str:
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"
