"""Lines come out whole, whatever pieces the pipe gives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kcl_receiver.errors import DaemonError
from kcl_receiver.processor import lines
from kcl_receiver.processor.lines import Line, LineReader


def text_of(line: Line) -> bytes:
    return bytes(line.buffer[line.start : line.end])


def feed(reader: LineReader, piece: bytes) -> list[bytes]:
    """Let a reader have these bytes, as much at a time as it has room for."""
    out: list[bytes] = []
    while piece:
        room = reader.buffer()
        now, piece = piece[: len(room)], piece[len(room) :]
        room[: len(now)] = now
        out += map(text_of, reader.advance(len(now)))
    return out


def feed_all(pieces: list[bytes]) -> list[bytes]:
    reader = LineReader()
    return [line for piece in pieces for line in feed(reader, piece)]


@given(st.lists(st.binary(max_size=30).map(lambda one: one.replace(b"\n", b"")), max_size=8), st.data())
def test_lines_do_not_depend_on_how_the_bytes_are_cut(lines: list[bytes], data: st.DataObject) -> None:
    text = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=10)))
    pieces = [text[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert feed_all(pieces) == [line for line in lines if line.strip()]


def test_a_byte_at_a_time_is_enough() -> None:
    text = b'{"a":1}\n{"b":2}\n'
    assert feed_all([bytes([byte]) for byte in text]) == [b'{"a":1}', b'{"b":2}']


def test_a_line_is_not_given_before_its_end() -> None:
    reader = LineReader()
    assert feed(reader, b'{"action":"lease') == []
    assert feed(reader, b'Lost"}') == []
    assert feed(reader, b"\n") == [b'{"action":"leaseLost"}']


def test_blank_lines_are_left_out() -> None:
    assert feed_all([b"\n \t\r\n\na\n\n" + b" " * 100 + b"\n"]) == [b"a"]


def test_a_line_feed_alone_ends_a_line() -> None:
    separators = "\u2028\u2029\u0085\x0b\x0c\x1c\x1e".encode()
    assert feed_all([b"a\r" + separators + b"b\n"]) == [b"a\r" + separators + b"b"]


def test_a_line_that_was_given_holds_until_more_is_read() -> None:
    reader = LineReader()
    reader.buffer()[:9] = b"first\nsec"
    (first,) = reader.advance(9)
    assert text_of(first) == b"first"
    assert feed(reader, b"ond\nthird") == [b"second"]


def test_a_line_longer_than_the_buffer_makes_it_grow_and_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "FIRST_BYTES", 8)
    monkeypatch.setattr(lines, "KEPT_BYTES", 32)
    reader = LineReader()
    assert len(reader.buffer()) == 8
    assert feed(reader, b"ab\n" + b"x" * 20 + b"\n") == [b"ab", b"x" * 20]
    assert len(reader.buffer()) == 32, "what ordinary lines need is kept"
    assert feed(reader, b"y" * 50 + b"\nz") == [b"y" * 50]
    assert feed(reader, b"\n") == [b"z"]
    assert len(reader.buffer()) == 8


def test_a_grown_buffer_is_given_back_on_demand_unless_a_line_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "FIRST_BYTES", 8)
    reader = LineReader()
    assert feed(reader, b"x" * 20 + b"\nbeg") == [b"x" * 20]
    reader.release()
    assert feed(reader, b"un\n") == [b"begun"]
    assert len(reader.buffer()) > 8
    reader.release()
    assert len(reader.buffer()) == 8
    assert feed(reader, b"y\n") == [b"y"]


def test_a_line_that_does_not_end_is_refused_before_it_takes_all_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 1000)
    reader = LineReader()
    assert feed(reader, b"x" * 999 + b"\n" + b"x" * 1000) == [b"x" * 999]
    with pytest.raises(DaemonError, match="a line of more than 1000 bytes"):
        feed(reader, b"x")
