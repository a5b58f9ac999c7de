"""Which ledgers the next start reads, and what the next ledger carries over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from store_support import HOUR, NOW, OTHER_WRITER, SHARD, STREAM, WRITER, end_at, marks_at, plain_range, session_at

from kcl_receiver.generator.carried import CarriedOver
from kcl_receiver.generator.rollover import SETTLED_MS, SLACK_MS
from kcl_receiver.horizon import Late, ShardMark
from kcl_receiver.ids import block_id
from kcl_receiver.ranges import Forgotten, Position, Range, StreamIdentity
from kcl_receiver.store.ledger.entries import BlockStored, Carried, Entry, MarksTaken, StoreState, WriterStarted
from kcl_receiver.store.ledger.takeover import Takeover

OTHER = StreamIdentity(STREAM.arn, STREAM.created + 1)
HOURS = 24


def block(number: int, *ranges: Range, stream: StreamIdentity = STREAM, writer: str = WRITER) -> BlockStored:
    return BlockStored(block_id(writer, number), stream, ranges, 10, 100, NOW)


def first_lines(known: CarriedOver, now: int = NOW) -> list[Entry]:
    return known.first_entries(WriterStarted(OTHER_WRITER, "host", 1, now, "0", {}), STREAM, HOURS)


def carried(known: CarriedOver, now: int = NOW) -> Carried:
    last = first_lines(known, now)[-1]
    assert isinstance(last, Carried)
    return last


def needed(known: CarriedOver) -> tuple[set[str], dict[str, Position]]:
    ledgers, forgotten, _ = known.needs(HOURS)
    return ledgers, {shard: one.through for shard, one in forgotten.items()}


def found(*blocks: BlockStored, **more: Any) -> Takeover:  # noqa: ANN401 - any of its fields
    return Takeover(StoreState(), blocks=list(blocks), **more)


def test_the_first_line_names_the_writer_and_the_last_measurement_follows() -> None:
    known = CarriedOver.of(found(block(1, plain_range(1, 10))), STREAM, marks_at(), NOW)
    assert [type(one) for one in first_lines(known, NOW)] == [WriterStarted, MarksTaken, Carried]


def test_a_ledger_is_needed_until_all_in_it_lies_before_checkpoints() -> None:
    known = CarriedOver()
    known.add([block(1, plain_range(1, 10)), block(2, plain_range(11, 20, 10))], STREAM)
    known.add([block(1, plain_range(21, 30, 20), writer=OTHER_WRITER)], STREAM)
    assert needed(known) == ({WRITER, OTHER_WRITER}, {})
    known.checkpointed({SHARD: Position(15)})
    assert needed(known) == ({WRITER, OTHER_WRITER}, {SHARD: Position(15)})
    known.checkpointed({SHARD: Position(20)})
    assert needed(known) == ({OTHER_WRITER}, {SHARD: Position(20)})
    known.checkpointed({SHARD: Position(30)})
    assert needed(known) == (set(), {SHARD: Position(30)})


def test_one_shard_alone_keeps_a_ledger() -> None:
    known = CarriedOver()
    known.add([block(1, plain_range(1, 10), replace(plain_range(1, 10), shard="other"))], STREAM)
    known.checkpointed({SHARD: Position(10)})
    assert needed(known) == ({WRITER}, {SHARD: Position(10)})


def test_no_ledger_is_needed_of_a_shard_that_kcl_has_recorded_as_read_to_its_end() -> None:
    known = CarriedOver()
    known.add([block(1, plain_range(1, 10))], STREAM)
    known.checkpointed({SHARD: "SHARD_END"})
    assert needed(known) == (set(), {SHARD: Position(10)})


def test_no_ledger_is_needed_for_what_the_stream_cannot_hold_any_more() -> None:
    known = CarriedOver()
    later = NOW + HOURS * HOUR + SLACK_MS + 1
    known.add([block(1, plain_range(1, 10))], STREAM)
    known.add([block(1, replace(plain_range(1, 10, arrived=later), shard="other"), writer=OTHER_WRITER)], STREAM)
    assert needed(known) == ({OTHER_WRITER}, {SHARD: Position(10)})
    assert needed(CarriedOver()) == (set(), {})


def test_what_is_of_another_stream_is_passed_over() -> None:
    of_other = StoreState(stream=OTHER, forgotten={SHARD: Forgotten(Position(9), NOW)})
    taken = Takeover(
        of_other, blocks=[block(2, plain_range(11, 20, 10)), block(3, plain_range(501, 510), stream=OTHER)]
    )
    known = CarriedOver.of(taken, STREAM, None, NOW)
    assert len(known.recent) == 1
    assert needed(known) == ({WRITER}, {})


def test_what_was_forgotten_before_stays_so() -> None:
    state = StoreState(stream=STREAM, forgotten={SHARD: Forgotten(Position(9), NOW)})
    known = CarriedOver.of(Takeover(state), STREAM, None, NOW)
    assert known.recent.forgotten == state.forgotten
    assert not known.recent.reaches(SHARD, Position(8))


def test_a_shard_that_ended_under_an_earlier_writer_is_done_with_when_kcl_has_not_begun_it_again_for_long() -> None:
    known = CarriedOver.of(found(block(1, plain_range(1, 10)), ended=[end_at(10)]), STREAM, None, NOW)
    first_lines(known, NOW + SETTLED_MS - 1)
    assert needed(known)[0] == {WRITER}
    first_lines(known, NOW + SETTLED_MS)
    assert needed(known) == (set(), {SHARD: Position(10)})


def test_a_shard_that_ended_under_an_earlier_writer_and_begins_again_is_not() -> None:
    known = CarriedOver.of(found(block(1, plain_range(1, 10)), ended=[end_at(10)]), STREAM, None, NOW)
    known.session_begins(SHARD)
    first_lines(known, NOW + SETTLED_MS)
    assert needed(known)[0] == {WRITER}


def clock_of(known: CarriedOver, now: int = NOW) -> MarksTaken:
    (found,) = (one for one in first_lines(known, now) if isinstance(one, MarksTaken))
    return found


def test_a_measurement_is_carried_with_the_sessions_that_used_it_and_without_its_marks() -> None:
    known = CarriedOver()
    known.measured(marks_at(ShardMark(SHARD, "s0", Position(1), NOW, -1), time=NOW))
    known.add([session_at(session="before", time=NOW - 1), session_at(session="since", time=NOW)], STREAM)
    known.add([block(1, plain_range(1, 10, session="delivered", at=NOW + 5))], STREAM)
    assert clock_of(known) == marks_at(time=NOW, sessions=("delivered", "since"))


def test_what_a_start_has_raised_is_said_in_its_own_ledger_alone() -> None:
    raised = marks_at(late=(Late(NOW, NOW + 1, 5000),), sessions=("s1",))
    known = CarriedOver.of(found(), STREAM, raised, NOW)
    assert clock_of(known) == raised
    assert clock_of(known) == marks_at()


def test_marks_are_carried_while_they_are_within_the_retention() -> None:
    mine, other = (ShardMark(shard, "", Position(10), NOW, -1) for shard in (SHARD, "other"))
    taken = found(carried=[Carried(STREAM, (mine,)), Carried(OTHER, (other,))])
    known = CarriedOver.of(taken, STREAM, None, NOW)
    assert [(one.shard, one.until) for one in carried(known, NOW + HOURS * HOUR).marks] == [(SHARD, NOW)]
    assert carried(known, NOW + HOURS * HOUR + 1).marks == ()
