"""The command repair: what it puts in order, what it leaves alone, and that it deletes only what others hold."""

from __future__ import annotations

import errno
import json
import os
import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

import pytest
from fake_files import FakeFiles, PowerLoss
from maintenance_support import (
    DAY,
    LATER,
    ROOT,
    SMALL,
    empty_files,
    fake_store,
    fill,
    part,
    present,
    read_all,
    replaced_by,
    run,
    shard_name,
    usual,
)
from store_support import NOW, OTHER_WRITER, WRITER, begin, files_of, local_store, put, ranges_in, root_of, session_at

from kcl_receiver import records
from kcl_receiver.cli.main import run_cli
from kcl_receiver.errors import BlockDamaged, LedgerDamaged, StoreRefused, StoreUnavailable
from kcl_receiver.generator.presence import held_now
from kcl_receiver.maintenance.repair import (
    ACKNOWLEDGE,
    DELETE,
    SET_ASIDE,
    TAKE_IN,
    TEMPORARY_MILLIS,
    Report,
    repair,
)
from kcl_receiver.reader.verify import verify_store
from kcl_receiver.store.base import BlockStore
from kcl_receiver.store.entries import BlockStored, Expired
from kcl_receiver.store.handover import take_over
from kcl_receiver.store.ledger import LedgerIndex
from kcl_receiver.store.local import Directory
from kcl_receiver.store.maintenance import EXPIRE, RECOVER, Transaction, load_day
from kcl_receiver.store.names import block_id, block_path, ledger_path, maintenance_path, writer_id

THIRD_WRITER = writer_id(NOW + 120_000, "00000003")


@pytest.fixture
def files() -> FakeFiles:
    return empty_files()


def done(store: BlockStore, now: int = LATER) -> Report:
    return repair(store, now, apply=True)


def kinds(report: Report) -> list[tuple[str, str]]:
    return [(one.kind, one.thing) for one in report.actions]


def held(store: BlockStore) -> set[tuple[str, int, int, bytes]]:
    """Every record that lies in a whole range of some block, whatever any ledger says."""
    out = set()
    for block, _ in store.list_blocks():
        with suppress(BlockDamaged):
            for one, rows in ranges_in(store, block):
                columns = [rows.column(name).to_pylist() for name in ("sequence_number", "sub_sequence_number", "data")]
                out |= {(one.shard, int(number), sub, data) for number, sub, data in zip(*columns, strict=True)}
    return out


def counted(store: BlockStore) -> set[tuple[str, int, int, bytes]]:
    """Every record that a reader who believes the ledgers finds."""
    found = read_all(store)
    return {(shard, number, sub, data) for (_, shard, _, number, sub), each in found.items() for data in each}


def set_content(files: FakeFiles, path: str, content: bytes) -> None:
    node = files._get(ROOT / path)
    node.content[:] = content
    node.durable = content


def assert_in_order(files: FakeFiles) -> None:
    """Nothing is left to do, no ledger is faulty, and a generator can start."""
    again = repair(local_store(ROOT, files), LATER, apply=False)
    assert again.actions == []
    LedgerIndex.load(local_store(ROOT, files))
    take_over(local_store(ROOT, files))


def test_a_store_in_order_stays_as_it_is(files: FakeFiles) -> None:
    store = fake_store(files)
    fill(store, usual())
    run(store)
    before = len(files.calls)
    report = done(store)
    assert (report.actions, report.left, report.in_order) == ([], [], True)
    assert {call for call, _ in files.calls[before:]} <= {"fsync_dir"}  # nothing is changed


def test_there_must_be_a_store() -> None:
    with pytest.raises(StoreRefused, match="there is no store"):
        repair(fake_store(), LATER, apply=False)


# ---------------------------------------------------------------------- orphans


def test_a_block_that_its_writer_could_not_record_any_more_is_taken_in(files: FakeFiles) -> None:
    store = fake_store(files)
    fill(store, usual())
    orphan = put(store, 99, part(0, 500, 5))
    shown = repair(store, LATER, apply=False)
    assert kinds(shown) == [(TAKE_IN, orphan.block)]
    assert not shown.in_order
    assert store.maintenance_days() == []
    report = done(store)
    assert kinds(report) == [(TAKE_IN, orphan.block)]
    assert report.in_order
    entry = load_day(store, DAY).blocks[orphan.block]
    assert (entry.ranges, entry.rows, entry.size, entry.time, entry.replaces) == (orphan.ranges, 5, orphan.size, 0, ())
    assert_in_order(files)


def test_what_was_taken_in_and_then_compacted_is_held_at_the_next_start(files: FakeFiles) -> None:
    """The generator was killed before it recorded its last block; what that held must not be stored again."""
    store = fake_store(files)
    fill(store, usual())
    orphan = put(store, 99, part(0, 500, 5))
    done(store)
    run(store)
    assert orphan.block not in present(store)
    taken = take_over(fake_store(files))
    found = {entry.block: entry.ranges for entry in taken.blocks}
    assert [one.count for one in held_now(store, {orphan.block: found[orphan.block]})] == [5]
    assert len(found) == len(taken.blocks)


def test_all_of_a_day_is_one_transaction(files: FakeFiles) -> None:
    store = fake_store(files)
    fill(store, usual())
    for number in range(4):
        put(store, 90 + number, part(0, 500 + 5 * number, 5))
    done(store)
    assert len(list(store.maintenance_ledgers(DAY))) == 1
    assert len(load_day(store, DAY).blocks) == 4


def test_what_a_killed_compaction_made_and_others_hold_is_deleted(files: FakeFiles) -> None:
    store = fake_store(files)
    fill(store, usual())
    orphan = put(store, 1, *(one for block in usual() for one in block), writer=THIRD_WRITER)
    records = counted(store)
    assert kinds(done(store)) == [(DELETE, orphan.block)]
    assert orphan.block not in present(store)
    assert counted(store) == records
    assert_in_order(files)


@pytest.mark.parametrize("how", [lambda store: done(store), lambda store: run(store)])
def test_what_a_generator_took_over_from_a_lost_ledger_is_no_orphan(
    files: FakeFiles, how: Callable[[BlockStore], object]
) -> None:
    """A killed compaction and a lost ledger: old blocks and new one are recorded, and each is held by the other."""
    store = fake_store(files)
    fill(store, usual())
    put(store, 1, *(one for block in usual() for one in block), writer=THIRD_WRITER)
    records = held(store)
    remove(files, ledger_path(WRITER))
    begin(fake_store(files), OTHER_WRITER)
    how(fake_store(drop_locks(files)))
    after = fake_store(drop_locks(files))
    assert held(after) == counted(after) == records
    assert set(LedgerIndex.load(after).blocks()) - present(after) <= set(load_day(after, DAY).replaced)


def test_it_is_taken_in_if_one_range_is_held_nowhere_else(files: FakeFiles) -> None:
    store = fake_store(files)
    fill(store, usual())
    orphan = put(store, 1, part(0, 1, 5), part(0, 700, 5), writer=THIRD_WRITER)
    report = done(store)
    assert (TAKE_IN, orphan.block) in kinds(report)
    assert orphan.block in present(store)
    assert_in_order(files)


def test_it_is_taken_in_if_the_block_that_holds_its_ranges_is_damaged(files: FakeFiles) -> None:
    store = fake_store(files)
    entries = fill(store, usual(2))
    orphan = put(store, 1, *usual(2)[0], writer=THIRD_WRITER)
    content = bytearray(store.read_block(entries[0].block))
    content[40] ^= 0xFF
    set_content(files, block_path(entries[0].block), bytes(content))
    before = held(store)
    assert (TAKE_IN, orphan.block) in kinds(done(store))
    assert held(store) == before


def test_an_orphan_that_is_damaged_is_left_and_named(files: FakeFiles) -> None:
    store = fake_store(files)
    fill(store, usual())
    orphan = put(store, 99, part(0, 500, 5))
    set_content(files, block_path(orphan.block), store.read_block(orphan.block)[:-9])
    report = done(store)
    assert report.actions == []
    assert [one.thing for one in report.left] == [orphan.block]
    assert not report.in_order
    assert orphan.block in present(store)


# ---------------------------------------------------------------------- a generator beside it


def test_the_blocks_of_a_generator_at_work_are_left_alone(files: FakeFiles) -> None:
    store = fake_store(files)
    generator = fake_store(files)
    generator.hold()
    fill(generator, usual())
    on_its_way = put(generator, 99, part(0, 500, 5))
    report = done(store)
    assert report.actions == []
    assert [(one.thing, one.amiss) for one in report.left] == [(on_its_way.block, False)]
    assert report.in_order
    assert store.maintenance_days() == []


def test_the_blocks_that_a_starting_generator_takes_over_are_left_alone(files: FakeFiles) -> None:
    store = fake_store(files)
    fill(store, usual())
    old = put(store, 99, part(0, 500, 5))
    generator = fake_store(files)
    generator.hold()
    begin(generator, OTHER_WRITER, seal=True)
    unlisted = put(store, 98, part(0, 600, 5), writer=WRITER)
    assert [one.thing for one in repair(store, LATER, apply=True).left] == [unlisted.block]
    assert old.block in LedgerIndex.load(store).blocks()


def test_what_no_generator_will_record_is_put_in_order_beside_one(files: FakeFiles) -> None:
    store = fake_store(files)
    generator = fake_store(files)
    generator.hold()
    fill(generator, usual())
    orphan = put(store, 1, *usual()[0], writer=THIRD_WRITER)
    assert kinds(done(store)) == [(DELETE, orphan.block)]


def test_a_generator_that_has_no_ledger_yet_is_waited_for(files: FakeFiles) -> None:
    store = fake_store(files)
    lost = put(store, 1, part(0, 1, 5))
    generator = fake_store(files)
    generator.hold()
    report = done(store)
    assert report.actions == []
    assert [one.thing for one in report.left] == [lost.block]


def test_no_generator_begins_while_it_works_and_one_may_afterwards(files: FakeFiles) -> None:
    store = fake_store(files)
    fill(store, usual())
    put(store, 99, part(0, 500, 5))
    refused = []

    class Curious(Directory):
        def settle(self, key: str) -> None:
            with pytest.raises(StoreUnavailable, match="another generator"):
                fake_store(files).hold()
            refused.append(key)
            super().settle(key)

    done(BlockStore(Curious(ROOT, files)))
    assert len(refused) == 1
    fake_store(files).hold()


def test_other_maintenance_shuts_it_out_but_for_looking(files: FakeFiles) -> None:
    store = fake_store(files)
    fill(store, usual())
    other = fake_store(files)
    other.hold_maintenance()
    repair(store, LATER, apply=False)
    with pytest.raises(StoreUnavailable, match="other maintenance"):
        done(store)


# ---------------------------------------------------------------------- leftovers


def stopped_before_deletion(files: FakeFiles) -> None:
    """A compaction that was killed after its ledger was durable."""
    store = fake_store(files)
    fill(store, usual())

    class Killed(Directory):
        def delete(self, keys: Iterable[str]) -> None:
            raise PowerLoss

    with pytest.raises(PowerLoss):
        run(BlockStore(Killed(ROOT, files)))


def test_blocks_that_were_replaced_are_deleted(files: FakeFiles) -> None:
    stopped_before_deletion(files)
    store = local_store(ROOT, drop_locks(files))
    records = counted(store)
    old = {block for block in present(store) if replaced_by(store, block)}
    assert len(old) == 6
    assert {thing for kind, thing in kinds(done(store)) if kind == DELETE} == old
    assert present(store).isdisjoint(old)
    assert counted(store) == records


def test_blocks_that_were_replaced_are_deleted_even_if_their_own_ledger_is_lost(files: FakeFiles) -> None:
    stopped_before_deletion(files)
    remove(files, ledger_path(WRITER))
    records = held(fake_store(drop_locks(files)))
    report = done(fake_store(files))
    assert report.in_order
    assert [kind for kind, _ in kinds(report)].count(DELETE) == 6
    assert held(fake_store(drop_locks(files))) == counted(fake_store(files)) == records


def test_blocks_whose_stand_in_is_damaged_stay(files: FakeFiles) -> None:
    stopped_before_deletion(files)
    store = local_store(ROOT, drop_locks(files))
    [new] = {one for block in present(store) for one in replaced_by(store, block)}
    content = bytearray(store.read_block(new))
    content[40] ^= 0xFF
    set_content(files, block_path(new), bytes(content))
    before = held(store)
    report = done(store)
    assert report.actions == []
    assert len(report.left) == 6
    assert all("recover" in one.hint for one in report.left)
    assert held(store) == before


def test_blocks_that_were_replaced_in_part_stay(files: FakeFiles) -> None:
    store = fake_store(files)
    entries = fill(store, [[part(0, 1, 5), part(0, 20, 5)]])
    transaction = Transaction(store, entries[0].block, RECOVER, LATER)
    new = put(store, 1, part(0, 1, 5), writer=transaction.writer)
    transaction.add_block(new, entries)
    transaction.commit()
    report = done(store)
    assert report.actions == []
    assert [one.thing for one in report.left] == [entries[0].block]
    assert present(store) == {entries[0].block, new.block}


def test_a_deletion_relies_on_a_ledger_that_is_durable_only() -> None:
    """The compaction was killed between the name of its ledger and the fsync of it; then the power goes."""
    for stop in range(10_000):
        files = empty_files()
        fill(fake_store(files), usual())
        files.stop_at = stop
        try:
            run(fake_store(files))
        except PowerLoss:
            pass
        else:
            break
        files.stop_at = None
        done(local_store(ROOT, drop_locks(files)))
        after = local_store(ROOT, files.lose_power())
        index = LedgerIndex.load(after)
        missing = set(index.blocks()) - present(after) - set(index.replaced)
        assert not missing, stop


def test_blocks_that_were_removed_on_purpose_are_deleted(files: FakeFiles) -> None:
    store = fake_store(files)
    entries = fill(store, usual())
    transaction = Transaction(store, entries[0].block, EXPIRE, LATER)
    transaction.add_expired(Expired(LATER, LATER, (entries[0].block, entries[1].block)))
    transaction.commit()
    assert kinds(done(store)) == [(DELETE, entries[0].block), (DELETE, entries[1].block)]
    assert_in_order(files)


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
    begin(local_store(root_of(store)), OTHER_WRITER, seal=True)  # so that the first ledger is a sealed one
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


# ---------------------------------------------------------------------- a ledger that is lost or damaged


def drop_locks(files: FakeFiles) -> FakeFiles:
    """The process has ended: its locks have ended with it."""
    files._open.clear()
    files.stop_at = None
    return files


def remove(files: FakeFiles, path: str) -> None:
    files.unlink(ROOT / path)
    files.fsync_dir((ROOT / path).parent)


def test_a_lost_ledger_is_made_of_the_footers_and_said_to_be_lost(files: FakeFiles) -> None:
    store = fake_store(files)
    entries = fill(store, usual())
    records = held(store)
    remove(files, ledger_path(WRITER))
    report = done(store)
    assert {thing for kind, thing in kinds(report) if kind == TAKE_IN} == {one.block for one in entries}
    assert (ACKNOWLEDGE, WRITER) in kinds(report)
    assert counted(store) == records
    assert [(one.writer, one.line) for one in load_day(store, DAY).acknowledged] == [(WRITER, 1)]
    assert_in_order(files)


def two_writers(files: FakeFiles) -> tuple[list[BlockStored], list[BlockStored]]:
    """Two generators, one after the other; the first one's ledger is sealed."""
    store = fake_store(files)
    first = fill(store, usual(3))
    ledger = begin(store, OTHER_WRITER, seal=True)
    second = [put(store, number, part(0, 100 + 5 * number, 5), writer=OTHER_WRITER) for number in range(1, 4)]
    ledger.append(second)
    return first, second


SEALED = f"ledger/sealed/2026-11/{WRITER}.jsonl"


def spoil_line(content: bytes, number: int) -> bytes:
    lines = content.splitlines(keepends=True)
    lines[number - 1] = lines[number - 1].replace(b'"number":', b'"other":', 1)
    return b"".join(lines)


DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes | None]]] = {
    "a line of the open one": (ledger_path(OTHER_WRITER), lambda content: spoil_line(content, 4)),
    "the first line of the open one": (ledger_path(OTHER_WRITER), lambda content: spoil_line(content, 1)),
    "a line of the sealed one": (SEALED, lambda content: spoil_line(content, 4)),
    "the end of the sealed one": (SEALED, lambda content: b"".join(content.splitlines(keepends=True)[:-2])),
    "all of the sealed one": (SEALED, lambda content: None),
    "other lines in the sealed one": (SEALED, lambda content: content.splitlines(keepends=True)[0] * 2),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_ledger_is_kept_aside_and_what_the_blocks_say_is_recorded_anew(files: FakeFiles, damage: str) -> None:
    first, second = two_writers(files)
    path, spoil = DAMAGES[damage]
    store = fake_store(files)
    records = held(store)
    written = files.read(ROOT / path).splitlines(keepends=True)
    spoilt = spoil(files.read(ROOT / path))
    if spoilt is None:
        remove(files, path)
    else:
        set_content(files, path, spoilt)
    with pytest.raises(LedgerDamaged):
        take_over(fake_store(files))
    report = done(fake_store(files))
    assert report.in_order
    writer = OTHER_WRITER if OTHER_WRITER in path else WRITER
    assert (ACKNOWLEDGE, writer) in kinds(report)
    after = local_store(ROOT, drop_locks(files).lose_power())
    assert counted(after) == records
    index = LedgerIndex.load(after)
    assert {one.block for one in (*first, *second)} <= set(index.blocks())
    assert index.adopted == []
    take_over(after)
    proof = verify_store(after)
    assert (proof.ledger_faults, proof.missing, proof.damaged, proof.orphans) == ([], [], {}, [])
    pairs = zip(written, (spoilt or b"").splitlines(keepends=True), strict=False)
    whole = len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
    assert [(one.writer, one.line) for one in proof.acknowledged] == [(writer, whole + 1)]  # it is told for ever
    if spoilt is not None and spoilt not in (after.ledger(writer), b""):
        [kept] = files_of(after).listdir(ROOT / "ledger/damaged")
        assert files_of(after).read(ROOT / "ledger/damaged" / kept.name) == spoilt
        assert (SET_ASIDE, writer) in kinds(report)
        assert proof.leftovers == []  # what repair keeps is nobody's to clear away
    assert_in_order(drop_locks(files))


def test_lost_lines_of_a_day_without_blocks_are_told_too(files: FakeFiles) -> None:
    store = fake_store(files)
    store.claim("landing")
    begin(store, WRITER).append([session_at()])
    begin(store, OTHER_WRITER, seal=True)
    remove(files, SEALED)
    assert verify_store(store).ledger_faults
    assert kinds(done(store)) == [(ACKNOWLEDGE, WRITER)]
    proof = verify_store(fake_store(drop_locks(files)))
    assert (proof.ledger_faults, [one.writer for one in proof.acknowledged]) == ([], [WRITER])
    take_over(fake_store(files))


@pytest.mark.parametrize("lines", [0, 1, 4, 6])
def test_a_reader_finds_what_was_compacted_before_its_ledger_was_lost(tmp_path: Path, lines: int) -> None:
    """The old blocks are gone, and so are the lines that would lead a reader to what stands in for them."""
    store = local_store(tmp_path / "store")
    store.claim("landing")
    fill(store, usual())
    ledger = begin(store, OTHER_WRITER, seal=True)
    run(store)
    ledger.append([put(store, 1, part(0, 31, 5), part(1, 31, 5), writer=OTHER_WRITER)])
    path = root_of(store) / SEALED
    content = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(content[:lines]) + b"no line\n")
    assert done(store).in_order
    found = [(one.shard, one.position.sequence_number) for one in records(local_store(root_of(store)))]
    assert sorted(found) == [(shard_name(shard), number) for shard in range(2) for number in range(1, 36)]


def test_a_damaged_ledger_stays_as_it_is_while_a_generator_is_at_work(files: FakeFiles) -> None:
    two_writers(files)
    set_content(files, SEALED, spoil_line(files.read(ROOT / SEALED), 4))
    spoilt = files.read(ROOT / SEALED)
    generator = fake_store(files)
    generator.hold()
    report = done(fake_store(files))
    assert not report.in_order
    [named] = [one for one in report.left if one.amiss]
    assert named.thing == f"ledger of {WRITER}"
    assert "stop the receiver" in named.hint
    assert files.read(ROOT / SEALED) == spoilt


MAINTENANCE_DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "a line": lambda content: spoil_line(content, 2),
    "the first line": lambda content: spoil_line(content, 1),
    "the end": lambda content: content[:-30],
    "everything in it": lambda content: b"",
    "all of it": lambda content: None,
}


@pytest.mark.parametrize("damage", MAINTENANCE_DAMAGES)
@pytest.mark.parametrize("seen", [False, True])
def test_a_damaged_ledger_of_maintenance_is_mended_by_what_the_blocks_say(
    files: FakeFiles, damage: str, seen: bool
) -> None:
    store = fake_store(files)
    entries = fill(store, usual())
    records = held(store)
    [made] = run(store)
    assert made.merged == len(entries)
    [(writer, content)] = store.maintenance_ledgers(DAY)
    if seen:
        transaction = Transaction(store, entries[0].block, EXPIRE, LATER)
        transaction.add_expired(Expired(LATER, LATER, (block_id(WRITER, 77),)))
        transaction.commit()
    spoilt = MAINTENANCE_DAMAGES[damage](content)
    if spoilt is None:
        remove(files, maintenance_path(writer))
    else:
        set_content(files, maintenance_path(writer), spoilt)
    report = done(local_store(ROOT, drop_locks(files)))
    assert report.in_order
    after = local_store(ROOT, drop_locks(files).lose_power())
    changes = load_day(after, DAY)
    assert changes.faults == []
    proof = verify_store(after, deep=True)
    assert (proof.ledger_faults, proof.missing, proof.damaged, proof.orphans) == ([], [], {}, [])
    assert set(changes.replaced) >= {one.block for one in entries}
    assert counted(after) == records
    assert_in_order(drop_locks(files))


# ---------------------------------------------------------------------- killed at any point


def killed_compaction(files: FakeFiles) -> None:
    stopped_before_deletion(files)
    drop_locks(files)
    put(local_store(ROOT, files), 1, *usual()[0], writer=THIRD_WRITER)
    put(local_store(ROOT, files), 99, part(0, 500, 5))


def lost_ledger(files: FakeFiles) -> None:
    fill(fake_store(files), usual(3))
    remove(files, ledger_path(WRITER))


def damaged_ledger(files: FakeFiles) -> None:
    two_writers(files)
    set_content(files, SEALED, spoil_line(files.read(ROOT / SEALED), 3))


def damaged_open_ledger(files: FakeFiles) -> None:
    two_writers(files)
    path = ledger_path(OTHER_WRITER)
    set_content(files, path, spoil_line(files.read(ROOT / path), 4))


ACKNOWLEDGED = {
    killed_compaction: [],
    lost_ledger: [WRITER],
    damaged_ledger: [WRITER],
    damaged_open_ledger: [OTHER_WRITER],
}


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("scene", [killed_compaction, lost_ledger, damaged_ledger, damaged_open_ledger])
def test_it_may_be_killed_between_any_two_steps_and_run_again(scene: Callable[[FakeFiles], None], power: bool) -> None:
    for stop in range(10_000):
        files = empty_files()
        scene(files)
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
        assert_in_order(files)
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
        ledger = begin(store, OTHER_WRITER, seal=rng.random() < 0.7)
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
        damage_something(files, rng)
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


def damage_something(files: FakeFiles, rng: random.Random) -> None:
    paths = [
        path
        for folder in (f"blocks/{DAY}", "ledger", "ledger/sealed/2026-11", f"ledger/maintenance/{DAY}")
        if files.is_dir(ROOT / folder)
        for found in sorted(files.listdir(ROOT / folder))
        if not found.is_dir
        for path in [f"{folder}/{found.name}"]
    ]
    path = rng.choice(paths)
    content = bytearray(files.read(ROOT / path))
    kind = rng.choice(["gone", "cut", "flip"])
    if kind == "gone" or not content:
        remove(files, path)
    elif kind == "cut":
        set_content(files, path, bytes(content[: rng.randrange(len(content))]))
    else:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        set_content(files, path, bytes(content))


# ---------------------------------------------------------------------- the command


@pytest.fixture
def store(tmp_path: Path) -> BlockStore:
    store = local_store(tmp_path / "store")
    store.claim("landing")
    fill(store, usual(2))
    put(store, 99, part(0, 500, 5))
    return store


def test_without_a_terminal_it_shows_and_does_nothing(store: BlockStore, capsys: pytest.CaptureFixture[str]) -> None:
    for options in ([], ["--dry-run"], ["--dry-run", "--yes"]):
        assert run_cli(["repair", "--store", store.url, *options]) == 1
        shown = capsys.readouterr()
        assert "To do: take in (1)" in shown.out
        assert ("give --yes" in shown.err) == (not options)
        assert store.maintenance_days() == []


def test_with_yes_it_is_done_and_the_next_run_has_nothing_to_do(
    store: BlockStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(["repair", "--store", store.url, "--yes"]) == 0
    assert "Done: take in (1)" in capsys.readouterr().out
    assert run_cli(["repair", "--store", store.url]) == 0
    assert "Nothing to do" in capsys.readouterr().out


def test_the_json_says_all(store: BlockStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["repair", "--store", store.url, "--output", "json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert shown == {
        "version": 1,
        "store": store.url,
        "done": False,
        "in_order": False,
        "actions": [{"kind": "take in", "thing": block_id(WRITER, 99), "reason": "it is in no ledger; 5 records"}],
        "left": [],
    }


@pytest.mark.parametrize("answer", ["y\n", "n\n"])
def test_on_a_terminal_it_asks(store: BlockStore, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    monkeypatch.setattr("click.confirm", lambda text: answer == "y\n" and text == "Do this?")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert run_cli(["repair", "--store", store.url]) == (0 if answer == "y\n" else 1)
    assert bool(store.maintenance_days()) == (answer == "y\n")


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
    for stop in range(10_000):
        files = empty_files()
        fill(fake_store(files), usual())
        files.stop_at = stop
        try:
            run(fake_store(files))
        except PowerLoss:
            pass
        else:
            break
        run(local_store(ROOT, drop_locks(files)))
        after = local_store(ROOT, files.lose_power())
        index = LedgerIndex.load(after)
        assert set(index.blocks()) - present(after) <= set(index.replaced), stop
