from __future__ import annotations

import select

import pytest

from kcl_receiver.processor.runtime import poll_millis


@pytest.mark.parametrize("seconds", [1e9, 2.0**63, -5.0, 0.0])
def test_any_deadline_is_one_that_poll_takes(seconds: float) -> None:
    millis = poll_millis(seconds)
    assert 0 <= millis <= max(0.0, seconds * 1000)
    poll = select.poll()
    with open("/dev/null") as file:  # noqa: PTH123 - any descriptor that is ready at once
        poll.register(file.fileno(), select.POLLIN)
        poll.poll(millis)
