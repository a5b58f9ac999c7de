"""Parsers for single values of the properties file. Each returns the value or raises ValueError with the reason.

A reason continues the sentence "KEY = VALUE: …", so it begins with a verb.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

from kcl_receiver.config import kcl_values
from kcl_receiver.config.kcl_values import line

KIB, MIB, GIB = 1024, 1024**2, 1024**3

CODECS = {"none": None, "snappy": None, "lz4": None, "zstd": range(1, 23)}
"""Compression codecs with the levels that each takes."""

LAUNCHES = ("tuned", "plain")
"""Whose choice the JVM's heap is: ours, or Java's own."""

STREAM_ARN = re.compile(r"arn:aws[a-z-]*:kinesis:(?P<region>[a-z0-9-]+):\d{12}:stream/(?P<name>[a-zA-Z0-9_.-]{1,128})")
_SIZE = re.compile(r"([0-9]{1,15})\s*(|B|KiB|MiB|GiB)", re.IGNORECASE)
_FACTORS = {"": 1, "b": 1, "kib": KIB, "mib": MIB, "gib": GIB}


def parse_size(text: str) -> int:
    """Return a number of bytes written plainly or with KiB, MiB or GiB.

    Raises:
        ValueError: It is not one, or it is 0.
    """
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError("is not a size: plain bytes, or a number with KiB, MiB or GiB")
    size = int(found[1]) * _FACTORS[found[2].lower()]
    if size == 0:
        raise ValueError("must be more than 0")
    return size


def processor_line(file: Path, program: str = "kcl-receiver-processor") -> str:
    """Return the line for executableName, or what to do where none can name the file: the daemon divides at spaces."""
    if not nameable(file):
        return "move the file to a path without blanks and quotes"
    return line("executableName", f"{program} --properties {file}")


def nameable(file: Path) -> bool:
    """Tell whether executableName can name a file: the daemon divides it at blanks, and knows no quotes."""
    return not any(character.isspace() or character in "\"'" for character in str(file))


def parse_switch(text: str) -> bool:
    """Return true or false, by the words that KCL has for its own switches.

    Raises:
        ValueError: It is neither.
    """
    try:
        return bool(kcl_values.read(kcl_values.Kind.SWITCH, text))
    except ValueError:
        raise ValueError("is neither true nor false") from None


def store_url(text: str) -> str:
    """Return the URL of a store, in the one form that is used to compare stores.

    Raises:
        ValueError: This version cannot use such a store.
    """
    try:
        parts = urlsplit(text)
        os.fsencode(text)
    except ValueError:  # UnicodeEncodeError is one
        raise ValueError("is not the URL of a store: file:///absolute/path") from None
    if "\x00" in text or "%00" in text:
        raise ValueError("cannot be the path of anything")
    if parts.scheme == "s3":
        raise ValueError("S3 is not in this version")
    if parts.scheme != "file":
        raise ValueError("is not the URL of a store: file:///absolute/path")
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/") or parts.query or parts.fragment:
        raise ValueError("needs three slashes and an absolute path: file:///absolute/path")
    return "file://" + os.path.normpath("/" + parts.path.lstrip("/"))


def parse_compression(text: str) -> tuple[str, int | None]:
    """Return codec and level of `zstd` or `zstd:3`; the level is None where none is given.

    Raises:
        ValueError: There is no such codec or level.
    """
    codec, colon, level = text.lower().partition(":")
    if codec not in CODECS:
        raise ValueError(f"is not one of {', '.join(CODECS)}")
    if not colon:
        return codec, None
    levels = CODECS[codec]
    if levels is None:
        raise ValueError(f"{codec} has no levels")
    if not level.isdecimal() or int(level) not in levels:
        raise ValueError(f"the levels of {codec} are {levels[0]} to {levels[-1]}")
    return codec, int(level)


def parse_launch(text: str) -> str:
    """Return `tuned` or `plain`, in small letters.

    Raises:
        ValueError: It is neither.
    """
    if text.lower() not in LAUNCHES:
        raise ValueError(f"is not one of {', '.join(LAUNCHES)}")
    return text.lower()


def parse_options(text: str) -> tuple[str, ...]:
    """Return options of java, divided at blanks; quotes hold one together as in a shell.

    Raises:
        ValueError: A quote is not closed, or a part is not an option.
    """
    options = tuple(shlex.split(text))
    for option in options:
        if not option.startswith("-"):
            raise ValueError(f"{option} is not an option of java: they begin with -")
    return options
