"""Bugs in what says whether a shard was read within the retention."""

from __future__ import annotations

from mutants import Mutant

HORIZON = "tests/unit/test_horizon.py"
CLOCK = "tests/unit/test_service_clock.py"
LATE = "tests/unit/test_late_clock.py"
MARKS = "tests/unit/test_generator_marks.py"
WORKERS = "tests/unit/test_workers.py::test_a_start_raises_the_times_of_all_sessions_that_a_late_clock_was_used_for"
COVERAGE = "tests/unit/test_coverage.py"

MUTANTS = [
    Mutant(
        "only the first of the starts that stored nothing says what was asked for",
        "kcl_receiver/proof/links.py",
        "        return min(_begun(one, opened) for one in starts)\n",
        "        return _begun(starts[0], opened)\n",
        (
            f"{COVERAGE}::test_a_start_that_asks_for_more_than_one_before_which_stored_nothing_is_judged_by_what_it_asks_for",
        ),
    ),
    Mutant(
        "only a start at a time is held against a start at a later time",
        "kcl_receiver/proof/links.py",
        "if _asked_from(one, opened) < first.begins]",
        "if 0 <= one.begins < first.begins]",
        (f"{COVERAGE}::test_a_start_at_a_later_time_than_was_asked_for_skips_what_came_between",),
    ),
    Mutant(
        "a start after the first record counts among the first ones",
        "kcl_receiver/proof/links.py",
        "        return found[: last + 1]\n",
        "        return found\n",
        (f"{COVERAGE}::test_a_start_after_the_first_record_is_stored_changes_nothing_of_where_reading_began",),
    ),
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
        "if measured < boot), -1)",
        "), -1)",
        (f"{CLOCK}::test_what_was_noted_before_the_first_measurement_has_no_credit",),
    ),
    Mutant(
        "a clock that was late raises nothing",
        "kcl_receiver/generator/clock.py",
        "            if high - offset > MARGIN_MS\n",
        "            if False\n",
        (f"{CLOCK}::test_a_mark_uses_the_offset_measured_before_and_a_delivery_the_one_after",),
    ),
    Mutant(
        "a clock that a record shows to be late is measured when it would have been",
        "kcl_receiver/generator/marks.py",
        "            self._hasten(message.at / 1000)\n",
        "            pass\n",
        (f"{MARKS}::test_a_record_far_later_than_the_clock_has_the_stream_asked_at_once",),
    ),
    Mutant(
        "a clock that records show to be late is measured for each of them",
        "kcl_receiver/generator/marks.py",
        " and now - self._hastened >= AGAIN_SECONDS:",
        ":",
        (f"{MARKS}::test_a_record_far_later_than_the_clock_has_the_stream_asked_at_once",),
    ),
    Mutant(
        "verify takes every link for good",
        "kcl_receiver/proof/links.py",
        "            if not self.horizon.is_good(low[0], at):\n",
        "            if False:\n",
        (f"{COVERAGE}::test_a_link_older_than_the_retention_is_possibly_trimmed_and_no_gap",),
    ),
    Mutant(
        "verify forgets the readings that do not count",
        "kcl_receiver/proof/links.py",
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
    Mutant(
        "a shard's end is dated by the clock that was measured before",
        "kcl_receiver/generator/core.py",
        "            self._saw(seen, now)\n",
        "",
        (f"{MARKS}::test_the_end_of_a_shard_is_dated_by_the_clock_that_the_stream_shows_then",),
    ),
    Mutant(
        "what sessions say that deliver nothing is not raised by a clock that was late",
        "kcl_receiver/generator/marks.py",
        "        self._active[session.id] = _millis(now)\n        return self.time(now)\n",
        "        return self.time(now)\n",
        (f"{MARKS}::test_what_a_session_said_that_delivered_nothing_is_raised_too",),
    ),
    Mutant(
        "that an idle shard was read too late is recorded only if it says more than its last range",
        "kcl_receiver/generator/marks.py",
        "if until <= session.marked and not late:",
        "if until <= session.marked:",
        (f"{MARKS}::test_that_an_idle_shard_was_read_too_late_is_recorded_whatever_was_recorded_before",),
    ),
    Mutant(
        "the sessions of closed ledgers are not raised by a clock that was late",
        "kcl_receiver/generator/carried.py",
        "for one, at in self._active.items() if at >= clock.measured)",
        "for one, at in self._active.items() if False)",
        (f"{WORKERS}[directory-in ledgers that are closed]",),
    ),
    Mutant(
        "a start raises the times of ranges alone",
        "kcl_receiver/generator/carried.py",
        "for entry in ended if entry.stream == stream for one",
        "for entry in ended if isinstance(entry, BlockStored) and entry.stream == stream for one",
        (f"{WORKERS}[directory-in the living one]",),
    ),
    Mutant(
        "an answer confirms what was said after the question",
        "kcl_receiver/generator/clock.py",
        "self._used = [*kept, (boot, high)]",
        "self._used = [(boot, high)]",
        (f"{LATE}::test_of_a_pause_after_the_stream_was_asked_its_answer_tells_nothing",),
    ),
    Mutant(
        "the ledger keeps the clock as a record moved it",
        "kcl_receiver/generator/marks.py",
        "        since, offset = self._clock.unsure()\n",
        "        since, offset = seen.before, self._clock.offset\n",
        (f"{LATE}::test_a_restart_raises_what_came_before_a_record_moved_the_clock",),
    ),
    Mutant(
        "the first link of a shard is judged by the clock as it was",
        "kcl_receiver/proof/links.py",
        "at if at < 0 else self._times.delivered(session, at)",
        "at",
        (f"{LATE}::test_the_first_link_of_a_shard_is_raised_like_any_other",),
    ),
    Mutant(
        "the stream is asked when a mark is already too old",
        "kcl_receiver/generator/marks.py",
        "(interval_ms(seen.retention_hours) - MARGIN_MS) / 1000",
        "interval_ms(seen.retention_hours) / 1000",
        (f"{LATE}::test_a_shard_that_is_idle_when_reading_begins_stays_proven_however_slowly_the_stream_answers[3.0]",),
    ),
    Mutant(
        "a reader takes every late second start for a hole",
        "kcl_receiver/proof/chain.py",
        "if self._horizon.until(START) >= 0 and time",
        "if False and time",
        ("tests/unit/test_chain.py::test_a_shard_that_was_read_to_its_tip_meanwhile_begins_again_without_a_hole",),
    ),
    Mutant(
        "what a record showed while the stream was asked is forgotten",
        "kcl_receiver/generator/marks.py",
        "now if self._again else now",
        "now",
        (f"{MARKS}::test_a_record_that_shows_it_after_the_stream_was_asked_has_it_asked_again",),
    ),
]
