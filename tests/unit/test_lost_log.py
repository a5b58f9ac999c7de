"""What is lost together with the store's log: nothing that was lost before is forgiven by that."""

from __future__ import annotations

import pytest
from places import Kept, Place, kept_block, kept_ledger
from store_support import NOW, OTHER_WRITER, WRITER, begin, begin_killed, block_range, put, session_at

from kcl_receiver.audit.verify import verify_store
from kcl_receiver.errors import LedgerDamaged
from kcl_receiver.ids import block_id, writer_id
from kcl_receiver.maintenance.repair import ACKNOWLEDGE, BEGIN_ANEW, repair
from kcl_receiver.ranges import Position
from kcl_receiver.store.layout import log_path
from kcl_receiver.store.ledger.entries import BlockStored, SessionStarted
from kcl_receiver.store.ledger.store_log import StoreLog, settled
from kcl_receiver.store.ledger.tailing import LedgerWalk
from kcl_receiver.store.ledger.takeover import rebuilt, take_over
from kcl_receiver.store.ledger.walk import LOG_IS_LOST
from kcl_receiver.store.store import Store

THIRD_WRITER = writer_id(NOW + 120_000, "00000003")
FOURTH_WRITER = writer_id(NOW + 180_000, "00000004")


@pytest.fixture
def place(locking_place: Place) -> Place:
    return locking_place


@pytest.fixture
def store(place: Place) -> Store:
    """A store with a closed ledger, which no session needs, and that of a writer that is living or was killed."""
    store = place()
    begin(store, WRITER).append(
        [session_at(), put(store, 1, block_range(1, 2)), put(store, 2, block_range(3, after=Position(2)))]
    )
    last = put(store, 1, block_range(4, 5, after=Position(3)), writer=OTHER_WRITER)
    begin(store, OTHER_WRITER).append([session_at(Position(3), session="s2"), last])
    StoreLog(store).change(lambda state: settled(state, WRITER, NOW, (), {}))
    assert verify_store(store).proven
    return store


def lose_log(store: Store) -> None:
    store.objects.delete([one.key for one in store.objects.list("log/")])


def damage_log(store: Store) -> None:
    Kept(store, log_path(store.newest_log_number())).write(b"")


def done(place: Place) -> list[tuple[str, str]]:
    place.end_processes()
    return [(one.kind, one.thing) for one in repair(place(), NOW, apply=True).actions]


@pytest.mark.parametrize("damage", [lose_log, damage_log])
def test_a_lost_end_stays_known_where_the_log_is_lost_too(store: Store, place: Place, damage: object) -> None:
    kept = kept_ledger(store, WRITER)
    kept.write(b"".join(kept.read().splitlines(keepends=True)[:-2]))
    kept_block(store, block_id(WRITER, 2)).remove()
    (fault,) = verify_store(place()).ledger_faults
    assert callable(damage)
    damage(store)
    if damage is lose_log:
        with pytest.raises(LedgerDamaged, match="its end is not there"):
            take_over(place())
    assert done(place) == [(BEGIN_ANEW, "the store's log"), (ACKNOWLEDGE, WRITER)]
    assert [one.reason for one in verify_store(place()).acknowledged] == [fault]
    assert [one.block for one in take_over(place()).blocks] == [block_id(WRITER, 1), block_id(OTHER_WRITER, 1)]


def test_a_ledger_that_a_damaged_log_needed_is_missed(store: Store, place: Place) -> None:
    begin(store, THIRD_WRITER)
    begin(store, FOURTH_WRITER)
    kept_ledger(store, OTHER_WRITER).remove()
    kept_block(store, block_id(OTHER_WRITER, 1)).remove()
    damage_log(store)
    begun_anew, *lost = done(place)
    assert begun_anew == (BEGIN_ANEW, "the store's log")
    assert lost == [(ACKNOWLEDGE, OTHER_WRITER)]


def test_the_ledger_of_a_living_writer_that_is_gone_is_missed(store: Store, place: Place) -> None:
    """It was there before its first block."""
    kept_ledger(store, OTHER_WRITER).remove()
    assert verify_store(place()).ledger_faults == [
        f"the ledger of writer {OTHER_WRITER} is not there, and its blocks are"
    ]
    with pytest.raises(LedgerDamaged, match="is not there, and its blocks are"):
        take_over(place())
    assert (ACKNOWLEDGE, OTHER_WRITER) in done(place)
    assert verify_store(place()).ledger_faults == []
    begin(place(), THIRD_WRITER)


def test_a_writer_that_was_killed_before_its_first_line_has_lost_nothing(store: Store, place: Place) -> None:
    begin_killed(store, THIRD_WRITER)
    assert verify_store(place()).proven
    assert take_over(place()).to_close == [THIRD_WRITER]


def test_a_log_that_lost_its_newest_entries_counts_as_lost(store: Store, place: Place) -> None:
    """A ledger is there, and the log does not know of its writer, which was in it first: an old one was put back."""
    for number in range(2, store.newest_log_number() + 1):
        Kept(store, log_path(number)).remove()
    assert verify_store(place()).ledger_faults == [LOG_IS_LOST]
    read = [entry.block for _, entry in LedgerWalk(place()).poll() if isinstance(entry, BlockStored)]
    assert read == [block_id(WRITER, 1), block_id(WRITER, 2), block_id(OTHER_WRITER, 1)]
    assert done(place) == [(BEGIN_ANEW, "the store's log")]
    assert verify_store(place()).proven
    assert [*take_over(place()).state.living] == [OTHER_WRITER]


def test_a_damaged_log_keeps_nobody_from_reading(store: Store, place: Place) -> None:
    """The ledgers say all that a reader needs; only `repair` mends the log, and not beside a generator at work."""
    damage_log(store)
    walk = LedgerWalk(place())
    read = [entry.block for _, entry in walk.poll() if isinstance(entry, BlockStored)]
    assert read == [block_id(WRITER, 1), block_id(WRITER, 2), block_id(OTHER_WRITER, 1)]
    assert done(place) == [(BEGIN_ANEW, "the store's log")]
    begin(place(), THIRD_WRITER).append([session_at(session="s3")])
    assert "s3" in {entry.session for _, entry in walk.poll() if isinstance(entry, SessionStarted)}


def test_who_follows_a_store_whose_log_begins_anew_reads_on(place: Place) -> None:
    begin(place(), WRITER)
    walk = LedgerWalk(place())
    assert len(list(walk.poll())) == 2
    lose_log(place())
    begin(place(), OTHER_WRITER).append([session_at(session="s2")])
    assert "s2" in {entry.session for _, entry in walk.poll() if isinstance(entry, SessionStarted)}


def test_what_is_taken_for_closed_without_the_log_is_durable(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who closed it may have been killed between the line and its fsync; a loss of power would take the line away."""
    lose_log(store)
    settled_ones: list[str] = []
    monkeypatch.setattr(Store, "settle_ledger", lambda _, writer, __: settled_ones.append(writer))
    closed = [writer for writer in store.writers() if (store.ledger(writer) or b"").count(b'"closed"')]
    assert rebuilt(store).kept == tuple(settled_ones) == tuple(closed) != ()
