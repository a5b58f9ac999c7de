"""Closed ledgers become one object each: what holds at every point between, whoever is killed, sleeps or comes late."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count, product

import pytest
from store_support import NOW, OTHER_WRITER, WRITER, begin, block_range, put, session_at

from kcl_receiver.errors import LedgerDamaged, StoreUnavailable, WriterFenced
from kcl_receiver.store.bucket import KEPT_PARTS, BucketObjects
from kcl_receiver.store.layout import ledger_path
from kcl_receiver.store.ledger.entries import Closed, Living, StoreState
from kcl_receiver.store.ledger.merging import merge_closed, merge_left_over
from kcl_receiver.store.ledger.store_log import StoreLog
from kcl_receiver.store.ledger.writer import LedgerWriter
from kcl_receiver.store.memory import Fault, MemoryBucket, MemoryObjects
from kcl_receiver.store.store import Store

LOG = "ledger/2026-11/20261122T131501Z-7f3a9c01.jsonl"
FIRST = f"{LOG}~000000000001"


@pytest.fixture
def bucket() -> MemoryBucket:
    return MemoryBucket()


def keys(bucket: MemoryBucket) -> list[str]:
    return [one.key for one in bucket.page("", "", deep=True)]


def line(number: int) -> bytes:
    return b"line %d\n" % number


def written(bucket: MemoryBucket, parts: int) -> bytes:
    """Let a log have so many parts of two lines each; return it."""
    objects = BucketObjects(bucket)
    for number in range(parts):
        objects.append(LOG, 2 * number + 1, line(2 * number + 1) + line(2 * number + 2))
    return b"".join(map(line, range(1, 2 * parts + 1)))


def counted(bucket: MemoryBucket) -> list[str]:
    """Note each request from now on."""
    out: list[str] = []
    bucket.faults = lambda request, key: out.append(f"{request} {key}")
    return out


# The object and the parts


def test_a_merged_log_is_one_object_and_its_last_two_parts(bucket: MemoryBucket) -> None:
    whole = written(bucket, 10)
    objects = BucketObjects(bucket)
    objects.merge(LOG, whole)
    assert keys(bucket) == [LOG, f"{LOG}~{17:012d}", f"{LOG}~{19:012d}"]
    requests = counted(bucket)
    assert objects.get(LOG) == whole
    assert len(requests) == 2
    assert [(one.key, one.size) for one in objects.list("")] == [(LOG, len(whole))]
    found = objects.stat(LOG)
    assert found is not None
    assert (found.key, found.size) == (LOG, len(whole))


@pytest.mark.parametrize("number", range(1, 23))
def test_a_merged_log_is_read_on_from_any_line(bucket: MemoryBucket, number: int) -> None:
    whole = written(bucket, 10)
    expected = b"".join(whole.splitlines(keepends=True)[number - 1 :])
    assert BucketObjects(bucket).get_from(LOG, number) == expected
    BucketObjects(bucket).merge(LOG, whole)
    assert BucketObjects(bucket).get_from(LOG, number) == expected


def test_a_log_of_two_parts_stays_as_it_is(bucket: MemoryBucket) -> None:
    objects = BucketObjects(bucket)
    objects.merge(LOG, written(bucket, KEPT_PARTS))
    assert LOG not in keys(bucket)
    assert list(objects.unmerged("")) == []


def test_a_log_that_was_put_in_the_place_of_another_stays_as_it_is(bucket: MemoryBucket) -> None:
    whole = written(bucket, 10)
    repaired = b"".join(map(line, range(1, 5)))
    bucket.put(LOG, repaired, if_absent=False)
    BucketObjects(bucket).merge(LOG, whole)
    assert bucket.get(LOG) == repaired
    assert len(keys(bucket)) == 11


def test_logs_that_can_be_merged_are_listed(bucket: MemoryBucket) -> None:
    objects = BucketObjects(bucket)
    whole = written(bucket, 10)
    objects.create("ledger/a.json", b"")
    for name, parts in (("ledger/b.jsonl", 2), ("ledger/c.jsonl", 3), ("ledger/d.jsonl", 1)):
        for number in range(1, parts + 1):
            objects.append(name, number, line(number))
    assert list(objects.unmerged("ledger/")) == [LOG, "ledger/c.jsonl"]
    objects.merge(LOG, whole)
    assert list(objects.unmerged("ledger/")) == ["ledger/c.jsonl"]


def test_what_comes_after_a_key_is_listed_without_what_comes_before(bucket: MemoryBucket) -> None:
    objects = BucketObjects(bucket)
    names = [f"ledger/{name}.jsonl" for name in "abcd"]
    for name in names:
        for number in range(1, 4):
            objects.append(name, number, line(number))
    for after, expected in (("", names), (names[1], names[2:]), ("ledger/bb.jsonl", names[2:]), (names[3], [])):
        assert [one.key for one in objects.list_after("ledger/", after)] == expected
        assert [one.key for one in super(BucketObjects, objects).list_after("ledger/", after)] == expected


# Who sleeps, and what comes late


def test_a_writer_that_slept_since_before_the_end_finds_the_key_at_which_it_appends_taken(bucket: MemoryBucket) -> None:
    slow = BucketObjects(bucket)
    for number in range(1, 9):
        slow.append(LOG, number, line(number))
    heir = BucketObjects(bucket)
    heir.append(LOG, 9, b"closed\n")
    heir.merge(LOG, heir.get(LOG) or b"")
    with pytest.raises(LedgerDamaged):
        slow.append(LOG, 9, line(9))
    assert bucket.get(f"{LOG}~{9:012d}") == b"closed\n"


def test_a_writer_whose_last_answer_was_lost_finds_its_line_and_then_the_end(bucket: MemoryBucket) -> None:
    slow = BucketObjects(bucket)
    for number in range(1, 8):
        slow.append(LOG, number, line(number))
    bucket.faults = lambda request, _: Fault.AFTER if request == "put" else None
    with pytest.raises(TimeoutError):
        slow.append(LOG, 8, line(8))
    bucket.faults = lambda *_: None
    heir = BucketObjects(bucket)
    heir.append(LOG, 9, b"closed\n")
    heir.merge(LOG, heir.get(LOG) or b"")
    before = keys(bucket)
    slow.append(LOG, 8, line(8))
    with pytest.raises(LedgerDamaged):
        slow.append(LOG, 9, line(9))
    assert keys(bucket) == before


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("good", range(9))
@pytest.mark.parametrize("killed_at", range(7))
def test_who_sleeps_is_refused_too_once_good_lines_are_in_the_place_of_a_log(
    bucket: MemoryBucket, good: int, killed_at: int, merged: bool
) -> None:
    """The last answer may have been lost, and the log may have been closed or not."""
    asleep, lost = BucketObjects(bucket), BucketObjects(bucket)
    for number in range(1, 9):
        asleep.append(LOG, number, line(number))
        lost.append(LOG, number, line(number)) if number < 8 else None
    repairs = BucketObjects(bucket)
    if merged:
        repairs.append(LOG, 9, b"closed\n")
        repairs.merge(LOG, repairs.get(LOG) or b"")
    content = b"".join(map(line, range(1, good + 1)))[:-1] + b"\n" if good else b"x\n"
    left = count(killed_at, -1)
    bucket.faults = lambda *_: Fault.BEFORE if next(left) == 0 else None
    with suppress(TimeoutError):
        repairs.replace_ended(LOG, content)
    bucket.faults = lambda *_: None
    for _ in range(2):
        repairs.replace_ended(LOG, content)
    with pytest.raises(LedgerDamaged):
        asleep.append(LOG, 9, line(9))
    with suppress(LedgerDamaged):
        lost.append(LOG, 8, line(8))
        with pytest.raises(LedgerDamaged):
            lost.append(LOG, 9, line(9))
    assert BucketObjects(bucket).get(LOG) == content
    assert list(repairs.unmerged("")) == []
    assert len(keys(bucket)) <= 1 + KEPT_PARTS + 1


def test_one_that_read_a_log_before_it_was_merged_does_not_close_it_in_the_middle(bucket: MemoryBucket) -> None:
    whole = written(bucket, 10)
    closer = BucketObjects(bucket)

    def merged_meanwhile(request: str, key: str) -> None:
        if request == "put":
            bucket.faults = lambda *_: None
            BucketObjects(bucket).append(LOG, 3, whole[14:28])
            for number in range(5, 20):
                BucketObjects(bucket).append(LOG, number, line(number))
            content = BucketObjects(bucket).get(LOG) or b""
            BucketObjects(bucket).merge(LOG, content)

    for key in keys(bucket)[1:]:
        bucket.remove([key])
    bucket.faults = merged_meanwhile
    with pytest.raises(LedgerDamaged):
        closer.append(LOG, 3, b"closed\n")
    assert (closer.get(LOG) or b"").count(b"closed") == 0


def test_what_comes_late_to_the_key_of_a_part_that_was_removed_counts_for_nothing(bucket: MemoryBucket) -> None:
    whole = written(bucket, 10)
    objects = BucketObjects(bucket)
    objects.merge(LOG, whole)
    for number in (1, 3, 5):
        bucket.put(f"{LOG}~{number:012d}", b"closed by a ghost\n", if_absent=True)
    reader = BucketObjects(bucket)
    assert reader.get(LOG) == whole
    for number in range(1, 23):
        expected = b"".join(whole.splitlines(keepends=True)[number - 1 :])
        assert reader.get_from(LOG, number) == expected
        assert reader.get_from(LOG, number, at_end=True) in (expected, b"")
    objects.merge(LOG, whole)
    assert len(keys(bucket)) == 1 + KEPT_PARTS


def test_a_log_is_there_while_it_is_merged(bucket: MemoryBucket) -> None:
    whole = written(bucket, 10)
    calls: list[Callable[[BucketObjects], object]] = [
        lambda one: one.stat(LOG) is not None,
        lambda one: one.get(LOG) == whole,
        lambda one: one.get_from(LOG, 7) == whole[len(b"line 1\n") * 6 :],
        lambda one: [found.key for found in one.list("")] == [LOG],
    ]
    for call, before in product(calls, range(14)):
        left = count(before, -1)

        def merged_before_a_request(_request: str, _key: str, left: Iterator[int] = left) -> None:
            if next(left) == 0:
                bucket.faults = lambda *_: None
                BucketObjects(bucket).merge(LOG, whole)

        bucket.faults = merged_before_a_request
        assert call(BucketObjects(bucket))
        bucket.faults = lambda *_: None
        for key in keys(bucket):
            bucket.remove([key])
        written(bucket, 10)


# Against a plain model


class Killed(BaseException):
    """Who makes a request ends before it, or after it."""


class Mortal(MemoryBucket):
    """A bucket on which any request may fail, arrive late, kill its sender, or let others do something before it."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.rng = rng
        self.others: list[Callable[[], None]] = []
        self.wild = True
        self.faults = self._struck
        self._depth = 0

    def _struck(self, request: str, _: str) -> Fault | None:
        if not self.wild:
            return None
        chance = self.rng.random()
        if chance < 0.15 and self.others and self._depth < 3:
            self._depth += 1
            self.rng.choice(self.others)()
            self._depth -= 1
        elif chance < 0.2:
            self.deliver_late()
        elif chance < 0.25:
            raise Killed
        elif chance < 0.35:
            late = Fault.LATE if request in ("put", "remove") else Fault.BEFORE
            return self.rng.choice((Fault.BEFORE, Fault.AFTER, late))
        return None


@pytest.mark.parametrize("seed", range(300))
def test_whoever_is_killed_or_sleeps_a_log_holds_what_was_appended_before_it_was_closed(seed: int) -> None:
    """The model: a list of lines that an append makes longer until one of them closes it."""
    rng = random.Random(seed)
    bucket = Mortal(rng)
    told: dict[int, bytes] = {}  # the lines of which an append has said that they are there
    writer = BucketObjects(bucket)
    upcoming, pending = 1, b""
    is_busy = False
    made = count()

    def content(objects: BucketObjects) -> bytes:
        known = dict(told)
        found = objects.get(LOG) or b""
        lines = found.splitlines(keepends=True)
        assert all(lines[number - 1] == one for number, one in known.items())
        closed = [one.startswith(b"closed") for one in lines]
        assert not any(closed[:-1]), "nothing follows what closes it"
        return found

    def appends() -> None:
        nonlocal upcoming, pending, is_busy
        if is_busy:
            return
        is_busy = True
        with suppress(TimeoutError, LedgerDamaged):
            pending = pending or b"".join(b"line %d\n" % next(made) for _ in range(rng.choice((1, 1, 1, 2, 4))))
            writer.append(LOG, upcoming, pending)
            told.update(enumerate(pending.splitlines(keepends=True), upcoming))
            upcoming += pending.count(b"\n")
            pending = b""
        is_busy = False

    def closes() -> None:
        objects = BucketObjects(bucket)
        found = content(objects)
        if found and not found.splitlines()[-1].startswith(b"closed"):
            number = found.count(b"\n") + 1
            mine = b"closed by %d\n" % next(made)
            with suppress(LedgerDamaged):
                objects.append(LOG, number, mine)
                told[number] = mine

    def merges() -> None:
        objects = BucketObjects(bucket)
        found = content(objects)
        if found and found.splitlines()[-1].startswith(b"closed"):
            objects.merge(LOG, found)

    def reads() -> None:
        objects = BucketObjects(bucket)
        number = rng.randint(1, upcoming + 2)
        known = dict(told)
        at_end = rng.random() < 0.5
        found = dict(enumerate(objects.get_from(LOG, number, at_end=at_end).splitlines(keepends=True), number))
        assert all(found[at] == one for at, one in known.items() if at in found)
        if not at_end:
            assert {at for at in known if at >= number} <= found.keys()

    def looks() -> None:
        objects = BucketObjects(bucket)
        if told:
            assert objects.stat(LOG) is not None
            assert [one.key for one in objects.list("")] == [LOG]

    def safely(do: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            nonlocal is_busy
            try:
                do()
            except (TimeoutError, Killed):
                is_busy = is_busy and do is not appends

        return run

    bucket.others = [safely(one) for one in (appends, closes, merges, merges, reads, looks)]
    for _ in range(rng.randint(5, 40)):
        safely(rng.choice((appends, appends, appends, appends, closes, merges, reads, looks)))()
    bucket.wild = False
    bucket.deliver_late()
    last = content(BucketObjects(bucket))
    merges()
    appends()
    assert content(BucketObjects(bucket)) == last or pending == b""
    if last.splitlines()[-1:] and last.splitlines()[-1].startswith(b"closed"):
        assert content(BucketObjects(bucket)) == last
        assert len(keys(bucket)) <= 1 + KEPT_PARTS


# Ledgers


def ledger_of(store: Store, lines: int, closed: bool = True) -> LedgerWriter:
    ledger = begin(store, WRITER)
    for _ in range(lines):
        ledger.append([session_at()])
    if closed:
        ledger.append([Closed(NOW, OTHER_WRITER)])
    return ledger


@pytest.fixture
def store(bucket: MemoryBucket) -> Store:
    return Store(MemoryObjects(bucket))


def parts_of(bucket: MemoryBucket) -> list[str]:
    return [key for key in keys(bucket) if key.startswith(f"{ledger_path(WRITER)}~")]


def test_a_closed_ledger_is_merged(bucket: MemoryBucket, store: Store) -> None:
    ledger_of(store, 8)
    before = store.ledger(WRITER)
    merge_closed(store, WRITER)
    merge_closed(store, WRITER)
    assert store.ledger(WRITER) == before
    assert len(parts_of(bucket)) == KEPT_PARTS


def test_a_ledger_that_grows_or_is_damaged_is_not_merged(bucket: MemoryBucket, store: Store) -> None:
    ledger = ledger_of(store, 8, closed=False)
    merge_closed(store, WRITER)
    assert len(parts_of(bucket)) == 9
    ledger.append([Closed(NOW, OTHER_WRITER)])
    third = bucket.get(parts_of(bucket)[3])
    assert third is not None
    bucket.put(parts_of(bucket)[3], third.replace(b'"session"', b'"sessiom"'), if_absent=False)
    merge_closed(store, WRITER)
    assert len(parts_of(bucket)) == 10
    bucket.put(parts_of(bucket)[3], third, if_absent=False)
    bucket.put(f"{ledger_path(WRITER)}~{12:012d}", b"what follows the end\n", if_absent=True)
    merge_closed(store, WRITER)
    assert len(parts_of(bucket)) == 11


def test_a_writer_that_was_taken_for_dead_is_refused_also_once_its_ledger_is_merged(
    bucket: MemoryBucket, store: Store
) -> None:
    slow = ledger_of(store, 8, closed=False)
    store = Store(MemoryObjects(bucket))  # as another host has it
    LedgerWriter(store, WRITER, slow.tail).append([put(store, 1, block_range(1)), Closed(NOW, OTHER_WRITER)])
    merge_closed(store, WRITER)
    with pytest.raises(WriterFenced, match=OTHER_WRITER):
        slow.append([session_at()])


def test_what_is_left_over_is_merged_unless_its_writer_is_living(bucket: MemoryBucket, store: Store) -> None:
    log = StoreLog(store)
    living = StoreState(living={WRITER: Living("here", 1, "0", NOW)}, last=WRITER)
    ledger_of(store, 8)
    assert merge_left_over(store) == 0  # the log is lost
    log.change(lambda _: living)
    assert merge_left_over(store) == 0
    log.change(lambda _: StoreState(kept=(WRITER,), last=WRITER))
    bucket.faults = lambda request, _: Fault.BEFORE if request == "remove" else None
    with pytest.raises(StoreUnavailable):
        merge_left_over(store)
    bucket.faults = lambda *_: None
    assert merge_left_over(store) == 1
    assert len(parts_of(bucket)) == KEPT_PARTS
    assert merge_left_over(store) == 0
