"""Compaction, expiry and repair are killed at every single change of a place, and begun again.

What a loss of power adds on a file system is in `test_maintenance_faults`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from maintenance_support import DAY, LATER, Found, counted, fill, part, present, read_all, run, usual
from places import KilledHere, Mortal, Place, end_process, kept_block, kept_ledger, memory
from store_support import NOW, put

from kcl_receiver.maintenance import compact as module
from kcl_receiver.maintenance.compact import Options, compact
from kcl_receiver.maintenance.expire import Expiry
from kcl_receiver.maintenance.repair import repair
from kcl_receiver.store.ledger.transaction import load_day
from kcl_receiver.store.store import Store

TWO_EACH = Options(target_bytes=5_000)
"""Makes a block of each two."""
LIMIT = NOW + 21


def filled(store: Store) -> Found:
    fill(store, usual(5))
    return read_all(store)


def compact_all(store: Store) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "GROUPS_AT_ONCE", 1)
        run(store, TWO_EACH)


def expire_all(store: Store) -> None:
    store.hold_maintenance()
    expiry = Expiry(store, LIMIT)
    expiry.finish()
    list(expiry.run(LATER))


def repair_all(store: Store) -> None:
    assert repair(store, LATER, apply=True).in_order


def ends(store: Store, work: Callable[[Store], None], at: int = -1) -> bool:
    """Let a process do some work that is killed at a change; return whether it came to its end before."""
    mine = Store(Mortal(store.objects, at))
    try:
        work(mine)
    except KilledHere:
        return False
    finally:
        end_process(mine)
    return True


@pytest.mark.parametrize("again", [compact_all, expire_all, repair_all])
@pytest.mark.parametrize("first", [compact_all, expire_all])
def test_what_is_killed_loses_and_doubles_nothing_and_the_next_run_ends_it(
    first: Callable[[Store], None],
    again: Callable[[Store], None],
) -> None:
    """In memory; what a directory's steps are is in `test_maintenance_faults`."""
    for at in range(1_000):
        store = memory()()
        before = filled(store)
        younger = {key: data for key, data in before.items() if key[3] > 20}
        ended = ends(store, first, at)
        # What is gone was named before it went: whoever believes the ledgers misses nothing.
        assert read_all(store) in ((before,) if first is compact_all else (before, younger))
        assert ends(store, again)
        assert read_all(store) in ((before,) if expire_all not in (first, again) else (before, younger))
        assert ends(store, first)
        if again is not expire_all:  # or a block may be left that no ledger names, and whose records have expired
            assert present(store) == set(counted(store))
        if ended:
            assert at > 3
            return


def test_ctrl_c_takes_away_what_no_ledger_names_yet(quick_place: Place) -> None:
    store = quick_place()
    before = filled(store)
    blocks = present(store)

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(compact(store, TWO_EACH, LATER, stop))
    assert present(store) == blocks
    assert read_all(store) == before


# What is left over is deleted only if it is proven to be held elsewhere


def orphaned(place: Place) -> tuple[Store, str]:
    """Return a store with a new block that no ledger names, as a compaction leaves it that is killed; and the block."""
    for at in range(10):
        store = place(f"{at}")
        filled(store)
        before = present(store)
        assert not ends(store, compact_all, at)
        if store.maintenance_days() == [] and (new := present(store) - before):
            return store, new.pop()
    pytest.fail("no such change")


def test_an_orphan_whose_records_others_hold_is_deleted(quick_place: Place) -> None:
    store, orphan = orphaned(quick_place)
    (report,) = run(store)
    assert report.orphans == 1
    assert orphan not in present(store)


def damage(store: Store, block: str) -> None:
    kept = kept_block(store, block)
    content = kept.read()
    half = len(content) // 2
    kept.write(content[:4] + bytes(half - 4) + content[half:])


@pytest.mark.parametrize("how", ["missing", "damaged"])
def test_an_orphan_that_holds_what_no_good_block_holds_stays(quick_place: Place, how: str) -> None:
    store, orphan = orphaned(quick_place)
    first = min(block for block in present(store) if block != orphan)
    if how == "missing":
        store.delete_block(first)
    else:
        damage(store, first)
    (report,) = run(store)
    assert report.orphans == 0
    assert orphan in present(store)


def test_a_block_of_a_writer_that_has_a_ledger_is_no_orphan(quick_place: Place) -> None:
    store = quick_place()
    filled(store)
    again = put(store, 88, part(0, 1, 5))  # on its way: its entry comes next
    (report,) = run(store)
    assert report.orphans == 0
    assert again.block in present(store)


def killed_before_deletion(store: Store, work: Callable[[Store], None]) -> None:
    mine = Store(store.objects)

    def kill(_: object) -> None:
        raise KilledHere

    mine.delete_blocks = kill  # type: ignore[method-assign]
    with pytest.raises(KilledHere):
        work(mine)
    end_process(mine)


def left_over(store: Store) -> tuple[set[str], str]:
    """Leave replaced blocks in place, as a compaction does that is killed; return them and what stands in for them."""
    filled(store)
    killed_before_deletion(store, compact_all)
    replaced = load_day(store, DAY).replaced
    assert len(replaced) == 2
    ((new,),) = {*replaced.values()}
    return set(replaced), new


def test_leftovers_are_deleted_when_their_stand_in_is_good(quick_place: Place) -> None:
    store = quick_place()
    old, _ = left_over(store)
    (report,) = run(store)
    assert report.leftovers == 2
    assert not old & present(store)
    assert read_all(store)


@pytest.mark.parametrize("how", ["missing", "damaged"])
def test_leftovers_stay_when_their_stand_in_is_not_good(quick_place: Place, how: str) -> None:
    store = quick_place()
    old, new = left_over(store)
    if how == "missing":
        store.delete_block(new)
    else:
        damage(store, new)
    list(compact(store, TWO_EACH, LATER))
    assert old <= present(store)


def test_nothing_is_done_to_a_day_whose_maintenance_ledgers_are_damaged(quick_place: Place) -> None:
    store = quick_place()
    old, _ = left_over(store)
    (writer, _), *_ = store.maintenance_ledgers(DAY)
    kept = kept_ledger(store, writer)
    kept.flip(len(kept.read()) // 2, 1)
    blocks = present(store)
    (report,) = run(store)
    assert report.faults
    assert present(store) == blocks
    assert old <= blocks


def test_what_a_killed_expiry_left_is_deleted_by_the_next_compaction_too(quick_place: Place) -> None:
    store = quick_place()
    filled(store)
    killed_before_deletion(store, expire_all)
    left = present(store) & set(load_day(store, DAY).expired)
    assert left
    (report,) = run(store)
    assert report.leftovers == len(left)
    assert not present(store) & left
