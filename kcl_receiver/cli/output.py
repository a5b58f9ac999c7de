"""What is printed of values that somebody else chose."""

from __future__ import annotations

LONGEST = 2_000
"""Characters of a message that are shown; what is longer repeats a value that nobody would type."""


def printable(message: str) -> str:
    """Return a message that moves no cursor and fills no screen, whatever value it repeats."""
    text = "".join(
        one if one.isprintable() or one == "\n" else one.encode("unicode_escape").decode() for one in message
    )
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} [...] {text[-LONGEST // 2 :]}"
