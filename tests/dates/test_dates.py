"""The clock that `scripts/dates` moves: every process of a test sees the date, and waits as always."""

from __future__ import annotations

import shutil
from datetime import datetime, timezone
from pathlib import Path

import pytest

from dates.runner import Surroundings, library, run, surroundings

AT = Surroundings("given", datetime(2028, 2, 29, 23, 59, 59, tzinfo=timezone.utc), "Asia/Kolkata", "C")
TESTS = """
import datetime, subprocess, threading, time
import pytest

@pytest.mark.parametrize("number", range(2))
def test_each_test_begins_at_the_moment(number):
    assert time.strftime("%F %T", time.gmtime()) == "2028-02-29 23:59:59"
    assert datetime.datetime.now().strftime("%F %H") == "2028-03-01 05"
    said = subprocess.run(["date", "-u", "+%F"], capture_output=True, text=True, check=True).stdout
    assert said in ("2028-02-29\\n", "2028-03-01\\n")
    time.sleep(1)
    assert time.strftime("%F", time.gmtime()) == "2028-03-01"
    assert not threading.Event().wait(0.01)
"""


@pytest.fixture(scope="module")
def preloaded() -> Path:
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        pytest.skip("a C compiler is needed to move the clock: apt-get install gcc libc6-dev")
    return library()


def test_every_test_begins_at_the_moment_and_its_processes_too(tmp_path: Path, preloaded: Path) -> None:
    (tmp_path / "test_there.py").write_text(TESTS)
    assert run(AT, ["-q", str(tmp_path)], preloaded) == 0


def test_a_test_that_depends_on_the_date_fails(tmp_path: Path, preloaded: Path) -> None:
    (tmp_path / "test_there.py").write_text(TESTS.replace("2028-02-29", "2026-11-22"))
    assert run(AT, ["-q", str(tmp_path)], preloaded) == 1


def test_what_lives_as_long_as_its_file_does_not_see_the_clock_go_back(tmp_path: Path, preloaded: Path) -> None:
    (tmp_path / "test_there.py").write_text(
        """
import time, pytest

@pytest.fixture(scope="module")
def seen():
    return [time.time()]

@pytest.mark.parametrize("number", range(3))
def test_it_rises(seen, number):
    time.sleep(0.1)
    seen.append(time.time())
    assert seen == sorted(seen)
"""
    )
    assert run(AT, ["-q", str(tmp_path)], preloaded) == 0


def test_the_four_are_a_later_year_a_leap_day_and_two_evenings_of_which_one_ends_a_month() -> None:
    by_name = {one.name: one.moment for one in surroundings()}
    assert by_name["next-year"].year > datetime.now(timezone.utc).year
    assert (by_name["leap-day"].month, by_name["leap-day"].day) == (2, 29)
    assert by_name["end-of-month"].day == 31
    assert {f"{by_name[name]:%H:%M:%S}" for name in ("end-of-month", "midnight")} == {"23:59:59"}
