"""File systems of a campaign's own that can be full, and that can refuse to be written to.

Each host's store lies on a small file system in memory. It is full when a ballast file has taken every last page, which
is what the store then hears from the kernel; it is read-only when a read-only view of itself is mounted over it.

Mounts are made in a mount namespace of the campaign's own, so that nothing of them is left when it ends, however it
ends. Root needs no more; who may not have one alone gets a user namespace as well, where the kernel allows that. Where
it allows neither (most containers), the next best refusals of the kernel are used, and said so: a limit on the size of
files of the running generator, and directories without the right to write, which stop everybody but root.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import shutil
from collections.abc import Iterable
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
MS_RDONLY = 0x1
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 0x2
"""Numbers of linux/sched.h, linux/mount.h and umount2(2). Python has os.unshare from 3.12 on, and no mount at all."""

DISK_BYTES = 384 * 2**20
_PAGE = 4096


def _system(name: str, *arguments: object) -> None:
    """Make a system call of libc's; raise what it says."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def enter_namespace() -> str | None:
    """Move this process to a mount namespace of its own; return why that is refused, or None.

    Belongs to the very beginning: the kernel refuses it to a process with more than one thread.
    """
    user, group = os.geteuid(), os.getegid()
    try:
        try:
            _system("unshare", CLONE_NEWNS)
        except PermissionError:
            _system("unshare", CLONE_NEWNS | CLONE_NEWUSER)
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {user} 1")
            Path("/proc/self/gid_map").write_text(f"0 {group} 1")
        _system("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    except OSError as error:
        return str(error)
    return None


class Disk:
    """A directory on a file system of its own.

    Args:
        path: Where; it is made.
    """

    means_full = "a file system in memory whose last page is taken by a ballast file"
    means_locked = "a read-only mount over the store"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"
        self._locked = False
        path.mkdir(parents=True)
        _system("mount", b"tmpfs", os.fsencode(path), b"tmpfs", 0, f"size={DISK_BYTES}".encode())

    def fill(self, generator: int, leave: int = 0) -> None:
        """Take every free byte but so many. `generator` is the pid of the process that writes here, not needed here."""
        handle = os.open(self._ballast, os.O_CREAT | os.O_WRONLY, 0o600)
        try:
            while (free := self._free() - leave) > 0:
                size = os.fstat(handle).st_size
                # Others write meanwhile: what was free a moment ago may be taken.
                with contextlib.suppress(OSError):
                    os.posix_fallocate(handle, size, free)
                    continue
                with contextlib.suppress(OSError):
                    os.posix_fallocate(handle, size, _PAGE)
        finally:
            os.close(handle)

    def _free(self) -> int:
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def free(self) -> None:
        """Give it back."""
        self._ballast.unlink(missing_ok=True)

    def lock(self) -> None:
        """Refuse to be written to."""
        where = os.fsencode(self.path)
        _system("mount", where, where, None, MS_BIND, None)
        self._locked = True
        _system("mount", None, where, None, MS_BIND | MS_REMOUNT | MS_RDONLY, None)

    def unlock(self) -> None:
        """Let itself be written to."""
        if self._locked:
            _system("umount2", os.fsencode(self.path), MNT_DETACH)
            self._locked = False

    def close(self, keep: Path | None) -> None:
        """Give the file system back, after a copy of what is in it if that is wanted."""
        self.unlock()
        self.free()
        if keep is not None:
            shutil.copytree(self.path, keep, dirs_exist_ok=True)
        _system("umount2", os.fsencode(self.path), MNT_DETACH)


class PlainDisk(Disk):
    """The same where nothing can be mounted, with what the kernel offers there."""

    means_full = "RLIMIT_FSIZE of 0 on the running generator (nothing can be mounted here)"
    means_locked = "directories without the right to write (nothing can be mounted here)"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._limited: int | None = None
        self._modes: list[tuple[Path, int]] = []
        path.mkdir(parents=True)

    def fill(self, generator: int, leave: int = 0) -> None:
        """Refuse the generator every byte of a file past `leave`: it hears EFBIG instead of ENOSPC."""
        _, hard = resource.prlimit(generator, resource.RLIMIT_FSIZE)
        resource.prlimit(generator, resource.RLIMIT_FSIZE, (leave, hard))
        self._limited = generator

    def free(self) -> None:
        """Lift the limit, if that generator still lives."""
        if self._limited is not None:
            with contextlib.suppress(ProcessLookupError):
                _, hard = resource.prlimit(self._limited, resource.RLIMIT_FSIZE)
                resource.prlimit(self._limited, resource.RLIMIT_FSIZE, (hard, hard))
            self._limited = None

    def lock(self) -> None:
        """Take the right to write from every directory."""
        self._modes = [(one, one.stat().st_mode) for one in [self.path, *self.path.rglob("*")] if one.is_dir()]
        for one, mode in self._modes:
            one.chmod(mode & 0o555)

    def unlock(self) -> None:
        """Give it back."""
        for one, mode in self._modes:
            one.chmod(mode)
        self._modes = []

    def close(self, keep: Path | None) -> None:
        """Leave it as it is, or copy it."""
        self.unlock()
        self.free()
        if keep is not None:
            shutil.copytree(self.path, keep, dirs_exist_ok=True)


def impossible_without_mounts() -> Iterable[str]:
    """Return the kinds of fault for which this user has no means where nothing can be mounted."""
    return ["unwritable"] if os.geteuid() == 0 else []


def choose_disk(refusal: str | None) -> type[Disk]:
    """Return what to make disks with, after `enter_namespace` has said whether it was refused."""
    return Disk if refusal is None else PlainDisk


def is_full(message: str) -> bool:
    """Return whether an error that the generator tells is that of a full disk."""
    return os.strerror(errno.ENOSPC) in message or os.strerror(errno.EFBIG) in message


def is_locked(message: str) -> bool:
    """Return whether an error that the generator tells is that of a store that refuses to be written to."""
    return any(os.strerror(one) in message for one in (errno.EROFS, errno.EACCES, errno.EPERM))
