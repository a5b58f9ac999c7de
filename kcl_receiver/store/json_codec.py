"""JSON of what ledgers and footers hold, both ways from one definition: the fields of a class are the members.

A class is a dataclass or a named tuple. For each one msgspec gets a struct of the same fields, its *wire form*, in
which a position is text. The rules: a value of another type is an error, and so is a missing member; a member of
another name is ignored. Where a field's default is None or empty, a member that is just that is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from operator import attrgetter
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, cast, get_args, get_origin, get_type_hints

import msgspec

from kcl_receiver.ranges import STARTING_POINTS, After, Position, parse_position

T = TypeVar("T")

_PLAIN = (str, int)
_MOST_POSITIONS = 4096
_FEW = 4
"""Objects that take less time one by one than member by member."""


class _Positions(dict[str, Position]):
    """Positions by their text: a range that follows another one names where that ends, and numbers cost the most."""

    def __missing__(self, text: str) -> Position:
        found = parse_position(text)
        if len(self) >= _MOST_POSITIONS:
            self.clear()
        self[text] = found
        return found


_position = _Positions().__getitem__


class Codec(NamedTuple):
    """How values of one type are written.

    Attributes:
        wire: The type that msgspec writes and reads.
        load: Returns a value from its wire form, or raises ValueError; None where they are the same. It never
            gets None, which is written as null.
        dump: The other way.
        load_all: The same as `load` of several values, in less time for each; None if there is no such way.
    """

    wire: Any
    load: Callable[[Any], Any] | None = None
    dump: Callable[[Any], Any] | None = None
    load_all: Callable[[Sequence[Any]], list[Any]] | None = None


def encode(value: object) -> bytes:
    """Return an object as JSON."""
    kind: Any = type(value)
    return msgspec.json.encode(cast("Any", codec_of(kind).dump)(value))


def decode(kind: type[T], text: bytes) -> T:
    """Return the object that `encode` wrote.

    Raises:
        ValueError: It is none.
    """
    load: Any = codec_of(cast("Any", kind)).load
    return cast("T", load(decode_wire(kind, text)))


def decode_wire(kind: type, text: bytes) -> Any:  # noqa: ANN401 - the struct is made at run time
    """Return the wire form of an object, with the attributes of its class; positions are text and not looked at.

    Raises:
        ValueError: It is none.
    """
    return read_json(_decoder(kind), text)


def read_json(decoder: msgspec.json.Decoder[T], text: bytes) -> T:
    """Return what a decoder makes of a text.

    Raises:
        ValueError: It takes something else.
    """
    try:
        return decoder.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:  # noqa: ANN401
    return msgspec.json.Decoder(codec_of(kind).wire)


@cache
def codec_of(kind: Any) -> Codec:  # noqa: ANN401 - whatever a field is annotated with
    """Return how values of a type are written. `Annotated[str, check]` is text that `check` does not refuse."""
    origin, args = get_origin(kind), get_args(kind)
    if kind in _PLAIN or origin is Literal:
        return Codec(kind)
    if kind is Position:
        return Codec(str, _position, str)
    if kind == After:
        return Codec(str, _after, str)
    if origin is Annotated:
        return Codec(args[0], args[1])
    if origin is UnionType:
        one = codec_of(next(one for one in args if one is not NoneType))
        return one._replace(wire=one.wire | None)
    if origin is tuple and args[-1] is Ellipsis:
        return _sequence(codec_of(args[0]))
    if origin is tuple:
        return _fixed([codec_of(one) for one in args])
    if origin is dict:
        return _mapping(codec_of(args[1]))
    return struct_codec(kind)


def struct_codec(kind: type, **config: Any) -> Codec:  # noqa: ANN401
    """Return how the objects of a class are written, by a struct that `msgspec.defstruct` makes with `config`."""
    codecs = {name: codec_of(hint) for name, hint in _hints(kind).items()}
    members = [(name, one.wire, *_left_out(kind, name)) for name, one in codecs.items()]
    members.sort(key=len)  # what can be left out comes last
    wire = msgspec.defstruct(kind.__name__, members, omit_defaults=True, gc=False, **config)
    written = [name for name, *_ in members]
    fields_of = attrgetter(*written)
    loads = [(attrgetter(name), one.load) for name, one in codecs.items()]
    loading = [(at, one) for at, (_, one) in enumerate(loads) if one is not None]
    dumps = [(written.index(name), one.dump) for name, one in codecs.items() if one.dump is not None]
    made = _thawed(kind, list(codecs))

    def load_all(raws: Sequence[object]) -> list[object]:
        if len(raws) < _FEW:
            return list(map(load, raws))
        # Member by member: a ledger is millions of ranges, and a loop over the members of each takes twice as long.
        columns = [_loaded(map(member, raws), one) for member, one in loads]
        loaded = list(map(made, *columns))
        if made is not kind:
            for value in loaded:
                value.__class__ = kind
        return loaded

    def load(raw: object) -> object:
        values = [member(raw) for member, _ in loads]
        for at, one in loading:
            if (field := values[at]) is not None:
                values[at] = one(field)
        value = made(*values)
        if made is not kind:
            value.__class__ = kind
        return cast("object", value)

    def dump(value: object) -> object:
        values = list(fields_of(value))
        for at, one in dumps:
            if (field := values[at]) is not None:
                values[at] = one(field)
        return wire(*values)

    return Codec(wire, load, dump, load_all)


def _loaded(column: Iterator[Any], load: Callable[[Any], Any] | None) -> Iterable[Any]:
    """Return one member of several objects from its wire form."""
    if load is None:
        return column
    values = list(column)
    return [None if one is None else load(one) for one in values] if None in values else list(map(load, values))


def _thawed(kind: type, names: Sequence[str]) -> Any:  # noqa: ANN401
    """Return a class that makes objects for another one, with the same slots: `load` turns them into those.

    A frozen dataclass sets each field by `object.__setattr__`, which takes as long as all the rest of decoding.
    """
    if not is_dataclass(kind) or hasattr(kind, "__post_init__"):
        return kind
    return dataclass(slots=True)(type(kind.__name__, (), {"__annotations__": dict.fromkeys(names, object)}))


def _hints(kind: type) -> dict[str, Any]:
    names = [one.name for one in fields(kind)] if is_dataclass(kind) else kind._fields  # type: ignore[attr-defined]
    hints = get_type_hints(kind, include_extras=True)
    return {name: hints[name] for name in names}


def _left_out(kind: type, name: str) -> tuple[object, ...]:
    """Return the default of a member that can be left out, else nothing."""
    if not is_dataclass(kind):
        return ()
    field = next(one for one in fields(kind) if one.name == name)
    if field.default is None:
        return (None,)
    if field.default == ():
        return (msgspec.field(default_factory=list),)
    if field.default_factory is not MISSING:
        return (msgspec.field(default_factory=field.default_factory),)
    return ()


def _after(text: str) -> After:
    return text if text in STARTING_POINTS else _position(text)


def _sequence(item: Codec) -> Codec:
    load, load_items, dump = item.load, item.load_all, item.dump

    def load_all(raw: list[Any]) -> tuple[Any, ...]:
        if load_items is not None:
            return tuple(load_items(raw))
        return tuple(raw) if load is None else tuple(map(load, raw))

    def dump_all(values: Sequence[Any]) -> list[Any]:
        return list(values) if dump is None else list(map(dump, values))

    return Codec(list[item.wire], load_all, dump_all)  # type: ignore[name-defined]


def _fixed(items: Sequence[Codec]) -> Codec:
    def load(raw: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(value if one.load is None else one.load(value) for one, value in zip(items, raw, strict=True))

    def dump(values: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(value if one.dump is None else one.dump(value) for one, value in zip(items, values, strict=True))

    return Codec(tuple[tuple(one.wire for one in items)], load, dump)  # type: ignore[misc]


def _mapping(item: Codec) -> Codec:
    load, dump = item.load, item.dump
    return Codec(
        dict[str, item.wire],  # type: ignore[name-defined]
        load and (lambda raw: {name: load(value) for name, value in raw.items()}),
        dump and (lambda values: {name: dump(value) for name, value in cast("Mapping[str, Any]", values).items()}),
    )
