"""The keys of a store's objects: blocks, ledgers and documents. Each follows from an id alone."""

from __future__ import annotations

import re
from collections.abc import Callable

from kcl_receiver.ids import block_day, check_writer_id, day_of

_DOCUMENT = re.compile(r"[a-z0-9][a-z0-9_-]*\.json\Z", re.ASCII)

BLOCKS = "blocks"
LEDGER = "ledger"
LOG = "log"
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


def maintenance_path(writer: str) -> str:
    """Return where a maintenance writer's ledger lies: `ledger/maintenance/<day of its blocks>/<id>.jsonl`.

    Raises:
        ValueError: It is not a writer id.
    """
    return f"{LEDGER}/{MAINTENANCE}/{day_of(writer)}/{writer}{LEDGER_SUFFIX}"


def log_path(number: int) -> str:
    """Return where an entry of the store's log lies: `log/<its thousand>/<number>.json`."""
    return f"{LOG}/{number // 1000:06d}/{number:09d}{LOG_SUFFIX}"


def log_entry_at(key: str) -> int | None:
    """Return the number of the entry of the store's log that lies at a key; None if none lies there."""
    name = key.rpartition("/")[2].removesuffix(LOG_SUFFIX)
    number = int(name) if name.isascii() and name.isdecimal() else 0
    return number if number and log_path(number) == key else None


def block_at(key: str) -> str | None:
    """Return the id of the block that lies at a key; None if no block lies there."""
    return _named(key, BLOCK_SUFFIX, block_path)


def ledger_at(key: str) -> str | None:
    """Return the writer whose ledger, a generator's or of maintenance, lies at a key; None if none lies there."""
    path_of = {3: ledger_path, 4: maintenance_path}.get(key.count("/") + 1)
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
