"""Bugs in what reads and keeps blocks and ledgers."""

from __future__ import annotations

from mutants import Mutant

READS = "kcl_receiver/store/blocks/stream.py"
LOCAL = "kcl_receiver/store/local.py"
BASE = "kcl_receiver/store/store.py"
FAILING = "tests/unit/test_reads_that_fail.py"
FAULTS = "tests/unit/test_store_faults.py"
REPAIR = "tests/unit/test_repair.py"
BLOCKS = "tests/unit/test_blocks.py"
REPAIR_FAULTS = "tests/unit/test_repair_faults.py"
TAKEOVER = "kcl_receiver/store/ledger/takeover.py"
LOG = "kcl_receiver/store/ledger/store_log.py"
HANDOVER = "tests/unit/test_handover.py"
TEST_LOG = "tests/unit/test_store_log.py"
BOMB = "tests/unit/test_row_groups.py::test_a_block_that_stands_for_more_than_was_stored_is_damaged"

MUTANTS = [
    Mutant(
        "a block's id may be anything",
        "kcl_receiver/store/ledger/entries.py",
        "    check_block_id(text)  #",
        "    #",
        ("tests/unit/test_ledger.py::test_a_line_that_names_what_is_no_block_is_damage",),
    ),
    Mutant(
        "a line behind the last one is read",
        "kcl_receiver/store/ledger/entries.py",
        "            if ended:\n",
        "            if False:\n",
        ("tests/unit/test_ledger.py::test_a_line_behind_the_last_one_is_damage",),
    ),
    Mutant(
        "a start does not miss the end of a ledger",
        TAKEOVER,
        "unclosed(store, writer, lines, is_living=is_living)",
        "unclosed(store, writer, lines, is_living=True)",
        (f"{HANDOVER}::test_a_kept_ledger_that_is_gone_or_shorter_is_found_at_the_next_start",),
    ),
    Mutant(
        "verify does not miss the end of a ledger",
        "kcl_receiver/store/ledger/walk.py",
        "is_living=writer in self._state.living)",
        "is_living=True)",
        ("tests/unit/test_verify.py::test_a_ledger_of_which_a_later_writer_saw_more_is_no_proof",),
    ),
    Mutant(
        "a start adopts what repair has taken in",
        TAKEOVER,
        "                known.add(entry.block)\n",
        "                pass\n",
        (f"{HANDOVER}::test_a_block_that_repair_has_taken_in_is_held_and_not_adopted",),
    ),
    Mutant(
        "where the log is lost, blocks that are in no ledger are not held",
        TAKEOVER,
        "    if everything:  # in no ledger",
        "    if False:  # in no ledger",
        (f"{HANDOVER}::test_where_the_log_is_gone_blocks_that_no_ledger_names_are_held_and_left_to_repair",),
    ),
    Mutant(
        "where the log is lost, the store seems empty",
        TAKEOVER,
        "newest.state if newest.number else rebuilt(store)",
        "newest.state",
        (f"{HANDOVER}::test_where_the_log_is_gone_everything_is_read",),
    ),
    Mutant(
        "the number of an entry of the log is not held against its name",
        LOG,
        'decode_line(line.removesuffix(b"\\n"), number)',
        'decode_line(line.removesuffix(b"\\n"), int(line[10 : line.index(b",")]))',
        (f"{TEST_LOG}::test_an_entry_that_is_not_as_it_was_written_is_damage_and_the_log_can_begin_anew",),
    ),
    Mutant(
        "of two that change the log at once, the one that was refused does not try again",
        LOG,
        "                self._require(newest.number + 1)\n",
        "                return state\n",
        (f"{TEST_LOG}::test_one_that_is_overtaken_between_reading_and_writing_takes_the_next_number",),
    ),
    Mutant(
        "an entry of the log whose answer was lost is written again",
        LOG,
        "            if state == newest.state:\n",
        "            if state == newest.state:\n"
        "                line, _ = encode_lines([state], newest.number + 1, newest.hash)\n"
        "                self._store.create_log_entry(newest.number + 1, line)\n",
        (f"{TEST_LOG}::test_what_holds_already_is_not_said_again",),
    ),
    Mutant(
        "who has read the log does not notice that it began anew",
        LOG,
        "        if following is None and found.number and not self._is_there(found):\n",
        "        if False:\n",
        (f"{TEST_LOG}::test_a_log_that_began_anew_and_has_as_many_entries_is_another_one",),
    ),
    Mutant(
        "only an OSError of a read says that the store fails",
        READS,
        "        except Exception as error:  # whatever",
        "        except OSError as error:  # whatever",
        (f"{FAILING}::test_blocks_that_cannot_be_read_are_not_damaged",),
    ),
    Mutant(
        "what Arrow makes of a read that failed is damage",
        READS,
        "        if isinstance(file, BlockStream) and file.failure is not None:\n",
        "        if False:\n",
        (f"{FAILING}::test_what_arrow_makes_of_a_read_that_failed_is_no_damage",),
    ),
    Mutant(
        "a block that was not found once is missing",
        READS,
        "                if not self._is_there():\n",
        "                if True:\n",
        (f"{FAILING}::test_blocks_that_cannot_be_read_are_not_damaged",),
    ),
    Mutant(
        "a short read is the end of a block",
        READS,
        "        while wanted:\n",
        "        if wanted:\n",
        (f"{FAILING}::test_a_read_that_gives_a_part_is_gone_on_with",),
    ),
    Mutant(
        "a short read of a ledger is a shorter ledger",
        LOCAL,
        "        if before is not None and len(content) < before",
        "        if before is None and len(content) < 0",
        (f"{FAILING}::test_ledgers_that_cannot_be_read_are_not_damaged",),
    ),
    Mutant(
        "the ends of a range bound its arrivals",
        "kcl_receiver/store/blocks/encode.py",
        "one.range.with_arrivals(arrivals_of(one.columns))",
        "one.range",
        ("tests/unit/test_expire.py::test_a_block_whose_ends_alone_are_old_stays",),
    ),
    Mutant(
        "arrival times are kept in milliseconds",
        "kcl_receiver/store/blocks/encode.py",
        '        coerce_timestamps="us",',
        "       ",
        (
            "tests/unit/test_parquet.py::test_the_columns_have_the_types_that_the_format_page_promises",
            "tests/unit/test_parquet.py::test_the_statistics_of_arrival_times_are_in_the_unit_of_the_column",
        ),
    ),
    Mutant(
        "an arrival time that is no whole millisecond passes for the one that was stored",
        "kcl_receiver/store/blocks/arrays.py",
        "        millis = pc.if_else(pc.equal(pc.multiply(millis, 1000), micros), millis, micros)\n",
        "",
        (
            "tests/unit/test_parquet.py::"
            "test_an_arrival_time_that_is_no_whole_millisecond_is_found_and_its_neighbours_stay_good",
        ),
    ),
    Mutant(
        "a row group is decoded whatever it claims to hold",
        "kcl_receiver/store/blocks/file.py",
        "            if claimed > MAX_ROW_GROUP_BYTES:\n",
        "            if False:\n",
        (BOMB,),
    ),
    Mutant(
        "a range is read whatever its rows weigh",
        "kcl_receiver/store/blocks/file.py",
        "            if sum(piece.nbytes for piece in pieces) > most:\n",
        "            if False:\n",
        (BOMB,),
    ),
    Mutant(
        "rows of another shard are good ones if their checksum is",
        "kcl_receiver/store/blocks/checksums.py",
        "        if self._shard is not None and not _are(",
        "        if self._shard is not None and False and not _are(",
        (f"{BLOCKS}::test_a_reader_is_not_given_the_rows_of_one_shard_as_those_of_another",),
    ),
    Mutant(
        "a row group that cannot be decoded is decoded again for each of its ranges",
        "kcl_receiver/store/blocks/file.py",
        "                self._group = group, columns, error\n",
        "                raise error\n",
        (f"{BLOCKS}::test_of_a_broken_row_group_nothing_is_tried_twice",),
    ),
    Mutant(
        "all of a small block is read for its footer",
        "kcl_receiver/store/blocks/file.py",
        "            self._parquet = pq.ParquetFile(self._file)\n",
        "            self._opened_for_rows()\n",
        (f"{BLOCKS}::test_the_footer_is_read_without_the_rows",),
    ),
    Mutant(
        "what killed generators left in tmp stays",
        BASE,
        "            self._clear_temporaries()\n",
        "            pass\n",
        (f"{REPAIR_FAULTS}::test_a_generator_that_begins_removes_what_killed_ones_could_not_finish",),
    ),
    Mutant(
        "what others are writing is taken for what killed generators left",
        BASE,
        "                if name[: ids.WRITER_LENGTH] in generators:\n",
        "                if generators:\n",
        (f"{REPAIR_FAULTS}::test_a_generator_that_begins_removes_what_killed_ones_could_not_finish",),
    ),
    Mutant(
        "what repair keeps of a damaged ledger is a leftover",
        BASE,
        "    return kept or layout.ledger_at(key)",
        "    return layout.ledger_at(key)",
        (f"{REPAIR}::test_a_damaged_ledger_is_kept_aside_and_what_the_blocks_say_is_recorded_anew",),
    ),
    Mutant(
        "a second fsync of a directory is believed after the first has failed",
        LOCAL,
        "            if self._failed.get(path.parent):\n",
        "            if False:\n",
        (f"{FAULTS}::test_a_name_whose_fsync_failed_is_made_anew_before_the_next_fsync_counts",),
    ),
    Mutant(
        "an fsync is believed although another thread's of the same directory failed",
        LOCAL,
        "        if self._failed.get(path.parent, 0) != failures:\n",
        "        if False:\n",
        (f"{FAULTS}::test_a_block_is_not_durable_if_another_threads_fsync_of_its_directory_failed_meanwhile",),
    ),
    Mutant(
        "a directory that was not found once is empty",
        LOCAL,
        "            if self._files.is_dir(path):  # or",
        "            if False:  # or",
        (f"{FAILING}::test_directories_that_are_not_found_and_are_there_are_not_empty",),
    ),
    Mutant(
        "a request of a dead process displaces what is there",
        "kcl_receiver/store/bucket.py",
        "self._bucket.put(_part(key, number), lines, if_absent=True)",
        "self._bucket.put(_part(key, number), lines, if_absent=False)",
        (
            "tests/unit/test_store_contract.py::test_an_append_of_a_dead_process_that_arrives_late_does_not_displace_what_is_there",
        ),
    ),
    Mutant(
        "what a place raises is let through",
        "kcl_receiver/store/objects.py",
        "if isinstance(error, Exception) and not isinstance(error, (ReceiverError, self._missing)):",
        "if isinstance(error, OSError) and not isinstance(error, (TimeoutError, self._missing)):",
        ("tests/unit/test_store_contract.py::test_whatever_a_place_raises_it_is_unavailable",),
    ),
    Mutant(
        "a ledger in a bucket is written anew when it is relied on",
        "kcl_receiver/store/objects.py",
        "            self.objects.settle_log(key, content)\n",
        "            self.objects.replace(key, content)\n",
        (
            "tests/unit/test_late_requests.py::test_what_is_relied_on_is_not_written_anew_where_all_that_is_seen_is_durable",
        ),
    ),
    Mutant(
        "a listing of one store keeps the readers of all others waiting",
        "kcl_receiver/store/ledger/reading.py",
        "    @property\n    def writers(",
        "    @__import__('functools').cached_property\n    def writers(",
        ("tests/unit/test_ledger.py::test_a_listing_that_takes_long_keeps_no_other_store_waiting",),
    ),
]
