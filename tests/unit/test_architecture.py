"""Who may import what, read out of the source by `ast`: the walls between the rooms of this package."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "kcl_receiver"

DRIVERS = {
    "audit": {"blocks", "leases", "recorded", "stream_auditor", "verify"},
    "generator": {
        *("client", "connection", "generator_io", "listening", "lock", "lookback", "main", "presence", "runtime"),
        *("server", "stream"),
    },
    "kinesis": {"call_threads", "range_fetcher", "shard_client"},
    "processor": {"driver", "link", "main", "runtime", "spawn"},
    "proof": set[str](),
    "wire": set[str](),
}
"""What may do I/O in the rooms of the state machines. Whatever else is there, or comes, is held to be pure."""

HARMLESS = {
    *("__future__", "abc", "array", "bisect", "collections", "dataclasses", "enum", "functools", "hashlib", "heapq"),
    *(
        "itertools",
        "json",
        "msgspec",
        "operator",
        "pybase64",
        "random",
        "re",
        "signal",
        "struct",
        "sys",
        "types",
        "typing",
    ),
    *("unicodedata", "xxhash"),
}
"""What a state machine may import beside its like: nothing that waits, tells the time, or leaves the process."""

KNOW_IDS = frozenset(
    f"{PACKAGE}.{one}"
    for one in (
        *("audit.report", "audit.shard", "audit.timeline", "proof.chain", "proof.links"),
        *("generator.carried", "generator.known", "generator.rollover"),
    )
)
"""They know the ids of blocks and ledgers, which hold a time and a random part: `ids` makes new ones."""
FOR_NAMES = frozenset({"datetime", "secrets"})

ROOMS = {
    "click": ("cli", "emulator.demo", "views.terminal"),  # the demo draws its live view by it
    "pyarrow": (
        "store",
        "reading.batcher",
        "reading.blocks",
        "reading.formats",
        "reading.query",
        "reading.rows",
        "reading.reading",
        "emulator.verdict",
    ),
    "boto3": ("aws", "emulator"),
    "botocore": ("aws", "config.aws_credentials", "emulator", "generator.stream", "kinesis.shard_client"),
    "javaproperties": ("config", "daemon.daemon_properties"),
    "amazon_kclpy": (),
    "moto": ("emulator",),
    "hypercorn": ("emulator",),
}
"""Where a library may be imported; a room stands for all in it. Elsewhere it is reached through those modules."""

TOO_HEAVY_FOR_A_PROCESSOR = frozenset(
    {"boto3", "botocore", "pyarrow", "click", "javaproperties", "amazon_kclpy", "asyncio", "logging", "pathlib"}
)
"""There is one processor per shard, and each would pay for them in start-up time and memory."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in (ROOT / PACKAGE).rglob("*.py")}


def imported_names(tree: ast.AST) -> Iterator[str]:
    """Yield the full names of all that is imported anywhere in a module, but for type checkers alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for branch in node.orelse:
                yield from imported_names(ast.Module([branch], []))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            # `from package import module` imports a module, `from module import name` a name of one.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imported_names(node)


def own_modules(name: str) -> Iterator[str]:
    """Yield the modules of this package that the import of a name runs: packages on the way are modules, too."""
    parts = name.split(".")
    yield from (one for end in range(1, len(parts) + 1) if (one := ".".join(parts[:end])) in MODULES)


@cache
def imports(module: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the modules of this package, and the names at the top of others, that a module imports."""
    names = set(imported_names(ast.parse(MODULES[module].read_text(encoding="utf-8"))))
    ours = {one for name in names for one in own_modules(name)}
    return frozenset(ours), frozenset(top for name in names if (top := name.partition(".")[0]) != PACKAGE)


def reached(module: str) -> dict[str, list[str]]:
    """Return all that is imported with a module, in the end, each with the way there."""
    ways = {one: [one] for one in own_modules(module)}
    waiting = list(ways)
    while waiting:
        here = waiting.pop()
        ours, others = imports(here)
        for name in sorted((*ours, *others)):
            if name not in ways:
                ways[name] = [*ways[here], name]
                if name in MODULES:
                    waiting.append(name)
    return ways


def state_machines() -> list[str]:
    found = [
        f"{PACKAGE}.{one}"
        for one in ("daemon.silence", "daemon.supervision", "status.live", "status.report", "stopping")
    ]
    for room, drivers in DRIVERS.items():
        inside = [name for name in MODULES if name.startswith(f"{PACKAGE}.{room}.")]
        found += [name for name in inside if name.rpartition(".")[2] not in drivers]
    return sorted(found)


@pytest.mark.parametrize("module", state_machines())
def test_a_state_machine_reaches_nothing_that_waits_or_tells_the_time(module: str) -> None:
    foreign = {name: " -> ".join(way) for name, way in reached(module).items() if name not in MODULES}
    allowed = HARMLESS | FOR_NAMES if module in KNOW_IDS else HARMLESS
    bad = [way for name, way in foreign.items() if name not in allowed]
    assert not bad, "a driver does that (DRIVERS above), or it is harmless (HARMLESS)"


def test_the_state_machines_are_those_that_they_should_be() -> None:
    named = {f"{PACKAGE}.{one}" for one in ("generator.core", "generator.tracker", "processor.core", "wire.frames")}
    assert named | KNOW_IDS <= set(state_machines())
    for room, drivers in DRIVERS.items():
        assert all(f"{PACKAGE}.{room}.{one}" in MODULES for one in drivers), "a driver that is not there any more"


@pytest.mark.parametrize("library", sorted(ROOMS))
def test_a_library_is_imported_only_in_its_rooms(library: str) -> None:
    rooms = tuple(f"{PACKAGE}.{room}" for room in ROOMS[library])
    users = {module for module in MODULES if library in imports(module)[1]}
    assert not {user for user in users if not any(user == room or user.startswith(f"{room}.") for room in rooms)}
    assert all(any(user == room or user.startswith(f"{room}.") for user in users) for room in rooms)


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name.startswith(f"{PACKAGE}.processor.")))
def test_a_processor_reaches_nothing_heavy(module: str) -> None:
    ways = reached(module)
    assert not [" -> ".join(ways[name]) for name in sorted(TOO_HEAVY_FOR_A_PROCESSOR & ways.keys())]


def test_a_processor_knows_nothing_of_generator_store_and_daemon() -> None:
    rooms = tuple(
        f"{PACKAGE}.{room}."
        for room in ("generator", "store", "daemon", "reading", "audit", "kinesis", "cli", "emulator")
    )
    ways = reached(f"{PACKAGE}.processor.main")
    assert not [" -> ".join(way) for name, way in ways.items() if name.startswith(rooms)]


def test_the_chain_of_ranges_waits_for_nothing_and_tells_no_time() -> None:
    ways = reached(f"{PACKAGE}.proof.chain")
    allowed = HARMLESS | FOR_NAMES
    assert not [" -> ".join(way) for name, way in ways.items() if name not in MODULES and name not in allowed]


def test_nothing_but_the_commands_knows_the_emulator() -> None:
    emulator = f"{PACKAGE}.emulator"
    users = {module for module in MODULES if any(one.startswith(emulator) for one in imports(module)[0])}
    assert {user for user in users if not user.startswith(emulator)} == {
        f"{PACKAGE}.cli.demo",
        f"{PACKAGE}.cli.emulator",
    }


def test_the_demos_verdict_uses_nothing_of_what_it_judges() -> None:
    judged = tuple(
        f"{PACKAGE}.{room}" for room in ("generator", "processor", "proof", "reading", "audit", "store", "wire")
    )
    assert not [name for name in reached(f"{PACKAGE}.emulator.verdict") if name.startswith(judged)]


def test_only_the_store_knows_where_the_rows_of_a_block_are() -> None:
    hidden = tuple(f"{PACKAGE}.store.{one}" for one in ("blocks.footers", "blocks.checksums", "blocks.stream"))
    for module, path in MODULES.items():
        if module.startswith(f"{PACKAGE}.store.") or module == f"{PACKAGE}.emulator.verdict":  # it judges by itself
            continue
        names = set(imported_names(ast.parse(path.read_text(encoding="utf-8"))))
        assert not [one for one in names if one.startswith((*hidden, "pyarrow.parquet", "pyarrow.dataset"))], module


def test_only_open_blocks_translate_what_decoding_raises() -> None:
    users = {module for module in MODULES if f"{PACKAGE}.store.blocks.stream" in imports(module)[0]}
    assert users == {f"{PACKAGE}.store.blocks.file", f"{PACKAGE}.store.objects"}


def test_the_way_from_an_import_to_a_module_is_seen() -> None:
    # The test of the tests: what they look for is found where it is.
    assert reached(f"{PACKAGE}.store.local")["pyarrow"][-1] == "pyarrow"
    assert {"socket", "select", f"{PACKAGE}.wire.frames"} <= reached(f"{PACKAGE}.processor.driver").keys()
    assert {"boto3", "asyncio"} <= reached(f"{PACKAGE}.generator.main").keys()


def test_no_two_test_modules_have_one_name() -> None:
    """Pytest imports them by their names alone: of two with one name, a run of all tests collects neither."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


ENTRY_TYPES = {
    *(
        "Acknowledged",
        "BlockStored",
        "Carried",
        "Closed",
        "Entry",
        "Expired",
        "Following",
        "MarksTaken",
        "SessionStarted",
    ),
    *("ShardEnded", "StoreState", "Tail", "Voided", "WriterStarted"),
}
INSIDE_THE_STORE = ("layout",)
WALKS = {
    *("ledger", "ledger_from", "log_entry", "maintenance_entries", "maintenance_entry", "maintenance_ledger"),
    *("maintenance_ledgers", "maintenance_start", "maintenance_starts"),
}
"""Methods of a store by which a ledger is walked."""


@pytest.mark.parametrize("module", sorted(name for name in MODULES if not name.startswith(f"{PACKAGE}.store")))
def test_nothing_outside_of_the_store_walks_a_ledger_or_knows_where_things_lie(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    names = set(imported_names(tree))
    assert not {name for name in names if name.startswith(tuple(f"{PACKAGE}.store.{one}" for one in INSIDE_THE_STORE))}
    entries = f"{PACKAGE}.store.ledger.entries."
    assert {name.removeprefix(entries) for name in names if name.startswith(entries)} <= ENTRY_TYPES
    called = {
        node.func.attr for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert not called & WALKS


def test_the_walks_are_methods_of_a_store() -> None:
    from kcl_receiver.store.store import Store

    assert all(callable(getattr(Store, name)) for name in WALKS)
