"""The socket at which processors find the generator, for as long as its lock is ours.

Both are files that others can remove: below /tmp that happens by itself. A socket that is gone is made again; a lock
that another generator has now ends this one.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import stat
from collections.abc import Callable
from pathlib import Path

from kcl_receiver.config.paths import private_directory
from kcl_receiver.errors import EnvironmentProblem, ReceiverError
from kcl_receiver.generator.connection import Connection

log = logging.getLogger("kcl_receiver.generator")

CHECK_SECONDS = 1.0
BACKLOG = 1024
ACCEPTED_AT_ONCE = 32
"""asyncio accepts so many before the first of them can be hung up on; a few such turns fit the spare descriptors."""


class Listening:
    """Accepts connections on asyncio's loop.

    Args:
        path: Where to listen.
        accept: Makes the generator's end of a connection.
        look_after: Called every second: sees that the lock is still ours, and raises EnvironmentProblem if it is not.
        stop: Told when it is not.
    """

    def __init__(
        self,
        path: Path,
        accept: Callable[[], Connection],
        look_after: Callable[[], None],
        stop: Callable[[ReceiverError], None],
    ) -> None:
        self._path = path
        self._accept = accept
        self._look_after = look_after
        self._stop = stop
        self._server: asyncio.Server | None = None
        self._inode = 0

    async def open(self) -> None:
        """Begin to listen.

        Raises:
            EnvironmentProblem: There is no place for the socket.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # The lock is held: a socket file that is here is left over.
            private_directory(str(self._path.parent))
            self._path.unlink(missing_ok=True)
            listener.bind(str(self._path))
            self._path.chmod(0o600)
            self._inode = self._path.stat().st_ino
        except OSError as error:
            listener.close()
            raise EnvironmentProblem(
                f"{self._path} can't be listened on: {error.strerror or error}",
                "receiver.socket needs a directory of its own that this user can write, and at most 107 bytes",
            ) from error
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(self._accept, sock=listener, backlog=ACCEPTED_AT_ONCE)
        listener.listen(BACKLOG)  # whoever connects without waiting, as processors do, must find room in the queue

    async def watch(self) -> None:
        """See that lock and socket are where processors and other generators look for them."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            try:
                self._look_after()
            except EnvironmentProblem as error:
                # Another one has our lock, because ours was removed: what we have not stored is read again.
                log.error("the generator stops: %s", error)
                self._stop(error)
                return
            try:
                there = self._path.lstat()
                if stat.S_ISSOCK(there.st_mode) and there.st_ino == self._inode:
                    continue
            except FileNotFoundError:
                pass
            except OSError:
                continue  # it cannot be told at this moment
            log.warning("the socket %s was removed by somebody; listening again", self._path)
            self.close()
            try:
                await self.open()
            except EnvironmentProblem as error:
                log.warning("%s; tried again in a second: whoever is connected is served", error)  # a full disk

    def close(self) -> None:
        """Accept no more; connections that are open stay so."""
        if self._server is not None:
            self._server.close()

    def remove(self) -> None:
        """Take the socket's file away."""
        self._path.unlink(missing_ok=True)
