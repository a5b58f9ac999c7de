"""Bugs in what reads every record once."""

from __future__ import annotations

from mutants import Mutant

BATCHES = "tests/unit/test_read_batches.py"
FOLLOW = "tests/unit/test_read_follow.py"
TAILING = "kcl_receiver/store/ledger/tailing.py"
WALK = "kcl_receiver/store/ledger/walk.py"
TEST_TAILING = "tests/unit/test_tailing.py"
MANY = "tests/unit/test_many_writers.py"

MUTANTS = [
    Mutant(
        "a reading since a time leaves out ledgers by the time of the host that wrote them",
        "kcl_receiver/store/ledger/writer.py",
        "            if 0 <= newest_before < since and (",
        "            if int(writer[:8]) < 20261222 and (",
        (
            "tests/unit/test_read.py::test_a_reading_since_a_time_goes_by_the_clock_of_the_service_and_not_by_that_of_a_host_that_stood_still",
            "tests/unit/test_recorded.py::test_ledgers_of_a_host_that_stood_still_are_taken_in_by_the_clock_of_the_service",
        ),
    ),
    Mutant(
        "reading by time takes the last record of a range for its newest",
        "kcl_receiver/reading/rows.py",
        "newest < self.since)",
        "one.arrival_last < self.since)",
        ("tests/unit/test_read.py::test_arrival_times_that_do_not_rise_are_judged_by_the_record",),
    ),
    Mutant(
        "the feed of changes lists what maintenance did after it has read the ledgers",
        "kcl_receiver/store/ledger/follow.py",
        "in recorded(self._store, self._seen, newest):\n",
        "in recorded(self._store, self._seen, newest_number(self._store)):\n",
        ("tests/unit/test_follow.py::test_a_block_that_is_removed_was_added_before_though_maintenance_began_first",),
    ),
    Mutant(
        "a reader does not look at what repair recorded",
        "kcl_receiver/store/ledger/tailing.py",
        "        yield from self._find_repairs()\n",
        "        list(self._find_repairs())\n",
        (f"{FOLLOW}::test_a_token_gets_what_repair_took_in_on_an_earlier_day",),
    ),
    Mutant(
        "a token forgets what repair took in and what still waits",
        "kcl_receiver/reading/sources.py",
        "        return min((number - 1 for number in self._repaired.values()), default=all_of_them)\n",
        "        return all_of_them\n",
        (f"{FOLLOW}::test_a_token_keeps_what_repair_took_in_and_waits_for_what_comes_before",),
    ),
    Mutant(
        "a follower believes what it read of a day before",
        "kcl_receiver/reading/reading.py",
        "self._blocks.day_again(began.day)",
        "self._blocks.day(began.day)",
        (f"{FOLLOW}::test_a_follower_gets_what_repair_takes_in_on_its_day_or_an_earlier_one",),
    ),
    Mutant(
        "a link is taken for proven although something was stored within it",
        "kcl_receiver/proof/chain.py",
        "(self._is_doubtful(ref) or self._holds_within(first))",
        "self._is_doubtful(ref)",
        (
            "tests/unit/test_chain.py::test_what_is_stored_within_a_link_goes_before_what_the_link_leads_to"
            "[no mark known]",
        ),
    ),
    Mutant(
        "a token leaves out what waits for the next batch",
        "kcl_receiver/reading/batcher.py",
        "            yield self.flush()\n            if self.left != 0:\n                yield from self._put(items,",
        "            self.move(items)\n            yield self.flush()\n            if self.left != 0:\n"
        "                yield from self._put(items,",
        (f"{BATCHES}::test_reading_on_from_any_token_gives_the_rest",),
    ),
    Mutant(
        "a follower holds back a batch that is not full",
        "kcl_receiver/reading/reading.py",
        "            yield from self._flush()  # a batch that is not full does not wait for more\n",
        "",
        (f"{BATCHES}::test_a_follower_hands_out_what_there_is_before_it_waits",),
    ),
    Mutant(
        "of a block with a damaged range all that follows is given up",
        "kcl_receiver/reading/blocks.py",
        "ranges[done : done + 1] if isinstance(error, RangeDamaged) else ranges[done:]",
        "ranges[done:]",
        (f"{BATCHES}::test_of_a_block_with_one_damaged_range_the_others_are_read_from_the_block",),
    ),
    Mutant(
        "a few rows keep the whole row group in memory",
        "kcl_receiver/store/blocks/file.py",
        "                rows = _copied(rows)\n",
        "                pass\n",
        (f"{BATCHES}::test_a_few_rows_of_a_large_block_do_not_keep_all_of_it",),
    ),
    Mutant(
        "a range is followed although another one waits",
        "kcl_receiver/proof/chain.py",
        "if self._heap or self._out or not self._begun",
        "if self._out or not self._begun",
        ("tests/unit/test_chain.py::test_what_comes_next_needs_no_heap_and_what_does_not_come_next_is_left_alone",),
    ),
    Mutant(
        "a footer with other records is taken for that of the block",
        "kcl_receiver/store/blocks/footers.py",
        "said.checksum == one.checksum\n        and ",
        "",
        ("tests/unit/test_read.py::test_without_all_columns_the_footer_is_held_against_the_ledger",),
    ),
    Mutant(
        "a token of a store that nobody had claimed is refused",
        "kcl_receiver/reading/token.py",
        "if self.application is not None and self.application",
        "if self.application",
        (f"{FOLLOW}::test_a_token_of_a_store_that_nobody_had_claimed_is_good_for_whoever_claims_it",),
    ),
    Mutant(
        "a reading since a time leaves out ledgers that grew beside the first one that it reads",
        "kcl_receiver/store/ledger/writer.py",
        "(first := oldest_beside(writer, content))",
        "(first := writer)",
        (
            f"{MANY}::test_a_reading_since_a_time_takes_in_ledgers_that_grew_beside_one_that_says_all_before_it_is_older",
        ),
    ),
    Mutant(
        "the newest stream is one that the newest ledger names",
        "kcl_receiver/store/ledger/reading.py",
        "                first = oldest_beside(writer, content)\n",
        "                first = writer\n",
        (f"{MANY}::test_the_newest_stream_may_be_in_a_ledger_that_sorts_before",),
    ),
    Mutant(
        "how far a checkpoint is behind is told without ledgers that grew at the same time",
        "kcl_receiver/audit/leases.py",
        "first = entry.oldest_beside",
        "first = writer",
        (f"{MANY}::test_how_far_a_checkpoint_is_behind_counts_what_others_stored",),
    ),
    Mutant(
        "a first line does not tell which ledgers go on growing",
        "kcl_receiver/store/ledger/entries.py",
        "        return min((self.writer, *self.beside))",
        "        return self.writer",
        (f"{MANY}::test_the_first_line_of_a_ledger_tells_which_others_may_have_grown_since",),
    ),
    Mutant(
        "a walk reads a ledger that began after it had read the log",
        TAILING,
        "        if logged.number and not self._behind:\n",
        "        if False:\n",
        (
            f"{TEST_TAILING}::test_whenever_it_polls_each_line_comes_once_and_after_what_was_seen_before_it[0]",
            f"{TEST_TAILING}::test_whenever_it_polls_each_line_comes_once_and_after_what_was_seen_before_it[7]",
        ),
    ),
    Mutant(
        "a session's line is read before what it has seen",
        TAILING,
        "            elif here.before is None and isinstance(entry, SessionStarted) and entry.seen is not None:\n",
        "            elif False:\n",
        (
            f"{TEST_TAILING}::test_a_session_waits_for_what_it_had_seen_of_a_ledger_that_sorts_behind_its_own",
            f"{TEST_TAILING}::test_whenever_it_polls_each_line_comes_once_and_after_what_was_seen_before_it[1]",
            f"{MANY}::test_a_shard_that_moves_to_a_ledger_that_sorts_before_is_read_without_a_hole",
            f"{MANY}::test_wherever_shards_move_each_record_comes_once_and_in_order_across_tokens[20]",
        ),
    ),
    Mutant(
        "of what a session has seen, more is read than it has seen",
        TAILING,
        "        if here.through is not None and line >= here.through:\n            return rest",
        "        if False:\n            return rest",
        (f"{TEST_TAILING}::test_a_session_waits_for_what_it_had_seen_of_a_ledger_that_sorts_behind_its_own",),
    ),
    Mutant(
        "what a session has seen of ledgers that were closed is not read first",
        TAILING,
        "through = here.seen.lines.get(writer) if here",
        "through = here.seen.lines.get(writer, 0) if here",
        (f"{TEST_TAILING}::test_a_ledger_that_was_closed_when_a_session_began_is_read_to_its_end_before",),
    ),
    Mutant(
        "a ledger that has grown since it was read is not read again",
        TAILING,
        "since it was read\n        del self._rests[writer]\n",
        "since it was read\n",
        (f"{TEST_TAILING}::test_a_ledger_that_has_grown_since_it_was_read_is_read_again",),
    ),
    Mutant(
        "a session that has seen a writer which began meanwhile does not wait for it",
        TAILING,
        "        self._find_named(seen)\n",
        "",
        (f"{TEST_TAILING}::test_a_writer_that_began_after_the_log_was_read_is_read_as_far_as_a_session_had_seen_it",),
    ),
    Mutant(
        "a line that a session has seen may be missing",
        TAILING,
        "        if not acknowledged(self._store, writer, line):\n",
        "        if False:\n",
        (
            f"{TEST_TAILING}::test_a_line_that_a_session_had_seen_is_missed_unless_its_loss_is_known",
            f"{TEST_TAILING}::test_a_line_is_missed_of_a_ledger_that_was_closed_too",
            f"{MANY}::test_a_line_that_another_writer_saw_is_missed_by_all_of_them",
        ),
    ),
    Mutant(
        "that a line is gone is missed though it is known",
        TAILING,
        "        if not acknowledged(self._store, writer, line):\n",
        "        if True:\n",
        (f"{TEST_TAILING}::test_a_line_that_a_session_had_seen_is_missed_unless_its_loss_is_known",),
    ),
    Mutant(
        "that two sessions have seen each other is no damage",
        TAILING,
        "            raise LedgerDamaged(what, SEE_REPAIR)\n",
        "            return _Reading(writer, 0)\n",
        (f"{TEST_TAILING}::test_sessions_that_had_seen_each_other_are_damage",),
    ),
    Mutant(
        "a token forgets a growing ledger",
        TAILING,
        "        return Place(self._last, dict(self._lines), self._last_day)\n",
        "        return Place(self._last, dict([*self._lines.items()][-1:]), self._last_day)\n",
        (
            f"{TEST_TAILING}::test_a_place_at_any_line_leaves_out_what_came_before_and_nothing_else[1]",
            f"{TEST_TAILING}::test_a_place_keeps_the_ledgers_that_may_grow_and_no_others",
            f"{MANY}::test_the_feed_of_changes_goes_on_in_each_ledger",
            f"{MANY}::test_wherever_shards_move_each_record_comes_once_and_in_order_across_tokens[20]",
        ),
    ),
    Mutant(
        "a token keeps the ledgers that were closed and read",
        TAILING,
        "            self._ends[writer] = self._lines.pop(writer)\n",
        "            self._ends[writer] = self._lines[writer]\n",
        (
            f"{TEST_TAILING}::test_a_place_keeps_the_ledgers_that_may_grow_and_no_others",
            f"{TEST_TAILING}::test_whenever_it_polls_each_line_comes_once_and_after_what_was_seen_before_it[1]",
        ),
    ),
    Mutant(
        "a ledger is done that was found after the log was read",
        TAILING,
        "        return writer <= self._logged.state.last and writer not in",
        "        return writer not in",
        (f"{TEST_TAILING}::test_a_writer_that_began_after_the_log_was_read_may_go_on_though_a_line_of_it_is_lost",),
    ),
    Mutant(
        "a place while a day begins lies before the line that came before it",
        TAILING,
        "            self.place = self._here()._replace(day=self._day)\n            yield self.place, DayBegan",
        "            yield self._here()._replace(day=self._day), DayBegan",
        (f"{TEST_TAILING}::test_whenever_it_polls_each_line_comes_once_and_after_what_was_seen_before_it[70]",),
    ),
    Mutant(
        "verify does not read again what a session has seen meanwhile",
        WALK,
        "        yield from self._catch_up()\n",
        "",
        (
            f"{MANY}::test_verify_reads_again_what_a_session_had_seen_meanwhile[True]",
            f"{MANY}::test_verify_finds_a_writer_that_has_begun_meanwhile[True]",
            f"{MANY}::test_a_line_that_another_writer_saw_is_missed_by_all_of_them",
        ),
    ),
    Mutant(
        "verify takes in twice what it reads again",
        WALK,
        "                if number > before and isinstance(",
        "                if isinstance(",
        (f"{MANY}::test_verify_reads_again_what_a_session_had_seen_meanwhile[True]",),
    ),
    Mutant(
        "verify does not read to its end a ledger that was closed meanwhile",
        WALK,
        "            todo = short | self._behind\n",
        "            todo = short\n",
        (f"{MANY}::test_verify_finds_a_writer_that_has_begun_meanwhile[True]",),
    ),
    Mutant(
        "of several ends of a shard the last one tells",
        "kcl_receiver/audit/shard.py",
        "if self.ended is None or place(one.last) >= place(self.ended.last):",
        "if True:",
        (f"{MANY}::test_of_several_ends_of_a_shard_the_furthest_one_tells_whatever_ledger_is_read_first[ends0]",),
    ),
    Mutant(
        "an end that is not in doubt clears one that is",
        "kcl_receiver/proof/links.py",
        "self._ended_late |= ",
        "self._ended_late = ",
        (f"{MANY}::test_an_end_that_came_late_stays_in_doubt_though_another_one_did_not",),
    ),
    Mutant(
        "what is lost is not looked at again where hosts store meanwhile",
        "kcl_receiver/store/ledger/losses.py",
        '        line = decode_ledger(writer, store.ledger(writer) or b"").tail.number + 1  # it',
        "        line = there.get(writer, 0) + 1  # it",
        (f"{MANY}::test_what_is_lost_is_looked_at_again_where_hosts_store_meanwhile",),
    ),
]
