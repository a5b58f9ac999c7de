"""A reader written from docs/format.md alone: it uses nothing of kcl_receiver, as one in another language would not.

It takes everything into memory. If it has to know something that the page does not say, the page is wrong.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

Position = tuple[int, int]
Row = tuple[Position, str, int, bytes]
"""Position, partition key, arrival in milliseconds or -1, data."""
Stream = tuple[str, int]


def position(text: str) -> Position:
    sequence, _, sub = text.partition(":")
    return int(sequence), int(sub)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def entries(path: Path, writer: str = "") -> Iterator[dict[str, Any]]:
    """Yield the lines of a ledger, each held against its number, the line before and its own hash."""
    before = _hash((writer or path.stem).encode())
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):  # what follows the last newline is torn
        body = line[: line.rindex(b',"hash":"')]
        entry = json.loads(line)
        if (entry["number"], entry["prev"], entry["hash"]) != (number, before, _hash(body)):
            raise ValueError(f"{path}: line {number} is not as it was written")
        before = entry["hash"]
        yield entry


def ledgers(root: Path) -> dict[str, Path]:
    """Return the ledgers of all writers, by id."""
    return {path.stem: path for path in (root / "ledger").glob("[0-9]*/*.jsonl")}


def block_path(root: Path, block: str) -> Path:
    return root / "blocks" / f"{block[:4]}-{block[4:6]}-{block[6:8]}" / f"{block}.parquet"


def arrivals(rows: pa.Table) -> list[int]:
    """Return arrival times in milliseconds, -1 for null; the column has microseconds."""
    column = rows.column("approximate_arrival_timestamp")
    if column.type != pa.timestamp("us", tz="UTC"):
        raise ValueError(f"arrival times are {column.type}")
    micros = column.cast(pa.int64()).to_pylist()
    return [-1 if one is None else one // 1000 if one % 1000 == 0 else one for one in micros]


def checksum(rows: pa.Table) -> str:
    columns = rows.to_pydict()
    sequences = [one.encode() for one in columns["sequence_number"]]
    keys = [one.encode() for one in columns["partition_key"]]
    numbers = {1: columns["sub_sequence_number"], 3: arrivals(rows)}
    texts = {0: sequences, 2: keys, 4: columns["data"]}
    digest = xxhash.xxh3_128(seed=0)
    for place in range(5):
        if place in numbers:
            digest.update(struct.pack(f"<{rows.num_rows}q", *numbers[place]))
        else:
            values = texts[place]
            digest.update(struct.pack(f"<{len(values)}i", *map(len, values)) + b"".join(values))
    return str(digest.hexdigest())


class PlainReader:
    """What a store holds of one stream, the newest.

    Attributes:
        rows: By shard, every record once, in order of position; without those that were expired.
        chains: By shard, how many stretches its ranges cover; one, if they are linked.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        if json.loads((root / "store.json").read_bytes())["format"] != 1:
            raise ValueError("a format that this reader does not know")
        self._replaced: set[str] = set()
        self._expired: set[str] = set()
        recorded: dict[str, dict[str, Any]] = {}
        log = sorted((root / "maintenance").glob("*/*.jsonl"))
        for path in [*ledgers(root).values(), *log]:
            writer = json.loads(path.read_bytes().split(b"\n")[0])["writer"] if path in log else ""
            for entry in entries(path, writer):
                if entry["type"] == "block":
                    recorded[entry["block"]] = entry
                    self._replaced.update(entry.get("replaces", ()))
                elif entry["type"] == "expired":
                    self._expired.update(entry["blocks"])
        streams = {(one["stream"]["arn"], one["stream"]["created"]) for one in recorded.values()}
        self.stream: Stream = max(streams, key=lambda one: one[1])
        mine = {
            block: one
            for block, one in recorded.items()
            if (one["stream"]["arn"], one["stream"]["created"]) == self.stream
        }
        self.chains = _chains([one for entry in mine.values() for one in entry["ranges"]])
        gone = [one for block, entry in mine.items() if block in self._expired for one in entry["ranges"]]
        self._gone = [(one["shard"], position(one["first"]), position(one["last"])) for one in gone]
        self.rows = self._read([block for block in sorted(mine) if block not in self._replaced | self._expired])

    def _read(self, blocks: list[str]) -> dict[str, list[Row]]:
        taken: dict[str, list[tuple[Position, Position]]] = defaultdict(list)
        rows: dict[str, list[Row]] = defaultdict(list)
        for block in blocks:
            table = pq.read_table(block_path(self.root, block))
            footer = json.loads(table.schema.metadata[b"kcl_receiver"])
            if (footer["version"], footer["block"]) != (1, block):
                raise ValueError(f"{block} says that it is {footer['block']}")
            for one in footer["ranges"]:
                part = table.slice(one["first_row"], one["count"])
                if checksum(part) != one["checksum"]:
                    raise ValueError(f"{block}: another checksum from {one['first']} to {one['last']}")
                spans = taken[one["shard"]]
                for row in _rows(part):
                    if not any(low <= row[0] <= high for low, high in spans):
                        rows[one["shard"]].append(row)
                spans.append((position(one["first"]), position(one["last"])))
        left = {shard: sorted(row for row in found if not self.expired(shard, row[0])) for shard, found in rows.items()}
        return {shard: found for shard, found in left.items() if found}

    def expired(self, shard: str, at: Position) -> bool:
        """Return whether a record was in a block that was removed on purpose, whoever else may hold it still."""
        return any(shard == other and low <= at <= high for other, low, high in self._gone)


def _rows(table: pa.Table) -> Iterator[Row]:
    for one, time in zip(table.to_pylist(), arrivals(table), strict=True):
        at = int(one["sequence_number"]), one["sub_sequence_number"]
        yield at, one["partition_key"], time, one["data"]


def _chains(ranges: list[dict[str, Any]]) -> dict[str, int]:
    """Count the stretches that each shard's ranges cover: from `after` if it is a position, else `first`, to `last`.

    A stretch is a pair of places: (position, 0) is just before it, (position, 1) just after it.
    """
    stretches: dict[str, list[tuple[tuple[Position, int], tuple[Position, int]]]] = defaultdict(list)
    for one in ranges:
        low = (position(one["first"]), 0)
        if ":" in one["after"]:
            low = min(low, (position(one["after"]), 1))
        stretches[one["shard"]].append((low, (position(one["last"]), 1)))
    out: dict[str, int] = {}
    for shard, found in stretches.items():
        count, reach = 0, None
        for low, high in sorted(found):
            count += reach is None or low > reach
            reach = high if reach is None else max(reach, high)
        out[shard] = count
    return out
