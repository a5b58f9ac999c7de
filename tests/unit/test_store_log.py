"""The store's log: numbered without gaps, one winner for each number, and nothing lost or doubled by a lost answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from places import Kept, Place
from store_support import NOW, OTHER_WRITER, SHARD, STREAM, WRITER, local_store

from kcl_receiver.errors import LedgerDamaged, StoreUnavailable
from kcl_receiver.ids import writer_id
from kcl_receiver.ranges import Forgotten, Position
from kcl_receiver.store.layout import log_entry_at, log_path
from kcl_receiver.store.ledger.entries import StoreState, WriterStarted, encode_lines
from kcl_receiver.store.ledger.store_log import EMPTY, Overtaken, StoreLog, began, settled
from kcl_receiver.store.memory import Fault, MemoryBucket, MemoryObjects
from kcl_receiver.store.store import Store

FORGOTTEN = {SHARD: Forgotten(Position(7), NOW)}


def begins(writer: str, *closed: str) -> Callable[[StoreState], StoreState]:
    started = WriterStarted(writer, "host", 1, NOW, "0")
    return lambda state: began(state, started, closed, STREAM, {})


@pytest.fixture
def store(place: Place) -> Store:
    return place()


def entries(store: Store) -> list[str]:
    return [one.key for one in store.objects.list("log/")]


def test_a_store_without_a_log_says_nothing(store: Store) -> None:
    assert StoreLog(store).newest().number == 0
    assert StoreLog(store).newest().state == StoreLog(store).state == EMPTY


def test_each_entry_repeats_all_that_holds(store: Store) -> None:
    log = StoreLog(store)
    log.change(begins(WRITER))
    log.change(begins(OTHER_WRITER, WRITER))
    again = StoreLog(store).newest()
    assert (again.number, again.state) == (2, log.state)
    state = again.state
    assert ([*state.living], state.kept, state.last, state.stream) == ([OTHER_WRITER], (WRITER,), OTHER_WRITER, STREAM)
    assert entries(store) == ["log/000000/000000001.json", "log/000000/000000002.json"]


def test_what_holds_already_is_not_said_again(store: Store) -> None:
    log = StoreLog(store)
    log.change(begins(WRITER))
    log.change(begins(WRITER))
    StoreLog(store).change(begins(WRITER))
    StoreLog(store).change(lambda state: settled(state, WRITER, NOW + 1, (), FORGOTTEN))
    assert len(entries(store)) == 1


def test_a_ledger_that_no_session_needs_is_not_kept_and_what_is_in_it_counts_as_forgotten(store: Store) -> None:
    log = StoreLog(store)
    log.change(begins(WRITER))
    log.change(begins(OTHER_WRITER, WRITER))
    state = log.change(lambda state: settled(state, OTHER_WRITER, NOW, (WRITER,), FORGOTTEN))
    assert (state.kept, state.forgotten) == ((WRITER,), {})
    state = log.change(lambda state: settled(state, OTHER_WRITER, NOW, (), FORGOTTEN))
    assert (state.kept, state.forgotten) == ((), FORGOTTEN)


def test_of_two_that_write_at_once_both_are_in_the_log(store: Store, place: Place) -> None:
    first, second = StoreLog(store), StoreLog(place())
    first.newest()
    second.newest()
    first.change(begins(WRITER))
    second.change(begins(OTHER_WRITER))
    assert [*StoreLog(store).newest().state.living] == [WRITER, OTHER_WRITER]
    assert first.newest() == second.newest()


def test_one_that_is_overtaken_between_reading_and_writing_takes_the_next_number() -> None:
    bucket = MemoryBucket()
    slow, quick = (StoreLog(Store(MemoryObjects(bucket))) for _ in range(2))
    pending = [WRITER]

    def overtake(request: str, key: str) -> None:
        if request == "put" and pending:
            quick.change(begins(pending.pop()))

    bucket.faults = overtake
    assert [*slow.change(begins(OTHER_WRITER)).living] == [WRITER, OTHER_WRITER]
    store = Store(MemoryObjects(bucket))
    assert entries(store) == [log_path(1), log_path(2)]
    assert [*StoreLog(store).newest().state.living] == [WRITER, OTHER_WRITER]


def test_one_that_is_overtaken_by_a_greater_id_is_told_to_choose_another() -> None:
    bucket = MemoryBucket()
    slow, quick = (StoreLog(Store(MemoryObjects(bucket))) for _ in range(2))
    pending = [OTHER_WRITER]

    def overtake(request: str, key: str) -> None:
        if request == "put" and pending:
            quick.change(begins(pending.pop()))

    bucket.faults = overtake
    with pytest.raises(Overtaken) as refused:
        slow.change(begins(WRITER))
    assert refused.value.last == OTHER_WRITER
    assert [*quick.newest().state.living] == [OTHER_WRITER]


def test_one_that_has_begun_is_not_overtaken_when_its_answer_was_lost() -> None:
    log = StoreLog(Store(MemoryObjects(MemoryBucket())))
    log.change(begins(WRITER))
    log.change(begins(OTHER_WRITER))
    assert [*log.change(begins(WRITER)).living] == [WRITER, OTHER_WRITER]


def test_many_that_write_at_once_lose_nothing_and_leave_no_gap() -> None:
    bucket = MemoryBucket()
    writers = [writer_id(NOW, f"{number:08x}") for number in range(8)]
    StoreLog(Store(MemoryObjects(bucket))).change(lambda state: replace(state, kept=tuple(writers)))

    def settle(writer: str) -> None:
        StoreLog(Store(MemoryObjects(bucket))).change(
            lambda state: settled(state, writer, NOW, {*writers} - {writer}, {})
        )

    threads = [threading.Thread(target=settle, args=(one,)) for one in writers]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    store = Store(MemoryObjects(bucket))
    assert StoreLog(store).newest().state.kept == ()
    assert entries(store) == [log_path(number) for number in range(1, 10)]


@pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.AFTER])
@pytest.mark.parametrize("request_name", ["put", "get", "head", "page"])
def test_an_answer_that_is_lost_leads_to_one_entry(fault: Fault, request_name: str) -> None:
    bucket = MemoryBucket()
    log = StoreLog(Store(MemoryObjects(bucket)))
    log.change(begins(WRITER))
    failed: list[str] = []

    def once(request: str, key: str) -> Fault | None:
        if request != request_name or failed:
            return None
        failed.append(key)
        return fault

    for each in (log, StoreLog(Store(MemoryObjects(bucket)))):
        failed.clear()
        bucket.faults = once
        for _ in range(2):
            try:
                each.change(begins(OTHER_WRITER, WRITER))
            except StoreUnavailable:
                assert failed
        assert [*each.newest().state.living] == [OTHER_WRITER]
    bucket.faults = lambda _request, _key: None
    assert len(entries(Store(MemoryObjects(bucket)))) == 2


def test_a_request_of_the_dead_that_arrives_late_changes_nothing() -> None:
    bucket = MemoryBucket()
    dead, alive = (StoreLog(Store(MemoryObjects(bucket))) for _ in range(2))
    bucket.faults = lambda request, _: Fault.LATE if request == "put" else None
    with pytest.raises(StoreUnavailable):
        dead.change(begins(WRITER))
    bucket.faults = lambda _request, _key: None
    alive.change(begins(OTHER_WRITER))
    bucket.deliver_late()
    assert [*StoreLog(Store(MemoryObjects(bucket))).newest().state.living] == [OTHER_WRITER]


def test_the_newest_of_many_is_found_by_two_listings_and_one_reading() -> None:
    bucket = MemoryBucket()
    store = Store(MemoryObjects(bucket))
    for number in (*range(1, 4), *range(998, 2003)):
        line, _ = encode_lines([StoreState(last=WRITER, time=number)], number, "")
        store.create_log_entry(number, line)
    asked: list[tuple[str, str]] = []
    bucket.faults = lambda request, key: asked.append((request, key))  # type: ignore[func-returns-value]
    assert StoreLog(store).newest().number == 2002
    assert asked == [
        ("page", "log/"),
        ("page", "log/000002/"),
        ("get", log_path(2002)),
        ("get", log_path(2003)),
    ]


SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "a byte": lambda line: line.replace(b'"time":', b'"tine":'),
    "nothing in it": lambda line: b"",
    "half of it": lambda line: line[: len(line) // 2],
    "an entry of another kind": lambda _: encode_lines([WriterStarted(WRITER, "h", 1, NOW, "0")], 2, "")[0],
    "another number": lambda _: encode_lines([StoreState()], 3, "")[0],
    "a name that is no writer": lambda _: encode_lines([StoreState(last="../../etc")], 2, "")[0],
}


@pytest.mark.parametrize("spoil", SPOILT)
def test_an_entry_that_is_not_as_it_was_written_is_damage_and_the_log_can_begin_anew(store: Store, spoil: str) -> None:
    StoreLog(store).change(begins(WRITER))
    StoreLog(store).change(begins(OTHER_WRITER, WRITER))
    kept = Kept(store, log_path(2))
    kept.write(SPOILT[spoil](kept.read()))
    with pytest.raises(LedgerDamaged, match="entry 2 of the log"):
        StoreLog(store).newest()
    state = replace(EMPTY, kept=(WRITER,), last=OTHER_WRITER)
    StoreLog(store).rebuild(lambda _: state)
    assert StoreLog(store).newest()[::2] == (3, state)


def test_keys_tell_their_numbers() -> None:
    for number in (1, 999, 1000, 123_456_789):
        assert log_entry_at(log_path(number)) == number
    for key in ("log/000000/1.json", "log/000001/000000001.json", "log/000000/000000000.json", "log/x.json"):
        assert log_entry_at(key) is None


def write(store: Store, number: int, *, last: str = WRITER) -> None:
    line, _ = encode_lines([StoreState(last=last, time=number)], number, "")
    store.create_log_entry(number, line)


def test_a_folder_without_an_entry_hides_none(tmp_path: Path) -> None:
    """A writer that is killed has made the folder of the next thousand, and no entry in it; people make others."""
    store = local_store(tmp_path)
    for number in range(990, 1000):
        write(store, number)
    for name in ("000001", "old"):
        (tmp_path / "log" / name).mkdir()
    assert store.newest_log_number() == 999
    StoreLog(store).change(begins(OTHER_WRITER))
    assert store.newest_log_number() == 1000


def test_a_damaged_entry_of_long_ago_stops_nobody_where_the_newest_folder_is_empty(tmp_path: Path) -> None:
    store = local_store(tmp_path)
    for number in range(1, 1000):
        write(store, number)
    Kept(store, log_path(7)).write(b"")
    (tmp_path / "log" / "000001").mkdir()
    assert StoreLog(store).newest().number == 999


def test_an_entry_that_is_neither_there_nor_free_is_told(tmp_path: Path) -> None:
    """A name that leads nowhere: nobody may try it for ever."""
    store = local_store(tmp_path)
    StoreLog(store).change(begins(WRITER))
    (tmp_path / log_path(2)).symlink_to("nowhere")
    log = StoreLog(store)
    for act in (lambda: log.change(begins(OTHER_WRITER)), lambda: log.rebuild(lambda known: known)):
        asked: list[int] = []

        def once_more(number: int, line: bytes, asked: list[int] = asked) -> bool:
            asked.append(number)
            assert len(asked) < 5, "it is tried for ever"
            return Store.create_log_entry(store, number, line)

        store.create_log_entry = once_more  # type: ignore[method-assign]
        with pytest.raises(StoreUnavailable, match="000000002"):
            act()


def test_who_has_read_a_log_that_is_lost_finds_the_one_that_began_anew(store: Store, place: Place) -> None:
    follows = StoreLog(place())
    for writer in (WRITER, OTHER_WRITER):
        StoreLog(store).change(begins(writer))
    assert follows.newest().number == 2
    store.objects.delete([one.key for one in store.objects.list("log/")])
    assert follows.newest().number == 2  # what held, as long as nothing else is known
    StoreLog(store).change(begins(OTHER_WRITER))
    assert (follows.newest().number, [*follows.state.living]) == (1, [OTHER_WRITER])


def test_a_log_that_began_anew_and_has_as_many_entries_is_another_one(store: Store, place: Place) -> None:
    follows = StoreLog(place())
    StoreLog(store).change(begins(WRITER))
    assert [*follows.newest().state.living] == [WRITER]
    Kept(store, log_path(1)).remove()
    StoreLog(store).change(begins(OTHER_WRITER))
    assert [*follows.newest().state.living] == [OTHER_WRITER]


def test_who_has_read_more_than_an_older_log_that_was_put_back_says_it_again(store: Store) -> None:
    log = StoreLog(store)
    log.change(begins(WRITER))
    log.change(begins(OTHER_WRITER, WRITER))
    Kept(store, log_path(2)).remove()
    assert [*log.newest().state.living] == [OTHER_WRITER]
    log.change(lambda state: settled(state, OTHER_WRITER, NOW, (), FORGOTTEN))
    assert [*StoreLog(store).newest().state.living] == [OTHER_WRITER]


def test_who_has_read_the_log_goes_on_after_a_damaged_entry_behind_which_it_began_anew(
    store: Store, place: Place
) -> None:
    follows = StoreLog(place())
    StoreLog(store).change(begins(WRITER))
    follows.newest()
    StoreLog(store).change(begins(OTHER_WRITER, WRITER))
    Kept(store, log_path(2)).write(b"{}\n")
    with pytest.raises(LedgerDamaged, match="entry 2 of the log"):
        follows.newest()
    StoreLog(store).rebuild(lambda _: EMPTY)
    assert follows.newest().number == 3
