"""The properties file that `run` gives to the daemon: the user's, with what only `run` can know put in.

The user's file stays as it is, and processors and generator go on reading that one; this copy is for the daemon alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import javaproperties

from kcl_receiver.config.paths import SUPERVISED
from kcl_receiver.config.properties import ReceiverConfig
from kcl_receiver.daemon.executable import PROCESSOR, search_path
from kcl_receiver.errors import EnvironmentProblem, StoreRefused

if TYPE_CHECKING:
    from kcl_receiver.store.store import Store

EFFECTIVE_NAME = "daemon.properties"
WORKER_DOCUMENT = "worker.json"
"""The store's document that tells its workers from those of other stores."""

MACHINE_ID = Path("/etc/machine-id")


def store_token(store: Store) -> str:
    """Return what the store is known by in the names of its workers: random, made by the first `run`, kept in it.

    Raises:
        StoreUnavailable: The store cannot be read or written now.
        StoreRefused: The document in it is not ours.
    """
    found = store.put_document_if_absent(WORKER_DOCUMENT, json.dumps({"token": secrets.token_hex(8)}).encode() + b"\n")
    try:
        token = json.loads(found)["token"]
        if not isinstance(token, str):
            raise TypeError(f"the token is {token!r}")
    except (ValueError, KeyError, TypeError) as error:
        raise StoreRefused(
            f"{WORKER_DOCUMENT} in {store.url} does not hold a token: {error}",
            "remove it: the next start makes another, and its worker begins under a new name",
        ) from error
    return token


def worker_id(config: ReceiverConfig, token: str = "", host: str | None = None) -> str:
    """Return KCL's name for this worker: unique to host, user, application, socket and store; the same at every start.

    The same, because a worker that comes back under its old name goes on with its own leases at once. The socket is in
    it, because the lock that keeps a second daemon away lies beside it. The store is, because two containers of one
    image may have the rest in common; where they share the store as well, the second one's generator cannot hold it,
    and its daemon is not started.

    Args:
        config: The settings.
        token: What `store_token` returned.
        host: Another host's name than this one's.
    """
    host = platform.node() if host is None else host
    machine = MACHINE_ID.read_text(encoding="ascii", errors="replace").strip() if MACHINE_ID.is_file() else ""
    parts = (host, machine, str(os.getuid()), config.application_name, str(config.socket), token)
    return f"{host or 'host'}-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:12]}"


def is_own_worker(config: ReceiverConfig, owner: str) -> bool:
    """Tell whether a lease's owner is this host's daemon, started by `run` or by a plain java launch.

    Where the name that `run` has given is not at hand, every name counts that a `run` or a KCL of this host may have:
    to take another host's shards for ours makes a noise, to take ours for another's keeps silent.
    """
    if config.worker_id is not None:
        return owner == config.worker_id
    host = re.escape(platform.node() or "host")
    given = _given_worker(config)
    # KCL makes one up by itself: the host's name, perhaps with its domain, a colon and something random.
    return owner == given or re.fullmatch(rf"{host}(?:[:.].*{'' if given else '|-[0-9a-f]{12}'})", owner) is not None


def _given_worker(config: ReceiverConfig) -> str | None:
    """Return the workerId that `run` gave to the daemon of this host, None if that is not known."""
    try:
        keys = javaproperties.loads((config.socket.parent / EFFECTIVE_NAME).read_bytes())
    except (OSError, ValueError):
        return None
    return keys.get("workerId") or None


def overrides(config: ReceiverConfig, start_millis: int | None = None, token: str = "") -> dict[str, str | None]:
    """Return the keys that `run` sets or, where the value is None, takes out.

    Args:
        config: The user's settings.
        start_millis: What `start.pin` returned, if the user's position is LATEST.
        token: What `store_token` returned.
    """
    changed: dict[str, str | None] = {}
    if config.worker_id is None:
        changed["workerId"] = worker_id(config, token)
    if start_millis is not None:
        changed["initialPositionInStream"] = None
        changed["initialPositionInStreamExtended"] = str(start_millis // 1000)
    words = config.executable_name.split()
    if words and Path(words[0]).name == PROCESSOR:
        # The whole path, so that it does not matter in which directory the daemon was started.
        changed["executableName"] = f"{words[0]} --properties {config.path}"
    return changed


def write_effective(config: ReceiverConfig, changed: Mapping[str, str | None], directory: Path) -> Path:
    """Write the daemon's properties file, readable by this user alone, and return its path.

    Written whole or not at all. Keys of the receiver are left out: the daemon does not know them, and their relative
    paths would mean something else here.

    Raises:
        EnvironmentProblem: It cannot be written.
    """
    keys = {key: value for key, value in config.raw.items() if not key.startswith("receiver.")} | dict(changed)
    text = javaproperties.dumps(
        {key: value for key, value in keys.items() if value is not None},
        comments=f"Made by kcl-receiver run out of {config.path}: change that one.",
        timestamp=False,
    )
    path = directory / EFFECTIVE_NAME
    temporary = directory / f"{EFFECTIVE_NAME}.{os.getpid()}"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="latin-1") as file:
            file.write(text)
        temporary.replace(path)
    except OSError as error:
        raise EnvironmentProblem(
            f"{path} cannot be written: {error.strerror}", "make room, or: receiver.socket = PATH elsewhere"
        ) from error
    return path


def daemon_environment(generator_log: str = "1") -> dict[str, str]:
    """Return the environment of the daemon and its children.

    It is ours, with the directory of our own programs first on the PATH, and with the word that the generator is
    looked after: KCL may start processors while it stops, after the generator has left, and they must start none.

    Args:
        generator_log: The generator's log, which processors name.
    """
    return {**os.environ, "PATH": search_path(), SUPERVISED: generator_log}
