"""The keys of a store's objects: blocks, ledgers and documents. Each follows from an id alone."""

from __future__ import annotations

import re
from collections.abc import Callable

from kcl_receiver.ids import block_day, check_writer_id, day_of

_DOCUMENT = re.compile(r"[a-z0-9][a-z0-9_-]*\.json\Z", re.ASCII)

BLOCKS = "blocks"
LEDGER = "ledger"
LOG = "log"
FOLLOWERS = "followers"
MAINTENANCE = "maintenance"
BLOCK_SUFFIX = ".parquet"
LEDGER_SUFFIX = ".jsonl"
LOG_SUFFIX = ".json"


def block_path(block: str) -> str:
    """Return where a block lies below its store: `blocks/<day on which its writer began>/<id>.parquet`.

    Raises:
        ValueError: It is not a block id.
    """
    return f"{BLOCKS}/{block_day(block)}/{block}{BLOCK_SUFFIX}"


def ledger_path(writer: str) -> str:
    """Return where a writer's ledger lies below its store: `ledger/<month in which it began>/<id>.jsonl`.

    Raises:
        ValueError: It is not a writer id.
    """
    return f"{LEDGER}/{check_writer_id(writer)[:4]}-{writer[4:6]}/{writer}{LEDGER_SUFFIX}"


def maintenance_path(number: int) -> str:
    """Return where an entry of the maintenance log lies: `maintenance/<its thousand>/<number>.jsonl`."""
    return f"{MAINTENANCE}/{number // 1000:06d}/{number:09d}{LEDGER_SUFFIX}"


def marker_path(number: int, writer: str) -> str:
    """Return where it is marked which day an entry of the maintenance log is about.

    It is `ledger/maintenance/<day of its blocks>/<number>-<writer id>`.

    Raises:
        ValueError: It is not a writer id.
    """
    return f"{LEDGER}/{MAINTENANCE}/{day_of(writer)}/{number:09d}-{writer}"


def log_path(number: int) -> str:
    """Return where an entry of the store's log lies: `log/<its thousand>/<number>.json`."""
    return f"{LOG}/{number // 1000:06d}/{number:09d}{LOG_SUFFIX}"


def log_entry_at(key: str) -> int | None:
    """Return the number of the entry of the store's log that lies at a key; None if none lies there."""
    return _numbered(key, LOG_SUFFIX, log_path)


def maintenance_at(key: str) -> int | None:
    """Return the number of the entry of the maintenance log that lies at a key; None if none lies there."""
    return _numbered(key, LEDGER_SUFFIX, maintenance_path)


def marker_at(key: str) -> tuple[int, str] | None:
    """Return the number and the writer that a marker at a key names; None if none lies there."""
    digits, _, writer = key.rpartition("/")[2].partition("-")
    try:
        number = _number(digits)
        return (number, writer) if number and marker_path(number, writer) == key else None
    except ValueError:
        return None


def _numbered(key: str, suffix: str, path_of: Callable[[int], str]) -> int | None:
    number = _number(key.rpartition("/")[2].removesuffix(suffix))
    return number if number and path_of(number) == key else None


def _number(digits: str) -> int:
    return int(digits) if digits.isascii() and digits.isdecimal() else 0


def follower_path(name: str, number: int) -> str:
    """Return where a follower's place lies: `followers/<name>.<number>.json`."""
    check_document_name(name + LOG_SUFFIX)
    return f"{FOLLOWERS}/{name}.{number:09d}{LOG_SUFFIX}"


def follower_at(key: str) -> tuple[str, int] | None:
    """Return name and number of the follower whose place lies at a key; None if none lies there."""
    name, _, digits = key.rpartition("/")[2].removesuffix(LOG_SUFFIX).rpartition(".")
    try:
        number = _number(digits)
        return (name, number) if number and follower_path(name, number) == key else None
    except ValueError:
        return None


def block_at(key: str) -> str | None:
    """Return the id of the block that lies at a key; None if no block lies there."""
    return _named(key, BLOCK_SUFFIX, block_path)


def ledger_at(key: str) -> str | None:
    """Return the writer whose ledger lies at a key; None if none lies there."""
    return _named(key, LEDGER_SUFFIX, ledger_path)


def may_grow(key: str) -> bool:
    """Return whether lines may be appended to the object at a key; all others are created whole."""
    return key.endswith(LEDGER_SUFFIX) and not key.startswith(f"{MAINTENANCE}/")


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
