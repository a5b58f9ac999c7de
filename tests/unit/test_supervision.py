from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kcl_receiver.daemon.supervision import (
    HEALTHY_SECONDS,
    KILL_MARGIN_SECONDS,
    LONGEST_PAUSE_SECONDS,
    Child,
    Effect,
    Leave,
    Send,
    Start,
    Supervision,
    Tell,
    describe,
)
from kcl_receiver.errors import EXIT_INTERNAL

GENERATOR, DAEMON = Child.GENERATOR, Child.DAEMON
TERM, KILL, HUP, INT = signal.SIGTERM, signal.SIGKILL, signal.SIGHUP, signal.SIGINT
GRACE = 20.0


def machine() -> Supervision:
    return Supervision(GRACE, lambda: 1.0)


def up(now: float = 0.0) -> Supervision:
    supervision = machine()
    supervision.start(now)
    supervision.started(GENERATOR)
    supervision.ready(now)
    supervision.started(DAEMON)
    return supervision


def acts(effects: list[Effect]) -> list[Effect]:
    return [effect for effect in effects if not isinstance(effect, Tell)]


def told(effects: list[Effect]) -> str:
    return "\n".join(effect.message for effect in effects if isinstance(effect, Tell))


def test_the_daemon_starts_when_the_generator_answers_and_not_before() -> None:
    supervision = machine()
    assert supervision.start(0) == [Start(GENERATOR)]
    assert supervision.tick(5) == []
    assert supervision.ready(6) == [Start(DAEMON)]
    assert supervision.ready(7) == []


def test_pauses_double_up_to_a_minute_and_are_short_again_after_a_healthy_minute() -> None:
    supervision, now, pauses = up(), 0.0, []
    for _ in range(8):
        supervision.exited(DAEMON, 1, now)
        due = supervision.deadline()
        assert due is not None
        pauses.append(due - now)
        assert supervision.tick(due - 0.01) == []
        assert supervision.tick(due) == [Start(DAEMON)]
        now = due
    assert pauses == [1, 2, 4, 8, 16, 32, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS]
    now += HEALTHY_SECONDS
    supervision.exited(DAEMON, 1, now)
    assert supervision.deadline() == now + 1


def test_jitter_halves_a_pause_at_most() -> None:
    supervision = Supervision(GRACE, lambda: 0.0)
    supervision.start(0)
    supervision.exited(GENERATOR, 1, 0)
    assert supervision.deadline() == 0.5


def test_the_daemon_lives_through_the_generators_absence() -> None:
    supervision = up()
    assert acts(supervision.exited(GENERATOR, -9, 10)) == []
    assert supervision.tick(11) == [Start(GENERATOR)]
    assert supervision.ready(12) == []


def test_a_daemon_that_ended_meanwhile_waits_for_the_generator() -> None:
    supervision = up()
    supervision.exited(GENERATOR, -9, 10)
    supervision.exited(DAEMON, 1, 10)
    assert supervision.tick(30) == [Start(GENERATOR)]
    assert supervision.tick(31) == []
    assert supervision.ready(32) == [Start(DAEMON)]


def test_a_daemons_pause_is_kept_when_the_generator_answers_first() -> None:
    supervision = up()
    supervision.exited(DAEMON, 1, 0)
    supervision.tick(1)
    supervision.exited(DAEMON, 1, 1)
    supervision.exited(GENERATOR, 1, 1)
    assert supervision.tick(2) == [Start(GENERATOR)]
    assert supervision.ready(2.5) == []
    assert supervision.tick(3) == [Start(DAEMON)]


def test_an_unasked_end_is_told_with_its_code_and_last_words() -> None:
    said = told(up().exited(DAEMON, -6, 1, "out of memory"))
    assert "daemon exited unexpectedly (SIGABRT): out of memory; restarting in 1.0 s" in said


def test_the_first_signal_drains_both_together() -> None:
    supervision = up()
    effects = supervision.signalled(TERM, 100)
    assert acts(effects) == [Send(DAEMON, TERM), Send(GENERATOR, TERM)]
    assert "draining for 20 s at most" in told(effects)
    assert supervision.exited(DAEMON, 143, 105) == []
    assert acts(supervision.exited(GENERATOR, 0, 106)) == [Leave(0)]


def test_nothing_is_started_again_while_it_stops() -> None:
    supervision = up()
    supervision.exited(DAEMON, 1, 99)
    assert acts(supervision.signalled(TERM, 99.5)) == [Send(GENERATOR, TERM)]
    assert supervision.tick(105) == []
    assert supervision.ready(105) == []


def test_a_stop_before_the_daemon_has_started_ends_the_generator_alone() -> None:
    supervision = machine()
    supervision.start(0)
    assert acts(supervision.signalled(TERM, 1)) == [Send(GENERATOR, TERM)]
    assert supervision.ready(1.1) == []
    assert acts(supervision.exited(GENERATOR, 0, 2)) == [Leave(0)]


def test_a_stop_while_nothing_runs_leaves_at_once() -> None:
    supervision = machine()
    supervision.start(0)
    supervision.exited(GENERATOR, 3, 1)
    assert acts(supervision.signalled(TERM, 1.5)) == [Leave(0)]


def test_who_is_late_is_killed_and_the_exit_code_says_so() -> None:
    supervision = up()
    supervision.signalled(TERM, 100)
    due = 100 + GRACE + KILL_MARGIN_SECONDS
    assert supervision.deadline() == due
    assert supervision.tick(due - 0.1) == []
    effects = supervision.tick(due)
    assert acts(effects) == [Send(GENERATOR, KILL), Send(DAEMON, KILL)]
    assert "did not end in time" in told(effects)
    assert acts(supervision.exited(DAEMON, -9, due + 1)) == []
    assert acts(supervision.exited(GENERATOR, -9, due + 1)) == [Leave(1)]


def test_a_generator_gets_time_after_its_last_processor_has_left() -> None:
    supervision = up()
    supervision.signalled(TERM, 100)
    ended = 100 + GRACE + KILL_MARGIN_SECONDS - 1
    supervision.exited(DAEMON, 143, ended)
    assert supervision.tick(ended + KILL_MARGIN_SECONDS - 0.1) == []
    assert acts(supervision.tick(ended + KILL_MARGIN_SECONDS)) == [Send(GENERATOR, KILL)]


def test_a_generator_that_fails_while_it_drains_takes_the_daemon_with_it() -> None:
    supervision = up()
    supervision.signalled(TERM, 100)
    effects = supervision.exited(GENERATOR, 4, 101)
    assert acts(effects) == [Send(DAEMON, KILL)]
    assert "read again" in told(effects)
    assert acts(supervision.exited(DAEMON, -9, 102)) == [Leave(4)]


def test_the_second_signal_kills_both_and_exits_with_130() -> None:
    supervision = up()
    supervision.signalled(TERM, 100)
    assert acts(supervision.signalled(TERM, 101)) == [Send(DAEMON, KILL), Send(GENERATOR, KILL)]
    assert supervision.signalled(TERM, 102) == []
    supervision.exited(GENERATOR, -9, 102)
    assert acts(supervision.exited(DAEMON, -9, 102)) == [Leave(130)]


@pytest.mark.parametrize("code", [2, 5])
def test_a_hopeless_generator_is_not_started_again_and_its_code_is_ours(code: int) -> None:
    supervision = up()
    effects = supervision.exited(GENERATOR, code, 10, "StreamGone: orders")
    assert acts(effects) == [Send(DAEMON, KILL)]
    assert "StreamGone: orders; it would fail again, so everything stops" in told(effects)
    assert supervision.tick(1000) == []
    assert acts(supervision.exited(DAEMON, -9, 11)) == [Leave(code)]


def test_a_generator_that_stopped_because_of_a_bug_is_started_again() -> None:
    supervision = up()
    effects = supervision.exited(GENERATOR, EXIT_INTERNAL, 5, "InternalError: internal error, stopping: KeyError: 'x'")
    assert acts(effects) == []
    assert "(exit code 10): InternalError: internal error, stopping: KeyError: 'x'; restarting in" in told(effects)
    due = supervision.deadline()
    assert due is not None
    assert supervision.tick(due) == [Start(GENERATOR)]


def test_a_generator_that_is_hopeless_from_the_start_leaves_at_once() -> None:
    supervision = machine()
    supervision.start(0)
    assert acts(supervision.exited(GENERATOR, 2, 1)) == [Leave(2)]


@pytest.mark.parametrize(
    ("signals", "short"),
    [
        ([(TERM, 0.05)], False),  # a service manager signals every process, and the supervisor passes it on
        ([(HUP, 0.001)], False),  # SendSIGHUP=yes: right after SIGTERM
        ([(HUP, 0.001), (HUP, 0.002), (HUP, 30.0)], False),  # the terminal is gone: that is no hurry
        ([(TERM, 0.9), (TERM, 1.0)], True),
        ([(INT, 0.05)], True),  # a person's second Ctrl-C
    ],
)
def test_only_a_second_signal_that_is_meant_cuts_the_drain_short(
    signals: list[tuple[signal.Signals, float]], short: bool
) -> None:
    supervision = up()
    supervision.signalled(TERM, 100)
    effects = [effect for number, after in signals for effect in supervision.signalled(number, 100 + after)]
    assert acts(effects) == ([Send(DAEMON, KILL), Send(GENERATOR, KILL)] if short else [])


def test_a_closed_terminal_that_says_so_twice_drains() -> None:
    supervision = up()
    assert acts(supervision.signalled(HUP, 100)) == [Send(DAEMON, TERM), Send(GENERATOR, TERM)]
    assert supervision.signalled(HUP, 105) == []
    supervision.exited(DAEMON, 143, 106)
    assert acts(supervision.exited(GENERATOR, 0, 106)) == [Leave(0)]


# What can't be started


@pytest.mark.parametrize("child", list(Child))
def test_a_child_that_ran_before_and_cannot_be_started_is_tried_again_later_and_the_other_lives_on(
    child: Child,
) -> None:
    supervision = up()
    supervision.exited(child, -9, 10)
    assert acts(supervision.tick(11)) == [Start(child)]
    assert not supervision.must_start(child)
    effects = supervision.not_started(child, "log cannot be written", 11)
    assert acts(effects) == []
    assert f"{child.value} not started: log cannot be written; restarting in 2.0 s" in told(effects)
    supervision.ready(11)
    assert acts(supervision.tick(13)) == [Start(child)]


@pytest.mark.parametrize("child", list(Child))
def test_the_very_first_start_of_a_child_must_succeed(child: Child) -> None:
    assert machine().must_start(child)


def test_a_child_that_cannot_be_started_does_not_hold_up_a_stop() -> None:
    supervision = up()
    supervision.exited(DAEMON, 1, 10)
    supervision.tick(11)
    supervision.not_started(DAEMON, "fork: Resource temporarily unavailable", 11)
    assert acts(supervision.signalled(TERM, 12)) == [Send(GENERATOR, TERM)]
    assert acts(supervision.exited(GENERATOR, 0, 13)) == [Leave(0)]


def test_pauses_of_a_child_that_never_starts_stay_bounded() -> None:
    supervision, now = up(), 10.0
    supervision.exited(DAEMON, 1, now)
    for _ in range(2000):
        due = supervision.deadline()
        assert due is not None
        assert due - now <= LONGEST_PAUSE_SECONDS
        now = due
        supervision.tick(now)
        supervision.not_started(DAEMON, "no room", now)


# Who else runs


def test_another_supervisor_that_has_our_lock_makes_us_drain_with_code_3() -> None:
    supervision = up()
    effects = supervision.displaced("kcl-receiver run (pid 7) already runs this application", 100)
    assert acts(effects) == [Send(DAEMON, TERM), Send(GENERATOR, TERM)]
    assert "(pid 7) already runs this application; stopping" in told(effects)
    assert supervision.displaced("again", 105) == []
    supervision.exited(DAEMON, 143, 106)
    assert acts(supervision.exited(GENERATOR, 0, 106)) == [Leave(3)]


def test_a_daemon_that_must_not_be_started_because_of_another_one_is_not_waited_for() -> None:
    supervision = up()
    supervision.exited(DAEMON, 1, 10)
    assert acts(supervision.tick(11)) == [Start(DAEMON)]
    supervision.displaced("another one", 11)
    supervision.not_started(DAEMON, "", 11)
    assert acts(supervision.exited(GENERATOR, 0, 12)) == [Leave(3)]


# What is said at the end


def closing(supervision: Supervision, daemon: int | None = 143, seconds: float = 3.0, generator: int = 0) -> str:
    effects = supervision.signalled(TERM, 100)
    if daemon is not None:
        effects += supervision.exited(DAEMON, daemon, 100 + seconds)
    effects += supervision.exited(GENERATOR, generator, 100 + seconds)
    assert isinstance(effects[-1], Leave)
    return told(effects[1:])


def test_a_drain_in_which_all_went_well_is_said_to_be_clean() -> None:
    assert closing(up()) == "stopped cleanly; the next start resumes from the checkpoints"


@pytest.mark.parametrize(
    ("daemon", "seconds", "why"),
    [
        (1, 3.0, "the daemon ended with exit code 1"),
        (-9, 3.0, "the daemon ended with SIGKILL"),
        (143, GRACE, "the daemon used its whole grace time of 20 s"),
    ],
)
def test_a_daemon_that_did_not_drain_is_not_said_to_have_stopped_cleanly(daemon: int, seconds: float, why: str) -> None:
    said = closing(up(), daemon, seconds)
    assert said.startswith(f"stopped, but {why}: ")
    assert "cleanly" not in said


def test_a_stop_without_a_running_daemon_is_not_said_to_be_clean() -> None:
    supervision = up()
    supervision.exited(DAEMON, 1, 99)
    assert closing(supervision, None).startswith("stopped, but the daemon was not running: ")


def test_a_stop_before_anything_was_read_says_that() -> None:
    supervision = machine()
    supervision.start(0)
    supervision.started(GENERATOR)
    assert closing(supervision, None) == "stopped before anything was read"


def test_a_generator_that_failed_at_the_end_leaves_no_good_word() -> None:
    assert "stopped" not in closing(up(), generator=4)


def test_exit_codes_are_told_in_words() -> None:
    assert [describe(code) for code in (0, 3, -9, -64, -99)] == [
        "exit code 0",
        "exit code 3",
        "SIGKILL",
        "SIGRTMAX",
        "signal 99",
    ]


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["ready", "generator", "daemon", "signal", "tick", "fails", "displaced"]),
        st.sampled_from([0, 1, 2, 4, 5, -9, 143]),
        st.floats(0, 70),
    ),
    max_size=40,
)


@given(EVENTS)
def test_whatever_happens_there_is_one_of_each_at_most_and_an_end(events: list[tuple[str, int, float]]) -> None:
    supervision, now = Supervision(GRACE, lambda: 0.5), 0.0
    running: dict[Child, bool] = dict.fromkeys(Child, False)
    answering = fails = False
    left: list[int] = []

    def carry_out(effects: list[Effect]) -> None:
        for effect in effects:
            assert not left, "nothing comes after Leave"
            if isinstance(effect, Start):
                assert not running[effect.child]
                assert effect.child is GENERATOR or answering
                if fails:
                    carry_out(supervision.not_started(effect.child, "no room", now))
                    continue
                supervision.started(effect.child)
                running[effect.child] = True
            elif isinstance(effect, Send):
                assert running[effect.child]
            elif isinstance(effect, Leave):
                assert not any(running.values())
                left.append(effect.code)

    carry_out(supervision.start(now))
    for what, code, after in events:
        now += after
        if left:
            return
        if what == "ready" and running[GENERATOR]:
            answering = True
            carry_out(supervision.ready(now))
        elif what in ("generator", "daemon") and running[Child(what)]:
            running[Child(what)] = False
            answering = answering and what != "generator"
            carry_out(supervision.exited(Child(what), code, now))
        elif what == "signal":
            carry_out(supervision.signalled(TERM, now))
        elif what == "tick":
            carry_out(supervision.tick(now))
        elif what == "fails":
            fails = not fails
        elif what == "displaced":
            carry_out(supervision.displaced("another one", now))
    for _ in range(2):
        if not left:
            carry_out(supervision.signalled(INT, now))
    for child in Child:
        if running[child]:
            running[child] = False
            carry_out(supervision.exited(child, -9, now))
    assert len(left) == 1
