"""Choices out of bytes: what a fuzzer mutates becomes a course of events, and the same bytes are the same course.

Bytes that have run out read as zero, so that every input is a whole one, and one that is cut off is a prefix of the
same course.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")

INTEGERS = (0, 1, -1, 2, 3, 7, 8, 11, 127, -128, 255, 65_535, 65_537)
LARGE_INTEGERS = tuple(
    sign * (2**bits + offset) for bits in (31, 32, 53, 62, 63, 64) for offset in (-1, 0, 1) for sign in (1, -1)
)
TEXTS = (
    "",
    "0",
    "1",
    "00",
    "1:0",
    "1:1",
    "1:-1",
    "1:",
    ":",
    "-1",
    "9" * 129,
    "9" * 130,
    "9" * 5000,
    f"5:{2**63 - 1}",
    f"5:{2**63}",
    "TRIM_HORIZON",
    "AT_TIMESTAMP",
    "LATEST",
    "SHARD_END",
    "landing",
    "shardId-000000000000",
    "shardId-000000000001",
    "shardId-" + "0" * 140,
    "session",
    "..",
    "../x",
    "/",
    "a\0b",
    "a\nb",
    "a b",
    "é日",
    "\U0001f600" * 9,
    "٣",
    "²",
    "\ufeff1",
    "1\n",
    " 1",
    "1_0",
    "0x1",
    "1e3",
    "x" * 70_000,
)


class Source:
    """See the module.

    Attributes:
        rarely: Only one in so many things that could be wrong is: what lies deep is reached by those who behave.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self.rarely = 1

    def __bool__(self) -> bool:
        """Whether anything is left."""
        return self._at < len(self._data)

    def byte(self) -> int:
        """Return the next byte."""
        at = self._at
        if at >= len(self._data):
            return 0
        self._at = at + 1
        return self._data[at]

    def take(self, count: int) -> bytes:
        """Return up to so many bytes."""
        at = self._at
        self._at = min(len(self._data), at + count)
        return self._data[at : self._at]

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.take(len(self._data))

    def below(self, bound: int) -> int:
        """Return a number from 0 to `bound` - 1."""
        if bound <= 256:
            return self.byte() % bound
        return int.from_bytes(self.take((bound.bit_length() + 7) // 8), "little") % bound

    def one_in(self, times: int) -> bool:
        """Return True about once in so many times; False for a zero byte, so that an input that ends ends quietly."""
        return self.byte() % times == times - 1

    def is_wrong(self) -> bool:
        """Return whether the next thing is to have something wrong."""
        return self.byte() % (2 * self.rarely) == 2 * self.rarely - 1

    def pick(self, options: Sequence[T]) -> T:
        """Return one of the options."""
        return options[self.below(len(options))]

    def integer(self) -> int:
        """Return an integer, of the kinds that break things."""
        kind = self.byte()
        if kind < 80:
            return self.pick(INTEGERS)
        if kind < 170:
            return self.pick(LARGE_INTEGERS)
        if kind < 200:
            return int.from_bytes(self.take(2), "little")
        return int.from_bytes(self.take(8), "little", signed=True)

    def text(self) -> str:
        """Return a text, of the kinds that break things."""
        kind = self.byte()
        if kind < 170:
            return self.pick(TEXTS)
        if kind < 200:
            return str(self.integer())
        return self.take(self.below(40)).decode("utf-8", "ignore")

    def anything(self, depth: int = 0) -> Any:  # noqa: ANN401
        """Return a value that MessagePack and JSON know, of any type."""
        kind = self.below(9 if depth < 3 else 6)
        if kind == 0:
            return None
        if kind == 1:
            return bool(self.byte() & 1)
        if kind == 2:
            return self.pick((0.0, -1.5, 1e300, float("inf"), float("nan")))
        if kind in (3, 4):
            return self.integer()
        if kind == 5:
            return self.text()
        if kind == 6:
            return [self.anything(depth + 1) for _ in range(self.below(4))]
        if kind == 7:
            return {self.text(): self.anything(depth + 1) for _ in range(self.below(4))}
        return nested(self.pick((10, 300, 2000)))

    def changed(self, value: Any) -> Any:  # noqa: ANN401
        """Return another value in the place of one: often of the same type."""
        if self.one_in(6):
            return self.anything()
        if isinstance(value, bool):
            return not value
        if isinstance(value, int):
            return value + self.pick((1, -1, 2)) if self.one_in(3) else self.integer()
        if isinstance(value, str):
            return self.text()
        return self.anything()

    def damaged(self, content: bytes) -> bytes:
        """Return bytes with one thing wrong: flipped, overwritten, cut, doubled, or with something put in."""
        if not content:
            return self.take(8)
        out = bytearray(content)
        at = self.below(len(out))
        kind = self.below(6)
        if kind == 0:
            out[at] ^= 1 << self.below(8)
        elif kind == 1:
            out[at] = self.byte()
        elif kind == 2:
            del out[at:]
        elif kind == 3:
            width = self.pick((1, 2, 4, 8))
            out[at : at + width] = (self.integer() % 256**width).to_bytes(width, "little")
        elif kind == 4:
            out[at:at] = self.take(self.below(9))
        else:
            end = min(len(out), at + 1 + self.below(16))
            out[at:at] = out[at:end]
        return bytes(out)


def nested(depth: int) -> list[Any]:
    """Return lists within lists."""
    out: list[Any] = []
    for _ in range(depth):
        out = [out]
    return out
