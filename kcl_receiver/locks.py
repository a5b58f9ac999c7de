"""Locks that are files, held by flock, in directories where files can be removed by others.

The kernel keeps a flock for as long as any process has the open file, but the lock is on the file and not on its name:
once the name is gone, the next process that comes makes a new file, and locks that. So whoever holds such a lock
compares the file with its name now and then (`HeldPath.lost`), and takes it again. Below /tmp this happens:
systemd-tmpfiles removes there what is ten days old, except directories whose flock is held, with all in them.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

TRIES = 100
"""Of taking a lock whose file is removed between opening and locking it."""


class HeldPath:
    """The lock of a file, which is made if it is not there, or of a directory that is.

    Args:
        path: The file or directory.
        directory: Whether it is a directory.
        shared: Whether others may hold it as well.
        inherited: A descriptor of the file, if another process has locked it and handed it on.

    Raises:
        BlockingIOError: Another process holds it.
        OSError: It cannot be opened.
    """

    def __init__(
        self, path: Path, *, directory: bool = False, shared: bool = False, inherited: int | None = None
    ) -> None:
        self.path = path
        self._flags = os.O_RDONLY | os.O_DIRECTORY if directory else os.O_RDWR | os.O_CREAT
        self._kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        if inherited is None:
            self.fd = self._take()
        else:
            self.fd = inherited
            os.set_inheritable(inherited, False)
            fcntl.flock(inherited, self._kind | fcntl.LOCK_NB)

    def lost(self) -> bool:
        """Return whether the name is gone, or is another file's now; not if that cannot be told at this moment."""
        try:
            return not os.path.samestat(self.path.lstat(), os.fstat(self.fd))
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            # To take again what we hold would find ourselves in the way, and look like another one.
            return False

    def take_again(self) -> None:
        """Lock what has the name now; the old file is let go. Raises what making the object does."""
        fd = self._take()
        os.close(self.fd)
        self.fd = fd

    def release(self) -> None:
        """Give our hold back."""
        os.close(self.fd)

    def _take(self) -> int:
        for _ in range(TRIES):
            fd = os.open(self.path, self._flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(fd, self._kind | fcntl.LOCK_NB)
                if os.path.samestat(self.path.stat(), os.fstat(fd)):
                    return fd
            except FileNotFoundError:
                pass  # removed since it was opened: the lock would be on nothing
            except OSError:
                os.close(fd)
                raise
            os.close(fd)
        raise FileNotFoundError(f"{self.path} is removed as fast as it is made")
