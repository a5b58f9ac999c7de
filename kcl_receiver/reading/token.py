"""What a reader keeps to go on exactly where it stopped: a small JSON text.

    version       3
    application   whose store it is
    stream        arn and created: sequence numbers of another stream mean nothing here
    positions     by shard, the position through which it was read
    ledgers       how far the ledgers were read, before which nothing matters any more; see `Place`
    maintenance   the last entry of the maintenance log that does not matter any more either
    shards        the shards that were asked for, or null for all
    start, end    where reading began, and where it was to end: {"time": ms}, {"positions": {...}} or null

The rule: what a token lets a reader leave out was handed out, or passed, before the token was made. What was passed was
passed because of where the reading was to begin and to end, and of its shards: so those belong to the token.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kcl_receiver.errors import TokenRefused
from kcl_receiver.ranges import Position, StreamIdentity, parse_position
from kcl_receiver.store.ledger.place import Place, read_token

TOKEN_VERSION = 3

Limit = int | dict[str, Position] | None
"""Where reading begins or ends: a time in milliseconds since the epoch, a position by shard, or with the records."""


@dataclass(frozen=True, slots=True)
class Token:
    """See the module."""

    application: str | None
    stream: StreamIdentity
    positions: Mapping[str, Position]
    place: Place | None
    shards: tuple[str, ...] | None
    start: Limit
    end: Limit = None
    maintained: int = 0

    def require(
        self,
        application: str | None,
        store: str,
        stream: StreamIdentity | None,
        shards: frozenset[str] | None,
        end: Limit,
    ) -> None:
        """See that a reading can resume with it.

        Args:
            application: Whose store it is that is to be read, None if nobody has claimed it.
            store: That store, for the message.
            stream: The stream that was asked for, None if there is none yet.
            shards: The shards that were asked for, None for all.
            end: Where the reading is to end.

        Raises:
            TokenRefused: It is for another reading.
        """
        if self.application is not None and self.application != application:
            raise TokenRefused(
                f"the token is for the store of application {self.application!r}; {store} is that of {application!r}",
                "give it the store that it came from",
            )
        if stream is not None and self.stream.arn and self.stream != stream:
            raise TokenRefused(
                f"the token is for stream {self.stream}, and {stream} was asked for",
                "read the other stream without it",
            )
        if self.shards is not None and shards is not None and not shards <= set(self.shards):
            more = ", ".join(sorted(shards - set(self.shards)))
            raise TokenRefused(f"the reader that made the token did not read {more}", "read these shards without it")
        if self.end != end and not (self.end is None or end is None):
            raise TokenRefused(
                "the reading that the token is of was to end elsewhere", "go on with the same end, or none"
            )

    def to_text(self) -> str:
        """Return the text that `from_text` reads back."""
        return json.dumps(
            {
                "version": TOKEN_VERSION,
                "application": self.application,
                "stream": {"arn": self.stream.arn, "created": self.stream.created},
                "positions": _to_json(self.positions),
                "ledgers": None if self.place is None else self.place.to_json(),
                "maintenance": self.maintained,
                "shards": self.shards,
                "start": _limit_to_json(self.start),
                "end": _limit_to_json(self.end),
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_text(cls, text: str) -> Token:
        """Return the token that `to_text` wrote.

        Raises:
            TokenRefused: It is none, or of another version.
        """

        def read(raw: dict[str, Any]) -> Token:
            ledgers, shards = raw["ledgers"], raw["shards"]
            return cls(
                raw["application"],
                StreamIdentity(str(raw["stream"]["arn"]), int(raw["stream"]["created"])),
                _from_json(raw["positions"]),
                None if ledgers is None else Place.from_json(ledgers),
                None if shards is None else tuple(map(str, shards)),
                _limit_from_json(raw["start"]),
                _limit_from_json(raw["end"]),
                max(0, int(raw["maintenance"])),
            )

        hint = "give the whole text as it came from the reader; to read from the beginning give none"
        return read_token(text, TOKEN_VERSION, read, "a reader", hint)


def _to_json(positions: Mapping[str, Position]) -> dict[str, str]:
    return {shard: str(position) for shard, position in positions.items()}


def _from_json(raw: dict[str, str]) -> dict[str, Position]:
    return {str(shard): parse_position(position) for shard, position in raw.items()}


def _limit_to_json(limit: Limit) -> dict[str, object] | None:
    if isinstance(limit, int):
        return {"time": limit}
    return None if limit is None else {"positions": _to_json(limit)}


def _limit_from_json(raw: dict[str, Any] | None) -> Limit:
    if raw is None:
        return None
    return int(raw["time"]) if "time" in raw else _from_json(raw["positions"])
