"""Bugs in what reads every record once."""

from __future__ import annotations

from mutants import Mutant

BATCHES = "tests/unit/test_read_batches.py"
FOLLOW = "tests/unit/test_read_follow.py"

MUTANTS = [
    Mutant(
        "a reading since a time leaves out ledgers by the time of the host that wrote them",
        "kcl_receiver/store/ledger/writer.py",
        "ended = ended or 0 <= entry.newest < since\n",
        "ended = ended or int(writer[:8]) < 20261222\n",
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
        "        noted = list(notes(self._store, self._notes))\n",
        "        noted = notes(self._store, self._notes)\n",
        ("tests/unit/test_follow.py::test_a_block_that_is_removed_was_added_before_though_maintenance_began_first",),
    ),
    Mutant(
        "a reader does not look at what repair noted",
        "kcl_receiver/store/ledger/tailing.py",
        "        yield from self._find_repairs()\n",
        "        list(self._find_repairs())\n",
        (f"{FOLLOW}::test_a_token_gets_what_repair_took_in_on_an_earlier_day",),
    ),
    Mutant(
        "a token forgets what repair took in and what still waits",
        "kcl_receiver/reading/sources.py",
        "        return min((note - 1 for note in self._notes.values()), default=all_of_them)\n",
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
]
