"""What is stored already is skipped by ranges, reported in its place, and what is not is stored with true links."""

from __future__ import annotations

import struct
from dataclasses import replace
from itertools import pairwise

from generator_harness import SERVICE_START, Harness, Place, Processor, facts, held_range, position, received
from hypothesis import given
from hypothesis import strategies as st

from kcl_receiver.errors import LedgerDamaged, StoreUnavailable
from kcl_receiver.generator.effects import BlockPart, LookFurther, MoreHeld, WriteBlock
from kcl_receiver.ranges import After, Position, Range
from kcl_receiver.wire.columns import checksum
from kcl_receiver.wire.frames import ReceivedBatch


def opened(*held: tuple[Place, Place], after: After = "TRIM_HORIZON") -> tuple[Harness, Processor]:
    """Return a session of which these spans are held already."""
    h = Harness()
    ranges = [held_range("shard-0", first, last) for first, last in held]
    return h, h.open(after=after, known=facts(*ranges))


def cut(h: Harness) -> list[BlockPart]:
    """Return the parts of the block that is cut now, of none if none is."""
    h.cut()
    return [part for block in h.waiting(WriteBlock) for part in block.parts]


def ends(parts: list[BlockPart]) -> list[tuple[str, str, str]]:
    return [(str(part.range.after), str(part.range.first), str(part.range.last)) for part in parts]


def check_true(part: BlockPart) -> None:
    """What a range says is what its records are."""
    told, columns = part.range, part.columns
    assert (told.first, told.last) == (columns.position(0), columns.position(columns.count - 1))
    assert (told.count, told.size) == (columns.count, columns.size)
    assert (told.arrival_first, told.arrival_last) == (columns.arrival_of(0), columns.arrival_of(columns.count - 1))
    assert told.checksum == checksum(columns)


def test_a_batch_that_is_held_wholly_is_skipped_and_reported_at_once() -> None:
    h, p = opened((5, 9))
    p.batch(5, 7, 9)
    assert (p.admitted, p.stored) == ([1], 1)
    assert cut(h) == []
    assert h.core.status(h.now).records_skipped == 3


def test_a_batch_that_is_held_wholly_is_reported_only_in_its_order() -> None:
    h, p = opened((5, 9))
    p.batch(4)
    p.batch(5, 9)
    assert (p.admitted, p.stored) == ([1, 2], 0)
    h.cut()
    h.store()
    assert p.stored == 2
    assert h.block_rows() == [[Position(4)]]


def test_what_a_batch_has_beyond_what_is_held_follows_the_held_record_before_it() -> None:
    h, p = opened((5, 7))
    p.batch(5, 7, 8, 9)
    parts = cut(h)
    assert ends(parts) == [("7:0", "8:0", "9:0")]
    check_true(parts[0])
    h.store()
    assert p.stored == 1


def test_what_a_batch_has_before_what_is_held_follows_what_the_batch_does() -> None:
    h, p = opened((8, 9), after=Position(4))
    p.batch(5, 7, 8, 9)
    parts = cut(h)
    assert ends(parts) == [("4:0", "5:0", "7:0")]
    check_true(parts[0])


def test_a_batch_held_in_its_middle_is_stored_in_two_ranges_of_one_block_and_reported_once() -> None:
    h, p = opened((7, 8))
    p.batch(5, 6, 7, 8, 9)
    parts = cut(h)
    assert ends(parts) == [("TRIM_HORIZON", "5:0", "6:0"), ("8:0", "9:0", "9:0")]
    for part in parts:
        check_true(part)
    h.store()
    assert p.stored == 1
    assert h.core.status(h.now).records_skipped == 2


def test_a_hole_between_two_held_ranges_is_stored() -> None:
    h, p = opened((5, 6), (9, 12))
    p.batch(5, 6, 7, 8, 9, 10)
    p.batch(11, 13)
    parts = cut(h)
    assert ends(parts) == [("6:0", "7:0", "8:0"), ("11:0", "13:0", "13:0")]
    for part in parts:
        check_true(part)


def test_what_delivery_has_passed_is_held_in_memory_no_longer() -> None:
    h, p = opened((5, 6), (8, 9))
    session = h.core._roster.sessions[p.session]
    p.batch(5, 6, 7)
    p.batch(8)
    assert session.held.touches(Position(8), Position(9))
    p.batch(10)
    p.batch(11)
    assert not session.held


def test_the_window_counts_the_whole_of_a_batch_that_is_held_in_part() -> None:
    # Its buffers stay in memory whatever is taken of them.
    h, p = opened((5, 8))
    sent = p.batch(5, 6, 7, 8, 9)
    assert h.core.status(h.now).shards[0].window_used == sent.columns.memory
    cut(h)
    h.store()
    assert h.core.status(h.now).shards[0].window_used == 0


def test_a_higher_held_number_does_not_hold_what_lies_before_it() -> None:
    h, p = opened((50, 60))
    p.batch(5)
    assert ends(cut(h)) == [("TRIM_HORIZON", "5:0", "5:0")]


def test_what_is_held_of_an_aggregate_goes_by_sub_sequence_numbers() -> None:
    h, p = opened(((5, 0), (5, 1)))
    p.batch((5, 0), (5, 1), (5, 2), 6)
    parts = cut(h)
    assert ends(parts) == [("5:1", "5:2", "6:0")]
    assert parts[0].range.whole == Position(6)


def test_a_part_that_ends_where_a_kinesis_record_does_is_whole_there() -> None:
    h, p = opened((7, 8))
    p.batch(5, (6, 0), (6, 1), 7, 8, 9)
    assert [part.range.whole for part in cut(h)] == [Position(6, 1), Position(9)]


def test_a_part_that_ends_within_an_aggregate_is_whole_before_it() -> None:
    h, p = opened(((6, 1), 8))
    p.batch(5, (6, 0), (6, 1), 7, 8)
    parts = cut(h)
    assert ends(parts) == [("TRIM_HORIZON", "5:0", "6:0")]
    assert parts[0].range.whole == Position(5)


def test_a_part_in_the_middle_of_an_aggregate_is_whole_nowhere() -> None:
    h, p = opened(((6, 1), 8))
    p.batch((6, 0), (6, 1), 7)
    parts = cut(h)
    assert ends(parts) == [("TRIM_HORIZON", "6:0", "6:0")]
    assert parts[0].range.whole is None


def test_a_last_part_of_an_unfinished_aggregate_is_whole_nowhere_if_its_batch_is_whole_before_it() -> None:
    h, p = opened((5, (6, 0)))
    p.batch(5, (6, 0), (6, 1), whole=5)
    parts = cut(h)
    assert ends(parts) == [("6:0", "6:1", "6:1")]
    assert parts[0].range.whole is None


def test_a_last_part_is_whole_where_its_batch_is() -> None:
    h, p = opened((5, 6))
    p.batch(5, 7, (8, 0), whole=7)
    assert [part.range.whole for part in cut(h)] == [Position(7)]


def test_what_is_held_is_of_its_session_and_not_of_others() -> None:
    h, p = opened((5, 9))
    q = h.open("shard-1")
    q.batch(5, 9)
    p.batch(5, 9)
    assert len(cut(h)) == 1
    assert (p.stored, q.stored) == (1, 0)


def test_every_part_of_a_batch_says_when_it_was_delivered() -> None:
    h, p = opened((6, 7), after=Position(3))
    p.batch(5, 6, 7, 8)
    assert [part.range.delivered for part in cut(h)] == [SERVICE_START] * 2


# ---------------------------------------------------------------------- what does not fit its checksum is not blessed


def damaged(batch: ReceivedBatch, where: int) -> None:
    """Change one byte of the batch's keys, in the memory that its columns are views of."""
    view = batch.columns.key.values
    assert isinstance(view, memoryview)
    view[where] ^= 1


def test_a_damaged_batch_that_is_held_in_part_is_refused_and_given_no_new_checksum() -> None:
    h, p = opened((5, 6))
    batch = received(1, "TRIM_HORIZON", [5, 6, 7])
    damaged(batch, len(batch.columns.key.values) - 1)
    p.give(batch)
    assert p.refused is not None
    assert "checksum" in p.refused.message
    assert p.admitted == []
    assert cut(h) == []


def test_a_batch_with_broken_offsets_that_is_held_in_part_is_refused_and_not_followed() -> None:
    for value in (-5, 2**31 - 1, -(2**31)):
        h, p = opened((5, 6))
        batch = received(1, "TRIM_HORIZON", [5, 6, 7, 8])
        offsets = batch.columns.sequence.offsets
        assert isinstance(offsets, memoryview)
        struct.pack_into("<i", offsets, 4, value)
        p.give(batch)
        assert p.refused is not None
        assert p.admitted == []
        assert cut(h) == []


def test_a_refused_batch_leaves_its_session_as_it_was() -> None:
    h, p = opened((5, 6))
    batch = received(1, "TRIM_HORIZON", [5, 6, 7])
    damaged(batch, 0)
    p.give(batch)
    h.disconnect(p.connection)
    p.reconnect()
    p.batch(5, 6, 7)
    assert p.admitted == [1]
    assert ends(cut(h)) == [("6:0", "7:0", "7:0")]


# ---------------------------------------------------------------------- against a plain model

places = st.tuples(st.integers(0, 12), st.integers(0, 2))
spans = st.tuples(places, places).map(lambda pair: (min(pair), max(pair)))


@given(
    st.lists(places, min_size=1, max_size=20, unique=True).map(sorted),
    st.lists(spans, max_size=4),
    st.lists(st.integers(1, 19), max_size=3),
)
def test_what_is_stored_is_what_was_delivered_and_not_held_with_links_to_what_was_delivered_before(
    delivered: list[tuple[int, int]], held: list[tuple[Place, Place]], cuts: list[int]
) -> None:
    h, p = opened(*held)
    edges = sorted({0, len(delivered), *(one for one in cuts if one < len(delivered))})
    for start, stop in pairwise(edges):
        p.batch(*delivered[start:stop])
    parts = cut(h)
    for part in parts:
        check_true(part)
    rows = [part.columns.position(row) for part in parts for row in range(part.columns.count)]
    all_of_it = [position(place) for place in delivered]
    assert rows == [
        one for one in all_of_it if not any(position(first) <= one <= position(last) for first, last in held)
    ]
    before: dict[Position, After] = dict(zip(all_of_it, ["TRIM_HORIZON", *all_of_it], strict=False))
    assert [part.range.after for part in parts] == [before[part.range.first] for part in parts]
    assert all(true_whole(part.range, all_of_it) for part in parts)
    h.store()
    assert p.stored == len(edges) - 1


def true_whole(told: Range, delivered: list[Position]) -> bool:
    """Return whether `whole` is the last end of a Kinesis record in the range; the end of a batch counts as one."""
    if told.whole is None:
        return True
    following = [one for one in delivered if one > told.whole]
    same = following and following[0].sequence_number == told.whole.sequence_number
    return told.first <= told.whole <= told.last and (not same or told.whole == told.last)


# What is held of a long way is told page by page, as delivery advances


def at_a_page(*held: tuple[Place, Place], known_to: int) -> tuple[Harness, Processor]:
    h = Harness()
    ranges = [held_range("shard-0", first, last) for first, last in held]
    return h, h.open(known=replace(facts(*ranges), known_to=Position(known_to), more="page 2"))


def page(*held: tuple[Place, Place], known_to: int | None = None) -> MoreHeld:
    ranges = tuple(held_range("shard-0", first, last) for first, last in held)
    at = None if known_to is None else Position(known_to)
    return MoreHeld(ranges, at, None if known_to is None else f"from {known_to}")


def test_a_batch_within_what_is_known_asks_for_nothing() -> None:
    h, p = at_a_page((5, 9), known_to=20)
    p.batch(5, 9)
    p.batch(15, 19)
    assert h.waiting(LookFurther) == []
    assert p.admitted == [1, 2]


def test_a_batch_that_reaches_past_what_is_known_waits_for_the_next_page() -> None:
    h, p = at_a_page((5, 9), known_to=20)
    p.batch(5, 9, 20)
    assert p.admitted == []
    assert h.look_further(page((20, 25))) == LookFurther(p.session, "shard-0", "page 2")
    assert (p.admitted, p.stored) == ([1], 1)
    p.batch(26, 100)
    assert p.admitted == [1, 2]
    assert ends(cut(h)) == [("20:0", "26:0", "100:0")]


def test_a_batch_over_many_pages_asks_for_one_after_the_other() -> None:
    h, p = at_a_page((1, 2), known_to=4)
    p.batch(2, 3, 4, 5, 6, 7)
    assert h.look_further(page((4, 4), known_to=6)).more == "page 2"
    assert p.admitted == []
    assert h.look_further(page((6, 6))).more == "from 6"
    assert p.admitted == [1]
    assert ends(cut(h)) == [("2:0", "3:0", "3:0"), ("4:0", "5:0", "5:0"), ("6:0", "7:0", "7:0")]


def test_another_shard_does_not_wait_for_the_page() -> None:
    h, p = at_a_page((5, 9), known_to=20)
    other = h.open("shard-1")
    p.batch(20)
    other.batch(7)
    h.cut()
    h.store()
    assert (p.admitted, other.admitted, other.stored) == ([], [1], 1)


def test_the_page_is_asked_for_again_after_a_failure_and_once_at_a_time() -> None:
    h, p = at_a_page((5, 9), known_to=20)
    p.batch(20)
    h.look_further(StoreUnavailable("slow"))
    assert h.asked == []
    h.to_deadline()
    p.vanish()
    p.reconnect(1)
    p.give(p.sent[1])
    assert len(h.waiting(LookFurther)) == 1
    h.look_further(page((20, 20)))
    assert (p.admitted, p.stored) == ([1], 1)


def test_a_page_that_cannot_be_told_turns_the_processor_away_and_nothing_is_stored_twice() -> None:
    h, p = at_a_page((5, 9), known_to=20)
    p.batch(20)
    h.look_further(LedgerDamaged("altered"))
    assert p.refused is not None
    assert p.refused.error == "LedgerDamaged"
    assert cut(h) == []


def test_an_answer_for_a_session_that_has_left_changes_nothing() -> None:
    h, p = at_a_page((5, 9), known_to=20)
    p.batch(20)
    p.leave()
    h.look_further(page((20, 25)))
    assert cut(h) == []


def test_what_is_held_is_not_kept_with_the_facts() -> None:
    h, _ = at_a_page((5, 9), known_to=20)
    (session,) = h.entries
    assert session.facts.held == ()
