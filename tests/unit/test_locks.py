"""Locks whose files are removed under them."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from kcl_receiver.config.paths import GENERATOR_LOCK, SUPERVISED
from kcl_receiver.errors import EnvironmentProblem
from kcl_receiver.generator.lock import GeneratorLock
from kcl_receiver.locks import HeldPath


def is_locked(path: Path) -> bool:
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def test_a_lock_that_is_held_is_not_lost_and_keeps_others_out(tmp_path: Path) -> None:
    held = HeldPath(tmp_path / "lock")
    assert not held.lost()
    with pytest.raises(BlockingIOError):
        HeldPath(tmp_path / "lock")
    held.release()
    HeldPath(tmp_path / "lock").release()


def test_a_lock_whose_file_was_removed_is_lost_and_can_be_taken_again(tmp_path: Path) -> None:
    held = HeldPath(tmp_path / "lock")
    held.path.unlink()
    assert held.lost()
    held.take_again()
    assert not held.lost()
    assert is_locked(held.path)
    held.release()


def test_a_lock_whose_name_cannot_be_looked_at_just_now_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldPath(tmp_path / "lock")

    def failing(_path: Path) -> os.stat_result:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as broken:
        broken.setattr(Path, "lstat", failing)
        assert not held.lost()
    held.release()


def test_a_lock_that_another_one_has_made_anew_cannot_be_taken_again(tmp_path: Path) -> None:
    held = HeldPath(tmp_path / "lock")
    held.path.unlink()
    other = HeldPath(tmp_path / "lock")
    assert held.lost()
    with pytest.raises(BlockingIOError):
        held.take_again()
    other.release()
    held.take_again()
    held.release()


def test_a_file_that_is_removed_between_opening_and_locking_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, flock, removed = tmp_path / "lock", fcntl.flock, []

    def removing(fd: int, how: int) -> None:
        if not removed:
            removed.append(path.unlink())
        flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", removing)
    held = HeldPath(path)
    assert removed
    assert not held.lost()
    held.release()


def test_a_directory_is_locked_so_that_whoever_cleans_up_passes_it_by(tmp_path: Path) -> None:
    held = HeldPath(tmp_path, directory=True)
    assert is_locked(tmp_path)
    with pytest.raises(BlockingIOError):
        HeldPath(tmp_path, directory=True, shared=True)
    held.release()
    first, second = (HeldPath(tmp_path, directory=True, shared=True) for _ in range(2))
    assert is_locked(tmp_path)
    first.release()
    second.release()


def test_a_link_in_the_place_of_a_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        HeldPath(tmp_path / "lock")
    assert not (tmp_path / "elsewhere").exists()


# The generator's


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    return tmp_path / "run" / "generator.sock"


def test_a_generator_takes_its_lock_again_when_file_or_directory_were_removed(socket: Path) -> None:
    lock = GeneratorLock(socket)
    path = socket.parent / GENERATOR_LOCK
    path.unlink()
    lock.look_after()
    assert path.read_text() == f"{os.getpid()}\n"
    with pytest.raises(EnvironmentProblem, match="another generator"):
        GeneratorLock(socket)
    path.unlink()
    socket.parent.rmdir()
    lock.look_after()
    assert is_locked(path)
    lock.release()
    assert not is_locked(path)


def test_a_generator_whose_lock_another_one_has_must_end(socket: Path) -> None:
    lock = GeneratorLock(socket)
    (socket.parent / GENERATOR_LOCK).unlink()
    other = GeneratorLock(socket)
    with pytest.raises(EnvironmentProblem, match=f"another generator .pid {os.getpid()}. serves"):
        lock.look_after()
    other.release()
    lock.look_after()
    lock.release()


def test_a_generator_goes_on_whose_lock_cannot_be_made_again_yet(socket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = GeneratorLock(socket)
    path = socket.parent / GENERATOR_LOCK
    path.unlink()

    def full(*_args: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as broken:
        broken.setattr(os, "open", full)
        lock.look_after()
    with monkeypatch.context() as broken:
        broken.setattr(os, "pwrite", full)
        lock.look_after()
    assert is_locked(path)
    lock.release()


@pytest.mark.parametrize("supervised", [True, False])
def test_a_generator_locks_the_directory_unless_its_supervisor_does(
    socket: Path, supervised: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SUPERVISED, "1" if supervised else "")
    lock = GeneratorLock(socket)
    assert is_locked(socket.parent) != supervised
    lock.release()


def test_an_inherited_lock_whose_file_was_removed_is_taken_anew(socket: Path) -> None:
    socket.parent.mkdir(mode=0o700)
    path = socket.parent / GENERATOR_LOCK
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    path.unlink()
    lock = GeneratorLock(socket, inherited=fd)
    assert is_locked(path)
    lock.release()
