"""What became of a store's blocks since a token: a feed of changes for tables, indexes and copies.

After all changes up to a token, the live blocks are those that were added and not removed. A change is atomic: the
blocks that it adds hold the records of those that it removes, unless those expired or could not be brought back.

The order: blocks as the generators' ledgers record them, those of a ledger in its order, and what a session had seen
before what it stored; then what maintenance did, in the order of its log. No clock decides it, and a block is added
before it is removed. What is removed may never have been added: its line was lost. A line that was read before it was
durable can be taken back by a loss of power, and then its block is added a second time: take each id once.
"""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from typing import NamedTuple

from kcl_receiver.store.ledger.entries import GENERATOR, BlockStored, Expired
from kcl_receiver.store.ledger.followers import confirm, register
from kcl_receiver.store.ledger.maintenance_log import Recorded, newest_number, next_numbers, recorded
from kcl_receiver.store.ledger.place import Passed
from kcl_receiver.store.ledger.tailing import LedgerWalk
from kcl_receiver.store.store import Store, open_store


class Change(NamedTuple):
    """One change to a store's live blocks.

    Attributes:
        by: Who made it: `generator`, `recover`, `repair`, `compact` or `expire`.
        added: The entries of the blocks that are live now.
        removed: Ids of the blocks that are not live any more.
    """

    by: str
    added: tuple[BlockStored, ...]
    removed: tuple[str, ...]


class Changes:
    """An iterator of changes, which ends at what is recorded now; see `follow`. Iterate again for what came since."""

    def __init__(self, store: Store, token: str | None, name: str | None) -> None:
        self._store = store
        self._name = name
        self._application = store.owner()
        self._is_new = True
        begun = Passed(None, 0) if token is None else Passed.from_token(token, self._application)
        self._number = 0
        if name is not None:
            begun, self._number = register(store, name, None if token is None else begun)
        self._place, self._seen = begun
        self._walk: LedgerWalk | None = None  # one that has come to the end of what was there

    @property
    def token(self) -> str:
        """A text with which `follow` goes on after the changes that were yielded, also in another process."""
        return Passed(self._place, self._seen).to_token(self._application)

    def confirm(self) -> None:
        """Let the store know that all that was yielded is taken in: `expire` need not keep it, and this goes on there.

        Raises:
            ValueError: The follower has no name.
            StoreRefused: It was removed, or has begun anew elsewhere.
            StoreUnavailable: It is not known to be durable; call again.
        """
        if self._name is None:
            raise ValueError("a follower without a name has nothing to confirm: give `follow` one")
        confirm(self._store, self._name, self.token, self._number)

    def __iter__(self) -> Iterator[Change]:
        # First: what these entries remove is in the ledgers that are read after.
        newest = newest_number(self._store) if self._is_new else next_numbers(self._store, self._seen)
        self._is_new = False
        # One that was broken off may have passed less than was yielded.
        walk, self._walk = self._walk or LedgerWalk(self._store, self._place, maintained=-1), None
        for _, entry in walk.poll():
            if isinstance(entry, BlockStored):
                self._place = walk.after
                yield Change(GENERATOR, (entry,), ())
        self._place, self._walk = walk.place, walk
        for one in recorded(self._store, self._seen, newest):
            self._seen = one.number
            change = _change(one)
            if change.added or change.removed:
                yield change


def _change(one: Recorded) -> Change:
    added = tuple(entry for entry in one.entries if isinstance(entry, BlockStored))
    removed = [old for entry in added for old in entry.replaces]
    removed += (block for entry in one.entries if isinstance(entry, Expired) for block in entry.blocks)
    return Change(one.role, added, tuple(dict.fromkeys(removed)))


def follow(store: Store | str | PathLike[str], token: str | None = None, *, name: str | None = None) -> Changes:
    """Return what became of the live blocks of a store since a token, or since there was none.

    Args:
        store: What `open_store` returns or takes. It is only read; receiver and maintenance may be at work.
        token: `Changes.token` of an earlier call; if not given, all that is live is added first.
        name: Of a follower, at most one process each, that the store is to know: `expire` removes nothing that it has
            not confirmed by `Changes.confirm`. Without a token it goes on there. Then the store is written to.

    Raises:
        ConfigError: The store's place is none, or the name.
        TokenRefused: The token is none, or of another store.
        LedgerDamaged: A ledger is damaged; while iterating, too.
        StoreUnavailable: The store cannot be read now; while iterating, too. Go on with the token.
    """
    return Changes(open_store(store), token, name)
