"""Bugs in what starts and supervises."""

from __future__ import annotations

from mutants import Mutant

MUTANTS = [
    Mutant(
        "signals that nohup ignores stop the supervisor",
        "kcl_receiver/daemon/supervisor.py",
        "[number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]",
        "list(STOP_SIGNALS)",
        ("tests/integration/test_supervisor.py::test_a_signal_that_is_ignored_when_it_starts_stays_ignored",),
    ),
    Mutant(
        "a processor that has not spoken for long is not silent",
        "kcl_receiver/status/live.py",
        "    if state.spoke_seconds < generator.silent_after:\n",
        "    if True:\n",
        ("tests/unit/test_live.py::test_one_silent_shard_among_others_is_named_and_its_problem_has_its_own_key",),
    ),
    Mutant(
        "a second signal within the same moment cuts the drain off",
        "kcl_receiver/stopping.py",
        "seconds >= ONE_STOP_SECONDS",
        "True",
        ("tests/unit/test_supervision.py::test_only_a_second_signal_that_is_meant_cuts_the_drain_short",),
    ),
    Mutant(
        "every stop is said to be clean",
        "kcl_receiver/daemon/supervision.py",
        "        if child is Child.DAEMON and code not in TERMINATED:\n",
        "        if False:\n",
        ("tests/unit/test_supervision.py::test_a_daemon_that_did_not_drain_is_not_said_to_have_stopped_cleanly",),
    ),
    Mutant(
        "a child that cannot be started again ends all",
        "kcl_receiver/daemon/supervisor.py",
        "            if self._machine.must_start(child):\n",
        "            if True:\n",
        (
            "tests/integration/test_supervisor.py::"
            "test_a_child_that_cannot_be_started_again_for_a_while_ends_nothing_else",
        ),
    ),
    Mutant(
        "the daemon's file is written once",
        "kcl_receiver/daemon/supervisor.py",
        "            self._plan.prepare()  # its file may have been removed since the last start\n",
        "            pass\n",
        (
            "tests/integration/test_run_command.py::"
            "test_java_starts_again_though_all_that_lies_beside_the_socket_was_removed",
        ),
    ),
    Mutant(
        "a lease table that is gone is a first start",
        "kcl_receiver/daemon/probes.py",
        "    if running:\n",
        "    if False:\n",
        (
            "tests/integration/test_check_probes.py::"
            "test_a_lease_table_that_is_gone_under_a_running_receiver_exits_with_5",
        ),
    ),
    Mutant(
        "two containers of one image have one worker's name",
        "kcl_receiver/daemon/daemon_properties.py",
        "str(config.socket), token)",
        "str(config.socket))",
        ("tests/unit/test_effective.py::test_the_worker_id_is_stable_and_differs_by_host_user_application_and_socket",),
    ),
    Mutant(
        "a store whose lock was removed is written on",
        "kcl_receiver/generator/generator_io.py",
        "        self._store.hold()  # still",
        "        pass  # still",
        ("tests/unit/test_store_locks.py::test_a_generator_whose_store_another_one_holds_reports_nothing_stored",),
    ),
    Mutant(
        "a processor that left a moment ago was never there",
        "kcl_receiver/status/live.py",
        "    waited = min(left, default=generator.uptime_seconds)\n",
        "    waited = generator.uptime_seconds\n",
        ("tests/unit/test_live.py::test_a_shard_that_ended_a_moment_ago_is_no_silence_of_its_children",),
    ),
    Mutant(
        "a host that stands by complains at each hand-over",
        "kcl_receiver/daemon/silence.py",
        "            self.well_at = now\n",
        "            pass\n",
        (
            "tests/unit/test_silence.py::test_a_host_that_stands_by_says_nothing_while_the_shards_of_another_are_handed_out",
        ),
    ),
    Mutant(
        "a lock that cannot be looked at is lost",
        "kcl_receiver/locks.py",
        "would find ourselves in the way, and look like another one.\n            return False\n",
        "would find ourselves in the way, and look like another one.\n            return True\n",
        ("tests/unit/test_locks.py::test_a_lock_whose_name_cannot_be_looked_at_just_now_is_not_lost",),
    ),
]
