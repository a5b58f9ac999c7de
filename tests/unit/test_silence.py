"""What `run` says of the live state, and how often."""

from __future__ import annotations

import pytest
from live_support import WORKER, generator, lease, shard, shard_id

from kcl_receiver.daemon.silence import AGAIN_SECONDS, HANDOVER_SECONDS, REPEAT_SECONDS, Silence
from kcl_receiver.errors import GeneratorUnavailable, StoreUnavailable
from kcl_receiver.status.live import NOTED_SECONDS, Live, look
from kcl_receiver.status.report import GeneratorState, LeaseState, ShardState, Trouble

READ = generator(shard(0), shard(1))


def live(report: GeneratorState | GeneratorUnavailable, leases: list[LeaseState] | None = None) -> Live:
    return look(report, leases or [], ours=WORKER.__eq__, start_seconds=120.0)


def silent(seconds: float, *others: ShardState) -> Live:
    return live(generator(shard(0, spoke_seconds=seconds), *others))


def reading() -> Silence:
    machine = Silence()
    machine.looked(live(READ), 0)
    return machine


def test_reading_and_the_first_record_are_told_once() -> None:
    machine = Silence()
    empty = generator(shard(0, records=0), shard(1, records=0), records_stored=0)
    assert machine.looked(live(empty), 0) == [f"reading {shard_id(0)}, {shard_id(1)}"]
    assert machine.looked(live(empty), 5) == []
    assert machine.looked(live(READ), 10) == ["first record stored"]
    assert machine.looked(live(READ), 15) == []


def test_records_that_were_stored_before_count_as_the_first() -> None:
    assert "first record stored" in Silence().looked(live(generator(records_stored=0, records_skipped=3)), 0)


def test_the_phases_of_a_start_are_told_as_they_come() -> None:
    machine = Silence()
    starting = generator(records_stored=0, uptime_seconds=9)
    (first,) = machine.looked(live(starting), 0)
    assert first.startswith("KCL waits 1 to 30 s")
    assert machine.looked(live(starting), 5) == []
    (second,) = machine.looked(live(starting, [lease(0, owner=None)]), 10)
    assert second.startswith("KCL has made the leases")
    (third,) = machine.looked(live(starting, [lease(0)]), 15)
    assert third.startswith("KCL has leases for this host")
    assert machine.looked(live(generator(shard(0), records_stored=0)), 20) == [f"reading {shard_id(0)}"]


def test_a_shard_that_moves_is_told_with_the_reason() -> None:
    machine = reading()
    moved = live(generator(shard(0), shard(1, state="closed", connected=False)), [lease(0), lease(1, owner="other")])
    assert machine.looked(moved, 5) == [f"no longer reading {shard_id(1)}: other worker"]
    assert machine.looked(moved, 10) == []
    assert machine.looked(live(READ), 15) == [f"reading {shard_id(1)}"]


def test_silence_is_told_at_once_and_now_and_then_and_when_it_is_over() -> None:
    machine = reading()
    told = machine.looked(silent(33), 100)
    assert len(told) == 1
    assert told[0].startswith(f"nothing is being read: {shard_id(0)} (silent for 33 s)")
    assert "\nHint: see docs/operations.md#nothing-is-being-read" in told[0]
    at, said = 100.0, 0
    while at < 100 + 2 * REPEAT_SECONDS:
        at += 5
        said += len(machine.looked(silent(33 + at - 100), at))
    assert said == 2
    assert machine.looked(live(READ), at + 5) == ["resolved after 20 min: nothing is being read"]
    assert machine.looked(live(READ), at + 10) == []


def test_a_host_that_stands_by_says_nothing_while_the_shards_of_another_are_handed_out() -> None:
    machine, days = Silence(), 259_200.0
    standing_by = [lease(0, owner="other")]
    for at in (0.0, 5.0):
        machine.looked(live(generator(uptime_seconds=days), standing_by), at)
    handed_out = live(generator(uptime_seconds=days), [lease(0, owner=None)])
    assert machine.looked(handed_out, 10) == []
    assert machine.looked(handed_out, 5 + HANDOVER_SECONDS - 1) == []
    back = machine.looked(live(generator(uptime_seconds=days), standing_by), 5 + HANDOVER_SECONDS)
    assert back == ["every shard has ended, or is with another worker"]
    machine.looked(handed_out, 10 + HANDOVER_SECONDS)
    (said,) = machine.looked(handed_out, 5 + 2 * HANDOVER_SECONDS)
    assert said.startswith("nothing is being read: KCL has started no processor")
    assert machine.looked(live(READ), 5 + 3 * HANDOVER_SECONDS)[1] == "resolved after 4 min: nothing is being read"


def test_shards_that_are_put_on_hold_one_after_the_other_are_told() -> None:
    machine = reading()
    held = [shard(number, state="on hold", problem="LedgerDamaged: line 7\nHint: repair") for number in range(3)]
    assert machine.looked(live(generator(held[0], shard(1))), 100) == []
    (said,) = machine.looked(live(generator(held[0], shard(1))), 110)
    assert said == f"{shard_id(0)} is not read: LedgerDamaged: line 7\nHint: repair"
    (said,) = machine.looked(live(generator(*held)), 110 + AGAIN_SECONDS)
    assert said.startswith(f"{shard_id(0)} is not read: LedgerDamaged: line 7 (and 2 shards more; `kcl-receiver")
    assert machine.looked(live(generator(*held)), 115 + AGAIN_SECONDS) == []


def test_a_silence_that_comes_again_is_told_again() -> None:
    machine = reading()
    assert machine.looked(silent(33), 100)
    assert machine.looked(live(READ), 105)
    assert machine.looked(silent(33), 200)[0].startswith("nothing is being read")


def test_other_silent_shards_are_told_but_not_each_time_they_change() -> None:
    machine = reading()
    third = shard(2)
    assert len(machine.looked(silent(33, shard(1), third), 100)) == 2  # the third shard begins as well
    worse = silent(38, shard(1, spoke_seconds=33), third)
    assert machine.looked(worse, 105) == []
    (said,) = machine.looked(worse, 100 + AGAIN_SECONDS)
    assert shard_id(1) in said


def test_a_failing_store_is_told_if_it_lasts_with_its_hint() -> None:
    machine = reading()

    def failing(seconds: float) -> Live:
        trouble = Trouble.of(StoreUnavailable("block 7 was not stored: disk full", "make room"), seconds)
        return live(generator(shard(0), shard(1), failing=trouble))

    assert machine.looked(failing(NOTED_SECONDS - 1), 100) == []
    (said,) = machine.looked(failing(NOTED_SECONDS), 101)
    assert said == "StoreUnavailable: block 7 was not stored: disk full (failing for 10 s)\nHint: make room"
    assert machine.looked(failing(NOTED_SECONDS + 5), 106) == []
    assert machine.looked(live(READ), 111) == ["resolved after 20 s: StoreUnavailable"]


def test_a_failure_that_was_gone_in_a_moment_is_not_told_at_all() -> None:
    machine = reading()
    trouble = Trouble.of(StoreUnavailable("disk full"), 1)
    assert machine.looked(live(generator(shard(0), shard(1), failing=trouble)), 100) == []
    assert machine.looked(live(READ), 105) == []


def test_a_generator_that_does_not_answer_is_told_after_a_while_and_its_shards_are_not_begun_anew() -> None:
    machine = reading()
    gone = live(GeneratorUnavailable("no generator answers at /s: timed out", "is it running?"))
    assert machine.looked(gone, 100) == []
    (said,) = machine.looked(gone, 100 + NOTED_SECONDS)
    assert said.startswith("GeneratorUnavailable: no generator answers at /s: timed out")
    assert machine.looked(live(READ), 130) == ["resolved after 30 s: GeneratorUnavailable"]


@pytest.mark.parametrize("count", [9, 300])
def test_many_shards_do_not_make_a_long_line(count: int) -> None:
    (said, _) = Silence().looked(live(generator(*(shard(number) for number in range(count)))), 0)
    assert said.endswith(f"and {count - 8} more")
    assert len(said) < 300
