"""On a file system: compaction and expiry are cut short at every single step, by a kill and by a loss of power."""

from __future__ import annotations

import errno
from collections.abc import Callable
from itertools import product

import pytest
from fake_files import FakeFiles, PowerLoss
from maintenance_support import (
    DAY,
    LATER,
    Found,
    counted,
    empty_files,
    fake_store,
    fill,
    present,
    read_all,
    run,
    usual,
)
from store_support import NOW, local_store
from test_maintenance_ledger import merged, stored

from kcl_receiver.errors import StoreUnavailable
from kcl_receiver.maintenance import compact as module
from kcl_receiver.maintenance.compact import Options
from kcl_receiver.maintenance.expire import Expiry
from kcl_receiver.maintenance.repair import repair
from kcl_receiver.store.ledger.transaction import COMPACT, REPAIR, Transaction, load_day
from kcl_receiver.store.store import Store

TWO_EACH = Options(target_bytes=5_000)
"""Makes a block of each two."""
SURVIVAL = list(product([False, True], [False, True]))
LIMIT = NOW + 21


def filled() -> tuple[FakeFiles, Found]:
    files = empty_files()
    store = fake_store(files)
    fill(store, usual(5))
    return files, read_all(store)


def compact_all(store: Store) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "GROUPS_AT_ONCE", 1)
        run(store, TWO_EACH)


def expire_all(store: Store) -> None:
    store.hold_maintenance()
    expiry = Expiry(store, LIMIT)
    expiry.finish()
    list(expiry.run(LATER))


def steps(work: Callable[[Store], None]) -> int:
    files, _ = filled()
    before = len(files.calls)
    work(fake_store(files))
    return len(files.calls) - before


def steps_that_matter(work: Callable[[Store], None]) -> list[int]:
    """Return a third of them, without those that remove a temporary file: that one stays is no failure."""
    files, _ = filled()
    before = len(files.calls)
    work(fake_store(files))
    calls = files.calls[before:]
    return [at for at, (call, path) in enumerate(calls) if at % 3 == 0 and not (call == "unlink" and "/tmp/" in path)]


def cut_short(work: Callable[[Store], None], at: int) -> tuple[FakeFiles, Found]:
    files, before = filled()
    files.stop_at = at
    with pytest.raises(PowerLoss):
        work(fake_store(files))
    return files, before


def test_the_work_that_is_cut_short_below_is_of_two_transactions() -> None:
    files, before = filled()
    store = fake_store(files)
    compact_all(store)
    assert len(list(store.maintenance_ledgers(DAY))) == 2
    assert len(present(store)) == 3
    assert read_all(store) == before


@pytest.mark.parametrize("at", range(steps(compact_all)))
def test_a_compaction_that_is_cut_short_loses_and_doubles_nothing_and_the_next_ends_it(at: int) -> None:
    files, before = cut_short(compact_all, at)
    for names_survive, contents_survive in SURVIVAL:
        store = fake_store(files.lose_power(names_survive=names_survive, contents_survive=contents_survive))
        assert read_all(store) == before
        compact_all(store)
        assert read_all(store) == before
        assert present(store) == set(counted(store))
        assert len(present(store)) == 3


@pytest.mark.parametrize("at", range(steps(expire_all)))
def test_an_expiry_that_is_cut_short_keeps_what_is_younger_and_the_next_ends_it(at: int) -> None:
    files, before = cut_short(expire_all, at)
    younger = {key: data for key, data in before.items() if key[3] > 20}
    for names_survive, contents_survive in SURVIVAL:
        store = fake_store(files.lose_power(names_survive=names_survive, contents_survive=contents_survive))
        # What is gone was named before it went: whoever believes the ledger misses nothing.
        assert read_all(store) in (before, younger)
        expire_all(store)
        assert read_all(store) == younger
        assert present(store) == set(counted(store))


def repair_all(store: Store) -> None:
    repair(store, LATER, apply=True)


@pytest.mark.parametrize("again", [compact_all, expire_all, repair_all])
@pytest.mark.parametrize(
    ("first", "at"), [(first, at) for first in (compact_all, expire_all) for at in range(steps(first))]
)
def test_what_a_killed_run_left_may_not_be_durable_and_nothing_is_deleted_on_its_word(
    first: Callable[[Store], None], at: int, again: Callable[[Store], None]
) -> None:
    files, before = cut_short(first, at)
    younger = {key: data for key, data in before.items() if key[3] > 20}
    again(fake_store(files.killed()))
    for names_survive, contents_survive in SURVIVAL:
        store = fake_store(files.lose_power(names_survive=names_survive, contents_survive=contents_survive))
        assert read_all(store) in ((before,) if expire_all not in (first, again) else (before, younger))


def test_what_a_killed_expiry_left_is_deleted_by_the_next_compaction_too() -> None:
    files, _ = filled()
    files.stop_at = steps(expire_all) - 2
    with pytest.raises(PowerLoss):
        expire_all(fake_store(files))
    store = fake_store(files.lose_power(names_survive=True, contents_survive=True))
    left = present(store) & set(load_day(store, DAY).expired)
    assert left
    (report,) = run(store)
    assert report.leftovers == len(left)
    assert not present(store) & left


@pytest.mark.parametrize("at", steps_that_matter(compact_all))
def test_a_disk_that_fails_once_leaves_nothing_behind_but_what_the_next_run_takes_away(at: int) -> None:
    files, before = filled()
    files.fail_at = at
    store = fake_store(files)
    with pytest.raises(StoreUnavailable):
        compact_all(store)
    assert read_all(store) == before
    compact_all(store)
    assert read_all(store) == before
    assert present(store) == set(counted(store))


def test_the_old_ones_are_deleted_with_one_fsync_for_all() -> None:
    files = empty_files()
    store = fake_store(files)
    fill(store, usual(20))
    before = len(files.calls)
    run(store)
    calls = [call for call, _ in files.calls[before:]]
    last = len(calls) - 1 - calls[::-1].index("unlink")
    assert calls[last + 1 :] == ["fsync_dir"]
    assert calls[last - 19 : last + 1] == ["unlink"] * 20


@pytest.mark.parametrize("call", ["create", "write", "fsync", "link", "fsync_dir"])
def test_a_commit_that_failed_can_be_repeated_and_is_found_once(call: str) -> None:
    files = FakeFiles()
    store = local_store("/store", files)
    [one] = stored(store, 1)
    transaction = Transaction(store, one.block, REPAIR, LATER)
    transaction.add_block(one)
    files.fail(call, errno.EIO, "maintenance" if call in ("link", "fsync_dir") else "tmp")
    with pytest.raises(StoreUnavailable):
        transaction.commit()
    transaction.commit()
    transaction.commit()
    after = local_store("/store", files.lose_power())
    assert [writer for writer, _ in after.maintenance_ledgers(DAY)] == [transaction.writer]
    assert load_day(after, DAY).blocks == {one.block: one}


@pytest.mark.parametrize("call", ["unlink", "fsync_dir"])
def test_a_deletion_that_failed_can_be_repeated(call: str) -> None:
    files = FakeFiles()
    store = local_store("/store", files)
    entries = stored(store, 2)
    transaction = Transaction(store, entries[0].block, COMPACT, LATER)
    new = merged(transaction, store, *entries)
    transaction.commit()
    files.fail(call, errno.EIO, f"blocks/{DAY}")
    with pytest.raises(StoreUnavailable):
        transaction.retire()
    assert len(transaction.retire()) == 2
    assert [block for block, _ in local_store("/store", files.lose_power()).list_blocks()] == [new.block]
