"""Ids of writers and blocks.

A writer is one run of a generator. Its id tells when it began and cannot be met twice; it is the first part of the id
of each of its blocks, so that ids sort by time. Readers go by that order, so a new writer's id is later than those of
all before it, whatever the clock says (`generator.rollover.begins_at`).
"""

from __future__ import annotations

import re
import secrets
from datetime import datetime, timezone
from functools import lru_cache

_WRITER = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}\Z", re.ASCII)
_BLOCK = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}-\d{12}\Z", re.ASCII)

WRITER_LENGTH = 25
"""Characters of a writer's id."""

MAX_BLOCK_NUMBER = 10**12 - 1


def writer_id(now_ms: int, token: str | None = None) -> str:
    """Return the id of a writer that begins now, for example `20261122T131501Z-7f3a9c01`.

    Args:
        now_ms: Milliseconds since the epoch.
        token: Eight hexadecimal digits; random ones if not given. A simulation gives its own.

    Raises:
        ValueError: The token is not of that form.
    """
    began = datetime.fromtimestamp(now_ms // 1000, timezone.utc)
    return check_writer_id(f"{began:%Y%m%dT%H%M%SZ}-{token if token is not None else secrets.token_hex(4)}")


def began_at(writer: str) -> int:
    """Return the time in a writer's id, milliseconds since the epoch.

    Raises:
        ValueError: It is not a writer id, or holds no time.
    """
    began = datetime.strptime(check_writer_id(writer)[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
    return round(began.timestamp()) * 1000


def block_id(writer: str, number: int) -> str:
    """Return the id of a writer's block: the writer's id and the block's number in 12 digits.

    Raises:
        ValueError: The writer id is not one, or the number has more than 12 digits.
    """
    if not 0 <= number <= MAX_BLOCK_NUMBER:
        raise ValueError(f"block number out of bounds: {number}")
    return f"{check_writer_id(writer)}-{number:012d}"


def check_writer_id(writer: str) -> str:
    """Return a writer's id as it is.

    Raises:
        ValueError: It is not one.
    """
    if _WRITER.match(writer) is None:
        raise ValueError(f"not a writer id: {writer!r}")
    return writer


def check_block_id(block: str) -> str:
    """Return a block's id as it is.

    Raises:
        ValueError: It is not one.
    """
    if _BLOCK.match(block) is None:
        raise ValueError(f"not a block id: {block!r}")
    return block


def writer_of(block: str) -> str:
    """Return the id of the writer of a block.

    Raises:
        ValueError: It is not a block id.
    """
    return check_block_id(block).rpartition("-")[0]


def day_of(writer: str) -> str:
    """Return the UTC day on which a writer began, as the directory of its blocks is named.

    Raises:
        ValueError: It is not a writer id.
    """
    return f"{check_writer_id(writer)[:4]}-{writer[4:6]}-{writer[6:8]}"


def day_at(milliseconds: int) -> str:
    """Return the UTC day of a time in milliseconds since the epoch."""
    return _day(milliseconds // 86_400_000)


@lru_cache(16)
def _day(number: int) -> str:
    return f"{datetime.fromtimestamp(number * 86_400, timezone.utc):%Y-%m-%d}"


def block_day(block: str) -> str:
    """Return the day of a block's directory.

    Raises:
        ValueError: It is not a block id.
    """
    return day_of(writer_of(block))
