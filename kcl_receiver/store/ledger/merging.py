"""Closed ledgers become one object each where every append is an object of its own.

Whoever reads a ledger costs one request for each of its objects, and starts, sessions, `verify` and readers do. So a
ledger is merged once nothing can follow in it. It is housekeeping: nobody waits for it, one that fails is done later,
and two may do it at once. How a place merges, and who appends late all the same, is its own affair; see
`kcl_receiver.store.bucket`.
"""

from __future__ import annotations

from kcl_receiver.store.ledger.entries import decode_ledger
from kcl_receiver.store.ledger.store_log import StoreLog
from kcl_receiver.store.store import Store


def merge_closed(store: Store, writer: str) -> None:
    """Merge a ledger of a writer that the store's log does not call living any more. Idempotent.

    One that does not end with its closing line, or is damaged, stays as it is: `repair` has to see what is left of it.

    Raises:
        StoreUnavailable: It was not merged, or nobody knows.
    """
    content = store.ledger(writer) or b""
    ledger = decode_ledger(writer, content)
    if ledger.is_closed and ledger.fault is None and not ledger.torn:
        store.merge_ledger(writer, content)


def merge_left_over(store: Store) -> int:
    """Merge the closed ledgers that those who closed them did not come to merge; return how many.

    Raises:
        LedgerDamaged: The store's log is not as it was written, so that it is not known which writers have ended.
        StoreUnavailable: Not all were merged, or nobody knows.
    """
    left = list(store.unmerged_ledgers())  # before the log is read: who is not living then was not when it was listed
    newest = StoreLog(store).newest()
    done = 0
    for writer in left:
        if newest.number and writer <= newest.state.last and writer not in newest.state.living:
            merge_closed(store, writer)
            done += 1
    return done
