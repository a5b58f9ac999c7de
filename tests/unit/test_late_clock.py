"""What a machine that was paused stores, as `verify` judges it: nothing that it may have missed counts as proven."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from generator_harness import Harness, Processor, facts, measured
from store_support import HOUR, NOW, block_range, marks_at, session_at

from kcl_receiver.generator.carried import first_clock
from kcl_receiver.generator.effects import BlockRecord, MarksRecord, Measure, Measurement, SessionRecord
from kcl_receiver.horizon import Late, Times
from kcl_receiver.proof.coverage import Coverage
from kcl_receiver.proof.links import Cover, cover, see_times
from kcl_receiver.ranges import StreamIdentity
from kcl_receiver.store.ledger.entries import BlockStored, MarksTaken, SessionStarted, StoreState
from kcl_receiver.store.ledger.takeover import Takeover
from kcl_receiver.wire.messages import Progress

START = 1e6
SECONDS = 3600.0
STREAM = StreamIdentity("arn", 1)
BOOT = "boot"


def began(shard: str = "shard-0") -> tuple[Harness, Processor]:
    h = Harness()
    h.now = START
    return h, h.open(shard, known=facts(at=START))


def stored(h: Harness) -> None:
    h.cut()
    h.store()


def idle(h: Harness, p: Processor, noted: float) -> None:
    h.do(h.core.progress(p.connection, Progress(0, None, str(p.delivered), round(noted * 1000)), h.now))


def taken(records: Sequence[object]) -> list[MarksTaken]:
    return [
        MarksTaken(
            STREAM, one.time, one.measured, one.retention_hours, BOOT, one.offset, one.marks, one.late, one.sessions
        )
        for one in records
        if isinstance(one, MarksRecord)
    ]


def judged(h: Harness, shard: str = "shard-0", more: Sequence[MarksTaken] = ()) -> Coverage:
    ranges = [one for of in h.entries if isinstance(of, BlockRecord) for one in of.written.ranges if one.shard == shard]
    sessions = [
        SessionStarted(one.session, shard, one.after, 1, STREAM, (), ("0", "1"), 24, one.time)
        for one in h.entries
        if isinstance(one, SessionRecord) and one.shard == shard
    ]
    return cover(ranges, sessions, None, [*taken(h.entries), *more])


def test_of_a_pause_after_the_stream_was_asked_its_answer_tells_nothing() -> None:
    h, p = began()
    p.arrived(101, h.now)
    stored(h)
    h.to_deadline()
    asked = h.now
    h.now += 1  # and 30 hours, of which this machine knows nothing
    p.arrived(150, h.now + 6.1 * SECONDS)  # the oldest that is left; all between was trimmed
    h.now += 1
    h.measure(measured(asked))
    stored(h)
    assert h.waiting(Measure)
    h.measure(measured(h.now)._replace(date=round((h.now + 30 * SECONDS) * 1000)))
    h.store()
    assert judged(h).possibly_trimmed


def test_a_restart_raises_what_came_before_a_record_moved_the_clock() -> None:
    h, a = began("shard-a")
    b, c = h.open("shard-b", known=facts(at=START)), h.open("shard-c", known=facts(at=START))
    a.arrived(101, START - 10 * SECONDS)  # read 10 hours behind
    b.arrived(101, START)
    stored(h)
    h.now += 120
    idle(h, c, h.now - 1)
    h.now += 60  # and 20 hours
    a.arrived(150, START - 4 * SECONDS + 120)  # all between was trimmed
    h.now += 1
    b.arrived(102, h.now + 20 * SECONDS)
    stored(h)
    h.measure(None)
    h.store()
    h.now += 30  # the process dies here; the machine does not
    first = MarksTaken(STREAM, round(START * 1000) + 1000, round(START * 1000) + 1000, 24, BOOT, 1000)
    blocks = [
        BlockStored(f"b{at}", STREAM, one.written.ranges, 1, 1, 0)
        for at, one in enumerate(h.entries)
        if isinstance(one, BlockRecord)
    ]
    now = round(h.now * 1000)
    seen = Measurement(now + 20 * HOUR, now, now, 24)
    again = first_clock(Takeover(StoreState(), blocks=blocks, read=[first, *taken(h.entries)]), STREAM, seen, BOOT, now)
    assert again is not None
    assert judged(h, "shard-a", [first, again]).possibly_trimmed


def test_the_first_link_of_a_shard_is_raised_like_any_other() -> None:
    first = block_range(50, 51, delivered=NOW + 60_000).range  # 30 hours later; 1 to 49 were trimmed
    late = marks_at(time=NOW + 31 * HOUR, late=[Late(NOW, NOW + HOUR, 30 * HOUR)], sessions=["s1"])
    times = Times()
    found = Cover(times)
    found.add_session(session_at(time=NOW))
    found.add_range(first)
    see_times(times, late)  # in the order of the ledger
    assert found.coverage().possibly_trimmed


@pytest.mark.parametrize("latency", [0.0, 0.3, 3.0])
def test_a_shard_that_is_idle_when_reading_begins_stays_proven_however_slowly_the_stream_answers(
    latency: float,
) -> None:
    h, p = began()
    while h.now < START + 30 * SECONDS:
        h.now += 32
        idle(h, p, h.now - 33)
        due = h.core.deadline()
        if due is not None and due <= h.now + 32:
            h.now = max(h.now, due)
            h.tick()
        if h.waiting(Measure):
            asked = h.now
            h.now += latency
            h.measure(measured(asked))
        h.store()
    p.arrived(101, h.now - 1)
    stored(h)
    assert not judged(h).possibly_trimmed
