"""Bugs in what says whether a shard was read within the retention."""

from __future__ import annotations

from mutants import Mutant

HORIZON = "tests/unit/test_horizon.py"
CLOCK = "tests/unit/test_service_clock.py"
COVERAGE = "tests/unit/test_coverage.py"

MUTANTS = [
    Mutant(
        "a link is good for an hour longer than the retention",
        "kcl_receiver/horizon.py",
        "        needed = at - until\n",
        "        needed = at - until - HOUR_MS\n",
        (f"{HORIZON}::test_a_link_is_good_if_all_that_was_trimmed_is_not_past_what_it_follows",),
    ),
    Mutant(
        "a reading counts, however long nothing was read before it",
        "kcl_receiver/horizon.py",
        "        if self.is_good(position, at):\n",
        "        if True:\n",
        (f"{HORIZON}::test_a_reading_after_too_long_a_pause_does_not_count_nor_does_any_that_follows_it",),
    ),
    Mutant(
        "a retention that was lowered meanwhile is taken for twice as long",
        "kcl_receiver/horizon.py",
        "needed > retention.least(until, at)",
        "needed > 2 * retention.least(until, at)",
        (f"{HORIZON}::test_a_link_that_held_for_longer_than_a_retention_that_was_lowered_is_not_good",),
    ),
    Mutant(
        "a look that came late parts those that said the same as if nothing had been between",
        "kcl_receiver/horizon.py",
        "            self._before.insert(at, between)\n",
        "            self._before.insert(at, NEVER_SEEN)\n",
        (f"{HORIZON}::test_looks_that_say_the_same_are_kept_as_two",),
    ),
    Mutant(
        "what was noted before the clock was first measured counts",
        "kcl_receiver/generator/clock.py",
        "if measured <= boot), -1)",
        "), -1)",
        (f"{CLOCK}::test_what_was_noted_before_the_first_measurement_has_no_credit",),
    ),
    Mutant(
        "a clock that was late raises nothing",
        "kcl_receiver/generator/clock.py",
        "            if high - offset > MARGIN_MS:\n",
        "            if False:\n",
        (f"{CLOCK}::test_a_mark_uses_the_offset_measured_before_and_a_delivery_the_one_after",),
    ),
    Mutant(
        "a clock that a record shows to be late is measured when it would have been",
        "kcl_receiver/generator/marks.py",
        "            self._hasten(message.at / 1000)\n",
        "            pass\n",
        ("tests/unit/test_generator_marks.py::test_a_record_far_later_than_the_clock_has_the_stream_asked_at_once",),
    ),
    Mutant(
        "a clock that records show to be late is measured for each of them",
        "kcl_receiver/generator/marks.py",
        " and now - self._hastened >= AGAIN_SECONDS:",
        ":",
        ("tests/unit/test_generator_marks.py::test_a_record_far_later_than_the_clock_has_the_stream_asked_at_once",),
    ),
    Mutant(
        "verify takes every link for good",
        "kcl_receiver/reader/proof.py",
        "or self.horizon.is_good(after, at):\n            self._segments",
        "or True:\n            self._segments",
        (f"{COVERAGE}::test_a_link_older_than_the_retention_is_possibly_trimmed_and_no_gap",),
    ),
    Mutant(
        "verify forgets the readings that do not count",
        "kcl_receiver/reader/proof.py",
        "        self._tails += horizon.settle()\n",
        "        horizon.settle()\n",
        ("tests/unit/test_verify_model.py::test_ranges_taken_in_one_at_a_time_prove_what_they_prove_together",),
    ),
    Mutant(
        "a delivery was read after the note before it",
        "kcl_receiver/processor/notes.py",
        "        return before\n",
        "        return now\n",
        ("tests/unit/test_notes.py::test_the_first_note_is_used_after_as_many_deliveries_as_may_have_been_read_ahead",),
    ),
]
