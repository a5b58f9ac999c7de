"""Compaction and expiry are cut short at every single step, by a kill and by a loss of power, and begun again."""

from __future__ import annotations

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
from store_support import NOW, put, root_of

from kcl_receiver.errors import StoreUnavailable
from kcl_receiver.maintenance import compact as module
from kcl_receiver.maintenance.compact import Options, compact
from kcl_receiver.maintenance.expire import Expiry
from kcl_receiver.maintenance.repair import repair
from kcl_receiver.store.base import BlockStore
from kcl_receiver.store.maintenance import load_day
from kcl_receiver.store.names import block_path

TWO_EACH = Options(target_bytes=5_000)
"""Makes a block of each two."""
SURVIVAL = list(product([False, True], [False, True]))
LIMIT = NOW + 21


def filled() -> tuple[FakeFiles, Found]:
    files = empty_files()
    store = fake_store(files)
    fill(store, usual(5))
    return files, read_all(store)


def compact_all(store: BlockStore) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "GROUPS_AT_ONCE", 1)
        run(store, TWO_EACH)


def expire_all(store: BlockStore) -> None:
    store.hold_maintenance()
    expiry = Expiry(store, LIMIT)
    expiry.finish()
    list(expiry.run(LATER))


def steps(work: Callable[[BlockStore], None]) -> int:
    files, _ = filled()
    before = len(files.calls)
    work(fake_store(files))
    return len(files.calls) - before


def cut_short(work: Callable[[BlockStore], None], at: int) -> tuple[FakeFiles, Found]:
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


def repair_all(store: BlockStore) -> None:
    repair(store, LATER, apply=True)


@pytest.mark.parametrize("again", [compact_all, expire_all, repair_all])
@pytest.mark.parametrize(
    ("first", "at"), [(first, at) for first in (compact_all, expire_all) for at in range(steps(first))]
)
def test_what_a_killed_run_left_may_not_be_durable_and_nothing_is_deleted_on_its_word(
    first: Callable[[BlockStore], None], at: int, again: Callable[[BlockStore], None]
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


@pytest.mark.parametrize("at", range(0, steps(compact_all), 3))
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


def test_ctrl_c_takes_away_what_no_ledger_names_yet() -> None:
    files, before = filled()
    store = fake_store(files)
    blocks = present(store)

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(compact(store, TWO_EACH, LATER, stop))
    assert present(store) == blocks
    assert read_all(store) == before


# What is left over is deleted only if it is proven to be held elsewhere


def orphaned() -> tuple[FakeFiles, str]:
    """A store in which a killed compaction left a new block that no ledger names."""
    files, _ = filled()
    clean = fake_store(files)
    before = present(clean)
    for at in range(steps(compact_all)):
        cut, _ = cut_short(compact_all, at)
        after = cut.lose_power(names_survive=True, contents_survive=True)
        store = fake_store(after)
        if store.maintenance_days() == [] and (new := present(store) - before):
            return after, new.pop()
    pytest.fail("no such step")


def test_an_orphan_whose_records_others_hold_is_deleted() -> None:
    files, orphan = orphaned()
    store = fake_store(files)
    (report,) = run(store)
    assert report.orphans == 1
    assert orphan not in present(store)


@pytest.mark.parametrize("how", ["missing", "damaged"])
def test_an_orphan_that_holds_what_no_good_block_holds_stays(how: str) -> None:
    files, orphan = orphaned()
    store = fake_store(files)
    first = min(block for block in present(store) if block != orphan)
    if how == "missing":
        store.delete_block(first)
    else:
        content = files._get(root_of(store) / block_path(first)).content
        content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    (report,) = run(store)
    assert report.orphans == 0
    assert orphan in present(store)


def test_a_block_of_a_writer_that_has_a_ledger_is_no_orphan() -> None:
    files, _ = filled()
    store = fake_store(files)
    from maintenance_support import part

    again = put(store, 88, part(0, 1, 5))  # on its way: its entry comes next
    (report,) = run(store)
    assert report.orphans == 0
    assert again.block in present(store)


def left_over() -> tuple[FakeFiles, set[str], str]:
    """A store in which replaced blocks are still there; return them and the one that stands in for them."""
    for at in reversed(range(steps(compact_all))):
        files, _ = cut_short(compact_all, at)
        after = files.lose_power(names_survive=True, contents_survive=True)
        store = fake_store(after)
        replaced = {old: new for old, new in load_day(store, DAY).replaced.items() if old in present(store)}
        if len(replaced) == 2:
            return after, set(replaced), next(iter(replaced.values()))[0]
    pytest.fail("no such step")


def test_leftovers_are_deleted_when_their_stand_in_is_good() -> None:
    files, old, new = left_over()
    store = fake_store(files)
    (report,) = run(store)
    assert report.leftovers == 2
    assert not old & present(store)
    assert read_all(store)
    assert new


@pytest.mark.parametrize("how", ["missing", "damaged"])
def test_leftovers_stay_when_their_stand_in_is_not_good(how: str) -> None:
    files, old, new = left_over()
    store = fake_store(files)
    if how == "missing":
        store.delete_block(new)
    else:
        content = files._get(root_of(store) / block_path(new)).content
        content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    list(compact(store, TWO_EACH, LATER))
    assert old <= present(store)


def test_nothing_is_done_to_a_day_whose_maintenance_ledgers_are_damaged() -> None:
    files, old, _ = left_over()
    store = fake_store(files)
    (writer, _), *_ = store.maintenance_ledgers(DAY)
    content = files._get(root_of(store) / "ledger" / "maintenance" / DAY / f"{writer}.jsonl").content
    content[len(content) // 2] ^= 1
    blocks = present(store)
    (report,) = run(store)
    assert report.faults
    assert present(store) == blocks
    assert old <= blocks
