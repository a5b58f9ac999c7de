"""Bugs in how ledgers are merged where each append is an object, and in how few requests things take."""

from __future__ import annotations

from mutants import Mutant

BUCKET = "kcl_receiver/store/bucket.py"
MERGING = "kcl_receiver/store/ledger/merging.py"
TAILING = "kcl_receiver/store/ledger/tailing.py"
NEIGHBOURS = "kcl_receiver/store/ledger/neighbours.py"
GENERATOR_IO = "kcl_receiver/generator/generator_io.py"
MERGED = "tests/unit/test_merging.py"
COUNTED = "tests/unit/test_requests.py"
HOUSE = "tests/unit/test_housework.py"
MODEL = f"{MERGED}::test_whoever_is_killed_or_sleeps_a_log_holds_what_was_appended_before_it_was_closed"

MUTANTS = [
    Mutant(
        "a ledger that still grows is merged",
        MERGING,
        "ledger.is_closed and ",
        "",
        (f"{MERGED}::test_a_ledger_that_grows_or_is_damaged_is_not_merged",),
    ),
    Mutant(
        "what is left of a damaged ledger is merged, and the rest is removed",
        MERGING,
        "ledger.fault is None and ",
        "",
        (f"{MERGED}::test_a_ledger_that_grows_or_is_damaged_is_not_merged",),
    ),
    Mutant(
        "compact merges ledgers of writers that the log calls living",
        MERGING,
        " and writer not in newest.state.living",
        "",
        (f"{MERGED}::test_what_is_left_over_is_merged_unless_its_writer_is_living",),
    ),
    Mutant(
        "the part that ends a log is removed with the others",
        BUCKET,
        "self._remove(parts[:-KEPT_PARTS])",
        "self._remove(parts)",
        (
            f"{MERGED}::test_a_writer_that_slept_since_before_the_end_finds_the_key_at_which_it_appends_taken",
            f"{MERGED}::test_a_writer_that_was_taken_for_dead_is_refused_also_once_its_ledger_is_merged",
            MODEL,
        ),
    ),
    Mutant(
        "the part before the one that ends a log is removed",
        BUCKET,
        "KEPT_PARTS = 2",
        "KEPT_PARTS = 1",
        (f"{MERGED}::test_a_writer_whose_last_answer_was_lost_finds_its_line_and_then_the_end",),
    ),
    Mutant(
        "parts are removed before the object that holds their lines is there",
        BUCKET,
        "        merged = bytes(content)\n",
        "        merged = bytes(content)\n        self._remove(parts[:-KEPT_PARTS])\n",
        (MODEL, f"{MERGED}::test_a_log_that_was_put_in_the_place_of_another_stays_as_it_is"),
    ),
    Mutant(
        "a merge that comes late displaces what repair has put there",
        BUCKET,
        "self._bucket.put(key, merged, if_absent=True) or",
        "self._bucket.put(key, merged, if_absent=False) or",
        (f"{MERGED}::test_a_log_that_was_put_in_the_place_of_another_stays_as_it_is",),
    ),
    Mutant(
        "who sleeps may append again once repair has put good lines in the place of a ledger",
        "kcl_receiver/store/bucket.py",
        '                self._bucket.put(part, b"", if_absent=False)\n',
        "                self._remove([part])\n",
        (f"{MERGED}::test_who_sleeps_is_refused_too_once_good_lines_are_in_the_place_of_a_log",),
    ),
    Mutant(
        "who sleeps may append again to a damaged ledger that nobody could close",
        "kcl_receiver/store/bucket.py",
        "        if last is not None:  # where",
        "        if False:  # where",
        (f"{MERGED}::test_who_sleeps_is_refused_too_once_good_lines_are_in_the_place_of_a_log",),
    ),
    Mutant(
        "a log that is merged while it is read is there in part",
        BUCKET,
        "            if whole is None:\n                return parts or None\n",
        "            if whole is None or parts:\n                return parts or None\n",
        (f"{MERGED}::test_a_log_is_there_while_it_is_merged", MODEL),
    ),
    Mutant(
        "what came late to the key of a part that was removed is read on",
        BUCKET,
        "        if self._bucket.head(key) is not None:\n            first, found",
        "        if not found and self._bucket.head(key) is not None:\n            first, found",
        (f"{MERGED}::test_what_comes_late_to_the_key_of_a_part_that_was_removed_counts_for_nothing",),
    ),
    Mutant(
        "a line in the middle of an append is not found",
        BUCKET,
        "if (at := _number(part.key)) <= number)",
        "if (at := _number(part.key)) == number)",
        (f"{MERGED}::test_a_merged_log_is_read_on_from_any_line", MODEL),
    ),
    Mutant(
        "one that read a log long ago closes it at a key that was set free",
        BUCKET,
        "if done and is_first and self",
        "if False and self",
        (f"{MERGED}::test_one_that_read_a_log_before_it_was_merged_does_not_close_it_in_the_middle",),
    ),
    Mutant(
        "a log that is merged while it is looked at is not there",
        BUCKET,
        "return self._bucket.head(key) if found is None else found",
        "return found",
        (f"{MERGED}::test_a_log_is_there_while_it_is_merged",),
    ),
    Mutant(
        "a ledger gives way to the next with every line, though its first lines are most of it",
        "kcl_receiver/generator/rollover.py",
        "return added >= first.size and (added >= LEDGER_BYTES or is_in_pieces)",
        "return is_in_pieces or added >= max(first.size, LEDGER_BYTES)",
        (
            "tests/unit/test_rollover.py::test_where_each_append_is_an_object_so_many_of_them_are_enough_if_they_are_as_much_as_the_first_lines",
        ),
    ),
    Mutant(
        "a ledger in a bucket grows as long as one on a disk",
        GENERATOR_IO,
        "Rollover(ledger_lines, store.objects.most_appends)",
        "Rollover(ledger_lines)",
        (f"{HOUSE}::test_a_ledger_gives_way_to_the_next_after_as_many_appends_as_the_place_says",),
    ),
    Mutant(
        "a merge that failed is forgotten",
        GENERATOR_IO,
        "                merge_closed(self._store, writer)\n                self._to_merge.remove(writer)\n",
        "                self._to_merge.remove(writer)\n                merge_closed(self._store, writer)\n",
        (f"{HOUSE}::test_a_merge_that_failed_is_done_with_the_next_and_keeps_no_other_from_it",),
    ),
    Mutant(
        "what the generator before did not come to merge stays in pieces",
        GENERATOR_IO,
        "            self._to_merge = list(taken.state.kept)",
        "            self._to_merge = []",
        (f"{HOUSE}::test_a_start_merges_what_it_closes_and_what_the_one_before_it_did_not_come_to_merge",),
    ),
    Mutant(
        "the answer to a measurement waits until the dead are closed",
        "kcl_receiver/generator/server.py",
        "        self._apply(self._core.measured(seen, self._runtime.clock()))\n",
        "        self._keep_house()\n        self._apply(self._core.measured(seen, self._runtime.clock()))\n",
        (f"{HOUSE}::test_the_state_machine_is_answered_before_the_housework_is_done",),
    ),
    Mutant(
        "a dead writer that cannot be closed keeps the others from it",
        NEIGHBOURS,
        'next((writer for writer in dead if self._close(writer, by, time)), "")',
        'next((writer for writer in dead[:1] if self._close(writer, by, time)), "")',
        (f"{HOUSE}::test_a_dead_writer_that_cannot_be_closed_does_not_keep_the_others_from_it",),
    ),
    Mutant(
        "what a dead writer had recorded before this host started is recorded again",
        NEIGHBOURS,
        "        self._recorded = {writer: _blocks(read[writer].entries) for writer in self._growing}\n",
        "",
        (f"{HOUSE}::test_what_is_recorded_in_a_dead_ledger_is_known_and_not_read_again",),
    ),
    Mutant(
        "what a dead writer has recorded since is recorded again",
        NEIGHBOURS,
        "        self._recorded.setdefault(writer, set()).update(_blocks(entries))\n",
        "",
        (f"{HOUSE}::test_what_is_recorded_in_a_dead_ledger_is_known_and_not_read_again",),
    ),
    Mutant(
        "a walk reads each ledger from its first line at every poll",
        TAILING,
        "        elif rest.tail.number == line and not rest.closed:\n            self._reached[writer] = rest.tail\n",
        "",
        (f"{COUNTED}::test_a_poll_costs_a_request_for_each_ledger_that_grows",),
    ),
    Mutant(
        "a ledger that was merged between two polls has no end",
        TAILING,
        "        return writer in self._logged.state.living\n",
        "        return True\n",
        ("tests/unit/test_tailing.py::test_whenever_it_polls_each_line_comes_once_and_after_what_was_seen_before_it",),
    ),
    Mutant(
        "a poll lists all ledgers that there ever were",
        TAILING,
        'self._store.writers(min(self._through, logged.state.last) if logged.number else "")',
        "self._store.writers()",
        (f"{COUNTED}::test_nothing_but_the_whole_proof_costs_more_in_an_old_store",),
    ),
    Mutant(
        "each look at the changes of a store begins with a walk of its own",
        "kcl_receiver/store/ledger/follow.py",
        "self._place, self._walk = walk.place, walk",
        "self._place = walk.place",
        (f"{COUNTED}::test_a_poll_costs_a_request_for_each_ledger_that_grows",),
    ),
    Mutant(
        "ledgers of the months after are not listed",
        "kcl_receiver/store/store.py",
        "if not month[:1].isdigit() or folder < behind[: len(folder)]:",
        "if not month[:1].isdigit() or (behind and not behind.startswith(folder)):",
        ("tests/unit/test_store.py::test_writers_after_one_are_those_with_greater_ids_in_whatever_month",),
    ),
]
