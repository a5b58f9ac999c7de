"""Sequence numbers of 56 digits, laid out so that they say where they come from.

From the highest digit down, in hexadecimal: 2, the second of the shard's creation (9 digits), the lowest digit of the
shard's number, a running place (16), noise (2), the second of the put (9), the shard's number (8), and 2 again.
The real service's numbers are known to be built much like this: 56 decimal digits, rising within a shard, sparse, and
rising from parent to child because a child is created later. What matters to clients is only that, and that a number
of another shard or stream is recognised.
"""

from __future__ import annotations

from typing import NamedTuple

LAST_PLACE = 2**63 - 1
"""Place in the ending sequence number of a closed shard; no record has it."""

_FIRST = 2 << 184


class Parts(NamedTuple):
    """What a sequence number says.

    Attributes:
        epoch: Second at which its shard was created; no two shards of a model's life that could be mixed up share it.
        shard: Number of the shard in its stream.
        place: Running place within the shard; not consecutive.
        second: Second of the put.
        noise: 0 to 255.
    """

    epoch: int
    shard: int
    place: int
    second: int
    noise: int


def compose(parts: Parts) -> int:
    """Return the sequence number that says `parts`."""
    return (
        _FIRST
        | parts.epoch << 148
        | (parts.shard & 0xF) << 144
        | parts.place << 80
        | parts.noise << 72
        | parts.second << 36
        | parts.shard << 4
        | 2
    )


def place_in(number: int) -> int:
    """Return the running place that a sequence number of this model says."""
    return number >> 80 & 0xFFFFFFFFFFFFFFFF


def decompose(number: int) -> Parts | None:
    """Return what a sequence number says, or None for a number that this model never makes."""
    if number >> 184 != 2 or number & 0xF != 2 or place_in(number) > LAST_PLACE:
        return None
    shard = number >> 4 & 0xFFFFFFFF
    if number >> 144 & 0xF != shard & 0xF:
        return None
    return Parts(
        epoch=number >> 148 & 0xFFFFFFFFF,
        shard=shard,
        place=place_in(number),
        second=number >> 36 & 0xFFFFFFFFF,
        noise=number >> 72 & 0xFF,
    )
