"""What recover is made of: salvage, what is found and what cannot be known, warnings, and the reader's fallback."""

from __future__ import annotations

from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from places import Place, kept_ledger
from recovery_support import STREAM, rows
from restore_support import SHARDS, Lake
from store_support import NOW, block_range

from kcl_receiver.audit.verify import damage
from kcl_receiver.config.credentials import Access
from kcl_receiver.errors import RangeDiffers, RangeTrimmed, StreamGone
from kcl_receiver.recovery.damages import Found, choose, find_unknown
from kcl_receiver.recovery.fallback import KinesisFallback
from kcl_receiver.recovery.sources import Sources
from kcl_receiver.recovery.warning import expiring
from kcl_receiver.store.blocks import encode as parquet
from kcl_receiver.store.blocks.arrays import SCHEMA, columns_of
from kcl_receiver.store.blocks.encode import BlockRange, rows_of
from kcl_receiver.store.blocks.file import check_range, compression_of, salvage
from kcl_receiver.wire.columns import checksum

ONE, OTHER = SHARDS
HOUR = 3_600_000


@pytest.fixture
def lake(place: Place) -> Lake:
    return Lake(place())


# ---------------------------------------------------------------------- salvage


def test_rows_become_the_columns_that_they_were_made_of_and_back(lake: Lake) -> None:
    entry = lake.entries[2]
    found = dict(salvage(lake.store, entry.block, entry.ranges))
    assert [*found] == [*entry.ranges]
    for one, batch in found.items():
        columns = columns_of(batch)
        again = rows_of(BlockRange(one, columns))
        assert again.schema == SCHEMA
        (rows_again,) = again.to_batches()
        assert rows_again.equals(batch)
        assert rows(columns) == rows(columns_of(rows_again))


def test_a_row_without_arrival_time_keeps_that() -> None:
    made = block_range(1, 2, 3)
    arrival = memoryview(made.columns.arrival).cast("B").cast("q")
    arrival[1] = -1
    one = BlockRange(replace(made.range, checksum=checksum(made.columns)), made.columns)
    table = rows_of(one)
    assert table.column("approximate_arrival_timestamp").null_count == 1
    assert bytes(columns_of(table.to_batches()[0]).arrival) == bytes(made.columns.arrival)


def test_only_the_ranges_whose_checksum_is_right_are_salvaged(lake: Lake) -> None:
    entry = lake.entries[2]
    lake.flip(2, 1)
    lake.flip(2, 2)
    assert [one for one, _ in salvage(lake.store, entry.block, entry.ranges)] == [entry.ranges[0], entry.ranges[3]]


def test_a_file_without_an_end_and_one_that_is_not_there_give_nothing(lake: Lake) -> None:
    lake.truncate(1)
    lake.delete(2)
    for number in (1, 2):
        entry = lake.entries[number]
        assert list(salvage(lake.store, entry.block, entry.ranges)) == []
        assert compression_of(lake.store, entry.block) is None
    assert compression_of(lake.store, lake.entries[3].block) == "none"


def test_the_file_of_another_block_under_this_name_gives_nothing(lake: Lake) -> None:
    lake.kept(2).write(lake.kept(3).read())
    entry = lake.entries[2]
    assert list(salvage(lake.store, entry.block, entry.ranges)) == []


def test_a_row_group_that_cannot_be_read_costs_only_its_own_ranges(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 1000)
    monkeypatch.setattr(parquet, "MIN_ROW_GROUP_BYTES", 1)
    lake = Lake(place())
    with lake.store.open_block(lake.entries[2].block) as file:
        metadata = pq.read_metadata(file)
        assert metadata.num_row_groups > 4
        place = metadata.row_group(0).column(5).data_page_offset
    content = bytearray(lake.kept(2).read())
    content[place : place + 8] = bytes(8)  # the header of a page
    lake.kept(2).write(content)
    entry = lake.entries[2]
    assert [one for one, _ in salvage(lake.store, entry.block, entry.ranges)] == [*entry.ranges[1:]]


# ---------------------------------------------------------------------- what is found


def test_what_is_found_can_be_gone_through_more_than_once_and_is_summed_up_by_shard(lake: Lake) -> None:
    lake.delete(1)
    lake.truncate(3)
    with Found() as found:
        damages = list(damage(lake.store, deep=True))
        for one in damages:
            found.add(one)
        assert list(found) == list(found) == damages
        assert (found.missing, found.damaged, found.blocks, found.ranges) == (1, 1, 2, 8)
        assert found.records == sum(one.count for number in (1, 3) for one in lake.entries[number].ranges)
        lost = [one for number in (1, 3) for one in lake.entries[number].ranges if one.shard == ONE]
        total = found.shards[STREAM, ONE]
        assert (total.arrival_first, total.arrival_last) == (lost[0].arrival_first, lost[-1].arrival_last)
        assert total.size == sum(one.size for one in lost)


def test_blocks_and_shards_can_be_chosen(lake: Lake) -> None:
    lake.delete(1, 2)
    every = list(damage(lake.store))
    assert [one.block for one in choose(every, blocks=[lake.entries[2].block])] == [lake.entries[2].block]
    assert {each.shard for one in choose(every, shards=[OTHER]) for each in one.ranges_lost} == {OTHER}
    assert list(choose(every, shards=["shardId-000000000009"])) == []


def test_with_the_ledger_everything_is_known(lake: Lake) -> None:
    lake.delete(1)
    lake.truncate(2)
    assert not find_unknown(lake.store)
    lake.recover()
    assert not find_unknown(lake.store)


def test_without_the_ledger_what_cannot_be_known_is_said(lake: Lake) -> None:
    kept_ledger(lake.store, lake.ledger.writer).remove()
    lake.delete(1, 5)
    lake.truncate(2)
    unknown = find_unknown(lake.store)
    assert unknown.ledger_lost
    assert [*unknown.unreadable] == [lake.entries[2].block]
    assert unknown.numbers == [lake.entries[1].block]  # that there was one after the last is beyond what can be known


def test_a_number_that_a_writer_with_a_ledger_left_out_is_no_missing_block(lake: Lake) -> None:
    extra = lake.put(20, [block_range(1, 2)])
    lake.ledger.append([extra])
    assert not find_unknown(lake.store)


def test_a_block_that_was_replaced_is_not_missed_without_the_ledger(lake: Lake) -> None:
    kept_ledger(lake.store, lake.ledger.writer).remove()
    lake.flip(2, 1)
    lake.recover()
    assert find_unknown(lake.store).numbers == []


def test_what_a_damaged_ledger_does_not_tell_is_said(lake: Lake) -> None:
    kept = kept_ledger(lake.store, lake.ledger.writer)
    lines = kept.read().splitlines(keepends=True)
    del lines[4]
    kept.write(b"".join(lines))
    unknown = find_unknown(lake.store)
    assert "lines are missing" in unknown.ledger_faults[0]
    assert not unknown.ledger_lost


# ---------------------------------------------------------------------- warnings


def test_a_warning_names_what_is_lost_and_about_to_be_trimmed_and_no_more(lake: Lake) -> None:
    lake.delete(1, 4)
    early, late = lake.entries[1].ranges, lake.entries[4].ranges
    before = max(one.arrival_first for one in early) + 24 * HOUR + 1
    assert before <= min(one.arrival_first for one in late if one.shard == OTHER) + 24 * HOUR
    found = list(expiring(lake.store, damage(lake.store), lambda _: 24, before))
    named = {one.range for one in found}
    assert set(early) <= named
    assert not {one for one in late if one.shard == OTHER} & named
    assert all(one.trimmed_at == one.range.arrival_first + 24 * HOUR for one in found)
    assert list(expiring(lake.store, damage(lake.store), lambda _: 48, before)) == []


def test_no_warning_for_what_the_damaged_file_still_holds(lake: Lake) -> None:
    lake.flip(2, 1)
    found = list(expiring(lake.store, damage(lake.store, deep=True), lambda _: 24, NOW + 1000 * HOUR))
    assert [one.range for one in found] == [lake.entries[2].ranges[1]]


def test_a_stream_that_is_gone_warns_of_all(lake: Lake) -> None:
    lake.delete(2)
    found = list(expiring(lake.store, damage(lake.store), lambda _: None, NOW))
    assert [one.trimmed_at for one in found] == [0] * 4


# ---------------------------------------------------------------------- fallback


def fallback(lake: Lake) -> KinesisFallback:
    return KinesisFallback(source=lake.source)


def test_a_reader_gets_proven_rows_from_the_stream(lake: Lake) -> None:
    entry = lake.entries[2]
    lake.delete(2)
    wanted = entry.ranges[1:3]
    found = dict(fallback(lake).ranges(entry, wanted))
    assert {*found} == {*wanted}
    for one, table in found.items():
        check_range(one, table)
        assert table.schema == SCHEMA


def test_what_is_trimmed_is_an_error_that_names_the_range(lake: Lake) -> None:
    entry = lake.entries[2]
    lake.trim(ONE, lake.puts[ONE][-1])
    with pytest.raises(RangeTrimmed, match=f"{ONE} from {entry.ranges[0].first} to {entry.ranges[0].last}"):
        list(fallback(lake).ranges(entry, entry.ranges[:1]))


def test_what_differs_is_another_error_and_a_stream_that_is_gone_a_third(lake: Lake) -> None:
    entry = lake.entries[2]
    shard = lake.kinesis.shards[ONE]
    shard.puts = [put for number, put in enumerate(shard.puts) if number != 22]
    with pytest.raises(RangeDiffers, match="two deliveries"):
        list(fallback(lake).ranges(entry, entry.ranges[:1]))
    lake.kinesis.identity = STREAM._replace(created=1)
    with pytest.raises(StreamGone, match="made again"):
        list(fallback(lake).ranges(entry, entry.ranges[:1]))


def test_the_region_is_that_of_the_arn_unless_it_is_said() -> None:
    assert Sources()._access_of(STREAM).region == "eu-west-1"
    assert Sources(Access("kinesis", "us-east-2", None))._access_of(STREAM).region == "us-east-2"
