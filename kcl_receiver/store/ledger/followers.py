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
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace

from kcl_receiver.errors import ConfigError, StoreRefused, TokenRefused
from kcl_receiver.store.ledger.place import Passed
from kcl_receiver.store.ledger.transaction import announce
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
        announced: The maintenance log says that it reads.
    """

    name: str
    token: str | None
    host: str
    registered: int
    confirmed: int
    announced: bool


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
        StoreRefused: What is written down of one cannot be read.
        StoreUnavailable: The store cannot be read now.
    """
    found = ((name, store.follower(name)) for name in store.followers())
    return [_decoded(store, name, content) for name, content in found if content is not None]


def find_follower(store: Store, name: str) -> Follower | None:
    """Return a follower, or None if the store knows none of that name.

    Raises:
        StoreRefused: See `followers`.
        StoreUnavailable: See `followers`.
    """
    content = store.follower(check_name(name))
    return None if content is None else _decoded(store, name, content)


def confirm(store: Store, name: str, token: str | None) -> None:
    """Write down how far a follower has come. Repeatable.

    Raises:
        StoreRefused: The store knows it no longer.
        StoreUnavailable: It is not known to be durable; try again.
    """
    known = find_follower(store, name)
    if known is None:
        raise StoreRefused(
            f"follower {name!r} was removed from the store {store.url}",
            "what it has not taken in may be gone; if it is to go on, call `follow` again with its token",
        )
    _write(store, Follower(name, token, socket.gethostname(), known.registered, _now(), announced=True))


def register(store: Store, name: str, begun: Passed | None) -> Passed:
    """Let a store know a follower that is about to read; return from where it reads. Repeatable.

    Args:
        store: The store.
        name: Its name.
        begun: What it has taken in; None to go on where it confirmed last.

    Raises:
        ConfigError: The name cannot be one.
        TokenRefused: What it confirmed last is of another version of this program, or of another store.
        StoreUnavailable: It is not known to be durable; try again.
    """
    known, application = find_follower(store, name), store.owner()
    confirmed = None if known is None else known.token
    if begun is None:
        begun = Passed(None, 0) if confirmed is None else Passed.from_token(confirmed, application)
    if known is None or not known.announced or not _is_covered(confirmed, application, begun):
        now = _now()
        since = now if known is None else known.registered
        token = None if begun == Passed(None, 0) else begun.to_token(application)
        one = Follower(name, token, socket.gethostname(), since, now, announced=False)
        _write(store, one)
        announce(store, name, now)
        _write(store, replace(one, announced=True))
    return begun


def passed(store: Store) -> dict[str, Passed]:
    """Return what each follower has confirmed, by its name; nothing, where its token is of another version.

    Raises:
        StoreRefused: See `followers`.
        StoreUnavailable: See `followers`.
    """
    out: dict[str, Passed] = {}
    for one in followers(store):
        out[one.name] = Passed(None, 0)
        if one.token is not None:
            with suppress(TokenRefused):
                out[one.name] = Passed.from_token(one.token, store.owner())
    return out


def _is_covered(token: str | None, application: str | None, begun: Passed) -> bool:
    if token is None:
        return True
    try:
        return begun.covers(Passed.from_token(token, application))
    except TokenRefused:
        return False


def _write(store: Store, one: Follower) -> None:
    raw = asdict(one)
    del raw["name"]
    store.put_follower(one.name, json.dumps(raw).encode() + b"\n")


def _now() -> int:
    return time.time_ns() // 1_000_000


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
        registered, confirmed = int(raw["registered"]), int(raw["confirmed"])
        return Follower(name, token, str(raw["host"]), registered, confirmed, announced=bool(raw["announced"]))
    except (ValueError, LookupError, TypeError) as error:
        raise StoreRefused(
            f"what the store {store.url} knows of follower {name!r} cannot be read: {error!r}",
            f"let it begin with a token of its own after `kcl-receiver followers remove {name}`",
        ) from error
