"""What verify proves: on whole stores, and on stores from which something was taken."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from places import Kept, Place, Watched, kept_block, kept_ledger
from store_support import (
    LATE,
    NOW,
    OTHER_WRITER,
    SHARD,
    STREAM,
    WRITER,
    begin,
    block_range,
    local_store,
    put,
    session_at,
)

from kcl_receiver.audit.verify import GAP, LOST, NOTHING, POSSIBLY_TRIMMED, PROVEN, Report, verify_store
from kcl_receiver.errors import StoreRefused, StoreUnavailable
from kcl_receiver.ids import block_id
from kcl_receiver.ranges import TRIM_HORIZON, Position, StreamIdentity
from kcl_receiver.store.blocks.stream import BlockStream
from kcl_receiver.store.ledger.entries import BlockStored, Entry, ShardEnded, encode_lines
from kcl_receiver.store.ledger.writer import LedgerWriter
from kcl_receiver.store.objects import Checked, Stat
from kcl_receiver.store.store import Store

OTHER_SHARD = "shardId-000000000001"


class Landing:
    """A store as a generator would leave it: two shards, three blocks, one of the shards at its end."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.store.claim("landing")
        self.ledger = begin(self.store, WRITER)
        self.blocks: list[BlockStored] = []
        self.add(session_at(), session_at(shard=OTHER_SHARD))
        self.block(block_range(1, 2), block_range(3, after=Position(2)), block_range(101, 102, shard=OTHER_SHARD))
        self.block(block_range(4, 5, after=Position(3)))
        self.block(block_range(6, 9, after=Position(5)), block_range(103, shard=OTHER_SHARD, after=Position(102)))
        self.add(ShardEnded("s1", OTHER_SHARD, STREAM, Position(103), NOW))

    def add(self, *entries: Entry) -> None:
        self.ledger.append(entries)

    def block(self, *ranges: object, stream: StreamIdentity = STREAM) -> BlockStored:
        entry = put(self.store, len(self.blocks) + 1, *ranges, stream=stream)  # type: ignore[arg-type]
        self.blocks.append(entry)
        self.add(entry)
        return entry

    def kept(self, number: int) -> Kept:
        return kept_block(self.store, self.blocks[number - 1].block)

    @property
    def kept_ledger(self) -> Kept:
        return kept_ledger(self.store, WRITER)


@pytest.fixture
def landing(place: Place) -> Landing:
    return Landing(place())


def states(report: Report) -> dict[str, str]:
    return {one.shard: one.state for one in report.shards}


def test_a_whole_store_is_proven(landing: Landing) -> None:
    for deep in (False, True):
        report = verify_store(landing.store, deep=deep)
        assert report.proven
        assert states(report) == {SHARD: PROVEN, OTHER_SHARD: PROVEN}
        one, two = report.shards
        assert (one.records, one.duplicates, one.blocks, one.ended) == (7, 0, 3, False)
        assert (one.first, one.last) == (Position(1), Position(9))
        assert (two.records, two.duplicates, two.blocks, two.ended) == (3, 0, 2, True)
        assert (report.application, report.blocks, report.writers) == ("landing", 3, 1)
        assert report.missing == report.orphans == report.leftovers == report.ledger_faults == report.torn == []
        assert report.damaged == {}


def test_verify_changes_nothing(landing: Landing) -> None:
    put(landing.store, 9, block_range(1))
    watched = Watched(landing.store.objects)
    verify_store(Store(watched), deep=True)
    assert watched.changes == []


def test_a_missing_block_is_named_and_what_only_it_held_is_lost(landing: Landing) -> None:
    landing.kept(2).remove()
    report = verify_store(landing.store)
    assert not report.proven
    assert report.missing == [landing.blocks[1].block]
    assert states(report) == {SHARD: LOST, OTHER_SHARD: PROVEN}
    [lost] = report.shards[0].lost
    assert (lost.block, lost.count) == (landing.blocks[1].block, 2)
    assert lost.span.holds(Position(4))
    assert lost.span.holds(Position(5))
    assert (report.shards[0].records, report.shards[0].gaps) == (5, ())


def test_a_missing_block_whose_records_are_in_another_is_missing_and_nothing_is_lost(landing: Landing) -> None:
    landing.block(block_range(3, 4, 5, 6, after=Position(2), session="s2"))
    landing.kept(2).remove()
    report = verify_store(landing.store)
    assert not report.proven
    assert report.missing == [landing.blocks[1].block]
    assert states(report)[SHARD] == PROVEN
    assert report.shards[0].records == 7


def test_of_a_missing_block_only_what_no_other_holds_is_lost(landing: Landing) -> None:
    landing.block(block_range(3, 4, after=Position(2), session="s2"))
    landing.kept(2).remove()
    [lost] = verify_store(landing.store).shards[0].lost
    assert lost.count is None
    assert not lost.span.holds(Position(4))
    assert lost.span.holds(Position(5))


def test_what_two_missing_blocks_held_is_lost_once(landing: Landing) -> None:
    landing.block(block_range(4, 5, after=Position(3), session="s2"))
    landing.kept(2).remove()
    landing.kept(4).remove()
    report = verify_store(landing.store)
    assert len(report.missing) == 2
    assert [lost.count for lost in report.shards[0].lost] == [2]


def test_a_block_that_is_taken_away_while_verify_runs_is_missing(landing: Landing) -> None:
    class Leaky(Checked):
        def list(self, prefix: str, *, deep: bool = True) -> Iterator[Stat]:
            listed = list(super().list(prefix, deep=deep))
            if prefix == "blocks/":
                landing.kept(2).remove()
            return iter(listed)

    assert verify_store(Store(Leaky(landing.store.objects))).missing == [landing.blocks[1].block]


@pytest.mark.parametrize(
    ("change", "deep", "why"),
    [
        (lambda content: content[:-1], False, "bytes, and"),
        (lambda content: content[:-4] + b"XXXX", False, "not a whole block"),
        (lambda content: content[:8] + bytes(20) + content[28:], True, ""),
    ],
)
def test_a_damaged_block_is_named_with_the_reason_and_its_records_are_lost(
    landing: Landing, change: object, deep: bool, why: str
) -> None:
    kept = landing.kept(2)
    kept.write(change(kept.read()))  # type: ignore[operator]
    report = verify_store(landing.store, deep=deep)
    assert not report.proven
    assert list(report.damaged) == [landing.blocks[1].block]
    assert why in report.damaged[landing.blocks[1].block]
    assert states(report) == {SHARD: LOST, OTHER_SHARD: PROVEN}


def test_only_a_deep_look_reads_the_records(landing: Landing) -> None:
    kept = landing.kept(2)
    content = kept.read()
    kept.write(content[:8] + bytes(20) + content[28:])
    assert verify_store(landing.store).proven
    assert not verify_store(landing.store, deep=True).proven


def test_records_exchanged_by_other_readable_ones_are_found_by_a_deep_look(landing: Landing) -> None:
    """Bytes of the data column itself, which no page of Parquet has a checksum of: only ours is left."""
    kept = landing.kept(2)
    column = pq.read_metadata(pa.BufferReader(kept.read())).row_group(0).column(5)
    content = bytearray(kept.read())
    at = content.index(b"data-4", column.data_page_offset)
    assert at < column.data_page_offset + column.total_compressed_size
    content[at : at + 6] = b"atad-4"
    kept.write(content)
    assert verify_store(landing.store).proven
    report = verify_store(landing.store, deep=True)
    assert "does not have the checksum" in report.damaged[landing.blocks[1].block]


def test_a_block_exchanged_by_another_of_the_same_size_is_damaged(landing: Landing, place: Place) -> None:
    other = Landing(place("other"))
    third = place("third")
    entry = put(third, 2, block_range(4, 5, after=Position(3), data=b"atad"))
    assert entry.size == other.blocks[1].size
    landing.kept(2).write(third.read_block(entry.block))
    report = verify_store(landing.store)
    assert report.damaged == {entry.block: "its footer does not say what the ledger says"}


def test_a_gap_is_shown_with_both_its_ends(landing: Landing) -> None:
    landing.block(block_range(20, after=Position(15), session="s2"))
    report = verify_store(landing.store)
    assert not report.proven
    assert states(report) == {SHARD: GAP, OTHER_SHARD: PROVEN}
    [gap] = report.shards[0].gaps
    assert (gap.after, gap.through, gap.before) == (Position(9), Position(15), Position(20))


def test_a_late_resumption_is_possibly_trimmed_and_never_proven(landing: Landing) -> None:
    landing.add(session_at(9, session="s2", trimmed=True))
    landing.block(block_range(20, after=Position(9), session="s2", delivered=LATE))
    report = verify_store(landing.store)
    assert not report.proven
    assert states(report) == {SHARD: POSSIBLY_TRIMMED, OTHER_SHARD: PROVEN}


def test_lost_is_said_before_gap_and_gap_before_possibly_trimmed(landing: Landing) -> None:
    landing.block(block_range(20, after=Position(9), session="s2", delivered=LATE))
    landing.block(block_range(30, after=Position(25), session="s3"))
    assert states(verify_store(landing.store))[SHARD] == GAP
    landing.kept(1).remove()
    assert states(verify_store(landing.store))[SHARD] == LOST


def test_records_in_several_blocks_are_counted_once_even_where_ranges_overlap_in_part(landing: Landing) -> None:
    landing.block(block_range(2, 3, 4, after=Position(1), session="s2"))
    landing.block(block_range(5, 6, 9, 10, after=Position(4), session="s2"))
    report = verify_store(landing.store)
    assert report.proven
    assert (report.shards[0].records, report.shards[0].duplicates) == (8, 6)


def test_a_block_that_cannot_be_read_when_it_is_counted_is_damaged_too(landing: Landing) -> None:
    landing.block(block_range(9, 10, 11, after=Position(6), session="s2"))
    kept = landing.kept(4)
    content = kept.read()
    at = pq.read_metadata(pa.BufferReader(kept.read())).row_group(0).column(1).data_page_offset
    kept.write(content[:at] + bytes([255]) * 50 + content[at + 50 :])
    report = verify_store(landing.store)
    assert list(report.damaged) == [landing.blocks[3].block]
    assert states(report)[SHARD] == LOST
    assert report.shards[0].records == 7


def test_the_end_of_the_ledger_and_its_block_cannot_be_lost_unseen(landing: Landing) -> None:
    """The next session begins at a checkpoint, which is made only when all up to it is stored."""
    lines = landing.kept_ledger.read().splitlines(keepends=True)
    landing.kept(3).remove()
    landing.kept_ledger.write(b"".join(lines[:-2]))
    ledger = LedgerWriter(landing.store, OTHER_WRITER)
    ledger.append([session_at(9, session="s2")])
    report = verify_store(landing.store)
    assert states(report)[SHARD] == GAP
    assert report.shards[0].gaps[0].through == Position(9)


def test_a_child_that_was_read_before_its_parent_s_end_was_recorded_shows_a_gap(landing: Landing) -> None:
    landing.add(session_at(shard="child-of-ended", parents=(OTHER_SHARD,)))
    assert verify_store(landing.store).proven
    landing.add(session_at(shard="child", parents=(SHARD, "never-seen")))
    report = verify_store(landing.store)
    assert states(report) == {SHARD: GAP, OTHER_SHARD: PROVEN, "child": NOTHING, "child-of-ended": NOTHING}
    assert [gap.after for one in report.shards for gap in one.gaps] == [Position(9)]
    landing.add(ShardEnded("s1", SHARD, STREAM, Position(9), NOW))
    assert verify_store(landing.store).proven


def test_a_stream_made_again_is_judged_for_itself(landing: Landing) -> None:
    again = StreamIdentity(STREAM.arn, STREAM.created + 1)
    landing.add(session_at(stream=again))
    landing.block(block_range(4, 7), stream=again)
    report = verify_store(landing.store)
    assert report.proven
    assert [(one.stream, one.records) for one in report.shards if one.shard == SHARD] == [(STREAM, 7), (again, 2)]


def test_a_broken_ledger_is_no_proof_although_its_blocks_say_the_same(landing: Landing) -> None:
    content = landing.kept_ledger.read()
    landing.kept_ledger.write(content.replace(b'"rows":2', b'"rows":3', 1))
    report = verify_store(landing.store)
    assert not report.proven
    assert len(report.ledger_faults) == 1
    assert "hash does not fit" in report.ledger_faults[0]
    assert states(report)[SHARD] == PROVEN
    assert len(report.orphans) == 2


def test_a_lost_ledger_is_no_proof_and_what_is_left_is_shown(landing: Landing) -> None:
    landing.kept_ledger.remove()
    report = verify_store(landing.store)
    assert not report.proven
    assert report.ledger_lost
    assert [one.records for one in report.shards] == [7, 3]


def test_a_ledger_of_which_a_later_writer_saw_more_is_no_proof(landing: Landing) -> None:
    begin(landing.store, OTHER_WRITER)
    assert verify_store(landing.store).proven
    landing.kept_ledger.write(b"".join(landing.kept_ledger.read().splitlines(keepends=True)[:-1]))
    report = verify_store(landing.store)
    assert len(report.ledger_faults) == 1
    assert not report.proven


def test_orphans_leftovers_and_torn_lines_are_told_and_take_nothing_from_the_proof(landing: Landing) -> None:
    orphan = put(landing.store, 9, block_range(10, after=Position(9)))
    Kept(landing.store, "tmp/half.tmp").write(b"12")
    landing.kept_ledger.write(landing.kept_ledger.read() + b'{"number":')
    report = verify_store(landing.store)
    assert report.proven
    assert report.orphans == [orphan.block]
    assert report.leftovers == [("tmp/half.tmp", 2)]
    assert report.torn == [WRITER]
    assert report.shards[0].records == 8


@pytest.mark.parametrize("end", [-1, -3, -40])
def test_a_block_whose_line_was_torn_is_recorded_before_its_ledger_is_closed(tmp_path: Path, end: int) -> None:
    landing = Landing(local_store(tmp_path))  # elsewhere an append is there or not
    killed = put(landing.store, 9, block_range(10, 11, after=Position(9)))
    line, _ = encode_lines([killed], landing.ledger.tail.number + 1, landing.ledger.tail.hash)
    landing.kept_ledger.write(landing.kept_ledger.read() + line[:end])
    begin(landing.store, OTHER_WRITER).append([session_at(11, session="s2")])
    assert verify_store(landing.store).proven
    assert verify_store(landing.store).orphans == []
    landing.store.delete_block(killed.block)
    report = verify_store(landing.store)
    assert (report.missing, states(report)[SHARD]) == ([killed.block], LOST)


def test_a_block_that_is_neither_readable_nor_in_the_ledger_is_damaged(landing: Landing) -> None:
    landing.store.put_block(block_id(WRITER, 9), b"nothing")
    report = verify_store(landing.store)
    assert list(report.damaged) == [block_id(WRITER, 9)]
    assert not report.proven


def test_a_block_that_is_stored_while_verify_runs_is_no_orphan(landing: Landing) -> None:
    class Busy(Checked):
        """Stores one more block after its ledger was first read."""

        def __init__(self) -> None:
            super().__init__(landing.store.objects)
            self.reads = 0

        def get(self, key: str) -> bytes | None:
            content = super().get(key)
            if content is not None and key.startswith("ledger/"):
                self.reads += 1
            if self.reads == 1:
                self.reads += 1
                landing.block(block_range(10, after=Position(9)))
            return content

    report = verify_store(Store(Busy()))
    assert report.proven
    assert report.shards[0].records == 8
    assert report.orphans == report.missing == []


def test_where_there_is_no_store_nothing_is_proven(place: Place) -> None:
    with pytest.raises(StoreRefused, match="no store at"):
        verify_store(place("nowhere"))
    empty = place("empty")
    empty.claim("landing")
    assert not verify_store(empty).proven
    assert verify_store(empty).nothing_stored


def test_a_store_in_which_nothing_is_stored_yet_is_neither_proven_nor_amiss(place: Place) -> None:
    store = place()
    store.claim("landing")
    ledger = begin(store, WRITER)
    ledger.append([session_at(), session_at(shard=OTHER_SHARD, session="s2")])
    report = verify_store(store)
    assert (report.proven, report.nothing_stored) == (False, True)
    assert states(report) == {SHARD: NOTHING, OTHER_SHARD: NOTHING}
    ledger.append([ShardEnded("s2", OTHER_SHARD, STREAM, TRIM_HORIZON, NOW)])
    report = verify_store(store)  # a shard that ended without a record was read to its end: that is a proof
    assert (report.proven, report.nothing_stored) == (True, False)
    assert states(report) == {SHARD: NOTHING, OTHER_SHARD: PROVEN}


def test_what_is_wrong_with_a_store_that_holds_nothing_is_amiss(landing: Landing) -> None:
    for number in (1, 2, 3):
        landing.kept(number).remove()
    report = verify_store(landing.store)
    assert not report.nothing_stored
    assert not report.proven


def test_a_disk_that_cannot_be_read_is_no_damaged_block(landing: Landing) -> None:
    class Broken(Checked):
        def open(self, key: str) -> BlockStream:
            raise OSError(errno.EIO, "Input/output error", key)

    with pytest.raises(StoreUnavailable, match="Input/output error"):
        verify_store(Store(Broken(landing.store.objects)))
