"""Repair on a file system: killed at any of its steps, by a loss of power too, and the files that others left."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from fake_files import FakeFiles, PowerLoss
from ledger_index import LedgerIndex
from maintenance_support import DAY, LATER, ROOT, SMALL, empty_files, fake_store, fill, part, present, run, usual
from places import Kept, Place, kept_ledger
from store_support import OTHER_WRITER, WRITER, begin, local_store, put, root_of
from test_repair import (
    ACKNOWLEDGED,
    DAMAGES,
    MAINTENANCE_DAMAGES,
    THIRD_WRITER,
    assert_in_order,
    counted,
    damage_something,
    done,
    held,
    kinds,
    two_writers,
)

from kcl_receiver.errors import BlockDamaged, LedgerDamaged, StoreUnavailable
from kcl_receiver.ids import block_id
from kcl_receiver.maintenance.repair import DELETE, TEMPORARY_MILLIS, repair
from kcl_receiver.store.ledger.transaction import load_day
from kcl_receiver.store.local import Directory


@pytest.fixture
def files() -> FakeFiles:
    return empty_files()


def place_on(files: FakeFiles) -> Place:
    return Place(lambda _: Directory(ROOT, files))


def drop_locks(files: FakeFiles) -> FakeFiles:
    """The process has ended: its locks have ended with it."""
    files._open.clear()
    files.stop_at = None
    return files


def test_a_store_in_order_stays_as_it_is(files: FakeFiles) -> None:
    store = fake_store(files)
    fill(store, usual())
    run(store)
    before = len(files.calls)
    report = done(store)
    assert (report.actions, report.left, report.in_order) == ([], [], True)
    assert {call for call, _ in files.calls[before:]} <= {"fsync_dir"}  # nothing is changed


@pytest.mark.parametrize("damage", [*DAMAGES, *MAINTENANCE_DAMAGES])
def test_what_it_mends_survives_a_loss_of_power(files: FakeFiles, damage: str) -> None:
    place = place_on(files)
    if damage in DAMAGES:
        two_writers(place)
        key, spoil = DAMAGES[damage]
        kept = Kept(place(), key)
    else:
        fill(place(), usual())
        run(place())
        [(writer, _)] = place().maintenance_ledgers(DAY)
        kept, spoil = kept_ledger(place(), writer), MAINTENANCE_DAMAGES[damage]
    records = held(place())
    spoilt = spoil(kept.read())
    if spoilt is None:
        kept.remove()
    else:
        kept.write(spoilt)
    place.end_processes()
    assert done(place()).in_order
    after = local_store(ROOT, drop_locks(files).lose_power())
    assert load_day(after, DAY).faults == []
    assert counted(after) == records


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("scene", ACKNOWLEDGED)
def test_it_may_be_killed_between_any_two_steps_and_run_again(scene: Callable[[Place], None], power: bool) -> None:
    for stop in range(10_000):
        files = empty_files()
        scene(place_on(files))
        drop_locks(files)
        before = held(local_store(ROOT, files))
        files.stop_at = stop
        try:
            done(local_store(ROOT, files))
        except PowerLoss:
            pass
        else:
            assert stop > 3
            break
        files = files.lose_power() if power else drop_locks(files)
        assert held(local_store(ROOT, files)) == before
        assert done(local_store(ROOT, files)).in_order
        drop_locks(files)
        assert held(local_store(ROOT, files)) == before
        assert counted(local_store(ROOT, files)) == before
        assert_in_order(place_on(files))
        told = [one.writer for one in load_day(local_store(ROOT, files), DAY).acknowledged]
        assert told == ACKNOWLEDGED[scene], "what was lost is not told, or twice"
        after = files.lose_power()
        told = [one.writer for one in load_day(local_store(ROOT, after), DAY).acknowledged]
        assert told == ACKNOWLEDGED[scene], "what a killed run had written was relied on before it was durable"
        done(local_store(ROOT, after))
        assert counted(local_store(ROOT, drop_locks(after))) == before


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happened_to_a_store_no_record_that_could_be_read_is_lost(seed: int) -> None:
    """Random stores, compactions that were killed, files that were taken away, cut off, or changed by a byte."""
    rng = random.Random(seed)
    files = empty_files()
    store = fake_store(files)
    fill(store, usual(rng.randint(1, 6)))
    if rng.random() < 0.5:
        ledger = begin(store, OTHER_WRITER)
        ledger.append([put(store, n, part(0, 100 + 5 * n, 5), writer=OTHER_WRITER) for n in range(1, 4)])
    for _ in range(rng.randint(0, 2)):
        files.stop_at = rng.randint(1, 60) if rng.random() < 0.7 else None
        with suppress(PowerLoss, LedgerDamaged):
            run(local_store(ROOT, files), SMALL, LATER)
        if rng.random() < 0.3:
            files = files.lose_power(names_survive=rng.random() < 0.5)
        drop_locks(files)
    if rng.random() < 0.5:
        put(
            local_store(ROOT, files),
            rng.randint(50, 99),
            part(0, 900, 5),
            writer=rng.choice([WRITER, THIRD_WRITER]),
        )
    for _ in range(rng.randint(0, 3)):
        damage_something(local_store(ROOT, files), rng)
    before = held(local_store(ROOT, files))
    believed = set[tuple[str, int, int, bytes]]()
    try:
        believed = counted(local_store(ROOT, files)) & before
    except (BlockDamaged, LedgerDamaged, StoreUnavailable, KeyError, AssertionError):
        pass  # a reader would stop at the damage
    except Exception as error:  # noqa: BLE001 - a block that is missing, told by the store
        assert type(error).__name__ == "BlockMissing"  # noqa: PT017
    if rng.random() < 0.4:
        files.stop_at = rng.randint(0, 40)
    try:
        done(local_store(ROOT, files))
    except PowerLoss:
        if rng.random() < 0.5:
            files = files.lose_power(names_survive=rng.random() < 0.5)
    drop_locks(files)
    report = done(local_store(ROOT, files))
    drop_locks(files)
    after = local_store(ROOT, files)
    assert held(after) == before
    index = LedgerIndex.load(after)
    readable = {block for block in present(after) if block not in {one.thing for one in report.left}}
    assert readable <= set(index.blocks())
    if believed:
        assert believed <= held(after)
    assert repair(after, LATER, apply=False).actions == []


def killed_compactions() -> Iterator[tuple[int, FakeFiles]]:
    """Yield what a compaction leaves that is killed before each of its calls, and the number of the call."""
    for stop in range(10_000):
        files = empty_files()
        fill(fake_store(files), usual())
        files.stop_at = stop
        try:
            run(fake_store(files))
        except PowerLoss:
            yield stop, files
        else:
            break


def test_a_deletion_relies_on_a_ledger_that_is_durable_only() -> None:
    """The compaction was killed between the name of its ledger and the fsync of it; then the power goes."""
    for stop, files in killed_compactions():
        files.stop_at = None
        done(local_store(ROOT, drop_locks(files)))
        after = local_store(ROOT, files.lose_power())
        index = LedgerIndex.load(after)
        missing = set(index.blocks()) - present(after) - set(index.replaced)
        assert not missing, stop


def test_a_store_that_breaks_is_an_error_and_nothing_is_half_done(files: FakeFiles) -> None:
    store = fake_store(files)
    fill(store, usual())
    put(store, 99, part(0, 500, 5))
    files.fail("link", errno.EIO, "maintenance")
    with pytest.raises(StoreUnavailable):
        done(store)
    assert load_day(local_store(ROOT, drop_locks(files)), DAY).blocks == {}
    assert done(local_store(ROOT, files)).in_order


def test_a_compaction_deletes_what_another_replaced_on_a_durable_word_only() -> None:
    for stop, files in killed_compactions():
        run(local_store(ROOT, drop_locks(files)))
        after = local_store(ROOT, files.lose_power())
        index = LedgerIndex.load(after)
        assert set(index.blocks()) - present(after) <= set(index.replaced), stop


def test_temporary_files_that_nobody_writes_are_deleted(tmp_path: Path) -> None:
    store = local_store(tmp_path / "store")
    fill(store, usual(1))
    generator = local_store(root_of(store))
    generator.hold()
    now = int(root_of(store).stat().st_mtime * 1000)
    names = {f"{block_id(WRITER, 7)}.parquet.00000001.tmp": 0, f"{block_id(WRITER, 8)}.parquet.00000002.tmp": 0}
    for name in names:
        (root_of(store) / "tmp" / name).write_bytes(b"half")
    (root_of(store) / "tmp" / "stranger").write_bytes(b"")
    old, young = names
    long_ago = (now - TEMPORARY_MILLIS - 1000) / 1000
    for name in (old, "stranger"):
        os.utime(root_of(store) / "tmp" / name, (long_ago, long_ago))
    assert done(store, now).actions == []
    for lock in generator._held.values():
        lock.release()
    assert kinds(done(store, now)) == [(DELETE, f"tmp/{old}")]
    assert {path.name for path in (root_of(store) / "tmp").iterdir()} == {young, "stranger"}


def test_a_generator_that_begins_removes_what_killed_ones_could_not_finish(tmp_path: Path) -> None:
    store = local_store(tmp_path / "store")
    fill(store, usual(1))
    begin(local_store(root_of(store)), OTHER_WRITER)  # so that the first ledger is a closed one
    strays = {
        f"{block_id(WRITER, 7)}.parquet.00000001.tmp",
        f"{block_id(OTHER_WRITER, 1)}.parquet.00000002.tmp",
        f"{OTHER_WRITER}.jsonl.00000003.tmp",
    }
    others = {f"{block_id(THIRD_WRITER, 1)}.parquet.00000004.tmp", "repair-000000001.json.00000005.tmp", "stranger"}
    for name in strays | others:
        (root_of(store) / "tmp" / name).write_bytes(b"half")
    generator = local_store(root_of(store))
    generator.hold()
    assert {path.name for path in (root_of(store) / "tmp").iterdir()} == others  # maintenance may be at work
    mine = root_of(store) / "tmp" / f"{block_id(WRITER, 8)}.parquet.00000006.tmp"
    mine.write_bytes(b"half")
    generator.hold()
    with pytest.raises(StoreUnavailable):
        local_store(root_of(store)).hold()
    assert mine.exists()


def test_a_temporary_file_that_cannot_be_removed_keeps_no_generator_from_beginning(files: FakeFiles) -> None:
    store = fake_store(files)
    fill(store, usual(1))
    files.create(ROOT / "tmp" / f"{block_id(WRITER, 7)}.parquet.00000001.tmp")
    files.fail("unlink", errno.EPERM)
    fake_store(files).hold()
    assert [size for name, size in store.list_leftovers() if name.startswith("tmp/")] == [0]
