"""Reads requests by the service's own description of them, which botocore brings along.

This is the one place that decides what a request may hold: types, members that must be there, bounds, patterns,
choices. What is read has Python's types (bytes for data, milliseconds for times) and satisfies all of it, so that the
operations need not look again. The words of refusals are the service's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pybase64
from botocore.loaders import Loader

from kcl_receiver.emulator.kinesis.cbor import Moment
from kcl_receiver.emulator.kinesis.errors import ServiceError, invalid

Raw = Any
"""A value as JSON or CBOR gives it: anything."""
Problems = list[str]
Reader = Callable[[Raw, str, Problems], Any]
"""Returns a value that was read; given the raw value, where in the request it is, and the list for broken rules."""

MAX_PROBLEMS = 10
"""Broken rules that one refusal lists."""
SHOWN = 1000
"""Characters of a refused value that are shown."""

_ALSO_REQUIRED = {"PutRecordInput": ["PartitionKey"], "PutRecordsRequestEntry": ["PartitionKey"]}
"""Optional in the description for streams that distribute records by themselves, which do not exist here."""
_INTEGERS = {"integer": ("an Integer", 2**31 - 1), "long": ("an Long", 2**63 - 1)}


class Shapes:
    """Reads the requests of one service.

    Args:
        known: Names of all members that the emulator heeds. Others that the service has are refused by name.

    Attributes:
        operations: Names of all operations that the service has, here or not.
    """

    def __init__(self, known: frozenset[str]) -> None:
        description = Loader().load_service_model("kinesis", "service-2")
        self._known = known
        self._shapes = description["shapes"]
        self._inputs = {
            name: one["input"]["shape"] for name, one in description["operations"].items() if "input" in one
        }
        self._outputs = {
            name: one["output"]["shape"] for name, one in description["operations"].items() if "output" in one
        }
        self.operations = frozenset(description["operations"])
        self._reader = cache(self._make)

    def read(self, operation: str, raw: Raw) -> dict[str, Any]:
        """Return what a request holds.

        Raises:
            ServiceError: SerializationException for a wrong type, ValidationException for broken rules,
                InvalidArgumentException for a member that the emulator does not heed.
        """
        problems: Problems = []
        found: dict[str, Any] = self._reader(self._inputs[operation])(raw, "", problems)
        if problems:
            count = f"{len(problems)} validation error{'s' if len(problems) > 1 else ''}"
            raise ServiceError("ValidationException", f"{count} detected: {'; '.join(problems)}")
        return found

    def typed(self, operation: str, answer: dict[str, Any]) -> dict[str, Any]:
        """Return a JSON answer with its data as bytes and its times as `Moment`, as CBOR has them."""
        found: dict[str, Any] = self._typed(self._outputs[operation], answer)
        return found

    def _typed(self, name: str, value: Raw) -> Raw:
        shape = self._shapes[name]
        kind = shape["type"]
        if kind == "structure":
            members = shape["members"]
            return {key: self._typed(members[key]["shape"], one) for key, one in value.items()}
        if kind == "list":
            member = shape["member"]["shape"]
            return [self._typed(member, one) for one in value]
        if kind == "blob":
            return pybase64.b64decode(value)
        return Moment(round(value * 1000)) if kind == "timestamp" else value

    def _make(self, name: str) -> Reader:
        shape = self._shapes[name]
        kind = shape["type"]
        if kind == "structure":
            return self._structure(name, shape)
        if kind == "list":
            return self._list(shape)
        if kind == "map":
            return self._map(shape)
        if kind in _INTEGERS:
            return _integer(shape)
        return {"string": _text, "blob": _blob, "timestamp": _timestamp, "boolean": _boolean}[kind](shape)

    def _structure(self, shape_name: str, shape: dict[str, Any]) -> Reader:
        required = {*shape.get("required", ()), *_ALSO_REQUIRED.get(shape_name, ())}
        members = [
            (name, name[:1].lower() + name[1:], self._reader(member["shape"]), name in required)
            for name, member in shape["members"].items()
        ]
        known = self._known

        def read(raw: Raw, path: str, problems: Problems) -> dict[str, Any]:
            if not isinstance(raw, dict):
                raise _wrong_type(raw, "Expected null")
            found: dict[str, Any] = {}
            prefix = path + "." if path else ""
            for name, low_name, reader, must in members:
                value = raw.get(name)
                if value is None:
                    if must:
                        _note(problems, None, prefix + low_name, "Member must not be null")
                elif name not in known:
                    raise invalid(f"This emulator does not have {prefix}{low_name}.")
                else:
                    found[name] = reader(value, prefix + low_name, problems)
            return found

        return read

    def _list(self, shape: dict[str, Any]) -> Reader:
        member = self._shapes[shape["member"]["shape"]]
        reader = self._reader(shape["member"]["shape"])
        rule = None if member["type"] == "structure" else f"Member must satisfy constraint: [{_rules(member)}]"

        def read(raw: Raw, path: str, problems: Problems) -> list[Any]:
            if not isinstance(raw, list):
                raise _wrong_type(raw, "Expected list or null")
            _check_length(shape, len(raw), raw, path, problems)
            if rule is None:
                return [reader(one, f"{path}.{row}.member", problems) for row, one in enumerate(raw, 1)]
            broken: Problems = []
            found = [reader(one, path, broken) for one in raw]
            if broken:
                _note(problems, raw, path, rule)
            return found

        return read

    def _map(self, shape: dict[str, Any]) -> Reader:
        sides = [
            (self._reader(shape[side]["shape"]), _rules(self._shapes[shape[side]["shape"]]))
            for side in ("key", "value")
        ]

        def read(raw: Raw, path: str, problems: Problems) -> dict[Any, Any]:
            if not isinstance(raw, dict):
                raise _wrong_type(raw, "Expected map or null")
            _check_length(shape, len(raw), raw, path, problems)
            columns: list[list[Any]] = []
            for (reader, rules), values, word in zip(
                sides, (list(raw), list(raw.values())), ("keys", "value"), strict=True
            ):
                broken: Problems = []
                columns.append([reader(one, path, broken) for one in values])
                if broken:
                    _note(problems, raw, path, f"Map {word} must satisfy constraint: [{rules}]")
            return dict(zip(*columns, strict=True))

        return read


def serialization(message: str) -> ServiceError:
    """Return the error for a body, or a value in it, that is not of the type that it must be."""
    return ServiceError("SerializationException", message)


def _text(shape: dict[str, Any]) -> Reader:
    pattern = None if "pattern" not in shape else re.compile(shape["pattern"], re.ASCII)
    choices = shape.get("enum")

    def read(raw: Raw, path: str, problems: Problems) -> str:
        if not isinstance(raw, str):
            raise _wrong_type(raw, f"{_class(raw)} can not be converted to an String")
        if choices is not None and raw not in choices:
            _note(problems, raw, path, f"Member must satisfy enum value set: [{', '.join(choices)}]")
        _check_length(shape, len(raw), raw, path, problems)
        if pattern is not None and pattern.fullmatch(raw) is None:
            _note(problems, raw, path, f"Member must satisfy regular expression pattern: {shape['pattern']}")
        return raw

    return read


def _integer(shape: dict[str, Any]) -> Reader:
    word, most = _INTEGERS[shape["type"]]
    low, high = shape.get("min"), shape.get("max")

    def read(raw: Raw, path: str, problems: Problems) -> int:
        if isinstance(raw, bool) or not isinstance(raw, (int, float)) or raw != raw:
            raise _wrong_type(raw, f"{_class(raw)} can not be converted to {word}")
        value = math.floor(min(max(raw, -most - 1), most))
        if low is not None and value < low:
            _note(problems, value, path, f"Member must have value greater than or equal to {low}")
        if high is not None and value > high:
            _note(problems, value, path, f"Member must have value less than or equal to {high}")
        return value

    return read


def _timestamp(_shape: dict[str, Any]) -> Reader:
    def read(raw: Raw, _path: str, _problems: Problems) -> int:
        if isinstance(raw, bool) or not isinstance(raw, (int, float)) or raw != raw:
            raise _wrong_type(raw, f"{_class(raw)} can not be converted to milliseconds since epoch")
        return round(min(max(raw * 1000, -(2**63)), 2**63 - 1))

    return read


def _boolean(_shape: dict[str, Any]) -> Reader:
    def read(raw: Raw, _path: str, _problems: Problems) -> bool:
        if not isinstance(raw, bool):
            shown = f"'{raw.upper()}'" if isinstance(raw, str) else _class(raw)
            raise _wrong_type(raw, f"{shown} can not be converted to an Boolean")
        return raw

    return read


def _blob(shape: dict[str, Any]) -> Reader:
    def read(raw: Raw, path: str, problems: Problems) -> bytes:
        data = raw if isinstance(raw, bytes) else _from_base64(raw)
        _check_length(shape, len(data), data, path, problems)
        return data

    return read


def _from_base64(raw: Raw) -> bytes:
    if not isinstance(raw, str):
        raise _wrong_type(raw, f"{_class(raw)} can not be converted to a Blob")
    try:
        data = pybase64.b64decode(raw, validate=True)
    except ValueError:
        data = b""
    if pybase64.b64encode_as_string(data) == raw:
        return data
    bad = re.search("[^a-zA-Z0-9+/=]|=(?=[^=])", raw)
    if len(raw) % 4:
        why = f"Base64 encoded length is expected a multiple of 4 bytes but found: {len(raw)}"
    elif bad is not None:
        why = f"Invalid Base64 character: '{bad[0]}'"
    else:
        why = "Invalid last non-pad Base64 character dectected"  # spelled as the service spells it
    raise serialization(f"'{_shown(raw)}' can not be converted to a Blob: {why}")


def _check_length(shape: dict[str, Any], length: int, value: Raw, path: str, problems: Problems) -> None:
    low, high = shape.get("min"), shape.get("max")
    if low is not None and length < low:
        _note(problems, value, path, f"Member must have length greater than or equal to {low}")
    if high is not None and length > high:
        _note(problems, value, path, f"Member must have length less than or equal to {high}")


def _rules(shape: dict[str, Any]) -> str:
    """Return the rules for the members of a list or map, in the words in which the service lists them."""
    rules = []
    if "max" in shape:
        rules.append(f"Member must have length less than or equal to {shape['max']}")
    if "min" in shape:
        rules.append(f"Member must have length greater than or equal to {shape['min']}")
    if "pattern" in shape:
        rules.append(f"Member must satisfy regular expression pattern: {shape['pattern']}")
    if "enum" in shape:
        rules.append(f"Member must satisfy enum value set: [{', '.join(shape['enum'])}]")
    return ", ".join(rules)


def _note(problems: Problems, value: Raw, path: str, rule: str) -> None:
    if len(problems) < MAX_PROBLEMS:
        shown = "null" if value is None else f"'{_shown(value)}'"
        problems.append(f"Value {shown} at '{path}' failed to satisfy constraint: {rule}")


def _shown(value: Raw) -> str:
    if isinstance(value, list):
        text = f"[{', '.join(str(one) for one in value[:SHOWN])}]"
    elif isinstance(value, dict):
        text = "{" + ", ".join(f"{key}={one}" for key, one in value.items()) + "}"
    elif isinstance(value, bytes):
        text = f"java.nio.HeapByteBuffer[pos=0 lim={len(value)} cap={len(value)}]"
    else:
        text = str(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def _class(raw: Raw) -> str:
    if isinstance(raw, bool):
        return "class java.lang.Boolean"
    if isinstance(raw, (int, float)):
        return "class com.amazon.coral.value.json.numbers.TruncatingBigNumber"
    return "class java.lang.String" if isinstance(raw, str) else "class java.nio.HeapByteBuffer"


def _wrong_type(raw: Raw, otherwise: str) -> ServiceError:
    """Return the error for a value of a wrong type; `otherwise` is what is said of one that is no list or object."""
    if isinstance(raw, list):
        return serialization("Start of list found where not expected")
    if isinstance(raw, dict):
        return serialization("Start of structure or map found where not expected.")
    return serialization(otherwise)
