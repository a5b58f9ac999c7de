"""Followers that a store knows by name, and how far each has come: `expire` leaves what one of them has not taken in.

A follower's place is a document of its own, which it alone writes anew. The place lags behind: what was taken in since
is handed out once more after a crash, and stays a little longer. The rule: a follower is written down, then an entry of
the maintenance log follows, and then it begins to read. A run of `expire` reads all entries before it records its own,
so it knows every follower that can still miss what it removes.
"""

from __future__ import annotations

import json
import re
import socket
from dataclasses import dataclass

from kcl_receiver.errors import SEE_REPAIR, ConfigError, LedgerDamaged, StoreRefused
from kcl_receiver.store.ledger.place import Place
from kcl_receiver.store.store import Store

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Follower:
    """One that the store knows.

    Attributes:
        name: Its name.
        token: `Changes.token` when it confirmed last; None if it has taken in nothing yet.
        host: The host from which it confirmed last.
        registered: When it was written down first, milliseconds since the epoch.
        confirmed: When it confirmed last; when it was written down, if it never did.
    """

    name: str
    token: str | None
    host: str
    registered: int
    confirmed: int


@dataclass(frozen=True, slots=True)
class Passed:
    """What of a store's changes a follower has taken in.

    Attributes:
        place: How far it has read the generators' ledgers; None if it has read nothing.
        maintenance: The number of the last entry of the maintenance log that it has seen.
    """

    place: Place | None
    maintenance: int

    def line(self, writer: str, number: int) -> bool:
        """Return whether a line of a generator's ledger was read."""
        if self.place is None:
            return False
        return number <= self.place.lines.get(writer, number if writer <= self.place.last else 0)


def check_name(name: str) -> str:
    """Return a follower's name as it is.

    Raises:
        ConfigError: It cannot be one.
    """
    if _NAME.match(name) is None:
        raise ConfigError(
            f"{name!r} is not the name of a follower",
            "write up to 63 lower-case letters, digits, - and _, a letter or digit first",
        )
    return name


def followers(store: Store) -> list[Follower]:
    """Return all followers, in the order of their names.

    Raises:
        LedgerDamaged: What is written down of one is not as it was written.
        StoreUnavailable: The store cannot be read now.
    """
    found = ((name, store.follower(name)) for name in store.followers())
    return [_decoded(store, name, content) for name, content in found if content is not None]


def find_follower(store: Store, name: str) -> Follower | None:
    """Return a follower, or None if the store knows none of that name.

    Raises:
        LedgerDamaged: See `followers`.
        StoreUnavailable: See `followers`.
    """
    content = store.follower(check_name(name))
    return None if content is None else _decoded(store, name, content)


def confirm(store: Store, name: str, token: str | None, now_ms: int) -> None:
    """Write down how far a follower has come. Repeatable.

    Raises:
        StoreUnavailable: It is not known to be durable; try again.
    """
    known = find_follower(store, name)
    raw = {
        "token": token,
        "host": socket.gethostname(),
        "registered": now_ms if known is None else known.registered,
        "confirmed": now_ms,
    }
    store.put_follower(name, json.dumps(raw).encode() + b"\n")


def remove_follower(store: Store, name: str) -> None:
    """Forget a follower: `expire` waits for it no longer.

    Raises:
        StoreRefused: The store knows none of that name.
        StoreUnavailable: It is not known to be gone; try again.
    """
    if store.follower(check_name(name)) is None:
        raise StoreRefused(f"the store {store.url} knows no follower {name!r}", "`kcl-receiver followers list` has all")
    store.delete_follower(name)


def _decoded(store: Store, name: str, content: bytes) -> Follower:
    try:
        raw = json.loads(content)
        token = raw["token"]
        if token is not None and not isinstance(token, str):
            raise TypeError("its token is no text")
        return Follower(name, token, str(raw["host"]), int(raw["registered"]), int(raw["confirmed"]))
    except (ValueError, LookupError, TypeError) as error:
        what = f"what the store {store.url} knows of follower {name!r} cannot be read: {error!r}"
        raise LedgerDamaged(what, SEE_REPAIR) from error
