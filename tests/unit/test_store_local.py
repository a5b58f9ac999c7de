"""A store in a local directory: what is there, what is refused, and what another look finds."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from store_support import OTHER_WRITER, WRITER, local_store, root_of
from unwritable import REASON, unwritable

from kcl_receiver.errors import BlockMissing, ConfigError, LedgerDamaged, StoreRefused, StoreUnavailable
from kcl_receiver.store.base import BlockStore, open_store
from kcl_receiver.store.files import OsFiles
from kcl_receiver.store.ledger import LedgerIndex
from kcl_receiver.store.names import block_id, block_path

BLOCK = block_id(WRITER, 1)


@pytest.fixture
def store(tmp_path: Path) -> BlockStore:
    return local_store(tmp_path / "a" / "store")


def files_in(store: BlockStore) -> list[str]:
    return sorted(str(path.relative_to(root_of(store))) for path in root_of(store).rglob("*") if path.is_file())


# URLs


def test_a_store_is_opened_by_its_url_and_nothing_is_made_by_that(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/with%20space/s")
    assert isinstance(store, BlockStore)
    assert root_of(store) == tmp_path / "with space" / "s"
    assert open_store(store.url).url == store.url
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    ["", "file://data/store", "file:///", "file:data", "http://x/y", "file:///x?y", "file:///x%00y"],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        open_store(url)


def test_s3_is_said_to_be_absent_and_not_to_be_wrong() -> None:
    with pytest.raises(ConfigError, match="s3:// is not in this version"):
        open_store("s3://bucket/prefix")


# Whose store it is


def test_a_store_belongs_to_the_application_that_claims_it_first(store: BlockStore) -> None:
    store.claim("one")
    store.claim("one")
    with pytest.raises(StoreRefused, match="belongs to application 'one', not to 'two'"):
        store.claim("two")
    assert store.owner() == "one"


@pytest.mark.parametrize(
    ("method", "who", "hint"),
    [
        ("hold", "another generator writes to the store", "a directory of its own"),
        ("hold_maintenance", "other maintenance works on the store", "wait for the end"),
    ],
)
def test_one_process_at_a_time_holds_a_store_until_it_ends(store: BlockStore, method: str, who: str, hint: str) -> None:
    code = (
        "import sys; from kcl_receiver.store.base import open_store\n"
        f"store = open_store(sys.argv[1]); store.{method}(); print(flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(root_of(store))]
    hold = getattr(store, method)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(StoreUnavailable, match=who) as caught:
            hold()
        assert hint in caught.value.hint
        store.hold() if method == "hold_maintenance" else store.hold_maintenance()  # the two do not shut each other out
        other.kill()
    hold()
    hold()
    assert list(store.list_leftovers()) == []


def test_a_file_system_that_locks_only_what_is_open_for_writing_is_no_obstacle(
    store: BlockStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock_of_nfs(handle: int, _: int) -> None:
        if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", flock_of_nfs)
    store.hold()
    assert (root_of(store) / "lock").exists()


def test_nobody_owns_a_store_that_was_not_claimed(store: BlockStore) -> None:
    assert store.owner() is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"format": 1}', b'{"application": "one"}'])
def test_a_store_document_of_another_making_is_refused(store: BlockStore, content: bytes) -> None:
    root_of(store).mkdir(parents=True)
    (root_of(store) / "store.json").write_bytes(content)
    with pytest.raises(StoreRefused, match=r"store\.json"):
        store.claim("one")


def test_a_store_of_a_newer_format_is_refused(store: BlockStore) -> None:
    root_of(store).mkdir(parents=True)
    (root_of(store) / "store.json").write_text('{"format": 2, "application": "one"}')
    with pytest.raises(StoreRefused, match="format version 2"):
        store.claim("one")


def test_of_several_that_make_a_document_at_once_all_get_the_same(store: BlockStore) -> None:
    barrier = threading.Barrier(8)
    got: list[bytes] = []

    def claim(number: int) -> None:
        other = local_store(root_of(store))
        barrier.wait()
        got.append(other.put_document_if_absent("start.json", b"%d" % number))

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8
    assert set(got) == {store.get_document("start.json")}
    assert files_in(store) == ["start.json"]


def test_a_document_that_is_not_there_is_none(store: BlockStore) -> None:
    assert store.get_document("start.json") is None


# Blocks


def test_a_block_is_read_back_as_it_was_stored(store: BlockStore) -> None:
    assert not store.has_block(BLOCK)
    store.put_block(BLOCK, memoryview(b"content"))
    assert store.has_block(BLOCK)
    assert store.read_block(BLOCK) == b"content"
    with store.open_block(BLOCK) as file:
        file.seek(3)
        assert file.read() == b"tent"
    assert files_in(store) == [block_path(BLOCK)]
    assert list(store.list_leftovers()) == []


def test_the_same_block_again_is_fine_and_another_content_is_refused(store: BlockStore) -> None:
    store.put_block(BLOCK, b"content")
    store.put_block(BLOCK, b"content")
    with pytest.raises(StoreRefused, match="with another content"):
        store.put_block(BLOCK, b"other")
    assert store.read_block(BLOCK) == b"content"


def test_a_block_that_is_not_there_is_missing(store: BlockStore) -> None:
    with pytest.raises(BlockMissing, match=BLOCK):
        store.read_block(BLOCK)
    with pytest.raises(BlockMissing, match=BLOCK):
        store.open_block(BLOCK)
    with pytest.raises(BlockMissing, match=BLOCK):
        store.settle_block(BLOCK)


def test_blocks_are_listed_by_id_with_their_size(store: BlockStore) -> None:
    assert list(store.list_blocks()) == []
    blocks = [block_id(writer, number) for writer in (WRITER, OTHER_WRITER) for number in (1, 2, 11)]
    for block in reversed(blocks):
        store.put_block(block, block.encode())
    assert list(store.list_blocks()) == [(block, len(block)) for block in blocks]


def test_what_is_no_part_of_the_store_is_a_leftover_and_no_block(store: BlockStore) -> None:
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
        path = root_of(store) / stray
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"123")
    assert sorted(store.list_leftovers()) == [(stray, 3) for stray in strays]
    assert list(store.list_blocks()) == [(BLOCK, 7)]
    assert list(store.read_ledger()) == [(WRITER, b"line\n")]


def test_files_get_the_rights_that_the_umask_leaves(store: BlockStore) -> None:
    before = os.umask(0o027)
    try:
        store.put_block(BLOCK, b"content")
    finally:
        os.umask(before)
    path = root_of(store) / block_path(BLOCK)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o640, 0o750)


def test_a_store_that_may_not_be_written_says_where_and_what_to_do(store: BlockStore) -> None:
    refused = f"{BLOCK}.parquet was not stored: .*({REASON})"
    with unwritable(root_of(store)), pytest.raises(StoreUnavailable, match=refused) as caught:
        store.put_block(BLOCK, b"content")
    assert "writ" in caught.value.hint


def test_something_in_the_way_of_a_directory_is_reported(store: BlockStore) -> None:
    root_of(store).mkdir(parents=True)
    (root_of(store) / "blocks").write_bytes(b"")
    with pytest.raises(StoreUnavailable, match=BLOCK):
        store.put_block(BLOCK, b"content")


def test_a_directory_that_is_taken_away_is_made_again(store: BlockStore) -> None:
    store.put_block(BLOCK, b"content")
    (root_of(store) / "tmp").rmdir()
    with pytest.raises(StoreUnavailable):
        store.put_block(block_id(WRITER, 2), b"content")
    store.put_block(block_id(WRITER, 2), b"content")


# Ledger


def test_lines_are_appended_in_order_and_read_by_writer(store: BlockStore) -> None:
    assert list(store.read_ledger()) == []
    store.append_ledger(OTHER_WRITER, 1, b"a\n")
    store.append_ledger(WRITER, 1, b"x\ny\n")
    store.append_ledger(WRITER, 3, b"z\n")
    assert list(store.read_ledger()) == [(WRITER, b"x\ny\nz\n"), (OTHER_WRITER, b"a\n")]


@pytest.mark.parametrize("fresh", [False, True])
def test_the_same_lines_again_are_found_once(store: BlockStore, fresh: bool) -> None:
    store.append_ledger(WRITER, 1, b"x\ny\n")
    store.append_ledger(WRITER, 3, b"z\n")
    again = local_store(root_of(store)) if fresh else store
    again.append_ledger(WRITER, 3, b"z\n")
    again.append_ledger(WRITER, 1, b"x\ny\n")
    again.append_ledger(WRITER, 4, b"w\n")
    assert list(store.read_ledger()) == [(WRITER, b"x\ny\nz\nw\n")]


@pytest.mark.parametrize("fresh", [False, True])
def test_other_lines_under_the_same_number_are_refused(store: BlockStore, fresh: bool) -> None:
    store.append_ledger(WRITER, 1, b"x\ny\n")
    with pytest.raises(LedgerDamaged, match=r"line 2 .* is another one"):
        (local_store(root_of(store)) if fresh else store).append_ledger(WRITER, 2, b"z\n")


@pytest.mark.parametrize("fresh", [False, True])
def test_a_line_that_leaves_out_a_number_is_refused(store: BlockStore, fresh: bool) -> None:
    store.append_ledger(WRITER, 1, b"x\n")
    with pytest.raises(LedgerDamaged, match="line 2 is not in it"):
        (local_store(root_of(store)) if fresh else store).append_ledger(WRITER, 3, b"z\n")


@pytest.mark.parametrize("torn", [b"a", b"xyz, some other torn line", b"a\nhalf"])
def test_a_torn_end_is_never_followed_by_other_lines(store: BlockStore, torn: bytes) -> None:
    store.append_ledger(WRITER, 1, b"x\n")
    path = root_of(store) / "ledger" / f"{WRITER}.jsonl"
    path.write_bytes(path.read_bytes() + torn)
    local_store(root_of(store)).append_ledger(WRITER, 2, b"a\nb\n")
    assert list(store.read_ledger()) == [(WRITER, b"x\na\nb\n")]


def test_a_ledger_that_was_cut_by_another_is_not_continued(store: BlockStore) -> None:
    store.append_ledger(WRITER, 1, b"x\ny\n")
    (root_of(store) / "ledger" / f"{WRITER}.jsonl").write_bytes(b"x\n")
    with pytest.raises(LedgerDamaged, match="has 2 bytes, and 4 were durable"):
        store.append_ledger(WRITER, 3, b"z\n")


@pytest.mark.parametrize(("number", "lines"), [(0, b"x\n"), (1, b""), (1, b"x")])
def test_only_whole_numbered_lines_are_appended(store: BlockStore, number: int, lines: bytes) -> None:
    with pytest.raises(ValueError, match="whole lines"):
        store.append_ledger(WRITER, number, lines)


def test_loading_the_ledger_of_an_empty_store_makes_nothing(store: BlockStore) -> None:
    LedgerIndex.load(store)
    assert not root_of(store).exists()


def test_threads_that_make_the_root_at_once_do_not_get_in_each_others_way(tmp_path: Path) -> None:
    class Meeting(OsFiles):
        """Lets the threads meet, if they can, where each has written down the same directories to be synced."""

        def __init__(self) -> None:
            super().__init__()
            self.together = threading.Barrier(2)

        def fsync_dir(self, path: Path) -> None:
            with suppress(threading.BrokenBarrierError):
                self.together.wait(0.5)
            super().fsync_dir(path)

    store = local_store(tmp_path / "a" / "b" / "store", Meeting())
    failures: list[BaseException] = []

    def put(number: int) -> None:
        try:
            store.put_block(f"20261122T143057Z-feb90044-{number:012d}", b"rows")
        except BaseException as error:  # noqa: BLE001 - judged below
            failures.append(error)

    threads = [threading.Thread(target=put, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(list(store.list_blocks())) == 2
