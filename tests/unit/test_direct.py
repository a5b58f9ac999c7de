"""What the local store writes past the page cache, and what becomes of it where that cannot be done."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kcl_receiver.store import o_direct as direct
from kcl_receiver.store.files import OsFiles
from kcl_receiver.store.o_direct import ALIGNMENT, LEAST_BYTES, PIECE_BYTES

LARGE = 2 * PIECE_BYTES + 3 * ALIGNMENT + 123


class Kernel:
    """Takes what a file system with O_DIRECT takes, whatever the one below does, and puts it there the ordinary way.

    `taking` says what becomes of a direct write of so many bytes, `room` is what the disk has left.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.direct: set[int] = set()
        self.written: list[tuple[bool, int]] = []
        self.taking: Callable[[int], int] = lambda size: size
        self.room = 2**40
        self._fcntl, self._write = fcntl.fcntl, os.write
        monkeypatch.setattr(direct.fcntl, "fcntl", self.fcntl)
        monkeypatch.setattr(os, "write", self.write)

    def fcntl(self, handle: int, command: int, argument: int = 0) -> int:
        if command != fcntl.F_SETFL:
            return self._fcntl(handle, command, argument)
        (self.direct.add if argument & os.O_DIRECT else self.direct.discard)(handle)
        return 0

    def write(self, handle: int, content: memoryview) -> int:
        is_direct = handle in self.direct
        if is_direct:
            size = content.nbytes
            address = ctypes.addressof(ctypes.c_char.from_buffer(content))
            if any(one % ALIGNMENT for one in (address, size, os.fstat(handle).st_size)):
                raise OSError(errno.EINVAL, "Invalid argument")
            content = content[: self.taking(size)]
        content = content[: self.room]
        if not content.nbytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= content.nbytes
        self.written.append((is_direct, content.nbytes))
        return self._write(handle, content)

    @property
    def written_directly(self) -> int:
        return sum(size for is_direct, size in self.written if is_direct)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


@pytest.fixture
def handle(tmp_path: Path) -> Iterator[int]:
    made = OsFiles().create(tmp_path / "block")
    yield made
    os.close(made)


def content_of(handle: int) -> bytes:
    return Path(f"/proc/self/fd/{handle}").read_bytes()


@pytest.mark.parametrize(
    "size", [0, 1, ALIGNMENT, LEAST_BYTES - 1, LEAST_BYTES, LEAST_BYTES + 1, PIECE_BYTES, PIECE_BYTES + 1, LARGE]
)
def test_what_is_written_is_there_on_this_file_system(handle: int, size: int) -> None:
    content = os.urandom(size)
    OsFiles().write(handle, content)
    assert content_of(handle) == content


def test_whole_pages_of_large_contents_go_past_the_page_cache_piece_by_piece(kernel: Kernel, handle: int) -> None:
    content = os.urandom(LARGE)
    OsFiles().write(handle, content)
    assert content_of(handle) == content
    assert kernel.written == [(True, PIECE_BYTES), (True, PIECE_BYTES), (True, 3 * ALIGNMENT), (False, 123)]
    assert not kernel.direct, "a later write of a few bytes would be refused"


def test_small_contents_and_those_that_begin_within_a_page_are_written_the_ordinary_way(
    kernel: Kernel, handle: int
) -> None:
    files = OsFiles()
    files.write(handle, b"x" * (LEAST_BYTES - 1))
    files.write(handle, b"y" * LARGE)
    assert kernel.written_directly == 0
    assert content_of(handle) == b"x" * (LEAST_BYTES - 1) + b"y" * LARGE


def test_a_file_system_without_it_is_written_to_the_ordinary_way(handle: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ordinary = fcntl.fcntl

    def refuse(handle: int, command: int, argument: int = 0) -> int:
        if argument & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return ordinary(handle, command, argument)

    monkeypatch.setattr(direct.fcntl, "fcntl", refuse)
    content = os.urandom(LARGE)
    OsFiles().write(handle, content)
    assert content_of(handle) == content


@pytest.mark.parametrize("pieces", [0, 1])
@pytest.mark.parametrize("code", [errno.EINVAL, errno.EOPNOTSUPP, errno.EIO])
def test_a_disk_that_does_not_take_it_directly_gets_the_rest_the_ordinary_way(
    kernel: Kernel, handle: int, pieces: int, code: int
) -> None:
    def taking(size: int) -> int:
        if len(kernel.written) == pieces:
            raise OSError(code, os.strerror(code))
        return size

    kernel.taking = taking
    content = os.urandom(LARGE)
    OsFiles().write(handle, content)
    assert content_of(handle) == content
    assert kernel.written_directly == pieces * PIECE_BYTES


@pytest.mark.parametrize("taken", [ALIGNMENT, 512])
def test_a_write_that_takes_less_is_gone_on_with(kernel: Kernel, handle: int, taken: int) -> None:
    kernel.taking = lambda size: size if kernel.written else taken
    content = os.urandom(LARGE)
    OsFiles().write(handle, content)
    assert content_of(handle) == content


def test_a_full_disk_is_told_of_and_the_file_is_an_ordinary_one_again(kernel: Kernel, handle: int) -> None:
    kernel.room = PIECE_BYTES + 1000
    with pytest.raises(OSError, match="No space left"):
        OsFiles().write(handle, os.urandom(LARGE))
    assert not kernel.direct


def test_two_threads_do_not_share_a_piece(kernel: Kernel, tmp_path: Path) -> None:
    files = OsFiles()
    contents = [os.urandom(LARGE), os.urandom(LARGE)]
    handles = [files.create(tmp_path / name) for name in "ab"]

    def taking(size: int) -> int:
        if len(kernel.written) == 0:  # the second is written while the first is under way
            kernel.written.append((True, 0))
            files.write(handles[1], contents[1])
        return size

    kernel.taking = taking
    files.write(handles[0], contents[0])
    assert [content_of(one) for one in handles] == contents
    for one in handles:
        os.close(one)
