"""When a ledger gives way to the next."""

from __future__ import annotations

import pytest

from kcl_receiver.generator.rollover import (
    LEDGER_BYTES,
    LEDGER_LINES,
    Extent,
    Rollover,
    begins_at,
    is_due,
    oldest_in_reach,
)
from kcl_receiver.ids import writer_id

HOUR = 3_600_000
FEW = Extent(2, 1000)


@pytest.mark.parametrize(
    ("today", "due"),
    [("2026-02-28", False), ("2026-03-01", True), ("2027-01-01", True), ("2026-02-27", False), ("1999-12-31", False)],
)
def test_a_day_ends_once_whatever_the_clock_is_set_to(today: str, due: bool) -> None:
    assert is_due("2026-02-28", today, FEW, FEW) is due


@pytest.mark.parametrize(
    ("first", "whole", "due"),
    [
        (FEW, Extent(LEDGER_LINES + 1, 1000), False),
        (FEW, Extent(LEDGER_LINES + 2, 1000), True),
        (Extent(500, 0), Extent(LEDGER_LINES + 2, 1000), False),
        (FEW, Extent(3, LEDGER_BYTES + 999), False),
        (FEW, Extent(3, LEDGER_BYTES + 1000), True),
        (Extent(2, 5 * LEDGER_BYTES), Extent(3, 5 * LEDGER_BYTES + 100), False),
        (Extent(2, 5 * LEDGER_BYTES), Extent(3, 10 * LEDGER_BYTES - 1), False),
        (Extent(2, 5 * LEDGER_BYTES), Extent(3, 10 * LEDGER_BYTES), True),
    ],
)
def test_what_counts_is_what_came_after_the_first_lines_and_at_least_as_much_as_they_are(
    first: Extent, whole: Extent, due: bool
) -> None:
    assert is_due("2026-02-28", "2026-02-28", first, whole) is due


@pytest.mark.parametrize(
    ("first", "whole", "most", "due"),
    [
        (Extent(2, 1000, 1), Extent(300, 3000, 256), 256, False),
        (Extent(2, 1000, 1), Extent(300, 3000, 257), 256, True),
        (Extent(2, 1000, 1), Extent(300, 3000, 5000), None, False),
        (Extent(2, 2000, 1), Extent(300, 3999, 5000), 256, False),
        (Extent(2, 2000, 1), Extent(300, 4000, 5000), 256, True),
    ],
)
def test_where_each_append_is_an_object_so_many_of_them_are_enough_if_they_are_as_much_as_the_first_lines(
    first: Extent, whole: Extent, most: int | None, due: bool
) -> None:
    assert is_due("2026-02-28", "2026-02-28", first, whole, most_appends=most) is due


def test_what_is_out_of_reach_is_older_than_the_retention_before_the_newest_record() -> None:
    assert oldest_in_reach(10**12, 24) == 10**12 - 72 * HOUR
    assert oldest_in_reach(-1, 24) == 0


DAY = 24 * HOUR
NOON = 20_000 * DAY + 12 * HOUR


@pytest.mark.parametrize(
    ("newest", "day_is_over", "begins"),
    [
        (None, False, NOON),
        (NOON - 1000, False, NOON),
        (NOON - 999, False, NOON + 1),
        (NOON, False, NOON + 1000),
        (NOON + 30 * DAY, False, NOON + 30 * DAY + 1000),
        (NOON - DAY, True, NOON),
        (NOON + 30 * DAY, True, NOON + 30 * DAY + 12 * HOUR),
    ],
)
def test_a_ledger_begins_later_than_the_newest_and_days_pass_although_the_clock_is_behind(
    newest: int | None, day_is_over: bool, begins: int
) -> None:
    assert begins_at(NOON, newest, day_is_over=day_is_over) == begins


WRITER = writer_id(NOON, "7f3a9c01")


def begun(most_lines: int = 10) -> Rollover:
    rollover = Rollover(most_lines)
    rollover.made(NOON)
    rollover.began(Extent(3, 300))
    return rollover


def test_a_ledger_that_is_neither_long_nor_of_yesterday_stays() -> None:
    assert begun().next_at(WRITER, Extent(12, 1200), NOON + HOUR) is None


def test_a_long_ledger_gives_way_and_the_next_one_begins_now() -> None:
    assert begun().next_at(WRITER, Extent(13, 1300), NOON + HOUR) == NOON + HOUR


def test_a_ledger_of_yesterday_gives_way_although_the_clock_is_behind_its_name() -> None:
    ahead = writer_id(NOON + 5 * DAY, "7f3a9c01")
    assert begun().next_at(ahead, Extent(4, 400), NOON + DAY) == NOON + 5 * DAY + 12 * HOUR


def test_a_ledger_is_of_the_day_on_which_its_first_lines_were_made_and_not_when_they_became_durable() -> None:
    rollover = begun()
    rollover.made(NOON + DAY)
    assert rollover.next_at(WRITER, Extent(4, 400), NOON + DAY) is None
