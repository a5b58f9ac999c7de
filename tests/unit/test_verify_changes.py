"""Verify on stores that maintenance has changed, by the ledger alone, and while others are at work."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from places import Kept, Place, kept_block, kept_ledger
from store_support import (
    NOW,
    OTHER_WRITER,
    WRITER,
    begin,
    block_range,
    columns_of,
    put,
    range_of,
    session_at,
)

from kcl_receiver.audit.verify import DAY_MS, EXPIRED, GAP, LOST, PROVEN, Report, verify_store
from kcl_receiver.errors import BlockMissing, StoreUnavailable, WriterFenced
from kcl_receiver.ids import writer_of
from kcl_receiver.ranges import Position
from kcl_receiver.reading.api import open_reading
from kcl_receiver.reading.query import Query
from kcl_receiver.store.blocks.encode import BlockRange
from kcl_receiver.store.blocks.stream import BlockStream
from kcl_receiver.store.ledger.entries import BlockStored, Expired, decode_ledger, encode_lines
from kcl_receiver.store.ledger.transaction import COMPACT, EXPIRE, RECOVER, REPAIR, Transaction, declare_lifecycle
from kcl_receiver.store.ledger.writer import LedgerWriter
from kcl_receiver.store.objects import Checked, Stat
from kcl_receiver.store.store import Store


class Landed:
    """A store of one shard and five blocks of two records each."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.store.claim("landing")
        self.ledger = begin(self.store, WRITER)
        self.ledger.append([session_at()])
        self.blocks: list[BlockStored] = []
        for first in range(1, 11, 2):
            self.add(first, first + 1, after=first - 1)

    def add(self, *positions: int, after: int = 0, session: str = "s1") -> BlockStored:
        ranged = block_range(*positions, after=Position(after) if after else "TRIM_HORIZON", session=session)
        entry = put(self.store, len(self.blocks) + 1, ranged)
        self.blocks.append(entry)
        self.ledger.append([entry])
        return entry

    def kept(self, entry: BlockStored) -> Kept:
        return kept_block(self.store, entry.block)

    def replace(self, old: list[BlockStored], *positions: int, after: int, retire: bool = True) -> BlockStored:
        transaction = Transaction(self.store, old[0].block, RECOVER, NOW)
        ranges = [
            block_range(*positions[at : at + 2], after=Position(after + at) if after + at else "TRIM_HORIZON")
            for at in range(0, len(positions), 2)
        ]
        new = put(self.store, 1, *ranges, writer=transaction.writer)
        transaction.add_block(new, old)
        transaction.commit()
        if retire:
            transaction.retire()
        return new

    def expire(self, *old: BlockStored, retire: bool = True) -> None:
        transaction = Transaction(self.store, old[0].block, EXPIRE, NOW)
        transaction.add_expired(Expired(NOW + 9000, NOW + 5000, tuple(one.block for one in old)))
        transaction.commit()
        if retire:
            transaction.retire()


@pytest.fixture
def landed(place: Place) -> Landed:
    return Landed(place())


def counts(report: Report) -> tuple[str, int, int]:
    [one] = report.shards
    return one.state, one.records, one.duplicates


def test_a_compacted_store_is_proven_and_holds_each_record_once(landed: Landed) -> None:
    landed.replace(landed.blocks[:3], 1, 2, 3, 4, 5, 6, after=0)
    report = verify_store(landed.store)
    assert report.proven
    assert counts(report) == (PROVEN, 10, 0)
    assert (report.blocks, report.replaced_blocks, report.replaced_present) == (3, 3, [])


def test_replaced_blocks_that_are_still_there_are_told_and_count_for_nothing(landed: Landed) -> None:
    landed.replace(landed.blocks[:3], 1, 2, 3, 4, 5, 6, after=0, retire=False)
    report = verify_store(landed.store)
    assert report.proven
    assert counts(report) == (PROVEN, 10, 0)
    assert report.replaced_present == [one.block for one in landed.blocks[:3]]


def test_a_record_that_the_stand_in_does_not_hold_is_lost(landed: Landed) -> None:
    landed.replace(landed.blocks[1:3], 3, 4, after=2)
    report = verify_store(landed.store)
    assert counts(report) == (LOST, 8, 0)
    assert not report.proven
    [lost] = report.shards[0].lost
    assert (lost.block, lost.count) == (landed.blocks[2].block, 2)


def test_a_missing_stand_in_is_missing_and_what_it_held_lost_once(landed: Landed) -> None:
    new = landed.replace(landed.blocks[1:3], 3, 4, 5, 6, after=2)
    landed.kept(new).remove()
    report = verify_store(landed.store)
    assert report.missing == [new.block]
    assert [(one.block, one.count) for one in report.shards[0].lost] == [(new.block, 2), (new.block, 2)]


def test_expired_blocks_are_not_lost_and_their_links_still_prove(landed: Landed) -> None:
    landed.expire(*landed.blocks[:2])
    report = verify_store(landed.store)
    assert report.proven
    assert counts(report) == (PROVEN, 6, 0)
    assert (report.expired_blocks, report.missing) == (2, [])
    [expired] = report.shards[0].expired
    assert (expired.first, expired.last, expired.records) == (Position(1), Position(4), 4)
    assert (expired.before, expired.since) == (NOW + 5000, NOW + 9000)
    assert (expired.begin_ms, expired.end_ms) == (NOW + 1, NOW + 4)


def test_a_shard_of_which_all_was_expired_says_so_and_is_proven(landed: Landed) -> None:
    landed.expire(*landed.blocks, retire=False)
    report = verify_store(landed.store)
    assert report.proven
    assert counts(report) == (EXPIRED, 0, 0)
    assert report.expired_present == [one.block for one in landed.blocks]


def test_what_was_compacted_and_then_expired_is_expired(landed: Landed) -> None:
    new = landed.replace(landed.blocks[:2], 1, 2, 3, 4, after=0)
    landed.expire(new)
    report = verify_store(landed.store)
    assert report.proven
    assert counts(report) == (PROVEN, 6, 0)


def test_a_gap_is_not_hidden_by_what_expired_around_it(landed: Landed) -> None:
    late = landed.add(20, 21, after=15, session="s2")
    landed.expire(*landed.blocks[:4], late)
    report = verify_store(landed.store)
    assert report.shards[0].state == GAP
    assert report.shards[0].gaps[0].through == Position(15)


def test_a_missing_block_older_than_the_declared_lifecycle_is_expired_and_a_newer_one_missing(landed: Landed) -> None:
    declare_lifecycle(landed.store, 7, NOW)
    landed.kept(landed.blocks[0]).remove()
    old = verify_store(landed.store, now_ms=NOW + 2 + 7 * DAY_MS + 1)
    assert old.proven
    assert (old.expired_blocks, old.shards[0].expired[0].since) == (1, -1)
    new = verify_store(landed.store, now_ms=NOW + 2 + 7 * DAY_MS)
    assert (new.missing, new.shards[0].state) == ([landed.blocks[0].block], LOST)
    declare_lifecycle(landed.store, None, NOW + 1)
    assert verify_store(landed.store, now_ms=NOW + 30 * DAY_MS).missing == [landed.blocks[0].block]


def test_a_missing_block_with_a_younger_record_between_its_ends_is_missing(landed: Landed) -> None:
    rows = [(n, 0, b"k", NOW - 9 * DAY_MS if n != 12 else NOW, b"d") for n in (11, 12, 13)]
    columns = columns_of(rows)
    entry = put(landed.store, 6, BlockRange(range_of(columns, after=Position(10)), columns))
    landed.ledger.append([entry])
    landed.kept(entry).remove()
    declare_lifecycle(landed.store, 7, NOW)
    assert verify_store(landed.store, now_ms=NOW + 7 * DAY_MS).missing == [entry.block]
    with pytest.raises(BlockMissing):
        list(open_reading(landed.store, Query(now=lambda: NOW + 7 * DAY_MS)))
    assert verify_store(landed.store, now_ms=NOW + 7 * DAY_MS + 1).missing == []


def test_a_damaged_maintenance_ledger_is_no_proof(landed: Landed) -> None:
    new = landed.replace(landed.blocks[:2], 1, 2, 3, 4, after=0)
    kept = kept_ledger(landed.store, writer_of(new.block))
    kept.write(kept.read().replace(b'"rows":4', b'"rows":5'))
    report = verify_store(landed.store)
    assert not report.proven
    assert any("not as it was written" in fault for fault in report.ledger_faults)


def test_a_block_that_is_compacted_while_verify_runs_is_not_missing(landed: Landed) -> None:
    class Busy(Checked):
        done = False

        def list(self, prefix: str, *, deep: bool = True) -> Iterator[Stat]:
            if not self.done and prefix == "blocks/":
                self.done = True
                landed.replace(landed.blocks[:2], 1, 2, 3, 4, after=0)
            return super().list(prefix, deep=deep)

    report = verify_store(Store(Busy(landed.store.objects)))
    assert report.proven
    assert counts(report) == (PROVEN, 10, 0)


def test_a_ledger_that_goes_on_behind_its_last_line_is_damaged(landed: Landed, place: Place) -> None:
    begin(landed.store, OTHER_WRITER)
    with pytest.raises(WriterFenced, match=f"was closed by {OTHER_WRITER}"):
        landed.ledger.append([session_at()])  # a zombie: the writer that was taken for dead
    assert verify_store(landed.store).proven
    kept = kept_ledger(landed.store, WRITER)
    lines = kept.read().splitlines(keepends=True)
    other = place("other")
    ledger = LedgerWriter(other, WRITER)
    ledger.append([session_at()] * len(lines))
    kept.write(kept_ledger(other, WRITER).read())
    assert any("was closed, and its end is not there" in one for one in verify_store(landed.store).ledger_faults)
    kept.write(b"".join(lines))
    assert verify_store(landed.store).proven
    more, _ = encode_lines([session_at()], len(lines) + 1, decode_ledger(WRITER, b"".join(lines)).tail.hash)
    kept.write(b"".join(lines) + more)
    (fault,) = verify_store(landed.store).ledger_faults
    assert "the line before it is the last one" in fault


def test_a_block_that_two_ledgers_name_counts_once(landed: Landed) -> None:
    """A ledger was lost, `repair` took its blocks in, and it was put back from a backup."""
    for _ in range(2):
        repair = Transaction(landed.store, landed.blocks[1].block, REPAIR, NOW)
        repair.add_block(landed.blocks[1], [])
        repair.commit()
    report = verify_store(landed.store)
    assert report.proven
    assert (counts(report), report.shards[0].blocks) == ((PROVEN, 10, 0), 5)


def test_the_collector_is_left_as_it_was(landed: Landed, place: Place) -> None:
    before = gc.get_threshold()
    verify_store(landed.store)
    assert gc.get_threshold() == before
    broken = place()
    broken.writers = lambda: (_ for _ in ()).throw(StoreUnavailable("gone"))  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable):
        verify_store(broken)
    assert gc.get_threshold() == before


# By the ledger alone


def test_by_ledger_alone_no_block_is_looked_at(landed: Landed) -> None:
    class Blind(Checked):
        def list(self, prefix: str, *, deep: bool = True) -> Iterator[Stat]:
            assert not prefix.startswith("blocks"), "looked"
            return super().list(prefix, deep=deep)

        def stat(self, key: str) -> Stat | None:
            assert not key.startswith("blocks"), "looked"
            return super().stat(key)

        def open(self, key: str) -> BlockStream:
            assert not key.startswith("blocks"), "looked"
            return super().open(key)

    for one in landed.blocks:
        landed.kept(one).remove()
    report = verify_store(Store(Blind(landed.store.objects)), ledger_only=True)
    assert report.proven
    assert counts(report) == (PROVEN, 10, 0)
    assert (report.blocks, report.ledger_only) == (5, True)


def test_by_ledger_alone_a_gap_is_found(landed: Landed) -> None:
    landed.add(20, 21, after=15, session="s2")
    assert verify_store(landed.store, ledger_only=True).shards[0].state == GAP


def test_by_ledger_alone_what_overlaps_in_part_is_not_counted_and_said(landed: Landed) -> None:
    landed.add(10, 11, after=9, session="s2")
    report = verify_store(landed.store, ledger_only=True)
    one = report.shards[0]
    assert (one.records, one.duplicates) == (10, 2)
    assert (one.uncounted_ranges, one.uncounted_records) == (1, 2)
    assert counts(verify_store(landed.store)) == (PROVEN, 11, 1)


def test_a_role_makes_no_difference(landed: Landed) -> None:
    transaction = Transaction(landed.store, landed.blocks[0].block, COMPACT, NOW)
    new = put(landed.store, 1, block_range(1, 2), writer=transaction.writer)
    transaction.add_block(new, landed.blocks[:1])
    transaction.commit()
    transaction.retire()
    assert verify_store(landed.store).proven
