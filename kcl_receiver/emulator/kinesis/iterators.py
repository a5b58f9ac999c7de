"""Shard iterators: sealed notes that say where to read on, so that the model keeps no state for them.

A token is the base64 of stream, its creation time, shard, position and time of issue, and of a keyed hash over them: a
changed or invented token is found out, as the service finds it out.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from typing import NamedTuple

from kcl_receiver.emulator.kinesis.errors import ServiceError, invalid

_SEAL_BYTES = 16


class Iterator(NamedTuple):
    """Where to read on.

    Attributes:
        stream: Name of the stream.
        created: Its creation time (ms), so that a stream made again is not read with an old iterator.
        shard: Shard id.
        position: Sequence number to read from, inclusive.
        issued: When the iterator was made, ms.
        serial: Rises with every page, so that no two iterators of a reader are alike.
    """

    stream: str
    created: int
    shard: str
    position: int
    issued: int
    serial: int = 0


class IteratorSeal:
    """Writes and reads tokens.

    Args:
        key: Secret of the hash; the same key reads tokens again after a restart.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def _hash(self, body: bytes) -> bytes:
        return hashlib.blake2b(body, key=self._key, digest_size=_SEAL_BYTES).digest()

    def seal(self, iterator: Iterator) -> str:
        """Return the token of an iterator."""
        fields = [*iterator]
        fields[3] = str(iterator.position)
        body = json.dumps(fields, separators=(",", ":")).encode("utf-8")
        return base64.b64encode(self._hash(body) + body).decode("ascii")

    def open(self, token: str) -> Iterator:
        """Return the iterator of a token; as in the service it may stand in quotes.

        Raises:
            ServiceError: InvalidArgumentException; this model has not made the token.
        """
        try:
            raw = base64.b64decode(token.strip('"'), validate=True)
        except (binascii.Error, ValueError):
            raise _refused() from None
        seal, body = raw[:_SEAL_BYTES], raw[_SEAL_BYTES:]
        if not hmac.compare_digest(seal, self._hash(body)):
            raise _refused()
        stream, created, shard, position, issued, serial = json.loads(body)
        return Iterator(stream, created, shard, int(position), issued, serial)


def _refused() -> ServiceError:
    return invalid("Invalid ShardIterator.")
