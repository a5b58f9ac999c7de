"""The cases of Spark's KinesisBackedBlockRDDSuite, and of "Kinesis read with custom configurations", for plain and for
aggregated records: a store, the emulated stream that its blocks came from, and a reader with `KinesisFallback`.

docs/reliability.md says which of their tests has its counterpart here. What a reader should find is what was put; only
arrival times are taken from the stream, as the daemon does. Every request to the stream is noted.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from aggregation import Form, forms
from generator_process import STREAM
from recovery_support import User, columns_of, range_of
from store_support import root_of, session_at, stored

from kcl_receiver import Reading, aws, read
from kcl_receiver.config.credentials import Access
from kcl_receiver.emulator.application import Application, name_request
from kcl_receiver.emulator.kpl import UserRecord, aggregate
from kcl_receiver.emulator.moto_services import HttpRequest, HttpResponse, service_scope
from kcl_receiver.emulator.server import Emulator
from kcl_receiver.errors import (
    BlockDamaged,
    BlockMissing,
    RangeDiffers,
    RangeTrimmed,
    StreamGone,
    StreamUnavailable,
)
from kcl_receiver.ids import block_id, writer_id
from kcl_receiver.kinesis import shard_client as calls
from kcl_receiver.kinesis.rate_limit import Limits, Pace
from kcl_receiver.ranges import TRIM_HORIZON, After, Position, Range
from kcl_receiver.recovery.fallback import KinesisFallback
from kcl_receiver.recovery.sources import Sources
from kcl_receiver.store.blocks.arrays import SCHEMA
from kcl_receiver.store.blocks.encode import BlockRange
from kcl_receiver.store.layout import block_at, block_path
from kcl_receiver.store.ledger.entries import BlockStored, Carried, Expired, WriterStarted
from kcl_receiver.store.ledger.transaction import Transaction, content_of
from kcl_receiver.store.ledger.writer import LedgerWriter
from kcl_receiver.store.local import Directory
from kcl_receiver.store.store import Store

FAST = Limits(calls=500.0, bytes=1e9)
SHARDS = ("shardId-000000000000", "shardId-000000000001")
ONE, OTHER = SHARDS
BLOCKS = 5
RANGES = (7, 4)
"""User records of the ranges that a block has of each shard: no multiples of 3, so that they cut aggregates apart."""
KINESIS_RECORDS = BLOCKS * sum(RANGES)


class Request(NamedTuple):
    """A request that the stream got."""

    operation: str
    region: str
    body: dict[str, Any]


class OpenedDirectory(Directory):
    """Notes which blocks are opened."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.opened: list[str] = []

    def open(self, key: str) -> pa.NativeFile:
        """See `Objects.open`."""
        self.opened.append(block_at(key) or key)
        return super().open(key)


class AskedFallback(KinesisFallback):
    """Notes what it is asked for."""

    def __init__(self, emulator: Emulator) -> None:
        super().__init__(endpoint=emulator.url, limits=FAST)
        self.asked: list[tuple[str, Range]] = []

    def ranges(self, entry: BlockStored, ranges: Sequence[Range]) -> Iterator[tuple[Range, pa.Table]]:
        """See `KinesisFallback.ranges`."""
        self.asked += [(entry.block, one) for one in ranges]
        return super().ranges(entry, ranges)


class Landing:
    """A stream of two shards, and a store with blocks of all that was put there.

    Attributes:
        users: By shard, its user records in order.
        entries: The blocks, as the ledger has them.
        requests: All requests that the stream got since the blocks were stored.
    """

    def __init__(self, base: Path, emulator: Emulator, form: Form, requests: list[Request]) -> None:
        self.emulator = emulator
        self.form = form
        self.requests = requests
        self.kinesis = emulator.client("kinesis")
        self.identity = aws.describe_stream(self.kinesis, STREAM).identity
        self.users = {shard.id: self._put(shard) for shard in aws.list_shards(self.kinesis, STREAM)}
        assert tuple(self.users) == SHARDS
        self.now = emulator.kinesis.now()
        self.writer = writer_id(self.now, "00000001")
        self.directory = OpenedDirectory(base / "store")
        self.store = Store(self.directory)
        self.store.claim("landing")
        self.held: list[list[BlockRange]] = []
        self.entries: list[BlockStored] = []
        self._store_blocks()
        requests.clear()
        self.directory.opened.clear()

    def _put(self, shard: aws.Shard) -> list[User]:
        """Put Kinesis records of `form.subs` user records each; return these as the daemon delivers them."""
        made: list[list[tuple[str, bytes]]] = []
        for number in range(-(-KINESIS_RECORDS // self.form.subs)):
            names = [f"{shard.id} {number} {sub}" for sub in range(self.form.subs)]
            made.append([(f"kéy {name}", f"data of {name};".encode() * 9) for name in names])
        place = shard.hash_range[0]
        for users in made:
            packed = aggregate(UserRecord(key, data, int(place)) for key, data in users)
            key, data = users[0] if self.form.subs == 1 else ("a", packed)
            self.kinesis.put_record(StreamName=STREAM, PartitionKey=key, Data=data, ExplicitHashKey=place)
        iterator = self.kinesis.get_shard_iterator(
            StreamName=STREAM, ShardId=shard.id, ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        there = self.kinesis.get_records(ShardIterator=iterator)["Records"]
        assert len(there) == len(made)
        return [
            (int(one["SequenceNumber"]), sub, round(one["ApproximateArrivalTimestamp"].timestamp() * 1000), key, data)
            for one, users in zip(there, made, strict=True)
            for sub, (key, data) in enumerate(users)
        ]

    def _store_blocks(self) -> None:
        bounds = list(pairwise(accumulate(RANGES * BLOCKS, initial=0)))
        self.users = {shard: users[: bounds[-1][1]] for shard, users in self.users.items()}
        after: dict[str, After] = dict.fromkeys(SHARDS, TRIM_HORIZON)
        for number in range(BLOCKS):
            made = []
            for shard in SHARDS:
                for start, end in bounds[number * len(RANGES) : (number + 1) * len(RANGES)]:
                    users = self.users[shard][start:end]
                    ends = [Position(*one[:2]) for one in users if one[1] == self.form.subs - 1]
                    found = replace(range_of(users, shard), after=after[shard], whole=ends[-1] if ends else None)
                    after[shard] = found.last
                    made.append(BlockRange(found, columns_of(users)))
            self.held.append(made)
            self.entries.append(self.block(block_id(self.writer, number + 1), made))
        sessions = [session_at(session="s", shard=shard, stream=self.identity, time=self.now) for shard in SHARDS]
        started = WriterStarted(self.writer, "host", 1, self.now, "0")
        ledger = LedgerWriter(self.store, self.writer)
        ledger.append([started, Carried(self.identity), *sessions, *self.entries])

    def block(self, block: str, held: Sequence[BlockRange]) -> BlockStored:
        """Store a block; return the entry that is to be written."""
        return stored(self.store, block, held, self.identity, self.now)

    def file(self, number: int) -> Path:
        """Return where a block lies."""
        return root_of(self.store) / block_path(self.entries[number].block)

    def remove(self, *numbers: int) -> None:
        """Take blocks away."""
        for number in numbers:
            self.file(number).unlink()

    def alter(self, number: int, index: int) -> None:
        """Change a byte of the data of one range of a block."""
        content = bytearray(self.file(number).read_bytes())
        place = content.find(self.held[number][index].columns.data.value(1))
        assert place > 0
        content[place] ^= 0x55
        self.file(number).write_bytes(content)

    def compact(self, *numbers: int) -> BlockStored:
        """Put one block in the place of some, which stay where they are, as when compact is killed."""
        old = [self.entries[number] for number in numbers]
        change = Transaction(self.store, old[0].block, "compact", self.now)
        made = self.block(change.next_block_id(), [one for number in numbers for one in self.held[number]])
        change.add_block(made, old)
        change.commit()
        return made

    def expire(self, *numbers: int) -> None:
        """Say that blocks are expired; they stay where they are, as when expire is killed."""
        blocks = tuple(self.entries[number].block for number in numbers)
        change = Transaction(self.store, blocks[0], "expire", self.now)
        change.add_expired(Expired(self.now, self.now, blocks))
        change.commit()

    def fallback(self) -> AskedFallback:
        """Return a fallback to the stream."""
        return AskedFallback(self.emulator)

    def ranges(self, *numbers: int) -> list[tuple[str, Range]]:
        """Return all ranges of blocks, with the id of the block."""
        return [(self.entries[number].block, one) for number in numbers for one in self.entries[number].ranges]

    def operations(self) -> set[str]:
        """Return what the stream was asked to do."""
        return {one.operation for one in self.requests}


def users_of(tables: Iterable[pa.RecordBatch | pa.Table]) -> list[User]:
    """Return rows as user records, in the order in which they come."""
    found = []
    for table in tables:
        numbers, subs, keys, arrivals, data = (
            pc.divide(table.column(name).cast("int64"), 1000).to_pylist()
            if name == SCHEMA.names[4]
            else table.column(name).to_pylist()
            for name in SCHEMA.names[1:]
        )
        found += [(int(number), *rest) for number, *rest in zip(numbers, subs, arrivals, keys, data, strict=True)]
    return found


def in_order(asked: Iterable[tuple[str, Range]]) -> list[tuple[str, Range]]:
    """Return what was asked for in the order of blocks, and of the stream in each."""
    return sorted(asked, key=lambda one: (one[0], one[1].shard, one[1].first))


def by_shard(reading: Reading) -> dict[str, list[User]]:
    """Return all that a reading hands out."""
    found: dict[str, list[User]] = defaultdict(list)
    for batch in reading:
        for shard in batch.shards:
            found[shard] += users_of([batch.batch.filter(pc.equal(batch.batch.column("shard_id"), shard))])
    return dict(found)


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """Every request that any emulator gets."""
    seen: list[Request] = []
    answer = Application._answer

    async def note(self: Application, request: HttpRequest) -> HttpResponse:
        scope = service_scope(request.headers)
        seen.append(
            Request(name_request(request)[1], "" if scope is None else scope[1], json.loads(request.body or b"{}"))
        )
        return await answer(self, request)

    monkeypatch.setattr(Application, "_answer", note)
    return seen


@pytest.fixture
def land(tmp_path: Path, emulator: Emulator, requests: list[Request]) -> Callable[[Form], Landing]:
    """Put records in this form, and store blocks of them."""
    return lambda form: Landing(tmp_path, emulator, form, requests)


# ---------------------------------------------------------------------- KinesisBackedBlockRDDSuite


@forms
def test_ranges_read_from_kinesis_are_what_was_put(land: Callable[[Form], Landing], form: Form) -> None:
    landing = land(form)
    cut = [one.first.sub_sequence_number > 0 for _, one in landing.ranges(*range(BLOCKS))]
    assert any(cut) is (form.subs > 1)
    fallback = landing.fallback()
    for number in range(BLOCKS):
        landing.remove(number)
    found: dict[str, list[User]] = defaultdict(list)
    for entry in landing.entries:
        given = dict(fallback.ranges(entry, entry.ranges[::-1]))
        assert set(given) == set(entry.ranges)
        for one in entry.ranges:
            assert set(given[one].column("shard_id").to_pylist()) == {one.shard}
            found[one.shard] += users_of([given[one]])
    assert found == landing.users
    (alone,) = fallback.ranges(landing.entries[2], [landing.entries[2].ranges[1]])
    assert users_of([alone[1]]) == landing.users[ONE][2 * sum(RANGES) + RANGES[0] :][: RANGES[1]]


@forms
def test_what_is_in_blocks_and_in_kinesis_is_read_from_the_blocks(land: Callable[[Form], Landing], form: Form) -> None:
    landing = land(form)
    fallback = landing.fallback()
    assert by_shard(read(landing.store, fallback=fallback)) == landing.users
    assert (fallback.asked, landing.requests) == ([], [])
    # The stream could have given it.
    assert len(list(fallback.ranges(landing.entries[0], landing.entries[0].ranges))) == len(landing.entries[0].ranges)


@forms
def test_what_is_in_blocks_alone_is_read_without_the_stream(land: Callable[[Form], Landing], form: Form) -> None:
    landing = land(form)
    landing.kinesis.delete_stream(StreamName=STREAM)
    landing.requests.clear()
    fallback = landing.fallback()
    assert by_shard(read(landing.store, fallback=fallback)) == landing.users
    assert landing.requests == []
    with pytest.raises(StreamGone):
        list(fallback.ranges(landing.entries[0], landing.entries[0].ranges))


@forms
def test_what_is_in_kinesis_alone_is_read_from_the_stream(land: Callable[[Form], Landing], form: Form) -> None:
    landing = land(form)
    landing.remove(*range(BLOCKS))
    fallback = landing.fallback()
    assert by_shard(read(landing.store, fallback=fallback)) == landing.users
    assert in_order(fallback.asked) == in_order(landing.ranges(*range(BLOCKS)))
    landing.emulator.kinesis.configure(empty_pages=0.5)
    middle = landing.users[OTHER][3 * sum(RANGES) + 2 :]
    start = {OTHER: Position(*middle[0][:2])}
    assert by_shard(read(landing.store, fallback=fallback, shards=[OTHER], start=start)) == {OTHER: middle}


@forms
def test_what_kinesis_has_no_more_is_an_error_that_names_the_range_and_what_came_before_is_read(
    land: Callable[[Form], Landing], form: Form
) -> None:
    landing = land(form)
    landing.remove(1, 2)
    lost = next(one for _, one in landing.ranges(1) if one.shard == ONE)
    named = f"{ONE} from {lost.first} to {lost.last}, which block {landing.entries[1].block} held"
    before = landing.users[ONE][: sum(RANGES)]

    def read_until(error: type[Exception]) -> None:
        reading = read(landing.store, fallback=landing.fallback(), shards=[ONE])
        found: list[User] = []
        with pytest.raises(error, match=re.escape(named)):
            found += (one for batch in reading for one in users_of([batch.batch]))
        assert found == before

    landing.emulator.kinesis.trim(STREAM, ONE, lost.first.sequence_number)
    read_until(RangeTrimmed)
    landing.kinesis.delete_stream(StreamName=STREAM)
    read_until(StreamGone)


@forms
def test_a_range_of_which_kinesis_gives_something_else_is_not_handed_out(
    land: Callable[[Form], Landing], form: Form
) -> None:
    landing = land(form)
    landing.remove(2)
    entry = landing.entries[2]
    other = replace(entry.ranges[1], checksum="0" * 32)
    given = landing.fallback().ranges(entry, [other])
    with pytest.raises(RangeDiffers, match=f"{ONE} from {other.first} to {other.last}"):
        next(given)


@forms
def test_only_the_ranges_that_no_block_gives_are_asked_of_kinesis(land: Callable[[Form], Landing], form: Form) -> None:
    landing = land(form)
    landing.remove(1)
    landing.file(2).write_bytes(landing.file(2).read_bytes()[:-20])
    altered = landing.entries[3].ranges[1]
    landing.alter(3, 1)
    fallback = landing.fallback()
    assert by_shard(read(landing.store, fallback=fallback)) == landing.users
    assert in_order(fallback.asked) == in_order([*landing.ranges(1, 2), (landing.entries[3].block, altered)])
    assert {landing.entries[number].block for number in (0, 3, 4)} <= set(landing.directory.opened)


@forms
def test_a_block_that_is_not_valid_any_more_is_not_opened_although_it_is_there(
    land: Callable[[Form], Landing], form: Form
) -> None:
    landing = land(form)
    made = landing.compact(1, 2)
    landing.expire(4)
    landing.directory.opened.clear()
    fallback = landing.fallback()
    kept = {shard: users[: 4 * sum(RANGES)] for shard, users in landing.users.items()}
    reading = read(landing.store, fallback=fallback)
    assert by_shard(reading) == kept
    valid = {landing.entries[0].block, made.block, landing.entries[3].block}
    assert (set(landing.directory.opened), fallback.asked) == (valid, [])
    assert reading.stats.expired_records == len(SHARDS) * sum(RANGES)
    # What stands in for the two is gone: its ranges come from the stream, and not from the old files.
    (root_of(landing.store) / block_path(made.block)).unlink()
    landing.directory.opened.clear()
    assert by_shard(read(landing.store, fallback=fallback)) == kept
    assert set(landing.directory.opened) == valid
    assert {content_of(one) for _, one in fallback.asked} == {content_of(one) for _, one in landing.ranges(1, 2)}
    assert all(landing.file(number).exists() for number in range(BLOCKS))


@forms
def test_a_reading_stays_valid_when_the_blocks_are_removed_under_it(
    land: Callable[[Form], Landing], form: Form
) -> None:
    landing = land(form)
    fallback = landing.fallback()
    reading = read(landing.store, fallback=fallback, shards=[ONE], batch_rows=5)
    found = users_of([next(reading).batch])
    landing.remove(*range(BLOCKS))
    found += users_of(batch.batch for batch in reading)
    assert found == landing.users[ONE]
    assert {block for block, _ in fallback.asked} >= {entry.block for entry in landing.entries[1:]}


@forms
@pytest.mark.parametrize("damage", ["missing", "altered"])
def test_without_a_fallback_the_lost_block_is_named_and_the_token_goes_on_with_one(
    land: Callable[[Form], Landing], form: Form, damage: str
) -> None:
    landing = land(form)
    first, second = (one for one in landing.entries[2].ranges if one.shard == ONE)
    if damage == "missing":
        landing.remove(2, 3, 4)
        error, lost, good = BlockMissing, first, 2 * sum(RANGES)
    else:
        landing.alter(2, landing.entries[2].ranges.index(second))
        error, lost, good = BlockDamaged, second, 2 * sum(RANGES) + RANGES[0]
    reading = read(landing.store, shards=[ONE])
    found: list[User] = []
    with pytest.raises(error, match=f"(?s){landing.entries[2].block}.*{ONE} from {lost.first} to {lost.last}"):
        found += (one for batch in reading for one in users_of([batch.batch]))
    assert found == landing.users[ONE][:good]
    again = read(landing.store, token=reading.token, fallback=landing.fallback())
    assert found + by_shard(again)[ONE] == landing.users[ONE]


# ---------------------------------------------------------------------- Kinesis read with custom configurations


@forms
def test_region_endpoint_and_the_way_to_name_the_stream_are_the_callers_choice(
    land: Callable[[Form], Landing], form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    landing = land(form)
    landing.remove(*range(BLOCKS))
    # What nobody chose must not come from elsewhere.
    monkeypatch.setenv("AWS_DEFAULT_REGION", "ap-south-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    url, reads = landing.emulator.url, {"ListShards", "DescribeStreamSummary", "GetShardIterator", "GetRecords"}
    usual = KinesisFallback(endpoint=url, limits=FAST)
    assert by_shard(read(landing.store, fallback=usual)) == landing.users
    assert {one.region for one in landing.requests} == {"us-east-1"}  # that of the stream's ARN
    assert not any("StreamARN" in one.body for one in landing.requests)
    assert landing.operations() == reads
    landing.requests.clear()
    chosen = KinesisFallback("eu-north-1", url, by_arn=True, limits=FAST)
    assert by_shard(read(landing.store, fallback=chosen)) == landing.users
    assert {one.region for one in landing.requests} == {"eu-north-1"}
    assert {one.body["StreamARN"] for one in landing.requests} == {landing.identity.arn}
    assert landing.operations() == reads


@forms
def test_calls_and_bytes_a_second_are_the_callers_choice(
    land: Callable[[Form], Landing], form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    landing = land(form)
    landing.remove(2)
    kept: list[Limits] = []

    class KeptPace(Pace):
        def __init__(self, limits: Limits) -> None:
            kept.append(limits)
            super().__init__(limits)

    monkeypatch.setattr(calls, "Pace", KeptPace)
    limits = Limits(calls=123.0, bytes=456_789.0)
    url = landing.emulator.url
    assert by_shard(read(landing.store, fallback=KinesisFallback(endpoint=url, limits=limits))) == landing.users
    assert set(kept) == {limits}
    kept.clear()
    assert by_shard(read(landing.store, fallback=KinesisFallback(endpoint=url))) == landing.users
    assert set(kept) == {Limits(5.0, 2_000_000.0)}  # those of the service


@forms
def test_how_long_a_failing_stream_is_borne_is_the_callers_choice(land: Callable[[Form], Landing], form: Form) -> None:
    landing = land(form)
    landing.remove(2)
    url = landing.emulator.url

    def fail_twice(shards: int = 1) -> None:
        for _ in range(2 * shards):
            landing.emulator.faults.fail("kinesis", "GetRecords", "ProvisionedThroughputExceededException", status=400)

    fail_twice()
    assert by_shard(read(landing.store, fallback=KinesisFallback(endpoint=url, limits=FAST))) == landing.users
    fail_twice(shards=2)  # both are read at the same time
    hasty = KinesisFallback(source=Sources(Access("kinesis", None, url), limits=FAST, patience=0.0))
    with pytest.raises(StreamUnavailable, match="ProvisionedThroughputExceeded"):
        by_shard(read(landing.store, fallback=hasty))
