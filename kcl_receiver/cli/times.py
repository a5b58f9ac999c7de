"""Times, ages and days as types of click options, so that an error names the option."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from kcl_receiver.times import age_millis, day_text, time_millis

if TYPE_CHECKING:
    TypeBase = click.ParamType[Any]  # only newer versions of click can be asked so at run time
else:
    TypeBase = click.ParamType


class _Parsed(TypeBase):
    """A type whose values come from one function, which raises ValueError with the reason."""

    def __init__(self, name: str, parse: Callable[[str], int | str]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """See click."""
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


AGE = _Parsed("age", age_millis)
"""`90s`, `15m`, `12h`, `30d`; arrives in milliseconds."""

TIME = _Parsed("time", lambda text: time_millis(text, time.time_ns() // 1_000_000))
"""ISO 8601 or an age; arrives in milliseconds since the epoch."""

DAY = _Parsed("day", day_text)
"""`2026-11-22`; arrives as that text."""
