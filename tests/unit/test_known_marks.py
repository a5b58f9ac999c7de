"""What a generator knows at a session's start of whether it comes too late."""

from __future__ import annotations

from kcl_receiver.generator.effects import Measurement, ShardFacts
from kcl_receiver.generator.known import KnownMarks
from kcl_receiver.horizon import HOUR_MS, ShardMark, begun
from kcl_receiver.ranges import TRIM_HORIZON, StreamIdentity
from kcl_receiver.store.ledger.entries import MarksTaken, SessionStarted

SHARD, CHILD = "shardId-000000000000", "shardId-000000000001"
STREAM = StreamIdentity("arn:aws:kinesis:eu-west-1:123456789012:stream/orders", 1)
T = 1_800_000_000_000
KEYS = ("0", "9")


def session(shard: str = SHARD, *parents: str) -> SessionStarted:
    return SessionStarted("s", shard, TRIM_HORIZON, 1, STREAM, parents, KEYS, 24, T)


def facts(time: int, *parents: str) -> ShardFacts:
    return ShardFacts(held=(), parents=parents, hash_range=KEYS, measured=Measurement(time, 0, 0, 24))


def read_at(time: int, until: int, shard: str = SHARD, opened: int = -1) -> MarksTaken:
    return MarksTaken(STREAM, time, time, 24, "boot", 0, (ShardMark(shard, "s", TRIM_HORIZON, until, opened),))


FIRST = begun(TRIM_HORIZON, T, 24, -1, None)


def test_the_first_session_of_a_shard_asks_for_no_more_than_is_retained() -> None:
    assert KnownMarks().until(SHARD, TRIM_HORIZON, facts(T)) == FIRST


def test_a_restart_before_the_first_checkpoint_is_judged_from_where_the_first_session_began() -> None:
    known = KnownMarks()
    known.add(session())
    assert known.until(SHARD, TRIM_HORIZON, facts(T + 60_000)) == FIRST
    known.add(read_at(T + 600_000, T + 500_000))
    assert known.until(SHARD, TRIM_HORIZON, facts(T + 2 * HOUR_MS)) == T + 500_000


def test_a_shard_that_was_read_long_ago_does_not_begin_for_the_first_time() -> None:
    known = KnownMarks()
    known.add(session())
    assert known.carried(T + 26 * HOUR_MS) == ()
    assert known.until(SHARD, TRIM_HORIZON, facts(T + 50 * HOUR_MS)) == -1


def test_a_child_begins_where_its_parent_was_last_known_to_be_open_whenever_that_is_learned() -> None:
    known = KnownMarks()
    known.add(session(CHILD, SHARD))
    known.add(read_at(T, -1, opened=T - 40 * HOUR_MS))
    assert known.until(CHILD, TRIM_HORIZON, facts(T + 60_000, SHARD)) == T - 40 * HOUR_MS
