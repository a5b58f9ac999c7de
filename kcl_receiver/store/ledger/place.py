"""How far the ledgers of a store were read: a `Place`; with the maintenance log `Passed`, and its form in a token.

Several ledgers grow at once, so a place is a number of lines for each of them. The rule: only ledgers that may still
grow are in it, so that it does not get larger as the store gets older.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from kcl_receiver.errors import TokenRefused
from kcl_receiver.ids import check_writer_id

_VERSION = 3
_T = TypeVar("_T")


class Place(NamedTuple):
    """How far the ledgers were read.

    Attributes:
        last: All ledgers of the writers up to this one were read, but for those in `lines`; empty if none was.
        lines: By writer, how many lines were read of a ledger that may still grow, or of which not all was read.
        day: What maintenance did on the days before this one was taken in, `YYYY-MM-DD`; empty if nothing was.
    """

    last: str
    lines: Mapping[str, int]
    day: str

    def past(self, writer: str) -> Place:
        """Return the place behind one more line of a writer."""
        return self._replace(lines={**self.lines, writer: self.lines.get(writer, 0) + 1})

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads back."""
        return {"last": self.last, "lines": dict(self.lines), "day": self.day}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Place:
        """Return the place that `to_json` returned.

        Raises:
            ValueError: It is none, as all of LookupError, TypeError, AttributeError, OverflowError say, too.
        """
        last = raw["last"]
        lines = {check_writer_id(writer): max(0, int(line)) for writer, line in raw["lines"].items()}
        return cls(check_writer_id(last) if last else "", lines, str(raw["day"]))


class Passed(NamedTuple):
    """What of a store's changes a follower has taken in.

    Attributes:
        place: How far it has read the generators' ledgers; None if it has read nothing.
        maintenance: The number of the last entry of the maintenance log that it has seen.
    """

    place: Place | None
    maintenance: int

    def has_line(self, writer: str, number: int) -> bool:
        """Return whether a line of a generator's ledger was read."""
        if self.place is None:
            return False
        lines = self.place.lines.get(writer)
        return writer <= self.place.last if lines is None else number <= lines

    def covers(self, other: Passed) -> bool:
        """Return whether all that the other one has taken in is taken in here."""
        if self.maintenance < other.maintenance:
            return False
        if self.place is None or other.place is None:
            return other.place is None
        there = other.place
        return (
            self.place.last >= there.last
            and all(self.has_line(writer, number) for writer, number in there.lines.items() if number)
            and all(writer > there.last or writer in there.lines for writer in self.place.lines)
        )

    def to_token(self, application: str | None) -> str:
        """Return the text that `from_token` reads back."""
        place = None if self.place is None else self.place.to_json()
        raw = {"version": _VERSION, "application": application, "ledgers": place, "maintenance": self.maintenance}
        return json.dumps(raw, separators=(",", ":"))

    @classmethod
    def from_token(cls, token: str, application: str | None) -> Passed:
        """Return what a token of the store of an application says.

        Raises:
            TokenRefused: It is none, or of another store.
        """

        def read(raw: dict[str, Any]) -> tuple[Passed, str | None]:
            place = None if raw["ledgers"] is None else Place.from_json(raw["ledgers"])
            return cls(place, max(0, int(raw["maintenance"]))), raw["application"]

        hint = "give the whole text as it came from `Changes.token`; to begin anew give none"
        found, owner = read_token(token, _VERSION, read, "`follow`", hint)
        if owner is not None and owner != application:
            raise TokenRefused(
                f"the token is for the store of application {owner!r}; this one is that of {application!r}",
                "give it the store that it came from",
            )
        return found


def read_token(token: str, version: int, read: Callable[[dict[str, Any]], _T], whose: str, hint: str) -> _T:
    """Return what a token says that is a JSON object with `version`.

    Args:
        token: Its text.
        version: The version that this program knows.
        read: Returns what the object says; whatever it meets that is not as it should be, it may raise as it comes.
        whose: Whose token it is, for the message.
        hint: What to do if it is none.

    Raises:
        TokenRefused: It is none, or of another version.
    """
    try:
        raw = json.loads(token)
        if raw["version"] != version:
            raise ValueError(f"it is of version {raw['version']!r}, and this program knows {version}")
        return read(raw)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise TokenRefused(f"this is not a token of {whose}: {error}", hint) from error
