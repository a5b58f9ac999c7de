"""Bugs in what takes the words of people: bounds, names, and what is said of a store in which nothing is."""

from __future__ import annotations

from mutants import Mutant

BOUNDS = "kcl_receiver/reading/bounds.py"
DOOR = "tests/unit/test_front_door.py::"

MUTANTS = [
    Mutant(
        "seconds since the epoch are taken for milliseconds",
        BOUNDS,
        "    if not _SURE_FROM <= int(number) < _SURE_TO:\n",
        "    if False:\n",
        (DOOR + "test_a_bound_whose_unit_can_be_mistaken_or_that_is_none_is_refused",),
    ),
    Mutant(
        "an unknown shard is read as one of which nothing is stored",
        "kcl_receiver/reading/api.py",
        "        check_shards(place, {*(asked or ()), *_shards(begin), *_shards(last)}, chosen_stream)\n",
        "        pass\n",
        (
            DOOR + "test_an_unknown_shard_is_refused_with_those_there_are",
            DOOR + "test_the_command_refuses_what_would_silently_give_nothing",
        ),
    ),
    Mutant(
        "batches may be asked for that hold nothing",
        "kcl_receiver/reading/api.py",
        "        if most < 1:\n",
        "        if False:\n",
        ("tests/unit/test_read.py::test_arguments_that_make_no_sense_are_refused",),
    ),
    Mutant(
        "an import of the package loads what it exports",
        "kcl_receiver/__init__.py",
        "    def __dir__() -> list[str]:\n",
        "    from kcl_receiver.reading.api import read\n\n    def __dir__() -> list[str]:\n",
        ("tests/unit/test_public.py::test_the_import_loads_nothing_until_a_name_is_used",),
    ),
    Mutant(
        "an age that reaches back before 1970 is a time",
        "kcl_receiver/times.py",
        '    if millis < 0:\n        raise ValueError(f"{_shown(text)} lies',
        '    if False:\n        raise ValueError(f"{_shown(text)} lies',
        (DOOR + "test_what_is_no_time_is_named_in_short",),
    ),
    Mutant(
        "a carriage return stands bare in CSV",
        "kcl_receiver/reading/formats.py",
        'isinstance(cell, str) and "\\r" in cell',
        "False",
        (DOOR + "test_a_carriage_return_in_csv_breaks_no_row",),
    ),
    Mutant(
        "a value of an option floods the terminal",
        "kcl_receiver/cli/output.py",
        "    return text if len(text) <= LONGEST else",
        "    return text if text else",
        ("tests/integration/test_hostile_options.py::test_no_value_ends_in_a_traceback[read---stream]",),
    ),
    Mutant(
        "an empty store is proven",
        "kcl_receiver/audit/report.py",
        "        return self._whole and any(one.state != NOTHING for one in self.shards)\n",
        "        return self._whole\n",
        ("tests/unit/test_verify.py::test_where_there_is_no_store_nothing_is_proven",),
    ),
    Mutant(
        "a lease that nobody has and none began is as it should be",
        "kcl_receiver/audit/leases.py",
        "    if lease.owner is not None:\n        return _report(lease, NOT_BEGUN, None)\n",
        "    if True:\n        return _report(lease, NOT_BEGUN, None)\n",
        ("tests/integration/test_verify_others.py::test_shards_that_nobody_reads_are_named",),
    ),
    Mutant(
        "an aggregate that KCL drops within a range is not counted",
        "kcl_receiver/audit/compare.py",
        "                self._open[0].dropped.append(left_out)\n",
        "                pass\n",
        (
            "tests/integration/test_verify_others.py::"
            "test_aggregates_that_kcl_drops_or_breaks_off_are_named_and_the_verdict_says_that_they_are_not_stored",
        ),
    ),
    Mutant(
        "records after a malformed one of an aggregate are not counted",
        "kcl_receiver/kinesis/deaggregate.py",
        "    return UserRecords(keys, data, left_out=len(aggregated.records) - len(keys))\n",
        "    return UserRecords(keys, data)\n",
        (
            "tests/unit/test_recovery_compare.py::"
            "test_an_aggregate_that_kcl_breaks_off_is_counted_with_the_records_that_it_does_not_deliver",
        ),
    ),
]
