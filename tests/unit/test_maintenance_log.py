"""The maintenance log: what is committed, what overtakes what, what was lost, and who may delete what."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
from fake_files import FakeFiles
from maintenance_support import DAY, LATER, TWO_EACH, counted, fill, part, present, read_all, usual
from maintenance_support import run as compacted
from places import Kept, Place, Watched, kept_entry, kept_marker, number_of
from store_support import NOW, OTHER_WRITER, WRITER, local_store, put
from test_maintenance_ledger import merged, stored
from test_maintenance_together import Between

from kcl_receiver import follow, read
from kcl_receiver.audit.verify import verify_store
from kcl_receiver.errors import BlockMissing, LedgerDamaged, StoreUnavailable
from kcl_receiver.ids import block_id, writer_id, writer_of
from kcl_receiver.maintenance import expire as expiring
from kcl_receiver.maintenance.compact import compact
from kcl_receiver.maintenance.expire import Expiry
from kcl_receiver.maintenance.repair import ACKNOWLEDGE, DELETE, TAKE_IN, repair
from kcl_receiver.maintenance.retired_blocks import ORPHAN_MILLIS, delete_orphans
from kcl_receiver.store.layout import maintenance_path
from kcl_receiver.store.ledger.entries import Acknowledged, BlockStored, Expired, Voided, begun_by
from kcl_receiver.store.ledger.reading import Ledger
from kcl_receiver.store.ledger.transaction import (
    COMPACT,
    EXPIRE,
    RECOVER,
    REPAIR,
    TRIES,
    Transaction,
    TransactionOvertaken,
    delete_recorded,
    load_day,
    load_to_change,
    void,
)
from kcl_receiver.store.memory import Fault, MemoryBucket, MemoryObjects
from kcl_receiver.store.store import Store

DAY_MS = 86_400_000


@pytest.fixture
def store(place: Place) -> Store:
    return place()


@pytest.fixture
def bucket() -> MemoryBucket:
    return MemoryBucket()


@pytest.fixture
def remote(bucket: MemoryBucket) -> Store:
    """A store in a bucket, for what depends on single requests."""
    return Store(MemoryObjects(bucket))


def merging(store: Store, *old: BlockStored, role: str = COMPACT) -> Transaction:
    """Return a transaction that has put a block in the place of others, and is not committed."""
    transaction = Transaction(store, old[0].block, role, LATER)
    merged(transaction, store, *old)
    return transaction


def expiring_one(store: Store, *blocks: str) -> Transaction:
    transaction = Transaction(store, blocks[0], EXPIRE, LATER)
    transaction.add_expired(Expired(LATER, LATER, blocks))
    return transaction


def writers(store: Store) -> list[str]:
    """Return the writers of the log's entries, in its order."""
    return [begun_by(store.maintenance_entry(number) or b"") or "" for number in store.maintenance_numbers()]


# ---------------------------------------------------------------------- the order


def test_entries_of_all_days_have_one_order(store: Store) -> None:
    one, two = stored(store, 2)
    other = block_id(writer_id(NOW + DAY_MS, "00000009"), 1)
    made = [expiring_one(store, one.block), expiring_one(store, other), expiring_one(store, two.block)]
    for transaction in made:
        transaction.commit()
    assert [number_of(store, one.writer) for one in made] == [1, 2, 3]
    assert [writer for writer, _ in store.maintenance_ledgers(DAY)] == [made[0].writer, made[2].writer]
    assert list(store.list_leftovers()) == []


def test_of_two_transactions_about_other_blocks_both_are_recorded_and_the_second_names_the_first(store: Store) -> None:
    one, two, three, four = stored(store, 4)
    first, second = merging(store, one, two), merging(store, three, four)
    first.commit()
    second.commit()
    assert [number_of(store, first.writer), number_of(store, second.writer)] == [1, 2]
    changes = load_day(store, DAY)
    assert changes.replaced.keys() == {entry.block for entry in (one, two, three, four)}
    assert (changes.named, changes.faults) == ({first.writer}, [])
    assert [len(second.retire()), len(first.retire())] == [2, 2]


# ---------------------------------------------------------------------- what overtakes what


def replacing(store: Store, one: BlockStored) -> Transaction:
    return merging(store, one)


def removing(store: Store, one: BlockStored) -> Transaction:
    return expiring_one(store, one.block)


def taking_in(store: Store, one: BlockStored) -> Transaction:
    transaction = Transaction(store, one.block, REPAIR, LATER)
    transaction.add_block(one)
    return transaction


def acknowledging(store: Store, one: BlockStored) -> Transaction:
    transaction = Transaction(store, one.block, REPAIR, LATER)
    transaction.add_acknowledged(Acknowledged(LATER, writer_of(one.block), 1, "it is lost"))
    return transaction


@pytest.mark.parametrize(
    ("first", "second"),
    [
        *((first, second) for first in (replacing, removing) for second in (replacing, removing, taking_in)),
        (taking_in, taking_in),
        (acknowledging, acknowledging),
    ],
)
def test_what_is_about_the_same_block_or_ledger_is_overtaken_and_records_nothing(
    store: Store,
    first: Callable[[Store, BlockStored], Transaction],
    second: Callable[[Store, BlockStored], Transaction],
) -> None:
    one, _ = stored(store, 2)
    winner, loser = first(store, one), second(store, one)
    winner.commit()
    for _ in range(2):
        with pytest.raises(TransactionOvertaken):
            loser.commit()
    assert writers(store) == [winner.writer]
    with pytest.raises(ValueError, match="only after a durable entry"):
        loser.retire()


@pytest.mark.parametrize(
    ("first", "second"), [(taking_in, replacing), (taking_in, removing), (acknowledging, taking_in)]
)
def test_what_does_not_contradict_is_recorded_one_after_the_other(
    store: Store,
    first: Callable[[Store, BlockStored], Transaction],
    second: Callable[[Store, BlockStored], Transaction],
) -> None:
    one, _ = stored(store, 2)
    both = [first(store, one), second(store, one)]
    for transaction in both:
        transaction.commit()
    assert writers(store) == [transaction.writer for transaction in both]


def test_transactions_planned_together_do_not_overtake_one_another_and_are_overtaken_alike(store: Store) -> None:
    one, two, three = stored(store, 3)
    changes = load_to_change(store, DAY)
    first = Transaction(store, one.block, RECOVER, LATER, changes=changes)
    merged(first, store, one)
    replacing(store, two).commit()
    first.commit()  # takes in what the other one did
    second = Transaction(store, two.block, RECOVER, LATER, changes=changes)
    merged(second, store, two)
    with pytest.raises(TransactionOvertaken):
        second.commit()
    third = Transaction(store, three.block, RECOVER, LATER, changes=changes)
    merged(third, store, one, three)
    third.commit()


def test_a_day_that_was_loaded_to_be_looked_at_is_not_changed(store: Store) -> None:
    (one,) = stored(store, 1)
    with pytest.raises(ValueError, match="not loaded to be changed"):
        Transaction(store, one.block, COMPACT, LATER, changes=load_day(store, DAY))


# ---------------------------------------------------------------------- answers that are lost


@pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.AFTER, Fault.LATE])
@pytest.mark.parametrize("prefix", ["maintenance/", "ledger/maintenance/"])
def test_a_commit_whose_answer_is_lost_is_recorded_once(
    bucket: MemoryBucket, remote: Store, fault: Fault, prefix: str
) -> None:
    one, two = stored(remote, 2)
    transaction = merging(remote, one, two)
    bucket.faults = lambda request, key: fault if request == "put" and key.startswith(prefix) else None
    with pytest.raises(StoreUnavailable):
        transaction.commit()
    with pytest.raises(ValueError, match="was committed"):
        transaction.add_block(one)
    bucket.faults = lambda *_: None
    transaction.commit()
    bucket.deliver_late()
    transaction.commit()
    assert writers(remote) == [transaction.writer]
    assert len(transaction.retire()) == 2


def test_one_of_which_the_answer_was_lost_is_found_although_others_came_since(
    bucket: MemoryBucket, remote: Store
) -> None:
    one, two = stored(remote, 2)
    transaction = replacing(remote, one)
    bucket.faults = lambda request, key: Fault.AFTER if request == "put" and key.startswith("maint") else None
    with pytest.raises(StoreUnavailable):
        transaction.commit()
    bucket.faults = lambda *_: None
    replacing(remote, two).commit()
    transaction.commit()
    assert writers(remote)[0] == transaction.writer
    assert len(writers(remote)) == 2
    assert transaction.retire() == [one.block]


def test_one_that_was_sent_and_not_seen_is_overtaken_only_when_its_number_is_taken(
    bucket: MemoryBucket, remote: Store
) -> None:
    one, _ = stored(remote, 2)
    transaction = replacing(remote, one)
    bucket.faults = lambda request, key: Fault.LATE if request == "put" and key.startswith("maint") else None
    with pytest.raises(StoreUnavailable):
        transaction.commit()
    bucket.faults = lambda *_: None
    other = removing(remote, one)
    other.commit()
    with pytest.raises(TransactionOvertaken):
        transaction.commit()
    bucket.deliver_late()
    assert writers(remote) == [other.writer]


def test_the_newest_entry_is_durable_before_the_next_one_is_created(place: Place) -> None:
    one, two = stored(place(), 2)
    first = replacing(place(), one)
    first.commit()
    second = replacing(place(), two)
    watched = Watched(place().objects)
    second._store = Store(watched)
    second.commit()
    changed = [(verb, key) for verb, key in watched.changes if key.startswith("maintenance/")]
    assert changed == [("settle", maintenance_path(1)), ("create", maintenance_path(2))]
    marker = ("create", f"ledger/maintenance/{DAY}/000000002-{second.writer}")
    assert watched.changes.index(marker) < watched.changes.index(changed[1])


def seen_and_not_durable(files: FakeFiles, transaction: Transaction) -> None:
    """Leave the entry of a run that was killed before it was durable."""
    transaction._store.settle_maintenance_entry = lambda _: None  # type: ignore[method-assign]
    files.fail("fsync_dir", errno.EIO, "maintenance/000000")
    with pytest.raises(StoreUnavailable):
        transaction.commit()


@pytest.mark.parametrize("begins", [False, True])
def test_what_a_follower_has_counted_is_durable(begins: bool) -> None:
    """Its number would be given to another entry after a loss of power, and that one never be read."""
    files = FakeFiles()
    store = local_store("/store", files)
    one, two = stored(store, 2)
    replacing(store, two).commit()
    changes = follow(store)
    if not begins:
        list(changes)
    seen_and_not_durable(files, replacing(local_store("/store", files), one))
    assert sum(change.by == "compact" for change in changes) == (2 if begins else 1)
    assert local_store("/store", files.lose_power()).newest_maintenance_number() == 2


def test_what_is_deleted_on_the_word_of_an_entry_stays_said_when_the_power_is_lost() -> None:
    files = FakeFiles()
    store = local_store("/store", files)
    one, two = stored(store, 2)
    replacing(store, two).commit()
    seen_and_not_durable(files, replacing(local_store("/store", files), one))
    (stand_in,) = load_day(store, DAY).replaced[one.block]
    delete_recorded(store, [one.block])
    after = local_store("/store", files.lose_power())
    assert load_day(after, DAY).replaced[one.block] == (stand_in,)
    assert not after.has_block(one.block)


# ---------------------------------------------------------------------- markers


def test_a_marker_without_its_entry_says_nothing_whoever_comes_next(store: Store) -> None:
    one, two = stored(store, 2)
    killed = replacing(store, one)
    store.mark_maintenance(1, killed.writer)
    assert store.maintenance_days() == [DAY]
    assert list(store.maintenance_ledgers(DAY)) == []
    assert store.maintenance_ledger(killed.writer) is None
    assert load_day(store, DAY).faults == []
    other = replacing(store, two)
    other.commit()
    assert [writer for writer, _ in store.maintenance_ledgers(DAY)] == [other.writer]
    assert store.maintenance_ledger(killed.writer) is None
    assert [writer for writer, *_ in store.maintenance_starts(DAY)] == [other.writer]
    assert verify_store(store, now_ms=NOW).ledger_faults == []
    killed.commit()  # under another number, and once
    assert [writer for writer, _ in store.maintenance_ledgers(DAY)] == [other.writer, killed.writer]
    assert load_day(store, DAY).faults == []


def test_a_lost_marker_is_named_and_made_anew(place: Place) -> None:
    store = place()
    entries = fill(store, usual(2))
    before = read_all(store)
    compacted(store)
    ((writer, _),) = store.maintenance_ledgers(DAY)
    kept_marker(store, writer).remove()
    (fault,) = verify_store(store, now_ms=NOW).ledger_faults
    assert fault == f"entry 1 of the maintenance log is about blocks of {DAY}, and the marker there is lost"
    place.end_processes()
    report = repair(place(), LATER, apply=True)
    assert [(one.kind, one.thing) for one in report.actions] == [(TAKE_IN, "entry 1 of the maintenance log")]
    assert verify_store(store, now_ms=NOW).ledger_faults == []
    assert load_day(store, DAY).replaced.keys() == {one.block for one in entries}
    assert read_all(store) == before


# ---------------------------------------------------------------------- entries that are lost


def three_entries(store: Store) -> list[BlockStored]:
    """Leave entries 1 to 3, each about a block of its own."""
    entries = stored(store, 3)
    for one in entries:
        transaction = replacing(store, one)
        transaction.commit()
        transaction.retire()
    return entries


@pytest.mark.parametrize("number", [1, 2])
def test_a_lost_entry_is_damage_for_whoever_reads_the_day_or_follows(store: Store, number: int) -> None:
    three_entries(store)
    token = follow(store).token
    Kept(store, maintenance_path(number)).remove()
    assert f"entry {number} of the maintenance log, is lost" in load_day(store, DAY).faults[0].message
    assert verify_store(store, now_ms=NOW).ledger_faults
    with pytest.raises(LedgerDamaged, match=f"entry {number} of the maintenance log .* is lost"):
        list(follow(store, token))
    with pytest.raises(LedgerDamaged, match="is lost"):
        Transaction(store, block_id(WRITER, 1), COMPACT, LATER)


def test_a_lost_entry_is_damage_for_a_follower_that_is_at_work(store: Store) -> None:
    changes = follow(store)
    assert list(changes) == []
    three_entries(store)
    Kept(store, maintenance_path(1)).remove()
    with pytest.raises(LedgerDamaged, match=r"entry 1 of the maintenance log .* is lost"):
        list(changes)


def test_repair_records_what_a_lost_entry_said_and_lets_followers_past_it(place: Place) -> None:
    store = place()
    entries = three_entries(store)
    changes = follow(store)
    next(iter(changes))
    Kept(store, maintenance_path(2)).remove()
    place.end_processes()
    report = repair(place(), LATER, apply=True)
    assert report.in_order
    thing = "entry 2 of the maintenance log"
    assert [one.kind for one in report.actions if one.thing == thing] == [ACKNOWLEDGE]
    assert verify_store(store, now_ms=NOW).ledger_faults == []
    assert load_day(store, DAY).faults == []
    assert store.maintenance_numbers() == [1, 2, 3, 4]
    live: set[str] = set()
    for one in follow(store):
        live |= {entry.block for entry in one.added}
        live -= {*one.removed}
    assert live == present(store)
    assert entries[1].block not in live
    list(changes)
    place.end_processes()
    assert not repair(place(), LATER, apply=False).actions


def test_a_lost_entry_without_a_marker_is_named_and_its_number_is_filled(place: Place) -> None:
    store = place()
    (one, two) = stored(store, 2)
    other = writer_id(NOW + DAY_MS, "00000009")
    expiring_one(store, block_id(other, 1)).commit()
    replacing(store, two).commit()
    (writer,) = (writer for writer, *_ in store.maintenance_starts("2026-11-23"))
    marker = kept_marker(store, writer)
    kept_entry(store, writer).remove()
    marker.remove()
    (fault,) = verify_store(store, now_ms=NOW).ledger_faults
    assert "entry 1 of the maintenance log" in fault
    assert repair(place(), LATER, apply=True).in_order
    assert verify_store(store, now_ms=NOW).ledger_faults == []
    assert [change.by for change in follow(store)] == ["generator", "generator", "compact"]
    assert one.block in present(store)


def test_an_entry_whose_first_line_is_damaged_is_a_fault_of_its_day_and_not_anothers(store: Store) -> None:
    one, two = stored(store, 2)
    first = replacing(store, one)
    first.commit()
    kept = kept_entry(store, first.writer)
    content = kept.read()
    kept.write(content.replace(first.writer[-8:].encode(), b"01234567", 1))  # another id, and a hash that does not fit
    (fault,) = load_day(store, DAY).faults
    assert f"line 1 of the ledger of writer {first.writer}" in fault.message
    assert two.block in present(store)


# ---------------------------------------------------------------------- void


def test_what_is_void_is_never_recorded_however_late_it_comes(bucket: MemoryBucket, remote: Store) -> None:
    one, two = stored(remote, 2)
    transaction = merging(remote, one, two)
    (new,) = transaction.new
    bucket.faults = lambda request, key: Fault.LATE if request == "put" and key.startswith("maint") else None
    with pytest.raises(StoreUnavailable):
        transaction.commit()
    bucket.faults = lambda *_: None
    changes = load_to_change(remote, DAY)
    delete_orphans(remote, changes, [new.block], REPAIR, LATER)
    assert not remote.has_block(new.block)
    bucket.deliver_late()
    with pytest.raises(TransactionOvertaken):
        transaction.commit()
    assert load_day(remote, DAY).replaced == {}
    assert load_day(remote, DAY).voided == {transaction.writer}


def test_what_is_recorded_just_before_it_is_void_is_not_void(store: Store) -> None:
    one, two = stored(store, 2)
    transaction = merging(store, one, two)
    (new,) = transaction.new
    changes = load_to_change(store, DAY)
    transaction.commit()
    with pytest.raises(TransactionOvertaken):
        delete_orphans(store, changes, [new.block], REPAIR, LATER)
    assert store.has_block(new.block)
    assert load_day(store, DAY).voided == set()
    assert len(transaction.retire()) == 2


def test_writers_that_are_void_are_not_made_void_again(store: Store) -> None:
    one, _ = stored(store, 2)
    dead = writer_of(one.block)[:-8] + "0000dead"
    changes = load_to_change(store, DAY)
    for _ in range(2):
        void(store, changes, [dead], REPAIR, LATER)
        void(store, load_to_change(store, DAY), [dead], REPAIR, LATER)
    assert len(writers(store)) == 1


def test_a_writer_is_made_void_on_its_own_day_alone(store: Store) -> None:
    (one,) = stored(store, 1)
    transaction = Transaction(store, one.block, REPAIR, LATER)
    with pytest.raises(ValueError, match=f"is not of {DAY}"):
        transaction.add_voided(Voided(LATER, (writer_id(NOW + DAY_MS, "00000009"),)))


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("next_run", ["repair", "compact"])
def test_young_blocks_of_a_run_that_may_be_at_work_are_left_alone_where_no_lock_tells(next_run: str, old: bool) -> None:
    clock = [LATER]
    bucket = MemoryBucket(clock=lambda: clock[0])
    store = Store(MemoryObjects(bucket))
    entries = fill(store, usual(2))
    transaction = Transaction(store, entries[0].block, COMPACT, LATER)
    merged_all(transaction, store, entries)
    (new,) = transaction.new
    now = LATER + ORPHAN_MILLIS + (1 if old else -1)
    if next_run == "repair":
        report = repair(store, now, apply=True)
        assert [(one.kind, one.thing) for one in report.actions] == ([(DELETE, new.block)] if old else [])
        assert [one.thing for one in report.left] == ([] if old else [new.block])
        assert report.in_order
    else:
        assert sum(one.orphans for one in compact(store, TWO_EACH, now)) == (1 if old else 0)
    assert store.has_block(new.block) is not old


def merged_all(transaction: Transaction, store: Store, entries: list[BlockStored]) -> None:
    """Put one block in the place of some, with the very records that these hold."""
    block = transaction.next_block_id()
    ranges = sorted((one for blocks in usual(2) for one in blocks), key=lambda one: (one.range.shard, one.range.first))
    entry = put(store, int(block[-12:]), *ranges, writer=transaction.writer)
    transaction.add_block(entry, entries)


# ---------------------------------------------------------------------- before the old ones go


def test_nothing_is_deleted_if_a_new_block_is_not_there(store: Store) -> None:
    one, two = stored(store, 2)
    transaction = merging(store, one, two)
    transaction.commit()
    store.delete_block(transaction.new[0].block)
    with pytest.raises(BlockMissing, match="were not deleted"):
        transaction.retire()
    assert {one.block, two.block} <= present(store)


def test_nothing_is_deleted_if_others_have_replaced_the_new_block_since_and_a_next_run_does_it(store: Store) -> None:
    one, two = stored(store, 2)
    transaction = merging(store, one, two)
    transaction.commit()
    (new,) = transaction.new
    second = merging(store, new)
    second.commit()
    second.retire()
    assert transaction.retire() == []
    assert {one.block, two.block} <= present(store)


# ---------------------------------------------------------------------- the commands


def test_a_compaction_leaves_the_day_to_the_run_that_was_first(remote: Store) -> None:
    entries = fill(remote, usual(4))
    before = read_all(remote)

    def expire_one() -> None:
        replacement = Transaction(remote, entries[0].block, RECOVER, LATER)
        replacement.add_block(entries[1], [entries[0]])  # whatever it is: it is about the same block
        replacement.commit()

    objects = Between(remote.objects, 2, expire_one)  # after the first new block
    (report,) = compact(Store(objects), TWO_EACH, LATER)
    assert (report.overtaken, report.made, report.merged) == (True, 0, 0)
    assert objects.happened
    assert present(remote) == {one.block for one in entries}  # what it had made is gone
    assert len(read_all(remote)) < len(before)


def test_what_repair_has_taken_in_is_not_deleted_by_the_run_that_made_it(remote: Store) -> None:
    fill(remote, usual(2))
    before = read_all(remote)

    def take_in() -> None:
        (new,) = present(remote) - set(counted(remote))
        other = Transaction(remote, new, REPAIR, LATER)
        other.add_block(Ledger(remote).from_footer(new))
        other.commit()

    objects = Between(remote.objects, 1, take_in)
    (report,) = compact(Store(objects), TWO_EACH, LATER)
    assert report.overtaken
    assert present(remote) == set(counted(remote))
    assert read_all(remote).keys() == before.keys()


def overtaken_by(store: Store, times: int) -> Store:
    """Return the same store, in which others record something about its first block so often, just in time."""
    left = [times]

    class Racing(Watched):
        def create(self, key: str, content: object) -> bool:
            if key.startswith("ledger/maintenance/") and left[0]:
                left[0] -= 1
                first = block_id(WRITER, 1)
                (first,) = load_day(store, DAY).replaced.get(first, (first,))
                other = Transaction(store, first, RECOVER, LATER)
                merged_again(other, store, first)
                other.commit()
                other.retire()
            return super().create(key, content)  # type: ignore[arg-type]

    return Store(Racing(store.objects))


def merged_again(transaction: Transaction, store: Store, block: str) -> None:
    """Put a block with the same records in the place of one."""
    entry = Ledger(store).find(block)
    assert entry is not None
    new = transaction.next_block_id()
    ranges = [one for blocks in usual(5) for one in blocks]
    wanted = [
        one
        for one in ranges
        if any(one.range.first == had.first and one.range.shard == had.shard for had in entry.ranges)
    ]
    transaction.add_block(put(store, int(new[-12:]), *wanted, writer=transaction.writer), [entry])


def test_expire_plans_again_what_was_overtaken(remote: Store) -> None:
    fill(remote, usual(3))
    younger = {key: data for key, data in read_all(remote).items() if key[3] > 5}
    done = list(Expiry(overtaken_by(remote, 2), NOW + 6).run(LATER))
    assert [day.day for day in done] == [DAY]
    assert read_all(remote) == younger
    assert present(remote) == set(counted(remote))


def test_expire_gives_up_where_others_are_always_first(remote: Store) -> None:
    fill(remote, usual(3))
    before = read_all(remote)
    with pytest.raises(StoreUnavailable, match=f"other maintenance works on {DAY}"):
        list(Expiry(overtaken_by(remote, TRIES), NOW + 6).run(LATER))
    assert read_all(remote) == before
    assert expiring.TRIES == TRIES


def test_repair_looks_again_at_a_day_at_which_others_work(remote: Store) -> None:
    fill(remote, usual(2))
    orphan = fill_orphan(remote)

    def take_in() -> None:
        assert repair(remote, LATER, apply=True).in_order

    for at in range(9):  # it changes five things: block, marker, entry, and it settles twice
        objects = Between(remote.objects, at, take_in)
        assert repair(Store(objects), LATER, apply=True).in_order
        assert [entry.block for entry in load_day(remote, DAY).blocks.values()] == [orphan]
        assert sum(1 for _ in remote.maintenance_ledgers(DAY)) == 1
    assert not objects.happened


def fill_orphan(store: Store) -> str:
    """Leave a block in no ledger that holds what no other one does."""
    return put(store, 99, part(0, 500, 5), writer=OTHER_WRITER).block


def test_readers_find_each_record_once_whatever_two_runs_do(store: Store) -> None:
    fill(store, usual(4))
    rows = sum(batch.batch.num_rows for batch in read(store))
    first = Transaction(store, block_id(WRITER, 1), COMPACT, LATER)
    second = Transaction(store, block_id(WRITER, 1), RECOVER, LATER)
    for transaction in (first, second):
        merged_again(transaction, store, block_id(WRITER, 1))
    first.commit()
    with pytest.raises(TransactionOvertaken):
        second.commit()
    assert sum(batch.batch.num_rows for batch in read(store)) == rows
