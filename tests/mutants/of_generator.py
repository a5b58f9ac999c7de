"""Bugs in the generator: leases, the ledger that changes, what is held, clocks."""

from __future__ import annotations

from mutants import Mutant

MUTANTS = [
    Mutant(
        "a new ledger notes when the clock was measured last, however long ago",
        "kcl_receiver/generator/carried.py",
        "newest = max(started.time, self.recent.newest, -1",
        "newest = max(-1, -1",
        ("tests/unit/test_workers.py::test_a_new_ledger_notes_the_newest_arrival_in_those_before_it",),
    ),
    Mutant(
        "a look back leaves out ledgers by the time of the host that wrote them",
        "kcl_receiver/generator/lookback.py",
        "                newest_before = entry.newest\n",
        "                newest_before = entry.newest if writer[:4] > '2026' else 0\n",
        ("tests/unit/test_lookback.py::test_ledgers_whose_records_the_stream_cannot_hold_any_more_are_left_out",),
    ),
    Mutant(
        "a lease's trouble ends its processor, and with it the daemon",
        "kcl_receiver/generator/core.py",
        "if isinstance(error, LeaseRefused | StoreError) and not error.mends:",
        "if False:",
        (
            "tests/unit/test_generator_core_hold.py::test_a_lease_that_cannot_be_read_puts_its_shard_on_hold_and_no_other",
        ),
    ),
    Mutant(
        "a shard that ListShards does not show yet is taken for a trimmed one",
        "kcl_receiver/generator/stream.py",
        '        if self._iterator(shard, ShardIteratorType="TRIM_HORIZON"):',
        "        if False:",
        ("tests/unit/test_stream_view.py::test_a_shard_that_is_not_listed_yet_is_asked_for_again",),
    ),
    Mutant(
        "a checkpoint that is refused is taken for another stream's",
        "kcl_receiver/generator/stream.py",
        "            raise LeaseRefused(",
        "            raise StreamReplaced(",
        ("tests/unit/test_stream_view.py::test_a_checkpoint_that_the_service_refuses_is_a_verdict_on_that_lease",),
    ),
    Mutant(
        "the end of a shard on hold is answered",
        "kcl_receiver/processor/core.py",
        "        if isinstance(self._action, ShardEnded):\n            return None\n",
        "        if False:\n            return None\n",
        ("tests/unit/test_processor_core_hold.py::test_the_shards_end_is_never_answered_and_the_process_stays",),
    ),
    Mutant(
        "records of a shard on hold are kept",
        "kcl_receiver/processor/core.py",
        "and not self._lease_gone and not self._holding.on:",
        "and not self._lease_gone:",
        (
            "tests/unit/test_processor_core_hold.py::test_records_are_answered_after_a_pause_and_neither_sent_nor_checkpointed",
        ),
    ),
    Mutant(
        "a ledger that is full of what it carries is followed by the next with each line",
        "kcl_receiver/generator/rollover.py",
        "return added >= first.size and (added >= LEDGER_BYTES or",
        "return whole.size >= LEDGER_BYTES or (added >= first.size and",
        (
            "tests/unit/test_rollover.py::test_what_counts_is_what_came_after_the_first_lines_and_at_least_as_much_as_they_are",
        ),
    ),
    Mutant(
        "a shard that has ended keeps its ledger",
        "kcl_receiver/generator/carried.py",
        "            else:\n                self.recent.end(shard)\n",
        "",
        ("tests/unit/test_workers.py::test_a_shard_that_kcl_knows_to_be_ended_keeps_no_ledger_and_is_found_in_it",),
    ),
    Mutant(
        "what the stream cannot hold any more is never forgotten",
        "kcl_receiver/generator/carried.py",
        "        self.recent.forget_before(oldest_in_reach(self.recent.newest, retention_hours))\n",
        "",
        ("tests/unit/test_workers.py::test_of_an_ended_shard_that_the_stream_cannot_hold_any_more_nothing_is_left",),
    ),
    Mutant(
        "the generator is not told that SHARD_END was taken",
        "kcl_receiver/processor/core.py",
        "told = [Transmit(Progress(self._behind, SHARD_END))] if self._open else []",
        "told = []",
        (
            "tests/unit/test_processor_core_end.py::test_the_generator_is_told_that_kcl_has_taken_the_end_before_the_daemon_ends_the_process",
        ),
    ),
    Mutant(
        "a page takes in all ranges of all ledgers",
        "kcl_receiver/generator/lookback.py",
        "[: self._page + 1]\n        here",
        "\n        here",
        ("tests/unit/test_lookback.py::test_the_memory_of_a_page_does_not_grow_with_the_ledgers",),
    ),
    Mutant(
        "a batch past the page is taken without asking what is held",
        "kcl_receiver/generator/core.py",
        "            if not session.knows(batch):",
        "            if False:",
        (
            "tests/unit/test_generator_core_held.py::test_a_batch_that_reaches_past_what_is_known_waits_for_the_next_page",
        ),
    ),
    Mutant(
        "a batch that reaches past the page is taken without asking what is held",
        "kcl_receiver/generator/session.py",
        "batch.last < self.known_to",
        "batch.first < self.known_to",
        (
            "tests/unit/test_generator_core_held.py::test_a_batch_that_reaches_past_what_is_known_waits_for_the_next_page",
        ),
    ),
    Mutant(
        "each page reads all ledgers",
        "kcl_receiver/generator/lookback.py",
        "if bounds is None or self._passed is None or bounds.last > self._passed:",
        "if True:",
        ("tests/unit/test_lookback.py::test_a_later_page_reads_only_the_ledgers_that_reach_into_it",),
    ),
    Mutant(
        "a ledger begins when the clock says",
        "kcl_receiver/generator/rollover.py",
        "if newest_ms is None or now_ms >= newest_ms + 1000:",
        "if True:",
        (
            "tests/unit/test_wall_clock.py::test_a_reader_with_a_token_gets_what_a_writer_stores_after_the_clock_was_set_back[directory-2000]",
        ),
    ),
    Mutant(
        "a clock that is set back ends the ledger's day",
        "kcl_receiver/generator/rollover.py",
        "    if today > day or",
        "    if today != day or",
        ("tests/unit/test_rollover.py::test_a_day_ends_once_whatever_the_clock_is_set_to[2026-02-27-False]",),
    ),
    Mutant(
        "expire passes over days that are still to come",
        "kcl_receiver/maintenance/expire.py",
        " or day > to_come:",
        ":",
        ("tests/unit/test_expire.py::test_a_day_that_is_still_to_come_is_looked_at_because_a_clock_was_wrong",),
    ),
    Mutant(
        "the first records after a starting point are believed to be of the stream",
        "kcl_receiver/generator/generator_io.py",
        "            self._view.describe(self._identity())\n            return replace(effect.more.rest",
        "            return replace(effect.more.rest",
        (
            "tests/unit/test_workers.py::test_the_stream_is_asked_again_when_the_first_records_after_a_starting_point_come",
        ),
    ),
    Mutant(
        "a ledger is closed before its last blocks are recorded in it",
        "kcl_receiver/store/ledger/takeover.py",
        "[*self.adopted[writer], Closed(time, by)]",
        "[Closed(time, by)]",
        (
            "tests/unit/test_verify.py::test_a_block_whose_line_was_torn_is_recorded_before_its_ledger_is_closed",
            "tests/unit/test_handover.py::test_a_block_that_a_killed_writer_could_not_record_is_recorded_in_its_own_ledger",
        ),
    ),
    Mutant(
        "what a lease says that cannot be read is a checkpoint",
        "kcl_receiver/generator/core.py",
        " if session.facts is not None)\n",
        ")\n",
        (
            "tests/unit/test_generator_core_hold.py::test_what_a_lease_says_that_cannot_be_read_is_no_checkpoint_up_to_which_anything_is_forgotten",
        ),
    ),
    Mutant(
        "a ledger is kept whose ranges the stream cannot hold any more",
        "kcl_receiver/generator/range_cache.py",
        " or one.arrivals.all_before(oldest_ms):",
        ":",
        (
            "tests/unit/test_workers.py::test_a_ledger_of_which_the_stream_holds_nothing_any_more_is_not_kept",
            "tests/unit/test_carried.py::test_no_ledger_is_needed_for_what_the_stream_cannot_hold_any_more",
        ),
    ),
    Mutant(
        "a ledger with a range past a checkpoint is not kept",
        "kcl_receiver/generator/range_cache.py",
        "                else:\n                    blocks.add(block)\n",
        "",
        ("tests/unit/test_carried.py::test_a_ledger_is_needed_until_all_in_it_lies_before_checkpoints",),
    ),
    Mutant(
        "what is in a ledger that is not kept does not count as forgotten",
        "kcl_receiver/generator/range_cache.py",
        "            if behind:\n                _note(forgotten, shard, _of(behind))\n",
        "",
        ("tests/unit/test_carried.py::test_a_ledger_is_needed_until_all_in_it_lies_before_checkpoints",),
    ),
    Mutant(
        "a ledger that no session needs is read at every start",
        "kcl_receiver/generator/generator_io.py",
        "        if not state.kept:\n",
        "        if True:\n",
        ("tests/unit/test_workers.py::test_a_shard_that_kcl_knows_to_be_ended_keeps_no_ledger_and_is_found_in_it",),
    ),
    Mutant(
        "a ledger that is followed by the next one is not closed",
        "kcl_receiver/generator/generator_io.py",
        "                ledger.append(last)\n            except WriterFenced:",
        "                pass\n            except WriterFenced:",
        ("tests/unit/test_workers.py::test_a_long_ledger_is_closed_and_followed_by_another",),
    ),
    Mutant(
        "where a shard's first session began is known to that session alone",
        "kcl_receiver/generator/known.py",
        "            if until >= 0:\n                horizon.mark(place(entry.after), until)\n",
        "",
        (
            "tests/unit/test_known_marks.py::"
            "test_a_restart_before_the_first_checkpoint_is_judged_from_where_the_first_session_began",
        ),
    ),
    Mutant(
        "a shard that was read long ago begins for the first time",
        "kcl_receiver/generator/known.py",
        "        if not parents and (shard in self._begun or facts.hash_range is None):\n",
        "        if not parents and (shard in self._shards or facts.hash_range is None):\n",
        ("tests/unit/test_known_marks.py::test_a_shard_that_was_read_long_ago_does_not_begin_for_the_first_time",),
    ),
    Mutant(
        "a bug at a connection or a timer is logged, and the generator goes on",
        "kcl_receiver/generator/main.py",
        "    report_bugs(server.failed)\n",
        "",
        (
            "tests/unit/test_internal_error.py::test_a_bug_at_a_connection_ends_the_generator",
            "tests/unit/test_internal_error.py::test_a_bug_at_a_timer_ends_the_generator",
        ),
    ),
    Mutant(
        "an error of the system at a connection ends the generator",
        "kcl_receiver/generator/runtime.py",
        "if isinstance(error, Exception) and not isinstance(error, OSError):",
        "if isinstance(error, Exception):",
        ("tests/unit/test_internal_error.py::test_the_systems_error_at_a_connection_is_asyncios_to_deal_with",),
    ),
    Mutant(
        "a generator that stopped because of a bug is not started again",
        "kcl_receiver/daemon/supervision.py",
        "HOPELESS = frozenset({EXIT_USAGE, EXIT_STREAM})",
        "HOPELESS = frozenset({EXIT_USAGE, EXIT_STREAM, 10})",
        ("tests/unit/test_supervision.py::test_a_generator_that_stopped_because_of_a_bug_is_started_again",),
    ),
    Mutant(
        "a ledger gives way while a block is on its way",
        "kcl_receiver/generator/pipeline.py",
        "if self._ledger_is_due and not self._in_flight:",
        "if self._ledger_is_due:",
        ("tests/unit/test_generator_core_blocks.py::test_a_ledger_gives_way_once_no_block_is_on_its_way",),
    ),
    Mutant(
        "blocks are cut while the next ledger is due",
        "kcl_receiver/generator/pipeline.py",
        " and not self._ledger_is_due",
        "",
        ("tests/unit/test_generator_core_blocks.py::test_a_ledger_gives_way_once_no_block_is_on_its_way",),
    ),
    Mutant(
        "a shard that ended under an earlier writer keeps its ledger for good",
        "kcl_receiver/generator/carried.py",
        "            if started.time - at >= SETTLED_MS:",
        "            if False:",
        (
            "tests/unit/test_carried.py::test_a_shard_that_ended_under_an_earlier_writer_is_done_with_when_kcl_has_not_begun_it_again_for_long",
        ),
    ),
    Mutant(
        "a line of the dead that arrives while its ledger is closed ends the start",
        "kcl_receiver/generator/generator_io.py",
        "            self._next, self._closing = None, []\n            raise StoreUnavailable(",
        "            raise StoreUnavailable(",
        (
            "tests/unit/test_late_requests.py::test_a_line_of_the_dead_that_arrives_while_its_ledger_is_closed_is_taken_over",
        ),
    ),
]
