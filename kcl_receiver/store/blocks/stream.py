"""Reading blocks: the one place that tells a store that fails from a block that is damaged.

A store opens a block as a plain file, whose reads may raise anything: errors of a disk with or without an errno, errors
of an HTTP client, time-outs. Arrow reads through it and may raise other errors instead, from which the cause cannot be
told. So every read goes through a `BlockStream`, which remembers how a read failed. The rule: a block is damaged only
if its bytes were read whole and are not what they should be. Everything else is "missing", if the store says so when
asked once more, or "unavailable", and then nothing is restored, replaced or deleted.

An error of the local disk (EIO) is "unavailable" too: it may be the cable. An operator who knows that it is the disk
can move the file away, and then the block is missing.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TypeVar

import pyarrow as pa

from kcl_receiver.errors import SEE_RECOVER, BlockDamaged, BlockMissing, StoreError
from kcl_receiver.store.objects import unavailable

_BLOCK_EIO = (
    "the disk reports errors: see the kernel's log. If this block stays unreadable, move its file away: "
    "`kcl-receiver recover` then reads its records again from Kinesis"
)

_BROKEN = (pa.ArrowException, OSError, ValueError, LookupError, OverflowError, RecursionError)
"""What decoding raises for bytes that are not what they should be."""
DAMAGED_HINT = "`kcl-receiver recover` reads its records again from Kinesis, while the stream retains them"

_T = TypeVar("_T")


class BlockStream(pa.PythonFile):  # type: ignore[misc]
    """An open block. Reading from it raises nothing but `BlockMissing` and `StoreUnavailable`; see the module.

    Attributes:
        failure: How the first read failed that did, or None. What was read since is not to be trusted.
    """

    def __init__(self, reads: _Reads) -> None:
        self._reads = reads  # PythonFile has taken it already

    @property
    def failure(self) -> StoreError | None:
        """See the class."""
        return self._reads.failure


def open_block_file(what: str, opening: Callable[[], pa.NativeFile], is_there: Callable[[], bool]) -> BlockStream:
    """Return an open block.

    Args:
        what: Names the block and its store, for messages.
        opening: Opens it.
        is_there: Tells whether it is there now.

    Raises:
        BlockMissing: It is not there.
        StoreUnavailable: It cannot be read now.
    """
    return BlockStream(_Reads(what, opening, is_there))


@contextmanager
def decoding(file: pa.NativeFile, what: str, hint: str = DAMAGED_HINT) -> Iterator[None]:
    """Call a block damaged if it cannot be decoded in here, unless it could not be read.

    Args:
        file: The block: a `BlockStream`, or bytes in memory.
        what: What cannot be done then.
        hint: What to do about damage.

    Raises:
        BlockDamaged: Its bytes are not what they should be.
        BlockMissing: It is not there any more.
        StoreUnavailable: It could not be read, or there is no memory to decode it.
    """
    try:
        yield
    except MemoryError as error:
        raise unavailable(error, what, "there is not enough memory; with more of it, try again") from error
    except (BlockDamaged, *_BROKEN) as error:
        if isinstance(file, BlockStream) and file.failure is not None:
            raise file.failure from error
        if isinstance(error, BlockDamaged):
            raise
        raise BlockDamaged(f"{what}: {error}", hint) from error


class _Reads:
    """A block as a file of Python's, which Arrow reads; see `BlockStream`."""

    mode = "rb"

    def __init__(self, what: str, opening: Callable[[], pa.NativeFile], is_there: Callable[[], bool]) -> None:
        self.failure: StoreError | None = None
        self.closed = False
        self._what = what
        self._is_there = is_there
        self._at = 0
        self._file = self._try(opening)
        try:
            self._size = int(self._try(self._file.size))
        except BaseException:
            self.close()
            raise

    def _try(self, call: Callable[[], _T]) -> _T:
        if self.failure is not None:
            raise self.failure
        try:
            return call()
        except Exception as error:  # whatever it is, it is the store's, and says nothing of the bytes
            self.failure = self._translated(error)
            raise self.failure from error

    def _translated(self, error: Exception) -> StoreError:
        if isinstance(error, StoreError):
            return error
        if isinstance(error, FileNotFoundError):
            # A name that was not found once may be there all the same: whoever relies on "missing" changes the store.
            try:
                if not self._is_there():
                    return BlockMissing(f"{self._what}: it is not there", SEE_RECOVER)
            except StoreError as other:
                return other
        hint = _BLOCK_EIO if isinstance(error, OSError) and error.errno == errno.EIO else ""
        return unavailable(error, f"{self._what}: it cannot be read", hint)

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, as many as were asked for and are there: a short read is gone on with."""
        left = max(0, self._size - self._at)
        wanted = left if size < 0 else min(size, left)
        pieces: list[bytes] = []
        while wanted:
            piece = self._try(partial(self._piece, wanted))
            self._at += len(piece)
            wanted -= len(piece)
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _piece(self, wanted: int) -> bytes:
        piece: bytes = self._file.read_at(wanted, self._at)
        if not 0 < len(piece) <= wanted:
            raise OSError(f"of {wanted} bytes from {self._at} on, {len(piece)} came, and it has {self._size}")
        return piece

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place."""
        begin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, begin + offset)
        return self._at

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def close(self) -> None:
        """Close it."""
        self.closed = True
        with suppress(Exception):  # all that was wanted of it was read
            self._file.close()
