"""Judges `executableName`: the command with which the daemon starts a processor.

The daemon divides it at spaces and knows no quotes (MultiLangRecordProcessorFactory), looks for the program on its own
PATH, and resolves relative paths in its own working directory.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from kcl_receiver.config.properties import ReceiverConfig
from kcl_receiver.config.values import nameable, processor_line
from kcl_receiver.daemon.findings import ERROR, MACHINE, OK, SETTINGS, WARNING, Finding

PROCESSOR = "kcl-receiver-processor"
PROCESSOR_MODULE = "kcl_receiver.processor.main"

KEY = "executableName"


def executable_name(config: ReceiverConfig) -> Iterator[Finding]:
    """Yield what is wrong with the words of executableName."""
    words = config.executable_name.split()
    way_out = processor_line(config.path)
    if not words:
        return
    if any(quote in config.executable_name for quote in "\"'"):
        yield Finding(SETTINGS, ERROR, KEY, "has quotes, which the daemon takes for part of a name", way_out)
    elif Path(words[0]).name != PROCESSOR and words[1:3] != ["-m", PROCESSOR_MODULE]:
        if PROCESSOR in config.executable_name:
            reason = "the program's path has a space in it, and the daemon divides there"
        else:
            reason = f"{words[0]} is not {PROCESSOR}: no other program keeps the promises"
        yield Finding(SETTINGS, ERROR, KEY, reason, way_out)
    elif not nameable(config.path):
        reason = f"the path {config.path} has a space or a quote in it, and the daemon divides {KEY} there"
        yield Finding(SETTINGS, ERROR, KEY, reason, way_out)
    else:
        yield from _properties_argument(config, words, way_out)


def _properties_argument(config: ReceiverConfig, words: list[str], way_out: str) -> Iterator[Finding]:
    named = _argument(words)
    if named is None:
        reason = "does not say --properties FILE, so that a processor cannot find its generator"
        yield Finding(SETTINGS, ERROR, KEY, reason, way_out)
    elif not Path(named).is_absolute():
        reason = f"{named} is looked for in the daemon's working directory (`run` puts the whole path there)"
        yield Finding(SETTINGS, WARNING, KEY, reason, way_out)
    elif os.path.realpath(named) != os.path.realpath(config.path):
        yield Finding(SETTINGS, ERROR, KEY, f"names another file than this one, {config.path}", way_out)


def _argument(words: list[str]) -> str | None:
    for index, word in enumerate(words):
        if word in ("-p", "--properties") and index + 1 < len(words):
            return words[index + 1]
        if word.startswith("--properties="):
            return word.partition("=")[2]
    return None


def search_path() -> str:
    """Return the PATH that `run` gives the daemon: this program's own directory first, then what is set."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def find_executable(config: ReceiverConfig) -> Iterator[Finding]:
    """Yield whether the program that executableName names is there and may be run."""
    words = config.executable_name.split()
    if not words:
        return
    program = words[0]
    if shutil.which(program):
        yield Finding(MACHINE, OK, KEY, str(shutil.which(program)))
    elif shutil.which(program, path=search_path()):
        found = shutil.which(program, path=search_path())
        reason = f"{program} is not on the PATH; `run` finds {found}, a java launched by hand does not"
        yield Finding(MACHINE, WARNING, KEY, reason, processor_line(config.path, found or program))
    elif Path(program).is_file():
        yield Finding(MACHINE, ERROR, KEY, f"{program} may not be executed", f"chmod +x {program}")
    else:
        reason = f"{program} is not there" if "/" in program else f"{program} is not on the PATH"
        yield Finding(MACHINE, ERROR, KEY, reason, "pip install kcl-receiver, and name the program by its whole path")
