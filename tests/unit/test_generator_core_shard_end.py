"""The end of a shard is confirmed only when all is stored, the stream says so, and the ledger does."""

from __future__ import annotations

import pytest
from generator_harness import SERVICE_START, START, Harness, Processor

from kcl_receiver.errors import StreamGone, StreamReplaced, StreamUnavailable
from kcl_receiver.generator.effects import Append, ConfirmShardEnd, ShardEndRecord, Stop
from kcl_receiver.ranges import Position
from kcl_receiver.wire.messages import Progress, ShardEndConfirmed


def at_its_end() -> tuple[Harness, Processor]:
    """Return a processor whose shard is stored to its last record."""
    h = Harness()
    p = h.open()
    p.batch(5)
    p.batch(6)
    h.cut()
    h.store()
    return h, p


def test_the_end_is_confirmed_only_after_the_ledger_says_it() -> None:
    h, p = at_its_end()
    p.shard_end()
    assert h.confirm() == ConfirmShardEnd(p.session, "shard-0")
    assert p.of(ShardEndConfirmed) == []
    h.append()
    assert p.of(ShardEndConfirmed) == [ShardEndConfirmed()]
    assert h.shard_end_entries() == [ShardEndRecord(p.session, "shard-0", Position(6), SERVICE_START + 1000)]
    assert h.core.status(h.now).shards[0].shard_end


def test_that_kcl_has_taken_the_end_is_known_when_the_processor_says_so() -> None:
    h, p = at_its_end()
    h.do(h.core.progress(p.connection, Progress(0, "5:0"), h.now))
    p.shard_end()
    h.confirm()
    h.append()
    assert h.core.checkpoints() == {"shard-0": Position(5)}
    h.do(h.core.progress(p.connection, Progress(0, "SHARD_END"), h.now))
    assert h.core.checkpoints() == {"shard-0": "SHARD_END"}
    assert h.core.status(h.now).shards[0].checkpoint == "SHARD_END"


def test_an_end_that_the_ledger_does_not_hold_was_never_taken() -> None:
    h, p = at_its_end()
    h.do(h.core.progress(p.connection, Progress(0, "SHARD_END"), h.now))
    assert p.refused is not None
    assert p.refused.error == "ProtocolError"
    assert h.core.checkpoints() == {}


@pytest.mark.parametrize("progress", ["in the builder", "in flight", "written"])
def test_the_end_is_refused_before_everything_is_stored(progress: str) -> None:
    h, p = at_its_end()
    p.batch(7)
    if progress != "in the builder":
        h.cut()
    if progress == "written":
        h.write()
    p.shard_end()
    assert p.refused is not None
    assert "before everything is stored" in p.refused.message
    assert h.waiting(ConfirmShardEnd) == []


def test_the_end_is_refused_while_a_batch_waits() -> None:
    h = Harness(window_bytes=1)
    p = h.open()
    p.batch(5)
    p.batch(6)
    p.shard_end()
    assert p.refused is not None
    assert h.waiting(ConfirmShardEnd) == []


@pytest.mark.parametrize("last", [Position(5), Position(6, 1), Position(7), "TRIM_HORIZON"])
def test_an_end_that_is_not_where_delivery_ended_is_refused(last: Position | str) -> None:
    h, p = at_its_end()
    p.shard_end(last)
    assert p.refused is not None
    assert f"ends at {last}, 6:0 was delivered last" in p.refused.message
    assert h.waiting(ConfirmShardEnd) == []


def test_a_malformed_end_is_refused() -> None:
    h, p = at_its_end()
    p.shard_end("SHARD_END")
    assert p.refused is not None
    assert "not a Kinesis sequence number" in p.refused.message
    assert h.waiting(ConfirmShardEnd) == []


@pytest.mark.parametrize("after", [Position(3), "TRIM_HORIZON"])
def test_an_empty_shard_ends_where_reading_began(after: Position | str) -> None:
    h = Harness()
    p = h.open(after=after)
    p.shard_end()
    h.confirm()
    h.append()
    assert [entry.last for entry in h.shard_end_entries()] == [after]
    assert p.of(ShardEndConfirmed) == [ShardEndConfirmed()]


def test_a_new_generator_takes_the_end_from_a_session_that_stored_all_with_the_old_one() -> None:
    h = Harness()
    p = h.open(number=9)
    p.shard_end(Position(77))
    h.confirm()
    h.append()
    assert [entry.last for entry in h.shard_end_entries()] == [Position(77)]


def test_the_stream_is_asked_once_however_often_the_processor_asks() -> None:
    h, p = at_its_end()
    p.shard_end()
    p.shard_end()
    assert len(h.waiting(ConfirmShardEnd)) == 1
    h.confirm()
    p.shard_end()
    h.append()
    assert len(h.shard_end_entries()) == 1
    assert h.asked == []


def test_a_processor_that_asks_again_after_the_answer_gets_it_again() -> None:
    h, p = at_its_end()
    p.shard_end()
    h.confirm()
    h.append()
    p.shard_end()
    assert p.of(ShardEndConfirmed) == [ShardEndConfirmed()] * 2
    assert h.asked == []


def test_a_processor_that_missed_the_answer_gets_it_when_it_comes_back() -> None:
    h, p = at_its_end()
    p.shard_end()
    p.vanish()
    h.confirm()
    h.append()
    p.reconnect()
    assert p.of(ShardEndConfirmed) == [ShardEndConfirmed()]


def test_a_batch_after_the_end_is_refused() -> None:
    _, p = at_its_end()
    p.shard_end()
    p.batch(7)
    assert p.refused is not None
    assert "after the shard's end" in p.refused.message


@pytest.mark.parametrize("error", [StreamGone("deleted"), StreamReplaced("another one"), StreamUnavailable("open")])
def test_a_stream_that_says_otherwise_is_no_end(error: StreamGone | StreamReplaced | StreamUnavailable) -> None:
    h, p = at_its_end()
    p.shard_end()
    while p.refused is None:
        h.confirm(error)
        if p.refused is None:
            assert error.mends
            h.to_deadline()
    assert p.refused.error == type(error).__name__
    assert h.closed == [p.connection]
    assert h.now == START + 1 + (300.0 if error.mends else 0.0)
    assert p.of(ShardEndConfirmed) == []
    assert h.waiting(Append) == []
    assert h.shard_end_entries() == []
    assert h.stop == (None if error.mends else Stop(error))
    assert h.core.status(h.now).failing is None


def test_a_stream_that_does_not_answer_is_asked_again_until_it_does() -> None:
    h, p = at_its_end()
    p.shard_end()
    h.confirm(StreamUnavailable("throttled"))
    assert h.waiting(ConfirmShardEnd) == []
    h.to_deadline()
    h.confirm()
    assert h.core.status(h.now).failing is None
    h.append()
    assert p.of(ShardEndConfirmed) == [ShardEndConfirmed()]


def test_the_end_may_be_asked_for_again_after_it_was_refused() -> None:
    h, p = at_its_end()
    p.shard_end()
    while p.refused is None:
        h.confirm(StreamUnavailable("open"))
        if p.refused is None:
            h.to_deadline()
    h.disconnect(p.connection)
    p.reconnect()
    p.shard_end()
    h.confirm()
    h.append()
    assert p.of(ShardEndConfirmed) == [ShardEndConfirmed()]


def test_a_session_that_is_fenced_while_it_asks_is_not_answered() -> None:
    h, old = at_its_end()
    old.shard_end()
    h.open(rank=2)
    h.confirm()
    assert h.waiting(Append) == []
    assert old.of(ShardEndConfirmed) == []


def test_a_session_that_is_fenced_while_its_answer_is_awaited_again_is_asked_for_no_more() -> None:
    h, old = at_its_end()
    old.shard_end()
    h.confirm(StreamUnavailable("throttled"))
    h.open(rank=2)
    h.advance(60)
    assert h.waiting(ConfirmShardEnd) == []
    assert h.core.status(h.now).failing is None


@pytest.mark.parametrize("error", [StreamGone("deleted"), StreamUnavailable("throttled")])
def test_a_late_answer_about_a_session_that_left_changes_nothing(error: StreamGone | StreamUnavailable) -> None:
    h, p = at_its_end()
    p.shard_end()
    p.leave()
    h.confirm(error)
    assert h.nothing_is_due
    assert h.core.status(h.now).failing is None
    older = h.processor(rank=0)
    older.hello()
    assert older.refused is not None
    assert older.refused.error == "Fenced"
