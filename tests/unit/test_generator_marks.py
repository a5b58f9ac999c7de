"""When a generator asks the stream for its clock, and what it lets the ledger know of it."""

from __future__ import annotations

import pytest
from generator_harness import START, Harness, measured

from kcl_receiver.generator.effects import Append, MarksRecord, Measure, Measurement
from kcl_receiver.generator.marks import AGAIN_SECONDS
from kcl_receiver.horizon import interval_ms
from kcl_receiver.ranges import Position
from kcl_receiver.wire.messages import Progress

HOUR = 3600.0


def test_a_record_far_later_than_the_clock_has_the_stream_asked_at_once() -> None:
    h = Harness()
    p = h.open()
    p.arrived(101, h.now - 1)
    assert not h.waiting(Measure)
    h.now += 5
    p.arrived(102, h.now + 2 * HOUR)  # a guest that was paused: its clock has not seen the hours
    assert len(h.waiting(Measure)) == 1
    h.measure(measured(h.now + 3 * HOUR))
    h.now += 1
    p.arrived(103, h.now + 6 * HOUR)
    assert not h.waiting(Measure), "whatever records say, the stream is not asked again and again"
    h.now += AGAIN_SECONDS
    p.arrived(104, h.now + 9 * HOUR)
    assert len(h.waiting(Measure)) == 1


def test_a_record_that_shows_it_after_the_stream_was_asked_has_it_asked_again() -> None:
    h = Harness()
    p = h.open()
    h.to_deadline()
    asked = h.now
    h.now += 1
    p.arrived(101, h.now + 2 * HOUR)
    h.measure(measured(asked))
    assert len(h.waiting(Measure)) == 1
    h.measure(measured(h.now + 2 * HOUR))
    assert not h.waiting(Measure)


def test_a_record_that_is_a_little_later_does_not() -> None:
    h = Harness()
    p = h.open()
    p.arrived(101, START + 50)
    assert not h.waiting(Measure)


def later(h: Harness, hours: float) -> Measurement:
    """Return what a stream says whose clock has gone on by so much while this host's stood still."""
    return measured(h.now)._replace(date=round((h.now + hours * HOUR) * 1000))


def marks_of(h: Harness) -> list[MarksRecord]:
    h.append()
    return [entry for entry in h.entries if isinstance(entry, MarksRecord)]


def test_the_end_of_a_shard_is_dated_by_the_clock_that_the_stream_shows_then() -> None:
    h = Harness()
    p = h.open()
    p.batch(5)
    h.cut()
    h.store()
    p.shard_end()
    h.confirm(seen=later(h, 30))  # a guest that was paused, and that no record has told so
    (late,) = [one for one in marks_of(h) if one.late]
    assert p.session in late.sessions
    (end,) = h.shard_end_entries()
    assert end.time >= (h.now + 30 * HOUR) * 1000


def test_what_a_session_said_that_delivered_nothing_is_raised_too() -> None:
    h = Harness()
    p = h.open()
    h.now += 900
    h.tick()
    h.measure(later(h, 30))
    (late,) = [one for one in marks_of(h) if one.late]
    assert late.sessions == (p.session,)


def test_that_an_idle_shard_was_read_too_late_is_recorded_whatever_was_recorded_before() -> None:
    h = Harness()
    p = h.open()
    h.now += 1
    noted = round(h.now * 1000)
    p.arrived(101, h.now + 1)
    h.cut()
    h.store()
    h.now += 30 * HOUR
    h.do(h.core.progress(p.connection, Progress(0, None, "101:0", noted), h.now))
    (mark,) = [mark for one in marks_of(h) for mark in one.marks if mark.shard == p.shard]
    assert mark.position == Position(101)
    assert 0 <= mark.until < noted, "what it says is less than the range does, which is in the ledger"


def assert_that_each_measurement_is_a_line(h: Harness) -> None:
    for _ in range(2):
        h.to_deadline()
        h.measure(measured(h.now)._replace(awaited=True))
        (mark,) = marks_of(h)
        assert mark.marks == ()
        h.entries.clear()


def test_who_is_awaited_records_a_line_at_each_measurement_before_the_first_session() -> None:
    assert_that_each_measurement_is_a_line(Harness(measured()._replace(awaited=True)))


def test_who_is_awaited_records_a_line_also_while_the_stream_does_not_tell_its_clock() -> None:
    h = Harness(measured()._replace(awaited=True))
    h.to_deadline()
    h.measure(None)
    assert len(marks_of(h)) == 1
    recorded_at = h.now
    while not h.waiting(Append):
        h.to_deadline()
        h.measure(None)
    assert [one.marks for one in marks_of(h)] == [(), ()]
    assert h.now - recorded_at == pytest.approx(interval_ms(24) / 1000, abs=90), "not with every answer that fails"


def test_who_is_not_awaited_measures_nothing_before_the_first_session() -> None:
    h = Harness(measured())
    h.now += 2 * HOUR
    h.do(h.core.tick(h.now))
    assert not h.waiting(Measure)


def test_who_is_awaited_records_a_line_at_each_measurement_also_without_news_and_without_sessions() -> None:
    h = Harness()
    p = h.open()
    h.to_deadline()
    h.measure(measured(h.now))
    assert not h.waiting(Append)
    assert_that_each_measurement_is_a_line(h)
    p.leave()
    h.to_deadline()
    assert len(h.waiting(Measure)) == 1
