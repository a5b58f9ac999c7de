"""The cases of Spark's BlockGeneratorSuite and ReceivedBlockHandlerSuite, and of "RDD generation", for plain and for
aggregated records. docs/reliability.md says which of their tests has its counterpart here.

`generator_harness` holds every effect to the contract besides: nothing is reported that is not durable.
"""

from __future__ import annotations

import pytest
from aggregation import Form, forms
from generator_harness import Harness, Processor
from ledger_index import LedgerIndex
from places import Place, kept_block
from test_workers import workers

from kcl_receiver.audit.verify import LOST, PROVEN, verify_store
from kcl_receiver.errors import BlockDamaged, StoreUnavailable
from kcl_receiver.generator.effects import Append, BlockPart, BlockRecord, LookFurther, LookUp, WriteBlock
from kcl_receiver.generator.generator_io import GeneratorIO
from kcl_receiver.ranges import TRIM_HORIZON, After, Position, Range
from kcl_receiver.store.blocks.file import BlockFile
from kcl_receiver.wire.columns import checksum
from kcl_receiver.wire.messages import Draining, Stored

AWAY = StoreUnavailable("disk full", "make room")


def parts(h: Harness) -> list[BlockPart]:
    """Return the parts of all blocks that are being written, in order."""
    return [part for block in h.waiting(WriteBlock) for part in block.parts]


# ---------------------------------------------------------------------- BlockGeneratorSuite


@forms
def test_blocks_hold_what_was_given_in_order_with_ranges_that_say_so(form: Form) -> None:
    h = Harness()
    p = h.open()
    h.cut()
    assert h.asked == []
    p.batch(*form.records(5, 6))
    p.batch(*form.records(7))
    assert h.asked == []
    h.cut()
    first = parts(h)
    h.store()
    p.batch(*form.records(8, 9))
    h.cut()
    second = parts(h)
    h.store()
    h.cut()
    assert h.block_rows() == [form.positions(5, 6, 7), form.positions(8, 9)]
    ranges = [part.range for part in [*first, *second]]
    assert [(one.first, one.last, one.whole) for one in ranges] == [
        (Position(5), form.end(6), form.end(6)),
        (Position(7), form.end(7), form.end(7)),
        (Position(8), form.end(9), form.end(9)),
    ]
    assert [one.after for one in ranges] == [TRIM_HORIZON, form.end(6), form.end(7)]
    assert [one.count for one in ranges] == [2 * form.subs, form.subs, 2 * form.subs]
    assert [one.checksum for one in ranges] == [checksum(part.columns) for part in [*first, *second]]
    assert p.of(Stored) == [Stored(0), Stored(2), Stored(3)]


@forms
def test_a_generator_that_drains_takes_nothing_more(form: Form) -> None:
    h = Harness()
    p = h.open()
    h.drain()
    p.batch(*form.records(5))
    assert (p.admitted, len(p.of(Draining))) == ([], 2)
    h.cut()
    assert h.asked == []


@forms
def test_a_stop_takes_no_more_and_ends_only_when_a_thousand_items_are_stored(form: Form) -> None:
    h = Harness()
    p = h.open()
    numbers = range(1, 1001)
    for number in numbers:
        p.batch(*form.records(number))
    h.drain()
    p.batch(*form.records(2000))
    assert p.draining
    h.disconnect(p.connection)
    for _ in range(3):
        h.advance(h.settings.drain)
        assert h.stop is None
    h.write()
    assert h.stop is None, "the block is written, and its ledger entry is not"
    h.store()
    assert h.stop is not None
    assert h.stop.error is None
    assert [row for block in h.block_rows() for row in block] == form.positions(*numbers)
    h.drain()
    assert h.asked == []


@forms
@pytest.mark.parametrize("step", ["block", "ledger"])
def test_an_error_of_the_store_is_told_and_nothing_is_reported_stored(form: Form, step: str) -> None:
    h = Harness(store_timeout=30.0)
    p = h.open()
    p.batch(*form.records(5))
    h.cut()
    if step == "ledger":
        h.write()
    while h.stop is None:
        if step == "block":
            h.write(error=AWAY)
        else:
            h.append(error=AWAY)
        if h.stop is None:
            failing = h.core.status(h.now).failing
            assert failing is not None
            assert failing.message == AWAY.message
            h.to_deadline()
    assert h.stop.error is AWAY
    assert p.stored == 0


@forms
def test_a_block_is_stored_once_although_the_store_failed_at_first(form: Form) -> None:
    h = Harness()
    p = h.open()
    p.batch(*form.records(5))
    h.cut()
    for _ in range(4):  # Spark gives up after as many
        h.write(error=AWAY)
        h.to_deadline()
    h.store()
    assert h.block_rows() == [form.positions(5)]
    assert p.stored == 1


@forms
def test_a_window_that_is_full_holds_the_next_batch_back_and_loses_none(form: Form) -> None:
    size = Harness().open().batch(*form.records(5)).columns.memory
    h = Harness(window_bytes=2 * size)
    p = h.open()
    for number in (5, 6, 7):
        p.batch(*form.records(number))
    assert p.admitted == [1, 2]
    h.cut()
    h.store()
    assert p.admitted == [1, 2, 3]
    h.cut()
    h.store()
    assert [row for block in h.block_rows() for row in block] == form.positions(5, 6, 7)


# ---------------------------------------------------------------------- ReceivedBlockHandlerSuite, RDD generation


def part(form: Form, shard: str, numbers: list[int], after: After) -> BlockPart:
    """Return what a processor delivered, as the generator hands it to its workers."""
    h = Harness()
    p: Processor = h.open(shard, after=after)
    p.batch(*form.records(*numbers))
    h.cut()
    (one,) = parts(h)
    return one


def stored(made: GeneratorIO, form: Form) -> list[tuple[Range, ...]]:
    """Store two blocks of two shards by the generator's real hands; return what each block should say."""
    blocks = [
        [part(form, "shard-0", [5, 6], TRIM_HORIZON), part(form, "shard-1", [5], TRIM_HORIZON)],
        [part(form, "shard-0", [7], form.end(6))],
    ]
    expected = []
    for number, block in enumerate(blocks, start=1):
        written = made.write_block(WriteBlock(number, tuple(block)))
        made.append(Append((BlockRecord(number, written),)), {})
        assert written.rows == sum(one.columns.count for one in block)
        assert [one.range.checksum for one in block] == [one.checksum for one in written.ranges]
        expected.append(written.ranges)
    return expected


@forms
def test_ids_and_ranges_of_blocks_are_the_same_in_ledger_and_footers(place: Place, form: Form) -> None:
    expected = stored(workers(place), form)
    store = place()
    index = LedgerIndex.load(store)
    blocks = index.blocks()
    assert [entry.ranges for entry in blocks.values()] == expected
    assert list(blocks) == sorted(blocks) == [block for block, _ in store.list_blocks()]
    for block, entry in blocks.items():
        with BlockFile(store, block) as file:
            footer = file.footer
            assert (footer.ranges, footer.stream) == (entry.ranges, entry.stream)
            rows = {(one.shard, tuple(file.positions(one))) for one in footer.ranges}
        assert {(shard, positions[0], positions[-1], len(positions)) for shard, positions in rows} == {
            (one.shard, one.first, one.last, one.count) for one in entry.ranges
        }
    (first,) = [one for one in expected[0] if one.shard == "shard-0"]
    assert (first.first, first.last, first.count) == (Position(5), form.end(6), 2 * form.subs)


def test_a_store_without_blocks_has_a_ledger_that_names_none(place: Place) -> None:
    workers(place)
    index = LedgerIndex.load(place())
    assert dict(index.blocks()) == {}
    assert len(index.writers) == 1


@forms
@pytest.mark.parametrize("harm", ["deleted", "damaged"])
def test_a_block_that_is_no_longer_valid_is_told_and_its_ranges_are_lost(place: Place, form: Form, harm: str) -> None:
    expected = stored(workers(place), form)
    store = place()
    assert {one.state for one in verify_store(store, deep=True).shards} == {PROVEN}
    (block, *_) = [block for block, _ in store.list_blocks()]
    kept = kept_block(store, block)
    if harm == "deleted":
        kept.remove()
    else:
        content = bytearray(kept.read())
        content[content.index(b"key-5") + 4] ^= 1
        kept.write(content)
    report = verify_store(store, deep=True)
    assert [*report.missing, *report.damaged] == [block]
    assert {one.shard: one.state for one in report.shards} == {"shard-0": LOST, "shard-1": LOST}
    lost = {(one.shard, loss.span.low.position, loss.span.high.position) for one in report.shards for loss in one.lost}
    assert lost == {(one.shard, one.first, one.last) for one in expected[0]}


@forms
def test_what_a_block_that_is_gone_held_is_stored_again_and_nothing_else(place: Place, form: Form) -> None:
    made = workers(place)
    expected = stored(made, form)
    store = place()
    assert [one.first for one in made.look_up(LookUp("s2", "shard-0", TRIM_HORIZON)).held] == [Position(5), Position(7)]
    (block, *_) = [block for block, _ in store.list_blocks()]
    kept_block(store, block).remove()
    facts = made.look_up(LookUp("s2", "shard-0", TRIM_HORIZON))
    assert facts.held == expected[1]
    h = Harness()
    p = h.open("shard-0", known=facts)
    p.batch(*form.records(5, 6, 7, 8))
    h.look_further(made.look_further(LookFurther("s2", "shard-0", facts.more)))
    h.cut()
    h.store()
    assert h.block_rows() == [form.positions(5, 6, 8)]


@forms
@pytest.mark.parametrize("numbers", [[5, 7], [5, 6, 7], [5]], ids=["others", "more", "fewer"])
def test_a_block_whose_records_are_not_those_that_were_sent_is_refused(
    place: Place, form: Form, numbers: list[int]
) -> None:
    made = workers(place)
    said = part(form, "shard-0", [5, 6], TRIM_HORIZON).range
    with pytest.raises(BlockDamaged):
        made.write_block(WriteBlock(1, (BlockPart(said, part(form, "shard-0", numbers, TRIM_HORIZON).columns),)))
    assert list(place().list_blocks()) == []
