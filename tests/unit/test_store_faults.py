"""The local store on a file system that fails, or loses its power, at every single step."""

from __future__ import annotations

import errno
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from fake_files import FakeFiles, Node, PowerLoss
from store_support import NOW, WRITER, ledgers_in, local_store

from kcl_receiver.errors import BlockMissing, LedgerDamaged, StoreUnavailable
from kcl_receiver.ids import block_day, block_id, writer_id
from kcl_receiver.store.ledger.entries import WriterStarted, encode_lines, first_prev
from kcl_receiver.store.store import Store

ROOT = Path("/data/store")
ONE, TWO = block_id(WRITER, 1), block_id(WRITER, 2)
MAINTAINER = writer_id(NOW, "0c77e1d2")
MAINTAINED, _ = encode_lines(
    [WriterStarted(MAINTAINER, "host", 1, NOW, "1", role="compact")], 1, first_prev(MAINTAINER)
)
CONTENT = b"the content of a block" * 10
LOGGED = b"an entry of the store's log\n"


def maintain(store: Store) -> None:
    """Record something in the maintenance log, as a transaction does."""
    if not store.create_maintenance_entry(1, MAINTAINER, MAINTAINED):
        store.settle_maintenance_entry(1)


Step = tuple[str, Callable[[Store], object]]
STEPS: list[Step] = [
    ("claim", lambda store: store.claim("app")),
    ("one", lambda store: store.put_block(ONE, CONTENT)),
    ("line 1", lambda store: store.append_ledger(WRITER, 1, b"first line\n")),
    ("two", lambda store: store.put_block(TWO, CONTENT)),
    ("line 2", lambda store: store.append_ledger(WRITER, 2, b"second line\nthird line\n")),
    ("logged", lambda store: store.create_log_entry(1, LOGGED) or store.settle_log_entry(1)),
    ("maintained", lambda store: maintain(store)),
    ("deleted", lambda store: store.delete_block(ONE)),
]
LINES = {"line 1": b"first line\n", "line 2": b"second line\nthird line\n"}


TOKENS = count()


def store_on(files: FakeFiles) -> Store:
    return local_store(ROOT, files, token=lambda: f"{next(TOKENS):08x}")


def empty() -> FakeFiles:
    files = FakeFiles()
    files.mkdir(Path("/data"))
    files.fsync_dir(Path("/"))
    return files


def number_of_steps() -> int:
    files = empty()
    before = len(files.calls)
    store = store_on(files)
    for _, step in STEPS:
        step(store)
    return len(files.calls) - before


def assert_whole(files: FakeFiles, done: set[str]) -> None:
    """What was done is there, and what is there is whole."""
    store = store_on(files)
    if "claim" in done or store.get_document("store.json") is not None:
        assert store.owner() == "app"
    day = block_day(ONE)
    maintained = dict(store.maintenance_ledgers(day))
    assert maintained in ([{MAINTAINER: MAINTAINED}] if "maintained" in done else [{}, {MAINTAINER: MAINTAINED}])
    assert store.maintenance_days() in ([day], [] if not maintained else [day])
    assert not ("deleted" in done and store.has_block(ONE))
    for name, block in (("one", ONE), ("two", TWO)):
        may_be_gone = block == ONE and "maintained" in done  # a block goes only after the entry that says so is durable
        if (name in done and not may_be_gone) or store.has_block(block):
            assert store.read_block(block) == CONTENT
    assert {block for block, _ in store.list_blocks()} <= {ONE, TWO}
    assert store.log_entry(1) in ([LOGGED] if "logged" in done else [None, LOGGED])
    assert store.newest_log_number() == (0 if store.log_entry(1) is None else 1)
    ledger = dict(ledgers_in(store)).get(WRITER, b"")
    durable = b"".join(LINES[name] for name in LINES if name in done)
    assert ledger.startswith(durable)
    assert b"".join(LINES.values()).startswith(ledger)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES])
@pytest.mark.parametrize("at", range(number_of_steps()))
def test_whatever_fails_is_reported_shows_nothing_half_done_and_works_when_tried_again(at: int, code: int) -> None:
    files = empty()
    files.fail_at, files.fail_errno = at, code
    store = store_on(files)
    done: set[str] = set()
    failures: list[StoreUnavailable] = []
    for name, step in STEPS:
        for _ in range(2):
            try:
                step(store)
            except StoreUnavailable as error:
                failures.append(error)
                assert_whole(files, done)
                assert files.open_handles == 0
            else:
                done.add(name)
                break
    assert len(done) == len(STEPS)
    assert len(failures) <= 1
    assert all("/data" in error.message and error.hint for error in failures)
    for names_survive in (False, True):
        for contents_survive in (False, True):
            after = files.lose_power(names_survive=names_survive, contents_survive=contents_survive)
            assert_whole(after, done)


@pytest.mark.parametrize("names_survive", [False, True])
@pytest.mark.parametrize("contents_survive", [False, True])
@pytest.mark.parametrize("at", range(number_of_steps()))
def test_what_was_reported_done_is_there_after_a_loss_of_power(
    at: int, names_survive: bool, contents_survive: bool
) -> None:
    files = empty()
    files.stop_at = at
    done: set[str] = set()
    with pytest.raises(PowerLoss):
        run(store_on(files), done)
    after = files.lose_power(names_survive=names_survive, contents_survive=contents_survive)
    assert_whole(after, done)
    rest = {name for name, _ in STEPS}
    run(store_on(after), set())  # all of it again, by a process that remembers nothing
    assert_whole(after.lose_power(), rest)


def run(store: Store, done: set[str]) -> None:
    for name, step in STEPS:
        step(store)
        done.add(name)


@pytest.mark.parametrize("at", range(number_of_steps()))
def test_a_process_that_follows_a_killed_one_relies_on_nothing_that_is_not_durable(at: int) -> None:
    """Killed between write and fsync, then what was seen is settled, and only then the power goes."""
    files = empty()
    files.stop_at = at
    with pytest.raises(PowerLoss):
        run(store_on(files), set())
    files.stop_at = None
    heir = store_on(files)
    ledger = list(ledgers_in(heir))
    for writer, content in ledger:
        heir.settle_ledger(writer, content)
    blocks = [block for block, _ in heir.list_blocks()]
    for block in blocks:
        heir.settle_block(block)
    logged = heir.newest_log_number()
    heir.settle_log_entry(1)
    after = store_on(files.lose_power())
    assert list(ledgers_in(after)) == ledger
    assert after.newest_log_number() == logged
    assert [after.read_block(block) for block in blocks] == [CONTENT] * len(blocks)


def test_a_block_gets_its_name_only_after_its_content_is_durable() -> None:
    files = empty()
    store = store_on(files)
    store.put_block(ONE, CONTENT)
    calls = [call for call, path in files.calls if ONE in path or call == "fsync_dir"]
    assert calls[-6:] == ["create", "write", "fsync", "link", "unlink", "fsync_dir"]


def test_a_failed_write_leaves_no_temporary_file() -> None:
    files = empty()
    store = store_on(files)
    for call in ("write", "fsync", "link"):
        files.fail(call, errno.ENOSPC)
        with pytest.raises(StoreUnavailable, match=f"{ONE}.parquet was not stored") as caught:
            store.put_block(ONE, CONTENT)
        assert "free room" in caught.value.hint
        assert list(store.list_leftovers()) == []


def test_a_temporary_file_that_cannot_be_removed_hides_neither_the_error_nor_itself() -> None:
    files = empty()
    store = store_on(files)
    files.fail("write", errno.EIO)
    files.fail("unlink", errno.EIO)
    with pytest.raises(StoreUnavailable, match="write was made to fail"):
        store.put_block(ONE, CONTENT)
    [(path, size)] = store.list_leftovers()
    assert path.startswith(f"tmp/{ONE}.parquet.")
    assert size == len(CONTENT) // 2


def test_after_a_failed_fsync_the_lines_are_written_again_and_not_only_fsynced_again() -> None:
    """Linux forgets what it could not write: a second fsync of the same pages succeeds and means nothing."""
    files = empty()
    store = store_on(files)
    store.append_ledger(WRITER, 1, b"first line\n")
    files.fail("fsync", errno.EIO, "ledger")
    with pytest.raises(StoreUnavailable):
        store.append_ledger(WRITER, 2, b"second line\n")
    del files.calls[:]
    store.append_ledger(WRITER, 2, b"second line\n")
    assert [call for call, _ in files.calls] == ["open", "truncate", "write", "fsync"]


def test_after_a_failed_fsync_the_first_lines_of_a_ledger_are_written_again_too() -> None:
    files = empty()
    store = store_on(files)
    files.fail("fsync", errno.EIO, "ledger")
    with pytest.raises(StoreUnavailable):
        store.append_ledger(WRITER, 1, b"first line\n")
    before = len(files.calls)
    store.append_ledger(WRITER, 1, b"first line\n")
    again = [call for call, _ in files.calls[before:]]
    assert again.index("create") < again.index("write") < again.index("fsync") < again.index("rename")
    assert again[-1] == "fsync_dir"
    assert dict(ledgers_in(store)) == {WRITER: b"first line\n"}


def test_the_ledger_of_a_killed_writer_is_written_anew_and_not_only_fsynced() -> None:
    """Its own fsync may have failed; then another one succeeds and means nothing."""
    files = empty()
    store_on(files).append_ledger(WRITER, 1, b"first line\n")
    heir = store_on(files)
    for call in ("fsync", "rename", "fsync_dir"):
        files.fail(call, errno.EIO)
        with pytest.raises(StoreUnavailable, match="is not known to be durable"):
            heir.settle_ledger(WRITER, b"first line\n")
        assert list(heir.list_leftovers()) == []
    del files.calls[:]
    heir.settle_ledger(WRITER, b"first line\n")
    calls = [call for call, _ in files.calls]
    assert calls[:4] == ["create", "write", "fsync", "rename"]
    assert calls[-1] == "fsync_dir"
    assert dict(ledgers_in(heir)) == {WRITER: b"first line\n"}


def test_a_torn_line_is_cut_off_before_other_lines_follow() -> None:
    files = empty()
    store = store_on(files)
    store.append_ledger(WRITER, 1, b"first line\n")
    files.fail("write", errno.ENOSPC, "ledger")
    with pytest.raises(StoreUnavailable):
        store.append_ledger(WRITER, 2, b"second line\n")
    assert dict(ledgers_in(store))[WRITER] == b"first line\nsecond"
    store.append_ledger(WRITER, 2, b"second line\n")
    assert dict(ledgers_in(store))[WRITER] == b"first line\nsecond line\n"


def test_a_name_whose_directory_failed_to_fsync_is_made_durable_by_the_next_try() -> None:
    for failing in (1, 2):
        files = empty()
        store = store_on(files)
        for _ in range(failing):
            files.fail("fsync_dir", errno.EIO, "2026-11-22")
        for _ in range(failing):
            with pytest.raises(StoreUnavailable):
                store.put_block(ONE, CONTENT)
        store.put_block(ONE, CONTENT)
        assert store_on(files.lose_power()).read_block(ONE) == CONTENT


def test_the_parents_of_a_new_store_are_durable_too() -> None:
    files = FakeFiles()
    store = local_store("/a/b/c/store", files)
    files.fail("fsync_dir", errno.EIO, "/a/b")
    with pytest.raises(StoreUnavailable):
        store.put_block(ONE, CONTENT)
    store.put_block(ONE, CONTENT)
    assert local_store("/a/b/c/store", files.lose_power()).read_block(ONE) == CONTENT


def test_a_parent_that_is_closed_to_us_is_left_to_whoever_made_the_store() -> None:
    files = empty()
    files.mkdir(ROOT)
    files.fail("fsync_dir", errno.EACCES, "/data")
    store = store_on(files)
    store.put_block(ONE, CONTENT)


def test_a_document_that_another_has_just_made_is_made_durable_before_it_is_returned() -> None:
    files = empty()
    first = store_on(files)
    first.claim("app")
    files.fail("fsync_dir", errno.EIO, "/data/store")
    with pytest.raises(StoreUnavailable):
        first.put_document_if_absent("start.json", b"mine")
    assert store_on(files).put_document_if_absent("start.json", b"other") == b"mine"
    assert store_on(files.lose_power()).get_document("start.json") == b"mine"


def test_a_file_system_without_hard_links_is_named_as_the_reason() -> None:
    files = empty()
    files.fail("link", errno.EOPNOTSUPP)
    with pytest.raises(StoreUnavailable) as caught:
        store_on(files).claim("app")
    assert "hard links" in caught.value.hint


def test_reading_errors_are_no_missing_blocks() -> None:
    files = empty()
    store = store_on(files)
    store.put_block(ONE, CONTENT)

    def broken(path: Path) -> bytes:
        raise OSError(errno.EIO, "Input/output error", str(path))

    files.read = broken  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable, match="cannot be read") as caught:
        store.read_block(ONE)
    assert not isinstance(caught.value, BlockMissing | LedgerDamaged)


def test_lines_that_another_object_wrote_and_did_not_fsync_are_durable_once_they_are_appended_again() -> None:
    files = empty()
    files.fail("fsync", errno.EIO, "ledger")
    with pytest.raises(StoreUnavailable):
        store_on(files).append_ledger(WRITER, 1, b"first line\n")
    store_on(files).append_ledger(WRITER, 1, b"first line\n")
    assert dict(ledgers_in(store_on(files.lose_power()))) == {WRITER: b"first line\n"}


class Forgetful(FakeFiles):
    """A kernel that drops the names that it could not write, reports that once, and counts them as written then."""

    def __init__(self) -> None:
        super().__init__()
        self.dropped: dict[Path, dict[str, Node]] = {}

    def fsync_dir(self, path: Path) -> None:
        node = self._get(path)
        before = dict(node.durable_names)
        try:
            super().fsync_dir(path)
        except OSError:
            names = node.names or {}
            self.dropped.setdefault(path, {}).update(
                (name, one) for name, one in names.items() if before.get(name) is not one and one.names is None
            )
            raise
        for name, one in self.dropped.get(path, {}).items():
            if node.durable_names.get(name) is one:  # not made anew since
                del node.durable_names[name]

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        self.dropped.get(path.parent, {}).pop(path.name, None)


def _puts(files: FakeFiles) -> list[Callable[[], object]]:
    store = store_on(files)
    return [lambda: store.put_block(ONE, CONTENT), lambda: maintain(store)]


@pytest.mark.parametrize("kind", [0, 1], ids=["block", "maintenance ledger"])
def test_a_name_whose_fsync_failed_is_made_anew_before_the_next_fsync_counts(kind: int) -> None:
    files = Forgetful()
    files.mkdir(Path("/data"))
    files.fsync_dir(Path("/"))
    store_on(files).put_block(TWO, CONTENT)
    day = block_day(ONE)
    files.fail("fsync_dir", errno.EIO, day)
    put = _puts(files)[kind]
    with pytest.raises(StoreUnavailable):
        put()
    put()
    after = store_on(files.lose_power())
    assert [after.has_block(ONE), dict(after.maintenance_ledgers(day))] == [
        [True, {}],
        [False, {MAINTAINER: MAINTAINED}],
    ][kind]
    assert after.read_block(TWO) == CONTENT


def test_a_block_is_not_durable_if_another_threads_fsync_of_its_directory_failed_meanwhile() -> None:
    files = Forgetful()
    files.mkdir(Path("/data"))
    files.fsync_dir(Path("/"))
    store = store_on(files)
    store.put_block(block_id(WRITER, 9), CONTENT)
    link = files.link

    def both(old: Path, new: Path) -> None:
        link(old, new)
        if ONE in str(new) and not files.dropped:
            files.fail("fsync_dir", errno.EIO)
            with pytest.raises(StoreUnavailable):
                store.put_block(TWO, CONTENT)

    files.link = both  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable, match="another fsync"):
        store.put_block(ONE, CONTENT)
    for block in (ONE, TWO):
        store.put_block(block, CONTENT)
    after = store_on(files.lose_power())
    assert [after.read_block(block) for block in (ONE, TWO)] == [CONTENT, CONTENT]
