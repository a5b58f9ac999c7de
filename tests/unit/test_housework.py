"""What a generator does that nobody waits for: it closes the dead and merges what is closed, after the answer."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import pytest
from store_support import NOW
from test_neighbours import Fleet, Kept, append

from kcl_receiver.errors import StoreUnavailable
from kcl_receiver.generator.core import GeneratorCore
from kcl_receiver.generator.effects import Append, MarksRecord, Measure
from kcl_receiver.generator.generator_io import GeneratorIO
from kcl_receiver.generator.runtime import Pool, Runtime
from kcl_receiver.generator.server import GeneratorServer
from kcl_receiver.store.bucket import KEPT_PARTS
from kcl_receiver.store.layout import ledger_path
from kcl_receiver.store.ledger.neighbours import APART_MS, LOOKS
from kcl_receiver.store.memory import Fault


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Fleet:
    clock = iter(range(APART_MS, 10**12, APART_MS))
    monkeypatch.setattr("kcl_receiver.generator.generator_io.wall_millis", lambda: NOW)
    monkeypatch.setattr("kcl_receiver.generator.generator_io.boot_millis", lambda: next(clock))
    return Fleet()


def objects_of(fleet: Fleet, writer: str) -> int:
    """Return how many objects a ledger is."""
    return len(fleet.bucket.page(ledger_path(writer), "", deep=True))


def marks() -> MarksRecord:
    return MarksRecord(NOW, NOW, 24, 0, ())


def changes_ledgers(made: GeneratorIO, lines: int = 4) -> str:
    """Let a generator go on in its next ledger; return the one before."""
    before = made.writer
    for _ in range(lines):
        append(made, marks())
    assert made.writer > before
    return before


# Merging


def test_a_ledger_is_merged_after_the_next_one_has_begun_and_not_by_the_append(fleet: Fleet) -> None:
    made = fleet.start(ledger_lines=4)
    before = changes_ledgers(made)
    assert objects_of(fleet, before) == 6
    made.keep_house(measured=False)
    assert objects_of(fleet, before) == 1 + KEPT_PARTS
    assert fleet.is_closed(before)
    assert objects_of(fleet, made.writer) == 1


def test_a_merge_that_failed_is_done_with_the_next_and_keeps_no_other_from_it(fleet: Fleet) -> None:
    made = fleet.start(ledger_lines=4)
    first = changes_ledgers(made)
    fleet.bucket.faults = lambda request, key: Fault.BEFORE if request == "get" and first in key else None
    made.keep_house(measured=False)
    second = changes_ledgers(made)
    made.keep_house(measured=False)
    assert (objects_of(fleet, first), objects_of(fleet, second)) == (6, 1 + KEPT_PARTS)
    fleet.bucket.faults = lambda *_: None
    made.keep_house(measured=False)
    assert objects_of(fleet, first) == 1 + KEPT_PARTS


def test_a_start_merges_what_it_closes_and_what_the_one_before_it_did_not_come_to_merge(fleet: Fleet) -> None:
    host = Kept()
    made = fleet.start(host, ledger_lines=4)
    fleet.store_block(made, [1, 2], "TRIM_HORIZON")
    closed = changes_ledgers(made, 3)
    for _ in range(3):
        append(made, marks())
    assert fleet.kept() == [closed]
    again = fleet.start(host)
    again.keep_house(measured=False)
    assert objects_of(fleet, closed) == objects_of(fleet, made.writer) == 1 + KEPT_PARTS


def test_a_ledger_that_another_generator_still_writes_is_not_merged(fleet: Fleet) -> None:
    here, there = fleet.start(), fleet.start()
    for _ in range(4):
        append(there, marks())
    for _ in range(2):
        here.keep_house(measured=True)
    assert objects_of(fleet, there.writer) == 5


def test_a_ledger_gives_way_to_the_next_after_as_many_appends_as_the_place_says(fleet: Fleet) -> None:
    fleet.most_appends = 3
    made = fleet.start()
    before = made.writer
    for _ in range(2):
        append(made, marks())
    assert made.writer == before
    append(made, marks())
    assert made.writer > before


# The dead


def test_one_dead_writer_is_closed_after_a_measurement_and_the_next_one_after_the_next(fleet: Fleet) -> None:
    here, *dead = (fleet.start() for _ in range(4))
    for number in range(LOOKS + 4):
        append(here, marks())
        here.measure()
        before = len(fleet.living())
        here.keep_house(measured=True)
        assert before - len(fleet.living()) == (LOOKS <= number < LOOKS + 3)
    assert fleet.living() == [here.writer]
    assert all(fleet.is_closed(one.writer) for one in dead)


def test_a_dead_writer_that_cannot_be_closed_does_not_keep_the_others_from_it(fleet: Fleet) -> None:
    here, first, _ = (fleet.start() for _ in range(3))
    fleet.bucket.faults = lambda request, key: Fault.BEFORE if request == "put" and first.writer in key else None
    for _ in range(LOOKS + 1):
        append(here, marks())
        here.keep_house(measured=True)
    assert fleet.living() == [here.writer, first.writer]


def test_what_is_recorded_in_a_dead_ledger_is_known_and_not_read_again(fleet: Fleet) -> None:
    old = fleet.start()
    fleet.store_block(old, [1, 2], "TRIM_HORIZON")  # before this host starts
    here = fleet.start()
    fleet.store_block(old, [3, 4], "TRIM_HORIZON")  # and since
    lost = fleet.put(old, [5, 6], "TRIM_HORIZON")
    for _ in range(LOOKS):
        append(here, marks())
        here.keep_house(measured=True)
    append(here, marks())
    read: list[str] = []
    fleet.bucket.faults = lambda request, key: read.append(key) if request == "get" and old.writer in key else None
    here._neighbours.close_dead(here.writer, NOW, 10**12, here._ledger.tail.number)
    fleet.bucket.faults = lambda *_: None
    assert fleet.is_closed(old.writer)
    blocks = [one.block for one in fleet.entries(old.writer) if hasattr(one, "block")]
    assert blocks == [f"{old.writer}-{1:012d}", f"{old.writer}-{2:012d}", lost.written.block]
    assert not any(key.endswith(f"~{1:012d}") for key in read)


def test_a_measurement_asks_nothing_of_the_store(fleet: Fleet) -> None:
    here, _ = fleet.start(), fleet.start()
    fleet.bucket.faults = lambda *_: Fault.BEFORE
    assert here.measure().awaited
    here.keep_house(measured=True)  # and what fails there is not told to anybody
    with pytest.raises(StoreUnavailable):
        here.append(Append((marks(),)), {})


# When it is done


class OneThread:
    """Runs what the server gives it at once, and notes the order."""

    def __init__(self, done: list[str]) -> None:
        self._done = done

    def clock(self) -> float:
        return 0.0

    def spawn(self, work: Coroutine[Any, Any, None], _failed: Callable[[BaseException], None]) -> None:
        with pytest.raises(StopIteration):
            work.send(None)

    async def in_thread(self, pool: Pool, call: Callable[..., object], *args: object, **kwargs: object) -> object:
        self._done.append(f"{pool.value}: {call.__name__}")
        return call(*args, **kwargs)


class Core:
    """Notes that it was answered."""

    def __init__(self, done: list[str]) -> None:
        self._done = done

    def measured(self, *_: object) -> list[object]:
        self._done.append("answered: measured")
        return []

    def appended(self, *_: object, **__: object) -> list[object]:
        self._done.append("answered: appended")
        return []

    def checkpoints(self) -> dict[str, object]:
        return {}

    def deadline(self) -> None:
        return None


def server(made: GeneratorIO, done: list[str]) -> GeneratorServer:
    core, runtime = cast(GeneratorCore, Core(done)), cast(Runtime, OneThread(done))
    runtime.event = lambda: None  # type: ignore[method-assign,assignment,return-value]
    return GeneratorServer(core, made, runtime, Path("socket"), 1.0, "memory://", lambda _: None)


def test_the_state_machine_is_answered_before_the_housework_is_done(fleet: Fleet) -> None:
    done: list[str] = []
    made = fleet.start()
    server(made, done)._apply([Measure()])
    assert done == ["ask: measure", "answered: measured", "house: keep_house"]
    done.clear()
    server(made, done)._apply([Append((marks(),))])
    assert done == ["ledger: append", "answered: appended"]
    done.clear()
    server(made, done)._apply([Append(())])
    assert done == ["ledger: append", "answered: appended", "house: keep_house"]
