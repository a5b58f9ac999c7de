"""Notes of what `repair` recorded, in the order in which it did.

What `repair` takes in can be of any day, and a reader that goes on where it stopped would have to look at all of them.
So each maintenance ledger of `repair` is noted once it is durable, under the next free number. A reader keeps how many
notes it has seen.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count

from kcl_receiver.errors import SEE_REPAIR, LedgerDamaged
from kcl_receiver.store.base import BlockStore
from kcl_receiver.store.names import check_writer_id

_NOTE = "repair-{:09d}.json"


def note_repair(store: BlockStore, writer: str) -> None:
    """Note a maintenance ledger of `repair`, which is durable. Repeatable.

    Raises:
        StoreUnavailable: It is not known to be noted; try again.
    """
    mine = json.dumps({"writer": writer}).encode() + b"\n"
    next(number for number in count(1) if store.put_document_if_absent(_NOTE.format(number), mine) == mine)


def repairs_noted(store: BlockStore, seen: int = 0) -> Iterator[str]:
    """Yield the ids of the maintenance ledgers of `repair`, but for the first `seen`.

    Raises:
        StoreUnavailable: They cannot be read now.
        LedgerDamaged: A note is none.
    """
    for number in count(seen + 1):
        content = store.get_document(_NOTE.format(number))
        if content is None:
            return
        try:
            yield check_writer_id(json.loads(content)["writer"])
        except (ValueError, LookupError, TypeError) as error:
            raise LedgerDamaged(
                f"{_NOTE.format(number)} of the store {store.url} cannot be read: {error!r}",
                SEE_REPAIR,
            ) from error
