"""What a ledger's writer has appended is durable, and what an heir relies on, too: on a file system that fails."""

from __future__ import annotations

import errno

import pytest
from fake_files import FakeFiles
from ledger_index import LedgerIndex
from store_support import SHARD, STREAM, WRITER, begin, block_range, ledgers_in, local_store, put, session_at
from test_ledger import ENTRIES

from kcl_receiver.errors import StoreUnavailable
from kcl_receiver.ids import block_id
from kcl_receiver.store.ledger.entries import decode_ledger
from kcl_receiver.store.ledger.takeover import take_over
from kcl_receiver.store.ledger.writer import LedgerWriter


def test_after_a_failure_of_any_step_the_same_entries_are_appended_once() -> None:
    files = FakeFiles()
    store = local_store("/store", files)
    ledger = LedgerWriter(store, WRITER)
    ledger.append(ENTRIES[:1])
    for call in ("open", "write", "fsync"):
        files.fail(call, errno.EIO, WRITER)
        with pytest.raises(StoreUnavailable):
            ledger.append(ENTRIES[1:3])
        assert ledger.tail.number == 1
    ledger.append(ENTRIES[1:3])
    ledger.append(ENTRIES[3:])
    assert decode_ledger(WRITER, dict(ledgers_in(store))[WRITER]).entries == ENTRIES


def test_after_a_failure_other_entries_are_refused_until_the_same_were_appended() -> None:
    files = FakeFiles()
    ledger = LedgerWriter(local_store("/store", files), WRITER)
    files.fail("fsync", errno.EIO, WRITER)
    with pytest.raises(StoreUnavailable):
        ledger.append(ENTRIES[:1])
    with pytest.raises(ValueError, match="the same entries"):
        ledger.append(ENTRIES[1:2])
    ledger.append(ENTRIES[:1])
    ledger.append(ENTRIES[1:2])


def test_a_block_that_is_taken_in_is_made_durable_first() -> None:
    files = FakeFiles()
    store = local_store("/store", files)
    begin(store, WRITER)
    files.fail("fsync_dir", errno.EIO, "2026-11-22")
    with pytest.raises(StoreUnavailable):
        put(store, 1, block_range(1))
    heir = local_store("/store", files)
    assert [entry.block for entry in take_over(heir).adopted[WRITER]] == [block_id(WRITER, 1)]
    assert local_store("/store", files.lose_power()).has_block(block_id(WRITER, 1))


def test_lines_that_are_relied_on_are_made_durable_first() -> None:
    files = FakeFiles()
    store = local_store("/store", files)
    ledger = begin(store, WRITER)
    files.fail("fsync", errno.EIO, "ledger")
    with pytest.raises(StoreUnavailable):
        ledger.append([session_at()])
    assert LedgerIndex.load(local_store("/store", files.lose_power())).sessions(STREAM, SHARD) == []
    assert take_over(local_store("/store", files)).ledgers[WRITER].tail.number == 3
    assert LedgerIndex.load(local_store("/store", files.lose_power())).sessions(STREAM, SHARD) == [session_at()]
