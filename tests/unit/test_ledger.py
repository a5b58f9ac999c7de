"""The ledger: its chain of lines, what is found in it, and what is found without it."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from ledger_index import LedgerIndex
from places import Place, Watched, kept_ledger
from store_support import (
    NOW,
    OTHER_WRITER,
    SHARD,
    STREAM,
    WRITER,
    begin,
    block_range,
    put,
    session_at,
)

from kcl_receiver.errors import BlockDamaged, LedgerDamaged, StoreUnavailable
from kcl_receiver.horizon import ShardMark
from kcl_receiver.ids import block_id, writer_id
from kcl_receiver.ranges import AT_TIMESTAMP, TRIM_HORIZON, Forgotten, Position, Range, StreamIdentity
from kcl_receiver.store.json_codec import decode
from kcl_receiver.store.layout import ledger_path
from kcl_receiver.store.ledger.entries import (
    BlockStored,
    Carried,
    Closed,
    Entry,
    Expired,
    Living,
    ShardEnded,
    StoreState,
    Tail,
    WriterStarted,
    decode_entry,
    decode_ledger,
    encode_lines,
    first_prev,
)
from kcl_receiver.store.ledger.reading import Ledger
from kcl_receiver.store.ledger.writer import LedgerWriter, rebuild_from_footers
from kcl_receiver.store.objects import Checked, Objects, Stat
from kcl_receiver.store.store import Store

THIRD_WRITER = writer_id(NOW + 120_000, "00000003")


@pytest.fixture
def store(place: Place) -> Store:
    return place()


def content(store: Store, writer: str = WRITER) -> bytes:
    return kept_ledger(store, writer).read()


def write(store: Store, changed: bytes, writer: str = WRITER) -> None:
    kept_ledger(store, writer).write(changed)


ENTRIES: list[Entry] = [
    WriterStarted(WRITER, "hòst", 42, NOW, "0.1.0", {OTHER_WRITER: Tail(7, "ab" * 16)}),
    session_at(Position(10**128, 2**62), parents=("p1", "p2"), trimmed=True),
    replace(session_at(AT_TIMESTAMP), hash_range=None),
    ShardEnded("s1", SHARD, STREAM, Position(5, 1), NOW),
    Carried(STREAM, (ShardMark(SHARD, "", Position(3), NOW, NOW), ShardMark("other", "", TRIM_HORIZON, -1)), NOW),
    ShardEnded("s1", SHARD, STREAM, TRIM_HORIZON, NOW),
    BlockStored(block_id(WRITER, 1), STREAM, (block_range(1, 2).range, block_range(7).range), 3, 12_345, NOW),
    BlockStored(block_id(WRITER, 2), STREAM, (block_range(1, 2).range,), 2, 123, NOW, (block_id(OTHER_WRITER, 1),)),
    Expired(NOW, NOW - 1, (block_id(WRITER, 3), block_id(WRITER, 4))),
    WriterStarted(WRITER, "host", 42, NOW, "0.1.0", role="compact"),
]
EVERY: list[Entry] = [
    *ENTRIES,
    Closed(NOW, OTHER_WRITER),
    StoreState(
        WRITER,
        NOW,
        {WRITER: Living("hòst", 42, "0.1.0", NOW)},
        (OTHER_WRITER,),
        STREAM,
        {SHARD: Forgotten(Position(3), NOW), "other": Forgotten(Position(9, 2), -1)},
        OTHER_WRITER,
    ),
]


# Lines


@pytest.mark.parametrize("entry", EVERY, ids=lambda entry: type(entry).__name__)
def test_an_entry_is_read_back_as_it_was_written(entry: Entry) -> None:
    line, _ = encode_lines([entry], 1, first_prev(WRITER))
    assert decode_entry(line) == entry


@pytest.mark.parametrize("raw", [{}, {"type": "other"}, {"type": "block"}, {"type": []}, [], None, 1, "x"])
def test_what_is_no_entry_is_refused(raw: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_entry(json.dumps(raw).encode())


@pytest.mark.parametrize("entry", EVERY, ids=lambda entry: type(entry).__name__)
def test_a_line_without_one_of_its_members_is_no_entry(entry: Entry) -> None:
    line, _ = encode_lines([entry], 1, first_prev(WRITER))
    whole = json.loads(line)
    can_be_left_out = {"number", "prev", "hash", "tails", "follows", "marks", "late", "sessions", "replaces"}
    can_be_left_out |= {"living", "kept", "forgotten", "stream"}
    for member in whole.keys() - can_be_left_out:
        with pytest.raises(ValueError, match=r"."):
            decode_entry(json.dumps({name: value for name, value in whole.items() if name != member}).encode())


def test_members_that_are_empty_are_left_out_and_those_of_other_names_ignored() -> None:
    entry = WriterStarted(WRITER, "host", 42, NOW, "0.1.0")
    line, _ = encode_lines([entry], 1, first_prev(WRITER))
    assert "tails" not in json.loads(line)
    assert decode_entry(json.dumps({**json.loads(line), "tails": {}, "more": [1]}).encode()) == entry


def test_lines_are_json_with_number_previous_hash_and_hash_last() -> None:
    lines, tail = encode_lines(ENTRIES, 1, first_prev(WRITER))
    raws = [json.loads(line) for line in lines.splitlines()]
    assert [raw["number"] for raw in raws] == list(range(1, len(ENTRIES) + 1))
    assert [raw["prev"] for raw in raws] == [first_prev(WRITER), *(raw["hash"] for raw in raws[:-1])]
    assert all(list(raw)[-1] == "hash" for raw in raws)
    assert tail == Tail(len(ENTRIES), raws[-1]["hash"])


def test_the_hash_is_what_the_format_page_says() -> None:
    assert first_prev(WRITER) == hashlib.sha256(WRITER.encode()).hexdigest()[:32]
    line = encode_lines(ENTRIES[:1], 1, first_prev(WRITER))[0].rstrip(b"\n")
    body, _, _ = line.rpartition(b',"hash":"')
    assert json.loads(line)["hash"] == hashlib.sha256(body).hexdigest()[:32]


def test_lines_appended_at_once_or_one_by_one_are_the_same(store: Store, place: Place) -> None:
    other = place("other")
    LedgerWriter(store, WRITER).append(ENTRIES)
    one_by_one = LedgerWriter(other, WRITER)
    for entry in ENTRIES:
        one_by_one.append([entry])
    assert content(store) == content(other)
    assert decode_ledger(WRITER, content(store)).entries == ENTRIES


def test_appending_nothing_writes_nothing(store: Store) -> None:
    LedgerWriter(store, WRITER).append([])
    assert list(store.objects.list("")) == []


@pytest.mark.parametrize("took_effect", [False, True])
def test_after_a_failure_the_same_entries_are_appended_once(store: Store, took_effect: bool) -> None:
    failing = Failing(store.objects, took_effect=took_effect)
    ledger = LedgerWriter(Store(failing), WRITER)
    ledger.append(ENTRIES[:1])
    failing.failures = 2
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            ledger.append(ENTRIES[1:3])
        assert ledger.tail.number == 1
    with pytest.raises(ValueError, match="the same entries"):
        ledger.append(ENTRIES[2:4])
    ledger.append(ENTRIES[1:3])
    ledger.append(ENTRIES[3:])
    assert decode_ledger(WRITER, content(store)).entries == ENTRIES


class Failing(Checked):
    """A place whose next appends fail, before they took effect or after it."""

    def __init__(self, objects: Objects, *, took_effect: bool) -> None:
        super().__init__(objects)
        self.failures = 0
        self._took_effect = took_effect

    def append(self, key: str, number: int, lines: bytes) -> None:
        self.failures -= 1
        if self.failures < 0 or self._took_effect:
            super().append(key, number, lines)
        if self.failures >= 0:
            raise TimeoutError("made to fail")


# Damage


def test_a_torn_last_line_is_ignored_and_said(store: Store) -> None:
    LedgerWriter(store, WRITER).append(ENTRIES)
    whole = content(store)
    last = whole.splitlines(keepends=True)[-1]
    for cut in range(1, len(last)):
        write(store, whole[:-cut])
        ledger = decode_ledger(WRITER, content(store))
        assert ledger.fault is None
        assert ledger.entries == ENTRIES[:-1]
        assert ledger.torn == len(last) - cut


def test_a_ledger_under_the_name_of_another_writer_is_found(store: Store) -> None:
    LedgerWriter(store, WRITER).append(ENTRIES)
    assert decode_ledger(OTHER_WRITER, content(store)).fault is not None


def test_the_index_names_the_writers_whose_ledger_is_torn(store: Store) -> None:
    ledger = begin(store, WRITER)
    ledger.append([session_at()])
    write(store, content(store) + b'{"number":4,')
    index = LedgerIndex.load(store)
    assert index.torn == {WRITER: 12}
    assert index.writers[WRITER].number == 3


def test_every_single_altered_byte_is_found() -> None:
    lines = encode_lines(ENTRIES, 1, first_prev(WRITER))[0]
    for at in range(len(lines)):
        changed = bytearray(lines)
        changed[at] ^= 1
        ledger = decode_ledger(WRITER, bytes(changed))
        assert ledger.fault is not None or (ledger.torn and at == len(lines) - 1), at
        assert ledger.entries == ENTRIES[: lines[:at].count(b"\n")]


@pytest.mark.parametrize("lost", range(5))
def test_a_missing_line_is_found(lost: int) -> None:
    lines = encode_lines(ENTRIES, 1, first_prev(WRITER))[0].splitlines(keepends=True)
    ledger = decode_ledger(WRITER, b"".join(lines[:lost] + lines[lost + 1 :]))
    assert ledger.fault is not None
    assert f"line {lost + 1} of the ledger of writer {WRITER}" in ledger.fault.message
    assert ledger.entries == ENTRIES[:lost]


def test_exchanged_or_repeated_lines_are_found() -> None:
    a, b, *rest = encode_lines(ENTRIES, 1, first_prev(WRITER))[0].splitlines(keepends=True)
    for lines in ([b, a, *rest], [a, a, b, *rest], [a, b, b, *rest]):
        assert decode_ledger(WRITER, b"".join(lines)).fault is not None


def test_a_line_with_a_hash_and_without_sense_is_found() -> None:
    for body in (b"{", b'{"number":1', b"[1", b'"x'):
        line = body + b',"hash":"' + hashlib.sha256(body).hexdigest()[:32].encode() + b'"}\n'
        assert decode_ledger(WRITER, line).fault is not None


def test_a_line_with_another_number_than_its_own_is_found() -> None:
    line = encode_lines(ENTRIES[:1], 2, first_prev(WRITER))[0]
    fault = decode_ledger(WRITER, line).fault
    assert fault is not None
    assert "it says that it is line 2" in fault.message


def test_a_damaged_ledger_is_not_loaded(store: Store) -> None:
    LedgerWriter(store, WRITER).append(ENTRIES[1:3])
    write(store, content(store).replace(b'"retention_hours":24', b'"retention_hours":48', 1))
    with pytest.raises(LedgerDamaged, match=r"line 1 .* hash does not fit") as caught:
        LedgerIndex.load(store)
    assert "docs/format.md" in caught.value.hint


def test_lines_lost_from_the_end_of_a_closed_ledger_are_found(store: Store) -> None:
    begin(store, WRITER).append([session_at(), session_at(1)])
    begin(store, OTHER_WRITER)
    whole = content(store)
    lines = whole.splitlines(keepends=True)
    for kept in range(1, 5):
        write(store, b"".join(lines[:kept]))
        with pytest.raises(LedgerDamaged, match=f"writer {WRITER} was closed, and its end is not there: {kept} lines"):
            LedgerIndex.load(store)
    kept_ledger(store, WRITER).remove()
    with pytest.raises(LedgerDamaged, match="nothing of it is there"):
        LedgerIndex.load(store)
    write(store, whole)
    LedgerIndex.load(store)


def test_a_line_behind_the_last_one_is_damage(store: Store) -> None:
    ledger = begin(store, WRITER)
    ledger.append([Closed(NOW, WRITER)])
    ledger.append([session_at()])
    with pytest.raises(LedgerDamaged, match=r"line 4 .* the line before it is the last one"):
        LedgerIndex.load(store)


# The index


def test_ranges_are_found_by_stream_and_shard_sorted_by_position(store: Store) -> None:
    two = put(store, 2, block_range(1, 2), block_range(5, shard="other"))
    one = put(store, 1, block_range(10**56, after=Position(9)), block_range(3, 9, after=Position(2)))
    LedgerWriter(store, WRITER).append([two, one])
    index = LedgerIndex.load(store)
    assert [(found.first.sequence_number, block) for found, block in index.ranges(STREAM, SHARD)] == [
        (1, two.block),
        (3, one.block),
        (10**56, one.block),
    ]
    assert index.streams() == {STREAM}
    assert index.shards(STREAM) == ["other", SHARD]
    assert index.ranges(STREAM, "unknown") == []
    assert dict(index.blocks()) == {one.block: one, two.block: two}
    assert index.adopted == []
    assert not index.lost


def test_the_same_block_twice_counts_once(store: Store) -> None:
    one = put(store, 1, block_range(1, 2))
    LedgerWriter(store, WRITER).append([one, one])
    assert len(LedgerIndex.load(store).ranges(STREAM, SHARD)) == 1


def test_a_stream_made_again_under_its_name_is_another_one(store: Store) -> None:
    again = StreamIdentity(STREAM.arn, STREAM.created + 1)
    LedgerWriter(store, WRITER).append(
        [put(store, 1, block_range(1, 2)), put(store, 2, block_range(1, 5), stream=again), session_at(stream=again)]
    )
    index = LedgerIndex.load(store)
    assert index.streams() == {STREAM, again}
    assert [one.last.sequence_number for one, _ in index.ranges(STREAM, SHARD)] == [2]
    assert [one.last.sequence_number for one, _ in index.ranges(again, SHARD)] == [5]
    assert index.sessions(STREAM, SHARD) == []


def test_an_entry_that_is_added_is_found_among_those_that_were_loaded(store: Store) -> None:
    LedgerWriter(store, WRITER).append([put(store, 2, block_range(7))])
    index = LedgerIndex.load(store)
    assert len(index.ranges(STREAM, SHARD)) == 1
    index.add(put(store, 3, block_range(1)))
    assert [one.first.sequence_number for one, _ in index.ranges(STREAM, SHARD)] == [1, 7]


def test_a_shard_s_end_and_sessions_are_found() -> None:
    index = LedgerIndex()
    end = ShardEnded("s2", SHARD, STREAM, Position(5), NOW)
    late, early = session_at(5, session="s2", time=NOW + 1), session_at(session="s1")
    for entry in (late, early, end):
        index.add(entry)
    assert index.shard_ended(STREAM, SHARD) == end
    assert index.shard_ended(STREAM, "other") is None
    assert index.sessions(STREAM, SHARD) == [early, late]
    assert index.shards(STREAM) == [SHARD]


# Without a ledger


def test_a_lost_ledger_is_made_again_from_the_footers(store: Store) -> None:
    ledger = begin(store, WRITER)
    entries = [put(store, number, block_range(number * 10, number * 10 + 1)) for number in (1, 2, 3)]
    ledger.append(entries)
    known = LedgerIndex.load(store).ranges(STREAM, SHARD)
    kept_ledger(store, WRITER).remove()
    store.objects.delete([one.key for one in store.objects.list("log/")])  # or its ledger would be missed
    index = LedgerIndex.load(store)
    assert index.lost
    assert index.ranges(STREAM, SHARD) == known
    assert index.adopted == [replace(entry, time=0) for entry in entries]
    assert index.adopted == rebuild_from_footers(store, store.list_blocks())


def test_a_block_whose_writer_was_killed_before_the_ledger_is_taken_in_by_the_next(store: Store) -> None:
    begin(store, WRITER).append([put(store, 1, block_range(1))])
    put(store, 2, block_range(2, after=Position(1)))
    index = LedgerIndex.load(store)
    assert [entry.block for entry in index.adopted] == [block_id(WRITER, 2)]
    assert not index.lost
    assert len(index.ranges(STREAM, SHARD)) == 2
    begin(store, OTHER_WRITER)
    assert LedgerIndex.load(store).adopted == []


def test_what_another_writer_has_relied_on_is_not_made_durable_again(store: Store) -> None:
    """So a start costs the same, however many writers there were."""
    begin(store, WRITER)
    begin(store, OTHER_WRITER)
    watched = Watched(store.objects)
    begin(Store(watched), THIRD_WRITER)
    assert [key for verb, key in watched.changes if verb == "settle_log"] == [ledger_path(OTHER_WRITER)]


def test_a_mere_reader_changes_nothing(store: Store) -> None:
    begin(store, WRITER)
    put(store, 1, block_range(1))
    watched = Watched(store.objects)
    assert len(LedgerIndex.load(Store(watched)).adopted) == 1
    assert watched.changes == []


def test_a_block_without_a_footer_and_without_a_ledger_is_named(store: Store) -> None:
    put(store, 1, block_range(1))
    store.put_block(block_id(WRITER, 2), b"nothing")
    index = LedgerIndex.load(store)
    assert list(index.unreadable) == [block_id(WRITER, 2)]
    assert len(index.adopted) == 1
    with pytest.raises(BlockDamaged):
        rebuild_from_footers(store, store.list_blocks())


def test_a_block_under_the_name_of_another_is_not_taken_for_it(store: Store) -> None:
    one = put(store, 1, block_range(1))
    store.put_block(block_id(WRITER, 2), store.read_block(one.block))
    index = LedgerIndex.load(store)
    assert index.unreadable == {block_id(WRITER, 2): f"the file of block {block_id(WRITER, 2)} holds block {one.block}"}


def test_an_empty_store_has_no_ledger_to_lose(store: Store) -> None:
    index = LedgerIndex.load(store)
    assert (index.lost, index.adopted, index.streams()) == (False, [], set())


def _said(**changes: object) -> dict[str, object]:
    """Return what a session's line says, with something changed."""
    line, _ = encode_lines([session_at(TRIM_HORIZON)], 1, first_prev(WRITER))
    return {**json.loads(line), **changes}


def _block_said(**changes: object) -> dict[str, object]:
    return {"type": "block", "block": block_id(WRITER, 1), "stream": {"arn": "a", "created": 1}} | {
        "ranges": [],
        "rows": 0,
        "size": 1,
        "time": 1,
        **changes,
    }


@pytest.mark.parametrize(
    "raw",
    [
        _said(session=5),
        _said(shard={"a": 1}),
        _said(shard=None),
        _said(parents=[5]),
        _said(parents=[["x"]]),
        _said(hash_range=[]),
        _said(hash_range=["0"]),
        _said(hash_range=[0, 1]),
        _said(time=float("inf")),
        _block_said(block=[]),
        _block_said(block="../../etc/passwd"),
        _block_said(block=""),
        _block_said(ranges=[[]]),
        _block_said(stream=[]),
        {"type": "writer", "writer": [], "host": "h", "pid": 1, "time": 1, "version": "1", "tails": {}},
        {"type": "writer", "writer": WRITER, "host": "h", "pid": 1, "time": 1, "version": "1", "tails": {"x": 1}},
        {"type": "shard_end", "session": "s", "shard": 7, "stream": {"arn": "a", "created": 1}, "last": "1", "time": 1},
        {"type": []},
    ],
    ids=repr,
)
def test_a_line_whose_hash_fits_and_whose_members_are_of_another_form_is_damage_by_name(raw: dict[str, object]) -> None:
    members = {name: value for name, value in raw.items() if name not in {"number", "prev", "hash"}}
    body = json.dumps({"number": 1, "prev": first_prev(WRITER), **members}).encode().replace(b"Infinity", b"1e999")[:-1]
    ledger = decode_ledger(WRITER, body + b',"hash":"' + hashlib.sha256(body).hexdigest()[:32].encode() + b'"}\n')
    assert ledger.entries == []
    assert isinstance(ledger.fault, LedgerDamaged)
    assert "line 1 of the ledger" in ledger.fault.message


def test_a_line_of_lists_within_lists_is_damage_by_name() -> None:
    body = b'{"number":1,"prev":"%s","type":"session","x":' % first_prev(WRITER).encode() + b"[" * 5000 + b"]" * 5000
    content = body + b',"hash":"' + hashlib.sha256(body).hexdigest()[:32].encode() + b'"}\n'
    fault = decode_ledger(WRITER, content).fault
    assert isinstance(fault, LedgerDamaged)


def test_what_stands_in_place_of_a_range_is_not_repeated_in_full() -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        decode(Range, json.dumps({"shard": "x" * 10**6, "more": list(range(10**5))}).encode())
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "entry",
    [
        BlockStored("../../etc/passwd", STREAM, (), 0, 1, NOW),
        BlockStored(block_id(WRITER, 1), STREAM, (), 0, 1, NOW, ("../../etc/passwd",)),
        Expired(NOW, NOW, ("../../etc/passwd",)),
    ],
    ids=["block", "replaced", "expired"],
)
def test_a_line_that_names_what_is_no_block_is_damage(entry: Entry) -> None:
    lines, _ = encode_lines([entry], 1, first_prev(WRITER))
    fault = decode_ledger(WRITER, lines).fault
    assert fault is not None
    assert "not a block id" in fault.message


class Meanwhile(Checked):
    """Does something in another thread whenever it is listed."""

    def __init__(self, objects: Objects, do: Callable[[], object]) -> None:
        super().__init__(objects)
        self._do = do

    def list(self, prefix: str, *, deep: bool = True) -> Iterator[Stat]:
        other = threading.Thread(target=self._do, daemon=True)
        other.start()
        other.join(10)
        return super().list(prefix, deep=deep)


def test_a_listing_that_takes_long_keeps_no_other_store_waiting(place: Place) -> None:
    found: list[list[str]] = []
    begin(place("other"), WRITER)
    slow = Store(Meanwhile(place("slow").objects, lambda: found.append(Ledger(place("other")).writers)))
    assert Ledger(slow).writers == []
    assert found[0] == [WRITER]
