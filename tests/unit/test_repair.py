"""Repair: what it puts in order, what it leaves alone, and that it deletes only what others hold."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from itertools import takewhile

import pytest
from ledger_index import LedgerIndex
from maintenance_support import (
    DAY,
    LATER,
    fill,
    part,
    present,
    read_all,
    replaced_by,
    run,
    shard_name,
    usual,
)
from places import Kept, KilledHere, Mortal, Place, end_process, kept_entry, memory, memory_with_locks
from store_support import NOW, OTHER_WRITER, WRITER, begin, put, ranges_in, session_at

from kcl_receiver import records
from kcl_receiver.audit.verify import verify_store
from kcl_receiver.errors import BlockDamaged, BlockMissing, LedgerDamaged, StoreRefused, StoreUnavailable
from kcl_receiver.generator.presence import present_ranges
from kcl_receiver.ids import block_id, writer_id
from kcl_receiver.maintenance.repair import (
    ACKNOWLEDGE,
    BEGIN_ANEW,
    DELETE,
    SET_ASIDE,
    TAKE_IN,
    Report,
    repair,
)
from kcl_receiver.store.layout import block_path, ledger_path, log_path
from kcl_receiver.store.ledger.entries import BlockStored, Expired
from kcl_receiver.store.ledger.store_log import StoreLog, settled
from kcl_receiver.store.ledger.takeover import take_over
from kcl_receiver.store.ledger.transaction import EXPIRE, RECOVER, Transaction, load_day
from kcl_receiver.store.ledger.walk import LOG_IS_LOST
from kcl_receiver.store.objects import Checked
from kcl_receiver.store.store import Store

THIRD_WRITER = writer_id(NOW + 120_000, "00000003")


@pytest.fixture
def place(locking_place: Place) -> Place:
    return locking_place


def ended(place: Place) -> Store:
    """Return the store as it is found after all processes that had it have ended."""
    place.end_processes()
    return place()


def done(store: Store, now: int = LATER) -> Report:
    return repair(store, now, apply=True)


def kinds(report: Report) -> list[tuple[str, str]]:
    return [(one.kind, one.thing) for one in report.actions]


def held(store: Store) -> set[tuple[str, int, int, bytes]]:
    """Every record that lies in a whole range of some block, whatever any ledger says."""
    out = set()
    for block, _ in store.list_blocks():
        with suppress(BlockDamaged):
            for one, rows in ranges_in(store, block):
                columns = [rows.column(name).to_pylist() for name in ("sequence_number", "sub_sequence_number", "data")]
                out |= {(one.shard, int(number), sub, data) for number, sub, data in zip(*columns, strict=True)}
    return out


def counted(store: Store) -> set[tuple[str, int, int, bytes]]:
    """Every record that a reader who believes the ledgers finds."""
    found = read_all(store)
    return {(shard, number, sub, data) for (_, shard, _, number, sub), each in found.items() for data in each}


def assert_in_order(place: Place) -> None:
    """Nothing is left to do, no ledger is faulty, and a generator can start."""
    again = repair(place(), LATER, apply=False)
    assert again.actions == []
    LedgerIndex.load(place())
    take_over(place())


def test_there_must_be_a_store(place: Place) -> None:
    with pytest.raises(StoreRefused, match="there is no store"):
        repair(place(), LATER, apply=False)


# ---------------------------------------------------------------------- orphans


def test_a_block_that_its_writer_could_not_record_any_more_is_taken_in(place: Place) -> None:
    store = place()
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
    assert_in_order(place)


def test_what_was_taken_in_and_then_compacted_is_held_at_the_next_start(place: Place) -> None:
    """The generator was killed before it recorded its last block; what that held must not be stored again."""
    store = place()
    fill(store, usual())
    orphan = put(store, 99, part(0, 500, 5))
    done(store)
    run(store)
    assert orphan.block not in present(store)
    taken = take_over(place())
    found = {entry.block: entry.ranges for entry in taken.blocks}
    assert [one.count for one in present_ranges(store, {orphan.block: found[orphan.block]})] == [5]
    assert len(found) == len(taken.blocks)


def test_what_was_compacted_is_held_at_the_next_start_though_its_ledger_is_lost(place: Place) -> None:
    store = place()
    fill(store, usual())
    begin(store, OTHER_WRITER)
    run(store)
    (merged,) = present(store)
    Kept(place(), ledger_path(WRITER)).remove()
    done(ended(place))
    taken = take_over(place())
    assert WRITER in taken.state.kept
    assert merged in {entry.block for entry in taken.blocks}


def test_a_ledger_is_missed_all_of_whose_blocks_were_compacted(place: Place) -> None:
    """It was closed and needed no more; what stands in for its blocks says that it was there."""
    store = place()
    fill(store, usual())
    begin(store, OTHER_WRITER)
    StoreLog(store).change(lambda state: settled(state, OTHER_WRITER, NOW, (), {}))
    run(store)
    records = held(store)
    Kept(place(), ledger_path(WRITER)).remove()
    assert kinds(done(ended(place))) == [(ACKNOWLEDGE, WRITER)]
    assert kinds(done(ended(place))) == []
    assert held(ended(place)) == records


def test_all_of_a_day_is_one_transaction(place: Place) -> None:
    store = place()
    fill(store, usual())
    for number in range(4):
        put(store, 90 + number, part(0, 500 + 5 * number, 5))
    done(store)
    assert len(list(store.maintenance_ledgers(DAY))) == 1
    assert len(load_day(store, DAY).blocks) == 4


def test_what_a_killed_compaction_made_and_others_hold_is_deleted(place: Place) -> None:
    store = place()
    fill(store, usual())
    orphan = put(store, 1, *(one for block in usual() for one in block), writer=THIRD_WRITER)
    records = counted(store)
    assert kinds(done(store)) == [(DELETE, orphan.block)]
    assert orphan.block not in present(store)
    assert counted(store) == records
    assert_in_order(place)


@pytest.mark.parametrize("compacted", [False, True])
def test_what_a_lost_ledger_recorded_is_no_orphan(place: Place, compacted: bool) -> None:
    """A killed compaction, and ledger and log lost: no ledger leads to old blocks and new one until `repair`."""
    store = place()
    fill(store, usual())
    put(store, 1, *(one for block in usual() for one in block), writer=THIRD_WRITER)
    records = held(store)
    Kept(place(), ledger_path(WRITER)).remove()
    store.objects.delete([one.key for one in store.objects.list("log/")])
    begin(place(), OTHER_WRITER)
    if compacted:
        there = present(store)
        run(ended(place))
        assert present(ended(place)) == there
    done(ended(place))
    after = ended(place)
    assert held(after) == counted(after) == records
    assert set(LedgerIndex.load(after).blocks()) - present(after) <= set(load_day(after, DAY).replaced)


def test_it_is_taken_in_if_one_range_is_held_nowhere_else(place: Place) -> None:
    store = place()
    fill(store, usual())
    orphan = put(store, 1, part(0, 1, 5), part(0, 700, 5), writer=THIRD_WRITER)
    report = done(store)
    assert (TAKE_IN, orphan.block) in kinds(report)
    assert orphan.block in present(store)
    assert_in_order(place)


def test_it_is_taken_in_if_the_block_that_holds_its_ranges_is_damaged(place: Place) -> None:
    store = place()
    entries = fill(store, usual(2))
    orphan = put(store, 1, *usual(2)[0], writer=THIRD_WRITER)
    content = bytearray(store.read_block(entries[0].block))
    content[40] ^= 0xFF
    Kept(place(), block_path(entries[0].block)).write(bytes(content))
    before = held(store)
    assert (TAKE_IN, orphan.block) in kinds(done(store))
    assert held(store) == before


def test_an_orphan_that_is_damaged_is_left_and_named(place: Place) -> None:
    store = place()
    fill(store, usual())
    orphan = put(store, 99, part(0, 500, 5))
    Kept(place(), block_path(orphan.block)).write(store.read_block(orphan.block)[:-9])
    report = done(store)
    assert report.actions == []
    assert [one.thing for one in report.left] == [orphan.block]
    assert not report.in_order
    assert orphan.block in present(store)


# ---------------------------------------------------------------------- a generator beside it


def test_the_blocks_of_a_generator_at_work_are_left_alone(place: Place) -> None:
    store = place()
    generator = place()
    generator.hold()
    fill(generator, usual())
    on_its_way = put(generator, 99, part(0, 500, 5))
    report = done(store)
    assert report.actions == []
    assert [(one.thing, one.amiss) for one in report.left] == [(on_its_way.block, False)]
    assert report.in_order
    assert store.maintenance_days() == []


def test_the_blocks_that_a_starting_generator_takes_over_are_left_alone(place: Place) -> None:
    store = place()
    fill(store, usual())
    old = put(store, 99, part(0, 500, 5))
    generator = place()
    generator.hold()
    assert [one.thing for one in repair(store, LATER, apply=True).left] == [old.block]
    begin(generator, OTHER_WRITER)
    assert repair(store, LATER, apply=True).left == []
    assert old.block in LedgerIndex.load(store).blocks()


def test_what_no_generator_will_record_is_put_in_order_beside_one(place: Place) -> None:
    store = place()
    generator = place()
    generator.hold()
    fill(generator, usual())
    orphan = put(store, 1, *usual()[0], writer=THIRD_WRITER)
    assert kinds(done(store)) == [(DELETE, orphan.block)]


def test_a_generator_that_has_no_ledger_yet_is_waited_for(place: Place) -> None:
    store = place()
    lost = put(store, 1, part(0, 1, 5))
    generator = place()
    generator.hold()
    report = done(store)
    assert report.actions == []
    assert [one.thing for one in report.left] == [lost.block]


def test_no_generator_begins_while_it_works_and_one_may_afterwards(place: Place) -> None:
    store = place()
    fill(store, usual())
    put(store, 99, part(0, 500, 5))
    refused = []

    class Curious(Checked):
        def settle(self, key: str) -> None:
            with pytest.raises(StoreUnavailable, match="another generator"):
                place().hold()
            refused.append(key)
            super().settle(key)

    beside = Store(Curious(store.objects))
    done(beside)
    end_process(beside)
    assert refused
    place().hold()


def test_other_maintenance_shuts_it_out_but_for_looking(place: Place) -> None:
    store = place()
    fill(store, usual())
    other = place()
    other.hold_maintenance()
    repair(store, LATER, apply=False)
    with pytest.raises(StoreUnavailable, match="other maintenance"):
        done(store)


# ---------------------------------------------------------------------- leftovers


def stopped_before_deletion(place: Place) -> None:
    """A compaction that was killed after its ledger was durable."""
    store = place()
    fill(store, usual())

    killed = Store(store.objects)

    def kill(_: object) -> None:
        raise KilledHere

    killed.delete_blocks = kill  # type: ignore[method-assign]
    with pytest.raises(KilledHere):
        run(killed)
    end_process(killed)


def test_blocks_that_were_replaced_are_deleted(place: Place) -> None:
    stopped_before_deletion(place)
    store = ended(place)
    records = counted(store)
    old = {block for block in present(store) if replaced_by(store, block)}
    assert len(old) == 6
    assert {thing for kind, thing in kinds(done(store)) if kind == DELETE} == old
    assert present(store).isdisjoint(old)
    assert counted(store) == records


def test_blocks_that_were_replaced_are_deleted_even_if_their_own_ledger_is_lost(place: Place) -> None:
    stopped_before_deletion(place)
    Kept(place(), ledger_path(WRITER)).remove()
    records = held(ended(place))
    report = done(place())
    assert report.in_order
    assert [kind for kind, _ in kinds(report)].count(DELETE) == 6
    assert held(ended(place)) == counted(place()) == records


def test_blocks_whose_stand_in_is_damaged_stay(place: Place) -> None:
    stopped_before_deletion(place)
    store = ended(place)
    [new] = {one for block in present(store) for one in replaced_by(store, block)}
    content = bytearray(store.read_block(new))
    content[40] ^= 0xFF
    Kept(place(), block_path(new)).write(bytes(content))
    before = held(store)
    report = done(store)
    assert report.actions == []
    assert len(report.left) == 6
    assert all("recover" in one.hint for one in report.left)
    assert held(store) == before


def test_blocks_that_were_replaced_in_part_stay(place: Place) -> None:
    store = place()
    entries = fill(store, [[part(0, 1, 5), part(0, 20, 5)]])
    transaction = Transaction(store, entries[0].block, RECOVER, LATER)
    new = put(store, 1, part(0, 1, 5), writer=transaction.writer)
    transaction.add_block(new, entries)
    transaction.commit()
    report = done(store)
    assert report.actions == []
    assert [one.thing for one in report.left] == [entries[0].block]
    assert present(store) == {entries[0].block, new.block}


def test_blocks_that_were_removed_on_purpose_are_deleted(place: Place) -> None:
    store = place()
    entries = fill(store, usual())
    transaction = Transaction(store, entries[0].block, EXPIRE, LATER)
    transaction.add_expired(Expired(LATER, LATER, (entries[0].block, entries[1].block)))
    transaction.commit()
    assert kinds(done(store)) == [(DELETE, entries[0].block), (DELETE, entries[1].block)]
    assert_in_order(place)


# ---------------------------------------------------------------------- a ledger that is lost or damaged


def test_a_lost_ledger_is_made_of_the_footers_and_said_to_be_lost(place: Place) -> None:
    store = place()
    entries = fill(store, usual())
    records = held(store)
    Kept(place(), ledger_path(WRITER)).remove()
    report = done(store)
    assert {thing for kind, thing in kinds(report) if kind == TAKE_IN} == {one.block for one in entries}
    assert (ACKNOWLEDGE, WRITER) in kinds(report)
    assert counted(store) == records
    assert [(one.writer, one.line) for one in load_day(store, DAY).acknowledged] == [(WRITER, 1)]
    assert_in_order(place)


def two_writers(place: Place) -> tuple[list[BlockStored], list[BlockStored]]:
    """Two generators, one after the other; the first one's ledger is closed."""
    store = place()
    first = fill(store, usual(3))
    ledger = begin(store, OTHER_WRITER)
    second = [put(store, number, part(0, 100 + 5 * number, 5), writer=OTHER_WRITER) for number in range(1, 4)]
    ledger.append(second)
    return first, second


CLOSED = ledger_path(WRITER)
LIVING = ledger_path(OTHER_WRITER)


def spoil_line(content: bytes, number: int) -> bytes:
    lines = content.splitlines(keepends=True)
    lines[number - 1] = lines[number - 1].replace(b'"number":', b'"other":', 1)
    return b"".join(lines)


DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes | None]]] = {
    "a line of the living one": (ledger_path(OTHER_WRITER), lambda content: spoil_line(content, 4)),
    "the first line of the living one": (ledger_path(OTHER_WRITER), lambda content: spoil_line(content, 1)),
    "a line of the closed one": (CLOSED, lambda content: spoil_line(content, 4)),
    "the end of the closed one": (CLOSED, lambda content: b"".join(content.splitlines(keepends=True)[:-2])),
    "all of the closed one": (CLOSED, lambda content: None),
    "other lines in the closed one": (CLOSED, lambda content: content.splitlines(keepends=True)[0] * 2),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_ledger_is_kept_aside_and_what_the_blocks_say_is_recorded_anew(place: Place, damage: str) -> None:
    first, second = two_writers(place)
    path, spoil = DAMAGES[damage]
    store = place()
    records = held(store)
    written = Kept(place(), path).read().splitlines(keepends=True)
    spoilt = spoil(Kept(place(), path).read())
    if spoilt is None:
        Kept(place(), path).remove()
    else:
        Kept(place(), path).write(spoilt)
    with pytest.raises(LedgerDamaged):
        take_over(place())
    report = done(place())
    assert report.in_order
    writer = OTHER_WRITER if OTHER_WRITER in path else WRITER
    assert (ACKNOWLEDGE, writer) in kinds(report)
    after = ended(place)
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
        [kept] = after.objects.list("ledger/damaged/")
        assert after.objects.get(kept.key) == spoilt
        assert (SET_ASIDE, writer) in kinds(report)
        assert proof.leftovers == []  # what repair keeps is nobody's to clear away
    place.end_processes()
    assert_in_order(place)


def test_lost_lines_of_a_day_without_blocks_are_told_too(place: Place) -> None:
    store = place()
    store.claim("landing")
    begin(store, WRITER).append([session_at()])
    begin(store, OTHER_WRITER)
    Kept(place(), CLOSED).remove()
    assert verify_store(store).ledger_faults
    assert kinds(done(store)) == [(ACKNOWLEDGE, WRITER)]
    proof = verify_store(ended(place))
    assert (proof.ledger_faults, [one.writer for one in proof.acknowledged]) == ([], [WRITER])
    take_over(place())


@pytest.mark.parametrize("lines", [0, 1, 4, 6])
def test_a_reader_finds_what_was_compacted_before_its_ledger_was_lost(place: Place, lines: int) -> None:
    """The old blocks are gone, and so are the lines that would lead a reader to what stands in for them."""
    store = place()
    store.claim("landing")
    fill(store, usual())
    ledger = begin(store, OTHER_WRITER)
    run(store)
    ledger.append([put(store, 1, part(0, 31, 5), part(1, 31, 5), writer=OTHER_WRITER)])
    kept = Kept(store, CLOSED)
    kept.write(b"".join(kept.read().splitlines(keepends=True)[:lines]) + b"no line\n")
    assert done(store).in_order
    found = [(one.shard, one.position.sequence_number) for one in records(place())]
    assert sorted(found) == [(shard_name(shard), number) for shard in range(2) for number in range(1, 36)]


def test_a_damaged_ledger_stays_as_it_is_while_a_generator_writes_it(place: Place) -> None:
    two_writers(place)
    Kept(place(), LIVING).write(spoil_line(Kept(place(), LIVING).read(), 2))
    spoilt = Kept(place(), LIVING).read()
    generator = place()
    generator.hold()
    report = done(place())
    assert not report.in_order
    [named] = [one for one in report.left if one.amiss]
    assert named.thing == f"ledger of {OTHER_WRITER}"
    assert "the receiver of " in named.hint
    assert Kept(place(), LIVING).read() == spoilt


def test_a_damaged_ledger_that_was_closed_is_put_in_order_while_a_generator_is_at_work(place: Place) -> None:
    two_writers(place)
    Kept(place(), CLOSED).write(spoil_line(Kept(place(), CLOSED).read(), 4))
    generator = place()
    generator.hold()
    report = done(place())
    assert report.in_order
    assert (ACKNOWLEDGE, WRITER) in kinds(report)
    assert verify_store(place()).ledger_faults == []


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
    place: Place, damage: str, seen: bool
) -> None:
    store = place()
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
        kept_entry(place(), writer).remove()
    else:
        kept_entry(place(), writer).write(spoilt)
    report = done(ended(place))
    assert report.in_order
    after = ended(place)
    changes = load_day(after, DAY)
    assert changes.faults == []
    proof = verify_store(after, deep=True)
    assert (proof.ledger_faults, proof.missing, proof.damaged, proof.orphans) == ([], [], {}, [])
    assert set(changes.replaced) >= {one.block for one in entries}
    assert counted(after) == records
    place.end_processes()
    assert_in_order(place)


# ---------------------------------------------------------------------- killed at any point


def killed_compaction(place: Place) -> None:
    stopped_before_deletion(place)
    place.end_processes()
    put(place(), 1, *usual()[0], writer=THIRD_WRITER)
    put(place(), 99, part(0, 500, 5))


def lost_ledger(place: Place) -> None:
    fill(place(), usual(3))
    Kept(place(), ledger_path(WRITER)).remove()


def damaged_ledger(place: Place) -> None:
    two_writers(place)
    Kept(place(), CLOSED).write(spoil_line(Kept(place(), CLOSED).read(), 3))


def damaged_open_ledger(place: Place) -> None:
    two_writers(place)
    path = ledger_path(OTHER_WRITER)
    Kept(place(), path).write(spoil_line(Kept(place(), path).read(), 4))


ACKNOWLEDGED = {
    killed_compaction: [],
    lost_ledger: [WRITER],
    damaged_ledger: [WRITER],
    damaged_open_ledger: [OTHER_WRITER],
}


@pytest.mark.parametrize("scene", ACKNOWLEDGED)
def test_it_may_be_killed_at_any_change_and_run_again(scene: Callable[[Place], None]) -> None:
    """In memory; what a directory's steps are is in `test_repair_faults`."""
    for at in range(1_000):
        place = memory_with_locks()
        scene(place)
        before = held(ended(place))
        killed = Store(Mortal(place().objects, at))
        try:
            done(killed)
        except KilledHere:
            pass
        else:
            assert at > 1
            break
        finally:
            end_process(killed)
        assert held(place()) == before
        assert done(place()).in_order
        assert held(ended(place)) == counted(place()) == before
        assert_in_order(place)
        told = [one.writer for one in load_day(place(), DAY).acknowledged]
        assert told == ACKNOWLEDGED[scene], "what was lost is not told, or twice"


def damage_something(store: Store, rng: random.Random) -> None:
    keys = [one.key for one in store.objects.list("") if one.key.startswith(("blocks/", "ledger/"))]
    kept = Kept(store, rng.choice([key for key in keys if not key.startswith("ledger/damaged/")]))
    content = kept.read()
    kind = rng.choice(["gone", "cut", "flip"])
    if kind == "gone" or not content:
        kept.remove()
    elif kind == "cut":
        kept.write(content[: rng.randrange(len(content))])
    else:
        kept.flip(rng.randrange(len(content)), 1 << rng.randrange(8))


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happened_to_a_store_no_record_that_could_be_read_is_lost(seed: int) -> None:
    """Random stores, compactions that were killed, objects that were taken away, cut off, or changed by a byte."""
    rng = random.Random(seed)
    place = memory_with_locks()
    store = place()
    fill(store, usual(rng.randint(1, 6)))
    if rng.random() < 0.5:
        ledger = begin(store, OTHER_WRITER)
        ledger.append([put(store, n, part(0, 100 + 5 * n, 5), writer=OTHER_WRITER) for n in range(1, 4)])

    def maybe_killed(work: Callable[[Store], object], most: int) -> None:
        killed = Store(Mortal(store.objects, rng.randint(0, most)))
        with suppress(KilledHere, LedgerDamaged):
            work(killed)
        end_process(killed)

    for _ in range(rng.randint(0, 2)):
        maybe_killed(run, 12)
    if rng.random() < 0.5:
        put(store, rng.randint(50, 99), part(0, 900, 5), writer=rng.choice([WRITER, THIRD_WRITER]))
    for _ in range(rng.randint(0, 3)):
        damage_something(store, rng)
    before = held(store)
    believed = set[tuple[str, int, int, bytes]]()
    with suppress(BlockDamaged, BlockMissing, LedgerDamaged, KeyError, AssertionError):  # a reader stops at the damage
        believed = counted(store) & before
    maybe_killed(done, 15)
    report = done(ended(place))
    after = ended(place)
    assert held(after) == before
    assert believed <= held(after)
    readable = {block for block in present(after) if block not in {one.thing for one in report.left}}
    assert readable <= set(LedgerIndex.load(after).blocks())
    assert repair(after, LATER, apply=False).actions == []


# ---------------------------------------------------------------------- a place without locks


def test_where_there_are_no_locks_a_generator_is_reckoned_with() -> None:
    place = memory()
    store = place()
    fill(store, usual())
    on_its_way = put(store, 99, part(0, 500, 5))
    needless = put(store, 1, *usual()[0], writer=THIRD_WRITER)
    report = done(store)
    assert kinds(report) == [(DELETE, needless.block)]
    assert [(one.thing, one.amiss) for one in report.left] == [(on_its_way.block, False)]
    Kept(store, ledger_path(WRITER)).write(spoil_line(store.ledger(WRITER) or b"", 4))
    report = done(place())
    assert report.actions == []
    assert [one.thing for one in report.left if one.amiss] == [f"ledger of {WRITER}"]


LOG_DAMAGES: dict[str, Callable[[Store], object]] = {
    "lost": lambda store: store.objects.delete([one.key for one in store.objects.list("log/")]),
    "its newest entry damaged": lambda store: Kept(store, log_path(store.newest_log_number())).write(b"{}\n"),
}


@pytest.mark.parametrize("damage", LOG_DAMAGES)
def test_a_log_that_is_lost_or_damaged_begins_anew_and_the_next_start_reads_all(place: Place, damage: str) -> None:
    first, second = two_writers(place)
    LOG_DAMAGES[damage](place())
    assert verify_store(place()).ledger_faults == [LOG_IS_LOST]
    assert kinds(repair(place(), LATER, apply=False)) == [(BEGIN_ANEW, "the store's log")]
    assert kinds(done(place())) == [(BEGIN_ANEW, "the store's log")]
    assert verify_store(place()).ledger_faults == []
    taken = take_over(ended(place))
    assert {entry.block for entry in (*first, *second)} == {entry.block for entry in taken.blocks}
    assert (taken.to_close, taken.state.kept) == ([OTHER_WRITER], (WRITER,))
    assert kinds(done(place())) == []


def test_a_damaged_log_stays_as_it_is_while_a_generator_is_at_work(place: Place) -> None:
    two_writers(place)
    LOG_DAMAGES["lost"](place())
    generator = place()
    generator.hold()
    report = done(place())
    assert [(one.thing, one.amiss) for one in report.left] == [("the store's log", True)]
    assert "stop the receiver" in report.left[0].hint
    assert place().newest_log_number() == 0


def test_a_generator_does_not_start_on_a_damaged_log(place: Place) -> None:
    two_writers(place)
    LOG_DAMAGES["its newest entry damaged"](place())
    with pytest.raises(LedgerDamaged, match="entry 2 of the log") as caught:
        take_over(place())
    assert "repair" in caught.value.hint
