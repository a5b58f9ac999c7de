"""A store that cannot be read is unavailable: nothing in it is called damaged, and nothing is deleted."""

from __future__ import annotations

import concurrent.futures
import errno
import http.client
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from maintenance_support import part
from restore_support import Lake
from store_support import STREAM, WRITER, begin, local_store, put, session_at

from kcl_receiver import read
from kcl_receiver.audit.verify import damage, verify_store
from kcl_receiver.cli.main import run_cli
from kcl_receiver.errors import EXIT_OK, EXIT_STORE, BlockDamaged, BlockMissing, StoreUnavailable
from kcl_receiver.store.blocks import file as blocks
from kcl_receiver.store.blocks.merge import Source, merge_blocks
from kcl_receiver.store.blocks.stream import decoding
from kcl_receiver.store.files import OsFiles
from kcl_receiver.store.layout import block_path
from kcl_receiver.store.ledger.transaction import COMPACT, Transaction, load_day

NEVER = 10**9
SLOW_DOWN = {"Error": {"Code": "SlowDown", "Message": "Please reduce your request rate."}}


def short(content: bytes) -> bytes:
    """What a connection gives that breaks off, and says nothing of it."""
    return content[: len(content) // 2]


def fails_with(make: Callable[[], Exception]) -> Callable[[bytes], bytes]:
    def fail(_content: bytes) -> bytes:
        raise make()

    return fail


FAULTS: dict[str, Callable[[bytes], bytes]] = {
    "no errno": fails_with(lambda: OSError("Couldn't read bytes")),
    "EIO": fails_with(lambda: OSError(errno.EIO, "Input/output error")),
    "ClientError": fails_with(lambda: ClientError(SLOW_DOWN, "GetObject")),  # type: ignore[arg-type]
    "no network": fails_with(lambda: EndpointConnectionError(endpoint_url="https://s3")),
    "reset": fails_with(lambda: ConnectionResetError("reset by peer")),
    "timeout": fails_with(lambda: TimeoutError("timed out")),
    "future": fails_with(concurrent.futures.TimeoutError),
    "incomplete": fails_with(lambda: http.client.IncompleteRead(b"x", 9)),
    "not found": fails_with(lambda: FileNotFoundError(errno.ENOENT, "No such file or directory")),
    "Arrow's own": fails_with(lambda: pa.ArrowInvalid("Unexpected end of stream")),
    "no memory": fails_with(MemoryError),
    "ends early": lambda _content: b"",
}


class Faulty:
    """A file as an object store gives it: from some read on, all of them fail."""

    def __init__(self, file: pa.NativeFile, count: Callable[[bytes], bytes]) -> None:
        self._file, self._count = file, count
        self.closed = False
        self.mode = "rb"

    def read(self, size: int = -1) -> bytes:
        return self._count(self._file.read(size))

    def seek(self, at: int, whence: int = 0) -> int:
        return int(self._file.seek(at, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        self.closed = True


class Outage:
    """Lets reads of blocks, or of all other files, fail from the n-th one on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fault: Callable[[bytes], bytes], *, blocks: bool) -> None:
        self.reads = 0
        self.begins = 0
        self._fault = fault
        opened, whole = OsFiles.open_random, OsFiles.read
        if blocks:
            monkeypatch.setattr(
                OsFiles, "open_random", lambda files, path: pa.PythonFile(Faulty(opened(files, path), self.count))
            )
        else:
            monkeypatch.setattr(OsFiles, "read", lambda files, path: self.count(whole(files, path)))

    def count(self, content: bytes) -> bytes:
        self.reads += 1
        return self._fault(content) if self.reads > self.begins else content


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a compacted block, beside one that it replaced, and an orphan: what maintenance looks at twice."""
    root = tmp_path_factory.mktemp("template") / "store"
    store = local_store(root)
    store.claim("landing")
    ledger = begin(store, WRITER)
    ranges = [[part(shard, 1 + 5 * number, 5) for shard in range(2)] for number in range(4)]
    entries = [put(store, number, *each) for number, each in enumerate(ranges, 1)]
    ledger.append([session_at(), *entries])
    transaction = Transaction(store, entries[0].block, COMPACT, 1)
    block = transaction.next_block_id()
    sources = [Source(one.block, one.ranges) for one in entries[:2]]
    merged = merge_blocks(store, sources, block, STREAM, "zstd", {})
    assert merged is not None
    number = int(block.rpartition("-")[2])
    transaction.add_block(put(store, number, *ranges[0], *ranges[1], writer=transaction.writer), entries[:2])
    transaction.commit()
    put(store, 9, part(0, 21, 5))
    return root


COMMANDS = {
    "verify": ["verify"],
    "verify --deep": ["verify", "--deep"],
    "read": ["read"],
    "recover --dry-run": ["recover", "--dry-run"],
    "recover": ["recover", "--region", "eu-west-1"],
    "repair": ["repair", "--yes"],
    "compact": ["compact", "--min-age", "0s"],
    "expire": ["expire", "--before", "1s", "--yes"],
}


def files_of(root: Path) -> dict[str, bytes]:
    return {str(one.relative_to(root)): one.read_bytes() for one in sorted(root.rglob("*")) if one.is_file()}


def outages(outage: Outage, template: Path, tmp_path: Path, command: str) -> Iterator[tuple[int, Path]]:
    """Run a command on stores that fail ever later; yield its exit code until nothing fails any more."""
    begins = 0
    while True:
        root = tmp_path / str(begins)
        shutil.copytree(template, root)
        outage.begins, outage.reads = begins, 0
        name, *options = COMMANDS[command]
        code = run_cli([name, "--store", f"file://{root}", *options])
        if outage.reads <= begins:
            break
        yield code, root
        begins = begins + 1 if begins < 4 else begins * 2


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("command", [one for one in COMMANDS if one != "expire"])
def test_blocks_that_cannot_be_read_are_not_damaged(
    template: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: str,
    command: str,
) -> None:
    _nothing_is_lost(Outage(monkeypatch, FAULTS[fault], blocks=True), template, tmp_path, capsys, command)


@pytest.mark.parametrize("command", ["read", "compact", "recover"])
def test_large_blocks_that_cannot_be_read_are_not_damaged(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.setattr(blocks, "SMALL_FILE_BYTES", 0)
    _nothing_is_lost(Outage(monkeypatch, FAULTS["reset"], blocks=True), template, tmp_path, capsys, command)


@pytest.mark.parametrize("fault", [*FAULTS, "short"])
@pytest.mark.parametrize("command", COMMANDS)
def test_ledgers_that_cannot_be_read_are_not_damaged(
    template: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: str,
    command: str,
) -> None:
    outage = Outage(monkeypatch, FAULTS.get(fault, short), blocks=False)
    _nothing_is_lost(outage, template, tmp_path, capsys, command)


@pytest.mark.parametrize("command", COMMANDS)
def test_directories_that_are_not_found_and_are_there_are_not_empty(
    template: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    outage = Outage(monkeypatch, FAULTS["not found"], blocks=False)
    monkeypatch.undo()
    listed = OsFiles.listdir
    monkeypatch.setattr(OsFiles, "listdir", lambda files, path: (outage.count(b""), listed(files, path))[1])
    _nothing_is_lost(outage, template, tmp_path, capsys, command)


def _nothing_is_lost(
    outage: Outage, template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    outage.begins = NEVER
    before = files_of(template)
    (day,) = local_store(template).maintenance_days()
    replaced = {block_path(block) for block in load_day(local_store(template), day).replaced}
    seen = 0
    for code, root in outages(outage, template, tmp_path, command):
        out, err = capsys.readouterr()
        assert (code, "amaged" in out + err) == (EXIT_STORE, False), err
        assert "StoreUnavailable" in err
        outage.begins = NEVER
        store = local_store(root)
        assert verify_store(store, deep=True).proven
        after = files_of(root)
        gone = {name for name in before if after.get(name) != before[name]}
        # They may have deleted what was replaced before: all that took its place was read whole just then.
        assert gone <= replaced if command in ("compact", "repair") else not gone
        seen += 1
    assert seen > 1


@pytest.mark.parametrize("piece", [1, 1000])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_read_that_gives_a_part_is_gone_on_with(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, piece: int
) -> None:
    Outage(monkeypatch, lambda content: content[:piece], blocks=True)
    shutil.copytree(template, tmp_path / "store")
    name, *options = COMMANDS[command]
    if command == "recover":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "none")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "none")
    assert run_cli([name, "--store", f"file://{tmp_path}/store", *options]) == EXIT_OK


def test_a_file_that_is_short_on_the_disk_is_damaged(template: Path, tmp_path: Path) -> None:
    root = tmp_path / "store"
    shutil.copytree(template, root)
    store = local_store(root)
    block = sorted(verify_store(store).orphans)[0]
    path = root / block_path(block)
    path.write_bytes(path.read_bytes()[:-20])
    assert list(verify_store(store).damaged) == [block]


def test_a_block_that_goes_while_it_is_read_is_missing(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "store"
    shutil.copytree(template, root)
    store = local_store(root)
    block = sorted(block for block, _ in store.list_blocks())[-1]

    def gone(_content: bytes) -> bytes:
        (root / block_path(block)).unlink(missing_ok=True)
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    Outage(monkeypatch, gone, blocks=True)
    with store.open_block(block) as file, pytest.raises(BlockMissing, match=block):
        file.read(1)


def test_what_arrow_makes_of_a_read_that_failed_is_no_damage(template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = local_store(template)
    block = next(block for block, _ in store.list_blocks())
    Outage(monkeypatch, FAULTS["reset"], blocks=True)
    with store.open_block(block) as file:
        with pytest.raises(StoreUnavailable, match="reset by peer"):
            file.read(1)
        for error in (pa.ArrowInvalid("not Parquet"), OSError("Unexpected end of stream"), BlockDamaged("checksum")):
            with pytest.raises(StoreUnavailable, match="reset by peer"), decoding(file, "its rows cannot be read"):
                raise error


def test_what_does_not_fit_into_memory_is_no_damage() -> None:
    with pytest.raises(StoreUnavailable, match="malloc"), decoding(pa.BufferReader(b""), "its rows cannot be read"):
        raise pa.ArrowMemoryError("malloc of size 64 failed")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("at_once", "reads"), [(blocks.SMALL_FILE_BYTES, 3), (0, 4)])
def test_what_a_damaged_file_still_holds_is_not_given_up_when_it_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, at_once: int, reads: int
) -> None:
    monkeypatch.setattr(blocks, "SMALL_FILE_BYTES", at_once)
    lake = Lake(local_store(tmp_path / "lake"), blocks=2)
    lake.flip(1, 1)
    damages = list(damage(lake.store, deep=True))
    before = files_of(tmp_path)
    outage = Outage(monkeypatch, FAULTS[fault], blocks=True)
    while True:
        outage.reads = 0
        try:
            lake.restorer().run(damages)
        except StoreUnavailable:
            assert {name: files_of(tmp_path).get(name) for name in before} == before
            outage.begins += 1
        else:
            break
    assert outage.begins >= reads
    outage.begins = NEVER
    assert lake.told.lost == []
    assert verify_store(lake.store, deep=True).proven


def test_a_reader_with_a_fallback_does_not_ask_the_stream_for_what_is_only_unavailable(
    template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Never:
        def ranges(self, *_: object) -> Iterator[None]:
            raise AssertionError("the stream was asked")

    Outage(monkeypatch, FAULTS["ClientError"], blocks=True)
    with pytest.raises(StoreUnavailable, match="SlowDown"):
        list(read(local_store(template), fallback=Never()))  # type: ignore[arg-type]
