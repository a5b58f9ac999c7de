"""Ids of writers and blocks."""

from __future__ import annotations

import pytest

from kcl_receiver import ids
from kcl_receiver.store import layout


def test_a_writer_id_tells_when_it_began_and_a_block_id_continues_it() -> None:
    writer = ids.writer_id(1_795_353_301_999, "7f3a9c01")
    assert writer == "20261122T131501Z-7f3a9c01"
    assert ids.block_id(writer, 42) == "20261122T131501Z-7f3a9c01-000000000042"


def test_two_writers_that_begin_in_the_same_millisecond_have_different_ids() -> None:
    assert ids.writer_id(0) != ids.writer_id(0)


def test_a_day_begins_at_midnight_in_utc() -> None:
    midnight = 1_795_305_600_000
    assert [ids.day_at(midnight + ms) for ms in (-1, 0, 86_399_999, 86_400_000)] == [
        *("2026-11-21", "2026-11-22", "2026-11-22", "2026-11-23")
    ]


def test_the_path_of_a_block_follows_from_its_id_alone() -> None:
    block = "20261122T131501Z-7f3a9c01-000000000042"
    assert layout.block_path(block) == f"blocks/2026-11-22/{block}.parquet"
    assert ids.writer_of(block) == "20261122T131501Z-7f3a9c01"


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "../../../etc/passwd",
        "20261122T131501Z-7f3a9c01",
        "20261122T131501Z-7f3a9c01-42",
        "20261122T131501Z-7F3A9C01-000000000042",
        "20261122T131501Z-7f3a9c01-000000000042\n",
        "20261122T131501Z-7f3a9c01-00000000004٢",
    ],
)
def test_what_is_no_block_id_has_no_path(bad: str) -> None:
    with pytest.raises(ValueError, match="not a block id"):
        layout.block_path(bad)


@pytest.mark.parametrize("bad", ["", "../x", "20261122T131501Z-7f3a9c0", "20261122T131501Z-7f3a9c01/..", "a\n"])
def test_what_is_no_writer_id_has_no_ledger(bad: str) -> None:
    with pytest.raises(ValueError, match="not a writer id"):
        layout.ledger_path(bad)


@pytest.mark.parametrize("bad", ["", "store", "../store.json", "a/b.json", "Store.json", ".json", "store.json\n"])
def test_a_document_lies_in_the_store_under_a_plain_name(bad: str) -> None:
    with pytest.raises(ValueError, match="not a document name"):
        layout.check_document_name(bad)


@pytest.mark.parametrize("number", [-1, 10**12])
def test_a_block_number_has_at_most_12_digits(number: int) -> None:
    with pytest.raises(ValueError, match="out of bounds"):
        ids.block_id("20261122T131501Z-7f3a9c01", number)


def test_the_time_in_a_writer_id_is_read_back() -> None:
    assert ids.began_at(ids.writer_id(1_795_353_301_999, "7f3a9c01")) == 1_795_353_301_000


@pytest.mark.parametrize("bad", ["20261322T131501Z-7f3a9c01", "20261122T136001Z-7f3a9c01", "lock"])
def test_what_holds_no_time_has_none(bad: str) -> None:
    with pytest.raises(ValueError, match=r"writer id|time data|unconverted"):
        ids.began_at(bad)
