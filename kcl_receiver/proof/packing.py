"""A range that waits, as some 120 bytes: what it covers, where it is kept, and what is known of its link.

The rule: packed references sort as what they cover begins, so that a heap of them gives what comes first.
"""

from __future__ import annotations

from typing import NamedTuple

from kcl_receiver.proof.coverage import Cut
from kcl_receiver.ranges import Position

STARTS, TIMED, AGAIN, AGAIN_TRIMMED = 1, 2, 4, 8
"""Flags: it follows a starting point; it says when it was delivered; an earlier session had begun to read; and that
one began so long ago that records may have been trimmed since."""


class Ref(NamedTuple):
    """A range by the number of its source and its place in it; the driver knows what they stand for."""

    source: int
    at: int


def pack(cut: Cut) -> bytes:
    """Return a cut as bytes that sort as cuts do."""
    sequence, sub = cut.position
    if sequence < 0:
        return b""
    length = (sequence.bit_length() + 7) // 8
    return b"".join(
        (bytes((length,)), sequence.to_bytes(length, "big"), sub.to_bytes(8, "big"), b"\1" if cut.side else b"\0")
    )


def unpack(ref: bytes, at: int) -> tuple[Cut, int]:
    """Return the cut at a place, and the place behind it."""
    sub = at + 1 + ref[at]
    position = Position(int.from_bytes(ref[at + 1 : sub], "big"), int.from_bytes(ref[sub : sub + 8], "big"))
    return Cut(position, ref[sub + 8]), sub + 9


def packed_low(ref: bytes) -> bytes:
    """Return the low end of a reference as it is packed."""
    return ref[: ref[0] + 10]


def low_of(ref: bytes) -> Cut:
    """Return the low end of what a range covers."""
    return unpack(ref, 0)[0]


def flags_at(ref: bytes) -> int:
    """Return where the flags of a reference are."""
    high = ref[0] + 11
    return high + ref[high] + 20


def flags_of(ref: bytes) -> int:
    """Return the flags of a reference."""
    return ref[flags_at(ref)]


def pack_near(cut: Cut, low: bytes) -> bytes:
    """Return a cut as bytes without those that it shares with a lower one: mostly half of them."""
    packed = pack(cut)
    same = next((at for at, (one, other) in enumerate(zip(packed, low, strict=False)) if one != other), len(low))
    return bytes((same,)) + packed[same:]


def _first_of(ref: bytes, at: int, low: Cut) -> Cut:
    return low if at == len(ref) else unpack(ref[: ref[at]] + ref[at + 1 :], 0)[0]


def at_first(ref: bytes, first: Cut) -> bytes:
    """Return a reference without what links its range to what comes before."""
    flags = flags_at(ref)
    return pack(first) + ref[ref[0] + 10 : flags] + bytes((ref[flags] & ~TIMED,))


def unpack_ref(ref: bytes) -> tuple[Cut, Cut, Ref, int, Cut]:
    """Return the low and the high end of what a range covers, its reference, its flags, and the place of its first."""
    low, at = unpack(ref, 0)
    high, at = unpack(ref, at + 1)
    where = Ref(int.from_bytes(ref[at : at + 6], "big"), int.from_bytes(ref[at + 6 : at + 10], "big"))
    return low, high, where, ref[at + 10], _first_of(ref, at + (17 if ref[at + 10] & TIMED else 11), low)
