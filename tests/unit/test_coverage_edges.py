"""Proofs where a range holds a single Kinesis record, plain or aggregated."""

from __future__ import annotations

from dataclasses import replace

from aggregation import Form, forms
from store_support import LATE, plain_range, session_at

from kcl_receiver.proof.links import cover
from kcl_receiver.ranges import Position, Range


def record(form: Form, number: int, after: Position | str = "TRIM_HORIZON", session: str = "s1") -> Range:
    """Return the range of one Kinesis record."""
    one = plain_range(number, number, after, session=session)
    return replace(one, last=form.end(number), whole=form.end(number), count=form.subs)


@forms
def test_a_late_session_that_has_delivered_nothing_is_possibly_trimmed_after_a_last_range_of_one_record(
    form: Form,
) -> None:
    ranges = [record(form, 5), record(form, 10, form.end(5))]
    sessions = [session_at(), session_at(form.end(10), session="s2", trimmed=True)]
    (hole,) = cover(ranges, sessions).possibly_trimmed
    assert (hole.after, hole.before) == (form.end(10), None)
    (hole,) = cover([*ranges, record(form, 11, form.end(10))], sessions).possibly_trimmed
    assert (hole.after, hole.before) == (form.end(11), None)
    in_time = replace(record(form, 11, form.end(10)), arrival_last=LATE)
    assert cover([*ranges, in_time], sessions).possibly_trimmed == ()


@forms
def test_a_record_of_which_the_end_is_not_stored_shows_a_gap(form: Form) -> None:
    ranges = [record(form, 5), record(form, 10, form.end(5))]
    assert cover(ranges).gaps == ()
    if form.subs > 1:
        cut = replace(ranges[0], last=Position(5, form.subs - 2))
        (gap,) = cover([cut, ranges[1]]).gaps
        assert (gap.after, gap.through, gap.before) == (Position(5, form.subs - 2), form.end(5), Position(10))
    (gap,) = cover([ranges[1]]).gaps
    assert (gap.after, gap.through, gap.before) == (None, form.end(5), Position(10))
