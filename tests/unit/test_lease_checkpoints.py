"""Checkpoints of the lease table against what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_index import LedgerIndex
from places import Place
from store_support import (
    NOW,
    OTHER_WRITER,
    SHARD,
    STREAM,
    WRITER,
    begin,
    block_range,
    end_at,
    plain_range,
    put,
    session_at,
)

from kcl_receiver.audit.leases import (
    AT,
    BEHIND,
    BEYOND,
    CLEANED_UP,
    ELSEWHERE,
    ENDED,
    GAP_BEFORE,
    NO_LEASE,
    NOT_BEGUN,
    UNKNOWN,
    UNREAD,
    Behind,
    LeaseReport,
    LookBack,
    is_of,
    judge,
    look_back,
)
from kcl_receiver.audit.report import GAP, PROVEN, ShardReport
from kcl_receiver.audit.verify import verify_store
from kcl_receiver.aws import Lease
from kcl_receiver.proof.coverage import Gap
from kcl_receiver.proof.links import cover
from kcl_receiver.ranges import LATEST, TRIM_HORIZON, Position

OURS, THEIRS = "host-0123456789ab", "other-0123456789ab"
SEEN = LookBack({"host"})


def lease(checkpoint: int | str, sub: int = 0, owner: str | None = OURS, shard: str = SHARD) -> Lease:
    return Lease(shard, str(checkpoint), sub, owner, 1)


def stored(*ranges: tuple[int, int, int | str], ended: int | None = None) -> ShardReport:
    """Return a shard with ranges from, to, and what they follow."""
    made = [plain_range(first, last, after) for first, last, after in ranges]
    coverage = cover(made, [session_at()], None if ended is None else end_at(ended))
    last = max((one.last for one in made), default=None)
    return ShardReport(
        stream=STREAM,
        shard=SHARD,
        state=GAP if coverage.gaps else PROVEN,
        records=10 * len(made),
        duplicates=0,
        blocks=1,
        first=min((one.first for one in made), default=None),
        last=last,
        arrival_first=NOW,
        arrival_last=NOW,
        ended=ended is not None,
        gaps=coverage.gaps,
        possibly_trimmed=coverage.possibly_trimmed,
        lost=(),
        spans=coverage.segments,
    )


WHOLE = stored((1, 5, TRIM_HORIZON), (7, 9, 5))
BROKEN = stored((1, 5, TRIM_HORIZON), (7, 9, 6))


def one(found: Sequence[LeaseReport]) -> tuple[str, Position | None, bool]:
    (report,) = found
    return report.state, report.stored_through, report.amiss


@pytest.mark.parametrize(
    ("row", "shard", "expected"),
    [
        (lease(9), WHOLE, (AT, Position(9), False)),
        (lease(5), WHOLE, (BEHIND, Position(9), False)),
        (lease(6), WHOLE, (BEHIND, Position(9), False)),
        (lease(10), WHOLE, (BEYOND, Position(9), True)),
        (lease(9, 1), WHOLE, (BEYOND, Position(9), True)),
        (lease(10, owner=None), WHOLE, (BEYOND, Position(9), True)),
        (lease(10, owner=THEIRS), WHOLE, (ELSEWHERE, Position(9), True)),
        (lease(5, owner=THEIRS), WHOLE, (BEHIND, Position(9), False)),
        (lease(TRIM_HORIZON), WHOLE, (BEHIND, Position(9), False)),
        (lease(TRIM_HORIZON), stored(), (NOT_BEGUN, None, False)),
        (lease(TRIM_HORIZON, owner=None), stored(), (UNREAD, None, True)),
        (lease(TRIM_HORIZON, owner=None), WHOLE, (BEHIND, Position(9), False)),
        (lease(3), stored(), (BEYOND, None, True)),
        (lease(6), BROKEN, (BEYOND, Position(5), True)),
        (lease(9), BROKEN, (GAP_BEFORE, Position(9), True)),
        (lease(4), BROKEN, (BEHIND, Position(9), False)),
        (lease("SHARD_END"), WHOLE, (BEYOND, Position(9), True)),
        (lease("SHARD_END", owner=THEIRS), WHOLE, (ELSEWHERE, Position(9), True)),
        (lease("SHARD_END"), stored((1, 9, TRIM_HORIZON), ended=9), (ENDED, Position(9), False)),
        (lease("SHARD_END"), stored((1, 9, TRIM_HORIZON), ended=10), (GAP_BEFORE, Position(9), True)),
        (lease(9), stored((1, 9, TRIM_HORIZON), ended=9), (BEHIND, Position(9), False)),
    ],
)
def test_a_checkpoint_is_judged_by_what_the_chain_covers(
    row: Lease, shard: ShardReport, expected: tuple[str, Position | None, bool]
) -> None:
    assert one(judge([row], [shard], SEEN)) == expected


@pytest.mark.parametrize(
    ("row", "state", "amiss"),
    [
        (lease(TRIM_HORIZON), NOT_BEGUN, False),
        (lease(LATEST, owner=None), UNREAD, True),
        (lease(LATEST, owner=THEIRS), NOT_BEGUN, False),
        (lease(3), UNKNOWN, True),
        (lease("SHARD_END"), UNKNOWN, True),
        (lease(3, owner=THEIRS), ELSEWHERE, True),
    ],
)
def test_a_shard_that_the_store_knows_nothing_of_is_an_error_only_with_a_position(
    row: Lease, state: str, amiss: bool
) -> None:
    assert one(judge([row], [], SEEN)) == (state, None, amiss)


def test_a_shard_without_a_lease_is_named_unless_it_was_read_to_its_end() -> None:
    assert one(judge([], [WHOLE])) == (NO_LEASE, Position(9), True)
    assert one(judge([], [stored((1, 9, TRIM_HORIZON), ended=9)])) == (CLEANED_UP, Position(9), False)


def test_a_start_that_left_a_gap_at_the_beginning_is_told() -> None:
    shard = replace(WHOLE, gaps=(Gap(None, Position(0), Position(1), "reading began at a checkpoint"),))
    assert one(judge([lease(9)], [shard], SEEN)) == (GAP_BEFORE, Position(9), True)


def test_without_knowledge_of_hosts_nothing_is_excused() -> None:
    assert one(judge([lease(10, owner=THEIRS)], [WHOLE], None)) == (BEYOND, Position(9), True)


def test_a_checkpoint_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="not a Kinesis sequence number"):
        judge([lease("SHARD_ENDED")], [WHOLE])
    with pytest.raises(ValueError, match="not a Kinesis sequence number"):
        judge([lease("")], [])


@pytest.mark.parametrize(
    ("owner", "ours"),
    [
        ("web-2-0123456789ab", False),
        ("web-0123456789ab", True),
        ("web:5a4c8b0e-0000", True),
        ("web.example.org:5a4c8b0e-0000", True),
        ("web", True),
        ("webs:5a4c", False),
        ("w.b:5a4c", False),
        (None, True),
    ],
)
def test_a_worker_is_known_by_the_name_of_its_host(owner: str | None, ours: bool) -> None:
    assert is_of(owner, {"web"}) is ours


@given(
    st.lists(st.tuples(st.integers(4, 30), st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=8),
    st.integers(0, 40),
)
def test_no_checkpoint_that_no_range_covers_passes(ranges: list[tuple[int, int, int]], checkpoint: int) -> None:
    made = [(first, first + length, first - back - 1 if back else TRIM_HORIZON) for first, length, back in ranges]
    covered = any(
        (after < checkpoint if isinstance(after, int) else first <= checkpoint) and checkpoint <= last
        for first, last, after in made
    )
    shard = stored(*made)
    (found,) = judge([lease(checkpoint)], [shard], SEEN)
    assert (found.state == BEYOND) is not covered
    assert found.amiss or covered
    if found.state in (AT, BEHIND):
        assert not any(gap.after is None or gap.after < Position(checkpoint) for gap in shard.gaps)


# ---------------------------------------------------------------------- how far behind


def test_how_far_a_checkpoint_is_behind_is_told_in_records_and_time(place: Place) -> None:
    store = place()
    store.claim("landing")
    begin(store, WRITER).append([session_at(), put(store, 1, block_range(1, 2))])
    later = begin(store, OTHER_WRITER)
    later.append(
        [
            put(store, 1, block_range(4, 5, 6, after=Position(2)), writer=OTHER_WRITER),
            put(store, 2, block_range(8, 9, after=Position(6)), writer=OTHER_WRITER),
        ]
    )
    seen = look_back(store, STREAM, {SHARD: Position(6)})
    assert seen == LookBack({"host"}, {SHARD: Behind(2, 3)})
    (found,) = judge([lease(6)], verify_store(store).shards, seen)
    assert (found.state, found.behind) == (BEHIND, Behind(2, 3))
    assert look_back(store, STREAM, {SHARD: Position(2)}).behind == {SHARD: Behind(5, 7)}
    assert look_back(store, STREAM, {SHARD: Position(9)}).behind == {SHARD: Behind(0, 0)}
    assert look_back(store, STREAM, {"shardId-000000000009": Position(9)}).behind == {
        "shardId-000000000009": Behind(0, -1)
    }


def test_the_ledger_is_read_only_as_far_back_as_is_needed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store = place()
    store.claim("landing")
    begin(store, WRITER).append([session_at(), put(store, 1, block_range(1, 2))])
    begin(store, OTHER_WRITER).append([put(store, 1, block_range(4, 5, after=Position(2)), writer=OTHER_WRITER)])
    assert LedgerIndex.load(store).writers.keys() == {WRITER, OTHER_WRITER}
    asked: list[str] = []
    read = store.ledger

    def ledger(writer: str) -> bytes | None:
        asked.append(writer)
        return read(writer)

    monkeypatch.setattr(store, "ledger", ledger)
    look_back(store, STREAM, {SHARD: Position(5)})
    assert asked == [OTHER_WRITER]
    look_back(store, STREAM, {SHARD: Position(3)})
    assert asked == [OTHER_WRITER, OTHER_WRITER, WRITER]
