"""Bugs in what reads every record once."""

from __future__ import annotations

from mutants import Mutant

FOLLOW = "tests/unit/test_read_follow.py"

MUTANTS = [
    Mutant(
        "a reading since a time leaves out ledgers by the time of the host that wrote them",
        "kcl_receiver/store/ledger.py",
        '        if _begun(writer, store.ledger(writer) or b"") < since:\n',
        "        if began_at(writer) < since:\n",
        (
            "tests/unit/test_read.py::test_a_reading_since_a_time_goes_by_the_clock_of_the_service_and_not_by_that_of_a_host_that_stood_still",
            "tests/unit/test_recorded.py::test_ledgers_of_a_host_that_stood_still_are_taken_in_by_the_clock_of_the_service",
        ),
    ),
    Mutant(
        "reading by time takes the last record of a range for its newest",
        "kcl_receiver/reader/read_rows.py",
        "newest < self.since)",
        "one.arrival_last < self.since)",
        ("tests/unit/test_read.py::test_arrival_times_that_do_not_rise_are_judged_by_the_record",),
    ),
    Mutant(
        "a reader does not look at what repair noted",
        "kcl_receiver/reader/plan.py",
        "        yield from self._find_repairs()\n",
        "        list(self._find_repairs())\n",
        (f"{FOLLOW}::test_a_token_gets_what_repair_took_in_on_an_earlier_day",),
    ),
    Mutant(
        "a token forgets what repair took in and what still waits",
        "kcl_receiver/reader/read_sources.py",
        "        return min((note - 1 for note in self._notes.values()), default=all_of_them)\n",
        "        return all_of_them\n",
        (f"{FOLLOW}::test_a_token_keeps_what_repair_took_in_and_waits_for_what_comes_before",),
    ),
    Mutant(
        "a follower believes what it read of a day before",
        "kcl_receiver/reader/reading.py",
        "self._blocks.day_again(entry.day)",
        "self._blocks.day(entry.day)",
        (f"{FOLLOW}::test_a_follower_gets_what_repair_takes_in_on_its_day_or_an_earlier_one",),
    ),
    Mutant(
        "a link is taken for proven although something was stored within it",
        "kcl_receiver/reader/chain.py",
        "(self._is_doubtful(ref) or self._holds_within(first))",
        "self._is_doubtful(ref)",
        (
            "tests/unit/test_chain.py::test_what_is_stored_within_a_link_goes_before_what_the_link_leads_to"
            "[no mark known]",
        ),
    ),
    Mutant(
        "a token of a store that nobody had claimed is refused",
        "kcl_receiver/reader/reading.py",
        "if token.application is not None and token.application",
        "if token.application",
        (f"{FOLLOW}::test_a_token_of_a_store_that_nobody_had_claimed_is_good_for_whoever_claims_it",),
    ),
]
