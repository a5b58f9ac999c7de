"""What is made of a generator's report and of the leases: is anything being read, and what is wrong?"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from live_support import WORKER, generator, lease, shard

from kcl_receiver.errors import (
    EXIT_AMISS,
    EXIT_ENVIRONMENT,
    EXIT_OK,
    EXIT_STORE,
    EXIT_STREAM,
    GeneratorUnavailable,
    ReceiverError,
    StoreUnavailable,
    StreamUnavailable,
)
from kcl_receiver.status.live import Condition, Live, for_people, look
from kcl_receiver.status.report import SILENT_SECONDS, GeneratorState, LeaseState, Trouble, silent_after

START_SECONDS = 120.0
SILENT = SILENT_SECONDS


def seen(
    report: GeneratorState | ReceiverError,
    leases: Sequence[LeaseState] | ReceiverError | None = (),
    said: str = "",
) -> Live:
    return look(
        report, leases, ours=lambda owner: owner.startswith((WORKER, "host:")), start_seconds=START_SECONDS, said=said
    )


def conditions(live: Live) -> list[Condition]:
    return [one.condition for one in live.shards]


def test_shards_that_are_read_are_no_problem() -> None:
    live = seen(generator(shard(0), shard(1)), [lease(0), lease(1)])
    assert (live.reading, live.phase, live.problems, live.exit_code) == (True, "reading", (), EXIT_OK)
    assert conditions(live) == [Condition.READING] * 2
    assert [one.owner for one in live.shards] == [WORKER] * 2


def test_an_idle_stream_is_no_silence_however_old_its_last_record_is() -> None:
    idle = shard(0, records=0, delivered=None, stored_through=None, behind_seconds=3.0, spoke_seconds=3.0)
    live = seen(generator(idle, records_stored=0, uptime_seconds=1e6), [lease(0)])
    assert live.exit_code == EXIT_OK
    assert live.phase == "reading; no record is stored yet"


def test_silence_of_all_shards_is_told_with_its_age_and_the_daemons_last_error() -> None:
    live = seen(generator(shard(0, spoke_seconds=SILENT), shard(1, spoke_seconds=62)), said="X: why")
    assert not live.reading
    (problem,) = live.problems
    assert problem.text == (
        "nothing is being read: shardId-000000000000 (silent for 30 s), shardId-000000000001 (silent for 62 s); "
        "the daemon's last error: X: why"
    )
    assert "docs/operations.md#nothing-is-being-read" in problem.hint
    assert problem.seconds == SILENT
    assert live.unread
    assert live.exit_code == EXIT_AMISS


def test_a_processor_is_not_silent_before_its_time() -> None:
    live = seen(generator(shard(0, spoke_seconds=SILENT - 0.001)))
    assert (live.reading, live.exit_code) == (True, EXIT_OK)


def test_a_long_pause_between_reads_makes_silence_later() -> None:
    assert silent_after(1500) == SILENT + 3
    assert silent_after(60_000) == SILENT + 120
    assert seen(generator(shard(0, spoke_seconds=60.0), silent_after=silent_after(60_000))).exit_code == EXIT_OK


def test_one_silent_shard_among_others_is_named_and_its_problem_has_its_own_key() -> None:
    live = seen(generator(shard(0), shard(1, spoke_seconds=99)))
    assert live.reading
    assert [one.text for one in live.problems] == ["not being read: shardId-000000000001 (silent for 99 s)"]
    assert live.exit_code == EXIT_AMISS
    other = seen(generator(shard(0, spoke_seconds=99), shard(1)))
    assert other.problems[0].key != live.problems[0].key != seen(generator(shard(1, spoke_seconds=99))).problems[0].key


def test_a_processor_that_is_gone_is_told_once_it_should_be_back() -> None:
    assert seen(generator(shard(0), shard(1, connected=False, spoke_seconds=8))).problems == ()
    assert seen(generator(shard(0, connected=False, spoke_seconds=8))).problems == ()
    gone = seen(generator(shard(0, connected=False, spoke_seconds=SILENT)))
    assert conditions(gone) == [Condition.AWAY]
    assert "nothing is being read: shardId-000000000000 (not connected for 30 s)" in gone.problems[0].text


def test_many_silent_shards_are_not_all_named() -> None:
    live = seen(generator(*(shard(number, spoke_seconds=40) for number in range(9))))
    assert live.problems[0].text.count("shardId-") == 4
    assert live.problems[0].text.endswith("and 5 more")


def test_a_processor_that_waits_for_our_store_is_not_silent() -> None:
    waiting = shard(0, waiting=True, spoke_seconds=200)
    full = shard(1, window_used=600, spoke_seconds=200)
    live = seen(generator(waiting, full))
    assert conditions(live) == [Condition.STORING] * 2
    assert not live.unread


def test_a_store_that_hangs_without_an_error_is_told() -> None:
    assert seen(generator(shard(0, waiting=True, spoke_seconds=29))).exit_code == EXIT_OK
    live = seen(generator(shard(0, waiting=True, spoke_seconds=62), shard(1, waiting=True, spoke_seconds=31)))
    (problem,) = live.problems
    assert problem.text == "the store accepts nothing: 2 shards waiting for it, the longest for 62 s"
    assert (live.exit_code, problem.seconds) == (EXIT_STORE, 62)
    trouble = Trouble.of(StoreUnavailable("disk full", "make room"), 62)
    failing = seen(generator(shard(0, waiting=True, spoke_seconds=62), failing=trouble))
    assert [one.key for one in failing.problems] == ["failing"]


def test_a_few_bytes_in_a_block_that_is_being_filled_do_not_excuse_silence() -> None:
    quiet = shard(0, window_used=10, spoke_seconds=200)
    assert conditions(seen(generator(quiet))) == [Condition.SILENT]
    trouble = Trouble.of(StoreUnavailable("disk full", "make room"), 12)
    assert conditions(seen(generator(quiet, failing=trouble))) == [Condition.STORING]


def test_a_failing_store_is_told_first_with_its_age_and_hint_and_exit_code() -> None:
    trouble = Trouble.of(StoreUnavailable("disk full", "make room"), 12.3)
    live = seen(generator(shard(0), failing=trouble), StreamUnavailable("away", "try again"))
    store, leases = live.problems
    assert store.text == "StoreUnavailable: disk full (failing for 12 s)"
    assert (store.hint, store.seconds) == ("make room", 12.3)
    assert leases.text == "StreamUnavailable: away"
    assert (live.exit_code, leases.exit_code) == (EXIT_STORE, EXIT_STREAM)


def test_a_generator_that_is_not_ready_says_why_and_is_not_called_silent() -> None:
    trouble = Trouble.of(StreamUnavailable("no credentials", "give it a role"), 99)
    live = seen(generator(prepared=False, failing=trouble), None)
    assert [one.key for one in live.problems] == ["failing"]
    assert live.exit_code == EXIT_STREAM
    assert live.phase == "the generator waits for store and stream"


def test_no_generator_is_told_with_its_exit_code() -> None:
    live = seen(GeneratorUnavailable("no generator answers at /s", "is it running?"), [lease(0)])
    assert [one.text for one in live.problems] == ["GeneratorUnavailable: no generator answers at /s"]
    assert live.exit_code == EXIT_ENVIRONMENT
    assert live.phase == "no generator answers"


@pytest.mark.parametrize(
    ("leases", "phase"),
    [
        (None, "KCL waits 1 to 30 s for another worker to make the leases"),
        ([], "KCL waits 1 to 30 s for another worker to make the leases"),
        ([lease(0, owner=None), lease(1, owner=None)], "KCL has made the leases"),
        ([lease(0), lease(1, owner=None)], "KCL has leases for this host"),
        ([lease(0, owner="other-1"), lease(1, checkpoint="SHARD_END")], "every shard has ended, or is with another"),
        (StreamUnavailable("away"), "the lease table can't be read"),
    ],
)
def test_the_phase_of_a_start_is_told(leases: list[LeaseState] | ReceiverError | None, phase: str) -> None:
    live = seen(generator(uptime_seconds=5, records_stored=0), leases)
    assert live.phase.startswith(phase)
    assert not live.unread


@pytest.mark.parametrize("leases", [None, [], [lease(0, owner=None)], [lease(0, checkpoint="AT_TIMESTAMP")]])
def test_a_start_that_takes_too_long_is_told_with_the_phase_in_which_it_hangs(
    leases: list[LeaseState] | None,
) -> None:
    assert seen(generator(uptime_seconds=START_SECONDS - 1), leases).exit_code == EXIT_OK
    live = seen(generator(uptime_seconds=START_SECONDS), leases, said="InvalidArgumentException: in the future")
    assert live.exit_code == EXIT_AMISS
    assert live.problems[0].text == (
        f"nothing is being read: KCL has started no processor in 2 min ({live.phase}); the daemon's last error: "
        "InvalidArgumentException: in the future"
    )


def test_a_host_without_leases_of_its_own_has_nothing_to_read() -> None:
    others = [lease(0, owner="other-1"), lease(1, owner="hostage-2"), lease(2, checkpoint="SHARD_END", owner=None)]
    live = seen(generator(uptime_seconds=1e6), others)
    assert live.exit_code == EXIT_OK
    assert conditions(live) == [Condition.ELSEWHERE, Condition.ELSEWHERE, Condition.ENDED]


def test_a_shard_that_ended_a_moment_ago_is_no_silence_of_its_children() -> None:
    children = [lease(0, owner=None, checkpoint="SHARD_END"), lease(1, owner=None), lease(2, owner=None)]

    def ended(seconds: float) -> Live:
        parent = shard(0, state="closed", connected=False, shard_end=True, spoke_seconds=seconds)
        return seen(generator(parent, uptime_seconds=1e6), children)

    assert ended(START_SECONDS - 1).problems == ()
    (problem,) = ended(START_SECONDS).problems
    assert problem.text.startswith("nothing is being read: KCL has started no processor in 2 min (KCL has")
    assert problem.seconds == START_SECONDS


def test_a_shard_that_is_handed_to_another_host_is_no_silence() -> None:
    released = shard(0, state="closed", connected=False, spoke_seconds=4)
    assert seen(generator(released, uptime_seconds=1e6), [lease(0, owner=None)]).exit_code == EXIT_OK


def test_a_shard_that_has_moved_to_another_worker_is_not_silent_here() -> None:
    moved = shard(0, connected=False, spoke_seconds=999)
    assert conditions(seen(generator(moved), [lease(0, owner="other-1")])) == [Condition.ELSEWHERE]


def test_a_shard_that_is_read_here_is_so_whatever_name_its_lease_bears() -> None:
    live = seen(generator(shard(0)), [lease(0, owner="a name that nobody knows")])
    assert (conditions(live), live.reading) == ([Condition.READING], True)


def test_workers_of_a_plain_java_launch_are_known_by_the_hosts_name() -> None:
    assert conditions(seen(generator(), [lease(0, owner="host:3f2a")])) == [Condition.STARTING]


def test_what_has_ended_or_left_is_not_silent() -> None:
    ended = shard(0, shard_end=True, connected=False, spoke_seconds=999)
    left = shard(1, state="closed", connected=False, spoke_seconds=999)
    live = seen(generator(ended, left, shard(2)))
    assert conditions(live) == [Condition.ENDED, Condition.LEFT, Condition.READING]
    assert live.exit_code == EXIT_OK


def test_a_lease_table_that_is_deleted_under_a_running_receiver_is_told() -> None:
    live = seen(generator(shard(0)), None)
    (problem,) = live.problems
    assert "the lease table is not there, and shards are read: it was deleted" in problem.text
    assert live.exit_code == EXIT_STREAM
    gone = seen(generator(shard(0, spoke_seconds=99)), None)
    assert [one.key for one in gone.problems] == ["table", "unread"]
    assert gone.phase == "the lease table is gone"


def test_a_session_that_is_being_opened_counts_as_read() -> None:
    live = seen(generator(shard(0, state="looking", spoke_seconds=50), uptime_seconds=1e6))
    assert conditions(live) == [Condition.OPENING]
    assert live.exit_code == EXIT_OK


def test_a_shard_on_hold_is_told_with_its_reason_and_the_others_are_read() -> None:
    held = shard(1, state="on hold", problem="LeaseRefused: too far\nHint: set it back", spoke_seconds=999)
    live = seen(generator(shard(0), held))
    assert conditions(live) == [Condition.READING, Condition.HOLD]
    (problem,) = live.problems
    assert (problem.text, problem.hint) == ("shardId-000000000001 is not read: LeaseRefused: too far", "set it back")
    assert live.exit_code == EXIT_AMISS
    alone = seen(generator(held, uptime_seconds=1e6), said="why")
    assert [one.key for one in alone.problems] == ["on hold: shardId-000000000001"]


def test_a_generator_that_drains_is_not_called_silent() -> None:
    assert seen(generator(shard(0, spoke_seconds=99), draining=True)).exit_code == EXIT_OK


def test_a_live_state_survives_json() -> None:
    live = seen(generator(shard(0, spoke_seconds=99)), [lease(0)], said="why")
    assert msgspec.json.decode(msgspec.json.encode(live), type=Live) == live


def test_times_are_told_as_people_say_them() -> None:
    assert [for_people(one) for one in (0.4, 25, 119, 120, 3599, 3600, 7500)] == [
        *("0 s", "25 s", "119 s", "2 min", "59 min", "1 h 00 min", "2 h 05 min")
    ]
