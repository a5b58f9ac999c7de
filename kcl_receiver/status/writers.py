"""Which generators write to a store, as its log and its ledgers show them: every host's, also where none answers."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping

from kcl_receiver.errors import ReceiverError, StoreUnavailable
from kcl_receiver.status.report import WriterState
from kcl_receiver.store.ledger.store_log import StoreLog
from kcl_receiver.store.store import Store

STORE_SECONDS = 5.0
"""So long is a store waited for that does not answer: a disk or a network that hangs raises no error."""

_GIVEN = re.compile(r"-[0-9a-f]{12}\Z")


def living_writers(store: Store, now_ms: int, owners: Mapping[str, str | None]) -> list[WriterState]:
    """Return the writers of a store that are living, in the order of their ids. Three requests, and one for each.

    Args:
        store: The store; it is only read.
        now_ms: Milliseconds since the epoch.
        owners: By shard, which worker holds its lease.

    Raises:
        LedgerDamaged: The store's log is damaged.
        StoreUnavailable: The store cannot be read now.
    """
    shards: dict[str, list[str]] = {}
    for shard, owner in owners.items():
        if owner is not None:
            shards.setdefault(host_of(owner), []).append(shard)
    out = []
    for writer, one in sorted(StoreLog(store).newest().state.living.items()):
        grown = store.ledger_modified(writer)
        out.append(
            WriterState(
                writer=writer,
                host=one.host,
                pid=one.pid,
                version=one.version,
                began_seconds=_age(now_ms, one.time),
                recorded_seconds=None if grown is None else _age(now_ms, grown),
                shards=tuple(sorted(shards.get(one.host, ()))),
            )
        )
    return out


def host_of(worker: str) -> str:
    """Return the host of a KCL worker by the name that `run` gives it, or that KCL makes up: the host's and a colon."""
    return _GIVEN.sub("", worker.partition(":")[0])


def within(seconds: float, look: Callable[[], list[WriterState]]) -> list[WriterState] | ReceiverError:
    """Return what a look finds, or why it finds nothing; a look that does not end in time is left alone.

    Args:
        seconds: The time.
        look: Looks.
    """
    found: list[list[WriterState] | ReceiverError] = []

    def run() -> None:
        try:
            found.append(look())
        except ReceiverError as error:
            found.append(error)

    thread = threading.Thread(target=run, name="look at the store", daemon=True)
    thread.start()
    thread.join(seconds)
    if found:
        return found[0]
    return StoreUnavailable(f"the store has not answered for {seconds:.0f} s", "see whether its disk or network hangs")


def _age(now_ms: int, at_ms: int) -> float:
    return max(0, now_ms - at_ms) / 1000
