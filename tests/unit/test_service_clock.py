"""The service's clock as a host knows it: never too late for a mark, never too early for a delivery."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from kcl_receiver.generator.clock import ServiceClock
from kcl_receiver.generator.effects import Measurement
from kcl_receiver.horizon import MARGIN_MS, Times

OFFSET = 1_790_000_000_000
"""Between this host's clock and the service's."""


def seen(boot: int, offset: int = OFFSET, took: int = 0) -> Measurement:
    """Return what a stream answers halfway through a call that took so long."""
    return Measurement((boot + took // 2 + offset) // 1000 * 1000, boot, boot + took, 24)


def test_before_the_first_measurement_nothing_is_known() -> None:
    clock = ServiceClock()
    assert clock.latest(5_000) == clock.earliest(5_000) == -1
    assert clock.measured(Measurement(-1, 1, 2, 24), 2) == []
    assert clock.latest(5_000, 99) == -1


def test_a_time_lies_between_what_it_is_at_the_earliest_and_at_the_latest() -> None:
    clock = ServiceClock()
    clock.measured(seen(10_123, took=300), 10_423)
    assert clock.earliest(20_000) <= 20_000 + OFFSET <= clock.latest(20_000)
    assert clock.latest(20_000) - clock.earliest(20_000) <= 1300


def test_what_was_noted_before_the_first_measurement_has_no_credit() -> None:
    clock = ServiceClock()
    clock.measured(seen(10_000), 10_000)
    assert clock.earliest(9_999) == -1


def test_a_mark_uses_the_offset_measured_before_and_a_delivery_the_one_after() -> None:
    clock = ServiceClock()
    clock.measured(seen(10_000), 10_000)
    before = clock.latest(20_000)
    (late,) = clock.measured(seen(30_000, OFFSET + 48 * 3_600_000), 30_000)
    assert clock.earliest(20_000) == 20_000 + OFFSET
    assert late.since <= before < late.until
    assert before + late.by >= 20_000 + OFFSET + 48 * 3_600_000


def test_an_arrival_later_than_the_clock_moves_it_forward_at_once() -> None:
    clock = ServiceClock()
    clock.measured(seen(10_000), 10_000)
    paused = 5 * 3_600_000
    assert clock.latest(20_000, 20_000 + OFFSET + paused) == 20_000 + OFFSET + paused
    assert clock.latest(21_000) == 21_000 + OFFSET + paused
    assert clock.earliest(21_000) == 21_000 + OFFSET
    assert clock.measured(seen(30_000, OFFSET + paused), 30_000)[0].by >= paused
    assert clock.measured(seen(40_000, OFFSET + paused), 40_000) == [], "what is known is not raised again"


def test_a_clock_that_is_right_raises_nothing() -> None:
    clock = ServiceClock()
    for minute in range(100):
        assert clock.measured(seen(minute * 60_000, OFFSET + minute, took=700), minute * 60_000 + 700) == []


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("pass"), st.integers(0, 900_000)),
            st.tuples(st.just("pause"), st.integers(1, 300_000_000)),
            st.tuples(st.just("measure"), st.integers(0, 40_000)),
            st.tuples(st.just("deliver"), st.integers(0, 100_000_000)),
        )
    )
)
@example([("deliver", 0), ("pause", 100_000_000), ("measure", 0)])  # all in one millisecond of this host's clock
def test_whatever_pauses_a_machine_no_delivery_stays_too_early_and_no_mark_is_too_late(
    plan: list[tuple[str, int]],
) -> None:
    clock, times = ServiceClock(), Times()
    boot, offset = 1_000, OFFSET
    delivered: list[tuple[int, int]] = []
    noted: list[tuple[int, int]] = []

    def measure(took: int) -> None:
        nonlocal boot
        answer = seen(boot, offset, took)
        boot += took
        for late in clock.measured(answer, boot):
            times.add_late("s", late)

    measure(0)
    for what, amount in plan:
        if what == "pass":
            boot += amount
        elif what == "pause":
            offset += amount
        elif what == "measure":
            measure(amount)
        else:
            boot += 1
            delivered.append((clock.latest(boot, boot + offset - amount), boot + offset))
            noted.append((boot, boot + offset))
    for one, true in noted:
        assert clock.earliest(one) <= true
    measure(0)
    for said, true in delivered:
        assert times.delivered("s", said) >= true - MARGIN_MS
