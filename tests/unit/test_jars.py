from __future__ import annotations

from pathlib import Path

import pytest

from kcl_receiver.daemon.jars import NEEDED, find_jars, kclpy_jars, names
from kcl_receiver.errors import EXIT_ENVIRONMENT, EnvironmentProblem


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for jar in kclpy_jars().glob("*.jar"):
        (tmp_path / jar.name).symlink_to(jar)
    return tmp_path


def test_the_jars_of_the_installed_package_are_complete() -> None:
    assert find_jars(deep=True) == kclpy_jars()


def test_the_list_of_needed_jars_is_that_of_the_installed_package() -> None:
    assert names(kclpy_jars().glob("*.jar")) == NEEDED
    assert len(NEEDED) == 79


def test_an_offline_folder_can_take_their_place_and_hold_more(folder: Path) -> None:
    (folder / "our-credentials-1.0.jar").write_bytes(b"x")
    assert find_jars(folder) == folder


def test_missing_jars_are_counted_and_named(folder: Path) -> None:
    for jar in [*folder.glob("netty-*.jar")][:2]:
        jar.unlink()
    with pytest.raises(EnvironmentProblem, match="2 of 79 jars are missing") as caught:
        find_jars(folder)
    assert "netty-" in caught.value.message
    assert caught.value.exit_code == EXIT_ENVIRONMENT


def test_an_empty_or_absent_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="79 of 79"):
        find_jars(tmp_path / "gone")


def test_a_jar_that_was_cut_off_is_found(folder: Path) -> None:
    jar = next(folder.glob("guava-*.jar"))
    whole = jar.read_bytes()
    jar.unlink()
    jar.write_bytes(whole[: len(whole) // 2])
    assert find_jars(folder) == folder
    with pytest.raises(EnvironmentProblem, match=r"damaged jars .*guava"):
        find_jars(folder, deep=True)
    jar.write_bytes(b"")
    with pytest.raises(EnvironmentProblem, match=r"damaged jars .*guava"):
        find_jars(folder)


def test_a_folder_with_a_colon_cannot_be_on_a_class_path(folder: Path) -> None:
    odd = folder / "a:b"
    odd.mkdir()
    for jar in folder.glob("*.jar"):
        jar.rename(odd / jar.name)
    with pytest.raises(EnvironmentProblem, match="colon"):
        find_jars(odd)
