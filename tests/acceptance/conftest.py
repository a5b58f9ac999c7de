"""Fixtures of the tests on the real daemon."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from landing import Landing

from kcl_receiver.emulator.server import Emulator


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """The embedded AWS."""
    with Emulator(port=0) as running:
        yield running


@pytest.fixture
def make_landing(tmp_path: Path, emulator: Emulator) -> Iterator[Callable[..., Landing]]:
    """Make an application; whatever it started is gone afterwards."""
    made: list[Landing] = []

    def make(shards: int = 2, **settings: str) -> Landing:
        landing = Landing(
            tmp_path, emulator, shards=shards, settings={k.replace("_", "."): v for k, v in settings.items()}
        )
        made.append(landing)
        return landing

    yield make
    for landing in made:
        landing.clean_up()
