"""Chooses the JVM's options for the tuned launch, on the machine that it will run on.

The rule kept: an installation that works with the plain launch works with the tuned one. So nothing is given that the
Java at hand does not know, nothing that contradicts what the user says (by receiver.javaOptions, or by the variables
that Java reads), and the old generation alone may grow as large as the whole heap of the plain launch. What the plain
launch would do is not guessed: Java is asked. Why these options and no others is in docs/performance.md#the-jvm.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from kcl_receiver.config.properties import ReceiverConfig
from kcl_receiver.config.values import GIB, MIB
from kcl_receiver.daemon.java import Java

COLLECTOR = "-XX:+UseSerialGC"
"""In every build of OpenJDK from 8 on, the minimal ones included."""

YOUNG_BYTES = 448 * MIB
"""The young generation: what is made between two collections. Other sizes: see docs/performance.md#the-jvm."""

SURVIVOR_RATIO = 4
"""A sixth of the young generation for each survivor space. With Java's tenth, what pages hold while they wait overflows
into the old generation, which is then collected in full, over and over."""

LEAST_FREE_PERCENT = 60
"""Of the old generation after a full collection; it grows until there is so much. With Java's 40 a daemon that catches
up on many shards collects it several times a second."""

LAST_JAVA = 17
"""The newest Java that these options were seen to help. On 25 the serial collector lets the old generation grow to its
maximum before it collects it, so that the bound is none."""

LEAST_HEAP = 96 * MIB
"""Below this, Java's own choice stays: there is nothing to be saved."""

COMPRESSED_HEAP = 31 * GIB
"""A heap of 32 GiB or more doubles the size of a reference, so we do not widen one that is near it."""

ANSWER_SECONDS = 30.0
"""How long java may take to tell its flags; it takes 0.1 s."""

_FLAG = re.compile(r"^\s*\w+\s+(?P<name>\w+)\s*=\s*(?P<value>\S*)\s+\{[^}]*\}\s+\{(?P<origin>[^}]*)\}", re.MULTILINE)
_OF_THE_HEAP = re.compile(
    r"Use\w+GC|(Min|Max|Initial|SoftMax)HeapSize|MaxRAM|(Min|Max|Initial)?RAM(Percentage|Fraction)|ErgoHeapSizeLimit"
    r"|(Max)?NewSize|NewRatio|OldSize|SurvivorRatio|(Min|Max)HeapFreeRatio"
)
_SAID = ("command line", "environment", "config file")
"""Where a flag comes from when somebody has set it."""


class Tuning(NamedTuple):
    """Options of java, to be put before the user's own, and in words why these."""

    options: tuple[str, ...]
    reason: str


def tune(config: ReceiverConfig, java: Java) -> Tuning:
    """Return the options of the tuned launch; none where the plain one is asked for, or is the only safe one.

    Java is run twice, without starting anything: to learn what it would do by itself, and that it takes the options.
    """
    if config.java_launch == "plain":
        return Tuning((), "plain: receiver.javaLaunch = plain")
    flags = _flags(java.path, config.java_options)
    if flags is None:
        return Tuning((), f"plain: {java.path} does not tell its flags")
    said = sorted(name for name, (_, origin) in flags.items() if _OF_THE_HEAP.fullmatch(name) and origin in _SAID)
    if said:
        return Tuning((), f"plain: receiver.javaOptions or a variable of Java sets {', '.join(said)}")
    if java.version > LAST_JAVA:
        return Tuning((), f"plain: Java {java.version} was not seen to gain by the tuned launch; Java {LAST_JAVA} does")
    plain_bytes = flags.get("MaxHeapSize", ("", ""))[0]
    options = heap_options(int(plain_bytes) if plain_bytes.isdecimal() else 0)
    if not options:
        return Tuning((), "plain: the heap is small anyway")
    if _flags(java.path, (*options, *config.java_options)) is None:
        return Tuning((), f"plain: {java.path} does not take {' '.join(options)}")
    return Tuning(options, f"tuned: {' '.join(options)}")


def heap_options(plain_bytes: int) -> tuple[str, ...]:
    """Return collector and sizes for a machine on which the plain launch's heap may grow to so many bytes."""
    if plain_bytes < LEAST_HEAP:
        return ()
    # At most the share that Java itself would give it, so that a small machine keeps room for what lives longer.
    young = min(YOUNG_BYTES, plain_bytes // 3) // MIB
    options = [
        COLLECTOR,
        f"-XX:NewSize={young}m",
        f"-XX:MaxNewSize={young}m",
        # By default a 64th of the machine's memory, all of which is used before anything old is collected.
        f"-XX:InitialHeapSize={young * 3 // 2}m",
        f"-XX:SurvivorRatio={SURVIVOR_RATIO}",
        f"-XX:MinHeapFreeRatio={LEAST_FREE_PERCENT}",
    ]
    if plain_bytes < COMPRESSED_HEAP:
        options.append(f"-XX:MaxHeapSize={plain_bytes // MIB + young}m")
    return tuple(options)


def _flags(java: Path, options: Sequence[str]) -> Mapping[str, tuple[str, str]] | None:
    """Return value and origin of every flag of a JVM with these options, or None if it does not start with them."""
    # The environment is ours, as it is the daemon's: JAVA_TOOL_OPTIONS and its like hold for both.
    command = [str(java), *options, "-XX:+PrintFlagsFinal", "-version"]
    try:
        answer = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=ANSWER_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if answer.returncode != 0:
        return None
    text = answer.stdout.decode("utf-8", "replace")
    return {found["name"]: (found["value"], found["origin"]) for found in _FLAG.finditer(text)} or None
