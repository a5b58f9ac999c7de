"""What `run` says of the live state, and when: a state machine without I/O.

It says when shards begin to be read, when the first record is stored, what KCL is doing until then, and what is wrong:
at once, again every `REPEAT_SECONDS` for as long as it lasts, and when it is over. What is wrong is decided by `live`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from kcl_receiver.status.live import ALIVE, NOTED_SECONDS, UNREAD, Condition, Live, Problem, counted, for_people

REPEAT_SECONDS = 600.0
"""A problem that lasts is told again this often: often enough to be seen, and not so often that it fills a log."""

AGAIN_SECONDS = 60.0
"""Other shards of the same problem are told no sooner than this: they come and go."""

HANDOVER_SECONDS = 120.0
"""While another host stops, its shards have no owner: not for so long that it would be worth a word."""

SHOWN = 8
"""Shards that a line names."""

_MOVED = frozenset({Condition.ELSEWHERE, Condition.LEFT, Condition.ENDED, Condition.UNOWNED})


@dataclass
class _Told:
    """A kind of problem that is there now; `told` is None until it was worth a word."""

    since: float
    key: str = ""
    headline: str = ""
    told: float | None = None


@dataclass
class Silence:
    """See the module's docstring.

    Attributes:
        reading: The shards that are read, as was last told.
        stored: Whether the first record is stored.
        phase: What KCL is doing, as was last told.
        problems: What is wrong, by kind.
        well_at: When all that was to be read here was last read; None if that was never so.
    """

    reading: set[str] = field(default_factory=set)
    stored: bool = False
    phase: str = ""
    problems: dict[str, _Told] = field(default_factory=dict)
    well_at: float | None = None

    def looked(self, live: Live, now: float) -> list[str]:
        """Return what is to be said after a look."""
        return [*self._progress(live), *self._problems(live, now)]

    def _progress(self, live: Live) -> list[str]:
        said = []
        alive = {one.shard for one in live.shards if one.condition in ALIVE}
        if begun := alive - self.reading:
            said.append(f"reading {_named(begun)}")
        # A shard that is silent, or whose processor is away, is a problem and no move.
        moved = {
            one.shard: one.condition for one in live.shards if one.condition in _MOVED and one.shard in self.reading
        }
        said += [
            f"no longer reading {_named(shard for shard, what in moved.items() if what is why)}: {why.value}"
            for why in Condition
            if why in moved.values()
        ]
        self.reading = (self.reading | alive) - moved.keys()
        if live.generator is None:
            return said
        if not self.reading and live.phase != self.phase and live.generator.prepared and not live.problems:
            said.append(live.phase)
        self.phase = live.phase
        if not self.stored and live.generator.records_stored + live.generator.records_skipped > 0:
            self.stored = True
            said.append("first record stored")
        return said

    def _problems(self, live: Live, now: float) -> list[str]:
        said = []
        if not live.unread and (live.reading or live.settled):
            self.well_at = now
        present = _by_family(live.problems)
        for family in self.problems.keys() - present.keys():
            over = self.problems.pop(family)
            if over.told is not None:
                said.append(f"resolved after {for_people(now - over.since)}: {over.headline}")
        for family, problem in present.items():
            since = now - (problem.seconds or 0.0)
            if family == UNREAD and not live.lost and self.well_at is not None:
                since = max(since, self.well_at)  # the age is that of the generator, if no processor ever came
            known = self.problems.setdefault(family, _Told(since))
            if self._worth_a_word(live, family, known, problem, now):
                known.key, known.told = problem.key, now
                known.headline = problem.text.partition(": ")[0]
                said.append(problem.text + (f"\n{HINT}{problem.hint}" if problem.hint else ""))
        return said

    def _worth_a_word(self, live: Live, family: str, known: _Told, problem: Problem, now: float) -> bool:
        if known.told is None:
            if family != UNREAD:
                return now - known.since >= NOTED_SECONDS  # it may be gone in a moment
            # The age of silence was judged; that of a shard without an owner is not known to one look.
            return live.lost or self.well_at is None or now - known.since >= HANDOVER_SECONDS
        if problem.key != known.key and now - known.told >= AGAIN_SECONDS:
            return True
        return now - known.told >= REPEAT_SECONDS


HINT = "Hint: "


def _by_family(problems: Iterable[Problem]) -> dict[str, Problem]:
    """Return what is told of each kind of problem: the first of its kind, and how many more there are."""
    families: dict[str, list[Problem]] = {}
    for problem in problems:
        families.setdefault(problem.key.partition(":")[0], []).append(problem)
    return {family: _as_one(found) for family, found in families.items()}


def _as_one(found: list[Problem]) -> Problem:
    first = found[0]
    if len(found) == 1:
        return first
    text = f"{first.text} (and {counted(len(found) - 1, 'shard')} more; `kcl-receiver status` shows all)"
    return msgspec.structs.replace(first, key=" ".join(one.key for one in found), text=text)


def _named(shards: Iterable[str]) -> str:
    names = sorted(shards)
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
