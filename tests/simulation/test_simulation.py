"""The short form of the simulation, and what it needs to be worth something: it can be repeated."""

from __future__ import annotations

import pytest

from simulation.fleet import Fleet, Result, installed
from simulation.mutants import MUTANTS, catch, mutated
from simulation.runner import run_seed

SEEDS = range(1, 61)


def _traced(seed: int) -> tuple[list[str], Result]:
    lines: list[str] = []
    with installed():
        result = Fleet(seed, lines.append).run()
    return lines, result


@pytest.mark.parametrize("first", SEEDS[::10])
def test_a_fleet_under_faults_keeps_every_promise(first: int) -> None:
    for seed in range(first, first + 10):
        result = run_seed(seed)
        assert result.broken is None, f"scripts/simulate --seed {seed} --trace: {result.broken}"


def test_the_same_seed_is_the_same_run_to_the_last_step() -> None:
    first, result = _traced(7)
    second, again = _traced(7)
    assert first == second
    assert result.steps == again.steps
    assert len(first) > 100


@pytest.mark.parametrize(
    "bug",
    [
        "Spark: shard end checkpoints what was delivered, not what is stored",
        "reported before the ledger entry is durable",
        "no fsync of the ledger",
        "the sub-sequence number of a checkpoint is dropped",
    ],
)
def test_a_deliberate_bug_breaks_an_invariant(bug: str) -> None:
    assert catch(bug, seeds=20).seed, "scripts/mutants shows them all"


def test_every_deliberate_bug_still_changes_the_code_of_today() -> None:
    for mutant in MUTANTS:
        with mutated(mutant):
            pass
