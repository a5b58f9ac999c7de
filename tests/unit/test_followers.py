"""Followers that a store knows by name: what they have not confirmed stays, whoever expires it and when."""

from __future__ import annotations

import json
from itertools import count

import pytest
from maintenance_support import DAY, LATER, SMALL, fill, present, run, usual
from places import Place
from store_support import NOW, OTHER_WRITER, WRITER
from test_maintenance_together import Between

from kcl_receiver.errors import ConfigError, StoreRefused, StoreUnavailable, TokenRefused
from kcl_receiver.maintenance.expire import Expiry
from kcl_receiver.store.layout import follower_path
from kcl_receiver.store.ledger.follow import follow
from kcl_receiver.store.ledger.followers import find_follower, followers, register, remove_follower
from kcl_receiver.store.ledger.place import Passed
from kcl_receiver.store.ledger.place import Place as Read
from kcl_receiver.store.ledger.transaction import load_day
from kcl_receiver.store.memory import Fault, MemoryBucket, MemoryObjects
from kcl_receiver.store.store import Store

LIMIT = NOW + 11
"""Two of the three blocks of `usual(3)` are older."""
NAME = "orders-table"


def expire(store: Store, before: int = LIMIT) -> int:
    return sum(day.blocks for day in Expiry(store, before, LATER).run(LATER))


@pytest.fixture
def bucket() -> MemoryBucket:
    return MemoryBucket()


# What stays


def test_what_a_follower_has_not_confirmed_stays(quick_place: Place) -> None:
    store = quick_place()
    entries = fill(store, usual(3))
    changes = follow(store, name=NAME)
    expiry = Expiry(store, LIMIT, LATER)
    assert list(expiry.plan()) == []
    assert expiry.held == {NAME: 2}
    assert expire(store) == 0
    assert len(list(changes)) == 3
    assert expire(store) == 0, "it has them, and has not said that they are taken in"
    changes.confirm()
    assert expire(store) == 2
    assert present(store) == {entries[2].block}


def test_only_what_was_confirmed_goes(quick_place: Place) -> None:
    store = quick_place()
    entries = fill(store, usual(3))
    changes = follow(store, name=NAME)
    next(iter(changes))
    changes.confirm()
    assert expire(store, LATER) == 1
    assert present(store) == {entries[1].block, entries[2].block}
    other = follow(store, name="other")
    list(follow(store, name=NAME))
    list(other)
    other.confirm()
    expiry = Expiry(store, LATER, LATER)
    assert list(expiry.plan()) == []
    assert expiry.held == {NAME: 2}, "the other one has confirmed them"


def test_what_stands_in_for_blocks_that_a_follower_has_seen_stays_until_it_has_seen_that(quick_place: Place) -> None:
    store = quick_place()
    fill(store, usual(3))
    changes = follow(store, name=NAME)
    list(changes)
    changes.confirm()
    (report,) = run(store, SMALL)
    assert report.made == 1
    assert expire(store, LATER) == 0
    (change,) = changes
    assert change.by == "compact"
    changes.confirm()
    assert expire(store, LATER) == 1
    assert present(store) == set()


def test_a_follower_without_a_name_holds_nothing_and_confirms_nothing(quick_place: Place) -> None:
    store = quick_place()
    fill(store, usual(3))
    changes = follow(store)
    list(changes)
    with pytest.raises(ValueError, match="without a name"):
        changes.confirm()
    assert followers(store) == []
    assert expire(store) == 2


# Where it goes on


def write_down(store: Store, **members: object) -> None:
    """Write these members over what the store knows of the follower."""
    known = json.loads(store.follower(NAME, 1) or b"")
    store.put_follower(NAME, 1, json.dumps({**known, **members}).encode())


def test_a_follower_goes_on_where_it_confirmed_unless_it_gives_a_token(quick_place: Place) -> None:
    store = quick_place()
    entries = fill(store, usual(3))
    first = follow(store, name=NAME)
    blocks = [change.added[0].block for change in first]
    assert blocks == [one.block for one in entries]
    early = follow(store).token
    first.confirm()
    assert list(follow(store, name=NAME)) == []
    assert len(list(follow(store, early, name=NAME))) == 3
    assert expire(store) == 0, "it said that it goes on before them"


def test_a_follower_with_a_token_that_is_ahead_of_what_it_confirmed_writes_nothing(quick_place: Place) -> None:
    store = quick_place()
    fill(store, usual(3))
    changes = follow(store, name=NAME)
    assert store.newest_maintenance_number() == 1
    list(changes)
    before = find_follower(store, NAME)
    assert list(follow(store, changes.token, name=NAME)) == []
    assert (find_follower(store, NAME), store.newest_maintenance_number()) == (before, 1)


def test_one_that_was_killed_before_it_was_announced_is_announced_at_its_next_start(quick_place: Place) -> None:
    store = quick_place()
    fill(store, usual(3))
    list(changes := follow(store, name=NAME))
    changes.confirm()
    write_down(store, announced=False)
    follow(store, name=NAME)
    assert store.newest_maintenance_number() == 2
    known = find_follower(store, NAME)
    assert known is not None
    assert known.announced


LINES = {WRITER: 3}


@pytest.mark.parametrize(
    ("one", "other", "covers"),
    [
        (Passed(None, 0), Passed(None, 0), True),
        (Passed(None, 0), Passed(Read("", {}, ""), 0), False),
        (Passed(None, 1), Passed(None, 2), False),
        (Passed(Read(WRITER, LINES, DAY), 0), Passed(Read(WRITER, LINES, DAY), 0), True),
        (Passed(Read(WRITER, {WRITER: 2}, DAY), 0), Passed(Read(WRITER, LINES, DAY), 0), False),
        (Passed(Read(WRITER, {}, DAY), 0), Passed(Read(WRITER, LINES, DAY), 0), True),
        (Passed(Read(WRITER, LINES, DAY), 0), Passed(Read(WRITER, {}, DAY), 0), False),
        (Passed(Read(OTHER_WRITER, LINES, DAY), 0), Passed(Read(WRITER, LINES, DAY), 0), True),
        (Passed(Read(WRITER, LINES, DAY), 0), Passed(Read(OTHER_WRITER, LINES, DAY), 0), False),
        (Passed(Read(OTHER_WRITER, {OTHER_WRITER: 1}, DAY), 0), Passed(Read(WRITER, LINES, DAY), 0), True),
    ],
)
def test_what_one_has_taken_in_covers_what_another_has(one: Passed, other: Passed, covers: bool) -> None:
    assert one.covers(other) is covers


def test_a_token_of_another_version_holds_everything_and_its_follower_is_told(quick_place: Place) -> None:
    store = quick_place()
    fill(store, usual(3))
    list(changes := follow(store, name=NAME))
    changes.confirm()
    write_down(store, token=changes.token.replace('"version":3', '"version":2'))
    assert expire(store) == 0
    with pytest.raises(TokenRefused, match="version 2"):
        follow(store, name=NAME)
    follow(store, changes.token, name=NAME).confirm()
    assert expire(store) == 2


def test_what_was_confirmed_and_arrives_late_counts_for_nothing_once_the_follower_has_begun_anew(
    bucket: MemoryBucket,
) -> None:
    store = Store(MemoryObjects(bucket))
    fill(store, usual(3))
    early = follow(store).token
    changes = follow(store, name=NAME)
    next(iter(changes))
    changes.confirm()
    list(changes)
    bucket.faults = lambda request, key: Fault.LATE if request == "put" and key.startswith("followers/") else None
    with pytest.raises(StoreUnavailable):
        changes.confirm()
    bucket.faults = lambda _request, _key: None
    again = follow(store, early, name=NAME)
    bucket.deliver_late()
    assert expire(store) == 0
    with pytest.raises(StoreRefused, match="begun anew elsewhere"):
        changes.confirm()
    assert len(list(again)) == 3
    again.confirm()
    assert expire(store) == 2


def test_what_was_confirmed_and_arrives_late_does_not_bring_back_who_was_removed(bucket: MemoryBucket) -> None:
    store = Store(MemoryObjects(bucket))
    fill(store, usual(3))
    changes = follow(store, name=NAME)
    bucket.faults = lambda request, key: Fault.LATE if request == "put" and key.startswith("followers/") else None
    with pytest.raises(StoreUnavailable):
        changes.confirm()
    bucket.faults = lambda _request, _key: None
    remove_follower(store, NAME)
    bucket.deliver_late()
    assert followers(store) == []
    assert expire(store) == 2
    follow(store, name=NAME)
    assert [one.name for one in followers(store)] == [NAME]


# Removed, and what cannot be read


def test_one_that_is_removed_holds_nothing_and_learns_of_it(quick_place: Place) -> None:
    store = quick_place()
    fill(store, usual(3))
    changes = follow(store, name=NAME)
    remove_follower(store, NAME)
    assert expire(store) == 2
    with pytest.raises(StoreRefused, match=f"'{NAME}' was removed"):
        changes.confirm()
    with pytest.raises(StoreRefused, match="knows no follower"):
        remove_follower(store, NAME)


@pytest.mark.parametrize("name", ["", "Orders", "a/b", "../a", "-a", "a" * 64, "ä"])
def test_a_name_is_short_and_plain(quick_place: Place, name: str) -> None:
    with pytest.raises(ConfigError, match="name of a follower"):
        follow(quick_place(), name=name)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"[" * 100_000,
        b'{"token":null,"host":"","registered":1e999,"confirmed":0,"announced":true}',
        b'{"token":1,"host":"","registered":0,"confirmed":0}',
    ],
)
def test_nothing_is_removed_while_what_is_known_of_a_follower_cannot_be_read(
    quick_place: Place, content: bytes
) -> None:
    store = quick_place()
    fill(store, usual(3))
    store.put_follower(NAME, 1, content)
    with pytest.raises(StoreRefused, match=NAME) as caught:
        expire(store)
    assert f"followers remove {NAME}" in caught.value.hint
    assert len(present(store)) == 3


def test_a_followers_place_is_a_part_of_the_store(quick_place: Place) -> None:
    store = quick_place()
    fill(store, usual(1))
    follow(store, name=NAME)
    assert list(store.list_leftovers()) == []


# At the same time


def test_a_follower_that_comes_while_blocks_are_removed_is_waited_for_or_finds_them_removed() -> None:
    outcomes: set[bool] = set()
    for at in count():
        bucket = MemoryBucket()
        store = Store(MemoryObjects(bucket))
        fill(store, usual(3))
        removed: list[bool] = []

        def comes(store: Store = store, removed: list[bool] = removed) -> None:
            register(store, NAME, None)
            removed.append(bool(load_day(store, DAY).expired))

        expire(Store(Between(MemoryObjects(bucket), at, comes)))
        if not removed:
            break
        assert removed == [True] or len(present(store)) == 3
        outcomes.update(removed)
    assert outcomes == {True, False}


def test_a_removal_that_was_planned_without_a_follower_is_planned_again(bucket: MemoryBucket) -> None:
    store = Store(MemoryObjects(bucket))
    fill(store, usual(3))
    come: list[str] = []

    def when(request: str, key: str) -> None:
        if request == "put" and key.startswith("maintenance/") and not come:
            come.append(key)
            follow(Store(MemoryObjects(bucket)), name=NAME)

    bucket.faults = when
    expiry = Expiry(store, LIMIT, LATER)
    assert list(expiry.run(LATER)) == []
    assert come
    assert expiry.held == {NAME: 2}
    assert len(present(store)) == 3


def test_a_place_is_written_before_the_log_says_so(bucket: MemoryBucket) -> None:
    store = Store(MemoryObjects(bucket))
    fill(store, usual(1))
    puts: list[str] = []
    bucket.faults = lambda request, key: puts.append(key) if request == "put" else None
    follow(store, name=NAME)
    log = next(key for key in puts if key.startswith("maintenance/"))
    assert puts[0] == follower_path(NAME, 1)
    assert puts.index(log) < len(puts) - 1 - puts[::-1].index(follower_path(NAME, 1))
