"""A wall clock that is set back or forward: what is stored is read, in order, and maintained all the same."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import cast

import pytest
from places import Place
from test_workers import QuietStream, part, position

from kcl_receiver import read
from kcl_receiver.audit.verify import verify_store
from kcl_receiver.generator.effects import (
    Append,
    BlockRecord,
    LedgerRecord,
    Measurement,
    SessionRecord,
    ShardFacts,
    WriteBlock,
)
from kcl_receiver.generator.generator_io import GeneratorIO
from kcl_receiver.generator.stream import StreamView
from kcl_receiver.maintenance.compact import Options, compact
from kcl_receiver.maintenance.expire import Expiry
from kcl_receiver.ranges import TRIM_HORIZON, After, Position
from kcl_receiver.store.store import Store

DAY = 86_400_000
AFTER_MIDNIGHT = round(datetime(2026, 3, 1, 0, 0, 1, tzinfo=timezone.utc).timestamp() * 1000)
SHARD = "shardId-000000000000"


class Host:
    """Generators that follow each other on one store, under a clock that is set at will."""

    def __init__(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = AFTER_MIDNIGHT
        self.place = place
        self.store: Store = place()
        self.made: GeneratorIO | None = None
        self.number = self.last = self.blocks = 0
        monkeypatch.setattr("kcl_receiver.generator.generator_io.wall_millis", lambda: self.now)

    def start(self, ledger_lines: int = 10_000) -> None:
        """Start a generator in the place of the last one, which was killed."""
        if self.made is not None:
            cast(Store, self.made._store)._held["lock"].release()
        stream = cast(StreamView, QuietStream())
        self.made = GeneratorIO(self.place(), stream, "landing", "none", store_again=False, ledger_lines=ledger_lines)
        self.made.prepare()
        self.number += 1
        self.blocks = 0
        facts = ShardFacts((), (), ("0", "1"), Measurement(-1, 0, 0, 24))
        record = SessionRecord("s", SHARD, self.number, self.after, facts, AFTER_MIDNIGHT)
        self.append(record)

    @property
    def after(self) -> After:
        return position(self.last) if self.last else TRIM_HORIZON

    def append(self, record: LedgerRecord, checkpoints: dict[str, Position | str] | None = None) -> None:
        """Append a line; no block is on its way."""
        assert self.made is not None
        if self.made.append(Append((record,)), checkpoints or {}):
            self.made.append(Append(()), {})

    def store_records(self, count: int = 2) -> None:
        """Store the next records in a block of their own."""
        assert self.made is not None
        self.blocks += 1
        numbers = list(range(self.last + 1, self.last + count + 1))
        written = self.made.write_block(WriteBlock(self.blocks, (part(numbers, self.after, arrival=AFTER_MIDNIGHT),)))
        self.append(BlockRecord(self.blocks, written), {SHARD: position(self.last)})
        self.last = numbers[-1]

    def writers(self) -> list[str]:
        return self.store.writers()


@pytest.fixture
def host(place: Place, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(place, monkeypatch)


def numbers_read(store: Store, token: str | None = None) -> tuple[list[int], str]:
    reading = read(store, token=token)
    found = [int(one) for batch in reading for one in batch.batch.column("sequence_number").to_pylist()]
    return found, reading.token


@pytest.mark.parametrize("back", [0, 500, 2000, DAY, 40 * DAY, 400 * DAY])
def test_a_reader_with_a_token_gets_what_a_writer_stores_after_the_clock_was_set_back(host: Host, back: int) -> None:
    host.start()
    host.store_records()
    found, token = numbers_read(host.store)
    assert found == [1, 2]
    host.now -= back
    host.start()
    host.store_records()
    host.start()  # the ledger in between is sealed now: no reader looks there but for its place in the order
    host.store_records()
    assert numbers_read(host.store, token)[0] == [3, 4, 5, 6]
    assert numbers_read(host.store)[0] == [1, 2, 3, 4, 5, 6]
    assert verify_store(host.store).proven


def test_ledgers_that_follow_each_other_within_a_second_are_in_order(host: Host) -> None:
    host.start(ledger_lines=1)
    token = None
    for last in range(8, 48, 8):
        for _ in range(4):
            host.store_records()
        found, token = numbers_read(host.store, token)
        assert found == list(range(last - 7, last + 1))
    assert len(host.writers()) > 10


def test_a_clock_that_was_in_the_future_once_leaves_everything_in_order_and_days_that_pass(host: Host) -> None:
    host.start()
    host.store_records()
    host.now += 3650 * DAY
    host.start()
    host.store_records()
    host.now -= 3650 * DAY
    host.start()
    token, days = None, set()
    for last in range(6, 16, 2):
        host.store_records()
        host.now += DAY
        found, token = numbers_read(host.store, token)
        assert found[-2:] == [last - 1, last]
    days = {block[:8] for block, _ in host.store.list_blocks()}
    assert len(days) >= 5
    assert verify_store(host.store).proven


def test_what_was_stored_under_a_clock_in_the_future_is_compacted_and_expired_like_the_rest(host: Host) -> None:
    host.now += 3650 * DAY
    host.start()
    host.now -= 3650 * DAY
    for _ in range(4):
        host.store_records()
    reports = list(compact(host.store, Options(min_age_millis=0), host.now))
    assert [one.made for one in reports] == [1]
    assert numbers_read(host.store)[0] == list(range(1, 9))
    host.now += 100 * DAY
    host.store.hold_maintenance()
    assert sum(day.blocks for day in Expiry(host.store, host.now - 90 * DAY, host.now).run(host.now)) == 1
    assert list(host.store.list_blocks()) == []
