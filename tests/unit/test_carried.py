"""What the next ledger carries over, and what it leaves out."""

from __future__ import annotations

from store_support import HOUR, NOW, SHARD, STREAM, WRITER, end_at, marks_at, plain_range, session_at

from kcl_receiver.generator.carried import CarriedOver
from kcl_receiver.generator.rollover import SETTLED_MS, SLACK_MS
from kcl_receiver.horizon import Late, ShardMark
from kcl_receiver.ranges import Position, Range, StreamIdentity
from kcl_receiver.store.ledger.entries import BlockStored, Carried, Entry, MarksTaken, WriterStarted
from kcl_receiver.store.ledger.takeover import Takeover

OTHER = StreamIdentity(STREAM.arn, STREAM.created + 1)
HOURS = 24


def block(number: int, *ranges: Range, stream: StreamIdentity = STREAM) -> BlockStored:
    return BlockStored(f"block {number}", stream, ranges, 10, 100, NOW)


def first_lines(known: CarriedOver, now: int = NOW, *adopted: BlockStored) -> list[Entry]:
    return known.first_entries(WriterStarted(WRITER, "host", 1, now, "0", {}), adopted, STREAM, HOURS)


def carried(known: CarriedOver, now: int = NOW) -> Carried:
    last = first_lines(known, now)[-1]
    assert isinstance(last, Carried)
    return last


def positions(known: CarriedOver, now: int = NOW) -> list[int]:
    return [one.first.sequence_number for one, _ in carried(known, now).ranges]


def test_the_first_line_names_the_writer_and_the_last_one_tells_that_all_are_there() -> None:
    adopted = block(1, plain_range(1, 10))
    known = CarriedOver.of(Takeover(adopted=[adopted], blocks=[adopted]), STREAM, marks_at(), NOW)
    kinds = [type(one) for one in first_lines(known, NOW, adopted)]
    assert kinds == [WriterStarted, BlockStored, MarksTaken, Carried]


def test_ranges_are_carried_up_to_the_last_checkpoint_and_what_holds_it_stays() -> None:
    known = CarriedOver()
    known.add(
        [block(1, plain_range(1, 10)), block(2, plain_range(11, 20, 10)), block(3, plain_range(21, 30, 20))], STREAM
    )
    known.checkpointed({SHARD: Position(20)})
    assert positions(known) == [11, 21]
    assert carried(known).forgotten[SHARD].through == Position(20)


def test_nothing_is_carried_of_a_shard_that_kcl_has_recorded_as_read_to_its_end() -> None:
    known = CarriedOver()
    known.add([block(1, plain_range(1, 10))], STREAM)
    known.checkpointed({SHARD: "SHARD_END"})
    assert positions(known) == []


def test_what_the_stream_cannot_hold_any_more_is_not_carried_but_for_the_last_range_of_a_shard() -> None:
    known = CarriedOver()
    later = NOW + HOURS * HOUR + SLACK_MS + 1
    known.add([block(1, plain_range(1, 10)), block(2, plain_range(11, 20, 10, arrived=later))], STREAM)
    assert positions(known) == [11]


def test_what_a_writer_before_carried_is_carried_on_and_what_is_of_another_stream_is_not() -> None:
    mine, other = plain_range(1, 10), plain_range(501, 510)
    taken = Takeover(
        blocks=[block(2, plain_range(11, 20, 10)), block(3, other, stream=OTHER)],
        carried=[Carried(STREAM, ((mine, "block 1"),), {}), Carried(OTHER, ((other, "block 0"),), {})],
    )
    assert sorted(positions(CarriedOver.of(taken, STREAM, None, NOW))) == [1, 11]


def test_a_shard_that_ended_under_an_earlier_writer_is_dropped_when_kcl_has_not_begun_it_again_for_long() -> None:
    taken = Takeover(blocks=[block(1, plain_range(1, 10))], ended=[end_at(10)])
    known = CarriedOver.of(taken, STREAM, None, NOW)
    assert positions(known, NOW + SETTLED_MS - 1) == [1]
    assert positions(known, NOW + SETTLED_MS) == []


def test_a_shard_that_ended_under_an_earlier_writer_and_begins_again_is_kept() -> None:
    taken = Takeover(blocks=[block(1, plain_range(1, 10))], ended=[end_at(10)])
    known = CarriedOver.of(taken, STREAM, None, NOW)
    known.session_begins(SHARD)
    assert positions(known, NOW + SETTLED_MS) == [1]


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
    known = CarriedOver.of(Takeover(), STREAM, raised, NOW)
    assert clock_of(known) == raised
    assert clock_of(known) == marks_at()


def test_marks_are_carried_while_they_are_within_the_retention() -> None:
    mine, other = (ShardMark(shard, "", Position(10), NOW, -1) for shard in (SHARD, "other"))
    taken = Takeover(carried=[Carried(STREAM, (), {}, (mine,)), Carried(OTHER, (), {}, (other,))])
    known = CarriedOver.of(taken, STREAM, None, NOW)
    assert [(one.shard, one.until) for one in carried(known, NOW + HOURS * HOUR).marks] == [(SHARD, NOW)]
    assert carried(known, NOW + HOURS * HOUR + 1).marks == ()
