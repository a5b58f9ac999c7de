"""A store into which several writers store at once: what is read of it, and what `verify` says while they do."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone

import pytest
from places import kept_ledger
from store_support import LATE, NOW, SHARD, STREAM, block_range, end_at, put, session_at
from test_read import OTHER_SHARD, count, numbers, numbers_of, run_of
from test_tailing import Fleet, Host, Pair

from kcl_receiver import follow, read
from kcl_receiver.audit.leases import look_back
from kcl_receiver.audit.shard import Shard
from kcl_receiver.audit.verify import verify_store
from kcl_receiver.errors import HoleFound, LedgerDamaged
from kcl_receiver.horizon import Times
from kcl_receiver.proof.links import Cover
from kcl_receiver.ranges import After, Position
from kcl_receiver.store.blocks.encode import BlockRange
from kcl_receiver.store.ledger.entries import Carried, Seen
from kcl_receiver.store.ledger.losses import Loss, losses
from kcl_receiver.store.ledger.reading import Ledger
from kcl_receiver.store.ledger.writer import LedgerWriter, oldest_beside, writers_since
from kcl_receiver.store.store import Store

DAY = 86_400_000


def remove_log(store: Store) -> None:
    store.objects.delete([one.key for one in store.objects.list("log/")])


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


class Moving(Fleet):
    """Hosts that read shards, which move between them; each writer begins anew now and then."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(3, rng)
        self.store.claim("landing")
        for host in self.hosts:
            list(self.begin(host))
        self.owner: dict[str, Host] = {}
        self.last = dict.fromkeys((SHARD, OTHER_SHARD), 0)
        self._numbers = itertools.count(1)

    def act(self) -> None:
        shard = self.rng.choice([*self.last])
        if shard not in self.owner or self.rng.random() < 0.3:
            self.owner[shard] = self.rng.choice(self.hosts)
            self.take(shard, self.owner[shard])
        elif self.rng.random() < 0.2:
            list(self.begin(self.owner[shard]))
        else:
            self.keep(shard, self.owner[shard])

    def take(self, shard: str, host: Host) -> None:
        """Begin a session at the checkpoint, which is all that was stored."""
        assert host.writer is not None
        state = self.state
        lines = {writer: self.lines(writer) for writer in state.living if writer != host.writer.writer}
        after, number = self.last[shard], next(self._numbers)
        session = session_at(after or "TRIM_HORIZON", session=f"s{number}", shard=shard)
        self.append(host.writer, replace(session, seen=Seen(state.last, lines)))

    def keep(self, shard: str, host: Host) -> None:
        assert host.writer is not None
        after, last = self.last[shard], self.last[shard] + self.rng.randint(1, 4)
        block = block_range(*count(after + 1, last), shard=shard, **({"after": Position(after)} if after else {}))
        self.append(host.writer, put(self.store, next(self._numbers), block, writer=host.writer.writer))
        self.last[shard] = last


@pytest.mark.parametrize("seed", range(25))
def test_wherever_shards_move_each_record_comes_once_and_in_order_across_tokens(seed: int) -> None:
    rng = random.Random(seed)
    fleet = Moving(rng)
    token, added = None, None
    seen: dict[str, list[int]] = {shard: [] for shard in fleet.last}
    blocks: list[str] = []
    for _ in range(rng.randint(3, 8)):
        for _ in range(rng.randint(1, 12)):
            fleet.act()
        for batch in itertools.islice(read(fleet.store, token=token, batch_rows=3), rng.randint(1, 8)):
            token = batch.token
            for shard, found in seen.items():
                found += numbers_of(batch, shard)
            fleet.act()
        changes = follow(fleet.store, added)
        for change in itertools.islice(changes, rng.randint(1, 5)):
            blocks += [entry.block for entry in change.added]
            fleet.act()
        added = changes.token
    for batch in read(fleet.store, token=token):
        for shard, found in seen.items():
            found += numbers_of(batch, shard)
    assert seen == {shard: count(1, last) for shard, last in fleet.last.items()}
    blocks += [entry.block for change in follow(fleet.store, added) for entry in change.added]
    assert sorted(blocks) == sorted(block for block, _ in fleet.store.list_blocks())
    assert verify_store(fleet.store).proven


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


def test_a_reading_since_a_time_takes_in_ledgers_that_grew_beside_one_that_says_all_before_it_is_older(
    two: Two,
) -> None:
    """What a ledger notes of the arrivals before it does not hold for what others stored later."""
    ended = two.first.writer
    first = two.begin_next()
    two.append(first, Carried(STREAM, (), NOW - 10 * DAY))
    two.begin_session(first, 5, two.look(two.second))
    two.put(first, run_of(6, 7, 5))
    assert writers_since(two.store, two.store.writers(), NOW) == [two.second.writer, first.writer]
    assert ended < two.second.writer
    assert numbers(read(two.store, start=datetime.fromtimestamp(NOW / 1000, timezone.utc))) == count(1, 7)
    kept = kept_ledger(two.store, first.writer)
    kept.write(kept.read().replace(b'"beside"', b'"beyond"'))
    assert writers_since(two.store, two.store.writers(), NOW) == two.store.writers()


def test_the_newest_stream_may_be_in_a_ledger_that_sorts_before(two: Two) -> None:
    newer = STREAM._replace(created=STREAM.created + 1)
    two.append(two.first, session_at(stream=newer))
    assert Ledger(two.store).newest_stream() == newer


def test_how_far_a_checkpoint_is_behind_counts_what_others_stored(two: Two) -> None:
    two.begin_session(two.first, 5, two.look(two.second))
    two.put(two.first, run_of(6, 9, 5))
    assert look_back(two.store, STREAM, {SHARD: Position(5)}).behind[SHARD].records == 4


def oldest_beside_in(two: Two, ledger: LedgerWriter) -> str:
    return oldest_beside(ledger.writer, two.store.ledger(ledger.writer) or b"")


def test_the_first_line_of_a_ledger_tells_which_others_may_have_grown_since(two: Two) -> None:
    first = two.begin_next()
    assert oldest_beside_in(two, two.first) == two.first.writer
    assert oldest_beside_in(two, first) == two.second.writer
    kept = kept_ledger(two.store, first.writer)
    kept.write(b"x" + kept.read())
    assert oldest_beside_in(two, first) == ""


@pytest.mark.parametrize("ends", [*itertools.permutations([Position(5), Position(9), "TRIM_HORIZON"])])
def test_of_several_ends_of_a_shard_the_furthest_one_tells_whatever_ledger_is_read_first(ends: list[After]) -> None:
    shard = Shard(STREAM, SHARD, Times())
    for last in ends:
        shard.add_end(end_at(last))
    assert shard.ended is not None
    assert shard.ended.last == Position(9)


def test_an_end_that_came_late_stays_in_doubt_though_another_one_did_not() -> None:
    cover = Cover(Times())
    cover.add_end(end_at(5, time=LATE))
    cover.horizon.mark(Position(5), LATE)
    assert cover.horizon.is_good(Position(5), LATE)
    cover.add_end(end_at(5, time=LATE))
    assert cover.doubts
