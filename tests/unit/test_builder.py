from __future__ import annotations

from generator_harness import received

from kcl_receiver.generator.builder import AdmittedPart, BlockBuilder
from kcl_receiver.generator.effects import BlockPart
from kcl_receiver.generator.session import Session
from kcl_receiver.generator.tracker import Tracker
from kcl_receiver.ranges import Range
from kcl_receiver.wire.messages import Hello


def session(name: str) -> Session:
    hello = Hello("landing", "shard", name, 1, 1, "TRIM_HORIZON", 1)
    return Session(hello, "TRIM_HORIZON", None, Tracker(1))


A, B = session("a"), session("b")


def part(session: Session, number: int = 1) -> AdmittedPart:
    batch = received(number, "TRIM_HORIZON", [number])
    whole = Range(
        "shard", session.id, batch.after, batch.first, batch.last, batch.last, 1, batch.columns.size, 1, 1, "0" * 32
    )
    return AdmittedPart(session, number, BlockPart(whole, batch.columns))


def test_an_empty_block_has_no_age_and_no_size() -> None:
    builder = BlockBuilder()
    assert not builder
    assert (builder.size, builder.opened_at) == (0, None)
    assert builder.cut() == ()


def test_a_block_is_as_old_as_its_first_part_and_as_large_as_all_columns_together() -> None:
    builder = BlockBuilder()
    first, second = part(A, 1), part(B, 20)
    builder.add(first, 5.0)
    builder.add(second, 6.0)
    assert builder
    assert builder.opened_at == 5.0
    assert builder.size == first.part.columns.memory + second.part.columns.memory


def test_a_cut_block_keeps_the_order_of_admission_and_leaves_an_empty_one() -> None:
    builder = BlockBuilder()
    parts = [part(B, 1), part(A, 1), part(B, 2)]
    for one in parts:
        builder.add(one, 5.0)
    assert builder.cut() == tuple(parts)
    assert not builder
    assert (builder.size, builder.opened_at) == (0, None)


def test_a_block_begun_at_time_0_is_not_empty_and_keeps_its_age() -> None:
    builder = BlockBuilder()
    builder.add(part(A, 1), 0.0)
    builder.add(part(A, 2), 9.0)
    assert builder.opened_at == 0.0


def test_a_block_holds_every_session_that_has_something_in_it() -> None:
    builder = BlockBuilder()
    assert builder.size_of(A) == 0
    builder.add(part(A), 5.0)
    builder.add(part(B), 5.0)
    assert builder.size_of(A) > 0
    assert builder.size_of(B) > 0
    assert builder.size_of(session("c")) == 0


def test_dropping_a_session_takes_out_what_it_has_and_nothing_else() -> None:
    builder = BlockBuilder()
    kept = part(A, 1)
    for one in (part(B, 1), kept, part(B, 2)):
        builder.add(one, 5.0)
    builder.drop(B)
    assert builder.size_of(A) > 0
    assert builder.size_of(B) == 0
    assert (builder.size, builder.opened_at) == (kept.part.columns.memory, 5.0)
    assert builder.cut() == (kept,)


def test_a_block_that_becomes_empty_by_dropping_has_no_age() -> None:
    builder = BlockBuilder()
    builder.add(part(A), 5.0)
    builder.drop(A)
    assert not builder
    assert (builder.size, builder.opened_at) == (0, None)
