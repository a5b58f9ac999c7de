"""The generator's hands keep the order of durable steps: the block, then its ledger entry, then the word of it."""

from __future__ import annotations

import pytest
from aggregation import Form, forms
from generator_harness import Harness
from ledger_index import LedgerIndex
from places import Place
from store_support import ledgers_in
from test_workers import workers

from kcl_receiver.errors import StoreUnavailable
from kcl_receiver.generator.effects import Append, BlockRecord, WriteBlock
from kcl_receiver.ranges import TRIM_HORIZON
from kcl_receiver.store.store import Buffer, Store


def block_of(form: Form) -> WriteBlock:
    h = Harness()
    p = h.open("shard-0", after=TRIM_HORIZON)
    p.batch(*form.records(5, 6))
    h.cut()
    (block,) = h.waiting(WriteBlock)
    return block


def ledger(place: Place) -> bytes:
    return b"".join(content for _, content in ledgers_in(place()))


@forms
def test_a_block_is_durable_before_its_ledger_entry_is_begun(
    place: Place, form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = workers(place)
    before = ledger(place)
    at_the_block: list[bytes] = []
    put_block = Store.put_block

    def watched(store: Store, block_id: str, payload: Buffer) -> None:
        at_the_block.append(ledger(place))
        put_block(store, block_id, payload)

    monkeypatch.setattr(Store, "put_block", watched)
    written = made.write_block(block_of(form))
    assert [*at_the_block, ledger(place)] == [before, before]
    made.append(Append((BlockRecord(1, written),)), {})
    assert [entry.ranges for entry in LedgerIndex.load(place()).blocks().values()] == [written.ranges]


@forms
def test_of_a_block_that_could_not_be_stored_there_is_no_word_and_the_next_try_stores_it(
    place: Place, form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = workers(place)
    before = ledger(place)
    block = block_of(form)

    def failing(_store: Store, _block_id: str, _payload: Buffer) -> None:
        raise StoreUnavailable("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "put_block", failing)
        for _ in range(4):  # after as many, Spark's receiver goes on as if the block were stored
            with pytest.raises(StoreUnavailable):
                made.write_block(block)
    store = place()
    assert (ledger(place), list(store.list_blocks())) == (before, [])
    written = made.write_block(block)
    assert [one for one, _ in store.list_blocks()] == [written.block]
