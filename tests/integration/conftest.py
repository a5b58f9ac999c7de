"""Fixtures of the tests that run processes without java."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from generator_process import STREAM, GeneratorProcess

from kcl_receiver.emulator.server import Emulator


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """The embedded AWS with one stream of two shards."""
    with Emulator(port=0) as running:
        running.client("kinesis").create_stream(StreamName=STREAM, ShardCount=2)
        yield running


@pytest.fixture
def make_generator(tmp_path: Path, emulator: Emulator) -> Iterator[Callable[..., GeneratorProcess]]:
    """Make an application; its generator is gone afterwards."""
    made: list[GeneratorProcess] = []

    def make(store: Path | None = None, **settings: str) -> GeneratorProcess:
        made.append(GeneratorProcess(tmp_path, emulator, store, **settings))
        return made[-1]

    yield make
    for one in made:
        one.kill()
