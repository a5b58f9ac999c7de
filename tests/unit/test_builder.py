from __future__ import annotations

from generator_harness import received

from kcl_receiver.generator.builder import AdmittedPart, BlockBuilder
from kcl_receiver.generator.effects import BlockPart
from kcl_receiver.ranges import Range


def part(session: str, number: int = 1) -> AdmittedPart:
    batch = received(number, "TRIM_HORIZON", [number])
    whole = Range(
        "shard", session, batch.after, batch.first, batch.last, batch.last, 1, batch.columns.size, 1, 1, "0" * 32
    )
    return AdmittedPart(session, number, BlockPart(whole, batch.columns))


def test_an_empty_block_has_no_age_and_no_size() -> None:
    builder = BlockBuilder()
    assert not builder
    assert (builder.size, builder.opened_at) == (0, None)
    assert builder.cut() == ()


def test_a_block_is_as_old_as_its_first_part_and_as_large_as_all_columns_together() -> None:
    builder = BlockBuilder()
    first, second = part("a", 1), part("b", 20)
    builder.add(first, 5.0)
    builder.add(second, 6.0)
    assert builder
    assert builder.opened_at == 5.0
    assert builder.size == first.part.columns.memory + second.part.columns.memory


def test_a_cut_block_keeps_the_order_of_admission_and_leaves_an_empty_one() -> None:
    builder = BlockBuilder()
    parts = [part("b", 1), part("a", 1), part("b", 2)]
    for one in parts:
        builder.add(one, 5.0)
    assert builder.cut() == tuple(parts)
    assert not builder
    assert (builder.size, builder.opened_at) == (0, None)


def test_a_block_begun_at_time_0_is_not_empty_and_keeps_its_age() -> None:
    builder = BlockBuilder()
    builder.add(part("a", 1), 0.0)
    builder.add(part("a", 2), 9.0)
    assert builder.opened_at == 0.0


def test_dropping_a_session_takes_out_what_it_has_and_nothing_else() -> None:
    builder = BlockBuilder()
    kept = part("a", 1)
    for one in (part("b", 1), kept, part("b", 2)):
        builder.add(one, 5.0)
    builder.drop("b")
    assert builder.holds("a")
    assert not builder.holds("b")
    assert (builder.size, builder.opened_at) == (kept.part.columns.memory, 5.0)
    assert builder.cut() == (kept,)


def test_a_block_that_becomes_empty_by_dropping_has_no_age() -> None:
    builder = BlockBuilder()
    builder.add(part("a"), 5.0)
    builder.drop("a")
    assert not builder
    assert (builder.size, builder.opened_at) == (0, None)
