"""Followers that a store knows by name, and how far each has come: `expire` leaves what one of them has not taken in.

A follower's place is a document of its own, which it alone writes anew. The place lags behind: what was taken in since
is handed out once more after a crash, and stays a little longer. The rule: a follower is written down, then an entry of
the maintenance log follows, and then it begins to read. A run of `expire` reads all entries before it records its own,
so it knows every follower that can still miss what it removes.

What was confirmed can arrive late, when the follower has begun anew further back, or was removed. So each time that it
is written down it gets the next number of its name, and confirms under that alone: the newest number counts. A removal
has a number, too.
"""

from __future__ import annotations

import json
import re
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace

from kcl_receiver.errors import ConfigError, StoreRefused, StoreUnavailable, TokenRefused
from kcl_receiver.store.ledger.place import Passed
from kcl_receiver.store.ledger.transaction import announce
from kcl_receiver.store.store import Store

_REMOVED = b"{}\n"
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
        number: So often it was written down, and removed.
    """

    name: str
    token: str | None
    host: str
    registered: int
    confirmed: int
    announced: bool
    number: int


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
    newest = dict(store.followers())  # in order: the greatest number comes last
    found = (_read(store, name, number) for name, number in newest.items())
    return [one for one in found if one is not None]


def find_follower(store: Store, name: str) -> Follower | None:
    """Return a follower, or None if the store knows none of that name.

    Raises:
        StoreRefused: See `followers`.
        StoreUnavailable: See `followers`.
    """
    number = _newest(store, check_name(name))
    return _read(store, name, number) if number else None


def confirm(store: Store, name: str, token: str | None, number: int) -> None:
    """Write down how far a follower has come. Repeatable.

    Args:
        store: The store.
        name: Its name.
        token: `Changes.token`.
        number: What `register` returned.

    Raises:
        StoreRefused: The store knows it no longer.
        StoreUnavailable: It is not known to be durable; try again.
    """
    known = find_follower(store, name)
    if known is None or known.number != number:
        why = "was removed from" if known is None else "has begun anew elsewhere, in"
        raise StoreRefused(
            f"follower {name!r} {why} the store {store.url}",
            "what it has not taken in may be gone; if it is to go on, call `follow` again with its token",
        )
    _write(store, replace(known, token=token, host=socket.gethostname(), confirmed=_now(), announced=True))


def register(store: Store, name: str, begun: Passed | None) -> tuple[Passed, int]:
    """Let a store know a follower that is about to read; return from where it reads, and its number. Repeatable.

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
        one = Follower(name, token, socket.gethostname(), since, now, announced=False, number=_newest(store, name) + 1)
        _write(store, one)
        announce(store, name, now)
        known = replace(one, announced=True)
        _write(store, known)
        _forget_before(store, known)
    return begun, known.number


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
    del raw["name"], raw["number"]
    store.put_follower(one.name, one.number, json.dumps(raw).encode() + b"\n")


def _now() -> int:
    return time.time_ns() // 1_000_000


def remove_follower(store: Store, name: str) -> None:
    """Forget a follower: `expire` waits for it no longer.

    Raises:
        StoreRefused: The store knows none of that name.
        StoreUnavailable: It is not known to be gone; try again.
    """
    number = _newest(store, check_name(name))
    if not number or store.follower(name, number) == _REMOVED:
        raise StoreRefused(f"the store {store.url} knows no follower {name!r}", "`kcl-receiver followers list` has all")
    store.put_follower(name, number + 1, _REMOVED)
    store.delete_follower(name, range(1, number + 1))


def _newest(store: Store, name: str) -> int:
    return max((number for one, number in store.followers() if one == name), default=0)


def _forget_before(store: Store, one: Follower) -> None:
    with suppress(StoreUnavailable):  # they say nothing any more
        store.delete_follower(one.name, range(1, one.number))


def _read(store: Store, name: str, number: int) -> Follower | None:
    content = store.follower(name, number)
    if content is None or content == _REMOVED:
        return None
    try:
        raw = json.loads(content)
        token = raw["token"]
        if token is not None and not isinstance(token, str):
            raise TypeError("its token is no text")
        registered, confirmed = int(raw["registered"]), int(raw["confirmed"])
        announced = bool(raw["announced"])
        return Follower(name, token, str(raw["host"]), registered, confirmed, announced=announced, number=number)
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        raise StoreRefused(
            f"what the store {store.url} knows of follower {name!r} cannot be read: {error!r}",
            f"let it begin with a token of its own after `kcl-receiver followers remove {name}`",
        ) from error
