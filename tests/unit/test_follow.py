"""The feed of changes: whoever applies them has the live blocks, wherever it stopped and went on."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import NewPlace, Place, kept_ledger
from store_support import NOW, local_store
from test_read import Lake, run_of
from test_read_follow import lost, repaired

from kcl_receiver import Change, Changes, follow
from kcl_receiver.errors import LedgerDamaged, StoreUnavailable, TokenRefused
from kcl_receiver.ids import writer_id
from kcl_receiver.store.ledger.reading import Ledger
from kcl_receiver.store.store import Store

DAY = 86_400_000


@pytest.fixture
def lake(place: Place) -> Lake:
    return Lake(place())


class Copy:
    """What follows a store, and goes on with the token after each change as another process would."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.token: str | None = None
        self.live: set[str] = set()
        self.ever: set[str] = set()

    def catch_up(self, most: int | None = None) -> list[Change]:
        seen = []
        while most is None or len(seen) < most:
            changes = follow(self.store, self.token)
            one = next(iter(changes), None)
            self.token = changes.token
            if one is None:
                break
            self.apply(one)
            seen.append(one)
        return seen

    def apply(self, one: Change) -> None:
        added = {entry.block for entry in one.added}
        assert not added & self.ever, "a block is added once"
        self.ever |= added
        self.live |= added
        self.live.difference_update(one.removed)


def live_blocks(store: Store) -> set[str]:
    """Return the live blocks, as the ledgers say when they are read at once."""
    ledger = Ledger(store)
    named = {entry.block for entry in ledger.entries() if hasattr(entry, "block")}
    for day in store.maintenance_days():
        changes = ledger.changes(day)
        named -= {*changes.replaced, *changes.expired}
    return named


def for_each(changes: Changes, do: Callable[[Change], None]) -> None:
    for one in changes:
        do(one)


def kinds(changes: list[Change]) -> list[str]:
    return [one.by for one in changes]


def test_what_is_stored_comes_in_the_order_of_the_ledger_and_then_nothing(lake: Lake) -> None:
    entries = [lake.block(run_of(1, 3)), lake.block(run_of(4, 5, 3))]
    changes = follow(lake.store)
    assert list(changes) == [Change("generator", (entry,), ()) for entry in entries]
    assert list(changes) == []
    later = lake.block(run_of(6, 6, 5))
    assert [one.added for one in changes] == [(later,)]
    assert list(follow(lake.store, changes.token)) == []


def test_compaction_is_one_change_that_adds_and_removes(lake: Lake) -> None:
    old = [lake.block(run_of(1, 3)), lake.block(run_of(4, 5, 3))]
    changes = follow(lake.store)
    list(changes)
    lake.replace([1, 2])
    (one,) = changes
    assert (one.by, one.removed) == ("compact", tuple(entry.block for entry in old))
    assert [entry.rows for entry in one.added] == [5]


def test_expiry_removes_and_adds_nothing(lake: Lake) -> None:
    entries = [lake.block(run_of(1, 3)), lake.block(run_of(4, 5, 3))]
    changes = follow(lake.store)
    list(changes)
    lake.expire(1)
    assert list(changes) == [Change("expire", (), (entries[0].block,))]


def test_what_repair_takes_in_is_added_whatever_its_day(lake: Lake) -> None:
    lake.block(run_of(1, 5))
    lake.next_writer(writer_id(NOW + 2 * DAY, "00000009"))
    lake.block(run_of(10, 12, 9))
    copy = Copy(lake.store)
    copy.catch_up()
    lost(lake, run_of(6, 9, 5), days=1)
    repaired(lake)
    (one,) = copy.catch_up()
    assert one.by == "repair"
    assert [entry.rows for entry in one.added] == [4]


def test_a_new_follower_gets_what_is_live_and_what_was_removed_before(lake: Lake) -> None:
    lake.block(run_of(1, 3))
    lake.block(run_of(4, 5, 3))
    lake.replace([1, 2])
    lake.next_writer()
    lake.block(run_of(6, 7, 5))
    copy = Copy(lake.store)
    assert kinds(copy.catch_up()) == ["generator", "generator", "generator", "compact"]
    assert copy.live == live_blocks(lake.store)
    assert len(copy.live) == 2


def test_a_block_that_is_removed_was_added_before_though_maintenance_began_first(lake: Lake) -> None:
    """The feed lists what maintenance did, then reads the ledgers: compaction must not come between unseen."""
    lake.block(run_of(1, 3))
    changes = follow(lake.store)
    (first,) = changes
    lake.block(run_of(4, 5, 3))
    feed = iter(changes)
    assert next(feed).by == "generator"
    lake.block(run_of(6, 7, 5))
    lake.replace([1, 2, 3])
    seen = {first.added[0].block, lake.blocks[1].block}
    for one in itertools.chain(feed, changes):
        assert seen.issuperset(one.removed)
        seen.update(entry.block for entry in one.added)
    assert len(seen) == 4


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_copy_that_stops_anywhere_has_the_live_blocks(new_place: NewPlace, seed: int) -> None:
    rng = random.Random(seed)
    lake = Lake(new_place()())
    copy = Copy(lake.store)
    writers = itertools.count(1)
    free: list[int] = []
    last = 0
    for _ in range(rng.randint(5, 25)):
        step = rng.random()
        if step < 0.5 or not free:
            lake.block(run_of(last + 1, last + 2, last or None))
            last += 2
            free.append(len(lake.blocks))
        elif step < 0.65:
            lake.next_writer(writer_id(NOW + 1000 * next(writers), f"{rng.randrange(2**32):08x}"))
        elif step < 0.8:
            lake.replace([free.pop(rng.randrange(len(free))) for _ in range(rng.randint(1, len(free)))])
        else:
            lake.expire(free.pop(rng.randrange(len(free))))
        if rng.random() < 0.5:
            copy.catch_up(rng.randint(0, 3))
    copy.catch_up()
    assert copy.live == live_blocks(lake.store)


def test_the_store_may_be_away_for_a_while(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.block(run_of(1, 3))
    changes = follow(lake.store)

    def away(*_: object) -> None:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "ledger", away)
        with pytest.raises(StoreUnavailable):
            list(changes)
    assert kinds(list(changes)) == ["generator"]


def test_a_damaged_ledger_is_told_after_what_comes_before_it(lake: Lake) -> None:
    lake.block(run_of(1, 3))
    lake.block(run_of(4, 5, 3))
    kept = kept_ledger(lake.store, lake.writer)
    content = kept.read()
    kept.write(content[:-40] + b"0" + content[-39:])
    seen: list[Change] = []
    with pytest.raises(LedgerDamaged):
        for_each(follow(lake.store), seen.append)
    assert kinds(seen) == ["generator"]


@pytest.mark.parametrize(
    "text", ["", "null", "{}", "[1]", '{"version":1}', '{"version":3,"ledgers":["x",1],"maintenance":0}']
)
def test_what_is_no_token_is_refused(lake: Lake, text: str) -> None:
    with pytest.raises(TokenRefused):
        follow(lake.store, text)


def test_a_token_of_another_store_is_refused(lake: Lake, place: Place) -> None:
    other = place("other")
    other.claim("billing")
    with pytest.raises(TokenRefused, match="landing"):
        follow(other, follow(lake.store).token)


def test_nothing_is_followed_of_a_store_that_is_not_there_yet(tmp_path: Path) -> None:
    changes = follow(tmp_path / "store")
    assert list(changes) == []
    lake = Lake(local_store(tmp_path / "store"))
    lake.block(run_of(1, 3))
    assert kinds(list(changes)) == ["generator"]
