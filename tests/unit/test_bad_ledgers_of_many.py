"""Many writers on one store, and one of their ledgers, or the log, is damaged or cannot be read: the others go on."""

from __future__ import annotations

from typing import Any

import pytest
from places import kept_ledger
from test_neighbours import Fleet, Kept, append, held, measures
from test_workers import position

from kcl_receiver.audit.verify import verify_store
from kcl_receiver.errors import LedgerDamaged, StoreUnavailable, WriterFenced
from kcl_receiver.generator.effects import Append, BlockRecord, MarksRecord
from kcl_receiver.maintenance.repair import ACKNOWLEDGE, BEGIN_ANEW, SET_ASIDE, TAKE_IN, repair
from kcl_receiver.ranges import TRIM_HORIZON
from kcl_receiver.store.layout import ledger_path, log_path
from kcl_receiver.store.ledger.entries import StoreState
from kcl_receiver.store.ledger.follow import follow
from kcl_receiver.store.ledger.neighbours import APART_MS, LOOKS, PATIENCE
from kcl_receiver.store.ledger.store_log import StoreLog, ended
from kcl_receiver.store.ledger.takeover import close, rebuilt
from kcl_receiver.store.memory import Fault
from kcl_receiver.store.store import Store

NOW = 1_763_816_400_000
LATER = NOW + 30 * 86_400_000


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Fleet:
    clock = iter(range(0, 10**12, APART_MS))
    monkeypatch.setattr("kcl_receiver.generator.generator_io.boot_millis", lambda: next(clock))
    return Fleet()


def spoil(fleet: Fleet, writer: str, line: int = 1) -> None:
    kept = kept_ledger(fleet.store, writer)
    lines = kept.read().splitlines(keepends=True)
    lines[line - 1] = lines[line - 1].replace(b'"type"', b'"typo"')
    kept.write(b"".join(lines))


def spoil_log(fleet: Fleet) -> int:
    number = fleet.store.newest_log_number()
    fleet.store.objects.replace(log_path(number), b"{}\n")
    return number


def mend(fleet: Fleet) -> list[str]:
    report = repair(fleet.store, LATER, apply=True)
    assert report.in_order, report.left
    return [one.kind for one in report.actions]


# A ledger


def test_a_host_starts_again_although_its_own_ledger_is_damaged_and_repair_mends_it_then(fleet: Fleet) -> None:
    host = Kept()
    bad, beside = fleet.start(host), fleet.start()
    fleet.store_block(bad, [1, 2], TRIM_HORIZON)
    fleet.store_block(bad, [3, 4], position(2))
    spoil(fleet, bad.writer, 2)
    (left,) = repair(fleet.store, LATER, apply=True).left[:1]
    assert (left.thing, left.amiss) == (f"ledger of {bad.writer}", True)
    assert "restart the receiver of " in left.hint
    again = fleet.start(host)
    assert bad.writer not in fleet.living()
    assert held(again, TRIM_HORIZON) == [(1, 2), (3, 4)], "its blocks are there, and `repair` is going to record them"
    assert mend(fleet) == [ACKNOWLEDGE, TAKE_IN, TAKE_IN, SET_ASIDE]
    assert {beside.writer, again.writer} <= {*fleet.living()}
    assert verify_store(fleet.store).ledger_faults == []
    assert held(fleet.start(), TRIM_HORIZON) == [(1, 2), (3, 4)]


def test_a_dead_writer_whose_ledger_is_damaged_ends_all_the_same(fleet: Fleet) -> None:
    here, bad = fleet.start(), fleet.start()
    spoil(fleet, bad.writer)
    before = fleet.store.ledger(bad.writer)
    for _ in range(LOOKS + 2):
        measures(here)
    assert bad.writer not in fleet.living()
    assert fleet.store.ledger(bad.writer) == before, "nothing is read behind damage"
    with pytest.raises(LedgerDamaged):  # whoever lives is told with its next line, and not after more of them
        append(bad, MarksRecord(NOW, NOW, 24, 0, ()))


def test_a_writer_whose_ledger_could_not_be_read_and_has_grown_is_not_dead(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, bad = fleet.start(), fleet.start()
    measures(here)
    fleet.bucket.faults = lambda request, key: Fault.BEFORE if request == "get" and bad.writer in key else None
    for _ in range(PATIENCE - 1):
        with pytest.raises(StoreUnavailable):
            here._neighbours.look()
    fleet.store_block(bad, [1, 2], TRIM_HORIZON)
    for _ in range(LOOKS):
        measures(here)
    tried: list[bool] = []

    def can_be_read_again(*args: Any) -> bool:  # noqa: ANN401 - those of `close`
        fleet.bucket.faults = lambda _request, _key: None
        tried.append(close(*args))
        return tried[-1]

    monkeypatch.setattr("kcl_receiver.store.ledger.neighbours.close", can_be_read_again)
    measures(here)
    assert tried == [False]
    assert not fleet.is_closed(bad.writer)
    assert bad.writer in fleet.living()


@pytest.mark.parametrize("what", ["a part of the middle is gone", "the first part is gone", "something else is next"])
def test_a_host_starts_again_although_its_own_ledger_cannot_be_closed(fleet: Fleet, what: str) -> None:
    host = Kept()
    bad, _ = fleet.start(host), fleet.start()
    for number in range(3):
        fleet.store_block(bad, [number + 1], position(number))
    key = ledger_path(bad.writer)
    parts = [one.key for one in fleet.bucket.page(f"{key}~", "", deep=True)]
    if what.startswith("something"):
        fleet.bucket.put(f"{key}~{bad._ledger.tail.number + 1:012d}", b"", if_absent=True)
    else:
        fleet.bucket.remove([parts[0] if what.startswith("the first") else parts[-2]])
    made = fleet.made(host)
    for _ in range(PATIENCE - 1):
        with pytest.raises(StoreUnavailable, match="it is read again"):
            made.prepare()
    made.prepare()
    assert bad.writer not in fleet.living()
    assert verify_store(fleet.store).ledger_faults
    assert ACKNOWLEDGE in mend(fleet)
    assert verify_store(fleet.store).ledger_faults == []
    assert len([one for change in follow(fleet.store) for one in change.added]) == 3


def test_a_stray_object_beside_the_parts_of_a_ledger_is_none_of_them(fleet: Fleet) -> None:
    host = Kept()
    first = fleet.start(host)
    fleet.store_block(first, [1, 2], TRIM_HORIZON)
    for name in ("", "000000000001.bak", "x"):
        fleet.bucket.put(f"{ledger_path(first.writer)}~{name}", b"?", if_absent=True)
    assert held(fleet.start(host), TRIM_HORIZON) == [(1, 2)]
    assert fleet.is_closed(first.writer)


def test_a_writer_that_the_log_calls_ended_records_nothing_more(fleet: Fleet) -> None:
    here, there = fleet.start(), fleet.start()
    fleet.store_block(here, [1, 2], TRIM_HORIZON)
    block = fleet.put(here, [3, 4], position(2))
    before = fleet.store.ledger(here.writer)
    StoreLog(fleet.store).change(lambda state: ended(state, there.writer, NOW, [here.writer]))
    here._neighbours.look()
    with pytest.raises(WriterFenced, match=r"calls writer .* ended"):
        append(here, block)
    assert fleet.store.ledger(here.writer) == before


def test_a_start_goes_on_without_the_ledger_of_a_neighbour_that_alone_cannot_be_read(fleet: Fleet) -> None:
    bad, good = fleet.start(), fleet.start()
    fleet.store_block(bad, [5, 6], TRIM_HORIZON, "shardId-000000000001")
    fleet.store_block(good, [1, 2], TRIM_HORIZON)
    fleet.bucket.faults = lambda request, key: Fault.BEFORE if request == "get" and bad.writer in key else None
    host = Kept()
    made = fleet.made(host)
    for _ in range(PATIENCE - 1):
        with pytest.raises(StoreUnavailable, match=bad.writer):
            made.prepare()
    made.prepare()
    assert held(made, TRIM_HORIZON) == [(1, 2)]
    fleet.bucket.faults = lambda _request, _key: None
    assert held(made, TRIM_HORIZON, "shardId-000000000001") == [(5, 6)], "it is read once it can be"


def test_a_start_waits_for_a_ledger_of_its_own_that_cannot_be_read(fleet: Fleet) -> None:
    host = Kept()
    before = fleet.start(host).writer
    fleet.bucket.faults = lambda request, key: Fault.BEFORE if request == "get" and before in key else None
    made = fleet.made(host)
    for _ in range(2 * PATIENCE):
        with pytest.raises(StoreUnavailable, match=before):
            made.prepare()


# The log


def test_a_generator_goes_on_in_its_ledger_while_the_log_is_damaged_and_changes_it_afterwards(fleet: Fleet) -> None:
    here = fleet.start(ledger_lines=1)
    fleet.start()
    spoil_log(fleet)
    first = here.writer
    for number in range(3):
        append(here, fleet.put(here, [number + 1], position(number)))
    assert here.writer == first
    assert not fleet.is_closed(first)
    assert mend(fleet) == [BEGIN_ANEW]
    append(here, fleet.put(here, [4], position(3)))
    assert here.writer != first
    assert fleet.is_closed(first)
    assert held(fleet.start(), TRIM_HORIZON) == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_a_log_that_cannot_be_read_keeps_nobody_from_recording(fleet: Fleet) -> None:
    here, there = fleet.start(), fleet.start(ledger_lines=1)
    fleet.store_block(there, [1, 2], TRIM_HORIZON)
    assert held(here, TRIM_HORIZON) == [(1, 2)]
    assert fleet.kept()
    fleet.start()
    spoil_log(fleet)
    append(here, fleet.put(here, [3, 4], position(2)), {"shardId-000000000000": position(4)})
    assert held(here, position(2)) == [(3, 4)]


def test_a_start_refuses_a_damaged_log_and_repair_begins_it_anew_beside_those_at_work(fleet: Fleet) -> None:
    here = fleet.start()
    number = spoil_log(fleet)
    made = fleet.made(Kept())
    with pytest.raises(LedgerDamaged, match=f"entry {number} of the log"):
        made.prepare()
    assert mend(fleet) == [BEGIN_ANEW]
    made.prepare()
    assert fleet.living() == sorted([here.writer, made.writer])
    assert verify_store(fleet.store).ledger_faults == []


def test_a_writer_without_a_ledger_yet_begins_once_more_when_the_log_has_begun_anew(fleet: Fleet) -> None:
    """Who begins the log anew cannot know of it: its entry was the damaged one, and it has no line yet."""
    here, made = fleet.start(), fleet.made(Kept())
    entered: list[str] = []

    def when(request: str, key: str) -> None:
        if request == "put" and key.startswith("ledger/") and not entered:
            (writer,) = {*fleet.living()} - {here.writer}
            entered.append(writer)
            spoil_log(fleet)
            assert mend(fleet) == [BEGIN_ANEW]

    fleet.bucket.faults = when
    made.prepare()
    assert made.writer not in entered
    assert fleet.living() == sorted([here.writer, made.writer])
    assert fleet.is_closed(entered[0])
    assert verify_store(fleet.store).ledger_faults == []


def test_a_log_whose_newest_entry_is_known_goes_on_behind_it_although_it_is_damaged(fleet: Fleet) -> None:
    here = fleet.start(ledger_lines=1)
    number = spoil_log(fleet)
    first = here.writer
    append(here, fleet.put(here, [1], TRIM_HORIZON))
    assert (here.writer != first, fleet.store.newest_log_number()) == (True, number + 1)
    assert fleet.living() == [here.writer]


def test_a_log_that_cannot_be_read_now_lets_the_present_ledger_go_on(fleet: Fleet) -> None:
    here = fleet.start(ledger_lines=1)
    fleet.start()
    newest = log_path(fleet.store.newest_log_number())
    fleet.bucket.faults = lambda request, key: Fault.BEFORE if request == "get" and key == newest else None
    first = here.writer
    append(here, fleet.put(here, [1], TRIM_HORIZON))
    assert here.writer == first
    fleet.bucket.faults = lambda _request, _key: None
    append(here, fleet.put(here, [2], position(1)))
    assert here.writer != first


def test_a_log_that_is_damaged_while_a_ledger_changes_is_waited_for(fleet: Fleet) -> None:
    here = fleet.start(ledger_lines=1)
    fleet.start()
    looks: list[str] = []

    def at_the_second_look(request: str, key: str) -> None:
        if request == "get" and key.startswith("log/"):
            looks.append(key)
            if len(looks) == 3:
                fleet.bucket.faults = lambda _request, _key: None
                fleet.start()
                spoil_log(fleet)

    fleet.bucket.faults = at_the_second_look
    first = here.writer
    with pytest.raises(StoreUnavailable, match="of the log"):
        append(here, fleet.put(here, [1], TRIM_HORIZON))
    assert mend(fleet) == [BEGIN_ANEW]
    here.append(Append(()), {})
    assert here.writer != first
    assert held(fleet.start(), TRIM_HORIZON) == [(1, 1)]


def test_who_changes_the_log_while_it_begins_anew_is_not_overwritten(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = fleet.start(ledger_lines=1)  # it knows the damaged entry, and so can go on behind it
    spoil_log(fleet)

    def meanwhile(store: Store, known: StoreState) -> StoreState:
        found = rebuilt(store, known)
        append(here, fleet.put(here, [1, 2], TRIM_HORIZON))
        return found

    monkeypatch.setattr("kcl_receiver.maintenance.repair.rebuilt", meanwhile)
    with pytest.raises(StoreUnavailable, match="somebody else made entry"):
        repair(fleet.store, LATER, apply=True)
    assert fleet.living() == [here.writer]
    assert held(fleet.start(), TRIM_HORIZON) == [(1, 2)]


# Repair beside those at work


def test_a_block_of_a_writer_that_began_meanwhile_is_not_taken_in(fleet: Fleet) -> None:
    here, beside = fleet.start(ledger_lines=1), fleet.start()
    fleet.store_block(beside, [1, 2], TRIM_HORIZON)
    waiting: list[BlockRecord] = []

    def when(request: str, key: str) -> None:
        if request == "page" and key.startswith("blocks/") and not waiting:
            fleet.bucket.faults = lambda _request, _key: None
            append(here, fleet.put(here, [3, 4], position(2)))
            waiting.append(fleet.put(here, [5, 6], position(4)))

    fleet.bucket.faults = when
    report = repair(fleet.store, LATER, apply=True)
    assert [one.kind for one in report.actions] == []
    append(here, waiting[0])
    blocks = [one.block for change in follow(fleet.store) for one in change.added]
    assert len(blocks) == len(set(blocks)) == 3


def test_a_log_that_was_lost_goes_on_with_the_next_change_of_a_generator_at_work(fleet: Fleet) -> None:
    here = fleet.start(ledger_lines=1)
    beside = fleet.start()
    here._neighbours.look()
    first = here.writer
    fleet.store.objects.delete([one.key for one in fleet.store.objects.list("log/")])
    append(here, MarksRecord(NOW, NOW, 24, 0, ()))
    here.append(Append(()), {})
    assert here.writer != first
    state: StoreState = StoreLog(fleet.store).newest().state
    assert sorted(state.living) == sorted([here.writer, beside.writer])
