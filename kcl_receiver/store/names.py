"""Ids of writers and blocks, and where a block lies.

A writer is one run of a generator. Its id tells when it began and cannot be met twice; it is the first part of the id
of each of its blocks, so that ids sort by time, and a block's path follows from its id alone. Readers go by that order,
so a new writer's id is later than those of all before it, whatever the clock says (`generator.rollover.begins_at`).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from datetime import datetime, timezone

_WRITER = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}\Z", re.ASCII)
_BLOCK = re.compile(r"(\d{4})(\d{2})(\d{2})T\d{6}Z-[0-9a-f]{8}-\d{12}\Z", re.ASCII)
_DOCUMENT = re.compile(r"[a-z0-9][a-z0-9_-]*\.json\Z", re.ASCII)

WRITER_LENGTH = 25
"""Characters of a writer's id."""

BLOCKS = "blocks"
LEDGER = "ledger"
SEALED = "sealed"
MAINTENANCE = "maintenance"
BLOCK_SUFFIX = ".parquet"
LEDGER_SUFFIX = ".jsonl"

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


def writer_of(block: str) -> str:
    """Return the id of the writer of a block.

    Raises:
        ValueError: It is not a block id.
    """
    block_path(block)
    return block.rpartition("-")[0]


def block_path(block: str) -> str:
    """Return where a block lies below its store: `blocks/<day on which its writer began>/<id>.parquet`.

    Raises:
        ValueError: It is not a block id.
    """
    found = _BLOCK.match(block)
    if found is None:
        raise ValueError(f"not a block id: {block!r}")
    year, month, day = found.groups()
    return f"{BLOCKS}/{year}-{month}-{day}/{block}{BLOCK_SUFFIX}"


def ledger_path(writer: str) -> str:
    """Return where a writer's part of the ledger lies below its store.

    Raises:
        ValueError: It is not a writer id.
    """
    return f"{LEDGER}/{check_writer_id(writer)}{LEDGER_SUFFIX}"


def sealed_path(writer: str) -> str:
    """Return where a writer's part of the ledger lies once it is sealed: `ledger/sealed/<year>-<month>/<id>.jsonl`.

    Raises:
        ValueError: It is not a writer id.
    """
    month = f"{check_writer_id(writer)[:4]}-{writer[4:6]}"
    return f"{LEDGER}/{SEALED}/{month}/{writer}{LEDGER_SUFFIX}"


def day_of(writer: str) -> str:
    """Return the UTC day on which a writer began, as the directory of its blocks is named.

    Raises:
        ValueError: It is not a writer id.
    """
    return f"{check_writer_id(writer)[:4]}-{writer[4:6]}-{writer[6:8]}"


def day_at(milliseconds: int) -> str:
    """Return the UTC day of a time in milliseconds since the epoch."""
    return f"{datetime.fromtimestamp(milliseconds / 1000, timezone.utc):%Y-%m-%d}"


def block_day(block: str) -> str:
    """Return the day of a block's directory.

    Raises:
        ValueError: It is not a block id.
    """
    return block_path(block).split("/")[1]


def maintenance_path(writer: str) -> str:
    """Return where a maintenance writer's ledger lies: `ledger/maintenance/<day of its blocks>/<id>.jsonl`.

    Raises:
        ValueError: It is not a writer id.
    """
    return f"{LEDGER}/{MAINTENANCE}/{day_of(writer)}/{writer}{LEDGER_SUFFIX}"


def block_at(key: str) -> str | None:
    """Return the id of the block that lies at a key; None if no block lies there."""
    return _named(key, BLOCK_SUFFIX, block_path)


def ledger_at(key: str) -> str | None:
    """Return the writer whose ledger, open, sealed or of maintenance, lies at a key; None if none lies there."""
    below = key.split("/")
    path_of = {2: ledger_path, 4: sealed_path if below[1:2] == [SEALED] else maintenance_path}.get(len(below))
    return None if path_of is None else _named(key, LEDGER_SUFFIX, path_of)


def _named(key: str, suffix: str, path_of: Callable[[str], str]) -> str | None:
    id_ = key.rpartition("/")[2].removesuffix(suffix)
    try:
        return id_ if path_of(id_) == key else None
    except ValueError:
        return None


def check_document_name(name: str) -> str:
    """Return a document's name as it is.

    Raises:
        ValueError: It is not a lower-case name that ends in .json.
    """
    if _DOCUMENT.match(name) is None:
        raise ValueError(f"not a document name: {name!r}")
    return name
