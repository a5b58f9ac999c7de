"""The short form of scripts/fuzz, without guidance by coverage: every target on some hundred inputs.

`scripts/fuzz --inputs 5000000` is the long one.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from simulation.mutants import Mutant, mutated

from fuzz.child import unguided
from fuzz.mutants import MUTANTS
from fuzz.runner import Outcome, fuzz, replay, told
from fuzz.source import Source
from fuzz.targets import SHARES, load
from fuzz.verdict import Broken, Tally, kind_of
from kcl_receiver.errors import FrameError, StoreRefused

EXAMPLES = {"frames": 1500, "link": 1500, "daemon": 1000, "status": 500, "generator": 150, "files": 150}
LEAST_KINDS = {"frames": 40, "link": 25, "daemon": 15, "status": 10, "generator": 30, "files": 15}
"""Kinds of named errors that inputs must have met: a target that meets fewer does not look where it should."""

inputs = st.one_of(
    st.binary(max_size=200),
    st.integers(0, 2**32).map(lambda number: random.Random(number).randbytes(250)),  # hypothesis likes short ones
)


@pytest.mark.parametrize("name", sorted(SHARES))
def test_hostile_bytes_break_nothing(name: str) -> None:
    target, place = load(name)
    tally = Tally()

    @settings(
        max_examples=EXAMPLES[name],
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(inputs)
    def run(data: bytes) -> None:
        target.run(data, tally)

    with place.installed():
        for data in target.seeds():
            target.run(data, tally)
        run()
    assert len(tally.errors) >= LEAST_KINDS[name]


@pytest.mark.parametrize(
    "bug",
    [
        "a message that cannot be decoded raises what msgspec raises",
        "a batch's ends are not its columns'",
        "columns are not checked when they come, but when they are stored",
        "payloads are taken from whoever connects",
        "a peer that does not take its answers is read from",
        "an error of the framing is no reason to leave",
        "a line that is none is taken for a lost lease",
        "an entry may be of any form",
        "rows are believed without their checksum",
        "an answer that is not JSON raises what json raises",
    ],
)
def test_a_deliberate_bug_is_found(bug: str) -> None:
    name, mutant = next(one for one in MUTANTS if one[1].name == bug)
    assert _first_failure(name, mutant) is not None, "scripts/fuzz --mutants shows them all"


def _first_failure(name: str, mutant: Mutant) -> Exception | None:
    target, place = load(name)
    tally = Tally()
    with place.installed(), mutated(mutant):
        for data in unguided(list(target.seeds()), 1, 1500):
            try:
                target.run(data, tally)
            except Exception as error:  # noqa: BLE001 - whatever leaves a target is what it found
                return error
    return None


def test_the_same_bytes_are_the_same_course() -> None:
    data = random.Random(5).randbytes(400)
    for name in SHARES:
        target, place = load(name)
        tallies = [Tally(), Tally()]
        with place.installed():
            for tally in tallies:
                target.run(data, tally)
        assert tallies[0].errors == tallies[1].errors
        assert tallies[0].reached == tallies[1].reached


def test_bytes_that_have_run_out_read_as_zero() -> None:
    source = Source(b"\x05")
    assert (source.byte(), bool(source), source.byte(), source.below(70_000), source.one_in(3)) == (
        5,
        False,
        0,
        0,
        False,
    )


def test_errors_are_counted_by_what_they_say_without_what_is_of_one_input_alone() -> None:
    first = kind_of("FrameError", "batch 5: 'x' can't be decoded, 12:3 of {'a': 1}")
    assert first == kind_of("FrameError", "batch 77: 'yy' can't be decoded, 9 of {}")
    assert first != kind_of("FrameError", "batch 5 is something else")


def test_an_error_of_another_kind_or_without_words_breaks_the_input() -> None:
    tally = Tally()
    with pytest.raises(Broken, match="not an error for this place"):
        tally.named(StoreRefused("what"), FrameError)
    with pytest.raises(Broken, match="says nothing"):
        tally.named(FrameError(" "), FrameError)
    tally.named(FrameError("what was wrong"), FrameError)
    assert tally.errors == {"FrameError: what was wrong": 1}


def test_an_input_that_breaks_something_is_saved_and_replayed(tmp_path: Path) -> None:
    outcome = fuzz("status", 200, 1, tmp_path / "work", plain=True, mutant=MUTANTS[-1][1].name)
    assert any(name in outcome.failure for name in ("RecursionError", "ValidationError", "DecodeError"))
    assert outcome.saved is not None
    assert f"scripts/fuzz --target status --replay {outcome.saved}" in told(outcome)
    assert replay("status", outcome.saved) == 0, "without the bug nothing breaks"


def test_a_fuzzer_that_nothing_guides_is_told_from_one_that_found_nothing(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    log = "#7\tINITED cov: {} ft: {} corp: 5/10b\n#30000\tDONE   cov: {} ft: {} corp: {}/99b\n"
    counts = {"inputs": 30_000, "failure": ""}

    def outcome(*numbers: int) -> Outcome:
        return Outcome("frames", work, 1.0, 0, counts, log.format(*numbers), guided=True)

    assert outcome(80, 300, 95, 440, 57).failure == ""
    assert "coverage 80 -> 95 edges, 300 -> 440 features; corpus 5 -> 57 inputs" in told(outcome(80, 300, 95, 440, 57))
    assert "nothing guides" in outcome(2, 2, 2, 2, 5).failure
    assert "nothing guides" in outcome(80, 300, 80, 300, 5).failure
