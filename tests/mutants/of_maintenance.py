"""Bugs in what compacts, expires and repairs."""

from __future__ import annotations

from mutants import Mutant

MUTANTS = [
    Mutant(
        "maintenance deletes on the word of a ledger that is not durable",
        "kcl_receiver/store/ledger/transaction.py",
        "        settle_day(store, day)\n        store.delete_blocks(blocks)",
        "        store.delete_blocks(blocks)",
        (
            "tests/unit/test_maintenance_faults.py"
            "::test_what_a_killed_run_left_may_not_be_durable_and_nothing_is_deleted_on_its_word",
        ),
    ),
    Mutant(
        "an expired block counts as one that holds what others lost",
        "kcl_receiver/maintenance/retired_blocks.py",
        "block not in changes.replaced and block not in changes.expired",
        "block not in changes.replaced",
        ("tests/unit/test_compact.py::test_what_only_an_expired_block_holds_is_not_deleted_with_it",),
    ),
    Mutant(
        "an expired block that is still there is held",
        "kcl_receiver/generator/presence.py",
        "        elif block not in expired:\n",
        "        else:\n",
        ("tests/unit/test_expire.py::test_an_expired_block_that_is_still_there_is_not_held",),
    ),
    Mutant(
        "repair relies on what a killed run wrote before it is durable",
        "kcl_receiver/maintenance/repair.py",
        "            settle_day(self._store, day)  # a run",
        "            pass  # a run",
        ("tests/unit/test_repair_faults.py::test_it_may_be_killed_between_any_two_steps_and_run_again",),
    ),
    Mutant(
        "a follower passes a note whose ledger is still to come",
        "kcl_receiver/store/ledger/notes.py",
        "        if there:\n            yield one",
        "        yield one",
        ("tests/unit/test_read_follow.py::test_a_follower_waits_for_the_ledger_that_a_killed_repair_had_noted",),
    ),
    Mutant(
        "compaction keeps the store until its end",
        "kcl_receiver/maintenance/compact.py",
        "                if self._store.is_asked_for():\n",
        "                if False:\n",
        ("tests/unit/test_compact.py::test_compaction_ends_when_other_maintenance_asks_for_the_store",),
    ),
    Mutant(
        "a compaction that gave way has come to its end",
        "kcl_receiver/cli/compact.py",
        "    return EXIT_INTERRUPTED if any(report.gave_way for report in reports) else EXIT_OK\n",
        "    return EXIT_OK\n",
        ("tests/unit/test_compact_command.py::test_a_run_that_stopped_early_has_not_succeeded",),
    ),
    Mutant(
        "what repair took in, and compaction replaced, is not held at the next start",
        "kcl_receiver/store/ledger/takeover.py",
        "                out.blocks.append(entry)\n",
        "",
        ("tests/unit/test_repair.py::test_what_was_taken_in_and_then_compacted_is_held_at_the_next_start",),
    ),
    Mutant(
        "repair deletes blocks that a ledger may still come to name",
        "kcl_receiver/maintenance/repair.py",
        "            end_killed(store, now_ms)\n",
        "            pass\n",
        (
            "tests/unit/test_late_requests.py::test_what_a_killed_run_was_about_to_record_does_not_come_when_its_blocks_are_gone[repaired]",
        ),
    ),
    Mutant(
        "compaction deletes blocks that a ledger may still come to name",
        "kcl_receiver/maintenance/compact.py",
        "        end_killed(store, now_ms)\n",
        "",
        (
            "tests/unit/test_late_requests.py::test_what_a_killed_run_was_about_to_record_does_not_come_when_its_blocks_are_gone[compacted]",
        ),
    ),
    Mutant(
        "blocks of a killed run are taken in because of the ledger that says nothing",
        "kcl_receiver/maintenance/retired_blocks.py",
        "not self._was_killed(writer) and ",
        "",
        (
            "tests/unit/test_late_requests.py::test_what_a_killed_run_was_about_to_record_does_not_come_when_its_blocks_are_gone[repaired]",
        ),
    ),
]
