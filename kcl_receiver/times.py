"""Times and ages as people write them, in one form for the command line and for Python.

A time is ISO 8601, in UTC unless it says otherwise: `2026-11-22`, `2026-11-22T13:15:01Z`. An age is a whole number with
a unit: `90s`, `15m`, `12h`, `30d`. Both are milliseconds since the epoch in the end, and never before it.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
END_MS = 253_402_300_800_000
"""The year 10000, which no `datetime` can hold."""

_AGE = re.compile(r"([0-9]{1,9})([smhd])", re.ASCII)
_MILLIS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
# Spelled out, because what datetime.fromisoformat takes differs from one Python to the next.
_TIME = re.compile(
    r"(?P<day>\d{4}-\d{2}-\d{2})"
    r"(?:[T ](?P<time>\d{2}:\d{2}(?::\d{2})?)(?:[.,](?P<fraction>\d{1,9}))?)?"
    r"(?P<zone>[zZ]|[+-]\d{2}:\d{2})?",
    re.ASCII,
)


def age_millis(text: str) -> int:
    """Return an age such as 90s, 15m, 12h or 30d in milliseconds.

    Raises:
        ValueError: It is none.
    """
    found = _AGE.fullmatch(text)
    if found is None:
        raise ValueError(f"{_shown(text)} is not an age: write 90s, 15m, 12h or 30d")
    return int(found[1]) * _MILLIS[found[2]]


def time_millis(text: str, now_ms: int) -> int:
    """Return a time in milliseconds since the epoch: ISO 8601, or an age that is counted back from now.

    Raises:
        ValueError: It is neither, or it lies before 1970.
    """
    millis = now_ms - age_millis(text) if _AGE.fullmatch(text) else _iso_millis(text)
    if millis < 0:
        raise ValueError(f"{_shown(text)} lies before 1970, when no stream had a record")
    return millis


def millis_of(moment: datetime) -> int:
    """Return a datetime with a zone in milliseconds since the epoch.

    Raises:
        ValueError: It has no zone, or it lies before 1970.
    """
    if moment.utcoffset() is None:
        raise ValueError(f"{moment.isoformat()} has no zone: write datetime(…, tzinfo=timezone.utc)")
    millis = (moment - EPOCH) // timedelta(milliseconds=1)
    if millis < 0:
        raise ValueError(f"{moment.isoformat()} lies before 1970, when no stream had a record")
    return millis


def day_text(text: str) -> str:
    """Return a day as directories are named, `YYYY-MM-DD`.

    Raises:
        ValueError: It is none.
    """
    try:
        if _DAY.fullmatch(text):
            return f"{datetime.strptime(text, '%Y-%m-%d'):%Y-%m-%d}"  # noqa: DTZ007 - a day, no time
    except ValueError:
        pass
    raise ValueError(f"{_shown(text)} is not a day: write 2026-11-22")


def shown_time(milliseconds: int) -> str:
    """Return a time for people; `-` if it is not known."""
    if not 0 <= milliseconds < END_MS:
        return "-"
    return datetime.fromtimestamp(milliseconds / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")


def log_time(seconds: float) -> str:
    """Return a moment as every log of ours writes it: UTC, in milliseconds, such as `2026-11-28T14:30:57.123Z`."""
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _iso_millis(text: str) -> int:
    found = _TIME.fullmatch(text)
    try:
        if found is None or (found["time"] is None and found["zone"] is not None):
            raise ValueError(text)
        zone = "+00:00" if found["zone"] in (None, "z", "Z") else found["zone"]
        whole = datetime.fromisoformat(f"{found['day']}T{found['time'] or '00:00'}{zone}")
        return (whole - EPOCH) // timedelta(milliseconds=1) + int(f"{found['fraction'] or '':0<3}"[:3])
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"{_shown(text)} is neither a time, such as 2026-11-22 or 2026-11-22T13:15:00Z, nor an age, such as 30d"
        ) from error


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
