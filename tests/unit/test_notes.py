"""Notes of a processor: a delivery was read from the stream after the note before the last."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kcl_receiver.processor.notes import AHEAD, CALLS, Notes


def test_the_first_note_is_used_after_as_many_deliveries_as_may_have_been_read_ahead() -> None:
    notes = Notes()
    said = [notes.call(number) for number in range(1, 2 + AHEAD + 2 * CALLS)]
    assert [(number, one) for number, one in enumerate(said, 1) if one is not None] == [
        (1 + AHEAD, 1),
        (1 + AHEAD + CALLS, 1 + AHEAD),
        (1 + AHEAD + 2 * CALLS, 1 + AHEAD + CALLS),
    ]


def test_notes_are_as_far_apart_as_they_must_be() -> None:
    notes = Notes()
    notes.apart = 300_000
    assert [notes.call(1000 * number) for number in range(300)] == [None] * 300
    assert notes.call(300_000) == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 100)), min_size=60, max_size=200))
def test_no_delivery_was_read_before_the_note_that_is_named(queue: list[tuple[int, int]]) -> None:
    """KCL keeps its queue full, and what it hands over has waited there."""
    notes, now = Notes(), 0
    waiting = [0, 0, 0]
    for fetched, passed in queue:
        read_at = waiting.pop(0)
        now += passed
        noted = notes.call(now)
        assert noted is None or noted <= read_at
        while len(waiting) < 1 + fetched % 3 or len(waiting) < 3:
            waiting.append(now)
