"""What a dead generator sent to a bucket, and what arrives when the next one has begun or is about to."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest
from store_support import NOW, STREAM, WRITER, begin, block_range, put, session_at, stored

from kcl_receiver import read
from kcl_receiver.audit.verify import verify_store
from kcl_receiver.errors import StoreUnavailable
from kcl_receiver.generator.effects import Measurement
from kcl_receiver.generator.generator_io import GeneratorIO
from kcl_receiver.generator.stream import StreamView
from kcl_receiver.ids import writer_id
from kcl_receiver.maintenance.compact import Options, compact
from kcl_receiver.maintenance.repair import DELETE, repair
from kcl_receiver.ranges import Position, StreamIdentity
from kcl_receiver.store.ledger.entries import BlockStored, Entry, WriterLedger, decode_ledger
from kcl_receiver.store.ledger.store_log import StoreLog
from kcl_receiver.store.ledger.takeover import take_over
from kcl_receiver.store.ledger.transaction import COMPACT, Transaction
from kcl_receiver.store.memory import Fault, MemoryBucket, MemoryObjects
from kcl_receiver.store.store import Store


class QuietStream:
    """A stream that is always there; `described` is called when it is asked for."""

    retention_hours = 24
    measured = Measurement(-1, 0, 0, retention_hours)

    def __init__(self, described: Callable[[], None]) -> None:
        self._described = described

    def describe(self, _expected: StreamIdentity | None) -> StreamIdentity:
        self._described()
        return STREAM


@pytest.fixture
def bucket() -> MemoryBucket:
    return MemoryBucket()


@pytest.fixture
def store(bucket: MemoryBucket) -> Store:
    return Store(MemoryObjects(bucket))


def starting(bucket: MemoryBucket, between: Callable[[], None]) -> GeneratorIO:
    """Return a generator that starts; `between` happens after it has read the ledgers, and before it closes them."""
    ids = iter(range(1, 10))
    return GeneratorIO(
        Store(MemoryObjects(bucket)),
        cast(StreamView, QuietStream(between)),
        "landing",
        "none",
        store_again=False,
        new_writer=lambda millis: writer_id(millis, f"{next(ids):08x}"),
    )


def send_late(bucket: MemoryBucket, request: Callable[[], object]) -> None:
    """Let a request that changes something arrive when `deliver_late` is called."""
    bucket.faults = lambda name, _: Fault.LATE if name == "put" else None
    with pytest.raises(StoreUnavailable):
        request()
    bucket.faults = lambda *_: None


def killed_with_a_line_on_its_way(bucket: MemoryBucket, store: Store) -> BlockStored:
    """Let a writer store a block whose line arrives when `deliver_late` is called; return it."""
    dead = begin(store, WRITER)
    block = put(store, 1, block_range(1))
    send_late(bucket, lambda: dead.append([session_at(), block]))
    return block


def ledger(store: Store, writer: str) -> WriterLedger:
    return decode_ledger(writer, store.ledger(writer) or b"")


def blocks_in(entries: list[Entry]) -> list[str]:
    return [entry.block for entry in entries if isinstance(entry, BlockStored)]


def test_what_is_relied_on_is_not_written_anew_where_all_that_is_seen_is_durable(
    bucket: MemoryBucket, store: Store
) -> None:
    begin(store, WRITER).append([put(store, 1, block_range(1))])
    puts: list[str] = []

    def noted(request: str, key: str) -> None:
        if request == "put":
            puts.append(key)

    bucket.faults = noted
    assert blocks_in(list(take_over(store).blocks)) == [f"{WRITER}-000000000001"]
    assert puts == []


def test_a_line_of_the_dead_that_arrives_while_its_ledger_is_closed_is_taken_over(
    bucket: MemoryBucket, store: Store
) -> None:
    block = killed_with_a_line_on_its_way(bucket, store)
    next_one = starting(bucket, bucket.deliver_late)
    with pytest.raises(StoreUnavailable, match="as it was read a moment ago"):
        next_one.prepare()
    next_one.prepare()
    closed = ledger(store, WRITER)
    assert (closed.fault, closed.is_closed) == (None, True)
    assert blocks_in(closed.entries) == [block.block]  # and not a second time, as one in no ledger
    assert [*StoreLog(store).newest().state.living] == [next_one.writer]
    assert next_one.ranges_in_memory == 1


def test_a_line_of_the_dead_that_arrives_after_its_ledger_was_closed_is_refused(
    bucket: MemoryBucket, store: Store
) -> None:
    block = killed_with_a_line_on_its_way(bucket, store)
    starting(bucket, lambda: None).prepare()
    before = store.ledger(WRITER)
    bucket.deliver_late()
    assert store.ledger(WRITER) == before
    assert blocks_in(ledger(store, WRITER).entries) == [block.block]  # adopted by who closed it


def test_a_block_of_the_dead_that_arrives_after_its_ledger_was_closed_is_in_no_ledger(
    bucket: MemoryBucket, store: Store
) -> None:
    begin(store, WRITER)
    send_late(bucket, lambda: put(store, 1, block_range(1)))
    starting(bucket, lambda: None).prepare()
    bucket.deliver_late()
    assert [block for block, _ in store.list_blocks()] == [f"{WRITER}-000000000001"]
    assert take_over(store).blocks == []


def merged(store: Store, *old: BlockStored) -> tuple[Transaction, BlockStored]:
    """Return a transaction that has put one block in the place of others, and is not committed."""
    transaction = Transaction(store, old[0].block, COMPACT, NOW)
    new = stored(store, transaction.next_block_id(), [block_range(1), block_range(2, after=Position(1))])
    transaction.add_block(new, old)
    return transaction, new


def repaired(store: Store) -> int:
    return [one.kind for one in repair(store, NOW, apply=True).actions].count(DELETE)


def compacted(store: Store) -> int:
    return sum(report.orphans for report in compact(store, Options(), NOW))


@pytest.mark.parametrize("next_run", [repaired, compacted])
def test_what_a_killed_run_was_about_to_record_does_not_come_when_its_blocks_are_gone(
    bucket: MemoryBucket, store: Store, next_run: Callable[[Store], int]
) -> None:
    ledger_writer = begin(store, WRITER)
    old = [put(store, 1, block_range(1)), put(store, 2, block_range(2, after=Position(1)))]
    ledger_writer.append([session_at(), *old])
    transaction, new = merged(store, *old)
    bucket.faults = lambda name, key: Fault.LATE if name == "put" and key.startswith("maintenance/") else None
    with pytest.raises(StoreUnavailable):
        transaction.commit()
    bucket.faults = lambda *_: None
    assert next_run(Store(MemoryObjects(bucket))) == 1
    assert not store.has_block(new.block)
    bucket.deliver_late()
    report = verify_store(store, now_ms=NOW)
    assert (report.missing, report.damaged, report.ledger_faults) == ([], {}, [])
    assert sum(batch.batch.num_rows for batch in read(store)) == 2
