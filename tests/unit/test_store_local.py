"""A store in a local directory: URLs, locks, rights, and what is particular to files."""

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
from store_support import WRITER, ledgers_in, local_store, root_of
from unwritable import REASON, unwritable

from kcl_receiver.errors import ConfigError, LedgerDamaged, StoreUnavailable
from kcl_receiver.ids import block_id
from kcl_receiver.store.files import OsFiles
from kcl_receiver.store.layout import block_path, ledger_path
from kcl_receiver.store.store import Store, open_store

BLOCK = block_id(WRITER, 1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return local_store(tmp_path / "a" / "store")


# URLs


def test_a_store_is_opened_by_its_url_and_nothing_is_made_by_that(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/with%20space/s")
    assert isinstance(store, Store)
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


# Who holds it


@pytest.mark.parametrize(
    ("method", "who", "hint"),
    [
        ("hold", "another generator writes to the store", "a directory of its own"),
        ("hold_maintenance", "other maintenance works on the store", "wait for the end"),
    ],
)
def test_one_process_at_a_time_holds_a_store_until_it_ends(store: Store, method: str, who: str, hint: str) -> None:
    code = (
        "import sys; from kcl_receiver.store.store import open_store\n"
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
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock_of_nfs(handle: int, _: int) -> None:
        if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", flock_of_nfs)
    store.hold()
    assert (root_of(store) / "lock").exists()


# Blocks


def test_files_get_the_rights_that_the_umask_leaves(store: Store) -> None:
    before = os.umask(0o027)
    try:
        store.put_block(BLOCK, b"content")
    finally:
        os.umask(before)
    path = root_of(store) / block_path(BLOCK)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o640, 0o750)


def test_a_store_that_may_not_be_written_says_where_and_what_to_do(store: Store) -> None:
    refused = f"{BLOCK}.parquet was not stored: .*({REASON})"
    with unwritable(root_of(store)), pytest.raises(StoreUnavailable, match=refused) as caught:
        store.put_block(BLOCK, b"content")
    assert "writ" in caught.value.hint


def test_something_in_the_way_of_a_directory_is_reported(store: Store) -> None:
    root_of(store).mkdir(parents=True)
    (root_of(store) / "blocks").write_bytes(b"")
    with pytest.raises(StoreUnavailable, match=BLOCK):
        store.put_block(BLOCK, b"content")


def test_a_directory_that_is_taken_away_is_made_again(store: Store) -> None:
    store.put_block(BLOCK, b"content")
    (root_of(store) / "tmp").rmdir()
    with pytest.raises(StoreUnavailable):
        store.put_block(block_id(WRITER, 2), b"content")
    store.put_block(block_id(WRITER, 2), b"content")


# Ledger


@pytest.mark.parametrize("torn", [b"a", b"xyz, some other torn line", b"a\nhalf"])
def test_a_torn_end_is_never_followed_by_other_lines(store: Store, torn: bytes) -> None:
    store.append_ledger(WRITER, 1, b"x\n")
    path = root_of(store) / ledger_path(WRITER)
    path.write_bytes(path.read_bytes() + torn)
    local_store(root_of(store)).append_ledger(WRITER, 2, b"a\nb\n")
    assert list(ledgers_in(store)) == [(WRITER, b"x\na\nb\n")]


def test_a_ledger_that_was_cut_by_another_is_not_continued(store: Store) -> None:
    store.append_ledger(WRITER, 1, b"x\ny\n")
    (root_of(store) / ledger_path(WRITER)).write_bytes(b"x\n")
    with pytest.raises(LedgerDamaged, match="has 2 bytes, and 4 were durable"):
        store.append_ledger(WRITER, 3, b"z\n")


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
