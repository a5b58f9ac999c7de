"""What `import kcl_receiver` offers: these names, whatever else is imported, and at no cost until one is used."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from store_support import local_store, root_of
from test_architecture import MODULES, PACKAGE, ROOT, imports
from test_architecture import imported_names as names_imported_by
from test_read import OTHER_SHARD, Lake, run_of

import kcl_receiver
from kcl_receiver import errors

FUNCTIONS = {"follow", "open_store", "read", "records", "verify"}
ERRORS = {
    *("BlockDamaged", "BlockMissing", "ConfigError", "HoleFound", "LedgerDamaged", "RangeDiffers", "RangeTrimmed"),
    *("ReceiverError", "StoreError", "StoreRefused", "StoreUnavailable", "StreamError", "StreamGone"),
    *("StreamReplaced", "StreamUnavailable", "TokenRefused"),
}
OTHERS = {
    *("Batch", "Store", "BlockStored", "Bound", "Change", "Changes", "Fallback", "HoleInShard", "KinesisFallback"),
    *("Position", "Range", "Reading", "Record", "Report", "ShardReport", "Stats", "StreamIdentity", "__version__"),
}

USE = """
import random, sys
from importlib import import_module

seed, place, *modules = sys.argv[1:]
random.Random(seed).shuffle(modules)
for module in modules:
    import_module(module)

import kcl_receiver
from kcl_receiver import *

assert isinstance(open_store(place), Store)
assert sum(one.batch.num_rows for one in read(place) if isinstance(one, Batch)) == 18
assert all(isinstance(one, Record) and isinstance(one.position, Position) for one in records(place))
assert isinstance(read(place), Reading) and isinstance(read(place).stats, Stats)
assert isinstance(verify(place), Report) and isinstance(verify(place).shards[0], ShardReport)
assert isinstance(follow(place), Changes) and all(isinstance(one, Change) for one in follow(place))
assert isinstance(StreamIdentity("arn", 1), StreamIdentity) and callable(KinesisFallback)
for name in kcl_receiver.__all__:
    assert getattr(kcl_receiver, name) is globals()[name], name
    assert type(getattr(kcl_receiver, name)) is not type(sys), f"{name} is a module"
try:
    read(place, shards="shardId-000000000009")
except ConfigError as error:
    assert isinstance(error, ReceiverError)
else:
    raise AssertionError("nothing was refused")
"""


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    made = Lake(local_store(tmp_path / "store"))
    made.block(run_of(1, 9), run_of(1, 9, shard=OTHER_SHARD))
    return made


def loaded_by(code: str) -> set[str]:
    """Return the modules that a piece of code imports in a process of its own."""
    script = f"import sys; before = set(sys.modules); {code}; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_these_names_are_public() -> None:
    assert set(kcl_receiver.__all__) == FUNCTIONS | ERRORS | OTHERS
    assert set(kcl_receiver.__all__) <= set(dir(kcl_receiver))


@pytest.mark.parametrize("seed", ["1", "2"])
def test_every_export_works_after_all_modules_were_imported_in_any_order(lake: Lake, seed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", USE, seed, str(root_of(lake.store)), *sorted(MODULES)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_no_module_has_the_name_of_an_export() -> None:
    assert not {name for name in kcl_receiver.__all__ if f"{PACKAGE}.{name}" in MODULES}


def test_what_is_not_public_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="'kcl_receiver' has no attribute 'reads'"):
        kcl_receiver.reads  # noqa: B018
    with pytest.raises(ImportError):
        exec("from kcl_receiver import LocalStore")


def test_the_import_loads_nothing_until_a_name_is_used() -> None:
    assert loaded_by("import kcl_receiver") == {"kcl_receiver"}
    light = loaded_by("from kcl_receiver import ReceiverError, Position, open_store, Store")
    assert not {"pyarrow", "boto3", "click"} & light
    assert not {"boto3", "click"} & loaded_by("from kcl_receiver import read, records, verify")


def test_type_checkers_see_the_exports_where_they_are() -> None:
    tree = ast.parse(MODULES[PACKAGE].read_text(encoding="utf-8"))
    (block,) = (one for one in tree.body if isinstance(one, ast.If))
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert {*seen, "__version__"} == set(kcl_receiver.__all__)
    for name, module in seen.items():
        assert getattr(kcl_receiver, name) is getattr(import_module(str(module)), name)
        made_in = getattr(getattr(kcl_receiver, name), "__module__", module)
        assert made_in in (module, "types", "typing"), f"{name} is imported from {module} and made in {made_in}"


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_every_argument_has_its_name_and_type(name: str) -> None:
    function = getattr(kcl_receiver, name)
    for one in inspect.signature(function).parameters.values():
        assert one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY), one
        assert "Any" not in one.annotation, one


def test_records_takes_what_read_takes_but_columns() -> None:
    taken = dict(inspect.signature(kcl_receiver.read).parameters)
    del taken["columns"], taken["by_shard"]
    assert list(inspect.signature(kcl_receiver.records).parameters.values()) == list(taken.values())


@pytest.mark.parametrize("name", [*sorted(FUNCTIONS), "Fallback"])
def test_every_type_of_an_export_is_public(name: str) -> None:
    function = getattr(kcl_receiver, name)
    hints = get_type_hints(function.ranges if name == "Fallback" else function)
    ours = {one for hint in hints.values() for one in types_in(hint) if one.__module__.startswith(PACKAGE)}
    assert {one.__name__ for one in ours} <= set(kcl_receiver.__all__)


def types_in(hint: Any) -> Iterator[type]:  # noqa: ANN401
    if isinstance(hint, list | tuple):  # the arguments of a callable
        for one in hint:
            yield from types_in(one)
    elif parts := get_args(hint):
        yield from types_in(parts)
    elif isinstance(hint, type):
        yield hint


@pytest.mark.parametrize("name", [*sorted(FUNCTIONS), "Store", "KinesisFallback"])
def test_every_error_that_an_export_names_is_public(name: str) -> None:
    export = getattr(kcl_receiver, name)
    texts = [export.__doc__, *(one.__doc__ for one in vars(export).values() if inspect.isfunction(one))]
    named = {found for text in texts for found in re.findall(r"^ +(\w+): ", text or "", re.MULTILINE)}
    raised = {one for one in named if hasattr(errors, one)}
    assert raised
    assert raised <= set(kcl_receiver.__all__)


def test_the_package_itself_imports_from_its_modules() -> None:
    """What is imported through the package is unseen by the tests of who may import what."""
    exports = {f"{PACKAGE}.{name}" for name in kcl_receiver.__all__} - {f"{PACKAGE}.__version__"}
    for module, path in MODULES.items():
        assert not exports & set(names_imported_by(ast.parse(path.read_text(encoding="utf-8")))), module
    assert imports(PACKAGE) == (frozenset(), frozenset())


def test_what_a_page_imports_is_there() -> None:
    found = 0
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        for module, names in re.findall(r"^\s*from (kcl_receiver[\w.]*) import (.+)$", text, re.MULTILINE):
            for name in names.split(","):
                assert hasattr(import_module(module), name.strip()), f"{page.name}: {module} has no {name}"
                found += module == PACKAGE
    assert found


def test_verify_takes_what_read_takes(lake: Lake) -> None:
    for place in (lake.store, lake.store.url, root_of(lake.store), str(root_of(lake.store))):
        assert kcl_receiver.verify(place).blocks == 1
    lake.kept(1).remove()
    assert kcl_receiver.verify(lake.store).missing == [lake.blocks[0].block]
    assert kcl_receiver.verify(lake.store, ledger_only=True).missing == []
    with pytest.raises(kcl_receiver.StoreRefused):
        kcl_receiver.verify(root_of(lake.store) / "mistyped")


def test_verify_looks_into_all_blocks_or_at_none(lake: Lake) -> None:
    assert kcl_receiver.verify(lake.store, deep=True).deep
    with pytest.raises(kcl_receiver.ConfigError, match="`deep` looks into all blocks"):
        kcl_receiver.verify(lake.store, deep=True, ledger_only=True)
