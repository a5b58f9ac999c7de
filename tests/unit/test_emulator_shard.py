from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kcl_receiver.emulator.kinesis.model import store
from kcl_receiver.emulator.kinesis.shard import HASH_KEYS, Shard

NOW = 1_700_000_000_000


def filled(sizes: list[int], every: int = 10) -> Shard:
    shard = Shard(number=0, start=0, end=HASH_KEYS - 1, created=NOW, epoch=NOW // 1000)
    for row, size in enumerate(sizes):
        number = shard.next_sequence(3, 7, NOW)
        padded = "A" * ((size + 2) // 3 * 4)
        store(shard, number, NOW + row * every, "k", padded)
    return shard


def walk(shard: Shard, limit: int, size: int) -> list[bytes]:
    position, found = 0, []
    while True:
        page = shard.page(position, limit, size)
        found.extend(page.records)
        if page.waiting_since is None:
            return found
        assert page.records
        assert len(page.records) == 1 or page.size <= size
        position = page.resume


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 7), st.integers(1, 120))
def test_pages_give_every_record_once_and_in_order_whatever_the_limits(sizes: list[int], limit: int, size: int) -> None:
    shard = filled(sizes)
    assert walk(shard, limit, size) == shard.page(0, 10_000).records
    assert shard.held == len(sizes)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40), st.data())
def test_trimming_drops_a_prefix_and_nothing_else(sizes: list[int], data: st.DataObject) -> None:
    shard = filled(sizes)
    everything = shard.page(0, 10_000).records
    total = shard.bytes_held
    gone = data.draw(st.integers(0, len(sizes)))
    assert shard.trim(before_arrival=NOW + gone * 10) == gone
    assert shard.page(0, 10_000).records == everything[gone:]
    assert shard.bytes_held <= total
    assert shard.held == len(sizes) - gone
    assert shard.total == len(sizes)


def test_trimming_thousands_of_records_keeps_positions_and_sizes_right() -> None:
    shard = filled([10] * 5000)
    everything = shard.page(0, 10_000).records
    for gone in (100, 1500, 2600, 4999):
        shard.trim(before_arrival=NOW + gone * 10)
        assert shard.page(0, 10_000).records == everything[gone:]
        assert shard.bytes_held == (5000 - gone) * (12 + 1)


def test_a_page_of_limit_zero_is_empty_and_stays_where_it_is() -> None:
    page = filled([1, 2, 3]).page(0, 0)
    assert page.records == []
    assert page.resume == 0
    assert page.waiting_since == NOW


def test_a_record_larger_than_a_page_comes_alone() -> None:
    page = filled([5, 500, 5]).page(0, 10, 100)
    assert len(page.records) == 1
    page = filled([500, 5]).page(0, 10, 100)
    assert len(page.records) == 1


def test_a_position_in_time_is_the_first_record_that_arrived_then_or_later() -> None:
    shard = filled([1, 1, 1])
    first, second, third = (int(record.split(b'"')[3]) for record in shard.page(0, 10).records)
    assert shard.at_time(NOW - 5) == first
    assert shard.at_time(NOW + 10) == second
    assert shard.at_time(NOW + 11) == third
    assert shard.at_time(NOW + 21) == third + 1


def test_an_open_shard_is_never_finished_and_a_closed_one_is_once_nothing_is_left() -> None:
    shard = filled([1, 1])
    assert not shard.is_finished(shard.last_sequence + 1)
    shard.close(NOW, shard.ending_at(NOW), ["shardId-000000000001"])
    assert not shard.is_finished(shard.last_sequence)
    assert shard.is_finished(shard.last_sequence + 1)
    shard.trim(through=shard.last_sequence)
    assert shard.is_finished(0)
