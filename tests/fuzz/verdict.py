"""What counts as broken, and the count of the errors that were named as they should be."""

from __future__ import annotations

import re
from collections import Counter

from kcl_receiver.errors import ReceiverError

MAX_KINDS = 400
"""Kinds of errors that are told apart in a tally; a bound for it, not for the code."""

_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\([^()]*\)|\{.*\}|\[.*\]", re.DOTALL)
_NUMBER = re.compile(r"-?\d[\d:.]*")


class Broken(AssertionError):
    """A promise that an input has broken. Every other exception that leaves a target is one as well."""


def check(condition: object, what: str) -> None:
    """Raise Broken unless the condition holds."""
    if not condition:
        raise Broken(what)


def kind_of(name: str, message: str) -> str:
    """Return an error without what is of one input alone: numbers, and what it quotes."""
    message = message.replace("can't", "cannot").partition(": b'")[0]
    return f"{name}: {_NUMBER.sub('#', _QUOTED.sub('…', message[:300]))[:90]}"


class Tally:
    """Counts the errors that inputs were answered with, and how far inputs got."""

    def __init__(self) -> None:
        self.errors: Counter[str] = Counter()
        self.reached: Counter[str] = Counter()

    def named(self, error: ReceiverError, *allowed: type[ReceiverError]) -> None:
        """Count an error, which must be one of those that this place may raise, and must say what was wrong."""
        if not isinstance(error, allowed):
            raise Broken(f"{type(error).__name__} is not an error for this place: {error}") from error
        self.said(type(error).__name__, error.message)

    def said(self, name: str, message: str) -> None:
        """Count an error that was told by its name."""
        check(message.strip(), f"{name} says nothing")
        kind = kind_of(name, message)
        if kind in self.errors or len(self.errors) < MAX_KINDS:
            self.errors[kind] += 1
        else:
            self.errors[f"{name}: (others)"] += 1
