"""How many requests a bucket gets for what is done every day, and that none of them grows with the store's age.

Of a year, the ledgers are there as those who closed them have left them, each merged, and so is the log; there are less
of them than in truth, and enough that anything which looks at each would be seen. `PYTHONPATH=tests/unit python
tests/unit/test_requests.py` prints the table of docs/performance.md.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import pytest
from store_support import NOW, SHARD, STREAM, block_range, session_at
from test_neighbours import Fleet, append

from kcl_receiver.audit.verify import verify_store
from kcl_receiver.generator.effects import LookUp, MarksRecord, SessionRecord
from kcl_receiver.generator.generator_io import GeneratorIO
from kcl_receiver.ids import block_id, writer_id
from kcl_receiver.ranges import TRIM_HORIZON
from kcl_receiver.store.bucket import KEPT_PARTS, MOST_APPENDS
from kcl_receiver.store.layout import ledger_path, log_path
from kcl_receiver.store.ledger.entries import (
    BlockStored,
    Closed,
    Living,
    StoreState,
    Tail,
    WriterStarted,
    encode_lines,
    first_prev,
)
from kcl_receiver.store.ledger.follow import follow
from kcl_receiver.store.ledger.store_log import StoreLog
from kcl_receiver.store.ledger.writer import LedgerWriter
from kcl_receiver.store.memory import MemoryObjects
from kcl_receiver.store.store import Store

DAY_MS = 86_400_000
HOSTS = 10
APPENDS = MOST_APPENDS
"""Of each writer that is at work: its ledger is about to give way to the next."""
LEDGERS_A_DAY = 8
"""That were closed. In truth a host that appends once a second closes 337."""
DAYS = {"day": 1, "year": 365}
PROOF = "verify --ledger-only"


class Cost(NamedTuple):
    """Requests by their kind."""

    gets: int = 0
    lists: int = 0
    heads: int = 0
    puts: int = 0
    removes: int = 0

    @property
    def all(self) -> int:
        return sum(self)


class Aged(Fleet):
    """A bucket with ten writers at work, and so many days of ledgers that were closed before."""

    def __init__(self, days: int) -> None:
        super().__init__()
        self.closed = days * LEDGERS_A_DAY
        self._fill(days)
        self.working = [self._writer(number) for number in range(HOSTS)]
        living = {one.writer: Living("host", 1, "0", NOW) for one in self.working}
        StoreLog(self.store).change(lambda state: replace(state, living=living, last=self.working[-1].writer))

    def _fill(self, days: int) -> None:
        prev, number = first_prev("log"), 0
        for ledger in range(self.closed):
            at = NOW - days * DAY_MS + ledger * DAY_MS // LEDGERS_A_DAY
            writer = writer_id(at, f"{ledger:08x}")
            parts, tail = [], Tail(0, first_prev(writer))
            block = BlockStored(block_id(writer, 1), STREAM, (block_range(ledger + 1).range,), 1, 100, at)
            for entry in (WriterStarted(writer, "host", 1, at, "0"), session_at(), block, Closed(at, writer)):
                lines, tail = encode_lines([entry], tail.number + 1, tail.hash)
                parts.append(lines)
            self.bucket.put(ledger_path(writer), b"".join(parts), if_absent=True)
            for kept in range(len(parts) - KEPT_PARTS, len(parts)):
                self.bucket.put(f"{ledger_path(writer)}~{kept + 1:012d}", parts[kept], if_absent=True)
            for state in (
                StoreState(living={writer: Living("host", 1, "0", at)}, last=writer),
                StoreState(last=writer),
            ):
                number += 1
                line, tail = encode_lines([state], number, prev)
                prev = tail.hash
                self.bucket.put(log_path(number), line, if_absent=True)

    def _writer(self, number: int) -> LedgerWriter:
        ledger = LedgerWriter(self.store, writer_id(NOW + 1000 * number, f"{0xF0000000 + number:08x}"))
        ledger.append([WriterStarted(ledger.writer, "host", 1, NOW, "0")])
        for _ in range(APPENDS):
            ledger.append([session_at()])
        return ledger

    def all_append(self) -> None:
        """Let each writer that is at work append a line."""
        for one in self.working:
            one.append([session_at()])

    def cost(self, do: Callable[[], object]) -> Cost:
        """Return the requests of something."""
        found: Counter[str] = Counter()

        def note(request: str, _: str) -> None:
            found[request] += 1

        self.bucket.faults = note
        do()
        self.bucket.faults = lambda *_: None
        return Cost(found["get"], found["page"], found["head"], found["put"], found["remove"])


def measured(days: int) -> dict[str, Cost]:
    """Do each thing once in a store of this age."""
    fleet = Aged(days)
    out: dict[str, Cost] = {}

    def note(what: str, do: Callable[[], object]) -> None:
        out[what] = fleet.cost(do)

    # A generator
    made: list[GeneratorIO] = []
    note("a start", lambda: made.append(fleet.start()))
    note("a look, nothing new", made[0]._neighbours.look)
    fleet.all_append()
    note("a look, a line of each", made[0]._neighbours.look)
    session = SessionRecord("s", SHARD, 1, TRIM_HORIZON, made[0].look_up(LookUp("s", SHARD, TRIM_HORIZON)), -1)
    note("an append", lambda: append(made[0], session))
    for _ in range(APPENDS - 2):
        append(made[0], MarksRecord(NOW, NOW, 24, 0, ()))
    before = made[0].writer
    note("an append and a change of ledgers", lambda: append(made[0], MarksRecord(NOW, NOW, 24, 0, ())))
    assert made[0].writer > before
    note("merging the ledger before", lambda: made[0].keep_house(measured=False))
    dead = fleet.working[0]
    neighbours = made[0]._neighbours
    note("closing the ledger of a dead one", lambda: neighbours._close(dead.writer, made[0].writer, NOW))

    # A follower
    fleet = Aged(days)
    changes = follow(Store(MemoryObjects(fleet.bucket)))
    list(changes)
    note("a poll, nothing new", lambda: list(changes))
    fleet.all_append()
    note("a poll, a line of each", lambda: list(changes))
    token = changes.token
    note("a poll of a new process, nothing new", lambda: list(follow(Store(MemoryObjects(fleet.bucket)), token)))
    fleet.start()
    note("a poll, a writer has begun", lambda: list(changes))

    # A proof
    store = Store(MemoryObjects(fleet.bucket))
    note(PROOF, lambda: verify_store(store, now_ms=NOW, ledger_only=True))
    return out


def all_measured() -> dict[str, dict[str, Cost]]:
    """Do each thing once at each age; the clocks stand still meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        for clock in ("wall_millis", "boot_millis"):
            patch.setattr(f"kcl_receiver.generator.generator_io.{clock}", lambda: NOW)
        return {age: measured(days) for age, days in DAYS.items()}


@pytest.fixture(scope="module")
def costs() -> dict[str, dict[str, Cost]]:
    return all_measured()


def test_nothing_but_the_whole_proof_costs_more_in_an_old_store(costs: dict[str, dict[str, Cost]]) -> None:
    grown = {what for what, cost in costs["year"].items() if cost != costs["day"][what]}
    assert grown == {PROOF}


def test_the_whole_proof_costs_two_requests_for_each_ledger_and_their_listing(
    costs: dict[str, dict[str, Cost]],
) -> None:
    more = (DAYS["year"] - DAYS["day"]) * LEDGERS_A_DAY
    day, year = (costs[age][PROOF] for age in DAYS)
    assert year.gets - day.gets == 2 * more
    assert year.lists - day.lists <= 3 * more // 1000 + 12  # and one for each month


def test_a_look_costs_a_request_for_each_neighbour_and_three_with_something_new(
    costs: dict[str, dict[str, Cost]],
) -> None:
    assert costs["year"]["a look, nothing new"] == Cost(gets=2 + HOSTS)
    assert costs["year"]["a look, a line of each"] == Cost(gets=2 + 2 * HOSTS, heads=HOSTS)


def test_a_start_costs_a_request_for_each_append_of_the_living_and_few_beyond(
    costs: dict[str, dict[str, Cost]],
) -> None:
    start = costs["year"]["a start"]
    assert HOSTS * APPENDS <= start.all <= HOSTS * (APPENDS + 5) + 40


def test_a_poll_costs_a_request_for_each_ledger_that_grows(costs: dict[str, dict[str, Cost]]) -> None:
    # The log's next entry, whether its newest is still there, and the next two entries of the maintenance log.
    assert costs["year"]["a poll, nothing new"] == Cost(gets=2 + HOSTS, heads=2)
    assert costs["year"]["a poll, a line of each"] == Cost(gets=2 + 2 * HOSTS, heads=2 + HOSTS)
    assert costs["year"]["a poll of a new process, nothing new"].all <= 5 * HOSTS + 15
    assert costs["year"]["a poll, a writer has begun"].all <= HOSTS + 20


def test_a_ledger_is_merged_at_the_cost_of_reading_it(costs: dict[str, dict[str, Cost]]) -> None:
    assert costs["year"]["merging the ledger before"].all <= APPENDS + 15
    assert costs["year"]["closing the ledger of a dead one"].all <= 15
    assert costs["year"]["an append"] == Cost(puts=1)


def table() -> str:
    """Return the table of docs/performance.md."""
    found = all_measured()
    lines = ["| | GET | LIST | HEAD | PUT | DELETE | all, at an age of a year |", "|---|--:|--:|--:|--:|--:|--:|"]
    for what, cost in found["day"].items():
        lines.append(f"| {what} | {' | '.join(map(str, cost))} | {found['year'][what].all} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
