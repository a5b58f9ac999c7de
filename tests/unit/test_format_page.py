"""docs/format.md is true: its example, its columns, its members."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import xxhash
from store_support import NOW, WRITER, block_range, columns_of, session_at

from kcl_receiver.ids import block_id
from kcl_receiver.ranges import Arrivals
from kcl_receiver.schema import COLUMNS
from kcl_receiver.store.json_codec import encode
from kcl_receiver.store.layout import block_path, ledger_path
from kcl_receiver.store.ledger.entries import ENTRY_TYPES, encode_lines, first_prev
from kcl_receiver.wire.columns import checksum

PAGE = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
KEY = "kéy-日".encode()
TYPES = {"timestamp, microseconds, UTC": "timestamp[us, tz=UTC]"}


def example() -> bytes:
    found = re.search(r"are these (\d+) bytes, and their checksum:\n\n((?:    [0-9a-f ]+\n)+)", PAGE)
    assert found is not None
    content = bytes.fromhex(re.sub(r"\s", "", found[2]))
    assert len(content) == int(found[1])
    return content


def test_the_worked_example_of_the_checksum_is_true() -> None:
    found = re.search(r"^    checksum ([0-9a-f]{32})$", PAGE, re.MULTILINE)
    assert found is not None
    by_hand = b"".join(
        [
            struct.pack("<2i", 2, 2) + b"4950",
            struct.pack("<2q", 0, 1),
            struct.pack("<2i", 1, len(KEY)) + b"a" + KEY,
            struct.pack("<2q", NOW, -1),
            struct.pack("<2i", 0, 2) + b"\x00\xff",
        ]
    )
    assert by_hand == example()
    assert xxhash.xxh3_128(by_hand).hexdigest() == found[1]
    assert checksum(columns_of([(49, 0, b"a", NOW, b""), (50, 1, KEY, -1, b"\x00\xff")])) == found[1]


def test_the_columns_are_those_of_the_page() -> None:
    listed = re.findall(r"^\| `(\w+)` \| (.*?) \|", PAGE[PAGE.index("| column | type |") :], re.MULTILINE)[
        : len(COLUMNS)
    ]
    assert [(name, TYPES.get(kind, kind)) for name, kind in listed] == [(one.name, one.type) for one in COLUMNS]


def test_every_member_of_a_range_is_on_the_page() -> None:
    for member in json.loads(encode(replace(block_range(1).range, out_of_order=Arrivals(1, 2, 3)))):
        assert f"`{member}`" in PAGE, member


@pytest.mark.parametrize("kind", sorted(ENTRY_TYPES))
def test_every_type_of_ledger_line_is_on_the_page(kind: str) -> None:
    assert re.search(rf"^\| `{kind}` \|", PAGE, re.MULTILINE)


def test_every_member_of_a_session_line_is_on_the_page() -> None:
    line = encode_lines([session_at()], 1, first_prev(WRITER))[0]
    for member in json.loads(line):
        assert f"`{member}`" in PAGE, member


def test_the_paths_are_those_of_the_page() -> None:
    assert block_path(block_id(WRITER, 42)) in PAGE
    assert ledger_path(WRITER) in PAGE
