"""Two runs of maintenance on one store at once, on a place without locks: at every change of one, all of the other.

The records that a reader finds are the same before, between and after, each once; and what is left over the next runs
take away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from maintenance_support import LATER, SMALL, TWO_EACH, Found, counted, fill, present, read_all, usual
from places import Watched
from store_support import NOW

from kcl_receiver.audit.verify import verify_store
from kcl_receiver.errors import StoreUnavailable
from kcl_receiver.maintenance import compact as module
from kcl_receiver.maintenance.compact import compact
from kcl_receiver.maintenance.expire import Expiry
from kcl_receiver.maintenance.repair import repair
from kcl_receiver.store.layout import maintenance_path
from kcl_receiver.store.ledger.follow import follow
from kcl_receiver.store.memory import Fault, MemoryBucket, MemoryObjects
from kcl_receiver.store.objects import Objects
from kcl_receiver.store.store import Store

LIMIT = NOW + 21

Run = Callable[[Store], None]


def compacts(store: Store) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "GROUPS_AT_ONCE", 1)
        for report in compact(store, TWO_EACH, LATER):
            assert (report.damaged, report.faults) == ({}, [])


def compacts_all(store: Store) -> None:
    for report in compact(store, SMALL, LATER):
        assert (report.damaged, report.faults) == ({}, [])


def expires(store: Store) -> None:
    expiry = Expiry(store, LIMIT)
    expiry.finish()
    list(expiry.run(LATER))


def repairs(store: Store) -> None:
    assert repair(store, LATER, apply=True).in_order


class Between(Watched):
    """Another place, in which something happens before one of the changes takes effect: the one of this number."""

    def __init__(self, objects: Objects, at: int, do: Callable[[], None]) -> None:
        super().__init__(objects)
        self._at = at
        self._do = do
        self.happened = False

    @contextmanager
    def change(self, verb: str, key: str) -> Iterator[None]:
        if len(self.changes) == self._at:
            self.happened = True
            self._do()
        with super().change(verb, key):
            yield


def made(bucket: MemoryBucket) -> tuple[Store, list[Found]]:
    """Return a store, and what may be found in it while others work: all, or where some expires, what is younger."""
    store = Store(MemoryObjects(bucket))
    fill(store, usual(5))
    before = read_all(store)
    return store, [before, {key: data for key, data in before.items() if key[3] > 20}]


def assert_kept(store: Store, found: list[Found], *runs: Run) -> None:
    allowed = found if expires in runs else found[:1]
    assert read_all(store) in allowed
    report = verify_store(store, now_ms=LATER)
    assert (report.missing, report.damaged, report.ledger_faults) == ([], {}, [])


RUNS = [compacts, compacts_all, expires, repairs]


@pytest.mark.parametrize("second", RUNS)
@pytest.mark.parametrize("first", RUNS[:3])
def test_at_any_change_of_a_run_another_one_may_come_and_go(first: Run, second: Run) -> None:
    for at in range(200):
        bucket = MemoryBucket()
        store, found = made(bucket)

        def come_and_go(bucket: MemoryBucket = bucket, found: list[Found] = found) -> None:
            other = Store(MemoryObjects(bucket))
            second(other)
            assert_kept(other, found, first, second)

        objects = Between(MemoryObjects(bucket), at, come_and_go)
        first(Store(objects))
        assert_kept(store, found, first, second)
        compacts(store)
        expires(store) if expires in (first, second) else compacts(store)
        assert_kept(store, found, first, second)
        assert present(store) == set(counted(store))
        if not objects.happened:
            assert at > 2
            return
    pytest.fail("it has no end")


@pytest.mark.parametrize("second", RUNS)
@pytest.mark.parametrize("first", RUNS[:3])
def test_what_a_run_sent_may_arrive_when_it_is_dead_and_another_one_has_come_and_gone(first: Run, second: Run) -> None:
    for at in range(200):
        bucket = MemoryBucket()
        store, found = made(bucket)
        sent = 0

        def late(request: str, _key: str, at: int = at) -> Fault | None:
            nonlocal sent
            sent += request in ("put", "remove")
            return Fault.LATE if request in ("put", "remove") and sent > at else None

        bucket.faults = late
        ended = True
        try:
            first(Store(MemoryObjects(bucket)))
        except StoreUnavailable:
            ended = False
        bucket.faults = lambda *_: None
        second(store)
        assert_kept(store, found, first, second)
        bucket.deliver_late()
        assert_kept(store, found, first, second)
        compacts(store)
        assert_kept(store, found, first, second)
        if ended:
            assert at > 2
            return
    pytest.fail("it has no end")


def test_what_a_compaction_has_replaced_while_repair_listed_is_not_amiss(monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = MemoryBucket()
    store, other = Store(MemoryObjects(bucket)), Store(MemoryObjects(bucket))
    fill(store, usual(3))
    real = store.blocks_by_day

    def listed(since: str = "", before: str = "") -> Iterator[tuple[str, dict[str, int]]]:
        days = list(real(since, before))
        compacts_all(other)
        yield from days

    monkeypatch.setattr(store, "blocks_by_day", listed)
    report = repair(store, LATER, apply=True)
    assert len(present(store)) == 1
    assert (report.left, report.in_order) == ([], True)


def test_an_entry_that_was_lost_and_that_no_other_names_is_repaired_at_once() -> None:
    bucket = MemoryBucket()
    store = Store(MemoryObjects(bucket))
    fill(store, usual(3))
    compacts_all(store)
    follow(store, name="table")  # the next entry, about no block of that day
    bucket.remove([maintenance_path(1)])
    assert verify_store(store).ledger_faults
    assert repair(store, LATER, apply=True).in_order
    assert verify_store(store).ledger_faults == []
    assert len(list(follow(store))) > 0
