"""The report counts what was seen, and each round is a line."""

from __future__ import annotations

from dataclasses import replace

import pytest

from faults.hosts import InFlight
from faults.judging import Judgement, Reading
from faults.report import Campaign, line_of, report_of
from faults.theatre import Ending, Played
from kcl_receiver.emulator.verdict import Verdict

PLAYED = Played(7, "java", "host-1", 2, 1, InFlight(3, 2048, 0.0), 8.25, 12.0, 500, 490, 0, "a word")


def ending(hosts: int, *, lost: int = 0, excused: int = 0) -> Ending:
    missing = [("shardId-000000000000", number, 0) for number in range(lost)]
    verdict = Verdict(put=1000, stored=1000 - lost, missing=missing, doubles=[], altered=[], unlisted=4, blocks=9)
    judgement = Judgement(verdict, missing, [], [], [], excused)
    return Ending(hosts, judgement, Reading(1000 - lost, [], missing, []), refused=0, moves=5)


@pytest.fixture
def campaign() -> Campaign:
    found = Campaign(4, "scripts/faults --rounds 3 --seed 4", "one way", "another")
    found.played = [
        PLAYED,
        replace(PLAYED, recovery=10.5, in_flight=InFlight(1, 10, 0.0)),
        replace(PLAYED, kind="zombie"),
    ]
    found.endings = [ending(1), ending(2, excused=12)]
    return found


def cells(page: str, begin: str) -> list[str]:
    (line,) = (line for line in page.splitlines() if line.startswith(f"| {begin}"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_the_report_has_a_row_for_each_kind_that_was_played(campaign: Campaign) -> None:
    page = report_of(campaign)
    assert cells(page, "`java`") == ["2", "2", "2", "9.4 s", "10.5 s", "0"]
    assert cells(page, "`zombie`")[0] == "1"
    assert "`full`" not in page
    assert "scripts/faults --rounds 3 --seed 4" in page
    assert "A full disk is one way; an unwritable store is another." in " ".join(page.split())


def test_the_report_adds_all_theatres_up(campaign: Campaign) -> None:
    page = report_of(campaign)
    assert cells(page, "user records put") == ["2,000"]
    assert cells(page, "lost") == ["0"]
    assert cells(page, "stored twice where one was") == ["12"]
    assert "1 of one host, 1 of two" in page
    campaign.endings.append(ending(1, lost=3))
    page = report_of(campaign)
    assert cells(page, "lost") == ["3"]
    assert cells(page, "records that the reader misses") == ["3"]
    assert cells(page, "records in blocks, each") == ["2,997"]


def test_a_round_is_one_readable_line() -> None:
    line = line_of(PLAYED, 100)
    for part in (
        "7/100",
        "java",
        "host-1",
        "3 batches",
        "recovered in   8.2 s",
        "put 500",
        "a word",
        "played again 1x",
    ):
        assert part in line
    assert "\n" not in line
