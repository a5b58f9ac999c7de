"""docs/reliability.md names tests, invariants, deliberate bugs and numbers, and all of them exist.

`problems` says what is wrong with a page; the page itself has none, and the same page with any name changed has one.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")

TEST = re.compile(r"`(test_\w+\.py)::(\w+)`")
NOT_YET = "with the reader (not yet)"
NO_COUNTERPART = "no counterpart"


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


# ---------------------------------------------------------------------- what there is


@cache
def files_of_tests() -> dict[str, Path]:
    """Return every file of tests by its name, which is its own in all of tests/."""
    found: dict[str, Path] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        assert path.name not in found, f"{path} and {found[path.name]} have one name"
        found[path.name] = path
    return found


@cache
def known_tests(file: str) -> dict[str, frozenset[str]]:
    """Return the tests of a file, each with the names of its parameters.

    A state machine's test is a class, or a name that is given the TestCase of one.
    """
    found: dict[str, frozenset[str]] = {}
    for node in tree_of(files_of_tests()[file]).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            found[node.name] = frozenset(argument.arg for argument in node.args.args)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Attribute) and node.value.attr == "TestCase":
            found |= {target.id: frozenset() for target in node.targets if isinstance(target, ast.Name)}
    return found


@cache
def invariants() -> frozenset[str]:
    """Return the names of all invariants that the simulation can say are broken, as texts or by constants."""
    trees = [tree_of(path) for path in (ROOT / "tests" / "simulation").glob("*.py")]
    constants = {
        target.id: node.value.value
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found = set()
    for tree in trees:
        for node in ast.walk(tree):
            names: list[ast.expr] = []
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                names = {
                    "broken": node.args[:1],
                    "_broken": node.args[:1],
                    "Broken": node.args[:1],
                    "expect": node.args[:1],
                }.get(called, [])
                names = names or (node.args[1:2] if called == "judge" else [])
            elif isinstance(node, ast.arguments):
                with_default = node.args[len(node.args) - len(node.defaults) :]
                names = [
                    value for one, value in zip(with_default, node.defaults, strict=True) if one.arg == "invariant"
                ]
            for name in (one for each in names for one in ast.walk(each)):
                if isinstance(name, ast.Constant) and isinstance(name.value, str) and name in names:
                    found.add(name.value)
                elif isinstance(name, ast.Name) and isinstance(constants.get(name.id), str):
                    found.add(constants[name.id])
    return frozenset(found)


@cache
def mutants() -> frozenset[str]:
    """Return the names of all deliberate bugs."""
    calls = [node for node in ast.walk(tree_of(ROOT / "tests/simulation/mutants.py")) if isinstance(node, ast.Call)]
    names = [call.args[0] for call in calls if getattr(call.func, "id", "") in ("_bug", "_shared_bug")]
    return frozenset(name.value for name in names if isinstance(name, ast.Constant))


@cache
def kinds_of_fault() -> int:
    """Return the number of kinds of fault that the simulation knows."""
    for node in tree_of(ROOT / "tests/simulation/faults.py").body:
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "KINDS":
            assert isinstance(node.value, ast.Dict)
            return len(node.value.keys)
    raise AssertionError("faults.py has no KINDS")


# ---------------------------------------------------------------------- what the page says


def section(page: str, title: str) -> str:
    """Return what stands below a heading, up to the next one of its level or above; "" if there is none."""
    found = re.search(rf"^(#+) {re.escape(title)}\n", page, re.MULTILINE)
    if found is None:
        return ""
    rest = page[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def rows(text: str, head: str) -> list[list[str]]:
    """Return the cells of every table with this head."""
    found = []
    for table in re.split(rf"^{re.escape(head)}\n", text, flags=re.MULTILINE)[1:]:
        lines = table.partition("\n\n")[0].split("\n")[1:]
        found += [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("|")]
    return found


def promises(page: str) -> dict[str, str]:
    """Return the part of the page about each promise."""
    parts = re.split(r"^### (.+)\n", section(page, "The promises and their tests"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def problems(page: str) -> Iterator[str]:
    """Say everything on a page that is not so."""
    for file, name in TEST.findall(page):
        if file not in files_of_tests():
            yield f"there is no {file}"
        elif name not in known_tests(file):
            yield f"{file} has no test {name}"
    yield from wrong_invariants(page)
    yield from wrong_promises(page)
    yield from wrong_cases(page)
    yield from wrong_numbers(page)


def wrong_invariants(page: str) -> Iterator[str]:
    table = rows(section(page, "What must hold"), "| invariant | what it says | when it is checked |")
    named = [cells[0].strip("*") for cells in table]
    if len(named) != len(set(named)):
        yield "an invariant stands twice in the table"
    yield from (f"the simulation raises no {name!r}" for name in named if name not in invariants())
    yield from (f"{name!r} is not in the table of invariants" for name in invariants() - set(named))


def wrong_promises(page: str) -> Iterator[str]:
    table = re.findall(r"^\| ([A-Z][\w ]+) \| .* \| .* \|$", README.partition("| promise |")[2], re.MULTILINE)
    said = table[: table.index("Bounded") + 1]
    yield from (f"the README promises {name!r}" for name in said if name not in promises(page))
    for promise, text in promises(page).items():
        named = rows(text, "| where | what |")
        if not named and "is not there yet" not in " ".join(text.split()):
            yield f"{promise} names no tests"
        for where, what in named:
            yield from (f"{promise}: {problem}" for problem in wrong_row(where, what))


def wrong_row(where: str, what: str) -> Iterator[str]:
    if where == "invariant":
        names = re.findall(r"\*([^*]+)\*", what)
        yield from (f"no invariant {name!r}" for name in names if name not in invariants())
    elif where == "mutant":
        if what.strip("“”") not in mutants():
            yield f"no mutant {what}"
    else:
        test = TEST.fullmatch(what)
        if test is None:
            yield f"{what} names no test"
        elif test[1] in files_of_tests() and files_of_tests()[test[1]].parent.name != where:
            yield f"{what} is not in tests/{where}"


def wrong_cases(page: str) -> Iterator[str]:
    cases = rows(section(page, "Spark's own cases"), "| test there | what it means here | tests here | records |")
    if len(cases) < 50:
        yield "cases of Spark's are missing"
    for theirs, meaning, ours, records in cases:
        tests = TEST.findall(ours)
        if not tests and not meaning.startswith((NOT_YET, NO_COUNTERPART)):
            yield f"{theirs}: no test, and no reason"
        if tests and meaning == NOT_YET:
            yield f"{theirs}: not yet, and a test"
        if records not in ("both", "alike", "none"):
            yield f"{theirs}: {records!r} says nothing of records"
        if records == "both" and not (tests and "form" in known_tests(tests[0][0]).get(tests[0][1], ())):
            yield f"{theirs}: its first test does not run with plain and with aggregated records"


def wrong_numbers(page: str) -> Iterator[str]:
    counts = {"kinds of fault": kinds_of_fault(), "deliberate bugs": len(mutants()), "invariants": len(invariants())}
    for what, count in counts.items():
        for number in re.findall(rf"\b(\d+) {what}\b", page):
            if int(number) != count:
                yield f"the page says {number} {what}, and there are {count}"


# ---------------------------------------------------------------------- the tests


def test_all_that_the_page_names_exists() -> None:
    assert list(problems(PAGE)) == []


def changed(name: str) -> str:
    return name[:-1] + ("x" if name[-1] != "x" else "y")


def each_changed(names: list[str], around: str) -> Iterator[tuple[str, str]]:
    """Yield each name, and the page with its first occurrence changed."""
    for name in dict.fromkeys(names):
        quoted = around.format(name)
        assert quoted in PAGE, quoted
        yield name, PAGE.replace(quoted, around.format(changed(name)), 1)


WRONG: dict[str, Callable[[], Iterator[tuple[str, str]]]] = {
    "a test": lambda: each_changed([name for _, name in TEST.findall(PAGE)], "::{}`"),
    "a file": lambda: each_changed([file.removesuffix(".py") for file, _ in TEST.findall(PAGE)], "`{}.py::"),
    "an invariant of the table": lambda: each_changed(sorted(invariants()), "\n| *{}* |"),
    "an invariant of a promise": lambda: each_changed(
        re.findall(r"^\| invariant \| \*([^*]+)\*", PAGE, re.M), "| *{}*"
    ),
    "a mutant": lambda: each_changed(re.findall(r"^\| mutant \| “(.+)” \|$", PAGE, re.M), "| mutant | “{}” |"),
    "a promise": lambda: each_changed(["No loss", "Stored once", "One stream", "Bounded"], "### {}\n"),
    "a room": lambda: each_changed(["unit", "integration", "acceptance"], "| {} | `test_"),
    "a room that there is": lambda: iter([("acceptance", PAGE.replace("| acceptance | `test_", "| unit | `test_", 1))]),
}


@pytest.mark.parametrize("what", sorted(WRONG))
def test_a_wrong_name_anywhere_on_the_page_is_found(what: str) -> None:
    tried = 0
    for name, page in WRONG[what]():
        assert page != PAGE
        assert list(problems(page)), f"{name} was changed, and nobody noticed"
        tried += 1
    assert tried


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("\n| *no loss* |", "\n| *no loss at all* |", "no loss at all"),
        (
            "| none | none |\n",
            "| `test_split.py::test_what_fits_is_one_batch_and_is_not_copied` | both |\n",
            "aggregated",
        ),
        ("| both |\n", "| many |\n", "'many' says nothing of records"),
        ("# Reliability\n", "# Reliability\n\n3 invariants and 2 deliberate bugs\n", "3 invariants"),
        ("# Reliability\n", "# Reliability\n\n3 invariants and 2 deliberate bugs\n", "2 deliberate bugs"),
        ("# Reliability\n", "# Reliability\n\n1 kinds of fault\n", "1 kinds of fault"),
    ],
)
def test_a_wrong_entry_or_number_is_found(old: str, new: str, said: str) -> None:
    assert old in PAGE
    assert any(said in problem for problem in problems(PAGE.replace(old, new, 1)))


def test_a_row_that_is_left_out_is_found() -> None:
    lines = PAGE.split("\n")
    for number, line in enumerate(lines):
        if line.startswith("| *"):
            assert list(problems("\n".join([*lines[:number], *lines[number + 1 :]]))), line


def test_what_there_is_is_found() -> None:
    assert "test_any_order_of_events" in known_tests("test_processor_core_model.py")
    assert "TestGenerator" in known_tests("test_generator_core_model.py")
    assert "form" in known_tests("test_spark_processor.py")["test_one_place_is_not_checkpointed_twice"]
    assert {"no loss", "waits end"} <= invariants()
    assert len(mutants()) > 20
    assert kinds_of_fault() > 20
