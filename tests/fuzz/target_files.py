"""Target `files`: a store whose ledger and blocks were damaged, or written by somebody else.

Whoever reads them back gets what they hold or an error of the store, and `verify` gets to its end whatever it meets.
"""

from __future__ import annotations

import hashlib
import json
import struct
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from ledger_index import LedgerIndex
from store_support import local_store

from fuzz.source import Source
from fuzz.verdict import Tally, check
from kcl_receiver.audit.verify import verify_store
from kcl_receiver.errors import BlockDamaged, BlockMissing, LedgerDamaged, StoreError, StoreRefused
from kcl_receiver.generator.carried import CarriedOver
from kcl_receiver.generator.presence import present_ranges
from kcl_receiver.ids import block_id
from kcl_receiver.ranges import TRIM_HORIZON, Forgotten, Position, Range, StreamIdentity
from kcl_receiver.store.blocks.encode import BlockRange, encode_block
from kcl_receiver.store.blocks.file import BlockFile
from kcl_receiver.store.blocks.footers import FOOTER_KEY
from kcl_receiver.store.layout import block_path, ledger_path, log_path, maintenance_path, marker_path
from kcl_receiver.store.ledger.entries import (
    BlockStored,
    Carried,
    Closed,
    Expired,
    Living,
    SessionStarted,
    ShardEnded,
    StoreState,
    WriterStarted,
    decode_ledger,
    encode_lines,
)
from kcl_receiver.store.ledger.store_log import EMPTY, StoreLog, began, settled
from kcl_receiver.store.ledger.takeover import take_over
from kcl_receiver.store.ledger.writer import LedgerWriter
from kcl_receiver.store.store import Store
from kcl_receiver.wire.columns import Columns, VarColumn, checksum

WRITERS = ("20261122T131501Z-7f3a9c01", "20261122T131601Z-00000002", "20261122T131701Z-00000003")
STREAM = StreamIdentity("arn:aws:kinesis:eu-west-1:123456789012:stream/orders", 1_790_000_000_000)
SHARDS = ("shardId-000000000000", "shardId-000000000001")
ROOT = Path("/store")
NOW = 1_795_353_301_000
NEW = "20261123T000000Z-0000000a"
LOG_ENTRIES = 3
"""Number of the newest entry of the store's log; those before it are read by nobody."""
MEMORY = 256 * 2**20
"""Bytes that Arrow may take for a file of a few kilobytes: its own readers' buffers, and no more."""


@contextmanager
def installed() -> Iterator[None]:
    """Nothing has to be replaced."""
    yield


def seeds() -> Iterator[bytes]:
    """Yield inputs to begin with."""
    for step in (1, 3, 7, 11, 37, 101, 151, 200):
        yield bytes(step * number % 256 for number in range(120))
    for kind in range(8):
        yield bytes([kind, 3, 9, 27, 81, 243, 11]) * 3


# ---------------------------------------------------------------------- a store without fault


def _columns(first: int, count: int) -> Columns:
    return Columns(
        count=count,
        sequence=VarColumn.of([b"%d" % (first + row) for row in range(count)]),
        sub=array("q", [0] * count),
        key=VarColumn.of([b"key"] * count),
        arrival=array("q", [NOW + row for row in range(count)]),
        data=VarColumn.of([b"data-%d" % row for row in range(count)]),
    )


def _range(columns: Columns, shard: str, after: Position | str) -> Range:
    last = columns.position(columns.count - 1)
    return Range(
        shard,
        "s1",
        after,
        columns.position(0),
        last,
        last,
        columns.count,
        columns.size,
        NOW,
        NOW,
        checksum(columns),
        delivered=NOW,
    )


@cache
def _good() -> tuple[dict[str, tuple[bytes, BlockStored]], dict[str, list[Any]]]:
    """Return blocks by id, each with its entry, and each writer's entries."""
    blocks: dict[str, tuple[bytes, BlockStored]] = {}
    entries: dict[str, list[Any]] = {}
    after: dict[str, Position | str] = dict.fromkeys(SHARDS, TRIM_HORIZON)
    first = 10
    for writer in WRITERS[:2]:
        lines: list[Any] = [WriterStarted(writer, "host", 7, NOW, "0.1.0"), Carried(STREAM)]
        for shard in SHARDS:
            lines.append(SessionStarted("s1", shard, after[shard], 5, STREAM, (), ("0", "9"), 24, NOW))
        for number in (1, 2):
            ranges = []
            for shard in SHARDS:
                columns = _columns(first, 3)
                ranges.append(BlockRange(_range(columns, shard, after[shard]), columns))
                after[shard] = columns.position(2)
            first += 10
            block = block_id(writer, number)
            encoded = encode_block(block, writer, STREAM, ranges, "none")
            payload = bytes(memoryview(encoded.payload))
            blocks[block] = payload, BlockStored(block, STREAM, encoded.ranges, encoded.rows, len(payload), NOW)
            lines.append(blocks[block][1])
        lines.append(ShardEnded("s1", SHARDS[0], STREAM, after[SHARDS[0]], NOW))
        entries[writer] = lines
    entries[WRITERS[0]].append(Closed(NOW, WRITERS[1]))
    # Maintenance merged the first two, and removed the last one on purpose.
    old = [blocks[block_id(WRITERS[0], number)][1] for number in (1, 2)]
    maintainer = "20261122T131501Z-0000c0de"
    merged = replace(old[0], block=block_id(maintainer, 1), replaces=tuple(one.block for one in old))
    entries[maintainer] = [
        WriterStarted(maintainer, "host", 8, NOW, "0.1.0", {}, "compact"),
        merged,
        Expired(NOW, NOW, (block_id(WRITERS[1], 2),)),
    ]
    return blocks, entries


# ---------------------------------------------------------------------- what is done to it


def _members(entry: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return what the line of an entry says, but for its place in the ledger."""
    line = json.loads(encode_lines([entry], 1, "")[0])
    return {name: value for name, value in line.items() if name not in {"number", "prev", "hash"}}


def _lines(said: list[dict[str, Any]], writer: str, first: int = 1) -> bytes:
    """Return a ledger whose chain holds, and whose lines may say anything."""
    out, prev = b"", _hash(writer.encode())
    for number, members in enumerate(said, first):
        body = json.dumps({"number": number, "prev": prev, **members}).encode()[:-1]
        prev = _hash(body)
        out += body + b',"hash":"' + prev.encode() + b'"}\n'
    return out


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _change_somewhere(source: Source, value: Any, depth: int = 0) -> Any:  # noqa: ANN401
    """Return a value of JSON with something changed at any depth."""
    if depth == 8:
        return source.changed(value)
    if isinstance(value, dict) and value and not source.one_in(8):
        name = source.pick(sorted(value, key=str))
        out = dict(value)
        if source.one_in(8):
            del out[name]
        else:
            out[name] = _change_somewhere(source, value[name], depth + 1)
        return out
    if isinstance(value, list | tuple) and value and not source.one_in(8):
        place = source.below(len(value))
        return [*value[:place], _change_somewhere(source, value[place], depth + 1), *value[place + 1 :]]
    return source.changed(value)


def _ledger(source: Source, writer: str, entries: list[Any]) -> bytes:
    """Return a ledger whose chain holds, and whose entries may say anything; or one that was damaged."""
    said = list(map(_members, entries))
    for _ in range(source.below(3)):
        place = source.below(len(said))
        changed = _change_somewhere(source, said[place])
        said[place] = changed if isinstance(changed, dict) else {"type": changed}
    if source.one_in(4):
        said.insert(source.below(len(said)), source.pick(said))
    try:
        content = _lines(said, writer)
    except RecursionError:  # nesting is written by hand
        content, tail = encode_lines(entries, 1, _hash(writer.encode()))
        body = b'{"number":%d,"prev":"%s","type":"block","ranges":' % (tail.number + 1, tail.hash.encode())
        body += b"[" * 4000 + b"]" * 4000
        content += body + b',"hash":"' + _hash(body).encode() + b'"}\n'
    if source.one_in(3):
        damaged = source.damaged(content)
        found, true = decode_ledger(writer, damaged).entries, decode_ledger(writer, content).entries
        check(found == true[: len(found)], "a line that was altered is taken for a good one")
        return damaged
    return content


def _log(source: Source) -> bytes:
    """Return the newest entry of the store's log, which may say anything; or one that was damaged."""
    said = _members(_state())
    for _ in range(source.below(3)):
        changed = _change_somewhere(source, said)
        said = changed if isinstance(changed, dict) else {"type": changed}
    try:
        content = _lines([said], "log", LOG_ENTRIES)
    except RecursionError:
        content = b'{"number":%d,"type":"state","forgotten":' % LOG_ENTRIES + b"[" * 4000
    return source.damaged(content) if source.one_in(3) else content


def _state() -> StoreState:
    forgotten = {SHARDS[0]: Forgotten(Position(12), NOW)}
    living = {WRITERS[1]: Living("host", 7, "0.1.0", NOW)}
    return StoreState(WRITERS[1], NOW, living, WRITERS[:1], STREAM, forgotten, WRITERS[1])


def _block(source: Source, content: bytes) -> bytes:
    """Return a block with anything in its footer, or one that was damaged."""
    if not source.one_in(2):
        for _ in range(1 + source.below(3)):
            content = source.damaged(content)
        return content
    table = pq.read_table(pa.BufferReader(content))
    footer = json.loads(pq.read_metadata(pa.BufferReader(content)).metadata[FOOTER_KEY.encode()])
    for _ in range(1 + source.below(2)):
        footer = _change_somewhere(source, footer)
    try:
        text = json.dumps(footer).encode()
    except RecursionError:
        text = b'{"version":1,"ranges":' + b"[" * 20_000 + b"]" * 20_000 + b"}"
    if source.one_in(4):
        text = source.damaged(text)
    if source.one_in(4):
        table = table.slice(source.below(3))
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, compression="none", store_schema=False) as out:
        out.write_table(table)
        out.add_key_value_metadata({FOOTER_KEY: text})
    return bytes(memoryview(sink.getvalue()))


def _store(source: Source) -> Store:
    from fake_files import FakeFiles

    files = FakeFiles()
    store = local_store(ROOT, files)
    store.claim("landing")
    blocks, entries = _good()
    hostile = source.below(3)
    for block, (content, _) in blocks.items():
        if source.one_in(12):
            continue
        payload = _block(source, content) if hostile and source.one_in(4) else content
        _put(files, ROOT / block_path(block), payload)
    if hostile and source.one_in(3):
        _put(files, ROOT / block_path(block_id(WRITERS[2], 1)), _block(source, blocks[block_id(WRITERS[0], 1)][0]))
    numbered = 0
    for writer, lines in entries.items():
        if source.one_in(12):
            continue
        content = encode_lines(lines, 1, hashlib.sha256(writer.encode()).hexdigest()[:32])[0]
        if hostile != 1:
            content = _ledger(source, writer, lines)
        path = ledger_path(writer)
        if writer not in WRITERS:
            numbered += 1
            path = maintenance_path(numbered)
            _put(files, ROOT / marker_path(numbered, writer), b"")
        _put(files, ROOT / path, content)
    if not source.one_in(12):  # else the log is lost
        line = encode_lines([_state()], LOG_ENTRIES, _hash(b"log"))[0]
        _put(files, ROOT / log_path(LOG_ENTRIES), line if hostile == 1 else _log(source))
    if source.one_in(16):
        _put(files, ROOT / "store.json", source.damaged(b'{"format": 1, "application": "landing"}\n'))
    return store


def _put(files: Any, path: Path, content: bytes) -> None:  # noqa: ANN401
    for parent in reversed(path.parents):
        if not files.is_dir(parent):
            files.mkdir(parent)
    if files.size(path) is not None:
        files.unlink(path)
    handle = files.create(path)
    files.write(handle, content)
    files.close(handle)


# ---------------------------------------------------------------------- who reads it


def run(data: bytes, tally: Tally) -> None:
    """Take one input."""
    source = Source(data)
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()
    store = _store(source)
    _read_blocks(store, tally)
    _load_index(store, tally)
    _start_generator(store, tally)
    try:
        report = verify_store(store, deep=True)
        tally.reached["verified to the end" + (", all proven" if report.proven else "")] += 1
    except StoreError as error:
        tally.named(error, LedgerDamaged, StoreRefused)
    check(pool.bytes_allocated() - before < MEMORY, "Arrow holds more than the bound")


def _read_blocks(store: Store, tally: Tally) -> None:
    for block, _ in store.list_blocks():
        try:
            with BlockFile(store, block) as file:
                for one in file.footer.ranges:
                    ((_, rows),) = file.rows([one])
                    check(_reference(rows) == one.checksum, "rows that were altered are taken for good ones")
        except (BlockDamaged, BlockMissing) as error:
            tally.named(error, BlockDamaged, BlockMissing)


def _reference(rows: pa.RecordBatch) -> str:
    """Return the checksum of docs/format.md, record by record."""
    lists = {name: rows.column(name).to_pylist() for name in rows.column_names if "arrival" not in name}
    micros = rows.column("approximate_arrival_timestamp").cast(pa.int64()).to_pylist()
    arrivals = [None if one is None else one // 1000 for one in micros]
    texts = [
        [one.encode() for one in lists["sequence_number"]],
        [one.encode() for one in lists["partition_key"]],
        lists["data"],
    ]
    fixed = [
        struct.pack(f"<{rows.num_rows}q", *lists["sub_sequence_number"]),
        struct.pack(f"<{rows.num_rows}q", *(-1 if one is None else one for one in arrivals)),
        b"",
    ]
    digest = xxhash.xxh3_128()
    for values, numbers in zip(texts, fixed, strict=True):
        digest.update(struct.pack(f"<{len(values)}i", *map(len, values)) + b"".join(values) + numbers)
    return str(digest.hexdigest())


def _start_generator(store: Store, tally: Tally) -> None:
    """What a generator does with a store at its start, and when a session begins."""
    try:
        store.claim("landing")
        log = StoreLog(store)
        taken = take_over(store, log)
    except StoreError as error:
        tally.named(error, LedgerDamaged, StoreRefused)
        return
    streams = {entry.stream for entry in taken.blocks} | {carried.stream for carried in taken.carried} | {STREAM}
    for stream in streams:
        recent = CarriedOver.of(taken, stream, None, NOW).recent
        for shard in {one.shard for entry in taken.blocks for one in entry.ranges}:
            present_ranges(store, recent.beyond(shard, TRIM_HORIZON))
            present_ranges(store, recent.beyond(shard, Position(15)))
            recent.arrival_of(shard, Position(15))
            recent.reaches(shard, Position(15))
    for old, last in taken.closing(store, NEW, NOW):
        old.append(last)
    started = WriterStarted(NEW, "host", 1, NOW, "0")
    carried = CarriedOver.of(taken, STREAM, None, NOW)
    first = carried.first_entries(started, STREAM, 24)
    forgotten = carried.recent.forgotten
    log.change(lambda state: began(taken.state if state == EMPTY else state, started, taken.ours, STREAM, forgotten))
    LedgerWriter(store, NEW).append(first)
    log.change(lambda state: settled(state, NEW, NOW, (), forgotten))
    tally.reached["a generator started"] += 1
    again = take_over(store)
    check([*again.state.living] == [NEW], "the log does not say who writes")
    check(not any(again.adopted.values()), "a block was not recorded by who took it over")


def _load_index(store: Store, tally: Tally) -> None:
    """What a small tool does that takes all of it into memory."""
    try:
        index = LedgerIndex.load(store)
    except StoreError as error:
        tally.named(error, LedgerDamaged, StoreRefused)
        return
    for stream in index.streams():
        for shard in index.shards(stream):
            index.ranges(stream, shard)
            index.sessions(stream, shard)
            index.shard_ended(stream, shard)
    tally.reached["the ledger was loaded"] += 1
