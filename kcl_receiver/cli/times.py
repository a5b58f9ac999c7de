"""Times and ages as people write them on a command line."""

from __future__ import annotations

import re
from datetime import datetime, timezone

import click

_AGE = re.compile(r"([0-9]{1,9})(s|m|h|d)", re.ASCII)
_MILLIS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def age_millis(text: str) -> int:
    """Return an age such as 90s, 15m, 12h or 30d in milliseconds.

    Raises:
        click.BadParameter: It is none.
    """
    found = _AGE.fullmatch(text)
    if found is None:
        raise click.BadParameter(f"{text!r} is not an age: write 90s, 15m, 12h or 30d")
    return int(found[1]) * _MILLIS[found[2]]


def time_millis(text: str, now_ms: int) -> int:
    """Return a time in milliseconds since the epoch: ISO 8601, UTC unless it says otherwise, or an age.

    Raises:
        click.BadParameter: It is neither.
    """
    if _AGE.fullmatch(text):
        return now_ms - age_millis(text)
    try:
        # Python 3.10 does not know the Z.
        found = datetime.fromisoformat(re.sub(r"[zZ]\Z", "+00:00", text))
        return int((found if found.tzinfo else found.replace(tzinfo=timezone.utc)).timestamp() * 1000)
    except (ValueError, OverflowError, OSError) as error:
        raise click.BadParameter(
            f"{text!r} is neither a time, such as 2026-11-22 or 2026-11-22T13:15:00Z, nor an age, such as 30d"
        ) from error


def day_text(text: str) -> str:
    """Return a day as directories are named, `YYYY-MM-DD`.

    Raises:
        click.BadParameter: It is none.
    """
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII):
            return f"{datetime.strptime(text, '%Y-%m-%d'):%Y-%m-%d}"  # noqa: DTZ007 - a day, no time
    except ValueError:
        pass
    raise click.BadParameter(f"{text!r} is not a day: write 2026-11-22")


def shown_time(milliseconds: int) -> str:
    """Return a time for people; `-` if it is not known."""
    if not 0 <= milliseconds < 253_402_300_800_000:
        return "-"
    return datetime.fromtimestamp(milliseconds / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
