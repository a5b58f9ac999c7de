"""Bugs in what generators on one bucket know of each other."""

from __future__ import annotations

from mutants import Mutant

NEIGHBOURS = "kcl_receiver/store/ledger/neighbours.py"
TAKEOVER = "kcl_receiver/store/ledger/takeover.py"
TESTS = "tests/unit/test_neighbours.py"

MUTANTS = [
    Mutant(
        "a writer whose ledger was closed goes on",
        "kcl_receiver/store/ledger/writer.py",
        "        except LedgerDamaged:\n            found",
        "        except LedgerDamaged:\n            return\n            found",
        (f"{TESTS}::test_one_that_was_taken_for_dead_reports_nothing_and_ends",),
    ),
    Mutant(
        "one quiet measurement is a death",
        NEIGHBOURS,
        "times >= LOOKS]",
        "times >= 1]",
        (
            f"{TESTS}::test_a_writer_whose_ledger_has_not_grown_for_three_measurements_is_closed_with_what_it_could_not_record",
        ),
    ),
    Mutant(
        "a look that failed counts",
        NEIGHBOURS,
        "        if self.look() is None:\n            return []\n",
        "        try:\n            self.look()\n        except Exception:\n            pass\n",
        (f"{TESTS}::test_looks_that_fail_count_for_nothing",),
    ),
    Mutant(
        "a clock that is measured again and again makes neighbours dead",
        NEIGHBOURS,
        "now - self._looked < APART_MS",
        "False",
        (f"{TESTS}::test_measurements_that_follow_at_once_count_as_one",),
    ),
    Mutant(
        "what the dead could not record stays unrecorded",
        TAKEOVER,
        "[*found, Closed(time, by)]",
        "[Closed(time, by)]",
        (
            f"{TESTS}::test_a_writer_whose_ledger_has_not_grown_for_three_measurements_is_closed_with_what_it_could_not_record",
        ),
    ),
    Mutant(
        "each session looks for itself",
        NEIGHBOURS,
        "            if self._done < asked_for:\n",
        "            if True:\n",
        (f"{TESTS}::test_looks_that_are_asked_for_during_one_share_the_next",),
    ),
    Mutant(
        "a look reads each ledger from its beginning",
        NEIGHBOURS,
        "        self._growing[writer] = after\n",
        "        self._growing[writer] = after if not entries else tail\n",
        (f"{TESTS}::test_a_look_asks_for_no_more_than_what_is_new",),
    ),
    Mutant(
        "a start closes the ledgers of all hosts",
        TAKEOVER,
        "if out.alone or writer in (own or ())",
        "if True",
        (f"{TESTS}::test_a_start_closes_the_ledgers_of_its_host_alone",),
    ),
    Mutant(
        "a first line does not name who was writing beside it",
        "kcl_receiver/generator/generator_io.py",
        "replace(self._next, beside=tuple(sorted(self._neighbours.beside)))",
        "self._next",
        (f"{TESTS}::test_a_first_line_names_who_was_writing_beside_it",),
    ),
    Mutant(
        "what a neighbour says of checkpoints is not heard",
        "kcl_receiver/generator/carried.py",
        "                self.checkpointed(entry.checkpoints)\n",
        "",
        (f"{TESTS}::test_what_a_neighbour_says_of_checkpoints_lets_ranges_go",),
    ),
    Mutant(
        "a start raises the times of sessions on other hosts",
        TAKEOVER,
        "        if self.alone:\n            for some",
        "        if True:\n            for some",
        (f"{TESTS}::test_the_times_of_a_neighbours_sessions_are_its_own_affair",),
    ),
    Mutant(
        "a generator without news lets its neighbours wait",
        "kcl_receiver/generator/marks.py",
        "if record is None and marks is None and seen.awaited:",
        "if False:",
        (
            "tests/unit/test_generator_marks.py::test_who_is_awaited_records_a_line_at_each_measurement_also_without_news_and_without_sessions",
        ),
    ),
]
