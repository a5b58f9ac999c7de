"""The simulation drives the product through its constructors and public methods: it reaches into no object of it.

What is private may change without the simulation; and what the simulation runs is what runs in production.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "tests" / "simulation").glob("*.py"))
ALLOWED = {"_replace"}  # of any NamedTuple, by its documentation


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def reached(tree: ast.AST) -> Iterator[str]:
    """Yield each private name that is used, or replaced, of anything but the object itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and not is_own(node.value):
            yield f"{ast.unparse(node.value)}.{node.attr}"
        elif isinstance(node, ast.Tuple) and len(node.elts) == 3 and isinstance(node.elts[1], ast.Constant):
            owner, name = node.elts[0], node.elts[1].value  # what `installed` puts in for the time of a run
            if isinstance(owner, ast.Name) and isinstance(name, str) and is_private(name):
                yield f"{owner.id}.{name}"


def is_own(value: ast.expr) -> bool:
    return (isinstance(value, ast.Name) and value.id in ("self", "cls")) or ast.unparse(value) == "super()"


def used_of_itself(node: ast.ClassDef) -> set[str]:
    """Return the private names that a class defines, or uses of itself."""
    names = {one.name for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
    names |= {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute) and is_own(one.value)}
    return {name for name in names if is_private(name)}


def imported(tree: ast.Module) -> dict[str, Path]:
    """Return in which file of the product each name was defined that a module imports from it."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kcl_receiver"):
            path = ROOT.joinpath(*(node.module or "").split(".")).with_suffix(".py")
            found.update({alias.asname or alias.name: path for alias in node.names if path.exists()})
    return found


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def private_names(path: Path, name: str) -> set[str]:
    """Return the private names of a class of the product, with those of its bases."""
    tree = parsed(path)
    node = next((one for one in tree.body if isinstance(one, ast.ClassDef) and one.name == name), None)
    if node is None:
        return set()
    bases = [one.id for one in node.bases if isinstance(one, ast.Name)]
    inherited = (private_names(imported(tree).get(base, path), base) for base in bases if base != name)
    return used_of_itself(node).union(*inherited)


def overridden(tree: ast.Module) -> Iterator[str]:
    """Yield each private name of a product's class that a class made from it defines or uses as its own."""
    products = imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for base in (one.id for one in node.bases if isinstance(one, ast.Name) and one.id in products):
                both = used_of_itself(node) & private_names(products[base], base)
                yield from (f"{node.name}.{name}, of {base}" for name in sorted(both))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_simulation_uses_nothing_private_of_the_product(path: Path) -> None:
    tree = parsed(path)
    found = [*reached(tree), *overridden(tree)]
    assert [one for one in found if one.rpartition(".")[2] not in ALLOWED] == []


def test_what_is_allowed_is_needed() -> None:
    found = {one.rpartition(".")[2] for path in FILES for one in reached(parsed(path))}
    assert found == ALLOWED


def test_what_reaches_in_is_found() -> None:
    # The test of the test.
    tree = ast.parse(
        "from kcl_receiver.generator.server import GeneratorServer\n"
        "from kcl_receiver.store.local import Directory\n"
        "class Server(GeneratorServer):\n"
        "    def __init__(self, core):\n"
        "        self._core = core\n"
        "        self._mine = 1\n"
        "    def _apply(self, effects):\n"
        "        super()._apply(effects)\n"
        "class Store(Directory):\n"
        "    def put_block(self): ...\n"
        "def reach(process, workers):\n"
        "    process.server._prepared.set()\n"
        "    return [(workers, '_lock', None)]\n"
    )
    assert set(reached(tree)) == {"process.server._prepared", "workers._lock"}
    assert set(overridden(tree)) == {"Server._apply, of GeneratorServer", "Server._core, of GeneratorServer"}
