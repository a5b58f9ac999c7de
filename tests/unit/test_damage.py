"""What `damage` lists: blocks that should be there and whole, and the ranges that nobody else holds."""

from __future__ import annotations

from places import Kept, Place, kept_block
from store_support import NOW, WRITER, begin, block_range, put, session_at

from kcl_receiver.audit.verify import DAMAGED, MISSING, damage
from kcl_receiver.ranges import Position
from kcl_receiver.store.ledger.entries import BlockStored, Expired
from kcl_receiver.store.ledger.transaction import EXPIRE, RECOVER, Transaction
from kcl_receiver.store.store import Store


def landed(place: Place, *blocks: tuple[int, ...]) -> tuple[Store, list[BlockStored]]:
    """A store of one shard; each block holds one range, which follows the one before."""
    store = place()
    store.claim("landing")
    ledger = begin(store, WRITER)
    ledger.append([session_at()])
    entries: list[BlockStored] = []
    for number, positions in enumerate(blocks, 1):
        after = Position(positions[0] - 1) if number > 1 else "TRIM_HORIZON"
        entries.append(put(store, number, block_range(*positions, after=after)))
        ledger.append(entries[-1:])
    return store, entries


def kept(store: Store, entry: BlockStored) -> Kept:
    return kept_block(store, entry.block)


def test_each_missing_or_damaged_block_is_named_in_the_order_of_time_with_the_ranges_that_are_lost(
    place: Place,
) -> None:
    store, entries = landed(place, (1, 2), (3, 4), (5, 6), (7, 8))
    assert list(damage(store)) == []
    kept(store, entries[3]).remove()
    whole = kept(store, entries[1]).read()
    kept(store, entries[1]).write(whole[:-1])
    first, second = damage(store)
    assert (first.block, first.why, first.entry, first.ranges_lost) == (
        entries[1].block,
        DAMAGED,
        entries[1],
        entries[1].ranges,
    )
    assert "bytes, and" in first.detail
    assert (second.block, second.why, second.ranges_lost) == (entries[3].block, MISSING, entries[3].ranges)


def test_bytes_that_are_exchanged_are_found_by_a_deep_look(place: Place) -> None:
    store, entries = landed(place, (1, 2), (3, 4))
    content = kept(store, entries[0]).read()
    kept(store, entries[0]).write(content[:8] + bytes(20) + content[28:])
    assert list(damage(store)) == []
    assert [one.block for one in damage(store, deep=True)] == [entries[0].block]


def test_a_range_that_a_good_block_holds_is_not_lost_and_one_it_holds_in_part_is(place: Place) -> None:
    store, entries = landed(place, (1, 2), (3, 4), (3, 4, 5), (5, 6, 7))
    kept(store, entries[1]).remove()
    kept(store, entries[3]).remove()
    held, partly = damage(store)
    assert (held.block, held.ranges_lost) == (entries[1].block, ())
    assert (partly.block, partly.ranges_lost) == (entries[3].block, entries[3].ranges)


def test_a_range_that_two_missing_blocks_held_is_named_with_both(place: Place) -> None:
    store, entries = landed(place, (1, 2), (3, 4), (3, 4))
    for entry in entries[1:]:
        kept(store, entry).remove()
    assert [one.ranges_lost for one in damage(store)] == [entry.ranges for entry in entries[1:]]


def replace_block(store: Store, old: BlockStored, *positions: int, after: int) -> BlockStored:
    transaction = Transaction(store, old.block, RECOVER, NOW)
    new = put(store, 1, block_range(*positions, after=Position(after)), writer=transaction.writer)
    transaction.add_block(new, [old])
    transaction.commit()
    transaction.retire()
    return new


def test_a_replaced_block_is_no_damage_unless_what_replaced_it_does_not_hold_all(place: Place) -> None:
    store, entries = landed(place, (1, 2), (3, 4), (5, 6))
    kept(store, entries[1]).remove()
    new = replace_block(store, entries[1], 3, 4, after=2)
    assert list(damage(store)) == []
    kept(store, new).remove()
    assert [(one.block, one.ranges_lost) for one in damage(store)] == [(new.block, new.ranges)]


def test_what_recover_could_bring_back_only_in_part_stays_damage(place: Place) -> None:
    store, entries = landed(place, (1, 2), (3, 4), (5, 6))
    kept(store, entries[1]).remove()
    replace_block(store, entries[1], 3, after=2)
    [one] = damage(store)
    assert (one.block, one.why, one.ranges_lost) == (entries[1].block, MISSING, entries[1].ranges)
    assert "replaced" in one.detail


def test_an_expired_block_is_no_damage(place: Place) -> None:
    store, entries = landed(place, (1, 2), (3, 4))
    transaction = Transaction(store, entries[0].block, EXPIRE, NOW)
    transaction.add_expired(Expired(NOW, NOW, (entries[0].block,)))
    transaction.commit()
    transaction.retire()
    assert not kept(store, entries[0]).is_there
    assert list(damage(store)) == []
