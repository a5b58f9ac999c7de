"""The locks of a directory, which keep a second generator and other maintenance out. Not every place has locks."""

from __future__ import annotations

import pytest
from places import Kept, Place, directory
from test_workers import Wall, ledger_bytes, position, store, workers

from kcl_receiver.errors import StoreUnavailable
from kcl_receiver.ranges import TRIM_HORIZON


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return directory(tmp_path_factory)


@pytest.fixture(autouse=True)
def day_of_the_writers(monkeypatch: pytest.MonkeyPatch) -> None:
    """On another day than its writer's, a ledger is followed by the next."""
    monkeypatch.setattr("kcl_receiver.generator.generator_io.wall_millis", lambda: Wall().millis)


def test_a_second_generator_does_not_write_to_the_same_store(place: Place) -> None:
    first = workers(place)
    with pytest.raises(StoreUnavailable, match="another generator writes to the store"):
        workers(place)
    assert first.stream is not None


def test_a_generator_whose_stores_lock_was_removed_takes_it_again_before_it_writes_on(place: Place) -> None:
    made = workers(place)
    Kept(place(), "lock").remove()
    store(made, 1, [1, 2], TRIM_HORIZON)
    with pytest.raises(StoreUnavailable, match="another generator writes to"):
        place().hold()


def test_a_generator_whose_store_another_one_holds_reports_nothing_stored(place: Place) -> None:
    made = workers(place)
    store(made, 1, [1, 2], TRIM_HORIZON)
    lines = ledger_bytes(place)
    Kept(place(), "lock").remove()
    other = place()
    other.hold()
    with pytest.raises(StoreUnavailable, match="another generator writes to") as caught:
        store(made, 2, [3, 4], position(2))
    assert caught.value.mends
    assert ledger_bytes(place) == lines
