"""Maintenance ledgers: what replaced a block, what was removed on purpose, and in which order that becomes durable."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ledger_index import LedgerIndex
from places import Kept, Place, kept_ledger
from store_support import NOW, SHARD, STREAM, WRITER, begin, block_range, ledgers_in, put

from kcl_receiver.errors import LedgerDamaged, StoreUnavailable
from kcl_receiver.ids import block_day, writer_id
from kcl_receiver.ranges import Position
from kcl_receiver.store.ledger.entries import BlockStored, Expired, Tail, WriterStarted, decode_ledger
from kcl_receiver.store.ledger.transaction import (
    COMPACT,
    EXPIRE,
    RECOVER,
    REPAIR,
    Transaction,
    content_of,
    declare_lifecycle,
    holds_all,
    lifecycle,
    load_day,
    load_to_change,
)
from kcl_receiver.store.store import Store

DAY = "2026-11-22"
DAY_MS = 86_400_000
LATER = NOW + 3 * DAY_MS


@pytest.fixture
def store(place: Place) -> Store:
    return place()


def stored(store: Store, count: int) -> list[BlockStored]:
    """Blocks of one range of two records each, in a generator's ledger."""
    ledger = begin(store, WRITER)
    entries = [
        put(store, number, block_range(2 * number, 2 * number + 1, after=Position(2 * number - 1)))
        for number in range(1, count + 1)
    ]
    ledger.append(entries)
    return entries


def merged(transaction: Transaction, store: Store, *old: BlockStored) -> BlockStored:
    """Put a block with the ranges of some others, as compact does, and take its entry in."""
    numbers = [one.first.sequence_number for entry in old for one in entry.ranges]
    ranges = [block_range(number, number + 1, after=Position(number - 1)) for number in numbers]
    block = transaction.next_block_id()
    entry = put(store, int(block[-12:]), *ranges, writer=transaction.writer)
    transaction.add_block(entry, old)
    return replace(entry, replaces=tuple(one.block for one in old))


# ---------------------------------------------------------------------- a transaction


def test_a_transaction_is_read_back_as_it_was_made(store: Store) -> None:
    one, two, three = stored(store, 3)
    transaction = Transaction(store, one.block, COMPACT, LATER, "0c77e1d2")
    assert transaction.empty
    new = merged(transaction, store, one, two)
    gone = Expired(LATER, NOW, (three.block,))
    transaction.add_expired(gone)
    assert not transaction.empty
    transaction.commit()
    assert store.maintenance_days() == [DAY]
    changes = load_day(store, DAY)
    assert changes.faults == []
    assert changes.blocks == {new.block: new}
    assert changes.replaced == {one.block: (new.block,), two.block: (new.block,)}
    assert changes.expired == {three.block: gone}
    assert sorted(transaction.retire()) == [one.block, two.block, three.block]
    assert [block for block, _ in store.list_blocks()] == [new.block]


def test_the_ledger_says_who_made_it_and_when_and_lies_with_the_blocks_that_it_is_about(store: Store) -> None:
    [one] = stored(store, 1)
    transaction = Transaction(store, one.block, RECOVER, LATER, "0c77e1d2")
    new = merged(transaction, store, one)
    transaction.commit()
    [(writer, content)] = store.maintenance_ledgers(DAY)
    assert writer == transaction.writer == WRITER.rpartition("-")[0] + "-0c77e1d2"
    assert block_day(new.block) == DAY
    started = decode_ledger(writer, content).entries[0]
    assert isinstance(started, WriterStarted)
    assert (started.role, started.time, started.tails) == (RECOVER, LATER, {})
    assert Kept(store, "maintenance/000000/000000001.jsonl").read() == content
    assert Kept(store, f"ledger/maintenance/{DAY}/000000001-{writer}").read() == b""


def test_a_generators_ledger_is_not_touched(store: Store) -> None:
    entries = stored(store, 2)
    before = dict(ledgers_in(store))
    transaction = Transaction(store, entries[0].block, COMPACT, LATER)
    merged(transaction, store, *entries)
    transaction.commit()
    transaction.retire()
    assert dict(ledgers_in(store)) == before
    assert store.writers() == [WRITER]


def test_nothing_is_deleted_before_the_ledger_is_durable(store: Store) -> None:
    entries = stored(store, 2)
    transaction = Transaction(store, entries[0].block, COMPACT, LATER)
    merged(transaction, store, *entries)
    with pytest.raises(ValueError, match="only after a durable entry"):
        transaction.retire()
    assert {one.block for one in entries} <= {block for block, _ in store.list_blocks()}


def test_a_block_of_which_not_every_range_is_held_is_left_alone(store: Store) -> None:
    ledger = begin(store, WRITER)
    whole = put(store, 1, block_range(1, 2), block_range(5, 6, after=Position(4)))
    other = put(store, 2, block_range(7, 8, after=Position(6)))
    ledger.append([whole, other])
    transaction = Transaction(store, whole.block, RECOVER, LATER)
    part = put(store, 1, block_range(5, 6, after=Position(4)), writer=transaction.writer)
    transaction.add_block(part, [whole, other])
    transaction.commit()
    assert transaction.retire() == []
    assert store.has_block(whole.block)
    assert store.has_block(other.block)


@pytest.mark.parametrize(
    "change", [{"checksum": "0" * 32}, {"session": "s2"}, {"after": Position(3)}, {"count": 3}, {"shard": "other"}]
)
def test_a_range_is_held_only_by_one_that_is_equal_in_all_but_its_row(change: dict[str, object]) -> None:
    one = block_range(5, 6, after=Position(4)).range
    assert holds_all({content_of(replace(one, first_row=7))}, [one])
    assert not holds_all({content_of(replace(one, **change))}, [one])  # type: ignore[arg-type]


def test_blocks_of_another_day_are_refused(store: Store) -> None:
    [one] = stored(store, 1)
    elsewhere = put(store, 1, block_range(9), writer=writer_id(NOW + DAY_MS, "00000009"))
    transaction = Transaction(store, one.block, COMPACT, LATER)
    with pytest.raises(ValueError, match=f"is not of {DAY}"):
        transaction.add_block(elsewhere, [one])
    with pytest.raises(ValueError, match=f"is not of {DAY}"):
        transaction.add_block(one, [elsewhere])
    with pytest.raises(ValueError, match=f"is not of {DAY}"):
        transaction.add_expired(Expired(LATER, NOW, (elsewhere.block,)))
    assert transaction.empty


def test_what_is_committed_is_closed(store: Store) -> None:
    [one] = stored(store, 1)
    transaction = Transaction(store, one.block, EXPIRE, LATER)
    transaction.add_expired(Expired(LATER, NOW, (one.block,)))
    transaction.commit()
    with pytest.raises(ValueError, match="was committed"):
        transaction.add_expired(Expired(LATER, NOW, (one.block,)))
    with pytest.raises(ValueError, match="was committed"):
        transaction.add_block(one)


def test_only_roles_that_are_known_are_taken(store: Store) -> None:
    with pytest.raises(ValueError, match="not a maintenance role"):
        Transaction(store, stored(store, 1)[0].block, "generator", LATER)


# ---------------------------------------------------------------------- what became of a day's blocks


def test_chains_of_replacements_lead_to_the_blocks_that_count(store: Store) -> None:
    one, two, three = stored(store, 3)
    first = Transaction(store, one.block, COMPACT, LATER, "00000002")
    joined = merged(first, store, one, two)
    first.commit()
    second = Transaction(store, one.block, COMPACT, LATER, "00000001")  # sorts before the first, and came after it
    all_three = merged(second, store, joined, three)
    second.commit()
    third = Transaction(store, one.block, RECOVER, LATER, "00000003")
    left = put(store, 1, block_range(2, 3, after=Position(1)), writer=third.writer)
    right = put(store, 2, block_range(4, 5, after=Position(3)), writer=third.writer)
    third.add_block(left, [all_three])
    third.add_block(right, [all_three])
    third.commit()
    changes = load_day(store, DAY)
    assert changes.faults == []
    assert set(changes.replaced) == {one.block, two.block, three.block, joined.block, all_three.block}
    assert all(set(new) == {left.block, right.block} for new in changes.replaced.values())


def test_a_circle_of_replacements_ends(store: Store) -> None:
    one, two = stored(store, 2)
    for old, new in ((one, two), (two, one)):
        transaction = Transaction(store, one.block, REPAIR, LATER)
        transaction.add_block(new, [old])
        transaction.commit()
    assert load_day(store, DAY).replaced == {one.block: (), two.block: ()}


def test_each_ledger_names_the_ends_of_those_that_nobody_has_named(store: Store) -> None:
    [one] = stored(store, 1)
    writers = []
    for token in ("00000001", "00000002", "00000003"):
        transaction = Transaction(store, one.block, REPAIR, LATER, token)
        transaction.add_block(one)
        transaction.commit()
        writers.append(transaction.writer)
    ledgers = {writer: decode_ledger(writer, content) for writer, content in store.maintenance_ledgers(DAY)}
    tails = [ledgers[writer].entries[0].tails for writer in writers]  # type: ignore[union-attr]
    assert tails == [{}, {writers[0]: ledgers[writers[0]].tail}, {writers[1]: ledgers[writers[1]].tail}]
    changes = load_day(store, DAY)
    assert changes.named == set(writers[:2])
    assert changes.writers == {writer: Tail(2, ledgers[writer].tail.hash) for writer in writers}


def test_transactions_that_share_what_was_loaded_name_each_other_as_well(store: Store) -> None:
    entries = stored(store, 2)
    changes = load_to_change(store, DAY)
    transactions = []
    for entry in entries:
        transaction = Transaction(store, entry.block, REPAIR, LATER, changes=changes)
        transaction.add_block(entry)
        transaction.commit()
        transaction.commit()
        transactions.append(transaction)
    last = decode_ledger(transactions[1].writer, dict(store.maintenance_ledgers(DAY))[transactions[1].writer])
    assert set(last.entries[0].tails) == {transactions[0].writer}  # type: ignore[union-attr]
    assert load_day(store, DAY).named == {transactions[0].writer}


def two_transactions(store: Store) -> tuple[list[BlockStored], list[Kept]]:
    entries = stored(store, 2)
    ledgers = []
    for entry, token in zip(entries, ("00000001", "00000002"), strict=True):
        transaction = Transaction(store, entry.block, REPAIR, LATER, token)
        transaction.add_block(entry)
        transaction.commit()
        ledgers.append(kept_ledger(store, transaction.writer))
    return entries, ledgers


def test_a_ledger_that_another_saw_and_that_is_gone_is_a_fault(store: Store) -> None:
    _, [first, _] = two_transactions(store)
    first.remove()
    [fault] = load_day(store, DAY).faults
    assert "entry 1 of the maintenance log, is lost" in fault.message


def test_lines_that_are_missing_or_more_are_a_fault(store: Store) -> None:
    _, [first, _] = two_transactions(store)
    content = first.read()
    first.write(content[: content.find(b"\n") + 1])
    assert ["is not there as it was" in fault.message for fault in load_day(store, DAY).faults] == [True]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: content.replace(b'"rows":2', b'"rows":3'), "line 2 of the ledger"),
        (lambda content: content[:-5], "ends in the middle of a line"),
        (lambda content: b"", "lost or empty"),
    ],
)
def test_a_damaged_ledger_is_a_fault_and_stops_maintenance_of_that_day(
    store: Store,
    spoil: object,
    message: str,
) -> None:
    entries, [_, last] = two_transactions(store)
    last.write(spoil(last.read()))  # type: ignore[operator]
    changes = load_day(store, DAY)
    assert [message in fault.message for fault in changes.faults] == [True]
    assert changes.blocks == {entries[0].block: entries[0]}  # what came before it counts
    with pytest.raises(LedgerDamaged, match=message):
        Transaction(store, entries[0].block, COMPACT, LATER)
    with pytest.raises(LedgerDamaged, match=message):
        LedgerIndex.load(store)


def test_a_ledger_that_came_while_the_directory_was_listed_is_no_fault(store: Store) -> None:
    """The listing shows a new ledger, and not the one that it names, which is a little older."""
    two_transactions(store)
    [_, second] = store.maintenance_ledgers(DAY)
    listings = [[second], list(store.maintenance_ledgers(DAY))]
    store.maintenance_ledgers = lambda day: iter(listings.pop(0))  # type: ignore[method-assign, assignment]
    assert load_day(store, DAY).faults == []


def test_the_index_of_a_store_knows_what_maintenance_did(store: Store) -> None:
    one, two, three = stored(store, 3)
    transaction = Transaction(store, one.block, COMPACT, LATER)
    new = merged(transaction, store, one, two)
    gone = Expired(LATER, NOW, (three.block,))
    transaction.add_expired(gone)
    transaction.commit()
    transaction.retire()
    index = LedgerIndex.load(store)
    assert index.replaced == {one.block: (new.block,), two.block: (new.block,)}
    assert index.expired == {three.block: gone}
    assert index.adopted == []
    assert [block for _, block in index.ranges(STREAM, SHARD)].count(new.block) == 2


def test_a_store_without_maintenance_has_none(store: Store) -> None:
    stored(store, 1)
    assert store.maintenance_days() == []
    changes = load_day(store, DAY)
    assert (changes.blocks, changes.replaced, changes.expired, changes.faults) == ({}, {}, {}, [])


def test_one_maintenance_at_a_time_and_the_generator_beside_it(locking_place: Place) -> None:
    store, other = locking_place(), locking_place()
    store.hold_maintenance()
    store.hold_maintenance()
    with pytest.raises(StoreUnavailable, match="other maintenance works on"):
        other.hold_maintenance()
    other.hold()


# ---------------------------------------------------------------------- lifecycle


def test_the_newest_declaration_of_a_lifecycle_counts(store: Store) -> None:
    assert lifecycle(store) is None
    declare_lifecycle(store, 90, NOW)
    assert lifecycle(store) == 90
    declare_lifecycle(store, 30, NOW + 1)
    assert lifecycle(store) == 30
    declare_lifecycle(store, None, NOW + 2)
    assert lifecycle(store) is None
    assert store.get_document("lifecycle-0003.json") is not None
    assert list(store.list_leftovers()) == []


def test_a_lifecycle_of_no_day_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="not a number of days"):
        declare_lifecycle(store, 0, NOW)
    assert lifecycle(store) is None


@pytest.mark.parametrize("content", [b"", b"[]", b'{"days": "many"}', b'{"declared": 1}'])
def test_a_declaration_that_cannot_be_read_is_named(store: Store, content: bytes) -> None:
    store.put_document_if_absent("lifecycle-0001.json", content)
    with pytest.raises(LedgerDamaged, match=r"lifecycle-0001\.json"):
        lifecycle(store)
