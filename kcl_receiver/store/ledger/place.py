"""How far the ledgers of a store were read: a `Place`, and its form in a token.

Several ledgers grow at once, so a place is a number of lines for each of them. The rule: only ledgers that may still
grow are in it, so that it does not get larger as the store gets older.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from kcl_receiver.ids import check_writer_id


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
