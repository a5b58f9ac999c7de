from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Container
from pathlib import Path

import javaproperties
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kcl_receiver.config import paths
from kcl_receiver.config.properties import AMBIGUOUS, load
from kcl_receiver.errors import ConfigError
from kcl_receiver.processor.main import find_generator

PIECES = st.sampled_from(
    [
        *(b"\\", b"\n", b"\r", b"\r\n", b" ", b"\t", b"\f", b"=", b":", b"#", b"!", b"u", b"n", b"a", b"x", b"\xe9"),
        *(b"\\u0061", b"\\ud83d", b"\\ude00", b"\x00", b"\x0b", b"\x85", b"receiver.socket", b"applicationName"),
    ]
)


class Everything(Container[str]):
    def __contains__(self, key: object) -> bool:
        return True


@given(st.lists(PIECES, max_size=20).map(b"".join))
@example(b"a\\\n  b = c\\\\\n d=e")
@example(b"a=\\ud83d\\ude00")
def test_the_scanner_reads_what_the_library_reads(content: bytes) -> None:
    if AMBIGUOUS.search(content):
        return
    try:
        expected = javaproperties.loads(content)
    except ValueError:
        with pytest.raises(ValueError, match="uXXXX"):
            paths.scan(content, Everything())
        return
    assert paths.scan(content, Everything()) == expected


@given(socket=st.text(max_size=12), application=st.text("abcXYZ019_.-", min_size=1, max_size=12))
def test_the_processor_finds_the_socket_that_the_generator_opens(
    tmp_path_factory: pytest.TempPathFactory, socket: str, application: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "scanned.properties"
    keys = {
        "applicationName": application,
        "streamName": "s",
        "executableName": "p",
        "receiver.store": "file:///s",
        **({"receiver.socket": socket} if socket.strip() and "\0" not in socket else {}),
    }
    file.write_text(javaproperties.dumps(keys, timestamp=False), "latin-1")
    assert find_generator(str(file))[1] == str(load(file).socket)


def test_a_relative_socket_is_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.properties").write_text("receiver.socket: ../s.sock\napplicationName: a")
    monkeypatch.chdir(tmp_path)
    assert find_generator("x.properties")[1] == str(tmp_path.parent / "s.sock")


def test_the_default_does_not_depend_on_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = f"/tmp/kcl-receiver-{os.getuid()}/landing/generator.sock"
    for name in ("XDG_RUNTIME_DIR", "TMPDIR", "HOME"):
        monkeypatch.setenv(name, "/elsewhere")
    assert paths.default_socket("landing") == expected


@pytest.mark.parametrize("application", ["a/b", "..", ".", "", "a" * 65, "über", "a b"])
def test_a_name_that_is_no_directory_gets_one_of_its_own(application: str) -> None:
    directory = Path(paths.default_socket(application)).parent
    assert directory.parent == Path(paths.runtime_root())
    assert directory.name not in (".", "..", application)
    assert directory.name != Path(paths.default_socket(application + "x")).parent.name


def test_a_file_that_names_no_application_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("streamName = a")
    with pytest.raises(ConfigError, match="no applicationName"):
        find_generator(str(tmp_path / "x"))


def test_the_directory_is_made_for_this_user_alone(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "b"
    paths.private_directory(str(directory))
    paths.private_directory(str(directory))
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_the_default_directory_is_private_up_to_its_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "runtime_root", lambda: str(tmp_path / "root"))
    paths.private_directory(str(tmp_path / "root" / "landing"))
    assert stat.S_IMODE((tmp_path / "root").stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_directory_that_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(mode)
    with pytest.raises(PermissionError, match="this user alone"):
        paths.private_directory(str(tmp_path / "open"))


def test_a_directory_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs").mkdir(0o700)
    monkeypatch.setattr(os, "getuid", lambda: 12345678)
    with pytest.raises(PermissionError):
        paths.private_directory(str(tmp_path / "theirs"))


def test_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(PermissionError):
        paths.private_directory(str(tmp_path / "link"))


def test_the_module_imports_next_to_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules); import kcl_receiver.config.paths; "
        "print(sorted(set(sys.modules) - before))"
    )
    out = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout
    loaded = set(eval(out)) - {"__future__"}
    assert {name for name in loaded if not name.startswith("__editable__")} <= {
        "kcl_receiver",
        "kcl_receiver.config",
        "kcl_receiver.config.paths",
        "contextlib",
        "collections",
        "functools",
        "types",
        "operator",
        "_operator",
        "_collections",
        "_functools",
        "itertools",
        "keyword",
        "_keyword",
        "reprlib",
    }
