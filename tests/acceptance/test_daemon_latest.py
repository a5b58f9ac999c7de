"""LATEST with the real daemon: what one host has begun, another one reads from the same moment on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from landing import APPLICATION, STREAM, Landing

from kcl_receiver.daemon import start
from kcl_receiver.emulator.kcl import prepare_leases
from kcl_receiver.emulator.server import Emulator
from kcl_receiver.emulator.verdict import Verdict, judge
from kcl_receiver.errors import EXIT_OK

pytestmark = pytest.mark.daemon


@pytest.fixture
def make_host(tmp_path: Path, emulator: Emulator) -> Iterator[Callable[[str], Landing]]:
    """Make one of several hosts of the application, each with a store of its own."""
    made: list[Landing] = []

    def make(name: str) -> Landing:
        (tmp_path / name).mkdir()
        host = Landing(tmp_path / name, emulator, shards=None, settings={"initialPositionInStream": "LATEST"})
        made.append(host)
        return host

    yield make
    for host in made:
        host.clean_up()


def test_a_host_that_comes_later_reads_from_the_first_start_on(
    make_host: Callable[[str], Landing], emulator: Emulator
) -> None:
    emulator.client("kinesis").create_stream(StreamName=STREAM, ShardCount=1)
    first = make_host("first")
    first.producer.put(5)  # before the first start: not asked for
    wait_for_a_later_second(first)
    run = first.run()
    dynamodb = emulator.client("dynamodb")
    table = APPLICATION + start.TABLE_SUFFIX
    pinned = first.wait("the time of the first start is fixed", lambda: start.pinned(dynamodb, table))
    # As KCL would, but half a minute sooner.
    prepare_leases(dynamodb, emulator.client("kinesis"), APPLICATION, STREAM, position="AT_TIMESTAMP")
    first.wait("a session is open", lambda: first.status().get("shards"))
    assert first.stop(run) == EXIT_OK
    assert {one.checkpoint for one in first.leases().values()} == {"AT_TIMESTAMP"}
    # While no host is up.
    first.producer.put(30)
    wait_for_a_later_second(first)
    second = make_host("second")
    run = second.run()

    def judged() -> Verdict:
        return judge(first.producer.acknowledged[5:], second.store, dynamodb, APPLICATION)

    second.wait("what came while no host was up is stored", lambda: judged().stored >= 30)
    assert second.stop(run) == EXIT_OK
    assert start.pinned(dynamodb, table) == pinned
    assert judged().perfect, judged()
    second.verify()


def wait_for_a_later_second(host: Landing) -> None:
    """Wait until a start of now begins after all that was put, although it is rounded down to seconds."""
    put = time.time()
    host.wait("a later second has begun", lambda: int(time.time()) > put)
