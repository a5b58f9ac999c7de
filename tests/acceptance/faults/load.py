"""Records that keep coming: a producer in a thread, who lives through an AWS that is away."""

from __future__ import annotations

import random
import threading
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from kcl_receiver.emulator.producer import Acknowledged, Producer

BATCH = 40
"""Most records that are put at once."""
PAUSE_SECONDS = (0.1, 0.3)
"""Between two puts, at random."""


class Load:
    """Puts records from `start` to `stop`, some plain and some aggregated, of all sizes.

    Args:
        client: boto3 client for Kinesis.
        stream: Name of the stream.
        seed: Decides records and pauses.
    """

    def __init__(self, client: Any, stream: str, seed: int) -> None:  # noqa: ANN401 - boto3
        self._producer = Producer(client, stream, seed)
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._put, name="load", daemon=True)
        self._failure: Exception | None = None
        self.refused = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what was acknowledged is all on the list then.

        Raises:
            RuntimeError: The producer ended by itself.
        """
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self.check()

    def abandon(self) -> None:
        """End, whatever happened."""
        self._stop.set()

    def check(self) -> None:
        """See that it works still."""
        if self._failure is not None:
            raise RuntimeError("the producer of records failed") from self._failure

    @property
    def count(self) -> int:
        """Number of user records that were acknowledged."""
        return len(self._producer.acknowledged)

    def acknowledged(self, first: int | None = None) -> list[Acknowledged]:
        """Return what was acknowledged, all or the first so many."""
        return self._producer.acknowledged[:first]

    def _put(self) -> None:
        while not self._stop.wait(self._random.uniform(*PAUSE_SECONDS)):
            try:
                self._producer.put(self._random.randint(1, BATCH))
            except (BotoCoreError, ClientError):
                # AWS is away. The records of this put are not on the list, though some may be in the stream.
                self.refused += 1
            except Exception as error:  # noqa: BLE001 - told by `check`, in the main thread
                self._failure = error
                return
