"""Reads single values of the properties file as KCL 3.1's own jars read them.

KCL converts with commons-beanutils in its lenient form: a number that cannot be read becomes 0, a switch that is not
one of eight words becomes false, a broken tag is left out, and an unknown word of a list of choices ends the daemon at
its start. `as_kcl` does the same, and a test holds it against the jars. `read` is what the rest of this package uses:
the value if KCL reads what is written, and an error with the reason if it would read something else or not start.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from enum import Enum
from typing import Any


class Kind(Enum):
    """What a value must look like; the text continues the sentence "is not …" of an error message."""

    TEXT = "text"
    INT = "a whole number that fits 32 bits"
    LONG = "a whole number that fits 64 bits"
    SECONDS = "a time in seconds since the epoch"
    POOL = "a number of threads"
    NUMBER = "a number"
    SWITCH = "true or false"
    DURATION = "an ISO-8601 duration of at least 0, such as PT15M"
    TAGS = "key1=value1,key2=value2"
    LIST = "names of letters and digits with commas between them"
    POSITION = "TRIM_HORIZON or LATEST"
    RETRIEVAL = "POLLING, FANOUT or DEFAULT"
    METRICS = "NONE, SUMMARY or DETAILED"
    BILLING = "PAY_PER_REQUEST or PROVISIONED"
    VERSION = "CLIENT_VERSION_CONFIG_3X or CLIENT_VERSION_CONFIG_COMPATIBLE_WITH_2X"
    REGION = "the name of a region, such as eu-west-1"
    URL = "a URL such as https://host:port"
    CREDENTIALS = "names of credential providers with commas between them"
    NESTED = "a value of one of KCL's own objects"
    UNUSABLE = "settable in a properties file, although KCL has a field of this name"


class KclDies(ValueError):
    """The daemon ends at its start with this value."""


CHOICES = {
    kind: frozenset(re.findall(r"[A-Z_0-9]{4,}", kind.value))
    for kind in (Kind.POSITION, Kind.RETRIEVAL, Kind.METRICS, Kind.BILLING, Kind.VERSION)
}

INT_BITS, LONG_BITS = 32, 64
LAST_PORT = 65_535

_JAVA_BLANKS = "".join(map(chr, range(33)))
"""What String.trim takes away."""

_SWITCHES = {
    **dict.fromkeys(("true", "yes", "y", "on", "1"), True),
    **dict.fromkeys(("false", "no", "n", "off", "0"), False),
}
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[fFdD]?")
_HEXADECIMAL = re.compile(r"([+-]?0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)[pP][+-]?[0-9]+)[fFdD]?")
_DURATION = re.compile(
    r"([-+]?)P(?:([-+]?[0-9]+)D)?"
    r"(T(?:([-+]?[0-9]+)H)?(?:([-+]?[0-9]+)M)?(?:([-+]?[0-9]+)(?:[.,]([0-9]{0,9}))?S)?)?",
    re.IGNORECASE,
)
_LONGEST_NUMBER = 1000
"""Characters of a number that are looked at; Python refuses to convert more than 4,300 digits."""


def java_trim(text: str) -> str:
    """Return the text as String.trim returns it."""
    return text.strip(_JAVA_BLANKS)


def java_whole(text: str, bits: int) -> int | None:
    """Return what Integer.valueOf or Long.valueOf make of a text; None where they raise an error."""
    # Java takes every decimal digit of Unicode's first plane, as \d does.
    if len(text) > _LONGEST_NUMBER or re.fullmatch(r"[+-]?\d+", text) is None or max(text) > "\uffff":
        return None
    number = int(text)
    return number if -(1 << bits - 1) <= number < 1 << bits - 1 else None


def java_split(text: str, separator: str) -> list[str]:
    """Divide a text as String.split does: without the empty parts at its end."""
    parts = text.split(separator)
    while len(parts) > 1 and not parts[-1]:
        parts.pop()
    return [] if parts == [""] and text else parts


def line(key: str, value: str) -> str:
    """Return the line of a properties file that gives a key a value, with escapes where Java needs them."""
    text = "".join(
        character if " " <= character <= "~" and character != "\\" else _escaped(character) for character in value
    )
    return f"{key} = {chr(92) if text.startswith(' ') else ''}{text}"


def _escaped(character: str) -> str:
    if character == "\\":
        return "\\\\"
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2))


def as_kcl(kind: Kind, text: str) -> Any:  # noqa: ANN401 - of the kind's type
    """Return the value that KCL works with.

    Whole numbers are int, tags a list of pairs, durations pairs of seconds and nanoseconds. For REGION, URL and
    CREDENTIALS it is the text: see `read`, which takes no more than what is known to be well read.

    Raises:
        KclDies: The daemon does not start.
    """
    return _AS_KCL.get(kind, str)(text)


def read(kind: Kind, text: str) -> Any:  # noqa: ANN401 - of the kind's type
    """Return the value that is written and that KCL works with.

    Raises:
        ValueError: KCL would work with another value, or would not start. The text is the reason, and continues the
            sentence "KEY = VALUE: …".
    """
    trimmed = java_trim(text)
    wrong = f"is not {kind.value}"
    if trimmed and trimmed != text:
        wrong = "begins or ends with a blank, which Java makes a part of the value"
    try:
        value = as_kcl(kind, text)
    except KclDies:
        raise ValueError(f"{wrong}: the daemon would not start") from None
    if not _MEANT.get(kind, _always)(text):
        raise ValueError(f"{wrong}: {_otherwise(value)}")
    return value


def _otherwise(value: object) -> str:
    if isinstance(value, bool):
        return f"KCL would take it for {str(value).lower()}, and would not say so"
    if isinstance(value, (int, float)):
        return f"KCL would take it for {value:g}, and would not say so"
    if isinstance(value, list):
        return "KCL would leave out what it cannot read, and would not say so"
    return "KCL would not read what is written"


def _always(_: str) -> bool:
    return True


def _whole(bits: int) -> Callable[[str], int]:
    return lambda text: java_whole(java_trim(text), bits) or 0


def _exact(text: str, bits: int) -> int:
    number = java_whole(text, bits)
    if number is None:
        raise KclDies
    return number


def _seconds(text: str) -> int:
    millis = (_exact(text, LONG_BITS) * 1000 + (1 << 63)) % (1 << 64) - (1 << 63)
    # Java's division rounds towards 0.
    return abs(millis) // 1000 * (1 if millis >= 0 else -1)


def _pool(text: str) -> int:
    # Anything below 1 is a pool that grows as it has to.
    return max(0, _exact(text, INT_BITS))


def java_number(text: str) -> float | None:
    """Return what Double.valueOf makes of a text; None where it raises an error."""
    if _DECIMAL.fullmatch(text):
        return float(text.rstrip("fFdD"))
    found = _HEXADECIMAL.fullmatch(text)
    if found is not None:
        try:
            return float.fromhex(found[1])
        except OverflowError:
            return -math.inf if text.startswith("-") else math.inf
    return float(text) if re.fullmatch(r"[+-]?(NaN|Infinity)", text) else None


def _number_meant(text: str) -> bool:
    number = java_number(java_trim(text))
    return number is not None and math.isfinite(number)


def _switch(text: str) -> bool:
    return _SWITCHES.get(text.lower(), False)


def _choice(kind: Kind, more: str | None = None) -> Callable[[str], str]:
    def read_choice(text: str) -> str:
        word = text.upper()
        if word not in CHOICES[kind] and word != more:
            raise KclDies
        return word

    return read_choice


def _duration(text: str) -> tuple[int, int]:
    found = _DURATION.fullmatch(java_trim(text))
    if found is None or (found[3] or "").upper() == "T" or not any(found[index] for index in (2, 4, 5, 6)):
        raise KclDies
    seconds = 0
    for index, unit in ((2, 86_400), (4, 3600), (5, 60), (6, 1)):
        part = java_whole(found[index] or "0", LONG_BITS)
        if part is None or abs(part * unit) >= 1 << 63:
            raise KclDies
        seconds += part * unit
    nanos = int((found[7] or "0").ljust(9, "0")) * (-1 if (found[6] or "").startswith("-") else 1)
    total = (seconds * 10**9 + nanos) * (-1 if found[1] == "-" else 1)
    if total < 0 or total // 10**9 >= 1 << 63:
        raise KclDies
    return divmod(total, 10**9)


def _tags(text: str) -> list[tuple[str, str]]:
    pairs = [java_split(java_trim(pair), "=") for pair in java_split(java_trim(text), ",")]
    return [(java_trim(pair[0]), java_trim(pair[1])) for pair in pairs if len(pair) == 2]


def _tags_meant(text: str) -> bool:
    # Counted as written: KCL reads `a=b=` as a tag, and leaves out `a=`.
    return all(pair.count("=") == 1 and all(map(java_trim, pair.split("="))) for pair in text.split(","))


def _list(text: str) -> list[str]:
    # java.io.StreamTokenizer, with quotes and comments left out of account: see _MEANT.
    return re.findall(r"[A-Za-z0-9.\-\u00a0-\U0010ffff]+", text)


def _address(text: str) -> str:
    # java.net.URI, as far as a host can be meant: without a scheme the SDK's client is not built.
    if ":" not in text or any(character in text for character in ' "<>\\^`{|}'):
        raise KclDies
    return text


def _address_meant(text: str) -> bool:
    found = re.fullmatch(
        r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?(/[A-Za-z0-9._~/-]*)?", text
    )
    return found is not None and int(found["port"] or 0) <= LAST_PORT


def _never(_: str) -> str:
    raise KclDies


_AS_KCL: dict[Kind, Callable[[str], Any]] = {
    Kind.INT: _whole(INT_BITS),
    Kind.LONG: _whole(LONG_BITS),
    Kind.SECONDS: _seconds,
    Kind.POOL: _pool,
    Kind.NUMBER: lambda text: java_number(java_trim(text)) or 0.0,
    Kind.SWITCH: _switch,
    Kind.DURATION: _duration,
    Kind.TAGS: _tags,
    Kind.LIST: _list,
    Kind.POSITION: _choice(Kind.POSITION),
    Kind.RETRIEVAL: _choice(Kind.RETRIEVAL),
    Kind.METRICS: _choice(Kind.METRICS),
    Kind.BILLING: _choice(Kind.BILLING, "UNKNOWN_TO_SDK_VERSION"),
    Kind.VERSION: _choice(Kind.VERSION),
    Kind.URL: _address,
    Kind.UNUSABLE: _never,
}

_MEANT: dict[Kind, Callable[[str], bool]] = {
    Kind.INT: lambda text: java_whole(java_trim(text), INT_BITS) is not None,
    Kind.LONG: lambda text: java_whole(java_trim(text), LONG_BITS) is not None,
    Kind.SECONDS: lambda text: abs(_exact(text, LONG_BITS)) < 1 << 53,
    Kind.NUMBER: _number_meant,
    Kind.SWITCH: lambda text: text.lower() in _SWITCHES,
    Kind.TAGS: _tags_meant,
    Kind.LIST: lambda text: re.fullmatch(r"\s*[A-Za-z0-9.-]+(\s*,\s*[A-Za-z0-9.-]+)*\s*", text) is not None,
    Kind.BILLING: lambda text: text.upper() in CHOICES[Kind.BILLING],
    Kind.TEXT: lambda text: text.strip() == text,
    Kind.NESTED: lambda text: text.strip() == text,
    Kind.REGION: lambda text: re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", text) is not None,
    Kind.URL: _address_meant,
}
"""Whether a text that KCL reads means to say what it reads."""
