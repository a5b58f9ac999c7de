"""Bugs put into the code one at a time, and for each the test that must fail: `scripts/mutants tests`.

The list for the simulation is `tests/simulation/mutants.py`; this one is for code that no simulation runs, and for
tests that would not have noticed once. One file per room (`of_store.py`, `of_daemon.py`, …) holds `MUTANTS`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """A bug, and the tests that notice it.

    Attributes:
        bug: What is wrong with the code then, in a few words; names the mutant.
        file: The file that is changed, from the project's root on.
        old: Text that is there exactly once.
        new: What takes its place.
        tests: The tests that fail with it, as pytest names them; each of them must. Name one case of a parametrized
            test (`…::test_x[a]`) if the others pass.
    """

    bug: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
