"""A store on any place: what is there, what is refused, and what another look finds."""

from __future__ import annotations

import threading

import pytest
from ledger_index import LedgerIndex
from places import Kept, Place
from store_support import NOW, OTHER_WRITER, WRITER, ledgers_in

from kcl_receiver.errors import BlockMissing, LedgerDamaged, StoreRefused
from kcl_receiver.ids import block_id, writer_id
from kcl_receiver.store.layout import block_path
from kcl_receiver.store.store import Store

BLOCK = block_id(WRITER, 1)


@pytest.fixture
def store(place: Place) -> Store:
    return place()


def keys_in(store: Store) -> list[str]:
    return [one.key for one in store.objects.list("")]


# Whose store it is


def test_a_store_belongs_to_the_application_that_claims_it_first(store: Store) -> None:
    store.claim("one")
    store.claim("one")
    with pytest.raises(StoreRefused, match="belongs to application 'one', not to 'two'"):
        store.claim("two")
    assert store.owner() == "one"


def test_nobody_owns_a_store_that_was_not_claimed(store: Store) -> None:
    assert store.owner() is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"format": 1}', b'{"application": "one"}'])
def test_a_store_document_of_another_making_is_refused(store: Store, content: bytes) -> None:
    Kept(store, "store.json").write(content)
    with pytest.raises(StoreRefused, match=r"store\.json"):
        store.claim("one")


def test_a_store_of_a_newer_format_is_refused(store: Store) -> None:
    Kept(store, "store.json").write(b'{"format": 2, "application": "one"}')
    with pytest.raises(StoreRefused, match="format version 2"):
        store.claim("one")


def test_of_several_that_make_a_document_at_once_all_get_the_same(store: Store, place: Place) -> None:
    barrier = threading.Barrier(8)
    got: list[bytes] = []

    def claim(number: int) -> None:
        other = place()
        barrier.wait()
        got.append(other.put_document_if_absent("start.json", b"%d" % number))

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8
    assert set(got) == {store.get_document("start.json")}
    assert keys_in(store) == ["start.json"]


def test_a_document_that_is_not_there_is_none(store: Store) -> None:
    assert store.get_document("start.json") is None


# Blocks


def test_a_block_is_read_back_as_it_was_stored(store: Store) -> None:
    assert not store.has_block(BLOCK)
    store.put_block(BLOCK, memoryview(b"content"))
    assert store.has_block(BLOCK)
    assert store.read_block(BLOCK) == b"content"
    with store.open_block(BLOCK) as file:
        file.seek(3)
        assert file.read() == b"tent"
    assert keys_in(store) == [block_path(BLOCK)]
    assert list(store.list_leftovers()) == []


def test_the_same_block_again_is_fine_and_another_content_is_refused(store: Store) -> None:
    store.put_block(BLOCK, b"content")
    store.put_block(BLOCK, b"content")
    with pytest.raises(StoreRefused, match="with another content"):
        store.put_block(BLOCK, b"other")
    assert store.read_block(BLOCK) == b"content"


def test_a_block_that_is_not_there_is_missing(store: Store) -> None:
    with pytest.raises(BlockMissing, match=BLOCK):
        store.read_block(BLOCK)
    with pytest.raises(BlockMissing, match=BLOCK):
        store.open_block(BLOCK)
    with pytest.raises(BlockMissing, match=BLOCK):
        store.settle_block(BLOCK)


def test_blocks_are_listed_by_id_with_their_size(store: Store) -> None:
    assert list(store.list_blocks()) == []
    blocks = [block_id(writer, number) for writer in (WRITER, OTHER_WRITER) for number in (1, 2, 11)]
    for block in reversed(blocks):
        store.put_block(block, block.encode())
    assert list(store.list_blocks()) == [(block, len(block)) for block in blocks]


def test_what_is_no_part_of_the_store_is_a_leftover_and_no_block(store: Store) -> None:
    store.put_block(BLOCK, b"content")
    store.append_ledger(WRITER, 1, b"line\n")
    store.claim("one")
    strays = [
        "blocks/2026-11-22/notes.txt",
        f"blocks/2026-11-23/{BLOCK}.parquet",
        "blocks/readme",
        "ledger/x.jsonl",
        "other",
        f"tmp/{BLOCK}.parquet.0000.tmp",
    ]
    for stray in strays:
        Kept(store, stray).write(b"123")
    assert sorted(store.list_leftovers()) == [(stray, 3) for stray in strays]
    assert list(store.list_blocks()) == [(BLOCK, 7)]
    assert list(ledgers_in(store)) == [(WRITER, b"line\n")]


# Ledger


def test_lines_are_appended_in_order_and_read_by_writer(store: Store) -> None:
    assert list(ledgers_in(store)) == []
    store.append_ledger(OTHER_WRITER, 1, b"a\n")
    store.append_ledger(WRITER, 1, b"x\ny\n")
    store.append_ledger(WRITER, 3, b"z\n")
    assert list(ledgers_in(store)) == [(WRITER, b"x\ny\nz\n"), (OTHER_WRITER, b"a\n")]


@pytest.mark.parametrize("fresh", [False, True])
def test_the_same_lines_again_are_found_once(store: Store, place: Place, fresh: bool) -> None:
    store.append_ledger(WRITER, 1, b"x\ny\n")
    store.append_ledger(WRITER, 3, b"z\n")
    again = place() if fresh else store
    again.append_ledger(WRITER, 3, b"z\n")
    again.append_ledger(WRITER, 1, b"x\ny\n")
    again.append_ledger(WRITER, 4, b"w\n")
    assert list(ledgers_in(store)) == [(WRITER, b"x\ny\nz\nw\n")]


@pytest.mark.parametrize("fresh", [False, True])
def test_other_lines_under_the_same_number_are_refused(store: Store, place: Place, fresh: bool) -> None:
    store.append_ledger(WRITER, 1, b"x\ny\n")
    with pytest.raises(LedgerDamaged, match=r"line 2 .* is another one"):
        (place() if fresh else store).append_ledger(WRITER, 2, b"z\n")


@pytest.mark.parametrize("fresh", [False, True])
def test_a_line_that_leaves_out_a_number_is_refused(store: Store, place: Place, fresh: bool) -> None:
    store.append_ledger(WRITER, 1, b"x\n")
    with pytest.raises(LedgerDamaged, match="line 2 is not in it"):
        (place() if fresh else store).append_ledger(WRITER, 3, b"z\n")


@pytest.mark.parametrize(("number", "lines"), [(0, b"x\n"), (1, b""), (1, b"x")])
def test_only_whole_numbered_lines_are_appended(store: Store, number: int, lines: bytes) -> None:
    with pytest.raises(ValueError, match="whole lines"):
        store.append_ledger(WRITER, number, lines)


def test_loading_the_ledger_of_an_empty_store_makes_nothing(store: Store) -> None:
    LedgerIndex.load(store)
    assert keys_in(store) == []


def test_writers_after_one_are_those_with_greater_ids_in_whatever_month(store: Store) -> None:
    assert not store.has_writers()
    writers = [writer_id(NOW + days * 86_400_000, f"{days:08x}") for days in (0, 30, 40, 41, 70, 101)]
    for writer in writers:
        for number in range(1, 4):
            store.append_ledger(writer, number, b"line\n")
    assert store.has_writers()
    assert store.writers() == writers
    for number, writer in enumerate(writers):
        assert store.writers(writer) == writers[number + 1 :]
    between = writer_id(NOW + 45 * 86_400_000, "00000000")
    assert store.writers(between) == writers[4:]
