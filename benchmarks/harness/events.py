"""The data of records: JSON events that compress to about a third, or bytes that do not compress at all."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache

_LABELS = ("session", "device", "campaign", "referrer", "trace", "order", "basket", "region")
_KINDS = ("page_view_", "add_basket", "checkout__", "impression", "heart_beat")
_VALUE = 12
"""Hexadecimal digits of an attribute's value: 6 bytes of chance in some 28 of text."""


@cache
def _template(size: int) -> tuple[str, int]:
    """Return the form of an event of this many bytes, and the number of its attributes."""
    text = '{"event_id":"%s","serial":%d,"type":"%s"'
    length = len(text) - 6 + 32 + 10 + 10
    tail = len(',"note":""}')
    attributes = 0
    while True:
        piece = f',"{_LABELS[attributes % len(_LABELS)]}_{attributes:03d}":"%s"'
        added = len(piece) - 2 + _VALUE
        if length + added + tail > size:
            break
        text += piece
        length += added
        attributes += 1
    if length + tail > size:
        raise ValueError(f"an event has {length + tail} bytes at least, not {size}")
    return text + ',"note":"' + "-" * (size - length - tail) + '"}', attributes


def event_maker(payload: str, rng: random.Random) -> Callable[[int, int], bytes]:
    """Return what makes the data of a record from its serial number and its number of bytes; no two are alike."""
    if payload == "random":
        return lambda _, size: rng.randbytes(size)

    def make(serial: int, size: int) -> bytes:
        text, attributes = _template(size)
        chance = rng.randbytes(16 + attributes * _VALUE // 2).hex()
        values = [chance[at : at + _VALUE] for at in range(32, 32 + attributes * _VALUE, _VALUE)]
        kind = _KINDS[serial % len(_KINDS)]
        return (text % (chance[:32], 1_000_000_000 + serial, kind, *values)).encode()

    return make


def aggregated_event(serial: int) -> bytes:
    """Return 20 bytes of JSON that no other serial number below 90 million has."""
    return b'{"n":%d,"v":%d}' % (10_000_000 + serial, serial % 10)
