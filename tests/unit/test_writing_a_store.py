"""The place on SQLite that docs/writing-a-store.md shows passes the contract, and a store on it works."""

from __future__ import annotations

import importlib.util
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from store_support import WRITER, begin, block_range, put, session_at

from kcl_receiver.audit.verify import verify_store
from kcl_receiver.store.objects import Objects
from kcl_receiver.store.store import Store
from kcl_receiver.testing import ObjectsContract

PAGE = Path(__file__).parents[2] / "docs" / "writing-a-store.md"
PLACE, TESTS, USE = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Any:  # noqa: ANN401
    """The page's place and its tests as a module."""
    path = tmp_path_factory.mktemp("page") / "sqlite_page.py"
    path.write_text(f"from __future__ import annotations\n{PLACE}\n{TESTS}", encoding="utf-8")
    spec = importlib.util.spec_from_file_location("sqlite_page", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestSqlite(ObjectsContract):
    @pytest.fixture
    def objects(self, page: Any) -> Iterator[Objects]:  # type: ignore[override]  # noqa: ANN401
        # The contract makes thousands of objects, and a disk takes ten times as long for their fsyncs as all the rest.
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        with tempfile.TemporaryDirectory(dir=memory) as folder:
            place: Objects = page.SqliteObjects(Path(folder) / "objects.db")
            yield place

    def reopened(self, objects: Any) -> Objects:  # noqa: ANN401
        other: Objects = type(objects)(objects.path)
        return other


def test_the_tests_of_the_page_are_the_contract(page: Any) -> None:  # noqa: ANN401
    assert issubclass(page.TestSqlite, ObjectsContract)


def test_a_store_on_it_is_verified(page: Any, tmp_path: Path) -> None:  # noqa: ANN401
    store = Store(page.SqliteObjects(tmp_path / "objects.db"))
    store.claim("landing")
    store.hold()
    ledger = begin(store, WRITER)
    ledger.append([session_at(), put(store, 1, block_range(1, 2, 3))])
    assert verify_store(store).proven
    assert all(len(store.read_block(block)) == size for block, size in store.list_blocks())
