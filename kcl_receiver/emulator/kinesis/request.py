"""Reads the fields of a request, with the service's own words where one is missing or out of bounds."""

from __future__ import annotations

import binascii
import re
from typing import Any

import msgspec

from kcl_receiver.emulator.kinesis.errors import ServiceError, constraint

STREAM_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,128}\Z")
SHARD_ID = re.compile(r"[a-zA-Z0-9_.-]{1,128}\Z")
SEQUENCE_NUMBER = re.compile(r"(?:0|[1-9][0-9]{0,128})\Z")
HASH_KEY = re.compile(r"(?:0|[1-9][0-9]{0,38})\Z")


def serialization(message: str) -> ServiceError:
    """Return the error for a body that is not what the protocol asks for."""
    return ServiceError("SerializationException", message)


class Request:
    """The fields of one request.

    Args:
        raw: The decoded JSON object.
        prefix: Where in the request it is, for messages: `records.3.member.`.
    """

    def __init__(self, raw: dict[str, Any], prefix: str = "") -> None:
        self._raw = raw
        self._prefix = prefix

    @classmethod
    def decode(cls, body: bytes) -> Request:
        """Return the request in a body.

        Raises:
            ServiceError: SerializationException; the body is not a JSON object.
        """
        try:
            raw = msgspec.json.decode(body or b"{}")
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise serialization(f"the body is not JSON: {error}") from None
        if not isinstance(raw, dict):
            raise serialization("the body is not a JSON object")
        return cls(raw)

    def has(self, name: str) -> bool:
        """Whether a field is there and not null."""
        return self._raw.get(name) is not None

    def _field(self, name: str) -> str:
        return self._prefix + name[:1].lower() + name[1:]

    def _typed(self, name: str, kind: type, required: bool) -> Any:  # noqa: ANN401 - the caller names the type
        value = self._raw.get(name)
        if value is None:
            if required:
                raise constraint("null", self._field(name), "Member must not be null")
            return None
        if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
            raise serialization(f"{self._field(name)} is not of type {kind.__name__}")
        return value

    def text(self, name: str, pattern: re.Pattern[str] | None = None) -> str:
        """Return a string that must be there."""
        found = self.optional_text(name, pattern)
        if found is None:
            raise constraint("null", self._field(name), "Member must not be null")
        return found

    def sized_text(self, name: str, low: int, high: int) -> str:
        """Return a string of `low` to `high` characters that must be there."""
        value = self.text(name)
        if len(value) < low:
            raise constraint(value, self._field(name), f"Member must have length greater than or equal to {low}")
        if len(value) > high:
            shown = value[:100] + "..."
            raise constraint(shown, self._field(name), f"Member must have length less than or equal to {high}")
        return value

    def optional_text(self, name: str, pattern: re.Pattern[str] | None = None) -> str | None:
        """Return a string, or None where there is none."""
        value: str | None = self._typed(name, str, required=False)
        if value is not None and pattern is not None and pattern.match(value) is None:
            shown = value if len(value) <= 100 else value[:100] + "..."
            rule = f"Member must satisfy regular expression pattern: {pattern.pattern.removesuffix(chr(92) + 'Z')}"
            raise constraint(shown, self._field(name), rule)
        return value

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        """Return a string that is one of `choices`."""
        value = self.text(name)
        if value not in choices:
            rule = f"Member must satisfy enum value set: [{', '.join(choices)}]"
            raise constraint(value, self._field(name), rule)
        return value

    def integer(self, name: str, low: int, high: int) -> int:
        """Return an integer from `low` to `high` that must be there."""
        self._typed(name, int, required=True)
        return self.optional_integer(name, low, high, low)

    def optional_integer(self, name: str, low: int, high: int, default: int) -> int:
        """Return an integer from `low` to `high`, or the default where there is none."""
        value: int | None = self._typed(name, int, required=False)
        if value is None:
            return default
        if value < low:
            raise constraint(value, self._field(name), f"Member must have value greater than or equal to {low}")
        if value > high:
            raise constraint(value, self._field(name), f"Member must have value less than or equal to {high}")
        return value

    def moment(self, name: str) -> int | None:
        """Return a time in milliseconds, or None where there is none; the API has seconds, with a fraction."""
        value = self._raw.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise serialization(f"{self._field(name)} is not a time in seconds")
        return round(value * 1000)

    def data(self, name: str) -> bytes:
        """Return the bytes of a field in base64 that must be there, and may be empty."""
        value: str = self._typed(name, str, required=True)
        try:
            return binascii.a2b_base64(value.encode("ascii"))
        except (binascii.Error, UnicodeEncodeError):
            raise serialization(f"{self._field(name)} is not base64") from None

    def items(self, name: str, low: int, high: int) -> list[Any]:
        """Return a list of `low` to `high` items that must be there."""
        value: list[Any] = self._typed(name, list, required=True)
        if len(value) < low:
            raise constraint("[]", self._field(name), f"Member must have length greater than or equal to {low}")
        if len(value) > high:
            raise constraint(
                f"[{len(value)} items]", self._field(name), f"Member must have length less than or equal to {high}"
            )
        return value

    def mapping(self, name: str, required: bool = False) -> dict[str, Any] | None:
        """Return an object, or None where there is none."""
        found: dict[str, Any] | None = self._typed(name, dict, required)
        return found

    def nested(self, name: str) -> Request | None:
        """Return the fields of a structure, or None where there is none."""
        raw = self.mapping(name)
        return None if raw is None else Request(raw, self._field(name) + ".")
