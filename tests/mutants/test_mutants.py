"""The list fits the code, and its runner tells a bug that is noticed from one that is not."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from mutants import Mutant
from mutants.runner import ROOT, Copy, all_mutants, changed, judge

LIST = all_mutants()


@pytest.mark.parametrize("mutant", LIST, ids=lambda one: one.bug)
def test_each_bug_can_be_put_in_and_the_tests_that_it_names_are_there(mutant: Mutant) -> None:
    assert ast.parse(changed((ROOT / mutant.file).read_text(encoding="utf-8"), mutant))
    assert mutant.tests
    for test in mutant.tests:
        file, *_, name = test.partition("[")[0].split("::")
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8")


def test_no_two_bugs_have_one_name() -> None:
    assert [name for name, times in Counter(one.bug for one in LIST).items() if times > 1] == []


def mutant(old: str, new: str, *tests: str) -> Mutant:
    return Mutant(f"{old} -> {new}", "counting.py", old, new, tests)


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    project = tmp_path / "project"
    project.mkdir()
    (project / "counting.py").write_text("def more(number):\n    return number + 1\n")
    (project / "test_counting.py").write_text(
        "import pytest, time\n"
        "from counting import more\n"
        "@pytest.mark.parametrize('number', [0, 1])\n"
        "def test_one_more(number):\n    assert more(number) == number + 1\n"
        "class TestOfKind:\n    def test_it_is_a_number(self):\n        assert isinstance(more(1), int)\n"
        "def test_left_out():\n    pytest.skip('not here')\n"
    )
    return Copy(project, tmp_path / "copy")


MORE = "test_counting.py::test_one_more"
NUMBER = "test_counting.py::TestOfKind::test_it_is_a_number"


def test_without_a_bug_they_pass(copy: Copy) -> None:
    assert copy.passing([MORE, NUMBER, f"{MORE}[1]"]) == {MORE: True, NUMBER: True, f"{MORE}[1]": True}


def test_a_bug_is_caught_by_what_it_names_or_not_and_is_taken_out_again(copy: Copy) -> None:
    caught = mutant("+ 1", "* 2", MORE)
    by_one = mutant("number + 1", "1", MORE, f"{MORE}[0]")
    missed = mutant("+ 1", "+ 2", MORE, NUMBER)
    problems = [one.problem for one in judge([caught, by_one, missed], [copy])]
    assert problems == ["", f"passes nevertheless: {MORE}[0]", f"passes nevertheless: {NUMBER}"]
    assert copy.passing([MORE]) == {MORE: True}


@pytest.mark.parametrize(
    ("bug", "said"),
    [
        (mutant("+ 3", "+ 2", MORE), "0 times: adapt the bug"),
        (mutant("number", "x", MORE), "2 times: adapt the bug"),
        (mutant("+ 1", "+ 2", "test_counting.py::test_no_more"), "pytest ended with 4"),
        (mutant("+ 1", "+ 2", "test_counting.py::test_left_out"), "skipped"),
        (mutant("def more", "def less", MORE), "pytest ended with 4"),
    ],
)
def test_what_proves_nothing_is_a_problem_of_the_list(copy: Copy, bug: Mutant, said: str) -> None:
    (verdict,) = judge([bug], [copy])
    assert said in verdict.problem


def test_tests_that_do_not_end_have_noticed_nothing(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mutants.runner.PATIENCE", 1.0)
    (verdict,) = judge([mutant("return number + 1", "import time; time.sleep(600)", MORE)], [copy])
    assert "not at an end after 1 s" in verdict.problem
