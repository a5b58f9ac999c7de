"""What a host remembers of its own writers, on its own disk: a store that others share does not say whose they are."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from kcl_receiver.errors import StoreUnavailable

if TYPE_CHECKING:
    from simulation.disk import SimFiles

PATH = Path("/data/writers.json")
_NEW = Path("/data/writers.json.new")


class OwnWriters:
    """The ids of a host's writers. They survive whatever kills a process, and a loss of power once they are noted.

    Args:
        files: The host's disk.
    """

    def __init__(self, files: SimFiles) -> None:
        self._files = files

    def read(self) -> list[str]:
        """Return the ids that were noted last."""
        if self._files.size(PATH) is None:
            return []
        found: list[str] = json.loads(self._files.read(PATH))
        return found

    def note(self, writers: Iterable[str]) -> None:
        """Keep these ids.

        Raises:
            StoreUnavailable: They are not known to be kept.
        """
        try:
            if self._files.size(_NEW) is not None:
                self._files.unlink(_NEW)
            handle = self._files.create(_NEW)
            self._files.write(handle, json.dumps(list(writers)).encode())
            self._files.fsync(handle)
            self._files.close(handle)
            self._files.rename(_NEW, PATH)
            self._files.fsync_dir(PATH.parent)
        except OSError as error:
            raise StoreUnavailable(f"{PATH} was not written: {error}") from error
