"""The two ways in which producers put user records: one to a Kinesis record, or several in one KPL aggregate.

KCL takes aggregates apart, so what a processor gets of one are records of one sequence number, whose sub-sequence
numbers rise from 0. Tests that must hold for both ways are parametrised by `forms`.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from kcl_receiver.ranges import Position


@dataclass(frozen=True)
class Form:
    """One way; `subs` is the number of user records in each Kinesis record."""

    name: str
    subs: int

    def records(self, *numbers: int) -> list[tuple[int, int]]:
        """Return all user records of the Kinesis records with these sequence numbers."""
        return [(number, sub) for number in numbers for sub in range(self.subs)]

    def positions(self, *numbers: int) -> list[Position]:
        """Return the same as positions."""
        return [Position(*one) for one in self.records(*numbers)]

    def end(self, number: int) -> Position:
        """Return the position that ends a Kinesis record: where a checkpoint may be."""
        return Position(number, self.subs - 1)


PLAIN = Form("plain", 1)
AGGREGATED = Form("aggregated", 3)

forms = pytest.mark.parametrize("form", [PLAIN, AGGREGATED], ids=lambda form: form.name)
