"""A store into which several writers store at once: what is read of it, and what `verify` says while they do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from places import kept_ledger
from store_support import block_range, put, session_at
from test_read import count, numbers, run_of
from test_tailing import Pair

from kcl_receiver import follow, read
from kcl_receiver.audit.verify import verify_store
from kcl_receiver.errors import HoleFound, LedgerDamaged
from kcl_receiver.ranges import Position
from kcl_receiver.store.blocks.encode import BlockRange
from kcl_receiver.store.ledger.entries import Seen
from kcl_receiver.store.ledger.losses import Loss, losses
from kcl_receiver.store.ledger.writer import LedgerWriter
from kcl_receiver.store.store import Store


class Two(Pair):
    """Two hosts that store what they read of a stream."""

    def __init__(self) -> None:
        super().__init__()
        self.store.claim("landing")
        self._stored = 0

    def begin_session(self, ledger: LedgerWriter, after: int | None = None, seen: Seen | None = None) -> None:
        session = session_at("TRIM_HORIZON" if after is None else after, session=f"{ledger.writer} {after}")
        self.append(ledger, replace(session, seen=seen))

    def put(self, ledger: LedgerWriter, *ranges: BlockRange) -> None:
        self._stored += 1
        self.append(ledger, put(self.store, self._stored, *ranges, writer=ledger.writer))

    def look(self, *others: LedgerWriter) -> Seen:
        return Seen(self.state.last, {other.writer: self.lines(other.writer) for other in others})


@pytest.fixture
def two() -> Two:
    """A shard that the second host began to read, whose ledger sorts behind that of the first one, which reads on."""
    two = Two()
    two.begin_session(two.second)
    two.put(two.second, run_of(1, 5))
    return two


def test_a_shard_that_moves_to_a_ledger_that_sorts_before_is_read_without_a_hole(two: Two) -> None:
    two.begin_session(two.first, 5, two.look(two.second))
    two.put(two.first, run_of(6, 9, 5))
    reading = read(two.store)
    assert numbers(reading) == count(1, 9)
    assert f'"last":"{two.second.writer}"' in reading.token
    two.put(two.first, run_of(10, 12, 9))
    assert numbers(read(two.store, token=reading.token)) == count(10, 12)
    assert verify_store(two.store).proven


def test_it_is_what_the_session_had_seen_that_tells(two: Two) -> None:
    two.begin_session(two.first, 5)
    two.put(two.first, run_of(6, 9, 5))
    with pytest.raises(HoleFound):
        numbers(read(two.store))


def test_any_token_of_two_shards_that_go_to_and_fro_gives_the_rest(two: Two) -> None:
    last, other = 5, two.first
    for _ in range(6):
        two.begin_session(other, last, two.look(two.second if other is two.first else two.first))
        two.put(other, block_range(*count(last + 1, last + 3), after=Position(last)))
        last, other = last + 3, two.second if other is two.first else two.first
    passed = 0
    for one in read(two.store, batch_rows=2):
        passed += one.batch.num_rows
        assert numbers(read(two.store, token=one.token)) == count(passed + 1, last)
    assert passed == last


def test_the_feed_of_changes_goes_on_in_each_ledger(two: Two) -> None:
    changes = follow(two.store)
    assert len(list(changes)) == 1
    two.begin_session(two.first, 5, two.look(two.second))
    for first in (6, 8):
        two.put(two.first, run_of(first, first + 1, first - 1))
        two.put(two.second, run_of(100 + first, 101 + first))
    for rest in (4, 3, 2, 1):
        assert len(list(follow(two.store, changes.token))) == rest
        changes = follow(two.store, changes.token)
        next(iter(changes))
    assert list(follow(two.store, changes.token)) == []


def between(monkeypatch: pytest.MonkeyPatch, writer: str, do: Callable[[], None]) -> None:
    """Do something once the ledger of a writer was read."""
    steps = [do]
    plain = Store.ledger

    def ledger(store: Store, asked: str) -> bytes | None:
        content = plain(store, asked)
        if asked == writer and steps:
            steps.pop()()
        return content

    monkeypatch.setattr(Store, "ledger", ledger)


@pytest.mark.parametrize("ledger_only", [False, True])
def test_verify_reads_again_what_a_session_had_seen_meanwhile(
    two: Two, monkeypatch: pytest.MonkeyPatch, ledger_only: bool
) -> None:
    """Where it looks at blocks it finds those that it did not read of by their footers."""
    two.begin_session(two.first, 5, two.look(two.second))
    two.put(two.first, run_of(6, 7, 5))

    def step() -> None:
        two.put(two.first, run_of(8, 9, 7))
        two.begin_session(two.second, 9, two.look(two.first))
        two.put(two.second, run_of(10, 12, 9))

    between(monkeypatch, two.first.writer, step)
    report = verify_store(two.store, ledger_only=ledger_only)
    assert (report.proven, report.ledger_faults) == (True, [])
    assert [(one.records, one.duplicates) for one in report.shards] == [(12, 0)]


@pytest.mark.parametrize("ledger_only", [False, True])
def test_verify_finds_a_writer_that_has_begun_meanwhile(
    two: Two, monkeypatch: pytest.MonkeyPatch, ledger_only: bool
) -> None:
    two.begin_session(two.first, 5, two.look(two.second))

    def step() -> None:
        two.put(two.first, run_of(6, 7, 5))
        list(two.begin(two.hosts[0]))
        third = two.hosts[0].writer
        assert third is not None
        two.put(third, run_of(8, 9, 7))
        two.begin_session(two.second, 9, two.look(third))
        two.put(two.second, run_of(10, 12, 9))

    between(monkeypatch, two.first.writer, step)
    report = verify_store(two.store, ledger_only=ledger_only)
    assert (report.proven, report.ledger_faults, report.orphans) == (True, [], [])
    assert [(one.records, one.duplicates) for one in report.shards] == [(12, 0)]


def test_a_line_that_another_writer_saw_is_missed_by_all_of_them(two: Two) -> None:
    two.put(two.second, run_of(6, 7, 5))
    two.begin_session(two.first, 7, two.look(two.second))
    kept = kept_ledger(two.store, two.second.writer)
    kept.write(b"".join(kept.read().splitlines(keepends=True)[:-1]))
    said = f"line 4 of the ledger of writer {two.second.writer}, which {two.first.writer} saw, is not there"
    assert verify_store(two.store).ledger_faults == [said]
    assert losses(two.store) == [Loss(two.second.writer, 4, said)]
    with pytest.raises(LedgerDamaged, match=said):
        numbers(read(two.store))


def test_what_is_lost_is_looked_at_again_where_hosts_store_meanwhile(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    two.begin_session(two.first, 5, two.look(two.second))

    def step() -> None:
        two.put(two.first, run_of(6, 9, 5))
        two.begin_session(two.second, 9, two.look(two.first))

    between(monkeypatch, two.first.writer, step)
    assert losses(two.store) == []
