"""Bugs in what generators on one bucket know of each other."""

from __future__ import annotations

from mutants import Mutant

NEIGHBOURS = "kcl_receiver/store/ledger/neighbours.py"
TAKEOVER = "kcl_receiver/store/ledger/takeover.py"
GENERATOR_IO = "kcl_receiver/generator/generator_io.py"
TESTS = "tests/unit/test_neighbours.py"
BAD = "tests/unit/test_bad_ledgers_of_many.py"

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
        '        if lines == self._own_lines or self.look() is None:\n            return ""\n',
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
        "a writer is dead because the store takes no lines",
        NEIGHBOURS,
        "lines == self._own_lines or self.look()",
        "self.look()",
        (f"{TESTS}::test_nobody_is_dead_while_the_store_takes_no_lines",),
    ),
    Mutant(
        "a session has seen what the log says by now",
        NEIGHBOURS,
        "            state = self._seen  #",
        "            state = self._state  #",
        (f"{TESTS}::test_what_a_look_has_seen_is_what_it_has_read_though_the_log_has_gone_on_meanwhile",),
    ),
    Mutant(
        "a ledger that was read after it was asked what is needed is let go",
        "kcl_receiver/generator/generator_io.py",
        "needs.forgotten, read=read,",
        "needs.forgotten, read=None if read is None else self._neighbours.has_read(),",
        (f"{TESTS}::test_a_ledger_that_is_read_while_another_one_is_let_go_stays",),
    ),
    Mutant(
        "a ledger that cannot be read keeps all sessions from beginning",
        NEIGHBOURS,
        "                if not self.gives_up(writer):\n",
        "                if True:\n",
        (f"{TESTS}::test_a_ledger_that_alone_cannot_be_read_does_not_keep_sessions_from_beginning_for_ever",),
    ),
    Mutant(
        "a damaged ledger of one host keeps all others from starting",
        TAKEOVER,
        "            if out.alone:\n                raise fault",
        "            if True:\n                raise fault",
        (f"{TESTS}::test_a_start_goes_on_although_the_ledger_of_a_neighbour_is_damaged",),
    ),
    Mutant(
        "a start keeps in memory what neighbours have long had checkpointed",
        "kcl_receiver/generator/carried.py",
        "            recent.forget(shard, checkpoint)\n    return recent",
        "            pass\n    return recent",
        (f"{TESTS}::test_a_start_holds_no_range_that_is_behind_a_checkpoint_of_a_neighbour",),
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
        "replace(started, beside=tuple(sorted(self._neighbours.beside)))",
        "started",
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
    Mutant(
        "what others have forgotten counts as not stored",
        NEIGHBOURS,
        "        self._heard([state])\n",
        "",
        (f"{TESTS}::test_what_a_neighbour_has_forgotten_is_looked_for_in_the_ledgers",),
    ),
    Mutant(
        "one damaged ledger keeps its host from starting",
        TAKEOVER,
        "            if out.alone:\n                raise fault",
        "            if out.alone or not others:\n                raise fault",
        (f"{BAD}::test_a_host_starts_again_although_its_own_ledger_is_damaged_and_repair_mends_it_then",),
    ),
    Mutant(
        "of a damaged ledger only what is before the damage is held",
        TAKEOVER,
        "    for writer in out.ours:  # of",
        "    for writer in out.to_close:  # of",
        (f"{BAD}::test_a_host_starts_again_although_its_own_ledger_is_damaged_and_repair_mends_it_then",),
    ),
    Mutant(
        "a dead writer whose ledger is damaged never ends",
        TAKEOVER,
        "    if fault is not None or (entries",
        "    if fault is not None:\n        raise fault\n    if (entries",
        (f"{BAD}::test_a_dead_writer_whose_ledger_is_damaged_ends_all_the_same",),
    ),
    Mutant(
        "a writer that the log calls ended goes on",
        GENERATOR_IO,
        "if self._neighbours.is_over(self.writer):",
        "if False:",
        (f"{BAD}::test_a_writer_that_the_log_calls_ended_records_nothing_more",),
    ),
    Mutant(
        "a ledger of another one that cannot be read keeps a host from starting for ever",
        TAKEOVER,
        "if not (others and gives_up(writer)):",
        "if True:",
        (f"{BAD}::test_a_start_goes_on_without_the_ledger_of_a_neighbour_that_alone_cannot_be_read",),
    ),
    Mutant(
        "a start goes on without a ledger of its own",
        TAKEOVER,
        "if not (others and gives_up(writer)):",
        "if not gives_up(writer):",
        (f"{BAD}::test_a_start_waits_for_a_ledger_of_its_own_that_cannot_be_read",),
    ),
    Mutant(
        "what a start could not read counts as read",
        NEIGHBOURS,
        "        self._read = {*read} - {*self._growing}\n",
        "        self._read = {*state.kept, *state.living} - {*self._growing}\n",
        (f"{BAD}::test_a_start_goes_on_without_the_ledger_of_a_neighbour_that_alone_cannot_be_read",),
    ),
    Mutant(
        "a ledger is closed although the log cannot name the next one",
        GENERATOR_IO,
        "                self._log.newest()\n            except LedgerDamaged as error:",
        "                pass\n            except LedgerDamaged as error:",
        (f"{BAD}::test_a_generator_goes_on_in_its_ledger_while_the_log_is_damaged_and_changes_it_afterwards",),
    ),
    Mutant(
        "a damaged log ends who settles ledgers",
        GENERATOR_IO,
        "except (StoreUnavailable, LedgerDamaged) as error:",
        "except StoreUnavailable as error:",
        (f"{BAD}::test_a_log_that_cannot_be_read_keeps_nobody_from_recording",),
    ),
    Mutant(
        "repair leaves the log of a bucket damaged",
        "kcl_receiver/maintenance/repair.py",
        "if not self._alone and self._store.objects.locks:",
        "if not self._alone:",
        (f"{BAD}::test_a_start_refuses_a_damaged_log_and_repair_begins_it_anew_beside_those_at_work",),
    ),
    Mutant(
        "a writer that the log has lost as it began goes on",
        GENERATOR_IO,
        "if self._own is None or ledger.writer in self._log.newest().state.living:",
        "if True:",
        (f"{BAD}::test_a_writer_without_a_ledger_yet_begins_once_more_when_the_log_has_begun_anew",),
    ),
    Mutant(
        "repair leaves closed ledgers damaged while a generator is at work",
        "kcl_receiver/maintenance/repair.py",
        "if not self._starting and one.writer not in self._busy:",
        "if self._alone:",
        (
            "tests/unit/test_repair.py::test_a_damaged_ledger_that_was_closed_is_put_in_order_while_a_generator_is_at_work",
        ),
    ),
    Mutant(
        "a generator lets its neighbours wait before its first session",
        "kcl_receiver/generator/marks.py",
        "        if seen.awaited:\n            self._awaited = True",
        "        if False:\n            self._awaited = True",
        (
            "tests/unit/test_generator_marks.py::test_who_is_awaited_records_a_line_at_each_measurement_before_the_first_session",
        ),
    ),
    Mutant(
        "a generator lets its neighbours wait while the stream does not tell its clock",
        "kcl_receiver/generator/marks.py",
        "if marks is None and is_due else marks",
        "if False else marks",
        (
            "tests/unit/test_generator_marks.py::test_who_is_awaited_records_a_line_also_while_the_stream_does_not_tell_its_clock",
        ),
    ),
    Mutant(
        "each answer of the stream that fails becomes a line",
        "kcl_receiver/generator/marks.py",
        " and now >= self._recorded + _until_next(self._seen)",
        "",
        (
            "tests/unit/test_generator_marks.py::test_who_is_awaited_records_a_line_also_while_the_stream_does_not_tell_its_clock",
        ),
    ),
]
