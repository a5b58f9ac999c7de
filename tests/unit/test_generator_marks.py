"""When a generator asks the stream for its clock."""

from __future__ import annotations

from generator_harness import START, Harness, Processor, batch_message, columns_of, measured, over_the_wire

from kcl_receiver.generator.effects import Measure
from kcl_receiver.generator.marks import AGAIN_SECONDS
from kcl_receiver.ranges import Position
from kcl_receiver.wire.frames import decode_batch

HOUR = 3600.0


def deliver(h: Harness, to: Processor, number: int, arrival: float) -> None:
    """A record comes that arrived at a time of the service's clock, in seconds."""
    columns = columns_of([Position(100 + number)], arrival=round(arrival * 1000))
    after = "TRIM_HORIZON" if number == 1 else Position(99 + number)
    message = batch_message(columns, number, after, Position(100 + number), at=round(h.now * 1000))
    to.give(decode_batch(over_the_wire(message, columns)))


def test_a_record_far_later_than_the_clock_has_the_stream_asked_at_once() -> None:
    h = Harness()
    p = h.open()
    deliver(h, p, 1, h.now - 1)
    assert not h.waiting(Measure)
    h.now += 5
    deliver(h, p, 2, h.now + 2 * HOUR)  # a guest that was paused: its clock has not seen the hours
    assert len(h.waiting(Measure)) == 1
    h.measure(measured(h.now + 3 * HOUR))
    h.now += 1
    deliver(h, p, 3, h.now + 6 * HOUR)
    assert not h.waiting(Measure), "whatever records say, the stream is not asked again and again"
    h.now += AGAIN_SECONDS
    deliver(h, p, 4, h.now + 9 * HOUR)
    assert len(h.waiting(Measure)) == 1


def test_a_record_that_is_a_little_later_does_not() -> None:
    h = Harness()
    p = h.open()
    deliver(h, p, 1, START + 50)
    assert not h.waiting(Measure)
