"""Which kind of fault strikes in which round and theatre, decided by the seed alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, pairwise
from random import Random

from faults.kinds import ALONE, TOGETHER

LEAST = 5
"""How often every kind occurs, if there are rounds enough."""
ROUNDS_OF_A_THEATRE = 20
"""More would make every look at all blocks slow."""
RESHARDS = ("split", "merge")


@dataclass(frozen=True)
class Round:
    """One fault. `number` counts from 1 through the whole campaign."""

    number: int
    kind: str


@dataclass(frozen=True)
class Scene:
    """The rounds of one theatre."""

    hosts: int
    rounds: tuple[Round, ...]


def make_plan(seed: int, rounds: int, kinds: Sequence[str]) -> list[Scene]:
    """Return what is to be played.

    Every kind comes as often as every other, give or take one. Kinds that need two hosts are played by two; so is a
    quarter of the others.
    """
    rng = Random(f"plan {seed}")
    chosen: list[str] = []
    while len(chosen) < rounds:
        chosen += rng.sample(list(kinds), min(len(kinds), rounds - len(chosen)))
    together = [kind for kind in chosen if kind in TOGETHER]
    alone = [kind for kind in chosen if kind in ALONE]
    rng.shuffle(alone)
    if together:
        shared = len(alone) // 4 if len(alone) > len(ALONE) else 0
        together += alone[:shared]
        alone = alone[shared:]
        rng.shuffle(together)
    turns = _alternate([*alone, *together])
    alone, together = turns[: len(alone)], turns[len(alone) :]
    scenes: list[Scene] = []
    number = 0
    for hosts, all_kinds in ((1, alone), (2, together)):
        for part in _parts(all_kinds):
            played = []
            for kind in part:
                number += 1
                played.append(Round(number, kind))
            scenes.append(Scene(hosts, tuple(played)))
    return scenes


def _parts(kinds: Sequence[str]) -> list[list[str]]:
    """Cut into parts of about the same length."""
    many = -(-len(kinds) // ROUNDS_OF_A_THEATRE)
    cuts = [len(kinds) * at // many for at in range(many + 1)] if many else [0]
    return [list(kinds[low:high]) for low, high in pairwise(cuts)]


def _alternate(kinds: Sequence[str]) -> list[str]:
    """Let splits and merges take turns if there are both, so that the number of shards stays what it is."""
    if not all(one in kinds for one in RESHARDS):
        return list(kinds)
    turns = cycle(RESHARDS)
    return [next(turns) if kind in RESHARDS else kind for kind in kinds]
