"""Bringing back blocks: from files and stream, in part, interrupted at every step, and what cannot be brought back."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import pyarrow.parquet as pq
import pytest
from ledger_index import LedgerIndex
from places import Place, kept_ledger
from recovery_support import STREAM, error
from restore_support import SHARDS, Lake, ranges_of
from store_support import NOW

from kcl_receiver import records
from kcl_receiver.audit.report import Damage
from kcl_receiver.audit.verify import damage
from kcl_receiver.errors import StoreUnavailable, StreamUnavailable
from kcl_receiver.ids import block_day, writer_of
from kcl_receiver.kinesis.range_fetcher import RangeFetcher
from kcl_receiver.kinesis.rate_limit import Limits
from kcl_receiver.kinesis.rebuild import Outcome, Request, Reread
from kcl_receiver.ranges import StreamIdentity
from kcl_receiver.recovery import restore
from kcl_receiver.recovery.restore import Restorer, Source, Summary
from kcl_receiver.store.blocks.file import read_footer
from kcl_receiver.store.ledger.entries import Expired
from kcl_receiver.store.ledger.transaction import EXPIRE, Transaction, TransactionOvertaken, load_day
from kcl_receiver.store.store import Store

ONE, OTHER = SHARDS


@pytest.fixture
def lake(place: Place) -> Lake:
    return Lake(place())


def harm(lake: Lake) -> list[str]:
    lake.delete(1, 4)
    lake.flip(2, 1)
    lake.truncate(3)
    return [lake.entries[number].block for number in (1, 2, 3, 4)]


def test_what_was_deleted_flipped_and_truncated_comes_back_and_nothing_else_is_touched(lake: Lake) -> None:
    harmed = harm(lake)
    good = {block: lake.store.read_block(block) for block in lake.blocks() if block not in harmed}
    assert [one.block for one in damage(lake.store, deep=True)] == harmed
    summary = lake.recover()
    assert (summary.blocks, summary.partly, summary.made, summary.removed) == (4, 0, 4, 2)
    assert (summary.salvaged, summary.restored) == (3, 13)
    assert summary.failed == {}
    assert lake.verify().proven
    assert lake.rows() == lake.expected()
    assert not {*harmed} & {*lake.blocks()}
    assert good == {block: lake.store.read_block(block) for block in good}


def test_new_blocks_lie_beside_the_old_ones_with_their_ranges_and_the_compression_of_the_others(lake: Lake) -> None:
    lake.delete(2)
    lake.recover()
    (new,) = [block for block in lake.blocks() if writer_of(block) != writer_of(lake.entries[0].block)]
    assert block_day(new) == block_day(lake.entries[2].block)
    assert read_footer(lake.store, new).ranges == lake.entries[2].ranges
    with lake.store.open_block(new) as file:
        assert pq.read_metadata(file).row_group(0).column(5).compression == "UNCOMPRESSED"
    entry = load_day(lake.store, block_day(new)).blocks[new]
    assert entry.replaces == (lake.entries[2].block,)
    assert entry.time == NOW + 5000


def test_ranges_that_the_file_still_holds_are_not_asked_of_the_stream(lake: Lake) -> None:
    lake.flip(2, 3)
    wanted = lake.entries[2].ranges[3]
    summary = lake.recover()
    assert (summary.salvaged, summary.restored) == (3, 1)
    asked = {arguments["ShardId"] for name, arguments in lake.kinesis.calls if name == "iterator"}
    assert asked == {wanted.shard}


def test_a_file_that_holds_all_but_says_something_else_is_made_anew_without_the_stream(lake: Lake) -> None:
    lake.alter(2)
    summary = lake.recover()
    assert (summary.salvaged, summary.restored, summary.removed) == (4, 0, 1)
    assert lake.kinesis.names() == ["describe"]
    assert lake.verify().proven


def test_what_a_file_loses_while_the_rest_is_read_from_the_stream_is_told_and_the_file_stays(lake: Lake) -> None:
    lake.flip(2, 3)
    worse: list[str] = []

    def grow_worse(call: str, _: dict[str, Any]) -> None:
        if call == "records" and not worse:
            worse.append(call)
            lake.flip(2, 0)

    lake.kinesis.errors = grow_worse
    summary = lake.recover()
    assert (summary.salvaged, summary.restored, summary.removed, summary.partly) == (2, 1, 0, 1)
    assert [(one.range, one.outcome) for one in lake.told.lost] == [
        (lake.entries[2].ranges[0], Outcome.CONTENT_DIFFERS)
    ]
    assert lake.kept(2).is_there


def test_nothing_is_done_where_nothing_is_missing(lake: Lake) -> None:
    before = lake.blocks()
    summary = lake.recover()
    assert (summary.made, lake.blocks(), lake.told.commits) == (0, before, 0)
    assert lake.kinesis.calls == []
    assert lake.store.maintenance_days() == []


def test_a_second_run_finds_nothing_to_do(lake: Lake) -> None:
    harm(lake)
    lake.recover()
    before = lake.blocks()
    assert list(damage(lake.store, deep=True)) == []
    assert lake.recover().made == 0
    assert lake.blocks() == before


class KilledError(BaseException):
    """No error of ours: nothing is put in order on its way out, as after kill -9."""


def killing(*_: Any, **__: Any) -> None:  # noqa: ANN401
    raise KilledError


@pytest.mark.parametrize("step", ["commit", "retire"])
def test_killed_between_put_and_commit_or_commit_and_retire_the_next_run_ends_it(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    harmed = harm(lake)
    with monkeypatch.context() as killed:
        killed.setattr(Transaction, step, killing)
        with pytest.raises(KilledError):
            lake.recover()
    # At no moment is anything gone that was there.
    assert lake.kept(2).is_there
    assert lake.kept(3).is_there
    left = [one.block for one in damage(lake.store, deep=True)]
    assert left == (harmed if step == "commit" else [])
    assert lake.rows() == lake.expected()
    lake.recover()
    report = lake.verify()
    assert report.proven
    assert lake.rows() == lake.expected()
    assert sum(one.records for one in report.shards) == sum(map(len, lake.expected().values()))


def test_what_is_committed_before_a_kill_is_not_read_again(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore, "BLOCKS_AT_ONCE", 1)
    lake.delete(0, 1, 2, 3)
    lake.told.committing = lambda: killing() if lake.told.commits == 2 else None
    with pytest.raises(KilledError):
        lake.recover()
    assert len(list(damage(lake.store))) == 2
    lake.told.committing = lambda: None
    assert lake.recover().blocks == 2
    assert lake.verify().proven
    assert lake.rows() == lake.expected()


def test_a_block_of_which_half_is_trimmed_comes_back_in_part_and_the_rest_is_named(lake: Lake) -> None:
    lake.truncate(1)
    lake.trim(ONE, lake.puts[ONE][14])
    summary = lake.recover()
    assert (summary.blocks, summary.partly, summary.restored, summary.removed) == (0, 1, 3, 0)
    assert summary.failed == {Outcome.TRIMMED: 1}
    (lost,) = lake.told.lost
    assert lost.range == lake.entries[1].ranges[0]
    assert (lost.block, lost.stream, lost.outcome) == (lake.entries[1].block, STREAM, Outcome.TRIMMED)
    assert summary.failed_records == {Outcome.TRIMMED: lost.range.count}
    assert lake.kept(1).is_there, "the new block does not hold all of it"
    # The rest stays lost, and is named again; nothing is stored twice.
    before = lake.blocks()
    again = lake.recover()
    assert again.failed == {Outcome.TRIMMED: 1}
    assert again.made == 0
    assert lake.blocks() == before
    # What was trimmed comes back after all: another new block.
    lake.kinesis.shards[ONE].trimmed = 0
    assert lake.recover().restored == 1
    assert lake.rows() == lake.expected()
    assert not list(damage(lake.store, deep=True))


def test_nothing_is_stored_of_a_range_of_which_the_stream_gives_another_number(lake: Lake) -> None:
    lake.delete(1)
    shard = lake.kinesis.shards[OTHER]
    shard.puts = [put for number, put in enumerate(shard.puts) if number != 12]
    summary = lake.recover()
    assert summary.failed == {Outcome.COUNT_DIFFERS: 1}
    assert lake.told.lost[0].range == lake.entries[1].ranges[2]
    assert "two deliveries" in lake.told.lost[0].detail
    assert summary.restored == 3


def test_nothing_is_stored_of_a_range_of_which_the_stream_gives_other_content(lake: Lake) -> None:
    lake.delete(1)
    shard = lake.kinesis.shards[OTHER]
    shard.puts = [replace(put, arrival=put.arrival + (number == 12)) for number, put in enumerate(shard.puts)]
    summary = lake.recover()
    assert summary.failed == {Outcome.CONTENT_DIFFERS: 1}
    assert summary.restored == 3


def test_what_the_files_hold_is_saved_although_the_stream_is_gone(lake: Lake) -> None:
    lake.flip(2, 1)
    lake.kinesis.identity = STREAM._replace(created=STREAM.created + 1)
    summary = lake.recover()
    assert (summary.salvaged, summary.restored) == (3, 0)
    assert summary.failed == {Outcome.GONE: 1}
    assert ranges_of(lake.told.lost) == {(ONE, lake.entries[2].ranges[1].first)}


def test_only_the_shards_that_were_asked_for_are_brought_back(lake: Lake) -> None:
    lake.truncate(2)
    summary = lake.recover(shards=[OTHER])
    assert (summary.restored, summary.partly, summary.removed) == (2, 0, 0)
    assert {one.shard for one in next(iter(damage(lake.store))).ranges_lost} == {ONE}
    assert lake.recover().restored == 2
    assert lake.verify().proven
    assert lake.rows() == lake.expected()


def test_a_block_too_large_to_be_held_at_once_becomes_several(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore, "PART_BYTES", 1)
    monkeypatch.setattr(restore, "BLOCKS_AT_ONCE", 1)
    harm(lake)
    summary = lake.recover()
    assert (summary.made, summary.blocks, summary.removed) == (16, 4, 2)
    assert lake.verify().proven
    assert lake.rows() == lake.expected()


def test_a_stop_keeps_what_is_complete_and_the_next_run_goes_on(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore, "BLOCKS_AT_ONCE", 1)
    lake.delete(0, 2, 4)
    lake.told.committing = lake.stop.set

    def one_by_one(_: object) -> Source:
        return Source(RangeFetcher(lake.kinesis, limits=Limits(1e4, 1e9), window=1, stop=lake.stop), {})

    summary = lake.recover(source=one_by_one)
    assert summary.stopped
    assert (summary.blocks, summary.made) == (1, 1)
    assert [one.block for one in damage(lake.store)] == [lake.entries[number].block for number in (2, 4)]
    lake.stop.clear()
    lake.told.committing = lambda: None
    assert not lake.recover().stopped
    assert lake.verify().proven
    assert lake.rows() == lake.expected()


def test_a_stream_that_does_not_answer_ends_it_with_what_is_complete_committed(lake: Lake) -> None:
    lake.flip(0, 1)
    lake.alter(1)  # needs no stream

    def down(call: str, _: dict[str, Any]) -> None:
        if call != "describe":
            raise error("AccessDeniedException")

    lake.kinesis.errors = down
    with pytest.raises(StreamUnavailable):
        lake.recover()
    assert [one.block for one in damage(lake.store, deep=True)] == [lake.entries[0].block]


def test_a_full_disk_ends_it_and_what_was_committed_stays(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore, "BLOCKS_AT_ONCE", 1)
    lake.delete(0, 2)
    real = lake.store.put_block
    puts = []

    def full(block: str, payload: Any) -> None:  # noqa: ANN401
        puts.append(block)
        if len(puts) > 1:
            raise StoreUnavailable(f"block {block}: {errno.ENOSPC}", "free room")
        real(block, payload)

    monkeypatch.setattr(lake.store, "put_block", full)
    with pytest.raises(StoreUnavailable):
        lake.recover()
    monkeypatch.setattr(lake.store, "put_block", real)
    assert len(list(damage(lake.store))) == 1
    lake.recover()
    assert lake.verify().proven


def test_no_damaged_file_goes_before_its_replacement_is_durable(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    harm(lake)
    order: list[str] = []

    def noting(name: str) -> Callable[..., Any]:
        real = getattr(lake.store, name)

        def call(*arguments: Any) -> Any:  # noqa: ANN401
            order.append(name)
            return real(*arguments)

        return call

    for name in ("put_block", "create_maintenance_entry", "delete_blocks"):
        monkeypatch.setattr(lake.store, name, noting(name))
    lake.recover()
    assert order == ["put_block"] * 4 + ["create_maintenance_entry", "delete_blocks"]


def test_without_the_ledger_a_block_whose_footer_is_good_comes_back_and_is_not_asked_for_again(lake: Lake) -> None:
    kept_ledger(lake.store, lake.ledger.writer).remove()
    lake.store.objects.delete([one.key for one in lake.store.objects.list("log/")])  # or its ledger would be missed
    lake.flip(2, 1)
    (found,) = damage(lake.store, deep=True)
    assert (found.block, found.ranges_lost) == (lake.entries[2].block, lake.entries[2].ranges)
    summary = lake.recover()
    assert (summary.salvaged, summary.restored, summary.removed) == (3, 1, 1)
    assert list(damage(lake.store, deep=True)) == []
    assert lake.rows() == lake.expected()
    assert len(list(records(lake.store))) == sum(map(len, lake.expected().values()))


class Interleaving(RangeFetcher):
    """Answers the first range of every block, then the second of every block, and so on; can stop half-way."""

    def __init__(self, lake: Lake, *, half: bool = False) -> None:
        super().__init__(lake.kinesis, limits=Limits(1e4, 1e9), workers=1)
        self._half = half
        self._lake = lake

    def reread(self, stream: StreamIdentity, requests: Iterable[Request]) -> Iterator[Reread]:
        asked = list(requests)
        answers = {(one.request.block, one.request.range): one for one in super().reread(stream, asked)}
        numbers: dict[str, int] = {}
        order = []
        for one in asked:
            numbers[one.block] = numbers.get(one.block, 0) + 1
            order.append((numbers[one.block], one))
        order.sort(key=lambda one: one[0])
        for number, one in order:
            if self._half and number == 3:
                self._lake.stop.set()
                return
            yield answers[one.block, one.range]


def test_parts_of_blocks_that_come_mixed_let_every_damaged_file_go(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore, "PART_BYTES", 1)
    monkeypatch.setattr(restore, "BLOCKS_AT_ONCE", 1)
    for number in (1, 2, 3):
        lake.truncate(number)
    summary = lake.recover(source=lambda _: Source(Interleaving(lake), {}))
    assert (summary.made, summary.blocks, summary.removed) == (12, 3, 3)
    assert lake.rows() == lake.expected()


def test_of_a_block_that_is_not_complete_nothing_is_stored_at_a_stop(lake: Lake) -> None:
    lake.delete(1, 2)
    summary = lake.recover(source=lambda _: Source(Interleaving(lake, half=True), {}))
    assert summary.stopped
    assert summary.made == 0
    assert lake.store.maintenance_days() == []


# ---------------------------------------------------------------------- two at once


def beside(lake: Lake) -> Store:
    """Return the store as another process has it."""
    return Store(lake.store.objects)


def recovering_beside(lake: Lake, **more: Any) -> Restorer:  # noqa: ANN401
    """Return what restores the same store from the same stream, in another process."""
    mine = lake.restorer(**more)
    mine._store = beside(lake)
    return mine


def run_at_once(first: Restorer, second: Restorer, found: list[Damage]) -> tuple[Summary, Summary]:
    """Run all of one just before the other one commits; return what each has done."""
    commit = second._commit
    done: list[Summary] = []

    def just_before(day: str) -> None:
        if not done:
            done.append(first.run(found))
        commit(day)

    second._commit = just_before  # type: ignore[method-assign]
    summary = second.run(found)
    return done[0], summary


def test_of_two_runs_that_bring_back_the_same_blocks_the_second_drops_what_the_first_has_brought(lake: Lake) -> None:
    harm(lake)
    before = lake.rows()
    found = list(damage(lake.store, deep=True))
    done, summary = run_at_once(lake.restorer(), recovering_beside(lake), found)
    assert (done.made, done.elsewhere) == (4, 0)
    assert (summary.made, summary.restored, summary.salvaged, summary.records, summary.size) == (0, 0, 0, 0, 0)
    assert summary.elsewhere == sum(len(one.entry.ranges) for one in found)
    assert len(list(lake.store.maintenance_ledgers(block_day(found[0].block)))) == 1
    assert lake.verify().proven
    assert list(damage(lake.store, deep=True)) == []
    assert {block for block, _ in lake.store.list_blocks()} == set(live(lake))
    assert lake.rows().keys() == before.keys()


def live(lake: Lake) -> list[str]:
    """Return the blocks that count: recorded, and not replaced."""
    index = LedgerIndex.load(lake.store)
    return [block for block in index.blocks() if block not in index.replaced]


def test_what_the_first_of_two_runs_has_not_brought_back_the_second_records(lake: Lake) -> None:
    harm(lake)
    found = list(damage(lake.store, deep=True))
    done, summary = run_at_once(lake.restorer(shards=(ONE,)), recovering_beside(lake), found)
    assert done.made > 0
    assert summary.made == 4
    assert not summary.failed
    assert lake.verify().proven
    assert list(damage(lake.store, deep=True)) == []


def test_what_expired_meanwhile_is_not_brought_back(lake: Lake) -> None:
    lake.delete(1, 2)
    found = list(damage(lake.store, deep=True))
    restorer = lake.restorer()
    commit = restorer._commit

    def just_before(day: str) -> None:
        expiry = Transaction(beside(lake), found[0].block, EXPIRE, NOW)
        expiry.add_expired(Expired(NOW, NOW, (found[0].block,)))
        expiry.commit()
        commit(day)

    restorer._commit = just_before  # type: ignore[method-assign]
    summary = restorer.run(found)
    assert summary.made == 1
    changes = load_day(lake.store, block_day(found[0].block))
    assert (set(changes.expired), set(changes.replaced)) == ({found[0].block}, {found[1].block})
    assert len(live(lake)) == len(lake.blocks()) + 1  # the expired one is in the ledger, and not there


def test_it_gives_up_where_others_are_always_first(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.delete(1)
    found = list(damage(lake.store, deep=True))

    def overtaken(transaction: Transaction) -> None:
        raise TransactionOvertaken(transaction.day)

    monkeypatch.setattr(Transaction, "commit", overtaken)
    with pytest.raises(StoreUnavailable, match="other maintenance works on"):
        lake.restorer().run(found)
