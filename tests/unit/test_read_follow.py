"""Following a store while a receiver writes to it: new lines, new writers, holes that are waited at, tokens."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import Kept, NewPlace, Place, directory, end_process, kept_ledger
from store_support import NOW, OTHER_WRITER, STREAM, WRITER, block_range, put, session_at
from test_read import OTHER_SHARD, SHARD, Lake, count, numbers, numbers_of, run_of

from kcl_receiver import HoleInShard, read
from kcl_receiver.errors import HoleFound, StreamReplaced, TokenRefused
from kcl_receiver.ids import writer_id
from kcl_receiver.maintenance.repair import repair
from kcl_receiver.ranges import Position, StreamIdentity
from kcl_receiver.reading.api import open_reading
from kcl_receiver.reading.query import Query
from kcl_receiver.store.blocks.encode import BlockRange
from kcl_receiver.store.ledger.entries import ShardEnded
from kcl_receiver.store.objects import Checked
from kcl_receiver.store.store import Store
from kcl_receiver.wire.columns import Buffer


@pytest.fixture
def lake(place: Place) -> Lake:
    return Lake(place())


class Follower:
    """Follows a store; at each of its waits the next step is done, and after the last it is stopped."""

    def __init__(
        self,
        lake: Lake,
        *steps: Callable[[], object],
        on_hole: Callable[[HoleInShard], None] | None = None,
        hole_timeout: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        token: str | None = None,
        stream: StreamIdentity | None = None,
    ) -> None:
        self.seen: list[list[int]] = [[]]
        self._steps = iter(steps)
        self.token = ""
        query = Query(follow=True, report=on_hole, hole_timeout=hole_timeout, wait=self._wait, clock=clock)
        self.reading = open_reading(lake.store, query, token=token, stream=stream)
        for batch in self.reading:
            self.seen[-1] += numbers_of(batch)
            self.token = batch.token

    def _wait(self, seconds: float) -> bool:
        assert seconds == 1.0
        step = next(self._steps, None)
        if step is None:
            return True
        self.seen.append([])
        step()
        return False


def test_a_token_of_a_store_that_nobody_had_claimed_is_good_for_whoever_claims_it(lake: Lake, place: Place) -> None:
    claim = Kept(lake.store, "store.json")
    said = claim.read()
    claim.remove()
    token = read(lake.store).token
    follower = Follower(lake, lambda: (claim.write(said), lake.block(run_of(1, 3))))
    assert follower.seen == [[], count(1, 3)]
    assert numbers(read(lake.store, token=token)) == count(1, 3)
    other = Lake(place("other"))
    Kept(other.store, "store.json").write(b'{"format": 1, "application": "another"}')
    with pytest.raises(TokenRefused, match="'landing'"):
        read(other.store, token=follower.token)


def test_what_is_stored_later_comes_later(lake: Lake) -> None:
    lake.block(run_of(1, 3))
    follower = Follower(lake, lambda: lake.block(run_of(4, 6, 3)), lambda: None, lambda: lake.block(run_of(7, 9, 6)))
    assert follower.seen == [count(1, 3), count(4, 6), [], count(7, 9)]
    assert numbers(read(lake.store, token=follower.token)) == []


def test_a_store_without_anything_in_it_is_waited_for(place: Place) -> None:
    lake = Lake(place())
    follower = Follower(lake, lambda: lake.add(session_at()), lambda: lake.block(run_of(1, 3)))
    assert follower.seen == [[], [], count(1, 3)]
    assert follower.reading.stream == STREAM


def test_new_writers_are_followed_whether_their_ledgers_are_sealed_or_not(lake: Lake) -> None:
    def go_on(number: int, seal: bool) -> Callable[[], object]:
        def step() -> None:
            lake.block(run_of(10 * number + 1, 10 * number + 5, 10 * number))
            lake.next_writer(writer_id(NOW + 1000 * number, f"{number:08x}"))
            lake.block(run_of(10 * number + 6, 10 * number + 10, 10 * number + 5))

        return step

    def twice() -> None:
        go_on(4, True)()
        go_on(5, True)()

    lake.block(run_of(1, 10))
    follower = Follower(lake, go_on(1, True), go_on(2, False), go_on(3, True), twice)
    assert follower.seen == [count(1, 10), count(11, 20), count(21, 30), count(31, 40), count(41, 60)]


def test_a_torn_line_of_a_file_is_left_until_it_is_whole(tmp_path_factory: pytest.TempPathFactory) -> None:
    lake = Lake(directory(tmp_path_factory)())
    kept = kept_ledger(lake.store, WRITER)
    lake.block(run_of(1, 3))
    before = kept.read()
    lake.block(run_of(4, 6, 3))
    after = kept.read()
    kept.write(after[:-40])
    follower = Follower(lake, lambda: kept.write(after[:-1]), lambda: kept.write(after))
    assert follower.seen == [count(1, 3), [], count(4, 6)]
    assert len(before) < len(after) - 40


def test_a_line_that_vanishes_with_the_power_comes_again_and_its_records_do_not(lake: Lake) -> None:
    kept = kept_ledger(lake.store, WRITER)
    lake.block(run_of(1, 3))
    durable = kept.read()
    lake.block(run_of(4, 6, 3))

    def power_fails() -> None:
        kept.write(durable)
        lake.next_writer()  # adopts the block from its footer, in its first lines
        lake.block(run_of(5, 9, 4, session="s2"))

    follower = Follower(lake, power_fails)
    assert follower.seen == [count(1, 6), count(7, 9)]
    assert numbers(read(lake.store, token=follower.token)) == []
    assert numbers(read(lake.store)) == count(1, 9)


def test_a_zombies_late_block_is_trimmed_also_after_a_token(lake: Lake) -> None:
    lake.block(run_of(1, 3))
    zombie = lake.stored(run_of(4, 8, 3))
    lake.add(session_at(3, session="s2"))
    lake.block(run_of(4, 6, 3, session="s2"))
    token = Follower(lake).token
    lake.add(zombie)
    assert numbers(read(lake.store, token=token)) == [7, 8]
    lake.block(run_of(7, 9, 6, session="s2"))
    assert numbers(read(lake.store, token=token)) == [7, 8, 9]


def test_a_hole_is_waited_at_and_nothing_is_given_past_it(lake: Lake) -> None:
    lake.block(run_of(1, 3))
    slow = lake.stored(run_of(4, 6, 3))
    follower = Follower(lake, lambda: lake.block(run_of(7, 9, 6)), lambda: lake.add(slow))
    assert follower.seen == [count(1, 3), [], count(4, 9)]


def test_a_hole_that_was_passed_is_not_told_again_to_who_goes_on(lake: Lake) -> None:
    lake.block(block_range(201, shard=OTHER_SHARD, after=Position(200)))  # waits, and holds the token's place
    lake.block(run_of(1, 3))
    lake.add(session_at(5, session="s2"))
    lake.block(run_of(6, 9, 5))
    holes: list[HoleInShard] = []
    follower = Follower(lake, on_hole=holes.append)
    assert [one.through for one in holes] == [Position(5)]
    assert Follower(lake, token=follower.token).seen == [[]]
    lake.add(session_at(12, session="s3"))
    token = Follower(lake, token=follower.token, on_hole=holes.append).reading.token
    assert [one.through for one in holes] == [Position(5), Position(12)]
    assert Follower(lake, token=token).seen == [[]]


@pytest.mark.parametrize("by", ["session", "end"])
def test_a_hole_is_final_when_a_later_session_or_the_shards_end_is_past_it(lake: Lake, by: str) -> None:
    lake.block(run_of(1, 3))
    lake.block(run_of(7, 9, 6))
    entry = session_at(9, session="s2") if by == "session" else ShardEnded("s1", SHARD, STREAM, Position(9), NOW)
    holes: list[HoleInShard] = []
    assert Follower(lake, lambda: lake.add(entry), on_hole=holes.append).seen == [count(1, 3), count(7, 9)]
    assert [(one.after, one.through, one.before) for one in holes] == [(Position(3), Position(6), Position(7))]
    with pytest.raises(HoleFound, match="after 3:0 through 6:0 before 7:0"):
        Follower(lake)


def test_a_limit_makes_a_hole_final(lake: Lake) -> None:
    lake.block(run_of(1, 3))
    lake.block(run_of(7, 9, 6))
    clock = itertools.count(0, 10.0)
    holes: list[HoleInShard] = []
    nothing = [lambda: None] * 5
    follower = Follower(lake, *nothing, on_hole=holes.append, hole_timeout=25.0, clock=lambda: next(clock))
    assert follower.seen == [count(1, 3), [], [], count(7, 9), [], []]
    assert [one.through for one in holes] == [Position(6)]
    assert Follower(lake, *nothing, on_hole=holes.append, hole_timeout=99.0, clock=lambda: 5.0).seen[-1] == []
    late = lambda: lake.block(run_of(4, 6, 3))  # noqa: E731
    moving = Follower(lake, lambda: None, late, *nothing, hole_timeout=25.0, clock=lambda: next(clock))
    assert [*itertools.chain(*moving.seen)] == count(1, 9)


def test_the_stop_event_ends_a_reading(lake: Lake) -> None:
    stop = threading.Event()
    lake.block(run_of(1, 3))
    lake.block(run_of(4, 6, 3))
    reading = read(lake.store, follow=True, stop=stop, batch_rows=3)
    assert numbers_of(next(reading)) == count(1, 3)
    stop.set()
    assert list(reading) == []
    assert numbers(read(lake.store, token=reading.token)) == count(4, 6)


def test_a_follower_says_so_when_the_store_goes_on_with_another_stream(lake: Lake) -> None:
    lake.block(run_of(1, 3))
    newer = StreamIdentity(STREAM.arn, STREAM.created + 5)
    with pytest.raises(StreamReplaced, match="goes on with stream"):
        Follower(lake, lambda: lake.block(run_of(1, 9), stream=newer))
    assert Follower(lake, stream=STREAM).seen == [count(1, 3)]


def test_a_follower_goes_on_while_its_blocks_are_compacted(lake: Lake) -> None:
    for first in range(1, 40, 10):
        lake.block(run_of(first, first + 9, first - 1 or None))
    token = next(iter(read(lake.store, batch_rows=7))).token

    def step() -> None:
        lake.block(run_of(41, 50, 40))
        lake.replace([3, 4, 5])

    follower = Follower(lake, lambda: lake.replace([1, 2]), step, lambda: lake.block(run_of(51, 53, 50)))
    assert [*itertools.chain(*follower.seen)] == count(1, 53)
    assert numbers(read(lake.store, token=token)) == count(8, 53)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32))
def test_whatever_happens_each_record_comes_once_across_tokens(new_place: NewPlace, seed: int) -> None:
    """Blocks out of order, overlaps, new writers, compaction, and readers that stop anywhere and go on by token."""
    rng = random.Random(seed)
    lake = Lake(new_place()())
    lake.add(session_at())
    last, token, seen, writers = 0, None, [], itertools.count(1)
    pending: list[object] = []
    plain: list[int] = []
    for _ in range(rng.randint(3, 14)):
        size = rng.randint(1, 5)
        back = rng.randint(0, min(last, 3)) if rng.random() < 0.3 else 0
        ranges = [
            block_range(*count(last - back + 1, last + size), after=Position(last - back))
            if last - back
            else run_of(1, last + size)
        ]
        last += size
        pending.append(lake.stored(*ranges))
        if rng.random() < 0.6:
            rng.shuffle(pending)
            for one in pending:
                lake.add(one)  # type: ignore[arg-type]
            plain += [at + 1 for at, entry in enumerate(lake.blocks) if entry in pending]
            pending.clear()
        if rng.random() < 0.2 and not pending:
            lake.next_writer(writer_id(NOW + 1000 * next(writers), f"{rng.randrange(2**32):08x}"))
        if rng.random() < 0.3 and len(plain) > 1:
            lake.replace([plain.pop(rng.randrange(len(plain))) for _ in range(rng.randint(1, len(plain)))])
        if rng.random() < 0.7:
            query = Query(follow=True, batch_rows=rng.randint(1, 4), wait=lambda _: True)
            reading = open_reading(lake.store, query, token=token)
            for batch in itertools.islice(reading, rng.randint(0, 6)):
                seen += numbers_of(batch)
                token = batch.token
                if rng.random() < 0.1 and len(plain) > 1:
                    lake.replace([plain.pop(), plain.pop()])
    for one in pending:
        lake.add(one)  # type: ignore[arg-type]
    assert seen + numbers(read(lake.store, token=token)) == count(1, last)
    assert numbers(read(lake.store)) == count(1, last)


def test_the_other_writer_of_these_tests_comes_later() -> None:
    assert OTHER_WRITER > WRITER


# What repair takes in


DAY_LATER = writer_id(NOW + 3 * 86_400_000, "0000000c")


def lost(lake: Lake, *ranges: BlockRange, days: int = 0, number: int = 1) -> None:
    """Store a block of which no ledger knows anything, some days after the first one."""
    put(lake.store, number, *ranges, writer=writer_id(NOW + days * 86_400_000, "0000000b"))


def repaired(lake: Lake) -> None:
    """Repair, as the command does in a process of its own."""
    store = Store(lake.store.objects)
    try:
        assert repair(store, NOW, apply=True).done
    finally:
        end_process(store)


def test_a_token_gets_what_repair_took_in_on_an_earlier_day(lake: Lake) -> None:
    lake.block(run_of(1, 5))
    lake.next_writer(DAY_LATER)
    lake.block(run_of(10, 12, 9))
    reading = read(lake.store)
    with pytest.raises(HoleFound):
        list(reading)
    token = reading.token
    lost(lake, run_of(6, 9, 5))
    repaired(lake)
    lake.block(run_of(13, 14, 12))
    assert numbers(read(lake.store, token=token)) == count(6, 14)
    whole = read(lake.store)
    assert numbers(whole) == count(1, 14)
    assert numbers(read(lake.store, token=whole.token)) == []


@pytest.mark.parametrize("later", [False, True])
def test_a_follower_gets_what_repair_takes_in_on_its_day_or_an_earlier_one(lake: Lake, later: bool) -> None:
    def more() -> None:
        lost(lake, run_of(6, 9, 5))
        repaired(lake)

    def again() -> None:
        lost(lake, run_of(13, 15, 12), number=2)
        repaired(lake)

    lake.block(run_of(1, 5))
    if later:
        lake.next_writer(DAY_LATER)
    lake.block(run_of(10, 12, 9))
    follower = Follower(lake, more, again, lambda: lake.block(run_of(16, 17, 15)))
    assert follower.seen == [count(1, 5), count(6, 12), count(13, 15), count(16, 17)]


def test_a_token_keeps_what_repair_took_in_and_waits_for_what_comes_before(lake: Lake) -> None:
    lake.block(run_of(1, 5))
    lake.next_writer(DAY_LATER)
    lake.block(run_of(10, 12, 9))
    first = Follower(lake)
    assert first.seen == [count(1, 5)]
    lost(lake, run_of(8, 9, 7))
    repaired(lake)
    second = Follower(lake, token=first.token)
    assert second.seen == [[]]
    lost(lake, run_of(6, 7, 5), days=1)
    repaired(lake)
    assert numbers(read(lake.store, token=second.reading.token)) == count(6, 12)


def test_a_token_of_any_batch_gets_the_rest_of_what_repair_took_in(lake: Lake) -> None:
    lake.block(run_of(1, 5))
    lake.next_writer(DAY_LATER)
    lake.block(run_of(12, 14, 11))
    token = Follower(lake).token
    lost(lake, run_of(6, 7, 5))
    lost(lake, run_of(8, 9, 7), number=2)
    repaired(lake)
    lost(lake, run_of(10, 11, 9), days=1)
    repaired(lake)
    seen: list[int] = []
    while True:
        batch = next(iter(read(lake.store, token=token, batch_rows=1)), None)
        if batch is None:
            break
        seen += numbers_of(batch)
        token = batch.token
    assert seen == count(6, 14)


def killed_at(prefix: str, create: Callable[[Checked, str, Buffer], bool]) -> Callable[[Checked, str, Buffer], bool]:
    """Return what creates objects, and is killed before it creates one below a prefix."""

    def creating(objects: Checked, key: str, content: Buffer) -> bool:
        if key.startswith(prefix):
            raise KeyboardInterrupt
        return create(objects, key, content)

    return creating


def test_a_follower_takes_no_marker_of_a_killed_repair_for_its_entry(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.block(run_of(1, 5))
    lake.next_writer(DAY_LATER)
    lake.block(run_of(10, 12, 9))
    token = Follower(lake).token
    lost(lake, run_of(6, 9, 5))

    with monkeypatch.context() as patch:
        patch.setattr(Checked, "create", killed_at("maintenance/", Checked.create))
        with pytest.raises(KeyboardInterrupt):
            repaired(lake)
    assert lake.store.newest_maintenance_number() == 0, "its entry did not come"
    meanwhile = Follower(lake, token=token).reading.token
    repaired(lake)
    assert numbers(read(lake.store, token=token)) == count(6, 12)
    assert numbers(read(lake.store, token=meanwhile)) == count(6, 12)
