from __future__ import annotations

import random

import pytest

from kcl_receiver.errors import BlockDamaged, StoreUnavailable, StreamUnavailable
from kcl_receiver.generator.effects import Append, Close, Effect
from kcl_receiver.generator.retries import FIRST_CEILING, LAST_CEILING, LEAST_PAUSE, Retries
from kcl_receiver.status.report import Trouble

ERROR = StoreUnavailable("disk full")
LIMIT = 300.0


class Jitter(random.Random):
    """Takes the lowest or the highest of what is allowed."""

    def __init__(self, high: bool) -> None:
        super().__init__(0)
        self.high = high

    def uniform(self, a: float, b: float) -> float:
        return b if self.high else a


def retries(high: bool = True) -> Retries:
    return Retries(LIMIT, Jitter(high))


def again(number: int = 1) -> list[Effect]:
    return [Close(number)]


def test_what_failed_is_tried_again_once_and_not_before_its_time() -> None:
    made = retries()
    assert made.failed("ledger", ERROR, again, 10.0)
    due = made.deadline()
    assert due is not None
    assert due > 10.0
    assert made.due(due - 0.001) == []
    assert made.due(due) == [Close(1)]
    assert made.deadline() is None
    assert made.due(due + 100) == []


def test_pauses_have_a_ceiling_that_doubles_up_to_a_last_one() -> None:
    made = Retries(1e9, Jitter(high=True))
    pauses = []
    for _ in range(1100):
        made.failed("ledger", ERROR, again, 0.0)
        due = made.deadline()
        assert due is not None
        pauses.append(due)
        made.due(due)
    assert pauses[:4] == [FIRST_CEILING, 2 * FIRST_CEILING, 4 * FIRST_CEILING, 8 * FIRST_CEILING]
    assert pauses[-1] == max(pauses) == LAST_CEILING


def test_jitter_never_makes_a_pause_too_short_to_be_one() -> None:
    made = retries(high=False)
    made.failed("ledger", ERROR, again, 10.0)
    assert made.deadline() == 10.0 + LEAST_PAUSE


def test_what_mended_begins_again_with_short_pauses_and_a_new_limit() -> None:
    made = retries()
    for now in (0.0, 100.0, 200.0):
        assert made.failed("ledger", ERROR, again, now)
        made.due(now + LAST_CEILING)
    made.mended("ledger")
    assert made.failed("ledger", ERROR, again, 400.0)
    assert made.deadline() == 400.0 + FIRST_CEILING


def test_an_error_that_does_not_mend_is_not_tried_again() -> None:
    made = retries()
    assert not made.failed("block 1", BlockDamaged("checksum"), again, 0.0)
    assert made.deadline() is None


def test_work_is_given_up_when_the_limit_has_passed_since_its_first_failure() -> None:
    made = retries()
    assert made.failed("ledger", ERROR, again, 10.0)
    assert made.failed("ledger", ERROR, again, 10.0 + LIMIT - 0.001)
    made.due(1e9)
    assert not made.failed("ledger", ERROR, again, 10.0 + LIMIT)
    assert made.deadline() is None


def test_the_last_try_is_made_when_the_limit_is_reached_and_not_a_whole_pause_later() -> None:
    made = retries()
    for _ in range(12):
        made.failed("ledger", ERROR, again, 10.0)
        made.due(1e9)
    made.failed("ledger", ERROR, again, 10.0 + LIMIT - 1)
    assert made.deadline() == 10.0 + LIMIT


def test_each_kind_of_work_has_a_limit_and_pauses_of_its_own() -> None:
    made = retries()
    assert made.failed("block 1", ERROR, lambda: again(1), 0.0)
    assert made.failed("block 2", ERROR, lambda: again(2), LIMIT - 1)
    assert made.due(LIMIT) == [Close(1), Close(2)]
    assert not made.failed("block 1", ERROR, again, LIMIT)
    assert made.failed("block 2", ERROR, again, LIMIT)


def test_the_earliest_retry_is_the_deadline() -> None:
    made = retries()
    made.failed("block 1", ERROR, lambda: again(1), 5.0)
    made.failed("block 2", ERROR, lambda: again(2), 0.0)
    assert made.deadline() == FIRST_CEILING
    assert made.due(FIRST_CEILING) == [Close(2)]
    assert made.deadline() == 5.0 + FIRST_CEILING


def test_the_effect_is_made_when_it_is_due_and_not_when_it_failed() -> None:
    made = retries()
    effects: list[Effect] = []
    made.failed("ledger", ERROR, lambda: effects, 0.0)
    effects.append(Append(()))
    assert made.due(1.0) == [Append(())]


def test_work_that_nobody_wants_any_more_is_neither_tried_again_nor_shown() -> None:
    made = retries()
    made.failed("look-up a", ERROR, lambda: again(1), 0.0)
    made.failed("look-up b", ERROR, lambda: again(2), 0.0)
    made.mended("look-up a")
    assert made.due(1e9) == [Close(2)]
    made.mended("look-up b")
    assert made.trouble(3.0) is None


@pytest.mark.parametrize("mends", [True, False])
def test_the_error_of_what_failed_last_is_shown_until_it_mends(mends: bool) -> None:
    made = retries()
    assert made.trouble(0.0) is None
    later = StreamUnavailable("throttled") if mends else BlockDamaged("checksum")
    made.failed("ledger", StoreUnavailable("older"), again, 0.0)
    made.failed("ledger", ERROR, again, 1.0)
    assert made.trouble(3.0) == Trouble.of(ERROR, 3.0)
    made.failed("look-up", later, again, 2.0)
    assert made.trouble(3.0) == Trouble.of(later, 1.0)
    made.mended("look-up")
    assert made.trouble(3.0) == Trouble.of(ERROR, 3.0)
    made.mended("ledger")
    assert made.trouble(3.0) is None
