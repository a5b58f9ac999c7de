"""Bugs in what compacts, expires and repairs."""

from __future__ import annotations

from mutants import Mutant

TRANSACTION = "kcl_receiver/store/ledger/transaction.py"
LOG = "tests/unit/test_maintenance_log.py"
TOGETHER = "tests/unit/test_maintenance_together.py"

MUTANTS = [
    Mutant(
        "an entry that was lost is named by the one that repair makes",
        "kcl_receiver/store/ledger/transaction.py",
        "if tail.number and one not in changes.named}",
        "if one not in changes.named}",
        (
            "tests/unit/test_maintenance_together.py::test_an_entry_that_was_lost_and_that_no_other_names_is_repaired_at_once",
        ),
    ),
    Mutant(
        "repair judges what others made by a listing that is older",
        "kcl_receiver/maintenance/repair.py",
        "        if any(stand_in not in present for",
        "        if False and any(stand_in not in present for",
        (
            "tests/unit/test_maintenance_together.py::test_what_a_compaction_has_replaced_while_repair_listed_is_not_amiss",
        ),
    ),
    Mutant(
        "maintenance deletes on the word of a ledger that is not durable",
        "kcl_receiver/store/ledger/transaction.py",
        "        newest_number(store)\n        store.delete_blocks(blocks)",
        "        store.delete_blocks(blocks)",
        (f"{LOG}::test_what_is_deleted_on_the_word_of_an_entry_stays_said_when_the_power_is_lost",),
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
        "compaction keeps the store until its end",
        "kcl_receiver/maintenance/compact.py",
        "                if self._store.is_asked_for():\n",
        "                if False:\n",
        ("tests/unit/test_compact.py::test_compaction_ends_when_other_maintenance_asks_for_the_store",),
    ),
    Mutant(
        "a compaction that gave way has come to its end",
        "kcl_receiver/cli/compact.py",
        "    return EXIT_INTERRUPTED if early else EXIT_OK\n",
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
        "a transaction about the same blocks is recorded, too",
        TRANSACTION,
        "            if self._is_overtaken():\n",
        "            if False:\n",
        (
            f"{LOG}::test_what_is_about_the_same_block_or_ledger_is_overtaken_and_records_nothing[memory-replacing-replacing]",
            f"{TOGETHER}::test_at_any_change_of_a_run_another_one_may_come_and_go[compacts-compacts]",
        ),
    ),
    Mutant(
        "what others replaced or expired since does not count",
        TRANSACTION,
        "            or not since.removed.isdisjoint({*new, *self._old, *self._expired})\n",
        "",
        (
            f"{LOG}::test_what_is_about_the_same_block_or_ledger_is_overtaken_and_records_nothing[memory-replacing-removing]",
        ),
    ),
    Mutant(
        "what others recorded since does not count",
        TRANSACTION,
        "            or not since.recorded.isdisjoint(new)\n",
        "",
        (
            f"{LOG}::test_what_is_about_the_same_block_or_ledger_is_overtaken_and_records_nothing[memory-taking_in-taking_in]",
        ),
    ),
    Mutant(
        "a ledger is acknowledged by two runs",
        TRANSACTION,
        "            or not since.acknowledged.isdisjoint(acknowledged)\n",
        "",
        (
            f"{LOG}::test_what_is_about_the_same_block_or_ledger_is_overtaken_and_records_nothing[memory-acknowledging-acknowledging]",
        ),
    ),
    Mutant(
        "a writer that is void records what it made",
        TRANSACTION,
        "            self.writer in changes.voided\n            or not",
        "            not",
        (f"{LOG}::test_what_is_void_is_never_recorded_however_late_it_comes",),
    ),
    Mutant(
        "a writer is made void that has recorded what it made",
        TRANSACTION,
        "            or not voided.isdisjoint(changes.writers)\n",
        "",
        (f"{LOG}::test_what_is_recorded_just_before_it_is_void_is_not_void[memory]",),
    ),
    Mutant(
        "blocks in no ledger are deleted, and their writer may still record them",
        "kcl_receiver/maintenance/retired_blocks.py",
        "    void(store, changes, map(writer_of, orphans), role, now_ms)\n",
        "",
        (
            "tests/unit/test_late_requests.py::test_what_a_killed_run_was_about_to_record_does_not_come_when_its_blocks_are_gone[repaired]",
            f"{TOGETHER}::test_at_any_change_of_a_run_another_one_may_come_and_go[compacts-repairs]",
        ),
    ),
    Mutant(
        "young blocks of a run that is at work are deleted",
        "kcl_receiver/maintenance/retired_blocks.py",
        "changed > self._now_ms - ORPHAN_MILLIS",
        "False",
        (
            f"{LOG}::test_young_blocks_of_a_run_that_may_be_at_work_are_left_alone_where_no_lock_tells[repair-False]",
            f"{LOG}::test_young_blocks_of_a_run_that_may_be_at_work_are_left_alone_where_no_lock_tells[compact-False]",
        ),
    ),
    Mutant(
        "a commit whose answer was lost is made once more",
        TRANSACTION,
        "            if self.writer in changes.writers:  # the answer was lost\n",
        "            if False:\n",
        (
            f"{LOG}::test_a_commit_whose_answer_is_lost_is_recorded_once[maintenance/-Fault.AFTER]",
            f"{LOG}::test_one_of_which_the_answer_was_lost_is_found_although_others_came_since",
        ),
    ),
    Mutant(
        "an entry is created behind one that may not be durable",
        TRANSACTION,
        "                store.settle_maintenance_entry(changes.seen)  # its writer",
        "                pass  # its writer",
        (f"{LOG}::test_the_newest_entry_is_durable_before_the_next_one_is_created[memory]",),
    ),
    Mutant(
        "the marker comes after its entry",
        "kcl_receiver/store/store.py",
        "        self.mark_maintenance(number, writer)\n"
        "        return self.objects.create(layout.maintenance_path(number), content)\n",
        "        done = self.objects.create(layout.maintenance_path(number), content)\n"
        "        self.mark_maintenance(number, writer)\n        return done\n",
        (f"{LOG}::test_the_newest_entry_is_durable_before_the_next_one_is_created[memory]",),
    ),
    Mutant(
        "a marker leads to the entry of another writer",
        "kcl_receiver/store/store.py",
        "            if by == writer:\n",
        "            if by is not None:\n",
        (f"{LOG}::test_a_marker_without_its_entry_says_nothing_whoever_comes_next[memory]",),
    ),
    Mutant(
        "an entry that was lost is one that is still to come",
        "kcl_receiver/store/store.py",
        "                if number > newest:\n                    continue\n",
        "                continue\n",
        (f"{LOG}::test_a_lost_entry_is_damage_for_whoever_reads_the_day_or_follows[memory-2]",),
    ),
    Mutant(
        "a follower waits for an entry that was lost",
        "kcl_receiver/store/ledger/maintenance_log.py",
        "    if store.has_maintenance_entry(number + 2) and not",
        "    if False and not",
        (f"{LOG}::test_a_lost_entry_is_damage_for_a_follower_that_is_at_work[memory]",),
    ),
    Mutant(
        "a follower counts an entry that may not be durable",
        "kcl_receiver/store/ledger/maintenance_log.py",
        "    if number > seen:\n        store.settle_maintenance_entry(number)\n",
        "",
        (f"{LOG}::test_what_a_follower_has_counted_is_durable[False]",),
    ),
    Mutant(
        "what begins relies on an entry that may not be durable",
        "kcl_receiver/store/ledger/maintenance_log.py",
        "    if number:\n        store.settle_maintenance_entry(number)\n",
        "",
        (
            f"{LOG}::test_what_a_follower_has_counted_is_durable[True]",
            "tests/unit/test_maintenance_faults.py"
            "::test_what_a_killed_run_left_may_not_be_durable_and_nothing_is_deleted_on_its_word",
            "tests/unit/test_repair_faults.py::test_it_may_be_killed_between_any_two_steps_and_run_again",
        ),
    ),
    Mutant(
        "the number of an entry that was lost stays free",
        "kcl_receiver/maintenance/repair.py",
        "                fill(self._store, number, self._now_ms)\n",
        "                pass\n",
        (f"{LOG}::test_repair_records_what_a_lost_entry_said_and_lets_followers_past_it[memory]",),
    ),
    Mutant(
        "old blocks are deleted although the new one is not there",
        TRANSACTION,
        "            if self._store.has_block(one.block):\n                continue\n",
        "            continue\n",
        (f"{LOG}::test_nothing_is_deleted_if_a_new_block_is_not_there[memory]",),
    ),
    Mutant(
        "a compaction that was overtaken deletes what repair has taken in",
        "kcl_receiver/maintenance/compact.py",
        "[block for block in made if block not in self._changes.since.recorded]",
        "list(made)",
        (f"{LOG}::test_what_repair_has_taken_in_is_not_deleted_by_the_run_that_made_it",),
    ),
    Mutant(
        "expire takes what was overtaken for done",
        "kcl_receiver/maintenance/expire.py",
        "                found = self._look(day, self._store.blocks_of_day(day), to_change=True)\n",
        "                found = None\n",
        (f"{LOG}::test_expire_plans_again_what_was_overtaken",),
    ),
    Mutant(
        "recover records once more what others have brought back",
        "kcl_receiver/recovery/restore.py",
        "if changes.expired.keys() & set(new.replaces) or holds_all(held, new.ranges):",
        "if changes.expired.keys() & set(new.replaces):",
        (
            "tests/unit/test_restore.py::test_of_two_runs_that_bring_back_the_same_blocks_the_second_drops_what_the_first_has_brought[memory]",
        ),
    ),
    Mutant(
        "recover brings back what expired meanwhile",
        "kcl_receiver/recovery/restore.py",
        "if changes.expired.keys() & set(new.replaces) or holds_all(held, new.ranges):",
        "if holds_all(held, new.ranges):",
        ("tests/unit/test_restore.py::test_what_expired_meanwhile_is_not_brought_back[memory]",),
    ),
]
