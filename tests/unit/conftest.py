"""The places on which the tests of what stands on a store run; see `places`.

`new_...` give a new place at every call, for tests that Hypothesis runs many times; the others one for each test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import places
import pytest
from places import NewPlace, Place


def _places(*kinds: Callable[[pytest.TempPathFactory], Place]) -> Any:  # noqa: ANN401 - pytest's own type is private
    """Return a fixture that gives new places of each kind."""

    @pytest.fixture(scope="module", params=kinds, ids=lambda kind: str(kind.__name__))
    def new(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> NewPlace:
        kind = request.param
        return lambda: kind(tmp_path_factory)  # type: ignore[no-any-return]

    return new


new_place = _places(places.directory, places.memory)
new_quick_place = _places(places.fake_directory, places.memory)
new_locking_place = _places(places.fake_directory, places.memory_with_locks)


@pytest.fixture
def place(new_place: NewPlace) -> Place:
    """A directory, and memory."""
    return new_place()


@pytest.fixture
def quick_place(new_quick_place: NewPlace) -> Place:
    """A directory that is not on the disk, and memory: for tests that store much."""
    return new_quick_place()


@pytest.fixture
def locking_place(new_locking_place: NewPlace) -> Place:
    """The same, where one process keeps another out."""
    return new_locking_place()
