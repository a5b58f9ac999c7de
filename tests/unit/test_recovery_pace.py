from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kcl_receiver.kinesis.rate_limit import Limits, Pace

SECOND = 1.0 + 1e-6


@given(
    st.lists(st.tuples(st.integers(0, 10_000_000), st.floats(0, 3)), min_size=1, max_size=60),
    st.floats(0, 1e6),
)
def test_whoever_waits_as_told_stays_within_the_limits_of_the_service(
    pages: list[tuple[int, float]], start: float
) -> None:
    pace, now = Pace(Limits()), start
    calls: list[float] = []
    owed = -2e6  # a second's worth may come at once
    for size, idle in pages:
        now += idle + pace.read_wait(now + idle)
        assert pace.read_wait(now) == 0
        if calls:
            owed = max(-2e6, owed - 2e6 * (now - calls[-1]))
        assert owed <= 10.0, "a call is made only after what came before is paid off at 2 MB a second"
        calls.append(now)
        pace.read_called()
        pace.received(size)
        owed += size
    for first, sixth in zip(calls, calls[5:], strict=False):
        assert sixth - first >= 1.0 - 1e-5


def test_iterators_have_a_limit_of_their_own() -> None:
    pace, now = Pace(Limits()), 100.0
    pace.read_called()
    assert pace.iterator_wait(now) == 0
    pace.iterator_called()
    assert pace.iterator_wait(now) == pytest.approx(0.2)
    assert pace.iterator_wait(now + 0.2) == pytest.approx(0)


def test_a_page_of_ten_megabytes_costs_four_seconds() -> None:
    pace = Pace(Limits())
    assert pace.read_wait(0.0) == 0
    pace.read_called()
    pace.received(10_000_000)
    assert pace.read_wait(0.0) == pytest.approx(4.0)
    assert pace.read_wait(4.0) == pytest.approx(0.0)


def test_less_than_the_limits_can_be_asked_for() -> None:
    pace = Pace(Limits(calls=1.0, bytes=100.0))
    assert pace.read_wait(0.0) == 0
    pace.read_called()
    assert pace.read_wait(0.0) == pytest.approx(1.0)
    pace.received(400)
    assert pace.read_wait(0.0) == pytest.approx(3.0)


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    pace = Pace(Limits())
    assert pace.read_wait(5.0) == 0
    pace.read_called()
    assert pace.read_wait(5.0) == pytest.approx(0.2)
    assert pace.read_wait(1.0) == pytest.approx(0.2)
