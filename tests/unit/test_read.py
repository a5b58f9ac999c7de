"""Reading stores: every record once and in order, only what is asked for, and what stands in for a block."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa
import pytest
from places import Kept, Place, kept_block, kept_ledger
from store_support import (
    HOUR,
    NOW,
    OTHER_WRITER,
    SHARD,
    STREAM,
    WRITER,
    begin,
    block_range,
    columns_of,
    in_millis,
    mark,
    marks_at,
    put,
    range_of,
    records_at,
    session_at,
    stop_the_clock,
    stored,
)

from kcl_receiver import Batch, HoleInShard, Reading, read, records
from kcl_receiver.errors import (
    BlockDamaged,
    BlockMissing,
    ConfigError,
    HoleFound,
    LedgerDamaged,
    ReceiverError,
    StoreRefused,
    TokenRefused,
)
from kcl_receiver.ids import writer_id
from kcl_receiver.ranges import Position, Range, StreamIdentity
from kcl_receiver.reading.api import open_reading
from kcl_receiver.reading.query import Query
from kcl_receiver.reading.sources import ENTRIES_KEPT
from kcl_receiver.store.blocks.arrays import SCHEMA
from kcl_receiver.store.blocks.encode import BlockRange, encode_block, rows_of
from kcl_receiver.store.blocks.stream import BlockStream, open_block_file
from kcl_receiver.store.ledger.entries import BlockStored, Entry, Expired, ShardEnded
from kcl_receiver.store.ledger.transaction import Transaction, declare_lifecycle
from kcl_receiver.store.objects import Checked
from kcl_receiver.store.store import Store

OTHER_SHARD = "shardId-000000000001"


class Lake:
    """A store with its writer, and what its reader should find."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.store.claim("landing")
        self.ledger = begin(self.store, WRITER)
        self.writer = WRITER
        self.blocks: list[BlockStored] = []

    def add(self, *entries: Entry) -> None:
        self.ledger.append(entries)

    def stored(self, *ranges: BlockRange, stream: StreamIdentity = STREAM) -> BlockStored:
        """Store a block that is in no ledger yet."""
        entry = put(self.store, len(self.blocks) + 1, *ranges, writer=self.writer, stream=stream)
        self.blocks.append(entry)
        return entry

    def block(self, *ranges: BlockRange, stream: StreamIdentity = STREAM) -> BlockStored:
        entry = self.stored(*ranges, stream=stream)
        self.add(entry)
        return entry

    def next_writer(self, writer: str = OTHER_WRITER, *, seal: bool = True, newest_before: int = -1) -> None:
        self.ledger, self.writer = begin(self.store, writer, newest_before=newest_before), writer

    def kept(self, number: int) -> Kept:
        return kept_block(self.store, self.blocks[number - 1].block)

    def replace(self, numbers: Sequence[int], keep: Sequence[int] | None = None, *, retire: bool = True) -> BlockStored:
        """Put one block in the place of some, as compact and recover do; with `keep`, with those ranges alone."""
        old = [self.blocks[number - 1] for number in numbers]
        change = Transaction(self.store, old[0].block, "compact", NOW)
        ranges = [one for entry in old for one in entry.ranges]
        if keep is not None:
            ranges = [one for one in ranges if one.first.sequence_number in keep]
        made = [BlockRange(one, columns_of(_rows_of(one))) for one in ranges]
        block = change.next_block_id()
        entry = stored(self.store, block, made)
        change.add_block(entry, old)
        change.commit()
        if retire:
            change.retire()
        return entry

    def expire(self, *numbers: int) -> None:
        blocks = tuple(self.blocks[number - 1].block for number in numbers)
        change = Transaction(self.store, blocks[0], "expire", NOW)
        change.add_expired(Expired(NOW, NOW, blocks))
        change.commit()
        change.retire()


def _rows_of(one: Range) -> list[Any]:
    return records_at(*range(one.first.sequence_number, one.last.sequence_number + 1))


@pytest.fixture
def lake(place: Place) -> Lake:
    return Lake(place())


def run_of(first: int, last: int, after: int | None = None, **named: object) -> BlockRange:
    follows = {} if after is None else {"after": Position(after)}
    return block_range(*range(first, last + 1), **follows, **named)  # type: ignore[arg-type]


def numbers(reading: Reading, shard: str = SHARD) -> list[int]:
    return [number for batch in reading for number in numbers_of(batch, shard)]


def numbers_of(batch: Batch, shard: str | None = None) -> list[int]:
    columns = (batch.batch.column(name).to_pylist() for name in ("shard_id", "sequence_number"))
    return [int(number) for of, number in zip(*columns, strict=True) if shard in (None, of)]


def count(*bounds: int) -> list[int]:
    return list(range(bounds[0], bounds[1] + 1))


def test_records_come_as_they_were_put_in_order_and_once(lake: Lake) -> None:
    lake.add(session_at())
    late = lake.stored(run_of(1, 4))
    lake.block(run_of(5, 9, 4), run_of(101, 103, shard=OTHER_SHARD))
    lake.add(late)
    lake.add(session_at(3, session="s2"))
    lake.block(run_of(4, 12, 3, session="s2"), run_of(104, 104, 103, shard=OTHER_SHARD))
    found = list(records(lake.store))
    mine = [one for one in found if one.shard == SHARD]
    assert [one.position for one in mine] == [Position(one) for one in count(1, 12)]
    assert [(one.partition_key, one.data) for one in mine] == [
        (k.decode(), d) for _, _, k, _, d in records_at(*count(1, 12))
    ]
    assert mine[0].arrived == datetime.fromtimestamp((NOW + 1) / 1000, timezone.utc)
    assert [one.position[0] for one in found if one.shard == OTHER_SHARD] == count(101, 104)
    assert {one.shard for one in records(lake.store, shards=[OTHER_SHARD])} == {OTHER_SHARD}


def test_a_sub_sequence_number_is_part_of_the_order(lake: Lake) -> None:
    rows = [(7, sub, b"k", NOW, b"%d" % sub) for sub in range(6)]
    first, second = columns_of(rows[:4]), columns_of(rows[2:])
    lake.block(BlockRange(range_of(first), first))
    lake.block(BlockRange(range_of(second, after=Position(7, 1)), second))
    assert [(one.position, one.data) for one in records(lake.store)] == [(Position(7, s), b"%d" % s) for s in range(6)]


def test_a_batch_has_the_columns_that_were_asked_for_in_their_order(lake: Lake) -> None:
    lake.block(run_of(1, 4))
    lake.block(run_of(3, 6, 2))
    reading = read(lake.store, columns=["data", "shard_id"])
    assert reading.schema.names == ["data", "shard_id"]
    assert [batch.batch.schema for batch in reading] == [reading.schema]
    assert read(lake.store, columns=["data"]).to_arrow_reader().read_all().num_rows == 6
    assert read(lake.store).to_arrow_reader().schema == SCHEMA


def test_batches_are_bounded_by_rows_and_bytes_and_each_token_is_exact(lake: Lake) -> None:
    lake.block(run_of(1, 10), run_of(11, 13, 10))
    lake.block(run_of(12, 20, 11, data=b"x" * 1000))
    for bound in ({"batch_rows": 3}, {"batch_bytes": 2500}, {"batch_rows": 1}, {}):
        seen: list[int] = []
        for batch in read(lake.store, **bound):  # type: ignore[arg-type]
            assert batch.batch.num_rows <= bound.get("batch_rows", 99)
            seen += map(int, batch.batch.column("sequence_number").to_pylist())
            assert seen + numbers(read(lake.store, token=batch.token)) == count(1, 20)
    sizes = [one.batch.nbytes for one in read(lake.store, batch_bytes=2500)]
    assert max(sizes) <= 2500


def test_a_limit_is_exact_and_its_token_goes_on(lake: Lake) -> None:
    lake.block(run_of(1, 10))
    lake.block(run_of(11, 20, 10))
    token, seen = None, []
    for limit in (1, 4, 5, 7, 3):
        reading = read(lake.store, token=token, limit=limit)
        found = numbers(reading)
        assert len(found) == limit
        seen += found
        token = reading.token
    assert seen == count(1, 20)
    assert numbers(read(lake.store, token=token)) == []


def test_positions_bound_a_reading_and_both_are_included(lake: Lake) -> None:
    for first in range(1, 40, 10):
        lake.block(
            run_of(first, first + 9, first - 1 or None), run_of(first, first + 9, first - 1 or None, shard=OTHER_SHARD)
        )
    assert numbers(read(lake.store, shards=[SHARD], start="15", end=Position(24))) == count(15, 24)
    both = {"start": {SHARD: "35:0"}, "end": {OTHER_SHARD: Position(5)}}
    assert numbers(read(lake.store, **both)) == count(35, 40)  # type: ignore[arg-type]
    assert numbers(read(lake.store, **both), OTHER_SHARD) == count(1, 5)  # type: ignore[arg-type]


def test_times_bound_a_reading_by_the_arrival_of_each_record(lake: Lake) -> None:
    minute = 60_000
    after: Position | None = None
    for block in range(6):
        rows = [(10 * block + at, 0, b"k", NOW + block * 10 * minute + at * minute, b"d") for at in range(1, 11)]
        columns = columns_of(rows)
        lake.block(BlockRange(range_of(columns, **({} if after is None else {"after": after})), columns))
        after = Position(rows[-1][0])
    since = datetime.fromtimestamp(NOW / 1000 + 24 * 60, timezone.utc)
    reading = read(lake.store, start=since, end=NOW + 37 * minute)
    assert numbers(reading) == count(24, 36)
    assert reading.stats.skipped_ranges == 4
    assert [b.batch.num_columns for b in read(lake.store, start=since, columns=["data"])] == [1]
    assert numbers(read(lake.store, token=reading.token)) == count(61, 60)
    with pytest.raises(TokenRefused, match="was to end elsewhere"):
        read(lake.store, token=reading.token, end=NOW + 50 * minute)
    first = next(iter(read(lake.store, start=since, batch_rows=3)))
    assert numbers(read(lake.store, token=first.token)) == count(27, 60)


def test_arrival_times_that_do_not_rise_are_judged_by_the_record(lake: Lake) -> None:
    rows = [(at, 0, b"k", NOW + millis, b"d") for at, millis in enumerate((900, 100, 500, 800), 1)]
    columns = columns_of(rows)
    lake.block(BlockRange(range_of(columns), columns))
    assert numbers(read(lake.store, end=NOW + 600)) == [2, 3]
    assert numbers(read(lake.store, start=NOW + 850)) == [1]
    assert numbers(read(lake.store, start=NOW + 100, end=NOW + 100)) == []


def test_a_range_whose_ends_are_out_of_time_gives_what_lies_between_them(lake: Lake) -> None:
    hour = 3_600_000
    times = (NOW, NOW + 9 * hour, -1, NOW + 1)
    columns = columns_of([(at, 0, b"k", millis, b"d") for at, millis in enumerate(times, 1)])
    lake.block(BlockRange(range_of(columns), columns))
    assert numbers(read(lake.store, start=NOW + hour)) == [2]
    assert numbers(read(lake.store, end=NOW + hour)) == [1, 4]
    assert numbers(read(lake.store, end=NOW + 10 * hour)) == [1, 2, 4]
    assert numbers(read(lake.store, start=NOW - hour, end=NOW)) == []


def test_what_lies_past_an_end_is_not_passed_by_the_token(lake: Lake) -> None:
    for first in (1, 11, 21):
        lake.block(
            run_of(first, first + 9, first - 1 or None), run_of(first, first + 9, first - 1 or None, shard=OTHER_SHARD)
        )
    reading = read(lake.store, end={SHARD: "14", OTHER_SHARD: "25"}, shards=[SHARD, OTHER_SHARD])
    assert numbers(reading) == count(1, 14)
    assert f'"{SHARD}":"14:0"' in reading.token
    assert numbers(read(lake.store, token=reading.token)) == []
    with pytest.raises(TokenRefused):
        read(lake.store, token=reading.token, end={SHARD: "20"})


def test_a_reading_since_a_time_leaves_old_ledgers_alone(lake: Lake) -> None:
    lake.block(run_of(1, 9))
    for day in range(1, 5):
        an_hour_before = NOW + day * 86_400_000 - HOUR
        lake.next_writer(writer_id(NOW + day * 86_400_000, f"0000000{day}"), newest_before=an_hour_before)
        lake.add(marks_at(mark(day * 10 - 1, an_hour_before), time=an_hour_before))
        columns = columns_of([(day * 10 + at, 0, b"k", NOW + day * 86_400_000 + at, b"d") for at in range(10)])
        lake.block(BlockRange(range_of(columns, after=Position(day * 10 - 1)), columns))
    asked: list[str] = []
    plain = lake.store.ledger
    lake.store.ledger = lambda writer: (asked.append(writer), plain(writer))[1]  # type: ignore[method-assign]
    assert numbers(read(lake.store, stream=STREAM, start=NOW + 4 * 86_400_000)) == count(40, 49)
    assert {one[:8] for one in asked} == {"20261125", "20261126"}


def test_a_reading_since_a_time_goes_by_the_clock_of_the_service_and_not_by_that_of_a_host_that_stood_still(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guest that is paused for a month and goes on believes that no time has passed; its ledgers have old ids."""
    month = 30 * 86_400_000
    stop_the_clock(monkeypatch, NOW + 2 * month)
    lake.block(run_of(1, 9))
    for minute in (1, 2, 3):
        lake.next_writer(writer_id(NOW + minute * 60_000, f"0000000{minute}"), newest_before=NOW + month + minute)
        lake.add(marks_at(mark(minute * 10 - 1, NOW + month), time=NOW + month))
        columns = columns_of([(minute * 10 + at, 0, b"k", NOW + month + at, b"d") for at in range(10)])
        lake.block(BlockRange(range_of(columns, after=Position(minute * 10 - 1)), columns))
    # What came while it stood still may have been trimmed, which is a hole.
    assert numbers(read(lake.store, stream=STREAM, start=NOW + month, on_hole="report")) == count(10, 39)


def test_a_hole_is_raised_with_what_came_before_it(lake: Lake) -> None:
    lake.block(run_of(1, 3))
    lake.block(run_of(7, 9, 6))
    reading = read(lake.store)
    assert next(reading).batch.num_rows == 3
    with pytest.raises(HoleFound, match="after 3:0 through 6:0 before 7:0"):
        next(reading)
    assert numbers(read(lake.store, token=reading.token, on_hole="report")) == count(7, 9)


def test_a_hole_is_reported_and_passed_when_so_asked(lake: Lake, caplog: pytest.LogCaptureFixture) -> None:
    lake.block(run_of(1, 3))
    lake.block(run_of(7, 9, 6))
    lake.add(ShardEnded("s1", SHARD, STREAM, Position(12), NOW))
    holes: list[HoleInShard] = []
    reading = read(lake.store, on_hole=holes.append)
    assert numbers(reading) == [1, 2, 3, 7, 8, 9]
    assert [(one.kind, one.after, one.through, one.before) for one in holes] == [
        ("gap", Position(3), Position(6), Position(7)),
        ("gap", Position(9), Position(12), None),
    ]
    assert reading.stats.holes == 2
    assert numbers(read(lake.store, token=reading.token)) == []
    assert numbers(read(lake.store, on_hole="report")) == [1, 2, 3, 7, 8, 9]
    assert "after 3:0 through 6:0 before 7:0" in caplog.text


def test_a_hole_before_the_time_asked_for_is_passed_in_silence(lake: Lake) -> None:
    columns = {}
    for first in (1, 7, 17):
        rows = [(first + at, 0, b"k", NOW + first * 3_600_000, b"d") for at in range(3)]
        columns[first] = columns_of(rows)
    lake.block(BlockRange(range_of(columns[1]), columns[1]))
    lake.block(BlockRange(range_of(columns[7], after=Position(6)), columns[7]))
    assert numbers(read(lake.store, start=NOW + 8 * 3_600_000)) == []
    lake.block(BlockRange(range_of(columns[17], after=Position(16)), columns[17]))
    with pytest.raises(HoleFound, match="after 9:0 through 16:0"):
        list(read(lake.store, start=NOW + 8 * 3_600_000))


def test_a_missing_block_is_named_with_its_ranges(lake: Lake) -> None:
    lake.block(run_of(1, 3))
    lost = lake.block(run_of(4, 6, 3), run_of(101, 105, shard=OTHER_SHARD))
    lake.kept(2).remove()
    reading = read(lake.store, shards=[SHARD])
    assert next(reading).batch.num_rows == 3
    with pytest.raises(BlockMissing, match=f"(?s){lost.block}.*3 records of {SHARD} from 4:0 to 6:0"):
        next(reading)
    assert f'"{SHARD}":"3:0"' in reading.token


@pytest.mark.parametrize("columns", [None, ["data"], ["partition_key", "shard_id"]])
def test_a_damaged_block_is_named_and_nothing_of_the_range_is_handed_out(lake: Lake, columns: list[str] | None) -> None:
    lake.block(run_of(1, 3), run_of(4, 6, 3))
    content = bytearray(lake.kept(1).read())
    at = content.index(b"key-5") if columns != ["data"] else content.index(b"data-5")
    content[at : at + 5] = b"evil!"
    lake.kept(1).write(content)
    if columns is None:
        with pytest.raises(BlockDamaged, match=r"from 4:0 to 6:0"):
            list(read(lake.store))
        reading = read(lake.store, batch_rows=3)
        assert len(next(reading).batch) == 3
        with pytest.raises(BlockDamaged):
            next(reading)
    assert len(list(read(lake.store, columns=columns, check=False))) == 1
    lake.kept(1).write(content[: len(content) // 2])
    with pytest.raises(BlockDamaged, match=lake.blocks[0].block):
        list(read(lake.store, columns=columns, check=False))


def test_without_all_columns_the_footer_is_held_against_the_ledger(lake: Lake) -> None:
    lake.block(run_of(1, 3))
    other = encode_block(lake.blocks[0].block, WRITER, STREAM, [run_of(1, 3, data=b"else")], "none")
    lake.kept(1).write(memoryview(other.payload))
    for columns in (None, ["data"]):
        with pytest.raises(BlockDamaged):
            list(read(lake.store, columns=columns))


@pytest.mark.parametrize("columns", [None, ["approximate_arrival_timestamp"]])
@pytest.mark.parametrize("check", [True, False])
def test_arrival_times_in_another_unit_are_not_handed_out(lake: Lake, columns: list[str] | None, check: bool) -> None:
    lake.block(run_of(1, 3))
    lake.kept(1).write(in_millis(lake.kept(1).read()))
    with pytest.raises(BlockDamaged, match="columns are not those of a block"):
        list(read(lake.store, columns=columns, check=check))


class Stream:
    """Stands for Kinesis; remembers what it was asked for."""

    def __init__(self, wrong: bool = False, empty: bool = False) -> None:
        self.asked: list[tuple[str, list[int]]] = []
        self.wrong, self.empty = wrong, empty

    def ranges(self, entry: BlockStored, ranges: Sequence[Range]) -> Iterator[tuple[Range, pa.Table]]:
        self.asked.append((entry.block, [one.first.sequence_number for one in ranges]))
        for one in [] if self.empty else reversed(ranges):
            made = BlockRange(one, columns_of(_rows_of(one)))
            if self.wrong:
                made = run_of(one.first.sequence_number, one.last.sequence_number, data=b"other")
            yield one, rows_of(made)


@pytest.mark.parametrize("damage", ["missing", "torn", "altered"])
def test_a_fallback_has_the_records_of_a_lost_block(lake: Lake, damage: str) -> None:
    lake.block(run_of(1, 3))
    lake.block(run_of(4, 6, 3), run_of(7, 9, 6), run_of(101, 105, shard=OTHER_SHARD))
    content = bytearray(lake.kept(2).read())
    if damage == "missing":
        lake.kept(2).remove()
    elif damage == "torn":
        lake.kept(2).write(content[:-9])
    else:
        at = content.index(b"data-8")
        content[at] = 88
        lake.kept(2).write(content)
    stream = Stream()
    assert numbers(read(lake.store, shards=[SHARD], fallback=stream)) == count(1, 9)
    assert stream.asked == [(lake.blocks[1].block, [7] if damage == "altered" else [4, 7])]
    assert numbers(read(lake.store, shards=[SHARD], start="5", fallback=Stream())) == count(5, 9)
    error = BlockDamaged if damage != "missing" else BlockMissing
    with pytest.raises(BlockDamaged):
        numbers(read(lake.store, fallback=Stream(wrong=True)))
    with pytest.raises(error, match="records of"):
        numbers(read(lake.store, fallback=Stream(empty=True)))


def test_what_was_replaced_is_read_from_what_stands_in_for_it(lake: Lake) -> None:
    for first in range(1, 60, 10):
        lake.block(
            run_of(first, first + 9, first - 1 or None), run_of(first, first + 9, first - 1 or None, shard=OTHER_SHARD)
        )
    lake.replace([2, 3, 4], retire=False)
    lake.kept(3).remove()
    assert numbers(read(lake.store)) == count(1, 60)
    assert numbers(read(lake.store), OTHER_SHARD) == count(1, 60)
    for at in range(1, 61):
        assert numbers(read(lake.store, shards=[OTHER_SHARD], start=f"{at}"), OTHER_SHARD) == count(at, 60)
    first = next(iter(read(lake.store, shards=[SHARD], batch_rows=15)))
    assert numbers(read(lake.store, shards=[SHARD], token=first.token)) == count(first.batch.num_rows + 1, 60)


def test_the_records_of_a_compacted_day_come_from_its_block_in_one_go(lake: Lake) -> None:
    shards = [f"shardId-00000000000{at}" for at in range(4)]
    for first in range(1, 200, 10):
        lake.block(*(run_of(first, first + 9, first - 1 or None, shard=shard) for shard in shards))
    lake.replace(count(1, 20))
    batches = list(read(lake.store, by_shard=True))
    assert [(one.shard, one.batch.num_rows) for one in batches] == [(shard, 200) for shard in shards]
    (batch,) = read(lake.store)
    assert (batch.shards, batch.shard, batch.batch.num_rows) == (tuple(shards), None, 800)


def test_what_a_recovery_could_not_bring_back_is_missing_still(lake: Lake) -> None:
    lake.block(run_of(1, 3), run_of(101, 103, shard=OTHER_SHARD))
    lake.block(run_of(4, 6, 3), run_of(104, 106, 103, shard=OTHER_SHARD))
    lake.kept(2).remove()
    lake.replace([2], keep=[104])
    assert numbers(read(lake.store, shards=[OTHER_SHARD]), OTHER_SHARD) == count(101, 106)
    with pytest.raises(BlockMissing, match=f"(?s){lake.blocks[1].block}.*from 4:0 to 6:0"):
        numbers(read(lake.store))


def test_a_block_that_is_replaced_between_plan_and_reading_is_read_from_its_stand_in(lake: Lake) -> None:
    for first in range(1, 40, 10):
        lake.block(run_of(first, first + 9, first - 1 or None))
    reading = read(lake.store, batch_rows=10)
    seen = numbers_of(next(reading))
    lake.replace([1, 2, 3, 4])
    assert seen + numbers(reading) == count(1, 40)


def test_a_block_that_is_replaced_twice_under_a_reader_is_found(lake: Lake) -> None:
    lake.block(run_of(1, 5))
    lake.block(run_of(6, 9, 5))
    reading = read(lake.store, batch_rows=5)
    seen = numbers_of(next(reading))
    first = lake.replace([1, 2])
    lake.blocks.append(first)
    lake.replace([3])
    assert seen + numbers(reading) == count(1, 9)


def test_expired_blocks_are_passed_and_counted(lake: Lake) -> None:
    for first in range(1, 40, 10):
        lake.block(run_of(first, first + 9, first - 1 or None))
    lake.expire(1, 2)
    reading = read(lake.store)
    assert numbers(reading) == count(21, 40)
    assert (reading.stats.expired_ranges, reading.stats.expired_records) == (2, 20)
    under_a_reader = read(lake.store, batch_rows=10)
    seen = numbers_of(next(under_a_reader))
    lake.expire(4)
    assert seen + numbers(under_a_reader) == count(21, 30)


def test_a_compacted_block_that_expired_is_passed(lake: Lake) -> None:
    lake.block(run_of(1, 5))
    lake.block(run_of(6, 9, 5))
    lake.blocks.append(lake.replace([1, 2]))
    lake.block(run_of(10, 12, 9))
    lake.expire(3)
    reading = read(lake.store)
    assert numbers(reading) == count(10, 12)
    assert reading.stats.expired_records == 9


def test_a_missing_block_that_a_declared_lifecycle_has_removed_is_passed(lake: Lake) -> None:
    lake.block(run_of(1, 5))
    lake.block(run_of(6, 9, 5))
    lake.kept(1).remove()
    declare_lifecycle(lake.store, 10, NOW)
    day = 86_400_000
    assert numbers(open_reading(lake.store, Query(now=lambda: NOW + 11 * day))) == count(6, 9)
    with pytest.raises(BlockMissing):
        numbers(open_reading(lake.store, Query(now=lambda: NOW + 9 * day)))


def test_what_repair_found_in_no_ledger_is_read(lake: Lake) -> None:
    lake.block(run_of(1, 5))
    orphan = lake.stored(run_of(6, 9, 5))
    lake.block(run_of(10, 12, 9))
    change = Transaction(lake.store, orphan.block, "repair", NOW)
    change.add_block(orphan)
    change.commit()
    assert numbers(read(lake.store)) == count(1, 12)


def test_of_two_streams_of_one_name_the_newest_is_read_or_the_one_asked_for(lake: Lake) -> None:
    newer = StreamIdentity(STREAM.arn, STREAM.created + 5)
    lake.block(run_of(1, 5))
    token = read(lake.store).token
    lake.block(run_of(3, 8), stream=newer)
    assert numbers(read(lake.store)) == count(3, 8)
    assert numbers(read(lake.store, stream=str(STREAM))) == count(1, 5)
    with pytest.raises(TokenRefused, match="goes on with"):
        read(lake.store, token=token)
    assert numbers(read(lake.store, token=token, stream=STREAM)) == count(1, 5)
    with pytest.raises(TokenRefused, match="the token is for stream"):
        read(lake.store, token=token, stream=newer)


def test_a_token_is_refused_where_it_means_nothing(lake: Lake, place: Place) -> None:
    lake.block(run_of(1, 5))
    token = read(lake.store, shards=[SHARD]).token
    with pytest.raises(TokenRefused, match="did not read shardId-000000000001"):
        read(lake.store, token=token, shards=[OTHER_SHARD])
    other = Lake(place("other"))
    Kept(other.store, "store.json").write(b'{"format": 1, "application": "another"}')
    with pytest.raises(TokenRefused, match="'landing'"):
        read(other.store, token=token)
    for bad in ("", "{}", "[]", token.replace('"version":3', '"version":2'), token.replace("orders", "orders\0")[:-9]):
        with pytest.raises(TokenRefused):
            read(lake.store, token=bad)
    with pytest.raises(ConfigError):
        read(lake.store, token=token, start=5)


def test_arguments_that_make_no_sense_are_refused(lake: Lake, place: Place) -> None:
    lake.block(run_of(1, 5))
    bad: list[dict[str, Any]] = [
        *({"columns": one} for one in (["dat"], [])),
        *({"start": one} for one in ("5", "x", datetime(2026, 1, 1), {SHARD: "5:x"}, 1.5)),  # noqa: DTZ001
        {"shards": []},
        {"limit": 0},
        *({"batch_rows": one} for one in (0, -1)),
        {"batch_bytes": 0},
        {"on_hole": "ignore"},
        {"stream": "orders"},
    ]
    for named in bad:
        with pytest.raises(ConfigError):
            read(lake.store, **named)
    with pytest.raises(StoreRefused, match="there is no store"):
        read(place("nowhere"))


def test_a_store_whose_ledger_was_lost_is_read_from_its_blocks(lake: Lake) -> None:
    lake.block(run_of(1, 5))
    lake.block(run_of(4, 9, 3))
    kept_ledger(lake.store, WRITER).remove()
    assert numbers(read(lake.store)) == count(1, 9)


def test_a_damaged_ledger_is_said(lake: Lake) -> None:
    lake.block(run_of(1, 5))
    kept = kept_ledger(lake.store, WRITER)
    kept.write(kept.read().replace(b'"count":5', b'"count":6'))
    with pytest.raises(LedgerDamaged):
        list(read(lake.store))


def test_a_token_begins_at_the_oldest_line_that_still_matters(lake: Lake) -> None:
    lake.block(run_of(1, 5))
    out_of_order = lake.stored(run_of(6, 9, 5))
    lake.block(run_of(10, 12, 9))
    lake.block(run_of(101, 103, shard=OTHER_SHARD))
    lake.next_writer()
    lake.add(out_of_order)
    lake.block(run_of(13, 15, 12))
    tokens = {numbers_of(batch)[-1]: batch.token for batch in read(lake.store, batch_rows=4, by_shard=True)}
    assert f'"lines":{{"{WRITER}":3}}' in tokens[103]
    assert f'"lines":{{"{OTHER_WRITER}":' in tokens[15]
    for last, token in tokens.items():
        if last < 100:
            assert numbers(read(lake.store, token=token)) == count(last + 1, 15)


def test_ranges_that_wait_for_long_are_found_again(lake: Lake) -> None:
    first = lake.stored(run_of(1, 9))
    last = 9
    for _ in range(ENTRIES_KEPT + 5):
        lake.block(run_of(last + 1, last + 5, last))
        last += 5
    lake.next_writer()
    lake.add(first)
    assert numbers(read(lake.store)) == count(1, last)


def test_what_waits_does_not_grow_with_the_store(lake: Lake) -> None:
    last = 0
    for _ in range(60):
        ranges = [run_of(last + at * 3 + 1, last + at * 3 + 3, last + at * 3 or None) for at in range(4)]
        blocks = [lake.stored(one) for one in ranges]
        for at in (2, 0, 3, 1):
            lake.add(blocks[at])
        last += 12
    reading = read(lake.store)
    waiting, found = 0, 0
    for batch in reading:
        found += batch.batch.num_rows
        waiting = max(waiting, reading.waiting, len(reading._sources), len(reading._sources._entries))
    assert found == last
    assert waiting <= ENTRIES_KEPT


class Counted(Checked):
    """A place that counts the bytes that are read of open objects."""

    bytes = 0

    def open(self, key: str) -> BlockStream:
        return open_block_file(key, lambda: CountedFile(super(Counted, self).open(key), self), lambda: True)


class CountedFile:
    def __init__(self, file: BlockStream, counted: Counted) -> None:
        self._file, self._counted = file, counted

    def size(self) -> int:
        return int(self._file.size())

    def read_at(self, size: int, at: int) -> bytes:
        content: bytes = self._file.read_at(size, at)
        self._counted.bytes += len(content)
        return content

    def close(self) -> None:
        self._file.close()


def bytes_read(store: Store, **named: object) -> int:
    counted = Counted(store.objects)
    list(read(Store(counted), **named))  # type: ignore[arg-type]
    return counted.bytes


def test_only_the_columns_and_row_groups_asked_for_are_read(lake: Lake) -> None:
    noise = random.Random(1).randbytes(30_000)
    shards = [f"shardId-00000000000{at}" for at in range(4)]
    rows = {}
    for shard in shards:
        rows[shard] = columns_of([(at, 0, b"key", NOW, noise) for at in range(1, 800)])
    lake.block(*(BlockRange(range_of(rows[shard], shard=shard), rows[shard]) for shard in shards))
    everything = bytes_read(lake.store)
    assert everything > 4 * 799 * 30_000
    assert bytes_read(lake.store, columns=["partition_key"]) < everything / 100
    assert bytes_read(lake.store, shards=shards[:1]) < everything / 2.5
    assert bytes_read(lake.store, start=NOW + 3_600_000) == 0


def test_the_public_errors_are_ours() -> None:
    assert issubclass(HoleFound, ReceiverError)
    assert HoleFound("x").exit_code == 1
    assert TokenRefused("x").exit_code == 2
