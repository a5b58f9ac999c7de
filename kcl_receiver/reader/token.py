"""What a reader keeps to go on exactly where it stopped: a small JSON text.

    version       1
    application   whose store it is
    stream        arn and created: sequence numbers of another stream mean nothing here
    positions     by shard, the position through which it was read
    ledger        writer and line of the ledger before which nothing matters any more
    shards        the shards that were asked for, or null for all
    start         where reading began: {"time": ms}, {"positions": {...}} or null

The rule: what a token lets a reader leave out was handed out, or passed, before the token was made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from kcl_receiver.errors import TokenRefused
from kcl_receiver.ranges import Position, StreamIdentity, parse_position
from kcl_receiver.reader.plan import Place
from kcl_receiver.store.names import check_writer_id

TOKEN_VERSION = 1

Start = int | dict[str, Position] | None
"""Where reading begins: a time in milliseconds since the epoch, the first position by shard, or the first record."""


@dataclass(frozen=True, slots=True)
class Token:
    """See the module."""

    application: str | None
    stream: StreamIdentity
    positions: Mapping[str, Position]
    place: Place | None
    shards: tuple[str, ...] | None
    start: Start

    def to_text(self) -> str:
        """Return the text that `from_text` reads back."""
        start: dict[str, object] | None = None
        if isinstance(self.start, int):
            start = {"time": self.start}
        elif self.start is not None:
            start = {"positions": _to_json(self.start)}
        return json.dumps(
            {
                "version": TOKEN_VERSION,
                "application": self.application,
                "stream": {"arn": self.stream.arn, "created": self.stream.created},
                "positions": _to_json(self.positions),
                "ledger": None if self.place is None else {"writer": self.place.writer, "line": self.place.line},
                "shards": self.shards,
                "start": start,
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_text(cls, text: str) -> Token:
        """Return the token that `to_text` wrote.

        Raises:
            TokenRefused: It is none, or of another version.
        """
        try:
            raw = json.loads(text)
            if raw["version"] != TOKEN_VERSION:
                raise ValueError(f"it is of version {raw['version']!r}, and this program knows {TOKEN_VERSION}")
            ledger, shards, start = raw["ledger"], raw["shards"], raw["start"]
            if start is not None:
                start = int(start["time"]) if "time" in start else _from_json(start["positions"])
            return cls(
                raw["application"],
                StreamIdentity(str(raw["stream"]["arn"]), int(raw["stream"]["created"])),
                _from_json(raw["positions"]),
                None if ledger is None else Place(check_writer_id(ledger["writer"]), max(1, int(ledger["line"]))),
                None if shards is None else tuple(map(str, shards)),
                start,
            )
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise TokenRefused(
                f"this is not a token of a reader: {error}",
                "give the whole text as it came from the reader; to read from the beginning give none",
            ) from error


def _to_json(positions: Mapping[str, Position]) -> dict[str, str]:
    return {shard: str(position) for shard, position in positions.items()}


def _from_json(raw: dict[str, str]) -> dict[str, Position]:
    return {str(shard): parse_position(position) for shard, position in raw.items()}
